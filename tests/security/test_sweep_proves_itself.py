"""The canary sweep finds a value in every guise and container it promises, and nothing in a clean place."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import sqlite3
import struct
import tarfile
import traceback
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from tests.security import sweep as sweeping
from tests.security.sweep import Canary, Sweep, digest, main, sweep

NHS = "9991204563"  # in the 999 range, with its check digit
OTHER_NHS = "9994445553"
BIRTH = "1931-03-04"
POSTCODE = "ZZ99 4QX"
HOSPITAL_NUMBER = "00Q71K4"
TEXT = " ".join(
    str(number * number) for number in range(4000)
)  # so much that a compressor recodes the digits
CANARIES = [
    Canary("nhs_number", NHS),
    Canary("date_of_birth", BIRTH),
    Canary("postcode", POSTCODE),
    Canary("local_patient_identifier", HOSPITAL_NUMBER),
]


def found_in(data: bytes | str) -> set[str]:
    """The kinds found in ``data`` by their listed values alone."""
    search = Sweep(CANARIES, predicates={})
    search.data(data, "here")
    return {hit.kind for hit in search.report().hits}


GUISES: list[tuple[str, bytes | str, str]] = [
    ("plain", f"x{NHS}y", "nhs_number"),
    ("in groups", "number 999 120 4563", "nhs_number"),
    ("with hyphens", "999-120-4563", "nhs_number"),
    ("with no-break spaces", "999\u00a0120\u00a04563", "nhs_number"),
    ("UTF-16LE", NHS.encode("utf-16-le"), "nhs_number"),
    ("UTF-16BE", b"\xfe\xff" + NHS.encode("utf-16-be"), "nhs_number"),
    ("hexadecimal", b"ab" + NHS.encode().hex().encode(), "nhs_number"),
    ("base64 at 0", base64.b64encode(f"{NHS},".encode()), "nhs_number"),
    ("base64 at 1", base64.b64encode(f"a{NHS}, and more".encode()), "nhs_number"),
    ("base64 at 2", base64.b64encode(f"ab{NHS}".encode()), "nhs_number"),
    ("base64 in groups", base64.b64encode(b"no 999 120 4563"), "nhs_number"),
    ("wrapped base64", base64.encodebytes(b"." * 50 + NHS.encode() + b"." * 50), "nhs_number"),
    ("reversed", NHS[::-1], "nhs_number"),
    ("JSON escapes", "".join(f"\\u{ord(c):04x}" for c in NHS), "nhs_number"),
    ("integer", struct.pack("<q", int(NHS)), "nhs_number"),
    ("big-endian integer", b"\1\2" + struct.pack(">q", int(NHS)), "nhs_number"),
    ("float", struct.pack("<d", float(NHS)), "nhs_number"),
    ("ISO date", BIRTH, "date_of_birth"),
    ("date and time", f"{BIRTH}T00:00:00", "date_of_birth"),
    ("day first, slashes", "04/03/1931", "date_of_birth"),
    ("day first, points", "04.03.1931", "date_of_birth"),
    ("day first, hyphens", "04-03-1931", "date_of_birth"),
    ("month first", "03/04/1931", "date_of_birth"),
    ("year first, slashes", "1931/03/04", "date_of_birth"),
    ("compact, day first", "|04031931|", "date_of_birth"),
    ("compact, year first", "|19310304|", "date_of_birth"),
    ("named month", "born 4 March 1931", "date_of_birth"),
    ("slashes escaped by JSON", r"04\/03\/1931", "date_of_birth"),
    ("percent-encoded", "dob=04%2F03%2F1931", "date_of_birth"),
    ("base64 of a day first date", base64.b64encode(b"?04/03/1931"), "date_of_birth"),
    ("reversed date", BIRTH[::-1], "date_of_birth"),
    ("postcode", "at ZZ99 4QX.", "postcode"),
    ("postcode without blank", "at ZZ994QX.", "postcode"),
    ("postcode in lower case", "zz99 4qx", "postcode"),
    ("percent-encoded postcode", "ZZ99%204QX", "postcode"),
    ("form-encoded postcode", "p=ZZ99+4QX&", "postcode"),
    ("hexadecimal postcode", b"ZZ99 4QX".hex().upper().encode(), "postcode"),
    ("hospital number", f"id={HOSPITAL_NUMBER};", "local_patient_identifier"),
    ("hospital number in lower case", f"({HOSPITAL_NUMBER.lower()})", "local_patient_identifier"),
]


@pytest.mark.parametrize(("_guise", "data", "kind"), GUISES, ids=[guise[0] for guise in GUISES])
def test_a_value_is_found_in_every_guise(_guise: str, data: bytes | str, kind: str) -> None:
    assert found_in(data) == {kind}


CHANCE = [
    "0.9991204563",
    "99912045630",
    "59991204563",
    "5119310304775",
    "a19310304f",
    "xZZ994QXy",
    "1931-03-05 04/03/1932",
    "9991204564",
    base64.b64encode(b"9991204564 is not one"),
    "",
]


@pytest.mark.parametrize("data", CHANCE)
def test_what_only_resembles_a_canary_is_no_hit(data: bytes | str) -> None:
    search = Sweep(CANARIES[1:])
    search.data(data, "here")
    assert search.report().hits == []


UNLISTED: list[bytes] = [
    OTHER_NHS.encode(),
    b"id.9994445553,",
    b"999 444 5553",
    b"999-444-5553",
    OTHER_NHS.encode("utf-16-le"),
    OTHER_NHS.encode("utf-16-be"),
    b"0a" + OTHER_NHS.encode().hex().encode(),
    *(base64.b64encode(b"x" * before + OTHER_NHS.encode() + b" tail") for before in range(6)),
]


@pytest.mark.parametrize("data", UNLISTED)
def test_a_number_of_the_test_range_is_found_without_being_listed(data: bytes) -> None:
    search = Sweep([])
    search.data(data, "here")
    (hit,) = search.report().hits
    assert (hit.kind, hit.digest) == ("nhs_number_999", digest(OTHER_NHS))


# where programs leave things ---------------------------------------------------------------------------


def _log(folder: Path) -> None:
    (folder / "run.log").write_text(f"2026-11-22 INFO row 17 has {NHS}\n")


def _traceback(folder: Path) -> None:
    try:
        int(f"{NHS} ")
        {}[NHS]  # type: ignore[index]
    except KeyError:
        (folder / "stderr.txt").write_text(traceback.format_exc())


def _spill(folder: Path) -> None:
    page = b"\x07\x00" * 500 + b"\x0a\x00\x00\x00" + NHS.encode() + b"\x00" * 300
    (folder / "duckdb_temp_storage_DEFAULT-0.tmp").write_bytes(page * 3)


def _compressed_spill(folder: Path) -> None:
    page = pa.Codec("zstd").compress(TEXT.encode() + NHS.encode() + TEXT.encode(), asbytes=True)
    assert NHS.encode() not in page
    (folder / "duckdb_temp_storage_S32K-0.tmp").write_bytes(b"\x05" * 64 + page + b"\x00" * 99 + page)


def _parquet(folder: Path) -> None:
    frame = pl.DataFrame({"a": [1, 2], "free": [TEXT, f"{TEXT} {NHS}"], "list": [[TEXT, NHS], []]})
    frame.write_parquet(folder / "part.parquet", compression="zstd", statistics=False)
    assert NHS.encode() not in (folder / "part.parquet").read_bytes(), "it must be opened to be found"


def _parquet_date(folder: Path) -> None:
    pl.DataFrame({"d": [date.fromisoformat(BIRTH)]}).write_parquet(folder / "d.parquet")


def _arrow(folder: Path) -> None:
    table = pa.table({"n": pa.array([NHS]).dictionary_encode()})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(folder / "t.arrow", table.schema, options=options) as writer:
        writer.write_table(table)


def _sqlite(folder: Path) -> None:
    """As Prefect's database: text, and a result that is compressed inside of a row, still in the WAL."""
    connection = sqlite3.connect(folder / "prefect.db")
    connection.execute("pragma journal_mode = wal")
    connection.execute("create table log (id integer primary key, message text, data blob)")
    connection.execute("insert into log (message) values (?)", ["x" * 9000 + NHS])
    connection.execute("insert into log (data) values (?)", [gzip.compress(POSTCODE.encode())])
    connection.commit()
    connection.close()


