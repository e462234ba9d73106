"""The funnel plots of the report, as inline SVG made with Altair and vl-convert, without a network."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

# Okabe and Ito's colours, told apart with every common colour vision; shapes say the same again.
BAND_STYLE = {
    "higher": ("#b3470b", "triangle-up"),
    "as expected": ("#5f6b76", "circle"),
    "lower": ("#0b5c9e", "triangle-down"),
}
INK = "#1d2730"
WIDTH, HEIGHT = 700, 330
MOST_LABELS = 12
"""Provider codes written into the plot; more would cover each other. All of them stand in the table below."""


@dataclass(frozen=True)
class FunnelPlot:
    """What a plot shows: ``points`` (provider, size, value, band, z) and ``curve`` (denominator, target,
    limits)."""

    slug: str
    size_title: str
    value_title: str
    percent: bool
    points: pl.DataFrame
    curve: pl.DataFrame
    alt: str


def funnel_svg(plot: FunnelPlot) -> str:
    """The plot as an SVG element with a title for screen readers; ids are unique to ``plot.slug``."""
    import altair as alt
    import vl_convert

    points = plot.points.select("provider", "size", "value", "band").to_dicts()
    labelled = (
        plot.points.filter(pl.col("band") != "as expected")
        .sort(pl.col("z").abs(), "provider", descending=[True, False])
        .head(MOST_LABELS)
        .select("provider", "size", "value")
        .to_dicts()
    )
    curve = plot.curve.sort("denominator")
    # The limits open wide at the left: the picture is cut where no provider is.
    smallest = float(plot.points["size"].min() or 0)  # type: ignore[arg-type]
    inside = curve.filter(pl.col("denominator") >= smallest * 0.98)
    inside = inside if inside.height else curve
    heights = [*plot.points["value"], *inside["od_lower_998"], *inside["od_upper_998"], *inside["target"]]
    low, high = min(heights), max(heights)
    room = (high - low or abs(high) or 1.0) * 0.06
    y = alt.Scale(domain=[max(0.0, low - room), high + room], nice=False, zero=False)
    widest = float(plot.points["size"].max() or 1) * 1.05  # type: ignore[arg-type]
    x = alt.Scale(domain=[max(0.0, smallest - (widest - smallest) * 0.06), widest], nice=False, zero=False)
    percent = ".0%" if high - low > 0.05 else ".1%"
    y_axis = alt.Axis(title=plot.value_title, format=percent if plot.percent else "~g", tickCount=7)
    x_axis = alt.Axis(title=plot.size_title, format=",.0f", tickCount=8)

    def line(column: str, color: str, dash: list[int], width: float) -> alt.Chart:
        data = [{"x": a, "y": b} for a, b in curve.select("denominator", column).iter_rows()]
        return (
            alt.Chart(alt.Data(values=data))
            .mark_line(clip=True, color=color, strokeDash=dash, strokeWidth=width)
            .encode(
                x=alt.X("x:Q", scale=x, axis=x_axis),
                y=alt.Y("y:Q", scale=y, axis=y_axis),
            )
        )

    lines = [
        line("od_upper_998", INK, [1, 0], 1.3),
        line("od_lower_998", INK, [1, 0], 1.3),
        line("od_upper_95", INK, [5, 4], 1.1),
        line("od_lower_95", INK, [5, 4], 1.1),
        line("target", "#3d6b35", [1, 0], 1.6),
    ]
    bands = list(BAND_STYLE)
    marks = (
        alt.Chart(alt.Data(values=points))
        .mark_point(filled=True, size=85, opacity=0.9, stroke="white", strokeWidth=0.6, clip=True)
        .encode(
            x=alt.X("size:Q", scale=x),
            y=alt.Y("value:Q", scale=y),
            color=alt.Color(
                "band:N",
                scale=alt.Scale(domain=bands, range=[BAND_STYLE[band][0] for band in bands]),
                legend=None,
            ),
            shape=alt.Shape(
                "band:N",
                scale=alt.Scale(domain=bands, range=[BAND_STYLE[band][1] for band in bands]),
                legend=None,
            ),
        )
    )
    names = (
        alt.Chart(alt.Data(values=labelled))
        .mark_text(align="left", dx=8, dy=-1, fontSize=12, fontWeight="bold", color=INK, clip=True)
        .encode(x=alt.X("size:Q", scale=x), y=alt.Y("value:Q", scale=y), text="provider:N")
    )
    chart = (
        alt.layer(*lines, marks, names)
        .properties(width=WIDTH, height=HEIGHT, background="white")
        .configure(
            font="Helvetica, Arial, sans-serif",
            padding=6,
            view={"stroke": None},
            axis={
                "labelColor": INK,
                "titleColor": INK,
                "labelFontSize": 12.5,
                "titleFontSize": 13,
                "titleFontWeight": "normal",
                "titlePadding": 10,
                "gridColor": "#e6eaed",
                "domainColor": "#8a949c",
                "tickColor": "#8a949c",
            },
        )
    )
    return _inline(vl_convert.vegalite_to_svg(chart.to_dict()), plot.slug, plot.alt)


def _inline(svg: str, slug: str, alt_text: str) -> str:
    """Make ``svg`` fit into a page that holds others: own ids, a title, the width of the page."""
    # The converter numbers its ids through the life of the process: number them anew in order of appearance.
    for number, name in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg)), start=1):
        svg = svg.replace(f'id="{name}"', f'id="{slug}-{number}"').replace(
            f"url(#{name})", f"url(#{slug}-{number})"
        )
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    # Vega names every mark for screen readers, which would read out hundreds of them: one sentence is better.
    svg = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", svg)
    title = alt_text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    head = f'<svg role="img" aria-labelledby="{slug}-title" '
    body = svg.split("<svg ", 1)[1]
    return head + re.sub(r">", f'><title id="{slug}-title">{title}</title>', body, count=1)
