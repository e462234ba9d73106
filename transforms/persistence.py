"""Persistence: for how long a provider has lain beyond its limits on the same side.

One year beyond the limits is often chance, and the next year is nearer to the others for that alone (regression to the
mean; BMJ Quality and Safety 27:950). A provider that stays there asks a question more loudly.

The periods of an indicator are those in which any provider has a value. A provider without a value in one of them
was not beyond its limits in it, so its run ends there.
"""

from __future__ import annotations

import polars as pl

from schemas.errors import UsageError

SERIES = ("indicator", "version", "provider", "stratum")
LAST_PERIODS = 5
"""How far back is looked: with yearly periods, about as long as definitions and coding stay comparable. Ours."""

ABOVE, BELOW = "above", "below"
SIDES = {"higher": ABOVE, "lower": BELOW}
_ADDED = {
    "side": pl.String,
    "beyond_since": pl.String,
    "periods_in_run": pl.Int64,
    "periods_beyond": pl.Int64,
    "periods_assessed": pl.Int64,
}


def with_persistence(assessed: pl.DataFrame, last: int = LAST_PERIODS) -> pl.DataFrame:
    """``assessed`` (indicator, version, provider, stratum, period, band) with how long it has been so.

    Adds side (above, below, or empty within the limits), beyond_since (the first period of the unbroken run on
    that side that ends here), periods_in_run, periods_beyond (of the ``last`` periods of the indicator up to this
    one, those beyond on the same side) and periods_assessed (of the same, those with a band). The first four are
    empty within the limits, the last where there is no band. Periods are compared as text, so ``2019-20`` and
    ``2019-05`` order well. Rows keep their order.

    Raises :class:`UsageError` if ``last`` is less than one, or if a provider has two values in one period.
    """
    if last < 1:
        raise UsageError("persistence looks at one period at least")
    if assessed.select(*SERIES, "period").is_duplicated().any():
        raise UsageError("a provider has two values of one indicator and stratum in one period")
    work = assessed.with_columns(
        pl.col("band").replace_strict(SIDES, default=None, return_dtype=pl.String).alias("side"),
        _row=pl.int_range(pl.len(), dtype=pl.Int64),
        _place=pl.col("period").rank("dense").over("indicator", "version").cast(pl.Int64),
    )
    ordered = work.sort(*SERIES, "_place")
    before = {name: pl.col(name).shift(1).over(SERIES) for name in ("side", "_place")}
    begins = (before["side"] != pl.col("side")) | (before["_place"] != pl.col("_place") - 1)
    ordered = ordered.with_columns(_run=begins.fill_null(True).cum_sum().over(SERIES))
    beyond = pl.col("side").is_not_null()
    run = [*SERIES, "_run"]
    ordered = ordered.with_columns(
        pl.when(beyond).then(pl.col("period").first().over(run)).alias("beyond_since"),
        pl.when(beyond)
        .then(pl.col("_place") - pl.col("_place").first().over(run) + 1)
        .alias("periods_in_run"),
    )
    recent = ordered.rolling("_place", period=f"{last}i", group_by=SERIES).agg(
        _above=(pl.col("side") == ABOVE).sum().cast(pl.Int64),
        _below=(pl.col("side") == BELOW).sum().cast(pl.Int64),
        _assessed=pl.col("band").is_not_null().sum().cast(pl.Int64),
    )
    return (
        ordered.join(recent, on=[*SERIES, "_place"], how="left", nulls_equal=True)
        .with_columns(
            pl.when(pl.col("side") == ABOVE)
            .then("_above")
            .when(pl.col("side") == BELOW)
            .then("_below")
            .alias("periods_beyond"),
            pl.when(pl.col("band").is_not_null()).then("_assessed").alias("periods_assessed"),
        )
        .sort("_row")
        .select(*assessed.columns, *(pl.col(name).cast(kind) for name, kind in _ADDED.items()))
    )
