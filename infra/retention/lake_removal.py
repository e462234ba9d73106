"""The lake's part of a destruction: a delivery's rows, their file keys and the files, out of table, history, catalog.

DuckLake gives every data file a random key and keeps it in the catalog, so the catalog is what is shredded: the rows
that hold the keys go when the snapshots that name the files are expired, and what the catalog's own file still holds
of them in freed blocks goes when it is written anew. Only then are the data files deleted.

All earlier states of the lake are given up for this, those of other deliveries too: an earlier state is a promise to
readers of the last 30 days, the order is a promise to everybody in the data.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb

from infra.commit_points import commit_point
from infra.engine import engine_errors, open_engine
from infra.files import removed_on_error, storage_errors, sync_file, sync_folder
from infra.keyring import Keyring
from infra.lake import BOOK_TABLES, CATALOG, DATA, READER_CATALOG, CommittedDelivery, Lake
from infra.periods import parse_period, table_name
from infra.retention.documents import LakeEvidence
from infra.retention.in_use import drop_table
from infra.workspace import Workspace
from schemas.errors import IntegrityError

_METADATA = "__ducklake_metadata_lake"
_REWRITTEN = "catalog.rewritten.part"


@contextmanager
def opened(workspace: Workspace, keyring: Keyring) -> Iterator[Lake]:
    """The lake, open for writing as a night opens it. The caller holds the workspace's lock."""
    settings = workspace.settings
    with Lake.open(
        workspace.zone("lake"),
        keyring.lake_metadata_key,
        memory_limit=settings.memory_limit,
        temp_folder=workspace.zone("tmp"),
        row_group_rows=settings.row_group_rows,
    ) as lake:
        yield lake


def is_there(workspace: Workspace) -> bool:
    """Whether the workspace has a lake yet."""
    return (workspace.zone("lake") / CATALOG).exists()


def table_of(dataset: str, period: str) -> str:
    """The lake table that a delivery of ``dataset`` for ``period`` fills, see :func:`infra.periods.table_name`."""
    return table_name(dataset, parse_period(period))


def evidence_of(lake: Lake, delivery_id: str, table: str) -> LakeEvidence:
    """The files that hold rows of the delivery: of ``table`` itself if it is the delivery's, and of every table of
    that name that was dropped and that an earlier state still shows. Those were of deliveries before it."""
    users = {row.delivery_id for row in lake.deliveries() if row.table_name == table}
    another = bool(users - {delivery_id})
    with engine_errors("listing the lake's files"):
        rows = lake._connection.execute(
            f"SELECT t.table_name, s.path || t.path || f.path, f.encryption_key "
            f"FROM {_METADATA}.ducklake_data_file f JOIN {_METADATA}.ducklake_table t USING (table_id) "
            f"JOIN {_METADATA}.ducklake_schema s USING (schema_id) "
            "WHERE t.table_name = $table AND (t.end_snapshot IS NOT NULL OR NOT $another) ORDER BY 2",
            {"table": table, "another": another},
        ).fetchall()
    return LakeEvidence(
        tables=(table,) if rows else (),
        files={path: key_digest(key or "") for _, path, key in rows},
    )


def key_digest(key: str) -> str:
    """What is said of a file's key, see :func:`infra.vault.key_digest`."""
    return hashlib.sha256(b"wardwatch lake file key\0" + key.encode()).hexdigest()


def remove_rows(lake: Lake, delivery_ids: Collection[str]) -> None:
    """In one transaction: every row of the deliveries, and what the lake's books say of them. Then every earlier state.

    Raises what the engine raises; done again, it does nothing.
    """
    rows: dict[str, CommittedDelivery] = {row.delivery_id: row for row in lake.deliveries()}
    there = [rows[delivery_id] for delivery_id in sorted(delivery_ids) if delivery_id in rows]
    if there:
        with lake.transaction(), engine_errors("removing a delivery from the lake"):
            for row in there:
                for book in BOOK_TABLES:
                    lake._connection.execute(
                        f"DELETE FROM lake.{book} WHERE delivery_id = $id", {"id": row.delivery_id}
                    )
                drop_table(lake, row.dataset, row.table_name)
    with engine_errors("giving up earlier states of the lake"):
        earlier = [
            number
            for (number,) in lake._connection.execute(
                "SELECT snapshot_id FROM ducklake_snapshots('lake') ORDER BY snapshot_id DESC OFFSET 1"
            ).fetchall()
        ]
        if earlier:
            versions = ", ".join(str(int(number)) for number in earlier)
            lake._connection.execute(
                f"CALL ducklake_expire_snapshots('lake', versions => [{versions}])"
            ).fetchall()


