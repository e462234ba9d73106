"""A file of observed and expected numbers, read for ``wardwatch funnel`` and its result written as CSV.

The reading of any delimited file is in :mod:`infra.delimited_file`; here, what is not a number is refused by
count, because a release that marks suppressed figures with a star must not silently lose those hospitals.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import polars as pl

from infra.delimited_file import cell, number, read_delimited
from schemas.errors import UsageError
from transforms.funnel import Funnel

CSV_COLUMNS = (
    "group",
    "observed",
    "expected",
    "ratio",
    "poisson_lower_998",
    "poisson_upper_998",
    "od_lower_95",
    "od_upper_95",
    "band",
)


def read_funnel_file(path: Path, observed: str, expected: str, group: str | None = None) -> pl.DataFrame:
    """The columns ``group`` (text), ``observed`` and ``expected`` (numbers) of a delimited file.

    Column names are found as given, else regardless of case. Lines without either number are left out (blank
    lines, footers); rows of the same group are added up, in order of first appearance; without ``group``
    every row is its own, numbered from 1.

    Raises :class:`UsageError` when the file is empty, a column is missing or doubled, or a row holds only one
    of the two numbers, or something that is not one.
    """
    file = read_delimited(path, "observed and expected numbers")
    at_observed, at_expected = file.column(observed), file.column(expected)
    at_group = file.column(group) if group else None

    rows: dict[str, tuple[float, float]] = {}
    wrong = 0
    for cells in file.rows:
        pair = [cell(cells, at) for at in (at_observed, at_expected)]
        if not any(pair):
            continue
        found = [number(text) for text in pair]
        if found[0] is None or found[1] is None:
            wrong += 1
            continue
        name = str(len(rows) + 1)
        if at_group is not None:
            name = cells[at_group].strip() if at_group < len(cells) else ""
        before = rows.get(name, (0.0, 0.0))
        rows[name] = (before[0] + found[0], before[1] + found[1])
    if wrong:
        raise UsageError(
            f"{wrong} row(s) do not hold a number in both columns",
            next_step="take out suppressed or partial rows first, so that it is plain who is missing",
        )
    if not rows:
        raise UsageError("the file has no rows with numbers in these columns")
    return pl.DataFrame(
        [(name, *numbers) for name, numbers in rows.items()],
        schema={"group": pl.String, "observed": pl.Float64, "expected": pl.Float64},
        orient="row",
    )


def render_csv(groups: list[str], funnel: Funnel) -> str:
    """One line per group under ``CSV_COLUMNS``, ratios to six decimals; then ``# phi`` and ``# tau2``.

    ``band``: 1 higher than expected, 2 as expected, 3 lower, against the 95 % over-dispersed limits.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    taken = funnel.rows.select(
        "observed",
        "size",
        "value",
        "funnel_lower_998",
        "funnel_upper_998",
        "od_lower_95",
        "od_upper_95",
        "band",
    )
    for name, (observed, expected, *ratios, band) in zip(groups, taken.iter_rows(), strict=True):
        writer.writerow([name, f"{observed:.10g}", f"{expected:.10g}", *(f"{x:.6f}" for x in ratios), band])
    out.write(f"# phi {funnel.phi:.10g}\n# tau2 {funnel.tau2:.10g}\n")
    return out.getvalue()
