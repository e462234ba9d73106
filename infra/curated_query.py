"""The analyst's query: any SELECT on published results, a small language of aggregates on the curated zone.

**Published** (:func:`query_published`): the file holds aggregates only. It is opened read-only in a session
that cannot reach any other file, load an extension or change a setting.

**Curated** (:func:`query_curated`): the session in which the lake is attached can show every key
(``duckdb_databases()``, ``__ducklake_metadata_*``), so an analyst's SQL never runs in it. The text is parsed
apart from the lake, its syntax tree is read node by node against an allow-list, and what runs is a statement
*written here*: quoted names out of the list of open columns, functions out of a list, every constant bound as
a parameter. What is not on a list does not exist: joins, subqueries, CTEs, unions, window functions, VALUES,
table functions, time travel, sampling, HAVING, filtered or ordered aggregates, ``min``, ``max``, ``list``,
``any_value`` and everything that hands out single values.

Accepted: ``SELECT key, ..., aggregate, ... FROM view [WHERE] [GROUP BY] [ORDER BY] [LIMIT]``; aggregates are
``count(*)``, ``count(column)``, ``count(DISTINCT person_token)`` and ``sum``, ``avg``, ``median`` or
``stddev`` of one column.

What comes back follows the rule for sub-national HES counts, so that one row says nothing about one person
and the difference of two answers says little:

* a group of fewer than eight records, or of fewer than eight persons, is left out and only counted;
* counts are rounded to the nearest five; sums are the mean times the rounded count;
* means, medians and standard deviations have three significant figures (more give the exact count away);
* an aggregate of a column is withheld where fewer than eight persons have a value, where fewer than eight
  records lack one (counts), or where fewer than eight differ from the commonest value (a flag set for three
  persons is a count of three, however it is averaged).

The record key and person token can be neither selected, grouped nor filtered by. Conversion and arithmetic
errors give null, so that "it failed" says nothing about whether such a record exists.

Not here yet: noticing that one analyst asks many nearly equal questions (the audit log has a digest of every
query, which is what that needs), and protection of sums against one dominating value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from infra.audit import AuditLog
from infra.purposes import require_purpose
from schemas.errors import IdentifierInText, IntegrityError, NotPermitted, UsageError, WardwatchError
from transforms.identifiers import EMAIL, NHS_NUMBER, POSTCODE, refuse_identifiers, scan_text

MINIMUM_GROUP = 8  # HES analysis guide: sub-national counts of 1 to 7 are not shown
ROUNDING = 5  # and the others are rounded to the nearest 5
SIGNIFICANT_FIGURES = 3
MAXIMUM_SQL_LENGTH = 20_000
MAXIMUM_DEPTH = 100

Node = Mapping[str, Any]


# published -------------------------------------------------------------------------------------------


def query_published(database: Path, sql: str) -> pl.DataFrame:
    """The rows of one SELECT on the published DuckDB file ``database``, as a frame.

    Raises :class:`UsageError` for anything but one SELECT that fits the tables, :class:`NotPermitted` for an
    attempt to reach beyond the file, :class:`IntegrityError` if the file is no DuckDB database.
    """
    try:
        connection = duckdb.connect(
            str(database),
            read_only=True,
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "temp_directory": "",
                "allow_persistent_secrets": "false",
                "python_enable_replacements": "false",
            },
        )
    except duckdb.Error:
        raise IntegrityError(
            f"{database.name} cannot be opened as a DuckDB database", next_step="publish the run again"
        ) from None
    with connection:
        # This order: once access is off and the configuration locked, neither can be turned on again.
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise UsageError("exactly one SELECT can be asked")
            return connection.execute(statements[0]).pl()
        except (duckdb.PermissionException, duckdb.IOException, duckdb.InvalidInputException):
            raise NotPermitted("the query reaches beyond the published tables") from None
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
            raise UsageError(_about_the_query(error)) from None
        except duckdb.Error:
            raise UsageError("the query could not be computed on the published tables") from None


def _about_the_query(error: duckdb.Error) -> str:
    """DuckDB's complaint about names and syntax, unless it repeats what looks like an identifier."""
    text = str(error).split("\n", 1)[0]
    return text if not scan_text(text) else "the query does not fit the published tables"


# curated ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CuratedView:
    """A view that may be asked. ``columns`` may be grouped and filtered by and averaged, and nothing else.

    ``person`` is the column that tells persons apart; it may only be counted distinctly.
    """

    name: str
    columns: tuple[str, ...]
    person: str | None = "person_token"


