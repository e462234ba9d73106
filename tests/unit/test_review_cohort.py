"""The cohort: the named questions on tiny tables, their parameters, and the digest that fixes the records."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from infra.review import cohort
from infra.review.cohort import SCHEMA, Cohort, checked_parameters, load_question, question_names
from schemas.errors import ContractDefinitionError, NotPermitted, UsageError
from schemas.review_policy import review_policy

YEAR = {"provider": "RXX", "from_date": "2026-01-01", "to_date": "2026-12-31"}
FIRST_ID, OTHER_ID = "0" * 32, "1" * 32


@pytest.fixture
def tables() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(
            "create table episode (record bigint, episode_id varchar, person_token varchar, provider varchar, "
            "episode_start date, episode_type varchar, primary_diagnosis varchar, secondary_codes varchar[])"
        )
        connection.execute(
            "create table provider_spell (spell_id varchar, person_token varchar, provider varchar, "
            "discharge_date date, finished boolean, died_in_hospital boolean, primary_diagnosis varchar, "
            "last_record bigint)"
        )
        connection.execute(
            "create table spell_outcome (spell_id varchar, died_within_30_days boolean, death_order integer)"
        )
        yield connection


def ask(connection: duckdb.DuckDBPyConnection, name: str, **parameters: str) -> list[tuple[str, str]]:
    """(record key, person) of the cohort, by key."""
    question = load_question(name)
    typed = checked_parameters(question, {**YEAR, **parameters}, "RXX", review_policy())
    found = connection.sql(question.query, params=typed)
    assert set(found.columns) == {"record_key", "person_token", "record_date"}
    return sorted((row[0], row[1]) for row in found.select("record_key, person_token").fetchall())


def episode(connection: duckdb.DuckDBPyConnection, key: str, person: str, day: str, **other: Any) -> None:
    values = {"provider": "RXX", "kind": "1", "diagnosis": "Z000", "secondary": [], **other}
    connection.execute(
        "insert into episode select coalesce(max(record), 0) + 1, ?, ?, ?, ?::date, ?, ?, ? from episode",
        [key, person, values["provider"], day, values["kind"], values["diagnosis"], values["secondary"]],
    )


def spell(connection: duckdb.DuckDBPyConnection, name: str, person: str, day: str, **other: Any) -> None:
    """A spell of two episodes, of which the last has the key ``<name> last``."""
    values = {
        "provider": "RXX",
        "died": True,
        "diagnosis": "J189",
        "soon": True,
        "order": 1,
        "finished": True,
        **other,
    }
    episode(connection, f"{name} first", person, day)
    episode(connection, f"{name} last", person, day)
    connection.execute(
        "insert into provider_spell select ?, ?, ?, ?::date, ?, ?, ?, max(record) from episode",
        [name, person, values["provider"], day, values["finished"], values["died"], values["diagnosis"]],
    )
    connection.execute("insert into spell_outcome values (?, ?, ?)", [name, values["soon"], values["order"]])


def test_an_infection_after_delivery_is_the_mothers_and_never_the_babys(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    """Attack 75: mother and baby have episodes of the same day, and only hers is in the cohort."""
    episode(tables, "birth of a", "mother a", "2026-03-01", kind="2")
    episode(tables, "baby a", "baby a", "2026-03-01", kind="3", diagnosis="O85X")
    episode(tables, "readmission a", "mother a", "2026-03-20", provider="RYY", diagnosis="O85X")
    assert ask(tables, "infection_after_delivery") == [("birth of a", "mother a")]


def test_an_infection_counts_in_any_position_for_42_days(tables: duckdb.DuckDBPyConnection) -> None:
    for person, day in (("day 0", "2026-03-01"), ("day 42", "2026-04-12"), ("day 43", "2026-04-13")):
        episode(tables, f"birth {person}", person, "2026-03-01", kind="5")
        episode(tables, f"later {person}", person, day, secondary=["O860", "Z370"])
    assert [key for key, _ in ask(tables, "infection_after_delivery")] == ["birth day 0", "birth day 42"]


def test_a_delivery_elsewhere_or_outside_the_period_is_not_asked_about(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    episode(tables, "elsewhere", "a", "2026-03-01", kind="2", provider="RYY", diagnosis="O85X")
    episode(tables, "too early", "b", "2025-12-31", kind="2", diagnosis="O85X")
    assert ask(tables, "infection_after_delivery") == []


def test_deaths_in_hospital_are_found_by_the_episode_that_ended_the_stay(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    spell(tables, "died", "a", "2026-03-01")
    spell(tables, "lived", "b", "2026-03-01", died=False)
    spell(tables, "elsewhere", "c", "2026-03-01", provider="RYY")
    spell(tables, "too late", "d", "2027-01-01")
    assert ask(tables, "deaths_in_hospital") == [("died last", "a")]


def test_deaths_after_a_diagnosis_are_counted_for_one_spell(tables: duckdb.DuckDBPyConnection) -> None:
    spell(tables, "at home", "a", "2026-03-01", died=False)
    spell(tables, "earlier spell of a", "a", "2026-02-20", died=False, order=2)
    spell(tables, "another diagnosis", "b", "2026-03-01", diagnosis="I210")
    spell(tables, "lived", "c", "2026-03-01", died=False, soon=False)
    assert ask(tables, "deaths_within_30_days", diagnosis="J18") == [("at home last", "a")]


def test_every_question_loads_and_asks_for_one_provider_and_period() -> None:
    names = question_names()
    assert names == ["deaths_in_hospital", "deaths_within_30_days", "infection_after_delivery"]
    for name in names:
        parameters = load_question(name).parameters
        assert {
            "provider": "organisation",
            "from_date": "date",
            "to_date": "date",
        }.items() <= parameters.items()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("select 1 as x", "one title"),
        (
            "-- title: t\n-- needs: deaths\n-- parameter: provider organisation\nselect $provider as x",
            "one provider",
        ),
        ("-- title: t\n-- needs: spells\nselect $from_date as x", "not those that it declares"),
        ("-- title: t\n-- needs: spells\ndrop table episode", "one SELECT"),
    ],
    ids=["no header", "no period", "an undeclared parameter", "no question"],
)
def test_a_question_that_does_not_declare_what_it_uses_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaint: str
) -> None:
    (tmp_path / "bad.sql").write_text(text)
    monkeypatch.setattr(cohort, "COHORT_FOLDER", tmp_path)
    with pytest.raises(ContractDefinitionError, match=complaint):
        load_question("bad")


@pytest.mark.parametrize(
    "name", ["", "nothing", "../core/episode", "deaths_in_hospital.sql", "Deaths_in_hospital"]
)
def test_what_is_no_question_cannot_be_asked(name: str) -> None:
    with pytest.raises(UsageError, match="there is no such cohort"):
        load_question(name)


@pytest.mark.parametrize(
    "change",
    [
        {"provider": "rxx"},
        {"from_date": "2026-02-30"},
        {"from_date": "01/01/2026"},
        {"diagnosis": "J18"},
        {"diagnosis": "J%"},
    ],
    ids=str,
)
def test_a_parameter_of_another_type_or_name_is_refused_and_not_repeated(change: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        checked_parameters(load_question("deaths_in_hospital"), {**YEAR, **change}, "RXX", review_policy())
    assert not any(value in str(caught.value) for value in change.values())


@pytest.mark.parametrize(
    ("since", "until", "allowed"),
    [
        ("2026-01-01", "2026-12-31", True),
        ("2026-01-01", "2027-01-01", False),
        ("2026-04-01", "2027-03-31", True),
        ("2026-04-01", "2027-04-01", False),
        ("2026-03-02", "2026-03-01", False),
    ],
)
def test_a_cohort_covers_a_year_at_most(since: str, until: str, allowed: bool) -> None:
    parameters = {"provider": "RXX", "from_date": since, "to_date": until}
    question = load_question("deaths_in_hospital")
    if allowed:
        assert checked_parameters(question, parameters, "RXX", review_policy())
    else:
        with pytest.raises(NotPermitted) as caught:
            checked_parameters(question, parameters, "RXX", review_policy())
        assert caught.value.reason_code == "period_too_long"


def records(*rows: tuple[str, str], person: str = "p", day: date = date(2026, 3, 1)) -> Cohort:
    """Of (delivery, key), each another person."""
    frame = [(delivery, key, f"{person} of {key}", day) for delivery, key in rows]
    return Cohort(pl.DataFrame(frame, schema=SCHEMA, orient="row"))


def test_the_digest_is_of_the_records_whatever_their_order() -> None:
    assert records(("d", "1"), ("d", "2")).digest(FIRST_ID) == records(("d", "2"), ("d", "1")).digest(
        FIRST_ID
    )


@pytest.mark.parametrize(
    "other",
    [
        records(("d", "1")),
        records(("d", "1"), ("d", "3")),
        records(("d", "1"), ("e", "2")),
        records(("d", "12")),
        records(("d", "1"), ("d", "2"), person="another"),
        records(("d", "1"), ("d", "2"), day=date(2026, 3, 2)),
    ],
    ids=["one less", "another", "another delivery", "run together", "another person", "another day"],
)
def test_other_records_have_another_digest(other: Cohort) -> None:
    """Attacks 53 and 54."""
    assert other.digest(FIRST_ID) != records(("d", "1"), ("d", "2")).digest(FIRST_ID)


def test_two_requests_about_the_same_records_do_not_show_it() -> None:
    found = records(("d", "1"))
    assert found.digest(FIRST_ID) != found.digest(OTHER_ID)


def test_printing_a_cohort_shows_its_size_alone() -> None:
    assert repr(records(("d", "secret"))) == "Cohort(1 records)"
