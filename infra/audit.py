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
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.audit_checkpoint import (
    CHECKPOINT_KEY,
    checkpoint_name,
    newest_checkpoint,
    note_text,
    signature_line,
)
from infra.audit_file import Head, append_to, is_there, opened, read_end, unavailable, write_durably
from infra.audit_finding import Finding, tampering
from infra.audit_intent import BEGUN, INTENT, RECOVERED, ActionOutcome, Found, unfinished
from infra.audit_line import (
    CHECKPOINTS,
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
    line_hash,
    parse_line,
)
from infra.audit_patience import Patience
from infra.audit_sink import FolderSink, SecondSink, second_sink
from infra.audit_verify import verify
from infra.commit_points import commit_point
from infra.files import FILE_MODE, make_folder, storage_errors, write_atomic
from infra.signing import SigningKey
from schemas.errors import AuditUnavailable, IntegrityError, UsageError, WardwatchError

__all__ = [
    "ActionOutcome",
    "AuditLog",
    "AuditUnavailable",
    "Decision",
    "Event",
    "Finding",
    "read",
    "second_sink",
    "unfinished",
    "verify",
]

LOCK_TIMEOUT_SECONDS = 10.0  # far longer than an append; a lock that is held longer means a stuck process
SINK_TIMEOUT_SECONDS = 20.0  # without any progress; longer than a server's own time limits add up to
CHECKPOINT_TIMEOUT_SECONDS = 600.0  # it reads the whole log


