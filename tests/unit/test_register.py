"""The register: who may do what is what several persons signed, in order, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra import commit_points
from infra.audit import AuditLog
from infra.audit import read as read_audit
from infra.keyring import Keyring
from infra.register import HospitalKey, Register, add_entry, found
from infra.register_entries import (
    FIRST_PREV,
    FOUNDERS,
    SignedEntry,
    certificate_fingerprint,
    key_name,
    make_entry,
    text_of,
)
from infra.sealing import new_identity
from infra.signing import SigningKey, canonical_json
from schemas.errors import (
    AuditUnavailable,
    IdentifierInText,
    IntegrityError,
    KeyUnavailable,
    NotPermitted,
    UsageError,
)

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
YEAR = timedelta(days=365)


@dataclass
class Book:
    """A register in memory, with everybody's private keys: what its tests write in."""

    signing: dict[str, SigningKey] = field(default_factory=dict)
    recipients: dict[str, str] = field(default_factory=dict)
    entries: list[SignedEntry] = field(default_factory=list)

    def new_keys(self, person: str) -> dict[str, str]:
        self.signing[person] = SigningKey.create()
        self.recipients[person] = new_identity()[1]
        return {"recipient": self.recipients[person], "signing_public": self.signing[person].public}

    @property
    def register(self) -> Register:
        return Register.verify(self.entries)

    def draft(self, kind: str, at: datetime, *by: str, **fields: Any) -> SignedEntry:
        prev = self.entries[-1].digest if self.entries else FIRST_PREV
        entry = SignedEntry(make_entry(len(self.entries) + 1, prev, at, kind, fields))
        return entry.sign(*(self.signing[person] for person in by))

    def enter(self, kind: str, at: datetime, *by: str, **fields: Any) -> Register:
        """Raises as :meth:`Register.admit` does, and then nothing was entered."""
        signed = self.draft(kind, at, *by, **fields)
        grown = self.register.admit(signed)
        self.entries.append(signed)
        assert grown == self.register, "what was admitted is what is read again"
        return grown

    def founded(self, at: datetime = START, *, demo: bool = True) -> Book:
        founders = [
            {
                "person": f"p-{role}",
                "role": role,
                "trained_on": at.date().isoformat(),
                **self.new_keys(f"p-{role}"),
            }
            for role in ("iao", "siro")
        ]
        guardian = {"person": "p-guardian", "role": "caldicott_guardian", **self.new_keys("p-guardian")}
        founders.append({**guardian, "trained_on": at.date().isoformat()})
        by = [founder["person"] for founder in founders]
        self.entries.append(self.draft("founded", at, *by, demo=demo, founders=founders))
        return self

    def enrol(self, person: str, at: datetime, *by: str) -> Register:
        keys = self.new_keys(person)
        return self.enter(
            "person_enrolled", at, *(by or ("p-iao",)), person, person=person, replaces=False, **keys
        )

    def train(self, person: str, at: datetime, *by: str) -> Register:
        day = at.date().isoformat()
        return self.enter("training_recorded", at, *(by or ("p-iao",)), person=person, on=day)

    def grant(
        self, person: str, role: str, at: datetime, *by: str, since: datetime | None = None, until: str = ""
    ) -> Register:
        since = since or at
        signers = by or ("p-iao",)
        return self.enter(
            "role_granted", at, *signers, person=person, role=role, until=until, **{"from": text_of(since)}
        )

    def staff(self, person: str, role: str, at: datetime = START, *by: str, until: str = "") -> Register:
        self.enrol(person, at)
        self.train(person, at)
        return self.grant(person, role, at, *by, until=until)

    def hospital(self, organisation: str, at: datetime, *by: str, **changes: str) -> Register:
        recipient = new_identity()[1]
        fields = {
            "organisation": organisation,
            "key_kind": "age",
            "recipient": recipient,
            "fingerprint": key_name(recipient),
            "signing_public": SigningKey.create().public,
            "declaration": "CG-2026/17",
        }
        return self.enter("hospital_enrolled", at, *by, **{**fields, **changes})


