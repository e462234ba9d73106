"""The state of the register: what its entries add up to, at any moment.

Whatever gives a right (a key, a role, a training, a hospital's key) counts from its entry on and never before.
Whatever takes one away counts from the moment that the entry names, which may lie before the entry: a key stolen on
Monday and reported on Thursday is revoked from Monday. An end covers what was entered before it, so that a role
can be granted again afterwards; a key that ended never comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from infra.register_entries import SignedEntry, key_name, moment_of

TRAINING_DAYS = 365  # "on joining and every year": Information Security and Governance Policy, November 2016

SHARE_OF = {
    "caldicott_guardian": "guardian",
    "deputy_caldicott_guardian": "guardian",
    "siro": "siro",
    "deputy_siro": "siro",
}
"""Role -> which of the two shares its holder opens."""

DEPUTIES = frozenset({"deputy_caldicott_guardian", "deputy_siro"})
ONE_HOLDER = frozenset({"caldicott_guardian", "siro"})

Use = Literal["signing", "recipient"]


@dataclass(frozen=True)
class Key:
    """A public key of a person or of an organisation."""

    holder: str
    use: Use
    public: str
    since: datetime
    number: int

    @property
    def name(self) -> str:
        return key_name(self.public)


@dataclass(frozen=True)
class Grant:
    """``until``: exclusive; None: until it is ended."""

    person: str
    role: str
    since: datetime
    until: datetime | None
    number: int

    def overlaps(self, since: datetime, until: datetime | None) -> bool:
        return (until is None or self.since < until) and (self.until is None or since < self.until)


@dataclass(frozen=True)
class Training:
    person: str
    on: date
    since: datetime
    number: int


@dataclass(frozen=True)
class Hospital:
    organisation: str
    kind: Literal["age", "openpgp"]
    recipient: str
    fingerprint: str
    signing_public: str
    declaration: str
    since: datetime
    number: int


@dataclass(frozen=True)
class End:
    """From ``since`` on, what ``subject`` was given before entry ``number`` is over.

    ``what``: ``left`` (everything), ``role`` (the role ``name``), ``key`` (the key ``name``), ``keys`` (all keys
    of the use ``name``, at a replacement) or ``hospital``.
    """

    what: Literal["left", "role", "key", "keys", "hospital"]
    subject: str
    name: str
    since: datetime
    number: int


@dataclass
class State:
    """Grows entry by entry (:meth:`take`); asked at a moment."""

    keys: list[Key] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    trainings: list[Training] = field(default_factory=list)
    hospitals: list[Hospital] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    persons: dict[str, datetime] = field(default_factory=dict)
    # (person, share) of every grant ever entered, void ones too: what was sealed meanwhile stays sealed to them.
    shares_ever: set[tuple[str, str]] = field(default_factory=set)

    # Growing

    def take(self, signed: SignedEntry, *, ends: bool = True, gives: bool = True) -> None:
        """Add what the entry ends and what it gives. That it may do so was checked before."""
        entry, at, number = signed.entry, signed.at, signed.number
        if ends:
            self.ends += ends_of(signed)
        granted = entry["founders"] if signed.kind == "founded" else [entry]
        self.shares_ever |= {
            (grant["person"], SHARE_OF[grant["role"]])
            for grant in granted
            if grant.get("role") in SHARE_OF and signed.kind != "role_ended"
        }
        if not gives:
            return
        if signed.kind == "founded":
            for founder in entry["founders"]:
                self._enrol(founder["person"], founder, at, number)
                self.grants.append(Grant(founder["person"], founder["role"], at, None, number))
                self.trainings.append(
                    Training(founder["person"], date.fromisoformat(founder["trained_on"]), at, number)
                )
        elif signed.kind == "person_enrolled":
            self._enrol(entry["person"], entry, at, number)
        elif signed.kind == "role_granted":
            until = moment_of(entry["until"]) if entry["until"] else None
            since = moment_of(entry["from"])
            self.grants.append(Grant(entry["person"], entry["role"], since, until, number))
        elif signed.kind == "share_holder_succeeded":
            self.grants.append(Grant(entry["person"], entry["role"], moment_of(entry["from"]), None, number))
        elif signed.kind == "training_recorded":
            self.trainings.append(Training(entry["person"], date.fromisoformat(entry["on"]), at, number))
        elif signed.kind == "hospital_enrolled":
            self.hospitals.append(
                Hospital(
                    entry["organisation"],
                    entry["key_kind"],
                    entry["recipient"],
                    entry["fingerprint"],
                    entry["signing_public"],
                    entry["declaration"],
                    at,
                    number,
                )
            )

    def _enrol(self, person: str, brought: Mapping[str, Any], at: datetime, number: int) -> None:
        self.persons.setdefault(person, at)
        for use, name in (("signing", "signing_public"), ("recipient", "recipient")):
            if brought[name]:
                self.keys.append(
                    Key(person, "signing" if use == "signing" else "recipient", brought[name], at, number)
                )

    # Asking

    def _ended(self, subject: str, what: Iterable[tuple[str, str]], number: int, at: datetime) -> bool:
        wanted = set(what)
        return any(
            end.subject == subject
            and (end.what, end.name) in wanted
            and number < end.number
            and end.since <= at
            for end in self.ends
        )

    def has_left(self, person: str, at: datetime) -> bool:
        """Whether ``person`` left and was not enrolled again since."""
        last = max((key.number for key in self.keys if key.holder == person), default=0)
        return self._ended(person, [("left", "")], last, at)

    def key_counts(self, key: Key, at: datetime) -> bool:
        over = [("left", ""), ("key", key.name), ("keys", key.use)]
        return key.since <= at and not self._ended(key.holder, over, key.number, at)

    def keys_of(self, person: str, use: Use, at: datetime) -> list[Key]:
        """The keys of ``person`` that count, newest first."""
        found = [key for key in self.keys if key.holder == person and key.use == use]
        return [key for key in reversed(found) if self.key_counts(key, at)]

    def key_holder(self, public: str) -> str | None:
        """The person or organisation for whom ``public`` was ever enrolled."""
        for key in self.keys:
            if key.public == public:
                return key.holder
        for hospital in self.hospitals:
            if public in (hospital.recipient, hospital.signing_public):
                return hospital.organisation
        return None

    def grant_counts(self, grant: Grant, at: datetime) -> bool:
        """Whether ``grant`` is in force, whatever the training."""
        return (
            grant.since <= at
            and (grant.until is None or at < grant.until)
            and not self._ended(grant.person, [("left", ""), ("role", grant.role)], grant.number, at)
        )

    def roles_held(self, person: str, at: datetime) -> list[str]:
        """Roles in force, whatever the training, in the order of their grants."""
        found = [
            grant.role for grant in self.grants if grant.person == person and self.grant_counts(grant, at)
        ]
        return list(dict.fromkeys(found))

    def in_office(self, role: str, at: datetime) -> list[str]:
        """Who holds ``role``, whatever the training, in the order of the grants."""
        return list(
            dict.fromkeys(
                grant.person for grant in self.grants if grant.role == role and self.grant_counts(grant, at)
            )
        )

    def trained_on(self, person: str, at: datetime) -> date | None:
        """The last training of ``person`` that was recorded by ``at``."""
        days = [
            training.on
            for training in self.trainings
            if training.person == person
            and training.since <= at
            and not self._ended(person, [("left", "")], training.number, at)
        ]
        return max(days, default=None)

    def is_trained(self, person: str, at: datetime) -> bool:
        day = self.trained_on(person, at)
        return day is not None and 0 <= (at.date() - day).days <= TRAINING_DAYS

    def hospital_counts(self, hospital: Hospital, at: datetime) -> bool:
        return hospital.since <= at and not self._ended(
            hospital.organisation, [("hospital", "")], hospital.number, at
        )


def ends_of(signed: SignedEntry) -> list[End]:
    """What an entry takes away."""
    entry, number = signed.entry, signed.number
    if signed.kind == "person_enrolled" and entry["replaces"]:
        brought = (("signing", "signing_public"), ("recipient", "recipient"))
        return [End("keys", entry["person"], use, signed.at, number) for use, name in brought if entry[name]]
    if signed.kind == "hospital_enrolled":
        return [End("hospital", entry["organisation"], "", signed.at, number)]
    if signed.kind == "share_holder_succeeded":
        return [End("role", entry["predecessor"], entry["role"], moment_of(entry["from"]), number)]
    if signed.kind == "role_ended":
        return [End("role", entry["person"], entry["role"], moment_of(entry["from"]), number)]
    if signed.kind == "person_left":
        return [End("left", entry["person"], "", moment_of(entry["from"]), number)]
    if signed.kind == "key_revoked":
        return [End("key", entry["person"], entry["key"], moment_of(entry["from"]), number)]
    if signed.kind == "hospital_revoked":
        return [End("hospital", entry["organisation"], "", moment_of(entry["from"]), number)]
    return []
