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

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infra.keyring import Keyring, PublicKeys
from infra.night import Outcome
from infra.provisioning import DEMO_AGREEMENT, provision
from infra.workspace import Settings, Workspace

# Before the review dates in schemas/policy/purposes.yaml, after the last period of the synthetic extracts.
EVENING = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)

EPISODES = 3_000
HOSPITALS = 8
YEARS = 3
LAST_YEAR = 2022
SEED = 1

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


def built_once(folder: Path, build: Callable[[Path], Any]) -> Path:
    """``folder``, built by ``build(part)`` if no worker of this session has built it yet."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_name(folder.name + ".lock")):
        if not folder.exists():
            part = folder.with_name(folder.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            build(part)
            part.rename(folder)
    return folder


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` against the other workers of the session."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def tree(folder: Path) -> Iterator[Path]:
    """Every file below ``folder``, in order."""
    return iter(sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()))
