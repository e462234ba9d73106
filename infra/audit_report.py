"""The access review: who did what to which item of which hospital in which case, how often, and whether it was allowed.

It is counted from the audit log alone. What an event is about stands in its object, whose parts are separated by
``/``: first the id of the thing itself, then what narrows it down, as ``kind:value``.

=====================  ======================================================================================
part                   meaning
=====================  ======================================================================================
``hospital:RXX``       the organisation whose records it is about, by its ODS code
``item:postcode``      which of the seven identifiable items; several are joined by ``+``
anything else          an id: a delivery, a run, a key, an incident, ``lake``
=====================  ======================================================================================

So the opening of hospital numbers is ``vault.open`` on
``hes_apc-201999-1f2e3d4c5b6a/hospital:RXX/item:local_patient_identifier`` with the case's id as ``case`` and the number
of records as the count ``records``. One event may name several hospitals or items and is then counted with each.

An action of two lines (see ``audit_intent``) is counted once, by its second line; ``begun`` counts first lines, so
that a number of them above the others shows an action without an end. A second line that a later run wrote in the
place of a killed one counts for the person who began.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from infra.audit_intent import BEGUN, INTENT, is_intent
from infra.audit_line import Event

By = Literal["person", "item", "hospital", "case", "month"]
BY: tuple[str, ...] = get_args(By)

# First lines of actions: linked by number, or by nothing but their order (curated queries, the issue of a list).
_ANNOUNCED = frozenset({BEGUN, "asked", "counted", "intent"})
# Whose ids stay readable under a mask: those who answer for a decision by their office.
SENIOR_ROLES = frozenset(
    {"caldicott_guardian", "deputy_caldicott_guardian", "siro", "deputy_siro", "iao", "release_manager"}
)
_COLUMN_OF = {"allow": "allowed", "refuse": "refused", "fail": "failed", "break_glass": "break_glass"}
# A cell that a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class ReviewRow:
    """One line of a review. ``month`` is YYYY-MM (UTC); empty where an event names no such thing.

    ``begun`` to ``break_glass`` count actions, ``records`` sums their count of that name.
    """

    month: str
    person: str
    role: str
    action: str
    item: str
    hospital: str
    case: str
    begun: int = 0
    allowed: int = 0
    refused: int = 0
    failed: int = 0
    break_glass: int = 0
    records: int = 0


COLUMNS = tuple(field.name for field in fields(ReviewRow))
_KEYS = COLUMNS[: COLUMNS.index("begun")]
_COUNTS = COLUMNS[len(_KEYS) :]


@dataclass(frozen=True)
class Review:
    """``rows`` in the order of ``columns``; ``left_out``: events that name no item, hospital or case to list by."""

    by: str
    columns: tuple[str, ...]
    rows: list[ReviewRow]
    left_out: int

    def records(self) -> list[dict[str, str | int]]:
        """The rows as dicts with :attr:`columns`."""
        return [{name: getattr(row, name) for name in self.columns} for row in self.rows]

    def to_csv(self) -> str:
        """The rows as CSV with a header. What a spreadsheet would take for a formula has an apostrophe before it."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        for record in self.records():
            writer.writerow([_cell(value) for value in record.values()])
        return stream.getvalue()


def hospitals_of(object: str) -> list[str]:
    """The hospitals that an object names, by ODS code: ``hospital:RXX`` or ``hospital:RXX+RYY``."""
    return _named(object, "hospital")


def items_of(object: str) -> list[str]:
    """The identifiable items that an object names: ``item:postcode`` or ``item:nhs_number+postcode``."""
    return _named(object, "item")


def thing_of(object: str) -> str:
    """An object without what narrows it down: the id of the delivery, run or key."""
    return "/".join(part for part in object.split("/") if not part.startswith(("hospital:", "item:")))


def object_of(thing: str, *, hospitals: Iterable[str] = (), items: Iterable[str] = ()) -> str:
    """The object of an event about ``thing``, narrowed down to hospitals and items, in the form read here."""
    parts = [thing]
    for kind, values in (("hospital", hospitals), ("item", items)):
        if joined := "+".join(sorted(values)):
            parts.append(f"{kind}:{joined}")
    return "/".join(parts)


