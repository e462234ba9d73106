"""The workspace's provider reference: the file ``providers.csv`` in its root."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from schemas.errors import ContractDefinitionError
from schemas.provider_reference import ProviderReference, from_organisation_data, parse_reference

PROVIDERS_FILE: Final = "providers.csv"


def workspace_reference(root: Path) -> ProviderReference | None:
    """The reference of the workspace in ``root``, None if it has none.

    Raises :class:`ContractDefinitionError` if the file cannot be read or does not fit: without it nobody could tell
    which providers are compared, so it is never taken in part.
    """
    path = root / PROVIDERS_FILE
    if not path.exists():
        return None
    return read_reference(path)


def read_reference(path: Path) -> ProviderReference:
    """The reference in the file at ``path``, see :func:`schemas.provider_reference.parse_reference`."""
    return parse_reference(_text(path), path.name)


def read_organisation_data(
    path: Path, types: Mapping[str, str], successors: Mapping[str, str]
) -> ProviderReference:
    """The reference in a file of the Organisation Data Service such as ``etr.csv``, see
    :func:`schemas.provider_reference.from_organisation_data`."""
    return from_organisation_data(_text(path), path.name, types, successors)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise ContractDefinitionError(f"{path.name}: the file cannot be read as UTF-8 text") from None
