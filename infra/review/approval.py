"""Approval: one officer's yes, made on the officer's own machine, with the shares that one request needs.

The officer's machine needs the request, the sealed shares of the deliveries concerned with their signed manifests
(a bundle, see :mod:`infra.review.bundle`, or a workspace), the register, and the officer's two private keys. What
leaves it is a signed file that holds, of each delivery, this officer's half of the keys of one hospital's numbers,
sealed to the key pair of this review. Alone it opens nothing, and the other officer's decision is neither needed nor
shown.

A refusal ends the case; a withdrawal is the requester's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from infra.audit import AuditLog
from infra.audit_intent import BEGUN
from infra.commit_points import commit_point
from infra.review.audited import audited
from infra.review.case import APPROVAL, REFUSAL, WITHDRAWAL, Decided
from infra.review.cohort import check_manifest, columns_of
from infra.review.documents import (
    Approval,
    Asked,
    Refusal,
    Request,
    Signed,
    Withdrawal,
    parse,
    sign,
    stamp,
    write,
)
from infra.review.permission import (
    SIDES,
    Rules,
    check_approval,
    check_approver,
    check_request,
    check_signature,
)
from infra.review.released import carried, release
from infra.review.standing import require_state
from infra.sealing import SecretBytes
from infra.signing import SigningKey
from infra.vault import read_manifest
from infra.vault_opening import Shares, read_shares, shares_for
from schemas.errors import AuditUnavailable, IntegrityError, NotPermitted
from schemas.review_policy import Side
from transforms.identifiers import refuse_identifiers

SHARES_KIND = "case-review-shares"


# Deciding --------------------------------------------------------------------------------------------------


def approve(
    request: Signed[Request],
    side: Side,
    *,
    person: str,
    identity: str,
    signing_key: SigningKey,
    vault: Path,
    signers: Mapping[str, str],
    rules: Rules,
    now: datetime,
) -> Signed[Approval]:
    """The approval of ``request`` by ``person`` for ``side``.

    ``identity``: the officer's private age key. ``vault``: where the folders of the request's deliveries lie.
    ``signers``: the accepted signers of vault manifests. Raises :class:`NotPermitted` with the reason code of the
    rule that does not hold, :class:`IntegrityError` if vault or request is not what was signed, and
    :class:`CannotOpen` for another person's key.
    """
    check_request(request, rules, now)
    asked = request.document
    role = rules.register.require_role(person, rules.policy.roles_of(asked.purpose, side), now)
    check_approver(person, asked, rules.register, rules.policy, now)
    shares: dict[str, dict[str, str]] = {}
    for delivery in asked.cohort.deliveries:
        if not delivery.columns:
            continue
        folder = vault / delivery.folder
        check_manifest(folder, delivery.vault_manifest)
        if delivery.columns != columns_of(read_manifest(folder, signers), asked.recipient, asked.items):
            raise NotPermitted(
                "the request names columns of other items than it asks for", reason_code="item_not_emittable"
            )
        held = read_shares(folder, side, identity, signers)
        needed = shares_for(held, asked.recipient, delivery.columns)[asked.recipient]
        shares[delivery.folder] = {name: share.hex() for name, share in needed.items()}
    return release(
        request,
        _binding(asked),
        shares,
        side=side,
        person=person,
        role=role,
        signing_key=signing_key,
        now=now,
    )


def _binding(asked: Request) -> dict[str, str]:
    return {"kind": SHARES_KIND, "issuer": asked.recipient}


def hand_in(
    case: Decided, content: bytes, *, rules: Rules, audit: AuditLog, now: datetime
) -> Signed[Approval]:
    """Take an approval into its case, after checking it as it will be checked again when it is used.

    Raises :class:`NotPermitted` (also ``already_decided``, ``wrong_state``) and :class:`IntegrityError`; each is in
    the audit log.
    """
    with (
        _taken_back_without_audit(case) as kept,
        audited(audit, f"{case.action}.approve", case.case, _purpose(case)) as step,
    ):
        request = case.request()
        approval = parse(content, Approval)
        case.check(rules, now)
        check_approval(approval, request, rules, now)
        require_state(case, rules, now, ("requested",))
        if any(each.document.person == approval.document.person for each in case.approvals()):
            raise NotPermitted("this person has approved it already", reason_code="already_decided")
        name = f"{APPROVAL}{approval.sha256[:12]}.json"
        _announce(audit, case, request, "approve")
        commit_point("review.approval.before")
        case.put(name, content, "this approval")
        kept.append(name)
        commit_point("review.approval.after")
        step.reason_code = "approved"
        step.digests = {"request": request.sha256, "approval": approval.sha256}
    return approval


def _announce(audit: AuditLog, case: Decided, request: Signed[Asked], action: str) -> None:
    """The line before the document: from here on a refusal or withdrawal counts, whatever becomes of its file."""
    audit.record(
        f"{case.action}.{action}",
        case.case,
        purpose=request.document.purpose,
        case=case.case,
        reason_code=BEGUN,
        digests={"request": request.sha256},
    )


@contextmanager
def _taken_back_without_audit(case: Decided) -> Iterator[list[str]]:
    """Remove what was kept if there could be no durable line about it."""
    kept: list[str] = []
    try:
        yield kept
    except AuditUnavailable:
        for name in kept:
            (case.folder / name).unlink(missing_ok=True)
        raise


def _purpose(case: Decided) -> str:
    """The purpose of a case for the audit line; empty if its request cannot even be read."""
    try:
        return case.request().document.purpose
    except IntegrityError:
        return ""


def refuse(
    case: Decided,
    reason: str,
    *,
    person: str,
    signing_key: SigningKey,
    rules: Rules,
    audit: AuditLog,
    now: datetime,
) -> Signed[Refusal]:
    """End a case with an officer's no. Raises :class:`NotPermitted`, :class:`IdentifierInText`; audited."""
    with audited(audit, f"{case.action}.refuse", case.case, _purpose(case)) as step:
        request = case.request()
        refuse_identifiers(reason, "the reason")
        roles = [role for side in SIDES for role in rules.policy.roles_of(request.document.purpose, side)]
        role = rules.register.require_role(person, roles, now)
        document = write(
            Refusal,
            case=case.case,
            request_sha256=request.sha256,
            person=person,
            role=role,
            decided_at=stamp(now),
            reason=reason,
        )
        signed = sign(document, signing_key)
        check_signature(signed, person, roles, rules.register, [now])
        require_state(case, rules, now, ("requested", "approved"))
        _announce(audit, case, request, "refuse")
        commit_point("review.refusal.before")
        case.put(REFUSAL, signed.content, "a refusal")
        commit_point("review.refusal.after")
        step.reason_code = "refused"
        step.digests = {"request": request.sha256}
    case.forget()
    return signed


