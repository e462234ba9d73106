"""What is true of the synthetic world, counted from its event history and never from the files' text.

Two views of the same counts, per financial year and provider:

- ``counts``: what the newest file of each year can show (without the late hospital's last year, and with the
  deaths known by the snapshot);
- ``history``: what happened, whether or not it was ever delivered.

Of one person's spells only the last discharged one can carry the death, if the person died in it or within 30
days of its end; ``*_ordinary`` counts look only at ordinary admissions (CLASSPAT 1 and 5, no stillbirths).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infra.synthetic import days
from infra.synthetic import spells as kinds
from infra.synthetic.days import NO_DAY, Bools, Ints
from infra.synthetic.episodes import Episodes
from infra.synthetic.spells import History
from infra.synthetic.world import World, first_of_runs

DAYS_AFTER_DISCHARGE: Final = 30
DAYS_AFTER_DELIVERY: Final = 42
WHOLE_COUNTS: Final = (
    "episodes",
    "spells",
    "spells_ordinary",
    "spells_day_case",
    "spells_regular",
    "spells_of_several_episodes",
    "deaths_in_hospital",
    "deaths_within_30_days",
    "deaths_within_30_days_ordinary",
    "pneumonia_spells",
    "pneumonia_deaths_within_30_days",
    "deliveries",
    "deliveries_by_episode_end",
    "puerperal_infections_within_42_days",
    "births",
    "stillbirths",
    "transfers_out",
    "transfers_in",
)
EXPECTED: Final = ("expected_deaths_ordinary", "expected_pneumonia_deaths")
MEANING: Final = {
    "episodes": "finished episodes that end in the year",
    "spells": "provider spells discharged in the year",
    "spells_ordinary": "of these, ordinary admissions without stillbirths",
    "deaths_in_hospital": "discharges with method died (stillbirths are not deaths)",
    "deaths_within_30_days": "in hospital or within 30 days of discharge, on the last discharged spell",
    "deaths_within_30_days_ordinary": "the same, looking at ordinary admissions only",
    "expected_deaths_ordinary": "sum of the true risks without a hospital's effect; transfers out have none",
    "pneumonia_spells": "ordinary admissions whose true diagnosis is one of J13X, J159, J180, J181, J189",
    "deliveries": "by financial year of the delivery's date, if the delivery episode is delivered",
    "deliveries_by_episode_end": "by financial year of the file that holds the delivery episode",
    "puerperal_infections_within_42_days": "deliveries with O85 or O86 in their own spell or in an admission"
    " within 42 days, at the delivering provider and by the delivery's date",
    "births": "birth episodes, one per baby, stillbirths included",
    "transfers_out": "discharged spells whose patient went straight to another provider",
    "transfers_in": "discharged spells that began with such a transfer",
}


class Tally:
    """Counts of one view, added up block by block."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cells = world.year_count * world.hospitals.count
        self._counts = {name: np.zeros(self._cells, dtype=np.int64) for name in WHOLE_COUNTS}
        self._sums = {name: np.zeros(self._cells) for name in EXPECTED}
        self.totals = {
            name: 0
            for name in (
                "spells",
                "spells_of_several_episodes",
                "transfers",
                "continuous_spells",
                "multiple_births",
            )
        }

    def _cell(self, year: Ints, hospital: Ints) -> Ints:
        return (year - self._world.first_year) * self._world.hospitals.count + hospital

    def _add(self, name: str, year: Ints, hospital: Ints, weight: NDArray[np.float64] | None = None) -> None:
        inside = (year >= self._world.first_year) & (year <= self._world.last_year)
        cell = self._cell(year, hospital)[inside]
        if weight is None:
            self._counts[name] += np.bincount(cell, minlength=self._cells)
        else:
            self._sums[name] += np.bincount(cell, weights=weight[inside], minlength=self._cells)

    def add(self, history: History, episodes: Episodes, present: Bools, known_death: Bools) -> None:
        """One block. ``present``: episodes this view has; ``known_death``: persons whose death it knows."""
        spells = history.spells
        shown = episodes.finished & present
        several = np.bincount(episodes.spell[shown], minlength=spells.count)
        any_row = several > 0
        discharged = np.zeros(spells.count, dtype=np.bool_)
        discharged[episodes.spell[shown & episodes.last]] = True
        first_shown = np.zeros(spells.count, dtype=np.bool_)
        first_shown[episodes.spell[shown & episodes.first]] = True

        hospital = spells.hospital
        of_episode = hospital[episodes.spell]
        self._add("episodes", episodes.year[shown], of_episode[shown])
        year = days.FINANCIAL_YEAR[spells.end]
        ordinary = discharged & np.isin(spells.patient_class, (1, 5)) & ~spells.stillborn
        pneumonia = ordinary & kinds.PNEUMONIA_ROWS[spells.diagnosis] & (spells.kind != kinds.BIRTH)
        for name, mask in (
            ("spells", discharged),
            ("spells_ordinary", ordinary),
            ("spells_day_case", discharged & (spells.patient_class == 2)),
            ("spells_regular", discharged & (spells.patient_class == 3)),
            ("spells_of_several_episodes", discharged & (several > 1)),
            ("deaths_in_hospital", discharged & spells.died),
            ("pneumonia_spells", pneumonia),
            ("transfers_out", discharged & spells.transfer_out),
            ("transfers_in", any_row & spells.transfer_in & discharged),
        ):
            self._add(name, year[mask], hospital[mask])
        self._add("expected_deaths_ordinary", year[ordinary], hospital[ordinary], spells.chance[ordinary])
        self._add("expected_pneumonia_deaths", year[pneumonia], hospital[pneumonia], spells.chance[pneumonia])
        all_deaths = self._deaths(history, discharged, known_death)
        self._add("deaths_within_30_days", year[all_deaths], hospital[all_deaths])
        deaths = self._deaths(history, ordinary, known_death)
        self._add("deaths_within_30_days_ordinary", year[deaths], hospital[deaths])
        of_pneumonia = deaths[pneumonia[deaths]]
        self._add("pneumonia_deaths_within_30_days", year[of_pneumonia], hospital[of_pneumonia])

        self._add_maternity(history, episodes, shown, any_row, first_shown, discharged)
        self.totals["spells"] += int(discharged.sum())
        self.totals["spells_of_several_episodes"] += int((discharged & (several > 1)).sum())
        arrivals = np.flatnonzero(spells.transfer_in & any_row)
        arrivals = arrivals[discharged[arrivals - 1]]
        self.totals["transfers"] += len(arrivals)
        self.totals["continuous_spells"] += int(discharged.sum()) - int(discharged[arrivals].sum())

    @staticmethod
    def _deaths(history: History, counted: Bools, known_death: Bools) -> Ints:
        """Rows of the spells that carry a death: the person's last counted one, if it was in time."""
        spells = history.spells
        rows = np.flatnonzero(counted)
        if len(rows) == 0:
            return rows
        person = spells.person[rows]
        last: Ints = rows[np.append(first_of_runs(person)[1:], len(rows)) - 1]
        died = history.people.died[spells.person[last]]
        after = died - spells.end[last]
        in_time = (
            known_death[spells.person[last]]
            & (died != NO_DAY)
            & (after >= 0)
            & (after <= DAYS_AFTER_DISCHARGE)
        )
        carriers: Ints = last[spells.died[last] | in_time]
        return carriers

    def _add_maternity(
        self,
        history: History,
        episodes: Episodes,
        shown: Bools,
        any_row: Bools,
        first_shown: Bools,
        discharged: Bools,
    ) -> None:
        spells = history.spells
        mothers = np.flatnonzero((spells.kind == kinds.DELIVERY) & first_shown)
        delivered = spells.delivered[mothers]
        year = days.FINANCIAL_YEAR[delivered]
        self._add("deliveries", year, spells.hospital[mothers])
        first = np.flatnonzero(shown & episodes.first)
        for name, kind in (("deliveries_by_episode_end", kinds.DELIVERY), ("births", kinds.BIRTH)):
            rows = first[spells.kind[episodes.spell[first]] == kind]
            self._add(name, episodes.year[rows], spells.hospital[episodes.spell[rows]])
        still = discharged & spells.stillborn
        self._add("stillbirths", days.FINANCIAL_YEAR[spells.end[still]], spells.hospital[still])
        self.totals["multiple_births"] += int((history.deliveries.babies[spells.delivery[mothers]] > 1).sum())

        count = history.deliveries.count
        infected = np.zeros(count + 1, dtype=np.bool_)
        own = np.flatnonzero((spells.kind == kinds.DELIVERY) & (spells.infection > 0) & discharged)
        infected[spells.delivery[own]] = True
        day_of_delivery = np.full(count + 1, NO_DAY, dtype=np.int64)
        all_mothers = np.flatnonzero(spells.kind == kinds.DELIVERY)
        day_of_delivery[spells.delivery[all_mothers]] = spells.delivered[all_mothers]
        back = np.flatnonzero((spells.kind == kinds.INFECTION_READMISSION) & any_row & (spells.delivery >= 0))
        in_time = spells.start[back] - day_of_delivery[spells.delivery[back]] <= DAYS_AFTER_DELIVERY
        infected[spells.delivery[back[in_time]]] = True
        rows = mothers[infected[spells.delivery[mothers]]]
        self._add(
            "puerperal_infections_within_42_days",
            days.FINANCIAL_YEAR[spells.delivered[rows]],
            spells.hospital[rows],
        )

    def as_data(self) -> dict[str, dict[str, dict[str, int | float]]]:
        """``{financial year: {provider: {count: value}}}``."""
        codes = self._world.hospitals.codes
        result: dict[str, dict[str, dict[str, int | float]]] = {}
        for y, year in enumerate(self._world.years):
            result[str(year)] = {}
            for h, code in enumerate(codes):
                cell = y * len(codes) + h
                values: dict[str, int | float] = {name: int(c[cell]) for name, c in self._counts.items()}
                values |= {name: round(float(s[cell]), 6) for name, s in self._sums.items()}
                result[str(year)][code] = values
        return result


