"""The checkpoint: a signed note "origin, number of events, hash of the last of them".

Text format of C2SP ``signed-note`` and ``tlog-checkpoint``: three lines, an empty line, one line per
signature (an em dash, the key's name, base64 of a four-byte key id and the Ed25519 signature over the text).
The root is the head of the hash chain, which commits to every event before it. A witness adds a signature
line of its own and keeps the note outside of the workspace: that copy shows a cut-off or rewritten log.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from infra.audit_line import CHECKPOINTS
from schemas.errors import UsageError

ORIGIN = "wardwatch/audit"
_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_SIGNATURE_LINE = re.compile(r"\u2014 (\S+) ([A-Za-z0-9+/]+=*)")


class NoteRejected(Exception):
    """Why a note does not count. ``kind`` is that of the finding it becomes. Never leaves this package."""

    def __init__(self, kind: str, says: str) -> None:
        super().__init__(says)
        self.kind = kind
        self.says = says


def key_id(name: str, public_key: bytes) -> bytes:
    """Four bytes that tell keys of one name apart (0x01 stands for Ed25519)."""
    return hashlib.sha256(name.encode() + b"\n\x01" + public_key).digest()[:4]


def signature_line(text: bytes, key_name: str, public_key: bytes, sign: Callable[[bytes], bytes]) -> str:
    """The line that signs ``text``. ``sign`` returns the 64-byte Ed25519 signature of its argument."""
    if not _KEY_NAME.fullmatch(key_name):
        raise UsageError("the name of a checkpoint key holds letters, digits and . _ / - only")
    blob = base64.b64encode(key_id(key_name, public_key) + sign(text)).decode()
    return f"\u2014 {key_name} {blob}\n"


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


def checkpoint_path(folder: Path, size: int) -> Path:
    return folder / CHECKPOINTS / f"{size:012d}.txt"


def checkpoint_paths(folder: Path) -> list[Path]:
    """The kept checkpoints of the log in ``folder``, oldest first."""
    return sorted((folder / CHECKPOINTS).glob("[0-9]*.txt"))


def newest_checkpoint(folder: Path) -> tuple[int, str] | None:
    """Size and head of the newest readable checkpoint, its signature unchecked.

    Enough to notice a cut-off end before the next event is written; ``verify`` checks the signatures.
    """
    for path in reversed(checkpoint_paths(folder)):
        with suppress(ValueError, OSError, binascii.Error):
            _, size, root = path.read_text(encoding="utf-8").split("\n")[:3]
            return int(size), base64.b64decode(root, validate=True).hex()
    return None
