"""Permission: who may sign what, at which moment, and whether a request is in force.

Every rule has a reason code of its own, which is what the audit log says of a refusal. Nothing is assumed from what a
document says of itself: the signer is whoever the register says held the key at that time, the role is asked of the
register for the moment of signing and again for the moment of use, and the policy is the one that is here now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from infra.keyring import PublicKeys
from infra.purposes import POLICY_FOLDER, require_purpose
from infra.register import Register
from infra.review.documents import (
    Approval,
    Asked,
    Document,
    Request,
    Signed,
    case_code,
    check_vouched,
    moment_of,
)
from infra.signing import canonical_json
from infra.workspace import Agreement, Workspace
from schemas.errors import IntegrityError, NotPermitted
from schemas.review_policy import POLICY, ReviewPolicy, Side, review_policy
from transforms.identifiers import refuse_identifiers

# Signing machines are not all on one clock; what is later than this is not from the past.
CLOCK_TOLERANCE = timedelta(minutes=5)
POLICY_FILES = (POLICY, POLICY_FOLDER / "roles.yaml", POLICY_FOLDER / "purposes.yaml")
SIDES: tuple[Side, Side] = ("guardian", "siro")


def policy_digest() -> str:
    """SHA-256 over the files that say what a review may do. One changed byte invalidates every open request."""
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in POLICY_FILES}
    return hashlib.sha256(canonical_json({"kind": "review-policy", "files": digests})).hexdigest()


# Signers ---------------------------------------------------------------------------------------------------


def check_signature(
    signed: Signed[Document],
    person: str,
    roles: Collection[str],
    register: Register,
    at: Sequence[datetime],
) -> str:
    """That ``person``, in one of ``roles`` at every moment of ``at``, signed exactly this document.

    Returns the role at the last of the moments. Raises :class:`NotPermitted` (``unknown_signer``, ``revoked_key``,
    ``not_the_signer``, ``no_role``, ``training_lapsed``, ``left``, ``outside_deputyship``, ``changed``).
    """
    role = ""
    for moment in at:
        signer = register.signer(signed.key_id, moment)
        if signer.person != person:
            raise NotPermitted(
                "a document names another person than the one whose key signed it",
                reason_code="not_the_signer",
            )
        role = register.require_role(person, roles, moment)
        try:
            signed.verify(_public_of(signed.key_id, register, moment))
        except IntegrityError:
            raise NotPermitted(
                "a document is not what was signed", next_step="ask for it again", reason_code="changed"
            ) from None
    return role


def _public_of(key_id: str, register: Register, at: datetime) -> str:
    """The public half of a signing key that :meth:`Register.signer` found to be in force."""
    return next(
        key.public
        for key, counts in register.keys(at)
        if counts and (key.use, key.name) == ("signing", key_id)
    )


# The request -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rules:
    """What requests are held against here and now."""

    policy: ReviewPolicy
    register: Register
    agreement: Agreement
    signers: Mapping[str, str]


def rules_of(workspace: Workspace, register: Register) -> Rules:
    """The rules of ``workspace`` today. ``signers``: the pipeline's keys for what it signs, id -> public key."""
    signers = PublicKeys.load(workspace.zone("keys")).signers("manifest_signing")
    return Rules(review_policy(), register, workspace.settings.agreement, signers)


def check_text(request: Asked, policy: ReviewPolicy) -> None:
    """That the reasons are reasons, and hold no identifier. Raises :class:`NotPermitted` (``reason_too_short``,
    ``reason_too_long``) and :class:`IdentifierInText`."""
    shortest, longest = policy.limit("shortest_text"), policy.limit("longest_text")
    for name, text in request.texts.items():
        what = name.replace("_", " ")
        if len(" ".join(text.split())) < shortest:
            raise NotPermitted(
                f"{what}: say it in at least {shortest} characters", reason_code="reason_too_short"
            )
        if len(text) > longest:
            raise NotPermitted(
                f"{what}: say it in at most {longest} characters", reason_code="reason_too_long"
            )
        refuse_identifiers(text, what)


