"""Commit points: every place in the code that is marked as one where a kill must be harmless."""

from __future__ import annotations

import ast
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = ("infra", "flows")


def commit_points() -> list[str]:
    """The names of all ``commit_point("...")`` calls, read from the source.

    Each name is a literal and stands in one place only; anything else could not be enumerated.
    """
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted((PROJECT / folder).rglob("*.py")):
            for call in _calls(ast.parse(path.read_text(encoding="utf-8"))):
                place = f"{path.relative_to(PROJECT)}:{call.lineno}"
                name = (
                    call.args[0].value
                    if len(call.args) == 1 and isinstance(call.args[0], ast.Constant)
                    else None
                )
                assert isinstance(name, str), f"{place}: the name of a commit point has to be a literal"
                assert name not in found, f"{place}: the commit point {name} stands at {found[name]} already"
                found[name] = place
    return sorted(found)


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "commit_point")
            or (isinstance(node.func, ast.Attribute) and node.func.attr == "commit_point")
        )
    ]
