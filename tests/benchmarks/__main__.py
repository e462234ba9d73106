"""``python -m tests.benchmarks``: prints a table and writes ``bench-results/<day>.json``.

Contestants take turns, so that a slow minute of the machine falls on all of them, and medians are compared. The
bars are those of the design, section 10.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.keyring import PublicKeys
from infra.night import Stated, begin
from infra.provisioning import provision
from infra.synthetic import generate
from infra.workspace import Workspace

HOSPITALS = 150
SEED = 11
LATEST = "HES_APC_202312"
DEATHS = "CIVIL_DEATHS"
ROUNDS = 3


def child(name: str, subject: Path, scratch: Path) -> dict[str, float]:
    """One run of a contestant in a fresh process."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.contestants", name, str(subject), str(scratch)],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(ended.stdout.strip().splitlines()[-1])
    return found


def prepared(data: Path, episodes: int) -> tuple[Path, Path, float]:
    """(workspace with one delivery landed and deaths, its plaintext file, seconds that making it took)."""
    folder = data / str(episodes)
    workspace_folder, plain_folder = folder / "workspace", folder / "plain"
    done = folder / "seconds.json"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        workspace = provision(workspace_folder, datetime.now(UTC)).workspace
        recipient = PublicKeys.load(workspace.zone("keys")).recipient()
        sealed = folder / "sealed"
        began = time.perf_counter()
        generate(sealed, episodes=episodes, hospitals=HOSPITALS, years=1, seed=SEED, recipient=recipient)
        seconds = time.perf_counter() - began
        generate(
            plain_folder,
            episodes=episodes,
            hospitals=HOSPITALS,
            years=1,
            seed=SEED,
            recipient=recipient,
            plain=True,
        )
        with begin(
            workspace,
            purpose="nightly_publication",
            person="benchmark",
            role="pipeline",
            clock=lambda: datetime.now(UTC),
        ) as night:
            for path in sorted(sealed.glob("*.age")):
                if LATEST in path.name or DEATHS in path.name:
                    night.land_file(path, Stated())
        shutil.rmtree(sealed)
        for path in plain_folder.iterdir():
            if LATEST not in path.name:
                path.unlink()
        done.write_text(json.dumps(seconds))
    (plain,) = plain_folder.iterdir()
    return Workspace.open(workspace_folder).root, plain, float(json.loads(done.read_text()))


def measure(data: Path, episodes: int, rounds: int) -> dict[str, Any]:
    """All contestants at one size."""
    print(f"preparing {episodes:,} episodes", flush=True)
    workspace, plain, synth_seconds = prepared(data, episodes)
    scratch = data / "scratch"
    scratch.mkdir(exist_ok=True)
    subjects = {"bare_duckdb": plain, "bare_polars": plain, "ingest": workspace}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
    for turn in range(rounds):
        for name, subject in subjects.items():
            found = child(name, subject, scratch)
            runs[name].append(found)
            print(
                f"  round {turn + 1}: {name:<12} {found['seconds']:8.2f} s {found['peak_mib']:8.0f} MiB",
                flush=True,
            )
    result: dict[str, Any] = {
        name: {
            "seconds": statistics.median(run["seconds"] for run in found),
            "peak_mib": max(run["peak_mib"] for run in found),
            "runs": found,
        }
        for name, found in runs.items()
    }
    result["synth"] = {"seconds": synth_seconds}
    result["plaintext_bytes"] = plain.stat().st_size
    for name in ("indicators", "publish", "nothing_new", "analyst"):
        result[name] = child(name, workspace, scratch)
        print(
            f"  {name:<21} {result[name]['seconds']:8.2f} s {result[name]['peak_mib']:8.0f} MiB", flush=True
        )
    shutil.rmtree(scratch)
    return result


def bars(results: dict[int, dict[str, Any]]) -> list[tuple[str, str, str, bool]]:
    """(what, measured, bar, met), from the medians."""
    rows = []
    for episodes, result in results.items():
        at = f"{episodes:,} episodes"
        for rival in ("bare_duckdb", "bare_polars"):
            ratio = result["ingest"]["seconds"] / result[rival]["seconds"]
            rows.append(
                (f"ingest / {rival.replace('_', ' ')}, {at}", f"{ratio:.2f} x", "<= 1.00 x", ratio <= 1.0)
            )
        peak = result["ingest"]["peak_mib"]
        rows.append((f"peak memory of ingest, {at}", f"{peak:,.0f} MiB", "< 2,048 MiB", peak < 2048))
        quiet = result["nothing_new"]["seconds"]
        rows.append((f"nothing new, {at}", f"{quiet:.2f} s", "<= 3 s", quiet <= 3))
        asked = 1000 * result["analyst"]["seconds"]
        rows.append((f"published table by provider, {at}", f"{asked:.1f} ms", "< 100 ms", asked < 100))
        computed = result["indicators"]["seconds"]
        rows.append((f"spells and indicators, {at}", f"{computed:.1f} s", "< 60 s", computed < 60))
        if episodes == 1_000_000:
            made = result["synth"]["seconds"]
            rows.append((f"synthetic extracts, {at}", f"{made:.1f} s", "< 60 s", made < 60))
    sizes = sorted(results)
    for small, large in itertools.pairwise(sizes):
        growth = results[large]["ingest"]["seconds"] / results[small]["ingest"]["seconds"]
        allowed = 1.1 * large / small
        rows.append(
            (
                f"ingest, {large / small:g} x the rows",
                f"{growth:.2f} x the time",
                f"<= {allowed:.1f} x",
                growth <= allowed,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--episodes", type=int, nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--data", type=Path, help="keep the extracts here for the next time")
    parser.add_argument("--results", type=Path, default=Path("bench-results"))
    given = parser.parse_args()
    data = given.data or Path(tempfile.mkdtemp(prefix="wardwatch-bench-"))
    try:
        results = {episodes: measure(data, episodes, given.rounds) for episodes in sorted(given.episodes)}
    finally:
        if given.data is None:
            shutil.rmtree(data)
    rows = bars(results)
    width = max(len(what) for what, *_ in rows)
    print(f"\n{'':<{width}}  {'measured':>16}  {'bar':>14}")
    for what, measured, bar, met in rows:
        print(f"{what:<{width}}  {measured:>16}  {bar:>14}  {'met' if met else 'NOT MET'}")
    given.results.mkdir(exist_ok=True)
    target = given.results / f"{datetime.now(UTC):%Y%m%d}.json"
    document = {
        "cores": os.cpu_count(),
        "results": {str(size): result for size, result in results.items()},
        "bars": [{"what": what, "measured": found, "bar": bar, "met": met} for what, found, bar, met in rows],
    }
    target.write_text(json.dumps(document, indent=1))
    print(f"\nwritten to {target}")


if __name__ == "__main__":
    main()
