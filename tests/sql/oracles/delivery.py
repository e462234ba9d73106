"""Deliveries in plain Python, and what the maternity indicators do with them: see
infra/decisions/0150-delivery.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from tests.sql.oracles.continuous_inpatient_spell import continuous_inpatient_spells
from tests.sql.oracles.episode import Episode
from tests.sql.oracles.provider_spell import Spell
from tests.sql.oracles.world import World
from tests.sql.tables import typed_episode

COVERED = {"2018-19": (date(2018, 4, 1), date(2019, 3, 31)), "2019-20": (date(2019, 4, 1), date(2020, 3, 31))}
END = date(2020, 3, 31)
MODE_ORDER = (
    "emergency caesarean",
    "elective caesarean",
    "instrumental",
    "breech",
    "spontaneous",
    "other",
)
MODE_OF_METHOD = {
    **dict.fromkeys("01", "spontaneous"),
    **dict.fromkeys("234", "instrumental"),
    **dict.fromkeys("56", "breech"),
    "7": "elective caesarean",
    "8": "emergency caesarean",
    "9": "other",
}
MODE_OF_PROCEDURE = {
    "R17": "elective caesarean",
    "R18": "emergency caesarean",
    "R19": "breech",
    "R20": "breech",
    "R21": "instrumental",
    "R22": "instrumental",
    "R23": "spontaneous",
    "R24": "spontaneous",
    "R25": "other",
}


@dataclass(frozen=True)
class Delivery:
    """A delivery with its place and all that the indicators ask of it."""

    spell: Spell
    stay: tuple[Spell, ...]
    episode: Episode
    day: date
    dated: bool
    identified_by: str
    mode: str
    babies: int
    age_band: str
    outcome: str | None
    tail: dict[str, Any] | None
    token: str | None

    @property
    def person(self) -> str:
        return self.spell.person

    @property
    def provider(self) -> str:
        return self.spell.first.provider

    @property
    def year(self) -> str:
        return financial_year(self.day)

    @property
    def followed_until(self) -> date | None:
        return END if self.year in COVERED else None


def financial_year(day: date) -> str:
    first = day.year if day.month >= 4 else day.year - 1
    return f"{first}-{(first + 1) % 100:02d}"


class Records:
    """The rows behind episodes, and stays by person."""

    def __init__(self, world: World) -> None:
        self.rows = {
            row["EPIKEY"]: row
            for row in (typed_episode(row, number) for number, row in enumerate(world.hes_apc, start=1))
        }
        self.spells = world.spells()
        self.stays = continuous_inpatient_spells(self.spells)
        in_a_stay = {spell.id for stay in self.stays for spell in stay}
        self.alone = [[spell] for spell in self.spells if spell.id not in in_a_stay]
        self.stay_of = {spell.id: stay for stay in self.stays for spell in stay}

    def role(self, episode: Episode) -> str | None:
        row = self.rows[episode.key]
        if row["EPITYPE"] in ("3", "6"):
            return "baby"
        if row["EPITYPE"] in ("2", "5"):
            return "mother"
        return {"1": "mother", "3": "mother", "2": "baby", "4": "baby"}.get(row["MATERNITY_EPISODE_TYPE"])

    def procedures(self, episode: Episode) -> list[tuple[str, date | None]]:
        row = self.rows[episode.key]
        return [
            (row[f"OPERTN_{n:02d}"], row[f"OPDATE_{n:02d}"])
            for n in range(1, 25)
            if row[f"OPERTN_{n:02d}"] and row[f"OPERTN_{n:02d}"][:3] in MODE_OF_PROCEDURE
        ]

    def diagnoses(self, episode: Episode) -> list[str]:
        row = self.rows[episode.key]
        return [row[f"DIAG_{n:02d}"] for n in range(1, 21) if row[f"DIAG_{n:02d}"]]

    def tails(self, row: dict[str, Any]) -> int:
        said = [
            n
            for n in range(1, 10)
            if any(row[f"{name}_{n}"] is not None for name in ("BIRSTAT", "BIRORDR", "GESTAT", "DELMETH"))
        ]
        return max(said, default=0)


def signs(records: Records, episode: Episode) -> list[str]:
    """Which kinds of evidence say that this episode has a delivery, the best first."""
    row = records.rows[episode.key]
    if records.role(episode) == "baby" or episode.sex == "1":
        return []
    if episode.age is not None and not 10 <= episode.age <= 60:
        return []
    found = []
    if records.procedures(episode):
        found.append("procedure")
    if records.role(episode) == "mother" and row["DELMETH_1"] is not None:
        found.append("maternity record")
    codes = records.diagnoses(episode)
    if any(code.startswith("Z37") for code in codes) and any(code[:3] in DELIVERY_CODES for code in codes):
        found.append("diagnosis")
    return found


DELIVERY_CODES = ("O80", "O81", "O82", "O83", "O84")


def believed_day(records: Records, spell: Spell, episode: Episode) -> date | None:
    days = [
        day
        for _, day in records.procedures(episode)
        if day is not None and day >= spell.admission and (spell.discharge is None or day <= spell.discharge)
    ]
    return min(days, default=None)


def delivery_of(records: Records, stay: list[Spell]) -> Delivery | None:
    candidates = []
    for spell in stay:
        for episode in spell.episodes:
            found = signs(records, episode)
            if not found:
                continue
            day = believed_day(records, spell, episode)
            if day is not None:
                rank = 1
            elif "maternity record" in found:
                rank = 2
            elif "procedure" in found:
                rank = 3
            else:
                rank = 4
            outside = day is not None and not episode.start <= day <= episode.reach
            order = (rank, day or date.min, outside, episode.start, episode.reach, episode.key)
            candidates.append((order, spell, episode, day, found[0]))
    if not candidates:
        return None
    _, spell, episode, day, identified_by = min(candidates, key=lambda candidate: candidate[0])

    own_first = [episode, *(other for other in spell.episodes if other is not episode)]
    mothers = [records.rows[other.key] for other in own_first if records.role(other) == "mother"]
    methods = [row["DELMETH_1"] for row in mothers if row["DELMETH_1"] in MODE_OF_METHOD]
    procedures = [code for other in spell.episodes for code, _ in records.procedures(other)]
    codes = [code for other in spell.episodes for code in records.diagnoses(other)]
    if methods:
        mode = MODE_OF_METHOD[methods[0]]
    elif procedures:
        mode = min((MODE_OF_PROCEDURE[code[:3]] for code in procedures), key=MODE_ORDER.index)
    else:
        told = [mode_of_diagnosis(code) for code in codes if code[:3] in DELIVERY_CODES]
        mode = min(told, key=MODE_ORDER.index, default="unknown")
    outcome = max((code[:4] for code in codes if "Z370" <= code[:4] <= "Z377"), default=None)
    numbers = [1]
    for row in mothers:
        if row["NUMBABY"] in set("123456"):
            numbers.append(int(row["NUMBABY"]))
        numbers.append(records.tails(row))
    if outcome in ("Z372", "Z373", "Z374"):
        numbers.append(2)
    if outcome in ("Z375", "Z376", "Z377"):
        numbers.append(3)
    if any(code.startswith("O30") for code in codes):
        numbers.append(2)
    ages = [episode.age, *(row["MATAGE"] for row in mothers)]
    return Delivery(
        spell=spell,
        stay=tuple(stay),
        episode=episode,
        day=day or episode.start,
        dated=day is not None,
        identified_by=identified_by,
        mode=mode,
        babies=max(numbers),
        age_band=band(next((age for age in ages if age is not None), None)),
        outcome=outcome,
        tail=mothers[0] if mothers else None,
        token=next((t for row in mothers if (t := row["mother_baby_token_of_mother"])), None),
    )


def mode_of_diagnosis(code: str) -> str:
    if code.startswith("O821"):
        return "emergency caesarean"
    if code.startswith("O820"):
        return "elective caesarean"
    if code.startswith("O81"):
        return "instrumental"
    if code[:4] in ("O801", "O830", "O831"):
        return "breech"
    return "spontaneous" if code.startswith("O80") else "other"


def band(age: int | None) -> str:
    if age is None:
        return "unknown"
    for limit, name in (
        (20, "under 20"),
        (25, "20 to 24"),
        (30, "25 to 29"),
        (35, "30 to 34"),
        (40, "35 to 39"),
    ):
        if age < limit:
            return name
    return "40 and over"


def deliveries(records: Records) -> list[Delivery]:
    """All deliveries; a stay that repeats the delivery of one less than 154 days before is none."""
    by_person: dict[str, list[Delivery]] = {}
    for stay in [*records.stays, *records.alone]:
        found = delivery_of(records, stay)
        if found is not None:
            by_person.setdefault(found.person, []).append(found)
    kept = []
    for group in by_person.values():
        group.sort(key=lambda delivery: (delivery.day, delivery.episode.key))
        for number, delivery in enumerate(group):
            if number == 0 or (delivery.day - group[number - 1].day).days >= 154:
                kept.append(delivery)
    return kept


# what the indicators have in common -----------------------------------------------------------------------


def by_provider(pairs: Iterable[tuple[str, str, bool]]) -> list[dict[str, Any]]:
    """``pairs``: financial year, provider, whether it counts in the numerator."""
    cells: dict[tuple[str, str], list[int]] = {}
    for year, provider, counts in pairs:
        cell = cells.setdefault((year, provider), [0, 0])
        cell[0] += counts
        cell[1] += 1
    return [
        {"period": year, "provider": provider, "stratum": "all", "numerator": top, "denominator": bottom}
        for (year, provider), (top, bottom) in sorted(cells.items())
    ]


def readmitted(
    records: Records, person: str, stay: list[Spell], last_day: date, methods: tuple[str, ...]
) -> bool:
    ends = max(spell.discharge for spell in stay if spell.discharge is not None)
    return any(
        other is not stay
        and other[0].person == person
        and (ends <= other[0].admission if stay[0].admission < ends else ends < other[0].admission)
        and other[0].admission <= last_day
        and other[0].first.admission_method in methods
        for other in records.stays
    )


def finished_alive(stay: list[Spell]) -> bool:
    """Whether all of a stay is over and its last discharge is not a death."""
    if not all(spell.finished for spell in stay):
        return False
    numbered = list(enumerate(sorted(stay, key=lambda spell: (spell.admission, stay.index(spell), spell.id))))
    return not max(numbered, key=lambda pair: (pair[1].discharge, pair[0]))[1].died


def case_mix_groups(all_deliveries: list[Delivery], fewest: int) -> dict[str, str]:
    """Key of the delivery episode to its group: the finest level that has enough, from what is left over."""
    levels = (
        lambda d: f"{d.mode}, {'multiple' if d.babies > 1 else 'single'}, {d.age_band}",
        lambda d: f"{d.mode}, {'multiple' if d.babies > 1 else 'single'}",
        lambda d: d.mode,
    )
    left = [delivery for delivery in all_deliveries if delivery.followed_until is not None]
    groups: dict[str, str] = {}
    for level in levels:
        counts = Counter((delivery.year, level(delivery)) for delivery in left)
        enough = [d for d in left if counts[d.year, level(d)] >= fewest]
        groups |= {d.episode.key: level(d) for d in enough}
        left = [d for d in left if counts[d.year, level(d)] < fewest]
    return groups | {d.episode.key: "rest" for d in left}