def refusal(call: Callable[..., object], *arguments: Any, **named: Any) -> str:
    """The reason code with which ``call`` is refused."""
    with pytest.raises(NotPermitted) as caught:
        call(*arguments, **named)
    return caught.value.reason_code


@pytest.fixture
def book() -> Book:
    return Book().founded()


# Answers ----------------------------------------------------------------------------------------------


def test_the_register_answers_for_persons_roles_and_keys(book: Book) -> None:
    book.staff("p-analyst", "intelligence_analyst")
    register = book.register
    analyst = register.person("p-analyst", START)
    assert analyst.roles == ("intelligence_analyst",)
    assert analyst.recipient == book.recipients["p-analyst"]
    assert analyst.trained_on == START.date()
    assert register.signer(book.signing["p-analyst"].key_id, START) == analyst
    assert register.require_role("p-siro", ["caldicott_guardian", "siro"], START) == "siro"
    assert [person.person for person in register.holders("siro", START)] == ["p-siro"]
    assert register.holders("auditor", START) == ()


def test_who_is_unknown_or_holds_another_role_is_refused(book: Book) -> None:
    register = book.register
    assert refusal(lambda: register.person("p-nobody", START)) == "unknown_person"
    assert refusal(lambda: register.require_role("p-nobody", ["siro"], START)) == "unknown_person"
    assert refusal(lambda: register.require_role("p-iao", ["siro"], START)) == "no_role"
    assert refusal(lambda: register.signer(SigningKey.create().key_id, START)) == "unknown_signer"
    assert refusal(lambda: register.hospital("RXX", START)) == "recipient_not_enrolled"


def test_nothing_counts_before_its_entry(book: Book) -> None:
    later = START + 3 * DAY
    book.enrol("p-analyst", later)
    book.train("p-analyst", later)
    register = book.grant("p-analyst", "intelligence_analyst", later)
    key = book.signing["p-analyst"].key_id
    assert register.person("p-analyst", later).roles == ("intelligence_analyst",)
    assert refusal(lambda: register.person("p-analyst", later - DAY)) == "unknown_person"
    assert refusal(lambda: register.signer(key, later - DAY)) == "unknown_signer"
    assert refusal(lambda: register.person("p-siro", START - DAY)) == "unknown_person"


def test_no_role_is_granted_for_the_past(book: Book) -> None:
    book.enrol("p-analyst", START)
    assert refusal(lambda: book.grant("p-analyst", "auditor", START + DAY, since=START)) == "backdated", (
        "or a signature of yesterday could be made good today"
    )


def test_a_role_counts_for_365_days_from_the_last_training(book: Book) -> None:
    book.staff("p-analyst", "intelligence_analyst")
    register = book.register
    assert register.require_role("p-analyst", ["intelligence_analyst"], START + YEAR)
    lapsed = START + YEAR + DAY
    assert register.person("p-analyst", lapsed).roles == ()

    def asked(at: datetime) -> str:
        return book.register.require_role("p-analyst", ["intelligence_analyst"], at)

    assert refusal(lambda: asked(lapsed)) == "training_lapsed"
    book.train("p-analyst", lapsed + DAY)
    assert asked(lapsed + DAY) == "intelligence_analyst"
    assert refusal(lambda: asked(lapsed)) == "training_lapsed", (
        "a later training does not mend the day before"
    )


def test_a_day_on_which_everybodys_training_has_lapsed_is_not_the_end(book: Book) -> None:
    late = START + 2 * YEAR
    assert book.register.holders("iao", late) == ()
    assert book.register.in_office("iao", late), "the office is held; it may not act"
    book.enrol("p-new", START)
    assert refusal(lambda: book.grant("p-new", "auditor", late)) == "training_lapsed"
    book.train("p-iao", late, "p-siro")
    book.train("p-siro", late, "p-iao")
    assert book.grant("p-new", "auditor", late).in_office("auditor", late)


# The founding -----------------------------------------------------------------------------------------


def founders_of(book: Book) -> list[dict[str, Any]]:
    return [
        {
            "person": f"p-{role}",
            "role": role,
            "trained_on": START.date().isoformat(),
            **book.new_keys(f"p-{role}"),
        }
        for role in FOUNDERS
    ]


