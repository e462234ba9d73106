"""Zip: an archive whose members are handed on one by one, in order, without extracting anything.

The list of members stands at the end of a zip, its content before it, and an encrypted source can only be
read forward. So it is read twice: the first pass authenticates the whole and keeps the end, from which the
standard library reads the list; every refusal that the list allows is made then, before a byte of content is
touched. The second pass unpacks. Decrypting twice costs less than unpacking once, and nothing has to be held
in memory. A zip on disk needs no first pass.

What is refused, and why it is more than the standard library refuses: a member is used only if its own header
and the list agree, its content ends where it says, it overlaps with nothing, and its checksum fits.
"""

from __future__ import annotations

import io
import re
import struct
import unicodedata
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from infra.containers.control_file import MAX_BYTES as MAX_CONTROL_BYTES
from infra.containers.control_file import Control, is_control, parse_control, sibling
from infra.containers.limits import Limits, check_size
from infra.containers.reading import Readable, Reopen, read_full
from schemas.errors import DamagedContent, DeliveryRefused, UnsafeArchive

_BLOCK = 1 << 18
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_ENCRYPTED_FLAGS = 0x0001 | 0x0040 | 0x2000
_PATCH_FLAG = 0x0020
_SIZES_FOLLOW_FLAG = 0x0008
_UTF8_FLAG = 0x0800
_FLAGS_THAT_MATTER = _ENCRYPTED_FLAGS | _PATCH_FLAG | _SIZES_FOLLOW_FLAG | _UTF8_FLAG
_DOS_VOLUME_OR_LINK = 0x0008 | 0x0400
_UNSIZED = 0xFFFFFFFF
_DRIVE = re.compile(r"[A-Za-z]:")


def _damaged() -> DamagedContent:
    return DamagedContent(
        "the zip archive is damaged or cut short",
        next_step="ask the sender for the file again and compare its SHA-256",
    )


# Access to the bytes of an archive --------------------------------------------------------------------


class Bytes(Protocol):
    """The bytes of an archive: its size, its end, and forward reading from a place."""

    size: int
    tail: bytes

    def go_to(self, offset: int) -> None: ...

    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


class FileBytes:
    """An archive in an ordinary file."""

    def __init__(self, stream: io.RawIOBase, size: int, tail_bytes: int) -> None:
        self._stream = stream
        self.size = size
        stream.seek(max(0, size - tail_bytes))
        self.tail = read_full(stream, tail_bytes)

    def go_to(self, offset: int) -> None:
        self._stream.seek(offset)

    def read(self, size: int = -1, /) -> bytes:
        return self._stream.read(size) or b""

    def close(self) -> None:
        """The file belongs to somebody else."""


class ForwardBytes:
    """An archive that can only be read forward; going back means opening it again."""

    def __init__(self, reopen: Reopen, tail_bytes: int) -> None:
        self._reopen = reopen
        self._open = ExitStack()
        self._stream: Readable | None = None
        self._position = 0
        self.size = 0
        last: deque[bytes] = deque()
        held = 0
        with reopen() as stream:
            while block := stream.read(_BLOCK):
                self.size += len(block)
                last.append(block)
                held += len(block)
                while held - len(last[0]) >= tail_bytes:
                    held -= len(last.popleft())
        self.tail = b"".join(last)[-tail_bytes:]

    def go_to(self, offset: int) -> None:
        if self._stream is None or offset < self._position:
            self.close()
            self._stream = self._open.enter_context(self._reopen())
            self._position = 0
        while self._position < offset:
            if not self.read(min(_BLOCK, offset - self._position)):
                raise _damaged()

    def read(self, size: int = -1, /) -> bytes:
        assert self._stream is not None
        block = self._stream.read(size)
        self._position += len(block)
        return block

    def close(self) -> None:
        self._open.close()
        self._stream = None


class _Tail(io.RawIOBase):
    """The end of an archive posing as the whole, for the standard library's reader of the list."""

    def __init__(self, archive: Bytes) -> None:
        super().__init__()
        self._archive = archive
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, self._archive.size)[whence]
        if base + offset < 0:
            raise OSError(22, "before the beginning")  # what a file says, and the caller expects
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        start = self._position - (self._archive.size - len(self._archive.tail))
        if start < 0:
            raise UnsafeArchive("the list of members of the zip archive is too long")
        end = None if size is None or size < 0 else start + size
        piece = self._archive.tail[start:end]
        self._position += len(piece)
        return piece


