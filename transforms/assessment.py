"""The assessment of indicator values: limits, distance from the target, band, and what is worth a question.

Every set of providers that is compared (one indicator, version, period and stratum) is put in one funnel
(:mod:`transforms.funnel`). ``band`` says where a value lies against the 95 % over-dispersed limits. ``alert``
is raised on the side that asks a question: beyond 95 % ("alert", about two standard deviations) or beyond 99.8 %
("alarm", about three), as national clinical audits do (HQIP outlier guidance, ``schemas/policy/outlier_stages.yaml``).
Both are variation to be asked about and never a verdict: regression to the mean, coding and chance explain many of
them, so each is shown with how long it has been so and how many of its kind chance would raise.

With fewer than nine or ten providers nothing is trimmed, so that one far from the others widens the limits
it is judged by. That is the official method; a small set finds less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from schemas.errors import UsageError
from schemas.published import DIRECTIONS, MEASURES, TOTAL_STRATUM
from transforms.cusum import SUM_ROUNDING
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
from transforms.multiplicity import with_q_values
from transforms.persistence import ABOVE, with_persistence

BANDS = {HIGHER: "higher", AS_EXPECTED: "as expected", LOWER: "lower"}
GROUP = ("indicator", "version", "period", "stratum")
COMPARED = ("indicator", "version", "period", "_compared")
SITE = "site:"
"""Strata that begin so are compared with each other: each has one provider, and a funnel of one says nothing."""
ROW = ("indicator", "version", "period", "provider", "stratum")

EXPECTED = "as expected"
ALERT, ALARM = "alert", "alarm"
CUSUM_SIGNAL = "cusum signal"
LEVELS = (EXPECTED, ALERT, ALARM, CUSUM_SIGNAL)
ASSESSMENT: dict[str, pl.DataType] = {
    **{name: pl.String() for name in (*ROW, "level", "side")},
    **{name: pl.Float64() for name in ("numerator", "denominator", "expected", "value", "target", "z")},
    **{name: pl.Float64() for name in LIMIT_COLUMNS if name.startswith("od_")},
    "cusum": pl.Float64(),
    "threshold": pl.Float64(),
    "q_value": pl.Float64(),
    "compared": pl.Int64(),
    "beyond_since": pl.String(),
    **{name: pl.Int64() for name in ("periods_in_run", "periods_beyond", "periods_assessed")},
    "note": pl.String(),
    "sentence": pl.String(),
}
"""Columns of the tables ``assessment`` and ``alert``."""

ALERT_MINIMUM_EVENTS = 5
"""Fewer events than this, seen on the high side or expected on the low side, never raise an alert: one death in a
service with five patients is far from any target and tells nothing. The national maternity audit withholds hospital
results below five events for the same reason (maternityaudit.org.uk, frequently asked questions)."""

BYAR_FROM = 10
"""Byar's approximation is used from this count on, the exact Poisson interval below it, as public health
practice has it (PHEindicatormethods)."""

CURVE_POINTS = 60

NO_INTERVAL = "none"
CONFIDENCE = ("lower_95", "upper_95", "lower_998", "upper_998")
_ADDED: dict[str, pl.DataType] = {
    **{name: pl.Float64() for name in ("value", *CONFIDENCE, "target")},
    **{name: pl.Float64() for name in (*LIMIT_COLUMNS, "z")},
    "band": pl.String(),
    "alert": pl.String(),
}


def assess(values: pl.DataFrame) -> pl.DataFrame:
    """Add value, limits, z, band and alert to indicator values.

    ``values``: indicator, version, period, provider, stratum, numerator, denominator, expected; optionally
    ``measure`` (else a standardised ratio where ``expected`` is given and a proportion where it is not),
    ``per`` (else 1), ``direction`` (else lower_is_better) and ``interval_method``: with ``none`` a value gets no
    confidence limits; any other gets those of its measure.

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
    parts = [_assess_one(part) for part in work.partition_by(COMPARED, maintain_order=True)]
    done = pl.concat(parts).sort("_row") if parts else work.with_columns(_empty_columns())
    if "interval_method" in values.columns:
        without = pl.col("interval_method") == NO_INTERVAL
        done = done.with_columns(
            pl.when(without.fill_null(False).not_()).then(name).alias(name) for name in CONFIDENCE
        )
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


