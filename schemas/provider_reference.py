"""The provider reference: which organisations there are, of what kind, and who took over from whom.

A CSV with a header. ``code``, ``name`` and ``type`` must be there; ``sites`` (codes separated by blanks),
``successor``, ``valid_from`` and ``valid_to`` (ISO days, the last day included) may be. The official files, which say
less and have no header, are read by :mod:`schemas.organisation_data`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Final, Literal, Self

import polars as pl
from pydantic import BeforeValidator, Field, model_validator

from schemas.contract import Strict
from schemas.errors import ContractDefinitionError
from schemas.indicator_metadata import Text
from schemas.yaml_text import parse_model

# "acute" is an acute trust that is no specialist one.
ProviderType = Literal[
    "acute", "acute specialist", "mental health", "community", "ambulance", "independent", "other"
]
NEEDED_COLUMNS: Final = ("code", "name", "type")
KNOWN_COLUMNS: Final = (*NEEDED_COLUMNS, "sites", "successor", "valid_from", "valid_to")
SUCCESSION_SCHEMA: Final = {"predecessor": pl.String(), "successor": pl.String(), "since": pl.Date()}
RESOLVED_SCHEMA: Final = {
    "code": pl.String(),
    "resolved_code": pl.String(),
    "name": pl.String(),
    "type": pl.String(),
}

Code = Annotated[str, Field(pattern=r"^[A-Z0-9]{3,9}$")]


def _codes(value: object) -> object:
    return tuple(value.split()) if isinstance(value, str) else value


def _nothing(value: object) -> object:
    return None if value == "" else value


class Provider(Strict):
    """One organisation. ``successor`` has taken over what it was from the day after ``valid_to``."""

    code: Code
    name: Text
    type: ProviderType
    sites: Annotated[tuple[Code, ...], BeforeValidator(_codes)] = ()
    successor: Annotated[Code | None, BeforeValidator(_nothing)] = None
    valid_from: Annotated[date | None, BeforeValidator(_nothing)] = None
    valid_to: Annotated[date | None, BeforeValidator(_nothing)] = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.successor is not None and self.valid_to is None:
            raise ValueError("a successor needs valid_to, the last day of the old code")
        if self.valid_from is not None and self.valid_to is not None and self.valid_to < self.valid_from:
            raise ValueError("valid_to is before valid_from")
        return self


@dataclass(frozen=True)
class ProviderReference:
    """All organisations, by code."""

    providers: tuple[Provider, ...]

    def __post_init__(self) -> None:
        known = self._by_code()
        if len(known) != len(self.providers):
            raise ContractDefinitionError("provider reference: a code is listed twice")
        sites = [site for provider in self.providers for site in provider.sites]
        if len(set(sites)) != len(sites):
            raise ContractDefinitionError("provider reference: a site is listed at two providers")
        for provider in self.providers:
            seen = {provider.code}
            while provider.successor is not None:
                if provider.successor not in known:
                    raise ContractDefinitionError("provider reference: a successor is not listed itself")
                provider = known[provider.successor]
                if provider.code in seen:
                    raise ContractDefinitionError("provider reference: successors run in a circle")
                seen.add(provider.code)

    def _by_code(self) -> dict[str, Provider]:
        return {provider.code: provider for provider in self.providers}

    def resolve(self, code: str, day: date) -> Provider | None:
        """The organisation that ``code`` stands for on ``day``: itself, or who took over from it. None for a code that
        is not listed."""
        known = self._by_code()
        return _resolved(known, known[code], day) if code in known else None

    def resolved(self, day: date) -> pl.DataFrame:
        """Every code as of ``day``, sorted: code, resolved_code, name, type (both of the resolved one)."""
        known = self._by_code()
        rows = [
            (code, now.code, now.name, now.type)
            for code, provider in sorted(known.items())
            for now in [_resolved(known, provider, day)]
        ]
        return pl.DataFrame(rows, schema=RESOLVED_SCHEMA, orient="row")

    def successions(self) -> pl.DataFrame:
        """predecessor, successor, since (the first day on which the successor stands for it), sorted; one step each,
        so a chain is several rows."""
        rows = [
            (provider.code, provider.successor, provider.valid_to + timedelta(days=1))
            for provider in self.providers
            if provider.successor is not None
            and provider.valid_to is not None
            and provider.valid_to < date.max
        ]
        return pl.DataFrame(sorted(rows), schema=SUCCESSION_SCHEMA, orient="row")

    def to_csv(self) -> str:
        """The file that :func:`parse_reference` reads this reference from."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(KNOWN_COLUMNS)
        for provider in self.providers:
            days = (provider.valid_from, provider.valid_to)
            writer.writerow(
                [
                    provider.code,
                    provider.name,
                    provider.type,
                    " ".join(provider.sites),
                    provider.successor or "",
                    *(day.isoformat() if day is not None else "" for day in days),
                ]
            )
        return out.getvalue()

    def sites(self) -> pl.DataFrame:
        """site, provider (String), sorted by site."""
        rows = [(site, provider.code) for provider in self.providers for site in provider.sites]
        return pl.DataFrame(sorted(rows), schema={"site": pl.String(), "provider": pl.String()}, orient="row")


def _resolved(known: Mapping[str, Provider], provider: Provider, day: date) -> Provider:
    while provider.successor is not None and provider.valid_to is not None and provider.valid_to < day:
        provider = known[provider.successor]
    return provider


def parse_reference(text: str, where: str) -> ProviderReference:
    """The reference in ``text``; ``where`` (a file name) begins every message.

    Raises :class:`ContractDefinitionError` for a column that is missing, unknown or twice, a row that is too long or
    does not fit, a code or site listed twice, and successors that are unknown or go in a circle.
    """
    lines = csv_lines(text, where)
    _, header = next(lines, (0, []))
    for name in NEEDED_COLUMNS:
        if name not in header:
            raise ContractDefinitionError(f"{where}: there is no column {name}")
    if len(set(header)) != len(header) or not set(header) <= set(KNOWN_COLUMNS):
        raise ContractDefinitionError(
            f"{where}: a column is twice or unknown; known are {', '.join(KNOWN_COLUMNS)}"
        )
    providers = []
    for number, cells in lines:
        if len(cells) != len(header):
            raise ContractDefinitionError(
                f"{where}: line {number} has {len(cells)} fields, the header {len(header)}"
            )
        raw = dict(zip(header, cells, strict=True))
        providers.append(parse_model(Provider, raw, f"{where}: line {number}"))
    return ProviderReference(tuple(providers))


def iso_day(text: str) -> str:
    """``YYYYMMDD`` as an ISO day; any other text as it is, for the reader of the field to refuse."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 else text


def csv_lines(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells without blanks around them; empty lines are passed over."""
    reader = csv.reader(io.StringIO(text), strict=True)
    rows: Iterable[list[str]] = reader
    try:
        for cells in rows:
            if cells:
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error:
        raise ContractDefinitionError(f"{where}: line {reader.line_num} is no readable CSV") from None
