"""The reference tables of case-mix adjusted mortality (``schemas/shmi/*.yaml``) and their strict loader.

Three tables: ICD-10 codes to diagnosis groups, ICD-10 codes to Charlson conditions with their weights, and the
factors of the case mix with their levels. Codes are written as ranges (:class:`CodeRange`); both code tables come
out as a frame ``code_from, code_to, ...`` of ranges that do not overlap, for a look-up in Polars
(:mod:`transforms.code_ranges`) or a join in DuckDB::

    from spell left join diagnosis_group_range as r on spell.diagnosis between r.code_from and r.code_to

where the diagnosis is in capitals without dots or blanks. Both ends compare as bytes, DuckDB's default.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import polars as pl
from pydantic import BeforeValidator, Field, model_validator

from schemas.contract import Strict
from schemas.errors import ContractDefinitionError
from schemas.indicator_metadata import Noun, Status, Text
from schemas.yaml_text import parse_model, read_yaml

SHMI_FOLDER = Path(__file__).parent / "shmi"
RANGE: Final = re.compile(r"^([A-Z][0-9]{2}[0-9X]?)(?:-([A-Z][0-9]{2}[0-9X]?))?$")
AFTER_ALL_CODES: Final = "~"
"""Sorts after every letter and digit, so that ``A15~`` is not before any code that begins with A15."""


@dataclass(frozen=True, order=True)
class CodeRange:
    """All codes that begin with ``first``, with ``last`` or with anything between.

    Both have three characters, or four of the same category. ``last`` equals ``first`` for a single code.
    """

    first: str
    last: str

    @classmethod
    def parse(cls, text: str) -> CodeRange:
        """``"I21-I22"`` or ``"I252"``. Raises :class:`ValueError` for anything else."""
        found = RANGE.match(text)
        if found is None:
            raise ValueError(f"{text!r} is no range of codes")
        first, last = found[1], found[2] or found[1]
        if len(first) != len(last) or first[0] != last[0] or (len(first) == 4 and first[:3] != last[:3]):
            raise ValueError(f"{text!r}: both ends have three characters, or four of one category")
        if last < first:
            raise ValueError(f"{text!r} ends before it begins")
        return cls(first, last)

    @property
    def code_to(self) -> str:
        """Not before any code of the range, and before every code after it."""
        return self.last + AFTER_ALL_CODES


def _ranges(value: object) -> object:
    return tuple(CodeRange.parse(part) for part in value.split()) if isinstance(value, str) else value


Ranges = Annotated[tuple[CodeRange, ...], BeforeValidator(_ranges), Field(min_length=1)]


def _no_overlap(ranges: Iterable[CodeRange]) -> None:
    for one, other in pairwise(sorted(ranges)):
        if other.first <= one.code_to:
            raise ValueError(f"the ranges from {one.first} and from {other.first} overlap")


def _no_name_twice(names: Sequence[str | int], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"the {what} {twice[0]!r} is listed twice")


# Diagnosis groups -------------------------------------------------------------------------------------


class DiagnosisGroup(Strict):
    """One group: its number, its name and its codes."""

    group: int = Field(ge=1)
    label: Text
    codes: Ranges


class Difference(Strict):
    """Where our table leaves the source on purpose: the category, the group it has there, and why."""

    code: str = Field(pattern=r"^[A-Z][0-9]{2}$")
    listed_group: int
    reason: Text


class DiagnosisGroups(Strict):
    """All groups; ``outside_the_model`` are those for which no model is fitted."""

    name: Literal["diagnosis_groups"]
    title: Text
    edition: Text
    source: Text
    outside_the_model: tuple[int, ...]
    differs: tuple[Difference, ...]
    groups: tuple[DiagnosisGroup, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _no_name_twice([entry.group for entry in self.groups], "group")
        _no_overlap(codes for entry in self.groups for codes in entry.codes)
        if not set(self.outside_the_model) <= set(self.labels):
            raise ValueError("a group outside the model is not listed")
        return self

    @property
    def labels(self) -> dict[int, str]:
        return {entry.group: entry.label for entry in self.groups}

    @property
    def modelled(self) -> tuple[int, ...]:
        """The groups with a model, in order."""
        return tuple(sorted(set(self.labels) - set(self.outside_the_model)))

    def table(self) -> pl.DataFrame:
        """code_from, code_to (String), diagnosis_group (Int64), in the order of the codes."""
        rows = [(codes, entry.group) for entry in self.groups for codes in entry.codes]
        return _table(rows, "diagnosis_group", pl.Int64())


def _table(rows: list[tuple[CodeRange, Any]], name: str, kind: pl.DataType) -> pl.DataFrame:
    rows = sorted(rows, key=lambda row: row[0])
    return pl.DataFrame(
        {
            "code_from": [codes.first for codes, _ in rows],
            "code_to": [codes.code_to for codes, _ in rows],
            name: [value for _, value in rows],
        },
        schema={"code_from": pl.String(), "code_to": pl.String(), name: kind},
    )


# Charlson index ---------------------------------------------------------------------------------------


class CharlsonCondition(Strict):
    """A condition that adds ``weight`` to the index when one of its codes is among the secondary diagnoses."""

    condition: Noun
    weight: int
    codes: Ranges


class _Added(Strict):
    condition: Noun
    codes: Ranges


class Pair(Strict):
    """``condition`` is changed where the condition ``present`` (written ``with``) is there too."""

    condition: Noun
    present: Noun = Field(alias="with")


class CharlsonVariant(Strict):
    """How one of the public copies reads the specification, to be asked for by name.

    ``remove`` takes ranges out exactly as they are listed, then ``add`` puts codes to a condition. ``replace``:
    the condition does not count where the other is there. ``imply``: it counts wherever the other is there.
    """

    name: Noun
    says: Text
    source: Text
    remove: Ranges | None = None
    add: tuple[_Added, ...] = ()
    replace: tuple[Pair, ...] = ()
    imply: tuple[Pair, ...] = ()


class Charlson(Strict):
    """Conditions, weights and variants. ``replace`` and ``imply`` are those of the variants in use."""

    name: Literal["charlson"]
    title: Text
    edition: Text
    source: Text
    conditions: tuple[CharlsonCondition, ...] = Field(min_length=1)
    variants: tuple[CharlsonVariant, ...]
    replace: tuple[Pair, ...] = ()
    imply: tuple[Pair, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _no_name_twice([entry.condition for entry in self.conditions], "condition")
        _no_name_twice([entry.name for entry in self.variants], "variant")
        _no_overlap(codes for entry in self.conditions for codes in entry.codes)
        known = set(self.weights)
        for variant in self.variants:
            named = {entry.condition for entry in variant.add}
            named |= {
                name for pair in (*variant.replace, *variant.imply) for name in (pair.condition, pair.present)
            }
            if not named <= known:
                raise ValueError(f"{variant.name}: there is no condition {min(named - known)}")
        return self

    @property
    def weights(self) -> dict[str, int]:
        return {entry.condition: entry.weight for entry in self.conditions}

    def with_variants(self, names: Collection[str]) -> Charlson:
        """The same index read as ``names`` of its variants do.

        Raises :class:`ContractDefinitionError` for an unknown variant, or for variants that contradict one another.
        """
        unknown = sorted(set(names) - {variant.name for variant in self.variants})
        if unknown:
            raise ContractDefinitionError(f"there is no variant {unknown[0]!r} in charlson.yaml")
        chosen = [variant for variant in self.variants if variant.name in names]
        codes = {entry.condition: set(entry.codes) for entry in self.conditions}
        for variant in chosen:
            for taken in variant.remove or ():
                holders = [held for held in codes.values() if taken in held]
                if not holders:
                    raise ContractDefinitionError(
                        f"{variant.name}: the range {taken.first} is not listed as such"
                    )
                holders[0].remove(taken)
            for added in variant.add:
                codes[added.condition] |= set(added.codes)
        content = {
            "conditions": tuple(
                CharlsonCondition(
                    condition=entry.condition,
                    weight=entry.weight,
                    codes=tuple(sorted(codes[entry.condition])),
                )
                for entry in self.conditions
            ),
            "replace": tuple(pair for variant in chosen for pair in variant.replace),
            "imply": tuple(pair for variant in chosen for pair in variant.imply),
        }
        whole = {name: getattr(self, name) for name in type(self).model_fields}
        return parse_model(Charlson, {**whole, **content}, "charlson.yaml")

    def table(self) -> pl.DataFrame:
        """code_from, code_to, condition (String), weight (Int64), in the order of the codes."""
        rows = [(codes, entry.condition) for entry in self.conditions for codes in entry.codes]
        weights = pl.DataFrame(
            {"condition": list(self.weights), "weight": list(self.weights.values())},
            schema={"condition": pl.String(), "weight": pl.Int64()},
        )
        return _table(rows, "condition", pl.String()).join(
            weights, on="condition", how="left", maintain_order="left"
        )


# Case mix ---------------------------------------------------------------------------------------------


class Level(Strict):
    """A level of a factor: a range of whole numbers, a list of codes, or everything else (``otherwise``)."""

    level: Text
    first: int | None = Field(default=None, alias="from")
    last: int | None = Field(default=None, alias="to")
    codes: tuple[str, ...] = ()
    otherwise: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.first is not None) + bool(self.codes) + self.otherwise != 1:
            raise ValueError("a level has either from, or codes, or says otherwise")
        if self.last is not None and (self.first is None or self.last < self.first):
            raise ValueError("a range of numbers ends before it begins")
        return self


class OnlyIn(Strict):
    """The diagnosis groups that have a factor, and its level in all others."""

    only: tuple[int, ...] = Field(min_length=1)
    elsewhere: Text


class Factor(Strict):
    """One factor. ``minimum_deaths`` and ``minimum_survivors`` of a level below which it is merged with another
    (see :mod:`transforms.mortality_model`)."""

    name: Noun
    says: Text
    column: Noun
    order: Literal["ordered", "cyclic", "none"]
    minimum_deaths: int = Field(ge=1)
    minimum_survivors: int = Field(ge=1)
    source: Text
    status: Status
    groups: OnlyIn | None = None
    levels: tuple[Level, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _no_name_twice(self.level_names, "level")
        if len([entry for entry in self.levels if entry.otherwise]) > 1:
            raise ValueError(f"{self.name}: two levels say otherwise")
        _no_name_twice([code for entry in self.levels for code in entry.codes], "code")
        numbers = sorted(
            (entry.first, entry.last if entry.last is not None else float("inf"))
            for entry in self.levels
            if entry.first is not None
        )
        if any(above[0] <= below[1] for below, above in pairwise(numbers)):
            raise ValueError(f"{self.name}: two levels overlap")
        if bool(numbers) == any(entry.codes for entry in self.levels):
            raise ValueError(f"{self.name}: the levels are either all numbers or all codes")
        return self

    @property
    def level_names(self) -> tuple[str, ...]:
        """Every level in order, that of the other diagnosis groups last."""
        elsewhere = (self.groups.elsewhere,) if self.groups is not None else ()
        return (*(entry.level for entry in self.levels), *elsewhere)

    @property
    def neighbours(self) -> tuple[str, ...]:
        """The levels that have neighbours, in order; none for a factor without order."""
        if self.order == "none":
            return ()
        return tuple(entry.level for entry in self.levels if not entry.otherwise)

    @property
    def dtype(self) -> pl.Enum:
        return pl.Enum(self.level_names)


class CaseMix(Strict):
    """The factors in order, and the years of data that a model rests on."""

    name: Literal["case_mix"]
    title: Text
    source: Text
    years: int = Field(ge=1)
    factors: tuple[Factor, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _no_name_twice([factor.name for factor in self.factors], "factor")
        return self

    @property
    def factor_names(self) -> tuple[str, ...]:
        return tuple(factor.name for factor in self.factors)


# Loading ----------------------------------------------------------------------------------------------


@cache
def diagnosis_groups() -> DiagnosisGroups:
    """``schemas/shmi/diagnosis_groups.yaml``; read once. Raises :class:`ContractDefinitionError`."""
    path = SHMI_FOLDER / "diagnosis_groups.yaml"
    return parse_model(DiagnosisGroups, read_yaml(path), path.name)


@cache
def charlson() -> Charlson:
    """``schemas/shmi/charlson.yaml`` without variants; read once. Raises :class:`ContractDefinitionError`."""
    path = SHMI_FOLDER / "charlson.yaml"
    return parse_model(Charlson, read_yaml(path), path.name)


@cache
def case_mix() -> CaseMix:
    """``schemas/shmi/case_mix.yaml``; read once. Raises :class:`ContractDefinitionError`."""
    path = SHMI_FOLDER / "case_mix.yaml"
    return parse_model(CaseMix, read_yaml(path), path.name)
