"""Case mix: what patients bring with them that has a part in whether they die, whoever treats them.

Each record (a provider spell) gets a level of every factor in ``schemas/shmi/case_mix.yaml``. Records with the same
diagnosis group and the same levels are one covariate pattern, a row with counts of spells and deaths. The counts are
all that a model needs (:mod:`transforms.mortality_model`), add up over any division of the records, and are a
fraction of their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from math import prod
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.shmi_reference import CaseMix, Factor

Integers = NDArray[np.int64]

GROUP: Final = "diagnosis_group"
NUMBER: Final = "pattern"
LARGEST_NUMBER: Final = 2**63 - 1
COUNTS: Final = {"spells": pl.Int64(), "deaths": pl.Int64()}
MONTHS: Final = 12


def year_index(discharge: pl.Expr, last_day: date) -> pl.Expr:
    """1 for a discharge in the twelve months that end with the month of ``last_day``, 2 for the twelve before, and
    so on; 0 or less for a later discharge, null without one. Int64."""
    last_month = last_day.year * MONTHS + last_day.month
    month = discharge.dt.year().cast(pl.Int64) * MONTHS + discharge.dt.month().cast(pl.Int64)
    return (last_month - month).floordiv(MONTHS) + 1


def level(factor: Factor) -> pl.Expr:
    """The level of ``factor`` as an expression over its column (and ``diagnosis_group``, for a factor that only some
    groups have). Null where no level fits and none takes the rest."""
    value = pl.col(factor.column)
    rest = [entry.level for entry in factor.levels if entry.otherwise]
    found = pl.lit(rest[0] if rest else None, dtype=pl.String)
    for entry in factor.levels:
        if entry.first is not None and entry.last is None:
            fits = value >= entry.first
        elif entry.first is not None:
            fits = value.is_between(entry.first, entry.last)
        else:
            fits = value.is_in(entry.codes)
        if not entry.otherwise:
            found = pl.when(fits).then(pl.lit(entry.level)).otherwise(found)
    if factor.groups is not None:
        inside = pl.col(GROUP).is_in(factor.groups.only)
        found = pl.when(inside).then(found).otherwise(pl.lit(factor.groups.elsewhere))
    return found.cast(factor.dtype).alias(factor.name)


def add_levels(records: pl.DataFrame, mix: CaseMix) -> pl.DataFrame:
    """``records`` with a column (Enum) for each factor of ``mix``, which replaces one of that name.

    Needs the columns that the factors are read from (start_age, sex, admission_method, charlson_index, year_index,
    admission_month, birth_weight_grams) and ``diagnosis_group`` (integer, null where there is none). Raises
    :class:`UsageError` when one is missing.
    """
    needed = {GROUP, *(factor.column for factor in mix.factors)}
    missing = sorted(needed - set(records.columns))
    if missing:
        raise UsageError(f"records without the column(s) {', '.join(missing)}")
    # All from the columns as they came: a factor may be called like the column it is read from.
    return records.with_columns(level(factor) for factor in mix.factors)


def steps(mix: CaseMix) -> dict[str, int]:
    """What one more adds to the number of a pattern: of ``diagnosis_group``, then of the place of the level in each
    factor of ``mix``. The last factor changes fastest."""
    sizes = [len(factor.level_names) for factor in mix.factors]
    names = (GROUP, *mix.factor_names)
    return {name: prod(sizes[place:]) for place, name in enumerate(names)}


def places(number: pl.Series, mix: CaseMix) -> dict[str, Integers]:
    """``diagnosis_group`` and the place of the level in each factor (0 is the first), from the numbers of patterns."""
    rest = number.to_numpy().astype(np.int64)
    found = {}
    for factor in reversed(mix.factors):
        rest, found[factor.name] = np.divmod(rest, len(factor.level_names))
    return {GROUP: rest, **{name: found[name] for name in mix.factor_names}}


def patterns(records: pl.DataFrame, mix: CaseMix, by: Sequence[str] = ()) -> pl.DataFrame:
    """Covariate patterns: one row per ``by``, diagnosis group and combination of levels, sorted.

    ``records``: those of :func:`add_levels` with ``died`` (Boolean) and the columns ``by``, such as the provider.
    Records without a diagnosis group belong to no model and are left out. Returns by..., diagnosis_group (Int64), the
    factors (Enum), spells, deaths (Int64). Raises :class:`UsageError` for records without an outcome or a level.
    """
    covered = _typed(records.drop_nulls(GROUP) if records[GROUP].has_nulls() else records, mix)
    needed = ["died", *mix.factor_names]
    for name, count in covered.select(pl.col(needed).null_count()).row(0, named=True).items():
        if count:
            raise UsageError(f"{count} records without {name}")
    counted = _counted(_numbered(covered, mix, [*by, "died"]), by, pl.len(), pl.col("died").sum())
    return _named(counted, mix, by)


def combine(parts: Iterable[pl.DataFrame], mix: CaseMix, by: Sequence[str] = ()) -> pl.DataFrame:
    """The patterns of all records from the patterns of parts of them; also, with fewer columns ``by``, the patterns
    of all providers from those of each. Levels may be text.

    Raises :class:`UsageError` for a part without the columns of :func:`patterns`, with a level that does not exist or
    with counts that cannot be.
    """
    return _named(_summed(parts, mix, by), mix, by)


def numbered(patterns: pl.DataFrame, mix: CaseMix) -> pl.DataFrame:
    """``patterns`` with one number (see :func:`steps`) for group and levels: pattern, spells, deaths (Int64), sorted by
    pattern, each once; further columns are summed over. Raises :class:`UsageError` as :func:`combine` does."""
    return _summed([patterns], mix, ())


def _summed(parts: Iterable[pl.DataFrame], mix: CaseMix, by: Sequence[str]) -> pl.DataFrame:
    found = [_numbered(_checked(part, mix, by), mix, [*by, *COUNTS]) for part in parts]
    if not found:
        raise UsageError("there is no table of patterns to combine")
    together = pl.concat(found)
    # What comes sorted with no pattern twice, as from `patterns`, is already the sum.
    if not by and together.select((pl.col(NUMBER).diff().drop_nulls() > 0).all()).item():
        return together.select(NUMBER, *COUNTS)
    return _counted(together, by, pl.col("spells").sum(), pl.col("deaths").sum())


def _numbered(typed: pl.DataFrame, mix: CaseMix, keep: Sequence[str]) -> pl.DataFrame:
    """The columns ``keep`` and the number of the pattern: a whole number is grouped and sorted several times as fast as
    eight columns."""
    step = steps(mix)
    group = typed[GROUP]
    if typed.height and max(abs(int(group.min())), abs(int(group.max()))) >= LARGEST_NUMBER // step[GROUP]:  # type: ignore[arg-type]
        raise UsageError("diagnosis groups and levels have more combinations than can be numbered")
    parts = [pl.col(name).to_physical().cast(pl.Int64) * step[name] for name in mix.factor_names]
    number = pl.sum_horizontal(pl.col(GROUP) * step[GROUP], *parts)
    return typed.select(*keep, number.alias(NUMBER))


def _counted(numbered: pl.DataFrame, by: Sequence[str], spells: pl.Expr, deaths: pl.Expr) -> pl.DataFrame:
    counts = spells.cast(pl.Int64).alias("spells"), deaths.cast(pl.Int64).alias("deaths")
    return numbered.lazy().group_by(*by, NUMBER).agg(*counts).sort(*by, NUMBER).collect(engine="streaming")


def _named(counted: pl.DataFrame, mix: CaseMix, by: Sequence[str]) -> pl.DataFrame:
    """The numbers as diagnosis group and levels again."""
    place = places(counted[NUMBER], mix)
    levels = [
        pl.Series(factor.level_names, dtype=factor.dtype).gather(place[factor.name]).alias(factor.name)
        for factor in mix.factors
    ]
    return pl.DataFrame(
        [*counted.select(by), pl.Series(GROUP, place[GROUP], pl.Int64), *levels, *counted.select(*COUNTS)]
    )


def _typed(table: pl.DataFrame, mix: CaseMix) -> pl.DataFrame:
    """Group as Int64 and levels as Enum; a level that is not in the case mix becomes null."""
    return table.with_columns(
        pl.col(GROUP).cast(pl.Int64),
        *(
            pl.col(factor.name).cast(pl.String).cast(factor.dtype, strict=False)
            for factor in mix.factors
            if table.schema[factor.name] != factor.dtype
        ),
    )


def _checked(part: pl.DataFrame, mix: CaseMix, by: Sequence[str]) -> pl.DataFrame:
    missing = [name for name in (*by, GROUP, *mix.factor_names, *COUNTS) if name not in part.columns]
    if missing:
        raise UsageError(f"patterns without the column(s) {', '.join(missing)}")
    typed = _typed(part, mix).with_columns(pl.col(name).cast(kind) for name, kind in COUNTS.items())
    for name, count in (
        typed.select(pl.col(GROUP, *mix.factor_names, *COUNTS).null_count()).row(0, named=True).items()
    ):
        if count:
            raise UsageError(f"{count} patterns with no {name}, or one that is not in the case mix")
    wrong = typed.filter(~pl.col("deaths").is_between(0, pl.col("spells"))).height
    if wrong:
        raise UsageError(f"{wrong} patterns with fewer than no deaths or with more deaths than spells")
    return typed
