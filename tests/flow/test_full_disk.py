"""A full disk stops a run with one line and half-keeps nothing; with space again, the next run makes up for it.

The disk is a real file system of a known size under one zone of the workspace, and the run is a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from infra.workspace import Workspace
from schemas.errors import AuditUnavailable, StorageFull
from tests.support.convergence import (
    Reference,
    lake_content,
    leftovers,
    published_result,
    unfinished_files,
)
from tests.support.disks import BALLAST, disk_under
from tests.support.kill_child import KillServer
from tests.support.processes import wardwatch
from tests.support.scenarios import SCENARIOS, SECOND_NIGHT
from tests.support.workspaces import Extracts, copy_workspace

pytestmark = pytest.mark.flow

KIB = 1024
MIB = 1024 * KIB


@pytest.mark.parametrize(
    ("zone", "room", "says"),
    [
        ("landing", 0, "a sealed file"),
        ("landing", 150 * KIB, "a sealed file"),
        ("vault", 0, "the vault"),
        ("vault", 60 * KIB, "the vault"),
        ("linkage", 0, "an encrypted table"),
        ("lake", 0, "delivery row"),
        ("lake", 20 * KIB, "committing to the lake"),
        ("lake", 90 * KIB, "writing the lake table"),
        ("lake", 2 * MIB, "closing the lake"),
        ("lake", 8 * MIB, "the readers' copy of the lake catalog"),
        ("published", 0, "published"),
        ("published", 2 * MIB, "the published database"),
        ("runs", 0, "runs"),
        ("incidents", 0, "the incident register"),
        ("tmp", 1 * MIB, "temporary files"),
    ],
)
def test_a_run_on_a_full_disk_stops_in_one_line_and_is_made_up_for(
    zone: str,
    room: int,
    says: str,
    reference_of: Callable[[str], Reference],
    kill_server: KillServer,
    tmp_path: Path,
) -> None:
    reference = reference_of("night")
    workspace = copy_workspace(reference.before, tmp_path / "workspace")
    old = published_result(workspace.zone("published"))
    with disk_under(workspace.zone(zone)) as disk:
        disk.leave(room)
        ended = kill_server.run(workspace.root, "night", SECOND_NIGHT, tmp_path / "trace")

        assert ended.code == StorageFull.exit_code, ended.said
        assert ended.said.startswith("[storage.full] "), ended.said
        assert "\n" not in ended.said
        assert says in ended.said
        assert [str(left) for left in unfinished_files(workspace)] == [], "something was half kept"
        assert published_result(workspace.zone("published")) in (old, reference.published)

        disk.grow()
        begun_again(workspace, reference)


def test_a_full_disk_under_the_audit_log_stops_the_run_before_anything_is_opened(
    reference_of: Callable[[str], Reference], kill_server: KillServer, tmp_path: Path
) -> None:
    reference = reference_of("night")
    workspace = copy_workspace(reference.before, tmp_path / "workspace")
    with disk_under(workspace.zone("audit")) as disk:
        disk.leave(0)
        ended = kill_server.run(workspace.root, "night", SECOND_NIGHT, tmp_path / "trace")

        assert ended.code == AuditUnavailable.exit_code, ended.said
        assert "lake.commit.before" not in (tmp_path / "trace").read_text(), "a delivery was taken unaudited"

        disk.grow()
        begun_again(workspace, reference)


def begun_again(workspace: Workspace, reference: Reference) -> None:
    SCENARIOS["night"].work(workspace, SECOND_NIGHT + timedelta(days=1))
    assert SCENARIOS["night"].result(workspace) == reference.result, "readers get something else"
    lake = lake_content(workspace)
    assert leftovers(workspace, lake) == []
    assert lake.tables == reference.lake
    assert lake.orphans == set(), "a run that failed and said so left files in the lake"


def test_landing_by_hand_on_a_full_disk_exits_with_its_code_and_keeps_nothing(
    empty_workspace: Workspace, extracts: Extracts, shared_folder: Path
) -> None:
    with disk_under(empty_workspace.zone("landing")) as disk:
        disk.leave(100 * KIB)
        file = str(extracts.one("HES_APC_202099"))
        ended = wardwatch(empty_workspace.root, "land", file, shared_folder=shared_folder)

        assert ended.returncode == StorageFull.exit_code
        assert [line for line in ended.stderr.splitlines() if "demonstration" not in line] == [
            "wardwatch: [storage.full] no space left while writing a sealed file. Next: free space on the "
            "workspace's disk and run again; nothing was half kept"
        ]
        assert kept(empty_workspace.zone("landing")) == []


def kept(zone: Path) -> list[str]:
    return sorted(path.name for path in zone.iterdir() if path.name != BALLAST)
