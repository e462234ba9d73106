"""Holds: the SIRO's word that a delivery is not destroyed, because of litigation or an open case.

A hold stops the destruction and nothing else: a delivery that is held beyond its time is still overdue, and is not
used because of the hold. A hold counts for as long as its document lies here unlifted, even if the person who signed
it has left since; only its beginning and its end need a SIRO in office.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from infra.audit import AuditLog
from infra.register import Register
from infra.retention.documents import Hold, Signed
from infra.retention.log import done
from infra.retention.permission import signers_of
from infra.retention.records import Records
from infra.review.documents import moment_of, stamp
from infra.signing import SigningKey
from schemas.errors import IntegrityError, NotPermitted, UsageError
from schemas.retention_policy import RetentionPolicy
from transforms.identifiers import refuse_identifiers

SHORTEST_REASON = 10
HOLD, LIFT = "retention.hold", "retention.lift"
_DIGEST = "hold"


def checked_reason(reason: str) -> str:
    """``reason`` with single spaces. Raises :class:`UsageError` if it says too little and
    :class:`~schemas.errors.IdentifierInText`."""
    text = " ".join(reason.split())
    if len(text) < SHORTEST_REASON:
        raise UsageError(f"say the reason in at least {SHORTEST_REASON} characters; it is kept")
    refuse_identifiers(text, "the reason")
    return text


def in_force(
    records: Records, register: Register, policy: RetentionPolicy, audit_folder: Path
) -> Mapping[str, list[Signed[Hold]]]:
    """Delivery id -> the holds on it that nobody has lifted.

    What stands in the folder is verified with the key that signed it, in force or not. The end of a hold counts only
    if a SIRO of its time signed it and the audit log knows of it. Raises :class:`IntegrityError` for a document that
    its signer did not sign, and if the audit log knows of a hold, or of the end of one, that the folder lacks:
    whoever removes a hold must not free the delivery by it.
    """
    found = {signed.sha256: signed for _, signed in records.all(Hold)}
    keys = {key.name: key.public for key, _ in register.keys(register.entries[-1].at)}
    for signed in found.values():
        signed.verify(keys)
    logged = {
        action: {event.digests.get(_DIGEST, "") for event in done(audit_folder, action)}
        for action in (HOLD, LIFT)
    }
    if not logged[HOLD] | logged[LIFT] <= set(found):
        raise IntegrityError(
            "the audit log knows of a hold that the folder retention/holds lacks",
            next_step="restore retention/holds from its backup; nothing is destroyed before",
        )
    lifted = {
        signed.document.lifts
        for digest, signed in found.items()
        if signed.document.lifts and digest in logged[LIFT] and _by_a_siro(signed, register, policy)
    }
    holds: dict[str, list[Signed[Hold]]] = {}
    for digest, signed in found.items():
        if signed.document.lifts is None and digest not in lifted:
            holds.setdefault(signed.document.delivery_id, []).append(signed)
    return holds


def _by_a_siro(signed: Signed[Hold], register: Register, policy: RetentionPolicy) -> bool:
    try:
        signers_of(signed, "hold", register, policy, moment_of(signed.document.made_at))
    except NotPermitted:
        return False
    return True


def put_hold(
    records: Records,
    delivery_id: str,
    reason: str,
    key: SigningKey,
    *,
    register: Register,
    policy: RetentionPolicy,
    audit: AuditLog,
    now: datetime,
) -> Signed[Hold]:
    """Hold ``delivery_id``, signed with ``key``.

    Raises :class:`NotPermitted` unless the key is a SIRO's, :class:`UsageError` for a reason that says nothing, and
    :class:`~schemas.errors.IdentifierInText`.
    """
    hold = Hold(
        delivery_id=delivery_id,
        person=_person(register, key, now),
        reason=checked_reason(reason),
        made_at=stamp(now),
    )
    return _keep(records, hold, key, HOLD, register, policy, audit, now)


def lift_hold(
    records: Records,
    delivery_id: str,
    reason: str,
    key: SigningKey,
    *,
    register: Register,
    policy: RetentionPolicy,
    audit: AuditLog,
    now: datetime,
) -> list[Signed[Hold]]:
    """End every hold on ``delivery_id``. Raises as :func:`put_hold` does, and :class:`UsageError` if there is none."""
    reason = checked_reason(reason)
    holds = in_force(records, register, policy, audit.folder).get(delivery_id, [])
    if not holds:
        raise UsageError(
            "there is no hold on this delivery", next_step="`wardwatch retention due` shows them"
        )
    ends = [
        Hold(
            delivery_id=delivery_id,
            person=_person(register, key, now),
            reason=reason,
            made_at=stamp(now),
            lifts=hold.sha256,
        )
        for hold in holds
    ]
    return [_keep(records, end, key, LIFT, register, policy, audit, now) for end in ends]


def _person(register: Register, key: SigningKey, now: datetime) -> str:
    return register.signer(key.key_id, now).person


def _keep(
    records: Records,
    hold: Hold,
    key: SigningKey,
    action: str,
    register: Register,
    policy: RetentionPolicy,
    audit: AuditLog,
    now: datetime,
) -> Signed[Hold]:
    signed = Signed(hold).sign(key)
    try:
        signers_of(signed, "hold", register, policy, now)
    except NotPermitted as error:
        audit.record(
            action,
            hold.delivery_id,
            purpose="retention",
            decision="refuse",
            reason_code=error.reason_code,
        )
        raise
    # The document first: a line about a hold that is not there would stop every destruction.
    records.put(signed, f"{signed.sha256}.json")
    audit.record(action, hold.delivery_id, purpose="retention", digests={_DIGEST: signed.sha256})
    return signed


def refuse_held(holds: Mapping[str, list[Signed[Hold]]], delivery_id: str) -> None:
    """Raise :class:`NotPermitted` (``held``) if ``delivery_id`` is under a hold."""
    if delivery_id in holds:
        since = min(moment_of(hold.document.made_at) for hold in holds[delivery_id])
        raise NotPermitted(
            f"{delivery_id} is under a hold of {since:%-d %B %Y}",
            next_step="the SIRO lifts it with `wardwatch retention hold DELIVERY --lift --reason TEXT`",
            reason_code="held",
        )
