"""The incident policy, ``schemas/policy/incidents.yaml``, and its strict loader: the words of reports, and limits."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from schemas.contract import Strict
from schemas.errors import ContractDefinitionError
from schemas.yaml_text import parse_model, read_yaml

POLICY = Path(__file__).parent / "policy" / "incidents.yaml"


class IncidentKind(Strict):
    """What the first report says of one kind of incident. ``near_miss``: a safeguard held."""

    code: str = Field(pattern=r"^[a-z]+(?:_[a-z]+)*$")
    near_miss: bool = False
    what: str = Field(min_length=10)
    how: str = Field(min_length=10)
    done: str = Field(min_length=10)
    next: tuple[str, ...] = Field(min_length=1)


class IncidentOutcome(Strict):
    """One way in which an incident can end."""

    code: str = Field(pattern=r"^[a-z]+(?:_[a-z]+)*$")
    says: str = Field(min_length=10)


class RepetitionLimit(Strict):
    """How often one person may ask nearly the same thing: ``most`` times ``within_days``.

    ``columns_apart``: how many columns two sets of filtered columns may differ in and be nearly the same.
    """

    most: int = Field(ge=1)
    within_days: int = Field(ge=1)
    columns_apart: int = Field(ge=0)
    source: str = Field(min_length=10)


class IncidentPolicy(Strict):
    report_to: str = Field(min_length=10)
    closed_by: tuple[str, ...] = Field(min_length=1)
    unlocked_by: tuple[str, ...] = Field(min_length=1)
    reported_by: tuple[str, ...] = Field(min_length=1)
    refusals: tuple[str, ...] = Field(min_length=1)
    types: tuple[IncidentKind, ...]
    outcomes: tuple[IncidentOutcome, ...]
    repeated_queries: RepetitionLimit

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for what, codes in (
            ("incident type", [kind.code for kind in self.types]),
            ("outcome", [outcome.code for outcome in self.outcomes]),
        ):
            if len(set(codes)) != len(codes):
                raise ValueError(f"an {what} is listed twice")
        return self

    def kind(self, code: str) -> IncidentKind:
        """The entry of one type. Raises :class:`ContractDefinitionError` if there is none."""
        for kind in self.types:
            if kind.code == code:
                return kind
        raise ContractDefinitionError(f"incidents.yaml: there is no incident type {code}")


@cache
def incident_policy(path: Path = POLICY) -> IncidentPolicy:
    """The policy of ``path``. Raises :class:`ContractDefinitionError` for anything unknown or missing."""
    return parse_model(IncidentPolicy, read_yaml(path), path.name)
