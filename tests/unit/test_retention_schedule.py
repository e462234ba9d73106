"""Until when a delivery may be kept, what is due and why, and that the policy leaves nothing out."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.audit import AuditLog
from infra.lake import CommittedDelivery
from infra.retention.schedule import (
    add_months,
    next_review,
    overdue_lines,
    retain_until,
    reviews_due,
    schedule,
    superseded_on,
)
from infra.workspace import Agreement
from schemas.errors import ContractDefinitionError, DeliveryRefused, WorkspaceError
from schemas.loader import datasets
from schemas.retention_policy import RetentionPolicy, retention_policy
from schemas.yaml_text import parse_model

OLD = "hes_apc-202206-000000000000"
NEW = "hes_apc-202207-111111111111"


def agreement(ends: str = "2099-12-31", days: int = 100_000) -> Agreement:
    return Agreement(
        reference="A", title="An agreement", demo=True, starts="2000-01-01", ends=ends, retention_days=days
    )


def row(delivery_id: str, **changes: Any) -> CommittedDelivery:
    """A delivery row that may be kept until 31 December 2030 unless ``changes`` say otherwise."""
    dataset, period, _ = delivery_id.rsplit("-", 2)
    fields: dict[str, Any] = {
        "delivery_id": delivery_id,
        "dataset": dataset,
        "contract": "",
        "contract_digest": "",
        "period": period,
        "table_name": "",
        "rank": 1,
        "status": "current",
        "superseded_by": "",
        "sender": "",
        "agreement": "A",
        "content_sha256": "0" * 64,
        "rows_in": 1,
        "rows_kept": 1,
        "rows_quarantined": 0,
        "rows_vaulted": 0,
        "columns_delivered": 1,
        "items_digest": "",
        "generation": 1,
        "vault_manifest_sha256": "",
        "received_at": datetime(2026, 1, 10, 12),
        "committed_at": datetime(2026, 1, 10, 13),
        "retain_until": date(2030, 12, 31),
        **changes,
    }
    return CommittedDelivery(**fields)


def audit_at(folder: Path, moment: datetime) -> AuditLog:
    return AuditLog(folder, lambda: moment, "demo-pipeline", "pipeline")


def due(rows: list[CommittedDelivery], today: date, folder: Path, **options: Any) -> Any:
    options.setdefault("agreement", agreement())
    return schedule([], rows, today=today, audit_folder=folder, **options)


# The last day ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        (date(2026, 1, 31), 1, date(2026, 2, 28)),
        (date(2024, 1, 31), 1, date(2024, 2, 29)),
        (date(2026, 11, 20), 13, date(2027, 12, 20)),
        (date(2026, 12, 1), 12, date(2027, 12, 1)),
    ],
)
def test_months_end_on_the_same_day_or_the_last_of_a_shorter_month(
    day: date, months: int, expected: date
) -> None:
    assert add_months(day, months) == expected


def test_the_earliest_of_agreement_its_days_and_class_rule_counts() -> None:
    received = date(2026, 1, 10)
    assert retain_until("civil_deaths", received, agreement()) == date(2027, 2, 10), "13 months, class rule"
    assert retain_until("civil_deaths", received, agreement(days=30)) == date(2026, 2, 9), "its days"
    assert retain_until("civil_deaths", received, agreement(ends="2026-01-31")) == date(2026, 1, 31), (
        "its end"
    )


def test_nothing_is_landed_without_a_rule() -> None:
    with pytest.raises(DeliveryRefused, match="no retention rule"):
        retain_until("something_else", date(2026, 1, 1), agreement())


def test_an_agreement_without_an_end_is_refused() -> None:
    with pytest.raises(WorkspaceError, match="no day"):
        retain_until("hes_apc", date(2026, 1, 1), agreement(ends="one day"))


def test_every_dataset_has_a_rule_with_source_and_status() -> None:
    policy = retention_policy()
    for dataset in datasets():
        rule = policy.rule_for(dataset)
        assert rule.source, f"the rule of {dataset} says where it comes from"
        assert rule.status in ("promised", "agreed", "decided"), (
            f"the rule of {dataset} says how settled it is"
        )


def test_the_policy_does_not_load_with_a_dataset_in_two_rules() -> None:
    raw = retention_policy().model_dump()
    raw["rules"] = (*raw["rules"], raw["rules"][0] | {"code": "twice"})
    with pytest.raises(ContractDefinitionError, match="dataset is listed twice"):
        parse_model(RetentionPolicy, raw, "retention.yaml")


# What is due -------------------------------------------------------------------------------------------


def test_a_delivery_may_be_kept_on_its_last_day_and_is_overdue_the_day_after(tmp_path: Path) -> None:
    rows = [row(NEW, retain_until=date(2026, 6, 30))]
    assert due(rows, date(2026, 5, 30), tmp_path)[0].state == "kept"
    assert due(rows, date(2026, 5, 31), tmp_path)[0].state == "due_soon"
    assert due(rows, date(2026, 6, 30), tmp_path)[0].state == "due_soon"
    found = due(rows, date(2026, 7, 1), tmp_path)[0]
    assert (found.state, found.days_over(date(2026, 7, 1))) == ("overdue", 1)


def test_what_was_superseded_falls_due_thirty_days_after(tmp_path: Path) -> None:
    rows = [
        row(OLD, status="superseded", superseded_by=NEW),
        row(NEW, committed_at=datetime(2026, 2, 1, 3)),
    ]
    found = {each.delivery_id: each for each in due(rows, date(2026, 3, 4), tmp_path)}
    assert found[OLD].why == "superseded"
    assert found[OLD].until == date(2026, 3, 3), "thirty days after the first of February"
    assert found[OLD].state == "overdue"
    assert found[NEW].state == "kept"


def test_a_backfill_of_the_successor_does_not_put_it_off(tmp_path: Path) -> None:
    first, later = datetime(2026, 2, 1, 3, tzinfo=UTC), datetime(2026, 9, 1, 3, tzinfo=UTC)
    for moment in (first, later):
        audit_at(tmp_path, moment).record("lake.write", NEW, purpose="nightly_publication")
    rows = [
        row(OLD, status="superseded", superseded_by=NEW),
        row(NEW, committed_at=later.replace(tzinfo=None)),
    ]
    assert superseded_on(rows[0], rows, tmp_path) == first.date()


def test_an_attempt_that_was_refused_supersedes_nothing(tmp_path: Path) -> None:
    log = audit_at(tmp_path, datetime(2026, 2, 1, 3, tzinfo=UTC))
    with pytest.raises(DeliveryRefused), log.action("lake.write", NEW, purpose="nightly_publication"):
        raise DeliveryRefused("it broke a critical rule")
    audit_at(tmp_path, datetime(2026, 5, 1, 3, tzinfo=UTC)).record("lake.write", NEW, purpose="backfill")
    rows = [row(OLD, status="superseded", superseded_by=NEW), row(NEW)]
    assert superseded_on(rows[0], rows, tmp_path) == date(2026, 5, 1)


def test_a_period_that_was_shortened_later_counts_for_what_is_held(tmp_path: Path) -> None:
    rows = [row(NEW)]
    found = due(rows, date(2026, 4, 1), tmp_path, agreement=agreement(ends="2026-03-31"))
    assert found[0].until == date(2026, 3, 31)
    assert found[0].state == "overdue"


def test_a_period_that_was_extended_later_does_not(tmp_path: Path) -> None:
    rows = [row(NEW, retain_until=date(2026, 6, 30))]
    assert due(rows, date(2026, 4, 1), tmp_path)[0].until == date(2026, 6, 30)


def test_overdue_ones_come_first_and_are_said_to_be_wrong(tmp_path: Path) -> None:
    rows = [
        row("hes_op-202099-222222222222"),
        row(NEW, retain_until=date(2026, 6, 20)),
        row(OLD, retain_until=date(2026, 3, 1)),
    ]
    found = due(rows, date(2026, 6, 1), tmp_path, held=[OLD])
    assert [each.state for each in found] == ["overdue", "due_soon", "kept"]
    assert overdue_lines(found) == [
        f"{OLD}: should have been destroyed after 2026-03-01, and is under a hold"
    ], "a hold stops the destruction; that it is overdue stays true"


# Reviews -----------------------------------------------------------------------------------------------


def test_rules_are_reviewed_in_their_months() -> None:
    assert all(reviews_due(date(2026, 7, 15)).values())
    assert not any(reviews_due(date(2026, 8, 1)).values())
    assert next_review(date(2026, 8, 1), (1, 7)) == date(2027, 1, 1)
    assert next_review(date(2026, 7, 31), (7, 1)) == date(2026, 7, 1), "this month"
    assert next_review(date(2026, 12, 31), (1, 7)) - date(2026, 12, 31) == timedelta(days=1)
