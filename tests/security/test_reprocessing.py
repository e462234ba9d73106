"""A delivery past its landing window opens for the two officers together, once, and for nobody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from flows.backfill import Request, run_backfill
from infra import commit_points
from infra.keyring import Keyring
from infra.landing import GUARDIAN_SHARE, PIPELINE_KEY, SIRO_SHARE, Landing
from infra.landing_share import open_share, write_share
from infra.officers import Officers
from infra.reprocessing.approval import released_shares
from infra.retention.documents import DeliveryEvidence, LakeEvidence
from infra.retention.in_use import refuse_open_request
from infra.retention.shredding import shred_keys
from infra.review.approval import hand_in
from infra.review.case import LEDGER, REVIEW_KEY
from infra.sealing import new_identity, seal, unseal
from infra.shares import join
from schemas.errors import (
    CannotOpen,
    IntegrityError,
    KeyUnavailable,
    NotPermitted,
    UsageError,
    WardwatchError,
)
from tests.support.convergence import lake_content
from tests.support.reprocessing import Office, fresh_office
from tests.support.reviews import SIDE_OF, identity, person_of, without_indicators


@pytest.fixture
def office(shared_folder: Path, tmp_path: Path) -> Office:
    return fresh_office(shared_folder, tmp_path)


def refused(office: Office, action: str, code: str) -> None:
    """The audit log's last line about ``action`` says that it was refused, and why."""
    event = office.events(action)[-1]
    assert (event.decision, event.reason_code) == ("refuse", code)


def landing(office: Office, keyring: Keyring) -> Landing:
    officers = Officers.of(office.register, office.now)
    return Landing(office.workspace.zone("landing"), keyring, officers, office.clock)


def test_two_officers_let_a_delivery_be_read_once_more(office: Office) -> None:
    before = lake_content(office.workspace)
    request = office.ask()
    office.approve(request)
    outcome = office.run(request)
    assert outcome.ingested == [office.delivery]
    assert lake_content(office.workspace).tables == before.tables, "the same content gives the same records"
    assert not (office.workspace.zone("landing") / office.delivery / PIPELINE_KEY).exists(), (
        "it is closed again"
    )
    assert outcome.reason == f"reprocessing {request.document.case}"
    assert outcome.nothing_new, "nothing is published twice"
    lines = [(event.action, event.reason_code) for event in office.events("reprocess")]
    assert lines[-3:] == [
        ("reprocess.open", "intent"),
        ("reprocess.spend", "spent"),
        ("reprocess.open", "opened"),
    ]
    assert [event.object for event in office.events("landing.reopen")] == [office.delivery] * 2, (
        "the opening and the reading have a line each"
    )
    assert {event.purpose for event in office.events("landing.reopen")} == {"reprocessing"}


def test_approvals_open_a_delivery_once(office: Office) -> None:
    request = office.ask()
    office.approve(request)
    office.run(request)
    with pytest.raises(NotPermitted):
        office.run(request)
    refused(office, "reprocess.open", "spent")
    # Not even when the ledger is taken away: the audit log knows.
    for path in (office.case(request).reviews / LEDGER).iterdir():
        path.unlink()
    with pytest.raises(NotPermitted):
        office.run(request)
    refused(office, "reprocess.open", "spent")


@pytest.mark.parametrize(
    "signed_by", [(), ("siro",), ("caldicott_guardian", "deputy_caldicott_guardian")], ids=" and ".join
)
def test_without_one_approval_of_each_side_nothing_is_opened(
    office: Office, signed_by: tuple[str, ...]
) -> None:
    request = office.ask()
    if signed_by:
        office.approve(request, *signed_by)
    with pytest.raises(NotPermitted):
        office.run(request)
    refused(office, "reprocess.open", "approval_missing")
    assert office.events("landing.reopen") == []


@pytest.mark.parametrize(("how", "role"), [("refuse", "siro"), ("withdraw", "data_engineer")])
def test_a_no_ends_it_even_after_both_approved(office: Office, how: str, role: str) -> None:
    request = office.ask()
    office.approve(request)
    office.end(request, how, role)
    with pytest.raises(NotPermitted):
        office.run(request)
    assert not (office.case(request).folder / REVIEW_KEY).exists(), "what was released opens nothing any more"


def test_an_expired_request_opens_nothing_and_its_key_goes_with_the_next_run(office: Office) -> None:
    request = office.ask()
    office.approve(request)
    later = office.later(days=15)
    with pytest.raises(NotPermitted):
        later.run(request)
    refused(later, "reprocess.open", "expired")
    assert not (office.case(request).folder / REVIEW_KEY).exists()


