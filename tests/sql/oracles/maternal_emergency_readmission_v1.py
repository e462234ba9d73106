"""Emergency readmission of the mother within 42 days of delivery, in plain Python."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

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

METHODS = ("21", "22", "23", "24", "25", "28", "2A", "2B", "2D", "32")


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    records = Records(world)
    rows = []
    for delivery in deliveries(records):
        stay = records.stay_of.get(delivery.spell.id)
        last_day = delivery.day + timedelta(days=42)
        if stay is None or not finished_alive(stay):
            continue
        if delivery.followed_until is None or last_day > delivery.followed_until:
            continue
        back = readmitted(records, delivery.person, stay, last_day, METHODS)
        rows.append((delivery.year, delivery.provider, back))
    return by_provider(rows)
