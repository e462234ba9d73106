"""Records: the lines of a delivered file, found, checked and cut into fields.

A delivery is text of one record per line. Three steps, all of them pure:

* :func:`sniff_dialect` looks at the beginning of the file and says how it is written, or refuses it;
* :func:`chunks` cuts the stream of bytes at record ends, so that a piece can be parsed on its own;
* :func:`parse_chunk` parses one piece to text columns and takes the broken rows out.

Polars parses; but it fills a row that is too short with nulls and stops at a row that is too long, so a
short and a long row must be found before it sees them. Counting is done on bits: one bit per byte of the file
says "this is a delimiter", 64 of them are counted by one instruction, and a running total of those counts
gives the number of delimiters before any position. That costs about a tenth of the parse itself; summing per
line (``np.add.reduceat``) costs four times as much, splitting in Python fifty times.

No message of this module carries anything from the file, column names included: a first line that is not a
header is a record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.errors import DeliveryRefused

HEAD_BYTES = 1 << 20
"""How much of the beginning :func:`sniff_dialect` wants to see. A shorter beginning means a whole file."""

CHUNK_BYTES = 16 << 20
"""Large enough to keep all processors busy, small enough that the allocator gives the same memory again
(it returns pieces of 32 MiB and more to the system, and clearing fresh pages costs more than reading)."""

MAX_RECORD_BYTES = 1 << 20
"""A line longer than this is not a record: the widest layout with all its concatenated fields has 20 kB."""

SAMPLE_LINES = 1000
DELIMITERS = {"|": "pipe", ",": "comma", "\t": "tab"}

WRONG_NUMBER_OF_FIELDS = "wrong_number_of_fields"
NOT_UTF8 = "not_utf8"
NUL_BYTE = "nul_byte"
MISPLACED_QUOTE = "misplaced_quote"

_UTF8_BOM = b"\xef\xbb\xbf"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_COLUMN_NAME = re.compile(r"[A-Za-z][^\x00-\x1f\x7f]{0,99}")
_BLOCK = 1 << 18  # bytes packed at a time: the intermediate booleans stay in the processor's cache

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]


class ByteSource(Protocol):
    """Anything bytes can be read from, in order, once."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Dialect:
    """How a file is written.

    ``quoted`` is true for comma files, where ``"`` may enclose a field; in pipe and tab files a quotation
    mark is plain data. ``header`` holds the column names as delivered, in order, without surrounding spaces.
    ``header_bytes`` is the length of byte order mark and header line, so the first record starts there.
    """

    delimiter: str
    quoted: bool
    header: tuple[str, ...]
    header_bytes: int
    crlf: bool
    byte_order_mark: bool


class ParsedChunk(NamedTuple):
    """What :func:`parse_chunk` found.

    ``frame``: the wanted columns as ``String``, one row per well-formed record, in file order; an empty field
    is null. ``ordinals``: ``UInt32``, for each row of the frame its 0-based position among the lines of the
    chunk, or ``None`` when every line is there. ``broken``: position and reason of each line left out.
    """

    frame: pl.DataFrame
    ordinals: pl.Series | None
    broken: list[tuple[int, str]]

    @property
    def rows(self) -> int:
        """Lines of the chunk, broken ones included."""
        return self.frame.height + len(self.broken)


# the beginning of a file ----------------------------------------------------------------------------


