"""Reading: a delivery's plaintext, chunk by chunk, through its contract, with what has to be counted on the way.

Shared by the ingest and by ``wardwatch check``. Only counts, codes, ordinals and hashes of record keys are kept
beyond a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from infra.ahead import ahead
from infra.objections import ObjectionList
from infra.periods import Period
from schemas.code_lists import code_list
from schemas.contract import Contract
from schemas.errors import DeliveryRefused, ForbiddenColumn
from schemas.loader import (
    SAFE_NAME,
    HeaderMatch,
    fold_header,
    forbidden_columns,
    load_contracts,
    match_header,
    select_contract,
)
from transforms.measure import add_counts, later_duplicates, whole_delivery_counts
from transforms.objections import without
from transforms.plan import ChunkPlan, ChunkResult, compile_plan
from transforms.profile import Volumes, assemble_profile, readable_rows_rule
from transforms.records import (
    HEAD_BYTES,
    Dialect,
    ParsedChunk,
    chunks,
    parse_chunk,
    sniff_dialect,
    values_at_beginning,
)


class Readable(Protocol):
    """Bytes in order, once."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Before:
    """What the delivery before held, to compare volumes with."""

    rows: int
    providers: frozenset[str]


@dataclass
class Totals:
    """What is added up over the chunks; counts and codes only."""

    rows_in: int = 0
    rows_kept: int = 0
    rows_vaulted: int = 0
    rows_objected: int = 0
    counts: list[pl.DataFrame] = field(default_factory=list)
    quarantine: list[pl.DataFrame] = field(default_factory=list)
    providers: list[pl.DataFrame] = field(default_factory=list)
    key_hashes: dict[str, list[pl.Series]] = field(default_factory=dict)
    ordinals: list[pl.Series] = field(default_factory=list)
    broken: int = 0


