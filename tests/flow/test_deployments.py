"""Each flow runs as it is deployed: from ``infra/deploy/prefect.yaml``, on a server, by a worker, in real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra import publish
from infra.audit import read as read_audit
from infra.workspace import Workspace
from tests.support.convergence import published_result
from tests.support.orchestrator import Orchestrator, orchestrator, worker
from tests.support.workspaces import Extracts, copy_workspace, drop, settle

pytestmark = pytest.mark.flow

POOL = "wardwatch"
REASON = "the supplier corrected the speciality codes"
CANARY = "CANARYVALUE7F3A9C"


@dataclass(frozen=True)
class Deployed:
    """A server with both deployments, a worker at work, and the workspace that they are for."""

    server: Orchestrator
    workspace: Workspace

    def run(self, deployment: str, **parameters: object) -> tuple[int, str]:
        """Start a run and wait for its end: the exit code and what ``prefect`` said."""
        arguments = ["deployment", "run", f"{deployment}/{deployment}", "--watch"]
        if parameters:
            arguments += ["--params", json.dumps(parameters)]
        ended = self.server.prefect(*arguments)
        return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def deployed(
    tmp_path_factory: pytest.TempPathFactory,
    shared_folder: Path,
    finished_template: Workspace,
    extracts: Extracts,
) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("deployed")
    workspace = copy_workspace(finished_template, folder / "workspace")
    drop(workspace, extracts.named("HES_OP_202206"))
    with orchestrator(folder, shared_folder, workspace.root) as server:
        for command in (
            ("work-pool", "create", POOL, "--type", "process"),
            ("work-pool", "set-concurrency-limit", POOL, "1"),
            ("deploy", "--all", "--prefect-file", "infra/deploy/prefect.yaml"),
        ):
            ended = server.prefect(*command)
            assert ended.returncode == 0, f"{' '.join(command)}:\n{ended.stdout}{ended.stderr}"
        with worker(server, POOL):
            yield Deployed(server, workspace)


def test_the_nightly_run_is_deployed_on_a_schedule_and_never_twice_at_once(deployed: Deployed) -> None:
    found = deployed.server.get("/deployments/name/nightly/nightly")

    (schedule,) = found["schedules"]
    assert schedule["active"] is True
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("30 2 * * *", "Europe/London")
    assert found["global_concurrency_limit"]["limit"] == 1
    assert found["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert found["parameters"] == {"workspace": str(deployed.workspace.root)}
    assert deployed.server.get(f"/work_pools/{POOL}")["concurrency_limit"] == 1


def test_a_backfill_is_deployed_without_a_schedule_and_asks_for_its_reason(deployed: Deployed) -> None:
    found = deployed.server.get("/deployments/name/backfill/backfill")

    assert found["schedules"] == []
    assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    required = {"workspace", "dataset", "first", "last", "reason", "person"}
    assert set(found["parameter_openapi_schema"]["required"]) == required
    code, said = deployed.run("backfill", dataset="hes_op", first="202004", last="202103", person="demo")
    assert code != 0
    assert "'reason' is a required property" in " ".join(said.split())


def test_the_deployed_nightly_run_lands_ingests_and_publishes(deployed: Deployed) -> None:
    published = deployed.workspace.zone("published")
    before = publish.current_run(published)

    code, said = deployed.run("nightly")

    assert code == 0, said + deployed.server.log.read_text()
    assert "Completed" in said
    assert publish.current_run(published) not in (None, before), "the run published nothing"
    assert list(deployed.workspace.zone("inbox").iterdir()) == []
    assert steps_of_the_last_run(deployed) == ["account", "compute", "ingest", "land", "publish", "sweep"]


def test_the_deployed_backfill_publishes_the_same_once_more(deployed: Deployed) -> None:
    published = deployed.workspace.zone("published")
    before = published_result(published)

    code, said = deployed.run(
        "backfill",
        dataset="hes_op",
        first="202004",
        last="202103",
        reason=REASON,
        person="demo-data-engineer",
    )

    assert code == 0, said + deployed.server.log.read_text()
    assert published_result(published) == before
    written = list(read_audit(deployed.workspace.zone("audit"), action="lake.write", purpose="backfill"))
    # One line before it is done, and one after.
    assert [event.person for event in written] == ["demo-data-engineer"] * 2


def test_a_deployed_run_with_a_refused_delivery_fails_without_a_value_in_the_orchestrator(
    deployed: Deployed,
) -> None:
    path = deployed.workspace.zone("inbox") / "NIC359603_HES_OP_202299.txt"
    path.write_text(f"ATTENDKEY,TOKEN_PERSON_ID,SURNAME\n1,2,{CANARY}\n", encoding="utf-8")
    settle(path)

    code, said = deployed.run("nightly")

    assert code != 0
    assert "Failed" in said, said
    assert "[delivery.forbidden_column]" in last_run(deployed)["state"]["message"]
    kept = [file for file in (*deployed.server.home.rglob("*"), deployed.server.log) if file.is_file()]
    assert any(file.name == "prefect.db" for file in kept), "the server's database was not looked into"
    assert [file.name for file in kept if CANARY.encode() in file.read_bytes()] == []


def last_run(deployed: Deployed) -> dict[str, Any]:
    """The flow run that ended last; those that the schedule has planned have not begun."""
    ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
    runs = deployed.server.find("/flow_runs/filter", flow_runs=ended, sort="END_TIME_DESC", limit=1)
    found: dict[str, Any] = runs[0]
    return found


def steps_of_the_last_run(deployed: Deployed) -> list[str]:
    this = {"id": {"any_": [last_run(deployed)["id"]]}}
    tasks = deployed.server.find("/task_runs/filter", flow_runs=this)
    assert all(task["state"]["type"] == "COMPLETED" for task in tasks)
    return sorted(task["name"] for task in tasks)
