"""The policy on objections, ``schemas/policy/objections.yaml``, and its strict loader."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field

from schemas.contract import Strict
from schemas.yaml_text import parse_model, read_yaml

POLICY = Path(__file__).parent / "policy" / "objections.yaml"


class ObjectionPolicy(Strict):
    """``loaded_by``: role codes. ``largest_bytes``: of a list, decrypted."""

    loaded_by: tuple[str, ...] = Field(min_length=1)
    largest_bytes: int = Field(ge=1)


@cache
def objection_policy(path: Path = POLICY) -> ObjectionPolicy:
    """The policy of ``path``. Raises :class:`ContractDefinitionError` for anything unknown or missing."""
    return parse_model(ObjectionPolicy, read_yaml(path), path.name)
