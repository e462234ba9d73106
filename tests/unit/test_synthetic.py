"""Synthetic extracts: the same seed gives the same text, and the truth can be counted again from the rows.

The recount below knows nothing of the generator: it reads decrypted rows in plain loops, as an analyst would.
"""

from __future__ import annotations

import ast
import csv
import errno
import json
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import pyrage
import pytest

from infra.synthetic import canaries, generate, sealed_files
from schemas.errors import StorageFull, UsageError

pytestmark = pytest.mark.thorough

PACKAGE = Path(__file__).parents[2] / "infra" / "synthetic"
DICTIONARY = Path(__file__).parents[2] / ".." / "shared" / "data" / "dictionary"
GROUPS = Path(__file__).parents[2] / ".." / "shared" / "data" / "shmi_groups"
IDENTITY = pyrage.x25519.Identity.generate()
SENTINELS = {"1800-01-01", "1801-01-01"}
SYMPTOM = "R"
PNEUMONIA = {"J13X", "J159", "J180", "J181", "J189"}
PERSON_IDS = ("ENCRYPTED_HESID", "TOKEN_PERSON_ID")
CANARY_DATES = {"DOB", "MOTDOB", "DOD", "REG_DATE_OF_DEATH", "DOBBABY_1", "DOBBABY_2", "DOBBABY_3"}
IDENTIFYING = CANARY_DATES | {"NEWNHSNO", "LOPATID", "HOMEADD", *PERSON_IDS}


@dataclass
class File:
    """A decrypted file: its header, its whole rows, and its malformed lines."""

    name: str
    dataset: str
    period: str
    delimiter: str
    header: list[str]
    rows: list[dict[str, str]]
    malformed: Counter[str]
    lines: int


@dataclass
class World:
    folder: Path
    truth: dict[str, Any]
    files: list[File]

    def of(self, dataset: str, period: str | None = None) -> list[File]:
        return [f for f in self.files if f.dataset == dataset and period in (None, f.period)]

    def newest(self, dataset: str) -> list[File]:
        """One file per financial year: the one with the highest month."""
        by_year: dict[str, File] = {}
        for file in sorted(self.of(dataset), key=lambda f: f.period):
            by_year[file.period[:4]] = file
        return list(by_year.values())


def decrypted(path: Path) -> str:
    if path.suffix != ".age":
        return path.read_text()
    text = BytesIO()
    with path.open("rb") as stream:
        pyrage.decrypt_io(stream, text, [IDENTITY])
    return text.getvalue().decode("ascii")


def as_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def read(folder: Path, name: str, said: dict[str, Any]) -> File:
    header_line, *lines = decrypted(folder / name).removesuffix("\n").split("\n")
    delimiter = "," if header_line.count(",") > header_line.count("|") else "|"
    header = header_line.split(delimiter)
    rows, malformed = [], Counter[str]()
    for line in lines:
        fields = line.split(delimiter)
        row = dict(zip(header, fields, strict=False))
        if len(fields) != len(header):
            malformed["wrong_number_of_fields"] += 1
        elif "EPIORDER" in row and not row["EPIKEY"]:
            malformed["missing_epikey"] += 1
        elif "EPIORDER" in row and as_day(row["ADMIDATE"]) is None:
            malformed["unparsable_date"] += 1
        else:
            rows.append(row)
    return File(name, said["dataset"], said["period"], delimiter, header, rows, malformed, len(lines))


def make(folder: Path, **more: Any) -> World:
    arguments: dict[str, Any] = {"episodes": 3000, "hospitals": 5, "years": 4, "seed": 11} | more
    truth = generate(folder, recipient=str(IDENTITY.to_public()), **arguments)
    return World(folder, truth, [read(folder, name, said) for name, said in truth["files"].items()])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Four years across the change of era, the last in monthly files."""
    return make(tmp_path_factory.mktemp("world") / "extracts")


@pytest.fixture(scope="module")
def old_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Years of the old era alone, with A&E and with episodes delivered unfinished."""
    folder = tmp_path_factory.mktemp("old") / "extracts"
    return make(folder, last_financial_year=2017, years=3, seed=5, plain=True)


