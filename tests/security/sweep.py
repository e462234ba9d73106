"""The canary sweep: is one of these values anywhere in these bytes, in whatever guise?

Synthetic extracts carry *canaries*, identifiers that occur nowhere else (NHS numbers of the 999 range that is
never issued, postcodes, dates of birth before any event). After a test everything the program wrote, printed,
logged or stored is searched for them, byte by byte:

* as UTF-8 and UTF-16 of both byte orders, hexadecimal, base64 at its three alignments (wrapped too),
  reversed, as JSON ``\\u`` escapes, percent-encoded, as 64-bit integer or float;
* dates as ISO, day first, month first, compact, with ``-``, ``/``, ``.`` and blanks; ten-digit numbers in
  groups; postcodes with, without and with padded blanks, in either case;
* in file and folder names, and inside zip, gzip, bzip2, xz, zstd and tar, in Parquet, Arrow, SQLite and
  DuckDB files (opened, so that compression and page boundaries hide nothing), nested, and in compressed
  frames in the middle of other files, as DuckDB spills them.

A hit says where, which kind and which guise, and the start of a digest in place of the value. What could not
be opened (encrypted, damaged) is listed: its bytes were searched as they are, and whoever reads the report
decides whether it should have been opaque.

Not recognised: encrypted or otherwise encoded values (that is their purpose), compact eight-digit dates next
to a letter or digit, dates in binary forms outside of the file types above, reversed NHS numbers that are not
among the given values.

    python tests/security/sweep.py --canaries canaries.csv FOLDER_OR_FILE ...

``canaries.csv`` has the columns kind and value. Exit code 1 if anything was found.
"""

from __future__ import annotations

import base64
import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import sqlite3
import struct
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from transforms.identifiers import valid_nhs_number

CHUNK_BYTES = 8 << 20
DEEPEST = 5  # containers in containers
SHORT = 9  # shorter patterns turn up by chance, unless nothing like them stands beside them
_WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/_")
_WRAPPED_LINE = re.compile(rb"[A-Za-z0-9+/=_-]{56,128}\r?\n")
_POSTCODE = re.compile(r"([A-Z]{1,2}[0-9][A-Z0-9]?) *([0-9][A-Z]{2})")


@dataclass(frozen=True)
class Canary:
    """A value that may not turn up. ``kind`` names it in reports; dates are given as YYYY-MM-DD."""

    kind: str
    value: str


@dataclass(frozen=True, order=True)
class Hit:
    """A canary: ``where`` (parts of a container behind ``!``), its kind, guise and digest, first offset."""

    where: str
    kind: str
    encoding: str
    digest: str
    offset: int = field(compare=False)

    def __str__(self) -> str:
        return f"{self.where}: {self.kind} as {self.encoding} (digest {self.digest}, byte {self.offset})"


@dataclass
class Report:
    """What a sweep found, what it could not open, and how much it looked at."""

    hits: list[Hit]
    unopened: list[str]
    files: int
    bytes: int

    def __str__(self) -> str:
        lines = [f"{len(self.hits)} hits in {self.files} files, {self.bytes:,} bytes searched"]
        lines += [f"  {hit}" for hit in self.hits]
        return "\n".join([*lines, *(f"  not opened: {where}" for where in self.unopened)])


def digest(value: str) -> str:
    """What a report shows in place of a value. Canaries are made up, so that a plain digest is enough."""
    return hashlib.sha256(value.encode()).hexdigest()[:12]


# guises ----------------------------------------------------------------------------------------------


def texts(value: str) -> Iterator[tuple[str, str]]:
    """(text, how it is written) for every way in which people and programs write ``value``."""
    yield value, "as given"
    try:
        day = date.fromisoformat(value)
    except ValueError:
        pass
    else:
        year, month, number = f"{day.year:04d}", f"{day.month:02d}", f"{day.day:02d}"
        for between in ("-", "/", ".", " ", ""):
            yield between.join((year, month, number)), "year first"
            yield between.join((number, month, year)), "day first"
            yield between.join((month, number, year)), "month first"
        yield f"{number} {day:%b} {year}", "named month"
        yield f"{day.day} {day:%B} {year}", "named month"
        return
    postcode = _POSTCODE.fullmatch(value.upper())
    if postcode:
        for between in ("", " ", "  "):
            yield between.join(postcode.groups()), "postcode"
            yield between.join(postcode.groups()).lower(), "postcode"
        yield f"{postcode[1]:<5}{postcode[2]}", "postcode"
    elif len(value) == 10 and value.isdigit():
        for between in (" ", "-", ".", "/", "\u00a0"):
            yield between.join((value[:3], value[3:6], value[6:])), "in groups"
    elif value.upper() != value.lower():
        yield value.lower(), "lower case"
        yield value.upper(), "upper case"


