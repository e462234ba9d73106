"""The lake: the curated tables, in an encrypted DuckLake, one table per dataset and period.

A delivery is committed in one transaction: the table of its dataset and period is replaced (drop and create,
never delete and insert), and the delivery row with its quarantine, rule results and provider counts is written.
The delivery row is the only commit mark of the whole pipeline. A dataset's name is a view over its tables.

The embedded catalog is an encrypted DuckDB file that only one process can have open, so after each commit a
copy of it is put beside, in one rename, and readers open the copy.

Every key of the lake is visible to SQL in a session that has it attached. Such a session stays inside this
module and the compute step; analysts never get one.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Self

import duckdb
import polars as pl
import pyarrow as pa

from infra.commit_points import commit_point
from infra.engine import engine_errors, open_engine
from infra.files import (
    FILE_MODE,
    make_folder,
    removed_on_error,
    storage_errors,
    sync_file,
    sync_folder,
)
from schemas.errors import IntegrityError, WorkspaceError
from schemas.loader import load_contracts
from schemas.tables import LakeColumn, comment_statements, create_table, lake_columns
from transforms.split import STATE_CODE_TYPE, STATE_CODES, STATE_SUFFIX
from transforms.typing_fields import NULL, VALID

CATALOG = "catalog.ducklake"
DATA = "data"
READER_CATALOG = "catalog.reader.ducklake"

# Files that no catalog names are from a killed run. A live writer's files are not in the catalog either until
# it commits; the workspace lock excludes one, and the age is kept far beyond the longest run all the same.
ORPHAN_AGE = "2 days"
# How far back the lake can be looked at as it was.
SNAPSHOT_AGE = "30 days"
# Deliveries of these states are used by no run.
NOT_USED = ("superseded", "withdrawn")

DELIVERY_COLUMNS: Mapping[str, tuple[str, str]] = {
    "delivery_id": ("VARCHAR", "Delivery"),
    "dataset": ("VARCHAR", "Dataset"),
    "contract": ("VARCHAR", "Contract that it was read with"),
    "contract_digest": ("VARCHAR", "SHA-256 of that contract"),
    "period": ("VARCHAR", "YYYYnn, or snapshot"),
    "table_name": ("VARCHAR", "Lake table that it filled, empty if it was kept as superseded"),
    "rank": ("INTEGER", "Order among deliveries of one dataset and financial year; the highest is in use"),
    "status": ("VARCHAR", "current, superseded, withdrawn or refused"),
    "superseded_by": ("VARCHAR", "Delivery that is in use in its place"),
    "sender": ("VARCHAR", "Sender"),
    "agreement": ("VARCHAR", "Agreement that it is held under"),
    "content_sha256": ("VARCHAR", "SHA-256 of the content as received, decrypted"),
    "rows_in": ("BIGINT", "Records in the file"),
    "rows_kept": ("BIGINT", "Records in the lake"),
    "rows_quarantined": ("BIGINT", "Records left out, listed in quarantine"),
    "rows_vaulted": ("BIGINT", "Records with identifiable items in the vault"),
    "columns_delivered": ("INTEGER", "Columns of the file"),
    "items_digest": ("VARCHAR", "SHA-256 of what its contract says of identifiable items"),
    "generation": ("INTEGER", "Generation of its vault"),
    "vault_manifest_sha256": ("VARCHAR", "SHA-256 of the vault's signed manifest"),
    "received_at": ("TIMESTAMP", "When it was landed (UTC)"),
    "committed_at": ("TIMESTAMP", "When it was committed (UTC)"),
    "retain_until": ("DATE", "Retention ends"),
}
QUARANTINE_COLUMNS = {
    "delivery_id": ("VARCHAR", "Delivery"),
    "record_ordinal": ("BIGINT", "Row of the file, from 1"),
    "rule_id": ("VARCHAR", "Rule that it broke"),
}
RULE_RESULT_COLUMNS = {
    "delivery_id": ("VARCHAR", "Delivery"),
    "rule_id": ("VARCHAR", "Rule"),
    "severity": ("VARCHAR", "critical or warning"),
    "level": ("VARCHAR", "record or delivery"),
    "allow": ("DOUBLE", "Share of records that may break it"),
    "applicable": ("BOOLEAN", "Whether its columns were delivered"),
    "rows": ("BIGINT", "Records that it applies to"),
    "failures": ("BIGINT", "Records that break it"),
    "failure_share": ("DOUBLE", "failures / rows"),
    "over_allowance": ("BOOLEAN", "Whether the share is above what is allowed"),
    "says": ("VARCHAR", "The rule as a sentence"),
}
PROVIDER_ROWS_COLUMNS = {
    "delivery_id": ("VARCHAR", "Delivery"),
    "provider": ("VARCHAR", "Provider code, null where none was delivered"),
    "rows": ("BIGINT", "Records kept"),
}
BOOK_TABLES = {
    "delivery": DELIVERY_COLUMNS,
    "quarantine": QUARANTINE_COLUMNS,
    "rule_result": RULE_RESULT_COLUMNS,
    "provider_rows": PROVIDER_ROWS_COLUMNS,
}


@dataclass(frozen=True)
class CommittedDelivery:
    """A delivery row of the lake."""

    delivery_id: str
    dataset: str
    contract: str
    contract_digest: str
    period: str
    table_name: str
    rank: int
    status: str
    superseded_by: str
    sender: str
    agreement: str
    content_sha256: str
    rows_in: int
    rows_kept: int
    rows_quarantined: int
    rows_vaulted: int
    columns_delivered: int
    items_digest: str
    generation: int
    vault_manifest_sha256: str
    received_at: datetime
    committed_at: datetime
    retain_until: date

    @property
    def rows_objected(self) -> int:
        """Records left out because the person objected: whatever is neither kept nor in quarantine."""
        return self.rows_in - self.rows_kept - self.rows_quarantined if self.contract else 0


@dataclass(frozen=True)
class Books:
    """What is written beside the table of a delivery: frames with the columns of the tables of that name."""

    quarantine: pl.DataFrame
    rule_result: pl.DataFrame
    provider_rows: pl.DataFrame
    superseded: Sequence[str] = field(default=())


class _Batches:
    """Hands record batches to DuckDB through the Arrow C stream interface alone.

    Registered as a pyarrow object they would go through pyarrow's dataset scanner, which copies them and prints
    warnings about their alignment.
    """

    def __init__(self, reader: pa.RecordBatchReader) -> None:
        self._reader = reader

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._reader.__arrow_c_stream__(requested_schema)


class Lake:
    """The lake, open for writing. One process at a time, under the workspace lock."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path, key: str) -> None:
        self._connection = connection
        self._folder = folder
        self._key = key

    # Opening and closing

    @classmethod
    @contextmanager
    def open(
        cls, folder: Path, key: str, *, memory_limit: str, temp_folder: Path, row_group_rows: int
    ) -> Iterator[Self]:
        """Open ``folder`` for writing, making it if it is new; closed, and the readers' copy renewed, at the end.

        Raises :class:`WorkspaceError` if another process has it open or the key is another.
        """
        make_folder(folder)
        connection = open_engine(memory_limit, temp_folder, preserve_order=True)
        try:
            _attach(connection, folder / CATALOG, folder, key, read_only=False)
            with engine_errors("opening the lake for writing"):
                # The other processor parses the next chunk. Two writing threads would each hold a row group of all
                # columns, pass the memory limit and spill, and mix the order of the rows.
                connection.execute("SET threads = 1")
            lake = cls(connection, folder, key)
            lake._prepare(row_group_rows)
            yield lake
            lake._close()
            lake.renew_reader_copy()
        finally:
            connection.close()

    def _prepare(self, row_group_rows: int) -> None:
        with engine_errors("preparing the lake"):
            existing = {
                name
                for (name,) in self._connection.execute(
                    "select table_name from duckdb_tables() where database_name = 'lake'"
                ).fetchall()
            }
            if set(BOOK_TABLES) <= existing:
                return
            self._connection.execute("CALL lake.set_option('parquet_compression', 'snappy')")
            self._connection.execute(f"CALL lake.set_option('parquet_row_group_size', '{row_group_rows}')")
            # Small tables go to files too: inlined rows would lie in the catalog.
            self._connection.execute("CALL lake.set_option('data_inlining_row_limit', '0')")
            self._connection.execute("BEGIN")
            for table, columns in BOOK_TABLES.items():
                described = [
                    LakeColumn(name, kind, pl.String(), says) for name, (kind, says) in columns.items()
                ]
                self._connection.execute(create_table(f"lake.{table}", described))
                for statement in comment_statements(f"lake.{table}", described):
                    self._connection.execute(statement)
            self._connection.execute("COMMIT")

    def _close(self) -> None:
        with engine_errors("closing the lake"):
            self._connection.execute("USE memory")
            self._connection.execute("DETACH lake")

    def renew_reader_copy(self) -> None:
        """Put a copy of the catalog where readers open it, unless it is the same already."""
        source, target = self._folder / CATALOG, self._folder / READER_CATALOG
        if target.exists() and filecmp.cmp(source, target, shallow=False):
            return
        part = target.with_name(target.name + ".part")
        with storage_errors("the readers' copy of the lake catalog"), removed_on_error(part):
            shutil.copyfile(source, part)
            sync_file(part)
            commit_point("lake.reader_copy.before")
            os.replace(part, target)
            sync_folder(self._folder)
        commit_point("lake.reader_copy.after")

    # Writing

    def replace_table(
        self,
        table: str,
        columns: Sequence[LakeColumn],
        batches: Iterable[pl.DataFrame],
        null_columns: Collection[str] = (),
    ) -> None:
        """Inside :meth:`transaction`: replace ``table`` by the rows of ``batches``, in their order.

        ``batches`` is pulled while DuckDB writes, so nothing is held beyond a few chunks. ``null_columns``: those
        that hold nothing but null. They are not written: the table has them, its files do not. (Only a column
        that no file has may be added so: with a column that a second file has, DuckLake counts wrongly.)
        """
        written = [column for column in columns if column.name not in null_columns]
        schema = pa.schema([(column.name, _arrow_type(column)) for column in written])
        reader = pa.RecordBatchReader.from_batches(schema, _record_batches(batches, schema))
        with engine_errors(f"writing the lake table {table}"):
            self._connection.execute(f"DROP TABLE IF EXISTS lake.{table}")
            self._connection.register("incoming", _Batches(reader))
            try:
                self._connection.execute(f"CREATE TABLE lake.{table} AS SELECT * FROM incoming")
            finally:
                self._connection.unregister("incoming")
            for column in columns:
                if column.name in null_columns:
                    self._connection.execute(
                        f'ALTER TABLE lake.{table} ADD COLUMN "{column.name}" {column.duckdb_type}'
                    )
            for statement in comment_statements(f"lake.{table}", columns):
                self._connection.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction of the lake: all of it or, on any error, nothing."""
        before = self._data_files()
        with engine_errors("beginning a lake transaction"):
            self._connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._roll_back()
            # The rollback takes away what was written, but not the file whose writing failed.
            for path in self._data_files() - before:
                path.unlink(missing_ok=True)
            raise
        commit_point("lake.commit.before")
        try:
            with engine_errors("committing to the lake"):
                self._connection.execute("COMMIT")
        except BaseException:
            # Perhaps it is committed all the same, so no file is touched: the next run looks for the row.
            self._roll_back()
            raise
        commit_point("lake.commit.after")

    def _roll_back(self) -> None:
        # A transaction that failed while writing is closed already, and its error is the one to be told.
        with suppress(duckdb.Error):
            self._connection.execute("ROLLBACK")

    def _data_files(self) -> set[Path]:
        return {path for path in (self._folder / DATA).rglob("*") if path.is_file()}

    def write_books(self, delivery: CommittedDelivery, books: Books) -> None:
        """Inside :meth:`transaction`: the delivery row, and what goes with it; the commit mark."""
        with engine_errors("writing the delivery row"):
            execute = self._connection.execute
            for table in BOOK_TABLES:
                execute(f"DELETE FROM lake.{table} WHERE delivery_id = $id", {"id": delivery.delivery_id})
            for table, frame in (
                ("quarantine", books.quarantine),
                ("rule_result", books.rule_result),
                ("provider_rows", books.provider_rows),
            ):
                if not frame.height:
                    continue
                self._connection.register("book", frame.select(list(BOOK_TABLES[table])))
                execute(f"INSERT INTO lake.{table} SELECT * FROM book")
                self._connection.unregister("book")
            for superseded in books.superseded:
                execute(
                    "UPDATE lake.delivery SET status = 'superseded', superseded_by = $by, table_name = '' "
                    "WHERE delivery_id = $id",
                    {"by": delivery.delivery_id, "id": superseded},
                )
            values = {name: getattr(delivery, name) for name in DELIVERY_COLUMNS}
            slots = ", ".join(f"${name}" for name in DELIVERY_COLUMNS)
            execute(f"INSERT INTO lake.delivery VALUES ({slots})", values)

    def rebuild_views(self) -> None:
        """Inside :meth:`transaction`: each dataset's name as a view over its tables, in a fixed order.

        The view gives the columns in the order of the contract and the states as text.
        """
        selects: dict[str, list[str]] = {}
        types: dict[str, dict[str, str]] = {}
        with engine_errors("reading the lake's tables"):
            rows = self._connection.execute(
                "SELECT dataset, table_name, contract FROM lake.delivery WHERE table_name <> '' ORDER BY 1, 2"
            ).fetchall()
            for table, column, kind in self._connection.execute(
                "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = 'lake' "
                "ORDER BY table_name, column_index"
            ).fetchall():
                types.setdefault(table, {})[column] = kind
        for dataset, table, contract in rows:
            columns = _select_list(types[table], _contract_order(contract))
            selects.setdefault(dataset, []).append(f"SELECT {columns} FROM lake.{table}")
        with engine_errors("renewing the lake's views"):
            for dataset, parts in selects.items():
                union = " UNION ALL BY NAME ".join(parts)
                self._connection.execute(f"CREATE OR REPLACE VIEW lake.{dataset} AS {union}")

    # Reading

    def deliveries(self) -> list[CommittedDelivery]:
        return _deliveries(self._connection)

    def providers_of(self, delivery_id: str) -> frozenset[str]:
        """Codes of the providers that the delivery has records of."""
        with engine_errors("reading the providers of a delivery"):
            rows = self._connection.execute(
                "SELECT provider FROM lake.provider_rows WHERE delivery_id = $id AND provider IS NOT NULL",
                {"id": delivery_id},
            ).fetchall()
        return frozenset(provider for (provider,) in rows)

    def clean(self) -> None:
        """Let go of what no reader can still be using: old snapshots, the files only they need, and the files of
        killed runs."""
        with engine_errors("cleaning the lake"):
            for call in (
                f"ducklake_expire_snapshots('lake', older_than => now() - INTERVAL '{SNAPSHOT_AGE}')",
                f"ducklake_cleanup_old_files('lake', older_than => now() - INTERVAL '{ORPHAN_AGE}')",
                f"ducklake_delete_orphaned_files('lake', older_than => now() - INTERVAL '{ORPHAN_AGE}')",
            ):
                self._connection.execute(f"CALL {call}").fetchall()


@contextmanager
def reading(
    folder: Path, key: str, *, memory_limit: str, temp_folder: Path
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the readers' copy attached as ``lake``, read-only. Never hand it to an analyst.

    Raises :class:`WorkspaceError` if nothing has been committed yet.
    """
    catalog = folder / READER_CATALOG
    if not catalog.exists():
        raise WorkspaceError(
            "the lake is empty", next_step="land a delivery and run `wardwatch nightly` first"
        )
    connection = open_engine(memory_limit, temp_folder, preserve_order=False)
    try:
        _attach(connection, catalog, folder, key, read_only=True)
        yield connection
    finally:
        connection.close()


