"""Funnel limits are those of the official releases, and odd input has a stated outcome."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from infra.funnel_file import read_funnel_file, render_csv
from schemas.errors import UsageError, WardwatchError
from transforms.funnel import (
    LIMIT_COLUMNS,
    binomial_limits,
    decile_groups,
    poisson_limits,
    proportion,
    rate,
    ratio_of_counts,
    standardised_ratio,
)

SHARED = Path(__file__).parents[2].parent / "shared/data"
RELEASES = {  # publication: (providers, retained, phi, tau2, band 1, band 2, band 3)
    "shmi-2011-october.csv": (147, 119, 7.690594, 0.003672, 14, 119, 14),
    "shmi-2012-july.csv": (143, 115, 7.030438, 0.003307, 10, 117, 16),
    "shmi-2013-july.csv": (142, 114, 6.241774, 0.002790, 11, 116, 15),
}
PRINTED = 5.0001e-5  # the releases print four decimals: half a unit of the last


def official(name: str) -> list[dict[str, str]]:
    with (SHARED / "shmi" / name).open(encoding="latin-1") as stream:
        return [row for row in csv.DictReader(stream) if row.get("EXPECTED")]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.skipif(not SHARED.exists(), reason="file under ../shared not present")
def test_every_row_of_the_official_releases_is_reproduced(release: str) -> None:
    rows = official(release)
    providers, retained, phi, tau2, *bands = RELEASES[release]
    funnel = standardised_ratio(
        [float(row["OBSERVED"]) for row in rows], [float(row["EXPECTED"]) for row in rows]
    )
    assert (len(rows), funnel.contributing) == (providers, retained)
    assert round(funnel.phi, 6) == phi
    assert round(funnel.tau2, 6) == tau2
    printed = {
        "VALUE": "value",
        "PO_LL": "funnel_lower_998",
        "PO_UL": "funnel_upper_998",
        "OD_LL": "od_lower_95",
        "OD_UL": "od_upper_95",
    }
    for column, ours in printed.items():
        error = np.abs(np.array([float(row[column]) for row in rows]) - funnel.rows[ours].to_numpy())
        assert error.max() <= PRINTED, f"{column} differs by more than rounding"
    assert funnel.rows["band"].to_list() == [int(row["OD_BANDING"]) for row in rows]
    assert [funnel.rows["band"].to_list().count(band) for band in (1, 2, 3)] == bands


# HSCIC, Summary Hospital-level Mortality Indicator, publication of July 2013 (Open Government Licence):
# expected, PO_LL, PO_UL, OD_LL, OD_UL of four trusts. tau2 of that release is 0.002790, found from all 142
# rows, so the limits of single rows can be checked without the file.
JULY_2013 = [
    (865.4807, 0.8982, 1.1096, 0.8842, 1.1310),
    (4457.5565, 0.9544, 1.0472, 0.8980, 1.1136),
    (1395.6232, 0.9193, 1.0855, 0.8904, 1.1231),
    (2862.8630, 0.9432, 1.0591, 0.8960, 1.1161),
]


@pytest.mark.parametrize(("expected", "po_lower", "po_upper", "od_lower", "od_upper"), JULY_2013)
def test_limits_of_single_hospitals_are_the_published_ones(
    expected: float, po_lower: float, po_upper: float, od_lower: float, od_upper: float
) -> None:
    lower, upper = poisson_limits(expected, 0.998)
    assert (round(lower[0], 4), round(upper[0], 4)) == (po_lower, po_upper)
    distance = 1.959964 * math.sqrt(1 / expected + 0.002790)
    assert (round(math.exp(-distance), 4), round(math.exp(distance), 4)) == (od_lower, od_upper)


# FunnelPlotR 0.6.0 (NHS-R Community), unit test values for the unadjusted limits at E = 15, 20, 30.
@pytest.mark.parametrize(
    ("expected", "lower_95", "upper_95", "lower_998", "upper_998"),
    [
        (15, 0.5596924, 1.649348, 0.3862650, 2.082907),
        (20, 0.6108260, 1.544419, 0.4479107, 1.902094),
        (30, 0.6746958, 1.427562, 0.5289724, 1.702771),
    ],
)
def test_poisson_limits_are_those_of_the_nhs_r_community(
    expected: float, lower_95: float, upper_95: float, lower_998: float, upper_998: float
) -> None:
    assert poisson_limits(expected, 0.95)[0][0] == pytest.approx(lower_95, abs=1e-7)
    assert poisson_limits(expected, 0.95)[1][0] == pytest.approx(upper_95, abs=1e-6)
    assert poisson_limits(expected, 0.998)[0][0] == pytest.approx(lower_998, abs=1e-7)
    assert poisson_limits(expected, 0.998)[1][0] == pytest.approx(upper_998, abs=1e-6)


DEVIATE = 1e-7  # the fixtures were made with the deviates 1.959964 and 3.090232, ours have all their digits

# FunnelPlotR 0.6.0, test fixture, six hospitals a to f: expected, observed and what it computes of them.
SIX_EXPECTED = [108, 112, 165, 95, 100, 220]
SIX_OBSERVED = [100, 150, 180, 80, 120, 225]


def test_six_hospitals_have_the_limits_of_the_shmi_fixture() -> None:
    rows = standardised_ratio(SIX_OBSERVED, SIX_EXPECTED).rows
    assert rows["z"].to_list() == pytest.approx(
        [
            -0.799802600707036,
            3.09168129454357,
            1.1176813744217,
            -1.67498911236673,
            1.82321556793955,
            0.333326319141511,
        ]
    )
    assert rows["od_lower_95"][0] == pytest.approx(0.717306749284712, rel=DEVIATE)
    assert rows["od_upper_998"][5] == pytest.approx(1.61440404195336, rel=DEVIATE)


def test_six_hospitals_have_the_limits_of_the_cqc_fixture_squared() -> None:
    # The fixture leaves its limits on the square root scale; ours are squared back beside the ratio.
    rows = standardised_ratio(SIX_OBSERVED, SIX_EXPECTED, "cqc", trim=0.05).rows
    assert math.sqrt(rows["od_lower_95"][0]) == pytest.approx(0.839321309796657, rel=DEVIATE)
    assert math.sqrt(rows["od_upper_998"][1]) == pytest.approx(1.25177557524308, rel=DEVIATE)


@pytest.mark.parametrize(
    ("name", "method", "trim"),
    [
        ("testfixture_SHMI_99.csv", "shmi", 0.1),
        ("vignette_toy_SHMI_95.csv", "shmi", 0.1),
        ("testfixture_CQC_95_trim05.csv", "cqc", 0.05),
        ("vignette_toy_CQC_95.csv", "cqc", 0.1),
    ],
)
@pytest.mark.skipif(not SHARED.exists(), reason="file under ../shared not present")
def test_every_column_of_the_fixtures_is_met(name: str, method: str, trim: float) -> None:
    fixture = pl.read_csv(SHARED / "funnel" / name)
    rows = standardised_ratio(fixture["numerator"], fixture["denominator"], method, trim).rows  # type: ignore[arg-type]
    scale = "log" if method == "shmi" else "square root"
    columns = {"Uzscore": "z", "LCL95": "funnel_lower_95", "UCL95": "funnel_upper_95"}
    columns |= {"LCL99": "funnel_lower_998", "UCL99": "funnel_upper_998"}
    columns |= {"OD95LCL": "od_lower_95", "OD95UCL": "od_upper_95"}
    columns |= {"OD99LCL": "od_lower_998", "OD99UCL": "od_upper_998"}
    for theirs, ours in columns.items():
        found = rows[ours].to_numpy()
        if scale == "square root" and theirs.startswith("OD"):
            found = np.sqrt(found)
        assert found == pytest.approx(fixture[theirs].to_numpy(), rel=DEVIATE), theirs


def test_proportions_and_ratios_of_counts_follow_their_formulas_step_by_step() -> None:
    r, n = np.array([12, 30, 25, 60, 8, 41, 77]), np.array([200, 310, 150, 420, 160, 380, 500])
    target = r.sum() / n.sum()
    s = 1 / (2 * np.sqrt(n))
    z = (np.arcsin(np.sqrt(r / n)) - math.asin(math.sqrt(target))) / s
    pulled = np.clip(z, *np.quantile(z, [0.1, 0.9]))
    phi = (pulled**2).sum() / 7
    w = 4 * n
    tau2 = (7 * phi - 6) / (w.sum() - (w**2).sum() / w.sum())
    funnel = proportion(r, n)
    assert (funnel.target, funnel.phi, funnel.tau2) == pytest.approx((target, phi, tau2))
    assert tau2 > 0, "the example varies more than chance"
    upper = np.sin(math.asin(math.sqrt(target)) + 1.9599639845 * np.sqrt(s**2 + tau2)) ** 2
    assert funnel.rows["od_upper_95"].to_numpy() == pytest.approx(upper)

    counts = ratio_of_counts(r, n)
    s = np.sqrt(r / (r + 0.5) ** 2 + n / (n + 0.5) ** 2)
    z = (np.log((r + 0.5) / (n + 0.5)) - math.log(target)) / s
    assert counts.rows["z"].to_numpy() == pytest.approx(z)
    lower = np.exp(math.log(target) - 3.0902323062 * np.sqrt(s**2 + counts.tau2))
    assert counts.rows["od_lower_998"].to_numpy() == pytest.approx(lower)


def test_rates_have_poisson_limits_around_the_pooled_rate() -> None:
    funnel = rate([3, 9, 6], [1000, 2000, 1500])
    assert funnel.target == pytest.approx(18 / 4500)
    lower, upper = poisson_limits(np.array([4.0, 8.0, 6.0]), 0.998)
    assert funnel.rows["funnel_lower_998"].to_numpy() == pytest.approx(lower * 0.004)
    assert funnel.rows["funnel_upper_998"].to_numpy() == pytest.approx(upper * 0.004)


def test_the_binomial_limit_leaves_the_tail_between_the_two_nearest_counts() -> None:
    n = np.array([5, 30, 100, 1000])
    for level in (0.95, 0.998):
        lower, upper = binomial_limits(n, 0.2, level)
        tail = (1 - level) / 2
        assert (binom.cdf(np.ceil(upper * n), n, 0.2) >= 1 - tail).all()
        assert (binom.cdf(np.ceil(upper * n) - 2, n, 0.2) < 1 - tail).all()
        assert (lower < 0.2).all()
        assert (binom.cdf(np.floor(lower * n) - 1, n, 0.2) < tail).all()


def test_the_arcsine_limit_of_a_very_small_provider_does_not_turn_back() -> None:
    funnel = proportion([1, 90], [1, 100])
    assert funnel.rows["od_upper_95"][0] == 1.0, "beyond a right angle the sine would fall again"


def test_the_curve_passes_through_the_limits_of_the_rows() -> None:
    for funnel in (
        standardised_ratio(SIX_OBSERVED, SIX_EXPECTED),
        standardised_ratio(SIX_OBSERVED, SIX_EXPECTED, "cqc"),
        proportion([10, 20, 33], [100, 250, 260]),
        rate([10, 20, 33], [100, 250, 260]),
    ):
        curve = funnel.curve(funnel.rows["size"])
        for column in LIMIT_COLUMNS:
            assert curve[column].to_list() == pytest.approx(funnel.rows[column].to_list()), column


def test_tenths_are_cut_by_average_rank_as_the_official_trimming_does() -> None:
    assert decile_groups(np.arange(10.0)).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    # nine hospitals: floor(10 r / 10) = r, so only the top one falls into the last tenth
    assert decile_groups(np.arange(9.0)).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    # four ties at the bottom of ten share rank 2.5: floor(25 / 11) = 2, none is trimmed
    assert decile_groups(np.array([1.0, 1, 1, 1, 2, 3, 4, 5, 6, 7])).tolist()[:4] == [2, 2, 2, 2]


def test_a_hospital_with_nothing_observed_gets_limits_and_a_ratio_of_zero() -> None:
    funnel = standardised_ratio([0, *range(90, 100)], [8.5, *[95] * 10])
    assert funnel.rows["value"][0] == 0
    assert funnel.rows["z"][0] == pytest.approx(math.sqrt(8.5) * math.log(0.5 / 8.5)), (
        "half an event stands in"
    )
    assert funnel.rows["band"][0] == 3
    assert math.isfinite(funnel.tau2)


def test_none_seen_where_hardly_one_was_expected_is_as_expected() -> None:
    """Every limit on a log scale lies above 0, however little was expected."""
    rows = standardised_ratio([0, 0, 0, 10, 12, 9], [0.05, 0.4, 1.5, 10, 11, 9.5]).rows
    assert rows["value"].to_list()[:3] == [0, 0, 0]
    assert (rows["value"] < rows["od_lower_95"]).to_list()[:3] == [True] * 3
    assert rows["band"].to_list()[:3] == [2, 2, 2]
    assert rows["z"].to_list()[:2] == [0, 0], "half an event would be more than was expected"
    assert ratio_of_counts([0, 40, 45, 50], [1, 40, 45, 50]).rows["band"][0] == 2


def test_one_hospital_has_limits_of_chance_alone() -> None:
    funnel = standardised_ratio([12.5], [10.25])
    assert funnel.tau2 == 0
    assert funnel.rows["od_upper_95"][0] == pytest.approx(math.exp(1.959964 / math.sqrt(10.25)))
    assert proportion([3], [10]).tau2 == 0


def test_three_hospitals_are_all_retained() -> None:
    funnel = standardised_ratio([5, 50, 500], [50, 50, 50])
    assert funnel.contributing == 3
    assert funnel.tau2 > 0


def test_nothing_happening_anywhere_is_as_expected_everywhere() -> None:
    for funnel in (proportion([0, 0], [10, 20]), rate([0, 0], [10, 20])):
        assert funnel.rows["band"].to_list() == [2, 2]
        assert funnel.rows["funnel_upper_998"].to_list() == [0, 0]


@pytest.mark.parametrize(
    ("observed", "expected", "says"),
    [
        ([1, 2], [0, 3], "1 of zero"),
        ([1, -2], [2, 3], "1 below zero"),
        ([1, float("nan")], [2, 3], "1 missing"),
        ([1, 2], [2, None], "1 missing"),
        ([1, 2], [2, float("inf")], "1 missing or not finite"),
        ([], [], "no rows"),
        ([1, 2], [2], "different lengths"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_count(observed: list, expected: list, says: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(UsageError, match=says):
        standardised_ratio(observed, expected)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.floats(0, 1e6, allow_subnormal=False), st.floats(1e-3, 1e6)), min_size=1, max_size=30
    ),
    st.sampled_from(["shmi", "cqc"]),
)
def test_no_number_of_a_result_is_ever_missing(pairs: list[tuple[float, float]], method: str) -> None:
    observed, expected = zip(*pairs, strict=True)
    rows = standardised_ratio(observed, expected, method).rows  # type: ignore[arg-type]
    for column in rows.columns:
        assert rows[column].is_nan().sum() == 0 if rows[column].dtype.is_float() else True, column
        assert rows[column].null_count() == 0, column
    assert (rows["od_lower_95"] <= rows["od_upper_95"]).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 1e6)), min_size=1, max_size=30))
def test_no_number_is_missing_whatever_the_share_and_size(pairs: list[tuple[float, float]]) -> None:
    share, size = zip(*pairs, strict=True)
    seen = [part * whole for part, whole in pairs]
    for funnel in (proportion(seen, size), rate(seen, size)):
        rows = funnel.rows
        for column in LIMIT_COLUMNS:
            assert rows[column].is_finite().all(), column
        assert (rows["funnel_lower_998"] <= rows["funnel_upper_998"]).all()
        assert funnel.curve([0.3, 7.5]).null_count().sum_horizontal()[0] == 0
    assert max(share) <= 1


# the file behind `wardwatch funnel FILE` ------------------------------------------------------------


def write(folder: Path, content: bytes) -> Path:
    path = folder / "release.csv"
    path.write_bytes(content)
    return path


def test_a_release_with_byte_order_mark_and_footer_is_read(tmp_path: Path) -> None:
    text = '\ufeffTRUST,OBSERVED,EXPECTED\nRXA,10,12.5\nRXB,"1,200",1000\n,,\n"Copyright \xa9 2013",,\n'
    rows = read_funnel_file(write(tmp_path, text.encode()), "observed", "Expected", "TRUST")
    assert rows.rows() == [("RXA", 10.0, 12.5), ("RXB", 1200.0, 1000.0)]


def test_a_file_in_latin_1_is_read(tmp_path: Path) -> None:
    content = "NAME;O;E\nSt Ren\xe9e;10;12\n\xa9 2013;;\n".encode("latin-1")
    rows = read_funnel_file(write(tmp_path, content), "O", "E", "NAME")
    assert rows.rows() == [("St Ren\xe9e", 10.0, 12.0)]


@pytest.mark.parametrize(
    "content",
    [
        b"T,O,E\rA,1,2\rB,3,4\r",
        "T\tO\tE\nA\t1\t2\nB\t3\t4\n".encode("utf-16"),
        b"sep=;\r\nT;O;E\r\nA;1;2\r\nB;3;4\r\n",
        b' T , O ,"E"\nA,1 , 2,,\n\nB,3,4\nSource: a talk\n,,\n',
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, content: bytes) -> None:
    assert read_funnel_file(write(tmp_path, content), "O", "E", "T").rows() == [
        ("A", 1.0, 2.0),
        ("B", 3.0, 4.0),
    ]


def test_a_file_of_windows_keeps_its_apostrophes(tmp_path: Path) -> None:
    rows = read_funnel_file(write(tmp_path, b"T,O,E\nSt Mary\x92s,1,2\n"), "O", "E", "T")
    assert rows["group"].to_list() == ["St Mary\u2019s"]


def test_one_column_is_not_two(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one column cannot be two"):
        read_funnel_file(write(tmp_path, b"T,O,E\nA,1,2\n"), "O", "o", "T")


def test_limits_beyond_all_measure_are_written_with_an_exponent(tmp_path: Path) -> None:
    rows = read_funnel_file(write(tmp_path, b"T,O,E\nA,0,0.000001\nB,9,5\n"), "O", "E", "T")
    text = render_csv(rows["group"].to_list(), standardised_ratio(rows["observed"], rows["expected"]))
    assert "nan" not in text.lower()
    assert "inf" not in text.lower()
    assert max(map(len, text.splitlines())) < 120


def test_rows_of_one_hospital_are_added_up(tmp_path: Path) -> None:
    path = write(tmp_path, b"T,O,E\nB,1,2\nA,3,4\nB,5,6\n")
    assert read_funnel_file(path, "O", "E", "T").rows() == [("B", 6.0, 8.0), ("A", 3.0, 4.0)]
    assert read_funnel_file(path, "O", "E")["group"].to_list() == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"T,O\nA,1\n", "no column E"),
        (b"T,O,E\n", "no rows"),
        (b"T,O,E\nA,SECRET,2\n", "1 row"),
        (b"T,O,E\nA,,2\n", "1 row"),
        (b"T,O,E\nA,1\n", "1 row"),
        (b"T,O,E,E\nA,1,2,3\n", "more than one column"),
        (b"T,O,E\nA,,\nB,1,2\n", "1 row"),
        (b"T,O,E\nA, London,SECRET,2\n", "1 row.* more cells than the header"),
        (b"T;O;E\nA;1;1,234\n", "1 row.* decimal point"),
        (b"T,O,E\n,1,2\nB,1,2\n", "1 row.* no group"),
        (b"T,O,E\nA,1e300,2\n", "1 row.* too large"),
        (b"T,O,E\nA,1,1e-300\n", "1 row.* too small"),
        (b'T,O,E\nA,1,2\n"SECRET,1,2\nC,1,2\n', "quotation mark"),
        (b"T,O,E\nA\0,1,2\n", "not delimited text"),
        (b"\xff\xfeT,O,E", "not delimited text"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_without_its_values(
    tmp_path: Path, content: bytes, says: str
) -> None:
    with pytest.raises(WardwatchError, match=says) as refused:
        read_funnel_file(write(tmp_path, content), "O", "E", "T")
    assert "SECRET" not in str(refused.value)


def test_the_csv_has_one_row_per_group_and_the_two_parameters_as_comments(tmp_path: Path) -> None:
    content = "T,O,E\n" + "".join(
        f"{name},{o},{e}\n" for name, o, e in zip("abcdef", SIX_OBSERVED, SIX_EXPECTED, strict=True)
    )
    rows = read_funnel_file(write(tmp_path, content.encode()), "O", "E", "T")
    funnel = standardised_ratio(rows["observed"], rows["expected"])
    lines = render_csv(rows["group"].to_list(), funnel).splitlines()
    assert lines[0] == (
        "group,observed,expected,ratio,poisson_lower_998,poisson_upper_998,od_lower_95,od_upper_95,band"
    )
    assert lines[1] == "a,100,108,0.925926,0.728798,1.334540,0.717307,1.394104,2"
    assert len(lines) == 1 + 6 + 2
    assert lines[-2] == f"# phi {funnel.phi:.10g}"
    assert lines[-1] == f"# tau2 {funnel.tau2:.10g}"


@pytest.mark.skipif(not SHARED.exists(), reason="file under ../shared not present")
def test_the_official_file_with_its_footer_gives_the_official_bands() -> None:
    path = SHARED / "shmi" / "shmi-2013-july.csv"
    rows = read_funnel_file(path, "OBSERVED", "EXPECTED", "PROVIDER")
    funnel = standardised_ratio(rows["observed"], rows["expected"])
    bands = dict(zip(rows["group"], funnel.rows["band"], strict=True))
    assert bands == {row["PROVIDER"]: int(row["OD_BANDING"]) for row in official(path.name)}
