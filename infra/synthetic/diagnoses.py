"""The diagnoses of the synthetic world: how often, at which age, in which season, how lethal.

Frequencies and lethalities are round figures of our own choosing, of the order seen in English hospital
statistics; they belong to no publication. Codes are ICD-10 as HES writes them (four characters, ``X`` for a
missing fourth). One line per primary diagnosis; ``DIAGNOSES`` keeps their order, and an index into it is what
the rest of the package carries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.synthetic.days import Ints

PROFILES: Final = {
    # relative frequency by age: under 1, 1-4, 5-17, 18-44, 45-64, 65-79, 80 and over
    "infant": (1.0, 0.5, 0.05, 0.0, 0.0, 0.0, 0.0),
    "child": (0.6, 1.0, 0.8, 0.12, 0.05, 0.03, 0.03),
    "young": (0.02, 0.1, 0.6, 1.0, 0.5, 0.2, 0.12),
    "adult": (0.0, 0.0, 0.08, 0.8, 1.0, 0.8, 0.5),
    "middle": (0.0, 0.0, 0.0, 0.3, 1.0, 0.9, 0.4),
    "old": (0.04, 0.02, 0.02, 0.08, 0.3, 1.0, 1.6),
    "any": (0.5, 0.5, 0.5, 0.8, 0.9, 1.0, 1.1),
}
AGE_STEPS: Final = (1, 5, 18, 45, 65, 80)
GROUPS: Final = ("emergency", "elective", "day_case", "regular", "antenatal", "puerperal", "surgical")


@dataclass(frozen=True)
class Diagnosis:
    """One primary diagnosis.

    ``risk``: chance of death within 30 days of discharge for a man of 75-79, not elective, comorbidity 1-5,
    at an average hospital, before the model's intercept and the month's effect. ``weights``: relative
    frequency per group of admission. ``sex``: 0 both, 1 men, 2 women. ``stay``: mean days.
    """

    code: str
    risk: float
    weights: dict[str, float]
    profile: str
    stay: float
    specialty: str
    procedures: tuple[str, ...]
    sex: int = 0
    winter: bool = False


# code, risk, weights (E emergency, L elective, D day case, R regular), profile, stay, specialty, procedures,
# marks
_TABLE: Final = """
J189 .20   E60            old    8 300 -              winter
J181 .20   E16            old    8 300 -              winter
J180 .24   E8             old    8 300 -              winter
J159 .20   E5             old    8 300 -              winter
J13X .14   E2             adult  7 300 -              winter
J22X .08   E20            old    5 300 -              winter
J440 .075  E22            old    6 340 -              winter
J441 .06   E14            old    5 340 -              winter
J690 .38   E5             old    9 300 -
J459 .008  E10            child  2 340 -
J219 .002  E16            infant 2 420 -              winter
J069 .003  E14            child  1 420 -              winter
J101 .05   E5             any    4 300 -              winter
J90X .16   E4 L1 D2       old    6 340 T124
J841 .25   E3 D1          old    7 340 -
A419 .27   E22            old    9 300 -
A415 .22   E6             old    8 300 -
A410 .25   E2             old   12 300 -
A047 .17   E1.6           old   10 300 -
A099 .02   E10            any    2 300 -
A46X .01   E2             old    4 300 -
B349 .004  E10            child  1 420 -
I214 .09   E12            old    5 320 K634,K751
I219 .13   E8             old    5 320 K634,K751
I200 .02   E8             old    3 320 K634
I251 .03   E4 L6 D10      middle 3 320 K751,K634
I500 .16   E22 L1         old    9 320 -
I48X .025  E14 L1 D3      old    3 320 X501
I350 .07   E2 L3          old    8 320 K261
I442 .03   E3 L2 D1       old    4 320 K601
I639 .15   E14            old   10 300 U543
I64X .20   E3             old    9 300 U543
I619 .33   E4             old    9 300 -
I609 .22   E2             adult 12 150 -
G459 .012  E5             old    2 300 -
I269 .07   E6             adult  4 300 U212
I802 .02   E4 D1          adult  2 300 -
I702 .10   E2 L2          old    8 107 L631
I714 .22   E1 L1          old    9 107 L191           men
I839 .003  L1 D4          middle 1 107 L851
I10X .01   E2             middle 1 300 -
R074 .004  E24            adult  1 300 -
R073 .004  E10            adult  1 300 -
R55X .015  E12            old    2 300 -
R104 .01   E12            young  1 100 -
R060 .06   E5             old    3 300 -
R296 .06   E10            old    5 430 -
R410 .09   E5             old    7 430 -
R509 .02   E5             child  2 420 -
R51X .004  E7             young  1 300 -
R11X .02   E5             any    2 100 -
R33X .03   E4 D1          old    2 101 M479           men
R568 .02   E7             child  2 420 -
R194 .004  D6             middle 0 301 H251
N390 .055  E30            old    5 300 -
N179 .17   E12            old    8 300 -
N10X .008  E5             young  3 300 -
N201 .003  E8 L3 D3       adult  1 101 M309
N185 .08   E1 L1 D2 R30   old    4 361 X403
N40X .01   L5 D1          old    2 101 M653           men
N813 .006  L5 D1          middle 2 502 P232           women
N920 .001  L2 D6          adult  1 502 Q181           women
N47X .001  D3             child  0 101 N303           men
K922 .06   E7             old    3 301 G451
K920 .07   E5             old    3 301 G451
K921 .04   E4             old    3 301 G451
K859 .05   E4             adult  6 100 -
K810 .02   E6             adult  4 100 J183
K800 .008  E6 L9 D6       adult  2 100 J183
K358 .003  E9             young  3 100 H019
K566 .10   E6             old    7 100 G783
K529 .02   E4 D2          any    2 301 H251
K573 .012  E5 L1 D8       old    2 301 H229
K590 .03   E6             old    2 100 -
K703 .16   E3             middle 8 301 T461
K729 .30   E2             middle 9 301 -
K631 .25   E1.5           old   10 100 G783
K559 .45   E1             old    8 100 G783
K409 .004  E1 L6 D14      middle 0 100 T202           men
K429 .006  E1 L2 D5       middle 0 100 T242
K219 .004  E1 D7          adult  1 301 G451
K297 .006  E1 D8          adult  1 301 G451
K635 .006  L1 D10         old    0 301 H229
K509 .01   E3 D8          young  2 301 X921
K519 .01   E2 D5          young  3 301 H251
K021 .001  D6             child  0 140 F104
J350 .001  L4 D5          child  1 120 F341
S720 .075  E12            old   13 110 W241,W461
S721 .08   E6             old   13 110 W241
S422 .02   E4             old    5 110 W201
S525 .006  E5 L1 D1       any    1 110 W242
S826 .006  E4             adult  4 110 W201
S060 .008  E8             any    1 180 -
S065 .14   E3             old    9 150 A411
S223 .03   E3             old    4 110 -
T391 .002  E7             young  1 300 -
T509 .004  E6             young  1 300 -
F100 .005  E10            adult  1 300 -
F103 .01   E4             middle 3 300 -
F329 .005  E3             adult  2 300 -
F03X .09   E3             old   12 430 -
E101 .006  E3             young  3 302 -
E162 .03   E3             old    3 302 -
E86X .07   E4             old    4 300 -
E871 .05   E4             old    5 300 -
L031 .015  E14            old    4 300 -
L024 .004  E5 D1          young  1 100 S471
M545 .006  E8 L1 D6       adult  2 110 A521
M255 .004  E5 D2          adult  1 110 -
M171 .003  L16            old    4 110 W401
M161 .003  L13            old    4 110 W371
M511 .003  E1 L4 D4       adult  2 110 V337
M069 .006  E1 D5 R4       middle 1 410 X921
M809 .01   E1 D4          old    1 410 X921           women
G409 .015  E7             any    2 400 -
G560 .001  D7             middle 0 110 A651
G35X .01   E1 D3 R4       adult  1 400 X921
G20X .06   E2             old    8 430 -
H269 .003  L1 D30         old    0 130 C751
H353 .003  D14            old    0 130 C893
H401 .003  L1 D2          old    0 130 C601
C349 .42   E5 L2 D4 R2    old    7 340 E493
C189 .13   E3 L6 D6 R3    old    8 100 H071
C20X .12   E1 L4 D5 R3    old    8 100 H333
C509 .09   E1.5 L10 D9 R4 middle 2 100 B283           women
C61X .09   E2 L4 D5 R1    old    3 101 M611           men
C679 .10   E2 L4 D8       old    3 101 M421
C259 .42   E2.5 L1 D2     old    8 100 J361
C159 .33   E2 L1 D2       old    8 100 G011
C719 .28   E1 L1 D1       middle 9 150 A021
C787 .45   E3 D1          old    7 370 -
C793 .45   E2             middle 7 370 -
C795 .36   E3             old    8 370 -
C859 .16   E2 D5 R4       old    7 303 X921
C900 .13   E2 D6 R4       old    6 303 X921
C920 .30   E1.5 D2        middle 12 303 X921
C449 .003  L1 D12         old    0 330 S065
D225 .001  D6             adult  0 330 S065
D649 .05   E6 D5          old    3 300 X332
D509 .02   E3 D6          old    2 300 X332
D70X .05   E3             middle 6 303 -
Z511 .02   D20 R8         middle 0 370 X721
Z090 .003  D8             middle 0 301 H229
""".strip()

_MATERNITY: Final = """
O800 .002 delivery - R249
O210 .002 antenatal 12 -
O200 .002 antenatal 12 -
O470 .002 antenatal 14 -
O13X .004 antenatal 8 -
O149 .006 antenatal 5 -
O368 .002 antenatal 10 -
O234 .003 antenatal 8 -
O721 .004 puerperal 10 Q411
O722 .004 puerperal 8 Q411
O909 .004 puerperal 4 -
O152 .03  puerperal 0.4 -
O912 .002 puerperal 3 -
O85X .03  infection 5 -
O860 .005 infection 3 S574
O861 .006 infection 1 -
O862 .003 infection 2 -
O864 .004 infection 1 -
O868 .004 infection 1 -
"""

_SURGICAL: Final = "T814 .015 surgical 8 S574\nT845 .02 surgical 2 W281\nT846 .01 surgical 1 W283"
_NEWBORN: Final = "Z380 .002 birth 0 -\nP599 .002 newborn 5 X292\nP369 .03 newborn 2 -\nP229 .02 newborn 1 -"
_LETTERS: Final = {"E": "emergency", "L": "elective", "D": "day_case", "R": "regular"}


def _adult_line(line: str) -> Diagnosis:
    words = line.split()
    at = next(i for i, word in enumerate(words) if word in PROFILES)
    code, risk, *weights = words[:at]
    profile, stay, specialty, procedures, *marks = words[at:]
    return Diagnosis(
        code=code,
        risk=float(risk),
        weights={_LETTERS[word[0]]: float(word[1:]) for word in weights},
        profile=profile,
        stay=float(stay),
        specialty=specialty,
        procedures=() if procedures == "-" else tuple(procedures.split(",")),
        sex={"men": 1, "women": 2}.get(marks[0], 0) if marks else 0,
        winter="winter" in marks,
    )


def _special_line(line: str, specialty: str, stay: float, profile: str, sex: int) -> Diagnosis:
    code, risk, group, weight, procedure = line.split()
    return Diagnosis(
        code=code,
        risk=float(risk),
        weights={} if weight == "-" else {group: float(weight)},
        profile=profile,
        stay=stay,
        specialty=specialty,
        procedures=() if procedure == "-" else (procedure,),
        sex=sex,
    )


DIAGNOSES: Final = (
    *(_adult_line(line) for line in _TABLE.splitlines()),
    *(_special_line(line, "501", 2.0, "any", 2) for line in _MATERNITY.strip().splitlines()),
    *(_special_line(line, "100", 6.0, "any", 0) for line in _SURGICAL.splitlines()),
    *(_special_line(line, "422", 2.0, "infant", 0) for line in _NEWBORN.splitlines()),
)
INDEX: Final = {diagnosis.code: number for number, diagnosis in enumerate(DIAGNOSES)}
PNEUMONIA: Final = ("J189", "J181", "J180", "J159", "J13X")
"""Together the group in which one hospital is planted; all are in SHMI group 73."""
SYMPTOMS: Final = ("R074", "R55X", "R060", "R104", "R296", "R410")
"""Codes with which a first episode may begin although a later one finds the disease."""
PUERPERAL_INFECTIONS: Final = ("O85X", "O860", "O861", "O862", "O863", "O864", "O868")


@dataclass(frozen=True)
class Condition:
    """A chronic condition of a person.

    ``weight``: of the SHMI's Charlson index (specification 1.60). ``prevalence``: at ages 0-17, 18-44, 45-64,
    65-79, 80 and over.
    """

    code: str
    weight: int
    prevalence: tuple[float, float, float, float, float]


CONDITIONS: Final = (
    Condition("I252", 5, (0, 0.003, 0.03, 0.08, 0.10)),
    Condition("I693", 11, (0, 0.003, 0.02, 0.06, 0.09)),
    Condition("I500", 13, (0, 0.003, 0.03, 0.10, 0.18)),
    Condition("M069", 4, (0.001, 0.006, 0.02, 0.03, 0.03)),
    Condition("F03X", 14, (0, 0, 0.004, 0.04, 0.16)),
    Condition("E119", 3, (0.003, 0.02, 0.11, 0.17, 0.16)),
    Condition("K746", 8, (0, 0.006, 0.02, 0.015, 0.008)),
    Condition("K279", 9, (0, 0.001, 0.004, 0.006, 0.006)),
    Condition("I739", 6, (0, 0.001, 0.02, 0.06, 0.07)),
    Condition("J449", 4, (0.03, 0.05, 0.12, 0.18, 0.16)),
    Condition("C189", 8, (0.001, 0.006, 0.03, 0.06, 0.06)),
    Condition("E112", -1, (0, 0.006, 0.012, 0.02, 0.015)),
    Condition("G819", 1, (0.002, 0.003, 0.007, 0.012, 0.012)),
    Condition("N183", 10, (0, 0.003, 0.03, 0.10, 0.18)),
    Condition("C787", 14, (0, 0.002, 0.012, 0.022, 0.018)),
    Condition("K766", 18, (0, 0.002, 0.005, 0.004, 0.002)),
    Condition("B24X", 2, (0, 0.002, 0.002, 0.0005, 0)),
)
OTHER_CONDITIONS: Final = (
    # without a Charlson weight
    Condition("I10X", 0, (0.001, 0.04, 0.30, 0.55, 0.60)),
    Condition("I48X", 0, (0, 0.004, 0.04, 0.15, 0.28)),
    Condition("I259", 0, (0, 0.004, 0.06, 0.14, 0.18)),
    Condition("E780", 0, (0, 0.01, 0.09, 0.16, 0.12)),
    Condition("E039", 0, (0.002, 0.02, 0.06, 0.09, 0.10)),
    Condition("F329", 0, (0.004, 0.06, 0.08, 0.06, 0.05)),
    Condition("E669", 0, (0.01, 0.05, 0.07, 0.05, 0.02)),
    Condition("F171", 0, (0.001, 0.14, 0.14, 0.07, 0.03)),
    Condition("Z880", 0, (0.01, 0.05, 0.06, 0.08, 0.08)),
    Condition("M199", 0, (0, 0.004, 0.04, 0.10, 0.13)),
    Condition("M819", 0, (0, 0.001, 0.01, 0.04, 0.09)),
    Condition("G409", 0, (0.01, 0.015, 0.02, 0.02, 0.02)),
    Condition("Z921", 0, (0, 0.003, 0.03, 0.10, 0.16)),
    Condition("Z966", 0, (0, 0.001, 0.02, 0.07, 0.10)),
)


def _codes(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ACUTE_CODES: Final = _codes("N179 N390 E871 D649 J189 A419 A047 U801 Z515 W190 B962 T814 L892 R33X R13X Y838")
BIRTH_CODES: Final = _codes(
    "Z370 Z371 Z372 Z373 Z374 Z375 Z376 Z377 O300 O301 O701 O702 O721 O342 O420 O810 O820 O821 O814 O839 O801"
    " Z383 Z386 P95X P070 P071 P073 P220 P599 P369 O623 O680"
)
INVALID_PRIMARY: Final = ("R69X6", "R69X8")

CODES: Final = tuple(
    dict.fromkeys(
        (
            "",
            *(diagnosis.code for diagnosis in DIAGNOSES),
            *(condition.code for condition in (*CONDITIONS, *OTHER_CONDITIONS)),
            *ACUTE_CODES,
            *BIRTH_CODES,
            *PUERPERAL_INFECTIONS,
            *INVALID_PRIMARY,
            "-",
        )
    )
)
"""Every diagnosis code that is ever written; number 0 is the empty field."""
CODE_INDEX: Final = {code: number for number, code in enumerate(CODES)}
CODE_OF_DIAGNOSIS: Final[Ints] = np.array([CODE_INDEX[d.code] for d in DIAGNOSES], dtype=np.int64)
RISK: Final[NDArray[np.float64]] = np.array([d.risk for d in DIAGNOSES])
STAY: Final[NDArray[np.float64]] = np.array([d.stay for d in DIAGNOSES])


def age_step(years: Ints) -> Ints:
    """Index of the age step (0-6) used by the profiles."""
    return np.searchsorted(np.array(AGE_STEPS), years, side="right").astype(np.int64)


class DiagnosisSampler:
    """Draws primary diagnoses by group of admission, age step, sex and season in one binary search."""

    def __init__(self) -> None:
        rows = []
        for group in GROUPS:
            for step in range(7):
                for sex in (1, 2):
                    for winter in (False, True):
                        weights = np.array([self._weight(d, group, step, sex, winter) for d in DIAGNOSES])
                        if weights.sum() == 0:  # nothing fits, such as a joint replacement in an infant
                            weights = np.array([d.weights.get(group, 0.0) for d in DIAGNOSES])
                        rows.append(np.cumsum(weights / weights.sum()))
        table = np.array(rows)
        table[:, -1] = 1.0
        self._flat = (table + np.arange(len(rows))[:, None]).ravel()

    @staticmethod
    def _weight(diagnosis: Diagnosis, group: str, step: int, sex: int, winter: bool) -> float:
        if diagnosis.sex not in (0, sex):
            return 0.0
        season = (1.7 if winter else 0.72) if diagnosis.winter else 1.0
        return diagnosis.weights.get(group, 0.0) * PROFILES[diagnosis.profile][step] * season

    def draw(
        self, group: Ints, years: Ints, sex: Ints, winter: NDArray[np.bool_], chance: NDArray[np.float64]
    ) -> Ints:
        """One diagnosis index per row. ``group`` indexes ``GROUPS``; ``chance`` is uniform on [0, 1)."""
        row = ((group * 7 + age_step(years)) * 2 + (sex == 2)) * 2 + winter
        found = np.searchsorted(self._flat, row + chance, side="right")
        drawn: Ints = np.minimum(found - row * len(DIAGNOSES), len(DIAGNOSES) - 1).astype(np.int64)
        return drawn
