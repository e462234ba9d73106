"""Signatures: one spelling per document, and nothing passes that was not signed for this purpose."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.signing import SigningKey, canonical_json, key_id_of, parse_canonical, verify
from schemas.errors import IntegrityError, KeyUnavailable, UsageError

KEY = SigningKey.load(bytes(range(32)))
OTHER = SigningKey.create()
KNOWN = {KEY.key_id: KEY.public}
DOCUMENT = {"delivery_id": "hes_apc-201999-0123456789ab", "rows": 12, "items": ["nhs_number"], "note": None}

documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


# Canonical JSON --------------------------------------------------------------------------------------------


def test_canonical_json_has_sorted_keys_no_spaces_and_utf_8() -> None:
    assert canonical_json({"b": [1, True, None], "a": "é\n"}) == '{"a":"é\\n","b":[1,true,null]}'.encode()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(document=documents)
def test_what_is_written_is_read_back(document: Any) -> None:
    assert parse_canonical(canonical_json(document)) == document


@settings(max_examples=50, deadline=None, derandomize=True)
@given(document=st.dictionaries(st.text(), st.integers(-9, 9), max_size=5))
def test_the_order_in_which_a_document_was_made_does_not_matter(document: dict[str, int]) -> None:
    backwards = dict(reversed(document.items()))
    assert canonical_json(backwards) == canonical_json(document)


@pytest.mark.parametrize(
    "unfit",
    [1.0, float("nan"), {"rate": 0.5}, [float("inf")], {1: "number as key"}, {"at": b"bytes"}, {"set": {1}},
     2**53, "\ud800"],
    ids=repr,
)  # fmt: skip
def test_what_has_more_than_one_spelling_is_not_written(unfit: object) -> None:
    with pytest.raises(UsageError):
        canonical_json(unfit)


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"a":1}{}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":-0}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
    ids=lambda content: repr(content[:20]),
)
def test_a_second_spelling_is_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError) as refused:
        parse_canonical(content)
    assert refused.value.__cause__ is None
    assert "\\ud800" not in str(refused.value), "the message repeats the document"


# Signatures ------------------------------------------------------------------------------------------------


def test_a_signature_holds_for_its_document_and_purpose() -> None:
    signature = KEY.sign(DOCUMENT, "vault-manifest")
    assert set(signature) == {"key_id", "signature"}
    assert verify(DOCUMENT, signature, "vault-manifest", KNOWN) == KEY.key_id


def test_a_signature_is_over_the_purpose_and_the_canonical_bytes() -> None:
    # Written out once, so that an auditor can check it with any other Ed25519 tool.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    signature = KEY.sign({"b": 1, "a": 2}, "receipt")
    message = b'wardwatch-signed-v1\0receipt\0{"a":2,"b":1}'
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(KEY.public)).verify(
        bytes.fromhex(signature["signature"]), message
    )
    assert KEY.sign({"a": 2, "b": 1}, "receipt") == signature, "Ed25519 signs the same bytes the same way"


@pytest.mark.parametrize(
    "change",
    [{"rows": 13}, {"rows": "12"}, {"rows": True}, {"extra": None}, {"items": []}, {"note": ""}],
    ids=repr,
)
def test_a_changed_document_is_refused(change: dict[str, object]) -> None:
    signature = KEY.sign(DOCUMENT, "receipt")
    with pytest.raises(IntegrityError, match="does not fit"):
        verify({**DOCUMENT, **change}, signature, "receipt", KNOWN)


def test_a_signature_for_another_purpose_is_refused() -> None:
    signature = KEY.sign(DOCUMENT, "receipt")
    with pytest.raises(IntegrityError, match="does not fit"):
        verify(DOCUMENT, signature, "approval", KNOWN)


def test_an_unknown_signer_is_refused_even_under_a_known_name() -> None:
    signature = OTHER.sign(DOCUMENT, "receipt")
    with pytest.raises(IntegrityError, match="not accepted"):
        verify(DOCUMENT, signature, "receipt", KNOWN)
    with pytest.raises(IntegrityError, match="does not fit"):
        verify(DOCUMENT, {**signature, "key_id": KEY.key_id}, "receipt", KNOWN)
    with pytest.raises(IntegrityError, match="not accepted"):
        verify(DOCUMENT, signature, "receipt", {OTHER.key_id: KEY.public})


@pytest.mark.parametrize(
    "signature",
    [
        {},
        {"key_id": KEY.key_id},
        {"key_id": KEY.key_id, "signature": ""},
        {"key_id": KEY.key_id, "signature": "zz"},
        {"key_id": KEY.key_id, "signature": None},
        {"key_id": [KEY.key_id], "signature": "00" * 64},
        {"key_id": KEY.key_id, "signature": "00" * 64},
        {**KEY.sign(DOCUMENT, "receipt"), "more": "1"},
    ],
    ids=repr,
)
def test_what_is_no_signature_object_is_refused(signature: dict[str, object]) -> None:
    with pytest.raises(IntegrityError):
        verify(DOCUMENT, signature, "receipt", KNOWN)


def test_every_bit_of_a_signature_counts_and_so_does_its_spelling() -> None:
    signature = KEY.sign(DOCUMENT, "receipt")
    whole = bytes.fromhex(signature["signature"])
    for bit in range(0, 512, 7):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError):
            verify(DOCUMENT, {**signature, "signature": changed.hex()}, "receipt", KNOWN)
    for spelling in (whole.hex().upper(), whole.hex(" "), " " + whole.hex()):
        with pytest.raises(IntegrityError):
            verify(DOCUMENT, {**signature, "signature": spelling}, "receipt", KNOWN)


def test_a_purpose_cannot_be_chosen_so_that_two_messages_meet() -> None:
    for purpose in ("", "Receipt", "receipt\0{}", "a b"):
        with pytest.raises(UsageError):
            KEY.sign(DOCUMENT, purpose)


# Keys ------------------------------------------------------------------------------------------------------


def test_a_key_survives_its_storage() -> None:
    again = SigningKey.load(OTHER.secret_bytes())
    assert again.public == OTHER.public
    assert again.sign(DOCUMENT, "receipt") == OTHER.sign(DOCUMENT, "receipt")
    assert key_id_of(OTHER.public) == OTHER.key_id


def test_what_is_no_key_is_refused() -> None:
    for secret in (b"", bytes(31), bytes(33)):
        with pytest.raises(KeyUnavailable):
            SigningKey.load(secret)
    for public in ("", "zz", "00" * 31):
        with pytest.raises(KeyUnavailable):
            key_id_of(public)


def test_a_signing_key_shows_its_id_alone() -> None:
    secret = KEY.secret_bytes()
    shown = f"{KEY} {KEY!r} {[KEY]} {secret} {secret!r}"
    assert KEY.key_id in shown
    assert bytes(range(32)).hex() not in shown
    assert "\\x01" not in shown
    assert json.dumps(KEY.sign(DOCUMENT, "receipt")), "a signature is plain JSON"
