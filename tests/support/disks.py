"""Disks: a file system of a known size under one zone of a workspace."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOMY = 512 << 20
BALLAST = ".ballast"


@dataclass(frozen=True)
class Disk:
    """A memory file system, mounted at ``path``."""

    path: Path

    def leave(self, room: int) -> None:
        """Let the disk be so small that ``room`` bytes are free on it."""
        if not any(self.path.iterdir()):
            # A size of 0 would mean no limit at all.
            self._ballast.write_bytes(b"\0")
        status = os.statvfs(self.path)
        self._resize((status.f_blocks - status.f_bfree) * status.f_frsize + room)

    def grow(self) -> None:
        """Give it space enough."""
        self._resize(ROOMY)
        self._ballast.unlink(missing_ok=True)

    @property
    def _ballast(self) -> Path:
        return self.path / BALLAST

    def _resize(self, size: int) -> None:
        _run("mount", "-o", f"remount,size={size}", str(self.path))


@contextmanager
def disk_under(folder: Path) -> Iterator[Disk]:
    """Move ``folder`` with what it holds to a disk of its own, as long as the ``with`` lasts.

    Mounting takes root, which the machines have that run these tests; without, the tests fail and say so, for a
    promise about full disks that is not tried is none.
    """
    content = folder.with_name(f"{folder.name}-content")
    folder.rename(content)
    folder.mkdir(mode=0o700)
    _run("mount", "-t", "tmpfs", "-o", f"size={ROOMY},mode=0700", "wardwatch-test", str(folder))
    try:
        shutil.copytree(content, folder, symlinks=True, dirs_exist_ok=True)
        yield Disk(folder)
    finally:
        _run("umount", str(folder))


def _run(*command: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, (
        f"a file system could not be mounted, so a full disk could not be tried (this takes root): {ended.stderr}"
    )
