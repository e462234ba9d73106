"""Deciding: the commands with which officers decide, the same for a case review and for opening deliveries again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import typer

from flows.cli.acting import acting_or_pipeline, audit_log_of
from flows.cli.context import audit_log, context_of, now
from infra.audit import AuditLog
from infra.audit_line import LOG
from infra.files import write_atomic
from infra.officers import IDENTITY_FILE, SIGNING_FILE, load_identity, load_signing_key
from infra.register import Register
from infra.review.approval import hand_in
from infra.review.approval import refuse as refuse_case
from infra.review.approval import withdraw as withdraw_case
from infra.review.audited import audited
from infra.review.case import Decided
from infra.review.documents import CASE_ID, Approval, Signed, parse
from infra.review.permission import Rules, rules_of
from infra.sealing import SecretText
from infra.signing import SigningKey
from infra.workspace import Workspace
from schemas.errors import IntegrityError, NotPermitted, UsageError, WardwatchError
from schemas.review_policy import Side

SIDE_OF: dict[str, Side] = {
    "caldicott_guardian": "guardian",
    "deputy_caldicott_guardian": "guardian",
    "siro": "siro",
    "deputy_siro": "siro",
}
NO_ROLE = "none"
ROLE_HELP = "Role in which this is done: " + ", ".join(SIDE_OF)
KEY_HELP = "Private age key; in a demonstration that of the role."
SIGNING_HELP = "Private signing key; in a demonstration that of the role."


def workspace_and_rules(context: typer.Context, *, quiet: bool = False) -> tuple[Workspace, Rules]:
    workspace = context_of(context).open(quiet=quiet)
    register = Register.load(workspace.zone("keys"))
    register.require_recorded(workspace.zone("audit"))
    return workspace, rules_of(workspace, register)


def key_file(workspace: Workspace, rules: Rules, role: str, given: Path | None, name: str) -> Path:
    """The file given, or that of the role in a demonstration. Nobody else's private key lies in a workspace."""
    if given is not None:
        return given
    if not rules.register.demo:
        raise UsageError(
            "say where your own key is", next_step="give --key and --signing-key; keys stay on your machine"
        )
    return workspace.zone("officers") / role / name


def signing_key_of(
    workspace: Workspace, rules: Rules, role: str, given: Path | None
) -> tuple[SigningKey, str]:
    """The signing key and the person whose key the register says it is.

    Raises :class:`NotPermitted` for a key that nobody has enrolled or that is no longer in force; the caller records
    that.
    """
    key = load_signing_key(key_file(workspace, rules, role, given, SIGNING_FILE))
    return key, rules.register.signer(key.key_id, now()).person


def deciding_key_of(
    workspace: Workspace,
    rules: Rules,
    role: str,
    given: Path | None,
    action: str,
    case: str = "",
    *,
    elsewhere: bool = False,
) -> tuple[SigningKey, str]:
    """:func:`signing_key_of`, whose refusal of ``action`` is recorded in the name of who is asking: such a key stands
    for nobody. ``elsewhere``: on a machine that has no audit log."""
    try:
        return signing_key_of(workspace, rules, role, given)
    except NotPermitted:
        if elsewhere:
            raise
        with audited(audit_log(workspace, role), action, case, ""):
            raise


def acting_on_case(workspace: Workspace, roles: Sequence[str], action: str, case: str) -> AuditLog:
    """:func:`~flows.cli.acting.acting_or_pipeline` for a case as somebody typed it."""
    known = case if CASE_ID.fullmatch(case) else ""
    return acting_or_pipeline(workspace, roles, action, known or "unknown", case=known)


def side_of(role: str) -> Side:
    if role not in SIDE_OF:
        raise UsageError("only an officer decides on a case", next_step=ROLE_HELP)
    return SIDE_OF[role]


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise UsageError("the file cannot be read") from None


# The three commands ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Officer:
    """Who decides, with the private keys. ``side``: whose share it is."""

    person: str
    side: Side
    identity: SecretText
    signing_key: SigningKey


Which = TypeVar("Which", bound=Decided)
Made = Callable[[Workspace, Rules, Which, Officer], Signed[Approval]]
"""An officer's approval of a case."""


