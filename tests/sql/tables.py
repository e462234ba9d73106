"""Small input tables for tests: what the compute connection would see, written short.

A test names persons (``anna``) instead of tokens, leaves out columns that do not matter to it (they take
:data:`USUAL`), and leaves a cell empty for null.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import duckdb
import polars as pl

from infra.aggregate_charts import build_aggregate_charts
from infra.compute import add_death_link, build_core, build_outcomes, spells_for_linkage
from infra.cusum_charts import build_cusum_charts
from infra.mortality import build_mortality

Row = Mapping[str, Any]

STAY_DATES = ("ADMIDATE", "DISDATE", "EPISTART", "EPIEND")
DATES = (*STAY_DATES, *(f"OPDATE_{n:02d}" for n in range(1, 25)))
WHOLE_NUMBERS = (
    "EPIORDER", "STARTAGE", "NUMPREG", "MATAGE", "NEODUR",
    *(f"{name}_{n}" for name in ("BIRWEIT", "GESTAT") for n in range(1, 10)),
)  # fmt: skip
TEXTS = (
    "EPIKEY", "FYEAR", "PARTYEAR", "ADMIMETH", "ADMISORC", "DISDEST", "DISMETH", "EPISTAT", "EPITYPE",
    "CLASSPAT", "SPELBGIN", "SPELEND", "SEX", "PROCODE3", "PROCODE5", "PROCODET", "SITETRET", "DIAG_01",
    "DIAG_3_01", "MAINSPEF", "TRETSPEF", "NEOCARE", "ETHNOS", "IMD04_DECILE", "MATERNITY_EPISODE_TYPE", "NUMBABY",
    "DELMETH_D", "DELONSET", "mother_baby_token_of_mother", "mother_baby_token_of_baby",
    *(f"DIAG_{n:02d}" for n in range(2, 21)),
    *(f"DIAG_4_{n:02d}" for n in range(1, 21)),
    *(f"OPERTN_{n:02d}" for n in range(1, 25)),
    *(f"OPERTN_4_{n:02d}" for n in range(1, 25)),
    *(f"{name}_{n}" for name in ("BIRORDR", "BIRSTAT", "DELMETH") for n in range(1, 10)),
)  # fmt: skip
COLUMNS: dict[str, str] = {
    **dict.fromkeys(TEXTS, "VARCHAR"),
    **dict.fromkeys(DATES, "DATE"),
    **{f"{name}_STATE": "VARCHAR" for name in STAY_DATES},
    **dict.fromkeys(WHOLE_NUMBERS, "BIGINT"),
    "person_token": "VARCHAR",
    "delivery_id": "VARCHAR",
    "record_ordinal": "BIGINT",
}
# An ordinary, finished, single-episode record of one hospital; a test says only what differs.
USUAL: dict[str, Any] = {
    "PARTYEAR": "201999",
    "ADMIMETH": "11",
    "ADMISORC": "19",
    "DISDEST": "19",
    "DISMETH": "1",
    "EPISTAT": "3",
    "EPITYPE": "1",
    "CLASSPAT": "1",
    "EPIORDER": 1,
    "SEX": "2",
    "STARTAGE": 70,
    "PROCODET": "RXX",
    "SITETRET": "RXX01",
    "DIAG_01": "J189",
    "delivery_id": "hes_apc-201999-0123456789ab",
}


def token(person: str | None) -> str | None:
    """The token that stands for ``person``; a text of 32 hexadecimal characters, like the real ones."""
    return None if person is None else hashlib.md5(person.encode()).hexdigest()


def read_csv(text: str) -> list[dict[str, Any]]:
    """The rows of a small CSV; empty cells are None, spaces around cells are for the eye only."""
    rows = csv.DictReader(io.StringIO(text.strip()))
    return [{key.strip(): value.strip() or None for key, value in row.items()} for row in rows]


def typed_episode(row: Row, ordinal: int) -> dict[str, Any]:
    """A row of ``hes_apc`` from what a test wrote, with ``person`` turned into a token."""
    full: dict[str, Any] = {**dict.fromkeys(COLUMNS), **USUAL, "record_ordinal": ordinal}
    unknown = set(row) - set(COLUMNS) - {"person"}
    assert not unknown, f"hes_apc has no column {sorted(unknown)}"
    full.update({key: value for key, value in row.items() if key != "person"})
    if "person" in row:
        full["person_token"] = token(row["person"])
    for name in DATES:
        if isinstance(full[name], str):
            full[name] = date.fromisoformat(full[name])
    for name in (*WHOLE_NUMBERS, "record_ordinal"):
        if full[name] is not None:
            full[name] = int(full[name])
    return full


def create_hes_apc(connection: duckdb.DuckDBPyConnection, rows: Iterable[Row]) -> None:
    """The relation ``hes_apc`` from what a test wrote."""
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    connection.execute(f"create or replace table hes_apc ({columns})")
    typed = [typed_episode(row, ordinal) for ordinal, row in enumerate(rows, start=1)]
    if typed:
        polars_types = {"VARCHAR": pl.String, "DATE": pl.Date, "BIGINT": pl.Int64}
        frame = pl.DataFrame(typed, schema={name: polars_types[kind] for name, kind in COLUMNS.items()})
        connection.register("rows", frame)
        connection.execute("insert into hes_apc select * from rows")
        connection.unregister("rows")


def create_bridge(connection: duckdb.DuckDBPyConnection, rows: Iterable[Row]) -> None:
    """The relation ``hes_person_bridge`` from rows of ``old_person`` and ``person`` names."""
    connection.execute(
        "create or replace table hes_person_bridge (old_person_token VARCHAR, person_token VARCHAR)"
    )
    for row in rows:
        connection.execute(
            "insert into hes_person_bridge values (?, ?)", [token(row["old_person"]), token(row["person"])]
        )


def death_link(connection: duckdb.DuckDBPyConnection, deaths: Mapping[str, date]) -> pl.DataFrame:
    """What the linkage store would return for registered ``deaths`` (person name -> date), capped as it
    caps."""
    by_token = {token(person): day for person, day in deaths.items()}
    rows = [
        (
            spell["spell_id"],
            min(
                max(
                    (by_token[spell["person_token"]] - spell["discharge_date"]).days,
                    (spell["admission_date"] - spell["discharge_date"]).days - 1,
                ),
                31,
            ),
        )
        for spell in spells_for_linkage(connection).iter_rows(named=True)
        if spell["person_token"] in by_token
    ]
    return pl.DataFrame(rows, schema={"spell_id": pl.String, "days_to_death": pl.Int32}, orient="row")


def built(
    hes_apc: Iterable[Row], bridge: Iterable[Row] = (), deaths: Mapping[str, date] | None = None
) -> duckdb.DuckDBPyConnection:
    """A compute connection with everything built up to ``spell_outcome``."""
    connection = duckdb.connect(":memory:", config={"threads": "2", "python_enable_replacements": "false"})
    create_hes_apc(connection, hes_apc)
    create_bridge(connection, bridge)
    build_core(connection)
    add_death_link(connection, death_link(connection, deaths or {}))
    build_outcomes(connection)
    build_mortality(connection)
    build_cusum_charts(connection)
    build_aggregate_charts(connection)
    return connection


def as_text(value: Any) -> str:
    """A value as a golden file writes it: nothing for null, ``true``/``false``, ISO dates."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
