"""Persons, roles and keys: who left, moved, lapsed, lost a key or helps themself gets nowhere.

Each test is an attack of the governance paper; its result is the one that the paper requires.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from infra import commit_points
from infra.audit import read as read_audit
from infra.files import make_folder, write_atomic
from infra.keyring import Keyring, PublicKeys
from infra.landing_share import write_share
from infra.officers import (
    IDENTITY_FILE,
    OFFICE,
    SHARE_ROLES,
    SIGNING_FILE,
    Officers,
    ShareRole,
    load_identity,
    load_signing_key,
    refuse_private_keys,
)
from infra.provisioning import create_demo_hospital
from infra.receipts import Digest, Receipt, fingerprint, sign_document
from infra.register import Register
from infra.register_entries import FIRST_PREV, SignedEntry, key_name, make_entry, text_of
from infra.register_resealed import files_now
from infra.register_resealing import Zones
from infra.sealing import new_identity, seal, unseal
from infra.signing import SigningKey, canonical_json, parse_canonical
from infra.vault import VaultWriter, read_listed_file
from infra.vault import verify as verify_vault
from infra.vault_opening import open_with_officers
from infra.workspace import Workspace
from schemas.errors import CannotOpen, IntegrityError, KeyUnavailable, NotPermitted
from tests.support.command_line import Ran, wardwatch
from tests.support.workspaces import EVENING, Clock, tree

DAY = timedelta(days=1)


def register_of(workspace: Workspace) -> Register:
    return Register.load(workspace.zone("keys"))


def own_key(workspace: Workspace, role: str) -> Path:
    return workspace.zone("officers") / role / SIGNING_FILE


def keys(workspace: Workspace, *arguments: str | Path, clock: Clock | None = None) -> Ran:
    return wardwatch(workspace.root, "keys", *arguments, clock=clock or Clock())


def entered(workspace: Workspace, *arguments: str | Path, clock: Clock | None = None) -> Register:
    ran = keys(workspace, *arguments, clock=clock)
    assert ran.exit_code == 0, ran.err
    return register_of(workspace)


def signed_by(workspace: Workspace, roles: tuple[str, ...], kind: str, **fields: object) -> SignedEntry:
    """An entry with exactly these signatures, as somebody might put together by hand."""
    entry = register_of(workspace).draft(kind, EVENING, **fields)
    return entry.sign(*(load_signing_key(own_key(workspace, role)) for role in roles))


def refused(workspace: Workspace, signed: SignedEntry, tmp_path: Path) -> str:
    """The reason code with which ``keys add`` refuses the entry; the log holds it and the register is as it was."""
    before = register_of(workspace).digest
    file = tmp_path / "entry.json"
    file.write_bytes(signed.to_bytes())
    ran = keys(workspace, "add", file)
    assert ran.exit_code == NotPermitted.exit_code, ran.err
    assert register_of(workspace).digest == before
    last = list(read_audit(workspace.zone("audit")))[-1]
    assert (last.decision, last.action) == ("refuse", f"register.{signed.kind}")
    return last.reason_code


def reason(call: object) -> str:
    with pytest.raises(NotPermitted) as caught:
        call()  # type: ignore[operator]
    return caught.value.reason_code


def grant(person: str, role: str, until: str = "") -> dict[str, str]:
    return {"person": person, "role": role, "from": text_of(EVENING), "until": until}


# 43: one person, several keys or roles ----------------------------------------------------------------


def test_two_keys_of_one_person_are_one_signature(empty_workspace: Workspace, tmp_path: Path) -> None:
    """The IAO, made a deputy of nobody, signs a hospital's enrolment with two keys: four eyes are two persons."""
    second = SigningKey.create()
    register = register_of(empty_workspace)
    enrolment = register.draft(
        "person_enrolled",
        EVENING,
        person="demo-iao",
        recipient="",
        signing_public=second.public,
        replaces=False,
    ).sign(second, *(load_signing_key(own_key(empty_workspace, role)) for role in ("siro", "iao")))
    file = tmp_path / "second.json"
    file.write_bytes(enrolment.to_bytes())
    entered(empty_workspace, "add", file)
    recipient = new_identity()[1]
    fields = {
        "organisation": "RXX",
        "key_kind": "age",
        "recipient": recipient,
        "fingerprint": "0" * 16,
        "signing_public": SigningKey.create().public,
        "declaration": "CG-2026/17",
    }
    twice = signed_by(empty_workspace, ("iao",), "hospital_enrolled", **fields).sign(second)
    assert refused(empty_workspace, twice, tmp_path) == "no_authority"


