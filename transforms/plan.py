"""Plan: everything that happens to a chunk of a delivery between parsing and committing, compiled once.

A chunk is a frame of text, some 30,000 rows of it. The plan types it, measures the rules, derives, makes
tokens and splits; see the modules of those names. Rows that break a rule of level ``record`` are in none of
the frames. No error and no attribute outside the frames holds a value of a record.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import date
from typing import Final

import polars as pl

from schemas.contract import Contract, ContractField, FieldClass
from schemas.errors import ContractDefinitionError, DeliveryRefused, ForbiddenColumn, IntegrityError
from schemas.tables import DELIVERY_ID, LakeColumn
from transforms.derive import DerivedColumn, compile_derivations, derive
from transforms.measure import RuleSet, compile_rules
from transforms.split import SplitPlan, compile_split, organisation, split, with_states_as_text
from transforms.tokens import PERSON, person_tokens
from transforms.typing_fields import FieldTyping, TypedChunk, one_piece, type_chunk, value_free

PROVIDERS_SCHEMA: Final = {"provider": pl.String(), "rows": pl.Int64()}


@dataclass(frozen=True)
class ChunkResult:
    """What one chunk became.

    ``coded``: the lake's columns with states as codes, for the writer; :attr:`lake`: the same as a reader sees
    them. ``vault``, ``linkage``: None where the dataset has none (see ``split``). ``states``: state column ->
    field.
    ``counts``: rule_id String, rows Int64, failures Int64. ``quarantine``: record_ordinal Int64, rule_id
    String.
    ``key_hashes``: id of each ``unique`` rule -> UInt64 per delivered row. ``ordinals``: Int64 per
    delivered row.
    ``providers``: provider String (null where unknown), rows Int64, of the rows that were kept.
    ``rows_in``, ``rows_kept``: delivered rows, and those that went to the lake.
    """

    coded: pl.DataFrame = dataclass_field(repr=False)
    states: Mapping[str, str] = dataclass_field(repr=False)
    vault: pl.DataFrame | None = dataclass_field(repr=False)
    linkage: pl.DataFrame | None = dataclass_field(repr=False)
    counts: pl.DataFrame
    quarantine: pl.DataFrame
    key_hashes: Mapping[str, pl.Series] = dataclass_field(repr=False)
    ordinals: pl.Series = dataclass_field(repr=False)
    providers: pl.DataFrame
    rows_in: int
    rows_kept: int

    @property
    def lake(self) -> pl.DataFrame:
        return with_states_as_text(self.coded, self.states)


@dataclass(frozen=True)
class ChunkPlan:
    """A compiled delivery. ``fields`` are those it reads: the reader need not parse any other column."""

    contract: Contract
    delivery_id: str
    fields: tuple[ContractField, ...]
    rule_set: RuleSet
    split_plan: SplitPlan
    derived: tuple[DerivedColumn, ...]
    typings: tuple[FieldTyping, ...] = dataclass_field(repr=False)
    issuer: pl.Expr | None = dataclass_field(repr=False)
    provider: pl.Expr | None = dataclass_field(repr=False)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the fields that :meth:`run` needs as columns of the chunk."""
        return tuple(field.name for field in self.fields)

    @property
    def null_columns(self) -> frozenset[str]:
        """Lake columns that are null throughout: a writer may leave them out of the stream and say NULL."""
        derived = {column.name for column in self.derived if column.expression is None}
        return self.split_plan.null_columns | derived

    @property
    def lake_columns(self) -> tuple[LakeColumn, ...]:
        return self.split_plan.columns

    @property
    def coded_columns(self) -> tuple[LakeColumn, ...]:
        """:attr:`lake_columns` as they are written, with states as codes."""
        return self.split_plan.coded_columns

    def run(
        self,
        chunk: pl.DataFrame,
        first_ordinal: int,
        token_key: bytes,
        *,
        positions: pl.Series | None = None,
        duplicates: Mapping[str, pl.Series] | None = None,
    ) -> ChunkResult:
        """Type, measure, derive, tokenise and split ``chunk`` (String columns named by contract field).

        ``first_ordinal``: ordinal in the file (from 1) of the chunk's first line. ``positions``: 0-based line
        within the chunk of each row, where broken lines were taken out. ``duplicates``: id of a ``unique``
        rule -> ordinals to leave out.
        Raises :class:`IntegrityError` when the chunk is not what the plan was compiled for; never with a
        value.
        """
        missing = [name for name in self.wanted if name not in chunk.columns]
        if missing:
            raise IntegrityError(f"the chunk lacks columns of its header: {', '.join(missing)}")
        chunk, absent = one_piece(chunk.select(self.wanted))
        ordinals = _ordinals(chunk.height, first_ordinal, positions)
        typed = type_chunk(chunk, self.typings, absent)
        measured = self.rule_set.measure(typed, ordinals, duplicates)
        issuer, provider = self._organisations(typed)
        tokens = {
            column: person_tokens(
                chunk.get_column(name), token_key, PERSON, null_values=self._absent_ids(name)
            )
            for name, column in self.split_plan.tokens.items()
            if name in chunk.columns
        }
        parts = split(
            self.split_plan,
            chunk,
            typed,
            derived=derive(typed, self.derived, token_key, issuer),
            tokens=tokens,
            issuer=issuer,
            ordinals=ordinals,
            delivery_id=self.delivery_id,
            keep=measured.keep,
        )
        return ChunkResult(
            coded=parts.coded,
            states=parts.states,
            vault=parts.vault,
            linkage=parts.linkage,
            counts=measured.counts,
            quarantine=measured.quarantine,
            key_hashes=measured.key_hashes,
            ordinals=ordinals,
            providers=_provider_rows(provider, measured.keep),
            rows_in=chunk.height,
            rows_kept=parts.coded.height,
        )

    @value_free("finding the issuer of a record")
    def _organisations(self, typed: TypedChunk) -> tuple[pl.Series | None, pl.Series | None]:
        wanted = {
            name: expression
            for name, expression in (("issuer", self.issuer), ("provider", self.provider))
            if expression is not None
        }
        found = typed.frame.select(**wanted) if wanted else pl.DataFrame()
        return (
            _full_length(found.get_column("issuer"), typed.rows) if "issuer" in wanted else None,
            _full_length(found.get_column("provider"), typed.rows) if "provider" in wanted else None,
        )

    def _absent_ids(self, name: str) -> tuple[str, ...]:
        field = self.contract.field(name)
        return (*field.null_values, *field.invalid_values, *field.not_stated_values)


