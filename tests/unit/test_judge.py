"""The judge sees the profile and nothing else, and lets a delivery pass or not by the contract's words."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from infra.judge import Verdict, gx_suite, judge
from schemas.contract import Contract
from schemas.errors import IntegrityError
from transforms.measure import COUNTS_SCHEMA
from transforms.profile import PROFILE_SCHEMA, Volumes, assemble_profile, profile_rules

pytestmark = pytest.mark.thorough


def rule(name: str, severity: str, allow: float) -> dict[str, Any]:
    return {
        "id": name,
        "severity": severity,
        "allow": allow,
        "check": "not_null",
        "args": ("EPIKEY",),
        "says": f"{name} holds",
    }


CONTRACT = Contract.model_validate(
    {
        "dataset": "episodes",
        "version": "1",
        "title": "Episodes of the test",
        "record_key": ("EPIKEY",),
        "period": {"kind": "YYYYnn"},
        "fields": [{"name": "EPIKEY", "type": "string", "class": "record_key"}],
        "rules": [
            rule("E.R01", "critical", 0.01),
            rule("E.R02", "warning", 0.05),
            rule("E.R03", "warning", 1.0),
            rule("E.R04", "critical", 0.0),
        ],
    }
)


def profile(
    failures: dict[str, int], not_applicable: tuple[str, ...] = (), volumes: Volumes | None = None
) -> pl.DataFrame:
    counts = [
        (each.id, 1000, failures.get(each.id, 0)) for each in CONTRACT.rules if each.id not in not_applicable
    ]
    frame = pl.DataFrame(counts, schema=COUNTS_SCHEMA, orient="row")
    return assemble_profile(CONTRACT, frame, not_applicable, volumes or Volumes(rows=1000))


def verdict(failures: dict[str, int], **more: Any) -> tuple[bool, tuple[str, ...], tuple[str, ...]]:
    found = judge(CONTRACT, profile(failures, **more))
    return found.passed, found.critical, found.warnings


# the profile ------------------------------------------------------------------------------------------


def test_the_profile_has_a_row_per_rule_and_per_volume_in_the_contracts_order() -> None:
    found = profile({"E.R02": 51}, not_applicable=("E.R04",), volumes=Volumes(rows=900, control_rows=1000))
    assert dict(found.schema) == PROFILE_SCHEMA
    assert found.select(
        "rule_id", "rows", "failures", "failure_share", "over_allowance", "applicable"
    ).rows() == [
        ("E.R01", 1000, 0, 0.0, False, True),
        ("E.R02", 1000, 51, 0.051, True, True),
        ("E.R03", 1000, 0, 0.0, False, True),
        ("E.R04", 0, 0, 0.0, False, False),
        ("EPISODES.VOLUME.readable_rows", 900, 0, 0.0, False, True),
        ("EPISODES.VOLUME.control_count", 1000, 100, 0.1, True, True),
        ("EPISODES.VOLUME.required_columns", 0, 0, 0.0, False, False),
        ("EPISODES.VOLUME.rows_since_last", 0, 0, 0.0, False, False),
        ("EPISODES.VOLUME.providers_since_last", 0, 0, 0.0, False, False),
    ]


def test_a_rule_that_nobody_measured_is_an_error_and_not_a_pass() -> None:
    counts = pl.DataFrame([("E.R01", 1, 0)], schema=COUNTS_SCHEMA, orient="row")
    with pytest.raises(IntegrityError, match="3 rules not measured"):
        assemble_profile(CONTRACT, counts, (), Volumes(rows=1))


def test_counts_of_an_unknown_rule_are_an_error() -> None:
    counts = pl.DataFrame([(each.id, 1, 0) for each in CONTRACT.rules], schema=COUNTS_SCHEMA, orient="row")
    stranger = pl.DataFrame([("E.R99", 1, 0)], schema=COUNTS_SCHEMA, orient="row")
    with pytest.raises(IntegrityError, match="1 counts of no rule"):
        assemble_profile(CONTRACT, pl.concat([counts, stranger]), (), Volumes(rows=1))


# the verdict ------------------------------------------------------------------------------------------


def test_a_clean_delivery_passes() -> None:
    assert verdict({}) == (True, (), ())


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ({"E.R01": 10}, (True, (), ())),  # 10 of 1,000 is the 1 % that is allowed
        ({"E.R01": 11}, (False, ("E.R01",), ())),
        ({"E.R02": 50}, (True, (), ())),
        ({"E.R02": 51}, (True, (), ("E.R02",))),  # a warning is recorded and stops nothing
        ({"E.R03": 1000}, (True, (), ())),
        ({"E.R04": 1}, (False, ("E.R04",), ())),  # nothing is tolerated
        ({"E.R01": 11, "E.R02": 51, "E.R04": 1}, (False, ("E.R01", "E.R04"), ("E.R02",))),
    ],
)
def test_only_a_critical_rule_over_its_allowance_stops_a_delivery(
    failures: dict[str, int], expected: Any
) -> None:
    assert verdict(failures) == expected


def test_rules_that_do_not_apply_are_not_judged() -> None:
    found = judge(CONTRACT, profile({}, not_applicable=("E.R01", "E.R02")))
    judged = [each["expectation_config"]["kwargs"]["column"] for each in found.result["results"]]
    assert judged == ["E.R03", "E.R04", "EPISODES.VOLUME.readable_rows"]


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        (Volumes(rows=999, control_rows=1000), (False, ("EPISODES.VOLUME.control_count",), ())),
        (Volumes(rows=1, control_rows=0), (False, ("EPISODES.VOLUME.control_count",), ())),
        (Volumes(rows=1000, control_rows=1000), (True, (), ())),
        (Volumes(rows=1000, broken_rows=10), (True, (), ())),
        (Volumes(rows=1000, broken_rows=11), (False, ("EPISODES.VOLUME.readable_rows",), ())),
        (
            Volumes(rows=1000, required_columns=9, missing_columns=1),
            (False, ("EPISODES.VOLUME.required_columns",), ()),
        ),
        (Volumes(rows=799, previous_rows=1000), (True, (), ("EPISODES.VOLUME.rows_since_last",))),
        (Volumes(rows=800, previous_rows=1000), (True, (), ())),
        (Volumes(rows=2000, previous_rows=1000), (True, (), ())),
        (
            Volumes(rows=1, previous_providers=100, missing_providers=3),
            (True, (), ("EPISODES.VOLUME.providers_since_last",)),
        ),
    ],
)
def test_volumes_are_judged_like_rules(volumes: Volumes, expected: Any) -> None:
    assert verdict({}, volumes=volumes) == expected


def test_a_delivery_to_which_nothing_applies_passes_with_an_empty_result() -> None:
    everything = tuple(each.id for each in CONTRACT.rules)
    found = judge(CONTRACT, profile({}, not_applicable=everything, volumes=Volumes(rows=0)))
    assert found == Verdict(passed=True, critical=(), warnings=(), result={"results": []})


# the suite --------------------------------------------------------------------------------------------


def test_the_suite_has_one_expectation_per_rule_with_its_severity_and_allowance() -> None:
    suite = gx_suite(CONTRACT)
    found = [
        (each.column, each.severity.value, each.max_value, each.description) for each in suite.expectations
    ]
    assert found == [(each.id, each.severity, each.allow, each.says) for each in profile_rules(CONTRACT)]


def test_the_suite_can_be_printed() -> None:
    assert json.loads(json.dumps(gx_suite(CONTRACT).to_json_dict()))["name"] == "episodes_1"


# nothing but the profile ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        pl.DataFrame({"NEWNHSNO": ["9990000018"]}),
        profile({}).with_columns(NEWNHSNO=pl.lit("9990000018")),
        profile({}).with_columns(failure_share=pl.lit("9990000018")),
        profile({}).with_columns(rule_id=pl.lit("9990000018")),
        profile({}).head(2),
    ],
    ids=["a record", "a column more", "text for a share", "a value for a rule id", "a part"],
)
def test_the_judge_refuses_anything_but_the_profile_and_does_not_repeat_it(other: pl.DataFrame) -> None:
    with pytest.raises(IntegrityError) as caught:
        judge(CONTRACT, other)
    assert "9990000018" not in str(caught.value)


def test_the_result_holds_rule_ids_and_shares_and_no_list_of_values() -> None:
    result = judge(CONTRACT, profile({"E.R02": 51})).result
    assert {key for each in result["results"] for key in each["result"]} == {"observed_value"}
    assert [each["result"]["observed_value"] for each in result["results"]] == [0.0, 0.051, 0.0, 0.0, 0.0]
    assert "unexpected" not in json.dumps(result).replace("unsuccessful_expectations", "")


def test_the_same_profile_gives_the_same_result() -> None:
    assert judge(CONTRACT, profile({"E.R02": 51})).result == judge(CONTRACT, profile({"E.R02": 51})).result


WRITES = frozenset("wax+")
TOUCHES = ("os.mkdir", "os.rename", "subprocess.Popen", "tempfile.mkdtemp", "tempfile.mkstemp")
_watching: list[tuple[str, str]] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook cannot be taken off again, so it listens only while a list is there to write to."""
    if _watching is None:
        return
    written = event == "open" and isinstance(arguments[1], str) and bool(WRITES & set(arguments[1]))
    called = event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname")
    if written or called or event in TOUCHES:
        _watching.append((event, str(arguments[0])))


