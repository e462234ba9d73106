"""CUSUM charts of mortality: who gets one, when it signals, and which run of cases stands behind a signal."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

from infra.cusum_charts import CusumCharts, CusumRule, build_cusum_charts, delay_to_signal
from schemas.errors import UsageError
from schemas.published import declaration
from transforms.assessment import ASSESSMENT, cusum_assessments
from transforms.cusum import case_weights, chart
from transforms.cusum_threshold import risk_shape, threshold_near

FIRST = date(2019, 4, 1)
CHANGE = date(2020, 4, 1)


def connection(cases: pl.DataFrame) -> duckdb.DuckDBPyConnection:
    found = duckdb.connect(":memory:", config={"threads": "2", "python_enable_replacements": "false"})
    found.register("cases", cases)
    found.execute("create table mortality_risk as select * from cases")
    found.execute("create table mortality_group (diagnosis_group bigint, label varchar)")
    found.execute("insert into mortality_group values (73, 'Pneumonia'), (57, 'Acute myocardial infarction')")
    return found


def drawn(cases: pl.DataFrame, **rule: Any) -> CusumCharts:
    return build_cusum_charts(connection(cases), CusumRule(**rule))


def world(seed: int = 5, providers: int = 12, changed: str = "R07", odds_ratio: float = 2.0) -> pl.DataFrame:
    """Two years of pneumonia at ``providers`` hospitals, one a day; at ``changed`` the odds of death rise at CHANGE."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(providers):
        provider = f"R{number:02d}"
        days = [FIRST + timedelta(days=day) for day in range(730)]
        risk = 1 / (1 + np.exp(-rng.normal(-1.6, 0.8, size=len(days))))
        odds = risk / (1 - risk)
        after = np.array([day >= CHANGE for day in days]) & (provider == changed)
        true = np.where(after, odds_ratio * odds / (1 + odds_ratio * odds), risk)
        frames.append(
            pl.DataFrame(
                {
                    "spell_id": [f"{provider}{place:06d}" for place in range(len(days))],
                    "provider": provider,
                    "diagnosis_group": 73,
                    "discharge_date": days,
                    "risk": risk,
                    "died": rng.random(len(days)) < true,
                }
            )
        )
    return pl.concat(frames)


def few(outcomes: str, provider: str = "RXX", group: int = 73) -> pl.DataFrame:
    """One case every ten days with a risk of a fifth: + died, - did not."""
    return pl.DataFrame(
        {
            "spell_id": [f"{provider}{group}{place:04d}" for place in range(len(outcomes))],
            "provider": provider,
            "diagnosis_group": group,
            "discharge_date": [FIRST + timedelta(days=10 * place) for place in range(len(outcomes))],
            "risk": 0.2,
            "died": [letter == "+" for letter in outcomes],
        }
    )


def test_a_hospital_whose_odds_doubled_is_found_within_months_and_the_others_are_not() -> None:
    found = drawn(world())
    assert found.charts["provider"].to_list() == [f"R{n:02d}" for n in range(12)]
    assert found.alerts["provider"].unique().to_list() == ["R07"], "a hospital without a change signalled"
    delay = delay_to_signal(found, "R07", CHANGE).row(0, named=True)
    assert delay["days"] <= 180, "a doubling with one case a day takes months, not a year, to be seen"
    assert delay["deaths"] > 1.3 * delay["expected"]
    assert found.alerts.filter(pl.col("signal_date") < CHANGE).is_empty()


def test_the_chart_is_the_one_that_the_cases_give_one_by_one() -> None:
    cases = world(providers=1, changed="R00", odds_ratio=3.0)
    found = drawn(cases)
    threshold = threshold_near(*risk_shape(cases["risk"].to_numpy()), 730)
    assert found.charts["threshold"].to_list() == [threshold]
    line = chart(case_weights(cases["died"].cast(pl.Float64), cases["risk"]), threshold)
    assert found.alerts.height == len(line.alerts) > 1
    for row, alert in zip(found.alerts.iter_rows(named=True), line.alerts, strict=True):
        run = cases.slice(alert.first - 1, alert.signal - alert.first + 1)
        assert row["cases"] == run.height
        assert row["deaths"] == run["died"].sum()
        assert row["expected"] == pytest.approx(run["risk"].sum())
        assert (row["first_discharge_date"], row["signal_date"]) == (
            run["discharge_date"][0],
            run["discharge_date"][-1],
        )
        assert row["cusum"] == pytest.approx(alert.value)


def test_months_show_deaths_expected_and_the_chart_at_their_end() -> None:
    found = drawn(few("-----++++" + "-" * 20, group=73), minimum_expected=0)
    points = found.points
    assert declaration().table("cusum_point").conform(points, "OFFICIAL SENSITIVE").height == points.height
    assert points["period"].to_list()[:4] == ["2019-04", "2019-05", "2019-06", "2019-07"]
    assert points["observed"].to_list()[:4] == [0, 2, 2, 0], "they died on 21 and 31 May, 10 and 20 June"
    assert points["expected"].to_list()[:4] == pytest.approx([0.6, 0.8, 0.6, 0.6])
    assert points["point"].to_list() == list(range(1, points.height + 1))
    assert points["stratum"][0] == "diagnosis group: 73 Pneumonia"


