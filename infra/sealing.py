"""Sealing: content that only the holder of a private age key can open.

Small content (shares, keyrings, landing keys) goes through ``pyrage`` in one piece. Deliveries go through as
a stream of bounded memory, see :mod:`infra.age_stream`. Keys are text as the standard ``age`` tool writes
them: ``age1...`` is public, ``AGE-SECRET-KEY-1...`` is private.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

import pyrage

from infra.age_stream import CHUNK, Opener, Sealer
from schemas.errors import CannotOpen, KeyUnavailable

if TYPE_CHECKING:
    from typing_extensions import Buffer


class SecretText(str):
    """A private key as text. It shows itself nowhere: not in a message, a log line, or a traceback.

    Comparison, encoding and passing to a library work as for any text; only the printed forms are closed.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "<secret>"


class SecretBytes(bytes):
    """Key bytes that print as ``<secret>``. Otherwise ordinary bytes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "<secret>"


def new_identity() -> tuple[SecretText, str]:
    """A new age key pair: the private half, which does not print, and the public half."""
    identity = pyrage.x25519.Identity.generate()
    return SecretText(str(identity)), str(identity.to_public())


def public_of(identity: str) -> str:
    """The public half of a private key. Raises :class:`KeyUnavailable`."""
    return str(_identity(identity).to_public())


def _identity(text: str) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(text)
    except pyrage.IdentityError:
        raise KeyUnavailable("this is not a private age key") from None


def _recipient(text: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise KeyUnavailable("this is not a public age key") from None


def _several(keys: str | Sequence[str]) -> list[str]:
    return [keys] if isinstance(keys, str) else list(keys)


def seal(content: bytes, recipients: str | Sequence[str]) -> bytes:
    """Small ``content`` as an age file that any one of ``recipients`` opens.

    Raises :class:`KeyUnavailable` if there is no recipient or one is not an age key.
    """
    public = [_recipient(text) for text in _several(recipients)]
    if not public:
        raise KeyUnavailable("nothing can be sealed without a recipient")
    return cast(bytes, pyrage.encrypt(bytes(content), public))


def unseal(sealed: bytes, identities: str | Sequence[str]) -> SecretBytes:
    """The content of an age file, all of it or none. Raises :class:`CannotOpen`."""
    private = [_identity(text) for text in _several(identities)]
    if not private:
        raise CannotOpen("nothing can be opened without a key")
    try:
        return SecretBytes(pyrage.decrypt(bytes(sealed), private))
    except (pyrage.DecryptError, OSError):
        raise CannotOpen(
            "the sealed content does not open: another key, or changed or cut content",
            next_step="check which key it was sealed to",
        ) from None


class DecryptingReader(io.RawIOBase):
    """Plaintext of an age file, decrypted as it is read.

    Bytes that were handed out are authentic, but the content is known to be whole only at the end: ``read``
    and ``readinto`` report the end after the authenticated end alone and raise :class:`CannotOpen` for every
    other one. ``readinto`` into a buffer that is used again and again is the fast way: it decrypts in place.
    """

    def __init__(self, opener: Opener) -> None:
        super().__init__()
        self._opener = opener
        self._spare = memoryview(bytearray(CHUNK))
        self._held = self._spare[:0]
        self.abandoned = False

    def readable(self) -> bool:
        return True

    @property
    def ended_well(self) -> bool:
        """True once the authenticated end of the content was reached."""
        return self._opener.ended_well

    def readinto(self, buffer: Buffer) -> int:
        """Fill ``buffer``, less of it only at the authenticated end. Returns the number of bytes."""
        if self.closed:
            raise ValueError("the sealed stream is already closed")
        room = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(room):
            if not self._held and len(room) - filled >= CHUNK:
                size = self._opener.chunk_into(room[filled:])
            else:
                if not self._held:
                    self._held = self._spare[: self._opener.chunk_into(self._spare)]
                size = min(len(self._held), len(room) - filled)
                room[filled : filled + size] = self._held[:size]
                self._held = self._held[size:]
            if not size:
                break
            filled += size
        return filled

    def read(self, size: int | None = -1) -> bytes:
        """Exactly ``size`` bytes, fewer only at the authenticated end; everything if ``size`` is negative."""
        if size is None or size < 0:
            return self.readall()
        content = bytearray(size)
        filled = self.readinto(content)
        return bytes(memoryview(content)[:filled])

    def readall(self) -> bytes:
        pieces = []
        while piece := self.read(16 * CHUNK):
            pieces.append(piece)
        return b"".join(pieces)

    def abandon(self) -> None:
        """Say that the rest is not wanted (a look at the first lines): the content must not be relied on."""
        self.abandoned = True

    def verify_to_the_end(self) -> None:
        """Decrypt and forget what is left. Raises :class:`CannotOpen` if it does not end well."""
        self._held = self._spare[:0]
        while self._opener.chunk_into(self._spare):
            pass


class EncryptingWriter(io.RawIOBase):
    """Takes plaintext and writes an age file into its sink."""

    def __init__(self, sealer: Sealer) -> None:
        super().__init__()
        self._sealer = sealer

    def writable(self) -> bool:
        return True

    def write(self, content: Buffer) -> int:
        if self.closed:
            raise ValueError("the sealed stream is already finished")
        return self._sealer.write(memoryview(content))


@contextmanager
def decrypting_reader(source: BinaryIO, identities: str | Sequence[str]) -> Iterator[DecryptingReader]:
    """Open an age file as a stream of plaintext, in about 1.2 MiB of memory whatever its size.

    Leaving the context normally reads on to the end if the caller did not, and raises :class:`CannotOpen`
    unless the cipher stream ended well, so nothing after the ``with`` can rest on a cut file. A caller that
    wants only the beginning says so with ``reader.abandon()``. An exception inside passes through at once.

    Raises :class:`CannotOpen` (wrong key, changed or cut content, bytes after the end),
    :class:`KeyUnavailable` (an identity that is no key) and :class:`StorageFailed` (the source).
    """
    reader = DecryptingReader(Opener(source, _several(identities)))
    try:
        yield reader
        if not reader.abandoned:
            reader.verify_to_the_end()
    finally:
        reader.close()


@contextmanager
def encrypting_writer(sink: BinaryIO, recipients: str | Sequence[str]) -> Iterator[EncryptingWriter]:
    """A writable whose content reaches ``sink`` as an age file for ``recipients``; ``sink`` stays open.

    Only leaving the context normally writes the final chunk. After an exception inside, what stands in
    ``sink`` is a cut stream that no reader accepts.

    Raises :class:`KeyUnavailable`, :class:`StorageFull` and :class:`StorageFailed`.
    """
    sealer = Sealer(sink, _several(recipients))
    writer = EncryptingWriter(sealer)
    try:
        yield writer
        sealer.finish()
    finally:
        writer.close()
