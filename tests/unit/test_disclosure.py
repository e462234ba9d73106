"""What is public hides small numbers, and nothing else in the public set gives them away.

The attacks at the end try every small table there is: all tables that lead to the same public set are what a
reader who knows the rules by heart cannot tell apart, and each hidden count must differ among them.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import product

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from schemas.disclosure_policy import disclosure_policy
from schemas.errors import ContractDefinitionError, DisclosureRefused
from schemas.published import declaration
from schemas.yaml_text import parse_model
from transforms.assessment import assess
from transforms.disclosure import (
    NEEDS_DISCUSSION,
    ROW,
    changed_little,
    protect,
    public_limits,
    public_values,
    refuse_overlaps,
    shown_count,
    shown_mean,
)

POLICY = disclosure_policy()
HES, MHSDS = POLICY.rule("hes"), POLICY.rule("mhsds")


# single counts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "hes", "mhsds"),
    [
        (None, None, None),
        (0, 0, None),  # HES shows zero, MHSDS hides it
        (1, None, None),
        (4, None, None),
        (5, None, 5),
        (7, None, 5),
        (8, 10, 10),
        (12, 10, 10),
        (12.5, 15, 15),  # halves up
        (13, 15, 15),
        (7.5, None, 10),  # between the hidden 7 and the shown 8: hidden
        (17.5, 20, 20),
        (22.5, 25, 25),  # not to the even neighbour
        (1000, 1000, 1000),
    ],
)
def test_one_count_at_every_threshold(count: float | None, hes: int | None, mhsds: int | None) -> None:
    assert shown_count(count, HES) == hes
    assert shown_count(count, MHSDS) == mhsds


@pytest.mark.parametrize("count", [-1, -0.5, float("nan"), float("inf")])
def test_a_count_that_is_no_count_stops_the_release(count: float) -> None:
    with pytest.raises(DisclosureRefused):
        shown_count(count, HES)
    frame = table([("RXA", "all", 100, 1000)]).with_columns(numerator=pl.lit(count))
    with pytest.raises(DisclosureRefused):
        protect(frame, indicators(), POLICY)


def test_a_mean_over_few_values_is_hidden() -> None:
    assert shown_mean(3.2, 7, HES) is None
    assert shown_mean(3.2, 8, HES) == 3.2
    assert shown_mean(3.2, 4, MHSDS) is None
    assert shown_mean(3.2, 5, MHSDS) == 3.2


def test_linked_data_take_the_stricter_of_each_number() -> None:
    both = POLICY.rule_for(["hes_apc", "mhsds"])
    assert (both.hide_from, both.hide_to, both.round_to, both.mean_from) == (0, 7, 5, 8)
    assert POLICY.rule_for(["hes_apc", "ons_deaths"]).name == "hes"
    assert shown_count(0, both) is None


@pytest.mark.parametrize("datasets", [[], ["hes_apc", "gp_records"]])
def test_data_that_nobody_decided_about_are_not_released(datasets: list[str]) -> None:
    with pytest.raises(DisclosureRefused):
        POLICY.rule_for(datasets)


def test_a_policy_that_contradicts_itself_does_not_load() -> None:
    raw = POLICY.model_dump()
    raw["rules"][0]["mean_from"] = 3
    with pytest.raises(ContractDefinitionError, match="mean over a hidden number"):
        parse_model(type(POLICY), raw, "disclosure.yaml")
    raw = POLICY.model_dump()
    raw["datasets"][0]["rule"] = "none"
    with pytest.raises(ContractDefinitionError, match="no rule"):
        parse_model(type(POLICY), raw, "disclosure.yaml")


# tables ---------------------------------------------------------------------------------------------


def indicators(
    measure: str = "proportion", datasets: str = "hes_apc", names: tuple[str, ...] = ("deaths",)
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "indicator": list(names),
            "version": ["v1"] * len(names),
            "measure": [measure] * len(names),
            "per": [1.0] * len(names),
            "direction": ["lower_is_better"] * len(names),
            "datasets": [datasets] * len(names),
        }
    )


def table(
    rows: list[tuple],  # type: ignore[type-arg]
    indicator: str = "deaths",
    period: str = "2019/20",
    version: str = "v1",
) -> pl.DataFrame:
    """Rows of provider, stratum, numerator, denominator and, if there is one, expected."""
    return pl.DataFrame(
        [(indicator, version, period, *row, *([None] * (5 - len(row)))) for row in rows],
        schema={
            **{name: pl.String for name in ROW},
            "numerator": pl.Float64,
            "denominator": pl.Float64,
            "expected": pl.Float64,
        },
        orient="row",
    )


def cells(frame: pl.DataFrame, provider: str = "RXA") -> dict[str, tuple[float | None, float | None]]:
    rows = frame.filter(provider=provider).select("stratum", "numerator", "denominator").rows()
    return {stratum: (numerator, denominator) for stratum, numerator, denominator in rows}


def test_counts_are_rounded_and_small_ones_hidden() -> None:
    rows = [("RXA", "all", 41, 1002), ("RXB", "all", 7, 998), ("RXC", "all", 0, 96)]
    found = protect(table(rows), indicators(), POLICY)
    assert found.select("numerator", "denominator", "state").rows() == [
        (40, 1000, "shown"),
        (None, 1000, "suppressed"),
        (0, 95, "shown"),
    ]


def test_a_hidden_denominator_hides_its_row() -> None:
    rows = [("RXA", "all", 30, 300), ("RXA", "sex: female", 0, 6), ("RXA", "sex: male", 30, 294)]
    found = cells(protect(table(rows), indicators(), POLICY))
    assert found["sex: female"] == (None, None), "nobody of six is a statement about six people"


def test_all_but_a_few_is_hidden_like_a_few() -> None:
    rows = [("RXA", "all", 998, 1000), ("RXB", "all", 1000, 1000), ("RXC", "all", 990, 1000)]
    found = protect(table(rows), indicators(), POLICY)
    assert found["numerator"].to_list() == [None, None, 990]
    events = protect(table(rows), indicators("rate"), POLICY)
    assert events["numerator"].to_list() == [1000, 1000, 990], "events per bed day have no rest of people"


def test_a_hidden_group_takes_zeros_and_the_next_smallest_with_it() -> None:
    rows = [
        ("RXA", "all", 103, 1000),
        ("RXA", "group: a", 3, 200),
        ("RXA", "group: b", 0, 200),
        ("RXA", "group: c", 40, 200),
        ("RXA", "group: d", 20, 200),
        ("RXA", "group: e", 40, 200),
        ("RXA", "sex: female", 50, 500),
        ("RXA", "sex: male", 53, 500),
    ]
    found = {stratum: pair[0] for stratum, pair in cells(protect(table(rows), indicators(), POLICY)).items()}
    assert found == {
        "all": 105,
        "group: a": None,
        "group: b": None,
        "group: c": 40,
        "group: d": None,
        "group: e": 40,
        "sex: female": 50,
        "sex: male": 55,
    }


def test_of_two_equally_small_groups_the_first_by_name_is_hidden() -> None:
    rows = [
        ("RXA", "all", 43, 600),
        ("RXA", "g: a", 3, 200),
        ("RXA", "g: b", 20, 200),
        ("RXA", "g: c", 20, 200),
    ]
    found = cells(protect(table(rows), indicators(), POLICY))
    assert (found["g: b"][0], found["g: c"][0]) == (None, 20)


def test_a_hidden_total_hides_its_groups() -> None:
    rows = [("RXA", "all", 7, 600), *[("RXA", f"g: {i}", int(i < 7), 75) for i in range(8)]]
    found = cells(protect(table(rows), indicators(), POLICY))
    assert {pair[0] for pair in found.values()} == {None}, "seven hidden ones under a hidden seven are known"


def test_a_tiny_service_needs_discussion_and_is_left_out() -> None:
    rows = [("RXA", "all", 12, 29), ("RXA", "sex: female", 12, 29), ("RXB", "all", 12, 31)]
    protected = protect(table(rows), indicators(), POLICY)
    assert protected["state"].to_list() == [NEEDS_DISCUSSION, NEEDS_DISCUSSION, "shown"]
    assert cells(protected)["all"] == (None, None)
    assert public_values(protected)["provider"].to_list() == ["RXB"]


def test_mental_health_counts_hide_zero_too() -> None:
    rows = [("RXA", "all", 0, 100), ("RXB", "all", 4, 100), ("RXC", "all", 6, 100)]
    found = protect(table(rows), indicators("rate", "mhsds"), POLICY)
    assert found["numerator"].to_list() == [None, None, 5]


def test_the_expected_number_is_rounded_and_hidden_with_the_observed_one() -> None:
    rows = [
        ("RXA", "all", 41, 1002, 37.4),
        ("RXB", "all", 7, 998, 6.2),
        ("RXC", "all", 10, 998, 2.4),
        ("RXD", "all", 0, 998, 12.5),
    ]
    found = protect(table(rows), indicators("standardised_ratio"), POLICY)
    assert found["expected"].to_list() == [35, None, None, 15]
    assert public_values(found)["value"].to_list() == [40 / 35, None, None, 0]


def test_every_public_figure_is_computed_from_the_rounded_numbers() -> None:
    rows = [(f"RX{i}", "all", 101 + 7 * i, 1003 + i) for i in range(8)]
    public = public_values(protect(table(rows), indicators(), POLICY))
    again = assess(public.select(*ROW, "numerator", "denominator", "expected"))
    for column in ("value", "lower_95", "target", "funnel_upper_998", "od_upper_95", "z", "band"):
        assert public[column].to_list() == again[column].to_list(), column
        assert public[column].null_count() == 0, column


def test_where_one_is_hidden_the_others_are_compared_with_nothing() -> None:
    """Zeros are shown and small numbers are not: the rest of a rare event would look rarer than it is."""
    rows = [(f"RX{i}", "all", 101 + 7 * i, 1003 + i) for i in range(8)] + [("RXZ", "all", 3, 1000)]
    protected = protect(table(rows), indicators(), POLICY)
    public = public_values(protected)
    for column in ("target", "funnel_upper_998", "od_upper_95", "z", "band"):
        assert public[column].null_count() == 9, column
    assert public["value"].null_count() == 1
    assert public_limits(protected).is_empty()
    hidden = public.row(by_predicate=pl.col("provider") == "RXZ", named=True)
    assert hidden["suppressed"]
    for column in ("numerator", "value", "lower_95", "upper_998", "od_upper_95", "z", "band", "alert"):
        assert hidden[column] is None, column
    assert declaration().table("indicator_value").conform(public, "OFFICIAL").height == 9


def test_a_hidden_number_is_empty_and_never_zero_or_a_sentinel() -> None:
    rows = [(f"R{i:02}", "all", i, 1000) for i in range(12)]
    found = public_values(protect(table(rows), indicators(), POLICY)).filter("suppressed")
    assert found["numerator"].to_list() == [None] * 7


def test_the_national_level_is_left_out() -> None:
    rows = [("ENGLAND", "all", 1003, 10007), ("RXA", "all", 40, 1000)]
    assert protect(table(rows), indicators(), POLICY)["provider"].to_list() == ["RXA"]


@pytest.mark.parametrize(
    "frame",
    [
        pl.concat([table([("RXA", "all", 9, 99)]), table([("RXA", "all", 9, 99)], period="201906")]),
        pl.concat([table([("RXA", "all", 9, 99)], period=p) for p in ("201906", "201907")]),
        table([("RXA", "all", 99, 999), ("RXA01", "all", 50, 500)]),
    ],
)
def test_overlapping_people_are_refused(frame: pl.DataFrame) -> None:
    with pytest.raises(DisclosureRefused):
        refuse_overlaps(frame)


def test_periods_one_after_the_other_do_not_overlap() -> None:
    refuse_overlaps(pl.concat([table([("RXA", "all", 9, 99)], period=p) for p in ("201999", "202099")]))
    refuse_overlaps(pl.concat([table([("RXA", "all", 9, 99)], period=p) for p in ("2019/20", "2020/21")]))


def test_a_number_that_moved_a_little_since_an_earlier_release_is_hidden() -> None:
    before = table([("RXA", "all", 42, 1000), ("RXB", "all", 42, 1000), ("RXC", "all", 42, 1000)])
    now = table([("RXA", "all", 43, 1000), ("RXB", "all", 60, 1100), ("RXC", "all", 42, 1000)])
    moved = changed_little(now, before, POLICY)
    assert moved.rows() == [("deaths", "v1", "2019/20", "RXA", "all", False)]
    found = protect(now, indicators(), POLICY, moved)
    assert found["numerator"].to_list() == [None, 60, 40], "40 and then 45 would show that 42 became 43"
    assert found["denominator"].to_list() == [1000, 1100, 1000], (
        "where nothing moved there is nothing to hide"
    )
    assert set(moved.columns) == {*ROW, "denominator_moved"}, "it names rows and shows no number"


def test_a_denominator_that_moved_a_little_since_an_earlier_release_is_hidden() -> None:
    before = table([("RXA", "all", 100, 1002), ("RXB", "all", 100, 1002), ("RXC", "all", 100, 1002)])
    now = table([("RXA", "all", 100, 1003), ("RXB", "all", 140, 1003), ("RXC", "all", 100, 1022)])
    moved = changed_little(now, before, POLICY)
    assert moved.select("provider", "denominator_moved").rows() == [("RXA", True), ("RXB", True)]
    found = protect(now, indicators(), POLICY, moved).select("numerator", "denominator", "state").rows()
    assert found == [
        (None, None, "suppressed"),  # 1000 and then 1005 would show that one person was added
        (None, None, "suppressed"),
        (100, 1020, "shown"),
    ]


def test_a_group_whose_denominator_moved_a_little_takes_the_groups_beside_it_with_it() -> None:
    """The total less what is shown of the others would be the group; where the total moved, it is hidden too."""
    groups = {"g: a": 500, "g: b": 300, "g: c": 200}

    def rows(**added: int) -> pl.DataFrame:
        each = {f"g: {name}": groups[f"g: {name}"] + more for name, more in added.items()}
        return table([("RXA", stratum, 50, n) for stratum, n in {"all": sum(each.values()), **each}.items()])

    def shown(now: pl.DataFrame) -> list[float | None]:
        changed = changed_little(now, rows(a=0, b=0, c=0), POLICY)
        return protect(now, indicators(), POLICY, changed)["denominator"].to_list()

    assert shown(rows(a=3, b=0, c=0)) == [None] * 4
    assert shown(rows(a=30, b=40, c=0)) == [1070, 530, 340, 200]
    assert shown(rows(a=3, b=40, c=0)) == [1045, None, None, None]


@pytest.mark.parametrize(("numerator", "denominator"), [(101, 1000), (100, 1003), (103, 1003)])
def test_a_new_version_of_an_indicator_is_held_against_the_released_one(
    numerator: int, denominator: int
) -> None:
    """Versions count the same people: v1 beside v2 shows the few whom they count differently."""
    before = table([("RXA", "all", 100, 1000), ("RXB", "all", 100, 1000)])
    now = table([("RXA", "all", numerator, denominator), ("RXB", "all", 300, 2000)], version="v2")
    moved = changed_little(now, before, POLICY)
    assert moved.select(ROW).rows() == [("deaths", "v2", "2019/20", "RXA", "all")]
    declared = indicators().with_columns(version=pl.lit("v2"))
    hidden, shown = protect(now, declared, POLICY, moved).select("numerator", "denominator").rows()
    assert hidden == (None, 1000 if denominator == 1000 else None)
    assert shown == (300, 2000)


def test_a_row_that_moved_since_any_of_several_releases_is_hidden_once() -> None:
    now = table([("RXA", "all", 100, 1003)])
    since = [
        changed_little(now, table([row]), POLICY)
        for row in (("RXA", "all", 99, 1003), ("RXA", "all", 100, 1000))
    ]
    assert [found["denominator_moved"].to_list() for found in since] == [[False], [True]]
    for order in (since, since[::-1]):
        found = protect(now, indicators(), POLICY, pl.concat(order))
        assert found.select("numerator", "denominator").rows() == [(None, None)]


def test_an_indicator_nobody_declared_is_not_released() -> None:
    with pytest.raises(DisclosureRefused):
        protect(table([("RXA", "all", 9, 99)], indicator="secret"), indicators(), POLICY)


# attacks --------------------------------------------------------------------------------------------

LEAST_CANDIDATES = 3
Numbers = NDArray[np.int64]


def public_of(tables: Numbers, many: int = 100_000) -> Numbers:
    """Row by row, what is public of groups (numerators) that add up to ``all``: total and groups, -1 hidden.

    Each table becomes a provider of its own, so that one call protects all of them.
    """
    with_total = np.column_stack([tables.sum(axis=1), tables])
    width = with_total.shape[1]
    strata = ["all", *(f"g: {i:02}" for i in range(width - 1))]
    names = np.char.mod("P%07d", np.arange(len(tables)))
    frame = pl.DataFrame(
        {
            "indicator": ["deaths"] * with_total.size,
            "version": ["v1"] * with_total.size,
            "period": ["2019/20"] * with_total.size,
            "provider": np.repeat(names, width),
            "stratum": strata * len(tables),
            "numerator": with_total.ravel().astype(float),
            "denominator": np.tile([many * (width - 1), *[many] * (width - 1)], len(tables)).astype(float),
            "expected": pl.Series([None] * with_total.size, dtype=pl.Float64),
        }
    )
    found = protect(frame, indicators(), POLICY)
    return found["numerator"].fill_null(-1).to_numpy().reshape(with_total.shape).astype(int)


def candidates(public: Numbers, secret: Numbers) -> dict[tuple[int, ...], list[set[int]]]:
    """Per public set, the values that each secret cell takes among all tables leading to it."""
    found: dict[tuple[int, ...], list[set[int]]] = {}
    for shown, hidden in zip(map(tuple, public.tolist()), secret.tolist(), strict=True):
        sets = found.setdefault(shown, [set() for _ in hidden])
        for values, value in zip(sets, hidden, strict=True):
            values.add(value)
    return found


@pytest.mark.parametrize(("groups", "highest"), [(2, 40), (3, 27), (4, 13)])
def test_no_hidden_group_can_be_worked_out_from_total_and_groups(groups: int, highest: int) -> None:
    tables = np.array(list(product(range(highest + 1), repeat=groups)))
    public = public_of(tables)
    secret = np.column_stack([tables.sum(axis=1), tables])
    attacked = 0
    for shown, sets in candidates(public, secret).items():
        if max(shown[1:]) + 2 > highest:
            continue  # this public set has further tables beyond those tried
        for cell, values in zip(shown, sets, strict=True):
            if cell == -1:
                attacked += 1
                assert len(values) >= LEAST_CANDIDATES, f"{shown} leaves only {sorted(values)}"
    assert attacked, "the attack must have had something to attack"


@pytest.mark.parametrize(
    "groups",
    [
        [1] * 12,
        [7] * 4,
        [7] * 9,
        [1] * 7,
        [2] * 6,
        [7, 7, 12, 12],
        [7, 7, 7, 17, 17, 17],
        [1, 8, 8],
        [0, 0, 1, 8, 13, 18],
        [0] * 11 + [1],
        [1] * 40 + [9, 9],
    ],
)
def test_larger_tables_give_nothing_away_to_a_solver(groups: list[int]) -> None:
    total, *shown = public_of(np.array([groups]))[0].tolist()
    hidden = [i for i, cell in enumerate(shown) if cell == -1]
    assert len(hidden) >= 2
    for at in hidden:
        reach = [bound(total, shown, at, sense) for sense in (1, -1)]
        assert reach[1] - reach[0] >= LEAST_CANDIDATES - 1, f"cell {at} of {shown} under {total}: {reach}"


def bound(total: int, shown: list[int], at: int, sense: int) -> float:
    """The smallest (1) or largest (-1) value of cell ``at`` that the public set allows, by integer
    programming.

    The solver also knows the secondary rule: where groups are shown, exactly one hidden group is above 7 and
    not above the smallest shown one; where none is shown, at most one is.
    """
    n = len(shown)  # variables: the n cells, then n switches "this one is above 7"
    some_shown = max(shown) > 0
    most = min((cell + 2 for cell in shown if cell > 0), default=1000)
    low = np.array([cell - 2 if cell > 0 else 0 for cell in shown] + [0] * n, dtype=float)
    high = np.array(
        [cell + 2 if cell > 0 else (0 if cell == 0 else most) for cell in shown] + [0] * n, dtype=float
    )
    high[n:] = [1 if cell == -1 else 0 for cell in shown]
    identity = np.eye(n)
    hidden = np.array([cell == -1 for cell in shown])
    in_range = (1, 7) if total == -1 else (total - 2, total + 2)
    constraints = [
        LinearConstraint(np.hstack([np.ones(n), np.zeros(n)]), *in_range),
        LinearConstraint(np.hstack([identity, -(most - 7) * identity])[hidden], -np.inf, 7),
        LinearConstraint(np.hstack([identity, -8 * identity])[hidden], 0, np.inf),
        LinearConstraint(np.hstack([np.zeros(n), np.ones(n)]), 1 if some_shown else 0, 1),
    ]
    goal = np.zeros(2 * n)
    goal[at] = sense
    found = milp(goal, constraints=constraints, integrality=np.ones(2 * n), bounds=Bounds(low, high))
    assert found.success, "the exact table itself fits what is public"
    return float(sense * found.fun)


@pytest.mark.thorough
def test_deaths_in_hospital_beside_deaths_within_thirty_days_give_nothing_away() -> None:
    # Two indicators over the same spells: deaths in hospital are part of the deaths within 30 days.
    highest = 22  # a total of 20 is shown for 18 to 22: sets with a larger one have further tables
    pairs = [(part, whole) for whole in range(highest + 1) for part in range(whole + 1)]
    tables = [(a, b) for a in pairs for b in pairs]
    part = public_of(np.array([[a[0], b[0]] for a, b in tables]))
    whole = public_of(np.array([[a[1], b[1]] for a, b in tables]))
    public = np.column_stack([part, whole])
    exact = np.array([[a[0] + b[0], a[0], b[0], a[1] + b[1], a[1], b[1]] for a, b in tables])
    implied = exact[:, 3:] - exact[:, :3]  # deaths after discharge, published nowhere
    judged = 0
    for shown, sets in candidates(public, exact).items():
        if max(shown) > highest - 2:
            continue
        judged += 1
        for cell, values in zip(shown, sets, strict=True):
            if cell == -1 and max(values) > 0:
                assert len(values) >= LEAST_CANDIDATES, f"{shown} leaves only {sorted(values)}"
    for shown, sets in candidates(public, implied).items():
        if max(shown) > highest - 2:
            continue
        for values in sets:
            if 0 < max(values) <= 7:
                assert len(values) > 1, f"after discharge under {shown}: {sorted(values)}"
    assert judged > 20, "the attack must have had something to attack"


def test_people_who_did_not_have_the_event_are_protected_like_those_who_had() -> None:
    highest = 34
    tables = [(n, d) for d in range(30, highest + 1) for n in range(d + 1)]
    rows = [(f"P{i:05}", "all", n, d) for i, (n, d) in enumerate(tables)]
    found = protect(table(rows), indicators(), POLICY)
    classes: dict[tuple[float | None, float | None], set[int]] = defaultdict(set)
    rest: dict[tuple[float | None, float | None], set[int]] = defaultdict(set)
    for (n, d), shown in zip(tables, found.select("numerator", "denominator").rows(), strict=True):
        classes[shown].add(n)
        rest[shown].add(d - n)
    for shown, values in classes.items():
        if shown[0] is None:
            assert len(values) >= LEAST_CANDIDATES, shown
            assert len(rest[shown]) >= LEAST_CANDIDATES, f"the rest of {shown}"
        else:
            assert min(rest[shown]) > 7, "a shown share never leaves a few people over"


def test_what_others_report_does_not_help_two_releases_of_the_same_table() -> None:
    # One person more between two releases: whatever the first number, the second set never shows a changed
    # cell.
    for before in range(8, 60):
        old, new = table([("RXA", "all", before, 900)]), table([("RXA", "all", before + 1, 900)])
        first = protect(old, indicators(), POLICY)["numerator"].item()
        second = protect(new, indicators(), POLICY, changed_little(new, old, POLICY))["numerator"].item()
        assert (first, second) == (shown_count(before, HES), None)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_two_releases_never_tell_by_how_few_a_number_moved(version: str) -> None:
    """Every change of a denominator by up to a dozen around where rounding turns, beside some of the numerator.

    The reader even knows the numerators of both, say that nobody died in between.
    """
    moves = range(-12, 13)
    tables = [(d, dn, dd) for d in range(998, 1003) for dn in (0, 1, 8, 20) for dd in moves]
    names = [f"P{i:03}" for i in range(len(tables))]
    old = table([(name, "all", 100, d) for name, (d, _, _) in zip(names, tables, strict=True)])
    new = table(
        [(name, "all", 100 + dn, d + dd) for name, (d, dn, dd) in zip(names, tables, strict=True)],
        version=version,
    )
    declared = indicators().with_columns(version=pl.lit(version))
    first = protect(old, indicators(), POLICY)
    second = protect(new, declared, POLICY, changed_little(new, old, POLICY))
    public = [frame.select("numerator", "denominator").rows() for frame in (first, second)]
    classes: dict[object, tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
    for (d, dn, dd), before, after in zip(tables, *public, strict=True):
        assert after[1] is None or not 0 < abs(dd) <= 7, f"{d} and then {d + dd} show as {before} and {after}"
        changes, denominators = classes[dn, before, after]
        changes.add(dd)
        denominators.add(d + dd)
    judged = 0
    for shown, (changes, denominators) in classes.items():
        if any(0 < abs(change) <= 7 for change in changes):
            judged += 1
            assert len(changes) >= LEAST_CANDIDATES, f"{shown} leaves changes by {sorted(changes)} only"
            assert len(denominators) >= LEAST_CANDIDATES, f"{shown} leaves {sorted(denominators)} only"
    assert judged > 3, "the attack must have had something to attack"