def committed_deliveries(folder: Path, key: str, temp_folder: Path) -> list[CommittedDelivery]:
    """The delivery rows as readers see them; empty if nothing has been committed."""
    if not (folder / READER_CATALOG).exists():
        return []
    with reading(folder, key, memory_limit="200MB", temp_folder=temp_folder) as connection:
        return _deliveries(connection)


def _deliveries(connection: duckdb.DuckDBPyConnection) -> list[CommittedDelivery]:
    names = ", ".join(DELIVERY_COLUMNS)
    with engine_errors("reading the delivery rows"):
        rows = connection.execute(f"SELECT {names} FROM lake.delivery ORDER BY delivery_id").fetchall()
    return [CommittedDelivery(*row) for row in rows]


def _attach(
    connection: duckdb.DuckDBPyConnection, catalog: Path, folder: Path, key: str, *, read_only: bool
) -> None:
    """Attach the lake. The statement holds the key, so no error of it is ever passed on."""
    data = make_folder(folder / DATA)
    options = f"DATA_PATH {_text(str(data) + os.sep)}, META_ENCRYPTION_KEY {_text(key)}"
    # The catalog remembers the folder in which it was made. Its files are named relative to that, so a workspace
    # that was moved, or restored elsewhere from a backup, opens where it lies now.
    options += ", OVERRIDE_DATA_PATH true" + (", READ_ONLY" if read_only else ", ENCRYPTED")
    try:
        connection.execute(f"ATTACH {_text('ducklake:' + str(catalog))} AS lake ({options})")
        os.chmod(catalog, FILE_MODE)
    except duckdb.IOException:
        raise WorkspaceError(
            "the lake catalog cannot be opened: another process has it open, or its key is not this one",
            next_step="end the other process, or restore the keyring that belongs to this lake",
        ) from None
    except duckdb.Error as error:
        raise IntegrityError(
            f"the lake catalog cannot be opened ({type(error).__name__})",
            next_step="restore the lake's folder from its backup",
        ) from None


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _contract_order(contract_id: str) -> dict[str, int]:
    """Column -> place, for every column that a table of the contract may have; empty for a contract of the past."""
    contract = load_contracts().get(contract_id)
    if contract is None:
        return {}
    columns = lake_columns(contract, [field.name for field in contract.fields])
    return {column.name: place for place, column in enumerate(columns)}


