"""Records: a delivered file is cut into records exactly as Python's csv module would, and says nothing."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import DeliveryRefused
from transforms import records
from transforms.records import Dialect, chunks, parse_chunk, sniff_dialect

CANARY = "9990000018"
SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "artificial_hes"


def parse(
    content: bytes, *, piece: int = 1 << 20, wanted: list[str] | None = None
) -> tuple[list[tuple[str | None, ...]], list[tuple[int, str]]]:
    """All kept rows and all broken lines of a file, lines numbered from 0 behind the header."""
    dialect = sniff_dialect(content)
    rows: list[tuple[str | None, ...]] = []
    broken: list[tuple[int, str]] = []
    kept: list[int] = []
    offset = 0
    for chunk in chunks(io.BytesIO(content), dialect, piece):
        parsed = parse_chunk(chunk, dialect, dialect.header, wanted or list(dialect.header))
        positions = range(parsed.frame.height) if parsed.ordinals is None else parsed.ordinals.to_list()
        assert len(positions) == parsed.frame.height, "every row of the frame has a position"
        kept += [offset + position for position in positions]
        broken += [(offset + position, reason) for position, reason in parsed.broken]
        rows += parsed.frame.rows()
        offset += parsed.rows
    assert sorted(kept + [position for position, _ in broken]) == list(range(offset)), (
        "every line counts once"
    )
    return rows, broken


# the beginning of a file


@pytest.mark.parametrize("delimiter", ["|", ",", "\t"])
def test_the_delimiter_is_found_in_the_header_and_confirmed_on_the_records(delimiter: str) -> None:
    content = "EPIKEY|SEX|DIAG_01\n1|2|A00\n2|1|B01\n".replace("|", delimiter).encode()
    assert sniff_dialect(content) == Dialect(
        delimiter, delimiter == ",", ("EPIKEY", "SEX", "DIAG_01"), 19, crlf=False, byte_order_mark=False
    )


def test_a_byte_order_mark_and_windows_line_ends_are_not_part_of_the_data() -> None:
    content = b"\xef\xbb\xbfEPIKEY| SEX \r\n1|2\r\n3|4\r\n"
    dialect = sniff_dialect(content)
    assert (dialect.header, dialect.crlf, dialect.byte_order_mark) == (("EPIKEY", "SEX"), True, True)
    assert parse(content) == ([("1", "2"), ("3", "4")], [])


def test_quoted_column_names_of_a_comma_file_lose_their_quotation_marks() -> None:
    assert sniff_dialect(b'"EPIKEY","SEX"\n1,2\n').header == ("EPIKEY", "SEX")


REFUSED_BEGINNINGS = {
    "empty": b"",
    "header only": b"EPIKEY|SEX\n",
    "header without line end": b"EPIKEY|SEX",
    "header and blank lines": b"EPIKEY|SEX\n\n\r\n",
    "first line is a record": f"0102|{CANARY}|X\n0102|{CANARY}|Y\n".encode(),
    "first line has an empty name": f"EPIKEY||SEX\n{CANARY}|1|2\n".encode(),
    "first line has a quotation mark": f'EPIKEY|"SEX\n{CANARY}|1\n'.encode(),
    "utf-16 with a mark": f"EPIKEY|SEX\n{CANARY}|1\n".encode("utf-16"),
    "utf-16 without a mark": f"EPIKEY|SEX\n{CANARY}|1\n".encode("utf-16-le"),
    "utf-16 big-endian without a mark": f"EPIKEY|SEX\n{CANARY}|1\n".encode("utf-16-be"),
    "utf-32 with a mark": f"EPIKEY|SEX\n{CANARY}|1\n".encode("utf-32"),
    "utf-32 without a mark": f"EPIKEY|SEX\n{CANARY}|1\n".encode("utf-32-be"),
    "NUL bytes in the header": f"EPI\0KEY|SEX\n{CANARY}|1\n".encode(),
    "NUL bytes": f"EPIKEY|SEX\n{CANARY}|\0\n".encode(),
    "Macintosh line ends": f"EPIKEY|SEX\r{CANARY}|1\r".encode(),
    "Macintosh line end behind the header alone": b"EPIKEY|SEX\r",
    "no delimiter": f"EPIKEY\n{CANARY}\n".encode(),
    "two delimiters in the header": f"EPIKEY|SEX,DOB\n{CANARY}|1,2\n".encode(),
    "another delimiter in the records": f"EPIKEY|SEX\n{CANARY},1\n{CANARY},2\n".encode(),
    "another delimiter in one record of many": b"EPIKEY|SEX\n" + b"1|2\n" * 50 + f"{CANARY},1\n".encode(),
    "records of another width": f"EPIKEY|SEX\n{CANARY}|1|2\n{CANARY}|1|2\n{CANARY}|1\n".encode(),
    "a column named twice": f"EPIKEY|Dob|DOB\n{CANARY}|1|2\n".encode(),
    "a header that is not UTF-8": f"EPIKEY|S\xc9X\n{CANARY}|1\n".encode("latin-1"),
    "no line end for a megabyte": b"EPIKEY|" + b"A" * records.HEAD_BYTES,
    "no record within a megabyte": b"EPIKEY|SEX\n" + b"\n" * records.HEAD_BYTES,
}


@pytest.mark.parametrize("content", REFUSED_BEGINNINGS.values(), ids=REFUSED_BEGINNINGS.keys())
def test_a_beginning_that_is_no_file_of_records_is_refused_without_a_value(content: bytes) -> None:
    with pytest.raises(DeliveryRefused) as caught:
        sniff_dialect(content)
    assert caught.value.code == "delivery.refused"
    assert CANARY not in str(caught.value), "a refusal must not repeat what the file holds"
    assert caught.value.__cause__ is None, "no foreign exception may hang on a refusal"


def test_the_refusals_of_a_beginning_can_be_told_apart() -> None:
    def message(name: str) -> str:
        with pytest.raises(DeliveryRefused) as caught:
            sniff_dialect(REFUSED_BEGINNINGS[name])
        return caught.value.message

    for name, word in {
        "empty": "empty",
        "header only": "no records",
        "first line is a record": "not a header",
        "utf-16 without a mark": "UTF-16",
        "NUL bytes": "NUL",
        "Macintosh line ends": "carriage return",
        "two delimiters in the header": "pipe and comma",
        "another delimiter in the records": "another delimiter",
        "a column named twice": "columns 2 and 3",
    }.items():
        assert word in message(name), f"the message for '{name}' should say '{word}'"


def test_single_broken_rows_at_the_beginning_do_not_refuse_a_delivery() -> None:
    assert sniff_dialect(b"EPIKEY|SEX\n1|2|3\n1|2\n1|2\n").delimiter == "|"


# broken rows


def test_a_broken_row_is_taken_out_and_the_others_keep_their_place() -> None:
    content = b"A|B|C\n1|2|3\n4|5\n6|7|8\n9|10|11|12\n\n13|14|15"
    rows, broken = parse(content)
    assert rows == [("1", "2", "3"), ("6", "7", "8"), ("13", "14", "15")]
    assert broken == [(position, "wrong_number_of_fields") for position in (1, 3, 4)]


def test_errors_that_cancel_out_across_rows_are_both_found() -> None:
    """Four fields and then two: the total is that of two good rows."""
    rows, broken = parse(b"A|B|C\n1|2|3\n1|2|3|4\n1|2\n1|2|3\n")
    assert len(rows) == 2
    assert broken == [(1, "wrong_number_of_fields"), (2, "wrong_number_of_fields")]


def test_rows_that_are_not_utf8_or_hold_a_nul_byte_say_so() -> None:
    content = b"A|B\nfirst|1\nnul|\0\nlatin|\xe9\ncaf\xc3\xa9|2\nboth\xff|\0\n|3\n"
    rows, broken = parse(content)
    assert rows == [("first", "1"), ("café", "2"), (None, "3")]
    assert broken == [(1, "nul_byte"), (2, "not_utf8"), (4, "nul_byte")]


def test_a_bad_byte_in_a_column_that_is_not_wanted_breaks_the_row_all_the_same() -> None:
    """What is left out may not depend on which columns someone asks for."""
    assert parse(b"A|B\n1|\xe9\n2|x\n", wanted=["A"]) == ([("2",)], [(0, "not_utf8")])


def test_a_quotation_mark_is_plain_data_in_a_pipe_file() -> None:
    rows, broken = parse(b'A|B\n"1|2\n3"|"4"\n')
    assert rows == [('"1', "2"), ('3"', '"4"')]
    assert broken == []


def test_a_comma_inside_quotation_marks_does_not_divide() -> None:
    rows, broken = parse(b'A,DIAG_3_CONCAT,C\n1,"F32,Z37",2\n1,"F32,Z37\n",2\n'.replace(b'\n"', b'"'))
    assert rows == [("1", "F32,Z37", "2"), ("1", "F32,Z37", "2")]
    assert broken == []


def test_an_empty_field_is_null_whether_quoted_or_not() -> None:
    assert parse(b'A,B\n"",x\n,y\n"a""b",""\n')[0] == [(None, "x"), (None, "y"), ('a"b', None)]


def test_a_quotation_mark_in_the_middle_of_a_comma_field_breaks_its_row_only() -> None:
    rows, broken = parse(b'A,B\n1,2\n5"x3",wood\n"a"b,c\n"x,y",2\n')
    assert rows == [("1", "2"), ("x,y", "2")]
    assert broken == [(1, "misplaced_quote"), (2, "misplaced_quote")]


def test_a_line_end_inside_a_quoted_field_refuses_the_delivery() -> None:
    content = f'A,B\n1,2\n3,"{CANARY}\n{CANARY}"\n5,6\n7,8\n'.encode()
    with pytest.raises(DeliveryRefused) as caught:
        parse(content)
    assert "line end inside a field" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_chunk_in_which_every_row_is_broken_gives_an_empty_frame() -> None:
    dialect = sniff_dialect(b"A|B\n1|2\n")
    parsed = parse_chunk(b"1\n2\n", dialect, ["A", "B"], ["B"])
    assert parsed.frame.schema == pl.Schema({"B": pl.String})
    assert (parsed.frame.height, parsed.rows) == (0, 2)


def test_columns_come_in_the_order_asked_for_and_as_text() -> None:
    dialect = sniff_dialect(b"A|B|C\n01|2.50|x\n")
    frame = parse_chunk(b"01|2.50| x \n", dialect, ["A", "B", "C"], ["C", "A"]).frame
    assert frame.equals(pl.DataFrame({"C": [" x "], "A": ["01"]}))


def test_errors_of_the_parser_do_not_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise pl.exceptions.ComputeError(f"could not parse `{CANARY}`")

    monkeypatch.setattr(pl, "read_csv", fails)
    dialect = sniff_dialect(b"A|B\n1|2\n")
    with pytest.raises(DeliveryRefused) as caught:
        parse_chunk(b"1|2\n", dialect, ["A", "B"], ["A"])
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__


# cutting


class Dribble:
    """A pipe: never as much as asked for."""

    def __init__(self, content: bytes) -> None:
        self._rest = content

    def read(self, size: int = -1) -> bytes:
        piece, self._rest = self._rest[: min(size, 7)], self._rest[min(size, 7) :]
        return piece


def test_chunks_put_together_are_the_file_without_its_header() -> None:
    body = b"".join(f"{number}|{number * 7}\n".encode() for number in range(500))
    content = b"\xef\xbb\xbfA|B\n" + body
    for piece in (1, 3, 10, 64, 1000, 1 << 20):
        parts = list(chunks(Dribble(content), sniff_dialect(content), piece))
        assert b"".join(parts) + b"\n" == body or b"".join(parts) == body
        assert all(part.endswith(b"\n") for part in parts[:-1]), "a chunk ends where a record ends"


def test_blank_lines_at_the_end_are_no_records_but_in_the_middle_they_are() -> None:
    for piece in (1, 2, 5, 100):
        rows, broken = parse(b"A|B\n1|2\n\n3|4\r\n\n\r\n\n", piece=piece)
        assert rows == [("1", "2"), ("3", "4")]
        assert broken == [(1, "wrong_number_of_fields")]


@pytest.mark.parametrize("filler", [b"A", b"\n"], ids=["one long line", "blank lines"])
def test_a_line_without_end_is_refused_before_memory_is_gone(filler: bytes) -> None:
    class Endless:
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            return filler * size if self.given < 64 << 20 else b""

    dialect = Dialect("|", False, ("A", "B"), 0, False, False)
    tracemalloc.start()
    try:
        with pytest.raises(DeliveryRefused, match="a line is longer"):
            list(chunks(Endless(), dialect, 1 << 18))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# against Python's csv module

FIELD = st.text(st.sampled_from("ab1 -&.é漢"), max_size=6)
QUOTABLE_FIELD = st.text(st.sampled_from('a1," é'), max_size=6)


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, bool, list[list[str]], dict[int, str]]:
    """A file, whether it is quoted, its lines as fields, and which lines are broken for what reason."""
    quoted = draw(st.booleans())
    delimiter, field = (",", QUOTABLE_FIELD) if quoted else ("|", FIELD)
    width = draw(st.integers(2, 5))
    line_end = draw(st.sampled_from(["\n", "\r\n"]))
    good = st.lists(field, min_size=width, max_size=width)
    other = st.lists(field, min_size=1, max_size=8).filter(lambda fields: len(fields) != width)
    lines: list[list[str]] = []
    broken: dict[int, str] = {}
    content = bytearray((delimiter.join(f"C{n}" for n in range(width)) + line_end).encode())
    # enough good lines first, that the beginning is confirmed
    kinds = ["good"] * 12 + draw(
        st.lists(st.sampled_from(["good", "good", "width", "nul", "utf8"]), max_size=10)
    )
    style = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])) if quoted else csv.QUOTE_NONE
    for number, kind in enumerate(kinds):
        fields = draw(other if kind == "width" else good)
        text = io.StringIO()
        csv.writer(
            text,
            delimiter=delimiter,
            quoting=style,
            lineterminator=line_end,
            quotechar='"' if quoted else None,
        ).writerow([field or "x" for field in fields] if len(fields) == 1 else fields)
        raw = text.getvalue().encode()
        if kind == "nul":
            raw = raw.replace(line_end.encode(), b"\0" + line_end.encode())
            raw = raw.replace(b'"\0', b'\0"')
        elif kind == "utf8":
            raw = raw.replace(line_end.encode(), b"\xe9" + line_end.encode()).replace(b'"\xe9', b'\xe9"')
        if kind != "good":
            broken[number] = {"width": "wrong_number_of_fields", "nul": "nul_byte", "utf8": "not_utf8"}[kind]
        lines.append(fields)
        content += raw
    if draw(st.booleans()) and kinds[-1] == "good" and any(lines[-1]):
        del content[-len(line_end) :]
    return bytes(content), quoted, lines, broken


@given(files(), st.sampled_from([1, 13, 64, 1 << 16]))
@settings(max_examples=150, deadline=None)
def test_every_generated_file_is_divided_as_the_csv_module_divides_it(
    file: tuple[bytes, bool, list[list[str]], dict[int, str]], piece: int
) -> None:
    content, quoted, lines, broken = file
    rows, found = parse(content, piece=piece)
    assert dict(found) == broken
    good = [line for number, line in enumerate(lines) if number not in broken]
    assert rows == [tuple(field or None for field in line) for line in good]
    if not broken:
        text = io.StringIO(content.decode(), newline="")
        reader: Iterator[list[str]] = csv.reader(
            text,
            delimiter="," if quoted else "|",
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        )
        next(reader)
        assert rows == [tuple(field or None for field in row) for row in reader]


@given(st.binary(max_size=300).map(lambda tail: b"A,B\n" + b"1,2\n" * 12 + tail))
@settings(max_examples=200, deadline=None)
def test_any_bytes_behind_a_header_are_records_broken_rows_or_a_refusal(content: bytes) -> None:
    try:
        rows, broken = parse(content, piece=50)
    except DeliveryRefused:
        return
    lines = content.rstrip(b"\r\n").split(b"\n")[1:]
    assert len(rows) + len(broken) == len(lines), "row counts reconcile"


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("artificial_hes_apc_0102_truncated.csv", 2075, 193),
        ("artificial_hes_op_0304_truncated.csv", 1000, 157),
    ],
)
def test_the_artificial_extracts_are_read_as_the_csv_module_reads_them(
    name: str, rows: int, columns: int
) -> None:
    path = SHARED / name
    if not path.exists():
        pytest.skip("file under ../shared not present")
    found, broken = parse(path.read_bytes(), piece=1 << 18)
    assert (len(found), len(found[0]), broken) == (rows, columns, [])
    with path.open(encoding="utf-8", newline="") as stream:
        expected = [tuple(field or None for field in row) for row in csv.reader(stream)]
    assert found == expected[1:]


def test_the_values_of_a_column_at_the_beginning_are_those_of_whole_records() -> None:
    whole = b"A|PARTYEAR\n1|201999\n2|\n3|201906|broken\n4|201901"
    assert records.values_at_beginning(whole, sniff_dialect(whole), "PARTYEAR") == {"201999", "201901"}
    line = b"1|201999\n"
    cut = (b"A|PARTYEAR\n" + line * (records.HEAD_BYTES // len(line) + 1))[: records.HEAD_BYTES]
    assert not cut.endswith(b"\n")
    assert records.values_at_beginning(cut, sniff_dialect(cut), "PARTYEAR") == {"201999"}
