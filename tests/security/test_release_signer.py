"""Nothing becomes public by a key that the register does not know as a release manager's, whoever the caller says
to be; and the audit log says whose key it was, and of what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from infra.audit import read
from infra.audit_line import Event
from infra.publish import publish, runs
from infra.release import show, verify_release
from infra.signing import SigningKey
from infra.workspace import Workspace
from tests.published_sample import RECORD_DATE, RUN, sample_tables
from tests.support import workspaces
from tests.support.command_line import Ran, wardwatch
from tests.support.reviews import enter, signing_key
from tests.support.workspaces import EVENING, Clock

RUN_ID = "20261120T220000Z-a"
LATER = EVENING + timedelta(days=1)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, empty_template: Workspace) -> Iterator[Workspace]:
    """A workspace in which one small run is published, with a page instead of its report."""

    def page(tables: Mapping[str, pl.DataFrame], *_: object) -> str:
        return f"<html>{sorted(tables)}</html>"

    workspace = workspaces.copy_workspace(empty_template, tmp_path_factory.mktemp("published") / "workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infra.report.build_report", page)
        publish(workspace.zone("published"), RUN_ID, sample_tables(), RUN, RECORD_DATE)
        yield workspace


@pytest.fixture
def workspace(published: Workspace, tmp_path: Path) -> Workspace:
    return workspaces.copy_workspace(published, tmp_path / "workspace")


def approve(workspace: Workspace, *key: str | Path) -> Ran:
    words = ("--reason", "agreed at the publication meeting")
    return wardwatch(workspace.root, "release", "approve", *words, *key, clock=Clock(LATER))


def key_of(workspace: Workspace, role: str) -> tuple[str, Path]:
    return ("--key", workspace.zone("officers") / role / "signing.ed25519-key")


def lines(workspace: Workspace) -> list[Event]:
    return list(read(workspace.zone("audit"), action="published.release"))


def is_refused(workspace: Workspace, ran: Ran, person: str, reason_code: str) -> None:
    assert ran.exit_code == 20, ran.said
    assert runs(workspace.zone("published") / "public") == [], "nothing is public"
    (line,) = lines(workspace)
    assert (line.person, line.decision, line.reason_code) == (person, "refuse", reason_code)
    assert line.object == RUN_ID


def test_a_key_that_nobody_enrolled_releases_nothing_in_anybody_s_name(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = tmp_path / "signing.ed25519-key"
    stranger.write_text(SigningKey.create().secret_bytes().hex() + "\n")
    stranger.chmod(0o600)
    monkeypatch.setenv("WARDWATCH_PERSON", "demo-release-manager")
    is_refused(workspace, approve(workspace, "--key", stranger), "demo-release-manager", "unknown_signer")


def test_another_person_s_key_releases_nothing_under_the_release_manager_s_name(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDWATCH_PERSON", "demo-release-manager")
    ran = approve(workspace, *key_of(workspace, "data_engineer"))
    is_refused(workspace, ran, "demo-data-engineer", "no_role")


def test_a_release_manager_who_has_left_releases_nothing(workspace: Workspace) -> None:
    since = (EVENING + timedelta(hours=1)).isoformat(timespec="seconds").replace("+00:00", "Z")
    enter(workspace, EVENING, "person_left", ("iao",), person="demo-release-manager", **{"from": since})
    is_refused(workspace, approve(workspace), "unknown", "revoked_key")


def test_what_is_released_is_on_the_record_in_the_name_of_whose_key_signed_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDWATCH_PERSON", "demo-siro")
    ran = approve(workspace)
    assert ran.exit_code == 0, ran.said
    folder = workspace.zone("published") / "public" / RUN_ID
    key = signing_key(workspace, "release_manager")
    approval = verify_release(folder, {key.key_id: key.public})
    assert approval["person"] == "demo-release-manager", "a name in the environment proves nothing"
    begun, released = lines(workspace)
    assert {begun.person, released.person} == {"demo-release-manager"}
    assert (begun.reason_code, released.reason_code) == ("begun", "released")
    candidate = show(workspace.zone("published"), RUN_ID).candidate_digest
    assert released.digests == {"candidate": candidate}
    assert approval["candidate_digest"] == candidate
