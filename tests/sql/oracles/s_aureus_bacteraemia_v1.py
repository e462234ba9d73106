"""Staphylococcus aureus codes in hospital stays, in plain Python."""

from __future__ import annotations

from typing import Any

from tests.sql.oracles.infection_world import Records, as_rows, bed_days, generated_with_codes
from tests.sql.oracles.world import World

generate = generated_with_codes


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    records = Records(world)
    cells: dict[tuple[str, str, str], list[int]] = {}
    for spell in world.spells():
        if not spell.finished or spell.first.patient_class in ("3", "4"):
            continue
        of_episodes = [{code for _, code in records.codes(episode)} for episode in spell.episodes]
        infected = [codes for codes in of_episodes if codes & {"A410", "A490"}]
        resistant = any(codes & {"U821", "U801"} for codes in infected)
        for stratum, counts in (
            ("all", bool(infected)),
            ("resistance: meticillin resistant", resistant),
            ("resistance: not coded as resistant", bool(infected) and not resistant),
        ):
            cell = cells.setdefault((str(spell.year), spell.first.provider, stratum), [0, 0])
            cell[0] += counts
            cell[1] += bed_days(spell)
    return as_rows(cells)
