"""Linkage of deaths: from dates of death to a capped number of days, the only thing that leaves.

A date of death is one of the seven identifiable items and may be used for one purpose: how long after
discharge a patient died. So the dates stay in the encrypted linkage store and in the frames of this module,
and what goes on to the engine is a small number of days for a spell: exact inside the stay and up to the cap
after it, and beyond that only that it was later, never when (governance section 4.2, point 4: derive before
sealing, and as little as will do).

All functions are vectorised and pure; none of them orders rows except where it says so.
"""

from __future__ import annotations

from typing import Literal

import polars as pl

from schemas.errors import UsageError

# Indicators count deaths within 30 days of discharge.
CAP_DAYS = 30

_LATEST = 2**31 - 1  # later than any date that a contract accepts; stands for "no date" while comparing
_SHIFT = 2**32
_HALF = 2**31


def one_death_per_person(deaths: pl.DataFrame) -> pl.DataFrame:
    """One row per person: the earliest registration, and within it the earliest date of death; nulls last.

    Takes ``token`` (String), ``date_of_death`` (Date), ``registered`` (Date), any number of rows per token in
    any order, and gives ``person_token``, ``date_of_death``, one row each, in order of first appearance. Rows
    without a token are left out.

    The rule is the British Heart Foundation Data Science Centre's curated table of deaths: a death is
    registered once, so a later registration for the same person is a correction or a linkage error. Their
    last tie-break, the underlying cause, is not held here, and does not change the date.
    """
    # Both dates packed into one number, so that one hash aggregation finds the row that a sort by both would
    # put first: sorting the tokens took more than twice as long (two million rows).
    registered = pl.col("registered").to_physical().cast(pl.Int64).fill_null(_LATEST)
    died = pl.col("date_of_death").to_physical().cast(pl.Int64).fill_null(_LATEST)
    first_died = (pl.col("first") % _SHIFT - _HALF).cast(pl.Int32)
    return (
        deaths.filter(pl.col("token").is_not_null())
        .group_by("token", maintain_order=True)
        .agg((registered * _SHIFT + died + _HALF).min().alias("first"))
        .select(
            pl.col("token").alias("person_token"),
            pl.when(first_died != _LATEST).then(first_died).cast(pl.Date).alias("date_of_death"),
        )
    )


def resolve(
    deaths: pl.DataFrame, bridge: pl.DataFrame, *, unmatched: Literal["keep", "drop"]
) -> pl.DataFrame:
    """Exchange tokens for those of another era or product.

    ``deaths`` has a column ``token`` and any others; ``bridge`` has ``from_token`` and ``to_token``. A token
    that the bridge leads to several persons gives a row for each; several that lead to one person stay
    several rows (see :func:`one_death_per_person`). ``unmatched="drop"`` is for bridges without which a
    token names no person (the record ids of the old death file), ``"keep"`` for those between two person
    ids, where a person may have records in one era alone. Columns and types stay as they are.
    """
    pairs = bridge.select("from_token", "to_token").drop_nulls().unique()
    joined = deaths.join(
        pairs, left_on="token", right_on="from_token", how="left", maintain_order="left_right"
    )
    if unmatched == "drop":
        joined = joined.filter(pl.col("to_token").is_not_null())
    token = pl.coalesce("to_token", "token").alias("token")
    return joined.with_columns(token).select(deaths.columns)


def days_to_death(spells: pl.DataFrame, deaths: pl.DataFrame, cap: int = CAP_DAYS) -> pl.DataFrame:
    """Whole days from discharge to death of each spell of a person with a registered death, capped both ways.

    ``spells``: ``spell_id`` (any type), ``person_token`` (String), ``admission_date``, ``discharge_date``
    (Date). ``deaths``: ``person_token``, ``date_of_death`` (Date), one row per person. Gives ``spell_id``,
    ``days_to_death`` (Int32), in the order of ``spells``; a spell whose person has no dated death, or that has no
    discharge date, has no row.

    - From minus the length of stay to ``cap`` the number is exact: the two registers differ by days, and whether
      a death fell inside the stay decides which register counts (``sql/core/spell_outcome.sql``).
    - A later death is ``cap`` + 1, whenever it was. A death before the admission is minus the length of stay
      minus 1: the link is wrong, or the dates are. Where the admission date is missing the discharge date stands
      in for it.

    Raises :class:`UsageError` if ``deaths`` has a person twice or ``cap`` does not fit.
    """
    if not 0 <= cap <= 366:
        raise UsageError("the cap on days to death is between 0 and 366")
    if deaths["person_token"].n_unique() != deaths.height:
        raise UsageError("deaths holds a person twice: reduce it to one death per person first")
    days = (pl.col("date_of_death") - pl.col("discharge_date")).dt.total_days()
    stay = (pl.col("discharge_date") - pl.coalesce("admission_date", "discharge_date")).dt.total_days()
    capped = pl.min_horizontal(pl.max_horizontal(days, -stay - 1), pl.lit(cap + 1))
    return (
        spells.select("spell_id", "person_token", "admission_date", "discharge_date")
        .filter(pl.col("discharge_date").is_not_null())
        .join(
            deaths.select("person_token", "date_of_death").drop_nulls(),
            on="person_token",
            how="inner",
            maintain_order="left",
        )
        .select("spell_id", capped.cast(pl.Int32).alias("days_to_death"))
    )
