"""A backfill gives the same published result from the same deliveries, and rebuilds no more than it must."""

from __future__ import annotations

import hashlib
from datetime import date

import pytest

from flows.backfill import Request, run_backfill
from infra import ingest, publish
from infra.night import Outcome
from infra.workspace import Workspace
from schemas.errors import KeyUnavailable
from tests.support.convergence import lake_content, leftovers, published_result
from tests.support.workspaces import Clock, night, tree

TOMORROW = Clock().later(days=1)
AFTER_THE_WINDOW = Clock().later(days=40)


def backfill(
    workspace: Workspace, dataset: str, *, clock: Clock = TOMORROW, dry_run: bool = False
) -> Outcome:
    asked = Request(
        dataset,
        date(2020, 4, 1),
        date(2023, 3, 31),
        "the contract of the provider codes was corrected",
        "demo-data-engineer",
        dry_run,
    )
    return run_backfill(workspace.root, asked, say=lambda _line: None, clock=clock)


def digests(workspace: Workspace, zone: str) -> dict[str, str]:
    root = workspace.zone(zone)
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tree(root)
    }


def test_a_backfill_of_unchanged_deliveries_gives_the_same_lake_and_the_same_published_bytes(
    finished_workspace: Workspace,
) -> None:
    published = published_result(finished_workspace.zone("published"))
    tables = lake_content(finished_workspace).tables
    vault = digests(finished_workspace, "vault")

    outcome = backfill(finished_workspace, "hes_apc")

    assert len(outcome.ingested) == 2, "both years of admitted care are in the range"
    assert published_result(finished_workspace.zone("published")) == published
    lake = lake_content(finished_workspace)
    assert lake.tables == tables
    assert leftovers(finished_workspace, lake) == []
    assert digests(finished_workspace, "vault") == vault, "the vault was touched although no item changed"


def test_a_backfill_of_deaths_renews_the_linkage_store_and_changes_no_number(
    finished_workspace: Workspace,
) -> None:
    published = published_result(finished_workspace.zone("published"))

    outcome = backfill(finished_workspace, "civil_deaths")

    assert len(outcome.ingested) == 1
    assert published_result(finished_workspace.zone("published")) == published
    assert leftovers(finished_workspace, lake_content(finished_workspace)) == []


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(finished_workspace: Workspace) -> None:
    zones = ("landing", "vault", "linkage", "lake", "published", "runs")
    before = {zone: digests(finished_workspace, zone) for zone in zones}
    said: list[str] = []
    asked = Request("hes_apc", date(2020, 4, 1), date(2021, 3, 31), "trying out", "demo-data-engineer", True)

    outcome = run_backfill(finished_workspace.root, asked, say=said.append, clock=TOMORROW)

    (line,) = [line for line in said if "would be ingested again" in line]
    assert line.startswith("hes_apc-202099-")
    assert (outcome.ingested, outcome.run_id) == ([], "")
    assert {zone: digests(finished_workspace, zone) for zone in zones} == before


def test_the_vault_gets_a_new_generation_when_the_contract_of_an_item_changed(
    finished_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(finished_workspace, "vault")
    published = published_result(finished_workspace.zone("published"))
    monkeypatch.setattr(
        ingest, "items_digest", lambda _contract, _objections=None: hashlib.sha256(b"another").hexdigest()
    )

    backfill(finished_workspace, "hes_op")

    lake = lake_content(finished_workspace)
    (row,) = [row for row in lake.rows if row.dataset == "hes_op"]
    assert row.generation == 2
    assert (finished_workspace.zone("vault") / f"{row.delivery_id}.g2" / "manifest.json").exists()
    after = digests(finished_workspace, "vault")
    assert {name: after.get(name) for name in before} == before, "the generation before was touched"
    assert leftovers(finished_workspace, lake) == []
    assert published_result(finished_workspace.zone("published")) == published


def test_a_night_after_a_backfill_has_nothing_to_do(finished_workspace: Workspace) -> None:
    backfill(finished_workspace, "hes_op")
    run = publish.current_run(finished_workspace.zone("published"))

    outcome = night(finished_workspace, TOMORROW.later(hours=6))

    assert outcome.nothing_new
    assert publish.current_run(finished_workspace.zone("published")) == run


def test_after_the_landing_window_a_backfill_says_who_can_open_the_delivery_and_changes_nothing(
    finished_workspace: Workspace,
) -> None:
    tables = lake_content(finished_workspace).tables
    published = published_result(finished_workspace.zone("published"))

    with pytest.raises(KeyUnavailable, match=r"landing window of hes_op-202099-[0-9a-f]{12} is closed"):
        backfill(finished_workspace, "hes_op", clock=AFTER_THE_WINDOW)

    lake = lake_content(finished_workspace)
    assert lake.tables == tables
    assert lake.orphans == set()
    assert published_result(finished_workspace.zone("published")) == published
