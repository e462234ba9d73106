"""Split: one chunk becomes what the lake may hold, what only the vault holds, and what the linkage store
holds.

* lake: the columns of :func:`schemas.tables.lake_columns`, typed, no identifiable item and no person id;
* vault: record key, ``issuer``, and each delivered identifiable field exactly as delivered (only the empty
  text
  becomes null); rows without any item are left out. A record key that is a person id is given as its token;
* linkage: tokens and, where a date of death is delivered, ``date_of_death`` (Date) and ``known_to_day``
  (Boolean); rows without a token or a date are left out. Only for a dataset with a date of death, or one
  whose destination is the linkage store.

States travel and lie in the lake as a code beside their value (:data:`STATE_CODES`): a fourth of the columns
are states, nearly all of them say what the value says already, and written as text they cost a third of the
whole write. The dataset's view gives them back as text (``infra/lake.py``), :attr:`Split.lake` for a frame.

Restricted fields go nowhere. The frames are checked against the contract before they are returned: a column
that has no right to be in the lake is an :class:`IntegrityError`, not a leak.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cached_property, reduce
from typing import Final

import polars as pl

from schemas.contract import Contract, ContractField, FieldClass, Item
from schemas.errors import IntegrityError
from schemas.tables import (
    DELIVERY_ID,
    RECORD_ORDINAL,
    LakeColumn,
    lake_columns,
    lake_fields,
    polars_schema,
    token_columns,
)
from transforms.checks import sense
from transforms.derive import known_to_day
from transforms.typing_fields import (
    INVALID,
    NOT_STATED,
    NULL,
    TYPED,
    VALID,
    TypedChunk,
    look_at,
    state_name,
    text_name,
    value_free,
    value_name,
)

UNKNOWN_ISSUER: Final = "UNKNOWN"
ISSUER_COLUMN: Final = "issuer"
DATE_OF_DEATH: Final = "date_of_death"
KNOWN_TO_DAY: Final = "known_to_day"

STATE_CODES: Final = {INVALID: 1, NOT_STATED: 2}
"""State -> its code in the lake. No code: valid where the field has a value, null where it has none."""
STATE_SUFFIX: Final = "_STATE"
STATE_CODE_TYPE: Final = ("TINYINT", pl.Int8())


@dataclass(frozen=True)
class Split:
    """The three frames of a chunk. ``vault`` and ``linkage`` are None where the dataset has no such field.

    ``coded``: the lake's columns with the states as codes, for the writer. ``states``: state column -> field, of
    the delivered ones.
    """

    coded: pl.DataFrame = dataclass_field(repr=False)
    vault: pl.DataFrame | None = dataclass_field(repr=False)
    linkage: pl.DataFrame | None = dataclass_field(repr=False)
    states: Mapping[str, str] = dataclass_field(repr=False)

    @property
    def lake(self) -> pl.DataFrame:
        """The lake's columns as a reader sees them, the states as text."""
        return with_states_as_text(self.coded, self.states)


def with_states_as_text(coded: pl.DataFrame, states: Mapping[str, str]) -> pl.DataFrame:
    """``coded`` with its state columns as text; ``states``: state column -> field."""
    return coded.with_columns(
        pl.when(pl.col(state) == STATE_CODES[INVALID])
        .then(pl.lit(INVALID))
        .when(pl.col(state) == STATE_CODES[NOT_STATED])
        .then(pl.lit(NOT_STATED))
        .when(pl.col(field).is_not_null())
        .then(pl.lit(VALID))
        .otherwise(pl.lit(NULL))
        .alias(state)
        for state, field in states.items()
    )


@dataclass(frozen=True)
class SplitPlan:
    """What goes where, decided once per delivery from contract and header.

    ``columns``: the lake's, in order. ``items``: delivered identifiable fields. ``key``: record key fields
    that are delivered. ``tokens``: person id field -> token column. ``death``: the delivered date of death,
    if any.
    ``null_columns``: lake columns that are null throughout, because nothing they come from was delivered.
    ``states``: state column -> field, of the delivered fields.
    """

    columns: tuple[LakeColumn, ...]
    items: tuple[ContractField, ...]
    key: tuple[ContractField, ...]
    tokens: Mapping[str, str]
    death: ContractField | None
    makes_linkage: bool
    null_columns: frozenset[str]
    states: Mapping[str, str]
    field_expressions: tuple[pl.Expr, ...] = dataclass_field(repr=False)

    @cached_property
    def coded_columns(self) -> tuple[LakeColumn, ...]:
        """The columns as they are written: states of delivered fields as a code."""
        return tuple(
            LakeColumn(column.name, *STATE_CODE_TYPE, column.comment)
            if column.name in self.states
            else column
            for column in self.columns
        )

    @cached_property
    def coded_schema(self) -> dict[str, pl.DataType]:
        return polars_schema(self.coded_columns)


def organisation(fields: Sequence[ContractField]) -> pl.Expr:
    """The first of ``fields`` that holds a valid code, else null; over ``TypedChunk.frame``."""
    return reduce(pl.Expr.fill_null, [sense(field).value for field in fields])


