"""A delimited file of unknown make: header and rows as text, whatever program wrote it.

Official releases come with a byte order mark or in Latin-1, separated by commas, semicolons, tabs or bars, with
blank lines and a copyright line at the end, and with thousands separators. All of that is accepted here; what
a cell must hold is for the reader of each sort of file to say.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from infra.files import storage_errors
from schemas.errors import UsageError

DELIMITERS = (",", ";", "\t", "|")
# A comma is a thousands separator only where one belongs: "0,1" is a decimal comma, and no 1.
_WHOLE = r"(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)"
_NUMBER = re.compile(rf"[+-]?(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class DelimitedFile:
    """``header``: the column names of the first line. ``rows``: the cells of each later line that is not blank
    throughout; a row may have fewer cells than the header, or more. No cell has spaces around it."""

    header: list[str]
    rows: list[list[str]]

    def column(self, wanted: str) -> int:
        """Where column ``wanted`` stands: as given, else regardless of case.

        Raises :class:`UsageError` when it is missing or there is more than one.
        """
        for names, name in ((self.header, wanted), ([h.upper() for h in self.header], wanted.upper())):
            if names.count(name) > 1:
                raise UsageError(f"the file has more than one column {wanted}")
            if name in names:
                return names.index(name)
        raise UsageError(f"the file has no column {wanted}")


def read_delimited(path: Path, what: str) -> DelimitedFile:
    """Read ``path``; ``what`` names the expected content in errors ("observed and expected numbers").

    Raises :class:`UsageError` when there is no such file, it is empty or starts with an empty line, or is not
    delimited text; a storage error when it cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"there is no such file to read {what} from")
    with storage_errors(f"reading a file of {what}"):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    header_line = text.split("\n", 1)[0]
    if not header_line.strip():
        raise UsageError("the file is empty, or its first line is")
    delimiter = max(DELIMITERS, key=header_line.count)
    try:
        lines = [
            [cell.strip() for cell in cells] for cells in csv.reader(io.StringIO(text), delimiter=delimiter)
        ]
    except csv.Error:
        raise UsageError("the file is not delimited text") from None
    return DelimitedFile(lines[0], [cells for cells in lines[1:] if any(cells)])


def cell(cells: list[str], at: int) -> str:
    """The cell at position ``at``, empty in a row that ends before it."""
    return cells[at] if at < len(cells) else ""


def number(text: str) -> float | None:
    """``text`` as a finite number, thousands separators allowed; None if it is not one."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text.replace(",", ""))
    return value if isfinite(value) else None
