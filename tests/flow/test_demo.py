"""The demonstration: one command shows a night and a case review, and leaves nothing half done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows import demo
from infra.review.case import ZONE, cases
from infra.review.hospital_list import LEFT_OUT, reason_to_leave_out
from infra.workspace import Workspace
from schemas.errors import WorkspaceError
from tests.support.processes import PROJECT, child_environment

TRUTH = {"planted": [{"kind": "high_puerperal_infection", "provider": "Z08"}]}


def finding(**other: Any) -> dict[str, Any]:
    return {
        "level": "alert",
        "period": "2023-24",
        "provider": "Z01",
        "stratum": "all",
        "numerator": 51.0,
        "expected": 23.4,
        "value": 2.18,
        "target": 1.0,
        "friendly_name": "Deaths against expected, in hospital or later",
        "indicator": "shmi",
        "measure": "standardised_ratio",
        "per": 1.0,
        **other,
    }


def test_a_demonstration_goes_from_the_first_key_to_the_hospitals_receipt(
    shared_folder: Path, tmp_path: Path
) -> None:
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "flows.demo",
            str(tmp_path / "demo"),
            "--episodes",
            "9000",
            "--hospitals",
            "6",
        ],
        cwd=PROJECT,
        env=child_environment(shared_folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    (case,) = cases(Workspace.open(tmp_path / "demo" / "workspace").zone(ZONE))
    record, receipt = case.issue_record(), case.receipt()
    assert record is not None
    assert receipt is not None, "the hospital has signed for the list"
    assert record.document.listed == receipt.document.listed > 0
    assert record.document.file in ran.stdout
    assert "has received the list" in ran.stdout
    assert max(len(line) for line in demo.typed("review", "request", *demo.REASONS).splitlines()) <= 120


def test_of_the_numbers_a_demonstration_shows_three() -> None:
    assert demo.NUMBERS_SHOWN == 3


def test_a_finding_is_one_line_that_fits() -> None:
    for said, other in (
        ("51 seen, 23 expected", {}),
        (
            "Pneumonia",
            {"stratum": "diagnosis group: 73 Pneumonia (except that caused by tuberculosis)", "value": 2.0},
        ),
        ("4.0 %, usual 4.1 %", {"expected": None, "measure": "proportion", "value": 0.04, "target": 0.041}),
        (
            "1609 per 1,000",
            {"expected": None, "measure": "rate", "per": 1000.0, "value": 1700.0, "target": 1609.0},
        ),
    ):
        line = demo.line(finding(**other))
        assert said in line
        assert len(line) <= demo.WIDTH + 4
        assert "\n" not in line


def test_the_planted_infections_are_shown_even_behind_many_others() -> None:
    many = [finding(provider=f"Z{n:02d}") for n in range(10, 40)]
    infection = finding(provider="Z08", indicator="puerperal_infection_42d", period="2022-23")
    shown = demo.findings_shown([*many, infection], TRUTH)
    assert len(shown) == demo.SHOWN
    assert shown[-1] is infection
    assert demo.findings_shown(many, TRUTH) == many[: demo.SHOWN]


def test_what_is_not_shown_is_said_to_be_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All findings are in the table; the page writes out those of the latest periods only."""
    many = [finding(provider=f"Z{n:02d}") for n in range(10, 10 + demo.SHOWN + 6)]
    answers = {"alert": many, "late_provider": [], "delivery": [{"rows": 0}]}
    monkeypatch.setattr(
        demo,
        "said",
        lambda _workspace, sql: next(answers[table] for table in answers if f"FROM {table}" in sql),
    )
    demo.tell(tmp_path, 1.0, {"planted": [{**TRUTH["planted"][0], "says": "more infections"}]})
    told = capsys.readouterr().out
    assert "and 6 more rows in the table alert" in told
    assert "in the report" not in told


def test_a_sum_that_signalled_often_is_shown_once_with_its_latest_signal() -> None:
    signals = [finding(level="cusum signal", period=f"2023-{month:02d}") for month in (12, 8, 4)]
    assert demo.findings_shown(signals, TRUTH) == signals[:1]


def test_a_command_is_shown_as_it_can_be_typed() -> None:
    assert demo.typed("review", "issue", "bcd") == "$ wardwatch review issue bcd"
    shown = demo.typed("review", "request", "--why", "a reason of some words " * 4, "--days", "3")
    assert shown.splitlines()[0].endswith(" \\")
    assert "'a reason of" in shown


def test_a_demonstration_does_not_take_the_place_of_anything_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(WorkspaceError):
        demo.make_room(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(
    "number", [None, "", "0000", "UNKNOWN", "a\u0000b", "9990000018", "SW1A 1AA", "01/02/2020"]
)
def test_every_reason_to_leave_a_record_out_has_its_words(number: str | None) -> None:
    assert reason_to_leave_out(number, {"UNKNOWN"}) in LEFT_OUT
