"""Linkage of deaths: the store keeps three columns, and only a capped number of days comes out of it."""

from __future__ import annotations

import errno
import os
import stat
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import commit_points
from infra.linkage import (
    DEATHS,
    PAIRS,
    LinkageWriter,
    PairsWriter,
    read_linkage,
    read_pairs,
    sweep,
    write_linkage,
)
from schemas.errors import IntegrityError, KeyUnavailable, StorageFull, UsageError
from transforms.linkage import CAP_DAYS, days_to_death, one_death_per_person, resolve

KEY = bytes(range(32))
DELIVERY = "civil_deaths-snapshot-0123456789ab"
OTHER = "ons_deaths-snapshot-ba9876543210"


def day(number: int) -> date:
    return date(2020, 1, 1) + timedelta(days=number)


def deaths(*rows: tuple[str | None, date | None, date | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=DEATHS, orient="row")


THREE = deaths(("t1", day(3), day(9)), ("t2", day(4), None), ("t1", None, day(8)))


# The store -------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    assert write_linkage(tmp_path, DELIVERY, THREE, KEY) == 3
    assert write_linkage(tmp_path, OTHER, THREE.head(1), KEY) == 1
    assert read_linkage(tmp_path, [DELIVERY], KEY).equals(THREE)
    assert read_linkage(tmp_path, [OTHER, DELIVERY], KEY).equals(pl.concat([THREE.head(1), THREE]))
    assert read_linkage(tmp_path, [], KEY).schema == DEATHS


def test_chunks_come_together_and_a_missing_registration_is_null(tmp_path: Path) -> None:
    with LinkageWriter(tmp_path, DELIVERY, KEY) as writer:
        writer.add(THREE)
        writer.add(THREE.select("date_of_death", "token"))
        assert writer.finish() == 6
    expected = pl.concat([THREE, THREE.with_columns(pl.lit(None, pl.Date).alias("registered"))])
    assert read_linkage(tmp_path, [DELIVERY], KEY).equals(expected)


def test_a_row_without_a_token_links_to_nobody_and_is_not_kept(tmp_path: Path) -> None:
    assert write_linkage(tmp_path, DELIVERY, deaths((None, day(1), day(1)), ("t", day(1), day(1))), KEY) == 1


def test_a_delivery_without_deaths_is_a_file_without_rows(tmp_path: Path) -> None:
    assert write_linkage(tmp_path, DELIVERY, DEATHS.to_frame(), KEY) == 0
    assert read_linkage(tmp_path, [DELIVERY], KEY).height == 0


@pytest.mark.parametrize(
    "frame",
    [
        THREE.with_columns(cause=pl.lit("I21")),
        THREE.drop("date_of_death"),
        THREE.drop("token"),
        THREE.with_columns(pl.col("date_of_death").cast(pl.String)),
        pl.DataFrame(),
    ],
    ids=["a cause of death", "no date", "no token", "date as text", "nothing"],
)
def test_nothing_else_comes_to_lie_in_the_store(tmp_path: Path, frame: pl.DataFrame) -> None:
    with pytest.raises(UsageError):
        write_linkage(tmp_path, DELIVERY, frame, KEY)
    assert not list(tmp_path.iterdir())


def test_neither_tokens_nor_dates_lie_in_clear_and_the_file_is_private(tmp_path: Path) -> None:
    frame = deaths(*((f"canary{number:026d}", day(77), day(78)) for number in range(50)))
    before = os.umask(0)
    try:
        write_linkage(tmp_path / "linkage", DELIVERY, frame, KEY)
    finally:
        os.umask(before)
    path = tmp_path / "linkage" / f"{DELIVERY}.parquet"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    content = path.read_bytes()
    assert b"canary" not in content
    days_since_1970 = (day(77) - date(1970, 1, 1)).days.to_bytes(4, "little")
    assert days_since_1970 * 2 not in content
    with pytest.raises(pl.exceptions.PolarsError):
        pl.read_parquet(path)


def test_another_key_another_delivery_s_place_or_changed_content_opens_nothing(tmp_path: Path) -> None:
    write_linkage(tmp_path, DELIVERY, THREE, KEY)
    write_linkage(tmp_path, OTHER, THREE, KEY)
    path, other = tmp_path / f"{DELIVERY}.parquet", tmp_path / f"{OTHER}.parquet"
    with pytest.raises(IntegrityError):
        read_linkage(tmp_path, [DELIVERY], bytes(32))
    whole = path.read_bytes()
    path.write_bytes(other.read_bytes())
    with pytest.raises(IntegrityError):
        read_linkage(tmp_path, [DELIVERY], KEY)
    for length in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(IntegrityError):
            read_linkage(tmp_path, [DELIVERY], KEY)
    for position in (0, 4, 30, len(whole) // 2, len(whole) - 30, len(whole) - 6, len(whole) - 1):
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        try:
            read = read_linkage(tmp_path, [DELIVERY], KEY)
        except IntegrityError:
            continue
        assert read.equals(THREE), f"byte {position} was changed and another date came out"
    path.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        read_linkage(tmp_path, [OTHER, DELIVERY], KEY)


def test_a_key_of_the_wrong_length_and_an_id_that_is_no_file_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailable):
        write_linkage(tmp_path, DELIVERY, THREE, b"short")
    for delivery_id in ("", "../x", ".staging-x", "A"):
        with pytest.raises(UsageError):
            write_linkage(tmp_path, delivery_id, THREE, KEY)
        with pytest.raises(UsageError):
            read_linkage(tmp_path, [delivery_id], KEY)


def test_the_file_appears_between_the_two_commit_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, list[str]]] = []

    def look(name: str) -> None:
        seen.append((name, [path.name for path in tmp_path.iterdir()]))

    monkeypatch.setattr(commit_points, "reached", look)
    write_linkage(tmp_path, DELIVERY, THREE, KEY)
    assert seen == [
        ("linkage.write.before", [f".staging-{DELIVERY}.parquet"]),
        ("linkage.write.after", [f"{DELIVERY}.parquet"]),
    ]


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_linkage(tmp_path, DELIVERY, THREE, KEY)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/a/path")

    for broken in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, broken, full)
            with pytest.raises(StorageFull) as error:
                write_linkage(tmp_path, DELIVERY, THREE.head(1), KEY)
        assert "/a/path" not in str(error.value)
        assert [path.name for path in tmp_path.iterdir()] == [f"{DELIVERY}.parquet"]
    assert read_linkage(tmp_path, [DELIVERY], KEY).equals(THREE)


