"""Surgical site infection within 30 days, in plain Python: see infra/decisions/0151-infections-from-codes.md."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from tests.sql.oracles.infection_world import Records, generated_with_codes
from tests.sql.oracles.provider_spell import Spell
from tests.sql.oracles.world import World

generate = generated_with_codes
CATEGORIES = {
    "abdominal hysterectomy": ("Q07",),
    "caesarean section": ("R17", "R18"),
    "coronary artery bypass": ("K40", "K41", "K42", "K43", "K44", "K45", "K46"),
    "hip hemiarthroplasty": ("W46", "W47", "W48"),
    "hip replacement": ("W37", "W38", "W39", "W93", "W94", "W95"),
    "knee replacement": ("W40", "W41", "W42", "O18"),
    "large bowel surgery": ("H04", "H05", "H06", "H07", "H08", "H09", "H10", "H11", "H29", "H33"),
}
JOINTS = ("hip hemiarthroplasty", "hip replacement", "knee replacement")
FOLLOW_UP = timedelta(days=30)
# The generated world is delivered as the financial year 2019-20.
FIRST_DAY, LAST_DAY = date(2019, 4, 1), date(2020, 3, 31)


@dataclass(frozen=True)
class Operation:
    spell: Spell
    category: str
    day: date
    number: int  # of its episode in the spell


def infections_of(category: str) -> set[str]:
    found = {"T814"}
    if category in JOINTS:
        found |= {"T845", "T846", "T847"}
    if category == "caesarean section":
        found.add("O860")
    return found


def operations_of(spell: Spell, records: Records) -> list[Operation]:
    """The first operation of each category, without those done for an infection or not followed up."""
    first: dict[str, tuple[date, int]] = {}
    for number, episode in enumerate(spell.episodes, start=1):
        for code, given in records.procedures(episode):
            believed = given is not None and spell.admission <= given <= episode.reach
            day = given if believed and given is not None else episode.start
            for category, codes in CATEGORIES.items():
                if code in codes:
                    first[category] = min(first.get(category, (date.max, 0)), (day, number))
    found = []
    for category, (day, number) in first.items():
        before = [
            code
            for place, episode in enumerate(spell.episodes, start=1)
            for primary, code in records.codes(episode)
            if place < number or (place == number and primary)
        ]
        if infections_of(category) & set(before):
            continue
        if FIRST_DAY <= day <= LAST_DAY and day + FOLLOW_UP <= LAST_DAY:
            found.append(Operation(spell, category, day, number))
    return found


def may_follow(operation: Operation, spell: Spell, number: int, primary: bool) -> bool:
    """Can an infection coded in episode ``number`` of ``spell`` be of ``operation``?"""
    same = operation.spell.id == spell.id
    if same and number == operation.number:
        return not primary
    start = spell.episodes[number - 1].start
    if not operation.day <= start <= operation.day + FOLLOW_UP:
        return False
    if same:
        return number > operation.number
    assert operation.spell.discharge is not None
    return spell.admission > operation.day or spell.admission >= operation.spell.discharge


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    records = Records(world)
    by_person: dict[str, list[Spell]] = {}
    for spell in world.spells():
        by_person.setdefault(spell.person, []).append(spell)
    counts: dict[tuple[str, str, str], list[int]] = {}
    for spells in by_person.values():
        operations = [
            operation for spell in spells if spell.finished for operation in operations_of(spell, records)
        ]
        infected: set[tuple[str, str]] = set()
        for spell in spells:
            for number, episode in enumerate(spell.episodes, start=1):
                candidates = [
                    operation
                    for operation in operations
                    if any(
                        code in infections_of(operation.category)
                        and may_follow(operation, spell, number, primary)
                        for primary, code in records.codes(episode)
                    )
                ]
                if candidates:
                    # The latest; of one day first that of the same stay, then by name of the category.
                    its = min(
                        candidates,
                        key=lambda one: (
                            -one.day.toordinal(), one.spell.id != spell.id, one.category, one.spell.id,
                        ),
                    )  # fmt: skip
                    infected.add((its.spell.id, its.category))
        for operation in operations:
            first = operation.day.year if operation.day.month >= 4 else operation.day.year - 1
            year = f"{first}-{(first + 1) % 100:02d}"
            cell = counts.setdefault((year, operation.spell.first.provider, operation.category), [0, 0])
            cell[0] += (operation.spell.id, operation.category) in infected
            cell[1] += 1
    national: dict[tuple[str, str], list[int]] = {}
    for (year, _, category), (cases, size) in counts.items():
        whole = national.setdefault((year, category), [0, 0])
        whole[0] += cases
        whole[1] += size
    cells: dict[tuple[str, str, str], list[float]] = {}
    for (year, provider, category), (cases, size) in counts.items():
        whole = national[year, category]
        share = size * (whole[0] / whole[1])
        for stratum in ("all", f"category: {category}"):
            sums = cells.setdefault((year, provider, stratum), [0, 0, 0.0])
            sums[0] += cases
            sums[1] += size
            sums[2] += share
    return [
        {
            "period": year, "provider": provider, "stratum": stratum, "numerator": cases, "denominator": size,
            "expected": round(due, 6),
        }
        for (year, provider, stratum), (cases, size, due) in sorted(cells.items())
    ]  # fmt: skip
