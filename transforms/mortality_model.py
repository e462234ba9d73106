"""The mortality model: how likely a patient is to die within 30 days, given diagnosis group and case mix.

One logistic regression per diagnosis group on covariate patterns (:mod:`transforms.case_mix`), fitted by maximum
likelihood on the grouped counts, which gives the coefficients of a fit on the records themselves. It follows that in
every group, and in every level of every factor, expected deaths add up to the deaths observed.

Sparse levels are merged before the fit, by a rule that depends on nothing but the counts (reasons:
``infra/decisions/0120-case-mix-model.md``):

1. A level is sparse if it has fewer deaths or fewer survivors than its factor's minimum.
2. The sparsest level (smallest of its deaths and its survivors; then fewest spells; then as listed) is merged
   with the sparser of its neighbours. A level without neighbours, and a level marked *otherwise*, is merged with the
   factor's reference level. This is repeated until no level is sparse or one is left, and the factor drops out.
3. The reference level of a factor is the one with the most deaths (then most spells; then as listed).
4. A column that the columns before it determine (two factors that divide the group alike) is left out: its effect
   is that of the others.
5. Where the fit still does not converge, combinations of levels hold no deaths or no survivors and a coefficient
   runs to infinity; the level whose coefficient has gone furthest is merged by rule 2, and the group fitted again.
6. A group in which nobody or everybody died has no model; all its records are expected to die at the group's rate.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from math import log
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.shmi_reference import CaseMix, Factor
from transforms.case_mix import GROUP, NUMBER, numbered, places

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

INTERCEPT: Final = "intercept"
ALL: Final = "all"
COEFFICIENTS: Final = {
    GROUP: pl.Int64(),
    "factor": pl.String(),
    "level": pl.String(),
    "merged_into": pl.String(),
    "role": pl.String(),
    "coefficient": pl.Float64(),
    "standard_error": pl.Float64(),
    "spells": pl.Int64(),
    "deaths": pl.Int64(),
}
NEWTON_ITERATIONS: Final = 12
"""From the rates of the levels Newton's method takes three to six steps. One that has not arrived after this many is
given up, and the slower method that every group could be fitted by has the last word on whether there is an end."""
MAXIMUM_ITERATIONS: Final = 30
"""A fit that converges does so in ten; one that runs to infinity adds about one to a coefficient each time."""
TOLERANCE: Final = 1e-8
"""Largest change of a coefficient in the last step. Steps shrink quadratically, so the next is below rounding."""
LARGEST_GAP: Final = 1e-6
"""Deaths by which expected and observed may differ in a level of a fit that is called converged."""
SURELY_INDEPENDENT: Final = 1e-8
"""Share of a column's sum of squares that the columns before it leave over. Of whole numbers from 0 to 1 in a million
rows they leave a millionth, or nothing, which in floating point is some 1e-15."""
LARGEST_EXPONENT: Final = 700.0


def fit_models(patterns: pl.DataFrame, mix: CaseMix) -> pl.DataFrame:
    """The model of every diagnosis group that has patterns, as one table of coefficients.

    ``patterns``: diagnosis_group, the factors of ``mix`` (Enum or text), spells, deaths; further columns (provider) are
    summed over. The result depends neither on the order of the rows nor on how the records were divided.

    Returns, by group, an intercept (factor ``intercept``, level ``all``) and each level of each factor in their order:
    diagnosis_group, factor, level, merged_into, role, coefficient (log odds ratio against the reference level),
    standard_error, spells, deaths. ``merged_into`` names the level that speaks for a merged one; coefficient, error and
    role are then those of that level, spells and deaths its own. ``role``: ``estimated``; ``reference`` (0, no
    error); ``determined`` by the factors before it (0, no error); ``rate`` in a group without a model, where there are
    no coefficients and deaths over spells of the intercept is the rate.

    Raises :class:`UsageError` for patterns that :func:`transforms.case_mix.combine` refuses.
    """
    return fit_numbered(numbered(patterns, mix), mix)


def fit_numbered(counted: pl.DataFrame, mix: CaseMix) -> pl.DataFrame:
    """:func:`fit_models` for patterns that have their number already: pattern (see :func:`transforms.case_mix.steps`),
    spells, deaths, sorted by pattern, each once."""
    place = places(counted[NUMBER], mix)
    group = place.pop(GROUP)
    levels = list(place.values())
    spells, deaths = counted["spells"].to_numpy(), counted["deaths"].to_numpy()
    ends = [*(np.flatnonzero(np.diff(group)) + 1).tolist(), len(group)] if len(group) else []
    rows: list[dict[str, Any]] = []
    for first, end in itertools.pairwise([0, *ends]):
        part = slice(first, end)
        counts = _Counts([level[part] for level in levels], spells[part], deaths[part])
        rows += [{GROUP: int(group[first]), **row} for row in _group_rows(counts, mix.factors)]
    return pl.DataFrame(rows, schema=COEFFICIENTS)


def expected(patterns: pl.DataFrame, coefficients: pl.DataFrame) -> pl.DataFrame:
    """``patterns`` with ``expected`` (Float64): spells times the probability of death of their diagnosis group and
    levels. Rows and their order stay.

    ``coefficients``: of :func:`fit_models`. Raises :class:`UsageError` for patterns of a group without
    coefficients or with a level that the coefficients do not have.
    """
    start = coefficients.filter(pl.col("factor") == INTERCEPT).select(
        GROUP, _rate=pl.col("deaths") / pl.col("spells"), _intercept="coefficient"
    )
    work = patterns.join(start, on=GROUP, how="left", maintain_order="left")
    without = work["_rate"].null_count()
    if without:
        raise UsageError(f"{without} patterns of diagnosis groups that have no model")
    factors = (
        coefficients.filter(pl.col("factor") != INTERCEPT)["factor"].unique(maintain_order=True).to_list()
    )
    missing = sorted(set(factors) - set(patterns.columns))
    if missing:
        raise UsageError(f"patterns without the column(s) {', '.join(missing)}")
    for name in factors:
        part = coefficients.filter(pl.col("factor") == name).select(
            GROUP, "level", pl.col("coefficient").alias(f"_of_{name}"), _known=pl.lit(True)
        )
        work = (
            work.with_columns(level=pl.col(name).cast(pl.String))
            .join(part, on=[GROUP, "level"], how="left", maintain_order="left")
            .drop("level")
        )
        unknown = work["_known"].null_count()
        if unknown:
            raise UsageError(f"{unknown} patterns with a {name} that the model does not know")
        work = work.drop("_known")
    # One factor after the other, so that the sum is rounded the same way in every run.
    score = pl.col("_intercept")
    for name in factors:
        score = score + pl.col(f"_of_{name}")
    score = score.clip(-LARGEST_EXPONENT, LARGEST_EXPONENT)
    probability = pl.when(pl.col("_intercept").is_null()).then("_rate").otherwise(1 / (1 + (-score).exp()))
    return work.select(*patterns.columns, expected=pl.col("spells") * probability)


# Merging ----------------------------------------------------------------------------------------------


@dataclass
class _Blocks:
    """The levels of one factor in one group: which stand together. ``of`` holds the block of each level, named by its
    first level; ``spells`` and ``deaths`` are counts per level, ``counts`` per block."""

    factor: Factor
    of: list[int]
    spells: list[int]
    deaths: list[int]
    counts: dict[int, tuple[int, int]] = field(init=False)
    line: list[int] = field(init=False)
    """The levels that have neighbours, in their order."""

    def __post_init__(self) -> None:
        self.counts = dict(enumerate(zip(self.spells, self.deaths, strict=True)))
        place = {name: level for level, name in enumerate(self.factor.level_names)}
        self.line = [place[name] for name in self.factor.neighbours]

    @property
    def blocks(self) -> list[int]:
        return sorted(self.counts)

    def scarcity(self, block: int) -> tuple[int, int, int]:
        """Sorts the sparsest block first."""
        spells, deaths = self.counts[block]
        return min(deaths, spells - deaths), spells, block

    def reference(self, without: int | None = None) -> int:
        """The block with the most deaths, of those that are not ``without``."""
        others = [block for block in self.blocks if block != without]
        return min(others, key=lambda block: (-self.counts[block][1], -self.counts[block][0], block))

    def speaker(self, block: int) -> int:
        """The level that a block is called by: the one with the most deaths."""
        members = [level for level, own in enumerate(self.of) if own == block]
        return min(members, key=lambda level: (-self.deaths[level], -self.spells[level], level))

    def merge(self, block: int) -> None:
        """Rule 2 of the module, for one block."""
        neighbours = self._neighbours(block)
        other = min(neighbours, key=self.scarcity) if neighbours else self.reference(without=block)
        first = min(block, other)
        one, two = self.counts.pop(block), self.counts.pop(other)
        self.counts[first] = one[0] + two[0], one[1] + two[1]
        self.of = [first if own in (block, other) else own for own in self.of]

    def _neighbours(self, block: int) -> list[int]:
        line = self.line
        places = [place for place, level in enumerate(line) if self.of[level] == block]
        # A level that has no neighbours may have joined the block: then its neighbours are those of the others.
        beside = {place + step for place in places for step in (-1, 1)}
        if self.factor.order == "cyclic":
            beside = {place % len(line) for place in beside}
        found = {self.of[line[place]] for place in beside if 0 <= place < len(line)}
        return sorted(found - {block})

    def merge_sparse(self) -> None:
        fewest_deaths, fewest_survivors = self.factor.minimum_deaths, self.factor.minimum_survivors
        while len(self.counts) > 1:
            sparse = [
                self.scarcity(block)
                for block, (spells, deaths) in self.counts.items()
                if deaths < fewest_deaths or spells - deaths < fewest_survivors
            ]
            if not sparse:
                return
            *_, sparsest = min(sparse)
            self.merge(sparsest)


# Fitting ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Counts:
    """The patterns of one group: ``levels`` (one array of places for each factor), spells and deaths."""

    levels: list[Integers]
    spells: Integers
    deaths: Integers


@dataclass(frozen=True)
class _Column:
    """The indicator of one block of one factor."""

    factor: int
    block: int


@dataclass(frozen=True)
class _Fit:
    """Coefficient and standard error of the intercept (None) and of each column that was fitted."""

    values: dict[_Column | None, tuple[float, float]]
    converged: bool


def _group_rows(counts: _Counts, factors: Sequence[Factor]) -> list[dict[str, Any]]:
    spells, deaths = int(counts.spells.sum()), int(counts.deaths.sum())
    merged = [_blocks(counts, place, factor) for place, factor in enumerate(factors)]
    fit = _settled(counts, merged) if 0 < deaths < spells else None
    return _rows(merged, fit, spells, deaths)


def _settled(counts: _Counts, merged: Sequence[_Blocks]) -> _Fit:
    """The fit after as much merging as it takes (rules 1, 2 and 5); ``merged`` is changed."""
    for blocks in merged:
        blocks.merge_sparse()
    fit = _fit(counts, merged)
    while not fit.converged:
        # Rounded, so that no noise in the last digits decides between two that have gone equally far.
        far = {column: round(value, 3) for column, (value, _) in fit.values.items() if column is not None}
        furthest = max(far, key=lambda column: (far[column], -column.factor, -column.block))
        merged[furthest.factor].merge(furthest.block)
        fit = _fit(counts, merged)
    return fit


def _blocks(counts: _Counts, place: int, factor: Factor) -> _Blocks:
    size = len(factor.level_names)
    level = counts.levels[place]
    return _Blocks(
        factor=factor,
        of=list(range(size)),
        spells=_sums(level, counts.spells, size).tolist(),
        deaths=_sums(level, counts.deaths, size).tolist(),
    )


def _sums(place: Integers, number: Integers, size: int) -> Integers:
    # Sums of whole numbers below 2^53, so they are exact.
    return np.bincount(place, weights=number, minlength=size).astype(np.int64)


def _columns(merged: Sequence[_Blocks]) -> list[_Column]:
    return [
        _Column(place, block)
        for place, blocks in enumerate(merged)
        for reference in (blocks.reference(),)
        for block in blocks.blocks
        if block != reference
    ]


def _fit(counts: _Counts, merged: Sequence[_Blocks]) -> _Fit:
    """Maximum likelihood on the patterns that merging leaves. Not converged: the values are how far each went."""
    held, spells, deaths = _merged_patterns(counts, merged)
    columns = _columns(merged)
    design = np.ones((len(spells), 1 + len(columns)), order="F")
    for place, column in enumerate(columns, start=1):
        design[:, place] = held[column.factor] == column.block
    kept = _independent(design)
    if len(kept) < design.shape[1]:
        design = np.asfortranarray(design[:, kept])
    outcome = np.column_stack([deaths, spells - deaths]).astype(np.float64)
    start = _start(merged, columns, int(spells.sum()), int(deaths.sum()))[kept]
    found = _by_newton(outcome, design, start) or _by_reweighting(outcome, design)
    values = (
        found.values if found.converged else np.where(np.isfinite(found.values), np.abs(found.values), np.inf)
    )
    names: list[_Column | None] = [None, *columns]
    fitted = zip((names[place] for place in kept), values.tolist(), found.errors.tolist(), strict=True)
    return _Fit({name: (value, error) for name, value, error in fitted}, found.converged)


def _merged_patterns(counts: _Counts, merged: Sequence[_Blocks]) -> tuple[list[Integers], Integers, Integers]:
    """The block of each factor, spells and deaths of the patterns that merging leaves."""
    block_of = [np.asarray(blocks.of, dtype=np.int64) for blocks in merged]
    held = [own[level] for own, level in zip(block_of, counts.levels, strict=True)]
    # One number for each pattern: sorting numbers is several times as fast as sorting rows.
    number = np.ravel_multi_index(tuple(held), tuple(len(own) for own in block_of))
    _, first, where = np.unique(number, return_index=True, return_inverse=True)
    where = where.reshape(-1)
    return (
        [own[first] for own in held],
        _sums(where, counts.spells, len(first)),
        _sums(where, counts.deaths, len(first)),
    )


def _start(merged: Sequence[_Blocks], columns: Sequence[_Column], spells: int, deaths: int) -> Floats:
    """Intercept and coefficients as if no factor had to do with another: from the rates of the levels."""
    everybody = _log_odds(spells, deaths)
    odds = [
        {block: _log_odds(*count) - everybody for block, count in blocks.counts.items()} for blocks in merged
    ]
    reference = [own[blocks.reference()] for own, blocks in zip(odds, merged, strict=True)]
    differences = [odds[column.factor][column.block] - reference[column.factor] for column in columns]
    return np.asarray([everybody + sum(reference), *differences])


def _log_odds(spells: int, deaths: int) -> float:
    # A half on either side, so that a level in which nobody died has a place to start from, too.
    return log((deaths + 0.5) / (spells - deaths + 0.5))


@dataclass(frozen=True)
class _Found:
    """What a fit ended with, by column of the design."""

    values: Floats
    errors: Floats
    converged: bool


def _by_newton(outcome: Floats, design: Floats, start: Floats) -> _Found | None:
    """The fit by Newton's method from ``start``; None where it does not arrive."""
    with _silence():
        try:
            result = _model(outcome, design).fit(
                start_params=start,
                method="newton",
                maxiter=NEWTON_ITERATIONS,
                # With the logit the expected information is the observed one, and takes half the time.
                optim_hessian="eim",
                cov_type="eim",
                ridge_factor=0,
                disp=False,
                warn_convergence=False,
            )
        except (np.linalg.LinAlgError, ValueError, FloatingPointError):
            return None
        report = result.mle_retvals
        found = _Found(np.asarray(result.params), np.asarray(result.bse), bool(report["converged"]))
        # The score in the report is a mean over the rows.
        gap = np.abs(report["score"]).max() * len(outcome)
    return found if found.converged and _is_finite(found) and gap <= LARGEST_GAP else None


