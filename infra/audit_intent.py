"""The intent: a line that says what is about to be done, so that a kill between the deed and its line leaves a trace.

An action that changes something durable has two lines. The first, with the reason code ``begun`` and the count
``intent`` 0, is durable before anything is done. The second has the count ``intent`` = the number of the first, and
says how it ended. An intent without a second line is what a killed run leaves behind; the next run looks at what it
finds and writes the second line in its place, with a reason code that begins with ``recovered``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from infra.audit_file import is_there
from infra.audit_line import LOG, Decision, Event, event_of, parse_line
from schemas.errors import DeliveryRefused, DisclosureRefused, IdentifierInText, NotPermitted, WardwatchError

INTENT = "intent"  # the reserved count
BEGUN = "begun"

# What became of an intent, as far as the one who finds it can tell.
Found = Literal["done", "not_done", "unknown"]
RECOVERED: dict[Found, tuple[Decision, str]] = {
    "done": ("allow", "recovered_done"),
    "not_done": ("fail", "recovered_not_done"),
    "unknown": ("fail", "recovered_outcome_unknown"),
}

_REFUSALS = (DeliveryRefused, NotPermitted, IdentifierInText, DisclosureRefused)
_MARK = f'"{INTENT}":'.encode()


@dataclass
class ActionOutcome:
    """How an action ended, filled in while it is done: what its second line will say.

    ``decision`` is ``break_glass`` for an action that was allowed in that way; ``reason_code`` is a code.
    """

    counts: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    decision: Decision = "allow"
    reason_code: str = "done"

    def failed(self, error: BaseException) -> None:
        """Take decision and reason from what stopped the action; its counts no longer count."""
        self.decision = "refuse" if isinstance(error, _REFUSALS) else "fail"
        self.reason_code = "interrupted_or_crashed"
        if isinstance(error, NotPermitted):
            self.reason_code = error.reason_code
        elif isinstance(error, WardwatchError):
            self.reason_code = error.code
        self.counts.clear()
        self.digests.clear()


def is_intent(event: Event) -> bool:
    """Whether ``event`` is the first of two lines."""
    return event.reason_code == BEGUN and event.counts.get(INTENT) == 0


def unfinished(folder: Path, actions: Iterable[str] | None = None) -> list[Event]:
    """The intents in the log of ``folder`` that no second line follows, oldest first.

    ``actions``: only those named, each with what is below it (``lake`` means ``lake.write`` too). An action that
    another process is about to finish is among them, so ask for those that nobody but you can be doing.
    """
    wanted = None if actions is None else tuple(f"{action}." for action in actions)
    pending: dict[int, Event] = {}
    path = folder / LOG
    if not is_there(path):
        return []
    with path.open("rb") as stream:
        for raw in stream:
            entry = parse_line(raw.rstrip(b"\n")) if _MARK in raw else None
            if entry is None:
                continue
            event = event_of(entry)
            if is_intent(event):
                pending[event.seq] = event
            else:
                pending.pop(event.counts.get(INTENT, 0), None)
    return [event for event in pending.values() if wanted is None or f"{event.action}.".startswith(wanted)]