# The list of members ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One data file of an archive. ``name`` is the last part of its name there."""

    name: str
    info: zipfile.ZipInfo
    end: int  # nothing of it may lie at or behind this offset
    control: Control | None = None


def list_members(archive: Bytes, limits: Limits) -> list[Entry]:
    """The data files in the order of their content, each with what its control file says.

    Raises :class:`~schemas.errors.UnsafeArchive`, :class:`~schemas.errors.CannotOpen` and, for a control file
    that contradicts its data file, :class:`~schemas.errors.DeliveryRefused`.
    """
    try:
        with zipfile.ZipFile(_Tail(archive)) as listing:
            infos, start_of_list = listing.infolist(), listing.start_dir
    except UnsafeArchive:
        raise
    except Exception:  # the library lets struct, Unicode, value and index errors of a bad list pass
        raise _damaged() from None
    if any(info.header_offset < 0 for info in infos):
        raise _damaged()
    if len(infos) > limits.max_members:
        raise UnsafeArchive(f"the zip archive has {len(infos)} members, more than {limits.max_members}")
    infos.sort(key=lambda info: info.header_offset)
    ends = ([info.header_offset for info in infos] + [start_of_list])[1:]
    entries: dict[str, Entry] = {}
    total = 0
    for number, (info, end) in enumerate(zip(infos, ends, strict=True), 1):
        _refuse_unsafe(info, number, limits)
        if info.is_dir():
            if info.file_size:
                raise UnsafeArchive(f"member {number} of the zip archive is a folder with content")
            continue
        check_size(limits, info.compress_size, info.file_size, total)
        total += info.file_size
        entry = Entry(info.orig_filename.rsplit("/", 1)[-1], info, end)
        key = unicodedata.normalize("NFKC", entry.name).casefold()
        if key in entries:
            raise UnsafeArchive(f"member {number} of the zip archive has the name of an earlier one")
        entries[key] = entry
    return _with_controls(archive, list(entries.values()))


def _refuse_unsafe(info: zipfile.ZipInfo, number: int, limits: Limits) -> None:
    """Names are not shown: they are the sender's text."""
    name = info.orig_filename
    where = f"member {number} of the zip archive"
    parts = name.removesuffix("/").split("/")
    if (
        name.startswith("/")
        or "\\" in name
        or _DRIVE.match(name)
        or any(part in ("", ".", "..") for part in parts)
        or any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
    ):
        raise UnsafeArchive(f"{where} has a name that could lead outside a folder")
    if len(name.encode("utf-8", "surrogatepass")) > limits.max_name_bytes:
        raise UnsafeArchive(f"{where} has a name longer than {limits.max_name_bytes} bytes")
    file_type = info.external_attr >> 28
    if file_type not in (0, 0o10, 0o04) or info.external_attr & _DOS_VOLUME_OR_LINK:
        raise UnsafeArchive(f"{where} is a link or a special file")
    if info.flag_bits & _ENCRYPTED_FLAGS:
        raise UnsafeArchive(
            f"{where} is encrypted by zip", next_step="ask for age or OpenPGP encryption around a plain zip"
        )
    if info.flag_bits & _PATCH_FLAG or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsafeArchive(f"{where} is packed in a way that is not taken (only stored and deflate are)")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise UnsafeArchive(f"{where} states two sizes for one content")


def _with_controls(archive: Bytes, entries: list[Entry]) -> list[Entry]:
    data = {entry.name: entry for entry in entries if not is_control(entry.name)}
    if not data:
        raise UnsafeArchive("the zip archive holds no data file")
    for entry in entries:
        if not is_control(entry.name):
            continue
        name = sibling(entry.name, data)
        if name is None or data[name].control is not None:
            raise DeliveryRefused(
                "the zip archive holds a control file that fits no data file, or two for one"
            )
        if entry.info.file_size > MAX_CONTROL_BYTES:
            raise DeliveryRefused("the zip archive holds a control file that is too long")
        control = parse_control(read_full(MemberReader(archive, entry), MAX_CONTROL_BYTES + 1))
        if control.bytes is not None and control.bytes != data[name].info.file_size:
            raise DeliveryRefused(
                f"the control file states {control.bytes} bytes and the data file has "
                f"{data[name].info.file_size}",
                next_step="ask the sender for the whole file",
            )
        data[name] = Entry(name, data[name].info, data[name].end, control)
    return list(data.values())


