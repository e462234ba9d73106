"""Provisioning: a new workspace with everything in it that a first night needs.

Folders and settings, the pipeline's keyring, and a demonstration agreement and register of officers, both marked
as such; a real agreement and real officers take their place before real data come.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from infra.keyring import Keyring
from infra.officers import Officers, create_demo_officers
from infra.workspace import Agreement, Settings, Workspace

DEMO_AGREEMENT = Agreement(
    reference="DEMO-AGREEMENT",
    title="Demonstration agreement, for synthetic and artificial data only",
    demo=True,
    starts="2000-01-01",
    ends="2099-12-31",
    retention_days=365,
)


@dataclass(frozen=True)
class Provisioned:
    """A new workspace, its keyring and its demonstration officers."""

    workspace: Workspace
    keyring: Keyring
    officers: Officers


def provision(root: Path, moment: datetime, settings: Settings | None = None) -> Provisioned:
    """Make a workspace in ``root``, which is empty or not there. ``moment``: the time that keys and training bear.

    Raises :class:`~schemas.errors.WorkspaceError` if ``root`` is not empty, and what the storage raises.
    """
    workspace = Workspace.create(root, settings or Settings(agreement=DEMO_AGREEMENT))
    keyring = Keyring.create(workspace.zone("keys"), now=moment)
    officers = create_demo_officers(root, trained_on=moment.date())
    return Provisioned(workspace, keyring, officers)
