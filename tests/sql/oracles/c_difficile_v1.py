"""Clostridioides difficile infection in hospital stays, in plain Python."""

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
        age = spell.first.age
        too_young = age is not None and (age < 2 or 7001 <= age <= 7007)
        if not spell.finished or spell.first.patient_class in ("3", "4") or too_young:
            continue
        found = [
            (number, primary)
            for number, episode in enumerate(spell.episodes, start=1)
            for primary, code in records.codes(episode)
            if code == "A047"
        ]
        first = (1, True) in found
        group = "not known" if age is None else "65 and over" if age >= 65 else "2 to 64"
        for stratum, counts in (
            ("all", bool(found)),
            (f"age: {group}", bool(found)),
            ("coded: primary diagnosis of the first episode", first),
            ("coded: secondary or in a later episode", bool(found) and not first),
        ):
            cell = cells.setdefault((str(spell.year), spell.first.provider, stratum), [0, 0])
            cell[0] += counts
            cell[1] += bed_days(spell)
    return as_rows(cells)
