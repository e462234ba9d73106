"""The access review counts, from the log alone, who did what to which item of which hospital, allowed or refused."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.audit import AuditLog, read
from infra.audit_report import By, hospitals_of, items_of, object_of, printable, review, table, thing_of
from tests.support.audit_logs import lines_of, rewrite, ticking

DELIVERY = "hes_apc-201999-1f2e3d4c5b6a"
OPENING = f"{DELIVERY}/hospital:RXX/item:local_patient_identifier"


def a_log_of_two_months(folder: Path) -> None:
    november = ticking(datetime(2026, 11, 30, 23, 59, 50, tzinfo=UTC))
    december = ticking(datetime(2026, 12, 1, tzinfo=UTC))
    guardian = AuditLog(folder, november, "p-cg", "caldicott_guardian")
    analyst = AuditLog(folder, november, "p-7", "analyst")
    guardian.record("vault.open", OPENING, purpose="case_review", case="c1", counts={"records": 12})
    analyst.record(
        "vault.open",
        OPENING,
        purpose="case_review",
        case="c1",
        decision="refuse",
        reason_code="not_permitted",
    )
    other = f"{DELIVERY}/hospital:RYY/item:nhs_number+postcode"
    AuditLog(folder, december, "p-cg", "caldicott_guardian").record(
        "vault.open", other, purpose="case_review", case="c2", decision="break_glass", counts={"records": 3}
    )
    AuditLog(folder, december, "p-1", "pipeline").record("landing.write", DELIVERY, purpose="nightly")


def rows(folder: Path, by: By, *names: str, mask: bool = False) -> list[tuple[str | int, ...]]:
    return [
        tuple(record[name] for name in (by, *names))
        for record in review(read(folder), by, mask=mask).records()
    ]


def test_by_person_it_says_what_each_did_and_was_refused(tmp_path: Path) -> None:
    a_log_of_two_months(tmp_path)
    assert rows(
        tmp_path, "person", "role", "action", "item", "hospital", "allowed", "refused", "records"
    ) == [
        ("p-1", "pipeline", "landing.write", "", "", 1, 0, 0),
        ("p-7", "analyst", "vault.open", "local_patient_identifier", "RXX", 0, 1, 0),
        ("p-cg", "caldicott_guardian", "vault.open", "local_patient_identifier", "RXX", 1, 0, 12),
        ("p-cg", "caldicott_guardian", "vault.open", "nhs_number", "RYY", 0, 0, 3),
        ("p-cg", "caldicott_guardian", "vault.open", "postcode", "RYY", 0, 0, 3),
    ]


def test_by_item_hospital_and_case_events_that_name_none_are_left_out_and_counted(tmp_path: Path) -> None:
    a_log_of_two_months(tmp_path)
    assert rows(tmp_path, "item", "person", "break_glass") == [
        ("local_patient_identifier", "p-7", 0),
        ("local_patient_identifier", "p-cg", 0),
        ("nhs_number", "p-cg", 1),
        ("postcode", "p-cg", 1),
    ]
    assert rows(tmp_path, "hospital", "person", "item", "records")[:2] == [
        ("RXX", "p-7", "local_patient_identifier", 0),
        ("RXX", "p-cg", "local_patient_identifier", 12),
    ]
    assert rows(tmp_path, "case", "person", "refused", "allowed", "break_glass") == [
        ("c1", "p-7", 1, 0, 0),
        ("c1", "p-cg", 0, 1, 0),
        ("c2", "p-cg", 0, 0, 1),
        ("c2", "p-cg", 0, 0, 1),
    ]
    by: By
    for by in ("item", "hospital", "case"):
        assert review(read(tmp_path), by).left_out == 1, "the pipeline's own event names none of them"


def test_by_month_is_the_access_review_of_a_month(tmp_path: Path) -> None:
    a_log_of_two_months(tmp_path)
    found = rows(tmp_path, "month", "person", "item", "hospital")
    assert [row[0] for row in found] == ["2026-11"] * 2 + ["2026-12"] * 3
    december = review(read(tmp_path, since=datetime(2026, 12, 1, tzinfo=UTC)), "month")
    assert {record["month"] for record in december.records()} == {"2026-12"}
    assert december.left_out == 0


def test_a_mask_leaves_the_ids_of_those_who_answer_for_a_decision_and_numbers_the_others(
    tmp_path: Path,
) -> None:
    a_log_of_two_months(tmp_path)
    AuditLog(tmp_path, ticking(), "p-8", "analyst").record("lake.query", "hes_apc", purpose="quality")
    masked = {str(row[0]) for row in rows(tmp_path, "person", mask=True)}
    assert masked == {"analyst 1", "analyst 2", "p-cg", "pipeline 1"}
    assert "p-7" not in review(read(tmp_path), "month", mask=True).to_csv()


def test_an_action_of_two_lines_is_counted_once_and_one_without_an_end_shows(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, ticking(), "p-1", "pipeline")
    for delivery in ("d1", "d2"):
        with log.action("lake.write", delivery, purpose="nightly", counts={"records": 100}) as outcome:
            outcome.counts["records"] = 5
    rewrite(tmp_path, lines_of(tmp_path)[:-1])
    assert rows(tmp_path, "person", "begun", "allowed", "failed", "records") == [("p-1", 2, 1, 0, 5)]
    AuditLog(tmp_path, ticking(), "p-2", "data_engineer").close_unfinished(["lake"], lambda _: "done")
    assert rows(tmp_path, "person", "begun", "allowed", "failed") == [("p-1", 2, 2, 0)], (
        "what a killed run did counts for the person whose run it was"
    )


def test_a_query_that_was_asked_and_answered_is_counted_once(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, ticking(), "p-7", "analyst")
    log.record("lake.query", "hes_apc", purpose="quality", reason_code="asked")
    log.record("lake.query", "hes_apc", purpose="quality", reason_code="answered")
    assert rows(tmp_path, "person", "begun", "allowed") == [("p-7", 1, 1)]


@pytest.mark.parametrize(
    ("object", "thing", "hospitals", "items"),
    [
        (OPENING, DELIVERY, ["RXX"], ["local_patient_identifier"]),
        ("hospital:RXX", "", ["RXX"], []),
        (f"{DELIVERY}/hospital:RXX+RYY", DELIVERY, ["RXX", "RYY"], []),
        (f"{DELIVERY}/RXX", f"{DELIVERY}/RXX", [], []),
        ("lake", "lake", [], []),
    ],
)
def test_an_object_says_what_it_is_about(
    object: str, thing: str, hospitals: list[str], items: list[str]
) -> None:
    assert (thing_of(object), hospitals_of(object), items_of(object)) == (thing, hospitals, items)


def test_an_object_is_put_together_in_the_form_that_is_read(tmp_path: Path) -> None:
    made = object_of(DELIVERY, hospitals=["RYY", "RXX"], items=["postcode"])
    assert made == f"{DELIVERY}/hospital:RXX+RYY/item:postcode"
    assert (hospitals_of(made), items_of(made)) == (["RXX", "RYY"], ["postcode"])
    assert object_of("lake") == "lake"
    event = AuditLog(tmp_path, ticking(), "p-1", "pipeline").record("vault.open", made, purpose="")
    assert event.object == made, "the log takes it"


def test_what_a_name_may_hold_neither_drives_a_terminal_nor_a_spreadsheet(tmp_path: Path) -> None:
    person = '=cmd()\n\x1b[31m\u202e,"'
    AuditLog(tmp_path, ticking(), person, "analyst").record("lake.query", "hes_apc", purpose="quality")
    found = review(read(tmp_path), "person")
    shown = table(found.columns, [record.values() for record in found.records()])
    assert len(shown.splitlines()) == 2
    for text in (shown, found.to_csv()):
        assert all(character.isprintable() or character == "\n" for character in text)
    (_, row) = csv.reader(io.StringIO(found.to_csv()))
    assert row[0] == "'=cmd()\\n\\x1b[31m\\u202e,\""
    assert printable("p-014 é") == "p-014 é"


def test_a_review_of_nothing_has_its_header(tmp_path: Path) -> None:
    found = review(read(tmp_path), "item")
    assert found.to_csv() == (
        "item,person,role,action,hospital,begun,allowed,refused,failed,break_glass,records\n"
    )
    assert table(found.columns, []).split()[0] == "item"
