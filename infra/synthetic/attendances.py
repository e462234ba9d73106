"""Outpatient appointments and A&E attendances: fewer, simpler, of the same people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from infra.synthetic import days
from infra.synthetic import spells as kinds
from infra.synthetic.admitted import record_keys
from infra.synthetic.days import NO_DAY, Ints
from infra.synthetic.identities import Identities, provider_columns
from infra.synthetic.layout import empty, financial_year_text, whole, words
from infra.synthetic.people import People, choose
from infra.synthetic.spells import History
from infra.synthetic.world import ATTENDANCES_TO, Table, World

OUTPATIENT_SHARE: Final = 0.22
"""Appointments per admitted episode; far below the true ratio, to keep the extracts small."""
ATTENDANCE_SHARE: Final = 0.10
_OP_SPECIALTIES: Final = (
    "100",
    "101",
    "110",
    "120",
    "130",
    "300",
    "301",
    "320",
    "330",
    "340",
    "410",
    "420",
    "502",
    "&",
)


@dataclass(frozen=True)
class Contacts(Table):
    """``person``: row of the people; ``day``: of the appointment or arrival; ``episode``: row of the first
    episode of the admission that an attendance led to, else -1."""

    person: Ints
    hospital: Ints
    day: Ints
    episode: Ints

    @property
    def year(self) -> Ints:
        return days.FINANCIAL_YEAR[self.day]


def _living(people: People, person: Ints, day: Ints) -> Ints:
    """Rows at which the person is born and not dead."""
    died = people.died[person]
    return np.flatnonzero((people.born[person] < day) & ((died == NO_DAY) | (day < died)))


def make_appointments(rng: np.random.Generator, world: World, people: People, count: int) -> Contacts:
    """About ``count`` outpatient appointments at the people's home hospitals."""
    if people.count == 0:
        count = 0
    person = rng.integers(0, max(people.count, 1), count)
    day = days.CLINICAL[rng.integers(world.first_day, world.last_day, count)]
    weekday = days.WEEKDAY[day]
    day = np.where(weekday >= 5, days.CLINICAL[np.maximum(day - 2, world.first_day)], day)
    rows = _living(people, person, day)
    return Contacts(
        person=person[rows],
        hospital=people.home[person[rows]],
        day=day[rows],
        episode=np.full(len(rows), -1, dtype=np.int64),
    )


def make_arrivals(
    rng: np.random.Generator, world: World, history: History, count: int, admitted: Ints, first_episode: Ints
) -> Contacts:
    """About ``count`` A&E attendances to March 2020, of which four in ten led to an emergency admission.

    ``admitted``: rows of spells with a finished first episode in a delivered year, ``first_episode`` its row.
    """
    last = min(world.last_day, days.year_start(ATTENDANCES_TO + 1) - 1)
    people, spells = history.people, history.spells
    if last < world.first_day or people.count == 0:
        none = np.zeros(0, dtype=np.int64)
        return Contacts(none, none, none, none)
    start = spells.start[admitted]
    fits = (spells.kind[admitted] == kinds.EMERGENCY) & (start >= world.first_day) & (start <= last)
    chosen = np.flatnonzero(fits)
    chosen = chosen[rng.random(len(chosen)) < 0.25]
    from_admissions = Contacts(
        person=spells.person[admitted[chosen]],
        hospital=spells.hospital[admitted[chosen]],
        day=start[chosen],
        episode=first_episode[chosen],
    )
    share = (last - world.first_day + 1) / (world.last_day - world.first_day + 1)
    others = int(count * 0.6 * share)
    person = rng.integers(0, people.count, others)
    day = days.CLINICAL[rng.integers(world.first_day, last, others)]
    rows = _living(people, person, day)
    return from_admissions.followed_by(
        Contacts(
            person=person[rows],
            hospital=people.home[person[rows]],
            day=day[rows],
            episode=np.full(len(rows), -1, dtype=np.int64),
        )
    )


def _ages(people: People, contacts: Contacts) -> pl.Series:
    """Age as the decimal text in which these two datasets are often delivered."""
    years = days.whole_years(people.born[contacts.person], contacts.day)
    text = whole(np.where(people.born_known[contacts.person], np.maximum(years, 0), -1))
    return text + ".0"


