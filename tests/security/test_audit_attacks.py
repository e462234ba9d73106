"""Attacks on the audit log that need a real file system, another user, another process or the whole command line.

What can be tried on the log's files alone is in ``tests/unit/test_audit.py``, the witness in
``tests/unit/test_audit_witness.py``, the bucket in ``test_audit_object_store.py``.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from infra import audit_object_store
from infra.audit import AuditLog, read, second_sink, unfinished, verify
from infra.audit_file import Head
from infra.audit_finding import tampering
from infra.audit_sink import FolderSink
from infra.workspace import Workspace
from schemas.errors import AuditUnavailable
from tests.support.audit_logs import edited, filled, kinds, lines_of, rewrite, ticking, writer
from tests.support.command_line import wardwatch
from tests.support.disks import BALLAST, Disk, disk_under
from tests.support.object_store import aws, silent_server
from tests.support.processes import PROJECT
from tests.support.unprivileged import as_nobody, folder_of_nobody

pytestmark = pytest.mark.flow


class Opening:
    """What an opening of the vault does around its deed: one line before, one after."""

    def __init__(self, log: AuditLog) -> None:
        self.log = log
        self.opened: list[str] = []

    def open(self, delivery: str = "d1") -> None:
        with self.log.action("vault.open", delivery, purpose="case_review"):
            self.opened.append(delivery)

    def refused(self) -> AuditUnavailable:
        before = list(self.opened)
        with pytest.raises(AuditUnavailable) as stopped:
            self.open()
        assert self.opened == before, "it was opened although the log could not say so"
        assert stopped.value.exit_code == 74
        return stopped.value


# 30, 31: the log is taken away or replaced while it is in use ---------------------------------------------


def _to_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _to_link_to_full(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/full")


def _to_link_to_null(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/null")


def _to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _to_new_file(path: Path) -> None:
    path.unlink()
    path.touch()


def _folder_gone(path: Path) -> None:
    shutil.rmtree(path.parent)


def _folder_replaced(path: Path) -> None:
    path.parent.rename(path.parent.with_name("aside"))
    path.parent.mkdir()


def _folder_is_a_file(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.touch()


@pytest.mark.parametrize("sink", ["audit", "other"])
@pytest.mark.parametrize(
    "harm",
    [
        Path.unlink,
        _to_link,
        _to_link_to_full,
        _to_link_to_null,
        _to_pipe,
        _to_folder,
        _to_new_file,
        _folder_gone,
        _folder_replaced,
        _folder_is_a_file,
    ],
)
def test_nothing_is_opened_once_a_sink_was_taken_away_or_replaced_while_in_use(
    tmp_path: Path, harm: Callable[[Path], None], sink: str
) -> None:
    opening = Opening(writer(tmp_path / "audit", second_sink=tmp_path / "other"))
    opening.open()
    harm(tmp_path / sink / "log.ndjson")
    opening.refused()
    opening.refused()
    assert opening.opened == ["d1"]


def test_nothing_is_opened_by_the_next_process_either(tmp_path: Path) -> None:
    Opening(writer(tmp_path)).open()
    _to_pipe(tmp_path / "log.ndjson")
    Opening(writer(tmp_path)).refused()


# 32: full and read-only disks, real ones ---------------------------------------------------------------


@pytest.fixture
def sinks(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("audit", "other"):
        (tmp_path / name).mkdir()
    return tmp_path / "audit", tmp_path / "other"


@pytest.mark.parametrize("full", ["audit", "other"])
def test_nothing_is_opened_while_the_disk_under_a_sink_is_full(sinks: tuple[Path, Path], full: str) -> None:
    audit, other = sinks
    with disk_under(audit if full == "audit" else other) as disk:
        opening = Opening(writer(audit, second_sink=other))
        opening.open()
        disk.leave(0)
        last = fill_to_the_brim(opening)
        opening.refused()

        disk.grow()
        opening.open("after")
        assert opening.opened[last:] == ["after"]
        assert tampering(verify(audit, None, second_sink=other)) == []
        assert lines_of(audit) == lines_of(other)


def fill_to_the_brim(opening: Opening) -> int:
    """Open until the last block of the disk is used up; returns how often that went well."""
    for _ in range(100):
        before = len(opening.opened)
        try:
            opening.open()
        except AuditUnavailable:
            # At most the second line of an opening that was allowed did not fit.
            assert len(opening.opened) - before <= 1
            return len(opening.opened)
    raise AssertionError("the disk never filled up")


@pytest.mark.parametrize("locked", ["audit", "other"])
def test_nothing_is_opened_while_the_file_system_under_a_sink_is_read_only(
    sinks: tuple[Path, Path], locked: str
) -> None:
    audit, other = sinks
    with disk_under(audit if locked == "audit" else other) as disk:
        opening = Opening(writer(audit, second_sink=other))
        opening.open()
        remount(disk, "ro")
        try:
            opening.refused()
        finally:
            remount(disk, "rw")
        opening.open("after")
    assert opening.opened == ["d1", "after"]


def remount(disk: Disk, mode: str) -> None:
    assert BALLAST, "the disk is one of tests.support.disks"
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk.path)], check=True, capture_output=True)


# Modes, as a user without rights -----------------------------------------------------------------------

OPENING = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from infra.audit import AuditLog
from schemas.errors import AuditUnavailable
from tests.support.unprivileged import become_nobody
become_nobody()
folder, harm = Path(sys.argv[1]), sys.argv[2]
log = AuditLog(folder / "audit", lambda: datetime(2026, 11, 22, tzinfo=UTC), "p-1", "guardian")
if harm != "before the first event":
    log.record("run.start", "night", purpose="nightly")
match harm:
    case "before the first event":
        (folder / "audit").mkdir(mode=0o500)
    case "the log":
        (folder / "audit" / "log.ndjson").chmod(0o400)
    case "the lock":
        (folder / "audit" / "log.lock").chmod(0o000)
    case "the folder":
        (folder / "audit").chmod(0o000)
try:
    with log.action("vault.open", "d1", purpose="case_review"):
        print("opened")
except AuditUnavailable as stopped:
    print("refused", stopped.exit_code)
"""


