"""The version of the code that computes: a digest over every file that can change a number.

A checkout's commit would not see an uncommitted change, and an installation has no commit; the files themselves
are always there.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("flows", "infra", "schemas", "sql", "transforms")
SUFFIXES = frozenset({".py", ".sql", ".yaml", ".html", ".j2", ".css"})


@cache
def code_version() -> str:
    """SHA-256 over the paths and bytes of the code, contracts, queries and templates."""
    digest = hashlib.sha256()
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0")
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
