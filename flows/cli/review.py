"""``wardwatch review``: the exceptional case review, from the request to the hospital's receipt."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import typer

from flows.cli.acting import STARTS_RUNS, acting_or_pipeline, audit_log_of
from flows.cli.context import audit_log, is_named, now, print_json
from flows.cli.deciding import (
    SIDE_OF,
    SIGNING_HELP,
    Officer,
    acting_on_case,
    add_decisions,
    deciding_key_of,
    read_file,
    workspace_and_rules,
)
from infra.files import write_atomic
from infra.keyring import Keyring
from infra.officers import load_identity, load_signing_key
from infra.review.case import ZONE, Case, cases, open_case
from infra.review.documents import Approval, Signed
from infra.review.permission import Rules
from infra.workspace import Workspace
from schemas.errors import UsageError

review_app = typer.Typer(
    help="The exceptional case review: a list of its own numbers that one hospital alone can read.",
    no_args_is_help=True,
)

ANALYST, GUARDIAN, HOSPITAL = "intelligence_analyst", "caldicott_guardian", "hospital"
RECEIVES = (ANALYST, *STARTS_RUNS, *SIDE_OF)
"""Who takes a receipt in: who asked, who issues, who decided."""


def _case(workspace: Workspace, case: str) -> Case:
    return open_case(workspace.zone(ZONE), case)


# Asking ----------------------------------------------------------------------------------------------------


@review_app.command("request")
def review_request(
    context: typer.Context,
    hospital: str = typer.Option(..., "--hospital", metavar="CODE", help="Organisation that gets the list."),
    cohort: str = typer.Option(..., "--cohort", help="A question of sql/cohorts."),
    since: str = typer.Option(..., "--from", metavar="YYYY-MM-DD"),
    until: str = typer.Option(..., "--to", metavar="YYYY-MM-DD"),
    diagnosis: str = typer.Option("", "--diagnosis", help="ICD-10 category, for a question that takes one."),
    gateway: str = typer.Option(..., "--gateway", help="Legal gateway: s77_2_f, s77_2_g or s77_3_a."),
    trigger: str = typer.Option(
        ..., "--trigger", metavar="TEXT", help="The indicator and alert that led here."
    ),
    why: str = typer.Option(..., "--why", metavar="TEXT", help="Step 1: why it is necessary."),
    alternatives: str = typer.Option(
        ..., "--alternatives", metavar="TEXT", help="Step 1: what else was considered."
    ),
    proportionate: str = typer.Option(
        ..., "--proportionate", metavar="TEXT", help="Step 2: why it is proportionate."
    ),
    objections: str = typer.Option(
        ..., "--objections", metavar="TEXT", help="Step 2: objections considered."
    ),
    max_rows: int = typer.Option(None, "--max-rows", min=1),
    days: int = typer.Option(None, "--days", min=1, help="Valid for so many days, at most 14."),
    acknowledge_few: bool = typer.Option(False, "--acknowledge-few", help="A list of one is meant."),
    acknowledge_many: bool = typer.Option(
        False, "--acknowledge-many", help="More than the usual cap is meant."
    ),
    emergency: bool = typer.Option(
        False, "--emergency", help="Break-glass: SIRO and deputy Guardian, four hours."
    ),
    signing_key: Path = typer.Option(None, "--signing-key", help=SIGNING_HELP),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Ask for the hospital numbers of a cohort, with the necessity test. Both officers then decide."""
    from infra.review.request import Wish, make_request

    workspace, rules = workspace_and_rules(context, quiet=as_json)
    key, person = deciding_key_of(workspace, rules, ANALYST, signing_key, "review.request")
    parameters = {"provider": hospital, "from_date": since, "to_date": until}
    if diagnosis:
        parameters["diagnosis"] = diagnosis
    wish = Wish(
        recipient=hospital,
        predicate=cohort,
        parameters=parameters,
        legal_gateway=gateway,
        trigger=trigger,
        necessity={
            "why_necessary": why,
            "alternatives_considered": alternatives,
            "why_proportionate": proportionate,
            "objections_considered": objections,
        },
        max_rows=max_rows,
        acknowledge_few=acknowledge_few,
        acknowledge_many=acknowledge_many,
        emergency=emergency,
        valid_for=timedelta(days=days) if days else None,
    )
    signed = make_request(
        workspace,
        wish,
        person=person,
        signing_key=key,
        keyring=Keyring.open(workspace.zone("keys")),
        rules=rules,
        audit=audit_log_of(workspace, ANALYST, person),
        now=now(),
    )
    asked = signed.document
    if as_json:
        print_json({"case": asked.case, "request_sha256": signed.sha256, "patients": asked.cohort.patients})
        return
    print(f"case {asked.case}: {asked.cohort.patients} patients, open for decision until {asked.expires}")
    print(f"both officers look at it with `wardwatch review show {asked.case}`")


