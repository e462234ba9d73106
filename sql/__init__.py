"""Where the SQL lies: paths only. The queries are run by :mod:`infra.compute`."""

from __future__ import annotations

from pathlib import Path

SQL_FOLDER = Path(__file__).parent
CORE_FOLDER = SQL_FOLDER / "core"
INDICATOR_FOLDER = SQL_FOLDER / "indicators"
VIEW_FOLDER = SQL_FOLDER / "views"


def core_query(name: str) -> Path:
    """The file whose one SELECT makes the core relation ``name``."""
    return CORE_FOLDER / f"{name}.sql"
