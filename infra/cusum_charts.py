"""CUSUM charts of mortality: one for each provider and diagnosis group, case by case in the order of discharge.

Runs after :func:`infra.mortality.build_mortality` and reads its ``mortality_risk``. The chart itself is
:mod:`transforms.cusum`, its threshold :mod:`transforms.cusum_threshold`; what is charted and why is in
``infra/decisions/0152-mortality-cusum.md``. An alert is variation to be asked about, never a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from math import isfinite
from typing import Final

import duckdb
import numpy as np
import polars as pl

from infra.compute import store
from infra.engine import engine_errors
from schemas.errors import UsageError
from transforms.cusum import (
    FALSE_ALARM_RATE,
    ODDS_RATIO,
    RESETS,
    Alert,
    Reset,
    case_weights,
    chart,
    check_odds_ratio,
)
from transforms.cusum_threshold import risk_shape, threshold_near
from transforms.intervals import Floats

INDICATOR: Final = "mortality_cusum"
VERSION: Final = "v1"
KEY: Final = ("provider", "diagnosis_group")

CASES = """
select provider, diagnosis_group::bigint as diagnosis_group, discharge_date, risk, died
from mortality_risk
order by provider, diagnosis_group, discharge_date, spell_id
"""
BATCH_ROWS: Final = 500_000
CHART_SCHEMA: Final = {
    "provider": pl.String,
    "diagnosis_group": pl.Int64,
    "label": pl.String,
    "cases": pl.Int64,
    "deaths": pl.Int64,
    "expected": pl.Float64,
    "threshold": pl.Float64,
}
ALERT_SCHEMA: Final = {
    "provider": pl.String,
    "diagnosis_group": pl.Int64,
    "first_discharge_date": pl.Date,
    "signal_date": pl.Date,
    "cases": pl.Int64,
    "deaths": pl.Int64,
    "expected": pl.Float64,
    "cusum": pl.Float64,
    "threshold": pl.Float64,
}
POINT_SCHEMA: Final = {
    **{name: pl.String for name in ("indicator", "version", "provider", "stratum")},
    "point": pl.Int64,
    "period": pl.String,
    **{name: pl.Float64 for name in ("observed", "expected", "cusum", "threshold")},
    "signal": pl.Boolean,
}
STATE_SCHEMA: Final = {
    **{name: pl.String for name in ("indicator", "version", "provider", "stratum", "period")},
    **{name: pl.Float64 for name in ("threshold", "cusum", "cases", "observed", "expected")},
    "beyond_since": pl.String,
}


@dataclass(frozen=True)
class CusumRule:
    """What the charts look for. ``odds_ratio``: how much the odds of death have risen when a signal is wanted.
    ``false_alarm_rate``: probability of any signal of a chart within its own cases when nothing is wrong.
    ``reset``: where a chart goes on from after a signal. ``minimum_expected``: fewest expected deaths over all
    its cases for there to be a chart. Sources: ``infra/decisions/0152-mortality-cusum.md``."""

    odds_ratio: float = ODDS_RATIO
    false_alarm_rate: float = FALSE_ALARM_RATE
    reset: Reset = "zero"
    minimum_expected: float = 5.0


@dataclass(frozen=True)
class CusumCharts:
    """``charts``: one row per chart. ``alerts``: one per alert, with the run of cases behind it. ``points``: one per
    chart and month with cases, for the published table ``cusum_point``. ``states``: the alerts and, for every chart
    that is quiet in the last month, where it stands, for :func:`transforms.assessment.assessments`."""

    charts: pl.DataFrame
    alerts: pl.DataFrame
    points: pl.DataFrame
    states: pl.DataFrame


@dataclass(frozen=True)
class _Run:
    """Cases ``first`` to ``last`` of all cases (0-based, ``last`` included; none if it lies before ``first``)."""

    first: int
    last: int
    cusum: float


def build_cusum_charts(connection: duckdb.DuckDBPyConnection, rule: CusumRule | None = None) -> CusumCharts:
    """Draw the charts and leave the tables ``cusum_chart`` and ``cusum_alert`` in ``connection``.

    Needs ``mortality_risk`` (spell_id, provider, diagnosis_group, discharge_date, risk, died) and
    ``mortality_group`` (diagnosis_group, label). Cases of one day are charted in the order of spell_id. A chart
    begins with the first case of the model's years. ``first_discharge_date`` and ``signal_date`` of an alert are
    days of discharge: they stay inside, only months are published.

    Raises the errors of :func:`infra.engine.engine_errors`, and :class:`UsageError` for a rule that makes no sense.
    """
    rule = rule or CusumRule()
    check_odds_ratio(rule.odds_ratio)
    if rule.reset not in RESETS or not (isfinite(rule.minimum_expected) and rule.minimum_expected >= 0):
        raise UsageError("a CUSUM rule has an unknown reset, or a minimum that is no number of deaths")
    with engine_errors("reading the cases of the charts"):
        labels = dict(connection.execute("select diagnosis_group, label from mortality_group").fetchall())
        row = connection.execute("select max(discharge_date) from mortality_risk").fetchone()
        last_month = f"{row[0]:%Y-%m}" if row is not None and row[0] is not None else ""
        parts = [_draw(cases, rule, labels, last_month) for cases in _whole_charts(connection)]
    drawn = CusumCharts(
        *(
            pl.concat([pl.DataFrame(schema=schema), *(getattr(part, name) for part in parts)])
            for name, schema in _SCHEMAS.items()
        )
    )
    store(connection, "cusum_chart", drawn.charts)
    store(connection, "cusum_alert", drawn.alerts)
    return drawn


def _whole_charts(connection: duckdb.DuckDBPyConnection) -> Iterator[pl.DataFrame]:
    """The cases in the order of the charts, in pieces that hold whole charts: memory does not grow with the data."""
    rest: pl.DataFrame | None = None
    for batch in connection.execute(CASES).to_arrow_reader(BATCH_ROWS):
        piece = pl.DataFrame(batch)
        if piece.is_empty():
            continue
        cases = piece if rest is None else pl.concat([rest, piece])
        last = cases.row(-1)
        of_last = (cases["provider"] == last[0]) & (cases["diagnosis_group"] == last[1])
        begins = int(of_last.arg_max() or 0)
        rest = cases.slice(begins)
        if begins:
            yield cases.head(begins)
    if rest is not None:
        yield rest


def _draw(cases: pl.DataFrame, rule: CusumRule, labels: dict[int, str], last_month: str) -> CusumCharts:
    """``cases``: provider, diagnosis_group, discharge_date, risk, died, in the order of the charts, at least one."""
    risk, died = cases["risk"].to_numpy(), cases["died"].cast(pl.Float64).to_numpy()
    days = cases["discharge_date"]
    weights = case_weights(died, risk, rule.odds_ratio)
    cusum, signal = np.zeros(len(cases)), np.zeros(len(cases), dtype=np.bool_)
    charts, alerts, states = [], [], []
    threshold_of = np.zeros(len(cases))
    start = 0
    for key, size in _sizes(cases):
        part = slice(start, start + size)
        start += size
        # Sums in the order of the cases, so that the same cases give the same figures to the last digit.
        expected = float(np.cumsum(risk[part])[-1])
        if expected < rule.minimum_expected:
            continue
        mean, spread = risk_shape(risk[part])
        threshold = threshold_near(mean, spread, size, rule.false_alarm_rate, rule.odds_ratio)
        line = chart(weights[part], threshold, rule.reset)
        cusum[part], signal[part] = line.rows["cusum"].to_numpy(), line.rows["signal"].to_numpy()
        threshold_of[part] = threshold
        label = labels.get(key[1], "")
        charts.append((*key, label, size, int(died[part].sum()), expected, threshold))
        runs = [_run_of(alert, part.start) for alert in line.alerts]
        alerts += [(*key, *_of_run(run, days, risk, died), run.cusum, threshold) for run in runs]
        names = (INDICATOR, VERSION, key[0], _stratum(key[1], label))
        told = [(run, f"{days[run.last]:%Y-%m}") for run in runs]
        if last_month not in [month for _, month in told]:
            told.append((_run_of(line.standing, part.start), last_month))
        states += [(*names, month, threshold, *_told(run, days, risk, died)) for run, month in told]
    points = _points(cases, cusum, signal, threshold_of, labels)
    return CusumCharts(
        charts=pl.DataFrame(charts, schema=CHART_SCHEMA, orient="row"),
        alerts=pl.DataFrame(alerts, schema=ALERT_SCHEMA, orient="row"),
        points=points,
        states=pl.DataFrame(states, schema=STATE_SCHEMA, orient="row"),
    )


_SCHEMAS: Final = {
    "charts": CHART_SCHEMA,
    "alerts": ALERT_SCHEMA,
    "points": POINT_SCHEMA,
    "states": STATE_SCHEMA,
}


def _sizes(cases: pl.DataFrame) -> list[tuple[tuple[str, int], int]]:
    """Each chart's key and number of cases, in the order of ``cases``."""
    sizes = cases.group_by(KEY, maintain_order=True).len()
    return [((provider, group), size) for provider, group, size in sizes.iter_rows()]


