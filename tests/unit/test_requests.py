"""A request has the date that the law and the policy give it, names nobody, and is answered from metadata alone."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from infra.audit import AuditLog, read
from infra.provisioning import DEMO_AGREEMENT
from infra.public_register import CaseLists, DatasetHeld, Holdings
from infra.purposes import load_policy
from infra.requests.answer import answer_text
from infra.requests.deadlines import due_date, ends, months_after, working_days_after
from infra.requests.register import (
    add_request,
    close_request,
    confirm_identity,
    find_request,
    list_requests,
    note_answer,
)
from schemas.errors import IdentifierInText, IntegrityError, NotPermitted, UsageError
from schemas.request_policy import request_policy
from transforms.identifiers import scan_text

POLICY = request_policy()
CALENDAR = POLICY.calendar
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
TODAY = NOW.date()


@pytest.fixture
def audit(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit", lambda: NOW, "p-001", "iam")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "requests"


# Dates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (date(2026, 1, 5), date(2026, 2, 5)),
        (date(2026, 1, 31), date(2026, 2, 28)),
        (date(2028, 1, 31), date(2028, 2, 29)),
        (date(2026, 3, 31), date(2026, 4, 30)),
        (date(2026, 12, 31), date(2027, 1, 31)),
    ],
)
def test_a_month_ends_on_the_same_day_of_the_next_or_on_its_last_day(start: date, end: date) -> None:
    assert months_after(start, 1) == end


@pytest.mark.parametrize(
    ("start", "count", "end"),
    [
        (date(2026, 11, 2), 20, date(2026, 11, 30)),  # a Monday, four weeks on, no holiday
        (date(2026, 11, 7), 1, date(2026, 11, 9)),  # received on a Saturday
        (date(2026, 12, 24), 1, date(2026, 12, 29)),  # Christmas on Friday, Boxing Day moved to Monday
        (date(2026, 12, 4), 20, date(2027, 1, 6)),  # over Christmas and New Year: three holidays
        (date(2026, 4, 2), 1, date(2026, 4, 7)),  # over Easter
    ],
)
def test_working_days_leave_out_weekends_and_bank_holidays_and_begin_the_day_after(
    start: date, count: int, end: date
) -> None:
    assert working_days_after(start, count, CALENDAR) == end


def easter(year: int) -> date:
    """Easter Sunday, by the Gregorian rule in the form of Butcher."""
    a, b, c = year % 19, year // 100, year % 100
    d, e, g = b // 4, b % 4, (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = c // 4, c % 4
    el = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 22 * el) // 451
    month, day = divmod(h + el - 7 * m + 114, 31)
    return date(year, month, day + 1)


def holidays_by_rule(year: int) -> list[date]:
    """The bank holidays of England in an ordinary year, moved to the next working day from a weekend."""

    def monday(month: int, which: int) -> date:
        if which > 0:
            first = date(year, month, 1)
            return first + timedelta((7 - first.weekday()) % 7 + 7 * (which - 1))
        last = date(year, month + 1, 1) - timedelta(1)
        return last - timedelta(last.weekday())

    found = [
        easter(year) - timedelta(2),
        easter(year) + timedelta(1),
        monday(5, 1),
        monday(5, -1),
        monday(8, -1),
    ]
    for day in (date(year, 1, 1), date(year, 12, 25), date(year, 12, 26)):
        while day.weekday() > 4 or day in found:
            day += timedelta(1)
        found.append(day)
    return sorted(found)


@pytest.mark.parametrize("year", range(2025, 2029))
def test_the_calendar_is_what_the_rule_of_the_bank_holidays_gives(year: int) -> None:
    assert [day for day in CALENDAR.bank_holidays if day.year == year] == holidays_by_rule(year)


def test_a_date_beyond_the_calendar_is_refused_and_not_guessed() -> None:
    with pytest.raises(UsageError, match="covers 2025 to 2028"):
        working_days_after(date(2028, 12, 20), 20, CALENDAR)


def test_the_shortest_clock_in_force_counts_and_a_superseded_one_never() -> None:
    kind = POLICY.kind("subject_access")
    confirmed = date(2026, 11, 2)
    by_clock = {(c.months, c.working_days, c.days): ends(c, confirmed, CALENDAR) for c in kind.clocks}
    assert by_clock == {
        (1, None, None): date(2026, 12, 2),
        (None, 20, None): date(2026, 11, 30),
        (None, None, 40): date(2026, 12, 12),
    }
    assert due_date(kind, date(2026, 10, 1), confirmed, CALENDAR) == date(2026, 11, 30)
    assert [c.status for c in kind.clocks if c.days == 40] == ["superseded"]
    # Over Christmas 20 working days are longer than a month.
    assert due_date(kind, date(2026, 12, 1), date(2026, 12, 7), CALENDAR) == date(2027, 1, 7)
    assert due_date(POLICY.kind("erasure"), date(2026, 11, 2), date(2026, 11, 2), CALENDAR) == date(
        2026, 12, 2
    )


@pytest.mark.parametrize("kind", POLICY.kinds, ids=lambda kind: kind.code)
def test_a_clock_about_a_person_waits_for_their_identity_and_any_other_runs_from_receipt(
    kind: object,
) -> None:
    from schemas.request_policy import RequestKind

    assert isinstance(kind, RequestKind)
    due = due_date(kind, date(2026, 11, 2), None, CALENDAR)
    assert (due is None) == kind.about_a_person
    assert due_date(kind, date(2026, 11, 2), date(2026, 11, 2), CALENDAR) is not None


# The register -----------------------------------------------------------------------------------------


def test_a_request_about_a_person_goes_from_received_to_closed_and_each_step_is_audited(
    folder: Path, audit: AuditLog
) -> None:
    asked = add_request(
        folder,
        "subject_access",
        date(2026, 11, 2),
        reference="IAT-26-017",
        text="a copy of what is held",
        audit=audit,
        now=NOW,
    )
    assert (asked.id, asked.state, asked.due()) == ("request-0001", "received", None)
    with pytest.raises(NotPermitted) as refused:
        note_answer(folder, asked.id, "record", "0" * 64, audit=audit, now=NOW)
    assert refused.value.reason_code == "identity_not_confirmed"
    asked = confirm_identity(folder, asked.id, date(2026, 11, 3), audit=audit, now=NOW)
    assert asked.due() == date(2026, 12, 1)
    assert not asked.is_overdue(date(2026, 12, 1))
    assert asked.is_overdue(date(2026, 12, 2))
    with pytest.raises(NotPermitted, match="no answer yet"):
        close_request(folder, asked.id, "answered", "the letter was sent", audit=audit, now=NOW)
    asked = note_answer(
        folder, asked.id, "20261122 Request 0001 answer report v1.txt", "0" * 64, audit=audit, now=NOW
    )
    assert not asked.is_overdue(date(2027, 1, 1))
    asked = close_request(folder, asked.id, "answered", "the letter was sent", audit=audit, now=NOW)
    assert (asked.state, asked.outcome, asked.is_open) == ("closed", "answered", False)
    assert [event.action for event in read(audit.folder)] == [
        "request.add",
        "request.confirm",
        "request.answer",
        "request.close",
    ]
    assert all(event.digests["entry"] for event in read(audit.folder))
    assert list_requests(folder) == [asked]
    assert list_requests(folder, only_open=True) == []


def test_a_request_that_concerns_nobody_is_answered_without_an_identity(
    folder: Path, audit: AuditLog
) -> None:
    asked = add_request(
        folder,
        "freedom_of_information",
        date(2026, 11, 2),
        reference="FOI-9",
        text="what data sets are held",
        audit=audit,
        now=NOW,
    )
    assert asked.due() == date(2026, 11, 30)
    with pytest.raises(UsageError, match="nobody's identity"):
        confirm_identity(folder, asked.id, TODAY, audit=audit, now=NOW)
    assert note_answer(folder, asked.id, "record", "0" * 64, audit=audit, now=NOW).state == "answered"
    with pytest.raises(NotPermitted):
        note_answer(folder, asked.id, "record", "0" * 64, audit=audit, now=NOW)


def test_a_request_may_be_closed_without_an_answer_and_only_once(folder: Path, audit: AuditLog) -> None:
    asked = add_request(
        folder, "erasure", TODAY, reference="E-1", text="delete everything about me", audit=audit, now=NOW
    )
    closed = close_request(folder, asked.id, "passed_on", "passed on to NHS England", audit=audit, now=NOW)
    assert closed.outcome == "passed_on"
    for act in (
        lambda: close_request(folder, asked.id, "withdrawn", "not needed any more", audit=audit, now=NOW),
        lambda: confirm_identity(folder, asked.id, TODAY, audit=audit, now=NOW),
        lambda: note_answer(folder, asked.id, "record", "0" * 64, audit=audit, now=NOW),
    ):
        with pytest.raises(NotPermitted):
            act()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"text": "what is held about NHS number 999 000 0018"}, IdentifierInText),
        ({"text": "what is held about the person born 3 May 1961"}, IdentifierInText),
        ({"text": "please write to someone@example.org about it"}, IdentifierInText),
        ({"text": "short"}, UsageError),
        ({"text": "x" * 1001}, UsageError),
        ({"reference": "9990000018"}, IdentifierInText),
        ({"reference": "Mr Somebody, 1 The Street"}, UsageError),
        ({"reference": ""}, UsageError),
        ({"kind": "portability"}, UsageError),
        ({"received": date(2026, 11, 23)}, UsageError),
        ({"received": date(2020, 1, 1)}, UsageError),
    ],
)
def test_nothing_that_names_a_person_and_nothing_without_a_meaning_is_entered(
    folder: Path, audit: AuditLog, change: dict[str, object], error: type[Exception]
) -> None:
    given: dict[str, object] = {
        "kind": "subject_access",
        "received": TODAY,
        "reference": "R-1",
        "text": "what is held",
    } | change
    kind, received = given.pop("kind"), given.pop("received")
    with pytest.raises(error) as refused:
        add_request(folder, kind, received, audit=audit, now=NOW, **given)  # type: ignore[arg-type]
    assert "9990000018" not in str(refused.value)
    assert list_requests(folder) == []


def test_a_reason_with_an_identifier_does_not_close_a_request(folder: Path, audit: AuditLog) -> None:
    asked = add_request(
        folder, "erasure", TODAY, reference="E-1", text="delete everything about me", audit=audit, now=NOW
    )
    with pytest.raises(IdentifierInText):
        close_request(folder, asked.id, "withdrawn", "phone call from 020 7946 0000", audit=audit, now=NOW)
    assert find_request(folder, asked.id).is_open


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id":"request-0002"}', b'{"id":"request-0001"}'])
def test_an_entry_that_was_changed_is_an_integrity_error_without_its_content(
    folder: Path, audit: AuditLog, content: bytes
) -> None:
    asked = add_request(
        folder, "erasure", TODAY, reference="E-1", text="delete everything about me", audit=audit, now=NOW
    )
    (folder / f"{asked.id}.json").write_bytes(content)
    with pytest.raises(IntegrityError, match="request-0001"):
        list_requests(folder)


def test_a_step_that_the_table_does_not_know_cannot_be_slipped_in(folder: Path, audit: AuditLog) -> None:
    asked = add_request(
        folder, "freedom_of_information", TODAY, reference="F-1", text="what is held", audit=audit, now=NOW
    )
    close_request(folder, asked.id, "withdrawn", "not needed any more", audit=audit, now=NOW)
    slipped = {"id": asked.id, "on": "2026-11-22"}
    (folder / f"{asked.id}-confirm.json").write_text(json.dumps(slipped))
    with pytest.raises(IntegrityError):
        find_request(folder, asked.id)


@pytest.mark.parametrize("other", ["request-0002", "../audit", "", "request-1"])
def test_what_is_no_request_is_not_found(folder: Path, audit: AuditLog, other: str) -> None:
    with pytest.raises(UsageError, match="no request of that id"):
        find_request(folder, other)


# The answer -------------------------------------------------------------------------------------------


HELD = Holdings(
    agreement=DEMO_AGREEMENT,
    honours_objections=False,
    datasets=(
        DatasetHeld(
            "hes_apc",
            "Hospital Episode Statistics, admitted patient care",
            3,
            ("202099", "202206"),
            (date(2026, 11, 1), date(2026, 11, 20)),
            date(2027, 11, 20),
            ("DEMO-AGREEMENT",),
            ("NHS number", "postcode"),
        ),
    ),
    purposes=load_policy().purposes,
    runs=(),
    case_lists=(CaseLists(2026, 3, 1, 2),),
    destroyed=0,
)


@pytest.mark.parametrize("kind", [kind.code for kind in POLICY.kinds])
def test_an_answer_says_what_is_held_and_why_from_metadata_and_is_the_same_for_everybody(
    folder: Path, audit: AuditLog, kind: str
) -> None:
    first, second = (
        add_request(folder, kind, date(2026, 11, 2), reference="SAME", text=text, audit=audit, now=NOW)
        for text in ("what is held about me", "quite another question")
    )
    text = answer_text(first, HELD, TODAY)
    assert text == answer_text(second, HELD, TODAY), "nothing of who asks or what can steer the answer"
    words = " ".join(text.split())
    for part in (
        "Hospital Episode Statistics, admitted patient care: 3 deliveries",
        "2020-21 (final) to 2022-23 (to month 6)",
        "DEMO-AGREEMENT",
        "Nightly computation of the indicators",
        "2 lists so far, to all hospitals together",
        " ".join(POLICY.kind(kind).answer[0].split())[:60],
    ):
        assert part in words, f"the answer does not say: {part}"
    assert not {"nhs_number", "postcode", "email", "hospital_number"} & set(scan_text(text))