def test_one_person_with_both_roles_is_one_person(empty_workspace: Workspace, tmp_path: Path) -> None:
    makes_siro_iao = signed_by(
        empty_workspace,
        ("deputy_siro", "caldicott_guardian", "iao"),
        "role_granted",
        **grant("demo-siro", "iao"),
    )
    file = tmp_path / "both.json"
    file.write_bytes(makes_siro_iao.to_bytes())
    entered(empty_workspace, "add", file)
    trial = {"key_kind": "age", "fingerprint": "0" * 16, "declaration": "CG-2026/17", "organisation": "RXX"}
    hospital = signed_by(
        empty_workspace,
        ("siro",),
        "hospital_enrolled",
        recipient=new_identity()[1],
        signing_public=SigningKey.create().public,
        **trial,
    )
    assert refused(empty_workspace, hospital, tmp_path) == "one_person"


def test_the_same_key_for_two_persons_is_refused(empty_workspace: Workspace, tmp_path: Path) -> None:
    own = load_signing_key(own_key(empty_workspace, "intelligence_analyst"))
    again = signed_by(
        empty_workspace,
        ("iao", "intelligence_analyst"),
        "person_enrolled",
        person="somebody-else",
        recipient="",
        signing_public=own.public,
        replaces=False,
    )
    assert refused(empty_workspace, again, tmp_path) == "key_of_another"


# 50, 113, 114: revoked, lapsed, left, moved -------------------------------------------------------------


def test_a_signer_who_is_revoked_or_lapses_between_signing_and_use_counts_no_longer(
    empty_workspace: Workspace,
) -> None:
    """Whoever uses a signature asks for the moment of use; what was in order when it was made is not enough."""
    signed, used = EVENING + DAY, EVENING + 3 * DAY
    key_id = load_signing_key(own_key(empty_workspace, "siro")).key_id
    before = register_of(empty_workspace)
    assert before.signer(key_id, signed).roles == ("siro",)
    after = entered(empty_workspace, "revoke", key_id, clock=Clock(EVENING + 2 * DAY))
    assert reason(lambda: after.signer(key_id, used)) == "revoked_key"
    lapsed = EVENING + 366 * DAY
    assert reason(lambda: before.require_role("demo-siro", ["siro"], lapsed)) == "training_lapsed"
    assert before.signer(key_id, lapsed).roles == ()


def test_a_leaver_s_key_is_refused_from_the_moment_of_leaving(
    empty_workspace: Workspace, tmp_path: Path
) -> None:
    key_id = load_signing_key(own_key(empty_workspace, "caldicott_guardian")).key_id
    register = entered(empty_workspace, "leave", "demo-caldicott-guardian", "--from", "2026-11-20")
    left = datetime.fromisoformat("2026-11-20T00:00:00+00:00")
    assert left < EVENING
    assert reason(lambda: register.signer(key_id, EVENING)) == "revoked_key"
    assert (
        reason(lambda: register.require_role("demo-caldicott-guardian", OFFICE["guardian"], EVENING))
        == "left"
    )
    assert register.holders("caldicott_guardian", EVENING) == ()
    signed = signed_by(
        empty_workspace,
        ("iao", "caldicott_guardian"),
        "role_granted",
        **grant("demo-deputy-siro", "release_manager"),
    )
    assert refused(empty_workspace, signed, tmp_path) == "revoked_key"
    with pytest.raises(KeyUnavailable, match="vacant"):
        Officers.load(empty_workspace.zone("keys"))


