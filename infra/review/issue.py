"""Issue: from two approvals to one sealed file in the outbox, or to nothing.

The order is the promise. Intent in the audit log on every sink; all rules again, at this moment; the approvals used
up, durably; the cohort, as it was kept or found anew, compared with the digest that was signed; the shares joined;
exactly the named parts opened; the list chosen, looked through, padded and sealed to the hospital's key; written
beside, made durable, put in place by one step; the result in the audit log. Plaintext exists in this process's memory
and nowhere else.

Any failure leaves nothing in the outbox, and its reason in the audit log. After the approvals were used up a failure
also finds the private half of the review's key destroyed, so that the released shares open nothing any more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import polars as pl

from infra.audit import AuditLog, Decision
from infra.audit import read as read_audit
from infra.audit_report import object_of
from infra.commit_points import commit_point
from infra.files import make_folder, open_private, storage_errors, sync_folder
from infra.incidents import IncidentType, raise_incident
from infra.keyring import Keyring
from infra.register import Register
from infra.review import break_glass, ledger
from infra.review.approval import released_shares
from infra.review.audited import audited
from infra.review.case import (
    ISSUE,
    LEDGER,
    PART,
    REVIEW_KEY,
    ZONE,
    Case,
    cases,
    folders,
    forget_ended,
    one_at_a_time,
    open_case,
    sweep_unfinished,
)
from infra.review.cohort import Cohort, check_manifest, checked_question, deliveries_of, find_cohort, summary
from infra.review.documents import Approval, IssueRecord, Request, Signed, sign, stamp
from infra.review.envelope import seal_to_hospital
from infra.review.hospital_list import (
    EXTENSION,
    OPENED_SCHEMA,
    Heading,
    HospitalList,
    Shuffles,
    archive,
    check_content,
    choose,
    record_name,
    system_random,
)
from infra.review.kept import lake_state, open_cohort, sealed_cohort
from infra.review.permission import (
    Rules,
    check_pair,
    check_request,
    check_size,
    check_time,
    rules_of,
)
from infra.review.standing import refuse_ended, require_state
from infra.sealing import SecretText, unseal
from infra.vault import RECORD_KEY
from infra.vault_opening import open_with_shares
from infra.workspace import Workspace
from schemas.errors import IntegrityError, KeyUnavailable, NotPermitted, UsageError, WardwatchError
from schemas.review_policy import Side

OUTBOX = "outbox"
MOST_VERSIONS = 1000


def issue(
    workspace: Workspace,
    case_id: str,
    *,
    keyring: Keyring,
    register: Register,
    audit: AuditLog,
    clock: Callable[[], datetime],
    order: Shuffles | None = None,
) -> Signed[IssueRecord]:
    """Make the sealed list of a case. Only :class:`Signed` counts and digests come back.

    Raises :class:`NotPermitted` with the reason code of the rule that does not hold, :class:`IntegrityError`,
    :class:`AuditUnavailable` and what the stores raise. Each leaves nothing in the outbox.
    """
    reviews = make_folder(workspace.zone(ZONE))
    try:
        case = open_case(reviews, case_id)
    except WardwatchError:
        with audited(audit, "review.issue", case_id, ""):
            raise
    with one_at_a_time(reviews):
        purpose, allowed, about = _announced(case)
        audit.record("review.issue", about, purpose=purpose, case=case.case, reason_code="intent")
        register.require_recorded(audit.folder)  # before the sweep, which would take evidence away
        sweep(workspace, keyring, audit, clock())
        placed: list[Path] = []
        try:
            with audited(audit, "review.issue", case.case, purpose, allowed=allowed, about=about) as step:
                run = _Run(workspace, case, keyring, register, audit, clock, order or system_random(), placed)
                record = run.issue()
                step.reason_code = "issued"
                step.counts = {"listed": record.document.listed, **record.document.left_out}
                step.digests = _digests(record)
        except BaseException:
            _take_back(placed)
            raise
    return record


def _announced(case: Case) -> tuple[str, Decision, str]:
    """Purpose, decision and object of the lines about an issue; of a request that cannot be read, only the case."""
    try:
        asked = case.request().document
    except IntegrityError:
        return "", "allow", case.case
    about = object_of(case.case, hospitals=[asked.recipient], items=asked.items)
    return asked.purpose, "break_glass" if asked.purpose == break_glass.PURPOSE else "allow", about


def tidy(workspace: Workspace, signers: Mapping[str, str], audit: AuditLog, now: datetime) -> int:
    """Between issues: complete the log (:func:`account_for_issued`), and remove what cases that are over have no use
    for, above all expired ones. ``signers``: the pipeline's, key id -> public key. Returns how many these were."""
    reviews = make_folder(workspace.zone(ZONE))
    with one_at_a_time(reviews):
        account_for_issued(reviews, signers, audit)
        return forget_ended(cases(reviews), now)