def compile_split(contract: Contract, delivered: Collection[str]) -> SplitPlan:
    """The split of a delivery with the fields ``delivered``. Raises :class:`IntegrityError` for a column that
    may not be in the lake."""
    columns = tuple(lake_columns(contract, delivered))
    types = polars_schema(columns)
    tokens = token_columns(contract)
    null_columns = [column for name, column in tokens.items() if name not in delivered]
    states: dict[str, str] = {}
    expressions: list[pl.Expr] = []
    for field in lake_fields(contract, delivered):
        there, typed = field.name in delivered, field.type in TYPED
        if there:
            source = value_name(field.name) if typed else text_name(field.name)
            expressions.append(pl.col(source).alias(field.name))
        else:
            expressions.append(pl.lit(None, dtype=types[field.name]).alias(field.name))
            null_columns += [field.name, field.state_column] if field.keeps_state else [field.name]
        if field.keeps_state and there:
            states[field.state_column] = field.name
        elif field.keeps_state:
            expressions.append(pl.lit(None, dtype=pl.String).alias(field.state_column))
    items = tuple(
        field
        for field in contract.fields
        if field.field_class is FieldClass.IDENTIFIABLE and field.name in delivered
    )
    deaths = [field for field in items if field.item is Item.DATE_OF_DEATH and field.type == "date"]
    return SplitPlan(
        columns=columns,
        items=items,
        key=tuple(contract.field(name) for name in contract.record_key if name in delivered),
        tokens=tokens,
        death=deaths[0] if deaths else None,
        makes_linkage=bool(deaths) or contract.destination == "linkage",
        null_columns=frozenset(null_columns),
        states=states,
        field_expressions=tuple(expressions),
    )


@value_free("splitting a chunk")
def split(
    plan: SplitPlan,
    chunk: pl.DataFrame,
    typed: TypedChunk,
    *,
    derived: pl.DataFrame,
    tokens: Mapping[str, pl.Series],
    issuer: pl.Series | None,
    ordinals: pl.Series,
    delivery_id: str,
    keep: pl.Series | None,
) -> Split:
    """Divide one chunk.

    ``chunk``: text as delivered; ``typed``: the same rows typed; ``derived``: derived columns; ``tokens``:
    token column -> String; ``issuer``: String per row (null where unknown), None if not needed;
    ``ordinals``: Int64;
    ``keep``: Boolean, None for all rows.
    """
    rows = typed.rows
    nothing = pl.Series([None], dtype=pl.String).new_from_index(0, rows)
    token_series = [tokens.get(name, nothing).alias(name) for name in plan.tokens.values()]
    # Undelivered columns stay constants: making 200 columns of nulls costs more than typing the others.
    states = [_state_code(state, field, typed) for state, field in plan.states.items()]
    lake = typed.frame.select([*plan.field_expressions, *states, ordinals.alias(RECORD_ORDINAL)])
    lake = lake.with_columns([*derived.get_columns(), *token_series, pl.lit(delivery_id).alias(DELIVERY_ID)])
    _refuse_other_columns(lake, plan.coded_schema)
    lake = lake.select(list(plan.coded_schema))
    key = [
        tokens.get(plan.tokens.get(field.name, ""), nothing).alias(plan.tokens.get(field.name, field.name))
        if field.field_class is FieldClass.PERSON_ID
        else typed.frame.get_column(text_name(field.name)).alias(field.name)
        for field in plan.key
    ]
    vault = _vault(plan, chunk, key, issuer, keep) if plan.items and issuer is not None else None
    linkage = _linkage(plan, typed, token_series, keep) if plan.makes_linkage else None
    return Split(lake if keep is None else lake.filter(keep), vault, linkage, plan.states)


def _state_code(state_column: str, field: str, typed: TypedChunk) -> pl.Expr:
    if field in typed.plain_states:
        return pl.lit(None, dtype=STATE_CODE_TYPE[1]).alias(state_column)
    state = pl.col(state_name(field))
    code = (
        pl.when(state == INVALID)
        .then(pl.lit(STATE_CODES[INVALID], dtype=STATE_CODE_TYPE[1]))
        .when(state == NOT_STATED)
        .then(pl.lit(STATE_CODES[NOT_STATED], dtype=STATE_CODE_TYPE[1]))
    )
    return code.alias(state_column)


def _refuse_other_columns(lake: pl.DataFrame, expected: Mapping[str, pl.DataType]) -> None:
    found = dict(lake.schema)
    if found != dict(expected):
        wrong = sorted(
            name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
        )
        raise IntegrityError(f"the lake frame is not what the contract allows; columns: {', '.join(wrong)}")


def _vault(
    plan: SplitPlan,
    chunk: pl.DataFrame,
    key: Sequence[pl.Series],
    issuer: pl.Series,
    keep: pl.Series | None,
) -> pl.DataFrame:
    items = []
    for field in plan.items:
        text = chunk.get_column(field.name)
        if look_at(text).maybe_empty:
            text = pl.select(pl.when(text.str.len_bytes() > 0).then(text).alias(field.name)).to_series()
        items.append(text)
    vault = pl.DataFrame([*key, issuer.fill_null(UNKNOWN_ISSUER).alias(ISSUER_COLUMN), *items])
    has_item = pl.any_horizontal(pl.col(field.name).is_not_null() for field in plan.items)
    return vault.filter(has_item if keep is None else has_item & keep)


def _linkage(
    plan: SplitPlan, typed: TypedChunk, tokens: Sequence[pl.Series], keep: pl.Series | None
) -> pl.DataFrame:
    linkage = pl.DataFrame([*tokens])
    if plan.death is not None:
        dates = typed.frame.select(
            pl.col(value_name(plan.death.name)).alias(DATE_OF_DEATH),
            known_to_day(sense(plan.death)).alias(KNOWN_TO_DAY),
        )
        linkage = linkage.hstack(dates.get_columns())
    complete = pl.all_horizontal(pl.col(name).is_not_null() for name in linkage.columns)
    return linkage.filter(complete if keep is None else complete & keep)
