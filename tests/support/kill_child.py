"""Runs that kill themselves, and the server that starts them.

Each run is a process of its own. It does the work of a scenario in a workspace, writes every commit point that it
reaches to a trace file, and at the point and time that it was told sends itself SIGKILL: no handler, no ``finally``,
no buffer written out, as when the machine's memory runs out or an operator kills the run.

Importing the judge's and the report's libraries takes a process some seconds. So the server imports them, and
nothing of ours, and forks for each run; libraries with threads of their own (Polars, DuckDB) do not survive a fork
and are imported by the run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from tests.support.processes import PROJECT, child_environment


@dataclass(frozen=True)
class Ended:
    """How a run ended. ``code`` as :mod:`subprocess` gives it: 0, an error's exit code, or -9 after a kill.
    ``said``: the error as the command line would show it, or a traceback where it was no typed one."""

    code: int
    said: str


class KillServer:
    """Starts runs and waits for them. Used in a ``with``; one for each worker of the session."""

    def __init__(self, shared_folder: Path) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.kill_child"],
            cwd=PROJECT,
            env=child_environment(shared_folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(timeout=60)

    def run(
        self, workspace: Path, scenario: str, moment: datetime, trace: Path, point: str = "", time: int = 0
    ) -> Ended:
        """Do the work of ``scenario``, killed when ``point`` is reached for the ``time``-th time, never without a
        point."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        request = [str(workspace), scenario, moment.isoformat(), str(trace), point, time]
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        said = trace.with_name(f"{trace.name}.said")
        return Ended(
            os.waitstatus_to_exitcode(answer), said.read_text(encoding="utf-8") if said.exists() else ""
        )


def serve() -> None:
    import altair  # noqa: F401
    import great_expectations  # noqa: F401
    import pandas  # noqa: F401
    import scipy.stats  # noqa: F401
    import vl_convert  # noqa: F401

    assert not {"polars", "duckdb"} & set(sys.modules), "the server must not hold libraries with threads"
    for line in sys.stdin:
        run = os.fork()
        if run == 0:
            os._exit(_coded(json.loads(line)))
        print(json.dumps(os.waitpid(run, 0)[1]), flush=True)


def _coded(request: list[Any]) -> int:
    """Do the work; the exit code, with the error written beside the trace."""
    from schemas.errors import WardwatchError

    said = Path(f"{request[3]}.said")
    said.unlink(missing_ok=True)
    try:
        work(*request)
    except WardwatchError as error:
        said.write_text(str(error), encoding="utf-8")
        return error.exit_code
    except BaseException:
        said.write_text(traceback.format_exc(), encoding="utf-8")
        return 1
    return 0


def work(workspace: str, scenario: str, moment: str, trace: str, point: str, time: int) -> None:
    """One run, in a process of its own."""
    os.umask(0o077)
    written = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    left = time

    def reached(name: str) -> None:
        nonlocal left
        os.write(written, f"{name}\n".encode())
        if name == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    from infra import commit_points
    from infra.workspace import Workspace
    from tests.support.scenarios import SCENARIOS

    commit_points.reached = reached
    SCENARIOS[scenario].work(Workspace.open(Path(workspace)), datetime.fromisoformat(moment))


if __name__ == "__main__":
    serve()
