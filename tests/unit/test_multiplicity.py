"""Of many providers compared at once some stand out by chance, and the q-value says how many."""

from __future__ import annotations

import polars as pl
import pytest

from schemas.errors import UsageError
from transforms.multiplicity import q_values, two_sided_p, with_q_values


def rows(*entries: tuple[str, str, float | None], period: str = "2019-20") -> pl.DataFrame:
    """Provider, stratum and z of one indicator and period."""
    return pl.DataFrame(
        entries, schema={"provider": pl.String, "stratum": pl.String, "z": pl.Float64}, orient="row"
    ).select(
        pl.lit("deaths").alias("indicator"),
        pl.lit("v1").alias("version"),
        pl.lit(period).alias("period"),
        pl.all(),
    )


def test_a_distance_of_1_96_is_one_chance_in_twenty_on_either_side() -> None:
    assert two_sided_p([1.959964, -1.959964]).tolist() == pytest.approx([0.05, 0.05], abs=1e-6)
    assert two_sided_p([40])[0] >= 0, "a very far provider has no negative chance"


def test_the_q_values_are_those_of_benjamini_and_hochberg() -> None:
    # Four p-values in order: the smallest of p * 4 / rank from each rank on.
    assert q_values([0.01, 0.04, 0.03, 0.8]).tolist() == pytest.approx(
        [0.01 * 4 / 1, 0.04 * 4 / 3, 0.04 * 4 / 3, 0.8]
    )
    assert q_values([]).tolist() == []


def test_one_provider_out_of_a_hundred_at_two_deviations_is_most_likely_chance() -> None:
    frame = rows(*((f"R{i:02d}", "all", 2.0 if i == 7 else 0.5) for i in range(100)))
    found = with_q_values(frame).row(7, named=True)
    assert found["compared"] == 100
    assert found["q_value"] > 0.5, "at two deviations among a hundred, chance explains it"
    alone = with_q_values(frame.slice(7, 1)).row(0, named=True)
    assert alone["q_value"] == pytest.approx(0.0455, abs=1e-4), "alone it is its own p-value"


def test_a_comparison_is_one_dimension_of_one_indicator_in_one_period() -> None:
    frame = pl.concat(
        [
            rows(
                ("RXA", "all", 2.0), ("RXB", "all", 0.0), ("RXA", "age: young", 2.0), ("RXA", "age: old", 0.0)
            ),
            rows(("RXA", "all", 2.0), period="2018-19"),
        ]
    )
    found = with_q_values(frame)
    assert found["compared"].to_list() == [2, 2, 2, 2, 1]
    assert found.drop("q_value", "compared").equals(frame), "rows and columns keep their order"


def test_a_row_that_was_not_compared_has_no_q_value_and_disturbs_none() -> None:
    found = with_q_values(rows(("RXA", "all", 2.0), ("RXB", "all", None)))
    assert found["compared"].to_list() == [1, None]
    assert found["q_value"].to_list() == [pytest.approx(0.0455, abs=1e-4), None]


def test_nothing_compared_gives_no_rows_and_all_columns() -> None:
    found = with_q_values(rows())
    assert found.height == 0
    assert found.columns[-2:] == ["q_value", "compared"]


@pytest.mark.parametrize("wrong", [[float("nan")], [-0.1], [1.1]])
def test_what_is_no_probability_is_refused(wrong: list[float]) -> None:
    with pytest.raises(UsageError):
        q_values(wrong)


def test_a_missing_distance_is_refused() -> None:
    with pytest.raises(UsageError):
        two_sided_p([float("nan")])
