"""The age file format, version 1, as a stream: header, file key and authenticated chunks.

Published format (C2SP "age"): a text header wraps a 128-bit file key for each X25519 recipient and carries an
HMAC; the payload is cut into chunks of 64 KiB, each sealed with ChaCha20-Poly1305 under a counter nonce whose
last byte marks the final chunk. Nothing here is a construction of our own: what is sealed here opens with
``pyrage``, the Rust implementation, and what that seals opens here (tests hold both directions).

It exists beside ``pyrage``, which seals and opens everything small, for two reasons. ``pyrage`` pushes a
stream from start to end, so a reader that pulls needs a thread and a queue, while this one decrypts when
asked and has nothing to leave hanging. And OpenSSL's ChaCha20-Poly1305 made a stream of 250 MiB about
twice as fast as ``pyrage`` did, and every delivery passes through three times.

The encrypted payload is never taken to be complete before its final chunk was seen and nothing follows it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from infra.files import storage_errors
from schemas.errors import CannotOpen, KeyUnavailable

VERSION_LINE = b"age-encryption.org/v1\n"
X25519_LABEL = b"age-encryption.org/v1/X25519"
PUBLIC_PREFIX = "age"
SECRET_PREFIX = "age-secret-key-"  # noqa: S105  (the name of the encoding, not a secret)

CHUNK = 64 * 1024
TAG = 16
SEALED_CHUNK = CHUNK + TAG
NONCE = 16
FILE_KEY = 16

# A header holds about 200 bytes for each recipient. The bounds keep a hostile file from filling the memory
# before its key is even tried.
LONGEST_LINE = 4 * 1024
LONGEST_HEADER = 64 * 1024

_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


# Keys as text: Bech32 (BIP 173), as age writes them -------------------------------------------------------


def _checksum(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            if top >> bit & 1:
                check ^= generator
    return check


def decode_key(text: str, prefix: str) -> bytes:
    """The 32 bytes of an age key written as text.

    ``prefix`` is :data:`PUBLIC_PREFIX` or :data:`SECRET_PREFIX`. Raises :class:`KeyUnavailable`, which never
    carries the text.
    """
    problem = KeyUnavailable(
        f"this is not an age key of the kind '{prefix}1...'",
        next_step="check that the whole key was copied, on one line",
    )
    if text not in (text.lower(), text.upper()):
        raise problem
    text = text.lower()
    if not text.startswith(prefix + "1"):
        raise problem
    values = [_BECH32.find(character) for character in text[len(prefix) + 1 :]]
    human = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    if -1 in values or _checksum(human + values) != 1:
        raise problem
    number = 0
    for value in values[:-6]:
        number = number << 5 | value
    spare = len(values[:-6]) * 5 - 256
    if not 0 <= spare < 5 or number & ((1 << spare) - 1):
        raise problem
    return (number >> spare).to_bytes(32, "big")


# The header ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stanza:
    """One recipient's copy of the file key: its kind and arguments, and the wrapped key."""

    arguments: tuple[str, ...]
    body: bytes


def _derive(secret: bytes, salt: bytes, label: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, label).derive(secret)


def _encode(content: bytes) -> bytes:
    return base64.b64encode(content).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    """Unpadded canonical base64 only: a second spelling of the same bytes is refused."""
    try:
        content = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _changed() from None
    if _encode(content) != text:
        raise _changed()
    return content


def _changed() -> CannotOpen:
    return CannotOpen(
        "the sealed content was changed or cut short, or is no age file",
        next_step="ask the sender for the file again and compare its SHA-256",
    )


def _wrapping_key(shared: bytes, ephemeral: bytes, recipient: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(_derive(shared, ephemeral + recipient, X25519_LABEL))


def _wrap(file_key: bytes, recipient: str) -> Stanza:
    public = decode_key(recipient, PUBLIC_PREFIX)
    ephemeral = X25519PrivateKey.generate()
    ephemeral_public = ephemeral.public_key().public_bytes_raw()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:  # a point of small order: everybody would know the shared secret
        raise KeyUnavailable("this age recipient is not a usable key") from None
    # The nonce is zero by the format: the wrapping key is used this once.
    body = _wrapping_key(shared, ephemeral_public, public).encrypt(bytes(12), file_key, None)
    return Stanza(("X25519", _encode(ephemeral_public).decode()), body)


def _unwrap(stanza: Stanza, identity: X25519PrivateKey) -> bytes | None:
    if len(stanza.arguments) != 2 or len(stanza.body) != FILE_KEY + TAG:
        raise _changed()
    ephemeral = _decode(stanza.arguments[1].encode())
    if len(ephemeral) != 32:
        raise _changed()
    try:
        shared = identity.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        key = _wrapping_key(shared, ephemeral, identity.public_key().public_bytes_raw())
        return key.decrypt(bytes(12), stanza.body, None)
    except (ValueError, InvalidTag):
        return None


def _header_mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derive(file_key, b"", b"header"), header, "sha256")


