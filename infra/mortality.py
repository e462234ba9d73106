"""Mortality: from spells and deaths to the number of deaths expected of each spell, inside the compute connection.

Runs after :func:`infra.compute.build_outcomes`. The spells in scope are reduced to covariate patterns in DuckDB, the
models are fitted on their counts (:mod:`transforms.mortality_model`), and the risks are computed in DuckDB from the
table of coefficients, which stays. Rules and their sources: ``sql/core/mortality_parameters.yaml`` and
``infra/decisions/0121-standardised-mortality.md``.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import duckdb
import polars as pl

from infra.compute import Kind, build_relation, store
from infra.engine import engine_errors
from schemas.errors import ContractDefinitionError
from schemas.indicator_metadata import CoreParameters, ParameterValue, bound_parameters
from schemas.provider_reference import ProviderReference
from schemas.shmi_reference import CaseMix, Charlson, Factor, case_mix, charlson, diagnosis_groups
from schemas.yaml_text import parse_model, read_yaml
from sql import CORE_FOLDER
from transforms.case_mix import GROUP, level, places, steps
from transforms.charlson import charlson_index
from transforms.code_ranges import look_up
from transforms.mortality_model import INTERCEPT, LARGEST_EXPONENT, fit_numbered

MONTHS_OF_A_YEAR: Final = 12
APRIL: Final = 4
# The columns that sql/core/shmi_spell.sql and mortality_pattern.sql read each factor from; a factor that is not here
# needs a change there.
FACTORS: Final = (
    "age_group",
    "sex",
    "admission_class",
    "charlson_band",
    "year_index",
    "admission_month",
    "birth_weight",
)
# The relations of sql/core in the order in which they need each other; between them come the tables of codes, levels
# and coefficients that are made here. Scratch tables go again after the build.
MORTALITY_RELATIONS: Final[tuple[tuple[str, Kind], ...]] = (
    ("shmi_death", "scratch"),
    ("shmi_stay", "scratch"),
    ("shmi_second_episode", "scratch"),
    ("shmi_code", "scratch"),
    ("shmi_marked_spell", "scratch"),
    ("shmi_condition", "scratch"),
    ("shmi_spell", "table"),
    ("shmi_pattern", "scratch"),
    ("mortality_pattern", "table"),
    ("mortality_risk", "view"),
)
SCRATCH: Final = (
    *(name for name, kind in MORTALITY_RELATIONS if kind == "scratch"),
    "mortality_code",
    "mortality_charlson",
    "mortality_level",
    "mortality_place",
    "mortality_provider",
)
NO_REFERENCE: Final = (
    "The workspace has no provider reference (providers.csv), so every provider was taken for an acute trust that is "
    "not specialist."
)


@dataclass(frozen=True)
class ReportPeriod:
    """The months of discharge that are reported, and from when on the model's years begin; days inclusive."""

    report_from: date
    report_to: date
    training_from: date

    @property
    def label(self) -> str:
        """``2021-22`` for a financial year, else ``2021-07 to 2022-06``."""
        first, last = self.report_from, self.report_to
        months = (last.year - first.year) * MONTHS_OF_A_YEAR + last.month - first.month + 1
        if first.month == APRIL and months == MONTHS_OF_A_YEAR:
            return f"{first.year}-{last.year % 100:02d}"
        return f"{first:%Y-%m} to {last:%Y-%m}"


@dataclass(frozen=True)
class Mortality:
    """What was built. ``period`` is None where there is no finished spell. ``cautions``: sentences that belong beside
    the published figures. ``spells``: spells that a model covers, ``uncovered``: spells in scope that none covers."""

    period: ReportPeriod | None
    spells: int
    uncovered: int
    deaths: int
    patterns: int
    cautions: tuple[str, ...]


def mortality_parameters() -> dict[str, ParameterValue]:
    """Name to value of ``sql/core/mortality_parameters.yaml``. Raises :class:`ContractDefinitionError`."""
    path = CORE_FOLDER / "mortality_parameters.yaml"
    return bound_parameters(parse_model(CoreParameters, read_yaml(path), path.name).parameters)


