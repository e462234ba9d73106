"""The workspace: one folder, its zones, its settings, and the lock of its single writer."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from infra.files import FILE_MODE, make_folder, write_atomic
from schemas.contract import Strict
from schemas.errors import Busy, WorkspaceError

ZONES = (
    "inbox",
    "landing",
    "vault",
    "linkage",
    "lake",
    "published",
    "reviews",
    "reprocessing",
    "retention",
    "outbox",
    "audit",
    "keys",
    "officers",
    "incidents",
    "runs",
    "orchestrator",
    "tmp",
)


class Agreement(Strict):
    """The data sharing agreement under which deliveries are held; every delivery names it."""

    reference: str
    title: str
    demo: bool
    starts: str
    ends: str
    retention_days: int
    # First and last day of the data that it covers, "" where it names none. Snapshots hold their whole history.
    data_from: str = ""
    data_until: str = ""
    # Whether objections and opt-outs are honoured: not in the statutory flow, see infra/objections.py.
    honour_opt_outs: bool = False


class Settings(Strict):
    """``settings.yaml`` of a workspace. Times are days, sizes are DuckDB's notation."""

    landing_readable_days: int = 35
    # What the engine may take while it reads, ingests and commits: a delivery of any size stays under 2 GiB in all.
    memory_limit: str = "700MB"
    # The same while indicators are computed. A limit, not a reservation: below it nothing is spilled, and spilling is
    # what costs the time from a few million spells on. The process takes about 1 GiB more.
    compute_memory_limit: str = "2GB"
    # Plaintext bytes per chunk. A parsed chunk takes some six times its size in memory, and three are in
    # flight at once (one being parsed, one waiting, one being written).
    chunk_bytes: int = 16 << 20
    # Rows per Parquet row group. DuckDB keeps whole row groups of all columns in memory while it writes; with
    # its default of 122,880 rows and 190 columns that alone passes the memory limit, and spilling it makes the
    # write fifteen times as slow.
    row_group_rows: int = 40_960
    max_record_rows_per_delivery: int = 200_000_000
    keep_runs: int = 5
    second_audit_sink: str = ""
    agreement: Agreement


@dataclass(frozen=True)
class Workspace:
    """An opened workspace. Zones are attributes by name: ``workspace.zone("lake")``."""

    root: Path
    settings: Settings

    def zone(self, name: str) -> Path:
        if name not in ZONES:
            raise WorkspaceError(f"there is no zone {name}")
        return self.root / name

    @classmethod
    def create(cls, root: Path, settings: Settings) -> Workspace:
        """Make the folders and the settings. Raises :class:`WorkspaceError` if ``root`` is not empty."""
        if root.exists() and any(root.iterdir()):
            raise WorkspaceError(
                "the folder for the new workspace is not empty", next_step="choose an empty or a new folder"
            )
        make_folder(root)
        os.chmod(root, 0o700)
        for name in ZONES:
            make_folder(root / name)
        text = yaml.safe_dump(settings.model_dump(), sort_keys=False, allow_unicode=True)
        write_atomic(root / "settings.yaml", text.encode())
        return cls(root, settings)

    @classmethod
    def open(cls, root: Path) -> Workspace:
        """Raises :class:`WorkspaceError` if ``root`` is no workspace or its settings do not load."""
        try:
            raw = yaml.safe_load((root / "settings.yaml").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            raise WorkspaceError(
                "this folder is not a Wardwatch workspace",
                next_step="make one with `wardwatch --workspace DIR init`",
            ) from None
        try:
            settings = Settings.model_validate(raw)
        except ValidationError as error:
            names = ", ".join(sorted({".".join(map(str, problem["loc"])) for problem in error.errors()}))
            raise WorkspaceError(
                f"settings.yaml does not load: {names}", next_step="correct settings.yaml"
            ) from None
        return cls(root, settings)

    @contextmanager
    def writer_lock(self) -> Iterator[None]:
        """Hold the workspace for writing. A lock of the operating system: it cannot outlive its process.

        Raises :class:`Busy` at once if another process holds it.
        """
        descriptor = os.open(self.root / ".writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(
                    "another run is writing to this workspace",
                    next_step="wait until it has ended; `wardwatch status` shows the last run",
                ) from None
            yield
        finally:
            os.close(descriptor)
