"""The audit log takes every event or stops the action, and shows every change made to it afterwards."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra import audit
from infra.audit import AuditLog, read, verify
from infra.audit_line import canonical, parse_line
from infra.audit_patience import Patience
from infra.audit_verify import tampering
from schemas.errors import AuditUnavailable, IdentifierInText, IntegrityError, UsageError
from tests.support.audit_logs import (
    START,
    edited,
    filled,
    kinds,
    lines_of,
    rechained,
    rewrite,
    ticking,
    writer,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
KEYS = {"audit-1": [PUBLIC]}


def signed(log: AuditLog) -> str:
    return log.checkpoint(key_name="audit-1", public_key=PUBLIC, sign=KEY.sign)


# writing -----------------------------------------------------------------------------------------------


def test_an_event_says_who_did_what_to_what_why_and_whether_it_was_allowed(tmp_path: Path) -> None:
    log = writer(tmp_path)
    event = log.record(
        "vault.open",
        "hes_apc-201999-1f2e3d4c5b6a/RXX",
        purpose="case_review",
        case="review-1f2e3d4c5b6a7081",
        decision="refuse",
        reason_code="approval_expired",
        counts={"records": 0},
        digests={"request": "ab" * 32},
    )
    line = json.loads(lines_of(tmp_path)[0])
    assert line == {
        "v": 1,
        "seq": 1,
        "time": "2026-11-22T01:00:00.000Z",
        "prev": "0" * 64,
        "person": "p-014",
        "role": "data_engineer",
        "action": "vault.open",
        "object": "hes_apc-201999-1f2e3d4c5b6a/RXX",
        "purpose": "case_review",
        "case": "review-1f2e3d4c5b6a7081",
        "decision": "refuse",
        "reason_code": "approval_expired",
        "counts": {"records": 0},
        "digests": {"request": "ab" * 32},
        "h": event.h,
    }
    assert verify(tmp_path, None) == []
    assert list(read(tmp_path)) == [event]


def test_times_are_utc_whatever_the_clock_says(tmp_path: Path) -> None:
    summer = timezone(timedelta(hours=1))
    log = AuditLog(tmp_path, lambda: datetime(2026, 6, 1, 0, 30, tzinfo=summer), "p-014", "auditor")
    assert log.record("audit.read", "log", purpose="audit").time == datetime(2026, 5, 31, 23, 30, tzinfo=UTC)
    naive = AuditLog(tmp_path, lambda: datetime(2026, 6, 1), "p-014", "auditor")
    with pytest.raises(UsageError, match="time zone"):
        naive.record("audit.read", "log", purpose="audit")


def test_the_chain_goes_on_across_processes_midnight_and_the_year(tmp_path: Path) -> None:
    AuditLog(tmp_path, ticking(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)), "p-1", "pipeline").record(
        "landing.write", "one", purpose="backfill"
    )
    AuditLog(tmp_path, ticking(datetime(2027, 1, 1, tzinfo=UTC)), "p-1", "pipeline").record(
        "landing.write", "two", purpose="backfill"
    )
    assert [event.seq for event in read(tmp_path)] == [1, 2]
    assert verify(tmp_path, None) == []


def test_control_characters_in_a_name_stay_escaped_on_one_line(tmp_path: Path) -> None:
    person = 'p\n{"seq":99}\r\x1b[31m\u2028\udc80"'
    AuditLog(tmp_path, ticking(), person, "pipeline").record("landing.write", "one", purpose="backfill")
    raw = (tmp_path / "log.ndjson").read_bytes()
    assert raw.count(b"\n") == 1
    assert raw.isascii()
    assert b"\x1b" not in raw
    assert verify(tmp_path, None) == []
    assert next(read(tmp_path)).person.startswith("p\n{")


@pytest.mark.parametrize(
    "change",
    [
        {"action": "Vault Open"},
        {"action": "vault\nopen"},
        {"object": ""},
        {"object": "../etc\n"},
        {"object": "x" * 201},
        {"purpose": "a purpose with spaces"},
        {"case": "case\x00"},
        {"decision": "maybe"},
        {"reason_code": "because: it broke"},
        {"counts": {"rows": "9434765919"}},
        {"counts": {"rows": 1.5}},
        {"counts": {"rows": True}},
        {"counts": {"9434765919 x": 1}},
        {"counts": {"rows": 1 << 64}},
        {"digests": {"file": "not hex"}},
        {"digests": {"file": "9434765919"}},
    ],
)
def test_a_field_of_another_shape_is_refused_and_not_repeated(tmp_path: Path, change: dict[str, Any]) -> None:
    call = {"action": "vault.open", "object": "x", "purpose": "backfill"} | change
    with pytest.raises(UsageError) as refused:
        writer(tmp_path).record(call.pop("action"), call.pop("object"), **call)
    assert "9434765919" not in str(refused.value)
    assert not (tmp_path / "log.ndjson").exists(), "nothing may be written"


@pytest.mark.parametrize(
    "change",
    [
        {"object": "9434765919"},
        {"object": "patient/943 476 5919"},
        {"case": "943-476-5919"},
        {"reason_code": "9434765919"},
        {"counts": {"9434765919": 1}},
    ],
)
def test_an_identifier_never_enters_the_log(tmp_path: Path, change: dict[str, Any]) -> None:
    call = {"action": "vault.open", "object": "x", "purpose": "backfill"} | change
    with pytest.raises(IdentifierInText) as refused:
        writer(tmp_path).record(call.pop("action"), call.pop("object"), **call)
    assert "9434765919" not in str(refused.value)
    with pytest.raises(IdentifierInText):
        AuditLog(tmp_path, ticking(), "9434765919", "pipeline")


def test_files_and_folders_of_the_log_are_for_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        signed(filled(tmp_path / "audit", second_sink=tmp_path / "other"))
    finally:
        os.umask(before)
    for path in [tmp_path / "audit", tmp_path / "other", *(tmp_path / "audit").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, f"{path.name} is open to others"


# two writers -------------------------------------------------------------------------------------------


def _write_many(folder: Path, person: str) -> None:
    log = AuditLog(folder, lambda: START, person, "pipeline")
    for _ in range(40):
        log.record("lake.write", "hes_apc", purpose="backfill")


def test_parallel_processes_and_threads_leave_a_log_without_gaps(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(tmp_path, f"p-{n}")) for n in range(2)]
    shared = writer(tmp_path)
    threads = [
        threading.Thread(
            target=lambda: [shared.record("lake.read", "x", purpose="backfill") for _ in "12345"]
        )
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.join()
    assert [event.seq for event in read(tmp_path)] == list(range(1, 101))
    assert {event.person for event in read(tmp_path)} == {"p-0", "p-1", "p-014"}
    assert tampering(verify(tmp_path, None)) == []


def test_a_lock_that_never_comes_free_stops_the_action_after_a_bounded_wait(tmp_path: Path) -> None:
    import fcntl

    log = filled(tmp_path, 1, lock_timeout_seconds=0.05)
    with (tmp_path / "log.lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(AuditUnavailable, match="has held the audit log") as stopped:
            log.record("vault.open", "x", purpose="case_review")
    assert stopped.value.exit_code == 74
    assert log.record("vault.open", "x", purpose="case_review").seq == 2


class Disk:
    """A disk that can be made to answer nothing for a while."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Event()

    def fsync(self, descriptor: int) -> None:
        self.asked.set()
        assert self.answers.wait(30), "the test has forgotten to let the disk answer"


