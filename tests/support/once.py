"""Once: what is costly to make is made by one worker of a session and used by all."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def built_once(folder: Path, build: Callable[[Path], Any]) -> Path:
    """``folder``, built by ``build(part)`` if no worker of this session has built it yet."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_name(folder.name + ".lock")):
        if not folder.exists():
            part = folder.with_name(folder.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            build(part)
            part.rename(folder)
    return folder


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` against the other workers of the session."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
