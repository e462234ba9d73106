"""Case-mix adjusted mortality: records become patterns, patterns a model, and the model's sums are exact."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from schemas.errors import UsageError
from schemas.shmi_reference import CaseMix, Factor, Level, case_mix
from transforms.case_mix import add_levels, combine, patterns, year_index
from transforms.mortality_model import COEFFICIENTS, expected, fit_models

Counts = Mapping[Any, tuple[int, int]]  # levels, one per factor, to (spells, deaths)


def factor(
    name: str, levels: list[str], order: str = "none", minimum: int = 5, otherwise: str = ""
) -> Factor:
    """A factor read from the column ``<name>_code``, whose codes are its levels."""
    return Factor.model_validate(
        {
            "name": name,
            "says": "for a test",
            "column": f"{name}_code",
            "order": order,
            "minimum_deaths": minimum,
            "minimum_survivors": minimum,
            "source": "this test",
            "status": "ours",
            "levels": (
                *(Level.model_validate({"level": each, "codes": (each,)}) for each in levels),
                *([Level(level=otherwise, otherwise=True)] if otherwise else []),
            ),
        }
    )


def mix_of(*factors: Factor) -> CaseMix:
    return CaseMix(name="case_mix", title="test", source="this test", years=3, factors=factors)


def counted(mix: CaseMix, counts: Counts, group: int = 1) -> pl.DataFrame:
    """Patterns written as ``{(level, level): (spells, deaths)}``."""
    rows = [
        {
            "diagnosis_group": group,
            **dict(zip(mix.factor_names, levels, strict=True)),
            "spells": spells,
            "deaths": deaths,
        }
        for levels, (spells, deaths) in counts.items()
    ]
    return pl.DataFrame(rows)


def standing(coefficients: pl.DataFrame, name: str) -> dict[str, str]:
    """Level to the level that speaks for it."""
    part = coefficients.filter(pl.col("factor") == name)
    return dict(part.select("level", pl.col("merged_into").fill_null(pl.col("level"))).iter_rows())


def population(spells: int, seed: int, groups: tuple[int, ...] = (57, 73, 118)) -> pl.DataFrame:
    """Records of a made-up population in which age, admission, comorbidity and birth weight matter."""
    chance = np.random.default_rng(seed)
    group = chance.choice(groups, spells)
    newborn = group == 118
    age = np.where(newborn, chance.integers(7001, 7003, spells), chance.integers(20, 100, spells))
    index = chance.choice([0, 3, 4, 8, 14, 22], spells, p=[0.45, 0.15, 0.1, 0.15, 0.1, 0.05])
    method = chance.choice(
        ["11", "12", "21", "22", "2A", "99"], spells, p=[0.15, 0.1, 0.45, 0.15, 0.14, 0.01]
    )
    weight = np.where(newborn, chance.choice([700, 1800, 3300, 4800, 9999], spells), 0)
    score = -3.2 + 0.035 * np.where(newborn, 0, age - 60) + 0.9 * np.isin(method, ["21", "22", "2A"])
    score = score + 0.5 * (index > 0) + 0.6 * (index > 5) + np.where(weight == 700, 1.5, 0)
    return pl.DataFrame(
        {
            "diagnosis_group": group,
            "start_age": age,
            "sex": chance.choice(["1", "2", "9"], spells, p=[0.49, 0.5, 0.01]),
            "admission_method": method,
            "charlson_index": index,
            "year_index": chance.integers(1, 4, spells),
            "admission_month": chance.integers(1, 13, spells),
            "birth_weight_grams": weight,
            "provider": chance.choice(["RXX", "RYY", "RZZ"], spells),
            "died": chance.random(spells) < 1 / (1 + np.exp(-score)),
        }
    )


@pytest.fixture(scope="module")
def records() -> pl.DataFrame:
    return add_levels(population(9_000, seed=4), case_mix())


@pytest.fixture(scope="module")
def coefficients(records: pl.DataFrame) -> pl.DataFrame:
    return fit_models(patterns(records, case_mix()), case_mix())


# Levels ---------------------------------------------------------------------------------------------


def levels_of(**columns: list[Any]) -> dict[str, list[str | None]]:
    usual: dict[str, Any] = {
        "diagnosis_group": 73, "start_age": 70, "sex": "1", "admission_method": "21", "charlson_index": 0,
        "year_index": 1, "admission_month": 1, "birth_weight_grams": None,
    }  # fmt: skip
    length = len(next(iter(columns.values())))
    frame = pl.DataFrame(
        {name: columns.get(name, [value] * length) for name, value in usual.items()}, strict=False
    )
    frame = frame.with_columns(pl.col("birth_weight_grams").cast(pl.Int64))
    return {name: values for name, values in add_levels(frame, case_mix()).to_dict(as_series=False).items()}


def test_age_is_in_five_year_bands_with_the_first_year_apart() -> None:
    ages = [7001, 7007, 1, 4, 5, 89, 90, 120, 121, 7008, None]
    assert levels_of(start_age=ages)["age_group"] == [
        "under 1", "under 1", "1-4", "1-4", "5-9", "85-89", "90 and over", "90 and over",
        "not known", "not known", "not known",
    ]  # fmt: skip


def test_sex_has_a_third_level_for_all_that_is_not_known() -> None:
    assert levels_of(sex=["1", "2", "3", "9", "0", "X", None])["sex"] == [
        "male",
        "female",
        *["not known"] * 5,
    ]


def test_admission_is_elective_or_not_or_not_known() -> None:
    found = levels_of(admission_method=["11", "13", "21", "2A", "31", "81", "82", "98", "99", None])
    assert found["admission_class"] == [*["elective"] * 2, *["non-elective"] * 6, *["not known"] * 2]


def test_birth_weight_is_looked_at_in_perinatal_groups_only() -> None:
    weights = [10, 999, 1000, 2500, 4500, 7000, 9999, None]
    assert levels_of(diagnosis_group=[118] * 8, birth_weight_grams=weights)["birth_weight"] == [
        "under 1000", "under 1000", "1000-2499", "2500-4499", "4500 and over", "4500 and over",
        "not known", "not known",
    ]  # fmt: skip
    assert set(levels_of(diagnosis_group=[73, 141], birth_weight_grams=[900, None])["birth_weight"]) == {
        "not applicable"
    }


def test_the_reporting_year_ends_with_its_last_month() -> None:
    days = [date(2021, 3, 31), date(2020, 4, 1), date(2020, 3, 31), date(2018, 4, 1), date(2018, 3, 31), None]
    found = pl.DataFrame({"day": days}).select(year_index(pl.col("day"), date(2021, 3, 31))).to_series()
    assert found.to_list() == [1, 1, 2, 3, 4, None]
    later = pl.DataFrame({"day": [date(2021, 4, 1)]}).select(year_index(pl.col("day"), date(2021, 3, 1)))
    assert later.item() == 0


# Patterns -------------------------------------------------------------------------------------------


def test_patterns_keep_every_spell_and_every_death(records: pl.DataFrame) -> None:
    found = patterns(records, case_mix(), by=["provider"])
    assert found["spells"].sum() == records.height
    assert found["deaths"].sum() == records["died"].sum()
    assert found.height < records.height


def test_records_without_a_group_are_in_no_model(records: pl.DataFrame) -> None:
    no_group = records.with_columns(diagnosis_group=pl.lit(None, dtype=pl.Int64))
    assert patterns(pl.concat([records, no_group]), case_mix()).equals(patterns(records, case_mix()))


def test_patterns_of_parts_add_up_to_those_of_the_whole(records: pl.DataFrame) -> None:
    shards = [records[start::7] for start in range(7)]
    whole = patterns(records, case_mix())
    assert combine([patterns(shard, case_mix()) for shard in shards], case_mix()).equals(whole)
    assert combine([patterns(records, case_mix(), by=["provider"])], case_mix()).equals(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"died": pl.lit(None, dtype=pl.Boolean)}, "9000 records without died"),
        ({"year_index": pl.lit(None, dtype=pl.Enum(["1", "2", "3"]))}, "9000 records without year_index"),
    ],
)
def test_records_without_outcome_or_level_are_refused(
    records: pl.DataFrame, change: dict[str, pl.Expr], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        patterns(records.with_columns(**change), case_mix())


def test_records_without_a_column_are_refused() -> None:
    with pytest.raises(UsageError, match="start_age"):
        add_levels(population(10, seed=1).drop("start_age"), case_mix())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"deaths": 6}, "more deaths than spells"),
        ({"deaths": -1}, "fewer than no deaths"),
        ({"sex": "unheard of"}, "not in the case mix"),
        ({"diagnosis_group": None}, "no diagnosis_group"),
    ],
)
def test_patterns_that_cannot_be_are_refused(row: dict[str, Any], message: str) -> None:
    mix = mix_of(factor("sex", ["male", "female"]))
    table = counted(mix, {("male",): (5, 1)})
    bad = table.with_columns(**{name: pl.lit(value).cast(table.schema[name]) for name, value in row.items()})
    with pytest.raises(UsageError, match=message) as raised:
        fit_models(bad, mix)
    assert "unheard" not in str(raised.value)


# The invariants of the fit ----------------------------------------------------------------------------


def discrepancies(table: pl.DataFrame, coefficients: pl.DataFrame, mix: CaseMix) -> list[float]:
    """Expected less observed deaths in each merged level of each factor of each group, and in each group."""
    rows = expected(table, coefficients)
    sums = [rows.group_by("diagnosis_group").agg(pl.col("expected").sum() - pl.col("deaths").sum())]
    for name in mix.factor_names:
        spoken = coefficients.filter(pl.col("factor") == name).select(
            "diagnosis_group",
            pl.col("level").alias(name),
            speaker=pl.col("merged_into").fill_null(pl.col("level")),
        )
        sums.append(
            rows.with_columns(pl.col(name).cast(pl.String))
            .join(spoken, on=["diagnosis_group", name], validate="m:1")
            .group_by("diagnosis_group", "speaker")
            .agg(pl.col("expected").sum() - pl.col("deaths").sum())
        )
    return [abs(value) for frame in sums for value in frame["expected"].to_list()]


def test_expected_deaths_add_up_to_observed_in_every_level_of_every_factor(
    records: pl.DataFrame, coefficients: pl.DataFrame
) -> None:
    found = discrepancies(patterns(records, case_mix()), coefficients, case_mix())
    assert len(found) > 60
    assert max(found) < 1e-6


def test_expected_deaths_add_up_within_the_reporting_year(
    records: pl.DataFrame, coefficients: pl.DataFrame
) -> None:
    table = patterns(records, case_mix(), by=["provider"])
    year = expected(table, coefficients).filter(pl.col("year_index") == "1")
    assert year["expected"].sum() == pytest.approx(year["deaths"].sum(), abs=1e-6)


def test_the_fit_on_patterns_is_the_fit_on_records(records: pl.DataFrame, coefficients: pl.DataFrame) -> None:
    own = coefficients.filter(diagnosis_group=73, role="estimated").filter(pl.col("merged_into").is_null())
    people = records.filter(diagnosis_group=73)
    columns = [np.ones(people.height)]
    for name, level in own.filter(pl.col("factor") != "intercept").select("factor", "level").iter_rows():
        spoken = standing(coefficients.filter(diagnosis_group=73), name)
        columns.append(
            (people[name].cast(pl.String).replace_strict(spoken) == level).to_numpy().astype(float)
        )
    by_record = GLM(people["died"].to_numpy().astype(float), np.column_stack(columns), family=Binomial()).fit(
        tol=1e-10, tol_criterion="params"
    )
    assert np.abs(by_record.params - own["coefficient"].to_numpy()).max() < 1e-8
    assert np.abs(by_record.bse - own["standard_error"].to_numpy()).max() < 1e-8


def test_the_result_does_not_depend_on_order_or_division(
    records: pl.DataFrame, coefficients: pl.DataFrame
) -> None:
    chance = np.random.default_rng(9)
    shuffled = records[chance.permutation(records.height)]
    parts = [patterns(shuffled[start::5], case_mix(), by=["provider"]) for start in range(5)]
    together = pl.concat(parts[::-1])  # the same pattern in several rows
    assert fit_models(together, case_mix()).equals(coefficients)
    group_by_group = [
        fit_models(together.filter(diagnosis_group=group), case_mix()) for group in (57, 73, 118)
    ]
    assert pl.concat(group_by_group).equals(coefficients)


def test_text_levels_do_as_well_as_typed_ones(records: pl.DataFrame, coefficients: pl.DataFrame) -> None:
    table = patterns(records, case_mix())
    text = table.with_columns(pl.col(case_mix().factor_names).cast(pl.String))
    assert fit_models(text, case_mix()).equals(coefficients)
    assert_frame_equal(
        expected(text, coefficients).select("expected"), expected(table, coefficients).select("expected")
    )


def test_known_coefficients_are_recovered() -> None:
    mix = mix_of(
        factor("age", ["young", "middle", "old"], "ordered"),
        factor("sex", ["male", "female"]),
        factor("entry", ["planned", "emergency"]),
    )
    true = {"middle": 0.7, "old": 1.6, "female": -0.3, "emergency": 1.1}
    chance = np.random.default_rng(2)
    counts: dict[tuple[str, ...], tuple[int, int]] = {}
    for age in ("young", "middle", "old"):
        for sex in ("male", "female"):
            for entry in ("planned", "emergency"):
                score = -4 + true.get(age, 0) + true.get(sex, 0) + true.get(entry, 0)
                counts[age, sex, entry] = (40_000, int(chance.binomial(40_000, 1 / (1 + np.exp(-score)))))
    found = fit_models(counted(mix, counts), mix)
    value = {
        level: (b, error) for level, b, error in found.select("level", "coefficient", "standard_error").rows()
    }
    baseline = {"young": 0.0, "male": 0.0, "planned": 0.0}
    for one, other in (("middle", "young"), ("old", "young"), ("female", "male"), ("emergency", "planned")):
        difference = value[one][0] - value[other][0]
        largest = max(error for error in (value[one][1], value[other][1]) if error is not None)
        # Two estimates differ from the truth by more than five standard errors of their sum once in a million.
        tolerance = 5 * 2 * largest
        assert tolerance < 0.5, "a population large enough to say something"
        assert difference == pytest.approx({**baseline, **true}[one] - baseline[other], abs=tolerance)


# Sparse levels ----------------------------------------------------------------------------------------


def merged(
    levels: list[tuple[int, int]], order: str, minimum: int = 5, last_is_otherwise: bool = False
) -> list[str]:
    """Of a factor a, b, c ... with (spells, deaths) each: who speaks for each level."""
    names = [chr(ord("a") + place) for place in range(len(levels))]
    named = names[:-1] if last_is_otherwise else names
    mix = mix_of(factor("rank", named, order, minimum, names[-1] if last_is_otherwise else ""))
    counts = {(name,): count for name, count in zip(names, levels, strict=True) if count[0]}
    found = standing(fit_models(counted(mix, counts), mix), "rank")
    return [found[name] for name in names]


def test_levels_with_enough_deaths_and_survivors_stay_apart() -> None:
    assert merged([(10, 5), (100, 50), (10, 5)], "ordered") == ["a", "b", "c"]


def test_a_sparse_level_joins_the_sparser_neighbour() -> None:
    assert merged([(100, 30), (100, 4), (100, 20), (100, 40)], "ordered") == ["a", "c", "c", "d"]


def test_a_level_with_too_few_survivors_is_sparse_too() -> None:
    assert merged([(100, 30), (20, 20), (100, 50)], "ordered") == ["a", "a", "c"]
    assert merged([(100, 30), (20, 16), (100, 50)], "ordered") == ["a", "a", "c"]
    assert merged([(100, 30), (20, 15), (100, 50)], "ordered") == ["a", "b", "c"]


def test_sparse_levels_join_until_they_are_enough() -> None:
    assert merged([(50, 2), (50, 2), (50, 2), (100, 40), (100, 60)], "ordered") == ["a", "a", "a", "d", "e"]


def test_the_last_month_is_next_to_the_first() -> None:
    assert merged([(100, 20), (100, 30), (100, 40), (100, 3)], "cyclic") == ["a", "b", "c", "a"]
    assert merged([(100, 20), (100, 30), (100, 40), (100, 3)], "ordered") == ["a", "b", "c", "c"]


def test_a_level_without_neighbours_joins_the_level_with_the_most_deaths() -> None:
    assert merged([(100, 20), (100, 60), (100, 3)], "none") == ["a", "b", "b"]
    assert merged([(100, 60), (100, 20), (100, 3)], "ordered", last_is_otherwise=True) == ["a", "b", "a"]


def test_what_did_not_occur_is_merged_and_has_an_expected_number() -> None:
    assert merged([(100, 20), (0, 0), (100, 60)], "ordered") == ["a", "a", "c"]


def test_a_year_is_merged_only_when_it_would_have_no_finite_coefficient() -> None:
    assert merged([(100, 1), (100, 2), (100, 3)], "ordered", minimum=1) == ["a", "b", "c"]
    assert merged([(100, 0), (100, 2), (100, 3)], "ordered", minimum=1) == ["b", "b", "c"]


def test_a_merged_level_has_the_coefficient_of_the_level_that_speaks_for_it() -> None:
    mix = mix_of(factor("rank", ["a", "b", "c"], "ordered"))
    found = fit_models(counted(mix, {("a",): (100, 50), ("b",): (100, 10), ("c",): (100, 3)}), mix)
    rows = {row["level"]: row for row in found.iter_rows(named=True)}
    assert rows["c"]["merged_into"] == "b"
    assert (rows["c"]["coefficient"], rows["c"]["role"]) == (rows["b"]["coefficient"], "estimated")
    assert (rows["c"]["spells"], rows["c"]["deaths"]) == (100, 3)
    assert rows["b"]["coefficient"] == pytest.approx(np.log((13 / 187) / (50 / 50)))
    assert (rows["a"]["coefficient"], rows["a"]["standard_error"], rows["a"]["role"]) == (
        0,
        None,
        "reference",
    )


# Groups that have no ordinary model ---------------------------------------------------------------------


@pytest.mark.parametrize(("deaths", "rate"), [(0, 0.0), (40, 1.0)])
def test_where_nobody_or_everybody_died_the_rate_is_expected(deaths: int, rate: float) -> None:
    mix = mix_of(factor("sex", ["male", "female"]))
    table = counted(mix, {("male",): (40, deaths), ("female",): (40, deaths)})
    found = fit_models(table, mix)
    assert set(found["role"]) == {"rate"}
    assert found["coefficient"].null_count() == found.height
    assert expected(table, found)["expected"].to_list() == [40 * rate] * 2


def test_a_single_level_leaves_the_groups_rate() -> None:
    mix = mix_of(factor("sex", ["male", "female"]))
    table = counted(mix, {("male",): (40, 10)})
    found = fit_models(table, mix)
    assert found.filter(factor="intercept")["coefficient"].item() == pytest.approx(np.log(10 / 30))
    assert set(standing(found, "sex").values()) == {"male"}
    assert expected(table, found)["expected"].item() == pytest.approx(10)


def test_a_single_death_leaves_the_groups_rate() -> None:
    mix = mix_of(factor("sex", ["male", "female"]))
    table = counted(mix, {("male",): (40, 1), ("female",): (60, 0)})
    assert expected(table, fit_models(table, mix))["expected"].to_list() == pytest.approx([0.4, 0.6])


def test_two_factors_that_divide_alike_are_counted_once() -> None:
    mix = mix_of(
        factor("age", ["young", "old"]), factor("ward", ["children", "adults"]), factor("sex", ["m", "f"])
    )
    table = counted(
        mix,
        {
            ("young", "children", "m"): (100, 10),
            ("young", "children", "f"): (100, 20),
            ("old", "adults", "m"): (100, 30),
            ("old", "adults", "f"): (100, 50),
        },
    )
    found = fit_models(table, mix)
    assert found.filter(factor="ward")["role"].to_list() == ["determined", "reference"]
    assert found.filter(factor="ward")["coefficient"].to_list() == [0.0, 0.0]
    assert found.filter(factor="sex")["role"].to_list() == ["estimated", "reference"]
    assert max(discrepancies(table, found, mix)) < 1e-6, (
        "in every level of the factor without coefficients too"
    )


def test_combinations_that_would_drive_a_coefficient_to_infinity_are_merged() -> None:
    # Each level alone has deaths and survivors, but of the planned men none died and of the emergency women all.
    mix = mix_of(factor("sex", ["male", "female"]), factor("entry", ["planned", "emergency"]))
    table = counted(
        mix,
        {
            ("male", "planned"): (50, 0),
            ("male", "emergency"): (50, 20),
            ("female", "planned"): (50, 25),
            ("female", "emergency"): (50, 50),
        },
    )
    found = fit_models(table, mix)
    assert (found["coefficient"].abs() < 10).all()
    assert standing(found, "sex") == {"male": "female", "female": "female"}
    assert standing(found, "entry") == {"planned": "planned", "emergency": "emergency"}
    assert max(discrepancies(table, found, mix)) < 1e-6


def test_an_empty_table_has_no_models() -> None:
    mix = mix_of(factor("sex", ["male", "female"]))
    empty = counted(mix, {("male",): (1, 0)}).clear()
    found = fit_models(empty, mix)
    assert (found.height, dict(found.schema)) == (0, COEFFICIENTS)


def test_a_group_without_a_model_has_no_expected_number() -> None:
    mix = mix_of(factor("sex", ["male", "female"]))
    found = fit_models(counted(mix, {("male",): (40, 10)}), mix)
    with pytest.raises(UsageError, match="1 patterns of diagnosis groups that have no model"):
        expected(counted(mix, {("male",): (40, 10)}, group=2), found)
    with pytest.raises(UsageError, match="sex that the model does not know"):
        expected(counted(mix, {("unheard of",): (40, 10)}), found)


# Empty cells and cells in which nobody or everybody died are common, so that separated combinations occur.
CELL = st.tuples(st.sampled_from([0, 0, 0, 2, 10, 30]), st.sampled_from([0.0, 0.0, 0.3, 1.0])).map(
    lambda cell: (cell[0], round(cell[0] * cell[1]))
)


@settings(max_examples=40, deadline=None)
@given(st.lists(CELL, min_size=24, max_size=24))
def test_whatever_the_counts_all_coefficients_are_finite_and_all_sums_agree(
    cells: list[tuple[int, int]],
) -> None:
    mix = mix_of(
        factor("age", ["a", "b", "c"], "ordered", 2, "not known"),
        factor("sex", ["male", "female"], "none", 2),
        factor("year", ["1", "2", "3"], "cyclic", 1),
    )
    names = [
        (age, sex, year)
        for age in ("a", "b", "c", "not known")
        for sex in ("male", "female")
        for year in "123"
    ]
    counts = {name: cell for name, cell in zip(names, cells, strict=True) if cell[0]}
    if not counts:
        counts = {names[0]: (1, 0)}
    table = counted(mix, counts)
    found = fit_models(table, mix)
    values = found["coefficient"].drop_nulls()
    assert values.is_finite().all()
    assert values.len() in (0, found.height)
    assert max(discrepancies(table, found, mix)) < 1e-6
    assert fit_models(table.reverse(), mix).equals(found)