@pytest.mark.parametrize("harm", ["before the first event", "the log", "the lock", "the folder"])
def test_nothing_is_opened_where_the_log_may_not_be_written(harm: str) -> None:
    with folder_of_nobody() as folder:
        ran = as_nobody(OPENING, folder, harm)
    assert (ran.stdout, ran.stderr) == ("refused 74\n", "")


ANOTHER_USER = """
import os, sys, tempfile
from pathlib import Path
from tests.support.unprivileged import become_nobody
become_nobody()
log = Path(sys.argv[1])
own = Path(tempfile.mkdtemp())
for attempt in (
    lambda: log.read_bytes(),
    lambda: log.open("ab"),
    lambda: log.unlink(),
    lambda: os.truncate(log, 0),
    lambda: os.link(log, own / "log"),
    lambda: list(log.parent.iterdir()),
):
    try:
        attempt()
        print("done")
    except PermissionError:
        print("denied")
"""


def test_another_user_can_neither_read_nor_change_the_log() -> None:
    assert os.geteuid() == 0, "another user could not be tried (becoming one takes root)"
    with folder_of_nobody() as folder:
        os.chown(folder, 0, 0)
        folder.chmod(0o755)
        before = os.umask(0)
        try:
            filled(folder / "audit")
        finally:
            os.umask(before)
        ran = as_nobody(ANOTHER_USER, folder / "audit" / "log.ndjson")
        assert ran.stdout.split() == ["denied"] * 6, ran.stderr
        assert tampering(verify(folder / "audit", None)) == []


# 33: a sink that does not answer -----------------------------------------------------------------------


