"""Case: the folder of one review, and the signed documents in it.

::

    reviews/<case>/request.json          the request, signed by the requester
                   review-key.age        private half of the review's key pair, sealed to the pipeline
                   cohort.age            the records that were found, sealed to the pipeline
                   approval-<digest>.json   an officer's approval; the name does not say whose
                   refusal.json withdrawal.json issue.json receipt.json emergency-review.json
    reviews/ledger/<request sha256>.json the approvals of this request are used up

Every document is written once, under a name that nothing has yet; none is ever changed. The two sealed files are
removed when the case ends.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, TypeVar

from infra.commit_points import commit_point
from infra.files import FILE_MODE, make_folder, open_private, storage_errors, sync_folder
from infra.review.documents import (
    CASE_ID,
    LARGEST_DOCUMENT,
    Approval,
    Asked,
    Document,
    EmergencyReview,
    IssueRecord,
    Receipt,
    Refusal,
    Request,
    Signed,
    Spending,
    Withdrawal,
    moment_of,
    parse,
)
from infra.review.permission import Rules, check_request
from infra.vault import MANIFEST_FILE, share_file
from schemas.errors import IntegrityError, UsageError

ZONE = "reviews"
LEDGER = "ledger"
REQUEST = "request.json"
REVIEW_KEY = "review-key.age"
KEPT_COHORT = "cohort.age"
APPROVAL = "approval-"
REFUSAL = "refusal.json"
WITHDRAWAL = "withdrawal.json"
ISSUE = "issue.json"
RECEIPT = "receipt.json"
EMERGENCY_REVIEW = "emergency-review.json"
PART = ".part"
OLD_SECONDS = 3600.0

Kind = TypeVar("Kind", bound=Document)
Wanted = TypeVar("Wanted", bound=Asked)
Which = TypeVar("Which", bound="Decided")


def read_small(path: Path, longest: int = LARGEST_DOCUMENT) -> bytes | None:
    """The content of a regular file of ours, None if there is none. Raises :class:`IntegrityError` for a link, a
    device, or a file longer than any of its kind."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        raise IntegrityError(f"{path.name} of a case cannot be read") from None
    with os.fdopen(descriptor, "rb") as stream, storage_errors("a document's reader"):
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise IntegrityError(f"{path.name} of a case is not a file")
        content = stream.read(longest + 1)
    if len(content) > longest:
        raise IntegrityError(f"{path.name} of a case is longer than it may be")
    return content