def _duckdb(folder: Path) -> None:
    with duckdb.connect(str(folder / "out.duckdb")) as connection:
        connection.execute("create table t as select lpad(i::varchar, 7, '0') as k from range(5000) s(i)")
        connection.execute("insert into t values (?)", [NHS])
        connection.execute("create table d as select date '1931-03-04' as born")


def _compressed(folder: Path) -> None:
    (folder / "a.gz").write_bytes(gzip.compress(NHS.encode() * 3))
    (folder / "b.bz2").write_bytes(bz2.compress(NHS.encode() * 3))
    (folder / "c.xz").write_bytes(lzma.compress(NHS.encode() * 3))
    (folder / "d.zst").write_bytes(pa.Codec("zstd").compress(NHS.encode() * 3, asbytes=True))


def _nested(folder: Path) -> None:
    inner = io.BytesIO()
    pl.DataFrame({"n": [NHS]}).write_parquet(inner)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("part.parquet")
        member.size = len(inner.getvalue())
        archive.addfile(member, io.BytesIO(inner.getvalue()))
    with zipfile.ZipFile(folder / "n.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("packed.tar.gz", gzip.compress(packed.getvalue()))


def _name(folder: Path) -> None:
    (folder / f"lpi={NHS}").mkdir()
    (folder / f"lpi={NHS}" / "part.txt").write_text("nothing")


def _link(folder: Path) -> None:
    (folder / "link").symlink_to(f"/tmp/{NHS}")


def _report(folder: Path) -> None:
    spec = base64.b64encode(json.dumps({"values": [{"n": NHS}]}).encode()).decode()
    (folder / "report.html").write_text(f"<img src='data:application/json;base64,{spec}'>")


PLACES: list[Callable[[Path], None]] = [
    _log,
    _traceback,
    _spill,
    _compressed_spill,
    _parquet,
    _parquet_date,
    _arrow,
    _sqlite,
    _duckdb,
    _compressed,
    _nested,
    _name,
    _link,
    _report,
]


@pytest.mark.parametrize("plant", PLACES, ids=[plant.__name__.strip("_") for plant in PLACES])
def test_a_canary_is_found_wherever_a_program_may_leave_it(
    tmp_path: Path, plant: Callable[[Path], None]
) -> None:
    plant(tmp_path)
    report = sweep([tmp_path], CANARIES)
    assert report.hits, "the planted value went unnoticed"
    assert report.unopened == []
    for text in (str(report), repr(report)):
        assert NHS not in text, "a report must not repeat the value"
        assert POSTCODE not in text


def test_each_compressed_file_and_each_column_is_found_for_itself(tmp_path: Path) -> None:
    _compressed(tmp_path)
    _duckdb(tmp_path)
    _sqlite(tmp_path)
    found = {
        (hit.where.removeprefix(tmp_path.name + "/"), hit.kind) for hit in sweep([tmp_path], CANARIES).hits
    }
    assert {
        ("a.gz!content", "nhs_number"),
        ("b.bz2!content", "nhs_number"),
        ("c.xz!content", "nhs_number"),
        ("d.zst!content", "nhs_number"),
        ("out.duckdb!t!k", "nhs_number"),
        ("out.duckdb!d!born", "date_of_birth"),
        ("prefect.db!log", "nhs_number"),
        ("prefect.db!log!value!content", "postcode"),
    } <= found


def test_a_clean_folder_has_no_hits(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text("2026-11-22 INFO 9991204564 rows of RXX, 0.9994445553, 04/03/2019\n")
    pl.DataFrame({"a": ["x", None], "d": [date(2020, 1, 1), None]}).write_parquet(tmp_path / "a.parquet")
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute("create table t as select 1 as a")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "nothing")
    (tmp_path / "empty").touch()
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)) * 4000)
    report = sweep([tmp_path], CANARIES)
    assert (report.hits, report.unopened, report.files) == ([], [], 6)


