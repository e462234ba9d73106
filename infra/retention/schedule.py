"""Schedule: until when each delivery may be kept, why, and what has been kept too long.

A delivery is kept until the earliest of the end of the agreement, the day in its receipt, and its class rule in
``schemas/policy/retention.yaml``. What was superseded falls due 30 days after that, for its successor does its work.
Sources: Information Security and Governance Policy, November 2016 (every record has a period; to keep longer is
itself a risk); code of practice on confidential personal information (months, and months of review).
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

from infra.lake import CommittedDelivery
from infra.receipts import Receipt
from infra.retention.log import done
from infra.workspace import Agreement
from schemas.errors import WorkspaceError
from schemas.retention_policy import RetentionPolicy, retention_policy

State = Literal["overdue", "due_soon", "kept"]
SUPERSEDED = "superseded"
RETENTION_ENDED = "retention_ended"
_ORDER: tuple[State, ...] = ("overdue", "due_soon", "kept")


def add_months(day: date, months: int) -> date:
    """The same day of the month ``months`` later, or that month's last day where it has no such day."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    try:
        return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))
    except ValueError:
        return date.max


def retain_until(
    dataset: str, received_on: date, agreement: Agreement, policy: RetentionPolicy | None = None
) -> date:
    """The last day on which a delivery of ``dataset`` may be kept that is received on ``received_on``.

    Raises :class:`~schemas.errors.DeliveryRefused` for a dataset without a rule: it must not be landed, and
    :class:`WorkspaceError` for an agreement whose end is no day.
    """
    rule = (policy or retention_policy()).rule_for(dataset)
    return min(
        end_of(agreement),
        received_on + timedelta(days=agreement.retention_days),
        add_months(received_on, rule.months),
    )


def end_of(agreement: Agreement) -> date:
    """The last day of the agreement. Raises :class:`WorkspaceError`."""
    try:
        return date.fromisoformat(agreement.ends)
    except ValueError:
        raise WorkspaceError(
            "the end of the agreement in settings.yaml is no day", next_step="write it as YYYY-MM-DD"
        ) from None


@dataclass(frozen=True)
class Due:
    """A delivery and the last day on which it may be kept. ``why``: what sets that day. ``status``: its status in
    the lake, ``landed`` where it has no row there. ``overdue`` begins on the day after ``until``."""

    delivery_id: str
    dataset: str
    period: str
    status: str
    until: date
    why: Literal["retention_ended", "superseded"]
    state: State
    held: bool = False

    def days_over(self, today: date) -> int:
        """Days since ``until``, negative before it."""
        return (today - self.until).days


def superseded_on(row: CommittedDelivery, rows: Sequence[CommittedDelivery], audit_folder: Path) -> date:
    """The day on which ``row`` was superseded.

    It is the day on which the audit log says that its successor was written for the first time, or that it was kept
    as superseded itself. A backfill of the successor, which gives that row a later time, does not put it off. Where
    the log does not say, the times in the lake's rows count.
    """
    objects = {row.superseded_by or row.delivery_id, row.delivery_id}
    for event in done(audit_folder, "lake.write"):
        if event.object in objects:
            own = event.object == row.delivery_id
            if not own or event.reason_code == SUPERSEDED:
                return max(event.time.date(), row.received_at.date())
    successors = [other for other in rows if other.delivery_id == row.superseded_by]
    return max([row.committed_at.date(), *(other.committed_at.date() for other in successors)])


def schedule(
    receipts: Iterable[Receipt],
    rows: Sequence[CommittedDelivery],
    *,
    today: date,
    agreement: Agreement,
    audit_folder: Path,
    held: Iterable[str] = (),
    policy: RetentionPolicy | None = None,
) -> list[Due]:
    """Every delivery that is landed or in the lake, the one that is due first in front, overdue ones before all.

    ``held``: the deliveries under a hold. Raises as :func:`end_of` does.
    """
    policy = policy or retention_policy()
    held = frozenset(held)
    by_id = {row.delivery_id: row for row in rows}
    received = {receipt.delivery_id: receipt for receipt in receipts}
    found = []
    for delivery_id in sorted({*by_id, *received}):
        row, receipt = by_id.get(delivery_id), received.get(delivery_id)
        dataset = receipt.dataset if receipt else by_id[delivery_id].dataset
        ends = {RETENTION_ENDED: _until(row, receipt, dataset, agreement, policy)}
        if row is not None and row.status == SUPERSEDED:
            since = superseded_on(row, rows, audit_folder)
            ends[SUPERSEDED] = since + timedelta(days=policy.limit("superseded_days"))
        why = min(ends, key=lambda reason: ends[reason])
        found.append(
            Due(
                delivery_id=delivery_id,
                dataset=dataset,
                period=receipt.period if receipt else by_id[delivery_id].period,
                status=row.status if row else "landed",
                until=ends[why],
                why="superseded" if why == SUPERSEDED else "retention_ended",
                state=_state(ends[why], today, policy),
                held=delivery_id in held,
            )
        )
    return sorted(found, key=lambda due: (_ORDER.index(due.state), due.until, due.delivery_id))


def _until(
    row: CommittedDelivery | None,
    receipt: Receipt | None,
    dataset: str,
    agreement: Agreement,
    policy: RetentionPolicy,
) -> date:
    """The earliest of what its receipt or row said and of what agreement and class rule say today: a period that was
    shortened later counts for what is held already, one that was extended does not."""
    days = [end_of(agreement)]
    received_on = None
    if receipt is not None:
        days.append(receipt.retained_until)
        received_on = receipt.received_on
    if row is not None:
        days.append(row.retain_until)
        received_on = received_on or row.received_at.date()
    rules = [rule for rule in policy.rules if dataset in rule.datasets]
    if rules and received_on is not None:
        days.append(add_months(received_on, rules[0].months))
    return min(days)


def _state(until: date, today: date, policy: RetentionPolicy) -> State:
    if until < today:
        return "overdue"
    return "due_soon" if until <= today + timedelta(days=policy.limit("notice_days")) else "kept"


def overdue_lines(dues: Iterable[Due]) -> list[str]:
    """One line of what is wrong for each delivery that is kept too long, for ``status`` and the nightly report."""
    return [
        f"{due.delivery_id}: "
        + ("it was superseded and " if due.why == SUPERSEDED else "")
        + f"should have been destroyed after {due.until}"
        + (", and is under a hold" if due.held else "")
        for due in dues
        if due.state == "overdue"
    ]


def reviews_due(today: date, policy: RetentionPolicy | None = None) -> Mapping[str, bool]:
    """Code of each rule -> whether this is one of the months in which its owner reviews it."""
    return {rule.code: today.month in rule.review_months for rule in (policy or retention_policy()).rules}


def next_review(today: date, review_months: Sequence[int]) -> date:
    """The first day of the next month of review, this month's if it is one."""
    months = [date(today.year + later, month, 1) for later in (0, 1) for month in sorted(review_months)]
    return next(day for day in months if (day.year, day.month) >= (today.year, today.month))
