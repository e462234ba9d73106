"""The entry: one numbered, chained and signed document of the register of persons, roles and keys.

``keys/register/000001.json`` and so on, each canonical JSON: ``{"entry": {...}, "signatures": [...]}``. The
entry holds its number, the SHA-256 of the whole file before it (64 zeros for the first), its moment, its kind
and the fields of that kind; the signatures are over the entry, with a purpose of their own. So a signature
counts at one place in one register only, and can be made on the signer's own machine.

=======================  ====================================================================================
kind                     what it says
=======================  ====================================================================================
``founded``              the first entry: who is iao, caldicott_guardian and siro, with keys and training
``person_enrolled``      a person, or a further key of one; ``replaces``: the earlier keys of that kind end
``role_granted``         person, role, from, until (empty: open)
``training_recorded``    the day on which a person was trained
``role_ended``           person, role, from (a mover)
``person_left``          person, from (a leaver): every role and key ends
``key_revoked``          person, name of the key, from
``hospital_enrolled``    organisation, age recipient or OpenPGP certificate, key for receipts, declaration
``hospital_revoked``     organisation, from
``share_holder_succeeded``  a change of office: successor, predecessor, office, from
=======================  ====================================================================================

Who has to sign what is in :mod:`infra.register_rules`. Nothing here is a name: persons are staff ids.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from infra.sealing import seal
from infra.signing import Signature, SigningKey, canonical_json, key_id_of, parse_canonical
from schemas.errors import IntegrityError, KeyUnavailable, UsageError
from transforms.identifiers import EMAIL, NHS_NUMBER, refuse_identifiers

SIGNED_FOR = "register-entry"
FIRST_PREV = "0" * 64
VERSION = 1
FOUNDERS = ("caldicott_guardian", "iao", "siro")

_PERSON = re.compile(r"(?=.*[a-z])[a-z0-9][a-z0-9._-]{0,62}[a-z0-9]")
_ROLE = re.compile(r"[a-z][a-z_]{1,40}")
ORGANISATION = re.compile(r"[A-Z0-9]{3,6}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEY_NAME = re.compile(r"[0-9a-f]{16}")
_FINGERPRINT = re.compile(r"[0-9a-f]{16,64}")
_AGE = re.compile(r"age1[02-9ac-hj-np-z]{58}")
_CERTIFICATE = re.compile(r"-----BEGIN PGP PUBLIC KEY BLOCK-----\n[ -~\n]{100,60000}")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ./_-]{2,79}")
# An id or a reference is no place for a number of a patient; dates and hexadecimal may well stand in it.
_KINDS = (NHS_NUMBER, EMAIL)


# Moments and names ------------------------------------------------------------------------------------


def text_of(moment: datetime) -> str:
    """An aware time as entries write it: UTC, whole seconds, ``Z``. Raises :class:`UsageError`."""
    if moment.tzinfo is None:
        raise UsageError("an entry of the register needs a time with its zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_of(text: str) -> datetime:
    """The time that an entry says. Raises :class:`IntegrityError`."""
    if not _MOMENT.fullmatch(text):
        raise IntegrityError("an entry of the register holds no time where one belongs")
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise IntegrityError("an entry of the register holds no time where one belongs") from None


def key_name(public: str) -> str:
    """The 16 hex characters by which a key is named: of an age recipient, or of an Ed25519 public key."""
    if _AGE.fullmatch(public):
        return hashlib.sha256(public.encode()).hexdigest()[:16]
    return key_id_of(public)


# The fields of each kind ------------------------------------------------------------------------------


def _matching(pattern: re.Pattern[str], *, empty: bool = False) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        if not isinstance(value, str):
            return False
        if not value:
            return empty
        if not pattern.fullmatch(value):
            return False
        if pattern in (_PERSON, _REFERENCE):
            refuse_identifiers(value, "an id in the register", kinds=_KINDS)
        return True

    return fits


def _is_moment(value: Any) -> bool:
    return isinstance(value, str) and moment_of(value) is not None


def _is_moment_or_empty(value: Any) -> bool:
    return value == "" or _is_moment(value)


def _is_day(value: Any) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_signing_key(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_signing_key_or_empty(value: Any) -> bool:
    return value == "" or _is_signing_key(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_key_kind(value: Any) -> bool:
    return value in ("age", "openpgp")


def _is_encryption_key(value: Any) -> bool:
    return isinstance(value, str) and bool(_AGE.fullmatch(value) or _CERTIFICATE.fullmatch(value))


def _are_founders(value: Any) -> bool:
    fields = FOUNDER_FIELDS
    return (
        isinstance(value, list)
        and all(isinstance(founder, dict) and set(founder) == set(fields) for founder in value)
        and all(check(founder[name]) for founder in value for name, check in fields.items())
    )


_person = _matching(_PERSON)
_role = _matching(_ROLE)
_organisation = _matching(ORGANISATION)

FOUNDER_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "person": _person,
    "role": _role,
    "recipient": _matching(_AGE, empty=True),
    "signing_public": _is_signing_key,
    "trained_on": _is_day,
}
FIELDS: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "founded": {"demo": _is_flag, "founders": _are_founders},
    "person_enrolled": {
        "person": _person,
        "recipient": _matching(_AGE, empty=True),
        "signing_public": _is_signing_key_or_empty,
        "replaces": _is_flag,
    },
    "role_granted": {"person": _person, "role": _role, "from": _is_moment, "until": _is_moment_or_empty},
    "training_recorded": {"person": _person, "on": _is_day},
    "role_ended": {"person": _person, "role": _role, "from": _is_moment},
    "person_left": {"person": _person, "from": _is_moment},
    "key_revoked": {"person": _person, "key": _matching(_KEY_NAME), "from": _is_moment},
    "hospital_enrolled": {
        "organisation": _organisation,
        "key_kind": _is_key_kind,
        "recipient": _is_encryption_key,
        "fingerprint": _matching(_FINGERPRINT),
        "signing_public": _is_signing_key,
        "declaration": _matching(_REFERENCE),
    },
    "hospital_revoked": {"organisation": _organisation, "from": _is_moment},
    "share_holder_succeeded": {
        "person": _person,
        "predecessor": _person,
        "role": _role,
        "from": _is_moment,
    },
}
_HEAD = ("v", "number", "prev", "at", "kind")


def object_of(entry: Mapping[str, Any]) -> str:
    """What an entry is about, for the audit log: a person, an organisation, or the register."""
    return str(entry.get("person") or entry.get("organisation") or "register")


# The entry --------------------------------------------------------------------------------------------


def make_entry(number: int, prev: str, at: datetime, kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The document to be signed. ``fields``: those of ``kind``; moments as :func:`text_of` writes them.

    Raises :class:`UsageError` for fields of another shape, :class:`~schemas.errors.IdentifierInText` for an id
    that looks like an identifier.
    """
    entry = {"v": VERSION, "number": number, "prev": prev, "at": text_of(at), "kind": kind, **fields}
    try:
        _refuse_shape(entry)
    except IntegrityError as error:
        raise UsageError(error.message) from None
    return entry


