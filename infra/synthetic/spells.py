"""Hospital spells: the event history of a block of people, from plan to outcome.

1. Each person gets planned days and kinds of admission; deliveries come with their antenatal admissions.
2. What follows from an admission is set behind it: a transfer, a readmission, an infection after a delivery.
3. One pass per rank lays the spells out in time, so that a person is never in two hospitals at once and, a
   transfer aside, never admitted again on the day of going home.
4. The risk model decides who dies, in hospital or after discharge; later spells of the dead are taken out.

Everything is drawn block by block from one generator, so a seed gives the same history.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.synthetic import births, days, risk
from infra.synthetic.births import Babies, Deliveries
from infra.synthetic.days import NO_DAY, Bools, Ints
from infra.synthetic.diagnoses import (
    CODE_INDEX,
    CODE_OF_DIAGNOSIS,
    CONDITIONS,
    DIAGNOSES,
    GROUPS,
    INDEX,
    OTHER_CONDITIONS,
    PNEUMONIA,
    STAY,
    DiagnosisSampler,
)
from infra.synthetic.people import People, choose, make_people
from infra.synthetic.world import Table, World, first_of_runs

# kinds of spell
EMERGENCY: Final = 0
ELECTIVE: Final = 1
DAY_CASE: Final = 2
REGULAR: Final = 3
DELIVERY: Final = 4
BIRTH: Final = 5
ANTENATAL: Final = 6
INFECTION_READMISSION: Final = 7
PUERPERAL_READMISSION: Final = 8
TRANSFER: Final = 9
SURGICAL_READMISSION: Final = 10

_GROUP_OF_KIND: Final = np.array(
    [GROUPS.index(g) for g in ("emergency", "elective", "day_case", "regular", "emergency", "emergency")]
    + [GROUPS.index(g) for g in ("antenatal", "puerperal", "puerperal", "emergency", "surgical")]
)
ELECTIVE_KINDS: Final = (ELECTIVE, DAY_CASE, REGULAR)
_KIND_SHARES: Final = np.array(
    # emergency, elective, day case, regular: under 18, 18-44, 45-64, 65-79, 80 and over
    [
        (0.62, 0.08, 0.30, 0.00),
        (0.42, 0.10, 0.47, 0.01),
        (0.33, 0.13, 0.50, 0.04),
        (0.40, 0.12, 0.44, 0.04),
        (0.62, 0.07, 0.29, 0.02),
    ]
)
MOTHERS: Final = 0.09
"""Share of households built around a delivery."""
IN_HOSPITAL_SHARE: Final = 0.73
"""Of deaths within 30 days; the published share of SHMI deaths in hospital is 73.3 %."""
_SAMPLER: Final = DiagnosisSampler()
PNEUMONIA_ROWS: Final = np.array([d.code in PNEUMONIA for d in DIAGNOSES])
CHARLSON_WEIGHTS: Final = np.array([c.weight for c in CONDITIONS])
CONDITION_CODES: Final = np.array([CODE_INDEX[c.code] for c in (*CONDITIONS, *OTHER_CONDITIONS)])
"""Number of the diagnosis code of each column of :attr:`People.conditions`."""
INFECTION_DIAGNOSIS: Final = {CODE_OF_DIAGNOSIS[INDEX[code]]: INDEX[code] for code in births.INFECTION_CODES}


@dataclass(frozen=True)
class Spells(Table):
    """Provider spells, those of one person together and in order.

    ``person``: row of the people. ``delivery``: row of the deliveries, of a delivery and of a readmission
    with its infection; ``baby``: row of the babies, for a birth; -1 else. ``delivered``: the day of the
    delivery procedure. ``infection``: number of a puerperal infection code recorded in this spell, 0 else.
    ``recorded``: long-term conditions that found their way into the record. ``chance``: true chance of death
    without the hospital's own effect. ``died``: in hospital. ``transfer_in`` and ``transfer_out``: the two
    halves of a transfer. ``patient_class``: CLASSPAT.
    """

    person: Ints
    kind: Ints
    hospital: Ints
    start: Ints
    end: Ints
    diagnosis: Ints
    delivery: Ints
    baby: Ints
    delivered: Ints
    infection: Ints
    patient_class: Ints
    recorded: Bools
    chance: NDArray[np.float64]
    died: Bools
    stillborn: Bools
    transfer_in: Bools
    transfer_out: Bools


@dataclass(frozen=True)
class _Plan(Table):
    """Spells that are not laid out yet. ``gap``: days after the end of the spell before, or -1."""

    person: Ints
    kind: Ints
    hospital: Ints
    planned: Ints
    gap: Ints
    delivery: Ints


@dataclass(frozen=True)
class History:
    """One block of the world: people, spells, and the maternity details the spells point to."""

    people: People
    spells: Spells
    deliveries: Deliveries
    babies: Babies


def make_history(
    rng: np.random.Generator, world: World, households: int, first_household: int, first_number: int
) -> History:
    """The history of a block of households. Same generator state and arguments, same history."""
    people, plan, deliveries = _plan_people(rng, world, households, first_household, first_number)
    plan = _with_followers(rng, world, plan, deliveries)
    spells = _lay_out(rng, people, plan, deliveries)
    people, spells = _outcomes(rng, world, people, spells, None)

    # babies are born of the deliveries that still happen
    happened = np.flatnonzero(spells.kind == DELIVERY)
    new_row = np.full(
        deliveries.count + 1, -1, dtype=np.int64
    )  # the last place serves the spells without one
    new_row[spells.delivery[happened]] = np.arange(len(happened))
    deliveries = deliveries.take(spells.delivery[happened])
    spells = replace(spells, delivery=new_row[spells.delivery])
    babies = births.make_babies(rng, deliveries)
    baby_people, baby_spells = _baby_spells(rng, world, people, spells.take(happened), babies, people.count)
    baby_people, baby_spells = _outcomes(rng, world, baby_people, baby_spells, babies)
    return History(
        people=people.followed_by(baby_people),
        spells=spells.followed_by(replace(baby_spells, person=baby_spells.person + people.count)),
        deliveries=deliveries,
        babies=babies,
    )


def _plan_people(
    rng: np.random.Generator, world: World, households: int, first_household: int, first_number: int
) -> tuple[People, _Plan, Deliveries]:
    first, last = world.first_day - 20, world.last_day + 5
    mother = rng.random(households) < MOTHERS
    age_group = choose(rng, households, (0.012, 0.035, 0.065, 0.165, 0.29, 0.26, 0.173))
    lowest = np.array([1, 366, 5 * 366, 18 * 366, 45 * 366, 65 * 366, 80 * 366])[age_group]
    highest = np.array([365, 4 * 365, 17 * 365, 44 * 365, 64 * 365, 79 * 365, 99 * 365])[age_group]
    age_days = lowest + (rng.random(households) * (highest - lowest)).astype(np.int64)
    # the oldest are mostly in their eighties
    age_days = np.where(
        age_group == 6, 80 * 366 + np.minimum(rng.exponential(5.5, households), 20) * 365, age_days
    )
    age_days = np.where(mother, np.clip(rng.normal(30.2, 5.6, households), 16, 44.5) * 365.25, age_days)
    age_days = age_days.astype(np.int64)
    step = np.searchsorted(np.array([18, 45, 65, 80]), age_days // 365, side="right")
    mean = 0.34 * world.year_count * np.array([0.55, 0.55, 0.85, 1.15, 1.25])[step]
    admissions = 1 + np.minimum(rng.poisson(rng.gamma(0.8, mean / 0.8)), 20 + 2 * world.year_count)

    # general admissions
    general = np.repeat(np.flatnonzero(~mother), admissions[~mother])
    planned = rng.integers(first, last, len(general))
    order = np.lexsort((planned, general))
    general, planned = general[order], planned[order]
    shares = np.cumsum(_KIND_SHARES, axis=1)[step[general]]
    kind = (rng.random(len(general))[:, None] > shares).sum(axis=1).astype(np.int64)
    kind = np.minimum(kind, REGULAR)

    # deliveries at least 300 days apart, some with an antenatal admission, some mothers in hospital otherwise
    mothers = np.flatnonzero(mother)
    day = rng.integers(first, last, len(mothers))
    delivering, delivery_day, parity = [mothers], [day], [choose(rng, len(mothers), (0.45, 0.34, 0.14, 0.07))]
    for _ in range(min(world.year_count, 5)):
        day = delivery_day[-1] + 300 + rng.exponential(420, len(delivering[-1])).astype(np.int64)
        again = (day < last) & (rng.random(len(day)) < 0.55)
        delivering.append(delivering[-1][again])
        delivery_day.append(day[again])
        parity.append(parity[-1][again] + 1)
    delivery_person, planned_delivery = np.concatenate(delivering), np.concatenate(delivery_day)
    antenatal = rng.random(len(delivery_person)) < 0.25
    antenatal_day = planned_delivery[antenatal] - rng.integers(10, 150, antenatal.sum())
    other = mothers[rng.random(len(mothers)) < 0.18]
    other_kind = choose(rng, len(other), (0.6, 0.1, 0.3))

    person = np.concatenate([general, delivery_person, delivery_person[antenatal], other]).astype(np.int64)
    planned = np.concatenate(
        [planned, planned_delivery, antenatal_day, rng.integers(first, last, len(other))]
    )
    kind = np.concatenate(
        [
            kind,
            np.full(len(delivery_person), DELIVERY),
            np.full(antenatal.sum(), ANTENATAL),
            other_kind,
        ]
    ).astype(np.int64)
    seen_from = np.full(households, last, dtype=np.int64)
    np.minimum.at(seen_from, person, planned)
    people = make_people(
        rng,
        world,
        first_number=first_number,
        household=first_household + np.arange(households, dtype=np.int64),
        age_days=age_days,
        seen_from=seen_from,
    )
    people = replace(people, sex=np.where(mother, 2, people.sex), sex_known=people.sex_known | mother)

    # planned work is done on weekdays, mostly
    weekday = days.WEEKDAY[planned]
    weekend = np.isin(kind, ELECTIVE_KINDS) & (weekday >= 5) & (rng.random(len(planned)) < 0.92)
    planned = planned + np.where(weekend, 7 - weekday, 0)

    loyal = rng.random(len(person)) < np.where(kind == DELIVERY, 0.97, 0.90)
    hospital = np.where(loyal, people.home[person], choose(rng, len(person), world.hospitals.share))
    delivery = np.full(len(person), -1, dtype=np.int64)
    is_delivery = kind == DELIVERY
    delivery[is_delivery] = np.arange(is_delivery.sum())
    deliveries = births.plan_deliveries(
        rng,
        int(is_delivery.sum()),
        world.hospitals.infection_factor[hospital[is_delivery]],
        np.concatenate(parity).astype(np.int64),
    )
    plan = _Plan(
        person=person,
        kind=kind,
        hospital=hospital,
        planned=planned,
        gap=np.full(len(person), -1, dtype=np.int64),
        delivery=delivery,
    )
    return people, plan.take(np.lexsort((planned, person))), deliveries


def _with_followers(rng: np.random.Generator, world: World, plan: _Plan, deliveries: Deliveries) -> _Plan:
    """The plan with at most one consequence set behind each admission."""
    count = plan.count
    draw = rng.random(count)
    infection = np.where(plan.delivery >= 0, deliveries.infection[plan.delivery], births.NO_INFECTION)
    home_again = rng.random(count) < 0.9  # readmissions mostly go to the same hospital
    kind = np.full(count, -1, dtype=np.int64)
    gap = np.zeros(count, dtype=np.int64)

    emergency = plan.kind == EMERGENCY
    transferred = emergency & (draw < 0.035)
    kind[transferred] = TRANSFER
    gap[transferred] = rng.random(transferred.sum()) < 0.15
    readmitted = emergency & (draw >= 0.035) & (draw < 0.13)
    kind[readmitted] = EMERGENCY
    gap[readmitted] = 1 + np.minimum(rng.exponential(10, readmitted.sum()).astype(np.int64), 29)
    surgical = (plan.kind == ELECTIVE) & (draw < 0.02)
    kind[surgical] = SURGICAL_READMISSION
    gap[surgical] = rng.integers(3, 24, surgical.sum())
    delivery = plan.kind == DELIVERY
    infected = delivery & (infection == births.AFTER_GOING_HOME)
    kind[infected] = INFECTION_READMISSION
    gap[infected] = 1 + np.minimum(rng.exponential(7, infected.sum()).astype(np.int64), 30)
    late = delivery & (infection == births.TOO_LATE_TO_COUNT)
    kind[late] = INFECTION_READMISSION
    gap[late] = rng.integers(44, 70, late.sum())
    other = delivery & (kind < 0) & (draw < 0.012)
    kind[other] = PUERPERAL_READMISSION
    gap[other] = rng.integers(1, 25, other.sum())

    base = np.flatnonzero(kind >= 0)
    elsewhere = (plan.hospital[base] + 1 + rng.integers(0, world.hospitals.count - 1, len(base))) % (
        world.hospitals.count
    )
    same = home_again[base] & (kind[base] != TRANSFER)
    followers = _Plan(
        person=plan.person[base],
        kind=kind[base],
        hospital=np.where(same, plan.hospital[base], elsewhere),
        planned=plan.planned[base],
        gap=gap[base],
        delivery=np.where(kind[base] == INFECTION_READMISSION, plan.delivery[base], -1),
    )
    place = np.concatenate([np.arange(count) * 2, base * 2 + 1])
    return plan.followed_by(followers).take(np.argsort(place, kind="stable"))


def _stays(rng: np.random.Generator, kind: Ints, diagnosis: Ints, old: Bools) -> Ints:
    """Length of stay in days; right-skewed, longer for the old."""
    count = len(kind)
    mean = STAY[diagnosis] * np.where(old, 1.3, 1.0)
    short = rng.random(count) < np.clip(0.50 - 0.045 * mean, 0.02, 0.6)
    drawn = rng.lognormal(np.log(np.maximum(mean, 0.5) * 0.72), 0.8, count)
    unplanned = np.where(short, 0, 1 + np.minimum(drawn, 160).astype(np.int64))
    elective = 1 + np.minimum(
        rng.lognormal(np.log(np.maximum(mean, 0.5) * 0.5 + 0.2), 0.6, count), 90
    ).astype(np.int64)
    stay = np.where(kind == ELECTIVE, elective, unplanned)
    stay = np.where(kind == TRANSFER, np.maximum(stay, 1), stay)
    stay = np.where(np.isin(kind, (DAY_CASE, REGULAR)), 0, stay)
    return np.where(kind == ANTENATAL, np.minimum(stay, 3), stay)


def _lay_out(rng: np.random.Generator, people: People, plan: _Plan, deliveries: Deliveries) -> Spells:
    """Days and diagnoses for a plan whose rows stand person by person in order."""
    person, kind = plan.person, plan.kind
    count = plan.count
    years = np.maximum(
        days.whole_years(people.born[person], np.maximum(plan.planned, people.born[person])), 0
    )
    winter = np.isin(days.MONTH[plan.planned], (11, 12, 1, 2, 3))
    diagnosis = _SAMPLER.draw(_GROUP_OF_KIND[kind], years, people.sex[person], winter, rng.random(count))
    is_delivery = kind == DELIVERY
    delivery_row = np.maximum(plan.delivery, 0)
    if deliveries.count:
        infection_code = deliveries.infection_code[delivery_row]
        of_mode = np.array([INDEX["O800"]] * len(births.MODES))
        diagnosis = np.where(is_delivery, of_mode[deliveries.mode[delivery_row]], diagnosis)
        infection_rows = np.array(
            [INFECTION_DIAGNOSIS.get(c, 0) for c in range(int(infection_code.max()) + 1)]
        )
        diagnosis = np.where(kind == INFECTION_READMISSION, infection_rows[infection_code], diagnosis)
    transfer = np.flatnonzero(kind == TRANSFER)
    diagnosis[transfer] = diagnosis[transfer - 1]
    stay = _stays(rng, kind, diagnosis, years >= 80)
    leaves_for_another = np.zeros(count, dtype=np.bool_)
    leaves_for_another[transfer - 1] = True
    stay = np.where(leaves_for_another, np.minimum(stay, rng.integers(0, 4, count)), stay)

    starts = first_of_runs(person)
    rank = np.arange(count) - np.repeat(starts, np.diff(np.append(starts, count)))
    start = np.zeros(count, dtype=np.int64)
    end = np.zeros(count, dtype=np.int64)
    delivered = np.full(count, NO_DAY, dtype=np.int64)
    previous_end = np.zeros(people.count, dtype=np.int64)
    by_rank = np.argsort(rank, kind="stable")
    bounds = np.searchsorted(rank[by_rank], np.arange(rank.max(initial=-1) + 2))
    for low, high in pairwise(bounds.tolist()):
        rows = by_rank[low:high]
        before = previous_end[person[rows]]
        wished = np.where(plan.gap[rows] >= 0, before + plan.gap[rows], plan.planned[rows])
        begin = days.CLINICAL[np.where(kind[rows] == TRANSFER, wished, np.maximum(wished, before + 1))]
        over = days.CLINICAL[begin + stay[rows]]
        mothers = np.flatnonzero(is_delivery[rows])
        if len(mothers):
            # the birth is on a reserved day, its procedure the day after, the admission before it
            d = delivery_row[rows[mothers]]
            birth = days.RESERVED_ON_OR_AFTER[begin[mothers]]
            begin[mothers] = np.maximum(begin[mothers], days.CLINICAL[birth - 1 - deliveries.stay_before[d]])
            delivered[rows[mothers]] = birth + 1
            over[mothers] = days.CLINICAL[birth + 1 + deliveries.stay_after[d]]
        start[rows], end[rows] = begin, over
        previous_end[person[rows]] = over

    infection = np.zeros(count, dtype=np.int64)
    if deliveries.count:
        with_infection = (kind == INFECTION_READMISSION) | (
            is_delivery & (deliveries.infection[delivery_row] == births.IN_THE_DELIVERY_SPELL)
        )
        infection = np.where(with_infection, infection_code, 0)
    patient_class = np.where(kind == DAY_CASE, 2, np.where(kind == REGULAR, 3, 1))
    only_delivery = is_delivery & (end - start <= 3) & (rng.random(count) < 0.25)
    return Spells(
        person=person,
        kind=kind,
        hospital=plan.hospital,
        start=start,
        end=end,
        diagnosis=diagnosis,
        delivery=plan.delivery,
        baby=np.full(count, -1, dtype=np.int64),
        delivered=delivered,
        infection=infection,
        patient_class=np.where(only_delivery, 5, patient_class),
        recorded=np.zeros((count, people.conditions.shape[1]), dtype=np.bool_),
        chance=np.zeros(count),
        died=np.zeros(count, dtype=np.bool_),
        stillborn=np.zeros(count, dtype=np.bool_),
        transfer_in=kind == TRANSFER,
        transfer_out=leaves_for_another,
    )


def start_ages(people: People, person: Ints, at: Ints) -> Ints:
    """STARTAGE as HES codes it: completed years, 7001-7007 under one year; -1 if the birth is not known."""
    born = people.born[person]
    years = days.whole_years(born, at)
    age_days = at - born
    code = 7001 + np.searchsorted(np.array([1, 7, 29, 91, 182, 273]), age_days, side="right")
    return np.where(people.born_known[person], np.where(years < 1, code, years), -1)


def _outcomes(
    rng: np.random.Generator, world: World, people: People, spells: Spells, babies: Babies | None
) -> tuple[People, Spells]:
    """Who dies, when and where; spells after a death are taken out, discharges of the dead moved by days."""
    person, count = spells.person, spells.count
    if count == 0:
        return people, spells
    share_recorded = np.where(np.isin(spells.kind, (DAY_CASE, REGULAR)), 0.75, 0.94)
    recorded = people.conditions[person] & (
        rng.random((count, people.conditions.shape[1]), dtype=np.float32) < share_recorded[:, None]
    )
    recorded &= (
        CODE_OF_DIAGNOSIS[spells.diagnosis][:, None] != CONDITION_CODES
    )  # not also the primary diagnosis
    score = recorded[:, : len(CONDITIONS)] @ CHARLSON_WEIGHTS
    band = risk.age_band(start_ages(people, person, spells.start))
    class_terms = np.zeros(10)
    for code, term in risk.PATIENT_CLASS.items():
        class_terms[int(code)] = term
    odds = risk.log_odds(
        band=band,
        sex=np.where(people.sex_known, people.sex, 0)[person],
        elective=np.isin(spells.kind, ELECTIVE_KINDS),
        score=score,
        diagnosis=spells.diagnosis,
        month=days.MONTH[spells.start],
        class_term=class_terms[spells.patient_class],
    )
    own = world.hospitals.effect[spells.hospital] + np.where(
        PNEUMONIA_ROWS[spells.diagnosis], world.hospitals.pneumonia_effect[spells.hospital], 0.0
    )
    stillborn = spells.stillborn
    is_birth = spells.kind == BIRTH
    if babies is not None:
        odds = np.where(is_birth, risk.birth_log_odds(babies.weight[np.maximum(spells.baby, 0)]), odds)
        own = np.where(is_birth, 0.0, own)
    can_die = ~spells.transfer_out & ~stillborn
    chance = np.where(can_die, risk.chance(odds), 0.0)
    died = can_die & (rng.random(count) < risk.chance(odds + own))

    # only the first death counts, and nothing comes after it
    death_rows = np.flatnonzero(died)
    fatal = death_rows[first_of_runs(person[death_rows])]
    last_row = np.full(people.count, count, dtype=np.int64)
    last_row[person[fatal]] = fatal
    kept = np.arange(count) <= last_row[person]
    stillbirth_rows = np.flatnonzero(stillborn)
    last_row[person[stillbirth_rows]] = stillbirth_rows
    kept &= np.arange(count) <= last_row[person]

    in_hospital = np.zeros(count, dtype=np.bool_)
    in_hospital[fatal] = (rng.random(len(fatal)) < IN_HOSPITAL_SHARE) | is_birth[fatal]
    in_hospital &= ~np.isin(spells.patient_class, (2, 3))
    end, death_day = _days_of_death(rng, spells, fatal, in_hospital)

    people_died = people.died.copy()
    people_died[person[fatal]] = death_day
    spells = replace(spells, recorded=recorded, chance=chance, died=in_hospital, end=end)
    spells = spells.take(np.flatnonzero(kept))

    # deaths beyond the 30 days, which link to a spell and count for nothing
    last_rows = np.append(first_of_runs(spells.person)[1:], spells.count) - 1
    alive = (people_died[spells.person[last_rows]] == NO_DAY) & ~spells.stillborn[last_rows]
    later = alive & (rng.random(len(last_rows)) < np.minimum(1.5 * spells.chance[last_rows], 0.35))
    wait = 31 + rng.exponential(220, later.sum()).astype(np.int64)
    people_died[spells.person[last_rows[later]]] = days.RESERVED_ON_OR_AFTER[
        np.minimum(spells.end[last_rows[later]] + wait, days.COUNT - 40)
    ]
    return replace(people, died=people_died), spells


def _days_of_death(
    rng: np.random.Generator, spells: Spells, fatal: Ints, in_hospital: Bools
) -> tuple[Ints, Ints]:
    """New discharge days of all spells, and the day of death for each row of ``fatal``.

    A death in hospital lies on the reserved day after the discharge, or on the one before it if the admission
    was earlier still; the discharge moves next to it.
    """
    start, end = spells.start[fatal], spells.end[fatal]
    after = days.RESERVED_ON_OR_AFTER[end]
    before = days.RESERVED_ON_OR_BEFORE[end]
    earlier = (rng.random(len(fatal)) < 0.4) & (before > np.maximum(start, spells.delivered[fatal]))
    died_in = np.where(earlier, before, after)
    discharged = np.where(earlier, before + 1, after - 1)
    # after discharge: within 30 days, most of them early
    wished = end + 1 + np.minimum(rng.exponential(11, len(fatal)), 29).astype(np.int64)
    outside = days.RESERVED_ON_OR_AFTER[wished]
    outside = np.where(outside - end > 30, days.RESERVED_ON_OR_BEFORE[end + 30], outside)
    inside = in_hospital[fatal]
    new_end = spells.end.copy()
    new_end[fatal] = np.where(inside, discharged, end)
    return new_end, np.where(inside, died_in, outside)


def _baby_spells(
    rng: np.random.Generator, world: World, people: People, mothers: Spells, babies: Babies, first_row: int
) -> tuple[People, Spells]:
    """The babies as people, their birth spells and, for some, an early readmission."""
    of = mothers.take(babies.delivery)  # the mother's spell, one row per baby
    count = babies.count
    mother = of.person
    baby_people = people.take(mother)
    baby_people = replace(
        baby_people,
        number=people.number[0] + first_row + np.arange(count, dtype=np.int64)
        if count
        else baby_people.number,
        born=of.delivered - 1,
        born_known=np.ones(count, dtype=np.bool_),
        sex=babies.sex,
        sex_known=np.ones(count, dtype=np.bool_),
        conditions=np.zeros_like(baby_people.conditions),
        mother=mother,
        died=np.full(count, NO_DAY, dtype=np.int64),
    )
    still = babies.status > 1
    longer = np.where(babies.weight < 2300, ((2500 - babies.weight) / 40).astype(np.int64), 0)
    longer = np.maximum(longer, np.where(babies.infected, 4, 0))
    going_home = np.maximum(of.end, days.CLINICAL[of.delivered + longer])
    nothing = np.full(count, -1, dtype=np.int64)
    no = np.zeros(count, dtype=np.bool_)
    birth = Spells(
        person=np.arange(count, dtype=np.int64),
        kind=np.full(count, BIRTH, dtype=np.int64),
        hospital=of.hospital,
        start=of.delivered,
        end=np.where(still, of.delivered, going_home),
        diagnosis=np.full(count, INDEX["Z380"], dtype=np.int64),
        delivery=nothing,
        baby=np.arange(count, dtype=np.int64),
        delivered=np.full(count, NO_DAY, dtype=np.int64),
        infection=np.zeros(count, dtype=np.int64),
        patient_class=np.where(still | (longer > 0), 1, of.patient_class),
        recorded=baby_people.conditions,
        chance=np.zeros(count),
        died=no,
        stillborn=still,
        transfer_in=no,
        transfer_out=no,
    )
    back = np.flatnonzero(~still & (rng.random(count) < 0.05))
    start = days.CLINICAL[birth.end[back] + rng.integers(1, 26, len(back))]
    again = birth.take(back)
    again = replace(
        again,
        kind=np.full(len(back), EMERGENCY, dtype=np.int64),
        start=start,
        end=days.CLINICAL[start + rng.integers(0, 4, len(back))],
        diagnosis=np.array([INDEX["P599"], INDEX["P369"], INDEX["J219"]])[
            choose(rng, len(back), (0.6, 0.15, 0.25))
        ],
        baby=np.full(len(back), -1, dtype=np.int64),
        patient_class=np.ones(len(back), dtype=np.int64),
    )
    both = birth.followed_by(again)
    return baby_people, both.take(np.lexsort((both.start, both.person)))


def first_households(history: History, last_household: int) -> tuple[History, Ints]:
    """The history of the households up to and including this one, as if the others had never been made.

    Also the new row of each spell, -1 for those that are gone.
    """
    people, spells = history.people, history.spells
    kept_people = people.household <= last_household
    new_person = _renumbered(kept_people)
    kept_spells = kept_people[spells.person]
    new_spell = _renumbered(kept_spells)
    spells = spells.take(kept_spells)
    kept_deliveries = np.zeros(history.deliveries.count, dtype=np.bool_)
    kept_deliveries[spells.delivery[spells.kind == DELIVERY]] = True
    new_delivery = _renumbered(kept_deliveries)
    kept_babies = kept_deliveries[history.babies.delivery]
    new_baby = _renumbered(kept_babies)
    people = people.take(kept_people)
    babies = history.babies.take(kept_babies)
    shorter = History(
        people=replace(people, mother=new_person[people.mother]),
        spells=replace(
            spells,
            person=new_person[spells.person],
            delivery=new_delivery[spells.delivery],
            baby=new_baby[spells.baby],
        ),
        deliveries=history.deliveries.take(kept_deliveries),
        babies=replace(babies, delivery=new_delivery[babies.delivery]),
    )
    return shorter, new_spell


def _renumbered(kept: Bools) -> Ints:
    """New row of each kept row; the extra last place answers for -1, none, with -1."""
    return np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)
