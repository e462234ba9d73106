"""The register: which persons there are, what roles they hold, with which keys, and which hospitals may receive.

``keys/register/`` is an append-only folder of signed entries, each chained to the one before by SHA-256
(:mod:`infra.register_entries`). :meth:`Register.load` verifies the whole chain, every signature and every rule
(:mod:`infra.register_rules`) and answers for any moment. Whoever asks whether something may happen now asks with
the moment of *use*, not with that of an earlier signature: a leaver's pending approval then ends with the leaver.

What a later entry takes back for the past counts for the past: entries that were signed with a key, or by a holder,
of whom it turns out that they no longer counted are *void* (:attr:`Register.void`). They stay in the chain, and what
they gave is not there.

What anchors it. The chain shows any change of an entry, and any that is missing in the middle. It cannot show by
itself that its newest entries were taken away, or that the whole folder was exchanged for a register with founders
of somebody's own choice: whoever can write the folder can do both, and a pin beside it would be written by the same
hand. So every change puts the new digest into the audit log before and after it takes effect,
:meth:`Register.require_recorded` refuses a register that lacks what the log knows, and a log that does not know of a
founding, and ``load`` takes an ``expected`` digest that somebody kept elsewhere (``wardwatch keys list`` prints it).
Who can write both the folder and the log unseen, root on this machine, is found out by the auditor's countersigned
checkpoints only.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from infra.audit import AuditLog
from infra.audit import read as read_audit
from infra.audit_intent import BEGUN, INTENT, RECOVERED, Found
from infra.audit_line import LOG, Event
from infra.commit_points import commit_point
from infra.files import make_folder, storage_errors, sync_folder, write_atomic
from infra.keyring import KEYRING_FILE, PUBLIC_FILE, PublicKeys
from infra.purposes import load_roles
from infra.register_entries import (
    FIRST_PREV,
    SignedEntry,
    make_entry,
    object_of,
    refuse_useless_keys,
)
from infra.register_rules import permitted, refuse, signatures_hold
from infra.register_state import DEPUTIES, End, Hospital, Key, State, ends_of
from schemas.errors import IntegrityError, KeyUnavailable, NotPermitted, UsageError, WardwatchError

REGISTER = "register"
STAGING = ".register-staging"
# A file travels from signer to signer for some days; a clock may be a little ahead.
OLDEST_ENTRY = timedelta(days=14)
CLOCK_AHEAD = timedelta(minutes=5)


@dataclass(frozen=True)
class Person:
    """A person at the moment asked for. ``roles``: those that count then, training included."""

    person: str
    roles: tuple[str, ...]
    recipient: str
    signing_public: str
    trained_on: date | None


@dataclass(frozen=True)
class HospitalKey:
    """A hospital at the moment asked for. ``recipient``: an age recipient or an armored OpenPGP certificate."""

    organisation: str
    kind: Literal["age", "openpgp"]
    recipient: str
    fingerprint: str
    signing_public: str
    declaration: str


@dataclass(frozen=True)
class Register:
    """The verified register. ``digest``: SHA-256 of the newest entry, another after every change. ``founding``:
    that of the first. ``void``: numbers of entries that no longer give what they gave."""

    demo: bool
    digest: str
    founding: str
    entries: tuple[SignedEntry, ...] = field(repr=False)
    void: frozenset[int]
    _state: State = field(repr=False)

    # Reading

    @classmethod
    def load(cls, keys_folder: Path, *, expected: str = "") -> Register:
        """Read and verify ``keys/register/``. ``expected``: a digest that has to be among those of its entries.

        Raises :class:`KeyUnavailable` if there is no register, and :class:`IntegrityError` if the chain, a
        signature or a rule does not hold, or ``expected`` is missing.
        """
        folder = keys_folder / REGISTER
        try:
            names = sorted(entry.name for entry in os.scandir(folder))
            # What a kill left behind never became an entry.
            names = [name for name in names if not name.endswith(".part")]
            contents = [(folder / name).read_bytes() for name in names]
        except OSError:
            raise KeyUnavailable(
                "the register of persons and keys (keys/register) cannot be read",
                next_step="run `wardwatch init`, or found a register with the three first officers",
            ) from None
        if names != [_file_name(number) for number in range(1, len(names) + 1)]:
            raise IntegrityError("the register lacks an entry, or holds a file that is none")
        register = cls.verify([SignedEntry.parse(content) for content in contents])
        if expected:
            register.require_digest(expected)
        return register

    @classmethod
    def verify(cls, entries: Sequence[SignedEntry]) -> Register:
        """The register that ``entries`` make. Raises :class:`IntegrityError` or :class:`KeyUnavailable`."""
        if not entries:
            raise KeyUnavailable("the register of persons and keys is empty")
        roles = load_roles()
        state, void, prev = State(), frozenset[int](), FIRST_PREV
        for place, signed in enumerate(entries, start=1):
            if signed.number != place or signed.entry["prev"] != prev:
                raise IntegrityError(f"entry {place} of the register does not follow on the one before")
            try:
                _refuse_order(entries[: place - 1], signed)
                signatures_hold(state, signed)
                permitted(state, signed, roles)
            except NotPermitted as error:
                raise IntegrityError(
                    f"entry {place} of the register was never permitted ({error.reason_code})"
                ) from None
            state, void = _grown(state, void, entries[:place])
            prev = signed.digest
        return cls._of(tuple(entries), state, void)

    @classmethod
    def _of(cls, entries: tuple[SignedEntry, ...], state: State, void: frozenset[int]) -> Register:
        return cls(
            demo=bool(entries[0].entry["demo"]),
            digest=entries[-1].digest,
            founding=entries[0].digest,
            entries=entries,
            void=void,
            _state=state,
        )

    def require_digest(self, digest: str) -> None:
        """Raise :class:`IntegrityError` unless ``digest`` is one of this register's entries."""
        if digest not in {signed.digest for signed in self.entries}:
            raise IntegrityError(
                "the register lacks an entry that is known to have been in it: it was rolled back or exchanged",
                next_step="raise an incident, and restore keys/register from a backup",
            )

    def require_recorded(self, audit_folder: Path) -> None:
        """Raise :class:`IntegrityError` unless the register holds the newest entry that the audit log knows of, and
        the log knows of a founding.

        Call it before anything rests on the register: a role that was ended must not come back with a backup, and a
        spent request must not be new again because the log that says so was taken away. The founding of a register
        is the first thing that is recorded in a workspace, so a log without one is gone or was begun anew. The copy
        that an officer takes along to decide elsewhere has no log: see :func:`_is_officers_copy`.
        """
        if not knows_a_founding(audit_folder) and not _is_officers_copy(audit_folder):
            raise IntegrityError(
                "the audit log knows nothing of the founding of the register: it is gone, or was begun anew",
                next_step="keep the audit folder as it is, raise an incident, and restore the log from its second sink",
            )
        last = ""
        begun: dict[int, str] = {}
        for event in read_audit(audit_folder, action="register"):
            if event.reason_code == BEGUN:
                begun[event.seq] = event.digests.get("register", "")
                continue
            digest = begun.pop(event.counts.get(INTENT, 0), "")
            if event.reason_code in (ENTERED, RECOVERED["done"][1]):
                last = digest or last
        # A founding that was killed after it took effect and before its second line.
        if last and self.digest not in begun.values():
            self.require_digest(last)

    # Asking

    def person(self, person: str, at: datetime) -> Person:
        """``person`` at ``at``. Raises :class:`NotPermitted` (``unknown_person``)."""
        if person not in self._state.persons or self._state.persons[person] > at:
            raise refuse("there is no such person in the register", "unknown_person")
        held = self._state.roles_held(person, at)
        trained = self._state.is_trained(person, at)
        roles = load_roles()
        return Person(
            person,
            tuple(role for role in held if trained or not roles[role].training),
            self._newest(self._state.keys_of(person, "recipient", at)),
            self._newest(self._state.keys_of(person, "signing", at)),
            self._state.trained_on(person, at),
        )

    @staticmethod
    def _newest(keys: Sequence[Key]) -> str:
        return keys[0].public if keys else ""

    def signer(self, key_id: str, at: datetime) -> Person:
        """Whose signing key this is, in force at ``at``. Raises :class:`NotPermitted` (``unknown_signer``,
        ``revoked_key``: also a leaver's, and one that was replaced)."""
        for key in self._state.keys:
            if key.use == "signing" and key.name == key_id and key.since <= at:
                if self._state.key_counts(key, at):
                    return self.person(key.holder, at)
                raise refuse("this signing key is no longer in force", "revoked_key")
        raise refuse("nobody has enrolled this signing key", "unknown_signer")

    def require_role(self, person: str, roles: Collection[str], at: datetime) -> str:
        """The code of the role of ``roles`` by which ``person`` may act at ``at``.

        Raises :class:`NotPermitted`: ``unknown_person``, ``left``, ``training_lapsed``, ``outside_deputyship``,
        ``no_role``.
        """
        found = self.person(person, at)
        for role in found.roles:
            if role in roles:
                return role
        wanted = ", ".join(sorted(roles))
        if self._state.has_left(person, at):
            raise refuse("this person has left", "left")
        if set(self._state.roles_held(person, at)) & set(roles):
            raise refuse(
                "a role counts only while its holder's training is in date",
                "training_lapsed",
                "record the training of this year (`wardwatch keys train`)",
            )
        if any(g.person == person and g.role in DEPUTIES & set(roles) for g in self._state.grants):
            raise refuse("outside the dates of the deputyship", "outside_deputyship", f"one of {wanted}")
        raise refuse("this person does not hold the role that this needs", "no_role", f"one of {wanted}")

    def holders(self, role: str, at: datetime) -> tuple[Person, ...]:
        """Who may act as ``role`` at ``at``, training included, in the order of the grants."""
        found = (self.person(person, at) for person in self._state.in_office(role, at))
        return tuple(person for person in found if role in person.roles)

    def in_office(self, role: str, at: datetime) -> tuple[Person, ...]:
        """Who holds ``role`` at ``at``, with or without training in date: for whom its shares are kept."""
        return tuple(self.person(person, at) for person in self._state.in_office(role, at))

    def coming(self, role: str, at: datetime) -> tuple[Person, ...]:
        """Who will hold ``role`` by a grant that stands already and begins after ``at``."""
        return tuple(
            self.person(grant.person, at)
            for grant in self._state.grants
            if grant.role == role and grant.since > at and self._state.grant_counts(grant, grant.since)
        )

    def ever_granted(self, person: str) -> tuple[str, ...]:
        """Every role that ``person`` ever was granted, ended or not."""
        return tuple(dict.fromkeys(grant.role for grant in self._state.grants if grant.person == person))

    def roles_held(self, person: str, at: datetime) -> tuple[str, ...]:
        """The roles granted to ``person`` and in force, whether or not the training makes them count."""
        return tuple(self._state.roles_held(person, at))

    def persons(self, at: datetime) -> tuple[Person, ...]:
        """Everybody enrolled by ``at``, leavers included, in the order of enrolment."""
        return tuple(self.person(person, at) for person, since in self._state.persons.items() if since <= at)

    def has_left(self, person: str, at: datetime) -> bool:
        return self._state.has_left(person, at)

    def keys(self, at: datetime) -> tuple[tuple[Key, bool], ...]:
        """Every key of a person entered by ``at``, and whether it is in force."""
        return tuple((key, self._state.key_counts(key, at)) for key in self._state.keys if key.since <= at)

    def hospital(self, organisation: str, at: datetime) -> HospitalKey:
        """The key of a hospital. Raises :class:`NotPermitted` (``recipient_not_enrolled``,
        ``recipient_revoked``)."""
        entered = [h for h in self._state.hospitals if h.organisation == organisation and h.since <= at]
        if not entered:
            raise refuse(
                "this hospital has no enrolled key",
                "recipient_not_enrolled",
                "`wardwatch keys enrol --hospital`",
            )
        for hospital in reversed(entered):
            if self._state.hospital_counts(hospital, at):
                return _hospital_key(hospital)
        raise refuse("the key of this hospital was revoked", "recipient_revoked")

    def hospitals(self, at: datetime) -> tuple[HospitalKey, ...]:
        """The hospitals with a key in force at ``at``, by organisation code."""
        found = [h for h in self._state.hospitals if self._state.hospital_counts(h, at)]
        return tuple(sorted(map(_hospital_key, found), key=lambda hospital: hospital.organisation))

    # Growing

    def draft(self, kind: str, at: datetime, **fields: Any) -> SignedEntry:
        """The next entry, unsigned. Raises :class:`UsageError` for fields that the kind does not have."""
        return SignedEntry(make_entry(len(self.entries) + 1, self.digest, at, kind, fields))

    def admit(self, signed: SignedEntry) -> Register:
        """The register with ``signed`` as its newest entry.

        Raises :class:`NotPermitted` for what the rules do not allow, ``not_next`` for an entry made for another
        state of the register, and :class:`IntegrityError` for a signature that does not fit.
        """
        if signed.number != len(self.entries) + 1 or signed.entry["prev"] != self.digest:
            raise refuse(
                "the entry was made for another state of the register",
                "not_next",
                "make the entry anew and have it signed again",
            )
        _refuse_order(self.entries, signed)
        signatures_hold(self._state, signed)
        permitted(self._state, signed, load_roles())
        entries = (*self.entries, signed)
        return Register._of(entries, *_grown(_copy(self._state), self.void, entries))