def delete_files(lake: Lake) -> None:
    """Delete the data files that no state of the lake names any more."""
    with engine_errors("deleting the lake's old files"):
        lake._connection.execute("CALL ducklake_cleanup_old_files('lake', cleanup_all => true)").fetchall()


def rewrite_catalog(workspace: Workspace, keyring: Keyring) -> None:
    """Write the catalog anew, so that nothing of what was deleted from it is left in its file. The lake is closed.

    It appears by one rename. Raises what engine and storage raise.
    """
    folder = workspace.zone("lake")
    part = folder / _REWRITTEN
    with storage_errors("the lake catalog"):
        for left in (part, part.with_name(part.name + ".wal")):
            left.unlink(missing_ok=True)
    connection = open_engine(workspace.settings.memory_limit, workspace.zone("tmp"))
    try:
        with removed_on_error(part), engine_errors("writing the lake catalog anew"):
            _attach(connection, folder / CATALOG, "old", keyring)
            _attach(connection, part, "new", keyring, new=True)
            connection.execute("COPY FROM DATABASE old TO new")
            connection.execute("DETACH new")
    finally:
        connection.close()
    with storage_errors("the lake catalog"):
        sync_file(part)
        commit_point("retention.catalog.before")
        os.replace(part, folder / CATALOG)
        sync_folder(folder)
    commit_point("retention.catalog.after")


def _attach(
    connection: duckdb.DuckDBPyConnection, path: Path, name: str, keyring: Keyring, *, new: bool = False
) -> None:
    """The statement holds the key, so its errors are translated by the caller and never passed on."""
    key = str.__str__(keyring.lake_metadata_key)
    place = str(path).replace("'", "''")
    mode = "" if new else ", READ_ONLY"
    connection.execute(f"ATTACH '{place}' AS {name} (ENCRYPTION_KEY '{key}'{mode})")


def refuse_left(workspace: Workspace, keyring: Keyring, evidence: Collection[LakeEvidence]) -> int:
    """Read the catalog, and the readers' copy, with their key: raise :class:`IntegrityError` if either still knows a
    file or a key of the destroyed deliveries, or if one of the files is still there.

    Returns the number of files that were looked for.
    """
    folder = workspace.zone("lake")
    wanted = {path: digest for each in evidence for path, digest in each.files.items()}
    for path in wanted:
        if (folder / DATA / path).exists():
            raise _left("a data file of the lake is still there")
    connection = open_engine(workspace.settings.memory_limit, workspace.zone("tmp"))
    try:
        for number, catalog in enumerate((CATALOG, READER_CATALOG)):
            if (folder / catalog).exists():
                with engine_errors("reading the lake catalog"):
                    _attach(connection, folder / catalog, f"catalog_{number}", keyring)
                    _refuse_known(connection, f"catalog_{number}", wanted)
    finally:
        connection.close()
    return len(wanted)


def _refuse_known(connection: duckdb.DuckDBPyConnection, catalog: str, wanted: Mapping[str, str]) -> None:
    execute = connection.execute
    keys = execute(
        f"SELECT encryption_key FROM {catalog}.ducklake_data_file "
        f"UNION ALL SELECT encryption_key FROM {catalog}.ducklake_delete_file"
    ).fetchall()
    paths = execute(
        f"SELECT path FROM {catalog}.ducklake_data_file "
        f"UNION ALL SELECT path FROM {catalog}.ducklake_files_scheduled_for_deletion"
    ).fetchall()
    loose = execute(
        f"SELECT count(*) FROM {catalog}.ducklake_file_column_stats s WHERE NOT EXISTS "
        f"(FROM {catalog}.ducklake_data_file f WHERE f.data_file_id = s.data_file_id)"
    ).fetchall()
    if {key_digest(key or "") for (key,) in keys} & set(wanted.values()):
        raise _left("the lake catalog still holds the key of a data file")
    if {Path(path).name for (path,) in paths} & {Path(path).name for path in wanted} or loose[0][0]:
        raise _left("the lake catalog still knows a data file")


def refuse_rows(lake: Lake, delivery_ids: Collection[str]) -> None:
    """Raise :class:`IntegrityError` if the lake's books still have a row of the deliveries."""
    with engine_errors("reading the lake's books"):
        for book in BOOK_TABLES:
            rows = lake._connection.execute(
                f"SELECT count(*) FROM lake.{book} WHERE list_contains($ids, delivery_id)",
                {"ids": sorted(delivery_ids)},
            ).fetchall()
            if rows[0][0]:
                raise _left(f"the lake's table {book} still has rows")


def _left(what: str) -> IntegrityError:
    return IntegrityError(
        f"the destruction is not complete: {what}",
        next_step="run `wardwatch retention destroy --again`; no certificate was made",
    )
