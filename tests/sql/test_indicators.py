"""Every indicator has a golden case and an oracle, returns what its metadata says, and agrees with its
oracle."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from infra.compute import load_indicators, run_indicator
from schemas.yaml_text import read_yaml
from sql import INDICATOR_FOLDER
from tests.sql.oracles.world import World, generated
from tests.sql.tables import built

HERE = Path(__file__).parent
INDICATORS = {indicator.metadata.id: indicator for indicator in load_indicators()}
ROLES = HERE.parent.parent / "schemas" / "policy" / "roles.yaml"


def oracle(name: str) -> Any:
    return importlib.import_module(f"tests.sql.oracles.{name}")


@cache
def world_and_tables(generate: Callable[[int], World], seed: int) -> tuple[World, duckdb.DuckDBPyConnection]:
    """A made-up world and its tables, made once for all indicators: a night asks them of one connection, too."""
    world = generate(seed)
    return world, built(world.hes_apc, world.bridge, world.deaths)


@cache
def empty_tables() -> duckdb.DuckDBPyConnection:
    return built([])


def test_there_are_indicators() -> None:
    assert INDICATORS, f"no indicator was found below {INDICATOR_FOLDER}"


@pytest.mark.parametrize("name", INDICATORS)
def test_every_indicator_has_a_golden_case(name: str) -> None:
    cases = list((HERE / "indicators" / name).glob("*/expect.yaml"))
    assert cases, f"put a case into tests/sql/indicators/{name}/<what it shows>/: input CSVs and expect.yaml"
    assert all(any(case.parent.glob("*.csv")) for case in cases), f"a case of {name} has no input table"


@pytest.mark.parametrize("name", INDICATORS)
def test_every_indicator_has_an_oracle(name: str) -> None:
    file = HERE / "oracles" / f"{name}.py"
    assert file.exists(), f"write tests/sql/oracles/{name}.py with expected(world) -> rows, in boring Python"
    assert callable(getattr(oracle(name), "expected", None)), (
        f"the oracle of {name} has no function expected(world)"
    )


def test_no_golden_case_or_oracle_is_left_from_an_indicator_that_is_gone() -> None:
    cases = {folder.name for folder in (HERE / "indicators").iterdir() if folder.is_dir()}
    oracles = {file.stem for file in (HERE / "oracles").glob("*_v[0-9]*.py")}
    assert cases | oracles == set(INDICATORS), (
        f"without an indicator: {sorted((cases | oracles) - set(INDICATORS))}"
    )


@pytest.mark.thorough
@pytest.mark.parametrize("name", INDICATORS)
@pytest.mark.parametrize("seed", [11, 12])
def test_the_indicator_agrees_with_its_oracle(name: str, seed: int) -> None:
    its_oracle = oracle(name)
    world, tables = world_and_tables(getattr(its_oracle, "generate", generated), seed)
    expected = its_oracle.expected(world)
    found = run_indicator(tables, INDICATOR_FOLDER / name).values
    assert expected, "the oracle expects no row: nothing is compared"
    assert found.select(expected[0].keys()).to_dicts() == expected, (
        f"{name} and its oracle differ (seed {seed})"
    )


@pytest.mark.parametrize("name", INDICATORS)
def test_the_columns_on_empty_tables_are_those_of_the_metadata(name: str) -> None:
    result = run_indicator(empty_tables(), INDICATOR_FOLDER / name)  # refuses other columns or types
    assert result.values.height == 0, "something came from nothing"
    assert result.values.columns == [column.name for column in result.metadata.columns]


@pytest.mark.parametrize("name", INDICATORS)
def test_the_rows_come_in_the_order_of_period_provider_stratum(name: str) -> None:
    _, tables = world_and_tables(getattr(oracle(name), "generate", generated), 13)
    values = run_indicator(tables, INDICATOR_FOLDER / name).values
    assert values.equals(values.sort("period", "provider", "stratum")), f"{name} has no fixed order"
    assert values.select(pl.col("denominator").min()).item() > 0, "an empty cell was reported"


@pytest.mark.parametrize("name", INDICATORS)
def test_the_query_is_written_as_the_others_are(name: str) -> None:
    query = INDICATORS[name].query
    header = query[: query.index("with ")]
    for word in ("Numerator:", "Denominator:", "Exclusions:", "Source:"):
        assert word in header, f"the header of {name}/query.sql does not say {word}"
    body = re.sub(r"--.*", "", query)
    assert re.search(r"\bgroup by (?!all\b|\d)", body), f"{name} groups by nothing, by ALL or by position"
    assert re.search(r"\border by (?!all\b|\d)", body.rsplit(")", 1)[-1]), f"{name} does not order its result"
    assert "{{" not in body, f"{name} holds a template"
    assert not re.search(r"\bcount_if\b", body), f"{name}: count_if gives HUGEINT; use count(*) filter"


@pytest.mark.parametrize("name", INDICATORS)
def test_the_owner_is_a_role(name: str) -> None:
    roles = {role["code"] for role in read_yaml(ROLES)["roles"]}
    assert INDICATORS[name].metadata.owner in roles, (
        f"the owner of {name} is no role of schemas/policy/roles.yaml"
    )
