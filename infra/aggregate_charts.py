"""Aggregate CUSUM charts of mortality: one for each provider as a whole, month by month, of z-scores.

Runs after :func:`infra.mortality.build_mortality` and reads its spells and risks. The case-by-case charts
(:mod:`infra.cusum_charts`) ask of every diagnosis group whether the odds of death have doubled; these ask of all
groups together whether a provider has lain above the others for months, with an allowance for the variation between
providers. The chart itself is in :mod:`transforms.cusum`, its numbers with their sources are the parameters of the
indicator, what was decided is in ``infra/decisions/0180-aggregate-cusum.md``. An alert is variation to be asked about,
never a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from math import isfinite
from typing import Final, cast

import duckdb
import polars as pl

from infra.compute import load_indicator, store
from infra.cusum_charts import POINT_SCHEMA, STATE_SCHEMA
from infra.engine import engine_errors
from schemas.errors import UsageError
from schemas.indicator_metadata import ParameterValue, bound_parameters
from schemas.published import TOTAL_STRATUM
from sql import INDICATOR_FOLDER
from transforms.cusum import RESETS, AggregateMethod, Alert, Reset, aggregate_chart, monthly_z_scores

INDICATOR: Final = "mortality_aggregate_cusum"
VERSION: Final = "v1"

# As whole numbers of the last decimal place: the sum of the risks does not depend on the order of the spells. The view
# mortality_risk would add the spells' ids, which nothing here needs and which cost most of the time.
MONTHS = """
select
    shmi_spell.provider,
    date_trunc('month', shmi_spell.discharge_date)::date as month,
    count(*) as spells,
    count(*) filter (where shmi_spell.died)::double as observed,
    round(sum(mortality_pattern.risk::decimal(18, 15))::double, 6) as expected
from shmi_spell
inner join mortality_pattern on shmi_spell.pattern = mortality_pattern.pattern
group by shmi_spell.provider, date_trunc('month', shmi_spell.discharge_date)
order by provider, month
"""
MONTH_SCHEMA: Final = {
    "provider": pl.String,
    "month": pl.Date,
    "spells": pl.Int64,
    **{name: pl.Float64 for name in ("observed", "expected", "z", "cusum")},
    "signal": pl.Boolean,
}


@dataclass(frozen=True)
class AggregateRule:
    """``method``: how z-scores are added up. ``minimum_expected``: fewest expected deaths in a month, on average over
    the months in which a provider has spells, for there to be a chart."""

    method: AggregateMethod
    minimum_expected: float


@dataclass(frozen=True)
class AggregateCharts:
    """``months``: one row per chart and month (:data:`MONTH_SCHEMA`). ``points``: the same for the published table
    ``cusum_point``. ``states``: the alerts and, for every chart that is quiet in the last month, where it stands, for
    :func:`transforms.assessment.assessments`."""

    months: pl.DataFrame
    points: pl.DataFrame
    states: pl.DataFrame


def aggregate_rule() -> AggregateRule:
    """The rule that the indicator's parameters state. Raises :class:`ContractDefinitionError`."""
    metadata = load_indicator(INDICATOR_FOLDER / f"{INDICATOR}_{VERSION}").metadata
    return _rule_of(bound_parameters(metadata.parameters))


def _rule_of(values: Mapping[str, ParameterValue]) -> AggregateRule:
    number = {name: float(str(value)) for name, value in values.items() if name != "reset"}
    method = AggregateMethod(
        threshold=number["threshold"],
        tolerance=number["tolerance"],
        shift=number["shift"] or None,
        reset=cast(Reset, values["reset"]),
    )
    return AggregateRule(method, number["minimum_expected"])


def build_aggregate_charts(
    connection: duckdb.DuckDBPyConnection, rule: AggregateRule | None = None
) -> AggregateCharts:
    """Draw the charts and leave the table ``aggregate_cusum_month`` (:data:`MONTH_SCHEMA`) in ``connection``.

    Needs ``shmi_spell`` (provider, discharge_date, died, pattern) and ``mortality_pattern`` (pattern, risk). A chart
    begins with the first month of the model's years; a month in which the provider has no spell, or in which nobody
    died anywhere, is passed over. ``expected`` is set to the month (:func:`transforms.cusum.monthly_z_scores`).

    Raises the errors of :func:`infra.engine.engine_errors`, and :class:`UsageError` for a rule that makes no sense.
    """
    rule = rule or aggregate_rule()
    if rule.method.reset not in RESETS or not (isfinite(rule.minimum_expected) and rule.minimum_expected > 0):
        raise UsageError("an aggregate CUSUM rule has an unknown reset, or a minimum that is not above zero")
    with engine_errors("counting deaths by month"):
        counted = connection.execute(MONTHS).pl()
    enough = pl.col("expected").mean().over("provider") >= rule.minimum_expected
    counted = counted.filter(enough, pl.col("expected") > 0)
    scored = monthly_z_scores(counted).join(
        counted.select("provider", "month", "spells"), on=["provider", "month"], maintain_order="left"
    )
    last = scored["month"].max()
    drawn = [
        _draw(part, rule.method, cast(date, last))
        for part in scored.partition_by("provider", maintain_order=True)
    ]
    months = pl.concat([pl.DataFrame(schema=MONTH_SCHEMA), *(part for part, _ in drawn)])
    states = [state for _, told in drawn for state in told]
    store(connection, "aggregate_cusum_month", months)
    return AggregateCharts(
        months=months,
        points=_points(months, rule.method.threshold),
        states=pl.DataFrame(states, schema=STATE_SCHEMA, orient="row"),
    )


def _draw(
    scored: pl.DataFrame, method: AggregateMethod, last: date
) -> tuple[pl.DataFrame, list[tuple[object, ...]]]:
    """The months of one chart, and the rows of :data:`STATE_SCHEMA` that it is told by."""
    line = aggregate_chart(scored["z"].to_numpy(), method)
    months = scored.with_columns(line.rows.select("cusum", "signal")).select(
        pl.col(name).cast(kind) for name, kind in MONTH_SCHEMA.items()
    )
    runs = [(alert, months["month"][alert.signal - 1]) for alert in line.alerts]
    if last not in [month for _, month in runs]:
        runs.append((line.standing, last))
    names = (INDICATOR, VERSION, months["provider"][0], TOTAL_STRATUM)
    return months, [(*names, f"{month:%Y-%m}", method.threshold, *_told(run, months)) for run, month in runs]


def _told(run: Alert, months: pl.DataFrame) -> tuple[float, float, float, float, str | None]:
    """cusum, cases, observed, expected, beyond_since of a run."""
    part = months[run.first - 1 : run.signal]
    begins = f"{part['month'][0]:%Y-%m}" if part.height else None
    spells, observed, expected = (float(part[name].sum()) for name in ("spells", "observed", "expected"))
    return run.value, spells, observed, expected, begins


def _points(months: pl.DataFrame, threshold: float) -> pl.DataFrame:
    return months.select(
        pl.lit(INDICATOR).alias("indicator"),
        pl.lit(VERSION).alias("version"),
        "provider",
        pl.lit(TOTAL_STRATUM).alias("stratum"),
        (pl.int_range(pl.len(), dtype=pl.Int64).over("provider") + 1).alias("point"),
        pl.col("month").dt.strftime("%Y-%m").alias("period"),
        "observed",
        "expected",
        "cusum",
        pl.lit(threshold).alias("threshold"),
        "signal",
    ).select(pl.col(name).cast(kind) for name, kind in POINT_SCHEMA.items())
