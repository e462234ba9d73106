"""Emergency admissions for sepsis, in plain Python."""

from __future__ import annotations

from typing import Any

from tests.sql.oracles.infection_world import as_rows, generated_with_codes
from tests.sql.oracles.world import World

generate = generated_with_codes
SEPSIS = ("A40", "A41", "P36", "A021", "A227", "A267", "A327", "A427", "B377", "O85")
EMERGENCY = ("21", "22", "23", "24", "25", "28", "2A", "2B", "2C", "2D")


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    cells: dict[tuple[str, str, str], list[int]] = {}
    for spell in world.spells():
        first = spell.first
        if not spell.finished or first.patient_class in ("3", "4") or first.admission_method not in EMERGENCY:
            continue
        cell = cells.setdefault((str(spell.year), first.provider, "all"), [0, 0])
        cell[0] += (first.diagnosis or "").startswith(SEPSIS)
        cell[1] += 1
    return as_rows(cells)
