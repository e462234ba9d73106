"""In use: what still needs a delivery, and taking a delivery out of use.

A delivery that the published run was computed from is not destroyed: nobody could say any more what the numbers rest
on. It is withdrawn first (its table leaves the lake, as when it is superseded), a night computes and publishes without
it, and then it can go. A case review that is under way needs the vault, so it ends first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from infra import publish
from infra.audit import AuditLog
from infra.engine import engine_errors
from infra.lake import CommittedDelivery, Lake
from infra.register import Register
from infra.reprocessing.case import ReprocessingCase
from infra.reprocessing.documents import REPROCESSING
from infra.retention.documents import Signed, Withdrawal
from infra.retention.holds import checked_reason
from infra.retention.permission import signers_of
from infra.retention.records import Records
from infra.review.case import ZONE as REVIEWS
from infra.review.case import Case, cases, every
from infra.review.documents import stamp
from infra.review.permission import rules_of
from infra.review.standing import came_to_nothing, state_now
from infra.signing import SigningKey
from infra.workspace import Workspace
from schemas.errors import NotPermitted, UsageError, WardwatchError
from schemas.retention_policy import RetentionPolicy

WITHDRAWN = "withdrawn"
WITHDRAW = "retention.withdraw"
CASE_ENDED = frozenset({"issued", "received", "refused", "withdrawn", "expired"})


def refuse_in_use(workspace: Workspace, row: CommittedDelivery | None, delivery_id: str) -> None:
    """Raise :class:`NotPermitted` (``in_use``) if the lake uses the delivery, or the published run did."""
    if row is not None and row.status == "current":
        raise NotPermitted(
            f"{delivery_id} is in use: the next run would be computed from it",
            next_step="`wardwatch retention withdraw DELIVERY --reason TEXT`, then `wardwatch nightly`, "
            "then destroy it",
            reason_code="in_use",
        )
    run = publish.current_run(workspace.zone("published"))
    if run is not None and delivery_id in used_by(workspace, run):
        raise NotPermitted(
            f"the published run {run} was computed from {delivery_id}",
            next_step="run `wardwatch nightly`, which publishes without it, then destroy it",
            reason_code="in_use",
        )


def used_by(workspace: Workspace, run: str) -> frozenset[str]:
    """The deliveries that ``run`` was computed from, by its manifest.

    Raises :class:`UsageError` if there is none: then nobody can say what the run rests on.
    """
    try:
        manifest = json.loads((workspace.zone("runs") / f"{run}.json").read_bytes())
        return frozenset(
            str(row["delivery_id"]) for row in manifest["deliveries"] if row["status"] == "current"
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            "the published run has no manifest that says what it was computed from",
            next_step="run `wardwatch nightly`, which publishes anew",
        ) from None


def open_cases(
    workspace: Workspace, register: Register, delivery_id: str, now: datetime
) -> Iterator[tuple[Case, str]]:
    """(case, its state) of every case review that has not ended and names the delivery.

    A case whose state cannot be told, because a document of it was changed, counts as open (state ``unknown``).
    """
    rules = rules_of(workspace, register)
    for case in cases_naming(workspace.root / REVIEWS, delivery_id):
        try:
            state: str = state_now(case, rules, now)
        except WardwatchError:
            state = "unknown"
        if state not in CASE_ENDED and not came_to_nothing(case, state, now):
            yield case, state


def cases_naming(reviews: Path, delivery_id: str) -> Iterator[Case]:
    """Every case whose cohort has records of the delivery; one whose request cannot be read is among them."""
    for case in cases(reviews):
        try:
            named = {delivery.delivery_id for delivery in case.request().document.cohort.deliveries}
        except WardwatchError:
            named = {delivery_id}
        if delivery_id in named:
            yield case


def requests_naming(reprocessing: Path, delivery_id: str) -> Iterator[ReprocessingCase]:
    """Every request to open the delivery again; one that cannot be read is among them."""
    for case in every(ReprocessingCase, reprocessing):
        try:
            named = {delivery.delivery_id for delivery in case.request().document.deliveries}
        except WardwatchError:
            named = {delivery_id}
        if delivery_id in named:
            yield case


def refuse_open_request(workspace: Workspace, register: Register, delivery_id: str, now: datetime) -> None:
    """Raise :class:`NotPermitted` (``open_case``) while two officers may still let the delivery be opened again."""
    rules = rules_of(workspace, register)
    for case in requests_naming(workspace.root / REPROCESSING, delivery_id):
        try:
            state: str = state_now(case, rules, now)
        except WardwatchError:
            state = "unknown"
        if state in ("requested", "approved", "unknown"):
            raise NotPermitted(
                f"the request {case.case} to open {delivery_id} again is {state}",
                next_step="wait until it is used or withdrawn (`wardwatch reprocess show`)",
                reason_code="open_case",
            )


def refuse_open_case(workspace: Workspace, register: Register, delivery_id: str, now: datetime) -> None:
    """Raise :class:`NotPermitted` (``open_case``) if a case review that is under way needs the delivery."""
    for case, state in open_cases(workspace, register, delivery_id, now):
        raise NotPermitted(
            f"case {case.case} is {state} and needs {delivery_id}",
            next_step="wait until it is issued or withdrawn (`wardwatch review show`)",
            reason_code="open_case",
        )


# Taking out of use ------------------------------------------------------------------------------------


def take_out(lake: Lake, delivery_id: str) -> None:
    """Inside :meth:`~infra.lake.Lake.transaction`: the delivery's table leaves the lake, and its row says so.

    Vault, landing copy and linkage file stay. Raises :class:`UsageError` unless the delivery is in use.
    """
    rows = {row.delivery_id: row for row in lake.deliveries()}
    row = rows.get(delivery_id)
    if row is None or row.status != "current":
        raise UsageError("only a delivery that is in use can be taken out of use")
    with engine_errors("taking a delivery out of use"):
        execute = lake._connection.execute
        execute(
            "UPDATE lake.delivery SET status = $status, table_name = '' WHERE delivery_id = $id",
            {"status": WITHDRAWN, "id": delivery_id},
        )
        drop_table(lake, row.dataset, row.table_name)


def drop_table(lake: Lake, dataset: str, table: str) -> None:
    """Inside a transaction: drop ``table``, and the view of ``dataset`` if no table is left for it."""
    execute = lake._connection.execute
    if table:
        execute(f"DROP TABLE IF EXISTS lake.{table}")
    left = {row.dataset for row in lake.deliveries() if row.table_name}
    if dataset not in left:
        execute(f"DROP VIEW IF EXISTS lake.{dataset}")
    lake.rebuild_views()


def withdraw(
    workspace: Workspace,
    lake: Lake,
    delivery_id: str,
    reason: str,
    key: SigningKey,
    *,
    register: Register,
    policy: RetentionPolicy,
    audit: AuditLog,
    now: datetime,
) -> Signed[Withdrawal]:
    """Take ``delivery_id`` out of use, signed by its owner. The next night publishes without it.

    Raises :class:`NotPermitted` unless the key is the IAO's or the SIRO's, :class:`UsageError` if the delivery is not
    in use or the reason says nothing, and :class:`~schemas.errors.IdentifierInText`.
    """
    signed = Signed(
        Withdrawal(
            delivery_id=delivery_id,
            person=register.signer(key.key_id, now).person,
            reason=checked_reason(reason),
            made_at=stamp(now),
        )
    ).sign(key)
    with audit.action(WITHDRAW, delivery_id, purpose="retention", digests={"withdrawal": signed.sha256}):
        signers_of(signed, "withdrawal", register, policy, now)
        with lake.transaction():
            take_out(lake, delivery_id)
            Records.of(workspace).put(signed, f"{signed.sha256}.json")
    return signed


def leave_out_ended(lake: Lake, ended: list[str], audit: AuditLog) -> list[str]:
    """Take every delivery of ``ended`` out of use whose retention is over: what may not be kept may not be used.

    For the night, inside its writer lock. It can be undone while the landing copy is there, so it needs no signature;
    destroying needs two. Returns what was taken out.
    """
    in_use = {row.delivery_id for row in lake.deliveries() if row.status == "current"}
    taken = []
    for delivery_id in ended:
        if delivery_id in in_use:
            with audit.action(WITHDRAW, delivery_id, purpose="retention"), lake.transaction():
                take_out(lake, delivery_id)
            taken.append(delivery_id)
    return taken
