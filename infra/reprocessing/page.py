"""Page: what an officer decides by when deliveries are to be opened again, on one screen."""

from __future__ import annotations

import textwrap
from typing import Any

from infra.reprocessing.documents import ReprocessingRequest
from infra.review.documents import Signed
from infra.review.page import WIDTH, field, shown
from schemas.review_policy import State


def facts(request: Signed[ReprocessingRequest], state: State) -> dict[str, Any]:
    """What the page says, for machines: the request, its digest and the state."""
    return {
        "case": request.document.case,
        "state": shown(state),
        "request_sha256": request.sha256,
        "request": request.document.model_dump(mode="json"),
    }


def page(request: Signed[ReprocessingRequest], state: State) -> str:
    """The page as text of at most 100 columns."""
    asked = request.document
    many = len(asked.deliveries) > 1
    lines = [
        "OFFICIAL SENSITIVE" + ("   DEMONSTRATION: no real person, no real agreement" if asked.demo else ""),
        f"Case {asked.case}: {shown(state)}",
        "",
        *field(
            "What",
            f"{len(asked.deliveries)} deliver{'ies' if many else 'y'} as received, identifiable items included, "
            "past the landing window",
        ),
        *field("To", "the pipeline, once, in memory: checked, split and computed as on the day of arrival"),
        *field("Not", "nobody is shown a record; nothing leaves for a hospital"),
        "",
    ]
    for delivery in asked.deliveries:
        records = f"{delivery.records:,} records" if delivery.records else "never read"
        lines += field(
            "Delivery",
            f"{delivery.delivery_id}, {records}, received {delivery.received_at[:10]}, "
            f"to be kept until {delivery.retain_until}",
        )
    lines += [
        "",
        *field("Led here", asked.trigger),
        *field("Necessary", asked.why_necessary),
        *field("Otherwise", f"What else was considered: {asked.alternatives_considered}"),
        "",
        *field("Agreement", asked.agreement),
        *field("Asked by", f"{asked.requester} at {asked.made_at}"),
        *field("Valid", f"{asked.not_before} to {asked.expires}, for one use"),
        *field("Request", request.sha256),
        "",
        *textwrap.wrap(
            "Signing releases your half of the keys of these deliveries, to be used once. It opens nothing without "
            "the other officer, whose decision is not shown here.",
            WIDTH,
        ),
    ]
    return "\n".join(lines)
