"""The inbox: names say what a delivery is, and a file that is not whole waits."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from infra import inbox
from infra.inbox import Recognised, is_period, recognise, waiting
from schemas.errors import DeliveryConflict, DeliveryRefused, UsageError, WardwatchError

CANARY = "9990000018"
APC_HEADER = ["EPIKEY", "ENCRYPTED_HESID", "PARTYEAR", "ADMIDATE", "PROCODE3", "DIAG_01"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NIC349273_HES_APC_201799.txt", Recognised("hes_apc", "201799", "NIC349273")),
        ("NIC243790_HES_APC_201599.zip", Recognised("hes_apc", "201599", "NIC243790")),
        ("FILE0119465_NIC284866_HES_AE_201999.txt", Recognised("hes_ae", "201999", "NIC284866")),
        (
            "NIC377644_HES_APC_201999_APPROVED_51667_01010001_0.txt",
            Recognised("hes_apc", "201999", "NIC377644"),
        ),
        (
            "NIC377644_HES_OP_202006_APPROVED_51667_01010001_0.txt",
            Recognised("hes_op", "202006", "NIC377644"),
        ),
        ("20260320_nic709865_hes_apc_202510", Recognised("hes_apc", "202510", "NIC709865")),
        ("NIC-709865-hes-apc-202513.csv.age", Recognised("hes_apc", "202513", "NIC709865")),
        (
            "NIC359603_CIVIL_DEATHS_20240415.csv.age",
            Recognised("civil_deaths", "snapshot", "NIC359603", date(2024, 4, 15)),
        ),
        ("NIC359603_ONS_DEATHS_2019.txt", Recognised("ons_deaths", "snapshot", "NIC359603")),
        (
            "NIC359603_ONS_DEATHS_BRIDGE_20190401.txt",
            Recognised("ons_deaths_bridge", "snapshot", "NIC359603", date(2019, 4, 1)),
        ),
        ("X_HES_PERSON_BRIDGE_HES_APC.csv", Recognised("hes_person_bridge", "snapshot")),
        (
            "20260320_civil_deaths_20240415.csv",
            Recognised("civil_deaths", "snapshot", None, date(2024, 4, 15)),
        ),
        ("civil_deaths_20241399.csv", Recognised("civil_deaths", "snapshot")),
    ],
)
def test_names_as_senders_give_them_are_recognised(name: str, expected: Recognised) -> None:
    assert recognise(name) == expected


def test_an_agreement_number_is_not_taken_for_a_period() -> None:
    assert recognise("NIC_201912_HES_APC_202006.txt") == Recognised("hes_apc", "202006", "NIC201912")


def test_the_period_comes_from_partyear_where_the_name_has_none() -> None:
    name = "artificial_hes_apc_0102_truncated.csv"
    assert recognise(name, None, {"200199"}) == Recognised("hes_apc", "200199")
    assert recognise("FILE0184861_HES_APC_2019", None, {"201999", ""}) == Recognised("hes_apc", "201999")


def test_the_dataset_comes_from_the_header_where_the_name_has_none() -> None:
    assert recognise("extract_201999.txt", APC_HEADER).dataset == "hes_apc"


@pytest.mark.parametrize("submission", ["00", "14", "50", "98"])
def test_a_period_has_a_submission_01_to_13_or_99(submission: str) -> None:
    assert all(is_period(f"2019{month:02}") for month in (*range(1, 14), 99))
    assert not is_period(f"2019{submission}")
    with pytest.raises(DeliveryRefused, match="no submission"):
        recognise(f"HES_APC_2019{submission}.txt")
    with pytest.raises(UsageError):
        recognise("HES_APC.txt", period=f"2019{submission}")


def test_what_is_stated_settles_what_the_name_leaves_open() -> None:
    assert recognise("data.txt", dataset="hes_op", period="201999", sender="nic 359603") == Recognised(
        "hes_op", "201999", "NIC359603"
    )
    assert recognise("HES_APC_201999_202006.txt", period="202006").period == "202006"
    assert recognise("HES_APC.txt", None, {"201901", "201902"}, period="201902").period == "201902"
    assert recognise("CIVIL_DEATHS.csv", period="snapshot").period == "snapshot"


OPEN = {
    "no dataset": {"name": f"patient_{CANARY}_201999.txt"},
    "no dataset, a header that fits nothing": {"name": "x_201999.txt", "header": [CANARY, "b"]},
    "no period": {"name": "HES_APC.txt"},
    "no period and values that are none": {"name": "HES_APC.txt", "partyears": {CANARY, "2019"}},
    "two periods in the name": {"name": "HES_APC_201999_202006.txt"},
    "two periods in the column": {"name": "HES_APC.txt", "partyears": {"201999", "202099"}},
    "two datasets in the name": {"name": "HES_AE_HES_OP_201999.txt"},
}


@pytest.mark.parametrize("arguments", OPEN.values(), ids=OPEN.keys())
def test_what_stays_open_is_refused_with_the_way_out(arguments: dict[str, object]) -> None:
    with pytest.raises(DeliveryRefused, match="--dataset and --period") as caught:
        recognise(**arguments)  # type: ignore[arg-type]
    assert caught.value.code == "delivery.refused"
    assert CANARY not in str(caught.value)


CONTRADICTIONS = {
    "dataset and name": {"name": "HES_APC_201999.txt", "dataset": "hes_op"},
    "dataset and header": {"name": "x_201999.txt", "header": APC_HEADER, "dataset": "hes_op"},
    "period and name": {"name": "HES_APC_201999.txt", "period": "202006"},
    "name and PARTYEAR": {"name": f"HES_APC_201999_{CANARY}.txt", "partyears": {"201899"}},
    "period and PARTYEAR": {"name": "HES_APC.txt", "period": "201999", "partyears": {"201899"}},
    "sender and name": {"name": "NIC359603_HES_APC_201999.txt", "sender": "NIC000001"},
}


@pytest.mark.parametrize("arguments", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_a_contradiction_is_a_conflict_and_not_settled(arguments: dict[str, object]) -> None:
    with pytest.raises(DeliveryConflict) as caught:
        recognise(**arguments)  # type: ignore[arg-type]
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [{"dataset": "hes_xyz"}, {"dataset": "civil_deaths", "period": "201999"}, {"period": "2019"}],
)
def test_a_dataset_or_period_that_does_not_exist_is_a_wrong_call(arguments: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        recognise("HES_APC.txt" if "dataset" not in arguments else "x.txt", **arguments)  # type: ignore[arg-type]


def test_a_month_of_the_same_year_in_partyear_is_no_contradiction() -> None:
    """The monthly files are cumulative."""
    assert recognise("HES_APC_201906.txt", None, {"201904"}).period == "201906"


# what waits


def states(folder: Path, settled_before: datetime | None = None) -> dict[str, str]:
    return {entry.path.name: entry.state for entry in waiting(folder, settled_before)}


def test_whole_files_are_ready_and_come_by_name(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"12345")
    (tmp_path / "b.txt.ctl").write_text("bytes=5\nrecords=7\n")
    (tmp_path / "a.txt.age").write_bytes(b"x")
    (tmp_path / ".hidden").write_bytes(b"x")
    first, second = waiting(tmp_path)
    assert (first.path.name, first.state, first.control) == ("a.txt.age", inbox.READY, None)
    assert (second.path.name, second.state, second.control_path) == (
        "b.txt",
        inbox.READY,
        tmp_path / "b.txt.ctl",
    )
    assert second.control is not None
    assert second.control.records == 7


def test_a_file_that_is_not_whole_waits(tmp_path: Path) -> None:
    for name in ("a.txt.part", "b.csv.filepart", "c.TMP"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "d.txt").write_bytes(b"1234")
    (tmp_path / "d.ctl").write_text("bytes=5\n")
    (tmp_path / "e.ctl").write_text("bytes=5\n")
    (tmp_path / "f.txt").write_bytes(b"1234")
    (tmp_path / "f.ctl").write_text(f"patient={CANARY}\n")
    assert states(tmp_path) == {
        "a.txt.part": inbox.IN_TRANSFER,
        "b.csv.filepart": inbox.IN_TRANSFER,
        "c.TMP": inbox.IN_TRANSFER,
        "d.txt": inbox.SIZE_DIFFERS,
        "e.ctl": inbox.CONTROL_WITHOUT_DATA,
        "f.txt": inbox.CONTROL_UNREADABLE,
    }


def test_a_file_that_still_grows_waits_unless_its_control_file_says_it_is_whole(tmp_path: Path) -> None:
    now = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
    for name, age in (("old.txt", 600), ("new.txt", 5), ("stated.txt", 5)):
        (tmp_path / name).write_bytes(b"12345")
        os.utime(tmp_path / name, (now.timestamp() - age, now.timestamp() - age))
    (tmp_path / "stated.ctl").write_text("bytes=5\n")
    assert states(tmp_path, now - timedelta(seconds=60)) == {
        "old.txt": inbox.READY,
        "new.txt": inbox.STILL_ARRIVING,
        "stated.txt": inbox.READY,
    }


def test_links_folders_and_pipes_are_not_landed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link.txt").symlink_to("/etc/hostname")
    (tmp_path / "link.ctl").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe.txt")
    assert set(states(tmp_path).values()) == {inbox.NOT_A_FILE}
    assert len(states(tmp_path)) == 4


def test_an_entry_does_not_print_the_senders_text(tmp_path: Path) -> None:
    (tmp_path / f"patient {CANARY}.txt").write_bytes(b"x")
    assert CANARY not in repr(waiting(tmp_path))


def test_a_missing_inbox_is_a_typed_error_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(WardwatchError) as caught:
        waiting(tmp_path / f"nowhere {CANARY}")
    assert CANARY not in str(caught.value)