def test_a_month_with_a_signal_shows_the_value_that_signalled() -> None:
    found = drawn(few("-" * 10 + "+" * 12 + "-" * 8), minimum_expected=0)
    signals = found.points.filter("signal")
    assert signals.height == found.alerts.height > 0
    assert (signals["cusum"] >= signals["threshold"]).all()


def test_cases_of_one_day_are_charted_in_the_order_of_their_ids_whatever_order_they_come_in() -> None:
    cases = world().with_columns(pl.col("discharge_date").dt.truncate("1mo"))
    here, there = drawn(cases), drawn(cases.sample(fraction=1, shuffle=True, seed=3))
    for name in ("charts", "alerts", "points", "states"):
        assert getattr(here, name).equals(getattr(there, name)), f"{name} depend on the order of the rows"


def test_reading_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = pl.concat([world(), few("+" * 30, group=57), few("-" * 30, group=73)])
    whole = drawn(cases)
    monkeypatch.setattr("infra.cusum_charts.BATCH_ROWS", 512)
    pieces = drawn(cases)
    for name in ("charts", "alerts", "points", "states"):
        assert getattr(whole, name).equals(getattr(pieces, name)), f"{name} depend on how the cases are read"
    assert whole.charts.height == 14


def test_a_group_with_hardly_an_expected_death_has_no_chart() -> None:
    cases = pl.concat([few("+" * 5, group=57), few("-" * 25, group=73)])
    found = drawn(cases)
    assert found.charts["diagnosis_group"].to_list() == [73], "one expected death is too few, five are enough"
    assert found.points["stratum"].unique().to_list() == ["diagnosis group: 73 Pneumonia"]


def test_charts_of_a_provider_do_not_run_into_one_another() -> None:
    together = drawn(pl.concat([few("+" * 30, group=57), few("-" * 30, group=73)]))
    alone = drawn(few("-" * 30, group=73))
    assert together.charts.filter(diagnosis_group=73).equals(alone.charts)
    assert together.alerts["diagnosis_group"].unique().to_list() == [57]


def test_after_a_signal_the_chart_goes_on_from_zero_from_half_or_as_it_is() -> None:
    cases = few("+" * 40)
    alerts = {reset: drawn(cases, reset=reset).alerts.height for reset in ("zero", "half", "none")}
    assert alerts["half"] > alerts["zero"] > alerts["none"] == 1


def test_every_chart_says_where_it_stands_in_the_last_month() -> None:
    cases = pl.concat(
        [few("-" * 20 + "+++", group=57), few("+" * 23, group=73), few("-" * 23, provider="RYY")]
    )
    found = drawn(cases, minimum_expected=0)
    states = found.states.filter(period="2019-11")
    assert states.select("provider", "stratum").n_unique() == 3, "each chart has one state in the last month"
    quiet = states.filter(provider="RYY").row(0, named=True)
    assert (quiet["cusum"], quiet["cases"], quiet["observed"], quiet["beyond_since"]) == (0, 0, 0, None)
    rising = states.filter(stratum="diagnosis group: 57 Acute myocardial infarction").row(0, named=True)
    assert (rising["cases"], rising["observed"], rising["beyond_since"]) == (3, 3, "2019-10")
    assessed = cusum_assessments(found.states, {"mortality_cusum": "Deaths, cumulative sum"})
    assert assessed.schema == pl.Schema(ASSESSMENT)
    assert set(assessed["level"]) == {"as expected", "cusum signal"}
    assert (
        assessed.filter(level="cusum signal").height
        == found.alerts.select(
            "provider", "diagnosis_group", pl.col("signal_date").dt.truncate("1mo")
        ).n_unique()
    )


def test_the_tables_that_the_indicator_reads_are_left_in_the_connection() -> None:
    there = connection(world())
    found = build_cusum_charts(there)
    for name, frame in (("cusum_chart", found.charts), ("cusum_alert", found.alerts)):
        assert there.execute(f"select * from {name}").pl().equals(frame), name


def test_no_cases_give_empty_tables() -> None:
    there = connection(few("").cast({"discharge_date": pl.Date}))
    found = build_cusum_charts(there)
    assert (found.charts.height, found.alerts.height, found.points.height, found.states.height) == (
        0,
        0,
        0,
        0,
    )
    assert there.execute("select count(*) from cusum_alert").fetchone() == (0,)


@pytest.mark.parametrize(
    "rule", [{"odds_ratio": 1.0}, {"reset": "never"}, {"minimum_expected": float("nan")}]
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        drawn(few("+-"), **rule)
