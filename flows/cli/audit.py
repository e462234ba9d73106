"""``wardwatch audit``: the log of every touch, what it says, and who else has seen it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import typer

from flows.cli.acting import acting_as, acting_or_pipeline, staff_for
from flows.cli.context import context_of, now, print_json
from infra.audit import AuditLog, Event, read, second_sink
from infra.audit_checkpoint import CHECKPOINT_KEY, WITNESSED
from infra.audit_finding import Finding, tampering
from infra.audit_line import DECISIONS
from infra.audit_report import BY, By, hospitals_of, items_of, printable, review, table
from infra.audit_verify import verify
from infra.audit_witness import WITNESS_KEY, accepted, against_state, carried_notes, visit, witnessed_name
from infra.keyring import Keyring, PublicKeys
from infra.officers import load_signing_key
from infra.register import Register, knows_a_founding
from infra.signing import parse_canonical
from infra.workspace import Workspace
from schemas.errors import AuditUnavailable, IntegrityError, KeyUnavailable, UsageError

audit_app = typer.Typer(help="The audit log: read, verify, sign, witness, review.", no_args_is_help=True)

AUDITOR = "auditor"  # the role
READ = "audit.read"

_SINCE = typer.Option("", "--since", help="Date or time (UTC unless it says otherwise), included.")
_UNTIL = typer.Option("", "--until", help="Date, included, or time, excluded.")
_PERSON = typer.Option("", "--person", help="Staff id.")
_ACTION = typer.Option("", "--action", help="Such as vault, or vault.open alone.")
_JSON = typer.Option(False, "--json", help="For a machine.")


# reading -------------------------------------------------------------------------------------------------


@audit_app.command("log")
def audit_show(
    context: typer.Context,
    since: str = _SINCE,
    until: str = _UNTIL,
    person: str = _PERSON,
    action: str = _ACTION,
    object: str = typer.Option("", "--object", help="What it was done to: an id, or the beginning of one."),
    item: str = typer.Option("", "--item", help="One of the identifiable items, such as date_of_birth."),
    hospital: str = typer.Option("", "--hospital", help="ODS code."),
    case: str = typer.Option("", "--case", help="Id of a case review."),
    decision: str = typer.Option("", "--decision", help=", ".join(DECISIONS)),
    as_json: bool = _JSON,
) -> None:
    """What was done, refused or failed, in the order of the log."""
    workspace = context_of(context).open(quiet=as_json)
    if decision and decision not in DECISIONS:
        raise UsageError("--decision is one of " + ", ".join(DECISIONS))
    _asking(workspace, READ)
    found = _events(
        workspace,
        since,
        until,
        person=person or None,
        action=action or None,
        case=case or None,
        decision=decision or None,
    )
    chosen = [
        event
        for event in found
        if event.object.startswith(object)
        and (not item or item in items_of(event.object))
        and (not hospital or hospital in hospitals_of(event.object))
    ]
    if as_json:
        print_json([asdict(event) | {"time": event.time.isoformat()} for event in chosen])
        return
    print(
        table(
            ("event", "time", "person", "role", "action", "object", "case", "decision", "reason", "counts"),
            [
                (
                    str(event.seq),
                    f"{event.time:%Y-%m-%d %H:%M:%S}",
                    event.person,
                    event.role,
                    event.action,
                    event.object,
                    event.case,
                    event.decision,
                    event.reason_code,
                    " ".join(f"{name}={count}" for name, count in event.counts.items()),
                )
                for event in chosen
            ],
        )
    )


@audit_app.command("report")
def audit_report(
    context: typer.Context,
    by: str = typer.Option("month", "--by", help="One of " + ", ".join(BY)),
    since: str = _SINCE,
    until: str = _UNTIL,
    month: str = typer.Option("", "--month", help="YYYY-MM, instead of --since and --until."),
    action: str = _ACTION,
    mask: bool = typer.Option(False, "--mask", help="Numbers instead of the ids of junior staff."),
    as_csv: bool = typer.Option(False, "--csv", help="For a spreadsheet."),
    as_json: bool = _JSON,
) -> None:
    """The access review: who did what to which item of which hospital, how often, allowed or refused."""
    if by not in BY:
        raise UsageError("--by is one of " + ", ".join(BY))
    if as_csv and as_json:
        raise UsageError("either --csv or --json")
    if month:
        if since or until:
            raise UsageError("--month stands in the place of --since and --until")
        since, until = _month(month)
    workspace = context_of(context).open(quiet=as_json or as_csv)
    _asking(workspace, READ)
    found = review(_events(workspace, since, until, action=action or None), cast(By, by), mask=mask)
    if as_json:
        print_json({"by": found.by, "rows": found.records(), "left_out": found.left_out})
    elif as_csv:
        print(found.to_csv(), end="")
    else:
        print(table(found.columns, [record.values() for record in found.records()]))
        if found.left_out:
            print(f"({found.left_out:,} event(s) name no {by})")


def _asking(workspace: Workspace, action: str) -> AuditLog:
    """The log in the name of who is asking, in a role that reads it; a refusal is a line of it."""
    return acting_as(workspace, staff_for(READ), action, "log", unnamed=AUDITOR)


def _events(workspace: Workspace, since: str, until: str, **conditions: Any) -> Iterator[Event]:
    return read(
        workspace.zone("audit"),
        since=_moment(since, "--since") if since else None,
        until=_moment(until, "--until", end=True) if until else None,
        **conditions,
    )


def _moment(text: str, option: str, *, end: bool = False) -> datetime:
    """The moment that ``text`` names; with ``end``, for a date the first moment after it."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} is a date (2026-11-30) or a time (2026-11-30T18:00)") from None
    if end and len(text) <= len("2026-11-30"):
        moment += timedelta(days=1)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _month(text: str) -> tuple[str, str]:
    try:
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise UsageError("--month is written YYYY-MM") from None
    after = (first + timedelta(days=31)).replace(day=1)
    return first.isoformat(), after.isoformat()


