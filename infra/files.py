"""Durable and private files: written beside, synced, renamed, readable by the owner only.

All writing outside the engines' own files (DuckLake, Parquet through Polars) goes through here, so that the
mode, the fsync and the translation of "disk full" stand in one place.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from schemas.errors import StorageFailed, StorageFull, WardwatchError

FILE_MODE = 0o600
FOLDER_MODE = 0o700


def storage_error(error: OSError, what: str) -> WardwatchError:
    """The typed form of an operating system error; never its text, which carries paths and names."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(
            f"no space left while writing {what}",
            next_step="free space on the workspace's disk and run again; nothing was half kept",
        )
    name = errno.errorcode.get(error.errno or 0, "unknown")
    return StorageFailed(f"could not write {what} ({name})", next_step="check the disk and its permissions")


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Translate operating system errors raised inside into :class:`StorageFull` or :class:`StorageFailed`."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, what) from None


@contextmanager
def private_by_default() -> Iterator[None]:
    """What other libraries write inside (DuckLake's files and folders) is for the owner only, whatever the umask."""
    before = os.umask(0o777 & ~FOLDER_MODE)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def removed_on_error(part: Path) -> Iterator[None]:
    """Take away the unfinished file or folder ``part`` if anything goes wrong inside: on a full disk it is part
    of the trouble. A kill leaves it to be written over or swept."""
    try:
        yield
    except BaseException:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            part.unlink()
        raise


def make_folder(path: Path) -> Path:
    """Create ``path`` and its parents for the owner only, whatever the umask. Returns ``path``."""
    with storage_errors("a folder"):
        missing = []
        folder = path
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            os.chmod(folder, FOLDER_MODE)
    return path


def sync_folder(path: Path) -> None:
    """Make a rename or unlink inside ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the bytes another library wrote to ``path`` durable, and give the file its private mode."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fchmod(descriptor, FILE_MODE)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_private(path: Path) -> int:
    """A descriptor of a new file that only the owner can read, whatever the umask."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, FILE_MODE)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor


def write_atomic(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: all of it or nothing, also after a kill or a power cut."""
    part = path.with_name(path.name + ".part")
    # A hidden folder is one that is being built: its zone says more.
    place = next(folder.name for folder in path.absolute().parents if not folder.name.startswith("."))
    with storage_errors(place), removed_on_error(part):
        with os.fdopen(open_private(part), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
        sync_folder(path.parent)


def remove_parts(folder: Path) -> int:
    """Remove what a killed :func:`write_atomic` left in ``folder``; returns how many files."""
    found = list(folder.glob("*.part"))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)
