"""Encrypted Parquet: a table whose every column is sealed under a key of its own.

The standard is Parquet Modular Encryption (AES-GCM, encrypted footer, additional authenticated data that is
not stored in the file). Polars writes and reads it behind an interface that its authors call unstable, so it
stands in this one module and a golden file in the tests must always open.

Two things the standard leaves to its user are closed here. Polars writes a column without a key in plaintext,
or under the footer key if no column has one: :func:`encode` refuses a frame whose columns and keys differ,
and :func:`decode` refuses a file in which any column opens without its own key. And a file may be exchanged
for another of the same place: callers bind files by a digest in a signed manifest and by the ``aad``.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from infra.files import open_private, storage_error, storage_errors
from schemas.errors import IntegrityError, StorageFailed, UsageError

KEY_BYTES = 32
MAGIC = b"PARE"  # Parquet whose footer is encrypted; "PAR1" would be one with a readable footer
# Identifiers hardly compress beyond their alphabet; higher levels cost time and gain nothing.
ZSTD_LEVEL = 1

ColumnKeys = Mapping[str, bytes]


def _encryption(
    columns: Sequence[str], footer_key: bytes, column_keys: ColumnKeys, aad: bytes
) -> pl.ParquetEncryptionProperties:
    if set(columns) != set(column_keys) or not columns:
        raise UsageError("each column of an encrypted table needs a key, and each key a column")
    if not aad or any(len(key) != KEY_BYTES for key in (footer_key, *column_keys.values())):
        raise UsageError("an encrypted table needs 256-bit keys and additional data to bind it to its place")
    return pl.ParquetEncryptionProperties(
        footer_key=bytes(footer_key),
        column_keys={name: bytes(key) for name, key in column_keys.items()},
        aad_prefix=aad,
        store_aad_prefix=False,
    )


def encode(frame: pl.DataFrame, footer_key: bytes, column_keys: ColumnKeys, aad: bytes) -> bytes:
    """``frame`` as an encrypted Parquet file in memory.

    ``column_keys`` holds a 32-byte key for exactly the columns of ``frame``; ``aad`` says where the file
    belongs and is not stored in it. Raises :class:`UsageError` if a column would be left without a key.
    """
    properties = _encryption(frame.columns, footer_key, column_keys, aad)
    sink = io.BytesIO()
    try:
        frame.write_parquet(
            sink, compression="zstd", compression_level=ZSTD_LEVEL, statistics=False, encryption=properties
        )
    except pl.exceptions.PolarsError:
        raise StorageFailed("an encrypted table could not be written") from None
    content = sink.getvalue()
    if not wholly_encrypted(content):
        raise IntegrityError("the Parquet writer left a column unencrypted; nothing was kept")
    return content


def encode_to_file(
    frame: pl.DataFrame, path: Path, footer_key: bytes, column_keys: ColumnKeys, aad: bytes
) -> None:
    """Like :func:`encode`, for frames that are not to be held in memory twice.

    ``path`` is created for its owner only before Polars writes into it; making it durable and renaming it is
    the caller's. Raises :class:`StorageFull` and :class:`StorageFailed` as well.
    """
    properties = _encryption(frame.columns, footer_key, column_keys, aad)
    with storage_errors("an encrypted table"):
        with open(open_private(path), "wb") as sink:
            try:
                frame.write_parquet(
                    sink,
                    compression="zstd",
                    compression_level=ZSTD_LEVEL,
                    statistics=False,
                    encryption=properties,
                )
            except pl.exceptions.PolarsError as error:
                # What the system said comes as text alone.
                full = os.strerror(errno.ENOSPC) in str(error)
                number = errno.ENOSPC if full else errno.EIO
                raise storage_error(OSError(number, ""), "an encrypted table") from None
        with open(path, "rb") as written, mmap.mmap(written.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if not wholly_encrypted(content):
                raise IntegrityError("the Parquet writer left a column unencrypted; nothing was kept")


def wholly_encrypted(content: bytes | mmap.mmap) -> bool:
    """Whether a Parquet file consists of encrypted modules and nothing else. Needs no key.

    In such a file each part (page header, page, index) is a four-byte length and that many bytes, and the
    parts fill the file from the first magic number to the encrypted footer without a gap. A column written
    in plaintext starts with a page header that is no such length, and the walk misses the footer.
    """
    if len(content) < 12 or content[:4] != MAGIC or content[-4:] != MAGIC:
        return False
    footer = _footer_start(content)
    position = len(MAGIC)
    while position < footer:
        position += 4 + int.from_bytes(content[position : position + 4], "little")
    return position == footer


def _footer_start(content: bytes | mmap.mmap) -> int:
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def _read(
    content: bytes,
    columns: list[str],
    footer_key: bytes,
    column_keys: ColumnKeys,
    aad: bytes,
    n_rows: int | None = None,
) -> pl.DataFrame:
    return pl.read_parquet(
        io.BytesIO(content),
        columns=columns,
        n_rows=n_rows,
        decryption=pl.ParquetDecryptionProperties(
            footer_key=bytes(footer_key),
            column_keys={name: bytes(key) for name, key in column_keys.items()} or None,
            aad_prefix=aad,
        ),
    )


def _columns(content: bytes, footer_key: bytes, aad: bytes) -> list[str]:
    decryption = pl.ParquetDecryptionProperties(footer_key=bytes(footer_key), aad_prefix=aad)
    return pl.scan_parquet(io.BytesIO(content), decryption=decryption).collect_schema().names()


def _opens_without_its_key(content: bytes, column: str, footer_key: bytes, aad: bytes) -> bool:
    try:
        _read(content, [column], footer_key, {}, aad, n_rows=1)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return False
    return True


def decode(
    content: bytes, columns: Sequence[str], footer_key: bytes, column_keys: ColumnKeys, aad: bytes
) -> pl.DataFrame:
    """The named columns of an encrypted Parquet file, all rows or an exception.

    ``column_keys`` needs the keys of ``columns`` alone. Raises :class:`IntegrityError` for a wrong key,
    another ``aad``, changed or cut content, a missing column, and for a file in which any column, asked for
    or not, opens without a key of its own.
    """
    damaged = IntegrityError(
        "an encrypted table does not open: another key, another place, or changed content",
        next_step="compare it with the backup; nothing was read from it",
    )
    if not wholly_encrypted(content):
        raise IntegrityError("an encrypted table is cut, or holds a part that is not encrypted")
    try:
        held = _columns(content, footer_key, aad)
        holds_rows = _footer_start(content) > len(MAGIC)
        if holds_rows and any(_opens_without_its_key(content, column, footer_key, aad) for column in held):
            raise IntegrityError("an encrypted table holds a column without a key of its own")
        if not set(columns) <= set(held):
            raise damaged
        wanted = list(columns)
        keys = {name: column_keys[name] for name in wanted}
        return _read(content, wanted, footer_key, keys, aad).select(wanted)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, KeyError, OSError):
        raise damaged from None
