"""Deaths with palliative care, in plain Python."""

from __future__ import annotations

from typing import Any

from tests.sql.oracles.mortality_context import covered, palliative, tally
from tests.sql.oracles.shmi_v1 import generate
from tests.sql.oracles.world import World

__all__ = ["expected", "generate"]


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    deaths = [stay for stay in covered(world) if stay.died]
    return tally(deaths, lambda stay: palliative(stay))