def test_sweeping_keeps_the_committed_and_removes_everything_else(tmp_path: Path) -> None:
    write_linkage(tmp_path, DELIVERY, THREE, KEY)
    write_linkage(tmp_path, OTHER, THREE, KEY)
    (tmp_path / f".staging-{DELIVERY}.parquet").write_bytes(b"half")
    assert sweep(tmp_path, {DELIVERY}) == [f".staging-{DELIVERY}.parquet", f"{OTHER}.parquet"]
    assert [path.name for path in tmp_path.iterdir()] == [f"{DELIVERY}.parquet"]
    assert sweep(tmp_path, {DELIVERY}) == []
    assert sweep(tmp_path / "nowhere", set()) == []


# One death per person --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(day(5), day(9))], day(5)),
        ([(day(5), day(9)), (day(3), day(10))], day(5)),  # the earlier registration, not the earlier death
        ([(day(5), day(9)), (day(3), day(9))], day(3)),  # registered on one day: the earlier death
        ([(day(5), None), (day(7), day(9))], day(7)),  # without a registration comes last
        ([(None, day(9)), (day(3), day(9))], day(3)),  # without a date comes last within a registration
        ([(None, day(8)), (day(3), day(9))], None),  # and a registration without a date still comes first
        ([(day(5), None), (day(3), None)], day(3)),
        ([(None, None), (None, None)], None),
        ([(date(1899, 12, 31), date(1900, 1, 2)), (day(0), day(0))], date(1899, 12, 31)),  # before 1970
    ],
)
def test_the_earliest_registration_then_the_earliest_death_then_nulls(
    rows: list[tuple[date | None, date | None]], expected: date | None
) -> None:
    for order in (rows, rows[::-1]):
        frame = deaths(*(("t", died, registered) for died, registered in order))
        assert one_death_per_person(frame).rows() == [("t", expected)]


