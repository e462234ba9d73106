"""Synthetic extracts: the files, written block by block while the history is made.

Each block of households goes through history, episodes and text to the open encrypting files and is
forgotten; memory depends on the block, not on the size of the world. A file's text depends on the arguments
alone; age's ciphertext differs on every run, so ``truth.json`` holds a digest of each file's plaintext.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from infra.files import make_folder, write_atomic
from infra.synthetic import days, layout, risk
from infra.synthetic.admitted import admitted_columns
from infra.synthetic.attendances import (
    ATTENDANCE_SHARE,
    OUTPATIENT_SHARE,
    Contacts,
    attendance_columns,
    make_appointments,
    make_arrivals,
    outpatient_columns,
)
from infra.synthetic.broken_rows import KINDS, SHARE, broken_lines
from infra.synthetic.canaries import canary_ranges
from infra.synthetic.days import Ints
from infra.synthetic.deaths import death_frames, register
from infra.synthetic.episodes import Episodes, make_episodes
from infra.synthetic.hospitals import make_hospitals
from infra.synthetic.identities import Identities
from infra.synthetic.sealed_files import SealedFile, put_in_place, recipient_of
from infra.synthetic.spells import History, first_households, make_history
from infra.synthetic.truth import MEANING, Tally, planted_evidence
from infra.synthetic.world import ATTENDANCES_TO, LAST_YEAR_MONTHS, NEW_ERA_FROM, World
from schemas.errors import UsageError

AGREEMENT: Final = "NIC359603"
EPISODES_PER_BLOCK: Final = 50_000
EARLIEST_YEAR: Final = 2007
"""Twenty diagnosis fields exist from this financial year on."""
LATEST_YEAR: Final = 2060
Progress = Callable[[str, int, int], None]


@dataclass
class _Extract:
    """One file being written and what is known of it. ``segments``: how many of its year it holds."""

    dataset: str
    period: str
    columns: tuple[str, ...]
    delimiter: str
    file: SealedFile
    year: int | None = None
    segments: int = 1
    without_late: bool = False
    rows: int = 0
    broken: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    owed: float = 0.0

    @property
    def broken_rows(self) -> int:
        return sum(self.broken.values())


def generate(
    out: Path,
    *,
    episodes: int,
    hospitals: int,
    years: int,
    seed: int,
    recipient: str,
    progress: Progress | None = None,
    last_financial_year: int = 2023,
    plain: bool = False,
) -> dict[str, Any]:
    """Write encrypted extracts of all datasets, ``truth.json`` and ``provider_reference.csv`` into ``out``.

    ``episodes``: number of admitted-patient episodes of the whole history, reached to within one family;
    ``years``: financial years, the last beginning in April of ``last_financial_year``; ``recipient``: an age
    public key; ``plain`` writes unencrypted files instead. ``progress(what, done, total)`` is called now and
    then. Returns the content of ``truth.json``, which is written last: without it a folder is incomplete.

    Raises :class:`UsageError` for numbers that make no world, typed storage errors when the disk fails; then
    nothing but complete earlier files is left in ``out``.
    """
    if episodes < 1 or years < 1:
        raise UsageError("there must be at least one episode and one year")
    if seed < 0:
        raise UsageError("a seed is a whole number from 0")
    first_year = last_financial_year - years + 1
    if first_year < EARLIEST_YEAR or last_financial_year > LATEST_YEAR:
        raise UsageError(f"the financial years must lie between {EARLIEST_YEAR} and {LATEST_YEAR}")
    world = World(first_year, last_financial_year, seed, make_hospitals(hospitals, seed))
    key = None if plain else recipient_of(recipient)
    make_folder(out)
    extracts: list[_Extract] = []
    try:
        _open_all(extracts, out, world, key)
        writing = _Writing(world, extracts)
        writing.run(episodes, progress)
        truth = _finish(out, world, writing, progress)
    finally:
        for extract in extracts:
            extract.file.discard()
    write_atomic(out / "truth.json", json.dumps(truth, indent=1).encode())
    return truth


def _open_all(extracts: list[_Extract], out: Path, world: World, key: Any | None) -> None:
    suffix = "" if key is None else ".age"

    def start(
        dataset: str, period: str, columns: tuple[str, ...], delimiter: str, kind: str, **more: Any
    ) -> None:
        path = out / f"{AGREEMENT}_{dataset.upper()}_{period}.{kind}{suffix}"
        stated = "snapshot" if kind == "csv" else period
        extract = _Extract(dataset, stated, columns, delimiter, SealedFile(path, key), **more)
        extracts.append(extract)
        extract.file.put((delimiter.join(columns) + "\n").encode())

    for year in world.years:
        new = layout.is_new_era(year)
        delimiter = "," if new else "|"
        apc, op = (layout.APC_NEW, layout.OP_NEW) if new else (layout.APC_OLD, layout.OP_OLD)
        if year < world.last_year:
            parts = [(99, 1, False)]
        else:
            parts = [(month, n + 1, n > 0) for n, month in enumerate(LAST_YEAR_MONTHS)]
        for month, segments, without_late in parts:
            for dataset, columns in (("hes_apc", apc), ("hes_op", op)):
                start(
                    dataset,
                    f"{year}{month:02d}",
                    columns,
                    delimiter,
                    "txt",
                    year=year,
                    segments=segments,
                    without_late=without_late,
                )
            if year <= ATTENDANCES_TO:
                start(
                    "hes_ae",
                    f"{year}{month:02d}",
                    layout.AE,
                    "|",
                    "txt",
                    year=year,
                    segments=segments,
                    without_late=without_late,
                )
    snapshot = world.snapshot.strftime("%Y%m%d")
    if world.first_year < NEW_ERA_FROM:
        start("ons_deaths", snapshot, layout.ONS_DEATHS, ",", "csv")
        start("ons_deaths_bridge", snapshot, layout.ONS_DEATHS_BRIDGE, ",", "csv")
    if world.last_year >= NEW_ERA_FROM:
        start("civil_deaths", snapshot, layout.CIVIL_DEATHS, ",", "csv")
    if world.first_year < NEW_ERA_FROM <= world.last_year:
        start("hes_person_bridge", snapshot, layout.PERSON_BRIDGE, ",", "csv")


def _segments(world: World, year: Ints, day: Ints) -> Ints:
    """Where a row belongs: one number per complete year, three for the last, by month."""
    segment = year - world.first_year
    month = days.MONTH[np.where(day >= 0, day, world.last_day)]
    later = np.where((month >= 10) & (month <= 12), 1, np.where(month <= 3, 2, 0))
    return segment + np.where(year == world.last_year, later, 0)


class _Writing:
    """The loop over blocks, and everything that is counted while it runs."""

    def __init__(self, world: World, extracts: list[_Extract]) -> None:
        self.world = world
        self.extracts = extracts
        self.counts, self.history = Tally(world), Tally(world)
        self.episodes = self.people = self.people_seen = self.spells = 0
        self._records = dict.fromkeys(("hes_apc", "hes_op", "hes_ae"), 0)
        self._broken = 0

    def run(self, target: int, progress: Progress | None) -> None:
        """Blocks until the history has ``target`` episodes in the files' years."""
        per_household = 1.25 + 0.36 * self.world.year_count
        household = block = 0
        while self.episodes < target:
            wanted = ceil(min(EPISODES_PER_BLOCK, (target - self.episodes) * 1.1 + 40) / per_household)
            rng = np.random.default_rng([self.world.seed, 2, block])
            history = make_history(rng, self.world, wanted, household, self.people)
            self._block(rng, history, target)
            household += wanted
            block += 1
            if progress is not None:
                progress("episodes", min(self.episodes, target), target)

    def _block(self, rng: np.random.Generator, history: History, target: int) -> None:
        world = self.world
        made = history.people.count
        episodes = make_episodes(rng, world, history)
        left = target - self.episodes
        if episodes.count > left:
            household = history.people.household[history.spells.person[episodes.spell]]
            last = int(np.sort(household)[left - 1])
            history, new_spell = first_households(history, last)
            episodes = episodes.take(household <= last)
            episodes = replace(episodes, spell=new_spell[episodes.spell])
        first_spell = self.spells
        self.spells += history.spells.count
        self._write(rng, history, episodes, first_spell)
        self.people += made
        self.episodes += episodes.count

    def _write(
        self, rng: np.random.Generator, history: History, episodes: Episodes, first_spell: int
    ) -> None:
        world = self.world
        people, spells = history.people, history.spells
        episodes = episodes.take(
            np.lexsort((rng.random(episodes.count), _segments(world, episodes.year, episodes.end)))
        )
        identities = Identities.of(people, world.seed)
        hospital = spells.hospital[episodes.spell]
        registrations = register(rng, world, people)

        frame = admitted_columns(
            rng,
            world,
            history,
            episodes,
            identities,
            first_record=self._records["hes_apc"],
            first_spell=first_spell,
        )
        self._write_rows("hes_apc", frame, _segments(world, episodes.year, episodes.end), hospital)

        appointments = make_appointments(rng, world, people, round(OUTPATIENT_SHARE * episodes.count))
        appointments = self._in_file_order(rng, appointments)
        frame_op = outpatient_columns(rng, world, appointments, identities, self._records["hes_op"])
        self._write_rows(
            "hes_op",
            frame_op,
            _segments(world, appointments.year, appointments.day),
            appointments.hospital,
        )

        first = np.flatnonzero(episodes.first & episodes.finished)
        arrivals = make_arrivals(
            rng, world, history, round(ATTENDANCE_SHARE * episodes.count), episodes.spell[first], first
        )
        arrivals = self._in_file_order(rng, arrivals)
        if arrivals.count:
            frame_ae = attendance_columns(
                rng, world, arrivals, identities, frame["EPIKEY"], self._records["hes_ae"]
            )
            self._write_rows(
                "hes_ae", frame_ae, _segments(world, arrivals.year, arrivals.day), arrivals.hospital
            )

        seen_old, seen_new = np.zeros(people.count, np.bool_), np.zeros(people.count, np.bool_)
        for person, year in (
            (spells.person[episodes.spell], episodes.year),
            (appointments.person, appointments.year),
            (arrivals.person, arrivals.year),
        ):
            seen_old[person[year < NEW_ERA_FROM]] = True
            seen_new[person[year >= NEW_ERA_FROM]] = True
        self.people_seen += int((seen_old | seen_new).sum())
        frames = death_frames(rng, world, spells, identities, registrations, seen_old, seen_new)
        for extract in self.extracts:
            if extract.dataset in frames:
                self._put(extract, frames[extract.dataset])

        late = (hospital == world.hospitals.late) & (episodes.year == world.last_year)
        self.counts.add(history, episodes, ~late, registrations.known)
        self.history.add(history, episodes, np.ones(episodes.count, np.bool_), people.died != days.NO_DAY)

    def _in_file_order(self, rng: np.random.Generator, contacts: Contacts) -> Contacts:
        segment = _segments(self.world, contacts.year, contacts.day)
        return contacts.take(np.lexsort((rng.random(contacts.count), segment)))

    def _write_rows(self, dataset: str, frame: pl.DataFrame, segment: Ints, hospital: Ints) -> None:
        """Send the rows, which stand segment by segment, to the files of their year."""
        self._records[dataset] += frame.height
        late = hospital == self.world.hospitals.late
        for extract in self.extracts:
            if extract.dataset != dataset or extract.year is None:
                continue
            low = extract.year - self.world.first_year
            begin, end = np.searchsorted(segment, [low, low + extract.segments])
            if begin == end:
                continue
            rows, at = frame[int(begin) : int(end)], hospital[begin:end]
            if extract.without_late:
                rows, at = rows.filter(pl.Series(~late[begin:end])), at[~late[begin:end]]
            identifier = layout.NEW_PERSON_ID if layout.is_new_era(extract.year) else layout.OLD_PERSON_ID
            rows = rows.with_columns(pl.lit(extract.period).alias("PARTYEAR")).rename(
                {layout.PERSON_ID: identifier}
            )
            rows = rows.select(extract.columns)
            self._put(extract, rows)
            if dataset == "hes_apc":
                self._put_broken(extract, rows, np.flatnonzero(at == self.world.hospitals.broken_rows))

    @staticmethod
    def _put(extract: _Extract, rows: pl.DataFrame) -> None:
        if rows.height == 0:
            return
        text = BytesIO()
        rows.select(extract.columns).write_csv(
            text, include_header=False, separator=extract.delimiter, quote_style="never"
        )
        extract.file.put(text.getvalue())
        extract.rows += rows.height

    def _put_broken(self, extract: _Extract, rows: pl.DataFrame, at: Ints) -> None:
        """The broken hospital's malformed copies: one as soon as a file has rows of it, then by share."""
        extract.owed += len(at) * SHARE
        count = min(ceil(extract.owed) - extract.broken_rows, len(at))
        if count <= 0 or extract.year is None:
            return
        chosen = rows[at[:: max(len(at) // count, 1)][:count]]
        lines, kinds = broken_lines(
            chosen, extract.year, extract.delimiter, extract.broken_rows, self._broken
        )
        extract.file.put(("\n".join(lines) + "\n").encode())
        self._broken += len(lines)
        extract.rows += len(lines)
        for kind in kinds:
            extract.broken[kind] += 1


def _finish(out: Path, world: World, writing: _Writing, progress: Progress | None) -> dict[str, Any]:
    files: dict[str, Any] = {}
    for number, extract in enumerate(writing.extracts):
        written = extract.file.end()
        files[extract.file.path.name] = {
            "dataset": extract.dataset,
            "period": extract.period,
            "delimiter": extract.delimiter,
            "columns": len(extract.columns),
            "rows": extract.rows,
            "broken_rows": extract.broken_rows,
            "broken": {kind: count for kind, count in extract.broken.items() if count},
            "plaintext_bytes": written.plaintext_bytes,
            "plaintext_digest": written.plaintext_digest,
        }
        if progress is not None:
            progress("files", number + 1, len(writing.extracts))
    (out / "truth.json").unlink(missing_ok=True)  # an earlier one does not describe what comes now
    put_in_place([extract.file for extract in writing.extracts])
    reference = world.hospitals.reference()
    lines = ["code,name,type", *(",".join(row.values()) for row in reference)]
    write_atomic(out / "provider_reference.csv", ("\n".join(lines) + "\n").encode())
    hospitals = world.hospitals
    planted = hospitals.planted()
    for entry in planted:
        evidence = planted_evidence(world, writing.counts).get(entry["kind"])
        if evidence is not None:
            entry["evidence"] = evidence
        if entry["kind"] == "late_data":
            entry["present_in"] = [f"{world.last_year}{LAST_YEAR_MONTHS[0]:02d}"]
            entry["missing_from"] = [f"{world.last_year}{month:02d}" for month in LAST_YEAR_MONTHS[1:]]
        if entry["kind"] == "broken_rows":
            entry["by_file"] = {name: f["broken"] for name, f in files.items() if f["broken"]}
    return {
        "says": "synthetic data: no person, no hospital and no event in these files exists",
        "made_with": {
            "seed": world.seed,
            "hospitals": hospitals.count,
            "years": world.year_count,
            "last_financial_year": world.last_year,
        },
        "episodes": writing.episodes,
        "people": writing.people_seen,
        "first_day": days.as_date(world.first_day).isoformat(),
        "last_day": days.as_date(world.last_day).isoformat(),
        "snapshot": world.snapshot.isoformat(),
        "canaries": canary_ranges(days.EPOCH, world.snapshot),
        "providers": reference,
        "planted": planted,
        "files": files,
        "meaning": MEANING,
        "totals": writing.counts.totals,
        "counts": writing.counts.as_data(),
        "history_totals": writing.history.totals,
        "history": writing.history.as_data(),
        "risk_model": risk.description(hospitals.codes, hospitals.effect)
        | {
            "planted": {
                "provider": hospitals.codes[hospitals.mortality_outlier],
                "group": "pneumonia",
                "log_odds": round(float(hospitals.pneumonia_effect.max()), 6),
            }
        },
    }
