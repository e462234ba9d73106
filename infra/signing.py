"""Signatures: Ed25519 over canonical JSON, detached, each with the purpose it was made for.

Canonical JSON here means: keys sorted, no spaces, UTF-8, no number but whole ones, no key twice. A document
has exactly one spelling, so two parties who sign "the same" sign the same bytes. The purpose
(``vault-manifest``, ``receipt``, ``audit-checkpoint``, ``approval``) stands in front of the signed bytes: a
signature made for one kind of document is not valid for another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from infra.sealing import SecretBytes
from schemas.errors import IntegrityError, KeyUnavailable, UsageError

# An ECMAScript reader keeps whole numbers exact up to this size; larger ones are written as text.
LARGEST_NUMBER = 2**53 - 1
SIGNED_PREFIX = b"wardwatch-signed-v1\0"
_PURPOSE = re.compile(r"[a-z][a-z0-9-]*")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")

Signature = dict[str, str]


# Canonical JSON --------------------------------------------------------------------------------------------


def _refuse_unfit(value: object) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise UsageError("a signed document has text as keys")
            _refuse_unfit(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_unfit(item)
    elif isinstance(value, int):
        if abs(value) > LARGEST_NUMBER:
            raise UsageError("a signed document holds no number beyond 2^53 - 1: write it as text")
    elif value is not None and not isinstance(value, str):
        raise UsageError(f"a signed document holds no {type(value).__name__}")


def canonical_json(document: object) -> bytes:
    """The one spelling of ``document``: dicts with text keys, lists, text, whole numbers, true, false, null.

    Raises :class:`UsageError` for anything else (floats above all, whose spelling differs between languages).
    """
    _refuse_unfit(document)
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UsageError("a signed document holds text that UTF-8 cannot hold") from None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise IntegrityError("a document holds the same key twice")
    return document


def _no_float(_: str) -> NoReturn:
    raise IntegrityError("a document holds a number that is not whole")


def parse_canonical(content: bytes) -> Any:
    """The document that ``content`` spells. Raises :class:`IntegrityError` if it is not canonical JSON.

    Refused: keys twice, floats, NaN, trailing bytes, spaces, other key order, other escapes. What was parsed
    is spelled again and must give the same bytes.
    """
    try:
        document = json.loads(
            content.decode(),
            object_pairs_hook=_no_key_twice,
            parse_float=_no_float,
            parse_constant=_no_float,
        )
        same = canonical_json(document) == content
    except (ValueError, RecursionError, UsageError):
        raise IntegrityError("a document is not canonical JSON") from None
    if not same:
        raise IntegrityError("a document is not in its canonical spelling")
    return document


# Keys and signatures ---------------------------------------------------------------------------------------


def key_id_of(public: str) -> str:
    """The short name of a public key: the first 16 hex characters of its SHA-256."""
    return hashlib.sha256(_public_bytes(public)).hexdigest()[:16]


def _public_bytes(public: str) -> bytes:
    try:
        content = bytes.fromhex(public)
    except ValueError:
        content = b""
    if len(content) != 32:
        raise KeyUnavailable("this is not a public signing key (64 hex characters)")
    return content


def _message(document: object, purpose: str) -> bytes:
    if not _PURPOSE.fullmatch(purpose):
        raise UsageError("a signature's purpose is lower-case words joined by hyphens")
    return SIGNED_PREFIX + purpose.encode() + b"\0" + canonical_json(document)


@dataclass(frozen=True)
class SigningKey:
    """A private Ed25519 key. Printing it shows its id alone.

    Take it from :meth:`create` or :meth:`load`; ``public`` is its public half as 64 hex characters,
    ``key_id`` the name by which signatures refer to it.
    """

    _key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def create(cls) -> SigningKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, secret: bytes) -> SigningKey:
        """From the 32 bytes of :meth:`secret_bytes`. Raises :class:`KeyUnavailable`."""
        if len(secret) != 32:
            raise KeyUnavailable("this is not a private signing key")
        return cls(Ed25519PrivateKey.from_private_bytes(bytes(secret)))

    def secret_bytes(self) -> SecretBytes:
        return SecretBytes(self._key.private_bytes_raw())

    @property
    def public(self) -> str:
        return self._key.public_key().public_bytes_raw().hex()

    @property
    def key_id(self) -> str:
        return key_id_of(self.public)

    def sign(self, document: object, purpose: str) -> Signature:
        """A detached signature ``{"key_id", "signature"}`` over the canonical bytes of ``document``."""
        return {"key_id": self.key_id, "signature": self._key.sign(_message(document, purpose)).hex()}

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id})"


def verify(
    document: object, signature: Mapping[str, object], purpose: str, public_keys: Mapping[str, str]
) -> str:
    """Check a detached signature and return the id of the key that made it.

    ``public_keys`` maps key ids to public keys and holds exactly the signers that the caller accepts here.
    Raises :class:`IntegrityError` for an unknown signer, a changed document, another purpose, or a signature
    object that is not one.
    """
    key_id, text = signature.get("key_id"), signature.get("signature")
    if (
        set(signature) != {"key_id", "signature"}
        or not isinstance(key_id, str)
        or not isinstance(text, str)
        or not _SIGNATURE.fullmatch(text)
    ):
        raise IntegrityError(f"the signature ({purpose}) is not a signature object")
    public = public_keys.get(key_id)
    if public is None or key_id_of(public) != key_id:
        raise IntegrityError(
            f"the signature ({purpose}) is by a key that is not accepted here",
            next_step="compare the key id with `wardwatch keys list`",
        )
    try:
        key = Ed25519PublicKey.from_public_bytes(_public_bytes(public))
        key.verify(bytes.fromhex(text), _message(document, purpose))
    except (InvalidSignature, ValueError):
        raise IntegrityError(
            f"the signature ({purpose}) does not fit the document: one of them was changed"
        ) from None
    return key_id