def account_for_issued(reviews: Path, signers: Mapping[str, str], audit: AuditLog) -> int:
    """Write the line about every list that counts and has none, because its run was killed between the two. Returns
    how many. Only for whoever holds :func:`~infra.review.case.one_at_a_time`."""
    told = {
        event.case
        for event in read_audit(audit.folder, action="review.issue")
        if event.reason_code == "issued"
    }
    missing = 0
    for case in cases(reviews):
        record = case.issue_record() if case.case not in told else None
        signer = signers.get(record.key_id) if record is not None else None
        if record is None or signer is None:
            continue
        record.verify(signer)
        asked = case.request().document
        audit.record(
            "review.issue",
            object_of(case.case, hospitals=[asked.recipient], items=asked.items),
            purpose=asked.purpose,
            case=case.case,
            decision="break_glass" if record.document.emergency else "allow",
            reason_code="issued",
            counts={"listed": record.document.listed, **record.document.left_out},
            digests=_digests(record),
        )
        missing += 1
    return missing


def _digests(record: Signed[IssueRecord]) -> dict[str, str]:
    return {
        "request": record.document.request_sha256,
        "ciphertext": record.document.ciphertext_sha256,
        "recipient_key": hashlib.sha256(record.document.recipient_key.encode()).hexdigest(),
    }


def sweep(workspace: Workspace, keyring: Keyring, audit: AuditLog, now: datetime) -> int:
    """Remove what killed runs left: files of the outbox that no signed issue record vouches for (each is audited),
    what cases that are over have no use for (:func:`~infra.review.case.forget_ended`), and unfinished files.

    Only for whoever holds :func:`one_at_a_time`. Returns the number of files taken out of the outbox.
    """
    reviews = workspace.zone(ZONE)
    account_for_issued(reviews, keyring.signers("manifest_signing"), audit)
    forget_ended(cases(reviews), now)
    for folder in (*folders(reviews), reviews / LEDGER):
        sweep_unfinished(folder)
    outbox, removed = workspace.zone(OUTBOX), 0
    vouched: dict[str, str] = {}
    for case in cases(workspace.zone(ZONE)):
        record = case.issue_record()
        if record is not None:
            signer = keyring.signers("manifest_signing").get(record.key_id)
            if signer is not None:
                record.verify(signer)
                vouched[record.document.file] = record.document.ciphertext_sha256
    for path in sorted(outbox.iterdir()) if outbox.is_dir() else []:
        if path.is_symlink() or not path.is_file():
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if vouched.get(path.name) == digest:
            continue
        audit.record(
            "review.sweep",
            "outbox",
            purpose="",
            decision="fail",
            reason_code="no_issue_record",
            digests={"ciphertext": digest},
        )
        with storage_errors(OUTBOX):
            path.unlink()
            sync_folder(outbox)
        removed += 1
    return removed


def _take_back(placed: list[Path]) -> None:
    for path in placed:
        with suppress(OSError):
            path.unlink()
            sync_folder(path.parent)


