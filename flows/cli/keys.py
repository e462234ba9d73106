"""``wardwatch keys``: the pipeline's keys, and the register of persons, roles and hospitals.

A change of the register is an entry that several persons sign. In the demonstration their keys lie in ``officers/``
and a command enters the change at once. Otherwise the entry travels: ``--out FILE`` writes it, each signer runs
``keys sign FILE --key KEYFILE`` on the own machine, and ``keys add FILE`` verifies and appends it here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import typer

from flows.cli.acting import acting_as
from flows.cli.context import audit_log, context_of, is_named, now, print_json
from flows.cli.context import person as asking
from infra.files import storage_errors, sync_folder, write_atomic
from infra.keyring import Keyring, PublicKeys
from infra.officers import (
    SHARE_ROLES,
    SIGNING_FILE,
    OwnKeys,
    load_identity,
    load_signing_key,
    make_own_keys,
    refuse_private_keys,
)
from infra.register import Register, add_entry, refuse_stale
from infra.register import found as found_register
from infra.register_entries import (
    FIRST_PREV,
    SignedEntry,
    certificate_fingerprint,
    key_name,
    make_entry,
    object_of,
    text_of,
)
from infra.register_resealing import Zones, is_resealed, reseal, take
from infra.register_rules import IAO, OFFICERS
from infra.signing import SigningKey
from infra.workspace import Workspace
from schemas.errors import IdentifierInText, IntegrityError, KeyUnavailable, NotPermitted, UsageError

keys_app = typer.Typer(
    help="The pipeline's keys, and the register of persons, roles and hospitals.", no_args_is_help=True
)

ENTRY_BYTES = 1 << 20
RESEALED_BYTES = 1 << 28  # some kilobytes for each delivery
ROTATING = SIGNING_FILE + ".new"
ROTATED_BY = ("data_engineer", "iao")

_OUT = typer.Option(
    None, "--out", metavar="FILE", help="Write the entry to be signed instead of entering it."
)
_KEY = typer.Option([], "--key", metavar="KEYFILE", help="Sign with this key file; may be given again.")
_FROM = typer.Option("", "--from", metavar="YYYY-MM-DD", help="From the beginning of this day (UTC); now.")


# Listing ----------------------------------------------------------------------------------------------


@keys_app.command("list")
def keys_list(
    context: typer.Context,
    as_json: bool = typer.Option(False, "--json"),
    expected: str = typer.Option(
        "", "--expect", metavar="DIGEST", help="A digest of the register, kept elsewhere, that must be in it."
    ),
) -> None:
    """Pipeline keys, persons with roles and training, hospitals: fingerprints and dates, never a secret."""
    workspace = context_of(context).open(quiet=as_json)
    register = _register(workspace, expected)
    at = now()
    found = {
        "pipeline": Keyring.open(workspace.zone("keys")).describe(),
        "register": {
            "demo": register.demo,
            "digest": register.digest,
            "founding": register.founding,
            "entries": len(register.entries),
            "void": sorted(register.void),
        },
        "persons": list(_persons(register, at)),
        "hospitals": [
            {
                "organisation": hospital.organisation,
                "kind": hospital.kind,
                "fingerprint": hospital.fingerprint,
                "signing": key_name(hospital.signing_public),
                "declaration": hospital.declaration,
            }
            for hospital in register.hospitals(at)
        ],
    }
    if as_json:
        print_json(found)
    else:
        _print_list(found)
    refuse_private_keys(workspace.zone("officers"), register)


def _register(workspace: Workspace, expected: str = "") -> Register:
    try:
        register = Register.load(workspace.zone("keys"), expected=expected)
        register.require_recorded(workspace.zone("audit"))
    except IntegrityError as error:
        audit_log(workspace, "iao").record(
            "keys.verify", "register", purpose="", decision="fail", reason_code=error.code
        )
        raise
    return register


def _persons(register: Register, at: datetime) -> Iterator[dict[str, Any]]:
    for person in register.persons(at):
        yield {
            "person": person.person,
            "roles": list(person.roles),
            "roles_that_do_not_count": [
                role for role in register.roles_held(person.person, at) if role not in person.roles
            ],
            "trained_on": person.trained_on.isoformat() if person.trained_on else None,
            "left": register.has_left(person.person, at),
            "keys": [
                {"use": key.use, "key": key.name, "in_force": counts}
                for key, counts in register.keys(at)
                if key.holder == person.person
            ],
        }


def _print_list(found: dict[str, Any]) -> None:
    print("keys of the pipeline")
    for key in found["pipeline"]:
        print(f"  {key['name']:<20} {key['kind']:<10} {key['fingerprint']:<18} made {key['created']}")
    print("persons")
    for person in found["persons"]:
        roles = ", ".join(person["roles"]) or "no role in force"
        if person["roles_that_do_not_count"]:
            roles += f" (training not in date: {', '.join(person['roles_that_do_not_count'])})"
        state = "left" if person["left"] else f"trained {person['trained_on'] or 'never'}"
        print(f"  {person['person']:<34} {roles}; {state}")
        for key in person["keys"]:
            print(f"    {key['use']:<10} {key['key']}" + ("" if key["in_force"] else "  no longer in force"))
    print("hospitals" if found["hospitals"] else "hospitals: none enrolled")
    for hospital in found["hospitals"]:
        print(
            f"  {hospital['organisation']:<8} {hospital['kind']:<8} {hospital['fingerprint']}"
            f"  receipts {hospital['signing']}  declaration {hospital['declaration']}"
        )
    register = found["register"]
    print(f"register: {register['entries']} entries, digest {register['digest']}")
    print(f"  founded with {register['founding']}; keep both elsewhere and compare (--expect)")
    if register["void"]:
        print(f"  void in hindsight: entries {', '.join(map(str, register['void']))}")


# Key files --------------------------------------------------------------------------------------------


@keys_app.command("new")
def keys_new(
    folder: Path = typer.Argument(..., help="Your own folder, on your own machine."),
    identity: bool = typer.Option(True, "--identity/--no-identity", help="With an age key to open with."),
) -> None:
    """Make your own key files and print their public halves. What is there already is kept."""
    _print_public(make_own_keys(folder, "its owner alone", identity=identity), folder)


def _print_public(keys: OwnKeys, folder: Path) -> None:
    print(f"private keys in {folder}: they stay there, and no one else has them")
    print(f"signing key: {keys.signing.public}")
    if keys.recipient:
        print(f"age recipient: {keys.recipient}")


# Changes ----------------------------------------------------------------------------------------------


@keys_app.command("enrol")
def keys_enrol(
    context: typer.Context,
    person: str = typer.Option("", "--person", help="A staff id, never a name."),
    hospital: str = typer.Option("", "--hospital", help="An organisation code."),
    signing: str = typer.Option("", "--signing-public", help="Public signing key, 64 hex characters."),
    recipient: str = typer.Option("", "--recipient", help="Public age key."),
    certificate: Path = typer.Option(None, "--certificate", help="A hospital's OpenPGP certificate."),
    declaration: str = typer.Option(
        "", "--declaration", help="Reference of the declaration of the hospital's Caldicott Guardian."
    ),
    replace: bool = typer.Option(False, "--replace", help="The person's earlier keys of that kind end."),
    key: list[Path] = _KEY,
    out: Path = _OUT,
) -> None:
    """Enrol a person with a key (or a further one), or a hospital to which case lists may be sealed."""
    if bool(person) == bool(hospital):
        raise UsageError("enrol either --person or --hospital")
    workspace = context_of(context).open()
    if person:
        if certificate or declaration:
            raise UsageError("a certificate and a declaration are a hospital's")
        own = []
        if not signing and not recipient:
            made = _demo_keys_of(workspace, person)
            signing, recipient, own = made.signing.public, made.recipient, [made.signing]
        fields: dict[str, Any] = {
            "person": person,
            "recipient": recipient,
            "signing_public": signing,
            "replaces": replace,
        }
        _enter(workspace, now(), "person_enrolled", fields, key, out, own)
        return
    if bool(recipient) == bool(certificate):
        raise UsageError("a hospital has either --recipient (age) or --certificate (OpenPGP)")
    found = _read(certificate).decode("ascii", "replace") if certificate else recipient
    fields = {
        "organisation": hospital,
        "key_kind": "openpgp" if certificate else "age",
        "recipient": found,
        "fingerprint": certificate_fingerprint(found) if certificate else _age_name(found),
        "signing_public": signing,
        "declaration": declaration,
    }
    _enter(workspace, now(), "hospital_enrolled", fields, key, out)


def _age_name(recipient: str) -> str:
    if not recipient.startswith("age1"):
        raise UsageError("this is not a public age key")
    return key_name(recipient)


def _demo_keys_of(workspace: Workspace, person: str) -> OwnKeys:
    if not Register.load(workspace.zone("keys")).demo:
        raise UsageError(
            "name the person's public keys",
            next_step="the person makes them with `wardwatch keys new`, then --signing-public and --recipient",
        )
    if Path(person).name != person or person.startswith("."):
        raise UsageError("a staff id has small letters, digits, dots and hyphens")
    folder = workspace.zone("officers") / person
    keys = make_own_keys(folder, person, identity=True, demo=True)
    _print_public(keys, folder)
    return keys


@keys_app.command("grant")
def keys_grant(
    context: typer.Context,
    person: str = typer.Argument(...),
    role: str = typer.Argument(..., help="A code of roles.yaml."),
    since: str = _FROM,
    until: str = typer.Option(
        "", "--until", metavar="YYYY-MM-DD", help="The last day; deputyships have one."
    ),
    key: list[Path] = _KEY,
    out: Path = _OUT,
) -> None:
    """Grant a role. Signed by the IAO; an officer's role by an officer in office as well."""
    at = now()
    fields = {
        "person": person,
        "role": role,
        "from": text_of(max(at, _beginning(since, at))),
        "until": text_of(_beginning(until, at) + timedelta(days=1)) if until else "",
    }
    _enter(context_of(context).open(), at, "role_granted", fields, key, out)


