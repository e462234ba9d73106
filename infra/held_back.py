"""What open cases hold back from a public set.

While a hospital looks into what an indicator asks about it, the answer is not published over its head: results of that
hospital in that indicator wait until the case is closed (governance, attack 126: an outlier stays OFFICIAL SENSITIVE
until its case is closed). A case ends by a refusal, a withdrawal or its expiry; one whose list was received is over
when the release manager says so, since what the hospital finds in its records is outside this program.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import datetime

import polars as pl

from infra.provider_reference import workspace_reference
from infra.release import Held
from infra.review.case import ZONE, cases
from infra.review.permission import Rules
from infra.review.standing import came_to_nothing, state_now
from infra.workspace import Workspace
from schemas.errors import UsageError
from schemas.provider_reference import ProviderReference

OVER = frozenset({"refused", "withdrawn", "expired"})
HANDED_OVER = frozenset({"issued", "received"})


def held_by_cases(
    workspace: Workspace,
    rules: Rules,
    indicators: Iterable[str],
    now: datetime,
    closed: Collection[str] = (),
) -> Held:
    """(indicator, provider) of everything that an open case is about.

    A case that names none of ``indicators`` in what triggered it holds back everything of its hospital. ``closed``:
    codes of cases that are over although the hospital has its list. Raises :class:`UsageError` for one that is unknown
    or of which no list was issued. Results of a hospital that was taken over stand under its successor, so these wait
    as well.
    """
    known = sorted(indicators)
    reference = workspace_reference(workspace.root)
    held: set[tuple[str, str]] = set()
    unknown = set(closed)
    for case in cases(workspace.zone(ZONE)):
        state = state_now(case, rules, now)
        if case.case in closed and state in HANDED_OVER:
            unknown.discard(case.case)
            continue
        if state in OVER or came_to_nothing(case, state, now):
            continue
        asked = case.request().document
        words = set(re.findall(r"[a-z0-9_]+", asked.trigger.lower()))
        named = [name for name in known if name in words or f"{name}_v1" in words] or known
        held |= {(name, code) for name in named for code in _standing_for(reference, asked.recipient)}
    if unknown:
        raise UsageError(
            f"{len(unknown)} of the cases said to be closed are unknown, or no list of theirs was issued",
            next_step="`wardwatch review show` lists the cases",
        )
    return frozenset(held)


def _standing_for(reference: ProviderReference | None, provider: str) -> set[str]:
    """The provider and every organisation that took over from it, one after the other."""
    found, following = {provider}, {provider}
    while following and reference is not None:
        steps = reference.successions().filter(pl.col("predecessor").is_in(list(following)))
        following = set(steps["successor"]) - found
        found |= following
    return found