def _hospital_key(hospital: Hospital) -> HospitalKey:
    return HospitalKey(
        hospital.organisation,
        hospital.kind,
        hospital.recipient,
        hospital.fingerprint,
        hospital.signing_public,
        hospital.declaration,
    )


def _file_name(number: int) -> str:
    return f"{number:06d}.json"


def _copy(state: State) -> State:
    return State(
        list(state.keys),
        list(state.grants),
        list(state.trainings),
        list(state.hospitals),
        list(state.ends),
        dict(state.persons),
        set(state.shares_ever),
    )


def _refuse_order(before: Sequence[SignedEntry], signed: SignedEntry) -> None:
    if not before and signed.kind != "founded":
        raise refuse("the first entry of a register founds it", "not_founded")
    if before and signed.at < before[-1].at:
        raise refuse("the entry is older than the one before it", "not_next")


def _grown(
    state: State, void: frozenset[int], entries: Sequence[SignedEntry]
) -> tuple[State, frozenset[int]]:
    """``state`` with the last of ``entries``, and the numbers of the void ones. ``state`` is used up."""
    newest = entries[-1]
    state.take(newest)
    if all(end.since >= newest.at for end in ends_of(newest)):
        return state, void
    return _in_hindsight(entries, state.ends)


def _in_hindsight(entries: Sequence[SignedEntry], ends: Sequence[End]) -> tuple[State, frozenset[int]]:
    """The state that ``entries`` make when each is judged in the light of the ``ends`` that were entered later but
    lie before it, and the numbers of those that do not pass."""
    state, void, roles = State(), set(), load_roles()
    for signed in entries:
        number = signed.number
        state.ends = [e for e in ends if e.number < number or (e.number > number and e.since < signed.at)]
        if number > 1:
            try:
                permitted(state, signed, roles)
            except NotPermitted:
                void.add(number)
        state.take(signed, ends=False, gives=number not in void)
    state.ends = list(ends)
    return state, frozenset(void)


