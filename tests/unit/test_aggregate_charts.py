"""Aggregate CUSUM charts of mortality: who gets one, how soon a change is found, and how often nothing is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from math import sqrt

import duckdb
import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from infra.aggregate_charts import (
    MONTH_SCHEMA,
    AggregateCharts,
    AggregateRule,
    aggregate_rule,
    build_aggregate_charts,
)
from schemas.errors import UsageError
from schemas.published import declaration
from tests.sql.oracles.mortality_aggregate_cusum_v1 import Month, z_scores
from transforms.assessment import ASSESSMENT, cusum_assessments
from transforms.cusum import aggregate_chart, aggregate_false_alarm_probability, monthly_z_scores

RULE = aggregate_rule()
FIRST = date(2019, 4, 1)
MONTHS = [date(2019 + (3 + n) // 12, (3 + n) % 12 + 1, 1) for n in range(36)]
CHANGE = MONTHS[18]
RISK = 0.2


def connection(spells: pl.DataFrame) -> duckdb.DuckDBPyConnection:
    found = duckdb.connect(":memory:", config={"threads": "2", "python_enable_replacements": "false"})
    found.register("spells", spells)
    found.execute("create table shmi_spell as select * exclude (risk), risk as pattern from spells")
    found.execute("create table mortality_pattern as select distinct risk as pattern, risk from spells")
    return found


def drawn(spells: pl.DataFrame, rule: AggregateRule = RULE) -> AggregateCharts:
    return build_aggregate_charts(connection(spells), rule)


def spells(deaths: Mapping[str, Sequence[int | None]], size: int = 50) -> pl.DataFrame:
    """``size`` spells a month at each provider, each with a risk of a fifth; None for a month without spells."""
    rows = [
        (provider, MONTHS[place].replace(day=1 + number % 28), RISK, number < died)
        for provider, monthly in deaths.items()
        for place, died in enumerate(monthly)
        if died is not None
        for number in range(size)
    ]
    schema = {"provider": pl.String, "discharge_date": pl.Date, "risk": pl.Float64, "died": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def world(seed: int = 3, providers: int = 20, changed: str = "R07", factor: float = 1.5) -> pl.DataFrame:
    """Three years at ``providers`` hospitals with 150 spells a month; at ``changed`` risk rises at CHANGE."""
    rng = np.random.default_rng(seed)
    return spells(
        {
            f"R{number:02d}": [
                int(
                    rng.binomial(
                        150, RISK * (factor if f"R{number:02d}" == changed and month >= CHANGE else 1)
                    )
                )
                for month in MONTHS
            ]
            for number in range(providers)
        },
        size=150,
    )


def counts(observed: dict[str, list[int]], expected: float) -> pl.DataFrame:
    rows = [
        (provider, place, died, expected)
        for provider, monthly in observed.items()
        for place, died in enumerate(monthly)
    ]
    return pl.DataFrame(rows, schema=["provider", "month", "observed", "expected"], orient="row")


# what is found -----------------------------------------------------------------------------------------


def test_a_hospital_at_which_half_as_many_again_die_is_found_within_half_a_year() -> None:
    found = drawn(world())
    signals = found.months.filter("signal")
    first = signals.filter(provider="R07")["month"].min()
    assert isinstance(first, date)
    assert first >= CHANGE
    delay = (first.year - CHANGE.year) * 12 + first.month - CHANGE.month
    assert delay < 6, f"with 30 expected deaths a month it took {delay} months"
    run = found.states.filter(provider="R07", period=f"{first:%Y-%m}").row(0, named=True)
    assert run["observed"] > 1.3 * run["expected"], "the run behind the alert is the excess that was planted"
    assert run["beyond_since"] is not None


def test_the_hospitals_without_a_change_signal_no_more_often_than_the_definition_states() -> None:
    """Twelve worlds of twenty hospitals with nothing planted: the number of charts with a signal lies below what the
    stated probability gives, up to one chance in a thousand."""
    rng = np.random.default_rng(11)
    stated = aggregate_false_alarm_probability(len(MONTHS), RULE.method)
    assert stated == pytest.approx(0.0192, abs=0.0001), "metadata.yaml states 1.9 %, one in 52"
    charts = 240
    deaths = rng.poisson(30.0, size=(charts, len(MONTHS)))
    signalled = 0
    for start in range(0, charts, 20):
        group = {f"R{start + place:03d}": deaths[start + place].tolist() for place in range(20)}
        for one in monthly_z_scores(counts(group, 30.0)).partition_by("provider"):
            signalled += bool(aggregate_chart(one["z"].to_numpy(), RULE.method).alerts)
    assert signalled <= binom.ppf(0.999, charts, stated), f"{signalled} of {charts} charts signalled"


def test_the_stated_probability_is_that_of_independent_normal_scores() -> None:
    rng = np.random.default_rng(5)
    charts = 40_000
    level, silent = np.zeros(charts), np.ones(charts, dtype=np.bool_)
    for _ in MONTHS:
        level = np.maximum(0.0, level + rng.standard_normal(charts) - RULE.method.tolerance)
        silent &= level < RULE.method.threshold
    stated = aggregate_false_alarm_probability(len(MONTHS), RULE.method)
    error = sqrt(stated * (1 - stated) / charts)
    assert 1 - silent.mean() == pytest.approx(stated, abs=4 * error)


def test_lasting_differences_between_hospitals_signal_more_often_as_the_definition_says() -> None:
    """What `what_it_is_not` says: with differences as between trusts and 150 expected deaths, about one in five."""
    rng = np.random.default_rng(8)
    lasting = 150 * np.exp(rng.normal(0, 0.053, size=130))
    group = {f"R{place:03d}": rng.poisson(mean, len(MONTHS)).tolist() for place, mean in enumerate(lasting)}
    scored = monthly_z_scores(counts(group, 150.0)).partition_by("provider")
    share = np.mean([bool(aggregate_chart(one["z"].to_numpy(), RULE.method).alerts) for one in scored])
    assert 0.12 < share < 0.30, "far above the 1.9 % of independent scores"


# how it is counted -------------------------------------------------------------------------------------


def test_a_z_score_is_the_one_worked_out_by_hand() -> None:
    month = {"RAA": (18, 8.0), "RBB": (6, 9.5), "RCC": (0, 7.0), "RDD": (9, 8.5), "REE": (31, 12.0)}
    frame = pl.DataFrame(
        [(provider, 1, observed, expected) for provider, (observed, expected) in month.items()],
        schema=["provider", "month", "observed", "expected"],
        orient="row",
    )
    by_hand = z_scores({provider: Month(*pair) for provider, pair in month.items()})
    scored = monthly_z_scores(frame)
    assert dict(scored.select("provider", "z").iter_rows()) == pytest.approx(by_hand)
    assert scored["expected"].sum() == pytest.approx(64), "as many are expected as died"
    plain = 2 * (sqrt(31) - sqrt(scored.filter(provider="REE")["expected"].item()))
    assert 0 < by_hand["REE"] < plain, "the variation between hospitals makes an excess smaller"


def test_what_happens_to_all_hospitals_at_once_moves_no_chart() -> None:
    winter = {f"R{place:02d}": [10 if month % 6 else 22 for month in range(36)] for place in range(6)}
    found = drawn(spells(winter))
    assert found.months["z"].to_list() == pytest.approx([0.0] * 216)
    assert not found.months["signal"].any()


def test_a_month_without_a_death_anywhere_or_without_spells_is_passed_over() -> None:
    found = drawn(spells({"RAA": [9, 0, None, 12], "RBB": [11, 0, 8, 10]}))
    of = {provider: found.months.filter(provider=provider)["month"].to_list() for provider in ("RAA", "RBB")}
    assert of == {"RAA": [MONTHS[0], MONTHS[3]], "RBB": [MONTHS[0], MONTHS[2], MONTHS[3]]}
    assert found.points["point"].to_list() == [1, 2, 1, 2, 3]


def test_a_provider_that_expects_few_deaths_a_month_has_no_chart_and_is_compared_with_nobody() -> None:
    many = spells({"RAA": [12, 9, 11], "RBB": [8, 11, 9]})
    few = spells({"RCC": [20, 20, 20]}, size=24)
    together, alone = drawn(pl.concat([many, few])), drawn(many)
    assert together.months.equals(alone.months), "24 spells at a fifth are 4.8 expected deaths"
    enough = drawn(pl.concat([many, few]), replace(RULE, minimum_expected=4.0))
    assert enough.months["provider"].unique().sort().to_list() == ["RAA", "RBB", "RCC"]


def test_the_tables_are_those_that_are_published_and_that_the_indicator_reads() -> None:
    there = connection(world())
    found = build_aggregate_charts(there)
    assert there.execute("select * from aggregate_cusum_month").pl().equals(found.months)
    assert found.months.schema == pl.Schema(MONTH_SCHEMA)
    table = declaration().table("cusum_point")
    assert table.conform(found.points, "OFFICIAL SENSITIVE").height == found.points.height == 20 * 36
    assessed = cusum_assessments(found.states, {"mortality_aggregate_cusum": "Deaths, month by month"})
    assert assessed.schema == pl.Schema(ASSESSMENT)
    signals = assessed.filter(level="cusum signal")
    assert signals.height == found.months.filter("signal").height > 0
    assert signals["sentence"].str.ends_with("a variation to be asked about.").all()


def test_every_chart_says_where_it_stands_in_the_last_month() -> None:
    found = drawn(world())
    last = found.states.filter(period=f"{MONTHS[-1]:%Y-%m}")
    assert last["provider"].to_list() == [f"R{number:02d}" for number in range(20)]
    ends = found.months.filter(pl.col("month") == MONTHS[-1])
    for state, end in zip(last.iter_rows(named=True), ends.iter_rows(named=True), strict=True):
        assert state["cusum"] == end["cusum"], "of a chart without a signal in the last month"
        assert (state["beyond_since"] is None) == (end["cusum"] == 0)


def test_the_order_of_the_spells_changes_nothing() -> None:
    cases = world()
    here, there = drawn(cases), drawn(cases.sample(fraction=1, shuffle=True, seed=4))
    for name in ("months", "points", "states"):
        assert getattr(here, name).equals(getattr(there, name)), f"{name} depend on the order of the rows"


def test_no_spells_give_empty_tables() -> None:
    there = connection(spells({}))
    found = build_aggregate_charts(there)
    assert (found.months.height, found.points.height, found.states.height) == (0, 0, 0)
    assert there.execute("select count(*) from aggregate_cusum_month").fetchone() == (0,)


@pytest.mark.parametrize(
    "rule",
    [
        replace(RULE, minimum_expected=0.0),
        replace(RULE, minimum_expected=float("nan")),
        replace(RULE, method=replace(RULE.method, shift=-1.0)),
        replace(RULE, method=replace(RULE.method, threshold=0.0)),
        replace(RULE, method=replace(RULE.method, tolerance=float("nan"))),
        replace(RULE, method=replace(RULE.method, reset="never")),  # type: ignore[arg-type]
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: AggregateRule) -> None:
    with pytest.raises(UsageError):
        drawn(spells({"RAA": [12, 9, 11], "RBB": [8, 11, 9]}), rule)


@pytest.mark.parametrize(
    "wrong",
    [
        {"observed": [3.0, None]},
        {"observed": [3.0, -1.0]},
        {"expected": [5.0, 0.0]},
        {"expected": [5.0, float("inf")]},
        {"provider": ["RAA", "RAA"]},
    ],
)
def test_counts_that_make_no_sense_are_refused(wrong: dict[str, list[object]]) -> None:
    usual = {"provider": ["RAA", "RBB"], "month": [1, 1], "observed": [3.0, 4.0], "expected": [5.0, 2.0]}
    with pytest.raises(UsageError):
        monthly_z_scores(pl.DataFrame({**usual, **wrong}))
