"""The audit line: the exact bytes of one event, and the hash that chains it to the one before.

One canonical JSON object per line: keys sorted, no spaces, ASCII only, so that whatever a name contains
(newlines, quotes, control characters) is escaped and stays on its line. ``h`` is SHA-256 over a zero byte and
the canonical line without ``h``; ``prev`` is the ``h`` of the line before, 64 zeros for the first.

What goes into a line is checked here: codes and ids of a strict shape, integers, hexadecimal digests, and
nothing that looks like an identifier. There is no field with which an event could be hidden.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeGuard, get_args

from schemas.errors import UsageError
from transforms.identifiers import EMAIL, NHS_NUMBER, POSTCODE, refuse_identifiers

LOG = "log.ndjson"
STARTED = "log.started"  # exists once the log has had a line: a missing log is then never taken for a new one
CHECKPOINTS = "checkpoints"
FIRST_PREV = "0" * 64
VERSION = 1

Decision = Literal["allow", "refuse", "fail", "break_glass"]
DECISIONS: tuple[str, ...] = get_args(Decision)

_ACTION = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*")
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_OBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+ -]*")
_HEX = re.compile(r"[0-9a-f]{16,128}")
_TEXTS = (
    "time",
    "prev",
    "person",
    "role",
    "action",
    "object",
    "purpose",
    "case",
    "decision",
    "reason_code",
    "h",
)
_KEYS = frozenset((*_TEXTS, "v", "seq", "counts", "digests"))
# Ids may hold dates and random hexadecimal, which the stricter kinds would take for an identifier.
_KINDS_IN_IDS = (NHS_NUMBER, EMAIL)
_KINDS_IN_NAMES = (NHS_NUMBER, POSTCODE)


@dataclass(frozen=True)
class Event:
    """One line of the log. ``seq`` counts from 1 without gaps; ``time`` is UTC; ``h`` is the line's hash."""

    seq: int
    time: datetime
    person: str
    role: str
    action: str
    object: str
    purpose: str
    case: str
    decision: str
    reason_code: str
    counts: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    h: str = ""


def canonical(entry: Mapping[str, Any]) -> bytes:
    """The one byte form of ``entry``, without a newline."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def line_hash(entry: Mapping[str, Any]) -> str:
    """What belongs into ``h`` of ``entry``: lower-case hexadecimal, 64 characters."""
    return hashlib.sha256(b"\0" + canonical({k: v for k, v in entry.items() if k != "h"})).hexdigest()


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The entry of a line (without its newline), or None if it is not byte for byte what a writer writes.

    Duplicate keys, other spacing and other number forms do not come back the same and so are refused. The
    hash is not checked here.
    """
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or set(entry) != _KEYS or canonical(entry) != line:
        return None
    well_typed = (
        is_count(entry["seq"])
        and all(isinstance(entry[name], str) for name in _TEXTS)
        and isinstance(entry["counts"], dict)
        and isinstance(entry["digests"], dict)
    )
    return entry if well_typed else None


def is_whole_object(line: bytes) -> bool:
    """Whether ``line`` is complete JSON. A tear never leaves that behind, so such a line was put there."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def event_of(entry: Mapping[str, Any]) -> Event:
    """The event of a parsed line; raises ValueError if its time is not one."""
    names = ("seq", "person", "role", "action", "object", "purpose", "case", "decision", "reason_code", "h")
    return Event(
        **{name: entry[name] for name in names},
        time=datetime.fromisoformat(entry["time"]),
        counts=dict(entry["counts"]),
        digests=dict(entry["digests"]),
    )


# checking what goes in -------------------------------------------------------------------------------


def is_count(value: object) -> TypeGuard[int]:
    """An integer that any reader of JSON can hold; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def checked_name(text: str, what: str) -> str:
    """A person's id as the system gives it: any characters, 1 to 128 of them, not an identifier."""
    if not 0 < len(text) <= 128:
        raise UsageError(f"{what} in the audit log has 1 to 128 characters")
    refuse_identifiers(text, what, kinds=_KINDS_IN_NAMES)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def checked_code(text: str, what: str, *, empty: bool = True, pattern: re.Pattern[str] = _CODE) -> str:
    """``text`` if it has the shape of a code or id (at most 200 characters) and holds no identifier."""
    if not text and empty:
        return ""
    if len(text) > 200 or not pattern.fullmatch(text):
        raise UsageError(f"{what} in the audit log is not a code or id of the expected shape")
    refuse_identifiers(text, what, kinds=_KINDS_IN_IDS)
    return text


def checked_fields(
    person: str,
    role: str,
    action: str,
    object: str,
    *,
    purpose: str = "",
    case: str = "",
    decision: str = "allow",
    reason_code: str = "",
    counts: Mapping[str, int] | None = None,
    digests: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The part of an entry that a caller decides, checked.

    Raises :class:`UsageError` for a wrong shape and :class:`IdentifierInText` for what looks like an
    identifier; neither message repeats the field.
    """
    if decision not in DECISIONS:
        raise UsageError("an audit decision is one of: " + ", ".join(DECISIONS))
    for name, value in (counts or {}).items():
        checked_code(name, "the name of a count", empty=False)
        if not is_count(value):
            raise UsageError(f"audit count {name} is not an integer")
    for name, digest in (digests or {}).items():
        checked_code(name, "the name of a digest", empty=False)
        if not isinstance(digest, str) or not _HEX.fullmatch(digest):
            raise UsageError(f"audit digest {name} is not lower-case hexadecimal of 16 to 128 characters")
    return {
        "person": person,
        "role": role,
        "action": checked_code(action, "the action", empty=False, pattern=_ACTION),
        "object": checked_code(object, "the object", empty=False, pattern=_OBJECT),
        "purpose": checked_code(purpose, "the purpose"),
        "case": checked_code(case, "the case", pattern=_OBJECT),
        "decision": decision,
        "reason_code": checked_code(reason_code, "the reason code"),
        "counts": dict(counts or {}),
        "digests": dict(digests or {}),
    }
