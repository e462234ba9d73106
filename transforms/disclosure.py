"""Disclosure control: what of an exact table may be shown to the public.

Everything public is a function of the cells that :func:`protect` leaves: rates, targets, limits and bands are
computed again from the rounded numbers (:func:`public_values`), so no figure carries more than its cells do.

1. *Primary.* A count in the hidden range of its rule (HES 1 to 7, MHSDS 0 to 4) is hidden, and so is a
   count of people that falls short of everyone by as little ("all but two"). Others are rounded to the
   nearest 5, halves up. A hidden denominator hides its whole row. An expected number is rounded like a
   count and hidden with the observed one, because the expected numbers of all providers add up to the
   observed ones.
2. *Secondary.* The groups of a dimension add up to the row ``all``. Rounding leaves every shown cell
   uncertain by two either way, and that is not enough: twelve hidden ones next to a total of ten are all
   ones, and four hidden sevens next to a total of thirty are all sevens. So as soon as one group is
   hidden, every group at or below the hidden range (zero included) and the smallest group above it are
   hidden as well; when the shown numbers then still leave the hidden ones less than the whole hidden range
   to move in, all groups are hidden; and when the total is hidden, all its groups are. Which cells are
   hidden then no longer tells which of them are small.
3. *Tiny services.* A provider whose whole denominator is below the floor, or not known, is left out
   (NEEDS_DISCUSSION).
4. *Other releases and versions.* A number that differs by 1 to 7 from that of an earlier release, or of another
   version of the indicator, is hidden: the numerator of its row, and the denominator if it moved itself, see
   :func:`changed_little`.
5. *Overlaps.* Periods that contain one another, and a provider together with its own sites, are refused:
   their differences are cells that nobody controlled.

6. *Comparisons.* Where any provider is hidden, target, limits and bands of the comparison are not shown
   (:func:`public_values`).

Not covered, and said so: figures that others publish about the same people, and what somebody already knows
about everybody in a group but one; windows of twelve months that overlap from one release to the next (their
labels differ, so they are not compared); the difference of two indicators about the same people, which can
narrow a hidden count and has not given one away in any attack tried. The national level is not part of the
public set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import polars as pl

from schemas.disclosure_policy import DisclosurePolicy, DisclosureRule
from schemas.errors import DisclosureRefused
from schemas.published import TOTAL_STRATUM
from transforms.assessment import assess, funnel_limits
from transforms.funnel import LIMIT_COLUMNS

ROW = ("indicator", "version", "period", "provider", "stratum")
WHOLE = ROW[:-1]
ACROSS_VERSIONS = tuple(name for name in ROW if name != "version")
CHANGED = {**{name: pl.String for name in ROW}, "denominator_moved": pl.Boolean}
"""Columns of what :func:`changed_little` finds."""

SHOWN = "shown"
SUPPRESSED = "suppressed"
NEEDS_DISCUSSION = "needs_discussion"
PEOPLE_MEASURES = ("proportion", "standardised_ratio")
"""Measures whose numerator is part of the people in the denominator: "all but two" means something."""


def rounded(count: float, base: int) -> int:
    """``count`` to the nearest multiple of ``base``, halves up: 2.5 to 5, 7.5 to 10, 12 to 10."""
    return base * math.floor(count / base + 0.5)


def shown_count(count: float | None, rule: DisclosureRule) -> int | None:
    """One count under ``rule``: rounded, or None where it is hidden or there was none.

    A hidden count is None and never 0 or a number that stands for "hidden". A count below zero or not a
    number raises :class:`DisclosureRefused`: something is wrong upstream and nothing may be released.
    """
    if count is None:
        return None
    if not math.isfinite(count) or count < 0:
        raise DisclosureRefused("a count is negative or not a number")
    if _is_hidden(count, rule):
        return None
    return rounded(count, rule.round_to)


def shown_mean(mean: float | None, values: int, rule: DisclosureRule) -> float | None:
    """A mean, median or quantile over ``values`` people: None below ``rule.mean_from``."""
    if values < 0:
        raise DisclosureRefused("a mean over a negative number of values")
    return mean if values >= rule.mean_from else None


def _is_hidden(count: float, rule: DisclosureRule) -> bool:
    return count < rule.hide_to + 1 and (count > 0 or rule.hide_from == 0)


def refuse_overlaps(values: pl.DataFrame) -> None:
    """Raise :class:`DisclosureRefused` where two rows of one indicator are about overlapping people.

    ``values``: indicator, version, period, provider. Refused: periods of different forms (a month beside a
    year), two months of one financial year (``YYYYnn`` is cumulative), and a provider code that begins with
    another one (a site beside its trust).
    """
    for part in values.partition_by("indicator", "version"):
        periods = sorted(part["period"].unique().to_list())
        forms = {"".join("9" if letter.isdigit() else letter for letter in period) for period in periods}
        years = [period[:4] for period in periods]
        if len(forms) > 1 or ("999999" in forms and len(set(years)) < len(years)):
            raise DisclosureRefused(
                "an indicator has periods that overlap: their difference would be an uncontrolled figure",
                next_step="release one kind of period at a time",
            )
        codes = sorted(part["provider"].unique().to_list())
        if any(after.startswith(before) for before, after in pairwise(codes)):
            raise DisclosureRefused(
                "an indicator has a provider beside its own sites: their difference would be uncontrolled",
                next_step="release one level at a time",
            )


def changed_little(now: pl.DataFrame, before: pl.DataFrame, policy: DisclosurePolicy) -> pl.DataFrame:
    """The keys (``ROW``) of exact rows whose numbers moved, but by no more than the policy's small change, and
    ``denominator_moved``: whether the denominator is one of them.

    ``now`` and ``before``: the exact indicator values of this run and of one released earlier. Versions of an
    indicator count the same people, so each row is held against all versions.
    """
    both = now.select(*ROW, "numerator", "denominator").join(
        before.select(*ACROSS_VERSIONS, "numerator", "denominator"),
        on=ACROSS_VERSIONS,
        how="inner",
        suffix="_before",
    )
    counted = [
        pl.col("numerator") - pl.col("numerator_before"),
        pl.col("denominator") - pl.col("denominator_before"),
        pl.col("denominator")
        - pl.col("numerator")
        - pl.col("denominator_before")
        + pl.col("numerator_before"),
    ]
    numerator, denominator, others = [  # in the order of ``counted``
        (change != 0) & (change.abs() <= policy.difference.hide_change_to) for change in counted
    ]
    return (
        both.filter(pl.any_horizontal(numerator, denominator, others))
        .group_by(ROW)
        .agg(denominator.fill_null(False).any().alias("denominator_moved"))
        .sort(ROW)
    )


def protect(
    values: pl.DataFrame,
    indicators: pl.DataFrame,
    policy: DisclosurePolicy,
    changed: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The cells of ``values`` as they may be shown.

    ``values``: exact rows (``ROW``, numerator, denominator, expected). ``indicators``: indicator, version,
    measure, per, direction, interval_method, datasets. ``changed``: rows to hide as well (:func:`changed_little`).

    Returns ``ROW``, numerator, denominator and expected as shown (null where hidden), measure, per, direction
    and ``state``: shown, suppressed (the numerator is hidden) or needs_discussion (all numbers hidden). Rows
    of the national level are left out. Sorted by ``ROW``.

    Raises :class:`DisclosureRefused` for overlaps, an indicator that is not declared or has no rule, and
    counts that are negative or not numbers.
    """
    local = values.filter(~pl.col("provider").is_in(policy.national_providers))
    refuse_overlaps(local)
    work = _with_rules(local, indicators, policy)
    counts = pl.col("numerator", "denominator", "expected")
    if work.select(pl.any_horizontal((counts < 0) | ~counts.is_finite()).any()).item():
        raise DisclosureRefused("a count is negative or not a number")

    moved = changed if changed is not None else pl.DataFrame(schema=CHANGED)
    moved = moved.group_by(ROW).agg(pl.col("denominator_moved").any()).with_columns(_moved=pl.lit(True))
    work = work.join(moved, on=ROW, how="left")
    # Ties between equally large groups are broken by name: sort first, rank in order.
    work = work.sort(ROW).with_columns(
        _moved=pl.col("_moved").fill_null(False),
        _denominator_moved=pl.col("denominator_moved").fill_null(False),
        _total=pl.col("stratum") == TOTAL_STRATUM,
        _dimension=pl.col("stratum").str.split(":").list.first(),
        _short=pl.col("denominator") - pl.col("numerator"),
        _people=pl.col("measure").is_in(PEOPLE_MEASURES) & (pl.col("denominator") > 0),
    )
    low = pl.col("_hide_to") + 1
    all_but_few = (
        pl.col("_people") & (pl.col("_short") < low)
        if policy.complement.hide
        else pl.lit(False)  # the policy says so
    ).fill_null(False)

    def small(column: str) -> pl.Expr:
        at_zero = (pl.col("_hide_from") == 0) & (pl.col(column) == 0)
        return (((pl.col(column) > 0) & (pl.col(column) < low)) | at_zero).fill_null(False)

    work = _with_secondary(
        work,
        "denominator",
        "_hide_denominator",
        small("denominator") | pl.col("_denominator_moved"),
        pl.col("denominator") < low,
    )
    work = _with_secondary(
        work,
        "numerator",
        "_hide_numerator",
        small("numerator") | all_but_few | pl.col("_moved") | pl.col("_hide_denominator"),
        (pl.col("numerator") < low) | all_but_few,
    )
    # The whole denominator: of the row `all`, or of the largest group where there is no such row.
    whole = (
        pl.coalesce(
            pl.when("_total").then("denominator").max().over(WHOLE), pl.col("denominator").max().over(WHOLE)
        )
    ).fill_null(0)
    work = work.with_columns(_tiny=whole < policy.tiny_service.denominator_below)

    def to_base(column: str) -> pl.Expr:
        return (pl.col(column) / pl.col("_round_to") + 0.5).floor() * pl.col("_round_to")

    hide_numerator = pl.col("_hide_numerator") | pl.col("_tiny")
    expected = to_base("expected")
    return work.select(
        *ROW,
        numerator=pl.when(~hide_numerator).then(to_base("numerator")),
        denominator=pl.when(~(pl.col("_hide_denominator") | pl.col("_tiny"))).then(to_base("denominator")),
        expected=pl.when(~hide_numerator & (expected > 0)).then(expected),
        measure="measure",
        per="per",
        direction="direction",
        interval_method="interval_method",
        state=pl.when("_tiny")
        .then(pl.lit(NEEDS_DISCUSSION))
        .when(hide_numerator)
        .then(pl.lit(SUPPRESSED))
        .otherwise(pl.lit(SHOWN)),
    )


