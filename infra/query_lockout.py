"""The lockout: nobody asks the curated zone nearly the same question again and again with other filters.

Every answer is rounded and has its small groups left out, but the difference of two answers whose filters differ a
little can say what neither does. So every question leaves a line in the audit log that says what it is about:

* ``asks``: digest of the view and of the set of columns that it is grouped by (whatever is done to them);
* ``filter``: digest of everything that narrows the records down, constants included;
* counts ``on.<COLUMN>``: the columns that it is filtered by. Columns are names of the contract, never values.

Two questions are *nearly the same* if ``asks`` is equal and their sets of filtered columns differ in few columns.
Which numbers are asked for (``count``, ``avg`` of this or that) makes no difference, nor do constants, operators or
the order of conditions. One person may ask so many nearly equal questions with different filters within so many days
(``schemas/policy/incidents.yaml``, with its source). The one after that is refused and recorded, a near miss is
raised, and the person is locked out of the curated zone until the Information Asset Owner unlocks.

The audit log is the only state: the line is written *before* the count, so of questions asked at the same moment
each counts the others. An unlocking begins the count again. Asking word for word the same again tells nothing new
and is not counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from infra.audit import AuditLog, read
from infra.audit_line import Event

# The reader of the small language stays in one module; what it takes apart is looked at here.
from infra.curated_query import (
    MINIMUM_GROUP,
    CuratedAnswer,
    CuratedView,
    _compile,
    _keys,
    _output_name,
    _parse,
    _Scalars,
    _view,
    query_curated,
)
from infra.incidents import (
    SHORTEST_REASON,
    IncidentType,
    Outcome,
    close_incident,
    list_incidents,
    raise_incident,
)
from infra.purposes import require_purpose
from schemas.errors import NotPermitted, UsageError, WardwatchError
from schemas.incident_policy import RepetitionLimit, incident_policy
from transforms.identifiers import EMAIL, NHS_NUMBER, POSTCODE, refuse_identifiers, scan_text

QUESTION = "lake.question"
QUERY = "lake.query"
UNLOCK = "lake.unlock"
LOCKED_OUT = "locked_out"
_ON = "on."
_NOT_IN_A_QUERY = frozenset((NHS_NUMBER, POSTCODE, EMAIL))


@dataclass(frozen=True)
class Outline:
    """What a question is about, without a constant of it. ``columns``: those it is filtered by."""

    view: str
    asks: str
    filter: str
    columns: frozenset[str]


def outline_of(sql: str, views: Iterable[CuratedView]) -> Outline:
    """The outline of one question to one of ``views``.

    Raises :class:`UsageError` or :class:`NotPermitted` for what :func:`~infra.curated_query.query_curated` refuses.
    """
    known = tuple(views)
    node = _parse(sql)
    view, alias = _view(node.get("from_table", {}), known)
    items = node.get("select_list", [])
    names = [_output_name(item, position) for position, item in enumerate(items)]
    keys = _keys(node, items, names, view)
    where = node.get("where_clause")
    scalars = _Scalars(view, alias)
    # Keys narrow down too: "group by case when AGE < 50 ..." is a filter in another place.
    written = [scalars.write(key) for key in keys]
    condition = scalars.write(where) if where is not None else ""
    grouped = sorted({column for key in keys for column in _columns(key)})
    return Outline(
        view=view.name,
        asks=_digest([view.name.lower(), grouped]),
        filter=_digest([written, condition, [str(value) for value in scalars.parameters]]),
        columns=frozenset(_columns(where) if where is not None else ()),
    )


def _columns(node: Any) -> Iterator[str]:
    """Upper-case names of the columns that an expression refers to."""
    if isinstance(node, dict):
        if node.get("class") == "COLUMN_REF":
            yield str(node["column_names"][-1]).upper()
        for part in node.values():
            yield from _columns(part)
    elif isinstance(node, list):
        for part in node:
            yield from _columns(part)


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


def nearly_the_same(one: Outline, other: Outline, limit: RepetitionLimit) -> bool:
    """Whether two questions differ in what they are filtered by, and in little of it."""
    return one.asks == other.asks and len(one.columns ^ other.columns) <= limit.columns_apart


def ask_curated(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    views: Iterable[CuratedView],
    *,
    purpose: str,
    audit: AuditLog,
    incidents: Path,
    now: datetime,
    limit: RepetitionLimit | None = None,
) -> CuratedAnswer:
    """:func:`~infra.curated_query.query_curated` for a person who has not asked nearly the same too often.

    ``incidents``: folder of the incident register. Raises :class:`NotPermitted` (``locked_out``) after the refusal
    was recorded, and what ``query_curated`` raises.
    """
    known = tuple(views)
    bounds = limit or incident_policy().repeated_queries
    refuse_locked(audit)
    outline = _outline_to_count(sql, known, purpose, audit, now)
    if outline is not None:
        audit.record(
            QUESTION,
            outline.view,
            purpose=purpose,
            reason_code="counted",
            counts={f"{_ON}{column}": 1 for column in sorted(outline.columns)},
            digests={"asks": outline.asks, "filter": outline.filter},
        )
        asked = times_asked(audit, outline, now, bounds)
        if asked > bounds.most:
            _lock(audit, outline, asked, bounds, incidents, now)
    return query_curated(connection, sql, known, purpose=purpose, audit=audit, today=now.date())


def _outline_to_count(
    sql: str, views: tuple[CuratedView, ...], purpose: str, audit: AuditLog, now: datetime
) -> Outline | None:
    """The outline of a question that would be answered; what is refused for another reason is refused further on."""
    try:
        require_purpose(purpose, audit.role, QUERY, now.date())
        if _NOT_IN_A_QUERY.intersection(scan_text(sql)):
            return None  # a digest of an identifier must not be written down
        _compile(sql, views, MINIMUM_GROUP)
        return outline_of(sql, views)
    except (WardwatchError, RecursionError):
        return None


def times_asked(audit: AuditLog, outline: Outline, now: datetime, limit: RepetitionLimit) -> int:
    """How many questions nearly the same as ``outline``, each with another filter, the person asked in the window
    that ends now, since the last unlocking."""
    unlocked = _last(_events_about(audit.folder, audit.person), UNLOCK)
    since = now - timedelta(days=limit.within_days)
    return len(
        {
            event.digests["filter"]
            for event in read(audit.folder, person=audit.person, action=QUESTION, since=since)
            if event.seq > unlocked and nearly_the_same(_outline_in(event), outline, limit)
        }
    )


def _outline_in(event: Event) -> Outline:
    columns = frozenset(name.removeprefix(_ON) for name in event.counts if name.startswith(_ON))
    return Outline(event.object, event.digests["asks"], event.digests["filter"], columns)


def refuse_locked(audit: AuditLog) -> None:
    """Raise :class:`NotPermitted` (``locked_out``) if the person of ``audit`` is locked out, after recording it."""
    if is_locked(audit.folder, audit.person):
        audit.record(QUERY, "lake", purpose="", decision="refuse", reason_code=LOCKED_OUT)
        raise _locked_out()


def is_locked(audit_folder: Path, person: str) -> bool:
    """Whether ``person`` was locked out and not unlocked since."""
    events = list(_events_about(audit_folder, person))
    return _last(events, QUERY) > _last(events, UNLOCK)


def _events_about(audit_folder: Path, person: str) -> Iterator[Event]:
    """The lock and unlock events of ``person``."""
    whom = _digest([person])
    for event in read(audit_folder, action="lake"):
        locked = event.action == QUERY and event.person == person and event.reason_code == LOCKED_OUT
        unlocked = (
            event.action == UNLOCK and event.decision == "allow" and event.digests.get("person") == whom
        )
        if locked or unlocked:
            yield event


def _last(events: Iterable[Event], action: str) -> int:
    return max((event.seq for event in events if event.action == action), default=0)


def _lock(
    audit: AuditLog, outline: Outline, asked: int, limit: RepetitionLimit, incidents: Path, now: datetime
) -> None:
    counts = {"nearly_the_same": asked, "allowed": limit.most, "within_days": limit.within_days}
    event = audit.record(
        QUERY,
        outline.view,
        purpose="",
        decision="refuse",
        reason_code=LOCKED_OUT,
        counts=counts,
        digests={"asks": outline.asks},
    )
    raise_incident(
        incidents,
        IncidentType.REPEATED_QUERIES,
        f"audit line {event.seq}",
        audit=audit,
        now=now,
        counts=counts,
    )
    raise _locked_out()


def _locked_out() -> NotPermitted:
    return NotPermitted(
        "nearly the same question was asked too often with other filters, so the curated zone is locked for you",
        next_step="GROUP BY answers such questions at once; the Information Asset Owner unlocks "
        "(`wardwatch incidents unlock`)",
        reason_code=LOCKED_OUT,
    )


def unlock(person: str, reason: str, *, audit: AuditLog, incidents: Path, now: datetime) -> None:
    """Let ``person`` ask again, begin the count anew, and close the near miss with the ``reason``.

    The caller has seen to the role of ``audit``. Raises :class:`NotPermitted` (``own_lock``) for unlocking oneself,
    :class:`UsageError` for a person who is not locked out or without a reason, :class:`IdentifierInText` for a
    reason that holds what looks like an identifier.
    """
    if person == audit.person:
        audit.record(UNLOCK, "lake", purpose="", decision="refuse", reason_code="own_lock")
        raise NotPermitted("nobody unlocks themself", reason_code="own_lock")
    if len(" ".join(reason.split())) < SHORTEST_REASON:
        raise UsageError("a person is unlocked with a reason, in words")
    refuse_identifiers(reason, "the reason")
    if not is_locked(audit.folder, person):
        raise UsageError("this person is not locked out", next_step="check the staff id")
    # A staff id may have characters that an object may not, so the line holds its digest.
    audit.record(UNLOCK, "lake", purpose="", reason_code="unlocked", digests={"person": _digest([person])})
    for incident in list_incidents(incidents, only_open=True):
        if incident.type is IncidentType.REPEATED_QUERIES and incident.person == person:
            close_incident(incidents, incident.id, Outcome.CONTAINED, reason=reason, audit=audit, now=now)
