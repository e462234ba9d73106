"""The verdict on an audit log: exactly what is wrong with it, and on which line.

The chain shows edited, deleted, inserted and moved lines; the signed checkpoints show a log that was cut off
or rewritten as a whole, up to the size they vouch for; the second sink shows a difference between the two.
What nothing here can show is the loss of events written after the last checkpoint from both sinks: that takes
the copy of a later checkpoint that a witness keeps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from infra.audit_checkpoint import NoteRejected, check_note, checkpoint_paths, newest_checkpoint
from infra.audit_line import FIRST_PREV, LOG, STARTED, is_whole_object, line_hash, parse_line

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Finding:
    """One thing about a log. ``line`` counts from 1 in the file, 0 where no line is meant.

    ``kind`` of tampering: missing, unreadable, edited, deleted, inserted, reordered, rewritten, truncated,
    sinks_differ, checkpoint_unreadable, checkpoint_signature, checkpoint_unknown_key. Of a note, which is
    worth reading and no sign of tampering: clock_moved_back, no_checkpoint, recovered, torn.
    """

    kind: str
    says: str
    line: int = 0
    severity: Literal["tampering", "note"] = "tampering"

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.says} ({self.kind if self.severity == 'tampering' else 'note'})"


@dataclass(frozen=True)
class _Line:
    number: int
    seq: int
    prev: str
    h: str
    sound: bool  # its own hash fits its content
    time: str


def verify(
    folder: Path, public_keys: Mapping[str, Sequence[bytes]] | None, *, second_sink: Path | None = None
) -> list[Finding]:
    """Everything that is to be said about the log in ``folder``, in the order of the file.

    ``public_keys``: name of a checkpoint key -> the raw 32 bytes of each key of that name; None leaves the
    checkpoints out. Empty if there is nothing to say, and for a workspace that has no log yet.
    """
    path = folder / LOG
    if path.is_symlink() or not path.is_file():
        begun = (folder / STARTED).exists() or newest_checkpoint(folder) is not None or path.is_symlink()
        return [Finding("missing", "there is no audit log although it was begun")] if begun else []
    findings: list[Finding] = []
    lines = _read_lines(path, findings)
    _check_chain(lines, findings)
    _check_clock(lines, findings)
    if public_keys is not None:
        _check_checkpoints(folder, lines, public_keys, findings)
    if second_sink is not None:
        _check_second_sink(path, second_sink / LOG, findings)
    return sorted(findings, key=lambda finding: finding.line)


def tampering(findings: list[Finding]) -> list[Finding]:
    """Those of ``findings`` that mean that the log is not what was written."""
    return [finding for finding in findings if finding.severity == "tampering"]


def _read_lines(path: Path, findings: list[Finding]) -> list[_Line]:
    """All readable lines. Unreadable bytes are accounted for if the next line recovers exactly them."""
    lines: list[_Line] = []
    stray = b""
    stray_at = 0
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            entry = parse_line(raw[:-1]) if raw.endswith(b"\n") else None
            if entry is None:
                stray_at = stray_at or number
                stray += raw
                continue
            if stray:
                digests = {hashlib.sha256(torn).hexdigest() for torn in (stray, stray[:-1])}
                if entry["action"] == "audit.recovered" and entry["digests"].get("torn") in digests:
                    says = f"{len(stray)} torn bytes, accounted for by the next line"
                    findings.append(Finding("recovered", says, stray_at, "note"))
                else:
                    says = "not a line of this log, and no recovery accounts for it"
                    findings.append(Finding("unreadable", says, stray_at))
                stray, stray_at = b"", 0
            sound = line_hash(entry) == entry["h"]
            # A line that was changed is taken by its place, not by the number it now claims.
            seq = entry["seq"] if sound else (lines[-1].seq + 1 if lines else 1)
            lines.append(_Line(number, seq, entry["prev"], entry["h"], sound, entry["time"]))
    unfinished = parse_line(stray)  # a last line that lacks nothing but its end is torn too
    if stray and is_whole_object(stray) and (unfinished is None or line_hash(unfinished) != unfinished["h"]):
        findings.append(Finding("unreadable", "not a line of this log", stray_at))
    elif stray:
        says = "the end is torn; the next event will account for it"
        findings.append(Finding("torn", says, stray_at, "note"))
    return lines


def _check_chain(lines: list[_Line], findings: list[Finding]) -> None:
    """Name each break of the chain by its cause, once."""
    heads = {line.h for line in lines} | {FIRST_PREV}
    followed = {line.prev for line in lines}
    by_seq: dict[int, list[_Line]] = {}
    for line in lines:
        by_seq.setdefault(line.seq, []).append(line)

    inserted: set[int] = set()
    for seq, twins in by_seq.items():
        # The genuine one of several hangs in the chain at both ends; of equals it is the first.
        twins.sort(key=lambda t: (not t.sound, t.prev not in heads, t.h not in followed, t.number))
        for twin in twins[1:]:
            inserted.add(twin.number)
            findings.append(Finding("inserted", f"a second event {seq} was inserted", twin.number))
    chain = [line for line in lines if line.number not in inserted]

    highest = 0
    for line in chain:
        if not line.sound:
            says = f"event {line.seq} does not fit its own hash: it was edited"
            findings.append(Finding("edited", says, line.number))
        if line.seq < highest:
            says = f"event {line.seq} stands after event {highest}: the lines were reordered"
            findings.append(Finding("reordered", says, line.number))
        highest = max(highest, line.seq)

    previous: _Line | None = None
    for line in sorted(chain, key=lambda entry: entry.seq):
        expected = previous.seq + 1 if previous else 1
        if line.seq > expected:
            gone = f"event {expected}" if line.seq == expected + 1 else f"events {expected} to {line.seq - 1}"
            findings.append(Finding("deleted", f"{gone} deleted before this line", line.number))
        elif line.sound and line.prev != (previous.h if previous else FIRST_PREV):
            # Both sound in themselves, but not made for each other: the earlier was edited and hashed anew.
            culprit = previous or line
            says = f"event {culprit.seq} is not the one that the next was chained to: it was edited"
            findings.append(Finding("edited", says, culprit.number))
        previous = line


def _check_clock(lines: list[_Line], findings: list[Finding]) -> None:
    for before, after in pairwise(lines):
        if after.time < before.time and after.seq == before.seq + 1:
            says = f"the clock moved back before event {after.seq}"
            findings.append(Finding("clock_moved_back", says, after.number, "note"))


def _check_checkpoints(
    folder: Path, lines: list[_Line], public_keys: Mapping[str, Sequence[bytes]], findings: list[Finding]
) -> None:
    by_seq = {line.seq: line for line in lines}
    last = max(by_seq, default=0)
    paths = checkpoint_paths(folder)
    if not paths:
        says = "there is no checkpoint: a log that was cut off would not show"
        findings.append(Finding("no_checkpoint", says, severity="note"))
    for path in paths:
        try:
            size, head = check_note(path.read_bytes(), public_keys)
        except NoteRejected as rejected:
            findings.append(Finding(rejected.kind, f"checkpoint {path.stem}: {rejected.says}"))
            continue
        if path.stem != f"{size:012d}":
            findings.append(Finding("checkpoint_unreadable", f"checkpoint {path.stem} is misnamed"))
        elif size > last:
            says = f"{size - last} of the {size} events of checkpoint {path.stem} are gone from the end"
            findings.append(Finding("truncated", says, lines[-1].number if lines else 0))
        elif size in by_seq and by_seq[size].h != head:
            says = f"events up to {size} are not those that checkpoint {path.stem} signed"
            findings.append(Finding("rewritten", says, by_seq[size].number))


def _check_second_sink(path: Path, other: Path, findings: list[Finding]) -> None:
    """The sinks hold the same bytes; a writer that was killed between them leaves the second one shorter."""
    if other.is_symlink() or not other.is_file():
        findings.append(Finding("sinks_differ", "the second sink has no log"))
        return
    lines = 1
    with path.open("rb") as first, other.open("rb") as second:
        while True:
            left, right = first.read(_BLOCK), second.read(_BLOCK)
            if left != right:
                same = next(
                    (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
                    min(len(left), len(right)),
                )
                lines += left[:same].count(b"\n")
                says = f"the two sinks differ from line {lines} on"
                findings.append(Finding("sinks_differ", says, lines))
                return
            if not left:
                return
            lines += left.count(b"\n")
