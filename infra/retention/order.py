"""Order: what two persons sign before anything is destroyed.

An order names deliveries, and for each why now and since when; it is good for 14 days. A SIRO and the Information Asset
Owner sign the same bytes, on machines of their own. Nothing in it is taken on trust: when it is carried out, grounds,
signatures, holds, cases and use are looked at again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from infra.keyring import Keyring, PublicKeys
from infra.lake import CommittedDelivery
from infra.landing import Landing
from infra.receipts import Receipt
from infra.register import Register
from infra.retention.documents import Ground, Hold, Order, OrderedDelivery, Signed
from infra.retention.holds import checked_reason, in_force, refuse_held
from infra.retention.in_use import refuse_in_use, refuse_open_case, refuse_open_request
from infra.retention.permission import Signer, signers_of
from infra.retention.records import Records
from infra.retention.schedule import Due, schedule
from infra.retention.vault_folders import vault_folders
from infra.review.documents import moment_of, stamp
from infra.workspace import Workspace
from schemas.errors import NotPermitted, UsageError
from schemas.retention_policy import RetentionPolicy


@dataclass(frozen=True)
class Held:
    """What the workspace holds at one moment, as far as retention is concerned. ``today``: the day of that moment."""

    workspace: Workspace
    register: Register
    policy: RetentionPolicy
    receipts: Mapping[str, Receipt]
    rows: Mapping[str, CommittedDelivery]
    holds: Mapping[str, list[Signed[Hold]]]
    signers: Mapping[str, str]

    @classmethod
    def look(
        cls,
        workspace: Workspace,
        keyring: Keyring,
        landing: Landing,
        register: Register,
        policy: RetentionPolicy,
        rows: Sequence[CommittedDelivery],
    ) -> Held:
        """Raises :class:`~schemas.errors.IntegrityError` for a receipt or a hold that is not what was signed."""
        return cls(
            workspace,
            register,
            policy,
            {receipt.delivery_id: receipt for receipt in landing.held()},
            {row.delivery_id: row for row in rows},
            in_force(Records.of(workspace), register, policy, workspace.zone("audit")),
            PublicKeys.load(workspace.zone("keys")).signers("manifest_signing"),
        )

    def dues(self, today: date) -> list[Due]:
        """The schedule, see :func:`infra.retention.schedule.schedule`."""
        return schedule(
            self.receipts.values(),
            list(self.rows.values()),
            today=today,
            agreement=self.workspace.settings.agreement,
            audit_folder=self.workspace.zone("audit"),
            held=self.holds,
            policy=self.policy,
        )


def draft(
    held: Held, delivery_ids: Sequence[str], reason: str, now: datetime, *, early: bool = False
) -> Order:
    """The order to destroy ``delivery_ids``, unsigned.

    ``early``: also those whose time has not come; the order then says so. Raises :class:`UsageError` for a delivery
    that is not here, for one named twice, and for one whose time has not come without ``early``, and
    :class:`~schemas.errors.IdentifierInText` for the reason.
    """
    reason = checked_reason(reason)
    if not delivery_ids or len(set(delivery_ids)) != len(delivery_ids):
        raise UsageError("name each delivery to destroy once")
    dues = {due.delivery_id: due for due in held.dues(now.date())}
    ordered = []
    for delivery_id in delivery_ids:
        due = dues.get(delivery_id)
        if due is None:
            raise UsageError(
                "there is no such delivery here", next_step="`wardwatch retention due --all` lists them"
            )
        if due.state != "overdue" and not early:
            raise UsageError(
                f"{delivery_id} may be kept until {due.until}",
                next_step="wait, or give --early if it has to go before (the order then says so)",
            )
        ordered.append(_ordered(held, due))
    agreement = held.workspace.settings.agreement
    return Order(
        id=secrets.token_hex(16),
        demo=held.register.demo,
        agreement=agreement.reference,
        deliveries=tuple(ordered),
        reason=reason,
        made_at=stamp(now),
        expires=stamp(now + timedelta(days=held.policy.limit("order_days"))),
        register_digest=held.register.digest,
    )


def _ordered(held: Held, due: Due) -> OrderedDelivery:
    receipt, row = held.receipts.get(due.delivery_id), held.rows.get(due.delivery_id)
    ground: Ground = due.why if due.state == "overdue" else "before_its_time"
    return OrderedDelivery(
        delivery_id=due.delivery_id,
        dataset=due.dataset,
        period=due.period,
        ground=ground,
        until=due.until.isoformat(),
        content_sha256=receipt.content.sha256 if receipt else row.content_sha256 if row else "",
        vault=vault_folders(held.workspace.zone("vault"), due.delivery_id, held.signers),
    )


def check(held: Held, order: Signed[Order], now: datetime) -> tuple[Signer, ...]:
    """That ``order`` may be carried out at ``now``; returns who signed it.

    Raises :class:`NotPermitted` with a reason code: ``expired``, ``not_yet``, ``another_workspace``, those of
    :func:`~infra.retention.permission.signers_of`, ``not_due``, ``changed``, ``held``, ``in_use``, ``open_case``.
    """
    said = order.document
    signers = signers_of(order, "order", held.register, held.policy, now)
    made, expires = moment_of(said.made_at), moment_of(said.expires)
    if expires - made > timedelta(days=held.policy.limit("order_days")):
        raise NotPermitted("this order gives itself more time than orders have", reason_code="expired")
    if now >= expires:
        raise NotPermitted(
            "the time of this order is over",
            next_step="make it anew and have it signed",
            reason_code="expired",
        )
    if now < made - timedelta(minutes=held.policy.limit("clock_minutes")):
        raise NotPermitted("this order is of a time to come", reason_code="not_yet")
    if said.demo != held.register.demo or said.agreement != held.workspace.settings.agreement.reference:
        raise NotPermitted("this order is for another workspace", reason_code="another_workspace")
    dues = {due.delivery_id: due for due in held.dues(now.date())}
    for delivery in said.deliveries:
        due = dues.get(delivery.delivery_id)
        if due is None:
            raise NotPermitted(f"there is no {delivery.delivery_id} here", reason_code="another_workspace")
        if delivery.ground != "before_its_time" and due.state != "overdue":
            raise NotPermitted(
                f"{delivery.delivery_id} may be kept until {due.until}, other than the order says",
                reason_code="not_due",
            )
        now_there = _ordered(held, due)
        if (now_there.vault, now_there.content_sha256) != (delivery.vault, delivery.content_sha256):
            raise NotPermitted(
                f"{delivery.delivery_id} is not what it was when the order was made",
                next_step="make the order anew and have it signed",
                reason_code="changed",
            )
        refuse_held(held.holds, delivery.delivery_id)
        refuse_open_case(held.workspace, held.register, delivery.delivery_id, now)
        refuse_open_request(held.workspace, held.register, delivery.delivery_id, now)
        refuse_in_use(held.workspace, held.rows.get(delivery.delivery_id), delivery.delivery_id)
    return signers
