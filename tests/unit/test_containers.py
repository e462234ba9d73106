"""Containers: whatever a delivery is wrapped in, the same plaintext comes out as a stream, or a refusal."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.containers import Control, Kind, Limits, open_deliveries, parse_control, sniff
from infra.sealing import new_identity
from schemas.errors import CannotOpen, DamagedContent, DeliveryRefused, UnsafeArchive

CANARY = "9990000018"
TEXT = f"EPIKEY|NEWNHSNO\n1|{CANARY}\n".encode() + b"2|\n" * 3000
NAME = "NIC000001_HES_APC_201999.txt"
SECRET, PUBLIC = new_identity()


@pytest.fixture(scope="module")
def openpgp() -> tuple[bytes, object]:
    """A secret key and the certificate that senders seal to."""
    import pysequoia

    key = pysequoia.Tsk.generate("inbox <inbox@example.org>")
    return bytes(key), key.extract_certificate()


def age(content: bytes, *, armored: bool = False) -> bytes:
    return bytes(pyrage.encrypt(content, [pyrage.x25519.Recipient.from_str(PUBLIC)], armored=armored))


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about duplicate names, which is the point
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, content in members:
                archive.writestr(name, content)
    return buffer.getvalue()


class Unseekable(io.RawIOBase):
    """Makes the zip writer put the sizes behind the content, as a sender's stream does."""

    def __init__(self) -> None:
        self.content = b""

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        piece = bytes(content)  # type: ignore[call-overload]
        self.content += piece
        return len(piece)


def zipped_as_a_stream(name: str, content: bytes) -> bytes:
    sink = Unseekable()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return sink.content


def contents(
    path: Path, limits: Limits | None = None, keys: tuple[bytes, ...] = (), piece: int = 1000
) -> list[tuple[str, bytes]]:
    """All members with their plaintext, read in small pieces."""
    found = []
    for member in open_deliveries(path, [SECRET], keys, limits):
        pieces = []
        while block := member.stream.read(piece):
            pieces.append(block)
        found.append((member.name, b"".join(pieces)))
    return found


def put(folder: Path, content: bytes, name: str = NAME) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refusal(path: Path, kind: type[DeliveryRefused], limits: Limits | None = None) -> str:
    """The message of the refusal, which must hold nothing of the file and nothing of another library."""
    with pytest.raises(kind) as caught:
        contents(path, limits)
    assert type(caught.value) is kind, f"expected {kind.__name__}, not {type(caught.value).__name__}"
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value.message


# what comes out


WRAPPINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda content: content,
    "gzip": gzip.compress,
    "two gzip members in a row": lambda content: gzip.compress(content[:50]) + gzip.compress(content[50:]),
    "zip": lambda content: zipped((NAME, content)),
    "zip, stored": lambda content: zipped((NAME, content), method=zipfile.ZIP_STORED),
    "zip written as a stream": lambda content: zipped_as_a_stream(NAME, content),
    "age": age,
    "age as text": lambda content: age(content, armored=True),
    "gzip in age": lambda content: age(gzip.compress(content)),
    "zip in age": lambda content: age(zipped((NAME, content))),
    "zip in age as text": lambda content: age(zipped((NAME, content)), armored=True),
}


@pytest.mark.parametrize("name", [NAME, "misleading.zip", "no_extension"])
@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_the_content_is_recognised_by_its_bytes_whatever_it_is_called(
    wrap: Callable[[bytes], bytes], name: str, tmp_path: Path
) -> None:
    for piece in (1, 1000, 1 << 20):
        text = TEXT[:200] if piece == 1 else TEXT
        (found,) = contents(put(tmp_path, wrap(text), name), piece=piece)
        assert found[1] == text


def test_suffixes_of_encryption_and_compression_do_not_belong_to_the_name(tmp_path: Path) -> None:
    assert contents(put(tmp_path, age(TEXT), "A_201999.txt.age"))[0][0] == "A_201999.txt"
    assert contents(put(tmp_path, age(gzip.compress(TEXT)), "A_201999.txt.gz.AGE"))[0][0] == "A_201999.txt"
    assert contents(put(tmp_path, age(zipped(("inner.txt", TEXT))), "A.zip.age"))[0][0] == "inner.txt"


@pytest.mark.parametrize("armored", [True, False])
@pytest.mark.parametrize(
    "wrap", [bytes, gzip.compress, lambda content: zipped((NAME, content))], ids=["plain", "gzip", "zip"]
)
def test_an_openpgp_message_is_opened(
    wrap: Callable[[bytes], bytes], armored: bool, tmp_path: Path, openpgp: tuple[bytes, object]
) -> None:
    import pysequoia

    key, certificate = openpgp
    path = put(tmp_path, pysequoia.encrypt(wrap(TEXT), recipients=[certificate], armor=armored), "A.txt.pgp")
    assert [content for _, content in contents(path, keys=(b"not a key", key))] == [TEXT]


