"""No identifiable value leaves its zone: a whole night with everything going wrong, and every byte searched after it.

Every identifiable value of the synthetic extracts is a canary (:mod:`infra.synthetic.canaries`): it is recognised by
its shape alone and occurs nowhere else. One child process runs the real commands with a real Prefect server of its
own, all logging at DEBUG, and what can go wrong: a refused file, a file with a name column, a broken delivery, a crash
in the middle of an ingest whose exception quotes a record, a backfill with an identifier in its reason. Then follow

* the sweep: what it printed and logged, the workspace with the orchestrator's database, its home folder, its folder of
  temporary files, byte for byte, encrypted zones included;
* the stores opened with their keys: each column of each table of the lake and of its catalog, what is published;
* the proof that the search can find: values planted in the same log, the same database, and the same output; and the
  vault, opened by both officers, which holds exactly the values that are to be nowhere else.
"""

from __future__ import annotations

import base64
import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyrage
import pytest

from infra import linkage, publish
from infra.keyring import PublicKeys
from infra.lake import CATALOG, CommittedDelivery, committed_deliveries, reading
from infra.officers import IDENTITY_FILE, load_identity
from infra.synthetic.canaries import canaries, is_canary, is_canary_date
from infra.vault import read_manifest
from infra.vault_opening import open_with_officers
from infra.workspace import Workspace
from tests.security.sweep import Canary, Report, Sweep
from tests.support.processes import PROJECT, child_environment
from tests.support.small_deliveries import Text, small
from tests.support.workspaces import (
    EVENING,
    FIRST_NIGHT,
    Extracts,
    copy_workspace,
    keyring,
    recipient,
    settle,
    tree,
)

# Planted on purpose, each in one place, to see that the search reaches it. Not of the extracts' ranges.
IN_THE_LOG, IN_THE_ERRORS, IN_A_PARAMETER = "WWPLANTED71LOG", "WWPLANTED72ERR", "WWPLANTED73PAR"
REASON = "the speciality codes were corrected by the supplier"
REFUSED_AT_INGEST = "NIC359603_HES_OP_202199.txt.age"
DATES = ("DOB", "MOTDOB", "DOBBABY_1", "DOBBABY_2", "DOBBABY_3", "DOD", "REG_DATE_OF_DEATH")
OUTSIDE = ("said", "home", "temporary")
FILE_KEY = "encryption_key"  # a column of the lake's catalog

# The commands of the child. The crash quotes a whole record, as engines do; every other line is the real code.
CHILD = """
import io, json, logging, os, sys, threading, traceback
from pathlib import Path
root, said, bad_reason, reason, in_log, in_errors, in_parameter = sys.argv[1:8]
logging.basicConfig(level=logging.DEBUG, filename=Path(said) / "child.log")
from flows.cli import main

codes, started = {}, threading.active_count()

def call(name, *arguments):
    sys.argv = ["wardwatch", "--workspace", root, *arguments]
    print(f"== {name}", flush=True)
    print(f"== {name}", file=sys.stderr, flush=True)
    codes[name] = 0
    try:
        main()
    except SystemExit as ended:
        codes[name] = ended.code or 0

import infra.ingest, infra.judge
from transforms.plan import ChunkPlan
genuine, judge = ChunkPlan.run, infra.judge.judge

def crash(self, frame, *rest, **more):
    logging.getLogger("wardwatch.child").debug("an error of the engine: %s", ValueError(str(frame.row(0))))
    try:
        int(str(frame.row(0)))
    except ValueError as error:
        raise KeyError(frame.row(1)) from error

def keeping(contract, profile):
    verdict = judge(contract, profile)
    with open(Path(said) / "great_expectations.jsonl", "a") as stream:
        stream.write(json.dumps(verdict.result, default=str) + "\\n")
    return verdict

infra.ingest.judge = keeping
ChunkPlan.run = crash
call("crash", "nightly")
ChunkPlan.run = genuine
call("night", "nightly")
call("bad reason", "backfill", "hes_op", "--from", "202004", "--to", "202103", "--reason", bad_reason)
call("backfill", "backfill", "hes_op", "--from", "202004", "--to", "202103", "--reason", reason)
call("status", "status")
call("nothing new", "nightly")
call("wrong query", "query", f"SELECT CAST('{bad_reason}' AS DATE)")
call("no such file", "land", str(Path(root) / "inbox" / "nothing_here.txt"))

# What shows that the search reaches these places.
logging.getLogger("wardwatch.child").debug("planted: %s", in_log)
try:
    raise RuntimeError(in_errors)
except RuntimeError:
    traceback.print_exc()
from prefect import flow

@flow(name="planted", log_prints=False, persist_result=False)
def planted(value: str) -> None:
    pass

planted(value=in_parameter)
(Path(said) / "codes.json").write_text(json.dumps(codes))
"""


