"""Every command asks the register who is asking, and a refusal has its line before anything happens.

A name in the environment proves nothing: what is held here is that it has to be a name of the register, with a role
that may, and that it is written down. Proof is the signing key, for everything that decides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flows.nightly import PERSON
from infra.audit import read
from infra.audit_line import LOG, Event
from infra.keyring import Keyring
from infra.officers import SIGNING_FILE, make_own_keys
from infra.query_lockout import LOCKED_OUT, QUESTION
from infra.register import Register
from infra.review.documents import sign
from infra.signing import canonical_json
from infra.workspace import Workspace
from schemas.errors import NotPermitted
from tests.support.command_line import Ran, wardwatch
from tests.support.reprocessing import REASONS
from tests.support.reviews import Desk, fresh_desk, person_of, signing_key

NOBODY = "nobody-in-the-register"
ANALYST, ENGINEER = person_of("intelligence_analyst"), person_of("data_engineer")
COUNT = "select count(*) from hes_apc where startage < {}"
CURATED = ("--zone", "curated", "--purpose", "indicator_review", "--format", "json")
PUBLISHED = "select count(*) as indicators from indicator"
CASE = "bcdfghjklmnp"
REASON = "It turned out that the values of that year are right."

Named = Callable[[str], None]


@pytest.fixture
def desk(shared_folder: Path, tmp_path: Path) -> Desk:
    return fresh_desk(shared_folder, tmp_path)


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Named:
    """Who the commands that follow are told is asking."""
    return lambda person: monkeypatch.setenv("WARDWATCH_PERSON", person)


def lines(workspace: Workspace, action: str | None = None) -> list[Event]:
    return list(read(workspace.zone("audit"), action=action))


def refused(workspace: Workspace, *arguments: str | Path) -> Event:
    """The one line that the log has more after a command that the register refuses."""
    before = len(lines(workspace))
    ran = wardwatch(workspace.root, *arguments)
    assert ran.exit_code == NotPermitted.exit_code, f"it was not refused: {ran.said}"
    added = lines(workspace)[before:]
    assert [event.decision for event in added] == ["refuse"], f"not one line of refusal: {added}"
    return added[0]


# Reading ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("person", "reason"),
    [(NOBODY, "unknown_person"), (person_of("siro"), "no_role"), (ENGINEER, "no_role")],
)
def test_the_curated_zone_answers_nobody_without_the_role_that_the_purpose_asks_for(
    desk: Desk, named: Named, person: str, reason: str
) -> None:
    named(person)
    line = refused(desk.workspace, "query", COUNT.format(50), *CURATED)
    assert (line.action, line.person, line.reason_code) == ("lake.query", person, reason)
    assert lines(desk.workspace, QUESTION) == [], "it is not even counted as a question"


def test_a_lockout_is_not_left_by_choosing_another_name(desk: Desk, named: Named) -> None:
    def ask(age: int) -> Ran:
        return wardwatch(desk.workspace.root, "query", COUNT.format(age), *CURATED)

    codes = [ask(age).exit_code for age in range(50, 58)]
    assert codes == [0] * 7 + [NotPermitted.exit_code]
    assert lines(desk.workspace, "lake.query")[-1].reason_code == LOCKED_OUT
    for number in range(3):
        named(f"nobody-{number}")
        assert ask(58 + number).exit_code == NotPermitted.exit_code
    assert {event.person for event in lines(desk.workspace, QUESTION)} == {ANALYST}


def test_another_role_asks_the_curated_zone_for_a_purpose_of_its_own(desk: Desk, named: Named) -> None:
    named(ENGINEER)
    asked = ("query", COUNT.format(60), "--zone", "curated", "--format", "json", "--purpose")
    assert wardwatch(desk.workspace.root, *asked, "performance_tuning").exit_code == 0
    line = lines(desk.workspace, "lake.query")[-1]
    assert (line.person, line.role, line.purpose) == (ENGINEER, "data_engineer", "performance_tuning")


@pytest.mark.parametrize(
    ("person", "role", "purpose"),
    [
        ("", "intelligence_analyst", "indicator_review"),
        (ENGINEER, "data_engineer", "data_quality"),
        (person_of("release_manager"), "release_manager", "release"),
    ],
)
def test_whoever_reads_the_internal_results_leaves_one_line_with_the_digest_of_the_question(
    desk: Desk, named: Named, person: str, role: str, purpose: str
) -> None:
    if person:
        named(person)
    before = len(lines(desk.workspace))
    ran = wardwatch(desk.workspace.root, "query", PUBLISHED, "--format", "json")
    assert ran.exit_code == 0, ran.said
    (line,) = lines(desk.workspace)[before:]
    assert (line.action, line.decision, line.counts) == ("published.read", "allow", {"rows": 1})
    assert (line.person, line.role, line.purpose) == (person or ANALYST, role, purpose)
    assert line.digests == {"query": hashlib.sha256(PUBLISHED.encode()).hexdigest()}
    assert "indicators" not in (desk.workspace.zone("audit") / LOG).read_text(), (
        "never the text of a question"
    )


@pytest.mark.parametrize(
    ("person", "reason"), [(NOBODY, "unknown_person"), (person_of("caldicott_guardian"), "no_role")]
)
def test_the_internal_results_are_shown_to_nobody_without_a_role_that_reads_them(
    desk: Desk, named: Named, person: str, reason: str
) -> None:
    named(person)
    line = refused(desk.workspace, "query", PUBLISHED)
    assert (line.action, line.person, line.reason_code) == ("published.read", person, reason)


@pytest.mark.parametrize("zone", ["published", "curated"])
@pytest.mark.parametrize("purpose", ["release", "case_review", "curiosity"])
def test_a_purpose_that_is_not_for_the_person_leaves_a_line_of_refusal(
    desk: Desk, zone: str, purpose: str
) -> None:
    line = refused(desk.workspace, "query", PUBLISHED, "--zone", zone, "--purpose", purpose)
    assert (line.person, line.purpose) == (ANALYST, "")


def test_a_question_that_is_refused_or_fails_leaves_its_line_and_no_digest_of_an_identifier(
    desk: Desk,
) -> None:
    for sql, decision in (
        ("select * from read_csv('/etc/passwd')", "refuse"),
        ("select valeu from indicator", "refuse"),
        ("select cast('943 476 5919' as date)", "refuse"),
    ):
        assert wardwatch(desk.workspace.root, "query", sql).exit_code != 0
        line = lines(desk.workspace, "published.read")[-1]
        assert line.decision == decision
        assert ("query" in line.digests) == ("943" not in sql)


def test_in_a_real_register_the_name_of_a_demonstration_stands_for_nobody(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = replace(desk.register, demo=False)
    monkeypatch.setattr("infra.register.Register.load", lambda _folder: real)
    ran = wardwatch(desk.workspace.root, "query", PUBLISHED)
    assert ran.exit_code == NotPermitted.exit_code
    assert "WARDWATCH_PERSON" in ran.error
    assert lines(desk.workspace)[-1].reason_code == "unnamed"


# Deciding --------------------------------------------------------------------------------------------------


@pytest.fixture
def stray(tmp_path: Path) -> Path:
    """A signing key that nobody has enrolled."""
    make_own_keys(tmp_path / "stray", "nobody", identity=False)
    return tmp_path / "stray" / SIGNING_FILE


@pytest.mark.parametrize("person", ["", NOBODY], ids=["unnamed", "named"])
@pytest.mark.parametrize(
    "command",
    [
        ("review", "approve", "--as", "siro"),
        ("review", "refuse", "--as", "siro", "--reason", REASON),
        ("review", "withdraw", "--reason", REASON),
        ("review", "look-back", "--finding", REASON),
        (
            *("reprocess", "request", "hes_apc-202199-000000000000", "--trigger", REASONS.trigger),
            *("--why", REASONS.why, "--alternatives", REASONS.alternatives),
        ),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_key_that_nobody_has_enrolled_leaves_a_line_in_the_name_of_who_tried(
    desk: Desk, named: Named, stray: Path, command: tuple[str, ...], person: str
) -> None:
    if person:
        named(person)
    case = desk.asked.document.case if command[0] == "review" else ""
    where = [case] if case else []
    line = refused(desk.workspace, *command[:2], *where, *command[2:], "--signing-key", stray)
    assert line.action == f"{command[0]}.{command[1].replace('-', '_')}"
    assert line.reason_code == "unknown_signer"
    assert line.person == person or not person
    assert line.case == case


def test_the_key_of_a_leaver_leaves_a_line(desk: Desk) -> None:
    assert wardwatch(desk.workspace.root, "keys", "leave", person_of("siro")).exit_code == 0
    line = refused(desk.workspace, "review", "approve", desk.asked.document.case, "--as", "siro")
    assert (line.action, line.reason_code) == ("review.approve", "revoked_key")


def handed_in(desk: Desk, content: bytes, tmp_path: Path) -> Event:
    """The line about an approval that comes as a file and is not taken."""
    path = tmp_path / "approval.json"
    path.write_bytes(content)
    before = len(lines(desk.workspace))
    ran = wardwatch(
        desk.workspace.root, "review", "approve", desk.asked.document.case, "--file", path, clock=desk.clock
    )
    assert ran.exit_code != 0
    (line,) = lines(desk.workspace)[before:]
    assert (line.action, line.case) == ("review.approve", desk.asked.document.case)
    return line


def test_an_approval_that_is_junk_leaves_a_line_in_the_name_of_who_handed_it_in(
    desk: Desk, named: Named, tmp_path: Path
) -> None:
    named(ENGINEER)
    line = handed_in(desk, b"not an approval", tmp_path)
    assert (line.person, line.decision) == (ENGINEER, "fail")


def test_the_line_about_an_approval_names_who_signed_it_and_not_whom_it_claims(
    desk: Desk, tmp_path: Path
) -> None:
    """The Guardian's deputy signs what says that it is the SIRO's."""
    siros = desk.sign(desk.asked, "siro").document
    forged = sign(siros, signing_key(desk.workspace, "deputy_caldicott_guardian"))
    line = handed_in(desk, forged.content, tmp_path)
    assert line.person == person_of("deputy_caldicott_guardian")
    assert (line.decision, line.reason_code) == ("refuse", "not_the_signer")


def test_an_approval_by_somebody_who_may_not_decide_is_refused_in_that_name(
    desk: Desk, tmp_path: Path
) -> None:
    siros = desk.sign(desk.asked, "siro").document
    own = siros.model_copy(update={"person": ANALYST})
    line = handed_in(desk, sign(own, signing_key(desk.workspace, "intelligence_analyst")).content, tmp_path)
    assert (line.person, line.role, line.decision) == (ANALYST, "intelligence_analyst", "refuse")
    assert line.reason_code == "no_role"


def test_a_signature_that_does_not_hold_is_nobody_s(desk: Desk, named: Named, tmp_path: Path) -> None:
    """The file names the SIRO's key as that which signed it; the signature is none of it."""
    named(ENGINEER)
    plain = json.loads(desk.sign(desk.asked, "siro").content)
    plain["document"]["decided_at"] = "2026-11-20T23:00:01Z"
    line = handed_in(desk, canonical_json(plain), tmp_path)
    assert (line.person, line.decision, line.reason_code) == (ENGINEER, "refuse", "changed")


