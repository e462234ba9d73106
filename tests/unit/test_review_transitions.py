"""The states of a case: a table, the diagram made of it, and what follows from documents and clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra import review
from infra.review.break_glass import review_due
from infra.review.transitions import Happening, final_states, mermaid, next_state, state_of
from schemas.errors import ContractDefinitionError, NotPermitted
from schemas.review_policy import POLICY, Event, ReviewPolicy, State, review_policy
from schemas.yaml_text import parse_model, read_yaml

MADE = datetime(2026, 11, 20, 12, tzinfo=UTC)
ENDS = MADE + timedelta(days=14)
STORIES: list[tuple[list[Event], State]] = [
    ([], "requested"),
    (["approve"], "approved"),
    (["approve", "spend"], "spent"),
    (["approve", "spend", "issue"], "issued"),
    (["approve", "spend", "issue", "receive"], "received"),
    (["refuse"], "refused"),
    (["approve", "refuse"], "refused"),
    (["refuse", "approve"], "refused"),
    (["withdraw"], "withdrawn"),
    (["approve", "withdraw"], "withdrawn"),
    (["approve", "spend", "refuse"], "spent"),
    (["approve", "spend", "issue", "withdraw"], "issued"),
    (["spend"], "requested"),
    (["issue"], "requested"),
]


@pytest.mark.parametrize(
    ("story", "state"), STORIES, ids=lambda value: " ".join(value) if isinstance(value, list) else value
)
def test_the_state_follows_from_what_happened(story: list[Event], state: State) -> None:
    happened: list[Happening] = [(MADE + timedelta(hours=n), event) for n, event in enumerate(story)]
    assert state_of(review_policy(), happened, ENDS, MADE + timedelta(days=1)) == state


@pytest.mark.parametrize(
    ("story", "state"),
    [
        ([], "expired"),
        (["approve"], "expired"),
        (["approve", "spend", "issue"], "issued"),
        (["refuse"], "refused"),
    ],
)
def test_time_ends_what_was_not_used(story: list[Event], state: State) -> None:
    happened: list[Happening] = [(MADE + timedelta(hours=n), event) for n, event in enumerate(story)]
    assert state_of(review_policy(), happened, ENDS, ENDS - timedelta(seconds=1)) != "expired"
    assert state_of(review_policy(), happened, ENDS, ENDS) == state


def test_a_step_that_the_table_does_not_have_is_refused() -> None:
    assert next_state(review_policy(), "requested", "approve") == "approved"
    with pytest.raises(NotPermitted) as caught:
        next_state(review_policy(), "issued", "refuse")
    assert caught.value.reason_code == "wrong_state"


def test_every_state_can_be_reached_and_every_end_is_one() -> None:
    policy = review_policy()
    reached = {policy.first_state, *(row.to for row in policy.transitions)}
    assert {row.from_state for row in policy.transitions} <= reached
    assert set(final_states(policy)) == {"received", "refused", "withdrawn", "expired"}


def test_the_readme_shows_the_table_as_it_is() -> None:
    text = (Path(review.__file__).parent / "README.md").read_text(encoding="utf-8")
    (diagram,) = re.findall(r"```mermaid\n(.*?)\n```", text, re.DOTALL)
    assert diagram == mermaid(review_policy()), "make it again: print(mermaid(review_policy()))"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"emittable_items": ["local_patient_identifier", "date_of_birth"]}, "nothing else"),
        ({"emittable_items": ["nhs_number"]}, "nothing else"),
        ({"approvals": []}, "guardian side and a SIRO side"),
        ({"unknown": "x"}, "unknown"),
    ],
    ids=["one item more", "another item", "nobody signs", "an unknown key"],
)
def test_a_policy_that_lets_more_out_does_not_load(change: dict[str, object], complaint: str) -> None:
    """Attack 67: what may be in a list is no matter of configuration."""
    with pytest.raises(ContractDefinitionError, match=complaint):
        parse_model(ReviewPolicy, read_yaml(POLICY) | change, "review.yaml")


def test_the_same_roles_cannot_sign_on_both_sides() -> None:
    document = read_yaml(POLICY)
    for rule in document["approvals"]:
        rule["roles"] = ["siro"]
    with pytest.raises(ContractDefinitionError, match="different roles"):
        parse_model(ReviewPolicy, document, "review.yaml")


@pytest.mark.parametrize(
    ("used", "due"),
    [
        ("2026-11-16", "2026-11-18"),
        ("2026-11-19", "2026-11-23"),
        ("2026-11-20", "2026-11-24"),
        ("2026-11-21", "2026-11-24"),
    ],
    ids=["Monday", "Thursday", "Friday", "Saturday"],
)
def test_two_working_days_leave_the_weekend_out(used: str, due: str) -> None:
    assert review_due(datetime.fromisoformat(used), 2) == datetime.fromisoformat(due)
