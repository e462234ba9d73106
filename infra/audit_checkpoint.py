"""The checkpoint: a signed note "origin, number of events, hash of the last of them".

Text format of C2SP ``signed-note`` and ``tlog-checkpoint``: three lines, an empty line, one line per
signature (an em dash, the key's name, base64 of a four-byte key id and the Ed25519 signature over the text).
The root is the head of the hash chain, which commits to every event before it. A witness adds a line of its own
(C2SP ``tlog-cosignature``, version 1: the time is signed with the text) and keeps the note outside of the
workspace: that copy shows a cut-off or rewritten log.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from infra.audit_line import CHECKPOINTS
from schemas.errors import UsageError

ORIGIN = "wardwatch/audit"
CHECKPOINT_KEY = "wardwatch-audit"  # the name under which the pipeline's key of that purpose signs
WITNESSED = "witnessed"  # the folder, beside the checkpoints, of those that a witness countersigned
ED25519 = 0x01
COSIGNATURE_V1 = 0x04
_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_SIGNATURE_LINE = re.compile(r"\u2014 (\S+) ([A-Za-z0-9+/]+=*)")


class NoteRejected(Exception):
    """Why a note does not count. ``kind`` is that of the finding it becomes. Never leaves this package."""

    def __init__(self, kind: str, says: str) -> None:
        super().__init__(says)
        self.kind = kind
        self.says = says


def key_id(name: str, public_key: bytes, kind: int = ED25519) -> bytes:
    """Four bytes that tell keys of one name, and kinds of signature, apart."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public_key).digest()[:4]


def signature_line(text: bytes, key_name: str, public_key: bytes, sign: Callable[[bytes], bytes]) -> str:
    """The line that signs ``text``. ``sign`` returns the 64-byte Ed25519 signature of its argument."""
    return _line(key_name, key_id(key_name, public_key) + sign(text))


def cosignature_line(
    text: bytes, key_name: str, public_key: bytes, sign: Callable[[bytes], bytes], time: datetime
) -> str:
    """The line by which a witness says that at ``time`` this was the newest state it had seen of the log."""
    seconds = int(time.timestamp())
    blob = key_id(key_name, public_key, COSIGNATURE_V1) + seconds.to_bytes(8, "big")
    return _line(key_name, blob + sign(_cosigned(text, seconds)))


def _cosigned(text: bytes, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n".encode() + text


def _line(key_name: str, blob: bytes) -> str:
    if not _KEY_NAME.fullmatch(key_name):
        raise UsageError("the name of a checkpoint key holds letters, digits and . _ / - only")
    return f"\u2014 {key_name} {base64.b64encode(blob).decode()}\n"


def note_text(size: int, head: str) -> bytes:
    """The text that is signed: ``size`` events, the last of which has the hash ``head`` (hexadecimal)."""
    return f"{ORIGIN}\n{size}\n{base64.b64encode(bytes.fromhex(head)).decode()}\n".encode()


def check_note(note: bytes, public_keys: Mapping[str, Sequence[bytes]]) -> tuple[int, str]:
    """(number of events, hash of the last one) that ``note`` vouches for; else :class:`NoteRejected`.

    ``public_keys``: name -> the raw 32 bytes of each key that has had it (keys are rotated, names stay). At
    least one signature is by a known name, and each one that claims to be is good.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    unreadable = NoteRejected("checkpoint_unreadable", "not in the form of a checkpoint")
    try:
        body, separator, signatures = note.decode("utf-8").partition("\n\n")
        origin, size_text, root_text = body.split("\n")
        root = base64.b64decode(root_text, validate=True)
        size = int(size_text)
    except (ValueError, binascii.Error):
        raise unreadable from None
    if not separator or origin != ORIGIN or len(root) != 32 or str(size) != size_text or size < 1:
        raise unreadable
    known = 0
    for line in signatures.splitlines():
        match = _SIGNATURE_LINE.fullmatch(line)
        if match is None:
            raise unreadable
        if match[1] not in public_keys:
            continue
        try:
            blob = base64.b64decode(match[2], validate=True)
            key = next((key for key in public_keys[match[1]] if key_id(match[1], key) == blob[:4]), None)
            if key is None:
                raise InvalidSignature
            Ed25519PublicKey.from_public_bytes(key).verify(blob[4:], f"{body}\n".encode())
        except (InvalidSignature, ValueError, binascii.Error):
            raise NoteRejected("checkpoint_signature", f"the signature of key {match[1]} is wrong") from None
        known += 1
    if not known:
        raise NoteRejected("checkpoint_unknown_key", "it is signed by no known key")
    return size, root.hex()


@dataclass(frozen=True)
class Cosignature:
    """What one witness vouches for: it saw a log of ``size`` events at ``time`` (UTC, whole seconds)."""

    witness: str
    size: int
    time: datetime


@dataclass(frozen=True)
class Cosignatures:
    """Those on one note: the good ones, and the names of witnesses whose line does not hold.

    A line by a key that is not known, under whatever name, is neither: a note may have been elsewhere too.
    """

    good: tuple[Cosignature, ...]
    bad: tuple[str, ...]


def cosignatures(note: bytes, witnesses: Mapping[str, Sequence[bytes]]) -> Cosignatures:
    """Look at every line of ``note`` that claims to be by one of ``witnesses`` (name -> raw 32-byte keys).

    ``note`` is one that :func:`check_note` took.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    body, _, lines = note.decode("utf-8").partition("\n\n")
    text, size = f"{body}\n".encode(), int(body.split("\n")[1])
    good: list[Cosignature] = []
    bad: list[str] = []
    for line in lines.splitlines():
        match = _SIGNATURE_LINE.fullmatch(line)
        if match is None or match[1] not in witnesses:
            continue
        name = match[1]
        try:
            blob = base64.b64decode(match[2], validate=True)
            key = next(
                (key for key in witnesses[name] if key_id(name, key, COSIGNATURE_V1) == blob[:4]), None
            )
            if key is None:
                continue
            seconds = int.from_bytes(blob[4:12], "big")
            Ed25519PublicKey.from_public_bytes(key).verify(blob[12:], _cosigned(text, seconds))
            good.append(Cosignature(name, size, datetime.fromtimestamp(seconds, UTC)))
        except (InvalidSignature, ValueError, OverflowError, OSError):
            bad.append(name)
    return Cosignatures(tuple(good), tuple(bad))


def checkpoint_name(size: int) -> str:
    return f"{size:012d}.txt"


def checkpoint_paths(folder: Path) -> list[Path]:
    """The kept checkpoints of the log in ``folder``, oldest first."""
    return sorted((folder / CHECKPOINTS).glob("[0-9]*.txt"))


def notes_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each note in ``folder``, in the order of their names, which is that of their sizes."""
    for path in sorted(folder.glob("[0-9]*.txt")):
        yield path.name, path.read_bytes()


def newest_checkpoint(folder: Path) -> tuple[int, str] | None:
    """Size and head of the newest readable checkpoint, its signature unchecked.

    Enough to notice a cut-off end before the next event is written; ``verify`` checks the signatures.
    """
    for path in reversed(checkpoint_paths(folder)):
        with suppress(ValueError, OSError, binascii.Error):
            _, size, root = path.read_text(encoding="utf-8").split("\n")[:3]
            return int(size), base64.b64decode(root, validate=True).hex()
    return None
