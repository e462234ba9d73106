"""``wardwatch incidents``: the register of incidents and near misses, and how one ends."""

from __future__ import annotations

import typer

from flows.cli.acting import acting_as
from flows.cli.context import context_of, now, print_json
from infra.incidents import (
    IncidentType,
    Outcome,
    close_incident,
    find_incident,
    list_incidents,
    raise_incident,
    report_text,
)
from infra.query_lockout import unlock
from schemas.errors import UsageError
from schemas.incident_policy import incident_policy

incidents_app = typer.Typer(
    help="The register of incidents and near misses; it holds no personal information."
)


@incidents_app.callback(invoke_without_command=True)
def incidents(
    context: typer.Context,
    only_open: bool = typer.Option(False, "--open", help="Without those that are closed."),
    as_json: bool = typer.Option(False, "--json", help="For a machine."),
) -> None:
    """The register of incidents and near misses; it holds no personal information."""
    if context.invoked_subcommand is not None:
        return
    workspace = context_of(context).open(quiet=as_json)
    found = list_incidents(workspace.zone("incidents"), only_open=only_open)
    if as_json:
        print_json([incident.to_document() for incident in found])
        return
    none = "no open incidents" if only_open else "no incidents"
    print("\n\n".join(report_text(incident) for incident in found) if found else none)


@incidents_app.command("show")
def show(
    context: typer.Context,
    incident_id: str = typer.Argument(..., metavar="ID"),
    as_json: bool = typer.Option(False, "--json", help="For a machine."),
) -> None:
    """One incident, as it may be passed on."""
    workspace = context_of(context).open(quiet=as_json)
    found = find_incident(workspace.zone("incidents"), incident_id)
    if as_json:
        print_json(found.to_document())
    else:
        print(report_text(found))


@incidents_app.command("close")
def close(
    context: typer.Context,
    incident_id: str = typer.Argument(..., metavar="ID"),
    outcome: str = typer.Option(..., "--outcome", help=", ".join(each.value for each in Outcome)),
    reason: str = typer.Option(..., "--reason", metavar="TEXT", help="Without anything about a patient."),
) -> None:
    """Say how an incident ended. The Information Asset Owner, the SIRO or the Guardian does this."""
    workspace = context_of(context).open()
    if outcome not in {each.value for each in Outcome}:
        raise UsageError("--outcome is one of " + ", ".join(each.value for each in Outcome))
    register = workspace.zone("incidents")
    find_incident(register, incident_id)
    audit = acting_as(workspace, incident_policy().closed_by, "incident.close", incident_id)
    closed = close_incident(register, incident_id, Outcome(outcome), reason=reason, audit=audit, now=now())
    print(f"{closed.id}: closed ({outcome.replace('_', ' ')})")


@incidents_app.command("report")
def report(
    context: typer.Context,
    object: str = typer.Argument(..., help="What it concerns: the id of a delivery, run, case or file."),
    kind: str = typer.Option("other", "--type", help="other, near_miss, or one that the program knows."),
) -> None:
    """Report an incident that a person noticed; tell the rest to the Information Asset Owner yourself."""
    workspace = context_of(context).open()
    if kind not in {each.value for each in IncidentType}:
        raise UsageError("--type is one of " + ", ".join(each.value for each in IncidentType))
    audit = acting_as(workspace, incident_policy().reported_by, "incident.raise", "register")
    raised = raise_incident(workspace.zone("incidents"), IncidentType(kind), object, audit=audit, now=now())
    print(report_text(raised))


@incidents_app.command("unlock")
def unlock_person(
    context: typer.Context,
    person: str = typer.Argument(..., help="Staff id of who was locked out of the curated zone."),
    reason: str = typer.Option(..., "--reason", metavar="TEXT"),
) -> None:
    """Let a person who asked nearly the same thing too often ask again. The Information Asset Owner does this."""
    workspace = context_of(context).open()
    audit = acting_as(workspace, incident_policy().unlocked_by, "lake.unlock", "lake")
    unlock(person, reason, audit=audit, incidents=workspace.zone("incidents"), now=now())
    print(f"{person}: may ask the curated zone again")


def register(app: typer.Typer) -> None:
    app.add_typer(incidents_app, name="incidents")