def test_a_changed_or_cut_openpgp_message_does_not_open(
    tmp_path: Path, openpgp: tuple[bytes, object]
) -> None:
    import pysequoia

    key, certificate = openpgp
    message = bytearray(pysequoia.encrypt(TEXT, recipients=[certificate], armor=False))
    message[-30] ^= 1
    for number, content in enumerate((bytes(message), bytes(message[:-40]), bytes(message[:40]))):
        with pytest.raises(CannotOpen) as caught:
            contents(put(tmp_path, content, f"{number}.gpg"), keys=(key,))
        assert CANARY not in str(caught.value)
    other = bytes(pysequoia.Tsk.generate("other <other@example.org>"))
    for keys in ((other,), ()):
        with pytest.raises(CannotOpen):
            contents(tmp_path / "0.gpg", keys=keys)


def test_an_archive_gives_its_files_in_order_and_skips_folders(tmp_path: Path) -> None:
    archive = zipped(("2019/", b""), ("2019/a.txt", b"A|B\n1|2\n"), ("b.txt", b"A|B\n3|4\n"))
    for content in (archive, age(archive)):
        members = []
        for member in open_deliveries(put(tmp_path, content), [SECRET]):
            members.append((member.name, member.number, member.count, member.stream.read(100)))
        assert members == [("a.txt", 1, 2, b"A|B\n1|2\n"), ("b.txt", 2, 2, b"A|B\n3|4\n")]


def test_a_control_file_in_the_archive_goes_with_its_data_file(tmp_path: Path) -> None:
    archive = zipped(
        ("a.txt", b"A|B\n1|2\n"), ("b.txt", b"A|B\n"), ("a.ctl", b"# ours\r\nrecords = 1\r\nbytes=8\r\n")
    )
    for content in (archive, age(archive)):
        found = [
            (member.name, member.control)
            for member in open_deliveries(put(tmp_path, content), [SECRET])
            if member.stream.read(100)
        ]
        assert found == [("a.txt", Control(records=1, bytes=8)), ("b.txt", None)]


def test_no_plaintext_is_written_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every descriptor that is opened for writing while members are read would show here."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for variable in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(variable, str(scratch))
    path = put(tmp_path, age(zipped((NAME, TEXT))))
    opened: list[int] = []
    real = os.open

    def watching(*args: object, **kwargs: object) -> int:
        opened.append(args[1])  # type: ignore[arg-type]
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", watching)
    assert contents(path)[0][1] == TEXT
    assert opened, "the delivery itself was opened"
    assert not any(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) for flags in opened)
    assert list(scratch.iterdir()) == []


def test_stopping_early_closes_everything(tmp_path: Path, openpgp: tuple[bytes, object]) -> None:
    import pysequoia

    key, certificate = openpgp
    before = len(os.listdir("/proc/self/fd"))
    for content in (age(TEXT), age(zipped((NAME, TEXT))), pysequoia.encrypt(TEXT, recipients=[certificate])):
        iterator: Iterator[object] = open_deliveries(put(tmp_path, bytes(content)), [SECRET], [key])
        next(iterator)
        iterator.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor or a child stayed open"


# changed and cut content


