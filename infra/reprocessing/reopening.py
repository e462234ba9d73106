"""Reopening: from two approvals to the keys of the named deliveries, in this process's memory, once.

Intent in the audit log; all rules again, at this moment; the approvals used up, durably; the private half of the
request's key taken from the disk; the shares joined and each key held against the delivery's signed receipt. Nothing of
it is written: when the run ends, however it ends, the keys are gone, and reading once more needs two new approvals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from infra.audit import AuditLog
from infra.files import make_folder
from infra.keyring import Keyring
from infra.register import Register
from infra.reprocessing.approval import released_shares
from infra.reprocessing.case import ReprocessingCase
from infra.reprocessing.documents import REPROCESSING, ReprocessingRequest
from infra.reprocessing.permission import REOPEN, check_landed, check_reprocessing
from infra.review import ledger
from infra.review.audited import audited
from infra.review.case import (
    LEDGER,
    REVIEW_KEY,
    every,
    folders,
    forget_ended,
    one_at_a_time,
    sweep_unfinished,
)
from infra.review.documents import Approval, Signed
from infra.review.permission import Rules, check_pair, rules_of
from infra.review.standing import refuse_ended, require_state
from infra.sealing import SecretText, public_of, unseal
from infra.shares import join
from infra.workspace import Workspace
from schemas.errors import CannotOpen, IntegrityError, KeyUnavailable, NotPermitted
from schemas.review_policy import Side


def reopen(
    workspace: Workspace,
    case: ReprocessingCase,
    *,
    keyring: Keyring,
    register: Register,
    audit: AuditLog,
    clock: Callable[[], datetime],
) -> dict[str, SecretText]:
    """Delivery id -> its private landing key, for the deliveries of a request that both officers approved.

    Raises :class:`NotPermitted` with the reason code of the rule that does not hold, :class:`IntegrityError`,
    :class:`KeyUnavailable` and :class:`AuditUnavailable`. After the approvals were used up a failure also finds the
    private half of the request's key destroyed, so that the released shares open nothing any more.
    """
    audit.record("reprocess.open", case.case, purpose=REPROCESSING, case=case.case, reason_code="intent")
    with (
        one_at_a_time(make_folder(case.reviews)),
        audited(audit, "reprocess.open", case.case, REPROCESSING) as step,
    ):
        rules = rules_of(workspace, register)
        request, pair = _permitted(workspace, case, rules, audit, clock())
        secret = _spend(case, request, pair, keyring, audit, clock())
        keys = _joined(request, pair, secret)
        step.reason_code = "opened"
        step.counts = {"deliveries": len(keys)}
        step.digests = {"request": request.sha256}
    return keys


def tidy(workspace: Workspace, now: datetime) -> int:
    """Remove what requests that are over have no use for, above all expired ones. Returns how many."""
    folder = make_folder(workspace.zone(REPROCESSING))
    with one_at_a_time(folder):
        for each in (*folders(folder), folder / LEDGER):
            sweep_unfinished(each)
        return forget_ended(every(ReprocessingCase, folder), now)


def _permitted(
    workspace: Workspace, case: ReprocessingCase, rules: Rules, audit: AuditLog, now: datetime
) -> tuple[Signed[ReprocessingRequest], Mapping[Side, Signed[Approval]]]:
    rules.register.require_recorded(audit.folder)
    request = case.request()
    refuse_ended(case, request.sha256, audit.folder)
    check_reprocessing(request, rules, now)
    pair = check_pair(case.approvals(), request, rules, now)
    if audit.person in {approval.document.person for approval in pair.values()}:
        raise NotPermitted("who approved it does not run it", reason_code="issuer_approves")
    require_state(case, rules, now, ("approved",))
    for delivery in request.document.deliveries:
        check_landed(workspace.root, delivery, rules.signers, now.date())
    return request, pair


def _spend(
    case: ReprocessingCase,
    request: Signed[ReprocessingRequest],
    pair: Mapping[Side, Signed[Approval]],
    keyring: Keyring,
    audit: AuditLog,
    now: datetime,
) -> SecretText:
    """Use up the approvals, and take the private half of the request's key from the disk for good."""
    ledger.spend(case, request, pair.values(), signing_key=keyring.manifest_signing_key, now=now)
    try:
        audit.record(
            "reprocess.spend",
            case.case,
            purpose=REPROCESSING,
            case=case.case,
            reason_code="spent",
            digests={"request": request.sha256},
        )
        for delivery in request.document.deliveries:
            audit.record(
                REOPEN,
                delivery.delivery_id,
                purpose=REPROCESSING,
                case=case.case,
                reason_code="opening",
                digests={"content": delivery.content_sha256},
            )
        try:
            sealed = (case.folder / REVIEW_KEY).read_bytes()
        except OSError:
            raise KeyUnavailable(
                "the key of this request is gone", next_step="make a new request; both officers decide again"
            ) from None
        return SecretText(unseal(sealed, keyring.landing_recovery_identities).decode("ascii"))
    finally:
        case.forget()


def _joined(
    request: Signed[ReprocessingRequest], pair: Mapping[Side, Signed[Approval]], secret: SecretText
) -> dict[str, SecretText]:
    shares = {side: released_shares(approval, request, secret) for side, approval in pair.items()}
    keys = {}
    for delivery in request.document.deliveries:
        joined = join(shares["guardian"][delivery.delivery_id], shares["siro"][delivery.delivery_id])
        try:
            key = SecretText(bytes(joined).decode("ascii"))
            fits = public_of(key) == delivery.landing_recipient
        except (UnicodeDecodeError, CannotOpen, KeyUnavailable):
            fits = False
        if not fits:
            raise IntegrityError(
                "two shares do not give the key of the delivery",
                next_step="find out whose share was exchanged; ask the sender for a re-delivery",
            )
        keys[delivery.delivery_id] = key
    return keys
