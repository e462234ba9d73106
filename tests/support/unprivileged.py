"""Another user: Python code run by somebody without any rights, for tests of file modes.

As root every file opens. So where the tests run as root, the child becomes ``nobody``; where they do not, it stays who
it is, which has no more rights than are tested for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import PROJECT

NOBODY = 65534


@contextmanager
def folder_of_nobody() -> Iterator[Path]:
    """A folder that the unprivileged user owns and reaches (those of pytest belong to who runs it)."""
    folder = Path(tempfile.mkdtemp(prefix="wardwatch-test-"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield folder
    finally:
        for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
            path.chmod(0o700)
        shutil.rmtree(folder)


def become_nobody() -> None:
    """Called by the child once it has imported everything: what it runs on may lie where only root can read."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def as_nobody(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``code``, which calls :func:`become_nobody`, with ``arguments`` as ``sys.argv[1:]``."""
    return subprocess.run(
        [sys.executable, "-B", "-c", code, *map(str, arguments)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