@dataclass(frozen=True)
class CuratedAnswer:
    """``frame``: one row per group that is large enough. ``groups_withheld``: how many were too small."""

    frame: pl.DataFrame
    groups_withheld: int


def query_curated(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    views: Iterable[CuratedView],
    *,
    purpose: str,
    audit: AuditLog,
    today: date,
    minimum_group: int = MINIMUM_GROUP,
) -> CuratedAnswer:
    """Answer ``sql`` with aggregates over one of ``views``, which exist in ``connection``.

    The person and role are those of ``audit``; the purpose must open ``lake.query`` to that role. One audit
    event says that the question was allowed, durable before it is run, another what came of it; a refusal is
    recorded too. The log has a digest of the query, never its text. Raises :class:`NotPermitted`,
    :class:`UsageError` for what cannot be read, :class:`IdentifierInText` for a query with an identifier.
    """
    digests = {"query": hashlib.sha256(sql.encode("utf-8", "replace")).hexdigest()}
    try:
        require_purpose(purpose, audit.role, "lake.query", today)
        refuse_identifiers(sql, "the query", kinds=(NHS_NUMBER, POSTCODE, EMAIL))
        try:
            plan = _compile(sql, tuple(views), minimum_group)
        except RecursionError:
            raise _refused("an expression nested this deeply") from None
    except (NotPermitted, UsageError, IdentifierInText) as refusal:
        # The purpose may be anything somebody typed, so it is left out of the event of its own refusal.
        audit.record(
            "lake.query", "lake", purpose="", decision="refuse", reason_code=refusal.code, digests=digests
        )
        raise
    audit.record("lake.query", plan.view.name, purpose=purpose, reason_code="asked", digests=digests)
    try:
        answer = _run(connection, plan)
    except WardwatchError as failure:
        audit.record(
            "lake.query",
            plan.view.name,
            purpose=purpose,
            decision="fail",
            reason_code=failure.code,
            digests=digests,
        )
        raise
    audit.record(
        "lake.query",
        plan.view.name,
        purpose=purpose,
        reason_code="answered",
        counts={"groups": answer.frame.height, "groups_withheld": answer.groups_withheld},
        digests=digests,
    )
    return answer


@dataclass(frozen=True)
class _Plan:
    view: CuratedView
    sql: str
    parameters: list[Any]
    outputs: list[str]  # names as the analyst sees them, in order
    rounded: list[str]  # outputs to be cut to significant figures
    order: list[tuple[str, bool, bool]]  # output, descending, nulls last
    limit: int | None
    offset: int


def _run(connection: duckdb.DuckDBPyConnection, plan: _Plan) -> CuratedAnswer:
    try:
        raw = connection.execute(plan.sql, plan.parameters).pl()
    except duckdb.Error:
        raise UsageError(
            "the query could not be computed on the view",
            next_step="compare numbers with numbers and text with text",
        ) from None
    withheld = int(raw.filter(~pl.col("ok"))["groups"].sum())
    frame = raw.filter(pl.col("ok"))
    keys = [name for name in raw.columns if name.startswith("key ")]
    names = [f"out {position}" for position in range(len(plan.outputs))]
    frame = frame.sort(keys, nulls_last=True) if keys else frame
    frame = frame.select(names).rename(dict(zip(names, plan.outputs, strict=True)))
    frame = (
        frame.with_columns(pl.col(plan.rounded).round_sig_figs(SIGNIFICANT_FIGURES))
        if plan.rounded
        else frame
    )
    if plan.order:
        by, descending, nulls_last = (list(part) for part in zip(*plan.order, strict=True))
        frame = frame.sort(by, descending=descending, nulls_last=nulls_last, maintain_order=True)
    return CuratedAnswer(frame.slice(plan.offset, plan.limit), withheld)


# from text to a plan ---------------------------------------------------------------------------------


def _refused(what: str) -> NotPermitted:
    return NotPermitted(
        f"{what} cannot be used on the curated zone",
        next_step="ask: select keys and aggregates from one view, where, group by, order by, limit",
    )


