"""Page: a request on one screen, for the officer who decides about it.

What would be released, from whom, of how many, why, and what else could have been done; then what signing means. It
shows counts and reasons, and nothing about what anybody else decided.
"""

from __future__ import annotations

import textwrap
from datetime import datetime
from typing import Any

from infra.review.cohort import load_question
from infra.review.documents import Request, Signed, moment_of
from infra.review.permission import Rules
from schemas.errors import NotPermitted, WardwatchError
from schemas.review_policy import State

WIDTH = 100


def facts(request: Signed[Request], rules: Rules, state: State) -> dict[str, Any]:
    """What the page says, for machines: the request, its digest and the state."""
    asked = request.document
    return {
        "case": asked.case,
        "state": shown(state),
        "request_sha256": request.sha256,
        "request": asked.model_dump(mode="json"),
        "hospital_key_in_force": key_is_in_force(request, rules, moment_of(asked.made_at)),
        "legal_gateway": getattr(rules.policy.gateway(asked.legal_gateway), "says", ""),
    }


def shown(state: State) -> str:
    """As an officer sees it: that the other one has decided is not said before both have."""
    return {"requested": "open for decision", "approved": "approved by both"}.get(state, state)


def key_is_in_force(request: Signed[Request], rules: Rules, at: datetime) -> bool:
    try:
        key = rules.register.hospital(request.document.recipient, at)
    except NotPermitted:
        return False
    return key.fingerprint == request.document.recipient_key


def page(request: Signed[Request], rules: Rules, state: State, now: datetime) -> str:
    """The page as text of at most 100 columns."""
    asked, policy = request.document, rules.policy
    cohort, why = asked.cohort, asked.necessity
    try:
        title = load_question(asked.predicate.name).title
    except WardwatchError:
        title = f"{asked.predicate.name} (not installed here)"
    gateway = policy.gateway(asked.legal_gateway)
    parameters = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in sorted(asked.predicate.parameters.items())
    )
    records = "record" if cohort.records == 1 else "records"
    patients = "patient" if cohort.patients == 1 else "patients"
    lines = [
        "OFFICIAL SENSITIVE" + ("   DEMONSTRATION: no real person, no real agreement" if asked.demo else ""),
        f"Case {asked.case}: {shown(state)}",
    ]
    if asked.purpose == "break_glass":
        lines.append(
            "EMERGENCY PROCEDURE: reviewed afterwards by the Caldicott Guardian; an incident is raised"
        )
    lines += [
        "",
        *field(
            "What",
            f"hospital numbers (local patient identifiers) of {cohort.patients} {patients}, and nothing else",
        ),
        *field(
            "To",
            f"{asked.recipient}, sealed to its key {asked.recipient_key}"
            + ("" if key_is_in_force(request, rules, now) else "  (THIS KEY IS NOT IN FORCE NOW)"),
        ),
        *field("Whose", f"{title}: {parameters}"),
        *field(
            "Found",
            f"{cohort.records} {records} in {len(cohort.deliveries)} "
            f"deliver{'y' if len(cohort.deliveries) == 1 else 'ies'}; at most {asked.max_rows} numbers are released",
        ),
        *field(
            "Left out",
            "records whose number another organisation issued; empty and placeholder numbers; numbers that "
            "look like an NHS number, a postcode or a date. They are counted, never released",
        ),
    ]
    if asked.acknowledged.few_patients:
        lines += field("NOTE", "this is about very few patients, and the requester says that this is meant")
    if asked.acknowledged.more_than_the_cap:
        lines += field(
            "NOTE", f"this may be more than the usual {policy.limit('row_cap')}, and that is meant"
        )
    lines += [
        "",
        *field("Led here", asked.trigger),
        *field("Step 1", f"Why it is necessary: {why.why_necessary}"),
        *field("", f"What else was considered: {why.alternatives_considered}"),
        *field("Step 2", f"Why it is proportionate: {why.why_proportionate}"),
        *field("", f"Objections considered: {why.objections_considered}"),
        "",
        *field("Law", gateway.says if gateway else "no legal gateway of the policy"),
        *field("Agreement", asked.agreement),
        *field("Asked by", f"{asked.requester} at {asked.made_at}"),
        *field("Valid", f"{asked.not_before} to {asked.expires}, for one use"),
        *field("Request", request.sha256),
        "",
        *textwrap.wrap(
            "Signing releases your half of the keys of this one hospital's numbers in these deliveries, to be "
            "used once. It opens nothing without the other officer, whose decision is not shown here.",
            WIDTH,
        ),
    ]
    return "\n".join(lines)


def field(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"{name:<11}", subsequent_indent=" " * 11, break_long_words=True
    )
