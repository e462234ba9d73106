"""``wardwatch release``: the public set of a run."""

from __future__ import annotations

from pathlib import Path

import typer

from flows.cli.acting import audit_log_of
from flows.cli.context import now, person
from flows.cli.deciding import key_file, workspace_and_rules
from infra import publish
from infra.audit import AuditLog
from infra.held_back import held_by_cases
from infra.officers import SIGNING_FILE, load_signing_key
from infra.purposes import require_purpose
from infra.release import Held
from infra.review.permission import Rules
from infra.signing import SigningKey
from infra.workspace import Workspace
from schemas.errors import NotPermitted, WorkspaceError

release_app = typer.Typer(help="The public set of a run.", no_args_is_help=True)

RELEASE_MANAGER = "release_manager"
ACTION = "published.release"
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


def _held(workspace: Workspace, rules: Rules, run_id: str, closed: list[str] | None) -> Held:
    """What open cases hold back of the run."""
    folder = workspace.zone("published") / run_id
    names = publish.read_tables(folder, ("indicator",))["indicator"]["indicator"].to_list()
    return held_by_cases(workspace, rules, names, now(), closed or ())


@release_app.command("show")
def release_show(
    context: typer.Context, run: str = typer.Option(None, "--run"), closed: list[str] = CLOSED
) -> None:
    """What the public set of a run would hold: what changed, what is suppressed, what is held back and why."""
    from infra import release

    workspace, rules = workspace_and_rules(context)
    run_id = _run_id(workspace, run)
    held = _held(workspace, rules, run_id, closed)
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
    """Make the disclosure-controlled set of a run public, as the release manager whose signing key this is."""
    from infra import release

    workspace, rules = workspace_and_rules(context)
    run_id = _run_id(workspace, run)
    signing_key, audit = _signatory(workspace, rules, run_id, key)
    held = _held(workspace, rules, run_id, closed)
    with (
        workspace.writer_lock(),
        audit.action(ACTION, run_id, purpose="release") as outcome,
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
        outcome.digests["candidate"] = str(found.approval["candidate_digest"])
    print(f"released {len(found.outputs)} files: {found.folder}")


def _signatory(
    workspace: Workspace, rules: Rules, run_id: str, given: Path | None
) -> tuple[SigningKey, AuditLog]:
    """The signing key, and the log in the name of the release manager whose key the register says it is.

    Raises :class:`NotPermitted` for a key that nobody enrolled or that is no longer in force, and for a person who
    may not release, after the refusal was recorded: in the name of the key's holder where there is one.
    """
    moment = now()
    signing_key = load_signing_key(key_file(workspace, rules, RELEASE_MANAGER, given, SIGNING_FILE))
    audit = audit_log_of(workspace, RELEASE_MANAGER, person("unknown"))
    try:
        signer = rules.register.signer(signing_key.key_id, moment).person
        audit = audit_log_of(workspace, RELEASE_MANAGER, signer)
        rules.register.require_role(signer, [RELEASE_MANAGER], moment)
        require_purpose("release", RELEASE_MANAGER, ACTION, moment.date())
    except NotPermitted as refusal:
        audit.record(ACTION, run_id, purpose="", decision="refuse", reason_code=refusal.reason_code)
        raise
    return signing_key, audit


def register(app: typer.Typer) -> None:
    app.add_typer(release_app, name="release")
