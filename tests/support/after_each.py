"""After each test: nothing identifiable was written into a workspace of the test, said, or logged.

The values of the synthetic extracts are recognised by their shape (:mod:`infra.synthetic.canaries`), so this needs no
list and no opening: what a test wrote since it began is searched as it lies there. ``tests/security/test_canaries.py``
searches one whole night in every guise and container; this is the short form of it that every test goes through.

The inbox is left out, for a test may put a plain file there; and what lies beside a workspace belongs to the test.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.synthetic.canaries import (
    LOCAL_PATIENT_PREFIX,
    NEW_PERSON_PREFIX,
    NHS_NUMBER_PREFIX,
    OLD_PERSON_PREFIX,
    check_digit_holds,
)

LEFT_OUT = {"inbox"}
SHAPES: dict[str, re.Pattern[bytes]] = {
    "NHS number": re.compile(rb"(?<![0-9])(?<![0-9]\.)%s[0-9]{7}(?![0-9])" % NHS_NUMBER_PREFIX.encode()),
    "local patient identifier": re.compile(rb"%s[0-9A-Z]{6}" % LOCAL_PATIENT_PREFIX.encode()),
    "person id": re.compile(
        rb"(?:%s|%s)[0-9A-F]{28}" % (OLD_PERSON_PREFIX.encode(), NEW_PERSON_PREFIX.encode())
    ),
}


def kinds_in(content: bytes) -> set[str]:
    """The kinds of identifiable values in ``content``."""
    return {
        kind
        for kind, shape in SHAPES.items()
        if any(
            kind != "NHS number" or check_digit_holds(found.group().decode())
            for found in shape.finditer(content)
        )
    }


def workspaces_in(folder: Path) -> Iterator[Path]:
    """The workspaces in ``folder`` or right below it, or below that."""
    for depth in ("", "*/", "*/*/"):
        yield from (
            path.parent for path in folder.glob(f"{depth}settings.yaml") if (path.parent / "audit").is_dir()
        )


def leaks(folder: Path, since: float) -> list[str]:
    """Where in the workspaces of ``folder`` something identifiable was written after ``since``: zone, file, kind."""
    found = []
    for root in workspaces_in(folder):
        for zone in sorted(path for path in root.iterdir() if path.is_dir() and path.name not in LEFT_OUT):
            for path in sorted(zone.rglob("*")):
                if path.is_symlink() or not path.is_file() or path.stat().st_mtime < since:
                    continue
                kinds = kinds_in(path.read_bytes()) | kinds_in(path.name.encode())
                found += [f"{path.relative_to(root).as_posix()}: {kind}" for kind in sorted(kinds)]
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    began = time.time()
    yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if isinstance(folder, Path) and not item.get_closest_marker("writes_canaries"):
        found = leaks(folder, began - 1)
        if found:
            pytest.fail("something identifiable was written: " + "; ".join(found), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call" and report.passed and not item.get_closest_marker("writes_canaries"):
        found = {f"{name}: {kind}" for name, text in report.sections for kind in kinds_in(text.encode())}
        if found:
            report.outcome = "failed"
            report.longrepr = "something identifiable was said: " + "; ".join(sorted(found))
    return report
