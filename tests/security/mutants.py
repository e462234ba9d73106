"""``python -m tests.security.mutants``: shows that each attack's test fails once its guard is switched off.

The files of ``guards/`` list, for attacks of COVERAGE.md, a guard in the code (``file`` and the text ``find``, which
occurs once), what stands there when it is switched off (``replace``), and the ``tests`` that must then fail. Each
mutant is made in a copy of the project; the project itself is never touched.

A mutant is *killed* if pytest reports failed tests. It *survives* if they pass, and it is *stale* if the text is not
found once, or if the tests could not be collected: both are reasons to fail.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[2]
LISTS = Path(__file__).with_name("guards")
FAILED = 1  # pytest's exit code when tests ran and some failed
COPIED = (
    "flows", "infra", "schemas", "sql", "tests", "transforms",
    "pyproject.toml", "README.md", "Makefile", "requirements.lock",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One guard switched off. ``tests``: pytest node ids below ``tests/``, of which at least one must fail."""

    attacks: tuple[int, ...]
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{','.join(map(str, self.attacks))} {self.file}"


def load_mutants(folder: Path = LISTS) -> tuple[Mutant, ...]:
    """Every list in ``folder``. Raises ``ValueError`` for an entry with other fields than those of :class:`Mutant`."""
    found = []
    entries = [
        (path.name, entry)
        for path in sorted(folder.glob("*.yaml"))
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]
    for name, entry in entries:
        if set(entry) != {"attacks", "file", "find", "replace", "tests"}:
            raise ValueError(f"{name}: a mutant has attacks, file, find, replace and tests")
        found.append(
            Mutant(
                tuple(entry["attacks"]), entry["file"], entry["find"], entry["replace"], tuple(entry["tests"])
            )
        )
    return tuple(found)


def run_tests(names: Iterable[str], project: Path) -> tuple[int, str]:
    """(pytest's exit code, its last line) for tests of the copy ``project``."""
    ended = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "--tb=line",
            "-p", "no:cacheprovider", *(f"tests/{name}" for name in names),
        ],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )  # fmt: skip
    return ended.returncode, (ended.stdout.strip().splitlines() or ["no output"])[-1]


def judge(mutant: Mutant, project: Path) -> tuple[str, str]:
    """(killed | survived | stale, the last line of the tests) for ``mutant``, made in the copy ``project``."""
    path = project / mutant.file
    original = path.read_text(encoding="utf-8")
    if original.count(mutant.find) != 1:
        return "stale", f"the text occurs {original.count(mutant.find)} times"
    path.write_text(original.replace(mutant.find, mutant.replace), encoding="utf-8")
    try:
        code, line = run_tests(mutant.tests, project)
    except subprocess.TimeoutExpired:
        return "killed", "the tests did not end in twenty minutes"
    finally:
        path.write_text(original, encoding="utf-8")
    if code == FAILED:
        return "killed", line
    return ("survived" if code == 0 else "stale"), line


def copy_project(target: Path) -> None:
    for name in COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, target / name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.security.mutants", description=__doc__)
    parser.add_argument("--attack", type=int, nargs="+", help="only these attacks")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    mutants = [m for m in load_mutants() if not given.attack or set(given.attack) & set(m.attacks)]
    waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    for mutant in mutants:
        waiting.put(mutant)
    results: list[tuple[Mutant, str, str]] = []

    def work(folder: Path) -> None:
        copy_project(folder)
        while True:
            try:
                mutant = waiting.get_nowait()
            except queue.Empty:
                return
            began = time.monotonic()
            verdict, line = judge(mutant, folder)
            results.append((mutant, verdict, line))
            print(f"{verdict:<9}{mutant.name} ({time.monotonic() - began:.0f} s) {line}", flush=True)

    with tempfile.TemporaryDirectory(prefix="wardwatch-mutants-") as base:
        whole = Path(base) / "whole"
        copy_project(whole)
        code, line = run_tests(sorted({name for mutant in mutants for name in mutant.tests}), whole)
        print(f"with every guard in place: {line}", flush=True)
        if code:
            sys.exit("the tests have to pass before a guard is switched off")
        threads = [
            threading.Thread(target=work, args=(Path(base) / str(number),)) for number in range(given.workers)
        ]
        for number, thread in enumerate(threads):
            (Path(base) / str(number)).mkdir()
            thread.start()
        for thread in threads:
            thread.join()
    wrong = [result for result in results if result[1] != "killed"]
    print(f"{len(results)} guards switched off, {len(results) - len(wrong)} noticed by their tests")
    if wrong or len(results) != len(mutants):
        sys.exit(1)


if __name__ == "__main__":
    main()
