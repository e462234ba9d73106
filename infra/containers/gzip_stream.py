"""Gzip: one file packed, unpacked as it is read (RFC 1952), several members in a row included."""

from __future__ import annotations

import zlib

from infra.containers.limits import Limits, Meter
from infra.containers.reading import Readable
from schemas.errors import DamagedContent

_BLOCK = 1 << 18


class GzipReader:
    """The unpacked content of a gzip stream.

    :meth:`read` reports the end only after the packed stream ended well: the checksum of each member fits,
    and nothing but padding zeros follows. Raises :class:`~schemas.errors.CannotOpen` for every other end,
    :class:`~schemas.errors.UnsafeArchive` beyond the limits.
    """

    def __init__(self, source: Readable, limits: Limits) -> None:
        self._source = source
        self._meter = Meter(limits)
        self._unpack = zlib.decompressobj(wbits=31)
        self._packed = b""
        self._source_ended = False

    def read(self, size: int = -1, /) -> bytes:
        wanted = _BLOCK if size < 0 else size
        pieces = []
        while wanted:
            piece = self._some(wanted)
            if not piece:
                break
            pieces.append(piece)
            wanted -= len(piece)
        if size < 0:
            while piece := self._some(_BLOCK):
                pieces.append(piece)
        return b"".join(pieces)

    def _some(self, wanted: int) -> bytes:
        while True:
            if self._unpack.eof:
                if not self._next_member():
                    return b""
                continue
            if not self._packed and not self._source_ended:
                self._fill()
            try:
                piece = self._unpack.decompress(self._packed, wanted)
            except zlib.error:
                raise _damaged() from None
            self._packed = self._unpack.unconsumed_tail or self._unpack.unused_data
            if piece:
                self._meter.add(len(piece))
                return piece
            if not self._packed and not self._unpack.eof and self._source_ended:
                raise _damaged()

    def _fill(self) -> None:
        self._packed = self._source.read(_BLOCK)
        self._meter.packed += len(self._packed)
        self._source_ended = not self._packed

    def _next_member(self) -> bool:
        """Start the member behind the one that ended, if there is one."""
        while True:
            self._packed = self._packed.lstrip(b"\0")
            if self._packed:
                self._unpack = zlib.decompressobj(wbits=31)
                return True
            if self._source_ended:
                return False
            self._fill()


def _damaged() -> DamagedContent:
    return DamagedContent(
        "the packed content is damaged, cut short or followed by something else",
        next_step="ask the sender for the file again and compare its SHA-256",
    )
