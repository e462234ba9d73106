"""The provider reference is read strictly, and an old code stands for the organisation that took over."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from infra.provider_reference import PROVIDERS_FILE, workspace_reference
from infra.synthetic.hospitals import make_hospitals
from schemas.errors import ContractDefinitionError
from schemas.provider_reference import ProviderReference, parse_reference

MERGED = """\
code,name,type,sites,successor,valid_from,valid_to
RAA,First trust,acute,RAA01 RAA02,RBB,2000-04-01,2019-09-30
RBB,Second trust,acute,RBB01,RCC,2000-04-01,2021-03-31
RCC,Third trust,acute,RCC01,,2021-04-01,
RDD,Heart hospital,acute specialist,,,,
"""


def read(text: str) -> ProviderReference:
    return parse_reference(text, "providers.csv")


def refusal(text: str) -> str:
    with pytest.raises(ContractDefinitionError) as refused:
        read(text)
    return refused.value.message


def test_a_merged_code_stands_for_its_successor_from_the_day_after_its_last() -> None:
    reference = read(MERGED)
    on = {day: reference.resolve("RAA", date.fromisoformat(day)) for day in
          ("2019-09-30", "2019-10-01", "2021-03-31", "2021-04-01")}  # fmt: skip
    assert [provider.code if provider else None for provider in on.values()] == ["RAA", "RBB", "RBB", "RCC"]


def test_a_code_that_is_not_listed_stands_for_nobody() -> None:
    assert read(MERGED).resolve("RZZ", date(2020, 1, 1)) is None


def test_the_kind_is_that_of_the_successor() -> None:
    rows = read(MERGED.replace("Third trust,acute", "Third trust,community")).resolved(date(2022, 1, 1))
    assert rows.select("code", "resolved_code", "type").rows() == [
        ("RAA", "RCC", "community"), ("RBB", "RCC", "community"), ("RCC", "RCC", "community"),
        ("RDD", "RDD", "acute specialist"),
    ]  # fmt: skip


def test_sites_belong_to_their_provider() -> None:
    assert read(MERGED).sites().rows() == [
        ("RAA01", "RAA"), ("RAA02", "RAA"), ("RBB01", "RBB"), ("RCC01", "RCC"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("code,name\nRAA,First", "there is no column type"),
        ("", "there is no column code"),
        ("code,name,type,colour\nRAA,First,acute,red", "a column is twice or unknown"),
        ("code,name,type,type\nRAA,First,acute,acute", "a column is twice or unknown"),
        ("code,name,type\nRAA,First,acute,more", "line 2 has 4 fields, the header 3"),
        ("code,name,type\nRAA,First,hospital", "line 2: type"),
        ("code,name,type\nraa,First,acute", "line 2: code"),
        ("code,name,type\nRAA,,acute", "line 2: name"),
        ('code,name,type\nRAA,"First,acute', "is no readable CSV"),
        ("code,name,type\nRAA,First,acute\nRAA,Again,acute", "a code is listed twice"),
        ("code,name,type,sites\nRAA,A,acute,S01\nRBB,B,acute,S01", "a site is listed at two providers"),
        ("code,name,type,valid_to\nRAA,First,acute,2019-02-30", "line 2: valid_to"),
        ("code,name,type,successor\nRAA,First,acute,RBB", "a successor needs valid_to"),
        ("code,name,type,successor,valid_to\nRAA,A,acute,RBB,2019-03-31", "a successor is not listed itself"),
        (
            "code,name,type,successor,valid_to\nRAA,A,acute,RBB,2019-03-31\nRBB,B,acute,RAA,2020-03-31",
            "successors run in a circle",
        ),
    ],
)
def test_what_does_not_fit_is_refused(text: str, says: str) -> None:
    assert says in refusal(text)


def test_a_refusal_shows_nothing_of_the_file() -> None:
    assert "SECRET" not in refusal("code,name,type\nRAA,First,SECRET")


def test_a_workspace_without_the_file_has_no_reference(tmp_path: Path) -> None:
    assert workspace_reference(tmp_path) is None


def test_a_spreadsheet_may_have_put_a_mark_at_the_beginning(tmp_path: Path) -> None:
    (tmp_path / PROVIDERS_FILE).write_text(MERGED, encoding="utf-8-sig")
    reference = workspace_reference(tmp_path)
    assert reference is not None
    assert len(reference.providers) == 4


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / PROVIDERS_FILE).write_bytes("code,name,type\nRAA,Trést,acute".encode("latin-1"))
    with pytest.raises(ContractDefinitionError, match="cannot be read as UTF-8"):
        workspace_reference(tmp_path)


def test_the_reference_of_the_synthetic_world_is_a_reference() -> None:
    hospitals = make_hospitals(8, 1)
    lines = ["code,name,type", *(",".join(row.values()) for row in hospitals.reference())]
    rows = read("\n".join(lines)).resolved(date(2023, 3, 31))
    assert rows["code"].to_list() == sorted(hospitals.codes)
    assert rows["type"].unique().to_list() == ["acute"], "a hospital of the synthetic world is not acute"


def test_what_is_written_is_read_as_the_same_reference() -> None:
    reference = read(MERGED.replace("Second trust", '"Second, ""third"" trust"'))
    assert read(reference.to_csv()) == reference


def test_the_steps_of_a_chain_are_listed_with_the_first_day_of_each() -> None:
    assert read(MERGED).successions().rows() == [
        ("RAA", "RBB", date(2019, 10, 1)), ("RBB", "RCC", date(2021, 4, 1)),
    ]  # fmt: skip
    endless = read(MERGED.replace("2019-09-30", "9999-12-31")).successions()
    assert endless["predecessor"].to_list() == ["RBB"], "the last of all days has none after it"
