"""Transitions: the state that a case is in, from what happened to it and from the clock.

The table is data (``schemas/policy/review.yaml``). Nothing stores a state: it follows from the signed documents of
the case, so that no file can be edited into another one. The diagram in ``README.md`` is made here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from schemas.errors import NotPermitted
from schemas.review_policy import Event, ReviewPolicy, State

Happening = tuple[datetime, Event]
# Events of one moment in the order in which they can follow each other.
_ORDER: tuple[Event, ...] = ("approve", "refuse", "withdraw", "expire", "spend", "issue", "receive")


def next_state(policy: ReviewPolicy, state: State, event: Event) -> State:
    """Where ``event`` leads from ``state``. Raises :class:`NotPermitted` (reason ``wrong_state``)."""
    for row in policy.transitions:
        if (row.from_state, row.event) == (state, event):
            return row.to
    raise NotPermitted(f"a case that is {state} cannot {event} any more", reason_code="wrong_state")


def state_of(policy: ReviewPolicy, happened: Iterable[Happening], expires: datetime, now: datetime) -> State:
    """The state at ``now`` of a case to which ``happened`` happened and whose request ends at ``expires``.

    An event that the table does not know from the state it met changes nothing: a refusal that comes after the list
    was issued is a document, and no way back.
    """
    events = [*happened, (expires, "expire")] if now >= expires else list(happened)
    state = policy.first_state
    for _, event in sorted(events, key=lambda entry: (entry[0], _ORDER.index(entry[1]))):
        for row in policy.transitions:
            if (row.from_state, row.event) == (state, event):
                state = row.to
                break
    return state


def final_states(policy: ReviewPolicy) -> tuple[State, ...]:
    """The states that nothing leads out of, in the order of the table."""
    left = {row.from_state for row in policy.transitions}
    return tuple(dict.fromkeys(row.to for row in policy.transitions if row.to not in left))


def mermaid(policy: ReviewPolicy) -> str:
    """The table as the text of a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {policy.first_state}"]
    lines += [f"    {row.from_state} --> {row.to}: {row.event} ({row.by})" for row in policy.transitions]
    lines += [f"    {state} --> [*]" for state in final_states(policy)]
    return "\n".join(lines)
