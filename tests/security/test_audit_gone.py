"""An audit log that was taken away as a whole is missed by everybody who knows of a line in it.

Whoever can write the audit folder can empty it, marks and checkpoints included. What is left then looks like a
workspace that has not begun; the witness's note, the second sink and the register say that it had.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from infra.audit import read, verify
from infra.audit_object_store import ObjectSink
from infra.register import Register
from infra.workspace import Workspace
from schemas.errors import IntegrityError
from tests.support.audit_logs import LOG_KEY, LOG_KEYS, filled, kinds, rewrite
from tests.support.command_line import Ran, wardwatch
from tests.support.reviews import Desk, fresh_desk


def wiped(audit: Path) -> None:
    shutil.rmtree(audit)
    audit.mkdir(mode=0o700)


def emptied(audit: Path) -> None:
    """The file is there, and nothing beside it."""
    wiped(audit)
    (audit / "log.ndjson").touch()


def torn(audit: Path) -> None:
    """What is left could be the beginning of a first line."""
    wiped(audit)
    (audit / "log.ndjson").write_bytes(b'{"act')


def says(audit: Path, **known: object) -> list[str]:
    return [finding.says for finding in verify(audit, LOG_KEYS, **known)]  # type: ignore[arg-type]


@pytest.mark.parametrize("harm", [wiped, emptied, torn])
def test_a_log_that_is_gone_is_missed_by_the_note_of_a_witness(tmp_path: Path, harm: object) -> None:
    audit = tmp_path / "audit"
    early = filled(audit, 4).checkpoint_with(LOG_KEY)
    note = filled(audit, 2).checkpoint_with(LOG_KEY)
    harm(audit)  # type: ignore[operator]
    assert kinds(verify(audit, LOG_KEYS)) == [], "by itself it was never begun"
    notes = [("early.txt", early.encode()), ("note.txt", note.encode())]
    assert "the audit log is gone: witnessed checkpoint note knows of 6 events" in says(audit, notes=notes)
    forged = [("note.txt", note.replace("\n6\n", "\n7\n").encode())]
    assert kinds(verify(audit, LOG_KEYS, notes=forged)) == [("checkpoint_signature", 0)]


@pytest.mark.parametrize("harm", [wiped, emptied, torn])
def test_a_log_that_is_gone_is_missed_by_the_second_sink(tmp_path: Path, harm: object) -> None:
    audit, other = tmp_path / "audit", tmp_path / "other"
    filled(audit, 5, second_sink=other).checkpoint_with(LOG_KEY)
    filled(audit, 1, second_sink=other)
    harm(audit)  # type: ignore[operator]
    found = says(audit, second_sink=other)
    assert "the audit log is gone: the second sink has 6 event(s)" in found
    assert "the audit log is gone: the second sink's checkpoint 000000000005 knows of 5 events" in found
    assert kinds(verify(audit, None, second_sink=other)) == [("sinks_differ", 0)], "signed or not"
    rewrite(other, [])
    assert kinds(verify(audit, LOG_KEYS, second_sink=other)) == [("missing", 0)], "its checkpoints are there"
    assert verify(tmp_path / "new", LOG_KEYS, second_sink=tmp_path / "new too") == [], (
        "nobody knows of a line"
    )


class Bucket:
    """What a bucket answers that holds three events, and nothing else."""

    def list_object_versions(self, *, Prefix: str, **_: str) -> dict[str, list[dict[str, str]]]:
        names = [f"{number:012d}.ndjson" for number in (1, 2, 3)] if Prefix == "lines/" else []
        return {"Versions": [{"Key": Prefix + name, "VersionId": "1"} for name in names]}


def test_a_log_that_is_gone_is_missed_by_a_bucket(tmp_path: Path) -> None:
    found = says(tmp_path, second_sink=ObjectSink(Bucket(), "audit"))
    assert found == ["the second sink has 3 event(s) that the log lacks, the first is 1"]


def test_a_mark_or_a_checkpoint_left_beside_an_empty_log_says_that_it_was_begun(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    (tmp_path / "log.ndjson").write_bytes(b"")
    assert says(tmp_path) == ["there is no audit log although it was begun"]
    filled(tmp_path / "signed", 3).checkpoint_with(LOG_KEY)
    (tmp_path / "signed" / "log.ndjson").unlink()
    assert says(tmp_path / "signed") == [
        "there is no audit log although it was begun: its newest checkpoint is of 3 events"
    ]


# the command line ------------------------------------------------------------------------------------------


def audit_verify(workspace: Workspace, *arguments: str | Path) -> Ran:
    return wardwatch(workspace.root, "audit", "verify", *arguments)


def test_verify_does_not_call_a_log_whole_that_is_gone(empty_workspace: Workspace, tmp_path: Path) -> None:
    """A note of a witness, a second sink and the register: each by itself shows it, in a workspace like any other."""
    note, other = tmp_path / "note.txt", tmp_path / "other"
    settings = empty_workspace.root / "settings.yaml"
    alone = settings.read_text()
    settings.write_text(alone.replace("second_audit_sink: ''", f"second_audit_sink: {other}"))
    note.write_text(wardwatch(empty_workspace.root, "audit", "checkpoint").out)
    assert audit_verify(empty_workspace, "--witness", note).exit_code == 0
    wiped(empty_workspace.zone("audit"))

    by_sink = audit_verify(empty_workspace)
    assert by_sink.exit_code == 40
    assert by_sink.lines_with("the audit log is gone: the second sink has 3 event(s)"), by_sink.out
    settings.write_text(alone)
    by_note = audit_verify(empty_workspace, "--witness", note)
    assert by_note.exit_code == 40
    assert by_note.lines_with("the audit log is gone: witnessed checkpoint note knows of 3 events"), (
        by_note.out
    )
    by_register = audit_verify(empty_workspace)
    assert by_register.exit_code == 40
    assert by_register.lines_with("the audit log lacks the founding of the register"), by_register.out
    assert not any("whole" in ran.out for ran in (by_sink, by_note, by_register))


def test_a_log_that_was_begun_anew_is_not_whole_and_nothing_rests_on_it(empty_workspace: Workspace) -> None:
    """Any refusal writes a first line into an empty folder, and a chain of one line holds."""
    folder = empty_workspace.zone("audit")
    wiped(folder)
    listed = wardwatch(empty_workspace.root, "keys", "list")
    assert (listed.exit_code, "founding" in listed.error) == (40, True)
    assert [event.action for event in read(folder)] == ["keys.verify"], "the refusal is on the record"
    ran = audit_verify(empty_workspace)
    assert ran.exit_code == 40
    assert ran.lines_with("the audit log lacks the founding of the register"), ran.out


# what rests on it ------------------------------------------------------------------------------------------


@pytest.fixture
def desk(shared_folder: Path, tmp_path: Path) -> Desk:
    return fresh_desk(shared_folder, tmp_path)


def test_a_spent_request_does_not_issue_a_second_list_after_the_log_was_taken_away(desk: Desk) -> None:
    request = desk.asked
    desk.approve(request)
    case = desk.case(request)
    kept = {name: (case.folder / name).read_bytes() for name in ("review-key.age", "cohort.age")}
    desk.issue(request)
    first = desk.outbox
    # Every trace of it: the log, the ledger, the record of the issue; and the keys are put back.
    wiped(desk.workspace.zone("audit"))
    shutil.rmtree(case.reviews / "ledger")
    (case.folder / "issue.json").unlink()
    for name, content in kept.items():
        (case.folder / name).write_bytes(content)
    with pytest.raises(IntegrityError, match="founding of the register"):
        desk.issue(request)
    assert desk.outbox == first, "there is no second list, and the first stays as evidence"
    with pytest.raises(IntegrityError, match="founding of the register"):
        Register.load(desk.workspace.zone("keys")).require_recorded(desk.workspace.zone("audit"))
