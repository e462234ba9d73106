"""Attack 74, seen from the data: where the agreement honours objections, nothing of such a person comes in."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from infra.audit import read
from infra.keyring import Keyring
from infra.lake import CommittedDelivery
from infra.objections import FOLDER
from infra.sealing import seal
from infra.workspace import Workspace
from schemas.errors import WorkspaceError
from tests.support.command_line import wardwatch
from tests.support.convergence import lake_content
from tests.support.small_deliveries import Text, small
from tests.support.workspaces import Clock, Extracts, copy_workspace, night, settle

pytestmark = pytest.mark.usefixtures("nothing_computed")


def honouring(workspace: Workspace) -> Workspace:
    path = workspace.root / "settings.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["agreement"]["honour_opt_outs"] = True
    path.write_text(yaml.safe_dump(settings))
    return Workspace.open(workspace.root)


def put(workspace: Workspace, name: str, content: bytes) -> Path:
    path = workspace.zone("inbox") / name
    path.write_bytes(content)
    settle(path)
    return path


def put_list(workspace: Workspace, lines: list[str]) -> None:
    key = Keyring.open(workspace.zone("keys")).inbox_recipient
    put(workspace, "OBJECTIONS.csv.age", seal("\n".join(["PERSON_ID", *lines, ""]).encode(), key))


def ids(text: Text) -> list[str]:
    at = text.at("TOKEN_PERSON_ID")
    return [row[at] for row in text.rows]


def the_delivery(workspace: Workspace) -> CommittedDelivery:
    (row,) = lake_content(workspace).rows
    return row


@pytest.fixture
def text(plain_extracts: Extracts) -> Text:
    return small(plain_extracts.one("HES_OP_202199"), rows=60)


def test_nothing_is_ingested_without_a_list_and_with_one_its_persons_are_nowhere(
    empty_workspace: Workspace, text: Text
) -> None:
    workspace = honouring(empty_workspace)
    put(workspace, "NIC000001_HES_OP_202199.txt", text.bytes())
    with pytest.raises(WorkspaceError, match="there is no list"):
        night(workspace)
    assert not (workspace.zone("lake") / "catalog.reader.ducklake").exists(), "nothing was committed"

    person = ids(text)[0]
    expected = ids(text).count(person)
    put_list(workspace, [person])
    outcome = night(workspace)

    assert outcome.problems == []
    assert list(workspace.zone("inbox").iterdir()) == []
    row = the_delivery(workspace)
    assert (row.rows_in, row.rows_objected) == (60, expected)
    assert row.rows_kept + row.rows_quarantined == 60 - expected
    assert row.rows_vaulted <= row.rows_kept
    (done,) = (
        event
        for event in read(workspace.zone("audit"), action="lake.write", object=row.delivery_id)
        if event.counts.get("rows_in")
    )
    assert done.counts["rows_objected"] == expected
    kept = b"".join(path.read_bytes() for path in (workspace.root / FOLDER).iterdir())
    assert person.encode() not in kept


def test_as_much_is_kept_sealed_and_quarantined_as_if_the_others_had_never_been_delivered(
    empty_workspace: Workspace, tmp_path: Path, text: Text
) -> None:
    person = ids(text)[0]
    plain = copy_workspace(empty_workspace, tmp_path / "plain")
    without = Text(
        text.header, tuple(r for r in text.rows if r[text.at("TOKEN_PERSON_ID")] != person), text.delimiter
    )
    put(plain, "NIC000001_HES_OP_202199.txt", without.bytes())
    night(plain)
    workspace = honouring(empty_workspace)
    put(workspace, "NIC000001_HES_OP_202199.txt", text.bytes())
    put_list(workspace, [person])
    night(workspace)

    assert the_delivery(workspace).rows_kept == the_delivery(plain).rows_kept
    assert the_delivery(workspace).rows_vaulted == the_delivery(plain).rows_vaulted
    assert the_delivery(workspace).rows_quarantined == the_delivery(plain).rows_quarantined


def test_a_new_list_takes_effect_on_what_is_held_with_a_backfill(
    empty_workspace: Workspace, text: Text
) -> None:
    workspace = honouring(empty_workspace)
    first, second = list(dict.fromkeys(ids(text)))[:2]
    put(workspace, "NIC000001_HES_OP_202199.txt", text.bytes())
    put_list(workspace, [first])
    night(workspace)
    before = the_delivery(workspace)
    put_list(workspace, [first, second])
    night(workspace, Clock().later(days=1))
    assert the_delivery(workspace).rows_kept == before.rows_kept, "a list alone changes nothing that is held"
    ran = wardwatch(
        workspace.root,
        "backfill",
        "hes_op",
        "--from",
        "202104",
        "--to",
        "202203",
        "--reason",
        "new list of objections",
        clock=Clock().later(days=2),
    )
    assert ran.exit_code == 0, ran.err
    after = the_delivery(workspace)
    assert after.rows_objected == before.rows_objected + ids(text).count(second)
    assert after.generation == before.generation + 1, "the vault is written anew without the second person"