@pytest.fixture(scope="module")
def large_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Enough episodes for rates, and for more than one block of the generator."""
    folder = tmp_path_factory.mktemp("large") / "extracts"
    truth = generate(folder, episodes=60_000, hospitals=5, years=3, seed=2, recipient="", plain=True)
    return World(folder, truth, [])


# --- the recount ---------------------------------------------------------------------------------------


@dataclass
class Spell:
    person: str
    provider: str
    admitted: date
    rows: list[dict[str, str]]

    @property
    def last(self) -> dict[str, str]:
        return max(self.rows, key=lambda row: int(row["EPIORDER"]))

    @property
    def first(self) -> dict[str, str]:
        return min(self.rows, key=lambda row: int(row["EPIORDER"]))

    @property
    def discharged(self) -> date | None:
        return as_day(self.last["DISDATE"])

    @property
    def ordinary(self) -> bool:
        return self.last["CLASSPAT"] in "15" and self.last["DISMETH"] != "5"

    def codes(self) -> set[str]:
        return {row[f"DIAG_{n:02d}"].strip() for row in self.rows for n in range(1, 21)}

    def primary(self) -> str:
        ordered = sorted(self.rows, key=lambda row: int(row["EPIORDER"]))
        known = [row["DIAG_01"].strip() for row in ordered]
        return next((code for code in known if not code.startswith(SYMPTOM)), known[0])


def financial_year(day: date) -> str:
    return str(day.year if day.month >= 4 else day.year - 1)


def person_of_world(world: World) -> dict[str, str]:
    """Token of the new era -> id of the old one, for people seen in both."""
    bridges = world.of("hes_person_bridge")
    return {row["TOKEN_PERSON_ID"]: row["ENCRYPTED_HESID"] for f in bridges for row in f.rows}


def spells_of(world: World) -> list[Spell]:
    bridge = person_of_world(world)
    found: dict[tuple[str, str, str], Spell] = {}
    for file in world.newest("hes_apc"):
        for row in file.rows:
            if row["EPISTAT"] != "3":
                continue
            person = row.get("ENCRYPTED_HESID") or bridge.get(row["TOKEN_PERSON_ID"], row["TOKEN_PERSON_ID"])
            key = (person, row["PROCODET"], row["ADMIDATE"])
            spell = found.setdefault(key, Spell(person, key[1], date.fromisoformat(key[2]), []))
            spell.rows.append(row)
    return list(found.values())


def deaths_of(world: World) -> dict[str, date]:
    """Person -> registered date of death, where the whole date is known."""
    bridge = person_of_world(world)
    record = {r["RECORD_ID"]: r["ENCRYPTED_HESID"] for f in world.of("ons_deaths_bridge") for r in f.rows}
    died = {
        record[r["RECORD_ID"]]: date.fromisoformat(r["DOD"]) for f in world.of("ons_deaths") for r in f.rows
    }
    for file in world.of("civil_deaths"):
        for row in file.rows:
            text = row["REG_DATE_OF_DEATH"]
            if len(text) == 8:
                token = row["TOKEN_PERSON_ID"]
                died[bridge.get(token, token)] = date.fromisoformat(text)
    return died


def deaths_carried(spells: list[Spell], died: dict[str, date]) -> list[Spell]:
    """The last discharged spell of each person who died in it or within 30 days of its end."""
    last: dict[str, Spell] = {}
    for spell in sorted((s for s in spells if s.discharged), key=lambda s: (s.discharged, s.admitted)):
        last[spell.person] = spell
    carried = []
    for person, spell in last.items():
        in_time = person in died and 0 <= (died[person] - spell.discharged).days <= 30  # type: ignore[operator]
        if spell.last["DISMETH"] == "4" or in_time:
            carried.append(spell)
    return carried


def delivery_date(spell: Spell) -> date | None:
    for row in spell.rows:
        for n in range(1, 25):
            if row["EPITYPE"] == "2" and "R17" <= row[f"OPERTN_{n:02d}"][:3] <= "R25":
                return as_day(row[f"OPDATE_{n:02d}"])
    return None


def recount(world: World) -> dict[str, Counter[tuple[str, str]]]:
    """Counts by (financial year, provider), named as in ``truth.json``."""
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    spells = spells_of(world)
    by_person: dict[str, list[Spell]] = defaultdict(list)
    for spell in spells:
        by_person[spell.person].append(spell)
        for row in spell.rows:
            counts["episodes"][financial_year(date.fromisoformat(row["EPIEND"])), spell.provider] += 1
            if row["EPITYPE"] == "3":
                counts["births"][financial_year(date.fromisoformat(row["EPIEND"])), spell.provider] += 1
        born = delivery_date(spell)
        if born is not None:
            counts["deliveries"][financial_year(born), spell.provider] += 1
        if spell.discharged is None:
            continue
        at = financial_year(spell.discharged), spell.provider
        counts["spells"][at] += 1
        counts["spells_ordinary"][at] += spell.ordinary
        counts["spells_day_case"][at] += spell.last["CLASSPAT"] == "2"
        counts["spells_regular"][at] += spell.last["CLASSPAT"] == "3"
        counts["spells_of_several_episodes"][at] += len(spell.rows) > 1
        counts["deaths_in_hospital"][at] += spell.last["DISMETH"] == "4"
        counts["stillbirths"][at] += spell.last["DISMETH"] == "5"
        counts["transfers_out"][at] += spell.last["DISDEST"] == "51"
        counts["transfers_in"][at] += spell.first["ADMISORC"] == "51"
        counts["pneumonia_spells"][at] += spell.ordinary and spell.primary() in PNEUMONIA
    died = deaths_of(world)
    for spell in deaths_carried(spells, died):
        counts["deaths_within_30_days"][financial_year(spell.discharged), spell.provider] += 1  # type: ignore[arg-type]
    for spell in deaths_carried([s for s in spells if s.ordinary], died):
        at = financial_year(spell.discharged), spell.provider  # type: ignore[arg-type]
        counts["deaths_within_30_days_ordinary"][at] += 1
        counts["pneumonia_deaths_within_30_days"][at] += spell.primary() in PNEUMONIA
    for history in by_person.values():
        for delivery in history:
            born = delivery_date(delivery)
            if born is None:
                continue
            infected = any(
                code.startswith(("O85", "O86"))
                for spell in history
                if spell is delivery or 0 <= (spell.admitted - born).days <= 42
                for code in spell.codes()
            )
            at = financial_year(born), delivery.provider
            counts["puerperal_infections_within_42_days"][at] += infected
    return counts


@pytest.mark.parametrize("which", ["world", "old_world"])
def test_the_truth_is_what_a_plain_recount_of_the_rows_finds(
    which: str, request: pytest.FixtureRequest
) -> None:
    subject: World = request.getfixturevalue(which)
    counts = recount(subject)
    compared = 0
    for year, providers in subject.truth["counts"].items():
        for provider, values in providers.items():
            for name, found in counts.items():
                assert values[name] == found[year, provider], f"{name} of {provider} in {year}"
                compared += values[name]
    assert compared > 8000, "hardly anything was compared"
    assert sum(counts["deaths_within_30_days"].values()) > 50, "too few deaths to say anything"
    assert sum(counts["deliveries"].values()) > 50, "too few deliveries to say anything"


def test_only_the_late_hospital_separates_history_from_what_the_files_show(world: World) -> None:
    late = next(p for p in world.truth["planted"] if p["kind"] == "late_data")["provider"]
    for year, providers in world.truth["history"].items():
        for provider, values in providers.items():
            shown = world.truth["counts"][year][provider]
            if year == "2023" and provider == late:
                assert shown["spells"] == 0, "the late hospital's last year is in no newest file"
                assert values["spells"] > 0, "but it had one"
            else:
                assert shown["spells"] == values["spells"], f"{provider} in {year}"


def test_transfers_make_continuous_spells_of_two(world: World) -> None:
    spells = spells_of(world)
    leaving = {(s.person, s.discharged): s for s in spells if s.last["DISDEST"] == "51" and s.discharged}
    joined = 0
    for spell in spells:
        if spell.first["ADMISORC"] != "51":
            continue
        assert spell.first["ADMIMETH"] in ("81", "2B"), "a transfer in says so in both codes"
        before = [s for (person, _), s in leaving.items() if person == spell.person]
        near = [s for s in before if 0 <= (spell.admitted - s.discharged).days <= 2]  # type: ignore[operator]
        joined += bool(near)
        assert all(s.provider != spell.provider for s in near), "a transfer goes to another hospital"
    assert joined == world.truth["totals"]["transfers"], "transfers"
    assert joined > 10, "too few transfers to say anything"


# --- the same again ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_text_and_another_seed_does_not(world: World, tmp_path: Path) -> None:
    def digests(truth: dict[str, Any]) -> dict[str, str]:
        return {name.removesuffix(".age"): f["plaintext_digest"] for name, f in truth["files"].items()}

    again = generate(tmp_path / "a", episodes=3000, hospitals=5, years=4, seed=11, recipient="", plain=True)
    other = generate(tmp_path / "b", episodes=3000, hospitals=5, years=4, seed=12, recipient="", plain=True)
    assert digests(again) == digests(world.truth), "the digests depend on the arguments alone"
    assert again["counts"] == world.truth["counts"]
    assert set(digests(other)) == set(digests(world.truth))
    same = [name for name, digest in digests(other).items() if digest == digests(again)[name]]
    assert same == [], "another seed is another world"


def test_files_are_encrypted_private_and_as_the_truth_says(world: World) -> None:
    assert json.loads((world.folder / "truth.json").read_text()) == world.truth
    in_folder = {path.name for path in world.folder.iterdir()}
    assert in_folder == {*world.truth["files"], "truth.json", "provider_reference.csv"}, (
        "nothing else is left"
    )
    for path in world.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        if path.suffix == ".age":
            assert path.read_bytes().startswith(b"age-encryption.org/v1\n"), path.name
    for file in world.files:
        said = world.truth["files"][file.name]
        assert (said["rows"], said["delimiter"], said["columns"]) == (
            file.lines,
            file.delimiter,
            len(file.header),
        ), file.name


def test_files_are_private_under_an_open_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        generate(
            tmp_path / "x", episodes=50, hospitals=4, years=1, seed=1, recipient=str(IDENTITY.to_public())
        )
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "x").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o700


@pytest.mark.parametrize("episodes", [1, 700, 3000])
def test_the_number_of_episodes_is_reached_to_within_one_family(tmp_path: Path, episodes: int) -> None:
    truth = generate(tmp_path, episodes=episodes, hospitals=4, years=2, seed=3, recipient="", plain=True)
    assert episodes <= truth["episodes"] <= episodes + 60


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    arguments: dict[str, Any] = {"hospitals": 4, "years": 1, "seed": 1, "recipient": "", "plain": True}
    generate(tmp_path, episodes=300, progress=lambda *step: told.append(step), **arguments)
    assert ("episodes", 300, 300) in told
    assert told[-1][0] == "files"
    assert told[-1][1] == told[-1][2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"hospitals": 3},
        {"episodes": 0},
        {"years": 0},
        {"seed": -1},
        {"years": 40},
        {"recipient": "AGE-SECRET-KEY-1QQQ"},
    ],
)
def test_numbers_that_make_no_world_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"episodes": 10, "hospitals": 4, "years": 1, "seed": 1}
    arguments["recipient"] = str(IDENTITY.to_public())
    with pytest.raises(UsageError) as refusal:
        generate(tmp_path / "x", **(arguments | wrong))
    assert "AGE-SECRET" not in str(refusal.value), "a key is never repeated"
    assert not (tmp_path / "x" / "truth.json").exists()


@pytest.mark.parametrize("plain", [True, False])
def test_a_full_disk_is_said_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    earlier = generate(tmp_path, episodes=200, hospitals=4, years=1, seed=1, recipient="", plain=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    class FullDisk(BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device", "/some/path")

        def fileno(self) -> int:
            return 0

    open_as_usual = sealed_files._Writer.__init__

    def on_a_full_disk(writer: sealed_files._Writer, path: Path) -> None:
        open_as_usual(writer, path)
        writer._stream.close()
        writer._stream = FullDisk()

    monkeypatch.setattr(sealed_files._Writer, "__init__", on_a_full_disk)
    arguments: dict[str, Any] = {"recipient": str(IDENTITY.to_public()), "plain": plain}
    with pytest.raises(StorageFull) as failure:
        generate(tmp_path, episodes=5000, hospitals=4, years=1, seed=2, **arguments)
    assert "/some/path" not in str(failure.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before, (
        "the earlier world is whole"
    )
    assert earlier["made_with"]["seed"] == 1


# --- layout --------------------------------------------------------------------------------------------


def test_each_era_has_its_delimiter_person_id_and_key_width(world: World) -> None:
    for file in world.of("hes_apc"):
        new = int(file.period[:4]) >= 2021
        assert file.delimiter == ("," if new else "|"), file.name
        assert ("TOKEN_PERSON_ID" in file.header) is new, file.name
        assert ("ENCRYPTED_HESID" in file.header) is not new, file.name
        assert {len(row["EPIKEY"]) for row in file.rows} == {19 if new else 12}, file.name
        local = {len(row["LOPATID"]) for row in file.rows}
        assert local == {20 if int(file.period[:4]) >= 2022 else 10}, file.name
        assert {row["PARTYEAR"] for row in file.rows} == {file.period}, file.name
        assert {len(row["HOMEADD"]) for row in file.rows} == {8}, file.name
    headers = {tuple(file.header) for file in world.of("hes_apc")}
    assert len(headers) == 2, "the eras order their columns differently"


def test_names_say_dataset_and_period(world: World, old_world: World) -> None:
    assert set(world.truth["files"]) == {
        *(f"NIC359603_HES_{d}_{y}99.txt.age" for d in ("APC", "OP") for y in (2020, 2021, 2022)),
        *(f"NIC359603_HES_{d}_2023{m}.txt.age" for d in ("APC", "OP") for m in ("06", "09", "12")),
        "NIC359603_ONS_DEATHS_20240415.csv.age",
        "NIC359603_ONS_DEATHS_BRIDGE_20240415.csv.age",
        "NIC359603_CIVIL_DEATHS_20240415.csv.age",
        "NIC359603_HES_PERSON_BRIDGE_20240415.csv.age",
    }
    assert "NIC359603_HES_AE_201599.txt" in old_world.truth["files"], "A&E to 2019-20"
    assert not [name for name in old_world.truth["files"] if "CIVIL" in name or "PERSON_BRIDGE" in name]


def test_every_column_is_one_of_the_specification(world: World, old_world: World) -> None:
    known: set[str] = set(PERSON_IDS)
    path = DICTIONARY / "hes_apc_fields_tos_v1.15.csv"
    if not path.exists():
        pytest.skip("file under ../shared not present")
    with path.open(encoding="utf-8-sig") as stream:
        for row in csv.DictReader(stream):
            name = row["field"]
            known |= {name, *(name.replace("_nn", f"_{n:02d}") for n in range(1, 25))}
            known |= {name.replace("_n", f"_{n}") for n in range(1, 10)}
    used = {name for w in (world, old_world) for file in w.of("hes_apc") for name in file.header}
    assert used - known == set(), "columns that the specification does not have"


def test_every_diagnosis_has_a_group_of_the_mortality_indicator(world: World) -> None:
    path = GROUPS / "phs_diag_grps_lookup_updated.csv"
    if not path.exists():
        pytest.skip("file under ../shared not present")
    with path.open(encoding="utf-8-sig") as stream:
        group = {row["diag1_4"]: row["DIAGNOSIS_GROUP"] for row in csv.DictReader(stream)}
    first = {row["DIAG_01"].strip() for file in world.of("hes_apc") for row in file.rows}
    unknown = {code for code in first if code not in group}
    assert unknown <= {"R69X6", "R69X8"}, "only the two codes for an unusable diagnosis have no group"
    assert {code for code in first if group.get(code) == "73"} == PNEUMONIA
    assert len(first) > 100, "a hundred diagnoses and more"


def test_record_keys_are_unique_over_all_years(world: World, old_world: World) -> None:
    for subject in (world, old_world):
        keys = [row["EPIKEY"] for file in subject.newest("hes_apc") for row in file.rows]
        assert len(keys) == len(set(keys))


def test_monthly_files_nest_and_only_the_late_hospital_drops_out(world: World) -> None:
    late = next(p for p in world.truth["planted"] if p["kind"] == "late_data")["provider"]
    for dataset, key in (("hes_apc", "EPIKEY"), ("hes_op", "ATTENDKEY")):
        june, september, december = (
            {tuple(v for k, v in row.items() if k != "PARTYEAR"): row for row in file.rows}
            for file in sorted(world.of(dataset, None), key=lambda f: f.period)[-3:]
        )
        for earlier, later in ((june, september), (september, december)):
            assert len(earlier) < len(later), "a later month holds more"
            gone = [earlier[content] for content in earlier.keys() - later.keys()]
            assert {row["PROCODET"] for row in gone} <= {late}, f"{dataset}: a row changed or disappeared"
            assert len({row[key] for row in later.values()}) == len(later)
        assert late in {row["PROCODET"] for row in june.values()}
        for month in (september, december):
            assert late not in {row["PROCODET"] for row in month.values()}


def test_a_spell_over_the_end_of_a_year_looks_unfinished_in_the_first_file(world: World) -> None:
    crossing = 0
    for spell in spells_of(world):
        years = {financial_year(date.fromisoformat(row["EPIEND"])) for row in spell.rows}
        for row in spell.rows:
            if row["SPELEND"] == "N":
                assert (row["DISMETH"], row["DISDEST"], row["DISDATE"]) == ("8", "98", "")
        crossing += len(years) > 1
    assert crossing > 0, "no spell runs over a year's end"


def test_unfinished_episodes_are_delivered_to_2016_17_only(old_world: World) -> None:
    by_year = Counter(
        row["FYEAR"] for f in old_world.of("hes_apc") for row in f.rows if row["EPISTAT"] == "1"
    )
    assert by_year["1516"] > 0
    assert by_year["1617"] > 0
    assert by_year["1718"] == 0
    for file in old_world.of("hes_apc"):
        for row in file.rows:
            if row["EPISTAT"] == "1":
                assert (row["EPIEND"], row["DISDATE"], row["FCE"]) == ("", "", "0")


# --- mothers and babies --------------------------------------------------------------------------------


def test_each_delivery_has_one_record_per_baby_and_they_agree(world: World) -> None:
    babies: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    mothers = []
    for file in world.newest("hes_apc"):
        for row in file.rows:
            if row["EPITYPE"] == "3":
                babies[row["PROCODET"], row["MOTDOB"], row["HOMEADD"], row["ADMIDATE"]].append(row)
            elif row["EPITYPE"] == "2":
                mothers.append(row)
    matched = 0
    for mother in mothers:
        when = next(mother[f"OPDATE_{n:02d}"] for n in (1, 2, 3) if mother[f"OPERTN_{n:02d}"][:1] == "R")
        own = babies[mother["PROCODET"], mother["DOB"], mother["HOMEADD"], when]
        assert mother["ADMIMETH"] in ("31", "32")
        assert mother["SEX"] == "2"
        assert as_day(mother["DOBBABY_1"]) < as_day(when), "the birth was before midnight"  # type: ignore[operator]
        assert as_day(mother["ADMIDATE"]) < as_day(mother["DOBBABY_1"])  # type: ignore[operator]
        if len(own) != int(mother["NUMBABY"]):
            continue  # a baby still in hospital when the data end has no record yet
        matched += 1
        for baby in own:
            place = baby["BIRORDR_1"]
            assert baby["STARTAGE"] == "7001"
            assert baby["DOB"] == mother[f"DOBBABY_{place}"]
            assert baby["BIRWEIT_1"] == mother[f"BIRWEIT_{place}"]
            assert baby["GESTAT_1"] == mother["GESTAT_1"]
            assert baby["DELMETH_1"] == mother["DELMETH_1"]
            assert (baby["BIRSTAT_1"] != "1") == (baby["DIAG_01"].strip() == "P95X")
    assert matched > 0.95 * len(mothers) > 50
    outcomes = {code for mother in mothers for code in mother.values() if code.startswith("Z37")}
    assert "Z370" in outcomes


def test_multiple_births_and_stillbirths_occur(large_world: World) -> None:
    totals = [v for year in large_world.truth["counts"].values() for v in year.values()]
    births, deliveries = sum(v["births"] for v in totals), sum(v["deliveries"] for v in totals)
    assert large_world.truth["totals"]["multiple_births"] > 10
    assert births > deliveries
    assert 0.001 < sum(v["stillbirths"] for v in totals) / births < 0.01


# --- canaries ------------------------------------------------------------------------------------------


def every_row(*worlds: World) -> Iterator[tuple[File, dict[str, str]]]:
    for world in worlds:
        for file in world.files:
            for row in file.rows:
                yield file, row


def test_every_identifying_value_is_a_canary(world: World, old_world: World) -> None:
    seen: Counter[str] = Counter()
    for file, row in every_row(world, old_world):
        for name in IDENTIFYING & row.keys():
            value = row[name]
            if not value or value in SENTINELS or (name == "REG_DATE_OF_DEATH" and len(value) == 6):
                continue
            assert canaries.is_canary(value), f"{name} in {file.name}"
            seen[name] += 1
    assert set(seen) == {*IDENTIFYING} - {"DOBBABY_3"} or set(seen) == {*IDENTIFYING}
    assert min(seen[name] for name in ("DOB", "NEWNHSNO", "LOPATID", "HOMEADD")) > 5000


def test_nothing_but_identifying_columns_looks_like_a_canary(world: World, old_world: World) -> None:
    """So a sweep of everything that was kept finds leaks, and only leaks."""
    for subject in (world, old_world):
        canaries_in = canaries.canaries(subject.truth)
        for file in subject.files:
            for row in file.rows:
                kept = "|".join(value for name, value in row.items() if name not in IDENTIFYING)
                found = canaries_in(kept)
                assert found == [], f"a clinical field of {file.name} holds a {found[0][0]}"


def test_nhs_numbers_have_a_valid_check_digit_in_the_test_range(world: World) -> None:
    numbers = {row["NEWNHSNO"] for _, row in every_row(world) if row.get("NEWNHSNO")}
    for number in numbers:
        # the rule by hand: weights 10 to 2, 11 minus the remainder, 11 counts as 0
        total = sum(int(number[i]) * (10 - i) for i in range(9))
        assert (11 - total % 11) % 11 == int(number[9])
        assert number.startswith("999")
    people = {row["NEWNHSNO"]: row.get("DOB") for _, row in every_row(world) if row.get("NEWNHSNO")}
    assert len(people) == len(numbers) > 500


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("number 999 000 0018 in a log", "nhs_number"),
        ("ZY1  3AB", "postcode"),
        ("at zy123ab.", "postcode"),
        ("WWLP0A1B2C", "local_patient_identifier"),
        ("WWHX0123456789ABCDEF0123456789AB", "person_id"),
        ("born 1962-03-24", "date"),
        ("born 24/03/1962", "date"),
        ("19620324", "date"),
    ],
)
def test_a_canary_is_found_in_any_usual_writing(text: str, kind: str) -> None:
    assert [found for found, _ in canaries.find(text)] == [kind]


@pytest.mark.parametrize(
    "text", ["9990000019", "1962-03-25", "SW1A 1AA", "19993124", "5000000000000000007", "2024-02-30"]
)
def test_what_is_no_canary_is_not_found(text: str) -> None:
    assert list(canaries.find(text)) == []
    assert not canaries.is_canary(text)


def test_deaths_in_hospital_are_registered_within_a_day_of_the_discharge(world: World) -> None:
    died = deaths_of(world)
    gaps = Counter(
        (died[s.person] - s.discharged).days  # type: ignore[operator]
        for s in spells_of(world)
        if s.last["DISMETH"] == "4" and s.person in died
    )
    assert set(gaps) == {-1, 1}
    assert sum(gaps.values()) > 30


# --- what was planted ----------------------------------------------------------------------------------


def test_the_planted_mortality_and_infection_show(large_world: World) -> None:
    planted = {p["kind"]: p for p in large_world.truth["planted"]}
    assert len({p["provider"] for p in planted.values()}) == 4, "four different hospitals"
    deaths = planted["high_mortality"]["evidence"]
    assert deaths["pneumonia_rate_here"] > 1.5 * deaths["pneumonia_rate_elsewhere"]
    assert deaths["all_rate_here"] > deaths["all_rate_elsewhere"], "the crude rate moves too"
    infections = planted["high_puerperal_infection"]["evidence"]
    assert infections["rate_here"] > 2.5 * infections["rate_elsewhere"]
    assert 0.008 < infections["rate_elsewhere"] < 0.03


def test_deaths_agree_with_the_stated_risk_model(large_world: World) -> None:
    """At hospitals without an outlier, observed deaths are what the known coefficients say."""
    planted = large_world.truth["planted"][0]["provider"]
    effects = large_world.truth["risk_model"]["hospital"]
    cells = [
        (v["deaths_within_30_days_ordinary"], v["expected_deaths_ordinary"])
        for year in large_world.truth["history"].values()
        for provider, v in year.items()
        if provider != planted
    ]
    observed, expected = (sum(column) for column in zip(*cells, strict=True))
    assert expected > 500
    assert abs(observed - expected) < 5 * expected**0.5, "observed and expected deaths"
    assert max(abs(effect) for effect in effects.values()) < 0.5


_WEIGHTS = (
    "I252 5, I693 11, I500 13, M069 4, F03X 14, E119 3, K746 8, K279 9, I739 6, J449 4, C189 8, E112 -1,"
    " G819 1, N183 10, C787 14, K766 18, B24X 2"
)
CHARLSON = {part.split()[0]: int(part.split()[1]) for part in _WEIGHTS.split(", ")}


def risk_by_hand(spell: Spell, model: dict[str, Any]) -> float:
    """The chance of death of a spell from what its rows say and the coefficients in ``truth.json``."""
    row = spell.first
    if spell.last["DISDEST"] == "51":
        return 0.0
    if row["EPITYPE"] == "3":
        weight = int(row["BIRWEIT_1"])
        steps = ("<1000", "1000-2499", "2500-4499", ">=4500")
        level = steps[sum(weight >= limit for limit in (1000, 2500, 4500))]
        odds = model["birth"]["birth_weight_grams"][level]
        return float(1 / (1 + 2.718281828459045**-odds))
    age = int(row["STARTAGE"]) if row["STARTAGE"] else None
    if age is None:
        band = "unknown"
    elif age > 7000:
        band = "<1"
    elif age < 5:
        band = "1-4"
    else:
        band = "90-120" if age >= 90 else f"{age // 5 * 5}-{age // 5 * 5 + 4}"
    score = sum(
        {c: CHARLSON.get(c, 0) for c in (row[f"DIAG_{n:02d}"].strip() for n in range(2, 21))}.values()
    )
    code = "O800" if row["EPITYPE"] == "2" else spell.primary()
    odds = (
        model["intercept"]
        + model["age_band"][band]
        + model["sex"].get(row["SEX"], model["sex"]["other"])
        + model["method_of_admission"][
            "elective" if row["ADMIMETH"] in ("11", "12", "13") else "non_elective"
        ]
        + model["comorbidity_band"]["0" if score <= 0 else "1-5" if score <= 5 else ">5"]
        + model["diagnosis"].get(code, model["diagnosis"]["R104"])
        + model["month_of_admission"][str(spell.admitted.month)]
        + model["patient_class"][row["CLASSPAT"]]
    )
    return float(1 / (1 + 2.718281828459045**-odds))


def test_the_risk_model_can_be_applied_to_the_rows_as_delivered(world: World) -> None:
    by_hand = sum(
        risk_by_hand(s, world.truth["risk_model"]) for s in spells_of(world) if s.discharged and s.ordinary
    )
    cells = [v for year in world.truth["counts"].values() for v in year.values()]
    stated = sum(values["expected_deaths_ordinary"] for values in cells)
    # symptom codes in the place of the disease and first episodes before the first year differ a little
    assert abs(by_hand - stated) < 0.02 * stated, f"{by_hand:.2f} by hand, {stated:.2f} stated"
    assert stated > 40


def test_broken_rows_are_as_many_as_the_truth_says_and_few(world: World, old_world: World) -> None:
    kinds: Counter[str] = Counter()
    for subject in (world, old_world):
        for file in subject.files:
            said = subject.truth["files"][file.name]
            assert said["broken"] == dict(file.malformed), file.name
            assert file.malformed.total() <= max(1, 0.01 * file.lines), "well under one in a hundred"
            kinds += file.malformed
    assert set(kinds) == {"wrong_number_of_fields", "unparsable_date", "missing_epikey"}


def test_the_mix_of_spells_is_lifelike(large_world: World) -> None:
    cells = [v for year in large_world.truth["counts"].values() for v in year.values()]
    total = Counter[str]()
    for values in cells:
        total.update(values)
    assert 0.11 < total["spells_of_several_episodes"] / total["spells_ordinary"] < 0.18, "about 14 %"
    assert 0.02 < total["deaths_within_30_days_ordinary"] / total["spells_ordinary"] < 0.06
    share_in = total["deaths_in_hospital"] / total["deaths_within_30_days"]
    assert 0.6 < share_in < 0.8, "about 73 % of the deaths are in hospital"
    assert total["spells_day_case"] > 0.2 * total["spells"]


# --- independence --------------------------------------------------------------------------------------


def test_the_generator_imports_nothing_of_what_it_tests() -> None:
    allowed = {"infra", "schemas"}
    ours = {"infra", "schemas", "transforms", "sql", "flows"}
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                top = name.split(".")[0]
                assert top not in ours or top in allowed, f"{path.name} imports {name}"
                inside = name.startswith("infra.synthetic") or name in (
                    "infra.files",
                    "schemas.errors",
                    "infra",
                )
                assert top not in allowed or inside, f"{path.name} imports {name}"
    source = ast.parse((PACKAGE / "canaries.py").read_text())
    modules = {n.module for n in ast.walk(source) if isinstance(n, ast.ImportFrom)}
    assert not [m for m in modules if m and m.startswith("infra")], (
        "a sweep may import it without the generator"
    )
