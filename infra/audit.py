"""The audit log: who touched what, when, why, and whether it was allowed. Append-only and hash-chained.

:meth:`AuditLog.record` returns once the line is durable on every sink; otherwise it raises
:class:`AuditUnavailable` (exit code 74), and what was to be recorded must not happen. Around each append it
looks whether the log is still the same regular file with one name that grew by what was written: a log can be
unlinked, replaced or cut off while it is open, and writing to an unlinked file raises nothing.

A line that a crash tore is never trimmed. The next event is an ``audit.recovered`` with the number and digest
of the torn bytes, which stay where they are.

The line's form is in ``audit_line``, the signed checkpoints in ``audit_checkpoint``, what is wrong with a log
in ``audit_verify``. Honest limit: whoever can write this folder as root can rewrite what came after the last
checkpoint that left the machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.audit_checkpoint import checkpoint_path, newest_checkpoint, note_text, signature_line
from infra.audit_line import (
    CHECKPOINTS,
    FIRST_PREV,
    LOG,
    STARTED,
    VERSION,
    Decision,
    Event,
    canonical,
    checked_code,
    checked_fields,
    checked_name,
    event_of,
    is_whole_object,
    line_hash,
    parse_line,
)
from infra.audit_verify import Finding, tampering, verify
from infra.commit_points import commit_point
from infra.files import FILE_MODE, make_folder, storage_errors, sync_folder, write_atomic
from schemas.errors import AuditUnavailable, IntegrityError, UsageError, WardwatchError

__all__ = ["AuditLog", "Decision", "Event", "Finding", "read", "verify"]

LOCK_TIMEOUT_SECONDS = 10.0  # far longer than an append; a lock that is held longer means a stuck process
_TAIL_BYTES = 1 << 16  # holds many lines; the end of the log is read back in steps of at least this
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class _Head:
    """The end of a sink as this writer last saw it."""

    inode: int
    size: int
    seq: int
    h: str


class AuditLog:
    """A writer of the log in ``folder`` (made if missing), on behalf of one person in one role.

    ``clock`` returns the time with a time zone. ``second_sink`` is another folder, best on another disk or
    host: it holds the same bytes, a line counts once it is durable in both, and a second sink that fell
    behind in a crash is brought up and the fact recorded. Several processes and threads may write at once.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], datetime],
        person: str,
        role: str,
        *,
        second_sink: Path | None = None,
        lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
    ) -> None:
        self.folder = folder
        self.second_sink = second_sink
        self.person = checked_name(person, "the person")
        self.role = checked_code(role, "the role", empty=False)
        self._clock = clock
        self._timeout = lock_timeout_seconds
        self._head: _Head | None = None
        self._second_head: _Head | None = None

    def record(
        self,
        action: str,
        object: str,
        *,
        purpose: str,
        case: str = "",
        decision: Decision = "allow",
        reason_code: str = "",
        counts: Mapping[str, int] | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> Event:
        """Append one event and return it once it is durable.

        ``action`` is dotted lower case (``vault.open``), ``object`` the id of what it was done to (ten digits
        in a row are taken for an NHS number), ``purpose`` and ``reason_code`` are codes and may be empty,
        ``case`` is the id of a case review. ``counts``: name -> integer. ``digests``: name -> lower-case
        hexadecimal, never an unkeyed hash of an identifier.

        Raises :class:`AuditUnavailable` if it could not be made durable, :class:`UsageError` for a field of
        the wrong shape and :class:`IdentifierInText` for one that looks like an identifier.
        """
        fields = checked_fields(
            self.person,
            self.role,
            action,
            object,
            purpose=purpose,
            case=case,
            decision=decision,
            reason_code=reason_code,
            counts=counts,
            digests=digests,
        )
        with self._locked():
            self._settle()
            commit_point("audit.record.before_append")
            event = self._append(fields)
            commit_point("audit.record.after_append")
            return event

    def checkpoint(self, *, key_name: str, public_key: bytes, sign: Callable[[bytes], bytes]) -> str:
        """Sign the log as it stands; returns the note, which is also kept in ``checkpoints/`` of each sink.

        ``sign`` returns the 64-byte Ed25519 signature of its argument, ``public_key`` is the raw 32-byte key.
        Print or send the note somewhere else too: that copy is what shows a log that was cut off. The whole
        log is verified first, and :class:`IntegrityError` raised if it was changed: a checkpoint never
        blesses that.
        """
        with self._locked():
            head = self._settle()
            if head.seq == 0:
                raise UsageError("the audit log has no events to sign yet")
            bad = tampering(verify(self.folder, None, second_sink=self.second_sink))
            if bad:
                raise IntegrityError(
                    f"no checkpoint: the audit log was changed ({bad[0].kind}, line {bad[0].line})",
                    next_step="run `wardwatch audit verify` and treat it as an incident",
                )
            text = note_text(head.seq, head.h)
            note = f"{text.decode()}\n{signature_line(text, key_name, public_key, sign)}"
            commit_point("audit.checkpoint.before_write")
            for sink in self._sinks():
                make_folder(sink / CHECKPOINTS)
                path = checkpoint_path(sink, head.seq)
                if not path.exists():
                    write_atomic(path, note.encode())
            commit_point("audit.checkpoint.after_write")
            return note

    def _sinks(self) -> list[Path]:
        return [self.folder] if self.second_sink is None else [self.folder, self.second_sink]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the one lock of the log, waiting only so long: a stuck writer must not hang a night.

        Whatever goes wrong inside is an :class:`AuditUnavailable`, and this writer forgets what it knew.
        """
        try:
            make_folder(self.folder)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(self.folder / "log.lock", flags, FILE_MODE)
            try:
                self._wait_for_lock(descriptor)
                yield
            finally:
                os.close(descriptor)
        except OSError as error:
            self._head = self._second_head = None
            what = os.strerror(error.errno) if error.errno else "unknown error"
            raise _unavailable(f"the audit log could not be written: {what}") from None
        except WardwatchError as error:
            self._head = self._second_head = None
            if error.code.startswith("storage."):
                raise _unavailable(f"the audit log could not be written: {error.message}") from None
            raise

    def _wait_for_lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    held = f"another process has held the audit log for {self._timeout:g} seconds"
                    raise _unavailable(held) from None
                time.sleep(0.002)

    # where the log ends --------------------------------------------------------------------------------

    def _settle(self) -> _Head:
        """Bring log and second sink into a state that can be appended to; returns where the log ends."""
        head = self._end_of_log()
        if self.second_sink is not None and self._follow(self.second_sink, head):
            head = self._end_of_log()
        return head

    def _end_of_log(self) -> _Head:
        path = self.folder / LOG
        begun = (self.folder / STARTED).exists()
        if begun and not os.path.lexists(path):
            raise _unavailable("the audit log is missing although it was begun")
        with _opened(path) as descriptor:
            status = os.fstat(descriptor)
            known = self._head
            if known is not None:
                if known.inode != status.st_ino or known.size > status.st_size:
                    raise _unavailable("the audit log was replaced or cut off while in use")
                if known.size == status.st_size:
                    return known
            head, torn = _read_end(descriptor, status)
            signed = newest_checkpoint(self.folder)
            if head.seq == 0 and (begun or signed):
                raise _unavailable("the audit log is empty although it was begun")
            if signed and (head.seq < signed[0] or (head.seq == signed[0] and head.h != signed[1])):
                raise _unavailable("the audit log ends before its last checkpoint, or is another one")
            self._head = head
            if torn:
                self._recover(descriptor, torn)
        return self._head

    def _recover(self, descriptor: int, torn: bytes) -> None:
        """Close a torn line and append the event that accounts for its bytes, which stay where they are."""
        assert self._head is not None
        whole = parse_line(torn)
        if whole is not None and line_hash(whole) == whole["h"] and whole["prev"] == self._head.h:
            # Nothing was lost but the end of the line: the event counts.
            self._head = replace(self._head, seq=whole["seq"], h=whole["h"])
            torn = b""
        fields = checked_fields(
            self.person,
            self.role,
            "audit.recovered",
            "log",
            reason_code="torn_line" if torn else "line_end_was_missing",
            counts={"bytes": len(torn)},
            digests={"torn": hashlib.sha256(torn).hexdigest()},
        )
        entry = self._entry(fields)
        newline = b"" if torn.endswith(b"\n") else b"\n"
        size = _write(descriptor, newline + canonical(entry) + b"\n")
        self._head = _Head(os.fstat(descriptor).st_ino, size, entry["seq"], entry["h"])

    def _follow(self, sink: Path, head: _Head) -> bool:
        """Give the second sink what a crash kept from it, and record that; True if it lacked anything.

        Lines are written to the log first, so the second sink may be shorter, and nothing else.
        """
        make_folder(sink)
        path = sink / LOG
        if (sink / STARTED).exists() and not os.path.lexists(path):
            raise _unavailable("the second sink of the audit log is missing although it was begun")
        with _opened(path) as descriptor:
            status = os.fstat(descriptor)
            known = self._second_head
            if known is not None and (known.inode != status.st_ino or known.size > status.st_size):
                raise _unavailable("the second sink of the audit log was replaced or cut off while in use")
            if known is not None and known.size == status.st_size == head.size:
                return False
            if status.st_size > head.size:
                raise _unavailable("the audit log is shorter than its second sink")
            reach = min(_TAIL_BYTES, status.st_size)
            with _opened(self.folder / LOG) as log:
                if os.pread(log, reach, status.st_size - reach) != os.pread(
                    descriptor, reach, status.st_size - reach
                ):
                    raise _unavailable("the two sinks of the audit log hold different lines")
                lacking = head.size - status.st_size
                at = status.st_size
                while at < head.size:
                    at = _write(descriptor, os.pread(log, min(_COPY_BYTES, head.size - at), at))
            self._second_head = _Head(status.st_ino, head.size, head.seq, head.h)
        if not lacking:
            return False
        _mark_begun(sink)
        self._append(
            checked_fields(
                self.person,
                self.role,
                "audit.recovered",
                "log",
                reason_code="second_sink_was_behind",
                counts={"bytes": lacking},
            )
        )
        return True

    # appending -------------------------------------------------------------------------------------------

    def _entry(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        assert self._head is not None, "the end of the log is known before anything is appended"
        now = self._clock()
        if now.tzinfo is None:
            raise UsageError("the audit clock must carry a time zone")
        stamp = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry = {**fields, "v": VERSION, "seq": self._head.seq + 1, "time": stamp, "prev": self._head.h}
        entry["h"] = line_hash(entry)
        return entry

    def _append(self, fields: Mapping[str, Any]) -> Event:
        entry = self._entry(fields)
        line = canonical(entry) + b"\n"
        self._head = _append_to(self.folder, line, entry, self._head)
        if self.second_sink is not None:
            self._second_head = _append_to(self.second_sink, line, entry, self._second_head)
        return event_of(entry)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The log for appending, if it is a regular file with one name; looked at again before it is closed."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, FILE_MODE)
    try:
        _check_file(path, descriptor)
        yield descriptor
        _check_file(path, descriptor)
    finally:
        os.close(descriptor)


def _check_file(path: Path, descriptor: int) -> None:
    held = os.fstat(descriptor)
    if not stat.S_ISREG(held.st_mode):
        raise _unavailable("the audit log is not a regular file")
    try:
        named = os.lstat(path)
    except FileNotFoundError:
        raise _unavailable("the audit log was removed while in use") from None
    if (named.st_ino, named.st_dev) != (held.st_ino, held.st_dev):
        raise _unavailable("the audit log was replaced while in use")
    if held.st_nlink != 1:
        raise _unavailable("the audit log has more than one name")


def _append_to(sink: Path, line: bytes, entry: Mapping[str, Any], known: _Head | None) -> _Head:
    with _opened(sink / LOG) as descriptor:
        status = os.fstat(descriptor)
        if known is None or (status.st_ino, status.st_size) != (known.inode, known.size):
            raise _unavailable("the audit log changed under its writer")
        size = _write(descriptor, line)
        _mark_begun(sink)
    return _Head(status.st_ino, size, entry["seq"], entry["h"])


def _mark_begun(sink: Path) -> None:
    if not (sink / STARTED).exists():
        sync_folder(sink)
        write_atomic(sink / STARTED, b"")


def _write(descriptor: int, data: bytes) -> int:
    """Append ``data`` durably; returns the new size, which must have grown by exactly that."""
    before = os.fstat(descriptor).st_size
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)
    size = os.fstat(descriptor).st_size
    if size != before + len(data):
        raise _unavailable("the audit log did not grow by what was written to it")
    return size


def _read_end(descriptor: int, status: os.stat_result) -> tuple[_Head, bytes]:
    """Where the last whole line ends, and the torn bytes behind it. Reads back no further than it must."""
    size = status.st_size
    reach = 0
    while True:
        reach = min(size, max(_TAIL_BYTES, reach * 4))
        tail = os.pread(descriptor, reach, size - reach)
        end = len(tail)
        while end > 0:
            start = tail.rfind(b"\n", 0, end - 1) + 1
            if start == 0 and reach < size:
                break  # the line may begin before what was read
            line = tail[start:end]
            entry = parse_line(line[:-1]) if line.endswith(b"\n") else None
            if entry is not None and line_hash(entry) == entry["h"]:
                return _Head(status.st_ino, size, entry["seq"], entry["h"]), tail[end:]
            if line.endswith(b"\n") and is_whole_object(line):
                raise _unavailable("the last line of the audit log was changed")
            end = start
        if reach == size:
            return _Head(status.st_ino, size, 0, FIRST_PREV), tail[end:]


def _unavailable(message: str) -> AuditUnavailable:
    return AuditUnavailable(
        message, next_step="nothing was done; see to the audit folder, then run `wardwatch audit verify`"
    )


# reading -------------------------------------------------------------------------------------------------


def read(
    folder: Path,
    *,
    person: str | None = None,
    role: str | None = None,
    action: str | None = None,
    object: str | None = None,
    purpose: str | None = None,
    case: str | None = None,
    decision: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[Event]:
    """The events of the log in order, those that meet every given condition.

    ``action`` matches itself and everything below it (``vault`` matches ``vault.open``); ``since`` is
    inclusive, ``until`` exclusive, both with a time zone. A line that cannot be read is left out here and
    reported by :func:`verify`.
    """
    conditions = {"person": person, "role": role, "object": object, "purpose": purpose, "case": case}
    wanted = {name: value for name, value in conditions.items() if value is not None}
    if decision is not None:
        wanted["decision"] = decision
    path = folder / LOG
    if not path.exists():
        return
    with storage_errors("the audit log's reader"), path.open("rb") as stream:
        for raw in stream:
            entry = parse_line(raw.rstrip(b"\n"))
            if entry is None or any(entry[name] != value for name, value in wanted.items()):
                continue
            if action is not None and not f"{entry['action']}.".startswith(f"{action}."):
                continue
            with suppress(ValueError):
                event = event_of(entry)
                if (since is None or event.time >= since) and (until is None or event.time < until):
                    yield event


def checkpoint_is_due(folder: Path, now: datetime, *, events: int = 1000, hours: int = 24) -> bool:
    """Whether ``events`` have been written since the last checkpoint, or the oldest of them ``hours`` ago."""
    signed = newest_checkpoint(folder)
    pending = [event for event in read(folder) if signed is None or event.seq > signed[0]]
    if not pending:
        return False
    return len(pending) >= events or (now - pending[0].time).total_seconds() >= hours * 3600
