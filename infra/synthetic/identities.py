"""The identifying columns of a row: who the person is at this hospital in this year.

Shared by admitted patients, outpatients and A&E, so that a person looks the same in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from infra.synthetic import days
from infra.synthetic.days import Ints
from infra.synthetic.hospitals import DECILES
from infra.synthetic.layout import PERSON_ID, either, only_where, words
from infra.synthetic.people import (
    ETHNIC_CODES,
    People,
    choose,
    local_patient_identifiers,
    new_person_ids,
    nhs_numbers,
    old_person_ids,
    postcodes,
)
from infra.synthetic.world import LONG_LOCAL_NUMBERS_FROM, NEW_ERA_FROM, World

UNKNOWN_PRACTICES: Final = ("V81999", "V81997", "V81998", "&")


@dataclass(frozen=True)
class Identities:
    """The text of each person of a block, made once and gathered for every row."""

    people: People
    old_ids: pl.Series
    new_ids: pl.Series
    nhs: pl.Series
    postcode: pl.Series

    @classmethod
    def of(cls, people: People, seed: int) -> Identities:
        return cls(
            people=people,
            old_ids=old_person_ids(people.number, seed),
            new_ids=new_person_ids(people.number, seed),
            nhs=nhs_numbers(people.number, seed),
            postcode=postcodes(people.postcode),
        )

    def columns(
        self, rng: np.random.Generator, world: World, person: Ints, hospital: Ints, year: Ints
    ) -> dict[str, pl.Series]:
        """The columns for rows of these persons at these hospitals in files of these financial years."""
        people, count = self.people, len(person)
        has_number = rng.random(count) > 0.01
        born_known = people.born_known[person]
        born = np.where(born_known, people.born[person], days.NULL_SUBMITTED)
        born = np.where(~born_known & (people.number[person] % 4 == 0), days.INVALID_SUBMITTED, born)
        hospitals = world.hospitals.count
        numbers = people.number[person]
        short = local_patient_identifiers(numbers, hospital, hospitals, 10)
        long = local_patient_identifiers(numbers, hospital, hospitals, 20)
        area_known = rng.random(count) > 0.004
        unknown_area = len(world.hospitals.area_codes()) - 1
        area = people.area[person]
        practices = [f"Z{80000 + n:05d}" for n in range(hospitals * 12)] + list(UNKNOWN_PRACTICES)
        practice = np.where(
            rng.random(count) < 0.014,
            hospitals * 12 + choose(rng, count, (0.45, 0.35, 0.12, 0.08)),
            people.practice[person],
        )
        sex = np.where(people.sex_known[person], people.sex[person], np.where(year < 2022, 0, 9))
        return {
            PERSON_ID: either(year >= NEW_ERA_FROM, self.new_ids.gather(person), self.old_ids.gather(person)),
            "NEWNHSNO": only_where(self.nhs.gather(person), has_number),
            "NEWNHSNO_CHECK": words((None, "Y"), has_number),
            "NHSNOIND": words(("04", "01"), has_number),
            "LOPATID": either(year >= LONG_LOCAL_NUMBERS_FROM, long, short),
            "DOB": days.iso(born),
            "MYDOB": days.month_year(born),
            "HOMEADD": self.postcode.gather(person),
            "SEX": words([str(code) for code in range(10)], sex),
            "ETHNOS": words(ETHNIC_CODES, people.ethnic[person]),
            "LSOA11": world.hospitals.area_codes().gather(np.where(area_known, area, unknown_area)),
            "IMD04_DECILE": only_where(words(DECILES, world.hospitals.area_decile[area]), area_known),
            "GPPRAC": words(practices, practice),
        }


def provider_columns(world: World, hospital: Ints, site: Ints) -> dict[str, pl.Series]:
    """The provider in its four spellings; ``site`` counts from 0."""
    codes = world.hospitals.codes
    sites = [f"{code}{number:02d}" for code in codes for number in range(1, 4)]
    code = words(codes, hospital)
    return {
        "PROCODE3": code,
        "PROCODE5": words([f"{code}00" for code in codes], hospital),
        "PROCODET": code,
        "SITETRET": words(sites, hospital * 3 + site),
    }
