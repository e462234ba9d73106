"""The maternity indicators over synthetic extracts show what happened, and find the hospital that was made worse.

The extracts are read straight into the engine, without a night, so that several worlds fit into a minute. The
generator counts deliveries, births and infections in its own history and never reads a file; the pipeline's way from
the file to the engine has its own test in test_truth.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from scipy.stats import binom

from infra.compute import add_death_link, build_core, build_outcomes, run_indicator, spells_for_linkage
from infra.synthetic import generate
from sql import INDICATOR_FOLDER
from tests.sql.tables import COLUMNS
from transforms.assessment import assess
from transforms.intervals import LEVEL_95
from transforms.linkage import days_to_death, one_death_per_person

SEEDS = (1, 2, 3)
EPISODES, HOSPITALS = 100_000, 12  # fewer than ten providers, and an outlier widens its own limits
INFECTION = "puerperal_infection_42d_v1"
SURE = 0.999
"""How sure the test wants to be that more flags than it allows are no chance."""


@dataclass
class Told:
    """The truth of one seed, and the engine that has read its extracts."""

    truth: dict[str, Any]
    tables: duckdb.DuckDBPyConnection

    def true(self, count: str) -> dict[str, int]:
        """Provider to a count of its last year, without those that have none."""
        (of_year,) = self.truth["counts"].values()
        return {provider: counts[count] for provider, counts in of_year.items() if counts[count]}

    def ask(self, query: str) -> dict[str, int]:
        return {provider: number for provider, number in self.tables.execute(query).fetchall() if number}

    @property
    def worse(self) -> str:
        """The hospital with high puerperal infection."""
        (entry,) = (e for e in self.truth["planted"] if e["kind"] == "high_puerperal_infection")
        return str(entry["provider"])

    @cached_property
    def infections(self) -> pl.DataFrame:
        """The indicator with its limits and alerts."""
        values = run_indicator(self.tables, INDICATOR_FOLDER / INFECTION).values
        return assess(values.with_columns(indicator=pl.lit("infection"), version=pl.lit("v1")))


def expression(column: str, kind: str, delivered: set[str], period: str) -> str:
    """What ``column`` of hes_apc is made of, from a file whose columns are all text."""
    made = {
        "person_token": "md5(token_person_id)",
        "delivery_id": f"'hes_apc-{period}-0123456789ab'",
        "record_ordinal": "row_number() over ()",
        "mother_baby_token_of_mother": "md5(procodet || dob || dobbaby_1)",
        "mother_baby_token_of_baby": "md5(procodet || motdob || dob)",
    }
    if column in made:
        return made[column]
    if column not in delivered:
        return "null"
    if (
        kind == "DATE"
    ):  # the days 1800-01-01 and 1801-01-01 mean that no date was submitted, or none that is one
        return f"case when try_cast({column} as date) > date '1900-01-01' then try_cast({column} as date) end"
    return f"try_cast({column} as bigint)" if kind == "BIGINT" else f"nullif(trim({column}), '')"


def read(folder: Path, truth: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """An engine with the newest admitted patient care and the deaths of ``folder``, built to the end."""
    connection = duckdb.connect(":memory:", config={"threads": "2", "python_enable_replacements": "false"})
    (period, name) = max((f["period"], n) for n, f in truth["files"].items() if f["dataset"] == "hes_apc")
    options = "all_varchar = true, header = true, ignore_errors = true, quote = ''"
    connection.execute(
        f"create view extract as select * from read_csv('{folder / name}', delim = ',', {options})"
    )
    delivered = {row[0] for row in connection.execute("describe extract").fetchall()}
    columns = ", ".join(
        f"({expression(column, kind, delivered, period)})::{kind} as {column}"
        for column, kind in COLUMNS.items()
    )
    connection.execute(f"create table hes_apc as select {columns} from extract")
    connection.execute("create table hes_person_bridge (old_person_token varchar, person_token varchar)")
    build_core(connection)
    (deaths,) = (n for n, f in truth["files"].items() if f["dataset"] == "civil_deaths")
    registered = connection.execute(
        "select md5(token_person_id) as token, try_cast(reg_date_of_death as date) as date_of_death, "
        f"try_cast(reg_date as date) as registered from read_csv('{folder / deaths}', {options})"
    ).pl()
    link = days_to_death(spells_for_linkage(connection), one_death_per_person(registered))
    add_death_link(connection, link)
    build_outcomes(connection)
    return connection


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Told]]:
    worlds = []
    for seed in SEEDS:
        folder = tmp_path_factory.mktemp(f"extracts_{seed}")
        generate(folder, episodes=EPISODES, hospitals=HOSPITALS, years=1, seed=seed, recipient="", plain=True)
        truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        worlds.append(Told(truth, read(folder, truth)))
        for file in folder.iterdir():
            file.unlink()
    yield worlds
    for world in worlds:
        world.tables.close()


def test_the_deliveries_are_those_that_happened(told: list[Told]) -> None:
    for world in told:
        found = world.ask(
            "select provider, count(*) from delivery where followed_until is not null group by provider"
        )
        assert found == world.true("deliveries")


def test_the_stillbirths_and_babies_are_those_that_happened(told: list[Told]) -> None:
    for world in told:
        stillborn = world.ask(
            "select provider, count(*) filter (where stillborn) from birth "
            "where followed_until is not null and birth_number is not null group by provider"
        )
        assert stillborn == world.true("stillbirths")
        babies = world.ask(
            "select provider, count(*) from birth where spell_id is not null group by provider"
        )
        assert babies == world.true("births")


def test_most_babies_are_matched_to_their_mothers(told: list[Told]) -> None:
    for world in told:
        (matched,) = world.tables.execute(
            "select avg((delivery_record is not null)::integer) from birth where spell_id is not null"
        ).fetchall()
        assert matched[0] > 0.95, f"only {matched[0]:.0%} of the babies' records were matched"


def test_the_infected_deliveries_are_those_that_happened(told: list[Told]) -> None:
    for world in told:
        cursor = world.tables.cursor()
        cursor.execute("begin")
        # The truth counts every delivery of the year, so here all are taken for followed to the end.
        cursor.execute("update delivery set followed_until = followed_until + 42")
        found = run_indicator(cursor, INDICATOR_FOLDER / INFECTION).values
        cursor.execute("rollback")
        seen = {p: n for p, n in found.select("provider", "numerator").iter_rows() if n}
        assert seen == world.true("puerperal_infections_within_42_days")


def test_the_hospital_with_more_infections_is_found(told: list[Told]) -> None:
    for world in told:
        row = world.infections.filter(provider=world.worse)
        assert row["alert"].is_not_null().all(), f"z is {row['z'].to_list()}, and no alert is raised"
        assert row["z"][0] == world.infections["z"].max(), "another hospital is farther out"


def test_other_hospitals_are_flagged_no_more_often_than_the_limits_say(told: list[Told]) -> None:
    others = pl.concat([world.infections.filter(pl.col("provider") != world.worse) for world in told])
    flagged = others["alert"].is_not_null().sum()
    one_sided = (1 - LEVEL_95) / 2  # only the upper limit asks a question
    allowed = int(binom.ppf(SURE, others.height, one_sided))
    assert others.height >= 25, "hardly anybody is compared"
    assert flagged <= allowed, (
        f"{flagged} of {others.height} others are flagged, {allowed} could be by chance"
    )
