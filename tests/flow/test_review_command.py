"""``wardwatch review`` from the request to the hospital's receipt, as people call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli import application, review
from infra.officers import IDENTITY_FILE, SIGNING_FILE
from tests.support.command_line import Ran, wardwatch
from tests.support.reviews import HOSPITAL, WISH, Desk, fresh_desk, signing_key

if "review" not in {group.name for group in application.app.registered_groups}:
    review.register(application.app)

REASONS = (
    *("--gateway", "s77_3_a", "--trigger", WISH.trigger),
    *("--why", WISH.necessity["why_necessary"], "--alternatives", WISH.necessity["alternatives_considered"]),
    *("--proportionate", WISH.necessity["why_proportionate"]),
    *("--objections", WISH.necessity["objections_considered"]),
)
COHORT = ("--cohort", "deaths_in_hospital", "--from", "2022-04-01", "--to", "2023-03-31")


@pytest.fixture
def desk(shared_folder: Path, tmp_path: Path) -> Desk:
    return fresh_desk(shared_folder, tmp_path)


def call(desk: Desk, *arguments: str | Path, root: Path | None = None) -> Ran:
    return wardwatch(root or desk.workspace.root, "review", *arguments, clock=desk.clock)


def done(ran: Ran) -> Ran:
    assert ran.exit_code == 0, ran.err
    return ran


def test_the_whole_way_from_the_request_to_the_receipt(desk: Desk, tmp_path: Path) -> None:
    asked = done(call(desk, "request", "--hospital", HOSPITAL, *COHORT, *REASONS, "--json"))
    case = json.loads(asked.out)["case"]
    done(call(desk, "approve", case, "--as", "siro"))
    done(call(desk, "approve", case, "--as", "caldicott_guardian"))
    issued = json.loads(done(call(desk, "issue", case, "--json")).out)
    file = desk.workspace.zone("outbox") / issued["file"]
    keys = desk.hospital_keys / HOSPITAL
    receipt = tmp_path / "receipt.json"
    opened = done(
        call(
            desk,
            *("open", file, "--key", keys / IDENTITY_FILE),
            *("--receipt", receipt, "--signing-key", keys / SIGNING_FILE),
        )
    )
    assert len(opened.out.split()) == issued["listed"], "standard output has the numbers and nothing else"
    done(call(desk, "receipt", case, "--file", receipt))
    assert json.loads(done(call(desk, "show", case, "--json")).out)["state"] == "received"
    assert "no receipt is overdue" in done(call(desk, "receipt")).out


def test_no_number_is_said_but_by_open(desk: Desk) -> None:
    case = desk.asked.document.case
    said = ""
    for arguments in (("approve", case, "--as", "siro"), ("approve", case, "--as", "caldicott_guardian")):
        said += done(call(desk, *arguments)).said
    said += done(call(desk, "issue", case)).said + done(call(desk, "show", case)).said
    record = desk.case(desk.asked).issue_record()
    assert record is not None
    numbers = desk.open(record).numbers
    assert numbers
    assert [number for number in numbers if number in said] == []


def test_the_page_says_what_an_officer_has_to_know(desk: Desk) -> None:
    request = desk.asked.document
    page = done(call(desk, "show", request.case)).out
    flat = " ".join(page.split())
    for said in (
        f"hospital numbers (local patient identifiers) of {request.cohort.patients} patients, and nothing else",
        f"{HOSPITAL}, sealed to its key {request.recipient_key}",
        WISH.trigger,
        *WISH.necessity.values(),
        "Stays that ended in death in hospital",
        "at most 100 numbers are released",
        "an NHS number",
        "facilitate the exercise of the Commission's functions",
        request.expires,
        "It opens nothing without the other officer",
        "DEMONSTRATION",
    ):
        assert said in flat, f"the page lacks: {said}"
    assert max(len(line) for line in page.splitlines()) <= 100
    assert len(page.splitlines()) <= 50, "it fits on one screen"


def test_the_page_does_not_change_when_the_other_officer_has_decided(desk: Desk) -> None:
    case = desk.asked.document.case
    before = done(call(desk, "show", case)).out
    done(call(desk, "approve", case, "--as", "caldicott_guardian"))
    assert done(call(desk, "show", case)).out == before


def test_an_officer_decides_on_another_machine_with_a_bundle(desk: Desk, tmp_path: Path) -> None:
    case = desk.asked.document.case
    bundle = tmp_path / "bundle"
    done(call(desk, "show", case, "--bundle", bundle))
    kept = {path.relative_to(bundle).parts[0] for path in bundle.rglob("*") if path.is_file()}
    assert kept == {"settings.yaml", "keys", "vault", "reviews"}
    assert not list(bundle.rglob("*.parquet")), "no part of the vault travels"
    assert not list(bundle.rglob("pipeline.keyring.age"))
    for role in ("siro", "caldicott_guardian"):
        officer = desk.workspace.zone("officers") / role
        approval = tmp_path / f"{role}.json"
        done(
            call(
                desk,
                *("approve", case, "--as", role, "--out", approval),
                *("--key", officer / IDENTITY_FILE, "--signing-key", officer / SIGNING_FILE),
                root=bundle,
            )
        )
        assert not (desk.case(desk.asked).approvals() if role == "siro" else []), "nothing is handed in yet"
        done(call(desk, "approve", case, "--file", approval))
    assert "numbers sealed to" in done(call(desk, "issue", case)).out


def test_an_approval_by_the_wrong_role_ends_with_its_exit_code_and_one_line(desk: Desk) -> None:
    case = desk.asked.document.case
    ran = call(
        desk,
        *("approve", case, "--as", "caldicott_guardian"),
        *("--signing-key", desk.workspace.zone("officers") / "siro" / SIGNING_FILE),
    )
    assert ran.exit_code == 20
    assert "role" in ran.error
    (line,) = [event for event in desk.events("review.approve") if event.decision == "refuse"]
    assert (line.person, line.reason_code) == ("demo-siro", "no_role")


def test_the_signing_key_says_who_it_is_and_not_the_environment(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDWATCH_PERSON", "somebody-else")
    done(call(desk, "approve", desk.asked.document.case, "--as", "siro"))
    assert desk.events("review.approve")[-1].person == "demo-siro"


def test_a_refusal_and_a_withdrawal_end_a_case(desk: Desk) -> None:
    first = desk.asked.document.case
    done(call(desk, "refuse", first, "--as", "siro", "--reason", "The alternatives were not looked at."))
    assert call(desk, "issue", first).exit_code == 20
    asked = done(call(desk, "request", "--hospital", HOSPITAL, *COHORT, *REASONS, "--json"))
    second = json.loads(asked.out)["case"]
    done(call(desk, "withdraw", second, "--reason", "Asked for by mistake."))
    states = {row["case"]: row["state"] for row in json.loads(done(call(desk, "show", "--json")).out)}
    assert states == {first: "refused", second: "withdrawn"}


def test_an_emergency_is_looked_back_upon_by_the_guardian(desk: Desk) -> None:
    reasons = tuple("s77_2_f" if word == "s77_3_a" else word for word in REASONS)
    asked = done(call(desk, "request", "--hospital", HOSPITAL, *COHORT, *reasons, "--emergency", "--json"))
    case = json.loads(asked.out)["case"]
    assert "EMERGENCY" in done(call(desk, "show", case)).out
    done(call(desk, "approve", case, "--as", "siro"))
    done(call(desk, "approve", case, "--as", "deputy_caldicott_guardian"))
    done(call(desk, "issue", case))
    finding = "It was necessary, and there was no time for the ordinary way."
    done(call(desk, "look-back", case, "--finding", finding))


def test_numbers_do_not_go_into_the_workspace(desk: Desk) -> None:
    case = desk.asked.document.case
    desk.approve(desk.asked)
    issued = json.loads(done(call(desk, "issue", case, "--json")).out)
    file = desk.workspace.zone("outbox") / issued["file"]
    key = desk.hospital_keys / HOSPITAL / IDENTITY_FILE
    ran = call(desk, "open", file, "--key", key, "--out", desk.workspace.root / "tmp" / "numbers.txt")
    assert ran.exit_code == 20
    assert not (desk.workspace.root / "tmp" / "numbers.txt").exists()


@pytest.mark.parametrize(
    "command", ["request", "show", "approve", "refuse", "withdraw", "issue", "open", "receipt"]
)
def test_every_command_has_help(command: str) -> None:
    ran = wardwatch(None, "review", command, "--help")
    assert ran.exit_code == 0
    assert "Usage" in ran.out


def test_outside_a_demonstration_no_private_key_is_looked_for_in_the_workspace(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert signing_key(desk.workspace, "siro"), "it would be there"
    case = desk.asked.document.case
    monkeypatch.setattr("infra.register.Register.load", _not_a_demo(desk))
    ran = call(desk, "approve", case, "--as", "siro")
    assert ran.exit_code == 2
    assert "where your own key is" in ran.error


def _not_a_demo(desk: Desk) -> object:
    from dataclasses import replace

    real = replace(desk.register, demo=False)
    return lambda _folder: real
