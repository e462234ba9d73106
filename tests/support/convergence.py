"""Convergence: what readers get of a run, and what must not be left over after it.

:func:`published_result` is compared between an undisturbed run and one that was killed and begun again.
:func:`leftovers` lists everything in a workspace that no delivery row, manifest or pointer stands for; after a run
that ended well it is empty.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from infra import publish, vault
from infra.audit_checkpoint import CHECKPOINT_KEY
from infra.audit_intent import unfinished
from infra.audit_verify import tampering
from infra.audit_verify import verify as verify_audit
from infra.keyring import Keyring
from infra.lake import CATALOG, READER_CATALOG, CommittedDelivery, Lake
from infra.landing import PIPELINE_KEY, Landing
from infra.officers import Officers
from infra.vault import folder_name
from infra.workspace import Workspace

# Columns of the lake's own books that say when and under which keys something happened.
_OF_THE_RUN = {"received_at", "committed_at", "retain_until", "vault_manifest_sha256"}


def published_result(published: Path) -> dict[str, str]:
    """File name -> digest of what ``published/current`` shows: the bytes of CSV, Parquet and HTML, and the
    canonical digest of the DuckDB file. A signed approval is left out, for it bears its time."""
    folder = publish.current(published)
    assert folder is not None, "nothing was published"
    assert folder.is_dir(), "published/current points to nothing"
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name == publish.DATABASE:
            found[path.name] = publish.canonical_digest(path)
        elif path.suffix != ".json":
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@dataclass(frozen=True)
class LakeContent:
    """What the lake holds. ``rows``: the delivery rows. ``tables``: table -> digest of its rows in their order,
    without times and key material. ``orphans``: data files that no snapshot of the catalog names, by DuckLake's
    own listing, whatever their age. ``shown``: whether the catalog that readers open is the one committed last."""

    rows: list[CommittedDelivery]
    tables: dict[str, str]
    orphans: set[str]
    shown: bool


def lake_content(workspace: Workspace) -> LakeContent:
    """Look into the lake as its writer does. Looking changes nothing."""
    lake_folder = workspace.zone("lake")
    shown = filecmp.cmp(lake_folder / CATALOG, lake_folder / READER_CATALOG, shallow=False)
    with Lake.open(
        lake_folder,
        Keyring.open(workspace.zone("keys")).lake_metadata_key,
        memory_limit="400MB",
        temp_folder=workspace.zone("tmp"),
        row_group_rows=workspace.settings.row_group_rows,
    ) as lake:
        # The tests ask more of the lake than the pipeline does, so they go past its methods.
        connection = lake._connection
        names = connection.execute(
            "select table_name from duckdb_tables() where database_name = 'lake' "
            "and schema_name = 'main' order by 1"
        ).fetchall()
        tables = {name: _digest(connection.execute(f"select * from lake.{name}").pl()) for (name,) in names}
        listed = connection.execute(
            "CALL ducklake_delete_orphaned_files('lake', dry_run => true, cleanup_all => true)"
        ).fetchall()
        orphans = {Path(path).relative_to(lake_folder / "data").as_posix() for (path,) in listed}
        return LakeContent(lake.deliveries(), tables, orphans, shown)


def _digest(frame: pl.DataFrame) -> str:
    frame = frame.drop(_OF_THE_RUN & set(frame.columns))
    return hashlib.sha256(frame.sort(frame.columns).write_csv().encode()).hexdigest()


def lake_files(workspace: Workspace) -> set[str]:
    """Every data file of the lake, as a path below it."""
    data = workspace.zone("lake") / "data"
    return {path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Reference:
    """A scenario that ran undisturbed: the workspace before it, the points that it reached in order, and what it
    led to."""

    scenario: str
    before: Workspace
    reached: list[str]
    result: dict[str, str]
    published: dict[str, str]
    lake: dict[str, str]
    orphans: set[str]
    leftovers: list[str]


@dataclass(frozen=True)
class Leftover:
    """One thing that should not be there."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def leftovers(workspace: Workspace, lake: LakeContent) -> list[str]:
    """Everything that a finished run must not leave: see the functions below, one per zone."""
    keyring = Keyring.open(workspace.zone("keys"))
    rows = lake.rows
    return [
        str(found)
        for found in (
            *unfinished_files(workspace),
            *_temporary(workspace),
            *_landing(workspace, keyring, rows),
            *_vault(workspace, keyring, rows),
            *_linkage(workspace, rows),
            *_readers_catalog(lake),
            *_published(workspace),
            *_audit(workspace, keyring),
        )
    ]


def unfinished_files(workspace: Workspace) -> Iterator[Leftover]:
    """No staging folder and no half-written file anywhere."""
    for path in sorted(workspace.root.rglob("*")):
        name = path.relative_to(workspace.root).as_posix()
        if ".staging-" in name or path.name.endswith(".part"):
            yield Leftover(name, "is unfinished")


def _temporary(workspace: Workspace) -> Iterator[Leftover]:
    """No spill folder, and no zone that others may read."""
    for path in sorted(workspace.zone("tmp").iterdir()):
        yield Leftover(f"tmp/{path.name}", "is a temporary file of a run that has ended")
    for zone in ("landing", "vault", "linkage", "lake", "published", "audit", "keys", "runs", "incidents"):
        if stat.S_IMODE(workspace.zone(zone).stat().st_mode) & 0o077:
            yield Leftover(zone, "is open to others")


