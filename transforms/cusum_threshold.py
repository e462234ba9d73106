"""Thresholds for thousands of CUSUM charts, from a few that are computed exactly.

:func:`transforms.cusum.threshold_for` takes a good part of a second, and a country has one chart per provider and
diagnosis group. What decides a threshold is the mean risk, how far risks are spread, and how many cases there are;
so it is computed at fixed values of the three (a *node*) and read between them, and charts of like risk and volume
share nodes. Errors are on the safe side: the spread is rounded down (a narrower spread needs a higher threshold), the
result is raised by ``MARGIN`` and rounded up to two decimals. ``infra/decisions/0152-mortality-cusum.md`` says what
that costs.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor, log
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, ndtri

from schemas.errors import UsageError
from transforms.cusum import (
    CERTAIN_LOG_ODDS,
    FALSE_ALARM_RATE,
    ODDS_RATIO,
    RiskMix,
    check_odds_ratio,
    threshold_for,
)
from transforms.intervals import Floats, numbers

RISK_NODES: Final = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 0.8)
SPREAD_NODES: Final = (0.25, 0.75, 1.25)
"""Standard deviations of the log-odds of risk."""
CASES_NODES: Final = (16, 64, 256, 1024, 4096, 16384, 65536)
MARGIN: Final = 0.05
"""Thresholds bend between nodes and a straight line lies below them, by up to this much."""
POINTS_OF_A_MIX: Final = 400


def threshold_near(
    mean_risk: float,
    spread: float,
    cases: int,
    false_alarm_rate: float = FALSE_ALARM_RATE,
    odds_ratio: float = ODDS_RATIO,
) -> float:
    """A threshold with at most about ``false_alarm_rate`` of any signal within ``cases`` in-control cases.

    ``mean_risk``: 0 to 1; ``spread``: standard deviation of the log-odds of the risks (:func:`risk_shape`). Values
    beyond the outermost nodes are taken as those. Two decimals, never below ``|ln odds_ratio|``, the same every time.
    Raises :class:`UsageError` as :func:`transforms.cusum.threshold_for` does, and for a risk outside 0 to 1.
    """
    check_odds_ratio(odds_ratio)
    if not 0 <= mean_risk <= 1 or not spread >= 0:
        raise UsageError("a mean risk lies between 0 and 1, and a spread is not negative")
    if cases < 1:
        raise UsageError("a false alarm rate needs one case at least")
    width = SPREAD_NODES[max(sum(node <= spread for node in SPREAD_NODES) - 1, 0)]
    risk_below, risk_part = _between(RISK_NODES, mean_risk)
    cases_below, cases_part = _between(CASES_NODES, cases)
    total = 0.0
    for risk_step, risk_weight in ((0, 1 - risk_part), (1, risk_part)):
        for cases_step, cases_weight in ((0, 1 - cases_part), (1, cases_part)):
            if risk_weight * cases_weight > 0:
                node = _node(
                    RISK_NODES[risk_below + risk_step],
                    width,
                    CASES_NODES[cases_below + cases_step],
                    float(false_alarm_rate),
                    float(odds_ratio),
                )
                total += risk_weight * cases_weight * node
    raised = ceil((total + MARGIN) * 100 - 1e-6) / 100
    return max(raised, ceil(abs(log(odds_ratio)) * 100) / 100)


def risk_shape(risk: ArrayLike) -> tuple[float, float]:
    """Mean of ``risk`` and the standard deviation of its log-odds, for :func:`threshold_near`.

    Raises :class:`UsageError` for no risks at all, or one outside 0 to 1.
    """
    expected = numbers(risk, "risk")
    if not len(expected):
        raise UsageError("there are no cases, so there is no risk to compute a threshold for")
    if (expected > 1).any():
        raise UsageError(f"risk: {int((expected > 1).sum())} above 1")
    lowest = expit(-CERTAIN_LOG_ODDS)
    inside = np.clip(expected, lowest, 1 - lowest)
    return float(expected.mean()), float(np.std(np.log(inside / (1 - inside))))


def mix_of_shape(mean_risk: float, spread: float) -> RiskMix:
    """Risks whose log-odds are normal with standard deviation ``spread`` and whose mean is ``mean_risk``."""
    from scipy.optimize import brentq  # loading it takes a second, and few commands need it

    odds = spread * ndtri((np.arange(POINTS_OF_A_MIX) + 0.5) / POINTS_OF_A_MIX)

    def excess(centre: float) -> float:
        return float(expit(centre + odds).mean()) - mean_risk

    centre = float(brentq(excess, -30.0, 30.0, xtol=1e-10))
    risks: Floats = expit(centre + odds)
    return RiskMix.of(risks)


@lru_cache(maxsize=4096)
def _node(mean_risk: float, spread: float, cases: int, rate: float, odds_ratio: float) -> float:
    return threshold_for(mix_of_shape(mean_risk, spread), cases, rate, odds_ratio)


def _between(nodes: tuple[float, ...], value: float) -> tuple[int, float]:
    """The place of the node below ``value`` and how far it is to the next, 0 to 1, on a log scale."""
    inside = min(max(value, nodes[0]), nodes[-1])
    place = min(sum(node <= inside for node in nodes) - 1, len(nodes) - 2)
    part = log(inside / nodes[place]) / log(nodes[place + 1] / nodes[place])
    # A hair beside a node is the node: the next one need not be computed.
    rounded = floor(part * 1e9 + 0.5) / 1e9
    return place, min(max(rounded, 0.0), 1.0)
