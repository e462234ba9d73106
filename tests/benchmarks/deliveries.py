"""The delivery that is measured: a year of synthetic admitted patient care, landed, and its plaintext besides."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from infra.keyring import PublicKeys
from infra.night import Stated, begin
from infra.provisioning import provision
from infra.reading import Readable
from infra.synthetic import generate
from infra.workspace import Workspace

HOSPITALS = 150
SEED = 11
LATEST = "HES_APC_202312"
DEATHS = "CIVIL_DEATHS"


@dataclass(frozen=True)
class Prepared:
    """``workspace``: holds the delivery, landed, and nothing else. ``plain``: the same as plaintext. ``deaths``: a
    sealed file of deaths for the indicators. ``synth_seconds``: what making all extracts took."""

    workspace: Path
    plain: Path
    deaths: Path
    synth_seconds: float

    def bring_deaths(self) -> None:
        """Put the deaths into the inbox, so that the next night links them."""
        shutil.copy(self.deaths, self.workspace / "inbox" / self.deaths.name)
        time.sleep(3)  # a file that has just changed may still be arriving


def prepared(data: Path, episodes: int) -> Prepared:
    """Make the delivery in ``data``, or take it from there if it was made before."""
    folder = data / str(episodes)
    workspace, plain, deaths = folder / "workspace", folder / "plain.txt", folder / "deaths"
    done = folder / "seconds.json"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        seconds = _make(folder, episodes, provision(workspace, datetime.now(UTC)).workspace, plain, deaths)
        done.write_text(json.dumps(seconds))
    for zone in ("lake", "vault", "linkage", "runs", "published"):  # of an earlier measurement
        shutil.rmtree(workspace / zone)
        (workspace / zone).mkdir(mode=0o700)
    for landed in (workspace / "landing").glob("civil_deaths-*"):
        shutil.rmtree(landed)
    (file,) = deaths.iterdir()
    return Prepared(workspace, plain, file, float(json.loads(done.read_text())))


def _make(folder: Path, episodes: int, workspace: Workspace, plain: Path, deaths: Path) -> float:
    recipient = PublicKeys.load(workspace.zone("keys")).recipient()
    sealed = folder / "sealed"
    began = time.perf_counter()
    generate(sealed, episodes=episodes, hospitals=HOSPITALS, years=1, seed=SEED, recipient=recipient)
    seconds = time.perf_counter() - began
    (delivery,) = sealed.glob(f"*{LATEST}*")
    with begin(
        workspace,
        purpose="nightly_publication",
        person="benchmark",
        role="pipeline",
        clock=lambda: datetime.now(UTC),
    ) as night:
        (landed,) = night.land_file(delivery, Stated())
        with night.landing.open_plaintext(landed.receipt.delivery_id) as stream, plain.open("wb") as copy:
            _without_broken_lines(stream, copy)
    deaths.mkdir()
    (file,) = sealed.glob(f"*{DEATHS}*")
    file.rename(deaths / file.name)
    shutil.rmtree(sealed)
    return seconds


def _without_broken_lines(stream: Readable, copy: BinaryIO) -> None:
    """The rivals stop at a line with too many or too few fields, of which the extract has one in ten thousand."""
    rest = b""
    separator, fields = b"", 0
    while block := stream.read(8 << 20):
        *lines, rest = (rest + block).split(b"\n")
        if not separator:
            separator = b"|" if b"|" in lines[0] else b","
            fields = lines[0].count(separator)
        copy.writelines(line + b"\n" for line in lines if line.count(separator) == fields)
