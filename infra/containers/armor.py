"""Armor: an age file written as text, for senders whose channel takes only text.

The strict form of PEM that age prescribes: base64 lines of 64 characters, the last one shorter or equal,
between the two marker lines; only white space may follow.
"""

from __future__ import annotations

import binascii
import io

from infra.containers.reading import Readable
from schemas.errors import CannotOpen

BEGIN = b"-----BEGIN AGE ENCRYPTED FILE-----"
END = b"-----END AGE ENCRYPTED FILE-----"
_COLUMNS = 64
_BLOCK = 1 << 18


class ArmorReader(io.RawIOBase):
    """The binary age file inside the armor.

    Raises :class:`~schemas.errors.CannotOpen` where the armor is malformed.
    """

    def __init__(self, source: Readable) -> None:
        super().__init__()
        self._source = source
        self._text = b""
        self._held = b""
        self._started = False
        self._last_line_seen = False
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        room = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        while not self._held and not self._ended:
            self._advance()
        size = min(len(room), len(self._held))
        room[:size] = self._held[:size]
        self._held = self._held[size:]
        return size

    def _advance(self) -> None:
        block = self._source.read(_BLOCK)
        text = self._text + block
        lines = text.split(b"\n")
        self._text = lines.pop() if block else b""
        if len(self._text) > 2 * _COLUMNS:
            raise _malformed()
        decoded = []
        for line in (line.removesuffix(b"\r") for line in lines):
            if not self._started:
                if line.rstrip() != BEGIN:
                    raise _malformed()
                self._started = True
            elif line == END:
                self._finish(text[text.index(END) + len(END) :])
                break
            else:
                decoded.append(self._decode(line))
        else:
            if not block:
                raise _malformed()
        self._held = b"".join(decoded)

    def _decode(self, line: bytes) -> bytes:
        if self._last_line_seen or not line or len(line) > _COLUMNS:
            raise _malformed()
        self._last_line_seen = len(line) < _COLUMNS or line.endswith(b"=")
        try:
            return binascii.a2b_base64(line, strict_mode=True)
        except binascii.Error:
            raise _malformed() from None

    def _finish(self, rest: bytes) -> None:
        while rest:
            if rest.strip():
                raise _malformed()
            rest = self._source.read(_BLOCK)
        self._ended = True


def _malformed() -> CannotOpen:
    return CannotOpen(
        "the age file is written as text and that text was changed or cut short",
        next_step="ask the sender for the file again, in binary form",
    )
