"""The landing zone: a delivery is there whole, under its own key, with a receipt, or not at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra import commit_points, landing
from infra.containers import Control
from infra.inbox import recognise
from infra.keyring import Keyring
from infra.landing import Decision, Landing
from infra.landing_share import read_share
from infra.officers import OFFICE, Officers, create_demo_officers
from infra.receipts import Receipt, fingerprint, load_receipt, load_refusal, safe_name
from infra.sealing import public_of, seal, unseal
from infra.shares import join
from schemas.errors import (
    CannotOpen,
    DeliveryConflict,
    DeliveryRefused,
    ForbiddenColumn,
    IdentifierInText,
    IntegrityError,
    KeyUnavailable,
    UnsafeArchive,
    UsageError,
)
from transforms.records import sniff_dialect

CANARY = "9990000018"
TEXT = f"EPIKEY|PARTYEAR|NEWNHSNO\n1|201999|{CANARY}\n2|201999|\n".encode()
OTHER = TEXT + b"3|201999|\n"
NAME = "NIC359603_HES_APC_201999.txt"
NOW = datetime(2026, 11, 22, 3, 15, 30, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Keyring, Officers, Path]:
    workspace = tmp_path_factory.mktemp("workspace")
    keyring = Keyring.create(workspace / "keys", now=NOW)
    return keyring, create_demo_officers(workspace, trained_on=date(2026, 1, 5)), workspace


@pytest.fixture
def zone(tmp_path: Path, keys: tuple[Keyring, Officers, Path]) -> Landing:
    (tmp_path / "inbox").mkdir()
    return Landing(tmp_path / "landing", keys[0], keys[1], Clock())


def decide(name: str, head: bytes, control: Control | None) -> Decision:
    """What the night does, in small: the header is looked at and the name read."""
    header = sniff_dialect(head).header
    if "PATIENT_NAME" in header:
        raise ForbiddenColumn("the delivery has a column that is forbidden: PATIENT_NAME")
    what = recognise(name, header)
    return Decision(
        what.dataset,
        what.period,
        "DARS-NIC-359603-D2Q6M",
        date(2031, 3, 31),
        what.sender,
        what.snapshot_date,
    )


def put(zone: Landing, content: bytes, name: str = NAME) -> Path:
    path = zone.root.parent / "inbox" / name
    path.write_bytes(content)
    return path


def land(zone: Landing, content: bytes = TEXT, name: str = NAME, **options: Any) -> list[landing.Landed]:
    path = put(zone, content, name)
    return zone.land(path, decide, remove=[path], **options)


def plaintext(zone: Landing, delivery: str) -> bytes:
    with zone.open_plaintext(delivery) as stream:
        return stream.read(-1)


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# landing


def test_a_landed_delivery_is_as_received_and_its_receipt_says_so(zone: Landing) -> None:
    sealed = seal(TEXT, zone.keyring.inbox_recipient)
    (landed,) = land(zone, sealed, NAME + ".age")
    receipt = landed.receipt
    assert not landed.already
    assert receipt.delivery_id == f"hes_apc-201999-{sha256(TEXT)[:12]}"
    assert plaintext(zone, receipt.delivery_id) == TEXT
    assert (receipt.content.sha256, receipt.content.bytes) == (sha256(TEXT), len(TEXT))
    assert (receipt.received.sha256, receipt.received.bytes) == (sha256(sealed), len(sealed))
    held = (zone.root / receipt.delivery_id / "content.age").read_bytes()
    assert (receipt.sealed.sha256, receipt.sealed.bytes) == (sha256(held), len(held))
    assert (receipt.dataset, receipt.period, receipt.sender, receipt.name) == (
        "hes_apc",
        "201999",
        "NIC359603",
        NAME,
    )
    assert (receipt.agreement, receipt.retain_until) == ("DARS-NIC-359603-D2Q6M", "2031-03-31")
    assert receipt.received_at == "2026-11-22T03:15:30Z"
    assert receipt.landing_fingerprint == fingerprint(receipt.landing_recipient)
    assert list((zone.root.parent / "inbox").iterdir()) == []


@pytest.mark.parametrize("wrap", [bytes, gzip.compress, lambda content: zipped((NAME, content))])
def test_the_same_content_has_the_same_delivery_id_however_it_was_wrapped(
    zone: Landing, wrap: Callable[[bytes], bytes]
) -> None:
    (landed,) = land(zone, wrap(TEXT))
    assert landed.receipt.delivery_id.endswith(sha256(TEXT)[:12])


def test_each_delivery_has_its_own_key(zone: Landing) -> None:
    first, second = land(zone)[0].receipt, land(zone, OTHER, "NIC359603_HES_APC_202006.txt")[0].receipt
    assert first.landing_recipient != second.landing_recipient
    exchanged = (zone.root / second.delivery_id / "key.pipeline.age").read_bytes()
    (zone.root / first.delivery_id / "key.pipeline.age").write_bytes(exchanged)
    with pytest.raises(IntegrityError):
        plaintext(zone, first.delivery_id)


def test_the_two_officers_together_have_the_key_and_neither_has_it_alone(
    zone: Landing, keys: tuple[Keyring, Officers, Path]
) -> None:
    receipt = land(zone)[0].receipt
    folder = zone.root / receipt.delivery_id

    def private_key(role: str) -> str:
        lines = (keys[2] / "officers" / role / "identity.age-key").read_text().splitlines()
        return next(line for line in lines if not line.startswith("#"))

    shares = {}
    for share, holders, strangers in (
        ("guardian", OFFICE["guardian"], OFFICE["siro"]),
        ("siro", OFFICE["siro"], OFFICE["guardian"]),
    ):
        sealed = (folder / f"share.{share}.age").read_bytes()
        opened = {bytes(unseal(sealed, private_key(holder))) for holder in holders}
        assert len(opened) == 1, "officer and deputy hold the same share"
        said = opened.pop()
        shares[share] = read_share(said, receipt.delivery_id, share, receipt.landing_recipient)
        for identity in (*map(private_key, strangers), *zone.keyring.landing_recovery_identities):
            with pytest.raises(CannotOpen):
                unseal(sealed, identity)
    secret = join(shares["guardian"], shares["siro"]).decode()
    assert public_of(secret) == receipt.landing_recipient
    assert bytes(unseal((folder / "content.age").read_bytes(), secret)) == TEXT
    assert b"AGE-SECRET-KEY" not in shares["guardian"] + shares["siro"]
    with pytest.raises(IntegrityError):
        read_share(said, receipt.delivery_id, "guardian", receipt.landing_recipient)


def test_only_the_owner_can_read_and_no_plaintext_or_key_lies_there(zone: Landing) -> None:
    old = os.umask(0)
    try:
        land(zone)
    finally:
        os.umask(old)
    for path in [zone.root, *zone.root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path.name
    content = everything(zone.root)
    assert len(content) == 5
    for name, held in content.items():
        assert CANARY.encode() not in held, name
        assert b"AGE-SECRET-KEY" not in held, name


def test_an_archive_of_several_files_gives_several_deliveries(zone: Landing) -> None:
    archive = zipped(
        ("HES_APC_201999.txt", TEXT), ("HES_OP_201999.txt", OTHER), ("HES_OP_201999.ctl", b"records=3\n")
    )
    landed = land(zone, archive, "NIC359603.zip")
    assert [(one.receipt.dataset, one.receipt.member, one.receipt.members) for one in landed] == [
        ("hes_apc", 1, 2),
        ("hes_op", 2, 2),
    ]
    assert [one.receipt.expected_records for one in landed] == [None, 3]
    assert [receipt.delivery_id for receipt in zone.held()] == [one.receipt.delivery_id for one in landed]


def test_what_a_control_file_states_is_kept(zone: Landing) -> None:
    (landed,) = land(zone, control=Control(records=2, bytes=len(TEXT)))
    assert landed.receipt.expected_records == 2


# again


def test_the_same_file_again_changes_nothing_and_leaves_the_inbox(zone: Landing) -> None:
    (first,) = land(zone)
    before = everything(zone.root)
    (again,) = land(zone)
    assert again.already
    assert again.receipt == first.receipt
    assert everything(zone.root) == before
    assert list((zone.root.parent / "inbox").iterdir()) == []


def test_the_same_content_in_another_wrapping_or_under_another_name_changes_nothing(zone: Landing) -> None:
    land(zone)
    before = everything(zone.root)
    assert land(zone, gzip.compress(TEXT))[0].already
    assert land(zone, TEXT, "NIC359603_HES_APC_201999_again.txt")[0].already
    assert everything(zone.root) == before


def test_the_same_content_as_another_period_is_a_conflict(zone: Landing) -> None:
    land(zone)
    with pytest.raises(DeliveryConflict, match="the same content is held as hes_apc-201999-"):
        land(zone, TEXT, "NIC359603_HES_APC_202006.txt")


def test_the_same_name_with_other_content_is_a_conflict_that_says_what_to_do(zone: Landing) -> None:
    land(zone)
    with pytest.raises(DeliveryConflict, match=f"--replaces {sha256(TEXT)} and --reason") as caught:
        land(zone, OTHER)
    assert caught.value.code == "delivery.conflict"
    assert len(zone.held()) == 1


def test_a_redelivery_is_taken_with_what_it_replaces_and_a_reason(zone: Landing) -> None:
    land(zone)
    (again,) = land(zone, OTHER, replaces=sha256(TEXT), reason="corrected by the supplier")
    assert (again.receipt.replaces, again.receipt.reason) == (sha256(TEXT), "corrected by the supplier")
    assert len(zone.held()) == 2, "what is superseded stays until its own time"
    with pytest.raises(DeliveryConflict):
        land(zone, OTHER + b"4|201999|\n")


@pytest.mark.parametrize("replaces", [sha256(b"never held"), sha256(OTHER)])
def test_what_is_replaced_must_be_held_for_that_dataset_and_period(zone: Landing, replaces: str) -> None:
    land(zone, OTHER, "NIC359603_HES_OP_201999.txt")
    with pytest.raises(DeliveryConflict, match="the content to be replaced"):
        land(zone, TEXT, replaces=replaces, reason="corrected")


def test_a_reason_holds_no_identifier_and_comes_with_what_it_replaces(zone: Landing) -> None:
    with pytest.raises(IdentifierInText) as caught:
        land(zone, replaces=sha256(TEXT), reason=f"wrong for patient {CANARY}")
    assert CANARY not in str(caught.value)
    for options in ({"reason": "corrected"}, {"replaces": sha256(TEXT)}):
        with pytest.raises(UsageError):
            land(zone, **options)


# refused


def refused(zone: Landing, content: bytes, kind: type[DeliveryRefused], name: str = NAME) -> Path:
    """Land what is refused; nothing may stay but the receipt of refusal. Returns the file in the inbox."""
    path = put(zone, content, name)
    before = everything(zone.root) if zone.root.exists() else {}
    with pytest.raises(kind) as caught:
        zone.land(path, decide, remove=[path])
    assert CANARY not in str(caught.value)
    receipt = zone.root / "refused" / f"{sha256(content)}.json"
    refusal = load_refusal(receipt, zone.keyring)
    assert (refusal.code, refusal.message) == (caught.value.code, caught.value.message)
    assert refusal.refused_at == "2026-11-22T03:15:30Z"
    after = everything(zone.root)
    assert after.pop(str(receipt.relative_to(zone.root)))
    assert after == before, "something of a refused delivery was kept"
    assert CANARY.encode() not in receipt.read_bytes()
    assert [entry.name for entry in zone.root.iterdir() if entry.name.startswith(".")] == []
    return path


def test_a_forbidden_column_keeps_nothing_not_even_the_file_in_the_inbox(zone: Landing) -> None:
    path = refused(zone, f"EPIKEY|PATIENT_NAME\n1|{CANARY}\n".encode(), ForbiddenColumn)
    assert not path.exists()


def test_any_other_refusal_leaves_the_file_to_be_looked_at(zone: Landing) -> None:
    assert refused(zone, b"no header\n", DeliveryRefused).exists()
    assert refused(zone, TEXT, DeliveryRefused, "unknown.txt").exists()
    assert refused(zone, zipped(("../" + NAME, TEXT)), UnsafeArchive).exists()
    assert refused(zone, b"", DeliveryRefused).exists()
    assert refused(zone, seal(TEXT, zone.keyring.landing_recovery_recipient), CannotOpen).exists()


def test_a_cut_or_changed_cipher_stream_is_refused_after_all_of_it_was_read(zone: Landing) -> None:
    """The first chunks are authentic, so the refusal comes when most of it was written to staging."""
    content = TEXT + b"4|201999|\n" * 300_000
    sealed = bytearray(seal(content, zone.keyring.inbox_recipient))
    sealed[-5] ^= 1
    refused(zone, bytes(sealed), CannotOpen)
    refused(zone, bytes(sealed[:-100_000]), CannotOpen)


def test_one_refused_file_of_an_archive_keeps_none_of_them(zone: Landing) -> None:
    land(zone, OTHER, "NIC359603_HES_AE_201999.txt")
    refused(zone, zipped(("HES_APC_201999.txt", TEXT), ("unknown.txt", TEXT + b"9|9|\n")), DeliveryRefused)
    refused(zone, zipped(("HES_APC_201999.txt", TEXT), ("x_HES_APC_201999.txt", OTHER)), DeliveryConflict)


def test_a_size_that_differs_from_the_control_file_is_refused(zone: Landing) -> None:
    path = put(zone, TEXT)
    with pytest.raises(DeliveryRefused, match="states 1 bytes"):
        zone.land(path, decide, control=Control(bytes=1), remove=[path])
    assert path.exists()


def test_a_file_that_changes_while_it_is_read_is_refused(zone: Landing) -> None:
    path = put(zone, TEXT)

    def growing(name: str, head: bytes, control: Control | None) -> Decision:
        path.write_bytes(OTHER)
        return decide(name, head, control)

    with pytest.raises(DeliveryRefused, match="changed while it was read"):
        zone.land(path, growing, remove=[path])
    assert zone.held() == []
    assert path.exists()


def test_an_unexpected_error_leaves_nothing_behind(zone: Landing) -> None:
    def broken(name: str, head: bytes, control: Control | None) -> Decision:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        zone.land(put(zone, TEXT), broken)
    assert everything(zone.root) == {}


# names


@pytest.mark.parametrize(
    "name",
    [
        NAME,
        "20260320_nic709865_hes_apc_202510",
        "mhs001mpi_pseudo_dars_nic_393510_d6h1d.csv",
        "NIC377644_HES_APC_201999_APPROVED_51667_01010001_0.txt",
        "NIC359603_CIVIL_DEATHS_20240415.csv",
    ],
)
def test_names_of_extracts_are_kept_as_they_are(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        f"patient {CANARY}.txt",
        "patient 999 000 0018.txt",
        "999-000-0018_HES_APC.txt",
        "home_SW1A 1AA.txt",
        "a\nb.txt",
        "a\x1b[31mb.txt",
        "\u202etxt.exe",
        "x" * 200,
        "",
        "\udcff.txt",
        "name@example.org.txt",
    ],
)
def test_a_name_that_may_hold_an_identifier_or_harm_a_terminal_is_replaced_by_its_digest(name: str) -> None:
    assert safe_name(name).startswith("sha256-")
    assert safe_name(name) == safe_name(name)
    assert len(safe_name(name)) == 71


def test_a_name_with_an_identifier_reaches_neither_receipt_nor_message(zone: Landing) -> None:
    name = f"HES_APC_201999_{CANARY}.txt"
    (landed,) = land(zone, TEXT, name)
    assert landed.receipt.name == safe_name(name)
    with pytest.raises(DeliveryConflict) as caught:
        land(zone, OTHER, name)
    assert CANARY not in str(caught.value)
    assert all(CANARY.encode() not in content for content in everything(zone.root).values())


# receipts


@pytest.mark.parametrize("field", ["dataset", "retain_until", "period", "landing_recipient", "agreement"])
def test_a_changed_receipt_is_noticed(zone: Landing, field: str) -> None:
    receipt = land(zone)[0].receipt
    path = zone.root / receipt.delivery_id / "receipt.json"
    document = json.loads(path.read_bytes())
    document["receipt"][field] = "hes_op"
    path.write_bytes(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    for reading in (zone.held, lambda: plaintext(zone, receipt.delivery_id), lambda: land(zone)):
        with pytest.raises(IntegrityError):
            reading()


def test_a_receipt_of_another_delivery_or_purpose_is_noticed(zone: Landing) -> None:
    first, second = land(zone)[0].receipt, land(zone, OTHER, "NIC359603_HES_OP_201999.txt")[0].receipt
    path = zone.root / first.delivery_id / "receipt.json"
    path.write_bytes((zone.root / second.delivery_id / "receipt.json").read_bytes())
    with pytest.raises(IntegrityError, match="another one"):
        zone.held()
    with pytest.raises(IntegrityError):
        load_refusal(path, zone.keyring)


def test_a_receipt_survives_a_rotation_of_the_signing_key(
    zone: Landing, tmp_path: Path, keys: tuple[Keyring, Officers, Path]
) -> None:
    keyring = Keyring.create(tmp_path / "own" / "keys", now=NOW)
    old = Landing(zone.root, keyring, keys[1], Clock())
    receipt = land(old)[0].receipt
    rotated = keyring.rotate("manifest_signing", now=NOW).rotate("landing_recovery", now=NOW)
    new = Landing(zone.root, rotated, keys[1], Clock())
    assert new.held() == [receipt]
    assert plaintext(new, receipt.delivery_id) == TEXT
    assert isinstance(load_receipt(zone.root / receipt.delivery_id / "receipt.json", rotated), Receipt)


# reading


@pytest.mark.parametrize("more", [0, 200_000], ids=["small", "several chunks"])
def test_content_that_is_not_what_was_landed_is_noticed(zone: Landing, more: int) -> None:
    """The public half of a landing key is no secret: whoever knows it can seal other content to it."""
    receipt = land(zone, TEXT + b"4|201999|\n" * (more // 10))[0].receipt
    path = zone.root / receipt.delivery_id / "content.age"
    sealed = path.read_bytes()
    other = seal(OTHER + b"4|201999|\n" * (more // 10), receipt.landing_recipient)
    flipped = sealed[:-20] + bytes([sealed[-20] ^ 1]) + sealed[-19:]
    for forged in (other, sealed[:200] + other[200:], flipped, sealed[:-1], sealed + b"x", b""):
        path.write_bytes(forged)
        with pytest.raises(IntegrityError):
            plaintext(zone, receipt.delivery_id)
    path.unlink()
    with pytest.raises(IntegrityError):
        plaintext(zone, receipt.delivery_id)


def test_what_was_not_read_is_verified_on_leaving_unless_abandoned(zone: Landing) -> None:
    receipt = land(zone, TEXT + b"4|201999|\n" * 50_000)[0].receipt
    path = zone.root / receipt.delivery_id / "content.age"
    path.write_bytes(path.read_bytes()[:-1000])
    with zone.open_plaintext(receipt.delivery_id) as stream:
        assert stream.read(6) == b"EPIKEY"
        stream.abandon()
    with pytest.raises(IntegrityError), zone.open_plaintext(receipt.delivery_id) as stream:
        stream.read(6)


def test_a_stream_gives_the_same_bytes_read_or_read_into(zone: Landing) -> None:
    content = TEXT + b"4|201999|\n" * 50_000
    receipt = land(zone, content)[0].receipt
    for size in (1000, 1 << 16, 1 << 20):
        pieces, buffer = [], bytearray(size)
        with zone.open_plaintext(receipt.delivery_id) as stream:
            while taken := stream.readinto(buffer):
                pieces.append(bytes(buffer[:taken]))
        assert b"".join(pieces) == content
        with zone.open_plaintext(receipt.delivery_id) as stream:
            pieces = list(iter(lambda stream=stream, size=size: stream.read(size), b""))  # type: ignore[misc]
        assert b"".join(pieces) == content


def test_an_error_of_the_reader_passes_through_as_it_is(zone: Landing) -> None:
    delivery = land(zone)[0].receipt.delivery_id
    with pytest.raises(DeliveryRefused, match="ours"), zone.open_plaintext(delivery):
        raise DeliveryRefused("ours")


@pytest.mark.parametrize("delivery", ["../landing", "hes_apc-201999-000000000000", "refused", ""])
def test_only_deliveries_are_opened(zone: Landing, delivery: str) -> None:
    land(zone)
    with pytest.raises(UsageError):
        plaintext(zone, delivery)


# the landing window


def test_the_window_closes_after_its_days_and_then_the_pipeline_cannot_read(zone: Landing) -> None:
    old = land(zone)[0].receipt.delivery_id
    zone.clock.now = NOW + timedelta(days=1)  # type: ignore[attr-defined]
    young = land(zone, OTHER, "NIC359603_HES_OP_201999.txt")[0].receipt.delivery_id
    assert zone.close_windows(NOW.date() + timedelta(days=35), 35) == []
    assert zone.close_windows(NOW.date() + timedelta(days=36), 35) == [old]
    assert zone.close_windows(NOW.date() + timedelta(days=36), 35) == [], "nothing is closed twice"
    assert not zone.readable(old)
    with pytest.raises(KeyUnavailable, match="Caldicott Guardian and the SIRO"):
        plaintext(zone, old)
    assert plaintext(zone, young) == OTHER
    names = {path.name for path in (zone.root / old).iterdir()}
    assert names == {"content.age", "share.guardian.age", "share.siro.age", "receipt.json"}
    assert land(zone)[0].already, "closing the window does not forget the delivery"


# killed


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, and no cleaning up happens."""


