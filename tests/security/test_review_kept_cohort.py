"""The kept cohort: the list comes quickly, and neither way to the records lets through what the other refuses.

Attacks 53 and 54 against the file in which a case keeps the records that were found: anybody who can write to the
folder can seal another one to the pipeline's public key.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from infra.review import issue, kept
from infra.review.case import KEPT_COHORT, REVIEW_KEY
from infra.review.cohort import Cohort, deliveries_of, find_cohort
from infra.review.documents import Request, Signed
from infra.sealing import unseal
from schemas.errors import CannotOpen, IntegrityError, NotPermitted, WardwatchError
from tests.support import reviews
from tests.support.reviews import HOSPITAL, OTHER, WISH, Desk, fresh_desk, refused

Change = Callable[[pl.DataFrame], pl.DataFrame]
CHANGES: dict[str, Change] = {
    "one record less": lambda frame: frame[1:],
    "one record more": lambda frame: pl.concat([frame, frame[:1].with_columns(record_key=pl.lit("X"))]),
    "another record": lambda frame: frame.with_columns(record_key=pl.col("record_key").str.reverse()),
    "a record twice": lambda frame: pl.concat([frame, frame[:1]]),
    "every record another person": lambda frame: frame.with_columns(
        person_token=pl.col("person_token").str.reverse()
    ),
    "another date": lambda frame: frame.with_columns(record_date=pl.lit(date(2022, 5, 5))),
    "a delivery that is not in use": lambda frame: frame.with_columns(delivery_id=pl.lit("hes_apc-x")),
    "nobody": lambda frame: frame[:0],
}
WAYS = ["kept", "asked anew"]


@pytest.fixture
def desk(shared_folder: Path, tmp_path: Path) -> Desk:
    return fresh_desk(shared_folder, tmp_path)


def found_now(desk: Desk, request: Signed[Request]) -> Cohort:
    asked = request.document
    return find_cohort(
        desk.workspace,
        desk.keyring,
        deliveries_of(desk.workspace, desk.keyring),
        asked.predicate,
        asked.recipient,
        desk.rules.policy,
    )


def ask_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lake is another than the request's from here on: its state is that of other code."""
    monkeypatch.setattr(kept, "code_version", lambda: "another version")


