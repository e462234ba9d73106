"""``wardwatch audit``: reading, verifying, signing, witnessing and reviewing the log from the command line."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from infra import audit_object_store
from infra.audit import AuditLog, read
from infra.workspace import Workspace
from tests.support.audit_logs import LOG_KEY, edited, lines_of, rechained, rewrite, ticking
from tests.support.command_line import Ran, wardwatch
from tests.support.object_store import aws, silent_server
from tests.support.workspaces import EVENING, Clock

OPENING = "hes_apc-201999-1f2e3d4c5b6a/hospital:RXX/item:date_of_birth"


@pytest.fixture
def workspace(empty_workspace: Workspace) -> Workspace:
    """A workspace whose log holds, after the two lines of its founding, an opening, a refused one and a query, signed
    before the query."""
    folder = empty_workspace.zone("audit")
    guardian = AuditLog(folder, ticking(EVENING), "p-cg", "caldicott_guardian")
    guardian.record("vault.open", OPENING, purpose="case_review", case="c1", counts={"records": 4})
    analyst = AuditLog(folder, ticking(EVENING.replace(hour=23)), "p-7", "analyst")
    analyst.record(
        "vault.open", OPENING, purpose="case_review", decision="refuse", reason_code="not_permitted"
    )
    assert audit(empty_workspace, "checkpoint").exit_code == 0
    analyst.record("lake.query", "hes_apc", purpose="quality")
    return empty_workspace


def audit(workspace: Workspace, *arguments: str | Path) -> Ran:
    return wardwatch(workspace.root, "audit", *arguments)


def witness(workspace: Workspace, state: Path, *arguments: str | Path, log: Path | None = None) -> Ran:
    """The auditor's call, on a copy of the log and without a workspace."""
    key = workspace.zone("officers") / "auditor" / "signing.ed25519-key"
    folder = log or workspace.zone("audit")
    return wardwatch(None, "audit", "witness", folder, "--state", state, "--key", key, *arguments)


def log_keys(workspace: Workspace) -> tuple[str, Path]:
    return ("--log-keys", workspace.zone("keys") / "public.json")


# reading -------------------------------------------------------------------------------------------------


def test_the_log_is_a_table_of_who_did_what_to_what(workspace: Workspace) -> None:
    ran = audit(workspace, "log")
    assert ran.exit_code == 0, ran.said
    header, *lines = ran.out.splitlines()
    assert header.split() == [
        *("event", "time", "person", "role", "action", "object", "case", "decision", "reason", "counts")
    ]
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "4", "5"]
    assert "2026-11-20 22:00:00  p-cg" in lines[2]
    assert "records=4" in lines[2]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ((), [1, 2, 3, 4, 5]),
        (("--person", "p-7"), [4, 5]),
        (("--item", "date_of_birth"), [3, 4]),
        (("--item", "postcode"), []),
        (("--hospital", "RXX", "--decision", "refuse"), [4]),
        (("--object", "hes_apc-201999"), [3, 4]),
        (("--object", "hes_apc"), [3, 4, 5]),
        (("--case", "c1"), [3]),
        (("--action", "lake"), [5]),
        (("--since", "2026-11-20T23:00"), [4, 5]),
        (("--until", "2026-11-20T23:00"), [1, 2, 3]),
        (("--since", "2026-11-20", "--until", "2026-11-20"), [1, 2, 3, 4, 5]),
        (("--since", "2026-11-21"), []),
        (("--until", "2026-11-20T23:30+01:00"), [1, 2, 3]),
    ],
)
def test_the_log_is_asked_by_time_person_item_hospital_case_and_decision(
    workspace: Workspace, filters: tuple[str, ...], found: list[int]
) -> None:
    ran = audit(workspace, "log", "--json", *filters)
    assert [event["seq"] for event in json.loads(ran.out)] == found


@pytest.mark.parametrize(
    "arguments",
    [
        ("log", "--since", "yesterday"),
        ("log", "--decision", "maybe"),
        ("report", "--by", "colour"),
        ("report", "--month", "2026-13"),
        ("report", "--month", "2026-11", "--since", "2026-11-01"),
        ("report", "--csv", "--json"),
        ("witness",),
        ("witness", "nowhere"),
        ("witness", "nowhere", "--state", "a", "--key", "b"),
        ("witness", "nowhere", "--add", "b"),
        ("witness", "--add", "nowhere"),
        ("verify", "--witness", "nowhere"),
    ],
)
def test_a_wrong_call_ends_in_one_line_that_says_so(workspace: Workspace, arguments: tuple[str, ...]) -> None:
    ran = audit(workspace, *arguments)
    assert ran.exit_code == 2
    assert ran.error.startswith("wardwatch: [usage] ")