def test_a_mover_does_not_keep_the_role(empty_workspace: Workspace) -> None:
    register = entered(empty_workspace, "end", "demo-intelligence-analyst", "intelligence_analyst")
    assert (
        reason(lambda: register.require_role("demo-intelligence-analyst", ["intelligence_analyst"], EVENING))
        == "no_role"
    )
    assert register.person("demo-intelligence-analyst", EVENING).roles == ()


# 51: deputies -----------------------------------------------------------------------------------------


def test_a_deputy_counts_within_the_dates_and_not_outside(empty_workspace: Workspace) -> None:
    clock = Clock()
    entered(empty_workspace, "enrol", "--person", "stand-in", clock=clock)
    entered(empty_workspace, "train", "stand-in", "--on", "2026-11-01", clock=clock)
    dates = ("--from", "2026-12-01", "--until", "2026-12-14")
    register = entered(empty_workspace, "grant", "stand-in", "deputy_siro", *dates, clock=clock)
    for day, within in (
        ("2026-11-30", False),
        ("2026-12-01", True),
        ("2026-12-14", True),
        ("2026-12-15", False),
    ):
        at = datetime.fromisoformat(f"{day}T12:00:00+00:00")
        recipient = register.person("stand-in", at).recipient
        if within:
            assert register.require_role("stand-in", ["siro", "deputy_siro"], at) == "deputy_siro"
        else:
            asked = lambda at=at: register.require_role("stand-in", ["siro", "deputy_siro"], at)  # noqa: E731
            assert reason(asked) == "outside_deputyship"
        assert (recipient in Officers.of(register, at).recipients("siro")) == within


# 108, 109: rotation, a lost share ----------------------------------------------------------------------


def test_what_was_signed_before_a_rotation_stays_signed_and_only_the_new_key_signs_after_it(
    empty_workspace: Workspace,
) -> None:
    path = own_key(empty_workspace, "siro")
    old = load_signing_key(path)
    rotated = EVENING + DAY
    reader = register_of(empty_workspace)
    register = entered(empty_workspace, "rotate", "--person", "demo-siro", clock=Clock(rotated))
    new = load_signing_key(path)
    assert old.key_id != new.key_id
    assert register.signer(old.key_id, EVENING).person == "demo-siro"
    assert reader.signer(old.key_id, EVENING).person == "demo-siro", (
        "a reader with the earlier register goes on"
    )
    assert reason(lambda: register.signer(old.key_id, rotated)) == "revoked_key"
    assert register.signer(new.key_id, rotated).person == "demo-siro"


def test_with_a_lost_share_the_deputy_still_opens(empty_workspace: Workspace) -> None:
    officers = Officers.load(empty_workspace.zone("keys"))
    for share in SHARE_ROLES:
        sealed = seal(b"a share", officers.recipients(share))
        deputy = empty_workspace.zone("officers") / OFFICE[share][1] / IDENTITY_FILE
        assert unseal(sealed, load_identity(deputy)) == b"a share"
        other = next(name for name in SHARE_ROLES if name != share)
        for role in OFFICE[other]:
            with pytest.raises(CannotOpen):
                unseal(sealed, load_identity(empty_workspace.zone("officers") / role / IDENTITY_FILE))


# 109 and a change of office: resealing -----------------------------------------------------------------

DELIVERY = "hes_apc-202199-0123456789ab"
SHARE: ShareRole = "guardian"


@pytest.fixture
def delivered(empty_workspace: Workspace) -> Workspace:
    """A workspace with one delivery in the vault and its share in the landing zone."""
    officers = Officers.load(empty_workspace.zone("keys"))
    manifest_key = Keyring.open(empty_workspace.zone("keys")).manifest_signing_key
    with VaultWriter(
        empty_workspace.zone("vault"),
        delivery_id=DELIVERY,
        dataset="hes_apc",
        contract_id="hes_apc_2021",
        generation=1,
        officers=officers,
        signing_key=manifest_key,
    ) as writer:
        columns = {"record_key": ["k1"], "issuer": ["RXX"], "local_patient_identifier": ["A1"]}
        writer.add(pl.DataFrame(columns))
        writer.finish()
    landed = make_folder(empty_workspace.zone("landing") / DELIVERY)
    receipt = receipt_of(DELIVERY)
    write_atomic(landed / "receipt.json", sign_document(receipt, manifest_key))
    share = write_share(DELIVERY, SHARE, receipt.landing_recipient, b"half of a key")
    write_atomic(landed / "share.guardian.age", seal(share, officers.recipients("guardian")))
    return empty_workspace


