"""The steady clock: a decision is made at the moment it is asked for, and that moment is looked at again at use.

Nothing on this machine can say what the time really is. But a clock that moves while something irreversible is under
way can be noticed, because the machine also counts seconds that nobody can set; and so can a clock that shows a time
before the newest line of the audit log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from infra.audit_line import LOG, event_of, parse_line
from schemas.errors import NotPermitted

_TAIL_BYTES = 1 << 16


class SteadyClock:
    """``clock`` gives the time with its zone, ``counter`` seconds that are never set back. ``tolerance``: by how much
    the two may differ from when this was made."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        tolerance: timedelta,
        counter: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._counter = counter
        self._tolerance = tolerance
        self.start = clock()
        self._count = counter()

    def now(self) -> datetime:
        """The time, if it went on as time does. Raises :class:`NotPermitted` (``clock_moved``)."""
        moment = self._clock()
        passed = timedelta(seconds=self._counter() - self._count)
        if abs((moment - self.start) - passed) > self._tolerance:
            raise NotPermitted(
                "the clock of this machine was moved while the work was under way",
                next_step="set the clock right and begin again",
                reason_code="clock_moved",
            )
        return moment

    def refuse_behind(self, audit_folder: Path) -> None:
        """Raise :class:`NotPermitted` (``clock_behind``) if the audit log has a line of a later time than now."""
        last = _last_time(audit_folder)
        if last is not None and self.start < last - self._tolerance:
            raise NotPermitted(
                "the clock of this machine shows a time before the last line of the audit log",
                next_step="set the clock right and begin again",
                reason_code="clock_behind",
            )


def _last_time(audit_folder: Path) -> datetime | None:
    """The time of the newest whole line of the log."""
    try:
        with (audit_folder / LOG).open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _TAIL_BYTES))
            lines = stream.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        entry = parse_line(line)
        if entry is not None:
            return event_of(entry).time
    return None
