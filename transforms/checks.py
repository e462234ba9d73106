"""Check: the functions that a contract's rules name, each giving one Boolean expression over a typed chunk.

True: the row passes. False: it fails. Null: the check does not apply to the row (nothing was submitted, say),
and the row is not counted. The expressions read the columns of :class:`transforms.typing_fields.TypedChunk`;
what a check means to a reader stands in ``schemas/check_names.py``, and a test holds the two lists together.

Shapes follow the ICD-10 and OPCS-4 tabular lists as HES writes them (without the point, ``X`` filling the
fourth place, a fifth character, dagger and asterisk suffix), postcodes the NHS Postcode Directory (``ZZ99``
are its pseudo-postcodes), NHS numbers the Data Dictionary's modulus 11 rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import Final

import numpy as np
import polars as pl

from schemas.contract import ContractField
from schemas.errors import ContractDefinitionError
from transforms.identifiers import RUN_OF_TEN_DIGITS, looks_like_nhs_number
from transforms.typing_fields import FieldSense, unparsed_name

ICD10_SHAPE: Final = r"^[A-Z][0-9]{2}(?:\.?[0-9X-][0-9X-]?[AD]?)?$"
OPCS4_SHAPE: Final = r"^[A-HJ-Z][0-9]{2}(?:\.?[0-9-])?$"
POSTCODE_SHAPE: Final = r"^(?:GIR *0AA|[A-Z]{1,2}[0-9][0-9A-Z]? *[0-9][A-Z]{2})$"
POSTCODE_AREA: Final = r"^([A-Z]{1,2})[0-9]"
TEN_DIGITS: Final = r"^[0-9]{10}$"

UNFINISHED_SPELL: Final = "8"
DISCHARGE_METHODS: Final = ("1", "2", "3", "4", "5", "6", "7")
"""HES DISMETH with a finished spell; 8 is "not applicable: spell not finished", 9 not known."""

NOT_ISSUED: Final = 2333455667
"""An NHS number with a correct check digit that the HES specification lists as invalid."""


@dataclass(frozen=True)
class CheckContext:
    """What a check may know besides its fields.

    ``codes``: name of a code list to its codes. ``period``: first and last day of the financial year that the
    delivery covers, ``None`` for a snapshot.
    """

    codes: Mapping[str, Collection[str]]
    period: tuple[date, date] | None


Check = Callable[[Sequence[FieldSense], Sequence[str], CheckContext], pl.Expr]


def _where(applies: pl.Expr, passes: pl.Expr) -> pl.Expr:
    """``passes`` on the rows where ``applies``, null elsewhere."""
    return pl.when(applies).then(passes)


def _number(literal: str, what: str) -> float:
    try:
        found = float(literal)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ContractDefinitionError(f"the check {what} needs a number as its literal")
    return found


def _not_null(fields: Sequence[FieldSense], _literals: Sequence[str], _context: CheckContext) -> pl.Expr:
    return ~fields[0].is_null


def _max_length(fields: Sequence[FieldSense], literals: Sequence[str], _context: CheckContext) -> pl.Expr:
    return fields[0].text.str.len_chars() <= int(_number(literals[0], "max_length"))


def _typed(fields: Sequence[FieldSense], _literals: Sequence[str], _context: CheckContext) -> pl.Expr:
    """Reads the column ``unparsed``, which a chunk has only if something was unparsed: see ``measure``."""
    unparsed = pl.col(unparsed_name(fields[0].name))
    return _where(unparsed | fields[0].is_valid, ~unparsed)


def _one_of_codes(fields: Sequence[FieldSense], _literals: Sequence[str], context: CheckContext) -> pl.Expr:
    field = fields[0].field
    if field.codes is None or field.codes not in context.codes:
        raise ContractDefinitionError(f"{field.name}: one_of_codes needs a code list that exists")
    sentinels = (*field.null_values, *field.invalid_values, *field.not_stated_values)
    return fields[0].text.is_in(sorted({*context.codes[field.codes], *sentinels}))


def _null_rate(fields: Sequence[FieldSense], _literals: Sequence[str], _context: CheckContext) -> pl.Expr:
    return ~fields[0].is_null


def _invalid_rate(fields: Sequence[FieldSense], _literals: Sequence[str], _context: CheckContext) -> pl.Expr:
    return _where(~fields[0].is_null, ~fields[0].is_invalid)


def _not_stated_rate(
    fields: Sequence[FieldSense], _literals: Sequence[str], _context: CheckContext
) -> pl.Expr:
    return _where(~fields[0].is_null, ~fields[0].is_not_stated)


def _not_before(fields: Sequence[FieldSense], _literals: Sequence[str], _context: CheckContext) -> pl.Expr:
    if fields[0].field.type != fields[1].field.type:
        raise ContractDefinitionError("not_before compares two fields of the same type")
    return fields[0].value >= fields[1].value


def _within_period(fields: Sequence[FieldSense], _literals: Sequence[str], context: CheckContext) -> pl.Expr:
    if fields[0].field.type != "date" or context.period is None:
        raise ContractDefinitionError(
            f"{fields[0].name}: within_period needs a date field and a dataset delivered by financial year"
        )
    first, last = context.period
    return fields[0].value.is_between(pl.lit(first), pl.lit(last))


def _shape(pattern: str) -> Check:
    def check(fields: Sequence[FieldSense], _literals: Sequence[str], _context: CheckContext) -> pl.Expr:
        return _where(fields[0].is_valid, fields[0].text.str.contains(pattern))

    return check


def nhs_number_is_valid(text: pl.Expr) -> pl.Expr:
    """Modulus 11 on ten digits; True or False where there is a text, null where there is none.

    Weights 10 to 2 over the first nine digits, the tenth completes the sum to a multiple of 11. Refused
    besides: ten equal digits, a digit followed by eight noughts and the same digit, and :data:`NOT_ISSUED`.
    """
    number = pl.when(text.str.contains(TEN_DIGITS)).then(text).cast(pl.Int64, strict=False)
    fine = number.fill_null(0).map_batches(_modulus_11, return_dtype=pl.Boolean())  # nought is refused
    return pl.when(text.is_not_null()).then(fine)


def _modulus_11(numbers: pl.Series) -> pl.Series:
    """The check of :func:`nhs_number_is_valid` on Int64 without nulls. In halves of five digits, which numpy
    divides ten times as fast as the same expression divides 64-bit numbers."""
    number = numbers.to_numpy()
    high, low = (half.astype(np.uint32) for half in np.divmod(number, 100_000))
    first = (high // 10_000).astype(np.int64)
    total = np.zeros(len(number), np.uint32)
    for weight in range(1, 11):
        half = low if weight <= 5 else high
        total += np.uint32(weight) * (half % np.uint32(10))
        half //= np.uint32(10)
    fine = (
        (total % 11 == 0)
        & (number != first * 1_111_111_111)
        & (number != first * 1_000_000_001)
        & (number != NOT_ISSUED)
    )
    return pl.Series(numbers.name, fine)


def _nhs_number(fields: Sequence[FieldSense], _literals: Sequence[str], _context: CheckContext) -> pl.Expr:
    return _where(fields[0].is_valid, nhs_number_is_valid(fields[0].text))


def _any_of_not_null(
    fields: Sequence[FieldSense], _literals: Sequence[str], _context: CheckContext
) -> pl.Expr:
    return reduce(lambda a, b: a | b, [~field.is_null for field in fields])


def _between(fields: Sequence[FieldSense], literals: Sequence[str], _context: CheckContext) -> pl.Expr:
    kind = fields[0].field.type
    low: date | float
    high: date | float
    if kind == "date":
        try:
            low, high = date.fromisoformat(literals[0]), date.fromisoformat(literals[1])
        except ValueError:
            raise ContractDefinitionError("between on a date needs two dates as YYYY-MM-DD") from None
    elif kind in ("integer", "decimal"):
        low, high = _number(literals[0], "between"), _number(literals[1], "between")
    else:
        raise ContractDefinitionError(f"{fields[0].name}: between needs a date or a number, not a {kind}")
    return fields[0].value.is_between(pl.lit(low), pl.lit(high))


def _consistent_discharge(
    fields: Sequence[FieldSense], _literals: Sequence[str], _context: CheckContext
) -> pl.Expr:
    method, discharged = fields[0].text, fields[1].value.is_not_null()
    return (
        pl.when(method == UNFINISHED_SPELL)
        .then(~discharged)
        .when(method.is_in(DISCHARGE_METHODS))
        .then(discharged)
    )


NHS_NUMBER_LENGTH: Final = 10
"""A shorter text holds no NHS number; ``measure`` leaves such columns out of the look for one."""


def texts_without_nhs_number(texts: Sequence[pl.Expr]) -> pl.Expr:
    """Boolean, never null: none of ``texts`` (String) holds an NHS number, in whatever Unicode form of its digits."""
    return pl.all_horizontal(
        [~text.map_batches(_holds_nhs_number, return_dtype=pl.Boolean) for text in texts]
    )


def _holds_nhs_number(texts: pl.Series) -> pl.Series:
    """:func:`~transforms.identifiers.looks_like_nhs_number` of each text, never null.

    Few texts hold a run of ten digits, and most are plain ASCII, which has one Unicode form only: each costly step
    is for the rows that need it.
    """
    frame = texts.to_frame("text")
    wide = (pl.col("text").str.len_bytes() != pl.col("text").str.len_chars()).fill_null(False)
    if frame.select(wide.any()).item():
        frame = frame.with_columns(
            pl.when(wide).then(pl.col("text").str.normalize("NFKC")).otherwise("text").alias("text")
        )
    likely = frame.select(pl.col("text").str.contains(RUN_OF_TEN_DIGITS).fill_null(False)).to_series()
    if not likely.any():
        return likely
    found = frame.filter(likely).select(looks_like_nhs_number(pl.col("text"))).to_series()
    return likely.scatter(likely.arg_true(), found)


def _no_nhs_number(fields: Sequence[FieldSense], _literals: Sequence[str], _context: CheckContext) -> pl.Expr:
    return texts_without_nhs_number([field.text for field in fields])


def record_hash(fields: Sequence[FieldSense]) -> pl.Expr:
    """UInt64 hash of the fields' trimmed text, null when one of them is null. The same text gives the same
    hash in every chunk of one process; it is not a cryptographic hash and stays in memory."""
    if len(fields) == 1:
        return fields[0].text.hash(seed=0)
    joined = pl.concat_str([field.text for field in fields], separator="\x1f", ignore_nulls=False)
    return joined.hash(seed=0)


CHECK_FUNCTIONS: Final[dict[str, Check]] = {
    "not_null": _not_null,
    "max_length": _max_length,
    "typed": _typed,
    "one_of_codes": _one_of_codes,
    "null_rate": _null_rate,
    "invalid_rate": _invalid_rate,
    "not_stated_rate": _not_stated_rate,
    "not_before": _not_before,
    "within_period": _within_period,
    "icd10_shape": _shape(ICD10_SHAPE),
    "opcs4_shape": _shape(OPCS4_SHAPE),
    "nhs_number": _nhs_number,
    "postcode_shape": _shape(POSTCODE_SHAPE),
    "any_of_not_null": _any_of_not_null,
    "between": _between,
    "consistent_discharge": _consistent_discharge,
    "no_nhs_number": _no_nhs_number,
}
"""Every row-by-row check; ``unique`` and ``rows_at_least`` need the whole delivery and live in
``measure``."""

ARGUMENTS: Final[dict[str, tuple[int, int | None, int]]] = {
    "not_null": (1, 1, 0),
    "max_length": (1, 1, 1),
    "typed": (1, 1, 0),
    "one_of_codes": (1, 1, 0),
    "null_rate": (1, 1, 0),
    "invalid_rate": (1, 1, 0),
    "not_stated_rate": (1, 1, 0),
    "not_before": (2, 2, 0),
    "within_period": (1, 1, 0),
    "icd10_shape": (1, 1, 0),
    "opcs4_shape": (1, 1, 0),
    "nhs_number": (1, 1, 0),
    "postcode_shape": (1, 1, 0),
    "any_of_not_null": (1, None, 0),
    "unique": (1, None, 0),
    "between": (1, 1, 2),
    "consistent_discharge": (2, 2, 0),
    "no_nhs_number": (1, None, 0),
    "rows_at_least": (0, 0, 1),
}
"""Name to (fewest fields, most fields, number of literals)."""

FAILS_WHEN_ABSENT: Final = frozenset({"not_null", "null_rate"})
"""Checks of one field that every row of an entirely null column fails; all others do not apply to such a
row."""


def split_arguments(check: str, arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``arguments`` of a rule as (field names, literals without their ``=``).

    Raises :class:`ContractDefinitionError` for an unknown check or a wrong number of arguments.
    """
    if check not in ARGUMENTS:
        raise ContractDefinitionError(f"there is no check called {check}")
    fields = tuple(argument for argument in arguments if not argument.startswith("="))
    literals = tuple(argument[1:] for argument in arguments if argument.startswith("="))
    fewest, most, number = ARGUMENTS[check]
    if len(fields) < fewest or (most is not None and len(fields) > most) or len(literals) != number:
        raise ContractDefinitionError(
            f"the check {check} was given {len(fields)} fields and {len(literals)} literals"
        )
    return fields, literals


def sense(field: ContractField) -> FieldSense:
    """The expressions of ``field`` that checks are made of."""
    return FieldSense(field)
