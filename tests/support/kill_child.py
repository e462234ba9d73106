"""A run that kills itself: ``python -m tests.support.kill_child WORKSPACE SCENARIO TIME TRACE [POINT NTH]``.

Does the work of the scenario in the workspace. Every commit point that is reached is written to the file TRACE,
one name a line; when POINT is reached for the NTH time, the process sends itself SIGKILL: no handler, no ``finally``,
no buffer written out, as when the machine's memory runs out or an operator kills the run.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import datetime
from pathlib import Path

from infra import commit_points


def main(workspace: str, scenario: str, moment: str, trace: str, point: str = "", nth: str = "0") -> None:
    os.umask(0o077)
    left = int(nth)
    written = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)

    def reached(name: str) -> None:
        nonlocal left
        os.write(written, f"{name}\n".encode())
        if name == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    # mypy: the hook is made to be replaced.
    commit_points.reached = reached

    from infra.workspace import Workspace
    from tests.support.scenarios import SCENARIOS

    SCENARIOS[scenario].work(Workspace.open(Path(workspace)), datetime.fromisoformat(moment))


if __name__ == "__main__":
    main(*sys.argv[1:])
