"""Crash: disks that can only be read, syncs that fail under the lake, and locks that somebody left behind.

Attacks 100 to 102 of the paper; full disks are in ``tests/flow/test_full_disk.py``, kills in ``test_kill.py``.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from infra import engine, lake, publish
from infra.lake import committed_deliveries
from infra.workspace import Workspace
from schemas.errors import AuditUnavailable, StorageFailed, WardwatchError
from tests.support.convergence import lake_content, leftovers, unfinished_files
from tests.support.disks import Disk, disk_under
from tests.support.processes import PROJECT
from tests.support.workspaces import EVENING, Clock, Extracts, drop, keyring, night, tree

# What is computed plays no part here.
pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("nothing_computed")]

TONIGHT = Clock(EVENING + timedelta(days=1))
TOMORROW = Clock(EVENING + timedelta(days=2))
NEW = "HES_OP_202206"


def in_use(workspace: Workspace) -> set[str]:
    rows = committed_deliveries(
        workspace.zone("lake"), keyring(workspace).lake_metadata_key, workspace.zone("tmp")
    )
    return {row.delivery_id for row in rows}


def remount(disk: Disk, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk.path)], check=True, capture_output=True)


# 100: a file system that can only be read ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "error"),
    [
        ("landing", StorageFailed),
        ("vault", StorageFailed),
        ("lake", WardwatchError),
        ("published", StorageFailed),
        ("audit", AuditUnavailable),
    ],
)
def test_a_zone_that_can_only_be_read_stops_the_night_and_the_old_stays(
    finished_workspace: Workspace, extracts: Extracts, zone: str, error: type[WardwatchError]
) -> None:
    workspace = finished_workspace
    old_run, old = publish.current_run(workspace.zone("published")), in_use(workspace)
    drop(workspace, extracts.named(NEW))
    with disk_under(workspace.zone(zone)) as disk:
        remount(disk, "ro")
        try:
            with pytest.raises(error) as stopped:
                night(workspace, TONIGHT)
        finally:
            remount(disk, "rw")
        assert "\n" not in str(stopped.value)
        assert publish.current_run(workspace.zone("published")) == old_run
        assert [str(left) for left in unfinished_files(workspace)] == []

        outcome = night(workspace, TOMORROW)
        assert (outcome.problems, bool(outcome.run_id)) == ([], True)
        assert len(in_use(workspace) - old) == 1
        assert leftovers(workspace, lake_content(workspace)) == []


# 101: a sync that fails -------------------------------------------------------------------------------------


def test_a_sync_that_fails_under_the_readers_copy_of_the_lake_leaves_the_old_one(
    finished_workspace: Workspace, extracts: Extracts
) -> None:
    """The database's own files are synced by the engine, which ends the transaction with an error of its own."""
    workspace = finished_workspace
    before, shown = in_use(workspace), (workspace.zone("lake") / lake.READER_CATALOG).read_bytes()
    drop(workspace, extracts.named(NEW))

    def broken(_path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with patch.object(lake, "sync_file", broken), pytest.raises(StorageFailed):
        night(workspace, TONIGHT)
    assert (workspace.zone("lake") / lake.READER_CATALOG).read_bytes() == shown
    assert [path.name for path in tree(workspace.zone("lake")) if path.name.endswith(".part")] == []
    assert in_use(workspace) == before, "readers see what they saw"

    outcome = night(workspace, TOMORROW)
    assert (outcome.problems, bool(outcome.run_id)) == ([], True)
    assert len(in_use(workspace) - before) == 1
    assert leftovers(workspace, lake_content(workspace)) == []


# 102: what a dead run left behind -----------------------------------------------------------------------------

HOLDING = """
import sys, time
from pathlib import Path
from infra.workspace import Workspace
with Workspace.open(Path(sys.argv[1])).writer_lock():
    print("held", flush=True)
    time.sleep(120)
"""


def test_a_lock_does_not_outlive_the_run_that_held_it(empty_workspace: Workspace) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(empty_workspace.root)], cwd=PROJECT, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(WardwatchError), empty_workspace.writer_lock():
        raise AssertionError("two held it at once")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with empty_workspace.writer_lock():
        pass


@pytest.mark.parametrize(
    "number", [1, os.getpid(), 4_000_000_000], ids=["the first process", "this process", "none"]
)
def test_a_lock_file_from_before_a_reboot_holds_nobody_up(empty_workspace: Workspace, number: int) -> None:
    """Whatever number it may hold, of a process that lives or not: it is the system that holds the lock."""
    lock = empty_workspace.root / ".writer.lock"
    lock.write_text(str(number))
    with empty_workspace.writer_lock():
        assert lock.exists()


def test_spill_of_a_dead_process_whose_number_was_given_again_waits_for_that_one_and_harms_nobody(
    tmp_path: Path,
) -> None:
    taken = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    left = tmp_path / f"{engine.SPILL_FOLDER}-{taken.pid}-1"
    left.mkdir()
    connection = engine.open_engine("200MB", tmp_path)
    assert connection.execute("select 42").fetchone() == (42,)
    connection.close()
    assert engine.sweep_spill(tmp_path) == 0, "it could be that one's own"
    taken.communicate(b"\n")
    assert engine.sweep_spill(tmp_path) == 1
    assert not left.exists()
