"""Landing: who sent it, digits of another script, periods that no agreement covers, and corrections that shrink.

Attacks 81 and 84 to 87 of the paper; what is wrong with a file as such is in ``tests/flow/test_bad_input.py``.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
import yaml

from infra import publish
from infra.lake import reading
from infra.landing import Landing
from infra.officers import Officers
from infra.receipts import Receipt
from infra.workspace import Workspace
from tests.flow.test_redelivery import put, rows, sha256
from tests.support.command_line import wardwatch
from tests.support.scenarios import change_settings
from tests.support.small_deliveries import Text, small
from tests.support.workspaces import Clock, Extracts, copy_workspace, keyring, tree

TONIGHT, TOMORROW = Clock().later(days=1), Clock().later(days=2)
JUNE = "HES_OP_202206"


@pytest.fixture
def june(plain_extracts: Extracts) -> Text:
    return small(plain_extracts.one(JUNE), 60)


def receipts(workspace: Workspace) -> list[Receipt]:
    officers = Officers.load(workspace.zone("keys"))
    return list(Landing(workspace.zone("landing"), keyring(workspace), officers, TONIGHT).held())


# 81: the sender ----------------------------------------------------------------------------------------


def test_who_a_sender_says_to_be_is_written_down_and_opens_nothing(
    empty_template: Workspace, june: Text, tmp_path: Path
) -> None:
    """Senders do not sign. Whatever they say of themselves, the same is asked of the file, and it is put on record."""
    good, bad = june.bytes(), june.with_column("SURNAME", "x").bytes()
    said = {"": None, "NHS England": "NHS England", "somebody else": "somebody else"}
    ids = set()
    for number, (name, kept) in enumerate(said.items()):
        workspace = copy_workspace(empty_template, tmp_path / str(number))
        options = ("--sender", name) if name else ()
        file = tmp_path / f"{number} {JUNE}.txt"
        file.write_bytes(bad)
        assert wardwatch(workspace.root, "land", file, *options).exit_code == 11, (
            "trusted senders have no rights"
        )
        other = tmp_path / f"{number} HES_APC_202206.txt"
        other.write_bytes(good)
        assert wardwatch(workspace.root, "land", other, *options).exit_code != 0, (
            "another dataset than it says"
        )
        file.write_bytes(good)
        assert wardwatch(workspace.root, "land", file, *options).exit_code == 0
        (receipt,) = receipts(workspace)
        assert (receipt.sender or None) == kept
        ids.add(receipt.delivery_id)
    assert len(ids) == 1, "the delivery is what it holds, whoever sent it"


# 85: digits of another script ----------------------------------------------------------------------------


def fullwidth(text: str) -> str:
    return "".join(chr(ord(character) + 0xFEE0) if character.isdigit() else character for character in text)


@pytest.mark.usefixtures("nothing_computed")
def test_fullwidth_digits_are_no_number_no_date_and_no_other_record(
    finished_workspace: Workspace, june: Text
) -> None:
    """They pass for nothing: the date is unreadable and its record left out, the number is an invalid one, the key
    and the codes stay the text they are. And every record is accounted for."""
    places = {15: "APPTDATE", 20: "NEWNHSNO", 25: "ATTENDKEY", 30: "DIAG_01", 35: "PROCODE3"}
    text = june
    for ordinal, column in places.items():
        text = text.changed(ordinal, column, fullwidth(june.rows[ordinal - 1][june.at(column)]))
    put(finished_workspace, f"NIC359603_{JUNE}.txt", text.bytes())

    assert wardwatch(finished_workspace.root, "nightly", clock=TONIGHT).exit_code == 0

    row = rows(finished_workspace)[sha256(text.bytes())]
    assert (row.rows_in, row.rows_kept, row.rows_quarantined, row.rows_vaulted) == (60, 59, 1, 59)
    with reading(
        finished_workspace.zone("lake"),
        keyring(finished_workspace).lake_metadata_key,
        memory_limit="200MB",
        temp_folder=finished_workspace.zone("tmp"),
    ) as connection:
        quarantined = connection.execute(
            "SELECT record_ordinal, rule_id FROM lake.quarantine WHERE delivery_id = $id",
            {"id": row.delivery_id},
        ).fetchall()
        kept = connection.execute(
            "SELECT count(*), count(DISTINCT attendkey), count(apptdate) FROM lake.hes_op WHERE delivery_id = $id",
            {"id": row.delivery_id},
        ).fetchone()
    assert quarantined == [(15, "HES_OP.R04")]
    assert kept == (59, 59, 59)


# 86: the agreement and the period of the data ------------------------------------------------------------


@pytest.mark.parametrize(
    ("data_from", "data_until", "code"),
    [
        ("", "", 0),
        ("2022-04-01", "2023-03-31", 0),
        ("2023-04-01", "2024-03-31", 10),
        ("2009-04-01", "2022-03-31", 10),
        ("2022-05-01", "", 10),
    ],
    ids=["no period said", "just that year", "later years", "earlier years", "a part of the year"],
)
def test_data_of_a_period_that_the_agreement_does_not_cover_are_not_landed(
    empty_workspace: Workspace, june: Text, tmp_path: Path, data_from: str, data_until: str, code: int
) -> None:
    settings = yaml.safe_load((empty_workspace.root / "settings.yaml").read_text(encoding="utf-8"))
    agreement = {**settings["agreement"], "data_from": data_from, "data_until": data_until}
    change_settings(empty_workspace, agreement=agreement)
    file = tmp_path / f"{JUNE}.txt"
    file.write_bytes(june.bytes())

    ran = wardwatch(empty_workspace.root, "land", file)

    assert ran.exit_code == code, ran.said
    landed = [path for path in tree(empty_workspace.zone("landing")) if "refused" not in path.parts]
    assert bool(landed) == (code == 0)
    if code:
        assert "a period that the data sharing agreement of this workspace does not cover" in ran.error


# 87: a correction that shrinks what was there -------------------------------------------------------------


def stays(workspace: Workspace) -> int:
    """Of the published run that readers see: denominators of a death rate in the year of the delivery, added up."""
    folder = publish.current(workspace.zone("published"))
    assert folder is not None
    return stays_in(folder / publish.DATABASE)


def stays_in(database: Path) -> int:
    with duckdb.connect(str(database), read_only=True) as connection:
        (found,) = connection.execute(
            "select sum(denominator) from indicator_value where indicator = 'crude_death_rate' "
            "and stratum = 'all' and period like '2022%'"
        ).fetchall()
    return int(found[0])


def test_a_correction_that_shrinks_a_delivery_restates_the_number_and_keeps_the_old_one(
    finished_workspace: Workspace, plain_extracts: Extracts, tmp_path: Path
) -> None:
    workspace = finished_workspace
    extract = plain_extracts.one("HES_APC_202206")
    header, *records = extract.read_text(encoding="utf-8").splitlines(keepends=True)
    shrunk = (header + "".join(records[: 2 * len(records) // 3])).encode()
    before = stays(workspace)
    old_run = publish.current_run(workspace.zone("published"))
    old_database = workspace.zone("published") / str(old_run) / publish.DATABASE
    held = rows(workspace)[sha256(extract.read_bytes())]
    file = tmp_path / extract.name
    file.write_bytes(shrunk)
    options = ("--replaces", held.content_sha256, "--reason", "the supplier took records back")
    assert wardwatch(workspace.root, "land", file, *options, clock=TONIGHT).exit_code == 0

    assert wardwatch(workspace.root, "nightly", clock=TOMORROW).exit_code == 0

    now = rows(workspace)
    assert (now[held.content_sha256].status, now[sha256(shrunk)].status) == ("superseded", "current")
    after = stays(workspace)
    assert 0 < after < before, "the number is restated from what the correction holds"
    assert stays_in(old_database) == before, "what was published before stays as it was"
    with duckdb.connect(
        str(workspace.zone("published") / "current" / publish.DATABASE), read_only=True
    ) as connection:
        said = connection.execute(
            "select rule from rule_result where delivery = ? and rule like '%VOLUME%' and verdict <> 'met'",
            [now[sha256(shrunk)].delivery_id],
        ).fetchall()
    assert said, "the loss of a third of the records is one of the rules that did not hold"


# 84: an NHS number in a field for something else ------------------------------------------------------------

NUMBER = "9990000018"
GROUPED = f"{NUMBER[:3]} {NUMBER[3:6]} {NUMBER[6:]}"


def test_a_record_with_an_nhs_number_in_a_code_is_left_out_and_only_counted(
    finished_workspace: Workspace, june: Text
) -> None:
    workspace = finished_workspace
    places = {
        10: ("DIAG_01", NUMBER),
        20: ("SITETRET", f"see {GROUPED}"),
        30: ("PROCODET", fullwidth(NUMBER)),
        40: ("OPERTN_02", f"x{GROUPED.replace(' ', '-')}"),
    }
    text = june.changed(50, "DIAG_01", "1234567890").changed(55, "DIAG_02", "M0512345679")  # no such number
    for ordinal, (column, value) in places.items():
        text = text.changed(ordinal, column, value)
    put(workspace, f"NIC359603_{JUNE}.txt", text.bytes())

    ran = wardwatch(workspace.root, "nightly", clock=TONIGHT)

    assert ran.exit_code == 0, ran.err
    row = rows(workspace)[sha256(text.bytes())]
    assert (row.rows_in, row.rows_kept, row.rows_quarantined) == (60, 56, 4)
    with reading(
        workspace.zone("lake"),
        keyring(workspace).lake_metadata_key,
        memory_limit="200MB",
        temp_folder=workspace.zone("tmp"),
    ) as connection:
        left_out = connection.execute(
            "SELECT record_ordinal, rule_id FROM lake.quarantine WHERE delivery_id = $id ORDER BY 1",
            {"id": row.delivery_id},
        ).fetchall()
        kept = connection.execute(
            "SELECT * FROM lake.hes_op WHERE delivery_id = $id", {"id": row.delivery_id}
        ).fetchall()
    assert left_out == [(ordinal, "HES_OP.TEXT.no_nhs_number") for ordinal in places]
    assert len(kept) == 56
    looked_at = str(kept) + ran.said
    assert not [value for _, value in places.values() if value in looked_at]
