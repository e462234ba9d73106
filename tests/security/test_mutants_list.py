"""The list of guards that `make mutants` switches off fits the code as it stands."""

from __future__ import annotations

import pytest

from tests.security.mutants import PROJECT, Mutant, load_mutants


@pytest.mark.parametrize("mutant", load_mutants(), ids=lambda mutant: mutant.name)
def test_a_guard_stands_where_the_list_says_and_its_tests_exist(mutant: Mutant) -> None:
    text = (PROJECT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.find) == 1, f"{mutant.file}: the guard's text is not there exactly once"
    assert mutant.tests, "a guard without a test shows nothing"
    for node in mutant.tests:
        module, _, test = node.partition("::")
        path = PROJECT / "tests" / module
        assert path.exists(), f"there is no {module}"
        assert not test or f"def {test.partition('[')[0]}(" in path.read_text(encoding="utf-8"), f"no {node}"
