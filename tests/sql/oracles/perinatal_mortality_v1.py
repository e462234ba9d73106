"""Stillbirths and deaths in the first week, in plain Python."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from tests.sql.oracles.birth import births
from tests.sql.oracles.delivery import Records, deliveries
from tests.sql.oracles.mothers import generate_few as generate
from tests.sql.oracles.provider_spell import Spell
from tests.sql.oracles.spell_outcome import outcomes
from tests.sql.oracles.world import World

__all__ = ["expected", "generate"]


def day_of_death(spell: Spell, died_inside: bool, registered: date | None, spells: list[Spell]) -> date:
    """The day that the outcome of ``spell`` tells of: the discharge for a death inside, else the death's."""
    assert spell.discharge is not None
    if died_inside:
        return spell.discharge
    if registered is not None:
        return registered
    return max(
        other.discharge for other in spells if other.person == spell.person and other.died and other.discharge
    )


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    records = Records(world)
    registered = world.deaths_by_token()
    outcome_of = {outcome.spell.id: outcome for outcome in outcomes(records.spells, registered)}
    cells: dict[tuple[str, str], list[int]] = {}
    for birth in births(records, deliveries(records)):
        if birth.followed_until is None or birth.day + timedelta(days=7) > birth.followed_until:
            continue
        if birth.stillborn and birth.weeks is not None and birth.weeks < 24:
            continue
        died = birth.stillborn and birth.place is not None
        outcome = outcome_of.get(birth.spell.id) if birth.spell else None
        if not birth.stillborn and birth.spell and outcome and outcome.died_within_30_days:
            death = day_of_death(
                birth.spell, outcome.died_in_hospital, registered.get(birth.spell.person), records.spells
            )
            died = (death - birth.day).days < 7
        cell = cells.setdefault((birth.year, birth.provider), [0, 0])
        cell[0] += died
        cell[1] += birth.place is not None
    return [
        {"period": year, "provider": provider, "stratum": "all", "numerator": deaths, "denominator": count}
        for (year, provider), (deaths, count) in sorted(cells.items())
        if count
    ]
