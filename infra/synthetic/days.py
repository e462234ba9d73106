"""The synthetic world's days: which are clinical, which are reserved for canaries.

Every identifiable date (birth, mother's birth, baby's birth, death) falls on a *reserved* day of the month,
every other date of the extracts never does (``canaries.RESERVED_DAYS_OF_MONTH``). Reserved days are never
next to each other, so a date that would fall on one simply moves to the day after, order is kept, and a
reserved day lies within three days of any day.

A day is an ``int64``: days since 1890-01-01; ``NO_DAY`` stands for an empty field, the two sentinels for the
dates by which HES says "null submitted" and "invalid submitted" (HES technical output specification 1.15).
Strings are looked up in tables made once; formatting dates row by row would take longer than everything else.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from infra.synthetic.canaries import RESERVED_DAYS_OF_MONTH

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

EPOCH: Final = date(1890, 1, 1)
LAST: Final = date(2099, 12, 31)
COUNT: Final = (LAST - EPOCH).days + 1
NO_DAY: Final = -1
NULL_SUBMITTED: Final = COUNT
INVALID_SUBMITTED: Final = COUNT + 1

_DATES: Final = [EPOCH + timedelta(days=i) for i in range(COUNT)]
YEAR: Final[Ints] = np.array([d.year for d in _DATES], dtype=np.int64)
MONTH: Final[Ints] = np.array([d.month for d in _DATES], dtype=np.int64)
DAY_OF_MONTH: Final[Ints] = np.array([d.day for d in _DATES], dtype=np.int64)
WEEKDAY: Final[Ints] = (np.arange(COUNT, dtype=np.int64) + EPOCH.weekday()) % 7  # Monday is 0
FINANCIAL_YEAR: Final[Ints] = np.where(MONTH >= 4, YEAR, YEAR - 1)
IS_RESERVED: Final[Bools] = np.isin(DAY_OF_MONTH, sorted(RESERVED_DAYS_OF_MONTH))

_all: Final[Ints] = np.arange(COUNT, dtype=np.int64)
CLINICAL: Final[Ints] = np.where(IS_RESERVED, _all + 1, _all)
"""The same day, or the day after when that day is reserved."""
RESERVED_ON_OR_BEFORE: Final[Ints] = np.maximum.accumulate(np.where(IS_RESERVED, _all, 0))
RESERVED_ON_OR_AFTER: Final[Ints] = np.minimum.accumulate(np.where(IS_RESERVED, _all, COUNT - 1)[::-1])[::-1]


def _strings(form: str, null_submitted: str | None, invalid_submitted: str | None) -> pl.Series:
    texts: list[str | None] = [None]
    texts += [d.strftime(form) for d in _DATES]
    return pl.Series([*texts, null_submitted, invalid_submitted], dtype=pl.String)


_ISO: Final = _strings("%Y-%m-%d", "1800-01-01", "1801-01-01")
_COMPACT: Final = _strings("%Y%m%d", "18000101", "18010101")
_MONTH_YEAR: Final = _strings("%m%Y", None, None)
_YEAR_MONTH: Final = _strings("%Y%m", None, None)


def day(value: date) -> int:
    """The day number of a date."""
    return (value - EPOCH).days


def as_date(number: int) -> date:
    return _DATES[number]


def year_start(financial_year: int) -> int:
    """1 April of the year in which the financial year begins."""
    return day(date(financial_year, 4, 1))


def iso(days: Ints) -> pl.Series:
    """``YYYY-MM-DD``; null for ``NO_DAY``, the HES sentinels for the two sentinel days."""
    return _ISO.gather(days + 1)


def compact(days: Ints) -> pl.Series:
    """``YYYYMMDD``."""
    return _COMPACT.gather(days + 1)


def month_year(days: Ints) -> pl.Series:
    """``MMYYYY``, the form of MYDOB; null for the sentinels."""
    return _MONTH_YEAR.gather(days + 1)


def year_month(days: Ints) -> pl.Series:
    """``YYYYMM``, the drifted form in which REG_DATE_OF_DEATH is sometimes delivered."""
    return _YEAR_MONTH.gather(days + 1)


def whole_years(born: Ints, at: Ints) -> Ints:
    """Age in completed years at a day; both arrays hold real days."""
    had_birthday = (MONTH[at] * 32 + DAY_OF_MONTH[at]) >= (MONTH[born] * 32 + DAY_OF_MONTH[born])
    return YEAR[at] - YEAR[born] - np.where(had_birthday, 0, 1)
