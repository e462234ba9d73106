"""Persistence: for how long a provider has lain beyond its limits on the same side.

One year beyond the limits is often chance, and the next year is nearer to the others for that alone (regression to the
mean; BMJ Quality and Safety 27:950). A provider that stays there asks a question more loudly.

The periods of an indicator are those in which any provider has a value. A provider without a value in one of them
was not beyond its limits in it, so its run ends there.

After a merger the earlier periods of a provider stand under other codes. What they count for:

* its own value comes first: where a provider has values of its own from before a succession, those are its history, and
  nothing of the code that it took over is added (a trust that absorbs a small one is still that trust);
* otherwise the periods before its first value are those of its predecessors, and of theirs in turn, from the day of the
  succession on and never before it;
* with several predecessors in a period, all of those that were compared must have lain beyond the limits on the same
  side for the period to count as beyond; if they differ it counts as within them. A merged provider is not held to the
  history of one of its parts.

The rule is ours. It looks at one indicator and stratum at a time. Indicators that count the spells of old codes under
the successor (``shmi``) have no values under old codes, so for them nothing is added.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Final

import polars as pl

from schemas.errors import UsageError

SERIES = ("indicator", "version", "provider", "stratum")
LAST_PERIODS = 5
"""How far back is looked: with yearly periods, about as long as definitions and coding stay comparable. Ours."""

ABOVE, BELOW = "above", "below"
SIDES = {"higher": ABOVE, "lower": BELOW}
WITHIN = "as expected"
_YEAR: Final = re.compile(r"(\d{4})-(\d{2})")
_ADDED = {
    "side": pl.String,
    "beyond_since": pl.String,
    "periods_in_run": pl.Int64,
    "periods_beyond": pl.Int64,
    "periods_assessed": pl.Int64,
}


def with_persistence(
    assessed: pl.DataFrame, last: int = LAST_PERIODS, successions: pl.DataFrame | None = None
) -> pl.DataFrame:
    """``assessed`` (indicator, version, provider, stratum, period, band) with how long it has been so.

    Adds side (above, below, or empty within the limits), beyond_since (the first period of the unbroken run on
    that side that ends here), periods_in_run, periods_beyond (of the ``last`` periods of the indicator up to this
    one, those beyond on the same side) and periods_assessed (of the same, those with a band). The first four are
    empty within the limits, the last where there is no band. Periods are compared as text, so ``2019-20`` and
    ``2019-05`` order well. Rows keep their order.

    ``successions``: predecessor, successor, since (date), one row for each step and none in a circle
    (:meth:`schemas.provider_reference.ProviderReference.successions`); what they do is said above.

    Raises :class:`UsageError` if ``last`` is less than one, if a provider has two values in one period, or if
    successions run in a circle.
    """
    if last < 1:
        raise UsageError("persistence looks at one period at least")
    if assessed.select(*SERIES, "period").is_duplicated().any():
        raise UsageError("a provider has two values of one indicator and stratum in one period")
    rows = assessed.with_columns(_row=pl.int_range(pl.len(), dtype=pl.Int64))
    work = pl.concat([rows, *_inherited(rows, successions)], how="diagonal").with_columns(
        pl.col("band").replace_strict(SIDES, default=None, return_dtype=pl.String).alias("side"),
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
        .filter(pl.col("_row").is_not_null())
        .sort("_row")
        .select(*assessed.columns, *(pl.col(name).cast(kind) for name, kind in _ADDED.items()))
    )


def _inherited(rows: pl.DataFrame, successions: pl.DataFrame | None) -> Iterator[pl.DataFrame]:
    """The periods of predecessors under the code of their successor: ``SERIES``, period, band; no ``_row``."""
    if successions is None or successions.is_empty():
        return
    concerned = pl.concat([successions["predecessor"], successions["successor"]]).unique()
    held = rows.select(*SERIES, "period", "band").filter(pl.col("provider").is_in(concerned.implode()))
    ends = {period: _last_month(period) for period in held["period"].drop_nulls().unique()}
    for successor, before in _oldest_first(successions):
        own = held.filter(pl.col("provider") == successor)
        first = own.group_by("indicator", "version", "stratum").agg(
            pl.col("period").min().alias("_first"),
            pl.col("period").min().replace_strict(ends, return_dtype=pl.String).alias("_from"),
        )
        taken = (
            held.join(before, left_on="provider", right_on="predecessor")
            .join(first, on=["indicator", "version", "stratum"], nulls_equal=True)
            .filter(pl.col("period") < pl.col("_first"), pl.col("since") <= pl.col("_from"))
            .group_by("indicator", "version", "stratum", "period", maintain_order=True)
            .agg(
                pl.when(pl.col("band").drop_nulls().n_unique() <= 1)
                .then(pl.col("band").drop_nulls().first())
                .otherwise(pl.lit(WITHIN))
                .alias("band")
            )
            .with_columns(provider=pl.lit(successor))
            .select(held.columns)
        )
        held = pl.concat([held, taken])
        yield taken


def _oldest_first(successions: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Each successor with its predecessors (predecessor, since as ``YYYY-MM``); one that is itself a predecessor comes
    before those that follow it, so that a chain is inherited whole."""
    steps: dict[str, list[tuple[str, date]]] = {}
    for predecessor, successor, since in successions.select("predecessor", "successor", "since").iter_rows():
        steps.setdefault(successor, []).append((predecessor, since))
    ordered: list[str] = []
    waiting = sorted(steps)
    while waiting:
        ready = [code for code in waiting if not any(old in waiting for old, _ in steps[code])]
        if not ready:
            raise UsageError("successions of providers run in a circle")
        ordered += ready
        waiting = [code for code in waiting if code not in ready]
    schema = {"predecessor": pl.String, "since": pl.String}
    return [
        (
            code,
            pl.DataFrame(
                [(old, f"{since:%Y-%m}") for old, since in steps[code]], schema=schema, orient="row"
            ),
        )
        for code in ordered
    ]


def _last_month(period: str) -> str:
    """The month in which a period ends, ``YYYY-MM``: of ``2019-20`` that is 2020-03, of ``2019-07 to 2020-06`` 2020-06.
    Two digits that follow the year's own are a financial year, as the periods of all indicators with limits are."""
    end = period[-7:]
    found = _YEAR.fullmatch(end)
    if found is None:
        return end
    year, second = int(found[1]), int(found[2])
    return f"{year + 1}-03" if second == (year + 1) % 100 and len(period) == len(end) else end
