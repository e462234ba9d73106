"""Documents: what the parties of a case sign, one file per signature, each in its one canonical spelling.

A file is ``{"document": ..., "signature": ...}``. Each kind has a purpose of its own, so that a signature made under
one kind of document is worth nothing under another. A document has exactly the fields of its kind: one more, one
less, or one of another type is refused before anybody looks at what it says.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from infra.signing import Signature, SigningKey, canonical_json, key_id_of, parse_canonical
from infra.signing import verify as verify_signature
from schemas.contract import Strict
from schemas.errors import IntegrityError, UsageError
from schemas.review_policy import OpeningPurpose, ReviewPurpose, Side

MOMENT_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
LARGEST_DOCUMENT = 1 << 20
VOUCHED = "request-vouched"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=10**9)]
Code = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Person = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}$")]
Organisation = Annotated[str, Field(pattern=r"^[A-Z0-9]{3,6}$")]
CaseId = Annotated[str, Field(pattern=r"^[a-z]{12}$")]


def stamp(moment: datetime) -> str:
    """A time as documents write it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime(MOMENT_FORMAT)


def moment_of(text: str) -> datetime:
    """The time that :func:`stamp` wrote. Raises :class:`IntegrityError`."""
    try:
        found = datetime.strptime(text, MOMENT_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise IntegrityError("a document holds a time that is none") from None
    if stamp(found) != text:
        raise IntegrityError("a document holds a time in another spelling")
    return found


def _plain(text: str) -> str:
    """Text that looks like what it is: no control or invisible characters, no second spelling of a letter."""
    if unicodedata.normalize("NFC", text) != text:
        raise ValueError("text in another normal form")
    if any(unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn", "Cs") for character in text):
        raise ValueError("text with control or invisible characters")
    return text


def _stamped(text: str) -> str:
    try:
        moment_of(text)
    except IntegrityError:
        raise ValueError("not a time") from None
    return text


def _day(text: str) -> str:
    try:
        if date.fromisoformat(text).isoformat() == text:
            return text
    except ValueError:
        pass
    raise ValueError("not a day")


Plain = Annotated[str, AfterValidator(_plain)]
Stamp = Annotated[str, AfterValidator(_stamped)]
Day = Annotated[str, AfterValidator(_day)]


class Document(Strict):
    """What every signed document says first. ``purpose_of_signature`` is the purpose of :mod:`infra.signing`."""

    signature_purpose: ClassVar[str]

    v: Literal[1] = 1
    case: CaseId


class Predicate(Strict):
    """A named question over the lake, the digest of its file, and its parameters as text."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    sha256: Sha256
    parameters: dict[str, str]


class CohortDelivery(Strict):
    """How many records of the cohort a delivery has, in which vault folder their numbers lie, and in which columns.

    ``columns``: those of the item asked for, empty if the recipient issued no number in this delivery.
    """

    delivery_id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    folder: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    vault_manifest: Sha256
    records: Count
    columns: tuple[str, ...]


class CohortSummary(Strict):
    """What a request says of its cohort. ``digest`` fixes the exact records without naming one."""

    digest: Sha256
    records: Count
    patients: Count
    deliveries: tuple[CohortDelivery, ...]


class Necessity(Strict):
    """The test of the code of practice: step 1 (is it necessary), step 2 (is it proportionate)."""

    why_necessary: Plain
    alternatives_considered: Plain
    why_proportionate: Plain
    objections_considered: Plain


class Acknowledged(Strict):
    """What the requester says with open eyes, and both officers sign with the request."""

    few_patients: bool = False
    more_than_the_cap: bool = False


class Asked(Document):
    """What every request that two officers decide about says: who asks, for what purpose, from when to when, under
    which rules. ``review_recipient``: the key made for this request, to which the officers seal their shares.
    ``vouched``: the pipeline's own signature over everything else in it (:func:`vouch`). An officer's machine releases
    shares to the key and for the columns that a request names, so the requester's signature alone is not enough."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    demo: bool
    requester: Person
    purpose: OpeningPurpose
    agreement: str = Field(min_length=1, max_length=100)
    trigger: Plain
    made_at: Stamp
    not_before: Stamp
    expires: Stamp
    single_use: Literal[True] = True
    policy: Sha256
    register_digest: Sha256
    review_recipient: str = Field(pattern=r"^age1[0-9a-z]+$")
    vouched: dict[str, str] = Field(default_factory=dict)

    @property
    def texts(self) -> dict[str, str]:
        """What the requester wrote: name of the field -> text."""
        return {"trigger": self.trigger}


class Request(Asked):
    """What is asked for. Both officers sign these bytes, so nothing about the list is decided anywhere else."""

    signature_purpose: ClassVar[str] = "case-review-request"

    kind: Literal["case-review-request"] = "case-review-request"
    purpose: ReviewPurpose
    legal_gateway: Code
    recipient: Organisation
    recipient_key: str = Field(min_length=16, max_length=200)
    items: tuple[Code, ...] = Field(min_length=1)
    predicate: Predicate
    cohort: CohortSummary
    lake_state: Sha256
    necessity: Necessity
    acknowledged: Acknowledged
    max_rows: int = Field(ge=1, le=10**6)

    @property
    def texts(self) -> dict[str, str]:
        return {**self.necessity.model_dump(), **super().texts}


class Approval(Document):
    """One officer's yes to the exact bytes of one request, with the shares that this request needs and no others.

    ``shares``: base64 of an age file, sealed to the key pair made for this review.
    """

    signature_purpose: ClassVar[str] = "case-review-approval"

    kind: Literal["case-review-approval"] = "case-review-approval"
    request_sha256: Sha256
    side: Side
    person: Person
    role: Code
    decided_at: Stamp
    shares: str = Field(pattern=r"^[A-Za-z0-9+/=]+$")


class Refusal(Document):
    """One officer's no, which ends the case."""

    signature_purpose: ClassVar[str] = "case-review-refusal"

    kind: Literal["case-review-refusal"] = "case-review-refusal"
    request_sha256: Sha256
    person: Person
    role: Code
    decided_at: Stamp
    reason: Plain


class Withdrawal(Document):
    """The requester does not need it any more."""

    signature_purpose: ClassVar[str] = "case-review-withdrawal"

    kind: Literal["case-review-withdrawal"] = "case-review-withdrawal"
    request_sha256: Sha256
    person: Person
    decided_at: Stamp
    reason: Plain


class Spending(Document):
    """The approvals of a request are used up. Written once per request, before anything is opened."""

    signature_purpose: ClassVar[str] = "case-review-spending"

    kind: Literal["case-review-spending"] = "case-review-spending"
    request_sha256: Sha256
    approvals: tuple[Sha256, ...]
    spent_at: Stamp


class IssueRecord(Document):
    """What was put into the outbox: counts and digests, never a number."""

    signature_purpose: ClassVar[str] = "case-review-issue"

    kind: Literal["case-review-issue"] = "case-review-issue"
    request_sha256: Sha256
    approvals: tuple[Sha256, ...]
    recipient: Organisation
    recipient_key: str
    file: str
    ciphertext_sha256: Sha256
    ciphertext_bytes: Count
    listed: Count
    left_out: dict[str, int]
    issued_at: Stamp
    register_digest: Sha256
    emergency: bool


class Receipt(Document):
    """The hospital opened the file and holds the numbers."""

    signature_purpose: ClassVar[str] = "case-review-receipt"

    kind: Literal["case-review-receipt"] = "case-review-receipt"
    organisation: Organisation
    ciphertext_sha256: Sha256
    listed: Count
    received_at: Stamp


class EmergencyReview(Document):
    """What the Caldicott Guardian found when looking at a use of the emergency procedure."""

    signature_purpose: ClassVar[str] = "case-review-emergency"

    kind: Literal["case-review-emergency"] = "case-review-emergency"
    request_sha256: Sha256
    person: Person
    reviewed_at: Stamp
    finding: Plain


Kind = TypeVar("Kind", bound=Document)
Wanted = TypeVar("Wanted", bound=Asked)
Held = TypeVar("Held", bound=Document, covariant=True)


@dataclass(frozen=True)
class Signed(Generic[Held]):
    """A document as it was found: ``content`` are the exact bytes of its file."""

    document: Held
    signature: Signature
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def key_id(self) -> str:
        """The id of the key that is said to have signed it. Proves nothing before :meth:`verify`."""
        return str(self.signature.get("key_id", ""))

    def verify(self, public: str) -> None:
        """Check that ``public`` signed exactly this. Raises :class:`IntegrityError`."""
        verify_signature(
            as_plain(self.document),
            self.signature,
            type(self.document).signature_purpose,
            {key_id_of(public): public},
        )


def as_plain(document: Document) -> dict[str, Any]:
    """The document as text, numbers, lists and mappings."""
    return document.model_dump(mode="json", by_alias=True)


def write(kind: type[Kind], **fields: Any) -> Kind:
    """A document of ``fields``. Raises :class:`UsageError` for what a document of this kind cannot hold, above all
    text with control or invisible characters; the message repeats none of it."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        names = ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}))
        raise UsageError(
            f"the {kind.signature_purpose.replace('-', ' ')} cannot hold what was given: {names}",
            next_step="type texts as plain text, on one line",
        ) from None


def _to_be_vouched(request: Asked) -> dict[str, Any]:
    plain = as_plain(request)
    del plain["vouched"]
    return plain


def vouch(request: Wanted, key: SigningKey) -> Wanted:
    """The request with the pipeline's signature that it made it, key pair and findings included."""
    return request.model_copy(update={"vouched": key.sign(_to_be_vouched(request), VOUCHED)})


def check_vouched(request: Asked, signers: Mapping[str, str]) -> None:
    """That the pipeline made exactly this request. Raises :class:`IntegrityError`."""
    verify_signature(_to_be_vouched(request), request.vouched, VOUCHED, signers)


def sign(document: Kind, key: SigningKey) -> Signed[Kind]:
    """The signed file of ``document``."""
    plain = as_plain(document)
    signature = key.sign(plain, document.signature_purpose)
    return Signed(document, signature, canonical_json({"document": plain, "signature": signature}))


def parse(content: bytes, kind: type[Kind]) -> Signed[Kind]:
    """The document in ``content``; its signature is not checked here.

    Raises :class:`IntegrityError` for anything but the one canonical spelling of a document of this kind: keys
    twice, trailing bytes, other numbers, fields too many or missing, text with invisible characters.
    """
    what = kind.signature_purpose.replace("-", " ")
    if len(content) > LARGEST_DOCUMENT:
        raise IntegrityError(f"a {what} is not as long as this")
    found = parse_canonical(content)
    if not isinstance(found, Mapping) or set(found) != {"document", "signature"}:
        raise IntegrityError(f"this is no signed {what}")
    plain, signature = found["document"], found["signature"]
    if not isinstance(signature, dict):
        raise IntegrityError(f"this is no signed {what}")
    try:
        document = kind.model_validate_json(canonical_json(plain), strict=True)
    except ValidationError:
        raise IntegrityError(f"the {what} does not have the fields of its kind") from None
    if as_plain(document) != plain:
        raise IntegrityError(f"the {what} does not have the fields of its kind")
    return Signed(document, signature, content)


def case_code(request_id: str) -> str:
    """The short code of a request id: twelve consonants, so that it spells nothing and looks like no number."""
    value = int.from_bytes(hashlib.sha256(b"case\0" + bytes.fromhex(request_id)).digest(), "big")
    letters = []
    for _ in range(12):
        value, place = divmod(value, len(_CONSONANTS))
        letters.append(_CONSONANTS[place])
    return "".join(letters)


_CONSONANTS = "bcdfghjkmnpqrstvwxz"
CASE_ID = re.compile(r"[a-z]{12}")
