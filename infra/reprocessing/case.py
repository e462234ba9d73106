"""Case: the folder of one request to open deliveries again, and the signed documents in it.

``reprocessing/<case>/`` holds what ``reviews/<case>/`` holds of a case review (see :mod:`infra.review.case`), without a
cohort, a list or a receipt; the run manifest says what became of it.
"""

from __future__ import annotations

from datetime import datetime

from infra.landing import GUARDIAN_SHARE, SIRO_SHARE
from infra.reprocessing.documents import REPROCESSING, ReprocessingRequest
from infra.reprocessing.permission import check_reprocessing, receipt_file
from infra.review.case import Decided
from infra.review.documents import Signed
from infra.review.permission import Rules


class ReprocessingCase(Decided):
    """One request of the folder ``reprocessing`` of a workspace, or of a bundle of the same shape."""

    action = "reprocess"
    show = "wardwatch reprocess show"
    zone = REPROCESSING

    def request(self) -> Signed[ReprocessingRequest]:
        return self._asked(ReprocessingRequest)

    def check(self, rules: Rules, now: datetime) -> None:
        check_reprocessing(self.request(), rules, now)

    def needed(self) -> list[str]:
        named = [delivery.delivery_id for delivery in self.request().document.deliveries]
        shares = [f"landing/{each}/{name}" for each in named for name in (GUARDIAN_SHARE, SIRO_SHARE)]
        return [receipt_file(each) for each in named] + shares