def test_nothing_is_opened_while_the_second_sink_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_object_store, "READ_SECONDS", 0.2)
    with silent_server() as endpoint, aws(endpoint):
        sink = second_sink("s3://audit/north")
        Opening(writer(tmp_path, second_sink=sink)).refused()


def test_a_server_that_answers_one_byte_at_a_time_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """Each byte comes within the time limit of a read; only a limit on the whole ends it."""

    class Dripping(FolderSink):
        """A sink that is always about to be done."""

        def follow(self, log: Path, head: Head, begun: bool, progress: Callable[[], None]) -> int:
            for _ in range(60):
                time.sleep(0.05)
            return super().follow(log, head, begun, progress)

    opening = Opening(
        writer(tmp_path / "audit", second_sink=Dripping(tmp_path / "other"), sink_timeout_seconds=0.5)
    )
    assert "within 0.5 seconds" in str(opening.refused())


# 34, 35: writers that are killed while others write --------------------------------------------------------

WRITING = """
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from infra.audit import AuditLog
log = AuditLog(
    Path(sys.argv[1]), lambda: datetime.now(UTC), sys.argv[2], "pipeline", second_sink=Path(sys.argv[3])
)
print("begun", flush=True)
for number in range(10_000):
    with log.action("lake.write", f"d{number}", purpose="nightly"):
        pass
    time.sleep(0.003)  # so that the other gets its turn
"""


def test_writers_killed_while_they_write_leave_a_log_without_gaps(tmp_path: Path) -> None:
    audit, other = tmp_path / "audit", tmp_path / "other"
    command = [sys.executable, "-c", WRITING, str(audit)]
    writers = [
        subprocess.Popen([*command, f"p-{n}", str(other)], cwd=PROJECT, stdout=subprocess.PIPE)
        for n in (1, 2)
    ]
    try:
        for process in writers:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
        while not (audit / "log.ndjson").exists():
            assert all(process.poll() is None for process in writers), "a writer has ended by itself"
            time.sleep(0.01)
        for person, process in zip((b'"p-1"', b'"p-2"'), writers, strict=True):
            while sum(person in line for line in lines_of(audit)) < 20:
                assert process.poll() is None, "a writer has ended by itself"
                time.sleep(0.01)
            process.kill()
    finally:
        for process in writers:
            process.kill()
            process.communicate()
    log = writer(audit, second_sink=other)
    open_before = len(unfinished(audit))
    assert open_before <= 2, "at most one action of each writer was under way"
    assert len(log.close_unfinished(["lake"], lambda _: "not_done")) == open_before
    log.record("run.start", "night", purpose="nightly")
    events = list(read(audit))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert {"p-1", "p-2"} <= {event.person for event in events}
    assert tampering(verify(audit, None, second_sink=other)) == []
    assert lines_of(audit) == lines_of(other)


# 36, 38, 40: from the command line -------------------------------------------------------------------------

FORGERY = 'p-1","decision":"allow"}\n{"seq":1,"person":"p-2"}\r\x1b[2J\u202e\x00'.replace("\x00", "\x07")


