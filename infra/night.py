"""The night: what the nightly run and a backfill do, step by step, in one workspace.

Each method is one step of the story and leaves the workspace in a state from which the next run goes on: land
what waits in the inbox, ingest what is new, compute, publish, account. The run manifest in ``runs/`` is written
last; a run without one did not finish, and the next run does its work again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from infra import incidents, linkage, publish, vault
from infra.audit import AuditLog, read, second_sink
from infra.audit_intent import Found
from infra.audit_line import Event
from infra.code_version import code_version
from infra.commit_points import commit_point
from infra.computation import Computation, compute
from infra.containers import Control
from infra.engine import sweep_spill
from infra.files import private_by_default, remove_parts, storage_errors, write_atomic
from infra.inbox import READY, recognise, waiting
from infra.incidents import IncidentType, delivery_incident, file_refusals, raise_once
from infra.ingest import Ingest, Source
from infra.keyring import Keyring
from infra.lake import NOT_USED, CommittedDelivery, Lake
from infra.landing import Decision, Landed, Landing
from infra.objections import FOLDER as OBJECTIONS
from infra.objections import is_objection_list, load_list, objections_in_force
from infra.officers import Officers, refuse_private_keys
from infra.periods import Period, parse_period, table_name
from infra.publish import Publication
from infra.purposes import require_purpose
from infra.reading import checked_header, partyears, refuse_forbidden
from infra.receipts import Digest, Receipt, safe_name
from infra.register import Register, account_for_killed
from infra.reprocessing.reopening import tidy as tidy_requests
from infra.retention import restored
from infra.retention.schedule import retain_until
from infra.retention.tombstones import Tombstones
from infra.review.issue import tidy
from infra.review.permission import rules_of
from infra.review.receipt import raise_overdue
from infra.signing import canonical_json
from infra.vault import folder_name
from infra.workspace import Agreement, Workspace
from schemas.errors import (
    AuditUnavailable,
    DeliveryRefused,
    KeyUnavailable,
    NotPermitted,
    StorageFailed,
    StorageFull,
    WardwatchError,
    WorkspaceError,
)
from schemas.loader import load_contracts
from transforms.identifiers import EMAIL, NHS_NUMBER, POSTCODE, refuse_identifiers
from transforms.records import sniff_dialect

Say = Callable[[str], None]

# Files that changed this recently may still be arriving.
SETTLED_AFTER = timedelta(seconds=2)
# What a run does between two audit lines; nobody else can be at it while the run holds the workspace.
TWO_LINE_ACTIONS = ("landing.write", "lake.write", "published.write")


@dataclass(frozen=True)
class Problem:
    """One thing that went wrong with one delivery, as one line."""

    what: str
    code: str
    exit_code: int
    message: str

    def line(self) -> str:
        return f"{self.what}: {self.message}"


@dataclass
class Outcome:
    """What a run did. ``inputs``: digest of everything that the published result depends on."""

    landed: list[str] = field(default_factory=list)
    ingested: list[str] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    inputs: str = ""
    run_id: str = ""
    nothing_new: bool = False
    reason: str = ""

    @property
    def exit_code(self) -> int:
        return self.problems[0].exit_code if self.problems else 0


@dataclass(frozen=True)
class Stated:
    """What a person said of a file when landing it by hand."""

    dataset: str | None = None
    period: str | None = None
    sender: str | None = None
    agreement: str | None = None
    replaces: str | None = None
    reason: str | None = None


class Night:
    """One run in one workspace; made by :func:`begin`, which holds the writer lock meanwhile."""

    def __init__(
        self,
        workspace: Workspace,
        keyring: Keyring,
        register: Register,
        audit: AuditLog,
        *,
        purpose: str,
        role: str,
        clock: Callable[[], datetime],
        say: Say,
        progress: Callable[[str, int], None],
    ) -> None:
        self.workspace = workspace
        self._lake: Lake | None = None
        self.deliveries: list[CommittedDelivery] = []
        self.keyring = keyring
        self.register = register
        self.audit = audit
        self.purpose = purpose
        self.role = role
        self.clock = clock
        self.say = say
        self.progress = progress
        self.started = clock()
        self.outcome = Outcome()
        self.tombstones = Tombstones(())
        self.officers = Officers.of(register, self.started)
        self.landing = Landing(workspace.zone("landing"), keyring, self.officers, clock)

    # The lake

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The lake open for writing; afterwards :attr:`deliveries` holds its delivery rows, and readers see them."""
        settings = self.workspace.settings
        with Lake.open(
            self.workspace.zone("lake"),
            self.keyring.lake_metadata_key,
            memory_limit=settings.memory_limit,
            temp_folder=self.workspace.zone("tmp"),
            row_group_rows=settings.row_group_rows,
        ) as lake:
            self._lake = lake
            try:
                yield
                self.deliveries = lake.deliveries()
            finally:
                self._lake = None

    @property
    def lake(self) -> Lake:
        if self._lake is None:
            raise WorkspaceError("the lake is not open for writing")
        return self._lake

    # Rights

    def _may(self, action: str) -> None:
        """Raises :class:`NotPermitted`, after writing the refusal into the audit log."""
        try:
            require_purpose(self.purpose, self.role, action, self.started.date())
        except NotPermitted:
            self.audit.record(
                action, "workspace", purpose=self.purpose, decision="refuse", reason_code="purpose"
            )
            raise

    # Step 0: what killed runs left behind

    def sweep(self) -> None:
        """Remove what no delivery row stands for: staging folders, vaults and linkage files of killed runs."""
        self.audit.close_unfinished(TWO_LINE_ACTIONS, self._became_of)
        restored.check_lake(self.workspace, self.lake.deliveries(), self.tombstones, self.audit, self.started)
        committed = self._in_use_or_superseded()
        swept = [
            *vault.sweep(
                self.workspace.zone("vault"),
                {
                    folder_name(row.delivery_id, generation)
                    for row in committed
                    for generation in range(1, row.generation + 1)
                },
            ),
            *linkage.sweep(self.workspace.zone("linkage"), {row.delivery_id for row in committed}),
        ]
        publish.sweep(self.workspace.zone("published"))
        self.lake.clean()
        staged = (
            self.landing.sweep()
            + sweep_spill(self.workspace.zone("tmp"))
            + incidents.sweep(self.workspace.zone("incidents"))
            + remove_parts(self.workspace.zone("runs"))
        )
        if swept or staged:
            self.audit.record(
                "workspace.sweep", "workspace", purpose=self.purpose, counts={"removed": len(swept) + staged}
            )
            self.say(f"removed {len(swept) + staged} unfinished piece(s) of an earlier run")
        for delivery in self.landing.close_windows(
            self.started.date(), self.workspace.settings.landing_readable_days
        ):
            self.audit.record("landing.close_window", delivery, purpose=self.purpose)
            self.say(f"{delivery}: landing window closed, only the two officers can open it now")
        tidy(self.workspace, self.keyring.signers("manifest_signing"), self.audit, self.clock())
        tidy_requests(self.workspace, self.clock())
        self._file_incidents()

    def _file_incidents(self) -> None:
        """Enter what happened without anybody raising it: refused attempts, retention that is over, and lists that a
        hospital has not signed for."""
        register, now = self.workspace.zone("incidents"), self.clock()
        filed = file_refusals(register, read(self.audit.folder), audit=self.audit, now=now)
        rules = rules_of(self.workspace, self.register)
        filed += raise_overdue(self.workspace.zone("reviews"), register, rules, audit=self.audit, now=now)
        for receipt in self.landing.held():
            if receipt.retained_until < now.date():
                kind, delivery = IncidentType.OVERDUE_DESTRUCTION, receipt.delivery_id
                if (raised := raise_once(register, kind, delivery, audit=self.audit, now=now)) is not None:
                    filed.append(raised)
        for incident in filed:
            self.say(f"{incident.id}: {incident.type.value.replace('_', ' ')}, {incident.object}")

    def _became_of(self, intent: Event) -> Found:
        """What a killed run had done of an action whose second audit line is missing."""
        if intent.action == "landing.write":
            done = (self.workspace.zone("landing") / intent.object).is_dir()
        elif intent.action == "published.write":
            done = intent.object in publish.runs(self.workspace.zone("published"))
        else:
            done = any(
                row.delivery_id == intent.object and row.committed_at >= intent.time.replace(tzinfo=None)
                for row in self.lake.deliveries()
            )
        return "done" if done else "not_done"

    # Step 1: land

    def land_inbox(self) -> None:
        """Land every whole file of the inbox. A refused file stays where it is and is a problem of this run."""
        self._may("landing.write")
        for entry in waiting(self.workspace.zone("inbox"), self.clock() - SETTLED_AFTER):
            name = safe_name(entry.path.name)
            if entry.state != READY:
                self.say(f"inbox: {name}: left for the next run ({entry.state.replace('_', ' ')})")
                continue
            remove = [entry.path] + ([entry.control_path] if entry.control_path is not None else [])
            try:
                if is_objection_list(entry.path.name):
                    self.load_objections(entry.path, remove)
                    continue
                self.land_file(entry.path, Stated(), control=entry.control, remove=remove)
            except (AuditUnavailable, StorageFull, StorageFailed):
                raise
            except WardwatchError as error:
                self._problem(f"inbox: {name}", error)

    def load_objections(self, path: Path, remove: Iterable[Path]) -> None:
        """Make a sealed list of objections the one in force; it leaves the inbox once its tokens are durable."""
        folder = self.workspace.root / OBJECTIONS
        found = load_list(folder, path, self.keyring, audit=self.audit, now=self.clock())
        with storage_errors("the inbox"):
            for each in remove:
                each.unlink(missing_ok=True)
        self.say(f"objections: a list of {found.lines:,} lines is in force")

    def land_file(
        self, path: Path, stated: Stated, *, control: Control | None = None, remove: Iterable[Path] = ()
    ) -> list[Landed]:
        """Land one file; raises what :meth:`infra.landing.Landing.land` raises, after the audit line and, where
        it is one, the incident."""
        self._may("landing.write")
        for text, what in ((stated.sender, "the sender"), (stated.agreement, "the agreement")):
            if text is not None:
                refuse_identifiers(text, what, kinds=(NHS_NUMBER, POSTCODE, EMAIL))
        landed = self.landing.land(
            path,
            lambda name, head, found: self._decide(name, head, stated),
            control=control,
            replaces=stated.replaces,
            reason=stated.reason,
            remove=list(remove),
            refused=self._refused,
            committing=self._landing,
        )
        for delivery in landed:
            receipt = delivery.receipt
            if delivery.already:
                self.say(f"{receipt.delivery_id}: already landed, nothing happens")
                continue
            self.outcome.landed.append(receipt.delivery_id)
            self.say(f"{receipt.delivery_id}: landed, {receipt.content.bytes / 1e6:,.1f} MB")
        return landed

    @contextmanager
    def _landing(self, receipt: Receipt) -> Iterator[None]:
        """A delivery appears between its two audit lines."""
        with self.audit.action(
            "landing.write",
            receipt.delivery_id,
            purpose=self.purpose,
            counts={"bytes": receipt.content.bytes},
            digests={"content": receipt.content.sha256},
        ):
            yield

    def _decide(self, name: str, head: bytes, stated: Stated) -> Decision:
        dialect = sniff_dialect(head)
        refuse_forbidden(dialect.header)
        years = partyears(head, dialect)
        found = recognise(
            name,
            dialect.header,
            years,
            dataset=stated.dataset,
            period=stated.period,
            sender=stated.sender,
        )
        checked_header(found.dataset, dialect)
        agreement = self.workspace.settings.agreement
        if stated.agreement is not None and stated.agreement != agreement.reference:
            raise DeliveryRefused(
                "the agreement named for this delivery is not the one this workspace holds data under",
                next_step="check --agreement against settings.yaml",
            )
        today = self.clock().date()
        if not date.fromisoformat(agreement.starts) <= today <= date.fromisoformat(agreement.ends):
            raise DeliveryRefused(
                "the data sharing agreement of this workspace is not in force today",
                next_step="renew the agreement and its dates in settings.yaml",
            )
        if not _covers(agreement, parse_period(found.period)):
            raise DeliveryRefused(
                "the data are of a period that the data sharing agreement of this workspace does not cover",
                next_step="tell the sender; the period covered is data_from to data_until in settings.yaml",
            )
        return Decision(
            dataset=found.dataset,
            period=found.period,
            agreement=agreement.reference,
            retain_until=retain_until(found.dataset, today, agreement),
            sender=found.sender,
            snapshot_date=found.snapshot_date,
        )

    def _refused(self, received: Digest, refusal: DeliveryRefused) -> None:
        """The audit line of a refused file and, where it is one, the incident: one for each content, however many
        nights the file lies in the inbox."""
        self.audit.record(
            "landing.write",
            "inbox",
            purpose=self.purpose,
            decision="refuse",
            reason_code=refusal.code,
            digests={"received": received.sha256},
        )
        kind = delivery_incident(refusal)
        if kind is not None:
            register = self.workspace.zone("incidents")
            raise_once(register, kind, f"received-{received.sha256}", audit=self.audit, now=self.clock())

    # Step 2-6: ingest

    def ingest_new(self) -> None:
        """Ingest every landed delivery that has no row yet.

        Of several for one financial year the newest comes first: if it is taken, the older ones need not be read,
        and if it is refused, the next one is there to be used.
        """
        known = {row.delivery_id for row in self.lake.deliveries()}
        waiting = [receipt for receipt in self.landing.held() if receipt.delivery_id not in known]
        for receipt in waiting:
            if not self.landing.readable(receipt.delivery_id):
                self._problem(receipt.delivery_id, _closed([receipt.delivery_id]))
        new = sorted(
            (receipt for receipt in waiting if self.landing.readable(receipt.delivery_id)),
            key=lambda receipt: (_rank(receipt), receipt.received_at, receipt.delivery_id),
            reverse=True,
        )
        for receipt in sorted(new, key=lambda r: table_name(r.dataset, parse_period(r.period))):
            self._take(receipt)

    def _ingest_step(self) -> Ingest:
        objections = objections_in_force(self.workspace, self.keyring)
        return Ingest(
            self.workspace, self.lake, self.keyring, self.officers, self.clock, self.progress, objections
        )

    def _take(self, receipt: Receipt) -> None:
        source = self._source(receipt)
        current = self._current(source.dataset, source.period)
        step = self._ingest_step()
        if current is not None and self._is_newer(current, source):
            with self.audit.action("lake.write", source.delivery_id, purpose=self.purpose) as outcome:
                row = step.keep_as_superseded(source, current)
                outcome.reason_code = "superseded"
            self.outcome.superseded.append(row.delivery_id)
            self.say(f"{row.delivery_id}: older than {current.delivery_id}, kept as superseded, not used")
            return
        self._ingest(step, source, held=None, replaced=current)

    def _ingest(
        self,
        step: Ingest,
        source: Source,
        *,
        held: CommittedDelivery | None,
        replaced: CommittedDelivery | None,
    ) -> None:
        reading = "landing.reopen" if source.delivery_id in self.landing.reopened else "landing.read"
        for action in (reading, "vault.write", "linkage.write", "lake.write"):
            self._may(action)
        self.audit.record(reading, source.delivery_id, purpose=self.purpose)
        try:
            with self.audit.action("lake.write", source.delivery_id, purpose=self.purpose) as outcome:
                row = step.ingest(source, held=held, replaced=replaced)
                outcome.counts.update(
                    rows_in=row.rows_in,
                    rows_kept=row.rows_kept,
                    rows_quarantined=row.rows_quarantined,
                    rows_objected=row.rows_objected,
                    rows_vaulted=row.rows_vaulted,
                )
                if row.vault_manifest_sha256:
                    outcome.digests["vault_manifest"] = row.vault_manifest_sha256
        except DeliveryRefused as refusal:
            if held is None:
                step.keep_as_refused(source)
            self._problem(source.delivery_id, refusal)
            return
        self.outcome.ingested.append(row.delivery_id)
        quarantined = f", {row.rows_quarantined:,} quarantined" if row.rows_quarantined else ""
        quarantined += f", {row.rows_objected:,} left out for objections" if row.rows_objected else ""
        vaulted = (
            f"{row.rows_vaulted:,} with identifiable items, in the vault"
            if row.rows_vaulted
            else "none with identifiable items, so its vault is empty"
        )
        self.say(f"{row.delivery_id}: {row.rows_kept:,} records in use{quarantined}; {vaulted}")

    def _source(self, receipt: Receipt) -> Source:
        return Source(
            delivery_id=receipt.delivery_id,
            dataset=receipt.dataset,
            period=parse_period(receipt.period),
            rank=_rank(receipt),
            sender=receipt.sender or "",
            agreement=receipt.agreement,
            content_sha256=receipt.content.sha256,
            received_at=_moment(receipt.received_at),
            retain_until=receipt.retained_until,
            expected_records=receipt.expected_records,
            open=lambda: self.landing.open_plaintext(receipt.delivery_id),
        )

    def _current(self, dataset: str, period: Period) -> CommittedDelivery | None:
        table = table_name(dataset, period)
        for row in self.lake.deliveries():
            if (
                row.status == "current"
                and row.dataset == dataset
                and table_name(dataset, parse_period(row.period)) == table
            ):
                return row
        return None

    @staticmethod
    def _is_newer(current: CommittedDelivery, source: Source) -> bool:
        """Whether what is in use is newer than ``source``. Of two with the same rank the later received wins."""
        return (current.rank, current.received_at) > (source.rank, source.received_at.replace(tzinfo=None))

    def _in_use_or_superseded(self) -> list[CommittedDelivery]:
        return [row for row in self.lake.deliveries() if row.status != "refused"]

    # Backfill

    def backfill(self, dataset: str, first: date, last: date, *, dry_run: bool) -> list[CommittedDelivery]:
        """Ingest again every delivery whose financial year overlaps ``first`` to ``last``: those in use, and those
        that a critical rule refused, which a corrected contract may let through."""
        chosen = []
        for row in self.lake.deliveries():
            if row.status in NOT_USED or row.dataset != dataset:
                continue
            bounds = parse_period(row.period).bounds
            if bounds is None or (bounds[0] <= last and first <= bounds[1]):
                chosen.append(row)
        if not dry_run:
            self._ingest_again(chosen)
        return chosen

    def reprocess(self, deliveries: Collection[str]) -> list[CommittedDelivery]:
        """Ingest again the deliveries that the two officers have opened for this run, which may be past their window
        and, where no run could read them in time, without a row."""
        rows = {row.delivery_id: row for row in self.lake.deliveries()}
        chosen = [row for name, row in rows.items() if name in deliveries]
        unused = [row.delivery_id for row in chosen if row.status in NOT_USED]
        if unused:
            raise NotPermitted(
                f"no run uses {', '.join(unused)} any more",
                next_step="make a new request without it",
                reason_code="not_in_use",
            )
        for delivery in sorted(set(deliveries) - rows.keys()):
            self._take(self.landing.receipt(delivery))
        self._ingest_again(chosen)
        return chosen

    def _ingest_again(self, chosen: Iterable[CommittedDelivery]) -> None:
        chosen = list(chosen)
        closed = [row.delivery_id for row in chosen if not self.landing.readable(row.delivery_id)]
        if closed:  # before the first of them is touched
            raise _closed(closed)
        step = self._ingest_step()
        for row in chosen:
            receipt = self.landing.receipt(row.delivery_id)
            if row.status == "refused":
                self._take(receipt)
            else:
                self._ingest(step, self._source(receipt), held=row, replaced=None)

    # Step 7-9: compute, publish, account

    def inputs_digest(self) -> str:
        """SHA-256 over the deliveries in use, the contracts, the code and the settings that change a number."""
        rows = [row for row in self.deliveries if row.status != "refused"]
        text = canonical_json(
            {
                "deliveries": [
                    [row.delivery_id, row.status, row.contract_digest, row.superseded_by, row.items_digest]
                    for row in rows
                ],
                "refused": [row.delivery_id for row in self.deliveries if row.status == "refused"],
                "contracts": sorted(load_contracts()),
                "code": code_version(),
                "providers": _file_digest(self.workspace.root / "providers.csv"),
            }
        )
        return hashlib.sha256(text).hexdigest()

    def is_published(self, inputs: str) -> bool:
        """Whether a finished run has published exactly these inputs, and is what readers see."""
        last = last_manifest(self.workspace)
        current = publish.current_run(self.workspace.zone("published"))
        return last is not None and last["inputs"] == inputs and last["run_id"] == current

    def compute(self) -> Computation:
        self._may("lake.read")
        self._may("linkage.read")
        current = [row for row in self.deliveries if row.status == "current"]
        self.audit.record("lake.read", "lake", purpose=self.purpose, counts={"deliveries": len(current)})
        self.audit.record("linkage.read", "linkage", purpose=self.purpose)
        return compute(self.workspace, self.deliveries, self.keyring, self.say)

    def publish(self, computation: Computation, inputs: str) -> Publication:
        self._may("published.write")
        run_id = f"{self.started.astimezone(UTC):%Y%m%dT%H%M%SZ}-{inputs[:8]}"
        run = {
            "started_at": self.started.astimezone(UTC).replace(tzinfo=None),
            "ended_at": self.clock().astimezone(UTC).replace(tzinfo=None),
            "code_version": code_version()[:16],
            "inputs": inputs,
            "purpose": self.purpose,
        }
        with self.audit.action("published.write", run_id, purpose=self.purpose) as outcome:
            found = publish.publish(
                self.workspace.zone("published"),
                run_id,
                computation.tables,
                run,
                computation.record_date,
                keep=self.workspace.settings.keep_runs,
            )
            outcome.counts["values"] = computation.tables["indicator_value"].height
            outcome.digests["database"] = found.outputs[publish.DATABASE]["canonical_digest"]
        self.outcome.run_id = run_id
        return found

    def account(self, computation: Computation, publication: Publication, inputs: str) -> None:
        """Write the run manifest, last of all, and a signed checkpoint of the audit log."""
        manifest = {
            "run_id": self.outcome.run_id,
            "purpose": self.purpose,
            "started_at": self.started.astimezone(UTC).isoformat(),
            "ended_at": self.clock().astimezone(UTC).isoformat(),
            "inputs": inputs,
            "code_version": code_version(),
            "lake_snapshot": computation.lake_snapshot,
            "deliveries": [_for_manifest(row) for row in self.deliveries],
            "landed": self.outcome.landed,
            "ingested": self.outcome.ingested,
            "superseded": self.outcome.superseded,
            "reason": self.outcome.reason,
            "problems": [asdict(problem) for problem in self.outcome.problems],
            "stages": computation.counts,
            "outputs": publication.outputs,
        }
        commit_point("run.manifest.before")
        write_manifest(self.workspace, self.outcome.run_id, manifest)
        commit_point("run.manifest.after")
        self.audit.record("run.finish", self.outcome.run_id, purpose=self.purpose)
        self.checkpoint()

    def checkpoint(self) -> None:
        """Sign the audit log as it stands."""
        self.audit.checkpoint_with(self.keyring.audit_signing_key)

    def _problem(self, what: str, error: WardwatchError) -> None:
        problem = Problem(what, error.code, error.exit_code, str(error))
        self.outcome.problems.append(problem)
        self.say(problem.line())


