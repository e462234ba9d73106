"""The scanner lets ordinary reasons pass and names, never repeats, what looks like an identifier."""

from __future__ import annotations

import polars as pl
import pytest

from schemas.errors import IdentifierInText
from transforms.identifiers import (
    KINDS,
    looks_like_nhs_number,
    normalise,
    refuse_identifiers,
    scan_text,
    valid_nhs_number,
)

ORDINARY = [
    "",
    "Re-delivery of month 06 after the supplier's correction, RXX",
    "provider code RX1",
    "HES APC 201999",
    "HES_APC 2019-20, months 01 to 12",
    "hes_apc-201999-1f2e3d4c5b6a replaces hes_apc-201912-123456789012",
    "Backfill of 201804 to 201903: deprivation decile was missing for 105000 rows",
    "The volume fell by 12.5 % against 2018/19 (1,204,331 rows)",
    "Agreement DARS-NIC-359603-D2Q6M-v0.0 was renewed",
    "Rule HES_APC.R01 relaxed from 0.001 to 0.002",
    "SHMI diagnosis group 12, ICD-10 A41.9 and O85, 30 days after discharge",
    "RM1 2nd delivery, RX1 1st correction",
    "Site codes RXXA1 and A1B2C merged in April 2020",
    "Crude rate 0.99912 against 0.91",
    "DuckDB 1.5.5, wardwatch 0.1.0, sha256 checked",
    "0f" * 32 + " was landed twice",
    "Quarter 2019Q4 was late by 3 weeks; CQC asked for it in May 2026",
    "PARTYEAR 202301 to 202313",
    "three of 1 in 10 providers at 99.8 % limits",
]

# text -> the kinds that must be among those found
SUSPICIOUS = [
    ("patient 9434765919 complained", {"nhs_number"}),
    ("943 476 5919", {"nhs_number"}),
    ("943-476-5919", {"nhs_number"}),
    ("943.476.5919", {"nhs_number"}),
    ("9434765918 has a wrong check digit and is refused all the same", {"nhs_number"}),
    ("94 34 76 59 19", {"nhs_number"}),
    ("９４３４７６５９１９", {"nhs_number"}),
    ("943\u200b476\u200b5919", {"nhs_number"}),
    ("943\u00ad4765919", {"nhs_number"}),
    ("٩٤٣٤٧٦٥٩١٩", {"nhs_number"}),
    ("943\u2013476\u20135919", {"nhs_number"}),
    ("943\n476\n5919", {"nhs_number"}),
    ("lives at SW1A 1AA", {"postcode"}),
    ("sw1a1aa", {"postcode"}),
    ("M1 1AE", {"postcode"}),
    ("B1   1AA as HES pads it", {"postcode"}),
    ("ZZ99 3VZ", {"postcode"}),
    ("GIR 0AA", {"postcode"}),
    ("ЅW1A 1AA with a Cyrillic S", {"postcode"}),
    ("born 04/03/1950", {"full_date"}),
    ("born 4.3.1950", {"full_date"}),
    ("1950-03-04", {"full_date"}),
    ("1950-03-04T10:00:00Z", {"full_date"}),
    ("19500304", {"full_date", "long_number"}),
    ("04031950", {"full_date", "long_number"}),
    ("03/14/1950", {"full_date"}),
    ("died 4 March 1950", {"full_date"}),
    ("died on the 4th of March 1950", {"full_date"}),
    ("4-Mar-1950", {"full_date"}),
    ("March 4, 1950", {"full_date"}),
    ("04/03/50", {"full_date"}),
    ("write to someone@example.org", {"email"}),
    ("ring 020 7946 0000", {"phone"}),
    ("ring +44 20 7946 0000", {"phone"}),
    ("(0161) 496 0000", {"phone"}),
    ("1234567", {"long_number"}),
    ("key 123456789012345678", {"long_number"}),
    ("A123456", {"hospital_number"}),
    ("K1234567X was moved", {"hospital_number"}),
    ("patient number 12345", {"hospital_number"}),
    ("MRN: 004711", {"hospital_number"}),
    ("E01012345", {"hospital_number"}),
]


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_reason_passes(text: str) -> None:
    assert scan_text(text) == [], "an ordinary reason must not be refused"
    refuse_identifiers(text, "the reason")


@pytest.mark.parametrize(("text", "kinds"), SUSPICIOUS)
def test_what_looks_like_an_identifier_is_found_by_its_kind(text: str, kinds: set[str]) -> None:
    found = set(scan_text(text))
    assert kinds <= found, f"{kinds - found} not recognised"
    assert found <= set(KINDS)


@pytest.mark.parametrize(("text", "_kinds"), SUSPICIOUS)
def test_the_refusal_names_the_kind_and_repeats_nothing_of_the_text(text: str, _kinds: set[str]) -> None:
    with pytest.raises(IdentifierInText) as refused:
        refuse_identifiers(text, "the reason")
    words = [word for word in normalise(text).split() if any(c.isdigit() for c in word) or "@" in word]
    assert not [word for word in words if word in str(refused.value)], "the message repeats the text"
    assert "the reason" in str(refused.value)


def test_a_caller_may_ask_for_some_kinds_only() -> None:
    refuse_identifiers("run of 2026-11-22", "the run's name", kinds=("nhs_number",))
    with pytest.raises(IdentifierInText, match="full date"):
        refuse_identifiers("run of 2026-11-22", "the run's name", kinds=("full_date",))


@pytest.mark.parametrize(
    ("digits", "valid"),
    [
        ("9434765919", True),  # worked example of the NHS Data Dictionary's algorithm
        ("9434765918", False),
        ("4010232137", True),
        ("943476591", False),
        ("94347659199", False),
        ("943476591a", False),
        ("٩٤٣٤٧٦٥٩١٩", False),
        ("", False),
    ],
)
def test_the_check_digit_decides_what_is_a_valid_nhs_number(digits: str, valid: bool) -> None:
    assert valid_nhs_number(digits) is valid


def test_a_check_value_of_ten_is_never_valid() -> None:
    starts = [f"99900000{tens:01d}" for tens in range(10)]
    without = [start for start in starts if not any(valid_nhs_number(f"{start}{d}") for d in range(10))]
    assert len(without) == 1, "one start in eleven has no check digit at all"


def test_the_column_version_agrees_with_the_definition_and_is_never_null() -> None:
    values = {
        "9434765919": True,
        "943 476 5919": True,
        "943-476-5919": True,
        "see 9434765919.": True,
        "9434765918": False,
        "0000000000": False,
        "94347659190": False,
        "A41.9": False,
        "": False,
    }
    frame = pl.DataFrame({"text": [*values, None]}, schema={"text": pl.String})
    got = frame.select(looks_like_nhs_number(pl.col("text"))).to_series().to_list()
    assert got == [*values.values(), False]
