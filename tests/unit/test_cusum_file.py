"""``wardwatch cusum FILE`` reads any file of cases, loses none of them, and shows no value of a file it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from infra.cusum_file import read_cases, render_csv
from infra.delimited_file import number, read_delimited
from schemas.errors import UsageError
from tests.support.command_line import Ran, wardwatch
from transforms.cusum import chart

SHARED = Path(__file__).parents[2].parent / "shared/data/cusum"
CASES = "PATIENT,DIED,RISK\nA,0,0.2\nB,1,0.05\nC,1,0.1\nD,0,0.3\n"


def write(folder: Path, content: bytes | str) -> Path:
    path = folder / "cases.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def run(path: Path, *more: str) -> Ran:
    return wardwatch(None, "cusum", path, "--outcome", "DIED", "--risk", "RISK", *more)


def table(ran: Ran) -> list[dict[str, str]]:
    lines = [line for line in ran.out.splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


# reading --------------------------------------------------------------------------------------------


def test_a_file_with_byte_order_mark_blank_lines_and_footer_is_read(tmp_path: Path) -> None:
    text = '\ufeffPatient,died,risk\n1,0,0.2\n\n2,1,.05\n,,\n"Source: a talk, 2019",,\n\n'
    cases = read_cases(write(tmp_path, text), "DIED", "RISK")
    assert cases.rows() == [(0, 0.2), (1, 0.05)]


def test_a_file_in_latin_1_with_semicolons_is_read(tmp_path: Path) -> None:
    content = "NOM;DIED;RISK\nRen\xe9e;1.0;1e-2\n\xa9 2019;;\n".encode("latin-1")
    assert read_cases(write(tmp_path, content), "DIED", "RISK").rows() == [(1, 0.01)]


def test_a_file_with_carriage_returns_is_read(tmp_path: Path) -> None:
    assert read_cases(write(tmp_path, CASES.replace("\n", "\r\n")), "DIED", "RISK").height == 4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ("\n\nDIED,RISK\n1,0.5\n", "first line"),
        ("DIED,RISK\n", "no cases"),
        ("DIED,RISK\n,\n\n", "no cases"),
        ("DIED,P\n1,0.5\n", "no column RISK"),
        ("DIED,RISK,RISK\n1,0.5,0.5\n", "more than one column RISK"),
        ("DIED,RISK\n0,0.5\n7777,0.5\n", "neither 0 nor 1 in row 2"),
        ("DIED,RISK\n0,0.5\nSECRET,0.5\n", "neither 0 nor 1 in row 2"),
        ("DIED,RISK\n0,0.5\n0.5,0.5\n", "neither 0 nor 1 in row 2"),
        ("DIED,RISK\n0,7.777\n1,-0.7777\n1,7777%\n", "risk that is not a number from 0 to 1 in rows 1, 2, 3"),
        ("DIED,RISK\n0,nan\n1,inf\n1,SECRET\n", "risk that is not a number from 0 to 1 in rows 1, 2, 3"),
        ('DIED,RISK\n0,"0,7777"\n', "risk that is not a number from 0 to 1 in row 1"),
        ("DIED,RISK\n0,0.5\n1,\n\n,0.7777\n1\n", "missing in rows 2, 3, 4"),
        ("ID,DIED,RISK\nA,0,0.5\nSECRET,,\nB,1,0.5\n", "missing in row 2"),
        ("DIED,RISK\n0,0.5\n1,0,7777\n", "more cells than the header has columns in row 2"),
        ("DIED;RISK\n0;0,7777\n", "risk that is not a number from 0 to 1 in row 1"),
        ('DIED,RISK\n0,0.5\n"SECRET,0.5\n1,0.5\n', "quotation mark"),
        ("DIED,RISK\n0,0.5\0\n", "not delimited text"),
        (
            "DIED,RISK\nSECRET,0.5\n1,7777\n1,\n",
            "missing in row 3; an outcome .* in row 1; a risk .* in row 2",
        ),
    ],
)
def test_a_file_that_cannot_be_charted_is_refused_by_row_number_and_never_by_value(
    tmp_path: Path, content: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        read_cases(write(tmp_path, content), "DIED", "RISK")
    assert "SECRET" not in str(refused.value)
    assert "777" not in str(refused.value)


def test_one_column_is_not_both_outcome_and_risk(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one column"):
        read_cases(write(tmp_path, CASES), "DIED", "died")
    with pytest.raises(UsageError, match="no column"):
        read_cases(write(tmp_path, "DIED,,RISK\n1,0,0.5\n"), "DIED", " ")


def test_risks_of_zero_and_one_have_finite_weights_and_no_sign_before_zero(tmp_path: Path) -> None:
    ran = run(write(tmp_path, "DIED,RISK\n0,0\n1,0\n0,1\n1,1\n0,1e-300\n"), "--threshold", "2")
    assert [row["weight"] for row in table(ran)] == [
        "0.000000000", "0.693147181", "-0.693147181", "0.000000000", "0.000000000",
    ]  # fmt: skip


def test_an_error_names_ten_rows_and_counts_the_others(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 15 more") as refused:
        read_cases(write(tmp_path, "DIED,RISK\n" + "0,2\n" * 25), "DIED", "RISK")
    assert "row 1 is the first below the header" in str(refused.value)


def test_a_file_that_is_not_there_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_cases(tmp_path / "none.csv", "DIED", "RISK")
    with pytest.raises(UsageError, match="no such file"):
        read_cases(tmp_path, "DIED", "RISK")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12.0), ("-1.5e-3", -0.0015), (".5", 0.5), ("5.", 5.0), ("1,200", 1200.0), ("1,234,567.8", 1234567.8),
        ("0,1", None), ("1,23", None), ("", None), (".", None), ("nan", None), ("1e999", None), ("1_0", None),
        ("*", None), ("1 2", None), ("\u0661", None),
    ],
)  # fmt: skip
def test_a_comma_in_a_number_is_a_thousands_separator_or_nothing(text: str, value: float | None) -> None:
    assert number(text) == value


def test_between_semicolons_a_comma_is_no_part_of_a_number(tmp_path: Path) -> None:
    for delimiter, value in ((";", None), ("|", 1234.0), ("\t", 1234.0), (",", 1234.0)):
        file = read_delimited(write(tmp_path, f"A{delimiter}B\n1{delimiter}2\n"), "numbers")
        assert file.number("1,234") == value, f"between {delimiter}"


def test_the_delimiter_is_the_one_the_header_uses(tmp_path: Path) -> None:
    for delimiter in ",;\t|":
        file = read_delimited(write(tmp_path, f"A{delimiter}B\n 1 {delimiter} 2 \n"), "numbers")
        assert (file.header, file.rows) == (["A", "B"], [["1", "2"]])


# writing --------------------------------------------------------------------------------------------


def test_the_csv_has_one_row_per_case_with_nine_decimals() -> None:
    assert render_csv(chart([0.5, 0.25, -1], 0.7)) == (
        "row,weight,cusum,signal\n"
        "1,0.500000000,0.500000000,0\n"
        "2,0.250000000,0.750000000,1\n"
        "3,-1.000000000,0.000000000,0\n"
    )


def test_a_computed_threshold_follows_as_comment_lines() -> None:
    lines = render_csv(chart([1], 6.1234), false_alarm_rate=0.001).splitlines()
    assert lines[2:] == ["# threshold 6.1234", "# false_alarm_rate 0.001"]


# the command ----------------------------------------------------------------------------------------


def test_the_command_charts_a_file_at_the_threshold_given(tmp_path: Path) -> None:
    ran = run(write(tmp_path, CASES), "--threshold", "1.2")
    assert (ran.exit_code, ran.err) == (0, "")
    assert ran.out == (
        "row,weight,cusum,signal\n"
        "1,-0.182321557,0.000000000,0\n"
        "2,0.644357016,0.644357016,0\n"
        "3,0.597837001,1.242194017,1\n"
        "4,-0.262364264,0.000000000,0\n"
    )


def test_without_a_threshold_it_is_computed_for_the_risks_of_the_file_and_stated(tmp_path: Path) -> None:
    # 100 cases at 10 %: 5.9783 exactly, see the exact thresholds of test_cusum.py
    content = "DIED,RISK\n" + "0,0.1\n" * 80 + "1,0.1\n" * 20
    ran = run(write(tmp_path, content))
    threshold, rate = (float(line.split()[-1]) for line in ran.lines_with("# "))
    assert threshold == pytest.approx(5.9783, abs=0.02)
    assert rate == 0.001
    rows = table(ran)
    assert [row["row"] for row in rows] == [str(number) for number in range(1, 101)]
    assert all((float(row["cusum"]) >= threshold) == (row["signal"] == "1") for row in rows)
    assert any(row["signal"] == "1" for row in rows), "twenty deaths in a row are a signal"


def test_a_laxer_false_alarm_rate_lowers_the_threshold_and_is_stated(tmp_path: Path) -> None:
    path = write(tmp_path, "DIED,RISK\n" + "0,0.1\n" * 100)
    strict, lax = run(path), run(path, "--false-alarm-rate", "0.05")
    first, second = (float(ran.lines_with("# threshold")[0].split()[-1]) for ran in (strict, lax))
    assert second < first
    assert lax.lines_with("# false_alarm_rate") == ["# false_alarm_rate 0.05"]


def test_the_odds_ratio_and_the_reset_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path, "DIED,RISK\n1,0.5\n1,0.5\n")
    half = table(run(path, "--threshold", "0.4", "--reset", "half", "--odds-ratio", "3"))
    assert [row["weight"] for row in half] == ["0.405465108"] * 2  # ln(3 / 2)
    assert [row["cusum"] for row in half] == ["0.405465108", "0.608197662"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--reset", "quarter"), "--reset"),
        (("--format", "json"), "--format"),
        (("--threshold", "0"), "threshold"),
        (("--threshold", "nan"), "threshold"),
        (("--odds-ratio", "1"), "odds ratio"),
        (("--false-alarm-rate", "2"), "false alarm rate"),
    ],
)
def test_a_wrong_call_ends_with_one_line_and_exit_code_2(
    tmp_path: Path, more: tuple[str, str], says: str
) -> None:
    ran = run(write(tmp_path, CASES), *more)
    assert (ran.exit_code, ran.out) == (2, "")
    assert says in ran.error


def test_the_command_refuses_a_bad_file_without_a_value_on_any_channel(tmp_path: Path) -> None:
    ran = run(write(tmp_path, "DIED,RISK\n0,0.5\nSECRET,0.5\n1,7777\n"))
    assert (ran.exit_code, ran.out) == (2, "")
    assert "row 2" in ran.error
    assert "row 3" in ran.error
    assert "SECRET" not in ran.said
    assert "7777" not in ran.said


@pytest.mark.skipif(not SHARED.exists(), reason="file under ../shared not present")
def test_the_worked_example_gives_its_alert_and_its_weights() -> None:
    path = SHARED / "mainey_person_cusum_example.csv"
    ran = wardwatch(
        None, "cusum", path, "--outcome", "Died", "--risk", "Risk", "--threshold", "6.3", "--reset", "half"
    )
    with path.open(encoding="utf-8-sig") as stream:
        example = list(csv.DictReader(stream))
    rows = table(ran)
    assert [row["signal"] for row in rows] == [row["Trigger"] for row in example]
    assert [float(row["weight"]) for row in rows] == pytest.approx(
        [float(row["Wt"]) for row in example], abs=1e-9
    )
    # row 73 of the example takes the weight of a death for a survivor; up to there the values are the same
    assert [float(row["cusum"]) for row in rows[:72]] == pytest.approx(
        [float(row["Ct"]) for row in example[:72]], abs=2e-8
    )
