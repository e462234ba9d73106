"""``wardwatch reprocess``: opening landed deliveries again after their window, by the two officers together."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import typer

from flows.cli.acting import STARTS_RUNS, audit_log_of
from flows.cli.context import now, print_json, teller
from flows.cli.deciding import (
    SIGNING_HELP,
    Officer,
    acting_on_case,
    add_decisions,
    deciding_key_of,
    workspace_and_rules,
)
from flows.cli.running import finish, run
from flows.orchestrator import Watcher, prepare
from infra.keyring import Keyring
from infra.reprocessing.case import ReprocessingCase
from infra.reprocessing.documents import REPROCESSING
from infra.review.case import every, opened
from infra.review.documents import Approval, Signed
from infra.review.permission import Rules
from infra.workspace import Workspace

reprocess_app = typer.Typer(
    help="Reading a delivery again after its landing window: asked for, approved by two officers, done once.",
    no_args_is_help=True,
)

ENGINEER = "data_engineer"


def _case(workspace: Workspace, case: str) -> ReprocessingCase:
    return opened(ReprocessingCase, workspace.zone(REPROCESSING), case)


@reprocess_app.command("request")
def reprocess_request(
    context: typer.Context,
    deliveries: list[str] = typer.Argument(
        ..., metavar="DELIVERY...", help="Ids as `wardwatch status` says."
    ),
    trigger: str = typer.Option(..., "--trigger", metavar="TEXT", help="What led here."),
    why: str = typer.Option(..., "--why", metavar="TEXT", help="Why it is necessary."),
    alternatives: str = typer.Option(
        ..., "--alternatives", metavar="TEXT", help="What else was considered, above all a re-delivery."
    ),
    days: int = typer.Option(None, "--days", min=1, help="Valid for so many days, at most 14."),
    signing_key: Path = typer.Option(None, "--signing-key", help=SIGNING_HELP),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Ask for deliveries to be opened again. Both officers then decide."""
    from infra.reprocessing.request import Reasons, make_request

    workspace, rules = workspace_and_rules(context, quiet=as_json)
    key, who = deciding_key_of(workspace, rules, ENGINEER, signing_key, "reprocess.request")
    signed = make_request(
        workspace,
        deliveries,
        Reasons(trigger, why, alternatives, timedelta(days=days) if days else None),
        person=who,
        signing_key=key,
        keyring=Keyring.open(workspace.zone("keys")),
        rules=rules,
        audit=audit_log_of(workspace, ENGINEER, who),
        now=now(),
    )
    asked = signed.document
    if as_json:
        print_json({"case": asked.case, "request_sha256": signed.sha256, "expires": asked.expires})
        return
    count = len(asked.deliveries)
    print(
        f"case {asked.case}: {count} deliver{'y' if count == 1 else 'ies'}, open for decision until {asked.expires}"
    )
    print(f"both officers look at it with `wardwatch reprocess show {asked.case}`")


@reprocess_app.command("show")
def reprocess_show(
    context: typer.Context,
    case: str = typer.Argument("", help="The case; left out: all of them."),
    bundle: Path = typer.Option(
        None, "--bundle", help="Write what an officer needs to decide elsewhere into this folder."
    ),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """What would be opened, why, and what else could have been done."""
    from infra.reprocessing import page
    from infra.review.bundle import make_bundle
    from infra.review.standing import state_now

    workspace, rules = workspace_and_rules(context, quiet=as_json)
    if not case:
        found = list(every(ReprocessingCase, workspace.zone(REPROCESSING)))
        rows = [page.facts(each.request(), state_now(each, rules, now())) for each in found]
        rows.sort(key=lambda row: str(row["request"]["made_at"]))
        if as_json:
            print_json(rows)
            return
        for row in rows:
            asked = row["request"]
            print(
                f"{row['case']}  {row['state']:<18} {len(asked['deliveries'])} delivery(s)  until {asked['expires']}"
            )
        if not rows:
            print("nobody has asked for a delivery to be opened again")
        return
    one = _case(workspace, case)
    state = state_now(one, rules, now())
    if as_json:
        print_json(page.facts(one.request(), state))
    else:
        print(page.page(one.request(), state))
    if bundle is not None:
        files = make_bundle(workspace, one, bundle)
        print(f"bundle of {len(files)} files: {bundle}", file=sys.stderr)


def _approval(
    workspace: Workspace, rules: Rules, case: ReprocessingCase, officer: Officer
) -> Signed[Approval]:
    from infra.reprocessing.approval import approve

    return approve(
        case.request(),
        officer.side,
        person=officer.person,
        identity=officer.identity,
        signing_key=officer.signing_key,
        root=workspace.root,
        rules=rules,
        now=now(),
    )


add_decisions(reprocess_app, _case, _approval, ENGINEER)


@reprocess_app.command("run")
def reprocess_run(
    context: typer.Context, case: str, as_json: bool = typer.Option(False, "--json", help="For a machine.")
) -> None:
    """Open the deliveries of an approved case, ingest them once more, and publish. Works once."""
    workspace, _ = workspace_and_rules(context, quiet=as_json)
    who = acting_on_case(workspace, STARTS_RUNS, "reprocess.run", case).person
    _case(workspace, case)
    say, progress = teller()
    prepare(workspace.zone("orchestrator"))
    from flows.reprocess_flow import reprocess as flow

    watching = Watcher.quiet() if as_json else Watcher(say, progress)
    outcome = run(
        workspace,
        watching,
        lambda: flow(workspace=str(workspace.root.resolve()), case=case, person=who),
    )
    finish(workspace, outcome, as_json)


def register(app: typer.Typer) -> None:
    app.add_typer(reprocess_app, name="reprocess")
