"""Neither a crash nor a log line carries a value that the process worked on."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import polars as pl
import pydantic
import pytest

from infra.hardening import (
    SafeLogFilter,
    install_hooks,
    install_safe_logging,
    make_safe,
    safe_summary,
    safe_traceback,
)
from schemas.errors import NotPermitted, UsageError

CANARY = "9991234567"
PROJECT = Path(__file__).resolve().parents[2]


def _value() -> None:
    int(CANARY + "x")


def _key() -> None:
    {}[CANARY]  # type: ignore[index]


def _polars_column() -> None:
    pl.DataFrame({"a": [1]}).select(CANARY)


def _polars_cast() -> None:
    pl.DataFrame({"a": [CANARY + "x"]}).select(pl.col("a").cast(pl.Int64))


def _duckdb_cast() -> None:
    duckdb.sql(f"select cast('{CANARY}x' as integer)").fetchall()


def _duckdb_key() -> None:
    connection = duckdb.connect()
    connection.execute("create table t (k varchar primary key)")
    connection.execute("insert into t values (?), (?)", [CANARY, CANARY])


def _pydantic() -> None:
    class Record(pydantic.BaseModel):
        number: int

    Record.model_validate({"number": CANARY + "x"})


def _json() -> None:
    json.loads(f'{{"number": {CANARY}x')


def _note() -> None:
    error = RuntimeError(CANARY)
    error.add_note(CANARY)
    raise error


def _cause() -> None:
    try:
        _key()
    except KeyError as error:
        raise RuntimeError(CANARY) from error


def _context() -> None:
    try:
        _key()
    except KeyError:
        _value()


def _group() -> None:
    raise ExceptionGroup(CANARY, [ValueError(CANARY), KeyError(CANARY)])


def _generated_code() -> None:
    exec(compile(f"raise ValueError('{CANARY}')", f"<{CANARY}>", "exec"))


CRASHES = [
    _value,
    _key,
    _polars_column,
    _polars_cast,
    _duckdb_cast,
    _duckdb_key,
    _pydantic,
    _json,
    _note,
    _cause,
    _context,
    _group,
    _generated_code,
]


def raised_by(crash: Callable[[], None]) -> BaseException:
    try:
        crash()
    except Exception as error:
        return error
    raise AssertionError("the example must fail")


@pytest.mark.parametrize("crash", CRASHES)
def test_a_traceback_names_types_and_places_and_no_value(crash: Callable[[], None]) -> None:
    error = raised_by(crash)
    text = safe_traceback(error)
    assert CANARY not in text
    assert CANARY not in safe_summary(error)
    assert f"in {crash.__name__}" in text
    assert "tests/unit/test_hardening.py:" in text, "a file of the project is named from its folder"
    assert type(error).__qualname__ in text


def test_a_traceback_names_what_led_to_the_error_in_the_order_of_events() -> None:
    lines = safe_traceback(raised_by(_cause)).splitlines()
    assert lines.index("KeyError") < lines.index("RuntimeError")
    inner = safe_traceback(raised_by(_group)).splitlines()
    assert inner.index("ValueError") < inner.index("KeyError") < inner.index("ExceptionGroup")


def test_a_suppressed_context_is_left_out() -> None:
    def translated() -> None:
        try:
            _key()
        except KeyError:
            raise NotPermitted("not today") from None

    assert "KeyError" not in safe_traceback(raised_by(translated))


def test_our_own_error_is_shown_in_full() -> None:
    error = NotPermitted("role auditor may not act for purpose backfill", next_step="ask the owner")
    assert safe_summary(error) == str(error)
    assert str(error) in safe_traceback(error)


def test_an_exception_that_was_never_raised_has_no_place() -> None:
    assert safe_summary(ValueError(CANARY)) == "internal error ValueError at an unknown place"


def test_a_chain_that_bites_its_tail_ends() -> None:
    error, other = ValueError("a"), KeyError("b")
    error.__context__, other.__context__ = other, error
    assert safe_traceback(error).count("withheld") == 2


# hooks -------------------------------------------------------------------------------------------------


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the hooks print; the genuine ones are put back afterwards."""
    lines: list[str] = []
    for where, name in (
        (sys, "excepthook"),
        (threading, "excepthook"),
        (sys, "unraisablehook"),
        (warnings, "showwarning"),
    ):
        monkeypatch.setattr(where, name, getattr(where, name))
    install_hooks(lines.append)
    return lines


def test_an_unexpected_exception_prints_as_an_internal_error_at_a_place(printed: list[str]) -> None:
    error = raised_by(_value)
    sys.excepthook(type(error), error, error.__traceback__)
    (line,) = printed
    assert line.startswith("internal error ValueError at tests/unit/test_hardening.py:")
    assert line.endswith("in _value\n")


