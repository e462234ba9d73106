"""The verdict on an audit log: exactly what is wrong with it, and on which line.

The chain shows edited, deleted, inserted and moved lines; the signed checkpoints show a log that was cut off
or rewritten as a whole, up to the size they vouch for; the second sink shows a difference between the two.
A log of which nothing is left is held against everybody who knows of lines in it. What nothing here can show is the
loss of events written after the last checkpoint from both sinks: that takes the copy of a later checkpoint that a
witness keeps.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from infra.audit_checkpoint import (
    WITNESSED,
    Cosignature,
    NoteRejected,
    check_note,
    cosignatures,
    newest_checkpoint,
    notes_in,
)
from infra.audit_finding import Finding, tampering
from infra.audit_line import CHECKPOINTS, FIRST_PREV, LOG, STARTED, is_whole_object, line_hash, parse_line
from infra.audit_sink import FolderSink, SecondSink

__all__ = ["Finding", "tampering", "verify"]


@dataclass(frozen=True)
class _Line:
    number: int
    seq: int
    prev: str
    h: str
    sound: bool  # its own hash fits its content
    time: str


def verify(
    folder: Path,
    public_keys: Mapping[str, Sequence[bytes]] | None,
    *,
    second_sink: Path | SecondSink | None = None,
    witnesses: Mapping[str, Sequence[bytes]] | None = None,
    notes: Iterable[tuple[str, bytes]] = (),
) -> list[Finding]:
    """Everything that is to be said about the log in ``folder``, in the order of the file.

    ``public_keys``: name of a checkpoint key -> the raw 32 bytes of each key of that name; None leaves the
    checkpoints out. ``witnesses``: the same for the auditors who countersign. ``notes``: (name, content) of notes
    that were kept elsewhere, which the log is held against too. Empty if there is nothing to say, and for a
    workspace that has no log yet: nothing in the folder, the notes and the second sink knows of a line. Raises
    :class:`AuditUnavailable` if a second sink could not be asked.
    """
    path = folder / LOG
    sink = FolderSink(second_sink) if isinstance(second_sink, Path) else second_sink
    findings: list[Finding] = []
    lines = [] if _is_missing(path) else _read_lines(path, findings)
    if not lines:
        return findings + _who_knows_of_lines(folder, public_keys, sink, notes)
    _check_chain(lines, findings)
    _check_clock(lines, findings)
    if public_keys is not None:
        kept = list(notes_in(folder / CHECKPOINTS))
        if not kept:
            says = "there is no checkpoint: a log that was cut off would not show"
            findings.append(Finding("no_checkpoint", says, severity="note"))
        _check_notes(kept, "checkpoint", lines, public_keys, findings)
        kept_elsewhere = [] if sink is None else [n for n in sink.notes(CHECKPOINTS) if n not in kept]
        _check_notes(kept_elsewhere, "the second sink's checkpoint", lines, public_keys, findings)
        witnessed = [*notes_in(folder / WITNESSED), *notes]
        if sink is not None:
            witnessed += [note for note in sink.notes(WITNESSED) if note not in witnessed]
        sound = _check_notes(witnessed, "witnessed checkpoint", lines, public_keys, findings, named=False)
        if witnesses is not None:
            _check_witnesses(sound, witnesses, findings)
    if sink is not None:
        findings += sink.differences(path)
    return sorted(findings, key=lambda finding: finding.line)


def _is_missing(path: Path) -> bool:
    return path.is_symlink() or not path.is_file()


def _who_knows_of_lines(
    folder: Path,
    public_keys: Mapping[str, Sequence[bytes]] | None,
    sink: SecondSink | None,
    notes: Iterable[tuple[str, bytes]],
) -> list[Finding]:
    """What there is to say where the log has no line: it was never begun, or it is gone and somebody knows better."""
    findings: list[Finding] = []
    path, newest = folder / LOG, newest_checkpoint(folder)
    if newest is not None:
        says = f"there is no audit log although it was begun: its newest checkpoint is of {newest[0]} events"
        findings.append(Finding("missing", says))
    elif (folder / STARTED).exists() or (os.path.lexists(path) and _is_missing(path)):
        findings.append(Finding("missing", "there is no audit log although it was begun"))
    if public_keys is not None:
        carried = [*notes_in(folder / WITNESSED), *notes]
        if sink is not None:
            carried += [note for note in sink.notes(WITNESSED) if note not in carried]
            _check_gone(sink.notes(CHECKPOINTS), "the second sink's checkpoint", public_keys, findings)
        _check_gone(carried, "witnessed checkpoint", public_keys, findings)
    if sink is not None:
        findings += _only_in(sink)
    return findings


def _check_gone(
    notes: Iterable[tuple[str, bytes]],
    what: str,
    public_keys: Mapping[str, Sequence[bytes]],
    findings: list[Finding],
) -> None:
    """Of the notes about a log that is gone, the one that vouches for most events."""
    sizes = {}
    for name, note in notes:
        stem = name.removesuffix(".txt")
        try:
            sizes[check_note(note, public_keys)[0]] = stem
        except NoteRejected as rejected:
            findings.append(Finding(rejected.kind, f"{what} {stem}: {rejected.says}"))
    if sizes:
        size = max(sizes)
        says = f"the audit log is gone: {what} {sizes[size]} knows of {size} events"
        findings.append(Finding("missing", says))


def _only_in(sink: SecondSink) -> list[Finding]:
    """The events of a log that is gone which the second sink still has."""
    if not isinstance(sink, FolderSink):
        return sink.differences(Path(os.devnull))
    path = sink.folder / LOG
    if _is_missing(path):
        return []
    held = len(_read_lines(path, []))
    says = f"the audit log is gone: the second sink has {held} event(s)"
    return [Finding("sinks_differ", says)] if held else []


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


def _check_notes(
    notes: Iterable[tuple[str, bytes]],
    what: str,
    lines: list[_Line],
    public_keys: Mapping[str, Sequence[bytes]],
    findings: list[Finding],
    *,
    named: bool = True,
) -> list[bytes]:
    """Hold the log against each note; returns those that it agrees with. ``named``: its name is its size."""
    by_seq = {line.seq: line for line in lines}
    last = max(by_seq, default=0)
    sound = []
    for name, note in notes:
        stem = name.removesuffix(".txt")
        try:
            size, head = check_note(note, public_keys)
        except NoteRejected as rejected:
            findings.append(Finding(rejected.kind, f"{what} {stem}: {rejected.says}"))
            continue
        if named and stem != f"{size:012d}":
            findings.append(Finding("checkpoint_unreadable", f"{what} {stem} is misnamed"))
        elif size > last:
            says = f"{size - last} of the {size} events of {what} {stem} are gone from the end"
            findings.append(Finding("truncated", says, lines[-1].number if lines else 0))
        elif size in by_seq and by_seq[size].h != head:
            says = f"events up to {size} are not those that {what} {stem} signed"
            findings.append(Finding("rewritten", says, by_seq[size].number))
        else:
            sound.append(note)
    return sound


def _check_witnesses(
    notes: list[bytes], witnesses: Mapping[str, Sequence[bytes]], findings: list[Finding]
) -> None:
    """Until where each witness has seen the log."""
    seen: dict[str, Cosignature] = {}
    strange = 0
    for note in notes:
        found = cosignatures(note, witnesses)
        strange += not found.good and not found.bad
        for name in found.bad:
            findings.append(Finding("witness_signature", f"the countersignature of {name} is wrong"))
        for cosignature in found.good:
            before = seen.get(cosignature.witness)
            if before is None or before.size < cosignature.size:
                seen[cosignature.witness] = cosignature
    for one in seen.values():
        says = f"{one.witness} has seen the first {one.size} events, on {one.time:%Y-%m-%d %H:%M} UTC"
        findings.append(Finding("witnessed", says, severity="note"))
    if strange:
        says = f"{strange} kept note(s) hold, but no witness known here has countersigned them"
        findings.append(Finding("unknown_witness", says, severity="note"))
