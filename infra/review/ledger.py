"""Ledger: which requests have been used up. One file per request, made once, before anything is opened.

A request is spent, not a list: a run that is killed after this has spent it all the same, nothing came out, and the
officers decide again. The name of the file is the digest of the request's exact bytes, so the same request under
another case folder is the same request.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from infra.commit_points import commit_point
from infra.files import make_folder
from infra.review.case import LEDGER, Decided, write_new
from infra.review.documents import Approval, Asked, Signed, Spending, sign, stamp
from infra.signing import SigningKey
from schemas.errors import NotPermitted


def spend(
    case: Decided,
    request: Signed[Asked],
    approvals: Iterable[Signed[Approval]],
    *,
    signing_key: SigningKey,
    now: datetime,
) -> Signed[Spending]:
    """Use up the approvals of ``request``. Of two that try at once exactly one succeeds.

    Raises :class:`NotPermitted` (``spent``), :class:`StorageFull` and :class:`StorageFailed`.
    """
    spending = sign(
        Spending(
            case=case.case,
            request_sha256=request.sha256,
            approvals=tuple(sorted(approval.sha256 for approval in approvals)),
            spent_at=stamp(now),
        ),
        signing_key,
    )
    commit_point("review.spend.before")
    if not write_new(make_folder(case.reviews / LEDGER) / f"{request.sha256}.json", spending.content):
        raise NotPermitted(
            "these approvals have been used already",
            next_step="make a new request; both officers decide again",
            reason_code="spent",
        )
    commit_point("review.spend.after")
    return spending
