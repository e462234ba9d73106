"""Deaths against expected, in plain Python: scope and attribution spell by spell, the models by Newton's method on the
records themselves.

No level of a factor is sparse in the worlds made here, so nothing is merged; :func:`model_of` asserts it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Any

import numpy as np

from schemas.shmi_reference import diagnosis_groups
from tests.sql.oracles.provider_spell import Spell
from tests.sql.oracles.spell_outcome import Outcome, outcomes
from tests.sql.oracles.world import World

LAST_MONTH = (2022, 6)
COVID_DAY = date(2021, 9, 1)
GROUP_OF = {"J189": 73, "I219": 57, "R55X": 134, "U071": 143, "U072": 143}
CONDITION_OF = {
    "C349": ("cancer", 8),
    "C509": ("cancer", 8),
    "J449": ("pulmonary", 4),
    "E112": ("diabetes complications", -1),
    "I219": ("acute myocardial infarction", 5),
    "I10X": None,
    "Z515": None,
    "R69X3": None,
    "U071": None,
}
DECILES = (None, "Most deprived 10%", "More deprived 10-20%", "More deprived 40-50%", "Less deprived 40-50%",
           "Least deprived 10%")  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """A spell in scope: its model's group (None: no model), the levels of its factors, whether the death is its."""

    spell: Spell
    group: int | None
    levels: tuple[str, ...]
    died: bool
    year: int
    provider: str
    site: str
    in_hospital: bool
    rows: tuple[dict[str, Any], ...]
    speaks: dict[str, Any]


# The world ----------------------------------------------------------------------------------------------


def generate(seed: int) -> World:
    """Three years of stays at three hospitals, some of the persons dying during or after one."""
    rng = random.Random(seed)
    hes_apc: list[dict[str, Any]] = []
    deaths: dict[str, date] = {}
    for number in range(1500):
        person = f"person {number}"
        sex, age = rng.choice("12"), rng.choice([66, 83])
        for _ in range(rng.choice([1, 1, 2, 3])):
            stay = _stay(rng, person, len(hes_apc))
            for row in stay:
                row |= {"SEX": sex, "STARTAGE": age}
            hes_apc += stay
            chance = 0.12 + 0.1 * (age == 83) + 0.1 * (sex == "1") + 0.1 * (stay[0]["ADMIMETH"] == "21")
            if person not in deaths and rng.random() < chance:
                deaths[person] = stay[-1]["EPIEND"] + timedelta(days=rng.choice([0, 3, 30, 31]))
    # One of each that the months reported are counted from.
    hes_apc[0] |= {"DISDATE": date(2022, 6, 30), "EPIEND": date(2022, 6, 30), "DISMETH": "1", "CLASSPAT": "1"}
    return World(hes_apc, [], deaths)


def _stay(rng: random.Random, person: str, keys_so_far: int) -> list[dict[str, Any]]:
    """One to three episodes, all in January or July."""
    year, month = rng.choice([(2019, 7), (2020, 1), (2020, 7), (2021, 1), (2021, 7), (2022, 1)])
    admission = date(year, month, rng.randint(1, 20))
    count = rng.choice([1, 1, 2, 3])
    stay = {
        "person": person,
        "PROCODET": rng.choice(["RXX", "RXX", "RYY", "RZZ"]),
        "ADMIDATE": admission,
        "ADMIMETH": rng.choice(["11", "21", "21"]),
        "CLASSPAT": rng.choice("1111152"),
    }
    rows = []
    day = admission
    for place in range(1, count + 1):
        end = day + timedelta(days=rng.choice([0, 1, 3]))
        diagnosis = rng.choice(["J189", "J189", "I219", "R55X", "R55X", "R69X6", "ZZZZ"])
        if rng.random() < 0.03:
            diagnosis = rng.choice(["U071", "U072"])
        row = {
            **stay,
            "EPIKEY": f"{rng.randrange(1000):03d}{keys_so_far + place:06d}",
            "EPISTART": day,
            "EPIEND": end,
            "EPIORDER": place,
            "DISMETH": "8",
            "SITETRET": rng.choice([f"{stay['PROCODET']}01", f"{stay['PROCODET']}02", "89999"]),
            "DIAG_01": diagnosis,
            "TRETSPEF": "315" if rng.random() < 0.05 else "300",
            "IMD04_DECILE": rng.choice(DECILES),
        }
        for place_of_code in range(2, rng.choice([2, 3, 3, 4, 5])):
            row[f"DIAG_{place_of_code:02d}"] = rng.choice([*list(CONDITION_OF)[:-1], "J449", "J449"])
        if rng.random() < 0.02:
            row["DIAG_07"] = "U071"
        rows.append(row)
        day = end
    rows[-1] |= {"DISDATE": day, "DISMETH": rng.choice([*["1"] * 11, "4", "4", "5", "8"])}
    return rows


# The rules ----------------------------------------------------------------------------------------------


def diagnoses_of(row: dict[str, Any]) -> list[str]:
    return [row[f"DIAG_{place:02d}"] for place in range(2, 21) if row.get(f"DIAG_{place:02d}")]


