"""Deliveries past their landing window for tests: the small workspace of the case reviews, 40 days later."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from flows.reprocess import run_reprocessing
from infra.audit import AuditLog, Event, read
from infra.keyring import Keyring
from infra.landing import PIPELINE_KEY
from infra.night import Outcome
from infra.register import Register
from infra.reprocessing.approval import approve
from infra.reprocessing.case import ReprocessingCase
from infra.reprocessing.documents import REPROCESSING, ReprocessingRequest
from infra.reprocessing.request import Reasons, make_request
from infra.review.approval import hand_in, refuse, withdraw
from infra.review.documents import Approval, Signed, vouch
from infra.review.documents import sign as sign_document
from infra.review.permission import Rules, rules_of
from infra.workspace import Workspace
from tests.support import reviews, workspaces
from tests.support.reviews import SIDE_OF, identity, person_of, quick_night, signing_key, without_indicators
from tests.support.workspaces import EVENING, Clock

AFTER_THE_WINDOW = Clock(EVENING + timedelta(days=40))
REASONS = Reasons(
    trigger="The contract of admitted care read the sub-classification of discharge wrongly.",
    why="The published rates of that year rest on the wrong values and have to be computed again.",
    alternatives="A re-delivery was asked for; the supplier does not keep extracts of that year any more.",
)
OFFICERS = ("caldicott_guardian", "siro")


def closed_workspace(folder: Path, shared_folder: Path) -> None:
    """A copy of the small workspace in ``folder/workspace`` whose landing windows a later night has closed."""
    template = workspaces.built_once(shared_folder / "reviews", reviews.small_workspace)
    shutil.copytree(template / "workspace", folder / "workspace", symlinks=True)
    quick_night(Workspace.open(folder / "workspace"), AFTER_THE_WINDOW)


def fresh_office(shared_folder: Path, tmp_path: Path) -> Office:
    template = workspaces.built_once(
        shared_folder / "reprocessing", lambda folder: closed_workspace(folder, shared_folder)
    )
    shutil.copytree(template / "workspace", tmp_path / "workspace", symlinks=True)
    return Office(Workspace.open(tmp_path / "workspace"))


@dataclass
class Office:
    """Who asks for a delivery to be opened again, who decides, and the pipeline that does it."""

    workspace: Workspace
    clock: Clock = field(default_factory=lambda: AFTER_THE_WINDOW.later(hours=1))

    @property
    def now(self) -> datetime:
        return self.clock()

    def later(self, **step: float) -> Office:
        return replace(self, clock=self.clock.later(**step))

    @property
    def register(self) -> Register:
        return Register.load(self.workspace.zone("keys"))

    @property
    def rules(self) -> Rules:
        return rules_of(self.workspace, self.register)

    @property
    def keyring(self) -> Keyring:
        return workspaces.keyring(self.workspace)

    @property
    def delivery(self) -> str:
        """The delivery of admitted care."""
        (found,) = (path.name for path in self.workspace.zone("landing").glob("hes_apc-*"))
        assert not (self.workspace.zone("landing") / found / PIPELINE_KEY).exists(), "its window is closed"
        return found

    def audit(self, role: str) -> AuditLog:
        return AuditLog(self.workspace.zone("audit"), self.clock, person_of(role), role)

    def events(self, action: str) -> list[Event]:
        return list(read(self.workspace.zone("audit"), action=action))

    def case(self, request: Signed[ReprocessingRequest]) -> ReprocessingCase:
        return ReprocessingCase(self.workspace.zone(REPROCESSING), request.document.case)

    def ask(
        self, *deliveries: str, role: str = "data_engineer", **changes: Any
    ) -> Signed[ReprocessingRequest]:
        return make_request(
            self.workspace,
            deliveries or (self.delivery,),
            replace(REASONS, **changes),
            person=person_of(role),
            signing_key=signing_key(self.workspace, role),
            keyring=self.keyring,
            rules=self.rules,
            audit=self.audit(role),
            now=self.now,
        )

    def rewritten(
        self,
        request: Signed[ReprocessingRequest],
        delivery: dict[str, str],
        *,
        vouched: bool = True,
        **changes: Any,
    ) -> Signed[ReprocessingRequest]:
        """The request with ``changes``, and changes of its one ``delivery``, signed again by the requester: what
        somebody with the requester's key, the folder and, if ``vouched``, the pipeline's keyring could do."""
        said = request.document.model_dump()
        said["deliveries"] = [{**said["deliveries"][0], **delivery}]
        document = ReprocessingRequest.model_validate({**said, **changes})
        if vouched:
            document = vouch(document, self.keyring.manifest_signing_key)
        signed = sign_document(document, signing_key(self.workspace, "data_engineer"))
        (self.case(request).folder / "request.json").write_bytes(signed.content)
        return signed

    def sign(self, request: Signed[ReprocessingRequest], role: str) -> Signed[Approval]:
        return approve(
            request,
            SIDE_OF[role],
            person=person_of(role),
            identity=identity(self.workspace, role),
            signing_key=signing_key(self.workspace, role),
            root=self.workspace.root,
            rules=self.rules,
            now=self.now,
        )

    def approve(self, request: Signed[ReprocessingRequest], *roles: str) -> None:
        for role in roles or OFFICERS:
            content = self.sign(request, role).content
            hand_in(self.case(request), content, rules=self.rules, audit=self.audit(role), now=self.now)

    def end(self, request: Signed[ReprocessingRequest], how: str, role: str) -> None:
        """Let ``role`` ``refuse`` or ``withdraw`` it."""
        {"refuse": refuse, "withdraw": withdraw}[how](
            self.case(request),
            "It turned out that the values of that year are right.",
            person=person_of(role),
            signing_key=signing_key(self.workspace, role),
            rules=self.rules,
            audit=self.audit(role),
            now=self.now,
        )

    def run(self, request: Signed[ReprocessingRequest], person: str = "wardwatch-pipeline") -> Outcome:
        with without_indicators():
            return run_reprocessing(
                self.workspace.root, request.document.case, person, say=lambda _: None, clock=self.clock
            )
