"""The linkage store: for each delivery of deaths, a person or record token and the date of death.

``linkage/<delivery_id>.parquet`` holds three columns and never more: ``token`` (keyed, String),
``date_of_death`` and ``registered`` (Date). Cause, place and everything else that a death record says is not
kept. The older product numbers its death records and says in a bridge file whose they are; that bridge lies
here too, as pairs of tokens (``token`` of the record, ``person_token``), for in the lake it would say who has
died. Each column has a key of its own, derived from the linkage key for this delivery and column, so that a
file does not open in another's place.

The pipeline can open this store, under a standing approval with a review-by date, and each use is audited by
the caller. Dates of death are read by Polars alone and never enter DuckDB; only the capped number of days
leaves, see :mod:`transforms.linkage`. A file counts only if the lake holds its delivery's row: :func:`sweep`
removes the others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import polars as pl
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from infra import encrypted_parquet
from infra.commit_points import commit_point
from infra.files import make_folder, storage_errors, sync_file, sync_folder
from infra.sealing import SecretBytes
from infra.signing import canonical_json
from schemas.errors import IntegrityError, KeyUnavailable, UsageError

DEATHS = pl.Schema({"token": pl.String, "date_of_death": pl.Date, "registered": pl.Date})
PAIRS = pl.Schema({"token": pl.String, "person_token": pl.String})
STAGING_PREFIX = ".staging-"
SUFFIX = ".parquet"

_DELIVERY_ID = re.compile(r"[a-z0-9][a-z0-9_-]*")


def _path(root: Path, delivery_id: str) -> Path:
    if not _DELIVERY_ID.fullmatch(delivery_id):
        raise UsageError("a linkage file needs a delivery id in lower case")
    return root / f"{delivery_id}{SUFFIX}"


def _keys(
    key: bytes, delivery_id: str, schema: pl.Schema
) -> tuple[SecretBytes, dict[str, SecretBytes], bytes]:
    """Footer key, column keys and additional data of one delivery's file."""
    if len(key) != encrypted_parquet.KEY_BYTES:
        raise KeyUnavailable("the linkage key has 32 bytes")

    def derive(name: str) -> SecretBytes:
        place = canonical_json({"zone": "linkage", "delivery_id": delivery_id, "key": name})
        return SecretBytes(HKDF(hashes.SHA256(), 32, None, place).derive(bytes(key)))

    aad = canonical_json({"zone": "linkage", "delivery_id": delivery_id})
    return derive("footer"), {column: derive(f"column {column}") for column in schema}, aad


class _Writer:
    """Collects the rows of one delivery and writes them as one file, whole or not at all.

    ``root`` is the workspace's ``linkage/``, ``key`` the keyring's linkage file key. The rows wait in memory:
    the whole history of deaths, some ten million rows, takes about half a gigabyte.
    """

    schema: ClassVar[pl.Schema]
    optional: ClassVar[tuple[str, ...]] = ()

    def __init__(self, root: Path, delivery_id: str, key: bytes) -> None:
        self._path = _path(root, delivery_id)
        self._keys = _keys(key, delivery_id, self.schema)
        self._staging = self._path.with_name(STAGING_PREFIX + self._path.name)
        self._frames: list[pl.DataFrame] = [self.schema.to_frame()]
        make_folder(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def add(self, frame: pl.DataFrame) -> None:
        """Take rows of exactly :attr:`schema`; an optional column may be missing.

        Rows without a token are left out: they link to nobody. Raises :class:`UsageError` for any other
        column or type, so that nothing else can come to lie here.
        """
        missing = [name for name in self.optional if name not in frame.columns]
        frame = frame.with_columns(pl.lit(None, self.schema[name]).alias(name) for name in missing)
        if dict(frame.schema) != dict(self.schema):
            raise UsageError(f"this file of the linkage store takes {', '.join(self.schema)}, nothing else")
        self._frames.append(frame.select(list(self.schema)).filter(pl.col("token").is_not_null()))

    def finish(self) -> int:
        """Write the file, make it durable and put it in place. Returns the number of rows.

        Raises :class:`StorageFull` and :class:`StorageFailed`; an earlier file of the delivery then stays.
        """
        frame = pl.concat(self._frames)
        self._frames.clear()
        footer_key, column_keys, aad = self._keys
        encrypted_parquet.encode_to_file(frame, self._staging, footer_key, column_keys, aad)
        with storage_errors("the linkage store"):
            sync_file(self._staging)
            commit_point("linkage.write.before")
            os.replace(self._staging, self._path)
            sync_folder(self._path.parent)
        commit_point("linkage.write.after")
        return frame.height

    def abort(self) -> None:
        """Remove what is not in place. Does nothing after :meth:`finish`."""
        self._frames.clear()
        self._staging.unlink(missing_ok=True)


class LinkageWriter(_Writer):
    """Deaths: ``token`` (String), ``date_of_death`` (Date) and, if delivered, ``registered`` (Date)."""

    schema = DEATHS
    optional = ("registered",)


class PairsWriter(_Writer):
    """Pairs of tokens: ``token`` of a death record and ``person_token``, both String."""

    schema = PAIRS


def write_linkage(root: Path, delivery_id: str, frame: pl.DataFrame, key: bytes) -> int:
    """Write one delivery's deaths at once, see :class:`LinkageWriter`. Returns the number of rows."""
    with LinkageWriter(root, delivery_id, key) as writer:
        writer.add(frame)
        return writer.finish()


def read_linkage(root: Path, delivery_ids: Iterable[str], key: bytes) -> pl.DataFrame:
    """All deaths of the named deliveries: ``token``, ``date_of_death``, ``registered``, in the order given.

    The caller has an approval in force and has written the use into the audit log. Raises
    :class:`IntegrityError` if a file is missing, changed, or another delivery's, or if the key is another.
    """
    return _read(root, delivery_ids, key, DEATHS)


def read_pairs(root: Path, delivery_ids: Iterable[str], key: bytes) -> pl.DataFrame:
    """All pairs of the named deliveries: ``token``, ``person_token``; otherwise as :func:`read_linkage`."""
    return _read(root, delivery_ids, key, PAIRS)


def _read(root: Path, delivery_ids: Iterable[str], key: bytes, schema: pl.Schema) -> pl.DataFrame:
    frames = [schema.to_frame()]
    for delivery_id in delivery_ids:
        path = _path(root, delivery_id)
        try:
            content = path.read_bytes()
        except OSError:
            raise IntegrityError(f"the linkage file of delivery {delivery_id} is missing") from None
        footer_key, column_keys, aad = _keys(key, delivery_id, schema)
        frame = encrypted_parquet.decode(content, list(schema), footer_key, column_keys, aad)
        if frame.schema != schema:
            raise IntegrityError(f"the linkage file of delivery {delivery_id} holds something else")
        frames.append(frame)
    return pl.concat(frames)


def sweep(root: Path, committed: Collection[str]) -> list[str]:
    """Remove staging files, and the files of deliveries that were never committed (by delivery id).

    Only for the process that holds the workspace lock. Returns the names of what was removed.
    """
    if not root.is_dir():
        return []
    removed = []
    with storage_errors("the linkage store"):
        for path in sorted(root.iterdir()):
            if path.name.removesuffix(SUFFIX) not in committed and not path.is_dir():
                path.unlink()
                removed.append(path.name)
        if removed:
            sync_folder(root)
    return removed
