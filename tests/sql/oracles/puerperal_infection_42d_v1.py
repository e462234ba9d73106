"""Puerperal infection within 42 days of delivery, observed and expected, in plain Python."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from typing import Any

from infra.compute import core_parameters
from tests.sql.oracles.delivery import Delivery, Records, case_mix_groups, deliveries
from tests.sql.oracles.mothers import generate
from tests.sql.oracles.world import World

__all__ = ["expected", "generate"]

CODES = ("O85", "O86")


def infected(records: Records, delivery: Delivery, codes: tuple[str, ...]) -> bool:
    last = delivery.day + timedelta(days=42)
    for spell in records.spells:
        if spell.person != delivery.person:
            continue
        for episode in spell.episodes:
            if not any(code.startswith(codes) for code in records.diagnoses(episode)):
                continue
            day = episode.start if spell is delivery.spell else spell.admission
            if episode is delivery.episode or delivery.day <= day <= last:
                return True
    return False


def expected_with(world: World, codes: tuple[str, ...]) -> list[dict[str, Any]]:
    records = Records(world)
    everything = deliveries(records)
    groups = case_mix_groups(everything, int(str(core_parameters()["fewest_deliveries_in_group"])))
    followed = [
        delivery
        for delivery in everything
        if delivery.followed_until and delivery.day + timedelta(days=42) <= delivery.followed_until
    ]
    spells_of = {delivery.person: [] for delivery in followed}  # type: dict[str, list[Any]]
    for spell in records.spells:
        if spell.person in spells_of:
            spells_of[spell.person].append(spell)
    national: dict[tuple[str, str], list[int]] = {}
    cells: dict[tuple[str, str], list[Delivery]] = {}
    ill = set()
    for delivery in followed:
        narrowed = Records.__new__(Records)
        narrowed.rows, narrowed.spells = records.rows, spells_of[delivery.person]
        count = national.setdefault((delivery.year, groups[delivery.episode.key]), [0, 0])
        count[1] += 1
        if infected(narrowed, delivery, codes):
            ill.add(delivery.episode.key)
            count[0] += 1
        cells.setdefault((delivery.year, delivery.provider), []).append(delivery)
    return [
        {
            "period": year,
            "provider": provider,
            "stratum": "all",
            "numerator": sum(delivery.episode.key in ill for delivery in here),
            "denominator": len(here),
            "expected": round(
                float(sum(Fraction(*national[year, groups[delivery.episode.key]]) for delivery in here)), 6
            ),
        }
        for (year, provider), here in sorted(cells.items())
    ]


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    return expected_with(world, CODES)
