"""Tombstones: the deliveries that are gone, or going. From its tombstone on there is no way back for a delivery.

``retention/tombstones/000001.json`` and on: each signed with the pipeline's manifest key and chained to the one
before by SHA-256. The chain shows a change and a gap. That its newest entries were taken away, with a backup of the
whole folder, the audit log shows, which has a line for each. Who rolls back the folder, the audit log and its second
sink at once is found out by the auditor's countersigned checkpoint, and by nothing on this machine.

A delivery with a tombstone is not opened and not landed again, and what a restored backup brings back of it stops
the next run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from infra.audit import AuditLog
from infra.commit_points import commit_point
from infra.retention.documents import Order, Signed, Tombstone
from infra.retention.log import done
from infra.retention.records import FOLDER, Records
from infra.review.documents import stamp
from infra.signing import SigningKey
from schemas.errors import DeliveryRefused, IntegrityError

ACTION = "retention.tombstone"
FIRST_PREV = "0" * 64


@dataclass(frozen=True)
class Tombstones:
    """The verified list. ``order_of``: delivery id -> id of the order that it fell to. ``newest``: digest of the last
    entry."""

    entries: tuple[Signed[Tombstone], ...]

    @classmethod
    def load(
        cls, records: Records, public_keys: Mapping[str, str], audit_folder: Path | None = None
    ) -> Tombstones:
        """``public_keys``: the accepted signers of manifests. With ``audit_folder`` the audit log is asked whether
        the list is complete.

        Raises :class:`IntegrityError` for an entry that was changed, is missing, or that the log knows and the list
        lacks.
        """
        entries: list[Signed[Tombstone]] = []
        prev = FIRST_PREV
        for path, signed in records.all(Tombstone):
            signed.verify(public_keys)
            entry = signed.document
            if (path.name, entry.number, entry.prev) != (_name(entry.number), len(entries) + 1, prev):
                raise _incomplete()
            prev = signed.sha256
            entries.append(signed)
        found = cls(tuple(entries))
        if audit_folder is not None:
            found._require_recorded(audit_folder)
        return found

    def _require_recorded(self, audit_folder: Path) -> None:
        known = {signed.sha256 for signed in self.entries}
        for event in done(audit_folder, ACTION):
            if event.digests.get("tombstone") not in known:
                raise _incomplete()

    @property
    def order_of(self) -> dict[str, str]:
        return {signed.document.delivery_id: signed.document.order_id for signed in self.entries}

    @property
    def newest(self) -> str:
        return self.entries[-1].sha256 if self.entries else FIRST_PREV

    def __contains__(self, delivery_id: str) -> bool:
        return delivery_id in self.order_of

    def __iter__(self) -> Iterator[str]:
        return iter(self.order_of)

    def numbers(self, delivery_ids: Iterable[str]) -> tuple[int, ...]:
        """The numbers of the entries of ``delivery_ids``, in their order in the list."""
        wanted = set(delivery_ids)
        return tuple(s.document.number for s in self.entries if s.document.delivery_id in wanted)


def _name(number: int) -> str:
    return f"{number:06d}.json"


def _incomplete() -> IntegrityError:
    return IntegrityError(
        "the list of destroyed deliveries lacks an entry: it was rolled back or cut",
        next_step="raise an incident, and restore retention/tombstones from its newest backup",
    )


def add_tombstones(
    records: Records,
    order: Signed[Order],
    *,
    key: SigningKey,
    public_keys: Mapping[str, str],
    audit: AuditLog,
    now: datetime,
) -> Tombstones:
    """Enter every delivery of ``order`` that has no entry yet, and tell the audit log of each that it lacks.

    Killed in between, calling it again completes it. From the first entry on the order is carried out to its end.
    """
    found = Tombstones.load(records, public_keys)
    for delivery in order.document.deliveries:
        if delivery.delivery_id in found:
            continue
        entry = Tombstone(
            number=len(found.entries) + 1,
            prev=found.newest,
            delivery_id=delivery.delivery_id,
            order_id=order.document.id,
            order_sha256=order.sha256,
            made_at=stamp(now),
        )
        signed = Signed(entry).sign(key)
        commit_point("retention.tombstone.before")
        records.put(signed, _name(entry.number))
        commit_point("retention.tombstone.after")
        found = Tombstones((*found.entries, signed))
    told = {event.digests.get("tombstone") for event in done(audit.folder, ACTION)}
    for signed in found.entries:
        if signed.document.order_id == order.document.id and signed.sha256 not in told:
            audit.record(
                ACTION,
                signed.document.delivery_id,
                purpose="retention",
                digests={"tombstone": signed.sha256, "order": order.sha256},
            )
    return found


def refuse_tombstoned(vault_root: Path, delivery_id: str, public_keys: Mapping[str, str]) -> None:
    """Raise :class:`IntegrityError` if ``delivery_id`` was destroyed, whatever a backup brought back of it.

    ``vault_root``: the folder that the delivery's vault folder lies in; the list is looked for beside it, where a
    workspace has it. ``public_keys``: the accepted signers of manifests.
    """
    refuse_destroyed(Tombstones.load(Records(vault_root.parent / FOLDER), public_keys), delivery_id)


def refuse_destroyed(tombstones: Iterable[str], delivery_id: str) -> None:
    """:func:`refuse_tombstoned` with the list at hand."""
    if delivery_id in set(tombstones):
        raise IntegrityError(
            f"{delivery_id} was destroyed on a signed order; what lies here of it came back with a backup",
            next_step="run `wardwatch retention destroy --again`, and remove it from the backup",
        )


def refuse_landing(tombstones: Iterable[str], delivery_id: str) -> None:
    """Raise :class:`~schemas.errors.DeliveryRefused` for content that was destroyed and is sent again."""
    if delivery_id in set(tombstones):
        raise DeliveryRefused(
            f"the content of this file was destroyed as {delivery_id} on a signed order, and is not taken again",
            next_step="remove the file; under a new agreement, ask the sender for a new extract",
        )
