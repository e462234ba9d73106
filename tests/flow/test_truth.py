"""What is published equals what happened: counted here from the event history, never from the files' text.

The generator of the synthetic extracts counts its own history while it makes it and writes the counts into
``truth.json`` (its ``meaning`` says what each one is). Nothing of that code reads a file, builds a spell or links a
death, so agreement is worth something. The numbers agree exactly, provider by provider and year by year, with
``counts``: what the newest file of each year can show. What really happened, ``history``, differs from it in two
ways that are asserted too: the hospital that stopped sending, and deaths registered after the snapshot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from infra import publish
from infra.computation import ON_DEATHS_AFTER_DISCHARGE, REGISTER_ENDS
from infra.lake import CommittedDelivery, committed_deliveries, reading
from infra.workspace import Workspace
from tests.support.workspaces import Extracts, copy_workspace, drop, keyring, night

NEWEST = (
    "HES_APC_202099",
    "HES_APC_202199",
    "HES_APC_202212",
    "ONS_DEATHS_20",
    "ONS_DEATHS_BRIDGE",
    "CIVIL_DEATHS",
    "HES_PERSON_BRIDGE",
)
PROVISIONAL = "HES_APC_202206"  # in the same inbox; the later month takes its place

# What a planted kind of damage is called by the rules. An unreadable date is in ADMIDATE as well as in EPISTART.
RULES = {
    "wrong_number_of_fields": {"HES_APC.VOLUME.readable_rows"},
    "unparsable_date": {"HES_APC.R04", "HES_APC.R06"},
    "missing_epikey": {"HES_APC.R01"},
}


@dataclass
class Told:
    """The truth, and what a night over its extracts published."""

    truth: dict[str, Any]
    published: Path
    rows: dict[str, CommittedDelivery]
    quarantine: dict[str, list[tuple[int, str]]]
    episodes: dict[tuple[str, str], int]
    manifest: dict[str, Any]

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.published / publish.DATABASE), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def rates(self, indicator: str) -> dict[tuple[str, str], tuple[int, int]]:
        """(financial year, provider) -> numerator, denominator."""
        found = self.ask(
            "SELECT period, provider, numerator, denominator FROM indicator_value "
            f"WHERE indicator = '{indicator}' AND stratum = 'all'"
        )
        return {(period[:4], provider): (int(top), int(bottom)) for period, provider, top, bottom in found}

    def true(self, view: str, numerator: str, denominator: str) -> dict[tuple[str, str], tuple[int, int]]:
        return {
            (year, provider): (counts[numerator], counts[denominator])
            for year, by_provider in self.truth[view].items()
            for provider, counts in by_provider.items()
            if counts[denominator]
        }

    @property
    def late(self) -> tuple[str, str]:
        """The last financial year, and the hospital that is missing from it."""
        (planted,) = [entry for entry in self.truth["planted"] if entry["kind"] == "late_data"]
        return max(self.truth["counts"]), planted["provider"]


@pytest.fixture(scope="module")
def told(empty_template: Workspace, extracts: Extracts, tmp_path_factory: pytest.TempPathFactory) -> Told:
    workspace = copy_workspace(empty_template, tmp_path_factory.mktemp("truth") / "workspace")
    drop(workspace, extracts.named(*NEWEST, PROVISIONAL))
    outcome = night(workspace)
    assert outcome.problems == []
    key, tmp = keyring(workspace).lake_metadata_key, workspace.zone("tmp")
    digests = {entry["plaintext_digest"]: name for name, entry in extracts.truth["files"].items()}
    rows = {
        digests[row.content_sha256]: row for row in committed_deliveries(workspace.zone("lake"), key, tmp)
    }
    with reading(workspace.zone("lake"), key, memory_limit="200MB", temp_folder=tmp) as connection:
        quarantine: dict[str, list[tuple[int, str]]] = {}
        for delivery, ordinal, rule in connection.execute("FROM lake.quarantine ORDER BY ALL").fetchall():
            quarantine.setdefault(delivery, []).append((ordinal, rule))
        episodes = {
            (year, provider): count
            for year, provider, count in connection.execute(
                "SELECT partyear[:4], procodet, count(*) FROM lake.hes_apc WHERE epistat = '3' GROUP BY ALL"
            ).fetchall()
        }
    published = publish.current(workspace.zone("published"))
    assert published is not None
    manifest = json.loads((workspace.zone("runs") / f"{outcome.run_id}.json").read_text(encoding="utf-8"))
    return Told(extracts.truth, published, rows, quarantine, episodes, manifest)


def test_deaths_and_spells_of_the_crude_death_rate_are_the_true_ones(told: Told) -> None:
    true = told.true("counts", "deaths_within_30_days_ordinary", "spells_ordinary")
    assert told.rates("crude_death_rate") == true
    assert sum(deaths for deaths, _ in true.values()) > 40, "too few deaths to show anything"
    assert len(true) == 3 * len(told.truth["providers"]) - 1, "every provider in every year, but the late one"


def test_deaths_in_hospital_are_the_true_ones(told: Told) -> None:
    assert told.rates("in_hospital_death_rate") == told.true(
        "counts", "deaths_in_hospital", "spells_ordinary"
    )


def test_the_death_rate_differs_from_what_happened_only_where_nobody_could_know(told: Told) -> None:
    """The hospital that stopped sending has no rate in the last year; a death registered after the snapshot is
    missing, so that in the last year there may be fewer deaths than happened, never more."""
    published = told.rates("crude_death_rate")
    happened = told.true("history", "deaths_within_30_days_ordinary", "spells_ordinary")
    assert happened.keys() - published.keys() == {told.late}
    assert published.keys() <= happened.keys()
    for cell, (deaths, spells) in published.items():
        assert spells == happened[cell][1]
        assert deaths <= happened[cell][0] if cell[0] == told.late[0] else deaths == happened[cell][0]


def test_what_these_data_cannot_tell_stands_in_the_definitions(told: Told) -> None:
    """The snapshot of the deaths is of a day less than thirty days after the last discharges."""
    words = dict(told.ask("SELECT indicator, what_it_is_not FROM indicator"))
    late = {name for name, text in words.items() if REGISTER_ENDS in text}
    assert late == set(ON_DEATHS_AFTER_DISCHARGE)
    broken = sum(text.count("Not so in these data: ") for text in words.values())
    assert told.manifest["stages"]["broken_warnings"] == broken


def test_there_are_as_many_spells_as_there_were(told: Told) -> None:
    assert told.manifest["stages"]["spells"] == told.truth["totals"]["spells"]


def test_every_finished_episode_is_in_the_lake_once(told: Told) -> None:
    true = {
        (year, provider): counts["episodes"]
        for year, by_provider in told.truth["counts"].items()
        for provider, counts in by_provider.items()
        if counts["episodes"]
    }
    assert told.episodes == true


@pytest.mark.parametrize("file", [name for name in NEWEST if name.startswith("HES_APC")])
def test_exactly_the_planted_broken_records_are_quarantined(told: Told, file: str) -> None:
    (name,) = [name for name in told.truth["files"] if file in name]
    of_file, row = told.truth["files"][name], told.rows[name]
    assert of_file["broken_rows"] > 0
    assert (row.rows_in, row.rows_quarantined) == (of_file["rows"], of_file["broken_rows"])
    assert row.rows_kept == of_file["rows"] - of_file["broken_rows"]
    rules: dict[int, set[str]] = {}
    for ordinal, rule in told.quarantine[row.delivery_id]:
        rules.setdefault(ordinal, set()).add(rule)
    expected = [RULES[kind] for kind, count in of_file["broken"].items() for _ in range(count)]
    assert sorted(map(sorted, rules.values())) == sorted(map(sorted, expected))


def test_nothing_else_is_quarantined(told: Told) -> None:
    broken = {
        row.delivery_id
        for name, row in told.rows.items()
        if row.status == "current" and told.truth["files"][name]["broken_rows"]
    }
    assert told.quarantine.keys() == broken


def test_every_record_of_the_other_files_is_taken(told: Told) -> None:
    for name, row in told.rows.items():
        if not told.truth["files"][name]["broken_rows"]:
            assert (row.rows_in, row.rows_kept) == (told.truth["files"][name]["rows"],) * 2, name


def test_the_provisional_month_is_not_counted_beside_the_later_one(told: Told) -> None:
    status = {name: row.status for name, row in told.rows.items() if "HES_APC_2022" in name}
    assert sorted(status.values()) == ["current", "superseded"]
    assert [name for name, state in status.items() if state == "superseded"] == [
        name for name in status if PROVISIONAL in name
    ]


def test_the_hospital_that_stopped_sending_is_named_and_no_other(told: Told) -> None:
    found = told.ask("SELECT dataset, period, provider, last_period FROM late_provider")
    assert found == [("hes_apc", "202212", told.late[1], "202199")]


def test_while_it_still_sends_it_is_not_late(finished_template: Workspace) -> None:
    """The first night has the month in which it still reports."""
    folder = publish.current(finished_template.zone("published"))
    assert folder is not None
    with duckdb.connect(str(folder / publish.DATABASE), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM late_provider").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM provider").fetchone() == (8,)


def test_all_providers_have_their_names(told: Told) -> None:
    codes = {provider["code"] for provider in told.truth["providers"]}
    assert {code for (code,) in told.ask("SELECT code FROM provider")} == codes