def _parse(sql: str) -> Node:
    """The syntax tree of the one SELECT in ``sql``, made in a session that has nothing in it."""
    if len(sql) > MAXIMUM_SQL_LENGTH:
        raise UsageError(f"a query has at most {MAXIMUM_SQL_LENGTH} characters")
    try:
        with duckdb.connect(config={"autoload_known_extensions": "false"}) as session:
            options = "skip_empty := true, skip_null := true, skip_default := true"
            serialised = session.execute(
                f"select json_serialize_sql(?, {options}), json_serialize_sql(?)", [sql, sql]
            ).fetchone()
    except duckdb.Error:
        raise UsageError("the query cannot be read as SQL") from None
    assert serialised is not None
    try:
        document, complete = (json.loads(text) for text in serialised)
    except (ValueError, RecursionError):
        raise UsageError("the query cannot be read as SQL") from None
    if document.get("error"):
        if document.get("error_type") == "not implemented":
            raise _refused("any statement but SELECT")
        raise UsageError("the query cannot be read as SQL")
    statements = document.get("statements", [])
    if len(statements) != 1:
        raise _refused("more than one statement")
    if set(statements[0]) != {"node"}:
        raise _refused("a parameter")
    node: Node = statements[0]["node"]
    # The empty set among the grouping sets (the total of a ROLLUP) is only in the complete form.
    sets = complete["statements"][0]["node"].get("group_sets", [])
    if sets and sets != [list(range(len(node.get("group_expressions", []))))]:
        raise _refused("more than one grouping at once")
    return node


def _only(node: Node, what: str, *allowed: str) -> None:
    """Refuse a node that has any part that is not known here."""
    if set(node) - {"class", "type", "alias", "query_location", *allowed}:
        raise _refused(what)


def _same(node: Any) -> Any:
    """A node without its place and alias, to compare two of them."""
    if isinstance(node, dict):
        return {k: _same(v) for k, v in node.items() if k not in ("query_location", "alias")}
    return [_same(part) for part in node] if isinstance(node, list) else node


_COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_DISTINCT_FROM": "is distinct from",
    "COMPARE_NOT_DISTINCT_FROM": "is not distinct from",
}
_INFIX = {
    "+": "+",
    "-": "-",
    "*": "*",
    "/": "/",
    "//": "//",
    "%": "%",
    "||": "||",
    "~~": "like",
    "!~~": "not like",
    "~~*": "ilike",
    "!~~*": "not ilike",
}
# name -> the numbers of arguments it may have
_FUNCTIONS: dict[str, tuple[int, ...]] = {
    "year": (1,),
    "quarter": (1,),
    "month": (1,),
    "dayofweek": (1,),
    "date_part": (2,),
    "date_trunc": (2,),
    "date_diff": (3,),
    "left": (2,),
    "right": (2,),
    "substr": (2, 3),
    "substring": (2, 3),
    "upper": (1,),
    "lower": (1,),
    "trim": (1,),
    "length": (1,),
    "starts_with": (2,),
    "nullif": (2,),
    "abs": (1,),
    "floor": (1,),
    "ceil": (1,),
    "round": (1, 2),
}
_TYPES = frozenset(("VARCHAR", "INTEGER", "BIGINT", "DOUBLE", "DATE", "BOOLEAN"))
_CONSTANTS = frozenset(("VARCHAR", "INTEGER", "BIGINT", "DOUBLE", "BOOLEAN"))
_AVERAGES = {
    "avg": "avg",
    "mean": "avg",
    "median": "median",
    "stddev": "stddev_samp",
    "stddev_samp": "stddev_samp",
}