def write_new(path: Path, content: bytes) -> bool:
    """Write ``content`` durably to a name that nothing has yet: whole, or not at all; False if it was taken.

    Of two that try at the same time exactly one is told True.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART}")
    with storage_errors(path.parent.name):
        try:
            with os.fdopen(open_private(part), "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.link(part, path)  # unlike a rename this never replaces what is there
        except FileExistsError:
            return False
        finally:
            with suppress(OSError):
                part.unlink()
        sync_folder(path.parent)
    return True


@dataclass(frozen=True)
class Decided(ABC):
    """One thing that two officers decide about, in a folder of its own among others of its kind.

    ``action``: what its lines in the audit log begin with. ``show``: the command that shows what there is.
    ``zone``: the zone of the workspace that holds it.
    """

    action: ClassVar[str]
    show: ClassVar[str]
    zone: ClassVar[str]

    reviews: Path
    case: str

    @property
    def folder(self) -> Path:
        return self.reviews / self.case

    def put(self, name: str, content: bytes, what: str) -> None:
        """Keep a document. Raises :class:`UsageError` if the case has one of this name already."""
        if not write_new(make_folder(self.folder) / name, content):
            raise UsageError(f"the case has {what} already")

    def forget(self) -> None:
        """Remove what only an open case needs: the private half of the review's key, without which released shares
        open nothing, and the records that were found."""
        with storage_errors(ZONE):
            commit_point("review.key.before")
            for name in (REVIEW_KEY, KEPT_COHORT):
                (self.folder / name).unlink(missing_ok=True)
            sync_folder(self.folder)
            commit_point("review.key.after")

    def _one(self, name: str, kind: type[Kind]) -> Signed[Kind] | None:
        content = read_small(self.folder / name)
        if content is None:
            return None
        found = parse(content, kind)
        if found.document.case != self.case:
            raise IntegrityError(f"{name} belongs to another case")
        return found

    @abstractmethod
    def request(self) -> Signed[Asked]:
        """What was asked for. Raises as :meth:`_asked`."""

    @abstractmethod
    def check(self, rules: Rules, now: datetime) -> None:
        """Every rule that the request must keep whenever it is approved or used. Raises :class:`NotPermitted`,
        :class:`IdentifierInText` and :class:`IntegrityError`."""

    @abstractmethod
    def needed(self) -> list[str]:
        """The files of the workspace, by their paths in it, that an officer needs in order to approve."""

    def _asked(self, kind: type[Wanted]) -> Signed[Wanted]:
        """Raises :class:`UsageError` if there is no such case, :class:`IntegrityError` if it is not canonical."""
        found = self._one(REQUEST, kind)
        if found is None:
            raise UsageError("there is no such case", next_step=f"`{self.show}` lists them")
        return found

    def approvals(self) -> list[Signed[Approval]]:
        """Every approval in the folder, in the order of their names; nothing is verified here."""
        found = []
        if self.folder.is_dir():
            for path in sorted(self.folder.glob(f"{APPROVAL}*.json")):
                approval = self._one(path.name, Approval)
                if approval is not None:
                    found.append(approval)
        return found

    def refusal(self) -> Signed[Refusal] | None:
        return self._one(REFUSAL, Refusal)

    def withdrawal(self) -> Signed[Withdrawal] | None:
        return self._one(WITHDRAWAL, Withdrawal)

    def spending(self, request_sha256: str) -> Signed[Spending] | None:
        content = read_small(self.reviews / LEDGER / f"{request_sha256}.json")
        return None if content is None else parse(content, Spending)


class Case(Decided):
    """One case review of the folder ``reviews`` of a workspace, or of a bundle of the same shape."""

    action = "review"
    show = "wardwatch review show"
    zone = ZONE

    def request(self) -> Signed[Request]:
        return self._asked(Request)

    def check(self, rules: Rules, now: datetime) -> None:
        check_request(self.request(), rules, now)

    def needed(self) -> list[str]:
        names = (MANIFEST_FILE, share_file("guardian"), share_file("siro"))
        folders = [delivery.folder for delivery in self.request().document.cohort.deliveries]
        return [f"vault/{folder}/{name}" for folder in folders for name in names]

    def issue_record(self) -> Signed[IssueRecord] | None:
        return self._one(ISSUE, IssueRecord)

    def receipt(self) -> Signed[Receipt] | None:
        return self._one(RECEIPT, Receipt)

    def emergency_review(self) -> Signed[EmergencyReview] | None:
        return self._one(EMERGENCY_REVIEW, EmergencyReview)


def open_case(reviews: Path, case: str) -> Case:
    """The case of that code. Raises :class:`UsageError` for what is no code, or for a case that is not there."""
    return opened(Case, reviews, case)


def opened(kind: type[Which], reviews: Path, case: str) -> Which:
    """The one of ``kind`` of that code. Raises as :func:`open_case`."""
    if not CASE_ID.fullmatch(case):
        raise UsageError("a case has a code of twelve letters", next_step=f"`{kind.show}` lists them")
    found = kind(reviews, case)
    if found.folder.is_symlink():
        raise IntegrityError(
            "the folder of a case is a link", next_step="find out who made it, and remove it"
        )
    found.request()
    return found


def cases(reviews: Path) -> Iterator[Case]:
    """Every case review of the folder, by code."""
    return every(Case, reviews)


def every(kind: type[Which], reviews: Path) -> Iterator[Which]:
    """Everything of ``kind`` in the folder, by code. A folder without a request is what a killed one left, and none
    of them."""
    for path in folders(reviews):
        if os.path.lexists(path / REQUEST):
            yield kind(reviews, path.name)


def folders(reviews: Path) -> Iterator[Path]:
    """Every folder that has the name of a case, by name."""
    if reviews.is_dir():
        for path in sorted(reviews.iterdir()):
            if path.is_dir() and not path.is_symlink() and CASE_ID.fullmatch(path.name):
                yield path


def sweep_unfinished(folder: Path) -> None:
    """What a killed process left unfinished in the folder of a case or the ledger; what is younger than an hour may
    still be written."""
    left = [*folder.glob(f"*{PART}")]
    if folder.name != LEDGER and not (folder / REQUEST).exists():
        left += [folder / REVIEW_KEY, folder / KEPT_COHORT]
    for path in left:
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > OLD_SECONDS:
                path.unlink()


def forget_ended(found: Iterable[Decided], now: datetime) -> int:
    """Remove what only open cases need (:meth:`Decided.forget`) from those that are over; returns how many.

    Only for whoever holds what :func:`one_at_a_time` gives.
    """
    ended = 0
    for case in found:
        if not any((case.folder / name).exists() for name in (REVIEW_KEY, KEPT_COHORT)):
            continue
        request = case.request()
        if (
            now >= moment_of(request.document.expires)
            or case.spending(request.sha256) is not None
            or case.refusal() is not None
            or case.withdrawal() is not None
        ):
            case.forget()
            ended += 1
    return ended


@contextmanager
def one_at_a_time(reviews: Path) -> Iterator[None]:
    """Hold the using of approvals. The ledger decides who may; this keeps one run from sweeping another's file."""
    descriptor = os.open(reviews / ".issue.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
