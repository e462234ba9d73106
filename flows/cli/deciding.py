"""Deciding: what the commands of two officers' decisions share: their keys, their side, and handing in, refusing and
withdrawing, which are the same for a case review and for opening deliveries again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from flows.cli.context import audit_log, context_of, now
from infra.audit import AuditLog
from infra.files import write_atomic
from infra.officers import SIGNING_FILE, load_signing_key
from infra.register import Register
from infra.review.case import Decided
from infra.review.documents import Approval, Signed
from infra.review.permission import Rules, rules_of
from infra.signing import SigningKey
from infra.workspace import Workspace
from schemas.errors import NotPermitted, UsageError
from schemas.review_policy import Side

SIDE_OF: dict[str, Side] = {
    "caldicott_guardian": "guardian",
    "deputy_caldicott_guardian": "guardian",
    "siro": "siro",
    "deputy_siro": "siro",
}
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
    """The signing key and the person whose key the register says it is."""
    key = load_signing_key(key_file(workspace, rules, role, given, SIGNING_FILE))
    return key, rules.register.signer(key.key_id, now()).person


def audit_of(workspace: Workspace, role: str, person: str) -> AuditLog:
    """The log, with the person that the signing key stands for: a name in the environment proves nothing."""
    log = audit_log(workspace, role)
    return AuditLog(workspace.zone("audit"), now, person, role, second_sink=log.second_sink)


def side_of(role: str) -> Side:
    if role not in SIDE_OF:
        raise UsageError("only an officer decides on a case", next_step=ROLE_HELP)
    return SIDE_OF[role]


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise UsageError("the file cannot be read") from None


# What an officer or the requester does --------------------------------------------------------------------


def take_in(workspace: Workspace, rules: Rules, case: Decided, file: Path) -> None:
    """Hand in an approval that was made on another machine."""
    from infra.review.approval import hand_in
    from infra.review.documents import parse

    content = read_file(file)
    said = parse(content, Approval).document
    audit = audit_of(workspace, said.role, said.person)
    signed = hand_in(case, content, rules=rules, audit=audit, now=now())
    print(f"approval of {said.side} side taken in for case {signed.document.case}")


def give(
    workspace: Workspace,
    rules: Rules,
    case: Decided,
    role: str,
    person: str,
    make: Callable[[], Signed[Approval]],
    out: Path | None,
) -> None:
    """Make an approval, and hand it in or write it to ``out``."""
    from infra.review.approval import hand_in
    from infra.review.audited import audited

    if out is not None:  # the officer's own machine has no audit log; handing in has
        write_atomic(out, make().content)
        print(f"approval written: {out}")
        return
    audit = audit_of(workspace, role, person)
    try:
        signed = make()
    except NotPermitted:
        with audited(audit, f"{case.action}.approve", case.case, case.request().document.purpose):
            raise
    hand_in(case, signed.content, rules=rules, audit=audit, now=now())
    print(f"approved for the {SIDE_OF[role]} side: case {case.case}")


def say_no(
    workspace: Workspace, rules: Rules, case: Decided, role: str, reason: str, signing: Path | None
) -> None:
    """Refuse as an officer. One no ends the case."""
    from infra.review.approval import refuse

    side_of(role)
    key, person = signing_key_of(workspace, rules, role, signing)
    audit = audit_of(workspace, role, person)
    refuse(case, reason, person=person, signing_key=key, rules=rules, audit=audit, now=now())
    print(f"refused: case {case.case}")


def take_back(
    workspace: Workspace, rules: Rules, case: Decided, role: str, reason: str, signing: Path | None
) -> None:
    """Withdraw an own request."""
    from infra.review.approval import withdraw

    key, person = signing_key_of(workspace, rules, role, signing)
    audit = audit_of(workspace, role, person)
    withdraw(case, reason, person=person, signing_key=key, rules=rules, audit=audit, now=now())
    print(f"withdrawn: case {case.case}")