def test_who_asks_or_approves_does_not_do_the_other_half(office: Office) -> None:
    with pytest.raises(NotPermitted):
        office.ask(role="siro")
    refused(office, "reprocess.request", "no_role")
    request = office.ask()
    office.approve(request)
    with pytest.raises(NotPermitted):
        office.run(request, person=person_of("siro"))
    refused(office, "reprocess.open", "issuer_approves")


def test_no_one_person_and_not_the_pipeline_can_open_it(office: Office) -> None:
    """Stolen: the pipeline's whole key set; or one officer's key, before anybody approved and after this one did."""
    folder = office.workspace.zone("landing") / office.delivery
    with (
        pytest.raises(KeyUnavailable),
        landing(office, office.keyring).open_plaintext(office.delivery) as stream,
    ):
        stream.read(1)
    sealed = {"caldicott_guardian": GUARDIAN_SHARE, "siro": SIRO_SHARE}
    for thief, own in sealed.items():
        key = identity(office.workspace, thief)
        unseal((folder / own).read_bytes(), key)  # the own share, which is random bytes
        (other,) = set(sealed.values()) - {own}
        with pytest.raises(CannotOpen):
            unseal((folder / other).read_bytes(), key)
    request = office.ask()
    office.approve(request, "siro")
    approval = office.sign(request, "siro")
    with pytest.raises(CannotOpen):
        released_shares(
            approval, request, identity(office.workspace, "siro")
        )  # sealed to the request's own key
    pipeline = office.keyring
    secret = unseal(
        (office.case(request).folder / REVIEW_KEY).read_bytes(), pipeline.landing_recovery_identities
    )
    (share,) = released_shares(approval, request, secret.decode()).values()
    assert not share.startswith(b"AGE-SECRET-KEY"), "one share is not the key"


def test_an_approval_carries_the_deliveries_of_its_request_and_no_others(office: Office) -> None:
    request = office.ask()
    office.approve(request)
    secret = unseal(
        (office.case(request).folder / REVIEW_KEY).read_bytes(), office.keyring.landing_recovery_identities
    ).decode()
    shares = [released_shares(each, request, secret) for each in office.case(request).approvals()]
    assert [set(each) for each in shares] == [{office.delivery}] * 2
    other = office.ask(trigger="Another reason that is long enough to be one, for another request.")
    with pytest.raises(IntegrityError):
        released_shares(replace(office.case(request).approvals()[0]), other, secret)
    content = office.case(request).approvals()[0].content
    with pytest.raises(NotPermitted) as caught:
        hand_in(office.case(other), content, rules=office.rules, audit=office.audit("siro"), now=office.now)
    assert caught.value.reason_code == "another_request"


def test_an_exchanged_share_gives_no_key(office: Office) -> None:
    """The SIRO's file holds another half, sealed to the right person: the joined key is not the receipt's."""
    exchange(office, lambda recipient: write_share(office.delivery, "siro", recipient, b"\x01" * 74))
    request = office.ask()
    office.approve(request)
    with pytest.raises(IntegrityError):
        office.run(request)
    assert office.events("reprocess.open")[-1].decision == "fail"


def exchange(office: Office, content: Callable[[str], bytes]) -> None:
    """Put something else, sealed to the SIRO, under the name of the SIRO's share. ``content``: of the delivery's own
    public key."""
    folder = office.workspace.zone("landing") / office.delivery
    recipients = Officers.of(office.register, office.now).recipients("siro")
    recipient = landing(office, office.keyring).receipt(office.delivery).landing_recipient
    (folder / SIRO_SHARE).write_bytes(seal(content(recipient), recipients))


def test_an_officer_passes_on_nothing_but_the_share_of_the_delivery_that_is_asked_for(office: Office) -> None:
    """Whatever lies under the name of a share, the officer's own tool would open it and seal it to the request's key:
    the shares of a vault, or of another delivery."""
    request = office.ask()
    (vault,) = office.workspace.zone("vault").glob(f"{office.delivery}*/shares-siro.age")
    for other in (
        lambda _: unseal(vault.read_bytes(), identity(office.workspace, "siro")),
        lambda recipient: write_share("civil_deaths-snapshot-0123456789ab", "siro", recipient, b"\x01" * 74),
        lambda recipient: write_share(office.delivery, "guardian", recipient, b"\x01" * 74),
        lambda _: b"\x01" * 74,
    ):
        exchange(office, other)
        with pytest.raises(IntegrityError):
            office.sign(request, "siro")