@pytest.mark.parametrize(
    "name", [name for name in WRAPPINGS if name != "plain"], ids=lambda name: name.replace(" ", "_")
)
def test_content_that_was_cut_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    whole = WRAPPINGS[name](TEXT[:2000])
    step = max(1, len(whole) // 40)
    for length in [*range(len(whole) - 1, 30, -step), len(whole) - 2]:
        if name.endswith("as text") and length >= len(whole) - 1:
            continue  # only the line end behind the last marker is missing
        cut = put(tmp_path, whole[:length])
        if sniff(whole[:length]) is Kind.PLAIN or name == "two gzip members in a row":
            continue
        with pytest.raises(DeliveryRefused) as caught:
            contents(cut)
        assert isinstance(caught.value, (CannotOpen, UnsafeArchive)), f"cut to {length} of {len(whole)}"
        assert CANARY not in str(caught.value)


@pytest.mark.parametrize("name", ["age", "age as text", "gzip in age", "zip in age", "zip in age as text"])
def test_one_changed_bit_anywhere_in_a_sealed_file_is_refused(name: str, tmp_path: Path) -> None:
    whole = WRAPPINGS[name](TEXT[:2000])
    for position in range(40, len(whole) - 34, max(1, len(whole) // 60)):
        changed = bytearray(whole)
        changed[position] ^= 0x01
        with pytest.raises(CannotOpen):
            contents(put(tmp_path, bytes(changed)))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_changed_archive_gives_its_content_or_a_typed_refusal(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A zip or gzip without encryption has checksums only; no change of it may give an untyped error."""
    wrapping = data.draw(st.sampled_from(["gzip", "zip", "zip, stored", "zip written as a stream"]))
    changed = bytearray(WRAPPINGS[wrapping](TEXT[:500]))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(2, len(changed) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("changed")
    refused = ""
    found: list[tuple[str, bytes]] = []
    try:
        found = contents(put(folder, bytes(changed)))
    except DeliveryRefused as error:
        refused = str(error)
    assert CANARY not in refused
    if refused:
        return
    if wrapping == "gzip" or sniff(bytes(changed)) is Kind.ZIP:
        assert [content for _, content in found] in ([TEXT[:500]], [bytes(changed)])


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    other, _ = new_identity()
    path = put(tmp_path, age(TEXT))
    with pytest.raises(CannotOpen):
        list(open_deliveries(path, [other]))


def test_what_the_caller_did_not_read_is_verified_before_the_next_member(tmp_path: Path) -> None:
    whole = age(TEXT * 100)
    iterator = open_deliveries(put(tmp_path, whole[:-1]), [SECRET])
    next(iterator).stream.read(10)
    with pytest.raises(CannotOpen):
        next(iterator)


def test_something_behind_a_gzip_is_refused_and_padding_is_not(tmp_path: Path) -> None:
    refusal(put(tmp_path, gzip.compress(TEXT) + b"more"), DamagedContent)
    assert contents(put(tmp_path, gzip.compress(TEXT) + b"\0" * 600_000))[0][1] == TEXT


# archives that are refused


def with_attributes(external: int, system: int = 3) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("a.txt")
        info.create_system, info.external_attr = system, external
        archive.writestr(info, b"/etc/passwd")
    return buffer.getvalue()


def patched(content: bytes, find: bytes, replace: bytes, count: int = -1) -> bytes:
    assert find in content, "the archive does not hold what should be changed"
    return content.replace(find, replace, count)


def with_flag(flag: int, method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive that sets a flag, and a method, in the member's header and in the list alike."""
    content = bytearray(zipped(("a.txt", b"A|B\n"), method=zipfile.ZIP_STORED))
    local, listed = content.index(b"PK\x03\x04"), content.index(b"PK\x01\x02")
    struct.pack_into("<HH", content, local + 6, flag, method)
    struct.pack_into("<HH", content, listed + 8, flag, method)
    return bytes(content)


def lying(field: int, value: int) -> bytes:
    """A deflated member whose listed checksum (16), packed size (20) or size (24) is something else."""
    content = bytearray(zipped(("a.txt", TEXT)))
    listed = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, listed + field, value)
    local_field = {16: 14, 20: 18, 24: 22}[field]
    struct.pack_into("<I", content, content.index(b"PK\x03\x04") + local_field, value)
    return bytes(content)


def overlapping() -> bytes:
    """Two entries of the list that point to the same content: the way to make a bomb without packing well."""
    content = zipped(("a.txt", TEXT), ("b.txt", TEXT))
    second = content.rindex(b"PK\x01\x02")
    changed = bytearray(content)
    struct.pack_into("<I", changed, second + 42, 0)
    return bytes(changed)


UNSAFE = {
    "a name that goes up": zipped(("../a.txt", TEXT)),
    "a name that goes up inside": zipped(("x/../../a.txt", TEXT)),
    "an absolute name": zipped(("/etc/a.txt", TEXT)),
    "a drive letter": zipped(("C:a.txt", TEXT)),
    "backslashes": patched(zipped(("..|a.txt", TEXT)), b"..|a.txt", b"..\\a.txt"),
    "a doubled slash": zipped(("x//a.txt", TEXT)),
    "a NUL in the name": patched(zipped(("a_txt.exe", TEXT)), b"a_txt.exe", b"a\0txt.exe"),
    "a line end in the name": zipped((f"a\n{CANARY}.txt", TEXT)),
    "a name too long": zipped(("x" * 300, TEXT)),
    "a symbolic link": with_attributes((stat.S_IFLNK | 0o777) << 16),
    "a symbolic link made elsewhere": with_attributes((stat.S_IFLNK | 0o777) << 16, system=0),
    "a device": with_attributes((stat.S_IFCHR | 0o666) << 16),
    "a pipe": with_attributes((stat.S_IFIFO | 0o666) << 16),
    "a Windows link": with_attributes(0x0400, system=0),
    "the same name twice": zipped(("a.txt", TEXT), ("a.txt", TEXT)),
    "the same name in other letters": zipped(("a.txt", TEXT), ("A.TXT", TEXT)),
    "the same name in two folders": zipped(("x/a.txt", TEXT), ("y/a.txt", TEXT)),
    "an encrypted member": with_flag(0x0001),
    "a strongly encrypted member": with_flag(0x0041),
    "bzip2 inside": with_flag(0, zipfile.ZIP_BZIP2),
    "deflate64 inside": with_flag(0, 9),
    "no member": zipped(),
    "folders only": zipped(("x/", b"")),
    "a control file only": zipped(("a.ctl", b"records=1\n")),
    "a zip in a zip": zipped(("a.zip", zipped((NAME, TEXT)))),
    "a gzip in a zip": zipped(("a.txt", gzip.compress(TEXT))),
    "an age file in a zip": zipped(("a.txt", age(TEXT))),
    "a longer content than stated": lying(24, 10),
    "a shorter content than stated": lying(24, len(TEXT) + 1),
    "a packed size beyond the archive": lying(20, 1 << 24),
    "overlapping members": overlapping(),
}


@pytest.mark.parametrize("sealed", [False, True], ids=["bare", "in age"])
@pytest.mark.parametrize("archive", UNSAFE.values(), ids=UNSAFE.keys())
def test_an_unsafe_archive_is_refused(archive: bytes, sealed: bool, tmp_path: Path) -> None:
    refusal(put(tmp_path, age(archive) if sealed else archive), UnsafeArchive)


NESTED = {
    "a zip in a gzip": gzip.compress(zipped((NAME, TEXT))),
    "a gzip in a gzip": gzip.compress(gzip.compress(TEXT)),
    "age in age": age(age(TEXT)),
    "age in a gzip": gzip.compress(age(TEXT)),
    "a tar": b"\0" * 257 + b"ustar\0" + b"\0" * 300,
    "a tar in a gzip": gzip.compress(b"\0" * 257 + b"ustar\0" + b"\0" * 300),
    "a 7z": b"7z\xbc\xaf\x27\x1c" + b"\0" * 100,
    "an xz": b"\xfd7zXZ\x00" + b"\0" * 100,
    "a Parquet file": b"PAR1" + b"\0" * 100,
}


@pytest.mark.parametrize("content", NESTED.values(), ids=NESTED.keys())
def test_nested_and_other_formats_are_refused(content: bytes, tmp_path: Path) -> None:
    refusal(put(tmp_path, content), UnsafeArchive)


def test_a_wrong_checksum_does_not_open(tmp_path: Path) -> None:
    refusal(put(tmp_path, lying(16, zlib.crc32(b"something else"))), DamagedContent)


def test_a_list_of_members_that_contradicts_a_member_is_refused(tmp_path: Path) -> None:
    """Another reader would go by the member's own header and see another file."""
    archive = patched(zipped(("a.txt", TEXT)), b"a.txt", b"b.txt", 1)
    refusal(put(tmp_path, archive), UnsafeArchive)


def test_more_members_than_allowed_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path, zipped(*((f"{number}.txt", TEXT[:50]) for number in range(4))))
    assert len(contents(path, Limits(max_members=4))) == 4
    assert "4 members" in refusal(path, UnsafeArchive, Limits(max_members=3))


def test_a_list_of_members_that_fills_the_memory_is_refused(tmp_path: Path) -> None:
    archive = zipped(*((f"{number:0200}.txt", b"A|B\n") for number in range(40)))
    for content in (archive, age(archive)):
        refusal(put(tmp_path, content), UnsafeArchive, Limits(max_directory_bytes=2000))


@pytest.mark.parametrize(
    "wrap",
    [gzip.compress, lambda c: age(gzip.compress(c)), lambda c: zipped(("a.txt", c))],
    ids=["gzip", "gzip in age", "zip"],
)
def test_a_compression_bomb_is_refused_before_it_is_unpacked(
    wrap: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = put(tmp_path, wrap(b"0" * 4_000_000))
    assert contents(path, Limits(ratio_from=5_000_000), piece=1 << 20)[0][1] == b"0" * 4_000_000
    read = []

    def read_all() -> None:
        for member in open_deliveries(path, [SECRET], limits=Limits(ratio_from=100_000)):
            while block := member.stream.read(1000):
                read.append(len(block))

    with pytest.raises(UnsafeArchive, match="200 times"):
        read_all()
    assert sum(read) < 2_200_000, "it was noticed long after the limit"


def test_a_compression_bomb_inside_an_openpgp_message_is_refused(
    tmp_path: Path, openpgp: tuple[bytes, object]
) -> None:
    import pysequoia

    message = pysequoia.encrypt(b"A|B\n" + b"0|0\n" * 100_000, recipients=[openpgp[1]], armor=False)
    with pytest.raises(UnsafeArchive):
        contents(
            put(tmp_path, message), Limits(max_ratio=1, ratio_from=1000, max_total_bytes=1000), (openpgp[0],)
        )


def test_the_total_of_all_members_is_limited(tmp_path: Path) -> None:
    path = put(tmp_path, zipped(("a.txt", TEXT), ("b.txt", TEXT)))
    assert len(contents(path, Limits(max_total_bytes=2 * len(TEXT)))) == 2
    refusal(path, UnsafeArchive, Limits(max_total_bytes=2 * len(TEXT) - 1))


EMPTY = {"plain": b"", "gzip": gzip.compress(b""), "zip": zipped(("a.txt", b"")), "age": age(b"")}


@pytest.mark.parametrize("content", EMPTY.values(), ids=EMPTY.keys())
def test_an_empty_file_is_refused_whatever_it_is_wrapped_in(content: bytes, tmp_path: Path) -> None:
    assert "empty" in refusal(put(tmp_path, content), DeliveryRefused)


def test_only_ordinary_files_are_opened(tmp_path: Path) -> None:
    target = put(tmp_path, TEXT)
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(target)
    os.mkfifo(pipe)
    for path in (link, pipe, tmp_path / "missing"):
        refusal(path, DeliveryRefused)


# control files


def test_a_control_file_states_records_bytes_or_both() -> None:
    assert parse_control(b"records=3\nbytes=40\n") == Control(3, 40)
    assert parse_control(b"\xef\xbb\xbf# by hand\r\n\r\n bytes = 40 \r\n") == Control(None, 40)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nothing\n",
        b"records=1\nrecords=1\n",
        f"patient={CANARY}\n".encode(),
        b"records=-1\n",
        b"records=1e3\n",
        b"records=\xb2\n",
        b"records=\xc2\xb2\n",
        b"records=1\n" + b"#" * 5000,
    ],
)
def test_any_other_control_file_is_refused(content: bytes) -> None:
    with pytest.raises(DeliveryRefused) as caught:
        parse_control(content)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "members",
    [
        (("a.txt", TEXT), ("a.ctl", b"bytes=1\n")),
        (("a.txt", TEXT), ("other.ctl", b"records=1\n")),
        (("a.txt", TEXT), ("a.ctl", b"records=1\n"), ("a.txt.ctl", b"records=1\n")),
        (("a.txt", TEXT), ("a.csv", TEXT), ("a.ctl", b"records=1\n")),
        (("a.txt", TEXT), ("a.ctl", b"#" * 5000)),
    ],
    ids=["another size", "fits nothing", "two for one", "one for two", "too long"],
)
def test_a_control_file_that_does_not_fit_its_data_refuses_the_archive(
    members: tuple[tuple[str, bytes], ...], tmp_path: Path
) -> None:
    refusal(put(tmp_path, zipped(*members)), DeliveryRefused)


