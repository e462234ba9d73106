"""The command line, ``wardwatch``. Stable: scripts and checks rely on its names, options and exit codes."""

from __future__ import annotations

from flows.cli.application import main

__all__ = ["main"]