def knows_a_founding(audit_folder: Path) -> bool:
    """Whether the audit log has the line before the founding of a register, with which every log begins."""
    return any(event.reason_code == BEGUN for event in read_audit(audit_folder, action="register.founded"))


def _is_officers_copy(audit_folder: Path) -> bool:
    """Whether this is what an officer takes along: no log at all, and beside it no keyring of the pipeline.

    Without the keyring nothing is run, issued, opened again or destroyed; what an officer signs with such a copy is
    handed in where both are.
    """
    keyring = audit_folder.parent / "keys" / KEYRING_FILE
    return not os.path.lexists(audit_folder / LOG) and not os.path.lexists(keyring)


# Changing what is on disk -----------------------------------------------------------------------------

ENTERED = "entered"


def add_entry(keys_folder: Path, signed: SignedEntry, *, now: datetime, audit: AuditLog) -> Register:
    """Append a signed entry, and return the register that has it.

    The audit log hears of it before it takes effect (``register.<kind>``, with the digest that the register will
    have), again when it is done, and of every refusal. Killed at any moment, the old register or the new one is
    there; adding the same entry again then completes it.

    Raises what :meth:`Register.load` and :meth:`Register.admit` raise, :class:`NotPermitted` (``stale``) for an
    entry made more than 14 days ago or in the future, and ``AuditUnavailable``, with nothing done.
    """
    folder = make_folder(keys_folder / REGISTER)
    with _alone(folder):
        register = Register.load(keys_folder)
        # Of a change that was killed, either the entry is there or it is not.
        audit.close_unfinished(["register"], lambda intent: _what_became_of(intent, register))
        if register.digest == signed.digest:
            return register
        try:
            refuse_stale(signed, now)
            _refuse_the_pipelines_keys(keys_folder, signed)
            grown = register.admit(signed)
            refuse_useless_keys(signed.entry)
        except WardwatchError as error:
            reason = error.reason_code if isinstance(error, NotPermitted) else error.code
            audit.record(
                f"register.{signed.kind}",
                object_of(signed.entry),
                purpose="",
                decision="refuse",
                reason_code=reason,
                digests={"register": register.digest},
            )
            raise
        with _audited(audit, signed, grown):
            commit_point("register.before_entry")
            write_atomic(folder / _file_name(signed.number), signed.to_bytes())
            commit_point("register.after_entry")
        return grown


