"""The command line, called inside the test's own process: the real commands, arguments and error boundary.

Starting a process for every bad file would take seconds each, most of them importing. So :func:`wardwatch` calls
``flows.cli.application.main`` as the script does, and puts back afterwards what a process may change only once for
itself: hooks, log record factory, umask, environment, folder of temporary files. Two things differ: the clock, which
is given, and the orchestrator: the flows get plain stand-ins (one run by Prefect itself takes half a minute to start;
``tests/security/test_canaries.py`` has each).
"""

from __future__ import annotations

import ctypes
import io
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

from infra.hardening import is_dumpable
from tests.support.workspaces import Clock

_PR_SET_DUMPABLE = 4


@dataclass(frozen=True)
class Ran:
    """How a command ended and all that it said; ``logged``: every log record down to DEBUG, as text."""

    exit_code: int
    out: str
    err: str
    logged: str

    @property
    def said(self) -> str:
        return self.out + self.err + self.logged

    @property
    def error(self) -> str:
        """The one line of the error boundary. Fails if there is none, or more than that line."""
        lines = [line for line in self.err.splitlines() if not line.startswith("(demonstration")]
        assert len(lines) == 1, f"one line says what is wrong; there are {len(lines)}"
        return lines[0]

    def lines_with(self, text: str) -> list[str]:
        return [line for line in self.out.splitlines() if text in line]


def wardwatch(root: Path | None, *arguments: str | Path, clock: Callable[[], datetime] = Clock()) -> Ran:  # noqa: B008
    """Run ``wardwatch [--workspace root] arguments``."""
    from flows.cli import application

    where = [] if root is None else ["--workspace", str(root)]
    argv = ["wardwatch", *where, *map(str, arguments)]
    out, err, logged = io.StringIO(), io.StringIO(), io.StringIO()
    with ExitStack() as stack:
        stack.enter_context(_as_it_was())
        stack.enter_context(_listening(logged))
        stack.enter_context(patch.object(sys, "argv", argv))
        for name, module in list(sys.modules.items()):
            if name.startswith("flows.cli.") and hasattr(module, "now"):
                stack.enter_context(patch.object(module, "now", clock))
        stack.enter_context(_standing_in("flows.nightly_flow", _plain_flow(clock)))
        stack.enter_context(_standing_in("flows.backfill_flow", _plain_backfill(clock)))
        stack.enter_context(_standing_in("flows.reprocess_flow", _plain_reprocessing(clock)))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        code = 0
        try:
            application.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    return Ran(code, out.getvalue(), err.getvalue(), logged.getvalue())


@contextmanager
def _standing_in(name: str, module: ModuleType) -> Iterator[None]:
    """``module`` under ``name`` meanwhile. (``patch.dict`` would also forget every module imported meanwhile, and
    extension modules cannot be imported twice.)"""
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        yield
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before


def _plain_flow(clock: Callable[[], datetime]) -> ModuleType:
    """What ``flows.nightly_flow`` does, without Prefect."""
    from flows.nightly import run_night
    from flows.orchestrator import watcher

    def nightly(workspace: str) -> None:
        watching = watcher()
        watching.ended(run_night(Path(workspace), say=watching.say, progress=watching.progress, clock=clock))

    module = ModuleType("flows.nightly_flow")
    module.nightly = nightly  # type: ignore[attr-defined]
    return module


def _plain_backfill(clock: Callable[[], datetime]) -> ModuleType:
    """What ``flows.backfill_flow`` does, without Prefect."""
    from flows.backfill import Request, month, run_backfill
    from flows.orchestrator import watcher

    def backfill(
        workspace: str, dataset: str, first: str, last: str, reason: str, person: str, dry_run: bool
    ) -> None:
        asked = Request(dataset, month(first, end=False), month(last, end=True), reason, person, dry_run)
        watching = watcher()
        watching.ended(run_backfill(Path(workspace), asked, say=watching.say, clock=clock))

    module = ModuleType("flows.backfill_flow")
    module.backfill = backfill  # type: ignore[attr-defined]
    return module


def _plain_reprocessing(clock: Callable[[], datetime]) -> ModuleType:
    """What ``flows.reprocess_flow`` does, without Prefect."""
    from flows.orchestrator import watcher
    from flows.reprocess import run_reprocessing

    def reprocess(workspace: str, case: str, person: str) -> None:
        watching = watcher()
        watching.ended(run_reprocessing(Path(workspace), case, person, say=watching.say, clock=clock))

    module = ModuleType("flows.reprocess_flow")
    module.reprocess = reprocess  # type: ignore[attr-defined]
    return module


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Undo what the command line does to its process."""
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning)
    environment, factory, folder = dict(os.environ), logging.getLogRecordFactory(), tempfile.tempdir
    dumpable = is_dumpable()
    mask = os.umask(0o022)
    os.umask(mask)
    try:
        yield
    finally:
        sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks
        os.environ.clear()
        os.environ.update(environment)
        logging.setLogRecordFactory(factory)
        tempfile.tempdir = folder
        os.umask(mask)
        if dumpable:
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(1), 0, 0, 0)


@contextmanager
def _listening(stream: io.StringIO) -> Iterator[None]:
    root = logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
