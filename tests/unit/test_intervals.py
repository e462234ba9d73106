"""Confidence intervals agree with published worked examples and with an independent implementation."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import poisson
from statsmodels.stats.proportion import proportion_confint  # type: ignore[import-untyped]

from schemas.errors import UsageError
from transforms.intervals import binomial_exact, byar, normal_deviate, poisson_exact, wilson

# PHEindicatormethods, test data for Byar's and Wilson's method (testdata_B_W): count, denominator, limits.
BYAR_EXAMPLES = [
    (65, 0.95, 50.163187710459454, 82.84913854593984),
    (1045, 0.95, 982.5932018073325, 1110.33121298565),
    (1, 0.95, 0.01307213290150435, 5.5637555824752605),
    (65, 0.998, 42.8802614714802, 94.00029084431802),
    (1045, 0.998, 947.9407035610374, 1148.806160988033),
    (10, 0.998, 2.916318374695686, 24.193724927880535),
]
WILSON_EXAMPLES = [
    (65, 100, 0.95, 0.5525444329688797, 0.7363575175690247),
    (1045, 5000, 0.95, 0.19795549880013297, 0.22049130373189027),
    (0.445, 1, 0.95, 0.04381744772058822, 0.9334621276979156),
    (65, 100, 0.998, 0.4954946574070431, 0.7783540614089697),
    (1045, 5000, 0.998, 0.19179381799015244, 0.22731562902525818),
    (0.445, 1, 0.998, 0.019347006132900975, 0.9702259947019541),
]
FIXTURE = Path(__file__).parents[2].parent / "shared/data/intervals/testdata_Byars_Wilson__testdata_B_W.csv"


@pytest.mark.parametrize(("count", "level", "lower", "upper"), BYAR_EXAMPLES)
def test_byar_gives_the_published_limits(count: float, level: float, lower: float, upper: float) -> None:
    limits = byar(count, level)
    assert limits.lower == pytest.approx(lower, rel=1e-12)
    assert limits.upper == pytest.approx(upper, rel=1e-12)


@pytest.mark.parametrize(("count", "of", "level", "lower", "upper"), WILSON_EXAMPLES)
def test_wilson_gives_the_published_limits(
    count: float, of: float, level: float, lower: float, upper: float
) -> None:
    limits = wilson(count, of, level)
    assert limits.lower == pytest.approx(lower, rel=1e-12)
    assert limits.upper == pytest.approx(upper, rel=1e-12)


@pytest.mark.skipif(not FIXTURE.exists(), reason="file under ../shared not present")
def test_every_row_of_the_published_file_is_met() -> None:
    with FIXTURE.open(encoding="utf-8-sig") as stream:
        rows = [row for row in csv.DictReader(stream) if row["x"]]
    assert len(rows) == 13, "the file holds thirteen examples"
    for row in rows:
        level = float(row["confidence"].rstrip("%")) / 100
        x = float(row["x"])
        limits = wilson(x, float(row["n"]), level) if row["method"] == "Wilson" else byar(x, level)
        assert limits.upper == pytest.approx(float(row["uppercl"]), rel=1e-12), row
        # One event at 99.8 %: the file leaves the lower limit empty, the approximation is below zero there.
        expected = float(row["lowercl"]) if row["lowercl"] else 0.0
        assert limits.lower == pytest.approx(expected, rel=1e-12), row


def test_wilson_and_exact_binomial_agree_with_statsmodels() -> None:
    x = np.array([0, 1, 5, 17, 99, 100])
    n = np.full(6, 100)
    for level in (0.95, 0.998):
        lower, upper = proportion_confint(x, n, alpha=1 - level, method="wilson")
        ours = wilson(x, n, level)
        assert np.allclose(ours.lower, lower, atol=1e-12)
        assert np.allclose(ours.upper, upper, atol=1e-12)
        lower, upper = proportion_confint(x, n, alpha=1 - level, method="beta")
        exact = binomial_exact(x, n, level)
        assert np.allclose(exact.lower, np.nan_to_num(lower), atol=1e-12)
        assert np.allclose(exact.upper, np.where(np.isnan(upper), 1.0, upper), atol=1e-12)


def test_the_exact_poisson_limits_leave_exactly_the_tail_outside() -> None:
    count = np.array([1, 3, 10, 250])
    for level in (0.95, 0.998):
        limits = poisson_exact(count, level)
        assert np.allclose(poisson.sf(count - 1, limits.lower), (1 - level) / 2), "P(at least x) at the lower"
        assert np.allclose(poisson.cdf(count, limits.upper), (1 - level) / 2), "P(at most x) at the upper"


def test_no_events_have_a_lower_limit_of_zero_and_an_upper_limit() -> None:
    assert poisson_exact(0).lower == 0
    assert poisson_exact(0).upper == pytest.approx(3.688879, abs=1e-6)  # -ln(0.025)
    assert byar(0).lower == 0
    assert wilson(0, 10).lower == 0
    assert wilson(10, 10).upper == 1
    assert binomial_exact(0, 10).upper == pytest.approx(1 - 0.025 ** (1 / 10))


def test_the_two_levels_are_two_and_three_standard_deviations_or_so() -> None:
    assert normal_deviate(0.95) == pytest.approx(1.959964, abs=1e-6)
    assert normal_deviate(0.998) == pytest.approx(3.090232, abs=1e-6)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: wilson(1, 0),
        lambda: wilson(3, 2),
        lambda: wilson(-1, 5),
        lambda: wilson([1.0, float("nan")], [5, 5]),
        lambda: wilson([1, None], [5, 5]),  # type: ignore[arg-type]
        lambda: wilson(["a"], [5]),
        lambda: wilson(1, 5, level=1.0),
        lambda: binomial_exact(1.5, 5),
        lambda: poisson_exact(-0.1),
        lambda: byar(float("inf")),
    ],
)
def test_numbers_that_make_no_sense_are_refused_and_never_become_a_limit(ask: object) -> None:
    with pytest.raises(UsageError):
        ask()  # type: ignore[operator]
