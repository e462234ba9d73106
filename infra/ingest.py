"""Ingest: one landed delivery becomes a table of the lake, parts of the vault and rows of the linkage store.

Two threads share the work. One decrypts, parses, types, measures, derives, makes tokens and splits, a chunk at a
time; the other lets DuckDB pull the lake's part and write it. At most three chunks are in memory. Nothing is
committed before the cipher stream has ended well, every rule has been judged, and vault and linkage are in place;
then one lake transaction writes the table and the delivery row, which alone makes the delivery count.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from infra.files import storage_error
from infra.judge import judge
from infra.keyring import Keyring
from infra.lake import Books, CommittedDelivery, Lake
from infra.linkage import LinkageWriter, PairsWriter
from infra.objections import ObjectionList
from infra.officers import Officers
from infra.periods import Period, table_name
from infra.reading import Before, Readable, Reading, Totals
from infra.signing import canonical_json
from infra.vault import VaultSummary, VaultWriter
from infra.workspace import Workspace
from schemas.contract import Contract, FieldClass
from schemas.errors import CriticalRuleBroken, DeliveryRefused, WardwatchError
from transforms.plan import PROVIDERS_SCHEMA, ChunkPlan, ChunkResult
from transforms.profile import profile_rules

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Source:
    """A landed delivery as the ingest needs it. ``open`` gives its plaintext as a stream."""

    delivery_id: str
    dataset: str
    period: Period
    rank: int
    sender: str
    agreement: str
    content_sha256: str
    received_at: datetime
    retain_until: date
    expected_records: int | None
    open: Callable[[], AbstractContextManager[Readable]]


def contract_digest(contract: Contract) -> str:
    """SHA-256 of everything a contract says."""
    return hashlib.sha256(canonical_text(contract)).hexdigest()


def canonical_text(contract: Contract) -> bytes:
    return contract.model_dump_json(by_alias=True).encode()


def items_digest(contract: Contract, objections: ObjectionList | None = None) -> str:
    """SHA-256 of what a contract says of identifiable items, and of the list of objections where one is honoured: if
    either changes, the vault gets a new generation."""
    items = [
        f.model_dump(mode="json", by_alias=True)
        for f in contract.fields
        if f.field_class in (FieldClass.IDENTIFIABLE, FieldClass.RECORD_KEY)
    ]
    text = canonical_json(
        {
            "items": [{key: str(value) for key, value in item.items()} for item in items],
            "record_key": list(contract.record_key),
            "issuer": list(contract.issuer),
            **({"objections": objections.digest} if objections is not None else {}),
        }
    )
    return hashlib.sha256(text).hexdigest()


class _Chunks:
    """The chunks of one reading, made in a thread of their own.

    ``frames`` hands the lake frames to DuckDB. After the last one the thread does ``afterwards``, while DuckDB still
    writes and the delivery is judged; :meth:`complete` waits for it. An error in the thread is kept and raised again
    by :meth:`raise_failure`, because on its way through DuckDB it would lose its type.
    """

    def __init__(self, make: Callable[[], Iterator[ChunkResult]], afterwards: Callable[[], None]) -> None:
        self._make = make
        self._afterwards = afterwards
        self._queue: queue.Queue[pl.DataFrame | None] = queue.Queue(maxsize=1)
        self._stop = threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="chunks", daemon=True)

    def _run(self) -> None:
        try:
            for result in self._make():
                if not self._put(result.coded):
                    return
            self._put(None)
            if not self._stop.is_set():
                self._afterwards()
        except BaseException as error:
            self.failure = error
            self._put(None)

    def _put(self, frame: pl.DataFrame | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(frame, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def frames(self) -> Iterator[pl.DataFrame]:
        self._thread.start()
        while (frame := self._queue.get()) is not None:
            yield frame
        if self.failure is not None:
            raise RuntimeError("the delivery could not be read to its end")

    def complete(self) -> None:
        """Wait for the end of the thread; raises what went wrong in it."""
        self._thread.join()
        self.raise_failure()

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def raise_failure(self) -> None:
        if isinstance(self.failure, OSError):
            raise storage_error(self.failure, "the vault or the linkage store") from None
        if self.failure is not None:
            raise self.failure


class Ingest:
    """Ingests deliveries into one workspace; used under the workspace lock."""

    def __init__(
        self,
        workspace: Workspace,
        lake: Lake,
        keyring: Keyring,
        officers: Officers,
        clock: Callable[[], datetime],
        progress: Progress = lambda _text, _rows: None,
        objections: ObjectionList | None = None,
    ) -> None:
        self._workspace = workspace
        self._objections = objections
        self._lake = lake
        self._keyring = keyring
        self._officers = officers
        self._clock = clock
        self._progress = progress

    def keep_as_superseded(self, source: Source, current: CommittedDelivery) -> CommittedDelivery:
        """Record a delivery that is older than the one in use: landed and listed, not read."""
        delivery = self._row(source, contract_id="", status="superseded", superseded_by=current.delivery_id)
        with self._lake.transaction():
            self._lake.write_books(delivery, _no_books())
        return delivery

    def keep_as_refused(self, source: Source) -> None:
        """Record that a delivery broke a critical rule, so that it is not read again every night."""
        delivery = self._row(source, contract_id="", status="refused")
        with self._lake.transaction():
            self._lake.write_books(delivery, _no_books())

    def ingest(
        self,
        source: Source,
        *,
        held: CommittedDelivery | None = None,
        replaced: CommittedDelivery | None = None,
    ) -> CommittedDelivery:
        """Read ``source`` and commit it. ``held``: its row, if it is ingested again (backfill). ``replaced``: the
        delivery that is in use in its place until now.

        Raises :class:`CriticalRuleBroken`, :class:`DeliveryRefused` and what the stores raise; nothing is kept.
        """
        duplicates: dict[str, pl.Series] = {}
        before = self._before(replaced)
        for _reading in range(2):
            with source.open() as stream:
                found = self._attempt(source, stream, held, replaced, before, duplicates)
            if isinstance(found, CommittedDelivery):
                return found
            # Repeated record keys are known only at the end; the file is read once more without them.
            duplicates = found
        raise DeliveryRefused("the delivery reads differently the second time")

    def _attempt(
        self,
        source: Source,
        stream: Readable,
        held: CommittedDelivery | None,
        replaced: CommittedDelivery | None,
        before: Before | None,
        duplicates: dict[str, pl.Series],
    ) -> CommittedDelivery | dict[str, pl.Series]:
        reading = Reading(
            stream,
            source.dataset,
            source.period,
            source.delivery_id,
            self._workspace.settings.chunk_bytes,
            self._objections,
        )
        contract, plan, totals = reading.contract, reading.plan, reading.totals
        digest = items_digest(contract, self._objections)
        keep_vault = held is not None and held.items_digest == digest
        generation = held.generation + (0 if keep_vault else 1) if held is not None else 1
        table = table_name(source.dataset, source.period) if contract.destination == "lake" else ""

        with ExitStack() as stack:
            vault = (
                None
                if keep_vault
                else stack.enter_context(self._vault_writer(source, contract, plan, generation))
            )
            linkage = self._linkage_writer(source, contract, plan)
            if linkage is not None:
                stack.enter_context(linkage)
            work = _Chunks(
                lambda: self._results(reading, vault, linkage, duplicates),
                afterwards=vault.write_waiting if vault is not None else lambda: None,
            )
            stack.callback(work.close)
            try:
                with self._lake.transaction():
                    if table:
                        self._lake.replace_table(table, plan.coded_columns, work.frames(), plan.null_columns)
                    else:
                        for _frame in work.frames():
                            pass
                    found = reading.later_duplicates(duplicates)
                    if found:
                        raise _ReadAgain(found)
                    profile = reading.profile(source.expected_records, before)
                    self._judge(contract, profile)
                    work.complete()
                    summary = vault.finish() if vault is not None else None
                    if linkage is not None:
                        linkage.finish()
                    delivery = self._committed(source, reading, summary, held, digest, generation, table)
                    self._lake.write_books(
                        delivery, _books(contract, source.delivery_id, totals, profile, replaced)
                    )
                    self._lake.rebuild_views()
            except _ReadAgain as again:
                return again.duplicates
            except WardwatchError:
                work.close()
                work.raise_failure()
                raise
            except RuntimeError:
                work.close()
                work.raise_failure()
                raise
        return delivery

    def _before(self, replaced: CommittedDelivery | None) -> Before | None:
        if replaced is None:
            return None
        return Before(replaced.rows_in, self._lake.providers_of(replaced.delivery_id))

    def _results(
        self,
        reading: Reading,
        vault: VaultWriter | None,
        linkage: LinkageWriter | PairsWriter | None,
        duplicates: Mapping[str, pl.Series],
    ) -> Iterator[ChunkResult]:
        for result in reading.results(self._keyring.linkage_token_key, duplicates):
            if vault is not None and result.vault is not None:
                vault.add(_with_record_key(result.vault))
            if isinstance(linkage, LinkageWriter) and result.linkage is not None:
                # A date known only to its month says nothing about thirty days.
                linkage.add(
                    result.linkage.filter(pl.col("known_to_day")).select(
                        pl.col("person_token").alias("token"), "date_of_death"
                    )
                )
            if isinstance(linkage, PairsWriter):
                linkage.add(result.coded.select(pl.col("old_person_token").alias("token"), "person_token"))
            self._progress(reading.plan.delivery_id, reading.totals.rows_in)
            yield result

    @staticmethod
    def _judge(contract: Contract, profile: pl.DataFrame) -> None:
        verdict = judge(contract, profile)
        if not verdict.passed:
            rules = ", ".join(verdict.critical[:8])
            raise CriticalRuleBroken(
                f"the delivery breaks {len(verdict.critical)} critical rule(s): {rules}",
                next_step="nothing was kept; `wardwatch check FILE` lists every rule with its counts",
            )

    # The stores

    def _linkage_writer(
        self, source: Source, contract: Contract, plan: ChunkPlan
    ) -> LinkageWriter | PairsWriter | None:
        root, key = self._workspace.zone("linkage"), self._keyring.linkage_file_key
        if plan.split_plan.death is not None:
            return LinkageWriter(root, source.delivery_id, key)
        if contract.destination == "linkage":
            return PairsWriter(root, source.delivery_id, key)
        return None

    def _vault_writer(
        self, source: Source, contract: Contract, plan: ChunkPlan, generation: int
    ) -> VaultWriter:
        return VaultWriter(
            self._workspace.zone("vault"),
            delivery_id=source.delivery_id,
            dataset=source.dataset,
            contract_id=contract.id,
            generation=generation,
            officers=self._officers,
            signing_key=self._keyring.manifest_signing_key,
            items={f.name: f.item.value for f in plan.split_plan.items if f.item is not None},
        )

    # The delivery row

    def _committed(
        self,
        source: Source,
        reading: Reading,
        summary: VaultSummary | None,
        held: CommittedDelivery | None,
        digest: str,
        generation: int,
        table: str,
    ) -> CommittedDelivery:
        totals = reading.totals
        return self._row(
            source,
            contract_id=reading.contract.id,
            contract_digest=contract_digest(reading.contract),
            table_name=table,
            rows_in=totals.rows_in,
            rows_kept=totals.rows_kept,
            rows_quarantined=totals.rows_in - totals.rows_kept - totals.rows_objected,
            rows_vaulted=totals.rows_vaulted,
            columns_delivered=len(reading.match.columns),
            items_digest=digest,
            generation=generation,
            vault_manifest_sha256=(
                summary.manifest_sha256
                if summary is not None
                else held.vault_manifest_sha256
                if held is not None
                else ""
            ),
        )

    def _row(
        self,
        source: Source,
        *,
        contract_id: str,
        status: str = "current",
        superseded_by: str = "",
        contract_digest: str = "",
        table_name: str = "",
        rows_in: int = 0,
        rows_kept: int = 0,
        rows_quarantined: int = 0,
        rows_vaulted: int = 0,
        columns_delivered: int = 0,
        items_digest: str = "",
        generation: int = 0,
        vault_manifest_sha256: str = "",
    ) -> CommittedDelivery:
        return CommittedDelivery(
            delivery_id=source.delivery_id,
            dataset=source.dataset,
            contract=contract_id,
            contract_digest=contract_digest,
            period=source.period.text,
            table_name=table_name,
            rank=source.rank,
            status=status,
            superseded_by=superseded_by,
            sender=source.sender,
            agreement=source.agreement,
            content_sha256=source.content_sha256,
            rows_in=rows_in,
            rows_kept=rows_kept,
            rows_quarantined=rows_quarantined,
            rows_vaulted=rows_vaulted,
            columns_delivered=columns_delivered,
            items_digest=items_digest,
            generation=generation,
            vault_manifest_sha256=vault_manifest_sha256,
            received_at=source.received_at.replace(tzinfo=None),
            committed_at=self._clock().replace(tzinfo=None),
            retain_until=source.retain_until,
        )


class _ReadAgain(Exception):
    """Rolls the transaction back: the file has repeated record keys and is read once more without them."""

    def __init__(self, duplicates: dict[str, pl.Series]) -> None:
        super().__init__("repeated record keys")
        self.duplicates = duplicates


def _with_record_key(vault: pl.DataFrame) -> pl.DataFrame:
    """The vault writer's shape: one column ``record_key``; keys of several fields are joined by a blank."""
    position = vault.columns.index("issuer")
    key = vault.columns[:position]
    return vault.select(
        pl.concat_str(key, separator=" ", ignore_nulls=True).alias("record_key")
        if len(key) > 1
        else pl.col(key[0]).alias("record_key"),
        *vault.columns[position:],
    )


def _no_books() -> Books:
    empty = pl.DataFrame()
    return Books(empty, empty, empty)


def _books(
    contract: Contract,
    delivery_id: str,
    totals: Totals,
    profile: pl.DataFrame,
    replaced: CommittedDelivery | None,
) -> Books:
    says = {rule.id: rule.says for rule in profile_rules(contract)}
    named = pl.lit(delivery_id).alias("delivery_id")
    quarantine = (
        pl.concat(totals.quarantine).sort("record_ordinal", "rule_id").with_columns(named)
        if totals.quarantine
        else pl.DataFrame()
    )
    providers = (
        pl.concat(totals.providers)
        .group_by("provider")
        .agg(pl.col("rows").sum())
        .sort("provider", nulls_last=True)
        if totals.providers
        else pl.DataFrame(schema=PROVIDERS_SCHEMA)
    )
    return Books(
        quarantine=quarantine,
        rule_result=profile.with_columns(
            named, pl.col("rule_id").replace_strict(says, return_dtype=pl.String).alias("says")
        ),
        provider_rows=providers.with_columns(named),
        superseded=(replaced.delivery_id,) if replaced is not None else (),
    )
