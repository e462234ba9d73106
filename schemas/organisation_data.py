"""Organisation data: the files of the NHS Organisation Data Service, and the provider reference that they make.

The files have no header and say less than the reference needs, so four sorts come together:

* *organisations* (``etr.csv`` for trusts, ``ect.csv`` and their kind): 27 fields; 1 code, 2 name, 11 day of opening and
  12 of closing (YYYYMMDD). Addresses and telephone numbers are not read;
* *sites* (``ets.csv``): the same 27 fields; 1 code, 15 code of the organisation that it belongs to;
* *successions* (``succ.csv`` of the last year and ``succarc.csv`` of the years before): 5 fields; 1 old code, 2 new
  code, 3 reason (R reconfiguration, O other type of organisation, F code changed), 4 day from which it counts
  (YYYYMMDD), 5 indicator. Reason and indicator are not read: whatever the reason, the new code has taken over;
* *types* (our own, with the header ``code,type``): whether a trust is acute and not specialist stands in none of the
  official files.

Layouts: column lists in public scripts that read these files; the documents of the service could not be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

from schemas.errors import ContractDefinitionError
from schemas.provider_reference import Provider, ProviderReference, csv_lines, iso_day
from schemas.yaml_text import parse_model

ORGANISATION_FIELDS: Final = 27
SUCCESSION_FIELDS: Final = 5
TYPE_COLUMNS: Final = ["code", "type"]


@dataclass(frozen=True)
class Source:
    """A file that was read: its name, with which every message begins, and its text."""

    name: str
    text: str


@dataclass(frozen=True)
class Succession:
    """``successor`` stands for ``predecessor`` from the day ``since`` on."""

    predecessor: str
    successor: str
    since: date


@dataclass(frozen=True)
class OrganisationData:
    """``reference``: what the files make. ``counts``: what was taken and what was left out, for a person and the
    audit log. ``divided``: codes with several successors, which stand for themselves for good."""

    reference: ProviderReference
    counts: Mapping[str, int] = field(default_factory=dict)
    divided: tuple[str, ...] = ()


def from_organisation_data(
    organisations: Sequence[Source],
    sites: Sequence[Source] = (),
    successions: Sequence[Source] = (),
    types: Mapping[str, str] | None = None,
) -> OrganisationData:
    """The reference in the files of each sort. A code without a type in ``types`` is ``other``.

    A succession counts from its own day: the old code's last day is the one before, whatever its record says of the
    day of closing. Chains are followed by the reference. A row about a code that no file of organisations lists is
    left out and counted (the succession files are mostly about practices and commissioners). A code with several
    successors was divided: no rule says which of its spells went where, so it goes on standing for itself.

    Raises :class:`ContractDefinitionError` for a file with rows of another length, a row that does not fit, a day of
    succession that is none, a code or site listed twice, and successions that run in a circle.
    """
    kinds = types or {}
    rows = [row for source in organisations for row in _rows(source, ORGANISATION_FIELDS)]
    known = {cells[0] for _, cells in rows}
    following, divided, left_out = _following(successions, known)
    of_provider, sites_elsewhere = _sites(sites, known)
    counts = Counter[str](
        sites=sum(map(len, of_provider.values())),
        sites_elsewhere=sites_elsewhere,
        successions=len(following),
        successions_elsewhere=left_out,
        divided=len(divided),
        types_elsewhere=len(kinds.keys() - known),
    )
    providers = []
    for where, cells in rows:
        code, closed = cells[0], iso_day(cells[11])
        succession = following.get(code)
        if succession is not None:
            last = (succession.since - timedelta(days=1)).isoformat()
            counts["closing_days_replaced"] += closed not in ("", last)
            closed = last
        raw = {
            "code": code,
            "name": cells[1],
            "type": kinds.get(code, "other"),
            "sites": " ".join(of_provider.get(code, ())),
            "successor": succession.successor if succession is not None else "",
            "valid_from": iso_day(cells[10]),
            "valid_to": closed,
        }
        providers.append(parse_model(Provider, raw, where))
    counts["organisations"] = len(providers)
    counts["without_type"] = sum(provider.code not in kinds for provider in providers)
    reference = ProviderReference(tuple(sorted(providers, key=lambda provider: provider.code)))
    return OrganisationData(reference, dict(sorted(counts.items())), divided)


def parse_types(source: Source) -> dict[str, str]:
    """Code to type, from a CSV with the header ``code,type``. Whether a type is one is seen when it is used.

    Raises :class:`ContractDefinitionError` for another header, a row of another length, and a code that is there twice.
    """
    lines = csv_lines(source.text, source.name)
    _, header = next(lines, (0, []))
    if header != TYPE_COLUMNS:
        raise ContractDefinitionError(f"{source.name}: the header is not {','.join(TYPE_COLUMNS)}")
    found: dict[str, str] = {}
    for number, cells in lines:
        if len(cells) != len(TYPE_COLUMNS) or cells[0] in found:
            raise ContractDefinitionError(
                f"{source.name}: line {number} has not two fields, or a code that was there"
            )
        found[cells[0]] = cells[1]
    return found


def _rows(source: Source, fields: int) -> Iterator[tuple[str, list[str]]]:
    """Where it stands, for messages, and the cells of every row."""
    for number, cells in csv_lines(source.text, source.name):
        if len(cells) != fields:
            raise ContractDefinitionError(
                f"{source.name}: line {number} has {len(cells)} fields, {fields} were expected"
            )
        yield f"{source.name}: line {number}", cells


def _sites(sources: Sequence[Source], known: set[str]) -> tuple[dict[str, list[str]], int]:
    """The sites of each organisation that is listed, and how many belong to none of them."""
    found: dict[str, list[str]] = {}
    elsewhere = 0
    for source in sources:
        for _, cells in _rows(source, ORGANISATION_FIELDS):
            site, provider = cells[0], cells[14]
            if provider in known:
                found.setdefault(provider, []).append(site)
            else:
                elsewhere += 1
    return {provider: sorted(codes) for provider, codes in found.items()}, elsewhere


def _following(
    sources: Sequence[Source], known: set[str]
) -> tuple[dict[str, Succession], tuple[str, ...], int]:
    """Who stands for an old code, which codes were divided, and how many rows are about other organisations."""
    rows: dict[str, list[Succession]] = {}
    left_out = 0
    for source in sources:
        for where, (old, new, _, day, _) in _rows(source, SUCCESSION_FIELDS):
            if old not in known or new not in known:
                left_out += 1
                continue
            try:
                since = date.fromisoformat(iso_day(day))
                since - timedelta(days=1)
            except (ValueError, OverflowError):
                raise ContractDefinitionError(f"{where}: the day of the succession is no YYYYMMDD") from None
            if old == new:
                raise ContractDefinitionError(f"{where}: a code succeeds itself")
            rows.setdefault(old, []).append(Succession(old, new, since))
    several = {old for old, entries in rows.items() if len({entry.successor for entry in entries}) > 1}
    following = {
        old: min(entries, key=lambda entry: entry.since)
        for old, entries in rows.items()
        if old not in several
    }
    return following, tuple(sorted(several)), left_out
