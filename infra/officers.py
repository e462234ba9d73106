"""Officers: the persons whose keys count, and the public register of them.

``keys/officers.json`` lists, for each role, who holds it and with which public keys: an age recipient to
which vault shares and landing recovery shares are sealed, and an Ed25519 key with which that person signs.
Private halves belong on the officers' own machines and never into a workspace. The one exception is the
demonstration, where :func:`create_demo_officers` makes them under ``officers/`` and the register says
``"demo": true``.

Roles (governance, section 1.5): the Caldicott Guardian and the SIRO each hold one of the two shares, and so
do their deputies; the information asset owner signs destruction orders with the SIRO; the release manager
releases a public set; analyst, data engineer and auditor are persons who ask, run and check. One natural
person is one ``person``, and four eyes counts persons, never keys.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from infra.files import make_folder, write_atomic
from infra.keyring import read_key_file
from infra.sealing import SecretText, new_identity
from infra.signing import SigningKey, canonical_json, key_id_of, parse_canonical
from schemas.errors import IntegrityError, KeyUnavailable, UsageError

REGISTER_FILE = "officers.json"
IDENTITY_FILE = "identity.age-key"
SIGNING_FILE = "signing.ed25519-key"

ShareRole = Literal["guardian", "siro"]
SHARE_ROLES: tuple[ShareRole, ShareRole] = ("guardian", "siro")
DEPUTY_OF: Mapping[str, ShareRole] = {"deputy_guardian": "guardian", "deputy_siro": "siro"}
ROLES = (
    "guardian",
    "deputy_guardian",
    "siro",
    "deputy_siro",
    "information_asset_owner",
    "release_manager",
    "analyst",
    "data_engineer",
    "auditor",
)
HOLDS_SHARES = frozenset({*SHARE_ROLES, *DEPUTY_OF})


@dataclass(frozen=True)
class Officer:
    """One person in one role. ``recipient`` is empty for roles that hold no share."""

    role: str
    person: str
    recipient: str
    signing_public: str
    trained_on: str

    @property
    def key_id(self) -> str:
        return key_id_of(self.signing_public)


@dataclass(frozen=True)
class Officers:
    """The register. ``demo`` registers never stand for real persons or a real agreement."""

    demo: bool
    by_role: Mapping[str, Officer]

    @classmethod
    def load(cls, keys_folder: Path) -> Officers:
        """Read ``officers.json``.

        Raises :class:`KeyUnavailable` if it cannot be read, and :class:`IntegrityError` if it is no register,
        lacks one of the two officers, or lets one person hold both shares: then one person alone could open
        the vault.
        """
        try:
            content = (keys_folder / REGISTER_FILE).read_bytes()
        except OSError:
            raise KeyUnavailable(
                "the register of officers (keys/officers.json) cannot be read",
                next_step="enrol the Caldicott Guardian and the SIRO with `wardwatch keys enrol`",
            ) from None
        return cls.parse(parse_canonical(content))

    @classmethod
    def parse(cls, document: Any) -> Officers:
        try:
            officers = cls(
                document["demo"] is True,
                {
                    role: Officer(
                        role,
                        entry["person"],
                        entry["recipient"],
                        entry["signing_public"],
                        entry["trained_on"],
                    )
                    for role, entry in document["officers"].items()
                },
            )
        except (KeyError, TypeError, AttributeError):
            raise IntegrityError("keys/officers.json is not a register of officers") from None
        officers._refuse_one_person_with_both_shares()
        return officers

    def _refuse_one_person_with_both_shares(self) -> None:
        holders = {role: self._holders(role) for role in SHARE_ROLES}
        for role, entries in holders.items():
            if role not in self.by_role or not all(entry.recipient for entry in entries):
                raise IntegrityError(f"the register of officers has no usable {role}")
        guardians, siros = holders["guardian"], holders["siro"]
        if {entry.person for entry in guardians} & {entry.person for entry in siros} or {
            entry.recipient for entry in guardians
        } & {entry.recipient for entry in siros}:
            raise IntegrityError("the register of officers lets one person hold both shares")

    def _holders(self, role: ShareRole) -> list[Officer]:
        return [entry for name, entry in self.by_role.items() if name == role or DEPUTY_OF.get(name) == role]

    def recipients(self, role: ShareRole) -> tuple[str, ...]:
        """The age recipients of ``role`` and of its deputy, the officer first."""
        entries = sorted(self._holders(role), key=lambda entry: entry.role != role)
        return tuple(entry.recipient for entry in entries)

    def officer(self, role: str) -> Officer:
        try:
            return self.by_role[role]
        except KeyError:
            raise KeyUnavailable(f"nobody is enrolled as {role.replace('_', ' ')}") from None

    def to_document(self) -> dict[str, Any]:
        return {
            "v": 1,
            "demo": self.demo,
            "note": "DEMONSTRATION KEYS: no real person, no real agreement" if self.demo else "",
            "officers": {
                role: {
                    "person": entry.person,
                    "recipient": entry.recipient,
                    "signing_public": entry.signing_public,
                    "trained_on": entry.trained_on,
                }
                for role, entry in self.by_role.items()
            },
        }

    def save(self, keys_folder: Path) -> None:
        """Write the register, after the same checks that :meth:`load` makes."""
        self._refuse_one_person_with_both_shares()
        write_atomic(make_folder(keys_folder) / REGISTER_FILE, canonical_json(self.to_document()))


def load_identity(path: Path) -> SecretText:
    """An officer's private age key, from a file that only the officer can read. :class:`KeyUnavailable`."""
    return read_key_file(path, "the officer's key file")


def load_signing_key(path: Path) -> SigningKey:
    """An officer's private signing key (64 hex characters). Raises :class:`KeyUnavailable`."""
    text = read_key_file(path, "the officer's signing key file")
    try:
        secret = bytes.fromhex(str.__str__(text))
    except ValueError:
        raise KeyUnavailable(f"{path.name} does not hold a signing key") from None
    return SigningKey.load(secret)


def create_demo_officers(workspace: Path, *, trained_on: date) -> Officers:
    """Make demonstration keys for every role and the register that lists them.

    Writes ``officers/<role>/signing.ed25519-key`` (64 hex characters), for the four holders of shares also
    ``officers/<role>/identity.age-key``, each folder for its owner only, and ``keys/officers.json``, marked
    as a demonstration. ``trained_on`` is the date of training that the register states.

    Raises :class:`UsageError` if there is a register already: real officers are never replaced.
    """
    if (workspace / "keys" / REGISTER_FILE).exists():
        raise UsageError("this workspace has a register of officers already")
    entries = {}
    for role in ROLES:
        folder = make_folder(workspace / "officers" / role)
        os.chmod(folder, 0o700)
        recipient = ""
        if role in HOLDS_SHARES:
            secret, recipient = new_identity()
            header = f"# DEMONSTRATION KEY of the role {role}\n# public key: {recipient}\n"
            write_atomic(folder / IDENTITY_FILE, header.encode() + str.encode(secret) + b"\n")
        signing = SigningKey.create()
        write_atomic(folder / SIGNING_FILE, signing.secret_bytes().hex().encode() + b"\n")
        person = "demo-" + role.replace("_", "-")
        entries[role] = Officer(role, person, recipient, signing.public, trained_on.isoformat())
    officers = Officers(demo=True, by_role=entries)
    officers.save(workspace / "keys")
    return officers
