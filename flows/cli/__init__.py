"""The command line, ``wardwatch``. Stable: scripts and checks rely on its names, options and exit codes."""

from __future__ import annotations

import os

# Before numpy is imported: the case-mix fits are small, and with several threads of the linear algebra library their
# last digits depend on the number of cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from flows.cli.application import main

__all__ = ["main"]
