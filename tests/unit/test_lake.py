"""A table of the lake holds what was handed over, in order, and its view says it in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from infra.lake import Books, CommittedDelivery, Lake, reading
from schemas.loader import load_contracts
from schemas.tables import lake_columns
from transforms.split import STATE_CODES, compile_split, with_states_as_text

KEY = "a key of thirty-two characters .."
CONTRACT = load_contracts()["hes_op_2021"]
DELIVERED = ("ATTENDKEY", "TOKEN_PERSON_ID", "APPTDATE", "SEX")
PLAN = compile_split(CONTRACT, DELIVERED)


@contextmanager
def lake(root: Path) -> Iterator[Lake]:
    with Lake.open(
        root / "lake", KEY, memory_limit="200MB", temp_folder=root / "tmp", row_group_rows=2048
    ) as opened:
        yield opened


def frames(rows: int, chunk: int) -> Iterator[pl.DataFrame]:
    """``rows`` rows of the coded lake frame: every tenth appointment date invalid, every seventh missing."""
    for first in range(0, rows, chunk):
        ordinal = pl.int_range(first, min(first + chunk, rows), eager=True)
        known = (ordinal % 7 > 0) & (ordinal % 10 > 0)
        given = {
            "ATTENDKEY": ordinal.cast(pl.String),
            "APPTDATE": pl.select(pl.when(known).then(pl.lit(date(2021, 6, 1)))).to_series(),
            "APPTDATE_STATE": pl.select(
                pl.when(ordinal % 10 == 0).then(pl.lit(STATE_CODES["invalid"], pl.Int8()))
            ).to_series(),
            "record_ordinal": ordinal + 1,
        }
        yield pl.DataFrame(
            [
                given.get(name, pl.Series([None], dtype=kind).new_from_index(0, len(ordinal))).alias(name)
                for name, kind in PLAN.coded_schema.items()
            ]
        )


def delivery(period: str, rows: int) -> CommittedDelivery:
    return CommittedDelivery(
        delivery_id=f"hes_op-{period}-0123456789ab",
        dataset="hes_op",
        contract=CONTRACT.id,
        contract_digest="",
        period=period,
        table_name=f"hes_op_{period[:4]}",
        rank=99,
        status="current",
        superseded_by="",
        sender="",
        agreement="",
        content_sha256="",
        rows_in=rows,
        rows_kept=rows,
        rows_quarantined=0,
        rows_vaulted=0,
        columns_delivered=len(DELIVERED),
        items_digest="",
        generation=1,
        vault_manifest_sha256="",
        received_at=datetime(2022, 1, 1),
        committed_at=datetime(2022, 1, 1),
        retain_until=date(2030, 1, 1),
    )


def commit(opened: Lake, period: str, rows: int) -> None:
    with opened.transaction():
        opened.replace_table(
            f"hes_op_{period[:4]}", PLAN.coded_columns, frames(rows, 5000), PLAN.null_columns
        )
        opened.write_books(delivery(period, rows), Books(pl.DataFrame(), pl.DataFrame(), pl.DataFrame()))
        opened.rebuild_views()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    with lake(folder) as opened:
        commit(opened, "202199", 30_000)
        commit(opened, "202299", 7_000)
    return folder


@pytest.fixture(scope="module")
def connection(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with reading(root / "lake", KEY, memory_limit="200MB", temp_folder=root / "tmp") as opened:
        opened.execute("SET preserve_insertion_order = true")
        opened.execute("SET threads = 1")
        yield opened


def asked(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[object, ...]]:
    return connection.execute(query).fetchall()


def test_rows_lie_in_the_order_of_the_file(connection: duckdb.DuckDBPyConnection) -> None:
    found = asked(connection, "SELECT record_ordinal FROM lake.hes_op_2021")
    assert [ordinal for (ordinal,) in found] == list(range(1, 30_001)), "many row groups, one order"


def test_a_state_reads_as_text(connection: duckdb.DuckDBPyConnection) -> None:
    found = asked(
        connection, "SELECT APPTDATE_STATE, count(*) FROM lake.hes_op GROUP BY 1 ORDER BY 1 NULLS LAST"
    )
    numbers = [number for rows in (30_000, 7_000) for number in range(rows)]
    invalid = sum(number % 10 == 0 for number in numbers)
    null = sum(number % 10 > 0 and number % 7 == 0 for number in numbers)
    assert found == [("invalid", invalid), ("null", null), ("valid", len(numbers) - invalid - null)]


def test_a_frame_and_the_view_say_the_same_of_a_state(connection: duckdb.DuckDBPyConnection) -> None:
    (first,) = frames(1000, 1000)
    texts = with_states_as_text(first, PLAN.states)["APPTDATE_STATE"].to_list()
    found = asked(
        connection,
        "SELECT min(APPTDATE_STATE) FROM lake.hes_op WHERE record_ordinal <= 1000 "
        "GROUP BY record_ordinal ORDER BY record_ordinal",
    )
    assert [state for (state,) in found] == texts


def test_a_column_that_was_not_delivered_is_there_and_null(connection: duckdb.DuckDBPyConnection) -> None:
    assert {"ETHNOS", "REQDATE_STATE"} <= PLAN.null_columns
    assert asked(
        connection,
        "SELECT count(*), count(ETHNOS), count(*) FILTER (ETHNOS IS NULL), count(REQDATE_STATE) "
        "FROM lake.hes_op",
    ) == [(37_000, 0, 37_000, 0)], "the state of a column that was not delivered is null as well"
    assert asked(connection, "SELECT count(*) FROM lake.hes_op WHERE ETHNOS IS NOT NULL") == [(0,)]
    assert asked(connection, "SELECT ETHNOS, count(*) FROM lake.hes_op GROUP BY 1") == [(None, 37_000)]


def test_the_view_has_the_contracts_order(connection: duckdb.DuckDBPyConnection) -> None:
    every = [column.name for column in lake_columns(CONTRACT, [field.name for field in CONTRACT.fields])]
    names = [row[0] for row in asked(connection, "DESCRIBE lake.hes_op")]
    assert names == [name for name in every if name in names]
    assert set(names) == {column.name for column in PLAN.columns}


def test_a_table_is_replaced_as_a_whole(tmp_path: Path) -> None:
    with lake(tmp_path) as opened:
        commit(opened, "202199", 5_000)
        commit(opened, "202199", 20)
    with reading(tmp_path / "lake", KEY, memory_limit="200MB", temp_folder=tmp_path / "tmp") as opened:
        assert asked(opened, "SELECT count(*), max(record_ordinal) FROM lake.hes_op") == [(20, 20)]