def receipt_of(delivery: str) -> Receipt:
    """The receipt of a delivery whose content does not matter."""
    nothing = Digest(sha256=hashlib.sha256(b"").hexdigest(), bytes=0)
    _, public = new_identity()
    return Receipt(
        delivery_id=delivery,
        dataset="hes_apc",
        period="202199",
        snapshot_date=None,
        sender=None,
        agreement="DEMO-AGREEMENT",
        name="NIC000000_HES_APC_202199.txt",
        content=nothing,
        received=nothing,
        member=1,
        members=1,
        sealed=nothing,
        sealed_head=nothing.sha256,
        landing_recipient=public,
        landing_fingerprint=fingerprint(public),
        received_at="2026-11-19T22:00:00Z",
        retain_until="2027-11-19",
        expected_records=None,
        replaces=None,
        reason=None,
        tool_version="0",
    )


def zones(workspace: Workspace) -> Zones:
    signers = PublicKeys.load(workspace.zone("keys")).signers("manifest_signing")
    return Zones(workspace.zone("vault"), workspace.zone("landing"), signers)


def opened_by(workspace: Workspace, holder: str) -> list[bytes]:
    """The shares of the Guardian's office, vault and landing, opened with the key in ``officers/<holder>``."""
    identity = load_identity(workspace.zone("officers") / holder / IDENTITY_FILE)
    ((folder, _, entry),) = zones(workspace).vaults(SHARE)
    (landed,) = zones(workspace).landed(SHARE)
    sealed = (read_listed_file(folder, entry), landed.read_bytes())
    return [bytes(unseal(content, identity)) for content in sealed]


def files_of_shares(workspace: Workspace) -> list[str]:
    return sorted(path.name for path in (workspace.zone("vault") / DELIVERY).glob("shares-*"))


def succession(workspace: Workspace) -> None:
    entered(workspace, "enrol", "--person", "demo-next")
    entered(workspace, "train", "demo-next", "--on", "2026-11-19")
    entered(workspace, "succeed", "caldicott_guardian", "demo-next")


def resealing(workspace: Workspace, holder: str, *rest: str | Path) -> Ran:
    folder = workspace.zone("officers") / holder
    own = ("--identity", folder / IDENTITY_FILE, "--key", folder / SIGNING_FILE)
    return keys(workspace, "reseal", SHARE, *own, *rest)


@pytest.mark.parametrize("holder", ["caldicott_guardian", "deputy_caldicott_guardian"])
def test_at_a_change_of_office_the_shares_open_for_the_successor_and_no_longer_for_the_predecessor(
    delivered: Workspace, holder: str
) -> None:
    """Also when the predecessor's key is lost: then the deputy does it."""
    before = opened_by(delivered, holder)
    succession(delivered)
    assert resealing(delivered, holder).exit_code == 0
    assert files_of_shares(delivered) == ["shares-guardian-0002.age", "shares-siro.age"]
    for heir in ("demo-next", "deputy_caldicott_guardian"):
        assert opened_by(delivered, heir) == before, "the same shares"
    for stranger in ("caldicott_guardian", "siro", "deputy_siro"):
        with pytest.raises(CannotOpen):
            opened_by(delivered, stranger)
    last = list(read_audit(delivered.zone("audit"), action="shares.reseal"))[-1]
    assert (last.reason_code, last.decision) == ("resealed", "allow")
    assert resealing(delivered, "demo-next").exit_code == 0
    assert files_of_shares(delivered) == ["shares-guardian-0003.age", "shares-siro.age"]
    assert opened_by(delivered, "demo-next") == before
    ((folder, manifest, _),) = zones(delivered).vaults(SHARE)
    listed, records = files_now(folder, manifest, zones(delivered).signers)
    there = {path.relative_to(folder).as_posix() for path in tree(folder)}
    assert there == {"manifest.json", *listed, *records}, "nothing is left that no signed list vouches for"