def _write_header(file_key: bytes, recipients: Sequence[str]) -> bytes:
    lines = [VERSION_LINE]
    for recipient in recipients:
        stanza = _wrap(file_key, recipient)
        lines.append(b"-> " + " ".join(stanza.arguments).encode() + b"\n" + _encode(stanza.body) + b"\n")
    header = b"".join(lines) + b"---"
    return header + b" " + _encode(_header_mac(file_key, header)) + b"\n"


class _HeaderLines:
    """Reads the header line by line without taking a byte of the payload, within fixed bounds."""

    def __init__(self, window: _Window) -> None:
        self._window = window
        self.text = b""

    def next(self) -> bytes:
        line = self._window.line()
        self.text += line
        if not line.endswith(b"\n") or len(self.text) > LONGEST_HEADER:
            raise _changed()
        return line[:-1]


def _read_header(lines: _HeaderLines) -> tuple[list[Stanza], bytes, bytes]:
    """Stanzas, the bytes under the MAC, and the MAC."""
    if lines.next() + b"\n" != VERSION_LINE:
        raise CannotOpen(
            "this is not an age file, version 1, in its binary form",
            next_step="seal with `age -r RECIPIENT` (without -a)",
        )
    stanzas: list[Stanza] = []
    line = lines.next()
    while line.startswith(b"-> "):
        if not re.fullmatch(rb"-> [!-~]+(?: [!-~]+)*", line):
            raise _changed()
        arguments = tuple(line.decode("ascii").split(" ")[1:])
        body = b""
        while True:
            piece = lines.next()
            if len(piece) > 64:
                raise _changed()
            body += piece
            if len(piece) < 64:
                break
        stanzas.append(Stanza(arguments, _decode(body)))
        line = lines.next()
    if not line.startswith(b"--- ") or not stanzas:
        raise _changed()
    mac = _decode(line[4:])
    return stanzas, lines.text[: -len(line) - 1] + b"---", mac


def _open_header(lines: _HeaderLines, identities: Sequence[str]) -> bytes:
    """The file key, from the first stanza that one of ``identities`` opens."""
    stanzas, authenticated, mac = _read_header(lines)
    keys = [X25519PrivateKey.from_private_bytes(decode_key(text, SECRET_PREFIX)) for text in identities]
    for stanza in stanzas:
        if stanza.arguments[0] != "X25519":  # other kinds of recipient may stand beside ours
            continue
        for key in keys:
            file_key = _unwrap(stanza, key)
            if file_key is not None:
                if not hmac.compare_digest(_header_mac(file_key, authenticated), mac):
                    raise _changed()
                return file_key
    raise CannotOpen(
        "no key of ours opens this file",
        next_step="ask the sender which public key it was sealed to; ours is in keys/public.json",
    )


# The payload -----------------------------------------------------------------------------------------------


class _Window:
    """A fixed buffer over a source, which may return fewer bytes than asked for (a pipe, a socket)."""

    # Sixteen chunks to a read keep the number of calls low; one more is held back, see Opener.
    SIZE = 17 * SEALED_CHUNK

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._readinto = getattr(source, "readinto", None)
        self._buffer = memoryview(bytearray(self.SIZE))
        self._start = 0
        self._stop = 0
        self._source_ended = False

    def _read_some(self, room: memoryview) -> int:
        with storage_errors("a sealed file's reader"):
            if self._readinto is not None:
                return int(self._readinto(room) or 0)
            piece = self._source.read(len(room))
        room[: len(piece)] = piece
        return len(piece)

    def ahead(self, size: int) -> memoryview:
        """Up to ``size`` coming bytes without taking them, fewer only where the source ends."""
        if self._stop - self._start < size and not self._source_ended:
            left = self._stop - self._start
            self._buffer[:left] = self._buffer[self._start : self._stop]
            self._start, self._stop = 0, left
            while self._stop < self.SIZE and not self._source_ended:
                taken = self._read_some(self._buffer[self._stop :])
                self._stop += taken
                self._source_ended = taken == 0
        return self._buffer[self._start : min(self._stop, self._start + size)]

    def take(self, size: int) -> None:
        self._start += size

    def line(self) -> bytes:
        """Up to and including the next newline."""
        content = bytes(self.ahead(LONGEST_LINE))
        content = content[: content.find(b"\n") + 1] or content
        self.take(len(content))
        return content


