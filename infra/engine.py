"""The engine: a DuckDB connection made safe for row-level data, and the translation of what DuckDB says.

DuckDB writes what does not fit into memory to disk, in plaintext unless told otherwise; its errors quote values,
statements and paths. So every connection that sees records is opened here.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from infra.files import make_folder, storage_errors
from infra.processes import is_alive
from schemas.errors import (
    ContractDefinitionError,
    StorageFailed,
    StorageFull,
    WardwatchError,
    WorkspaceError,
)

EXTENSIONS = ("httpfs", "ducklake")  # httpfs first: it brings the cipher that encrypted files need
THREADS = 2
SPILL_FOLDER = "engine"
SPILL_MARK = "wardwatch-spill-probe"
# Enough rows to overflow the memory that the probe allows itself; the whole probe takes a tenth of a second.
SPILL_PROBE_ROWS = 200_000
SPILL_PROBE_MEMORY = "8MB"
_connection_numbers = itertools.count(1)


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Translate whatever DuckDB raises inside; ``doing`` ("building provider_spell") begins the message.

    Raises :class:`StorageFull`, :class:`StorageFailed`, :class:`WorkspaceError` (out of memory),
    :class:`ContractDefinitionError` (a query does not fit its tables) or :class:`WardwatchError`.
    """
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        # Also what DuckDB says when the spill folder's disk is full.
        if out_of_space(error) or "max_temp_directory_size" in str(error):
            raise StorageFull(
                f"{doing}: no space left for temporary files",
                next_step="free space on the disk of the workspace's tmp folder and run again",
            ) from None
        raise WorkspaceError(
            f"{doing}: the memory limit was not enough", next_step="raise the memory limit in settings.yaml"
        ) from None
    except (duckdb.CatalogException, duckdb.BinderException, duckdb.ParserException) as error:
        kind = type(error).__name__.removesuffix("Exception").lower()
        raise ContractDefinitionError(
            f"{doing}: the query does not fit the tables it reads ({kind} error)",
            next_step="compare the query with the tables of the engine",
        ) from None
    except duckdb.Error as error:
        # A full disk comes as an input/output error while writing and as an error of the transaction at its commit.
        if out_of_space(error):
            raise StorageFull(
                f"{doing}: no space left on the disk",
                next_step="free space on the workspace's disk and run again; nothing was half kept",
            ) from None
        if isinstance(error, duckdb.IOException):
            raise StorageFailed(
                f"{doing}: a file could not be read or written", next_step="check the disk and run again"
            ) from None
        raise WardwatchError(f"{doing}: the engine stopped ({type(error).__name__})") from None


def out_of_space(error: duckdb.Error) -> bool:
    """Whether DuckDB says that a disk is full: it has no error of its own for that."""
    return "No space left" in str(error)


def load_extensions(connection: duckdb.DuckDBPyConnection) -> None:
    """Load :data:`EXTENSIONS` from their wheels, without a network and without writing to anybody's home
    folder.

    ``duckdb_extensions.import_extension`` would copy them to ``~/.duckdb`` first, which a service account
    may not have; ``LOAD`` takes the signed file where pip put it. Raises :class:`WorkspaceError` if a wheel
    is missing or of another DuckDB version.
    """
    for name in EXTENSIONS:
        package = importlib.util.find_spec(f"duckdb_extension_{name}")
        version = f"v{duckdb.__version__}"
        file = (
            Path(package.origin).parent / "extensions" / version / f"{name}.duckdb_extension"
            if package is not None and package.origin is not None
            else None
        )
        if file is None or not file.is_file():
            raise WorkspaceError(
                f"the DuckDB extension {name} for {version} is not installed",
                next_step=f"install the wheel duckdb-extension-{name} of the same version as duckdb",
            )
        with engine_errors(f"loading the extension {name}"):
            connection.load_extension(str(file))


def open_engine(
    memory_limit: str, temp_folder: Path, *, preserve_order: bool = False
) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB whose temporary files are encrypted, proved before it is handed out.

    ``memory_limit`` as DuckDB writes it (``"1200MB"``). What does not fit goes to a folder of its own below
    ``temp_folder`` (two engines in one folder would overwrite each other's files), which DuckDB removes at
    close; the key exists in memory only, so what a killed process leaves there is unreadable. Raises
    :class:`WorkspaceError` if an extension is missing or if temporary files turn out readable.
    """
    sweep_spill(make_folder(temp_folder))
    spill_folder = temp_folder / f"{SPILL_FOLDER}-{os.getpid()}-{next(_connection_numbers)}"
    with engine_errors("opening the engine"):
        connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": memory_limit,
                "threads": str(THREADS),
                "temp_directory": str(spill_folder),
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "allow_community_extensions": "false",
                "allow_persistent_secrets": "false",
                # A misspelt table must be an error, not whatever Python variable has that name.
                "python_enable_replacements": "false",
                "preserve_insertion_order": str(preserve_order).lower(),
            },
        )
    try:
        load_extensions(connection)
        with engine_errors("switching on the encryption of temporary files"):
            connection.execute("set temp_file_encryption = true")
            connection.execute("set enable_progress_bar = false")
        prove_spill_is_encrypted(connection, spill_folder, memory_limit)
    except BaseException:
        connection.close()
        raise
    return connection


def sweep_spill(temp_folder: Path) -> int:
    """Remove what killed processes left of their spill folders below ``temp_folder``; returns how many there were.

    Nobody can read it (its key died with its process), but it fills the disk. A folder whose process lives, such
    as that of an analyst's query, stays. Raises :class:`StorageFailed`.
    """
    removed = 0
    with storage_errors("the workspace's tmp folder"):
        for folder in sorted(temp_folder.glob(f"{SPILL_FOLDER}-*")):
            if not is_alive(int(folder.name.split("-")[1])):
                shutil.rmtree(folder)
                removed += 1
    return removed


def prove_spill_is_encrypted(
    connection: duckdb.DuckDBPyConnection, spill_folder: Path, memory_limit: str
) -> None:
    """Make ``connection`` spill a known text and look for it in its files; then give back ``memory_limit``.

    Believing the setting is not enough: it is off by default and depends on an extension being loaded.
    Raises :class:`WorkspaceError` if the text is there to read, or if nothing was spilled (so nothing was
    proved).
    """
    with engine_errors("proving that temporary files are encrypted"):
        connection.execute(f"set memory_limit = '{SPILL_PROBE_MEMORY}'")
        try:
            connection.execute(
                "create or replace temp table spill_probe as "
                f"select '{SPILL_MARK}' || hash(range)::varchar as text from range({SPILL_PROBE_ROWS})"
            )
            files = (
                [file for file in spill_folder.rglob("*") if file.is_file()] if spill_folder.exists() else []
            )
            spilled = sum(file.stat().st_size for file in files)
            readable = any(SPILL_MARK.encode() in file.read_bytes() for file in files)
        finally:
            connection.execute("drop table if exists spill_probe")
            connection.execute(f"set memory_limit = '{memory_limit}'")
    if readable:
        raise WorkspaceError(
            "temporary files of the engine can be read",
            next_step="do not run here; check that duckdb and its httpfs extension belong together",
        )
    if spilled == 0:
        raise WorkspaceError(
            "the engine wrote no temporary file, so their encryption could not be proved",
            next_step="check that the workspace's tmp folder can be written",
        )