@pytest.mark.parametrize(
    "change",
    [
        {"retain_until": "2099-12-31"},
        {"received_at": "2020-01-01T00:00:00Z"},
        {"dataset": "hes_op"},
        {"content_sha256": "0" * 64},
    ],
    ids=str,
)
def test_what_an_officer_reads_about_a_delivery_is_what_its_receipt_says(
    office: Office, change: dict[str, str]
) -> None:
    """Even a request that the pipeline's own stolen key vouches for."""
    request = office.rewritten(office.ask(), change)
    with pytest.raises(IntegrityError):
        office.sign(request, "siro")


def test_the_requester_alone_cannot_say_to_which_key_the_shares_are_sealed(office: Office) -> None:
    _, own = new_identity()
    request = office.rewritten(office.ask(), {}, vouched=False, review_recipient=own)
    with pytest.raises(NotPermitted) as caught:
        office.sign(request, "siro")
    assert caught.value.reason_code == "not_vouched"


def test_a_delivery_is_not_destroyed_while_it_may_be_opened_and_its_keys_go_with_it(office: Office) -> None:
    request = office.ask()
    rules = office.rules
    with pytest.raises(NotPermitted) as caught:
        refuse_open_request(office.workspace, rules.register, office.delivery, office.now)
    assert caught.value.reason_code == "open_case"
    refuse_open_request(office.workspace, rules.register, "civil_deaths-snapshot-0123456789ab", office.now)
    evidence = DeliveryEvidence(
        delivery_id=office.delivery,
        content_sha256="0" * 64,
        landing=None,
        vault=(),
        linkage_sha256=None,
        lake=LakeEvidence(tables=(), files={}),
        cases=(),
    )
    shred_keys(office.workspace, evidence)
    assert not (office.case(request).folder / REVIEW_KEY).exists()


def test_a_delivery_that_is_open_unknown_or_past_its_retention_is_not_asked_for(office: Office) -> None:
    for named in ("hes_apc-202212-000000000000", "../../etc/passwd"):
        with pytest.raises((UsageError, NotPermitted)):
            office.ask(named)
    delivery = office.delivery
    with pytest.raises(NotPermitted):
        office.ask(delivery, delivery)
    refused(office, "reprocess.request", "named_twice")
    with pytest.raises(WardwatchError):
        office.later(days=365 * 5).ask()
    key = office.workspace.zone("landing") / delivery / PIPELINE_KEY
    key.write_bytes(b"")
    with pytest.raises(UsageError, match="is open"):
        office.ask(delivery)


def test_a_backfill_past_the_window_touches_nothing_and_names_the_way(office: Office) -> None:
    wanted = Request(
        "hes_apc", date(2022, 4, 1), date(2023, 3, 31), "a corrected contract", person_of("data_engineer")
    )
    with pytest.raises(KeyUnavailable) as caught, without_indicators():
        run_backfill(office.workspace.root, wanted, say=lambda _: None, clock=office.clock)
    assert f"wardwatch reprocess request {office.delivery}" in str(caught.value)


def test_a_run_killed_after_the_approvals_were_used_has_changed_nothing_and_needs_new_ones(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lake_content(office.workspace)
    request = office.ask()
    office.approve(request)

    class Killed(BaseException):
        pass

    def die(name: str) -> None:
        if name == "review.key.after":
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(commit_points, "reached", die)
        with pytest.raises(Killed):
            office.run(request)
    assert lake_content(office.workspace).tables == before.tables
    with pytest.raises(NotPermitted):
        office.run(request)
    again = office.later(minutes=1)
    second = again.ask()
    again.approve(second)
    assert again.run(second).ingested == [office.delivery]


def test_joined_shares_are_the_key_of_the_receipt(office: Office) -> None:
    """What the two officers hold is worth something: without Wardwatch, their two files give the key."""
    folder = office.workspace.zone("landing") / office.delivery
    recipient = landing(office, office.keyring).receipt(office.delivery).landing_recipient
    shares = [
        open_share(
            (folder / name).read_bytes(),
            identity(office.workspace, role),
            office.delivery,
            SIDE_OF[role],
            recipient,
        )
        for role, name in (("caldicott_guardian", GUARDIAN_SHARE), ("siro", SIRO_SHARE))
    ]
    key = bytes(join(*shares)).decode()
    sealed = (folder / "content.age").read_bytes()
    assert b"EPIKEY" in unseal(sealed, key)[:4096]
