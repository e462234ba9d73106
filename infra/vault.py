"""The vault: the identifiable items of each delivery, which the pipeline writes and can never read.

One folder per delivery holds encrypted Parquet parts by issuing hospital, two sealed files of shares and a
signed manifest::

    vault/<delivery_id>/manifest.json
                        shares-guardian.age   first shares of all keys, to the Caldicott Guardian and deputy
                        shares-siro.age       second shares, to the SIRO and deputy
                        RXX/part-0001.parquet

Each column of each issuer, the record key included, has a random 256-bit key of its own, so "only this
item, only this hospital, only this delivery" is a matter of which keys are released and not of a WHERE
clause. When the delivery ends each key is split in two, and both halves leave in a form that this process
cannot open. The footer and record-key keys are released with every request: they alone open no item.

The manifest lists each part with its digest, and a digest of each key. A reader checks the signature, the
digests of the files and the digests of the joined keys before it opens anything; the place of a part
(dataset, delivery, issuer, contract, generation, part) is bound into its ciphertext as well.

The folder appears by one rename. It counts only if the lake holds the delivery's row: :func:`sweep` removes
the others. There is no function here that opens a part; that is :mod:`infra.vault_opening`, with two
officers' keys.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl

from infra import encrypted_parquet
from infra.commit_points import commit_point
from infra.files import make_folder, open_private, storage_errors, sync_folder
from infra.officers import SHARE_ROLES, Officers
from infra.register_resealed import files_now
from infra.sealing import seal
from infra.shares import split
from infra.signing import SigningKey, canonical_json, parse_canonical
from infra.signing import verify as verify_signature
from schemas.contract import Item
from schemas.errors import IntegrityError, UsageError, WardwatchError, WorkspaceError

MANIFEST_FILE = "manifest.json"
MANIFEST_PURPOSE = "vault-manifest"
STAGING_PREFIX = ".staging-"
FOOTER = "footer"
RECORD_KEY = "record_key"
ISSUER = "issuer"

# Rows wait in memory until an issuer's part is worth a file of its own. A quarter of a gigabyte keeps a
# delivery of one and a half million records to one part per issuer, well within the 2 GiB of the whole run.
BUFFER_BYTES = 256 * 1024 * 1024

# An organisation code has three to six characters. Whatever else stands in an issuer column must not become a
# folder name, for it may be a value that slipped from another column (an NHS number has ten digits, a date
# eight). Nobody can be the recipient of such numbers, so these records share one folder.
ORGANISATION_CODE = re.compile(r"[A-Z0-9]{3,6}")
NO_ISSUER = "_missing"
NO_ORGANISATION = "_unrecognised"

_DELIVERY_ID = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_ITEMS = frozenset(item.value for item in Item)


def issuer_folder(issuer: str | None) -> str:
    """The folder of an issuer: its organisation code, or one of two names that carry nothing of the value."""
    code = (issuer or "").strip().upper()
    if not code:
        return NO_ISSUER
    return code if ORGANISATION_CODE.fullmatch(code) else NO_ORGANISATION


def folder_name(delivery_id: str, generation: int = 1) -> str:
    """The folder of a delivery's vault. A further generation (the contract of an item changed) stands beside
    the first, so that a kill before the commit leaves the committed one untouched."""
    return delivery_id if generation == 1 else f"{delivery_id}.g{generation}"


def share_file(role: str) -> str:
    return f"shares-{role}.age"


def key_digest(key: bytes) -> str:
    """What the manifest says of a key: random 256 bits cannot be found from their SHA-256.

    It also settles which key is meant: AES-GCM alone would let two keys "open" one ciphertext.
    """
    return hashlib.sha256(b"wardwatch vault key\0" + key).hexdigest()


def part_aad(manifest: Mapping[str, Any], issuer: str, part: int) -> bytes:
    """Where a part belongs, as additional authenticated data that is not stored in the file."""
    return canonical_json(
        {
            "zone": "vault",
            "dataset": manifest["dataset"],
            "delivery_id": manifest["delivery_id"],
            "issuer": issuer,
            "contract": manifest["contract"],
            "generation": manifest["generation"],
            "part": part,
        }
    )


# Writing ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VaultSummary:
    """What was written, without a value: for the run manifest and the delivery row."""

    delivery_id: str
    folder: Path
    rows: int
    parts: int
    issuers: int
    items: tuple[str, ...]
    manifest_sha256: str


class VaultWriter:
    """Writes the vault of one delivery. Used in a ``with``, it leaves nothing behind unless it finished.

    ``root`` is the workspace's ``vault/``. ``items`` maps a column of the frames to the identifiable item
    that it holds; left out, the columns are named as the items are. ``buffer_bytes`` bounds the rows in
    memory.

    Raises :class:`WorkspaceError` if the delivery has a vault of this generation already, and
    :class:`UsageError` for a delivery id that is no folder name.
    """

    def __init__(
        self,
        root: Path,
        *,
        delivery_id: str,
        dataset: str,
        contract_id: str,
        generation: int,
        officers: Officers,
        signing_key: SigningKey,
        items: Mapping[str, str] | None = None,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        if not _DELIVERY_ID.fullmatch(delivery_id) or generation < 1:
            raise UsageError("a vault needs a delivery id in lower case and a generation from 1")
        self._officers = officers
        self._signing_key = signing_key
        self._items = items
        self._buffer_bytes = buffer_bytes
        self._place = {
            "dataset": dataset,
            "delivery_id": delivery_id,
            "contract": contract_id,
            "generation": generation,
        }
        self._root = make_folder(root)
        self._target = root / folder_name(delivery_id, generation)
        self._staging = root / f"{STAGING_PREFIX}{self._target.name}"
        if self._target.exists():
            raise WorkspaceError(
                f"delivery {delivery_id} has a vault already (generation {generation})",
                next_step="if the delivery was never committed, sweep the vault first",
            )
        # One process writes at a time (the workspace lock), so what stands here a killed run left.
        if self._staging.exists():
            with storage_errors("the vault"):
                shutil.rmtree(self._staging)
        make_folder(self._staging)
        self._columns: tuple[str, ...] | None = None
        self._waiting: dict[str, list[pl.DataFrame]] = {}
        self._waiting_bytes: dict[str, int] = {}
        self._keys: dict[str, dict[str, bytes]] = {}
        self._parts: list[dict[str, Any]] = []
        self._part_numbers: dict[str, int] = {}
        self._finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            self.abort()

    # Taking rows

    def add(self, frame: pl.DataFrame) -> None:
        """Take a chunk of rows: ``record_key``, ``issuer``, then the identifiable columns, all String.

        Nulls are kept. The rows are written when enough of an issuer's have come together. Raises
        :class:`UsageError` for other columns or types, and for columns that differ from the first chunk's.
        """
        self._check(frame)
        if len(frame.columns) == 2:  # the delivery has no identifiable item
            return
        # One partition per chunk is cheap (0.1 s for a million rows); the values themselves are not touched.
        for (issuer,), rows in frame.partition_by(
            ISSUER, maintain_order=True, include_key=False, as_dict=True
        ).items():
            folder = issuer_folder(issuer if issuer is None else str(issuer))
            self._waiting.setdefault(folder, []).append(rows)
            # Polars counts the letters alone; a text cell of a frame takes 16 bytes besides.
            size = rows.estimated_size() + 16 * rows.height * rows.width
            self._waiting_bytes[folder] = self._waiting_bytes.get(folder, 0) + int(size)
        if sum(self._waiting_bytes.values()) > self._buffer_bytes:
            self._write_largest()

    def _check(self, frame: pl.DataFrame) -> None:
        columns = tuple(frame.columns)
        if columns[:2] != (RECORD_KEY, ISSUER) or (self._columns or columns) != columns:
            raise UsageError("a vault frame holds record_key, issuer and the same items in every chunk")
        if self._items is None:
            self._items = {column: column for column in columns[2:]}
        reserved = {FOOTER, RECORD_KEY} & set(columns[2:])
        if reserved or any(self._items.get(column) not in _ITEMS for column in columns[2:]):
            raise UsageError("the vault takes the seven identifiable items and nothing else")
        if any(dtype != pl.String for dtype in frame.dtypes):
            raise UsageError("the vault takes values as they were delivered, as text")
        self._columns = columns

    def _write_largest(self) -> None:
        """Write the issuers with the most rows until half the buffer is free: few, large parts."""
        for issuer in sorted(self._waiting_bytes, key=lambda name: (-self._waiting_bytes[name], name)):
            if sum(self._waiting_bytes.values()) <= self._buffer_bytes // 2:
                break
            self._write_part(issuer)

    def _keys_of(self, issuer: str) -> dict[str, bytes]:
        if issuer not in self._keys:
            assert self._columns is not None
            names = (FOOTER, RECORD_KEY, *self._columns[2:])
            self._keys[issuer] = {name: os.urandom(encrypted_parquet.KEY_BYTES) for name in names}
        return self._keys[issuer]

    def _write_part(self, issuer: str) -> None:
        frame = pl.concat(self._waiting.pop(issuer), rechunk=True)
        del self._waiting_bytes[issuer]
        number = self._part_numbers.get(issuer, 0) + 1
        self._part_numbers[issuer] = number
        keys = self._keys_of(issuer)
        content = encrypted_parquet.encode(
            frame,
            keys[FOOTER],
            {name: key for name, key in keys.items() if name != FOOTER},
            part_aad(self._place, issuer, number),
        )
        path = make_folder(self._staging / issuer) / f"part-{number:04d}.parquet"
        self._write(path, content)
        self._parts.append(
            {
                "issuer": issuer,
                "part": number,
                "path": f"{issuer}/{path.name}",
                "rows": frame.height,
                "sha256": hashlib.sha256(content).hexdigest(),
                "size": len(content),
            }
        )

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        """A private file inside the staging folder; :meth:`finish` makes all of them durable together."""
        with storage_errors("the vault"), os.fdopen(open_private(path), "wb") as stream:
            stream.write(content)

    # Ending

    def write_waiting(self) -> None:
        """Write what waits, and put nothing in place yet; by whoever added the rows, after the last of them."""
        for issuer in sorted(self._waiting):
            self._write_part(issuer)

    def finish(self) -> VaultSummary:
        """Write what waits, the shares and the manifest, put the folder in place and forget the keys.

        Raises :class:`StorageFull` and :class:`StorageFailed`; the folder is in place as a whole or not at
        all.
        """
        self.write_waiting()
        manifest = {
            "v": 1,
            "kind": "vault-manifest",
            **self._place,
            "columns": [RECORD_KEY, *(self._columns or ())[2:]] if self._parts else [],
            "items": {name: (self._items or {})[name] for name in (self._columns or ())[2:]},
            "rows": sum(part["rows"] for part in self._parts),
            "parts": sorted(self._parts, key=lambda part: part["path"]),
            "keys": {
                issuer: {name: key_digest(key) for name, key in keys.items()}
                for issuer, keys in self._keys.items()
            },
            "shares": self._write_shares() if self._parts else {},
        }
        signed = canonical_json(
            {"manifest": manifest, "signature": self._signing_key.sign(manifest, MANIFEST_PURPOSE)}
        )
        self._write(self._staging / MANIFEST_FILE, signed)
        self._sync()
        commit_point("vault.write.before")
        with storage_errors("the vault"):
            os.rename(self._staging, self._target)
            sync_folder(self._root)
        commit_point("vault.write.after")
        summary = VaultSummary(
            delivery_id=str(self._place["delivery_id"]),
            folder=self._target,
            rows=manifest["rows"],
            parts=len(self._parts),
            issuers=len(self._keys),
            items=tuple(manifest["items"].values()),
            manifest_sha256=hashlib.sha256(signed).hexdigest(),
        )
        self._finished = True
        self._forget()
        return summary

    def _write_shares(self) -> dict[str, Any]:
        """Both files of shares. Each holds one share of every key, and opens for one office."""
        shares: dict[str, dict[str, dict[str, str]]] = {role: {} for role in SHARE_ROLES}
        for issuer, keys in self._keys.items():
            for name, key in keys.items():
                for role, share in zip(SHARE_ROLES, split(key), strict=True):
                    shares[role].setdefault(issuer, {})[name] = share.hex()
        written: dict[str, Any] = {}
        for role in SHARE_ROLES:
            document = canonical_json(
                {"v": 1, "kind": "vault-shares", **self._place, "role": role, "keys": shares[role]}
            )
            recipients = self._officers.recipients(role)
            content = seal(document, recipients)
            self._write(self._staging / share_file(role), content)
            written[role] = {
                "path": share_file(role),
                "recipients": list(recipients),
                "sha256": hashlib.sha256(content).hexdigest(),
                "size": len(content),
            }
        return written

    def _sync(self) -> None:
        """Make every file and folder durable.

        Asked for together they cost the disk a few journal commits, one by one a commit each.
        """

        def sync(path: Path) -> None:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        with storage_errors("the vault"), ThreadPoolExecutor(8) as pool:
            list(pool.map(sync, [*self._staging.rglob("*"), self._staging]))

    def abort(self) -> None:
        """Remove everything of this delivery that is not in place yet, and forget the keys."""
        self._waiting.clear()
        self._waiting_bytes.clear()
        shutil.rmtree(self._staging, ignore_errors=True)
        self._finished = True
        self._forget()

    def _forget(self) -> None:
        # As much as the language allows: the objects go, the memory they stood in is not wiped.
        self._keys.clear()


# Reading what is not secret --------------------------------------------------------------------------------


def read_manifest(folder: Path, public_keys: Mapping[str, str]) -> dict[str, Any]:
    """The manifest in ``folder``, after its signature and its place were checked.

    ``public_keys`` maps the key ids of the accepted manifest signers to their public keys. Raises
    :class:`IntegrityError`.
    """
    try:
        document = parse_canonical((folder / MANIFEST_FILE).read_bytes())
    except OSError:
        raise IntegrityError(f"the vault {folder.name} has no readable manifest") from None
    if not isinstance(document, dict) or set(document) != {"manifest", "signature"}:
        raise IntegrityError(f"the manifest of the vault {folder.name} is not a signed manifest")
    manifest, signature = document["manifest"], document["signature"]
    if not isinstance(manifest, dict) or not isinstance(signature, dict):
        raise IntegrityError(f"the manifest of the vault {folder.name} is not a signed manifest")
    verify_signature(manifest, signature, MANIFEST_PURPOSE, public_keys)
    # A signed manifest of another kind, version or delivery is genuine and still not this one.
    if manifest.get("kind") != "vault-manifest" or manifest.get("v") != 1:
        raise IntegrityError(f"the manifest of the vault {folder.name} is of another version")
    if folder.name != folder_name(manifest["delivery_id"], manifest["generation"]):
        raise IntegrityError(f"the manifest in {folder.name} belongs to another delivery")
    return manifest


def listed_files(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Relative path -> entry with ``sha256`` and ``size``, of every file that the manifest vouches for."""
    return {entry["path"]: entry for entry in (*manifest["parts"], *manifest["shares"].values())}


