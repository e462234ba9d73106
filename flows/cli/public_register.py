"""``wardwatch public-register`` and ``wardwatch audit-pack``: the account that the public and others are owed."""

from __future__ import annotations

from datetime import date, timedelta

import typer

from flows.cli.acting import acting_as, acting_or_pipeline
from flows.cli.context import context_of, now
from infra.audit_pack import TITLES, Audience, account, keep_pack
from infra.keyring import Keyring
from infra.public_register import checked_events, holdings, keep_record, public_page, record_name
from infra.register import Register
from schemas.errors import UsageError

ACCOUNTABLE = (
    "iao",
    "siro",
    "deputy_siro",
    "caldicott_guardian",
    "deputy_caldicott_guardian",
    "iam",
    "auditor",
)
PERIOD = timedelta(days=365)


def public_register(context: typer.Context) -> None:
    """Write the page of what is held, for what, which runs and how many case lists; prints its path."""
    workspace = context_of(context).open()
    acting_or_pipeline(workspace, ACCOUNTABLE, "account.write", "public-register")
    keyring = Keyring.open(workspace.zone("keys"))
    today = now().date()
    held = holdings(workspace, keyring, checked_events(workspace, keyring))
    name = record_name(today, "Wardwatch public register", "OFFICIAL")
    print(keep_record(workspace, name, public_page(held, today).encode()))


def audit_pack(
    context: typer.Context,
    audience: str = typer.Option("data-supplier", "--for", help=" or ".join(TITLES)),
    since: str = typer.Option("", "--since", metavar="DATE", help="A year ago if not given."),
    until: str = typer.Option("", "--until", metavar="DATE", help="Today if not given."),
) -> None:
    """Write the account for the data supplier or the Information Governance Group; prints its path."""
    workspace = context_of(context).open()
    chosen: Audience
    if audience == "data-supplier":
        chosen = "data-supplier"
    elif audience == "governance-group":
        chosen = "governance-group"
    else:
        raise UsageError("--for is one of " + ", ".join(TITLES))
    moment = now()
    last = _day(until, "--until") if until else moment.date()
    first = _day(since, "--since") if since else last - PERIOD
    audit = acting_as(workspace, ACCOUNTABLE, "account.write", "audit")
    keyring = Keyring.open(workspace.zone("keys"))
    register = Register.load(workspace.zone("keys"))
    found = account(workspace, keyring, register, since=first, until=last, now=moment)
    path = keep_pack(workspace, found, chosen)
    audit.record("account.write", chosen, purpose="", reason_code="written", counts={"events": found.events})
    print(path)


def _day(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} is a day, YYYY-MM-DD") from None


def register(app: typer.Typer) -> None:
    app.command("public-register")(public_register)
    app.command("audit-pack")(audit_pack)
