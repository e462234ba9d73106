"""The backfill as a Prefect flow; the entry point of its deployment."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.backfill import Request, month, run_backfill
from flows.orchestrator import Watcher, harden, leave_summary, watcher
from flows.steps import guarded, prefect_step


@flow(name="backfill", persist_result=False, log_prints=False)
def backfill(
    workspace: str, dataset: str, first: str, last: str, reason: str, person: str, dry_run: bool = False
) -> None:
    """Ingest again the deliveries of ``dataset`` from month ``first`` to ``last`` (YYYYMM) and publish.

    Parameters are stored by the orchestrator in clear; a reason with anything like an identifier is refused,
    and the command line refuses it before it gets here.
    """
    guarded(lambda: harden(workspace))
    watching: Watcher = watcher()
    outcome = guarded(
        lambda: run_backfill(
            Path(workspace),
            Request(dataset, month(first, end=False), month(last, end=True), reason, person, dry_run),
            step=prefect_step,
            say=watching.say,
            progress=watching.progress,
        )
    )
    leave_summary(outcome)
    watching.ended(outcome)
