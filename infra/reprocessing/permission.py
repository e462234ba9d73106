"""Permission: when a landed delivery may be opened after its window, held against the landing zone as it is now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path

from infra.landing import RECEIPT
from infra.purposes import require_purpose
from infra.receipts import Receipt, read_receipt
from infra.reprocessing.documents import REPROCESSING, ClosedDelivery, ReprocessingRequest
from infra.review.case import read_small
from infra.review.documents import Signed
from infra.review.permission import Rules, check_asked
from schemas.errors import IntegrityError, NotPermitted

REOPEN = "landing.reopen"


def check_reprocessing(signed: Signed[ReprocessingRequest], rules: Rules, now: datetime) -> None:
    """Everything about the request that must hold whenever it is approved or used.

    Raises as :func:`infra.review.permission.check_asked`, and :class:`NotPermitted` (``named_twice``,
    ``retention_over``).
    """
    check_asked(signed, rules, now)
    require_purpose(REPROCESSING, "pipeline", REOPEN, now.date())
    named = [delivery.delivery_id for delivery in signed.document.deliveries]
    if len(set(named)) != len(named):
        raise NotPermitted("a delivery is named twice", reason_code="named_twice")
    for delivery in signed.document.deliveries:
        _refuse_over(delivery.delivery_id, date.fromisoformat(delivery.retain_until), now.date())


def receipt_file(delivery_id: str) -> str:
    """The path of a delivery's receipt in the workspace."""
    return f"landing/{delivery_id}/{RECEIPT}"


def landed_receipt(root: Path, delivery_id: str, signers: Mapping[str, str]) -> tuple[Receipt, str]:
    """The verified receipt of a landed delivery of the workspace (or bundle) at ``root``, and its SHA-256.

    Raises :class:`NotPermitted` (``not_landed``) and :class:`IntegrityError`.
    """
    content = read_small(root / receipt_file(delivery_id))
    if content is None:
        raise NotPermitted(
            "the delivery is not in the landing zone, or not any more", reason_code="not_landed"
        )
    receipt = read_receipt(content, dict(signers))
    if receipt.delivery_id != delivery_id:
        raise IntegrityError("a landed delivery has the receipt of another one")
    return receipt, hashlib.sha256(content).hexdigest()


def check_landed(root: Path, delivery: ClosedDelivery, signers: Mapping[str, str], today: date) -> Receipt:
    """That everything the request says of a landed delivery is what its signed receipt says, and that the delivery may
    still be kept. Returns the receipt.

    Raises as :func:`landed_receipt`, and :class:`NotPermitted` (``retention_over``).
    """
    receipt, digest = landed_receipt(root, delivery.delivery_id, signers)
    said = (
        delivery.receipt_sha256,
        delivery.landing_recipient,
        delivery.content_sha256,
        delivery.dataset,
        delivery.period,
        delivery.received_at,
        delivery.retain_until,
    )
    if said != (
        digest,
        receipt.landing_recipient,
        receipt.content.sha256,
        receipt.dataset,
        receipt.period,
        receipt.received_at,
        receipt.retain_until,
    ):
        raise IntegrityError(
            "a landed delivery is not the one that was asked for",
            next_step="find out who can write to the landing zone; make a new request",
        )
    _refuse_over(receipt.delivery_id, receipt.retained_until, today)
    return receipt


def _refuse_over(delivery_id: str, until: date, today: date) -> None:
    if until < today:
        raise NotPermitted(
            f"{delivery_id} may not be kept any longer, so it is not opened again",
            next_step="`wardwatch retention due` says what has to happen to it",
            reason_code="retention_over",
        )
