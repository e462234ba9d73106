"""Documents of a case review: one spelling, exactly the fields of their kind, a signature for one purpose only."""

from __future__ import annotations

from typing import Any

import pytest

from infra.review.documents import (
    Receipt,
    Refusal,
    Withdrawal,
    case_code,
    moment_of,
    parse,
    sign,
    write,
)
from infra.signing import SigningKey, canonical_json, parse_canonical
from schemas.errors import IntegrityError, UsageError
from transforms.identifiers import scan_text

KEY = SigningKey.create()
CASE = case_code("0" * 32)
FIELDS: dict[str, Any] = {
    "case": CASE,
    "request_sha256": "0" * 64,
    "person": "demo-siro",
    "decided_at": "2026-11-20T12:00:00Z",
    "reason": "Not needed any more, says the hospital.",
}


def withdrawal(**changes: Any) -> Withdrawal:
    return write(Withdrawal, **{**FIELDS, **changes})


def test_what_was_signed_comes_back_and_verifies() -> None:
    signed = sign(withdrawal(), KEY)
    found = parse(signed.content, Withdrawal)
    assert found.document == withdrawal()
    assert found.key_id == KEY.key_id
    found.verify(KEY.public)


def test_another_key_or_another_word_does_not_verify() -> None:
    signed = sign(withdrawal(), KEY)
    with pytest.raises(IntegrityError):
        parse(signed.content, Withdrawal).verify(SigningKey.create().public)
    found = parse_canonical(signed.content)
    found["document"]["reason"] += "!"
    with pytest.raises(IntegrityError):
        parse(canonical_json(found), Withdrawal).verify(KEY.public)


def test_a_signature_for_one_kind_is_worth_nothing_for_another() -> None:
    refusal = write(Refusal, **FIELDS, role="siro")
    borrowed = KEY.sign(refusal.model_dump(mode="json"), Withdrawal.signature_purpose)
    content = canonical_json({"document": refusal.model_dump(mode="json"), "signature": borrowed})
    with pytest.raises(IntegrityError):
        parse(content, Refusal).verify(KEY.public)


@pytest.mark.parametrize(
    "change", [{"more": "x"}, {"v": 2}, {"kind": "case-review-refusal"}, {"reason": 1}, {"case": "RXX"}]
)
def test_other_fields_than_those_of_its_kind_are_refused(change: dict[str, Any]) -> None:
    found = parse_canonical(sign(withdrawal(), KEY).content)
    found["document"] |= change
    with pytest.raises(IntegrityError):
        parse(canonical_json(found), Withdrawal)


@pytest.mark.parametrize("name", ["v", "kind", "case", "request_sha256", "reason"])
def test_a_missing_field_is_refused_even_where_it_has_a_default(name: str) -> None:
    found = parse_canonical(sign(withdrawal(), KEY).content)
    del found["document"][name]
    with pytest.raises(IntegrityError):
        parse(canonical_json(found), Withdrawal)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"null", b'{"document":{}}', b"[" * 100_000, b" " * (1 << 21)]
)
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError):
        parse(content, Receipt)


@pytest.mark.parametrize(
    "text",
    ["two\nlines", "zero\u200bwidth", "turned \u202e round", "e\u0301 in two parts", "\x00", "\ud800"],
    ids=["line", "invisible", "direction", "decomposed", "nul", "surrogate"],
)
def test_text_is_what_it_looks_like_and_is_not_repeated_when_it_is_not(text: str) -> None:
    """Attack 49."""
    with pytest.raises(UsageError) as caught:
        withdrawal(reason=text)
    assert text not in str(caught.value)
    assert "reason" in str(caught.value)


def test_ordinary_text_of_any_language_is_accepted() -> None:
    assert withdrawal(reason="Naïve façade – “quoted”, 50 % of £20.").reason


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20",
        "2026-11-20T12:00:00+00:00",
        "2026-11-20T12:00:00.0Z",
        "2026-02-30T00:00:00Z",
        "2026-1-1T0:0:0Z",
    ],
)
def test_a_time_has_one_spelling(text: str) -> None:
    with pytest.raises(IntegrityError):
        moment_of(text)


def test_the_code_of_a_case_is_short_and_looks_like_no_identifier() -> None:
    codes = {case_code(f"{number:032x}") for number in range(2_000)}
    assert len(codes) == 2_000
    assert all(len(code) == 12 and code.isalpha() and code.islower() for code in codes)
    assert [code for code in codes if scan_text(f"Case {code}, as agreed")] == []
