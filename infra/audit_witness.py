"""The witness: an auditor on another machine, who remembers the log and countersigns only what continues it.

The auditor's state is a folder that the log's owner cannot write:

``witness.json``   the auditor's name and public key, and the keys under which the log signs its checkpoints,
                   pinned at the first visit; a newer list has to contain them all (keys are rotated, not swapped)
``events.txt``     the hash of every event that was countersigned, one a line, so that a log that was rewritten is
                   told from which line on
``NNNNNNNNNNNN.txt``  the countersigned checkpoints, named after their sizes

A log alone can show different people different lines, be cut off, or be written anew from its first line, and its
own chain and signatures still hold. It cannot do so to a witness who remembers: :func:`visit` refuses a log that is
shorter than, or different from, what was countersigned before. Format: C2SP ``tlog-cosignature``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from infra.audit_checkpoint import (
    CHECKPOINT_KEY,
    Cosignature,
    NoteRejected,
    check_note,
    cosignature_line,
    cosignatures,
    notes_in,
)
from infra.audit_finding import Finding, tampering
from infra.audit_line import CHECKPOINTS, LOG, parse_line
from infra.audit_verify import verify
from infra.files import make_folder, storage_errors, write_atomic
from infra.signing import SigningKey, canonical_json, parse_canonical
from schemas.errors import IntegrityError, UsageError

WITNESS_KEY = "wardwatch-auditor"
_ABOUT = "witness.json"
_EVENTS = "events.txt"


@dataclass(frozen=True)
class Visit:
    """What a visit found. ``note`` is the countersigned checkpoint, None if there was nothing to countersign.

    ``size``: events that are countersigned now; ``new``: how many of them since the visit before; ``unsigned``:
    events after them that no checkpoint of the log vouches for yet. ``findings`` has what else is worth reading,
    or what is wrong: then nothing was countersigned and nothing remembered.
    """

    findings: list[Finding]
    note: bytes | None = None
    size: int = 0
    new: int = 0
    unsigned: int = 0


def visit(
    log_folder: Path,
    state: Path,
    key: SigningKey,
    now: datetime,
    log_keys: Sequence[bytes] | None = None,
    *,
    name: str = WITNESS_KEY,
) -> Visit:
    """Verify the log in ``log_folder``, hold it against ``state``, and countersign its newest checkpoint.

    ``key`` is the auditor's, ``log_keys`` the raw 32-byte public keys of the log's checkpoints: needed at the
    first visit and whenever one was added. Nothing is written into ``log_folder``. A log with a finding that
    :func:`tampering` keeps was not countersigned.

    Raises :class:`UsageError` without ``log_keys`` at the first visit or for another auditor's key, and
    :class:`IntegrityError` for a state that contradicts itself or keys that leave out a pinned one.
    """
    if name == CHECKPOINT_KEY:
        raise UsageError("a witness does not sign under the name of the log")
    memory = _Memory.of(state, name, bytes.fromhex(key.public), log_keys)
    findings = verify(log_folder, {CHECKPOINT_KEY: memory.log_keys})
    hashes = _event_hashes(log_folder)
    findings += memory.contradictions(hashes, log_folder)
    if tampering(findings):
        return Visit(sorted(findings, key=lambda finding: finding.line))
    newest = _newest_sound_checkpoint(log_folder, memory.log_keys, hashes)
    if newest is None:
        return Visit(findings, size=len(memory.hashes), unsigned=len(hashes) - len(memory.hashes))
    size, note = newest
    before = len(memory.hashes)
    if size <= before:
        return Visit(findings, memory.newest_note, before, 0, len(hashes) - before)
    text = note.partition(b"\n\n")[0] + b"\n"
    line = cosignature_line(text, name, bytes.fromhex(key.public), _signer(key), now)
    countersigned = note + line.encode()
    memory.remember(hashes[:size], countersigned)
    return Visit(findings, countersigned, size, size - before, len(hashes) - size)


def _signer(key: SigningKey) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(bytes(key.secret_bytes())).sign


def _event_hashes(folder: Path) -> list[str]:
    """The ``h`` of every readable line. Where :func:`verify` finds no tampering that is every event, in order."""
    path = folder / LOG
    if path.is_symlink() or not path.is_file():
        return []
    with storage_errors("the audit log's reader"), path.open("rb") as stream:
        entries = (parse_line(raw[:-1]) for raw in stream if raw.endswith(b"\n"))
        return [entry["h"] for entry in entries if entry is not None]


def _newest_sound_checkpoint(
    folder: Path, log_keys: Sequence[bytes], hashes: Sequence[str]
) -> tuple[int, bytes] | None:
    """(size, note) of the newest checkpoint. They have all been held against the log already."""
    for _, note in reversed(list(notes_in(folder / CHECKPOINTS))):
        size, _ = check_note(note, {CHECKPOINT_KEY: log_keys})
        return (size, note) if size <= len(hashes) else None
    return None


@dataclass
class _Memory:
    """The auditor's state."""

    folder: Path
    name: str
    public: bytes
    log_keys: list[bytes]
    hashes: list[str]
    newest_note: bytes | None

    @classmethod
    def of(cls, folder: Path, name: str, public: bytes, log_keys: Sequence[bytes] | None) -> _Memory:
        """The state in ``folder``, with ``log_keys`` taken over; a new one, not yet written, if there is none."""
        path = folder / _ABOUT
        if not path.exists():
            if folder.is_dir() and any(notes_in(folder)):
                raise _contradiction("witness.json is missing")
            if not log_keys:
                raise UsageError(
                    "the first visit needs the public keys of the log",
                    next_step="give --log-keys with a copy of keys/public.json that came by another way",
                )
            return cls(folder, name, public, list(log_keys), [], None)
        found = read_state(folder)
        if (found.name, found.public) != (name, public):
            raise UsageError("this state folder belongs to another auditor's key")
        if log_keys is not None:
            if not set(found.log_keys) <= set(log_keys):
                raise IntegrityError(
                    "the log's list of keys leaves out one that this auditor has pinned",
                    next_step="treat it as an incident: keys are added by a rotation and never leave the list",
                )
            found.log_keys = list(log_keys)
        return found

    def contradictions(self, hashes: Sequence[str], log_folder: Path) -> list[Finding]:
        """Where the log is not a continuation of what was countersigned."""
        mine = self.hashes
        for seq, (before, there) in enumerate(zip(mine, hashes, strict=False), start=1):
            if before != there:
                says = f"from event {seq} on this is not the log that was countersigned"
                return [Finding("split_view", says, _line_of(log_folder, seq))]
        if len(hashes) < len(mine):
            says = f"the {len(mine) - len(hashes)} event(s) that followed were countersigned and are gone"
            return [Finding("truncated", says, _line_of(log_folder, len(hashes)))]
        return []

    def remember(self, hashes: Sequence[str], note: bytes) -> None:
        """Write the state; the note comes last but for the list of hashes, which may so be longer by a crash."""
        make_folder(self.folder)
        about = {
            "v": 1,
            "name": self.name,
            "public": self.public.hex(),
            "log_keys": [key.hex() for key in self.log_keys],
        }
        write_atomic(self.folder / _ABOUT, canonical_json(about))
        write_atomic(self.folder / _EVENTS, "".join(f"{h}\n" for h in hashes).encode())
        write_atomic(self.folder / f"{len(hashes):012d}.txt", note)


