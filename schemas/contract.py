"""The one declaration of a dataset, and its strict loader.

``schemas/contracts/<dataset>_<version>.yaml`` says everything that is known about a layout: its fields, their
classes, sentinels, code lists, rules and derivations. Polars types, rule expressions, the split of the
identifiable items, DuckDB tables, the Great Expectations suite, the dictionary and the JSON Schema are all
derived from it. A file that says something unknown, or leaves a field without a class, does not load.

YAML is read with every scalar a string (``yaml.BaseLoader``), so ``NO`` stays ``NO`` and ``01`` stays ``01``.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import ContractDefinitionError

CONTRACT_FOLDER = Path(__file__).parent / "contracts"
IDENTIFIER = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")


class Item(StrEnum):
    """The seven identifiable items, as the regulator's privacy notice lists them; there is no eighth."""

    NHS_NUMBER = "nhs_number"
    LOCAL_PATIENT_IDENTIFIER = "local_patient_identifier"
    DATE_OF_BIRTH = "date_of_birth"
    POSTCODE = "postcode"
    MOTHERS_DATE_OF_BIRTH = "mothers_date_of_birth"
    BABYS_DATE_OF_BIRTH = "babys_date_of_birth"
    DATE_OF_DEATH = "date_of_death"


class FieldClass(StrEnum):
    """What may happen to a field. There is no default: a field without a class does not load."""

    RECORD_KEY = "record_key"
    PERSON_ID = "person_id"  # becomes a keyed token; the value itself goes nowhere
    IDENTIFIABLE = "identifiable"  # one of the seven items: to the vault only
    CLINICAL = "clinical"
    ADMINISTRATIVE = "administrative"
    ORGANISATION = "organisation"
    RESTRICTED = "restricted"  # delivered, but no purpose of ours: dropped at the door
    FORBIDDEN = "forbidden"  # a name or an address: the delivery is refused, an incident raised


LAKE_CLASSES = frozenset(
    {FieldClass.RECORD_KEY, FieldClass.CLINICAL, FieldClass.ADMINISTRATIVE, FieldClass.ORGANISATION}
)
FieldType = Literal["string", "code", "date", "time", "integer", "decimal"]
Severity = Literal["critical", "warning"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True)


class ContractField(Strict):
    """One column as it may be delivered.

    ``null_values`` mean "submitted without a value", ``invalid_values`` "submitted and found invalid by the
    supplier", ``not_stated_values`` "asked and not answered"; the three are kept apart all the way.
    ``core`` columns exist in every lake table of the dataset, null where they were not delivered.
    """

    name: str
    aliases: tuple[str, ...] = ()
    label: str = ""
    type: FieldType
    field_class: FieldClass = Field(alias="class")
    item: Item | None = None
    core: bool = False
    required: bool = False
    max_length: int | None = None
    formats: tuple[str, ...] = ()
    null_values: tuple[str, ...] = ()
    invalid_values: tuple[str, ...] = ()
    not_stated_values: tuple[str, ...] = ()
    codes: str | None = None
    checks: tuple[str, ...] = ()
    quasi_identifier: bool = False
    reason: str = ""
    source: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in (self.name, *self.aliases):
            if not IDENTIFIER.match(name):
                raise ValueError(f"{name!r} is not a column name")
        if (self.field_class is FieldClass.IDENTIFIABLE) != (self.item is not None):
            raise ValueError(f"{self.name}: an identifiable field names its item, and no other field does")
        needs_reason = self.quasi_identifier or self.field_class in (
            FieldClass.RESTRICTED,
            FieldClass.FORBIDDEN,
        )
        if needs_reason and not self.reason:
            raise ValueError(f"{self.name}: say in `reason` why this field has its class")
        return self

    @property
    def in_lake(self) -> bool:
        return self.field_class in LAKE_CLASSES

    @property
    def keeps_state(self) -> bool:
        """Typed columns cannot hold a sentinel, so its meaning goes to ``<NAME>_STATE`` beside them."""
        sentinels = self.null_values or self.invalid_values or self.not_stated_values
        return self.in_lake and self.type in ("date", "time", "integer", "decimal") and bool(sentinels)

    @property
    def state_column(self) -> str:
        return f"{self.name}_STATE"


class Rule(Strict):
    """One rule of a delivery. ``check`` names a function of the registry; there is no language in YAML.

    ``level: record`` leaves the offending rows out (quarantine); ``level: delivery`` only counts them.
    ``allow`` is the tolerated share of rows, from 0 to 1.
    """

    id: str
    severity: Severity
    level: Literal["record", "delivery"] = "delivery"
    allow: float = 0.0
    check: str
    args: tuple[str, ...] = ()
    says: str
    reason: str = ""
    source: str = ""


class Derivation(Strict):
    """A column of the lake that is computed from identifiable items before these leave the frame."""

    name: str
    type: FieldType
    function: str
    args: tuple[str, ...]
    says: str


class Period(Strict):
    """How a delivery names its period and what a newer one replaces.

    ``YYYYnn``: financial year and month of submission, nn = 01-13 provisional and cumulative, 99 final.
    ``snapshot``: the whole history again in each delivery, the newest replaces the last (deaths, bridges).
    """

    kind: Literal["YYYYnn", "snapshot"]
    column: str | None = None


class Contract(Strict):
    dataset: str
    version: str
    title: str
    source: str = ""
    name_tokens: tuple[str, ...] = ()
    record_key: tuple[str, ...]
    person_id: str | None = None
    issuer: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()
    period: Period
    # "linkage": tokens and the date of death go to the linkage store, and no table of the lake is made.
    destination: Literal["lake", "linkage"] = "lake"
    delimiters: tuple[str, ...] = ("|", ",")
    fields: tuple[ContractField, ...]
    derivations: tuple[Derivation, ...] = ()
    rules: tuple[Rule, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.dataset}_{self.version}"

    def field(self, name: str) -> ContractField:
        for field in self.fields:
            if field.name == name:
                return field
        raise ContractDefinitionError(f"contract {self.id} has no field {name}")

    @property
    def by_header(self) -> dict[str, ContractField]:
        """Upper-case delivered column name (aliases included) -> field."""
        return {name.upper(): field for field in self.fields for name in (field.name, *field.aliases)}

    @property
    def items(self) -> tuple[Item, ...]:
        return tuple(dict.fromkeys(field.item for field in self.fields if field.item is not None))
