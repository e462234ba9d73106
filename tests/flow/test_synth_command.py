"""``wardwatch synth`` changes the provider reference of a demonstration only, on the record, and never a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.audit import read
from infra.audit_line import Event
from infra.provider_reference import ACTION, PROVIDERS_FILE, read_reference, workspace_reference
from infra.workspace import Workspace
from tests.support.command_line import Ran, wardwatch

OWN = "code,name,type,sites,successor,valid_from,valid_to\nRAA,FIRST TRUST,acute,,,1991-04-01,\n"


@pytest.fixture(autouse=True)
def _own_reference(empty_workspace: Workspace) -> None:
    (empty_workspace.root / PROVIDERS_FILE).write_text(OWN)


def synth(workspace: Workspace, out: Path) -> Ran:
    return wardwatch(
        workspace.root, "synth", out, "--episodes", "500", "--hospitals", "6", "--years", "1", "--seed", "1"
    )


def lines(workspace: Workspace) -> list[Event]:
    return list(read(workspace.zone("audit"), action=ACTION))


def test_in_a_demonstration_the_reference_becomes_that_of_the_extracts_on_the_record(
    empty_workspace: Workspace, tmp_path: Path
) -> None:
    ran = synth(empty_workspace, tmp_path / "extracts")
    assert ran.exit_code == 0, ran.said
    made = read_reference(tmp_path / "extracts" / "provider_reference.csv")
    assert workspace_reference(empty_workspace.root) == made
    assert (empty_workspace.root / PROVIDERS_FILE).stat().st_mode & 0o777 == 0o600
    begun, done = lines(empty_workspace)
    assert (begun.reason_code, done.decision) == ("begun", "allow")
    assert (begun.person, begun.role) == ("demo-data-engineer", "data_engineer")
    assert begun.digests == done.digests


def test_a_real_workspace_s_reference_is_left_alone_and_the_extracts_are_made_all_the_same(
    empty_workspace: Workspace, tmp_path: Path
) -> None:
    settings = empty_workspace.root / "settings.yaml"
    assert "demo: true" in settings.read_text()
    settings.write_text(settings.read_text().replace("demo: true", "demo: false"))
    ran = synth(empty_workspace, tmp_path / "extracts")
    assert ran.exit_code == 0, ran.said
    assert (empty_workspace.root / PROVIDERS_FILE).read_text() == OWN
    assert lines(empty_workspace) == []
    assert ran.lines_with("the provider reference of this workspace is as it was")
    assert (tmp_path / "extracts" / "provider_reference.csv").is_file()
    assert list((tmp_path / "extracts").glob("*.age"))


def test_who_may_not_load_a_reference_does_not_get_one_by_making_extracts(
    empty_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDWATCH_PERSON", "demo-siro")
    ran = synth(empty_workspace, tmp_path / "extracts")
    assert ran.exit_code == 20
    assert (empty_workspace.root / PROVIDERS_FILE).read_text() == OWN
    (line,) = lines(empty_workspace)
    assert (line.person, line.decision, line.reason_code) == ("demo-siro", "refuse", "no_role")
    assert not (tmp_path / "extracts").exists(), "and before hours were spent on extracts"


def test_a_reference_is_not_exchanged_while_a_run_reads_it(
    empty_workspace: Workspace, tmp_path: Path
) -> None:
    with empty_workspace.writer_lock():
        ran = synth(empty_workspace, tmp_path / "extracts")
    assert ran.exit_code == 30, ran.said
    assert (empty_workspace.root / PROVIDERS_FILE).read_text() == OWN
