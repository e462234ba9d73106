"""Field: from the text as delivered to a trimmed text, a typed value and a state.

Typing never raises on a value. Of every delivered field a chunk gives

* ``<F>.text``  String: the text without surrounding spaces and tabs, null when nothing is left;
* ``<F>.value`` Date, Int64, Float64, or String (time, HHMM): only for typed fields, null unless valid;
* ``<F>.state`` Enum, one of :data:`STATES`: only for typed fields with sentinels;
* ``<F>.unparsed`` Boolean: only for typed fields that hold text which could not be read in this chunk.

Codes keep their sentinels as the code, because codes are information; their states are expressions
(:class:`FieldSense`). Sentinels of typed fields are compared as values, so ``18000101`` is the null date
``1800-01-01`` in a file that writes dates without hyphens, and ``99.0`` is the ``99`` of a file with float
text.

Source of the conventions: HES Technical Output Specification v1.15 and the NHS Digital artificial extracts
(padded operation codes ``"-   "``, ``"&<TAB> "``, float text ``54.0`` in whole-number columns).

Speed decides the shape of this module. A delivery has some 190 columns, most of them short, clean text, and
trimming costs five times as much as looking whether there is anything to trim. So each text column is
looked at once (:func:`look_at`), typed columns are first parsed as the format says, and only the columns
that turn out to need it take the careful way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import date, datetime
from functools import cached_property, reduce, wraps
from typing import Final, NamedTuple, ParamSpec, TypeVar

import numpy as np
import polars as pl

from schemas.contract import ContractField
from schemas.errors import IntegrityError, WardwatchError

VALID: Final = "valid"
NULL: Final = "null"
INVALID: Final = "invalid"
NOT_STATED: Final = "not_stated"
STATES: Final = (VALID, NULL, INVALID, NOT_STATED)
STATE_TYPE: Final = pl.Enum(STATES)
"""One byte per row where text takes sixteen."""

PADDING: Final = " \t"
TYPED: Final = frozenset({"date", "time", "integer", "decimal"})
DEFAULT_DATE_FORMATS: Final = ("%Y-%m-%d", "%Y%m%d")
DEFAULT_TIME_FORMATS: Final = ("%H%M",)
VALUE_TYPES: Final[dict[str, pl.DataType]] = {
    "string": pl.String(),
    "code": pl.String(),
    "date": pl.Date(),
    "time": pl.String(),
    "integer": pl.Int64(),
    "decimal": pl.Float64(),
}

_HHMM: Final = r"^(?:[01][0-9]|2[0-3])[0-5][0-9]$"
_FLOATS_MERGE: Final = float(2**53)  # from here on two whole numbers share a float
_INLINE_BYTES: Final = 12  # Arrow's string view keeps up to this many bytes beside the length
_NEWEST: Final = pl.CompatLevel.newest()

P = ParamSpec("P")
T = TypeVar("T")
Sentinel = date | int | float | str


def value_free(what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator: a foreign error inside becomes an :class:`IntegrityError` that carries no value.

    Polars, ``int()`` and ``KeyError`` print the value they choked on. The new error names only the type of the
    old one, and is raised after that was dropped, so that it is not reachable as ``__context__`` either.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except (WardwatchError, MemoryError):
                raise
            except (Exception, pl.exceptions.PanicException) as error:
                kind = type(error).__name__
            raise IntegrityError(
                f"{what} failed ({kind}); the message may quote a record and is withheld",
                next_step="check the contract of the dataset against the header of the file",
            )

        return guarded

    return decorate


def text_name(field: str) -> str:
    return f"{field}.text"


def value_name(field: str) -> str:
    return f"{field}.value"


def state_name(field: str) -> str:
    return f"{field}.state"


def unparsed_name(field: str) -> str:
    return f"{field}.unparsed"


# looking at a text column -----------------------------------------------------------------------------


class TextFacts(NamedTuple):
    """What one look at a text column tells: nothing of it is a value.

    ``longest_bytes`` of any text; ``maybe_padded``: there may be a space or tab somewhere (never false when
    there is one); ``maybe_empty``: there may be an empty text that is not null.
    """

    longest_bytes: int
    maybe_padded: bool
    maybe_empty: bool


def look_at(text: pl.Series) -> TextFacts:
    """Facts of a String column from its Arrow string views, without making a string.

    A view is 16 bytes: the length, then the text itself if it has at most 12 bytes (padded with zeros), else
    its beginning and where in the data it lies. So a look at the views, as far as the longest text reaches, and
    at the data finds every space. What no row points to any more, or a place that happens to be written as 32
    or 9, can look like a space or tab: then a clean column is trimmed for nothing.
    """
    longest, padded, empty = 0, False, False
    for chunk in text.get_chunks():
        array = chunk.to_arrow(compat_level=_NEWEST)
        rows = len(array)
        _validity, views, *data = array.buffers()
        if rows == 0 or views is None:
            continue
        raw = np.frombuffer(views, dtype=np.uint32, count=4 * rows, offset=16 * array.offset).reshape(rows, 4)
        lengths = raw[:, 0].copy()
        longest = max(longest, int(lengths.max()))
        empty = empty or int(np.count_nonzero(lengths)) != rows - chunk.null_count()
        if not padded:
            inline = raw if longest <= _INLINE_BYTES else raw[lengths <= _INLINE_BYTES]
            words = min(
                -(-longest // 4), 3
            )  # copied one by one, which numpy does ten times as fast as together
            held = [inline[:, 1 + word].tobytes() for word in range(words)]
            held += [part.to_pybytes() for part in data if part is not None]
            padded = any(b" " in part or b"\t" in part for part in held)
    return TextFacts(longest, padded, empty)


# one field --------------------------------------------------------------------------------------------


def _only_month(date_format: str) -> bool:
    return "%d" not in date_format and "%j" not in date_format and "%F" not in date_format


def parse_date(text: pl.Expr, date_format: str) -> pl.Expr:
    """``text`` as Date by one format, null where it does not fit. A format without a day gives the first."""
    if not _only_month(date_format):
        return text.str.to_date(date_format, strict=False, cache=False)
    padded = pl.concat_str([text, pl.lit(" 01")])
    return padded.str.to_date(f"{date_format} %d", strict=False, cache=False)


class FieldTyping:
    """The expressions of one typed or textual field, built once per delivery and used for every chunk."""

    def __init__(self, field: ContractField) -> None:
        self.field = field
        self.name = field.name
        self.typed = field.type in TYPED
        self.value_type = VALUE_TYPES[field.type]
        if field.type == "date":
            self.formats = field.formats or DEFAULT_DATE_FORMATS
        else:
            self.formats = field.formats or DEFAULT_TIME_FORMATS
        self.sentinels: dict[str, tuple[str, ...]] = {
            NULL: field.null_values,
            INVALID: field.invalid_values,
            NOT_STATED: field.not_stated_values,
        }
        self.has_state = self.typed and any(self.sentinels.values())

    @cached_property
    def delivered(self) -> pl.Expr:
        """The column of the chunk, under its name as text."""
        return pl.col(self.name).alias(text_name(self.name))

    @cached_property
    def trimmed(self) -> pl.Expr:
        return pl.col(self.name).str.strip_chars(PADDING).alias(text_name(self.name))

    @cached_property
    def trimmed_again(self) -> pl.Expr:
        text = pl.col(text_name(self.name))
        return text.str.strip_chars(PADDING).alias(text_name(self.name))

    @cached_property
    def cleared(self) -> pl.Expr:
        """The trimmed text again, null where nothing was left."""
        text = pl.col(text_name(self.name))
        return pl.when(text.str.len_bytes() > 0).then(text).alias(text_name(self.name))

    @cached_property
    def quick_value(self) -> pl.Expr:
        """The value as the first format has it, of the text as delivered."""
        text = pl.col(self.name)
        return self._parse(text, self.formats[:1]).alias(value_name(self.name))

    @cached_property
    def careful_value(self) -> pl.Expr:
        """The value by any format the field allows, of the trimmed text; a whole number also as float
        text."""
        text = pl.col(text_name(self.name))
        if self.field.type == "integer":
            number = text.cast(pl.Float64, strict=False)
            whole = (number == number.round(0)) & (number.abs() < _FLOATS_MERGE)
            value = pl.when(whole).then(number).cast(pl.Int64, strict=False)
        else:
            value = self._parse(text, self.formats)
        return value.alias(value_name(self.name))

    @cached_property
    def last_value(self) -> pl.Expr:
        """Whole numbers too large for float text, read as they are where ``careful_value`` found nothing."""
        value, text = pl.col(value_name(self.name)), pl.col(text_name(self.name))
        return value.fill_null(self._parse(text, ())).alias(value_name(self.name))

    def _parse(self, text: pl.Expr, formats: Sequence[str]) -> pl.Expr:
        match self.field.type:
            case "date":
                return reduce(pl.Expr.fill_null, [parse_date(text, each) for each in formats])
            case "integer":
                return text.cast(pl.Int64, strict=False)
            case "decimal":
                number = text.cast(pl.Float64, strict=False)
                return pl.when(number.is_finite()).then(number)
            case _:
                plain = (
                    text if formats == DEFAULT_TIME_FORMATS else text.str.replace_all(":", "", literal=True)
                )
                plain = plain if formats == DEFAULT_TIME_FORMATS else plain.str.slice(0, 4)
                known = [value for values in self.sentinels.values() for value in values]
                good = plain.str.contains(_HHMM)
                return pl.when(good | text.is_in(known) if known else good).then(plain)

    def _parse_sentinel(self, value: str) -> Sentinel | None:
        """A sentinel of the contract as a value of the field's type, or None where it is only a text."""
        try:
            match self.field.type:
                case "date":
                    for each in dict.fromkeys((*self.formats, *DEFAULT_DATE_FORMATS)):
                        found = _python_date(value, each)
                        if found is not None:
                            return found
                    return None
                case "integer":
                    number = float(value)
                    return int(number) if number.is_integer() else None
                case "decimal":
                    return float(value)
                case _:
                    return value
        except ValueError:
            return None

    def _hit(self, state: str) -> pl.Expr | None:
        """True where a sentinel of ``state`` was delivered, null or False elsewhere."""
        value, text = pl.col(value_name(self.name)), pl.col(text_name(self.name))
        tests: list[pl.Expr] = []
        for sentinel in self.sentinels[state]:
            parsed = self._parse_sentinel(sentinel)
            tests.append(
                text == sentinel if parsed is None else value == pl.lit(parsed, dtype=self.value_type)
            )
        return reduce(lambda a, b: a | b, [test.fill_null(False) for test in tests]) if tests else None

    @cached_property
    def any_sentinel(self) -> pl.Expr:
        hits = [hit for state in (NULL, INVALID, NOT_STATED) if (hit := self._hit(state)) is not None]
        return reduce(lambda a, b: a | b, hits) if hits else pl.lit(False)

    @cached_property
    def textual_sentinel(self) -> pl.Expr | None:
        """True where the text is a sentinel that no parser reads (``&`` in a number)."""
        only_text = [
            value
            for values in self.sentinels.values()
            for value in values
            if self._parse_sentinel(value) is None
        ]
        return pl.col(text_name(self.name)).is_in(only_text) if only_text else None

    @cached_property
    def unparsed(self) -> pl.Expr:
        """True where there is a text, it is no sentinel, and no format reads it."""
        unread = pl.col(value_name(self.name)).is_null() & pl.col(text_name(self.name)).is_not_null()
        if self.textual_sentinel is not None:
            unread = unread & ~self.textual_sentinel
        return unread.alias(unparsed_name(self.name))

    @cached_property
    def state(self) -> pl.Expr:
        value, text = pl.col(value_name(self.name)), pl.col(text_name(self.name))
        chain: pl.Expr | None = None
        for state in (NOT_STATED, INVALID, NULL):
            hit = self._hit(state)
            if hit is not None:
                rest = chain if chain is not None else _value_state(value, text)
                chain = pl.when(hit).then(_state(state)).otherwise(rest)
        return (chain if chain is not None else _value_state(value, text)).alias(state_name(self.name))

    @cached_property
    def plain_state(self) -> pl.Expr:
        """The state where every text was read and none is a sentinel."""
        there = pl.col(value_name(self.name)).is_not_null()
        return pl.when(there).then(_state(VALID)).otherwise(_state(NULL)).alias(state_name(self.name))

    @cached_property
    def sentinel_values(self) -> tuple[Sentinel, ...] | None:
        """The sentinels as values, leaving out those that are only a text; None where values are text too."""
        if self.field.type == "time":
            return None
        parsed = [self._parse_sentinel(value) for values in self.sentinels.values() for value in values]
        return tuple(value for value in parsed if value is not None)

    def may_hold_sentinel(self, values: pl.Series) -> bool:
        """Whether ``values`` (all read) may hold a sentinel: never false when one is there.

        Sentinels lie at the edge of the range (years 1800, 9999), so its two ends nearly always settle it.
        """
        if self.sentinel_values is None:
            return True
        low, high = values.min(), values.max()
        return any(low <= value <= high for value in self.sentinel_values)  # type: ignore[operator]

    @cached_property
    def settled_value(self) -> pl.Expr:
        """The value without the sentinels."""
        value = pl.col(value_name(self.name))
        return pl.when(~self.any_sentinel).then(value).alias(value_name(self.name))


