"""The true risk of death in the synthetic world: additive log-odds, known to the last digit.

The chance that a spell ends in death, in hospital or within 30 days of discharge, is the logistic function
of the sum of one coefficient per factor, so a case-mix model fitted per diagnosis group on age band, sex,
method of admission, comorbidity band and month has the true form, and a hospital's effect is what is left.
The factor levels are those of the SHMI (21 age bands, comorbidity banded 0, 1-5, over 5). Patient class is
one more, because day cases and regular attenders are outside the SHMI.

Births have a model of their own: the log-odds depend on birth weight alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infra.synthetic.days import Ints
from infra.synthetic.diagnoses import DIAGNOSES

Floats = NDArray[np.float64]

AGE_BANDS: Final = ("<1", "1-4", *(f"{low}-{low + 4}" for low in range(5, 90, 5)), "90-120", "unknown")
UNKNOWN_AGE_BAND: Final = 21
# bands count from 1; 75-79 is the reference
_AGE_TO_44: Final = (-2.0, -3.3, -3.5, -3.4, -3.1, -2.9, -2.7, -2.5, -2.3, -2.05)
_AGE_FROM_45: Final = (-1.8, -1.5, -1.2, -0.95, -0.65, -0.35, 0.0, 0.25, 0.5, 0.85)
_AGE_UNKNOWN: Final = -0.4
AGE: Final[Floats] = np.array([0.0, *_AGE_TO_44, *_AGE_FROM_45, _AGE_UNKNOWN])
INTERCEPT: Final = -0.3
SEX: Final[Floats] = np.array([0.0, 0.0, -0.12])  # not known, men, women
ELECTIVE: Final = -1.6
COMORBIDITY: Final[Floats] = np.array([-0.45, 0.0, 0.5])  # 0, 1-5, over 5
MONTH: Final[Floats] = np.array(
    [0.0, 0.12, 0.08, 0.02, 0.0, -0.04, -0.06, -0.06, -0.05, -0.03, 0.0, 0.02, 0.10]  # January is 1
)
PATIENT_CLASS: Final = {"1": 0.0, "2": -1.4, "3": -1.0, "5": 0.0}
DIAGNOSIS: Final[Floats] = np.array([log(d.risk / (1 - d.risk)) for d in DIAGNOSES])
HOSPITAL_SPREAD: Final = 0.10
"""Standard deviation of the hospitals' log-odds: real differences between hospitals that are no outliers."""
BIRTH_WEIGHT_STEPS: Final = (1000, 2500, 4500)
BIRTH_WEIGHT: Final[Floats] = np.array([-1.3, -4.2, -7.1, -6.6])


def age_band(start_age: Ints) -> Ints:
    """SHMI age band 1-21 from STARTAGE (years, or 7001-7007 under one year); -1 (not known) is band 21."""
    band = np.where(start_age < 5, 2, 3 + (np.minimum(start_age, 90) - 5) // 5)
    band = np.where(start_age >= 7001, 1, band)
    return np.where(start_age < 0, UNKNOWN_AGE_BAND, band)


def comorbidity_band(score: Ints) -> Ints:
    """0, 1 or 2 for a Charlson score of 0 or less, 1-5, over 5."""
    return np.where(score <= 0, 0, np.where(score <= 5, 1, 2))


def log_odds(
    *,
    band: Ints,
    sex: Ints,
    elective: NDArray[np.bool_],
    score: Ints,
    diagnosis: Ints,
    month: Ints,
    class_term: Floats,
) -> Floats:
    """Log-odds of death at a hospital without an effect of its own."""
    total: Floats = (
        INTERCEPT
        + AGE[band]
        + SEX[np.where(sex > 2, 0, sex)]
        + np.where(elective, ELECTIVE, 0.0)
        + COMORBIDITY[comorbidity_band(score)]
        + DIAGNOSIS[diagnosis]
        + MONTH[month]
        + class_term
    )
    return total


def birth_log_odds(weight_grams: Ints) -> Floats:
    """Log-odds of a live-born baby's death before leaving hospital."""
    odds: Floats = BIRTH_WEIGHT[np.searchsorted(np.array(BIRTH_WEIGHT_STEPS), weight_grams, side="right")]
    return odds


def chance(odds: Floats) -> Floats:
    result: Floats = 1.0 / (1.0 + np.exp(-odds))
    return result


def description(hospitals: Sequence[str], effects: Floats) -> dict[str, Any]:
    """The whole model as plain data for ``truth.json``."""
    return {
        "outcome": "death in hospital or within 30 days of discharge, of spells not ended by a transfer",
        "link": "logit",
        "form": "intercept + age_band + sex + method_of_admission + comorbidity_band + diagnosis"
        " + month_of_admission + patient_class + hospital + planted",
        "intercept": INTERCEPT,
        "age_band": dict(zip(AGE_BANDS, AGE[1:].tolist(), strict=True)),
        "sex": {"1": float(SEX[1]), "2": float(SEX[2]), "other": float(SEX[0])},
        "method_of_admission": {"elective": ELECTIVE, "non_elective": 0.0},
        "comorbidity_band": dict(zip(("0", "1-5", ">5"), COMORBIDITY.tolist(), strict=True)),
        "diagnosis_note": "true diagnosis of the spell; a first episode may begin with a symptom code; every"
        " delivery has the coefficient of O800, whatever its mode",
        "diagnosis": {d.code: round(float(v), 6) for d, v in zip(DIAGNOSES, DIAGNOSIS, strict=True)},
        "month_of_admission": {str(month): float(MONTH[month]) for month in range(1, 13)},
        "patient_class": PATIENT_CLASS,
        "hospital": dict(zip(hospitals, [round(float(e), 6) for e in effects], strict=True)),
        "birth": {
            "outcome": "death of a live-born baby before discharge",
            "birth_weight_grams": dict(
                zip(("<1000", "1000-2499", "2500-4499", ">=4500"), BIRTH_WEIGHT.tolist(), strict=True)
            ),
        },
    }
