"""Certificate: the signed statement of what was destroyed, by whose order, how, and what else has to go.

It is signed with the pipeline's manifest key, for the machine did it; a witness, who did not order it, may sign that
the certificate was looked at. Its digest stands in the audit log. A certificate is never changed: what is
destroyed once more, after a backup brought it back, gets a certificate of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from infra.audit import AuditLog
from infra.keyring import PublicKeys
from infra.naming import make_name
from infra.register import Register
from infra.retention.documents import (
    Attempt,
    Certificate,
    DeliveryEvidence,
    Evidence,
    Order,
    OrderedBy,
    Signed,
    Witnessed,
    read,
)
from infra.retention.log import done
from infra.retention.permission import signers_of
from infra.retention.records import Records
from infra.retention.tombstones import Tombstones
from infra.review.documents import moment_of, stamp
from infra.signing import SigningKey
from infra.workspace import Workspace
from schemas.errors import IntegrityError, NotPermitted, UsageError, WardwatchError
from schemas.retention_policy import RetentionPolicy

CERTIFICATE = "retention.certificate"
WITNESS = "retention.witness"

METHOD = (
    "files of keys written over once with random bytes, then removed: shares of the vault's keys with both officers, "
    "shares of the landing key with both officers, the pipeline's landing key, keys of case reviews and of requests to "
    "open deliveries again",
    "every private and symmetric key on this machine tried on what was left; nothing opened",
    "rows and file keys removed from the lake, all its earlier states given up, its catalog written anew and read "
    "back with its key",
    "containers, linkage file and data files removed, and looked for again",
)
REMAINS = (
    "published aggregates and run manifests",
    "the audit log, incidents, and the documents of case reviews and of requests to open deliveries again, which hold "
    "counts and digests",
    "this certificate, its order, the evidence and the tombstones",
)


def backups_of(delivery: DeliveryEvidence) -> list[str]:
    """What has to go from every backup and copy, so that nothing of the delivery can come back, as sentences."""
    found = [
        f"{delivery.delivery_id}: vault/{vault.folder} (opens with both officers' keys)"
        for vault in delivery.vault
    ]
    if delivery.landing is not None:
        found.append(
            f"{delivery.delivery_id}: landing/{delivery.delivery_id} (opens with both officers' keys; with the "
            "pipeline's keyring, if the backup was made within its landing window)"
        )
    if delivery.linkage_sha256 is not None:
        found.append(
            f"{delivery.delivery_id}: linkage/{delivery.delivery_id}.parquet (its key is derived from one that other "
            "deliveries share, so the pipeline's keyring opens it)"
        )
    if delivery.lake.files:
        found.append(
            f"{delivery.delivery_id}: lake/ as a whole, data files and both catalogs (the catalog's key was not "
            "changed, so the pipeline's keyring opens an older catalog, which holds the file keys)"
        )
    return found


EVERYWHERE = (
    "bundles and approvals of case reviews and of requests to open deliveries again, and shares sealed anew at a "
    "change of office, on officers' own machines",
    "the sender's file, wherever a copy of the inbox is kept",
)


def issue(
    order: Signed[Order],
    evidence: Signed[Evidence],
    attempts: tuple[Attempt, ...],
    *,
    register: Register,
    policy: RetentionPolicy,
    records: Records,
    tombstones: Tombstones,
    audit: AuditLog,
    key: SigningKey,
    now: datetime,
) -> Signed[Certificate]:
    """Sign and keep the certificate of a destruction that is complete.

    Who ordered it is taken from the signatures as they counted when the tombstones were set.
    """
    said, found = order.document, evidence.document
    decided = min(
        moment_of(entry.document.made_at)
        for entry in tombstones.entries
        if entry.document.order_id == said.id
    )
    document = Certificate(
        order_id=said.id,
        order_sha256=order.sha256,
        again=found.again,
        demo=said.demo,
        ordered_by=_ordered_by(order, register, policy, decided),
        carried_out_by=audit.person,
        carried_out_as=audit.role,
        begun_at=found.begun_at,
        finished_at=stamp(now),
        destroyed=found.deliveries,
        tombstones=tombstones.numbers(delivery.delivery_id for delivery in found.deliveries),
        method=METHOD,
        attempts=attempts,
        remains=REMAINS,
        backups=(*(line for delivery in found.deliveries for line in backups_of(delivery)), *EVERYWHERE),
    )
    signed = Signed(document).sign(key)
    records.put(signed, certificate_name(document))
    record(signed, audit)
    return signed


def record(signed: Signed[Certificate], audit: AuditLog) -> None:
    """The audit line of a certificate."""
    audit.record(
        CERTIFICATE, signed.document.order_id, purpose="retention", digests={"certificate": signed.sha256}
    )


def logged(audit_folder: Path) -> set[str]:
    """The digests of the certificates that the audit log knows."""
    return {event.digests.get("certificate", "") for event in done(audit_folder, CERTIFICATE)}


def _ordered_by(
    order: Signed[Order], register: Register, policy: RetentionPolicy, decided: datetime
) -> tuple[OrderedBy, ...]:
    try:
        signers = signers_of(order, "order", register, policy, decided)
    except NotPermitted:
        # A later entry of the register took back a key for a moment before the decision. What is gone is gone: the
        # certificate says so by naming the keys alone, and the register's entry is the incident.
        return tuple(
            OrderedBy(person="no-longer-known", role="none", key_id=key_id) for key_id in order.key_ids
        )
    return tuple(
        OrderedBy(person=signer.person, role=signer.role, key_id=signer.key_id) for signer in signers
    )


def certificate_name(document: Certificate) -> str:
    """The record name of a certificate: the day, the order, and which destruction of that order it was."""
    return make_name(
        moment_of(document.finished_at).date(),
        f"Order {document.order_id}",
        "destruction certificate",
        document.again + 1,
        "OFFICIAL",
        "json",
    )


# Reading -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checked:
    """A certificate and what is wrong with it: nothing, or one sentence. ``witnesses``: staff ids."""

    path: Path
    signed: Signed[Certificate] | None
    witnesses: tuple[str, ...]
    problem: str = ""


def certificates(workspace: Workspace, register: Register, policy: RetentionPolicy) -> Iterator[Checked]:
    """Every certificate, verified: its spelling, the pipeline's signature, its name, its order with the signatures
    of two persons, its tombstones, and that the audit log knows it. Nothing raises; what is wrong is said."""
    records = Records.of(workspace)
    signers = PublicKeys.load(workspace.zone("keys")).signers("manifest_signing")
    known = logged(workspace.zone("audit"))
    folder = records.root / "certificates"
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            signed = read(path, Certificate)
        except WardwatchError as error:
            yield Checked(path, None, (), error.message)
            continue
        try:
            _verify(signed, path, records, signers, known, register, policy)
            witnesses = _witnesses(records, signed, register, policy)
        except WardwatchError as error:
            yield Checked(path, signed, (), error.message)
            continue
        yield Checked(path, signed, witnesses)
    found = {signed.sha256 for _, signed in _readable(records)}
    for digest in sorted(known - found - {""}):
        yield Checked(folder / digest[:16], None, (), "the audit log knows of a certificate that is not here")


def _readable(records: Records) -> Iterator[tuple[Path, Signed[Certificate]]]:
    folder = records.root / "certificates"
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            yield path, read(path, Certificate)
        except WardwatchError:
            continue


def _verify(
    signed: Signed[Certificate],
    path: Path,
    records: Records,
    signers: dict[str, str],
    known: set[str],
    register: Register,
    policy: RetentionPolicy,
) -> None:
    signed.verify(signers)
    said = signed.document
    if path.name != certificate_name(said):
        raise IntegrityError("the certificate lies under the name of another one")
    order = records.order(said.order_id)
    if order is None or order.sha256 != said.order_sha256:
        raise IntegrityError("the order of this certificate is missing or another one")
    ordered = {delivery.delivery_id for delivery in order.document.deliveries}
    if ordered != {delivery.delivery_id for delivery in said.destroyed}:
        raise IntegrityError("the certificate speaks of other deliveries than its order")
    stones = Tombstones.load(records, signers)
    if stones.numbers(ordered) != said.tombstones:
        raise IntegrityError("the certificate names other tombstones than there are")
    order.verify({key.name: key.public for key, _ in register.keys(register.entries[-1].at)})
    if len(order.signatures) < len(policy.sides("order")):
        raise IntegrityError("the order of this certificate lacks a signature")
    if signed.sha256 not in known:
        raise IntegrityError("the audit log does not know this certificate")


def _witnesses(
    records: Records, signed: Signed[Certificate], register: Register, policy: RetentionPolicy
) -> tuple[str, ...]:
    found = []
    for _, witnessed in records.all(Witnessed):
        if witnessed.document.certificate_sha256 == signed.sha256:
            at = moment_of(witnessed.document.witnessed_at)
            (signer,) = signers_of(witnessed, "witness", register, policy, at)
            found.append(signer.person)
    return tuple(sorted(found))


def witness(
    checked: Checked,
    key: SigningKey,
    *,
    records: Records,
    register: Register,
    policy: RetentionPolicy,
    audit: AuditLog,
    now: datetime,
) -> Signed[Witnessed]:
    """Countersign a certificate that verified, as a person who did not order the destruction.

    Raises :class:`UsageError` for a certificate with a problem, and :class:`NotPermitted` (``ordered_it``, and those
    of :func:`~infra.retention.permission.signers_of`).
    """
    if checked.problem or checked.signed is None:
        raise UsageError("a certificate that does not verify is not witnessed")
    certificate = checked.signed
    signed = Signed(
        Witnessed(
            certificate_sha256=certificate.sha256,
            person=register.signer(key.key_id, now).person,
            witnessed_at=stamp(now),
        )
    ).sign(key)
    (signer,) = signers_of(signed, "witness", register, policy, now)
    if signer.person in {each.person for each in certificate.document.ordered_by}:
        raise NotPermitted("whoever ordered it does not witness it", reason_code="ordered_it")
    records.put(signed, f"{signed.sha256}.json")
    audit.record(
        WITNESS,
        certificate.document.order_id,
        purpose="retention",
        digests={"certificate": certificate.sha256},
    )
    return signed
