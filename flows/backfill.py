"""The backfill: ingest deliveries that are in use once more, and publish what follows from it.

For a corrected contract or code: a re-delivery by itself is taken by the nightly run. The vault gets a new
generation only where the contract of an identifiable item changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from flows.nightly import Progress, Say, finish, now, tell_nothing
from flows.steps import Step, plain_step
from infra.night import Outcome, begin
from infra.workspace import Workspace
from schemas.errors import UsageError
from schemas.loader import datasets
from transforms.identifiers import refuse_identifiers

PURPOSE = "backfill"
ROLE = "data_engineer"


@dataclass(frozen=True)
class Request:
    """What to ingest again: deliveries of ``dataset`` whose financial year touches ``first`` to ``last``."""

    dataset: str
    first: date
    last: date
    reason: str
    person: str
    dry_run: bool = False


def month(text: str, *, end: bool) -> date:
    """``YYYYMM`` as the first or the last day of that month. Raises :class:`UsageError`."""
    if len(text) != 6 or not text.isdigit() or not 1 <= int(text[4:]) <= 12:
        raise UsageError("a month is written YYYYMM, for example 202004")
    year, number = int(text[:4]), int(text[4:])
    if not end:
        return date(year, number, 1)
    following = date(year + number // 12, number % 12 + 1, 1)
    return date.fromordinal(following.toordinal() - 1)


def run_backfill(
    root: Path,
    request: Request,
    *,
    step: Step = plain_step,
    say: Say = print,
    progress: Progress = tell_nothing,
    clock: Callable[[], datetime] = now,
) -> Outcome:
    """Raises :class:`UsageError` for an unknown dataset or a range that ends before it begins, and
    :class:`IdentifierInText` for a reason that holds anything like an identifier."""
    if request.dataset not in datasets():
        raise UsageError(f"there is no such dataset; there are: {', '.join(datasets())}")
    if request.last < request.first:
        raise UsageError("the range ends before it begins")
    if len(request.reason.strip()) < 10:
        raise UsageError(
            "a backfill needs a reason of at least ten characters; it is kept in the manifest of the run"
        )
    refuse_identifiers(request.reason, "the reason")
    workspace = Workspace.open(root)
    with begin(
        workspace,
        purpose=PURPOSE,
        person=request.person,
        role=ROLE,
        clock=clock,
        say=say,
        progress=progress,
    ) as night:
        with night.writing():
            step("sweep", night.sweep)
            chosen = step(
                "ingest again",
                lambda: night.backfill(request.dataset, request.first, request.last, dry_run=request.dry_run),
            )
        for row in chosen:
            word = "would be ingested again" if request.dry_run else "was taken up"
            say(f"{row.delivery_id}: {word} ({row.rows_in:,} records)")
        if not chosen:
            say("no delivery in use falls into this range, nothing to do")
        if not request.dry_run and chosen:
            night.outcome.reason = request.reason
            finish(night, step)
        return night.outcome
