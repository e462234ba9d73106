"""Cumulative sum (CUSUM) charts: when has a run of outcomes become too bad to be chance alone.

Two sorts of chart, one recursion ``C_t = max(0, C_{t-1} + W_t)``, which signals when ``C_t`` reaches ``h``:

* *risk-adjusted*, one point per case in the order of discharge (Steiner, Cook, Farewell and Treasure 2000,
  Biostatistics 1:441). ``W`` is the logarithm of how much likelier the outcome is if the odds of the event
  are ``R`` times what the risk says: ``ln(1 / (1 - p + R p))`` without the event, ``ln(R / (1 - p + R p))``
  with it. ``R`` = 2 asks whether the odds have doubled, ``R`` = 1/2 whether they have halved;
* *aggregate*, one point per month, of z-scores that allow for over-dispersion (:class:`AggregateMethod`,
  :func:`monthly_z_scores`).

The threshold ``h`` of a risk-adjusted chart is computed, not looked up: the smallest at which a provider whose
risks are right has at most a stated probability of any signal within a stated number of cases. It is this
project's own and not the regression of Bottle and Aylin (JORS 2011, 62:1711), whose coefficients are not
public. ``infra/decisions/0130-cusum-thresholds.md`` says how it is computed and what it was checked against.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, floor, isfinite, log, log10
from typing import Final, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy.special import ndtr

from schemas.errors import UsageError
from transforms.funnel import standardised_ratio
from transforms.intervals import Floats, numbers

Reset = Literal["zero", "half", "none"]
RESETS: Final = ("zero", "half", "none")

ODDS_RATIO: Final = 2.0
FALSE_ALARM_RATE: Final = 0.001
"""Probability of any signal within the cases charted, when nothing is wrong. 0.1 % is what is remembered of
the national programme; no document that states it was found, so every result carries the rate it was made with."""

SUM_ROUNDING: Final = 1e-9
"""Sums of decimal fractions miss zero, or a threshold, by less than this: 0.1 + 0.2 - 0.3 is no longer zero.
Without the allowance a chart that is back at zero on paper would not be, and a run would begin too early."""


# the chart ------------------------------------------------------------------------------------------


class Alert(NamedTuple):
    """One alert and the run of points behind it.

    ``first`` and ``signal``: the first and the last point of the run, counted from 1. The run starts after the
    last point at zero or, if that is later, after the alert before. ``carried``: the value that the run began
    with, above zero only if the chart was reset to half. ``value``: the value that gave the alert.
    """

    first: int
    signal: int
    carried: float
    value: float


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart: ``rows`` has one row per point in the order given, with ``weight``, ``cusum`` (the value after
    the point and before a reset) and ``signal`` (true where it reaches ``threshold``). ``standing``: the run that
    the chart is in after its last point, as an :class:`Alert` would have it if there was one; its ``first`` lies
    after its ``signal`` where no run has begun."""

    threshold: float
    reset: Reset
    rows: pl.DataFrame
    alerts: tuple[Alert, ...]
    standing: Alert


def chart(weights: ArrayLike, threshold: float, reset: Reset = "zero") -> Chart:
    """Add up ``weights`` (any finite numbers, first point first) and signal at ``threshold`` (above zero).

    After a signal the next point starts from 0 (``zero``), from half of the value reached (``half``; the
    worked example behind it halves the value, where Lucas and Crosier 1982 would take half the threshold), or
    goes on (``none``). Without a reset every point at or above the threshold is a signal and only the first of
    such points together is an alert.

    Raises :class:`UsageError` for a missing or infinite weight, a threshold that is not a number above zero,
    or another reset.
    """
    steps = _finite(weights, "weights")
    if not (isfinite(threshold) and threshold > 0):
        raise UsageError("a threshold is a number above zero")
    if reset not in RESETS:
        raise UsageError("after a signal a chart is reset to zero, to half, or not at all: zero, half, none")
    values: list[float] = []
    signals: list[bool] = []
    alerts: list[Alert] = []
    level, carried, first, above = 0.0, 0.0, 1, False
    # One point needs the one before, reset included: a plain loop is exact and takes a second for five million.
    for point, step in enumerate(steps.tolist(), start=1):
        level += step
        if level < SUM_ROUNDING:
            level, carried, first = 0.0, 0.0, point + 1
        reached = level >= threshold - SUM_ROUNDING and level > 0
        values.append(level)
        signals.append(reached)
        if reached and not above:
            alerts.append(Alert(first, point, carried, level))
        if reached and reset != "none":
            level = level / 2 if reset == "half" else 0.0
            carried, first = level, point + 1
        else:
            above = reached
    schema = {"weight": pl.Float64, "cusum": pl.Float64, "signal": pl.Boolean}
    rows = pl.DataFrame({"weight": steps, "cusum": values, "signal": signals}, schema=schema)
    return Chart(threshold, reset, rows, tuple(alerts), Alert(first, len(values), carried, level))


