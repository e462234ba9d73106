"""A made-up world with infections and operations, and what the oracles of infection indicators share.

The stays are those of :mod:`tests.sql.oracles.world`, three times over at different dates, so that patients come
back within and beyond thirty days and some do so after the last day that was delivered.
"""

from __future__ import annotations

import random
from datetime import date, timedelta
from typing import Any

from tests.sql.oracles.episode import Episode
from tests.sql.oracles.provider_spell import Spell
from tests.sql.oracles.world import World, generated
from tests.sql.tables import DATES, typed_episode

SHIFTS = (0, 19, 351)  # days; the last lets stays run beyond 31 March 2020
PRIMARY = ("A047", "A410", "A41X", "A419D", "A021", "A020", "P369", "O85X", "T814", "T845", "A400", "A047D")
SECONDARY = ("A047", "A410", "A490", "U821", "U801", "T814", "T814", "T845", "T847", "O860", "J189", "A048")
PROCEDURES = ("W371", "W378", "W471", "W401", "O181", "R172", "R189", "H333", "K401", "Q074", "W581", "X999")
AGES = (0, 1, 2, 40, 64, 65, 90, 7001, 7007, None)


def with_codes(row: dict[str, Any]) -> dict[str, Any]:
    """``row`` with codes that its key decides, so that a record delivered twice has the same ones twice."""
    rng = random.Random(f"codes {row['EPIKEY']}")
    row = dict(row)
    row["STARTAGE"] = rng.choice(AGES)
    if rng.random() < 0.3:
        row["DIAG_01"] = rng.choice(PRIMARY)
    for place in range(2, 2 + rng.choice([0, 0, 1, 2, 3])):
        row[f"DIAG_{place:02d}"] = rng.choice(SECONDARY)
    for place in range(1, 1 + rng.choice([0, 0, 1, 2])):
        row[f"OPERTN_{place:02d}"] = rng.choice(PROCEDURES)
        row[f"OPDATE_{place:02d}"] = rng.choice(
            [
                None,
                row["ADMIDATE"],
                row["EPISTART"],
                row["EPIEND"],
                row["EPISTART"] + timedelta(days=1),
                date(2001, 1, 1),
            ]
        )
    return row


def generated_with_codes(seed: int) -> World:
    """Three times a hundred persons' stays, the same persons each time."""
    rows, bridge = [], {}
    for number, days in enumerate(SHIFTS):
        world = generated(10 * seed + number, persons=150)
        bridge.update({row["old_person"]: row for row in world.bridge})
        for row in world.hes_apc:
            moved = {
                name: value + timedelta(days=days) if name in DATES and value is not None else value
                for name, value in row.items()
            }
            rows.append(with_codes(moved | {"EPIKEY": f"{number}{row['EPIKEY']}"}))
    return World(rows, list(bridge.values()), {})


class Records:
    """The delivered rows by record key, for what :class:`Episode` does not hold."""

    def __init__(self, world: World) -> None:
        self.rows = {
            row["EPIKEY"]: typed_episode(row, ordinal) for ordinal, row in enumerate(world.hes_apc, start=1)
        }

    def secondary(self, episode: Episode) -> list[str]:
        row = self.rows[episode.key]
        return [row[f"DIAG_{n:02d}"] for n in range(2, 21) if row[f"DIAG_{n:02d}"]]

    def codes(self, episode: Episode) -> list[tuple[bool, str]]:
        """Whether primary, and the first four characters, of each diagnosis."""
        first = [(True, episode.diagnosis[:4])] if episode.diagnosis else []
        return first + [(False, code[:4]) for code in self.secondary(episode)]

    def procedures(self, episode: Episode) -> list[tuple[str, date | None]]:
        """First three characters and date of each procedure."""
        row = self.rows[episode.key]
        return [
            (row[f"OPERTN_{n:02d}"][:3], row[f"OPDATE_{n:02d}"])
            for n in range(1, 25)
            if row[f"OPERTN_{n:02d}"]
        ]


def bed_days(spell: Spell) -> int:
    assert spell.discharge is not None
    return (spell.discharge - spell.admission).days


def as_rows(cells: dict[tuple[str, str, str], list[int]]) -> list[dict[str, Any]]:
    """Rows of the indicator from (year, provider, stratum) to [cases, size]; those of no size are left out."""
    return [
        {"period": year, "provider": provider, "stratum": stratum, "numerator": cases, "denominator": size}
        for (year, provider, stratum), (cases, size) in sorted(cells.items())
        if size > 0
    ]
