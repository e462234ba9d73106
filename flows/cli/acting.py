"""Acting: a person of the register doing what their role allows, or a recorded refusal."""

from __future__ import annotations

from collections.abc import Sequence

from flows.cli.context import audit_log, now
from infra.audit import AuditLog
from infra.register import Register
from infra.workspace import Workspace
from schemas.errors import NotPermitted


def acting_as(workspace: Workspace, roles: Sequence[str], action: str, object: str) -> AuditLog:
    """The audit log in the name of who is asking (WARDWATCH_PERSON), in that role of ``roles`` that they hold.

    In a demonstration the person of the first of ``roles`` is taken if none is named. Raises
    :class:`NotPermitted`, after the refusal of ``action`` on ``object`` was recorded.
    """
    audit = audit_log(workspace, roles[0])
    try:
        role = Register.load(workspace.zone("keys")).require_role(audit.person, roles, now())
    except NotPermitted as refusal:
        audit.record(action, object, purpose="", decision="refuse", reason_code=refusal.reason_code)
        raise
    return audit if role == roles[0] else audit_log_of(workspace, role, audit.person)


def audit_log_of(workspace: Workspace, role: str, person: str) -> AuditLog:
    """The audit log in the name of ``person`` in ``role``."""
    found = audit_log(workspace, role)
    return AuditLog(found.folder, now, person, role, second_sink=found.second_sink)
