"""A made-up world for the oracles: a few persons, hospitals and days, so that ties, nested stays and same-day
transfers happen all the time. All randomness comes from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from tests.sql.oracles.episode import Episode, valid_episodes
from tests.sql.oracles.provider_spell import Spell, provider_spells
from tests.sql.tables import token, typed_episode

FIRST_DAY = date(2019, 3, 24)  # so that stays cross the end of the financial year


@dataclass(frozen=True)
class World:
    """Input tables as a test writes them: persons by name."""

    hes_apc: list[dict[str, Any]]
    bridge: list[dict[str, str]]
    deaths: dict[str, date]

    def episodes(self) -> list[Episode]:
        typed = [typed_episode(row, ordinal) for ordinal, row in enumerate(self.hes_apc, start=1)]
        bridge = [(str(token(row["old_person"])), str(token(row["person"]))) for row in self.bridge]
        return valid_episodes(typed, bridge)

    def spells(self) -> list[Spell]:
        return provider_spells(self.episodes())

    def deaths_by_token(self) -> dict[str, date]:
        return {str(token(person)): day for person, day in self.deaths.items()}


def _stay(rng: random.Random, person: str, number: list[int]) -> list[dict[str, Any]]:
    """One to three episodes of one admission, some of them spoilt."""
    provider = rng.choice(["RXX", "RXX", "RYY", "RXX-X", "A1B2C"])
    day = FIRST_DAY + timedelta(days=rng.randrange(12))
    admission = day
    patient_class = rng.choice("1111223")
    usual_end = rng.choice(["1", "1", "1", "4", "5", "9", "8", None])
    rows = []
    count = rng.choice([1, 1, 1, 2, 2, 3])
    for place in range(1, count + 1):
        number[0] += 1
        end = day + timedelta(days=rng.choice([0, 0, 1, 2, 5]))
        last = place == count
        row: dict[str, Any] = {
            # Keys in no order: nothing may depend on them but ties.
            "EPIKEY": f"{rng.randrange(1000):03d}{number[0]:06d}",
            "person": person,
            "PARTYEAR": rng.choice(["201899", "201999", "201907"]),
            "PROCODET": provider,
            "ADMIDATE": admission,
            "EPISTART": day,
            "EPIEND": end,
            "EPIORDER": place,
            "DISDATE": end if last and rng.random() < 0.9 else None,
            "DISMETH": usual_end if last else "8",
            "DISDEST": rng.choice(["19", "19", "51", "49", "84"]) if last else "98",
            "ADMISORC": rng.choice(["19", "19", "51", "87"]),
            "ADMIMETH": rng.choice(["11", "21", "21", "81", "2B"]),
            "CLASSPAT": patient_class,
            "DIAG_01": rng.choice(["J189", "I219", "R69X6", None]),
        }
        spoil = rng.random()
        if spoil < 0.06:
            row["ADMIDATE"] = None
        elif spoil < 0.10:
            row["ADMIDATE"] = day
        elif spoil < 0.13:
            row["EPIORDER"] = rng.choice([None, 98, 1, 2])
        elif spoil < 0.16:
            row |= {"EPISTAT": "1", "EPIEND": None, "DISDATE": None, "DISMETH": "8"}
        elif spoil < 0.18:
            row["EPISTAT"] = "9"
        elif spoil < 0.20:
            row["EPIEND"] = None
        elif spoil < 0.22:
            row["DISDATE"] = day - timedelta(days=2)
        elif spoil < 0.24:
            row |= {"PROCODET": None, "PROCODE3": provider[:3], "PROCODE5": provider}
        elif spoil < 0.25:
            row["PROCODET"] = "89999"
        elif spoil < 0.26:
            row["EPISTART"] = end + timedelta(days=1)
        rows.append(row)
        repeat = rng.random()
        if repeat < 0.03:
            rows.append(dict(row))
        elif repeat < 0.06:
            number[0] += 1
            rows.append(row | {"EPIKEY": f"{rng.randrange(1000):03d}{number[0]:06d}", "PARTYEAR": "201999"})
        elif repeat < 0.09:
            number[0] += 1
            again = {
                "EPIKEY": f"{rng.randrange(1000):03d}{number[0]:06d}",
                "PARTYEAR": "201899",
                "EPISTAT": "1",
            }
            rows.append(row | again | {"EPIEND": None, "DISDATE": None, "DISMETH": "8"})
        # The next episode mostly starts where this one ended, sometimes before.
        day = end if rng.random() < 0.85 else day + timedelta(days=rng.choice([0, 1]))
    return rows


def generated(seed: int, persons: int = 300) -> World:
    """``persons`` persons with one to five admissions each within twelve days."""
    rng = random.Random(seed)
    number = [0]
    hes_apc, bridge, deaths = [], [], {}
    for index in range(persons):
        person = f"person {index}"
        names = [person]
        if rng.random() < 0.2:
            names.append(f"old {person}")
            bridge.append({"old_person": names[1], "person": person})
        for _ in range(rng.randint(1, 5)):
            hes_apc += _stay(rng, rng.choice(names), number)
        if rng.random() < 0.4:
            deaths[person] = FIRST_DAY + timedelta(days=rng.randrange(60))
    return World(hes_apc, bridge, deaths)
