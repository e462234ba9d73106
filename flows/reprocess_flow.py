"""Reprocessing as a Prefect flow."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.orchestrator import Watcher, harden, leave_summary, watcher
from flows.reprocess import run_reprocessing
from flows.steps import guarded, prefect_step


@flow(name="reprocess", persist_result=False, log_prints=False)
def reprocess(workspace: str, case: str, person: str) -> None:
    """Carry out a request to open deliveries again that both officers approved."""
    guarded(lambda: harden(workspace))
    watching: Watcher = watcher()
    outcome = guarded(
        lambda: run_reprocessing(
            Path(workspace),
            case,
            person,
            step=prefect_step,
            say=watching.say,
            progress=watching.progress,
        )
    )
    leave_summary(outcome)
    watching.ended(outcome)
