"""``wardwatch release``: the public set of a run."""

from __future__ import annotations

from pathlib import Path

import typer

from flows.cli.acting import acting_as
from flows.cli.context import context_of, now
from infra import publish
from infra.held_back import held_by_cases
from infra.officers import SIGNING_FILE, load_signing_key
from infra.purposes import require_purpose
from infra.register import Register
from infra.release import Held
from infra.review.permission import rules_of
from infra.workspace import Workspace
from schemas.errors import NotPermitted, WorkspaceError

release_app = typer.Typer(help="The public set of a run.", no_args_is_help=True)

RELEASE_MANAGER = "release_manager"
WORDS = {
    "shown": "shown",
    "suppressed": "suppressed",
    "needs_discussion": "left out: a service of very few people",
    "held": "held back by open cases",
    "changed_little": "suppressed: changed a little since an earlier release",
}


def _run_id(workspace: Workspace, run: str | None) -> str:
    found = run or publish.current_run(workspace.zone("published"))
    if found is None:
        raise WorkspaceError("nothing has been published yet", next_step="run `wardwatch nightly`")
    return found


CLOSED = typer.Option(None, "--closed", metavar="CASE", help="A received case that is over; may be repeated.")


def _held(workspace: Workspace, run_id: str, closed: list[str] | None) -> Held:
    """What open cases hold back of the run."""
    folder = workspace.zone("published") / run_id
    names = publish.read_tables(folder, ("indicator",))["indicator"]["indicator"].to_list()
    rules = rules_of(workspace, Register.load(workspace.zone("keys")))
    return held_by_cases(workspace, rules, names, now(), closed or ())


@release_app.command("show")
def release_show(
    context: typer.Context, run: str = typer.Option(None, "--run"), closed: list[str] = CLOSED
) -> None:
    """What the public set of a run would hold: what changed, what is suppressed, what is held back and why."""
    from infra import release

    workspace = context_of(context).open()
    run_id = _run_id(workspace, run)
    held = _held(workspace, run_id, closed)
    preview = release.show(workspace.zone("published"), run_id, held)
    print(f"run {preview.run_id}, data to {preview.record_date:%-d %B %Y}")
    for name, count in preview.counts.items():
        print(f"  {WORDS[name]:<52} {count:>8,} row(s)")
    for indicator, provider in sorted(held):
        print(f"  an open case holds back: {indicator}, provider {provider}")
    for (indicator, version), rows in preview.discussion.group_by(
        "indicator", "version", maintain_order=True
    ):
        providers = ", ".join(rows["provider"].to_list())
        print(f"  to be discussed with those concerned first: {indicator} {version}, {providers}")
    print("nothing was made public; `wardwatch release approve --reason TEXT` does that")


@release_app.command("approve")
def release_approve(
    context: typer.Context,
    reason: str = typer.Option(..., "--reason", metavar="TEXT"),
    run: str = typer.Option(None, "--run"),
    closed: list[str] = CLOSED,
    key: Path = typer.Option(
        None, "--key", help="The release manager's signing key; in a demonstration not needed."
    ),
) -> None:
    """Make the disclosure-controlled set of a run public, as the release manager."""
    from infra import release

    workspace = context_of(context).open()
    run_id = _run_id(workspace, run)
    audit = acting_as(workspace, [RELEASE_MANAGER], "published.release", run_id)
    try:
        require_purpose("release", RELEASE_MANAGER, "published.release", now().date())
    except NotPermitted as refusal:
        audit.record(
            "published.release", run_id, purpose="", decision="refuse", reason_code=refusal.reason_code
        )
        raise
    held = _held(workspace, run_id, closed)
    signing_key = load_signing_key(key or workspace.zone("officers") / RELEASE_MANAGER / SIGNING_FILE)
    with (
        workspace.writer_lock(),
        audit.action("published.release", run_id, purpose="release") as outcome,
    ):
        found = release.approve(
            workspace.zone("published"),
            run_id,
            person=audit.person,
            role=RELEASE_MANAGER,
            reason=reason,
            signing_key=signing_key,
            approved_at=now(),
            held=held,
        )
        outcome.reason_code = "released"
        outcome.counts.update(files=len(found.outputs), held=len(held))
    print(f"released {len(found.outputs)} files: {found.folder}")


def register(app: typer.Typer) -> None:
    app.add_typer(release_app, name="release")
