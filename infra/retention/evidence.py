"""Evidence: what there was of a delivery, as names and digests, gathered before the first byte goes.

A certificate that was written from what is left could say nothing. It holds no key and no value: the digest of a
random key says nothing about it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from infra.lake import Lake
from infra.landing import GUARDIAN_SHARE, PIPELINE_KEY, RECEIPT, SIRO_SHARE
from infra.linkage import SUFFIX
from infra.receipts import Receipt
from infra.retention.documents import (
    DeliveryEvidence,
    LakeEvidence,
    LandingEvidence,
    OrderedDelivery,
    VaultEvidence,
)
from infra.retention.in_use import cases_naming
from infra.retention.lake_removal import evidence_of, table_of
from infra.retention.vault_folders import folders_of
from infra.review.case import KEPT_COHORT, REVIEW_KEY
from infra.review.case import ZONE as REVIEWS
from infra.vault import MANIFEST_FILE, read_manifest
from infra.workspace import Workspace
from schemas.errors import IntegrityError, UsageError

HOLDERS = {PIPELINE_KEY: "pipeline", GUARDIAN_SHARE: "guardian", SIRO_SHARE: "siro"}
_BLOCK = 1 << 20


def gather(
    workspace: Workspace,
    delivery: OrderedDelivery,
    receipt: Receipt | None,
    lake: Lake | None,
    signers: Mapping[str, str],
) -> DeliveryEvidence:
    """What there is of ``delivery`` now. ``lake``: open, or None where the workspace has none.

    Raises :class:`IntegrityError` for a vault or landing folder that is not what was written.
    """
    return DeliveryEvidence(
        delivery_id=delivery.delivery_id,
        content_sha256=delivery.content_sha256,
        landing=_landing(workspace, receipt),
        vault=tuple(
            _vault(folder, signers) for folder in folders_of(workspace.zone("vault"), delivery.delivery_id)
        ),
        linkage_sha256=_linkage(workspace, delivery.delivery_id),
        lake=_lake(lake, delivery),
        cases=_cases(workspace, delivery.delivery_id),
    )


def _landing(workspace: Workspace, receipt: Receipt | None) -> LandingEvidence | None:
    if receipt is None:
        return None
    folder = workspace.zone("landing") / receipt.delivery_id
    return LandingEvidence(
        receipt_sha256=sha256_of(folder / RECEIPT),
        container_sha256=receipt.sealed.sha256,
        container_bytes=receipt.sealed.bytes,
        key=receipt.landing_fingerprint,
        holders=tuple(who for name, who in HOLDERS.items() if (folder / name).exists()),
    )


def _vault(folder: Path, signers: Mapping[str, str]) -> VaultEvidence:
    manifest = read_manifest(folder, signers)
    return VaultEvidence(
        folder=folder.name,
        manifest_sha256=sha256_of(folder / MANIFEST_FILE),
        parts={part["path"]: part["sha256"] for part in manifest["parts"]},
        # As they are now: at a change of office they were sealed anew, see infra.register_resealing.
        shares={path.name: sha256_of(path) for path in share_files(folder)},
        keys=manifest["keys"],
    )


def share_files(folder: Path) -> list[Path]:
    """Every file of shares in a vault folder: those that were written, and those that were sealed anew."""
    return sorted(folder.glob("shares-*.age*"))


def _linkage(workspace: Workspace, delivery_id: str) -> str | None:
    path = workspace.zone("linkage") / f"{delivery_id}{SUFFIX}"
    return sha256_of(path) if path.exists() else None


def _lake(lake: Lake | None, delivery: OrderedDelivery) -> LakeEvidence:
    if lake is None:
        return LakeEvidence(tables=(), files={})
    try:
        table = table_of(delivery.dataset, delivery.period)
    except UsageError:
        raise IntegrityError("an order names a period that is none") from None
    return evidence_of(lake, delivery.delivery_id, table)


def _cases(workspace: Workspace, delivery_id: str) -> tuple[str, ...]:
    """The cases whose review key could still open shares of this delivery that an officer passed on."""
    reviews = workspace.root / REVIEWS
    return tuple(
        case.case
        for case in cases_naming(reviews, delivery_id)
        if any((reviews / case.case / name).exists() for name in (REVIEW_KEY, KEPT_COHORT))
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex. Raises :class:`IntegrityError` if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError:
        raise IntegrityError(f"{path.name} of a delivery is missing or cannot be read") from None
    return digest.hexdigest()
