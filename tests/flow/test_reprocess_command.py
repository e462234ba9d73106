"""``wardwatch reprocess`` from the request to the reading, as people call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.officers import IDENTITY_FILE, SIGNING_FILE
from tests.support.command_line import Ran, wardwatch
from tests.support.reprocessing import REASONS, Office, fresh_office
from tests.support.reviews import without_indicators

WORDS = ("--trigger", REASONS.trigger, "--why", REASONS.why, "--alternatives", REASONS.alternatives)


@pytest.fixture
def office(shared_folder: Path, tmp_path: Path) -> Office:
    return fresh_office(shared_folder, tmp_path)


def call(office: Office, *arguments: str | Path, root: Path | None = None) -> Ran:
    with without_indicators():
        return wardwatch(root or office.workspace.root, "reprocess", *arguments, clock=office.clock)


def done(ran: Ran) -> Ran:
    assert ran.exit_code == 0, ran.err
    return ran


def test_the_whole_way_from_the_request_to_the_reading(office: Office, tmp_path: Path) -> None:
    assert "nobody has asked" in done(call(office, "show")).out
    asked = json.loads(done(call(office, "request", office.delivery, *WORDS, "--json")).out)
    case = asked["case"]

    page = done(call(office, "show", case)).out
    flat = " ".join(page.split())
    for said in (
        office.delivery,
        REASONS.trigger,
        REASONS.why,
        REASONS.alternatives,
        "DEMONSTRATION",
        "for one use",
    ):
        assert said in flat, f"the page lacks: {said}"
    assert max(len(line) for line in page.splitlines()) <= 100
    assert len(page.splitlines()) <= 50, "it fits on one screen"

    # The SIRO decides on another machine.
    bundle, approval = tmp_path / "bundle", tmp_path / "approval.json"
    done(call(office, "show", case, "--bundle", bundle))
    kept = {path.relative_to(bundle).parts[0] for path in bundle.rglob("*") if path.is_file()}
    assert kept == {"settings.yaml", "keys", "landing", "reprocessing"}
    assert not list(bundle.rglob("content.age")), "the delivery itself does not travel"
    keys = office.workspace.zone("officers") / "siro"
    own = ("--key", keys / IDENTITY_FILE, "--signing-key", keys / SIGNING_FILE)
    done(call(office, "approve", case, "--as", "siro", *own, "--out", approval, root=bundle))
    done(call(office, "approve", case, "--file", approval))
    assert done(call(office, "show", case)).out == page, "that one has decided is not shown to the other"
    assert call(office, "run", case).exit_code != 0, "one is not enough"

    done(call(office, "approve", case, "--as", "caldicott_guardian"))
    ran = json.loads(done(call(office, "run", case, "--json")).out)
    assert ran["ingested"] == [office.delivery]
    assert "spent" in done(call(office, "show")).out


def test_an_officer_refuses_and_a_requester_withdraws(office: Office) -> None:
    reason = ("--reason", "It turned out that the values of that year are right.")
    for ending in (("refuse", "--as", "siro"), ("withdraw",)):
        case = json.loads(done(call(office, "request", office.delivery, *WORDS, "--json")).out)["case"]
        done(call(office, ending[0], case, *ending[1:], *reason))
        state = json.loads(done(call(office, "show", case, "--json")).out)["state"]
        assert state == {"refuse": "refused", "withdraw": "withdrawn"}[ending[0]]


def test_a_reason_that_names_somebody_is_refused_and_not_kept(office: Office) -> None:
    wanted = [*WORDS]
    wanted[3] = "The record of the patient with the number 943 476 5919 was read wrongly in that year."
    ran = call(office, "request", office.delivery, *wanted)
    assert ran.exit_code != 0
    assert "943" not in ran.said
    assert "nobody has asked" in done(call(office, "show")).out
