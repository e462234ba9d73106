"""Thresholds read between nodes keep the promise of those computed exactly: not more false alarms than stated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from schemas.errors import UsageError
from transforms.cusum import RiskMix, false_alarm_probability, threshold_for
from transforms.cusum_threshold import mix_of_shape, risk_shape, threshold_near
from transforms.intervals import Floats

RATE = 0.001


def skewed_risks(mean: float, spread: float, seed: int = 1) -> Floats:
    """Risks as patients have them, many low and a few high, with this mean and spread of log-odds."""
    odds = np.random.default_rng(seed).gamma(2.0, size=2000)
    odds = (odds - odds.mean()) / odds.std() * spread
    centre = brentq(lambda c: float(expit(c + odds).mean()) - mean, -30, 30)
    return np.asarray(expit(centre + odds))


@pytest.mark.parametrize(
    ("mean", "spread", "cases"),
    [
        (0.01, 0.6, 700),
        (0.03, 1.5, 300),
        (0.085, 1.2, 560),
        (0.13, 0.3, 955),
        (0.28, 1.0, 2900),
        (0.45, 0.8, 40),
    ],
)
def test_false_alarms_are_at_most_as_many_as_stated_and_not_far_fewer(
    mean: float, spread: float, cases: int
) -> None:
    risks = skewed_risks(mean, spread)
    shape = risk_shape(risks)
    assert shape == pytest.approx((mean, spread), rel=1e-6)
    found = false_alarm_probability(RiskMix.of(risks), cases, threshold_near(*shape, cases))
    assert found <= RATE, "more false alarms than the chart states"
    assert found >= RATE / 5, "the threshold is so high that the chart is all but blind"


def test_at_a_node_it_is_the_exact_threshold_and_the_margin() -> None:
    exact = threshold_for(mix_of_shape(0.128, 0.75), 256)
    assert 0.05 <= threshold_near(0.128, 0.75, 256) - exact < 0.0601


def test_the_threshold_rises_with_volume_and_with_the_rate_being_smaller() -> None:
    rising = [threshold_near(0.1, 0.8, cases) for cases in (30, 100, 300, 1000, 3000)]
    assert rising == sorted(set(rising))
    assert threshold_near(0.1, 0.8, 300, 0.01) < threshold_near(0.1, 0.8, 300, 0.001)


def test_beyond_the_outermost_nodes_it_stays_what_it_is_there() -> None:
    assert threshold_near(0.0, 0.0, 1) == threshold_near(0.0005, 0.25, 16)
    assert threshold_near(1.0, 9.0, 16) == threshold_near(0.8, 1.25, 16)
    assert threshold_near(0.0, 0.0, 1) >= 0.69, "one death alone is no run"


def test_the_mix_of_a_shape_has_that_shape() -> None:
    mix = mix_of_shape(0.05, 0.75)
    assert sum(r * s for r, s in zip(mix.risks, mix.shares, strict=True)) == pytest.approx(0.05, rel=0.01)


@pytest.mark.parametrize(
    ("mean", "spread", "cases"),
    [(-0.1, 1, 10), (1.1, 1, 10), (0.1, -1, 10), (0.1, float("nan"), 10), (0.1, 1, 0)],
)
def test_what_makes_no_sense_is_refused(mean: float, spread: float, cases: int) -> None:
    with pytest.raises(UsageError):
        threshold_near(mean, spread, cases)


@pytest.mark.parametrize("risks", [[], [0.5, 1.5], [-0.1]])
def test_risks_that_are_none_are_refused(risks: list[float]) -> None:
    with pytest.raises(UsageError):
        risk_shape(risks)
