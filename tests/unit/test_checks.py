"""Each check passes what it should, fails what it should, and stays silent where it does not apply."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.check_names import CHECKS, DERIVATIONS, WHOLE_DELIVERY_CHECKS
from schemas.contract import ContractField
from schemas.errors import ContractDefinitionError
from transforms.checks import (
    ARGUMENTS,
    CHECK_FUNCTIONS,
    CheckContext,
    nhs_number_is_valid,
    sense,
    split_arguments,
)
from transforms.derive import DERIVATION_FUNCTIONS
from transforms.typing_fields import FieldTyping, type_chunk

CONTEXT = CheckContext(codes={"sex": ("1", "2", "9")}, period=(date(2020, 4, 1), date(2021, 3, 31)))
PASS, FAIL, SILENT = True, False, None


def field(name: str, kind: str, **more: Any) -> ContractField:
    return ContractField.model_validate({"name": name, "type": kind, "class": "clinical", **more})


def ask(
    check: str, fields: list[ContractField], *columns: list[str | None], literals: tuple[str, ...] = ()
) -> Any:
    chunk = pl.DataFrame(
        {each.name: pl.Series(texts, dtype=pl.String) for each, texts in zip(fields, columns, strict=True)}
    )
    typed = type_chunk(chunk, [FieldTyping(each) for each in fields])
    expression = CHECK_FUNCTIONS[check]([sense(each) for each in fields], literals, CONTEXT)
    return typed.frame.select(answer=expression)["answer"].to_list()


CODE = field("SEX", "code", codes="sex", null_values=("-",), invalid_values=("0",), not_stated_values=("9",))
DATE = field("A", "date", null_values=("1800-01-01",), invalid_values=("1801-01-01",))
OTHER_DATE = field("B", "date")


def test_every_name_a_contract_may_use_has_its_function_and_no_function_is_unnamed() -> None:
    assert set(CHECK_FUNCTIONS) | WHOLE_DELIVERY_CHECKS == set(CHECKS) == set(ARGUMENTS)
    assert set(DERIVATION_FUNCTIONS) == set(DERIVATIONS)


def test_each_name_is_explained_by_a_sentence_that_starts_with_it() -> None:
    for name, meaning in {**CHECKS, **DERIVATIONS}.items():
        assert meaning.startswith(f"{name}("), name
        assert meaning.endswith("."), name


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        # text:            "1"   "-"     "0"   "9"   "7"   null
        ("not_null", [PASS, FAIL, PASS, PASS, PASS, FAIL]),
        ("null_rate", [PASS, FAIL, PASS, PASS, PASS, FAIL]),
        ("invalid_rate", [PASS, SILENT, FAIL, PASS, PASS, SILENT]),
        ("not_stated_rate", [PASS, SILENT, PASS, FAIL, PASS, SILENT]),
        ("one_of_codes", [PASS, PASS, PASS, PASS, FAIL, SILENT]),
    ],
)
def test_states_of_a_code(check: str, expected: list[bool | None]) -> None:
    assert ask(check, [CODE], ["1", "- ", "0", "9", "7", None]) == expected


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        # text:           valid  1800   1801  unreadable  null
        ("not_null", [PASS, FAIL, PASS, PASS, FAIL]),
        ("null_rate", [PASS, FAIL, PASS, PASS, FAIL]),
        ("invalid_rate", [PASS, SILENT, FAIL, FAIL, SILENT]),
        ("typed", [PASS, SILENT, SILENT, FAIL, SILENT]),
    ],
)
def test_states_of_a_date(check: str, expected: list[bool | None]) -> None:
    assert ask(check, [DATE], ["2020-05-01", "1800-01-01", "1801-01-01", "May 2020", None]) == expected


def test_not_before_compares_valid_dates_only() -> None:
    later = ["2020-05-02", "2020-05-01", "2020-05-01", "1800-01-01", "2020-05-01"]
    earlier = ["2020-05-01", "2020-05-01", "2020-05-02", "2020-05-01", None]
    assert ask("not_before", [DATE, OTHER_DATE], later, earlier) == [PASS, PASS, FAIL, SILENT, SILENT]


def test_within_period_includes_both_ends_of_the_financial_year() -> None:
    texts = ["2020-04-01", "2021-03-31", "2020-03-31", "2021-04-01", "1801-01-01", None]
    assert ask("within_period", [DATE], texts) == [PASS, PASS, FAIL, FAIL, SILENT, SILENT]


def test_max_length_counts_characters_after_trimming() -> None:
    assert ask("max_length", [field("T", "string")], ["ab ", "abc", "é€", None], literals=("2",)) == [
        PASS,
        FAIL,
        PASS,
        SILENT,
    ]


def test_between_includes_its_ends() -> None:
    weight = field("W", "integer", not_stated_values=("9999",))
    texts = ["10", "7000", "9", "7001", "9999", "x", None]
    expected = [PASS, PASS, FAIL, FAIL, SILENT, SILENT, SILENT]
    assert ask("between", [weight], texts, literals=("10", "7000")) == expected


def test_between_works_on_dates() -> None:
    texts = ["1895-01-01", "1894-12-31", "1800-01-01"]
    expected = [PASS, FAIL, SILENT]
    assert ask("between", [DATE], texts, literals=("1895-01-01", "2100-01-01")) == expected


def test_any_of_not_null_needs_one_value() -> None:
    fields = [field("P", "code", null_values=("89999",)), field("Q", "code")]
    assert ask("any_of_not_null", fields, ["RXX", None, "89999", None], [None, "RYY", None, None]) == [
        PASS,
        PASS,
        FAIL,
        FAIL,
    ]


@pytest.mark.parametrize("code", ["N18", "N180", "I10X", "R69X", "R69X6", "G01XA", "A170D", "N18.0", "I10-"])
def test_icd10_codes_as_hes_writes_them(code: str) -> None:
    assert ask("icd10_shape", [field("D", "code")], [code]) == [PASS]


@pytest.mark.parametrize("code", ["18N", "N1", "n180", "N18000", "N 18", "2001-09-27", "PERSON"])
def test_what_is_no_icd10_code(code: str) -> None:
    assert ask("icd10_shape", [field("D", "code")], [code]) == [FAIL]


def test_a_shape_is_asked_of_valid_codes_only() -> None:
    diagnosis = field("D", "code", null_values=("-",), invalid_values=("R69X8",))
    assert ask("icd10_shape", [diagnosis], ["-", "R69X8", None, "?"]) == [SILENT, SILENT, SILENT, FAIL]


@pytest.mark.parametrize(
    ("code", "verdict"), [("X352", PASS), ("G45", PASS), ("I123", FAIL), ("X3529", FAIL)]
)
def test_opcs4_shape(code: str, verdict: bool) -> None:
    assert ask("opcs4_shape", [field("O", "code")], [code]) == [verdict]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("ZZ99 3VZ", PASS),
        ("ZZ993VZ", PASS),
        ("ZZ1 1ZZ", PASS),
        ("ZZ1A 1ZZ", PASS),
        ("Z1  1ZZ", PASS),
        ("ZZZ1 1ZZ", FAIL),
        ("1ZZ ZZ1", FAIL),
        ("ZZ99", FAIL),
    ],
)
def test_postcode_shape(text: str, verdict: bool) -> None:
    assert ask("postcode_shape", [field("H", "string")], [text]) == [verdict]


def test_consistent_discharge() -> None:
    method, discharged = field("DISMETH", "code"), field("DISDATE", "date")
    methods = ["1", "1", "8", "8", "9", None, "4"]
    dates = ["2020-05-01", None, "2020-05-01", None, None, "2020-05-01", "2020-05-01"]
    assert ask("consistent_discharge", [method, discharged], methods, dates) == [
        PASS,
        FAIL,
        FAIL,
        PASS,
        SILENT,
        SILENT,
        PASS,
    ]


# the NHS number ---------------------------------------------------------------------------------------


def check_digit_fits(text: str) -> bool:
    """The Data Dictionary's words, digit by digit."""
    if len(text) != 10 or not (text.isascii() and text.isdigit()):
        return False
    digits = [int(character) for character in text]
    if len(set(digits)) == 1 or text == "2333455667":
        return False
    if digits[0] == digits[9] and not any(digits[1:9]):
        return False
    remainder = 11 - sum(digit * weight for digit, weight in zip(digits, range(10, 1, -1), strict=False)) % 11
    return remainder != 10 and (0 if remainder == 11 else remainder) == digits[9]


