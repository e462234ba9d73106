"""Sealing: what age promises, as a stream and in one piece, under damage and whatever its caller does."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import subprocess
import sys
import threading
import tracemalloc
from typing import BinaryIO

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.sealing import (
    DecryptingReader,
    EncryptingWriter,
    SecretBytes,
    SecretText,
    decrypting_reader,
    encrypting_writer,
    new_identity,
    seal,
    unseal,
)
from schemas.errors import (
    CannotOpen,
    KeyUnavailable,
    StorageFailed,
    StorageFull,
    UnsafeArchive,
    WardwatchError,
)

CHUNK = 64 * 1024  # of plaintext, in the age format
SEALED_CHUNK = CHUNK + 16

SECRET, PUBLIC = new_identity()
OTHER_SECRET, OTHER_PUBLIC = new_identity()
CANARY = b"9990000018"

# How far a source is read ahead of a reader that reads nothing: the pipe and the buffers, not the file.
READ_AHEAD = 32 * SEALED_CHUNK

# Empty, around one chunk of the format, around one step of ours (four chunks), and more than the pipe holds.
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK - 1, 4 * CHUNK, 4 * CHUNK + 1, 40 * CHUNK + 1]


def content_of(size: int) -> bytes:
    block = CANARY + hashlib.sha256(str(size).encode()).digest()
    return (block * (size // len(block) + 1))[:size]


def sealed_stream(content: bytes, recipients: str | list[str] = PUBLIC, step: int = 10_000) -> bytes:
    sink = io.BytesIO()
    with encrypting_writer(sink, recipients) as writer:
        for start in range(0, len(content), step):
            writer.write(content[start : start + step])
    return sink.getvalue()


def fail(after: object) -> None:
    """The consumer's own mistake, after it did something with the stream."""
    raise ZeroDivisionError


def opened_stream(sealed: bytes, identities: str | list[str] = SECRET) -> bytes:
    with decrypting_reader(io.BytesIO(sealed), identities) as reader:
        return reader.read()


# In one piece and as a stream ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_what_the_stream_seals_opens_in_one_piece(size: int) -> None:
    content = content_of(size)
    assert unseal(sealed_stream(content), SECRET) == content


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_in_one_piece_the_stream_opens(size: int) -> None:
    content = content_of(size)
    assert opened_stream(seal(content, PUBLIC)) == content


