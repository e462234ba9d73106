"""Request: what an analyst asks for, with everything that two officers need in order to say yes or no.

Making one finds the cohort, writes down its digest and counts, and makes the key pair of this review. The private
half of that pair is sealed to the pipeline and waits in the case's folder: both officers' shares will be sealed to its
public half, so that only the pipeline, and only with both approvals in hand, can join them. The records that were
found wait there as well, sealed in the same way.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.audit import AuditLog
from infra.commit_points import commit_point
from infra.files import make_folder, write_atomic
from infra.keyring import Keyring
from infra.review.audited import audited
from infra.review.case import REQUEST, REVIEW_KEY, ZONE, Case
from infra.review.cohort import Cohort, deliveries_of, find_cohort, load_question, summary
from infra.review.documents import (
    Acknowledged,
    Predicate,
    Request,
    Signed,
    case_code,
    sign,
    stamp,
    vouch,
    write,
)
from infra.review.kept import keep, lake_state
from infra.review.permission import Rules, check_request, policy_digest
from infra.sealing import new_identity, seal
from infra.signing import SigningKey
from infra.workspace import Workspace
from schemas.errors import NotPermitted


@dataclass(frozen=True)
class Wish:
    """What the requester says; everything else of a request is found out.

    ``trigger``: the indicator and alert that led here. ``valid_for``: from now on; None for as long as is allowed.
    """

    recipient: str
    predicate: str
    parameters: Mapping[str, str]
    legal_gateway: str
    trigger: str
    necessity: Mapping[str, str]
    items: tuple[str, ...] = ("local_patient_identifier",)
    max_rows: int | None = None
    acknowledge_few: bool = False
    acknowledge_many: bool = False
    emergency: bool = False
    valid_for: timedelta | None = None


def make_request(
    workspace: Workspace,
    wish: Wish,
    *,
    person: str,
    signing_key: SigningKey,
    keyring: Keyring,
    rules: Rules,
    audit: AuditLog,
    now: datetime,
) -> Signed[Request]:
    """Find the cohort, write and sign the request, and keep it as a new case.

    Raises :class:`NotPermitted` with the reason code of the rule that does not hold, :class:`IdentifierInText`,
    :class:`UsageError`; each is in the audit log, and then nothing is kept.
    """
    request_id = secrets.token_hex(16)
    case = case_code(request_id)
    purpose = "break_glass" if wish.emergency else "case_review"
    with audited(audit, "review.request", case, purpose) as step:
        signed, secret, cohort = _written(
            workspace, wish, request_id, person, signing_key, keyring, rules, now
        )
        check_request(signed, rules, now)
        folder = make_folder(workspace.zone(ZONE))
        found = Case(folder, case)
        write_atomic(
            make_folder(found.folder) / REVIEW_KEY,
            seal(str.encode(secret), keyring.landing_recovery_recipient),
        )
        keep(found.folder, request_id, cohort, keyring)
        commit_point("review.request.before")
        found.put(REQUEST, signed.content, "a request")
        commit_point("review.request.after")
        step.reason_code = "made"
        step.counts = {
            "records": signed.document.cohort.records,
            "patients": signed.document.cohort.patients,
            "deliveries": len(signed.document.cohort.deliveries),
        }
        step.digests = {
            "request": signed.sha256,
            "cohort": signed.document.cohort.digest,
            "policy": signed.document.policy,
        }
    return signed


def _written(
    workspace: Workspace,
    wish: Wish,
    request_id: str,
    person: str,
    signing_key: SigningKey,
    keyring: Keyring,
    rules: Rules,
    now: datetime,
) -> tuple[Signed[Request], str, Cohort]:
    policy = rules.policy
    if set(wish.items) - {item.value for item in policy.emittable_items}:
        raise NotPermitted(
            "a list holds the local patient identifier and nothing else", reason_code="item_not_emittable"
        )
    predicate = {
        "name": wish.predicate,
        "sha256": load_question(wish.predicate).sha256,
        "parameters": dict(wish.parameters),
    }
    key = rules.register.hospital(wish.recipient, now)
    deliveries = deliveries_of(workspace, keyring)
    cohort = find_cohort(
        workspace, keyring, deliveries, Predicate.model_validate(predicate), wish.recipient, policy
    )
    longest = (
        timedelta(hours=policy.limit("emergency_hours"))
        if wish.emergency
        else timedelta(days=policy.limit("longest_validity_days"))
    )
    made = now.replace(microsecond=0)
    secret, public = new_identity()
    request = write(
        Request,
        case=case_code(request_id),
        id=request_id,
        demo=rules.register.demo,
        requester=person,
        purpose="break_glass" if wish.emergency else "case_review",
        legal_gateway=wish.legal_gateway,
        agreement=rules.agreement.reference,
        trigger=wish.trigger,
        recipient=wish.recipient,
        recipient_key=key.fingerprint,
        items=wish.items,
        predicate=predicate,
        cohort=summary(
            workspace,
            deliveries,
            cohort,
            request_id,
            wish.recipient,
            wish.items,
            keyring.signers("manifest_signing"),
        ),
        lake_state=lake_state(deliveries),
        necessity=dict(wish.necessity),
        acknowledged=Acknowledged(few_patients=wish.acknowledge_few, more_than_the_cap=wish.acknowledge_many),
        max_rows=wish.max_rows or policy.limit("most_rows" if wish.acknowledge_many else "row_cap"),
        made_at=stamp(made),
        not_before=stamp(made),
        expires=stamp(made + (wish.valid_for or longest)),
        policy=policy_digest(),
        register_digest=rules.register.digest,
        review_recipient=public,
    )
    vouched = vouch(request, keyring.manifest_signing_key)
    return sign(vouched, signing_key), secret, cohort
