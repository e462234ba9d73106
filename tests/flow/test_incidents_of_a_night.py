"""A night enters what nobody raised: refused attempts, and data whose retention is over; each once."""

from __future__ import annotations

import pytest

from infra.audit import AuditLog
from infra.incidents import IncidentType, list_incidents
from infra.workspace import Workspace
from tests.support.small_deliveries import small
from tests.support.workspaces import Clock, Extracts, night, settle


@pytest.mark.usefixtures("nothing_computed")
def test_refused_attempts_and_retention_that_is_over_are_in_the_register_once(
    empty_workspace: Workspace, plain_extracts: Extracts
) -> None:
    settings = empty_workspace.root / "settings.yaml"
    settings.write_text(settings.read_text().replace("retention_days: 365", "retention_days: 30"))
    path = empty_workspace.zone("inbox") / "NIC000001_HES_OP_202199.txt"
    path.write_bytes(small(plain_extracts.one("HES_OP_202199")).bytes())
    settle(path)
    analyst = AuditLog(empty_workspace.zone("audit"), Clock(), "p-7", "intelligence_analyst")
    for _ in range(2):
        analyst.record("lake.query", "lake", purpose="", decision="refuse", reason_code="no_role")

    outcome = night(empty_workspace)
    (delivery,) = outcome.landed
    night(empty_workspace, Clock().later(days=1))

    (refused,) = list_incidents(empty_workspace.zone("incidents"))
    assert (refused.type, refused.is_near_miss) == (IncidentType.REFUSED_ACCESS, True)
    assert (refused.counts or {})["attempts"] == 2
    for days in (30, 31, 32):
        night(empty_workspace, Clock().later(days=days))
    _, overdue = list_incidents(empty_workspace.zone("incidents"))
    assert (overdue.type, overdue.object) == (IncidentType.OVERDUE_DESTRUCTION, delivery)
