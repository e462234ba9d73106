"""``wardwatch requests`` and ``wardwatch objections``: what people ask, and whose records are left out."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

import typer

from flows.cli.acting import acting_as
from flows.cli.context import context_of, now, print_json
from infra import objections as lists
from infra.audit import AuditLog
from infra.audit_report import table
from infra.keyring import Keyring
from infra.public_register import checked_events, holdings, keep_record, record_name
from infra.requests import register as requests_register
from infra.requests.answer import answer_text, record_title
from infra.requests.register import (
    Request,
    add_request,
    close_request,
    confirm_identity,
    find_request,
    list_requests,
    may_be_answered,
    note_answer,
)
from infra.workspace import Workspace
from schemas.errors import IdentifierInText, NotPermitted, UsageError, WardwatchError
from schemas.objection_policy import objection_policy
from schemas.request_policy import request_policy

requests_app = typer.Typer(
    help="Requests for information or about data on a person: clocks, and answers from metadata.",
    no_args_is_help=True,
)
objections_app = typer.Typer(
    help="The list of persons whose records are left out, where the agreement says so.", no_args_is_help=True
)

_ID = typer.Argument(..., metavar="ID")
_JSON = typer.Option(False, "--json", help="For a machine.")
_KINDS = ", ".join(kind.code for kind in request_policy().kinds)


def _folder(workspace: Workspace) -> Path:
    return workspace.root / requests_register.FOLDER


def _acting(workspace: Workspace, action: str, object: str) -> AuditLog:
    return acting_as(workspace, request_policy().handled_by, action, object)


def _day(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text) if text else now().date()
    except ValueError:
        raise UsageError(f"{option} is a day, YYYY-MM-DD") from None


@requests_app.command("add")
def add(
    context: typer.Context,
    kind: str = typer.Argument(..., help=_KINDS),
    reference: str = typer.Option(..., "--reference", help="The team's own code for who asks; no name."),
    text: str = typer.Option(..., "--text", help="What is asked, without anything about a person."),
    received: str = typer.Option("", "--received", metavar="DATE", help="Today if not given."),
    identity_confirmed: str = typer.Option("", "--identity-confirmed", metavar="DATE"),
) -> None:
    """Enter a request; says by when it is due."""
    workspace = context_of(context).open()
    day = _day(received, "--received")
    confirmed = _day(identity_confirmed, "--identity-confirmed") if identity_confirmed else None
    audit = _acting(workspace, "request.add", "register")
    folder = _folder(workspace)
    try:
        found = add_request(folder, kind, day, reference=reference, text=text, audit=audit, now=now())
    except IdentifierInText as refusal:
        audit.record("request.add", "register", purpose="", decision="refuse", reason_code=refusal.code)
        raise
    if confirmed is not None:
        found = confirm_identity(folder, found.id, confirmed, audit=audit, now=now())
    print(_line(found))


@requests_app.command("confirm")
def confirm(
    context: typer.Context,
    request_id: str = _ID,
    on: str = typer.Option("", "--on", metavar="DATE", help="Today if not given."),
) -> None:
    """The identity of the person asking was confirmed: the clock starts."""
    workspace = context_of(context).open()
    find_request(_folder(workspace), request_id)
    audit = _acting(workspace, "request.confirm", request_id)
    print(_line(confirm_identity(_folder(workspace), request_id, _day(on, "--on"), audit=audit, now=now())))


@requests_app.command("list")
def list_all(
    context: typer.Context,
    only_open: bool = typer.Option(False, "--open", help="Without those that are closed."),
    as_json: bool = _JSON,
) -> None:
    """Every request with its state and the day it is due; what is overdue is said so."""
    workspace = context_of(context).open(quiet=as_json)
    found = list_requests(_folder(workspace), only_open=only_open)
    today = now().date()
    if as_json:
        print_json([request.to_document(today) for request in found])
        return
    rows = [
        (
            r.id,
            r.kind,
            r.received.isoformat(),
            r.state,
            _due(r),
            "OVERDUE" if r.is_overdue(today) else "",
            r.reference,
        )
        for r in found
    ]
    print(
        table(("request", "kind", "received", "state", "due", "", "reference"), rows)
        if rows
        else "no requests"
    )


@requests_app.command("show")
def show(context: typer.Context, request_id: str = _ID, as_json: bool = _JSON) -> None:
    """One request: its clocks, and what happened to it."""
    workspace = context_of(context).open(quiet=as_json)
    found = find_request(_folder(workspace), request_id)
    if as_json:
        print_json(found.to_document(now().date()))
        return
    kind = request_policy().kind(found.kind)
    print(
        f"{_line(found)}\n  {kind.title} ({kind.law})\n  asked: {found.text}\n  reference: {found.reference}"
    )
    identity = f"confirmed {found.confirmed}" if found.confirmed else "not confirmed"
    print(f"  received {found.received}, identity {identity}")
    for clock in kind.clocks:
        length = next(
            f"{count} {unit}"
            for count, unit in (
                (clock.months, "month(s)"),
                (clock.working_days, "working days"),
                (clock.days, "days"),
            )
            if count is not None
        )
        starts, status = clock.starts.replace("_", " "), clock.status.replace("_", " ")
        print(f"  clock: {length} from {starts} ({status}): {clock.source}")
    if found.answered:
        print(f"  answered {found.answered}: {found.answer}")
    if found.closed:
        print(f"  closed {found.closed}, {found.outcome.replace('_', ' ')}: {found.reason}")


@requests_app.command("answer")
def answer(context: typer.Context, request_id: str = _ID) -> None:
    """Write the answer, from metadata alone, as a record; prints its path. Nobody is looked up."""
    workspace = context_of(context).open()
    folder = _folder(workspace)
    found = find_request(folder, request_id)
    audit = _acting(workspace, "request.answer", request_id)
    try:
        may_be_answered(found)
    except NotPermitted as refusal:
        audit.record(
            "request.answer", request_id, purpose="", decision="refuse", reason_code=refusal.reason_code
        )
        raise
    keyring = Keyring.open(workspace.zone("keys"))
    today = now().date()
    held = holdings(workspace, keyring, checked_events(workspace, keyring))
    content = answer_text(found, held, today).encode()
    name = record_name(today, record_title(found), "OFFICIAL", "txt")
    path = keep_record(workspace, name, content)
    note_answer(folder, request_id, name, hashlib.sha256(content).hexdigest(), audit=audit, now=now())
    print(path)


@requests_app.command("close")
def close(
    context: typer.Context,
    request_id: str = _ID,
    outcome: str = typer.Option(..., "--outcome", help=", ".join(request_policy().outcomes)),
    reason: str = typer.Option(..., "--reason", metavar="TEXT"),
) -> None:
    """Note how a request ended."""
    workspace = context_of(context).open()
    find_request(_folder(workspace), request_id)
    audit = _acting(workspace, "request.close", request_id)
    found = close_request(_folder(workspace), request_id, outcome, reason, audit=audit, now=now())
    print(f"{found.id}: closed ({outcome.replace('_', ' ')})")


def _due(request: Request) -> str:
    due = request.due()
    return due.isoformat() if due else "waits for identity"


def _line(request: Request) -> str:
    return f"{request.id}: {request.kind.replace('_', ' ')}, {request.state}, due {_due(request)}"


# Objections -------------------------------------------------------------------------------------------


@objections_app.command("load")
def load(
    context: typer.Context,
    file: Path = typer.Argument(..., help="The list, sealed to the inbox key. It is left as it is."),
) -> None:
    """Make a sealed list of person ids or NHS numbers the one in force; keyed tokens alone are kept."""
    workspace = context_of(context).open()
    if not file.is_file():
        raise UsageError("there is no file at the path that was given")
    audit = acting_as(workspace, objection_policy().loaded_by, "objections.load", lists.FOLDER)
    keyring = Keyring.open(workspace.zone("keys"))
    try:
        with workspace.writer_lock():
            found = lists.load_list(workspace.root / lists.FOLDER, file, keyring, audit=audit, now=now())
    except WardwatchError as refusal:
        audit.record("objections.load", lists.FOLDER, purpose="", decision="refuse", reason_code=refusal.code)
        raise
    print(f"{found.lines:,} lines: " + _ids(found))
    if found.without_id:
        print(f"{found.without_id:,} lines have no usable id and honour nobody: ask the source about them")
    if lists.honours_objections(workspace):
        print("in force from the next delivery on; `wardwatch backfill` applies it to those that are held")
    else:
        print(
            "the agreement of this workspace honours no objections (honour_opt_outs in settings.yaml): not applied"
        )


@objections_app.command("show")
def show_list(context: typer.Context, as_json: bool = _JSON) -> None:
    """Whether objections are honoured, and how many ids are on the list; nothing of it can be shown."""
    workspace = context_of(context).open(quiet=as_json)
    found = lists.read_list(workspace.root / lists.FOLDER, Keyring.open(workspace.zone("keys")))
    honoured = lists.honours_objections(workspace)
    if as_json:
        print_json(
            {
                "honoured": honoured,
                "loaded_at": found.loaded_at if found else None,
                "counts": found.counts() if found else {},
            }
        )
        return
    print("objections are honoured" if honoured else "the agreement honours no objections")
    if found is None:
        print("no list was loaded")
    else:
        print(f"list of {found.loaded_at}: " + _ids(found))


def _ids(found: lists.ObjectionList) -> str:
    return f"{found.ids['nhs_number']:,} NHS numbers, {found.ids['person_id']:,} person ids"


def register(app: typer.Typer) -> None:
    app.add_typer(requests_app, name="requests")
    app.add_typer(objections_app, name="objections")
