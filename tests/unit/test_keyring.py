"""The keyring: it opens for its owner alone, keeps what it rotated, and never prints a secret."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pyrage
import pytest

from infra.keyring import KINDS, ROTATABLE, Keyring, PublicKeys, read_key_file
from infra.officers import (
    OFFICE,
    SHARE_ROLES,
    Officers,
    create_demo_officers,
    load_identity,
    load_signing_key,
    staff_roles,
)
from infra.sealing import new_identity, seal, unseal
from infra.signing import canonical_json, verify
from schemas.errors import CannotOpen, IntegrityError, KeyUnavailable, UsageError

NO_ENVIRONMENT: dict[str, str] = {}
MORNING = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)
LATER = datetime(2027, 1, 5, 6, 30, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    Keyring.create(folder, now=MORNING, environment=NO_ENVIRONMENT)
    return folder


def opened(folder: Path, **environment: str) -> Keyring:
    return Keyring.open(folder, environment=environment)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Opening ---------------------------------------------------------------------------------------------------


def test_it_opens_with_the_key_file_beside_it_and_gives_every_key(keys: Path) -> None:
    keyring = opened(keys)
    assert unseal(seal(b"x", keyring.inbox_recipient), keyring.inbox_identities) == b"x"
    assert unseal(seal(b"x", keyring.landing_recovery_recipient), keyring.landing_recovery_identities) == b"x"
    assert keyring.manifest_signing_key.public != keyring.audit_signing_key.public
    assert len(str.__str__(keyring.lake_metadata_key)) == 64
    assert len({keyring.linkage_token_key, keyring.linkage_file_key}) == 2
    assert len(keyring.linkage_token_key) == len(keyring.linkage_file_key) == 32


def test_the_key_file_may_lie_on_another_medium(tmp_path: Path) -> None:
    elsewhere = tmp_path / "stick" / "wardwatch.key"
    environment = {"WARDWATCH_UNLOCK_KEY_FILE": str(elsewhere)}
    Keyring.create(tmp_path / "keys", environment=environment)
    assert not (tmp_path / "keys" / "unlock.key").exists()
    assert opened(tmp_path / "keys", **environment).describe()
    with pytest.raises(KeyUnavailable, match="missing"):
        opened(tmp_path / "keys")


@pytest.mark.thorough
def test_it_opens_with_its_passphrase_and_without_a_key_file(tmp_path: Path) -> None:
    Keyring.create(tmp_path, "correct horse battery", environment=NO_ENVIRONMENT)
    assert not (tmp_path / "unlock.key").exists()
    assert opened(tmp_path, WARDWATCH_KEYRING_PASSPHRASE="correct horse battery").describe()


def test_another_passphrase_is_refused_and_a_rotation_keeps_the_one_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real derivation is meant to take a second or two for each look; what is tested here is ours.
    def encrypt(content: bytes, passphrase: str) -> bytes:
        return str.encode(passphrase) + b"|" + content

    def decrypt(sealed: bytes, passphrase: str) -> bytes:
        if not sealed.startswith(str.encode(passphrase) + b"|"):
            raise pyrage.DecryptError("Decryption failed")
        return sealed.partition(b"|")[2]

    monkeypatch.setattr(pyrage.passphrase, "encrypt", encrypt)
    monkeypatch.setattr(pyrage.passphrase, "decrypt", decrypt)
    Keyring.create(tmp_path, "correct horse battery", environment=NO_ENVIRONMENT).rotate("inbox")
    assert len(opened(tmp_path, WARDWATCH_KEYRING_PASSPHRASE="correct horse battery").inbox_identities) == 2
    with pytest.raises(KeyUnavailable) as refused:
        opened(tmp_path, WARDWATCH_KEYRING_PASSPHRASE="correct horse batterz")
    assert "batterz" not in str(refused.value)
    with pytest.raises(KeyUnavailable, match="missing"):
        opened(tmp_path)


def test_a_short_passphrase_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Keyring.create(tmp_path / "keys", "short", environment=NO_ENVIRONMENT)
    assert not list((tmp_path / "keys").iterdir())


def test_another_key_file_does_not_open_it(keys: Path) -> None:
    secret, _ = new_identity()
    (keys / "unlock.key").write_text(str.__str__(secret))
    with pytest.raises(KeyUnavailable, match="does not open"):
        opened(keys)


def test_a_changed_keyring_does_not_open(keys: Path) -> None:
    path = keys / "pipeline.keyring.age"
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.raises(KeyUnavailable):
        opened(keys)


def test_an_existing_keyring_is_never_overwritten(keys: Path) -> None:
    before = (keys / "pipeline.keyring.age").read_bytes()
    with pytest.raises(UsageError):
        Keyring.create(keys, environment=NO_ENVIRONMENT)
    assert (keys / "pipeline.keyring.age").read_bytes() == before


# Files -----------------------------------------------------------------------------------------------------


def test_its_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Keyring.create(tmp_path / "keys", environment=NO_ENVIRONMENT).rotate("inbox")
        create_demo_officers(tmp_path, trained_on=date(2026, 11, 1))
    finally:
        os.umask(before)
    made = [path for path in tmp_path.rglob("*")]
    assert len(made) > 20
    for path in made:
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path.name


@pytest.mark.parametrize("name", ["unlock.key", "pipeline.keyring.age"])
@pytest.mark.parametrize("wrong", [0o604, 0o640, 0o620, 0o601, 0o610, 0o666])
def test_a_key_file_open_to_anybody_else_stops_the_start(keys: Path, name: str, wrong: int) -> None:
    (keys / name).chmod(wrong)
    with pytest.raises(KeyUnavailable, match="open to the group or to others"):
        opened(keys)


@pytest.mark.parametrize("name", ["unlock.key", "pipeline.keyring.age"])
def test_a_linked_missing_or_odd_key_file_stops_the_start(keys: Path, name: str) -> None:
    path = keys / name
    moved = path.rename(keys / "elsewhere")
    with pytest.raises(KeyUnavailable, match="missing"):
        opened(keys)
    path.symlink_to(moved)
    with pytest.raises(KeyUnavailable, match="link"):
        opened(keys)
    path.unlink()
    path.mkdir(mode=0o700)
    with pytest.raises(KeyUnavailable):
        opened(keys)
    path.rmdir()
    os.mkfifo(path, 0o600)  # must not wait for a writer
    with pytest.raises(KeyUnavailable, match="not an ordinary file"):
        opened(keys)


@pytest.mark.parametrize(
    "content", ["", "# only a remark\n", "not a key", "AGE-SECRET-KEY-1A\nAGE-SECRET-KEY-1B\n"]
)
def test_what_is_no_key_file_is_refused_and_not_repeated(keys: Path, content: str) -> None:
    (keys / "unlock.key").write_text(content)
    with pytest.raises(KeyUnavailable) as refused:
        opened(keys)
    assert "AGE-SECRET" not in str(refused.value)


def test_a_key_file_of_the_standard_tool_is_understood(tmp_path: Path) -> None:
    secret, public = new_identity()
    path = tmp_path / "key.txt"
    path.write_text(f"# created: 2026-11-22T06:30:00Z\n# public key: {public}\n{str.__str__(secret)}\n")
    path.chmod(0o600)
    assert read_key_file(path, "a key file") == secret


# The public half -------------------------------------------------------------------------------------------


def test_the_public_keys_are_readable_without_unlocking(keys: Path) -> None:
    keyring = opened(keys)
    (keys / "unlock.key").unlink()
    public = PublicKeys.load(keys)
    assert public.recipient() == keyring.inbox_recipient
    assert public.recipient("landing_recovery") == keyring.landing_recovery_recipient
    assert public.signers() == keyring.signers("manifest_signing")
    signature = keyring.audit_signing_key.sign({"size": 1}, "audit-checkpoint")
    assert verify({"size": 1}, signature, "audit-checkpoint", public.signers("audit_signing"))
    with pytest.raises(KeyUnavailable):
        public.signers("linkage_token")


def test_a_stranger_s_openpgp_certificate_among_the_public_keys_is_noticed(keys: Path) -> None:
    import pysequoia

    stranger = pysequoia.Tsk.generate("Wardwatch inbox").extract_certificate()
    (keys / "inbox-openpgp.asc").write_text(str(stranger))
    with pytest.raises(IntegrityError, match="offers a key that the keyring does not hold"):
        opened(keys)


def test_a_stranger_s_key_among_the_public_ones_is_noticed(keys: Path) -> None:
    document = json.loads((keys / "public.json").read_bytes())
    document["keys"]["inbox"].append({"created": "", "kind": "age", "public": new_identity()[1]})
    (keys / "public.json").write_bytes(canonical_json(document))
    with pytest.raises(IntegrityError, match="does not hold"):
        opened(keys)


def test_a_rotation_that_was_killed_half_way_is_completed_at_the_next_opening(keys: Path) -> None:
    old_public = (keys / "public.json").read_bytes()
    rotated = opened(keys).rotate("inbox")
    for state in (old_public, None):
        (keys / "public.json").unlink()
        if state is not None:
            (keys / "public.json").write_bytes(state)
        assert opened(keys).inbox_recipient == rotated.inbox_recipient
        assert PublicKeys.load(keys).recipient() == rotated.inbox_recipient


# Rotation --------------------------------------------------------------------------------------------------


def test_after_a_rotation_files_already_on_their_way_still_open(keys: Path) -> None:
    before = opened(keys)
    on_its_way = seal(b"sent yesterday", before.inbox_recipient)
    before.rotate("inbox", now=LATER)
    after = opened(keys)
    assert after.inbox_recipient != before.inbox_recipient
    assert unseal(on_its_way, after.inbox_identities) == b"sent yesterday"
    with pytest.raises(CannotOpen):
        unseal(seal(b"sent today", after.inbox_recipient), before.inbox_identities)


@pytest.mark.parametrize("name", ["manifest_signing", "audit_signing"])
def test_after_a_rotation_old_signatures_still_verify(keys: Path, name: str) -> None:
    def signing_key(keyring: Keyring) -> object:
        return keyring.manifest_signing_key if name == "manifest_signing" else keyring.audit_signing_key

    before = opened(keys)
    key = before.manifest_signing_key if name == "manifest_signing" else before.audit_signing_key
    signature = key.sign({"a": 1}, "receipt")
    after = before.rotate(name, now=LATER)
    assert signing_key(after) != key
    assert len(after.signers(name)) == 2
    for signers in (opened(keys).signers(name), PublicKeys.load(keys).signers(name)):
        assert verify({"a": 1}, signature, "receipt", signers) == key.key_id


def test_two_rotations_lose_nothing_even_from_a_stale_keyring(keys: Path) -> None:
    stale = opened(keys)
    first = stale.rotate("inbox")
    second = stale.rotate("inbox")
    assert len(opened(keys).inbox_identities) == 3
    for keyring in (stale, first, second):
        assert unseal(seal(b"x", keyring.inbox_recipient), opened(keys).inbox_identities) == b"x"


@pytest.mark.parametrize("name", [*sorted(set(KINDS) - ROTATABLE), "no such key"])
def test_a_key_that_cannot_be_rotated_says_so_and_stays(keys: Path, name: str) -> None:
    before = (keys / "pipeline.keyring.age").read_bytes()
    with pytest.raises(UsageError):
        opened(keys).rotate(name)
    assert (keys / "pipeline.keyring.age").read_bytes() == before


# What a person sees ----------------------------------------------------------------------------------------


def test_the_list_of_keys_names_them_without_giving_one_away(keys: Path) -> None:
    keyring = opened(keys).rotate("inbox", now=LATER)
    rows = {row["name"]: row for row in keyring.describe()}
    assert set(rows) == set(KINDS)
    assert rows["inbox"]["created"] == "2026-11-22T06:30:00Z"
    assert rows["inbox"]["rotated"] == "2027-01-05T06:30:00Z"
    assert rows["linkage_token"]["rotated"] is None
    assert len({row["fingerprint"] for row in rows.values()}) == len(KINDS)


def test_no_secret_is_in_anything_that_prints_or_lies_open(keys: Path) -> None:
    keyring = opened(keys)
    secrets = [str.__str__(version.secret) for versions in keyring._keys.values() for version in versions]
    secrets.append((keys / "unlock.key").read_text().strip())
    shown = f"{keyring} {keyring!r} {keyring._keys} {keyring._unlock} {keyring.describe()}"
    shown += f"{keyring.linkage_token_key} {keyring.lake_metadata_key} {keyring.inbox_identities}"
    shown += (keys / "public.json").read_text() + (keys / "pipeline.keyring.age").read_bytes().decode(
        "latin-1"
    )
    assert len(secrets) == len(KINDS) + 1
    for secret in secrets:
        assert secret not in shown
        assert secret.lower() not in shown


# Officers --------------------------------------------------------------------------------------------------


def test_the_demonstration_has_every_role_with_keys_that_fit_the_register(tmp_path: Path) -> None:
    create_demo_officers(tmp_path, trained_on=date(2026, 11, 1))
    officers = Officers.load(tmp_path / "keys")
    assert officers.demo
    assert set(officers.by_role) == set(staff_roles())
    for role, officer in officers.by_role.items():
        folder = tmp_path / "officers" / role
        assert load_signing_key(folder / "signing.ed25519-key").public == officer.signing_public
        if officer.recipient:
            assert "DEMONSTRATION" in (folder / "identity.age-key").read_text()
            assert unseal(seal(b"x", officer.recipient), load_identity(folder / "identity.age-key")) == b"x"
    assert len({officer.person for officer in officers.by_role.values()}) == len(staff_roles())


def test_a_share_goes_to_the_officer_and_the_deputy(tmp_path: Path) -> None:
    officers = create_demo_officers(tmp_path, trained_on=date(2026, 11, 1))
    for share in SHARE_ROLES:
        expected = tuple(officers.by_role[role].recipient for role in OFFICE[share])
        assert officers.recipients(share) == expected


def test_real_officers_are_never_replaced_by_demonstration_ones(tmp_path: Path) -> None:
    create_demo_officers(tmp_path, trained_on=date(2026, 11, 1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError):
        create_demo_officers(tmp_path, trained_on=date(2026, 11, 1))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_one_person_cannot_hold_both_shares(tmp_path: Path) -> None:
    officers = create_demo_officers(tmp_path, trained_on=date(2026, 11, 1))
    guardian, siro = officers.by_role["caldicott_guardian"], officers.by_role["siro"]
    same_person = replace(siro, person=guardian.person)
    same_key = replace(siro, recipient=guardian.recipient)
    for both in (same_person, same_key):
        with pytest.raises(IntegrityError):
            replace(officers, by_role={**officers.by_role, "siro": both})
        with pytest.raises(IntegrityError):
            replace(officers, deputies={**officers.deputies, "siro": (both,)})
    without_a_key = {**officers.by_role, "siro": replace(siro, recipient="")}
    vacant = {role: officer for role, officer in officers.by_role.items() if role != "siro"}
    for unusable in (without_a_key, vacant):
        with pytest.raises(KeyUnavailable, match="vacant"):
            replace(officers, by_role=unusable)


def test_without_a_register_nothing_can_be_sealed(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailable):
        Officers.load(tmp_path)
    (tmp_path / "register").mkdir()
    with pytest.raises(KeyUnavailable):
        Officers.load(tmp_path)
    for document in (b"[]", b"{}", b'{"entry":{},"signatures":[]}'):
        (tmp_path / "register" / "000001.json").write_bytes(document)
        with pytest.raises(IntegrityError):
            Officers.load(tmp_path)
