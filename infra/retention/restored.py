"""Restored: what a backup brought back, or took back, noticed before anything is written.

Three things are compared, none of which is put back together with another by accident:

* the tombstones, with what lies in vault, landing, linkage and lake: something destroyed came back;
* the lake's delivery rows, with the manifest of each vault folder: the vault is of another day than the lake;
* the audit log, with the lake's rows: the lake (and perhaps the vault with it) is of an earlier day than the log.

Whoever puts back all of it, the audit log included, puts back an earlier state of the whole workspace. The second
sink of the audit log and the auditor's countersigned checkpoint notice that, nothing in this folder can.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from infra.audit import AuditLog
from infra.incidents import IncidentType, list_incidents, raise_incident
from infra.keyring import Keyring
from infra.lake import CommittedDelivery
from infra.landing import Landing
from infra.register import Register
from infra.retention.destruction import Destruction
from infra.retention.log import done
from infra.retention.records import Records
from infra.retention.shredding import left_of
from infra.retention.tombstones import Tombstones
from infra.vault import MANIFEST_FILE, folder_name
from infra.workspace import Workspace
from schemas.errors import IntegrityError

# A row is written before its line, so a killed run may leave a row without one, and never a line without a row.
_WRITTEN = "lake.write"


@dataclass(frozen=True)
class Restored:
    """One thing that is not as the newest record says. ``delivery_id``: which; ``what``: a sentence."""

    delivery_id: str
    what: str
    destroyed: bool = False
    """Whether it was destroyed, and `retention destroy --again` puts it right."""


def came_back(workspace: Workspace, tombstones: Iterable[str]) -> list[Restored]:
    """What lies in vault, landing or linkage of a destroyed delivery. Looks at names alone, so it costs nothing."""
    return [
        Restored(delivery_id, f"{place} is here again although it was destroyed", destroyed=True)
        for delivery_id in tombstones
        for place in left_of(workspace, delivery_id)
    ]


def rows_that_came_back(tombstones: Iterable[str], rows: Sequence[CommittedDelivery]) -> list[Restored]:
    """Delivery rows of destroyed deliveries."""
    there = {row.delivery_id for row in rows}
    return [
        Restored(delivery_id, "the lake has it again although it was destroyed", destroyed=True)
        for delivery_id in tombstones
        if delivery_id in there
    ]


def rolled_back(
    workspace: Workspace, rows: Sequence[CommittedDelivery], tombstones: Iterable[str]
) -> list[Restored]:
    """Vault folders, and a lake, that are of another day than the newest record of them.

    Compared: each row's ``vault_manifest_sha256`` with the manifest that lies in the vault; the deliveries that the
    audit log says were written with the rows; and, where a line of the log states it (digest ``vault_manifest``), the
    newest stated manifest with that of the row.
    """
    gone = set(tombstones)
    found = [
        Restored(row.delivery_id, "its vault is missing or another one than was committed last")
        for row in rows
        if row.generation > 0 and row.delivery_id not in gone and not _is_committed(workspace, row)
    ]
    written = _written(workspace.zone("audit"))
    manifests = {row.delivery_id: row.vault_manifest_sha256 for row in rows}
    for delivery_id, manifest in written.items():
        if delivery_id in gone:
            continue
        if delivery_id not in manifests:
            found.append(Restored(delivery_id, "the audit log says that it was committed; the lake lacks it"))
        elif manifest and manifests[delivery_id] != manifest:
            found.append(Restored(delivery_id, "the lake knows an earlier vault of it than the audit log"))
    return found


def _is_committed(workspace: Workspace, row: CommittedDelivery) -> bool:
    path = workspace.zone("vault") / folder_name(row.delivery_id, row.generation) / MANIFEST_FILE
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == row.vault_manifest_sha256
    except OSError:
        return False


def _written(audit_folder: Path) -> dict[str, str]:
    """Delivery id -> digest of the vault manifest that the newest line about its writing states, or ""."""
    found: dict[str, str] = {}
    for event in done(audit_folder, _WRITTEN):
        found[event.object] = event.digests.get("vault_manifest", found.get(event.object, ""))
    return found


# At the start of whatever writes --------------------------------------------------------------------------


def at_start(
    workspace: Workspace,
    keyring: Keyring,
    landing: Landing,
    audit: AuditLog,
    clock: Callable[[], datetime],
    *,
    say: Callable[[str], None] = lambda _line: None,
) -> Tombstones:
    """Before the lake is opened: complete what a killed destruction began, and refuse what a backup brought back.

    The caller holds the writer lock. Returns the tombstones, for :func:`check_lake`. Raises :class:`IntegrityError`,
    after an incident, if something of a destroyed delivery is here again or the list of the destroyed was cut.
    """
    records = Records.of(workspace)
    signers = keyring.signers("manifest_signing")
    if not records.root.is_dir():
        # Without the folder there is no order to complete; that it was taken away the audit log would know.
        return Tombstones.load(records, signers, audit.folder)
    register = Register.load(workspace.zone("keys"))
    Destruction.of(workspace, keyring, register, landing, audit, clock, say=say).complete_pending()
    tombstones = Tombstones.load(records, signers, audit.folder)
    refuse(came_back(workspace, tombstones), workspace, audit, clock())
    return tombstones


def check_lake(
    workspace: Workspace,
    rows: Sequence[CommittedDelivery],
    tombstones: Tombstones,
    audit: AuditLog,
    now: datetime,
) -> None:
    """With the lake open, before anything is swept: refuse a lake or a vault that a backup brought back.

    Raises :class:`IntegrityError`, after an incident.
    """
    found = [*rows_that_came_back(tombstones, rows), *rolled_back(workspace, rows, tombstones)]
    refuse(found, workspace, audit, now)


def refuse(found: Sequence[Restored], workspace: Workspace, audit: AuditLog, now: datetime) -> None:
    """Raise :class:`IntegrityError` if there is anything, with one open incident for each delivery."""
    if not found:
        return
    folder = workspace.zone("incidents")
    known = {
        incident.object
        for incident in list_incidents(folder, only_open=True)
        if incident.type == IncidentType.INTEGRITY_FAILURE
    }
    for delivery_id in dict.fromkeys(each.delivery_id for each in found):
        if delivery_id not in known:
            raise_incident(folder, IncidentType.INTEGRITY_FAILURE, delivery_id, audit=audit, now=now)
    first = next((each for each in found if each.destroyed), found[0])
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    raise IntegrityError(
        f"{first.delivery_id}: {first.what}{more}: a backup was put back",
        next_step="run `wardwatch retention destroy --again`, and remove it from the backup"
        if first.destroyed
        else "put back vault, landing, linkage and lake of one and the same day, the newest there is; "
        "then `wardwatch vault verify`",
    )


def destroyed_and_here(
    workspace: Workspace, tombstones: Tombstones, rows: Sequence[CommittedDelivery]
) -> list[str]:
    """The destroyed deliveries of which something is here again, for `retention destroy --again`."""
    found = [*came_back(workspace, tombstones), *rows_that_came_back(tombstones, rows)]
    return list(dict.fromkeys(each.delivery_id for each in found))
