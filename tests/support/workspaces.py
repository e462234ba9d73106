"""Workspaces for tests of the whole: made as ``wardwatch init`` does, filled with synthetic extracts, copied per test.

Making keys, extracts and a first night takes seconds, so each is made once per test session (once for all workers
of pytest-xdist) and copied for a test. All copies share the template's keys, so any extract opens in any of them.
The fixtures are in ``tests/conftest.py``:

* ``empty_workspace``: a new workspace, nothing in its inbox.
* ``extracts``: encrypted synthetic extracts for it, see :class:`Extracts`; read only.
* ``plain_extracts``: the same files in plaintext, to be changed and dropped into an inbox.
* ``finished_workspace``: a workspace after one night over a few of the extracts (:data:`FIRST_NIGHT`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from infra.keyring import Keyring, PublicKeys
from infra.night import Outcome
from infra.provisioning import DEMO_AGREEMENT, provision
from infra.workspace import Settings, Workspace
from tests.support.once import built_once as built_once

# Before the review dates in schemas/policy/purposes.yaml, after the last period of the synthetic extracts.
EVENING = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)

EPISODES = 3_000
HOSPITALS = 8
YEARS = 3
LAST_YEAR = 2022
SEED = 1

# One of each kind: a proportion with linked deaths, one of mothers with expected cases, a standardised ratio.
FEW_INDICATORS = frozenset({"crude_death_rate_v1", "puerperal_infection_42d_v1", "shmi_v1"})

# A few deliveries that together have everything: both layout eras, a provisional month, deaths of both products,
# both bridges. What a test needs more, it adds.
FIRST_NIGHT = (
    "HES_APC_202099",
    "HES_APC_202206",
    "HES_OP_202099",
    "ONS_DEATHS_20",
    "ONS_DEATHS_BRIDGE",
    "CIVIL_DEATHS",
    "HES_PERSON_BRIDGE",
)


@dataclass
class Clock:
    """A clock for runs: the same time at every question, until it is set on."""

    moment: datetime = EVENING

    def __call__(self) -> datetime:
        return self.moment

    def later(self, **step: float) -> Clock:
        """Another clock, so much later: ``clock.later(days=1)``."""
        return Clock(self.moment + timedelta(**step))


@dataclass(frozen=True)
class Extracts:
    """A folder of synthetic extracts, its ``truth.json``, and the provider reference that belongs to it."""

    folder: Path
    truth: dict[str, Any] = field(repr=False)

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder / name for name in self.truth["files"])

    @property
    def provider_reference(self) -> Path:
        return self.folder / "provider_reference.csv"

    def named(self, *parts: str) -> list[Path]:
        """The files whose names hold one of ``parts``, e.g. ``"HES_APC_202099"``; each part must fit one."""
        found = []
        for part in parts:
            fitting = [path for path in self.files if part in path.name]
            assert len(fitting) == 1, f"{part} fits {len(fitting)} extracts, one was expected"
            found += fitting
        return found

    def one(self, part: str) -> Path:
        return self.named(part)[0]


def make_workspace(path: Path, *, moment: datetime = EVENING, **settings: Any) -> Workspace:
    """A new workspace in ``path``, as ``wardwatch init`` makes it; ``settings`` as in ``settings.yaml``."""
    return provision(path, moment, Settings(agreement=DEMO_AGREEMENT, **settings)).workspace


def recipient(workspace: Workspace) -> str:
    """The public key that senders to ``workspace`` encrypt to."""
    return PublicKeys.load(workspace.zone("keys")).recipient()


def keyring(workspace: Workspace) -> Keyring:
    return Keyring.open(workspace.zone("keys"))


def make_extracts(
    path: Path,
    recipient: str,
    *,
    episodes: int = EPISODES,
    hospitals: int = HOSPITALS,
    years: int = YEARS,
    last_year: int = LAST_YEAR,
    seed: int = SEED,
    plain: bool = False,
) -> Extracts:
    """Synthetic extracts in the folder ``path``: both eras, provisional months of the last year, deaths of both
    products, both bridges. The same arguments give the same plaintext."""
    from infra.synthetic import generate

    truth = generate(
        path,
        episodes=episodes,
        hospitals=hospitals,
        years=years,
        seed=seed,
        recipient=recipient,
        last_financial_year=last_year,
        plain=plain,
    )
    return Extracts(path, truth)


def load_extracts(path: Path) -> Extracts:
    return Extracts(path, json.loads((path / "truth.json").read_text(encoding="utf-8")))


def drop(workspace: Workspace, files: Iterable[Path], *, before: datetime = EVENING) -> list[Path]:
    """Put copies of ``files`` into the inbox, as uploads that ended an hour before ``before``."""
    dropped = []
    for path in files:
        target = workspace.zone("inbox") / path.name
        shutil.copyfile(path, target)
        settle(target, before)
        dropped.append(target)
    return dropped


def settle(path: Path, before: datetime = EVENING) -> None:
    """Let ``path`` look as if its upload ended an hour before ``before``."""
    ended = (before - timedelta(hours=1)).timestamp()
    os.utime(path, (ended, ended))


def copy_workspace(source: Workspace, path: Path) -> Workspace:
    """A copy that shares nothing with ``source`` but its keys."""
    shutil.copytree(source.root, path, symlinks=True)
    return Workspace.open(path)


def night(workspace: Workspace, clock: Clock | None = None, **options: Any) -> Outcome:
    """One quiet nightly run, at :data:`EVENING` unless ``clock`` says otherwise; ``say`` hears what it says."""
    from flows.nightly import run_night

    options.setdefault("say", lambda _line: None)
    return run_night(workspace.root, clock=clock or Clock(), **options)


@contextmanager
def computing_nothing() -> Iterator[None]:
    """Runs in it publish their tables empty, for tests of what becomes of deliveries: half of a night is computing."""
    from infra.computation import Computation
    from schemas.published import empty

    def compute_nothing(*_: object) -> Computation:
        tables = {"indicator_value": empty("indicator_value")}
        return Computation(tables=tables, counts={}, record_date=date(2022, 9, 30), lake_snapshot=1)

    with patch("infra.night.compute", compute_nothing):
        yield


@contextmanager
def few_indicators() -> Iterator[None]:
    """Runs in it compute :data:`FEW_INDICATORS` only, for tests of what happens to a run whatever its numbers are."""
    from infra.compute import load_indicators

    few = tuple(found for found in load_indicators() if found.metadata.id in FEW_INDICATORS)
    assert len(few) == len(FEW_INDICATORS), "an indicator has another name now"
    with patch("infra.computation.load_indicators", lambda: few):
        yield


def tree(folder: Path) -> Iterator[Path]:
    """Every file below ``folder``, in order."""
    return iter(sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()))