def _by_reweighting(outcome: Floats, design: Floats) -> _Found:
    """The fit by iteratively reweighted least squares, from where statsmodels starts it."""
    with _silence():
        try:
            result = _model(outcome, design).fit(
                maxiter=MAXIMUM_ITERATIONS, tol=TOLERANCE, tol_criterion="params"
            )
            found = _Found(np.asarray(result.params), np.asarray(result.bse), bool(result.converged))
        except (np.linalg.LinAlgError, ValueError, FloatingPointError):
            nowhere = np.full(design.shape[1], np.inf)
            return _Found(nowhere, nowhere, converged=False)
    return replace(found, converged=found.converged and _is_finite(found))


def _model(outcome: Floats, design: Floats) -> Any:
    return _full_rank_model()(outcome, design)


@cache
def _full_rank_model() -> Callable[[Floats, Floats], Any]:
    """The model of statsmodels, without its own look for the rank of the design: :func:`_independent` has seen to it,
    and on few rows the second look takes as long as the fit."""
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    class FullRank(GLM):  # type: ignore[misc]
        def initialize(self) -> None:
            self.wnobs, columns = self.exog.shape
            self.df_model = columns - 1
            self.df_resid = self.wnobs - columns

    return lambda outcome, design: FullRank(outcome, design, family=Binomial())


