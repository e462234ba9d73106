"""Nothing becomes public without a release manager, and what does has gone through disclosure control."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from infra import commit_points
from infra.naming import parse_name
from infra.publish import DATABASE, current_run, keep_last, publish, runs
from infra.release import ROLE, Preview, Release, approve, show, verify_release
from infra.signing import SigningKey
from schemas.disclosure_policy import disclosure_policy
from schemas.errors import DisclosureRefused, IdentifierInText, IntegrityError, NotPermitted, UsageError
from tests.published_sample import RECORD_DATE, RUN, sample_tables
from transforms.disclosure import shown_count

pytestmark = pytest.mark.thorough

KEY = SigningKey.load(bytes(range(32)))
KEYS = {KEY.key_id: KEY.public}
NOW = datetime(2020, 11, 25, 10, 0, tzinfo=UTC)
FIRST, SECOND = "20201120T000000Z-a", "20201121T000000Z-b"
TABLES = sample_tables()
HELD = frozenset({("mortality", "RBC")})


@pytest.fixture(autouse=True, scope="module")
def _plain_report() -> Iterator[None]:
    def page(tables: Mapping[str, pl.DataFrame], *_: object) -> str:
        return f"<html>{sorted(tables)}</html>"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infra.report.build_report", page)
        yield


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory, _plain_report: None) -> Path:
    folder = tmp_path_factory.mktemp("published")
    publish(folder, FIRST, TABLES, RUN, RECORD_DATE)
    return folder


@pytest.fixture
def published(candidates: Path, tmp_path: Path) -> Path:
    return shutil.copytree(candidates, tmp_path / "published", symlinks=True)


def release(published: Path, run_id: str = FIRST, **change: object) -> Release:
    given: dict[str, object] = {
        "person": "p-rm-1",
        "role": ROLE,
        "reason": "agreed at the publication meeting",
        "signing_key": KEY,
        "approved_at": NOW,
        **change,
    }
    return approve(published, run_id, **given)  # type: ignore[arg-type]


def rows(folder: Path, sql: str) -> list[tuple]:  # type: ignore[type-arg]
    with duckdb.connect(str(folder / DATABASE), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def with_value(published: Path, run_id: str, provider: str, add: int) -> None:
    """A later run in which one provider has ``add`` more caesareans."""
    more = pl.when((pl.col("provider") == provider) & (pl.col("indicator") == "caesarean")).then(add)
    values = TABLES["indicator_value"].with_columns(pl.col("numerator") + more.otherwise(0))
    publish(published, run_id, {**TABLES, "indicator_value": values}, RUN, RECORD_DATE)


def test_the_preview_counts_what_would_be_shown_and_hidden(candidates: Path) -> None:
    preview = show(candidates, held=HELD)
    assert isinstance(preview, Preview)
    assert preview.counts == {
        "shown": 212,
        "suppressed": 0,
        "needs_discussion": 2,
        "held": 2,
        "changed_little": 0,
    }
    assert preview.discussion.rows() == [("caesarean", "v1", "RCM")]
    assert preview.by_indicator["rows"].sum() == 214
    assert runs(candidates / "public") == [], "looking writes nothing"


def test_the_public_set_holds_rounded_numbers_only(published: Path) -> None:
    folder = release(published).folder
    assert folder == published / "public" / FIRST
    found = rows(folder, "SELECT indicator, period, provider, numerator, denominator FROM indicator_value")
    exact = {
        row[:3]: row[3:]
        for row in TABLES["indicator_value"]
        .select("indicator", "period", "provider", "numerator", "denominator")
        .iter_rows()
    }
    policy = disclosure_policy()
    assert len(found) == 214
    for indicator, period, provider, numerator, denominator in found:
        rule = policy.rule("mhsds" if indicator == "restrictive" else "hes")
        real = exact[indicator, period, provider]
        assert (numerator, denominator) == (shown_count(real[0], rule), shown_count(real[1], rule))
    assert rows(folder, "SELECT count(*) FROM indicator_value WHERE alert IS NOT NULL") == [(0,)]
    tables = {name for (name,) in rows(folder, "SELECT table_name FROM duckdb_tables()")}
    assert tables == {"indicator", "indicator_value", "funnel_limit", "provider"}


def test_no_exact_number_is_in_any_public_file(published: Path) -> None:
    # 1,053 deaths observed at RBC and its expected number 702.2 are in the candidate; neither is public.
    folder = release(published).folder
    candidate = (
        published / FIRST / "20200331 Wardwatch indicator values v1 OFFICIAL SENSITIVE.csv"
    ).read_text()
    assert "1053.0" in candidate
    for path in folder.iterdir():
        content = path.read_bytes()
        assert b"1053.0" not in content, path.name
        assert b"702.2" not in content, path.name
    for name, column in (("indicator_value", "numerator"), ("indicator_value", "expected")):
        assert rows(folder, f"SELECT count(*) FROM {name} WHERE {column} % 5 <> 0") == [(0,)]


def test_public_records_are_official_and_need_no_marking_in_their_name(published: Path) -> None:
    folder = release(published).folder
    for path in folder.iterdir():
        if path.name != DATABASE:
            assert parse_name(path.name).marking == "OFFICIAL"
    assert b"OFFICIAL SENSITIVE" not in b"".join(path.read_bytes() for path in folder.glob("*.csv"))


def test_a_tiny_service_and_an_open_case_are_not_in_it(published: Path) -> None:
    folder = release(published, held=HELD).folder
    assert (
        rows(folder, "SELECT * FROM indicator_value WHERE indicator = 'caesarean' AND provider = 'RCM'") == []
    )
    assert (
        rows(folder, "SELECT * FROM indicator_value WHERE indicator = 'mortality' AND provider = 'RBC'") == []
    )
    assert rows(folder, "SELECT count(*) FROM indicator_value WHERE provider = 'RBC'") == [(4,)]


def test_the_approval_is_signed_and_names_every_file(published: Path) -> None:
    done = release(published, held=HELD)
    approval = verify_release(done.folder, KEYS)
    assert approval == done.approval
    assert approval["person"] == "p-rm-1"
    assert approval["reason"] == "agreed at the publication meeting"
    assert approval["candidate_digest"] == show(published, FIRST).candidate_digest
    assert approval["counts"] == show(published, FIRST, HELD).counts


@pytest.mark.parametrize("tamper", ["change", "remove", "add", "approval", "stranger"])
def test_a_public_set_that_was_changed_afterwards_is_noticed(published: Path, tamper: str) -> None:
    folder = release(published).folder
    csv = folder / "20200331 Wardwatch indicator values v1.csv"
    keys = KEYS
    if tamper == "change":
        csv.write_text(csv.read_text() + "\n")
    elif tamper == "remove":
        csv.unlink()
    elif tamper == "add":
        (folder / "20200331 Wardwatch alerts v1.csv").write_text("more")
    elif tamper == "approval":
        path = next(folder.glob("*.json"))
        path.write_bytes(path.read_bytes().replace(b"p-rm-1", b"p-rm-2"))
    else:
        keys = {}
    with pytest.raises(IntegrityError):
        verify_release(folder, keys)


@pytest.mark.parametrize("role", ["pipeline", "intelligence_analyst", "siro", "", "Release_Manager"])
def test_only_a_release_manager_may_release(published: Path, role: str) -> None:
    with pytest.raises(NotPermitted):
        release(published, role=role)
    assert runs(published / "public") == []


def test_a_release_says_who_and_why_and_names_no_patient(published: Path) -> None:
    with pytest.raises(UsageError, match="person and a reason"):
        release(published, reason="  ")
    with pytest.raises(UsageError, match="person and a reason"):
        release(published, person="")
    with pytest.raises(IdentifierInText):
        release(published, reason="asked for by the family of 943 476 5919")
    assert runs(published / "public") == []


def test_a_run_is_released_once_and_only_if_it_was_published(published: Path) -> None:
    release(published)
    with pytest.raises(UsageError, match="before"):
        release(published)
    with pytest.raises(UsageError, match="no published run"):
        release(published, "20191231T000000Z-z")
    with pytest.raises(UsageError):
        release(published, "../../etc")


def test_a_number_that_changed_a_little_since_the_last_release_is_hidden(published: Path) -> None:
    release(published)
    with_value(published, SECOND, "RAA", 2)
    assert show(published, SECOND).counts["changed_little"] == 2, "both years of the provider"
    folder = release(published, SECOND).folder
    of_one = "WHERE indicator = 'caesarean' AND provider = 'RAA'"
    found = rows(folder, f"SELECT numerator, suppressed FROM indicator_value {of_one}")
    assert found == [(None, True), (None, True)]
    assert current_run(published / "public") == SECOND


def test_a_new_version_is_held_against_the_released_one_and_against_the_old_one_beside_it(
    published: Path,
) -> None:
    """Deliveries at RAA: three more by the new definition, which is released after, or together with, the old one."""
    release(published)
    raa = (pl.col("provider") == "RAA") & (pl.col("indicator") == "caesarean")
    new = (
        TABLES["indicator_value"]
        .filter(pl.col("indicator") == "caesarean")
        .with_columns(pl.col("denominator") + pl.when(raa).then(3).otherwise(0), version=pl.lit("v2"))
    )
    declared = (
        TABLES["indicator"].filter(pl.col("indicator") == "caesarean").with_columns(version=pl.lit("v2"))
    )
    alone = {**TABLES, "indicator": declared, "indicator_value": new}
    beside = {
        **TABLES,
        "indicator": pl.concat([TABLES["indicator"], declared]),
        "indicator_value": pl.concat([TABLES["indicator_value"], new]),
    }
    publish(published, SECOND, alone, RUN, RECORD_DATE)
    hidden = (
        "SELECT version, numerator, denominator FROM indicator_value WHERE provider = 'RAA' AND suppressed"
    )
    folder = release(published, SECOND).folder
    assert rows(folder, hidden) == [("v2", None, None)] * 2, "both years of the provider"

    shutil.rmtree(published)
    publish(published, FIRST, beside, RUN, RECORD_DATE)
    folder = release(published).folder
    assert rows(folder, hidden + " ORDER BY version") == [("v1", None, None)] * 2 + [("v2", None, None)] * 2


def test_a_number_that_changed_a_lot_is_shown_again(published: Path) -> None:
    release(published)
    with_value(published, SECOND, "RAA", 40)
    assert show(published, SECOND).counts["changed_little"] == 0


def test_without_the_exact_numbers_of_an_earlier_release_nothing_more_is_released(published: Path) -> None:
    release(published)
    with_value(published, SECOND, "RAA", 40)
    keep_last(published, keep=0)
    assert FIRST in runs(published), "a released run is kept"
    shutil.rmtree(published / FIRST)
    with pytest.raises(IntegrityError, match="differences cannot be checked"):
        release(published, SECOND)


def test_a_run_with_overlapping_people_is_not_released(published: Path) -> None:
    values = TABLES["indicator_value"]
    site = values.head(1).with_columns(provider=pl.lit("RAA01"))
    publish(published, SECOND, {**TABLES, "indicator_value": pl.concat([values, site])}, RUN, RECORD_DATE)
    with pytest.raises(DisclosureRefused):
        show(published, SECOND)
    with pytest.raises(DisclosureRefused):
        release(published, SECOND)
    assert runs(published / "public") == []


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("where", "visible"),
    [("release.set_built", None), ("release.set_renamed", None), ("release.pointer_moved", FIRST)],
)
def test_killed_during_a_release_the_public_sees_all_of_it_or_nothing(
    published: Path, monkeypatch: pytest.MonkeyPatch, where: str, visible: str | None
) -> None:
    def kill(name: str) -> None:
        if name == where:
            raise Killed

    monkeypatch.setattr(commit_points, "reached", kill)
    with pytest.raises(Killed):
        release(published)
    assert current_run(published / "public") == visible
    monkeypatch.undo()
    if visible is None:
        done = release(published)
        assert current_run(published / "public") == FIRST
        assert not list((published / "public").glob(".*")), "nothing is left behind"
        assert verify_release(done.folder, KEYS) == done.approval
