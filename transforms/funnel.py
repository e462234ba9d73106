"""Funnel limits: how far a provider may lie from the target before its difference is worth a question.

Two sorts of limits are given for every provider:

* ``funnel_*``: chance alone (exact Poisson for ratios and rates, exact binomial for proportions);
* ``od_*``: chance and the ordinary variation between providers that no case-mix model explains
  (additive random effects, Spiegelhalter 2005, Statistics in Medicine 24:1185).

Methods and where they come from:

``shmi``
    Log scale; a tenth is trimmed at each end by decile rank (average ties) and the variance between providers
    comes from those retained. Reproduces every limit and band of the HSCIC releases of the Summary
    Hospital-level Mortality Indicator to the four decimals they print.
``cqc``
    Square root scale, z-scores winsorised at the tenth and ninetieth percentile. Public implementations leave
    these limits on the square root scale beside an untransformed ratio; here they are squared back, so that
    ratio and limits can be compared. A lower limit below zero is zero.
``proportion``
    Arcsine scale, winsorised. The angle is kept between 0 and a right angle, because the sine turns back
    beyond and would bring the limit of a very small provider inside again.
``rate``
    Events per unit of exposure (bed days): square root scale, winsorised, squared back.
``ratio_of_counts``
    Log of (a + 1/2) / (b + 1/2), winsorised; limits use each row's own variance.

Odd input has a stated outcome, never a silent NaN:

* nothing observed has no logarithm: half an event, or the expected number where that is smaller, stands in for it
  in the z-score (``shmi`` only); the ratio stays 0. Its band goes by that z-score: on a log scale every lower limit
  lies above 0, so that seeing none where a tenth of an event was expected would be called low;
* one provider: the variance between providers cannot be estimated and is 0, as it is when the z-scores vary
  less than chance alone would make them;
* an expected number or denominator of zero, a negative, missing or infinite number, or no rows at all:
  :class:`schemas.errors.UsageError`, saying how many rows, never which value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from schemas.errors import UsageError
from transforms.intervals import LEVEL_95, LEVEL_998, Floats, normal_deviate, numbers

Method = Literal["shmi", "cqc", "proportion", "rate", "ratio_of_counts"]

HIGHER, AS_EXPECTED, LOWER = 1, 2, 3
"""Bands as the official releases number them: against the 95 % over-dispersed limits."""

LEVELS = {"95": LEVEL_95, "998": LEVEL_998}
LIMIT_COLUMNS = tuple(
    f"{sort}_{end}_{level}" for sort in ("funnel", "od") for level in LEVELS for end in ("lower", "upper")
)
TRIM = 0.1
LARGEST_EXPONENT = 700.0


@dataclass(frozen=True, eq=False)
class Funnel:
    """The result for one set of providers.

    ``target``: what a provider is compared with, on the scale of the value. ``phi``: mean squared z-score of
    the providers that contribute (1 when chance explains everything). ``tau2``: variance between providers on
    the transformed scale. ``contributing``: how many providers these two rest on.
    ``rows``: one row per provider in the order given: observed, size (expected, or denominator), value,
    z (without) and z_od (with the variance between providers), the eight limits of ``LIMIT_COLUMNS``, band.
    """

    method: Method
    target: float
    phi: float
    tau2: float
    contributing: int
    rows: pl.DataFrame

    def curve(self, sizes: ArrayLike) -> pl.DataFrame:
        """Limits at any ``sizes`` (expected, or denominator, all above zero), to draw the funnel with.

        Columns: size, target and those of ``LIMIT_COLUMNS``.
        """
        size = _sizes(sizes, "size")
        deviation = _deviation_at(self.method, size, self.target)
        columns = {"size": size, "target": np.full(len(size), self.target)}
        return pl.DataFrame({**columns, **_limits(self.method, size, deviation, self.target, self.tau2)})


def decile_groups(z: Floats) -> NDArray[np.int64]:
    """The tenth of the ordered z-scores each belongs to, 0 to 9: ``floor(10 r / (n + 1))``, average ties.

    Done in whole numbers (ranks come in halves), so that no rounding decides about an edge.
    """
    from scipy.stats import rankdata  # loading it takes a second, and few commands need it

    twice_rank = np.rint(2 * rankdata(z, method="average")).astype(np.int64)
    return np.asarray((5 * twice_rank) // (len(z) + 1), dtype=np.int64)


def between_variance(z: Floats, deviation: Floats) -> tuple[float, float]:
    """``phi`` and ``tau2`` of z-scores and the standard deviations they were divided by."""
    count = len(z)
    phi = float(np.mean(z**2))
    weight = 1 / deviation**2
    spread = float(weight.sum() - (weight**2).sum() / weight.sum())
    if count < 2 or count * phi < count - 1 or spread <= 0:
        return phi, 0.0
    return phi, (count * phi - (count - 1)) / spread


def standardised_ratio(
    observed: ArrayLike, expected: ArrayLike, method: Literal["shmi", "cqc"] = "shmi", trim: float = TRIM
) -> Funnel:
    """Observed over expected, against a target of 1. ``trim`` is the share winsorised at each end (``cqc``).

    Raises :class:`UsageError` as the module says.
    """
    seen, size = numbers(observed, "observed"), _sizes(expected, "expected")
    _same_length(seen, size)
    if method == "shmi":
        deviation = 1 / np.sqrt(size)
        z = np.sqrt(size) * np.log(np.where(seen == 0, np.minimum(0.5, size), seen) / size)
        group = decile_groups(z)
        kept = (group > 0) & (group < 9)
        phi, tau2 = between_variance(z[kept], deviation[kept])
        contributing = int(kept.sum())
    elif method == "cqc":
        deviation = 1 / (2 * np.sqrt(size))
        z = (np.sqrt(seen / size) - 1) / deviation
        phi, tau2 = between_variance(_winsorised(z, trim), deviation)
        contributing = len(z)
    else:
        raise UsageError("the methods for observed and expected numbers are shmi and cqc")
    return _funnel(method, seen, size, z, deviation, 1.0, phi, tau2, contributing)


def proportion(numerator: ArrayLike, denominator: ArrayLike, trim: float = TRIM) -> Funnel:
    """Proportions against the pooled proportion of all rows. Raises :class:`UsageError`."""
    seen, size = numbers(numerator, "numerator"), _sizes(denominator, "denominator")
    _same_length(seen, size)
    if (seen > size).any():
        raise UsageError(f"numerator: {int((seen > size).sum())} larger than the denominator")
    target = float(seen.sum() / size.sum())
    deviation = 1 / (2 * np.sqrt(size))
    z = (np.arcsin(np.sqrt(seen / size)) - np.arcsin(np.sqrt(target))) / deviation
    phi, tau2 = between_variance(_winsorised(z, trim), deviation)
    return _funnel("proportion", seen, size, z, deviation, target, phi, tau2, len(z))


def rate(events: ArrayLike, exposure: ArrayLike, trim: float = TRIM) -> Funnel:
    """Events per unit of exposure against the pooled rate of all rows. Raises :class:`UsageError`."""
    seen, size = numbers(events, "events"), _sizes(exposure, "exposure")
    _same_length(seen, size)
    target = float(seen.sum() / size.sum())
    deviation = 1 / (2 * np.sqrt(size))
    z = (np.sqrt(seen / size) - np.sqrt(target)) / deviation
    phi, tau2 = between_variance(_winsorised(z, trim), deviation)
    return _funnel("rate", seen, size, z, deviation, target, phi, tau2, len(z))


def ratio_of_counts(numerator: ArrayLike, denominator: ArrayLike, trim: float = TRIM) -> Funnel:
    """One count over another, both uncertain, against the pooled ratio. Raises :class:`UsageError`.

    A pooled numerator of zero is refused: the ratio has no logarithm.
    """
    seen, size = numbers(numerator, "numerator"), _sizes(denominator, "denominator")
    _same_length(seen, size)
    if seen.sum() == 0:
        raise UsageError("numerator: nothing at all was counted, so there is no ratio to compare with")
    target = float(seen.sum() / size.sum())
    deviation = _ratio_deviation(np.where(seen == 0, 0.5, seen), size)
    z = (np.log((seen + 0.5) / (size + 0.5)) - np.log(target)) / deviation
    phi, tau2 = between_variance(_winsorised(z, trim), deviation)
    return _funnel("ratio_of_counts", seen, size, z, deviation, target, phi, tau2, len(z))


def poisson_limits(expected: ArrayLike, level: float) -> tuple[Floats, Floats]:
    """Exact Poisson control limits of observed / expected; ``expected`` need not be whole."""
    from scipy.stats import chi2  # loading it takes a second, and few commands need it

    size = _sizes(expected, "expected")
    tail = _tail(level)
    return chi2.ppf(tail, 2 * size) / (2 * size), chi2.ppf(1 - tail, 2 * (size + 1)) / (2 * size)


def binomial_limits(denominator: ArrayLike, target: float, level: float) -> tuple[Floats, Floats]:
    """Exact binomial control limits of a proportion whose true value is ``target``.

    The binomial moves in steps; between two steps the limit is interpolated so that the tail has exactly its
    probability (Spiegelhalter 2005, appendix A.1.1). Limits are kept between 0 and 1. A denominator that is
    not whole is rounded, to 1 at least: there is no binomial of half a person.
    """
    from scipy.stats import binom  # loading it takes a second, and few commands need it

    size = np.maximum(np.rint(_sizes(denominator, "denominator")), 1.0)
    tail = _tail(level)
    limits = []
    for probability in (tail, 1 - tail):
        count = binom.ppf(probability, size, target)
        step = binom.pmf(count, size, target)
        past = np.divide(
            binom.cdf(count, size, target) - probability, step, out=np.zeros_like(size), where=step > 0
        )
        limits.append(np.clip((count - past) / size, 0.0, 1.0))
    return limits[0], limits[1]


# the parts ------------------------------------------------------------------------------------------


def _tail(level: float) -> float:
    """Half of what lies outside. 0.998 is taken as 99.8 %: 0.001 in each tail."""
    normal_deviate(level)
    return (1 - level) / 2


def _sizes(values: ArrayLike, what: str) -> Floats:
    size = np.atleast_1d(numbers(values, what))
    if not len(size):
        raise UsageError(f"{what}: there are no rows to compare")
    if (size <= 0).any():
        raise UsageError(
            f"{what}: {int((size <= 0).sum())} of zero, against which nothing can be compared",
            next_step="leave these rows out, or merge them with others",
        )
    return size


def _same_length(one: Floats, other: Floats) -> None:
    if np.atleast_1d(one).shape != other.shape:
        raise UsageError("the two columns have different lengths")


def _winsorised(z: Floats, trim: float) -> Floats:
    """The z-scores with the tails beyond the ``trim`` and ``1 - trim`` quantiles (type 7) pulled in."""
    if not 0 <= trim < 0.5:
        raise UsageError("the share winsorised at each end lies between 0 and a half")
    low, high = np.quantile(z, [trim, 1 - trim])
    return np.clip(z, low, high)


def _ratio_deviation(numerator: Floats, denominator: Floats) -> Floats:
    return np.asarray(
        np.sqrt(numerator / (numerator + 0.5) ** 2 + denominator / (denominator + 0.5) ** 2),
        dtype=np.float64,
    )


def _deviation_at(method: Method, size: Floats, target: float) -> Floats:
    if method == "shmi":
        return 1 / np.sqrt(size)
    if method == "ratio_of_counts":
        return _ratio_deviation(target * size, size)
    return 1 / (2 * np.sqrt(size))


def _back(method: Method, centre: float, distance: Floats) -> tuple[Floats, Floats]:
    """Limits ``centre`` -/+ ``distance`` on the transformed scale, brought back to the scale of the value."""
    if method in ("shmi", "ratio_of_counts"):
        # An expected number near nothing has limits beyond what a float holds: the largest stands for them.
        return np.exp(centre - distance), np.exp(np.minimum(centre + distance, LARGEST_EXPONENT))
    low, high = np.maximum(centre - distance, 0.0), centre + distance
    if method == "proportion":
        return np.sin(low) ** 2, np.sin(np.minimum(high, np.pi / 2)) ** 2
    return low**2, high**2


def _centre(method: Method, target: float) -> float:
    if method in ("shmi", "ratio_of_counts"):
        return float(np.log(target))
    root = float(np.sqrt(target))
    return float(np.arcsin(root)) if method == "proportion" else root


def _limits(method: Method, size: Floats, deviation: Floats, target: float, tau2: float) -> dict[str, Floats]:
    found: dict[str, Floats] = {}
    centre = _centre(method, target)
    for name, level in LEVELS.items():
        z = normal_deviate(level)
        if method == "proportion":
            plain = binomial_limits(size, target, level)
        elif method == "ratio_of_counts":
            plain = _back(method, centre, z * deviation)
        elif target == 0:  # a rate of nothing at all: there is no Poisson distribution to ask
            plain = np.zeros_like(size), np.zeros_like(size)
        else:
            lower, upper = poisson_limits(size * target, level)
            plain = lower * target, upper * target
        found[f"funnel_lower_{name}"], found[f"funnel_upper_{name}"] = plain
        found[f"od_lower_{name}"], found[f"od_upper_{name}"] = _back(
            method, centre, z * np.sqrt(deviation**2 + tau2)
        )
    return {column: found[column] for column in LIMIT_COLUMNS}


def _funnel(
    method: Method,
    observed: Floats,
    size: Floats,
    z: Floats,
    deviation: Floats,
    target: float,
    phi: float,
    tau2: float,
    contributing: int,
) -> Funnel:
    value = observed / size
    z_od = z * deviation / np.sqrt(deviation**2 + tau2)
    limits = _limits(method, size, deviation, target, tau2)
    band = np.where(
        value > limits["od_upper_95"], HIGHER, np.where(value < limits["od_lower_95"], LOWER, AS_EXPECTED)
    )
    band = np.where((observed == 0) & (np.abs(z_od) <= normal_deviate(LEVEL_95)), AS_EXPECTED, band)
    rows = pl.DataFrame(
        {
            "observed": np.atleast_1d(observed),
            "size": size,
            "value": value,
            "z": z,
            "z_od": z_od,
            **limits,
            "band": band.astype(np.int64),
        }
    )
    return Funnel(method, target, phi, tau2, contributing, rows)
