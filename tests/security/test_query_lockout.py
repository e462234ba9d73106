"""Attack 127: one analyst asks nearly the same question again and again, to learn a small group by subtraction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread

import duckdb
import pytest

from infra.audit import AuditLog, read
from infra.curated_query import CuratedView
from infra.incidents import IncidentType, list_incidents
from infra.query_lockout import LOCKED_OUT, QUESTION, ask_curated, outline_of, unlock
from schemas.errors import IdentifierInText, NotPermitted, UsageError, WardwatchError
from schemas.incident_policy import incident_policy

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
VIEWS = (CuratedView("hes_apc", ("PROCODE3", "STARTAGE", "SEX", "ADMIDATE", "DIAG_01", "SPELDUR")),)
LIMIT = incident_policy().repeated_queries
REASON = "it was a check of the age bands, agreed with the team"


class Desk:
    """One workspace's curated zone: ``ask`` as a person on a day, ``locked`` to see whether they may not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = duckdb.connect()
        self.lake.execute(
            "create table hes_apc as select 'p' || i as person_token, 'RX' || chr((65 + i % 4)::int) as PROCODE3, "
            "40 + i % 50 as STARTAGE, i % 2 as SEX, date '2020-01-01' + (i % 100)::int as ADMIDATE, 'A41' as DIAG_01, "
            "i % 9 as SPELDUR from range(400) t(i)"
        )

    def audit(self, person: str = "p-7", day: int = 0, role: str = "intelligence_analyst") -> AuditLog:
        return AuditLog(self.folder / "audit", lambda: NOW + timedelta(days=day), person, role)

    def ask(self, sql: str, person: str = "p-7", day: int = 0, **change: str) -> int:
        """How many groups came back."""
        answer = ask_curated(
            self.lake.cursor(),
            sql,
            VIEWS,
            purpose=change.get("purpose", "indicator_review"),
            audit=self.audit(person, day),
            incidents=self.folder / "incidents",
            now=NOW + timedelta(days=day),
        )
        return answer.frame.height

    def ask_all(self, questions: Iterable[str]) -> int:
        """How many questions were answered before one was refused."""
        for number, sql in enumerate(questions):
            try:
                self.ask(sql)
            except NotPermitted as refused:
                if refused.reason_code != LOCKED_OUT:
                    raise
                return number
        raise AssertionError("none of the questions was refused")

    def unlock(self, person: str = "p-7", by: str = "p-1", reason: str = REASON) -> None:
        audit = self.audit(by, role="iao")
        unlock(person, reason, audit=audit, incidents=self.folder / "incidents", now=NOW)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def ages(first: int = 50, count: int = 40) -> list[str]:
    return [f"select count(*) from hes_apc where startage < {first + number}" for number in range(count)]


def test_the_same_question_with_another_age_each_time_is_answered_seven_times_and_then_locks(
    desk: Desk,
) -> None:
    assert desk.ask_all(ages()) == LIMIT.most == 7
    (event,) = (e for e in read(desk.folder / "audit") if e.reason_code == LOCKED_OUT)
    assert (event.person, event.decision, event.counts["nearly_the_same"]) == ("p-7", "refuse", 8)
    (incident,) = list_incidents(desk.folder / "incidents")
    assert (incident.type, incident.is_near_miss) == (IncidentType.REPEATED_QUERIES, True)
    with pytest.raises(NotPermitted, match="locked for you"):
        desk.ask("select sex, count(*) from hes_apc group by sex")  # a quite different question
    assert len(list_incidents(desk.folder / "incidents")) == 1, "knocking again raises no further incident"
    assert desk.ask("select count(*) from hes_apc where startage < 88", person="p-8") == 1


