"""The hospitals of the synthetic world: size, catchment, hidden quality, and the four planted outliers.

Codes begin with ``Z``, which no provider of the health service has, and the names say what they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from infra.synthetic.days import Ints
from infra.synthetic.risk import HOSPITAL_SPREAD
from schemas.errors import UsageError

FEWEST_HOSPITALS: Final = 4
MOST_HOSPITALS: Final = 1000
AREAS_PER_HOSPITAL: Final = 40
MORTALITY_ODDS_RATIO: Final = 3.0
INFECTION_MULTIPLIER: Final = 4.0
DECILES: Final = (
    "Most deprived 10%",
    "More deprived 10-20%",
    "More deprived 20-30%",
    "More deprived 30-40%",
    "More deprived 40-50%",
    "Less deprived 40-50%",
    "Less deprived 30-40%",
    "Less deprived 20-30%",
    "Less deprived 10-20%",
    "Least deprived 10%",
)
_CODE_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXY"


@dataclass(frozen=True)
class Hospitals:
    """``share``: part of all persons whose home hospital it is. ``effect``: log-odds of death. The areas
    (LSOA) of hospital h are numbers ``h * AREAS_PER_HOSPITAL`` and following."""

    codes: tuple[str, ...]
    share: NDArray[np.float64]
    effect: NDArray[np.float64]
    area_decile: Ints
    mortality_outlier: int
    infection_outlier: int
    broken_rows: int
    late: int

    @property
    def count(self) -> int:
        return len(self.codes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"Demonstration hospital {number:02d}" for number in range(1, self.count + 1))

    @property
    def pneumonia_effect(self) -> NDArray[np.float64]:
        """The log-odds that come on top at each hospital for pneumonia."""
        extra = np.zeros(self.count)
        extra[self.mortality_outlier] = log(MORTALITY_ODDS_RATIO)
        return extra

    @property
    def infection_factor(self) -> NDArray[np.float64]:
        factor = np.ones(self.count)
        factor[self.infection_outlier] = INFECTION_MULTIPLIER
        return factor

    def area_codes(self) -> pl.Series:
        """LSOA codes beyond those that exist; the last is the pseudo code of HES for an unknown one."""
        areas = [f"E019{number:05d}" for number in range(self.count * AREAS_PER_HOSPITAL)]
        return pl.Series([*areas, "Z99999999"])

    def reference(self) -> list[dict[str, str]]:
        """The provider reference: code, name, type."""
        return [
            {"code": code, "name": name, "type": "acute"}
            for code, name in zip(self.codes, self.names, strict=True)
        ]

    def planted(self) -> list[dict[str, Any]]:
        """The four outliers in plain words."""
        return [
            {
                "kind": "high_mortality",
                "provider": self.codes[self.mortality_outlier],
                "group": "pneumonia",
                "shmi_group": 73,
                "odds_ratio": MORTALITY_ODDS_RATIO,
                "says": "odds of death after admission with pneumonia are three times what they should be",
            },
            {
                "kind": "high_puerperal_infection",
                "provider": self.codes[self.infection_outlier],
                "rate_ratio": INFECTION_MULTIPLIER,
                "says": "puerperal infection after delivery here is four times as frequent as elsewhere",
            },
            {
                "kind": "late_data",
                "provider": self.codes[self.late],
                "says": "is in the first monthly files of the last year and missing from all later ones",
            },
            {
                "kind": "broken_rows",
                "provider": self.codes[self.broken_rows],
                "says": "sends malformed records beside its true ones: wrong number of fields, dates that"
                " cannot be read, no EPIKEY; they are copies, so leaving them out loses no true episode",
            },
        ]


def _code(number: int) -> str:
    if number < 100:
        return f"Z{number:02d}"
    number -= 100
    letters = len(_CODE_LETTERS)
    return f"Z{_CODE_LETTERS[number // letters % letters]}{_CODE_LETTERS[number % letters]}"


def make_hospitals(count: int, seed: int) -> Hospitals:
    """The hospitals of a seed. The planted outliers are never the smallest, so that they can be seen.

    Raises :class:`UsageError` for fewer hospitals than planted outliers, or more than there are codes.
    """
    most = min(MOST_HOSPITALS, 99 + len(_CODE_LETTERS) ** 2)
    if not FEWEST_HOSPITALS <= count <= most:
        raise UsageError(
            f"{count} hospitals: there can be {FEWEST_HOSPITALS} to {most}; four carry a planted outlier"
        )
    rng = np.random.default_rng([seed, 1])
    size = np.sort(rng.lognormal(0.0, 0.45, count))[::-1]
    order = rng.permutation(count)  # the codes do not give the sizes away
    share = np.empty(count)
    share[order] = size / size.sum()
    effect = rng.normal(0.0, HOSPITAL_SPREAD, count)
    effect -= (effect * share).sum()
    late_rank = 3 if count < 8 else count // 2
    mortality = int(order[1])
    effect[mortality] = 0.0  # the planted odds ratio stands alone
    decile_centre = np.repeat(rng.uniform(1.5, 7.5, count), AREAS_PER_HOSPITAL)
    decile = np.clip(np.rint(decile_centre + rng.normal(0, 2.2, count * AREAS_PER_HOSPITAL)), 0, 9)
    return Hospitals(
        codes=tuple(_code(number) for number in range(1, count + 1)),
        share=share,
        effect=effect,
        area_decile=decile.astype(np.int64),
        mortality_outlier=mortality,
        infection_outlier=int(order[2]),
        broken_rows=int(order[0]),
        late=int(order[late_rank]),
    )
