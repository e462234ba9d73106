"""Deaths as registered, and the bridges between the person ids of the two eras.

A person with any record of the new era is in the civil registrations under TOKEN_PERSON_ID; a person with
records of the old era only is in the older linked file under RECORD_ID, with a bridge to ENCRYPTED_HESID. A
death registered after the snapshot is in neither. A few dates of death are delivered as ``YYYYMM`` although
documented as ``YYYYMMDD``: only of deaths in hospital or long after the last discharge, so that no count of
deaths within 30 days hangs on them. A few persons are registered twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from infra.synthetic import days
from infra.synthetic.days import NO_DAY, Bools, Ints
from infra.synthetic.diagnoses import CODE_OF_DIAGNOSIS, CODES
from infra.synthetic.identities import Identities
from infra.synthetic.layout import (
    CIVIL_DEATHS,
    NEW_PERSON_ID,
    OLD_PERSON_ID,
    ONS_DEATHS,
    empty,
    words,
)
from infra.synthetic.people import People, choose
from infra.synthetic.spells import Spells
from infra.synthetic.world import World, first_of_runs


@dataclass(frozen=True)
class Registrations:
    """``day``: of registration per person, ``NO_DAY`` if not registered by the snapshot."""

    day: Ints

    @property
    def known(self) -> Bools:
        known: Bools = self.day != NO_DAY
        return known


def register(rng: np.random.Generator, world: World, people: People) -> Registrations:
    """Registration follows within days, for a few (an inquest) within months."""
    delay = 1 + np.minimum(rng.exponential(4, people.count), 20).astype(np.int64)
    delay = np.where(rng.random(people.count) < 0.02, delay + rng.integers(20, 150, people.count), delay)
    died = people.died != NO_DAY
    day = days.CLINICAL[np.minimum(np.where(died, people.died + delay, 0), days.COUNT - 2)]
    return Registrations(np.where(died & (day <= world.snapshot_day), day, NO_DAY))


def death_frames(
    rng: np.random.Generator,
    world: World,
    spells: Spells,
    identities: Identities,
    registrations: Registrations,
    seen_old: Bools,
    seen_new: Bools,
) -> dict[str, pl.DataFrame]:
    """This block's rows of ``ons_deaths``, ``ons_deaths_bridge``, ``civil_deaths`` and ``hes_person_bridge``.

    ``seen_old`` and ``seen_new``: whether a person has a record in files of either era.
    """
    people = identities.people
    last_row = np.full(people.count, -1, dtype=np.int64)
    ends = (
        np.append(first_of_runs(spells.person)[1:], spells.count) - 1
        if spells.count
        else np.zeros(0, np.int64)
    )
    last_row[spells.person[ends]] = ends
    has_spell = last_row >= 0
    last = np.maximum(last_row, 0)
    cause = np.where(has_spell, CODE_OF_DIAGNOSIS[spells.diagnosis[last]], 0) if spells.count else last * 0
    in_hospital = has_spell & spells.died[last] if spells.count else has_spell
    long_after = has_spell & (people.died - spells.end[last] > 120) if spells.count else has_spell
    cause_text = pl.Series(["R99X", *CODES[1:]]).gather(cause)

    old_only = np.flatnonzero(registrations.known & seen_old & ~seen_new)
    record = pl.Series(800_000_000 + people.number[old_only]).cast(pl.String)
    after_discharge = people.died[old_only] >= (spells.end[last[old_only]] if spells.count else 0)
    ons = {name: empty(len(old_only)) for name in ONS_DEATHS} | {
        "RECORD_ID": record,
        "DOD": days.iso(people.died[old_only]),
        "DOR": days.iso(registrations.day[old_only]),
        "SEX": words(("1", "2"), people.sex[old_only] - 1),
        "CAUSE_OF_DEATH": cause_text.gather(old_only),
        "CAUSE_OF_DEATH_NON_NEONATAL_1": cause_text.gather(old_only),
        "DEATH_RECORD_USED": words(("ONS1", "MIX1"), in_hospital[old_only] & after_discharge),
        "MATCH_RANK": words(("1", "8"), choose(rng, len(old_only), (0.97, 0.03))),
        "NHS_INDICATOR": words(("0", "1"), in_hospital[old_only]),
    }

    civil_rows = np.flatnonzero(registrations.known & seen_new)
    twice = civil_rows[rng.random(len(civil_rows)) < 0.004]
    later = days.CLINICAL[
        np.minimum(registrations.day[twice] + rng.integers(1, 30, len(twice)), days.COUNT - 2)
    ]
    within = later <= world.snapshot_day
    registered = np.concatenate([registrations.day[civil_rows], later[within]])
    civil_rows = np.concatenate([civil_rows, twice[within]])
    drifted = (in_hospital | long_after)[civil_rows] & (people.number[civil_rows] % 97 == 3)
    died = people.died[civil_rows]
    civil = {name: empty(len(civil_rows)) for name in CIVIL_DEATHS} | {
        NEW_PERSON_ID: identities.new_ids.gather(civil_rows),
        "REG_DATE": days.compact(registered),
        "REG_DATE_OF_DEATH": days.year_month(died).zip_with(pl.Series(drifted), days.compact(died)),
        "S_UNDERLYING_COD_ICD10": cause_text.gather(civil_rows),
        "S_COD_CODE_1": cause_text.gather(civil_rows),
    }
    both = np.flatnonzero(seen_old & seen_new)
    return {
        "ons_deaths": pl.DataFrame(ons),
        "ons_deaths_bridge": pl.DataFrame(
            {"RECORD_ID": record, OLD_PERSON_ID: identities.old_ids.gather(old_only)}
        ),
        "civil_deaths": pl.DataFrame(civil),
        "hes_person_bridge": pl.DataFrame(
            {OLD_PERSON_ID: identities.old_ids.gather(both), NEW_PERSON_ID: identities.new_ids.gather(both)}
        ),
    }