@pytest.mark.parametrize("size", [0, 1000, 40 * CHUNK])
def test_an_armored_file_opens_like_a_binary_one(size: int) -> None:
    content = content_of(size)
    armored = pyrage.encrypt(content, [pyrage.x25519.Recipient.from_str(PUBLIC)], armored=True)
    assert opened_stream(armored) == unseal(armored, SECRET) == content
    assert not outcome(armored[: len(armored) // 2])[1], "half an armored file was taken for whole"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    size=st.integers(0, 3 * CHUNK),
    writes=st.lists(st.integers(1, CHUNK + 5000), min_size=1, max_size=6),
    reads=st.lists(st.integers(1, 2 * CHUNK), min_size=1, max_size=6),
)
def test_how_it_is_cut_into_writes_and_reads_makes_no_difference(
    size: int, writes: list[int], reads: list[int]
) -> None:
    content = content_of(size)
    sink = io.BytesIO()
    with encrypting_writer(sink, PUBLIC) as writer:
        position = turn = 0
        while position < size:
            step = writes[turn % len(writes)]
            writer.write(content[position : position + step])
            position, turn = position + step, turn + 1
    pieces = []
    with decrypting_reader(io.BytesIO(sink.getvalue()), SECRET) as reader:
        turn = 0
        while piece := reader.read(reads[turn % len(reads)]):
            pieces.append(piece)
            turn += 1
    assert b"".join(pieces) == content


def test_a_reused_buffer_receives_the_same_bytes() -> None:
    content = content_of(5 * CHUNK + 123)
    buffer = memoryview(bytearray(2 * CHUNK + 7))
    received = bytearray()
    with decrypting_reader(io.BytesIO(sealed_stream(content)), SECRET) as reader:
        while size := reader.readinto(buffer):
            received += buffer[:size]
        assert reader.ended_well
    assert bytes(received) == content


def test_the_reader_serves_the_standard_library_s_wrappers() -> None:
    text = "a|b\n1|2\n" * 30_000
    with decrypting_reader(io.BytesIO(sealed_stream(text.encode())), SECRET) as reader:
        lines = list(io.TextIOWrapper(io.BufferedReader(reader), encoding="utf-8"))
    assert "".join(lines) == text


class OneByteAtATime(io.RawIOBase):
    """A source as slow as a pipe can be."""

    def __init__(self, content: bytes) -> None:
        self.stream = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        piece = self.stream.read(1)
        buffer[: len(piece)] = piece
        return len(piece)


def test_a_source_that_returns_less_than_asked_for_is_read_to_its_end() -> None:
    content = content_of(3000)
    source: BinaryIO = OneByteAtATime(sealed_stream(content))  # type: ignore[assignment]
    with decrypting_reader(source, SECRET) as reader:
        assert reader.read() == content


class ReadOnly:
    """A source that knows ``read`` alone, as a response body does."""

    def __init__(self, content: bytes) -> None:
        self.stream = io.BytesIO(content)

    def read(self, size: int) -> bytes:
        return self.stream.read(min(size, 1000))


def test_a_source_that_knows_read_alone_will_do() -> None:
    content = content_of(3 * CHUNK)
    source: BinaryIO = ReadOnly(sealed_stream(content))  # type: ignore[assignment]
    with decrypting_reader(source, SECRET) as reader:
        assert reader.read() == content


def test_each_of_several_recipients_opens_and_an_old_identity_in_a_list_does() -> None:
    sealed = sealed_stream(b"both", [PUBLIC, OTHER_PUBLIC])
    assert opened_stream(sealed, SECRET) == opened_stream(sealed, OTHER_SECRET) == b"both"
    assert opened_stream(sealed_stream(b"old"), [OTHER_SECRET, SECRET]) == b"old"
    small = seal(b"both", [PUBLIC, OTHER_PUBLIC])
    assert unseal(small, SECRET) == unseal(small, [OTHER_SECRET]) == b"both"


def test_a_recipient_of_another_kind_beside_ours_does_no_harm() -> None:
    ssh = pyrage.ssh.Recipient.from_str(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN fixture"
    )
    sealed = pyrage.encrypt(b"mixed", [ssh, pyrage.x25519.Recipient.from_str(PUBLIC)])
    assert opened_stream(sealed) == b"mixed"


def test_the_same_content_never_seals_to_the_same_bytes() -> None:
    assert sealed_stream(b"x" * 1000)[-1016:] != sealed_stream(b"x" * 1000)[-1016:]


def stream_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "age stream"]


# Damage ----------------------------------------------------------------------------------------------------


def header_length(sealed: bytes) -> int:
    return sealed.index(b"\n", sealed.index(b"\n---") + 1) + 1


def outcome(sealed: bytes) -> tuple[bytes, bool]:
    """What a careful consumer received, and whether it was told that this was all."""
    received = bytearray()
    try:
        with decrypting_reader(io.BytesIO(sealed), SECRET) as reader:
            while piece := reader.read(CHUNK):
                received += piece
        return bytes(received), True
    except CannotOpen:
        return bytes(received), False


def test_a_file_cut_anywhere_is_never_taken_for_a_whole_one() -> None:
    content = content_of(2 * CHUNK + 100)
    sealed = sealed_stream(content)
    start = header_length(sealed) + 16
    borders = [
        0,
        1,
        start - 17,
        start - 16,
        start,
        start + SEALED_CHUNK,
        start + 2 * SEALED_CHUNK,
        len(sealed),
    ]
    cuts = {border + by for border in borders for by in (-17, -16, -1, 0, 1, 15, 16)} | set(range(start))
    for cut in sorted(cuts):
        if 0 <= cut < len(sealed):
            received, whole = outcome(sealed[:cut])
            assert not whole, f"cut at byte {cut} of {len(sealed)}: taken for whole"
            assert content.startswith(received), f"cut at byte {cut}: received what was never sealed"


