"""A delimited file of unknown make: header and rows as text, whatever program wrote it.

Official releases come with a byte order mark, in a Windows encoding or in UTF-16, separated by commas, semicolons,
tabs or bars, with blank lines and a copyright line at the end, and with thousands separators. All of that is accepted
here; what a cell must hold is for the reader of each sort of file to say.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from schemas.errors import StorageFailed, UsageError

DELIMITERS = (",", ";", "\t", "|")
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# A comma is a thousands separator only where one belongs: "0,1" is a decimal comma, and no 1.
_WHOLE = r"(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)"
_NUMBER = re.compile(rf"[+-]?(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# The first line with which a spreadsheet tells itself the delimiter.
_HINT = re.compile(r"sep=([,;\t|])")


@dataclass(frozen=True)
class DelimitedFile:
    """``header``: the column names of the first line. ``rows``: the cells of each later line that is not blank
    throughout; a row may have fewer cells than the header, or more. No cell has spaces around it."""

    header: list[str]
    rows: list[list[str]]
    delimiter: str = ","

    def column(self, wanted: str) -> int:
        """Where column ``wanted`` stands: as given, else regardless of case.

        Raises :class:`UsageError` when it is missing or there is more than one.
        """
        name = wanted.strip()
        for names, looked_for in ((self.header, name), ([h.upper() for h in self.header], name.upper())):
            if names.count(looked_for) > 1:
                raise UsageError(f"the file has more than one column {wanted}")
            if looked_for and looked_for in names:
                return names.index(looked_for)
        raise UsageError(f"the file has no column {wanted}")

    def shifted(self, cells: list[str]) -> bool:
        """Whether a row holds something beyond the last column: a comma in a name or a decimal comma without quotation
        marks, after which no cell is in its column."""
        return any(cells[len(self.header) :])

    def number(self, text: str) -> float | None:
        """The cell ``text`` as a finite number; None if it is not one.

        Between semicolons a comma may be a decimal one, as spreadsheets of other countries write it: 1,234 could
        then be either, and is no number.
        """
        return None if self.delimiter == ";" and "," in text else number(text)


def read_delimited(path: Path, what: str) -> DelimitedFile:
    """Read ``path``; ``what`` names the expected content in errors ("observed and expected numbers").

    UTF-8, UTF-16 with its mark, else taken for Windows-1252 or Latin-1. Raises :class:`UsageError` when there is no
    such file, it is empty or starts with an empty line, or is not delimited text; :class:`StorageFailed` when it
    cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"there is no such file to read {what} from")
    try:
        content = path.read_bytes()
    except OSError:
        raise StorageFailed(
            f"the file of {what} could not be read", next_step="check its permissions"
        ) from None
    text = _decoded(content).replace("\r\n", "\n").replace("\r", "\n")
    first_line, _, rest = text.partition("\n")
    hint = _HINT.fullmatch(first_line.strip('"'))
    if hint is not None:
        text, first_line = rest, rest.partition("\n")[0]
    if not first_line.strip():
        raise UsageError("the file is empty, or its first line is")
    delimiter = hint[1] if hint is not None else max(DELIMITERS, key=first_line.count)
    try:
        # Strict: a quotation mark that is never closed would make the rest of the file one cell.
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        lines = [[cell.strip() for cell in cells] for cells in reader]
    except csv.Error:
        raise UsageError("the file is not delimited text, or a quotation mark in it stands alone") from None
    return DelimitedFile(lines[0], [cells for cells in lines[1:] if any(cells)], delimiter)


def _decoded(content: bytes) -> str:
    encodings = ("utf-16",) if content.startswith(UTF_16_MARKS) else ("utf-8-sig", "cp1252", "latin-1")
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
        break
    raise UsageError("the file is not delimited text")


def cell(cells: list[str], at: int) -> str:
    """The cell at position ``at``, empty in a row that ends before it."""
    return cells[at] if at < len(cells) else ""


def number(text: str) -> float | None:
    """``text`` as a finite number, thousands separators allowed; None if it is not one."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text.replace(",", ""))
    return value if isfinite(value) else None
