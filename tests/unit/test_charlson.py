"""The Charlson index counts each condition once, and is what the specification's weights make it."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from schemas.shmi_reference import case_mix, charlson
from transforms.case_mix import level
from transforms.charlson import charlson_index

# One code of each condition with its weight, from the table of the specification.
ONE_EACH = {
    "I219": 5, "I639": 11, "I500": 13, "M069": 4, "F03X": 14, "E119": 3, "K703": 8, "K269": 9, "I739": 6, "J449": 4,
    "C509": 8, "E112": -1, "G811": 1, "N189": 10, "C787": 14, "K766": 18, "B24X": 2,
}  # fmt: skip


def index(*codes: str | None, variants: tuple[str, ...] = ()) -> int:
    series = pl.Series([list(codes)], dtype=pl.List(pl.String))
    answer: int = charlson_index(series, charlson().with_variants(variants))[0]
    return answer


@pytest.mark.parametrize(("code", "weight"), ONE_EACH.items())
def test_each_condition_has_its_weight(code: str, weight: int) -> None:
    assert index(code) == max(0, weight)
    assert index("I219", code) == 5 + (weight if code != "I219" else 0)


def test_a_condition_counts_once_however_often_it_is_coded() -> None:
    assert index("I210", "I211", "I252", "I21X") == 5
    assert index("J449", "J449") == 4


def test_a_total_below_zero_is_zero() -> None:
    assert index("E112") == 0
    assert index("E112", "E119") == 3 - 1
    assert index("E112", "G811") == 0


def test_all_conditions_together_make_the_sum_of_the_weights() -> None:
    assert index(*ONE_EACH) == sum(ONE_EACH.values())


def test_what_is_no_code_counts_nothing() -> None:
    assert index() == 0
    assert index(None, "-", "", "R69X", "Z999", "I51") == 0


def test_codes_are_recognised_by_how_they_begin() -> None:
    assert index("M0690") == 4, "a fifth character names the site"
    assert index("F03X") == index("F03") == index("f03.x") == 14
    assert index("E11") == 0, "the category alone does not say which form of diabetes"


def test_the_first_nineteen_secondary_codes_count() -> None:
    filler = ["Z999"] * 18
    assert index(*filler, "I219") == 5
    assert index(*filler, "Z999", "I219") == 0


def test_columns_and_lists_give_the_same() -> None:
    lists = [["I219", "E112"], [], ["C787", None, "C509"], None, ["-"]]
    columns = pl.DataFrame(
        {
            "DIAG_02": ["I219", None, "C787", None, "-"],
            "DIAG_03": ["E112", None, None, None, None],
            "DIAG_04": [None, None, "C509", None, None],
        }
    )
    expected = [4, 0, 22, 0, 0]
    assert charlson_index(pl.Series(lists, dtype=pl.List(pl.String)), charlson()).to_list() == expected
    assert charlson_index(columns, charlson()).to_list() == expected


def test_no_columns_and_no_rows_have_an_answer() -> None:
    assert (
        charlson_index(pl.DataFrame({"DIAG_02": pl.Series([], dtype=pl.String)}), charlson()).to_list() == []
    )
    assert charlson_index(pl.Series([], dtype=pl.List(pl.String)), charlson()).to_list() == []
    assert charlson_index(pl.Series([[], None], dtype=pl.List(pl.String)), charlson()).to_list() == [0, 0]


def test_more_columns_than_count_are_refused() -> None:
    with pytest.raises(UsageError, match="no more than 19"):
        charlson_index(pl.DataFrame({f"DIAG_{place:02}": ["I219"] for place in range(2, 22)}), charlson())


def test_variants_change_only_what_they_say() -> None:
    assert index("E112", "E119", variants=("severe_replaces_mild",)) == 0
    assert index("C787", "C509", variants=("severe_replaces_mild",)) == 14
    assert index("K766", "K703", variants=("severe_replaces_mild",)) == 18
    assert index("C787", "C509", "K766", "K703", variants=("metastatic_replaces_cancer",)) == 14 + 18 + 8
    assert index("E112", variants=("complications_imply_diabetes",)) == 3 - 1
    assert index("C80X", "C509", variants=("unspecified_cancer_is_cancer",)) == 8
    assert index("C80X", "C509") == 14 + 8


@pytest.mark.parametrize(
    ("total", "band"), [(0, "0"), (1, "1-5"), (5, "1-5"), (6, "over 5"), (131, "over 5"), (None, None)]
)
def test_bands_are_none_one_to_five_and_over_five(total: int | None, band: str | None) -> None:
    (factor,) = [factor for factor in case_mix().factors if factor.name == "charlson_band"]
    frame = pl.DataFrame({"charlson_index": [total]}, schema={"charlson_index": pl.Int64})
    assert frame.select(level(factor))["charlson_band"].to_list() == [band]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([*ONE_EACH, "Z999", "-", None]), max_size=8), min_size=1, max_size=6)
)
def test_the_index_is_what_counting_by_hand_gives(rows: list[list[str | None]]) -> None:
    by_hand = [max(0, sum(ONE_EACH.get(code, 0) for code in {*row} if code is not None)) for row in rows]
    assert charlson_index(pl.Series(rows, dtype=pl.List(pl.String)), charlson()).to_list() == by_hand