def _chunk_nonce(counter: int, final: bool) -> bytes:
    return counter.to_bytes(11, "big") + (b"\x01" if final else b"\x00")


class Opener:
    """Decrypts an age stream chunk by chunk, when asked, into memory that the caller owns and reuses.

    Fresh memory costs more here than the cipher does, hence no ``bytes`` on the way.
    """

    def __init__(self, source: BinaryIO, identities: Sequence[str]) -> None:
        self._window = _Window(source)
        file_key = _open_header(_HeaderLines(self._window), identities)
        nonce = bytes(self._window.ahead(NONCE))
        self._window.take(NONCE)
        if len(nonce) != NONCE:
            raise _changed()
        self._cipher: ChaCha20Poly1305 | None = ChaCha20Poly1305(_derive(file_key, nonce, b"payload"))
        self._counter = 0
        self.ended_well = False

    def chunk_into(self, room: memoryview) -> int:
        """Decrypt the next chunk into ``room`` (at least :data:`CHUNK` bytes) and return its length.

        Returns 0 only when the final chunk was opened and nothing followed it. Every other end raises
        :class:`CannotOpen`, at each further call too, and leaves zeros where plaintext would have been.
        """
        if self.ended_well:
            return 0
        if self._cipher is None:
            raise _changed()
        # The final chunk is sealed under a nonce of its own, so whether more follows has to be known before
        # a chunk can be opened: look one byte past it.
        coming = self._window.ahead(SEALED_CHUNK + 1)
        final = len(coming) <= SEALED_CHUNK
        sealed = coming[:SEALED_CHUNK]
        size = len(sealed) - TAG
        # An empty final chunk is allowed for empty content alone, as the format says.
        if size < 0 or (size == 0 and self._counter):
            self._cipher = None
            raise _changed()
        try:
            self._cipher.decrypt_into(_chunk_nonce(self._counter, final), sealed, None, room[:size])
        except InvalidTag:
            self._cipher = None
            room[:size] = bytes(size)
            raise _changed() from None
        self._window.take(len(sealed))
        self._counter += 1
        if final:
            self._cipher, self.ended_well = None, True
        return size


class Sealer:
    """Encrypts to an age stream. Without :meth:`finish` the result is a cut stream, which no reader takes."""

    BATCH = 16  # chunks to a write

    def __init__(self, sink: BinaryIO, recipients: Sequence[str]) -> None:
        if not recipients:
            raise KeyUnavailable("nothing can be sealed without a recipient")
        file_key = os.urandom(FILE_KEY)
        nonce = os.urandom(NONCE)
        self._sink = sink
        self._cipher = ChaCha20Poly1305(_derive(file_key, nonce, b"payload"))
        self._counter = 0
        self._finished = False
        self._plain = memoryview(bytearray(CHUNK))
        self._plain_size = 0
        self._sealed = memoryview(bytearray(self.BATCH * SEALED_CHUNK))
        self._sealed_size = 0
        self._put(memoryview(_write_header(file_key, recipients) + nonce))

    def _put(self, content: memoryview) -> None:
        while content:  # a raw file may take fewer bytes than it was given
            with storage_errors("a sealed file"):
                content = content[self._sink.write(content) :]

    def _flush(self) -> None:
        self._put(self._sealed[: self._sealed_size])
        self._sealed_size = 0

    def _seal(self, content: memoryview, final: bool) -> None:
        end = self._sealed_size + len(content) + TAG
        room = self._sealed[self._sealed_size : end]
        self._cipher.encrypt_into(_chunk_nonce(self._counter, final), content, None, room)
        self._counter += 1
        self._sealed_size = end
        if end > (self.BATCH - 1) * SEALED_CHUNK:
            self._flush()

    def write(self, content: memoryview) -> int:
        """Take all of ``content``; a full chunk is sealed only once it is known not to be the last."""
        content = content.cast("B")
        taken = len(content)
        while content:
            if self._plain_size == CHUNK:
                self._seal(self._plain, final=False)
                self._plain_size = 0
            if not self._plain_size:
                while len(content) > CHUNK:
                    self._seal(content[:CHUNK], final=False)
                    content = content[CHUNK:]
            piece = content[: CHUNK - self._plain_size]
            self._plain[self._plain_size : self._plain_size + len(piece)] = piece
            self._plain_size += len(piece)
            content = content[len(piece) :]
        return taken

    def finish(self) -> None:
        """Write the final chunk: from here on the stream is whole."""
        if not self._finished:
            self._finished = True
            self._seal(self._plain[: self._plain_size], final=True)
            self._flush()
