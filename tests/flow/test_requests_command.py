"""The registers from the command line: incidents, requests, objections, the public register and the audit pack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.audit import AuditLog, read
from infra.incidents import IncidentType, list_incidents, raise_incident
from infra.keyring import Keyring
from infra.query_lockout import LOCKED_OUT
from infra.sealing import seal
from infra.workspace import Workspace
from schemas.errors import IdentifierInText, NotPermitted, UsageError
from tests.support.command_line import Ran, wardwatch
from tests.support.workspaces import EVENING, Clock

NUMBER = "9990000018"


def actions(workspace: Workspace) -> list[tuple[str, str]]:
    return [(event.action, event.decision) for event in read(workspace.zone("audit"))]


def refused_with(ran: Ran, error: type[Exception]) -> None:
    assert ran.exit_code == error.exit_code, ran.said  # type: ignore[attr-defined]
    assert NUMBER not in ran.said
    assert "Traceback" not in ran.said


def enter(workspace: Workspace, kind: IncidentType, object: str) -> None:
    audit = AuditLog(workspace.zone("audit"), Clock(), "pipeline", "pipeline")
    raise_incident(workspace.zone("incidents"), kind, object, audit=audit, now=EVENING)


def test_an_incident_is_listed_shown_and_closed_by_those_who_answer_for_it(
    empty_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = empty_workspace.root
    assert wardwatch(root, "incidents").out == "no incidents\n"
    enter(empty_workspace, IncidentType.OVERDUE_RECEIPT, "abcdefghijkl")
    enter(empty_workspace, IncidentType.NEAR_MISS, "lake")

    listed = json.loads(wardwatch(root, "incidents", "--json").out)
    assert [(one["id"], one["type"], one["near_miss"], one["open"]) for one in listed] == [
        ("incident-0001", "overdue_receipt", False, True),
        ("incident-0002", "near_miss", True, True),
    ]
    assert (
        "ask the hospital's Caldicott Guardian" in wardwatch(root, "incidents", "show", "incident-0001").out
    )
    refused_with(wardwatch(root, "incidents", "show", "incident-0009"), UsageError)

    close = ("incidents", "close", "incident-0001", "--outcome", "contained", "--reason")
    refused_with(wardwatch(root, *close, f"the hospital found {NUMBER}"), IdentifierInText)
    monkeypatch.setenv("WARDWATCH_PERSON", "demo-intelligence-analyst")
    refused_with(wardwatch(root, *close, "the receipt came by the second post"), NotPermitted)
    assert ("incident.close", "refuse") in actions(empty_workspace)
    monkeypatch.delenv("WARDWATCH_PERSON")
    ran = wardwatch(root, *close, "the receipt came by the second post")
    assert ran.exit_code == 0, ran.err

    (still_open,) = json.loads(wardwatch(root, "incidents", "--open", "--json").out)
    assert still_open["id"] == "incident-0002"
    assert "Closed: contained (the receipt came by the second post)" in wardwatch(root, "incidents").out


def test_a_person_reports_what_the_program_did_not_see_and_cannot_name_a_patient(
    empty_workspace: Workspace,
) -> None:
    root = empty_workspace.root
    refused_with(wardwatch(root, "incidents", "report", NUMBER), IdentifierInText)
    ran = wardwatch(root, "incidents", "report", "printout in the meeting room", "--type", "near_miss")
    assert ran.exit_code == 0, ran.err
    (incident,) = list_incidents(empty_workspace.zone("incidents"))
    assert (incident.type, incident.object) == (IncidentType.NEAR_MISS, "printout in the meeting room")


def test_only_the_owner_unlocks_a_person_who_asked_too_often(
    empty_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = empty_workspace.root
    locked = AuditLog(
        empty_workspace.zone("audit"), Clock(), "demo-intelligence-analyst", "intelligence_analyst"
    )
    locked.record("lake.query", "hes_apc", purpose="", decision="refuse", reason_code=LOCKED_OUT)
    unlock = (
        "incidents",
        "unlock",
        "demo-intelligence-analyst",
        "--reason",
        "age bands agreed with the team",
    )
    monkeypatch.setenv("WARDWATCH_PERSON", "demo-intelligence-analyst")
    refused_with(wardwatch(root, *unlock), NotPermitted)
    monkeypatch.delenv("WARDWATCH_PERSON")
    ran = wardwatch(root, *unlock)
    assert ran.exit_code == 0, ran.err
    assert actions(empty_workspace)[-1] == ("lake.unlock", "allow")
    refused_with(wardwatch(root, *unlock), UsageError)


def test_a_subject_access_request_is_answered_from_metadata_once_the_identity_is_confirmed(
    empty_workspace: Workspace,
) -> None:
    root = empty_workspace.root
    add = (
        "requests",
        "add",
        "subject_access",
        "--reference",
        "IAT-26-17",
        "--received",
        "2026-11-02",
        "--text",
    )
    refused_with(wardwatch(root, *add, f"the record of NHS number {NUMBER}"), IdentifierInText)
    assert ("request.add", "refuse") in actions(empty_workspace)
    ran = wardwatch(root, *add, "a copy of whatever is held")
    assert ran.out == "request-0001: subject access, received, due waits for identity\n"
    refused_with(wardwatch(root, "requests", "answer", "request-0001"), NotPermitted)
    ran = wardwatch(root, "requests", "confirm", "request-0001", "--on", "2026-11-03")
    assert ran.out == "request-0001: subject access, confirmed, due 2026-12-01\n"
    assert "OVERDUE" not in wardwatch(root, "requests", "list").out
    late = Clock(EVENING.replace(month=12, day=2))
    assert "OVERDUE" in wardwatch(root, "requests", "list", clock=late).out
    shown = wardwatch(root, "requests", "show", "request-0001").out
    assert "clock: 40 days from received (superseded)" in shown

    ran = wardwatch(root, "requests", "answer", "request-0001")
    assert ran.exit_code == 0, ran.err
    path = Path(ran.out.strip())
    assert path.name == "20261120 Request 0001 answer report v1.txt"
    assert "no one person at the regulator can open it, nobody can search in it" in " ".join(
        path.read_text().split()
    )
    ran = wardwatch(
        root, "requests", "close", "request-0001", "--outcome", "answered", "--reason", "the letter was sent"
    )
    assert ran.exit_code == 0, ran.err
    (closed,) = json.loads(wardwatch(root, "requests", "list", "--json").out)
    assert (closed["state"], closed["outcome"], closed["answer"]) == ("closed", "answered", path.name)


def test_no_command_takes_an_identifier_to_look_a_person_up() -> None:
    """No option of any command of these modules is a person, a number or a name to search for."""
    import typer

    from flows.cli import incidents, public_register, requests

    app = typer.Typer()
    for module in (incidents, requests, public_register):
        module.register(app)
    group = typer.main.get_command(app)
    names = {
        parameter.name
        for command in group.commands.values()  # type: ignore[attr-defined]
        for each in getattr(command, "commands", {"": command}).values()
        for parameter in each.params
    }
    assert names <= {
        "as_json", "audience", "file", "help", "identity_confirmed", "incident_id", "kind", "object", "on", "only_open",
        "outcome", "person", "reason", "received", "reference", "request_id", "since", "text", "until",
    }  # fmt: skip


def test_a_sealed_list_of_objections_is_loaded_and_counted_and_never_shown(
    empty_workspace: Workspace, tmp_path: Path
) -> None:
    root = empty_workspace.root
    key = Keyring.open(empty_workspace.zone("keys")).inbox_recipient
    path = tmp_path / "OBJECTIONS.age"
    path.write_bytes(f"NHS_NUMBER\n{NUMBER}\nnone\n".encode())
    in_clear = wardwatch(root, "objections", "load", path)
    assert (in_clear.exit_code, NUMBER in in_clear.said) == (10, False)
    path.write_bytes(seal(f"NHS_NUMBER\n{NUMBER}\nnone\n".encode(), key))
    ran = wardwatch(root, "objections", "load", path)
    assert ran.exit_code == 0, ran.err
    assert ran.out.splitlines()[:2] == [
        "2 lines: 1 NHS numbers, 0 person ids",
        "1 lines have no usable id and honour nobody: ask the source about them",
    ]
    assert "honours no objections" in ran.out
    shown = json.loads(wardwatch(root, "objections", "show", "--json").out)
    assert (shown["honoured"], shown["counts"]["nhs_number"]) == (False, 1)
    assert [entry for entry in actions(empty_workspace) if entry[0] == "objections.load"] == [
        ("objections.load", "refuse"),
        ("objections.load", "allow"),
    ]


def test_the_public_register_and_the_packs_are_records_with_names_of_the_rule(
    empty_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = empty_workspace.root
    written = [
        wardwatch(root, "public-register"),
        wardwatch(root, "audit-pack"),
        wardwatch(root, "audit-pack", "--for", "governance-group", "--since", "2026-11-01"),
    ]
    assert [Path(ran.out.strip()).name for ran in written] == [
        "20261120 Wardwatch public register report v1.html",
        "20261120 Data supplier audit pack report v1 OFFICIAL SENSITIVE.html",
        "20261120 Information Governance Group report v1 OFFICIAL SENSITIVE.html",
    ]
    assert all("<main" in Path(ran.out.strip()).read_text() for ran in written)
    refused_with(wardwatch(root, "audit-pack", "--for", "the-press"), UsageError)
    refused_with(wardwatch(root, "audit-pack", "--since", "yesterday"), UsageError)
    monkeypatch.setenv("WARDWATCH_PERSON", "demo-intelligence-analyst")
    refused_with(wardwatch(root, "audit-pack"), NotPermitted)