def outpatient_columns(
    rng: np.random.Generator, world: World, contacts: Contacts, identities: Identities, first_record: int
) -> pl.DataFrame:
    """The columns of HES OP as text, one row per appointment; PARTYEAR is the file's matter."""
    count, year = contacts.count, contacts.year
    number = first_record + np.arange(count, dtype=np.int64)
    attended = choose(rng, count, (0.86, 0.02, 0.04, 0.05, 0.03))
    wait = 5 + rng.exponential(60, count).astype(np.int64)
    asked = days.CLINICAL[contacts.day - wait]
    odd = rng.random(count)
    waiting = np.where(odd < 0.05, -1, contacts.day - asked)
    asked = np.where(odd < 0.04, days.NULL_SUBMITTED, np.where(odd < 0.05, days.INVALID_SUBMITTED, asked))
    specialty = words(_OP_SPECIALTIES, rng.integers(0, len(_OP_SPECIALTIES), count))
    names = [financial_year_text(y) for y in world.years]
    missed = np.isin(attended, (2, 3))
    columns = {
        "FYEAR": words(names, year - world.first_year),
        "ATTENDKEY": record_keys(number, year),
        "APPTDATE": days.iso(contacts.day),
        "APPTAGE": _ages(identities.people, contacts),
        "ATTENDED": words(("5", "6", "2", "3", "4"), attended),
        "FIRSTATT": words(("1", "2"), choose(rng, count, (0.3, 0.7))),
        "ATENTYPE": words(("1", "2"), choose(rng, count, (0.3, 0.7))),
        "OUTCOME": words(("1", "2", "3"), choose(rng, count, (0.3, 0.55, 0.15))),
        "PRIORITY": words(("1", "2", "3"), choose(rng, count, (0.75, 0.2, 0.05))),
        "REFSOURC": words(("03", "01", "05", "99"), choose(rng, count, (0.6, 0.1, 0.28, 0.02))),
        "SERVTYPE": words(("1", "2", "9"), choose(rng, count, (0.6, 0.35, 0.05))),
        "STAFFTYP": words(("01", "02", "99"), choose(rng, count, (0.5, 0.4, 0.1))),
        "REQDATE": days.iso(asked),
        "DNADATE": days.iso(np.where(missed, contacts.day, NO_DAY)),
        "WAITING": whole(waiting),
        "ADMINCAT": words(("01", "02", "99"), choose(rng, count, (0.985, 0.013, 0.002))),
        "MAINSPEF": specialty,
        "TRETSPEF": specialty,
        "DIAG_01": words(("R69X", "R69X8", "I10X", "H269"), choose(rng, count, (0.93, 0.01, 0.03, 0.03))),
        "DIAG_02": empty(count),
        "DIAG_03": empty(count),
        "OPERTN_01": words(("-   ", "&\t ", "X629", "U212"), choose(rng, count, (0.75, 0.05, 0.15, 0.05))),
        "OPERTN_02": empty(count),
        "SUBDATE": days.iso(days.CLINICAL[contacts.day + 20 + number % 9]),
        **provider_columns(world, contacts.hospital, np.zeros(count, dtype=np.int64)),
        **identities.columns(rng, world, contacts.person, contacts.hospital, year),
    }
    return pl.DataFrame(columns)


def _clock(minutes: Ints) -> pl.Series:
    """HHMM of a minute of the day."""
    return words([f"{m // 60:02d}{m % 60:02d}" for m in range(1440)] + ["4000", "3000"], minutes)


def attendance_columns(
    rng: np.random.Generator,
    world: World,
    contacts: Contacts,
    identities: Identities,
    episode_keys: pl.Series,
    first_record: int,
) -> pl.DataFrame:
    """The columns of HES A&E as text. ``episode_keys``: EPIKEY by row of the episodes."""
    count, year = contacts.count, contacts.year
    number = first_record + np.arange(count, dtype=np.int64)
    arrival = rng.integers(0, 1440, count)
    seen = arrival + rng.integers(5, 60, count)
    leaving = seen + rng.integers(20, 400, count)
    odd = rng.random(count)
    concluded = np.where(odd < 0.02, 1440, np.where(odd < 0.022, 1441, (leaving - 10) % 1440))
    admitted = contacts.episode >= 0
    keys = episode_keys.gather(np.maximum(contacts.episode, 0)) if len(episode_keys) else empty(count)
    names = [financial_year_text(y) for y in world.years]
    columns = {
        "FYEAR": words(names, year - world.first_year),
        "AEKEY": record_keys(number, year),
        "EPIKEY": keys.zip_with(pl.Series(admitted), empty(count)),
        "ARRIVALDATE": days.iso(contacts.day),
        "ARRIVALTIME": _clock(arrival),
        "ARRIVALAGE": _ages(identities.people, contacts),
        "AEATTENDCAT": words(("1", "2", "3"), choose(rng, count, (0.93, 0.05, 0.02))),
        "AEATTENDDISP": words(
            ("01", "02", "03", "12"), np.where(admitted, 0, choose(rng, count, (0, 0.5, 0.45, 0.05)))
        ),
        "AEDEPTTYPE": words(("01", "02", "03", "99"), choose(rng, count, (0.7, 0.03, 0.25, 0.02))),
        "AEARRIVALMODE": words(("1", "2"), choose(rng, count, (0.3, 0.7))),
        "AEPATGROUP": words(("10", "80", "99"), choose(rng, count, (0.05, 0.93, 0.02))),
        "AEREFSOURCE": words(("00", "01", "03"), choose(rng, count, (0.1, 0.75, 0.15))),
        "INITTIME": _clock(seen % 1440),
        "TRETTIME": _clock(seen % 1440),
        "CONCLTIME": _clock(concluded),
        "DEPTIME": _clock(leaving % 1440),
        "DEPDUR": whole(leaving - arrival),
        "DIAG2_01": words(("20", "25", "26", "38"), rng.integers(0, 4, count)),
        "DIAG2_02": empty(count),
        "INVEST2_01": words(("01", "05", "24"), rng.integers(0, 3, count)),
        "TREAT2_01": words(("22", "30", "99"), rng.integers(0, 3, count)),
        "RANK_ORDER": words(("1",), np.zeros(count, dtype=np.int64)),
        "SUBDATE": days.iso(days.CLINICAL[contacts.day + 20 + number % 9]),
        **provider_columns(world, contacts.hospital, np.zeros(count, dtype=np.int64)),
        **identities.columns(rng, world, contacts.person, contacts.hospital, year),
    }
    return pl.DataFrame(columns)
