"""Crude death rate, in plain Python."""

from __future__ import annotations

from typing import Any

from tests.sql.oracles.spell_outcome import Outcome, outcomes
from tests.sql.oracles.world import World


def covered(world: World) -> tuple[list[Outcome], set[str]]:
    """The outcomes of the stays that count, and the ids of the stays that a death is counted for."""
    stays = [
        outcome
        for outcome in outcomes(world.spells(), world.deaths_by_token())
        if outcome.spell.first.patient_class not in ("2", "3", "4")
    ]
    counted: dict[str, Outcome] = {}
    for outcome in stays:
        if outcome.order is None:
            continue
        held = counted.get(outcome.spell.person)
        if held is None or held.order is None or outcome.order < held.order:
            counted[outcome.spell.person] = outcome
    return stays, {outcome.spell.id for outcome in counted.values()}


def by_provider_and_year(stays: list[Outcome], dead: set[str]) -> list[dict[str, Any]]:
    cells: dict[tuple[str, str], list[int]] = {}
    for outcome in stays:
        cell = cells.setdefault((str(outcome.spell.year), outcome.spell.first.provider), [0, 0])
        cell[0] += outcome.spell.id in dead
        cell[1] += 1
    return [
        {"period": year, "provider": provider, "stratum": "all", "numerator": deaths, "denominator": count}
        for (year, provider), (deaths, count) in sorted(cells.items())
    ]


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    return by_provider_and_year(*covered(world))
