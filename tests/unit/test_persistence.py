"""How long a provider has been beyond its limits on the same side."""

from __future__ import annotations

import random

import polars as pl
import pytest

from schemas.errors import UsageError
from transforms.persistence import SIDES, with_persistence

YEARS = ["2012-13", "2013-14", "2014-15", "2015-16", "2016-17", "2017-18", "2018-19"]
WORDS = {"+": "higher", "-": "lower", "0": "as expected", "?": None}


def series(**providers: str) -> pl.DataFrame:
    """One letter a year: + higher, - lower, 0 as expected, ? not compared, a blank for no value at all."""
    rows = [
        (provider, year, WORDS[letter])
        for provider, letters in providers.items()
        for year, letter in zip(YEARS, letters, strict=False)
        if letter != " "
    ]
    frame = pl.DataFrame(
        rows, schema={"provider": pl.String, "period": pl.String, "band": pl.String}, orient="row"
    )
    return frame.select(
        pl.lit("deaths").alias("indicator"),
        pl.lit("v1").alias("version"),
        pl.lit("all").alias("stratum"),
        pl.all(),
    )


def last_of(frame: pl.DataFrame, provider: str, last: int = 5) -> dict[str, object]:
    return with_persistence(frame, last).filter(provider=provider).sort("period").row(-1, named=True)


def test_a_run_begins_with_the_first_period_on_that_side_without_a_break() -> None:
    found = last_of(series(RXA="0+0+++"), "RXA")
    assert (found["side"], found["beyond_since"], found["periods_in_run"]) == ("above", "2015-16", 3)
    assert (found["periods_beyond"], found["periods_assessed"]) == (4, 5), "of the last five periods"


def test_the_other_side_is_another_run() -> None:
    found = last_of(series(RXA="++--"), "RXA")
    assert (found["side"], found["beyond_since"], found["periods_in_run"]) == ("below", "2014-15", 2)
    assert found["periods_beyond"] == 2, "periods above do not count for below"


def test_a_period_without_a_value_ends_the_run_and_a_period_nobody_has_does_not() -> None:
    found = last_of(series(RXA="++ ++", RXB="00000"), "RXA")
    assert (found["beyond_since"], found["periods_in_run"]) == ("2015-16", 2)
    assert (found["periods_beyond"], found["periods_assessed"]) == (4, 4)
    found = last_of(series(RXA="++ ++", RXB="00 00"), "RXA")
    assert (found["beyond_since"], found["periods_in_run"]) == ("2012-13", 4)


def test_a_value_that_was_not_compared_ends_the_run() -> None:
    found = last_of(series(RXA="++?+"), "RXA")
    assert (found["beyond_since"], found["periods_in_run"], found["periods_assessed"]) == ("2015-16", 1, 3)


def test_within_the_limits_there_is_no_side_and_no_run() -> None:
    found = last_of(series(RXA="++0"), "RXA")
    assert [found[name] for name in ("side", "beyond_since", "periods_in_run", "periods_beyond")] == [
        None
    ] * 4
    assert found["periods_assessed"] == 3


def test_series_do_not_mix() -> None:
    frame = series(RXA="+", RXB="0")
    other = series(RXA=" +").with_columns(stratum=pl.lit("age: old"))
    found = with_persistence(pl.concat([frame, other]))
    assert found["beyond_since"].to_list() == ["2012-13", None, "2013-14"]


def test_it_agrees_with_counting_by_hand_in_any_order_of_rows() -> None:
    rng = random.Random(3)
    letters = {f"R{i}": "".join(rng.choice("++--00? ") for _ in YEARS) for i in range(40)} | {"RZZ": "0" * 7}
    frame = series(**letters).sample(fraction=1, shuffle=True, seed=5)
    found = with_persistence(frame, last=3)
    assert found.select(frame.columns).equals(frame), "rows and columns keep their order"
    for row in found.iter_rows(named=True):
        here = YEARS.index(row["period"])
        past = letters[row["provider"]][: here + 1]
        mark = {"above": "+", "below": "-", None: None}[row["side"]]
        assert row["side"] == SIDES.get(str(row["band"])), "the side follows the band"
        if mark is None:
            assert row["beyond_since"] is None, "no run within the limits"
            continue
        run = len(past) - len(past.rstrip(mark))
        assert row["periods_in_run"] == run, f"the run of {past!r}"
        assert row["beyond_since"] == YEARS[here - run + 1]
        assert row["periods_beyond"] == past[-3:].count(mark), f"of the last three of {past!r}"
        assert row["periods_assessed"] == sum(letter in "+-0" for letter in past[-3:])


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError):
        with_persistence(series(RXA="+"), last=0)
    with pytest.raises(UsageError):
        with_persistence(pl.concat([series(RXA="+"), series(RXA="+")]))


def test_no_values_give_no_rows_and_all_columns() -> None:
    found = with_persistence(series())
    assert found.height == 0
    assert found.columns[-1] == "periods_assessed"
