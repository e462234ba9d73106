"""Acting: a person of the register doing what their role allows, or a recorded refusal.

Who is asking is what WARDWATCH_PERSON says. That is a claim and no proof: it has to be a person of the register, in a
role that may, and it is written down; whatever decides about something is signed as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from flows.cli.context import audit_log, is_named, now, person
from flows.nightly import PERSON, ROLE
from infra.audit import AuditLog
from infra.purposes import load_policy, load_roles
from infra.register import Register
from infra.workspace import Workspace
from schemas.errors import NotPermitted

STARTS_RUNS = ("data_engineer",)
"""Besides the pipeline's own account, see roles.yaml."""
START = "run.start"


def acting_as(
    workspace: Workspace,
    roles: Sequence[str],
    action: str,
    object: str,
    *,
    case: str = "",
    unnamed: str = "",
) -> AuditLog:
    """The audit log in the name of who is asking (WARDWATCH_PERSON), in that role of ``roles`` that they hold.

    In a demonstration the person of ``unnamed``, by default of the first of ``roles``, is taken if none is named.
    Raises :class:`NotPermitted`, after the refusal of ``action`` on ``object`` was recorded.
    """
    audit = audit_log(workspace, unnamed or roles[0])
    register = Register.load(workspace.zone("keys"))
    try:
        if not is_named() and not register.demo:
            raise NotPermitted(
                "nobody is named as asking",
                next_step="set WARDWATCH_PERSON to your staff id",
                reason_code="unnamed",
            )
        role = register.require_role(audit.person, roles, now())
    except NotPermitted as refusal:
        audit.record(
            action, object, purpose="", case=case, decision="refuse", reason_code=refusal.reason_code
        )
        raise
    return audit if role == audit.role else audit_log_of(workspace, role, audit.person)


def acting_or_pipeline(
    workspace: Workspace, roles: Sequence[str], action: str, object: str, *, case: str = ""
) -> AuditLog:
    """:func:`acting_as` for a person that is named; the pipeline's own account, which runs unattended, if none is."""
    if person(PERSON) == PERSON:
        return audit_log_of(workspace, ROLE, PERSON)
    return acting_as(workspace, roles, action, object, case=case)


def starting(workspace: Workspace, run: str) -> None:
    """A person or the pipeline starts a ``run``, which then has the pipeline's own account; a person's start is
    recorded.

    Raises :class:`NotPermitted` after the refusal was recorded.
    """
    audit = acting_or_pipeline(workspace, STARTS_RUNS, START, run)
    if audit.person != PERSON:
        audit.record(START, run, purpose="", reason_code="started")


def staff_for(action: str, purpose: str = "") -> tuple[str, ...]:
    """The roles of staff to which ``purpose``, or any purpose if it is left out, opens ``action`` (purposes.yaml)."""
    roles = load_roles()
    found = (
        role
        for each in load_policy().purposes
        if action in each.actions and purpose in ("", each.code)
        for role in each.roles
    )
    return tuple(dict.fromkeys(role for role in found if roles[role].kind == "staff"))


def audit_log_of(workspace: Workspace, role: str, who: str) -> AuditLog:
    """The audit log in the name of ``who``, whatever WARDWATCH_PERSON says, in ``role``."""
    return audit_log(workspace, role, who)
