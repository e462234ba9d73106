"""The file of an audit log: opened, read back from its end, and appended to, with doubts.

A log can be unlinked, replaced, given a second name or cut off while it is open, and writing to an unlinked file
raises nothing. So before and after each append it is looked at: still the same regular file with one name, grown
by exactly what was written. Anything else is an :class:`AuditUnavailable`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.audit_line import FIRST_PREV, LOG, STARTED, is_whole_object, line_hash, parse_line
from infra.files import FILE_MODE, sync_folder, write_atomic
from schemas.errors import AuditUnavailable

_TAIL_BYTES = 1 << 16  # holds many lines; the end of the log is read back in steps of at least this


@dataclass(frozen=True)
class Head:
    """The end of a log as a writer last saw it: the file, its size in bytes, its last event and that one's hash."""

    inode: int
    size: int
    seq: int
    h: str


def unavailable(message: str) -> AuditUnavailable:
    return AuditUnavailable(
        message, next_step="nothing was done; see to the audit folder, then run `wardwatch audit verify`"
    )


def is_there(path: Path) -> bool:
    """Whether there is a log to read at ``path``. A pipe in its place would keep a reader waiting for ever, so
    anything but a regular file raises."""
    if not os.path.lexists(path):
        return False
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise unavailable("the audit log is not a regular file")
    return True


@contextmanager
def opened(path: Path) -> Iterator[int]:
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
        raise unavailable("the audit log is not a regular file")
    try:
        named = os.lstat(path)
    except FileNotFoundError:
        raise unavailable("the audit log was removed while in use") from None
    if (named.st_ino, named.st_dev) != (held.st_ino, held.st_dev):
        raise unavailable("the audit log was replaced while in use")
    if held.st_nlink != 1:
        raise unavailable("the audit log has more than one name")


def append_to(folder: Path, line: bytes, entry: Mapping[str, Any], known: Head | None) -> Head:
    """Append ``line`` to the log in ``folder``, which has to end as ``known`` says; returns its new end."""
    with opened(folder / LOG) as descriptor:
        status = os.fstat(descriptor)
        if known is None or (status.st_ino, status.st_size) != (known.inode, known.size):
            raise unavailable("the audit log changed under its writer")
        size = write_durably(descriptor, line)
        mark_begun(folder)
    return Head(status.st_ino, size, entry["seq"], entry["h"])


def mark_begun(folder: Path) -> None:
    """Leave a mark beside the log, so that a missing one is never taken for a new one."""
    if not (folder / STARTED).exists():
        sync_folder(folder)
        write_atomic(folder / STARTED, b"")


def write_durably(descriptor: int, data: bytes) -> int:
    """Append ``data``; returns the new size, which must have grown by exactly that."""
    before = os.fstat(descriptor).st_size
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)
    size = os.fstat(descriptor).st_size
    if size != before + len(data):
        raise unavailable("the audit log did not grow by what was written to it")
    return size


def read_end(descriptor: int, status: os.stat_result) -> tuple[Head, bytes]:
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
                return Head(status.st_ino, size, entry["seq"], entry["h"]), tail[end:]
            if line.endswith(b"\n") and is_whole_object(line):
                raise unavailable("the last line of the audit log was changed")
            end = start
        if reach == size:
            return Head(status.st_ino, size, 0, FIRST_PREV), tail[end:]
