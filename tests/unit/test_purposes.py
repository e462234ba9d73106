"""Nothing is done without a listed purpose that fits the role and the action and was reviewed in time."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from infra.purposes import POLICY_FOLDER, ZONES, load_policy, load_roles, overdue_purposes, require_purpose
from schemas.errors import ContractDefinitionError, NotPermitted

TODAY = date(2026, 11, 22)


def test_the_nightly_run_may_read_a_landed_delivery_for_its_own_purpose() -> None:
    purpose = require_purpose("nightly_publication", "pipeline", "landing.read", TODAY)
    assert purpose.code == "nightly_publication"
    assert "lake" in load_policy().zones(purpose)


@pytest.mark.parametrize(
    ("code", "role", "action", "says"),
    [
        ("", "pipeline", "lake.read", "without a purpose"),
        ("curiosity", "intelligence_analyst", "lake.query", "no such purpose"),
        ("indicator_review", "nobody", "lake.query", "no such role"),
        ("indicator_review", "intelligence_analyst", "lake.look", "no such action"),
        ("indicator_review", "data_engineer", "lake.query", "may not act"),
        ("indicator_review", "intelligence_analyst", "vault.open", "does not open"),
        ("nightly_publication", "pipeline", "vault.open", "does not open"),
        ("release", "data_engineer", "published.release", "may not act"),
    ],
)
def test_a_purpose_that_does_not_fit_is_refused_with_what_is_missing(
    code: str, role: str, action: str, says: str
) -> None:
    with pytest.raises(NotPermitted, match=says):
        require_purpose(code, role, action, TODAY)


def test_a_typed_purpose_is_never_repeated_in_the_refusal() -> None:
    with pytest.raises(NotPermitted) as refused:
        require_purpose("9434765919", "pipeline", "lake.read", TODAY)
    assert "9434765919" not in str(refused.value)


def test_an_overdue_review_stops_the_work_and_says_whose_turn_it_is() -> None:
    purpose = require_purpose("case_review", "siro", "vault.open", TODAY)
    last_day = purpose.review_by
    assert require_purpose("case_review", "siro", "vault.open", last_day) == purpose
    with pytest.raises(NotPermitted, match=r"overdue for 1 day\b.*caldicott_guardian"):
        require_purpose("case_review", "siro", "vault.open", last_day + timedelta(days=1))


def test_status_can_name_the_reviews_that_fall_due() -> None:
    first = min(load_policy().purposes, key=lambda purpose: (purpose.review_by, purpose.code))
    assert overdue_purposes(first.review_by) == []
    assert overdue_purposes(first.review_by, within_days=1)[0] == first
    assert overdue_purposes(first.review_by + timedelta(days=1))[0] == first


def test_no_purpose_lets_the_pipeline_or_an_engineer_open_the_vault_outside_a_case() -> None:
    opening = {purpose.code for purpose in load_policy().purposes if "vault.open" in purpose.actions}
    assert opening == {"case_review", "break_glass"}
    for purpose in load_policy().purposes:
        if "vault.open" in purpose.actions:
            assert "data_engineer" not in purpose.roles


def test_the_roles_of_the_policy_are_all_there() -> None:
    roles = load_roles()
    assert set(roles) == {
        "pipeline",
        "data_engineer",
        "intelligence_analyst",
        "caldicott_guardian",
        "deputy_caldicott_guardian",
        "siro",
        "deputy_siro",
        "iao",
        "iam",
        "kim_champion",
        "release_manager",
        "auditor",
        "hospital",
    }
    officers = {code for code, role in roles.items() if role.officer}
    assert officers == {"caldicott_guardian", "deputy_caldicott_guardian", "siro", "deputy_siro"}
    assert not roles["pipeline"].training


def test_every_zone_of_an_action_is_one_of_the_workspace() -> None:
    assert {action.zone for action in load_policy().actions} <= set(ZONES)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("roles: [release_manager]", "roles: [release_boss]"),
        ("actions: [retention.destroy]", "actions: [retention.forget]"),
        ("owner: siro", "owner: somebody"),
        ('review_by: "2027-03-31"', 'review_by: "soon"'),
        ("code: performance_tuning", "code: backfill"),
        ("code: performance_tuning", "surprise: 1\n    code: performance_tuning"),
        ("purposes:", "purposes: 9434765919\nothers:"),
    ],
)
def test_a_policy_file_that_says_something_unknown_does_not_load(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "roles.yaml").write_text((POLICY_FOLDER / "roles.yaml").read_text())
    text = (POLICY_FOLDER / "purposes.yaml").read_text()
    assert old in text, "the example must change something"
    (tmp_path / "purposes.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(ContractDefinitionError) as refused:
        load_policy(tmp_path)
    assert "9434765919" not in str(refused.value)


def test_a_missing_or_broken_policy_file_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ContractDefinitionError, match=r"roles\.yaml: the file cannot be read"):
        load_policy(tmp_path)
    (tmp_path / "roles.yaml").write_text("roles: [")
    with pytest.raises(ContractDefinitionError, match="not readable YAML"):
        load_policy(tmp_path)
    (tmp_path / "roles.yaml").write_text("- a list")
    with pytest.raises(ContractDefinitionError, match="must be a mapping"):
        load_policy(tmp_path)
