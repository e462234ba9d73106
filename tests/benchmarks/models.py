"""The models of all diagnosis groups: on covariate patterns, against the same library on the records themselves.

A population is drawn with the levels of the real case mix; both contestants start from the same records and end with
the coefficients of every group. The fit on records is told the columns that merging leaves, so it is not charged for
finding them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.shmi_reference import CaseMix, case_mix
from transforms.case_mix import GROUP, patterns
from transforms.mortality_model import INTERCEPT, expected, fit_models

Places = NDArray[np.int64]

GROUPS = 142
SEED = 20


# Shares of the levels that are not alike in number, roughly those of national admissions; others are.
SHARES = {
    "sex": (0.46, 0.5399, 0.0001),
    "admission_method": (0.45, 0.549, 0.001),
    "charlson_band": (0.5, 0.3, 0.2),
}
# How records are fitted: as the library does unless told otherwise (to the precision that is compared), and by the
# method that patterns are fitted by.
OF_ITSELF = {"tol": 1e-10, "tol_criterion": "params"}
NEWTON = {"method": "newton", "optim_hessian": "eim", "cov_type": "eim", "disp": False}
AGE_SPREAD = 3.0  # five-year bands, around a middle of each group's own


def _drawn(chance: np.random.Generator, name: str, levels: int, group: Places) -> Places:
    """The number of a level for each record."""
    if name == "age_group":
        middle = chance.uniform(4, levels - 4, GROUPS)[group - 1]
        return np.clip(np.round(chance.normal(middle, AGE_SPREAD)), 0, levels - 2).astype(np.int64)
    share = np.asarray(SHARES.get(name, (1.0,) * levels), dtype=np.float64)
    assert len(share) == levels, f"{name} has {levels} levels"
    return np.asarray(chance.choice(levels, len(group), p=share / share.sum()), dtype=np.int64)


def population(spells: int) -> pl.DataFrame:
    """diagnosis_group, a level (Enum) of every factor, died: groups of very different size, some with few deaths."""
    chance = np.random.default_rng(SEED)
    share = chance.pareto(1.2, GROUPS) + 0.05
    group = chance.choice(GROUPS, spells, p=share / share.sum()) + 1
    mix = case_mix()
    score = np.log(chance.uniform(0.002, 0.12, GROUPS))[group - 1]
    columns: dict[str, pl.Series] = {GROUP: pl.Series(group, dtype=pl.Int64)}
    for factor in mix.factors:
        names = [entry.level for entry in factor.levels]
        place = _drawn(chance, factor.name, len(names), group)
        if factor.groups is not None:
            names = list(factor.level_names)
            inside = np.isin(group, factor.groups.only)
            place = np.where(inside, place, names.index(factor.groups.elsewhere))
        score = score + chance.normal(0, 0.4, len(names))[place]
        columns[factor.name] = pl.Series(np.asarray(names)[place]).cast(factor.dtype)
    died = chance.uniform(size=spells) < 1 / (1 + np.exp(-score))
    return pl.DataFrame({**columns, "died": pl.Series(died)})


def on_records(
    records: pl.DataFrame, coefficients: pl.DataFrame, mix: CaseMix, method: Mapping[str, Any]
) -> float:
    """Fit every group on its records; returns the largest difference of a coefficient from ``coefficients``."""
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    worst = 0.0
    for part in records.partition_by(GROUP, maintain_order=True):
        own = coefficients.filter(pl.col(GROUP) == part[GROUP][0])
        estimated = own.filter((pl.col("role") == "estimated") & pl.col("merged_into").is_null())
        if estimated.is_empty():
            continue
        columns = [np.ones(part.height)]
        for name, level in estimated.filter(pl.col("factor") != INTERCEPT).select("factor", "level").rows():
            speaker = {
                row["level"]: row["merged_into"] or row["level"]
                for row in own.filter(pl.col("factor") == name).iter_rows(named=True)
            }
            spoken = part[name].cast(pl.String).replace_strict(speaker)
            columns.append((spoken == level).to_numpy().astype(np.float64))
        found = GLM(part["died"].to_numpy().astype(np.float64), np.column_stack(columns), family=Binomial())
        fitted = found.fit(**method)
        worst = max(worst, float(np.abs(fitted.params - estimated["coefficient"].to_numpy()).max()))
    return worst


class _Spent:
    """Seconds on the wall and of the processors from here on."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def so_far(self) -> tuple[float, float]:
        return time.perf_counter() - self._began[0], time.process_time() - self._began[1]


def compare(spells: int) -> dict[str, Any]:
    """Seconds of both, how many times as fast the patterns are, and the largest difference of a coefficient.

    The bar is set against the fit that the library makes of itself. What is left of the advantage where records are
    fitted by the method that patterns are fitted by is told as well.
    """
    import statsmodels.genmod.generalized_linear_model  # noqa: F401  (importing it belongs to neither)

    records, mix = population(spells), case_mix()
    clock = _Spent()
    counted = patterns(records, mix)
    coefficients = fit_models(counted, mix)
    grouped, grouped_processor = clock.so_far()
    clock = _Spent()
    difference = on_records(records, coefficients, mix, OF_ITSELF)
    by_record, by_record_processor = clock.so_far()
    clock = _Spent()
    on_records(records, coefficients, mix, NEWTON)
    _, same_method_processor = clock.so_far()
    added_up = expected(counted, coefficients)
    gap = abs(float(added_up["expected"].sum()) - float(added_up["deaths"].sum()))
    return {
        "spells": spells,
        "patterns": counted.height,
        "grouped_seconds": grouped,
        "grouped_processor_seconds": grouped_processor,
        "by_record_seconds": by_record,
        "by_record_processor_seconds": by_record_processor,
        "times_as_fast": by_record / grouped,
        "times_as_fast_in_processor_seconds": by_record_processor / grouped_processor,
        "times_as_fast_by_the_same_method": same_method_processor / grouped_processor,
        "largest_difference": difference,
        "expected_less_observed": gap,
    }
