"""The outlier stages, ``schemas/policy/outlier_stages.yaml``, and their strict loader.

Levels (how far from the target asks what question) and stages (who does what, within how many working days) of the
outlier process of the national clinical audits. They are guidance, differ between versions, and most were not
verified: each line carries its source and whether it is still to be confirmed, and no number stands in code.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.contract import Strict
from schemas.errors import UsageError
from schemas.yaml_text import parse_model, read_yaml

POLICY = Path(__file__).parent / "policy" / "outlier_stages.yaml"
StageStatus = Literal["published", "to be confirmed"]


class Level(Strict):
    """``coverage``: share of providers expected within the limits, 0 to 1; ``standard_deviations``: the round
    number by which the guidance calls it."""

    level: Literal["alert", "alarm"]
    standard_deviations: float = Field(gt=0)
    coverage: float = Field(gt=0, lt=1)
    says: str = Field(min_length=10)
    source: str = Field(min_length=10)
    status: StageStatus


class Duty(Strict):
    says: str = Field(min_length=10)
    source: str = Field(min_length=10)
    status: StageStatus


class Stage(Strict):
    """``working_days``: how long the stage may take; None where no number is known or none applies."""

    stage: int = Field(ge=1)
    owner: str = Field(min_length=5)
    working_days: int | None = Field(default=None, ge=1)
    says: str = Field(min_length=10)
    source: str = Field(min_length=10)
    status: StageStatus


class OutlierGuidance(Strict):
    """One version of the guidance, in force from ``effective_from`` until the next one's."""

    version: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    title: str = Field(min_length=5)
    effective_from: date
    applies_to: str = Field(min_length=10)
    source: str = Field(min_length=10)
    status: StageStatus
    levels: tuple[Level, ...] = Field(min_length=1)
    duties: tuple[Duty, ...]
    stages: tuple[Stage, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if [stage.stage for stage in self.stages] != list(range(1, len(self.stages) + 1)):
            raise ValueError(f"{self.version}: the stages are not numbered 1, 2, 3 and so on")
        for lower, higher in pairwise(self.levels):
            if higher.level == lower.level or higher.coverage <= lower.coverage:
                raise ValueError(f"{self.version}: each level lies farther out than the one before")
        return self

    @property
    def working_days(self) -> int:
        """Working days of all stages that have a number, one after the other."""
        return sum(stage.working_days or 0 for stage in self.stages)


class OutlierStages(Strict):
    versions: tuple[OutlierGuidance, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for earlier, later in pairwise(self.versions):
            if later.effective_from <= earlier.effective_from or later.version == earlier.version:
                raise ValueError("the versions stand in the order of the days from which they are in force")
        return self

    def in_force(self, day: date) -> OutlierGuidance:
        """The version in force on ``day``. Raises :class:`UsageError` if none was yet."""
        found = [guidance for guidance in self.versions if guidance.effective_from <= day]
        if not found:
            raise UsageError("no outlier guidance on file was in force on that day")
        return found[-1]


@cache
def outlier_stages() -> OutlierStages:
    """The policy. Raises :class:`schemas.errors.ContractDefinitionError`."""
    return parse_model(OutlierStages, read_yaml(POLICY), POLICY.name)
