"""A run is published whole or not at all, and twice the same data give the same files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from infra import commit_points
from infra.naming import parse_name
from infra.publish import (
    DATABASE,
    build_candidate,
    canonical_digest,
    current,
    current_run,
    keep_last,
    publish,
    runs,
    sweep,
)
from schemas.contract import Item
from schemas.errors import ContractDefinitionError, IntegrityError, UsageError
from schemas.published import MARKING_COLUMN, Declaration, declaration
from schemas.yaml_text import parse_model
from tests.published_sample import RECORD_DATE, RUN, sample_tables

TABLES = sample_tables()
RUNS = ("20201120T000000Z-a", "20201121T000000Z-b")


@pytest.fixture(autouse=True, scope="module")
def _plain_report() -> Iterator[None]:
    # The report has its own tests; here a page that says how many rows it was given is enough.
    def page(tables: Mapping[str, pl.DataFrame], *_: object) -> str:
        return f"<html>{sorted((name, frame.height) for name, frame in tables.items())}</html>"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infra.report.build_report", page)
        yield


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, _plain_report: None) -> Path:
    """A folder with two runs, to be looked at only; ``copied`` gives one that may be changed."""
    folder = tmp_path_factory.mktemp("published")
    for run_id in RUNS:
        publish_sample(folder, run_id)
    return folder


@pytest.fixture
def copied(published: Path, tmp_path: Path) -> Path:
    return shutil.copytree(published, tmp_path / "published", symlinks=True)


@pytest.fixture
def folder(published: Path) -> Path:
    return published / RUNS[-1]


def query(folder: Path, sql: str) -> list[tuple]:  # type: ignore[type-arg]
    with duckdb.connect(str(folder / DATABASE), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def publish_sample(folder: Path, run_id: str, **tables: pl.DataFrame) -> Path:
    return publish(folder, run_id, {**TABLES, **tables}, RUN, RECORD_DATE).folder


# the set of files -----------------------------------------------------------------------------------


def test_every_table_is_in_the_database_with_a_comment_on_every_column(folder: Path) -> None:
    sql = "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal"
    found = query(folder, sql)
    views = {view.name for view in declaration().views}
    columns = {row[:2]: row[2:] for row in found if row[0] not in views}
    for table in declaration().tables:
        for column in table.columns:
            assert columns.pop((table.name, column.name)) == (column.type, column.comment)
    assert not columns, "nothing is published that is not declared"
    tables = query(folder, "SELECT table_name, comment FROM duckdb_tables()")
    assert dict(tables) == {table.name: table.comment for table in declaration().tables}


def test_the_tables_that_analysts_rely_on_are_there(folder: Path) -> None:
    for name in (
        "indicator",
        "indicator_value",
        "alert",
        "cusum_point",
        "funnel_limit",
        "provider",
        "delivery",
        "rule_result",
        "run",
    ):
        assert query(folder, f"SELECT count(*) FROM {name}")[0][0] >= 0
    assert query(folder, "SELECT count(*) FROM indicator_value") == [(216,)]
    assert query(folder, "SELECT count(*) FROM indicator_value_latest WHERE friendly_name IS NULL") == [(0,)]
    assert query(folder, "SELECT count(*) FROM rule_result_over_allowance") == [(1,)]
    assert query(folder, "SELECT run_id FROM run") == [(RUNS[-1],)]


def test_files_carry_record_names_and_every_row_the_marking(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    assert "20200331 Wardwatch indicator values v1 OFFICIAL SENSITIVE.csv" in names
    names.remove(DATABASE)
    for name in names:
        record = parse_name(name)
        assert (record.date, record.name, record.version) == (RECORD_DATE, "Wardwatch", 1)
        assert record.marking == "OFFICIAL SENSITIVE"
        assert (record.extension == "html") == (record.record_type == "report")
    csv = (folder / "20200331 Wardwatch alerts v1 OFFICIAL SENSITIVE.csv").read_text().splitlines()
    assert csv[0].endswith(f",{MARKING_COLUMN}")
    assert all(line.endswith(",OFFICIAL SENSITIVE") for line in csv[1:])
    parquet = folder / "20200331 Wardwatch alerts v1 OFFICIAL SENSITIVE.parquet"
    assert pl.read_parquet(parquet).columns == csv[0].split(",")
    assert pl.read_parquet_metadata(parquet)["protective_marking"] == "OFFICIAL SENSITIVE"


def test_the_run_is_in_the_database_alone(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != DATABASE:
            assert RUNS[-1] not in path.name
            assert RUNS[-1].encode() not in path.read_bytes(), path.name
    assert not [path for path in folder.iterdir() if " runs " in path.name]


def test_only_the_owner_can_read_a_candidate(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path.name


# the same again -------------------------------------------------------------------------------------


def test_the_same_tables_give_the_same_files_whatever_the_run_and_the_order_of_rows(tmp_path: Path) -> None:
    shuffled = {name: frame.sample(fraction=1, shuffle=True, seed=7) for name, frame in TABLES.items()}
    run = {"started_at": datetime(2020, 11, 22, 1, 2), "code_version": "0.1.0"}
    first = publish(tmp_path / "a", "20201122T010203Z-aaaa", TABLES, run, RECORD_DATE).outputs
    second = publish(tmp_path / "b", "20211122T010203Z-bbbb", shuffled, RUN, RECORD_DATE).outputs
    assert set(first) == set(second)
    assert first[DATABASE]["canonical_digest"] == second[DATABASE]["canonical_digest"]
    del first[DATABASE], second[DATABASE]
    assert first == second


def test_the_digest_sees_a_value_a_comment_and_a_column(copied: Path) -> None:
    folder = copied / RUNS[-1]
    seen = {canonical_digest(folder / DATABASE)}
    for change in (
        "UPDATE provider SET name = 'another' WHERE code = 'RAA'",
        "COMMENT ON COLUMN provider.name IS 'another comment'",
        "COMMENT ON TABLE provider IS 'another comment'",
        "ALTER TABLE provider ADD COLUMN beds BIGINT",
        "DELETE FROM provider WHERE code = 'RAB'",
        "CREATE VIEW more AS SELECT 1 AS one",
    ):
        with duckdb.connect(str(folder / DATABASE)) as connection:
            connection.execute(change)
        digest = canonical_digest(folder / DATABASE)
        assert digest not in seen, change
        seen.add(digest)
    with duckdb.connect(str(folder / DATABASE)) as connection:
        connection.execute("UPDATE run SET run_id = 'x', started_at = now()")
    assert canonical_digest(folder / DATABASE) == digest, "the run is no part of it"


def test_a_file_that_is_no_database_has_no_digest(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"not a database" * 1000)
    with pytest.raises(IntegrityError):
        canonical_digest(tmp_path / DATABASE)


# what does not fit is not published -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "change", "says"),
    [
        ("provider", lambda f: f.with_columns(nhs_number=pl.lit("x")), "not declared"),
        ("provider", lambda f: f.drop("code"), "without the column"),
        ("provider", lambda f: pl.concat([f, f]), "two rows"),
        ("provider", lambda f: f.with_columns(code=pl.lit(None, dtype=pl.String)), "empty"),
        ("alert", lambda f: f.with_columns(z=pl.lit(float("nan"))), "finite"),
        ("alert", lambda f: f.with_columns(z=pl.lit("far")), "type"),
    ],
)
def test_a_table_that_differs_from_its_declaration_is_not_published(
    copied: Path,
    table: str,
    change: Callable[[pl.DataFrame], pl.DataFrame],
    says: str,
) -> None:
    before = current(copied)
    changed = {table: change(TABLES[table])}
    with pytest.raises(IntegrityError, match=says) as refused:
        publish_sample(copied, "20201123T010203Z-bbbb", **changed)
    assert "RAA" not in str(refused.value), "a message never carries a value"
    assert current(copied) == before, "readers still see the run before"


def test_a_table_nobody_declared_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="not declared"):
        publish_sample(tmp_path, "20201122T010203Z-aaaa", patients=pl.DataFrame({"a": [1]}))


def test_no_published_column_can_be_an_identifiable_item() -> None:
    items = {item.value for item in Item}
    fields = {"newnhsno", "lopatid", "dob", "homeadd", "person_token", "epikey"}
    names = {column.name.lower() for table in declaration().tables for column in table.columns}
    assert not names & (items | fields)


def test_a_declaration_that_contradicts_itself_does_not_load() -> None:
    raw = declaration().model_dump(by_alias=True)
    raw["tables"][0]["key"] = ["nothing"]
    with pytest.raises(ContractDefinitionError, match="key names a column"):
        parse_model(Declaration, raw, "published.yaml")


@pytest.mark.parametrize("run_id", ["", "../x", "current", "public", "a b", ".staging-x"])
def test_a_run_id_that_is_no_folder_name_is_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(UsageError):
        publish_sample(tmp_path, run_id)


def test_a_run_is_published_once(published: Path) -> None:
    with pytest.raises(UsageError, match="before"):
        publish_sample(published, RUNS[0])


# killed anywhere ------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("where", "sees_new"),
    [
        ("publish.candidate_built", False),
        ("publish.candidate_renamed", False),
        ("publish.pointer_made", False),
        ("publish.pointer_moved", True),
        ("publish.old_run_hidden", True),
    ],
)
def test_killed_anywhere_readers_see_the_old_run_or_the_new_one(
    copied: Path, monkeypatch: pytest.MonkeyPatch, where: str, sees_new: bool
) -> None:
    def kill(name: str) -> None:
        if name == where:
            raise Killed

    monkeypatch.setattr(commit_points, "reached", kill)
    with pytest.raises(Killed):
        publish(copied, "20201122T000000Z-c", TABLES, RUN, RECORD_DATE, keep=1)
    seen = current(copied)
    assert seen is not None
    assert seen.name == ("20201122T000000Z-c" if sees_new else RUNS[-1])
    assert query(seen, "SELECT count(*) FROM indicator_value") == [(216,)]
    monkeypatch.undo()

    publish_sample(copied, "20201123T000000Z-d")
    assert current_run(copied) == "20201123T000000Z-d"
    assert not [path for path in copied.iterdir() if path.name.startswith(".")], "nothing is left behind"


def test_the_pointer_is_relative_so_that_a_workspace_can_be_moved(copied: Path, tmp_path: Path) -> None:
    copied.rename(tmp_path / "elsewhere")
    assert query(tmp_path / "elsewhere" / "current", "SELECT count(*) FROM provider") == [(36,)]


def test_a_reader_with_the_old_file_open_keeps_it(copied: Path) -> None:
    old = copied / RUNS[-1]
    with duckdb.connect(str(old / DATABASE), read_only=True) as reader:
        publish(copied, "20201123T010203Z-c", TABLES, RUN, RECORD_DATE, keep=1)
        assert not old.exists()
        assert reader.execute("SELECT count(*) FROM indicator_value").fetchone() == (216,)


def test_old_runs_go_but_not_the_current_or_a_released_one(tmp_path: Path) -> None:
    for day in range(1, 8):
        (tmp_path / f"2020110{day}").mkdir()
    (tmp_path / "public" / "20201102").mkdir(parents=True)
    os.symlink("20201101", tmp_path / "current")
    assert keep_last(tmp_path, keep=3) == ["20201103", "20201104"]
    assert runs(tmp_path) == ["20201101", "20201102", "20201105", "20201106", "20201107"]


def test_the_remains_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".staging-x").mkdir()
    (tmp_path / ".staging-x" / "half.csv").write_text("half")
    os.symlink("nowhere", tmp_path / ".staging-pointer")
    (tmp_path / "20201101").mkdir()
    assert sweep(tmp_path) == 2
    assert runs(tmp_path) == ["20201101"]
    assert sweep(tmp_path / "missing") == 0
    assert current(tmp_path) is None


def test_the_public_set_has_only_the_public_tables(tmp_path: Path) -> None:
    tables = {name: TABLES[name] for name in ("indicator", "indicator_value", "funnel_limit", "provider")}
    outputs = build_candidate(tmp_path, tables, {}, RECORD_DATE, "OFFICIAL")
    assert "20200331 Wardwatch indicator values v1.csv" in outputs, "OFFICIAL is not written in a name"
    assert len(outputs) == 4 * 2 + 2
    assert query(tmp_path, "SELECT DISTINCT protective_marking FROM provider") == [("OFFICIAL",)]
    found = {name for (name,) in query(tmp_path, "SELECT table_name FROM duckdb_tables()")}
    assert found == {"indicator", "indicator_value", "funnel_limit", "provider"}
    with pytest.raises(IntegrityError):
        build_candidate(tmp_path, {"alert": TABLES["alert"]}, {}, RECORD_DATE, "OFFICIAL")