def case_weights(outcome: ArrayLike, risk: ArrayLike, odds_ratio: float = ODDS_RATIO) -> Floats:
    """The weight of each case: ``outcome`` 1 with the event and 0 without, ``risk`` its expected probability.

    A risk of exactly 0 or 1 is taken as it stands; its weights are finite. Raises :class:`UsageError` for
    another outcome, a risk outside 0 to 1, columns of different lengths, or an odds ratio that
    :func:`check_odds_ratio` refuses.
    """
    seen, expected = numbers(outcome, "outcome"), _risks(risk)
    if seen.shape != expected.shape:
        raise UsageError("the two columns have different lengths")
    wrong = int(((seen != 0) & (seen != 1)).sum())
    if wrong:
        raise UsageError(f"outcome: {wrong} neither 0 nor 1")
    without, with_event = _likelihood_ratios(expected, odds_ratio)
    return np.where(seen == 1, with_event, without)


def check_odds_ratio(odds_ratio: float) -> float:
    """``odds_ratio`` itself; :class:`UsageError` unless it lies in 0.01 to 100 and more than 1 % away from 1."""
    if not 0.01 <= odds_ratio <= 100 or abs(log(odds_ratio)) < 0.01:
        raise UsageError("an odds ratio lies between 0.01 and 100, and is not 1")
    return odds_ratio


# the aggregate chart --------------------------------------------------------------------------------

AGGREGATE_STEPS: Final = 400
"""Steps of the Markov chain: twice as many move the probability in 36 months by less than one part in a thousand."""


@dataclass(frozen=True)
class AggregateMethod:
    """How monthly z-scores are added up. The numbers with their sources are the parameters of the indicator
    ``mortality_aggregate_cusum_v1``.

    ``threshold``: the value at which the chart signals. ``tolerance``: standard deviations a month may lie above
    expected before it adds to the chart. ``shift``: None for the plain weight ``z - tolerance``; otherwise the rise,
    in standard deviations above the tolerance, that the likelihood ratio ``shift * (z - tolerance - shift / 2)`` is
    made for. ``reset``: what happens after a signal.
    """

    threshold: float
    tolerance: float
    shift: float | None = None
    reset: Reset = "zero"


def monthly_z_scores(counts: pl.DataFrame) -> pl.DataFrame:
    """How far each provider lay from the others, month by month, in standard deviations.

    ``counts``: provider (str), month, observed, expected (above zero), a row for each provider and month that there
    is. Returns the same columns and ``z`` (Float64), sorted by provider and month. ``expected`` is first set to the
    month: multiplied so that all providers of the month together expect the deaths that they had, because a hard
    winter and deaths that are not registered yet are nobody's own. ``z`` is on the square root scale with the
    variance between providers of that month added (``cqc`` of :mod:`transforms.funnel`). A month without a death
    anywhere compares nothing and is left out.

    Raises :class:`UsageError` for a provider with two rows in a month, a number that is missing, infinite or
    negative, and an expected number of zero.
    """
    if counts.select("provider", "month").is_duplicated().any():
        raise UsageError("a provider has two rows in one month")
    ordered = counts.select("provider", "month", pl.col("observed", "expected").cast(pl.Float64)).sort(
        "month", "provider"
    )
    observed, expected = (numbers(ordered[name].to_numpy(), name) for name in ("observed", "expected"))
    without = int((expected == 0).sum())
    if without:
        raise UsageError(f"expected: {without} of zero, against which nothing can be compared")
    parts = [ordered.clear().with_columns(pl.lit(None, pl.Float64).alias("z"))]
    start = 0
    for part in ordered.partition_by("month", maintain_order=True):
        rows = slice(start, start + part.height)
        start += part.height
        deaths = float(observed[rows].sum())
        if deaths == 0:
            continue
        set_to_month = expected[rows] * (deaths / float(expected[rows].sum()))
        z = standardised_ratio(observed[rows], set_to_month, "cqc").rows["z_od"]
        parts.append(part.with_columns(pl.Series("expected", set_to_month), z.alias("z")))
    return pl.concat(parts).sort("provider", "month")


