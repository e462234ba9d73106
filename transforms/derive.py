"""Derivation: what the lake may know of an identifiable item, computed before the item leaves the frame.

Age instead of a date of birth, the verdict on an NHS number instead of the number, the area instead of the
postcode, a keyed token that ties mother and baby instead of their dates of birth.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Final

import polars as pl

from schemas.contract import Contract, Derivation
from schemas.errors import ContractDefinitionError
from transforms.checks import POSTCODE_AREA, nhs_number_is_valid, sense
from transforms.tokens import MOTHER_BABY, person_tokens
from transforms.typing_fields import VALUE_TYPES, FieldSense, TypedChunk, text_name, value_free, value_name

OLDEST_YEARS: Final = 120
ISSUER: Final = "ISSUER"
"""As an argument: the organisation that issued the record's local numbers (``Contract.issuer``)."""

Function = Callable[[Sequence[FieldSense]], pl.Expr]
YES: Final = "Y"
NO: Final = "N"


def age_years(birth: pl.Expr, event: pl.Expr) -> pl.Expr:
    """Whole years from ``birth`` to ``event`` (Dates), 0 to 120, else null. Born on 29 February, a person
    turns a year older on 1 March of other years."""
    # As numbers YYYYMMDD the dates differ by the years times 10,000 and a rest below that.
    years = ((_as_number(event) - _as_number(birth)) // 10_000).cast(pl.Int64)
    return pl.when(years.is_between(0, OLDEST_YEARS)).then(years)


def _as_number(day: pl.Expr) -> pl.Expr:
    return day.dt.year() * 10_000 + day.dt.month().cast(pl.Int32) * 100 + day.dt.day().cast(pl.Int32)


def _age_years(fields: Sequence[FieldSense]) -> pl.Expr:
    birth, event = fields
    if birth.field.type != "date" or event.field.type != "date":
        raise ContractDefinitionError("age_years needs two date fields")
    return age_years(birth.value, event.value)


def _nhs_number_verdict(fields: Sequence[FieldSense]) -> pl.Expr:
    (number,) = fields
    return (
        pl.when(number.is_null)
        .then(pl.lit("absent"))
        .when(nhs_number_is_valid(number.text))
        .then(pl.lit("valid"))
        .otherwise(pl.lit("invalid"))
    )


def _postcode_area(fields: Sequence[FieldSense]) -> pl.Expr:
    (postcode,) = fields
    return postcode.text.str.to_uppercase().str.extract(POSTCODE_AREA)


def _mother_baby_parts(fields: Sequence[FieldSense]) -> pl.Expr:
    """The text that is hashed: issuer, mother's and baby's date of birth in one writing; null if one is
    missing."""
    mother, baby = fields[-2], fields[-1]
    if mother.field.type != "date" or baby.field.type != "date":
        raise ContractDefinitionError("mother_baby_token needs two date fields")
    issuer = fields[0].value if len(fields) == 3 else pl.col(text_name(ISSUER))
    return pl.concat_str(
        [issuer, mother.value.dt.to_string("%Y-%m-%d"), baby.value.dt.to_string("%Y-%m-%d")],
        separator="|",
        ignore_nulls=False,
    )


def _death_date_known_to_day(fields: Sequence[FieldSense]) -> pl.Expr:
    (death,) = fields
    if death.field.type != "date":
        raise ContractDefinitionError("death_date_known_to_day needs a date field")
    return pl.when(death.value.is_not_null()).then(known_to_day(death))


def known_to_day(death: FieldSense) -> pl.Expr:
    """False where a date was delivered as year and month only (``YYYYMM``, ``YYYY-MM``): fewer than 8
    characters."""
    return death.text.str.len_chars() >= 8


DERIVATION_FUNCTIONS: Final[dict[str, tuple[int, Function]]] = {
    "age_years": (2, _age_years),
    "nhs_number_verdict": (1, _nhs_number_verdict),
    "postcode_area": (1, _postcode_area),
    "mother_baby_token": (3, _mother_baby_parts),
    "death_date_known_to_day": (1, _death_date_known_to_day),
}
KEYED: Final = frozenset({"mother_baby_token"})


@dataclass(frozen=True)
class DerivedColumn:
    """One derivation compiled for a delivery; ``expression`` is None where its fields were not delivered."""

    derivation: Derivation
    fields: tuple[str, ...]
    needs_issuer: bool
    expression: pl.Expr | None = dataclass_field(repr=False)

    @property
    def name(self) -> str:
        return self.derivation.name

    @property
    def type(self) -> pl.DataType:
        return VALUE_TYPES[self.derivation.type]


def compile_derivations(contract: Contract, delivered: Collection[str]) -> tuple[DerivedColumn, ...]:
    """The derivations of ``contract`` in its order. Raises :class:`ContractDefinitionError` for a wrong
    one."""
    by_name = {field.name: field for field in contract.fields}
    found = []
    for derivation in contract.derivations:
        if derivation.function not in DERIVATION_FUNCTIONS:
            raise ContractDefinitionError(f"there is no derivation called {derivation.function}")
        number, function = DERIVATION_FUNCTIONS[derivation.function]
        if len(derivation.args) != number:
            raise ContractDefinitionError(
                f"{derivation.name}: {derivation.function} needs {number} arguments"
            )
        needs_issuer = ISSUER in derivation.args and ISSUER not in by_name
        names = tuple(name for name in derivation.args if not (needs_issuer and name == ISSUER))
        for name in names:
            contract.field(name)
        expression: pl.Expr | None = None
        if all(name in delivered for name in names):
            expression = function([sense(by_name[name]) for name in names])
            expression = _as_declared(expression, derivation).alias(derivation.name)
        found.append(
            DerivedColumn(derivation, names if expression is not None else (), needs_issuer, expression)
        )
    return tuple(found)


def _as_declared(expression: pl.Expr, derivation: Derivation) -> pl.Expr:
    """``expression`` in the declared type; a yes-or-no answer is Y/N as text and 1/0 as a number."""
    declared = VALUE_TYPES[derivation.type]
    if derivation.function == "death_date_known_to_day" and declared == pl.String():
        return pl.when(expression).then(pl.lit(YES)).when(~expression).then(pl.lit(NO))
    return expression.cast(declared, strict=False)


@value_free("deriving columns")
def derive(
    typed: TypedChunk, columns: Sequence[DerivedColumn], token_key: bytes, issuer: pl.Series | None = None
) -> pl.DataFrame:
    """The derived columns of a chunk, in order; null columns where the fields were not delivered.

    ``issuer``: String per row, needed where a derivation names ``ISSUER``. Raises :class:`KeyUnavailable`.
    """
    frame = typed.frame
    if issuer is not None:
        frame = frame.with_columns(issuer.alias(text_name(ISSUER)))
    delivered = [
        column.expression
        for column in columns
        if column.expression is not None and column.derivation.function not in KEYED
    ]
    found = frame.select(delivered) if delivered else pl.DataFrame()
    series = []
    for column in columns:
        if column.expression is None:
            values = pl.Series(column.name, [None], dtype=column.type).new_from_index(0, typed.rows)
        elif column.derivation.function in KEYED:
            values = _keyed(frame, column, column.expression, token_key)
        else:
            values = found.get_column(column.name)
        series.append(values)
    return pl.DataFrame(series)


def _keyed(frame: pl.DataFrame, column: DerivedColumn, text: pl.Expr, token_key: bytes) -> pl.Series:
    """Tokens of ``text``, written out only for the rows that have all it is made of: one in thirty is a birth."""
    parts = frame.select(text.meta.root_names())
    values = [value_name(name) for name in column.fields if value_name(name) in parts.columns]
    there = parts.select(pl.all_horizontal(pl.col(value).is_not_null() for value in values)).to_series()
    texts = parts.filter(there).select(text).to_series()
    place = pl.select(pl.when(there).then(there.cum_sum() - 1)).to_series()
    return person_tokens(texts, token_key, MOTHER_BABY).gather(place).alias(column.name)
