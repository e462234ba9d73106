"""The nightly run as a Prefect flow; the entry point of its deployment."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.nightly import run_night
from flows.orchestrator import Watcher, harden, leave_summary, watcher
from flows.steps import guarded, prefect_step


@flow(name="nightly", persist_result=False, log_prints=False)
def nightly(workspace: str) -> None:
    """Land, ingest, compute, publish and account for whatever is new in ``workspace``.

    A refused delivery does not stop the others; the run fails at its end with the first problem.
    """
    guarded(lambda: harden(workspace))
    watching: Watcher = watcher()
    outcome = guarded(
        lambda: run_night(Path(workspace), step=prefect_step, say=watching.say, progress=watching.progress)
    )
    leave_summary(outcome)
    watching.ended(outcome)
