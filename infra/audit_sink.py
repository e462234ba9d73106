"""The second sink: the place besides the audit folder where every line has to be durable before it counts.

It is a folder, best on another disk or host, or a bucket whose objects nobody can change or remove for years (see
``audit_object_store``). Lines are written to the log first, so after a crash the second sink may lack the last
ones, and nothing else; the next writer brings it up and records that.

A folder can be made append-only by the machine (``chattr +a`` on the log, as root, on ext4, XFS and Btrfs); that
is not done here, for it takes rights that no part of this program should have.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from infra.audit_checkpoint import newest_checkpoint, notes_in
from infra.audit_file import Head, append_to, mark_begun, opened, read_end, unavailable, write_durably
from infra.audit_finding import Finding
from infra.audit_line import LOG, STARTED
from infra.files import make_folder, write_atomic

_TAIL_BYTES = 1 << 16
_COPY_BYTES = 1 << 20
_BLOCK = 1 << 20


class SecondSink(Protocol):
    """What a writer, and a verifier, ask of a second sink. Everything may raise :class:`AuditUnavailable`."""

    @property
    def name(self) -> str:
        """Where it is: another name is another sink."""

    def follow(self, log: Path, head: Head, begun: bool, progress: Callable[[], None]) -> int:
        """Give the sink what a crash kept from it; returns how many bytes it lacked. ``log`` ends at ``head``.

        ``begun``: it has held lines before, so it may be behind, and is never taken for a new one.
        """

    def append(self, line: bytes, entry: Mapping[str, Any]) -> None:
        """Make the line that follows durable."""

    def keep(self, kind: str, name: str, content: bytes) -> None:
        """Keep a note (``kind`` ``checkpoints`` or ``witnessed``), if there is none of that name."""

    def notes(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """(name, content) of the notes of that kind, in the order of their names."""

    def forget(self) -> None:
        """Forget what was seen of the sink's end: something went wrong."""

    def differences(self, log: Path) -> list[Finding]:
        """Where sink and ``log`` do not hold the same."""


class FolderSink:
    """A second sink that is a folder and holds the same bytes as the audit folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._head: Head | None = None

    @property
    def name(self) -> str:
        return str(self.folder.absolute())

    def follow(self, log: Path, head: Head, begun: bool, progress: Callable[[], None]) -> int:
        make_folder(self.folder)
        path = self.folder / LOG
        begun = begun or (self.folder / STARTED).exists()
        if begun and not os.path.lexists(path):
            raise unavailable("the second sink of the audit log is missing although it was begun")
        with opened(path) as descriptor:
            status = os.fstat(descriptor)
            known = self._head
            if known is not None and (known.inode != status.st_ino or known.size > status.st_size):
                raise unavailable("the second sink of the audit log was replaced or cut off while in use")
            if known is not None and known.size == status.st_size == head.size:
                return 0
            if status.st_size > head.size:
                raise unavailable("the audit log is shorter than its second sink")
            if begun and status.st_size == 0:
                raise unavailable("the second sink of the audit log is empty although it was begun")
            signed = newest_checkpoint(self.folder)
            if signed is not None and read_end(descriptor, status)[0].seq < signed[0]:
                raise unavailable("the second sink of the audit log ends before its last checkpoint")
            reach = min(_TAIL_BYTES, status.st_size)
            with opened(log) as first:
                if os.pread(first, reach, status.st_size - reach) != os.pread(
                    descriptor, reach, status.st_size - reach
                ):
                    raise unavailable("the two sinks of the audit log hold different lines")
                lacking = head.size - status.st_size
                at = status.st_size
                while at < head.size:
                    at = write_durably(descriptor, os.pread(first, min(_COPY_BYTES, head.size - at), at))
                    progress()
            self._head = Head(status.st_ino, head.size, head.seq, head.h)
        if lacking:
            mark_begun(self.folder)
        return lacking

    def append(self, line: bytes, entry: Mapping[str, Any]) -> None:
        self._head = append_to(self.folder, line, entry, self._head)

    def keep(self, kind: str, name: str, content: bytes) -> None:
        path = make_folder(self.folder / kind) / name
        if not path.exists():
            write_atomic(path, content)

    def notes(self, kind: str) -> Iterator[tuple[str, bytes]]:
        return notes_in(self.folder / kind)

    def forget(self) -> None:
        self._head = None

    def differences(self, log: Path) -> list[Finding]:
        other = self.folder / LOG
        if other.is_symlink() or not other.is_file():
            return [Finding("sinks_differ", "the second sink has no log")]
        lines = 1
        with log.open("rb") as first, other.open("rb") as second:
            while True:
                left, right = first.read(_BLOCK), second.read(_BLOCK)
                if left != right:
                    same = next(
                        (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
                        min(len(left), len(right)),
                    )
                    lines += left[:same].count(b"\n")
                    return [Finding("sinks_differ", f"the two sinks differ from line {lines} on", lines)]
                if not left:
                    return []
                lines += left.count(b"\n")


def second_sink(setting: str) -> SecondSink | None:
    """What ``second_audit_sink`` in ``settings.yaml`` means: nothing, a folder, or ``s3://bucket/prefix``.

    ``s3://bucket/prefix?retain_days=3000`` says for how long no object may be removed. Endpoint, region and
    credentials come from the standard AWS environment. Raises :class:`UsageError` for an address that is none.
    """
    if setting.startswith("s3:"):
        from infra.audit_object_store import ObjectSink

        return ObjectSink.at(setting)
    return FolderSink(Path(setting)) if setting else None
