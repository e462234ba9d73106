"""The deadline: by when a request is to be answered, the earliest date of the clocks that apply to it.

Months count as the law does: the same day of a later month, or its last day if there is none (the Information
Commissioner's reading of "one month"). Working days are counted from the first one after the day on which the clock
starts ("following the date of receipt"). Both are days, not hours: the whole of the last day is in time.
"""

from __future__ import annotations

import calendar
from datetime import date, timedelta

from schemas.request_policy import Calendar, Clock, RequestKind


def months_after(day: date, months: int) -> date:
    """The same day ``months`` later, or the last day of that month."""
    years, month = divmod(day.month - 1 + months, 12)
    last = calendar.monthrange(day.year + years, month + 1)[1]
    return date(day.year + years, month + 1, min(day.day, last))


def working_days_after(day: date, count: int, working: Calendar) -> date:
    """The ``count``-th working day after ``day``. Raises :class:`UsageError` outside the calendar."""
    while count:
        day += timedelta(days=1)
        count -= working.is_working_day(day)
    return day


def ends(clock: Clock, start: date, working: Calendar) -> date:
    """The last day of ``clock`` that starts on ``start``."""
    if clock.months is not None:
        return months_after(start, clock.months)
    if clock.working_days is not None:
        return working_days_after(start, clock.working_days, working)
    assert clock.days is not None, "the loader saw to it that a clock has one length"
    return start + timedelta(days=clock.days)


def due_date(kind: RequestKind, received: date, confirmed: date | None, working: Calendar) -> date | None:
    """The last day for the answer; None while no clock in force has started.

    ``confirmed``: the day on which the identity of the person asking was confirmed.
    """
    starts = {"received": received, "identity_confirmed": confirmed}
    found = [
        ends(clock, start, working)
        for clock in kind.clocks
        if clock.status == "in_force" and (start := starts[clock.starts]) is not None
    ]
    return min(found, default=None)