def test_three_persons_found_a_register_together() -> None:
    book = Book()
    founders = founders_of(book)
    by = tuple(founder["person"] for founder in founders)

    def found_with(signers: tuple[str, ...], changed: list[dict[str, Any]] = founders) -> Register:
        return Register.verify([book.draft("founded", START, *signers, demo=False, founders=changed)])

    assert not found_with(by).demo
    for lacking in range(3):
        with pytest.raises(IntegrityError, match="no_authority"):
            found_with(by[:lacking] + by[lacking + 1 :])
    one, two, three = founders
    wrong = {
        "two offices of one person": [one, two, {**three, "person": one["person"]}],
        "one key for both shares": [one, two, {**three, "recipient": one["recipient"]}],
        "a share holder without a key": [one, two, {**three, "recipient": ""}],
        "an office missing": [one, two],
        "an office twice": [one, two, {**three, "role": "iao"}],
        "trained tomorrow": [one, two, {**three, "trained_on": (START + DAY).date().isoformat()}],
    }
    for what, changed in wrong.items():
        with pytest.raises(IntegrityError):
            pytest.fail(f"founded with {what}: {found_with(by, changed)}")


def test_a_register_is_founded_once(book: Book) -> None:
    founders = founders_of(book)
    by = [founder["person"] for founder in founders]
    assert (
        refusal(lambda: book.enter("founded", START, *by, demo=True, founders=founders)) == "founded_already"
    )


# Enrolment --------------------------------------------------------------------------------------------


def test_a_key_has_one_holder_for_ever(book: Book) -> None:
    book.enrol("p-one", START)
    for person in ("p-two", "p-one"):
        for field_name, public in (
            ("recipient", book.recipients["p-one"]),
            ("signing_public", book.signing["p-one"].public),
        ):
            keys = {"recipient": "", "signing_public": "", field_name: public}
            signed = book.draft(
                "person_enrolled", START, "p-iao", "p-one", person=person, replaces=False, **keys
            )
            expected = "key_enrolled" if person == "p-one" else "key_of_another"
            assert refusal(book.register.admit, signed) == expected
    assert refusal(lambda: book.hospital("RXX", START, "p-iao", "p-siro", recipient=book.recipients["p-one"]))


def test_a_new_signing_key_signs_its_own_enrolment(book: Book) -> None:
    keys = book.new_keys("p-new")
    fields = {"person": "p-new", "replaces": False, **keys}
    assert refusal(lambda: book.enter("person_enrolled", START, "p-iao", **fields)) == "no_possession"
    assert refusal(lambda: book.enter("person_enrolled", START, "p-new", **fields)) == "no_authority"
    assert book.enter("person_enrolled", START, "p-iao", "p-new", **fields).signer(
        book.signing["p-new"].key_id, START
    )


def test_the_iao_alone_gives_no_officer_another_key(book: Book) -> None:
    """Or the IAO could sign as the SIRO, and receive the SIRO's shares."""
    old = book.signing["p-siro"]
    keys = book.new_keys("p-siro")
    fields = {"person": "p-siro", "replaces": True, **keys}
    assert (
        refusal(lambda: book.enter("person_enrolled", START, "p-iao", "p-siro", **fields)) == "no_authority"
    )
    register = book.enter("person_enrolled", START, "p-iao", "p-siro", "p-guardian", **fields)
    assert register.signer(book.signing["p-siro"].key_id, START).person == "p-siro"
    assert refusal(lambda: register.signer(old.key_id, START)) == "revoked_key"