class _Run:
    """One attempt, from the rules to the file. ``placed`` collects what has to be taken back if anything fails."""

    def __init__(
        self,
        workspace: Workspace,
        case: Case,
        keyring: Keyring,
        register: Register,
        audit: AuditLog,
        clock: Callable[[], datetime],
        order: Shuffles,
        placed: list[Path],
    ) -> None:
        self._workspace = workspace
        self._case = case
        self._keyring = keyring
        self._register = register
        self._audit = audit
        self._clock = clock
        self._order = order
        self._placed = placed
        self._rules: Rules = rules_of(workspace, register)
        self._signers = keyring.signers("manifest_signing")

    def issue(self) -> Signed[IssueRecord]:
        request, pair = self._permitted()
        asked, policy = request.document, self._rules.policy
        sealed_records = sealed_cohort(self._case)
        secret = self._spend(request, pair)
        cohort = self._same_cohort(request, sealed_records)
        chosen = self._chosen(request, pair, cohort, secret)
        del secret
        if not chosen.numbers:
            raise NotPermitted(
                "none of the patients has a number that this hospital issued",
                reason_code="empty_list",
            )
        check_size(asked, policy, len(chosen.numbers))
        now = self._clock()
        check_time(asked, policy, now)
        key = self._register.hospital(asked.recipient, now)
        if key.fingerprint != asked.recipient_key:
            raise NotPermitted(
                "the recipient has another key now than the one that the request names",
                reason_code="recipient_key_changed",
            )
        heading = Heading(asked.case, asked.recipient, now.date(), self._free_version(asked, now))
        check_content(heading, chosen, policy.placeholders)
        content = archive(heading, chosen.numbers, policy.limit("size_bucket_bytes"))
        sealed = seal_to_hospital(content, key)
        del content
        return self._place(request, pair, chosen, heading, sealed)

    # Before anything is opened

    def _permitted(self) -> tuple[Signed[Request], dict[Side, Signed[Approval]]]:
        """All rules, at this moment."""
        now = self._clock()
        self._register.require_recorded(self._audit.folder)
        request = self._case.request()
        break_glass.refuse_unreviewed(
            self._case.reviews, self._workspace.zone("incidents"), self._rules, audit=self._audit, now=now
        )
        refuse_ended(self._case, request.sha256, self._audit.folder)
        check_request(request, self._rules, now)
        pair = check_pair(self._case.approvals(), request, self._rules, now)
        if self._audit.person in {approval.document.person for approval in pair.values()}:
            raise NotPermitted("who approved a list does not issue it", reason_code="issuer_approves")
        require_state(self._case, self._rules, now, ("approved",))
        return request, pair

    def _spend(self, request: Signed[Request], pair: dict[Side, Signed[Approval]]) -> SecretText:
        """Use up the approvals, and take the private half of the review's key from the disk for good."""
        now = self._clock()
        purpose = request.document.purpose
        emergency = purpose == break_glass.PURPOSE
        ledger.spend(
            self._case,
            request,
            pair.values(),
            signing_key=self._keyring.manifest_signing_key,
            now=now,
        )
        try:
            self._audit.record(
                "review.spend",
                self._case.case,
                purpose=purpose,
                case=self._case.case,
                decision="break_glass" if emergency else "allow",
                reason_code="spent",
                digests={"request": request.sha256},
            )
            if emergency:
                raise_incident(
                    self._workspace.zone("incidents"),
                    IncidentType.BREAK_GLASS,
                    self._case.case,
                    audit=self._audit,
                    now=now,
                    case=self._case.case,
                )
            return self._review_key()
        finally:
            self._case.forget()

    def _review_key(self) -> SecretText:
        try:
            sealed = (self._case.folder / REVIEW_KEY).read_bytes()
        except OSError:
            raise KeyUnavailable(
                "the key of this review is gone", next_step="make a new request; both officers decide again"
            ) from None
        return SecretText(unseal(sealed, self._keyring.landing_recovery_identities).decode("ascii"))

    # Opening

    def _same_cohort(self, request: Signed[Request], sealed_records: bytes | None) -> Cohort:
        """The cohort, if it is the one that was signed: as it was kept while the lake is what it was, else as it is
        found now. Of both the same is asked."""
        asked, policy = request.document, self._rules.policy
        checked_question(asked.predicate, asked.recipient, policy)
        deliveries = deliveries_of(self._workspace, self._keyring)
        if sealed_records is not None and lake_state(deliveries) == asked.lake_state:
            cohort = open_cohort(sealed_records, asked.id, self._keyring)
        else:
            cohort = find_cohort(
                self._workspace, self._keyring, deliveries, asked.predicate, asked.recipient, policy
            )
        found = summary(
            self._workspace,
            deliveries,
            cohort,
            asked.id,
            asked.recipient,
            asked.items,
            self._signers,
        )
        if found != asked.cohort:
            raise NotPermitted(
                "the records that the request is about are not the ones that were approved",
                next_step="make a new request; both officers then decide about today's records",
                reason_code="cohort_changed",
            )
        return cohort

    def _chosen(
        self,
        request: Signed[Request],
        pair: dict[Side, Signed[Approval]],
        cohort: Cohort,
        secret: SecretText,
    ) -> HospitalList:
        asked = request.document
        shares = {side: released_shares(approval, request, secret) for side, approval in pair.items()}
        frames = [pl.DataFrame(schema=OPENED_SCHEMA)]
        for delivery in asked.cohort.deliveries:
            if not delivery.columns:
                continue
            self._audit.record(
                "vault.open",
                object_of(delivery.delivery_id, hospitals=[asked.recipient], items=asked.items),
                purpose=asked.purpose,
                case=asked.case,
                decision="break_glass" if asked.purpose == break_glass.PURPOSE else "allow",
                reason_code="opening",
                counts={"records": delivery.records},
            )
            folder = self._workspace.zone("vault") / delivery.folder
            check_manifest(folder, delivery.vault_manifest)
            opened = open_with_shares(
                folder,
                shares["guardian"].get(delivery.folder, {}),
                shares["siro"].get(delivery.folder, {}),
                asked.recipient,
                delivery.columns,
                self._signers,
            )
            frames += [
                opened.select(
                    pl.lit(delivery.delivery_id).alias("delivery_id"),
                    RECORD_KEY,
                    pl.col(column).alias("number"),
                )
                for column in delivery.columns
            ]
        return choose(cohort, pl.concat(frames), self._rules.policy.placeholders, self._order)

    # Writing

    def _free_version(self, asked: Request, now: datetime) -> int:
        """The next version of the record's name of this day: lists of several cases may go to one hospital."""
        outbox = make_folder(self._workspace.zone(OUTBOX))
        taken = {path.name for path in outbox.iterdir()}
        for version in range(1, MOST_VERSIONS):
            name = record_name(Heading(asked.case, asked.recipient, now.date(), version), EXTENSION)
            if name not in taken:
                return version
        raise UsageError("too many lists for one hospital on one day")

    def _place(
        self,
        request: Signed[Request],
        pair: dict[Side, Signed[Approval]],
        chosen: HospitalList,
        heading: Heading,
        sealed: bytes,
    ) -> Signed[IssueRecord]:
        asked = request.document
        name = record_name(heading, EXTENSION)
        record = sign(
            IssueRecord(
                case=asked.case,
                request_sha256=request.sha256,
                approvals=tuple(sorted(approval.sha256 for approval in pair.values())),
                recipient=asked.recipient,
                recipient_key=asked.recipient_key,
                file=name,
                ciphertext_sha256=hashlib.sha256(sealed).hexdigest(),
                ciphertext_bytes=len(sealed),
                listed=len(chosen.numbers),
                left_out=chosen.left_out,
                issued_at=stamp(self._clock()),
                register_digest=self._register.digest,
                emergency=asked.purpose == break_glass.PURPOSE,
            ),
            self._keyring.manifest_signing_key,
        )
        target = self._workspace.zone(OUTBOX) / name
        part = target.with_name(name + PART)
        self._placed += [part, target]
        with storage_errors(OUTBOX):
            with os.fdopen(open_private(part), "wb") as stream:
                stream.write(sealed)
                stream.flush()
                os.fsync(stream.fileno())
            commit_point("review.list.before")
            os.rename(part, target)
            sync_folder(target.parent)
            commit_point("review.list.after")
        # The signed record makes the file count; without it the next run sweeps the file.
        self._case.put(ISSUE, record.content, "an issued list")
        self._placed.append(self._case.folder / ISSUE)
        commit_point("review.record.after")
        return record
