"""Collects golden cases of the SQL: a file each, run on the real query.

* ``indicators/<indicator>/<case>/expect.yaml`` with one CSV per input table beside it: ``hes_apc.csv``, and
  where
  wanted ``hes_person_bridge.csv`` (old_person, person) and ``deaths.csv`` (person, date).
* ``core/<relation>/<pitfall>.yaml``: the same in one file, the tables as CSV text.

``expect`` lists the rows as text, with only the columns that the case is about; order does not count.
``where`` may name a column and a value to look at some rows of the relation only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
if str(ROOT) not in sys.path:  # so that `pytest` finds the oracles just as `python -m pytest` does
    sys.path.insert(0, str(ROOT))

TABLES = ("hes_apc", "hes_person_bridge", "deaths")


class GoldenCase(pytest.Item):
    def __init__(self, *, case: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case

    def runtest(self) -> None:
        from infra.compute import run_indicator
        from sql import INDICATOR_FOLDER
        from tests.sql.tables import as_text, built, read_csv

        tables = {name: read_csv(self.case.get(name, "")) if self.case.get(name) else [] for name in TABLES}
        connection = built(
            tables["hes_apc"],
            tables["hes_person_bridge"],
            {row["person"]: date.fromisoformat(row["date"]) for row in tables["deaths"]},
        )
        relation = self.case["relation"]
        expected = [dict(row) for row in self.case["expect"]]
        columns = list(expected[0]) if expected else []
        if self.case["kind"] == "indicator":
            frame = run_indicator(connection, INDICATOR_FOLDER / relation).values
        else:
            frame = connection.execute(f"select * from {relation}").pl()
        found = [{name: as_text(row[name]) for name in columns} for row in frame.iter_rows(named=True)]
        if not expected:
            assert frame.height == 0, f"{relation} should be empty and has {frame.height} rows"
            return
        odd = [row for row in expected if list(row) != columns]
        assert not odd, f"every expected row lists the columns {columns}"
        key = lambda row: tuple(row.values())  # noqa: E731
        found, expected = sorted(found, key=key), sorted(expected, key=key)
        assert found == expected, (
            f"{self.case['says']}\n{relation} is not as expected.\nexpected:\n"
            + "\n".join(f"  {row}" for row in expected)
            + "\nfound:\n"
            + "\n".join(f"  {row}" for row in found)
        )

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        if isinstance(excinfo.value, AssertionError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo, style))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.case['relation']}: {self.name}"


class GoldenFile(pytest.File):
    def collect(self) -> Iterator[GoldenCase]:
        case: dict[str, Any] = yaml.load(self.path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        unknown = set(case) - {"says", "expect", *TABLES}
        if unknown or not case.get("says") or "expect" not in case:
            raise self.CollectError(
                f"{self.path.name}: a case has says, expect and tables, and not {unknown}"
            )
        if self.path.name == "expect.yaml":
            kind, relation, name = "indicator", self.path.parent.parent.name, self.path.parent.name
            for table in self.path.parent.glob("*.csv"):
                if table.stem not in TABLES:
                    raise self.CollectError(f"{table.name}: no input table is called so")
                case[table.stem] = table.read_text(encoding="utf-8")
        else:
            kind, relation, name = "core", self.path.parent.name, self.path.stem
        case |= {"kind": kind, "relation": relation}
        yield GoldenCase.from_parent(self, name=name, case=case)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> GoldenFile | None:
    if file_path.suffix != ".yaml" or not file_path.is_relative_to(HERE):
        return None
    kind = file_path.relative_to(HERE).parts[0]
    if kind == "core" or (kind == "indicators" and file_path.name == "expect.yaml"):
        collected: GoldenFile = GoldenFile.from_parent(parent, path=file_path)
        return collected
    return None
