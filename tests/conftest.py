"""Fixtures for tests of a whole workspace; see :mod:`tests.support.workspaces`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does, before numpy is imported

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # so that `pytest` finds tests.support just as `python -m pytest` does
    sys.path.insert(0, str(ROOT))

from infra.workspace import Workspace  # noqa: E402
from tests.support import scheduling, workspaces  # noqa: E402
from tests.support.after_each import pytest_runtest_call, pytest_runtest_makereport  # noqa: E402, F401
from tests.support.workspaces import Extracts  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [items[at] for at in scheduling.in_order(item.nodeid for item in items)]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadgroup``, the groups are those of :mod:`tests.support.scheduling`."""
    return scheduling.scheduler(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    return (base if worker_id == "master" else base.parent) / "shared"


@pytest.fixture(scope="session")
def empty_template(shared_folder: Path) -> Workspace:
    return Workspace.open(workspaces.built_once(shared_folder / "empty", workspaces.make_workspace))


@pytest.fixture(scope="session")
def extracts(shared_folder: Path, empty_template: Workspace) -> Extracts:
    """Encrypted synthetic extracts for the template's inbox key. Read only."""
    key = workspaces.recipient(empty_template)
    folder = shared_folder / "extracts"
    return workspaces.load_extracts(
        workspaces.built_once(folder, lambda path: workspaces.make_extracts(path, key))
    )


@pytest.fixture(scope="session")
def plain_extracts(shared_folder: Path, empty_template: Workspace) -> Extracts:
    """The same extracts in plaintext. Read only: copy a file before you change it."""
    key = workspaces.recipient(empty_template)
    folder = shared_folder / "plain_extracts"
    return workspaces.load_extracts(
        workspaces.built_once(folder, lambda path: workspaces.make_extracts(path, key, plain=True))
    )


@pytest.fixture(scope="session")
def finished_template(shared_folder: Path, empty_template: Workspace, extracts: Extracts) -> Workspace:
    def build(path: Path) -> None:
        workspace = workspaces.copy_workspace(empty_template, path)
        workspaces.drop(workspace, extracts.named(*workspaces.FIRST_NIGHT))
        outcome = workspaces.night(workspace)
        assert outcome.run_id, "the first night of the template has to publish"
        assert not outcome.problems, [problem.line() for problem in outcome.problems]

    return Workspace.open(workspaces.built_once(shared_folder / "finished", build))


@pytest.fixture
def nothing_computed() -> Iterator[None]:
    """Nights of this test publish empty tables, see :func:`tests.support.workspaces.computing_nothing`."""
    with workspaces.computing_nothing():
        yield


@pytest.fixture
def empty_workspace(empty_template: Workspace, tmp_path: Path) -> Workspace:
    """A new workspace of this test's own."""
    return workspaces.copy_workspace(empty_template, tmp_path / "workspace")


@pytest.fixture
def finished_workspace(finished_template: Workspace, tmp_path: Path) -> Workspace:
    """A workspace of this test's own after one night over :data:`tests.support.workspaces.FIRST_NIGHT`."""
    return workspaces.copy_workspace(finished_template, tmp_path / "workspace")
