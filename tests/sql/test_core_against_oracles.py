"""The core tables agree with their re-implementation in plain Python on thousands of made-up stays.

The days are few, so that ties, nested stays, overlaps and same-day transfers are the rule.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import duckdb
import pytest

from tests.sql.oracles.continuous_inpatient_spell import continuous_inpatient_spells
from tests.sql.oracles.spell_outcome import outcomes
from tests.sql.oracles.world import World, generated
from tests.sql.tables import built

pytestmark = pytest.mark.thorough

SEEDS = (1, 2, 3, 4)


@cache
def world_and_tables(seed: int) -> tuple[World, duckdb.DuckDBPyConnection]:
    world = generated(seed)
    return world, built(world.hes_apc, world.bridge, world.deaths)


def rows_by_person(rows: list[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    """Rows whose first value is a person's token, by it, sorted."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row[1:])
    return {person: sorted(group, key=str) for person, group in found.items()}


def assert_same(
    world: World, found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]], what: str
) -> None:
    """Compare person by person, and show all about the first person who differs (made-up data, so it may)."""
    left, right = rows_by_person(found), rows_by_person(expected)
    for person in sorted(left.keys() | right.keys(), key=lambda token: len(right.get(token, []))):
        if left.get(person) == right.get(person):
            continue
        episodes = [episode for episode in world.episodes() if episode.person == person]
        lines = [f"{what} of a made-up person differ", "episodes:"]
        lines += [f"  {episode}" for episode in sorted(episodes, key=lambda episode: episode.reading)]
        lines += ["from SQL:", *(f"  {row}" for row in left.get(person, []))]
        lines += ["from the oracle:", *(f"  {row}" for row in right.get(person, []))]
        pytest.fail("\n".join(lines))
    assert left, f"no {what} at all: nothing was compared"


@pytest.mark.parametrize("seed", SEEDS)
def test_episodes_are_those_of_the_oracle(seed: int) -> None:
    world, tables = world_and_tables(seed)
    found = tables.execute(
        "select person_token, episode_id, provider, admission_date, episode_start, episode_end, "
        "episode_order, finished_episode, discharged, discharge_date, transit, primary_diagnosis from episode"
    ).fetchall()
    expected = [
        (
            episode.person, episode.key, episode.provider, episode.admission, episode.start, episode.end,
            episode.order, episode.finished, episode.discharged, episode.discharge_date, episode.transit,
            episode.diagnosis,
        )
        for episode in world.episodes()
    ]  # fmt: skip
    assert_same(world, found, expected, "episodes")


@pytest.mark.parametrize("seed", SEEDS)
def test_provider_spells_are_those_of_the_oracle(seed: int) -> None:
    world, tables = world_and_tables(seed)
    found = tables.execute(
        "select person_token, spell_id, provider, site, admission_date, admission_method, admission_source, "
        "patient_class, episode_type, sex, start_age, primary_diagnosis, finished, discharge_date, "
        "discharge_method, discharge_destination, died_in_hospital, financial_year, episode_count "
        "from provider_spell"
    ).fetchall()
    expected = [
        (
            spell.person, spell.id, spell.first.provider, spell.first.site, spell.admission,
            spell.first.admission_method, spell.first.admission_source, spell.first.patient_class,
            spell.first.kind, spell.first.sex, spell.first.age, spell.first.diagnosis, spell.finished,
            spell.discharge, spell.method, spell.destination, spell.died, spell.year, len(spell.episodes),
        )
        for spell in world.spells()
    ]  # fmt: skip
    assert_same(world, found, expected, "provider spells")


@pytest.mark.parametrize("seed", SEEDS)
def test_every_episode_is_in_the_spell_and_place_of_the_oracle(seed: int) -> None:
    world, tables = world_and_tables(seed)
    found = tables.execute(
        "select episode.person_token, episode.episode_id, provider_spell.spell_id, "
        "spell_episode.episode_number from spell_episode "
        "inner join episode on spell_episode.record = episode.record "
        "inner join provider_spell on spell_episode.spell_record = provider_spell.spell_record"
    ).fetchall()
    expected = [
        (spell.person, episode.key, spell.id, number)
        for spell in world.spells()
        for number, episode in enumerate(spell.episodes, start=1)
    ]
    assert_same(world, found, expected, "episodes in spells")