@contextmanager
def killed_at(point: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def reached(name: str) -> None:
        if name == point:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(commit_points, "reached", reached)
        patch.setattr(landing.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            yield


@pytest.mark.parametrize("point", ["landing.staged", "landing.committed", "landing.inbox_emptied"])
def test_a_run_killed_anywhere_is_completed_by_the_next(
    zone: Landing, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(("HES_APC_201999.txt", TEXT), ("HES_OP_201999.txt", OTHER))
    with killed_at(point, monkeypatch):
        land(zone, archive, "NIC359603.zip")
    for receipt in zone.held():
        assert plaintext(zone, receipt.delivery_id) in (TEXT, OTHER), "what is there is whole"
    zone.sweep()
    path = zone.root.parent / "inbox" / "NIC359603.zip"
    if path.exists():
        zone.land(path, decide, remove=[path])
    assert [plaintext(zone, receipt.delivery_id) for receipt in zone.held()] == [TEXT, OTHER]
    assert not path.exists()
    assert zone.sweep() == 0, "nothing is left in staging"


@pytest.mark.parametrize("point", ["landing.window_closing", "landing.window_closed"])
def test_a_killed_closing_is_completed_by_the_next(
    zone: Landing, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = land(zone)[0].receipt.delivery_id
    with killed_at(point, monkeypatch):
        zone.close_windows(NOW.date() + timedelta(days=99), 35)
    zone.close_windows(NOW.date() + timedelta(days=99), 35)
    assert not zone.readable(delivery)


def test_sweeping_removes_staging_and_nothing_else(zone: Landing) -> None:
    land(zone)
    before = everything(zone.root)
    left = zone.root / ".staging-0123456789abcdef"
    left.mkdir()
    (left / "content.age").write_bytes(b"cut")
    assert zone.sweep() == 1
    assert everything(zone.root) == before