def z_score_weights(z: ArrayLike, method: AggregateMethod) -> Floats:
    """The weight of each month from its ``z``, a z-score that already allows for over-dispersion.

    Raises :class:`UsageError` for a missing or infinite z-score, or a shift that is not above zero.
    """
    slope, offset = _line(method)
    return slope * _finite(z, "z-scores") - offset


def aggregate_chart(z: ArrayLike, method: AggregateMethod) -> Chart:
    """The chart of monthly z-scores, first month first. Raises :class:`UsageError` as :func:`chart` does."""
    return chart(z_score_weights(z, method), method.threshold, method.reset)


def aggregate_false_alarm_probability(months: int, method: AggregateMethod) -> float:
    """Probability, 0 to 1, of any signal within ``months`` if the z-scores are independent and standard normal.

    They are neither where hospitals differ lastingly for reasons that the model lacks: real charts signal more often.
    A Markov chain (Brook and Evans 1972, Biometrika 59:539) on :data:`AGGREGATE_STEPS` even steps up to the
    threshold. Raises :class:`UsageError` for less than one month or a method that makes no sense.
    """
    slope, offset = _line(method)
    width = _positive(method.threshold) / AGGREGATE_STEPS
    middle = (np.arange(AGGREGATE_STEPS) + 0.5) * width
    start = np.concatenate([[0.0], middle])  # a chart stands at zero itself, or about the middle of a step
    edges = np.arange(AGGREGATE_STEPS + 1) * width
    below = ndtr((edges[None, :] - start[:, None] + offset) / slope)
    moves = np.column_stack([below[:, 0], np.diff(below, axis=1)])
    silent = np.ones(len(start))
    for _ in range(_whole(months)):
        silent = moves @ silent
    return float(np.clip(1 - silent[0], 0.0, 1.0))


def _line(method: AggregateMethod) -> tuple[float, float]:
    """Slope and offset of the weight of a z-score."""
    if not isfinite(method.tolerance):
        raise UsageError("the tolerance of an aggregate chart is a number")
    if method.shift is None:
        return 1.0, method.tolerance
    if not (isfinite(method.shift) and method.shift > 0):
        raise UsageError("the shift an aggregate chart looks for is a number above zero")
    return method.shift, method.shift * (method.tolerance + method.shift / 2)


# the threshold --------------------------------------------------------------------------------------

BIN_LOG_ODDS: Final = 0.2
"""Risks whose log-odds lie in the same fifth are taken together at their mean: a threshold moves by less than
0.01, and any file has at most some eighty different risks."""
CERTAIN_LOG_ODDS: Final = 8.0
"""Beyond log-odds of 8 (a risk of 0.03 %, or of all but that) risks are taken together."""


@dataclass(frozen=True)
class RiskMix:
    """How risk is spread over the cases to come: each of ``risks`` (ascending) with its share of cases.

    Hashable, so that thresholds are remembered by it.
    """

    risks: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, risk: ArrayLike) -> RiskMix:
        """The mix of a column of risks: taken together by log-odds, rounded to four significant figures.

        Raises :class:`UsageError` for no risks at all, or one outside 0 to 1.
        """
        expected = np.ravel(_risks(risk))
        if not len(expected):
            raise UsageError("there are no cases, so there is no risk to compute a threshold for")
        lowest = 1 / (1 + exp(CERTAIN_LOG_ODDS))
        inside = np.clip(expected, lowest, 1 - lowest)
        bins = np.floor(np.log(inside / (1 - inside)) / BIN_LOG_ODDS)
        _, member = np.unique(bins, return_inverse=True)
        size = np.bincount(member)
        mean = np.bincount(member, weights=expected) / size
        share = size / size.sum()
        kept = share >= 0.00005
        return cls(
            tuple(float(f"{value:.4g}") for value in mean[kept]),
            tuple(float(f"{value:.4g}") for value in share[kept]),
        )


