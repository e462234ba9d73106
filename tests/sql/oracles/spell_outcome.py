"""What became of the patient after each spell, in plain Python: see infra/decisions/0104-death-outcome.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from tests.sql.oracles.provider_spell import Spell


@dataclass(frozen=True)
class Outcome:
    """``order`` is 1 for the spell that the person's death belongs to, None where no death counts."""

    spell: Spell
    died_in_hospital: bool
    died_within_30_days: bool
    order: int | None


def outcomes(spells: Iterable[Spell], deaths: Mapping[str, date]) -> list[Outcome]:
    """``deaths``: person token to registered date of death."""
    by_person: dict[str, list[Spell]] = {}
    for spell in spells:
        if spell.finished:
            by_person.setdefault(spell.person, []).append(spell)
    found = []
    for person, stays in by_person.items():
        registered = deaths.get(person)
        said = [stay.discharge for stay in stays if stay.died and stay.discharge is not None]
        dying: list[tuple[Spell, bool]] = []
        for stay in stays:
            if stay.method == "5":
                continue
            assert stay.discharge is not None
            if registered is not None:
                days = (registered - stay.discharge).days
                in_hospital = days <= 3 if stay.died else stay.admission <= registered < stay.discharge
                soon = 0 <= days <= 30
            else:
                in_hospital = stay.died
                soon = bool(said) and 0 <= (max(said) - stay.discharge).days <= 30
            if in_hospital or soon:
                dying.append((stay, in_hospital))
            else:
                found.append(Outcome(stay, False, False, None))
        dying.sort(
            key=lambda pair: (pair[0].died and pair[1], pair[0].discharge, pair[0].admission, pair[0].id),
            reverse=True,
        )
        found += [Outcome(stay, inside, True, place) for place, (stay, inside) in enumerate(dying, start=1)]
    return found
