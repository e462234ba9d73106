"""The workspace's provider reference: the file ``providers.csv`` in its root."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from infra.audit import AuditLog
from infra.audit_intent import Found
from infra.audit_line import Event
from infra.files import write_atomic
from infra.workspace import Workspace
from schemas.errors import ContractDefinitionError
from schemas.organisation_data import OrganisationData, Source, from_organisation_data, parse_types
from schemas.provider_reference import ProviderReference, parse_reference

PROVIDERS_FILE: Final = "providers.csv"
ACTION: Final = "providers.load"


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
    return parse_reference(_source(path).text, path.name)


def read_organisation_data(
    organisations: Sequence[Path],
    sites: Sequence[Path] = (),
    successors: Sequence[Path] = (),
    types: Path | None = None,
    known: ProviderReference | None = None,
) -> OrganisationData:
    """The reference in files of the Organisation Data Service (UTF-8, else taken for Latin-1), see
    :func:`schemas.organisation_data.from_organisation_data`.

    A code that the file ``types`` does not list keeps the type that it has in ``known``, the reference up to now.
    """
    kinds: dict[str, str] = {}
    if known is not None:
        kinds = {provider.code: provider.type for provider in known.providers}
    if types is not None:
        kinds |= parse_types(_official(types))
    return from_organisation_data(
        [_official(path) for path in organisations],
        [_official(path) for path in sites],
        [_official(path) for path in successors],
        kinds,
    )


def save_reference(
    workspace: Workspace, reference: ProviderReference, audit: AuditLog, counts: dict[str, int] | None = None
) -> bool:
    """Make ``reference`` that of the workspace; False if it has been already, and nothing was done.

    The file is replaced whole, under the writer's lock, so that a night sees one reference from beginning to end.
    Two audit lines, with the digest of the file in the first; a load that was killed is accounted for first.

    Raises :class:`Busy` while another process writes, :class:`AuditUnavailable` and what the storage raises.
    """
    path = workspace.root / PROVIDERS_FILE
    content = reference.to_csv().encode()
    digest = hashlib.sha256(content).hexdigest()

    def became_of(intent: Event) -> Found:
        return "done" if intent.digests.get("providers") == _digest(path) else "not_done"

    with workspace.writer_lock():
        audit.close_unfinished([ACTION], became_of)
        if _digest(path) == digest:
            return False
        with audit.action(ACTION, PROVIDERS_FILE, purpose="", digests={"providers": digest}) as outcome:
            write_atomic(path, content)
            outcome.counts.update(counts or {"organisations": len(reference.providers)})
            outcome.digests["providers"] = digest
    return True


def _digest(path: Path) -> str:
    """SHA-256 of the file, empty if there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _official(path: Path) -> Source:
    return _source(path, "latin-1")


def _source(path: Path, otherwise: str = "utf-8-sig") -> Source:
    """The text of a file in UTF-8, else in the encoding ``otherwise``."""
    try:
        content = path.read_bytes()
        try:
            return Source(path.name, content.decode("utf-8-sig"))
        except UnicodeDecodeError:
            return Source(path.name, content.decode(otherwise))
    except (OSError, UnicodeDecodeError):
        raise ContractDefinitionError(f"{path.name}: the file cannot be read as UTF-8 text") from None
