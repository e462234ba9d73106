"""Patience: how long the audit log waits for a disk or a server that does not answer.

A call into a hung file system cannot be broken off. So it is made by a thread of its own, and whoever asked goes on
without it once it has made no progress for so long. The thread keeps what it holds, the lock of the log above all:
what it still writes when its disk comes back then follows the line before it, as if it had been in time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from infra.audit_file import unavailable

T = TypeVar("T")


class Patience:
    """Of one writer. ``seconds`` without progress are too long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = 0.0
        self._stuck: threading.Thread | None = None

    def progress(self) -> None:
        """Said by the work itself, each time something got done."""
        self._last = time.monotonic()

    def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises. Raises :class:`AuditUnavailable` if it gets stuck, or an earlier one is."""
        if self._stuck is not None and self._stuck.is_alive():
            raise unavailable("the audit log still waits for its disk")
        self._stuck = None
        results: list[T] = []
        errors: list[BaseException] = []

        def call() -> None:
            try:
                results.append(work())
            except BaseException as error:
                errors.append(error)

        # A daemon: a process is not kept alive by a disk that will never answer.
        thread = threading.Thread(target=call, name="audit", daemon=True)
        self.progress()
        thread.start()
        while thread.is_alive():
            thread.join(max(0.0, self._last + self._seconds - time.monotonic()))
            if thread.is_alive() and time.monotonic() >= self._last + self._seconds:
                self._stuck = thread
                raise unavailable(f"the audit log was not written within {self._seconds:g} seconds")
        if errors:
            raise errors[0]
        return results[0]
