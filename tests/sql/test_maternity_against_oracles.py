"""Deliveries and births agree with their re-implementation in plain Python on made-up mothers and babies."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import duckdb
import pytest

from infra.compute import core_parameters, run_indicator
from sql import INDICATOR_FOLDER, core_query
from tests.sql.oracles.birth import Birth, births
from tests.sql.oracles.delivery import MODE_ORDER, Delivery, Records, case_mix_groups, deliveries
from tests.sql.oracles.mothers import generate
from tests.sql.oracles.world import World
from tests.sql.tables import built

pytestmark = pytest.mark.thorough

SEEDS = (1, 2, 3)
INDICATORS = (
    "puerperal_infection_42d_v1",
    "perinatal_mortality_v1",
    "maternal_emergency_readmission_v1",
    "neonatal_emergency_readmission_v1",
    "elective_caesarean_v1",
)


@cache
def world_and_tables(seed: int) -> tuple[World, duckdb.DuckDBPyConnection]:
    world = generate(seed, 400)
    return world, built(world.hes_apc, world.bridge, world.deaths)


@cache
def truth(seed: int) -> tuple[list[Delivery], list[Birth]]:
    records = Records(world_and_tables(seed)[0])
    found = deliveries(records)
    return found, births(records, found)


def differences(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> str:
    left, right = sorted(map(str, found)), sorted(map(str, expected))
    lines = [f"only from SQL: {row}" for row in left if row not in right][:5]
    return "\n".join(lines + [f"only from the oracle: {row}" for row in right if row not in left][:5])


@pytest.mark.parametrize("seed", SEEDS)
def test_deliveries_are_those_of_the_oracle(seed: int) -> None:
    _, tables = world_and_tables(seed)
    found = tables.execute(
        "select delivery.person_token, episode_id, delivery.spell_id, delivery.provider, delivery_date, "
        "dated_by_procedure, identified_by, mode, babies, multiple, age_band, outcome_code, "
        "mother_baby_token, financial_year, followed_until, delivery.discharge_date "
        "from delivery inner join episode on delivery_record = record"
    ).fetchall()
    expected = [
        (
            delivery.person, delivery.episode.key, delivery.spell.id, delivery.provider, delivery.day,
            delivery.dated, delivery.identified_by, delivery.mode, delivery.babies, delivery.babies > 1,
            delivery.age_band, delivery.outcome, delivery.token, delivery.year, delivery.followed_until,
            delivery.spell.discharge,
        )
        for delivery in truth(seed)[0]
    ]  # fmt: skip
    assert sorted(found, key=str) == sorted(expected, key=str), differences(found, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_births_are_those_of_the_oracle(seed: int) -> None:
    _, tables = world_and_tables(seed)
    found = tables.execute(
        "select episode_id, birth_number, birth.spell_id, birth.person_token, birth.provider, birth_date, "
        "stillborn, gestation_weeks, birth.financial_year, birth.followed_until "
        "from birth left join episode on delivery_record = record"
    ).fetchall()
    expected = [
        (
            birth.delivery.episode.key if birth.delivery else None, birth.place,
            birth.spell.id if birth.spell else None, birth.spell.person if birth.spell else None,
            birth.provider, birth.day, birth.stillborn, birth.weeks, birth.year, birth.followed_until,
        )
        for birth in truth(seed)[1]
    ]  # fmt: skip
    assert sorted(found, key=str) == sorted(expected, key=str), differences(found, expected)


def test_the_made_up_mothers_are_as_awkward_as_they_claim() -> None:
    found = [delivery for seed in SEEDS for delivery in truth(seed)[0]]
    babies = [birth for seed in SEEDS for birth in truth(seed)[1]]
    assert {delivery.identified_by for delivery in found} == {"procedure", "maternity record", "diagnosis"}
    assert {delivery.mode for delivery in found} == {*MODE_ORDER, "unknown"}, "a mode is missing"
    assert any(delivery.babies == 3 for delivery in found), "there are no triplets"
    assert any(len(delivery.stay) > 1 for delivery in found), "nobody is transferred"
    assert any(delivery.followed_until is None for delivery in found), "no delivery is before the data"
    assert any(birth.stillborn for birth in babies), "nobody is stillborn"
    assert any(birth.place is None for birth in babies), "every baby is matched to a mother"
    assert any(birth.spell is None for birth in babies), "every birth has a record of the baby"


def test_neither_the_order_of_the_rows_nor_their_repetition_changes_a_result() -> None:
    world, tables = world_and_tables(2)
    rng = random.Random(7)
    shuffled = [*world.hes_apc, *rng.sample(world.hes_apc, 40)]
    rng.shuffle(shuffled)
    others = built(shuffled, world.bridge, world.deaths)
    for query in (
        "select * exclude (delivery_record, tail_record) from delivery",
        "select * exclude (delivery_record) from birth",
        "select case_mix_group, count(*) from delivery_case_mix group by case_mix_group",
    ):
        here = sorted(tables.execute(query).fetchall(), key=str)
        assert here == sorted(others.execute(query).fetchall(), key=str), f"changes: {query}"
        assert here, "nothing was compared"
    for name in INDICATORS:
        folder = INDICATOR_FOLDER / name
        assert run_indicator(tables, folder).values.equals(run_indicator(others, folder).values), name


@pytest.mark.parametrize("fewest", [1, 5, 20, 60, 10_000])
def test_case_mix_groups_are_those_of_the_oracle_and_none_is_too_small(fewest: int) -> None:
    _, tables = world_and_tables(3)
    text = core_query("delivery_case_mix").read_text(encoding="utf-8")
    cursor = tables.cursor()
    found = dict(
        cursor.execute(
            f"select episode_id, case_mix_group from ({text}) as mix "
            "inner join episode on mix.delivery_record = record",
            {"fewest_deliveries_in_group": fewest},
        ).fetchall()
    )
    everything = truth(3)[0]
    expected = case_mix_groups(everything, fewest)
    assert found == expected
    assert set(found) == {d.episode.key for d in everything if d.followed_until}, "a delivery is in no group"
    sizes: dict[tuple[str, str], int] = {}
    for delivery in everything:
        if delivery.followed_until:
            key = (delivery.year, found[delivery.episode.key])
            sizes[key] = sizes.get(key, 0) + 1
    small = {key for key, size in sizes.items() if size < fewest and key[1] != "rest"}
    assert not small, f"groups below {fewest}: {small}"


def test_the_indicators_are_compared_with_more_than_one_case_mix_group() -> None:
    """The world of the indicators' oracles has one group that is large enough and a rest."""
    records = Records(generate(11))
    fewest = core_parameters()["fewest_deliveries_in_group"]
    assert isinstance(fewest, int), "the parameter is a whole number"
    groups = case_mix_groups(deliveries(records), fewest)
    assert len(set(groups.values())) >= 2, "all deliveries are compared with all: the rates are not tested"
