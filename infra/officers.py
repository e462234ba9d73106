"""Officers: the persons in office at a moment, with the public keys to which shares are sealed.

A view over the register (:mod:`infra.register`) for those who seal and sign: landing, vault and release. The Caldicott
Guardian and the SIRO each hold one of the two shares, and so do their deputies. A share is sealed to whoever is *in
office*; whether the training is in date decides what a person may do with it, not whether it is kept for the office.

Private halves belong on the officers' own machines and never into a workspace. The one exception is the
demonstration, where :func:`create_demo_officers` makes them under ``officers/<role>/`` and the register says
``"demo": true``; :func:`refuse_private_keys` finds them everywhere else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Literal

from infra.audit import AuditLog
from infra.files import make_folder, write_atomic
from infra.keyring import read_key_file
from infra.purposes import load_roles
from infra.register import REGISTER, Register, found
from infra.register_entries import FIRST_PREV, FOUNDERS, SignedEntry, make_entry, text_of
from infra.register_state import DEPUTIES, SHARE_OF
from infra.sealing import SecretText, new_identity, public_of
from infra.signing import SigningKey, key_id_of
from schemas.errors import IntegrityError, KeyUnavailable, UsageError

IDENTITY_FILE = "identity.age-key"
SIGNING_FILE = "signing.ed25519-key"

ShareRole = Literal["guardian", "siro"]
SHARE_ROLES: tuple[ShareRole, ShareRole] = ("guardian", "siro")
OFFICE: Mapping[ShareRole, tuple[str, str]] = {
    "guardian": ("caldicott_guardian", "deputy_caldicott_guardian"),
    "siro": ("siro", "deputy_siro"),
}
"""Share -> the office that holds it, and its deputy."""

DEMO_DEPUTYSHIP = timedelta(days=3650)


def staff_roles() -> tuple[str, ...]:
    """The codes of the roles that persons hold, as in roles.yaml."""
    return tuple(code for code, role in load_roles().items() if role.kind == "staff")


@dataclass(frozen=True)
class Officer:
    """One person in one role. ``recipient`` is empty for a person without an age key."""

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
    """Who is in office at one moment. ``demo`` registers never stand for real persons or a real agreement.

    There is none without a holder of each share, nor one in which one person or one key holds both.
    """

    demo: bool
    by_role: Mapping[str, Officer]
    deputies: Mapping[ShareRole, tuple[Officer, ...]] = field(default_factory=dict)

    @classmethod
    def load(cls, keys_folder: Path, at: datetime | None = None) -> Officers:
        """Who is in office at ``at``: by default now, or at the newest entry if that is later (a clock behind
        the register is a wrong clock).

        Raises :class:`KeyUnavailable` if there is no register or one of the two officers is missing, and
        :class:`IntegrityError` if the register is not what was entered.
        """
        return cls.of(Register.load(keys_folder), at)

    @classmethod
    def of(cls, register: Register, at: datetime | None = None) -> Officers:
        """As :meth:`load`, of a register at hand."""
        moment = max(at or datetime.now(UTC), register.entries[-1].at)
        in_office = {role: _in_office(register, role, moment) for role in staff_roles()}
        return cls(
            demo=register.demo,
            by_role={role: holders[0] for role, holders in in_office.items() if holders},
            deputies={share: in_office[OFFICE[share][1]] for share in SHARE_ROLES},
        )

    def __post_init__(self) -> None:
        # The register's rules hold this already. Whoever seals looks once more, because what is sealed stays so.
        holders = {share: self._holders(share) for share in SHARE_ROLES}
        for share, officers in holders.items():
            office = OFFICE[share][0].replace("_", " ")
            if OFFICE[share][0] not in self.by_role or not all(officer.recipient for officer in officers):
                raise KeyUnavailable(
                    f"the office of {office} is vacant, or its holder has no key in force",
                    next_step="`wardwatch keys list` shows the offices, `wardwatch keys grant` fills one",
                )
        guardians, siros = holders["guardian"], holders["siro"]
        if {officer.person for officer in guardians} & {officer.person for officer in siros} or {
            officer.recipient for officer in guardians
        } & {officer.recipient for officer in siros}:
            raise IntegrityError("the register lets one person hold both shares")

    def _holders(self, share: ShareRole) -> list[Officer]:
        first = self.by_role.get(OFFICE[share][0])
        return [*([first] if first else []), *self.deputies.get(share, ())]

    def recipients(self, share: ShareRole) -> tuple[str, ...]:
        """The age recipients of the holder of ``share`` and of the deputies in office, the holder first."""
        return tuple(officer.recipient for officer in self._holders(share))

    def officer(self, role: str) -> Officer:
        """The (first) holder of ``role``. Raises :class:`KeyUnavailable` if there is none."""
        try:
            return self.by_role[role]
        except KeyError:
            raise KeyUnavailable(f"nobody is enrolled as {role.replace('_', ' ')}") from None


def _in_office(register: Register, role: str, at: datetime) -> tuple[Officer, ...]:
    return tuple(
        Officer(
            role,
            person.person,
            person.recipient,
            person.signing_public,
            person.trained_on.isoformat() if person.trained_on else "",
        )
        for person in register.in_office(role, at)
    )


# Private keys on their holder's machine ---------------------------------------------------------------


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


@dataclass(frozen=True)
class OwnKeys:
    """The private keys in one person's folder. ``recipient`` is empty without an age key."""

    signing: SigningKey
    recipient: str