def test_a_changed_bit_in_any_region_is_refused() -> None:
    content = content_of(CHUNK + 1000)
    sealed = sealed_stream(content)
    start = header_length(sealed) + 16
    positions = [
        *range(start),
        start + 5,
        start + CHUNK + 3,
        start + SEALED_CHUNK,
        len(sealed) - 20,
        len(sealed) - 1,
    ]
    for position in positions:
        for bit in (0, 7):
            changed = bytearray(sealed)
            changed[position] ^= 1 << bit
            received, whole = outcome(bytes(changed))
            assert not whole, f"bit {bit} of byte {position} was changed unnoticed"
            assert content.startswith(received)


def test_chunks_swapped_dropped_repeated_or_added_are_refused() -> None:
    content = os.urandom(3 * CHUNK)
    sealed = sealed_stream(content)
    start = header_length(sealed) + 16
    head = sealed[:start]
    one, two, three = (sealed[start + i * SEALED_CHUNK : start + (i + 1) * SEALED_CHUNK] for i in range(3))
    assert outcome(head + one + two + three) == (content, True)
    for name, payload in {
        "swapped": two + one + three,
        "dropped in the middle": one + three,
        "dropped at the end": one + two,
        "repeated": one + one + two + three,
        "repeated at the end": one + two + three + three,
        "followed by bytes": one + two + three + b"x",
        "without any": b"",
    }.items():
        _, whole = outcome(head + payload)
        assert not whole, f"chunks {name}: taken for whole"


def test_no_plaintext_of_a_refused_chunk_reaches_the_consumer_s_buffer() -> None:
    sealed = bytearray(sealed_stream(CANARY * 2000))
    sealed[-1] ^= 1
    buffer = bytearray(CHUNK)
    with pytest.raises(CannotOpen), decrypting_reader(io.BytesIO(bytes(sealed)), SECRET) as reader:
        reader.readinto(buffer)
    assert CANARY not in buffer, "the buffer holds plaintext that was never authenticated"


def test_the_end_of_a_damaged_stream_is_an_error_however_often_it_is_read() -> None:
    sealed = sealed_stream(content_of(2 * CHUNK))[:-1]
    with decrypting_reader(io.BytesIO(sealed), SECRET) as reader:
        assert reader.read(CHUNK) == content_of(2 * CHUNK)[:CHUNK], "the first chunk is whole"
        for _ in range(3):
            with pytest.raises(CannotOpen):
                reader.read(CHUNK)
        reader.abandon()
    assert not reader.ended_well


def test_leaving_early_still_finds_the_cut_at_the_end() -> None:
    sealed = sealed_stream(content_of(40 * CHUNK))
    with decrypting_reader(io.BytesIO(sealed), SECRET) as reader:
        reader.read(10)
    with pytest.raises(CannotOpen), decrypting_reader(io.BytesIO(sealed[:-5]), SECRET) as reader:
        reader.read(10)


def test_a_look_at_the_beginning_is_said_to_be_one_and_reads_no_further() -> None:
    source = io.BytesIO(sealed_stream(content_of(100 * CHUNK))[:-5])
    with decrypting_reader(source, SECRET) as reader:
        assert reader.read(10) == content_of(100 * CHUNK)[:10]
        reader.abandon()
    assert source.tell() < READ_AHEAD
    assert not reader.ended_well


def test_the_consumer_s_own_exception_comes_through_at_once_and_leaves_no_thread() -> None:
    source = io.BytesIO(sealed_stream(content_of(100 * CHUNK)))
    with pytest.raises(ZeroDivisionError), decrypting_reader(source, SECRET) as reader:
        fail(reader.read(10))
    assert not stream_threads()
    assert source.tell() < READ_AHEAD


def test_a_failed_writer_leaves_a_stream_that_nobody_opens() -> None:
    for size in (0, 10, CHUNK, 3 * CHUNK, 40 * CHUNK):
        sink = io.BytesIO()
        with pytest.raises(ZeroDivisionError), encrypting_writer(sink, PUBLIC) as writer:
            fail(writer.write(content_of(size)))
        assert not stream_threads()
        assert not outcome(sink.getvalue())[1], f"{size} bytes: an unfinished stream was taken for whole"
        with pytest.raises(CannotOpen):
            unseal(sink.getvalue(), SECRET)


