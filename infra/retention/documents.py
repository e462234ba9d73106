"""Documents: what is signed about keeping and destroying, each file in its one canonical spelling.

A file is ``{"document": ..., "signatures": [...]}``, the signatures in the order of their key ids, one of a key. Each
kind has a purpose of its own, so a signature made under one kind is worth nothing under another. A document has
exactly the fields of its kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field, ValidationError

from infra.review.documents import Code, Count, Day, Person, Plain, Sha256, Stamp
from infra.signing import Signature, SigningKey, canonical_json, key_id_of, parse_canonical
from infra.signing import verify as verify_signature
from schemas.contract import Strict
from schemas.errors import IntegrityError

LARGEST = 64 << 20  # a certificate names every key of every part that went

DeliveryId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}-(?:[0-9]{6}|snapshot)-[0-9a-f]{12}$")]
OrderId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Ground = Literal["retention_ended", "superseded", "before_its_time"]


class RetentionDocument(Strict):
    """What every document says first. ``signature_purpose`` is the purpose of :mod:`infra.signing`."""

    signature_purpose: ClassVar[str]

    v: Literal[1] = 1


class OrderedDelivery(Strict):
    """One delivery to be destroyed. ``ground``: why now; ``until``: the last day on which it had to be kept.

    ``vault``: folder -> SHA-256 of its manifest, empty without identifiable items.
    """

    delivery_id: DeliveryId
    dataset: str
    period: str
    ground: Ground
    until: Day
    content_sha256: Sha256
    vault: dict[str, Sha256]


class Order(RetentionDocument):
    """What two persons order to be destroyed, and nothing else."""

    signature_purpose: ClassVar[str] = "destruction-order"

    kind: Literal["destruction-order"] = "destruction-order"
    id: OrderId
    demo: bool
    agreement: str = Field(min_length=1, max_length=100)
    deliveries: tuple[OrderedDelivery, ...] = Field(min_length=1)
    reason: Plain
    made_at: Stamp
    expires: Stamp
    register_digest: Sha256


class Hold(RetentionDocument):
    """Litigation or an open case: nothing of this delivery is destroyed until the hold is lifted."""

    signature_purpose: ClassVar[str] = "retention-hold"

    kind: Literal["retention-hold"] = "retention-hold"
    delivery_id: DeliveryId
    person: Person
    reason: Plain
    made_at: Stamp
    lifts: Sha256 | None = None
    """None: the hold begins. Else the digest of the hold that ends."""


class Withdrawal(RetentionDocument):
    """This delivery is used in no further run. What was published of it stays."""

    signature_purpose: ClassVar[str] = "retention-withdrawal"

    kind: Literal["retention-withdrawal"] = "retention-withdrawal"
    delivery_id: DeliveryId
    person: Person
    reason: Plain
    made_at: Stamp


class Tombstone(RetentionDocument):
    """A delivery that is gone, or is going: from this entry on there is no way back."""

    signature_purpose: ClassVar[str] = "retention-tombstone"

    kind: Literal["retention-tombstone"] = "retention-tombstone"
    number: int = Field(ge=1)
    prev: Sha256
    delivery_id: DeliveryId
    order_id: OrderId
    order_sha256: Sha256
    made_at: Stamp


class VaultEvidence(Strict):
    """A vault folder. ``keys``: issuer -> key name -> digest of the key; ``parts``, ``shares``: path -> SHA-256."""

    folder: str
    manifest_sha256: Sha256
    parts: dict[str, Sha256]
    shares: dict[str, Sha256]
    keys: dict[str, dict[str, Sha256]]


class LandingEvidence(Strict):
    """A landed delivery. ``key``: fingerprint of its own key pair; ``holders``: who could open it."""

    receipt_sha256: Sha256
    container_sha256: Sha256
    container_bytes: Count
    key: str
    holders: tuple[str, ...]


class LakeEvidence(Strict):
    """Data files of the lake: path -> SHA-256 of the file's key. ``tables``: those whose states went."""

    tables: tuple[str, ...]
    files: dict[str, Sha256]


class DeliveryEvidence(Strict):
    """Everything that was there of a delivery before its destruction: names and digests, never a key or a value."""

    delivery_id: DeliveryId
    content_sha256: Sha256
    landing: LandingEvidence | None
    vault: tuple[VaultEvidence, ...]
    linkage_sha256: Sha256 | None
    lake: LakeEvidence
    cases: tuple[str, ...]


class Evidence(RetentionDocument):
    """What an order found, written down before the first byte goes. ``again``: counts destructions of one order,
    which is carried out once more when a backup brought something back."""

    signature_purpose: ClassVar[str] = "destruction-evidence"

    kind: Literal["destruction-evidence"] = "destruction-evidence"
    order_id: OrderId
    order_sha256: Sha256
    again: int = Field(ge=0)
    person: Person
    role: Code
    begun_at: Stamp
    deliveries: tuple[DeliveryEvidence, ...]


class Attempt(Strict):
    """How often something tried to open what was left after the keys were gone. It never opened."""

    what: str
    tried: Count
    opened: Literal[0] = 0