def sniff_dialect(first_bytes: bytes) -> Dialect:
    """How the file that starts with ``first_bytes`` is written.

    Pass the first :data:`HEAD_BYTES` bytes; fewer mean that this is the whole file. The delimiter is the one
    that divides the header, confirmed on the lines that follow: at least half of the first thousand must have
    as many fields as the header (single broken rows are counted later, they do not stop a delivery), and none
    may fit another delimiter.

    Raises :class:`~schemas.errors.DeliveryRefused`: empty file, header only, no header, UTF-16 or UTF-32, NUL
    bytes in the header or in most records, Macintosh line ends, a delimiter that is missing, ambiguous or not
    confirmed, a column named twice.
    """
    if not first_bytes:
        raise DeliveryRefused("the file is empty", next_step="ask the sender to deliver it again")
    _refuse_wide_encodings(first_bytes)
    mark = first_bytes.startswith(_UTF8_BOM)
    start = len(_UTF8_BOM) if mark else 0
    end = first_bytes.find(b"\n", start)
    line = first_bytes[start : end if end >= 0 else len(first_bytes)]
    if b"\r" in line.removesuffix(b"\r") or (end < 0 and line.endswith(b"\r")):
        raise DeliveryRefused(
            "the lines end with a carriage return alone", next_step="ask for line ends LF or CR LF"
        )
    if end < 0 and len(first_bytes) >= HEAD_BYTES:
        raise DeliveryRefused(f"there is no line end in the first {HEAD_BYTES} bytes")
    crlf = line.endswith(b"\r")
    try:
        header_line = line.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError:
        raise DeliveryRefused(
            "the header is not UTF-8 text", next_step="ask for a text file in UTF-8"
        ) from None
    delimiter = _header_delimiter(header_line)
    quoted = delimiter == ","
    header = _header_names(header_line, delimiter, quoted=quoted)
    if end < 0:
        raise DeliveryRefused("the file has a header and no records")
    body = first_bytes[end + 1 :]
    whole = len(first_bytes) < HEAD_BYTES
    _confirm_delimiter(body, delimiter, len(header), whole=whole)
    return Dialect(delimiter, quoted, header, end + 1, crlf, mark)


def _refuse_wide_encodings(first_bytes: bytes) -> None:
    if first_bytes.startswith(_WIDE_MARKS):
        raise DeliveryRefused("the file is written in UTF-16 or UTF-32", next_step="ask for UTF-8")
    sample = first_bytes[:4096]
    nuls = sample.count(b"\0")
    if nuls and nuls >= len(sample) // 3:  # ASCII as UTF-16 is half NUL bytes, as UTF-32 three quarters
        raise DeliveryRefused(
            "the file is written in UTF-16 or UTF-32, without a byte order mark", next_step="ask for UTF-8"
        )
    if b"\0" in first_bytes[: first_bytes.find(b"\n")]:
        raise DeliveryRefused("the first line holds NUL bytes: it is not a header")


def _header_delimiter(header_line: str) -> str:
    present = [delimiter for delimiter in DELIMITERS if delimiter in header_line]
    if not present:
        raise DeliveryRefused("the first line holds none of the delimiters pipe, comma and tab")
    if len(present) > 1:
        names = " and ".join(DELIMITERS[delimiter] for delimiter in present)
        raise DeliveryRefused(f"the first line holds more than one delimiter ({names}): ambiguous")
    return present[0]


def _header_names(header_line: str, delimiter: str, *, quoted: bool) -> tuple[str, ...]:
    names = [name.strip() for name in header_line.split(delimiter)]
    if quoted:
        names = [
            name[1:-1].strip() if len(name) >= 2 and name[0] == name[-1] == '"' else name for name in names
        ]
    if not all(_COLUMN_NAME.fullmatch(name) for name in names) or any('"' in name for name in names):
        raise DeliveryRefused(
            "the first line is not a header: column names are needed, each starting with a letter",
            next_step="ask the sender for the file with its header line",
        )
    seen: dict[str, int] = {}
    for position, name in enumerate(names, 1):
        first = seen.setdefault(name.upper(), position)
        if first != position:
            raise DeliveryRefused(f"columns {first} and {position} of the header have the same name")
    return tuple(names)


def _confirm_delimiter(body: bytes, delimiter: str, fields: int, *, whole: bool) -> None:
    lines = body.split(b"\n", SAMPLE_LINES)
    rest = lines.pop()
    if whole and len(lines) < SAMPLE_LINES:
        lines.append(rest)  # the last line of a file without a line end behind it
    lines = [line for line in lines if line.strip()]
    if not lines:
        if whole:
            raise DeliveryRefused("the file has a header and no records")
        raise DeliveryRefused(f"there is no record in the first {HEAD_BYTES} bytes")
    fits = 0
    for line in lines:
        if _count_fields(line, delimiter) == fields:
            fits += b"\0" not in line
        elif any(_count_fields(line, other) == fields for other in DELIMITERS if other != delimiter):
            raise DeliveryRefused(
                f"the header is divided by {DELIMITERS[delimiter]} and some records by another delimiter"
            )
    if 2 * fits < len(lines):
        raise DeliveryRefused(
            f"the header has {fields} columns divided by {DELIMITERS[delimiter]}, and {len(lines) - fits} of "
            f"the first {len(lines)} records have another number of fields or hold NUL bytes"
        )