def account_for_killed(keys_folder: Path, audit: AuditLog) -> None:
    """Write the audit line that a killed :func:`add_entry` did not come to."""
    folder = make_folder(keys_folder / REGISTER)
    with _alone(folder):
        register = Register.load(keys_folder)
        audit.close_unfinished(["register"], lambda intent: _what_became_of(intent, register))


def refuse_stale(signed: SignedEntry, now: datetime) -> None:
    """Raise :class:`NotPermitted` (``stale``) for an entry made more than 14 days before ``now``, or after it."""
    if not now - OLDEST_ENTRY <= signed.at <= now + CLOCK_AHEAD:
        raise refuse("the entry is too old, or of a time to come", "stale", "make it anew")


def found(
    keys_folder: Path,
    entries: Sequence[SignedEntry],
    *,
    audit: AuditLog | None,
    in_place_of_demo: bool = False,
) -> Register:
    """Make the register of ``entries``, the founding one first. It appears by one rename.

    Raises :class:`UsageError` if there is a register already: it is never replaced. One exception: with
    ``in_place_of_demo`` a real register takes the place of a demonstration's, which is kept beside it.
    """
    folder = keys_folder / REGISTER
    register = Register.verify(entries)
    if folder.exists() and not (in_place_of_demo and not register.demo and Register.load(keys_folder).demo):
        raise UsageError("this workspace has a register of persons and keys already")
    for signed in entries:
        refuse_useless_keys(signed.entry)
        _refuse_the_pipelines_keys(keys_folder, signed)
    staging = keys_folder / STAGING
    if staging.exists():  # of a founding that was killed
        with storage_errors("keys"):
            shutil.rmtree(staging)
    make_folder(staging)
    for signed in entries:
        write_atomic(staging / _file_name(signed.number), signed.to_bytes())
    with _audited(audit, entries[0], register) if audit else nullcontext(), storage_errors("keys"):
        if folder.exists():
            os.rename(folder, keys_folder / f"{REGISTER}-demo-{secrets.token_hex(4)}")
        os.rename(staging, folder)
        sync_folder(keys_folder)
    return register