@contextmanager
def begin(
    workspace: Workspace,
    *,
    purpose: str,
    person: str,
    role: str,
    clock: Callable[[], datetime],
    say: Say = lambda _line: None,
    progress: Callable[[str, int], None] = lambda _delivery, _rows: None,
) -> Iterator[Night]:
    """Open the workspace for writing and give the night. Raises :class:`Busy` if another run has it."""
    keyring = Keyring.open(workspace.zone("keys"))
    register = Register.load(workspace.zone("keys"))
    register.require_recorded(workspace.zone("audit"))
    refuse_private_keys(workspace.zone("officers"), register)
    audit = AuditLog(
        workspace.zone("audit"),
        clock,
        person,
        role,
        second_sink=second_sink(workspace.settings.second_audit_sink),
    )
    with private_by_default(), workspace.writer_lock():
        account_for_killed(workspace.zone("keys"), audit)
        night = Night(
            workspace,
            keyring,
            register,
            audit,
            purpose=purpose,
            role=role,
            clock=clock,
            say=say,
            progress=progress,
        )
        # Before the lake is opened: a backup must not bring back what was destroyed.
        night.tombstones = restored.at_start(workspace, keyring, night.landing, audit, clock, say=say)
        night.landing = replace(night.landing, destroyed=frozenset(night.tombstones))
        yield night


