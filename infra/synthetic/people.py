"""The people of the synthetic world: age, sex, home, long-term conditions, and the numbers they are known by.

Every number is a canary (:mod:`infra.synthetic.canaries`). There are about 909,000 valid NHS numbers in the
test range; in a world with more people they repeat. Nothing in the extracts is linked by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from infra.synthetic import days
from infra.synthetic.canaries import (
    LOCAL_PATIENT_PREFIX,
    NEW_PERSON_PREFIX,
    NHS_NUMBER_PREFIX,
    OLD_PERSON_PREFIX,
    POSTCODE_AREA,
)
from infra.synthetic.days import Bools, Ints
from infra.synthetic.diagnoses import CONDITIONS, OTHER_CONDITIONS
from infra.synthetic.hospitals import AREAS_PER_HOSPITAL
from infra.synthetic.world import Table, World

Bytes = NDArray[np.uint8]

_PER_THOUSAND: Final = (
    "A 715, B 8, C 35, D 5, E 3, F 5, G 4, H 22, J 22, K 11, L 14, M 10, N 16, P 4, R 5, S 15, Z 70, 99 26,"
    " X 10"
)
ETHNIC_SHARES: Final = {part.split()[0]: float(part.split()[1]) for part in _PER_THOUSAND.split(", ")}
ETHNIC_CODES: Final = tuple(ETHNIC_SHARES)
PREVALENCE: Final = np.array([c.prevalence for c in (*CONDITIONS, *OTHER_CONDITIONS)]).T
CONDITION_AGES: Final = np.array([18, 45, 65, 80])
DIABETES: Final = next(i for i, c in enumerate(CONDITIONS) if c.code == "E119")
DIABETES_WITH_COMPLICATIONS: Final = next(i for i, c in enumerate(CONDITIONS) if c.code == "E112")
_BASE36: Final = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", dtype=np.uint8)
_INWARD: Final = np.frombuffer(b"ABDEFGHJLNPQRSTUWXYZ", dtype=np.uint8)
_HEX: Final = np.array([list(f"{byte:02X}".encode()) for byte in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class People(Table):
    """``number``: unique over the whole world. ``mother``: number of the mother's row for a baby, else -1.
    ``died``: day of death, ``NO_DAY`` while alive. ``conditions``: one column per long-term condition."""

    number: Ints
    household: Ints
    born: Ints
    born_known: Bools
    sex: Ints
    sex_known: Bools
    home: Ints
    area: Ints
    practice: Ints
    ethnic: Ints
    postcode: Ints
    conditions: Bools
    mother: Ints
    died: Ints


def fixed_width(letters: Bytes) -> pl.Series:
    """Strings of one width from a matrix of their bytes, without a Python loop."""
    count, width = letters.shape
    offsets = np.arange(count + 1, dtype=np.int64) * width
    array = pa.LargeStringArray.from_buffers(
        count, pa.py_buffer(offsets.tobytes()), pa.py_buffer(np.ascontiguousarray(letters).tobytes())
    )
    series = pl.from_arrow(array)
    assert isinstance(series, pl.Series)
    return series


def _with_prefix(prefix: str, letters: Bytes) -> Bytes:
    head = np.frombuffer(prefix.encode(), dtype=np.uint8)
    return np.concatenate([np.broadcast_to(head, (len(letters), len(head))), letters], axis=1)


def scrambled(values: Ints, salt: int) -> NDArray[np.uint64]:
    """A well mixed 64-bit number per value (the finaliser of SplitMix64); no secret, only variety."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _hexadecimal(values: NDArray[np.uint64]) -> Bytes:
    return _HEX[values[:, None].view(np.uint8)].reshape(len(values), 16)


def person_ids(numbers: Ints, prefix: str, seed: int) -> pl.Series:
    """32 characters per person; the two eras' ids of one person have nothing in common but the person."""
    salt = seed * 4 + (1 if prefix == OLD_PERSON_PREFIX else 3)
    letters = np.concatenate(
        [_hexadecimal(scrambled(numbers, salt)), _hexadecimal(scrambled(numbers, salt + 2**32))[:, :12]],
        axis=1,
    )
    return fixed_width(_with_prefix(prefix, letters))


def old_person_ids(numbers: Ints, seed: int) -> pl.Series:
    return person_ids(numbers, OLD_PERSON_PREFIX, seed)


def new_person_ids(numbers: Ints, seed: int) -> pl.Series:
    return person_ids(numbers, NEW_PERSON_PREFIX, seed)