def test_the_review_by_each_of_its_heads_as_text_csv_and_json(workspace: Workspace) -> None:
    for by in ("person", "item", "hospital", "case", "month"):
        text = audit(workspace, "report", "--by", by)
        assert text.exit_code == 0, text.said
        assert text.out.split()[0] == by
        document = json.loads(audit(workspace, "report", "--by", by, "--json").out)
        found = list(csv.DictReader(io.StringIO(audit(workspace, "report", "--by", by, "--csv").out)))
        assert [{name: str(value) for name, value in row.items()} for row in document["rows"]] == found
        assert found, f"the log has something by {by}"
    by_item = json.loads(audit(workspace, "report", "--by", "item", "--month", "2026-11", "--json").out)
    assert [(row["item"], row["person"], row["allowed"], row["refused"]) for row in by_item["rows"]] == [
        ("date_of_birth", "p-7", 0, 1),
        ("date_of_birth", "p-cg", 1, 0),
    ]
    assert by_item["left_out"] == 3, "the founding and the query"
    assert json.loads(audit(workspace, "report", "--month", "2026-10", "--json").out)["rows"] == []


def test_the_review_masks_the_ids_of_junior_staff(workspace: Workspace) -> None:
    ran = audit(workspace, "report", "--by", "person", "--mask")
    assert "p-cg" in ran.out
    assert "analyst 1" in ran.out
    assert "p-7" not in ran.out


# signing and verifying ---------------------------------------------------------------------------------


def test_a_checkpoint_is_printed_and_kept(workspace: Workspace) -> None:
    ran = audit(workspace, "checkpoint")
    assert ran.exit_code == 0, ran.said
    assert ran.out.splitlines()[:2] == ["wardwatch/audit", "5"]
    assert (workspace.zone("audit") / "checkpoints" / "000000000005.txt").read_text() == ran.out


def test_a_whole_log_is_said_to_be_whole_and_not_yet_witnessed(workspace: Workspace) -> None:
    ran = audit(workspace, "verify")
    assert ran.exit_code == 0, ran.said
    assert "the audit log is whole" in ran.out
    assert "no witness on another machine" in ran.out


def test_a_changed_log_ends_with_what_is_wrong_on_which_line(workspace: Workspace) -> None:
    folder = workspace.zone("audit")
    lines = lines_of(folder)
    rewrite(folder, [*lines[:3], edited(lines[3], decision="allow"), lines[4]])
    ran = audit(workspace, "verify")
    assert ran.exit_code == 40
    assert ran.out.splitlines() == ["line 4: event 4 does not fit its own hash: it was edited (edited)"]
    assert audit(workspace, "checkpoint").exit_code == 40, "a checkpoint does not bless it"


