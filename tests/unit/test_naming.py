"""Record names follow the records policy and can be taken apart again."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.naming import RecordName, make_name, parse_name, record_types
from schemas.errors import UsageError


def test_the_example_of_the_policy() -> None:
    made = make_name(date(2015, 4, 1), "CQC Board", "Meeting minutes", 1, "OFFICIAL")
    assert made == "20150401 CQC Board Meeting minutes v1", "OFFICIAL needs no marking in the name"
    assert parse_name(made) == RecordName(
        date(2015, 4, 1), "CQC Board", "Meeting minutes", 1, "OFFICIAL", None
    )


def test_a_sensitive_record_says_so() -> None:
    made = make_name(date(2026, 11, 22), "RXX", "Case review hospital numbers")
    assert made == "20261122 RXX Case review hospital numbers v1 OFFICIAL SENSITIVE"
    assert parse_name(made).marking == "OFFICIAL SENSITIVE"


def test_the_dot_before_the_extension_is_the_only_one() -> None:
    made = make_name(date(2024, 3, 31), "Wardwatch", "indicator values", 1, "OFFICIAL SENSITIVE", "csv")
    assert made == "20240331 Wardwatch indicator values v1 OFFICIAL SENSITIVE.csv"
    assert parse_name(made).extension == "csv"


def test_a_record_without_a_version_is_named_without_one() -> None:
    made = make_name(date(2024, 3, 31), "Wardwatch", "deliveries", None, "OFFICIAL")
    assert made == "20240331 Wardwatch deliveries"
    assert parse_name(made).version is None


@pytest.mark.parametrize("character", list("><:\"*?\\/|~_+=,.;'^!)(&%£$#@-é\n\t"))
def test_forbidden_characters_are_refused(character: str) -> None:
    with pytest.raises(UsageError):
        make_name(date(2024, 3, 31), f"Ward{character}watch", "alerts")
    with pytest.raises(UsageError):
        parse_name(f"20240331 Ward{character}watch alerts v1")


@pytest.mark.parametrize("name", ["", " Wardwatch", "Wardwatch ", "Ward  watch"])
def test_components_are_separated_by_a_single_space(name: str) -> None:
    with pytest.raises(UsageError):
        make_name(date(2024, 3, 31), name, "alerts")


@pytest.mark.parametrize(
    "text",
    [
        "20241331 Wardwatch alerts v1",
        "2024033 Wardwatch alerts v1",
        "20240331  Wardwatch alerts v1",
        "20240331 Wardwatch alerts v0",
        "20240331 alerts v1",
        "20240331 Wardwatch gossip v1",
        "20240331 Wardwatch alerts v1 OFFICIAL SENSITIVE.tar.gz",
        "20240331 Wardwatch alerts v1.",
        "case_list.csv",
        "",
    ],
)
def test_a_name_that_breaks_the_rule_is_not_taken_apart(text: str) -> None:
    with pytest.raises(UsageError):
        parse_name(text)


def test_a_name_that_could_be_read_in_two_ways_is_refused() -> None:
    # "Wardwatch indicator" + "values" would come back as "Wardwatch" + "indicator values"
    assert "report" in record_types()
    with pytest.raises(UsageError, match="told apart"):
        make_name(date(2024, 3, 31), "Wardwatch audit", "report")


def test_an_unknown_record_type_and_a_version_of_zero_are_refused() -> None:
    with pytest.raises(UsageError, match="not a record type"):
        make_name(date(2024, 3, 31), "Wardwatch", "gossip")
    with pytest.raises(UsageError, match="1 or more"):
        make_name(date(2024, 3, 31), "Wardwatch", "alerts", 0)


def longer_than(record_type: str) -> list[str]:
    return [words for words in record_types() if len(words) > len(record_type)]


words = st.lists(st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True), min_size=1, max_size=4).map(" ".join)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.dates(min_value=date(1900, 1, 1)),
    words,
    st.sampled_from(record_types()),
    st.one_of(st.none(), st.integers(1, 999)),
    st.sampled_from(["OFFICIAL", "OFFICIAL SENSITIVE"]),
    st.one_of(st.none(), st.sampled_from(["csv", "parquet", "html"])),
)
def test_every_name_that_is_made_comes_back_as_it_went_in(
    day: date,
    name: str,
    record_type: str,
    version: int | None,
    marking: str,
    extension: str | None,
) -> None:
    if any(f"{name} {record_type}".endswith(f" {longer}") for longer in longer_than(record_type)):
        with pytest.raises(UsageError, match="told apart"):
            make_name(day, name, record_type, version, marking, extension)  # type: ignore[arg-type]
        return
    made = make_name(day, name, record_type, version, marking, extension)  # type: ignore[arg-type]
    assert parse_name(made) == RecordName(day, name, record_type, version, marking, extension)  # type: ignore[arg-type]
    assert "_" not in made
    assert "  " not in made