dates = st.none() | st.dates(date(1890, 1, 1), date(2100, 1, 1))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rows=st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), dates, dates), max_size=20))
def test_it_agrees_with_sorting_and_taking_the_first(
    rows: list[tuple[str | None, date | None, date | None]],
) -> None:
    def nulls_last(value: date | None) -> tuple[bool, date]:
        return value is None, value or date.min

    expected: dict[str, date | None] = {}
    for token, died, _ in sorted(rows, key=lambda row: (nulls_last(row[2]), nulls_last(row[1]))):
        if token is not None:
            expected.setdefault(token, died)
    answer = one_death_per_person(deaths(*rows))
    assert dict(answer.rows()) == expected
    assert answer.height == len(expected), "one row per person"
    assert answer.schema == pl.Schema({"person_token": pl.String, "date_of_death": pl.Date})


# Tokens of another era -------------------------------------------------------------------------------------


def bridge(*pairs: tuple[str | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema={"from_token": pl.String, "to_token": pl.String}, orient="row")


def tokens(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    return frame.select("token", "date_of_death").rows()


def test_record_ids_become_persons_and_a_record_of_nobody_is_dropped() -> None:
    records = deaths(("r1", day(1), None), ("r2", day(2), None), ("r3", day(3), None))
    links = bridge(("r1", "p1"), ("r2", "p2"), ("r2", "p2"), ("r9", "p9"))
    assert tokens(resolve(records, links, unmatched="drop")) == [("p1", day(1)), ("p2", day(2))]


def test_a_person_known_in_one_era_alone_keeps_the_token() -> None:
    old = deaths(("old1", day(1), None), ("old2", day(2), None))
    answer = resolve(old, bridge(("old1", "new1")), unmatched="keep")
    assert tokens(answer) == [("new1", day(1)), ("old2", day(2))]
    assert answer.schema == DEATHS


def test_one_token_that_leads_to_two_persons_gives_both_the_death() -> None:
    answer = resolve(deaths(("r1", day(1), None)), bridge(("r1", "p1"), ("r1", "p2")), unmatched="drop")
    assert sorted(tokens(answer)) == [("p1", day(1)), ("p2", day(1))]


def test_half_a_link_is_no_link() -> None:
    links = bridge(("r1", None), (None, "p1"))
    nobody = deaths(("r1", day(1), None), (None, day(2), None))
    assert resolve(nobody, links, unmatched="drop").height == 0
    assert resolve(nobody, links, unmatched="keep").equals(nobody)


def test_two_eras_lead_to_one_death_of_one_person() -> None:
    # Record r1 of the old product and person p1 of the new one are the same death, registered on day 9.
    records = deaths(("r1", day(4), day(9)))
    registrations = deaths(("p1", day(5), day(9)))
    by_old_person = resolve(records, bridge(("r1", "old1")), unmatched="drop")
    by_person = resolve(by_old_person, bridge(("old1", "p1")), unmatched="keep")
    assert one_death_per_person(pl.concat([by_person, registrations])).rows() == [("p1", day(4))]


# Days to death ---------------------------------------------------------------------------------------------


def spells(**rows: Any) -> pl.DataFrame:
    """spell id -> (person, admission, discharge)"""
    return pl.DataFrame(
        [(spell, *values) for spell, values in rows.items()],
        schema={
            "spell_id": pl.String,
            "person_token": pl.String,
            "admission_date": pl.Date,
            "discharge_date": pl.Date,
        },
        orient="row",
    )


def died(**on: date | None) -> pl.DataFrame:
    return pl.DataFrame(
        list(on.items()), schema={"person_token": pl.String, "date_of_death": pl.Date}, orient="row"
    )


@pytest.mark.parametrize(
    ("death", "expected"),
    [
        (day(20), 0),  # on the day of discharge
        (day(21), 1),
        (day(50), 30),  # the last day that counts
        (day(51), 31),  # later: only that it was later
        (day(5000), 31),
        (day(19), -1),  # inside the stay: exact, the outcome decides which register counts
        (day(10), -10),  # on the day of admission
        (day(9), -11),  # before admission: only that it was before
        (day(-400), -11),
    ],
)
def test_days_are_exact_around_the_stay_and_capped_outside(death: date, expected: int) -> None:
    spell = spells(s=("p", day(10), day(20)))
    assert days_to_death(spell, died(p=death)).rows() == [("s", expected)]


def test_the_cap_can_be_lower() -> None:
    spell = spells(s=("p", day(10), day(20)))
    assert days_to_death(spell, died(p=day(27)), cap=7).rows() == [("s", 7)]
    assert days_to_death(spell, died(p=day(99)), cap=7).rows() == [("s", 8)]


def test_every_spell_of_a_person_gets_its_own_difference_and_the_alive_get_no_row() -> None:
    answer = days_to_death(
        spells(
            a=("p", day(0), day(2)),
            b=("q", day(0), day(2)),
            c=("p", day(5), day(9)),
            d=(None, day(0), day(1)),
        ),
        died(p=day(12), r=day(1)),
    )
    assert answer.rows() == [("a", 10), ("c", 3)]
    assert answer.schema == pl.Schema({"spell_id": pl.String, "days_to_death": pl.Int32})


def test_missing_dates_never_invent_a_death() -> None:
    answer = days_to_death(
        spells(
            no_discharge=("p", day(0), None),
            no_admission=("p", None, day(10)),
            no_admission_later=("p", None, day(13)),
            dateless=("u", day(0), day(10)),
        ),
        died(p=day(12), u=None),
    )
    assert dict(answer.rows()) == {"no_admission": 2, "no_admission_later": -1}


def test_a_person_with_two_deaths_is_refused_rather_than_counted_twice() -> None:
    with pytest.raises(UsageError) as error:
        days_to_death(spells(s=("p", day(0), day(1))), pl.concat([died(p=day(1)), died(p=day(2))]))
    assert "2020" not in str(error.value)
    for cap in (-1, 367):
        with pytest.raises(UsageError):
            days_to_death(spells(s=("p", day(0), day(1))), died(p=day(1)), cap=cap)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("pqr"), st.none() | st.integers(0, 60), st.none() | st.integers(60, 90)),
        max_size=12,
    ),
    last_days=st.fixed_dictionaries({person: st.none() | st.integers(0, 200) for person in "pq"}),
)
def test_it_agrees_with_counting_on_the_fingers(
    rows: list[tuple[str, int | None, int | None]], last_days: dict[str, int | None]
) -> None:
    expected = {}
    for number, (person, admission, discharge) in enumerate(rows):
        last = last_days.get(person)
        if last is None or discharge is None:
            continue
        started = discharge if admission is None else admission
        if last < started:
            expected[f"s{number}"] = started - discharge - 1
        elif last - discharge > CAP_DAYS:
            expected[f"s{number}"] = CAP_DAYS + 1
        else:
            expected[f"s{number}"] = last - discharge

    def on(number: int | None) -> date | None:
        return None if number is None else day(number)

    given_spells = spells(**{f"s{n}": (p, on(a), on(d)) for n, (p, a, d) in enumerate(rows)})
    answer = days_to_death(given_spells, died(**{p: on(n) for p, n in last_days.items()}))
    assert dict(answer.rows()) == expected


def test_no_date_and_no_token_comes_out() -> None:
    spell = spells(s=("p", day(10), day(20)))
    assert days_to_death(spell, died(p=day(22))).columns == ["spell_id", "days_to_death"]
    assert days_to_death(spell, died(p=day(60))).equals(days_to_death(spell, died(p=day(900)))), (
        "when somebody died later cannot be told"
    )


def test_the_pairs_of_the_record_bridge_lie_in_the_store_and_nowhere_else(tmp_path: Path) -> None:
    with PairsWriter(tmp_path, DELIVERY, KEY) as writer:
        writer.add(pl.DataFrame({"token": ["r1", None], "person_token": ["p1", "p2"]}, schema=PAIRS))
        assert writer.finish() == 1
    assert read_pairs(tmp_path, [DELIVERY], KEY).rows() == [("r1", "p1")]
    with pytest.raises(IntegrityError):
        read_linkage(tmp_path, [DELIVERY], KEY)
