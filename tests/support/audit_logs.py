"""Audit logs for tests: written by the real writer with a clock that ticks, signed, and changed behind its back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infra.audit import AuditLog
from infra.audit_checkpoint import CHECKPOINT_KEY
from infra.audit_finding import Finding, tampering
from infra.audit_line import canonical, line_hash
from infra.signing import SigningKey

START = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
LOG_KEY = SigningKey.load(bytes(range(32)))
LOG_PUBLIC = bytes.fromhex(LOG_KEY.public)
LOG_KEYS = {CHECKPOINT_KEY: [LOG_PUBLIC]}


def ticking(start: datetime = START) -> Callable[[], datetime]:
    """A clock that is a second later at every question."""
    times = iter(start + timedelta(seconds=n) for n in range(1_000_000))
    return lambda: next(times)


def writer(folder: Path, **options: Any) -> AuditLog:
    return AuditLog(folder, ticking(), "p-014", "data_engineer", **options)


def filled(folder: Path, events: int = 6, **options: Any) -> AuditLog:
    """A writer whose log has so many events (more)."""
    log = writer(folder, **options)
    for number in range(events):
        log.record("landing.read", f"hes_apc-2019{number:02d}-1f2e3d4c5b6a", purpose="backfill")
    return log


def lines_of(folder: Path) -> list[bytes]:
    return (folder / "log.ndjson").read_bytes().splitlines(keepends=True)


def rewrite(folder: Path, lines: list[bytes]) -> None:
    (folder / "log.ndjson").write_bytes(b"".join(lines))


def edited(line: bytes, *, hashed: bool = False, **change: Any) -> bytes:
    """``line`` with other content; ``hashed``: its hash made to fit."""
    entry = json.loads(line) | change
    if hashed:
        entry["h"] = line_hash(entry)
    return canonical(entry) + b"\n"


def rechained(lines: list[bytes]) -> list[bytes]:
    """What somebody does who knows the format: number and hash everything anew."""
    prev, result = "0" * 64, []
    for number, line in enumerate(lines, start=1):
        entry = json.loads(line) | {"seq": number, "prev": prev}
        entry["h"] = prev = line_hash(entry)
        result.append(canonical(entry) + b"\n")
    return result


def kinds(findings: list[Finding]) -> list[tuple[str, int]]:
    """(kind, line) of what is tampering."""
    return [(finding.kind, finding.line) for finding in tampering(findings)]
