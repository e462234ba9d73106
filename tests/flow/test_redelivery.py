"""Deliveries that come again, late or in place of another: nothing happens twice, and nothing is replaced unsaid."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from infra.lake import CommittedDelivery, committed_deliveries, reading
from infra.workspace import Workspace
from tests.support.command_line import wardwatch
from tests.support.small_deliveries import Text, small
from tests.support.workspaces import FIRST_NIGHT, Clock, Extracts, drop, keyring, settle, tree

pytestmark = pytest.mark.usefixtures("nothing_computed")

TONIGHT, TOMORROW = Clock().later(days=1), Clock().later(days=2)
JUNE, SEPTEMBER, DECEMBER = "HES_OP_202206", "HES_OP_202209", "HES_OP_202212"
REASON = "the supplier corrected the speciality codes"


def put(workspace: Workspace, name: str, content: bytes) -> Path:
    path = workspace.zone("inbox") / name
    path.write_bytes(content)
    settle(path)
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def rows(workspace: Workspace) -> dict[str, CommittedDelivery]:
    """The delivery rows, by the SHA-256 of the content."""
    found = committed_deliveries(
        workspace.zone("lake"), keyring(workspace).lake_metadata_key, workspace.zone("tmp")
    )
    return {row.content_sha256: row for row in found}


def keys_in_the_lake(workspace: Workspace, dataset: str, year: str) -> set[str]:
    """The delivery ids of the records in use of one dataset and financial year."""
    with reading(
        workspace.zone("lake"),
        keyring(workspace).lake_metadata_key,
        memory_limit="200MB",
        temp_folder=workspace.zone("tmp"),
    ) as connection:
        found = connection.execute(
            f"SELECT DISTINCT delivery_id FROM lake.{dataset} WHERE partyear LIKE $year", {"year": f"{year}%"}
        ).fetchall()
    return {delivery for (delivery,) in found}


def everything_but_the_log(workspace: Workspace) -> dict[str, str]:
    return {
        name: sha256(path.read_bytes())
        for path in tree(workspace.root)
        if not (name := path.relative_to(workspace.root).as_posix()).startswith(("audit/", ".writer.lock"))
    }


@pytest.fixture
def june(plain_extracts: Extracts) -> Text:
    return small(plain_extracts.one(JUNE), 60)


def test_the_same_deliveries_again_change_nothing(finished_workspace: Workspace, extracts: Extracts) -> None:
    before = everything_but_the_log(finished_workspace)
    drop(finished_workspace, extracts.named(*FIRST_NIGHT))

    ran = wardwatch(finished_workspace.root, "nightly", clock=TONIGHT)

    assert ran.exit_code == 0, ran.err
    assert len(ran.lines_with("already landed, nothing happens")) == len(FIRST_NIGHT)
    assert "nothing new" in ran.out
    assert list(finished_workspace.zone("inbox").iterdir()) == [], "what is held need not lie in the inbox"
    assert everything_but_the_log(finished_workspace) == before


def test_the_same_content_under_another_name_is_the_same_delivery(
    finished_workspace: Workspace, plain_extracts: Extracts
) -> None:
    content = plain_extracts.one("HES_OP_202099").read_bytes()
    put(finished_workspace, "again_NIC359603_HES_OP_202099.txt", content)
    before = rows(finished_workspace)

    ran = wardwatch(finished_workspace.root, "nightly", clock=TONIGHT)

    assert ran.exit_code == 0, ran.err
    assert ran.lines_with("already landed, nothing happens")
    assert rows(finished_workspace) == before


def test_the_same_content_said_to_be_another_month_is_refused(
    finished_workspace: Workspace, plain_extracts: Extracts
) -> None:
    content = plain_extracts.one("HES_OP_202099").read_bytes()
    path = put(finished_workspace, "NIC359603_HES_OP_202012.txt", content)

    ran = wardwatch(finished_workspace.root, "nightly", clock=TONIGHT)

    assert ran.exit_code == 13
    assert ran.lines_with("[delivery.conflict] the same content is held as hes_op-202099-")
    assert path.read_bytes() == content, "a refused file is not lost"


def test_the_same_name_with_other_content_is_refused_until_it_is_said_to_be_a_re_delivery(
    finished_workspace: Workspace, june: Text
) -> None:
    workspace, name = finished_workspace, "NIC359603_HES_OP_202206.txt"
    first, second = june.bytes(), june.first(50).bytes()
    put(workspace, name, first)
    assert wardwatch(workspace.root, "nightly", clock=TONIGHT).exit_code == 0
    path = put(workspace, name, second)
    before = everything_but_the_log(workspace)

    def land(*options: str) -> tuple[int, str]:
        ran = wardwatch(workspace.root, "land", path, *options, clock=TOMORROW)
        return ran.exit_code, ran.said

    assert land()[0] == 13
    assert f"--replaces {sha256(first)}" in land()[1], "the line says what would make it a re-delivery"
    assert land("--replaces", sha256(first))[0] == 2, "a re-delivery needs its reason"
    assert land("--reason", REASON)[0] == 2, "and what it replaces"
    assert land("--replaces", "0" * 64, "--reason", REASON)[0] == 13, "which must be there"
    refused = land("--replaces", sha256(first), "--reason", "wrong number for 999 120 4563")
    assert refused[0] == 21
    assert "4563" not in refused[1], "the reason is not repeated"
    after = everything_but_the_log(workspace)
    assert {name for name in after if name not in before} == {f"landing/refused/{sha256(second)}.json"}
    assert before.items() <= after.items(), "until now nothing has changed"

    assert land("--replaces", sha256(first), "--reason", REASON)[0] == 0
    path.unlink()
    assert wardwatch(workspace.root, "nightly", clock=TOMORROW).exit_code == 0
    now = rows(workspace)
    assert (now[sha256(first)].status, now[sha256(second)].status) == ("superseded", "current")
    assert now[sha256(first)].superseded_by == now[sha256(second)].delivery_id
    assert keys_in_the_lake(workspace, "hes_op", "2022") == {now[sha256(second)].delivery_id}
    for row in (now[sha256(first)], now[sha256(second)]):
        assert (workspace.zone("vault") / row.delivery_id).is_dir(), (
            "a superseded delivery's retention goes on"
        )


def test_an_older_month_after_a_newer_one_is_kept_and_not_used(
    finished_workspace: Workspace, june: Text, plain_extracts: Extracts
) -> None:
    workspace = finished_workspace
    september = small(plain_extracts.one(SEPTEMBER), 80).bytes()
    put(workspace, f"NIC359603_{SEPTEMBER}.txt", september)
    assert wardwatch(workspace.root, "nightly", clock=TONIGHT).exit_code == 0
    put(workspace, f"NIC359603_{JUNE}.txt", june.bytes())

    ran = wardwatch(workspace.root, "nightly", clock=TOMORROW)

    assert ran.exit_code == 0, ran.err
    newer, older = rows(workspace)[sha256(september)], rows(workspace)[sha256(june.bytes())]
    assert ran.lines_with(
        f"{older.delivery_id}: older than {newer.delivery_id}, kept as superseded, not used"
    )
    assert (newer.status, older.status, older.superseded_by) == ("current", "superseded", newer.delivery_id)
    assert (older.rows_kept, older.table_name) == (0, ""), "it was not read"
    assert (workspace.zone("landing") / older.delivery_id).is_dir()
    assert not (workspace.zone("vault") / older.delivery_id).exists()
    assert keys_in_the_lake(workspace, "hes_op", "2022") == {newer.delivery_id}
    assert "nothing new" in wardwatch(workspace.root, "nightly", clock=Clock().later(days=3)).out


def test_a_newer_month_takes_the_place_of_the_older_one(
    finished_workspace: Workspace, june: Text, plain_extracts: Extracts
) -> None:
    """Also when both wait in the inbox at once, whatever their names sort like."""
    workspace = finished_workspace
    december = small(plain_extracts.one(DECEMBER), 80).bytes()
    put(workspace, "a_HES_OP_202212.txt", december)
    put(workspace, "b_HES_OP_202206.txt", june.bytes())

    assert wardwatch(workspace.root, "nightly", clock=TONIGHT).exit_code == 0

    now = rows(workspace)
    newer, older = now[sha256(december)], now[sha256(june.bytes())]
    assert (newer.status, older.status) == ("current", "superseded")
    assert keys_in_the_lake(workspace, "hes_op", "2022") == {newer.delivery_id}


def test_columns_in_another_order_and_in_small_letters_give_the_same_records(
    finished_workspace: Workspace, june: Text
) -> None:
    """The name of a column says what it is, not its place: an identifier cannot slip into the lake by moving."""
    workspace = finished_workspace
    turned = june.columns(sorted(june.header, reverse=True))
    lines = turned.bytes().split(b"\n", 1)
    content = lines[0].lower() + b"\n" + lines[1]
    put(workspace, "NIC359603_HES_OP_202206.txt", content)

    assert wardwatch(workspace.root, "nightly", clock=TONIGHT).exit_code == 0

    row = rows(workspace)[sha256(content)]
    assert (row.rows_in, row.rows_kept, row.rows_vaulted) == (60, 60, 60)
    at = june.at("APPTDATE")
    with reading(
        workspace.zone("lake"),
        keyring(workspace).lake_metadata_key,
        memory_limit="200MB",
        temp_folder=workspace.zone("tmp"),
    ) as connection:
        found = connection.execute(
            "SELECT attendkey, apptdate::varchar FROM lake.hes_op WHERE delivery_id = $id ORDER BY record_ordinal",
            {"id": row.delivery_id},
        ).fetchall()
    assert found == [(line[june.at("ATTENDKEY")], line[at]) for line in june.rows]