# The content of a member ------------------------------------------------------------------------------


class MemberReader:
    """The unpacked content of one member; its end is reported only if size and checksum are as listed."""

    def __init__(self, archive: Bytes, entry: Entry) -> None:
        self._archive = archive
        self._info = entry.info
        self._left = entry.info.compress_size
        self._unpacked = 0
        self._checksum = 0
        self._unpack = zlib.decompressobj(-15) if entry.info.compress_type == zipfile.ZIP_DEFLATED else None
        self._packed = b""
        self._verified = False
        self._skip_local_header(entry)

    def _skip_local_header(self, entry: Entry) -> None:
        info = entry.info
        self._archive.go_to(info.header_offset)
        header = read_full(self._archive, _LOCAL_HEADER.size)
        if len(header) != _LOCAL_HEADER.size:
            raise _damaged()
        signature, _, flags, method, _, _, checksum, packed, size, name_size, extra = _LOCAL_HEADER.unpack(
            header
        )
        name = read_full(self._archive, name_size)
        listed = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8_FLAG else "cp437", "replace")
        later = bool(flags & _SIZES_FOLLOW_FLAG)
        agrees = (
            signature == b"PK\x03\x04"
            and (flags ^ info.flag_bits) & _FLAGS_THAT_MATTER == 0
            and (method, name) == (info.compress_type, listed)
            and (checksum == info.CRC or (later and checksum == 0))
            and (packed in (info.compress_size, _UNSIZED) or (later and packed == 0))
            and (size in (info.file_size, _UNSIZED) or (later and size == 0))
        )
        start = info.header_offset + _LOCAL_HEADER.size + name_size + extra
        if not agrees or start + info.compress_size > entry.end:
            raise UnsafeArchive("a member of the zip archive is not what the list of members says it is")
        self._archive.go_to(start)

    def read(self, size: int = -1, /) -> bytes:
        pieces = []
        wanted = self._info.file_size + 1 if size < 0 else size
        while wanted:
            piece = self._some(min(wanted, _BLOCK))
            if not piece:
                break
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def _some(self, wanted: int) -> bytes:
        while not self._verified:
            if not self._packed and self._left:
                self._packed = self._archive.read(min(_BLOCK, self._left))
                self._left -= len(self._packed)
                if not self._packed:
                    raise _damaged()
            piece = self._take(wanted)
            if piece:
                self._unpacked += len(piece)
                if self._unpacked > self._info.file_size:
                    raise UnsafeArchive("a member of the zip archive is longer than it says")
                self._checksum = zlib.crc32(piece, self._checksum)
                return piece
            if not self._packed and not self._left:
                self._verify()
        return b""

    def _take(self, wanted: int) -> bytes:
        if self._unpack is None:
            piece, self._packed = self._packed[:wanted], self._packed[wanted:]
            return piece
        try:
            piece = self._unpack.decompress(self._packed, wanted)
        except zlib.error:
            raise _damaged() from None
        self._packed = self._unpack.unconsumed_tail
        if self._unpack.unused_data or (self._unpack.eof and self._left):
            raise UnsafeArchive("a member of the zip archive has something behind its content")
        return piece

    def _verify(self) -> None:
        if self._unpack is not None and not self._unpack.eof:
            raise _damaged()
        if self._unpacked != self._info.file_size:
            raise UnsafeArchive("a member of the zip archive is shorter than it says")
        if self._checksum != self._info.CRC:
            raise _damaged()
        self._verified = True


def read_members(archive: Bytes, limits: Limits) -> Iterator[tuple[Entry, int, MemberReader]]:
    """Each data file with the number of them and its content, to be read to the end before the next."""
    entries = list_members(archive, limits)
    for entry in entries:
        yield entry, len(entries), MemberReader(archive, entry)