def _value_state(value: pl.Expr, text: pl.Expr) -> pl.Expr:
    return (
        pl.when(value.is_not_null())
        .then(_state(VALID))
        .when(text.is_null())
        .then(_state(NULL))
        .otherwise(_state(INVALID))
    )


def _state(name: str) -> pl.Expr:
    return pl.lit(name, dtype=STATE_TYPE)


def _python_date(text: str, date_format: str) -> date | None:
    try:
        return datetime.strptime(text, date_format).date()  # noqa: DTZ007 a calendar date has no time zone
    except ValueError:
        return None


# a chunk ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TypedChunk:
    """The typed columns of one chunk and what was learned on the way; no attribute but ``frame`` holds
    values.

    ``rows``; ``absent``: fields that are null in every row as delivered; ``unparsed``: field to number of
    texts that could not be read (typed fields only, zeros left out); ``longest_bytes``: field to length of
    its longest text (text fields that are not absent); ``plain_states``: fields whose state is valid where
    there is a value and null where there is none, in every row.
    """

    frame: pl.DataFrame = dataclass_field(repr=False)
    rows: int
    absent: frozenset[str]
    unparsed: Mapping[str, int]
    longest_bytes: Mapping[str, int]
    plain_states: frozenset[str] = frozenset()


@value_free("joining the pieces of a chunk")
def one_piece(chunk: pl.DataFrame) -> tuple[pl.DataFrame, frozenset[str]]:
    """``chunk`` in one piece of memory per column, and the names of its columns that are null in every row.

    The engine works on all columns at once only where each is one piece. Null columns, half of a wide layout,
    become constants and are neither copied nor filtered from here on.
    """
    rows = chunk.height
    nulls = chunk.null_count().row(0)
    absent = [name for name, count in zip(chunk.columns, nulls, strict=True) if count == rows]
    types = chunk.schema  # computed anew at each use
    chunk = chunk.with_columns([pl.lit(None, dtype=types[name]).alias(name) for name in absent])
    return chunk.rechunk() if chunk.n_chunks() > 1 else chunk, frozenset(absent)


