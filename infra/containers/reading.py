"""Source: a delivered file, opened once, whose content can be read from the start as often as needed."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from schemas.errors import DeliveryRefused, StorageFailed


class Readable(Protocol):
    """Bytes in order, once. Fewer bytes than asked for do not mean the end; none do."""

    def read(self, size: int = -1, /) -> bytes: ...


Reopen = Callable[[], AbstractContextManager[Readable]]
"""Opens the same content from its beginning, again and again."""


class Rest:
    """A stream of which the first bytes were looked at already."""

    def __init__(self, first: bytes, stream: Readable) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        if not self._first:
            return self._stream.read(size)
        if size < 0:
            first, self._first = self._first, b""
            return first + self._stream.read(-1)
        first, self._first = self._first[:size], self._first[size:]
        return first


@contextmanager
def reading_errors() -> Iterator[None]:
    """Translate operating system errors of reading a delivery; their text carries the path."""
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "unknown")
        raise StorageFailed(f"the delivered file could not be read ({name})") from None


@contextmanager
def open_source(path: Path) -> Iterator[io.FileIO]:
    """The delivered file at ``path``, an ordinary file and no link.

    Raises :class:`~schemas.errors.DeliveryRefused` for anything else (a pipe or a device would wait for ever)
    and :class:`~schemas.errors.StorageFailed`.
    """
    try:
        # Non-blocking, because opening a pipe that somebody put there would wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DeliveryRefused("there is no such file") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DeliveryRefused("a delivery must be an ordinary file, not a link") from None
        name = errno.errorcode.get(error.errno or 0, "unknown")
        raise StorageFailed(f"the delivered file could not be opened ({name})") from None
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DeliveryRefused("a delivery must be an ordinary file")
        yield stream


def read_full(stream: Readable, size: int) -> bytes:
    """``size`` bytes, fewer only at the end of the stream."""
    pieces = []
    while size:
        piece = stream.read(size)
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