@dataclass
class _Scalars:
    """Writes scalar expressions over the open columns of one view; collects the constants it met."""

    view: CuratedView
    alias: str
    parameters: list[Any] = field(default_factory=list)

    def column(self, node: Node) -> str:
        """The quoted name of the open column that ``node`` refers to."""
        _only(node, "this column reference", "column_names")
        names = node.get("column_names", [])
        if len(names) == 2 and names[0].lower() in (self.alias.lower(), self.view.name.lower()):
            names = names[1:]
        open_columns = {column.lower(): column for column in self.view.columns}
        if len(names) != 1 or names[0].lower() not in open_columns:
            raise NotPermitted(
                f"a column of this query is not open in {self.view.name}",
                next_step="open are: " + ", ".join(sorted(open_columns)),
            )
        return _quoted(open_columns[names[0].lower()])

    def write(self, node: Node, depth: int = 0) -> str:
        """SQL for ``node``; refuses whatever is not listed."""
        if depth > MAXIMUM_DEPTH:
            raise _refused("an expression nested this deeply")
        writers: dict[str, Callable[[Node, int], str]] = {
            "CONSTANT": self._constant,
            "CAST": self._cast,
            "COMPARISON": self._comparison,
            "BETWEEN": self._between,
            "CONJUNCTION": self._conjunction,
            "CASE": self._case,
            "OPERATOR": self._operator,
            "FUNCTION": self._function,
        }
        kind = node.get("class", "")
        if kind == "COLUMN_REF":
            return self.column(node)
        if kind not in writers:
            raise _refused("an expression of this kind")
        return writers[kind](node, depth + 1)

    def _constant(self, node: Node, _depth: int) -> str:
        _only(node, "this constant", "value")
        value = node["value"]
        if value.get("is_null"):
            return "null"
        kind, content = value["type"]["id"], value.get("value")
        if kind == "DECIMAL":
            content, kind = int(content) / 10 ** value["type"]["type_info"].get("scale", 0), "DOUBLE"
        if kind not in _CONSTANTS or not isinstance(content, str | int | float):
            raise _refused("a constant of this type")
        self.parameters.append(content)
        return f"cast(? as {kind})"

    def _cast(self, node: Node, depth: int) -> str:
        _only(node, "this cast", "child", "cast_type", "try_cast")
        if set(node["cast_type"]) != {"id"} or node["cast_type"]["id"] not in _TYPES:
            raise _refused("a cast to this type")
        return f"try_cast({self.write(node['child'], depth)} as {node['cast_type']['id']})"

    def _comparison(self, node: Node, depth: int) -> str:
        _only(node, "this comparison", "left", "right")
        if node["type"] not in _COMPARISONS:
            raise _refused("this comparison")
        left, right = self.write(node["left"], depth), self.write(node["right"], depth)
        return f"({left} {_COMPARISONS[node['type']]} {right})"

    def _between(self, node: Node, depth: int) -> str:
        _only(node, "this comparison", "input", "lower", "upper")
        value, lower, upper = (self.write(node[part], depth) for part in ("input", "lower", "upper"))
        return f"({value} between {lower} and {upper})"

    def _conjunction(self, node: Node, depth: int) -> str:
        _only(node, "this condition", "children")
        word = {"CONJUNCTION_AND": " and ", "CONJUNCTION_OR": " or "}.get(node["type"])
        if word is None:
            raise _refused("this condition")
        return "(" + word.join(self.write(child, depth) for child in node["children"]) + ")"

    def _case(self, node: Node, depth: int) -> str:
        _only(node, "this CASE", "case_checks", "else_expr")
        branches = []
        for check in node["case_checks"]:
            if set(check) != {"when_expr", "then_expr"}:
                raise _refused("this CASE")
            when = self.write(check["when_expr"], depth)
            branches.append(f"when {when} then {self.write(check['then_expr'], depth)}")
        otherwise = self.write(node["else_expr"], depth) if "else_expr" in node else "null"
        return f"case {' '.join(branches)} else {otherwise} end"

    def _operator(self, node: Node, depth: int) -> str:
        _only(node, "this operator", "children")
        parts = [self.write(child, depth) for child in node.get("children", [])]
        match node["type"]:
            case "OPERATOR_NOT":
                return f"(not {parts[0]})"
            case "OPERATOR_IS_NULL":
                return f"({parts[0]} is null)"
            case "OPERATOR_IS_NOT_NULL":
                return f"({parts[0]} is not null)"
            case "COMPARE_IN":
                return f"({parts[0]} in ({', '.join(parts[1:])}))"
            case "COMPARE_NOT_IN":
                return f"({parts[0]} not in ({', '.join(parts[1:])}))"
            case "OPERATOR_COALESCE":
                return f"coalesce({', '.join(parts)})"
        raise _refused("this operator")

    def _function(self, node: Node, depth: int) -> str:
        name = _plain_function(node)
        children = node.get("children", [])
        if node.get("distinct") or "filter" in node:
            raise _refused("this function")
        parts = [self.write(child, depth) for child in children]
        if name in _INFIX and len(parts) == 2:
            return f"({parts[0]} {_INFIX[name]} {parts[1]})"
        if name == "-" and len(parts) == 1:
            return f"(- {parts[0]})"
        if len(parts) not in _FUNCTIONS.get(name, ()):
            raise _refused("a function that is not on the list")
        if name in ("date_part", "date_trunc", "date_diff") and children[0].get("class") != "CONSTANT":
            raise _refused("a date part that is not a constant")
        return f"{name}({', '.join(parts)})"


