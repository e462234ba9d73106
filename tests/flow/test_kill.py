"""A kill at any commit point is harmless: run again, the work ends as if it had never been interrupted.

The points are read from the source, so that a new one is tried without anybody thinking of it. The kill is a real
SIGKILL of a real process (:mod:`tests.support.kill_child`). A night is killed at each of its points from the same
beginning; work that people do step by step is killed at one point after the other on its way to the end.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from infra.workspace import Workspace
from tests.support.commit_points import commit_points
from tests.support.convergence import Reference, lake_content, lake_files, leftovers, published_result
from tests.support.kill_child import KillServer
from tests.support.scenarios import SCENARIOS, SECOND_NIGHT
from tests.support.workspaces import copy_workspace

pytestmark = pytest.mark.flow


def time_to_try(count: int) -> int:
    """Of ``count`` times that a point is reached, the one at which the run is killed: amid, with work done before it
    and work left after it."""
    return count // 2 + 1


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_undisturbed_run_leaves_nothing_that_no_row_stands_for(
    scenario: str, reference_of: Callable[[str], Reference]
) -> None:
    reference = reference_of(scenario)
    assert reference.leftovers == []
    assert reference.orphans == set(), (
        "an undisturbed run left data files that the lake's catalog does not name"
    )


# Work of people, and how the names of its own commit points begin.
STEP_BY_STEP = {
    "office": ("register.", "reseal."),
    "review": ("review.", "reprocess."),
    "retention": ("retention.",),
}


def of_a_night() -> list[str]:
    own = tuple(prefix for prefixes in STEP_BY_STEP.values() for prefix in prefixes)
    return [point for point in commit_points() if not point.startswith(own)]


@pytest.mark.parametrize("point", of_a_night())
def test_a_run_killed_at_a_commit_point_and_begun_again_gives_the_undisturbed_result(
    point: str, reference_of: Callable[[str], Reference], kill_server: KillServer, tmp_path: Path
) -> None:
    references = (reference_of(name) for name in SCENARIOS)
    reference = next((found for found in references if point in found.reached), None)
    assert reference is not None, (
        f"no scenario reaches the commit point {point}: make one in tests/support/scenarios.py reach it"
    )
    time = time_to_try(reference.reached.count(point))
    kill_and_begin_again(reference, point, time, kill_server, tmp_path / f"{time}")


@pytest.mark.parametrize("scenario", STEP_BY_STEP)
def test_work_killed_at_each_of_its_commit_points_in_turn_ends_as_if_undisturbed(
    scenario: str, reference_of: Callable[[str], Reference], kill_server: KillServer, tmp_path: Path
) -> None:
    reference = reference_of(scenario)
    own = [point for point in commit_points() if point.startswith(STEP_BY_STEP[scenario])]
    assert set(own) <= set(reference.reached), (
        "no run reaches some commit points: make the scenario reach them"
    )
    waiting = sorted(own, key=reference.reached.index)
    moment, attempt = SECOND_NIGHT, 0
    while waiting:
        attempt += 1
        workspace = copy_workspace(reference.before, tmp_path / str(attempt))
        killed: list[str] = []
        for point in waiting:
            moment += timedelta(minutes=1)
            ended = kill_server.run(workspace.root, scenario, moment, tmp_path / "trace", point, 1)
            if ended.code == 0:  # it got to the end without that step, which a killed run had done already
                break
            assert ended.code == -signal.SIGKILL, f"killed at {killed}, then {point}: {ended.said}"
            killed.append(point)
        assert killed, f"the work was not killed at {waiting[0]}"
        SCENARIOS[scenario].work(workspace, moment + timedelta(minutes=1))
        where = f"killed at {', '.join(killed)}"
        assert SCENARIOS[scenario].result(workspace) == reference.result, (
            f"{where}: readers get something else"
        )
        lake = lake_content(workspace)
        assert leftovers(workspace, lake) == [], f"{where}: something was left over"
        assert lake.tables == reference.lake, f"{where}: the lake holds something else"
        waiting = [point for point in waiting if point not in killed]


def kill_and_begin_again(
    reference: Reference, point: str, time: int, server: KillServer, folder: Path
) -> None:
    where = f"killed at {point}, time {time}"
    scenario = SCENARIOS[reference.scenario]
    workspace = copy_workspace(reference.before, folder / "workspace")
    files_before = lake_files(workspace)

    trace = folder / "trace"
    ended = server.run(workspace.root, reference.scenario, SECOND_NIGHT, trace, point, time)
    assert ended.code == -signal.SIGKILL, f"{where}: the process was not killed: {ended.said}"
    assert trace.read_text().split() == reached_until(reference.reached, point, time), (
        f"{where}: the run went another way than the undisturbed one"
    )
    readers_see_the_old_or_the_new(reference, workspace, where)
    files_of_the_killed_run = lake_files(workspace) - files_before

    scenario.work(workspace, SECOND_NIGHT + timedelta(days=1))

    assert scenario.result(workspace) == reference.result, f"{where}: readers get something else"
    lake = lake_content(workspace)
    assert leftovers(workspace, lake) == [], f"{where}: something was left over"
    assert lake.tables == reference.lake, f"{where}: the lake holds something else"
    assert lake.orphans <= files_of_the_killed_run, f"{where}: a run that ended well left files in the lake"
    assert [name for name in sorted(lake.orphans) if not is_encrypted(workspace, name)] == [], (
        f"{where}: the killed run left files in clear"
    )


def reached_until(reached: list[str], point: str, time: int) -> list[str]:
    at = [place for place, name in enumerate(reached) if name == point]
    return reached[: at[time - 1] + 1]


def readers_see_the_old_or_the_new(reference: Reference, workspace: Workspace, where: str) -> None:
    """Right after the kill, before anything is put in order."""
    published = workspace.zone("published")
    old = published_result(reference.before.zone("published"))
    assert published_result(published) in (old, reference.published), f"{where}: readers see a mixture"


def is_encrypted(workspace: Workspace, name: str) -> bool:
    """Whether a data file is encrypted Parquet with its footer, or the beginning of one. The file of a write that
    was cut off early may be empty."""
    content = (workspace.zone("lake") / "data" / name).read_bytes()
    return content[:4] in (b"", b"PARE")
