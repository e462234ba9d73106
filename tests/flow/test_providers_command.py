"""``wardwatch providers``: official files become the reference in force, on the record, or nothing changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from infra.audit import AuditLog, read
from infra.audit_line import Event
from infra.provider_reference import ACTION, PROVIDERS_FILE, save_reference
from infra.workspace import Workspace
from schemas.errors import Busy, ContractDefinitionError, NotPermitted, UsageError
from schemas.provider_reference import parse_reference
from tests.support.command_line import Ran, wardwatch
from tests.support.workspaces import Clock
from tests.unit.test_organisation_data import SITES, SUCCESSIONS, TRUSTS, TYPES

MADE = """\
code,name,type,sites,successor,valid_from,valid_to
RAA,FIRST TRUST,acute,RAA01 RAA02,RBB,2001-04-01,2019-09-30
RBB,SECOND TRUST,acute,,RCC,1991-04-01,2021-03-31
RCC,THIRD TRUST,acute,,,2021-04-01,
RDD,"HEART HOSPITAL, THE",acute specialist,,,1991-04-01,
"""


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A folder with the official files and our own of types."""
    folder = tmp_path / "official"
    folder.mkdir()
    (folder / "etr.csv").write_text(TRUSTS)
    (folder / "ets.csv").write_text(SITES)
    (folder / "succ.csv").write_text(SUCCESSIONS)
    (folder / "types.csv").write_text(
        "code,type\n" + "".join(f"{code},{kind}\n" for code, kind in TYPES.items())
    )
    return folder


def load(workspace: Workspace, folder: Path, *more: str, without: str = "") -> Ran:
    given = {
        "--organisations": "etr.csv",
        "--sites": "ets.csv",
        "--successors": "succ.csv",
        "--types": "types.csv",
    }
    words = [
        word for option, name in given.items() if option != without for word in (option, str(folder / name))
    ]
    return wardwatch(workspace.root, "providers", "load", *words, *more)


def lines(workspace: Workspace) -> list[Event]:
    return [event for event in read(workspace.zone("audit")) if event.action == ACTION]


def test_the_official_files_become_the_reference_in_force_between_two_audit_lines(
    empty_workspace: Workspace, official: Path
) -> None:
    ran = load(empty_workspace, official)
    assert ran.exit_code == 0, ran.said
    path = empty_workspace.root / PROVIDERS_FILE
    assert path.read_text() == MADE
    assert path.stat().st_mode & 0o777 == 0o600
    begun, done = lines(empty_workspace)
    assert (begun.reason_code, done.decision, done.reason_code) == ("begun", "allow", "done")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert begun.digests == done.digests == {"providers": digest}
    assert (done.counts["organisations"], done.counts["successions"], done.counts["sites"]) == (4, 2, 2)
    assert "1 successions of organisations that are not listed, left out" in ran.out

    shown = wardwatch(empty_workspace.root, "providers", "show", "--on", "2020-01-01")
    assert shown.lines_with("organisations:") == ["4 organisations: 3 acute, 1 acute specialist"]
    assert shown.lines_with("RAA -> RBB") == ["  RAA -> RBB from 2019-10-01  FIRST TRUST -> SECOND TRUST"]
    assert shown.lines_with("on 2020-01-01") == ["on 2020-01-01 1 code(s) stand for another"]
    listed = json.loads(wardwatch(empty_workspace.root, "providers", "show", "--json").out)
    assert {each["code"]: each["resolved_code"] for each in listed} == {
        "RAA": "RCC", "RBB": "RCC", "RCC": "RCC", "RDD": "RDD",
    }  # fmt: skip


def test_the_same_again_changes_nothing_and_a_new_file_keeps_the_types_that_were_known(
    empty_workspace: Workspace, official: Path
) -> None:
    load(empty_workspace, official)
    again = load(empty_workspace, official, without="--types")
    assert "in force already" in again.out, again.said
    assert len(lines(empty_workspace)) == 2
    (official / "succ.csv").write_text("")
    ran = load(empty_workspace, official, "--dry-run")
    assert "nothing was changed" in ran.out
    assert "2 entries are new or changed, 2 of those before" in ran.out
    assert (empty_workspace.root / PROVIDERS_FILE).read_text() == MADE


