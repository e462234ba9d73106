"""Processes: whether the one that left something behind is still there."""

from __future__ import annotations

import os


def is_alive(process: int) -> bool:
    """Whether a process of this id runs on this machine. One of another user counts, although it cannot be asked."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
