"""The finding: one thing that is to be said about an audit log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing about a log. ``line`` counts from 1 in the file, 0 where no line is meant.

    ``kind`` of tampering: missing, unreadable, edited, deleted, inserted, reordered, rewritten, truncated,
    split_view, sinks_differ, hidden, unlocked, checkpoint_unreadable, checkpoint_signature,
    checkpoint_unknown_key, witness_signature. Of a note, which is worth reading and no sign of tampering:
    clock_moved_back, no_checkpoint, recovered, torn, witnessed, unknown_witness.
    """

    kind: str
    says: str
    line: int = 0
    severity: Literal["tampering", "note"] = "tampering"

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.says} ({self.kind if self.severity == 'tampering' else 'note'})"


def tampering(findings: Iterable[Finding]) -> list[Finding]:
    """Those of ``findings`` that mean that the log is not what was written."""
    return [finding for finding in findings if finding.severity == "tampering"]
