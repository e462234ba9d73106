"""How long a provider has been beyond its limits on the same side."""

from __future__ import annotations

import random
from datetime import date

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


# Mergers --------------------------------------------------------------------------------------------------


def merged(*steps: tuple[str, str, str]) -> pl.DataFrame:
    """Old code, new code, first day of the new one."""
    rows = [(old, new, date.fromisoformat(day)) for old, new, day in steps]
    return pl.DataFrame(
        rows, schema={"predecessor": pl.String, "successor": pl.String, "since": pl.Date}, orient="row"
    )


def last_after(frame: pl.DataFrame, provider: str, *steps: tuple[str, str, str]) -> tuple[object, ...]:
    found = with_persistence(frame, successions=merged(*steps))
    assert found.height == frame.height, "a period of a predecessor is not published under the new code"
    row = found.filter(provider=provider).sort("period").row(-1, named=True)
    return row["beyond_since"], row["periods_in_run"], row["periods_beyond"], row["periods_assessed"]


def test_the_years_before_a_merger_are_found_under_the_old_code() -> None:
    frame = series(RAA="0+++", RCC="    ++")
    assert last_after(frame, "RCC", ("RAA", "RCC", "2016-04-01")) == ("2013-14", 5, 5, 5)
    assert last_after(frame, "RCC") == ("2016-17", 2, 2, 2), "without a succession there is no history"


def test_the_year_of_the_merger_counts_once_as_the_new_codes_own() -> None:
    frame = series(RAA="++++-", RCC="    ++")
    assert last_after(frame, "RCC", ("RAA", "RCC", "2016-10-01")) == ("2012-13", 6, 5, 5)


def test_a_chain_of_mergers_is_followed_to_its_beginning_in_any_order_of_rows() -> None:
    frame = series(RAA="0++", RBB="   +", RCC="    +")
    steps = (("RBB", "RCC", "2016-04-01"), ("RAA", "RBB", "2015-04-01"))
    for order in (steps, steps[::-1]):
        assert last_after(frame, "RCC", *order) == ("2013-14", 4, 4, 5)


def test_two_predecessors_count_where_they_agree() -> None:
    frame = series(RAA="0+++", RBB="+0+?", RCC="    +")
    steps = (("RAA", "RCC", "2016-04-01"), ("RBB", "RCC", "2016-04-01"))
    assert last_after(frame, "RCC", *steps) == ("2014-15", 3, 3, 5), (
        "2013-14 they differ and it counts as within the limits; 2015-16 one alone was compared"
    )
    opposite = series(RAA="+", RBB="-", RCC=" +")
    early = tuple((old, new, "2013-04-01") for old, new, _ in steps)
    assert last_after(opposite, "RCC", *early)[1:] == (1, 1, 2)


def test_a_provider_with_a_history_of_its_own_keeps_that_alone() -> None:
    frame = series(RAA="++++ ", RBB=" 0+++")
    assert last_after(frame, "RBB", ("RAA", "RBB", "2016-04-01")) == ("2014-15", 3, 3, 4)


def test_a_succession_counts_from_its_day() -> None:
    """RBB reports from 2014-15 on and takes RAA over in 2017: its first years are not RAA's later ones."""
    frame = series(RAA="++    ", RBB="  ++++")
    assert last_after(frame, "RBB", ("RAA", "RBB", "2017-04-01")) == ("2014-15", 4, 4, 4)
    assert last_after(frame, "RBB", ("RAA", "RBB", "2014-10-01")) == ("2012-13", 6, 5, 5)


def test_periods_of_other_lengths_know_their_last_month() -> None:
    frame = series(RAA="+", RCC=" +")
    months = {"2012-13": "2019-07 to 2020-06", "2013-14": "2020-07 to 2021-06"}
    other = frame.with_columns(pl.col("period").replace_strict(months))
    assert last_after(other, "RCC", ("RAA", "RCC", "2021-06-01"))[1] == 2
    assert last_after(other, "RCC", ("RAA", "RCC", "2021-07-01"))[1] == 1


def test_each_stratum_has_its_own_history() -> None:
    old, new = series(RAA="++"), series(RCC="  +")
    frame = pl.concat([old, new, new.with_columns(stratum=pl.lit("age: old"))])
    found = with_persistence(frame, successions=merged(("RAA", "RCC", "2014-04-01"))).filter(provider="RCC")
    assert dict(found.select("stratum", "periods_in_run").iter_rows()) == {"all": 3, "age: old": 1}


def test_successions_in_a_circle_are_refused() -> None:
    with pytest.raises(UsageError, match="circle"):
        last_after(series(RAA="+"), "RAA", ("RAA", "RBB", "2014-04-01"), ("RBB", "RAA", "2015-04-01"))
