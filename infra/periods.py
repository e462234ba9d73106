"""Periods: what YYYYnn means, and which of two deliveries of a financial year is the newer.

In HES a file is named by the year in which its financial year starts and a month: 01-13 are provisional and
cumulative, each superseding the last, 13 being the end-of-year provisional; 99 is the annual refresh, final.
Source: HES technical output specification (PARTYEAR), and the processing cycle pages of the supplier.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date

from schemas.errors import UsageError

SNAPSHOT = "snapshot"
FINAL = 99
_YYYYNN = re.compile(r"(19|20)\d{2}(0[1-9]|1[0-3]|99)")


@dataclass(frozen=True)
class Period:
    """A parsed period: the year its financial year starts in and the month of submission, or a snapshot."""

    text: str
    start_year: int | None
    month: int | None

    @property
    def is_snapshot(self) -> bool:
        return self.start_year is None

    @property
    def bounds(self) -> tuple[date, date] | None:
        """First and last day of the financial year; None for a snapshot."""
        if self.start_year is None:
            return None
        return date(self.start_year, 4, 1), date(self.start_year + 1, 3, 31)

    @property
    def data_until(self) -> date | None:
        """The last day that the data can cover; None for a snapshot."""
        if self.start_year is None or self.month is None:
            return None
        if self.month >= 12:
            return date(self.start_year + 1, 3, 31)
        year = self.start_year + (1 if self.month > 9 else 0)
        month = (self.month + 2) % 12 + 1
        return date(year, month, monthrange(year, month)[1])

    @property
    def label(self) -> str:
        """The financial year as it is published: ``2019-20``."""
        if self.start_year is None:
            return SNAPSHOT
        return f"{self.start_year}-{(self.start_year + 1) % 100:02d}"


def parse_period(text: str) -> Period:
    """Raises :class:`UsageError` if ``text`` is neither ``YYYYnn`` nor ``snapshot``."""
    if text == SNAPSHOT:
        return Period(text, None, None)
    if not _YYYYNN.fullmatch(text):
        raise UsageError(
            "a period is YYYYnn with nn from 01 to 13 or 99, or snapshot", next_step="give --period YYYYnn"
        )
    return Period(text, int(text[:4]), int(text[4:]))


def table_name(dataset: str, period: Period) -> str:
    """The lake table of a dataset and period; a dataset's financial year has one table."""
    return f"{dataset}_{SNAPSHOT}" if period.is_snapshot else f"{dataset}_fy{period.start_year}"
