"""Reprocessing: ingest once more deliveries past their window, which two officers have opened for this run.

What a backfill does, for exactly the deliveries of one approved request. The approvals are used up before the first
byte is read; what a killed run left undone needs new ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from flows.nightly import Progress, Say, finish, now, tell_nothing
from flows.steps import Step, guarded, plain_step
from infra.night import Outcome, begin
from infra.reprocessing.case import ReprocessingCase
from infra.reprocessing.documents import REPROCESSING
from infra.reprocessing.reopening import reopen
from infra.review.case import opened
from infra.workspace import Workspace

ROLE = "pipeline"


def run_reprocessing(
    root: Path,
    case: str,
    person: str,
    *,
    step: Step = plain_step,
    say: Say = print,
    progress: Progress = tell_nothing,
    clock: Callable[[], datetime] = now,
) -> Outcome:
    """Carry out the request ``case``. Raises what :func:`infra.reprocessing.reopening.reopen` raises."""
    workspace = Workspace.open(root)
    found = opened(ReprocessingCase, workspace.zone(REPROCESSING), case)
    with begin(
        workspace, purpose=REPROCESSING, person=person, role=ROLE, clock=clock, say=say, progress=progress
    ) as night:
        with night.writing():
            step("sweep", night.sweep)
            # No step of the orchestrator: it is not tried again, and its result is kept nowhere.
            keys = guarded(
                lambda: reopen(
                    workspace,
                    found,
                    keyring=night.keyring,
                    register=night.register,
                    audit=night.audit,
                    clock=clock,
                )
            )
            night.landing = replace(night.landing, reopened=keys)
            step("ingest again", lambda: night.reprocess(keys))
            night.landing = replace(night.landing, reopened={})
            keys.clear()
        night.outcome.reason = f"reprocessing {found.case}"
        finish(night, step)
        return night.outcome