@dataclass
class Night:
    """What the child left behind."""

    workspace: Workspace
    folder: Path
    plain: Extracts
    codes: dict[str, int]
    listed: list[Canary] = field(repr=False)
    find: Callable[[str], list[tuple[str, str]]] = field(repr=False)
    rows: list[CommittedDelivery]

    @property
    def current(self) -> list[CommittedDelivery]:
        return [row for row in self.rows if row.status == "current"]

    def said(self, name: str) -> str:
        return (self.folder / "said" / name).read_text(encoding="utf-8")


def plain_text(plain: Extracts, part: str) -> list[dict[str, str]]:
    with plain.one(part).open(encoding="utf-8", newline="") as stream:
        head = stream.readline()
        stream.seek(0)
        return list(csv.DictReader(stream, delimiter="|" if "|" in head else ","))


def iso(day: str) -> str:
    """A date as YYYY-MM-DD: the sweep makes every other spelling of it."""
    return f"{day[:4]}-{day[4:6]}-{day[6:]}" if len(day) == 8 and day.isdigit() else day


def listed_canaries(plain: Extracts) -> list[Canary]:
    """Every identifiable value in the files of the night, and every key of a record of patient care."""
    columns = (
        *(
            "NEWNHSNO",
            "LOPATID",
            "HOMEADD",
            "TOKEN_PERSON_ID",
            "ENCRYPTED_HESID",
            "EPIKEY",
            "ATTENDKEY",
            "RECORD_ID",
        ),
        *DATES,
    )
    found = {
        (column, iso(row[column]) if column in DATES else row[column])
        for part in FIRST_NIGHT
        for row in plain_text(plain, part)
        for column in columns
        if len(row.get(column) or "") >= 6
    }
    return [Canary(kind, value) for kind, value in sorted(found)]


def seal(workspace: Workspace, content: bytes) -> bytes:
    sealed: bytes = pyrage.encrypt(content, [pyrage.x25519.Recipient.from_str(recipient(workspace))])
    return sealed


def broken_delivery(text: Text) -> bytes:
    """One record in ten cannot be divided into fields."""
    lines = text.bytes().split(b"\n")
    for number in range(5, len(lines), 10):
        lines[number] += b",more"
    return b"\n".join(lines)