def _is_finite(found: _Found) -> bool:
    return bool(np.isfinite(found.values).all() and np.isfinite(found.errors).all())


@contextmanager
def _silence() -> Iterator[None]:
    """No warnings of a fit that runs to infinity: that is what is being found out."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _independent(design: Floats) -> list[int]:
    """The columns that those before them do not determine."""
    kept = list(range(design.shape[1]))
    if _surely_independent(design):
        return kept
    while True:
        # A column that is a sum of others has nothing left on the diagonal; what comes after it is not to be trusted,
        # so only the first is taken out at a time.
        diagonal = np.abs(np.diag(np.linalg.qr(design[:, kept], mode="r")))
        size = np.sqrt((design[:, kept] ** 2).sum(axis=0))
        rank_ends = len(diagonal)
        gone = [place for place in range(rank_ends) if diagonal[place] <= 1e-9 * size[place]]
        if not gone and rank_ends == len(kept):
            return kept
        kept.pop(gone[0] if gone else rank_ends)


def _surely_independent(design: Floats) -> bool:
    """A quick answer for the usual case. The products are whole numbers, so only the decomposition is rounded."""
    products = design.T @ design
    try:
        left_over = np.diag(np.linalg.cholesky(products)) ** 2
    except np.linalg.LinAlgError:
        return False
    return bool((left_over > SURELY_INDEPENDENT * np.diag(products)).all())


def _rows(merged: Sequence[_Blocks], fit: _Fit | None, spells: int, deaths: int) -> list[dict[str, Any]]:
    start = (None, None) if fit is None else fit.values[None]
    rows = [_row(INTERCEPT, ALL, None, "rate" if fit is None else "estimated", start, spells, deaths)]
    for place, blocks in enumerate(merged):
        names = blocks.factor.level_names
        reference = blocks.reference()
        speakers = {block: blocks.speaker(block) for block in blocks.counts}
        for level, name in enumerate(names):
            block = blocks.of[level]
            speaker = speakers[block]
            value: tuple[float | None, float | None] = (0.0, None)
            if fit is None:
                role, value = "rate", (None, None)
            elif block == reference:
                role = "reference"
            elif (column := _Column(place, block)) in fit.values:
                role, value = "estimated", fit.values[column]
            else:
                role = "determined"
            into = names[speaker] if speaker != level else None
            counted = int(blocks.spells[level]), int(blocks.deaths[level])
            rows.append(_row(blocks.factor.name, name, into, role, value, *counted))
    return rows


def _row(
    factor: str,
    level: str,
    into: str | None,
    role: str,
    value: tuple[float | None, float | None],
    spells: int,
    deaths: int,
) -> dict[str, Any]:
    return {
        "factor": factor,
        "level": level,
        "merged_into": into,
        "role": role,
        "coefficient": value[0],
        "standard_error": value[1],
        "spells": spells,
        "deaths": deaths,
    }