def add_decisions(
    app: typer.Typer, case_of: Callable[[Workspace, str], Which], made: Made[Which], requester: str
) -> None:
    """Add ``approve``, ``refuse`` and ``withdraw`` to ``app``. ``requester``: the role that may withdraw."""

    @app.command("approve")
    def approve(
        context: typer.Context,
        case: str,
        role: str = typer.Option("", "--as", metavar="ROLE", help=ROLE_HELP),
        key: Path = typer.Option(None, "--key", help=KEY_HELP),
        signing_key: Path = typer.Option(None, "--signing-key", help=SIGNING_HELP),
        out: Path = typer.Option(None, "--out", help="Write the approval here instead of handing it in."),
        file: Path = typer.Option(None, "--file", help="Hand in an approval that was made elsewhere."),
    ) -> None:
        """Say yes as an officer. On the officer's own machine: --workspace BUNDLE, --key, --signing-key and --out."""
        workspace, rules = workspace_and_rules(context)
        found = case_of(workspace, case)
        if file is not None:
            _take_in(workspace, rules, found, file, role)
            return
        side = side_of(role)
        action = f"{found.action}.approve"
        # The officer's own machine has no audit log; handing in has.
        elsewhere = out is not None and not (workspace.zone("audit") / LOG).is_file()
        signer, person = deciding_key_of(
            workspace, rules, role, signing_key, action, case, elsewhere=elsewhere
        )
        identity = load_identity(key_file(workspace, rules, role, key, IDENTITY_FILE))
        officer = Officer(person, side, identity, signer)
        audit = audit_log_of(workspace, role, person)
        try:
            signed = made(workspace, rules, found, officer)
        except WardwatchError:
            if elsewhere:
                raise
            with audited(audit, action, found.case, _purpose(found)):
                raise
        if out is not None:
            write_atomic(out, signed.content)
            print(f"approval written: {out}")
            return
        hand_in(found, signed.content, rules=rules, audit=audit, now=now())
        print(f"approved for the {side} side: case {found.case}")

    @app.command("refuse")
    def refuse(
        context: typer.Context,
        case: str,
        reason: str = typer.Option(..., "--reason", metavar="TEXT"),
        role: str = typer.Option(..., "--as", metavar="ROLE", help=ROLE_HELP),
        signing_key: Path = typer.Option(None, "--signing-key", help=SIGNING_HELP),
    ) -> None:
        """Say no as an officer. One no ends the case."""
        side_of(role)
        _end(context, case, role, reason, signing_key, refuse_case, "refuse")
        print(f"refused: case {case}")

    @app.command("withdraw")
    def withdraw(
        context: typer.Context,
        case: str,
        reason: str = typer.Option(..., "--reason", metavar="TEXT"),
        signing_key: Path = typer.Option(None, "--signing-key", help=SIGNING_HELP),
    ) -> None:
        """Take an own request back."""
        _end(context, case, requester, reason, signing_key, withdraw_case, "withdraw")
        print(f"withdrawn: case {case}")

    def _end(
        context: typer.Context,
        case: str,
        role: str,
        reason: str,
        signing: Path | None,
        how: Callable[..., object],
        word: str,
    ) -> None:
        workspace, rules = workspace_and_rules(context)
        found = case_of(workspace, case)
        key, person = deciding_key_of(workspace, rules, role, signing, f"{found.action}.{word}", case)
        audit = audit_log_of(workspace, role, person)
        how(
            found,
            reason,
            person=person,
            signing_key=key,
            rules=rules,
            audit=audit,
            now=now(),
        )


def _take_in(workspace: Workspace, rules: Rules, case: Decided, file: Path, role: str) -> None:
    """Hand in an approval that was made on another machine."""
    content = read_file(file)
    try:
        audit = audit_log_of(workspace, *_signer(content, rules))
    except (NotPermitted, IntegrityError):
        # Nobody is shown to have signed it, so the line about its refusal names who hands it in.
        audit = audit_log(workspace, role or next(iter(SIDE_OF)))
    signed = hand_in(case, content, rules=rules, audit=audit, now=now())
    print(f"approval of {signed.document.side} side taken in for case {signed.document.case}")


def _signer(content: bytes, rules: Rules) -> tuple[str, str]:
    """(role, person) of who signed an approval, by key and signature, whatever it says of itself.

    The role is the one that it names if the person holds it, else another of theirs. Raises :class:`NotPermitted` or
    :class:`IntegrityError` if nobody whom the register knows signed exactly this.
    """
    signed = parse(content, Approval)
    moment = now()
    person = rules.register.signer(signed.key_id, moment).person
    keys = [key for key, _ in rules.register.keys(moment) if key.use == "signing"]
    signed.verify(next(key.public for key in keys if key.name == signed.key_id))
    held = rules.register.roles_held(person, moment)
    named = signed.document.role
    return named if named in held else next(iter(held), NO_ROLE), person


def _purpose(case: Decided) -> str:
    """The purpose of a case for the audit line; empty if its request cannot even be read."""
    try:
        return case.request().document.purpose
    except WardwatchError:
        return ""