@keys_app.command("train")
def keys_train(
    context: typer.Context,
    person: str = typer.Argument(...),
    on: str = typer.Option(..., "--on", metavar="YYYY-MM-DD"),
    key: list[Path] = _KEY,
    out: Path = _OUT,
) -> None:
    """Record the yearly training. Roles count for 365 days from it."""
    at = now()
    fields = {"person": person, "on": _beginning(on, at).date().isoformat()}
    _enter(context_of(context).open(), at, "training_recorded", fields, key, out)


@keys_app.command("end")
def keys_end(
    context: typer.Context,
    person: str = typer.Argument(...),
    role: str = typer.Argument(...),
    since: str = _FROM,
    key: list[Path] = _KEY,
    out: Path = _OUT,
) -> None:
    """End a role (a mover)."""
    at = now()
    fields = {"person": person, "role": role, "from": text_of(_beginning(since, at))}
    _enter(context_of(context).open(), at, "role_ended", fields, key, out)


@keys_app.command("leave")
def keys_leave(
    context: typer.Context,
    person: str = typer.Argument(...),
    since: str = _FROM,
    key: list[Path] = _KEY,
    out: Path = _OUT,
) -> None:
    """A person has left: every role and key ends, and with them what they approved and was not used yet."""
    at = now()
    fields = {"person": person, "from": text_of(_beginning(since, at))}
    _enter(context_of(context).open(), at, "person_left", fields, key, out)