def test_a_finished_stream_takes_no_more() -> None:
    sink = io.BytesIO()
    with encrypting_writer(sink, PUBLIC) as writer:
        writer.write(b"content")
    with pytest.raises(ValueError, match="finished"):
        writer.write(b"more")
    assert opened_stream(sink.getvalue()) == b"content"


def test_another_key_opens_nothing() -> None:
    with pytest.raises(CannotOpen, match="no key of ours"):
        opened_stream(sealed_stream(CANARY), OTHER_SECRET)
    with pytest.raises(CannotOpen):
        unseal(seal(CANARY, PUBLIC), OTHER_SECRET)
    with pytest.raises(CannotOpen):
        unseal(seal(CANARY, PUBLIC), [])


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"NEWNHSNO|LOPATID\n9990000018|1\n",
        b"-----BEGIN AGE ENCRYPTED FILE-----\n",
        b"-----BEGIN AGE ENCRYPTED FILE-----\n" + b"AAAA" * 1_000_000,
        b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl!\n-----END AGE ENCRYPTED FILE-----\n",
        b"age-encryption.org/v2\n",
        b"age-encryption.org/v1\n" * 100_000,
        b"age-encryption.org/v1\n-> X25519 " + b"A" * 10_000_000,
        b"age-encryption.org/v1\n" + b"-> X25519 AAAA\nAAAA\n" * 100_000,
        b"age-encryption.org/v1\n-> X25519\nAAAA\n--- AAAA\n",
        b"age-encryption.org/v1\n--- AAAA\n",
    ],
    ids=[
        "empty",
        "plain",
        "empty armor",
        "endless armor",
        "broken armor",
        "later version",
        "no recipient",
        "endless line",
        "endless header",
        "no ephemeral key",
        "no stanza",
    ],
)
def test_what_is_no_age_file_is_refused_without_reading_it_all(hostile: bytes) -> None:
    source = io.BytesIO(hostile)
    with pytest.raises(CannotOpen) as refused, decrypting_reader(source, SECRET):
        pass
    assert CANARY.decode() not in str(refused.value)
    assert source.tell() < CHUNK, "more than the longest header was read before it was refused"
    with pytest.raises(CannotOpen):
        unseal(hostile, SECRET)


def test_a_header_for_many_recipients_opens() -> None:
    crowd = [new_identity()[1] for _ in range(100)]
    assert opened_stream(sealed_stream(b"x", [*crowd, PUBLIC])) == b"x"


@pytest.mark.parametrize(
    "text",
    ["", "age1", PUBLIC[:-1], PUBLIC[:-1] + ("q" if PUBLIC[-1] != "q" else "p"), SECRET],
    ids=["empty", "prefix alone", "cut", "mistyped", "private"],
)
def test_what_is_no_public_key_is_refused_and_not_repeated(text: str) -> None:
    for sealing in (seal, sealed_stream):
        with pytest.raises(KeyUnavailable) as refused:
            sealing(b"x", [text])
        assert len(text) < 5 or str.__str__(text) not in str(refused.value)


def test_nothing_is_sealed_to_nobody() -> None:
    for sealing in (seal, sealed_stream):
        with pytest.raises(KeyUnavailable):
            sealing(b"x", [])


def test_a_recipient_that_everybody_could_compute_is_refused() -> None:
    # The all-zero point has small order: the shared secret would be known to all.
    zero = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z"
    for sealing in (seal, sealed_stream):
        with pytest.raises(KeyUnavailable, match="not a usable key"):
            sealing(b"x", zero)


# The storage underneath ------------------------------------------------------------------------------------


class Failing(io.RawIOBase):
    def __init__(self, number: int) -> None:
        self.number = number

    def readinto(self, buffer: object) -> int:
        raise OSError(self.number, "text with a path")

    def write(self, content: object) -> int:
        raise OSError(self.number, "text with a path")


