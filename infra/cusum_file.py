"""A file of cases with outcome and risk, read for ``wardwatch cusum``, and its chart written as CSV.

Each row is one case in the order of discharge, so none may be lost: a row that cannot be used stops the chart
and is named by its number, never by what it holds.
"""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from infra.delimited_file import cell, read_delimited
from schemas.errors import UsageError
from transforms.cusum import Chart

ROWS_NAMED = 10
"""How many rows an error names; beyond that the count says enough."""


def read_cases(path: Path, outcome: str, risk: str) -> pl.DataFrame:
    """The columns ``outcome`` (0 or 1, integer) and ``risk`` (0 to 1) of a delimited file, in its order.

    Column names are found as given, else regardless of case. Rows count from 1, the first below the header;
    blank lines do not count and are left out, as are lines at the end with neither outcome nor risk (footers).

    Raises :class:`UsageError` when the file is empty, a column is missing or doubled or given for both, or a row
    has more cells than there are columns, lacks one of the two, has an outcome other than 0 or 1, or a risk that is
    no number from 0 to 1; it gives row numbers.
    """
    file = read_delimited(path, "outcomes and risks")
    at_outcome, at_risk = file.column(outcome), file.column(risk)
    if at_outcome == at_risk:
        raise UsageError("one column cannot be both outcome and risk")
    pairs = [(cell(cells, at_outcome), cell(cells, at_risk)) for cells in file.rows]
    while pairs and not any(pairs[-1]):
        pairs.pop()
    if not pairs:
        raise UsageError("the file has no cases: no row holds an outcome or a risk")

    shifted = [row for row, cells in enumerate(file.rows[: len(pairs)], start=1) if file.shifted(cells)]
    missing: list[int] = []
    other_outcome: list[int] = []
    other_risk: list[int] = []
    cases: list[tuple[int, float]] = []
    for row, (seen, expected) in enumerate(pairs, start=1):
        event, probability = file.number(seen), file.number(expected)
        if not seen or not expected:
            missing.append(row)
        if seen and event not in (0, 1):
            other_outcome.append(row)
        if expected and (probability is None or not 0 <= probability <= 1):
            other_risk.append(row)
        if event is not None and probability is not None:
            cases.append((int(event), probability))
    wrong = [
        f"{says} in {_rows(rows)}"
        for says, rows in (
            ("more cells than the header has columns", shifted),
            ("outcome or risk missing", missing),
            ("an outcome that is neither 0 nor 1", other_outcome),
            ("a risk that is not a number from 0 to 1", other_risk),
        )
        if rows
    ]
    if wrong:
        raise UsageError(
            "; ".join(wrong),
            next_step="correct these rows or take them out; row 1 is the first below the header, "
            "blank lines do not count; a fraction has a decimal point",
        )
    return pl.DataFrame(cases, schema={"outcome": pl.Int64, "risk": pl.Float64}, orient="row")


def render_csv(chart: Chart, false_alarm_rate: float | None = None) -> str:
    """One line per case under ``row,weight,cusum,signal``: nine decimals, signal 1 or 0.

    With ``false_alarm_rate`` (the threshold was computed for it) ``# threshold`` and ``# false_alarm_rate``
    follow as comment lines.
    """
    out = io.StringIO()
    out.write("row,weight,cusum,signal\n")
    for row, (weight, value, signal) in enumerate(chart.rows.iter_rows(), start=1):
        # Adding zero takes the sign off a weight that is zero to nine decimals.
        out.write(f"{row},{round(weight, 9) + 0.0:.9f},{value:.9f},{int(signal)}\n")
    if false_alarm_rate is not None:
        out.write(f"# threshold {chart.threshold:.10g}\n# false_alarm_rate {false_alarm_rate:.10g}\n")
    return out.getvalue()


def _rows(rows: list[int]) -> str:
    named = ", ".join(str(row) for row in rows[:ROWS_NAMED])
    more = f" and {len(rows) - ROWS_NAMED} more" if len(rows) > ROWS_NAMED else ""
    return f"row {named}" if len(rows) == 1 else f"rows {named}{more}"
