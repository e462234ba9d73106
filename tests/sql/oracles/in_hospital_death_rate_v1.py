"""Crude death rate in hospital, in plain Python."""

from __future__ import annotations

from typing import Any

from tests.sql.oracles.crude_death_rate_v1 import by_provider_and_year, covered
from tests.sql.oracles.world import World


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    stays, dead = covered(world)
    inside = {outcome.spell.id for outcome in stays if outcome.died_in_hospital}
    return by_provider_and_year(stays, dead & inside)
