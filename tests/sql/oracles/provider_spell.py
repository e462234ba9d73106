"""Provider spells, in plain Python: see infra/decisions/0102-spell-provider-spell.md."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from tests.sql.oracles.episode import Episode


@dataclass(frozen=True)
class Visit:
    """Episodes of one admission, in reading order."""

    episodes: tuple[Episode, ...]

    @property
    def first(self) -> Episode:
        return self.episodes[0]

    @property
    def start(self) -> date:
        return self.first.start

    @property
    def end(self) -> date:
        return max(episode.reach for episode in self.episodes)

    @property
    def open(self) -> bool:
        return not max(self.episodes, key=lambda episode: episode.from_the_end).discharged

    @property
    def has_beginning(self) -> bool:
        if self.first.admission is None:
            return self.first.order == 1
        return self.first.admission == self.start and self.first.order in (None, 1)


@dataclass(frozen=True)
class Spell:
    """One continuous stay within one provider."""

    episodes: tuple[Episode, ...]

    @property
    def first(self) -> Episode:
        return self.episodes[0]

    @property
    def last(self) -> Episode:
        return max(self.episodes, key=lambda episode: episode.from_the_end)

    @property
    def id(self) -> str:
        return self.first.key

    @property
    def person(self) -> str:
        return self.first.person

    @property
    def finished(self) -> bool:
        return self.last.discharged

    @property
    def admission(self) -> date:
        if self.first.admission is not None:
            return self.first.admission
        known = [episode.admission for episode in self.episodes if episode.admission is not None]
        return min([*known, self.first.start])

    @property
    def discharge(self) -> date | None:
        return self.last.discharge_date if self.finished else None

    @property
    def method(self) -> str | None:
        return self.last.discharge_method if self.finished else None

    @property
    def destination(self) -> str | None:
        return self.last.discharge_destination if self.finished else None

    @property
    def died(self) -> bool:
        return self.finished and self.method == "4"

    @property
    def year(self) -> str | None:
        if self.discharge is None:
            return None
        first = self.discharge.year if self.discharge.month >= 4 else self.discharge.year - 1
        return f"{first}-{(first + 1) % 100:02d}"


def cut_into_visits(episodes: list[Episode]) -> list[Visit]:
    """``episodes``: all of one person at one provider."""
    by_admission: dict[date, list[Episode]] = {}
    visits = []
    for episode in episodes:
        if episode.admission is None:
            visits.append(Visit((episode,)))
        else:
            by_admission.setdefault(episode.admission, []).append(episode)
    for group in by_admission.values():
        group.sort(key=lambda episode: episode.reading)
        current = [group[0]]
        for before, episode in pairwise(group):
            ended = before.discharge_date is not None and before.discharge_date <= episode.start
            if episode.order == 1 and ended:
                visits.append(Visit(tuple(current)))
                current = []
            current.append(episode)
        visits.append(Visit(tuple(current)))
    return sorted(visits, key=lambda visit: visit.first.reading)


def spells_of_one_stay_place(episodes: list[Episode]) -> list[Spell]:
    """The spells of one person at one provider."""
    visits = cut_into_visits(episodes)
    spell_of: list[int] = []  # for each visit, the number of the visit its spell begins with
    for number, visit in enumerate(visits):
        goes_on_from = None
        opens = [earlier for earlier in range(number) if visits[earlier].open]
        if opens and visits[opens[-1]].end == visit.start:
            goes_on_from = opens[-1]
        elif number and not visit.has_beginning:
            furthest = max(range(number), key=lambda earlier: (visits[earlier].end, earlier))
            long = visits[furthest]
            admitted_inside = (
                visit.first.admission is None
                or long.first.admission is None
                or visit.first.admission >= long.first.admission
            )
            if visit.start <= long.end and admitted_inside:
                goes_on_from = furthest
        spell_of.append(number if goes_on_from is None else spell_of[goes_on_from])
    spells = []
    for root in sorted(set(spell_of)):
        together = [
            episode
            for visit, its_root in zip(visits, spell_of, strict=True)
            if its_root == root
            for episode in visit.episodes
        ]
        spells.append(Spell(tuple(sorted(together, key=lambda episode: episode.reading))))
    return spells


def provider_spells(episodes: Iterable[Episode]) -> list[Spell]:
    """All provider spells of all persons."""
    by_place: dict[tuple[str, str], list[Episode]] = {}
    for episode in episodes:
        by_place.setdefault((episode.person, episode.provider), []).append(episode)
    return [spell for group in by_place.values() for spell in spells_of_one_stay_place(group)]