def _count_fields(line: bytes, delimiter: str) -> int:
    byte = delimiter.encode()
    if delimiter == "," and b'"' in line:
        return b"".join(line.split(b'"')[::2]).count(byte) + 1  # every second piece lies outside quotes
    return line.count(byte) + 1


def values_at_beginning(first_bytes: bytes, dialect: Dialect, column: str) -> set[str]:
    """The distinct values of ``column`` in the complete, well-formed records of the beginning of a file.

    ``column`` is a name of ``dialect.header``. Empty fields are left out. For a column whose few values say
    what a file is (PARTYEAR); the caller must not show one that it did not recognise.
    """
    body = first_bytes[dialect.header_bytes :]
    if len(first_bytes) >= HEAD_BYTES:
        body = body[: body.rfind(b"\n") + 1]
    values = parse_chunk(body.rstrip(b"\r\n"), dialect, dialect.header, [column]).frame[column]
    return set(values.drop_nulls().unique().to_list())


# cutting --------------------------------------------------------------------------------------------


def chunks(stream: ByteSource, dialect: Dialect, target_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The records of ``stream``, which stands at the beginning of the file, in pieces that end with a record.

    Byte order mark and header line are left out. A piece has about ``target_bytes`` bytes. Blank lines at the
    very end are no records and are dropped; the last piece may lack its line end, as the file does.
    Raises :class:`~schemas.errors.DeliveryRefused` if a line is longer than :data:`MAX_RECORD_BYTES`, and
    whatever the stream raises when it ends early.
    """
    to_skip = dialect.header_bytes
    carry = b""
    block = bytearray(target_bytes)  # filled again and again: fresh memory costs more than reading
    view = memoryview(block)
    while end := _fill(stream, view):
        start = min(to_skip, end)
        to_skip -= start
        keep = _end_of_last_record(carry, block, start, end)
        if keep:
            yield b"".join((carry, view[start:keep]))
            carry = bytes(view[keep:end])
        else:
            carry += view[start:end]
        if len(carry) > MAX_RECORD_BYTES:
            raise DeliveryRefused(f"a line is longer than {MAX_RECORD_BYTES} bytes: not a file of records")
    carry = carry.rstrip(b"\r\n")
    if carry:
        yield carry


def _end_of_last_record(carry: bytes, block: bytearray, start: int, end: int) -> int:
    """Where in ``block[start:end]`` the last complete record ends, or 0.

    Line ends behind it are held back: only the next block shows whether they are blank lines in the middle,
    which are broken records, or the harmless end of the file.
    """
    behind_lines = block.rfind(b"\n", start, end) + 1
    last = behind_lines
    while last > start and block[last - 1] in b"\r\n":
        last -= 1
    if last <= start and (not carry or carry[-1] in b"\r\n"):
        return 0
    return block.find(b"\n", last, behind_lines) + 1


def _fill(stream: ByteSource, room: memoryview) -> int:
    """Fill ``room``, less of it only at the end of the stream: pipes give less than asked for."""
    read_into = getattr(stream, "readinto", None)
    filled = 0
    while filled < len(room):
        if read_into is not None:
            taken = read_into(room[filled:])
        else:
            piece = stream.read(len(room) - filled)
            taken = len(piece)
            room[filled : filled + taken] = piece
        if not taken:
            break
        filled += taken
    return filled


# parsing --------------------------------------------------------------------------------------------


def parse_chunk(data: bytes, dialect: Dialect, columns: Sequence[str], wanted: Sequence[str]) -> ParsedChunk:
    """Parse whole records to text.

    ``columns`` names all columns of the file in order (distinct), ``wanted`` those that are kept, in the
    order of the result. A line with another number of fields, a NUL byte, bytes that are not UTF-8 or a
    quotation mark in the middle of a field (comma files) is taken out and reported by position and reason;
    nothing of it is kept. In comma files a line with an odd number of quotation marks means a line end
    inside a field, after which nobody can say where the next record starts: the delivery is refused.

    Raises :class:`~schemas.errors.DeliveryRefused`, never with a value, never an error of Polars.
    """
    if not data:
        return ParsedChunk(_empty(wanted), None, [])
    if data[-1] != 0x0A:
        data += b"\n"
    buffer = np.frombuffer(data, np.uint8)
    newlines = _bits(buffer, 0x0A)
    ends = _set_positions(newlines)
    quotes = _bits(buffer, 0x22) if dialect.quoted and b'"' in data else None
    broken: dict[int, str] = {}
    delimiters = _bits(buffer, ord(dialect.delimiter))
    if quotes is not None:
        if (np.diff(_rank(quotes, ends), prepend=0) & 1).any():
            raise DeliveryRefused(
                "a record holds an odd number of quotation marks: a line end inside a field is not accepted",
                next_step="ask for the file without line ends inside fields, or delimited by pipes",
            )
        inside = _inside_quotes(quotes)
        for position in _misplaced(buffer, data, quotes, inside, delimiters, newlines, ends):
            broken[position] = MISPLACED_QUOTE
        delimiters = delimiters & ~inside
    counts = np.diff(_rank(delimiters, ends), prepend=0)
    for position in np.flatnonzero(counts != len(columns) - 1).tolist():
        broken[position] = WRONG_NUMBER_OF_FIELDS
    for position in _not_utf8(data, buffer, ends):
        broken[position] = NOT_UTF8
    if b"\0" in data:
        for position in _lines_of(_bits(buffer, 0), ends):
            broken[position] = NUL_BYTE
    ordinals = None
    rows = len(ends)
    if broken:
        good = np.ones(rows, np.bool_)
        good[list(broken)] = False
        data = _keep_lines(data, ends, good)
        rows = int(good.sum())
        ordinals = pl.Series("record_position", np.flatnonzero(good).astype(np.uint32))
    if rows == 0:
        frame = _empty(wanted)
    else:
        frame = _read(data, dialect, columns, wanted, quoted=quotes is not None)
        if frame.height != rows:
            raise DeliveryRefused(f"{rows} records were counted and {frame.height} were read")
    return ParsedChunk(frame, ordinals, sorted(broken.items()))


def _read(
    data: bytes, dialect: Dialect, columns: Sequence[str], wanted: Sequence[str], *, quoted: bool
) -> pl.DataFrame:
    place = {name: position for position, name in enumerate(columns)}
    if data.startswith(_UTF8_BOM):  # Polars drops one; here it belongs to the first field
        data = _UTF8_BOM + data
    try:
        frame = pl.read_csv(
            data,
            has_header=False,
            schema=dict.fromkeys(columns, pl.String),
            columns=[place[name] for name in wanted],
            separator=dialect.delimiter,
            quote_char='"' if quoted else None,
            infer_schema=False,
        ).select(wanted)
    except pl.exceptions.PolarsError:
        raise DeliveryRefused("the records could not be divided into fields") from None
    if quoted and b'""' in data:  # a field written as "" is as empty as one with nothing in it
        frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    return frame


def _empty(wanted: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))


def _keep_lines(data: bytes, ends: Positions, good: npt.NDArray[np.bool_]) -> bytes:
    """``data`` without the lines that are not ``good``: whole runs are copied, not single lines."""
    change = np.diff(good.astype(np.int8), prepend=0, append=0)
    first, behind = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    starts = np.concatenate(([0], ends + 1))
    view = memoryview(data)
    runs = zip(starts[first].tolist(), starts[behind].tolist(), strict=True)
    return b"".join([view[start:end] for start, end in runs])


def _not_utf8(data: bytes, buffer: Bytes, ends: Positions) -> list[int]:
    """Lines that are not UTF-8. Asking whether all bytes are ASCII is nearly free, and the usual answer."""
    if data.isascii() or _is_utf8(data):
        return []
    starts = np.concatenate(([0], ends[:-1] + 1))
    bad = []
    for line in _lines_of(_pack(buffer, lambda block: block >= 0x80), ends):
        if not _is_utf8(data[starts[line] : ends[line]]):
            bad.append(line)
    return bad


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _misplaced(
    buffer: Bytes,
    data: bytes,
    quotes: Words,
    inside: Words,
    delimiters: Words,
    newlines: Words,
    ends: Positions,
) -> list[int]:
    """Lines with a quotation mark that neither opens nor closes a whole field, nor is doubled.

    Parsers differ on such fields (some take the mark as text, some as an opening), so the row is left out.
    """
    line_ends = newlines
    if b"\r" in data:
        line_ends = newlines | (_bits(buffer, 0x0D) & _shift_down(newlines))
    opening, closing = quotes & inside, quotes & ~inside
    before = _shift_up(delimiters | newlines | quotes)
    before[0] |= np.uint64(1)  # the chunk starts with a record
    after = _shift_down(delimiters | line_ends | quotes)
    wrong = (opening & ~before) | (closing & ~after)
    return _lines_of(wrong, ends) if wrong.any() else []


# bits: one per byte of the chunk, 64 to a word, the lowest first -------------------------------------


def _pack(buffer: Bytes, test: Callable[[Bytes], npt.NDArray[np.bool_]]) -> Words:
    """Words of the bits ``test(block)``, with at least one spare word of zeros behind them."""
    packed = np.zeros((len(buffer) // 64 + 2) * 8, np.uint8)
    for start in range(0, len(buffer), _BLOCK):
        bits = np.packbits(test(buffer[start : start + _BLOCK]), bitorder="little")
        packed[start // 8 : start // 8 + len(bits)] = bits
    words: Words = packed.view("<u8")
    return words


def _bits(buffer: Bytes, byte: int) -> Words:
    return _pack(buffer, lambda block: block == byte)


def _rank(words: Words, positions: Positions) -> Positions:
    """How many bits are set before each position."""
    before = np.zeros(len(words) + 1, np.int64)
    np.cumsum(np.bitwise_count(words), dtype=np.int64, out=before[1:])
    place = positions >> 6
    below = (np.uint64(1) << (positions & 63).astype(np.uint64)) - np.uint64(1)
    ranks: Positions = before[place] + np.bitwise_count(words[place] & below)
    return ranks


def _set_positions(words: Words) -> Positions:
    """The positions of the bits that are set, ascending."""
    place = np.flatnonzero(words)
    left = words[place]
    found = []
    while len(place):
        lowest = left & (~left + np.uint64(1))
        found.append((place << 6) + np.bitwise_count(lowest - np.uint64(1)))
        left = left ^ lowest
        more = left != 0
        place, left = place[more], left[more]
    if not found:
        return np.empty(0, np.int64)
    positions = np.concatenate(found)
    if len(found) > 1:
        positions.sort()
    return positions


def _lines_of(words: Words, ends: Positions) -> list[int]:
    """The numbers of the lines in which a bit is set."""
    lines: list[int] = np.flatnonzero(np.diff(_rank(words, ends), prepend=0)).tolist()
    return lines


def _inside_quotes(quotes: Words) -> Words:
    """Set from each opening quotation mark (included) to its closing one (not included).

    The parity of the marks seen so far: within a word by doubling shifts, across words by the parity of the
    totals before it.
    """
    parity = quotes.copy()
    for shift in (1, 2, 4, 8, 16, 32):
        parity ^= parity << np.uint64(shift)
    before = np.zeros(len(quotes), np.int64)
    np.cumsum(np.bitwise_count(quotes[:-1]), dtype=np.int64, out=before[1:])
    odd = (before & 1).astype(np.bool_)
    parity[odd] = ~parity[odd]
    return parity


def _shift_up(words: Words) -> Words:
    """Each bit moves to the position behind it."""
    moved = words << np.uint64(1)
    moved[1:] |= words[:-1] >> np.uint64(63)
    return moved


def _shift_down(words: Words) -> Words:
    """Each bit moves to the position before it."""
    moved = words >> np.uint64(1)
    moved[:-1] |= words[1:] << np.uint64(63)
    return moved
