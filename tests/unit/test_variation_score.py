"""The score over a provider's comparisons: an alert counts 1, an alarm 2, out of 2 for each indicator that applies."""

from __future__ import annotations

import duckdb
import polars as pl
import pytest

from schemas.published import declaration
from transforms.assessment import ASSESSMENT

VIEW = next(view for view in declaration().views if view.name == "variation_score")


def scores(*rows: dict[str, object], context: tuple[str, ...] = ()) -> dict[str, dict[str, object]]:
    """Provider to its row of the view, over an assessment table with these rows. ``context``: indicators that are."""
    usual = {
        "version": "v1",
        "period": "2019-20",
        "provider": "RXA",
        "stratum": "all",
        "level": "as expected",
    }
    frame = pl.DataFrame([usual | row for row in rows], schema=ASSESSMENT)
    with duckdb.connect(":memory:", config={"python_enable_replacements": "false"}) as connection:
        connection.register("assessment", frame)
        names = frame["indicator"].unique().sort()
        directions = ["context" if name in context else "lower_is_better" for name in names]
        indicators = {"indicator": names, "version": ["v1"] * len(names), "direction": directions}
        connection.register("indicator", pl.DataFrame(indicators))
        connection.register("provider", pl.DataFrame({"code": ["RXA"], "name": ["Hospital A"]}))
        found = connection.execute(VIEW.sql).pl()
    return {row["provider"]: row for row in found.iter_rows(named=True)}


def test_three_alerts_and_four_alarms_of_87_indicators_are_11_of_174() -> None:
    # The worked case that confirms the rule: Lancashire Teaching Hospitals in the published Intelligent Monitoring.
    levels = ["alert"] * 3 + ["alarm"] * 4 + ["as expected"] * 80
    found = scores(*(dict[str, object](indicator=f"i{n}", level=level) for n, level in enumerate(levels)))[
        "RXA"
    ]
    assert (found["score"], found["maximum_score"]) == (11, 174)
    assert (found["indicators"], found["alerts"], found["alarms"]) == (87, 3, 4)
    assert found["provider_name"] == "Hospital A"


def test_only_whole_providers_and_the_latest_period_of_each_indicator_count() -> None:
    found = scores(
        {"indicator": "a", "level": "alarm", "period": "2018-19"},
        {"indicator": "a"},
        {"indicator": "a", "level": "alarm", "stratum": "age: old"},
        {"indicator": "b", "level": "alert", "period": "2018-19"},
        {"indicator": "chart", "level": "cusum signal", "threshold": 5.0},
    )
    assert (found["RXA"]["score"], found["RXA"]["maximum_score"]) == (1, 4)


def test_an_indicator_that_does_not_apply_does_not_raise_the_maximum() -> None:
    found = scores({"indicator": "a"}, {"indicator": "b"}, {"indicator": "a", "provider": "RXB"})
    assert {code: row["maximum_score"] for code, row in found.items()} == {"RXA": 4, "RXB": 2}


@pytest.mark.parametrize("word", ["risk", "worst", "best", "bad", "fail"])
def test_the_score_is_worded_as_variation(word: str) -> None:
    assert word not in VIEW.comment.lower()
    assert "no rating" in VIEW.comment


def test_context_does_not_count() -> None:
    rows: list[dict[str, object]] = [
        {"indicator": name, "level": "alarm"} for name in ("shmi", "depth_of_coding")
    ]
    found = scores(*rows, context=("depth_of_coding",))["RXA"]
    assert (found["score"], found["maximum_score"]) == (2, 2)
