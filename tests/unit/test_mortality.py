"""Case-mix adjusted mortality in the compute connection: who is covered, what the models add up to, and that a hospital
with too many deaths is found."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import date, timedelta
from math import sqrt
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from infra.compute import (
    add_death_link,
    build_core,
    build_outcomes,
    core_parameters,
    run_indicator,
    single_select,
)
from infra.mortality import (
    MORTALITY_RELATIONS,
    NO_REFERENCE,
    SCRATCH,
    Mortality,
    build_mortality,
    computed_parameters,
    mortality_parameters,
    report_period,
)
from infra.provider_reference import read_reference
from schemas.errors import ContractDefinitionError
from schemas.provider_reference import ProviderReference, parse_reference
from schemas.shmi_reference import CaseMix, case_mix, charlson, diagnosis_groups
from sql import INDICATOR_FOLDER, core_query
from tests.sql.tables import COLUMNS, create_bridge, create_hes_apc, death_link
from transforms.assessment import assess
from transforms.case_mix import add_levels, patterns
from transforms.charlson import charlson_index
from transforms.code_ranges import look_up
from transforms.mortality_model import expected, fit_models

pytestmark = pytest.mark.thorough

SHMI = INDICATOR_FOLDER / "shmi_v1"
LAST_DAY = date(2022, 3, 31)


def up_to_outcomes(rows: list[dict[str, Any]], deaths: Mapping[str, date]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": "2", "python_enable_replacements": "false"})
    create_hes_apc(connection, rows)
    create_bridge(connection, [])
    build_core(connection)
    add_death_link(connection, death_link(connection, deaths))
    build_outcomes(connection)
    return connection


def stay(key: int, **differs: Any) -> dict[str, Any]:
    """An ordinary stay in the last year, of a person of its own unless it says whose."""
    day = differs.pop("day", date(2021, 10, 4))
    dates = {name: day for name in ("ADMIDATE", "EPISTART", "EPIEND", "DISDATE")}
    return {"EPIKEY": f"{key:06d}", "person": f"person {key}", **dates, **differs}


def covered(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """Key, provider, died of each spell that a model covers."""
    return connection.execute(
        "select spell_id, provider, died from mortality_risk order by spell_id"
    ).fetchall()


# The months reported ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("until", "label", "first", "training"),
    [
        ("2022-03-31", "2021-22", "2021-04-01", "2019-04-01"),
        ("2022-06-30", "2021-07 to 2022-06", "2021-07-01", "2019-07-01"),
        ("2022-06-29", "2021-06 to 2022-05", "2021-06-01", "2019-06-01"),
        ("2021-02-28", "2020-03 to 2021-02", "2020-03-01", "2018-03-01"),
        ("2020-02-28", "2019-02 to 2020-01", "2019-02-01", "2017-02-01"),
        ("2021-12-31", "2021-01 to 2021-12", "2021-01-01", "2019-01-01"),
    ],
)
def test_the_last_twelve_complete_months_are_reported(
    until: str, label: str, first: str, training: str
) -> None:
    period = report_period(date.fromisoformat(until), 12, 3)
    assert (period.label, period.report_from, period.training_from) == (
        label, date.fromisoformat(first), date.fromisoformat(training),
    )  # fmt: skip


def test_a_discharge_after_the_report_is_in_no_model() -> None:
    rows = [stay(1, day=date(2022, 3, 31)), stay(2, day=date(2022, 4, 1)), stay(3, day=date(2019, 3, 31))]
    connection = up_to_outcomes(rows, {})
    built = build_mortality(connection, data_until=LAST_DAY)
    assert built.period is not None
    assert built.period.label == "2021-22"
    assert [key for key, _, _ in covered(connection)] == ["000001"]


def test_without_a_date_the_month_of_the_last_discharge_is_complete() -> None:
    built = build_mortality(up_to_outcomes([stay(1, day=date(2022, 2, 3))], {}))
    assert built.period is not None
    assert built.period.report_to == date(2022, 2, 28)


def test_without_a_finished_spell_nothing_is_reported() -> None:
    connection = up_to_outcomes([stay(1, EPISTAT="1", DISDATE=None, EPIEND=None, DISMETH="8")], {})
    built = build_mortality(connection)
    assert (built.period, built.spells, built.patterns) == (None, 0, 0)
    assert run_indicator(connection, SHMI).values.height == 0


# Who is covered --------------------------------------------------------------------------------------

REFERENCE = """\
code,name,type,successor,valid_to
RXX,New trust,acute,,
ROO,Old trust,acute,RXX,2021-09-30
RSS,Heart hospital,acute specialist,,
RMM,Minds trust,mental health,,
"""


def reference(text: str = REFERENCE) -> ProviderReference:
    return parse_reference(text, "providers.csv")


def test_only_acute_trusts_that_are_not_specialist_are_covered() -> None:
    rows = [stay(n, PROCODET=code) for n, code in enumerate(["RXX", "RSS", "RMM", "RZZ"], start=1)]
    connection = up_to_outcomes(rows, {})
    build_mortality(connection, reference(), data_until=LAST_DAY)
    assert covered(connection) == [("000001", "RXX", False)]


def test_a_merged_trust_is_reported_under_its_successor() -> None:
    rows = [stay(1, PROCODET="ROO", day=date(2021, 5, 1)), stay(2, PROCODET="RXX")]
    connection = up_to_outcomes(rows, {})
    build_mortality(connection, reference(), data_until=LAST_DAY)
    assert [provider for _, provider, _ in covered(connection)] == ["RXX", "RXX"]
    earlier = build_mortality(connection, reference(), data_until=date(2021, 8, 31))
    assert earlier.spells == 1
    assert [provider for _, provider, _ in covered(connection)] == ["ROO"], "before the merger it is itself"


def test_a_death_belongs_to_the_last_covered_provider() -> None:
    rows = [
        stay(1, person="anna", PROCODET="RXX"),
        stay(2, person="anna", PROCODET="RSS", day=date(2021, 10, 8)),
    ]
    connection = up_to_outcomes(rows, {"anna": date(2021, 10, 20)})
    build_mortality(connection, reference(), data_until=LAST_DAY)
    assert covered(connection) == [("000001", "RXX", True)]
    build_mortality(connection, data_until=LAST_DAY)
    assert [(key, died) for key, _, died in covered(connection)] == [("000001", False), ("000002", True)]


def test_a_death_is_not_handed_back_to_an_earlier_spell_from_one_with_covid() -> None:
    rows = [
        stay(1, person="anna", day=date(2021, 6, 1)),
        stay(2, person="anna", day=date(2021, 6, 10), DIAG_04="U071", DISMETH="4"),
    ]
    connection = up_to_outcomes(rows, {})
    build_mortality(connection, data_until=LAST_DAY)
    assert covered(connection) == [("000001", "RXX", False)]


def test_a_death_in_a_spell_after_the_report_is_not_counted_in_it() -> None:
    rows = [
        stay(1, person="anna", day=date(2022, 3, 20)),
        stay(2, person="anna", day=date(2022, 4, 2), DISMETH="4"),
    ]
    connection = up_to_outcomes(rows, {})
    build_mortality(connection, data_until=LAST_DAY)
    assert covered(connection) == [("000001", "RXX", False)]


def test_without_a_reference_the_figures_carry_a_caution() -> None:
    connection = up_to_outcomes([stay(1)], {})
    assert build_mortality(connection).cautions == (NO_REFERENCE,)
    assert build_mortality(connection, reference()).cautions == ()


def test_spells_that_no_model_covers_are_counted() -> None:
    connection = up_to_outcomes([stay(1), stay(2, DIAG_01="R69X6"), stay(3, DIAG_01="U071")], {})
    built = build_mortality(connection, data_until=LAST_DAY)
    assert (built.spells, built.uncovered) == (1, 2)


# The queries -----------------------------------------------------------------------------------------


def test_every_query_says_what_it_makes_and_has_all_its_parameters() -> None:
    known = {*mortality_parameters(), *computed_parameters(case_mix())}
    used: set[str] = set()
    for name, _ in MORTALITY_RELATIONS:
        text = core_query(name).read_text(encoding="utf-8")
        assert text.startswith(("-- Table ", "-- View ")), f"{name}.sql does not say what it makes"
        used |= single_select(text, name)
    assert used <= known
    assert known - used <= {"covered_provider_types", "report_months"}, "a parameter that nothing takes"


def test_the_rules_shared_with_the_core_are_the_same() -> None:
    core = core_parameters()
    shared = set(core) & set(mortality_parameters())
    assert {name: core[name] for name in shared} == {name: mortality_parameters()[name] for name in shared}


def test_scratch_tables_are_gone_after_the_build() -> None:
    connection = up_to_outcomes([stay(1)], {})
    build_mortality(connection)
    there = {name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()}
    assert not there & set(SCRATCH)
    assert {"shmi_spell", "mortality_coefficient", "mortality_pattern", "mortality_period"} <= there


def test_a_case_mix_with_other_factors_is_refused() -> None:
    mix = case_mix()
    other = CaseMix(
        name="case_mix", title="other", source="this test", years=3, factors=tuple(reversed(mix.factors))
    )
    with pytest.raises(ContractDefinitionError, match="do not know these factors"):
        build_mortality(up_to_outcomes([stay(1)], {}), mix=other)


# The models ------------------------------------------------------------------------------------------


def population(seed: int = 5, persons: int = 2600) -> tuple[list[dict[str, Any]], dict[str, date]]:
    """Three years of stays with everything that the model looks at, some of it rare or missing."""
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    deaths: dict[str, date] = {}
    for number in range(persons):
        newborn = rng.random() < 0.15
        day = date(2019, 4, 1) + timedelta(days=rng.randrange(1096))
        age = 7001 if newborn else rng.choice([2, 17, 30, 45, 58, 63, 67, 72, 77, 82, 86, 91, 95, None])
        method = rng.choice(["11", "12", "21", "21", "22", "2A", "99", None])
        row = stay(
            number,
            day=day,
            PROCODET=rng.choice(["RXX", "RXX", "RYY", "RZZ"]),
            SITETRET=rng.choice(["RXX01", "RYY02", None]),
            STARTAGE=age,
            SEX=rng.choice(["1", "2", "2", "9", None]),
            ADMIMETH=method,
            DIAG_01="P072" if newborn else rng.choice(["J189", "J189", "I219", "K922"]),
            BIRWEIT_1=rng.choice([800, 2000, 3300, 4700, 9999, None]) if newborn else None,
        )
        for place in range(2, 2 + rng.choice([0, 1, 2, 4])):
            row[f"DIAG_{place:02d}"] = rng.choice(
                ["I10X", "J449", "C349", "E112", "E119", "F03X", "C780", "K729"]
            )
        rows.append(row)
        old = age is not None and 80 < age < 7000
        if rng.random() < 0.06 + 0.12 * old + 0.06 * (method in ("21", "22")):
            deaths[f"person {number}"] = day + timedelta(days=rng.choice([0, 5, 20]))
    return rows, deaths


@pytest.fixture(scope="module")
def built() -> duckdb.DuckDBPyConnection:
    connection = up_to_outcomes(*population())
    build_mortality(connection, data_until=LAST_DAY)
    return connection


@pytest.fixture(scope="module")
def records(built: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """The covered spells as records of :mod:`transforms.case_mix`, read from the rows rather than from shmi_spell."""
    raw = built.execute(
        "select e.episode_id as spell_id, e.start_age, e.sex as sex, e.admission_method, e.primary_diagnosis, "
        "coalesce(e.secondary_codes, []) as codes, e.birth_weight_grams, r.died, r.risk, "
        "e.discharge_date, e.admission_date from episode as e join mortality_risk as r on r.spell_id = e.episode_id "
        "order by e.episode_id"
    ).pl()
    last = LAST_DAY.year * 12 + LAST_DAY.month
    months = pl.col("discharge_date").dt.year().cast(pl.Int64) * 12 + pl.col("discharge_date").dt.month()
    return add_levels(
        raw.with_columns(
            look_up(raw["primary_diagnosis"], diagnosis_groups().table()),
            charlson_index(raw["codes"], charlson()),
            year_index=(last - months) // 12 + 1,
            admission_month=pl.col("admission_date").dt.month().cast(pl.Int64),
        ),
        case_mix(),
    )


def coefficients(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    return connection.execute("select * from mortality_coefficient").pl()


def test_the_patterns_of_the_engine_are_those_of_the_records(
    built: duckdb.DuckDBPyConnection, records: pl.DataFrame
) -> None:
    assert records.height > 2500
    assert coefficients(built).drop("place").equals(fit_models(patterns(records, case_mix()), case_mix()))


def test_the_risks_of_the_engine_are_those_of_the_coefficients(
    built: duckdb.DuckDBPyConnection, records: pl.DataFrame
) -> None:
    alone = records.with_columns(pl.lit(1, dtype=pl.Int64).alias("spells"))
    found = expected(alone, coefficients(built).drop("place"))
    assert (found["expected"] - records["risk"]).abs().max() < 1e-14  # type: ignore[operator]


def test_expected_deaths_are_those_observed_in_every_level_of_every_factor(
    built: duckdb.DuckDBPyConnection, records: pl.DataFrame
) -> None:
    known = coefficients(built)
    differences = (
        records.group_by("diagnosis_group").agg(pl.col("risk").sum() - pl.col("died").sum())["risk"].to_list()
    )
    for name in case_mix().factor_names:
        speaks = known.filter(factor=name).select(
            "diagnosis_group",
            pl.col("level").alias(name),
            speaker=pl.col("merged_into").fill_null(pl.col("level")),
        )
        sums = (
            records.with_columns(pl.col(name).cast(pl.String))
            .join(speaks, on=["diagnosis_group", name], validate="m:1")
            .group_by("diagnosis_group", "speaker")
            .agg(pl.col("risk").sum() - pl.col("died").sum())
        )
        differences += sums["risk"].to_list()
    assert len(differences) > 80
    assert max(abs(difference) for difference in differences) < 1e-6


def test_the_risks_are_those_of_a_fit_on_every_spell_for_itself(
    built: duckdb.DuckDBPyConnection, records: pl.DataFrame
) -> None:
    people = records.filter(diagnosis_group=73)
    own = coefficients(built).filter(diagnosis_group=73)
    columns = [np.ones(people.height)]
    for name in case_mix().factor_names:
        part = own.filter(factor=name)
        speaker = dict(part.select("level", pl.col("merged_into").fill_null(pl.col("level"))).iter_rows())
        held = people[name].cast(pl.String).replace_strict(speaker)
        for level in part.filter(role="estimated").filter(pl.col("merged_into").is_null())["level"]:
            columns.append((held == level).to_numpy().astype(float))
    died = people["died"].to_numpy().astype(float)
    by_record = GLM(died, np.column_stack(columns), family=Binomial()).fit(tol=1e-11, tol_criterion="params")
    assert len(columns) > 20, "the group has few levels: nothing much is compared"
    assert np.abs(by_record.fittedvalues - people["risk"].to_numpy()).max() < 1e-8


def test_neither_the_order_of_rows_nor_their_division_into_deliveries_matters(
    built: duckdb.DuckDBPyConnection,
) -> None:
    rows, deaths = population()
    random.Random(8).shuffle(rows)
    shares = [{**row, "delivery_id": f"hes_apc-202199-{n % 3:012x}"} for n, row in enumerate(rows)]
    again = up_to_outcomes(shares, deaths)
    again.execute("set threads = 1")
    build_mortality(again, data_until=LAST_DAY)
    assert coefficients(again).equals(coefficients(built))
    assert run_indicator(again, SHMI).values.equals(run_indicator(built, SHMI).values)


def test_in_the_months_reported_deaths_expected_are_deaths_observed(built: duckdb.DuckDBPyConnection) -> None:
    values = run_indicator(built, SHMI).values.filter(stratum="all")
    assert values["numerator"].sum() > 50
    assert values["expected"].sum() == pytest.approx(values["numerator"].sum(), abs=1e-4)


# Against a world in which the truth is known -------------------------------------------------------------


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from infra.synthetic import generate

    folder = tmp_path_factory.mktemp("synthetic")
    generate(folder, episodes=70_000, hospitals=12, years=3, seed=1, recipient="", plain=True)
    return folder


@pytest.fixture(scope="module")
def known_world(synthetic: Path) -> tuple[duckdb.DuckDBPyConnection, Mortality]:
    """The newest file of each of the years 2021-22 to 2023-24, and the registered deaths."""
    connection = duckdb.connect(":memory:", config={"threads": "2", "python_enable_replacements": "false"})
    newest = [
        str(next(synthetic.glob(f"*HES_APC_{period}.txt"))) for period in ("202199", "202299", "202312")
    ]
    connection.execute(
        "create table delivered as select * from read_csv($files, all_varchar = true, header = true, delim = ',', "
        "ignore_errors = true, union_by_name = true)",
        {"files": newest},
    )
    here = {
        name.upper()
        for (name,) in connection.execute("select column_name from (describe delivered)").fetchall()
    }
    connection.execute(
        "create table hes_apc as select "
        + ", ".join(
            "md5(TOKEN_PERSON_ID) as person_token"
            if name == "person_token"
            else f"try_cast({name if name in here else 'null'} as {kind}) as {name}"
            for name, kind in COLUMNS.items()
        )
        + " from delivered"
    )
    create_bridge(connection, [])
    build_core(connection)
    deaths = next(synthetic.glob("*CIVIL_DEATHS*.csv"))
    registered = connection.execute(
        "select spell_id, greatest(least(died - discharge_date, 31), admission_date - discharge_date - 1)::integer "
        "as days_to_death from provider_spell join (select md5(TOKEN_PERSON_ID) as person_token, "
        "min(try_strptime(REG_DATE_OF_DEATH, '%Y%m%d')::date) as died from read_csv($file, all_varchar = true) "
        "group by all) using (person_token) where finished and died is not null",
        {"file": str(deaths)},
    ).pl()
    add_death_link(connection, registered)
    build_outcomes(connection)
    reference = read_reference(synthetic / "provider_reference.csv")
    return connection, build_mortality(connection, reference, data_until=date(2024, 3, 31))


@pytest.fixture(scope="module")
def assessed(known_world: tuple[duckdb.DuckDBPyConnection, Mortality]) -> pl.DataFrame:
    values = run_indicator(known_world[0], SHMI).values
    return assess(values.with_columns(pl.lit("shmi").alias("indicator"), pl.lit("v1").alias("version")))


def test_the_expected_deaths_of_a_known_world_are_recovered(synthetic: Path, assessed: pl.DataFrame) -> None:
    truth = json.loads((synthetic / "truth.json").read_text(encoding="utf-8"))
    by_hospital = truth["counts"]["2023"]
    found = {row["provider"]: row for row in assessed.filter(stratum="all").iter_rows(named=True)}
    assert len(found) >= 11, "most hospitals of the world are reported"
    observed = sum(row["numerator"] for row in found.values())
    true = {code: by_hospital[code]["expected_deaths_ordinary"] for code in found}
    # The model is fitted on what happened: chance and the planted hospital move all expected deaths by one share.
    moved = observed / sum(true.values())
    for code, row in found.items():
        # An expected number rests on the deaths at all twelve hospitals, so its standard deviation is a third or less
        # of that of the hospital's own deaths; three of its own are one of theirs.
        tolerance = sqrt(true[code])
        assert abs(row["expected"] - true[code] * moved) < tolerance, (
            f"{code}: {row['expected']:.1f} expected, the world says {true[code]:.1f}"
        )
        assert tolerance < true[code] / 5, "the world is too small to say anything"
    together = sqrt(sum((row["expected"] - true[code] * moved) ** 2 for code, row in found.items()))
    assert together < 0.05 * sum(true.values())


def test_the_hospital_with_too_many_deaths_is_found_in_its_group(
    synthetic: Path, assessed: pl.DataFrame
) -> None:
    truth = json.loads((synthetic / "truth.json").read_text(encoding="utf-8"))
    planted = next(entry for entry in truth["planted"] if entry["kind"] == "high_mortality")
    pneumonia = assessed.filter(
        pl.col("stratum").str.starts_with(f"diagnosis group: {planted['shmi_group']} ")
    )
    farthest = pneumonia.sort("z", descending=True).row(0, named=True)
    assert farthest["provider"] == planted["provider"]
    assert farthest["alert"] is not None
    raised = set(pneumonia.filter(pl.col("alert") == "alarm")["provider"])
    assert raised <= {planted["provider"]}, "another hospital is an alarm in the same group"


def test_the_spells_of_the_known_world_are_covered(
    known_world: tuple[duckdb.DuckDBPyConnection, Mortality],
) -> None:
    built = known_world[1]
    assert built.period is not None
    assert built.period.label == "2023-24"
    assert built.cautions == ()
    assert built.uncovered < 0.01 * built.spells
