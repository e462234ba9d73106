"""The funnel plots of the report: Vega-Lite descriptions, made inline SVG by vl-convert without a network."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import polars as pl

Spec = dict[str, Any]

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
    return _inline(_rendered(json.dumps(_description(plot))), plot.slug, plot.alt)


@lru_cache(maxsize=128)
def _rendered(description: str) -> str:
    """The picture of a Vega-Lite description. A backfill that changes nothing draws nothing anew."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(description))


def _description(plot: FunnelPlot) -> Spec:
    """The Vega-Lite description of ``plot``."""
    points = plot.points.select("provider", "size", "value", "band").to_dicts()
    labelled = (
        plot.points.filter(pl.col("band") != "as expected")
        .sort(pl.col("z").abs(), "provider", descending=[True, False])
        .head(MOST_LABELS)
        .select("provider", "size", "value")
        .to_dicts()
    )
    curve = plot.curve.sort("denominator")
    sizes = plot.points["size"].to_list()
    smallest, widest = min(sizes), max(sizes) * 1.05
    # The limits open wide at the left: the picture is cut where no provider is.
    inside = curve.filter(pl.col("denominator") >= smallest * 0.98)
    inside = inside if inside.height else curve
    heights = [*plot.points["value"], *inside["od_lower_998"], *inside["od_upper_998"], *inside["target"]]
    low, high = min(heights), max(heights)
    room = (high - low or abs(high) or 1.0) * 0.06
    percent = ".0%" if high - low > 0.05 else ".1%"
    x: Spec = {
        "type": "quantitative",
        "scale": {
            "domain": [max(0.0, smallest - (widest - smallest) * 0.06), widest],
            "nice": False,
            "zero": False,
        },
        "axis": {"title": plot.size_title, "format": ",.0f", "tickCount": 8},
    }
    y: Spec = {
        "type": "quantitative",
        "scale": {"domain": [max(0.0, low - room), high + room], "nice": False, "zero": False},
        "axis": {"title": plot.value_title, "format": percent if plot.percent else ",.2~f", "tickCount": 7},
    }

    def line(column: str, color: str, dash: list[int], width: float) -> Spec:
        data = [{"x": size, "y": limit} for size, limit in curve.select("denominator", column).iter_rows()]
        mark = {"type": "line", "clip": True, "color": color, "strokeDash": dash, "strokeWidth": width}
        return {
            "data": {"values": data},
            "mark": mark,
            "encoding": {"x": {"field": "x", **x}, "y": {"field": "y", **y}},
        }

    def by_band(values: list[str]) -> Spec:
        scale = {"domain": list(BAND_STYLE), "range": values}
        return {"field": "band", "type": "nominal", "scale": scale, "legend": None}

    place = {"x": {"field": "size", **x}, "y": {"field": "value", **y}}
    dot = {"type": "point", "filled": True, "size": 85, "opacity": 0.9, "clip": True}
    name = {"type": "text", "align": "left", "dx": 8, "dy": -1, "fontSize": 12, "fontWeight": "bold"}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": WIDTH,
        "height": HEIGHT,
        "background": "white",
        "layer": [
            line("od_upper_998", INK, [1, 0], 1.3),
            line("od_lower_998", INK, [1, 0], 1.3),
            line("od_upper_95", INK, [5, 4], 1.1),
            line("od_lower_95", INK, [5, 4], 1.1),
            line("target", "#3d6b35", [1, 0], 1.6),
            {
                "data": {"values": points},
                "mark": {**dot, "stroke": "white", "strokeWidth": 0.6},
                "encoding": {
                    **place,
                    "color": by_band([color for color, _ in BAND_STYLE.values()]),
                    "shape": by_band([shape for _, shape in BAND_STYLE.values()]),
                },
            },
            {
                "data": {"values": labelled},
                "mark": {**name, "color": INK, "clip": True},
                "encoding": {**place, "text": {"field": "provider", "type": "nominal"}},
            },
        ],
        "config": {
            "font": "Helvetica, Arial, sans-serif",
            "padding": 6,
            "view": {"stroke": None},
            "axis": {
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
        },
    }


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
