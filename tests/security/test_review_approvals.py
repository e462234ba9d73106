"""The approvals of a case review: nothing is issued but what two officers signed, while what they signed holds.

Each test is one of the attacks on approvals (numbers 42 to 61 of the threat list). After every refusal the audit log
says why, and nothing is in the outbox.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import commit_points
from infra.incidents import IncidentType, list_incidents
from infra.review import cohort, ledger, permission
from infra.review.approval import hand_in, released_shares
from infra.review.case import ISSUE, LEDGER, REVIEW_KEY, ZONE
from infra.review.documents import Approval, Request, Signed, parse, stamp
from infra.review.documents import sign as sign_document
from infra.review.issue import issue
from infra.sealing import unseal
from infra.signing import canonical_json, parse_canonical
from infra.workspace import Workspace
from schemas.errors import AuditUnavailable, CannotOpen, IntegrityError, NotPermitted, WardwatchError
from tests.support import reviews, workspaces
from tests.support.processes import PROJECT, child_environment
from tests.support.reviews import HOSPITAL, OTHER, Desk, enter, fresh_desk, refused, signing_key
from tests.support.workspaces import Clock


@pytest.fixture
def desk(shared_folder: Path, tmp_path: Path) -> Desk:
    return fresh_desk(shared_folder, tmp_path)


ONE_SIDE_ONLY = [
    ["nobody"],
    ["caldicott_guardian"],
    ["siro"],
    ["caldicott_guardian", "deputy_caldicott_guardian"],
]


def test_two_officers_and_nobody_else_let_a_list_out(desk: Desk) -> None:
    request = desk.asked
    desk.approve(request)
    record = desk.issue(request)
    assert desk.outbox == [record.document.file]
    assert len(desk.open(record).numbers) == record.document.listed == request.document.cohort.patients
    actions = [(event.action, event.decision, event.reason_code) for event in desk.events(None)]
    after = actions[actions.index(("review.issue", "allow", "intent")) :]
    assert after == [
        ("review.issue", "allow", "intent"),
        ("review.spend", "allow", "spent"),
        ("vault.open", "allow", "opening"),
        ("review.issue", "allow", "issued"),
    ], "intent, spending, each opening and the result have their lines, in this order"
    (opening,) = desk.events("vault.open")
    assert opening.object.endswith(f"/hospital:{HOSPITAL}/item:local_patient_identifier")
    assert opening.case == request.document.case


@pytest.mark.parametrize("signed_by", ONE_SIDE_ONLY, ids=" and ".join)
def test_without_one_approval_of_each_side_nothing_is_issued(desk: Desk, signed_by: list[str]) -> None:
    request = desk.asked
    for role in signed_by:
        if role != "nobody":
            desk.approve(request, role)
    with refused(desk, "approval_missing"):
        desk.issue(request)


def test_a_spent_approval_cannot_be_used_again(desk: Desk) -> None:
    """Attack 42."""
    request = desk.asked
    desk.approve(request)
    record = desk.issue(request)
    with refused(desk, "spent"):
        desk.issue(request)
    # Not even when the ledger, the record and the list are taken away: the audit log knows.
    shutil.rmtree(desk.workspace.zone(ZONE) / LEDGER)
    (desk.case(request).folder / ISSUE).unlink()
    (desk.workspace.zone("outbox") / record.document.file).unlink()
    with refused(desk, "spent"):
        desk.issue(request)


def test_the_ledger_alone_stops_a_second_use(desk: Desk) -> None:
    """Attack 42, with an audit log that was exchanged for an empty one."""
    request = desk.asked
    approvals = desk.approve(request)
    key = desk.keyring.manifest_signing_key
    ledger.spend(desk.case(request), request, approvals, signing_key=key, now=desk.now)
    with pytest.raises(NotPermitted) as caught:
        ledger.spend(desk.case(request), request, approvals, signing_key=key, now=desk.now)
    assert caught.value.reason_code == "spent"


def test_one_person_who_signs_twice_is_one_person(desk: Desk) -> None:
    """Attack 43. The second signature is put into the folder past the desk that takes them in."""
    request = desk.asked
    desk.approve(request)
    again = desk.later(minutes=1).sign(request, "siro")
    (desk.case(request).folder / "approval-000000000000.json").write_bytes(again.content)
    with refused(desk.later(minutes=2), "same_person"):
        desk.later(minutes=2).issue(request)


def test_an_officer_cannot_sign_for_the_other_side(desk: Desk) -> None:
    """Attack 43: the SIRO's signature on the Guardian's side, well formed and with the SIRO's own shares."""
    request = desk.asked
    own = desk.sign(request, "siro").document
    forged = sign_document(
        own.model_copy(update={"side": "guardian", "role": "caldicott_guardian"}),
        signing_key(desk.workspace, "siro"),
    )
    with refused(desk, "no_role"):
        desk.hand_in(request, forged.content, "siro")


