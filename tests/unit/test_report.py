"""The report explains itself, stands alone, and reads without colour, pictures or a network."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import polars as pl
import pytest

from infra.report import build_report
from infra.report.charts import FunnelPlot, funnel_svg
from schemas.disclosure_policy import disclosure_policy
from schemas.published import declaration, empty
from tests.published_sample import RECORD_DATE, sample_tables
from transforms.disclosure import protect, public_values


def conformed() -> dict[str, pl.DataFrame]:
    return {
        name: declaration().table(name).conform(frame, "OFFICIAL SENSITIVE")
        for name, frame in sample_tables().items()
    }


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    return conformed()


@pytest.fixture(scope="module")
def page(tables: dict[str, pl.DataFrame]) -> str:
    return build_report(tables, RECORD_DATE, "OFFICIAL SENSITIVE")


class Outline(HTMLParser):
    """What a screen reader goes by: headings, ids, links, captions, titles; and tags left open."""

    VOID = frozenset({"meta", "br", "line", "path", "circle", "rect", "col", "link", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.counts: dict[str, int] = {}
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name == "href":
                self.links.append(value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_nothing_is_fetched_from_anywhere(page: str) -> None:
    without_names = re.sub(r'xmlns(:xlink)?="http://www\.w3\.org/[^"]+"', "", page)
    assert not re.findall(r"https?://", without_names)
    assert "<script" not in page
    assert not re.findall(r"@import|url\((?!#)", page)
    assert not re.findall(r'\b(?:src|srcset)="', page)


def test_every_link_leads_to_a_place_on_the_page(page: str) -> None:
    outline = Outline(page)
    assert outline.links
    for link in outline.links:
        assert link.startswith("#")
        assert link[1:] in outline.ids, link
    assert len(set(outline.ids)) == len(outline.ids), "no id is there twice, the charts' included"


def test_the_page_is_well_formed_and_its_headings_are_in_order(page: str) -> None:
    outline = Outline(page)
    assert not outline.wrong
    assert not outline.open
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    for before, after in zip(outline.headings, outline.headings[1:], strict=False):
        assert after <= before + 1, "no level of heading is left out"


def test_tables_have_captions_and_plots_a_sentence_for_those_who_do_not_see_them(page: str) -> None:
    outline = Outline(page)
    assert outline.counts["table"] == outline.counts["caption"]
    assert page.count('role="img"') == 3
    said = "Emergency caesarean births, 2019-20: 36 providers, 1 above and 0 below the 95 % limits"
    assert f"Funnel plot of {said}" in page
    assert '<html lang="en-GB">' in page


def test_the_marking_stands_at_head_and_foot_and_on_every_printed_page(page: str) -> None:
    assert page.index(">OFFICIAL SENSITIVE<") < page.index("<h1>")
    assert page.rindex(">OFFICIAL SENSITIVE<") > page.index("About these numbers")
    assert '@top-center { content: "OFFICIAL SENSITIVE"' in page
    assert '@bottom-center { content: "OFFICIAL SENSITIVE"' in page


def test_the_summary_says_who_stands_out_as_a_question(page: str) -> None:
    summary = page[page.index('id="summary"') : page.index('id="reading"')]
    assert "provider RBC has 1,053 observed against 702 expected" in summary
    assert "2018-19" not in summary, "only the latest period is in the summary"
    assert "A question, not a verdict" in summary
    for word in ("failing", "poor", "unsafe", "worst", "dangerous", "league"):
        assert word not in page.lower()


def test_the_title_is_no_verdict_and_the_limits_are_said_as_they_are(page: str) -> None:
    title = "Variation between hospitals: indicators to ask about"
    assert f"<h1>{title}</h1>" in page
    assert f"<title>OFFICIAL SENSITIVE - {title} (" in page
    assert "avoidable harm" not in page
    words = " ".join(page.split())
    assert (
        "outside the limits lies where chance and ordinary variation alone would put about one in twenty"
        in words
    )
    assert (
        "neither is raised where fewer than five events were seen (high side) or expected (low side)" in words
    )


def part(page: str, first: str, then: str) -> str:
    """The page from the section of one indicator to that of the next."""
    start = page.index(f'aria-labelledby="{first}-v1"')
    return page[start : page.index(f'aria-labelledby="{then}-v1"', start)]


def test_definitions_stand_beside_the_numbers(page: str) -> None:
    section = part(page, "caesarean", "restrictive")
    assert "<dt>Numerator</dt><dd>deliveries by emergency caesarean</dd>" in section
    assert "either side raises the question" in section
    assert "<svg" in section
    assert "Hospital RAD &amp; Partners" in section


def test_what_tables_say_is_escaped(page: str) -> None:
    assert "over &lt;occupied&gt; bed days" in page
    assert "<occupied>" not in page
    assert "Restrictive interventions &amp; restraint" in page


def test_data_quality_names_deliveries_rules_and_missing_providers(page: str) -> None:
    quality = page[page.index('id="quality"') :]
    assert "120,345" in quality
    assert "0.04 %" in quality
    assert "HES_APC.R01" in quality
    assert "HES_APC.R02" not in quality, "a rule that is met is not listed"
    assert "RCX" in quality


def test_the_same_tables_give_the_same_page(tables: dict[str, pl.DataFrame], page: str) -> None:
    assert build_report(tables, RECORD_DATE, "OFFICIAL SENSITIVE") == page


def test_bands_are_told_by_words_and_shapes_and_not_by_colour_alone(page: str) -> None:
    assert "▲ higher" in page
    assert "● as expected" in page


def test_without_any_tables_the_page_says_that_there_is_nothing() -> None:
    page = build_report({}, RECORD_DATE, "OFFICIAL SENSITIVE")
    assert "no indicator values to report yet" in page
    assert "No delivery is recorded" in page
    assert not Outline(page).wrong


def test_one_provider_with_nothing_to_compare_still_has_a_page() -> None:
    tables = conformed()
    for name in ("indicator_value", "funnel_limit"):
        tables[name] = tables[name].filter(pl.col("indicator") == "caesarean")
    tables["indicator_value"] = tables["indicator_value"].filter(pl.col("provider") == "RAA")
    tables["alert"] = empty("alert")
    page = build_report(tables, RECORD_DATE, "OFFICIAL SENSITIVE")
    assert "1 indicator over 1 provider." in page
    assert "No comparison lies far enough" in page


def test_the_public_page_shows_hidden_as_hidden_and_no_internal_section() -> None:
    exact = sample_tables()
    protected = protect(exact["indicator_value"], exact["indicator"], disclosure_policy())
    values = declaration().table("indicator_value").conform(public_values(protected), "OFFICIAL")
    page = build_report(
        {
            "indicator": declaration().table("indicator").conform(exact["indicator"], "OFFICIAL"),
            "indicator_value": values,
            "provider": declaration().table("provider").conform(exact["provider"], "OFFICIAL"),
        },
        RECORD_DATE,
        "OFFICIAL",
    )
    assert "OFFICIAL SENSITIVE" not in page
    assert "Quality of the data" not in page
    assert ">alarm<" not in page
    assert "RCM" not in part(page, "caesarean", "restrictive"), "a tiny service is left out"
    # four events or fewer are hidden in mental health data; RAB has six, which are shown as five
    row = page[page.rindex('<th scope="row">RAB') :]
    assert '<td class="n">5</td>' in row[: row.index("</tr>")]


def test_a_provider_code_in_a_plot_is_escaped() -> None:
    points = pl.DataFrame(
        {"provider": ["<b>R&A</b>"], "size": [100.0], "value": [0.5], "band": ["higher"], "z": [4.0]}
    )
    names = ("od_lower_998", "od_upper_998", "od_lower_95", "od_upper_95", "target")
    limits = {name: [0.1, 0.1] for name in names}
    curve = pl.DataFrame({"denominator": [50.0, 105.0], **limits})
    svg = funnel_svg(FunnelPlot("x", "Size", "Share", True, points, curve, "a < b & c"))
    assert "<b>" not in svg
    assert "R&amp;A" in svg
    assert '<title id="x-title">a &lt; b &amp; c</title>' in svg


def test_an_indicator_with_values_of_groups_says_where_they_are(page: str) -> None:
    says = "This page shows whole providers; the groups are in wardwatch.duckdb."
    assert says not in page, "the sample has whole providers only"
    tables = conformed()
    mine = tables["indicator_value"].filter(pl.col("indicator") == "caesarean")
    groups = mine.with_columns(pl.lit("age: 40 and over").alias("stratum"))
    tables["indicator_value"] = pl.concat([tables["indicator_value"], groups])
    grouped = build_report(tables, RECORD_DATE, "OFFICIAL SENSITIVE")
    assert grouped.count(says) == 1
    assert says in part(grouped, "caesarean", "restrictive")


@pytest.mark.parametrize(
    ("unit", "measure", "title"), [("count", "count", "Number"), ("mean", "rate", "Mean")]
)
def test_what_has_no_interval_has_no_column_for_one(unit: str, measure: str, title: str) -> None:
    tables = conformed()
    described = pl.when(pl.col("indicator") == "caesarean")
    tables["indicator"] = tables["indicator"].with_columns(
        unit=described.then(pl.lit(unit)).otherwise("unit"),
        measure=described.then(pl.lit(measure)).otherwise("measure"),
    )
    tables["indicator_value"] = tables["indicator_value"].with_columns(
        described.then(None).otherwise(name).alias(name)
        for name in ("lower_95", "upper_95", "lower_998", "upper_998")
    )
    page = build_report(tables, RECORD_DATE, "OFFICIAL SENSITIVE")
    section, other = (
        part(page, "caesarean", "restrictive"),
        page[page.index('aria-labelledby="restrictive-v1"') :],
    )
    assert f'<th scope="col" class="n">{title}</th>' in section
    assert "95 % interval" not in section
    assert "95 % interval" in other
    head, body = section[section.index("<thead>") :].split("</thead>", 1)
    assert head.count("<th ") == (row := body[: body.index("</tr>")]).count("<td") + row.count("<th ")


def test_a_series_says_in_which_year_coding_changed_and_the_public_page_has_none() -> None:
    tables = conformed()
    first = tables["indicator"].row(0, named=True)
    mine = (pl.col("indicator") == first["indicator"]) & (pl.col("stratum") == "all")
    latest = tables["indicator_value"].filter(mine)
    assert latest.height, "the sample has values of its first indicator"
    years = [latest.with_columns(pl.lit(year).alias("period")) for year in ("2016-17", "2017-18")]
    tables["indicator_value"] = pl.concat(years)
    changed = "2012-04-01: nothing; really | 2017-04-01: sepsis is coded first; it used to be second"
    tables["indicator"] = tables["indicator"].head(1).with_columns(pl.lit(changed).alias("coding_breaks"))

    internal = build_report(tables, RECORD_DATE, "OFFICIAL SENSITIVE")
    series = internal[internal.index("All providers together, period") :]
    rows = dict(re.findall(r'<th scope="row">(20[0-9-]+)</th>(.*?)</tr>', series))
    before, after = rows["2016-17"], rows["2017-18"]
    assert "sepsis is coded first" in after
    assert "sepsis" not in before
    assert "All providers together, period" not in build_report(tables, RECORD_DATE, "OFFICIAL")