class PutBack:
    """A stream with its first bytes put back in front."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            if size < 0:
                first, self._head = self._head, b""
                return first + self._stream.read()
            first, self._head = self._head[:size], self._head[size:]
            return first
        return self._stream.read(size)


def read_head(stream: Readable, size: int = HEAD_BYTES) -> bytes:
    """The first ``size`` bytes, or all if there are fewer."""
    parts: list[bytes] = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def refuse_forbidden(header: Sequence[str]) -> None:
    """Raises :class:`ForbiddenColumn` for a name or address column, whatever else is wrong with the header.

    Asked before anything else of a delivery: a file of names whose dataset nobody recognises may not lie about
    either. A name is shown if most of the header is known to some contract, for else it may be a value.
    """
    policy = forbidden_columns()
    folded = [fold_header(name) for name in header]
    found = [position for position, name in enumerate(folded) if policy.match(name) is not None]
    if not found:
        return
    known = {name for contract in load_contracts().values() for name in contract.by_header}
    is_header = 2 * sum(name in known for name in folded) >= len(folded)
    raise _forbidden(
        [
            folded[position] if is_header and SAFE_NAME.match(folded[position]) else f"column {position + 1}"
            for position in found
        ]
    )


def _forbidden(labels: Sequence[str]) -> ForbiddenColumn:
    return ForbiddenColumn(
        f"the delivery has {len(labels)} column(s) that must never be delivered: {', '.join(labels)}",
        next_step="nothing of it is kept, and landing it raises an incident; tell the sender to send it again "
        "without them",
    )


def checked_header(dataset: str, dialect: Dialect) -> tuple[Contract, HeaderMatch]:
    """The contract and the columns of a delivered header.

    Raises :class:`ForbiddenColumn` for a name or address column, :class:`DeliveryRefused` for unknown, missing or
    doubled ones. Names are shown only where they cannot be values (see :func:`schemas.loader.match_header`).
    """
    refuse_forbidden(dialect.header)
    contract = select_contract(dataset, dialect.header)
    match = match_header(contract, dialect.header)
    if match.forbidden:
        raise _forbidden(match.forbidden)
    problems = []
    if match.unknown:
        problems.append(f"unknown: {', '.join(match.unknown_labels[:12])}")
    if match.missing_required:
        problems.append(f"missing: {', '.join(match.missing_required)}")
    if match.duplicated:
        problems.append(f"twice: {', '.join(match.duplicated)}")
    if problems:
        raise DeliveryRefused(
            f"the columns do not fit the contract {contract.id} ({'; '.join(problems)})",
            next_step="compare the header with schemas/DICTIONARY.md; a new column needs a decision in the contract",
        )
    return contract, match


def partyears(head: bytes, dialect: Dialect) -> set[str]:
    """The values of PARTYEAR at the beginning of a file; none of them identifies anybody."""
    for name in dialect.header:
        if fold_header(name) == "PARTYEAR":
            return values_at_beginning(head, dialect, name)
    return set()


class Reading:
    """One pass over a delivery. Iterate :meth:`results` to its end, then ask for the profile.

    Raises :class:`ForbiddenColumn` and :class:`DeliveryRefused` if header or form do not fit.
    """

    def __init__(
        self,
        stream: Readable,
        dataset: str,
        period: Period,
        delivery_id: str,
        chunk_bytes: int,
        objections: ObjectionList | None = None,
    ) -> None:
        head = read_head(stream)
        self.dialect = sniff_dialect(head)
        self.contract, self.match = checked_header(dataset, self.dialect)
        codes = {
            f.codes: frozenset(code_list(f.codes).values) for f in self.contract.fields if f.codes is not None
        }
        self.plan: ChunkPlan = compile_plan(
            self.contract, self.match.columns, period.bounds, delivery_id, codes=codes
        )
        self.totals = Totals()
        self._body = PutBack(head, stream)
        self._chunk_bytes = chunk_bytes
        self._leaving = objections.leave_out(self.match.columns) if objections is not None else None

    def results(
        self, token_key: bytes, duplicates: Mapping[str, pl.Series] | None = None
    ) -> Iterator[ChunkResult]:
        """The chunks, typed, measured and split. ``duplicates``: ordinals to leave out, from a first pass."""
        columns = [
            f.name if f is not None else f"column {position + 1}"
            for position, f in enumerate(self.match.columns)
        ]
        first_ordinal = 1
        for parsed in ahead(self._parsed(columns)):
            # Before anything else looks at a record: whoever objected leaves.
            leaves = self._leaving(parsed.frame) if self._leaving is not None else None
            frame, positions, objected = without(parsed.frame, parsed.ordinals, leaves)
            self.totals.rows_objected += objected
            result = self.plan.run(
                frame, first_ordinal, token_key, positions=positions, duplicates=duplicates
            )
            self._add(result, parsed.rows, [first_ordinal + position for position, _ in parsed.broken])
            first_ordinal += parsed.rows
            yield result

    def _parsed(self, columns: list[str]) -> Iterator[ParsedChunk]:
        for data in chunks(self._body, self.dialect, self._chunk_bytes):
            yield parse_chunk(data, self.dialect, columns, self.plan.wanted)

    def _add(self, result: ChunkResult, rows: int, broken: list[int]) -> None:
        totals = self.totals
        totals.rows_in += rows
        totals.rows_kept += result.rows_kept
        totals.broken += len(broken)
        totals.counts.append(result.counts)
        totals.providers.append(result.providers)
        totals.ordinals.append(result.ordinals)
        for rule_id, hashes in result.key_hashes.items():
            totals.key_hashes.setdefault(rule_id, []).append(hashes)
        if result.vault is not None:
            totals.rows_vaulted += result.vault.height
        if result.quarantine.height:
            totals.quarantine.append(result.quarantine)
        if broken:
            rule = readable_rows_rule(self.contract)
            totals.quarantine.append(
                pl.DataFrame(
                    {"record_ordinal": broken, "rule_id": [rule] * len(broken)},
                    schema={"record_ordinal": pl.Int64, "rule_id": pl.String},
                )
            )

    def later_duplicates(self, known: Mapping[str, pl.Series]) -> dict[str, pl.Series]:
        """Id of each record-level ``unique`` rule not in ``known`` -> ordinals of the records that repeat a key."""
        found = {}
        for rule in self.plan.rule_set.whole:
            if rule.rule.check != "unique" or not rule.leaves_rows_out or rule.id in known:
                continue
            parts = self.totals.key_hashes.get(rule.id, [])
            if not parts:
                continue
            hashes = pl.concat(parts)
            if hashes.drop_nulls().n_unique() == len(hashes) - hashes.null_count():
                continue
            found[rule.id] = later_duplicates(pl.concat(self.totals.ordinals), hashes)
        return found

    def profile(self, control_rows: int | None, before: Before | None) -> pl.DataFrame:
        """The delivery profile after the last chunk: one row per rule, then the volumes."""
        totals, plan = self.totals, self.plan
        counts = add_counts(
            [*totals.counts, whole_delivery_counts(plan.rule_set, totals.rows_in, totals.key_hashes)]
        )
        missing = 0
        if before is not None:
            missing = len(before.providers - self.providers)
        volumes = Volumes(
            rows=totals.rows_in,
            broken_rows=totals.broken,
            control_rows=control_rows,
            previous_rows=before.rows if before is not None else None,
            previous_providers=len(before.providers) if before is not None else None,
            missing_providers=missing,
            required_columns=sum(f.required for f in self.contract.fields),
            missing_columns=len(self.match.missing_required),
        )
        return assemble_profile(self.contract, counts, plan.rule_set.not_applicable, volumes)

    @property
    def providers(self) -> frozenset[str]:
        """Codes of the providers that have records so far."""
        return frozenset(
            name
            for frame in self.totals.providers
            for name in frame["provider"].to_list()
            if name is not None
        )