def never(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def called(*_: object) -> Cohort:
        raise AssertionError(f"{name} is not the way that was expected")

    monkeypatch.setattr(issue, name, called)


def test_while_the_lake_is_what_it_was_nothing_is_asked_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.approve(desk.asked)
    never(monkeypatch, "find_cohort")
    assert desk.issue(desk.asked).document.listed == desk.asked.document.cohort.patients


def test_both_ways_give_the_same_list(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    second = desk.ask()
    desk.approve(desk.asked)
    desk.approve(second)
    quick = desk.open(desk.issue(desk.asked)).numbers
    ask_anew(monkeypatch)
    never(monkeypatch, "open_cohort")
    assert sorted(desk.open(desk.issue(second)).numbers) == sorted(quick)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", CHANGES)
def test_neither_way_lets_other_records_through(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, change: str, way: str
) -> None:
    request = desk.asked
    desk.approve(request)
    other = Cohort(CHANGES[change](found_now(desk, request).frame))
    if way == "kept":
        kept.keep(desk.case(request).folder, request.document.id, other, desk.keyring)
    else:
        ask_anew(monkeypatch)
        monkeypatch.setattr(issue, "find_cohort", lambda *_: other)
    with pytest.raises(WardwatchError) as caught:
        desk.issue(request)
    assert isinstance(caught.value, NotPermitted | IntegrityError)
    assert desk.outbox == []
    assert desk.events("vault.open") == [], "nothing was opened"


@pytest.mark.parametrize("way", WAYS)
def test_neither_way_goes_round_a_question_that_was_changed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    """Attack 53."""
    from infra.review import cohort

    desk.approve(desk.asked)
    if way == "asked anew":
        ask_anew(monkeypatch)
    name = "deaths_in_hospital.sql"
    text = (cohort.COHORT_FOLDER / name).read_text()
    (tmp_path / name).write_text(text + "-- one line more\n")
    monkeypatch.setattr(cohort, "COHORT_FOLDER", tmp_path)
    with refused(desk, "predicate_changed"):
        desk.issue(desk.asked)


@pytest.mark.parametrize("way", WAYS)
def test_neither_way_opens_another_vault(desk: Desk, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    request = desk.asked
    desk.approve(request)
    if way == "asked anew":
        ask_anew(monkeypatch)
    (delivery,) = request.document.cohort.deliveries
    manifest = desk.workspace.zone("vault") / delivery.folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(IntegrityError):
        desk.issue(request)
    assert desk.outbox == []


def test_the_records_of_one_request_are_not_those_of_another(desk: Desk) -> None:
    """The same question, kept for a second request and put into the folder of the first."""
    second = desk.ask()
    desk.approve(desk.asked)
    content = (desk.case(second).folder / KEPT_COHORT).read_bytes()
    (desk.case(desk.asked).folder / KEPT_COHORT).write_bytes(content)
    with pytest.raises(IntegrityError):
        desk.issue(desk.asked)
    assert desk.outbox == []


def test_records_of_another_hospital_cannot_be_put_in_their_place(desk: Desk) -> None:
    parameters = {**WISH.parameters, "provider": OTHER}
    other = desk.ask(recipient=OTHER, parameters=parameters)
    records = found_now(desk, other)
    desk.approve(desk.asked)
    kept.keep(desk.case(desk.asked).folder, desk.asked.document.id, records, desk.keyring)
    with refused(desk, "cohort_changed"):
        desk.issue(desk.asked)


def test_a_kept_file_that_was_cut_lets_nothing_out(desk: Desk) -> None:
    desk.approve(desk.asked)
    path = desk.case(desk.asked).folder / KEPT_COHORT
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CannotOpen):
        desk.issue(desk.asked)
    assert desk.outbox == []


def test_without_the_kept_file_the_question_is_asked_anew(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.approve(desk.asked)
    (desk.case(desk.asked).folder / KEPT_COHORT).unlink()
    never(monkeypatch, "open_cohort")
    assert desk.issue(desk.asked).document.listed


def test_what_is_kept_is_sealed_to_the_pipeline_and_to_nobody_else(desk: Desk) -> None:
    request = desk.asked
    folder = desk.case(request).folder
    frame = found_now(desk, request).frame
    secrets = [value.encode() for name in ("record_key", "person_token") for value in frame[name]]
    for path in folder.iterdir():
        content = path.read_bytes()
        assert [secret for secret in secrets if secret in content] == [], path.name
    sealed = (folder / KEPT_COHORT).read_bytes()
    assert kept.open_cohort(sealed, request.document.id, desk.keyring).frame.equals(frame)
    officers = [reviews.identity(desk.workspace, role) for role in ("siro", "caldicott_guardian")]
    for key in (*officers, desk.hospital_identity(HOSPITAL), *desk.keyring.inbox_identities):
        with pytest.raises(CannotOpen):
            unseal(sealed, key)


def left(desk: Desk, request: Signed[Request]) -> list[str]:
    folder = desk.case(request).folder
    return [name for name in (REVIEW_KEY, KEPT_COHORT) if (folder / name).exists()]


def issued(desk: Desk) -> None:
    desk.approve(desk.asked)
    desk.issue(desk.asked)


def failed(desk: Desk) -> None:
    desk.approve(desk.asked)
    (delivery,) = desk.asked.document.cohort.deliveries
    (desk.workspace.zone("vault") / delivery.folder / "manifest.json").unlink()
    with pytest.raises(IntegrityError):
        desk.issue(desk.asked)


def expired(desk: Desk) -> None:
    with pytest.raises(NotPermitted):
        desk.later(days=14).issue(desk.asked)


ENDS: dict[str, Callable[[Desk], None]] = {
    "issued": issued,
    "failed": failed,
    "refused": lambda desk: desk.refuse(desk.asked, "siro", "Not needed, as I see it, at this time."),
    "withdrawn": lambda desk: desk.withdraw(desk.asked, "Not needed any more, as the hospital says."),
    "expired": expired,
}


@pytest.mark.parametrize("end", ENDS)
def test_when_a_case_has_ended_nothing_is_kept_of_its_records(desk: Desk, end: str) -> None:
    assert left(desk, desk.asked) == [REVIEW_KEY, KEPT_COHORT]
    ENDS[end](desk)
    assert left(desk, desk.asked) == []


def test_of_a_case_that_expired_nothing_is_kept_although_nobody_issues_anything(desk: Desk) -> None:
    for days, names in ((13, [REVIEW_KEY, KEPT_COHORT]), (14, [])):
        issue.tidy(desk.workspace, desk.rules.signers, desk.audit(), desk.later(days=days).now)
        assert left(desk, desk.asked) == names, f"after {days} days"


def test_what_a_killed_run_left_of_an_ended_case_is_swept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = desk.ask()
    desk.approve(second)
    monkeypatch.setattr("infra.review.case.Case.forget", lambda _case: None)
    desk.refuse(desk.asked, "siro", "Not needed, as I see it, at this time.")
    monkeypatch.undo()
    assert left(desk, desk.asked) == [REVIEW_KEY, KEPT_COHORT]
    desk.issue(second)
    assert left(desk, desk.asked) == []