def test_a_file_that_is_no_share_of_the_delivery_is_not_sealed_anew(delivered: Workspace) -> None:
    """Whatever lies under the name of a share would otherwise be opened by its holder and sealed to the successor."""
    landed = delivered.zone("landing") / DELIVERY / "share.guardian.age"
    recipients = Officers.load(delivered.zone("keys")).recipients("guardian")
    receipt = receipt_of(DELIVERY)
    for other in (
        b"half of a key",
        write_share("hes_apc-202199-ba9876543210", SHARE, receipt.landing_recipient, b"half of a key"),
        write_share(DELIVERY, "siro", receipt.landing_recipient, b"half of a key"),
    ):
        landed.write_bytes(seal(other, recipients))
        before = files_of_shares(delivered)
        assert resealing(delivered, "caldicott_guardian").exit_code == 40
        assert files_of_shares(delivered) == before


class Killed(BaseException):
    pass


@pytest.mark.parametrize("point", ["reseal.before_record", "reseal.after_record"])
def test_a_resealing_that_was_killed_leaves_the_old_shares_or_the_new_and_is_completed_by_the_next(
    delivered: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def kill(name: str) -> None:
        if name == point:
            raise Killed

    before = opened_by(delivered, "caldicott_guardian")
    succession(delivered)
    file = tmp_path / "resealed.json"
    assert resealing(delivered, "caldicott_guardian", "--out", file).exit_code == 0
    monkeypatch.setattr(commit_points, "reached", kill)
    with pytest.raises(Killed):
        keys(delivered, "add", file)
    monkeypatch.undo()
    assert opened_by(delivered, "deputy_caldicott_guardian") == before
    for _ in range(2):
        assert keys(delivered, "add", file).exit_code == 0
        assert files_of_shares(delivered) == ["shares-guardian-0002.age", "shares-siro.age"]
        assert opened_by(delivered, "demo-next") == before


def test_shares_are_resealed_by_the_office_and_to_the_office_alone(
    delivered: Workspace, tmp_path: Path
) -> None:
    succession(delivered)
    officers = delivered.zone("officers")
    identity = officers / "deputy_caldicott_guardian" / IDENTITY_FILE
    for role in ("siro", "data_engineer"):
        ran = keys(
            delivered, "reseal", SHARE, "--identity", identity, "--key", officers / role / SIGNING_FILE
        )
        assert ran.exit_code == NotPermitted.exit_code
    other = officers / "siro" / IDENTITY_FILE
    key = officers / "deputy_caldicott_guardian" / SIGNING_FILE
    assert (
        keys(delivered, "reseal", SHARE, "--identity", other, "--key", key).exit_code == CannotOpen.exit_code
    )

    file = tmp_path / "resealed.json"
    assert resealing(delivered, "deputy_caldicott_guardian", "--out", file).exit_code == 0
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"share":"guardian"', b'"share":"siro"'))
    assert keys(delivered, "add", file).exit_code in (IntegrityError.exit_code, NotPermitted.exit_code)
    file.write_bytes(content)
    entered(delivered, "revoke", key_name(register_of(delivered).person("demo-next", EVENING).recipient))
    assert keys(delivered, "add", file).exit_code == NotPermitted.exit_code, "it was sealed to a revoked key"
    last = list(read_audit(delivered.zone("audit"), action="shares.reseal"))[-1]
    assert (last.decision, last.reason_code) == ("refuse", "recipients")
    assert files_of_shares(delivered) == ["shares-guardian.age", "shares-siro.age"]


def test_a_record_of_resealing_by_another_key_or_of_another_vault_does_not_count(
    delivered: Workspace,
) -> None:
    succession(delivered)
    assert resealing(delivered, "caldicott_guardian").exit_code == 0
    folder = delivered.zone("vault") / DELIVERY
    record = folder / "resealed-guardian-0002.json"
    content = record.read_bytes()
    signed = parse_canonical(content)
    stranger = SigningKey.create()
    for changed in (
        content.replace(b'"number":2', b'"number":3'),
        canonical_json({**signed, "signature": stranger.sign(signed["record"], "vault-reseal")}),
        b"{}",
    ):
        record.write_bytes(changed)
        with pytest.raises(IntegrityError):
            zones(delivered).vaults(SHARE)
    record.write_bytes(content)
    record.rename(folder / "resealed-guardian-0003.json")
    with pytest.raises(IntegrityError):
        zones(delivered).vaults(SHARE)


# 116: helping oneself ---------------------------------------------------------------------------------


def test_nobody_grants_trains_or_ends_anything_for_themself(
    empty_workspace: Workspace, tmp_path: Path
) -> None:
    own = {
        "role_granted": grant("demo-iao", "auditor"),
        "training_recorded": {"person": "demo-iao", "on": "2026-11-20"},
        "role_ended": {"person": "demo-iao", "role": "iao", "from": text_of(EVENING)},
        "person_left": {"person": "demo-iao", "from": text_of(EVENING)},
    }
    for kind, fields in own.items():
        signed = signed_by(empty_workspace, ("iao",), kind, **fields)
        assert refused(empty_workspace, signed, tmp_path) == "own_entry", kind


def test_the_iao_makes_nobody_an_approver_alone(empty_workspace: Workspace, tmp_path: Path) -> None:
    """Not themself, and not a person of their own making either."""
    until = text_of(EVENING + DAY)
    entered(empty_workspace, "enrol", "--person", "demo-puppet")
    identity = new_identity()[1]
    recipient = signed_by(
        empty_workspace,
        ("iao", "siro"),
        "person_enrolled",
        person="demo-iao",
        recipient=identity,
        signing_public="",
        replaces=False,
    )
    file = tmp_path / "recipient.json"
    file.write_bytes(recipient.to_bytes())
    entered(empty_workspace, "add", file)
    for role in ("deputy_siro", "deputy_caldicott_guardian"):
        for person, expected in (("demo-iao", "own_entry"), ("demo-puppet", "no_authority")):
            alone = signed_by(empty_workspace, ("iao",), "role_granted", **grant(person, role, until))
            assert refused(empty_workspace, alone, tmp_path) == expected, (person, role)


def test_the_iao_s_own_role_needs_the_siro(empty_workspace: Workspace, tmp_path: Path) -> None:
    another = grant("demo-auditor", "iao")
    for by in (("iao",), ("iao", "caldicott_guardian"), ("siro",)):
        signed = signed_by(empty_workspace, by, "role_granted", **another)
        assert refused(empty_workspace, signed, tmp_path) == "no_authority", by


@pytest.mark.parametrize(
    ("person", "role"),
    [
        ("demo-caldicott-guardian", "deputy_siro"),
        ("demo-deputy-caldicott-guardian", "deputy_siro"),
        ("demo-siro", "deputy_caldicott_guardian"),
        ("demo-deputy-siro", "deputy_caldicott_guardian"),
    ],
)
@pytest.mark.parametrize("after_leaving_the_office", [False, True])
def test_nobody_is_ever_both_guardian_and_siro_deputies_included(
    empty_workspace: Workspace, tmp_path: Path, person: str, role: str, after_leaving_the_office: bool
) -> None:
    if after_leaving_the_office:
        held = register_of(empty_workspace).roles_held(person, EVENING)
        entered(empty_workspace, "end", person, held[0])
    by = ("iao", "deputy_siro" if "guardian" in person else "deputy_caldicott_guardian")
    signed = signed_by(empty_workspace, by, "role_granted", **grant(person, role, text_of(EVENING + DAY)))
    assert refused(empty_workspace, signed, tmp_path) == "both_shares"


def test_no_founders_of_one_s_own_take_the_place_of_the_register(
    empty_workspace: Workspace, tmp_path: Path
) -> None:
    """Whoever can write the folder can exchange it; the log, and a digest kept elsewhere, tell."""
    known = register_of(empty_workspace).founding
    folder = empty_workspace.zone("keys") / "register"
    founders, signing = [], []
    for role in ("iao", "siro", "caldicott_guardian"):
        signing.append(SigningKey.create())
        founders.append(
            {
                "person": f"mallory-{role.replace('_', '-')}",
                "role": role,
                "recipient": new_identity()[1],
                "signing_public": signing[-1].public,
                "trained_on": "2026-11-20",
            }
        )
    entry = SignedEntry(make_entry(1, FIRST_PREV, EVENING, "founded", {"demo": True, "founders": founders}))
    for path in folder.iterdir():
        path.unlink()
    (folder / "000001.json").write_bytes(entry.sign(*signing).to_bytes())
    assert register_of(empty_workspace).holders("siro", EVENING)[0].person == "mallory-siro"
    for arguments in (("list",), ("list", "--expect", known)):
        assert keys(empty_workspace, *arguments).exit_code == IntegrityError.exit_code
    assert keys(empty_workspace, "grant", "mallory-iao", "auditor").exit_code == IntegrityError.exit_code


# 117, 118: key files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_nothing_is_signed_with_a_key_file_that_others_can_read(
    empty_workspace: Workspace, tmp_path: Path, mode: int
) -> None:
    file = tmp_path / "entry.json"
    assert keys(empty_workspace, "train", "demo-auditor", "--on", "2026-11-20", "--out", file).exit_code == 0
    before = file.read_bytes()
    own_key(empty_workspace, "iao").chmod(mode)
    ran = keys(empty_workspace, "sign", file, "--key", own_key(empty_workspace, "iao"))
    assert ran.exit_code == KeyUnavailable.exit_code
    assert file.read_bytes() == before
    assert keys(empty_workspace, "train", "demo-auditor", "--on", "2026-11-20").exit_code == (
        KeyUnavailable.exit_code
    )


