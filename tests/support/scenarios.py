"""Scenarios: the pieces of work that a kill may interrupt, for the kill test.

Each starts from a prepared workspace, does its work at a given time, and has a result that does not depend on when
or how often the work was begun. Together they reach every commit point of the code; a new point that none of them
reaches fails the kill test by name, and is reached by making a scenario richer or by adding one here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import yaml

from infra import publish
from infra.incidents import list_incidents
from infra.workspace import Workspace
from tests.support.convergence import published_result
from tests.support.workspaces import EVENING, Clock, Extracts, drop, night, settle

# After the landing windows of the first night's deliveries have ended.
SECOND_NIGHT = EVENING + timedelta(days=40)


@dataclass(frozen=True)
class Scenario:
    """``prepare``: on a copy of the workspace after the first night. ``work``: what is killed and begun again.
    ``result``: name -> digest of everything that readers get."""

    prepare: Callable[[Workspace, Extracts], None]
    work: Callable[[Workspace, datetime], None]
    result: Callable[[Workspace], dict[str, str]]


# The night --------------------------------------------------------------------------------------------


def _prepare_night(workspace: Workspace, plain: Extracts) -> None:
    """A second night that has everything to do: a later month in place of an earlier one, a newer snapshot of
    deaths, a file with a column of names, landing windows that end, and an earlier run to remove."""
    change_settings(workspace, keep_runs=1)
    drop(workspace, plain.named("HES_APC_202209"), before=SECOND_NIGHT)
    deaths = plain.one("CIVIL_DEATHS").read_text(encoding="utf-8").splitlines(keepends=True)
    put(workspace, "NIC359603_CIVIL_DEATHS_20230515.csv", "".join(deaths[:-1]))
    put(workspace, "NIC359603_HES_OP_202299.txt", "ATTENDKEY,TOKEN_PERSON_ID,SURNAME\n1,2,3\n")


def _night(workspace: Workspace, moment: datetime) -> None:
    night(workspace, Clock(moment))


def _after_night(workspace: Workspace) -> dict[str, str]:
    """What is published, what stays in the inbox, and the incidents: one for the file with names, for it to be
    known, and one only, however often the night was begun."""
    found = list_incidents(workspace.zone("incidents"))
    return {
        **published_result(workspace.zone("published")),
        "inbox": " ".join(sorted(path.name for path in workspace.zone("inbox").iterdir())),
        "incidents": " ".join(f"{incident.type.value} {incident.object}" for incident in found),
    }


# The release ------------------------------------------------------------------------------------------


def _release(workspace: Workspace, moment: datetime) -> None:
    from infra import release
    from infra.officers import SIGNING_FILE, load_signing_key

    published = workspace.zone("published")
    run = publish.current_run(published)
    assert run is not None
    if publish.current_run(published / publish.PUBLIC) == run:
        return  # a release is done once; the officer sees it and does not ask again
    release.approve(
        published,
        run,
        person="demo-release-manager",
        role="release_manager",
        reason="synthetic data, for the kill test",
        signing_key=load_signing_key(workspace.zone("officers") / "release_manager" / SIGNING_FILE),
        approved_at=moment,
    )


SCENARIOS = {
    "night": Scenario(_prepare_night, _night, _after_night),
    "release": Scenario(
        lambda _workspace, _plain: None,
        _release,
        lambda w: published_result(w.zone("published") / publish.PUBLIC),
    ),
}


def change_settings(workspace: Workspace, **changes: object) -> None:
    path = workspace.root / "settings.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**settings, **changes}), encoding="utf-8")


def put(workspace: Workspace, name: str, text: str, *, before: datetime = SECOND_NIGHT) -> Path:
    """A plain file in the inbox, as an upload that ended."""
    path = workspace.zone("inbox") / name
    path.write_text(text, encoding="utf-8")
    settle(path, before)
    return path
