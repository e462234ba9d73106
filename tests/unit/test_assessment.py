"""Values are compared within their own set of providers, and a flag is a question, never a verdict."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from schemas.errors import UsageError
from schemas.published import declaration
from transforms.assessment import (
    ASSESSMENT,
    LEVELS,
    alerts,
    assess,
    assessments,
    cusum_assessments,
    figure,
    funnel_limits,
)
from transforms.funnel import LIMIT_COLUMNS, proportion, standardised_ratio
from transforms.intervals import byar, wilson


def values(rows: list[tuple], indicator: str = "caesarean", **more: object) -> pl.DataFrame:  # type: ignore[type-arg]
    """Rows of provider, numerator, denominator, expected for 2019/20, whole providers."""
    frame = pl.DataFrame(
        rows,
        schema={
            "provider": pl.String,
            "numerator": pl.Int64,
            "denominator": pl.Int64,
            "expected": pl.Float64,
        },
        orient="row",
    )
    return frame.select(
        pl.lit(indicator).alias("indicator"),
        pl.lit("v1").alias("version"),
        pl.lit("2019/20").alias("period"),
        "provider",
        pl.lit("all").alias("stratum"),
        "numerator",
        "denominator",
        "expected",
        *(pl.lit(value).alias(name) for name, value in more.items()),
    )


PROPORTIONS = [(f"RX{i}", n, 1000, None) for i, n in enumerate([200, 210, 190, 205, 195, 199, 201, 320])]
RATIOS = [("RXA", 120, 2000, 100.0), ("RXB", 90, 2000, 95.5), ("RXC", 98, 1900, 101.5)]


def test_a_proportion_gets_wilson_limits_and_the_funnel_of_its_set() -> None:
    found = assess(values(PROPORTIONS))
    numerator = [row[1] for row in PROPORTIONS]
    funnel = proportion(numerator, [1000] * 8)
    assert found["value"].to_list() == [n / 1000 for n in numerator]
    assert found["lower_95"].to_list() == pytest.approx(wilson(numerator, 1000).lower.tolist())
    assert found["upper_998"].to_list() == pytest.approx(wilson(numerator, 1000, 0.998).upper.tolist())
    for column in LIMIT_COLUMNS:
        assert found[column].to_list() == pytest.approx(funnel.rows[column].to_list())
    assert found["z"].to_list() == pytest.approx(funnel.rows["z_od"].to_list())
    assert found["band"].to_list() == ["as expected"] * 7 + ["higher"]
    assert found["alert"].to_list() == [None] * 7 + ["alarm"]


def test_a_standardised_ratio_is_observed_over_expected() -> None:
    found = assess(values(RATIOS))
    assert found["value"].to_list() == pytest.approx([1.2, 90 / 95.5, 98 / 101.5])
    assert found["target"].to_list() == [1, 1, 1]
    funnel = standardised_ratio([120, 90, 98], [100, 95.5, 101.5])
    assert found["od_upper_95"].to_list() == pytest.approx(funnel.rows["od_upper_95"].to_list())
    assert found["lower_95"][0] == pytest.approx(byar(120).lower / 100)


def test_a_rate_is_given_per_so_many() -> None:
    found = assess(values([("RXA", 4, 1000, None), ("RXB", 8, 2000, None)], measure="rate", per=1000))
    assert found["value"].to_list() == [4, 4]
    assert found["target"].to_list() == pytest.approx([4, 4])
    # four events expected: chi-squared quantile 0.999 at 10 degrees of freedom, halved, is 14.794
    assert found["funnel_upper_998"][0] == pytest.approx(14.794, abs=1e-3), "limits are on the same scale"


def test_a_bare_count_is_compared_with_nothing() -> None:
    found = assess(values([("RXA", 16, None, None), ("RXB", 3, None, None)], measure="count"))
    assert found["value"].to_list() == [16, 3]
    assert found["upper_95"][0] == pytest.approx(byar(16).upper)
    assert found["band"].to_list() == [None, None]
    assert found["target"].to_list() == [None, None]
    assert funnel_limits(values([("RXA", 16, None, None)], measure="count")).is_empty()


def test_a_row_that_cannot_be_assessed_stays_and_does_not_disturb_the_others() -> None:
    rows = [("RXA", 10, 100, None), ("RXB", 0, 0, None), ("RXC", None, 50, None), ("RXD", 20, 100, None)]
    found = assess(values(rows))
    assert found["provider"].to_list() == ["RXA", "RXB", "RXC", "RXD"], "rows keep their order"
    assert found["value"].to_list() == [0.1, None, None, 0.2]
    assert found["band"].to_list()[1:3] == [None, None]
    alone = assess(values([rows[0], rows[3]]))
    assert found["z"].to_list()[0] == alone["z"].to_list()[0]


def test_every_set_of_providers_is_compared_on_its_own() -> None:
    other = values(RATIOS, indicator="mortality")
    both = assess(pl.concat([values(PROPORTIONS), other]))
    assert both.filter(indicator="mortality").equals(assess(other))


def test_only_the_side_that_matters_asks_a_question() -> None:
    low = [(f"RX{i}", n, 1000, None) for i, n in enumerate([200, 210, 190, 205, 195, 199, 201, 90])]
    for direction, level in (
        ("lower_is_better", None),
        ("higher_is_better", "alarm"),
        ("neutral", "alarm"),
    ):
        found = assess(values(low, direction=direction))
        assert found["alert"][7] == level, direction
        assert found["band"][7] == "lower", "the band says where it lies, whatever the direction"


def test_very_few_events_never_raise_an_alert() -> None:
    rows = [(f"RX{i}", 20, 1000, None) for i in range(6)] + [("RXT", 1, 1, None), ("RXF", 4, 10, None)]
    assert assess(values(rows))["alert"].drop_nulls().to_list() == []


def test_on_the_high_side_the_events_seen_have_to_be_five_and_on_the_low_side_those_expected() -> None:
    peers = [(f"RX{i}", 100 + i % 3, 1000, 100.0) for i in range(12)]
    found = assess(values([*peers, ("RXF", 4, 50, 0.2), ("RXV", 1, 500, 20.0)], direction="neutral"))
    alert = dict(zip(found["provider"], found["alert"], strict=True))
    assert (alert["RXF"], alert["RXV"]) == (None, "alarm")


def test_a_sentence_names_the_limits_and_not_a_number_of_standard_deviations() -> None:
    """A value at 1.97 is beyond the 95 % limits and not more than two standard deviations away."""
    peers = [(f"RX{i}", 100, 1000, 100.0) for i in range(12)]
    row = alerts(assess(values([*peers, ("RXA", 122, 1000, 100.0)]))).row(0, named=True)
    assert 1.96 < row["z"] < 2
    assert "beyond the 95 % limits on the high side; a variation" in row["sentence"]


def test_an_indicator_that_has_no_interval_gets_none() -> None:
    """Codes per spell are no Poisson counts, and the number of charts with an alert is no sample."""
    for measure in ("rate", "count", "proportion"):
        usual = assess(values(PROPORTIONS, measure=measure, interval_method="byar"))
        without = assess(values(PROPORTIONS, measure=measure, interval_method="none"))
        limits = ["lower_95", "upper_95", "lower_998", "upper_998"]
        assert usual.select(limits).null_count().sum_horizontal()[0] == 0
        assert without.select(limits).null_count().sum_horizontal()[0] == 4 * len(PROPORTIONS)
        assert without.drop(*limits, "interval_method").equals(usual.drop(*limits, "interval_method"))


def test_an_alert_is_one_plain_sentence_and_no_verdict() -> None:
    found = alerts(assess(values(PROPORTIONS)), {"caesarean": "Caesarean births"})
    assert found.height == 1
    assert found["sentence"][0] == (
        "Caesarean births, 2019/20: provider RX7 has 32.0 % against 21.5 % for all providers, "
        "beyond the 99.8 % limits on the high side; a variation to be asked about."
    )
    for word in ("fail", "poor", "unsafe", "bad", "worst", "outlier"):
        assert word not in found["sentence"][0].lower()
    others = [(f"RY{i}", 95 + i, 2000, 100.0) for i in range(11)]
    ratio = alerts(assess(values([*others, ("RXD", 400, 2000, 100.0)])))
    assert "400 observed against 100 expected (ratio 4.00)" in ratio["sentence"][0]


def test_the_farthest_comes_first() -> None:
    rows = [
        (f"RX{i}", n, 1000, None) for i, n in enumerate([200, 210, 190, 205, 195, 199, 201, 198, 320, 400])
    ]
    assert alerts(assess(values(rows)))["provider"].to_list()[0] == "RX9"


def test_every_provider_that_was_compared_has_a_row_and_those_that_ask_stand_in_both_tables() -> None:
    rows = [*PROPORTIONS, ("RXN", 0, 0, None)]
    found = assessments(assess(values(rows)))
    assert set(found["provider"]) == {row[0] for row in PROPORTIONS}, "RXN could not be compared with anybody"
    assert found["level"].to_list() == ["alarm"] + ["as expected"] * 7
    assert found["sentence"].null_count() == 7, "a question is put only where there is one"
    asked = alerts(assess(values(rows)))
    assert asked.equals(found.filter(pl.col("level") != "as expected"))
    for name, frame in (("assessment", found), ("alert", asked)):
        assert declaration().table(name).conform(frame, "OFFICIAL SENSITIVE").height == frame.height
        assert {column.name for column in declaration().table(name).declared} == set(ASSESSMENT)


def test_a_row_carries_the_numbers_that_explain_it() -> None:
    assessed = assess(values(PROPORTIONS))
    row = assessments(assessed).row(0, named=True)
    source = assessed.filter(provider="RX7").row(0, named=True)
    for name in (
        "numerator",
        "denominator",
        "expected",
        "value",
        "target",
        "z",
        "od_lower_95",
        "od_upper_998",
    ):
        assert row[name] == source[name], name
    assert (row["side"], row["compared"], row["note"]) == ("above", 8, None)
    assert row["q_value"] < 0.05, "at this distance chance alone is no explanation"


def test_a_value_beyond_its_limits_that_is_not_flagged_says_why() -> None:
    low = [(f"RX{i}", n, 1000, None) for i, n in enumerate([200, 210, 190, 205, 195, 199, 201, 90])]
    found = (
        assessments(assess(values(low, direction="lower_is_better")))
        .filter(provider="RX7")
        .row(0, named=True)
    )
    assert (found["level"], found["side"]) == ("as expected", "below")
    assert found["note"] == "beyond the limits on the side that asks no question"
    few = [(f"RX{i}", 20, 1000, None) for i in range(6)] + [("RXF", 4, 10, None)]
    found = assessments(assess(values(few))).filter(provider="RXF").row(0, named=True)
    assert found["note"] == "beyond the limits with fewer than 5 events seen"
    few = [(f"RX{i}", 300, 1000, None) for i in range(12)] + [("RXF", 0, 15, None)]
    found = assessments(assess(values(few, direction="neutral"))).filter(provider="RXF").row(0, named=True)
    assert (found["level"], found["side"]) == ("as expected", "below")
    assert found["note"] == "beyond the limits with fewer than 5 events expected"


def test_a_provider_that_stays_beyond_its_limits_is_said_to() -> None:
    years = [
        values(PROPORTIONS).with_columns(period=pl.lit(year)) for year in ("2017/18", "2018/19", "2019/20")
    ]
    row = alerts(assess(pl.concat(years))).filter(period="2019/20").row(0, named=True)
    assert (row["beyond_since"], row["periods_in_run"]) == ("2017/18", 3)
    assert (row["periods_beyond"], row["periods_assessed"]) == (3, 3)
    assert "99.8 % limits on the high side, for 3 periods in a row now; a variation" in row["sentence"]


def points(**more: object) -> pl.DataFrame:
    """Two months of one chart: the second reaches its threshold."""
    return pl.DataFrame(
        {
            "indicator": ["mortality_cusum"] * 2,
            "version": ["v1"] * 2,
            "period": ["2016-01", "2016-02"],
            "provider": ["RXX"] * 2,
            "stratum": ["group: 2 Septicaemia"] * 2,
            "observed": [20, 46],
            "expected": [15.0, 27.8],
            "cusum": [2.0, 7.1],
            "threshold": [6.5, 6.5],
            "cases": [200, 380],
            "beyond_since": ["2015-10", "2015-03"],
        }
    ).with_columns(pl.lit(value).alias(name) for name, value in more.items())


def test_a_cusum_signal_comes_in_as_a_level_of_its_own() -> None:
    found = cusum_assessments(points(), {"mortality_cusum": "Deaths, cumulative sum"})
    assert found["level"].to_list() == ["as expected", "cusum signal"]
    row = found.row(1, named=True)
    assert row["sentence"] == (
        "Deaths, cumulative sum, 2016-02, group: 2 Septicaemia: provider RXX has 46 observed against 27.8 expected "
        "since 2015-03, and its cumulative sum has reached 7.10 at a threshold of 6.50; "
        "a variation to be asked about."
    )
    assert (row["numerator"], row["denominator"], row["expected"]) == (46, 380, 27.8)
    assert row["value"] == pytest.approx(46 / 27.8)
    assert [row[name] for name in ("z", "q_value", "od_upper_95")] == [None] * 3, "a cumulative sum has none"
    for name in ("assessment", "alert"):
        frame = found if name == "assessment" else found.slice(1)
        assert declaration().table(name).conform(frame, "OFFICIAL SENSITIVE").height == frame.height


def test_charts_and_funnels_stand_in_one_table() -> None:
    assessed = assess(values(PROPORTIONS))
    both = assessments(assessed, charts=points())
    assert both.head(8).equals(assessments(assessed)), (
        "the funnel's rows come first and are as without charts"
    )
    assert set(both["level"]) <= set(LEVELS)
    assert alerts(assessed, charts=points())["level"].to_list() == ["alarm", "cusum signal"]
    assert alerts(assessed, charts=points().clear())["level"].to_list() == ["alarm"]


def test_two_signals_of_a_chart_in_one_month_are_one_row() -> None:
    twice = pl.concat([points().tail(1), points(observed=60).tail(1)], how="vertical_relaxed")
    assert cusum_assessments(twice)["numerator"].to_list() == [60]


def test_a_chart_without_a_run_is_a_signal_all_the_same() -> None:
    found = cusum_assessments(points(expected=0.0).drop("cases", "beyond_since"))
    assert found["value"].to_list() == [None, None], "nothing expected, no ratio"
    assert "46 observed against 0.0 expected, and its" in str(found["sentence"][1])


@pytest.mark.parametrize(
    "wrong",
    [points().drop("threshold"), points(cusum=float("nan")), points(observed=-1), points(expected=None)],
)
def test_a_chart_that_makes_no_sense_is_refused(wrong: pl.DataFrame) -> None:
    with pytest.raises(UsageError):
        cusum_assessments(wrong)


def test_the_curves_fit_the_published_table() -> None:
    curves = funnel_limits(pl.concat([values(PROPORTIONS), values(RATIOS, indicator="mortality")]))
    table = declaration().table("funnel_limit")
    assert table.conform(curves, "OFFICIAL SENSITIVE").height == 120
    assert curves.filter(indicator="mortality")["denominator"].max() == pytest.approx(101.5 * 1.05)
    assert funnel_limits(values([])).is_empty()


def test_figures_read_as_people_write_them() -> None:
    assert figure(0.1234, "proportion") == "12.3 %"
    assert figure(1.0812, "standardised_ratio") == "1.08"
    assert figure(4.2, "rate", 1000) == "4.20 per 1,000"


@pytest.mark.parametrize(
    "frame",
    [
        values(RATIOS, measure="opinion"),
        values(RATIOS, direction="sideways"),
        values(RATIOS).drop("denominator"),
        values([("RXA", 11, 10, None)]),
        values([("RXA", -1, 10, None)]),
        pl.concat([values(RATIOS, measure="rate"), values([("RXZ", 1, 10, 2.0)], measure="proportion")]),
    ],
)
def test_what_makes_no_sense_is_refused(frame: pl.DataFrame) -> None:
    with pytest.raises(UsageError):
        assess(frame)


def test_no_values_at_all_give_no_rows_and_all_columns() -> None:
    found = assess(values([]))
    assert found.height == 0
    assert {"value", "band", "alert", *LIMIT_COLUMNS} <= set(found.columns)
    assert assessments(found).schema == pl.Schema(ASSESSMENT), "and so has the table made of it"


def test_sites_are_compared_with_each_other() -> None:
    """A site belongs to one provider, so alone in its stratum it would be compared with itself."""
    sites = pl.DataFrame(
        [
            ("shmi", "v1", "2023-24", provider, f"site: {provider}01", observed, 1000.0, 100.0)
            for provider, observed in [("RAA", 100.0), ("RBB", 96.0), ("RCC", 104.0), ("RDD", 170.0)]
        ],
        schema=[
            "indicator",
            "version",
            "period",
            "provider",
            "stratum",
            "numerator",
            "denominator",
            "expected",
        ],
        orient="row",
    )

    together = assess(sites)
    alone = assess(sites.with_columns(pl.lit("all").alias("stratum")))

    assert together["z"].to_list() == alone["z"].to_list()
    assert together["stratum"].to_list() == sites["stratum"].to_list()


def test_what_is_context_raises_no_question_on_either_side() -> None:
    rates = pl.DataFrame(
        [("depth", "v1", "2023-24", f"R{n:02d}", "all", 100.0 + 300.0 * (n == 3), 1000.0) for n in range(12)],
        schema=["indicator", "version", "period", "provider", "stratum", "numerator", "denominator"],
        orient="row",
    )
    asked = {
        direction: assess(rates.with_columns(pl.lit(direction).alias("direction")))["alert"]
        .drop_nulls()
        .len()
        for direction in ("neutral", "context")
    }
    assert asked == {"neutral": 1, "context": 0}


def test_an_alert_says_for_how_long_under_the_code_before_a_merger_too() -> None:
    years = [
        values(PROPORTIONS).with_columns(
            pl.col("provider").replace({"RX7": code}), period=pl.lit(f"{year}-{year % 100 + 1}")
        )
        for year, code in ((2017, "ROLD"), (2018, "ROLD"), (2019, "RNEW"))
    ]
    steps = pl.DataFrame({"predecessor": ["ROLD"], "successor": ["RNEW"], "since": [date(2019, 4, 1)]})
    found = (
        assessments(assess(pl.concat(years)), successions=steps).filter(provider="RNEW").row(0, named=True)
    )
    assert (found["beyond_since"], found["periods_in_run"]) == ("2017-18", 3)
    assert "for 3 periods in a row now" in found["sentence"]