def _covers(agreement: Agreement, period: Period) -> bool:
    """Whether the data of a delivery lie in the period of the agreement, by what its name states."""
    if period.bounds is None:
        return True
    first, last = period.bounds[0], period.data_until or period.bounds[1]
    starts = not agreement.data_from or date.fromisoformat(agreement.data_from) <= first
    return starts and (not agreement.data_until or last <= date.fromisoformat(agreement.data_until))


# Manifests --------------------------------------------------------------------------------------------


def write_manifest(workspace: Workspace, run_id: str, manifest: Mapping[str, Any]) -> None:
    text = json.dumps(manifest, sort_keys=True, indent=1, default=str)
    write_atomic(workspace.zone("runs") / f"{run_id}.json", text.encode())


def last_manifest(workspace: Workspace) -> dict[str, Any] | None:
    """The manifest of the last finished run, or None."""
    found = sorted(workspace.zone("runs").glob("*.json"))
    if not found:
        return None
    # Names begin with the second of the start; runs of one second are told apart by when they ended.
    second = found[-1].name.partition("-")[0]
    latest = [json.loads(path.read_text(encoding="utf-8")) for path in found if path.name.startswith(second)]
    manifest: dict[str, Any] = max(latest, key=lambda run: str(run["ended_at"]))
    return manifest


def _for_manifest(row: CommittedDelivery) -> dict[str, Any]:
    keep = (
        "delivery_id",
        "dataset",
        "period",
        "status",
        "superseded_by",
        "contract",
        "contract_digest",
        "content_sha256",
        "rows_in",
        "rows_kept",
        "rows_quarantined",
        "rows_vaulted",
        "generation",
        "vault_manifest_sha256",
    )
    return {name: getattr(row, name) for name in keep}


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _closed(deliveries: list[str]) -> KeyUnavailable:
    many = len(deliveries) > 1
    return KeyUnavailable(
        f"the landing window of {', '.join(deliveries)} is closed",
        next_step="the two officers together can open "
        f"{'them' if many else 'it'}: `wardwatch reprocess request {' '.join(deliveries)}`; or ask for a re-delivery",
    )


def _rank(receipt: Receipt) -> int:
    """Order among the deliveries of one dataset and financial year: the month of submission, or the day of the
    snapshot (the day it was received, where its name states none)."""
    month = parse_period(receipt.period).month
    if month is not None:
        return month
    day = receipt.snapshot_date or receipt.received_at[:10]
    return int(str(day).replace("-", ""))
