"""The retention policy, ``schemas/policy/retention.yaml``: how long, when reviewed, who signs; and its loader."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.contract import Strict
from schemas.errors import ContractDefinitionError, DeliveryRefused
from schemas.yaml_text import parse_model, read_yaml

POLICY = Path(__file__).parent / "policy" / "retention.yaml"

Status = Literal["promised", "agreed", "decided"]
Act = Literal["order", "hold", "withdrawal", "witness"]
Month = Annotated[int, Field(ge=1, le=12)]


class RetentionRule(Strict):
    """How many calendar ``months`` after their receipt deliveries of ``datasets`` are kept at the longest, and in
    which months of the year their owner reviews that."""

    code: str
    datasets: tuple[str, ...] = Field(min_length=1)
    months: int = Field(ge=1, le=1200)
    review_months: tuple[Month, ...] = Field(min_length=1)
    says: str = Field(min_length=10)
    source: str = Field(min_length=10)
    status: Status


class RetentionLimit(Strict):
    """A number that destruction is held against, where it comes from, and how settled it is."""

    name: str
    value: int = Field(ge=1)
    says: str = Field(min_length=10)
    source: str = Field(min_length=10)
    status: Status


class SignerRule(Strict):
    """For one act, the roles of roles.yaml whose signature counts for one side of it."""

    act: Act
    side: str
    roles: tuple[str, ...] = Field(min_length=1)


class ZoneAsset(Strict):
    """What the Information Asset Register says of a zone. ``personal``: what it holds of persons."""

    zone: str
    title: str
    owner: str
    sensitivity: Literal["OFFICIAL", "OFFICIAL SENSITIVE"]
    personal: Literal["identifiable", "pseudonymised", "aggregates", "staff", "none"]
    format: str
    retention: str = Field(min_length=5)
    source: str = Field(min_length=5)


class RetentionPolicy(Strict):
    title: str
    rules: tuple[RetentionRule, ...]
    limits: tuple[RetentionLimit, ...]
    signers: tuple[SignerRule, ...]
    zones: tuple[ZoneAsset, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what, names in (
            ("dataset", [dataset for rule in self.rules for dataset in rule.datasets]),
            ("rule", [rule.code for rule in self.rules]),
            ("limit", [limit.name for limit in self.limits]),
            ("side of an act", [f"{rule.act} {rule.side}" for rule in self.signers]),
            ("zone", [zone.zone for zone in self.zones]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"a {what} is listed twice")
        if len(self.sides("order")) != 2:
            raise ValueError("a destruction order has two sides")
        return self

    def rule_for(self, dataset: str) -> RetentionRule:
        """The rule of ``dataset``. Raises :class:`~schemas.errors.DeliveryRefused` if there is none: nothing is
        landed without one."""
        for rule in self.rules:
            if dataset in rule.datasets:
                return rule
        raise DeliveryRefused(
            "there is no retention rule for this dataset, so it must not be kept",
            next_step="the Information Asset Owner adds one to schemas/policy/retention.yaml",
        )

    def limit(self, name: str) -> int:
        """The number of that name. Raises :class:`~schemas.errors.ContractDefinitionError`."""
        for limit in self.limits:
            if limit.name == name:
                return limit.value
        raise ContractDefinitionError(f"{POLICY.name}: there is no limit {name}")

    def sides(self, act: Act) -> dict[str, tuple[str, ...]]:
        """side -> roles, for one act. Each side is another person."""
        return {rule.side: rule.roles for rule in self.signers if rule.act == act}


@cache
def retention_policy() -> RetentionPolicy:
    """The policy. Raises :class:`~schemas.errors.ContractDefinitionError`."""
    return parse_model(RetentionPolicy, read_yaml(POLICY), POLICY.name)
