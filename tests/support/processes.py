"""Processes: starting Wardwatch as a child, with compiled modules kept for the next child of the session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

# Nothing that the machine running the tests has set for Wardwatch or Prefect may reach a child.
_OURS = ("WARDWATCH_", "PREFECT_")


def child_environment(shared_folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment for a child. Python keeps its compiled modules in ``shared_folder``: importing everything
    takes a child seven seconds without and two with them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "PYTHONPYCACHEPREFIX": str(shared_folder / "compiled"), **(extra or {})}


def python(
    *arguments: str, shared_folder: Path, extra: Mapping[str, str] | None = None, timeout: float = 180
) -> subprocess.CompletedProcess[str]:
    """Run this Python with ``arguments`` in the project's folder, to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=child_environment(shared_folder, extra),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def wardwatch(
    root: Path, *arguments: str, shared_folder: Path, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line on the workspace at ``root``, as a process of its own."""
    command = ("-c", "from flows.cli import main; main()", "--workspace", str(root))
    return python(*command, *arguments, shared_folder=shared_folder, extra=extra)