def _plain_function(node: Node) -> str:
    """The lower-case name of a function call without an order, another schema or anything unknown to it."""
    _only(
        node,
        "this function",
        "function_name",
        "children",
        "order_bys",
        "is_operator",
        "schema",
        "distinct",
        "filter",
    )
    if node.get("schema", "main") != "main" or set(node.get("order_bys", {})) - {"type"}:
        raise _refused("a function of this form")
    return str(node["function_name"]).lower()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class _Aggregate:
    """One aggregate: what is computed per group, and what of it is shown."""

    output: str
    column: str | None = None  # the quoted column that must be carried along
    rounded: bool = False


def _compile(sql: str, views: tuple[CuratedView, ...], minimum: int) -> _Plan:
    node = _parse(sql)
    if node.get("type") != "SELECT_NODE":
        raise _refused("a combination of queries")
    _only(
        node,
        "this form of query",
        *(
            "select_list",
            "from_table",
            "where_clause",
            "group_expressions",
            "group_sets",
            "aggregate_handling",
        ),
        "modifiers",
    )
    view, alias = _view(node.get("from_table", {}), views)
    items = node.get("select_list", [])
    names = [_output_name(item, position) for position, item in enumerate(items)]
    if len({name.lower() for name in names}) != len(names):
        raise UsageError("two columns of the answer have the same name", next_step="name them with AS")
    keys = _keys(node, items, names, view)

    # Parameters are bound in the order in which they stand in the text: keys first, then the condition.
    scalars = _Scalars(view, alias)
    chosen = [f"try({scalars.write(key)}) as {_quoted(f'key {number}')}" for number, key in enumerate(keys)]
    outputs: list[str] = []
    rounded: list[str] = []
    columns: list[str] = []
    for position, item in enumerate(items):
        known = next((number for number, key in enumerate(keys) if _same(key) == _same(item)), None)
        if known is not None:
            expression = _quoted(f"key {known}")
        else:
            aggregate = _aggregate(item, scalars, minimum)
            expression = aggregate.output
            if aggregate.column is not None:
                columns.append(aggregate.column)
            if aggregate.rounded:
                rounded.append(names[position])
        outputs.append(f"{expression} as {_quoted(f'out {position}')}")
    person = _quoted(view.person) if view.person else None
    carried = dict.fromkeys([*columns, *([person] if person else [])])
    condition = f"try({scalars.write(node['where_clause'])})" if "where_clause" in node else "true"
    key_names = [_quoted(f"key {number}") for number in range(len(keys))]
    all_persons = f"and count(distinct {person}) >= {minimum}" if person else ""
    statement = f"""
        with chosen as (
            select {", ".join([*chosen, *carried]) or "1"} from {_quoted(view.name)} where {condition}
        ), grouped as (
            select {", ".join([*key_names, *outputs])},
                   count(*) >= {minimum} {all_persons} as ok
            from chosen {"group by " + ", ".join(key_names) if keys else ""}
        )
        select {
        ", ".join(
            f"case when ok then {name} end as {name}"
            for name in [*key_names, *(_quoted(f"out {n}") for n in range(len(outputs)))]
        )
    },
               ok, count(*) as groups
        from grouped group by all
    """
    order, limit, offset = _modifiers(node.get("modifiers", []), items, names)
    return _Plan(view, statement, scalars.parameters, names, rounded, order, limit, offset)


def _view(table: Node, views: tuple[CuratedView, ...]) -> tuple[CuratedView, str]:
    if table.get("type") != "BASE_TABLE":
        raise _refused("anything but one view after FROM")
    _only(table, "this form of FROM", "table_name")
    for view in views:
        if view.name.lower() == str(table.get("table_name", "")).lower():
            return view, str(table.get("alias") or view.name)
    raise NotPermitted(
        "there is no such view on the curated zone",
        next_step="one of: " + ", ".join(sorted(view.name for view in views)),
    )


def _output_name(item: Node, position: int) -> str:
    names = item.get("column_names")
    name = str(item.get("alias") or (names[-1] if names else "") or item.get("function_name", ""))
    return {"count_star": "count", "": f"column_{position + 1}"}.get(name, name)


def _is_aggregate(item: Node) -> bool:
    names = {"count_star", "count", "sum", *_AVERAGES}
    return item.get("class") == "FUNCTION" and str(item.get("function_name")).lower() in names