def planted_evidence(world: World, tally: Tally) -> dict[str, Any]:
    """How visible the planted outliers are: rates at the outlier and elsewhere, all years together."""
    data = tally.as_data()
    codes = world.hospitals.codes

    def total(name: str, provider: str | None, other_than: str = "") -> float:
        return sum(
            values[name]
            for by_provider in data.values()
            for code, values in by_provider.items()
            if (provider is None or code == provider) and code != other_than
        )

    def ratio(top: str, bottom: str, provider: str | None, other_than: str = "") -> float | None:
        below = total(bottom, provider, other_than)
        return round(total(top, provider, other_than) / below, 6) if below else None

    mortality, infection = codes[world.hospitals.mortality_outlier], codes[world.hospitals.infection_outlier]
    deaths = ("pneumonia_deaths_within_30_days", "pneumonia_spells")
    infections = ("puerperal_infections_within_42_days", "deliveries")
    all_deaths = ("deaths_within_30_days_ordinary", "spells_ordinary")
    return {
        "high_mortality": {
            "pneumonia_rate_here": ratio(*deaths, mortality),
            "pneumonia_rate_elsewhere": ratio(*deaths, None, mortality),
            "observed_over_expected_here": ratio(deaths[0], EXPECTED[1], mortality),
            "all_rate_here": ratio(*all_deaths, mortality),
            "all_rate_elsewhere": ratio(*all_deaths, None, mortality),
        },
        "high_puerperal_infection": {
            "rate_here": ratio(*infections, infection),
            "rate_elsewhere": ratio(*infections, None, infection),
        },
    }
