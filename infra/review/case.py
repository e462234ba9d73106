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

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from infra.commit_points import commit_point
from infra.files import make_folder, open_private, storage_errors, sync_folder
from infra.review.documents import (
    CASE_ID,
    LARGEST_DOCUMENT,
    Approval,
    Document,
    EmergencyReview,
    IssueRecord,
    Receipt,
    Refusal,
    Request,
    Signed,
    Spending,
    Withdrawal,
    parse,
)
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

Kind = TypeVar("Kind", bound=Document)


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
class Case:
    """One case of the folder ``reviews`` of a workspace, or of a bundle of the same shape."""

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

    def request(self) -> Signed[Request]:
        """Raises :class:`UsageError` if there is no such case, :class:`IntegrityError` if it is not canonical."""
        found = self._one(REQUEST, Request)
        if found is None:
            raise UsageError("there is no such case", next_step="`wardwatch review show` lists them")
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

    def issue_record(self) -> Signed[IssueRecord] | None:
        return self._one(ISSUE, IssueRecord)

    def receipt(self) -> Signed[Receipt] | None:
        return self._one(RECEIPT, Receipt)

    def emergency_review(self) -> Signed[EmergencyReview] | None:
        return self._one(EMERGENCY_REVIEW, EmergencyReview)

    def spending(self, request_sha256: str) -> Signed[Spending] | None:
        content = read_small(self.reviews / LEDGER / f"{request_sha256}.json")
        return None if content is None else parse(content, Spending)


def open_case(reviews: Path, case: str) -> Case:
    """The case of that code. Raises :class:`UsageError` for what is no code, or for a case that is not there."""
    if not CASE_ID.fullmatch(case):
        raise UsageError(
            "a case has a code of twelve letters", next_step="`wardwatch review show` lists them"
        )
    found = Case(reviews, case)
    found.request()
    return found


def cases(reviews: Path) -> Iterator[Case]:
    """Every case of the folder, by code. A folder without a request is what a killed one left, and no case."""
    for path in folders(reviews):
        if os.path.lexists(path / REQUEST):
            yield Case(reviews, path.name)


def folders(reviews: Path) -> Iterator[Path]:
    """Every folder that has the name of a case, by name."""
    if reviews.is_dir():
        for path in sorted(reviews.iterdir()):
            if path.is_dir() and not path.is_symlink() and CASE_ID.fullmatch(path.name):
                yield path
