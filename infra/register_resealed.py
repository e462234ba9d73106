"""The resealed share: which file of a vault holds an office's shares after a change of office.

A vault's signed manifest names the two files of shares that the pipeline wrote. When an office changes hands the
shares are sealed anew, to other recipients, into ``shares-<office>-0002.age``, and a record beside it,
``resealed-<office>-0002.json``, takes the place of the manifest's entry: signed with the pipeline's manifest key once
it had verified who resealed, and bound to this manifest and to the file that it replaces. The record is the commit
mark: a file of shares without one does not count. What the shares say stays under the manifest's digests of the
joined keys, whoever sealed them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.signing import SigningKey, canonical_json, parse_canonical, verify
from schemas.errors import IntegrityError

PURPOSE = "vault-reseal"
_RECORD = re.compile(r"resealed-(guardian|siro)-([0-9]{4})\.json")


def share_name(share: str, number: int) -> str:
    return f"shares-{share}-{number:04d}.age"


def record_name(share: str, number: int) -> str:
    return f"resealed-{share}-{number:04d}.json"


def records(folder: Path, share: str) -> list[int]:
    """The numbers of the records for ``share`` in a vault folder, ascending, without looking into them."""
    fitting = (_RECORD.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(found[2]) for found in fitting if found and found[1] == share)


def make_record(
    manifest: Mapping[str, Any],
    share: str,
    number: int,
    before: Mapping[str, Any],
    content: bytes,
    recipients: list[str],
    person: str,
    at: str,
    key: SigningKey,
) -> bytes:
    """The signed record that ``content`` holds the shares from now on, in the place of the entry ``before``."""
    record = {
        "v": 1,
        "kind": "vault-reseal",
        "manifest": _digest(manifest),
        "share": share,
        "number": number,
        "replaces": before["sha256"],
        "person": person,
        "at": at,
        "entry": {
            "path": share_name(share, number),
            "recipients": recipients,
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        },
    }
    return canonical_json({"record": record, "signature": key.sign(record, PURPOSE)})


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(dict(manifest))).hexdigest()


def share_entry(
    folder: Path, manifest: Mapping[str, Any], share: str, public_keys: Mapping[str, str]
) -> dict[str, Any]:
    """The entry (path, recipients, sha256, size) of the file that holds the shares of ``share`` now.

    ``manifest``: verified. ``public_keys``: the accepted manifest signers. The whole chain of records is verified,
    from the manifest's own entry on; raises :class:`IntegrityError` if one is missing, changed or of another vault.
    """
    entry: dict[str, Any] = dict(manifest["shares"][share])
    for place, number in enumerate(records(folder, share), start=2):
        name = f"{folder.name}/{record_name(share, number)}"
        try:
            document = parse_canonical((folder / record_name(share, number)).read_bytes())
        except OSError:
            raise IntegrityError(f"{name} cannot be read") from None
        if not isinstance(document, dict) or set(document) != {"record", "signature"}:
            raise IntegrityError(f"{name} is not a signed record")
        record, signature = document["record"], document["signature"]
        if not isinstance(record, dict) or not isinstance(signature, dict):
            raise IntegrityError(f"{name} is not a signed record")
        verify(record, signature, PURPOSE, public_keys)
        expected = {
            "v": 1,
            "kind": "vault-reseal",
            "manifest": _digest(manifest),
            "share": share,
            "number": place,
            "replaces": entry["sha256"],
        }
        if number != place or any(record.get(field) != value for field, value in expected.items()):
            raise IntegrityError(f"{name} does not follow on the shares before it")
        entry = record["entry"]
    return entry


def files_now(
    folder: Path, manifest: Mapping[str, Any], public_keys: Mapping[str, str]
) -> tuple[dict[str, Mapping[str, Any]], set[str]]:
    """What a vault folder holds besides its manifest: path -> entry (sha256, size) of every part and file of shares
    that counts, and the paths of the records. Raises as :func:`share_entry`."""
    shares = [share_entry(folder, manifest, share, public_keys) for share in manifest["shares"]]
    names = {record_name(share, number) for share in manifest["shares"] for number in records(folder, share)}
    return {entry["path"]: entry for entry in (*manifest["parts"], *shares)}, names
