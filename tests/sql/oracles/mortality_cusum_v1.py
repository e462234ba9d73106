"""Alerts of cumulative sum charts, in plain Python: the risks of the mortality oracle, added up case by case.

The threshold is taken from :mod:`transforms.cusum_threshold`, whose own tests hold it against the exact one.
"""

from __future__ import annotations

import random
from datetime import timedelta
from math import log
from typing import Any

from schemas.shmi_reference import diagnosis_groups
from tests.sql.oracles import shmi_v1
from tests.sql.oracles.world import World
from transforms.cusum_threshold import risk_shape, threshold_near


def generate(seed: int) -> World:
    """The mortality oracle's world, in which more of those die who were at one hospital in the last year."""
    world = shmi_v1.generate(seed)
    rng = random.Random(f"cusum {seed}")
    for row in world.hes_apc:
        late = row["PROCODET"] == "RZZ" and row["EPIEND"].year >= 2021
        if late and row["DISMETH"] == "1" and row["person"] not in world.deaths and rng.random() < 0.97:
            world.deaths[row["person"]] = row["EPIEND"] + timedelta(days=3)
    return world


def alerts_of(cases: list[tuple[float, bool, bool]]) -> int | None:
    """``cases``: risk, died, whether reported, in order. Alerts among those reported; None without a chart."""
    if sum(risk for risk, _, _ in cases) < 5:
        return None
    threshold = threshold_near(*risk_shape([risk for risk, _, _ in cases]), len(cases))
    level, found = 0.0, 0
    for risk, died, reported in cases:
        level = max(0.0, level + log((2 if died else 1) / (1 + risk)))
        if level >= threshold:
            level = 0.0
            found += reported
    return found


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    stays = shmi_v1.in_scope(world)
    risk = shmi_v1.risks(stays)
    labels = diagnosis_groups().labels
    charts: dict[tuple[str, int], list[tuple[float, bool, bool]]] = {}
    for stay in sorted(stays, key=lambda stay: (stay.spell.discharge, stay.spell.id)):
        if stay.group is not None:
            case = (risk[stay.spell.id], stay.died, stay.year == 1)
            charts.setdefault((stay.provider, stay.group), []).append(case)
    cells: dict[tuple[str, str], list[int]] = {}
    for (provider, group), cases in charts.items():
        found = alerts_of(cases)
        if found is None:
            continue
        for stratum in ("all", f"diagnosis group: {group} {labels[group]}"):
            cell = cells.setdefault((provider, stratum), [0, 0])
            cell[0] += found
            cell[1] += 1
    return [
        {
            "period": "2021-07 to 2022-06",
            "provider": provider,
            "stratum": stratum,
            "numerator": found,
            "denominator": size,
        }
        for (provider, stratum), (found, size) in sorted(cells.items())
    ]