def _select_list(types: Mapping[str, str], order: Mapping[str, int]) -> str:
    """The columns of a table (name -> DuckDB type) as a view gives them: state codes as text."""
    named = sorted(types, key=lambda name: order.get(name, len(order)))
    return ", ".join(
        _state_as_text(name) if types[name] == STATE_CODE_TYPE[0] else f'"{name}"' for name in named
    )


def _state_as_text(state_column: str) -> str:
    field = state_column.removesuffix(STATE_SUFFIX)
    codes = " ".join(f"WHEN {code} THEN '{state}'" for state, code in STATE_CODES.items())
    plain = f"CASE WHEN \"{field}\" IS NULL THEN '{NULL}' ELSE '{VALID}' END"
    return f'CASE "{state_column}" {codes} ELSE {plain} END AS "{state_column}"'


def _arrow_type(column: LakeColumn) -> Any:
    return {
        "VARCHAR": pa.string_view(),
        "TINYINT": pa.int8(),
        "DATE": pa.date32(),
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
    }[column.duckdb_type]


def _record_batches(frames: Iterable[pl.DataFrame], schema: Any) -> Iterator[Any]:
    for frame in frames:
        yield from pa.table(frame.select(schema.names)).cast(schema).to_batches()


def curated_view(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, tuple[str, ...], bool]]:
    """Make each dataset of the attached lake a view of ``connection``: (name, columns that may be asked, whether it
    has persons). Keys, tokens and ordinals are not among the columns."""
    never = {"person_token", "old_person_token", "record_ordinal", "delivery_id"}
    keys = {key for contract in load_contracts().values() for key in contract.record_key}
    found = []
    with engine_errors("binding the curated views"):
        rows = connection.execute(
            "SELECT DISTINCT dataset FROM lake.delivery WHERE table_name <> '' ORDER BY 1"
        ).fetchall()
        for (dataset,) in rows:
            connection.execute(f"CREATE TEMP VIEW {dataset} AS SELECT * FROM lake.{dataset}")
            names = [row[0] for row in connection.execute(f"DESCRIBE {dataset}").fetchall()]
            columns = tuple(name for name in names if name not in never and name not in keys)
            found.append((dataset, columns, "person_token" in names))
    return found
