"""An analyst gets aggregates of groups that are large enough, and no way to anything else."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest

from infra.audit import AuditLog, read
from infra.curated_query import CuratedView, query_curated, query_published
from schemas.errors import IdentifierInText, IntegrityError, NotPermitted, UsageError

TODAY = date(2026, 11, 22)
SECRET = "K3Y-OF-THE-LAKE"
VIEWS = (
    CuratedView("hes_apc", ("PROCODE3", "STARTAGE", "ADMIDATE", "DIAG_01", "DIED", "SPELDUR", "LSOA11")),
    CuratedView("delivery", ("delivery_id", "dataset"), person=None),
)


@pytest.fixture(scope="module")
def lake() -> duckdb.DuckDBPyConnection:
    """20 records of RXA, 12 of RXB (all of one person), 9 of RXC, 3 of RXD; a key lies beside them."""
    rows = []
    for provider, count in (("RXA", 20), ("RXB", 12), ("RXC", 9), ("RXD", 3)):
        for number in range(count):
            person = "one" if provider == "RXB" else f"{provider}{number}"
            age = 60 + number
            died = int(provider == "RXA" and number < 2)
            stay = number if provider == "RXA" and number < 10 else None
            code = "A41.9" if number % 2 else "5"
            rows.append(
                (
                    f"E{provider}{number}",
                    person,
                    provider,
                    age,
                    date(2020, 1 + number % 2, 5),
                    code,
                    died,
                    stay,
                )
            )
    frame = pl.DataFrame(
        rows,
        schema={
            "EPIKEY": pl.String,
            "person_token": pl.String,
            "PROCODE3": pl.String,
            "STARTAGE": pl.Int64,
            "ADMIDATE": pl.Date,
            "DIAG_01": pl.String,
            "DIED": pl.Int64,
            "SPELDUR": pl.Int64,
        },
        orient="row",
    ).with_columns(LSOA11=pl.lit("E01"))
    connection = duckdb.connect()
    connection.register("frame", frame.to_arrow())
    connection.execute("create table records as from frame")
    connection.execute("create view hes_apc as from records")
    connection.execute(f"create table __ducklake_metadata_lake as select '{SECRET}' as encryption_key")
    connection.execute(
        "create table delivery as select 'd' || i as delivery_id, 'hes_apc' as dataset from range(9) t(i)"
    )
    return connection


@pytest.fixture
def audit(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path, lambda: datetime(2026, 11, 22, tzinfo=UTC), "p-7", "intelligence_analyst")


def ask(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog, sql: str, **change: str
) -> tuple[list[tuple[object, ...]], int]:
    answer = query_curated(
        lake, sql, VIEWS, purpose=change.get("purpose", "indicator_review"), audit=audit, today=TODAY
    )
    return answer.frame.rows(), answer.groups_withheld


def test_groups_that_are_large_enough_come_back_rounded_and_the_others_are_only_counted(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog
) -> None:
    sql = "select procode3, count(*) as records from hes_apc group by procode3"
    assert ask(lake, audit, sql) == ([("RXA", 20), ("RXC", 10)], 2), (
        "RXB has twelve records of one person, RXD three of three"
    )


def test_the_whole_view_is_one_group(lake: duckdb.DuckDBPyConnection, audit: AuditLog) -> None:
    assert ask(lake, audit, "select count(*) from hes_apc") == ([(45,)], 0)
    assert ask(lake, audit, "select count(*) from hes_apc where procode3 = 'RXD'") == ([], 1)
    assert ask(lake, audit, "select count(*) from hes_apc where procode3 = 'nothing'") == ([], 1)


def test_a_view_without_persons_counts_its_records(lake: duckdb.DuckDBPyConnection, audit: AuditLog) -> None:
    assert ask(lake, audit, "select dataset, count(*) from delivery group by 1") == ([("hes_apc", 10)], 0)


def test_averages_have_three_figures_and_sums_hang_on_the_rounded_count(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog
) -> None:
    sql = """
        select avg(startage), median(startage) as middle, stddev(startage), sum(startage), count(startage)
        from hes_apc where procode3 = 'RXC'
    """
    assert ask(lake, audit, sql) == ([(64.0, 64.0, 2.74, 640.0, 10)], 0)


def test_a_flag_set_for_few_persons_is_not_given_away_by_its_mean_sum_or_spread(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog
) -> None:
    figures = "avg(died), sum(died), stddev(died), median(died), count(died)"
    sql = f"select {figures} from hes_apc where procode3 = 'RXA'"
    assert ask(lake, audit, sql) == ([(None, None, None, None, 20)], 0)
    assert ask(lake, audit, "select avg(died) from hes_apc where procode3 = 'RXC'") == ([(0.0,)], 0)


def test_few_persons_with_or_without_a_value_are_not_given_away(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog
) -> None:
    assert ask(lake, audit, "select count(speldur) from hes_apc where procode3 = 'RXA'") == ([(10,)], 0)
    assert ask(lake, audit, "select count(speldur), avg(speldur) from hes_apc where startage >= 65") == (
        [(None, None)],
        0,
    ), "five persons have a value"
    assert ask(
        lake, audit, "select count(speldur) from hes_apc where startage < 62 or speldur is not null"
    ) == (
        [(None,)],
        0,
    ), "too few lack one"
    assert ask(lake, audit, "select count(speldur) from hes_apc where procode3 = 'RXC'") == ([(0,)], 0)


def test_persons_can_be_counted_and_in_no_other_way_used(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog
) -> None:
    assert ask(lake, audit, "select count(distinct person_token) from hes_apc where procode3 <> 'RXD'") == (
        [(30,)],
        0,
    )


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "select year(admidate) y, month(admidate) m, count(*) from hes_apc group by y, m order by m",
            2,
        ),
        (
            "select case when startage >= 65 then 'old' else 'young' end b, count(*) from hes_apc group by b",
            2,
        ),
        ("select date_trunc('month', admidate), count(*) from hes_apc group by all", 2),
        (
            "from hes_apc select count(*) where procode3 in ('RXA', 'x') and not startage between 1 and 9",
            1,
        ),
        ("select h.procode3, count(*) from hes_apc h where h.diag_01 like 'A%' group by h.procode3", 1),
        ("select count(*) from hes_apc where coalesce(speldur, 0) * 2 + 1 > 0.5 or procode3 is null", 1),
        ("select left(procode3, 2) || 'x', count(*) from hes_apc group by 1", 1),
        ("select count(*) from hes_apc where admidate >= date '2020-01-01' and true", 1),
        ("select count(*) from hes_apc where date_diff('day', admidate, cast('2020-12-31' as date)) > 3", 1),
        ("select lsoa11, count(*) -- a remark\n from hes_apc group by lsoa11 having_is_a_name", 0),
    ],
)
def test_ordinary_questions_are_answered(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog, sql: str, expected: int
) -> None:
    if not expected:
        with pytest.raises(UsageError):
            ask(lake, audit, sql)
    else:
        assert len(ask(lake, audit, sql)[0]) == expected


def test_the_answer_can_be_ordered_and_cut(lake: duckdb.DuckDBPyConnection, audit: AuditLog) -> None:
    base = "select procode3 as p, count(*) as n from hes_apc group by p"
    assert ask(lake, audit, f"{base} order by n")[0] == [("RXC", 10), ("RXA", 20)]
    assert ask(lake, audit, f"{base} order by 2 desc, p limit 1")[0] == [("RXA", 20)]
    assert ask(lake, audit, f"{base} order by count(*) nulls first limit 5 offset 1")[0] == [("RXA", 20)]


def test_a_key_that_is_not_shown_still_makes_its_groups(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog
) -> None:
    assert ask(lake, audit, "select count(*) from hes_apc group by procode3")[0] == [(20,), (10,)]


def test_an_error_in_a_value_says_nothing_about_which_records_exist(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog
) -> None:
    for condition in (
        "procode3 = 'RXD' and cast(diag_01 as integer) = 5",
        "procode3 = 'RXD' and diag_01 = 5",
        "procode3 = 'RXD' and startage * 9223372036854775807 * 10 > 0",
    ):
        assert ask(lake, audit, f"select count(*) from hes_apc where {condition}") == ([], 1)


ATTACKS = [
    # other tables, keys, files
    "select count(*) from duckdb_databases()",
    "select count(*) from __ducklake_metadata_lake",
    "select encryption_key, count(*) from __ducklake_metadata_lake group by 1",
    "select count(*) from records",
    "select count(*) from main.hes_apc",
    "select count(*) from memory.main.hes_apc",
    "select count(*) from information_schema.tables",
    "select count(*) from read_text('/etc/passwd')",
    "select count(*) from '/etc/passwd'",
    "select count(*) from glob('*')",
    "select count(*) from hes_apc at (version => 1)",
    "select count(*) from hes_apc tablesample 10%",
    "select count(*) from hes_apc using sample 1",
    "show tables",
    "describe hes_apc",
    "summarize hes_apc",
    "table hes_apc",
    # joins with what the analyst knows
    "select count(*) from hes_apc, (values (date '1950-03-04')) v(dob) where admidate = dob",
    "select count(*) from hes_apc a join hes_apc b on a.startage = b.startage",
    "select count(*) from hes_apc natural join delivery",
    "select count(*) from (select * from hes_apc limit 1)",
    "select count(*) from hes_apc where startage = (select max(startage) from hes_apc)",
    "select count(*) from hes_apc where exists (select 1 from hes_apc)",
    "select count(*) from hes_apc where startage in (select 60)",
    "with one as (select * from hes_apc limit 1) select count(*) from one",
    "with recursive r as (select 1) select count(*) from hes_apc",
    "with hes_apc as (select 1) select count(*) from hes_apc",
    "select count(*) from hes_apc union all select count(*) from hes_apc",
    "select count(*) from hes_apc except select 1",
    "select procode3, (select count(*) from hes_apc) from hes_apc group by 1",
    # single values
    "select * from hes_apc",
    "from hes_apc",
    "select procode3 from hes_apc",
    "select distinct procode3 from hes_apc",
    "select distinct on (procode3) procode3, count(*) from hes_apc group by 1",
    "select epikey, count(*) from hes_apc group by epikey",
    "select person_token, count(*) from hes_apc group by 1",
    "select count(*) from hes_apc where epikey = 'ERXA1'",
    "select count(*) from hes_apc where person_token = 'one'",
    "select count(distinct epikey) from hes_apc",
    "select count(distinct startage) from hes_apc",
    "select count(epikey) from hes_apc",
    "select hes_apc, count(*) from hes_apc group by 1",
    "select columns('.*') from hes_apc",
    "select count(columns(*)) from hes_apc",
    "select count(*) from hes_apc h(epikey, a, procode3)",
    "select rowid, count(*) from hes_apc group by 1",
    *(
        f"select {function} from hes_apc"
        for function in (
            "min(startage)",
            "max(startage)",
            "first(startage)",
            "last(startage)",
            "any_value(startage)",
            "arg_min(startage, admidate)",
            "arg_max(startage, admidate)",
            "mode(startage)",
            "list(startage)",
            "array_agg(startage)",
            "string_agg(procode3, ',')",
            "histogram(startage)",
            "quantile_cont(startage, 0.01)",
            "quantile_cont(startage, [0.01])",
            "approx_top_k(startage, 3)",
            "bit_xor(startage)",
            "product(startage)",
            "entropy(startage)",
            "sum(startage) over ()",
            "count(*) over (order by startage)",
            "count(*) filter (where startage = 61)",
            "avg(startage) filter (where startage = 61)",
            "sum(case when startage = 61 then 1 else 0 end)",
            "sum(startage * 10)",
            "sum(distinct startage)",
            "avg(startage order by admidate)",
            "count(*) + 0.001 * sum(startage)",
            "sum(person_token)",
            "avg(1)",
            "main.count(*) from records; select count(*)",
            "evil.count(*)",
            "unnest([1, 2])",
            "1",
        )
    ),
    # functions that read or tell something else
    "select getenv('HOME'), count(*) from hes_apc group by 1",
    "select current_setting('memory_limit'), count(*) from hes_apc group by 1",
    "select count(*) from hes_apc where error('x') is null",
    "select count(*) from hes_apc where random() < 0.5",
    "select count(*) from hes_apc where repeat('x', 100000000) = 'x'",
    "select count(*) from hes_apc where list_contains([1], startage)",
    "select count(*) from hes_apc where list_filter([startage], x -> x > 1) is not null",
    "select count(*) from hes_apc where regexp_matches(procode3, '(a+)+b')",
    "select count(*) from hes_apc where date_trunc(procode3, admidate) is null",
    "select count(*) from hes_apc where cast(startage as struct(a integer)) is null",
    "select count(*) from hes_apc where procode3 collate nocase = 'rxa'",
    "select count(*) from hes_apc where startage = $1",
    "select count(*) from hes_apc where startage = ?",
    # groups that are no groups
    "select procode3, count(*) from hes_apc group by rollup (procode3)",
    "select count(*) from hes_apc group by grouping sets ((procode3), (startage))",
    "select procode3, count(*) from hes_apc group by procode3 having count(*) > 3",
    "select procode3, count(*) from hes_apc group by procode3 qualify true",
    "select count(*) from hes_apc order by (select 1)",
    "select procode3, count(*) from hes_apc group by procode3 order by sum(startage)",
    "select procode3, count(*) from hes_apc group by procode3 limit 10 percent",
    "select procode3, count(*) from hes_apc group by procode3 limit (select 3)",
    "select startage, procode3, count(*) from hes_apc group by procode3",
    # other statements
    "select count(*) from hes_apc; select 1",
    "select count(*) from hes_apc; drop table records",
    "drop table records",
    "copy records to '/tmp/out.csv'",
    "attach '/tmp/x.duckdb'",
    "pragma database_list",
    "set enable_external_access = true",
    "call duckdb_tables()",
    "insert into records select * from records",
    "export database '/tmp/x'",
    "explain select count(*) from hes_apc",
    "pivot hes_apc on procode3 using count(*)",
    "load httpfs",
    "",
    ";",
    "-- nothing",
    "select",
    "select count(*) from hes_apc where " + "1 + " * 800 + "1 > 0",
    "select count(*) from hes_apc where " + "not " * 900 + "true",
    "select count(*) from hes_apc where procode3 = '" + "x" * 30_000 + "'",
    "select count(*) as a, avg(startage) as a from hes_apc",
    "select procode3, count(*) from hes_apc group by 3",
]


@pytest.mark.parametrize("sql", ATTACKS, ids=[sql[:60] for sql in ATTACKS])
def test_everything_else_is_refused_recorded_and_not_run(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog, sql: str
) -> None:
    with pytest.raises((NotPermitted, UsageError)) as refused:
        ask(lake, audit, sql)
    assert SECRET not in str(refused.value)
    assert [event.decision for event in read(audit.folder)] == ["refuse"]
    assert lake.execute("select count(*) from records").fetchone() == (44,)


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from hes_apc where procode3 = '9434765919'",
        "select count(*) from hes_apc -- for 943 476 5919",
        "select count(*) from hes_apc where lsoa11 = 'SW1A 1AA'",
    ],
)
def test_an_identifier_in_a_query_is_refused_and_not_repeated(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog, sql: str
) -> None:
    with pytest.raises(IdentifierInText):
        ask(lake, audit, sql)
    raw = (audit.folder / "log.ndjson").read_text()
    assert "9434765919" not in raw
    assert "SW1A" not in raw


def test_an_unquoted_text_that_holds_sql_stays_a_value(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog
) -> None:
    sql = "select count(*) from hes_apc where procode3 = 'x'' or 1=1 --'"
    assert ask(lake, audit, sql) == ([], 1)


def test_a_question_is_recorded_before_it_is_run_and_again_with_its_outcome(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog
) -> None:
    ask(lake, audit, "select procode3, count(*) from hes_apc group by 1")
    with pytest.raises(UsageError, match="could not be computed"):
        ask(lake, audit, "select count(*) from hes_apc where abs(procode3) > 1")
    asked, answered, again, failed = read(audit.folder)
    assert (asked.object, asked.purpose, asked.reason_code) == ("hes_apc", "indicator_review", "asked")
    assert answered.counts == {"groups": 2, "groups_withheld": 2}
    assert asked.digests == answered.digests != again.digests
    assert (failed.decision, failed.reason_code) == ("fail", "usage")


@pytest.mark.parametrize("purpose", ["", "curiosity", "nightly_publication", "9434765919"])
def test_without_a_fitting_purpose_nothing_is_asked(
    lake: duckdb.DuckDBPyConnection, audit: AuditLog, purpose: str
) -> None:
    with pytest.raises(NotPermitted):
        ask(lake, audit, "select count(*) from hes_apc", purpose=purpose)
    (event,) = read(audit.folder)
    assert (event.decision, event.reason_code) == ("refuse", "access.not_permitted")
    assert "9434765919" not in (audit.folder / "log.ndjson").read_text()


# published ---------------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "wardwatch.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table indicator as select 'shmi' as indicator, 1.05 as value")
    (tmp_path / "vault.txt").write_text(SECRET)
    with duckdb.connect(str(tmp_path / "other.duckdb")) as connection:
        connection.execute(f"create table t as select '{SECRET}' as k")
    return path


def test_any_select_on_the_published_tables_is_answered(published: Path) -> None:
    sql = "with i as (from indicator) select indicator, max(value) as value from i group by all"
    assert query_published(published, sql).rows() == [("shmi", Decimal("1.05"))]


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('{folder}/vault.txt')",
        "select * from read_text('{folder}/../{name}/vault.txt')",
        "select * from '{folder}/vault.txt'",
        "select * from read_csv('{folder}/*')",
        "select * from glob('{folder}/*')",
        "select * from read_blob('/proc/self/environ')",
        "from '{folder}/other.duckdb'",
        "attach '{folder}/other.duckdb' as other",
        "copy indicator to '{folder}/out.csv'",
        "copy indicator to '{folder}/out.parquet'",
        "create table x as select 1",
        "drop table indicator",
        "set enable_external_access = true",
        "set lock_configuration = false",
        "set temp_directory = '{folder}'",
        "load httpfs",
        "install httpfs",
        "pragma enable_profiling",
        "create secret s (type s3)",
        "export database '{folder}/x'",
        "select 1; select 2",
        "select getenv('HOME')",
        "select from where",
        "select nothing from indicator",
        "select cast(indicator as integer) from indicator",
        "select error('x')",
        "",
    ],
)
def test_a_published_query_cannot_reach_beyond_its_file_or_change_it(published: Path, sql: str) -> None:
    before = sorted(path.name for path in published.parent.iterdir())
    folder = published.parent
    with pytest.raises((NotPermitted, UsageError)) as refused:
        query_published(published, sql.format(folder=folder, name=folder.name))
    assert SECRET not in str(refused.value)
    assert "shmi" not in str(refused.value), "no value of a table in a message"
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_complaint_about_a_name_helps_and_never_repeats_an_identifier(published: Path) -> None:
    with pytest.raises(UsageError, match="valeu"):
        query_published(published, "select valeu from indicator")
    with pytest.raises(UsageError) as refused:
        query_published(published, 'select "9434765919" from indicator')
    assert "9434765919" not in str(refused.value)


def test_a_published_file_that_is_none_is_an_integrity_error(tmp_path: Path) -> None:
    (tmp_path / "broken.duckdb").write_bytes(b"x" * 5000)
    for name in ("broken.duckdb", "missing.duckdb"):
        with pytest.raises(IntegrityError, match=name):
            query_published(tmp_path / name, "select 1")