# Running ---------------------------------------------------------------------------------------------------

COMMANDS = {
    "keys.rotate": ("keys", "rotate", "inbox"),
    "review.issue": ("review", "issue", CASE),
    "review.receipt": ("review", "receipt"),
    "reprocess.run": ("reprocess", "run", CASE),
    "run.start": ("nightly",),
    "run.start of a backfill": (
        *("backfill", "hes_op", "--from", "202004", "--to", "202103", "--reason", "a corrected contract"),
    ),
    "run.start of a landing": ("land", "nothing_here.csv"),
    "audit.read": ("audit", "log"),
    "audit.read of a report": ("audit", "report"),
    "audit.checkpoint": ("audit", "checkpoint"),
    "audit.witnessed": ("audit", "witness", "--add", "/dev/null"),
    "account.write": ("public-register",),
    "lake.unlock": ("incidents", "unlock", ANALYST, "--reason", "it was a check of the age bands"),
}


@pytest.mark.parametrize(
    ("person", "reason"), [(NOBODY, "unknown_person"), (person_of("release_manager"), "no_role")]
)
@pytest.mark.parametrize("action", COMMANDS)
def test_a_command_does_nothing_for_a_name_that_the_register_does_not_know_or_that_may_not(
    empty_workspace: Workspace, named: Named, action: str, person: str, reason: str
) -> None:
    named(person)
    line = refused(empty_workspace, *COMMANDS[action])
    assert (line.action, line.person, line.reason_code) == (action.split()[0], person, reason)