def threshold_for(
    mix: RiskMix, cases: int, false_alarm_rate: float = FALSE_ALARM_RATE, odds_ratio: float = ODDS_RATIO
) -> float:
    """The smallest threshold with at most ``false_alarm_rate`` of any signal within ``cases`` in-control cases.

    Never below ``|ln odds_ratio|``: one event alone, however unexpected, is no run. ``cases`` above a thousand
    count as rounded up to three significant figures. Rounded up to four decimals; the same every time, and
    remembered. For :func:`false_alarm_probability` at the result see there.

    Raises :class:`UsageError` for less than one case, a rate outside 0.000001 to 0.5, or an odds ratio that
    :func:`check_odds_ratio` refuses.
    """
    check_odds_ratio(odds_ratio)
    if not 1e-6 <= false_alarm_rate <= 0.5:
        raise UsageError("a false alarm rate lies between 0.000001 and 0.5")
    return _threshold(mix, _rounded_up(_whole(cases)), float(false_alarm_rate), float(odds_ratio))


def false_alarm_probability(
    mix: RiskMix, cases: int, threshold: float, odds_ratio: float = ODDS_RATIO
) -> float:
    """Probability, 0 to 1, of any signal within ``cases`` cases drawn from ``mix`` when the risks are right.

    Starts at zero; a reset after a signal makes no difference to it. Exact but for the grid
    (:func:`_transition`): thresholds come out within 0.02, see the decision. Raises :class:`UsageError` as
    :func:`threshold_for` does.
    """
    power = _transition(mix, _positive(threshold), check_odds_ratio(odds_ratio))
    silent = np.ones(len(power))
    left = _whole(cases)
    # Squaring halves what is left to do and costs as much as a matrix has rows of plain steps.
    while left > len(power):
        if left % 2:
            silent = power @ silent
        power, left = power @ power, left // 2
    for _ in range(left):
        silent = power @ silent
    return float(np.clip(1 - silent[0], 0.0, 1.0))


def average_run_length(mix: RiskMix, threshold: float, odds_ratio: float = ODDS_RATIO) -> float:
    """Mean number of cases from zero to the first signal when the risks are right.

    Raises :class:`UsageError` as :func:`threshold_for` does, and when the chart never signals.
    """
    moves = _transition(mix, _positive(threshold), check_odds_ratio(odds_ratio))
    try:
        length = float(np.linalg.solve(np.eye(len(moves)) - moves, np.ones(len(moves)))[0])
    except np.linalg.LinAlgError:
        length = -1.0
    # Beyond this the matrix is singular to the last bit and the solution means nothing.
    if not 0 < length < 1e12:
        raise UsageError("a chart of these risks practically never signals at this threshold")
    return length


# the parts ------------------------------------------------------------------------------------------

STEPS_PER_LOG_ODDS_RATIO: Final = 14
"""Grid steps within ln R: 0.05 for an odds ratio of 2."""
STEPS_FOR_FEW_RISKS: Final = 35
"""With only a few different risks, chart values fall on few places and the probability climbs in stairs,
which only a finer grid follows: 0.02 for an odds ratio of 2."""
FEW_RISKS: Final = 4
MOST_STEPS: Final = 600
CUBIC: Final = 3