DISGUISES = {
    "other operators and order": [
        "select count(*) from hes_apc where startage < 50 and sex = 1",
        "SELECT COUNT(*) AS n FROM hes_apc h WHERE h.SEX = 1 AND NOT (h.STARTAGE >= 51)",
        "select count(*) from hes_apc where sex = 1 and startage between 0 and 51",
        "select count(*) from hes_apc where startage - 1 < 52 and sex = 1",
        "select count(*) from hes_apc where not (startage > 53 or sex <> 1)",
        "select count(*) from hes_apc where case when startage < 55 then sex = 1 else false end",
        "select count(*) from hes_apc where (startage < 56) = (sex = 1)",
        "select count(*) from hes_apc where startage in (40, 41, 42) and sex = 1",
    ],
    "other numbers asked for": [
        "select count(*) from hes_apc where startage < 50",
        "select avg(speldur) from hes_apc where startage < 51",
        "select sum(speldur) from hes_apc where startage < 52",
        "select median(speldur) from hes_apc where startage < 53",
        "select count(distinct person_token) from hes_apc where startage < 54",
        "select count(*), avg(startage) from hes_apc where startage < 55",
        "select stddev(speldur) from hes_apc where startage < 56",
        "select count(speldur) from hes_apc where startage < 57",
    ],
    "one more condition or one less": [
        *ages(count=3),
        *(f"select count(*) from hes_apc where startage < {age} and sex = 1" for age in (50, 51)),
        *(f"select count(*) from hes_apc where startage < {age} and diag_01 = 'A41'" for age in (50, 51)),
        "select count(*) from hes_apc where startage < 70",
    ],
    "the filter among the keys": [
        f"select case when startage < {age} then 1 else 0 end as young, count(*) from hes_apc group by 1"
        for age in range(50, 58)
    ],
    "dates": [
        f"select count(*) from hes_apc where admidate < date '2020-03-{day:02}'" for day in range(1, 9)
    ],
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_disguise_of_the_same_question_counts_as_the_same(desk: Desk, disguise: str) -> None:
    assert desk.ask_all(DISGUISES[disguise]) == 7


def test_what_an_analyst_does_all_day_is_not_locked(desk: Desk) -> None:
    """Breakdowns by other columns, the same question every morning, and other filters on other columns."""
    for column in ("procode3", "sex", "diag_01", "startage", "speldur", "admidate"):
        desk.ask(f"select {column}, count(*) from hes_apc group by {column}")
    for day in range(20):
        desk.ask("select procode3, count(*) from hes_apc where sex = 1 group by procode3", day=day)
    for first, second in (("sex", "speldur"), ("diag_01", "procode3"), ("startage", "admidate")):
        for value in range(5):
            desk.ask(f"select count(*) from hes_apc where {first} = '{value}' and {second} = '{value}'")
    assert list_incidents(desk.folder / "incidents") == []


def test_the_window_moves_on(desk: Desk) -> None:
    for sql in ages(count=7):
        desk.ask(sql)
    assert desk.ask("select count(*) from hes_apc where startage < 80", day=LIMIT.within_days + 1) == 1
    with pytest.raises(NotPermitted):
        desk.ask("select count(*) from hes_apc where startage < 81", day=LIMIT.within_days)


def test_a_lock_does_not_end_with_the_window_but_with_the_owner(desk: Desk) -> None:
    desk.ask_all(ages())
    with pytest.raises(NotPermitted):
        desk.ask("select count(*) from hes_apc", day=200)
    desk.unlock()
    assert desk.ask_all(ages(first=60)) == 7, "the count begins anew, and the limit holds again"
    first, second = list_incidents(desk.folder / "incidents")
    assert (first.is_open, first.reason, first.closed_by) == (False, REASON, "p-1")
    assert second.is_open


def test_nobody_unlocks_themself_or_without_a_reason_or_with_an_identifier_in_it(desk: Desk) -> None:
    desk.ask_all(ages())
    with pytest.raises(NotPermitted, match="themself"):
        desk.unlock(by="p-7")
    with pytest.raises(UsageError):
        desk.unlock(reason="ok")
    with pytest.raises(IdentifierInText):
        desk.unlock(reason="they looked for the patient of postcode ZZ99 3VZ")
    with pytest.raises(UsageError, match="not locked out"):
        desk.unlock(person="p-8")
    with pytest.raises(NotPermitted):
        desk.ask("select count(*) from hes_apc")


def test_questions_at_the_same_moment_count_each_other(desk: Desk) -> None:
    barrier, answered, refused = Barrier(12), [], []

    def ask(sql: str) -> None:
        barrier.wait()
        try:
            answered.append(desk.ask(sql))
        except NotPermitted:
            refused.append(sql)

    threads = [Thread(target=ask, args=(sql,)) for sql in ages(count=12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answered) + len(refused) == 12
    assert len(answered) <= 7, "two questions side by side do not slip through together"


@pytest.mark.parametrize(
    ("sql", "purpose", "error"),
    [
        ("select count(*) from hes_apc where startage < 50", "release", NotPermitted),
        ("select person_token from hes_apc", "indicator_review", NotPermitted),
        ("selekt", "indicator_review", UsageError),
        ("select count(*) from hes_apc where diag_01 = '999 000 0018'", "indicator_review", IdentifierInText),
        ("select count(*) from hes_apc where " + "not " * 3000 + "true", "indicator_review", WardwatchError),
    ],
)
def test_what_is_refused_for_another_reason_is_not_counted_and_leaves_no_digest_of_its_filter(
    desk: Desk, sql: str, purpose: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        desk.ask(sql, purpose=purpose)
    assert [event for event in read(desk.folder / "audit") if event.action == QUESTION] == []


def test_the_log_names_columns_and_no_value(desk: Desk) -> None:
    desk.ask("select count(*) from hes_apc where procode3 = 'RXA' and startage < 57")
    (event,) = (event for event in read(desk.folder / "audit") if event.action == QUESTION)
    assert (event.object, event.counts) == ("hes_apc", {"on.PROCODE3": 1, "on.STARTAGE": 1})
    line = next(
        line for line in (desk.folder / "audit" / "log.ndjson").read_text().splitlines() if QUESTION in line
    )
    assert "RXA" not in line
    assert "startage <" not in line


def test_an_outline_is_the_same_however_the_question_is_written() -> None:
    one = outline_of("select procode3, count(*) from hes_apc where sex = 1 group by procode3", VIEWS)
    other = outline_of("SELECT  count(*), PROCODE3 p FROM hes_apc x WHERE x.sex = 1 GROUP BY p", VIEWS)
    assert one == other
