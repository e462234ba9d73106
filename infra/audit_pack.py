"""The account that others are owed: an audit pack for the supplier of the data, a report for the Information
Governance Group.

Both are one page over one period, made from the same: signed receipts, the agreement, the register of persons, the
registers of incidents and requests, and the audit log, which is verified first. The supplier audits recipients against
the framework contract, the agreement and their own policies, and wants to see each (NHS England, data sharing
audits). The group is chaired by the SIRO and the Caldicott Guardian and wants to know what it has to decide
(Information Security and Governance Policy, November 2016). Ids of junior staff are replaced by numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Literal

from infra.audit import Event
from infra.audit_checkpoint import newest_checkpoint
from infra.audit_report import Review, review
from infra.incidents import Incident, list_incidents
from infra.keyring import Keyring
from infra.objections import FOLDER as OBJECTIONS
from infra.objections import ObjectionList, read_list
from infra.officers import staff_roles
from infra.public_register import (
    Holdings,
    checked_events,
    holdings,
    keep_record,
    receipts,
    record_name,
    render,
)
from infra.purposes import load_roles, overdue_purposes
from infra.receipts import Receipt
from infra.register import Register
from infra.requests.register import FOLDER as REQUESTS
from infra.requests.register import Request, list_requests
from infra.workspace import Workspace
from schemas.errors import UsageError

Audience = Literal["data-supplier", "governance-group"]
TITLES: dict[Audience, str] = {
    "data-supplier": "Audit pack for the data supplier",
    "governance-group": "Report to the Information Governance Group",
}
RECORD: dict[Audience, str] = {
    "data-supplier": "Data supplier audit pack",
    "governance-group": "Information Governance Group",
}
SOON = timedelta(days=60)


@dataclass(frozen=True)
class RoleTraining:
    """How many hold a role, and of how many the training is in date."""

    title: str
    held: int
    in_date: int


@dataclass(frozen=True)
class Refused:
    """Refused attempts at one action for one reason in the period."""

    action: str
    reason: str
    times: int


@dataclass(frozen=True)
class Account:
    """What happened from ``since`` to ``until`` (both included), and how things stand at ``now``."""

    since: date
    until: date
    now: datetime
    held: Holdings
    deliveries: tuple[Receipt, ...]
    overdue: tuple[Receipt, ...]
    access: Review
    reviews: tuple[tuple[str, str, int], ...]
    retention: tuple[tuple[str, str, int], ...]
    refused: tuple[Refused, ...]
    incidents: tuple[Incident, ...]
    training: tuple[RoleTraining, ...]
    requests: tuple[Request, ...]
    objections: ObjectionList | None
    questions: int
    events: int
    last_event: str
    checkpointed: int
    decisions: tuple[str, ...]


def account(
    workspace: Workspace, keyring: Keyring, register: Register, *, since: date, until: date, now: datetime
) -> Account:
    """The account of ``workspace`` over a period of days (UTC).

    Raises :class:`UsageError` for a period that ends before it begins, :class:`IntegrityError` if the log, a receipt
    or a register is not what was written: nothing is reported from what may have been changed.
    """
    if until < since:
        raise UsageError("the period ends before it begins")
    events = checked_events(workspace, keyring)
    within = [
        event
        for event in events
        if datetime.combine(since, time(), UTC)
        <= event.time
        < datetime.combine(until, time(), UTC) + timedelta(days=1)
    ]
    held = receipts(workspace, keyring)
    incidents = [
        each
        for each in list_incidents(workspace.zone("incidents"))
        if each.is_open or since <= each.raised.date() <= until
    ]
    requests = list_requests(workspace.root / REQUESTS)
    today = now.date()
    overdue = [receipt for receipt in held if receipt.retained_until < today]
    training = _training(register, now)
    checkpoint = newest_checkpoint(workspace.zone("audit"))
    refusals = Counter((e.action, e.reason_code) for e in within if e.decision == "refuse")
    return Account(
        since=since,
        until=until,
        now=now,
        held=holdings(workspace, keyring, events),
        deliveries=tuple(held),
        overdue=tuple(overdue),
        access=review(within, "item", mask=True),
        reviews=_counted(within, "review"),
        retention=_counted(within, "retention"),
        refused=tuple(Refused(action, reason, times) for (action, reason), times in sorted(refusals.items())),
        incidents=tuple(incidents),
        training=training,
        requests=tuple(r for r in requests if r.is_open or since <= r.received <= until),
        objections=read_list(workspace.root / OBJECTIONS, keyring),
        questions=sum(e.action == "lake.query" and e.reason_code == "answered" for e in within),
        events=len(events),
        last_event=events[-1].h if events else "",
        checkpointed=checkpoint[0] if checkpoint else 0,
        decisions=tuple(_to_decide(workspace, today, overdue, incidents, requests, training)),
    )


def _counted(events: Sequence[Event], action: str) -> tuple[tuple[str, str, int], ...]:
    """Action, how it ended, how often; what was only announced is left out."""
    found = Counter(
        (event.action, event.decision)
        for event in events
        if event.action.startswith(f"{action}.") and event.reason_code not in ("begun", "intent")
    )
    return tuple((name, decision, times) for (name, decision), times in sorted(found.items()))


def _training(register: Register, now: datetime) -> tuple[RoleTraining, ...]:
    roles = load_roles()
    return tuple(
        RoleTraining(roles[role].title, len(register.in_office(role, now)), len(register.holders(role, now)))
        for role in staff_roles()
        if register.in_office(role, now)
    )


def _to_decide(
    workspace: Workspace,
    today: date,
    overdue: Sequence[Receipt],
    incidents: Sequence[Incident],
    requests: Sequence[Request],
    training: Sequence[RoleTraining],
) -> list[str]:
    """One sentence for each thing that somebody has to decide or do."""
    agreement = workspace.settings.agreement
    found = []
    ends = date.fromisoformat(agreement.ends)
    if ends < today:
        found.append(f"The agreement {agreement.reference} ended on {agreement.ends}.")
    elif ends - today <= SOON:
        found.append(f"The agreement {agreement.reference} ends on {agreement.ends}.")
    found += [
        f"{receipt.delivery_id} is kept beyond its retention ({receipt.retain_until}): "
        "order its destruction, or a hold."
        for receipt in overdue
    ]
    found += [
        f"Incident {each.id} ({each.type.value.replace('_', ' ')}) of {each.raised:%Y-%m-%d} is open."
        for each in incidents
        if each.is_open
    ]
    found += [
        f"{each.id} ({each.kind.replace('_', ' ')}) was due on {each.due()}."
        for each in requests
        if each.is_overdue(today)
    ]
    found += [
        f"Training has lapsed for {each.held - each.in_date} of {each.held} in the role {each.title}."
        for each in training
        if each.in_date < each.held
    ]
    found += [
        f"The purpose {purpose.code} is to be reviewed by {purpose.review_by}."
        for purpose in overdue_purposes(today, within_days=SOON.days)
    ]
    return found


def pack_page(found: Account, audience: Audience) -> str:
    """The account as one self-contained HTML page, OFFICIAL SENSITIVE; the same account gives the same bytes."""
    return render(
        "audit_pack.html.j2",
        {
            "account": found,
            "held": found.held,
            "title": TITLES[audience],
            "group": audience == "governance-group",
        },
    )


def keep_pack(workspace: Workspace, found: Account, audience: Audience) -> Path:
    """Write the page as a record and return where it is."""
    name = record_name(found.now.date(), RECORD[audience], "OFFICIAL SENSITIVE")
    return keep_record(workspace, name, pack_page(found, audience).encode())