def test_what_cannot_be_opened_is_listed_and_its_bytes_are_searched_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1" + NHS.encode() + b"PAR1")
    (tmp_path / "broken.gz").write_bytes(gzip.compress(f"{NHS} {TEXT}".encode())[:-300])
    (tmp_path / "broken.duckdb").write_bytes(b"12345678DUCK" + NHS.encode())
    report = sweep([tmp_path], CANARIES)
    assert len(report.unopened) == 3
    assert {hit.where.split("/")[-1] for hit in report.hits} == {
        "broken.parquet",
        "broken.gz!content",
        "broken.duckdb",
    }


def test_a_value_across_two_pieces_of_a_large_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "CHUNK_BYTES", 1000)
    for start in range(985, 1003):
        (tmp_path / "large").write_bytes(b"." * start + NHS.encode() + b"." * 2500)
        (hit, other) = sweep([tmp_path / "large"], CANARIES).hits
        assert hit.offset == start
        assert other.kind == "nhs_number_999"


def test_a_compressed_frame_longer_than_a_piece_is_opened_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "CHUNK_BYTES", 1000)
    frame = pa.Codec("zstd").compress(f"{TEXT}{NHS}{TEXT}".encode(), asbytes=True)
    assert len(frame) > 4000
    (tmp_path / "spill.tmp").write_bytes(b"." * 900 + frame + b"." * 900)
    found = {hit.where.split("/")[-1] for hit in sweep([tmp_path / "spill.tmp"], CANARIES).hits}
    assert found == {"spill.tmp!frame"}


def test_a_canary_that_would_be_found_everywhere_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than six"):
        Sweep([Canary("age", "42")])


def test_the_command_line_says_where_and_not_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "canaries.csv").write_text(f"kind,value\nnhs_number,{NHS}\n")
    clean, dirty = tmp_path / "clean", tmp_path / "dirty"
    clean.mkdir()
    dirty.mkdir()
    _log(dirty)
    assert main(["--canaries", str(tmp_path / "canaries.csv"), str(clean)]) == 0
    assert main(["--canaries", str(tmp_path / "canaries.csv"), str(dirty)]) == 1
    printed = capsys.readouterr().out
    assert "dirty/run.log: nhs_number as text" in printed
    assert NHS not in printed
    assert main([]) == 2
