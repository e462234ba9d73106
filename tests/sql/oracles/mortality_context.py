"""What stands beside deaths against expected, in plain Python: the spells of its oracle, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.sql.oracles.shmi_v1 import Scored, diagnoses_of, in_scope
from tests.sql.oracles.world import World

DECILE = {
    "Most deprived 10%": 1, "More deprived 10-20%": 2, "More deprived 20-30%": 3, "More deprived 30-40%": 4,
    "More deprived 40-50%": 5, "Less deprived 40-50%": 6, "Less deprived 30-40%": 7, "Less deprived 20-30%": 8,
    "Less deprived 10-20%": 9, "Least deprived 10%": 10,
}  # fmt: skip
FIFTH = {
    1: "1 most deprived", 2: "1 most deprived", 3: "2", 4: "2", 5: "3", 6: "3", 7: "4", 8: "4",
    9: "5 least deprived", 10: "5 least deprived",
}  # fmt: skip


def reported(world: World) -> list[Scored]:
    """The spells of the months reported, with a diagnosis or not."""
    return [stay for stay in in_scope(world) if stay.year == 1]


def covered(world: World) -> list[Scored]:
    """Those that a model covers."""
    return [stay for stay in reported(world) if stay.group is not None]


def palliative(stay: Scored) -> bool:
    return any(
        row["TRETSPEF"] == "315" or "Z515" in (row["DIAG_01"], *diagnoses_of(row)) for row in stay.rows
    )


def depth(stay: Scored) -> int:
    return len([code for code in diagnoses_of(stay.speaks) if not code.startswith("R69")])


def admission(stay: Scored) -> str:
    elective = stay.rows[0]["ADMIMETH"] in ("11", "12", "13")
    return f"admission: {'elective' if elective else 'non-elective'}"


def deprivation(stay: Scored) -> str:
    decile = DECILE.get(stay.rows[0]["IMD04_DECILE"] or "")
    return f"deprivation quintile: {FIFTH[decile] if decile else 'not known'}"


def tally(
    stays: Iterable[Scored], count: Callable[[Scored], int], *dimensions: Callable[[Scored], str]
) -> list[dict[str, Any]]:
    """What is counted and the spells, by provider, in all and by each dimension."""
    cells: dict[tuple[str, str], list[int]] = {}
    for stay in stays:
        for stratum in ("all", *(dimension(stay) for dimension in dimensions)):
            cell = cells.setdefault((stay.provider, stratum), [0, 0])
            cell[0] += count(stay)
            cell[1] += 1
    return [
        {
            "period": "2021-07 to 2022-06",
            "provider": provider,
            "stratum": stratum,
            "numerator": counted,
            "denominator": spells,
        }
        for (provider, stratum), (counted, spells) in sorted(cells.items())
    ]
