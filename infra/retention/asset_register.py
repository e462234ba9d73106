"""The Information Asset Register, generated: every zone and every delivery, with its owner, marking and retention.

A register that people keep by hand is out of date the day after. This one is read from the policy, the signed receipts
and the lake, so it says what is there. Source of the columns: Information Security and Governance Policy, November
2016 (each asset has an owner who answers for it); a data protection record of processing asks for the same.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

from infra.linkage import SUFFIX
from infra.retention.order import Held
from infra.retention.schedule import Due
from infra.retention.vault_folders import folders_of
from infra.workspace import Workspace

PERSONAL_OF_DELIVERIES = "identifiable"
MARKING = "OFFICIAL SENSITIVE"


@dataclass(frozen=True)
class Asset:
    """One row. ``kind``: zone or delivery. ``owner``: a role. ``personal``: what it holds of persons. ``retention``: a
    day, or words. ``basis``: agreement or source of the rule. ``files``: how many; ``size_bytes``: together."""

    asset: str
    kind: str
    title: str
    owner: str
    sensitivity: str
    personal: str
    format: str
    location: str
    retention: str
    basis: str
    status: str
    files: int
    size_bytes: int


COLUMNS = tuple(field.name for field in fields(Asset))


def asset_register(held: Held, dues: Iterable[Due]) -> list[Asset]:
    """One row for each zone of the policy, then one for each delivery, in the order of ``dues``."""
    return [*_zones(held), *(_delivery(held, due) for due in dues)]


def _zones(held: Held) -> list[Asset]:
    rows = []
    for zone in held.policy.zones:
        files, size = _measure([zone.zone], held.workspace)
        rows.append(
            Asset(
                asset=zone.zone,
                kind="zone",
                title=zone.title,
                owner=zone.owner,
                sensitivity=zone.sensitivity,
                personal=zone.personal,
                format=zone.format,
                location=f"{zone.zone}/",
                retention=zone.retention,
                basis=zone.source,
                status="in use" if files else "empty",
                files=files,
                size_bytes=size,
            )
        )
    return rows


def _delivery(held: Held, due: Due) -> Asset:
    workspace, row = held.workspace, held.rows.get(due.delivery_id)
    receipt = held.receipts.get(due.delivery_id)
    places = [f"landing/{due.delivery_id}"] if receipt else []
    places += [f"vault/{folder.name}" for folder in folders_of(workspace.zone("vault"), due.delivery_id)]
    linkage = f"linkage/{due.delivery_id}{SUFFIX}"
    if (workspace.root / linkage).exists():
        places.append(linkage)
    files, size = _measure(places, workspace)
    table = row.table_name if row else ""
    agreement = receipt.agreement if receipt else row.agreement if row else ""
    rule = held.policy.rule_for(due.dataset)
    return Asset(
        asset=due.delivery_id,
        kind="delivery",
        title=f"{due.dataset}, period {due.period}",
        owner="iao",
        sensitivity=MARKING,
        personal=PERSONAL_OF_DELIVERIES,
        format=row.contract if row and row.contract else "as received",
        location="; ".join([*places, *([f"lake table {table}"] if table else [])]),
        retention=f"{due.until.isoformat()} ({due.why}{', hold' if due.held else ''})",
        basis=f"agreement {agreement}, rule {rule.code}",
        status=f"{due.status}, {due.state}",
        files=files,
        size_bytes=size,
    )


def _measure(places: Sequence[str], workspace: Workspace) -> tuple[int, int]:
    """(number of files, bytes) below the named places of the workspace."""
    sizes = []
    for place in places:
        top = workspace.root / place
        for path in [top] if top.is_file() else top.rglob("*"):
            if path.is_file() and not path.is_symlink():
                sizes.append(path.stat().st_size)
    return len(sizes), sum(sizes)


def as_rows(assets: Iterable[Asset]) -> list[dict[str, object]]:
    """The register as mappings, for JSON."""
    return [asdict(asset) for asset in assets]


def as_csv(assets: Iterable[Asset]) -> str:
    """The register as CSV with a header line, UTF-8, comma, CRLF: what a spreadsheet opens."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS)
    writer.writeheader()
    writer.writerows(as_rows(assets))
    return stream.getvalue()
