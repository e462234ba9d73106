"""The rules of the register: who has to sign an entry, and what no signature makes good.

Source: governance sections 1.5 and 4.1. Grants are signed by the information asset owner (IAO); nobody grants,
trains or ends anything for themself; four eyes are two persons, whatever keys and roles they have.

==========================  =================================================================================
entry                       signed by (always others than the person it is about)
==========================  =================================================================================
person enrolled             IAO; also by the new signing key itself, which shows that somebody holds it.
                            A further key of an enrolled person: also by a key that the person has, or, if
                            that is lost, by an officer. Without another IAO who could sign: the SIRO instead
role granted                IAO
role of an officer granted  IAO and one officer in office (Guardian, SIRO or a deputy)
IAO granted                 SIRO and, besides, another IAO or the Guardian
training recorded           IAO or SIRO. Their own training need not be in date: otherwise a day on which
                            everybody's lapsed would be the end
role ended, person left,    one of IAO, Guardian, SIRO and the deputies; their training does not matter:
key or hospital revoked     nothing that takes a right away waits for a training
hospital enrolled           IAO and one officer
share holder succeeded      IAO and one officer; the predecessor may be that officer
==========================  =================================================================================

Who ever held one of the two shares, deputies included, never holds the other: an old key and an old copy of a file
of shares do not end with an office.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date

from infra.purposes import Role
from infra.register_entries import FOUNDERS, SIGNED_FOR, SignedEntry, key_name, moment_of
from infra.register_state import DEPUTIES, ONE_HOLDER, SHARE_OF, State
from infra.signing import verify
from schemas.errors import NotPermitted

IAO = frozenset({"iao"})
GUARDIANS = frozenset({"caldicott_guardian", "deputy_caldicott_guardian"})
SIROS = frozenset({"siro", "deputy_siro"})
OFFICERS = GUARDIANS | SIROS


def refuse(message: str, reason_code: str, next_step: str = "") -> NotPermitted:
    return NotPermitted(message, reason_code=reason_code, next_step=next_step)


# Signatures -------------------------------------------------------------------------------------------


def signatures_hold(state: State, signed: SignedEntry) -> None:
    """Raise unless every signature is by a key that is enrolled, or that the entry itself brings, and fits.

    :class:`NotPermitted` (``unknown_signer``) for a key nobody has, ``IntegrityError`` for a signature that does
    not fit. Whether the keys count, and what for, is asked by :func:`signers` and :func:`permitted`.
    """
    known = {key.name: key.public for key in state.keys if key.use == "signing"}
    for public in _brought_signing_keys(signed):
        known[key_name(public)] = public
    for signature in signed.signatures:
        if signature["key_id"] not in known:
            raise refuse(
                "the entry is signed with a key that nobody has enrolled",
                "unknown_signer",
                "compare the key with `wardwatch keys list`",
            )
        verify(dict(signed.entry), signature, SIGNED_FOR, known)


def _brought_signing_keys(signed: SignedEntry) -> list[str]:
    if signed.kind == "founded":
        return [founder["signing_public"] for founder in signed.entry["founders"]]
    if signed.kind == "person_enrolled" and signed.entry["signing_public"]:
        return [signed.entry["signing_public"]]
    return []


def signers(state: State, signed: SignedEntry) -> set[str]:
    """The persons who signed with a key in force at the entry's moment.

    Raises :class:`NotPermitted` (``revoked_key``) if a key was no longer in force: a leaver's key, a revoked one.
    """
    brought = {key_name(public) for public in _brought_signing_keys(signed)}
    persons = set()
    for signature in signed.signatures:
        name = signature["key_id"]
        if name in brought:
            continue
        for key in state.keys:
            if key.use == "signing" and key.name == name:
                if not state.key_counts(key, signed.at):
                    raise refuse("the entry is signed with a key that is no longer in force", "revoked_key")
                persons.add(key.holder)
    return persons


def _need(
    state: State, signed: SignedEntry, about: str, *needed: Collection[str], trained: bool = True
) -> None:
    """One signer for each of ``needed``, all different persons, none of them ``about``."""
    everybody = signers(state, signed)

    def able(person: str, roles: Collection[str]) -> bool:
        held = set(state.roles_held(person, signed.at)) & set(roles)
        return bool(held) and (not trained or state.is_trained(person, signed.at))

    others = sorted(everybody - {about})
    candidates = [[person for person in others if able(person, roles)] for roles in needed]
    if _different_persons(candidates):
        return
    wanted = " and one of ".join(", ".join(sorted(roles)) for roles in needed)
    if about in everybody and any(able(about, roles) for roles in needed):
        raise refuse(
            "nobody grants, trains or ends anything for themself",
            "own_entry",
            f"somebody else signs: one of {wanted}",
        )
    if all(candidates):
        raise refuse(
            "two signatures of one person are one signature", "one_person", f"one of {wanted}, two persons"
        )
    untrained = trained and any(
        set(state.roles_held(person, signed.at)) & set(roles)
        for person in others
        for roles in needed
        if not state.is_trained(person, signed.at)
    )
    if untrained:
        raise refuse(
            "a role counts only while its holder's training is in date",
            "training_lapsed",
            "record the training",
        )
    raise refuse("the entry lacks a signature that it needs", "no_authority", f"signed by one of {wanted}")


def _different_persons(candidates: list[list[str]]) -> bool:
    if not candidates:
        return True
    return any(
        _different_persons([[p for p in rest if p != person] for rest in candidates[1:]])
        for person in candidates[0]
    )


# The rules --------------------------------------------------------------------------------------------


def permitted(state: State, signed: SignedEntry, roles: Mapping[str, Role]) -> None:
    """Raise :class:`NotPermitted` unless ``signed`` may follow upon ``state``. Signatures were verified before.

    ``roles``: those of roles.yaml. The reason codes are what the audit log says.
    """
    _RULES[signed.kind](state, signed, roles)


def _founded(state: State, signed: SignedEntry, _: Mapping[str, Role]) -> None:
    founders = signed.entry["founders"]
    if state.persons:
        raise refuse("the register is founded once", "founded_already")
    if tuple(sorted(founder["role"] for founder in founders)) != FOUNDERS:
        raise refuse("a register is founded by an iao, a caldicott_guardian and a siro", "founders")
    keys = [
        founder[name] for founder in founders for name in ("recipient", "signing_public") if founder[name]
    ]
    if len({founder["person"] for founder in founders}) != len(FOUNDERS) or len(set(keys)) != len(keys):
        raise refuse("the founders are three different persons with keys of their own", "one_person")
    if any(founder["role"] in SHARE_OF and not founder["recipient"] for founder in founders):
        raise refuse("the caldicott_guardian and the siro each need an age recipient", "no_key")
    if any(date.fromisoformat(founder["trained_on"]) > signed.at.date() for founder in founders):
        raise refuse("a training is recorded after it was given", "training_ahead")
    wanted = {key_name(founder["signing_public"]) for founder in founders}
    if {signature["key_id"] for signature in signed.signatures} != wanted:
        raise refuse("the founding entry is signed by all three founders", "no_authority")


def _person_enrolled(state: State, signed: SignedEntry, _: Mapping[str, Role]) -> None:
    entry, person = signed.entry, signed.entry["person"]
    brought = [public for public in (entry["signing_public"], entry["recipient"]) if public]
    if not brought:
        raise refuse("a person is enrolled with a key", "no_key")
    for public in brought:
        holder = state.key_holder(public)
        if holder is not None:
            raise refuse(
                "this key is enrolled already; a key has one holder, and one that ended does not come back",
                "key_enrolled" if holder == person else "key_of_another",
                "make a new key pair for this person",
            )
    names = {signature["key_id"] for signature in signed.signatures}
    if entry["signing_public"] and key_name(entry["signing_public"]) not in names:
        raise refuse(
            "the new signing key has to sign its own enrolment", "no_possession", "`wardwatch keys sign FILE`"
        )
    others = set(state.in_office("iao", signed.at)) - {person}
    authority = IAO if any(state.keys_of(other, "signing", signed.at) for other in others) else SIROS
    has_key = bool(state.keys_of(person, "signing", signed.at))
    if has_key and person in signers(state, signed):
        _need(state, signed, person, authority)
    elif person in state.persons and not state.has_left(person, signed.at):
        # Without this the IAO alone could give the SIRO a key that the IAO holds.
        _need(state, signed, person, authority, OFFICERS)
    else:
        _need(state, signed, person, authority)


def _role_granted(state: State, signed: SignedEntry, roles: Mapping[str, Role]) -> None:
    entry = signed.entry
    role = roles.get(entry["role"])
    if role is None or role.kind != "staff":
        raise refuse("there is no such role of a person", "unknown_role", "the roles are in roles.yaml")
    since = moment_of(entry["from"])
    until = moment_of(entry["until"]) if entry["until"] else None
    if since < signed.at:
        raise refuse("no role is granted for the past", "backdated")
    if until is not None and until <= since:
        raise refuse("the role would end before it begins", "no_time")
    if role.code in DEPUTIES and until is None:
        raise refuse("a deputyship has an end", "no_time", "give --until")
    if role.code in ONE_HOLDER:
        for grant in state.grants:
            counts = state.grant_counts(grant, max(since, grant.since))
            if grant.role == role.code and grant.overlaps(since, until) and counts:
                raise refuse("this office is held", "in_office", "use `wardwatch keys succeed`")
    _refuse_holder(state, signed, role.code)
    if role.code == "iao":
        _need(state, signed, entry["person"], SIROS, IAO | {"caldicott_guardian"})
    elif role.officer or role.code in OFFICERS:
        _need(state, signed, entry["person"], IAO, OFFICERS)
    else:
        _need(state, signed, entry["person"], IAO)


def _refuse_holder(state: State, signed: SignedEntry, role: str) -> None:
    """What keeps a person from holding ``role`` whoever signs for it."""
    person = signed.entry["person"]
    _refuse_stranger(state, signed)
    if not state.keys_of(person, "signing", signed.at):
        raise refuse("this person has no signing key in force", "no_key", "`wardwatch keys enrol`")
    share = SHARE_OF.get(role)
    if share is None:
        return
    if not state.keys_of(person, "recipient", signed.at):
        raise refuse("a holder of shares needs an age recipient", "no_key", "`wardwatch keys enrol`")
    if any(holder == person and held != share for holder, held in state.shares_ever):
        raise refuse(
            "who holds or ever held one of the two shares, as deputy too, never holds the other",
            "both_shares",
        )


def _refuse_stranger(state: State, signed: SignedEntry) -> None:
    person = signed.entry["person"]
    if person not in state.persons:
        raise refuse("there is no such person in the register", "unknown_person")
    if state.has_left(person, signed.at):
        raise refuse("this person has left", "left")


def _training_recorded(state: State, signed: SignedEntry, _: Mapping[str, Role]) -> None:
    _refuse_stranger(state, signed)
    if date.fromisoformat(signed.entry["on"]) > signed.at.date():
        raise refuse("a training is recorded after it was given", "training_ahead")
    _need(state, signed, signed.entry["person"], IAO | SIROS, trained=False)


def _role_ended(state: State, signed: SignedEntry, _: Mapping[str, Role]) -> None:
    entry = signed.entry
    if not any((grant.person, grant.role) == (entry["person"], entry["role"]) for grant in state.grants):
        raise refuse("this person was never granted this role", "no_role")
    _need(state, signed, entry["person"], IAO | OFFICERS, trained=False)


def _person_left(state: State, signed: SignedEntry, _: Mapping[str, Role]) -> None:
    _refuse_stranger(state, signed)
    _need(state, signed, signed.entry["person"], IAO | OFFICERS, trained=False)


def _key_revoked(state: State, signed: SignedEntry, _: Mapping[str, Role]) -> None:
    entry = signed.entry
    if not any((key.holder, key.name) == (entry["person"], entry["key"]) for key in state.keys):
        raise refuse("this person has no such key", "unknown_key", "`wardwatch keys list` shows the keys")
    _refuse_later(signed)
    _need(state, signed, entry["person"], IAO | OFFICERS, trained=False)


def _refuse_later(signed: SignedEntry) -> None:
    if moment_of(signed.entry["from"]) > signed.at:
        raise refuse("a key is revoked from now or from a moment in the past", "not_yet")


def _hospital_enrolled(state: State, signed: SignedEntry, _: Mapping[str, Role]) -> None:
    entry = signed.entry
    if entry["recipient"] == entry["signing_public"]:
        raise refuse("a hospital has two different keys", "key_enrolled")
    for public in (entry["recipient"], entry["signing_public"]):
        holder = state.key_holder(public)
        if holder is not None:
            reason = "key_enrolled" if holder == entry["organisation"] else "key_of_another"
            raise refuse("this key is enrolled already", reason, "ask the hospital for keys of its own")
    _need(state, signed, "", IAO, OFFICERS)


def _hospital_revoked(state: State, signed: SignedEntry, _: Mapping[str, Role]) -> None:
    if not any(hospital.organisation == signed.entry["organisation"] for hospital in state.hospitals):
        raise refuse("this hospital is not enrolled", "recipient_not_enrolled")
    _refuse_later(signed)
    _need(state, signed, "", IAO | OFFICERS, trained=False)


def _share_holder_succeeded(state: State, signed: SignedEntry, _: Mapping[str, Role]) -> None:
    entry = signed.entry
    since = moment_of(entry["from"])
    if entry["role"] not in ONE_HOLDER:
        raise refuse("this is not one of the two offices that hold a share", "unknown_role")
    if since < signed.at:
        raise refuse("no role is granted for the past", "backdated")
    if state.in_office(entry["role"], since) != [entry["predecessor"]]:
        raise refuse("the predecessor does not hold this office then", "no_role")
    if entry["person"] == entry["predecessor"]:
        raise refuse("nobody succeeds themself", "in_office")
    _refuse_holder(state, signed, entry["role"])
    _need(state, signed, entry["person"], IAO, OFFICERS)


_RULES = {
    "founded": _founded,
    "person_enrolled": _person_enrolled,
    "role_granted": _role_granted,
    "training_recorded": _training_recorded,
    "role_ended": _role_ended,
    "person_left": _person_left,
    "key_revoked": _key_revoked,
    "hospital_enrolled": _hospital_enrolled,
    "hospital_revoked": _hospital_revoked,
    "share_holder_succeeded": _share_holder_succeeded,
}
