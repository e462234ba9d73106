"""Shredding: the keys of a delivery first, then what they opened.

Without its keys a container is noise, wherever a copy of it lies; so the keys go first, and it is tried that nothing
here opens any more, before a single container is deleted. A file of a key is written over before it is removed, which
reaches hard-linked copies, and no more than that on storage that writes elsewhere (flash, journals, snapshots).

Every function here does nothing the second time, so that a destruction that was killed goes on where it stopped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from infra import encrypted_parquet
from infra.commit_points import commit_point
from infra.files import storage_errors, sync_folder
from infra.keyring import Keyring
from infra.landing import CONTENT, GUARDIAN_SHARE, PIPELINE_KEY, SIRO_SHARE
from infra.landing import STAGING as LANDING_STAGING
from infra.linkage import STAGING_PREFIX as LINKAGE_STAGING
from infra.linkage import SUFFIX
from infra.officers import IDENTITY_FILE, SHARE_ROLES, ShareRole, load_identity
from infra.reprocessing.documents import REPROCESSING
from infra.retention.documents import Attempt, DeliveryEvidence
from infra.retention.evidence import share_files
from infra.retention.in_use import requests_naming
from infra.retention.vault_folders import folders_of, staging_of
from infra.review.case import KEPT_COHORT, REVIEW_KEY
from infra.review.case import ZONE as REVIEWS
from infra.sealing import SecretBytes, decrypting_reader
from infra.vault import MANIFEST_FILE, STAGING_PREFIX, part_aad, read_manifest, share_file
from infra.vault_opening import read_shares
from infra.workspace import Workspace
from schemas.errors import IntegrityError, WardwatchError

LANDING_KEYS = (PIPELINE_KEY, GUARDIAN_SHARE, SIRO_SHARE)


def shred_file(path: Path) -> bool:
    """Write over a small file and remove it. Whether it was there. Raises the storage errors."""
    with storage_errors("a file that is to be destroyed"):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            size = os.fstat(descriptor).st_size
            os.write(descriptor, os.urandom(size))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path.unlink()
    return True


def shred_keys(workspace: Workspace, delivery: DeliveryEvidence) -> int:
    """Every file that opens something of the delivery: shares of vault and landing key, the pipeline's landing key,
    the keys of case reviews, and of requests to open it again, to which an officer passed shares. Returns how many
    there were."""
    landing = workspace.zone("landing") / delivery.delivery_id
    paths = [
        *(path for folder in _vaults(workspace, delivery) for path in share_files(folder)),
        *(path for name in LANDING_KEYS for path in sorted(landing.glob(f"{name}*"))),
        *(
            workspace.root / REVIEWS / case / name
            for case in delivery.cases
            for name in (REVIEW_KEY, KEPT_COHORT)
        ),
        *(
            case.folder / REVIEW_KEY
            for case in requests_naming(workspace.root / REPROCESSING, delivery.delivery_id)
        ),
    ]
    gone = 0
    for path in paths:
        commit_point("retention.key.before")
        if shred_file(path):
            gone += 1
            with storage_errors("a folder of keys"):
                sync_folder(path.parent)
        commit_point("retention.key.after")
    return gone


def _vaults(workspace: Workspace, delivery: DeliveryEvidence) -> Iterator[Path]:
    vault = workspace.zone("vault")
    yield from folders_of(vault, delivery.delivery_id)
    yield from staging_of(vault, delivery.delivery_id)


# Trying ---------------------------------------------------------------------------------------------------


def try_to_open(
    workspace: Workspace, keyring: Keyring, delivery: DeliveryEvidence, signers: Mapping[str, str]
) -> tuple[Attempt, ...]:
    """Try everything that this machine has on what is left of the delivery.

    Tried: each private age key of the pipeline, and in a demonstration those of the officers, on the landed content
    and on the shares; each symmetric key of the pipeline on each part of the vault. Raises :class:`IntegrityError` if
    anything opens.
    """
    identities = [
        *keyring.inbox_identities,
        *keyring.landing_recovery_identities,
        *(load_identity(path) for path in sorted(workspace.zone("officers").glob(f"*/{IDENTITY_FILE}"))),
    ]
    keys = [keyring.linkage_file_key, keyring.linkage_token_key]
    keys.append(SecretBytes(bytes.fromhex(str.__str__(keyring.lake_metadata_key))))
    landed = workspace.zone("landing") / delivery.delivery_id / CONTENT
    counts = {"landed content": 0, "shares of the vault": 0, "parts of the vault": 0}
    for identity in identities:
        if landed.exists():
            counts["landed content"] += 1
            _refuse_opened(_content_opens(landed, identity))
        for folder in folders_of(workspace.zone("vault"), delivery.delivery_id):
            for role in SHARE_ROLES:
                counts["shares of the vault"] += 1
                _refuse_opened(_shares_open(folder, role, identity, signers))
    for folder in folders_of(workspace.zone("vault"), delivery.delivery_id):
        if not (folder / MANIFEST_FILE).exists():
            continue
        manifest = read_manifest(folder, signers)
        for part in manifest["parts"]:
            content = (folder / part["path"]).read_bytes() if (folder / part["path"]).exists() else b""
            for key in keys if content else ():
                counts["parts of the vault"] += 1
                aad = part_aad(manifest, part["issuer"], part["part"])
                _refuse_opened(_part_opens(content, manifest["columns"], key, aad))
    return tuple(Attempt(what=what, tried=tried) for what, tried in counts.items())


def _content_opens(path: Path, identity: str) -> bool:
    try:
        with path.open("rb") as source, decrypting_reader(source, [identity]) as reader:
            opened = bool(reader.read(1))
            reader.abandon()
        return opened
    except (WardwatchError, OSError):
        return False


def _shares_open(folder: Path, role: ShareRole, identity: str, signers: Mapping[str, str]) -> bool:
    if not (folder / share_file(role)).exists():
        return False  # gone is the best of answers; it still counts as one that was looked for
    try:
        read_shares(folder, role, identity, signers)
    except WardwatchError:
        return False
    return True


def _part_opens(content: bytes, columns: Iterable[str], key: bytes, aad: bytes) -> bool:
    names = list(columns)
    try:
        encrypted_parquet.decode(content, names, key, {name: key for name in names}, aad)
    except WardwatchError:
        return False
    return True


def _refuse_opened(opened: bool) -> None:
    if opened:
        raise IntegrityError(
            "something of a delivery still opens after its keys were destroyed",
            next_step="find the copy of the key; no certificate was made, and nothing more was deleted",
        )


# Deleting -------------------------------------------------------------------------------------------------


def delete_containers(workspace: Workspace, delivery: DeliveryEvidence) -> None:
    """The delivery's folders in vault and landing, and its linkage file. Each goes out of sight by one rename first,
    so that half a folder never lies under the name of a delivery."""
    vault = workspace.zone("vault")
    for folder in list(folders_of(vault, delivery.delivery_id)):
        _remove_folder(folder, vault / f"{STAGING_PREFIX}destroyed-{folder.name}")
    for left in list(staging_of(vault, delivery.delivery_id)):
        _remove_folder(left, left)
    landing = workspace.zone("landing")
    doomed = landing / f"{LANDING_STAGING}destroyed-{delivery.delivery_id}"
    for folder in (landing / delivery.delivery_id, doomed):
        _remove_folder(folder, doomed)
    linkage = workspace.zone("linkage")
    name = f"{delivery.delivery_id}{SUFFIX}"
    for path in (linkage / name, linkage / f"{LINKAGE_STAGING}{name}"):
        if path.exists():
            commit_point("retention.linkage.before")
            with storage_errors("the linkage store"):
                path.unlink()
                sync_folder(linkage)
            commit_point("retention.linkage.after")


def _remove_folder(folder: Path, doomed: Path) -> None:
    if not folder.exists():
        return
    commit_point("retention.container.before")
    with storage_errors(folder.parent.name):
        if folder != doomed:
            shutil.rmtree(doomed, ignore_errors=True)
            os.rename(folder, doomed)
            sync_folder(folder.parent)
        commit_point("retention.container.renamed")
        shutil.rmtree(doomed)
        sync_folder(folder.parent)
    commit_point("retention.container.after")


def left_of(workspace: Workspace, delivery_id: str) -> list[str]:
    """Where in vault, landing and linkage something of the delivery lies, as paths below the workspace."""
    vault, landing, linkage = (workspace.zone(zone) for zone in ("vault", "landing", "linkage"))
    found = [*folders_of(vault, delivery_id), *staging_of(vault, delivery_id)]
    found += [
        path
        for path in (
            landing / delivery_id,
            landing / f"{LANDING_STAGING}destroyed-{delivery_id}",
            linkage / f"{delivery_id}{SUFFIX}",
            linkage / f"{LINKAGE_STAGING}{delivery_id}{SUFFIX}",
        )
        if path.exists()
    ]
    return [path.relative_to(workspace.root).as_posix() for path in found]
