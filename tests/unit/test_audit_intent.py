"""An action of two lines: a kill between deed and line leaves an intent, and the next run says what became of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from infra.audit import Event, read, unfinished, verify
from infra.audit_intent import Found
from schemas.errors import AuditUnavailable, DeliveryRefused, StorageFull, UsageError
from tests.support.audit_logs import lines_of, rewrite, writer
from tests.support.processes import PROJECT


def said(folder: Path) -> list[tuple[str, str, int]]:
    """(decision, reason, the intent that it belongs to) of each line."""
    return [(event.decision, event.reason_code, event.counts["intent"]) for event in read(folder)]


def test_an_action_has_a_line_before_and_one_after_with_what_came_of_it(tmp_path: Path) -> None:
    log = writer(tmp_path)
    with log.action("lake.write", "d1", purpose="nightly", case="c1", counts={"bytes": 9}) as outcome:
        assert said(tmp_path) == [("allow", "begun", 0)], "the first line is there before anything is done"
        outcome.counts["rows_kept"] = 5
        outcome.digests["content"] = "ab" * 32
        outcome.reason_code = "superseded"
    first, second = read(tmp_path)
    assert said(tmp_path) == [("allow", "begun", 0), ("allow", "superseded", 1)]
    assert first.counts == {"bytes": 9, "intent": 0}
    assert second.counts == {"rows_kept": 5, "intent": 1}
    assert second.digests == {"content": "ab" * 32}
    assert {(event.action, event.object, event.purpose, event.case) for event in (first, second)} == {
        ("lake.write", "d1", "nightly", "c1")
    }
    assert unfinished(tmp_path) == []


def test_an_action_that_fails_says_so_and_so_does_one_that_was_refused(tmp_path: Path) -> None:
    log = writer(tmp_path)

    def disk_fills_up() -> None:
        with log.action("lake.write", "d1", purpose="nightly") as outcome:
            outcome.counts["rows_kept"] = 5
            raise StorageFull("no space left")

    with pytest.raises(StorageFull):
        disk_fills_up()
    with pytest.raises(DeliveryRefused), log.action("lake.write", "d2", purpose="nightly"):
        raise DeliveryRefused("does not fit")
    with pytest.raises(KeyboardInterrupt), log.action("lake.write", "d3", purpose="nightly"):
        raise KeyboardInterrupt
    assert said(tmp_path)[1::2] == [
        ("fail", "storage.full", 1),
        ("refuse", "delivery.refused", 3),
        ("fail", "interrupted_or_crashed", 5),
    ]
    assert list(read(tmp_path))[1].counts == {"intent": 1}, "what was not kept is not counted"


def test_nothing_is_done_if_the_first_line_cannot_be_written(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.record("run.start", "night", purpose="nightly")
    (tmp_path / "log.ndjson").unlink()
    done = []
    with pytest.raises(AuditUnavailable), log.action("lake.write", "d1", purpose="nightly"):
        done.append("the deed")
    assert done == []


def test_a_deed_whose_second_line_cannot_be_written_ends_the_run_and_stays_open(tmp_path: Path) -> None:
    log = writer(tmp_path)
    with pytest.raises(AuditUnavailable), log.action("lake.write", "d1", purpose="nightly"):
        (tmp_path / "log.ndjson").rename(tmp_path / "aside")
    (tmp_path / "aside").rename(tmp_path / "log.ndjson")
    assert [event.object for event in unfinished(tmp_path)] == ["d1"]


def test_what_stopped_the_action_is_told_even_if_the_second_line_cannot_be_written(tmp_path: Path) -> None:
    log = writer(tmp_path)

    def disk_fills_up() -> None:
        with log.action("lake.write", "d1", purpose="nightly"):
            (tmp_path / "log.ndjson").rename(tmp_path / "aside")
            raise StorageFull("no space left")

    with pytest.raises(StorageFull):
        disk_fills_up()


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from infra.audit import AuditLog
log = AuditLog(Path(sys.argv[1]), lambda: datetime(2026, 11, 22, tzinfo=UTC), "p-1", "pipeline")
with log.action("lake.write", "d1", purpose="nightly"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_an_intent_and_the_next_run_says_what_became_of_it(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=PROJECT, check=False, timeout=60)
    (intent,) = unfinished(tmp_path)
    assert (intent.person, intent.action, intent.object) == ("p-1", "lake.write", "d1")
    (closed,) = writer(tmp_path).close_unfinished(["lake"], lambda event: "done")
    assert (closed.decision, closed.reason_code, closed.counts) == ("allow", "recovered_done", {"intent": 1})
    assert unfinished(tmp_path) == []
    assert writer(tmp_path).close_unfinished(["lake"]) == [], "each is closed once"
    assert verify(tmp_path, None) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("done", ("allow", "recovered_done")),
        ("not_done", ("fail", "recovered_not_done")),
        ("unknown", ("fail", "recovered_outcome_unknown")),
    ],
)
def test_the_recovery_says_what_the_judge_found(tmp_path: Path, found: Found, said: tuple[str, str]) -> None:
    leave_open(tmp_path, "landing.write", "d1")
    (closed,) = writer(tmp_path).close_unfinished(["landing.write"], lambda event: found)
    assert (closed.decision, closed.reason_code) == said


def test_only_the_intents_asked_for_are_closed(tmp_path: Path) -> None:
    """A query that another process is running now is not taken for one that was killed."""
    leave_open(tmp_path, "lake.query", "hes_apc")
    leave_open(tmp_path, "lake.write", "d1")
    leave_open(tmp_path, "lakeside.write", "d2")

    def judge(event: Event) -> Found:
        return "not_done"

    closed = writer(tmp_path).close_unfinished(["lake.write", "published"], judge)
    assert [event.object for event in closed] == ["d1"]
    assert [event.object for event in unfinished(tmp_path)] == ["hes_apc", "d2"]
    assert [event.object for event in unfinished(tmp_path, ["lake"])] == ["hes_apc"]


def test_nobody_can_pass_an_event_off_as_the_end_of_an_action(tmp_path: Path) -> None:
    leave_open(tmp_path, "lake.write", "d1")
    with pytest.raises(UsageError, match="two lines"):
        writer(tmp_path).record("lake.write", "d1", purpose="nightly", counts={"intent": 1})


def test_there_is_nothing_unfinished_before_the_first_event(tmp_path: Path) -> None:
    assert unfinished(tmp_path) == []


def leave_open(folder: Path, action: str, object: str) -> None:
    """What a kill leaves behind: the first line of two."""
    before = len(lines_of(folder)) if (folder / "log.ndjson").exists() else 0
    with writer(folder).action(action, object, purpose="nightly"):
        pass
    rewrite(folder, lines_of(folder)[: before + 1])
