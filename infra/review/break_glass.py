"""Break-glass: the emergency procedure, and what has to follow it.

An emergency request differs from any other in three ways: it ends after four hours, it is signed by the SIRO and the
deputy Guardian (for when the Guardian cannot be reached), and it is loud: every line about it in the audit log says
``break_glass``, and an incident is entered before anything is opened, which tells the Information Asset Owner. All
other rules hold unchanged: the same scope, the same checks, the same seal, never one person.

The Caldicott Guardian reviews each use within two working days (Monday to Friday; a public holiday counts, which is
the stricter reading). After that, no further list is issued until the review is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from infra.audit import AuditLog, Event
from infra.audit import read as read_audit
from infra.commit_points import commit_point
from infra.incidents import IncidentType, list_incidents, raise_incident
from infra.review.audited import audited
from infra.review.case import EMERGENCY_REVIEW, Case
from infra.review.documents import EmergencyReview, Signed, moment_of, sign, stamp, write
from infra.review.permission import Rules, check_signature
from infra.signing import SigningKey
from schemas.errors import NotPermitted, UsageError
from transforms.identifiers import refuse_identifiers

PURPOSE = "break_glass"
REVIEWERS = ("caldicott_guardian",)


def review_due(used: datetime, working_days: int) -> datetime:
    """When the review of a use at ``used`` is due: so many working days later, at the same time of day."""
    due = used
    left = working_days
    while left:
        due += timedelta(days=1)
        left -= due.weekday() < 5
    return due


def uses(audit_folder: Path) -> Iterator[Event]:
    """Every use of the emergency procedure, from the audit log: a folder can be removed, a line cannot."""
    return read_audit(audit_folder, action="review.spend", decision="break_glass")


def is_reviewed(case: Case, rules: Rules) -> bool:
    """Whether the Guardian's review of this case is there and holds. One that does not hold is none."""
    review = case.emergency_review()
    if review is None or review.document.request_sha256 != case.request().sha256:
        return False
    at = moment_of(review.document.reviewed_at)
    check_signature(review, review.document.person, REVIEWERS, rules.register, [at])
    return True


def refuse_unreviewed(
    reviews: Path, incidents: Path, rules: Rules, *, audit: AuditLog, now: datetime
) -> None:
    """Raise :class:`NotPermitted` (``emergency_unreviewed``) while a use waits longer than it may for its review.

    Enters an incident for each such case, once.
    """
    waiting = []
    for event in uses(audit.folder):
        case = Case(reviews, event.case)
        if now >= review_due(event.time, rules.policy.limit("emergency_review_working_days")) and not _safely(
            case, rules
        ):
            waiting.append(event.case)
    known = {
        incident.case
        for incident in list_incidents(incidents)
        if incident.type is IncidentType.BREAK_GLASS_UNREVIEWED
    }
    for name in sorted(set(waiting) - known):
        raise_incident(incidents, IncidentType.BREAK_GLASS_UNREVIEWED, name, audit=audit, now=now, case=name)
    if waiting:
        raise NotPermitted(
            f"{len(waiting)} use(s) of the emergency procedure wait for the Caldicott Guardian's review",
            next_step="the Caldicott Guardian reviews them: `wardwatch review look-back CASE --finding TEXT`",
            reason_code="emergency_unreviewed",
        )


def _safely(case: Case, rules: Rules) -> bool:
    try:
        return is_reviewed(case, rules)
    except (NotPermitted, UsageError):  # a review that does not hold, or a case folder that is gone
        return False


def look_back(
    case: Case,
    finding: str,
    *,
    person: str,
    signing_key: SigningKey,
    rules: Rules,
    audit: AuditLog,
    now: datetime,
) -> Signed[EmergencyReview]:
    """The Caldicott Guardian's review of a use. Raises :class:`NotPermitted`, :class:`IdentifierInText`; audited."""
    with audited(audit, "review.look_back", case.case, PURPOSE) as step:
        request = case.request()
        if request.document.purpose != PURPOSE:
            raise UsageError("this case was no emergency")
        refuse_identifiers(finding, "the finding")
        if len(" ".join(finding.split())) < rules.policy.limit("shortest_text"):
            raise NotPermitted(
                "the finding: say in a sentence what was found", reason_code="reason_too_short"
            )
        signed = sign(
            write(
                EmergencyReview,
                case=case.case,
                request_sha256=request.sha256,
                person=person,
                reviewed_at=stamp(now),
                finding=finding,
            ),
            signing_key,
        )
        check_signature(signed, person, REVIEWERS, rules.register, [now])
        if case.spending(request.sha256) is None:
            raise NotPermitted("it was not used", reason_code="wrong_state")
        commit_point("review.look_back.before")
        case.put(EMERGENCY_REVIEW, signed.content, "a review by the Guardian")
        commit_point("review.look_back.after")
        step.reason_code = "reviewed"
        step.digests = {"request": request.sha256}
    return signed