def test_a_further_key_stands_beside_the_first_and_a_replacement_ends_it(book: Book) -> None:
    book.enrol("p-analyst", START)
    first = book.signing["p-analyst"]
    for step, replaces in ((1, False), (2, True)):
        before = book.signing["p-analyst"]
        new = SigningKey.create()
        book.signing["p-analyst/new"] = new
        fields = {"person": "p-analyst", "recipient": "", "signing_public": new.public, "replaces": replaces}
        book.enter("person_enrolled", START + step * DAY, "p-iao", "p-analyst", "p-analyst/new", **fields)
        book.signing["p-analyst"] = new
        at = START + step * DAY
        assert book.register.person("p-analyst", at).signing_public == new.public
        if replaces:
            assert refusal(book.register.signer, before.key_id, at) == "revoked_key"
        else:
            assert book.register.signer(before.key_id, at).person == "p-analyst"
    assert book.register.signer(first.key_id, START + DAY), "what it signed in its time stays signed"
    assert book.register.person("p-analyst", START + 2 * DAY).recipient == book.recipients["p-analyst"]


@pytest.mark.parametrize("person", ["", "A", "p", "Jo Public", "../siro", "p\nq", "patient-943-476-5919"])
def test_a_person_is_a_staff_id(book: Book, person: str) -> None:
    with pytest.raises((UsageError, IdentifierInText)) as caught:
        book.draft("training_recorded", START, "p-iao", person=person, on="2026-03-01")
    assert len(person) < 3 or person not in str(caught.value), "nothing that was typed is repeated"


# Roles ------------------------------------------------------------------------------------------------


def test_only_roles_of_staff_are_granted_and_only_to_who_is_enrolled(book: Book) -> None:
    book.enrol("p-new", START)
    for role in ("hospital", "pipeline", "emperor"):
        assert refusal(book.grant, "p-new", role, START) == "unknown_role"
    assert refusal(lambda: book.grant("p-stranger", "auditor", START)) == "unknown_person"


def test_an_office_has_one_holder_and_passes_in_one_entry(book: Book) -> None:
    book.enrol("p-next", START)
    book.train("p-next", START)
    by = ("p-iao", "p-guardian")
    assert refusal(lambda: book.grant("p-next", "siro", START, *by)) == "in_office"
    at, since = START + DAY, START + 5 * DAY
    fields = {"person": "p-next", "predecessor": "p-siro", "role": "siro", "from": text_of(since)}
    assert refusal(lambda: book.enter("share_holder_succeeded", at, "p-iao", **fields)) == "no_authority"
    register = book.enter("share_holder_succeeded", at, "p-iao", "p-siro", **fields)
    for moment, holder in ((since - timedelta(seconds=1), "p-siro"), (since, "p-next")):
        assert [person.person for person in register.holders("siro", moment)] == [holder]
    again = {**fields, "person": "p-siro", "predecessor": "p-next", "from": text_of(since + DAY)}
    assert book.enter("share_holder_succeeded", since, "p-iao", "p-guardian", **again)


def test_a_deputyship_has_an_end_and_may_be_held_by_several(book: Book) -> None:
    by = ("p-iao", "p-siro")
    book.enrol("p-one", START)
    assert refusal(lambda: book.grant("p-one", "deputy_siro", START, "p-iao", "p-guardian")) == "no_time"
    until = text_of(START + 30 * DAY)
    for person in ("p-two", "p-three"):
        register = book.staff(person, "deputy_caldicott_guardian", START, *by, until=until)
    assert [person.person for person in register.holders("deputy_caldicott_guardian", START)] == [
        "p-two",
        "p-three",
    ]


def test_a_role_that_ended_can_be_granted_again(book: Book) -> None:
    book.staff("p-mover", "data_engineer")
    ended = START + 10 * DAY
    fields = {"person": "p-mover", "role": "data_engineer", "from": text_of(ended)}
    register = book.enter("role_ended", ended, "p-siro", **fields)
    assert register.person("p-mover", ended - DAY).roles == ("data_engineer",)
    assert register.person("p-mover", ended).roles == ()
    register = book.grant("p-mover", "data_engineer", ended + DAY)
    assert register.person("p-mover", ended + DAY).roles == ("data_engineer",)


def test_without_an_iao_the_siro_and_the_guardian_find_another(book: Book) -> None:
    book.enter("person_left", START, "p-siro", person="p-iao", **{"from": text_of(START)})
    book.enrol("p-next", START, "p-siro")
    book.train("p-next", START, "p-siro")
    assert refusal(lambda: book.grant("p-next", "iao", START, "p-siro")) == "no_authority"
    register = book.grant("p-next", "iao", START, "p-siro", "p-guardian")
    assert [person.person for person in register.holders("iao", START)] == ["p-next"]