def _named(object: str, kind: str) -> list[str]:
    found = [part[len(kind) + 1 :] for part in object.split("/") if part.startswith(f"{kind}:")]
    return [value for part in found for value in part.split("+") if value]


def review(events: Iterable[Event], by: By, *, mask: bool = False) -> Review:
    """Count ``events`` (in the order of the log), grouped and sorted by ``by`` first.

    By item, hospital or case only events that name one are listed, and the others are counted as left out. By month
    and by person everything is. ``mask``: the ids of persons in junior roles become ``data_engineer 1``, numbered in
    the order in which the log first names them.
    """
    names = _Masked() if mask else None
    begun_by: dict[int, tuple[str, str]] = {}
    counted: dict[tuple[str, ...], dict[str, int]] = {}
    left_out = 0
    for event in events:
        who = (event.person, event.role)
        if is_intent(event):
            begun_by[event.seq] = who
        elif event.reason_code.startswith("recovered_"):
            who = begun_by.get(event.counts.get(INTENT, 0), who)
        person = names.of(*who) if names else who[0]
        keys = list(_keys(event, by, person, who[1]))
        left_out += not keys
        for key in keys:
            row = counted.setdefault(key, dict.fromkeys(_COUNTS, 0))
            first = is_intent(event) or (event.reason_code in _ANNOUNCED and event.decision == "allow")
            row["begun" if first else _COLUMN_OF[event.decision]] += 1
            row["records"] += 0 if first else max(event.counts.get("records", 0), 0)
    order = (by, *(name for name in _KEYS if name != by))
    rows = [_row(key, counts) for key, counts in counted.items()]
    rows.sort(key=lambda row: tuple(getattr(row, name) for name in order))
    return Review(by, _columns(by), rows, left_out)


def _row(key: tuple[str, ...], counts: Mapping[str, int]) -> ReviewRow:
    values: dict[str, Any] = {**dict(zip(_KEYS, key, strict=True)), **counts}
    return ReviewRow(**values)


def _columns(by: By) -> tuple[str, ...]:
    """Of the columns that say what an event is about, those that this review tells apart."""
    shown = [name for name in _KEYS if name == by or name not in ("month", "case")]
    return (by, *(name for name in shown if name != by), *_COUNTS)


def _keys(event: Event, by: By, person: str, role: str) -> Iterator[tuple[str, ...]]:
    """One key for each item and hospital that the event names, at least one unless it is left out."""
    items, hospitals = items_of(event.object) or [""], hospitals_of(event.object) or [""]
    shown = _columns(by)
    for item in items:
        for hospital in hospitals:
            key: Mapping[str, str] = {
                "month": f"{event.time:%Y-%m}",
                "person": person,
                "role": role,
                "action": event.action,
                "item": item,
                "hospital": hospital,
                "case": event.case,
            }
            if key[by]:
                yield tuple(key[name] if name in shown else "" for name in _KEYS)


class _Masked:
    """Numbers in the place of the ids of junior staff."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._last: dict[str, int] = {}

    def of(self, person: str, role: str) -> str:
        if role in SENIOR_ROLES:
            return person
        if (person, role) not in self._names:
            self._last[role] = self._last.get(role, 0) + 1
            self._names[(person, role)] = f"{role} {self._last[role]}"
        return self._names[(person, role)]


# Showing -----------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """``text`` for a terminal: whatever moves a cursor, changes a colour or turns the writing round is escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _cell(value: str | int) -> str | int:
    if isinstance(value, int):
        return value
    shown = printable(value)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def table(columns: Iterable[str], rows: Iterable[Iterable[str | int]]) -> str:
    """A plain table with a header: text to the left, numbers to the right, nothing that a terminal obeys."""
    grid = [list(columns)]
    numeric = [True] * len(grid[0])
    for row in rows:
        cells = list(row)
        numeric = [was and isinstance(cell, int) for was, cell in zip(numeric, cells, strict=True)]
        grid.append([f"{cell:,}" if isinstance(cell, int) else printable(cell) for cell in cells])
    if len(grid) == 1:
        numeric = [False] * len(grid[0])
    widths = [max(len(line[column]) for line in grid) for column in range(len(grid[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in grid
    )