@pytest.mark.parametrize(("number", "kind"), [(5, StorageFailed), (28, StorageFull)])
def test_a_failing_disk_is_reported_as_a_failing_disk(number: int, kind: type[WardwatchError]) -> None:
    failing: BinaryIO = Failing(number)  # type: ignore[assignment]
    with pytest.raises(kind) as reading, decrypting_reader(failing, SECRET):
        raise AssertionError("the reader opened")
    with pytest.raises(kind) as writing, encrypting_writer(failing, PUBLIC) as writer:
        writer.write(b"x" * 5_000_000)
    assert "text with a path" not in f"{reading.value} {writing.value}"


class FailsAfter(io.RawIOBase):
    """A disk that gives or takes ``good`` bytes and then fails."""

    def __init__(self, good: int, number: int, content: bytes = b"") -> None:
        self.good, self.number = good, number
        self.stream = io.BytesIO(content)

    def _use(self, size: int) -> None:
        self.good -= size
        if self.good < 0:
            raise OSError(self.number, "text with a path")

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        self._use(len(buffer))
        return self.stream.readinto(buffer)

    def write(self, content: bytes | memoryview) -> int:  # type: ignore[override]
        self._use(len(content))
        return self.stream.write(content)


def write_all(writer: EncryptingWriter, chunks: int) -> None:
    for _ in range(chunks):
        writer.write(content_of(CHUNK))


@pytest.mark.parametrize("good", [0, 10, CHUNK, 20 * CHUNK])
def test_a_disk_that_fills_in_the_middle_is_reported_and_leaves_no_whole_stream(good: int) -> None:
    disk = FailsAfter(good, 28)
    sink: BinaryIO = disk  # type: ignore[assignment]
    with pytest.raises(StorageFull) as refused, encrypting_writer(sink, PUBLIC) as writer:
        write_all(writer, 60)
    assert "text with a path" not in str(refused.value)
    assert not stream_threads()
    assert not outcome(disk.stream.getvalue())[1]


def test_a_disk_that_fills_under_the_last_bytes_is_reported_on_leaving() -> None:
    sink: BinaryIO = FailsAfter(0, 28)  # type: ignore[assignment]
    with pytest.raises(StorageFull), encrypting_writer(sink, PUBLIC) as writer:
        writer.write(b"few bytes, which wait in the buffer")


def read_all(reader: DecryptingReader, content: bytes) -> None:
    assert reader.read(CHUNK) == content[:CHUNK], "what came before the damage is not what was sealed"
    reader.read()


def test_a_disk_that_breaks_in_the_middle_is_not_taken_for_a_changed_file() -> None:
    content = content_of(60 * CHUNK)
    source: BinaryIO = FailsAfter(30 * SEALED_CHUNK, 5, sealed_stream(content))  # type: ignore[assignment]
    with pytest.raises(StorageFailed), decrypting_reader(source, SECRET) as reader:
        read_all(reader, content)
    assert not stream_threads()


def test_a_refusal_of_the_source_comes_through_as_it_is() -> None:
    class Refusing(FailsAfter):
        def _use(self, size: int) -> None:
            self.good -= size
            if self.good < 0:
                raise UnsafeArchive("the source's own refusal")

    for good in (0, 30 * SEALED_CHUNK):
        source: BinaryIO = Refusing(good, 0, sealed_stream(content_of(60 * CHUNK)))  # type: ignore[assignment]
        with pytest.raises(UnsafeArchive), decrypting_reader(source, SECRET) as reader:
            reader.read()


# The thread underneath -------------------------------------------------------------------------------------


def test_streams_that_were_forgotten_unread_or_unfinished_end_by_themselves() -> None:
    sealed = sealed_stream(content_of(60 * CHUNK))
    sink = io.BytesIO()
    reader = DecryptingReader(io.BytesIO(sealed), SECRET)
    writer = EncryptingWriter(sink, PUBLIC)
    writer.write(content_of(60 * CHUNK))
    threads = [thread for thread in threading.enumerate() if thread.name == "age stream"]
    assert len(threads) == 2
    del reader, writer
    gc.collect()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "the thread of a forgotten stream goes on waiting"
    assert not outcome(sink.getvalue())[1], "a forgotten writer finished its stream"