def test_an_exception_in_a_thread_or_destructor_prints_no_value(printed: list[str]) -> None:
    thread = threading.Thread(target=_value)
    thread.start()
    thread.join()

    class Careless:
        def __del__(self) -> None:
            raise ValueError(CANARY)

    Careless()  # is gone at once
    assert len(printed) == 2
    assert CANARY not in "".join(printed)


def test_a_warning_prints_its_kind_and_place_only(printed: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        install_hooks(printed.append)  # catch_warnings put its own function there
        warnings.warn(CANARY, UserWarning, stacklevel=1)
    (line,) = printed
    assert line.startswith("warning UserWarning at tests/unit/test_hardening.py:")


def test_an_interruption_prints_nothing(printed: list[str]) -> None:
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert printed == []


# logging -----------------------------------------------------------------------------------------------


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What a logger prints once all records are made safe; the genuine factory is put back afterwards."""
    genuine = logging.getLogRecordFactory()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("wardwatch.test.child")
    logger.addHandler(handler)
    install_safe_logging()
    install_safe_logging()
    yield stream
    logger.removeHandler(handler)
    logging.setLogRecordFactory(genuine)


def test_no_log_record_of_any_logger_carries_an_exceptions_text(logged: io.StringIO) -> None:
    logger = logging.getLogger("wardwatch.test.child")
    error = raised_by(_pydantic)
    logger.error("stopped: %s %r", error, error)
    logger.error("stopped: %(error)s", {"error": error})
    logger.error(error)
    logger.error("stopped", exc_info=error, stack_info=True)
    try:
        _duckdb_key()
    except duckdb.Error:
        logger.exception("stopped by %s", "DuckDB")
    text = logged.getvalue()
    assert CANARY not in text
    assert text.count("internal error pydantic_core") == 4
    assert "stopped by DuckDB\nTraceback (places only" in text
    assert "in _duckdb_key" in text


def test_a_typed_error_is_one_line_of_the_log(logged: io.StringIO) -> None:
    try:
        raise UsageError("the range ends before it begins", next_step="turn it round")
    except UsageError:
        logging.getLogger("wardwatch.test.child").exception("the run ended")
    assert logged.getvalue().splitlines()[1:] == [
        str(UsageError("the range ends before it begins", next_step="turn it round"))
    ]


def test_an_ordinary_record_stays_as_it_is(logged: io.StringIO) -> None:
    logging.getLogger("wardwatch.test.child").warning("%d of %s", 3, "5 %")
    assert logged.getvalue() == "3 of 5 %\n"


def test_the_filter_does_the_same_for_one_handler() -> None:
    error = raised_by(_value)
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "%s", (error,), (ValueError, error, None))
    assert SafeLogFilter().filter(record)
    assert CANARY not in logging.Formatter().format(record)
    assert make_safe(record) is record


# the process -------------------------------------------------------------------------------------------

LOOK = """
import faulthandler, json, os, resource, sys, tempfile
from pathlib import Path
from infra.hardening import harden_process, is_dumpable, install_hooks
before = is_dumpable()
harden_process(Path(sys.argv[1]))
harden_process(Path(sys.argv[1]))
handle, name = tempfile.mkstemp()
print(json.dumps({
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "dumpable": [before, is_dumpable()],
    "umask": os.umask(0),
    "faulthandler": faulthandler.is_enabled(),
    "temporary": name,
    "environment": dict(os.environ),
}), flush=True)
install_hooks()
int(sys.argv[2])
"""


def test_a_hardened_process_dumps_nothing_and_keeps_its_files_in_the_workspace(tmp_path: Path) -> None:
    folder = tmp_path / "workspace" / "tmp"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", LOOK, str(folder), CANARY + "x"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, "PYTHONFAULTHANDLER": "1", "POLARS_VERBOSE": "1"},
    )
    seen = json.loads(done.stdout)
    assert seen["core"] == [0, 0]
    assert seen["dumpable"] == [True, False]
    assert seen["umask"] == 0o077
    assert seen["faulthandler"] is False
    assert Path(seen["temporary"]).parent == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    expected = {
        "POLARS_OOC_DISK_BUDGET_MB": "0",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "TMPDIR": str(folder),
    }
    assert expected.items() <= seen["environment"].items()
    assert not {"PYTHONFAULTHANDLER", "POLARS_VERBOSE"} & set(seen["environment"])
    assert done.returncode == 1
    assert done.stderr == "internal error ValueError at (generated code):18 in <module>\n"
