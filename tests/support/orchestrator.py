"""The orchestrator: a Prefect server and a worker as real processes on loopback, for the tests of the deployments."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import PROJECT, child_environment

STARTED_WITHIN_SECONDS = 180


@dataclass(frozen=True)
class Orchestrator:
    """A running server. ``home``: its PREFECT_HOME, with its database. ``log``: where server and worker write."""

    home: Path
    log: Path
    url: str
    environment: dict[str, str]

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The ``prefect`` command as a person would call it, from the project's folder."""
        return subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def get(self, path: str) -> Any:
        """An answer of the server's interface."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            return json.load(answer)

    def find(self, path: str, **conditions: Any) -> Any:
        """An answer to a question of the kind ``POST /flow_runs/filter``."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            data=json.dumps(conditions).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def orchestrator(folder: Path, shared_folder: Path, workspace: Path) -> Iterator[Orchestrator]:
    """A server with its home in ``folder``, told of one workspace, without telemetry or dashboard."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    home = folder / "prefect"
    environment = child_environment(
        shared_folder,
        {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_CLI_COLORS": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",  # a run waits for the worker's next look, ten seconds apart else
            "WARDWATCH_WORKSPACE": str(workspace),
        },
    )
    found = Orchestrator(home, folder / "orchestrator.log", url, environment)
    with _process(found, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui") as server:
        _wait_until_it_answers(found, server)
        yield found


@contextmanager
def worker(server: Orchestrator, pool: str) -> Iterator[None]:
    """A worker of the pool, as long as the ``with`` lasts."""
    with _process(server, "worker", "start", "--pool", pool, "--type", "process"):
        yield


@contextmanager
def _process(server: Orchestrator, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process group of its own, ended with all that it started."""
    with server.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=PROJECT,
            env=server.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            continue
    process.wait(timeout=20)


def _wait_until_it_answers(server: Orchestrator, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTED_WITHIN_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended:\n{server.log.read_text()}"
        try:
            if server.get("/health") is True:
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(f"the server did not answer:\n{server.log.read_text()}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