def base64_cores(raw: bytes) -> Iterator[bytes]:
    """The part of the base64 of ``raw`` that does not depend on what stands around it, per alignment."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw)
        yield encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]


def guises(value: str) -> Iterator[tuple[bytes, str]]:
    """(bytes, encoding) of everything that is searched for ``value``."""
    for text, form in texts(value):
        raw = text.encode()
        yield raw, f"text, {form}"
        yield text.encode("utf-16-le"), f"UTF-16LE, {form}"
        yield text.encode("utf-16-be"), f"UTF-16BE, {form}"
        yield raw[::-1], f"reversed, {form}"
        yield raw.hex().encode(), f"hexadecimal, {form}"
        yield raw.hex().upper().encode(), f"hexadecimal, {form}"
        yield "".join(f"\\u{ord(character):04x}" for character in text).encode(), f"JSON escapes, {form}"
        yield text.replace("/", "\\/").encode(), f"JSON escapes, {form}"
        yield quote(text, safe="").encode(), f"percent-encoded, {form}"
        yield text.replace(" ", "+").encode(), f"percent-encoded, {form}"
        for core in base64_cores(raw):
            yield core, f"base64, {form}"
            yield core.translate(bytes.maketrans(b"+/", b"-_")), f"base64, {form}"
    if value.isdigit() and 9 <= len(value) <= 18:
        number = int(value)
        yield struct.pack("<q", number), "64-bit integer"
        yield struct.pack(">q", number), "64-bit integer"
        yield struct.pack("<d", number), "64-bit float"


# values nobody listed --------------------------------------------------------------------------------

# Each starts with plain bytes, which makes the search fast; what stands around is looked at afterwards.
_NHS_FORMS = [
    (re.compile(rb"999[0-9]{7}"), "text"),
    (re.compile(rb"999[ ._/-]{1,2}[0-9]{3}[ ._/-]{1,2}[0-9]{4}"), "text, in groups"),
    (re.compile(rb"9\x009\x009\x00(?:[ -]\x00)?(?:[0-9]\x00){3}(?:[ -]\x00)?(?:[0-9]\x00){4}"), "UTF-16LE"),
    (re.compile(rb"\x009\x009\x009(?:\x00[ -])?(?:\x00[0-9]){3}(?:\x00[ -])?(?:\x00[0-9]){4}"), "UTF-16BE"),
    (re.compile(rb"393939(?:3[0-9]){7}"), "hexadecimal"),
]


def _part_of_a_longer_number(data: bytes, start: int, end: int) -> bool:
    """A digit stands beside it, or a decimal point before it: a fraction may well start with 999."""
    if data[end : end + 1].isdigit() or (start and data[start - 1 : start].isdigit()):
        return True
    return start > 1 and data[start - 1 : start] == b"." and data[start - 2 : start - 1].isdigit()


def _base64_starts() -> list[tuple[re.Pattern[bytes], int]]:
    """For each alignment a pattern of ten digits from 999 on, and how many bytes of its group to skip."""
    starts = []
    for before in range(3):
        low, high = (base64.b64encode(bytes(before) + b"999" + digit * 7) for digit in (b"0", b"9"))
        first, last = -(-before * 8 // 6), -(-(before + 10) * 8 // 6)
        fixed = bytes(a for a, b in zip(low[first:last], high[first:last], strict=True) if a == b)[:4]
        assert low[first : first + 4] == fixed, "the first characters depend on 999 alone"
        rest = last - first - 4
        starts.append((re.compile(re.escape(fixed) + rb"[A-Za-z0-9+/_-]{%d}" % rest), before))
    return starts


_NHS_BASE64 = _base64_starts()


def nhs_numbers_of_the_test_range(data: bytes) -> Iterator[tuple[int, str, str]]:
    """(offset, number, encoding) of valid NHS numbers that start with 999, which are never issued."""
    for pattern, encoding in _NHS_FORMS:
        for match in pattern.finditer(data):
            raw = bytes.fromhex(match[0].decode()) if encoding == "hexadecimal" else match[0]
            number = re.sub(rb"[^0-9]", b"", raw).decode()
            if encoding.startswith("text") and _part_of_a_longer_number(data, *match.span()):
                continue
            if valid_nhs_number(number):
                yield match.start(), number, encoding
    for start, before in _NHS_BASE64:
        for match in start.finditer(data):
            head = b"A" * -(-before * 8 // 6)
            text = (head + match[0]).translate(bytes.maketrans(b"-_", b"+/"))
            # The first bits of the first 9 were in a character that also depends on what stands before.
            raw = b"9" + base64.b64decode(text + b"A" * (-len(text) % 4))[before + 1 : before + 10]
            if raw[:9].isdigit() and valid_nhs_number(raw.decode("ascii", "replace")):
                yield match.start(), raw.decode(), "base64"


Predicate = Callable[[bytes], Iterator[tuple[int, str, str]]]
PREDICATES: dict[str, Predicate] = {"nhs_number_999": nhs_numbers_of_the_test_range}


# searching -------------------------------------------------------------------------------------------


def _unwrapped(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes without line ends) of each run of lines of one length that looks like wrapped base64 or
    hexadecimal, with the lines before and after it."""
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n"))
    lengths = np.diff(ends, prepend=-1)
    candidates = np.flatnonzero((lengths >= 57) & (lengths <= 130))
    position = 0
    for index in candidates.tolist():
        if index < position or not _WRAPPED_LINE.match(data, int(ends[index] - lengths[index]) + 1):
            continue
        stop = index
        while stop < len(ends) and lengths[stop] == lengths[index]:
            stop += 1
        position = stop
        start = int(ends[index] - lengths[index]) + 1
        end = int(ends[stop]) if stop < len(ends) else len(data)
        yield start, data[start:end].translate(None, b"\r\n")


