"""Fixtures for tests that run a scenario in processes of its own, and compare with how it runs undisturbed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.workspace import Workspace
from tests.support.convergence import Reference, lake_content, leftovers, published_result
from tests.support.kill_child import KillServer
from tests.support.scenarios import SCENARIOS, SECOND_NIGHT
from tests.support.workspaces import Extracts, built_once, copy_workspace


@pytest.fixture(scope="session")
def kill_server(shared_folder: Path) -> Iterator[KillServer]:
    with KillServer(shared_folder) as server:
        yield server


@pytest.fixture(scope="session")
def reference_of(
    shared_folder: Path, kill_server: KillServer, finished_template: Workspace, plain_extracts: Extracts
) -> Callable[[str], Reference]:
    """A function that gives the reference of a scenario; each is made once per session."""

    def build(name: str, folder: Path) -> None:
        before = copy_workspace(finished_template, folder / "before")
        SCENARIOS[name].prepare(before, plain_extracts)
        after = copy_workspace(before, folder / "after")
        ended = kill_server.run(after.root, name, SECOND_NIGHT, folder / "trace")
        assert ended.code == 0, f"the scenario {name} does not run undisturbed: {ended.said}"
        lake = lake_content(after)
        found = {
            "result": SCENARIOS[name].result(after),
            "published": published_result(after.zone("published")),
            "lake": lake.tables,
            "orphans": sorted(lake.orphans),
            "leftovers": leftovers(after, lake),
        }
        (folder / "found.json").write_text(json.dumps(found))

    def reference(name: str) -> Reference:
        folder = built_once(shared_folder / f"scenario_{name}", lambda part: build(name, part))
        found = json.loads((folder / "found.json").read_text())
        return Reference(
            scenario=name,
            before=Workspace.open(folder / "before"),
            reached=(folder / "trace").read_text().split(),
            result=found["result"],
            published=found["published"],
            lake=found["lake"],
            orphans=set(found["orphans"]),
            leftovers=found["leftovers"],
        )

    return reference