def test_a_prepared_file_is_taken_as_it_is(empty_workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "prepared.csv").write_text("code,name,type\nRAA,First,acute\n")
    ran = wardwatch(empty_workspace.root, "providers", "load", "--reference", tmp_path / "prepared.csv")
    assert ran.exit_code == 0, ran.said
    assert (empty_workspace.root / PROVIDERS_FILE).read_text().splitlines()[1] == "RAA,First,acute,,,,"


def test_what_is_refused_leaves_the_reference_and_a_line(empty_workspace: Workspace, official: Path) -> None:
    load(empty_workspace, official)
    (official / "succ.csv").write_text("RAA,RBB,R,SECRET,\n")
    ran = load(empty_workspace, official)
    assert ran.exit_code == ContractDefinitionError.exit_code
    assert "succ.csv: line 1" in ran.error
    assert "SECRET" not in ran.said
    assert lines(empty_workspace)[-1].decision == "refuse"
    assert (empty_workspace.root / PROVIDERS_FILE).read_text() == MADE


def test_a_successor_without_a_type_is_pointed_out(empty_workspace: Workspace, official: Path) -> None:
    types = (official / "types.csv").read_text().replace("RCC,acute\n", "")
    (official / "types.csv").write_text(types)
    ran = load(empty_workspace, official)
    assert ran.exit_code == 0, ran.said
    assert "mortality does not cover them: RAA, RBB" in ran.out


def test_a_wrong_call_is_refused(empty_workspace: Workspace, official: Path) -> None:
    assert load(empty_workspace, official, without="--types").exit_code == UsageError.exit_code
    assert "--types" in load(empty_workspace, official, without="--types").error, "nobody would be acute"
    assert load(empty_workspace, official, without="--organisations").exit_code == UsageError.exit_code
    both = load(empty_workspace, official, "--reference", str(official / "etr.csv"))
    assert both.exit_code == UsageError.exit_code
    assert load(empty_workspace, official / "elsewhere").exit_code == UsageError.exit_code
    assert (
        wardwatch(empty_workspace.root, "providers", "show", "--on", "soon").exit_code == UsageError.exit_code
    )
    assert "no provider reference" in wardwatch(empty_workspace.root, "providers", "show").out
    assert not (empty_workspace.root / PROVIDERS_FILE).exists()


def test_only_those_who_answer_for_the_data_load_it(
    empty_workspace: Workspace, official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDWATCH_PERSON", "demo-intelligence-analyst")
    assert load(empty_workspace, official).exit_code == NotPermitted.exit_code
    assert [event.decision for event in lines(empty_workspace)] == ["refuse"]


def test_while_a_night_runs_nothing_is_loaded(empty_workspace: Workspace, official: Path) -> None:
    with empty_workspace.writer_lock():
        assert load(empty_workspace, official).exit_code == Busy.exit_code
    assert not (empty_workspace.root / PROVIDERS_FILE).exists()


@pytest.mark.parametrize(
    ("killed_after_writing", "reason"), [(True, "recovered_done"), (False, "recovered_not_done")]
)
def test_a_load_that_was_killed_is_accounted_for_by_the_next(
    empty_workspace: Workspace, official: Path, killed_after_writing: bool, reason: str
) -> None:
    audit = AuditLog(empty_workspace.zone("audit"), Clock(), "demo-data-engineer", "data_engineer")
    digest = hashlib.sha256(MADE.encode()).hexdigest()
    audit._record(ACTION, PROVIDERS_FILE, purpose="", reason_code="begun", counts={"intent": 0},
                  digests={"providers": digest})  # fmt: skip
    if killed_after_writing:
        (empty_workspace.root / PROVIDERS_FILE).write_text(MADE)
    save_reference(empty_workspace, parse_reference(MADE, "providers.csv"), audit)
    assert lines(empty_workspace)[1].reason_code == reason
    assert (empty_workspace.root / PROVIDERS_FILE).read_text() == MADE
