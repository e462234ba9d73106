"""The review policy, ``schemas/policy/review.yaml``, and its strict loader: transitions, limits, who signs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from schemas.contract import Item, Strict
from schemas.yaml_text import parse_model, read_yaml

POLICY = Path(__file__).parent / "policy" / "review.yaml"

Side = Literal["guardian", "siro"]
ReviewPurpose = Literal["case_review", "break_glass"]
OpeningPurpose = Literal["case_review", "break_glass", "reprocessing"]
"""What two officers open something for: a list for a hospital, or a landed delivery after its window."""
Event = Literal["approve", "refuse", "withdraw", "expire", "spend", "issue", "receive"]
State = Literal["requested", "approved", "spent", "issued", "received", "refused", "withdrawn", "expired"]


class Transition(Strict):
    """One line of the table: from which state which event leads where, and who causes it."""

    from_state: State = Field(alias="from")
    event: Event
    to: State
    by: str
    says: str = Field(min_length=10)


class Limit(Strict):
    """A number that a request is held against, where it comes from, and how settled it is."""

    name: str
    value: int = Field(ge=1)
    says: str = Field(min_length=10)
    source: str = Field(min_length=10)
    status: Literal["promised", "agreed", "decided"]


class Gateway(Strict):
    code: str = Field(pattern=r"^s77_[0-9]_[a-z]$")
    says: str = Field(min_length=10)


class RequesterRule(Strict):
    """For one purpose, the roles of roles.yaml that may ask."""

    purpose: OpeningPurpose
    roles: tuple[str, ...] = Field(min_length=1)


class ApprovalRule(Strict):
    """For one purpose and side, the roles of roles.yaml whose signature counts."""

    purpose: OpeningPurpose
    side: Side
    roles: tuple[str, ...] = Field(min_length=1)


class ReviewPolicy(Strict):
    title: str
    first_state: State
    transitions: tuple[Transition, ...]
    limits: tuple[Limit, ...]
    emittable_items: tuple[Item, ...] = Field(min_length=1)
    legal_gateways: tuple[Gateway, ...]
    approvals: tuple[ApprovalRule, ...]
    requesters: tuple[RequesterRule, ...]
    never_approves: tuple[str, ...]
    placeholders: tuple[str, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        steps = [(row.from_state, row.event) for row in self.transitions]
        if len(set(steps)) != len(steps):
            raise ValueError("a transition is listed twice")
        names = [limit.name for limit in self.limits]
        if len(set(names)) != len(names):
            raise ValueError("a limit is listed twice")
        if self.emittable_items != (Item.LOCAL_PATIENT_IDENTIFIER,):
            # What the public was promised does not change by an edit of this file.
            raise ValueError("a list holds the local patient identifier and nothing else")
        if sorted(rule.purpose for rule in self.requesters) != sorted(get_args(OpeningPurpose)):
            raise ValueError("each purpose names once who may ask")
        for purpose in get_args(OpeningPurpose):
            sides = {rule.side: rule.roles for rule in self.approvals if rule.purpose == purpose}
            if set(sides) != {"guardian", "siro"} or set(sides["guardian"]) & set(sides["siro"]):
                raise ValueError(f"{purpose}: a guardian side and a SIRO side sign, of different roles")
            if sum(rule.purpose == purpose for rule in self.approvals) != 2:
                raise ValueError(f"{purpose}: a side is listed twice")
        return self

    def limit(self, name: str) -> int:
        """The value of a limit; raises :class:`KeyError` for a name that the file does not have."""
        return {limit.name: limit.value for limit in self.limits}[name]

    def roles_of(self, purpose: str, side: str) -> tuple[str, ...]:
        """The roles that may sign for ``side``; empty for a purpose that is no review."""
        return next(
            (rule.roles for rule in self.approvals if (rule.purpose, rule.side) == (purpose, side)), ()
        )

    def requesters_of(self, purpose: str) -> tuple[str, ...]:
        """The roles that may ask for ``purpose``; empty for one that the file does not have."""
        return next((rule.roles for rule in self.requesters if rule.purpose == purpose), ())

    def gateway(self, code: str) -> Gateway | None:
        return next((gateway for gateway in self.legal_gateways if gateway.code == code), None)


@cache
def review_policy(path: Path = POLICY) -> ReviewPolicy:
    """The policy. Raises :class:`schemas.errors.ContractDefinitionError`."""
    return parse_model(ReviewPolicy, read_yaml(path), path.name)
