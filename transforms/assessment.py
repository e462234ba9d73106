"""The assessment of indicator values: limits, distance from the target, band, and what is worth a question.

Every set of providers that is compared (one indicator, version, period and stratum) is put in one funnel
(:mod:`transforms.funnel`). ``band`` says where a value lies against the 95 % over-dispersed limits. ``alert``
is raised on the side that asks a question: beyond 95 % ("alert", two standard deviations) or beyond 99.8 %
("alarm", three), as national clinical audits do (HQIP outlier guidance). Both are variation to be asked about
and never a verdict: regression to the mean, coding and chance explain many of them.

With fewer than nine or ten providers nothing is trimmed, so that one far from the others widens the limits
it is judged by. That is the official method; a small set finds less.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from schemas.errors import UsageError
from schemas.published import DIRECTIONS, MEASURES, TOTAL_STRATUM
from transforms.funnel import (
    AS_EXPECTED,
    HIGHER,
    LIMIT_COLUMNS,
    LOWER,
    Funnel,
    proportion,
    rate,
    ratio_of_counts,
    standardised_ratio,
)
from transforms.intervals import (
    LEVEL_95,
    LEVEL_998,
    Floats,
    Interval,
    byar,
    normal_deviate,
    poisson_exact,
    wilson,
)

BANDS = {HIGHER: "higher", AS_EXPECTED: "as expected", LOWER: "lower"}
GROUP = ("indicator", "version", "period", "stratum")

ALERT_MINIMUM_EVENTS = 5
"""Fewer events than this never raise an alert: one death in a service with five patients is far from any
target and tells nothing. The national maternity audit withholds hospital results below five events for the
same reason (maternityaudit.org.uk, frequently asked questions)."""

BYAR_FROM = 10
"""Byar's approximation is used from this count on, the exact Poisson interval below it, as public health
practice has it (PHEindicatormethods)."""

CURVE_POINTS = 60

_ADDED: dict[str, pl.DataType] = {
    **{name: pl.Float64() for name in ("value", "lower_95", "upper_95", "lower_998", "upper_998", "target")},
    **{name: pl.Float64() for name in (*LIMIT_COLUMNS, "z")},
    "band": pl.String(),
    "alert": pl.String(),
}


def assess(values: pl.DataFrame) -> pl.DataFrame:
    """Add value, limits, z, band and alert to indicator values.

    ``values``: indicator, version, period, provider, stratum, numerator, denominator, expected; optionally
    ``measure`` (else a standardised ratio where ``expected`` is given and a proportion where it is not),
    ``per`` (else 1) and ``direction`` (else lower_is_better).

    Returns the same rows in the same order and columns, with value, lower_95, upper_95, lower_998, upper_998
    (confidence limits of the value), target, the eight control limits of ``LIMIT_COLUMNS``, z
    (over-dispersed), band and alert added or replaced. A row that cannot be assessed (a number missing, a
    denominator or expected number of zero) keeps its counts and has all of these empty; it takes no part in
    the comparison of the others. A ``count`` has a value and its confidence limits, and is compared with
    nothing.

    Raises :class:`UsageError` for an unknown measure or direction, two measures in one comparison, and
    numbers that make no sense (negative, a numerator above its denominator).
    """
    work = _prepared(values)
    parts = [_assess_one(part) for part in work.partition_by(GROUP, maintain_order=True)]
    done = pl.concat(parts).sort("_row") if parts else work.with_columns(_empty_columns())
    kept = [name for name in values.columns if name not in _ADDED]
    return done.select(*kept, *_ADDED)


def funnel_limits(values: pl.DataFrame, strata: tuple[str, ...] = (TOTAL_STRATUM,)) -> pl.DataFrame:
    """The curves behind ``values`` (columns as for :func:`assess`), for table ``funnel_limit``.

    One curve of ``CURVE_POINTS`` sizes per comparison in ``strata``, from half the smallest provider to a
    little beyond the largest, evenly spaced on a log scale.
    """
    curves = []
    work = _prepared(values).filter(pl.col("stratum").is_in(strata))
    for part in work.partition_by(GROUP, maintain_order=True):
        usable = part.filter("_usable")
        if usable.is_empty() or usable["measure"].unique().to_list() == ["count"]:
            continue
        funnel, per = _funnel_of(usable), _only(usable, "per")
        size = funnel.rows["size"].to_numpy()
        curve = funnel.curve(np.geomspace(size.min() / 2, size.max() * 1.05, CURVE_POINTS)).rename(
            {"size": "denominator"}
        )
        curves.append(
            curve.with_columns(pl.col("target", *LIMIT_COLUMNS) * per).select(
                *(pl.lit(part[name][0]).alias(name) for name in GROUP),
                pl.all(),
                pl.lit(funnel.phi).alias("phi"),
                pl.lit(funnel.tau2).alias("tau2"),
                pl.lit(usable.height, dtype=pl.Int64).alias("providers"),
            )
        )
    return pl.concat(curves) if curves else pl.DataFrame()


def alerts(assessed: pl.DataFrame, names: Mapping[str, str] | None = None) -> pl.DataFrame:
    """The rows of ``assessed`` (from :func:`assess`) that raise an alert, with one plain sentence each.

    ``names`` gives indicators a name for people. Columns: indicator, version, period, provider, stratum,
    level, z, sentence. Sorted by distance from the target, farthest first.
    """
    shown = names or {}
    rows = (
        assessed.filter(pl.col("alert").is_not_null())
        .with_columns(_far=pl.col("z").abs())
        .sort(
            "_far", "indicator", "version", "period", "provider", "stratum", descending=[True] + [False] * 5
        )
    )
    sentences = [
        _sentence(row, shown.get(row["indicator"], row["indicator"])) for row in rows.iter_rows(named=True)
    ]
    return rows.select(
        "indicator",
        "version",
        "period",
        "provider",
        "stratum",
        pl.col("alert").alias("level"),
        "z",
        pl.Series("sentence", sentences, dtype=pl.String),
    )


def figure(value: float, measure: str, per: float = 1.0) -> str:
    """A value as people read it: ``12.3 %``, ``1.08``, ``4.2 per 1,000``."""
    if measure == "proportion" and per == 1:
        return f"{100 * value:.1f} %"
    if measure == "count":
        return f"{value:,.0f}"
    if measure == "rate" and per != 1:
        return f"{value:.2f} per {per:,.0f}"
    return f"{value:.2f}"


# the parts ------------------------------------------------------------------------------------------


def _prepared(values: pl.DataFrame) -> pl.DataFrame:
    """``values`` with measure, per, direction, row number and whether the row can be assessed."""
    needed = {"provider", "numerator", "denominator", *GROUP}
    missing = sorted(needed - set(values.columns))
    if missing:
        raise UsageError(f"indicator values without the column(s) {', '.join(missing)}")
    expected = pl.col("expected") if "expected" in values.columns else pl.lit(None)
    guess = (
        pl.when(expected.is_not_null())
        .then(pl.lit("standardised_ratio"))
        .otherwise(pl.lit("proportion"))
        .over(GROUP, mapping_strategy="group_to_rows")
    )
    work = values.with_columns(
        _row=pl.int_range(pl.len(), dtype=pl.Int64),
        expected=expected.cast(pl.Float64),
        measure=(pl.col("measure") if "measure" in values.columns else guess),
        per=(pl.col("per").cast(pl.Float64) if "per" in values.columns else pl.lit(1.0)),
        direction=(pl.col("direction") if "direction" in values.columns else pl.lit("lower_is_better")),
    ).with_columns(
        pl.col("numerator", "denominator").cast(pl.Float64),
    )
    for column, known in (("measure", MEASURES), ("direction", DIRECTIONS)):
        if not work[column].is_in(known).all():
            raise UsageError(f"indicator values with a {column} that is not one of {', '.join(known)}")
    size = (
        pl.when(pl.col("measure") == "standardised_ratio")
        .then(pl.col("expected"))
        .otherwise(pl.col("denominator"))
    )
    # A bare count is compared with nothing; its size is 1 only so that the arithmetic holds.
    size = pl.when(pl.col("measure") == "count").then(pl.lit(1.0)).otherwise(size)
    usable = pl.col("numerator").is_not_null() & size.is_not_null() & (size != 0)
    return work.with_columns(_size=size, _usable=usable)


def _only(part: pl.DataFrame, column: str) -> float:
    if part[column].n_unique() != 1:
        raise UsageError(f"one comparison of providers has more than one {column}")
    return float(part[column][0])


def _funnel_of(usable: pl.DataFrame) -> Funnel:
    kinds = usable["measure"].unique().to_list()
    if len(kinds) != 1:
        raise UsageError("one comparison of providers has more than one measure")
    numerator, size = usable["numerator"].to_numpy(), usable["_size"].to_numpy()
    if kinds[0] == "standardised_ratio":
        return standardised_ratio(numerator, size)
    if kinds[0] == "rate":
        return rate(numerator, size)
    if kinds[0] == "ratio_of_counts" and numerator.sum() > 0:
        return ratio_of_counts(numerator, size)
    # Counts over counts of which there is none at all have no logarithm; as a rate they are all zero.
    return rate(numerator, size) if kinds[0] == "ratio_of_counts" else proportion(numerator, size)


def _empty_columns() -> list[pl.Expr]:
    return [pl.lit(None, dtype=kind).alias(name) for name, kind in _ADDED.items()]


def _assess_one(part: pl.DataFrame) -> pl.DataFrame:
    usable, rest = part.filter("_usable"), part.filter(~pl.col("_usable"))
    rest = rest.with_columns(_empty_columns())
    if usable.is_empty():
        return rest
    if usable["measure"].unique().to_list() == ["count"]:
        counted = usable.with_columns(_empty_columns()).with_columns(
            pl.col("numerator").alias("value"), *_count_limits(usable["numerator"].to_numpy())
        )
        return pl.concat([counted, rest])
    funnel, per = _funnel_of(usable), _only(usable, "per")
    limits_95, limits_998 = (_confidence(usable, funnel, level) for level in (LEVEL_95, LEVEL_998))
    rows = funnel.rows
    columns = {
        "value": rows["value"].to_numpy() * per,
        "lower_95": limits_95.lower * per,
        "upper_95": limits_95.upper * per,
        "lower_998": limits_998.lower * per,
        "upper_998": limits_998.upper * per,
        "target": np.full(len(rows), funnel.target * per),
        **{name: rows[name].to_numpy() * per for name in LIMIT_COLUMNS},
        "z": rows["z_od"].to_numpy(),
    }
    assessed = usable.with_columns(
        *(pl.Series(name, column) for name, column in columns.items()),
        rows["band"].replace_strict(BANDS, return_dtype=pl.String).alias("band"),
        pl.Series("alert", _alert_levels(usable, funnel), dtype=pl.String),
    )
    return pl.concat([assessed, rest]) if rest.height else assessed


def _count_limits(numerator: Floats) -> list[pl.Series]:
    return [
        pl.Series(f"{end}_{name}", getattr(_count_interval(numerator, level), end))
        for name, level in (("95", LEVEL_95), ("998", LEVEL_998))
        for end in ("lower", "upper")
    ]


def _count_interval(numerator: Floats, level: float) -> Interval:
    close, exact = byar(numerator, level), poisson_exact(numerator, level)
    many = numerator >= BYAR_FROM
    return Interval(np.where(many, close.lower, exact.lower), np.where(many, close.upper, exact.upper))


def _confidence(usable: pl.DataFrame, funnel: Funnel, level: float) -> Interval:
    numerator, size = funnel.rows["observed"].to_numpy(), funnel.rows["size"].to_numpy()
    if funnel.method == "proportion":
        return wilson(numerator, size, level)
    counted = _count_interval(numerator, level)
    return Interval(counted.lower / size, counted.upper / size)


def _alert_levels(usable: pl.DataFrame, funnel: Funnel) -> list[str | None]:
    above_asks = (usable["direction"] != "higher_is_better").to_numpy()
    below_asks = (usable["direction"] != "lower_is_better").to_numpy()
    two, three = normal_deviate(LEVEL_95), normal_deviate(LEVEL_998)
    levels: list[str | None] = []
    for z, seen, size, above, below in zip(
        funnel.rows["z_od"], funnel.rows["observed"], funnel.rows["size"], above_asks, below_asks, strict=True
    ):
        events = seen if z > 0 else size * funnel.target
        asks = (above if z > 0 else below) and events >= ALERT_MINIMUM_EVENTS
        levels.append(("alarm" if abs(z) > three else "alert" if abs(z) > two else None) if asks else None)
    return levels


def _sentence(row: Mapping[str, object], name: str) -> str:
    measure = str(
        row.get("measure") or ("proportion" if row.get("expected") is None else "standardised_ratio")
    )
    per = row.get("per")
    scale = float(per) if isinstance(per, int | float) else 1.0
    value, target, z = (float(str(row[column])) for column in ("value", "target", "z"))
    if measure == "standardised_ratio":
        seen, expected = (float(str(row[column])) for column in ("numerator", "expected"))
        found = f"{seen:,.0f} observed against {expected:,.0f} expected (ratio {figure(value, measure)})"
    else:
        found = f"{figure(value, measure, scale)} against {figure(target, measure, scale)} for all providers"
    side = "above" if z > 0 else "below"
    far = "three" if row["alert"] == "alarm" else "two"
    where = "" if row["stratum"] == TOTAL_STRATUM else f", {row['stratum']}"
    return (
        f"{name}, {row['period']}{where}: provider {row['provider']} has {found}, more than {far} standard "
        f"deviations {side}; a variation to be asked about."
    )