# telling kinds apart


def test_the_kind_is_told_from_the_first_bytes(openpgp: tuple[bytes, object]) -> None:
    import pysequoia

    for content, kind in (
        (TEXT, Kind.PLAIN),
        (b"", Kind.PLAIN),
        (b"\xc1", Kind.PLAIN),
        (b"\xc3\x89PIKEY|SEX\n", Kind.PLAIN),  # a header that starts with a letter beyond ASCII
        (age(TEXT), Kind.AGE),
        (age(TEXT, armored=True), Kind.AGE_ARMORED),
        (zipped((NAME, TEXT)), Kind.ZIP),
        (zipped(), Kind.ZIP),
        (gzip.compress(TEXT), Kind.GZIP),
        (pysequoia.encrypt(TEXT, recipients=[openpgp[1]], armor=False), Kind.OPENPGP),
        (pysequoia.encrypt(TEXT, passwords=["a long enough one"], armor=False), Kind.OPENPGP),
        (pysequoia.encrypt(TEXT, recipients=[openpgp[1]]), Kind.OPENPGP),
        (bytes.fromhex("845e0308e5e22e1e"), Kind.OPENPGP),  # as GnuPG writes it, in the old packet format
        (bytes.fromhex("ca03504750") + b"\0" * 9, Kind.OPENPGP),  # a marker packet
    ):
        assert sniff(content) is kind, f"{kind}"
