"""Rules are counted chunk by chunk; the counts add up, and no failing value leaves the expression."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.contract import Contract
from schemas.errors import ContractDefinitionError
from transforms.measure import (
    COUNTS_SCHEMA,
    QUARANTINE_SCHEMA,
    Measured,
    RuleSet,
    add_counts,
    compile_rules,
    later_duplicates,
    whole_delivery_counts,
)
from transforms.typing_fields import FieldTyping, type_chunk

YEAR = (date(2020, 4, 1), date(2021, 3, 31))
CODES = {"dismeth": ("1", "4", "8", "9")}


def rule(
    name: str, check: str, *args: str, level: str = "delivery", severity: str = "warning"
) -> dict[str, Any]:
    return {
        "id": name,
        "severity": severity,
        "level": level,
        "check": check,
        "args": args,
        "says": "a rule of the test",
    }


def contract(*rules: dict[str, Any]) -> Contract:
    return Contract.model_validate(
        {
            "dataset": "episodes",
            "version": "1",
            "title": "Episodes of the test",
            "record_key": ("EPIKEY",),
            "period": {"kind": "YYYYnn"},
            "fields": [
                {"name": "EPIKEY", "type": "string", "class": "record_key", "max_length": 4},
                {"name": "ADMIDATE", "type": "date", "class": "administrative"},
                {
                    "name": "DISDATE",
                    "type": "date",
                    "class": "administrative",
                    "invalid_values": ("1801-01-01",),
                },
                {"name": "DISMETH", "type": "code", "class": "clinical", "codes": "dismeth"},
                {"name": "CAUSE", "type": "code", "class": "clinical", "null_values": ("-",)},
            ],
            "rules": rules,
        }
    )


ALL = contract(
    rule("R1", "not_null", "EPIKEY", level="record", severity="critical"),
    rule("R2", "not_before", "DISDATE", "ADMIDATE", level="record"),
    rule("R3", "unique", "EPIKEY", level="record"),
    rule("R4", "rows_at_least", "=3", severity="critical"),
    rule("R5", "max_length", "EPIKEY", "=4"),
    rule("R6", "typed", "DISDATE"),
    rule("R7", "one_of_codes", "DISMETH"),
    rule("R8", "null_rate", "CAUSE"),
    rule("R9", "within_period", "DISDATE"),
    rule("R10", "typed", "ADMIDATE", level="record"),
)
FIELDS = ("EPIKEY", "ADMIDATE", "DISDATE", "DISMETH", "CAUSE")
ROWS: list[tuple[str | None, ...]] = [
    ("K1", "2020-05-01", "2020-05-03", "1", "W19"),
    ("K2", "2020-05-04", "2020-05-03", "1", "-"),  # discharged before admission
    (None, "2020-05-01", "2020-05-03", "1", None),  # no key
    ("K1", "2020-05-01", "1801-01-01", "7", "W19"),  # the key again, a code that is not listed
    ("K12345", "2020-05-01", "May", "4 ", None),  # a long key, an unreadable date
    ("K3", "yesterday", "2021-05-03", "8", None),  # an unreadable admission, discharge after the year
]


def measure(
    rows: list[tuple[str | None, ...]],
    of: Contract = ALL,
    delivered: tuple[str, ...] = FIELDS,
    first: int = 1,
    duplicates: dict[str, pl.Series] | None = None,
) -> tuple[RuleSet, Measured]:
    chunk = pl.DataFrame(rows, schema=dict.fromkeys(FIELDS, pl.String), orient="row").select(delivered)
    rules = compile_rules(of, delivered, YEAR, CODES)
    typed = type_chunk(chunk, [FieldTyping(of.field(name)) for name in delivered])
    ordinals = pl.Series(range(first, first + len(rows)), dtype=pl.Int64)
    return rules, rules.measure(typed, ordinals, duplicates)


def counted(measured: Measured) -> dict[str, tuple[int, int]]:
    return {name: (rows, failures) for name, rows, failures in measured.counts.iter_rows()}


def test_every_rule_counts_the_rows_it_applies_to_and_the_failures() -> None:
    _, measured = measure(ROWS)
    assert counted(measured) == {
        "R1": (6, 1),
        "R2": (3, 1),  # both dates valid in rows 1, 2 and 3
        "R5": (5, 1),
        "R6": (5, 1),  # the sentinel 1801-01-01 is no unreadable date, and not asked
        "R7": (6, 1),
        "R8": (6, 4),
        "R9": (4, 1),
        "R10": (6, 1),
    }
    assert dict(measured.counts.schema) == COUNTS_SCHEMA


def test_rows_that_break_a_rule_of_level_record_are_listed_by_ordinal_and_rule_alone() -> None:
    _, measured = measure(ROWS, first=101)
    assert sorted(measured.quarantine.rows()) == [(102, "R2"), (103, "R1"), (106, "R10")]
    assert dict(measured.quarantine.schema) == QUARANTINE_SCHEMA
    assert measured.keep is not None
    assert measured.keep.to_list() == [True, False, False, True, True, False]


def test_a_chunk_without_a_broken_record_keeps_all_rows() -> None:
    _, measured = measure(ROWS[:1])
    assert measured.keep is None
    assert measured.quarantine.is_empty()
    assert dict(measured.quarantine.schema) == QUARANTINE_SCHEMA


@given(st.lists(st.sampled_from(ROWS), max_size=12), st.integers(0, 12))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_counting_chunks_and_adding_equals_counting_at_once(
    rows: list[tuple[str | None, ...]], cut: int
) -> None:
    _, whole = measure(rows)
    _, head = measure(rows[:cut])
    _, tail = measure(rows[cut:], first=cut + 1)
    assert add_counts([head.counts, tail.counts]).rows() == whole.counts.rows()
    together = pl.concat([head.quarantine, tail.quarantine])
    assert sorted(together.rows()) == sorted(whole.quarantine.rows())


def test_an_entirely_null_column_fails_not_null_and_nothing_else() -> None:
    rows = [("K1", None, None, None, None), ("K2", None, None, None, None)]
    of = contract(
        rule("N", "not_null", "ADMIDATE", level="record"),
        rule("T", "typed", "ADMIDATE"),
        rule("C", "one_of_codes", "DISMETH"),
        rule("S", "icd10_shape", "CAUSE"),
        rule("Z", "null_rate", "CAUSE"),
    )
    _, measured = measure(list(rows), of)
    assert counted(measured) == {"N": (2, 2), "T": (0, 0), "C": (0, 0), "S": (0, 0), "Z": (2, 2)}
    assert measured.keep is not None
    assert measured.keep.to_list() == [False, False]


def test_rules_on_columns_that_were_not_delivered_are_named_as_not_applicable() -> None:
    rules, measured = measure(ROWS, delivered=("EPIKEY", "ADMIDATE"))
    assert rules.not_applicable == ("R2", "R6", "R7", "R8", "R9")
    assert set(counted(measured)) == {"R1", "R5", "R10"}


def test_a_rule_about_the_financial_year_does_not_apply_to_a_snapshot() -> None:
    assert "R9" in compile_rules(ALL, FIELDS, None, CODES).not_applicable


def test_any_of_not_null_applies_as_long_as_one_of_its_columns_is_there() -> None:
    of = contract(rule("A", "any_of_not_null", "DISMETH", "CAUSE"))
    assert compile_rules(of, ("CAUSE",), YEAR, CODES).not_applicable == ()
    assert compile_rules(of, ("EPIKEY",), YEAR, CODES).not_applicable == ("A",)


def test_a_look_for_nhs_numbers_takes_the_columns_that_came_and_leaves_those_rows_out() -> None:
    of = contract(rule("A", "no_nhs_number", "DISMETH", "CAUSE", level="record"))
    assert compile_rules(of, ("CAUSE",), YEAR, CODES).not_applicable == ()
    rules = compile_rules(of, ("DISMETH", "CAUSE"), YEAR, CODES)
    causes = ["9990000018", "I219", None, "1234567890", "999-000-0018", "９９９０００００１８"]
    chunk = pl.DataFrame(
        {"DISMETH": ["1"] * len(causes), "CAUSE": causes}, schema={"DISMETH": pl.String, "CAUSE": pl.String}
    )
    typings = [FieldTyping(of.field(name)) for name in ("DISMETH", "CAUSE")]
    measured = rules.measure(type_chunk(chunk, typings), pl.Series(range(1, 7)))
    assert counted(measured) == {"A": (6, 3)}
    assert measured.quarantine["record_ordinal"].to_list() == [1, 5, 6]
    short = rules.measure(type_chunk(chunk[1:3], typings), pl.Series([2, 3]))
    assert (counted(short), short.keep) == ({"A": (2, 0)}, None), "answered without looking at a text"


def test_a_rule_about_a_field_that_does_not_exist_is_a_wrong_contract() -> None:
    with pytest.raises(ContractDefinitionError):
        compile_rules(contract(rule("X", "not_null", "NOSUCH")), FIELDS, YEAR, CODES)


def test_a_code_list_that_does_not_exist_is_a_wrong_contract() -> None:
    with pytest.raises(ContractDefinitionError):
        compile_rules(ALL, FIELDS, YEAR, {})


# the whole delivery -----------------------------------------------------------------------------------


def test_a_key_that_comes_twice_is_found_across_chunks() -> None:
    rules, head = measure(ROWS[:2])
    _, tail = measure(ROWS[2:], first=3)
    hashes = [head.key_hashes["R3"], tail.key_hashes["R3"]]
    counts = whole_delivery_counts(rules, 6, {"R3": hashes})
    # K1, K1 and K12345; the other three rows are left out by rules of level record and ask for nothing.
    assert counts.rows() == [("R3", 3, 1), ("R4", 1, 0)]
    assert later_duplicates(pl.Series(range(1, 7)), pl.concat(hashes)).to_list() == [4], "the first stays"


def test_later_duplicates_follow_the_file_not_the_order_of_arrival() -> None:
    ordinals, hashes = pl.Series([5, 2, 9, 3]), pl.Series([7, 7, 7, None], dtype=pl.UInt64)
    assert later_duplicates(ordinals, hashes).to_list() == [5, 9]


def test_duplicates_are_quarantined_under_the_rule_that_found_them() -> None:
    _, measured = measure([ROWS[0], ROWS[3]], duplicates={"R3": pl.Series([2])})
    assert measured.quarantine.rows() == [(2, "R3")]
    assert measured.keep is not None
    assert measured.keep.to_list() == [True, False]


def test_a_good_record_is_no_duplicate_of_a_broken_one() -> None:
    broken = ("K9", "2020-05-04", "2020-05-03", "1", None)
    good = ("K9", "2020-05-01", "2020-05-03", "1", None)
    rules, measured = measure([broken, good])
    assert whole_delivery_counts(rules, 2, {"R3": [measured.key_hashes["R3"]]}).row(0) == ("R3", 1, 0)


def test_a_key_of_two_columns_is_not_fooled_by_shifting_text_between_them() -> None:
    of = contract(rule("U", "unique", "EPIKEY", "CAUSE"))
    rows = [("AB", None, None, None, "C"), ("A", None, None, None, "BC"), ("AB", None, None, None, "C")]
    rules, measured = measure(list(rows), of)
    assert whole_delivery_counts(rules, 3, {"U": [measured.key_hashes["U"]]}).rows() == [("U", 3, 1)]


def test_too_few_rows_fail_once() -> None:
    rules = compile_rules(ALL, FIELDS, YEAR, CODES)
    assert whole_delivery_counts(rules, 2, {}).row(1) == ("R4", 1, 1)


def test_the_counts_of_no_chunk_are_an_empty_frame() -> None:
    assert dict(add_counts([]).schema) == COUNTS_SCHEMA
