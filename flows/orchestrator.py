"""The orchestrator's surroundings: where Prefect keeps its database, and how a flow run tells what it does.

Prefect reads its settings when it is imported, so :func:`prepare` comes before the first ``import prefect``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.files import make_folder
from infra.hardening import harden_process, install_hooks, install_safe_logging
from infra.night import Outcome
from infra.workspace import Workspace
from schemas.errors import WardwatchError

# The first start of the embedded server makes its database, which takes half a minute on a slow machine.
EPHEMERAL_STARTUP_SECONDS = "120"


def prepare(orchestrator_folder: Path) -> None:
    """Settings of Prefect for this process: its database in the workspace, no telemetry, few words.

    What the environment sets already (a server of one's own in ``PREFECT_API_URL``) is left as it is.
    """
    make_folder(orchestrator_folder)
    settings = {
        "PREFECT_HOME": str(orchestrator_folder),
        "PREFECT_PROFILES_PATH": str(orchestrator_folder / "profiles.toml"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": EPHEMERAL_STARTUP_SECONDS,
        # What a run fails with is said once, by who called it.
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        # Nothing here is made of Prefect's blocks; entering them into a new database takes a second.
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    # Telemetry is off whatever the environment says.
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"


def harden(workspace: str) -> None:
    """What the command line does to its process first, for the process of a worker too.

    Raises :class:`~schemas.errors.WorkspaceError` if ``workspace`` is none.
    """
    install_hooks()
    install_safe_logging()
    harden_process(Workspace.open(Path(workspace)).zone("tmp"))


class Watcher:
    """What a flow run says goes to standard output, which a worker keeps with the run; and its end."""

    def __init__(
        self,
        say: Callable[[str], None] = print,
        progress: Callable[[str, int], None] = lambda _delivery, _rows: None,
    ) -> None:
        self.say = say
        self.progress = progress
        self.outcome: Outcome | None = None

    @classmethod
    def quiet(cls) -> Watcher:
        """One that says nothing: what a machine reads is the document and nothing else."""
        return cls(lambda _line: None)

    def ended(self, outcome: Outcome) -> None:
        """Keep the outcome for the command line, and fail the run with the first problem if there was one."""
        self.outcome = outcome
        if outcome.problems:
            raise RunHadProblems(outcome)


def leave_summary(outcome: Outcome) -> None:
    """The summary of a run as an artifact of the orchestrator, for whoever looks there first. Counts and ids only."""
    from prefect.artifacts import create_markdown_artifact

    lines = [
        f"# {'Nothing new' if outcome.nothing_new else 'Run ' + (outcome.run_id or 'without a publication')}",
        "",
    ]
    for what in ("landed", "ingested", "superseded"):
        deliveries: list[str] = getattr(outcome, what)
        lines += [f"- {what}: {len(deliveries)}", *(f"  - {delivery}" for delivery in deliveries)]
    lines += [
        f"- problems: {len(outcome.problems)}",
        *(f"  - {problem.line()}" for problem in outcome.problems),
    ]
    create_markdown_artifact(key="wardwatch-run", markdown="\n".join(lines), description="Summary of a run")


class RunHadProblems(WardwatchError):
    """The run went to its end, and some deliveries were refused on the way."""

    code = "run.had_problems"

    def __init__(self, outcome: Outcome) -> None:
        count = len(outcome.problems)
        super().__init__(f"{count} delivery problem(s), the first: {outcome.problems[0].line()}")


_watcher = Watcher()


def watcher() -> Watcher:
    """Who watches this process: the command line if it runs the flow itself, else standard output."""
    return _watcher


@contextmanager
def watched_by(watching: Watcher) -> Iterator[Watcher]:
    """Let ``watching`` see the flow runs of this process."""
    global _watcher
    before, _watcher = _watcher, watching
    try:
        yield watching
    finally:
        _watcher = before
