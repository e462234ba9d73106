"""The compute connection: a hardened DuckDB in which spells are built and indicators run.

It sees the curated views (``hes_apc``, ``hes_person_bridge``, ...) and, after linkage, ``death_link``;
nothing in it identifies a person directly. All queries are files under ``sql/``; this module only runs them,
hands them their parameters, and lets no text of the engine out: DuckDB's messages quote the value they
choked on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb
import polars as pl

from infra.engine import engine_errors
from schemas.errors import (
    ContractDefinitionError,
    IndicatorCheckFailed,
    IntegrityError,
    WorkspaceError,
)
from schemas.indicator_metadata import (
    CoreParameters,
    IndicatorMetadata,
    ParameterValue,
    SinglingOut,
    bound_parameters,
)
from schemas.yaml_text import parse_model, read_yaml
from sql import CORE_FOLDER, INDICATOR_FOLDER, core_query

# The relations of sql/core in the order in which they need each other; scratch tables go again after the
# build.
Kind = Literal["table", "view", "scratch"]
CORE_RELATIONS: tuple[tuple[str, Kind], ...] = (
    ("episode_record", "table"),
    ("episode_repeat", "table"),
    ("episode", "view"),
    ("episode_diagnosis", "view"),
    ("episode_procedure", "table"),
    ("visit_episode", "scratch"),
    ("visit", "scratch"),
    ("visit_continuation", "scratch"),
    ("spell_episode", "table"),
    ("provider_spell", "table"),
    ("spell_continuation", "table"),
    ("continuous_inpatient_spell_chain", "table"),
    ("continuous_inpatient_spell_member", "view"),
    ("continuous_inpatient_spell", "view"),
    ("infection_diagnosis", "table"),
    ("covered_year", "table"),
    ("maternity_record", "scratch"),
    ("delivery", "table"),
    ("delivery_case_mix", "table"),
    ("puerperal_infection", "table"),
    ("birth", "table"),
    ("return_after_birth", "table"),
    ("core_count", "table"),
)
DEATH_LINK_SCHEMA = {"spell_id": pl.String, "days_to_death": pl.Int32}
INDICATOR_FILES = frozenset({"query.sql", "metadata.yaml", "checks.sql"})
CHECK_MARK = re.compile(r"^-- (fail|warn): (\S.*)$")


@dataclass(frozen=True)
class Check:
    """One statement of ``checks.sql``: it returns the number of offending rows; ``says`` is what should
    hold."""

    severity: Literal["fail", "warn"]
    says: str
    statement: str


@dataclass(frozen=True)
class CheckResult:
    """How many rows offended against a check."""

    severity: Literal["fail", "warn"]
    says: str
    rows: int


@dataclass(frozen=True)
class Indicator:
    """One folder of ``sql/indicators``, loaded and found consistent."""

    metadata: IndicatorMetadata
    query: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class IndicatorResult:
    """``values``: the columns that the metadata lists, in its order, sorted by the query."""

    metadata: IndicatorMetadata
    values: pl.DataFrame
    checks: tuple[CheckResult, ...]

    @property
    def broken_warnings(self) -> tuple[CheckResult, ...]:
        """The ``-- warn`` checks that found rows."""
        return tuple(check for check in self.checks if check.severity == "warn" and check.rows)


# The core tables ----------------------------------------------------------------------------------------


def core_parameters() -> dict[str, ParameterValue]:
    """Name to value of ``sql/core/parameters.yaml``. Raises :class:`ContractDefinitionError`."""
    path = CORE_FOLDER / "parameters.yaml"
    return bound_parameters(parse_model(CoreParameters, read_yaml(path), path.name).parameters)


def singling_out_combinations() -> SinglingOut:
    """``sql/core/singling_out.yaml``. Raises :class:`ContractDefinitionError`."""
    path = CORE_FOLDER / "singling_out.yaml"
    return parse_model(SinglingOut, read_yaml(path), path.name)


def _read_sql(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ContractDefinitionError(f"{path.name}: the file cannot be read as UTF-8 text") from None


def single_select(text: str, where: str) -> frozenset[str]:
    """The names of the ``$parameters`` of the one SELECT in ``text``.

    Raises :class:`ContractDefinitionError` (starting with ``where``) if it is anything but one SELECT.
    """
    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error:
        raise ContractDefinitionError(f"{where}: this is not readable SQL") from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise ContractDefinitionError(f"{where}: the file must hold one SELECT and nothing else")
    return frozenset(statements[0].named_parameters)


def build_relation(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    kind: Kind,
    parameters: Mapping[str, ParameterValue],
) -> None:
    """Run ``sql/core/<name>.sql`` into a table or view of that name."""
    text = _read_sql(core_query(name))
    wanted = single_select(text, f"{name}.sql")
    unknown = sorted(wanted - parameters.keys())
    if unknown:
        raise ContractDefinitionError(f"{name}.sql: no value for the parameter {unknown[0]}")
    with engine_errors(f"building {name}"):
        connection.execute(
            f"create or replace {'view' if kind == 'view' else 'table'} {name} as\n{text}",
            {key: parameters[key] for key in wanted},
        )


def _require_memory_database(connection: duckdb.DuckDBPyConnection) -> None:
    """Refuse to build into an attached lake: spells are rebuilt every time and belong nowhere durable."""
    with engine_errors("looking at the compute connection"):
        row = connection.execute(
            "select count(*) from duckdb_databases() "
            "where database_name = current_database() and type = 'duckdb' and path is null"
        ).fetchone()
    if row is None or row[0] != 1:
        raise WorkspaceError(
            "the compute connection's own database is not the in-memory one",
            next_step="attach the lake without making it the default database",
        )


def build_core(connection: duckdb.DuckDBPyConnection) -> None:
    """Build episodes, provider spells and continuous inpatient spells from ``hes_apc`` and
    ``hes_person_bridge``.

    Tables afterwards: those in :data:`CORE_RELATIONS`, each described at the top of its file.
    Raises the errors of :func:`engine_errors`, and :class:`ContractDefinitionError`.
    """
    _require_memory_database(connection)
    parameters = core_parameters()
    for name, kind in CORE_RELATIONS:
        build_relation(connection, name, kind, parameters)
    for name, kind in CORE_RELATIONS:
        if kind == "scratch":
            with engine_errors(f"dropping {name}"):
                connection.execute(f"drop table {name}")


def count_singling_out(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """How many episodes are alone in a combination of quasi-identifiers; needs :func:`build_core`.

    Also kept as the table ``singling_out``. Columns: combination (str), records (int), unique_records (int),
    in the order of ``singling_out.yaml``.
    """
    text = _read_sql(core_query("singling_out"))
    known = set(re.findall(r"list_contains\(\$fields, '(\w+)'\)", text))
    rows = []
    for combination in singling_out_combinations().combinations:
        unknown = sorted(set(combination.fields) - known)
        if unknown:
            raise ContractDefinitionError(f"singling_out.yaml: {combination.name}: no field {unknown[0]}")
        with engine_errors("counting unique records"):
            row = connection.execute(
                text, {"combination": combination.name, "fields": list(combination.fields)}
            ).fetchone()
        rows.append(row)
    schema = {"combination": pl.String, "records": pl.Int64, "unique_records": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    store(connection, "singling_out", frame)
    return frame


def store(connection: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> None:
    """Replace the table ``name`` by ``frame``."""
    with engine_errors(f"storing {name}"):
        connection.register(f"{name}_frame", frame)
        try:
            connection.execute(f"create or replace table {name} as select * from {name}_frame")
        finally:
            connection.unregister(f"{name}_frame")


def spells_for_linkage(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """The finished provider spells, for the linkage store to set against its dates of death.

    Columns: spell_id (str), person_token (str), admission_date (date), discharge_date (date); no order.
    """
    with engine_errors("reading the spells for linkage"):
        return connection.execute(
            "select spell_id, person_token, admission_date, discharge_date from provider_spell where finished"
        ).pl()


def add_death_link(connection: duckdb.DuckDBPyConnection, frame: pl.DataFrame) -> None:
    """Take in what the linkage found, as the table ``death_link``.

    ``frame``: spell_id (str), days_to_death (integer), one row per finished spell of every person with a
    registered death: whole days from discharge to death. The number must be exact from minus the length of
    stay to 31; outside that it may be capped (31 or more: later than counts; less than minus the length of
    stay: before the admission). A spell without a row means that no death is registered for the person.

    Raises :class:`IntegrityError` if a column, type or value is not so, or if a spell is none of this build.
    """
    if set(frame.columns) != set(DEATH_LINK_SCHEMA) or frame.schema["spell_id"] != pl.String:
        raise IntegrityError(
            "the death link must have the columns spell_id (text) and days_to_death (integer)"
        )
    if not frame.schema["days_to_death"].is_integer():
        raise IntegrityError("days_to_death of the death link is not an integer")
    frame = frame.select("spell_id", "days_to_death")
    if sum(frame.null_count().row(0)):
        raise IntegrityError("the death link has empty values")
    if frame.get_column("spell_id").n_unique() != frame.height:
        raise IntegrityError("the death link names a spell more than once")
    store(
        connection,
        "death_link",
        frame.with_columns(pl.col("days_to_death").clip(-100_000, 100_000).cast(pl.Int32)),
    )
    with engine_errors("checking the death link"):
        row = connection.execute(
            "select count(*) from death_link "
            "anti join (select spell_id from provider_spell where finished) as ended using (spell_id)"
        ).fetchone()
    strangers = row[0] if row is not None else 0
    if strangers:
        raise IntegrityError(
            f"{strangers} spells of the death link are no finished spells of this build",
            next_step="link again: the link and the spells must come from one build",
        )


def build_outcomes(connection: duckdb.DuckDBPyConnection) -> None:
    """Build ``spell_outcome``; needs :func:`build_core` and :func:`add_death_link`."""
    _require_memory_database(connection)
    build_relation(connection, "spell_outcome", "table", {})


# The indicators -----------------------------------------------------------------------------------------


def parse_checks(text: str, where: str) -> tuple[Check, ...]:
    """The statements of a ``checks.sql``, each under its ``-- fail: ...`` or ``-- warn: ...`` line.

    Raises :class:`ContractDefinitionError` (starting with ``where``) for a statement without such a line, a
    line without a statement, a file without a ``fail`` check, or anything but SELECTs.
    """
    found: list[tuple[Literal["fail", "warn"], str, list[str]]] = []
    before: list[str] = []
    for line in text.splitlines():
        mark = CHECK_MARK.match(line)
        if mark is not None:
            found.append(("fail" if mark[1] == "fail" else "warn", mark[2].strip(), []))
        else:
            (found[-1][2] if found else before).append(line)
    if any(line.strip() and not line.startswith("--") for line in before):
        raise ContractDefinitionError(
            f"{where}: a statement stands before the first '-- fail:' or '-- warn:' line"
        )
    checks = []
    for severity, says, lines in found:
        statement = "\n".join(lines).strip().removesuffix(";")
        single_select(statement, f"{where}: {says}")
        checks.append(Check(severity, says, statement))
    if not any(check.severity == "fail" for check in checks):
        raise ContractDefinitionError(f"{where}: there is no '-- fail:' check")
    return tuple(checks)


def load_indicator(folder: Path) -> Indicator:
    """The indicator in ``folder``, which holds ``query.sql``, ``metadata.yaml`` and ``checks.sql`` and
    nothing else.

    Raises :class:`ContractDefinitionError` if a file is missing or too many, if name and version differ from
    the folder's, if the query is not one SELECT, or if its parameters are not those of the metadata.
    """
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if names != INDICATOR_FILES:
        wrong = sorted(names.symmetric_difference(INDICATOR_FILES))
        raise ContractDefinitionError(f"indicator {folder.name}: missing or unknown: {', '.join(wrong)}")
    metadata = parse_model(
        IndicatorMetadata, read_yaml(folder / "metadata.yaml"), f"indicator {folder.name}: metadata.yaml"
    )
    if metadata.id != folder.name:
        raise ContractDefinitionError(f"indicator {folder.name}: its metadata calls it {metadata.id}")
    query = _read_sql(folder / "query.sql")
    used = set(single_select(query, f"indicator {folder.name}: query.sql"))
    checks = parse_checks(_read_sql(folder / "checks.sql"), f"indicator {folder.name}: checks.sql")
    for check in checks:
        used |= single_select(check.statement, check.says)
    declared = {parameter.name for parameter in metadata.parameters}
    if used != declared:
        wrong = sorted(used.symmetric_difference(declared))
        raise ContractDefinitionError(
            f"indicator {folder.name}: used but not declared, or declared and not used: {', '.join(wrong)}"
        )
    return Indicator(metadata, query, checks)


def load_indicators(folder: Path = INDICATOR_FOLDER) -> tuple[Indicator, ...]:
    """Every indicator below ``folder``, by name. One that does not load stops them all: see
    :func:`load_indicator`."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "__")))
    return tuple(load_indicator(entry) for entry in entries)


