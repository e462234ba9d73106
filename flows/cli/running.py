"""``wardwatch nightly`` and ``wardwatch backfill``: runs, each as a Prefect flow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from flows.backfill import month
from flows.cli.acting import START, STARTS_RUNS, acting_as, starting
from flows.cli.context import context_of, print_json, teller
from flows.orchestrator import RunHadProblems, Watcher, prepare, watched_by
from infra import publish
from infra.night import Outcome
from infra.workspace import Workspace
from schemas.errors import WardwatchError
from transforms.identifiers import refuse_identifiers


def run(workspace: Workspace, watching: Watcher, start: Callable[[], Any]) -> Outcome:
    """Run a flow in this process, with Prefect's embedded server, and give its outcome."""
    with watched_by(watching):
        try:
            start()
        except RunHadProblems:
            pass
        except WardwatchError:
            raise
    if watching.outcome is None:
        raise WardwatchError("the flow ended without an outcome", next_step="look at `wardwatch status`")
    return watching.outcome


def finish(workspace: Workspace, outcome: Outcome, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "run_id": outcome.run_id,
                "nothing_new": outcome.nothing_new,
                "landed": outcome.landed,
                "ingested": outcome.ingested,
                "superseded": outcome.superseded,
                "problems": [problem.line() for problem in outcome.problems],
            }
        )
    else:
        _tell(workspace, outcome)
    if outcome.problems:
        raise typer.Exit(outcome.exit_code)


def _tell(workspace: Workspace, outcome: Outcome) -> None:
    if outcome.problems:
        print(f"\n{len(outcome.problems)} delivery problem(s):")
        for problem in outcome.problems:
            print(f"  {problem.line()}")
    if outcome.run_id:
        folder = workspace.zone("published") / "current"
        print(f"\npublished internally as run {outcome.run_id}:")
        print(f"  database  {folder / publish.DATABASE}")
        for path in sorted(folder.glob("*.html")):
            print(f"  report    {path}")
        print("the public set waits for `wardwatch release approve`")


def nightly(
    context: typer.Context, as_json: bool = typer.Option(False, "--json", help="For a machine.")
) -> None:
    """Everything for whatever is new: land, check, split, compute, publish."""
    workspace = context_of(context).open(quiet=as_json)
    starting(workspace, "nightly")
    say, progress = teller()
    prepare(workspace.zone("orchestrator"))
    say("starting the orchestrator") if not as_json else None
    from flows.nightly_flow import nightly as flow

    watching = Watcher.quiet() if as_json else Watcher(say, progress)
    outcome = run(workspace, watching, lambda: flow(workspace=str(workspace.root.resolve())))
    finish(workspace, outcome, as_json)


def backfill(
    context: typer.Context,
    dataset: str = typer.Argument(...),
    first: str = typer.Option(..., "--from", metavar="YYYYMM"),
    last: str = typer.Option(..., "--to", metavar="YYYYMM"),
    reason: str = typer.Option(..., "--reason", metavar="TEXT", help="Why; scanned for identifiers."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would be ingested again."),
) -> None:
    """Ingest deliveries in use once more, after a corrected contract or code, and publish."""
    refuse_identifiers(reason, "the reason")
    month(first, end=False), month(last, end=True)
    workspace = context_of(context).open()
    engineer = acting_as(workspace, STARTS_RUNS, START, "backfill").person
    say, progress = teller()
    prepare(workspace.zone("orchestrator"))
    from flows.backfill_flow import backfill as flow

    watching = Watcher(say=say, progress=progress)
    outcome = run(
        workspace,
        watching,
        lambda: flow(
            workspace=str(Path(workspace.root).resolve()),
            dataset=dataset,
            first=first,
            last=last,
            reason=reason,
            person=engineer,
            dry_run=dry_run,
        ),
    )
    finish(workspace, outcome, as_json=False)


def register(app: typer.Typer) -> None:
    app.command("nightly")(nightly)
    app.command("backfill")(backfill)
