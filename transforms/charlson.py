"""The Charlson index: how much illness besides the main one the secondary diagnoses speak of.

Conditions and weights are those of the Summary Hospital-level Mortality Indicator (``schemas/shmi/charlson.yaml``).
Each condition counts once; a total below zero is zero. The index enters the model in
bands, which are levels of a factor of the case mix (:mod:`transforms.case_mix`).
"""

from __future__ import annotations

from typing import Final

import polars as pl

from schemas.errors import UsageError
from schemas.shmi_reference import Charlson
from transforms.code_ranges import look_up

SECONDARY_CODES: Final = 19
"""The second to the twentieth diagnosis of an episode, as the official depth of coding counts them."""


def charlson_index(codes: pl.DataFrame | pl.Series, charlson: Charlson) -> pl.Series:
    """The index of each row, Int64, never null and never negative.

    ``codes``: a frame of up to 19 columns of secondary diagnoses (String), or a Series of lists of them, of which
    the first 19 count. Nulls, dashes, unknown codes and repetitions are allowed. Raises :class:`UsageError` for more
    than 19 columns.
    """
    columns = _columns(codes)
    if not columns:
        rows = codes.height if isinstance(codes, pl.DataFrame) else len(codes)
        return pl.Series("charlson_index", [0] * rows, dtype=pl.Int64)
    bits = {name: 1 << place for place, name in enumerate(charlson.weights)}
    table = charlson.table().select(
        "code_from", "code_to", bit=pl.col("condition").replace_strict(bits, return_dtype=pl.Int64)
    )
    # One bit per condition: a row's conditions are the bits of all its codes, each counted once.
    conditions = look_up(columns[0], table).fill_null(0)
    for column in columns[1:]:
        conditions = conditions | look_up(column, table).fill_null(0)
    sets = conditions.unique()
    totals = [_total(held, bits, charlson) for held in sets.to_list()]
    return conditions.replace_strict(sets, pl.Series(totals, dtype=pl.Int64), return_dtype=pl.Int64).alias(
        "charlson_index"
    )


def _columns(codes: pl.DataFrame | pl.Series) -> list[pl.Series]:
    if isinstance(codes, pl.DataFrame):
        if codes.width > SECONDARY_CODES:
            raise UsageError(
                f"{codes.width} columns of secondary diagnoses; no more than {SECONDARY_CODES} count"
            )
        return codes.get_columns()
    longest = codes.list.len().max()
    count = min(int(longest), SECONDARY_CODES) if isinstance(longest, int) else 0
    return [codes.list.get(place, null_on_oob=True) for place in range(count)]


def _total(held: int, bits: dict[str, int], charlson: Charlson) -> int:
    present = {name for name, bit in bits.items() if held & bit}
    present |= {pair.condition for pair in charlson.imply if pair.present in present}
    present -= {pair.condition for pair in charlson.replace if pair.present in present}
    return max(0, sum(charlson.weights[name] for name in present))
