"""The hardened process: no core dumps, no temporary files elsewhere, no values in tracebacks or logs.

:func:`harden_process` is called first thing by the command line and by every worker. What it cannot do is
said in the documentation: Python does not wipe memory, and root can read it while the process runs.

Tracebacks are the other half. Polars, DuckDB, pyarrow, pydantic, ``int()`` and ``KeyError`` put the value
they choked on into their message, so an unexpected exception is shown as its type and the places it came
through, and nothing else; source lines and local variables are left out too, for they may hold literals. Our
own typed errors are safe by construction and shown in full.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import resource
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any

from infra.files import make_folder
from schemas.errors import WardwatchError

PROJECT = Path(__file__).resolve().parent.parent
_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4

# name -> value; why it is there
ENVIRONMENT = {
    # Polars 2 spills unencrypted files as soon as a memory budget is set.
    "POLARS_OOC_DISK_BUDGET_MB": "0",
    # Telemetry of what is installed, whether or not this version still looks at it.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    # Prefect would put everything printed into its database.
    "PREFECT_LOGGING_LOG_PRINTS": "false",
    # The full tracebacks of these two show source lines and local variables.
    "TYPER_STANDARD_TRACEBACK": "1",
    "RICH_TRACEBACKS": "0",
}
REMOVED_FROM_ENVIRONMENT = ("PYTHONFAULTHANDLER", "POLARS_VERBOSE", "POLARS_PANIC_ON_ERR", "PYTHONBREAKPOINT")


def harden_process(temporary_folder: Path) -> None:
    """Close what would let data out of this process, for it and (except the dumpable flag) its children.

    Sets: no core dump, not dumpable (which also keeps other processes of the same user from attaching and
    from reading ``/proc/PID/environ``), umask 077, faulthandler off, the environment above, and
    ``temporary_folder`` (made if missing) as the place of temporary files. Safe to call more than once.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)
    os.umask(0o077)
    faulthandler.disable()
    os.environ.update(ENVIRONMENT)
    for name in REMOVED_FROM_ENVIRONMENT:
        os.environ.pop(name, None)
    make_folder(temporary_folder)
    for name in ("TMPDIR", "TEMP", "TMP", "POLARS_TEMP_DIR"):
        os.environ[name] = str(temporary_folder)
    tempfile.tempdir = str(temporary_folder)


def is_dumpable() -> bool:
    """Whether the kernel would write a core of this process, or let its owner's other processes look in."""
    return _prctl(_PR_GET_DUMPABLE, 0) != 0


def _prctl(option: int, argument: int) -> int:
    """The system call; -1 where there is none, as on systems that are not Linux."""
    try:
        library = ctypes.CDLL(None)
        return int(library.prctl(option, ctypes.c_ulong(argument), 0, 0, 0))
    except (OSError, AttributeError):
        return -1


# tracebacks ------------------------------------------------------------------------------------------


def _place(frame: traceback.FrameSummary) -> str:
    return f"{_file(frame.filename)}:{frame.lineno} in {frame.name}"


def _file(name: str) -> str:
    """A file of ours from the project's folder, a library's from its package; anything else is not named."""
    path = PurePath(name)
    if path.suffix != ".py":
        return "(generated code)"
    for root in (PROJECT, *(Path(entry) for entry in sys.path if entry), Path(os.__file__).parent):
        try:
            return path.relative_to(root).as_posix()
        except ValueError:
            continue
    return path.name


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(error.__traceback__))


def safe_summary(error: BaseException) -> str:
    """One line about ``error``: our own in full, any other as its type and the place where it was raised."""
    if isinstance(error, WardwatchError):
        return str(error)
    frames = _frames(error)
    ours = [frame for frame in frames if frame.filename.startswith(str(PROJECT))]
    where = _place((ours or frames)[-1]) if frames else "an unknown place"
    return f"internal error {_type_name(error)} at {where}"


def safe_traceback(error: BaseException) -> str:
    """``error`` and what led to it, outermost last as Python prints it: types, files, lines and functions.

    Never a message, a note, a source line or a local variable, except the message of our own typed errors.
    """
    return "\n".join(line for part in _chain(error, set()) for line in _described(part))


def _chain(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    if id(error) in seen:
        return
    seen.add(id(error))
    origin = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if origin is not None:
        yield from _chain(origin, seen)
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _chain(part, seen)
    yield error


def _described(error: BaseException) -> Iterator[str]:
    yield "Traceback (places only, values are withheld):"
    for frame in _frames(error):
        yield f"  {_place(frame)}"
    yield str(error) if isinstance(error, WardwatchError) else _type_name(error)


def install_hooks(write: Callable[[str], object] = lambda text: sys.stderr.write(text)) -> None:
    """From now on no unexpected exception, in any thread, and no warning prints a value.

    Our own errors print as their one line, anything else as "internal error" with its type and place.
    """

    def hook(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
        if not isinstance(error, KeyboardInterrupt | SystemExit):
            write(f"{safe_summary(error)}\n")

    def thread_hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            hook(args.exc_type, args.exc_value, args.exc_traceback)

    def unraisable_hook(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            hook(args.exc_type, args.exc_value, args.exc_traceback)

    def show_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        write(f"warning {category.__name__} at {_file(filename)}:{lineno}\n")

    sys.excepthook = hook
    threading.excepthook = thread_hook
    sys.unraisablehook = unraisable_hook
    warnings.showwarning = show_warning


# logging ---------------------------------------------------------------------------------------------


class SafeLogFilter(logging.Filter):
    """Takes exceptions out of log records: as arguments, as the message, and as attached tracebacks.

    It cannot recognise a message into which an exception's text was formatted before it was logged; our own
    code never does that, and the canary sweep watches the rest.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        make_safe(record)
        return True


def make_safe(record: logging.LogRecord) -> logging.LogRecord:
    """``record`` with every exception in it replaced by its safe form. Returns the same record."""
    if isinstance(record.msg, BaseException):
        record.msg = safe_summary(record.msg).replace("%", "%%") if record.args else safe_summary(record.msg)
    if isinstance(record.args, tuple):
        record.args = tuple(_safe_argument(value) for value in record.args)
    elif isinstance(record.args, dict):
        record.args = {name: _safe_argument(value) for name, value in record.args.items()}
    if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
        record.exc_text = _safe_exception(record.exc_info[1])
    if record.exc_info:
        record.exc_info = None  # a formatter would render it anew
    record.stack_info = None
    return record


def _safe_exception(error: BaseException) -> str:
    """The places that led to ``error``; of our own typed errors the one line, which says what to do next."""
    return str(error) if isinstance(error, WardwatchError) else safe_traceback(error)


def _safe_argument(value: object) -> object:
    return safe_summary(value) if isinstance(value, BaseException) else value


def install_safe_logging() -> None:
    """Make every record of every logger, Prefect's and SQLAlchemy's included, pass :func:`make_safe`.

    A filter of a logger is not asked for the records of its children, hence the record factory. Calling it
    again changes nothing.
    """
    inner = logging.getLogRecordFactory()
    if getattr(inner, "makes_safe", False):
        return

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        return make_safe(inner(*args, **kwargs))

    factory.makes_safe = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(factory)