@contextmanager
def _audited(audit: AuditLog, signed: SignedEntry, register: Register) -> Iterator[None]:
    """The two lines of a change; the digest that the register will have stands in the first."""
    with audit.action(
        f"register.{signed.kind}",
        object_of(signed.entry),
        purpose="",
        counts={"entries": len(register.entries)},
        digests={"register": register.digest},
    ) as outcome:
        yield
        outcome.reason_code = ENTERED


def _what_became_of(intent: Event, register: Register) -> Found:
    digests = {signed.digest for signed in register.entries}
    return "done" if intent.digests.get("register") in digests else "not_done"


def _refuse_the_pipelines_keys(keys_folder: Path, signed: SignedEntry) -> None:
    """A share sealed to one of the pipeline's own keys would let the pipeline open the vault by itself."""
    if not (keys_folder / PUBLIC_FILE).exists():
        return
    own = {version.public for versions in PublicKeys.load(keys_folder).keys.values() for version in versions}
    if own & _publics(signed.entry):
        raise refuse("this is a key of the pipeline, not of a person or a hospital", "key_of_the_pipeline")


def _publics(entry: Mapping[str, Any]) -> set[str]:
    brought = entry["founders"] if entry["kind"] == "founded" else [entry]
    return {item.get(name, "") for item in brought for name in ("recipient", "signing_public")} - {""}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of two changes at once the second waits. Not the workspace's lock: a revocation waits for no night."""
    with storage_errors("keys"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
