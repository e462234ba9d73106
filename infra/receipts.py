"""Receipt: the signed statement of what was landed, from whom, when, and how long it may be kept.

``landing/<delivery>/receipt.json`` is canonical JSON ``{"receipt": {...}, "signature": {...}}``, signed with
the pipeline's manifest key for the purpose ``receipt``. A refused delivery leaves a receipt of refusal
instead, in ``landing/refused/<sha256 of the file as received>.json``, and nothing else. Neither holds
anything of the content; names are the sender's text and go through :func:`safe_name`.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.keyring import Keyring
from infra.signing import SigningKey, canonical_json, parse_canonical, verify
from schemas.errors import IntegrityError
from transforms.identifiers import EMAIL, NHS_NUMBER, PHONE, POSTCODE, scan_text

RECEIPT_PURPOSE = "receipt"
REFUSAL_PURPOSE = "refusal-receipt"
DELIVERY_ID = re.compile(r"[a-z][a-z0-9_]{0,63}-(?:[0-9]{6}|snapshot)-[0-9a-f]{12}")
LONGEST_NAME = 120
# Names of extracts hold request numbers and days, which the stricter kinds would take for an identifier.
_KINDS_IN_NAMES = frozenset({NHS_NUMBER, POSTCODE, EMAIL, PHONE})
_HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._()+-]*")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


def safe_name(name: str) -> str:
    """A sender's file name as it may be kept and shown, else ``sha256-`` and its digest.

    Kept: letters, digits, spaces and ``. _ ( ) + -``, at most 120 characters, nothing that looks like an NHS
    number (ten digits), a postcode, an e-mail address or a phone number. Equal names give equal results.
    """
    if (
        len(name) <= LONGEST_NAME
        and _HARMLESS.fullmatch(name)
        and not re.search(r"[0-9]{9,}", name)
        and not _KINDS_IN_NAMES.intersection(scan_text(name))
    ):
        return name
    return "sha256-" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def moment(time: datetime) -> str:
    """An aware time as receipts write it: UTC, whole seconds, ``Z``."""
    if time.tzinfo is None:
        raise ValueError("a receipt needs a time with its zone")
    seconds = int(time.timestamp())
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    def to_document(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class Digest(_Document):
    """A SHA-256 and a size in bytes."""

    sha256: Sha256
    bytes: int = Field(ge=0)


class Receipt(_Document):
    """What was landed.

    ``name``: the data file's, see :func:`safe_name`. ``content``: of the plaintext. ``received``: of the file
    as it lay in the inbox; ``member`` of ``members`` says which of its data files this is. ``sealed``: of
    ``content.age``, which opens with the private half of ``landing_recipient``; ``sealed_head`` of its first
    512 bytes, see :data:`infra.landing.SEALED_HEAD_BYTES`. ``expected_records``: what a
    control file states. ``replaces``: the SHA-256 of the content that this one is the re-delivery of.
    """

    v: Literal[1] = 1
    delivery_id: Annotated[str, Field(pattern=f"^{DELIVERY_ID.pattern}$")]
    dataset: str
    period: str
    snapshot_date: Day | None
    sender: str | None
    agreement: str
    name: str
    content: Digest
    received: Digest
    member: int = Field(ge=1)
    members: int = Field(ge=1)
    sealed: Digest
    sealed_head: Sha256
    landing_recipient: str
    landing_fingerprint: str
    received_at: Moment
    retain_until: Day
    expected_records: int | None
    replaces: Sha256 | None
    reason: str | None
    tool_version: str

    @property
    def received_on(self) -> date:
        return date.fromisoformat(self.received_at[:10])

    @property
    def retained_until(self) -> date:
        return date.fromisoformat(self.retain_until)


class Refusal(_Document):
    """That a delivery was not taken, and why. ``message`` is the error's, which carries no value."""

    v: Literal[1] = 1
    name: str
    received: Digest
    refused_at: Moment
    code: str
    message: str
    tool_version: str


def fingerprint(recipient: str) -> str:
    """The short name of an age recipient: the first 16 hex characters of its SHA-256."""
    return hashlib.sha256(recipient.encode()).hexdigest()[:16]


def delivery_id(dataset: str, period: str, content_sha256: str) -> str:
    """``<dataset>-<period>-<first 12 hex of the SHA-256 of the plaintext>``."""
    return f"{dataset}-{period}-{content_sha256[:12]}"


def sign_document(document: Receipt | Refusal, key: SigningKey) -> bytes:
    """The signed file of a receipt or refusal, in its canonical spelling."""
    body = document.to_document()
    purpose = RECEIPT_PURPOSE if isinstance(document, Receipt) else REFUSAL_PURPOSE
    return canonical_json({"receipt": body, "signature": key.sign(body, purpose)})


_Kind = TypeVar("_Kind", Receipt, Refusal)
_NO_RECEIPT = "a receipt of the landing zone is missing or is not one"


def load_receipt(path: Path, keyring: Keyring) -> Receipt:
    """Read and verify a receipt. Raises :class:`~schemas.errors.IntegrityError`."""
    return _load(path, keyring.signers("manifest_signing"), Receipt, RECEIPT_PURPOSE)


def read_receipt(content: bytes, signers: dict[str, str]) -> Receipt:
    """Verify a receipt that was read. ``signers``: the accepted signers, key id -> public key. Raises
    :class:`~schemas.errors.IntegrityError`."""
    return _parse(content, signers, Receipt, RECEIPT_PURPOSE)


def load_refusal(path: Path, keyring: Keyring) -> Refusal:
    """Read and verify a receipt of refusal. Raises :class:`~schemas.errors.IntegrityError`."""
    return _load(path, keyring.signers("manifest_signing"), Refusal, REFUSAL_PURPOSE)


def _load(path: Path, signers: dict[str, str], kind: type[_Kind], purpose: str) -> _Kind:
    try:
        content = path.read_bytes()
    except OSError:
        raise IntegrityError(_NO_RECEIPT) from None
    return _parse(content, signers, kind, purpose)


def _parse(content: bytes, signers: dict[str, str], kind: type[_Kind], purpose: str) -> _Kind:
    try:
        document = parse_canonical(content)
        body, signature = document["receipt"], document["signature"]
        if set(document) != {"receipt", "signature"}:
            raise KeyError
    except (KeyError, TypeError):
        raise IntegrityError(_NO_RECEIPT) from None
    verify(body, signature, purpose, signers)
    try:
        return kind.model_validate(body)
    except ValidationError:
        raise IntegrityError("a signed receipt does not have the fields of this version") from None