# Hindsight --------------------------------------------------------------------------------------------


def test_what_a_stolen_key_entered_is_void_from_the_moment_it_was_stolen(book: Book) -> None:
    before, stolen, noticed = START + DAY, START + 2 * DAY, START + 5 * DAY
    book.enrol("p-good", before)
    book.train("p-good", before)
    book.grant("p-good", "auditor", before)
    book.enrol("p-bad", stolen + DAY)
    book.train("p-bad", stolen + DAY)
    book.grant("p-bad", "auditor", stolen + DAY)
    key = book.signing["p-iao"].key_id
    fields = {"person": "p-iao", "key": key, "from": text_of(stolen)}
    register = book.enter("key_revoked", noticed, "p-siro", **fields)
    assert register.void == {5, 6, 7}
    assert register.person("p-good", noticed).roles == ("auditor",)
    assert refusal(lambda: register.person("p-bad", noticed)) == "unknown_person"
    assert refusal(lambda: register.signer(book.signing["p-bad"].key_id, noticed)) == "unknown_signer"
    assert refusal(lambda: register.signer(key, stolen)) == "revoked_key"
    assert register.signer(key, before).person == "p-iao"
    with pytest.raises(NotPermitted):
        book.enter(
            "role_ended", noticed, "p-iao", person="p-good", role="auditor", **{"from": text_of(noticed)}
        )


def test_who_held_a_share_by_a_grant_that_is_void_does_not_get_the_other(book: Book) -> None:
    """What was delivered meanwhile was sealed to them."""
    granted, noticed = START + DAY, START + 5 * DAY
    book.staff("p-two", "auditor")
    book.enrol("p-deputy", START)
    fields = {"person": "p-deputy", "role": "deputy_siro", "until": text_of(START + YEAR)}
    book.enter("role_granted", granted, "p-iao", "p-siro", **fields, **{"from": text_of(granted)})
    revoked = {"person": "p-iao", "key": book.signing["p-iao"].key_id, "from": text_of(granted - DAY / 2)}
    register = book.enter("key_revoked", noticed, "p-guardian", **revoked)
    assert register.roles_held("p-deputy", noticed) == ()
    book.enrol("p-iao-2", noticed, "p-siro")
    book.train("p-iao-2", noticed, "p-siro")
    book.grant("p-iao-2", "iao", noticed, "p-siro", "p-guardian")
    other = ("p-deputy", "deputy_caldicott_guardian", noticed, "p-iao-2", "p-guardian")
    assert refusal(book.grant, *other, until=text_of(START + YEAR)) == "both_shares"


def test_a_key_is_not_revoked_for_later(book: Book) -> None:
    fields = {"person": "p-siro", "key": book.signing["p-siro"].key_id, "from": text_of(START + DAY)}
    assert refusal(book.enter, "key_revoked", START, "p-iao", **fields) == "not_yet"


# Hospitals --------------------------------------------------------------------------------------------


def test_a_hospital_is_enrolled_by_two_persons(book: Book) -> None:
    for by in (("p-iao",), ("p-guardian", "p-siro"), ("p-siro",)):
        assert refusal(book.hospital, "RXX", START, *by) == "no_authority"
    register = book.hospital("RXX", START, "p-iao", "p-guardian")
    found_key = register.hospital("RXX", START)
    assert isinstance(found_key, HospitalKey)
    assert (found_key.kind, found_key.declaration) == ("age", "CG-2026/17")
    assert found_key.fingerprint == key_name(found_key.recipient)
    assert refusal(lambda: register.hospital("RYY", START)) == "recipient_not_enrolled"


