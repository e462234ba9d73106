"""The inbox: which files wait there, whether they are whole, and what their names say.

Names as senders give them (all seen in practice)::

    NIC349273_HES_APC_201799.txt                 FILE0184861_HES_APC_2019
    NIC377644_HES_APC_201999_APPROVED_51667_01010001_0.txt
    20260320_nic709865_hes_apc_202510            NIC359603_CIVIL_DEATHS_20240415.csv.age

From a name come the dataset (a token of its contract), the period YYYYnn (year in which the financial year
starts, then the month of submission: 01-13, or 99 for the final annual file), the sender (the number of the
agreement, NIC and digits) and, for datasets that come whole each time, the day of the snapshot. What a name
does not say, the content does: the dataset by its header, the period by PARTYEAR. Nothing is guessed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from infra.containers.control_file import MAX_BYTES, Control, is_control, parse_control, sibling
from infra.containers.reading import open_source, reading_errors
from schemas.contract import Contract
from schemas.errors import DeliveryConflict, DeliveryRefused, UsageError
from schemas.loader import load_contracts, recognise_dataset

SNAPSHOT = "snapshot"
IN_TRANSFER_SUFFIXES = (".part", ".tmp", ".filepart", ".partial", ".crdownload")

FIRST_YEAR = 1989  # the first financial year of HES
_PERIOD = re.compile(r"((?:19|20)[0-9]{2})([0-9]{2})")
_SUBMISSIONS = frozenset({*(f"{month:02}" for month in range(1, 14)), "99"})
_AGREEMENT = re.compile(r"(?<![A-Z0-9])NIC_?([0-9]{4,8})(?![0-9])")

USE_OPTIONS = "say which with --dataset and --period"


# What a name says -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recognised:
    """What a delivery is. ``period`` is YYYYnn, or ``snapshot`` for datasets that come whole each time.

    ``snapshot_date``: the day that the name of a snapshot states, if it states one. ``sender``: ``NIC`` and
    digits, or what was given, or None.
    """

    dataset: str
    period: str
    sender: str | None = None
    snapshot_date: date | None = None


def is_period(text: str) -> bool:
    """Whether ``text`` is a period YYYYnn: nn 01 to 13 or 99."""
    match = _PERIOD.fullmatch(text)
    return match is not None and int(match[1]) >= FIRST_YEAR and match[2] in _SUBMISSIONS


def recognise(
    name: str,
    header: Sequence[str] | None = None,
    partyears: Collection[str] = (),
    *,
    dataset: str | None = None,
    period: str | None = None,
    sender: str | None = None,
    contracts: Iterable[Contract] | None = None,
) -> Recognised:
    """What the delivery called ``name`` is.

    ``header``: its column names, asked only where the name shows no dataset. ``partyears``: values of the
    column PARTYEAR from its beginning, asked where the name shows no period, and held against the name's year
    where it does. ``dataset``, ``period`` and ``sender`` are what a person stated: they settle what the name
    leaves open and may not contradict it. Of several dataset tokens in a name the longest counts, so
    ``ONS_DEATHS_BRIDGE`` is not ``ONS_DEATHS``. ``contracts``: the project's by default.

    Raises :class:`~schemas.errors.DeliveryRefused` where something stays open or ambiguous,
    :class:`~schemas.errors.DeliveryConflict` where two sources contradict each other, and
    :class:`~schemas.errors.UsageError` for a stated dataset or period that does not exist. Messages hold
    dataset names and periods only, nothing else of the name.
    """
    known = list(load_contracts().values() if contracts is None else contracts)
    kinds = {contract.dataset: contract.period.kind for contract in known}
    words = _normal(name)
    agreements = sorted(set(_AGREEMENT.findall(words)))
    rest = _AGREEMENT.sub("", words)  # its digits are no period

    found = _dataset(rest, known, header, dataset)
    return Recognised(
        found,
        _snapshot_period(found, period) if kinds[found] == SNAPSHOT else _period(rest, partyears, period),
        _sender(agreements, sender),
        _snapshot_date(rest, found, known) if kinds[found] == SNAPSHOT else None,
    )


def _normal(name: str) -> str:
    """Upper case, every separator an underscore, nothing but the last part of a path."""
    return re.sub(r"[^A-Z0-9]+", "_", name.replace("\\", "/").rsplit("/", 1)[-1].upper())


def _dataset(
    words: str, contracts: Iterable[Contract], header: Sequence[str] | None, stated: str | None
) -> str:
    owners: dict[str, set[str]] = {}
    names: set[str] = set()
    for contract in contracts:
        names.add(contract.dataset)
        for token in (*contract.name_tokens, contract.dataset):
            owners.setdefault(_normal(token).strip("_"), set()).add(contract.dataset)
    if stated is not None and stated not in names:
        raise UsageError(f"there is no such dataset; there are: {', '.join(sorted(names))}")
    present = {token: who for token, who in owners.items() if f"_{token}_" in f"_{words}_"}
    longest = max((len(token) for token in present), default=0)
    found: set[str] = set()
    for token, who in present.items():
        if len(token) == longest:
            found |= who
    source = "name"
    if not found and header is not None:
        by_header = recognise_dataset(header)
        found, source = ({by_header} if by_header in names else set()), "header"
    if stated is not None:
        if found and stated not in found:
            raise DeliveryConflict(
                f"the delivery was said to be {stated}, and its {source} says {' or '.join(sorted(found))}"
            )
        return stated
    if len(found) == 1:
        return found.pop()
    if found:
        raise DeliveryRefused(
            f"the name fits several datasets: {', '.join(sorted(found))}", next_step=USE_OPTIONS
        )
    raise DeliveryRefused("neither the name nor the header shows the dataset", next_step=USE_OPTIONS)


def _snapshot_period(dataset: str, stated: str | None) -> str:
    if stated not in (None, SNAPSHOT):
        raise UsageError(
            f"{dataset} has no periods: each delivery is the whole again", next_step="leave out --period"
        )
    return SNAPSHOT


def _period(words: str, partyears: Collection[str], stated: str | None) -> str:
    if stated is not None and not is_period(stated):
        raise UsageError("a period is YYYYnn: the year and a submission 01 to 13, or 99 for the final one")
    numbers = [word for word in words.split("_") if _PERIOD.fullmatch(word)]
    in_name = {number for number in numbers if is_period(number)}
    in_column = {value.strip() for value in partyears if is_period(value.strip())}
    if stated is not None:
        if in_name and stated not in in_name:
            raise DeliveryConflict(
                f"the period was said to be {stated}, and the name says {_listed(in_name)}"
            )
        found = {stated}
    elif in_name:
        found = in_name
    elif numbers:
        raise DeliveryRefused(
            "the number in the name that looks like a period has no submission 01 to 13 or 99",
            next_step=USE_OPTIONS,
        )
    else:
        found = in_column
    if not found:
        raise DeliveryRefused("neither the name nor PARTYEAR shows the period", next_step=USE_OPTIONS)
    if len(found) > 1:
        source = "name" if in_name else "column PARTYEAR"
        raise DeliveryRefused(f"the {source} shows several periods: {_listed(found)}", next_step=USE_OPTIONS)
    period = found.pop()
    if in_column and period[:4] not in {value[:4] for value in in_column}:
        raise DeliveryConflict(
            f"the period should be {period}, and the column PARTYEAR says {_listed(in_column)}",
            next_step="ask the sender which year the file holds",
        )
    return period


def _listed(periods: Collection[str]) -> str:
    return ", ".join(sorted(periods)[:5])


def _sender(agreements: Sequence[str], stated: str | None) -> str | None:
    named = [f"NIC{number}" for number in agreements]
    if stated is None:
        return named[0] if len(named) == 1 else None
    said = _AGREEMENT.search(_normal(stated))
    if said is None:
        return stated
    if named and f"NIC{said[1]}" not in named:
        raise DeliveryConflict("the sender that was stated and the one in the name are different agreements")
    return f"NIC{said[1]}"


def _snapshot_date(words: str, dataset: str, contracts: Iterable[Contract]) -> date | None:
    """The one day in the name; of several, the one behind the dataset's token. None if that is not one."""
    tokens = [
        _normal(token).strip("_")
        for contract in contracts
        if contract.dataset == dataset
        for token in (*contract.name_tokens, dataset)
    ]
    behind = max((words.find(token) + len(token) for token in tokens if token in words), default=0)
    for part in (words, words[behind:]):
        days = {day for word in part.split("_") if (day := _day(word)) is not None}
        if len(days) == 1:
            return days.pop()
    return None


