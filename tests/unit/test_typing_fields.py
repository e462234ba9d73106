"""Every delivered text becomes a value, a state and nothing else; typing never raises on a value."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.contract import ContractField
from schemas.errors import IntegrityError
from transforms.typing_fields import (
    STATES,
    FieldSense,
    FieldTyping,
    TypedChunk,
    look_at,
    one_piece,
    state_name,
    text_name,
    type_chunk,
    unparsed_name,
    value_name,
)


def field(kind: str, name: str = "F", **more: object) -> ContractField:
    return ContractField.model_validate({"name": name, "type": kind, "class": "clinical", **more})


HES_DATE = {"null_values": ("1800-01-01", "1600-01-01"), "invalid_values": ("1801-01-01", "1582-10-15")}


def typed(declared: ContractField, texts: list[str | None]) -> TypedChunk:
    chunk = pl.DataFrame({declared.name: pl.Series(texts, dtype=pl.String)})
    return type_chunk(chunk, [FieldTyping(declared)])


def values(declared: ContractField, texts: list[str | None]) -> list[object]:
    return typed(declared, texts).frame[value_name(declared.name)].to_list()


def states(declared: ContractField, texts: list[str | None]) -> list[object]:
    return typed(declared, texts).frame[state_name(declared.name)].to_list()


# text -------------------------------------------------------------------------------------------------


def test_text_is_trimmed_and_blank_text_is_null() -> None:
    found = typed(field("code"), ["-   ", "&\t ", " X1", "", "  ", "\t", None, "A B"])
    assert found.frame["F.text"].to_list() == ["-", "&", "X1", None, None, None, None, "A B"]


def test_a_sentinel_of_a_code_stays_the_code_because_codes_are_information() -> None:
    found = typed(field("code", null_values=("-",), not_stated_values=("9",)), ["-   ", "9", "1"])
    assert found.frame["F.text"].to_list() == ["-", "9", "1"]
    assert state_name("F") not in found.frame.columns, "only typed fields have a state column"


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.text(alphabet=" \tA9", max_size=14),
            st.text(max_size=40),
        ),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=150, derandomize=True, deadline=None)
def test_trimming_equals_pythons_strip_for_any_text(texts: list[str | None]) -> None:
    texts = [text.encode("utf-8", "ignore").decode() if text is not None else None for text in texts]
    expected = [(text.strip(" \t") or None) if text is not None else None for text in texts]
    assert typed(field("string"), texts).frame["F.text"].to_list() == expected


@given(
    st.lists(st.one_of(st.none(), st.text(alphabet=" \tAé9", max_size=40)), max_size=30), st.integers(0, 5)
)
@settings(max_examples=150, derandomize=True, deadline=None)
def test_a_look_never_misses_padding_emptiness_or_length(texts: list[str | None], skip: int) -> None:
    column = pl.Series("F", texts, dtype=pl.String)
    column = column.extend(pl.Series("F", texts, dtype=pl.String))[skip:]
    facts = look_at(column)
    present = [text for text in column.to_list() if text is not None]
    assert facts.longest_bytes >= max((len(text.encode()) for text in present), default=0)
    assert facts.maybe_padded or not any(text != text.strip(" \t") for text in present)
    assert facts.maybe_empty or "" not in present


def test_a_clean_short_column_is_not_touched() -> None:
    facts = look_at(pl.Series(["RXX", "RYY", None]))
    assert (facts.longest_bytes, facts.maybe_padded, facts.maybe_empty) == (3, False, False)


# dates ------------------------------------------------------------------------------------------------


def test_dates_keep_null_invalid_and_unreadable_apart() -> None:
    texts = ["2001-09-27", "1800-01-01", "1801-01-01", "1582-10-15", None, "", "31/12/2001", "2001-02-30"]
    declared = field("date", **HES_DATE)
    assert values(declared, texts) == [date(2001, 9, 27), *[None] * 7]
    assert states(declared, texts) == [
        "valid",
        "null",
        "invalid",
        "invalid",
        "null",
        "null",
        "invalid",
        "invalid",
    ]


def test_only_what_could_not_be_read_counts_as_unparsed() -> None:
    found = typed(field("date", **HES_DATE), ["2001-09-27", "1801-01-01", "", "31/12/2001", "2001-02-30"])
    assert dict(found.unparsed) == {"F": 2}, "sentinels and empty text were read perfectly well"


def test_a_chunk_without_unreadable_text_has_no_unparsed_column() -> None:
    found = typed(field("date"), ["2001-09-27", None])
    assert dict(found.unparsed) == {}
    assert unparsed_name("F") not in found.frame.columns


@pytest.mark.parametrize("text", ["20010927", " 2001-09-27", "2001-09-27\t "])
def test_dates_without_hyphens_and_padded_dates_are_read(text: str) -> None:
    assert values(field("date", **HES_DATE), [text]) == [date(2001, 9, 27)]


def test_a_sentinel_date_is_one_in_any_writing() -> None:
    assert states(field("date", **HES_DATE), ["18000101", "18010101", "20010927"]) == [
        "null",
        "invalid",
        "valid",
    ]


def test_the_contracts_formats_decide() -> None:
    declared = field("date", formats=("%d/%m/%Y",))
    assert values(declared, ["27/09/2001", "2001-09-27"]) == [date(2001, 9, 27), None]


def test_a_month_is_read_as_its_first_day_where_the_contract_allows_months() -> None:
    declared = field("date", formats=("%Y%m%d", "%Y%m"))
    assert values(declared, ["20210315", "202103", "2021"]) == [date(2021, 3, 15), date(2021, 3, 1), None]


# numbers and times ------------------------------------------------------------------------------------


def test_whole_numbers_may_come_as_float_text() -> None:
    texts = ["54", "54.0", "054", " 54 ", "-3", "54.5", "x", "nan", "inf", "1e400", ""]
    assert values(field("integer"), texts) == [54, 54, 54, 54, -3, None, None, None, None, None, None]


def test_whole_numbers_too_large_for_a_float_stay_exact() -> None:
    assert values(field("integer"), ["9007199254740993", "1.0"]) == [9007199254740993, 1]
    assert values(field("integer"), ["9007199254740993"]) == [9007199254740993], "in any company of rows"


def test_a_number_that_overflows_is_invalid_not_an_error() -> None:
    found = typed(field("integer"), ["99999999999999999999"])
    assert found.frame["F.value"].to_list() == [None]
    assert dict(found.unparsed) == {"F": 1}


def test_decimals_are_read_and_never_infinite() -> None:
    assert values(field("decimal"), ["0.5", "3", "inf", "nan", "-1e3"]) == [0.5, 3.0, None, None, -1000.0]


def test_numeric_sentinels_match_by_value_and_textual_ones_as_text() -> None:
    declared = field("integer", not_stated_values=("99",), null_values=("&",), invalid_values=("98",))
    texts = ["99", "99.0", "98", "&", "& ", "12", "?", None]
    assert states(declared, texts) == [
        "not_stated",
        "not_stated",
        "invalid",
        "null",
        "null",
        "valid",
        "invalid",
        "null",
    ]
    assert dict(typed(declared, texts).unparsed) == {"F": 1}


def test_times_are_hours_and_minutes_with_4000_and_3000_as_sentinels() -> None:
    declared = field("time", null_values=("4000",), invalid_values=("3000",))
    texts = ["0915", "2359", "4000", "3000", "2400", "0960", " 0915", None]
    assert values(declared, texts) == ["0915", "2359", None, None, None, None, "0915", None]
    assert states(declared, texts) == [
        "valid",
        "valid",
        "null",
        "invalid",
        "invalid",
        "invalid",
        "valid",
        "null",
    ]


def test_times_with_a_colon_are_written_without_where_the_contract_says_so() -> None:
    assert values(field("time", formats=("%H:%M",)), ["09:15", "25:00"]) == ["0915", None]


# chunks -----------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.sampled_from(
            [
                None,
                "",
                " ",
                "5",
                "5.0",
                " 7",
                "&",
                "99",
                "4000",
                "0915",
                "2001-09-27",
                "20010927",
                "1800-01-01",
                "x",
            ]
        ),
        max_size=12,
    ),
    st.sampled_from(["date", "integer", "decimal", "time", "code"]),
    st.integers(0, 12),
)
@settings(max_examples=200, derandomize=True, deadline=None)
def test_a_value_and_its_state_do_not_depend_on_the_chunk_it_came_in(
    texts: list[str | None], kind: str, cut: int
) -> None:
    declared = field(kind, null_values=("1800-01-01", "4000", "&"), not_stated_values=("99",))
    names = [text_name("F")] if kind == "code" else [value_name("F"), state_name("F")]
    whole = typed(declared, texts).frame.select(names)
    parts = [
        typed(declared, texts[:cut]).frame.select(names),
        typed(declared, texts[cut:]).frame.select(names),
    ]
    assert pl.concat(parts).rows() == whole.rows()


def test_every_state_is_one_of_the_four() -> None:
    declared = field("integer", null_values=("0",), not_stated_values=("99",), invalid_values=("98",))
    found = set(states(declared, ["1", "0", "99", "98", "x", None]))
    assert found == set(STATES)


def test_a_null_column_keeps_its_type_and_its_state() -> None:
    found = typed(field("date", **HES_DATE), [None, None])
    assert found.absent == {"F"}
    assert found.frame["F.value"].dtype == pl.Date
    assert found.frame["F.state"].to_list() == ["null", "null"]


def test_an_empty_chunk_is_typed_too() -> None:
    found = typed(field("date", **HES_DATE), [])
    assert found.rows == 0
    assert found.frame.schema["F.value"] == pl.Date


def test_joining_the_pieces_keeps_rows_and_order() -> None:
    half = pl.DataFrame({"A": ["1", "2"], "B": pl.Series([None, None], dtype=pl.String)})
    chunk, absent = one_piece(pl.concat([half, half], rechunk=False))
    assert absent == {"B"}
    assert chunk.n_chunks() == 1
    assert chunk.rows() == [("1", None), ("2", None)] * 2


def test_a_column_that_is_not_text_is_refused_without_its_values() -> None:
    with pytest.raises(IntegrityError) as caught:
        type_chunk(pl.DataFrame({"F": [9991234567]}), [FieldTyping(field("date"))])
    assert "9991234567" not in str(caught.value)


def test_a_missing_column_is_refused() -> None:
    with pytest.raises(IntegrityError, match="F did not reach typing"):
        type_chunk(pl.DataFrame({"G": ["1"]}), [FieldTyping(field("date"))])


def test_what_typing_remembers_of_a_chunk_shows_no_value() -> None:
    found = typed(field("date"), ["CANARY-20991231"])
    assert "CANARY" not in repr(found)


# the senses -------------------------------------------------------------------------------------------


def sensed(declared: ContractField, texts: list[str | None]) -> pl.DataFrame:
    sense = FieldSense(declared)
    return typed(declared, texts).frame.select(
        null=sense.is_null, invalid=sense.is_invalid, not_stated=sense.is_not_stated, valid=sense.is_valid
    )


@pytest.mark.parametrize(
    ("declared", "texts"),
    [
        (
            field("code", null_values=("-",), invalid_values=("0",), not_stated_values=("9",)),
            ["-", "0", "9", "1", None],
        ),
        (
            field("integer", null_values=("-",), invalid_values=("0",), not_stated_values=("9",)),
            ["-", "0", "9", "1", None],
        ),
        (field("integer"), [None, "x", "1"]),
        (field("code"), [None, "1"]),
    ],
    ids=["code with sentinels", "number with sentinels", "plain number", "plain code"],
)
def test_each_row_is_exactly_one_of_null_invalid_not_stated_and_valid(
    declared: ContractField, texts: list[str | None]
) -> None:
    frame = sensed(declared, texts)
    assert frame.select(pl.sum_horizontal(pl.all().cast(pl.Int8)))["null"].to_list() == [1] * len(texts)
    assert frame.null_count().row(0) == (0, 0, 0, 0)
