"""``wardwatch cusum``: a risk-adjusted cumulative sum chart of any file of outcomes and risks."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import typer

from infra.cusum_file import read_cases, render_csv
from schemas.errors import UsageError
from transforms.cusum import (
    FALSE_ALARM_RATE,
    ODDS_RATIO,
    RESETS,
    Reset,
    RiskMix,
    case_weights,
    chart,
    threshold_for,
)


def cusum(
    file: Path = typer.Argument(..., help="A CSV file with one row per case, in the order of discharge."),
    outcome: str = typer.Option(..., "--outcome", metavar="COL", help="1 with the event (died), 0 without."),
    risk: str = typer.Option(..., "--risk", metavar="COL", help="Expected probability of the event, 0 to 1."),
    odds_ratio: float = typer.Option(ODDS_RATIO, "--odds-ratio", help="The rise in odds to look for."),
    threshold: float = typer.Option(
        None,
        "--threshold",
        metavar="H",
        help="Signal at this value; computed from the file's risks if absent.",
    ),
    reset: str = typer.Option("zero", "--reset", help="After a signal: zero, half or none."),
    false_alarm_rate: float = typer.Option(
        FALSE_ALARM_RATE,
        "--false-alarm-rate",
        help="For a computed threshold: chance of any signal within as many cases if the risks are right.",
    ),
    form: str = typer.Option("csv", "--format", help="csv"),
) -> None:
    """Risk-adjusted cumulative sum of any file with outcomes (0 or 1) and risks."""
    if reset not in RESETS or form != "csv":
        raise UsageError("--reset is zero, half or none, and --format is csv")
    after = cast(Reset, reset)
    cases = read_cases(file, outcome, risk)
    weights = case_weights(cases["outcome"].to_numpy(), cases["risk"].to_numpy(), odds_ratio)
    if threshold is not None:
        typer.echo(render_csv(chart(weights, threshold, after)), nl=False)
        return
    mix = RiskMix.of(cases["risk"].to_numpy())
    computed = threshold_for(mix, cases.height, false_alarm_rate, odds_ratio)
    typer.echo(render_csv(chart(weights, computed, after), false_alarm_rate), nl=False)


def register(app: typer.Typer) -> None:
    app.command("cusum")(cusum)