def _transition(mix: RiskMix, threshold: float, odds_ratio: float) -> Floats:
    """Matrix ``A`` such that ``A @ v`` is the expectation of ``v`` after one more case without a signal.

    Chart values from 0 to just below the threshold lie on an even grid and ``v`` is read between its points by
    the cubic through the four nearest. (Rounding to the nearest point, or sharing between two, is the usual
    Markov chain and adds variance at each of thousands of cases: thresholds for risks of 1 % come out 0.1 too
    high at the same grid.) Rows sum to the probability of no signal.
    """
    risk, share = np.array(mix.risks), np.array(mix.shares)
    share = share / share.sum()
    without, with_event = _likelihood_ratios(risk, odds_ratio)
    step = np.concatenate([without, with_event])
    chance = np.concatenate([share * (1 - risk), share * risk])
    fineness = STEPS_FOR_FEW_RISKS if len(risk) <= FEW_RISKS else STEPS_PER_LOG_ODDS_RATIO
    steps = min(max(ceil(threshold * fineness / abs(log(odds_ratio))), 2 * CUBIC), MOST_STEPS)
    width = threshold / steps
    reached = np.arange(steps + 1)[:, None] * width + step
    silent = np.where(reached < threshold - SUM_ROUNDING, chance, 0.0)
    position = np.clip(reached, 0.0, threshold) / width
    start = np.clip(np.floor(position).astype(np.int64) - 1, 0, steps - CUBIC)
    offset = position - start
    cell = np.arange(steps + 1)[:, None] * (steps + 1) + start
    matrix = np.zeros((steps + 1) ** 2)
    for node in range(CUBIC + 1):
        others = [other for other in range(CUBIC + 1) if other != node]
        weight = np.prod([(offset - other) / (node - other) for other in others], axis=0)
        matrix += np.bincount((cell + node).ravel(), weights=(weight * silent).ravel(), minlength=len(matrix))
    return matrix.reshape(steps + 1, steps + 1)


@lru_cache(maxsize=65536)
def _threshold(mix: RiskMix, cases: int, rate: float, odds_ratio: float) -> float:
    lowest = abs(log(odds_ratio))

    def excess(threshold: float) -> float:
        """Above zero while false alarms are too many; logarithms, because they fall exponentially."""
        return log(max(false_alarm_probability(mix, cases, threshold, odds_ratio), 1e-12) / rate)

    if excess(lowest) <= 0:
        return _up(lowest)
    # Each run from zero reaches h with probability exp(-h) at most (the likelihood ratio is a martingale), and
    # there are no more runs than cases: ln(cases / rate) is always enough.
    enough = max(log(cases / rate), lowest)
    low, high = lowest, 2 * lowest
    while high < enough and excess(high) > 0:
        low, high = high, 1.5 * high
    from scipy.optimize import brentq  # loading it takes a second, and few commands need it

    if high >= enough:
        high = enough
        if excess(high) > 0:
            return _up(high)
    return _up(float(brentq(excess, low, high, xtol=0.0005)))


def _up(value: float) -> float:
    return ceil(value * 10_000) / 10_000


def _rounded_up(cases: int) -> int:
    """Above a thousand, up to three significant figures: nearby volumes share one threshold."""
    unit: int = 10 ** max(floor(log10(cases)) - 2, 0) if cases > 1000 else 1
    return -(-cases // unit) * unit


def _likelihood_ratios(risk: Floats, odds_ratio: float) -> tuple[Floats, Floats]:
    """Weights without and with the event."""
    without = -np.log1p((check_odds_ratio(odds_ratio) - 1) * risk) + 0.0  # no negative zero for a risk of 0
    return without, log(odds_ratio) + without


def _risks(risk: ArrayLike) -> Floats:
    expected = numbers(risk, "risk")
    above = int((expected > 1).sum())
    if above:
        raise UsageError(f"risk: {above} above 1", next_step="give risks as probabilities, not percentages")
    return expected


def _finite(values: ArrayLike, what: str) -> Floats:
    try:
        array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError):
        raise UsageError(f"{what}: not every entry is a number") from None
    wrong = int((~np.isfinite(array)).sum())
    if wrong:
        raise UsageError(f"{what}: {wrong} missing or not finite")
    return array


def _positive(threshold: float) -> float:
    if not (isfinite(threshold) and threshold > 0):
        raise UsageError("a threshold is a number above zero")
    return threshold


def _whole(cases: int) -> int:
    if cases < 1:
        raise UsageError("a false alarm rate needs one case at least")
    return int(cases)
