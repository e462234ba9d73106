"""The hospital list: which numbers are in it, as what, and how it travels."""

from __future__ import annotations

import csv
import io
import random
import zipfile
from datetime import date
from typing import Any

import polars as pl
import pytest

from infra.naming import parse_name
from infra.review.cohort import SCHEMA, Cohort
from infra.review.hospital_list import (
    OPENED_SCHEMA,
    Heading,
    HospitalList,
    archive,
    check_content,
    choose,
    csv_member,
    read_archive,
    reason_to_leave_out,
    record_name,
    system_random,
    text_member,
)
from schemas.errors import CannotOpen, IntegrityError
from schemas.review_policy import review_policy

PLACEHOLDERS = review_policy().placeholders
BUCKET = review_policy().limit("size_bucket_bytes")
HEADING = Heading("bcdfghjkmnpq", "RXX", date(2026, 11, 22), 1)


def nhs_number(first: str) -> str:
    """Nine digits and their check digit."""
    rest = sum(int(digit) * weight for digit, weight in zip(first, range(10, 1, -1), strict=True)) % 11
    assert (11 - rest) % 11 < 10, "choose other digits"
    return first + str((11 - rest) % 11)


def chosen(*records: tuple[str, str | None], held: Any = None, seed: int = 1) -> HospitalList:
    """``records``: (patient, number), one a day from 1 March on. ``held``: the places of those that the vault holds
    for the recipient; all of them by default."""
    places = range(len(records)) if held is None else held
    cohort = Cohort(
        pl.DataFrame(
            [("d", f"k{n}", patient, date(2026, 3, n + 1)) for n, (patient, _) in enumerate(records)],
            schema=SCHEMA,
            orient="row",
        )
    )
    opened = pl.DataFrame(
        [("d", f" k{n} ", records[n][1]) for n in places], schema=OPENED_SCHEMA, orient="row"
    )
    return choose(cohort, opened, PLACEHOLDERS, random.Random(seed))


# Which numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    [
        "H123456",
        "0012345",
        "00000000000000000012",
        "ABCDEFGHIJKLMNOPQRST",
        "a-1/7",
        "12 34",
        "=1+1",
        "99998",
        "7",
    ],
)
def test_a_number_is_kept_exactly_as_the_hospital_wrote_it(number: str) -> None:
    """Attack 64: text, with its leading zeros, its letters and its twenty characters."""
    assert chosen(("p", f"  {number}\t")).numbers == (number,), "the padding of the field goes, nothing else"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (None, "no_number"),
        ("", "no_number"),
        ("   ", "no_number"),
        ("0", "placeholder"),
        ("00000000", "placeholder"),
        ("9999", "placeholder"),
        ("999-999", "placeholder"),
        ("XXXX", "placeholder"),
        ("-", "placeholder"),
        ("unknown", "placeholder"),
        ("N/A", "placeholder"),
        ("12\n34", "not_printable"),
        ("12\x0034", "not_printable"),
        (nhs_number("999000012"), "looks_like_nhs_number"),
        (
            f"{nhs_number('999000012')[:3]} {nhs_number('999000012')[3:6]} {nhs_number('999000012')[6:]}",
            "looks_like_nhs_number",
        ),
        ("ZZ99 3AB", "looks_like_postcode"),
        ("19500131", "looks_like_date"),
        ("31/01/1950", "looks_like_date"),
    ],
)
def test_what_is_no_number_or_another_item_is_left_out_and_counted(number: str | None, reason: str) -> None:
    """Attacks 64 and 65: an NHS number in the field is counted and not let out."""
    assert reason_to_leave_out((number or "").strip(" \t"), PLACEHOLDERS) == reason
    found = chosen(("p", number), ("q", "H1"))
    assert found.numbers == ("H1",)
    assert found.left_out == {reason: 1}


def test_a_number_that_another_organisation_issued_is_left_out_and_counted() -> None:
    """Attack 62: the opened parts are the recipient's own; what is not among them is not the recipient's."""
    found = chosen(("p", "H1"), ("q", "H2"), ("r", "H3"), held=[0, 2])
    assert sorted(found.numbers) == ["H1", "H3"]
    assert found.left_out == {"issued_elsewhere": 1}


def test_a_record_of_another_delivery_does_not_lend_its_number() -> None:
    """Attack 63: the same key in another delivery is another record."""
    cohort = Cohort(pl.DataFrame([("d", "k", "p", date(2026, 3, 1))], schema=SCHEMA, orient="row"))
    opened = pl.DataFrame([("other", "k", "H1")], schema=OPENED_SCHEMA, orient="row")
    assert choose(cohort, opened, PLACEHOLDERS, system_random()).numbers == ()


def test_a_patient_is_listed_once_with_the_latest_usable_number() -> None:
    """Attack 69."""
    found = chosen(("p", "OLD1"), ("p", "NEW2"), ("p", "0000"), ("q", "H3"))
    assert sorted(found.numbers) == ["H3", "NEW2"]
    assert found.left_out == {"patient_listed_already": 1, "placeholder": 1}


