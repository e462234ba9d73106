"""The incident register: what went wrong with information, or nearly did, and what happens next.

An incident is information "lost, destroyed, corrupted, compromised, accessed by unauthorised persons, or
processed unlawfully", or a near miss, and is reported immediately to the line manager, the Information Asset
Owner and the security mailbox with what, when, how and the steps taken, *without* confidential personal
information (Information Security and Governance Policy, November 2016). The program raises incidents itself,
out of fixed sentences, ids and counts, so that the report can go out unread.

``incidents/incident-0001.json`` is written once and never changed; its end is a second file beside it,
``incident-0001-closed.json``. Each takes its audit event in the same call.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from infra.audit import AuditLog
from infra.audit_line import checked_code, is_count
from infra.commit_points import commit_point
from infra.files import make_folder, open_private, removed_on_error, storage_errors, sync_folder
from infra.processes import is_alive
from schemas.errors import IntegrityError, UsageError
from transforms.identifiers import refuse_identifiers


class IncidentType(StrEnum):
    """The kinds that the program can tell apart. A person may report any other as ``other``."""

    OVER_DELIVERY = "over_delivery"
    UNEXPECTED_IDENTIFIABLE_COLUMN = "unexpected_identifiable_column"
    UNEXPECTED_IDENTIFIER_IN_FIELD = "unexpected_identifier_in_field"
    WRONG_KEY = "wrong_key"
    WRONG_HOSPITAL = "wrong_hospital"
    INTEGRITY_FAILURE = "integrity_failure"
    AUDIT_TAMPERING = "audit_tampering"
    REFUSED_ACCESS = "refused_access"
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
class _Wording:
    what: str
    how: str
    done: str
    next_steps: tuple[str, ...]


_TELL_SUPPLIER = "tell the supplier which columns came, by their names, and ask for a delivery without them"
_ASK_WHO = "ask the person concerned what was intended, and check that the role is still right"
_STOP = "do not use the object named here until the cause is known"
_ASK_SIRO = "the SIRO decides whether the supplier and the Information Commissioner are told"

_WORDING: dict[IncidentType, _Wording] = {
    IncidentType.OVER_DELIVERY: _Wording(
        "a delivery held a column that must not be delivered (a name or an address)",
        "its header named a column of class forbidden",
        "the delivery was refused; nothing of it was kept but the receipt",
        (_TELL_SUPPLIER, "destroy the supplier's copy in the inbox", _ASK_SIRO),
    ),
    IncidentType.UNEXPECTED_IDENTIFIABLE_COLUMN: _Wording(
        "a delivery held an identifiable column that its contract does not know",
        "its header did not fit the contract",
        "the delivery was refused; nothing of it was kept but the receipt",
        (_TELL_SUPPLIER, "extend the contract only after a privacy impact assessment"),
    ),
    IncidentType.UNEXPECTED_IDENTIFIER_IN_FIELD: _Wording(
        "records held what looks like an identifier in a field that must not have one",
        "the scanner of free and local code fields found it",
        "the records were left out of the curated tables",
        ("tell the supplier how many records of which field were concerned", _STOP),
    ),
    IncidentType.WRONG_KEY: _Wording(
        "something was encrypted or signed with a key that is not the expected one",
        "it could not be opened or verified with the enrolled key",
        "it was refused and not opened",
        ("ask the sender which key was used, over another channel", "revoke the key if it may be lost"),
    ),
    IncidentType.WRONG_HOSPITAL: _Wording(
        "a case list concerned, or would have concerned, another hospital than its recipient",
        "issuer and recipient of the numbers differed",
        "nothing was put into the outbox",
        (_STOP, _ASK_SIRO),
    ),
    IncidentType.INTEGRITY_FAILURE: _Wording(
        "something that was stored is not what was stored",
        "a digest, signature or encryption tag did not fit",
        "it was not used",
        (_STOP, "compare with the last backup", "run `wardwatch vault verify` and `wardwatch audit verify`"),
    ),
    IncidentType.AUDIT_TAMPERING: _Wording(
        "the audit log is not what was written to it",
        "the chain, a checkpoint or the second sink did not fit",
        "actions that need the audit log are refused",
        ("keep the log as it is", "ask the auditor to compare it with the witnessed checkpoint", _ASK_SIRO),
    ),
    IncidentType.REFUSED_ACCESS: _Wording(
        "an access to identifiable items or curated records was refused",
        "role, purpose, approval or date did not allow it",
        "nothing was opened",
        (_ASK_WHO,),
    ),
    IncidentType.BREAK_GLASS: _Wording(
        "identifiable items were opened under the emergency procedure",
        "the SIRO and the deputy Guardian opened them together",
        "the opening is in the audit log and was limited to four hours",
        ("the Caldicott Guardian reviews it within two working days",),
    ),
    IncidentType.BREAK_GLASS_UNREVIEWED: _Wording(
        "a use of the emergency procedure was not reviewed in time",
        "two working days went by without the Caldicott Guardian's review",
        "further case lists are blocked",
        ("the Caldicott Guardian reviews it now",),
    ),
    IncidentType.OVERDUE_RECEIPT: _Wording(
        "a hospital has not confirmed that it received a case list",
        "the receipt is overdue",
        "the list stays sealed to the hospital's key",
        ("ask the hospital's Caldicott Guardian whether the list arrived",),
    ),
    IncidentType.OVERDUE_DESTRUCTION: _Wording(
        "data were kept beyond the end of their retention",
        "the retention date went by without a destruction order",
        "the data are not used in new runs",
        ("the SIRO and the Information Asset Owner sign the order, or put a hold on it",),
    ),
    IncidentType.NEAR_MISS: _Wording(
        "something nearly went wrong and was stopped in time",
        "a safeguard held",
        "the action was stopped",
        ("find out why it came as far as it did",),
    ),
    IncidentType.OTHER: _Wording(
        "a person reported an incident",
        "see the person who reported it",
        "nothing was done automatically",
        ("the Information Asset Owner decides what is done",),
    ),
}


@dataclass(frozen=True)
class Incident:
    """One entry of the register. ``object`` is an id, ``counts`` integers, ``codes`` rule ids and columns."""

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

    @property
    def is_open(self) -> bool:
        return self.closed is None


_OBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+ -]*")
_FILE = re.compile(r"incident-[0-9]{4,}\.json")
PART = ".part"  # behind the id of the process that writes the entry
_TO = "line manager, Information Asset Owner, security mailbox"


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
    checked_code(
        object, "the object of an incident", empty=False, pattern=re.compile(r"[A-Za-z0-9][\w.:/+ -]*")
    )
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


def close_incident(
    folder: Path, incident_id: str, outcome: Outcome, *, audit: AuditLog, now: datetime
) -> Incident:
    """Note the end of an open incident beside it. Raises :class:`UsageError` if there is no such open one."""
    found = {incident.id: incident for incident in list_incidents(folder)}.get(incident_id)
    if found is None or not found.is_open:
        raise UsageError("there is no open incident of that id", next_step="`wardwatch incidents` lists them")
    closed = replace(found, closed=now.astimezone(UTC), outcome=outcome)
    entry = {"id": found.id, "closed": _stamp(now), "outcome": outcome.value}
    entry |= {"person": audit.person, "role": audit.role}
    if not _write_new(folder / f"{found.id}-closed.json", entry):
        raise UsageError("the incident was closed by somebody else at the same time")
    audit.record("incident.close", found.id, purpose="", case=found.case, reason_code=outcome.value)
    return closed


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
    wording = _WORDING[incident.type]
    lines = [
        f"Incident {incident.id or '(new)'}: {incident.type.value.replace('_', ' ')}",
        f"To: {_TO}",
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
    lines += [f"Next {number}: {step}" for number, step in enumerate(wording.next_steps, start=1)]
    if incident.outcome is not None:
        lines.append(f"Closed: {incident.outcome.value.replace('_', ' ')}")
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
        entry = {
            "id": numbered.id,
            "type": numbered.type.value,
            "raised": _stamp(numbered.raised),
            "person": numbered.person,
            "role": numbered.role,
            "object": numbered.object,
            "codes": list(numbered.codes),
            "counts": dict(numbered.counts or {}),
            "case": numbered.case,
        }
        if _write_new(folder / f"{numbered.id}.json", entry):
            return numbered


def _write_new(path: Path, entry: Mapping[str, Any]) -> bool:
    """Write ``entry`` to a name that nothing has yet, whole or not at all; False if the name was taken."""
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
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
            incident = replace(incident, closed=closed, outcome=Outcome(entry["outcome"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise IntegrityError(f"entry {path.name} of the incident register cannot be read") from None
    if incident.id != path.stem:
        raise IntegrityError(f"entry {path.name} of the incident register is another one")
    return incident