def public_values(protected: pl.DataFrame) -> pl.DataFrame:
    """Rows for the public table ``indicator_value``, from the output of :func:`protect` and nothing else.

    Tiny services are left out, limits and bands computed from the shown numbers; ``alert`` is empty,
    because a question that is still being asked is not published. Where any provider of a comparison is hidden, its
    target, limits, z and bands are empty: zeros are shown and small numbers are not, so what is left of the rates of
    rare events would say that they are rarer (or more frequent) than they are.
    """
    marked = protected.with_columns(_whole=_whole_comparison())
    kept = assess(marked.filter(pl.col("state") != NEEDS_DISCUSSION))
    compared = ("target", *LIMIT_COLUMNS, "z", "band")
    return kept.with_columns(pl.when("_whole").then(name).alias(name) for name in compared).select(
        pl.exclude("measure", "per", "direction", "interval_method", "state", "alert", "_whole"),
        pl.lit(None, dtype=pl.String).alias("alert"),
        (pl.col("state") == SUPPRESSED).alias("suppressed"),
    )


def public_limits(protected: pl.DataFrame) -> pl.DataFrame:
    """Rows for the public table ``funnel_limit``: the curves of comparisons in which no provider is hidden."""
    return funnel_limits(protected.filter(_whole_comparison()))