def withdraw(
    case: Decided,
    reason: str,
    *,
    person: str,
    signing_key: SigningKey,
    rules: Rules,
    audit: AuditLog,
    now: datetime,
) -> Signed[Withdrawal]:
    """Take a request back. Only its requester can. Raises :class:`NotPermitted`; audited."""
    with audited(audit, f"{case.action}.withdraw", case.case, _purpose(case)) as step:
        request = case.request()
        refuse_identifiers(reason, "the reason")
        if person != request.document.requester:
            raise NotPermitted("only who asked can withdraw a request", reason_code="not_the_requester")
        document = write(
            Withdrawal,
            case=case.case,
            request_sha256=request.sha256,
            person=person,
            decided_at=stamp(now),
            reason=reason,
        )
        signed = sign(document, signing_key)
        requesters = rules.policy.requesters_of(request.document.purpose)
        check_signature(signed, person, requesters, rules.register, [now])
        require_state(case, rules, now, ("requested", "approved"))
        _announce(audit, case, request, "withdraw")
        commit_point("review.withdrawal.before")
        case.put(WITHDRAWAL, signed.content, "a withdrawal")
        commit_point("review.withdrawal.after")
        step.reason_code = "withdrawn"
        step.digests = {"request": request.sha256}
    case.forget()
    return signed


# Using -----------------------------------------------------------------------------------------------------


def released_shares(approval: Signed[Approval], request: Signed[Request], identity: str) -> dict[str, Shares]:
    """Vault folder -> the shares that an approval carries, opened with the private half of the review's key.

    Raises :class:`CannotOpen` for another key, :class:`IntegrityError` for shares of another request or side.
    """
    deliveries = carried(approval, request, _binding(request.document), identity)
    try:
        return {
            folder: {
                request.document.recipient: {
                    name: SecretBytes(bytes.fromhex(share)) for name, share in shares.items()
                }
            }
            for folder, shares in deliveries.items()
        }
    except (AttributeError, TypeError, ValueError):
        raise IntegrityError("the shares of an approval are not shares") from None
