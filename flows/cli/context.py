"""What every command needs: the workspace, the time, who is asking, and how to talk to a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from infra.audit import AuditLog, second_sink
from infra.hardening import harden_process
from infra.workspace import Workspace
from schemas.errors import UsageError

DEMO_NOTE = "demonstration workspace: demo agreement and demo roles, not for real data"

PERSON_VARIABLE = "WARDWATCH_PERSON"

# On a pipe a line of progress every few seconds is enough.
SECONDS_BETWEEN_LINES = 5.0


def workspace_from(folder: str) -> Path | None:
    return Path(folder).expanduser() if folder else None


@dataclass(frozen=True)
class Context:
    """``root``: the workspace folder, if one was named."""

    root: Path | None

    def path(self) -> Path:
        if self.root is None:
            raise UsageError(
                "no workspace was named",
                next_step="give --workspace DIR before the command, or set WARDWATCH_WORKSPACE",
            )
        return self.root

    def open(self, *, quiet: bool = False) -> Workspace:
        """The workspace, with this process hardened for it. Says so if it is a demonstration."""
        workspace = Workspace.open(self.path())
        harden_process(workspace.zone("tmp"))
        if workspace.settings.agreement.demo and not quiet:
            print(f"({DEMO_NOTE})", file=sys.stderr)
        return workspace


def context_of(context: typer.Context) -> Context:
    found: Context = context.obj
    return found


def now() -> datetime:
    return datetime.now(UTC)


def is_named() -> bool:
    """Whether anybody is named as asking."""
    return PERSON_VARIABLE in os.environ


def person(default: str) -> str:
    """Who is asking: WARDWATCH_PERSON, a staff id, never a name."""
    return os.environ.get(PERSON_VARIABLE, default)


def audit_log(workspace: Workspace, role: str, who: str = "") -> AuditLog:
    """The audit log in the name of ``who``, or of who is asking, in ``role``. Nobody is asked whether that is true:
    see :mod:`flows.cli.acting`."""
    return AuditLog(
        workspace.zone("audit"),
        now,
        who or person(f"demo-{role.replace('_', '-')}"),
        role,
        second_sink=second_sink(workspace.settings.second_audit_sink),
    )


def print_json(document: Mapping[str, Any] | list[Any]) -> None:
    print(json.dumps(document, indent=1, default=str, ensure_ascii=False))


def teller() -> tuple[Callable[[str], None], Callable[[str, int], None]]:
    """(say, progress): a live line on a terminal, plain lines now and then elsewhere."""
    live = sys.stdout.isatty()
    last = [0.0]

    def say(text: str) -> None:
        print(("\r\033[K" if live else "") + text, flush=True)

    def progress(what: str, rows: int) -> None:
        moment = time.monotonic()
        if moment - last[0] < (0.1 if live else SECONDS_BETWEEN_LINES):
            return
        last[0] = moment
        if live:
            print(f"\r\033[K{what}: {rows:,} records read", end="", flush=True)
        else:
            print(f"{what}: {rows:,} records read so far", flush=True)

    return say, progress