def said(row: dict[str, Any]) -> str | None:
    """The primary diagnosis, nothing where the hospital gave none."""
    return None if row["DIAG_01"].startswith("R69X") else str(row["DIAG_01"])


def row_of_diagnosis(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The episode whose diagnosis counts."""
    first = said(rows[0])
    if (first is None or first.startswith("R")) and len(rows) > 1:
        second = said(rows[1])
        if second is not None and not second.startswith("R"):
            return rows[1]
    return rows[0]


def charlson_band(codes: list[str]) -> str:
    conditions = {CONDITION_OF[code] for code in codes if CONDITION_OF.get(code)}
    index = max(0, sum(weight for _, weight in conditions if weight))  # type: ignore[misc]
    return "0" if index == 0 else "1-5" if index <= 5 else "over 5"


def year_of(day: date) -> int:
    months = (LAST_MONTH[0] - day.year) * 12 + LAST_MONTH[1] - day.month
    return months // 12 + 1


def in_scope(world: World) -> list[Scored]:
    """Every spell of the three years that the indicator looks at, with a diagnosis that has a model or not."""
    row_of = {row["EPIKEY"]: row for row in world.hes_apc}
    stays = [
        outcome
        for outcome in outcomes(world.spells(), world.deaths_by_token())
        if outcome.spell.first.patient_class not in ("2", "3", "4")
    ]
    last: dict[str, Outcome] = {}
    for stay in stays:
        if stay.order is not None:
            held = last.get(stay.spell.person)
            if held is None or held.order is None or stay.order < held.order:
                last[stay.spell.person] = stay
    counted = {stay.spell.id for stay in last.values()}
    found = []
    for stay in stays:
        spell = stay.spell
        rows = [row_of[episode.key] for episode in spell.episodes]
        assert spell.discharge is not None
        year = year_of(spell.discharge)
        covid = any(code in ("U071", "U072") for row in rows for code in [row["DIAG_01"], *diagnoses_of(row)])
        if not 1 <= year <= 3 or (covid and spell.discharge < COVID_DAY):
            continue
        speaks = row_of_diagnosis(rows)
        group = GROUP_OF.get(said(speaks) or "")
        found.append(
            Scored(
                spell=spell,
                group=group if group != 143 else None,
                levels=(
                    str(spell.first.age),
                    str(spell.first.sex),
                    str(spell.first.admission_method),
                    charlson_band(diagnoses_of(speaks)),
                    str(year),
                    str(spell.admission.month),
                ),
                died=spell.id in counted,
                year=year,
                provider=spell.first.provider,
                site=spell.first.site or "not known",
                in_hospital=stay.died_in_hospital,
                rows=tuple(rows),
                speaks=speaks,
            )
        )
    return found


# The models ---------------------------------------------------------------------------------------------


def model_of(stays: list[Scored]) -> dict[str, float]:
    """Spell to risk, for the stays of one group: logistic regression on every stay for itself."""
    columns = [np.ones(len(stays))]
    died = np.array([float(stay.died) for stay in stays])
    for place in range(len(stays[0].levels)):
        held = [stay.levels[place] for stay in stays]
        names = sorted(set(held))
        for name in names:
            deaths = sum(stay.died for stay in stays if stay.levels[place] == name)
            survivors = held.count(name) - deaths
            assert min(deaths, survivors) >= 5, "a sparse level: make the world larger"
        columns += [np.array([float(level == name) for level in held]) for name in names[1:]]
    design = np.column_stack(columns)
    value = np.zeros(design.shape[1])
    for _ in range(50):
        risk = 1 / (1 + np.exp(-design @ value))
        weight = risk * (1 - risk)
        step = np.linalg.solve(design.T @ (design * weight[:, None]), design.T @ (died - risk))
        value = value + step
        if abs(step).max() < 1e-13:
            break
    risk = 1 / (1 + np.exp(-design @ value))
    return {stay.spell.id: float(chance) for stay, chance in zip(stays, risk, strict=True)}


def risks(stays: list[Scored]) -> dict[str, float]:
    """Spell to risk, of all stays whose group has a model."""
    found: dict[str, float] = {}
    for group in sorted({stay.group for stay in stays if stay.group is not None}):
        found |= model_of([stay for stay in stays if stay.group == group])
    return found


def expected(world: World) -> list[dict[str, Any]]:
    """The indicator's rows, in its order."""
    stays = in_scope(world)
    risk = risks(stays)
    labels = diagnosis_groups().labels
    entries = []
    for stay in stays:
        if stay.group is not None and stay.year == 1:
            group = f"diagnosis group: {stay.group} {labels[stay.group]}"
            for stratum in ("all", group, f"site: {stay.site}"):
                entries.append((stay.provider, stratum, stay.died, risk[stay.spell.id]))
    rows = []
    for (provider, stratum), cell in groupby(sorted(entries), key=lambda entry: entry[:2]):
        held = list(cell)
        rows.append(
            {
                "period": "2021-07 to 2022-06",
                "provider": provider,
                "stratum": stratum,
                "numerator": sum(entry[2] for entry in held),
                "denominator": len(held),
                "expected": round(sum(entry[3] for entry in held), 6),
            }
        )
    return rows
