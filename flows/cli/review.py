"""``wardwatch review``: the exceptional case review, from the request to the hospital's receipt."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import typer

from flows.cli.context import audit_log, context_of, now, print_json
from infra.audit import AuditLog
from infra.files import write_atomic
from infra.keyring import Keyring
from infra.officers import IDENTITY_FILE, SIGNING_FILE, load_identity, load_signing_key
from infra.register import Register
from infra.review.case import ZONE, Case, cases, open_case
from infra.review.permission import Rules, rules_of
from infra.signing import SigningKey
from infra.workspace import Workspace
from schemas.errors import NotPermitted, UsageError

review_app = typer.Typer(
    help="The exceptional case review: a list of its own numbers that one hospital alone can read.",
    no_args_is_help=True,
)

ANALYST, GUARDIAN, PIPELINE, HOSPITAL = "intelligence_analyst", "caldicott_guardian", "pipeline", "hospital"
SIDE_OF = {
    "caldicott_guardian": "guardian",
    "deputy_caldicott_guardian": "guardian",
    "siro": "siro",
    "deputy_siro": "siro",
}
ROLE_HELP = "Role in which this is done: " + ", ".join(SIDE_OF)
KEY_HELP = "Private age key; in a demonstration that of the role."
SIGNING_HELP = "Private signing key; in a demonstration that of the role."


def _workspace(context: typer.Context, *, quiet: bool = False) -> tuple[Workspace, Rules]:
    workspace = context_of(context).open(quiet=quiet)
    register = Register.load(workspace.zone("keys"))
    register.require_recorded(workspace.zone("audit"))
    return workspace, rules_of(workspace, register)


def _case(workspace: Workspace, case: str) -> Case:
    return open_case(workspace.zone(ZONE), case)


def _key_file(workspace: Workspace, rules: Rules, role: str, given: Path | None, name: str) -> Path:
    """The file given, or that of the role in a demonstration. Nobody else's private key lies in a workspace."""
    if given is not None:
        return given
    if not rules.register.demo:
        raise UsageError(
            "say where your own key is", next_step="give --key and --signing-key; keys stay on your machine"
        )
    return workspace.zone("officers") / role / name


def _signing(workspace: Workspace, rules: Rules, role: str, given: Path | None) -> tuple[SigningKey, str]:
    """The signing key and the person whose key the register says it is."""
    key = load_signing_key(_key_file(workspace, rules, role, given, SIGNING_FILE))
    return key, rules.register.signer(key.key_id, now()).person


def _audit(workspace: Workspace, role: str, person: str) -> AuditLog:
    """The log, with the person that the signing key stands for: a name in the environment proves nothing."""
    log = audit_log(workspace, role)
    return AuditLog(workspace.zone("audit"), now, person, role, second_sink=log.second_sink)


def _side(role: str) -> Any:
    if role not in SIDE_OF:
        raise UsageError("only an officer decides on a case", next_step=ROLE_HELP)
    return SIDE_OF[role]


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

    workspace, rules = _workspace(context, quiet=as_json)
    key, person = _signing(workspace, rules, ANALYST, signing_key)
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
        audit=_audit(workspace, ANALYST, person),
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

    workspace, rules = _workspace(context, quiet=as_json)
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