def _landing(workspace: Workspace, keyring: Keyring, rows: list[CommittedDelivery]) -> Iterator[Leftover]:
    """Every landed delivery has its row, all its files, and a receipt that holds."""
    landing = Landing(
        workspace.zone("landing"), keyring, Officers.load(workspace.zone("keys")), lambda: _never()
    )
    held = {receipt.delivery_id for receipt in landing.held()}
    for delivery in sorted(held ^ {row.delivery_id for row in rows}):
        yield Leftover(f"landing/{delivery}", "is landed without a row, or has a row without being landed")
    for delivery in sorted(held):
        names = {path.name for path in (landing.root / delivery).iterdir()} | {PIPELINE_KEY}
        if len(names) != 5:
            yield Leftover(f"landing/{delivery}", f"has {len(names)} files")
    for path in landing.root.iterdir():
        if path.name not in held and path.name != "refused":
            yield Leftover(f"landing/{path.name}", "is no delivery")


def _vault(workspace: Workspace, keyring: Keyring, rows: list[CommittedDelivery]) -> Iterator[Leftover]:
    """The vault is as it was written, and has exactly the folders that delivery rows name."""
    root = workspace.zone("vault")
    for finding in vault.verify(root, keyring.signers("manifest_signing")):
        yield Leftover(f"vault/{finding.delivery}", finding.problem)
    named = {
        folder_name(row.delivery_id, row.generation): row.vault_manifest_sha256
        for row in rows
        if row.generation > 0
    }
    earlier = {
        folder_name(row.delivery_id, generation) for row in rows for generation in range(1, row.generation)
    }
    found = {path.name for path in root.iterdir()}
    for name in sorted((found - earlier) ^ set(named)):
        yield Leftover(f"vault/{name}", "has no delivery row, or a delivery row has no vault")
    for name in sorted(found & set(named)):
        digest = hashlib.sha256((root / name / vault.MANIFEST_FILE).read_bytes()).hexdigest()
        if digest != named[name]:
            yield Leftover(f"vault/{name}", "is not the vault that its delivery row names")


def _linkage(workspace: Workspace, rows: list[CommittedDelivery]) -> Iterator[Leftover]:
    """Linkage files are exactly those of deliveries of deaths and of the bridge between their keys."""
    expected = {
        f"{row.delivery_id}.parquet"
        for row in rows
        if row.dataset in ("civil_deaths", "ons_deaths", "ons_deaths_bridge") and row.generation > 0
    }
    for name in sorted({path.name for path in workspace.zone("linkage").iterdir()} ^ expected):
        yield Leftover(f"linkage/{name}", "has no delivery row, or a delivery row has no linkage file")


def _readers_catalog(lake: LakeContent) -> Iterator[Leftover]:
    """Readers open a copy of the catalog; it is the one that was committed last."""
    if not lake.shown:
        yield Leftover("lake", "the readers' copy of the catalog is not the catalog")


def _published(workspace: Workspace) -> Iterator[Leftover]:
    """The current run has every file that its manifest names, byte for byte, and every run folder is whole."""
    published = workspace.zone("published")
    current = publish.current(published)
    assert current is not None, "nothing was published"
    manifest_file = workspace.zone("runs") / f"{current.name}.json"
    if not manifest_file.exists():
        yield Leftover(f"published/{current.name}", "is current without a run manifest")
        return
    outputs = json.loads(manifest_file.read_text(encoding="utf-8"))["outputs"]
    for name in sorted({path.name for path in current.iterdir()} ^ set(outputs)):
        yield Leftover(f"published/{current.name}/{name}", "is not what the manifest lists")
    for name, digests in outputs.items():
        if hashlib.sha256((current / name).read_bytes()).hexdigest() != digests["sha256"]:
            yield Leftover(f"published/{current.name}/{name}", "has other bytes than the manifest says")
    for run in publish.runs(published):
        names = {path.name for path in (published / run).iterdir()}
        if names != set(outputs):
            yield Leftover(f"published/{run}", "lacks files")
        for name in sorted(name for name in names if name.endswith(".parquet")):
            pl.read_parquet(published / run / name)
            if not (published / run / name.replace(".parquet", ".csv")).read_bytes().endswith(b"\n"):
                yield Leftover(f"published/{run}/{name}", "has a CSV file that is cut off")


def _audit(workspace: Workspace, keyring: Keyring) -> Iterator[Leftover]:
    """The audit log is whole; that a torn line was recovered is a note and no tampering."""
    keys = {CHECKPOINT_KEY: [bytes.fromhex(key) for key in keyring.signers("audit_signing").values()]}
    for finding in tampering(verify_audit(workspace.zone("audit"), keys)):
        yield Leftover("audit", str(finding))
    for intent in unfinished(workspace.zone("audit")):
        yield Leftover("audit", f"says that {intent.action} was begun and not how it ended")


def _never() -> datetime:
    raise AssertionError("reading the landing zone needs no clock")