class _Patterns:
    """Finds any of many byte patterns, at the same speed whatever their number.

    Every position's eight bytes (six for the few shorter patterns) are hashed and looked up in a table; what
    passes is compared with the sorted starts of all patterns, and only true starts are compared in full.
    """

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self._by_start: dict[int, dict[bytes, list[bytes]]] = {8: {}, 6: {}}
        for pattern in patterns:
            width = 8 if len(pattern) >= 8 else 6
            self._by_start[width].setdefault(pattern[:width], []).append(pattern)
        self._lookups = [
            (width, *self._lookup(list(starts))) for width, starts in self._by_start.items() if starts
        ]

    @staticmethod
    def _hash(keys: npt.NDArray[np.uint64], bits: int) -> npt.NDArray[np.uint64]:
        mixed: npt.NDArray[np.uint64] = (keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits)
        return mixed

    def _lookup(self, starts: list[bytes]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_], int]:
        keys = np.sort(np.frombuffer(b"".join(start.ljust(8, b"\0") for start in starts), dtype="<u8"))
        bits = min(26, max(12, len(keys).bit_length() + 6))
        table = np.zeros(1 << bits, dtype=np.bool_)
        table[self._hash(keys, bits)] = True
        return keys, table, bits

    def find(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """(pattern, offset) of every occurrence, overlapping ones too."""
        padded = data + bytes(15)
        for width, keys, table, bits in self._lookups:
            mask = np.uint64((1 << 8 * width) - 1)
            for first in range(8):
                windows = np.frombuffer(padded, dtype="<u8", offset=first, count=len(data) // 8 + 1) & mask
                at = np.flatnonzero(table[self._hash(windows, bits)])
                near = np.minimum(np.searchsorted(keys, windows[at]), len(keys) - 1)
                for position in (at[keys[near] == windows[at]] * 8 + first).tolist():
                    for pattern in self._by_start[width].get(data[position : position + width], ()):
                        if data.startswith(pattern, position):
                            yield pattern, position


class Sweep:
    """Searches bytes, files and folders for ``canaries`` and for what the ``predicates`` recognise.

    Feed it with :meth:`folder`, :meth:`file` and :meth:`data`, then ask for the :meth:`report`.
    """

    def __init__(self, canaries: Iterable[Canary], predicates: dict[str, Predicate] | None = None) -> None:
        self._known: dict[bytes, tuple[str, str, str]] = {}
        for canary in canaries:
            if len(canary.value) < 6:
                raise ValueError("a canary of fewer than six characters would be found everywhere")
            for raw, encoding in guises(canary.value):
                self._known.setdefault(raw, (canary.kind, encoding, digest(canary.value)))
        self._patterns = _Patterns(self._known)
        self._longest = max([len(pattern) for pattern in self._known] + [64])
        self._predicates = PREDICATES if predicates is None else predicates
        self._found: dict[tuple[str, str, str, str], int] = {}
        self._unopened: list[str] = []
        self._files = 0
        self._bytes = 0

    def report(self) -> Report:
        """What was found up to now, in the order of places."""
        hits = sorted(Hit(*place, offset) for place, offset in self._found.items())
        return Report(hits, sorted(self._unopened), self._files, self._bytes)

    def folder(self, folder: Path) -> None:
        """Everything below ``folder``: names, the targets of links (which are not followed), contents."""
        for parent, folders, names in os.walk(folder, followlinks=False):
            for name in sorted(folders):
                self._name(name, self._label(Path(parent), folder))
            for name in sorted(names):
                self._name(name, self._label(Path(parent), folder))
                path = Path(parent) / name
                if path.is_symlink():
                    self._search(os.fsencode(os.readlink(path)), f"{self._label(path, folder)}!target")
                elif path.is_file():
                    self.file(path, self._label(path, folder))

    def file(self, path: Path, where: str | None = None) -> None:
        """The bytes of one file, and what is in it if it is a container."""
        where = where or self._label(path, path.parent)
        self._files += 1
        with path.open("rb") as stream:
            self._stream(stream, where, DEEPEST, path)

    def data(self, data: bytes | str, where: str) -> None:
        """Captured output, a message, any bytes at hand."""
        self._stream(io.BytesIO(data.encode() if isinstance(data, str) else data), where, DEEPEST, None)

    # names ---------------------------------------------------------------------------------------

    def _name(self, name: str, where: str) -> None:
        self._search(os.fsencode(name), f"{where}!name")

    def _label(self, path: Path, root: Path) -> str:
        """The path as a report may print it: a part that holds a canary is replaced by its digest."""
        parts = [root.name, *path.relative_to(root).parts]
        return "/".join(f"#{digest(part)}" if self._holds(os.fsencode(part)) else part for part in parts)

    def _holds(self, data: bytes) -> bool:
        probe = Sweep.__new__(Sweep)
        probe.__dict__ = {**self.__dict__, "_found": {}, "_unopened": []}
        probe._search(data, "")
        return bool(probe._found)

    # bytes ---------------------------------------------------------------------------------------

    def _search(self, data: bytes, where: str, offset: int = 0) -> None:
        for kind, encoding, value_digest, start in self._matches(data):
            self._found.setdefault((where, kind, encoding, value_digest), offset + start)

    def _matches(self, data: bytes) -> Iterator[tuple[str, str, str, int]]:
        for pattern, start in self._patterns.find(data):
            if len(pattern) >= SHORT or self._stands_alone(data, start, start + len(pattern)):
                yield *self._known[pattern], start
        for kind, predicate in self._predicates.items():
            for start, value, encoding in predicate(data):
                yield kind, encoding, digest(value), start

    @staticmethod
    def _stands_alone(data: bytes, start: int, end: int) -> bool:
        before = start == 0 or data[start - 1] not in _WORD
        return before and (end == len(data) or data[end] not in _WORD)

    def _stream(self, stream: BinaryIO, where: str, depth: int, path: Path | None) -> None:
        """Search a stream piece by piece, overlapping, then look into it if it is a container."""
        head = stream.read(CHUNK_BYTES)
        opened = self._container(head, stream, where, depth, path) if depth else False
        offset, piece = 0, head
        while piece:
            self._bytes += len(piece)
            self._search(piece, where, offset)
            for start, joined in _unwrapped(piece):
                self._search(joined, f"{where}!unwrapped", offset + start)
            if depth and not opened:
                self._embedded(piece, stream, where, depth, offset)
            kept = piece[-self._longest :]
            more = stream.read(CHUNK_BYTES)
            offset += len(piece) - len(kept)
            piece = kept + more if more else b""

    # containers ------------------------------------------------------------------------------------

    def _container(self, head: bytes, stream: BinaryIO, where: str, depth: int, path: Path | None) -> bool:
        """Search what is in the container that ``head`` starts; False if it starts none.

        Leaves ``stream`` behind ``head``. What is broken or encrypted is noted.
        """
        opener = self._opener(head)
        if opener is None:
            return False
        try:
            stream.seek(0)
            opener(_Unclosable(stream), where, depth - 1, path)  # type: ignore[arg-type]
        except Exception as error:  # whatever a damaged file makes a library raise
            self._unopened.append(f"{where} ({type(error).__name__})")
        finally:
            stream.seek(len(head))
        return True

    def _opener(self, head: bytes) -> Callable[[BinaryIO, str, int, Path | None], None] | None:
        for magic, opener in (
            (b"PK\x03\x04", self._zip),
            (b"\x1f\x8b\x08", self._compressed(lambda stream: gzip.GzipFile(fileobj=stream))),
            (b"BZh", self._compressed(bz2.BZ2File)),
            (b"\xfd7zXZ\x00", self._compressed(lzma.LZMAFile)),
            (b"\x28\xb5\x2f\xfd", self._compressed(_zstd)),
            (b"PAR1", self._parquet),
            (b"PARE", self._parquet),
            (b"ARROW1", self._arrow),
            (b"SQLite format 3\x00", self._sqlite),
        ):
            if head.startswith(magic):
                return opener
        if head[257:262] == b"ustar":
            return self._tar
        return self._duckdb if head[8:12] == b"DUCK" else None

    def _compressed(self, opened: Callable[[Any], Any]) -> Callable[[BinaryIO, str, int, Path | None], None]:
        def search(stream: BinaryIO, where: str, depth: int, _path: Path | None) -> None:
            self._inner(opened(stream), f"{where}!content", depth)

        return search

    def _inner(self, stream: BinaryIO, where: str, depth: int) -> None:
        """The content of a container, on a temporary file so that it can be looked at twice."""
        with tempfile.TemporaryFile() as copy:
            try:
                _copy(stream, copy)
            finally:  # what could be read of a damaged one is searched too
                copy.seek(0)
                self._stream(copy, where, depth, None)

    def _zip(self, stream: BinaryIO, where: str, depth: int, _path: Path | None) -> None:
        with zipfile.ZipFile(stream) as archive:
            for number, member in enumerate(archive.infolist()):
                self._name(member.filename, where)
                try:
                    with archive.open(member) as content:
                        self._inner(content, f"{where}!{number}", depth)  # type: ignore[arg-type]
                except (RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
                    self._unopened.append(f"{where}!{number} ({type(error).__name__})")

    def _tar(self, stream: BinaryIO, where: str, depth: int, _path: Path | None) -> None:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for number, member in enumerate(archive):
                self._name(member.name, where)
                content = archive.extractfile(member) if member.isreg() else None
                if content is not None:
                    self._inner(content, f"{where}!{number}", depth)  # type: ignore[arg-type]

    def _embedded(self, piece: bytes, stream: BinaryIO, where: str, depth: int, offset: int) -> None:
        """Compressed frames in the middle of something else; ``piece`` stands at ``offset`` of ``stream``."""
        behind = stream.tell()
        for magic, opened in ((b"\x28\xb5\x2f\xfd", _zstd), (b"\x1f\x8b\x08", _gzip_members)):
            at = piece.find(magic, 0 if offset else 1)
            while at >= 0:
                stream.seek(offset + at)
                with suppress(Exception):  # chance bytes, or something else behind the frame
                    self._inner(opened(_Unclosable(stream)), f"{where}!frame", depth - 1)
                at = piece.find(magic, at + 1)
        stream.seek(behind)

    # tables ------------------------------------------------------------------------------------------

    def _table(self, table: pa.Table | pa.RecordBatch, where: str, depth: int) -> None:
        for name in table.schema.names:
            self._name(name, where)
        for name, column in zip(table.schema.names, table.columns, strict=True):
            place = f"{where}!{'#' + digest(name) if self._holds(name.encode()) else name}"
            self._stream(io.BytesIO(_column_text(column)), place, min(depth, 1), None)

    def _parquet(self, stream: BinaryIO, where: str, depth: int, _path: Path | None) -> None:
        with pyarrow.parquet.ParquetFile(stream) as file:
            for group in range(file.num_row_groups):
                self._table(file.read_row_group(group), where, depth)

    def _arrow(self, stream: BinaryIO, where: str, depth: int, _path: Path | None) -> None:
        with pyarrow.ipc.open_file(stream) as file:
            for number in range(file.num_record_batches):
                self._table(file.get_batch(number), where, depth)

    def _sqlite(self, stream: BinaryIO, where: str, depth: int, path: Path | None) -> None:
        with _private_copy(stream, path, ("-wal", "-journal")) as copy:
            connection = sqlite3.connect(copy)
            try:
                connection.text_factory = bytes
                tables = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
                for (raw,) in tables:
                    table = raw.decode("utf-8", "replace")
                    quoted = table.replace('"', '""')
                    try:
                        self._rows(connection.execute(f'select * from "{quoted}"'), f"{where}!{table}", depth)
                    except sqlite3.Error as error:
                        self._unopened.append(f"{where}!{table} ({type(error).__name__})")
            finally:
                connection.close()

    def _rows(self, cursor: sqlite3.Cursor, where: str, depth: int) -> None:
        while rows := cursor.fetchmany(5_000):
            lines = []
            for value in (value for row in rows for value in row if value is not None):
                raw = value if isinstance(value, bytes) else str(value).encode()
                lines.append(raw)
                if self._opener(raw) is not None:
                    self._stream(io.BytesIO(raw), f"{where}!value", depth, None)
            self._stream(io.BytesIO(b"\n".join(lines)), where, min(depth, 1), None)

    def _duckdb(self, stream: BinaryIO, where: str, depth: int, path: Path | None) -> None:
        with _private_copy(stream, path, (".wal",)) as copy:
            config: dict[str, Any] = {
                "autoload_known_extensions": "false",
                "autoinstall_known_extensions": "false",
            }
            with duckdb.connect(str(copy), config=config) as connection:
                described = """
                    select concat_ws(' ', sql, comment) from duckdb_tables() where not internal
                    union all select concat_ws(' ', sql, comment) from duckdb_views() where not internal
                    union all
                    select concat_ws(' ', column_name, comment) from duckdb_columns() where not internal
                """
                for (text,) in connection.execute(described).fetchall():
                    self._search(text.encode(), f"{where}!schema")
                tables = connection.execute(
                    "select schema_name, table_name from duckdb_tables() where not internal order by all"
                ).fetchall()
                for schema, table in tables:
                    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, table))
                    batches = connection.execute(f"from {quoted}").to_arrow_reader(100_000)
                    for batch in batches:
                        self._table(batch, f"{where}!{table}", depth)


class _Unclosable:
    """A stream that a library may close as often as it likes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def close(self) -> None:
        """Nothing: the stream is read on."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)


def _copy(source: Any, target: Any) -> None:
    """Copy in small steps: of a damaged stream everything up to the damage arrives."""
    read = getattr(source, "read1", source.read)
    while piece := read(1 << 14):
        target.write(piece)


def _zstd(stream: Any) -> Any:
    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")


def _gzip_members(stream: Any) -> Any:
    return gzip.GzipFile(fileobj=stream)


class _private_copy:
    """A file of its own to open with a library that writes beside what it opens; side files come along."""

    def __init__(self, stream: BinaryIO, path: Path | None, sides: tuple[str, ...]) -> None:
        self._stream, self._path, self._sides = stream, path, sides

    def __enter__(self) -> Path:
        self._folder = tempfile.TemporaryDirectory()
        copy = Path(self._folder.name) / "copy"
        with copy.open("wb") as target:
            shutil.copyfileobj(self._stream, target, CHUNK_BYTES)
        for side in self._sides:
            beside = None if self._path is None else self._path.with_name(self._path.name + side)
            if beside is not None and beside.is_file():
                shutil.copyfile(beside, copy.with_name(copy.name + side))
        return copy

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def _column_text(column: Any) -> bytes:
    """The values of an Arrow column, one a line, as text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _column_text(column.cast(kind.value_type))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return b"\n".join(value or b"" for value in column.to_pylist())
    if pa.types.is_nested(kind):
        return json.dumps(column.to_pylist(), default=str, ensure_ascii=False).encode()
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)
    joined = series.cast(pl.String, strict=False).str.join("\n", ignore_nulls=True).item()
    return (joined or "").encode()


def sweep(paths: Iterable[Path], canaries: Iterable[Canary]) -> Report:
    """Search files and folders for ``canaries`` and for any NHS number of the test range."""
    search = Sweep(canaries)
    for path in paths:
        if path.is_dir():
            search.folder(path)
        else:
            search.file(path)
    return search.report()


def main(arguments: list[str]) -> int:
    if len(arguments) < 3 or arguments[0] != "--canaries":
        print("usage: sweep.py --canaries FILE.csv FOLDER_OR_FILE ...", file=sys.stderr)
        return 2
    with Path(arguments[1]).open(newline="", encoding="utf-8") as stream:
        canaries = [Canary(row["kind"], row["value"]) for row in csv.DictReader(stream)]
    report = sweep([Path(argument) for argument in arguments[2:]], canaries)
    print(report)
    return 1 if report.hits else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
