"""The page of the report: what the template is given, computed from the published tables alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import jinja2
import polars as pl
from markupsafe import Markup

from infra.report.charts import BAND_STYLE, FunnelPlot, funnel_svg
from schemas.published import MARKING_COLUMN, TOTAL_STRATUM, Marking, empty
from transforms.assessment import CUSUM_SIGNAL, figure

TEMPLATES = Path(__file__).parent / "templates"
TITLE = "Variation between hospitals: indicators to ask about"
MOST_SENTENCES = 25
"""Findings of the latest periods written out in the summary; the others are counted, and all are in the
table ``alert``, those of earlier periods too."""

FAMILIES = ("deaths", "infections", "maternity", "mental health act", "data quality")
"""The order of the families in the report; others follow by name."""

CODING_BREAK = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}): (.*?)(?= \\| [0-9]{4}-[0-9]{2}-[0-9]{2}: |$)")
"""One entry of ``coding_breaks``: the day, and what changed."""

DIRECTION_WORDS = {
    "lower_is_better": "a high value raises the question",
    "higher_is_better": "a low value raises the question",
    "neutral": "either side raises the question",
    "context": "read beside other indicators; raises no question by itself",
}
SIZE_WORDS = {
    "standardised_ratio": "Expected number",
    "proportion": "Denominator",
    "rate": "Exposure",
    "ratio_of_counts": "Denominator",
}
STATUS_WORDS = {
    "published": "as its source publishes it",
    "reconstructed": "reconstructed from public code and secondary text",
}
UNIT_WORDS = {
    "proportion": "share",
    "rate_per_1000": "per 1,000",
    "rate_per_1000_bed_days": "per 1,000 bed days",
    "standardised_ratio": "observed over expected",
    "mean": "mean",
    "count": "number",
}


@dataclass(frozen=True)
class Row:
    """One line of an indicator's table, every figure already in words."""

    provider: str
    name: str
    numerator: str
    size: str
    value: str
    interval: str
    band: str
    flag: str


@dataclass(frozen=True)
class Period:
    """All providers together in one period of an indicator's series. ``changed``: how coding changed in it."""

    period: str
    numerator: str
    size: str
    value: str
    changed: str


@dataclass(frozen=True)
class Section:
    """One indicator, latest period, whole providers; ``series``: all its periods, every provider together.
    ``intervals``: whether its values have any. ``grouped``: whether it has values of groups within providers."""

    slug: str
    title: str
    period: str
    family: str
    definition: list[tuple[str, str]]
    description: str
    size_title: str
    numerator_title: str
    value_title: str
    rows: list[Row]
    counts: dict[str, int]
    hidden: int
    alerts: int
    alarms: int
    target: str
    svg: Markup | None
    alt: str
    caption: str
    contributing: int
    intervals: bool
    grouped: bool
    series: list[Period]


@dataclass(frozen=True)
class Delivery:
    dataset: str
    period: str
    status: str
    rows_in: str
    rows_out: str
    quarantined: str
    share: str
    over: int


def build_report(tables: Mapping[str, pl.DataFrame], record_date: date, marking: Marking) -> str:
    """The report as HTML.

    ``tables``: published tables as :meth:`schemas.published.Table.conform` returns them; those that are
    missing are taken as empty. ``record_date``: the day the data go up to. ``marking`` stands on top and
    at the foot of every printed page; with OFFICIAL the page is worded for the public.
    """
    indicator = _table(tables, "indicator")
    values = _table(tables, "indicator_value")
    names = dict(_table(tables, "provider", ("code", "name")).select("code", "name").iter_rows())
    sections = [
        section
        for described in sorted(indicator.iter_rows(named=True), key=_place)
        if (section := _section(described, values, _table(tables, "funnel_limit"), names, marking))
        is not None
    ]
    sentences = _findings(_table(tables, "alert"), values, record_date)
    deliveries, broken = _quality(_table(tables, "delivery"), _table(tables, "rule_result"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=TITLE,
        marking=marking,
        public=marking == "OFFICIAL",
        record_date=f"{record_date.day} {record_date:%B %Y}",
        sections=sections,
        families=list(dict.fromkeys(section.family for section in sections)),
        sentences=sentences[:MOST_SENTENCES],
        further=max(0, len(sentences) - MOST_SENTENCES),
        providers=values["provider"].n_unique() if values.height else 0,
        bands=BAND_STYLE,
        late=_late(_table(tables, "late_provider"), names),
        deliveries=deliveries,
        broken=broken,
    )


# the parts ------------------------------------------------------------------------------------------


def _table(
    tables: Mapping[str, pl.DataFrame], name: str, columns: tuple[str, ...] | None = None
) -> pl.DataFrame:
    frame = tables.get(name)
    frame = empty(name) if frame is None or not frame.width else frame
    return frame.select(columns) if columns else frame.drop(MARKING_COLUMN, strict=False)


def _place(described: Mapping[str, object]) -> tuple[int, str, str, str]:
    family = str(described["family"] or "").lower()
    place = FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)
    return place, family, str(described["friendly_name"]), str(described["version"])