def verdicts(texts: list[str | None]) -> list[bool | None]:
    frame = pl.DataFrame({"n": pl.Series(texts, dtype=pl.String)})
    return frame.select(nhs_number_is_valid(pl.col("n")))["n"].to_list()


@given(st.lists(st.one_of(st.none(), st.from_regex(r"\A[0-9]{9,11}\Z"), st.text(max_size=12)), max_size=20))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_the_vectorised_check_digit_agrees_with_the_rule_spelt_out(texts: list[str | None]) -> None:
    assert verdicts(texts) == [check_digit_fits(text) if text is not None else None for text in texts]


def test_a_thousand_numbers_in_a_row_agree_too() -> None:
    texts = [str(number) for number in range(9_990_000_000, 9_990_001_000)]
    found = verdicts(list(texts))
    assert found == [check_digit_fits(text) for text in texts]
    assert 80 < sum(bool(each) for each in found) < 100, "about one in eleven has the right check digit"


@pytest.mark.parametrize("text", ["1111111111", "9000000009", "2333455667", "0000000000", "999 000 0018", ""])
def test_numbers_that_are_refused_whatever_their_check_digit(text: str) -> None:
    assert verdicts([text]) == [False]


# arguments --------------------------------------------------------------------------------------------


def test_arguments_are_fields_and_literals() -> None:
    assert split_arguments("between", ("BIRWEIT_1", "=10", "=7000")) == (("BIRWEIT_1",), ("10", "7000"))


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        ("between", ("A",)),
        ("not_before", ("A",)),
        ("not_null", ("A", "B")),
        ("rows_at_least", ()),
        ("no_such_check", ("A",)),
    ],
)
def test_a_wrong_number_of_arguments_or_name_is_a_wrong_contract(
    check: str, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(ContractDefinitionError):
        split_arguments(check, arguments)


@pytest.mark.parametrize(
    ("check", "declared", "literals"),
    [
        ("between", field("T", "string"), ("1", "2")),
        ("between", field("N", "integer"), ("one", "two")),
        ("between", DATE, ("1", "2")),
        ("within_period", field("N", "integer"), ()),
        ("one_of_codes", field("C", "code", codes="no_such_list"), ()),
        ("max_length", field("T", "string"), ("nan",)),
    ],
)
def test_a_check_that_cannot_be_compiled_is_a_wrong_contract(
    check: str, declared: ContractField, literals: tuple[str, ...]
) -> None:
    with pytest.raises(ContractDefinitionError):
        CHECK_FUNCTIONS[check]([sense(declared)], literals, CONTEXT)