def test_a_second_sink_that_differs_is_found_whatever_the_log_says_of_itself(
    empty_workspace: Workspace, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    settings = empty_workspace.root / "settings.yaml"
    text = settings.read_text()
    assert "second_audit_sink: ''" in text
    settings.write_text(text.replace("second_audit_sink: ''", f"second_audit_sink: {other}"))
    log = AuditLog(empty_workspace.zone("audit"), ticking(EVENING), "p-1", "pipeline", second_sink=other)
    for number in range(3):
        log.record("landing.write", f"d{number}", purpose="nightly")
    assert audit(empty_workspace, "verify").exit_code == 0
    rewrite(other, lines_of(other)[:2])
    ran = audit(empty_workspace, "verify")
    assert ran.exit_code == 40
    assert "line 3: the two sinks differ from line 3 on (sinks_differ)" in ran.out.splitlines()


def test_a_second_sink_that_does_not_answer_is_not_taken_for_one_that_agrees(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("READ_SECONDS", "CONNECT_SECONDS"):
        monkeypatch.setattr(audit_object_store, name, 0.2)
    settings = workspace.root / "settings.yaml"
    settings.write_text(
        settings.read_text().replace("second_audit_sink: ''", "second_audit_sink: s3://audit/north")
    )
    folder = workspace.zone("audit")
    lines = lines_of(folder)
    rewrite(folder, [edited(lines[0], person="p-2"), *lines[1:]])
    with silent_server() as endpoint, aws(endpoint):
        ran = audit(workspace, "verify")
    assert ran.exit_code == 74
    assert "does not answer" in ran.error
    assert "line 1: event 1 does not fit its own hash" in ran.out, "what is known is said all the same"


# the witness -------------------------------------------------------------------------------------------


def test_an_auditor_countersigns_and_the_log_s_side_shows_until_where(
    workspace: Workspace, tmp_path: Path
) -> None:
    copy = shutil.copytree(workspace.zone("audit"), tmp_path / "copy")
    ran = witness(workspace, tmp_path / "state", *log_keys(workspace), log=copy)
    assert ran.exit_code == 0, ran.said
    assert "countersigned 4 events, 4 of them new; 1 more wait for a checkpoint" in ran.err
    note = tmp_path / "note.txt"
    note.write_text(ran.out)

    added = audit(workspace, "witness", "--add", note)
    assert added.exit_code == 0, added.said
    assert added.out == "kept: wardwatch-auditor has seen the first 4 events\n"
    assert list(read(workspace.zone("audit")))[-1].action == "audit.witnessed"
    verified = audit(workspace, "verify")
    assert verified.exit_code == 0, verified.said
    assert "wardwatch-auditor has seen the first 4 events, on 2026-11-20 22:00 UTC (note)" in verified.out
    assert "no witness" not in verified.out
    for carried in (note, tmp_path / "state"):
        assert audit(workspace, "verify", "--witness", carried).exit_code == 0


def test_an_auditor_refuses_another_log_and_says_from_which_line_on(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder, state = workspace.zone("audit"), tmp_path / "state"
    assert witness(workspace, state, *log_keys(workspace)).exit_code == 0
    lines = lines_of(folder)
    rewrite(folder, rechained([*lines[:3], edited(lines[3], decision="allow"), lines[4]]))
    shutil.rmtree(folder / "checkpoints")
    assert audit(workspace, "checkpoint").exit_code == 0, "whoever has the key can sign the forgery"
    assert audit(workspace, "verify").exit_code == 0, "and nothing in the workspace shows it"

    ran = witness(workspace, state)
    assert ran.exit_code == 40
    assert "line 4: from event 4 on this is not the log that was countersigned (split_view)" in ran.err
    assert ran.out == "", "nothing is countersigned"
    for carried in (state, state / "000000000004.txt"):
        verified = audit(workspace, "verify", "--witness", carried)
        assert verified.exit_code == 40
        assert "line 4: " in verified.out
    assert audit(workspace, "witness", "--add", state / "000000000004.txt").exit_code == 40


def test_an_auditor_needs_the_log_s_keys_first_and_a_checkpoint_to_sign(
    empty_workspace: Workspace, tmp_path: Path
) -> None:
    AuditLog(empty_workspace.zone("audit"), ticking(EVENING), "p-1", "pipeline").record(
        "landing.write", "d1", purpose="nightly"
    )
    unpinned = witness(empty_workspace, tmp_path / "state")
    assert unpinned.exit_code == 2
    assert "needs the public keys of the log" in unpinned.error
    missing = witness(empty_workspace, tmp_path / "state", "--log-keys", tmp_path / "nowhere")
    assert missing.exit_code == 34
    unsigned = witness(empty_workspace, tmp_path / "state", *log_keys(empty_workspace))
    assert unsigned.exit_code == 2
    assert "no checkpoint to countersign" in unsigned.said


def test_a_checkpoint_by_somebody_else_is_not_taken_back(workspace: Workspace, tmp_path: Path) -> None:
    folder = shutil.copytree(workspace.zone("audit"), tmp_path / "copy")
    shutil.rmtree(folder / "checkpoints")
    note = tmp_path / "note.txt"
    log = AuditLog(folder, Clock(), "p-1", "pipeline")
    note.write_text(log.checkpoint_with(LOG_KEY))
    ran = audit(workspace, "witness", "--add", note)
    assert ran.exit_code == 40
    assert not (workspace.zone("audit") / "witnessed").exists()