@keys_app.command("revoke")
def keys_revoke(
    context: typer.Context,
    name: str = typer.Argument("", help="A key of a person, as `keys list` names it.", metavar="[KEY]"),
    hospital: str = typer.Option("", "--hospital", help="An organisation code: its keys."),
    since: str = _FROM,
    key: list[Path] = _KEY,
    out: Path = _OUT,
) -> None:
    """Revoke a key, from a moment that may lie in the past: what was entered with it since then is void."""
    if bool(name) == bool(hospital):
        raise UsageError("revoke either a key of a person or --hospital")
    workspace = context_of(context).open()
    at = now()
    moment = text_of(_beginning(since, at))
    if hospital:
        _enter(workspace, at, "hospital_revoked", {"organisation": hospital, "from": moment}, key, out)
        return
    found = [known for known, _ in _register(workspace).keys(at) if known.name == name]
    if not found:
        raise UsageError("no person has this key", next_step="`wardwatch keys list` names them")
    fields = {"person": found[0].holder, "key": name, "from": moment}
    _enter(workspace, at, "key_revoked", fields, key, out)


@keys_app.command("succeed")
def keys_succeed(
    context: typer.Context,
    role: str = typer.Argument(..., help="caldicott_guardian or siro"),
    person: str = typer.Argument(..., help="The successor."),
    since: str = _FROM,
    key: list[Path] = _KEY,
    out: Path = _OUT,
) -> None:
    """A change of office: one holder of a share ends and the next begins, in one entry.

    Shares of what was delivered before stay sealed to the predecessor until they are sealed anew.
    """
    workspace = context_of(context).open()
    at = now()
    moment = max(at, _beginning(since, at))
    holders = _register(workspace).in_office(role, moment)
    if len(holders) != 1:
        raise UsageError("this office has no holder to be succeeded", next_step="`wardwatch keys grant`")
    fields = {
        "person": person,
        "predecessor": holders[0].person,
        "role": role,
        "from": text_of(moment),
    }
    _enter(workspace, at, "share_holder_succeeded", fields, key, out)