@value_free("typing a chunk")
def type_chunk(
    chunk: pl.DataFrame, fields: Sequence[FieldTyping], absent: Collection[str] | None = None
) -> TypedChunk:
    """Trim, type and give states to the columns of ``fields`` in ``chunk`` (String columns named by field).

    ``absent``: names of the null columns, where the caller knows them from :func:`one_piece`.
    Raises :class:`IntegrityError` without a value when a column is missing or is not text.
    """
    if absent is None:
        chunk, absent = one_piece(chunk)
    types = chunk.schema
    for each in fields:
        if types.get(each.name) != pl.String:
            raise IntegrityError(f"the column {each.name} did not reach typing as text")
    present = [each for each in fields if each.name not in absent]
    typed = [each for each in present if each.typed]
    first = [each.delivered for each in fields if each.name in absent or each.typed]
    first += [each.quick_value for each in typed]
    first += [
        pl.lit(None, dtype=each.value_type).alias(value_name(each.name))
        for each in fields
        if each.typed and each.name in absent
    ]
    longest: dict[str, int] = {}
    trimmed: list[FieldTyping] = []
    cleared: list[pl.Expr] = []
    for each in present:
        if each.typed:
            continue
        facts = look_at(chunk.get_column(each.name))
        longest[each.name] = facts.longest_bytes
        if facts.maybe_padded:
            trimmed.append(each)
            first.append(each.trimmed)
        else:
            first.append(each.delivered)
            if facts.maybe_empty:
                cleared.append(each.cleared)
    frame = chunk.select(first)

    # The second look: at what was trimmed, and at typed columns that the first format did not read entirely.
    careful = [
        each
        for each in typed
        if frame.get_column(value_name(each.name)).null_count()
        != frame.get_column(text_name(each.name)).null_count()
    ]
    padded = [each for each in careful if look_at(frame.get_column(text_name(each.name))).maybe_padded]
    if padded:
        frame = frame.with_columns([each.trimmed_again for each in padded])
    for each in (*trimmed, *careful):
        facts = look_at(frame.get_column(text_name(each.name)))
        if not each.typed:
            longest[each.name] = facts.longest_bytes
        if facts.maybe_empty:
            cleared.append(each.cleared)
    if cleared:
        frame = frame.with_columns(cleared)
    unparsed: dict[str, int] = {}
    if careful:
        frame, unparsed = _read_carefully(frame, careful)
    settled: list[pl.Expr] = []
    plain = {each.name for each in fields if each.has_state and each.name in absent}
    read_carefully = {each.name for each in careful}
    for each in typed:
        if not each.has_state:
            continue
        if each.name not in read_carefully and not each.may_hold_sentinel(
            frame.get_column(value_name(each.name))
        ):
            plain.add(each.name)
            settled.append(each.plain_state)
        else:
            settled += [each.state, each.settled_value]
    settled += [
        _state(NULL).alias(state_name(each.name)) for each in fields if each.has_state and each.name in absent
    ]
    if settled:
        frame = frame.with_columns(settled)
    return TypedChunk(frame, chunk.height, frozenset(absent), unparsed, longest, frozenset(plain))