# the parts ------------------------------------------------------------------------------------------


def _whole_comparison() -> pl.Expr:
    return (pl.col("state") == SHOWN).all().over("indicator", "version", "period", "stratum")


def _with_rules(values: pl.DataFrame, indicators: pl.DataFrame, policy: DisclosurePolicy) -> pl.DataFrame:
    """``values`` with measure, per, direction and the numbers of their rule; refused where there is none."""
    rules = [policy.rule_for(_names(text)) for text in indicators["datasets"].to_list()]
    if "interval_method" not in indicators.columns:
        indicators = indicators.with_columns(pl.lit(None, dtype=pl.String).alias("interval_method"))
    described = indicators.select(
        "indicator", "version", "measure", "per", "direction", "interval_method"
    ).with_columns(
        pl.Series("_hide_from", [rule.hide_from for rule in rules], dtype=pl.Int64),
        pl.Series("_hide_to", [rule.hide_to for rule in rules], dtype=pl.Int64),
        pl.Series("_round_to", [rule.round_to for rule in rules], dtype=pl.Int64),
    )
    wanted = values.select(
        *ROW, *(pl.col(name).cast(pl.Float64) for name in ("numerator", "denominator", "expected"))
    )
    joined = wanted.join(described, on=["indicator", "version"], how="left")
    if joined["_hide_to"].null_count() or joined.height != values.height:
        raise DisclosureRefused("an indicator has values and no declaration, or more than one")
    return joined


