"""The share of emergency caesarean sections, in plain Python."""

from __future__ import annotations

from typing import Any

from tests.sql.oracles.delivery import Records, by_provider, deliveries
from tests.sql.oracles.mothers import generate_few as generate
from tests.sql.oracles.world import World

__all__ = ["expected", "generate"]


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    return by_provider(
        (delivery.year, delivery.provider, delivery.mode == "emergency caesarean")
        for delivery in deliveries(Records(world))
        if delivery.followed_until and delivery.mode != "unknown"
    )
