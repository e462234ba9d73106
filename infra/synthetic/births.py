"""Deliveries and the babies born in them.

A delivery is planned before the timeline is laid out (its mode decides the stay and the chance of an
infection); the babies are made once it is known which deliveries happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.synthetic.days import Bools, Ints
from infra.synthetic.diagnoses import CODE_INDEX
from infra.synthetic.people import choose
from infra.synthetic.world import Table

MOST_BABIES: Final = 3

MODES: Final = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
"""DELMETH: normal, other cephalic, low forceps, other forceps, ventouse, breech, breech extraction, elective
and emergency caesarean, other."""
MODE_SHARES: Final = (0.575, 0.010, 0.035, 0.035, 0.050, 0.003, 0.002, 0.130, 0.157, 0.003)
MODE_PROCEDURES: Final = ("R249", "R239", "R211", "R214", "R229", "R202", "R191", "R172", "R182", "R259")
MODE_DIAGNOSES: Final = ("O800", "O801", "O810", "O810", "O814", "O839", "O839", "O820", "O821", "O839")
CAESAREAN: Final = (7, 8)
INFECTION_RATE: Final = 0.017
"""Mean chance of a puerperal infection within 42 days at a hospital that is no outlier."""
INFECTION_BY_MODE: Final = np.array([0.7, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0, 1.5, 1.9, 1.0])
INFECTION_CODES: Final = ("O85X", "O860", "O861", "O862", "O864", "O868")
INFECTION_SHARES: Final = (0.30, 0.34, 0.10, 0.13, 0.10, 0.03)

NO_INFECTION: Final = 0
IN_THE_DELIVERY_SPELL: Final = 1
AFTER_GOING_HOME: Final = 2
TOO_LATE_TO_COUNT: Final = 3


@dataclass(frozen=True)
class Deliveries(Table):
    """Planned deliveries. ``infection``: one of the constants; ``infection_code``: number of the code."""

    mode: Ints
    babies: Ints
    infection: Ints
    infection_code: Ints
    stay_before: Ints
    stay_after: Ints
    gestation: Ints
    previous: Ints
    assessed_weeks: Ints


@dataclass(frozen=True)
class Babies(Table):
    """``delivery``: row of the delivery. ``status``: BIRSTAT, 1 live, 2-4 still. ``weight``: true grams."""

    delivery: Ints
    order: Ints
    sex: Ints
    status: Ints
    weight: Ints
    weight_known: Bools
    care: Ints
    jaundice: Bools
    infected: Bools


def plan_deliveries(
    rng: np.random.Generator, count: int, infection_factor: NDArray[np.float64], previous: Ints
) -> Deliveries:
    """``infection_factor``: per delivery, how much more frequent infection is at its hospital."""
    mode = choose(rng, count, MODE_SHARES)
    rate = INFECTION_RATE * INFECTION_BY_MODE[mode] / (INFECTION_BY_MODE * np.array(MODE_SHARES)).sum()
    infected = rng.random(count) < np.minimum(rate * infection_factor, 0.8)
    infection = np.where(
        infected, np.where(rng.random(count) < 0.55, IN_THE_DELIVERY_SPELL, AFTER_GOING_HOME), 0
    )
    infection = np.where((infection == 0) & (rng.random(count) < 0.0008), TOO_LATE_TO_COUNT, infection)
    codes = np.array([CODE_INDEX[code] for code in INFECTION_CODES], dtype=np.int64)
    babies = 1 + choose(rng, count, (0.9845, 0.0150, 0.0005))
    early = rng.random(count) < np.where(babies > 1, 0.55, 0.07)
    weeks = np.where(
        early, 37 - np.minimum(rng.exponential(3.0, count) + 1, 14), rng.normal(39.4, 1.1, count)
    )
    caesarean = np.isin(mode, CAESAREAN)
    return Deliveries(
        mode=mode,
        babies=babies,
        infection=infection,
        infection_code=codes[choose(rng, count, INFECTION_SHARES)],
        stay_before=choose(rng, count, (0.70, 0.20, 0.06, 0.03, 0.01)),
        stay_after=choose(rng, count, (0.25, 0.45, 0.20, 0.07, 0.03))
        + caesarean * (1 + choose(rng, count, (0.5, 0.3, 0.2)))
        + (infection == IN_THE_DELIVERY_SPELL) * 2,
        gestation=np.clip(np.rint(np.where(early, weeks, np.clip(weeks, 37, 42))), 23, 42).astype(np.int64),
        previous=previous,
        assessed_weeks=rng.integers(8, 15, count),
    )


def make_babies(rng: np.random.Generator, deliveries: Deliveries) -> Babies:
    """One row per baby, in birth order."""
    delivery = np.repeat(np.arange(deliveries.count, dtype=np.int64), deliveries.babies)
    count = len(delivery)
    starts = np.cumsum(deliveries.babies) - deliveries.babies
    gestation = deliveries.gestation[delivery]
    mean = np.interp(gestation, [23, 26, 30, 34, 37, 40, 42], [580, 900, 1450, 2250, 2950, 3480, 3650])
    mean = mean * np.where(deliveries.babies[delivery] > 1, 0.90, 1.0)
    weight = np.clip(np.rint(mean * np.clip(rng.normal(1.0, 0.115, count), 0.6, 1.5)), 350, 6200).astype(
        np.int64
    )
    still = rng.random(count) < np.where(weight < 1000, 0.12, np.where(weight < 2500, 0.012, 0.0018))
    care = np.where(weight < 1500, 3, np.where(weight < 2000, 2, np.where(weight < 2500, 1, 0)))
    return Babies(
        delivery=delivery,
        order=np.arange(count, dtype=np.int64) - starts[delivery] + 1,
        sex=1 + (rng.random(count) < 0.487).astype(np.int64),
        status=np.where(still, 2 + choose(rng, count, (0.7, 0.2, 0.1)), 1),
        weight=weight,
        weight_known=rng.random(count) > 0.01,
        care=np.where(still, 8, np.where((care == 0) & (rng.random(count) < 0.05), 1, care)),
        jaundice=rng.random(count) < 0.06,
        infected=rng.random(count) < 0.008,
    )


def outcome_codes(deliveries: Deliveries, babies: Babies) -> Ints:
    """Number of the Z37 code of each delivery, from how many babies were born alive and how many not."""
    live = np.bincount(babies.delivery[babies.status == 1], minlength=deliveries.count)
    total = deliveries.babies
    names = np.select(
        [
            (total == 1) & (live == 1),
            total == 1,
            (total == 2) & (live == 2),
            (total == 2) & (live == 1),
            total == 2,
            live == total,
            live == 0,
        ],
        [CODE_INDEX[code] for code in ("Z370", "Z371", "Z372", "Z373", "Z374", "Z375", "Z377")],
        CODE_INDEX["Z376"],
    )
    return names.astype(np.int64)