def _stratum(group: int, label: str) -> str:
    return f"diagnosis group: {group} {label}".rstrip()


def _run_of(alert: Alert, start: int) -> _Run:
    return _Run(start + alert.first - 1, start + alert.signal - 1, alert.value)


def _sums(run: _Run, risk: Floats, died: Floats) -> tuple[int, int, float]:
    """Cases, deaths and expected deaths of a run."""
    part = slice(run.first, run.last + 1)
    size = run.last + 1 - run.first
    return size, int(died[part].sum()), float(np.cumsum(risk[part])[-1]) if size > 0 else 0.0


def _of_run(run: _Run, days: pl.Series, risk: Floats, died: Floats) -> tuple[date, date, int, int, float]:
    return days[run.first], days[run.last], *_sums(run, risk, died)


def _told(
    run: _Run, days: pl.Series, risk: Floats, died: Floats
) -> tuple[float, float, float, float, str | None]:
    """cusum, cases, observed, expected, beyond_since of a run."""
    size, deaths, expected = _sums(run, risk, died)
    return run.cusum, float(size), float(deaths), expected, f"{days[run.first]:%Y-%m}" if size > 0 else None


def _points(
    cases: pl.DataFrame,
    cusum: Floats,
    signal: np.ndarray[tuple[int], np.dtype[np.bool_]],
    threshold: Floats,
    labels: dict[int, str],
) -> pl.DataFrame:
    """Months: deaths, expected deaths, the chart after the month's last case or, with a signal, at the signal."""
    months = (
        cases.with_columns(
            pl.Series("cusum", cusum),
            pl.Series("signal", signal),
            pl.Series("threshold", threshold),
            month=pl.col("discharge_date").dt.truncate("1mo"),
        )
        .filter(pl.col("threshold") > 0)
        .group_by(*KEY, "month", maintain_order=True)
        .agg(
            pl.col("died").sum().cast(pl.Float64).alias("observed"),
            pl.col("risk").sum().alias("expected"),
            pl.coalesce(pl.col("cusum").filter("signal").max(), pl.col("cusum").last()).alias("cusum"),
            pl.col("threshold").first(),
            pl.col("signal").any(),
        )
    )
    if months.is_empty():
        return pl.DataFrame(schema=POINT_SCHEMA)
    strata = {group: _stratum(group, labels.get(group, "")) for group in months["diagnosis_group"].unique()}
    return months.select(
        pl.lit(INDICATOR).alias("indicator"),
        pl.lit(VERSION).alias("version"),
        "provider",
        pl.col("diagnosis_group").replace_strict(strata, return_dtype=pl.String).alias("stratum"),
        (pl.int_range(pl.len(), dtype=pl.Int64).over(KEY) + 1).alias("point"),
        pl.col("month").dt.strftime("%Y-%m").alias("period"),
        "observed",
        "expected",
        "cusum",
        "threshold",
        "signal",
    )


def delay_to_signal(charts: CusumCharts, provider: str, since: date) -> pl.DataFrame:
    """The first alert of each diagnosis group at ``provider`` on or after ``since``, to measure how soon a known
    change is found: diagnosis_group, signal_date, days (from ``since``), cases, deaths, expected of the run."""
    return (
        charts.alerts.filter((pl.col("provider") == provider) & (pl.col("signal_date") >= since))
        .sort("diagnosis_group", "signal_date")
        .unique("diagnosis_group", keep="first", maintain_order=True)
        .select(
            "diagnosis_group",
            "signal_date",
            (pl.col("signal_date") - since).dt.total_days().alias("days"),
            "cases",
            "deaths",
            "expected",
        )
    )
