"""The nightly run, as a story and as a Prefect flow.

The story is plain: land, ingest, compute, publish, account. Each step is a Prefect task without arguments and
without a result, so that the orchestrator's database holds names, times and typed messages, and nothing else. A
step is tried again only after a transient error of the storage.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from flows.steps import Step, plain_step
from infra.night import Night, Outcome, begin
from infra.workspace import Workspace

PURPOSE = "nightly_publication"
PERSON = "wardwatch-pipeline"
ROLE = "pipeline"

Say = Callable[[str], None]
Progress = Callable[[str, int], None]


def now() -> datetime:
    return datetime.now(UTC)


def tell_nothing(_delivery: str, _rows: int) -> None:
    """The progress of a run that nobody watches."""


def run_night(
    root: Path,
    *,
    step: Step = plain_step,
    say: Say = print,
    progress: Progress = tell_nothing,
    clock: Callable[[], datetime] = now,
) -> Outcome:
    """Everything for whatever is new in the workspace at ``root``.

    A refused delivery is a problem of the outcome and does not stop the others. Raises typed errors only.
    """
    workspace = Workspace.open(root)
    with begin(
        workspace, purpose=PURPOSE, person=PERSON, role=ROLE, clock=clock, say=say, progress=progress
    ) as night:
        with night.writing():
            step("sweep", night.sweep)
            step("land", night.land_inbox)
            step("ingest", night.ingest_new)
        finish(night, step)
        return night.outcome


def finish(night: Night, step: Step) -> None:
    """The second half of every run: compute, publish and account, unless these inputs are published already."""
    inputs = night.inputs_digest()
    night.outcome.inputs = inputs
    if night.is_published(inputs):
        night.outcome.nothing_new = True
        night.say("nothing new: what is published is made of exactly these deliveries, contracts and code")
        return
    computation = step("compute", night.compute)
    publication = step("publish", lambda: night.publish(computation, inputs))
    step("account", lambda: night.account(computation, publication, inputs))
