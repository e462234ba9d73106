"""Scheduling: which tests one worker of pytest-xdist takes together, and which are begun first.

The tests of a file share what is costly to make (a night over synthetic extracts, a server), so one worker runs the
whole file; only the files of :data:`APART` hold tests that take seconds each and share nothing but what is made once
for all workers. What takes longest is begun first, so that no worker is left with a long file at the end.

The mark ``xdist_group`` would say the same, but pytest-xdist 3.8 hands it on within the names of the tests, which
pytest 9.2 no longer lets it change: the marks then go unheard, without a word (pytest-xdist issue 1386).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# Every test on its own, on whichever worker is free.
APART = frozenset({"tests/flow/test_kill.py", "tests/flow/test_full_disk.py"})

# What takes longest, the longest first; all else comes after it, in the order in which it is collected. One of the
# first two needs no prepared workspace, so that two workers do not begin by waiting for the same one.
FIRST: tuple[str, ...] = (
    "tests/flow/test_deployments.py",
    "tests/sql/test_indicators.py",
    "tests/security/test_canaries.py",
    "tests/security/test_retention_attacks.py",
    "tests/flow/test_command_line.py",
    "tests/flow/test_demo.py",
    "tests/flow/test_bad_input.py",
    "tests/security/test_review_kept_cohort.py",
    "tests/security/test_review_approvals.py",
    "tests/flow/test_maternity_truth.py",
)


def file_of(test: str) -> str:
    """``tests/flow/test_truth.py`` of the name of any test in it."""
    return test.partition("::")[0]


def unit_of(test: str) -> str:
    """What one worker takes as a whole: the file of a test, or the test itself."""
    return test if file_of(test) in APART else file_of(test)


def in_order(tests: Iterable[str]) -> list[int]:
    """The positions of ``tests`` in the order in which they are to begin; the same in every worker."""
    place = {file: number for number, file in enumerate(FIRST)}
    names = list(tests)
    return sorted(range(len(names)), key=lambda at: place.get(file_of(names[at]), len(FIRST)))


def scheduler(config: Any, log: Any) -> Any:
    """A scheduler of pytest-xdist that gives out units in their order."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    made = LoadScopeScheduling(config, log)
    made._split_scope = unit_of
    config.option.loadscopereorder = (
        False  # by how many tests a unit has, which says nothing of how long it takes
    )
    return made
