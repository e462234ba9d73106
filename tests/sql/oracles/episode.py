"""Valid episodes, in plain Python: see infra/decisions/0101-spell-episode.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

NO_PROVIDER = ("89997", "89999")
FAR = date(9999, 1, 1)


@dataclass(frozen=True)
class Episode:
    """What the later oracles need of an episode."""

    key: str
    person: str
    provider: str
    site: str | None
    admission: date | None
    start: date
    end: date | None
    order: int | None
    finished: bool
    kind: str | None
    patient_class: str | None
    admission_method: str | None
    admission_source: str | None
    discharged: bool
    discharge_date: date | None
    discharge_method: str | None
    discharge_destination: str | None
    transit: int
    diagnosis: str | None
    partyear: str
    sex: str | None
    age: int | None

    @property
    def reach(self) -> date:
        """Where it ends; an unfinished one holds its first day only."""
        return self.end or self.start

    @property
    def reading(self) -> tuple[Any, ...]:
        """The order in which the episodes of a stay are read."""
        return (self.start, self.reach, self.order or 99, self.transit, self.key)

    @property
    def from_the_end(self) -> tuple[Any, ...]:
        """The greatest of these is the last episode of a stay."""
        return (self.reach, self.discharged, self.start, self.order or 0, self.key)


def transit_of(comes_in: bool, goes_out: bool) -> int:
    if comes_in and goes_out:
        return 2
    if comes_in:
        return 3
    return 1 if goes_out else 0


def is_transfer_in(source: str | None, method: str | None) -> bool:
    return source in ("49", "50", "51", "52", "53", "87") or method in ("2B", "81")


def is_transfer_out(destination: str | None) -> bool:
    return destination in ("49", "50", "51", "52", "53", "84")


def provider_of(row: dict[str, Any]) -> str | None:
    code = row["PROCODET"]
    if code is not None and code not in NO_PROVIDER:
        return str(code).removesuffix("-X")
    code = row["PROCODE5"]
    if code is not None and re.fullmatch("[A-Z][0-9][A-Z][0-9][A-Z]", code):
        return str(code)
    for name in ("PROCODE3", "PROCODE5"):
        if row[name] is not None and row[name] not in NO_PROVIDER:
            return str(row[name])
    return None


def diagnosis_of(row: dict[str, Any]) -> str | None:
    for name in ("DIAG_01", "DIAG_4_01", "DIAG_3_01"):
        code = row[name]
        if code is not None and code != "-":
            return None if code.upper().startswith("R69X") else str(code.upper())
    return None


def person_of(row: dict[str, Any], bridge: Iterable[tuple[str, str]]) -> str | None:
    new = [to for old, to in bridge if old == row["person_token"]]
    token = min(new) if new else row["person_token"]
    return None if token is None else str(token)


def read(row: dict[str, Any], bridge: Iterable[tuple[str, str]]) -> Episode | None:
    """The episode of a row of ``hes_apc``, or None where it cannot be one."""
    person, provider, start = person_of(row, bridge), provider_of(row), row["EPISTART"]
    if row["EPISTAT"] not in ("1", "3") or None in (person, provider, start, row["EPIKEY"]):
        return None
    finished = row["EPISTAT"] == "3"
    end = row["EPIEND"]
    if end is None and finished:
        end = row["DISDATE"]
    if (finished and end is None) or (end is not None and end < start):
        return None
    date_believed = row["DISDATE"] if row["DISDATE"] is not None and row["DISDATE"] >= start else None
    method = row["DISMETH"]
    if not finished or method == "8":
        discharged = False
    elif method in ("1", "2", "3", "4", "5", "6", "7"):
        discharged = True
    else:
        discharged = date_believed is not None
    order = row["EPIORDER"] if row["EPIORDER"] is not None and row["EPIORDER"] <= 87 else None
    comes_in = is_transfer_in(row["ADMISORC"], row["ADMIMETH"])
    admission = row["ADMIDATE"]
    if admission is None and order == 1 and not comes_in:
        admission = start
    return Episode(
        key=row["EPIKEY"],
        person=str(person),
        provider=str(provider),
        site=row["SITETRET"] if row["SITETRET"] not in NO_PROVIDER else None,
        admission=admission,
        start=start,
        end=end,
        order=order,
        finished=finished,
        kind=row["EPITYPE"],
        patient_class=row["CLASSPAT"],
        admission_method=row["ADMIMETH"],
        admission_source=row["ADMISORC"],
        discharged=discharged,
        discharge_date=(date_believed or end) if discharged else None,
        discharge_method=method,
        discharge_destination=row["DISDEST"],
        transit=transit_of(comes_in, is_transfer_out(row["DISDEST"])),
        diagnosis=diagnosis_of(row),
        partyear=row["PARTYEAR"] or "",
        sex=row["SEX"],
        age=row["STARTAGE"],
    )


def later_delivery_first(episode: Episode) -> tuple[Any, ...]:
    """Of several rows with one key: finished, latest period, discharged, then by content."""
    return (
        not episode.finished,
        tuple(-ord(letter) for letter in episode.partyear.ljust(6, " ")),
        not episode.discharged,
        episode.start,
        -(episode.end or FAR).toordinal() if episode.end else 0,
    )


def valid_episodes(
    hes_apc: Iterable[dict[str, Any]], bridge: Iterable[tuple[str, str]] = ()
) -> list[Episode]:
    """Every valid episode once."""
    bridge = list(bridge)
    by_key: dict[str, Episode] = {}
    for row in hes_apc:
        episode = read(row, bridge)
        if episode is None:
            continue
        held = by_key.get(episode.key)
        if held is None or later_delivery_first(episode) < later_delivery_first(held):
            by_key[episode.key] = episode

    alike: dict[tuple[Any, ...], list[Episode]] = {}
    for episode in by_key.values():
        content = (
            episode.person, episode.provider, episode.start, episode.end, episode.order, episode.admission,
            episode.discharge_date, episode.patient_class, episode.kind, episode.transit,
        )  # fmt: skip
        alike.setdefault(content, []).append(episode)
    distinct = []
    for group in alike.values():
        telling = [episode for episode in group if episode.diagnosis is not None] or group
        latest = max(episode.partyear for episode in telling)
        newest = [episode for episode in telling if episode.partyear == latest]
        distinct.append(min(newest, key=lambda episode: episode.key))

    kept = []
    for episode in distinct:
        superseded = not episode.finished and any(
            (other.person, other.provider, other.start) == (episode.person, episode.provider, episode.start)
            and (other.order == episode.order or other.order is None or episode.order is None)
            and (other.finished or (other.partyear, other.key) > (episode.partyear, episode.key))
            for other in distinct
            if other is not episode
        )
        if not superseded:
            kept.append(episode)
    return kept
