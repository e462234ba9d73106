"""The frame of a synthetic world: its years, its hospitals, and the layout eras of its files."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import date
from functools import cached_property
from typing import Any, Final, Self

import numpy as np

from infra.synthetic.days import Ints, day, year_start
from infra.synthetic.hospitals import Hospitals

NEW_ERA_FROM: Final = 2021
"""Financial year from which files carry TOKEN_PERSON_ID and 19-character keys, and are comma-delimited."""
LONG_LOCAL_NUMBERS_FROM: Final = 2022
UNFINISHED_EPISODES_TO: Final = 2016
ATTENDANCES_TO: Final = 2019
LAST_YEAR_MONTHS: Final = (6, 9, 12)
"""Months of the last year for which a cumulative provisional file is delivered."""


@dataclass(frozen=True)
class World:
    """Days are numbers of :mod:`infra.synthetic.days`, ``first_year`` and ``last_year`` financial years."""

    first_year: int
    last_year: int
    seed: int
    hospitals: Hospitals

    @cached_property
    def first_day(self) -> int:
        return year_start(self.first_year)

    @cached_property
    def last_day(self) -> int:
        return year_start(self.last_year + 1) - 1

    @property
    def snapshot(self) -> date:
        """The day to which the deaths and the bridges are known."""
        return date(self.last_year + 1, 4, 15)

    @cached_property
    def snapshot_day(self) -> int:
        return day(self.snapshot)

    @property
    def years(self) -> range:
        return range(self.first_year, self.last_year + 1)

    @property
    def year_count(self) -> int:
        return len(self.years)


@dataclass(frozen=True)
class Table:
    """A struct of arrays of the same length."""

    @property
    def count(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def take(self, rows: Any) -> Self:
        """The same table with these rows (numbers or a mask)."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def followed_by(self, other: Self) -> Self:
        return replace(
            self,
            **{f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)},
        )


def first_of_runs(keys: Ints) -> Ints:
    """Positions at which a new value begins in an array where equal values stand together."""
    if len(keys) == 0:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])).astype(np.int64)
