"""Of an identifiable item the lake learns an age, a verdict, an area or a token, never the item."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.contract import Contract
from schemas.errors import ContractDefinitionError, KeyUnavailable
from transforms.derive import age_years, compile_derivations, derive
from transforms.tokens import MOTHER_BABY, person_tokens
from transforms.typing_fields import FieldTyping, type_chunk

KEY = bytes(range(32))
FIELDS = ("NEWNHSNO", "HOMEADD", "DOB", "MOTDOB", "DOBBABY_1", "DOD", "EPISTART", "PROCODET")


def contract(*derivations: dict[str, Any]) -> Contract:
    def item(name: str, kind: str, item: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "type": kind, "class": "identifiable", "item": item, **more}

    return Contract.model_validate(
        {
            "dataset": "births",
            "version": "1",
            "title": "Births of the test",
            "record_key": ("EPIKEY",),
            "issuer": ("PROCODET",),
            "period": {"kind": "YYYYnn"},
            "fields": [
                {"name": "EPIKEY", "type": "string", "class": "record_key"},
                item("NEWNHSNO", "string", "nhs_number", null_values=("-",)),
                item("HOMEADD", "string", "postcode"),
                item("DOB", "date", "date_of_birth", null_values=("1800-01-01",)),
                item("MOTDOB", "date", "mothers_date_of_birth"),
                item("DOBBABY_1", "date", "babys_date_of_birth"),
                item("DOD", "date", "date_of_death", formats=("%Y%m%d", "%Y-%m-%d", "%Y%m")),
                {"name": "EPISTART", "type": "date", "class": "administrative"},
                {"name": "PROCODET", "type": "code", "class": "organisation"},
            ],
            "derivations": [{"says": "a derivation of the test", **each} for each in derivations],
        }
    )


def one(function: str, args: tuple[str, ...], kind: str = "code") -> Contract:
    return contract({"name": "derived", "type": kind, "function": function, "args": args})


def derived(
    of: Contract, delivered: dict[str, list[str | None]], issuer: list[str | None] | None = None
) -> Any:
    chunk = pl.DataFrame({name: pl.Series(texts, dtype=pl.String) for name, texts in delivered.items()})
    typed = type_chunk(chunk, [FieldTyping(of.field(name)) for name in delivered])
    columns = compile_derivations(of, delivered)
    return derive(typed, columns, KEY, pl.Series(issuer, dtype=pl.String) if issuer is not None else None)


def column(
    of: Contract, delivered: dict[str, list[str | None]], issuer: list[str | None] | None = None
) -> Any:
    return derived(of, delivered, issuer)["derived"].to_list()


# age --------------------------------------------------------------------------------------------------


def test_age_counts_birthdays_that_have_passed() -> None:
    born = ["1980-06-15"] * 4
    event = ["2020-06-14", "2020-06-15", "2020-06-16", None]
    of = one("age_years", ("DOB", "EPISTART"), "integer")
    assert column(of, {"DOB": born, "EPISTART": event}) == [39, 40, 40, None]


def test_age_is_null_outside_0_to_120_and_for_a_sentinel() -> None:
    born = ["2020-06-16", "2020-06-15", "1900-06-15", "1899-06-15", "1800-01-01", "unknown"]
    of = one("age_years", ("DOB", "EPISTART"), "integer")
    found = column(of, {"DOB": born, "EPISTART": ["2020-06-15"] * 6})
    assert found == [None, 0, 120, None, None, None], (
        "born after the event, 121 years old, sentinel, unreadable"
    )


def test_who_was_born_on_29_february_turns_older_on_1_march() -> None:
    of = one("age_years", ("DOB", "EPISTART"), "integer")
    born, event = ["2000-02-29"] * 3, ["2021-02-28", "2021-03-01", "2020-02-29"]
    assert column(of, {"DOB": born, "EPISTART": event}) == [20, 21, 20]


@given(st.dates(date(1850, 1, 1), date(2100, 1, 1)), st.integers(-400, 60_000))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_age_agrees_with_counting_birthdays_one_by_one(birth: date, days: int) -> None:
    event = birth + timedelta(days=days)
    birthdays = sum(
        (year, birth.month, birth.day) <= (event.year, event.month, event.day)
        for year in range(birth.year + 1, event.year + 1)
    )
    expected = birthdays if event >= birth and birthdays <= 120 else None
    frame = pl.DataFrame({"birth": [birth], "event": [event]})
    assert frame.select(age=age_years(pl.col("birth"), pl.col("event")))["age"].to_list() == [expected]


# NHS number and postcode ------------------------------------------------------------------------------


def test_the_verdict_on_an_nhs_number_is_valid_invalid_or_absent() -> None:
    texts = ["9990000018", " 9990000018 ", "9990000019", "999000001", "1111111111", "-", "", None]
    # 9*10 + 9*9 + 9*8 + 1*2 = 245 = 22 * 11 + 3, and 11 - 3 = 8
    assert column(one("nhs_number_verdict", ("NEWNHSNO",)), {"NEWNHSNO": texts}) == [
        "valid",
        "valid",
        "invalid",
        "invalid",
        "invalid",
        "absent",
        "absent",
        "absent",
    ]


def test_a_postcode_leaves_the_letters_before_its_first_digit() -> None:
    texts = ["ZZ99 3VZ", "zz1 1ZZ", " Z1 1ZZ", "ZZZ1 1ZZ", "12345", "", None]
    expected = ["ZZ", "ZZ", "Z", None, None, None, None]
    assert column(one("postcode_area", ("HOMEADD",)), {"HOMEADD": texts}) == expected


# mother and baby --------------------------------------------------------------------------------------


def test_mothers_and_babys_record_share_a_token_across_writings_of_the_dates() -> None:
    of_mother = one("mother_baby_token", ("ISSUER", "DOB", "DOBBABY_1"), "string")
    of_baby = one("mother_baby_token", ("ISSUER", "MOTDOB", "DOB"), "string")
    mother = column(of_mother, {"DOB": ["1990-01-02"], "DOBBABY_1": ["20200615"]}, issuer=["RXX"])
    baby = column(of_baby, {"MOTDOB": ["19900102"], "DOB": ["2020-06-15"]}, issuer=["RXX"])
    expected = person_tokens(pl.Series(["RXX|1990-01-02|2020-06-15"]), KEY, MOTHER_BABY).to_list()
    assert mother == baby == expected


def test_births_at_two_hospitals_do_not_share_a_token() -> None:
    of = one("mother_baby_token", ("ISSUER", "DOB", "DOBBABY_1"), "string")
    found = column(of, {"DOB": ["1990-01-02"] * 2, "DOBBABY_1": ["2020-06-15"] * 2}, issuer=["RXX", "RYY"])
    assert found[0] != found[1]


def test_there_is_no_token_when_a_part_is_missing() -> None:
    of = one("mother_baby_token", ("ISSUER", "DOB", "DOBBABY_1"), "string")
    delivered: dict[str, list[str | None]] = {
        "DOB": ["1990-01-02", None, "1990-01-02", "1800-01-01"],
        "DOBBABY_1": [None, "2020-06-15", "2020-06-15", "2020-06-15"],
    }
    assert column(of, delivered, issuer=["RXX", "RXX", None, "RXX"]) == [None] * 4


def test_the_issuer_may_be_a_field() -> None:
    of = one("mother_baby_token", ("PROCODET", "DOB", "DOBBABY_1"), "string")
    named = column(of, {"PROCODET": ["RXX"], "DOB": ["1990-01-02"], "DOBBABY_1": ["2020-06-15"]})
    assert named == person_tokens(pl.Series(["RXX|1990-01-02|2020-06-15"]), KEY, MOTHER_BABY).to_list()


def test_a_token_needs_a_real_key() -> None:
    of = one("mother_baby_token", ("PROCODET", "DOB", "DOBBABY_1"), "string")
    chunk = pl.DataFrame({"PROCODET": ["RXX"], "DOB": ["1990-01-02"], "DOBBABY_1": ["2020-06-15"]})
    typed = type_chunk(chunk, [FieldTyping(of.field(name)) for name in chunk.columns])
    with pytest.raises(KeyUnavailable):
        derive(typed, compile_derivations(of, chunk.columns), b"short")


# death ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"), [("code", ["Y", "Y", "N", None, None]), ("integer", [1, 1, 0, None, None])]
)
def test_a_death_known_to_the_month_only_is_marked(kind: str, expected: list[object]) -> None:
    texts = ["20210315", "2021-03-15", "202103", None, "March"]
    assert column(one("death_date_known_to_day", ("DOD",), kind), {"DOD": texts}) == expected


# what is not delivered --------------------------------------------------------------------------------


def test_a_derivation_whose_fields_were_not_delivered_is_a_typed_null_column() -> None:
    of = contract(
        {"name": "age", "type": "integer", "function": "age_years", "args": ("DOB", "EPISTART")},
        {"name": "area", "type": "code", "function": "postcode_area", "args": ("HOMEADD",)},
    )
    found = derived(of, {"DOB": ["1980-06-15", "1981-06-15"], "HOMEADD": ["ZZ99 3VZ", None]})
    assert dict(found.schema) == {"age": pl.Int64, "area": pl.String}
    assert found.rows() == [(None, "ZZ"), (None, None)]


@pytest.mark.parametrize(
    "derivation",
    [
        {"function": "no_such_function", "args": ("DOB",)},
        {"function": "age_years", "args": ("DOB",)},
        {"function": "age_years", "args": ("DOB", "PROCODET")},
        {"function": "postcode_area", "args": ("NOSUCH",)},
        {"function": "mother_baby_token", "args": ("ISSUER", "HOMEADD", "DOB")},
    ],
)
def test_a_derivation_that_cannot_be_compiled_is_a_wrong_contract(derivation: dict[str, Any]) -> None:
    of = contract({"name": "derived", "type": "code", **derivation})
    with pytest.raises(ContractDefinitionError):
        compile_derivations(of, FIELDS)
