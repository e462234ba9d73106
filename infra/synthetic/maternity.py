"""The maternity columns: the delivery on the mother's record, the birth on each baby's own.

A mother's tail has one part per baby, a baby's record only its own, in the first place. DOBBABY is on the
mother's record, MOTDOB on the baby's.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from infra.synthetic import days
from infra.synthetic import spells as kinds
from infra.synthetic.births import CAESAREAN, MODES, MOST_BABIES
from infra.synthetic.days import NO_DAY, Bools, Ints
from infra.synthetic.episodes import Episodes
from infra.synthetic.layout import MATERNITY_COLUMNS, TAILS, empty, only_where, whole, words
from infra.synthetic.spells import History


def maternity_columns(rng: np.random.Generator, history: History, episodes: Episodes) -> dict[str, pl.Series]:
    """EPITYPE, MOTDOB and the maternity tail of each episode, empty outside deliveries and births."""
    spells, people = history.spells, history.people
    deliveries, babies = history.deliveries, history.babies
    count = episodes.count
    kind = spells.kind[episodes.spell]
    is_delivery = (kind == kinds.DELIVERY) & episodes.first
    is_birth = (kind == kinds.BIRTH) & episodes.first
    maternal = is_delivery | is_birth
    columns: dict[str, pl.Series] = {
        "EPITYPE": words(("1", "2", "3"), np.where(is_delivery, 1, np.where(is_birth, 2, 0))),
        "MATERNITY_EPISODE_TYPE": words(("99", "1", "2"), np.where(is_delivery, 1, is_birth * 2)),
    }
    motdob = np.full(count, NO_DAY, dtype=np.int64)
    if deliveries.count == 0 or babies.count == 0:
        columns |= {name: empty(count) for name in MATERNITY_COLUMNS if name not in columns}
        columns["MOTDOB"] = days.iso(motdob)
        return columns

    # row of the delivery behind each record, and of the babies in its tail (-1 where there is none)
    spell = episodes.spell
    delivery = np.where(is_delivery, spells.delivery[spell], -1)
    own_baby = np.where(is_birth, spells.baby[spell], -1)
    delivery = np.where(is_birth, babies.delivery[own_baby], delivery)
    mother_row = np.where(is_delivery, spells.person[spell], people.mother[spells.person[spell]])
    mother_row = np.maximum(mother_row, 0)
    mother_born = np.where(people.born_known[mother_row], people.born[mother_row], days.NULL_SUBMITTED)
    motdob = np.where(is_birth, mother_born, NO_DAY)
    baby_of = np.full((deliveries.count, MOST_BABIES), -1, dtype=np.int64)
    baby_of[babies.delivery, babies.order - 1] = np.arange(babies.count)
    row = np.maximum(delivery, 0)
    day_of_delivery = np.full(deliveries.count, NO_DAY, dtype=np.int64)
    mothers = np.flatnonzero(spells.kind == kinds.DELIVERY)
    day_of_delivery[spells.delivery[mothers]] = spells.delivered[mothers]
    delivered = day_of_delivery[row]

    def number(values: Ints, where: Bools) -> pl.Series:
        return whole(np.where(where, values, -1))

    # what was not recorded, once per delivery so that mother and baby agree
    no_mode = rng.random(deliveries.count) < 0.01
    no_weeks = rng.random(deliveries.count) < 0.01
    mode = np.where(no_mode, len(MODES), deliveries.mode)[row]
    weeks = np.where(no_weeks, 99, deliveries.gestation)[row]
    caesarean = np.isin(deliveries.mode[row], CAESAREAN)
    assessed = delivered - (deliveries.gestation[row] - deliveries.assessed_weeks[row]) * 7
    mother_age = np.where(
        people.born_known[mother_row], days.whole_years(people.born[mother_row], np.maximum(delivered, 0)), -1
    )
    finished = episodes.finished
    columns |= {
        "MOTDOB": days.iso(motdob),
        "ANAGEST": number(deliveries.assessed_weeks[row], maternal),
        "ANASDATE": days.iso(np.where(maternal, days.CLINICAL[assessed], NO_DAY)),
        "ANTEDUR": number(delivered - episodes.start, is_delivery),
        "POSTDUR": number(episodes.end - delivered, is_delivery & finished),
        "DELCHANG": only_where(words(("8", "4"), caesarean), maternal),
        "DELINTEN": only_where(words(("2", "0", "3"), row % 3), maternal),
        "DELONSET": only_where(
            words(("1", "2", "3"), np.where(mode == 7, 1, np.where(row % 4 == 0, 2, 0))), maternal
        ),
        "DELPREAN": only_where(words(("8", "2", "3"), np.where(caesarean, 2, row % 2)), maternal),
        "DELPOSAN": only_where(words(("8", "2"), row % 5 == 0), maternal),
        "MATAGE": number(mother_age, maternal),
        "NUMBABY": number(deliveries.babies[row], maternal),
        "NUMPREG": only_where(
            words([f"{n:02d}" for n in range(20)], np.minimum(deliveries.previous[row], 19)), maternal
        ),
        "NUMTAILB": number(np.where(is_delivery, deliveries.babies[row], 1), maternal),
        "NEODUR": number(np.zeros(count, dtype=np.int64), is_birth),
        "NEOCARE": only_where(
            words([str(n) for n in range(10)], babies.care[np.maximum(own_baby, 0)]), is_birth
        ),
    }
    status_words = [None, "1", "2", "3", "4"]
    for place in TAILS:
        baby = np.where(is_delivery, baby_of[row, place - 1], own_baby if place == 1 else -1)
        there = baby >= 0
        b = np.maximum(baby, 0)
        weight = np.where(babies.weight_known[b], babies.weight[b], 9999)
        dead = babies.status[b] > 1
        columns |= {
            f"BIRORDR_{place}": number(babies.order[b], there),
            f"BIRSTAT_{place}": words(status_words, np.where(there, babies.status[b], 0)),
            f"BIRWEIT_{place}": number(weight, there),
            f"GESTAT_{place}": number(weeks, there),
            f"SEXBABY_{place}": number(babies.sex[b], there),
            f"DELMETH_{place}": only_where(words((*MODES, "X"), mode), there),
            f"DELPLAC_{place}": only_where(words(("2", "0", "3"), row % 3), there),
            f"DELSTAT_{place}": only_where(words(("1", "3"), np.isin(mode, (0, 1))), there),
            f"BIRESUS_{place}": only_where(
                words(("1", "3", "8"), np.where(dead, 2, babies.care[b] > 1)), there
            ),
            f"DOBBABY_{place}": days.iso(np.where(there & is_delivery, delivered - 1, NO_DAY)),
        }
    return columns
