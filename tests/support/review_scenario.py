"""A case review as a piece of work that a kill may interrupt, for the kill test.

People go on where they find their cases: what is open is decided, what is approved is issued, what was used up and
came to nothing is asked for anew. So the work ends when one request was refused, one withdrawn, and an emergency list
(which does all that an ordinary one does, and more) was received and looked back upon; wherever it was killed,
the hospital then holds the same numbers.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from infra.lake import reading
from infra.landing import PIPELINE_KEY
from infra.reprocessing.case import ReprocessingCase
from infra.reprocessing.documents import REPROCESSING
from infra.reprocessing.reopening import reopen
from infra.review import receipt
from infra.review.break_glass import is_reviewed
from infra.review.case import REVIEW_KEY, ZONE, Case, cases, every
from infra.review.documents import Request, Signed
from infra.review.standing import state_now
from infra.workspace import Workspace
from tests.support import reviews
from tests.support.reprocessing import Office
from tests.support.reviews import Desk
from tests.support.workspaces import EVENING, Clock, Extracts, keyring

# What tells the kinds of request apart.
REFUSED, WITHDRAWN, EMERGENCY = 21, 22, 23
YEAR = ("2020-04-01", "2021-03-31")
# What a killed run may leave behind of a request that was asked for anew.
_ON_THE_WAY = {"requested", "approved", "spent", "expired"}
_NOTE = "A reason without any detail, for the kill test of the case review."


class _DeskInside(Desk):
    """The hospital's keys lie in the workspace, for the workspace is what is copied."""

    @property
    def hospital_keys(self) -> Any:
        return self.workspace.root / "officers" / reviews.HOSPITAL_FOLDER


def hospital_with_most_deaths(workspace: Workspace) -> str:
    with reading(
        workspace.zone("lake"),
        keyring(workspace).lake_metadata_key,
        memory_limit="400MB",
        temp_folder=workspace.zone("tmp"),
    ) as connection:
        row = connection.execute(
            "select procodet from lake.hes_apc where dismeth = '4' and disdate between ?::date and ?::date "
            "group by procodet order by count(distinct person_token) desc, procodet limit 1",
            list(YEAR),
        ).fetchone()
    assert row is not None, "somebody died in a hospital of the extracts"
    return str(row[0])


def prepare(workspace: Workspace, _plain: Extracts) -> None:
    code = hospital_with_most_deaths(workspace)
    folder = _DeskInside(workspace).hospital_keys / code
    reviews.enrol_hospital(workspace, code, folder, EVENING)


def work(workspace: Workspace, moment: datetime) -> None:
    desk = _DeskInside(workspace, Clock(moment))
    _decided(desk, REFUSED)
    _decided(desk, WITHDRAWN)
    _received(desk, EMERGENCY)
    _opened_again(Office(workspace, Clock(moment)))


def _find(desk: Desk, kind: int) -> list[tuple[Case, Signed[Request], str]]:
    return [
        (case, case.request(), state_now(case, desk.rules, desk.now))
        for case in cases(desk.workspace.zone(ZONE))
        if case.request().document.max_rows == kind
    ]


def _open_request(desk: Desk, kind: int) -> Signed[Request]:
    """The open request of this kind, made if there is none."""
    for _, request, state in _find(desk, kind):
        if state in ("requested", "approved", "issued"):
            return request
    (code,) = [path.name for path in desk.hospital_keys.iterdir()]
    return desk.ask(
        recipient=code,
        parameters={"provider": code, "from_date": YEAR[0], "to_date": YEAR[1]},
        max_rows=kind,
        acknowledge_few=True,
        emergency=kind == EMERGENCY,
    )


def _decided(desk: Desk, kind: int) -> None:
    ended = "refused" if kind == REFUSED else "withdrawn"
    if any(state == ended for _, _, state in _find(desk, kind)):
        return
    request = _open_request(desk, kind)
    if kind == REFUSED:
        desk.refuse(request, "siro", _NOTE)
    else:
        desk.withdraw(request, _NOTE)


def _received(desk: Desk, kind: int) -> None:
    if not any(state == "received" for _, _, state in _find(desk, kind)):
        request = _open_request(desk, kind)
        case = desk.case(request)
        signed = {approval.document.role for approval in case.approvals()}
        for role in sorted({"deputy_caldicott_guardian", "siro"} - signed):
            desk.approve(request, role)
        record = case.issue_record() or desk.issue(request)
        code = request.document.recipient
        content = receipt.make_receipt(
            desk.sealed(record), desk.open(record, code), desk.hospital_signing_key(code), desk.now
        ).content
        receipt.take_receipt(case, content, rules=desk.rules, audit=desk.audit(), now=desk.now)
    for case, request, _ in _find(desk, kind):
        if case.spending(request.sha256) is not None and not is_reviewed(case, desk.rules):
            desk.look_back(request, _NOTE)


def _opened_again(office: Office) -> None:
    """A delivery past its window is asked for, approved and opened once."""
    found = [(case, case.request()) for case in every(ReprocessingCase, office.workspace.zone(REPROCESSING))]
    if any(case.spending(request.sha256) is not None for case, request in found):
        return
    delivery = min(path.name for path in office.workspace.zone("landing").glob("civil_deaths-*"))
    (office.workspace.zone("landing") / delivery / PIPELINE_KEY).unlink(missing_ok=True)
    request = found[0][1] if found else office.ask(delivery)
    case = office.case(request)
    signed = {approval.document.role for approval in case.approvals()}
    for role in sorted({"caldicott_guardian", "siro"} - signed):
        office.approve(request, role)
    opened = reopen(
        office.workspace,
        case,
        keyring=office.keyring,
        register=office.register,
        audit=office.audit("pipeline"),
        clock=office.clock,
    )
    assert set(opened) == {delivery}


def result(workspace: Workspace) -> dict[str, str]:
    """Kind -> digest of the numbers that the hospital received, or the state in which it ended."""
    desk = _DeskInside(workspace, Clock(EVENING))
    found = {}
    for kind in (REFUSED, WITHDRAWN, EMERGENCY):
        states = sorted({state for *_, state in _find(desk, kind)} - _ON_THE_WAY)
        found[f"states {kind}"] = " ".join(states)
    for case in cases(workspace.zone(ZONE)):
        record = case.issue_record()
        if record is not None and case.receipt() is not None:
            numbers = sorted(desk.open(record, record.document.recipient).numbers)
            digest = hashlib.sha256("\n".join(numbers).encode()).hexdigest()
            found[f"received {case.request().document.max_rows}"] = digest
    vouched = {
        record.document.file for case in cases(workspace.zone(ZONE)) if (record := case.issue_record())
    }
    found["opened again"] = str(
        any(
            case.spending(case.request().sha256) is not None and not (case.folder / REVIEW_KEY).exists()
            for case in every(ReprocessingCase, workspace.zone(REPROCESSING))
        )
    )
    found["outbox"] = str(set(desk.outbox) == vouched)
    return found