def test_an_approval_in_another_persons_name_is_refused(desk: Desk) -> None:
    request = desk.asked
    own = desk.sign(request, "siro").document
    forged = sign_document(
        own.model_copy(update={"person": "demo-caldicott-guardian", "side": "guardian"}),
        signing_key(desk.workspace, "siro"),
    )
    with refused(desk, "not_the_signer"):
        desk.hand_in(request, forged.content, "siro")


def test_who_asks_does_not_decide(desk: Desk) -> None:
    """Attack 44: the SIRO may ask, if the SIRO is an analyst too, and may then not sign."""
    enter(
        desk.workspace,
        desk.now,
        "role_granted",
        ("iao",),
        person="demo-siro",
        role="intelligence_analyst",
        until="",
        **{"from": stamp(desk.now)},
    )
    request = desk.ask(role="siro")
    with pytest.raises(NotPermitted) as caught:
        desk.sign(request, "siro")
    assert caught.value.reason_code == "requester_approves"
    desk.approve(request, "caldicott_guardian", "deputy_siro")
    assert desk.issue(request).document.listed, "with the deputy in the SIRO's place it is in order"


def test_who_runs_the_pipeline_does_not_decide(desk: Desk) -> None:
    request = desk.asked
    desk.approve(request)
    enter(
        desk.workspace,
        desk.now,
        "role_granted",
        ("iao",),
        person="demo-siro",
        role="data_engineer",
        until="",
        **{"from": stamp(desk.now)},
    )
    with refused(desk, "engineer_approves"):
        desk.issue(request)


def test_who_issues_did_not_approve(desk: Desk) -> None:
    request = desk.asked
    desk.approve(request)
    with refused(desk, "issuer_approves"):
        issue(
            desk.workspace,
            request.document.case,
            keyring=desk.keyring,
            register=desk.register,
            audit=desk.audit("siro"),
            clock=desk.clock,
        )


def test_an_approval_of_one_request_is_worth_nothing_for_another(desk: Desk) -> None:
    """Attack 45."""
    first = desk.asked
    other = desk.ask(
        recipient=OTHER,
        parameters={"provider": OTHER, "from_date": "2022-04-01", "to_date": "2023-03-31"},
    )
    signed = desk.sign(first, "siro")
    with refused(desk, "another_request"):
        desk.hand_in(other, signed.content, "siro")


def test_an_approval_carries_the_shares_of_one_hospital_and_one_item_only(desk: Desk) -> None:
    """Attack 45: what the officer releases opens nothing but what was asked for."""
    request = desk.asked
    signed = desk.sign(request, "siro")
    sealed = (desk.case(request).folder / REVIEW_KEY).read_bytes()
    key = unseal(sealed, desk.keyring.landing_recovery_identities).decode()
    shares = released_shares(signed, request, key)
    assert list(shares) == [delivery.folder for delivery in request.document.cohort.deliveries]
    (released,) = shares.values()
    assert {issuer: sorted(keys) for issuer, keys in released.items()} == {
        HOSPITAL: ["LOPATID", "footer", "record_key"]
    }


