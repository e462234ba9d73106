"""The register of requests: what was asked, when, by when it is due, and how it ended. It names nobody.

::

    requests/request-0001.json             kind, day received, the team's own reference, what is asked
    requests/request-0001-confirm.json     the identity of the person asking was confirmed, on a day
    requests/request-0001-answer.json      answered; the record that holds the answer, with its sha256
    requests/request-0001-close.json       its end: outcome and reason

Every file is written once, under a name that nothing has yet, with its audit event, which holds its SHA-256. Who asks
is known to the Information Access Team, under its reference: no name, address or number of theirs is entered, and
every text is scanned for identifiers. The states and what leads from one to the next are data
(``schemas/policy/requests.yaml``); a state is never stored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

from infra.audit import AuditLog
from infra.audit_line import checked_code
from infra.files import make_folder
from infra.requests.deadlines import due_date
from infra.review.case import read_small, write_new
from schemas.errors import IntegrityError, NotPermitted, UsageError
from schemas.request_policy import Event, RequestKind, RequestPolicy, State, request_policy
from transforms.identifiers import refuse_identifiers

FOLDER = "requests"
LONGEST_TEXT = 1000
SHORTEST_TEXT = 10
_ID = re.compile(r"request-[0-9]{4,}")


@dataclass(frozen=True)
class Request:
    """One request as it stands. ``answer``: the name of the record that answers it, empty before."""

    id: str
    kind: str
    received: date
    reference: str
    text: str
    state: State
    confirmed: date | None = None
    answer: str = ""
    answered: date | None = None
    outcome: str = ""
    reason: str = ""
    closed: date | None = None

    @property
    def is_open(self) -> bool:
        return self.state != "closed"

    def due(self, policy: RequestPolicy | None = None) -> date | None:
        """The last day for the answer, None while no clock runs."""
        rules = policy or request_policy()
        return due_date(rules.kind(self.kind), self.received, self.confirmed, rules.calendar)

    def is_overdue(self, today: date) -> bool:
        """Whether it should have been answered by ``today`` and was not."""
        due = self.due()
        return due is not None and today > due and self.state in ("received", "confirmed")

    def to_document(self, today: date) -> dict[str, Any]:
        """For a machine."""
        due = self.due()
        return {
            "id": self.id,
            "kind": self.kind,
            "received": self.received.isoformat(),
            "reference": self.reference,
            "text": self.text,
            "state": self.state,
            "confirmed": self.confirmed.isoformat() if self.confirmed else None,
            "due": due.isoformat() if due else None,
            "overdue": self.is_overdue(today),
            "answer": self.answer,
            "answered": self.answered.isoformat() if self.answered else None,
            "outcome": self.outcome,
            "reason": self.reason,
            "closed": self.closed.isoformat() if self.closed else None,
        }


def next_state(policy: RequestPolicy, state: State, event: Event) -> State:
    """Where ``event`` leads from ``state``. Raises :class:`NotPermitted` (``wrong_state``)."""
    for row in policy.transitions:
        if (row.from_state, row.event) == (state, event):
            return row.to
    raise NotPermitted(f"a request that is {state} has nothing to {event}", reason_code="wrong_state")


# Changing ---------------------------------------------------------------------------------------------


def add_request(
    folder: Path, kind: str, received: date, *, reference: str, text: str, audit: AuditLog, now: datetime
) -> Request:
    """Enter a request. ``reference``: the code under which the team that handles it keeps who asks.

    Raises :class:`UsageError` for an unknown kind, a day to come, a reference that is no code or a text that says
    nothing, and :class:`IdentifierInText` for either with what looks like an identifier.
    """
    known = request_policy().kind(kind)
    _refuse_to_come(received, now, "it was received")
    checked_code(reference, "the reference of a request", empty=False)
    said = checked_text(text, "the text of a request")
    due_date(known, received, received, request_policy().calendar)  # outside the calendar nothing is entered
    make_folder(folder)
    document = {"kind": kind, "received": received.isoformat(), "reference": reference, "text": said}
    number = len(list_requests(folder))
    while True:
        number += 1
        request_id = f"request-{number:04d}"
        if _put(
            folder / f"{request_id}.json", {"id": request_id, **document}, request_id, "add", audit, kind
        ):
            return find_request(folder, request_id)


def confirm_identity(folder: Path, request_id: str, day: date, *, audit: AuditLog, now: datetime) -> Request:
    """Note that the identity of the person asking was confirmed on ``day``: from then on the clock runs."""
    found = find_request(folder, request_id)
    if not _kind(found).about_a_person:
        raise UsageError("a request of this kind asks for nobody's identity")
    _refuse_to_come(day, now, "the identity was confirmed")
    if day < found.received:
        raise UsageError("the identity cannot be confirmed before the request was received")
    return _happened(folder, found, "confirm", {"on": day.isoformat()}, audit, "")


def note_answer(
    folder: Path, request_id: str, record: str, sha256: str, *, audit: AuditLog, now: datetime
) -> Request:
    """Note that ``record``, a file of that SHA-256, is the answer. Raises :class:`NotPermitted` in a wrong state, and
    before the identity was confirmed of a person whom it is about."""
    found = find_request(folder, request_id)
    may_be_answered(found)
    document = {"on": now.date().isoformat(), "record": record, "sha256": sha256}
    return _happened(folder, found, "answer", document, audit, "")


def may_be_answered(request: Request) -> None:
    """Raise :class:`NotPermitted` (``wrong_state``, ``identity_not_confirmed``) unless the request may be answered."""
    next_state(request_policy(), request.state, "answer")
    if _kind(request).about_a_person and request.confirmed is None:
        raise NotPermitted(
            "a request about a person is answered once their identity is confirmed",
            next_step="`wardwatch requests confirm`",
            reason_code="identity_not_confirmed",
        )


def close_request(
    folder: Path, request_id: str, outcome: str, reason: str, *, audit: AuditLog, now: datetime
) -> Request:
    """Note the end of a request. Raises :class:`UsageError` for an unknown outcome or an empty reason,
    :class:`NotPermitted` if it is closed already or would count as answered without an answer."""
    found = find_request(folder, request_id)
    if outcome not in request_policy().outcomes:
        raise UsageError("an outcome is one of " + ", ".join(request_policy().outcomes))
    if outcome == "answered" and found.state != "answered":
        raise NotPermitted(
            "there is no answer yet", next_step="`wardwatch requests answer`", reason_code="wrong_state"
        )
    said = checked_text(reason, "the reason")
    document = {"on": now.date().isoformat(), "outcome": outcome, "reason": said}
    return _happened(folder, found, "close", document, audit, outcome)


def checked_text(text: str, what: str) -> str:
    """``text`` on one line. Raises :class:`UsageError` for one too short or too long, :class:`IdentifierInText`."""
    said = " ".join(text.split())
    if not SHORTEST_TEXT <= len(said) <= LONGEST_TEXT:
        raise UsageError(f"{what} has {SHORTEST_TEXT} to {LONGEST_TEXT:,} characters")
    refuse_identifiers(said, what)
    return said


def _refuse_to_come(day: date, now: datetime, what: str) -> None:
    if day > now.date():
        raise UsageError(f"the day on which {what} is still to come")


def _kind(request: Request) -> RequestKind:
    return request_policy().kind(request.kind)


def _happened(
    folder: Path, found: Request, event: Event, document: Mapping[str, Any], audit: AuditLog, reason: str
) -> Request:
    next_state(request_policy(), found.state, event)
    entry = {"id": found.id, **document}
    if not _put(folder / f"{found.id}-{event}.json", entry, found.id, event, audit, reason):
        raise UsageError("somebody else did this at the same time")
    return find_request(folder, found.id)


def _put(
    path: Path, entry: Mapping[str, Any], request_id: str, event: str, audit: AuditLog, reason: str
) -> bool:
    entry = {**entry, "person": audit.person, "role": audit.role}
    content = json.dumps(entry, sort_keys=True, indent=1).encode() + b"\n"
    if not write_new(path, content):
        return False
    audit.record(
        f"request.{event}",
        request_id,
        purpose="",
        reason_code=reason,
        digests={"entry": hashlib.sha256(content).hexdigest()},
    )
    return True


# Reading ----------------------------------------------------------------------------------------------


def list_requests(folder: Path, *, only_open: bool = False) -> list[Request]:
    """The register in the order of its numbers. Raises :class:`IntegrityError` for an entry that cannot be read."""
    if not folder.is_dir():
        return []
    names = sorted((p.stem for p in folder.glob("request-*.json") if _ID.fullmatch(p.stem)), key=_number)
    found = [_read(folder, name) for name in names]
    return [request for request in found if request.is_open or not only_open]


def _number(request_id: str) -> int:
    return int(request_id.rpartition("-")[2])


def find_request(folder: Path, request_id: str) -> Request:
    """The request of that id. Raises :class:`UsageError` if there is none."""
    if not _ID.fullmatch(request_id) or not (folder / f"{request_id}.json").exists():
        raise UsageError("there is no request of that id", next_step="`wardwatch requests list` lists them")
    return _read(folder, request_id)


def _read(folder: Path, request_id: str) -> Request:
    try:
        entry = _entry(folder, request_id, "")
        assert entry is not None
        policy = request_policy()
        found = Request(
            id=request_id,
            kind=policy.kind(entry["kind"]).code,
            received=date.fromisoformat(entry["received"]),
            reference=str(entry["reference"]),
            text=str(entry["text"]),
            state=policy.first_state,
        )
        for event in ("confirm", "answer", "close"):
            after = _entry(folder, request_id, event)
            if after is not None:
                if event == "confirm" and not policy.kind(found.kind).about_a_person:
                    raise ValueError
                found = _after(found, next_state(policy, found.state, event), event, after)
        return found
    except (ValueError, KeyError, TypeError, AssertionError, NotPermitted, UsageError):
        raise IntegrityError(f"the entries of {request_id} cannot be read") from None


def _after(found: Request, state: State, event: Event, entry: Mapping[str, Any]) -> Request:
    day = date.fromisoformat(entry["on"])
    if event == "confirm":
        return replace(found, state=state, confirmed=day)
    if event == "answer":
        return replace(found, state=state, answered=day, answer=str(entry["record"]))
    return replace(found, state=state, closed=day, outcome=str(entry["outcome"]), reason=str(entry["reason"]))


def _entry(folder: Path, request_id: str, event: str) -> dict[str, Any] | None:
    content = read_small(folder / (f"{request_id}-{event}.json" if event else f"{request_id}.json"))
    if content is None:
        return None
    entry = json.loads(content)
    if not isinstance(entry, dict) or entry.get("id") != request_id:
        raise IntegrityError(f"an entry of {request_id} is another one")
    return entry
