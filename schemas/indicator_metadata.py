"""What an indicator says about itself: the strict form of ``sql/indicators/<name>_v<n>/metadata.yaml``.

Everything but ``coding_breaks`` and ``release`` is required and nothing else is allowed: a metadata field that may be
left out is left out. The same strictness holds for the files of ``sql/core`` that carry numbers and lists, such as
``parameters.yaml`` and ``singling_out.yaml``. YAML is read as text (see :mod:`schemas.yaml_text`); each parameter
names its type.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.contract import Strict

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Noun = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Status = Literal["published", "reconstructed", "ours"]
ParameterType = Literal["codes", "code", "integer", "decimal", "date"]
ColumnType = Literal["VARCHAR", "BIGINT", "DOUBLE", "DATE", "BOOLEAN"]
ParameterValue = list[str] | str | int | float | date

# Columns that stand for one person, one stay or one record. Indicators are aggregates, so none may come out
# of one.
ID_LEVEL_COLUMNS = frozenset(
    {
        "person_token",
        "old_person_token",
        "spell_id",
        "continuous_inpatient_spell_id",
        "episode_id",
        "epikey",
        "record_ordinal",
        "attendkey",
        "aekey",
    }
)
# What every indicator returns first, in this order, so that all of them fit one table.
LEADING_COLUMNS = ("period", "provider", "stratum")


class Parameter(Strict):
    """One ``$name`` of a query: its value, what it means and where it comes from.

    ``status``: published (a source says it), reconstructed (put together from public code or secondary text)
    or ours (a decision of this project, with a record in ``infra/decisions``).
    """

    name: Noun
    type: ParameterType
    value: str | tuple[str, ...]
    says: Text
    source: Text
    status: Status

    @model_validator(mode="after")
    def _value_fits_type(self) -> Self:
        if (self.type == "codes") != isinstance(self.value, tuple):
            raise ValueError(f"{self.name}: a parameter of type codes is a list, and no other is")
        if isinstance(self.value, tuple) and not self.value:
            raise ValueError(f"{self.name}: the list of codes is empty")
        try:
            _ = self.bound
        except ValueError:
            raise ValueError(f"{self.name}: the value is no {self.type}") from None
        return self

    @property
    def bound(self) -> ParameterValue:
        """The value as the query receives it: list of str, str, int, float or date."""
        if isinstance(self.value, tuple):
            return list(self.value)
        if self.type == "integer":
            return int(self.value)
        if self.type == "decimal":
            return float(self.value)
        if self.type == "date":
            return date.fromisoformat(self.value)
        return self.value


def bound_parameters(parameters: tuple[Parameter, ...]) -> dict[str, ParameterValue]:
    """Parameter name to the value a query receives."""
    return {parameter.name: parameter.bound for parameter in parameters}


def _no_name_twice(names: list[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"the {what} {twice[0]!r} is listed twice")


class OutputColumn(Strict):
    """One column of the query's result, as ``DESCRIBE`` shows it, and what it means."""

    name: Noun
    type: ColumnType
    description: Text


class CodingBreak(Strict):
    """A day on which the rules of coding changed: the series before and after it do not compare."""

    day: date
    says: Text
    source: Text


class IndicatorMetadata(Strict):
    """An indicator's definition beside its query.

    ``description`` says what it measures, ``what_it_is_not`` how it must not be read, ``coding_breaks`` from
    when on its series cannot be compared with what was before. ``direction`` says which way is worse
    (``neither``: both sides ask a question; ``context``: none does); ``owner`` is a role, never a person.
    ``disclosure_dataset`` names the suppression rule for its counts; one whose ``release`` is internal never
    gets into a public set.
    """

    name: Noun
    version: int = Field(ge=1)
    friendly_name: Text
    family: Literal["deaths", "infections", "maternity", "mental health act", "data quality"]
    description: Text
    what_it_is_not: Text
    numerator: Text
    denominator: Text
    exclusions: tuple[Text, ...]
    coding_breaks: tuple[CodingBreak, ...] = ()
    release: Literal["public", "internal"] = "public"
    unit: Literal[
        "proportion", "rate_per_1000", "rate_per_1000_bed_days", "standardised_ratio", "mean", "count"
    ]
    interval_method: Literal["wilson", "binomial_exact", "poisson_exact", "byar", "none"]
    direction: Literal["higher_is_worse", "lower_is_worse", "neither", "context"]
    owner: Text
    status: Literal["published", "reconstructed"]
    source: Text
    disclosure_dataset: Literal["hes", "mhsds"]
    parameters: tuple[Parameter, ...]
    date_reviewed: date
    next_review: date
    columns: tuple[OutputColumn, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.next_review <= self.date_reviewed:
            raise ValueError("next_review must be later than date_reviewed")
        if "@" in self.owner:
            raise ValueError("owner is a role, not a person's address")
        names = [column.name for column in self.columns]
        _no_name_twice(names, "column")
        _no_name_twice([parameter.name for parameter in self.parameters], "parameter")
        if tuple(names[: len(LEADING_COLUMNS)]) != LEADING_COLUMNS:
            raise ValueError(f"the first columns are {', '.join(LEADING_COLUMNS)}")
        for name in ("numerator", "denominator"):
            if name not in names:
                raise ValueError(f"there is no column {name}")
        if (self.unit == "standardised_ratio") != ("expected" in names):
            raise ValueError("a standardised ratio has a column expected, and nothing else has one")
        identifying = sorted(ID_LEVEL_COLUMNS.intersection(names))
        if identifying:
            raise ValueError(
                f"{identifying[0]} stands for one person, stay or record; an indicator is an aggregate"
            )
        return self

    @property
    def id(self) -> str:
        """The name of its folder."""
        return f"{self.name}_v{self.version}"


class CoreParameters(Strict):
    """``sql/core/parameters.yaml``: what the queries that build spells take."""

    parameters: tuple[Parameter, ...]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        _no_name_twice([parameter.name for parameter in self.parameters], "parameter")
        return self


class Combination(Strict):
    """Fields which, taken together, could single somebody out, and who could know them."""

    name: Text
    fields: tuple[Noun, ...] = Field(min_length=2)
    says: Text


class SinglingOut(Strict):
    """``sql/core/singling_out.yaml``: the combinations whose unique records are counted."""

    combinations: tuple[Combination, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> Self:
        _no_name_twice([combination.name for combination in self.combinations], "combination")
        return self