def _refuse_shape(entry: Any) -> None:
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
        raise IntegrityError("an entry of the register is not an entry")
    kind = entry["kind"]
    checks = FIELDS.get(kind)
    if checks is None:
        raise IntegrityError("an entry of the register is of an unknown kind")
    if set(entry) != {*_HEAD, *checks}:
        raise IntegrityError(f"an entry of the register ({kind}) lacks a field, or has one too many")
    head_fits = (
        entry["v"] == VERSION
        and type(entry["number"]) is int
        and entry["number"] > 0
        and _is_signing_key(entry["prev"])
        and _is_moment(entry["at"])
    )
    if not head_fits:
        raise IntegrityError("an entry of the register has another head than entries have")
    for name, check in checks.items():
        if not check(entry[name]):
            raise IntegrityError(f"the field {name} of an entry of the register ({kind}) has another shape")


@dataclass(frozen=True)
class SignedEntry:
    """An entry with the signatures it has so far, each ``{"key_id", "signature"}``, one of a key."""

    entry: Mapping[str, Any]
    signatures: tuple[Signature, ...] = ()

    @property
    def number(self) -> int:
        return int(self.entry["number"])

    @property
    def at(self) -> datetime:
        return moment_of(self.entry["at"])

    @property
    def kind(self) -> str:
        return str(self.entry["kind"])

    @property
    def digest(self) -> str:
        """SHA-256, hex, of the file that this is: what the next entry names as the one before it."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def sign(self, *keys: SigningKey) -> SignedEntry:
        """The entry with the signatures of ``keys`` as well. A key that has signed signs once."""
        signed = {signature["key_id"] for signature in self.signatures}
        added = {
            key.key_id: key.sign(dict(self.entry), SIGNED_FOR) for key in keys if key.key_id not in signed
        }
        signatures = sorted((*self.signatures, *added.values()), key=lambda signature: signature["key_id"])
        return SignedEntry(self.entry, tuple(signatures))

    def to_bytes(self) -> bytes:
        return canonical_json({"entry": dict(self.entry), "signatures": list(self.signatures)})

    @classmethod
    def parse(cls, content: bytes) -> SignedEntry:
        """Raises :class:`IntegrityError` if ``content`` is no such document; signatures are not checked."""
        document = parse_canonical(content)
        if (
            not isinstance(document, dict)
            or set(document) != {"entry", "signatures"}
            or not isinstance(document["signatures"], list)
        ):
            raise IntegrityError("this is not an entry of the register")
        _refuse_shape(document["entry"])
        signatures = tuple(document["signatures"])
        names = []
        for signature in signatures:
            if not isinstance(signature, dict) or not isinstance(signature.get("key_id"), str):
                raise IntegrityError("a signature of an entry of the register is no signature")
            names.append(signature["key_id"])
        if names != sorted(set(names)):
            raise IntegrityError("an entry of the register is signed twice by one key, or out of order")
        return cls(document["entry"], signatures)


# Keys that an entry brings ----------------------------------------------------------------------------


def refuse_useless_keys(entry: Mapping[str, Any]) -> None:
    """Raise :class:`KeyUnavailable` if something could not be sealed to a key that ``entry`` brings.

    Done once, when an entry is added: a share sealed to such a key would be lost.
    """
    if entry["kind"] == "founded":
        for founder in entry["founders"]:
            _refuse_useless(founder["recipient"])
    elif entry["kind"] == "person_enrolled":
        _refuse_useless(entry["recipient"])
    elif entry["kind"] == "hospital_enrolled":
        if (entry["key_kind"] == "age") != bool(_AGE.fullmatch(entry["recipient"])):
            raise KeyUnavailable("the hospital's key is not of the kind that the entry says")
        if entry["key_kind"] == "age":
            _refuse_useless(entry["recipient"])
            found = key_name(entry["recipient"])
        else:
            found = certificate_fingerprint(entry["recipient"])
        if found != entry["fingerprint"]:
            raise KeyUnavailable("the hospital's key has another fingerprint than the entry says")


def _refuse_useless(recipient: str) -> None:
    if recipient:
        seal(b"", recipient)


def certificate_fingerprint(certificate: str) -> str:
    """Fingerprint, lower-case hex, of an armored OpenPGP certificate to which something can be sealed.

    Raises :class:`KeyUnavailable` for anything else, above all for a private key.
    """
    import pysequoia

    if not _CERTIFICATE.fullmatch(certificate):
        raise KeyUnavailable("this is not an armored OpenPGP certificate (public key)")
    try:
        found = pysequoia.Cert.from_bytes(certificate.encode())
        pysequoia.encrypt(recipients=[found], bytes=b"a trial", armor=False)
        return str(found.fingerprint).lower()
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise KeyUnavailable("nothing can be sealed to this OpenPGP certificate") from None
