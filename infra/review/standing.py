"""Standing: what has happened to a case, as far as signatures and the audit log vouch for it.

A document that does not verify is never passed over: a refusal that somebody tampered with must not turn into no
refusal. What the audit log knows and the folder does not (a refusal, a withdrawal, a spending that were removed)
counts as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from infra.audit import read as read_audit
from infra.review.case import Case, Decided
from infra.review.documents import Asked, IssueRecord, Receipt, Request, Signed, moment_of
from infra.review.permission import SIDES, Rules, check_pair, check_signature
from infra.review.transitions import Happening, state_of
from schemas.errors import IntegrityError, NotPermitted
from schemas.review_policy import State


def happenings(case: Decided, rules: Rules) -> list[Happening]:
    """Everything that happened to ``case``. Raises :class:`NotPermitted` and :class:`IntegrityError` for a document
    that is not what its signer signed."""
    request = case.request()
    asked, policy, register = request.document, rules.policy, rules.register
    found: list[Happening] = []
    approvals = case.approvals()
    decided = max((moment_of(each.document.decided_at) for each in approvals), default=None)
    if decided is not None and _is_pair(case, request, rules, decided):
        found.append((decided, "approve"))
    refusal = case.refusal()
    if refusal is not None:
        at = moment_of(refusal.document.decided_at)
        roles = [role for side in SIDES for role in policy.roles_of(asked.purpose, side)]
        check_signature(refusal, refusal.document.person, roles, register, [at])
        found.append((at, "refuse"))
    withdrawal = case.withdrawal()
    if withdrawal is not None:
        at = moment_of(withdrawal.document.decided_at)
        check_signature(withdrawal, asked.requester, policy.requesters_of(asked.purpose), register, [at])
        found.append((at, "withdraw"))
    spending = case.spending(request.sha256)
    if spending is not None:
        found.append((moment_of(spending.document.spent_at), "spend"))
    return found + (_of_a_list(case, rules) if isinstance(case, Case) else [])


def _of_a_list(case: Case, rules: Rules) -> list[Happening]:
    """That the list of a case review was issued, and that the hospital signed for it."""
    found: list[Happening] = []
    record = case.issue_record()
    if record is not None:
        check_record(record, case.request(), rules)
        found.append((moment_of(record.document.issued_at), "issue"))
        receipt = case.receipt()
        if receipt is not None:
            check_receipt(receipt, record, rules, moment_of(receipt.document.received_at))
            # The hospital's clock is its own: it cannot have received what was not issued yet.
            at = max(moment_of(receipt.document.received_at), moment_of(record.document.issued_at))
            found.append((at, "receive"))
    return found


def _is_pair(case: Decided, request: Signed[Asked], rules: Rules, at: datetime) -> bool:
    """Whether both officers have approved. Why they have not is said when somebody wants to issue."""
    try:
        check_pair(case.approvals(), request, rules, at)
    except NotPermitted:
        return False
    return True


def check_record(record: Signed[IssueRecord], request: Signed[Request], rules: Rules) -> None:
    """That the pipeline signed this record, of this request. Raises :class:`IntegrityError`."""
    signer = rules.signers.get(record.key_id)
    if signer is None or record.document.request_sha256 != request.sha256:
        raise IntegrityError("the issue record is not one of this request")
    record.verify(signer)


def check_receipt(receipt: Signed[Receipt], record: Signed[IssueRecord], rules: Rules, now: datetime) -> None:
    """That the recipient signed for exactly what was issued.

    Raises :class:`NotPermitted` (``another_list``, ``recipient_revoked``, ``recipient_not_enrolled``,
    ``changed``).
    """
    said, issued = receipt.document, record.document
    if (said.case, said.organisation, said.ciphertext_sha256, said.listed) != (
        issued.case,
        issued.recipient,
        issued.ciphertext_sha256,
        issued.listed,
    ):
        raise NotPermitted("the receipt is for another list than this one", reason_code="another_list")
    try:
        receipt.verify(rules.register.hospital(issued.recipient, now).signing_public)
    except IntegrityError:
        raise NotPermitted(
            "the receipt is not signed by the hospital that the list is for", reason_code="changed"
        ) from None


def state_now(case: Decided, rules: Rules, now: datetime) -> State:
    """The state of ``case`` at ``now``; raises as :func:`happenings` does."""
    expires = moment_of(case.request().document.expires)
    return state_of(rules.policy, happenings(case, rules), expires, now)


def came_to_nothing(case: Decided, state: str, now: datetime) -> bool:
    """Whether the approvals were used up, nothing came of it, and the time of the request has passed: a run was killed
    or stopped on its way, and nothing can come of it any more. (The table has no way out of ``spent``: of a request
    to open deliveries again it is the end.)"""
    return state == "spent" and now >= moment_of(case.request().document.expires)


def require_state(case: Decided, rules: Rules, now: datetime, states: Sequence[State]) -> None:
    """Raises :class:`NotPermitted` with the reason code of the state that stands in the way."""
    state = state_now(case, rules, now)
    if state not in states:
        raise NotPermitted(
            f"the case is {state}",
            next_step=f"`{case.show}` says what became of it",
            reason_code=state
            if state in ("refused", "withdrawn", "expired", "spent")
            else f"already_{state}",
        )


def refuse_ended(case: Decided, request_sha256: str, audit_folder: Path) -> None:
    """What the audit log knows of an end that the folder may have lost.

    Raises :class:`NotPermitted` (``spent``, ``refused``, ``withdrawn``).
    """
    ends = {
        f"{case.action}.spend": "spent",
        f"{case.action}.refuse": "refused",
        f"{case.action}.withdraw": "withdrawn",
    }
    for event in read_audit(audit_folder, action=case.action, case=case.case):
        if event.action in ends and event.decision in ("allow", "break_glass"):
            said = event.digests.get("request")
            if said is None or said == request_sha256:
                raise NotPermitted(
                    f"the audit log says that this request was {ends[event.action]}",
                    reason_code=ends[event.action],
                )
