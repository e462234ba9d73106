"""Spells without a valid diagnosis, in plain Python."""

from __future__ import annotations

from typing import Any

from tests.sql.oracles.mortality_context import reported, tally
from tests.sql.oracles.shmi_v1 import GROUP_OF, generate, said
from tests.sql.oracles.world import World

__all__ = ["expected", "generate"]


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    return tally(reported(world), lambda stay: said(stay.speaks) not in GROUP_OF)
