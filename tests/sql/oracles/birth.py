"""Births in plain Python, from the mothers' records and the babies': see infra/decisions/0150-delivery.md."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta

from tests.sql.oracles.delivery import COVERED, END, Delivery, Records, financial_year
from tests.sql.oracles.episode import Episode
from tests.sql.oracles.provider_spell import Spell


@dataclass(frozen=True)
class Birth:
    """A baby. ``place`` is None for a record of a baby that no place of a delivery was found for."""

    delivery: Delivery | None
    place: int | None
    spell: Spell | None
    provider: str
    day: date
    stillborn: bool
    weeks: int | None

    @property
    def year(self) -> str:
        return financial_year(self.day)

    @property
    def followed_until(self) -> date | None:
        return END if self.year in COVERED else None


def births(records: Records, all_deliveries: list[Delivery]) -> list[Birth]:
    tokens = Counter(delivery.token for delivery in all_deliveries if delivery.token)
    by_token = {
        delivery.token: (number, delivery)
        for number, delivery in enumerate(all_deliveries)
        if delivery.token and tokens[delivery.token] == 1
    }
    babies: dict[str, tuple[Episode, Spell]] = {}
    for spell in records.spells:
        for episode in spell.episodes:
            if records.role(episode) != "baby":
                continue
            held = babies.get(spell.person)
            order = (episode.start, episode.reach, episode.key)
            if held is None or order < (held[0].start, held[0].reach, held[0].key):
                babies[spell.person] = (episode, spell)

    wanting: dict[tuple[int, int], list[tuple[date, str, Episode, Spell]]] = {}
    unplaced: list[tuple[Delivery | None, Episode, Spell]] = []
    for episode, spell in babies.values():
        row = records.rows[episode.key]
        if row["mother_baby_token_of_baby"] not in by_token:
            unplaced.append((None, episode, spell))
            continue
        number, delivery = by_token[row["mother_baby_token_of_baby"]]
        order_text = row["BIRORDR_1"]
        place = 1 if delivery.babies == 1 else int(order_text) if order_text in set("1234567") else None
        if place is None or place > delivery.babies:
            unplaced.append((delivery, episode, spell))
            continue
        wanting.setdefault((number, place), []).append((born(records, episode), spell.id, episode, spell))
    placed: dict[tuple[int, int], tuple[Episode, Spell]] = {}
    for key, group in wanting.items():
        group.sort(key=lambda entry: entry[:2])
        placed[key] = group[0][2:]
        unplaced += [(all_deliveries[key[0]], episode, spell) for _, _, episode, spell in group[1:]]

    found = []
    for number, delivery in enumerate(all_deliveries):
        statuses = [delivery.tail[f"BIRSTAT_{n}"] if delivery.tail else None for n in range(1, 10)]
        for place in range(1, delivery.babies + 1):
            pair = placed.get((number, place))
            said = statuses[place - 1]
            own = own_stillborn(records, *pair) if pair else None
            if said in ("1", "2", "3", "4"):
                stillborn = said != "1"
            elif own is not None:
                stillborn = own
            elif delivery.outcome in ("Z371", "Z374", "Z377"):
                stillborn = True
            elif delivery.outcome in ("Z373", "Z376") and not set("1234") & set(statuses) - {None}:
                stillborn = place == delivery.babies
            else:
                stillborn = False
            weeks = delivery.tail[f"GESTAT_{place}"] if delivery.tail else None
            if weeks is None and pair:
                weeks = records.rows[pair[0].key]["GESTAT_1"]
            found.append(
                Birth(
                    delivery=delivery,
                    place=place,
                    spell=pair[1] if pair else None,
                    provider=delivery.provider,
                    day=born(records, pair[0]) if pair and not delivery.dated else delivery.day,
                    stillborn=stillborn,
                    weeks=weeks,
                )
            )
    for mother, episode, spell in unplaced:
        found.append(
            Birth(
                delivery=mother,
                place=None,
                spell=spell,
                provider=spell.first.provider,
                day=born(records, episode),
                stillborn=bool(own_stillborn(records, episode, spell)),
                weeks=records.rows[episode.key]["GESTAT_1"],
            )
        )
    return found


def born(records: Records, episode: Episode) -> date:
    age = records.rows[episode.key]["NEODUR"]
    return episode.start - timedelta(days=age if age is not None and 0 <= age <= 27 else 0)


def own_stillborn(records: Records, episode: Episode, spell: Spell) -> bool | None:
    status = records.rows[episode.key]["BIRSTAT_1"]
    if status in ("2", "3", "4") or spell.method == "5":
        return True
    return False if status == "1" else None
