"""Multiplicity: how many of the flags of one comparison chance alone would raise.

Where a hundred providers are compared, five lie beyond their 95 % limits although nothing is different. The q-value
of Benjamini and Hochberg (1995, JRSS B 57:289) answers it for each provider: if everything at least as far out
were flagged, the share of those flags that chance is expected to have made. It stands beside the flag and decides
nothing: a small set of providers, or strata that overlap, make it cautious.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy.special import ndtr

from schemas.errors import UsageError
from transforms.intervals import Floats

COMPARISON = ("indicator", "version", "period")


def two_sided_p(z: ArrayLike) -> Floats:
    """Probability of a distance of at least ``z`` standard deviations, on either side, by chance.

    Raises :class:`UsageError` for a z-score that is missing or not finite.
    """
    distance = np.abs(np.atleast_1d(np.asarray(z, dtype=np.float64)))
    if not np.isfinite(distance).all():
        raise UsageError("a z-score is missing or not finite")
    return np.asarray(2 * ndtr(-distance), dtype=np.float64)


def q_values(p: ArrayLike) -> Floats:
    """The Benjamini-Hochberg q-value of each of ``p`` (0 to 1), all taken as one comparison.

    Raises :class:`UsageError` for a p-value that is missing or outside 0 to 1.
    """
    from scipy.stats import false_discovery_control  # loading it takes a second, and few commands need it

    chance = np.atleast_1d(np.asarray(p, dtype=np.float64))
    if not ((chance >= 0) & (chance <= 1)).all():
        raise UsageError("a p-value is missing or outside 0 to 1")
    if not len(chance):
        return chance
    return np.asarray(false_discovery_control(chance, method="bh"), dtype=np.float64)


def with_q_values(assessed: pl.DataFrame) -> pl.DataFrame:
    """``assessed`` with ``q_value`` (Float64) and ``compared`` (Int64: rows it was compared with, itself included).

    ``assessed``: at least indicator, version, period, stratum and z. One comparison is all providers and groups of
    one dimension of an indicator in a period: whole providers together, all age groups together, and so on. A row
    without z is in none and has neither. Rows keep their order.
    """
    dimension = pl.col("stratum").str.split(":").list.first().alias("_dimension")
    work = assessed.with_columns(dimension, _place=pl.int_range(pl.len(), dtype=pl.Int64))
    added = {"q_value": pl.Float64, "compared": pl.Int64}
    parts = []
    for part in work.filter(pl.col("z").is_not_null()).partition_by(*COMPARISON, "_dimension"):
        values = q_values(two_sided_p(part["z"].to_numpy()))
        parts.append(
            part.select(
                "_place",
                pl.Series("q_value", values, dtype=pl.Float64),
                pl.lit(part.height, dtype=pl.Int64).alias("compared"),
            )
        )
    found = pl.concat(parts) if parts else pl.DataFrame(schema={"_place": pl.Int64, **added})
    return (
        work.join(found, on="_place", how="left", maintain_order="left")
        .drop("_dimension", "_place")
        .select(*assessed.columns, *added)
    )
