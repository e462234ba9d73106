"""Episodes: spells cut into the records that HES holds, one per consultant, and their diagnoses.

A finished episode belongs to the financial year in which it ends. A spell that runs over the end of a year so
leaves episodes in two files; in the first it looks unfinished (DISMETH 8, no DISDATE). To 2016-17 an episode
that was still running at the end of a year was delivered too, as EPISTAT 1 under a key of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.synthetic import births, days
from infra.synthetic import spells as kinds
from infra.synthetic.births import MODE_DIAGNOSES
from infra.synthetic.days import Bools, Ints
from infra.synthetic.diagnoses import (
    CODE_INDEX,
    CODE_OF_DIAGNOSIS,
    INVALID_PRIMARY,
    SYMPTOMS,
)
from infra.synthetic.people import choose
from infra.synthetic.spells import History
from infra.synthetic.world import UNFINISHED_EPISODES_TO, Table, World

MOST_SECONDARY: Final = 19
_MODE_CODES: Final = np.array([CODE_INDEX[code] for code in MODE_DIAGNOSES])
_PNEUMONIA_CODES: Final = CODE_OF_DIAGNOSIS[kinds.PNEUMONIA_ROWS]


@dataclass(frozen=True)
class Episodes(Table):
    """One row per record. ``spell``: row of the spells; ``order``: EPIORDER; ``primary`` and ``secondary``:
    numbers of diagnosis codes; ``year``: the financial year of the file; ``finished``: EPISTAT 3."""

    spell: Ints
    order: Ints
    first: Bools
    last: Bools
    start: Ints
    end: Ints
    year: Ints
    finished: Bools
    primary: Ints
    secondary: NDArray[np.int16]


def make_episodes(rng: np.random.Generator, world: World, history: History) -> Episodes:
    """Every episode that some file of the world's years holds, spell by spell."""
    spells = history.spells
    stay = spells.end - spells.start
    ordinary = np.isin(spells.patient_class, (1, 5))
    general = choose(rng, spells.count, (0.785, 0.135, 0.055, 0.018, 0.007))
    extra = np.where(stay == 0, rng.random(spells.count) < 0.035, general)
    maternity = np.isin(spells.kind, (kinds.DELIVERY, kinds.BIRTH))
    extra = np.where(maternity, (rng.random(spells.count) < 0.08) & (stay > 0), extra)
    episodes_of = 1 + np.where(ordinary & ~spells.stillborn, extra, 0).astype(np.int64)

    spell = np.repeat(np.arange(spells.count, dtype=np.int64), episodes_of)
    starts = np.cumsum(episodes_of) - episodes_of
    order = np.arange(len(spell), dtype=np.int64) - starts[spell] + 1
    total = episodes_of[spell]
    # the end of episode k of n lies near k/n of the stay; a delivery's first episode holds the delivery
    jitter = rng.uniform(-0.4, 0.4, len(spell))
    from_day = np.where(spells.delivered >= 0, spells.delivered, spells.start)
    length = spells.end - from_day
    cut = from_day[spell] + np.floor(length[spell] * (order + jitter) / total).astype(np.int64)
    last = order == total
    end = np.where(last, spells.end[spell], days.CLINICAL[cut])
    start = np.concatenate([[0], end[:-1]])
    start = np.where(order == 1, spells.start[spell], start)

    primary, secondary = _diagnoses(rng, history, spell, order, last, episodes_of)
    episodes = Episodes(
        spell=spell,
        order=order,
        first=order == 1,
        last=last,
        start=start,
        end=end,
        year=days.FINANCIAL_YEAR[end],
        finished=np.ones(len(spell), dtype=np.bool_),
        primary=primary,
        secondary=secondary,
    )
    return _within(world, episodes)


def _within(world: World, episodes: Episodes) -> Episodes:
    """Episodes of the world's years; to 2016-17 also, once more, those running at the end of a year."""
    result = episodes.take((episodes.end >= world.first_day) & (episodes.end <= world.last_day))
    for year in world.years:
        if year > UNFINISHED_EPISODES_TO:
            break
        year_end = days.year_start(year + 1) - 1
        rows = np.flatnonzero((episodes.start <= year_end) & (episodes.end > year_end))
        part = episodes.take(rows)
        none = np.zeros(len(rows), dtype=np.bool_)
        result = result.followed_by(
            Episodes(
                spell=part.spell,
                order=part.order,
                first=part.first,
                last=none,
                start=part.start,
                end=np.full(len(rows), days.NO_DAY, dtype=np.int64),
                year=np.full(len(rows), year, dtype=np.int64),
                finished=none,
                primary=part.primary,
                secondary=part.secondary,
            )
        )
    return result


