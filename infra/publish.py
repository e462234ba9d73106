"""The publication of a run: a candidate built beside the old one, and the pointer that moves at the end.

``published/<run>/`` holds one DuckDB file that any client opens, every table as CSV and Parquet under its
record name, and the HTML report. It is built in ``published/.staging-<run>/``, renamed when complete, and
only then
``published/current`` (a relative symbolic link) is replaced in one step: a reader sees the old run or the
new. Killed anywhere, what is left is either a staging folder, which :func:`sweep` removes, or a complete
run that nothing points to.

The same tables give the same bytes of CSV, Parquet and HTML and the same :func:`canonical_digest` of the
DuckDB file, whose own bytes differ on every build. Run id and times live in the table ``run``, which is in
the DuckDB file alone and no part of the digest.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import polars as pl

from infra.commit_points import commit_point
from infra.engine import out_of_space
from infra.files import (
    make_folder,
    removed_on_error,
    storage_errors,
    sync_file,
    sync_folder,
    write_atomic,
)
from infra.naming import SENSITIVE, make_name
from schemas.errors import IntegrityError, UsageError
from schemas.published import Marking, Table, View, declaration

DATABASE = "wardwatch.duckdb"
CURRENT = "current"
PUBLIC = "public"
STAGING = ".staging-"
RECORD_NAME = "Wardwatch"
KEEP_RUNS = 5
"""Earlier runs kept beside the current one; a run that was released to the public is kept in any case."""

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")
_DIGEST_ROWS = 50_000
_LOCKED_DOWN = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}

Outputs = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Publication:
    """``folder`` of the run, and its ``outputs``: file name -> sha256 (and canonical_digest of the
    database)."""

    folder: Path
    outputs: Outputs


def publish(
    published: Path,
    run_id: str,
    tables: Mapping[str, pl.DataFrame],
    run: Mapping[str, object],
    record_date: date,
    keep: int = KEEP_RUNS,
) -> Publication:
    """Build the candidate of a run, put it in place and point ``published/current`` to it.

    ``tables``: table name -> frame, as declared in ``schemas/published.yaml``; those left out are published
    empty. ``run``: the one row of table ``run`` (run_id is filled in). ``record_date``: the date in the
    record names, derived from the data, so that a second run over the same data gives the same names.
    ``run_id`` sorts by time; earlier runs beyond ``keep`` are removed unless they were released.

    Raises :class:`UsageError` for a run id that is none or was published before, :class:`IntegrityError` for
    tables that do not fit the declaration, and the storage errors of :mod:`infra.files`.
    """
    target = published / check_run_id(run_id)
    if target.exists():
        raise UsageError("a run with this id was published before")
    make_folder(published)
    sweep(published)
    staging = make_folder(published / f"{STAGING}{run_id}")
    with removed_on_error(staging):
        outputs = build_candidate(staging, tables, {**run, "run_id": run_id}, record_date)
    commit_point("publish.candidate_built")
    put_in_place(staging, target)
    commit_point("publish.candidate_renamed")
    point(published, run_id)
    commit_point("publish.pointer_moved")
    keep_last(published, keep)
    return Publication(target, outputs)


def check_run_id(run_id: str) -> str:
    """``run_id`` if it may name a folder. Raises :class:`UsageError`."""
    if not RUN_ID.fullmatch(run_id) or run_id in (CURRENT, PUBLIC):
        raise UsageError("a run id has letters, digits and hyphens")
    return run_id


def build_candidate(
    folder: Path,
    tables: Mapping[str, pl.DataFrame],
    run: Mapping[str, object],
    record_date: date,
    marking: Marking = SENSITIVE,
) -> Outputs:
    """Write all files of one set into ``folder``; returns file name -> {"sha256": ...}.

    With ``marking`` OFFICIAL only the tables declared public are written, and no table ``run``. The entry of
    the database also has ``canonical_digest``.

    Raises as :func:`publish` does.
    """
    wanted = [table for table in declaration().tables if table.public or marking == SENSITIVE]
    known = {table.name for table in wanted}
    if set(tables) - known:
        raise IntegrityError(f"{len(set(tables) - known)} table(s) that are not declared for this set")
    frames: dict[str, pl.DataFrame] = {}
    for table in wanted:
        if table.files:
            given = tables.get(table.name, pl.DataFrame(schema=table.types))
        else:
            given = tables.get(table.name, pl.DataFrame([dict(run)]))
        frames[table.name] = table.conform(given, marking)

    outputs: Outputs = {}
    for table in wanted:
        if not table.files:
            continue
        frame = frames[table.name]
        parquet = io.BytesIO()
        frame.write_parquet(
            parquet, compression="zstd", statistics=True, metadata={"protective_marking": marking}
        )
        for extension, content in (("csv", frame.write_csv().encode()), ("parquet", parquet.getvalue())):
            name = make_name(record_date, RECORD_NAME, table.record_type, 1, marking, extension)
            outputs[name] = _write(folder / name, content)

    from infra.report import build_report  # the charts take seconds to import

    name = make_name(record_date, RECORD_NAME, "report", 1, marking, "html")
    outputs[name] = _write(folder / name, build_report(frames, record_date, marking).encode())

    views = declaration().views
    _write_database(folder / DATABASE, wanted, frames, [view for view in views if marking == SENSITIVE])
    outputs[DATABASE] = {
        "sha256": _sha256(folder / DATABASE),
        "canonical_digest": canonical_digest(folder / DATABASE),
    }
    return outputs


def canonical_digest(database: Path) -> str:
    """The sha256 of what a DuckDB file says: schema, comments, views and ordered rows, without table ``run``.

    Two files with the same digest hold the same, whatever their bytes. Raises :class:`IntegrityError` when
    the file cannot be read.
    """
    digest = hashlib.sha256()

    def add(part: object) -> None:
        digest.update(json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    try:
        with duckdb.connect(str(database), read_only=True, config=dict(_LOCKED_DOWN)) as connection:
            of = "FROM duckdb_{}() WHERE NOT internal"
            found = connection.execute(
                f"SELECT table_name, comment {of.format('tables')} ORDER BY table_name"
            ).fetchall()
            for name, comment in found:
                if name == "run":
                    continue
                columns = connection.execute(
                    "SELECT column_name, data_type, is_nullable, comment FROM duckdb_columns() "
                    "WHERE table_name = ? AND NOT internal ORDER BY column_index",
                    [name],
                ).fetchall()
                add(["table", name, comment, columns])
                rows = connection.execute(f'SELECT * FROM "{name}" ORDER BY ALL').pl()
                for part in rows.iter_slices(_DIGEST_ROWS):
                    digest.update(part.write_ndjson().encode())
            for view in connection.execute(
                f"SELECT view_name, comment, sql {of.format('views')} ORDER BY view_name"
            ).fetchall():
                add(["view", *view])
    except duckdb.Error:
        raise IntegrityError("a published database cannot be read") from None
    return digest.hexdigest()


def read_tables(folder: Path, names: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Tables out of the database in ``folder``. Raises :class:`IntegrityError` when it cannot be read."""
    try:
        with duckdb.connect(str(folder / DATABASE), read_only=True, config=dict(_LOCKED_DOWN)) as connection:
            return {name: connection.execute(f'SELECT * FROM "{name}"').pl() for name in names}
    except duckdb.Error:
        raise IntegrityError("a published database cannot be read") from None


