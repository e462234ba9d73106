"""The vault folders of a delivery: one for each generation, and the folders that a killed write left."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from infra.vault import MANIFEST_FILE, STAGING_PREFIX, read_manifest


def folders_of(vault: Path, delivery_id: str) -> Iterator[Path]:
    """Every folder of the delivery in place, the first generation first."""
    if vault.is_dir():
        for path in sorted(vault.iterdir(), key=lambda path: (len(path.name), path.name)):
            name, _, generation = path.name.partition(".g")
            if name == delivery_id and (not generation or generation.isdigit()) and path.is_dir():
                yield path


def staging_of(vault: Path, delivery_id: str) -> Iterator[Path]:
    """Every folder that a killed write, or a killed removal, left of the delivery."""
    if vault.is_dir():
        for path in sorted(vault.glob(f"{STAGING_PREFIX}*")):
            if delivery_id in path.name:
                yield path


def vault_folders(vault: Path, delivery_id: str, signers: Mapping[str, str]) -> dict[str, str]:
    """Folder name -> SHA-256 of its manifest file, verified. Raises :class:`~schemas.errors.IntegrityError`."""
    found = {}
    for folder in folders_of(vault, delivery_id):
        read_manifest(folder, signers)
        found[folder.name] = hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()
    return found
