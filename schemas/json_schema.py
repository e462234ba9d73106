"""The JSON Schema of a contract file, so that an editor checks and completes while a contract is written.

Derived from the pydantic models, plus what only the file knows (``extends``, ``group``, ``repeat`` ...). The
loader reads every scalar as text, so wherever a text is asked for the schema takes a number or a truth value
too. The committed ``schemas/contract.schema.json`` is what ``python -m schemas.json_schema`` writes, and a
test holds the two together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas.contract import Contract, ContractField, Derivation, FieldClass, Item, Period, Rule, Strict

SCHEMA_FILE = Path(__file__).parent / "contract.schema.json"

_SCALAR: dict[str, Any] = {"type": ["string", "number", "boolean"]}
_SCALARS: dict[str, Any] = {"type": "array", "items": _SCALAR}
_WHOLE: dict[str, Any] = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+$"}]}
_SHARE: dict[str, Any] = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string"}]}
_FLAG: dict[str, Any] = {"type": "boolean"}


def _literals(model: type[Strict], name: str) -> list[str]:
    """The permitted words of a Literal field, in the order of the model."""
    found = model.model_json_schema()["properties"][name]["enum"]
    return [str(word) for word in found]


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def contract_schema() -> dict[str, Any]:
    """The schema as a mapping. A key of a model that is not described here raises ``AssertionError``."""
    field_keys: dict[str, Any] = {
        "aliases": _SCALARS,
        "label": _SCALAR,
        "type": {"enum": _literals(ContractField, "type")},
        "class": {"enum": [entry.value for entry in FieldClass]},
        "item": {"enum": [entry.value for entry in Item]},
        "core": _FLAG,
        "required": _FLAG,
        "max_length": _WHOLE,
        "formats": _SCALARS,
        "null_values": _SCALARS,
        "invalid_values": _SCALARS,
        "not_stated_values": _SCALARS,
        "codes": _SCALAR,
        "checks": _SCALARS,
        "quasi_identifier": _FLAG,
        "reason": _SCALAR,
        "source": _SCALAR,
    }
    field = _object({"name": _SCALAR, **field_keys}, ["name"])
    repeat = _object(
        {
            "repeat": {"type": "string", "pattern": r"\{nn?\}"},
            "count": _WHOLE,
            "first": _WHOLE,
            **field_keys,
        },
        ["repeat", "count"],
    )
    one_field = {"anyOf": [{"$ref": "#/$defs/field"}, {"$ref": "#/$defs/repeat"}]}
    group = _object(
        {"group": _SCALAR, **field_keys, "fields": {"type": "array", "items": one_field}}, ["group", "fields"]
    )
    rule = _object(
        {
            "id": _SCALAR,
            "severity": {"enum": _literals(Rule, "severity")},
            "level": {"enum": _literals(Rule, "level")},
            "allow": _SHARE,
            "check": _SCALAR,
            "args": _SCALARS,
            "says": _SCALAR,
            "reason": _SCALAR,
            "source": _SCALAR,
        },
        ["id"],
    )
    derivation = _object(
        {
            "name": _SCALAR,
            "type": {"enum": _literals(Derivation, "type")},
            "function": _SCALAR,
            "args": _SCALARS,
            "says": _SCALAR,
        },
        ["name"],
    )
    period = _object({"kind": {"enum": _literals(Period, "kind")}, "column": _SCALAR}, ["kind"])
    root = _object(
        {
            "dataset": _SCALAR,
            "version": _SCALAR,
            "extends": _SCALAR,
            "remove": _SCALARS,
            "remove_rules": _SCALARS,
            "title": _SCALAR,
            "source": _SCALAR,
            "name_tokens": _SCALARS,
            "record_key": _SCALARS,
            "person_id": _SCALAR,
            "issuer": _SCALARS,
            "provider": _SCALARS,
            "period": {"$ref": "#/$defs/period"},
            "destination": {"enum": _literals(Contract, "destination")},
            "delimiters": _SCALARS,
            "type_defaults": {
                "type": "object",
                "propertyNames": {"enum": _literals(ContractField, "type")},
                "additionalProperties": _object(field_keys),
            },
            "fields": {
                "type": "array",
                "items": {"anyOf": [*one_field["anyOf"], {"$ref": "#/$defs/group"}]},
            },
            "derivations": {"type": "array", "items": {"$ref": "#/$defs/derivation"}},
            "rules": {"type": "array", "items": {"$ref": "#/$defs/rule"}},
        },
        ["dataset", "version", "title"],
    )
    for model, described in (
        (ContractField, field),
        (Rule, rule),
        (Derivation, derivation),
        (Period, period),
        (Contract, root),
    ):
        missing = _keys(model) - set(described["properties"])
        if missing:
            raise AssertionError(f"json_schema.py does not describe {', '.join(sorted(missing))}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Contract of one dataset layout",
        "description": "schemas/loader.py is the authority; this file only helps an editor.",
        **root,
        "$defs": {
            "field": field,
            "repeat": repeat,
            "group": group,
            "rule": rule,
            "derivation": derivation,
            "period": period,
        },
    }


def _keys(model: type[Strict]) -> set[str]:
    return {info.alias or name for name, info in model.model_fields.items()}


def render() -> str:
    """The schema as the text of ``contract.schema.json``."""
    return json.dumps(contract_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(render(), encoding="utf-8")