@pytest.fixture(scope="module")
def hook() -> None:
    sys.addaudithook(_watch)


@pytest.fixture
def watched(hook: None) -> Iterator[list[tuple[str, str]]]:
    """Every socket call, file opened for writing, folder made and process started during the test."""
    global _watching
    gx_suite(CONTRACT)  # importing may write bytecode files, which is Python's business
    _watching = []
    try:
        yield _watching
    finally:
        _watching = None


def test_judging_opens_no_connection_and_writes_no_file(watched: list[tuple[str, str]]) -> None:
    judge(CONTRACT, profile({"E.R01": 11}))
    assert watched == []


def test_the_watch_would_have_seen_a_file(watched: list[tuple[str, str]], tmp_path: Any) -> None:
    note = tmp_path / "note"
    watched.clear()
    note.write_text("seen")
    assert watched == [("open", str(note))]


def test_judging_prints_and_logs_nothing(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    judge(CONTRACT, profile({"E.R01": 11}))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert [
        record.getMessage() for record in caplog.records if record.name.startswith("great_expectations")
    ] == []


def test_judging_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "as it was")
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    judge(CONTRACT, profile({}))
    assert os.environ["GX_ANALYTICS_ENABLED"] == "as it was"
    assert "TQDM_DISABLE" not in os.environ
