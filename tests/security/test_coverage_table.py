"""The table of attacks in COVERAGE.md is about tests that exist, and about every attack."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TABLE = Path(__file__).parent / "COVERAGE.md"
TESTS = TABLE.parents[1]
ATTACKS = 127


def rows() -> list[tuple[int, str]]:
    """(number, what holds it) of every attack."""
    found = re.findall(
        r"^\| ([0-9]+) \| [^|]+ \| ([^|]+) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return [(int(number), held) for number, held in found]


def test_every_attack_has_one_row() -> None:
    assert [number for number, _ in rows()] == list(range(1, ATTACKS + 1))


@pytest.mark.parametrize(
    ("number", "held"), rows(), ids=lambda value: str(value) if isinstance(value, int) else ""
)
def test_a_row_names_tests_that_exist_or_says_that_there_is_none(number: int, held: str) -> None:
    named = re.findall(r"`(\w+)\.(\w+)`", held)
    assert named or "not yet" in held, f"attack {number} names no test and does not say so"
    for module, test in named:
        files = list(TESTS.rglob(f"test_{module}.py"))
        assert files, f"there is no test module {module}"
        text = "".join(path.read_text(encoding="utf-8") for path in files)
        assert f"def test_{test}(" in text, f"there is no test {module}.{test}"
