"""The incident register: what went wrong with information, or nearly did, and what happens next.

An incident is information "lost, destroyed, corrupted, compromised, accessed by unauthorised persons, or
processed unlawfully", or a near miss, and is reported immediately to the line manager, the Information Asset
Owner and the security mailbox with what, when, how and the steps taken, *without* confidential personal
information (Information Security and Governance Policy, November 2016). The program raises incidents itself,
out of fixed sentences, ids and counts, so that the report can go out unread.

``incidents/incident-0001.json`` is written once and never changed; its end is a second file beside it,
``incident-0001-closed.json``. Each takes its audit event in the same call. The words, who is told and who may close
an incident are data, ``schemas/policy/incidents.yaml``.

Refused attempts are near misses: :func:`file_refusals` enters those that the audit log has and the register has not.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from infra.audit import AuditLog
from infra.audit_line import Event, checked_code, is_count
from infra.commit_points import commit_point
from infra.files import make_folder, open_private, removed_on_error, storage_errors, sync_folder
from infra.processes import is_alive
from schemas.errors import CannotOpen, DeliveryRefused, ForbiddenColumn, IntegrityError, UsageError
from schemas.incident_policy import incident_policy
from transforms.identifiers import refuse_identifiers


class IncidentType(StrEnum):
    """The kinds that the program can tell apart. A person may report any other as ``other``."""

    OVER_DELIVERY = "over_delivery"
    UNEXPECTED_IDENTIFIABLE_COLUMN = "unexpected_identifiable_column"
    UNEXPECTED_IDENTIFIER_IN_FIELD = "unexpected_identifier_in_field"
    WRONG_KEY = "wrong_key"
    DAMAGED_DELIVERY = "damaged_delivery"
    WRONG_HOSPITAL = "wrong_hospital"
    INTEGRITY_FAILURE = "integrity_failure"
    FAILED_VERIFICATION = "failed_verification"
    AUDIT_TAMPERING = "audit_tampering"
    REFUSED_ACCESS = "refused_access"
    REPEATED_QUERIES = "repeated_queries"
    BREAK_GLASS = "break_glass"
    BREAK_GLASS_UNREVIEWED = "break_glass_unreviewed"
    OVERDUE_RECEIPT = "overdue_receipt"
    OVERDUE_DESTRUCTION = "overdue_destruction"
    NEAR_MISS = "near_miss"
    OTHER = "other"


class Outcome(StrEnum):
    """How an incident ended."""

    CONTAINED = "contained"
    NO_HARM = "no_harm"
    REPORTED_ON = "reported_on"
    FALSE_ALARM = "false_alarm"


@dataclass(frozen=True)
class Incident:
    """One entry of the register. ``object`` is an id, ``counts`` integers, ``codes`` rule ids and columns.

    ``reason`` and ``closed_by`` belong to its end, and are empty before.
    """

    id: str
    type: IncidentType
    raised: datetime
    person: str
    role: str
    object: str
    codes: tuple[str, ...] = ()
    counts: Mapping[str, int] | None = None
    case: str = ""
    closed: datetime | None = None
    outcome: Outcome | None = None
    reason: str = ""
    closed_by: str = ""

    @property
    def is_open(self) -> bool:
        return self.closed is None

    @property
    def is_near_miss(self) -> bool:
        """Whether a safeguard held: nothing was lost, seen or changed."""
        return incident_policy().kind(self.type.value).near_miss

    def to_document(self) -> dict[str, Any]:
        """The entry as plain values, for a machine."""
        return {
            **_entry(self),
            "near_miss": self.is_near_miss,
            "open": self.is_open,
            "closed": _stamp(self.closed) if self.closed else None,
            "outcome": self.outcome.value if self.outcome else None,
            "reason": self.reason,
            "closed_by": self.closed_by,
        }


_OBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+ -]*")
_FILE = re.compile(r"incident-[0-9]{4,}\.json")
PART = ".part"  # behind the id of the process that writes the entry
SHORTEST_REASON = 10
DAMAGED = "delivery.damaged"


def raise_incident(
    folder: Path,
    incident_type: IncidentType,
    object: str,
    *,
    audit: AuditLog,
    now: datetime,
    codes: tuple[str, ...] = (),
    counts: Mapping[str, int] | None = None,
    case: str = "",
) -> Incident:
    """Enter an incident into the register in ``folder``, durably, and record it in the audit log.

    ``object``: the id of the delivery, case, file or run concerned. ``codes``: rule ids or column names
    from a contract. Raises :class:`UsageError` or :class:`IdentifierInText` for anything else,
    before writing.
    """
    checked_code(object, "the object of an incident", empty=False, pattern=_OBJECT)
    for code in codes:
        checked_code(code, "a code of an incident", empty=False)
    for name, count in (counts or {}).items():
        checked_code(name, "the name of a count", empty=False)
        if not is_count(count):
            raise UsageError(f"count {name} of an incident is not an integer")
    incident = Incident(
        id="",
        type=incident_type,
        raised=now.astimezone(UTC),
        person=audit.person,
        role=audit.role,
        object=object,
        codes=codes,
        counts=dict(counts or {}),
        case=checked_code(case, "the case"),
    )
    _scan(incident)
    make_folder(folder)
    incident = _enter(folder, incident)
    audit.record(
        "incident.raise",
        incident.id,
        purpose="",
        case=case,
        reason_code=incident_type.value,
        counts=dict(counts or {}),
    )
    return incident


def raise_once(
    folder: Path,
    incident_type: IncidentType,
    object: str,
    *,
    audit: AuditLog,
    now: datetime,
    codes: tuple[str, ...] = (),
    counts: Mapping[str, int] | None = None,
    case: str = "",
) -> Incident | None:
    """:func:`raise_incident`, unless one of that type about that object is open: then None.

    For what is looked at every night: a refused file that still lies in the inbox, a receipt that is still overdue,
    a retention that is still over.
    """
    for incident in list_incidents(folder, only_open=True):
        if (incident.type, incident.object) == (incident_type, object):
            return None
    return raise_incident(
        folder, incident_type, object, audit=audit, now=now, codes=codes, counts=counts, case=case
    )


def close_incident(
    folder: Path, incident_id: str, outcome: Outcome, *, reason: str, audit: AuditLog, now: datetime
) -> Incident:
    """Note the end of an open incident beside it, with the reason why it counts as ended.

    Raises :class:`UsageError` if there is no such open one or nothing is said as the reason, and
    :class:`IdentifierInText` for a reason that holds what looks like an identifier.
    """
    found = find_incident(folder, incident_id)
    if not found.is_open:
        raise UsageError(
            "the incident is closed already", next_step="`wardwatch incidents --open` lists the others"
        )
    said = " ".join(reason.split())
    if len(said) < SHORTEST_REASON:
        raise UsageError("an incident is closed with a reason, in words")
    refuse_identifiers(said, "the reason")
    closed = replace(found, closed=now.astimezone(UTC), outcome=outcome, reason=said, closed_by=audit.person)
    entry = {"id": found.id, "closed": _stamp(now), "outcome": outcome.value, "reason": said}
    entry |= {"person": audit.person, "role": audit.role}
    if not _write_new(folder / f"{found.id}-closed.json", entry):
        raise UsageError("the incident was closed by somebody else at the same time")
    audit.record("incident.close", found.id, purpose="", case=found.case, reason_code=outcome.value)
    return closed


def find_incident(folder: Path, incident_id: str) -> Incident:
    """The incident of that id. Raises :class:`UsageError` if there is none."""
    for incident in list_incidents(folder):
        if incident.id == incident_id:
            return incident
    raise UsageError("there is no incident of that id", next_step="`wardwatch incidents` lists them")


def list_incidents(folder: Path, *, only_open: bool = False) -> list[Incident]:
    """The register in the order of raising. Raises :class:`IntegrityError` for an unreadable entry."""
    if not folder.is_dir():
        return []
    incidents = []
    for path in sorted(folder.iterdir(), key=lambda entry: (len(entry.name), entry.name)):
        if _FILE.fullmatch(path.name):
            incident = _read(path)
            if incident.is_open or not only_open:
                incidents.append(incident)
    return incidents


# What becomes an incident by itself -----------------------------------------------------------------


def delivery_incident(refusal: DeliveryRefused) -> IncidentType | None:
    """The kind of incident that a refused delivery is, None for one that merely does not fit.

    A file that opens with none of our keys is another matter than one that does and was cut or changed; where the
    opener cannot tell them apart (OpenPGP), it counts as the first.
    """
    if isinstance(refusal, ForbiddenColumn):
        return IncidentType.OVER_DELIVERY
    if isinstance(refusal, CannotOpen):
        return IncidentType.DAMAGED_DELIVERY if refusal.code == DAMAGED else IncidentType.WRONG_KEY
    return None


def file_refusals(folder: Path, events: Iterable[Event], *, audit: AuditLog, now: datetime) -> list[Incident]:
    """Enter the refused attempts among ``events`` that the register does not have yet, one near miss for each
    person, action and day, and return these.

    ``events`` is the whole audit log in its order. Which actions count is policy. What was entered before is known
    from the entries themselves (``first_line`` and ``last_line`` are sequence numbers of the log), so there is no
    second state; the report names lines of the log and no person.
    """
    wanted = tuple(f"{action}." for action in incident_policy().refusals)
    entered, looked_to = _entered_refusals(folder)
    groups: dict[tuple[str, str, date], list[Event]] = {}
    last = looked_to
    for event in events:
        last = max(last, event.seq)
        if (
            event.seq > looked_to
            and event.decision == "refuse"
            and event.reason_code != "locked_out"  # it has an incident of its own
            and f"{event.action}.".startswith(wanted)
        ):
            groups.setdefault((event.person, event.action, event.time.date()), []).append(event)
    new = []
    for (_, action, _), refused in groups.items():
        # A run that was killed among its entries made some of them; what came to a group since then is left.
        rest = refused
        while rest and rest[0].seq in entered:
            rest = [event for event in rest if event.seq > entered[rest[0].seq]]
        if rest:
            new.append((action, rest))
    filed = []
    for number, (action, refused) in enumerate(new, start=1):
        counts = {
            "attempts": len(refused),
            "first_line": refused[0].seq,
            "last_line": refused[-1].seq,
        }
        if number == len(new):
            counts["looked_to"] = last  # all entries before this one are made
        filed.append(
            raise_incident(
                folder,
                IncidentType.REFUSED_ACCESS,
                f"audit line {refused[0].seq}",
                audit=audit,
                now=now,
                codes=(action, *sorted({event.reason_code for event in refused if event.reason_code})),
                counts=counts,
            )
        )
    return filed


def _entered_refusals(folder: Path) -> tuple[dict[int, int], int]:
    """First line -> last line of every refusal that was entered, and the line up to which all were."""
    entered: dict[int, int] = {}
    looked_to = 0
    for incident in list_incidents(folder):
        counts = incident.counts or {}
        if incident.type is IncidentType.REFUSED_ACCESS and "first_line" in counts:
            entered[counts["first_line"]] = counts["last_line"]
            looked_to = max(looked_to, counts.get("looked_to", 0))
    return entered, looked_to


def sweep(folder: Path) -> int:
    """Remove what killed processes left of entries that they did not make; returns how many there were.

    Raises :class:`StorageFailed`.
    """
    removed = 0
    with storage_errors("the incident register"):
        for part in sorted(folder.glob(f"*{PART}")):
            if not is_alive(int(part.name.removesuffix(PART).rpartition(".")[2])):
                part.unlink(missing_ok=True)
                removed += 1
    return removed


def report_text(incident: Incident) -> str:
    """The immediate report of ``incident``: what, when, how, the steps. Holds no personal data."""
    when = incident.raised.strftime("%d %B %Y, %H:%M UTC")
    head, body = _text(incident).split("\n", 1)
    return f"{head}\nWhen: {when}\n{body}"


def _scan(incident: Incident) -> None:
    """Pass the report through the scanner, without its date and ids: these have dates and random digits in
    them, and were checked as ids."""
    refuse_identifiers(_text(replace(incident, object="(id)", case="")), "the incident report")


def _text(incident: Incident) -> str:
    """The report without its date."""
    wording = incident_policy().kind(incident.type.value)
    near = " (near miss)" if wording.near_miss and incident.type is not IncidentType.NEAR_MISS else ""
    lines = [
        f"Incident {incident.id or '(new)'}: {incident.type.value.replace('_', ' ')}{near}",
        f"To: {incident_policy().report_to}",
        f"What: {wording.what}",
        f"Concerns: {incident.object}",
        f"How it was noticed: {wording.how}",
        f"Done so far: {wording.done}",
    ]
    if incident.codes:
        lines.append(f"Rules and columns: {', '.join(incident.codes)}")
    if incident.counts:
        numbers = (f"{name.replace('_', ' ')} {count:,}" for name, count in sorted(incident.counts.items()))
        lines.append(f"Numbers: {', '.join(numbers)}")
    if incident.case:
        lines.append(f"Case: {incident.case}")
    lines += [f"Next {number}: {step}" for number, step in enumerate(wording.next, start=1)]
    if incident.outcome is not None:
        lines.append(f"Closed: {incident.outcome.value.replace('_', ' ')} ({incident.reason})")
    lines.append("This report holds no personal data. Do not add any when passing it on.")
    return "\n".join(lines)


# files -----------------------------------------------------------------------------------------------


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _enter(folder: Path, incident: Incident) -> Incident:
    """Write ``incident`` under the next free number; another process may take numbers at the same time."""
    number = len(list_incidents(folder))
    while True:
        number += 1
        numbered = replace(incident, id=f"incident-{number:04d}")
        if _write_new(folder / f"{numbered.id}.json", _entry(numbered)):
            return numbered


def _entry(incident: Incident) -> dict[str, Any]:
    return {
        "id": incident.id,
        "type": incident.type.value,
        "raised": _stamp(incident.raised),
        "person": incident.person,
        "role": incident.role,
        "object": incident.object,
        "codes": list(incident.codes),
        "counts": dict(incident.counts or {}),
        "case": incident.case,
    }


def _write_new(path: Path, entry: Mapping[str, Any]) -> bool:
    """Write ``entry`` to a name that nothing has yet, whole or not at all; False if the name was taken."""
    # The thread too: several of one process may enter at the same time.
    part = path.with_name(f"{path.name}.{threading.get_ident()}.{os.getpid()}{PART}")
    content = json.dumps(entry, sort_keys=True, indent=1).encode() + b"\n"
    with storage_errors("the incident register"):
        with removed_on_error(part), os.fdopen(open_private(part), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        commit_point("incidents.before_entry")
        try:
            os.link(part, path)  # unlike a rename this never replaces what is there
        except FileExistsError:
            return False
        finally:
            part.unlink()
        sync_folder(path.parent)
        commit_point("incidents.after_entry")
    return True


def _read(path: Path) -> Incident:
    try:
        entry = json.loads(path.read_bytes())
        incident = Incident(
            id=str(entry["id"]),
            type=IncidentType(entry["type"]),
            raised=datetime.fromisoformat(entry["raised"]),
            person=str(entry["person"]),
            role=str(entry["role"]),
            object=str(entry["object"]),
            codes=tuple(str(code) for code in entry["codes"]),
            counts={str(name): int(count) for name, count in entry["counts"].items()},
            case=str(entry["case"]),
        )
        end = path.with_name(f"{path.stem}-closed.json")
        if end.exists():
            entry = json.loads(end.read_bytes())
            closed = datetime.fromisoformat(entry["closed"])
            incident = replace(
                incident,
                closed=closed,
                outcome=Outcome(entry["outcome"]),
                reason=str(entry.get("reason", "")),
                closed_by=str(entry["person"]),
            )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise IntegrityError(f"entry {path.name} of the incident register cannot be read") from None
    if incident.id != path.stem:
        raise IntegrityError(f"entry {path.name} of the incident register is another one")
    return incident
