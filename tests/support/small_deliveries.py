"""Small deliveries: a few records of a plain synthetic extract, as header and rows that a test can spoil."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from infra.synthetic.broken_rows import BAD_DATES
from tests.security.sweep import Canary

# The identifiable columns and the keys of the synthetic extracts of both eras: what may be seen nowhere.
SECRET_COLUMNS = (
    "TOKEN_PERSON_ID",
    "ENCRYPTED_HESID",
    "NEWNHSNO",
    "LOPATID",
    "DOB",
    "HOMEADD",
    "MOTDOB",
    "EPIKEY",
    "ATTENDKEY",
)


@dataclass(frozen=True)
class Text:
    """A small delivery."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    delimiter: str = ","

    def bytes(self) -> bytes:
        return "".join(self.delimiter.join(line) + "\n" for line in (self.header, *self.rows)).encode()

    def at(self, column: str) -> int:
        return self.header.index(column)

    def with_column(self, name: str, value: str) -> Text:
        return replace(self, header=(*self.header, name), rows=tuple((*row, value) for row in self.rows))

    def without(self, column: str) -> Text:
        at = self.at(column)
        return replace(
            self,
            header=self.header[:at] + self.header[at + 1 :],
            rows=tuple(row[:at] + row[at + 1 :] for row in self.rows),
        )

    def renamed(self, column: str, name: str) -> Text:
        return replace(self, header=tuple(name if old == column else old for old in self.header))

    def filled(self, column: str, value: str) -> Text:
        """The same value in every record."""
        return replace(self, rows=tuple(self._put(row, column, value) for row in self.rows))

    def changed(self, number: int, column: str, value: str) -> Text:
        """Another value in the record ``number``, counted from 1."""
        rows = list(self.rows)
        rows[number - 1] = self._put(rows[number - 1], column, value)
        return replace(self, rows=tuple(rows))

    def _put(self, row: tuple[str, ...], column: str, value: str) -> tuple[str, ...]:
        at = self.at(column)
        return (*row[:at], value, *row[at + 1 :])

    def first(self, rows: int) -> Text:
        return replace(self, rows=self.rows[:rows])

    def columns(self, order: list[str]) -> Text:
        """The same columns in another order."""
        at = [self.at(name) for name in order]
        return replace(self, header=tuple(order), rows=tuple(tuple(row[n] for n in at) for row in self.rows))

    def secrets(self) -> Iterator[Canary]:
        """Each identifiable value and each key, as a canary."""
        for column in SECRET_COLUMNS:
            if column in self.header:
                at = self.at(column)
                for value in sorted({row[at] for row in self.rows if len(row[at]) >= 6}):
                    yield Canary(column, value)


def small(path: Path, rows: int = 40) -> Text:
    """The first well-formed records of the plain synthetic extract at ``path``."""
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    delimiter = "|" if "|" in header else ","
    names = tuple(header.split(delimiter))
    split = [tuple(line.split(delimiter)) for line in lines]
    return Text(names, tuple(row for row in split if _is_whole(names, row))[:rows], delimiter)


def _is_whole(names: tuple[str, ...], row: tuple[str, ...]) -> bool:
    """Whether a record is none of the broken ones that the generator plants: they lack fields, a key or a date."""
    if len(row) != len(names):
        return False
    of = dict(zip(names, row, strict=True))
    key, date = ("EPIKEY", "EPISTART") if "EPIKEY" in of else ("ATTENDKEY", "APPTDATE")
    return bool(of[key]) and of[date] not in BAD_DATES
