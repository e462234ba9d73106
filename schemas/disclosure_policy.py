"""The disclosure policy, ``schemas/policy/disclosure.yaml``, and its strict loader."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from schemas.contract import Strict
from schemas.errors import DisclosureRefused
from schemas.yaml_text import parse_model, read_yaml

POLICY = Path(__file__).parent / "policy" / "disclosure.yaml"


class DisclosureRule(Strict):
    """Counts from ``hide_from`` to ``hide_to`` are hidden, others rounded to the nearest ``round_to``."""

    name: str
    hide_from: int = Field(ge=0, le=1)
    hide_to: int = Field(ge=1)
    round_to: int = Field(ge=1)
    mean_from: int = Field(ge=1)
    source: str = Field(min_length=10)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mean_from <= self.hide_to:
            raise ValueError(f"{self.name}: a mean over a hidden number of values would be shown")
        return self

    def strictest(self, other: DisclosureRule) -> DisclosureRule:
        """The rule that hides what either hides and rounds as coarsely as either does."""
        return DisclosureRule(
            name="+".join(sorted({*self.name.split("+"), *other.name.split("+")})),
            hide_from=min(self.hide_from, other.hide_from),
            hide_to=max(self.hide_to, other.hide_to),
            round_to=max(self.round_to, other.round_to),
            mean_from=max(self.mean_from, other.mean_from),
            source=self.source if self.source == other.source else f"{self.source}; {other.source}",
        )


class _Dataset(Strict):
    dataset: str
    rule: str


class _Complement(Strict):
    hide: bool
    source: str = Field(min_length=10)


class _TinyService(Strict):
    denominator_below: int = Field(ge=1)
    source: str = Field(min_length=10)


class _Difference(Strict):
    hide_change_to: int = Field(ge=0)
    source: str = Field(min_length=10)


class DisclosurePolicy(Strict):
    rules: tuple[DisclosureRule, ...]
    datasets: tuple[_Dataset, ...]
    complement: _Complement
    tiny_service: _TinyService
    difference: _Difference
    national_providers: tuple[str, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = {rule.name for rule in self.rules}
        for entry in self.datasets:
            if entry.rule not in known:
                raise ValueError(f"{entry.dataset}: there is no rule {entry.rule}")
        return self

    def rule(self, name: str) -> DisclosureRule:
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise DisclosureRefused("there is no disclosure rule of this name")

    def rule_for(self, datasets: Iterable[str]) -> DisclosureRule:
        """The strictest rule of ``datasets``.

        Raises :class:`DisclosureRefused` when there is none or one of them is not in the policy: what nobody
        decided about is not released.
        """
        by_dataset = {entry.dataset: entry.rule for entry in self.datasets}
        chosen: DisclosureRule | None = None
        for dataset in datasets:
            if dataset not in by_dataset:
                raise DisclosureRefused(
                    "an indicator rests on a data set without a disclosure rule",
                    next_step="decide on one in schemas/policy/disclosure.yaml",
                )
            rule = self.rule(by_dataset[dataset])
            chosen = rule if chosen is None else chosen.strictest(rule)
        if chosen is None:
            raise DisclosureRefused("an indicator does not say which data sets it rests on")
        return chosen


@cache
def disclosure_policy() -> DisclosurePolicy:
    """The policy. Raises :class:`schemas.errors.ContractDefinitionError`."""
    return parse_model(DisclosurePolicy, read_yaml(POLICY), POLICY.name)
