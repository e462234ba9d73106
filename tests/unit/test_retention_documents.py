"""Signed documents about destruction, the steady clock, and the list of what is gone: each by itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.audit import AuditLog
from infra.retention.documents import Hold, Order, OrderedDelivery, Signed, Tombstone, parse
from infra.retention.records import Records
from infra.retention.steady_clock import SteadyClock
from infra.retention.tombstones import Tombstones, add_tombstones, refuse_landing, refuse_tombstoned
from infra.review.documents import stamp
from infra.signing import SigningKey, canonical_json
from schemas.errors import DeliveryRefused, IntegrityError, NotPermitted, UsageError

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DELIVERIES = ("hes_op-202099-222222222222", "civil_deaths-snapshot-333333333333")


def an_order(*delivery_ids: str) -> Order:
    return Order(
        id="a" * 32,
        demo=True,
        agreement="A",
        deliveries=tuple(
            OrderedDelivery(
                delivery_id=delivery_id,
                dataset=delivery_id.split("-")[0],
                period=delivery_id.split("-")[1],
                ground="retention_ended",
                until="2026-10-31",
                content_sha256="0" * 64,
                vault={},
            )
            for delivery_id in delivery_ids or DELIVERIES
        ),
        reason="the agreement has ended",
        made_at=stamp(NOON),
        expires=stamp(NOON + timedelta(days=14)),
        register_digest="0" * 64,
    )


def a_hold() -> Hold:
    return Hold(delivery_id=DELIVERIES[0], person="demo-siro", reason="a claim is open", made_at=stamp(NOON))


# Documents ---------------------------------------------------------------------------------------------


def test_a_document_reads_as_it_was_written_with_both_signatures_in_any_order() -> None:
    first, second = SigningKey.create(), SigningKey.create()
    signed = Signed(an_order()).sign(first).sign(second)
    assert signed.content == Signed(an_order()).sign(second, first).content
    found = parse(signed.content, Order)
    assert found == signed
    found.verify({first.key_id: first.public, second.key_id: second.public})


def test_a_signature_of_an_order_says_nothing_under_another_kind() -> None:
    key = SigningKey.create()
    hold = Signed(a_hold()).sign(key)
    forged = Signed(a_hold(), Signed(an_order()).sign(key).signatures)
    hold.verify_by(key.public)
    with pytest.raises(IntegrityError):
        forged.verify_by(key.public)


def test_an_unsigned_document_does_not_verify() -> None:
    with pytest.raises(IntegrityError, match="is not signed"):
        Signed(a_hold()).verify({})


@pytest.mark.parametrize(
    "change", [{"reason": "another"}, {"v": 2}, {"more": 1}, {"kind": "retention-withdrawal"}]
)
def test_a_changed_document_is_refused(change: dict[str, object]) -> None:
    key = SigningKey.create()
    found = json.loads(Signed(a_hold()).sign(key).content)
    found["document"].update(change)
    with pytest.raises(IntegrityError):
        parse(canonical_json(found), Hold).verify_by(key.public)


def test_another_spelling_and_a_signature_twice_are_refused() -> None:
    signed = Signed(a_hold()).sign(SigningKey.create())
    with pytest.raises(IntegrityError, match="canonical"):
        parse(signed.content + b"\n", Hold)
    with pytest.raises(IntegrityError, match="twice"):
        parse(Signed(a_hold(), signed.signatures * 2).content, Hold)


def test_no_document_takes_the_place_of_another(tmp_path: Path) -> None:
    records = Records(tmp_path)
    signed = Signed(a_hold()).sign(SigningKey.create())
    records.put(signed, "one.json")
    records.put(signed, "one.json")
    with pytest.raises(UsageError, match="another document"):
        records.put(Signed(a_hold()).sign(SigningKey.create()), "one.json")
    assert [path.name for path, _ in records.all(Hold)] == ["one.json"]


# The clock ---------------------------------------------------------------------------------------------


class Moving:
    """A clock and a counter of seconds, each set by hand."""

    def __init__(self) -> None:
        self.moment, self.seconds = NOON, 0.0

    def steady(self) -> SteadyClock:
        return SteadyClock(lambda: self.moment, tolerance=timedelta(minutes=5), counter=lambda: self.seconds)


def test_time_that_passes_is_no_move() -> None:
    moving = Moving()
    steady = moving.steady()
    moving.moment += timedelta(hours=3)
    moving.seconds += 3 * 3600
    assert steady.now() == NOON + timedelta(hours=3)


@pytest.mark.parametrize("jump", [timedelta(days=400), timedelta(days=-400), timedelta(minutes=6)])
def test_a_clock_that_jumps_is_noticed_at_use(jump: timedelta) -> None:
    moving = Moving()
    steady = moving.steady()
    moving.moment += jump
    with pytest.raises(NotPermitted) as refusal:
        steady.now()
    assert refusal.value.reason_code == "clock_moved"


def test_a_clock_before_the_last_line_of_the_audit_log_is_refused(tmp_path: Path) -> None:
    later = NOON + timedelta(days=2)
    AuditLog(tmp_path, lambda: later, "demo-siro", "siro").record("run.finish", "run", purpose="")
    with pytest.raises(NotPermitted) as refusal:
        Moving().steady().refuse_behind(tmp_path)
    assert refusal.value.reason_code == "clock_behind"
    Moving().steady().refuse_behind(tmp_path / "nothing here yet")


# Tombstones --------------------------------------------------------------------------------------------


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.create()


@pytest.fixture
def workspace(tmp_path: Path, key: SigningKey) -> Path:
    """A folder with the tombstones of both deliveries, and their lines in its audit log."""
    audit = AuditLog(tmp_path / "audit", lambda: NOON, "demo-pipeline", "pipeline")
    add(tmp_path, key, audit)
    return tmp_path


def add(root: Path, key: SigningKey, audit: AuditLog) -> Tombstones:
    return add_tombstones(
        Records(root / "retention"),
        Signed(an_order()).sign(SigningKey.create()),
        key=key,
        public_keys={key.key_id: key.public},
        audit=audit,
        now=NOON,
    )


def load(root: Path, key: SigningKey) -> Tombstones:
    return Tombstones.load(Records(root / "retention"), {key.key_id: key.public}, root / "audit")


def test_each_delivery_of_an_order_has_one_tombstone_however_often_it_is_set(
    workspace: Path, key: SigningKey
) -> None:
    audit = AuditLog(workspace / "audit", lambda: NOON, "demo-pipeline", "pipeline")
    again = add(workspace, key, audit)
    assert list(again) == list(DELIVERIES)
    assert again.numbers(DELIVERIES) == (1, 2)
    assert load(workspace, key) == again


@pytest.mark.parametrize("number", [1, 2])
def test_a_list_that_lacks_an_entry_is_refused(workspace: Path, key: SigningKey, number: int) -> None:
    """The first is missed by the chain; the newest by the audit log alone, as when a backup is put back."""
    (workspace / f"retention/tombstones/{number:06d}.json").unlink()
    with pytest.raises(IntegrityError, match="lacks an entry"):
        load(workspace, key)


def test_an_entry_that_somebody_else_signed_is_refused(workspace: Path, key: SigningKey) -> None:
    path = workspace / "retention/tombstones/000002.json"
    entry = parse(path.read_bytes(), Tombstone).document
    path.write_bytes(Signed(entry).sign(SigningKey.create()).content)
    with pytest.raises(IntegrityError, match="not accepted"):
        load(workspace, key)


def test_a_destroyed_delivery_is_neither_opened_nor_landed_again(workspace: Path, key: SigningKey) -> None:
    signers = {key.key_id: key.public}
    with pytest.raises(IntegrityError, match="was destroyed"):
        refuse_tombstoned(workspace / "vault", DELIVERIES[0], signers)
    with pytest.raises(DeliveryRefused, match="not taken again"):
        refuse_landing(load(workspace, key), DELIVERIES[1])
    refuse_tombstoned(workspace / "vault", "hes_op-202099-444444444444", signers)
    refuse_landing(load(workspace, key), "hes_op-202099-444444444444")
