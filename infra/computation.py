"""Computation: from the curated tables to the tables that are published.

Reads the readers' copy of the lake; nothing here writes to a zone. The dates of death stay in Polars: DuckDB gets
the days between discharge and death, capped, and nothing else of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb
import polars as pl

from infra.aggregate_charts import AggregateCharts, build_aggregate_charts
from infra.compute import (
    IndicatorResult,
    add_death_link,
    build_core,
    build_outcomes,
    count_singling_out,
    load_indicators,
    run_indicator,
    spells_for_linkage,
)
from infra.cusum_charts import CusumCharts, build_cusum_charts
from infra.engine import engine_errors
from infra.keyring import Keyring
from infra.lake import CommittedDelivery, reading
from infra.linkage import read_linkage, read_pairs
from infra.mortality import Mortality, build_mortality
from infra.periods import parse_period
from infra.provider_reference import workspace_reference
from infra.workspace import Workspace
from schemas.provider_reference import ProviderReference
from schemas.published import empty
from sql import INDICATOR_FOLDER
from transforms.assessment import EXPECTED, assess, assessments, funnel_limits
from transforms.linkage import days_to_death, one_death_per_person, resolve

# Before this date there was no hospital record; it names files of a run that has no dated delivery.
NO_DATE = date(1900, 1, 1)
# What the definition of an indicator says, in the words of the published tables.
MEASURES = {
    "proportion": "proportion",
    "rate_per_1000": "rate",
    "rate_per_1000_bed_days": "rate",
    "standardised_ratio": "standardised_ratio",
    "mean": "rate",
    "count": "count",
}
PER = {
    "proportion": 1.0,
    "rate_per_1000": 1000.0,
    "rate_per_1000_bed_days": 1000.0,
    "standardised_ratio": 1.0,
    "mean": 1.0,
    "count": 1.0,
}
DIRECTIONS = {
    "higher_is_worse": "lower_is_better",
    "lower_is_worse": "higher_is_better",
    "neither": "neutral",
    "context": "context",
}
ON_MORTALITY_MODELS = ("shmi", "mortality_cusum", "mortality_aggregate_cusum")
ON_DEATHS_AFTER_DISCHARGE = (
    "crude_death_rate",
    "death_rate_by_admission",
    "deaths_after_discharge",
    "palliative_care_deaths",
    "perinatal_mortality",
    *ON_MORTALITY_MODELS,
)
# Without a register of deaths every death there is happened in hospital, and this one would be nought everywhere.
ONLY_WITH_REGISTER = ("deaths_after_discharge",)
NO_REGISTER = "No register of deaths was delivered: only deaths in hospital are known."
NO_BRIDGE = "The register of deaths cannot be linked without its bridge: only deaths in hospital are known."
REGISTER_ENDS = (
    "The register of deaths ends before thirty days after the last discharges: their deaths after discharge are not "
    "all known."
)
FOLLOW_UP = timedelta(days=30)
BRIDGE_COLUMNS = "old_person_token VARCHAR, person_token VARCHAR"


@dataclass(frozen=True)
class Computation:
    """``tables``: published table name -> frame. ``counts``: stage -> rows, for the manifest. ``record_date``: the
    last day that the data cover, which names the outputs."""

    tables: dict[str, pl.DataFrame]
    counts: dict[str, int]
    record_date: date
    lake_snapshot: int


def compute(
    workspace: Workspace,
    deliveries: Sequence[CommittedDelivery],
    keyring: Keyring,
    say: Callable[[str], None],
) -> Computation:
    """Spells, deaths, indicators, limits and data quality of everything in use.

    Raises :class:`IndicatorCheckFailed` if an indicator fails a check, and what engine and stores raise.
    """
    current = [row for row in deliveries if row.status == "current"]
    dates = [until for row in current if (until := parse_period(row.period).data_until) is not None]
    counts: dict[str, int] = {}
    results: list[IndicatorResult] = []
    charts: list[CusumCharts | AggregateCharts] = []
    mortality: Mortality | None = None
    coefficients = empty("mortality_coefficient")
    reference = workspace_reference(workspace.root)
    ends = [parse_period(row.period).data_until for row in current if row.dataset == "hes_apc"]
    data_until = max((day for day in ends if day is not None), default=None)
    without_register = register_caution(current, data_until)
    with reading(
        workspace.zone("lake"),
        keyring.lake_metadata_key,
        memory_limit=workspace.settings.compute_memory_limit,
        temp_folder=workspace.zone("tmp"),
    ) as connection:
        snapshot = _snapshot(connection)
        if any(row.dataset == "hes_apc" for row in current):
            bind_views(connection, current)
            say("building spells")
            build_core(connection)
            say("linking deaths")
            spells = spells_for_linkage(connection)
            counts["spells"] = spells.height
            link = death_link(workspace, connection, current, keyring, spells)
            counts["spells_of_the_dead"] = link.height
            add_death_link(connection, link)
            build_outcomes(connection)
            if without_register is not None:
                say(f"caution: {without_register}")
            say("fitting the mortality models")
            mortality = build_mortality(connection, reference, data_until=data_until)
            coefficients = _coefficients(connection)
            say("drawing the cumulative sum charts")
            charts = [build_cusum_charts(connection), build_aggregate_charts(connection)]
            results = run_indicators(connection, without_register, say)
            counts["broken_warnings"] = sum(len(result.broken_warnings) for result in results)
            singling_out = count_singling_out(connection)
            counts["unique_on_quasi_identifiers"] = max(singling_out["unique_records"].to_list(), default=0)
        else:
            say("no admitted patient care in use, so there are no spells and no death rates to compute")
            singling_out = pl.DataFrame()
        rule_results = _rule_results(connection)
        provider_rows = _provider_rows(connection)
    tables = _tables(deliveries, results, rule_results, provider_rows, singling_out, charts, reference)
    tables["provider"] = _providers(
        reference, provider_rows, tables["indicator_value"], max(dates, default=NO_DATE)
    )
    tables["mortality_coefficient"] = coefficients
    if results:
        cautions: dict[str, Sequence[str]] = {}
        if mortality is not None:
            cautions.update(dict.fromkeys(mortality.cautions, ON_MORTALITY_MODELS))
        if without_register is not None:
            cautions[without_register] = ON_DEATHS_AFTER_DISCHARGE
        tables["indicator"] = _with_cautions(tables["indicator"], cautions)
    counts["indicator_values"] = tables["indicator_value"].height
    return Computation(
        tables=tables,
        counts=counts,
        record_date=max(dates, default=NO_DATE),
        lake_snapshot=snapshot,
    )


def _snapshot(connection: duckdb.DuckDBPyConnection) -> int:
    with engine_errors("reading the lake's snapshot"):
        row = connection.execute("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')").fetchone()
    return int(row[0]) if row is not None and row[0] is not None else 0


def bind_views(connection: duckdb.DuckDBPyConnection, current: Sequence[CommittedDelivery]) -> None:
    there = {row.dataset for row in current}
    with engine_errors("binding the curated views"):
        for dataset in sorted(there & {"hes_apc", "hes_op", "hes_ae", "hes_person_bridge"}):
            connection.execute(f"CREATE TEMP VIEW {dataset} AS SELECT * FROM lake.{dataset}")
        if "hes_person_bridge" not in there:
            connection.execute(f"CREATE TEMP TABLE hes_person_bridge ({BRIDGE_COLUMNS})")


def death_link(
    workspace: Workspace,
    connection: duckdb.DuckDBPyConnection,
    current: Sequence[CommittedDelivery],
    keyring: Keyring,
    spells: pl.DataFrame,
) -> pl.DataFrame:
    """spell_id, days_to_death of every finished spell of a person with a registered death."""
    root, key = workspace.zone("linkage"), keyring.linkage_file_key
    of = {
        name: [row.delivery_id for row in current if row.dataset == name]
        for name in ("ons_deaths", "civil_deaths")
    }
    with engine_errors("reading the bridge between person ids"):
        bridge = connection.execute(
            "SELECT old_person_token AS from_token, person_token AS to_token FROM hes_person_bridge"
        ).pl()
    parts = [read_linkage(root, of["civil_deaths"], key)]
    records = read_linkage(root, of["ons_deaths"], key)
    if records.height:
        record_bridge = _record_bridge(workspace, current, keyring)
        parts.append(resolve(records, record_bridge, unmatched="drop"))
    deaths = resolve(pl.concat(parts), bridge, unmatched="keep")
    return days_to_death(spells, one_death_per_person(deaths))


def _record_bridge(
    workspace: Workspace, current: Sequence[CommittedDelivery], keyring: Keyring
) -> pl.DataFrame:
    """from_token (of the record number), to_token (of the old person id)."""
    bridges = [row.delivery_id for row in current if row.dataset == "ons_deaths_bridge"]
    pairs = read_pairs(workspace.zone("linkage"), bridges, keyring.linkage_file_key)
    return pairs.select(pl.col("token").alias("from_token"), pl.col("person_token").alias("to_token"))


def _rule_results(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    with engine_errors("reading the rule results"):
        return connection.execute(
            "SELECT delivery_id AS delivery, rule_id AS rule, severity, rows, failures, failure_share AS share, "
            "allow AS allowed, CASE WHEN over_allowance THEN 'over allowance' ELSE 'met' END AS verdict, says "
            "FROM lake.rule_result WHERE applicable ORDER BY delivery, rule"
        ).pl()


def _provider_rows(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    with engine_errors("reading the providers' rows"):
        return connection.execute(
            "SELECT delivery_id AS delivery, provider, rows FROM lake.provider_rows "
            "WHERE provider IS NOT NULL ORDER BY delivery, provider"
        ).pl()


def _tables(
    deliveries: Sequence[CommittedDelivery],
    results: Sequence[IndicatorResult],
    rule_results: pl.DataFrame,
    provider_rows: pl.DataFrame,
    singling_out: pl.DataFrame,
    charts: Sequence[CusumCharts | AggregateCharts],
    reference: ProviderReference | None,
) -> dict[str, pl.DataFrame]:
    indicators = pl.DataFrame([_indicator_row(result) for result in results])
    tables = {
        "delivery": _delivery_table(deliveries),
        "rule_result": rule_results,
        "late_provider": late_providers(deliveries, provider_rows),
    }
    if singling_out.height:
        tables["singling_out"] = singling_out
    if not results:
        return {**tables, "indicator_value": empty("indicator_value")}
    values = pl.concat([_values(result) for result in results], how="diagonal_relaxed")
    assessed = assess(values)
    names = dict(zip(indicators["indicator"], indicators["friendly_name"], strict=True))
    states = pl.concat(drawn.states for drawn in charts) if charts else None
    said = assessments(assessed, names, states, reference.successions() if reference is not None else None)
    return {
        **tables,
        "indicator": indicators,
        "indicator_value": assessed.drop("measure", "direction", "per", "interval_method").with_columns(
            pl.lit(False).alias("suppressed")
        ),
        "assessment": said,
        "alert": said.filter(pl.col("level") != EXPECTED),
        "cusum_point": pl.concat([empty("cusum_point"), *(drawn.points for drawn in charts)]),
        "funnel_limit": funnel_limits(values),
    }


def _values(result: IndicatorResult) -> pl.DataFrame:
    metadata = result.metadata
    values = result.values
    if "expected" not in values.columns:
        values = values.with_columns(pl.lit(None, pl.Float64).alias("expected"))
    return values.with_columns(
        pl.lit(metadata.name).alias("indicator"),
        pl.lit(f"v{metadata.version}").alias("version"),
        pl.lit(MEASURES[metadata.unit]).alias("measure"),
        pl.lit(PER[metadata.unit]).alias("per"),
        pl.lit(DIRECTIONS[metadata.direction]).alias("direction"),
        pl.lit(metadata.interval_method).alias("interval_method"),
    )


def _indicator_row(result: IndicatorResult) -> dict[str, object]:
    metadata = result.metadata
    return {
        "indicator": metadata.name,
        "version": f"v{metadata.version}",
        "friendly_name": metadata.friendly_name,
        "description": metadata.description,
        # The table is public, so it says what is not so and not in how many rows.
        "what_it_is_not": " ".join(
            [
                metadata.what_it_is_not,
                *(f"Not so in these data: {check.says}." for check in result.broken_warnings),
            ]
        ),
        "family": metadata.family,
        "numerator": metadata.numerator,
        "denominator": metadata.denominator,
        "exclusions": "; ".join(metadata.exclusions),
        "coding_breaks": " | ".join(f"{entry.day}: {entry.says}" for entry in metadata.coding_breaks) or None,
        "unit": metadata.unit,
        "measure": MEASURES[metadata.unit],
        "per": PER[metadata.unit],
        "direction": DIRECTIONS[metadata.direction],
        "interval_method": metadata.interval_method,
        "source": metadata.source,
        "datasets": metadata.disclosure_dataset,
        "status": metadata.status,
        "release": metadata.release,
        "owner": metadata.owner,
        "next_review": metadata.next_review.isoformat(),
    }


def _delivery_table(deliveries: Sequence[CommittedDelivery]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "id": row.delivery_id,
                "dataset": row.dataset,
                "period": row.period,
                "status": row.status,
                "rows_in": row.rows_in,
                "rows_out": row.rows_kept,
                "rows_quarantined": row.rows_quarantined,
                "superseded_by": row.superseded_by or None,
            }
            for row in deliveries
        ],
        schema={
            "id": pl.String,
            "dataset": pl.String,
            "period": pl.String,
            "status": pl.String,
            "rows_in": pl.Int64,
            "rows_out": pl.Int64,
            "rows_quarantined": pl.Int64,
            "superseded_by": pl.String,
        },
    )


def _coefficients(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    with engine_errors("reading the coefficients"):
        return connection.execute("SELECT * EXCLUDE (place) FROM mortality_coefficient").pl()


def run_indicators(
    connection: duckdb.DuckDBPyConnection, without_register: str | None, say: Callable[[str], None]
) -> list[IndicatorResult]:
    """Every indicator but those that say nothing ``without_register`` (what :func:`register_caution` says)."""
    results = []
    for indicator in load_indicators():
        name = indicator.metadata.name
        if name in ONLY_WITH_REGISTER and without_register in (NO_REGISTER, NO_BRIDGE):
            say(f"not computing {name}: deaths after discharge are not known")
            continue
        say(f"computing {name} {indicator.metadata.version}")
        result = run_indicator(connection, INDICATOR_FOLDER / indicator.metadata.id)
        for check in result.broken_warnings:
            say(f"{name}: not so in these data ({check.rows:,}): {check.says}")
        results.append(result)
    return results


def register_caution(current: Sequence[CommittedDelivery], data_until: date | None) -> str | None:
    """What has to be known of the deaths after discharge, by the registers of deaths in use; None if they are all
    known. ``data_until``: the last day of the hospital records."""
    there = {row.dataset for row in current}
    registers = [
        row
        for row in current
        if row.dataset == "civil_deaths" or (row.dataset == "ons_deaths" and "ons_deaths_bridge" in there)
    ]
    if not registers:
        return NO_BRIDGE if "ons_deaths" in there else NO_REGISTER
    newest = max(_as_of(row) for row in registers)
    return REGISTER_ENDS if data_until is not None and newest < data_until + FOLLOW_UP else None


def _as_of(snapshot: CommittedDelivery) -> date:
    """The day of a snapshot, which is its rank."""
    text = f"{snapshot.rank:08d}"
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


def _with_cautions(indicators: pl.DataFrame, cautions: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """The definitions with what has to be known of this run. ``cautions``: a sentence, and the indicators it is for."""
    for caution, names in cautions.items():
        said = pl.concat_str("what_it_is_not", pl.lit(caution), separator=" ")
        concerned = pl.col("indicator").is_in(names)
        indicators = indicators.with_columns(
            what_it_is_not=pl.when(concerned).then(said).otherwise("what_it_is_not")
        )
    return indicators


def _providers(
    reference: ProviderReference | None, provider_rows: pl.DataFrame, values: pl.DataFrame, day: date
) -> pl.DataFrame:
    """The codes that occur in the data or the results, with name and type from the reference where it has them."""
    codes = (
        pl.concat([provider_rows["provider"], values["provider"]]).unique().sort().alias("code").to_frame()
    )
    if reference is None:
        return codes.with_columns(
            pl.lit(None, pl.String).alias("name"), pl.lit(None, pl.String).alias("type")
        )
    return codes.join(reference.resolved(day).select("code", "name", "type"), on="code", how="left").sort(
        "code"
    )


def late_providers(deliveries: Sequence[CommittedDelivery], provider_rows: pl.DataFrame) -> pl.DataFrame:
    """Providers that an earlier year of the dataset has and its latest one lacks.

    Columns: dataset, period (of the latest delivery in use), provider, last_period (the latest that has it).
    """
    schema = {"dataset": pl.String, "period": pl.String, "provider": pl.String, "last_period": pl.String}
    of: dict[str, set[str]] = {}
    for delivery, provider in provider_rows.select("delivery", "provider").iter_rows():
        of.setdefault(delivery, set()).add(provider)
    found = []
    current = [
        row for row in deliveries if row.status == "current" and parse_period(row.period).month is not None
    ]
    for dataset in sorted({row.dataset for row in current}):
        *earlier, latest = sorted(
            (row for row in current if row.dataset == dataset), key=lambda row: row.period
        )
        last: dict[str, str] = {}
        for row in earlier:
            last.update(dict.fromkeys(of.get(row.delivery_id, ()), row.period))
        reported = of.get(latest.delivery_id, set())
        found += [
            (dataset, latest.period, provider, period)
            for provider, period in sorted(last.items())
            if provider not in reported
        ]
    return pl.DataFrame(found, schema=schema, orient="row")
