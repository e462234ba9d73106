"""Resealing: at a change of office the shares of what was delivered before are sealed to whoever holds it now.

Two steps, on two machines. Who can open the shares (the predecessor, the holder or a deputy) opens every file of
shares of the office, in the vault and in the landing zone, and seals each anew to all who are in office or will be
by a grant that stands already: :func:`reseal` gives one signed document. The workspace verifies who signed and for
whom it was sealed, and puts the new files in place of the old ones: :func:`take`. The private key stays with its
holder, and nothing but sealed content travels.

Honest limits: nobody but a recipient can see to whom a file is really sealed, and that it holds the same shares; who
reseals badly loses the office's share. And files of shares that somebody copied before still open for the
predecessor.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from infra.audit import AuditLog
from infra.commit_points import commit_point
from infra.files import storage_errors, sync_folder, write_atomic
from infra.landing import RECEIPT
from infra.landing_share import read_share
from infra.officers import OFFICE, ShareRole
from infra.receipts import DELIVERY_ID, read_receipt
from infra.register import Register
from infra.register_entries import moment_of, text_of
from infra.register_resealed import make_record, record_name, records, share_entry, share_name
from infra.register_rules import refuse
from infra.sealing import seal, unseal
from infra.signing import SigningKey, canonical_json, parse_canonical, verify
from infra.vault import read_listed_file, read_manifest, share_file
from schemas.errors import IntegrityError, NotPermitted, WardwatchError

PURPOSE = "shares-resealed"
KIND = "resealed-shares"


@dataclass(frozen=True)
class Zones:
    """Where the shares lie. ``signers``: the accepted signers of vault manifests, key id -> public key."""

    vault: Path
    landing: Path
    signers: dict[str, str]

    def vaults(self, share: ShareRole) -> list[tuple[Path, dict[str, Any], dict[str, Any]]]:
        """(folder, manifest, entry of the file of shares) of every delivery with identifiable items."""
        found = []
        if self.vault.is_dir():
            for folder in sorted(path for path in self.vault.iterdir() if not path.name.startswith(".")):
                manifest = read_manifest(folder, self.signers)
                if share in manifest["shares"]:
                    found.append((folder, manifest, share_entry(folder, manifest, share, self.signers)))
        return found

    def landed(self, share: ShareRole) -> list[Path]:
        """The files of shares of the landed deliveries."""
        if not self.landing.is_dir():
            return []
        folders = sorted(path for path in self.landing.iterdir() if DELIVERY_ID.fullmatch(path.name))
        return [folder / f"share.{share}.age" for folder in folders]


def recipients_of(register: Register, share: ShareRole, at: datetime) -> list[str]:
    """The age recipients of all who hold the office or its deputyship at ``at``, or will by a grant made already."""
    people = [
        person
        for role in OFFICE[share]
        for person in (*register.in_office(role, at), *register.coming(role, at))
    ]
    return sorted({person.recipient for person in people if person.recipient})


def reseal(
    zones: Zones, register: Register, share: ShareRole, identity: str, key: SigningKey, at: datetime
) -> bytes:
    """Every file of shares of ``share``, opened with ``identity`` and sealed anew, as one document signed by ``key``.

    Raises ``CannotOpen`` if one does not open, ``IntegrityError`` if one is not what was written, and
    :class:`NotPermitted` if the key's holder never held the office.
    """
    person = _resealer(register, share, key.key_id, at)
    recipients = recipients_of(register, share, at)
    shares = []
    for folder, manifest, entry in zones.vaults(share):
        content = unseal(read_listed_file(folder, entry), identity)
        _refuse_other_shares(content, manifest, share, folder.name)
        shares.append(_resealed("vault", folder.name, entry["sha256"], seal(content, recipients)))
    for path in zones.landed(share):
        sealed = _read(path)
        before = hashlib.sha256(sealed).hexdigest()
        content = unseal(sealed, identity)
        receipt = read_receipt(_read(path.parent / RECEIPT), zones.signers)
        read_share(content, path.parent.name, share, receipt.landing_recipient)
        shares.append(_resealed("landing", path.parent.name, before, seal(content, recipients)))
    document = {
        "v": 1,
        "kind": KIND,
        "share": share,
        "person": person,
        "at": text_of(at),
        "recipients": recipients,
        "shares": shares,
    }
    return canonical_json({"resealed": document, "signature": key.sign(document, PURPOSE)})


def _resealed(zone: str, delivery: str, before: str, content: bytes) -> dict[str, str]:
    return {"zone": zone, "delivery": delivery, "before": before, "content": content.hex()}


def _refuse_other_shares(content: bytes, manifest: dict[str, Any], share: str, name: str) -> None:
    document = parse_canonical(content)
    place = ("dataset", "delivery_id", "contract", "generation")
    if (
        not isinstance(document, dict)
        or document.get("kind") != "vault-shares"
        or document.get("role") != share
        or any(document.get(field) != manifest[field] for field in place)
    ):
        raise IntegrityError(f"{share_file(share)} in {name} belongs to another delivery or office")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise IntegrityError(f"the share of {path.parent.name} in the landing zone cannot be read") from None


def _resealer(register: Register, share: ShareRole, key_id: str, at: datetime) -> str:
    """Who signs has a key in force and holds or held the office: nobody else can have opened the shares."""
    person = register.signer(key_id, at).person
    if not set(register.ever_granted(person)) & set(OFFICE[share]):
        raise refuse("only who holds or held this office seals its shares anew", "no_role")
    return person


def is_resealed(content: bytes) -> bool:
    """Whether ``content`` is what :func:`reseal` gave, rather than an entry of the register."""
    try:
        document = parse_canonical(content)
    except WardwatchError:
        return False
    return isinstance(document, dict) and set(document) == {"resealed", "signature"}


def take(zones: Zones, register: Register, content: bytes, manifest_key: SigningKey, audit: AuditLog) -> int:
    """Put resealed shares in the place of the old ones. Returns how many files that are.

    ``manifest_key`` signs the records. The log hears of it before, and of a refusal. Killed at any moment, each
    file is the old one or the new one, and taking the document again completes the rest. Raises
    :class:`NotPermitted` (a signer without the office, other recipients than the register says),
    :class:`IntegrityError` (a changed document, shares that are no longer what was resealed).
    """
    digest = hashlib.sha256(content).hexdigest()
    try:
        document, person = _verified(register, content)
    except WardwatchError as error:
        reason = error.reason_code if isinstance(error, NotPermitted) else error.code
        audit.record(
            "shares.reseal",
            "register",
            purpose="",
            decision="refuse",
            reason_code=reason,
            digests={"document": digest},
        )
        raise
    share: ShareRole = document["share"]
    audit.close_unfinished(
        ["shares.reseal"]
    )  # of a taking that was killed; the caller holds the workspace's lock
    with audit.action(
        "shares.reseal",
        share,
        purpose="",
        counts={"shares": len(document["shares"])},
        digests={"document": digest, "register": register.digest},
    ) as outcome:
        vaults = {folder.name: (folder, manifest, entry) for folder, manifest, entry in zones.vaults(share)}
        landed = {path.parent.name: path for path in zones.landed(share)}
        for item in document["shares"]:
            name, sealed = item["delivery"], bytes.fromhex(item["content"])
            if item["zone"] == "vault" and name in vaults:
                _take_vault(*vaults[name], item["before"], sealed, document, person, manifest_key)
            elif item["zone"] == "landing" and name in landed:
                _take_landing(landed[name], item["before"], sealed)
            else:  # destroyed meanwhile
                outcome.counts["gone"] = outcome.counts.get("gone", 0) + 1
        outcome.reason_code = "resealed"
    return len(document["shares"])


def _verified(register: Register, content: bytes) -> tuple[dict[str, Any], str]:
    parsed = parse_canonical(content)
    if not isinstance(parsed, dict) or set(parsed) != {"resealed", "signature"}:
        raise IntegrityError("this is not a document of resealed shares")
    document, signature = parsed["resealed"], parsed["signature"]
    if not isinstance(document, dict) or not isinstance(signature, dict) or document.get("kind") != KIND:
        raise IntegrityError("this is not a document of resealed shares")
    try:
        share, at = document["share"], moment_of(document["at"])
        if share not in OFFICE or document["v"] != 1:
            raise IntegrityError("this is not a document of resealed shares")
        for item in document["shares"]:
            bytes.fromhex(item["content"])
            if not isinstance(item["delivery"], str) or not isinstance(item["before"], str):
                raise IntegrityError("this is not a document of resealed shares")
    except (KeyError, TypeError, ValueError):
        raise IntegrityError("this is not a document of resealed shares") from None
    key_id = str(signature.get("key_id"))
    latest = max(at, register.entries[-1].at)
    person = _resealer(register, share, key_id, latest)
    known = {key.name: key.public for key, counts in register.keys(at) if counts and key.use == "signing"}
    verify(document, signature, PURPOSE, known)
    if document.get("person") != person:
        raise IntegrityError("the shares were resealed by another person than the document says")
    if document.get("recipients") != recipients_of(register, share, latest):
        raise refuse(
            "the shares were resealed to others than those in office",
            "recipients",
            "reseal again, with the register as it is now",
        )
    return document, person


def _take_vault(
    folder: Path,
    manifest: dict[str, Any],
    entry: dict[str, Any],
    before: str,
    sealed: bytes,
    document: dict[str, Any],
    person: str,
    manifest_key: SigningKey,
) -> None:
    share = document["share"]
    new = hashlib.sha256(sealed).hexdigest()
    if entry["sha256"] not in (before, new):
        raise IntegrityError(f"the shares in {folder.name} are no longer those that were resealed")
    if entry["sha256"] == before:
        number = max(records(folder, share), default=1) + 1
        write_atomic(folder / share_name(share, number), sealed)
        record = make_record(
            manifest,
            share,
            number,
            entry,
            sealed,
            document["recipients"],
            person,
            document["at"],
            manifest_key,
        )
        commit_point("reseal.before_record")
        write_atomic(folder / record_name(share, number), record)
        commit_point("reseal.after_record")
        entry = {"path": share_name(share, number)}
    with storage_errors("the vault"):
        for path in folder.glob(f"shares-{share}*.age"):
            if path.name != entry["path"]:
                path.unlink()
        sync_folder(folder)


def _take_landing(path: Path, before: str, sealed: bytes) -> None:
    found = hashlib.sha256(_read(path)).hexdigest()
    if found == hashlib.sha256(sealed).hexdigest():
        return
    if found != before:
        raise IntegrityError(f"the share of {path.parent.name} is no longer the one that was resealed")
    write_atomic(path, sealed)
