"""The arrows of the architecture hold: which folder may import what, and what is imported only where used."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = ("flows", "infra", "schemas", "sql", "transforms")

# What a folder may import besides the standard library. None: anything that is not forbidden below.
MAY_IMPORT: dict[str, frozenset[str] | None] = {
    "schemas": frozenset({"schemas", "pydantic", "yaml", "polars"}),
    # A keyed token is a pure function of id and key; the HMAC is the library's.
    "transforms": frozenset(
        {"transforms", "schemas", "polars", "numpy", "scipy", "statsmodels", "cryptography"}
    ),
    "sql": frozenset(),
    "infra": None,
    "flows": None,
}
MAY_NOT_IMPORT = {
    "infra": frozenset({"flows", "tests"}),
    "flows": frozenset({"tests"}),
}
# These take seconds to import, so a module names them only inside the function that needs them. A module of
# Prefect flows (flows/*_flow.py) cannot do without, and is itself imported only inside functions.
SLOW = frozenset({"prefect", "great_expectations", "altair", "vl_convert", "boto3", "statsmodels"})
SLOW_PARTS = ("scipy.stats", "scipy.optimize")
# Transforms are pure: no clock, no files, no environment, no randomness, no network, no processes.
IMPURE_MODULES = frozenset(
    {"os", "io", "sys", "random", "secrets", "time", "uuid", "pathlib", "shutil", "tempfile", "subprocess"}
    | {"socket", "threading", "multiprocessing", "logging", "glob", "fcntl", "urllib", "http", "sqlite3"}
)
IMPURE_BUILTINS = frozenset({"open", "input", "print", "exec", "eval", "__import__"})
IMPURE_METHODS = frozenset(
    {"now", "today", "utcnow", "shuffle", "sample", "default_rng"}
    # read_csv is not among them: parsing bytes that came in as an argument is pure.
    | {"read_parquet", "scan_csv", "scan_parquet", "write_csv", "write_parquet", "sink_csv", "sink_parquet"}
)


def sources(folder: str) -> list[Path]:
    return sorted((PROJECT / folder).rglob("*.py"))


def imported(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """(dotted module, line, whether it is imported when the file is) for every import of a file."""
    for node, lazy in _walk(tree, False):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, not lazy
        elif isinstance(node, ast.ImportFrom):
            # A relative import stays within its folder.
            yield ("." if node.level else node.module or ""), node.lineno, not lazy


def _walk(node: ast.AST, lazy: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            inside = True  # never run
        yield child, inside
        yield from _walk(child, inside)


def broken_arrows(folder: str, source: str, name: str = "module.py") -> list[str]:
    """What is wrong with the imports of the file ``name`` of ``folder``, as ``line: why``."""
    problems = []
    slow = SLOW - {"prefect"} if folder == "flows" and name.endswith("_flow.py") else SLOW
    for module, line, at_once in imported(ast.parse(source)):
        top = module.split(".")[0]
        allowed = MAY_IMPORT[folder]
        if at_once and (top in slow or module.startswith(SLOW_PARTS) or module.endswith("_flow")):
            problems.append(f"{line}: {module} takes seconds, import it in the function that uses it")
        if top in MAY_NOT_IMPORT.get(folder, ()):
            problems.append(f"{line}: {folder} may not import {top}")
        standard = top in sys.stdlib_module_names or not top
        if allowed is not None and not standard and top not in allowed:
            problems.append(f"{line}: {folder} may not import {top}")
        if folder == "transforms" and top in IMPURE_MODULES:
            problems.append(f"{line}: transforms are pure, {top} is not")
    return problems


def impure_calls(source: str) -> list[str]:
    """Calls by which a transform would read a clock, a file, the environment or chance."""
    problems = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in IMPURE_BUILTINS:
                problems.append(f"{node.lineno}: {node.func.id}()")
            if isinstance(node.func, ast.Attribute) and node.func.attr in IMPURE_METHODS:
                problems.append(f"{node.lineno}: .{node.func.attr}()")
    return problems


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_what_the_architecture_lets_it(folder: str) -> None:
    problems = [
        f"{path.relative_to(PROJECT)}:{problem}"
        for path in sources(folder)
        for problem in broken_arrows(folder, path.read_text(encoding="utf-8"), path.name)
    ]
    assert problems == []


def test_transforms_are_pure() -> None:
    problems = [
        f"{path.relative_to(PROJECT)}:{problem}"
        for path in sources("transforms")
        for problem in impure_calls(path.read_text(encoding="utf-8"))
    ]
    assert problems == []


def test_sql_is_a_folder_of_sql() -> None:
    python = [path.relative_to(PROJECT).as_posix() for path in sources("sql")]
    assert [path for path in python if not path.endswith("__init__.py")] == []


def test_every_folder_of_the_architecture_is_looked_at() -> None:
    assert all((PROJECT / folder / "__init__.py").is_file() for folder in FOLDERS)
    assert set(MAY_IMPORT) == set(FOLDERS)


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("schemas", "import duckdb"),
        ("schemas", "from infra.files import write_atomic"),
        ("schemas", "import polars.selectors\nimport transforms.identifiers"),
        ("transforms", "import duckdb"),
        ("transforms", "from infra import files"),
        ("transforms", "def f():\n    import prefect"),
        ("transforms", "import os"),
        ("transforms", "from pathlib import Path"),
        ("transforms", "import random"),
        ("infra", "from flows.cli import main"),
        ("infra", "import prefect"),
        ("infra", "try:\n    import boto3\nexcept ImportError:\n    pass"),
        ("infra", "class A:\n    import altair"),
        ("infra", "from tests.security import sweep"),
        ("flows", "from prefect import flow"),
        ("flows", "import great_expectations as gx"),
        ("flows", "import flows.nightly_flow"),
        ("flows", "from flows.nightly_flow import nightly"),
        ("sql", "import polars"),
    ],
)
def test_a_forbidden_import_is_noticed(folder: str, source: str) -> None:
    assert len(broken_arrows(folder, source)) >= 1


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        (
            "schemas",
            "import re\nimport yaml\nfrom pydantic import BaseModel\nfrom schemas.errors import UsageError",
        ),
        ("transforms", "import numpy as np\nfrom scipy import stats\nimport polars as pl\nimport math"),
        ("infra", "import duckdb\nimport os\nfrom transforms.identifiers import scan_text"),
        ("infra", "def f():\n    import boto3"),
        ("flows", "def f():\n    from prefect import flow\nfrom infra.audit import AuditLog"),
        ("flows", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import prefect"),
        ("infra", "from . import files"),
    ],
)
def test_an_allowed_import_passes(folder: str, source: str) -> None:
    assert broken_arrows(folder, source) == []


@pytest.mark.parametrize(
    "source",
    ["open('x')", "datetime.now()", "date.today()", "pl.scan_csv(x)", "frame.write_parquet(x)", "print(1)"],
)
def test_an_impure_call_is_noticed(source: str) -> None:
    assert len(impure_calls(source)) == 1
    assert impure_calls("frame.with_columns(pl.col('a').sum())") == []


def test_a_module_of_flows_may_import_prefect_and_nothing_else_that_is_slow() -> None:
    assert broken_arrows("flows", "from prefect import flow", "nightly_flow.py") == []
    assert len(broken_arrows("flows", "import altair", "nightly_flow.py")) == 1
    assert len(broken_arrows("infra", "from prefect import flow", "nightly_flow.py")) == 1