@review_app.command("approve")
def review_approve(
    context: typer.Context,
    case: str,
    role: str = typer.Option("", "--as", metavar="ROLE", help=ROLE_HELP),
    key: Path = typer.Option(None, "--key", help=KEY_HELP),
    signing_key: Path = typer.Option(None, "--signing-key", help=SIGNING_HELP),
    out: Path = typer.Option(None, "--out", help="Write the approval here instead of handing it in."),
    file: Path = typer.Option(None, "--file", help="Hand in an approval that was made elsewhere."),
) -> None:
    """Say yes as an officer. On the officer's own machine: --workspace BUNDLE, --key, --signing-key and --out."""
    from infra.review.approval import approve, hand_in
    from infra.review.audited import audited
    from infra.review.documents import Approval, parse

    workspace, rules = _workspace(context)
    found = _case(workspace, case)
    if file is not None:
        content = _read(file)
        said = parse(content, Approval).document
        audit = _audit(workspace, said.role, said.person)
        signed = hand_in(found, content, rules=rules, audit=audit, now=now())
        print(f"approval of {said.side} side taken in for case {signed.document.case}")
        return
    side = _side(role)
    signer, person = _signing(workspace, rules, role, signing_key)
    identity = load_identity(_key_file(workspace, rules, role, key, IDENTITY_FILE))
    request = found.request()

    def made() -> Any:
        return approve(
            request,
            side,
            person=person,
            identity=identity,
            signing_key=signer,
            vault=workspace.zone("vault"),
            signers=rules.signers,
            rules=rules,
            now=now(),
        )

    if out is not None:  # the officer's own machine has no audit log; handing in has
        write_atomic(out, made().content)
        print(f"approval written: {out}")
        return
    audit = _audit(workspace, role, person)
    try:
        signed = made()
    except NotPermitted:
        with audited(audit, "review.approve", case, request.document.purpose):
            raise
    hand_in(found, signed.content, rules=rules, audit=audit, now=now())
    print(f"approved for the {side} side: case {case}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise UsageError("the file cannot be read") from None


@review_app.command("refuse")
def review_refuse(
    context: typer.Context,
    case: str,
    reason: str = typer.Option(..., "--reason", metavar="TEXT"),
    role: str = typer.Option(..., "--as", metavar="ROLE", help=ROLE_HELP),
    signing_key: Path = typer.Option(None, "--signing-key", help=SIGNING_HELP),
) -> None:
    """Say no as an officer. One no ends the case."""
    from infra.review.approval import refuse

    workspace, rules = _workspace(context)
    _side(role)
    key, person = _signing(workspace, rules, role, signing_key)
    refuse(
        _case(workspace, case),
        reason,
        person=person,
        signing_key=key,
        rules=rules,
        audit=_audit(workspace, role, person),
        now=now(),
    )
    print(f"refused: case {case}")


@review_app.command("withdraw")
def review_withdraw(
    context: typer.Context,
    case: str,
    reason: str = typer.Option(..., "--reason", metavar="TEXT"),
    signing_key: Path = typer.Option(None, "--signing-key", help=SIGNING_HELP),
) -> None:
    """Take an own request back."""
    from infra.review.approval import withdraw

    workspace, rules = _workspace(context)
    key, person = _signing(workspace, rules, ANALYST, signing_key)
    withdraw(
        _case(workspace, case),
        reason,
        person=person,
        signing_key=key,
        rules=rules,
        audit=_audit(workspace, ANALYST, person),
        now=now(),
    )
    print(f"withdrawn: case {case}")


# Issuing ---------------------------------------------------------------------------------------------------


@review_app.command("issue")
def review_issue(context: typer.Context, case: str, as_json: bool = typer.Option(False, "--json")) -> None:
    """Make the sealed list of a case that both officers approved. Works once."""
    from infra.review.issue import issue
    from infra.review.receipt import raise_overdue

    workspace, rules = _workspace(context, quiet=as_json)
    audit = audit_log(workspace, PIPELINE)
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

    workspace, rules = _workspace(context)
    key, person = _signing(workspace, rules, GUARDIAN, signing_key)
    look_back(
        _case(workspace, case),
        finding,
        person=person,
        signing_key=key,
        rules=rules,
        audit=_audit(workspace, GUARDIAN, person),
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

    sealed = _read(file)
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

    workspace, rules = _workspace(context)
    reviews = workspace.zone(ZONE)
    if case:
        if file is None:
            raise UsageError("name the receipt", next_step="give --file")
        audit = audit_log(workspace, HOSPITAL)
        took = take_receipt(_case(workspace, case), _read(file), rules=rules, audit=audit, now=now())
        print(f"{took.document.organisation} has received the list of case {case}")
        return
    raise_overdue(
        reviews, workspace.zone("incidents"), rules, audit=audit_log(workspace, PIPELINE), now=now()
    )
    tidy(workspace, now())
    late = overdue(reviews, rules, now())
    for each in late:
        print(f"overdue: case {each.case}")
    if not late:
        print("no receipt is overdue")


def register(app: typer.Typer) -> None:
    app.add_typer(review_app, name="review")
