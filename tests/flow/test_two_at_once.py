"""Two at once: one run writes and the other says that it is busy; readers see the old or the new, never a mixture."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from infra import publish
from infra.lake import committed_deliveries
from infra.workspace import Workspace
from schemas.errors import Busy
from tests.support.convergence import Reference, lake_content, leftovers, published_result
from tests.support.kill_child import KillServer
from tests.support.processes import PROJECT, child_environment, wardwatch
from tests.support.scenarios import SECOND_NIGHT, change_settings
from tests.support.workspaces import Clock, Extracts, copy_workspace, drop, few_indicators, keyring, night

pytestmark = pytest.mark.flow


def test_while_a_night_is_at_work_another_run_ends_at_once_and_does_no_harm(
    reference_of: Callable[[str], Reference],
    kill_server: KillServer,
    extracts: Extracts,
    shared_folder: Path,
    tmp_path: Path,
) -> None:
    reference = reference_of("night")
    workspace = copy_workspace(reference.before, tmp_path / "workspace")
    at_work, go_on = threading.Event(), threading.Event()

    def say(line: str) -> None:
        if "landed" in line and not at_work.is_set():
            at_work.set()
            go_on.wait(timeout=120)

    def first_night() -> None:
        with few_indicators():  # as in the scenario that it is compared with
            night(workspace, Clock(SECOND_NIGHT), say=say)

    first = threading.Thread(target=first_night)
    first.start()
    try:
        assert at_work.wait(timeout=120), "the first night did not begin"
        second = kill_server.run(workspace.root, "night", SECOND_NIGHT, tmp_path / "trace")
        by_hand = wardwatch(
            workspace.root, "land", str(extracts.one("HES_OP_202206")), shared_folder=shared_folder
        )
    finally:
        go_on.set()
        first.join(timeout=120)

    assert second.code == Busy.exit_code
    assert second.said.startswith("[workspace.busy] another run is writing to this workspace")
    assert (tmp_path / "trace").read_text() == "", "the second run got as far as to make something durable"
    assert by_hand.returncode == Busy.exit_code
    assert published_result(workspace.zone("published")) == reference.published
    assert leftovers(workspace, lake_content(workspace)) == []


def test_of_two_nights_started_together_at_least_one_does_the_work_and_it_is_done_once(
    finished_workspace: Workspace, extracts: Extracts, shared_folder: Path
) -> None:
    drop(finished_workspace, extracts.named("HES_OP_202206"))
    script = (
        "import sys; from pathlib import Path; from flows.nightly import run_night\n"
        "from schemas.errors import WardwatchError\n"
        "try: print(len(run_night(Path(sys.argv[1]), say=lambda line: None).ingested))\n"
        "except WardwatchError as error: sys.exit(error.exit_code)\n"
    )
    nights = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(finished_workspace.root)],
            cwd=PROJECT,
            env=child_environment(shared_folder),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=180)[0].strip() for process in nights]
    codes = [process.returncode for process in nights]

    assert 0 in codes
    assert set(codes) <= {0, Busy.exit_code}
    assert sum(int(count) for count in said if count) == 1, "the delivery was not ingested exactly once"
    assert len(publish.runs(finished_workspace.zone("published"))) == 2, "the night was published twice"
    assert leftovers(finished_workspace, lake_content(finished_workspace)) == []


def test_readers_during_a_night_see_the_old_or_the_new(
    reference_of: Callable[[str], Reference], kill_server: KillServer, tmp_path: Path
) -> None:
    reference = reference_of("night")
    workspace = copy_workspace(reference.before, tmp_path / "workspace")
    change_settings(workspace, keep_runs=5)  # a reader may still be at the run before
    published = workspace.zone("published")
    old = (published_result(published), rows_that_readers_see(workspace))
    ended: list[int] = []

    def run() -> None:
        ended.append(kill_server.run(workspace.root, "night", SECOND_NIGHT, tmp_path / "trace").code)

    writer = threading.Thread(target=run)
    writer.start()
    seen_published, seen_rows = [], []
    while writer.is_alive():
        seen_published.append(published_result(published))
        seen_rows.append(rows_that_readers_see(workspace))
    writer.join()
    new = (published_result(published), rows_that_readers_see(workspace))

    assert ended == [0]
    assert new[0] == reference.published
    assert new[1] != old[1]
    assert seen_published[0] == old[0], "the readers came too late to see anything"
    assert all(seen in (old[0], new[0]) for seen in seen_published), "a reader saw a mixture of two runs"
    assert all(seen in (old[1], new[1]) for seen in seen_rows), "a reader saw half of the night's deliveries"


def rows_that_readers_see(workspace: Workspace) -> list[tuple[str, str, int]]:
    rows = committed_deliveries(
        workspace.zone("lake"), keyring(workspace).lake_metadata_key, workspace.zone("tmp")
    )
    return [(row.delivery_id, row.status, row.rows_kept) for row in rows]