@pytest.mark.parametrize("seed", SEEDS)
def test_continuous_inpatient_spells_are_those_of_the_oracle(seed: int) -> None:
    world, tables = world_and_tables(seed)
    found = tables.execute(
        "select spell.person_token, member.continuous_inpatient_spell_id, member.spell_id, "
        "whole.admission_date, whole.finished, whole.discharge_date, whole.spell_count, whole.first_provider "
        "from continuous_inpatient_spell_member as member "
        "inner join provider_spell as spell on member.spell_id = spell.spell_id "
        "inner join continuous_inpatient_spell as whole "
        "on member.continuous_inpatient_spell_id = whole.continuous_inpatient_spell_id"
    ).fetchall()
    expected = []
    for group in continuous_inpatient_spells(world.spells()):
        finished = all(spell.finished for spell in group)
        discharge = max(spell.discharge for spell in group if spell.discharge) if finished else None
        expected += [
            (
                spell.person, group[0].id, spell.id, group[0].admission, finished, discharge, len(group),
                group[0].first.provider,
            )
            for spell in group
        ]  # fmt: skip
    assert_same(world, found, expected, "continuous inpatient spells")


@pytest.mark.parametrize("seed", SEEDS)
def test_outcomes_are_those_of_the_oracle(seed: int) -> None:
    world, tables = world_and_tables(seed)
    found = tables.execute(
        "select person_token, spell_id, spell_outcome.died_in_hospital, died_within_30_days, death_order "
        "from spell_outcome inner join provider_spell using (spell_id)"
    ).fetchall()
    expected = [
        (
            outcome.spell.person, outcome.spell.id, outcome.died_in_hospital, outcome.died_within_30_days,
            outcome.order,
        )
        for outcome in outcomes(world.spells(), world.deaths_by_token())
    ]  # fmt: skip
    assert_same(world, found, expected, "outcomes")


def test_the_made_up_world_is_as_awkward_as_it_claims() -> None:
    world, tables = world_and_tables(1)
    spells = world.spells()
    assert any(len(spell.episodes) > 2 for spell in spells), "no spell has more than two episodes"
    assert any(not spell.finished for spell in spells), "no spell is unfinished"
    assert any(len(group) > 2 for group in continuous_inpatient_spells(spells)), "nobody is moved twice"
    joined = tables.execute(
        "select count(*) from spell_episode inner join episode using (record) "
        "inner join provider_spell using (spell_record) "
        "where episode.admission_date is distinct from provider_spell.admission_date"
    ).fetchone()
    assert joined is not None, "counting gave no row"
    assert joined[0] > 5, "hardly any visit goes on from another although its admission date differs"


CORE_RESULTS = {
    "episode": "* exclude (record)",
    "provider_spell": "* exclude (spell_record, last_record)",
    "continuous_inpatient_spell_member": "*",
    "continuous_inpatient_spell": "*",
    "spell_outcome": "*",
    "core_count": "*",
}


def test_neither_the_order_of_the_rows_nor_the_cut_into_deliveries_changes_a_result() -> None:
    world, tables = world_and_tables(2)
    rng = random.Random(7)
    shuffled = [row | {"delivery_id": f"hes_apc-201999-{rng.randrange(5):012x}"} for row in world.hes_apc]
    rng.shuffle(shuffled)
    others = built(shuffled, list(reversed(world.bridge)), world.deaths)
    for table, columns in CORE_RESULTS.items():
        query = f"select {columns} from {table}"
        here = sorted(tables.execute(query).fetchall(), key=str)
        there = sorted(others.execute(query).fetchall(), key=str)
        assert here == there, f"{table} depends on the order or the cut of its input"
        assert here, f"{table} is empty: nothing was compared"
