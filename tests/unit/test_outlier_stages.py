"""The outlier guidance is data: versioned, with its source, and honest about what was not verified."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from schemas.errors import ContractDefinitionError, UsageError
from schemas.outlier_stages import POLICY, OutlierStages, outlier_stages
from schemas.yaml_text import parse_model, read_yaml
from transforms.assessment import ALARM, ALERT
from transforms.intervals import LEVEL_95, LEVEL_998


def changed(change: Any) -> OutlierStages:
    raw: Any = read_yaml(POLICY)
    change(raw["versions"])
    return parse_model(OutlierStages, raw, "changed")


def test_the_version_in_force_is_the_latest_that_has_begun() -> None:
    assert outlier_stages().in_force(date(2024, 1, 3)).version == "ncapop-2024"
    assert outlier_stages().in_force(date(2030, 1, 1)).version == "ncapop-2024"
    with pytest.raises(UsageError):
        outlier_stages().in_force(date(2024, 1, 2))


def test_the_limits_that_the_assessment_uses_are_those_of_the_guidance() -> None:
    levels = {level.level: level.coverage for level in outlier_stages().in_force(date(2026, 1, 1)).levels}
    assert levels == {ALERT: LEVEL_95, ALARM: LEVEL_998}


def test_the_days_of_the_stages_add_up() -> None:
    guidance = outlier_stages().versions[0]
    assert [stage.working_days for stage in guidance.stages] == [10, 5, 25, 30, 5, 10, 15, None]
    assert guidance.working_days == 100


def test_what_nobody_verified_says_so() -> None:
    guidance = outlier_stages().versions[0]
    found = {level.status for level in guidance.levels} | {stage.status for stage in guidance.stages}
    assert found == {"to be confirmed"}, (
        "levels and stages were never checked against the guidance itself; change this with the evidence"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda versions: versions[0]["stages"].pop(0),
        lambda versions: versions[0]["levels"].reverse(),
        lambda versions: versions.append(dict(versions[0])),
        lambda versions: versions[0]["stages"][0].pop("source"),
        lambda versions: versions[0]["stages"][0].update(working_days="0"),
        lambda versions: versions[0].update(surprise="yes"),
    ],
)
def test_a_table_that_contradicts_itself_does_not_load(change: Any) -> None:
    with pytest.raises(ContractDefinitionError):
        changed(change)