class OrderedBy(Strict):
    person: Person
    role: Code
    key_id: str = Field(pattern=r"^[0-9a-f]{16}$")


class Certificate(RetentionDocument):
    """What is gone, by whose order, how, and what else has to go. Signed by the pipeline, which did it."""

    signature_purpose: ClassVar[str] = "destruction-certificate"

    kind: Literal["destruction-certificate"] = "destruction-certificate"
    order_id: OrderId
    order_sha256: Sha256
    again: int = Field(ge=0)
    demo: bool
    ordered_by: tuple[OrderedBy, ...]
    carried_out_by: Person
    carried_out_as: Code
    begun_at: Stamp
    finished_at: Stamp
    destroyed: tuple[DeliveryEvidence, ...]
    tombstones: tuple[int, ...]
    method: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    remains: tuple[str, ...]
    backups: tuple[str, ...]


class Witnessed(RetentionDocument):
    """A person who did not order it has looked at a certificate and at what it speaks of."""

    signature_purpose: ClassVar[str] = "destruction-witness"

    kind: Literal["destruction-witness"] = "destruction-witness"
    certificate_sha256: Sha256
    person: Person
    witnessed_at: Stamp


Kind = TypeVar("Kind", bound=RetentionDocument)


def as_plain(document: RetentionDocument) -> dict[str, Any]:
    """The document as text, numbers, lists and mappings."""
    return document.model_dump(mode="json")


@dataclass(frozen=True)
class Signed(Generic[Kind]):
    """A document with the signatures that it has so far."""

    document: Kind
    signatures: tuple[Signature, ...] = ()

    def sign(self, *keys: SigningKey) -> Signed[Kind]:
        """The document with the signatures of ``keys`` as well. A key that has signed signs once."""
        there = {signature["key_id"]: signature for signature in self.signatures}
        for key in keys:
            if key.key_id not in there:
                there[key.key_id] = key.sign(as_plain(self.document), self.document.signature_purpose)
        return Signed(self.document, tuple(there[key_id] for key_id in sorted(there)))

    @property
    def content(self) -> bytes:
        return canonical_json({"document": as_plain(self.document), "signatures": list(self.signatures)})

    @property
    def sha256(self) -> str:
        """SHA-256, hex, of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def body_sha256(self) -> str:
        """SHA-256, hex, of the document alone: the same whoever has signed so far."""
        return hashlib.sha256(canonical_json(as_plain(self.document))).hexdigest()

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of the keys that are said to have signed. Proves nothing before :meth:`verify`."""
        return tuple(signature["key_id"] for signature in self.signatures)

    def verify(self, public_keys: Mapping[str, str]) -> None:
        """Check every signature; ``public_keys`` maps the accepted key ids to public keys.

        Raises :class:`IntegrityError`, also if there is none.
        """
        what = self.document.signature_purpose.replace("-", " ")
        if not self.signatures:
            raise IntegrityError(f"a {what} is not signed")
        for signature in self.signatures:
            verify_signature(as_plain(self.document), signature, self.document.signature_purpose, public_keys)

    def fits(self, public_keys: Mapping[str, str]) -> bool:
        """Whether :meth:`verify` finds nothing wrong."""
        try:
            self.verify(public_keys)
        except IntegrityError:
            return False
        return True

    def verify_by(self, public: str) -> None:
        """Check that ``public``, and nobody else, signed this."""
        self.verify({key_id_of(public): public})


def parse(content: bytes, kind: type[Kind]) -> Signed[Kind]:
    """The document in ``content``; signatures are not checked here.

    Raises :class:`IntegrityError` for anything but the one canonical spelling of a document of this kind.
    """
    what = kind.signature_purpose.replace("-", " ")
    if len(content) > LARGEST:
        raise IntegrityError(f"a {what} is not as long as this")
    found = parse_canonical(content)
    if not isinstance(found, dict) or set(found) != {"document", "signatures"}:
        raise IntegrityError(f"this is no signed {what}")
    plain, signatures = found["document"], found["signatures"]
    if not isinstance(signatures, list) or not all(
        isinstance(signature, dict) and isinstance(signature.get("key_id"), str) for signature in signatures
    ):
        raise IntegrityError(f"this is no signed {what}")
    names = [signature["key_id"] for signature in signatures]
    if names != sorted(set(names)):
        raise IntegrityError(f"a {what} is signed twice by one key, or out of order")
    try:
        document = kind.model_validate_json(canonical_json(plain), strict=True)
    except ValidationError:
        raise IntegrityError(f"the {what} does not have the fields of its kind") from None
    if as_plain(document) != plain:
        raise IntegrityError(f"the {what} does not have the fields of its kind")
    return Signed(document, tuple(signatures))


def read(path: Path, kind: type[Kind]) -> Signed[Kind]:
    """:func:`parse` of the file at ``path``. Raises :class:`IntegrityError` if it cannot be read as well."""
    try:
        content = path.read_bytes()
    except OSError:
        raise IntegrityError(f"a {kind.signature_purpose.replace('-', ' ')} cannot be read") from None
    return parse(content, kind)