def test_a_context_that_was_never_left_ends_when_it_is_collected() -> None:
    context = decrypting_reader(io.BytesIO(sealed_stream(content_of(60 * CHUNK))), SECRET)
    context.__enter__()
    del context
    gc.collect()
    assert not stream_threads()


def test_no_descriptor_is_left_open() -> None:
    sealed = sealed_stream(content_of(3 * CHUNK))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        sealed_stream(b"x")
        opened_stream(sealed)
        outcome(sealed[:-1])
        outcome(b"no age file")
    assert len(os.listdir("/proc/self/fd")) == before


FORK = """
import io, os, sys, time
from infra.sealing import decrypting_reader, encrypting_writer, new_identity, unseal
secret, public = new_identity()
sink = io.BytesIO()
with encrypting_writer(sink, public) as writer:
    writer.write(b"x")
    first = os.fork()
    if not first:
        time.sleep(600)  # a child that outlives the stream must not keep it from ending
    writer.write(b"y" * 5_000_000)
assert len(unseal(sink.getvalue(), secret)) == 5_000_001
with decrypting_reader(io.BytesIO(sink.getvalue()), secret) as reader:
    second = os.fork()
    if not second:
        try:
            reader.read()
        except ValueError:
            time.sleep(600)
        os._exit(1)
    assert len(reader.read()) == 5_000_001
with decrypting_reader(io.BytesIO(sink.getvalue()), secret) as reader:
    third = os.fork()
    if not third:
        time.sleep(600)
    reader.abandon()
for child in (first, second, third):
    assert os.waitpid(child, os.WNOHANG) == (0, 0), "a child ended early"
    os.kill(child, 9)
print("done")
"""


def test_a_forked_child_neither_reads_the_stream_nor_keeps_it_from_ending() -> None:
    result = subprocess.run([sys.executable, "-c", FORK], capture_output=True, timeout=120, text=True)
    assert result.stdout == "done\n", result.stderr


LEAVE = """
import io, sys
from infra.sealing import DecryptingReader, EncryptingWriter, new_identity, seal
secret, public = new_identity()
sealed = io.BytesIO(seal(bytes(10_000_000), public))
kept = [DecryptingReader(sealed, secret), EncryptingWriter(io.BytesIO(), public)]
kept[1].write(bytes(5_000_000))
print("done")
"""


def test_a_process_with_open_streams_ends() -> None:
    result = subprocess.run([sys.executable, "-c", LEAVE], capture_output=True, timeout=120, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_memory_stays_bounded_whatever_the_size() -> None:
    class Count(io.RawIOBase):
        size = 0

        def write(self, content: object) -> int:
            self.size += len(memoryview(content))  # type: ignore[arg-type]
            return len(memoryview(content))  # type: ignore[arg-type]

    block = bytes(CHUNK)
    tracemalloc.start()
    sink = Count()
    with encrypting_writer(sink, PUBLIC) as writer:  # type: ignore[arg-type]
        for _ in range(400):
            writer.write(block)
    sealing_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sink.size > 400 * CHUNK
    assert sealing_peak < 4 * 1024 * 1024, "sealing 25 MiB took more than 4 MiB of memory"

    sealed = io.BytesIO(sealed_stream(bytes(400 * CHUNK)))
    tracemalloc.start()
    with decrypting_reader(sealed, SECRET) as reader:
        while reader.read(CHUNK):
            pass
    opening_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert opening_peak < 4 * 1024 * 1024, "opening 25 MiB took more than 4 MiB of memory"


# Keys do not print -----------------------------------------------------------------------------------------


def test_a_private_key_shows_itself_in_no_printed_form() -> None:
    shown = f"{SECRET} {SECRET!r} {SECRET!s} {[SECRET]} {SECRET:>90}" + repr((SECRET,)) + str(SECRET)
    assert "AGE-SECRET-KEY" not in shown
    assert isinstance(SECRET, SecretText)
    key = SecretBytes(b"\x01" * 32)
    assert "\\x01" not in f"{key} {key!r} {[key]}"
    assert key == b"\x01" * 32, "it is otherwise an ordinary bytes object"