@cache
def _valid_nhs_numbers() -> Bytes:
    """Every number of the test range whose check digit exists, as rows of ten ASCII digits."""
    serial = np.arange(1_000_000, dtype=np.int64)
    digits = np.empty((len(serial), 10), dtype=np.int64)
    digits[:, :3] = [int(d) for d in NHS_NUMBER_PREFIX]
    for place in range(6):
        digits[:, 3 + place] = serial // 10 ** (5 - place) % 10
    check = (11 - (digits[:, :9] * np.arange(10, 1, -1)).sum(axis=1) % 11) % 11
    digits[:, 9] = check
    all_equal = (digits == digits[:, :1]).all(axis=1)
    numbers: Bytes = (digits[(check < 10) & ~all_equal] + ord("0")).astype(np.uint8)
    return numbers


def nhs_numbers(numbers: Ints, seed: int) -> pl.Series:
    """Ten digits per person, neighbours far apart."""
    valid = _valid_nhs_numbers()
    # 611,953 is prime, so the step visits every valid number before any repeats
    rows = (numbers % len(valid) * 611_953 + seed * 7919) % len(valid)
    return fixed_width(valid[rows])


def postcodes(values: Ints) -> pl.Series:
    """Eight characters, the second half from the sixth, as HES holds HOMEADD."""
    letters = np.full((len(values), 8), ord(" "), dtype=np.uint8)
    letters[:, 0] = ord(POSTCODE_AREA[0])
    letters[:, 1] = ord(POSTCODE_AREA[1])
    district, rest = values % 100, values // 100
    letters[:, 2] = np.where(district >= 10, district // 10, district) + ord("0")
    letters[:, 3] = np.where(district >= 10, district % 10 + ord("0"), ord(" "))
    letters[:, 5] = rest % 10 + ord("0")
    letters[:, 6] = _INWARD[rest // 10 % 20]
    letters[:, 7] = _INWARD[rest // 200 % 20]
    return fixed_width(letters)


def local_patient_identifiers(person: Ints, hospital: Ints, hospitals: int, width: int) -> pl.Series:
    """A hospital's own number of a person: 10 characters, or 20; one person has another at each hospital."""
    pair = (person * hospitals + hospital) % 36**6
    mixed = pair * 1_000_003 % 36**6  # coprime to 36, so pairs stay apart
    letters = np.empty((len(pair), width - 4), dtype=np.uint8)
    for place in range(width - 4):
        # the long form repeats the digits of the short one under another factor
        value = mixed if place < 6 else pair * (7919 + 2 * (place // 6)) % 36**6
        letters[:, place] = _BASE36[value // 36 ** (place % 6) % 36]
    return fixed_width(_with_prefix(LOCAL_PATIENT_PREFIX, letters))


def choose(rng: np.random.Generator, count: int, shares: NDArray[np.float64] | tuple[float, ...]) -> Ints:
    """``count`` numbers of categories drawn with these shares."""
    cumulative = np.cumsum(np.asarray(shares, dtype=np.float64))
    return np.searchsorted(cumulative / cumulative[-1], rng.random(count), side="right").astype(np.int64)


def make_people(
    rng: np.random.Generator,
    world: World,
    *,
    first_number: int,
    household: Ints,
    age_days: Ints,
    seen_from: Ints,
) -> People:
    """People of the given ages on the day before they are first seen in hospital."""
    count = len(household)
    home = choose(rng, count, world.hospitals.share)
    born = days.RESERVED_ON_OR_BEFORE[seen_from - age_days - 1]
    step = np.searchsorted(CONDITION_AGES, age_days // 365, side="right")
    conditions = rng.random((count, PREVALENCE.shape[1]), dtype=np.float32) < PREVALENCE[step]
    conditions[:, DIABETES] &= ~conditions[:, DIABETES_WITH_COMPLICATIONS]
    return People(
        number=first_number + np.arange(count, dtype=np.int64),
        household=household,
        born=born,
        born_known=rng.random(count) > 0.001,
        sex=1 + (rng.random(count) < 0.53).astype(np.int64),
        sex_known=rng.random(count) > 0.0007,
        home=home,
        area=home * AREAS_PER_HOSPITAL + rng.integers(0, AREAS_PER_HOSPITAL, count),
        practice=home * 12 + rng.integers(0, 12, count),
        ethnic=choose(rng, count, tuple(ETHNIC_SHARES.values())),
        postcode=rng.integers(0, 100 * 10 * 20 * 20, count),
        conditions=conditions,
        mother=np.full(count, -1, dtype=np.int64),
        died=np.full(count, days.NO_DAY, dtype=np.int64),
    )