@keys_app.command("rotate")
def keys_rotate(
    context: typer.Context,
    name: str = typer.Argument("", help="A key of the pipeline, from `keys list`.", metavar="[NAME]"),
    person: str = typer.Option("", "--person", help="Or: the signing key of this demonstration person."),
) -> None:
    """Replace a key. What was made with the one before stays readable and verifiable."""
    if bool(name) == bool(person):
        raise UsageError("rotate either a key of the pipeline or --person")
    workspace = context_of(context).open()
    if person:
        if not is_named() or asking("") != person:  # whose key it is may do so whatever the role
            acting_as(workspace, ROTATED_BY, "keys.rotate", "signing")
        _rotate_person(workspace, person)
        return
    audit = acting_as(workspace, ROTATED_BY, "keys.rotate", "pipeline")
    with workspace.writer_lock(), audit.action("keys.rotate", name, purpose="") as outcome:
        Keyring.open(workspace.zone("keys")).rotate(name, now=now())
        outcome.reason_code = "rotated"
    print(
        f"{name} rotated; senders need the new public key if this was the inbox key (`wardwatch keys list`)"
    )


def _rotate_person(workspace: Workspace, person: str) -> None:
    register = _register(workspace)
    if not register.demo:
        raise UsageError(
            "your private key is on your own machine",
            next_step=f"`wardwatch keys new`, then `keys enrol --person {person} --replace --out FILE`",
        )
    at = now()
    for path, key in _demo_signing_keys(workspace):
        holder = _holder_now(register, key, at)
        new_path = path.with_name(ROTATING)
        # Killed after the entry: the register knows the new key, and the file of the old one is still there.
        if holder is None and new_path.exists():
            holder = _holder_now(register, load_signing_key(new_path), at)
            if holder == person:
                _take_into_use(new_path, path)
                print(f"the rotation of the signing key of {person} is completed")
                return
        if holder != person:
            continue
        if not new_path.exists():
            write_atomic(new_path, SigningKey.create().secret_bytes().hex().encode() + b"\n")
        new = load_signing_key(new_path)
        fields = {"person": person, "recipient": "", "signing_public": new.public, "replaces": True}
        _enter(workspace, at, "person_enrolled", fields, [], None, [new, key])
        _take_into_use(new_path, path)
        return
    raise UsageError("no key of this person lies in officers/")


def _take_into_use(new_path: Path, path: Path) -> None:
    with storage_errors("officers"):
        os.replace(new_path, path)
        sync_folder(path.parent)


# A change of office, for what was delivered before ---------------------------------------------------


