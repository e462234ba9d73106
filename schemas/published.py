"""The declaration of the published tables, and its strict loader.

``schemas/published.yaml`` names every table, column, type and comment once; DuckDB tables, Polars schemas,
file names and the order of rows are derived from it. :meth:`Table.conform` is the door: a frame with a column
that is not declared does not get published.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal, Self

import polars as pl
from pydantic import Field, model_validator

from schemas.contract import IDENTIFIER, Strict
from schemas.errors import IntegrityError
from schemas.yaml_text import parse_model, read_yaml

DECLARATION = Path(__file__).parent / "published.yaml"
Marking = Literal["OFFICIAL", "OFFICIAL SENSITIVE"]
MARKING_COLUMN = "protective_marking"
TOTAL_STRATUM = "all"

MEASURES = ("proportion", "standardised_ratio", "rate", "ratio_of_counts", "count")
DIRECTIONS = ("lower_is_better", "higher_is_better", "neutral", "context")
SIGNIFICANT_DIGITS = 10
"""Published decimals are rounded to this many digits: sums over threads may differ in the last bits between
two runs over the same data, and the files of two runs must not."""

_POLARS: dict[str, pl.DataType] = {
    "VARCHAR": pl.String(),
    "BIGINT": pl.Int64(),
    "DOUBLE": pl.Float64(),
    "BOOLEAN": pl.Boolean(),
    "DATE": pl.Date(),
    "TIMESTAMP": pl.Datetime("us"),
}


class Column(Strict):
    name: str
    type: Literal["VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP"]
    null: bool = False
    comment: str = Field(min_length=3)

    @property
    def polars(self) -> pl.DataType:
        return _POLARS[self.type]


class Table(Strict):
    """One published table. ``declared`` are its own columns, ``columns`` those and the protective marking."""

    name: str
    record_type: str
    comment: str
    public: bool
    files: bool = True
    key: tuple[str, ...]
    declared: tuple[Column, ...] = Field(alias="columns")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [column.name for column in self.declared]
        for name in (self.name, *names):
            if not IDENTIFIER.match(name):
                raise ValueError(f"{name!r} is not a name")
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name}: a column is declared twice")
        if not self.key or not set(self.key) <= set(names):
            raise ValueError(f"{self.name}: the key names a column that is not declared")
        return self

    @property
    def columns(self) -> tuple[Column, ...]:
        if not self.files:
            return self.declared
        marking = Column(
            name=MARKING_COLUMN,
            type="VARCHAR",
            comment="protective marking of this set: OFFICIAL SENSITIVE, or OFFICIAL once released",
        )
        return (*self.declared, marking)

    @property
    def types(self) -> dict[str, pl.DataType]:
        """Column name -> Polars type, without the protective marking."""
        return {column.name: column.polars for column in self.declared}

    def conform(self, frame: pl.DataFrame, marking: Marking) -> pl.DataFrame:
        """``frame`` with exactly the declared columns, types and order of rows, and the marking.

        Columns that may be empty and are missing are added empty. Decimals are rounded to
        ``SIGNIFICANT_DIGITS``, infinite or not-a-number ones are refused.

        Raises :class:`IntegrityError` for a column that is not declared, one that is missing, a value of
        another type, an empty value where none may be, and two rows with the same key.
        """
        known = self.types
        unknown = [name for name in frame.columns if name not in known and name != MARKING_COLUMN]
        if unknown:
            raise IntegrityError(f"table {self.name}: {len(unknown)} column(s) that are not declared")
        missing = [c.name for c in self.declared if c.name not in frame.columns and not c.null]
        if missing and frame.height:
            raise IntegrityError(f"table {self.name}: without the column(s) {', '.join(missing)}")
        try:
            taken = frame.select(
                (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
                for name, kind in known.items()
            )
        except pl.exceptions.PolarsError:
            raise IntegrityError(f"table {self.name}: a value does not fit the declared type") from None
        if not frame.width:
            taken = pl.DataFrame(schema=known)
        for column in self.declared:
            if not column.null and taken[column.name].null_count():
                raise IntegrityError(f"table {self.name}: {column.name} is empty in some rows")
            if column.type == "DOUBLE" and not taken[column.name].is_finite().all():
                raise IntegrityError(f"table {self.name}: {column.name} is not a finite number in some rows")
        if taken.select(self.key).is_duplicated().any():
            raise IntegrityError(f"table {self.name}: two rows have the same {', '.join(self.key)}")
        taken = taken.with_columns(pl.selectors.float().round_sig_figs(SIGNIFICANT_DIGITS)).sort(self.key)
        # -0.0 and 0.0 are equal and print differently: one of them is enough.
        taken = taken.with_columns(pl.selectors.float() + 0.0)
        return taken.with_columns(pl.lit(marking).alias(MARKING_COLUMN)) if self.files else taken


class View(Strict):
    name: str
    comment: str
    sql: str


class Declaration(Strict):
    version: str
    tables: tuple[Table, ...]
    views: tuple[View, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [*(table.name for table in self.tables), *(view.name for view in self.views)]
        if len(set(names)) != len(names):
            raise ValueError("a table or view is declared twice")
        return self

    def table(self, name: str) -> Table:
        for table in self.tables:
            if table.name == name:
                return table
        raise IntegrityError("a table is to be published that schemas/published.yaml does not declare")


@cache
def declaration() -> Declaration:
    """The published tables. Raises :class:`schemas.errors.ContractDefinitionError`."""
    return parse_model(Declaration, read_yaml(DECLARATION), DECLARATION.name)


def empty(name: str) -> pl.DataFrame:
    """A frame of table ``name`` without rows, without the marking column."""
    return pl.DataFrame(schema=declaration().table(name).types)
