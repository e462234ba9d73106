"""``wardwatch release``: the public set of a run."""

from __future__ import annotations

import typer

from flows.cli.context import audit_log, context_of, now
from infra import publish
from infra.officers import SIGNING_FILE, Officers, load_signing_key
from infra.purposes import require_purpose
from infra.workspace import Workspace
from schemas.errors import NotPermitted, WorkspaceError

release_app = typer.Typer(help="The public set of a run.", no_args_is_help=True)

RELEASE_MANAGER = "release_manager"


def _run_id(workspace: Workspace, run: str | None) -> str:
    found = run or publish.current_run(workspace.zone("published"))
    if found is None:
        raise WorkspaceError("nothing has been published yet", next_step="run `wardwatch nightly`")
    return found


@release_app.command("show")
def release_show(context: typer.Context, run: str = typer.Option(None, "--run")) -> None:
    """What the public set of a run would hold: what is suppressed, and what needs a discussion first."""
    from infra import release

    workspace = context_of(context).open()
    preview = release.show(workspace.zone("published"), _run_id(workspace, run))
    print(f"run {preview.run_id}, data to {preview.record_date:%-d %B %Y}")
    for name, rows in preview.counts.items():
        print(f"  {name.replace('_', ' '):<20} {rows:>8,} row(s)")
    for row in preview.discussion.iter_rows(named=True):
        print(f"  to be discussed first: {row['indicator']} {row['version']}, provider {row['provider']}")
    print("nothing was made public; `wardwatch release approve --reason TEXT` does that")


@release_app.command("approve")
def release_approve(
    context: typer.Context,
    reason: str = typer.Option(..., "--reason", metavar="TEXT"),
    run: str = typer.Option(None, "--run"),
) -> None:
    """Make the disclosure-controlled set of a run public, as the release manager."""
    from infra import release

    workspace = context_of(context).open()
    manager = Officers.load(workspace.zone("keys")).officer(RELEASE_MANAGER)
    audit = audit_log(workspace, RELEASE_MANAGER)
    run_id = _run_id(workspace, run)
    if audit.person != manager.person:
        audit.record("published.release", run_id, purpose="", decision="refuse", reason_code="person")
        raise NotPermitted(
            "only the release manager of this workspace may make a set public",
            next_step="the release manager does this, with WARDWATCH_PERSON set to their staff id",
        )
    require_purpose("release", RELEASE_MANAGER, "published.release", now().date())
    key = load_signing_key(workspace.zone("officers") / RELEASE_MANAGER / SIGNING_FILE)
    with workspace.writer_lock():
        audit.record("published.release", run_id, purpose="release", reason_code="begun")
        found = release.approve(
            workspace.zone("published"),
            run_id,
            person=manager.person,
            role=RELEASE_MANAGER,
            reason=reason,
            signing_key=key,
            approved_at=now(),
        )
        audit.record(
            "published.release",
            run_id,
            purpose="release",
            reason_code="released",
            counts={"files": len(found.outputs)},
        )
    print(f"released {len(found.outputs)} files: {found.folder}")


def register(app: typer.Typer) -> None:
    app.add_typer(release_app, name="release")
