"""Opening: from a delivered file to the streams of plaintext that it holds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from infra.containers.control_file import Control
from infra.containers.gzip_stream import GzipReader
from infra.containers.limits import Limits
from infra.containers.openpgp import openpgp_reader
from infra.containers.reading import Readable, Reopen, Rest, open_source, read_full, reading_errors
from infra.containers.sniffing import ENCRYPTED, SNIFF_BYTES, Kind, sniff
from infra.containers.zip_archive import Bytes, FileBytes, ForwardBytes, read_members
from infra.sealing import decrypting_reader
from schemas.errors import DeliveryRefused, UnsafeArchive

_BLOCK = 1 << 20
_ENCRYPTION_SUFFIXES = (".age", ".gpg", ".pgp", ".asc")


@dataclass(frozen=True)
class Member:
    """One data file of a delivery.

    ``name``: as the sender called it, without the suffixes of encryption and compression. It is the sender's
    text: not to be shown before :func:`infra.receipts.safe_name`. ``stream``: its plaintext, valid until the
    next member is asked for. Nothing may be built on it before its ``read`` reported the end: only then is
    the content known to be whole. ``number`` of ``count``: its place. ``control``: what a control file
    inside the same archive says.
    """

    name: str = field(repr=False)
    stream: Readable = field(repr=False)
    number: int = 1
    count: int = 1
    control: Control | None = None


class _ToTheEnd:
    """Remembers whether the end was reached, so that the rest can be verified if the reader stopped early."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.ended = False

    def read(self, size: int = -1, /) -> bytes:
        with reading_errors():
            piece = self._stream.read(size)
        self.ended = size != 0 and (not piece or size < 0)
        return piece

    def verify(self) -> None:
        while not self.ended:
            self.read(_BLOCK)


def open_deliveries(
    path: Path,
    identities: Sequence[str] = (),
    openpgp_keys: Sequence[bytes] = (),
    limits: Limits | None = None,
) -> Iterator[Member]:
    """The data files in the delivered file at ``path``, one after the other, as streams of plaintext.

    ``identities``: age private keys; ``openpgp_keys``: OpenPGP secret keys without a passphrase. Asking for
    the next member verifies the one before to its end if the caller did not. Closing the iterator early
    leaves nothing behind.

    Raises, also in the middle: :class:`~schemas.errors.CannotOpen` (wrong key; content changed or cut),
    :class:`~schemas.errors.UnsafeArchive` (see :mod:`infra.containers.zip_archive`; archives in archives;
    other formats), :class:`~schemas.errors.DeliveryRefused` (empty, no ordinary file) and
    :class:`~schemas.errors.StorageFailed`.
    """
    bounds = limits or Limits()
    with reading_errors(), open_source(path) as source:
        size = os.fstat(source.fileno()).st_size
        if size == 0:
            raise DeliveryRefused("the file is empty", next_step="ask the sender to deliver it again")

        @contextmanager
        def as_it_lies() -> Iterator[Readable]:
            source.seek(0)
            yield source

        with as_it_lies() as stream:
            kind = sniff(read_full(stream, SNIFF_BYTES))
        name = path.name
        if kind is Kind.ZIP:
            file_bytes = FileBytes(source, size, bounds.max_directory_bytes)
            yield from _zip_members(file_bytes, bounds)
        elif kind in ENCRYPTED:
            reopen = _decrypted(kind, source, size, identities, openpgp_keys, bounds)
            yield from _contents(reopen, _without_suffix(name, _ENCRYPTION_SUFFIXES), bounds)
        else:
            yield from _contents(as_it_lies, name, bounds)


def _decrypted(
    kind: Kind,
    source: BinaryIO,
    size: int,
    identities: Sequence[str],
    openpgp_keys: Sequence[bytes],
    limits: Limits,
) -> Reopen:
    @contextmanager
    def reopen() -> Iterator[Readable]:
        source.seek(0)
        if kind is Kind.OPENPGP:
            with openpgp_reader(source, size, openpgp_keys, limits) as message:
                yield message
            return
        sealed = source
        with decrypting_reader(sealed, identities) as reader:
            try:
                yield reader
            finally:
                reader.abandon()  # whoever relies on the content reads it to the end, see _ToTheEnd

    return reopen


def _contents(reopen: Reopen, name: str, limits: Limits) -> Iterator[Member]:
    """The members of content that is not, or no longer, encrypted."""
    with ExitStack() as opened:
        stream = opened.enter_context(reopen())
        first = read_full(stream, SNIFF_BYTES)
        kind = sniff(first)
        if kind in ENCRYPTED:
            raise UnsafeArchive("the delivery is encrypted twice")
        if kind is Kind.OTHER_ARCHIVE:
            raise UnsafeArchive(
                "the delivery has a format that is not taken", next_step="ask for text or zip"
            )
        if kind is not Kind.ZIP:
            content: Readable = Rest(first, stream)
            if kind is Kind.GZIP:
                name = _without_suffix(name, (".gz", ".gzip"))
                packed = GzipReader(content, limits)
                content = Rest(_not_nested(read_full(packed, SNIFF_BYTES)), packed)
            elif not first:
                raise DeliveryRefused("the file is empty", next_step="ask the sender to deliver it again")
            yield from _verified(Member(name, content))
            return
    with closing(ForwardBytes(reopen, limits.max_directory_bytes)) as archive:
        yield from _zip_members(archive, limits)


def _zip_members(archive: Bytes, limits: Limits) -> Iterator[Member]:
    for number, (entry, count, stream) in enumerate(read_members(archive, limits), 1):
        first = _not_nested(read_full(stream, SNIFF_BYTES))
        yield from _verified(Member(entry.name, Rest(first, stream), number, count, entry.control))


def _verified(member: Member) -> Iterator[Member]:
    stream = _ToTheEnd(member.stream)
    yield Member(member.name, stream, member.number, member.count, member.control)
    stream.verify()


def _not_nested(first: bytes) -> bytes:
    if sniff(first) is not Kind.PLAIN:
        raise UnsafeArchive(
            "a member of the archive is itself packed or encrypted",
            next_step="ask for one archive, not several",
        )
    if not first:
        raise DeliveryRefused(
            "a file of the delivery is empty", next_step="ask the sender to deliver it again"
        )
    return first


def _without_suffix(name: str, suffixes: Sequence[str]) -> str:
    for suffix in suffixes:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name