def _select(
    connection: duckdb.DuckDBPyConnection, text: str, parameters: Mapping[str, ParameterValue]
) -> duckdb.DuckDBPyRelation:
    wanted = single_select(text, "query")
    return connection.sql(text, params={key: parameters[key] for key in wanted})


def _run_checks(
    connection: duckdb.DuckDBPyConnection,
    checks: Sequence[Check],
    parameters: Mapping[str, ParameterValue],
    values: pl.DataFrame,
) -> tuple[CheckResult, ...]:
    """Each check's count; the indicator's own result is the relation ``indicator_result`` to them."""
    results = []
    connection.register("indicator_result", values)
    try:
        for check in checks:
            row = _select(connection, check.statement, parameters).fetchone()
            results.append(CheckResult(check.severity, check.says, int(row[0]) if row is not None else 0))
    finally:
        connection.unregister("indicator_result")
    return tuple(results)


def run_indicator(connection: duckdb.DuckDBPyConnection, folder: Path) -> IndicatorResult:
    """Run one indicator and its checks; needs the core tables and outcomes it reads.

    Raises :class:`IndicatorCheckFailed` if a ``-- fail`` check found rows (the message gives its sentence
    and the count), :class:`ContractDefinitionError` if the result has other columns or types than the
    metadata says.
    """
    indicator = load_indicator(folder)
    metadata = indicator.metadata
    parameters = bound_parameters(metadata.parameters)
    with engine_errors(f"running indicator {metadata.id}"):
        relation = _select(connection, indicator.query, parameters)
        columns = [(name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]
        if columns != [(column.name, column.type) for column in metadata.columns]:
            raise ContractDefinitionError(
                f"indicator {metadata.id}: the query's columns differ from those in its metadata",
                next_step="compare DESCRIBE of the query with `columns` in metadata.yaml",
            )
        values = relation.pl()
        checks = _run_checks(connection, indicator.checks, parameters, values)
    failed = [check for check in checks if check.severity == "fail" and check.rows]
    if failed:
        raise IndicatorCheckFailed(
            f"indicator {metadata.id}: {len(failed)} check(s) failed; "
            f"first: {failed[0].says} ({failed[0].rows} rows)",
            next_step="nothing of this indicator was published; look at its checks.sql and at the deliveries",
        )
    return IndicatorResult(metadata, values, checks)