def test_released_shares_open_with_no_key_of_the_pipeline_but_the_reviews_own(desk: Desk) -> None:
    request = desk.asked
    signed = desk.sign(request, "siro")
    for key in (*desk.keyring.landing_recovery_identities, *desk.keyring.inbox_identities):
        with pytest.raises(CannotOpen):
            released_shares(signed, request, key)


def test_an_expired_request_is_neither_approved_nor_issued(desk: Desk) -> None:
    """Attack 46."""
    request = desk.asked
    signed = desk.sign(request, "siro")
    desk.approve(request, "caldicott_guardian")
    late = desk.later(days=14)
    with refused(late, "expired"):
        late.hand_in(request, signed.content, "siro")
    desk.hand_in(request, signed.content, "siro")
    with refused(late, "expired"):
        late.issue(request)


def test_a_request_that_is_not_valid_yet_is_not_used(desk: Desk) -> None:
    """Attack 46."""
    request = desk.rewritten(desk.asked, not_before=stamp(desk.now + timedelta(days=2)))
    with pytest.raises(NotPermitted) as caught:
        desk.sign(request, "siro")
    assert caught.value.reason_code == "not_yet_valid"
    later = desk.later(days=2)
    later.approve(request)
    with refused(desk.later(days=1), "not_yet_valid"):
        desk.later(days=1).issue(request)


def test_a_request_for_longer_than_a_fortnight_is_refused(desk: Desk) -> None:
    """Attack 46."""
    request = desk.rewritten(desk.asked, expires=stamp(desk.now + timedelta(days=14, seconds=1)))
    with pytest.raises(NotPermitted) as caught:
        desk.sign(request, "siro")
    assert caught.value.reason_code == "validity_too_long"


class _Jumping:
    """A clock that jumps over the end of a request while the list is being made."""

    def __init__(self, clock: Clock, calls: int) -> None:
        self._clock, self._left = clock, calls

    def __call__(self) -> Any:
        self._left -= 1
        return self._clock() if self._left >= 0 else self._clock.later(days=30)()


def test_a_request_that_expires_while_its_list_is_made_ends_there(desk: Desk) -> None:
    """Attack 46 and 106: the rules hold at the end as at the beginning."""
    request = desk.asked
    desk.approve(request)
    with refused(desk, "expired"):
        issue(
            desk.workspace,
            request.document.case,
            keyring=desk.keyring,
            register=desk.register,
            audit=desk.audit(),
            clock=_Jumping(desk.clock, 2),
        )
    assert not (desk.case(request).folder / REVIEW_KEY).exists(), "what was released opens nothing any more"


def edited(content: bytes, **changes: Any) -> bytes:
    """A signed file with other words in its document and the old signature."""
    found = parse_canonical(content)
    return canonical_json({**found, "document": {**found["document"], **changes}})


def test_a_request_that_was_edited_after_signing_is_refused(desk: Desk) -> None:
    """Attack 47."""
    request = desk.asked
    desk.approve(request)
    path = desk.case(request).folder / "request.json"
    path.write_bytes(edited(request.content, max_rows=99))
    with refused(desk, "changed"):
        desk.issue(request)


def test_an_approval_that_was_edited_after_signing_is_refused(desk: Desk) -> None:
    """Attack 47."""
    request = desk.asked
    signed = desk.sign(request, "siro")
    with refused(desk, "changed"):
        desk.hand_in(
            request, edited(signed.content, decided_at=stamp(desk.now - timedelta(minutes=1))), "siro"
        )


def test_two_officers_who_signed_different_requests_approved_neither(desk: Desk) -> None:
    """Attack 48: the requester makes a second request under the same case after the first approval."""
    request = desk.asked
    desk.approve(request, "caldicott_guardian")
    second = desk.rewritten(request, max_rows=99)
    signed = desk.sign(second, "siro")
    (desk.case(request).folder / "approval-000000000000.json").write_bytes(signed.content)
    with refused(desk, "another_request"):
        desk.issue(second)