def check_asked(signed: Signed[Asked], rules: Rules, now: datetime) -> None:
    """What must hold of anything that two officers decide about, whenever it is approved or used.

    Raises :class:`NotPermitted` with the reason code of the first rule that does not hold,
    :class:`IdentifierInText` and :class:`IntegrityError`.
    """
    request, policy, register = signed.document, rules.policy, rules.register
    if request.case != case_code(request.id):
        raise NotPermitted("the case is not the one of this request", reason_code="changed")
    made = moment_of(request.made_at)
    requesters = policy.requesters_of(request.purpose)
    check_signature(signed, request.requester, requesters, register, [made, max(now, made)])
    try:
        check_vouched(request, rules.signers)
    except IntegrityError:
        raise NotPermitted(
            "the request is not as the pipeline wrote it",
            next_step="find out who had the requester's key and the folder of the case; make a new request",
            reason_code="not_vouched",
        ) from None
    if request.demo != register.demo or request.demo != rules.agreement.demo:
        raise NotPermitted(
            "a demonstration is for demonstration data and keys only", reason_code="demonstration"
        )
    check_time(request, policy, now)
    if request.policy != policy_digest():
        raise NotPermitted(
            "the policy was changed since this was asked for",
            next_step="make a new request under the policy of today",
            reason_code="policy_changed",
        )
    check_agreement(request, rules.agreement, now.date())
    check_text(request, policy)


def check_request(signed: Signed[Request], rules: Rules, now: datetime) -> None:
    """Everything about the request of a case review that must hold whenever it is approved or used.

    Raises as :func:`check_asked`, and :class:`NotPermitted` for what is a rule of lists alone.
    """
    check_asked(signed, rules, now)
    request, policy, register = signed.document, rules.policy, rules.register
    if policy.gateway(request.legal_gateway) is None:
        raise NotPermitted("this is no legal gateway of the policy", reason_code="no_legal_gateway")
    for role in policy.requesters_of(request.purpose):
        if request.purpose == "case_review":
            require_purpose(request.purpose, role, "outbox.write", now.date())
    require_purpose(request.purpose, "pipeline", "vault.open", now.date())
    require_purpose(request.purpose, "pipeline", "outbox.write", now.date())
    check_items(request, policy)
    check_size(request, policy, request.cohort.patients)
    key = register.hospital(request.recipient, now)
    if key.fingerprint != request.recipient_key:
        raise NotPermitted(
            "the recipient has another key now than the one that the request names",
            next_step="make a new request; both officers then sign for the new key",
            reason_code="recipient_key_changed",
        )


def check_time(request: Asked, policy: ReviewPolicy, now: datetime) -> None:
    """Raises :class:`NotPermitted` (``validity_too_long``, ``not_yet_valid``, ``expired``)."""
    made, begin, end = (moment_of(text) for text in (request.made_at, request.not_before, request.expires))
    longest = (
        timedelta(hours=policy.limit("emergency_hours"))
        if request.purpose == "break_glass"
        else timedelta(days=policy.limit("longest_validity_days"))
    )
    if not made <= begin < end <= made + longest:
        raise NotPermitted("the request is for too long a time", reason_code="validity_too_long")
    if now < begin - CLOCK_TOLERANCE or now < made - CLOCK_TOLERANCE:
        raise NotPermitted("the request is not valid yet", reason_code="not_yet_valid")
    if now >= end:
        raise NotPermitted(
            "the request has expired", next_step="make a new one if it is still needed", reason_code="expired"
        )


def check_agreement(request: Asked, agreement: Agreement, today: date) -> None:
    """Raises :class:`NotPermitted` (``another_agreement``, ``agreement_not_in_force``)."""
    if request.agreement != agreement.reference:
        raise NotPermitted("the data are held under another agreement", reason_code="another_agreement")
    try:
        begin, end = date.fromisoformat(agreement.starts), date.fromisoformat(agreement.ends)
    except ValueError:
        raise NotPermitted(
            "the agreement does not say from when to when it is in force",
            reason_code="agreement_not_in_force",
        ) from None
    if not begin <= today <= end:
        raise NotPermitted("the agreement is not in force today", reason_code="agreement_not_in_force")