def test_a_number_that_two_patients_have_is_listed_once() -> None:
    """Attack 69."""
    found = chosen(("p", "H1"), ("q", "H1"))
    assert found.numbers == ("H1",)
    assert found.left_out == {"number_listed_already": 1}


def test_the_order_says_nothing() -> None:
    """Attack 70: it is the order of the generator, whatever the order of the records."""
    records = [(f"p{n}", f"H{n:04d}") for n in range(28)]
    assert chosen(*records, seed=1).numbers != chosen(*records, seed=2).numbers
    assert sorted(chosen(*records, seed=1).numbers) == [number for _, number in records]
    assert isinstance(system_random(), random.SystemRandom), "in production it is the system's generator"


# As what --------------------------------------------------------------------------------------------------


DANGEROUS = ["=cmd()", "+1", "-1", "@x", '"=1+1', "'=1+1", "\ufeff=1+1", "\u00a0=1", ";=1", "|calc", "%0A"]
CHANGED = ["0012", "12345678901234567890", "MAR12", "1E5", "TRUE", "1-2", "1/2", "12.50"]


@pytest.mark.parametrize("number", DANGEROUS + CHANGED)
def test_a_spreadsheet_neither_computes_nor_changes_a_number(number: str) -> None:
    """Attack 66: what it might touch has an apostrophe in front; the text file has it as it is."""
    (row,) = list(csv.reader(io.StringIO(csv_member(HEADING, (number,)))))[-1:]
    assert row == [f"'{number}"]
    assert text_member(HEADING, (number,)).endswith(f"\n\n{number}\n")
    assert read_archive(archive(HEADING, (number,), BUCKET)).numbers == (number,)


@pytest.mark.parametrize("number", ["1234567", "123456789012345", "H123456", "AB1"])
def test_a_plain_number_is_written_plainly(number: str) -> None:
    (row,) = list(csv.reader(io.StringIO(csv_member(HEADING, (number,)))))[-1:]
    assert row == [number]


def test_the_heading_says_what_it_is_and_for_whom() -> None:
    heading = read_archive(archive(HEADING, ("H1", "H2"), BUCKET)).heading
    assert heading[:6] == (
        "OFFICIAL SENSITIVE",
        "Case review hospital numbers",
        "Case: bcdfghjkmnpq",
        "For: RXX",
        "Date: 2026-11-22",
        "Numbers: 2",
    )


def test_every_name_follows_the_record_naming_rule_and_is_marked() -> None:
    """Attack 68."""
    assert record_name(HEADING, "age") == (
        "20261122 RXX Case review hospital numbers v1 OFFICIAL SENSITIVE.age"
    )
    with zipfile.ZipFile(io.BytesIO(archive(HEADING, ("H1",), BUCKET))) as found:
        names = [name for name in found.namelist() if name != "filling"]
    assert len(names) == 2
    assert {parse_name(name).marking for name in names} == {"OFFICIAL SENSITIVE"}


def test_the_size_does_not_tell_the_count() -> None:
    """Attack 95: from one number to five hundred of twenty characters it is the same."""
    longest = tuple(f"=ABCDEFGHIJKLMNOP{n:03d}" for n in range(500))
    assert {len(archive(HEADING, longest[:count], BUCKET)) for count in (1, 2, 37, 100, 500)} == {BUCKET}


# The last look --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [nhs_number("999000012"), "ZZ99 3AB", "31/01/1950", "", "0000"])
def test_the_last_look_stops_a_list_with_another_item_in_it(bad: str) -> None:
    """However it came in there."""
    with pytest.raises(IntegrityError):
        check_content(HEADING, HospitalList(("H1", bad), {}), PLACEHOLDERS)


def test_the_last_look_stops_a_number_that_is_there_twice() -> None:
    with pytest.raises(IntegrityError):
        check_content(HEADING, HospitalList(("H1", "H1"), {}), PLACEHOLDERS)


def test_a_clean_list_passes_the_last_look() -> None:
    numbers = ("H1", "0012", "=1+1")
    check_content(HEADING, HospitalList(numbers, {}), PLACEHOLDERS)
    assert read_archive(archive(HEADING, numbers, BUCKET)).numbers == numbers


# At the other end -----------------------------------------------------------------------------------------


def zipped(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as found:
        for name, member in members.items():
            found.writestr(name, member)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        zipped(a=b"x"),
        zipped(**{"a.txt": b"\xff", "b": b"", "c": b""}),
        zipped(**{"a.txt": b"no heading", "b": b"", "c": b""}),
        zipped(**{"a.txt": b"Case: x\nFor: y\nNumbers: 2\n\nH1\n", "b": b"", "c": b""}),
    ],
    ids=["nothing", "text", "one member", "no UTF-8", "no heading", "another count"],
)
def test_what_is_no_list_is_refused_by_the_hospitals_side(content: bytes) -> None:
    with pytest.raises(CannotOpen):
        read_archive(content)


def test_printing_a_list_shows_no_number() -> None:
    found = chosen(("p", "H1234567"))
    opened = read_archive(archive(HEADING, found.numbers, BUCKET))
    assert "H1234567" not in f"{found!r} {opened!r}"