def _read_carefully(
    frame: pl.DataFrame, fields: Sequence[FieldTyping]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """``frame`` with the values of ``fields`` read again, column ``unparsed`` added, and the numbers of texts
    that still could not be read."""
    frame = frame.with_columns([each.careful_value for each in fields])
    whole = [
        each
        for each in fields
        if each.field.type == "integer"
        and frame.get_column(value_name(each.name)).null_count()
        != frame.get_column(text_name(each.name)).null_count()
    ]
    if whole:
        frame = frame.with_columns([each.last_value for each in whole])
    frame = frame.with_columns([each.unparsed for each in fields])
    counts = {each.name: int(frame.get_column(unparsed_name(each.name)).sum()) for each in fields}
    return frame, {name: count for name, count in counts.items() if count}


# expressions over a typed chunk -----------------------------------------------------------------------


@dataclass(frozen=True)
class FieldSense:
    """What rules and derivations may ask of a field, as expressions over ``TypedChunk.frame``."""

    field: ContractField

    @cached_property
    def typing(self) -> FieldTyping:
        return FieldTyping(self.field)

    @property
    def name(self) -> str:
        return self.field.name

    @property
    def text(self) -> pl.Expr:
        """Trimmed text, null when empty (sentinels included)."""
        text = pl.col(text_name(self.name))
        return text.str.strip_chars(PADDING) if self.typing.typed else text

    @property
    def value(self) -> pl.Expr:
        """Typed value of a typed field; of a text field its text where it is valid."""
        if self.typing.typed:
            return pl.col(value_name(self.name))
        if not any(self.typing.sentinels.values()):
            return pl.col(text_name(self.name))
        return pl.when(self.is_valid).then(pl.col(text_name(self.name)))

    def _listed(self, state: str) -> pl.Expr:
        values = self.typing.sentinels[state]
        text = pl.col(text_name(self.name))
        return text.is_in(list(values)).fill_null(False) if values else pl.lit(False)

    @property
    def is_null(self) -> pl.Expr:
        """Never null itself: True where nothing was submitted."""
        if self.typing.has_state:
            return pl.col(state_name(self.name)) == NULL
        nothing = pl.col(text_name(self.name)).is_null()
        return nothing | self._listed(NULL) if self.typing.sentinels[NULL] else nothing

    @property
    def is_invalid(self) -> pl.Expr:
        """True where the supplier found the value invalid, or where it could not be read."""
        if self.typing.has_state:
            return pl.col(state_name(self.name)) == INVALID
        if self.typing.typed:
            return pl.col(value_name(self.name)).is_null() & pl.col(text_name(self.name)).is_not_null()
        return self._listed(INVALID)

    @property
    def is_not_stated(self) -> pl.Expr:
        if self.typing.has_state:
            return pl.col(state_name(self.name)) == NOT_STATED
        return pl.lit(False) if self.typing.typed else self._listed(NOT_STATED)

    @property
    def is_valid(self) -> pl.Expr:
        if self.typing.typed:
            return pl.col(value_name(self.name)).is_not_null()
        sentinels = [value for values in self.typing.sentinels.values() for value in values]
        text = pl.col(text_name(self.name))
        return (
            text.is_not_null() & ~text.is_in(sentinels).fill_null(False) if sentinels else text.is_not_null()
        )