def check_items(request: Request, policy: ReviewPolicy) -> None:
    """Raises :class:`NotPermitted` (``item_not_emittable``) for anything but what a list may ever hold."""
    if set(request.items) - {item.value for item in policy.emittable_items} or len(set(request.items)) != len(
        request.items
    ):
        raise NotPermitted(
            "a list holds the local patient identifier and nothing else", reason_code="item_not_emittable"
        )


def check_size(request: Request, policy: ReviewPolicy, patients: int) -> None:
    """Raises :class:`NotPermitted` (``empty_cohort``, ``too_many_rows``, ``few_patients``)."""
    cap = policy.limit("most_rows" if request.acknowledged.more_than_the_cap else "row_cap")
    if patients == 0:
        raise NotPermitted("there is nobody in this cohort", reason_code="empty_cohort")
    if request.max_rows > cap or patients > request.max_rows:
        raise NotPermitted(
            "the list would be longer than it may be",
            next_step="ask a narrower question, or acknowledge the number",
            reason_code="too_many_rows",
        )
    if patients < policy.limit("acknowledge_below") and not request.acknowledged.few_patients:
        raise NotPermitted(
            "the list would be about so few patients that this has to be acknowledged",
            next_step="request it again with --acknowledge-few",
            reason_code="few_patients",
        )


# The approvals ---------------------------------------------------------------------------------------------


def check_approver(
    person: str, request: Asked, register: Register, policy: ReviewPolicy, at: datetime
) -> None:
    """That ``person`` is not who asked, and not who runs the pipeline.

    Raises :class:`NotPermitted` (``requester_approves``, ``engineer_approves``).
    """
    if person == request.requester:
        raise NotPermitted("nobody decides on an own request", reason_code="requester_approves")
    if set(register.person(person, at).roles) & set(policy.never_approves):
        raise NotPermitted(
            "who runs the pipeline does not decide on opening what it sealed", reason_code="engineer_approves"
        )


def check_approval(approval: Signed[Approval], request: Signed[Asked], rules: Rules, now: datetime) -> None:
    """That one approval is one of this request, by somebody who may give it, then and now.

    Raises :class:`NotPermitted` (``another_request``, ``signed_outside_the_request``, ``no_role`` and the codes of
    :func:`check_signature` and :func:`check_approver`).
    """
    said, asked = approval.document, request.document
    if said.request_sha256 != request.sha256 or said.case != asked.case:
        raise NotPermitted("an approval is for another request than this one", reason_code="another_request")
    decided = moment_of(said.decided_at)
    begin, end = moment_of(asked.made_at), moment_of(asked.expires)
    if not begin - CLOCK_TOLERANCE <= decided < end or decided > now + CLOCK_TOLERANCE:
        raise NotPermitted(
            "an approval was given outside the time of its request",
            reason_code="signed_outside_the_request",
        )
    roles = rules.policy.roles_of(asked.purpose, said.side)
    check_signature(approval, said.person, roles, rules.register, [decided, max(now, decided)])
    for moment in (decided, max(now, decided)):
        check_approver(said.person, asked, rules.register, rules.policy, moment)


def check_pair(
    approvals: Sequence[Signed[Approval]], request: Signed[Asked], rules: Rules, now: datetime
) -> dict[Side, Signed[Approval]]:
    """Side -> the approval of that side, if there is one of each and two persons gave them.

    Every approval in the folder is checked: one that does not hold stops all. Of two on one side (an officer and the
    deputy) the earlier counts. Raises :class:`NotPermitted` (``approval_missing``, ``same_person`` and the codes of
    :func:`check_approval`).
    """
    for approval in approvals:
        check_approval(approval, request, rules, now)
    found: dict[Side, Signed[Approval]] = {}
    for approval in sorted(approvals, key=lambda each: each.document.decided_at, reverse=True):
        found[approval.document.side] = approval
    persons = [approval.document.person for approval in approvals]
    if len(set(persons)) != len(persons):
        raise NotPermitted("one person signed twice; two persons decide", reason_code="same_person")
    if set(found) != set(SIDES):
        raise NotPermitted(
            "not everybody whose decision is needed has decided", reason_code="approval_missing"
        )
    return found
