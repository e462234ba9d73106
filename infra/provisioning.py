"""Provisioning: a new workspace with everything in it that a first night needs.

Folders and settings, the pipeline's keyring, and a demonstration agreement and register of persons and keys, both
marked as such; a real agreement and a register founded by real officers take their place before real data come.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from infra.audit import AuditLog, second_sink
from infra.keyring import Keyring
from infra.officers import (
    SIGNING_FILE,
    Officers,
    create_demo_officers,
    demo_person,
    load_signing_key,
    make_own_keys,
)
from infra.register import HospitalKey, Register, add_entry
from infra.register_entries import ORGANISATION, key_name
from infra.workspace import Agreement, Settings, Workspace
from schemas.errors import NotPermitted, UsageError

DEMO_AGREEMENT = Agreement(
    reference="DEMO-AGREEMENT",
    title="Demonstration agreement, for synthetic and artificial data only",
    demo=True,
    starts="2000-01-01",
    ends="2099-12-31",
    retention_days=365,
)
DEMO_DECLARATION = "DEMO-DECLARATION"


@dataclass(frozen=True)
class Provisioned:
    """A new workspace, its keyring and its demonstration officers."""

    workspace: Workspace
    keyring: Keyring
    officers: Officers


def provision(root: Path, moment: datetime, settings: Settings | None = None) -> Provisioned:
    """Make a workspace in ``root``, which is empty or not there. ``moment``: the time that keys and training bear.

    The founding of the register is the first line of the audit log. Raises
    :class:`~schemas.errors.WorkspaceError` if ``root`` is not empty, and what the storage raises.
    """
    workspace = Workspace.create(root, settings or Settings(agreement=DEMO_AGREEMENT))
    keyring = Keyring.create(workspace.zone("keys"), now=moment)
    audit = _demo_audit(workspace, moment)
    officers = create_demo_officers(root, trained_on=moment.date(), at=moment, audit=audit)
    return Provisioned(workspace, keyring, officers)


def create_demo_hospital(workspace: Workspace, organisation: str, at: datetime) -> HospitalKey:
    """Make ``officers/hospital-<ORG>/identity.age-key`` and ``signing.ed25519-key`` and enrol their public halves,
    signed by the demonstration's IAO and Guardian. A hospital that is enrolled already is left as it is.

    Raises :class:`UsageError` if the register is not a demonstration, and what
    :func:`~infra.register.add_entry` raises.
    """
    register = Register.load(workspace.zone("keys"))
    if not register.demo:
        raise UsageError("a demonstration hospital belongs into a demonstration workspace")
    try:
        return register.hospital(organisation, at)
    except NotPermitted as error:
        if error.reason_code != "recipient_not_enrolled":
            raise
    officers = workspace.zone("officers")
    if not ORGANISATION.fullmatch(organisation):  # it becomes the name of a folder
        raise UsageError("an organisation code has three to six capital letters and digits")
    keys = make_own_keys(
        officers / f"hospital-{organisation}", f"the hospital {organisation}", identity=True, demo=True
    )
    entry = register.draft(
        "hospital_enrolled",
        at,
        organisation=organisation,
        key_kind="age",
        recipient=keys.recipient,
        fingerprint=key_name(keys.recipient),
        signing_public=keys.signing.public,
        declaration=DEMO_DECLARATION,
    ).sign(*(load_signing_key(officers / role / SIGNING_FILE) for role in ("iao", "caldicott_guardian")))
    grown = add_entry(workspace.zone("keys"), entry, now=at, audit=_demo_audit(workspace, at))
    return grown.hospital(organisation, at)


def _demo_audit(workspace: Workspace, moment: datetime) -> AuditLog:
    return AuditLog(
        workspace.zone("audit"),
        lambda: moment,
        demo_person("iao"),
        "iao",
        second_sink=second_sink(workspace.settings.second_audit_sink),
    )