def test_private_keys_of_persons_beside_the_audit_key_are_found(empty_workspace: Workspace) -> None:
    """The account that signs the audit log's checkpoints must not be able to open the vault as well."""
    register = register_of(empty_workspace)
    refuse_private_keys(empty_workspace.zone("officers"), register)
    real = Register(
        demo=False,
        digest=register.digest,
        founding=register.founding,
        entries=register.entries,
        void=register.void,
        _state=register._state,
    )
    with pytest.raises(KeyUnavailable, match="15 private key file"):
        refuse_private_keys(empty_workspace.zone("officers"), real)
    for path in sorted(empty_workspace.zone("officers").rglob("*-key")):
        path.unlink()
    refuse_private_keys(empty_workspace.zone("officers"), real)


def test_a_demonstration_hospital_has_keys_of_its_own_and_is_enrolled_by_two(
    empty_workspace: Workspace,
) -> None:
    hospital = create_demo_hospital(empty_workspace, "RXX", EVENING)
    assert create_demo_hospital(empty_workspace, "RXX", EVENING) == hospital, "it is made once"
    folder = empty_workspace.zone("officers") / "hospital-RXX"
    assert unseal(seal(b"x", hospital.recipient), load_identity(folder / IDENTITY_FILE)) == b"x"
    assert load_signing_key(folder / SIGNING_FILE).public == hospital.signing_public
    newest = register_of(empty_workspace).entries[-1]
    assert (newest.kind, len(newest.signatures)) == ("hospital_enrolled", 2)
    assert len(list(read_audit(empty_workspace.zone("audit"), object="RXX"))) == 2


def test_after_a_change_of_office_the_vault_is_whole_and_opens_for_the_successor(
    delivered: Workspace,
) -> None:
    signers = PublicKeys.load(delivered.zone("keys")).signers("manifest_signing")
    folder = delivered.zone("vault") / DELIVERY
    succession(delivered)
    assert resealing(delivered, "caldicott_guardian").exit_code == 0
    assert verify_vault(delivered.zone("vault"), signers) == []
    guardian, siro = (
        load_identity(delivered.zone("officers") / holder / IDENTITY_FILE) for holder in ("demo-next", "siro")
    )
    opened = open_with_officers(folder, guardian, siro, "RXX", ["local_patient_identifier"], signers)
    assert opened["local_patient_identifier"].to_list() == ["A1"]