class AuditLog:
    """A writer of the log in ``folder`` (made if missing), on behalf of one person in one role.

    ``clock`` returns the time with a time zone. ``second_sink`` is what :func:`second_sink` made of the setting,
    or a folder: a line counts once it is durable in both, and a second sink that fell behind in a crash is
    brought up and the fact recorded. Several processes and threads may write at once. A lock that does not come
    free and a disk or server that does not answer are waited for so long and no longer.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], datetime],
        person: str,
        role: str,
        *,
        second_sink: Path | SecondSink | None = None,
        lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
        sink_timeout_seconds: float = SINK_TIMEOUT_SECONDS,
    ) -> None:
        self.folder = folder
        self.second_sink = FolderSink(second_sink) if isinstance(second_sink, Path) else second_sink
        self.person = checked_name(person, "the person")
        self.role = checked_code(role, "the role", empty=False)
        self._clock = clock
        self._timeout = lock_timeout_seconds
        self._patience = Patience(sink_timeout_seconds)
        self._head: Head | None = None

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
        if INTENT in (counts or {}):
            raise UsageError(f"the audit count {INTENT} is for actions of two lines")
        return self._record(
            action,
            object,
            purpose=purpose,
            case=case,
            decision=decision,
            reason_code=reason_code,
            counts=counts,
            digests=digests,
        )

    def _record(self, action: str, object: str, **rest: Any) -> Event:
        fields = checked_fields(self.person, self.role, action, object, **rest)

        def append() -> Event:
            with self._locked():
                self._settle()
                commit_point("audit.record.before_append")
                event = self._append(fields)
                commit_point("audit.record.after_append")
                return event

        return self._patience.run(append)

    @contextmanager
    def action(
        self,
        action: str,
        object: str,
        *,
        purpose: str,
        case: str = "",
        counts: Mapping[str, int] | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> Iterator[ActionOutcome]:
        """Do something durable between two lines: what is about to be done, and how it ended.

        ::

            with log.action("lake.write", delivery_id, purpose="nightly") as outcome:
                row = commit(...)
                outcome.counts["rows_kept"] = row.rows_kept

        The first line is durable before the body runs. If the body raises, the second line says ``refuse`` for a
        delivery, person or text that was not taken, else ``fail``, with the code of the error, which goes on.
        Raises :class:`AuditUnavailable` if either line could not be written; after the second the deed is done,
        and its intent is left for :meth:`close_unfinished`.
        """
        common = {"purpose": purpose, "case": case}
        intent = self._record(
            action, object, **common, reason_code=BEGUN, counts={**(counts or {}), INTENT: 0}, digests=digests
        )
        outcome = ActionOutcome()
        try:
            yield outcome
        except BaseException as error:
            outcome.failed(error)
            # What stopped the action is what the person needs to hear; the intent stays open.
            with suppress(AuditUnavailable):
                self._end(intent, outcome)
            raise
        self._end(intent, outcome)

    def _end(self, intent: Event, outcome: ActionOutcome) -> Event:
        return self._record(
            intent.action,
            intent.object,
            purpose=intent.purpose,
            case=intent.case,
            decision=outcome.decision,
            reason_code=outcome.reason_code,
            counts={**outcome.counts, INTENT: intent.seq},
            digests=outcome.digests,
        )

    def close_unfinished(
        self, actions: Iterable[str], judge: Callable[[Event], Found] = lambda _intent: "unknown"
    ) -> list[Event]:
        """Write the missing second line of every intent among ``actions`` that a killed run left behind.

        Call it when nobody else can be doing one of ``actions`` (with the lock under which they are done).
        ``judge`` looks at what there is and says whether the deed was done. Returns the lines written, whose
        reason codes are ``recovered_done``, ``recovered_not_done`` or ``recovered_outcome_unknown``.
        """
        with storage_errors("the audit log's reader"):
            pending = unfinished(self.folder, actions)
        closed = []
        for intent in pending:
            decision, reason = RECOVERED[judge(intent)]
            closed.append(self._end(intent, ActionOutcome(decision=decision, reason_code=reason)))
        return closed

    def checkpoint(self, *, key_name: str, public_key: bytes, sign: Callable[[bytes], bytes]) -> str:
        """Sign the log as it stands; returns the note, which is also kept in ``checkpoints/`` of each sink.

        ``sign`` returns the 64-byte Ed25519 signature of its argument, ``public_key`` is the raw 32-byte key.
        Print or send the note somewhere else too: that copy is what shows a log that was cut off. The whole
        log is verified first, and :class:`IntegrityError` raised if it was changed: a checkpoint never
        blesses that.
        """

        def make() -> str:
            with self._locked():
                return self._checkpoint(key_name, public_key, sign)

        return Patience(CHECKPOINT_TIMEOUT_SECONDS).run(make)

    def checkpoint_with(self, key: SigningKey) -> str:
        """:meth:`checkpoint` with the pipeline's key of that purpose."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.from_private_bytes(bytes(key.secret_bytes()))
        return self.checkpoint(
            key_name=CHECKPOINT_KEY, public_key=bytes.fromhex(key.public), sign=private.sign
        )

    def _checkpoint(self, key_name: str, public_key: bytes, sign: Callable[[bytes], bytes]) -> str:
        head = self._settle()
        if head.seq == 0:
            raise UsageError("the audit log has no events to sign yet")
        # A bucket is not read back in full each time: none of its objects can be changed.
        folder_sink = self.second_sink if isinstance(self.second_sink, FolderSink) else None
        bad = tampering(verify(self.folder, None, second_sink=folder_sink))
        if bad:
            raise IntegrityError(
                f"no checkpoint: the audit log was changed ({bad[0].kind}, line {bad[0].line})",
                next_step="run `wardwatch audit verify` and treat it as an incident",
            )
        text = note_text(head.seq, head.h)
        note = f"{text.decode()}\n{signature_line(text, key_name, public_key, sign)}"
        commit_point("audit.checkpoint.before_write")
        self._keep(CHECKPOINTS, checkpoint_name(head.seq), note.encode())
        commit_point("audit.checkpoint.after_write")
        return note

    def keep_note(self, kind: str, name: str, content: bytes) -> None:
        """Keep a note beside the log in both sinks, unless there is one of that name."""

        def keep() -> None:
            with self._locked():
                self._keep(kind, name, content)

        self._patience.run(keep)

    def _keep(self, kind: str, name: str, content: bytes) -> None:
        path = make_folder(self.folder / kind) / name
        if not path.exists():
            write_atomic(path, content)
        if self.second_sink is not None:
            self.second_sink.keep(kind, name, path.read_bytes())

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
            self._forget()
            what = os.strerror(error.errno) if error.errno else "unknown error"
            raise unavailable(f"the audit log could not be written: {what}") from None
        except WardwatchError as error:
            self._forget()
            if error.code.startswith("storage."):
                raise unavailable(f"the audit log could not be written: {error.message}") from None
            raise

    def _forget(self) -> None:
        self._head = None
        if self.second_sink is not None:
            self.second_sink.forget()

    def _wait_for_lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    held = f"another process has held the audit log for {self._timeout:g} seconds"
                    raise unavailable(held) from None
                time.sleep(0.002)
            finally:
                self._patience.progress()  # this wait has its own end

    # where the log ends --------------------------------------------------------------------------------

    def _settle(self) -> Head:
        """Bring log and second sink into a state that can be appended to; returns where the log ends."""
        head = self._end_of_log()
        if self.second_sink is None:
            return head
        mark = self._mark_of(self.second_sink)
        begun = mark.exists()
        lacked = self.second_sink.follow(self.folder / LOG, head, begun, self._patience.progress)
        if head.seq and not begun:
            write_atomic(mark, b"")
        if not lacked:
            return head
        self._append(
            checked_fields(
                self.person,
                self.role,
                "audit.recovered",
                "log",
                reason_code="second_sink_was_behind",
                counts={"bytes": lacked},
            )
        )
        return self._end_of_log()

    def _mark_of(self, sink: SecondSink) -> Path:
        """Beside the log: it exists once ``sink`` has held a line, so that an emptied one is not filled up again."""
        return self.folder / f"second_sink.{hashlib.sha256(sink.name.encode()).hexdigest()[:16]}.started"

    def _end_of_log(self) -> Head:
        path = self.folder / LOG
        begun = (self.folder / STARTED).exists()
        if begun and not os.path.lexists(path):
            raise unavailable("the audit log is missing although it was begun")
        with opened(path) as descriptor:
            status = os.fstat(descriptor)
            known = self._head
            if known is not None:
                if known.inode != status.st_ino or known.size > status.st_size:
                    raise unavailable("the audit log was replaced or cut off while in use")
                if known.size == status.st_size:
                    return known
            head, torn = read_end(descriptor, status)
            signed = newest_checkpoint(self.folder)
            if head.seq == 0 and (begun or signed):
                raise unavailable("the audit log is empty although it was begun")
            if signed and (head.seq < signed[0] or (head.seq == signed[0] and head.h != signed[1])):
                raise unavailable("the audit log ends before its last checkpoint, or is another one")
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
        size = write_durably(descriptor, newline + canonical(entry) + b"\n")
        self._head = Head(os.fstat(descriptor).st_ino, size, entry["seq"], entry["h"])

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
        self._head = append_to(self.folder, line, entry, self._head)
        if self.second_sink is not None:
            self._patience.progress()
            self.second_sink.append(line, entry)
        return event_of(entry)


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
    reported by :func:`verify`. Raises :class:`AuditUnavailable` if what lies there is no file.
    """
    conditions = {"person": person, "role": role, "object": object, "purpose": purpose, "case": case}
    wanted = {name: value for name, value in conditions.items() if value is not None}
    if decision is not None:
        wanted["decision"] = decision
    path = folder / LOG
    if not is_there(path):
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