@keys_app.command("reseal")
def keys_reseal(
    context: typer.Context,
    share: str = typer.Argument(..., help="guardian or siro"),
    identity: Path = typer.Option(
        ..., "--identity", metavar="KEYFILE", help="Your age key, which opens them."
    ),
    key: Path = typer.Option(..., "--key", metavar="KEYFILE", help="Your signing key."),
    out: Path = _OUT,
) -> None:
    """Seal the shares of all deliveries anew, to those who hold the office now or will: yours to do at the end of
    your office, or as deputy. With --out on your own machine; `keys add FILE` puts them in place."""
    if share not in SHARE_ROLES:
        raise UsageError("the two shares are guardian and siro")
    workspace = context_of(context).open()
    content = reseal(
        _zones(workspace),
        _register(workspace),
        "guardian" if share == "guardian" else "siro",
        load_identity(identity),
        load_signing_key(key),
        now(),
    )
    if out is not None:
        write_atomic(out, content)
        print(f"written to {out}; `wardwatch keys add` puts the shares in place")
        return
    _take(workspace, content)


def _zones(workspace: Workspace) -> Zones:
    signers = PublicKeys.load(workspace.zone("keys")).signers("manifest_signing")
    return Zones(workspace.zone("vault"), workspace.zone("landing"), signers)


def _take(workspace: Workspace, content: bytes) -> None:
    manifest_key = Keyring.open(workspace.zone("keys")).manifest_signing_key
    with workspace.writer_lock():
        register = _register(workspace)
        taken = take(_zones(workspace), register, content, manifest_key, audit_log(workspace, "pipeline"))
    print(f"{taken} file(s) of shares are sealed to those in office")


# The first entry --------------------------------------------------------------------------------------


@keys_app.command("found")
def keys_found(
    founder: list[str] = typer.Option(
        ...,
        "--founder",
        metavar="ROLE,PERSON,SIGNING,RECIPIENT,TRAINED",
        help="For iao, caldicott_guardian and siro: staff id, public keys (the IAO's age key may be empty), day.",
    ),
    out: Path = typer.Option(..., "--out", metavar="FILE"),
    key: list[Path] = _KEY,
) -> None:
    """Write the first entry of a real register, for its three founders to sign. Needs no workspace.

    `keys add` then puts it in the place of the demonstration's register, before anything is delivered.
    """
    names = ("role", "person", "signing_public", "recipient", "trained_on")
    parts = [text.split(",") for text in founder]
    if any(len(part) != len(names) for part in parts):
        raise UsageError("a founder is said in five parts with commas between: " + ",".join(names))
    founders = [dict(zip(names, part, strict=True)) for part in parts]
    entry = make_entry(1, FIRST_PREV, now(), "founded", {"demo": False, "founders": founders})
    signed = SignedEntry(entry).sign(*map(load_signing_key, key))
    write_atomic(out, signed.to_bytes())
    print(
        f"written to {out}, with {len(signed.signatures)} of 3 signatures; keep the digest of what you add:"
    )
    print("it is printed by `keys list` as the one that the register was founded with")


def _found(workspace: Workspace, signed: SignedEntry) -> None:
    for zone in ("landing", "vault"):
        if any(workspace.zone(zone).iterdir()):
            raise UsageError(
                "what was delivered here is sealed to the demonstration's officers",
                next_step="make a new workspace, and found its register before the first delivery",
            )
    audit = audit_log(workspace, "iao")
    try:
        refuse_stale(signed, now())
        register = found_register(workspace.zone("keys"), [signed], audit=audit, in_place_of_demo=True)
    except (NotPermitted, IntegrityError, UsageError, KeyUnavailable) as error:
        reason = error.reason_code if isinstance(error, NotPermitted) else error.code
        audit.record("register.founded", "register", purpose="", decision="refuse", reason_code=reason)
        raise
    print(f"the register is founded; keep this digest elsewhere: {register.founding}")
    print("remove officers/: the demonstration's keys are nobody's now")


# Entries that travel ----------------------------------------------------------------------------------