@review_app.command("show")
def review_show(
    context: typer.Context,
    case: str = typer.Argument("", help="The case; left out: all of them."),
    bundle: Path = typer.Option(
        None, "--bundle", help="Write what an officer needs to decide elsewhere into this folder."
    ),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """What would be released, to whom, of how many, why, and what else could have been done."""
    from infra.review import page
    from infra.review.bundle import make_bundle
    from infra.review.standing import state_now

    workspace, rules = workspace_and_rules(context, quiet=as_json)
    if not case:
        _show_all(workspace, rules, as_json)
        return
    found = _case(workspace, case)
    request = found.request()
    state = state_now(found, rules, now())
    if as_json:
        print_json(page.facts(request, rules, state))
    else:
        print(page.page(request, rules, state, now()))
    if bundle is not None:
        files = make_bundle(workspace, found, bundle)
        print(f"bundle of {len(files)} files: {bundle}", file=sys.stderr)


def _show_all(workspace: Workspace, rules: Rules, as_json: bool) -> None:
    from infra.review import page
    from infra.review.standing import state_now

    rows = [
        page.facts(case.request(), rules, state_now(case, rules, now()))
        for case in cases(workspace.zone(ZONE))
    ]
    if as_json:
        print_json(rows)
        return
    for row in sorted(rows, key=lambda each: each["request"]["made_at"]):
        asked = row["request"]
        count = f"{asked['cohort']['patients']} patients"
        print(
            f"{row['case']}  {row['state']:<18} {asked['recipient']:<6} {count:<14} until {asked['expires']}"
        )
    if not rows:
        print("there has been no case review")


# Deciding --------------------------------------------------------------------------------------------------


def _approval(workspace: Workspace, rules: Rules, case: Case, officer: Officer) -> Signed[Approval]:
    from infra.review.approval import approve

    return approve(
        case.request(),
        officer.side,
        person=officer.person,
        identity=officer.identity,
        signing_key=officer.signing_key,
        vault=workspace.zone("vault"),
        signers=rules.signers,
        rules=rules,
        now=now(),
    )


add_decisions(review_app, _case, _approval, ANALYST)


# Issuing ---------------------------------------------------------------------------------------------------


@review_app.command("issue")
def review_issue(context: typer.Context, case: str, as_json: bool = typer.Option(False, "--json")) -> None:
    """Make the sealed list of a case that both officers approved. Works once."""
    from infra.review.issue import issue
    from infra.review.receipt import raise_overdue

    workspace, rules = workspace_and_rules(context, quiet=as_json)
    audit = acting_on_case(workspace, STARTS_RUNS, "review.issue", case)
    record = issue(
        workspace,
        case,
        keyring=Keyring.open(workspace.zone("keys")),
        register=rules.register,
        audit=audit,
        clock=now,
    ).document
    raise_overdue(workspace.zone(ZONE), workspace.zone("incidents"), rules, audit=audit, now=now())
    if as_json:
        print_json(record.model_dump(mode="json"))
        return
    left_out = sum(record.left_out.values())
    print(f"{record.listed} numbers sealed to {record.recipient}: {workspace.zone('outbox') / record.file}")
    if left_out:
        reasons = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in record.left_out.items())
        print(f"{left_out} records left out: {reasons}")