def _diagnoses(
    rng: np.random.Generator, history: History, spell: Ints, order: Ints, last: Bools, episodes_of: Ints
) -> tuple[Ints, NDArray[np.int16]]:
    """DIAG_01 and the secondary diagnoses of each episode, as numbers of codes."""
    spells = history.spells
    true_code = CODE_OF_DIAGNOSIS[spells.diagnosis]
    is_delivery = spells.kind == kinds.DELIVERY
    is_birth = spells.kind == kinds.BIRTH
    rows = np.flatnonzero(is_delivery)
    true_code[rows] = _MODE_CODES[history.deliveries.mode[spells.delivery[rows]]]
    rows = np.flatnonzero(is_birth)
    many = history.deliveries.babies[history.babies.delivery[spells.baby[rows]]]
    at_birth = np.select([many == 1, many == 2], [CODE_INDEX["Z380"], CODE_INDEX["Z383"]], CODE_INDEX["Z386"])
    true_code[rows] = np.where(spells.stillborn[rows], CODE_INDEX["P95X"], at_birth)

    # the infection of a delivery's spell comes to light in its last episode, as a secondary code
    in_spell = np.where(is_delivery, spells.infection, 0)
    base = _secondary_of_spells(rng, history)
    primary = true_code[spell]
    emergency = (spells.kind == kinds.EMERGENCY) & ~spells.transfer_out
    symptom_first = emergency & (episodes_of > 1) & (rng.random(spells.count) < 0.15)
    symptoms = np.array([CODE_INDEX[code] for code in SYMPTOMS])[rng.integers(0, len(SYMPTOMS), spells.count)]
    primary = np.where((order == 1) & symptom_first[spell], symptoms[spell], primary)
    # a primary diagnosis that nobody entered, or that the receiving system refused
    unusable = (emergency | (spells.kind == kinds.DAY_CASE)) & (rng.random(spells.count) < 0.003)
    unusable &= ~np.isin(true_code, _PNEUMONIA_CODES)
    refused = np.array([CODE_INDEX[code] for code in INVALID_PRIMARY])[
        (rng.random(spells.count) < 0.3).astype(np.int64)
    ]
    primary = np.where(unusable[spell], refused[spell], primary)

    secondary = base[spell]
    infected = np.flatnonzero((in_spell[spell] > 0) & last)
    place = np.minimum((secondary[infected] > 0).sum(axis=1), MOST_SECONDARY - 1)
    secondary[infected, place] = in_spell[spell[infected]]
    return primary.astype(np.int64), secondary


def _secondary_of_spells(rng: np.random.Generator, history: History) -> NDArray[np.int16]:
    """Up to 19 secondary codes per spell, long-term conditions first so that they are never cut off."""
    spells, people = history.spells, history.people
    count = spells.count
    codes: list[Ints] = []

    def maybe(code: str, likely: NDArray[np.float64] | NDArray[np.bool_] | float) -> None:
        codes.append(np.where(rng.random(count) < likely, CODE_INDEX[code], 0))

    inpatient = spells.patient_class == 1
    emergency = inpatient & np.isin(spells.kind, (kinds.EMERGENCY, kinds.TRANSFER))
    old = spells.start - people.born[spells.person] > 75 * 365
    stay = spells.end - spells.start
    letter = np.array([d[0] if d else "" for d in CODE_INDEX])[CODE_OF_DIAGNOSIS[spells.diagnosis]]
    rows = np.flatnonzero(spells.kind == kinds.DELIVERY)
    outcome = np.zeros(count, dtype=np.int64)
    outcome[rows] = births.outcome_codes(history.deliveries, history.babies)[spells.delivery[rows]]
    twins = np.zeros(count, dtype=np.int64)
    twins[rows] = np.where(history.deliveries.babies[spells.delivery[rows]] == 2, CODE_INDEX["O300"], 0)
    twins[rows] = np.where(
        history.deliveries.babies[spells.delivery[rows]] > 2, CODE_INDEX["O301"], twins[rows]
    )
    codes += [outcome, twins]
    mother = spells.kind == kinds.DELIVERY
    for code, share in (
        ("O701", 0.24),
        ("O702", 0.025),
        ("O721", 0.09),
        ("O342", 0.11),
        ("O420", 0.07),
        ("O623", 0.04),
    ):
        maybe(code, mother * share)
    rows = np.flatnonzero(spells.kind == kinds.BIRTH)
    baby = spells.baby[rows]
    weight = history.babies.weight[baby]
    small = np.zeros(count, dtype=np.int64)
    early = history.deliveries.gestation[history.babies.delivery[baby]] < 37
    small[rows] = np.where(
        weight < 1000,
        CODE_INDEX["P070"],
        np.where(weight < 2500, CODE_INDEX["P071"], np.where(early, CODE_INDEX["P073"], 0)),
    )
    jaundice, sepsis = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    live = ~spells.stillborn[rows]
    jaundice[rows] = np.where(history.babies.jaundice[baby] & live, CODE_INDEX["P599"], 0)
    sepsis[rows] = np.where(history.babies.infected[baby] & live, CODE_INDEX["P369"], 0)
    codes += [small, jaundice, sepsis]

    maybe("N179", emergency * np.where(old, 0.12, 0.04))
    maybe("N390", emergency * np.where(old, 0.07, 0.02))
    maybe("E871", emergency * 0.035)
    maybe("D649", emergency * 0.05)
    maybe("J189", (emergency & (stay > 2)) * 0.025 * ~kinds.PNEUMONIA_ROWS[spells.diagnosis])
    maybe("A419", (emergency & (stay > 2)) * 0.015)
    maybe("A047", (inpatient & (stay > 5)) * np.where(old, 0.006, 0.002))
    maybe("U801", (emergency & (stay > 5)) * 0.003)
    maybe("Z515", np.minimum(spells.chance * 0.9, 0.6) * emergency)
    maybe("W190", ((letter == "S") & emergency) * 0.8)
    maybe("L892", (emergency & old) * 0.012)
    maybe("R13X", (emergency & old) * 0.012)
    maybe("T814", (inpatient & (spells.kind == kinds.ELECTIVE)) * 0.008)
    maybe("Y838", (spells.kind == kinds.SURGICAL_READMISSION) * 0.7)

    conditions = np.where(spells.recorded, kinds.CONDITION_CODES, 0)
    wide = np.concatenate([conditions, np.stack(codes, axis=1)], axis=1)
    present = wide > 0
    position = np.cumsum(present, axis=1)
    row, column = np.nonzero(present & (position <= MOST_SECONDARY))
    packed = np.zeros((count, MOST_SECONDARY), dtype=np.int16)
    packed[row, position[row, column] - 1] = wide[row, column]
    return packed