def test_a_disk_that_does_not_answer_stops_the_action_after_a_bounded_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(tmp_path, 2, sink_timeout_seconds=1.0)
    other = writer(tmp_path, lock_timeout_seconds=0.05)
    disk = Disk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    disk.answers.clear()
    with pytest.raises(AuditUnavailable, match="not written within"):
        log.record("vault.open", "x", purpose="case_review")
    with pytest.raises(AuditUnavailable, match="still waits for its disk"):
        log.record("vault.open", "y", purpose="case_review")
    with pytest.raises(AuditUnavailable, match="has held the audit log"):
        other.record("vault.open", "z", purpose="case_review")

    disk.answers.set()
    deadline = time.monotonic() + 10
    while len(lines_of(tmp_path)) < 4 and time.monotonic() < deadline:
        try:
            log.record("vault.open", "again", purpose="case_review")
        except AuditUnavailable:
            time.sleep(0.01)
    assert [event.object for event in read(tmp_path)][2:] == ["x", "again"], "what was stuck keeps its place"
    assert tampering(verify(tmp_path, None)) == []


def test_work_that_makes_progress_is_waited_for() -> None:
    patience = Patience(0.8)

    def work() -> str:
        for _ in range(4):
            time.sleep(0.25)
            patience.progress()
        return "done"

    assert patience.run(work) == "done"
    with pytest.raises(UsageError):
        patience.run(checked_to_fail)


