"""Puerperal infection with the wider list of codes, in plain Python."""

from __future__ import annotations

from typing import Any

from tests.sql.oracles.mothers import generate
from tests.sql.oracles.puerperal_infection_42d_v1 import expected_with
from tests.sql.oracles.world import World

__all__ = ["expected", "generate"]


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    return expected_with(world, ("O85", "O86", "O753", "O900", "O901", "O91", "A40", "A41", "A327"))