def _first_upper(words: str) -> str:
    return words[:1].upper() + words[1:]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _section(
    described: Mapping[str, object],
    values: pl.DataFrame,
    limits: pl.DataFrame,
    names: Mapping[str, str | None],
    marking: Marking,
) -> Section | None:
    mine = (pl.col("indicator") == described["indicator"]) & (pl.col("version") == described["version"])
    of_all = values.filter(mine)
    rows = of_all.filter(pl.col("stratum") == TOTAL_STRATUM)
    if rows.is_empty():
        return None
    # The sums of a public set would be sums of what is shown, which is not the sum.
    series = [] if marking == "OFFICIAL" else _series(described, rows)
    period = str(rows["period"].max())
    rows = rows.filter(pl.col("period") == period).sort(
        "z", "provider", descending=[True, False], nulls_last=True
    )
    curve = limits.filter(mine & (pl.col("period") == period) & (pl.col("stratum") == TOTAL_STRATUM))
    measure, per = str(described["measure"]), float(str(described["per"]))
    value_title = _value_title(measure, per, str(described["unit"]))
    size = "expected" if measure == "standardised_ratio" else "denominator"
    points = rows.filter(pl.col("value").is_not_null()).select(
        "provider", pl.col(size).alias("size"), "value", "band", "z"
    )
    counts = {band: points.filter(pl.col("band") == band).height for band in BAND_STYLE}
    title = str(described["friendly_name"])
    hidden = rows.filter("suppressed").height if rows["value"].null_count() else 0
    alt = (
        f"Funnel plot of {title}, {period}: {points.height} providers, {counts['higher']} above and "
        f"{counts['lower']} below the 95 % limits, {counts['as expected']} between them."
    )
    slug = re.sub(r"[^a-z0-9]+", "-", f"{described['indicator']}-{described['version']}".lower()).strip("-")
    svg = None
    if points.height and curve.height:
        plot = FunnelPlot(
            slug=slug,
            size_title=SIZE_WORDS.get(measure, "Denominator"),
            value_title=value_title,
            percent=measure == "proportion" and per == 1,
            points=points,
            curve=curve,
            alt=alt,
        )
        svg = Markup(funnel_svg(plot))  # noqa: S704 (made by us from numbers and codes, the title is escaped)
    target = rows["target"].drop_nulls()
    return Section(
        slug=slug,
        title=title,
        period=period,
        family=_first_upper(str(described.get("family") or "indicators")),
        definition=_definition(described),
        description=str(described["description"]),
        size_title=SIZE_WORDS.get(measure, "Denominator"),
        numerator_title="Observed" if measure == "standardised_ratio" else "Numerator",
        value_title=value_title,
        rows=[_row(row, size, measure, per, names) for row in rows.iter_rows(named=True)],
        counts=counts,
        hidden=hidden,
        alerts=rows.filter(pl.col("alert") == "alert").height,
        alarms=rows.filter(pl.col("alert") == "alarm").height,
        target=figure(float(target[0]), measure, per) if target.len() else "",
        svg=svg,
        alt=alt,
        caption=f"{title}, {period}. Each mark is one provider.",
        contributing=points.height,
        intervals=rows["lower_95"].null_count() < rows.height,
        grouped=rows.height < of_all.filter(period=period).height,
        series=series,
    )


def _series(described: Mapping[str, object], rows: pl.DataFrame) -> list[Period]:
    """Every period of one indicator over all providers, where there is more than one."""
    measure, per = str(described["measure"]), float(str(described["per"]))
    size = "expected" if measure == "standardised_ratio" else "denominator"
    sums = rows.group_by("period").agg(pl.col("numerator", size).sum()).sort("period")
    if sums.height < 2:
        return []
    breaks = CODING_BREAK.findall(str(described.get("coding_breaks") or ""))
    found = []
    for period, numerator, whole in sums.iter_rows():
        value = numerator if measure == "count" else per * numerator / whole if whole else None
        found.append(
            Period(
                period=period,
                numerator=_number(numerator),
                size=_number(whole),
                value="" if value is None else figure(value, measure, 1 if measure == "rate" else per),
                changed=" ".join(says for day, says in breaks if _is_in(day, period)),
            )
        )
    return found


