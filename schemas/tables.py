"""Lake table: the columns of a dataset's curated table, derived from its contract.

The same list serves the Polars frame that the split gives, the DuckDB table and the dictionary. Fields keep
the contract's upper-case names; what Wardwatch adds is lower case. Identifiable, person id, restricted and
forbidden fields have no column and cannot be given one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import polars as pl

from schemas.contract import Contract, ContractField, FieldClass
from schemas.errors import ContractDefinitionError, IntegrityError

LAKE_TYPES: Final[dict[str, tuple[str, pl.DataType]]] = {
    "string": ("VARCHAR", pl.String()),
    "code": ("VARCHAR", pl.String()),
    "date": ("DATE", pl.Date()),
    "time": ("VARCHAR", pl.String()),
    "integer": ("BIGINT", pl.Int64()),
    "decimal": ("DOUBLE", pl.Float64()),
}
"""Type of a contract field -> (DuckDB type, Polars type). A time is text, HHMM."""

DELIVERY_ID: Final = "delivery_id"
RECORD_ORDINAL: Final = "record_ordinal"
PERSON_TOKEN: Final = "person_token"  # noqa: S105 the name of a column
OLD_PERSON_TOKEN: Final = "old_person_token"  # noqa: S105 the name of a column


class LakeColumn(NamedTuple):
    """One column of a lake table: its name, its type in both engines, and the comment it carries."""

    name: str
    duckdb_type: str
    polars_type: pl.DataType
    comment: str


def token_columns(contract: Contract) -> dict[str, str]:
    """Person id fields whose token goes to the lake -> name of the token's column.

    ``person_token`` is the token of ``contract.person_id``. A bridge between two person ids has the second
    one in its record key: that becomes ``old_person_token``. Other person id fields give no column.
    """
    found: dict[str, str] = {}
    if contract.person_id is not None:
        found[contract.person_id] = PERSON_TOKEN
    others = [
        field.name
        for field in contract.fields
        if field.field_class is FieldClass.PERSON_ID
        and field.name != contract.person_id
        and field.name in contract.record_key
    ]
    if len(others) > 1:
        raise ContractDefinitionError(f"contract {contract.id} has more than two person ids in its keys")
    found.update({name: OLD_PERSON_TOKEN for name in others})
    return found


def lake_fields(contract: Contract, delivered: Collection[str]) -> tuple[ContractField, ...]:
    """The fields of the lake table in contract order: those delivered, and ``core`` ones in any case."""
    return tuple(
        field for field in contract.fields if field.in_lake and (field.name in delivered or field.core)
    )


def lake_columns(contract: Contract, delivered: Collection[str]) -> list[LakeColumn]:
    """The columns of the lake table of a delivery with the fields ``delivered`` (contract field names).

    Order: fields in contract order, each followed by its ``_STATE``; derivations; tokens; ``record_ordinal``;
    ``delivery_id``. Raises :class:`IntegrityError` if a column would carry the name of a field that may not
    be in the lake.
    """
    columns: list[LakeColumn] = []
    for field in lake_fields(contract, delivered):
        duckdb_type, polars_type = LAKE_TYPES[field.type]
        columns.append(LakeColumn(field.name, duckdb_type, polars_type, field.label or field.name))
        if field.keeps_state:
            columns.append(
                LakeColumn(
                    field.state_column,
                    "VARCHAR",
                    pl.String(),
                    f"State of {field.name}: valid, null, invalid, not_stated; null where not delivered",
                )
            )
    for derivation in contract.derivations:
        duckdb_type, polars_type = LAKE_TYPES[derivation.type]
        columns.append(LakeColumn(derivation.name, duckdb_type, polars_type, derivation.says))
    for column in token_columns(contract).values():
        what = "Keyed pseudonym of the person; joins records, cannot be turned back"
        if column == OLD_PERSON_TOKEN:
            what = "Keyed pseudonym of the person id of the era before"
        columns.append(LakeColumn(column, "VARCHAR", pl.String(), what))
    columns.append(LakeColumn(RECORD_ORDINAL, "BIGINT", pl.Int64(), "Row of the delivered file, from 1"))
    columns.append(LakeColumn(DELIVERY_ID, "VARCHAR", pl.String(), "Delivery that the record came with"))
    _refuse_hidden_fields(contract, columns)
    return columns


def _refuse_hidden_fields(contract: Contract, columns: Sequence[LakeColumn]) -> None:
    never = {
        name.upper()
        for field in contract.fields
        if not field.in_lake
        for name in (field.name, *field.aliases)
    }
    seen: set[str] = set()
    for column in columns:
        folded = column.name.upper()
        if folded in never:
            raise IntegrityError(
                f"{contract.id}: lake column {column.name} has the name of a field that may not be there"
            )
        if folded in seen:
            raise IntegrityError(f"{contract.id}: the lake column {column.name} would exist twice")
        seen.add(folded)


def polars_schema(columns: Sequence[LakeColumn]) -> dict[str, pl.DataType]:
    """Name -> Polars type, in order."""
    return {column.name: column.polars_type for column in columns}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def create_table(table: str, columns: Sequence[LakeColumn]) -> str:
    """``CREATE TABLE`` for DuckDB. ``table`` may be qualified with dots; each part is quoted."""
    name = ".".join(_quoted(part) for part in table.split("."))
    lines = ",\n".join(f"    {_quoted(column.name)} {column.duckdb_type}" for column in columns)
    return f"CREATE TABLE {name} (\n{lines}\n)"


def comment_statements(table: str, columns: Sequence[LakeColumn]) -> list[str]:
    """One ``COMMENT ON COLUMN`` statement per column."""
    name = ".".join(_quoted(part) for part in table.split("."))
    return [
        f"COMMENT ON COLUMN {name}.{_quoted(column.name)} IS {_text(column.comment)}" for column in columns
    ]
