"""The charts are those of the worked examples, and thresholds keep the false alarm rate they state."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta

from infra.aggregate_charts import aggregate_rule
from infra.compute import load_indicator
from schemas.errors import UsageError
from sql import INDICATOR_FOLDER
from transforms.cusum import (
    AggregateMethod,
    Alert,
    Reset,
    RiskMix,
    aggregate_chart,
    aggregate_false_alarm_probability,
    average_run_length,
    case_weights,
    chart,
    false_alarm_probability,
    threshold_for,
    z_score_weights,
)

pytestmark = pytest.mark.thorough

# What the talk's slides say of the aggregate chart; the definition of the indicator states the same.
AGGREGATE = AggregateMethod(threshold=5.48, tolerance=0.5)

SHARED = Path(__file__).parents[2].parent / "shared/data/cusum"

# Public slides and data of a talk at the Royal Statistical Society, 2019 (repository RSS_2019_FunnelPlot_CUSUMs,
# cusum_pers.csv): 100 made-up patients, odds ratio 2, threshold 6.3, reset to half after the alert at patient 72.
DIED = "0000101001100100000101010001000111101010000111101110010000110101000011110100100000010010000001000000"
RISKS = (
    0.2, 0.22, 0.1, 0.13, 0.05, 0.25, 0.3, 0.1, 0.05, 0.32, 0.2, 0.1, 0.12, 0.04, 0.35,
    0.24, 0.16, 0.45, 0.02, 0.5, 0.21, 0.6, 0.6, 0.1, 0.5, 0.23, 0.02, 0.65, 0.35, 0.12,
    0.28, 0.1, 0.15, 0.45, 0.63, 0.4, 0.32, 0.5, 0.65, 0.05, 0.2, 0.22, 0.1, 0.13, 0.05,
    0.25, 0.3, 0.1, 0.05, 0.32, 0.2, 0.1, 0.12, 0.04, 0.35, 0.24, 0.16, 0.45, 0.02, 0.5,
    0.21, 0.6, 0.6, 0.1, 0.5, 0.23, 0.02, 0.65, 0.35, 0.12, 0.28, 0.1, 0.15, 0.45, 0.63,
    0.4, 0.32, 0.5, 0.65, 0.25, 0.2, 0.32, 0.3, 0.55, 0.2, 0.35, 0.45, 0, 0.55, 0.33,
    0.42, 0.25, 0.5, 0.65, 0.25, 0.45, 0.36, 0.32, 0.42, 0.25,
)  # fmt: skip
VALUES = (
    0, 0, 0, 0, 0.644357016, 0.421213465, 0.851996381, 0.756686201, 0.707896037,
    1.123411481, 1.634237105, 1.538926925, 1.42559824, 2.079524707, 1.779420115, 1.564308735, 1.41588873, 1.044325174,
    1.024522546, 1.312204619, 1.121584259, 1.34472781, 0.874724181, 1.472561182, 1.067096074, 0.860081904, 0.840279277,
    1.03265117, 0.732546577, 0.619217892, 0.372357814, 0.970194815, 1.523580053, 1.845163677, 2.049730843, 1.713258606,
    2.12877405, 1.723308942, 1.915680835, 1.866890671, 1.684569114, 1.485718255, 1.390408075, 1.961337623, 2.60569464,
    3.075698269, 3.506481185, 3.411171005, 4.055528021, 4.471043465, 4.981869089, 4.886558909, 4.773230224, 5.427156691,
    5.127052099, 4.911940719, 4.763520714, 4.391957158, 5.065301711, 5.352983784, 5.162363424, 5.385506975, 4.915503346,
    5.513340347, 5.107875239, 4.900861069, 4.881058442, 4.380283154, 4.773325742, 5.353144237, 5.79943134, 6.397268341,
    3.752019409, 4.073603033, 3.585023018, 3.248550782, 3.664066226, 3.258601118, 2.75782583, 2.534682278, 2.352360722,
    2.074728985, 1.81236472, 2.06725697, 1.884935413, 1.584830821, 1.906414445, 1.906414445, 1.468159514, 1.182980572,
    0.8323237, 0.609180149, 0.203715041, 0.396086933, 0.172943382, 0, 0, 0, 0,
    0,
)  # fmt: skip
PERSON_THRESHOLD = 6.3
# The example contradicts itself here: the patient lived, and the chart takes the weight of a death.
WRONG_PATIENT = 73
PRINTED = 2e-8  # nine decimals, added up a hundred times

# The same talk, cusum_agg.csv: 24 months of weights, threshold 5.48, reset to zero after the alert of month 17.
MONTHLY_WEIGHTS = (
    0.2, -1, 0.25, -1, -1, -0.42, 1, 0.5, 0.75, -0.8, -0.2, 1.2,
    0.5, 1.4, -0.5, 1.25, 0.5, 0.2, 0.5, 1.5, -0.6, -1, -0.65, 0,
)  # fmt: skip
MONTHLY_VALUES = (
    0.2, 0, 0.25, 0, 0, 0, 1, 1.5, 2.25, 1.45, 1.25, 2.45,
    2.95, 4.35, 3.85, 5.1, 5.6, 0.2, 0.7, 2.2, 1.6, 0.6, 0, 0,
)  # fmt: skip

# Thresholds for a false alarm probability of 0.1 % within N cases of one risk, odds ratio 2, found by listing
# every possible (deaths, survivors) since the last zero, as `exactly` below does; no grid, no simulation.
RISKS_OF_TABLE = (0.01, 0.02, 0.05, 0.10, 0.20, 0.30)
EXACT = {
    100: (2.9683, 3.7828, 5.0002, 5.9783, 6.8248, 7.1286),
    250: (4.1223, 5.1494, 6.6135, 7.6415, 8.4047, 8.6994),
    500: (5.1900, 6.3382, 7.8281, 8.7416, 9.3903, 9.6424),
    1000: (6.3907, 7.5661, 8.8896, 9.6602, 10.2329, 10.4650),
    2000: (7.6072, 8.6562, 9.7826, 10.4662, 11.0031, 11.2290),
}
# The table this project started from (its design notes on statistics, section 3), computed some other way.
EARLIER = {
    100: (2.97, 3.78, 5.00, 5.98, 6.81, 7.13),
    250: (4.12, 5.15, 6.61, 7.64, 8.42, 8.69),
    500: (5.20, 6.36, 7.84, 8.75, 9.40, 9.64),
    1000: (6.42, 7.57, 8.89, 9.66, 10.23, 10.47),
    2000: (7.67, 8.69, 9.79, 10.48, 11.03, 11.25),
}
CELLS = [(cases, risk) for cases in EXACT for risk in RISKS_OF_TABLE]


def died() -> NDArray[np.int64]:
    return np.array([int(outcome) for outcome in DIED])


def one_risk(risk: float) -> RiskMix:
    return RiskMix((risk,), (1.0,))


# the worked examples --------------------------------------------------------------------------------


def test_the_person_example_is_met_up_to_its_contradiction() -> None:
    made = chart(case_weights(died(), RISKS), PERSON_THRESHOLD, "half").rows
    before = WRONG_PATIENT - 1
    assert made["cusum"][:before].to_list() == pytest.approx(VALUES[:before], abs=PRINTED)
    assert made["signal"].arg_true().to_list() == [71], "one signal, at patient 72"


def test_the_person_example_is_met_throughout_once_patient_73_is_taken_as_it_was_charted() -> None:
    outcome = died()
    assert outcome[WRONG_PATIENT - 1] == 0
    outcome[WRONG_PATIENT - 1] = 1
    made = chart(case_weights(outcome, RISKS), PERSON_THRESHOLD, "half").rows
    assert made["cusum"].to_list() == pytest.approx(VALUES, abs=PRINTED)


def test_the_contradiction_of_the_person_example_is_one_death_and_nothing_else() -> None:
    ours = np.array(chart(case_weights(died(), RISKS), PERSON_THRESHOLD, "half").rows["cusum"].to_list())
    difference = np.array(VALUES) - ours
    until_zero = slice(WRONG_PATIENT - 1, np.flatnonzero(ours[WRONG_PATIENT:] == 0)[0] + WRONG_PATIENT)
    assert difference[until_zero] == pytest.approx(math.log(2), abs=PRINTED), "a death weighs ln 2 more"
    assert difference[-5:] == pytest.approx(0, abs=PRINTED), "and at zero the two charts meet again"


def test_the_alert_of_the_person_example_rests_on_the_cases_since_the_last_zero() -> None:
    found = chart(case_weights(died(), RISKS), PERSON_THRESHOLD, "half").alerts
    assert [(alert.first, alert.signal, alert.carried) for alert in found] == [(5, 72, 0.0)]
    assert found[0].value == pytest.approx(6.397268341, abs=PRINTED)


def test_the_aggregate_example_is_met_in_every_month() -> None:
    made = chart(MONTHLY_WEIGHTS, AGGREGATE.threshold, AGGREGATE.reset)
    assert made.rows["cusum"].to_list() == pytest.approx(MONTHLY_VALUES, abs=1e-9)
    assert [(alert.first, alert.signal) for alert in made.alerts] == [(7, 17)]
    assert made.alerts[0].value == pytest.approx(5.6)


@pytest.mark.skipif(not SHARED.exists(), reason="file under ../shared not present")
def test_the_figures_here_are_those_of_the_files() -> None:
    with (SHARED / "mainey_person_cusum_example.csv").open(encoding="utf-8-sig") as stream:
        patients = list(csv.DictReader(stream))
    assert "".join(row["Died"] for row in patients) == DIED
    assert tuple(float(row["Risk"]) for row in patients) == RISKS
    assert tuple(float(row["Ct"]) for row in patients) == VALUES
    with (SHARED / "mainey_agg_cusum_example.csv").open(encoding="utf-8-sig") as stream:
        months = list(csv.DictReader(stream))
    assert tuple(float(row["Wt"]) for row in months) == MONTHLY_WEIGHTS
    assert tuple(float(row["Ct"]) for row in months) == MONTHLY_VALUES


# weights --------------------------------------------------------------------------------------------


def test_a_death_weighs_more_the_less_it_was_expected() -> None:
    weight = case_weights([0, 1, 1], [0.2, 0.2, 0.02])
    assert weight == pytest.approx([math.log(1 / 1.2), math.log(2 / 1.2), math.log(2 / 1.02)])


def test_an_odds_ratio_below_one_looks_for_fewer_deaths() -> None:
    alive, dead = case_weights([0, 1], [0.2, 0.2], odds_ratio=0.5)
    assert alive == pytest.approx(math.log(1 / 0.9))
    assert dead == pytest.approx(math.log(0.5 / 0.9))


def test_certain_outcomes_have_a_weight() -> None:
    weight = case_weights([0, 1, 0, 1], [0, 0, 1, 1])
    assert weight == pytest.approx([0, math.log(2), -math.log(2), 0])
    assert math.copysign(1, weight[0]) == 1, "no negative zero, which would be printed as -0.0"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(0.001, 0.999), st.floats(1.1, 50))
def test_when_the_risk_is_right_the_weights_are_a_likelihood_ratio(risk: float, odds_ratio: float) -> None:
    alive, dead = case_weights([0, 1], [risk, risk], odds_ratio)
    assert (1 - risk) * math.exp(alive) + risk * math.exp(dead) == pytest.approx(1)
    assert (1 - risk) * alive + risk * dead < 0, "in control the chart drifts down"


@pytest.mark.parametrize(
    ("outcome", "risk", "odds_ratio", "says"),
    [
        ([0, 2], [0.1, 0.1], 2, "outcome: 1 neither 0 nor 1"),
        ([0, 1], [0.1, 1.1], 2, "risk: 1 above 1"),
        ([0, 1], [-0.1, 0.1], 2, "risk: 1 below zero"),
        ([0, 1], [math.nan, 0.1], 2, "risk: 1 missing"),
        ([0, 1], [0.1], 2, "different lengths"),
        ([0, 1], [0.1, 0.1], 1, "odds ratio"),
        ([0, 1], [0.1, 0.1], 0, "odds ratio"),
        ([0, 1], [0.1, 0.1], math.nan, "odds ratio"),
    ],
)
def test_cases_that_cannot_be_weighed_are_refused(
    outcome: list[float], risk: list[float], odds_ratio: float, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        case_weights(outcome, risk, odds_ratio)


# the chart ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reset", "values", "signals"),
    [
        ("zero", [1, 2, 3, 1, 2], [False, False, True, False, False]),
        ("half", [1, 2, 3, 1.5 + 1, 2.5 + 1], [False, False, True, False, True]),
        ("none", [1, 2, 3, 4, 5], [False, False, True, True, True]),
    ],
)
def test_after_a_signal_the_chart_goes_on_as_asked(
    reset: Reset, values: list[float], signals: list[bool]
) -> None:
    made = chart([1, 1, 1, 1, 1], 3, reset).rows
    assert (made["cusum"].to_list(), made["signal"].to_list()) == (values, signals)


def test_a_second_run_after_a_reset_to_half_says_what_it_carried() -> None:
    assert chart([2, 2, 2, -9, 4], 4, "half").alerts == (
        Alert(first=1, signal=2, carried=0.0, value=4.0),
        Alert(first=3, signal=3, carried=2.0, value=4.0),
        Alert(first=5, signal=5, carried=0.0, value=4.0),  # at zero, what was carried is forgotten
    )


def test_without_a_reset_each_stay_above_the_threshold_is_one_alert() -> None:
    found = chart([3, 1, -2, 1, -9, 3], 3, "none").alerts
    assert [(alert.first, alert.signal) for alert in found] == [(1, 1), (1, 4), (6, 6)]


def test_sums_of_decimal_fractions_reach_zero_and_the_threshold_as_on_paper() -> None:
    assert 0.1 + 0.2 - 0.3 != 0, "why this needs care"
    made = chart([0.1, 0.2, -0.3, 0.7, 0.1], 0.8)
    assert 0.7 + 0.1 < 0.8, "and this"
    assert made.rows["cusum"][2] == 0
    assert [(alert.first, alert.signal) for alert in made.alerts] == [(4, 5)]


def test_a_chart_of_nothing_is_empty() -> None:
    made = chart([], 1)
    assert made.rows.shape == (0, 3)
    assert made.alerts == ()


@pytest.mark.parametrize("threshold", [0, -1, math.nan, math.inf])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match="above zero"):
        chart([1], threshold)


def test_a_missing_weight_and_an_unknown_reset_are_refused() -> None:
    with pytest.raises(UsageError, match="1 missing"):
        chart([1, math.nan], 1)
    with pytest.raises(UsageError, match="zero, half, none"):
        chart([1], 1, "quarter")  # type: ignore[arg-type]


def slow_chart(weights: list[float], threshold: float, reset: str) -> list[tuple[float, bool]]:
    """The definition, written out for each point from the start of its stretch."""
    points: list[tuple[float, bool]] = []
    start, base = 0, 0.0
    for end in range(1, len(weights) + 1):
        stretch = weights[start:end]
        value = max([0.0, *(sum(stretch[begin:]) for begin in range(len(stretch)))])
        value = max(value, base + sum(stretch)) if all_above_zero(base, stretch) else value
        signal = value >= threshold - 1e-9
        points.append((value, signal))
        if signal and reset != "none":
            start, base = end, value / 2 if reset == "half" else 0.0
    return points


def all_above_zero(base: float, stretch: list[float]) -> bool:
    return all(base + sum(stretch[: end + 1]) > 1e-9 for end in range(len(stretch)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(-12, 12).map(lambda eighths: eighths / 8), max_size=40),
    st.sampled_from(["zero", "half", "none"]),
)
def test_the_chart_is_the_largest_sum_of_latest_weights(weights: list[float], reset: Reset) -> None:
    made = chart(weights, 3, reset)
    expected = slow_chart(weights, 3, reset)
    assert made.rows["cusum"].to_list() == pytest.approx([value for value, _ in expected], abs=1e-8)
    assert made.rows["signal"].to_list() == [signal for _, signal in expected]
    for first, signal, carried, value in made.alerts:
        assert carried + sum(weights[first - 1 : signal]) == pytest.approx(value, abs=1e-8), (
            "the run, with what it carried, adds up to the value of the alert"
        )


# the aggregate chart --------------------------------------------------------------------------------


def test_a_month_adds_what_lies_beyond_half_a_standard_deviation() -> None:
    assert z_score_weights([0.5, 2.0, -0.5], AGGREGATE) == pytest.approx([0, 1.5, -1])
    assert aggregate_chart([3.0, 3.0, 3.0], AGGREGATE).alerts[0].signal == 3  # 2.5, 5.0, 7.5 against 5.48


def test_with_a_shift_the_weight_is_the_likelihood_ratio_of_that_shift() -> None:
    method = replace(AGGREGATE, shift=2.0)
    for z in (-1.0, 0.5, 3.0):
        likelihood_ratio = ((z - 0.5) ** 2 - (z - 2.5) ** 2) / 2  # normal, mean 2.5 against mean 0.5
        assert z_score_weights([z], method)[0] == pytest.approx(likelihood_ratio)
    with pytest.raises(UsageError, match="shift"):
        z_score_weights([1], replace(AGGREGATE, shift=0.0))


def test_the_definition_of_the_indicator_states_this_method_and_that_its_weight_is_reconstructed() -> None:
    assert aggregate_rule().method == AGGREGATE
    parameters = load_indicator(INDICATOR_FOLDER / "mortality_aggregate_cusum_v1").metadata.parameters
    status = {parameter.name: parameter.status for parameter in parameters}
    assert (status["tolerance"], status["shift"]) == ("reconstructed", "reconstructed")


@pytest.mark.parametrize(
    ("months", "shift", "probability"), [(12, None, 0.0036), (36, None, 0.0192), (36, 2.0, 0.0015)]
)
def test_a_chart_of_independent_scores_signals_as_often_as_the_decision_says(
    months: int, shift: float | None, probability: float
) -> None:
    found = aggregate_false_alarm_probability(months, replace(AGGREGATE, shift=shift))
    assert found == pytest.approx(probability, abs=0.00005)


# thresholds -----------------------------------------------------------------------------------------


def exactly(risk: float, cases: int, threshold: float) -> float:
    """False alarm probability from every possible (deaths, survivors) since the last zero, one case at a time."""
    alive, dead = -math.log(1 + risk), math.log(2) - math.log(1 + risk)
    chances = {(0, 0): 1.0}
    signalled = 0.0
    for _ in range(cases):
        after: dict[tuple[int, int], float] = defaultdict(float)
        for (deaths, survivors), chance in chances.items():
            for state, share in (((deaths + 1, survivors), risk), ((deaths, survivors + 1), 1 - risk)):
                value = state[0] * dead + state[1] * alive
                if value >= threshold - 1e-9:
                    signalled += chance * share
                else:
                    after[state if value > 1e-12 else (0, 0)] += chance * share
        chances = after
    return signalled


@pytest.mark.parametrize("risk", RISKS_OF_TABLE)
def test_the_exact_thresholds_are_exact(risk: float) -> None:
    threshold = EXACT[100][RISKS_OF_TABLE.index(risk)]
    assert exactly(risk, 100, threshold + 0.0002) <= 0.001 < exactly(risk, 100, threshold - 0.0002)


@pytest.mark.parametrize(("cases", "risk"), CELLS)
def test_thresholds_for_one_risk_are_exact_to_two_hundredths(cases: int, risk: float) -> None:
    column = RISKS_OF_TABLE.index(risk)
    computed = threshold_for(one_risk(risk), cases)
    assert computed == pytest.approx(EXACT[cases][column], abs=0.02)


@pytest.mark.parametrize(("cases", "risk"), CELLS)
def test_thresholds_agree_with_the_earlier_table(cases: int, risk: float) -> None:
    """Within 0.03 everywhere but two cells of rare deaths and many cases, where the earlier table lies above
    the exact threshold (0.06 for 2,000 cases at 1 %)."""
    earlier = EARLIER[cases][RISKS_OF_TABLE.index(risk)]
    allowed = 0.07 if cases == 2000 and risk <= 0.02 else 0.03
    assert threshold_for(one_risk(risk), cases) == pytest.approx(earlier, abs=allowed)


@pytest.mark.parametrize(
    ("risk", "cases", "threshold"), [(0.001, 400, 1.0), (0.02, 300, 3.0), (0.5, 100, 4.0), (0.9, 100, 3.0)]
)
def test_false_alarm_probabilities_of_rare_and_common_events_are_exact_to_a_twentieth(
    risk: float, cases: int, threshold: float
) -> None:
    computed = false_alarm_probability(one_risk(risk), cases, threshold)
    assert computed == pytest.approx(exactly(risk, cases, threshold), rel=0.05)


def heart_surgery(count: int) -> NDArray[np.float64]:
    """Risks of the published cardiac surgery model, Parsonnet score 71 times a Beta(1, 3): even quantiles."""
    score = 71 * beta.ppf((np.arange(count) + 0.5) / count, 1, 3)
    return np.asarray(1 / (1 + np.exp(-(-3.6798 + 0.0768 * score))), dtype=np.float64)


def test_the_average_run_length_is_that_of_another_implementation() -> None:
    """R package vlad, its test of racusum_beta_arl_int(h=4.5, N=70, RA=2, RQ=1, g0=-3.6798, g1=0.0768*71,
    shape1=1, shape2=3, pw=TRUE) = 4485.203, by collocation; 5731.772 for RA=1/2. Its Markov chain of 600
    states (racusum_beta_arl_mc) gives 4474.738."""
    mix = RiskMix.of(heart_surgery(20_000))
    assert average_run_length(mix, 4.5, 2.0) == pytest.approx(4485.203, rel=0.001)
    assert average_run_length(mix, 4.5, 0.5) == pytest.approx(5731.772, rel=0.005)


def test_simulated_providers_without_fault_give_the_stated_rate_of_false_alarms() -> None:
    generator = np.random.default_rng(20260101)
    risks, cases, rate, providers = heart_surgery(500), 300, 0.05, 20_000
    threshold = threshold_for(RiskMix.of(risks), cases, rate)
    level, signalled = np.zeros(providers), np.zeros(providers, dtype=bool)
    for _ in range(cases):
        risk = generator.choice(risks, providers)
        outcome = (generator.random(providers) < risk).astype(float)
        level = np.maximum(level + case_weights(outcome, risk), 0)
        signalled |= level >= threshold
    error = math.sqrt(rate * (1 - rate) / providers)
    assert signalled.mean() == pytest.approx(rate, abs=3 * error)


def test_taking_like_risks_together_hardly_moves_a_threshold() -> None:
    risks = heart_surgery(400)
    each = RiskMix(tuple(risks.tolist()), (1 / len(risks),) * len(risks))
    together = RiskMix.of(risks)
    assert len(together.risks) < 40
    assert threshold_for(together, 1000) == pytest.approx(threshold_for(each, 1000), abs=0.01)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.integers(1, 5000),
    st.sampled_from([0.0001, 0.001, 0.05]),
    st.sampled_from([0.5, 1.5, 2.0, 4.0]),
)
def test_a_threshold_keeps_its_rate_whatever_the_risks(
    risks: list[float], cases: int, rate: float, odds_ratio: float
) -> None:
    mix = RiskMix.of(risks)
    threshold = threshold_for(mix, cases, rate, odds_ratio)
    assert abs(math.log(odds_ratio)) <= threshold <= math.log(1.01 * cases / rate) + 0.001
    # a little over the rate is possible where the probability falls in stairs and the root is on an edge
    assert false_alarm_probability(mix, cases, threshold, odds_ratio) <= 1.1 * rate


def test_a_threshold_rises_with_cases_and_falls_with_the_rate_allowed() -> None:
    mix = RiskMix.of([0.02, 0.1, 0.4])
    by_cases = [threshold_for(mix, cases) for cases in (10, 100, 1000, 10_000, 100_000)]
    assert by_cases == sorted(by_cases)
    assert threshold_for(mix, 1000, 0.01) < threshold_for(mix, 1000, 0.001)


def test_one_event_alone_is_never_an_alert() -> None:
    for risk in (0.0, 0.00001):
        threshold = threshold_for(RiskMix.of([risk]), 2)
        assert not chart(case_weights([1], [risk]), threshold).alerts


def test_nearby_volumes_share_a_threshold_computed_for_the_larger() -> None:
    mix = RiskMix.of([0.1])
    assert threshold_for(mix, 12_301) == threshold_for(mix, 12_399) == threshold_for(mix, 12_400)
    assert threshold_for(mix, 999) <= threshold_for(mix, 1000)


def test_a_mix_is_the_same_whatever_the_order_of_the_cases() -> None:
    assert RiskMix.of([0.3, 0.1, 0.2, 0.1]) == RiskMix.of([0.1, 0.1, 0.2, 0.3])
    assert hash(RiskMix.of([0.3, 0.1])) == hash(RiskMix.of([0.1, 0.3]))


@pytest.mark.parametrize(
    ("cases", "rate", "says"),
    [(0, 0.001, "one case"), (10, 0, "rate"), (10, 0.9, "rate"), (10, math.nan, "rate")],
)
def test_a_threshold_of_nothing_is_refused(cases: int, rate: float, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        threshold_for(RiskMix.of([0.1]), cases, rate)


def test_a_mix_of_no_risks_and_a_chart_that_cannot_signal_are_refused() -> None:
    with pytest.raises(UsageError, match="no cases"):
        RiskMix.of([])
    with pytest.raises(UsageError, match="never signals"):
        average_run_length(RiskMix.of([0.0]), 3)
