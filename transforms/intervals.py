"""Confidence intervals of counts and of proportions.

Four methods, each vectorised over numpy arrays, each two-sided at a level such as 0.95 or 0.998:

* :func:`wilson` for proportions: the score interval without continuity correction;
* :func:`binomial_exact` for proportions: Clopper and Pearson, through the beta distribution;
* :func:`poisson_exact` for counts: through the chi-squared distribution;
* :func:`byar` for counts: Byar's approximation to the exact Poisson interval (Breslow and Day 1987, p. 69).

Counts need not be whole numbers (expected numbers and weighted counts are not), except for
:func:`binomial_exact`, which has a meaning for whole numbers only. The worked examples of
PHEindicatormethods (test data for Byar and Wilson) are met to the last printed digit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from schemas.errors import UsageError

Floats = NDArray[np.float64]

LEVEL_95 = 0.95
LEVEL_998 = 0.998


class Interval(NamedTuple):
    """Lower and upper limits, in the unit of what was asked about (counts, or proportions from 0 to 1)."""

    lower: Floats
    upper: Floats


def normal_deviate(level: float) -> float:
    """The two-sided standard normal deviate: 1.959964 at 0.95, 3.090232 at 0.998.

    Raises :class:`UsageError` when ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise UsageError("a confidence level lies between 0 and 1")
    return float(ndtri(0.5 + level / 2))


def _tail(level: float) -> float:
    normal_deviate(level)
    return (1 - level) / 2


def numbers(values: ArrayLike, what: str) -> Floats:
    """``values`` as finite floats, none below zero; :class:`UsageError` says of ``what`` how many are not."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{what}: not every entry is a number") from None
    wrong = int((~np.isfinite(array)).sum())
    if wrong:
        raise UsageError(f"{what}: {wrong} missing or not finite")
    below = int((array < 0).sum())
    if below:
        raise UsageError(f"{what}: {below} below zero")
    return array


def _of_proportion(numerator: ArrayLike, denominator: ArrayLike) -> tuple[Floats, Floats]:
    x, n = np.broadcast_arrays(numbers(numerator, "numerator"), numbers(denominator, "denominator"))
    if (n <= 0).any():
        raise UsageError(f"denominator: {int((n <= 0).sum())} of zero, of which no proportion can be taken")
    if (x > n).any():
        raise UsageError(f"numerator: {int((x > n).sum())} larger than the denominator")
    return x, n


def wilson(numerator: ArrayLike, denominator: ArrayLike, level: float = LEVEL_95) -> Interval:
    """Wilson's score interval of ``numerator / denominator``, as proportions from 0 to 1.

    Raises :class:`UsageError` for a denominator of zero, a numerator above it, or a missing number.
    """
    x, n = _of_proportion(numerator, denominator)
    z = normal_deviate(level)
    centre = 2 * x + z**2
    spread = z * np.sqrt(z**2 + 4 * x * (1 - x / n))
    # The formula gives exactly 0 and 1 at the ends, up to the last bit: keep limits inside what can be.
    lower = np.clip((centre - spread) / (2 * (n + z**2)), 0.0, 1.0)
    upper = np.clip((centre + spread) / (2 * (n + z**2)), 0.0, 1.0)
    return Interval(np.where(x == 0, 0.0, lower), np.where(x == n, 1.0, upper))


def binomial_exact(numerator: ArrayLike, denominator: ArrayLike, level: float = LEVEL_95) -> Interval:
    """Clopper and Pearson's exact interval of ``numerator / denominator``, as proportions from 0 to 1.

    Raises :class:`UsageError` as :func:`wilson` does, and for numbers that are not whole.
    """
    from scipy.stats import beta  # loading it takes a second, and few commands need it

    x, n = _of_proportion(numerator, denominator)
    if ((x != np.floor(x)) | (n != np.floor(n))).any():
        raise UsageError("an exact binomial interval needs whole numbers")
    tail = _tail(level)
    # At the ends the beta distribution does not exist; its place is taken by shape 1 and the limit is known.
    lower = np.where(x == 0, 0.0, beta.ppf(tail, np.where(x == 0, 1.0, x), n - x + 1))
    upper = np.where(x == n, 1.0, beta.ppf(1 - tail, x + 1, np.where(x == n, 1.0, n - x)))
    return Interval(lower, upper)


def poisson_exact(count: ArrayLike, level: float = LEVEL_95) -> Interval:
    """The exact Poisson interval of ``count``, in the unit of the count. The lower limit of 0 is 0.

    Raises :class:`UsageError` for a negative or missing count.
    """
    from scipy.stats import chi2  # loading it takes a second, and few commands need it

    x = numbers(count, "count")
    tail = _tail(level)
    lower = np.where(x == 0, 0.0, chi2.ppf(tail, np.where(x == 0, 1.0, 2 * x)) / 2)
    return Interval(lower, chi2.ppf(1 - tail, 2 * (x + 1)) / 2)


def byar(count: ArrayLike, level: float = LEVEL_95) -> Interval:
    """Byar's approximation to the Poisson interval of ``count``, in the unit of the count.

    Below about ten events it is rough (use :func:`poisson_exact`). Where the approximation falls below
    zero, as it does for one event at 99.8 %, the lower limit is 0.

    Raises :class:`UsageError` for a negative or missing count.
    """
    x = numbers(count, "count")
    z = normal_deviate(level)
    safe = np.where(x == 0, 1.0, x)
    lower = np.where(x == 0, 0.0, x * (1 - 1 / (9 * safe) - z / (3 * np.sqrt(safe))) ** 3)
    above = x + 1
    upper = above * (1 - 1 / (9 * above) + z / (3 * np.sqrt(above))) ** 3
    return Interval(np.maximum(lower, 0.0), upper)
