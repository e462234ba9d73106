"""A definition file: YAML read as plain text, and refused with a sentence a person can act on.

``yaml.BaseLoader`` keeps every scalar a string, so ``NO`` stays ``NO`` and ``01`` stays ``01``; on top of it
a key that is written twice is refused (YAML's own behaviour is to keep the last one silently).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from schemas.errors import ContractDefinitionError

Model = TypeVar("Model", bound=BaseModel)


# The C parser of PyYAML reads the contracts ten times as fast; it is not in every build.
_BaseLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class _TextLoader(_BaseLoader):  # type: ignore[misc]
    """All scalars are strings; a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            line = node.start_mark.line + 1
            raise ContractDefinitionError(
                f"the key {twice[0]!r} is written twice in the block at line {line}"
            )
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """The mapping in ``text``; ``where`` (a file name) begins every message.

    Raises :class:`ContractDefinitionError` when it is no YAML, no mapping, or repeats a key.
    """
    try:
        content = yaml.load(text, Loader=_TextLoader)  # noqa: S506 (a BaseLoader builds strings, lists and dicts only)
    except ContractDefinitionError as error:
        raise ContractDefinitionError(f"{where}: {error.message}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f" at line {mark.line + 1}" if mark is not None else ""
        raise ContractDefinitionError(f"{where}: this is not readable YAML{at}") from None
    if not isinstance(content, dict):
        raise ContractDefinitionError(f"{where}: the file must be a mapping of keys to values")
    return content


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in the file at ``path``, see :func:`parse_yaml`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ContractDefinitionError(f"{path.name}: the file cannot be read as UTF-8 text") from None
    return parse_yaml(text, path.name)


def _place(location: tuple[int | str, ...], raw: object) -> str:
    """``fields[EPIKEY].type`` rather than ``fields.3.type``: an entry is called by its name, id or code."""
    parts: list[str] = []
    here = raw
    for step in location:
        if isinstance(step, int):
            here = here[step] if isinstance(here, list | tuple) and step < len(here) else None
            name = None
            if isinstance(here, dict):
                name = next((here[key] for key in ("name", "id", "code") if key in here), None)
            label = f"[{name if name is not None else step + 1}]"
            if parts:
                parts[-1] += label
            else:
                parts.append(label)
        else:
            here = here.get(step) if isinstance(here, dict) else None
            parts.append(step)
    return ".".join(parts)


def parse_model(model: type[Model], raw: object, where: str) -> Model:
    """``raw`` as ``model``; the first thing that is wrong becomes one plain sentence starting with ``where``.

    Definition files hold no patient data, so the sentence may name keys and list entries.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    # An unknown key is said first: it is often the misspelt form of the one that is missing.
    first = min(found, key=lambda each: each["type"] != "extra_forbidden")
    place = _place(first["loc"], raw)
    parent, _, key = place.rpartition(".")
    inside = f"{parent}: " if parent else ""
    if first["type"] == "missing":
        sentence = f"{inside}the key {key!r} is missing"
    elif first["type"] == "extra_forbidden":
        sentence = f"{inside}the key {key!r} is unknown"
    else:
        reason = first["msg"].removeprefix("Value error, ")
        sentence = f"{place}: {reason}" if place else reason
    raise ContractDefinitionError(f"{where}: {sentence}")
