"""Alerts of the aggregate cumulative sum charts, in plain Python: the risks of the mortality oracle, counted by month
and provider, and each z-score, allowance and sum worked out one after the other."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta
from math import sqrt
from typing import Any

from tests.sql.oracles import shmi_v1
from tests.sql.oracles.world import World

HOSPITALS = ("RAA", "RBB", "RCC", "RXX", "RYY", "RZZ")
FEWEST = 5.0


@dataclass
class Month:
    """What a provider had in a month."""

    observed: int = 0
    expected: float = 0.0
    reported: bool = False


def generate(seed: int) -> World:
    """The mortality oracle's world at six hospitals, at one of which more die from July 2020 on, and a seventh so small
    that it has no chart."""
    world = shmi_v1.generate(seed)
    rng = random.Random(f"aggregate {seed}")
    moved: dict[tuple[str, str, object], str] = {}
    for row in world.hes_apc:
        stay = (row["person"], row["PROCODET"], row["ADMIDATE"])
        if stay not in moved:
            moved[stay] = "RQQ" if rng.random() < 0.01 else rng.choice(HOSPITALS)
        row["SITETRET"] = row["SITETRET"].replace(row["PROCODET"], moved[stay])
        row["PROCODET"] = moved[stay]
        late = row["PROCODET"] == "RZZ" and row["EPIEND"] >= date(2020, 7, 1)
        if late and row["DISMETH"] == "1" and row["person"] not in world.deaths and rng.random() < 0.97:
            world.deaths[row["person"]] = row["EPIEND"] + timedelta(days=3)
    return world


def quantile(values: list[float], share: float) -> float:
    """Between the two nearest of the ordered values, in proportion."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def z_scores(month: dict[str, Month]) -> dict[str, float]:
    """Each provider's distance from the others, after ``expected`` was set to the month's deaths."""
    deaths = sum(held.observed for held in month.values())
    if deaths == 0:
        return {}
    factor = deaths / sum(held.expected for held in month.values())
    plain = {}
    for provider, held in month.items():
        held.expected *= factor
        plain[provider] = 2 * sqrt(held.expected) * (sqrt(held.observed / held.expected) - 1)
    low, high = quantile(list(plain.values()), 0.1), quantile(list(plain.values()), 0.9)
    squares = [min(max(z, low), high) ** 2 for z in plain.values()]
    weights = [4 * held.expected for held in month.values()]
    between = 0.0
    if len(month) > 1 and sum(squares) > len(month) - 1:
        spread = sum(weights) - sum(weight**2 for weight in weights) / sum(weights)
        between = (sum(squares) - (len(month) - 1)) / spread
    return {provider: z / sqrt(1 + between * 4 * month[provider].expected) for provider, z in plain.items()}


def alerts_of(points: list[tuple[float, bool]]) -> tuple[int, int]:
    """``points``: z-score and whether reported, in order. Alerts and points among those reported."""
    level, found, reported = 0.0, 0, 0
    for z, counts in points:
        level = max(0.0, level + z - 0.5)
        reported += counts
        if level >= 5.48:
            level = 0.0
            found += counts
    return found, reported


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    stays = shmi_v1.in_scope(world)
    risk = shmi_v1.risks(stays)
    months: dict[tuple[int, int], dict[str, Month]] = {}
    for stay in stays:
        day = stay.spell.discharge
        if stay.group is None or day is None:
            continue
        held = months.setdefault((day.year, day.month), {}).setdefault(stay.provider, Month())
        held.observed += stay.died
        held.expected += risk[stay.spell.id]
        held.reported = stay.year == 1
    for provider in {provider for month in months.values() for provider in month}:
        there = [month[provider].expected for month in months.values() if provider in month]
        if sum(there) / len(there) < FEWEST:
            for month in months.values():
                month.pop(provider, None)
    charts: dict[str, list[tuple[float, bool]]] = {}
    for _, month in sorted(months.items()):
        for provider, z in z_scores(month).items():
            charts.setdefault(provider, []).append((z, month[provider].reported))
    rows = []
    for provider, points in sorted(charts.items()):
        found, reported = alerts_of(points)
        if reported:
            rows.append(
                {
                    "period": "2021-07 to 2022-06",
                    "provider": provider,
                    "stratum": "all",
                    "numerator": found,
                    "denominator": reported,
                }
            )
    return rows
