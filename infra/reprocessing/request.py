"""Request: which deliveries have to be read again after their window, and why no other way will do.

Making one takes what the landing zone and the lake say of each delivery and makes the key pair of this request: both
officers' shares will be sealed to its public half. The private half waits in the request's folder, sealed to the
pipeline, until the request is used or over.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.audit import AuditLog
from infra.commit_points import commit_point
from infra.files import make_folder, write_atomic
from infra.keyring import Keyring
from infra.lake import NOT_USED
from infra.landing import PIPELINE_KEY
from infra.receipts import DELIVERY_ID
from infra.reprocessing.case import ReprocessingCase
from infra.reprocessing.documents import REPROCESSING, ClosedDelivery, ReprocessingRequest
from infra.reprocessing.permission import check_reprocessing, landed_receipt
from infra.review.audited import audited
from infra.review.case import REQUEST, REVIEW_KEY
from infra.review.cohort import deliveries_of
from infra.review.documents import Signed, case_code, sign, stamp, vouch, write
from infra.review.permission import Rules, policy_digest
from infra.sealing import new_identity, seal
from infra.signing import SigningKey
from infra.workspace import Workspace
from schemas.errors import UsageError


@dataclass(frozen=True)
class Reasons:
    """``trigger``: what led here, ``why``: why it is necessary, ``alternatives``: what else was considered, above all
    a re-delivery. ``valid_for``: from now on; None for as long as is allowed."""

    trigger: str
    why: str
    alternatives: str
    valid_for: timedelta | None = None


def make_request(
    workspace: Workspace,
    deliveries: Sequence[str],
    reasons: Reasons,
    *,
    person: str,
    signing_key: SigningKey,
    keyring: Keyring,
    rules: Rules,
    audit: AuditLog,
    now: datetime,
) -> Signed[ReprocessingRequest]:
    """Write and sign the request for ``deliveries`` (their ids), and keep it.

    Raises :class:`NotPermitted` with the reason code of the rule that does not hold, :class:`IdentifierInText`,
    :class:`UsageError`; each is in the audit log, and then nothing is kept.
    """
    request_id = secrets.token_hex(16)
    case = ReprocessingCase(make_folder(workspace.zone(REPROCESSING)), case_code(request_id))
    with audited(audit, "reprocess.request", case.case, REPROCESSING) as step:
        secret, public = new_identity()
        made = now.replace(microsecond=0)
        longest = timedelta(days=rules.policy.limit("longest_validity_days"))
        request = write(
            ReprocessingRequest,
            case=case.case,
            id=request_id,
            demo=rules.register.demo,
            requester=person,
            agreement=rules.agreement.reference,
            trigger=reasons.trigger,
            deliveries=_closed(workspace, keyring, deliveries, rules),
            why_necessary=reasons.why,
            alternatives_considered=reasons.alternatives,
            made_at=stamp(made),
            not_before=stamp(made),
            expires=stamp(made + (reasons.valid_for or longest)),
            policy=policy_digest(),
            register_digest=rules.register.digest,
            review_recipient=public,
        )
        signed = sign(vouch(request, keyring.manifest_signing_key), signing_key)
        check_reprocessing(signed, rules, now)
        write_atomic(
            make_folder(case.folder) / REVIEW_KEY,
            seal(str.encode(secret), keyring.landing_recovery_recipient),
        )
        commit_point("reprocess.request.before")
        case.put(REQUEST, signed.content, "a request")
        commit_point("reprocess.request.after")
        step.reason_code = "made"
        step.counts = {"deliveries": len(request.deliveries)}
        step.digests = {"request": signed.sha256, "policy": request.policy}
    return signed


def _closed(
    workspace: Workspace, keyring: Keyring, deliveries: Sequence[str], rules: Rules
) -> list[ClosedDelivery]:
    """What is to be opened. Raises :class:`UsageError` for a delivery that is open or not in use."""
    known = {row.delivery_id: row for row in deliveries_of(workspace, keyring)}
    landed = workspace.zone("landing")
    closed = []
    for delivery in deliveries:
        row = known.get(delivery)
        if not DELIVERY_ID.fullmatch(delivery):
            raise UsageError("this is no id of a delivery", next_step="`wardwatch status` shows them")
        receipt, digest = landed_receipt(workspace.root, delivery, rules.signers)
        if row is not None and row.status in NOT_USED:
            raise UsageError(
                f"{delivery} is {row.status}, no run would use it",
                next_step="`wardwatch status` shows what is in use",
            )
        if (landed / delivery / PIPELINE_KEY).exists():
            raise UsageError(
                f"the landing window of {delivery} is open", next_step="`wardwatch backfill` can read it"
            )
        closed.append(
            ClosedDelivery(
                delivery_id=delivery,
                dataset=receipt.dataset,
                period=receipt.period,
                records=row.rows_in if row is not None else 0,
                received_at=receipt.received_at,
                retain_until=receipt.retain_until,
                content_sha256=receipt.content.sha256,
                receipt_sha256=digest,
                landing_recipient=receipt.landing_recipient,
            )
        )
    return closed
