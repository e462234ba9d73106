"""Opening the vault: what two officers' keys together can read, and nothing less can.

This is the only module that opens a vault part, and only the case review uses it. Everything that can be
checked without a key is checked first (manifest, signature, digest of each file), then the joined keys are
compared with the manifest's digests, and only then is anything opened. Any failure gives no rows at all.

The officers need not meet: on the own machine each one opens the own file of shares (:func:`read_shares`),
takes out what one request needs (:func:`shares_for`) and passes that on, sealed to a key made for the review.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from infra import encrypted_parquet
from infra.officers import ShareRole
from infra.register_resealed import files_now, share_entry
from infra.retention.tombstones import refuse_tombstoned
from infra.sealing import SecretBytes, unseal
from infra.shares import join
from infra.signing import parse_canonical
from infra.vault import (
    FOOTER,
    MANIFEST_FILE,
    RECORD_KEY,
    key_digest,
    part_aad,
    read_listed_file,
    read_manifest,
    share_file,
)
from schemas.errors import CannotOpen, IntegrityError, UsageError

Shares = Mapping[str, Mapping[str, bytes]]
"""issuer -> name of the key (an item, ``record_key`` or ``footer``) -> one share of it."""


def read_shares(
    folder: Path, role: ShareRole, identity: str, public_keys: Mapping[str, str]
) -> dict[str, dict[str, SecretBytes]]:
    """All shares of a delivery that ``role`` holds, opened with that officer's (or the deputy's) key.

    Raises :class:`IntegrityError` if the manifest or the file of shares is not what was written, and
    :class:`CannotOpen` for another person's key.
    """
    manifest = read_manifest(folder, public_keys)
    refuse_tombstoned(folder.parent, manifest["delivery_id"], public_keys)
    if role not in manifest["shares"]:
        raise IntegrityError(f"the vault {folder.name} holds no identifiable item, hence no shares")
    sealed = read_listed_file(folder, share_entry(folder, manifest, role, public_keys))
    document = parse_canonical(unseal(sealed, identity))
    place = ("dataset", "delivery_id", "contract", "generation")
    if (
        not isinstance(document, dict)
        or document.get("kind") != "vault-shares"
        or document.get("role") != role
        or any(document.get(name) != manifest[name] for name in place)
    ):
        raise IntegrityError(f"{share_file(role)} in {folder.name} belongs to another delivery or office")
    return {
        issuer: {name: SecretBytes(bytes.fromhex(share)) for name, share in keys.items()}
        for issuer, keys in document["keys"].items()
    }


def shares_for(shares: Shares, issuer: str, columns: Sequence[str]) -> dict[str, dict[str, SecretBytes]]:
    """Only what a request for ``columns`` of ``issuer`` needs: these, the record key's and the footer's.

    Raises :class:`UsageError` if there is no such issuer or column in the delivery.
    """
    held = shares.get(issuer, {})
    names = (FOOTER, RECORD_KEY, *columns)
    if not set(names) <= set(held):
        raise UsageError("the delivery has no such issuer or item")
    return {issuer: {name: SecretBytes(held[name]) for name in names}}


def open_with_shares(
    folder: Path,
    guardian_shares: Shares,
    siro_shares: Shares,
    issuer: str,
    columns: Sequence[str],
    public_keys: Mapping[str, str],
) -> pl.DataFrame:
    """``record_key`` and ``columns`` (String) of all records of one issuer in one delivery.

    Order is that of the delivery within a part. Raises :class:`IntegrityError` if anything is not what was
    written (manifest, a file missing, extra or changed, a key that is not the key), :class:`CannotOpen` if a
    share is missing, :class:`UsageError` for an issuer or column that the delivery does not have.
    """
    manifest = read_manifest(folder, public_keys)
    refuse_tombstoned(folder.parent, manifest["delivery_id"], public_keys)
    if not columns or RECORD_KEY in columns or len(set(columns)) != len(columns):
        raise UsageError("name each item to open once; the record key comes with them")
    if issuer not in manifest["keys"] or not set(columns) <= set(manifest["columns"]):
        raise UsageError("the delivery has no such issuer or item")
    contents = _checked_parts(folder, manifest, issuer, public_keys)
    keys = _joined_keys(manifest, guardian_shares, siro_shares, issuer, (FOOTER, RECORD_KEY, *columns))
    wanted = [RECORD_KEY, *columns]
    frames = []
    for part, content in contents:
        frame = encrypted_parquet.decode(
            content,
            wanted,
            keys[FOOTER],
            {name: keys[name] for name in wanted},
            part_aad(manifest, issuer, part["part"]),
        )
        if frame.height != part["rows"]:
            raise IntegrityError(f"{folder.name}/{part['path']} has another number of rows than was written")
        frames.append(frame)
    return pl.concat(frames)


def open_with_officers(
    folder: Path,
    guardian_identity: str,
    siro_identity: str,
    issuer: str,
    columns: Sequence[str],
    public_keys: Mapping[str, str],
) -> pl.DataFrame:
    """:func:`open_with_shares` with both officers' private keys at hand. Same result, same errors."""
    return open_with_shares(
        folder,
        shares_for(read_shares(folder, "guardian", guardian_identity, public_keys), issuer, columns),
        shares_for(read_shares(folder, "siro", siro_identity, public_keys), issuer, columns),
        issuer,
        columns,
        public_keys,
    )


def _checked_parts(
    folder: Path, manifest: Mapping[str, Any], issuer: str, public_keys: Mapping[str, str]
) -> list[tuple[Mapping[str, Any], bytes]]:
    """The parts of one issuer with their checked bytes; refuses a folder with a file too many or too few."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    listed, records = files_now(folder, manifest, public_keys)
    if found != {MANIFEST_FILE, *records, *listed}:
        raise IntegrityError(
            f"the vault {folder.name} does not hold exactly the files that were written",
            next_step="run `wardwatch vault verify`",
        )
    parts = [part for part in manifest["parts"] if part["issuer"] == issuer]
    return [(part, read_listed_file(folder, part)) for part in parts]


def _joined_keys(
    manifest: Mapping[str, Any],
    guardian_shares: Shares,
    siro_shares: Shares,
    issuer: str,
    names: Sequence[str],
) -> dict[str, SecretBytes]:
    keys = {}
    for name in names:
        first = guardian_shares.get(issuer, {}).get(name)
        second = siro_shares.get(issuer, {}).get(name)
        if first is None or second is None:
            raise CannotOpen("a share of one of the two officers is missing")
        key = join(first, second)
        if key_digest(key) != manifest["keys"][issuer][name]:
            raise IntegrityError("two shares do not give the key that the manifest names")
        keys[name] = key
    return keys
