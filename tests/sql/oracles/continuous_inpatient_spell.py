"""Continuous inpatient spells, in plain Python: see
infra/decisions/0103-spell-continuous-inpatient-spell.md."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from tests.sql.oracles.episode import is_transfer_in, is_transfer_out, transit_of
from tests.sql.oracles.provider_spell import Spell


def comes_in(spell: Spell) -> bool:
    return is_transfer_in(spell.first.admission_source, spell.first.admission_method)


def goes_out(spell: Spell) -> bool:
    return is_transfer_out(spell.destination)


def in_time(spell: Spell) -> tuple[Any, ...]:
    """Earlier spells come first; stays of the same days in the order out, in and out, in."""
    transit = transit_of(comes_in(spell), goes_out(spell))
    return (spell.admission, spell.discharge or date(9999, 12, 31), transit, spell.id)


def follows(later: Spell, earlier: Spell) -> bool:
    """Does ``later`` go on from ``earlier``?"""
    if earlier.discharge is None or in_time(earlier) >= in_time(later):
        return False
    if (later.admission - earlier.discharge).days not in (0, 1, 2):
        return False
    sent_home_and_back = (
        earlier.destination == "19"
        and later.first.admission_source == "51"
        and later.first.admission_method == "21"
    )
    return (comes_in(later) or goes_out(earlier)) and not sent_home_and_back


def continuous_inpatient_spells(spells: Iterable[Spell]) -> list[list[Spell]]:
    """Groups of provider spells, each in order; regular attenders are in none."""
    by_person: dict[str, list[Spell]] = {}
    for spell in spells:
        if spell.first.patient_class not in ("3", "4"):
            by_person.setdefault(spell.person, []).append(spell)
    groups: list[list[Spell]] = []
    for stays in by_person.values():
        group_of: dict[str, list[Spell]] = {}
        for later in sorted(stays, key=in_time):
            candidates = [earlier for earlier in stays if follows(later, earlier)]
            if not candidates:
                group_of[later.id] = [later]
                groups.append(group_of[later.id])
                continue
            nearest = max(
                candidates,
                key=lambda earlier: (
                    goes_out(earlier) and comes_in(later),
                    earlier.discharge,
                    earlier.admission,
                    transit_of(comes_in(earlier), goes_out(earlier)),
                    earlier.id,
                ),
            )
            group_of[later.id] = group_of[nearest.id]
            group_of[later.id].append(later)
    return groups