def checked_to_fail() -> None:
    raise UsageError("an error comes through as it is")


# the log is no longer the log --------------------------------------------------------------------------


def _unlink(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _second_name(path: Path) -> None:
    os.link(path, path.with_name("copy"))


def _grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


@pytest.mark.parametrize("harm", [_unlink, _replace, _truncate, _empty, _second_name])
@pytest.mark.parametrize("second", [False, True], ids=["log", "second sink"])
def test_a_log_harmed_while_in_use_stops_the_next_action(
    tmp_path: Path, harm: Callable[[Path], None], second: bool
) -> None:
    log = filled(tmp_path / "audit", second_sink=tmp_path / "other")
    harm((tmp_path / ("other" if second else "audit")) / "log.ndjson")
    with pytest.raises(AuditUnavailable):
        log.record("vault.open", "x", purpose="case_review")


@pytest.mark.parametrize("harm", [_unlink, _replace, _truncate, _empty, _second_name, _grow])
def test_a_log_harmed_in_the_middle_of_an_append_stops_that_action(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    filled(tmp_path)
    harmed = False

    def clock() -> datetime:  # is asked for the time between the look at the log and the append
        nonlocal harmed
        if not harmed:
            harm(tmp_path / "log.ndjson")
        harmed = True
        return START

    log = AuditLog(tmp_path, clock, "p-014", "pipeline")
    with pytest.raises(AuditUnavailable):
        log.record("vault.open", "x", purpose="case_review")


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("kind", ["link", "fifo", "device", "folder"])
def test_a_log_that_is_not_a_regular_file_stops_the_action(tmp_path: Path, kind: str, begun: bool) -> None:
    folder = tmp_path / "audit"
    folder.mkdir()
    if begun:
        filled(folder)
        (folder / "log.ndjson").rename(tmp_path / "elsewhere")
    path = folder / "log.ndjson"
    match kind:
        case "link":
            (tmp_path / "elsewhere").touch()
            path.symlink_to(tmp_path / "elsewhere")
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/full")
        case "folder":
            path.mkdir()
    with pytest.raises(AuditUnavailable):
        writer(folder).record("vault.open", "x", purpose="case_review")


def test_a_log_that_is_gone_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "log.ndjson").unlink()
    with pytest.raises(AuditUnavailable, match="missing although it was begun"):
        writer(tmp_path).record("vault.open", "x", purpose="case_review")
    assert kinds(verify(tmp_path, KEYS)) == [("missing", 0)]
    (tmp_path / "log.ndjson").touch()
    with pytest.raises(AuditUnavailable, match="empty although it was begun"):
        writer(tmp_path).record("vault.open", "x", purpose="case_review")


def test_a_log_cut_off_before_its_last_checkpoint_stops_the_next_writer(tmp_path: Path) -> None:
    signed(filled(tmp_path))
    rewrite(tmp_path, lines_of(tmp_path)[:-1])
    with pytest.raises(AuditUnavailable, match="ends before its last checkpoint"):
        writer(tmp_path).record("vault.open", "x", purpose="case_review")


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("after", [0, 1], ids=["log", "second sink"])
def test_a_disk_that_refuses_stops_the_action_and_the_next_one_accounts_for_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int, after: int
) -> None:
    log = filled(tmp_path / "audit", second_sink=tmp_path / "other")
    genuine = getattr(os, call)
    calls = 0

    def failing(descriptor: int, *data: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            if data:
                genuine(descriptor, bytes(data[0])[:40])  # some of it got through
            raise OSError(error, "the disk's own words")
        return genuine(descriptor, *data)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing)
        with pytest.raises(AuditUnavailable) as stopped:
            log.record("vault.open", "x", purpose="case_review")
    assert stopped.value.exit_code == 74
    again = log.record("vault.open", "x", purpose="case_review")
    events = list(read(tmp_path / "audit"))
    assert events[-1] == again
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert tampering(verify(tmp_path / "audit", None, second_sink=tmp_path / "other")) == []


