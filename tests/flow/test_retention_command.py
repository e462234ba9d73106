"""``wardwatch retention``, as a person uses it: what is due, a hold, an order on two machines, and what shows it."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from flows.cli import application, retention
from infra.officers import SIGNING_FILE
from infra.workspace import Workspace
from tests.support.command_line import Ran, wardwatch
from tests.support.workspaces import EVENING, Clock, computing_nothing, copy_workspace, night

NEXT_NIGHT = Clock(EVENING + timedelta(days=30))
LATE = Clock(EVENING + timedelta(days=50))
REASON = ("--reason", "the agreement has ended")


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    if "retention" not in {group.name for group in application.app.registered_groups}:
        retention.register(application.app)


@pytest.fixture(scope="module")
def template(finished_template: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """After its first night; the agreement has been shortened to the end of the year."""
    workspace = copy_workspace(finished_template, tmp_path_factory.mktemp("retention") / "workspace")
    path = workspace.root / "settings.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["agreement"]["ends"] = "2026-12-31"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return Workspace.open(workspace.root)


@pytest.fixture
def workspace(template: Workspace, tmp_path: Path) -> Workspace:
    return copy_workspace(template, tmp_path / "workspace")


def run(workspace: Workspace, *arguments: str | Path, clock: Clock = LATE, fails: int = 0) -> Ran:
    ended = wardwatch(workspace.root, "retention", *arguments, clock=clock)
    assert ended.exit_code == fails, ended.err
    return ended


def outpatients(workspace: Workspace) -> str:
    (found,) = [path.name for path in workspace.zone("landing").iterdir() if path.name.startswith("hes_op-")]
    return found


def key(workspace: Workspace, role: str) -> Path:
    return workspace.zone("officers") / role / SIGNING_FILE


def test_what_is_overdue_is_listed_with_its_reason_before_and_after_its_time(workspace: Workspace) -> None:
    assert "nothing is due" in run(workspace, "due", clock=Clock()).out
    soon = run(workspace, "due", clock=NEXT_NIGHT).lines_with(outpatients(workspace))
    assert "due in 11 day(s): end of retention 2026-12-31" in soon[0]
    late = run(workspace, "due").lines_with(outpatients(workspace))
    assert "overdue by 9 day(s)" in late[0]
    found = json.loads(run(workspace, "due", "--json").out)
    assert {row["state"] for row in found["deliveries"]} == {"overdue"}
    assert {row["days_over"] for row in found["deliveries"]} == {9}
    assert {review["this_month"] for review in found["reviews"]} == {True}, "rules are reviewed in January"


def test_a_delivery_goes_from_use_to_its_certificate(workspace: Workspace, tmp_path: Path) -> None:
    """Out of use, a night without it, an order signed on two machines, held back once, then carried out."""
    delivery, order = outpatients(workspace), tmp_path / "order.json"
    destroy = ("destroy", "--delivery", delivery, *REASON)
    assert "retention withdraw" in run(workspace, *destroy, fails=20).error
    run(workspace, "withdraw", delivery, *REASON)
    assert "wardwatch nightly" in run(workspace, *destroy, fails=20).error
    with computing_nothing():
        assert night(workspace, LATE).run_id

    run(workspace, *destroy, "--out", order, "--key", key(workspace, "siro"))
    assert "has 1" in run(workspace, "destroy", "--order", order, fails=20).error, (
        "one signature is not enough"
    )
    run(workspace, "destroy", "--order", order, "--key", key(workspace, "iao"), "--out", order)

    run(workspace, "hold", delivery, "--reason", "letter before action of a claimant")
    assert "under a hold" in run(workspace, "due").lines_with(delivery)[0]
    assert "under a hold" in run(workspace, "destroy", "--order", order, fails=20).error
    run(workspace, "hold", delivery, "--lift", "--reason", "the claim was withdrawn")

    carried_out = run(workspace, "destroy", "--order", order)
    assert "certificate signed" in carried_out.out
    assert carried_out.lines_with(f"vault/{delivery}"), "it says what must go from the backups"
    assert not run(workspace, "due").lines_with(delivery)
    assert not wardwatch(workspace.root, "status", clock=LATE).lines_with(delivery)

    number = order_number(workspace)
    assert "not witnessed yet" in run(workspace, "certificates", "--verify").out
    run(workspace, "certificates", "--witness", number)
    assert "witnessed by demo-auditor" in run(workspace, "certificates").out
    (shown,) = json.loads(run(workspace, "certificates", "--json").out)
    assert shown["verified"] is True
    assert {person["role"] for person in shown["ordered_by"]} == {"siro", "iao"}
    assert "nothing that was destroyed is here again" in run(workspace, "destroy", "--again").out

    (certificate,) = (workspace.root / "retention/certificates").iterdir()
    content = certificate.read_bytes()
    certificate.write_bytes(content.replace(b'"demo":true', b'"demo":false'))
    edited = run(workspace, "certificates", "--verify", fails=40)
    assert "does not fit the document" in edited.out
    with computing_nothing():
        assert not night(workspace, Clock(EVENING + timedelta(days=51))).problems, "nights go on without it"


def order_number(workspace: Workspace) -> str:
    (found,) = (workspace.root / "retention/orders").iterdir()
    return found.stem


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("destroy",), "either --delivery"),
        (("destroy", "--again", "--order", "x"), "stands alone"),
        (("destroy", "--delivery", "hes_op-202099-000000000000", *REASON), "no such delivery"),
        (("hold", "hes_op-202099-000000000000", *REASON), "no such delivery"),
        (("withdraw", "hes_op-202099-000000000000", *REASON), "in use"),
        (("certificates", "--witness", "abc"), "no certificate of that order"),
    ],
)
def test_a_wrong_call_says_what_to_do(workspace: Workspace, arguments: tuple[str, ...], says: str) -> None:
    assert says in run(workspace, *arguments, fails=2).error


def test_a_reason_with_an_identifier_is_refused(workspace: Workspace) -> None:
    delivery = outpatients(workspace)
    reason = "patient with NHS number 999 000 0018 objects"
    error = run(workspace, "hold", delivery, "--reason", reason, fails=21).error
    assert "999" not in error


def test_only_a_siro_holds_and_the_refusal_is_recorded(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDWATCH_PERSON", "demo-intelligence-analyst")
    run(workspace, "hold", outpatients(workspace), "--reason", "because I would like to", fails=20)
    log = (workspace.zone("audit") / "log.ndjson").read_text(encoding="utf-8")
    assert '"action":"retention.hold"' in log.splitlines()[-1]
    assert '"decision":"refuse"' in log.splitlines()[-1]


def test_the_asset_register_has_a_row_for_every_zone_and_delivery(workspace: Workspace) -> None:
    rows = list(csv.DictReader(io.StringIO(run(workspace, "assets", "--csv").out)))
    landed = {path.name for path in workspace.zone("landing").iterdir()}
    assert {row["asset"] for row in rows if row["kind"] == "delivery"} == landed
    for row in rows:
        for column in ("owner", "sensitivity", "format", "location", "retention"):
            assert row[column], f"{row['asset']} has {column}"
    as_json = json.loads(run(workspace, "assets", "--json").out)
    assert [row["asset"] for row in as_json] == [row["asset"] for row in rows]
    folders = {path.name for path in workspace.root.iterdir() if path.is_dir()}
    described = {row["asset"] for row in rows if row["kind"] == "zone"}
    technical = {"tmp", "orchestrator", "officers"}
    assert folders - technical <= described, "every folder with information in it is an asset"
