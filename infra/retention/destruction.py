"""Destruction: carrying out a signed order, so that it is either not begun or completed.

1. Order, holds, cases and use are looked at; a refusal is recorded and nothing happens.
2. The intent goes into the audit log, the order is kept, and each delivery gets its tombstone. **From here on there is
   no way back**: killed at any moment, the next run of anything that writes completes it.
3. What there is of each delivery is written down (names and digests).
4. Keys go first: shares, landing keys, review keys; then everything here is tried on what is left, and must fail.
5. Rows and file keys leave the lake, its history is given up and its catalog written anew.
6. Containers, linkage file and data files are deleted, and it is checked that they are gone.
7. The certificate is signed, the audit log closed with it.

Published aggregates and the audit log stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.audit import AuditLog
from infra.audit_intent import Found
from infra.audit_line import Event
from infra.keyring import Keyring
from infra.lake import CommittedDelivery, Lake
from infra.landing import Landing
from infra.purposes import require_purpose
from infra.register import Register
from infra.retention import certificate, lake_removal, shredding
from infra.retention.documents import (
    Attempt,
    Certificate,
    DeliveryEvidence,
    Evidence,
    Order,
    Signed,
    Tombstone,
)
from infra.retention.evidence import gather
from infra.retention.order import Held, check
from infra.retention.permission import Signer
from infra.retention.records import Records
from infra.retention.steady_clock import SteadyClock
from infra.retention.tombstones import Tombstones, add_tombstones
from infra.review.documents import stamp
from infra.workspace import Workspace
from schemas.errors import IntegrityError, NotPermitted
from schemas.retention_policy import RetentionPolicy, retention_policy

ACTION = "retention.destroy"
PURPOSE = "retention"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Destruction:
    """Destroying in one workspace, by the process that holds its writer lock. Made by :meth:`of`."""

    workspace: Workspace
    keyring: Keyring
    register: Register
    landing: Landing
    audit: AuditLog
    clock: SteadyClock
    policy: RetentionPolicy
    say: Say

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        keyring: Keyring,
        register: Register,
        landing: Landing,
        audit: AuditLog,
        clock: Callable[[], datetime],
        *,
        counter: Callable[[], float] | None = None,
        say: Say = lambda _line: None,
    ) -> Destruction:
        """``clock``: the time with its zone; ``counter``: seconds that nobody can set, the machine's by default."""
        policy = retention_policy()
        tolerance = timedelta(minutes=policy.limit("clock_minutes"))
        steady = (
            SteadyClock(clock, tolerance=tolerance)
            if counter is None
            else SteadyClock(clock, tolerance=tolerance, counter=counter)
        )
        return cls(workspace, keyring, register, landing, audit, steady, policy, say)

    @property
    def records(self) -> Records:
        return Records.of(self.workspace)

    @property
    def signers(self) -> dict[str, str]:
        return self.keyring.signers("manifest_signing")

    # Carrying out

    def carry_out(self, order: Signed[Order]) -> Signed[Certificate]:
        """Destroy what ``order`` names; returns the certificate.

        An order that was begun is completed. Raises :class:`NotPermitted` with its reason code for one that may not
        be carried out now, :class:`IntegrityError` if something is not what was written or still opens, and what
        storage and audit log raise.
        """
        done = self._certificate(order, 0)
        if done is not None:
            self._record_certificates()
            return done
        if self._is_begun(order):
            return self._complete(order, 0)
        held = self._permitted(order)
        with self._audited(order, 0):
            # The decision was made at the start; that it still holds is looked at right before the deed.
            moment = self.clock.now()
            signers = check(held, order, moment)
            self.say(f"order {order.document.id[:12]}: signed by {_names(signers)}")
            self.records.put(order, f"{order.document.id}.json")
            add_tombstones(
                self.records,
                order,
                key=self.keyring.manifest_signing_key,
                public_keys=self.signers,
                audit=self.audit,
                now=moment,
            )
            return self._work(order, 0)

    def _permitted(self, order: Signed[Order]) -> Held:
        """What is held here, after the order was found good; a refusal is recorded with its reason code.

        Nobody else changes it meanwhile: the writer lock is held. Only the time goes on."""
        try:
            self.clock.refuse_behind(self.audit.folder)
            require_purpose(PURPOSE, self.audit.role, ACTION, self.clock.start.date())
            self.register.require_recorded(self.audit.folder)
            held = self._look()
            check(held, order, self.clock.start)
        except (NotPermitted, IntegrityError) as error:
            self.audit.record(
                ACTION,
                order.document.id,
                purpose=PURPOSE,
                decision="refuse",
                reason_code=error.reason_code if isinstance(error, NotPermitted) else error.code,
                counts={"deliveries": len(order.document.deliveries)},
                digests={"order": order.sha256},
            )
            raise
        return held

    def _look(self) -> Held:
        return Held.look(self.workspace, self.keyring, self.landing, self.register, self.policy, self._rows())

    def _rows(self) -> list[CommittedDelivery]:
        if not lake_removal.is_there(self.workspace):
            return []
        with lake_removal.opened(self.workspace, self.keyring) as lake:
            return lake.deliveries()

    # Going on where it stopped

    def pending(self) -> list[tuple[Signed[Order], int]]:
        """(order, times it was done before) of every destruction that was begun and has no certificate."""
        found = []
        for _, order in self.records.all(Order):
            if not self._is_begun(order):
                continue
            times = {evidence.document.again for evidence in self._evidences(order)} | {0}
            found += [(order, again) for again in sorted(times) if not self._has_certificate(order, again)]
        return found

    def _has_certificate(self, order: Signed[Order], again: int) -> bool:
        """Whether there is one, edited or not: an edited one says that there was one, and is reported by
        `retention certificates --verify`; the destruction itself is over."""
        return any(
            (signed.document.order_id, signed.document.again) == (order.document.id, again)
            for _, signed in self.records.all(Certificate)
        )

    def complete_pending(self) -> list[Signed[Certificate]]:
        """Complete what a killed run began. To be called at the start of everything that writes."""
        pending = self.pending()
        self._close_unfinished()
        self._record_certificates()
        return [self._complete(order, again) for order, again in pending]

    def _complete(self, order: Signed[Order], again: int) -> Signed[Certificate]:
        self.say(f"order {order.document.id[:12]}: completing what was begun")
        self._close_unfinished()
        add_tombstones(
            self.records,
            order,
            key=self.keyring.manifest_signing_key,
            public_keys=self.signers,
            audit=self.audit,
            now=self.clock.start,
        )
        with self._audited(order, again):
            return self._work(order, again)

    def destroy_again(self, delivery_ids: list[str]) -> list[Signed[Certificate]]:
        """Destroy what a restored backup brought back of destroyed deliveries, under the orders they fell to.

        Raises :class:`IntegrityError` for a delivery whose order is not here.
        """
        order_of = Tombstones.load(self.records, self.signers, self.audit.folder).order_of
        certificates = []
        for order_id in dict.fromkeys(order_of[delivery_id] for delivery_id in delivery_ids):
            order = self.records.order(order_id)
            if order is None:
                raise IntegrityError(
                    "the order of a destroyed delivery is missing",
                    next_step="restore retention/orders from its newest backup",
                )
            again = 1 + max((evidence.document.again for evidence in self._evidences(order)), default=0)
            with self._audited(order, again):
                certificates.append(self._work(order, again))
        return certificates

    def _is_begun(self, order: Signed[Order]) -> bool:
        return any(signed.document.order_id == order.document.id for _, signed in self.records.all(Tombstone))

    def _evidences(self, order: Signed[Order]) -> Iterator[Signed[Evidence]]:
        for _, signed in self.records.all(Evidence):
            if signed.document.order_id == order.document.id:
                signed.verify(self.signers)
                yield signed

    def _certificate(self, order: Signed[Order], again: int) -> Signed[Certificate] | None:
        for _, signed in self.records.all(Certificate):
            if (signed.document.order_id, signed.document.again) == (order.document.id, again):
                signed.verify(self.signers)
                return signed
        return None

    def _close_unfinished(self) -> None:
        """The second lines of what was killed: done if there is a certificate, else not."""
        done = {signed.document.order_id for _, signed in self.records.all(Certificate)}

        def judge(intent: Event) -> Found:
            return "done" if intent.object in done else "not_done"

        self.audit.close_unfinished([ACTION], judge)

    def _record_certificates(self) -> None:
        """The audit line of each certificate that lacks it: the last thing that a killed run could leave undone."""
        logged = certificate.logged(self.audit.folder)
        for _, signed in self.records.all(Certificate):
            # One that was edited is for `retention certificates --verify` to report; a night goes on without it.
            if signed.sha256 not in logged and signed.fits(self.signers):
                certificate.record(signed, self.audit)

    @contextmanager
    def _audited(self, order: Signed[Order], again: int) -> Iterator[None]:
        said = order.document
        with self.audit.action(
            ACTION,
            said.id,
            purpose=PURPOSE,
            counts={"deliveries": len(said.deliveries), "again": again},
            digests={"order": order.sha256},
        ) as outcome:
            yield
            outcome.counts["deliveries"] = len(said.deliveries)

    # The work

    def _work(self, order: Signed[Order], again: int) -> Signed[Certificate]:
        """Everything after the tombstones. Each step does nothing where it was done before."""
        evidence = self._evidence(order, again)
        found = evidence.document.deliveries
        for delivery in found:
            gone = shredding.shred_keys(self.workspace, delivery)
            self.say(f"{delivery.delivery_id}: {gone} file(s) of keys destroyed")
        attempts = self._try(found)
        self._empty_lake(found)
        for delivery in found:
            shredding.delete_containers(self.workspace, delivery)
            left = shredding.left_of(self.workspace, delivery.delivery_id)
            if left:
                raise IntegrityError(
                    f"the destruction is not complete: {len(left)} file(s) or folder(s) left"
                )
        if lake_removal.is_there(self.workspace):
            lake_removal.refuse_left(self.workspace, self.keyring, [delivery.lake for delivery in found])
        made = certificate.issue(
            order,
            evidence,
            attempts,
            register=self.register,
            policy=self.policy,
            records=self.records,
            tombstones=Tombstones.load(self.records, self.signers),
            audit=self.audit,
            key=self.keyring.manifest_signing_key,
            now=max(self.clock.start, self.clock.now()),
        )
        self.say(f"order {order.document.id[:12]}: {len(found)} delivery(ies) destroyed, certificate signed")
        return made

    def _evidence(self, order: Signed[Order], again: int) -> Signed[Evidence]:
        for signed in self._evidences(order):
            if signed.document.again == again:
                return signed
        said = order.document
        receipts = {receipt.delivery_id: receipt for receipt in self.landing.held()}
        with self._lake() as lake:
            gathered = tuple(
                gather(self.workspace, delivery, receipts.get(delivery.delivery_id), lake, self.signers)
                for delivery in said.deliveries
            )
        document = Evidence(
            order_id=said.id,
            order_sha256=order.sha256,
            again=again,
            person=self.audit.person,
            role=self.audit.role,
            begun_at=stamp(self.clock.start),
            deliveries=gathered,
        )
        signed = Signed(document).sign(self.keyring.manifest_signing_key)
        self.records.put(signed, f"{said.id}-{again}.json")
        return signed

    @contextmanager
    def _lake(self) -> Iterator[Lake | None]:
        if not lake_removal.is_there(self.workspace):
            yield None
            return
        with lake_removal.opened(self.workspace, self.keyring) as lake:
            yield lake

    def _try(self, found: tuple[DeliveryEvidence, ...]) -> tuple[Attempt, ...]:
        tried: dict[str, int] = {}
        for delivery in found:
            for attempt in shredding.try_to_open(self.workspace, self.keyring, delivery, self.signers):
                tried[attempt.what] = tried.get(attempt.what, 0) + attempt.tried
        return tuple(Attempt(what=what, tried=times) for what, times in tried.items())

    def _empty_lake(self, found: tuple[DeliveryEvidence, ...]) -> None:
        if not lake_removal.is_there(self.workspace):
            return
        ids = [delivery.delivery_id for delivery in found]
        with lake_removal.opened(self.workspace, self.keyring) as lake:
            lake_removal.remove_rows(lake, ids)
        lake_removal.rewrite_catalog(self.workspace, self.keyring)
        # Closing it renews the readers' copy, of the catalog that was written anew.
        with lake_removal.opened(self.workspace, self.keyring) as lake:
            lake_removal.delete_files(lake)
            lake_removal.refuse_rows(lake, ids)
        self.say("lake: rows, file keys and earlier states are gone, the catalog is written anew")


def _names(signers: tuple[Signer, ...]) -> str:
    return " and ".join(f"{signer.person} ({signer.role})" for signer in signers)
