"""Documents: what a data engineer asks two officers for when a delivery has to be read after its window.

The officers' answers are the documents of :mod:`infra.review.documents`, bound to the exact bytes of this request.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from infra.retention.documents import DeliveryId
from infra.review.documents import Asked, Count, Day, Plain, Sha256
from schemas.contract import Strict

REPROCESSING = "reprocessing"


class ClosedDelivery(Strict):
    """A landed delivery whose window is over. ``records``: of which the lake knows, 0 if it was never read;
    ``landing_recipient``: the public half of its own key, ``receipt_sha256``: of its signed receipt."""

    delivery_id: DeliveryId
    dataset: str
    period: str
    records: Count
    received_at: str
    retain_until: Day
    content_sha256: Sha256
    receipt_sha256: Sha256
    landing_recipient: str = Field(pattern=r"^age1[0-9a-z]+$")


class ReprocessingRequest(Asked):
    """What is to be read again, and why. Both officers sign these bytes."""

    signature_purpose: ClassVar[str] = "reprocessing-request"

    kind: Literal["reprocessing-request"] = "reprocessing-request"
    purpose: Literal["reprocessing"] = "reprocessing"
    deliveries: tuple[ClosedDelivery, ...] = Field(min_length=1)
    why_necessary: Plain
    alternatives_considered: Plain

    @property
    def texts(self) -> dict[str, str]:
        return {
            "why_necessary": self.why_necessary,
            "alternatives_considered": self.alternatives_considered,
            **super().texts,
        }
