"""Leakage out of the curated zone: its files (attack 92), and combinations that single out a person (attack 97).

The curated zone has a row per record, so many of its rows are alone in what they say: how many is counted and
published at every run. What holds is that nobody is ever given such a row.
"""

from __future__ import annotations

import json

import duckdb
import pytest

from infra import publish
from infra.curated_query import MINIMUM_GROUP
from infra.lake import CATALOG, READER_CATALOG, reading
from infra.workspace import Workspace
from tests.support.command_line import wardwatch
from tests.support.workspaces import keyring, tree

# The combinations of sql/core/singling_out.yaml, in the lake's own columns.
COMBINATIONS = {
    "provider, admission date, sex, age": "procode3, admidate, sex, startage",
    "provider, admission month, sex, age": "procode3, date_trunc('month', admidate) as m, sex, startage",
    "site, admission date, discharge date, sex, age": "sitetret, admidate, disdate, sex, startage",
    "provider, admission month, sex, age, primary diagnosis": (
        "procode3, date_trunc('month', admidate) as m, sex, startage, diag_01"
    ),
    "provider, discharge date, admission method": "procode3, disdate, admimeth",
}


def test_the_combinations_that_are_counted_are_those_that_are_tried(finished_template: Workspace) -> None:
    folder = publish.current(finished_template.zone("published"))
    assert folder is not None
    with duckdb.connect(str(folder / publish.DATABASE), read_only=True) as connection:
        counted = connection.execute("select combination, unique_records from singling_out").fetchall()
    assert {name for name, _ in counted} == set(COMBINATIONS)
    assert all(unique for _, unique in counted), "there are records to be singled out"


@pytest.mark.parametrize("keys", COMBINATIONS.values(), ids=list(COMBINATIONS))
def test_a_combination_that_singles_out_a_person_is_never_answered(
    finished_workspace: Workspace, keys: str
) -> None:
    workspace = finished_workspace
    sql = f"select {keys}, count(*) as records from hes_apc group by all"
    ran = wardwatch(
        workspace.root,
        *("query", sql, "--zone", "curated", "--purpose", "indicator_review", "--format", "json"),
    )
    assert ran.exit_code == 0, ran.said
    answer = json.loads(ran.out)
    with reading(
        workspace.zone("lake"),
        keyring(workspace).lake_metadata_key,
        memory_limit="200MB",
        temp_folder=workspace.zone("tmp"),
    ) as connection:
        sizes = connection.execute(
            sql.replace("from hes_apc", ", count(distinct person_token) as persons from lake.hes_apc")
        ).fetchall()
    large = [size for size in sizes if min(size[-2:]) >= MINIMUM_GROUP]
    assert any(size[-2] == 1 for size in sizes), "there is somebody to be singled out"
    assert len(answer) == len(large), "an answer has groups of eight persons and more, and no other"
    assert f"{len(sizes) - len(large)} group(s) too small to show were left out" in ran.err


# 92: what the files say of themselves -----------------------------------------------------------------------


def test_the_files_of_the_lake_are_encrypted_to_their_footers_and_so_is_its_catalog(
    finished_template: Workspace,
) -> None:
    """Names of columns, statistics and dictionaries lie in the footer, and the catalog has statistics of its own."""
    folder = finished_template.zone("lake")
    files = [path for path in tree(folder) if path.suffix == ".parquet"]
    assert len(files) >= 5
    for path in files:
        content = path.read_bytes()
        assert (content[:4], content[-4:]) == (b"PARE", b"PARE"), "a Parquet file whose footer can be read"
        assert b"admidate" not in content.lower()
    for name in (CATALOG, READER_CATALOG):
        assert b"ducklake" not in (folder / name).read_bytes()
        with pytest.raises(duckdb.Error):
            duckdb.connect(str(folder / name), read_only=True)