@keys_app.command("sign")
def keys_sign(
    file: Path = typer.Argument(..., help="An entry, as --out wrote it."),
    key: Path = typer.Option(..., "--key", metavar="KEYFILE", help="Your own signing key."),
) -> None:
    """Sign an entry of the register, on your own machine. Needs no workspace. Read what it says first."""
    signed = SignedEntry.parse(_read(file))
    for name, value in signed.entry.items():
        shown = value if len(str(value)) <= 80 else f"({len(str(value))} characters)"
        print(f"  {name}: {shown}")
    own = load_signing_key(key)
    write_atomic(file, signed.sign(own).to_bytes())
    print(f"signed with {own.key_id}")


@keys_app.command("add")
def keys_add(context: typer.Context, file: Path = typer.Argument(..., help="A signed entry.")) -> None:
    """Verify a signed entry and append it to the register."""
    workspace = context_of(context).open()
    content = _read(file, RESEALED_BYTES)
    if is_resealed(content):
        _take(workspace, content)
        return
    try:
        signed = SignedEntry.parse(content)
    except (IntegrityError, IdentifierInText) as error:
        audit_log(workspace, "iao").record(
            "register.add", "register", purpose="", decision="refuse", reason_code=error.code
        )
        raise
    if signed.kind == "founded" and not signed.entry["demo"]:
        _found(workspace, signed)
    else:
        _add(workspace, signed)


def _enter(
    workspace: Workspace,
    at: datetime,
    kind: str,
    fields: dict[str, Any],
    keys: list[Path],
    out: Path | None,
    own: list[SigningKey] | None = None,
) -> None:
    """Draft an entry of the moment ``at`` and sign it with what is here; then write it to ``out``, or enter it."""
    register = _register(workspace)
    signed = register.draft(kind, at, **fields).sign(*(own or []), *map(load_signing_key, keys))
    if out is not None:
        write_atomic(out, signed.to_bytes())
        print(
            f"written to {out}, with {len(signed.signatures)} signature(s); each signer: `wardwatch keys sign`,"
        )
        print("then `wardwatch keys add`, before anything else is entered")
        return
    if register.demo:
        signed = signed.sign(*_demo_authorities(workspace, register, object_of(signed.entry), at))
    _add(workspace, signed)


def _add(workspace: Workspace, signed: SignedEntry) -> None:
    register = add_entry(workspace.zone("keys"), signed, now=now(), audit=audit_log(workspace, "iao"))
    what = signed.kind.replace("_", " ")
    print(f"{what}: entry {len(register.entries)}; the register is now {register.digest}")
    if register.void:
        print(f"void in hindsight: entries {', '.join(map(str, sorted(register.void)))}")


def _demo_signing_keys(workspace: Workspace) -> list[tuple[Path, SigningKey]]:
    paths = sorted(workspace.zone("officers").glob(f"*/{SIGNING_FILE}"))
    return [(path, load_signing_key(path)) for path in paths]


def _holder_now(register: Register, key: SigningKey, at: datetime) -> str | None:
    try:
        return register.signer(key.key_id, at).person
    except NotPermitted:
        return None


def _demo_authorities(workspace: Workspace, register: Register, about: str, at: datetime) -> list[SigningKey]:
    """The keys in officers/ of the IAO and the officers, without that of the person whom the entry is about."""
    found = []
    for _, key in _demo_signing_keys(workspace):
        holder = _holder_now(register, key, at)
        if holder not in (None, about) and set(register.roles_held(str(holder), at)) & (IAO | OFFICERS):
            found.append(key)
    return found


# What was typed ---------------------------------------------------------------------------------------


def _beginning(day: str, otherwise: datetime) -> datetime:
    """Midnight UTC at the beginning of ``day``; ``otherwise`` if it is empty."""
    if not day:
        return otherwise
    try:
        return datetime.combine(date.fromisoformat(day), time(), UTC)
    except ValueError:
        raise UsageError("a day is written YYYY-MM-DD") from None


def _read(path: Path, longest: int = ENTRY_BYTES) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(longest + 1)
    except OSError:
        raise UsageError("the file cannot be read") from None
    if len(content) > longest:
        raise UsageError("the file is too long for what it should be")
    return content


def register(app: typer.Typer) -> None:
    app.add_typer(keys_app, name="keys")
