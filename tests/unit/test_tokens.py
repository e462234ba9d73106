"""A person token joins a person's records, is bound to its key and purpose, and gives nothing away."""

from __future__ import annotations

import hmac

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import IntegrityError, KeyUnavailable
from transforms.tokens import MOTHER_BABY, PERSON, person_tokens

KEY = bytes(range(32))


def by_the_book(text: str, key: bytes, purpose: str) -> str:
    return hmac.new(key, purpose.encode() + b"\0" + text.encode(), "sha256").digest()[:16].hex()


def tokens(
    ids: list[str | None], key: bytes = KEY, purpose: str = PERSON, **more: object
) -> list[str | None]:
    return person_tokens(pl.Series("id", ids, dtype=pl.String), key, purpose, **more).to_list()  # type: ignore[arg-type]


@given(
    ids=st.lists(
        st.text(alphabet=st.characters(codec="utf-8", exclude_characters=" \t"), min_size=1), max_size=8
    ),
    key=st.binary(min_size=16, max_size=100),
    purpose=st.sampled_from([PERSON, MOTHER_BABY]),
)
@settings(max_examples=60, derandomize=True, deadline=None)
def test_a_token_is_the_truncated_hmac_of_the_standard_library(
    ids: list[str], key: bytes, purpose: str
) -> None:
    assert tokens(list(ids), key, purpose) == [by_the_book(text, key, purpose) for text in ids]


def test_order_repeats_and_nulls_are_kept() -> None:
    found = tokens(["B", None, "A", "B", None])
    assert found == [by_the_book("B", KEY, PERSON), None, by_the_book("A", KEY, PERSON), found[0], None]


def test_padding_does_not_make_another_person() -> None:
    assert tokens(["A", " A", "A\t "]) == [by_the_book("A", KEY, PERSON)] * 3


def test_empty_blank_and_sentinel_ids_have_no_token() -> None:
    assert tokens(["", "   ", "-1", " -1 "], null_values=("-1",)) == [None] * 4


def test_a_column_of_nulls_stays_a_text_column_of_nulls() -> None:
    found = person_tokens(pl.Series("id", [None, None], dtype=pl.String), KEY, PERSON)
    assert found.dtype == pl.String
    assert found.to_list() == [None, None]


def test_an_empty_column_gives_an_empty_column() -> None:
    assert tokens([]) == []


def test_another_key_or_purpose_gives_a_token_that_does_not_join() -> None:
    first = tokens(["A"])
    assert first != tokens(["A"], key=KEY[::-1])
    assert first != tokens(["A"], purpose=MOTHER_BABY)


def test_purpose_and_id_cannot_be_shifted_into_each_other() -> None:
    assert tokens(["bA"], purpose="a") != tokens(["A"], purpose="ab"), "the zero byte keeps them apart"


def test_a_token_is_32_hex_digits() -> None:
    (found,) = tokens(["A"])
    assert found is not None
    assert len(bytes.fromhex(found)) == 16


def test_a_short_key_is_refused_before_anything_is_hashed() -> None:
    with pytest.raises(KeyUnavailable):
        tokens(["A"], key=b"short")


def test_ids_of_another_type_are_refused_without_showing_them() -> None:
    with pytest.raises(IntegrityError) as caught:
        person_tokens(pl.Series("id", [99912345678]), KEY, PERSON)
    assert "99912345678" not in str(caught.value)
    assert caught.value.__context__ is None