def test_a_hospital_s_new_key_takes_the_place_of_the_old_and_a_revoked_one_is_refused(book: Book) -> None:
    first = book.hospital("RXX", START, "p-iao", "p-guardian").hospital("RXX", START)
    second = book.hospital("RXX", START + DAY, "p-iao", "p-siro").hospital("RXX", START + DAY)
    assert first.fingerprint != second.fingerprint
    assert book.register.hospital("RXX", START) == first
    revoked = START + 2 * DAY
    book.enter("hospital_revoked", revoked, "p-siro", organisation="RXX", **{"from": text_of(revoked)})
    assert refusal(lambda: book.register.hospital("RXX", revoked)) == "recipient_revoked"
    assert book.register.hospitals(revoked) == ()
    assert refusal(lambda: book.hospital("RXX", revoked, "p-iao", "p-siro", recipient=first.recipient)) == (
        "key_enrolled"
    )


# The chain --------------------------------------------------------------------------------------------


@pytest.fixture
def keys_folder(book: Book, tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    book.staff("p-analyst", "intelligence_analyst")
    found(folder, book.entries, audit=log(folder))
    return folder


def log(folder: Path, at: datetime = START) -> AuditLog:
    return AuditLog(folder.parent / "audit", lambda: at, "p-iao", "iao")


def training(book: Book, at: datetime = START) -> SignedEntry:
    return book.draft("training_recorded", at, "p-iao", person="p-analyst", on=at.date().isoformat())


def test_any_change_of_any_entry_is_found(keys_folder: Path) -> None:
    names = sorted((keys_folder / "register").iterdir())
    assert len(names) == 4
    for path in names:
        content = path.read_bytes()
        document = json.loads(content)
        changes = [content[:-1], content + b"\n", content.replace(b'"v":1', b'"v":2')]
        changes.append(content.replace(b"p-", b"q-"))
        changes.append(canonical_json({**document, "signatures": []}))
        changes.append(canonical_json({**document, "signatures": document["signatures"] * 2}))
        for changed in changes:
            path.write_bytes(changed)
            with pytest.raises((IntegrityError, KeyUnavailable)):
                Register.load(keys_folder)
        path.write_bytes(content)
    assert Register.load(keys_folder).entries


def test_a_missing_exchanged_or_strange_file_is_found(keys_folder: Path) -> None:
    folder = keys_folder / "register"
    first, second = folder / "000002.json", folder / "000003.json"
    contents = first.read_bytes(), second.read_bytes()
    first.unlink()
    with pytest.raises(IntegrityError):
        Register.load(keys_folder)
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    with pytest.raises(IntegrityError):
        Register.load(keys_folder)
    first.write_bytes(contents[0])
    second.write_bytes(contents[1])
    (folder / "note.txt").write_text("")
    with pytest.raises(IntegrityError):
        Register.load(keys_folder)


def test_an_entry_signed_by_who_may_not_is_found_in_the_chain(book: Book) -> None:
    book.enrol("p-mallory", START)
    signed = book.draft(
        "role_granted",
        START,
        "p-mallory",
        person="p-mallory",
        role="auditor",
        until="",
        **{"from": text_of(START)},
    )
    with pytest.raises(IntegrityError, match="never permitted"):
        Register.verify([*book.entries, signed])


def test_a_signature_counts_at_one_place_of_one_register(book: Book) -> None:
    signed = training_of(book, "p-siro")
    book.train("p-siro", START)
    assert refusal(lambda: book.register.admit(signed)) == "not_next"
    moved = SignedEntry({**signed.entry, "number": 3, "prev": book.entries[-1].digest}, signed.signatures)
    with pytest.raises(IntegrityError):
        book.register.admit(moved)


def training_of(book: Book, person: str) -> SignedEntry:
    return book.draft("training_recorded", START, "p-iao", person=person, on=START.date().isoformat())


def test_an_older_register_is_refused_by_the_log_and_by_a_digest_kept_elsewhere(
    keys_folder: Path, book: Book
) -> None:
    older = shutil.copytree(keys_folder / "register", keys_folder.parent / "older")
    grown = add_entry(keys_folder, training(book), now=START, audit=log(keys_folder))
    Register.load(keys_folder, expected=grown.digest).require_recorded(keys_folder.parent / "audit")
    shutil.rmtree(keys_folder / "register")
    older.rename(keys_folder / "register")
    rolled_back = Register.load(keys_folder)
    with pytest.raises(IntegrityError, match="rolled back"):
        rolled_back.require_recorded(keys_folder.parent / "audit")
    with pytest.raises(IntegrityError, match="rolled back"):
        Register.load(keys_folder, expected=grown.digest)


@pytest.mark.parametrize("begun_anew", [False, True])
def test_a_log_that_does_not_know_of_the_founding_is_gone_or_begun_anew_and_nothing_rests_on_it(
    keys_folder: Path, book: Book, begun_anew: bool
) -> None:
    audit = keys_folder.parent / "audit"
    Keyring.create(keys_folder, environment={})
    Register.load(keys_folder).require_recorded(audit)
    shutil.rmtree(audit)
    if begun_anew:  # even by a change of the register that was permitted
        add_entry(keys_folder, training(book), now=START, audit=log(keys_folder))
    with pytest.raises(IntegrityError, match="knows nothing of the founding"):
        Register.load(keys_folder).require_recorded(audit)


def test_a_copy_without_the_pipeline_s_keyring_needs_no_log_unless_it_has_one(
    keys_folder: Path, book: Book
) -> None:
    """An officer decides elsewhere with a copy of the register; nothing can be run in it."""
    audit = keys_folder.parent / "audit"
    shutil.rmtree(audit)
    Register.load(keys_folder).require_recorded(audit)
    add_entry(keys_folder, training(book), now=START, audit=log(keys_folder))
    with pytest.raises(IntegrityError, match="knows nothing of the founding"):
        Register.load(keys_folder).require_recorded(audit)


# Changes on disk --------------------------------------------------------------------------------------


def test_the_log_hears_of_a_change_before_and_after_it(keys_folder: Path, book: Book) -> None:
    seen: list[int] = []
    signed = training(book)
    with pytest.MonkeyPatch.context() as patch:

        def look(name: str) -> None:
            if name == "register.before_entry":
                seen.append(len(list(read_audit(keys_folder.parent / "audit", action="register"))))

        patch.setattr(commit_points, "reached", look)
        grown = add_entry(keys_folder, signed, now=START, audit=log(keys_folder))
    assert seen == [3], "after the two of the founding"
    _, _, begun, entered = read_audit(keys_folder.parent / "audit", action="register")
    assert (begun.action, begun.object) == ("register.training_recorded", "p-analyst")
    assert begun.digests == {"register": grown.digest}
    assert (entered.reason_code, entered.decision) == ("entered", "allow")


def test_without_a_log_nothing_is_changed(keys_folder: Path, book: Book) -> None:
    shutil.rmtree(keys_folder.parent / "audit")
    (keys_folder.parent / "audit").write_text("no folder")
    with pytest.raises(AuditUnavailable):
        add_entry(keys_folder, training(book), now=START, audit=log(keys_folder))
    assert len(Register.load(keys_folder).entries) == 4


def test_a_refusal_is_recorded_and_changes_nothing(keys_folder: Path, book: Book) -> None:
    signed = book.draft("training_recorded", START, "p-analyst", person="p-analyst", on="2026-03-01")
    with pytest.raises(NotPermitted):
        add_entry(keys_folder, signed, now=START, audit=log(keys_folder))
    _, _, event = read_audit(keys_folder.parent / "audit")
    assert (event.decision, event.reason_code, event.object) == ("refuse", "no_authority", "p-analyst")
    assert len(Register.load(keys_folder).entries) == 4


class Killed(BaseException):
    pass


@pytest.mark.parametrize("point", ["register.before_entry", "register.after_entry"])
def test_killed_at_any_moment_the_old_or_the_new_register_is_there_and_adding_again_completes_it(
    keys_folder: Path, book: Book, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def kill(name: str) -> None:
        if name == point:
            raise Killed

    signed = training(book)
    monkeypatch.setattr(commit_points, "reached", kill)
    monkeypatch.setattr(AuditLog, "_end", lambda *_: None)  # nor does a killed process write its second line
    with pytest.raises(Killed):
        add_entry(keys_folder, signed, now=START, audit=log(keys_folder))
    monkeypatch.undo()
    (keys_folder / "register" / "000005.json.part").write_bytes(b'{"entry":')
    there = point == "register.after_entry"
    assert len(Register.load(keys_folder).entries) == 4 + there
    grown = add_entry(keys_folder, signed, now=START, audit=log(keys_folder))
    assert grown.digest == signed.digest == Register.load(keys_folder).digest
    grown.require_recorded(keys_folder.parent / "audit")
    reasons = [event.reason_code for event in read_audit(keys_folder.parent / "audit", action="register")]
    assert reasons[2:4] == ["begun", "recovered_done" if there else "recovered_not_done"]


def test_of_two_changes_made_at_once_the_second_has_to_be_made_anew(keys_folder: Path, book: Book) -> None:
    one = training(book)
    two = book.draft("training_recorded", START, "p-siro", person="p-analyst", on="2026-03-01")
    add_entry(keys_folder, one, now=START, audit=log(keys_folder))
    assert refusal(lambda: add_entry(keys_folder, two, now=START, audit=log(keys_folder))) == "not_next"


@pytest.mark.parametrize("moved", [-15 * DAY, timedelta(minutes=6)])
def test_an_entry_that_is_too_old_or_of_a_time_to_come_is_refused(
    keys_folder: Path, book: Book, moved: timedelta
) -> None:
    signed = training(book, START + 20 * DAY)
    now = START + 20 * DAY - moved
    assert refusal(lambda: add_entry(keys_folder, signed, now=now, audit=log(keys_folder))) == "stale"


def test_no_key_of_the_pipeline_becomes_a_person_s(keys_folder: Path, book: Book) -> None:
    """A share sealed to it would be the pipeline's."""
    ring = Keyring.create(keys_folder, environment={})
    keys = {**book.new_keys("p-new"), "recipient": ring.inbox_recipient}
    signed = book.draft("person_enrolled", START, "p-iao", "p-new", person="p-new", replaces=False, **keys)
    asked = lambda: add_entry(keys_folder, signed, now=START, audit=log(keys_folder))  # noqa: E731
    assert refusal(asked) == "key_of_the_pipeline"


def test_a_key_to_which_nothing_can_be_sealed_is_not_enrolled(keys_folder: Path, book: Book) -> None:
    useless = "age1" + "q" * 58
    keys = {**book.new_keys("p-new"), "recipient": useless}
    signed = book.draft("person_enrolled", START, "p-iao", "p-new", person="p-new", replaces=False, **keys)
    with pytest.raises(KeyUnavailable):
        add_entry(keys_folder, signed, now=START, audit=log(keys_folder))
    for certificate in ("", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n" + "a" * 200, "-----BEGIN PGP"):
        with pytest.raises(KeyUnavailable):
            certificate_fingerprint(certificate)


def test_a_hospital_may_have_an_openpgp_certificate(keys_folder: Path, book: Book) -> None:
    import pysequoia

    certificate = str(pysequoia.Tsk.generate("Hospital RXX").extract_certificate())
    fields = {
        "organisation": "RXX",
        "key_kind": "openpgp",
        "recipient": certificate,
        "fingerprint": certificate_fingerprint(certificate),
        "signing_public": SigningKey.create().public,
        "declaration": "CG-2026/17",
    }
    wrong = book.draft("hospital_enrolled", START, "p-iao", "p-siro", **{**fields, "fingerprint": "0" * 40})
    with pytest.raises(KeyUnavailable, match="fingerprint"):
        add_entry(keys_folder, wrong, now=START, audit=log(keys_folder))
    signed = book.draft("hospital_enrolled", START, "p-iao", "p-siro", **fields)
    grown = add_entry(keys_folder, signed, now=START, audit=log(keys_folder))
    assert grown.hospital("RXX", START).kind == "openpgp"


def test_a_register_that_is_there_is_never_founded_anew(keys_folder: Path) -> None:
    before = Register.load(keys_folder).digest
    with pytest.raises(UsageError):
        found(keys_folder, Book().founded().entries, audit=None)
    assert Register.load(keys_folder).digest == before