SPELLINGS = {
    "a key twice": lambda text: text.replace(b'"demo":', b'"demo":true,"demo":', 1),
    "bytes behind the end": lambda text: text + b"\n",
    "a space": lambda text: text.replace(b",", b", ", 1),
    "a number with a fraction": lambda text: text.replace(b'"max_rows":100', b'"max_rows":100.0'),
    "a number as text": lambda text: text.replace(b'"max_rows":100', b'"max_rows":"100"'),
    "another escape": lambda text: text.replace(b"Z03", b"\\u005a03", 1),
    "a field too many": lambda text: text.replace(b'"demo":', b'"demoo":true,"demo":', 1),
    "a confusable letter": lambda text: text.replace(b'"recipient":"Z03"', '"recipient":"\u048703"'.encode()),
    "an invisible character": lambda text: text.replace(b'"trigger":"', '"trigger":"\u200b'.encode()),
    "a turned direction": lambda text: text.replace(b'"trigger":"', '"trigger":"\u202e'.encode()),
    "a true in place of a number": lambda text: text.replace(b'"max_rows":100', b'"max_rows":true'),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_second_spelling_of_a_request_is_no_request(desk: Desk, spelling: str) -> None:
    """Attack 49."""
    content = SPELLINGS[spelling](desk.asked.content)
    assert content != desk.asked.content, "the example does not fit the request any more"
    with pytest.raises(IntegrityError):
        parse(content, Request)


def test_a_request_in_a_second_spelling_stops_the_issue_and_is_recorded(desk: Desk) -> None:
    """Attack 49."""
    request = desk.asked
    desk.approve(request)
    path = desk.case(request).folder / "request.json"
    path.write_bytes(request.content + b"\n")
    with pytest.raises(IntegrityError):
        desk.issue(request)
    assert desk.events("review.issue")[-1].decision in ("fail", "refuse")
    assert desk.outbox == []


def revoke_siro(desk: Desk) -> None:
    key = signing_key(desk.workspace, "siro").key_id
    enter(
        desk.workspace,
        desk.now,
        "key_revoked",
        ("iao",),
        person="demo-siro",
        key=key,
        **{"from": stamp(desk.now)},
    )


def end_siro(desk: Desk) -> None:
    enter(
        desk.workspace,
        desk.now,
        "role_ended",
        ("iao",),
        person="demo-siro",
        role="siro",
        **{"from": stamp(desk.now)},
    )


def let_siro_leave(desk: Desk) -> None:
    enter(desk.workspace, desk.now, "person_left", ("iao",), person="demo-siro", **{"from": stamp(desk.now)})


@pytest.mark.parametrize(
    ("change", "reason_code"),
    [(revoke_siro, "revoked_key"), (end_siro, "no_role"), (let_siro_leave, "revoked_key")],
    ids=["key revoked", "role ended", "person left"],
)
def test_a_signer_who_no_longer_counts_at_the_time_of_use_stops_it(
    desk: Desk, change: Any, reason_code: str
) -> None:
    """Attack 50."""
    request = desk.asked
    desk.approve(request)
    later = desk.later(hours=1)
    change(later)
    with refused(later.later(hours=1), reason_code):
        later.later(hours=1).issue(request)


def test_a_training_that_lapsed_between_signing_and_use_stops_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack 50."""
    request = desk.asked
    desk.approve(request)
    monkeypatch.setattr("infra.register_state.TRAINING_DAYS", 2)
    late = desk.later(days=3)
    with refused(late, "training_lapsed"):
        late.issue(request)


def test_a_deputy_outside_the_dates_of_the_deputyship_does_not_count(desk: Desk) -> None:
    """Attack 51: signed within the dates, used outside."""
    request = desk.asked
    desk.approve(request, "caldicott_guardian", "deputy_siro")
    later = desk.later(hours=1)
    enter(
        later.workspace,
        later.now,
        "role_ended",
        ("iao",),
        person="demo-deputy-siro",
        role="deputy_siro",
        **{"from": stamp(later.now)},
    )
    with refused(later.later(hours=1), "outside_deputyship"):
        later.later(hours=1).issue(request)


def with_agreement(desk: Desk, **changes: str) -> Desk:
    path = desk.workspace.root / "settings.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["agreement"] |= changes
    path.write_text(yaml.safe_dump(settings))
    return replace(desk, workspace=Workspace.open(desk.workspace.root))


@pytest.mark.parametrize(
    ("changes", "reason_code"),
    [
        ({"ends": "2026-11-19"}, "agreement_not_in_force"),
        ({"starts": "2026-11-21"}, "agreement_not_in_force"),
        ({"ends": "unknown"}, "agreement_not_in_force"),
        ({"reference": "ANOTHER"}, "another_agreement"),
    ],
    ids=["over", "not begun", "no date", "another"],
)
def test_without_an_agreement_in_force_on_the_day_nothing_is_issued(
    desk: Desk, changes: dict[str, str], reason_code: str
) -> None:
    """Attack 52."""
    request = desk.asked
    desk.approve(request)
    changed = with_agreement(desk, **changes)
    with refused(changed, reason_code):
        changed.issue(request)


def test_a_question_that_was_widened_after_approval_is_refused(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack 53."""
    request = desk.asked
    desk.approve(request)
    folder = tmp_path / "cohorts"
    shutil.copytree(cohort.COHORT_FOLDER, folder)
    path = folder / "deaths_in_hospital.sql"
    path.write_text(
        path.read_text().replace("provider_spell.died_in_hospital\n", "provider_spell.finished\n")
    )
    monkeypatch.setattr(cohort, "COHORT_FOLDER", folder)
    with refused(desk, "predicate_changed"):
        desk.issue(request)


def test_records_that_came_after_the_approval_are_not_let_out(desk: Desk, tmp_path: Path) -> None:
    """Attack 54: a later month supersedes the one that was approved."""
    request = desk.asked
    desk.approve(request)
    plain = workspaces.make_extracts(
        tmp_path / "plain",
        workspaces.recipient(desk.workspace),
        episodes=2_400,
        hospitals=4,
        years=1,
        plain=True,
    )
    workspaces.drop(desk.workspace, [later_month(plain.one("HES_APC_202212"), tmp_path)], before=desk.now)
    reviews.quick_night(desk.workspace, desk.clock)
    with refused(desk, "cohort_changed"):
        desk.issue(request)


def later_month(path: Path, folder: Path) -> Path:
    """The same records as the delivery of the month after, one of them left out."""
    header, *lines = path.read_text().splitlines(keepends=True)
    target = folder / path.name.replace("202212", "202213")
    target.write_text(header.replace("202212", "202213") + "".join(lines[:-1]))
    return target


def test_one_patient_more_than_the_request_allows_is_refused(desk: Desk) -> None:
    """Attack 55."""
    patients = desk.asked.document.cohort.patients
    with refused(desk, "too_many_rows"):
        desk.ask(max_rows=patients - 1)
    assert desk.ask(max_rows=patients).document.max_rows == patients
    request = desk.rewritten(desk.asked, max_rows=patients - 1)
    with pytest.raises(NotPermitted) as caught:
        desk.sign(request, "siro")
    assert caught.value.reason_code == "too_many_rows"


def test_more_than_the_cap_has_to_be_said(desk: Desk) -> None:
    """Attack 55."""
    with refused(desk, "too_many_rows"):
        desk.ask(max_rows=101)
    assert desk.ask(max_rows=101, acknowledge_many=True).document.acknowledged.more_than_the_cap
    with refused(desk, "too_many_rows"):
        desk.ask(max_rows=501, acknowledge_many=True)


def test_a_recipient_key_that_was_exchanged_after_approval_stops_it(desk: Desk, tmp_path: Path) -> None:
    """Attack 56."""
    request = desk.asked
    desk.approve(request)
    later = desk.later(hours=1)
    reviews.enrol_hospital(desk.workspace, HOSPITAL, tmp_path / "other", later.now)
    with refused(later.later(hours=1), "recipient_key_changed"):
        later.later(hours=1).issue(request)
    assert desk.case(request).spending(request.sha256) is None, "found before anything was used up"


def test_of_many_that_use_an_approval_at_once_exactly_one_wins(desk: Desk) -> None:
    """Attack 57, at the ledger: eight threads, one entry."""
    request = desk.asked
    approvals = desk.approve(request)
    key, ended, barrier = desk.keyring.manifest_signing_key, [], threading.Barrier(8)

    def use() -> None:
        barrier.wait()
        try:
            ledger.spend(desk.case(request), request, approvals, signing_key=key, now=desk.now)
            ended.append("won")
        except NotPermitted as error:
            ended.append(error.reason_code)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["spent"] * 7 + ["won"]
    assert len(list((desk.workspace.zone(ZONE) / LEDGER).iterdir())) == 1


ISSUE_CHILD = """
import sys
from pathlib import Path
from infra.workspace import Workspace
from tests.support.reviews import Desk
from schemas.errors import NotPermitted
desk = Desk(Workspace.open(Path(sys.argv[1])))
sys.stdin.readline()
try:
    desk.issue(desk.asked)
    print("issued")
except NotPermitted as error:
    print(error.reason_code)
"""


def test_of_two_processes_that_issue_one_case_at_once_exactly_one_wins(
    desk: Desk, shared_folder: Path
) -> None:
    """Attack 57, as a whole."""
    desk.approve(desk.asked)
    command = [sys.executable, "-c", ISSUE_CHILD, str(desk.workspace.root)]
    children = [
        subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**child_environment(shared_folder), "PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [child.communicate("go\n", timeout=120)[0].strip() for child in children]
    assert sorted(said) == ["issued", "spent"]
    assert len(desk.outbox) == 1


class Killed(BaseException):
    """Stands for a kill: nothing in the code catches it on purpose."""


def killed_at(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    def reached(name: str) -> None:
        if name == point:
            raise Killed

    monkeypatch.setattr(commit_points, "reached", reached)


def test_a_run_killed_between_spending_and_opening_has_spent_and_let_nothing_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack 58."""
    request = desk.asked
    desk.approve(request)
    killed_at(monkeypatch, "review.spend.after")
    with pytest.raises(Killed):
        desk.issue(request)
    monkeypatch.undo()
    assert desk.outbox == []
    assert desk.events("vault.open") == [], "nothing was opened"
    with refused(desk, "spent"):
        desk.issue(request)
    assert not (desk.case(request).folder / REVIEW_KEY).exists(), "what was released opens nothing any more"


@pytest.mark.parametrize("point", ["review.list.before", "review.list.after"])
def test_a_list_without_its_record_is_swept_by_the_next_run(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Attack 58 and 98: killed so hard that nothing could be taken back."""
    request = desk.asked
    desk.approve(request)
    killed_at(monkeypatch, point)
    monkeypatch.setattr("infra.review.issue._take_back", lambda _placed: None)
    with pytest.raises(Killed):
        desk.issue(request)
    monkeypatch.undo()
    assert len(desk.outbox) == 1
    with pytest.raises(NotPermitted):
        desk.issue(request)
    assert desk.outbox == []
    assert desk.events("review.sweep")[-1].reason_code == "no_issue_record"


def ask_in_an_emergency(desk: Desk) -> Signed[Request]:
    return desk.ask(emergency=True, legal_gateway="s77_2_f")


def test_an_emergency_needs_its_two_persons_as_well(desk: Desk) -> None:
    """Attack 59."""
    request = ask_in_an_emergency(desk)
    desk.approve(request, "siro")
    with refused(desk, "approval_missing"):
        desk.issue(request)
    with pytest.raises(NotPermitted) as caught:
        desk.sign(request, "caldicott_guardian")
    assert caught.value.reason_code == "no_role", (
        "the Guardian who can be reached decides in the ordinary way"
    )


def test_an_emergency_is_loud_and_over_after_four_hours(desk: Desk) -> None:
    """Attack 59."""
    request = ask_in_an_emergency(desk)
    late = desk.later(hours=4)
    with pytest.raises(NotPermitted) as caught:
        late.sign(request, "siro")
    assert caught.value.reason_code == "expired"
    desk.approve(request, "deputy_caldicott_guardian", "siro")
    assert desk.issue(request).document.emergency
    loud = {event.action for event in desk.events(None, decision="break_glass")}
    assert loud == {"review.spend", "vault.open", "review.issue"}
    incidents = list_incidents(desk.workspace.zone("incidents"))
    assert [(each.type, each.case) for each in incidents] == [
        (IncidentType.BREAK_GLASS, request.document.case)
    ]


def test_an_emergency_that_nobody_reviewed_blocks_further_lists(desk: Desk) -> None:
    """Attack 60: used on a Friday night, so two working days end in the night of Tuesday."""
    ordinary = desk.asked
    desk.approve(ordinary)
    request = ask_in_an_emergency(desk)
    desk.approve(request, "deputy_caldicott_guardian", "siro")
    desk.issue(request)
    late = desk.later(days=4)
    with refused(late, "emergency_unreviewed"):
        late.issue(ordinary)
    kinds = [each.type for each in list_incidents(desk.workspace.zone("incidents"))]
    assert kinds == [IncidentType.BREAK_GLASS, IncidentType.BREAK_GLASS_UNREVIEWED]
    with refused(late, "no_role"):
        late.look_back(
            request, "Looked at by somebody who took part in it, in order.", "deputy_caldicott_guardian"
        )
    late.look_back(request, "It was necessary, and no other way was open in the time that there was.")
    assert late.issue(ordinary).document.listed


def test_in_the_two_days_that_the_guardian_has_work_goes_on(desk: Desk) -> None:
    """Attack 60."""
    ordinary = desk.asked
    desk.approve(ordinary)
    request = ask_in_an_emergency(desk)
    desk.approve(request, "deputy_caldicott_guardian", "siro")
    desk.issue(request)
    assert desk.later(days=3).issue(ordinary).document.listed


@pytest.mark.parametrize("name", ["review.yaml", "roles.yaml", "purposes.yaml"])
def test_a_policy_file_that_was_edited_invalidates_every_open_request(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Attack 61."""
    request = desk.asked
    desk.approve(request)
    copies = []
    for path in permission.POLICY_FILES:
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes() + (b"\n# one engineer's line\n" if path.name == name else b""))
        copies.append(copy)
    monkeypatch.setattr(permission, "POLICY_FILES", tuple(copies))
    with refused(desk, "policy_changed"):
        desk.issue(request)


# What ends a case -----------------------------------------------------------------------------------------


def test_a_refusal_ends_a_case_even_after_both_approved(desk: Desk) -> None:
    request = desk.asked
    desk.approve(request)
    desk.refuse(request, "siro", "The hospital has begun a review of its own, so this is not needed.")
    with refused(desk, "refused"):
        desk.issue(request)
    (desk.case(request).folder / "refusal.json").unlink()
    with refused(desk, "refused"):  # the audit log remembers
        desk.issue(request)


def test_only_who_asked_withdraws_and_then_it_is_over(desk: Desk) -> None:
    request = desk.asked
    desk.approve(request)
    with refused(desk, "not_the_requester"):
        desk.withdraw(request, "Not needed, says somebody else.", "siro")
    desk.withdraw(request, "The hospital has found the records by itself.")
    with refused(desk, "withdrawn"):
        desk.issue(request)


def test_a_refusal_that_somebody_tampered_with_does_not_turn_into_none(desk: Desk) -> None:
    request = desk.asked
    desk.approve(request)
    desk.refuse(request, "siro", "Not proportionate, in my view of it.")
    path = desk.case(request).folder / "refusal.json"
    path.write_bytes(edited(path.read_bytes(), reason="Nothing of importance."))
    with pytest.raises(NotPermitted):
        desk.later(minutes=1).issue(request)
    assert desk.outbox == []


def test_an_approval_shows_nothing_of_another(desk: Desk) -> None:
    """Blind: the name and size of an approval do not say whose it is, and its text names its own signer only."""
    request = desk.asked
    (guardian,) = desk.approve(request, "caldicott_guardian")
    alone = desk.sign(request, "siro").document
    assert guardian.sha256 not in str(alone)
    assert "guardian" not in alone.model_dump_json()
    names = [path.name for path in desk.case(request).folder.glob("approval-*")]
    assert all("guardian" not in name and "siro" not in name for name in names)


# The audit log comes first --------------------------------------------------------------------------------


def test_without_a_durable_intent_nothing_is_spent(desk: Desk) -> None:
    request = desk.asked
    desk.approve(request)
    audit = desk.audit()
    log = desk.workspace.zone("audit") / "log.ndjson"
    log.rename(log.with_name("away"))
    with pytest.raises(AuditUnavailable):
        issue(
            desk.workspace,
            request.document.case,
            keyring=desk.keyring,
            register=desk.register,
            audit=audit,
            clock=desk.clock,
        )
    assert desk.case(request).spending(request.sha256) is None
    assert desk.outbox == []


def test_without_a_durable_result_the_list_is_taken_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    request = desk.asked
    desk.approve(request)
    audit = desk.audit()
    record = audit.record

    def failing(action: str, what: str, **rest: Any) -> Any:
        if rest.get("reason_code") == "issued":
            raise AuditUnavailable("the disk of the audit log is full")
        return record(action, what, **rest)

    monkeypatch.setattr(audit, "record", failing)
    with pytest.raises(AuditUnavailable):
        issue(
            desk.workspace,
            request.document.case,
            keyring=desk.keyring,
            register=desk.register,
            audit=audit,
            clock=desk.clock,
        )
    assert desk.outbox == []
    assert desk.case(request).issue_record() is None


def test_without_a_durable_line_an_approval_is_not_kept(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    request = desk.asked
    signed = desk.sign(request, "siro")
    audit = desk.audit("siro")

    def failing(*_: Any, **__: Any) -> Any:
        raise AuditUnavailable("the disk of the audit log is full")

    monkeypatch.setattr(audit, "record", failing)
    with pytest.raises(AuditUnavailable):
        hand_in(desk.case(request), signed.content, rules=desk.rules, audit=audit, now=desk.now)
    assert desk.case(request).approvals() == []


def test_a_case_that_does_not_exist_is_refused_and_recorded(desk: Desk) -> None:
    with pytest.raises(WardwatchError):
        issue(
            desk.workspace,
            "bcdfghjkmnpq",
            keyring=desk.keyring,
            register=desk.register,
            audit=desk.audit(),
            clock=desk.clock,
        )
    assert desk.events("review.issue")[-1].decision == "refuse"


def test_an_older_vault_in_the_place_of_the_approved_one_is_not_opened(desk: Desk) -> None:
    request = desk.asked
    desk.approve(request)
    (delivery,) = request.document.cohort.deliveries
    manifest = desk.workspace.zone("vault") / delivery.folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(IntegrityError):
        desk.issue(request)
    assert desk.outbox == []
    assert desk.events("review.issue")[-1].decision == "fail"


def test_an_approval_made_before_its_request_or_in_the_future_is_refused(desk: Desk) -> None:
    request = desk.asked
    own: Approval = desk.sign(request, "siro").document
    for moment in (desk.now - timedelta(days=1), desk.now + timedelta(days=1)):
        moved = sign_document(
            own.model_copy(update={"decided_at": stamp(moment)}), signing_key(desk.workspace, "siro")
        )
        with refused(desk, "signed_outside_the_request"):
            desk.hand_in(request, moved.content, "siro")