def put_in_place(staging: Path, target: Path) -> None:
    """Rename a complete ``staging`` folder to ``target``; durable when it returns."""
    with storage_errors("a published folder"):
        sync_folder(staging)
        os.rename(staging, target)
        sync_folder(target.parent)


def point(folder: Path, run_id: str) -> None:
    """Let ``folder/current`` name ``run_id`` from one moment to the next."""
    fresh = folder / f"{STAGING}pointer"
    with storage_errors("the pointer to the current run"):
        fresh.unlink(missing_ok=True)
        os.symlink(run_id, fresh, target_is_directory=True)
        commit_point("publish.pointer_made")
        os.replace(fresh, folder / CURRENT)
        sync_folder(folder)


def current(folder: Path) -> Path | None:
    """The folder that ``folder/current`` names, or None before the first run."""
    pointer = folder / CURRENT
    return folder / os.readlink(pointer) if pointer.is_symlink() else None


def current_run(folder: Path) -> str | None:
    """The id of the run that readers see, or None before the first."""
    found = current(folder)
    return found.name if found else None


def runs(folder: Path) -> list[str]:
    """The complete runs in ``folder``, oldest first."""
    if not folder.is_dir():
        return []
    named = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return sorted(path.name for path in named if not path.name.startswith(".") and path.name != PUBLIC)


def sweep(folder: Path) -> int:
    """Remove what killed runs left behind; returns how many pieces. The caller holds the workspace lock."""
    left = [path for path in folder.glob(f"{STAGING}*")] if folder.is_dir() else []
    with storage_errors("the remains of an earlier run"):
        for path in left:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    return len(left)


def keep_last(published: Path, keep: int = KEEP_RUNS) -> list[str]:
    """Remove runs beyond the newest ``keep``; never the current one or one released. Returns them."""
    safe = {*runs(published / PUBLIC), current_run(published)}
    old = [run_id for run_id in runs(published)[: -keep or None] if run_id not in safe]
    with storage_errors("an earlier run"):
        for run_id in old:
            # Out of sight in one step: nobody reads a folder that is half removed.
            hidden = published / f"{STAGING}old-{run_id}"
            os.rename(published / run_id, hidden)
            commit_point("publish.old_run_hidden")
            shutil.rmtree(hidden)
    return old


# the parts ------------------------------------------------------------------------------------------


def _write(path: Path, content: bytes) -> dict[str, str]:
    write_atomic(path, content)
    return {"sha256": hashlib.sha256(content).hexdigest()}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _text(words: str) -> str:
    return "'" + words.replace("'", "''") + "'"


def _write_database(
    path: Path, tables: Sequence[Table], frames: Mapping[str, pl.DataFrame], views: Sequence[View]
) -> None:
    try:
        with storage_errors("the published database"):
            path.unlink(missing_ok=True)
            with duckdb.connect(str(path), config=dict(_LOCKED_DOWN)) as connection:
                connection.execute("BEGIN")  # one durable write, not one per statement
                for table in tables:
                    columns = ", ".join(
                        f'"{column.name}" {column.type}{"" if column.null else " NOT NULL"}'
                        for column in table.columns
                    )
                    connection.execute(f'CREATE TABLE "{table.name}" ({columns})')
                    connection.execute(f'COMMENT ON TABLE "{table.name}" IS {_text(table.comment)}')
                    for column in table.columns:
                        connection.execute(
                            f'COMMENT ON COLUMN "{table.name}"."{column.name}" IS {_text(column.comment)}'
                        )
                    connection.from_arrow(frames[table.name].to_arrow()).insert_into(table.name)
                for view in views:
                    connection.execute(f'CREATE VIEW "{view.name}" AS {view.sql}')
                    connection.execute(f'COMMENT ON VIEW "{view.name}" IS {_text(view.comment)}')
                connection.execute("COMMIT")
                connection.execute("CHECKPOINT")
            sync_file(path)
    except duckdb.Error as error:
        if out_of_space(error):
            with storage_errors("the published database"):
                raise OSError(errno.ENOSPC, "") from None
        raise IntegrityError(
            f"the published database could not be written ({type(error).__name__})"
        ) from None
