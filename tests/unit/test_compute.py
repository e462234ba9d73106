"""The compute connection: its temporary files are unreadable, its errors carry no value, its indicators are
strict."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from infra import compute
from infra.mortality import MORTALITY_RELATIONS, computed_parameters, mortality_parameters
from schemas.errors import (
    ContractDefinitionError,
    IndicatorCheckFailed,
    IntegrityError,
    WorkspaceError,
)
from schemas.indicator_metadata import IndicatorMetadata, Parameter
from schemas.shmi_reference import case_mix
from schemas.yaml_text import parse_model, read_yaml
from sql import CORE_FOLDER, INDICATOR_FOLDER
from tests.sql.tables import create_bridge, create_hes_apc

CRUDE = INDICATOR_FOLDER / "crude_death_rate_v1"
CANARY = "canary-7f3a9c"


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    """A plain in-memory connection with the two delivered relations, empty."""
    plain = duckdb.connect(":memory:", config={"threads": "2", "python_enable_replacements": "false"})
    create_hes_apc(plain, [])
    create_bridge(plain, [])
    return plain


def add_stay(
    connection: duckdb.DuckDBPyConnection, key: str, person: int, day: date, sex: str = "1", age: int = 70
) -> None:
    connection.execute(
        "insert into hes_apc (EPIKEY, person_token, PROCODET, EPISTAT, CLASSPAT, ADMIDATE, EPISTART, EPIEND, "
        "DISDATE, DISMETH, EPIORDER, SEX, STARTAGE) values (?, ?, 'RXX', '3', '1', ?, ?, ?, ?, '1', 1, ?, ?)",
        [key, f"{person:032x}", day, day, day, day, sex, age],
    )


def link(*rows: tuple[str, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"spell_id": pl.String, "days_to_death": pl.Int64}, orient="row")


# The core tables ----------------------------------------------------------------------------------------


def test_spells_are_never_built_into_an_attached_database(tmp_path: Path) -> None:
    attached = duckdb.connect(":memory:")
    attached.execute(f"attach '{tmp_path / 'lake.db'}' as lake")
    attached.execute("use lake")
    with pytest.raises(WorkspaceError, match="in-memory"):
        compute.build_core(attached)


def test_a_delivered_table_that_is_not_there_is_named_by_its_relation() -> None:
    with pytest.raises(ContractDefinitionError, match="building episode_record"):
        compute.build_core(duckdb.connect(":memory:"))


def test_scratch_tables_are_gone_after_the_build(connection: duckdb.DuckDBPyConnection) -> None:
    compute.build_core(connection)
    kept = {
        row[0] for row in connection.execute("select table_name from information_schema.tables").fetchall()
    }
    built = {name for name, kind in compute.CORE_RELATIONS if kind != "scratch"}
    assert kept == built | {"hes_apc", "hes_person_bridge"}


def test_building_twice_gives_the_same(connection: duckdb.DuckDBPyConnection) -> None:
    add_stay(connection, "101", 1, date(2019, 5, 1))
    compute.build_core(connection)
    first = connection.execute("select * from provider_spell").fetchall()
    compute.build_core(connection)
    assert first == connection.execute("select * from provider_spell").fetchall() != []


def test_every_file_of_the_core_is_built_and_described() -> None:
    files = {file.stem for file in CORE_FOLDER.glob("*.sql")}
    relations = {name for name, _ in (*compute.CORE_RELATIONS, *MORTALITY_RELATIONS)}
    assert files == relations | {"spell_outcome", "singling_out"}
    known = {
        *compute.core_parameters(),
        *mortality_parameters(),
        *computed_parameters(case_mix()),
        *("fields", "combination"),
    }
    for file in CORE_FOLDER.glob("*.sql"):
        text = file.read_text(encoding="utf-8")
        assert text.startswith(("-- Table ", "-- View ")), f"{file.name} does not say what it makes"
        assert compute.single_select(text, file.name) <= known, f"{file.name} asks for a parameter nobody has"


def test_only_finished_spells_are_linked(connection: duckdb.DuckDBPyConnection) -> None:
    add_stay(connection, "101", 1, date(2019, 5, 1))
    add_stay(connection, "102", 2, date(2019, 5, 1))
    connection.execute("update hes_apc set DISMETH = '8' where EPIKEY = '102'")
    compute.build_core(connection)
    frame = compute.spells_for_linkage(connection)
    assert frame.to_dicts() == [
        {
            "spell_id": "101",
            "person_token": f"{1:032x}",
            "admission_date": date(2019, 5, 1),
            "discharge_date": date(2019, 5, 1),
        }
    ]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (link(("101", 3), ("101", 4)), "more than once"),
        (link(("101", 3)).with_columns(pl.lit(None, pl.Int64).alias("days_to_death")), "empty values"),
        (link(("101", 3)).with_columns(pl.lit("3").alias("days_to_death")), "not an integer"),
        (link(("101", 3)).rename({"days_to_death": "days"}), "must have the columns"),
        (link(("999", 3)), "1 spells of the death link are no finished spells"),
    ],
)
def test_a_death_link_that_does_not_fit_is_refused(
    connection: duckdb.DuckDBPyConnection, frame: pl.DataFrame, message: str
) -> None:
    add_stay(connection, "101", 1, date(2019, 5, 1))
    compute.build_core(connection)
    with pytest.raises(IntegrityError, match=message) as caught:
        compute.add_death_link(connection, frame)
    assert "999" not in str(caught.value), "the message names a record"


def test_an_empty_death_link_is_fine(connection: duckdb.DuckDBPyConnection) -> None:
    add_stay(connection, "101", 1, date(2019, 5, 1))
    compute.build_core(connection)
    compute.add_death_link(connection, link())
    compute.build_outcomes(connection)
    assert connection.execute(
        "select count(*), bool_or(died_within_30_days) from spell_outcome"
    ).fetchall() == [(1, False)]


def test_singling_out_counts_records_that_are_alone_in_what_they_say(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    for key, person, day, age in (
        ("101", 1, date(2019, 5, 1), 70),
        ("102", 2, date(2019, 5, 1), 70),  # as 101
        ("103", 3, date(2019, 5, 2), 70),  # another day of the month
        ("104", 4, date(2019, 6, 1), 33),
    ):
        add_stay(connection, key, person, day, age=age)
    compute.build_core(connection)
    frame = compute.count_singling_out(connection)
    unique = dict(frame.select("combination", "unique_records").iter_rows())
    assert unique["provider, admission date, sex, age"] == 2, "103 and 104 are alone"
    assert unique["provider, admission month, sex, age"] == 1, "104 is alone"
    assert frame.get_column("records").to_list() == [4] * frame.height
    assert set(frame.columns) == {"combination", "records", "unique_records"}, "counts only"


# The indicators -----------------------------------------------------------------------------------------


@pytest.fixture
def indicator(tmp_path: Path) -> Path:
    """A copy of an indicator that a test may spoil."""
    return Path(shutil.copytree(CRUDE, tmp_path / CRUDE.name))


@pytest.fixture
def ready(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    add_stay(connection, "101", 1, date(2019, 5, 1))
    compute.build_core(connection)
    compute.add_death_link(connection, link(("101", 3)))
    compute.build_outcomes(connection)
    return connection


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{file.name} has no {old!r} to replace"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_an_indicator_returns_its_values_and_checks(ready: duckdb.DuckDBPyConnection) -> None:
    result = compute.run_indicator(ready, CRUDE)
    assert result.values.rows() == [("2019-20", "RXX", "all", 1, 1)]
    assert result.values.schema["numerator"] == pl.Int64
    assert {check.severity for check in result.checks} == {"fail", "warn"}
    assert all(check.rows == 0 for check in result.checks)


def test_a_failing_check_stops_the_indicator_and_says_why(
    ready: duckdb.DuckDBPyConnection, indicator: Path
) -> None:
    edit(indicator / "checks.sql", "numerator > denominator", "numerator = denominator")
    with pytest.raises(IndicatorCheckFailed, match=r"no provider has more deaths than stays \(1 rows\)"):
        compute.run_indicator(ready, indicator)


def test_a_warning_is_reported_and_stops_nothing(ready: duckdb.DuckDBPyConnection, indicator: Path) -> None:
    edit(indicator / "checks.sql", "denominator >= 1000 and numerator = 0", "denominator < 1000")
    result = compute.run_indicator(ready, indicator)
    assert [check.rows for check in result.broken_warnings] == [1]


def test_other_columns_than_the_metadata_says_are_refused(
    ready: duckdb.DuckDBPyConnection, indicator: Path
) -> None:
    edit(indicator / "query.sql", "count(*) as denominator", "count(*)::integer as denominator")
    with pytest.raises(ContractDefinitionError, match="columns differ"):
        compute.run_indicator(ready, indicator)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("query.sql", "order by cohort", "; select 1 order by cohort", "one SELECT|not readable"),
        ("query.sql", "with cohort as", "create table x as with cohort as", "one SELECT"),
        ("query.sql", "with cohort as", "with with cohort as", "not readable SQL"),
        ("query.sql", "$excluded_patient_classes, coal", "$other, coal", "excluded|other"),
        ("metadata.yaml", 'version: "1"', 'version: "2"', "calls it crude_death_rate_v2"),
        ("metadata.yaml", "owner:", "owners:", "owner"),
        ("metadata.yaml", "intelligence_analyst", "someone@example.org", "role"),
        ("metadata.yaml", "unit: proportion", "unit: percent", "unit"),
        ("metadata.yaml", "{name: period,", "{name: person_token,", "first columns"),
        ("metadata.yaml", 'next_review: "2027-11-22"', 'next_review: "2020-11-22"', "later than"),
        ("metadata.yaml", 'value: ["2", "3", "4"]', 'value: "2"', "is a list"),
        ("checks.sql", "-- fail: no provider", "-- error: no provider", "before the first"),
        (
            "checks.sql",
            "select count(*) from indicator_result where n",
            "delete from indicator_result where n",
            "SELECT",
        ),
    ],
)
def test_an_indicator_that_is_not_quite_right_does_not_load(
    indicator: Path, file: str, old: str, new: str, message: str
) -> None:
    edit(indicator / file, old, new)
    with pytest.raises(ContractDefinitionError, match=message):
        compute.load_indicator(indicator)


def test_a_folder_with_a_file_too_many_or_too_few_does_not_load(indicator: Path) -> None:
    (indicator / "notes.txt").write_text("x")
    with pytest.raises(ContractDefinitionError, match=r"notes\.txt"):
        compute.load_indicator(indicator)
    (indicator / "notes.txt").unlink()
    (indicator / "checks.sql").unlink()
    with pytest.raises(ContractDefinitionError, match=r"checks\.sql"):
        compute.load_indicators(indicator.parent)


def test_checks_without_a_fail_check_do_not_load() -> None:
    with pytest.raises(ContractDefinitionError, match="no '-- fail:' check"):
        compute.parse_checks("-- warn: all is well\nselect 0", "checks.sql")


def test_no_column_of_an_indicator_may_stand_for_one_person() -> None:
    metadata: dict[str, Any] = read_yaml(CRUDE / "metadata.yaml")
    metadata["columns"].append({"name": "spell_id", "type": "VARCHAR", "description": "no"})
    with pytest.raises(ContractDefinitionError, match="one person, stay or record"):
        parse_model(IndicatorMetadata, metadata, "metadata.yaml")


@pytest.mark.parametrize(
    ("kind", "value", "bound"),
    [
        ("codes", ["01", "NO"], ["01", "NO"]),
        ("code", "01", "01"),
        ("integer", "30", 30),
        ("decimal", "0.5", 0.5),
        ("date", "2021-09-01", date(2021, 9, 1)),
    ],
)
def test_a_parameter_is_bound_as_its_type(kind: str, value: object, bound: object) -> None:
    raw = {"name": "x", "type": kind, "value": value, "says": "s", "source": "s", "status": "ours"}
    assert parse_model(Parameter, raw, "test").bound == bound


@pytest.mark.parametrize(
    ("kind", "value"),
    [("integer", "many"), ("date", "2021-13-01"), ("codes", "01"), ("code", ["01"]), ("codes", [])],
)
def test_a_parameter_of_another_type_does_not_load(kind: str, value: object) -> None:
    raw = {"name": "x", "type": kind, "value": value, "says": "s", "source": "s", "status": "ours"}
    with pytest.raises(ContractDefinitionError):
        parse_model(Parameter, raw, "test")