# torn lines --------------------------------------------------------------------------------------------


def byte_classes(line: bytes) -> list[int]:
    """Where to tear ``line``: once before and once after each kind of byte that JSON and a log line have, in each of
    its fields' first and last byte, and near both ends."""
    entry = json.loads(line)
    places = {1, 2, len(line) - 3, len(line) - 2, len(line) - 1}
    for name in entry:
        key = line.index(f'"{name}":'.encode())
        value = key + len(name) + 3
        places |= {key, key + 1, value, value + 1, value + 2}
    escape = line.index(b"\\u")
    places |= {escape + step for step in range(7)}
    return sorted(place for place in places if 0 < place < len(line))


def test_a_line_torn_at_any_byte_is_kept_and_accounted_for_by_the_next_event(tmp_path: Path) -> None:
    filled(tmp_path / "whole", 2)
    AuditLog(tmp_path / "whole", ticking(), "p-\u00e9", "pipeline").record(
        "landing.read", "x", purpose="", counts={"rows": -7}, digests={"file": "ab" * 32}
    )
    two, torn_line = lines_of(tmp_path / "whole")[:2], lines_of(tmp_path / "whole")[2]
    last = len(torn_line)
    folder = tmp_path / "torn"
    for kept in byte_classes(torn_line):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", folder)
        torn = torn_line[:kept]
        rewrite(folder, [*two, torn])
        assert [finding.kind for finding in verify(folder, None)] == ["torn"], f"torn after {kept} bytes"
        event = writer(folder).record("vault.open", "x", purpose="case_review")
        raw = (folder / "log.ndjson").read_bytes()
        assert torn + b"\n" in raw, "the torn bytes stay"
        assert tampering(verify(folder, None)) == []
        recovered = next(read(folder, action="audit.recovered"))
        assert event.seq == recovered.seq + 1
        if kept < last - 1:
            assert recovered.reason_code == "torn_line"
            assert recovered.counts == {"bytes": kept}
            assert recovered.seq == 3
        else:
            assert recovered.reason_code == "line_end_was_missing", "a whole line without its end counts"
            assert recovered.seq == 4