def _day(word: str) -> date | None:
    if not re.fullmatch(r"(?:19|20)[0-9]{6}", word):
        return None
    try:
        return date(int(word[:4]), int(word[4:6]), int(word[6:]))
    except ValueError:
        return None


# What waits -------------------------------------------------------------------------------------------

READY = "ready"
IN_TRANSFER = "in_transfer"
SIZE_DIFFERS = "size_differs_from_control_file"
STILL_ARRIVING = "still_arriving"
CONTROL_WITHOUT_DATA = "control_file_without_data_file"
CONTROL_UNREADABLE = "control_file_unreadable"
NOT_A_FILE = "not_an_ordinary_file"


@dataclass(frozen=True)
class Waiting:
    """One entry of the inbox. ``state`` is one of the constants above; only ``ready`` ones can be landed.

    The path holds the sender's text: show it only through :func:`infra.receipts.safe_name`.
    """

    path: Path = field(repr=False)
    state: str
    control: Control | None = None
    control_path: Path | None = field(default=None, repr=False)


def waiting(folder: Path, settled_before: datetime | None = None) -> list[Waiting]:
    """What lies in the inbox, by name. Nothing is opened but control files; folders are not entered.

    Names that upload tools use for unfinished files are in transfer. A file with a control file that states
    ``bytes`` is whole when it has that size. Any other file counts as still arriving while it was changed at
    or after ``settled_before`` (None: never). Hidden files are the system's and are left out.

    Raises :class:`~schemas.errors.StorageFailed`.
    """
    with reading_errors():
        entries = {
            entry.name: entry.stat(follow_symlinks=False)
            for entry in os.scandir(folder)
            if not entry.name.startswith(".")
        }
    found = []
    controls: dict[str, str] = {}
    for name in entries:
        if is_control(name) and stat.S_ISREG(entries[name].st_mode):
            data = sibling(name, (other for other in entries if not _in_transfer(other)))
            if data is None or data in controls:
                found.append(Waiting(folder / name, CONTROL_WITHOUT_DATA))
            else:
                controls[data] = name
    for name, status in entries.items():
        if not stat.S_ISREG(status.st_mode):
            found.append(Waiting(folder / name, NOT_A_FILE))
        elif not is_control(name):
            found.append(_state(folder / name, status, _read_control(folder, controls, name), settled_before))
    return sorted(found, key=lambda entry: entry.path.name)


def _in_transfer(name: str) -> bool:
    return name.lower().endswith(IN_TRANSFER_SUFFIXES)


def _read_control(folder: Path, controls: Mapping[str, str], name: str) -> tuple[Path, Control | None] | None:
    if name not in controls:
        return None
    path = folder / controls[name]
    try:
        with open_source(path) as stream:
            return path, parse_control(stream.read(MAX_BYTES + 1))
    except DeliveryRefused:
        return path, None


def _state(
    path: Path,
    status: os.stat_result,
    control_file: tuple[Path, Control | None] | None,
    settled_before: datetime | None,
) -> Waiting:
    control_path, control = control_file or (None, None)
    if _in_transfer(path.name):
        state = IN_TRANSFER
    elif control_path is not None and control is None:
        state = CONTROL_UNREADABLE
    elif control is not None and control.bytes is not None:
        state = READY if control.bytes == status.st_size else SIZE_DIFFERS
    elif settled_before is not None and status.st_mtime >= settled_before.timestamp():
        state = STILL_ARRIVING
    else:
        state = READY
    return Waiting(path, state, control, control_path)
