"""What has to be known of a run's numbers stands beside them: deaths nobody could know of, and warnings that held."""

from __future__ import annotations

import re
from datetime import date, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import polars as pl
import pytest

from infra import computation
from infra.computation import (
    NO_BRIDGE,
    NO_REGISTER,
    ON_DEATHS_AFTER_DISCHARGE,
    REGISTER_ENDS,
    register_caution,
)
from infra.compute import CheckResult, IndicatorResult, load_indicator
from infra.lake import CommittedDelivery
from sql import INDICATOR_FOLDER

END = date(2023, 3, 31)
LATE = pl.DataFrame(schema=dict.fromkeys(("delivery", "provider", "rows"), pl.String))
NAMES = ("deaths_after_discharge", "in_hospital_death_rate", "shmi")


def snapshot(dataset: str, day: int = 20230430) -> CommittedDelivery:
    """A delivery in use of a register of deaths or a bridge as it stood on ``day``."""
    now = datetime(2023, 6, 1)
    texts: dict[str, Any] = dict.fromkeys(
        ("contract", "contract_digest", "table_name", "superseded_by", "sender", "agreement", "content_sha256",
         "items_digest", "vault_manifest_sha256"), "",
    )  # fmt: skip
    rows: dict[str, Any] = dict.fromkeys(
        ("rows_in", "rows_kept", "rows_quarantined", "rows_vaulted", "columns_delivered", "generation"), 1
    )
    return CommittedDelivery(
        delivery_id=f"{dataset}-snapshot-0123456789ab", dataset=dataset, period="snapshot", rank=day, status="current",
        received_at=now, committed_at=now, retain_until=date(2030, 1, 1), **texts, **rows,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("current", "says"),
    [
        ([], NO_REGISTER),
        ([snapshot("hes_person_bridge")], NO_REGISTER),
        ([snapshot("ons_deaths")], NO_BRIDGE),
        ([snapshot("ons_deaths"), snapshot("ons_deaths_bridge")], None),
        ([snapshot("civil_deaths")], None),
        ([snapshot("civil_deaths", 20230429)], REGISTER_ENDS),
        # A bridge is no register, and of two registers the newer one tells how far deaths are known.
        ([snapshot("civil_deaths", 20230401), snapshot("ons_deaths_bridge", 20231231)], REGISTER_ENDS),
        ([snapshot("ons_deaths", 20200601), snapshot("ons_deaths_bridge"), snapshot("civil_deaths")], None),
    ],
)
def test_deaths_after_discharge_are_known_by_a_register_that_reaches_thirty_days_beyond(
    current: list[CommittedDelivery], says: str | None
) -> None:
    assert register_caution(current, END) == says


def results_of(without_register: str | None, broken: int = 0) -> tuple[list[IndicatorResult], list[str]]:
    """Three indicators run against nothing, the last check of each a warning with ``broken`` rows; what is said."""

    def run(_connection: object, folder: Path) -> IndicatorResult:
        checks = (CheckResult("fail", "all is well", 0), CheckResult("warn", "every day is a Sunday", broken))
        return IndicatorResult(load_indicator(folder).metadata, pl.DataFrame(), checks)

    said: list[str] = []
    three = tuple(load_indicator(INDICATOR_FOLDER / f"{name}_v1") for name in NAMES)
    with (
        duckdb.connect(":memory:") as connection,
        patch.object(computation, "load_indicators", lambda: three),
        patch.object(computation, "run_indicator", run),
    ):
        return computation.run_indicators(connection, without_register, said.append), said


@pytest.mark.parametrize("says", [NO_REGISTER, NO_BRIDGE, REGISTER_ENDS])
def test_what_rests_on_deaths_after_discharge_says_what_is_not_known_of_them(says: str) -> None:
    results, _ = results_of(says)
    described = pl.DataFrame([computation._indicator_row(result) for result in results])
    table = computation._with_cautions(described, {says: ON_DEATHS_AFTER_DISCHARGE, "Of ratios.": ("shmi",)})
    words = dict(table.select("indicator", "what_it_is_not").iter_rows())
    # Without a register the share of deaths after discharge would be nought everywhere, so it is not published.
    assert set(words) == set(NAMES[0 if says == REGISTER_ENDS else 1 :])
    for name, text in words.items():
        assert text.count(says) == (name != "in_hospital_death_rate"), name
        assert text.endswith("Of ratios.") == (name == "shmi")


def test_every_indicator_whose_deaths_are_looked_for_after_discharge_has_the_caution() -> None:
    """Whatever reads the outcome or the deaths of the mortality models, but for deaths in hospital and spells."""
    reading = set()
    for folder in INDICATOR_FOLDER.glob("*_v[0-9]*"):
        query = re.sub("--.*", "", (folder / "query.sql").read_text(encoding="utf-8"))
        if re.search("died|cusum", query):
            reading.add(folder.name.removesuffix("_v1"))
    assert reading - {"in_hospital_death_rate"} == set(ON_DEATHS_AFTER_DISCHARGE)


@pytest.mark.parametrize("name", ["crude_death_rate", "in_hospital_death_rate", "death_rate_by_admission"])
def test_a_crude_death_rate_raises_no_question(name: str) -> None:
    """It says of itself that it does not compare hospitals."""
    metadata = load_indicator(INDICATOR_FOLDER / f"{name}_v1").metadata
    assert computation.DIRECTIONS[metadata.direction] == "context"


@pytest.mark.parametrize("name", ["mortality_cusum", "mortality_aggregate_cusum", "depth_of_coding"])
def test_what_is_no_sample_of_independent_events_reaches_readers_without_an_interval(name: str) -> None:
    folder = INDICATOR_FOLDER / f"{name}_v1"
    counts = {"numerator": [12.0, 40.0], "denominator": [10.0, 10.0]}
    place = {"period": ["2023-24"] * 2, "provider": ["RAA", "RBB"], "stratum": ["all"] * 2}
    result = IndicatorResult(load_indicator(folder).metadata, pl.DataFrame({**place, **counts}), ())
    tables = computation._tables([], [result], pl.DataFrame(), LATE, pl.DataFrame(), [], None)
    values = tables["indicator_value"]
    assert values["value"].null_count() == 0
    assert (
        values.select("lower_95", "upper_95", "lower_998", "upper_998").null_count().sum_horizontal()[0] == 8
    )


def test_a_broken_warning_is_told_to_the_night_with_its_rows_and_to_readers_without() -> None:
    results, said = results_of(None, broken=3)
    assert [line for line in said if "Sunday" in line] == [
        f"{name}: not so in these data (3): every day is a Sunday" for name in NAMES
    ]
    for result in results:
        row = computation._indicator_row(result)
        assert str(row["what_it_is_not"]).endswith("Not so in these data: every day is a Sunday.")
    held, said = results_of(None)
    assert not any("Sunday" in line for line in said)
    assert "Not so" not in str(computation._indicator_row(held[0])["what_it_is_not"])
