"""Approval: one officer's yes to opening deliveries again, made on the officer's own machine.

What leaves that machine is a signed file with this officer's half of the keys of exactly the deliveries of one request,
sealed to the key pair of that request. Alone it opens nothing. It is handed in, refused and withdrawn as in a case
review (:mod:`infra.review.approval`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from infra.landing import GUARDIAN_SHARE, SIRO_SHARE
from infra.landing_share import open_share
from infra.reprocessing.documents import ReprocessingRequest
from infra.reprocessing.permission import check_landed, check_reprocessing
from infra.review.documents import Approval, Signed
from infra.review.permission import Rules, check_approver
from infra.review.released import carried, release
from infra.sealing import SecretBytes
from infra.signing import SigningKey
from schemas.errors import IntegrityError
from schemas.review_policy import Side

BINDING = {"kind": "reprocessing-shares"}
SHARE_FILE: Mapping[Side, str] = {"guardian": GUARDIAN_SHARE, "siro": SIRO_SHARE}


def approve(
    request: Signed[ReprocessingRequest],
    side: Side,
    *,
    person: str,
    identity: str,
    signing_key: SigningKey,
    root: Path,
    rules: Rules,
    now: datetime,
) -> Signed[Approval]:
    """The approval of ``request`` by ``person`` for ``side``.

    ``identity``: the officer's private age key. ``root``: the workspace, or a bundle of its shape. Raises
    :class:`NotPermitted` with the reason code of the rule that does not hold, :class:`IntegrityError` if what was
    landed is not what was asked for, and :class:`CannotOpen` for another person's key.
    """
    check_reprocessing(request, rules, now)
    asked = request.document
    role = rules.register.require_role(person, rules.policy.roles_of(asked.purpose, side), now)
    check_approver(person, asked, rules.register, rules.policy, now)
    shares: dict[str, str] = {}
    for delivery in asked.deliveries:
        check_landed(root, delivery, rules.signers, now.date())
        half = open_share(
            _share(root, delivery.delivery_id, side),
            identity,
            delivery.delivery_id,
            side,
            delivery.landing_recipient,
        )
        shares[delivery.delivery_id] = half.hex()
    return release(
        request, BINDING, shares, side=side, person=person, role=role, signing_key=signing_key, now=now
    )


def _share(root: Path, delivery_id: str, side: Side) -> bytes:
    try:
        return (root / "landing" / delivery_id / SHARE_FILE[side]).read_bytes()
    except OSError:
        raise IntegrityError("a share of a landed delivery is missing") from None


def released_shares(
    approval: Signed[Approval], request: Signed[ReprocessingRequest], identity: str
) -> dict[str, SecretBytes]:
    """Delivery -> the share that an approval carries, opened with the private half of the request's key.

    Raises :class:`CannotOpen` for another key, :class:`IntegrityError` for shares of another request, side or
    delivery.
    """
    shares = carried(approval, request, BINDING, identity)
    named = {delivery.delivery_id for delivery in request.document.deliveries}
    if set(shares) != named:
        raise IntegrityError("the shares of an approval are those of other deliveries")
    try:
        return {delivery: SecretBytes(bytes.fromhex(share)) for delivery, share in shares.items()}
    except (TypeError, ValueError):
        raise IntegrityError("the shares of an approval are not shares") from None