# verifying and signing ---------------------------------------------------------------------------------


@audit_app.command("verify")
def audit_verify(
    context: typer.Context,
    witness: Path = typer.Option(
        None, "--witness", help="A countersigned checkpoint, or an auditor's state folder.", metavar="PATH"
    ),
) -> None:
    """Check the chain, the signed checkpoints and the second sink; says exactly what is wrong and where."""
    workspace = context_of(context).open()
    folder = workspace.zone("audit")
    notes, keys = carried_notes(witness) if witness is not None else ([], {})
    witnesses = _witnesses(workspace)
    witnesses = {name: [*witnesses.get(name, []), *keys.get(name, [])] for name in {*witnesses, *keys}}
    # Before the second sink is asked, which may not answer.
    findings = verify(folder, _log_keys(workspace), witnesses=witnesses, notes=notes)
    findings += _against_register(workspace)
    if keys and witness is not None:
        findings += against_state(folder, witness)
    _show(findings)
    sink = second_sink(workspace.settings.second_audit_sink)
    if sink is not None:
        said = {str(finding) for finding in findings}
        again = verify(folder, _log_keys(workspace), second_sink=sink)
        more = [finding for finding in again if str(finding) not in said]
        _show(more)
        findings += more
    if wrong := tampering(findings):
        raise IntegrityError(
            f"the audit log is not what was written: {len(wrong)} finding(s)",
            next_step="keep the folder as it is and call the auditor",
        )
    print("the audit log is whole: every line follows from the one before, and every checkpoint holds")
    if not any(finding.kind == "witnessed" for finding in findings):
        print("no witness on another machine has countersigned it yet (`wardwatch audit witness --help`)")


@audit_app.command("checkpoint")
def audit_checkpoint(context: typer.Context) -> None:
    """Sign the log as it stands and print the note. Keep a copy of it where the log's owner cannot write."""
    workspace = context_of(context).open()
    key = Keyring.open(workspace.zone("keys")).audit_signing_key
    log = acting_or_pipeline(workspace, staff_for(READ), "audit.checkpoint", "log")
    print(log.checkpoint_with(key), end="")