def read_listed_file(folder: Path, entry: Mapping[str, Any]) -> bytes:
    """The content of one listed file, after its size and SHA-256 were checked.

    The bytes that were checked are the bytes that are returned: nothing is read twice. Raises
    :class:`IntegrityError`.
    """
    what = f"{folder.name}/{entry['path']}"
    try:
        descriptor = os.open(folder / entry["path"], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            content = stream.read(entry["size"] + 1)
    except OSError:
        raise IntegrityError(f"{what} is missing or cannot be read") from None
    if len(content) != entry["size"] or hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise IntegrityError(f"{what} is not the file that was written")
    return content


def _deliveries(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from sorted(path for path in root.iterdir() if not path.name.startswith(STAGING_PREFIX))


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the vault: where, and what, without a value."""

    delivery: str
    problem: str


def verify(root: Path, public_keys: Mapping[str, str]) -> list[Finding]:
    """Check every vault folder without opening anything; an empty list means that all is as it was written.

    Checked: the manifest's signature and place; that the files are exactly the listed ones; size and SHA-256;
    that a part holds nothing unencrypted; that folders and files are open to their owner alone; left-over
    staging folders.
    """
    findings: list[Finding] = []
    if root.is_dir():
        findings += [
            Finding(path.name, "unfinished: left by a run that was stopped")
            for path in sorted(root.glob(f"{STAGING_PREFIX}*"))
        ]
    for folder in _deliveries(root):
        findings += [Finding(folder.name, problem) for problem in _problems(folder, public_keys)]
    return findings


def _problems(folder: Path, public_keys: Mapping[str, str]) -> Iterator[str]:
    if folder.is_symlink() or not folder.is_dir():
        yield "not a folder"
        return
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    for name in (".", *found):
        status = os.lstat(folder / name)
        if stat.S_ISLNK(status.st_mode) or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            yield f"{name} is neither a file nor a folder"
        elif stat.S_IMODE(status.st_mode) & 0o077:
            yield f"{name} is open to the group or to others"
    try:
        manifest = read_manifest(folder, public_keys)
        listed, records = files_now(folder, manifest, public_keys)
    except WardwatchError as error:
        yield error.message
        return
    folders = {path.rpartition("/")[0] for path in listed}
    for name in found:
        if name not in {MANIFEST_FILE, *listed, *folders, *records}:
            yield f"{name} is not in the manifest"
    for name, entry in listed.items():
        try:
            content = read_listed_file(folder, entry)
        except IntegrityError as error:
            yield error.message
            continue
        if name.endswith(".parquet") and not encrypted_parquet.wholly_encrypted(content):
            yield f"{name} holds a part that is not encrypted"


def status(root: Path, public_keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row per delivery, for ``wardwatch vault status``: counts and item names, no values.

    Columns: delivery_id, dataset, contract, generation, rows, parts, issuers, items (list of names), bytes.
    Raises :class:`IntegrityError` if a manifest does not verify.
    """
    rows = []
    for folder in _deliveries(root):
        manifest = read_manifest(folder, public_keys)
        rows.append(
            {
                "delivery_id": manifest["delivery_id"],
                "dataset": manifest["dataset"],
                "contract": manifest["contract"],
                "generation": manifest["generation"],
                "rows": manifest["rows"],
                "parts": len(manifest["parts"]),
                "issuers": len(manifest["keys"]),
                "items": sorted(set(manifest["items"].values())),
                "bytes": sum(entry["size"] for entry in listed_files(manifest).values()),
            }
        )
    return rows


def sweep(root: Path, committed: Collection[str]) -> list[str]:
    """Remove staging folders, and vault folders of deliveries that were never committed.

    ``committed`` holds the folder names that count: the delivery ids with a row in the lake, and
    :func:`folder_name` for later generations. Only for the process that holds the workspace lock. Returns the
    names of what was removed.
    """
    if not root.is_dir():
        return []
    removed = []
    for path in sorted(root.iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name not in committed:
            with storage_errors("the vault"):
                # Out of sight first: a kill while removing must not leave half a folder under the name of
                # a delivery.
                doomed = path.with_name(f"{STAGING_PREFIX}removed")
                if path != doomed:
                    shutil.rmtree(doomed, ignore_errors=True)
                    os.rename(path, doomed)
                shutil.rmtree(doomed)
            removed.append(path.name)
    if removed:
        with storage_errors("the vault"):
            sync_folder(root)
    return removed
