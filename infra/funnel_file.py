"""A file of observed and expected numbers, read for ``wardwatch funnel`` and its result written as CSV.

The reading of any delimited file is in :mod:`infra.delimited_file`; here, what is not a number is refused by
count, because a release that marks suppressed figures with a star, or leaves them empty, must not silently lose
those hospitals.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import polars as pl

from infra.delimited_file import DelimitedFile, cell, read_delimited
from schemas.errors import UsageError
from transforms.funnel import Funnel

LARGEST = 1e12
"""No hospital counts more; a number beyond it is a mistake and would overflow on the way."""
SMALLEST_EXPECTED = 1e-6
"""An expected number below it is as good as none: a ratio to it says nothing and its limits do not fit a float."""
PLAIN_BELOW = 1e15
"""Larger ratios and limits are written with an exponent."""

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

    Column names are found as given, else regardless of case. Blank lines are left out, and at the end lines without
    either number (footers); rows of the same group are added up, in order of first appearance; without ``group``
    every row is its own, numbered from 1.

    Raises :class:`UsageError` when the file is empty, a column is missing or doubled or given twice, or, with the
    number of rows, when some have more cells than there are columns, hold only one of the two numbers or something
    that is not one, are without a group, or hold a number that no hospital has (above :data:`LARGEST`, or expected
    above 0 and below :data:`SMALLEST_EXPECTED`).
    """
    file = read_delimited(path, "observed and expected numbers")
    at = [file.column(name) for name in (observed, expected, *([group] if group else []))]
    if len(set(at)) != len(at):
        raise UsageError("one column cannot be two of observed, expected and group")
    rows = _used(file, at)
    totals: dict[str, tuple[float, float]] = {}
    shifted = sum(map(file.shifted, rows))
    if shifted:
        raise UsageError(f"{shifted} row(s) have more cells than the header has columns")
    wrong, nameless = 0, 0
    for place, cells in enumerate(rows, start=1):
        seen, size = (file.number(cell(cells, where)) for where in at[:2])
        name = cell(cells, at[2]) if group else str(place)
        nameless += not name
        if seen is None or size is None:
            wrong += 1
            continue
        before = totals.get(name, (0.0, 0.0))
        totals[name] = (before[0] + seen, before[1] + size)
    if wrong:
        raise UsageError(
            f"{wrong} row(s) do not hold a number in both columns",
            next_step="take out suppressed or partial rows first, so that it is plain who is missing; a fraction has a "
            "decimal point",
        )
    if nameless:
        raise UsageError(f"{nameless} row(s) have no group, so nobody could tell whose they are")
    if not totals:
        raise UsageError("the file has no rows with numbers in these columns")
    beyond = sum(max(map(abs, pair)) > LARGEST or 0 < pair[1] < SMALLEST_EXPECTED for pair in totals.values())
    if beyond:
        raise UsageError(f"{beyond} row(s) hold a number too large or too small for any hospital")
    return pl.DataFrame(
        [(name, *numbers) for name, numbers in totals.items()],
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
        writer.writerow([name, f"{observed:.10g}", f"{expected:.10g}", *map(_decimal, ratios), band])
    out.write(f"# phi {funnel.phi:.10g}\n# tau2 {funnel.tau2:.10g}\n")
    return out.getvalue()


def _used(file: DelimitedFile, at: list[int]) -> list[list[str]]:
    """The rows down to the last that holds a number, or something in its place."""
    last = max((place for place, cells in enumerate(file.rows, start=1) if _holds(cells, at)), default=0)
    return file.rows[:last]


def _holds(cells: list[str], at: list[int]) -> bool:
    return any(cell(cells, where) for where in at[:2])


def _decimal(value: float) -> str:
    return f"{value:.6f}" if value < PLAIN_BELOW else f"{value:.6e}"
