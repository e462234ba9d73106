"""Receipt: what the hospital does with the file, and that it says so.

On the hospital's side :func:`open_list` reads the file with the hospital's own key (as the standard ``age`` tool
does), and :func:`make_receipt` signs for it. On this side :func:`take_receipt` checks the signature against the key
that the hospital enrolled, and :func:`raise_overdue` enters an incident for a list that nobody signed for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from infra.audit import AuditLog
from infra.commit_points import commit_point
from infra.incidents import Incident, IncidentType, list_incidents, raise_incident
from infra.review.audited import audited
from infra.review.case import RECEIPT, Case, cases
from infra.review.documents import Receipt, Signed, moment_of, parse, sign, stamp
from infra.review.hospital_list import OpenedList, read_archive
from infra.review.permission import Rules
from infra.review.standing import check_receipt, require_state
from infra.sealing import unseal
from infra.signing import SigningKey
from schemas.errors import NotPermitted, UsageError

LARGEST_FILE = 1 << 24


# At the hospital -------------------------------------------------------------------------------------------


def open_list(sealed: bytes, identity: str) -> OpenedList:
    """The list in an age file. Raises :class:`CannotOpen` for another key, or for what is no list."""
    if len(sealed) > LARGEST_FILE:
        raise UsageError("a list is not as large as this")
    return read_archive(unseal(sealed, identity))


def make_receipt(
    sealed: bytes, opened: OpenedList, signing_key: SigningKey, now: datetime
) -> Signed[Receipt]:
    """The hospital's word that it has opened exactly this file."""
    return sign(
        Receipt(
            case=opened.case,
            organisation=opened.recipient,
            ciphertext_sha256=hashlib.sha256(sealed).hexdigest(),
            listed=len(opened.numbers),
            received_at=stamp(now),
        ),
        signing_key,
    )


def refuse_place(target: Path) -> None:
    """Numbers are not written where they get copied on: into a workspace or a version-controlled folder.

    Raises :class:`NotPermitted` (``unsafe_place``).
    """
    for folder in target.resolve().parents:
        is_workspace = (folder / "settings.yaml").exists() and (folder / "vault").is_dir()
        if is_workspace or (folder / ".git").exists() or (folder / ".hg").exists():
            raise NotPermitted(
                "numbers are not written into a workspace or a version-controlled folder",
                next_step="choose a folder of the hospital's own records system",
                reason_code="unsafe_place",
            )


# Here ------------------------------------------------------------------------------------------------------


def take_receipt(
    case: Case, content: bytes, *, rules: Rules, audit: AuditLog, now: datetime
) -> Signed[Receipt]:
    """Take a hospital's receipt into its case. Raises :class:`NotPermitted`, :class:`IntegrityError`; audited."""
    purpose = case.request().document.purpose
    with audited(audit, "review.receipt", case.case, purpose) as step:
        receipt = parse(content, Receipt)
        record = case.issue_record()
        if record is None:
            raise NotPermitted("nothing was issued in this case", reason_code="wrong_state")
        check_receipt(receipt, record, rules, now)
        require_state(case, rules, now, ("issued",))
        commit_point("review.receipt.before")
        case.put(RECEIPT, content, "a receipt")
        commit_point("review.receipt.after")
        step.reason_code = "received"
        step.counts = {"listed": receipt.document.listed}
        step.digests = {"ciphertext": receipt.document.ciphertext_sha256}
    return receipt


def overdue(reviews: Path, rules: Rules, now: datetime) -> list[Case]:
    """The cases whose list nobody has signed for in time, by code."""
    limit = timedelta(days=rules.policy.limit("receipt_days"))
    found = []
    for case in cases(reviews):
        record = case.issue_record()
        if record is None or case.receipt() is not None:
            continue
        if now >= moment_of(record.document.issued_at) + limit:
            found.append(case)
    return found


def raise_overdue(
    reviews: Path, incidents: Path, rules: Rules, *, audit: AuditLog, now: datetime
) -> Sequence[Incident]:
    """Enter an incident for every overdue receipt, once per case; returns the new ones."""
    known = {
        incident.case
        for incident in list_incidents(incidents)
        if incident.type is IncidentType.OVERDUE_RECEIPT
    }
    return [
        raise_incident(
            incidents, IncidentType.OVERDUE_RECEIPT, case.case, audit=audit, now=now, case=case.case
        )
        for case in overdue(reviews, rules, now)
        if case.case not in known
    ]