def assessments(
    assessed: pl.DataFrame,
    names: Mapping[str, str] | None = None,
    charts: pl.DataFrame | None = None,
    successions: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """What is to be said of every provider, indicator and stratum that was compared, for table ``assessment``.

    ``assessed``: all values, from :func:`assess`, with measure, per and direction where they had them. Rows that
    could not be compared (no band) are left out. ``names`` gives indicators a name for people. ``charts``: points
    of CUSUM charts as :func:`cusum_assessments` takes them. ``successions``: of providers, as
    :func:`transforms.persistence.with_persistence` takes them.

    ``level`` is ``as expected``, ``alert``, ``alarm`` or ``cusum signal``; beside it the numbers that explain it,
    persistence (:mod:`transforms.persistence`), multiplicity (:mod:`transforms.multiplicity`), a note where a value
    lies beyond its limits and is still ``as expected``, and for every other level a sentence. Columns and types:
    ``ASSESSMENT``. Sorted by distance from the target, farthest first, and CUSUM rows after the others.
    """
    shown = names or {}
    compared = with_q_values(with_persistence(assessed, successions=successions)).filter(
        pl.col("band").is_not_null()
    )
    missing = {
        name: kind
        for name, kind in {"measure": pl.String, "per": pl.Float64, "direction": pl.String}.items()
        if name not in compared.columns
    }
    rows = (
        compared.with_columns(pl.lit(None, dtype=kind).alias(name) for name, kind in missing.items())
        .with_columns(
            pl.col("alert").fill_null(EXPECTED).alias("level"),
            _note().alias("note"),
            pl.lit(None, dtype=pl.Float64).alias("cusum"),
            pl.lit(None, dtype=pl.Float64).alias("threshold"),
            _far=pl.col("z").abs(),
        )
        .sort("_far", *ROW, descending=[True] + [False] * len(ROW))
    )
    sentence = _sentences(rows, _sentence, shown)
    found = rows.with_columns(sentence).select(pl.col(name).cast(kind) for name, kind in ASSESSMENT.items())
    return found if charts is None else pl.concat([found, cusum_assessments(charts, shown)])


def alerts(
    assessed: pl.DataFrame,
    names: Mapping[str, str] | None = None,
    charts: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The rows of :func:`assessments` that ask a question, for table ``alert``; arguments as there."""
    return assessments(assessed, names, charts).filter(pl.col("level") != EXPECTED)


def cusum_assessments(charts: pl.DataFrame, names: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Rows of table ``assessment`` for points of CUSUM charts: a signal where the sum reaches the threshold.

    ``charts``: indicator, version, period (the month of the point), provider, stratum, observed, expected, cusum,
    threshold; optionally ``cases`` and ``beyond_since`` (the month in which the run behind the signal began).
    observed, expected and cases are those of that run. Where a chart signalled more than once in a month the
    signal with the most cases observed stands for it. A CUSUM has no z, no limits and no q-value, and its
    persistence is the run itself.

    Columns: ``ASSESSMENT``, sorted by ``ROW``. Raises :class:`UsageError` for a missing column, and for a number
    that is missing, not finite or negative.
    """
    needed = [*ROW, "observed", "expected", "cusum", "threshold"]
    missing = sorted(set(needed) - set(charts.columns))
    if missing:
        raise UsageError(f"CUSUM signals without the column(s) {', '.join(missing)}")
    numbers = pl.col("observed", "expected", "cusum", "threshold").cast(pl.Float64)
    work = charts.with_columns(numbers)
    wrong = work.select(pl.any_horizontal(((~numbers.is_finite()) | (numbers < 0)).fill_null(True)).sum())
    if wrong.item():
        raise UsageError(
            f"{wrong.item()} CUSUM signals have a number that is missing, negative or not finite"
        )
    for name, kind in (("cases", pl.Float64()), ("beyond_since", pl.String())):
        if name not in work.columns:
            work = work.with_columns(pl.lit(None, dtype=kind).alias(name))
    signal = pl.col("cusum") >= pl.col("threshold") - SUM_ROUNDING
    work = (
        work.with_columns(
            level=pl.when(signal).then(pl.lit(CUSUM_SIGNAL)).otherwise(pl.lit(EXPECTED)),
            side=pl.when(signal).then(pl.lit(ABOVE)),
            numerator="observed",
            denominator="cases",
            value=pl.when(pl.col("expected") > 0).then(pl.col("observed") / pl.col("expected")),
            target=pl.lit(1.0),
        )
        .sort(*ROW, "level", "observed", "cusum", descending=[False] * 5 + [True] * 3)
        .unique(ROW, keep="first", maintain_order=True)
    )
    shown = names or {}
    sentence = _sentences(work, _cusum_sentence, shown)
    return work.with_columns(sentence).select(
        (pl.col(name) if name in work.columns or name == "sentence" else pl.lit(None)).cast(kind).alias(name)
        for name, kind in ASSESSMENT.items()
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
    compared = pl.when(pl.col("stratum").str.starts_with(SITE)).then(pl.lit(SITE)).otherwise("stratum")
    return work.with_columns(_size=size, _usable=usable, _compared=compared)


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
    above_asks = (~usable["direction"].is_in(["higher_is_better", "context"])).to_numpy()
    below_asks = (~usable["direction"].is_in(["lower_is_better", "context"])).to_numpy()
    two, three = normal_deviate(LEVEL_95), normal_deviate(LEVEL_998)
    levels: list[str | None] = []
    for z, seen, size, above, below in zip(
        funnel.rows["z_od"], funnel.rows["observed"], funnel.rows["size"], above_asks, below_asks, strict=True
    ):
        events = seen if z > 0 else size * funnel.target
        asks = (above if z > 0 else below) and events >= ALERT_MINIMUM_EVENTS
        levels.append((ALARM if abs(z) > three else ALERT if abs(z) > two else None) if asks else None)
    return levels


def _sentences(
    rows: pl.DataFrame, write: Callable[[Mapping[str, object], str], str], names: Mapping[str, str]
) -> pl.Series:
    """Column ``sentence``: ``write`` of every row that asks a question, nothing for the others, which are many."""
    asking = (rows["level"] != EXPECTED).arg_true()
    found: list[str | None] = [None] * rows.height
    for place, row in zip(asking, rows[asking].iter_rows(named=True), strict=True):
        found[place] = write(row, names.get(row["indicator"], row["indicator"]))
    return pl.Series("sentence", found, dtype=pl.String)


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
    side = "high" if z > 0 else "low"
    limits = "99.8 %" if row["alert"] == ALARM else "95 %"
    run = int(str(row["periods_in_run"] or 1))
    since = f", for {run} periods in a row now" if run > 1 else ""
    return (
        f"{_what(row, name)} has {found}, beyond the {limits} limits on the {side} side{since}; "
        "a variation to be asked about."
    )


def _cusum_sentence(row: Mapping[str, object], name: str) -> str:
    seen, expected, cusum, threshold = (
        float(str(row[column])) for column in ("observed", "expected", "cusum", "threshold")
    )
    since = "" if row["beyond_since"] is None else f" since {row['beyond_since']}"
    return (
        f"{_what(row, name)} has {seen:,.0f} observed against {expected:,.1f} expected{since}, and its cumulative "
        f"sum has reached {cusum:.2f} at a threshold of {threshold:.2f}; a variation to be asked about."
    )


def _what(row: Mapping[str, object], name: str) -> str:
    where = "" if row["stratum"] == TOTAL_STRATUM else f", {row['stratum']}"
    return f"{name}, {row['period']}{where}: provider {row['provider']}"


def _note() -> pl.Expr:
    """Why a value beyond its limits is not flagged."""
    above = pl.col("side") == ABOVE
    direction = pl.col("direction").fill_null("lower_is_better")
    better = pl.when(above).then(pl.lit("higher_is_better")).otherwise(pl.lit("lower_is_better"))
    silent = (direction == better) | (direction == "context")
    return (
        pl.when(pl.col("side").is_null() | pl.col("alert").is_not_null())
        .then(pl.lit(None, dtype=pl.String))
        .when(silent)
        .then(pl.lit("beyond the limits on the side that asks no question"))
        .when(above)
        .then(pl.lit(f"beyond the limits with fewer than {ALERT_MINIMUM_EVENTS} events seen"))
        .otherwise(pl.lit(f"beyond the limits with fewer than {ALERT_MINIMUM_EVENTS} events expected"))
    )
