"""Audited: every step of a case and every refusal of one has its line in the audit log, or does not happen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from infra.audit import AuditLog, Decision
from infra.review.documents import CASE_ID
from schemas.errors import DisclosureRefused, IdentifierInText, NotPermitted, UsageError, WardwatchError

REFUSALS = (NotPermitted, IdentifierInText, DisclosureRefused, UsageError)


def reason_of(error: BaseException) -> str:
    """What the audit log says of an error: its reason code, or its code, never its text."""
    if isinstance(error, NotPermitted):
        return error.reason_code
    return error.code if isinstance(error, WardwatchError) else "crashed"


@dataclass
class Step:
    """What the line about a step will say besides that it was done."""

    reason_code: str = "done"
    counts: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


@contextmanager
def audited(
    audit: AuditLog,
    action: str,
    case: str,
    purpose: str,
    *,
    allowed: Decision = "allow",
    about: str = "",
    digests: Mapping[str, str] | None = None,
) -> Iterator[Step]:
    """Record how the step inside ended: ``allowed`` with what it said, ``refuse``, or ``fail``.

    The line about a step that was done is written last: without it the step raises :class:`AuditUnavailable`, and
    the caller takes back what it can. ``about``: the object of the line, the case if left out.
    """
    step = Step(digests=dict(digests or {}))
    known = case if CASE_ID.fullmatch(case) else ""
    purpose = purpose if purpose in ("case_review", "break_glass", "reprocessing") else ""
    try:
        yield step
    except BaseException as error:
        audit.record(
            action,
            about or known or "unknown",
            purpose=purpose,
            case=known,
            decision="refuse" if isinstance(error, REFUSALS) else "fail",
            reason_code=reason_of(error),
            digests=dict(digests or {}),
        )
        raise
    audit.record(
        action,
        about or known,
        purpose=purpose,
        case=known,
        decision=allowed,
        reason_code=step.reason_code,
        counts=step.counts,
        digests=step.digests,
    )