def _full_length(series: pl.Series, rows: int) -> pl.Series:
    return series if len(series) == rows else series.new_from_index(0, rows)


def _ordinals(rows: int, first: int, positions: pl.Series | None) -> pl.Series:
    if positions is None:
        return pl.int_range(first, first + rows, dtype=pl.Int64, eager=True).alias("record_ordinal")
    if len(positions) != rows:
        raise IntegrityError("the chunk has another number of rows than positions")
    return (positions.cast(pl.Int64) + first).alias("record_ordinal")


@value_free("counting the rows of each provider")
def _provider_rows(provider: pl.Series | None, keep: pl.Series | None) -> pl.DataFrame:
    if provider is None:
        return pl.DataFrame(schema=PROVIDERS_SCHEMA)
    kept = provider if keep is None else provider.filter(keep)
    counts = pl.DataFrame({"provider": kept}).group_by("provider").agg(pl.len().cast(pl.Int64).alias("rows"))
    return counts.sort("provider", nulls_last=True)


def compile_plan(
    contract: Contract,
    header_fields: Sequence[ContractField | None],
    period: tuple[date, date] | None,
    delivery_id: str,
    *,
    codes: Mapping[str, Collection[str]],
) -> ChunkPlan:
    """Compile the plan of one delivery.

    ``header_fields``: for each column of the file its contract field, None where the contract does not know
    it.
    ``period``: first and last day of the financial year, None for a snapshot. ``codes``: code list to codes.

    Raises :class:`DeliveryRefused` when two columns are the same field, :class:`ForbiddenColumn` for one that
    must not be delivered, :class:`ContractDefinitionError` and :class:`IntegrityError` for a wrong contract.
    """
    delivered: dict[str, ContractField] = {}
    for field in header_fields:
        if field is None:
            continue
        if field.name in delivered:
            raise DeliveryRefused(f"two columns of the file are the field {field.name}")
        if field.field_class is FieldClass.FORBIDDEN:
            raise ForbiddenColumn(f"the column {field.name} must not be delivered: {field.reason}")
        delivered[field.name] = field
    if not delivered:
        raise DeliveryRefused("no column of the file is a field of the contract")
    if any(column.lower() == DELIVERY_ID for column in delivered):
        raise ContractDefinitionError(f"contract {contract.id}: {DELIVERY_ID} is a name that Wardwatch uses")
    rule_set = compile_rules(contract, delivered, period, codes)
    derived = compile_derivations(contract, delivered)
    split_plan = compile_split(contract, delivered)
    issuers = [delivered[name] for name in contract.issuer if name in delivered]
    providers = [delivered[name] for name in contract.provider if name in delivered]
    needs_issuer = bool(split_plan.items) or any(column.needs_issuer for column in derived)
    read = _fields_that_are_read(contract, delivered, rule_set, derived, split_plan)
    person_ids = set(split_plan.tokens) - rule_set.fields
    return ChunkPlan(
        contract=contract,
        delivery_id=delivery_id,
        fields=read,
        rule_set=rule_set,
        split_plan=split_plan,
        derived=derived,
        # Person ids are trimmed where their tokens are made, on the distinct ones only.
        typings=tuple(FieldTyping(field) for field in read if field.name not in person_ids),
        issuer=(organisation(issuers) if issuers else pl.lit(None, dtype=pl.String))
        if needs_issuer
        else None,
        provider=organisation(providers) if providers else None,
    )


def _fields_that_are_read(
    contract: Contract,
    delivered: Mapping[str, ContractField],
    rule_set: RuleSet,
    derived: Sequence[DerivedColumn],
    split_plan: SplitPlan,
) -> tuple[ContractField, ...]:
    needed = {name for name, field in delivered.items() if field.in_lake}
    needed |= {field.name for field in split_plan.items} | {field.name for field in split_plan.key}
    needed |= {name for name in split_plan.tokens if name in delivered}
    needed |= rule_set.fields
    needed |= {name for column in derived for name in column.fields}
    needed |= {name for name in (*contract.issuer, *contract.provider) if name in delivered}
    return tuple(field for field in contract.fields if field.name in needed)
