"""Case reviews for tests: a small workspace with one enrolled hospital, and the parties of a review at their desks.

Making it (keys, extracts, one night) takes ten seconds, so it is made once per session and copied per test. A test
says what is asked, who signs and when; everything it does not say is in order.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from infra.audit import AuditLog, Event, read
from infra.keyring import Keyring
from infra.officers import IDENTITY_FILE, SIGNING_FILE, load_identity, load_signing_key
from infra.register import Register, add_entry
from infra.register_entries import key_name
from infra.review import approval, break_glass, receipt
from infra.review.case import ZONE, Case
from infra.review.documents import Approval, IssueRecord, Receipt, Request, Signed, vouch
from infra.review.documents import sign as sign_document
from infra.review.hospital_list import OpenedList
from infra.review.issue import issue
from infra.review.permission import Rules, rules_of
from infra.review.request import Wish, make_request
from infra.sealing import SecretText, new_identity
from infra.signing import SigningKey
from infra.workspace import Workspace
from schemas.errors import NotPermitted
from schemas.published import empty
from schemas.review_policy import Side
from tests.support import workspaces
from tests.support.workspaces import EVENING, Clock

HOSPITAL = "Z03"  # of the synthetic hospitals the one with the most deaths in the small extract
OTHER = "Z02"
PERIOD = ("2022-04-01", "2023-03-31")
WHY = "The indicator of deaths is above its limits, and only the notes can say whether care was lacking."
WISH = Wish(
    recipient=HOSPITAL,
    predicate="deaths_in_hospital",
    parameters={"provider": HOSPITAL, "from_date": PERIOD[0], "to_date": PERIOD[1]},
    legal_gateway="s77_3_a",
    trigger="Crude death rate, above the upper limit in the year that the question is about.",
    necessity={
        "why_necessary": WHY,
        "alternatives_considered": "Aggregates by diagnosis and age were looked at and do not explain the difference.",
        "why_proportionate": "The hospital sees its own patients only, and no more of them than died in that year.",
        "objections_considered": "No objections of patients are known to us; the hospital honours those it knows.",
    },
)
SIDE_OF: dict[str, Side] = {
    "caldicott_guardian": "guardian",
    "deputy_caldicott_guardian": "guardian",
    "siro": "siro",
    "deputy_siro": "siro",
}
HOSPITAL_FOLDER = "hospital-keys"  # beside the workspace, as the hospital is another place


def small_workspace(folder: Path) -> None:
    """A workspace in ``folder/workspace`` after a night over one delivery of admitted care, and the keys of the
    hospital beside it."""
    workspace = workspaces.make_workspace(folder / "workspace")
    extracts = workspaces.make_extracts(
        folder / "extracts", workspaces.recipient(workspace), episodes=2_400, hospitals=4, years=1
    )
    workspaces.drop(workspace, extracts.named("HES_APC_202212", "CIVIL_DEATHS"))
    quick_night(workspace)
    for organisation in (HOSPITAL, OTHER):
        enrol_hospital(workspace, organisation, folder / HOSPITAL_FOLDER / organisation, EVENING)
    Desk(workspace).ask()


@contextmanager
def without_indicators() -> Iterator[None]:
    """Runs in it land and commit, and compute no indicator."""
    with (
        patch("infra.computation.load_indicators", lambda: ()),
        patch("infra.computation.build_mortality", lambda *_, **__: None),
        patch("infra.computation.build_cusum_charts", lambda *_: None),
        patch("infra.computation.build_aggregate_charts", lambda *_: None),
        patch("infra.computation._coefficients", lambda *_: empty("mortality_coefficient")),
    ):
        yield


def quick_night(workspace: Workspace, clock: Clock | None = None) -> None:
    """A night that lands and commits what is in the inbox, and computes no indicator: a review needs none."""
    with without_indicators():
        outcome = workspaces.night(workspace, clock)
    assert not outcome.problems, [problem.line() for problem in outcome.problems]


def fresh_desk(shared_folder: Path, tmp_path: Path) -> Desk:
    """Desks at a copy of the small workspace, in which one request has been made and nobody has decided yet."""
    template = workspaces.built_once(shared_folder / "reviews", small_workspace)
    shutil.copytree(template / "workspace", tmp_path / "workspace", symlinks=True)
    shutil.copytree(template / HOSPITAL_FOLDER, tmp_path / HOSPITAL_FOLDER)
    return Desk(Workspace.open(tmp_path / "workspace"))


def enrol_hospital(workspace: Workspace, organisation: str, folder: Path, at: datetime) -> None:
    """Make keys for a hospital in ``folder`` and enrol them, signed by the information asset owner and the SIRO."""
    folder.mkdir(parents=True, exist_ok=True)
    secret, public = new_identity()
    signing = SigningKey.create()
    for name, text in (
        (IDENTITY_FILE, str.__str__(secret)),
        (SIGNING_FILE, signing.secret_bytes().hex()),
    ):
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(0o600)
    enter(
        workspace,
        at,
        "hospital_enrolled",
        ("iao", "siro"),
        organisation=organisation,
        key_kind="age",
        recipient=public,
        fingerprint=key_name(public),
        signing_public=signing.public,
        declaration="Declaration 2026-01 of the Caldicott Guardian of the hospital",
    )


def enter(workspace: Workspace, at: datetime, kind: str, by: tuple[str, ...], **fields: Any) -> Register:
    """One more entry of the register, signed by the holders of the roles ``by``."""
    register = Register.load(workspace.zone("keys"))
    entry = register.draft(kind, at, **fields).sign(*(signing_key(workspace, role) for role in by))
    audit = AuditLog(workspace.zone("audit"), lambda: at, "demo-iao", "iao")
    return add_entry(workspace.zone("keys"), entry, now=at, audit=audit)


def signing_key(workspace: Workspace, role: str) -> SigningKey:
    return load_signing_key(workspace.zone("officers") / role / SIGNING_FILE)


def identity(workspace: Workspace, role: str) -> SecretText:
    return load_identity(workspace.zone("officers") / role / IDENTITY_FILE)


def person_of(role: str) -> str:
    return "demo-" + role.replace("_", "-")


@dataclass
class Desk:
    """Everybody's desk at one workspace. ``clock`` is set on by the test."""

    workspace: Workspace
    clock: Clock = field(default_factory=lambda: Clock(EVENING.replace(hour=23)))

    @property
    def now(self) -> datetime:
        return self.clock()

    def later(self, **step: float) -> Desk:
        """The same desks, so much later."""
        return replace(self, clock=self.clock.later(**step))

    @property
    def register(self) -> Register:
        return Register.load(self.workspace.zone("keys"))

    @property
    def rules(self) -> Rules:
        return rules_of(self.workspace, self.register)

    @property
    def keyring(self) -> Keyring:
        return Keyring.open(self.workspace.zone("keys"))

    @property
    def hospital_keys(self) -> Path:
        return self.workspace.root.parent / HOSPITAL_FOLDER

    def audit(self, role: str = "pipeline") -> AuditLog:
        return AuditLog(self.workspace.zone("audit"), self.clock, person_of(role), role)

    def case(self, request: Signed[Request]) -> Case:
        return Case(self.workspace.zone(ZONE), request.document.case)

    @property
    def asked(self) -> Signed[Request]:
        """The request that the small workspace comes with: the first that was made."""
        made = [event for event in self.events("review.request") if event.decision == "allow"]
        return Case(self.workspace.zone(ZONE), made[0].case).request()

    def rewritten(
        self,
        request: Signed[Request],
        *,
        role: str = "intelligence_analyst",
        vouched: bool = True,
        **changes: Any,
    ) -> Signed[Request]:
        """The request with ``changes``, signed again by the requester and put in its place: what somebody with the
        requester's key, the folder and, unless ``vouched`` is False, the pipeline's keyring could do."""
        document = Request.model_validate({**request.document.model_dump(), **changes})
        if vouched:
            document = vouch(document, self.keyring.manifest_signing_key)
        signed = sign_document(document, signing_key(self.workspace, "intelligence_analyst"))
        (self.case(request).folder / "request.json").write_bytes(signed.content)
        return signed

    # The steps

    def ask(self, *, role: str = "intelligence_analyst", **changes: Any) -> Signed[Request]:
        """A request as :data:`WISH` says, with ``changes`` of it."""
        return make_request(
            self.workspace,
            replace(WISH, **changes),
            person=person_of(role),
            signing_key=signing_key(self.workspace, role),
            keyring=self.keyring,
            rules=self.rules,
            audit=self.audit(role),
            now=self.now,
        )

    def sign(
        self,
        request: Signed[Request],
        role: str,
        *,
        side: Side | None = None,
        person: str | None = None,
        signed_by: str | None = None,
    ) -> Signed[Approval]:
        """An approval as the officer's own machine makes it; not handed in yet."""
        return approval.approve(
            request,
            side or SIDE_OF[role],
            person=person or person_of(role),
            identity=identity(self.workspace, role),
            signing_key=signing_key(self.workspace, signed_by or role),
            vault=self.workspace.zone("vault"),
            signers=self.keyring.signers("manifest_signing"),
            rules=self.rules,
            now=self.now,
        )

    def hand_in(self, request: Signed[Request], content: bytes, role: str) -> Signed[Approval]:
        return approval.hand_in(
            self.case(request), content, rules=self.rules, audit=self.audit(role), now=self.now
        )

    def approve(self, request: Signed[Request], *roles: str) -> list[Signed[Approval]]:
        """Approvals by the holders of ``roles`` (by default both officers), signed and handed in."""
        roles = roles or ("caldicott_guardian", "siro")
        return [self.hand_in(request, self.sign(request, role).content, role) for role in roles]

    def refuse(self, request: Signed[Request], role: str, reason: str) -> None:
        approval.refuse(
            self.case(request),
            reason,
            person=person_of(role),
            signing_key=signing_key(self.workspace, role),
            rules=self.rules,
            audit=self.audit(role),
            now=self.now,
        )

    def withdraw(self, request: Signed[Request], reason: str, role: str = "intelligence_analyst") -> None:
        approval.withdraw(
            self.case(request),
            reason,
            person=person_of(role),
            signing_key=signing_key(self.workspace, role),
            rules=self.rules,
            audit=self.audit(role),
            now=self.now,
        )

    def issue(self, request: Signed[Request]) -> Signed[IssueRecord]:
        return issue(
            self.workspace,
            request.document.case,
            keyring=self.keyring,
            register=self.register,
            audit=self.audit(),
            clock=self.clock,
        )

    def open(self, record: Signed[IssueRecord], organisation: str = HOSPITAL) -> OpenedList:
        """The hospital opens what lies in the outbox."""
        return receipt.open_list(self.sealed(record), self.hospital_identity(organisation))

    def sealed(self, record: Signed[IssueRecord]) -> bytes:
        return (self.workspace.zone("outbox") / record.document.file).read_bytes()

    def hospital_identity(self, organisation: str = HOSPITAL) -> SecretText:
        return load_identity(self.hospital_keys / organisation / IDENTITY_FILE)

    def hospital_signing_key(self, organisation: str = HOSPITAL) -> SigningKey:
        return load_signing_key(self.hospital_keys / organisation / SIGNING_FILE)

    def receipt(self, record: Signed[IssueRecord]) -> Signed[Receipt]:
        return receipt.make_receipt(
            self.sealed(record), self.open(record), self.hospital_signing_key(), self.now
        )

    def look_back(self, request: Signed[Request], finding: str, role: str = "caldicott_guardian") -> None:
        break_glass.look_back(
            self.case(request),
            finding,
            person=person_of(role),
            signing_key=signing_key(self.workspace, role),
            rules=self.rules,
            audit=self.audit(role),
            now=self.now,
        )

    # What is left

    @property
    def outbox(self) -> list[str]:
        return sorted(path.name for path in self.workspace.zone("outbox").iterdir())

    def events(self, action: str | None = "review", **conditions: Any) -> list[Event]:
        return list(read(self.workspace.zone("audit"), action=action, **conditions))


@contextmanager
def refused(desk: Desk, reason_code: str) -> Iterator[None]:
    """What is inside is refused for this reason, the audit log says so, and nothing new is in the outbox."""
    before, outbox = len(desk.events()), desk.outbox
    with pytest.raises(NotPermitted) as caught:
        yield
    reason = caught.value.reason_code
    assert reason == reason_code, f"refused for {reason}, expected {reason_code}"
    said = [event.reason_code for event in desk.events()[before:] if event.decision == "refuse"]
    assert said == [reason_code], f"the audit log says once why it was refused: {said}"
    assert desk.outbox == outbox, "nothing new is in the outbox after a refusal"