def report_period(data_until: date, report_months: int, years: int) -> ReportPeriod:
    """The last ``report_months`` complete months up to ``data_until``, and ``years`` years of model that end with
    them."""
    last = _month(data_until)
    if data_until.day < monthrange(data_until.year, data_until.month)[1]:
        last -= 1
    return ReportPeriod(
        report_from=_first_day(last - report_months + 1),
        report_to=date.fromordinal(_first_day(last + 1).toordinal() - 1),
        training_from=_first_day(last - years * MONTHS_OF_A_YEAR + 1),
    )


def _month(day: date) -> int:
    return day.year * MONTHS_OF_A_YEAR + day.month - 1


def _first_day(month: int) -> date:
    return date(month // MONTHS_OF_A_YEAR, month % MONTHS_OF_A_YEAR + 1, 1)


def build_mortality(
    connection: duckdb.DuckDBPyConnection,
    providers: ProviderReference | None = None,
    *,
    data_until: date | None = None,
    mix: CaseMix | None = None,
    comorbidity: Charlson | None = None,
) -> Mortality:
    """Build the tables of case-mix adjusted mortality; needs :func:`infra.compute.build_outcomes`.

    ``providers``: which are covered and what old codes stand for; None takes every provider for a covered one.
    ``data_until``: the last day that the deliveries of admitted patient care cover; None takes the end of the month of
    the last discharge. ``mix`` and ``comorbidity``: those of ``schemas/shmi`` unless given.

    Tables afterwards: ``mortality_period`` (period, report_from, report_to, training_from; one row, none without a
    finished spell), ``shmi_spell``, ``mortality_coefficient`` (columns of
    :data:`transforms.mortality_model.COEFFICIENTS` and place, the level's place in its factor), ``mortality_pattern``,
    ``mortality_group`` (diagnosis_group, label); the view ``mortality_risk``. Raises the errors of
    :func:`infra.engine.engine_errors`, and :class:`ContractDefinitionError` for a case mix with other factors.
    """
    mix, comorbidity = mix or case_mix(), comorbidity or charlson()
    if mix.factor_names != FACTORS:
        raise ContractDefinitionError("case_mix.yaml: the queries of sql/core do not know these factors")
    parameters = {**mortality_parameters(), **computed_parameters(mix)}
    period = _store_period(connection, data_until, parameters, mix)
    _store_providers(connection, providers, period, parameters)
    store(connection, "mortality_group", _groups())
    build = dict(MORTALITY_RELATIONS)

    def make(*names: str) -> None:
        for name in names:
            build_relation(connection, name, build[name], parameters)

    make("shmi_death", "shmi_stay", "shmi_second_episode", "shmi_code", "shmi_marked_spell")
    _store_codes(connection, comorbidity)
    make("shmi_condition")
    _store_charlson(connection, comorbidity)
    store(connection, "mortality_level", _levels(connection, mix))
    make("shmi_spell", "shmi_pattern")
    patterns = _patterns(connection)
    store(connection, "mortality_coefficient", _coefficients(patterns, mix))
    store(connection, "mortality_place", _places(patterns, mix))
    make("mortality_pattern", "mortality_risk")
    with engine_errors("dropping what mortality does not need any more"):
        for name in SCRATCH:
            connection.execute(f"drop table {name}")
    return _summary(connection, period, patterns.height, providers)


# Before the spells ------------------------------------------------------------------------------------


def _store_period(
    connection: duckdb.DuckDBPyConnection,
    data_until: date | None,
    parameters: Mapping[str, ParameterValue],
    mix: CaseMix,
) -> ReportPeriod | None:
    with engine_errors("looking for the last discharge"):
        row = connection.execute("select max(discharge_date) from provider_spell where finished").fetchone()
    last = row[0] if row is not None else None
    period = None
    if last is not None:
        months = int(str(parameters["report_months"]))
        end = data_until or last.replace(day=monthrange(last.year, last.month)[1])
        period = report_period(end, months, mix.years)
    rows = (
        [] if period is None else [(period.label, period.report_from, period.report_to, period.training_from)]
    )
    schema = {"period": pl.String, "report_from": pl.Date, "report_to": pl.Date, "training_from": pl.Date}
    store(connection, "mortality_period", pl.DataFrame(rows, schema=schema, orient="row"))
    return period


def _store_providers(
    connection: duckdb.DuckDBPyConnection,
    providers: ProviderReference | None,
    period: ReportPeriod | None,
    parameters: Mapping[str, ParameterValue],
) -> None:
    """Table mortality_provider: code, provider (what it stands for at the end of the report); covered ones only."""
    if providers is not None:
        day = period.report_to if period is not None else date.max
        table = (
            providers.resolved(day)
            .filter(pl.col("type").is_in(_codes(parameters["covered_provider_types"])))
            .select("code", provider="resolved_code")
        )
    else:
        with engine_errors("listing the providers"):
            table = connection.execute(
                "select distinct provider as code, provider from provider_spell order by code"
            ).pl()
    store(connection, "mortality_provider", table)


def _codes(value: ParameterValue) -> list[str]:
    return value if isinstance(value, list) else [str(value)]


def _groups() -> pl.DataFrame:
    labels = diagnosis_groups().labels
    return pl.DataFrame(sorted(labels.items()), schema={GROUP: pl.Int64, "label": pl.String}, orient="row")


# Codes and levels, each looked up once ----------------------------------------------------------------


def _store_codes(connection: duckdb.DuckDBPyConnection, comorbidity: Charlson) -> None:
    """Table mortality_code: code, diagnosis_group, modelled_group (empty where there is no model), conditions (a bit
    for the Charlson condition that the code speaks of, 0 for none)."""
    with engine_errors("listing the diagnosis codes"):
        codes = connection.execute("select code from shmi_code order by code").pl()["code"]
    groups = diagnosis_groups()
    bits = {name: 1 << place for place, name in enumerate(comorbidity.weights)}
    table = pl.DataFrame(
        {
            "code": codes,
            GROUP: look_up(codes, groups.table()).cast(pl.Int32),
            "conditions": look_up(codes, comorbidity.table().select("code_from", "code_to", "condition"))
            .replace_strict(bits, default=0, return_dtype=pl.Int64)
            .fill_null(0),
        }
    )
    modelled = pl.when(pl.col(GROUP).is_in(groups.modelled)).then(GROUP).alias("modelled_group")
    store(connection, "mortality_code", table.with_columns(modelled))


def _store_charlson(connection: duckdb.DuckDBPyConnection, comorbidity: Charlson) -> None:
    """Table mortality_charlson: conditions (bits), charlson_index, of every combination that occurs."""
    with engine_errors("listing the combinations of Charlson conditions"):
        held = connection.execute("select distinct conditions from shmi_condition order by conditions").pl()
    # One code of each condition stands for it, so that the index is reckoned in one place only.
    speaking = {entry.condition: entry.codes[0].first for entry in comorbidity.conditions}
    lists = [
        [speaking[name] for place, name in enumerate(comorbidity.weights) if conditions >> place & 1]
        for conditions in held["conditions"].to_list()
    ]
    index = charlson_index(pl.Series(lists, dtype=pl.List(pl.String)), comorbidity)
    store(connection, "mortality_charlson", held.with_columns(index.alias("charlson_index")))


def computed_parameters(mix: CaseMix) -> dict[str, ParameterValue]:
    """The parameters of the queries that are no rules but follow from the case mix and the fit."""
    birth_weight = mix.factors[FACTORS.index("birth_weight")]
    if birth_weight.groups is None:
        raise ContractDefinitionError("case_mix.yaml: birth_weight does not say which groups have it")
    return {
        "group_step": steps(mix)[GROUP],
        "birth_weight_groups": [str(group) for group in birth_weight.groups.only],
        "without_birth_weight": birth_weight.groups.elsewhere,
        "largest_exponent": LARGEST_EXPONENT,
    }


def _levels(connection: duckdb.DuckDBPyConnection, mix: CaseMix) -> pl.DataFrame:
    """factor, value (text, empty for nothing), level, part (what the level adds to the number of a pattern), for every
    value that occurs."""
    occurring = {
        "start_age": "select distinct start_age::bigint as value from shmi_stay",
        "sex": "select distinct sex as value from shmi_stay",
        "admission_method": "select distinct admission_method as value from shmi_stay",
        "charlson_index": "select charlson_index as value from mortality_charlson union select 0::bigint",
        "year_index": f"select unnest(range(1, {mix.years} + 1)) as value",
        "admission_month": "select unnest(range(1, 13)) as value",
        "birth_weight_grams": "select distinct birth_weight_grams::bigint as value from shmi_stay",
    }
    parts = []
    step = steps(mix)
    for factor in mix.factors:
        with engine_errors(f"listing the values of {factor.column}"):
            values = connection.execute(f"select distinct value from ({occurring[factor.column]})").pl()
        parts.append(_levels_of(factor, values["value"], step[factor.name]))
    return pl.concat(parts).unique().sort("factor", "value")


def _levels_of(factor: Factor, values: pl.Series, step: int) -> pl.DataFrame:
    group = factor.groups.only[0] if factor.groups is not None else 1
    found = pl.DataFrame({factor.column: values, GROUP: pl.repeat(group, len(values), eager=True)}).select(
        pl.lit(factor.name).alias("factor"),
        pl.col(factor.column).cast(pl.String).fill_null("").alias("value"),
        level(factor).alias("level"),
    )
    if factor.groups is not None:
        elsewhere = factor.groups.elsewhere
        other = pl.DataFrame({"factor": [factor.name], "value": [elsewhere], "level": [elsewhere]})
        found = pl.concat([found, other.cast({"level": factor.dtype})])
    places = pl.col("level").to_physical().cast(pl.Int64)
    return found.with_columns((places * step).alias("part"), pl.col("level").cast(pl.String))


# The models -------------------------------------------------------------------------------------------


def _patterns(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """The patterns sorted by number: pattern, spells, deaths."""
    with engine_errors("reading the covariate patterns"):
        return connection.execute("select pattern, spells, deaths from shmi_pattern order by pattern").pl()


def _places(patterns: pl.DataFrame, mix: CaseMix) -> pl.DataFrame:
    """pattern, diagnosis_group, the place of the level in each factor (Int16), spells, deaths."""
    place = {name: pl.Series(values) for name, values in places(patterns["pattern"], mix).items()}
    small = [place[name].cast(pl.Int16).alias(name) for name in mix.factor_names]
    return pl.DataFrame(
        [patterns["pattern"], place[GROUP].alias(GROUP), *small, *patterns["spells", "deaths"]]
    )


def _coefficients(patterns: pl.DataFrame, mix: CaseMix) -> pl.DataFrame:
    """The fitted models with ``place``: the place of the level in its factor, 0 first; 0 for the intercept."""
    order = [
        {"factor": factor.name, "level": name, "place": place}
        for factor in mix.factors
        for place, name in enumerate(factor.level_names)
    ]
    schema = {"factor": pl.String, "level": pl.String, "place": pl.Int16}
    return (
        fit_numbered(patterns, mix)
        .join(pl.DataFrame(order, schema=schema), on=["factor", "level"], how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("factor") == INTERCEPT).then(0).otherwise("place").cast(pl.Int16).alias("place")
        )
    )


def _summary(
    connection: duckdb.DuckDBPyConnection,
    period: ReportPeriod | None,
    patterns: int,
    providers: ProviderReference | None,
) -> Mortality:
    with engine_errors("counting what mortality covers"):
        row = connection.execute(
            "select count(*) filter (where pattern is not null), count(*) filter (where pattern is null), "
            "count(*) filter (where pattern is not null and died) from shmi_spell"
        ).fetchone()
    spells, uncovered, deaths = row if row is not None else (0, 0, 0)
    return Mortality(
        period=period,
        spells=int(spells),
        uncovered=int(uncovered),
        deaths=int(deaths),
        patterns=patterns,
        cautions=() if providers is not None else (NO_REFERENCE,),
    )
