"""A made-up world of mothers and babies. All randomness comes from the seed.

It has what makes deliveries hard: two episodes of one delivery, transfers before and after, repeated codes, dates that
are missing or another stay's, twins, stillbirths, babies without a mother's record and the reverse.
"""

from __future__ import annotations

import random
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from tests.sql.oracles.delivery import END
from tests.sql.oracles.world import World


@lru_cache(maxsize=8)
def generate(seed: int, mothers: int = 800) -> World:
    """Mothers, their babies, and what comes before and after; more than half are alike, so that one case-mix
    group is large enough for a rate of its own."""
    rng = random.Random(seed)
    maker = _Maker(rng)
    for number in range(mothers):
        maker.mother(f"mother {number}", alike=rng.random() < 0.72)
    rng.shuffle(maker.rows)
    return World(maker.rows, [], maker.deaths)


def generate_few(seed: int) -> World:
    """As :func:`generate`, for indicators that have no case-mix groups."""
    return generate(seed, 250)


class _Maker:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.rows: list[dict[str, Any]] = []
        self.deaths: dict[str, date] = {}
        self.number = 0

    def add(self, person: str, start: date, end: date, **more: Any) -> dict[str, Any]:
        self.number += 1
        fiscal = (end.year if end.month >= 4 else end.year - 1) if end <= END else 2019
        row = {
            "EPIKEY": f"{self.rng.randrange(1000):03d}{self.number:06d}",
            "person": person,
            "PARTYEAR": f"{fiscal}99",
            "delivery_id": f"hes_apc-{max(fiscal, 2018)}99-0123456789ab",
            "PROCODET": "RXX",
            "ADMIDATE": start,
            "EPISTART": start,
            "EPIEND": end,
            "DISDATE": end,
            "EPIORDER": 1,
            **more,
        }
        self.rows.append(row)
        return row

    def mother(self, name: str, alike: bool) -> None:
        rng = self.rng
        day = date(2019, 4, 1) + timedelta(days=rng.randrange(365))
        if not alike and rng.random() < 0.3:
            day = date(2018, 3, 25) + timedelta(days=rng.randrange(375))
        provider = rng.choice(["RXX", "RXX", "RYY", "RZZ"])
        stays_on = timedelta(days=rng.choice([0, 0, 1, 2, 4]))
        if alike:
            self.add(
                name, day, day + stays_on, PROCODET=provider, STARTAGE=rng.randint(25, 29), EPITYPE="2",
                DIAG_01=rng.choice(["O800", "O800", "O800", "O85X"]) if rng.random() < 0.2 else "O800",
                DIAG_02="Z370", OPERTN_01="R249", OPDATE_01=day, DELMETH_1="0", BIRSTAT_1="1", NUMBABY="1",
                DISMETH="1", mother_baby_token_of_mother=name,
            )  # fmt: skip
            last = day + stays_on
            if rng.random() < 0.3:
                self.baby(name, 1, "1", day, last, provider)
        else:
            last = self.awkward(name, day, provider, stays_on)
        for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
            back = last + timedelta(days=rng.choice([0, 1, 3, 10, 30, 38, 41, 42, 43, 60]))
            self.add(
                name, back, back + timedelta(days=rng.choice([0, 1, 5])), STARTAGE=30,
                PROCODET=rng.choice([provider, "RYY"]), ADMIMETH=rng.choice(["21", "32", "11", "2A", "2C"]),
                DIAG_01=rng.choice(["O85X", "O860", "O911", "A419", "J189", "O721", "O900", "O909"]),
                DIAG_02=rng.choice([None, "O864", "Z370"]),
                OPERTN_01="R249" if rng.random() < 0.08 else None, OPDATE_01=day,
                DISDEST=rng.choice(["19", "51"]), ADMISORC=rng.choice(["19", "19", "51"]),
                CLASSPAT=rng.choice("11123"),
            )  # fmt: skip
        if rng.random() < 0.02:
            self.deaths[name] = last + timedelta(days=rng.randrange(30))

    def awkward(self, name: str, day: date, provider: str, stays_on: timedelta) -> date:
        rng = self.rng
        end = day + stays_on
        babies = rng.choice([1, 1, 1, 1, 2, 2, 3])
        statuses = [rng.choice(["1", "1", "1", "1", "2", "4", "9", None]) for _ in range(babies)]
        mode = rng.choice("01234567888XXX")
        maternity: dict[str, Any] = {
            "EPITYPE": rng.choice(["2", "2", "2", "5", "1"]),
            "MATERNITY_EPISODE_TYPE": rng.choice([None, "1", "3", "99"]),
            "DELMETH_1": rng.choice([mode, mode, mode, None]),
            "NUMBABY": rng.choice([str(babies), str(babies), "9", None]),
            "mother_baby_token_of_mother": rng.choice([name, name, name, None, "shared"]),
            **{f"BIRSTAT_{n}": status for n, status in enumerate(statuses, start=1) if rng.random() < 0.9},
            **{f"GESTAT_{n}": rng.choice([22, 23, 24, 39, 40, None]) for n in range(1, babies + 1)},
        }
        procedure: dict[str, Any] = {}
        if rng.random() < 0.55:
            code = rng.choice(["R171", "R182", "R199", "R202", "R211", "R229", "R239", "R249", "R251"])
            where = rng.choice([day, day, day, None, day - timedelta(days=30), end + timedelta(days=3)])
            procedure = {
                "OPERTN_02": code,
                "OPDATE_02": where,
                "OPERTN_01": rng.choice([None, "R183", "Y71"]),
            }
            if rng.random() < 0.3:
                procedure |= {"OPERTN_03": "R249", "OPDATE_03": end}
        diagnoses = {
            "DIAG_01": rng.choice(["O800", "O821", "O820", "O814", "O839", "O801", "O721", "O85X", None]),
            "DIAG_02": rng.choice([None, "O861", "O753", "O300", "O800"]),
            "DIAG_03": rng.choice([None, "Z370", "Z371", "Z372", "Z373", "Z374", "Z376", "Z379"]),
        }
        usual: dict[str, Any] = {
            "PROCODET": provider,
            "SEX": rng.choice(["2"] * 12 + ["1", None]),
            "STARTAGE": rng.choice([17, 19, 22, 27, 31, 36, 39, 40, 44, None, None, 7003]),
            "MATAGE": rng.choice([None, 33]),
            "CLASSPAT": rng.choice("1111153"),
        }
        shape = rng.choice(["one", "one", "two", "before", "after", "repeated", "open"])
        if shape == "one":
            self.add(name, day, end, **usual, **maternity, **procedure, **diagnoses)
        elif shape == "open":
            self.add(name, day, end, **usual, **maternity, **procedure, **diagnoses, DISMETH="8")
            self.rows[-1]["DISDATE"] = None
        elif shape == "two":
            before = day - timedelta(days=rng.choice([0, 1, 6]))
            infected = {"DIAG_01": rng.choice(["O860", "O471"])}
            turn = rng.choice([day, before])
            self.add(name, before, turn, **usual, **infected, DISMETH="8")
            self.rows[-1]["DISDATE"] = None
            self.add(
                name, turn, end, **usual, **maternity, **procedure, **diagnoses, EPIORDER=2
            )  # fmt: skip
            self.rows[-1]["ADMIDATE"] = before
            if rng.random() < 0.5:
                self.rows[-1] |= {"DISMETH": "8", "DISDATE": None}
                later = end + timedelta(days=rng.choice([0, 3, 50]))
                self.add(name, end, later, **usual, EPIORDER=3, DIAG_01=rng.choice(["O85X", "O909"]))
                self.rows[-1]["ADMIDATE"] = before
                end = later
        elif shape == "before":
            before = day - timedelta(days=rng.choice([1, 3]))
            self.add(name, before, day, **usual, EPITYPE="2", DELMETH_1=rng.choice([None, "0"]), DISDEST="51")
            self.add(
                name, day, end, **{**usual, "PROCODET": "RWW"}, **maternity, **procedure, **diagnoses,
                ADMISORC="51", ADMIMETH="2B",
            )  # fmt: skip
        elif shape == "after":
            self.add(name, day, end, **usual, **maternity, **procedure, **diagnoses, DISDEST="51")
            later = end + timedelta(days=rng.choice([1, 4]))
            self.add(
                name, end, later, **{**usual, "PROCODET": "RWW"}, **procedure, ADMISORC="51",
                ADMIMETH="81", DIAG_01=rng.choice(["O85X", "O909"]),
            )  # fmt: skip
            end = later
        else:
            self.add(name, day, end, **usual, **maternity, **procedure, **diagnoses)
            again = end + timedelta(days=rng.choice([5, 100, 153, 154, 200]))
            if again < END:
                self.add(name, again, again, **usual, **maternity, DIAG_01="O800", DIAG_02="Z370")
        for place, status in enumerate(statuses, start=1):
            if rng.random() < 0.85:
                self.baby(name, place, status, day, end, provider)
        return end

    def baby(self, mother: str, place: int, status: str | None, day: date, end: date, provider: str) -> None:
        rng = self.rng
        name = f"baby {place} of {mother}"
        late = rng.choice([0, 0, 0, 0, 2])
        start = day + timedelta(days=late)
        end = max(start, end) + timedelta(days=rng.choice([0, 0, 0, 2, 12]))
        still = status in ("2", "3", "4") and rng.random() < 0.8
        goes_on = rng.random() < 0.1
        dies = not still and rng.random() < 0.06
        order = str(place) if rng.random() < 0.8 else rng.choice([None, "1", "X", "7"])
        self.add(
            name, start, end, PROCODET=provider, EPITYPE=rng.choice(["3", "3", "3", "6"]), SEX="1",
            STARTAGE=7001, NEODUR=late if rng.random() < 0.8 else None, BIRORDR_1=order, BIRSTAT_1=status,
            GESTAT_1=rng.choice([23, 30, 40, None]), DELMETH_1="0", NUMBABY="1", ADMIMETH="82",
            DIAG_01=rng.choice(["Z380", "O800"]), DIAG_02=rng.choice([None, "Z370"]),
            DISMETH="5" if still else "4" if dies else "1",
            OPERTN_01=rng.choice([None, None, "R249"]), OPDATE_01=day, DISDEST="51" if goes_on else "19",
            mother_baby_token_of_baby=rng.choice([mother, mother, mother, "shared", None]),
        )  # fmt: skip
        if goes_on or rng.random() < 0.2:
            back = end if goes_on else end + timedelta(days=rng.choice([0, 1, 5, 20, 27, 28, 29]))
            self.add(
                name, back, back + timedelta(days=2), PROCODET="RVV", STARTAGE=7002, SEX="1",
                EPITYPE=rng.choice(["1", "1", "3"]), DIAG_01="P590", ADMISORC="51" if goes_on else "19",
                ADMIMETH="81" if goes_on else rng.choice(["21", "2C", "11", "2D"]),
                DISMETH=rng.choice(["1", "1", "1", "4"]),
            )  # fmt: skip
        if not still and rng.random() < 0.1:
            self.deaths[name] = start + timedelta(days=rng.choice([0, 3, 6, 7, 8, 20]))