def _names(text: str | None) -> Sequence[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _with_secondary(
    work: pl.DataFrame, count: str, hide: str, primary: pl.Expr, low: pl.Expr
) -> pl.DataFrame:
    """Add the column ``hide``: primary suppression of ``count``, and what it takes to keep that hidden.

    ``low`` marks counts at or below the hidden range. Expects rows sorted by ``ROW``.
    """
    group = [*WHOLE, "_dimension"]
    marked = work.with_columns(_primary=primary, _low=low.fill_null(True), _of=pl.col(count))
    candidate = pl.when(~pl.col("_low") & ~pl.col("_primary")).then("_of")
    marked = marked.with_columns(
        _rank=candidate.rank("ordinal").over(group),
        _any=pl.col("_primary").any().over(group),
        _total_hidden=(pl.col("_primary") & pl.col("_total")).any().over(WHOLE),
    )
    smallest_above = (pl.col("_rank") == 1).fill_null(False)
    marked = marked.with_columns(
        _hide=pl.col("_primary")
        | (~pl.col("_total") & pl.col("_any") & (pl.col("_low") | smallest_above))
        | (~pl.col("_total") & pl.col("_total_hidden"))
    )
    return (
        marked.with_columns(_narrow=_narrow(group))
        .with_columns((pl.col("_hide") | (~pl.col("_total") & pl.col("_narrow"))).alias(hide))
        .drop("_primary", "_low", "_of", "_rank", "_any", "_total_hidden", "_hide", "_narrow")
    )


def _narrow(group: list[str]) -> pl.Expr:
    """Whether total and shown groups, as a reader sees them, leave the hidden groups too little room.

    The reader knows: the total lies within its rounding, each shown group within its own, exactly one of the
    hidden groups lies above the hidden range and not above the smallest shown one. What is left for the
    others must reach from at most (all at the top, less one hidden range) to at least one hidden range.
    """
    slack = pl.col("_round_to") // 2
    top = pl.col("_hide_to")
    rounded_count = (pl.col("_of") / pl.col("_round_to") + 0.5).floor() * pl.col("_round_to")
    is_shown = ~pl.col("_hide") & ~pl.col("_total") & ~pl.col("_low")
    lowest = pl.max_horizontal(rounded_count - slack, top + 1)
    highest = rounded_count + slack
    total = pl.when("_total").then(rounded_count).max().over(WHOLE)
    shown_low = pl.when(is_shown).then(lowest).sum().over(group)
    shown_high = pl.when(is_shown).then(highest).sum().over(group)
    smallest_shown = pl.when(is_shown).then(highest).min().over(group)
    hidden = (pl.col("_hide") & ~pl.col("_total")).sum().over(group)
    most_left = total + slack - shown_low - (top + 1)
    least_left = total - slack - shown_high - smallest_shown
    room = (most_left >= top) & ((hidden - 1) * top - least_left >= top)
    # Without a total, or without a shown group, there is nothing to subtract from.
    return ((hidden > 0) & ~room).fill_null(False)
