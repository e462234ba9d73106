"""Admitted patient care: episodes as the rows of HES APC, one text column per field of either era."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from infra.synthetic import births, days
from infra.synthetic import spells as kinds
from infra.synthetic.days import NO_DAY, Bools, Ints
from infra.synthetic.diagnoses import CODE_INDEX, CODES, DIAGNOSES
from infra.synthetic.episodes import Episodes
from infra.synthetic.identities import Identities, provider_columns
from infra.synthetic.layout import (
    DIAGNOSIS_COLUMNS,
    OPERATION_COLUMNS,
    OPERATION_DATE_COLUMNS,
    either,
    empty,
    financial_year_text,
    only_where,
    whole,
    words,
)
from infra.synthetic.maternity import maternity_columns
from infra.synthetic.people import choose
from infra.synthetic.spells import History, Spells, start_ages
from infra.synthetic.world import NEW_ERA_FROM, World

MOST_OPERATIONS: Final = 3
OPERATIONS: Final = tuple(
    dict.fromkeys(
        (
            "",
            *(code for d in DIAGNOSES for code in d.procedures),
            *births.MODE_PROCEDURES,
            *("R321", "R271", "Z942", "Z943", "Y534", "Y752", "U212", "U051", "U201", "X403", "Y981"),
            *("-", "-   ", "&\t ", "X999"),
        )
    )
)
OPERATION_INDEX: Final = {code: number for number, code in enumerate(OPERATIONS)}
_OPERATION_TEXT: Final = pl.Series([None, *OPERATIONS[1:]], dtype=pl.String)
_CODE_TEXT: Final = pl.Series(
    [None, *CODES[1:], None, *(f"{code:<6}" for code in CODES[1:])], dtype=pl.String
)
_MODE_OPERATIONS: Final = np.array([OPERATION_INDEX[code] for code in births.MODE_PROCEDURES])
_DIAGNOSIS_OPERATIONS: Final = np.array(
    [
        [OPERATION_INDEX[d.procedures[n % len(d.procedures)]] if d.procedures else 0 for n in range(2)]
        for d in DIAGNOSES
    ]
)
METHODS: Final = (
    "11",
    "12",
    "13",
    "21",
    "22",
    "23",
    "24",
    "25",
    "2A",
    "2B",
    "2C",
    "2D",
    "28",
    "31",
    "32",
    "81",
    "82",
    "83",
)
_METHOD: Final = {code: number for number, code in enumerate(METHODS)}
_SPECIALTIES: Final = (*dict.fromkeys(d.specialty for d in DIAGNOSES), "&")
_SPECIALTY: Final = np.array([_SPECIALTIES.index(d.specialty) for d in DIAGNOSES])
OLD_KEYS_FROM: Final = 500_000_000_000
NEW_KEYS_FROM: Final = 5_000_000_000_000_000_000
_KEY_STEP: Final = 7_777_777_777
"""Coprime to ten, so keys of different records stay different in eleven digits and in seventeen."""


def record_keys(numbers: Ints, years: Ints) -> pl.Series:
    """EPIKEY: 12 characters in the old era, 19 in the new; ``numbers`` are below a thousand million."""
    mixed = numbers * _KEY_STEP
    old = pl.Series(OLD_KEYS_FROM + mixed % 10**11).cast(pl.String)
    new = pl.Series(NEW_KEYS_FROM + mixed % 10**17).cast(pl.String)
    return either(years >= NEW_ERA_FROM, new, old)


def _methods(rng: np.random.Generator, spells: Spells) -> Ints:
    """Number of the ADMIMETH code of each spell, as the codes were in force at its start."""
    count = spells.count
    year = days.FINANCIAL_YEAR[spells.start]
    modern = year >= 2013

    def one_of(codes: tuple[str, ...], shares: tuple[float, ...]) -> Ints:
        return np.array([_METHOD[code] for code in codes])[choose(rng, count, shares)]

    unplanned = np.where(
        modern,
        one_of(("21", "22", "23", "24", "25", "2A", "2D"), (0.74, 0.12, 0.02, 0.06, 0.005, 0.03, 0.025)),
        one_of(("21", "22", "23", "24", "28"), (0.70, 0.18, 0.03, 0.06, 0.03)),
    )
    moved = np.where(modern, one_of(("81", "2B"), (0.55, 0.45)), _METHOD["81"])
    method = unplanned
    method = np.where(spells.kind == kinds.TRANSFER, moved, method)
    planned = one_of(("11", "12", "13"), (0.5, 0.25, 0.25))
    method = np.where(np.isin(spells.kind, (kinds.ELECTIVE, kinds.DAY_CASE)), planned, method)
    method = np.where(spells.kind == kinds.REGULAR, _METHOD["13"], method)
    method = np.where(spells.kind == kinds.DELIVERY, one_of(("31", "32"), (0.98, 0.02)), method)
    method = np.where(spells.kind == kinds.ANTENATAL, _METHOD["31"], method)
    after = np.isin(spells.kind, (kinds.INFECTION_READMISSION, kinds.PUERPERAL_READMISSION))
    method = np.where(after, one_of(("32", "21"), (0.5, 0.5)), method)
    at_birth = np.where(modern, one_of(("82", "83", "2C"), (0.985, 0.01, 0.005)), _METHOD["82"])
    return np.where(spells.kind == kinds.BIRTH, at_birth, method).astype(np.int64)


def _spell_columns(
    rng: np.random.Generator, world: World, history: History, first_spell: int
) -> dict[str, pl.Series]:
    """Columns that all episodes of a spell share, one value per spell."""
    spells, people = history.spells, history.people
    count = spells.count
    kind = spells.kind
    elective = np.isin(kind, kinds.ELECTIVE_KINDS)
    wait = 1 + np.minimum(rng.exponential(75, count), 700).astype(np.int64)
    decided = np.where(elective, days.CLINICAL[spells.start - wait], NO_DAY)
    waited = np.where(elective, spells.start - decided, -1)
    sentinel = rng.random(count)
    decided = np.where(elective & (sentinel < 0.015), days.NULL_SUBMITTED, decided)
    decided = np.where(elective & (sentinel > 0.997), days.INVALID_SUBMITTED, decided)
    waited = np.where(decided >= days.COUNT, -1, waited)
    old = spells.start - people.born[spells.person] > 78 * 365
    source = choose(rng, count, (0.985, 0.008, 0.007)) * ~np.isin(kind, (kinds.BIRTH, kinds.TRANSFER))
    source = np.where(old & (rng.random(count) < 0.05) & ~spells.transfer_in, 5, source)
    source = np.where(spells.transfer_in, 3, np.where(kind == kinds.BIRTH, 4, source))
    number = first_spell + np.arange(count, dtype=np.int64)
    year = days.FINANCIAL_YEAR[spells.start]
    susspell = either(
        year >= 2017,
        pl.Series(3_000_000_000_000_000_000 + number * _KEY_STEP % 10**17).cast(pl.String),
        # never a number that looks like one of the test range's NHS numbers
        pl.Series(3_000_000_000 + number * 7_777_777 % 10**9).cast(pl.String),
    )
    odd = rng.random(count)
    susspell = either(
        odd < 0.0001, pl.Series(["-1"]).new_from_index(0, count), only_where(susspell, odd < 0.9997)
    )
    specialty = _SPECIALTY[spells.diagnosis]
    unknown_specialty = rng.random(count) < 0.001
    return {
        "ADMIDATE": days.iso(spells.start),
        "ADMIMETH": words(METHODS, _methods(rng, spells)),
        "ADMISORC": words(("19", "29", "99", "51", "79", "54"), source),
        "ADMINCAT": words(("01", "02", "99"), choose(rng, count, (0.987, 0.012, 0.001))),
        "ELECDATE": days.iso(decided),
        "ELECDUR": whole(waited),
        "CLASSPAT": whole(spells.patient_class),
        "INTMANIG": words(
            (None, "1", "2", "4"), np.select([kind == kinds.DAY_CASE, kind == kinds.REGULAR], [2, 3], 1)
        ),
        "PROVSPNO": "PS" + pl.Series(100_000_000 + number * 7_777_777 % 10**9).cast(pl.String).str.zfill(10),
        "SUSSPELLID": susspell,
        "MAINSPEF": words(_SPECIALTIES, np.where(unknown_specialty, len(_SPECIALTIES) - 1, specialty)),
        "TRETSPEF": words(_SPECIALTIES, specialty),
        **provider_columns(world, spells.hospital, choose(rng, count, (0.7, 0.2, 0.1))),
    }


def _discharge_columns(
    rng: np.random.Generator, spells: Spells, episodes: Episodes, old: Bools
) -> dict[str, pl.Series]:
    """How the spell ended, on its last episode; the others say that it had not."""
    spell, last = episodes.spell, episodes.last
    count = spells.count
    destination = np.where(old & (spells.patient_class == 1), choose(rng, count, (0.93, 0.05, 0.02)), 0)
    destination = np.where(spells.transfer_out, 3, destination)
    destination = np.where(spells.died | spells.stillborn, 4, destination)
    own_wish = rng.random(count) < 0.008
    retired = days.FINANCIAL_YEAR[spells.end] < 2022
    method = np.where(own_wish, np.where(retired, 1, 2), 0)
    method = np.where(spells.died, 3, np.where(spells.stillborn, 4, method))
    ready = last & (spells.end - spells.start >= 6)[spell] & (old & (rng.random(count) < 0.15))[spell]
    return {
        "DISDATE": days.iso(np.where(last, episodes.end, NO_DAY)),
        "DISDEST": words(("19", "54", "65", "51", "79", "98"), np.where(last, destination[spell], 5)),
        "DISMETH": words(("1", "2", "6", "4", "5", "8"), np.where(last, method[spell], 5)),
        "DISREADYDATE": days.iso(np.where(ready, days.CLINICAL[episodes.end - 2], NO_DAY)),
    }


def _operations(rng: np.random.Generator, history: History, episodes: Episodes) -> tuple[Ints, Ints]:
    """Numbers and days of up to three operations per episode."""
    spells = history.spells
    spell = episodes.spell
    count = episodes.count
    kind = spells.kind[spell]
    codes = np.zeros((count, MOST_OPERATIONS), dtype=np.int64)
    dates = np.full((count, MOST_OPERATIONS), NO_DAY, dtype=np.int64)
    planned = np.isin(kind, (*kinds.ELECTIVE_KINDS, kinds.SURGICAL_READMISSION))
    share = np.where(planned, 0.96, np.where(kind == kinds.BIRTH, 0.0, 0.5))
    possible = _DIAGNOSIS_OPERATIONS[spells.diagnosis[spell], rng.integers(0, 2, count)]
    done = (possible > 0) & episodes.first & (rng.random(count) < share) & (kind != kinds.DELIVERY)
    imaging = np.array([OPERATION_INDEX[code] for code in ("U212", "U051", "U201")])[
        rng.integers(0, 3, count)
    ]
    scanned = (possible == 0) & (kind == kinds.EMERGENCY) & (rng.random(count) < 0.13)
    main = np.where(done, possible, np.where(scanned, imaging, 0))
    later = np.minimum(
        episodes.start + (rng.random(count) < 0.35), np.where(episodes.finished, episodes.end, days.COUNT)
    )
    when = days.CLINICAL[later]
    delivering = np.flatnonzero((kind == kinds.DELIVERY) & episodes.first)
    main[delivering] = _MODE_OPERATIONS[history.deliveries.mode[spells.delivery[spell[delivering]]]]
    when[delivering] = spells.delivered[spell[delivering]]
    if len(delivering) and (not episodes.finished.all()):
        # still in labour when the year ended
        ahead = ~episodes.finished[delivering] & (
            days.FINANCIAL_YEAR[when[delivering]] > episodes.year[delivering]
        )
        main[delivering[ahead]] = 0
    second = np.where(kind == kinds.DELIVERY, OPERATION_INDEX["R321"], OPERATION_INDEX["Z942"])
    with_second = (main > 0) & (rng.random(count) < 0.4)
    with_third = with_second & (rng.random(count) < 0.3)
    third = np.where(kind == kinds.DELIVERY, OPERATION_INDEX["R271"], OPERATION_INDEX["Y752"])
    codes[:, 0] = main
    codes[:, 1] = np.where(with_second, second, 0)
    codes[:, 2] = np.where(with_third, third, 0)
    dates[:, 0] = np.where(main > 0, when, NO_DAY)
    odd = rng.random(count)
    plain = (main > 0) & (kind != kinds.DELIVERY)
    dates[:, 0] = np.where(plain & (odd < 0.003), days.NULL_SUBMITTED, dates[:, 0])
    dates[:, 0] = np.where(plain & (odd > 0.999), days.INVALID_SUBMITTED, dates[:, 0])
    dates[:, 1] = np.where(with_second, when, NO_DAY)
    dates[:, 2] = np.where(with_third, when, NO_DAY)
    return codes, dates


def admitted_columns(
    rng: np.random.Generator,
    world: World,
    history: History,
    episodes: Episodes,
    identities: Identities,
    *,
    first_record: int,
    first_spell: int,
) -> pl.DataFrame:
    """All columns of either era as text, one row per episode in this order; PARTYEAR is the file's matter.

    ``first_record`` and ``first_spell`` count those of earlier blocks, so that keys are unique.
    """
    spells, people = history.spells, history.people
    spell, count = episodes.spell, episodes.count
    person = spells.person[spell]
    kind = spells.kind[spell]
    finished, last, first, year = episodes.finished, episodes.last, episodes.first, episodes.year
    old_person = spells.start - people.born[spells.person] > 78 * 365
    per_spell = pl.DataFrame(_spell_columns(rng, world, history, first_spell))
    columns: dict[str, pl.Series] = {c.name: c for c in per_spell[spell].get_columns()}
    columns |= _discharge_columns(rng, spells, episodes, old_person)
    columns |= identities.columns(rng, world, person, spells.hospital[spell], year)
    columns |= maternity_columns(rng, history, episodes)

    age = start_ages(people, person, episodes.start)
    age = np.where((kind == kinds.BIRTH) & first, 7001, age)
    counted = finished & ~np.isin(spells.patient_class[spell], (3, 4))
    year_start = _YEAR_STARTS[year - _FIRST_TABLE_YEAR]
    year_end = _YEAR_STARTS[year + 1 - _FIRST_TABLE_YEAR] - 1
    end = np.where(finished, episodes.end, year_end)
    emergency = np.isin(kind, (kinds.EMERGENCY, kinds.SURGICAL_READMISSION))
    began_this_year = spells.start[spell] >= year_start
    stay = (spells.end - spells.start)[spell]
    numbers = first_record + np.arange(count, dtype=np.int64)
    lowest_year = int(year.min(initial=world.last_year))
    names = [financial_year_text(y) for y in range(lowest_year, world.last_year + 1)]
    columns |= {
        "FYEAR": words(names, year - lowest_year),
        "EPIKEY": record_keys(numbers, year),
        "STARTAGE": whole(age),
        "EPISTART": days.iso(episodes.start),
        "EPIEND": days.iso(np.where(finished, episodes.end, NO_DAY)),
        "EPIORDER": whole(episodes.order),
        "EPISTAT": words(("1", "3"), finished),
        "EPIDUR": whole(np.where(finished, episodes.end - episodes.start, -1)),
        "BEDYEAR": whole(end - np.maximum(episodes.start, year_start)),
        "SPELBGIN": words(("0", "1", "2"), np.where(first, np.where(began_this_year, 2, 1), 0)),
        "SPELEND": words(("N", "Y"), last),
        "SPELDUR": whole(np.where(last, stay, -1)),
        "FCE": words(("0", "1"), counted),
        "FAE": words(("0", "1"), counted & first),
        "FAE_EMERGENCY": words(("0", "1"), counted & first & emergency),
        "FDE": words(("0", "1"), counted & last),
        "SUSRECID": pl.Series(20_000_000_000_000 + numbers * 7_777_777 % 10**13).cast(pl.String),
        "SUBDATE": days.iso(days.CLINICAL[end + 18 + numbers % 9]),
    }

    # diagnoses, a few of them padded by the sending system
    padded = np.where((year < NEW_ERA_FROM) & (rng.random(count) < 0.01), len(CODES), 0)
    columns["DIAG_01"] = _CODE_TEXT.gather(episodes.primary + padded)
    dash = CODE_INDEX["-"]
    nothing_else = (episodes.secondary[:, 0] == 0) & (year < NEW_ERA_FROM) & (rng.random(count) < 0.05)
    for place, name in enumerate(DIAGNOSIS_COLUMNS[1:]):
        code = episodes.secondary[:, place].astype(np.int64)
        if place == 0:
            code = np.where(nothing_else, dash, code + np.where(code > 0, padded, 0))
        columns[name] = _CODE_TEXT.gather(code)

    codes, dates = _operations(rng, history, episodes)
    none = codes[:, 0] == 0
    old_none = np.array([OPERATION_INDEX[code] for code in ("-   ", "-", "&\t ", "X999")])
    old_none = old_none[choose(rng, count, (0.70, 0.27, 0.02, 0.01))]
    new_none = np.where(rng.random(count) < 0.6, OPERATION_INDEX["-"], 0)
    shown = np.where(none, np.where(year < NEW_ERA_FROM, old_none, new_none), codes[:, 0])
    columns["OPERTN_01"] = _OPERATION_TEXT.gather(shown)
    columns["OPDATE_01"] = days.iso(dates[:, 0])
    for place in range(1, len(OPERATION_COLUMNS)):
        used = place < MOST_OPERATIONS
        columns[OPERATION_COLUMNS[place]] = _OPERATION_TEXT.gather(codes[:, place]) if used else empty(count)
        columns[OPERATION_DATE_COLUMNS[place]] = days.iso(dates[:, place]) if used else empty(count)
    columns["OPERSTAT"] = only_where(words(("1", "8"), none), year < 2023)
    return pl.DataFrame(columns)


_FIRST_TABLE_YEAR: Final = 1990
_YEAR_STARTS: Final = np.array([days.year_start(y) for y in range(_FIRST_TABLE_YEAR, 2095)], dtype=np.int64)