def _keys(node: Node, items: list[Node], names: list[str], view: CuratedView) -> list[Node]:
    """The expressions that make the groups, positions and aliases resolved."""
    handling = node.get("aggregate_handling", "STANDARD_HANDLING")
    if handling == "FORCE_AGGREGATES":  # GROUP BY ALL
        return [item for item in items if not _is_aggregate(item)]
    if handling != "STANDARD_HANDLING":
        raise _refused("this form of GROUP BY")
    expressions = node.get("group_expressions", [])
    open_columns = {column.lower() for column in view.columns}
    keys = []
    for expression in expressions:
        found = expression
        column = expression.get("column_names", [])
        if expression.get("class") == "CONSTANT":
            found = items[_position(expression, len(items))]
        elif len(column) == 1 and column[0].lower() not in open_columns:
            found = next(
                (i for i, n in zip(items, names, strict=True) if n.lower() == column[0].lower()), found
            )
        keys.append(found)
    return keys


def _position(node: Node, count: int) -> int:
    """The index of a select item that is named by its position, from 1."""
    value = node.get("value", {}).get("value")
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= count:
        raise UsageError("a position in GROUP BY or ORDER BY names no column of the answer")
    return value - 1


def _aggregate(item: Node, scalars: _Scalars, minimum: int) -> _Aggregate:
    """What an aggregate of the select list computes; refuses anything else there."""
    if item.get("class") != "FUNCTION":
        raise _refused("a column that is neither grouped by nor aggregated")
    name = _plain_function(item)
    if "filter" in item or not _is_aggregate(item):
        raise _refused("this function in the answer")
    children = item.get("children", [])
    if name == "count_star" and not children and not item.get("distinct"):
        return _Aggregate(_rounded("count(*)"))
    if len(children) != 1 or children[0].get("class") != "COLUMN_REF":
        raise _refused("an aggregate of anything but one column")
    if name == "count" and item.get("distinct"):
        person = scalars.view.person
        if person is None or str(children[0]["column_names"][-1]).lower() != person.lower():
            raise _refused("count(distinct ...) of anything but the person")
        return _Aggregate(_rounded(f"count(distinct {_quoted(person)})"))
    if item.get("distinct"):
        raise _refused("a distinct aggregate")
    column = scalars.column(children[0])
    counted = column if name == "count" else f"try_cast({column} as double)"
    present = f"count({counted})"
    enough = f"{present} >= {minimum}"
    if scalars.view.person is not None:
        person = _quoted(scalars.view.person)
        enough += f" and count(distinct {person}) filter (where {counted} is not null) >= {minimum}"
    if name == "count":
        missing = f"count(*) - {present}"
        shown = f"{present} = 0 or ({enough} and ({missing} = 0 or {missing} >= {minimum}))"
        return _Aggregate(f"case when {shown} then {_rounded(present)} end", column)
    number = counted
    commonest = f"list_max(map_values(histogram({number})))"
    shown = f"{enough} and ({present} = {commonest} or {present} - {commonest} >= {minimum})"
    value = f"avg({number}) * {_rounded(present)}" if name == "sum" else f"{_AVERAGES[name]}({number})"
    return _Aggregate(f"case when {shown} then {value} end", column, rounded=True)


def _rounded(count: str) -> str:
    return f"cast(round({count} / {ROUNDING}.0) * {ROUNDING} as bigint)"


def _modifiers(
    modifiers: list[Node], items: list[Node], names: list[str]
) -> tuple[list[tuple[str, bool, bool]], int | None, int]:
    """ORDER BY over columns of the answer, LIMIT and OFFSET as numbers."""
    order: list[tuple[str, bool, bool]] = []
    limit: int | None = None
    offset = 0
    for modifier in modifiers:
        if modifier.get("type") == "ORDER_MODIFIER":
            for entry in modifier["orders"]:
                nulls_last = entry.get("null_order") != "NULLS FIRST"
                order.append(
                    (
                        _ordered_by(entry["expression"], items, names),
                        entry["type"] == "DESCENDING",
                        nulls_last,
                    )
                )
        elif modifier.get("type") == "LIMIT_MODIFIER":
            limit, offset = _number(modifier.get("limit")), _number(modifier.get("offset")) or 0
        else:
            raise _refused("DISTINCT or a limit in percent")
    return order, limit, offset


def _ordered_by(expression: Node, items: list[Node], names: list[str]) -> str:
    if expression.get("class") == "CONSTANT":
        return names[_position(expression, len(items))]
    column = expression.get("column_names", [])
    for item, name in zip(items, names, strict=True):
        if _same(item) == _same(expression) or (len(column) == 1 and column[0].lower() == name.lower()):
            return name
    raise _refused("an order by anything but a column of the answer")


def _number(node: Node | None) -> int | None:
    if node is None:
        return None
    value = node.get("value", {}).get("value") if node.get("class") == "CONSTANT" else None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _refused("a limit that is not a number")
    return value