@audit_app.command("witness")
def audit_witness(
    context: typer.Context,
    log_folder: Path = typer.Argument(None, help="The audit folder, or a copy of it.", metavar="LOG_FOLDER"),
    state: Path = typer.Option(None, "--state", help="The auditor's own folder.", metavar="FOLDER"),
    key: Path = typer.Option(None, "--key", help="The auditor's private signing key.", metavar="FILE"),
    log_keys: Path = typer.Option(
        None,
        "--log-keys",
        help="keys/public.json of the workspace, as it came to the auditor; needed at the first visit.",
        metavar="FILE",
    ),
    add: Path = typer.Option(
        None,
        "--add",
        help="Instead: take a countersigned checkpoint that was carried back.",
        metavar="FILE",
    ),
) -> None:
    """Verify the log on another machine, countersign its newest checkpoint, and print that.

    Refuses a log that is shorter than, or different from, what was countersigned before. Needs no workspace. With
    --add, in the workspace: keeps the countersigned checkpoint, so that `audit verify` shows who has seen the log.
    """
    if add is not None:
        if log_folder is not None or state is not None or key is not None:
            raise UsageError("--add stands alone")
        _add(context_of(context).open(), add)
        return
    if log_folder is None or state is None or key is None:
        raise UsageError(
            "a witness needs LOG_FOLDER --state FOLDER --key FILE", next_step="wardwatch audit witness --help"
        )
    if not log_folder.is_dir():
        raise UsageError("LOG_FOLDER is no folder")
    known = _checkpoint_keys(_public_keys(log_keys)) if log_keys is not None else None
    found = visit(log_folder, state, load_signing_key(key), now(), known)
    _show(found.findings, error=True)
    if wrong := tampering(found.findings):
        raise IntegrityError(
            f"not countersigned: this is not the log that was witnessed, or it was changed ({len(wrong)} finding(s))",
            next_step="keep both as they are and treat it as an incident",
        )
    if found.note is None:
        raise UsageError(
            "the log has no checkpoint to countersign",
            next_step="`wardwatch audit checkpoint` there, then again",
        )
    typer.echo(
        f"countersigned {found.size:,} events, {found.new:,} of them new; "
        f"{found.unsigned:,} more wait for a checkpoint",
        err=True,
    )
    print(found.note.decode(), end="")


def _add(workspace: Workspace, path: Path) -> None:
    log = _asking(workspace, "audit.witnessed")
    try:
        note = path.read_bytes()
    except OSError:
        raise UsageError("the countersigned checkpoint cannot be read", next_step="check the path") from None
    cosignature = accepted(note, _log_keys(workspace), _witnesses(workspace, in_office=True))
    found = verify(workspace.zone("audit"), _log_keys(workspace), notes=[(path.name, note)])
    _show(tampering(found))
    if tampering(found):
        raise IntegrityError(
            "the audit log is not the one that was countersigned",
            next_step="keep the folder as it is and call the auditor",
        )
    log.keep_note(WITNESSED, witnessed_name(note), note)
    log.record("audit.witnessed", "log", purpose="", counts={"events": cosignature.size})
    print(f"kept: {cosignature.witness} has seen the first {cosignature.size:,} events")


def _show(findings: Sequence[Finding], *, error: bool = False) -> None:
    for finding in findings:
        typer.echo(printable(str(finding)), err=error)


def _against_register(workspace: Workspace) -> list[Finding]:
    """A log that does not begin with the founding of the register that is there is not the one that was begun then."""
    try:
        register = Register.load(workspace.zone("keys"))
        if knows_a_founding(workspace.zone("audit")):
            return []
    except (KeyUnavailable, AuditUnavailable):  # what lies there instead of a log has a finding already
        return []
    says = f"the audit log lacks the founding of the register, which has {len(register.entries)} entries"
    return [Finding("missing", says)]


# keys ------------------------------------------------------------------------------------------------------


def _checkpoint_keys(public: PublicKeys) -> list[bytes]:
    return [bytes.fromhex(key) for key in public.signers("audit_signing").values()]


def _log_keys(workspace: Workspace) -> Mapping[str, Sequence[bytes]]:
    return {CHECKPOINT_KEY: _checkpoint_keys(PublicKeys.load(workspace.zone("keys")))}


def _public_keys(path: Path) -> PublicKeys:
    try:
        content = path.read_bytes()
    except OSError:
        raise KeyUnavailable("the file of the log's public keys cannot be read") from None
    return PublicKeys.parse(parse_canonical(content))


def _witnesses(workspace: Workspace, *, in_office: bool = False) -> Mapping[str, Sequence[bytes]]:
    """The signing keys of the auditors: of those in office now, or of all that ever were."""
    try:
        enrolled = Register.load(workspace.zone("keys"))
    except KeyUnavailable:
        return {}
    moment = now()
    if in_office:
        publics = {person.signing_public for person in enrolled.in_office(AUDITOR, moment)}
    else:
        moments = {moment, *(entry.at for entry in enrolled.entries)}
        auditors = {person.person for at in moments for person in enrolled.in_office(AUDITOR, at)}
        publics = {
            key.public for key, _ in enrolled.keys(moment) if key.use == "signing" and key.holder in auditors
        }
    return {WITNESS_KEY: [bytes.fromhex(public) for public in sorted(publics) if public]}


def register(app: typer.Typer) -> None:
    app.add_typer(audit_app, name="audit")
