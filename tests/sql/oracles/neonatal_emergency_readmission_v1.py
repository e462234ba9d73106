"""Emergency readmission of the baby within 28 days of birth, in plain Python."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.sql.oracles.birth import births
from tests.sql.oracles.delivery import (
    Records,
    by_provider,
    deliveries,
    finished_alive,
    readmitted,
)
from tests.sql.oracles.mothers import generate_few as generate
from tests.sql.oracles.world import World

__all__ = ["expected", "generate"]

METHODS = ("21", "22", "23", "24", "25", "28", "2A", "2B", "2D")


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    records = Records(world)
    rows = []
    for birth in births(records, deliveries(records)):
        if birth.spell is None or birth.stillborn:
            continue
        stay = records.stay_of.get(birth.spell.id)
        last_day = birth.day + timedelta(days=28)
        if stay is None or not finished_alive(stay):
            continue
        if birth.followed_until is None or last_day > birth.followed_until:
            continue
        back = readmitted(records, birth.spell.person, stay, last_day, METHODS)
        rows.append((birth.year, birth.provider, back))
    return by_provider(rows)