def test_a_crash_during_the_recovery_is_recovered_too(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    rewrite(tmp_path, [*lines_of(tmp_path), b'{"action":"vau', b"\n", b'{"acti'])
    writer(tmp_path).record("vault.open", "x", purpose="case_review")
    assert ("recovered", 3) in [(finding.kind, finding.line) for finding in verify(tmp_path, None)]
    assert tampering(verify(tmp_path, None)) == []
    assert [event.seq for event in read(tmp_path)] == [1, 2, 3, 4]


def test_torn_bytes_without_their_recovery_are_a_finding(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    lines = lines_of(tmp_path)
    rewrite(tmp_path, [*lines[:2], b"something else\n", lines[2]])
    assert kinds(verify(tmp_path, None)) == [("unreadable", 3)]


def test_a_changed_last_line_is_no_torn_line(tmp_path: Path) -> None:
    filled(tmp_path)
    lines = lines_of(tmp_path)
    for last in (edited(lines[-1], person="p-666"), b'{"seq":6}\n'):
        rewrite(tmp_path, [*lines[:-1], last])
        with pytest.raises(AuditUnavailable, match="last line of the audit log was changed"):
            writer(tmp_path).record("vault.open", "x", purpose="case_review")


def test_a_log_with_a_tear_longer_than_what_is_read_back_at_once_is_recovered(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    rewrite(tmp_path, [*lines_of(tmp_path), b'{"torn":"' + b"x" * 300_000])
    assert writer(tmp_path).record("vault.open", "x", purpose="case_review").seq == 4
    assert tampering(verify(tmp_path, None)) == []


# the second sink ---------------------------------------------------------------------------------------


def test_a_second_sink_that_fell_behind_is_brought_up_and_the_fact_recorded(tmp_path: Path) -> None:
    first, other = tmp_path / "audit", tmp_path / "other"
    filled(first, second_sink=other)
    lines = lines_of(other)
    for kept in ([*lines[:-1]], [*lines[:-2], lines[-2][:25]]):
        rewrite(other, kept)
        writer(first, second_sink=other).record("vault.open", "x", purpose="case_review")
        assert (first / "log.ndjson").read_bytes() == (other / "log.ndjson").read_bytes()
        assert list(read(first))[-2].reason_code == "second_sink_was_behind"
        assert tampering(verify(first, None, second_sink=other)) == []


def test_a_second_sink_may_be_added_later(tmp_path: Path) -> None:
    filled(tmp_path / "audit")
    filled(tmp_path / "audit", 1, second_sink=tmp_path / "other")
    assert tampering(verify(tmp_path / "audit", None, second_sink=tmp_path / "other")) == []


def test_sinks_that_hold_different_lines_stop_the_action(tmp_path: Path) -> None:
    first, other = tmp_path / "audit", tmp_path / "other"
    filled(first, second_sink=other)
    lines = lines_of(other)
    rewrite(other, [*lines[:-1], edited(lines[-1], hashed=True, person="p-666")])
    with pytest.raises(AuditUnavailable, match=r"shorter than its second sink|hold different lines"):
        writer(first, second_sink=other).record("vault.open", "x", purpose="case_review")
    assert kinds(verify(first, None, second_sink=other)) == [("sinks_differ", 6)]


def test_a_log_shorter_than_its_second_sink_stops_the_action(tmp_path: Path) -> None:
    first, other = tmp_path / "audit", tmp_path / "other"
    filled(first, second_sink=other)
    rewrite(first, lines_of(first)[:-1])
    with pytest.raises(AuditUnavailable, match="shorter than its second sink"):
        writer(first, second_sink=other).record("vault.open", "x", purpose="case_review")
    assert kinds(verify(first, None, second_sink=other)) == [("sinks_differ", 6)]
    (other / "log.ndjson").unlink()
    assert kinds(verify(first, None, second_sink=other)) == [("sinks_differ", 0)]


@pytest.mark.parametrize("harm", [_empty, _unlink, lambda path: shutil.rmtree(path.parent)])
def test_a_second_sink_that_was_emptied_is_not_filled_up_again(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    first, other = tmp_path / "audit", tmp_path / "other"
    filled(first, second_sink=other)
    harm(other / "log.ndjson")
    for _ in range(2):
        with pytest.raises(AuditUnavailable, match="although it was begun"):
            writer(first, second_sink=other).record("vault.open", "x", purpose="case_review")
    third = tmp_path / "third"
    writer(first, second_sink=third).record("audit.move_sink", "log", purpose="")
    assert tampering(verify(first, None, second_sink=third)) == [], "another place is another sink"


def test_a_second_sink_cut_off_before_its_last_checkpoint_stops_the_action(tmp_path: Path) -> None:
    first, other = tmp_path / "audit", tmp_path / "other"
    signed(filled(first, second_sink=other))
    rewrite(other, lines_of(other)[:3])
    with pytest.raises(AuditUnavailable, match="second sink of the audit log ends before"):
        writer(first, second_sink=other).record("vault.open", "x", purpose="case_review")


def test_the_checkpoints_of_the_second_sink_hold_a_log_that_lost_its_own(tmp_path: Path) -> None:
    first, other = tmp_path / "audit", tmp_path / "other"
    signed(filled(first, second_sink=other))
    shutil.rmtree(first / "checkpoints")
    for sink in (first, other):
        rewrite(sink, lines_of(sink)[:4])
    assert kinds(verify(first, KEYS)) == [], "by itself it looks like a log that was never signed"
    assert kinds(verify(first, KEYS, second_sink=other)) == [("truncated", 4)]


# tampering ---------------------------------------------------------------------------------------------


def test_an_untouched_log_has_nothing_to_say_for_itself(tmp_path: Path) -> None:
    assert verify(tmp_path / "never begun", KEYS) == []
    log = filled(tmp_path)
    assert [finding.kind for finding in verify(tmp_path, KEYS)] == ["no_checkpoint"]
    signed(log)
    assert verify(tmp_path, KEYS) == []


TAMPERING: list[tuple[str, Callable[[list[bytes]], list[bytes]], list[tuple[str, int]]]] = [
    ("a line was edited", lambda x: [*x[:2], edited(x[2], decision="refuse"), *x[3:]], [("edited", 3)]),
    (
        "edited, hash made to fit",
        lambda x: [*x[:2], edited(x[2], hashed=True, role="x"), *x[3:]],
        [("edited", 3)],
    ),
    ("its number was edited", lambda x: [*x[:2], edited(x[2], seq=40), *x[3:]], [("edited", 3)]),
    ("the first line was edited", lambda x: [edited(x[0], person="p-2"), *x[1:]], [("edited", 1)]),
    ("a line was deleted", lambda x: [*x[:2], *x[3:]], [("deleted", 3)]),
    ("two lines were deleted", lambda x: [*x[:2], *x[4:]], [("deleted", 3)]),
    ("the first line was deleted", lambda x: x[1:], [("deleted", 1)]),
    ("two lines were swapped", lambda x: [*x[:2], x[3], x[2], *x[4:]], [("reordered", 4)]),
    ("a line was doubled", lambda x: [*x[:3], x[2], *x[3:]], [("inserted", 4)]),
    (
        "a line was inserted",
        lambda x: [*x[:3], edited(x[3], hashed=True, person="p-2"), *x[3:]],
        [("inserted", 4)],
    ),
    (
        "other spacing",
        lambda x: [*x[:2], x[2].replace(b":", b": ", 1), *x[3:]],
        [("unreadable", 3), ("deleted", 4)],
    ),
    (
        "a key was doubled",
        lambda x: [*x[:2], b'{"action":"a",' + x[2][1:], *x[3:]],
        [("unreadable", 3), ("deleted", 4)],
    ),
    ("a blank line", lambda x: [*x[:2], b"\n", *x[2:]], [("unreadable", 3)]),
]


@pytest.mark.parametrize(("_what", "tamper", "expected"), TAMPERING, ids=[t[0] for t in TAMPERING])
def test_verification_says_what_was_done_to_which_line(
    tmp_path: Path,
    _what: str,
    tamper: Callable[[list[bytes]], list[bytes]],
    expected: list[tuple[str, int]],
) -> None:
    filled(tmp_path)
    rewrite(tmp_path, tamper(lines_of(tmp_path)))
    assert kinds(verify(tmp_path, None)) == expected


@pytest.mark.parametrize(
    ("what", "tamper", "expected"),
    [
        ("cut off", lambda x: x[:-2], ("truncated", 4)),
        ("rewritten", lambda x: rechained([edited(x[0], person="p-2"), *x[1:]]), ("rewritten", 6)),
        ("shortened and rewritten", lambda x: rechained([*x[:2], *x[3:]]), ("truncated", 5)),
        ("a line slipped in", lambda x: rechained([*x[:2], x[2], *x[2:]]), ("rewritten", 6)),
    ],
)
def test_a_log_cut_off_or_rewritten_as_a_whole_contradicts_its_checkpoint(
    tmp_path: Path, what: str, tamper: Callable[[list[bytes]], list[bytes]], expected: tuple[str, int]
) -> None:
    signed(filled(tmp_path))
    rewrite(tmp_path, tamper(lines_of(tmp_path)))
    assert kinds(verify(tmp_path, None)) == [], f"the chain alone cannot show that it was {what}"
    assert kinds(verify(tmp_path, KEYS)) == [expected]


def test_any_change_before_the_last_checkpoint_is_found(tmp_path: Path) -> None:
    signed(filled(tmp_path, 12))
    genuine = b"".join(lines_of(tmp_path))
    choice = random.Random(20261122)
    for _ in range(300):
        data = bytearray(genuine)
        at = choice.randrange(len(data))
        match choice.randrange(3):
            case 0:
                data[at] ^= 1 << choice.randrange(8)
            case 1:
                del data[at : at + choice.randrange(1, 900)]
            case _:
                data[at:at] = data[choice.randrange(len(data)) :][: choice.randrange(1, 900)]
        if bytes(data) != genuine:
            (tmp_path / "log.ndjson").write_bytes(data)
            assert tampering(verify(tmp_path, KEYS)), "a change went unnoticed"


def test_a_clock_that_moved_back_is_noted_and_no_tampering(tmp_path: Path) -> None:
    times = iter([START, START - timedelta(hours=1), START])
    log = AuditLog(tmp_path, lambda: next(times), "p-014", "pipeline")
    for _ in range(3):
        log.record("lake.read", "x", purpose="backfill")
    assert [(f.kind, f.line, f.severity) for f in verify(tmp_path, None)] == [("clock_moved_back", 2, "note")]


# checkpoints -------------------------------------------------------------------------------------------


def test_a_checkpoint_names_origin_size_and_head_and_is_kept_in_both_sinks(tmp_path: Path) -> None:
    log = filled(tmp_path / "audit", second_sink=tmp_path / "other")
    note = signed(log)
    origin, size, _root, empty, signature, end = note.split("\n")
    assert (origin, size, empty, end) == ("wardwatch/audit", "6", "", "")
    assert signature.startswith("\u2014 audit-1 ")
    for sink in ("audit", "other"):
        assert (tmp_path / sink / "checkpoints" / "000000000006.txt").read_text() == note
    assert signed(log) == note, "the same log has the same checkpoint"


def test_a_changed_log_gets_no_checkpoint(tmp_path: Path) -> None:
    filled(tmp_path)
    lines = lines_of(tmp_path)
    rewrite(tmp_path, [*lines[:2], edited(lines[2], person="p-2"), *lines[3:]])
    with pytest.raises(IntegrityError, match="edited, line 3"):
        signed(writer(tmp_path))
    assert not (tmp_path / "checkpoints").exists()


def test_an_empty_log_gets_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no events"):
        signed(writer(tmp_path))


def _another_key(note: str) -> str:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    text = note.partition("\n\n")[0] + "\n"
    from infra.audit_checkpoint import signature_line

    return text + "\n" + signature_line(text.encode(), "audit-1", PUBLIC, other.sign)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda note: note.replace("\n6\n", "\n5\n"), "checkpoint_signature"),
        (_another_key, "checkpoint_signature"),
        (lambda note: note.replace("audit-1", "audit-2"), "checkpoint_unknown_key"),
        (lambda note: note.partition("\n\n")[0] + "\n\n", "checkpoint_unknown_key"),
        (lambda note: note.replace("wardwatch/audit", "another/log"), "checkpoint_unreadable"),
        (lambda note: note.replace("\n6\n", "\n06\n"), "checkpoint_unreadable"),
        (lambda note: note + "tail\n", "checkpoint_unreadable"),
        (lambda note: "", "checkpoint_unreadable"),
    ],
)
def test_a_checkpoint_that_was_changed_or_forged_is_found(
    tmp_path: Path, change: Callable[[str], str], kind: str
) -> None:
    note = signed(filled(tmp_path))
    (tmp_path / "checkpoints" / "000000000006.txt").write_text(change(note))
    assert kinds(verify(tmp_path, KEYS)) == [(kind, 0)]


def test_a_checkpoint_of_a_key_that_was_rotated_still_counts(tmp_path: Path) -> None:
    log = filled(tmp_path)
    signed(log)
    newer = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = newer.public_key().public_bytes_raw()
    log.record("keys.rotate", "audit-1", purpose="")
    log.checkpoint(key_name="audit-1", public_key=public, sign=newer.sign)
    assert verify(tmp_path, {"audit-1": [PUBLIC, public]}) == []
    assert kinds(verify(tmp_path, {"audit-1": [public]})) == [("checkpoint_signature", 0)]


def test_a_finding_reads_as_a_sentence_with_its_line(tmp_path: Path) -> None:
    filled(tmp_path)
    rewrite(tmp_path, lines_of(tmp_path)[1:])
    assert [str(finding) for finding in verify(tmp_path, KEYS)] == [
        "there is no checkpoint: a log that was cut off would not show (note)",
        "line 1: event 1 deleted before this line (deleted)",
    ]


def test_a_checkpoint_is_due_after_so_many_events_or_a_day(tmp_path: Path) -> None:
    assert not audit.checkpoint_is_due(tmp_path, START)
    log = filled(tmp_path, 6)
    assert audit.checkpoint_is_due(tmp_path, START, events=6)
    assert not audit.checkpoint_is_due(tmp_path, START, events=7)
    assert audit.checkpoint_is_due(tmp_path, START + timedelta(days=1), events=7)
    signed(log)
    assert not audit.checkpoint_is_due(tmp_path, START + timedelta(days=9))


# reading -----------------------------------------------------------------------------------------------


def test_an_auditor_can_ask_by_person_object_action_decision_and_time(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.record("vault.open", "a", purpose="case_review", case="c1", decision="refuse")
    log.record("vault.open.part", "a", purpose="case_review", case="c1")
    log.record("vaulted", "b", purpose="backfill")

    def found(**conditions: Any) -> list[int]:
        return [event.seq for event in read(tmp_path, **conditions)]

    assert found(action="vault.open") == [1, 2]
    assert found(action="vault") == [1, 2]
    assert found(decision="refuse") == [1]
    assert found(object="b") == [3]
    assert found(case="c1", decision="allow") == [2]
    assert found(purpose="backfill") == [3]
    assert found(person="p-014", role="data_engineer") == [1, 2, 3]
    assert found(person="p-015") == []
    assert found(since=START + timedelta(seconds=1), until=START + timedelta(seconds=2)) == [2]


def test_there_is_no_log_to_read_before_the_first_event(tmp_path: Path) -> None:
    assert list(read(tmp_path)) == []


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_a_reader_is_not_kept_waiting_by_what_is_no_log(tmp_path: Path, kind: str) -> None:
    match kind:
        case "fifo":
            os.mkfifo(tmp_path / "log.ndjson")
        case "folder":
            (tmp_path / "log.ndjson").mkdir()
        case "link":
            (tmp_path / "log.ndjson").symlink_to("/dev/zero")
    with pytest.raises(AuditUnavailable, match="not a regular file"):
        list(read(tmp_path))
    with pytest.raises(AuditUnavailable, match="not a regular file"):
        audit.unfinished(tmp_path)
    (tmp_path / "log.started").touch()
    assert kinds(verify(tmp_path, KEYS)) == [("missing", 0)]


def test_a_line_is_parsed_only_if_a_writer_could_have_written_it() -> None:
    entry = {name: "" for name in ("person", "role", "action", "object", "purpose", "case", "decision")}
    line = entry | {"reason_code": "", "time": "", "prev": "", "h": "", "v": 1, "seq": 1}
    line |= {"counts": {}, "digests": {}}
    assert parse_line(canonical(line)) is not None
    changes: list[dict[str, Any]] = [
        {"seq": True},
        {"seq": "1"},
        {"counts": []},
        {"digests": []},
        {"person": 1},
        {"more": 1},
    ]
    for change in changes:
        assert parse_line(canonical(line | change)) is None, f"{change} is not a line"
    assert parse_line(b"[]") is None
    assert parse_line(b"{") is None
    assert parse_line(b"[" * 100_000) is None
