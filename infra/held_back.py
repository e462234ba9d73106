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

from infra.release import Held
from infra.review.case import ZONE, cases
from infra.review.permission import Rules
from infra.review.standing import state_now
from infra.workspace import Workspace
from schemas.errors import UsageError

OVER = frozenset({"refused", "withdrawn", "expired"})


def held_by_cases(
    workspace: Workspace,
    rules: Rules,
    indicators: Iterable[str],
    now: datetime,
    closed: Collection[str] = (),
) -> Held:
    """(indicator, provider) of everything that an open case is about.

    A case that names none of ``indicators`` in what triggered it holds back everything of its hospital. ``closed``:
    codes of received cases that are over. Raises :class:`UsageError` for one that is unknown or was not received.
    """
    known = sorted(indicators)
    held: set[tuple[str, str]] = set()
    unknown = set(closed)
    for case in cases(workspace.zone(ZONE)):
        state = state_now(case, rules, now)
        if case.case in closed and state == "received":
            unknown.discard(case.case)
            continue
        if state in OVER:
            continue
        asked = case.request().document
        words = set(re.findall(r"[a-z0-9_]+", asked.trigger.lower()))
        named = [name for name in known if name in words or f"{name}_v1" in words] or known
        held |= {(name, asked.recipient) for name in named}
    if unknown:
        raise UsageError(
            f"{len(unknown)} of the cases said to be closed are unknown, or their list was not received",
            next_step="`wardwatch review show` lists the cases",
        )
    return frozenset(held)