def make_own_keys(folder: Path, whose: str, *, identity: bool, demo: bool = False) -> OwnKeys:
    """Make a person's key files in ``folder``, which is for its owner only: ``signing.ed25519-key`` and, with
    ``identity``, ``identity.age-key``. Keys that are there are kept. ``whose``: a remark in the file.

    Raises :class:`KeyUnavailable` if a key file that is there is open to others, or none.
    """
    make_folder(folder)
    os.chmod(folder, 0o700)
    remark = f"# {'DEMONSTRATION KEY' if demo else 'private key'} of {whose}\n"
    if identity and not (folder / IDENTITY_FILE).exists():
        secret, recipient = new_identity()
        text = f"{remark}# public key: {recipient}\n".encode() + str.encode(secret) + b"\n"
        write_atomic(folder / IDENTITY_FILE, text)
    if not (folder / SIGNING_FILE).exists():
        content = SigningKey.create().secret_bytes().hex().encode() + b"\n"
        write_atomic(folder / SIGNING_FILE, content)
    return OwnKeys(
        load_signing_key(folder / SIGNING_FILE),
        public_of(load_identity(folder / IDENTITY_FILE)) if identity else "",
    )


def refuse_private_keys(officers_folder: Path, register: Register) -> None:
    """Raise :class:`KeyUnavailable` if private keys of persons lie in the workspace of a real register.

    The account that runs the pipeline holds the audit log's signing key; whoever has that and a key of the vault
    could open and cover it up.
    """
    if register.demo or not officers_folder.is_dir():
        return
    found_keys = [path for name in (IDENTITY_FILE, SIGNING_FILE) for path in officers_folder.rglob(name)]
    if found_keys:
        raise KeyUnavailable(
            f"{len(found_keys)} private key file(s) of persons lie in officers/ beside the pipeline's own keys",
            next_step="raise an incident, revoke these keys, and make new ones on the officers' own machines",
        )


# The demonstration ------------------------------------------------------------------------------------


def demo_person(role: str) -> str:
    return "demo-" + role.replace("_", "-")


def create_demo_officers(
    workspace: Path, *, trained_on: date, at: datetime | None = None, audit: AuditLog | None = None
) -> Officers:
    """Make demonstration keys for every role of staff, and found the register that lists them.

    Writes ``officers/<role>/signing.ed25519-key``, for the four holders of shares also
    ``officers/<role>/identity.age-key``, and ``keys/register/``, marked as a demonstration. ``trained_on`` is the
    day of training that the register states, ``at`` the moment of its entries (midnight of that day by default).

    Raises :class:`~schemas.errors.UsageError` if there is a register already: real officers are never replaced.
    """
    moment = at or datetime.combine(trained_on, time(), UTC)
    keys_folder = make_folder(workspace / "keys")
    if (keys_folder / REGISTER).exists():  # before any key in officers/ is made
        raise UsageError("this workspace has a register of persons and keys already")
    entries = _demo_entries(workspace / "officers", trained_on, moment)
    return Officers.of(found(keys_folder, entries, audit=audit), moment)


def _demo_entries(folder: Path, trained_on: date, at: datetime) -> list[SignedEntry]:
    keys = {
        role: make_own_keys(folder / role, f"the role {role}", identity=role in SHARE_OF, demo=True)
        for role in staff_roles()
    }
    entries: list[SignedEntry] = []

    def enter(kind: str, *by: str, **fields: object) -> None:
        prev = entries[-1].digest if entries else FIRST_PREV
        entry = SignedEntry(make_entry(len(entries) + 1, prev, at, kind, fields))
        entries.append(entry.sign(*(keys[role].signing for role in by)))

    founders = [
        {
            "person": demo_person(role),
            "role": role,
            "recipient": keys[role].recipient,
            "signing_public": keys[role].signing.public,
            "trained_on": trained_on.isoformat(),
        }
        for role in FOUNDERS
    ]
    enter("founded", *FOUNDERS, demo=True, founders=founders)
    for role in staff_roles():
        if role in FOUNDERS:
            continue
        person = demo_person(role)
        public = {"recipient": keys[role].recipient, "signing_public": keys[role].signing.public}
        enter("person_enrolled", "iao", role, person=person, replaces=False, **public)
        enter("training_recorded", "iao", person=person, on=trained_on.isoformat())
        until = text_of(at + DEMO_DEPUTYSHIP) if role in DEPUTIES else ""
        by = ("iao", "siro") if role in SHARE_OF else ("iao",)
        enter("role_granted", *by, person=person, role=role, until=until, **{"from": text_of(at)})
    return entries
