"""The audit log, asked for a few kinds of events only: what retention needs to know of years of lines, fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from infra.audit_intent import BEGUN
from infra.audit_line import LOG, Event, event_of, parse_line
from infra.files import storage_errors


def done(audit_folder: Path, *actions: str) -> Iterator[Event]:
    """The events of ``actions`` (exactly these) that were allowed and done, oldest first: no refusal, no failure, and
    no line that only says what is about to be done.

    Lines are taken apart only where one of the names occurs in them; parsing every line of a few years would take
    longer than a night that has nothing to do.
    """
    path = audit_folder / LOG
    if not path.exists():
        return
    marks = [f'"{action}"'.encode() for action in actions]
    with storage_errors("the audit log's reader"), path.open("rb") as stream:
        for raw in stream:
            if not any(mark in raw for mark in marks):
                continue
            entry = parse_line(raw.rstrip(b"\n"))
            if entry is None or entry["action"] not in actions or entry["decision"] != "allow":
                continue
            with suppress(ValueError):
                event = event_of(entry)
                if event.reason_code != BEGUN:
                    yield event