@review_app.command("look-back")
def review_look_back(
    context: typer.Context,
    case: str,
    finding: str = typer.Option(..., "--finding", metavar="TEXT"),
    signing_key: Path = typer.Option(None, "--signing-key", help=SIGNING_HELP),
) -> None:
    """As the Caldicott Guardian, review a use of the emergency procedure; due within two working days."""
    from infra.review.break_glass import look_back

    workspace, rules = workspace_and_rules(context)
    key, person = deciding_key_of(workspace, rules, GUARDIAN, signing_key, "review.look_back", case)
    look_back(
        _case(workspace, case),
        finding,
        person=person,
        signing_key=key,
        rules=rules,
        audit=audit_log_of(workspace, GUARDIAN, person),
        now=now(),
    )
    print(f"reviewed: case {case}")


# At the hospital -------------------------------------------------------------------------------------------


@review_app.command("open")
def review_open(
    file: Path,
    key: Path = typer.Option(..., "--key", help="The hospital's private age key."),
    out: Path = typer.Option(None, "--out", help="Write the numbers here; left out: to standard output."),
    receipt: Path = typer.Option(None, "--receipt", help="Write a signed receipt here, to be sent back."),
    signing_key: Path = typer.Option(None, "--signing-key", help="The hospital's private signing key."),
) -> None:
    """At the hospital: open a list with the hospital's own key. `age -d -i KEY FILE` does the same."""
    from infra.review.receipt import make_receipt, open_list, refuse_place

    sealed = read_file(file)
    if receipt is not None and signing_key is None:
        raise UsageError("a receipt is signed", next_step="give --signing-key")
    if out is not None:
        refuse_place(out)
    opened = open_list(sealed, load_identity(key))
    text = "".join(f"{number}\n" for number in opened.numbers)
    if out is not None:
        write_atomic(out, text.encode())
    else:
        for line in opened.heading:
            print(line, file=sys.stderr)
        sys.stdout.write(text)
    if receipt is not None:
        signed = make_receipt(sealed, opened, load_signing_key(signing_key), now())
        write_atomic(receipt, signed.content)
        print(f"receipt written: {receipt}", file=sys.stderr)


@review_app.command("receipt")
def review_receipt(
    context: typer.Context,
    case: str = typer.Argument("", help="The case; left out: list the overdue receipts."),
    file: Path = typer.Option(None, "--file", help="The receipt as the hospital sent it."),
) -> None:
    """Take in a hospital's signed receipt, or enter an incident for each that is overdue and tidy up ended cases."""
    from infra.review.issue import tidy
    from infra.review.receipt import overdue, raise_overdue, take_receipt

    workspace, rules = workspace_and_rules(context)
    reviews = workspace.zone(ZONE)
    if case:
        if file is None:
            raise UsageError("name the receipt", next_step="give --file")
        audit = (
            acting_on_case(workspace, RECEIVES, "review.receipt", case)
            if is_named()
            else audit_log(workspace, HOSPITAL)
        )
        took = take_receipt(_case(workspace, case), read_file(file), rules=rules, audit=audit, now=now())
        print(f"{took.document.organisation} has received the list of case {case}")
        return
    audit = acting_or_pipeline(workspace, RECEIVES, "review.receipt", "overdue")
    raise_overdue(reviews, workspace.zone("incidents"), rules, audit=audit, now=now())
    tidy(workspace, rules.signers, audit, now())
    late = overdue(reviews, rules, now())
    for each in late:
        print(f"overdue: case {each.case}")
    if not late:
        print("no receipt is overdue")


def register(app: typer.Typer) -> None:
    app.add_typer(review_app, name="review")