@pytest.fixture(scope="module")
def ran(
    empty_template: Workspace,
    extracts: Extracts,
    plain_extracts: Extracts,
    shared_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Night:
    folder = tmp_path_factory.mktemp("canaries")
    workspace = copy_workspace(empty_template, folder / "workspace")
    for name in OUTSIDE:
        (folder / name).mkdir()
    inbox = workspace.zone("inbox")
    for path in extracts.named(*FIRST_NIGHT):
        (inbox / path.name).write_bytes(path.read_bytes())
    apc, op = small(plain_extracts.one("HES_APC_202199")), small(plain_extracts.one("HES_OP_202199"), 100)
    for name, content in {
        "NIC359603_HES_APC_202199.txt.age": apc.with_column("WARD_NOTES", "x").bytes(),
        "NIC359603_HES_APC_202299.txt.age": apc.with_column("PATIENT_SURNAME", "x").bytes(),
        REFUSED_AT_INGEST: broken_delivery(op),
    }.items():
        (inbox / name).write_bytes(seal(workspace, content))
    (inbox / "NIC359603_HES_OP_202299.txt.age").write_bytes(seal(workspace, op.bytes())[:-40])
    for path in inbox.iterdir():
        settle(path)

    listed = listed_canaries(plain_extracts)
    patient = next(canary.value for canary in listed if canary.kind == "NEWNHSNO")
    with (folder / "said" / "out.txt").open("wb") as out, (folder / "said" / "err.txt").open("wb") as err:
        subprocess.run(
            [
                *(sys.executable, "-c", CHILD, str(workspace.root), str(folder / "said")),
                *(f"wrong number for {patient}", REASON, IN_THE_LOG, IN_THE_ERRORS, IN_A_PARAMETER),
            ],
            cwd=PROJECT,
            env=child_environment(
                shared_folder,
                {
                    "HOME": str(folder / "home"),
                    "TMPDIR": str(folder / "temporary"),
                    "PREFECT_LOGGING_LEVEL": "DEBUG",
                    "PREFECT_LOGGING_SERVER_LEVEL": "DEBUG",
                    "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
                    "POLARS_VERBOSE": "1",
                    "PYTHONFAULTHANDLER": "1",
                },
            ),
            stdout=out,
            stderr=err,
            timeout=400,
            check=False,
        )
    codes_file = folder / "said" / "codes.json"
    assert codes_file.is_file(), (folder / "said" / "err.txt").read_text(encoding="utf-8")[-2000:]
    rows = committed_deliveries(
        workspace.zone("lake"), keyring(workspace).lake_metadata_key, workspace.zone("tmp")
    )
    return Night(
        workspace,
        folder,
        plain_extracts,
        json.loads(codes_file.read_text(encoding="utf-8")),
        listed,
        canaries(extracts.truth),
        rows,
    )


@pytest.fixture(scope="module")
def swept(ran: Night) -> Report:
    """Everything that exists after the night, searched for every value of the extracts, and for the planted ones."""
    planted = [Canary("planted", value) for value in (IN_THE_LOG, IN_THE_ERRORS, IN_A_PARAMETER)]
    search = Sweep([*ran.listed, *planted])
    for folder in (ran.workspace.root, *(ran.folder / name for name in OUTSIDE)):
        search.folder(folder)
    return search.report()


# The night went as it was meant to go wrong -----------------------------------------------------------------


def test_everything_went_wrong_that_was_meant_to(ran: Night) -> None:
    assert ran.codes == {
        "crash": 1,
        "night": 10,
        "bad reason": 21,
        "backfill": 0,
        "status": 0,
        "nothing new": 10,
        "wrong query": 2,
        "no such file": 2,
    }
    said, errors = ran.said("out.txt"), ran.said("err.txt")
    for code in (
        "delivery.refused",
        "delivery.forbidden_column",
        "delivery.damaged",
        "delivery.critical_rule",
    ):
        assert f"[{code}]" in said, code
    assert "[internal] internal error KeyError at " in errors, "the crash is told by type and place"
    assert {row.dataset for row in ran.current} >= {"hes_apc", "hes_op", "ons_deaths", "civil_deaths"}
    assert sum(row.rows_quarantined for row in ran.current) > 0
    assert ran.said("child.log").count("DEBUG") > 20, "logging was at DEBUG"
    assert len(ran.said("great_expectations.jsonl").splitlines()) >= len(FIRST_NIGHT)


def test_the_orchestrator_was_a_real_one(ran: Night) -> None:
    database = ran.workspace.zone("orchestrator") / "prefect.db"
    assert database.read_bytes().startswith(b"SQLite format 3")


# The sweep --------------------------------------------------------------------------------------------------


def test_no_identifiable_value_is_in_any_byte_that_was_written_or_said(ran: Night, swept: Report) -> None:
    assert len({canary.value for canary in ran.listed}) > 3_000, "there was too little to look for"
    found = [str(hit) for hit in swept.hits if hit.kind != "planted"]
    assert found == []
    assert swept.files > 150


def test_the_sweep_finds_what_was_planted_in_the_log_the_errors_and_the_orchestrator(swept: Report) -> None:
    places = {hit.where.split("!")[0] for hit in swept.hits if hit.kind == "planted"}
    assert {"said/child.log", "said/err.txt"} <= places
    assert "workspace/orchestrator/prefect.db" in {place.removesuffix("-wal") for place in places}


def test_only_the_encrypted_zones_could_not_be_opened(swept: Report) -> None:
    """Whatever else looks like a container was searched from inside."""
    zones = {tuple(where.split("/")[:2]) for where in swept.unopened}
    assert zones == {("workspace", "lake"), ("workspace", "linkage"), ("workspace", "vault")}


def test_nothing_is_left_in_the_folders_of_temporary_files(ran: Night) -> None:
    assert list(tree(ran.workspace.zone("tmp"))) == []
    assert list(tree(ran.folder / "temporary")) == []


def test_the_audit_log_and_the_incidents_say_what_happened(ran: Night) -> None:
    """Silence would be easy if nothing were written."""
    log = b"".join(path.read_bytes() for path in tree(ran.workspace.zone("audit")))
    for word in (b"delivery.critical_rule", b"delivery.forbidden_column", b"incident.raise", b"lake.write"):
        assert word in log, word


# The stores, opened with their keys -------------------------------------------------------------------------


def columns_with_canaries(ran: Night, frame: pl.DataFrame, table: str) -> list[str]:
    """Names of the columns that hold something of the shape of a canary: by their text, and dates by their day."""
    last = EVENING.date() - timedelta(days=365)  # our own time stamps are not of the extracts' years
    wrong = []
    for name in frame.columns:
        column = frame[name].drop_nulls().unique()
        if column.dtype == pl.Date:
            found: list[Any] = [day for day in column if is_canary_date(day) and day < last]
        else:
            if column.dtype.is_float():
                # The digits of a computed fraction are nobody's number; a whole number could be one.
                column = column.filter(column == column.round()).cast(pl.Int64)
            found = ran.find("\n".join(map(str, column.to_list())))
        if found:
            wrong.append(f"{table}.{name}: {len(found)}")
    return wrong


def lake_tables(ran: Night) -> Iterator[tuple[str, pl.DataFrame]]:
    """Every table of the lake, and every table of its catalog."""
    workspace = ran.workspace
    with reading(
        workspace.zone("lake"),
        keyring(workspace).lake_metadata_key,
        memory_limit="300MB",
        temp_folder=workspace.zone("tmp"),
    ) as connection:
        # The engine hides the catalog's own tables, so it is attached a second time, as the database that it is.
        catalog = str(workspace.zone("lake") / CATALOG)
        key = str.__str__(keyring(workspace).lake_metadata_key)
        connection.execute(f"ATTACH '{catalog}' AS catalog (ENCRYPTION_KEY '{key}', READ_ONLY)")
        tables = connection.execute(
            "SELECT database_name, schema_name, table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL"
        ).fetchall()
        for database, schema, table in tables:
            yield f"{database}.{table}", connection.execute(f'FROM "{database}"."{schema}"."{table}"').pl()


def test_no_column_of_the_lake_or_its_catalog_holds_an_identifiable_value(ran: Night) -> None:
    seen, wrong, records = set(), [], 0
    for name, frame in lake_tables(ran):
        seen.add(name)
        records += frame.height if name.startswith("lake.hes_") else 0
        if FILE_KEY in frame.columns:
            # Sixteen random bytes; by chance one key in a hundred thousand has the shape of a hospital's own number.
            keys = [key for key in frame[FILE_KEY] if key]
            assert {len(base64.b64decode(key, validate=True)) for key in keys} <= {16}, name
            frame = frame.drop(FILE_KEY)
        wrong += columns_with_canaries(ran, frame, name)
    assert wrong == []
    assert {"lake.hes_apc_fy2020", "lake.hes_apc_fy2022", "lake.hes_op_fy2020", "lake.quarantine"} <= seen
    assert "catalog.ducklake_file_column_stats" in seen, "the catalog's minima and maxima were read"
    assert records == sum(row.rows_kept for row in ran.current if row.table_name), (
        "every record was looked at"
    )


def test_nothing_that_is_published_holds_an_identifiable_value(ran: Night) -> None:
    folder = publish.current(ran.workspace.zone("published"))
    assert folder is not None
    wrong: list[str] = []
    with duckdb.connect(str(folder / publish.DATABASE), read_only=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        for table in tables:
            wrong += columns_with_canaries(ran, connection.execute(f'FROM "{table}"').pl(), table)
    kinds = {path.suffix for path in folder.iterdir()}
    for path in folder.glob("*.parquet"):
        wrong += columns_with_canaries(ran, pl.read_parquet(path), path.name)
    for path in (*folder.glob("*.csv"), *folder.glob("*.html")):
        wrong += [
            f"{path.name}: {kind}" for kind, _ in ran.find(path.read_text(encoding="utf-8")) if kind != "date"
        ]
    assert wrong == []
    assert len(tables) >= 9
    assert kinds == {".duckdb", ".parquet", ".csv", ".html"}


def test_the_linkage_store_holds_tokens_and_dates_of_death_and_nothing_else(ran: Night) -> None:
    key, root = keyring(ran.workspace).linkage_file_key, ran.workspace.zone("linkage")
    of = {row.dataset: row.delivery_id for row in ran.current}
    for dataset, column, part in (
        ("ons_deaths", "DOD", "ONS_DEATHS_20"),
        ("civil_deaths", "REG_DATE_OF_DEATH", "CIVIL_DEATHS"),
    ):
        frame = linkage.read_linkage(root, [of[dataset]], key)
        assert frame.columns == ["token", "date_of_death", "registered"]
        assert frame["token"].str.contains("^[0-9a-f]{32}$").all()
        delivered = sorted(iso(row[column]) for row in plain_text(ran.plain, part) if row[column])
        assert sorted(map(str, frame["date_of_death"].to_list())) == delivered
    pairs = linkage.read_pairs(root, [of["ons_deaths_bridge"]], key)
    assert not [value for column in pairs for value in column if is_canary(value)]


# What the search would have found ---------------------------------------------------------------------------


ITEMS = {
    "HES_APC_202099": ("NEWNHSNO", "LOPATID", "DOB", "HOMEADD", "MOTDOB"),
    "HES_APC_202206": ("NEWNHSNO", "LOPATID", "DOB", "HOMEADD", "MOTDOB"),
    "HES_OP_202099": ("NEWNHSNO", "LOPATID", "DOB", "HOMEADD"),
    "CIVIL_DEATHS": ("REG_DATE_OF_DEATH",),
    "ONS_DEATHS_20": ("DOD",),
}


@pytest.mark.parametrize("part", ITEMS, ids=str.lower)
def test_the_vault_holds_exactly_these_values_and_opens_to_both_officers(ran: Night, part: str) -> None:
    """So the search looked for the right things: what is in no other place is here, value for value."""
    digest = ran.plain.truth["files"][ran.plain.one(part).name]["plaintext_digest"]
    (row,) = [row for row in ran.current if row.content_sha256 == digest]
    folder = ran.workspace.zone("vault") / row.delivery_id
    signers = PublicKeys.load(ran.workspace.zone("keys")).signers()
    manifest = read_manifest(folder, signers)
    assert sum(entry["rows"] for entry in manifest["parts"]) == row.rows_vaulted
    planted = ran.plain.truth["files"][ran.plain.one(part).name]
    assert row.rows_vaulted == planted["rows"] - planted["broken_rows"], "every record but the broken ones"

    officers = [
        load_identity(ran.workspace.zone("officers") / role / IDENTITY_FILE)
        for role in ("caldicott_guardian", "siro")
    ]
    columns = [name for name in manifest["columns"] if name != "record_key"]
    opened = pl.concat(
        open_with_officers(folder, officers[0], officers[1], issuer, columns, signers)
        for issuer in sorted({entry["issuer"] for entry in manifest["parts"]})
    )
    known = set(ITEMS[part])
    assert known <= set(columns)
    delivered = {
        column: sorted(row[column] for row in whole_rows(ran.plain, part) if row[column]) for column in known
    }
    for column in known:
        held = sorted(value.strip() for value in opened[column].drop_nulls().to_list())
        assert held == [value.strip() for value in delivered[column]], column
        assert all(is_canary(value) for value in held if value not in UNKNOWN), (
            f"{column} is not made of canaries"
        )
    assert len(ran.find("\n".join(value for column in known for value in delivered[column]))) > 0


UNKNOWN = ("1800-01-01", "1801-01-01", "ZZ99 3WZ")


def whole_rows(plain: Extracts, part: str) -> list[dict[str, str]]:
    """The records of a plain extract without the planted broken ones."""
    if "HES" not in part:
        return plain_text(plain, part)
    text = small(plain.one(part), 1_000_000)
    return [dict(zip(text.header, row, strict=True)) for row in text.rows]
