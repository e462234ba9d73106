"""Objection: the records of a person who objected leave a delivery before anything else is done with it.

A list of objections holds keyed tokens of person ids and NHS numbers, never the ids. Of each chunk only the distinct
ids are made into tokens and looked up; where none is on the list, as in nearly every chunk, no row is touched.
A row leaves if any of its person ids or its NHS number is on the list.

What this cannot see: a person id of another layout of the same dataset. The list names every id of a person, or the
NHS number. A row of a bridge leaves too, so what a bridge would have joined to the person stays unjoined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.contract import ContractField, FieldClass, Item
from transforms.tokens import person_tokens
from transforms.typing_fields import PADDING, value_free

Halves = npt.NDArray[np.uint64]

_NOT_A_DIGIT: Final = r"[^0-9]"
# They pass the check digit and stand for nobody.
_PLACEHOLDERS: Final = [str(digit) * 10 for digit in range(10)]


class IdKind(StrEnum):
    """What an id on a list is. The kind is part of the token: the same text as another kind gives another token."""

    PERSON_ID = "person_id"
    NHS_NUMBER = "nhs_number"

    @property
    def token_purpose(self) -> str:
        return f"objection-{self.value.replace('_', '-')}"


@dataclass(frozen=True, eq=False)
class _Tokens:
    """Sorted 128-bit tokens as two columns of 64 bits: some 16 bytes for each of millions of persons."""

    high: Halves = field(repr=False)
    low: Halves = field(repr=False)

    def holds(self, high: Halves, low: Halves) -> npt.NDArray[np.bool_]:
        """For each token asked for, whether it is among these."""
        at = np.searchsorted(self.high, high)
        end = np.searchsorted(self.high, high, side="right")
        found = np.zeros(len(high), dtype=np.bool_)
        # More than one step only where the first halves of two tokens are equal, which does not happen by chance.
        for step in range(int((end - at).max(initial=0))):
            inside = at + step < end
            found[inside] |= self.low[at[inside] + step] == low[inside]
        return found


@dataclass(frozen=True, eq=False)
class Objections:
    """A list of objections, ready to be asked. Take it from :meth:`of`; printing it shows nothing of it."""

    _by_kind: Mapping[IdKind, _Tokens] = field(repr=False)

    @classmethod
    def of(cls, tokens: Mapping[IdKind, pl.Series]) -> Objections:
        """``tokens``: kind -> String, 32 hex digits each, as :func:`objection_tokens` makes them."""
        by_kind = {}
        for kind, series in tokens.items():
            halves = _halves(series.drop_nulls().unique())
            if len(halves[0]):
                order = np.lexsort((halves[1], halves[0]))
                by_kind[kind] = _Tokens(halves[0][order], halves[1][order])
        return cls(by_kind)

    def __len__(self) -> int:
        """How many ids are on the list; a person may be on it with several."""
        return sum(len(tokens.high) for tokens in self._by_kind.values())

    def __contains__(self, kind: object) -> bool:
        return kind in self._by_kind

    def on_list(self, tokens: pl.Series, kind: IdKind) -> pl.Series:
        """Boolean per token (String, 32 hex digits or null): whether it is on the list; null counts as no."""
        found = np.zeros(len(tokens), dtype=np.bool_)
        if kind in self._by_kind:
            given = tokens.is_not_null().to_numpy()
            found[given] = self._by_kind[kind].holds(*_halves(tokens.drop_nulls()))
        return pl.Series("on_list", found)


def _halves(tokens: pl.Series) -> tuple[Halves, Halves]:
    binary = tokens.cast(pl.String).str.decode("hex")
    high, low = (
        binary.bin.slice(start, 8).bin.reinterpret(dtype=pl.UInt64(), endianness="big").to_numpy()
        for start in (0, 8)
    )
    return high, low


def normalised(ids: pl.Series, kind: IdKind) -> pl.Series:
    """``ids`` (String) as they are made into tokens: person ids without padding, NHS numbers as ten digits alone.

    Empty ids, NHS numbers of another length and those of one repeated digit become null.
    """
    text = pl.Series("id", ids.cast(pl.String))
    if kind is IdKind.PERSON_ID:
        bare = pl.col("id").str.strip_chars(PADDING)
        named = bare != ""
    else:
        bare = pl.col("id").str.replace_all(_NOT_A_DIGIT, "")
        named = (bare.str.len_chars() == 10) & ~bare.is_in(_PLACEHOLDERS)
    return text.to_frame().select(pl.when(named).then(bare).alias("id")).to_series()


@value_free("making tokens of a list of objections")
def objection_tokens(ids: pl.Series, key: bytes, kind: IdKind) -> pl.Series:
    """Tokens (String, 32 hex digits; null for no id) of ``ids``, in their order.

    ``key`` is the key of the list and of nothing else: these tokens join with no table. Raises
    :class:`~schemas.errors.KeyUnavailable` for a short key.
    """
    return person_tokens(normalised(ids, kind), key, kind.token_purpose)


def id_columns(fields: Iterable[ContractField]) -> dict[str, IdKind]:
    """Which delivered ``fields`` tell whose record it is: the person ids and the person's NHS number.

    Of two fields of the item NHS number both count: a record that is about a mother and a baby leaves for either.
    """
    kinds = {}
    for each in fields:
        if each.field_class is FieldClass.PERSON_ID:
            kinds[each.name] = IdKind.PERSON_ID
        elif each.item is Item.NHS_NUMBER:
            kinds[each.name] = IdKind.NHS_NUMBER
    return kinds


@value_free("leaving out the records of persons who objected")
def leaving(
    chunk: pl.DataFrame, columns: Mapping[str, IdKind], key: bytes, objections: Objections
) -> pl.Series | None:
    """Boolean per row of ``chunk`` (String columns): whether the row leaves. None if no row does.

    ``columns``: as :func:`id_columns` gives them; one that the chunk lacks is passed over.
    """
    found: pl.Series | None = None
    for name, kind in columns.items():
        if kind not in objections or name not in chunk.columns:
            continue
        ids = chunk.get_column(name)
        distinct = ids.drop_nulls().unique()
        hits = distinct.filter(objections.on_list(objection_tokens(distinct, key, kind), kind))
        if hits.is_empty():
            continue
        here = ids.is_in(hits.implode()).fill_null(value=False)
        found = here if found is None else found | here
    return found


def without(
    chunk: pl.DataFrame, positions: pl.Series | None, leaves: pl.Series | None
) -> tuple[pl.DataFrame, pl.Series | None, int]:
    """``chunk`` without the rows that leave, the 0-based positions in the delivered chunk of those that stay, and
    how many left.

    ``positions``: those of all rows, None where every line is there; None comes back if nothing was left out.
    """
    if leaves is None:
        return chunk, positions, 0
    stays = ~leaves
    where = pl.int_range(chunk.height, dtype=pl.UInt32, eager=True) if positions is None else positions
    kept = chunk.filter(stays)
    return kept, where.filter(stays), chunk.height - kept.height


HEADERS: Final = {
    "PERSON_ID": IdKind.PERSON_ID,
    "TOKEN_PERSON_ID": IdKind.PERSON_ID,
    "ENCRYPTED_HESID": IdKind.PERSON_ID,
    "PSEUDO_HESID": IdKind.PERSON_ID,
    "NHS_NUMBER": IdKind.NHS_NUMBER,
    "NEWNHSNO": IdKind.NHS_NUMBER,
}
"""First line of a list (or heading of one of its columns, separated by commas) -> what stands below."""

_QUOTES = re.compile(r'^[\s"\ufeff]+|[\s"]+$')


def heading_kinds(first_line: str) -> list[IdKind] | None:
    """The kinds of the columns that the first line of a list names; None if it names anything else."""
    names = [_QUOTES.sub("", part).upper().replace(" ", "_") for part in first_line.split(",")]
    if any(name not in HEADERS for name in names):
        return None
    return [HEADERS[name] for name in names]
