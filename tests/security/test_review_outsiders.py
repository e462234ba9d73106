"""What an outsider to the pipeline, or a kill at the wrong moment, can make of a case review: nothing.

The requester's own key and the folder of a case are not enough to say which columns or whose key the officers release
their shares for, and what the log knows of an end counts, whatever became of the document.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest

from infra.audit import AuditLog
from infra.held_back import held_by_cases
from infra.provider_reference import PROVIDERS_FILE
from infra.retention.in_use import refuse_open_case
from infra.review import approval, issue, ledger
from infra.review.case import REFUSAL, open_case
from infra.sealing import new_identity
from schemas.errors import IntegrityError, NotPermitted
from tests.support.reviews import HOSPITAL, OTHER, Desk, fresh_desk, refused

EVERYTHING = ("DOB", "HOMEADD", "LOPATID", "NEWNHSNO")


@pytest.fixture
def desk(shared_folder: Path, tmp_path: Path) -> Desk:
    return fresh_desk(shared_folder, tmp_path)


class Killed(BaseException):
    pass


def killed(module: ModuleType, point: str, work: Callable[[], object]) -> None:
    """Do ``work`` until ``point``; from there on nothing more is written, the log's line about an error included."""

    def reached(name: str) -> None:
        if name == point:
            lines.start()
            raise Killed

    def no_line(*_: object, **__: object) -> None:
        raise Killed

    lines = patch.object(AuditLog, "record", no_line)
    try:
        with patch.object(module, "commit_point", reached), pytest.raises(Killed):
            work()
    finally:
        lines.stop()


def with_every_column(desk: Desk) -> dict[str, object]:
    cohort = desk.asked.document.cohort.model_dump()
    cohort["deliveries"] = [{**each, "columns": EVERYTHING} for each in cohort["deliveries"]]
    return {"cohort": cohort}


def test_the_requester_alone_cannot_name_other_columns_or_a_key_of_their_own(desk: Desk) -> None:
    _, own = new_identity()
    for change in (with_every_column(desk), {"review_recipient": own}):
        request = desk.rewritten(desk.asked, vouched=False, **change)
        with pytest.raises(NotPermitted) as caught:
            desk.sign(request, "siro")
        assert caught.value.reason_code == "not_vouched"
        with refused(desk, "not_vouched"):
            desk.issue(request)


def test_an_officer_releases_no_column_of_another_item_even_for_the_pipelines_stolen_key(desk: Desk) -> None:
    request = desk.rewritten(desk.asked, **with_every_column(desk))
    with pytest.raises(NotPermitted) as caught:
        desk.sign(request, "siro")
    assert caught.value.reason_code == "item_not_emittable"


@pytest.mark.parametrize("how", ["refuse", "withdraw"])
def test_an_end_counts_from_its_line_in_the_log_although_its_document_is_lost(desk: Desk, how: str) -> None:
    request = desk.asked
    desk.approve(request)
    reason = "It turned out that aggregates answer the question."
    if how == "refuse":
        killed(approval, "review.refusal.after", lambda: desk.refuse(request, "siro", reason))
        (desk.case(request).folder / REFUSAL).unlink()
    else:
        killed(approval, "review.withdrawal.before", lambda: desk.withdraw(request, reason))
    with refused(desk, {"refuse": "refused", "withdraw": "withdrawn"}[how]):
        desk.issue(request)


def test_a_list_whose_run_was_killed_before_its_last_line_gets_that_line(desk: Desk) -> None:
    request = desk.asked
    desk.approve(request)
    with patch.object(issue, "_take_back", lambda _placed: None):  # a kill takes nothing back
        killed(issue, "review.record.after", lambda: desk.issue(request))
    assert len(desk.outbox) == 1
    issue.tidy(desk.workspace, desk.rules.signers, desk.audit(), desk.now)
    issue.tidy(desk.workspace, desk.rules.signers, desk.audit(), desk.now)
    record = desk.case(request).issue_record()
    assert record is not None
    (line,) = [event for event in desk.events("review.issue") if event.reason_code == "issued"]
    assert line.digests["ciphertext"] == record.document.ciphertext_sha256
    assert line.counts["listed"] == record.document.listed


def test_approvals_that_were_used_up_for_nothing_block_nothing_once_their_time_is_over(desk: Desk) -> None:
    request = desk.asked
    approvals = desk.approve(request)
    key = desk.keyring.manifest_signing_key
    ledger.spend(desk.case(request), request, approvals, signing_key=key, now=desk.now)
    delivery = request.document.cohort.deliveries[0].delivery_id
    workspace = desk.workspace
    assert held_by_cases(workspace, desk.rules, ["shmi"], desk.now)
    with pytest.raises(NotPermitted):
        refuse_open_case(workspace, desk.register, delivery, desk.now)
    later = desk.now + timedelta(days=15)
    assert not held_by_cases(workspace, desk.rules, ["shmi"], later)
    refuse_open_case(workspace, desk.register, delivery, later)


def test_an_open_case_holds_back_the_results_of_who_took_over_the_hospital(desk: Desk) -> None:
    last = date(2023, 3, 31).isoformat()
    rows = (
        "code,name,type,sites,successor,valid_from,valid_to",
        f"{HOSPITAL},One,acute,,{OTHER},,{last}",
        f"{OTHER},Two,acute,,,,",
    )
    (desk.workspace.root / PROVIDERS_FILE).write_text("\n".join(rows) + "\n")
    held = held_by_cases(desk.workspace, desk.rules, ["shmi"], desk.now)
    assert {code for _, code in held} == {HOSPITAL, OTHER}


def test_a_case_whose_folder_is_a_link_is_none(desk: Desk) -> None:
    case = desk.case(desk.asked)
    elsewhere = desk.workspace.root / "tmp" / case.case
    case.folder.rename(elsewhere)
    case.folder.symlink_to(elsewhere)
    with pytest.raises(IntegrityError):
        open_case(case.reviews, case.case)
