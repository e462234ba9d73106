"""Processes: starting Wardwatch as a child, with compiled modules kept for the next child of the session."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from tests.support.once import built_once

PROJECT = Path(__file__).resolve().parents[2]

# Nothing that the machine running the tests has set for Wardwatch or Prefect may reach a child.
_OURS = ("WARDWATCH_", "PREFECT_")


def child_environment(shared_folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment for a child. Python keeps its compiled modules in ``shared_folder``: importing everything
    takes a child seven seconds without and two with them. Those of libraries that were compiled when they were
    installed are linked there, for Python looks nowhere else then."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    compiled = built_once(shared_folder / "compiled", _link_compiled)
    return {**kept, "PYTHONPYCACHEPREFIX": str(compiled), **(extra or {})}


def _link_compiled(folder: Path) -> None:
    """Link every compiled module of the libraries from where Python looks for it below ``folder``."""
    folder.mkdir()
    for place in {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}:
        for parent, folders, names in os.walk(place):
            folders[:] = [name for name in folders if name != "site-packages"]
            if Path(parent).name != "__pycache__":
                continue
            looked_for = folder / Path(parent).parent.relative_to(place.anchor)
            looked_for.mkdir(parents=True, exist_ok=True)
            for name in names:
                if name.endswith(f".{sys.implementation.cache_tag}.pyc"):
                    (looked_for / name).symlink_to(Path(parent, name))


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