def _is_in(day: str, period: str) -> bool:
    """Whether ``day`` lies in a financial year such as 2016-17."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}", period):
        return False
    year = int(day[:4]) - (day[5:] < "04-01")
    return year == int(period[:4])


def _value_title(measure: str, per: float, unit: str) -> str:
    if measure == "standardised_ratio":
        return "Observed / expected"
    if measure == "count":
        return "Number"
    if unit == "mean":
        return "Mean"
    if measure == "proportion" and per == 1:
        return "Share"
    return f"Per {per:,.0f}" if per != 1 else "Ratio"


def _definition(described: Mapping[str, object]) -> list[tuple[str, str]]:
    parts = [
        ("It is not", described.get("what_it_is_not")),
        ("Numerator", described["numerator"]),
        ("Denominator", described["denominator"]),
        ("Left out", described.get("exclusions")),
        ("Coding changed", described.get("coding_breaks")),
        ("Unit", UNIT_WORDS.get(str(described["unit"]), described["unit"])),
        ("Reading", DIRECTION_WORDS.get(str(described["direction"]), "")),
        ("Source", described["source"]),
        ("Status", STATUS_WORDS.get(str(described["status"]), str(described["status"]))),
        ("Version", f"{described['indicator']} {described['version']}"),
    ]
    return [(name, str(text).strip()) for name, text in parts if text]


def _row(
    row: Mapping[str, object], size: str, measure: str, per: float, names: Mapping[str, str | None]
) -> Row:
    def number(column: str) -> float | None:
        value = row[column]
        return None if value is None else float(str(value))

    def shown(value: float) -> str:
        # The column's title says per how many.
        return figure(value, measure, 1 if measure == "rate" else per)

    value, low, high = number("value"), number("lower_95"), number("upper_95")
    interval = "" if low is None or high is None else f"{shown(low)} to {shown(high)}"
    hidden = bool(row["suppressed"]) and value is None
    return Row(
        provider=str(row["provider"]),
        name=names.get(str(row["provider"])) or "",
        numerator="hidden" if hidden and row["numerator"] is None else _number(number("numerator")),
        size="hidden" if hidden and row[size] is None else _number(number(size)),
        value="hidden" if hidden else "" if value is None else shown(value),
        interval=interval,
        band=str(row["band"] or ""),
        flag=str(row["alert"] or ""),
    )


def _findings(alerts: pl.DataFrame, values: pl.DataFrame, record_date: date) -> list[tuple[str, str]]:
    """Level and sentence of the latest period of every indicator, and of the signals of the last year's charts: alarms
    first, then signals, then the farthest first."""
    of = ["indicator", "version"]
    latest = values.group_by(of).agg(pl.col("period").max())
    year_ago = f"{record_date.year - 1}-{record_date.month:02d}"
    signals = alerts.filter((pl.col("level") == CUSUM_SIGNAL) & (pl.col("period") > year_ago))
    ordered = (
        pl.concat([alerts.join(latest, on=[*of, "period"], how="semi"), signals])
        .unique(maintain_order=True)
        .with_columns(
            _far=pl.col("z").abs(),
            _first=pl.when(level="alarm").then(0).when(level=CUSUM_SIGNAL).then(1).otherwise(2),
        )
        .sort(
            "_first",
            "_far",
            "indicator",
            "provider",
            "stratum",
            "period",
            descending=[False, True, False, False, False, False],
            nulls_last=True,
        )
    )
    return list(ordered.select("level", "sentence").iter_rows())


def _quality(
    deliveries: pl.DataFrame, results: pl.DataFrame
) -> tuple[list[Delivery], list[dict[str, object]]]:
    over = results.filter(pl.col("verdict") != "met")
    per_delivery = dict(over.group_by("delivery").len().iter_rows())
    shown = []
    for row in deliveries.sort("dataset", "period", "id", descending=[False, True, False]).iter_rows(
        named=True
    ):
        rows_in, left = row["rows_in"], row["rows_quarantined"]
        shown.append(
            Delivery(
                dataset=row["dataset"],
                period=row["period"],
                status=row["status"],
                rows_in=_number(rows_in),
                rows_out=_number(row["rows_out"]),
                quarantined=_number(left),
                share=f"{100 * left / rows_in:.2f} %" if rows_in and left is not None else "",
                over=per_delivery.get(row["id"], 0),
            )
        )
    labels = {row["id"]: f"{row['dataset']} {row['period']}" for row in deliveries.iter_rows(named=True)}
    broken = [
        {
            "delivery": labels.get(row["delivery"], row["delivery"]),
            "rule": row["rule"],
            "severity": row["severity"],
            "verdict": row["verdict"],
            "says": row["says"],
            "failures": _number(row["failures"]),
            "share": f"{100 * row['share']:.2f} %",
            "allowed": "" if row["allowed"] is None else f"{100 * row['allowed']:.2f} %",
        }
        for row in over.sort(
            "severity", "share", "delivery", "rule", descending=[False, True, False, False]
        ).iter_rows(named=True)
    ]
    return shown, broken


def _late(late: pl.DataFrame, names: Mapping[str, str | None]) -> list[dict[str, str]]:
    return [
        {**row, "name": names.get(row["provider"]) or ""}
        for row in late.sort("dataset", "period", "provider").iter_rows(named=True)
    ]