def _line_of(folder: Path, seq: int) -> int:
    """On which line of the file event number ``seq`` in order stands; 0 if nowhere."""
    path = folder / LOG
    if seq < 1 or not path.is_file():
        return 0
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            seq -= parse_line(raw[:-1]) is not None
            if seq == 0:
                return number
    return 0


def read_state(folder: Path) -> _Memory:
    """An auditor's state folder. Raises :class:`IntegrityError` if it is none or contradicts itself."""
    try:
        about = parse_canonical((folder / _ABOUT).read_bytes())
        name, public = str(about["name"]), bytes.fromhex(about["public"])
        log_keys = [bytes.fromhex(key) for key in about["log_keys"]]
        hashes = (folder / _EVENTS).read_text(encoding="ascii").split()
    except (OSError, KeyError, TypeError, ValueError):
        raise _contradiction("it does not read as one") from None
    notes = list(notes_in(folder))
    reach = 0
    for _, note in notes:
        try:
            size, head = check_note(note, {CHECKPOINT_KEY: log_keys})
        except NoteRejected:
            raise _contradiction("a checkpoint in it is not the log's") from None
        if not [one for one in cosignatures(note, {name: [public]}).good if one.size == size]:
            raise _contradiction("a checkpoint in it was not countersigned by its auditor")
        if size > len(hashes) or hashes[size - 1] != head:
            raise _contradiction("its events are not those of its checkpoints")
        reach = max(reach, size)
    # A visit that was killed leaves hashes without their note: they were not countersigned.
    return _Memory(folder, name, public, log_keys, hashes[:reach], notes[-1][1] if notes else None)


def _contradiction(why: str) -> IntegrityError:
    return IntegrityError(
        f"the auditor's state folder is not what was written: {why}",
        next_step="restore it from the auditor's own backup; a new one would forget what was witnessed",
    )


# What the log's own side does with it -------------------------------------------------------------------


def witnessed_name(note: bytes) -> str:
    """The file name under which a countersigned note is kept: its size, and the start of its digest."""
    size = int(note.split(b"\n")[1])
    return f"{size:012d}-{hashlib.sha256(note).hexdigest()[:12]}.txt"


def accepted(
    note: bytes, public_keys: Mapping[str, Sequence[bytes]], witnesses: Mapping[str, Sequence[bytes]]
) -> Cosignature:
    """The countersignature on a note that was carried back. Raises :class:`IntegrityError` if it is not one.

    The note has to be a checkpoint of this log (``public_keys``), with a good line by one of ``witnesses``.
    """
    try:
        check_note(note, public_keys)
    except NoteRejected as rejected:
        raise IntegrityError(f"this is no checkpoint of this log: {rejected.says}") from None
    found = cosignatures(note, witnesses)
    if found.bad or not found.good:
        raise IntegrityError(
            "this checkpoint has no good countersignature by an auditor known here",
            next_step="enrol the auditor's public key, or ask for the note again",
        )
    return found.good[0]


def carried_notes(path: Path) -> tuple[list[tuple[str, bytes]], dict[str, list[bytes]]]:
    """(name, content) of the notes in ``path``, and the auditor's key if it is a state folder.

    ``path`` is a countersigned checkpoint, a folder of them, or an auditor's state folder. Raises
    :class:`UsageError` if there is none.
    """
    try:
        if not path.is_dir():
            return [(path.name, path.read_bytes())], {}
        notes = list(notes_in(path))
    except OSError:
        raise UsageError("the witness's checkpoint cannot be read", next_step="check the path") from None
    if not notes:
        raise UsageError("there is no countersigned checkpoint in that folder", next_step="check the path")
    if not (path / _ABOUT).exists():
        return notes, {}
    state = read_state(path)
    return notes, {state.name: [state.public]}


def against_state(log_folder: Path, state: Path) -> list[Finding]:
    """Where the log is not a continuation of what the auditor's ``state`` remembers, to the line."""
    return read_state(state).contradictions(_event_hashes(log_folder), log_folder)
