"""Small published tables for the tests of publishing, report and release: 36 invented hospitals, three
indicators.

Counts come from a formula, not from chance, so that a failing test shows the same numbers every time. RBC has
far more deaths than expected, RAD far more caesareans; RCM is a tiny service, and RAB has six restrictive
interventions.
"""

from __future__ import annotations

import math
from datetime import date

import polars as pl

from schemas.published import empty
from transforms.assessment import alerts, assess, funnel_limits

PROVIDERS = [f"R{a}{b}" for a in "ABC" for b in "ABCDEFGHJKLM"]
RECORD_DATE = date(2020, 3, 31)
RUN: dict[str, object] = {"code_version": "0.1.0"}


def indicators() -> pl.DataFrame:
    common = {
        "version": "v1",
        "source": "made for tests",
        "status": "reconstructed",
        "release": "public",
        "owner": "analysts",
    }
    return pl.DataFrame(
        [
            {
                "indicator": "mortality",
                "friendly_name": "Deaths within 30 days of discharge, standardised",
                "description": "Deaths in hospital or within 30 days of discharge over the number expected.",
                "family": "deaths",
                "numerator": "deaths",
                "denominator": "expected deaths",
                "exclusions": "stillbirths, day cases",
                "unit": "standardised_ratio",
                "measure": "standardised_ratio",
                "per": 1.0,
                "direction": "lower_is_better",
                "datasets": "hes_apc,ons_deaths",
                **common,
            },
            {
                "indicator": "caesarean",
                "friendly_name": "Emergency caesarean births",
                "description": "Deliveries by emergency caesarean among all deliveries.",
                "family": "maternity",
                "numerator": "deliveries by emergency caesarean",
                "denominator": "deliveries",
                "exclusions": None,
                "unit": "proportion",
                "measure": "proportion",
                "per": 1.0,
                "direction": "neutral",
                "datasets": "hes_apc",
                **common,
            },
            {
                "indicator": "restrictive",
                "friendly_name": "Restrictive interventions & restraint",
                "description": "Restrictive interventions over <occupied> bed days.",
                "family": "Mental Health Act",
                "numerator": "restrictive interventions",
                "denominator": "bed days",
                "exclusions": None,
                "unit": "rate_per_1000_bed_days",
                "measure": "rate",
                "per": 1000.0,
                "direction": "lower_is_better",
                "datasets": "mhsds",
                **common,
            },
        ]
    )


def _rows(period: str) -> list[tuple[str, str, str, float, float, float | None]]:
    rows: list[tuple[str, str, str, float, float, float | None]] = []
    for i, provider in enumerate(PROVIDERS):
        wave = math.sin(i * 2.4)  # goes round without repeating
        expected = 180.0 + 37.3 * i
        deaths = 1.5 if provider == "RBC" else 1 + 0.06 * wave
        rows.append(("mortality", period, provider, round(expected * deaths), round(expected * 25), expected))
        births = 24 if provider == "RCM" else 600 + 61 * i
        share = 0.29 if provider == "RAD" else 0.165 + 0.012 * math.cos(i * 1.7)
        rows.append(("caesarean", period, provider, round(births * share), births, None))
        days = 5_000 + 431 * i
        events = 6 if provider == "RAB" else round(days * (0.006 + 0.001 * wave))
        rows.append(("restrictive", period, provider, events, days, None))
    return rows


def exact_values(periods: tuple[str, ...] = ("2018-19", "2019-20")) -> pl.DataFrame:
    """Rows as an indicator query gives them, with measure, per and direction."""
    return pl.DataFrame(
        [
            (indicator, "v1", period, provider, "all", *numbers)
            for name in periods
            for indicator, period, provider, *numbers in _rows(name)
        ],
        schema={
            **{n: pl.String for n in ("indicator", "version", "period", "provider", "stratum")},
            **{n: pl.Float64 for n in ("numerator", "denominator", "expected")},
        },
        orient="row",
    ).join(
        indicators().select("indicator", "version", "measure", "per", "direction"),
        on=["indicator", "version"],
        maintain_order="left",
    )


def sample_tables() -> dict[str, pl.DataFrame]:
    """Every published table but ``run`` and ``cusum_point``, as a computation hands them over."""
    values = exact_values()
    assessed = assess(values)
    names = dict(indicators().select("indicator", "friendly_name").iter_rows())
    deliveries = [
        ("hes_apc-201999-0a1b2c3d4e5f", "hes_apc", "201999", "current", 120_345, 120_301, 44),
        ("ons_deaths-snapshot-ffeeddccbbaa", "ons_deaths", "snapshot", "current", 5_345, 5_345, 0),
    ]
    rules = [
        (
            "HES_APC.R01",
            "warning",
            120_345,
            44,
            44 / 120_345,
            0.0001,
            "over allowance",
            "discharge is not before admission",
        ),
        ("HES_APC.R02", "warning", 120_345, 0, 0.0, 0.0, "met", "sex is in the code list"),
    ]
    return {
        "indicator": indicators(),
        "indicator_value": assessed.drop("measure", "per", "direction").with_columns(
            suppressed=pl.lit(False)
        ),
        "alert": alerts(assessed, names),
        "funnel_limit": funnel_limits(values),
        "provider": pl.DataFrame(
            {
                "code": PROVIDERS,
                "name": [f"Hospital {code} & Partners" for code in PROVIDERS],
                "type": ["acute trust"] * len(PROVIDERS),
            }
        ),
        "delivery": pl.DataFrame(
            [(*row, None) for row in deliveries],
            schema=empty("delivery").schema,
            orient="row",
        ),
        "rule_result": pl.DataFrame(
            [("hes_apc-201999-0a1b2c3d4e5f", *row) for row in rules],
            schema=empty("rule_result").schema,
            orient="row",
        ),
        "late_provider": pl.DataFrame(
            [("hes_apc", "201999", "RCX", "201899")], schema=empty("late_provider").schema, orient="row"
        ),
    }
