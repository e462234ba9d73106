"""The engine: its temporary files are unreadable and swept, and its errors carry no value."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import duckdb
import polars as pl
import pytest

from infra import engine
from schemas.errors import (
    ContractDefinitionError,
    StorageFailed,
    WardwatchError,
    WorkspaceError,
)

CANARY = "canary-7f3a9c"


def test_temporary_files_of_the_connection_are_encrypted_and_private(tmp_path: Path) -> None:
    with engine.open_engine("64MB", tmp_path / "tmp") as opened:
        opened.execute(
            f"create table big as select '{CANARY}' || hash(range)::varchar as x from range(2000000)"
        )
        files = [file for file in (tmp_path / "tmp").rglob("*") if file.is_file()]
        assert files, "nothing was spilled, so nothing was tested"
        assert not any(CANARY.encode() in file.read_bytes() for file in files), "a spill file can be read"
        assert stat.S_IMODE((tmp_path / "tmp").stat().st_mode) == 0o700, "others can look into the folder"
    assert not list((tmp_path / "tmp").rglob("*")), "closing the connection left temporary files"


def test_readable_temporary_files_are_noticed(tmp_path: Path) -> None:
    """The probe's own control: with encryption off it must object."""
    spill = tmp_path / "spill"
    plain = duckdb.connect(":memory:", config={"temp_directory": str(spill), "threads": "2"})
    with pytest.raises(WorkspaceError, match="can be read"):
        engine.prove_spill_is_encrypted(plain, spill, "1GB")


def test_a_probe_that_proves_nothing_is_an_error(tmp_path: Path) -> None:
    plain = duckdb.connect(":memory:", config={"temp_directory": str(tmp_path / "spill"), "threads": "2"})
    with pytest.raises(WorkspaceError, match="could not be proved"):
        engine.prove_spill_is_encrypted(plain, tmp_path / "another folder", "1GB")


def test_the_memory_limit_asked_for_holds_after_the_proof(tmp_path: Path) -> None:
    with engine.open_engine("256MiB", tmp_path) as opened:
        row = opened.execute(
            "select current_setting('memory_limit'), current_setting('temp_file_encryption'), "
            "current_setting('threads')"
        ).fetchone()
    assert row == ("256.0 MiB", True, 2)


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_uses_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    of_the_dead, of_the_living = tmp_path / f"engine-{ended.pid}-1", tmp_path / f"engine-{os.getpid()}-1"
    for folder in (of_the_dead, of_the_living, tmp_path / "something else"):
        folder.mkdir()
        (folder / "duckdb_temp_storage_DEFAULT-0.tmp").write_bytes(b"x")
    assert engine.sweep_spill(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([of_the_living.name, "something else"])


def test_two_connections_share_no_spill_folder(tmp_path: Path) -> None:
    with engine.open_engine("64MB", tmp_path) as one, engine.open_engine("64MB", tmp_path) as other:
        folders = {
            str(opened.execute("select current_setting('temp_directory')").fetchone())
            for opened in (one, other)
        }
    assert len(folders) == 2, "two engines in one folder overwrite each other's files"


def test_the_extensions_come_from_their_wheels_and_none_is_fetched(tmp_path: Path) -> None:
    with engine.open_engine("64MB", tmp_path) as opened:
        loaded = opened.execute(
            "select extension_name from duckdb_extensions() where loaded "
            "and extension_name in ('httpfs', 'ducklake') order by all"
        ).fetchall()
        settings = opened.execute(
            "select current_setting('autoinstall_known_extensions'), "
            "current_setting('autoload_known_extensions'), current_setting('allow_community_extensions')"
        ).fetchone()
    assert loaded == [("ducklake",), ("httpfs",)]
    assert settings == (False, False, False)


def test_a_missing_extension_wheel_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "EXTENSIONS", ("nosuch",))
    with pytest.raises(WorkspaceError, match=r"extension nosuch .* is not installed"):
        engine.load_extensions(duckdb.connect(":memory:"))


def test_a_misspelt_table_is_not_looked_up_among_python_variables(tmp_path: Path) -> None:
    hes_apx = pl.DataFrame({"x": [1]})
    with (
        engine.open_engine("64MB", tmp_path) as opened,
        pytest.raises(ContractDefinitionError, match="does not fit the tables"),
        engine.engine_errors("counting"),
    ):
        opened.execute("select count(*) from hes_apx")
    assert hes_apx.height == 1


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        (f"select cast('{CANARY}' as integer)", WardwatchError),
        (f"select error('{CANARY}')", WardwatchError),
        (f"select * from '{CANARY}.csv'", WardwatchError),
        (f'select "{CANARY}"', ContractDefinitionError),
        (f"select * from read_csv('/nonexistent/{CANARY}')", StorageFailed),
        (f"select '{CANARY}' from from", ContractDefinitionError),
    ],
)
def test_no_text_of_the_engine_gets_out(statement: str, error: type[WardwatchError]) -> None:
    with pytest.raises(error) as caught, engine.engine_errors("looking"):
        duckdb.connect(":memory:").execute(statement)
    assert CANARY not in str(caught.value), "the message quotes what the engine choked on"
    assert caught.value.__suppress_context__, "a traceback would show the engine's message"


def test_too_little_memory_is_named_as_such() -> None:
    small = duckdb.connect(":memory:", config={"memory_limit": "8MB", "temp_directory": ""})
    with pytest.raises(WorkspaceError, match="memory limit"), engine.engine_errors("building"):
        small.execute("create table big as select hash(range)::varchar as x from range(5000000)")
