"""One worker runs what shares something costly, and what takes longest begins first."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.support.processes import PROJECT
from tests.support.scheduling import APART, FIRST, in_order, scheduler, unit_of


@pytest.mark.parametrize("file", sorted(APART | set(FIRST)))
def test_a_file_that_is_scheduled_by_name_is_there(file: str) -> None:
    assert (PROJECT / file).is_file(), f"{file} has another name now: say so in tests/support/scheduling.py"


def test_the_tests_of_a_file_go_to_one_worker_and_those_of_a_few_files_each_for_itself() -> None:
    truth = [f"tests/flow/test_truth.py::test_a[{number}]" for number in range(3)]
    (apart,) = sorted(APART)[:1]
    kills = [f"{apart}::test_b[a::{number}]" for number in range(3)]
    assert {unit_of(test) for test in truth} == {"tests/flow/test_truth.py"}
    assert [unit_of(test) for test in kills] == kills


def test_what_takes_longest_begins_first_and_all_else_stays_in_its_order() -> None:
    tests = ["tests/a.py::b", f"{FIRST[1]}::x", "tests/a.py::a", f"{FIRST[0]}::z", f"{FIRST[0]}::y"]
    ordered = [tests[at] for at in in_order(tests)]
    assert ordered == [tests[3], tests[4], tests[1], tests[0], tests[2]]


def test_it_is_our_scheduler_that_gives_the_tests_out(request: pytest.FixtureRequest) -> None:
    """Were it not, every costly fixture would be made once in each worker, and nobody would notice."""
    hook = request.config.pluginmanager.hook.pytest_xdist_make_scheduler
    plugins = {str(getattr(found.plugin, "__file__", "")) for found in hook.get_hookimpls()}
    assert str(PROJECT / "tests" / "conftest.py") in plugins

    config = SimpleNamespace(
        option=SimpleNamespace(loadscopereorder=True), getvalue=lambda _name: ["2*popen"]
    )
    made = scheduler(config, None)
    assert made._split_scope("tests/flow/test_truth.py::test_a[b]") == "tests/flow/test_truth.py"
    assert config.option.loadscopereorder is False