def test_a_name_that_holds_lines_json_and_control_characters_stays_one_escaped_line(
    empty_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = empty_workspace.zone("audit")
    filled(folder, 1)
    note = tmp_path / "note.txt"
    note.write_text(countersigned(empty_workspace, tmp_path / "state"))
    before = len(lines_of(folder))
    monkeypatch.setenv("WARDWATCH_PERSON", FORGERY)
    refused = wardwatch(empty_workspace.root, "audit", "witness", "--add", note)
    assert refused.exit_code == 20, "nobody of that name is in the register"
    monkeypatch.delenv("WARDWATCH_PERSON")
    (line,) = lines_of(folder)[before:]
    assert json.loads(line)["person"] == FORGERY
    assert kinds(verify(folder, None)) == []
    for arguments in (("log",), ("report", "--by", "person"), ("report", "--by", "person", "--csv")):
        shown = wardwatch(empty_workspace.root, "audit", *arguments)
        assert shown.exit_code == 0
        assert all(character.isprintable() or character == "\n" for character in shown.out), arguments
        assert len([one for one in shown.out.splitlines() if "p-2" in one]) == 1, "one event is one line"


def countersigned(workspace: Workspace, state: Path) -> str:
    assert wardwatch(workspace.root, "audit", "checkpoint").exit_code == 0
    key = workspace.zone("officers") / "auditor" / "signing.ed25519-key"
    public = workspace.zone("keys") / "public.json"
    where = ("--state", state, "--key", key, "--log-keys", public)
    return wardwatch(None, "audit", "witness", workspace.zone("audit"), *where).out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("HES_APC_201999.csv", b"EPIKEY\n1\n"),
        ("HES_APC_201999.csv", b"SURNAME,EPIKEY\nX,1\n"),
        ("unknown.csv", b"a,b\n1,2\n"),
        ("HES_APC_201999.csv.age", b"age-encryption.org/v1\n"),
        ("FILE_9434765919.zip", b"PK\x03\x04"),
    ],
)
def test_every_refused_file_has_its_line(
    empty_workspace: Workspace, tmp_path: Path, name: str, content: bytes
) -> None:
    folder = empty_workspace.zone("audit")
    before = len(list(read(folder)))
    (tmp_path / name).write_bytes(content)
    ran = wardwatch(empty_workspace.root, "land", tmp_path / name)
    assert 10 <= ran.exit_code < 20, ran.said
    refused = [event for event in list(read(folder))[before:] if event.decision == "refuse"]
    assert len(refused) == 1
    assert (refused[0].action, refused[0].object) == ("landing.write", "inbox")
    assert refused[0].reason_code in ran.error, "the log says what the person was told"
    assert b"9434765919" not in b"".join(lines_of(folder))


def test_an_event_has_no_field_that_could_hide_it(tmp_path: Path) -> None:
    assert set(inspect.signature(AuditLog.record).parameters) == {
        *("self", "action", "object", "purpose", "case", "decision", "reason_code", "counts", "digests")
    }
    filled(tmp_path)
    lines = lines_of(tmp_path)
    changes: list[dict[str, Any]] = [{"hidden": True}, {"level": "debug"}, {"deleted": 1}]
    for change in changes:
        rewrite(tmp_path, [*lines[:2], edited(lines[2], hashed=True, **change), *lines[3:]])
        assert ("unreadable", 3) in kinds(verify(tmp_path, None)), f"{change} was taken"


# 37: clocks --------------------------------------------------------------------------------------------


def test_the_hour_that_comes_twice_in_autumn_is_in_order_in_the_log(tmp_path: Path) -> None:
    summer, winter = timezone(timedelta(hours=1)), UTC
    local = iter([datetime(2026, 10, 25, 1, 50, tzinfo=summer), datetime(2026, 10, 25, 1, 10, tzinfo=winter)])
    log = AuditLog(tmp_path, lambda: next(local), "p-1", "pipeline")
    log.record("run.start", "night", purpose="nightly")
    log.record("run.finish", "night", purpose="nightly")
    first, second = read(tmp_path)
    assert second.time - first.time == timedelta(minutes=20)
    assert verify(tmp_path, None) == [], "nothing moved back"


def test_a_clock_set_back_by_a_year_changes_neither_order_nor_chain_and_is_noted(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    past = AuditLog(tmp_path, ticking(datetime(2025, 1, 1, tzinfo=UTC)), "p-1", "pipeline")
    past.record("vault.open", "d1", purpose="case_review")
    AuditLog(tmp_path, ticking(datetime(2028, 2, 29, tzinfo=UTC)), "p-1", "pipeline").record(
        "vault.open", "d2", purpose="case_review"
    )
    assert [event.seq for event in read(tmp_path)] == [1, 2, 3, 4]
    assert [(f.kind, f.line) for f in verify(tmp_path, None)] == [("clock_moved_back", 3)]