def test_who_may_not_rotate_a_key_leaves_it_as_it_is(empty_workspace: Workspace, named: Named) -> None:
    keys = empty_workspace.zone("keys")
    register, inbox = Register.load(keys).digest, Keyring.open(keys).inbox_recipient
    named(ANALYST)
    refused(empty_workspace, "keys", "rotate", "inbox")
    refused(empty_workspace, "keys", "rotate", "--person", person_of("siro"))
    assert (Register.load(keys).digest, Keyring.open(keys).inbox_recipient) == (register, inbox)
    named(person_of("siro"))
    ran = wardwatch(empty_workspace.root, "keys", "rotate", "--person", person_of("siro"))
    assert ran.exit_code == 0, f"everybody rotates the own key: {ran.said}"
    named(ENGINEER)
    assert wardwatch(empty_workspace.root, "keys", "rotate", "inbox").exit_code == 0
    line = lines(empty_workspace, "keys.rotate")[-1]
    assert (line.person, line.role) == (ENGINEER, "data_engineer")


@pytest.mark.parametrize("person", ["", PERSON])
def test_what_runs_unattended_runs_as_the_pipeline_s_own_account(
    empty_workspace: Workspace, named: Named, nothing_computed: None, person: str
) -> None:
    if person:
        named(person)
    before = len(lines(empty_workspace))
    assert wardwatch(empty_workspace.root, "nightly").exit_code == 0
    assert wardwatch(empty_workspace.root, "public-register").exit_code == 0
    added = lines(empty_workspace)[before:]
    assert {(event.person, event.role) for event in added} <= {(PERSON, "pipeline")}
    assert "run.start" not in {event.action for event in added}


def test_a_night_that_a_person_starts_says_so(
    empty_workspace: Workspace, named: Named, nothing_computed: None
) -> None:
    named(ENGINEER)
    assert wardwatch(empty_workspace.root, "nightly").exit_code == 0
    (line,) = lines(empty_workspace, "run.start")
    assert (line.person, line.role, line.object) == (ENGINEER, "data_engineer", "nightly")


def test_a_list_is_issued_by_the_pipeline_or_by_an_engineer_in_the_own_name(desk: Desk, named: Named) -> None:
    desk.approve(desk.asked)
    case = desk.asked.document.case
    named(ANALYST)
    ran = wardwatch(desk.workspace.root, "review", "issue", case, clock=desk.clock)
    assert ran.exit_code == NotPermitted.exit_code
    assert desk.outbox == [], "and the approvals are not used up"
    named(ENGINEER)
    ran = wardwatch(desk.workspace.root, "review", "issue", case, clock=desk.clock)
    assert ran.exit_code == 0, ran.said
    line = lines(desk.workspace, "review.issue")[-1]
    assert (line.person, line.role, line.reason_code) == (ENGINEER, "data_engineer", "issued")
