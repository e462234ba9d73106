"""``python -m tests.benchmarks``: prints a table and writes ``bench-results/<day>.json``.

Contestants take turns, so that a slow minute of the machine falls on all of them, and medians are compared. The
bars are those of the design, section 10. On a machine that others use as well, look at the processor seconds too.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.deliveries import Prepared, prepared

ROUNDS = 3
# The larger one makes a little over five million spells, the size at which the whole set of indicators has its bar.
SIZES = [1_000_000, 5_800_000]
QUICK = [200_000]
SPELLS_OF_THE_BAR = 5_000_000
MODEL_SPELLS = [1_000_000, 3_000_000, 10_000_000]
# Below it most patterns are single records, and there is less to gain.
SPELLS_OF_THE_MODELS = 3_000_000
RIVALS = ("bare_duckdb", "bare_polars")


def child(name: str, subject: Path, scratch: Path) -> dict[str, float]:
    """One run of a contestant in a fresh process."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.contestants", name, str(subject), str(scratch)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(ended.stdout.strip().splitlines()[-1])
    return found


def measure(made: Prepared, scratch: Path, rounds: int) -> dict[str, Any]:
    """All contestants at one size."""
    subjects = {"bare_duckdb": made.plain, "bare_polars": made.plain, "ingest": made.workspace}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
    for turn in range(rounds):
        for name, subject in subjects.items():
            found = child(name, subject, scratch)
            runs[name].append(found)
            tell(f"round {turn + 1}: {name}", found)
    result: dict[str, Any] = {
        name: {
            "seconds": statistics.median(run["seconds"] for run in found),
            "processor_seconds": statistics.median(run["processor_seconds"] for run in found),
            "peak_mib": max(run["peak_mib"] for run in found),
            "runs": found,
        }
        for name, found in runs.items()
    }
    result["plaintext_bytes"] = made.plain.stat().st_size
    result["load_average"] = os.getloadavg()
    made.bring_deaths()
    for name in ("night", "indicators", "nothing_new", "analyst"):
        result[name] = child(name, made.workspace, scratch)
        tell(name, result[name])
    result["indicators"] |= json.loads((scratch / "indicators.json").read_text())
    result["synth"] = {"seconds": made.synth_seconds}
    return result


def tell(what: str, found: dict[str, float]) -> None:
    print(
        f"  {what:<22} {found['seconds']:8.2f} s {found['processor_seconds']:8.2f} s of processors "
        f"{found['peak_mib']:8.0f} MiB",
        flush=True,
    )


def bars(results: dict[int, dict[str, Any]]) -> list[tuple[str, str, str, bool | None]]:
    """(what, measured, bar, met), from the medians; without a bar ``met`` is None."""
    rows: list[tuple[str, str, str, bool | None]] = []
    for episodes, result in results.items():
        at = f"{episodes:,} episodes"
        ours = result["ingest"]
        for rival in RIVALS:
            ratio = ours["seconds"] / result[rival]["seconds"]
            name = rival.replace("_", " ")
            rows.append((f"ingest / {name}, {at}", f"{ratio:.2f} x", "<= 1.00 x", ratio <= 1.0))
            ratio = ours["processor_seconds"] / result[rival]["processor_seconds"]
            rows.append((f"  the same in processor seconds, {at}", f"{ratio:.2f} x", "", None))
        peak = ours["peak_mib"]
        rows.append((f"peak memory of ingest, {at}", f"{peak:,.0f} MiB", "< 2,048 MiB", peak < 2048))
        quiet = result["nothing_new"]["seconds"]
        rows.append((f"nothing new, {at}", f"{quiet:.2f} s", "<= 3 s", quiet <= 3))
        asked = 1000 * result["analyst"]["seconds"]
        rows.append((f"published table by provider, {at}", f"{asked:.1f} ms", "< 100 ms", asked < 100))
        rows += set_bars(result["indicators"])
        if episodes == 1_000_000:
            made = result["synth"]["seconds"]
            rows.append((f"synthetic extracts, {at}", f"{made:.1f} s", "< 60 s", made < 60))
    for small, large in itertools.pairwise(sorted(results)):
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


def set_bars(found: dict[str, Any]) -> list[tuple[str, str, str, bool | None]]:
    """The rows of spells, linkage, all indicators, models and charts together; bars from five million spells on."""
    what = f"all {found['indicators']} indicators, {found['spells']:,} spells"
    seconds, peak = found["seconds"], found["peak_mib"]
    if found["spells"] < SPELLS_OF_THE_BAR:
        return [
            (what, f"{seconds:.1f} s", "", None),
            (f"  peak memory, {what}", f"{peak:,.0f} MiB", "", None),
        ]
    return [
        (what, f"{seconds:.1f} s", "< 60 s", seconds < 60),
        (f"  peak memory, {what}", f"{peak:,.0f} MiB", "<= 4,096 MiB", peak <= 4096),
        ("  the same in processor seconds", f"{found['processor_seconds']:.1f} s", "", None),
    ]


def model_bars(models: list[dict[str, Any]]) -> list[tuple[str, str, str, bool | None]]:
    """The rows of the models at each size."""
    rows: list[tuple[str, str, str, bool | None]] = []
    for found in models:
        at = f"{found['spells']:,} spells"
        times, apart = found["times_as_fast"], found["largest_difference"]
        measured = f"{times:.1f} x as fast"
        if found["spells"] >= SPELLS_OF_THE_MODELS:
            rows.append((f"models on patterns / on records, {at}", measured, ">= 20 x", times >= 20))
        else:
            rows.append((f"models on patterns / on records, {at}", measured, "", None))
        rows.append(
            (
                f"  in processor seconds, {at}",
                f"{found['times_as_fast_in_processor_seconds']:.1f} x",
                "",
                None,
            )
        )
        same = found["times_as_fast_by_the_same_method"]
        rows.append((f"  if records are fitted by the same method, {at}", f"{same:.1f} x", "", None))
        rows.append(("  largest difference of a coefficient", f"{apart:.0e}", "<= 1e-08", apart <= 1e-8))
    return rows


def recovery_bars(found: dict[str, Any]) -> list[tuple[str, str, str, bool | None]]:
    """The rows of the world that is known: three years, a million covered spells in the one reported."""
    far, typical = found["in_standard_deviations"], found["typical_difference"]
    apart = found["largest_difference_of_a_risk"]
    return [
        (
            f"expected deaths of {found['hospitals']} hospitals, {found['covered_spells_reported']:,} spells",
            f"{typical:.1%} off",
            "",
            None,
        ),
        ("  the farthest, in standard deviations of its deaths", f"{far:.2f}", "< 1", far < 1),
        (
            "  the planted outlier is an alarm, others",
            f"{'yes' if found['planted'] else 'no'}, {found['others']}",
            "yes, 0",
            found["planted"] and not found["others"],
        ),
        ("  risks, against another optimiser", f"{apart:.0e}", "<= 1e-06", apart <= 1e-6),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--episodes", type=int, nargs="+", help=f"default: {SIZES}")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK[0]:,} episodes only")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--model-spells", type=int, nargs="+", default=MODEL_SPELLS)
    parser.add_argument("--data", type=Path, help="keep the extracts here for the next time")
    parser.add_argument("--results", type=Path, default=Path("bench-results"))
    given = parser.parse_args()
    sizes = sorted(given.episodes or (QUICK if given.quick else SIZES))
    data = given.data or Path(tempfile.mkdtemp(prefix="wardwatch-bench-"))
    scratch = data / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    results: dict[int, dict[str, Any]] = {}
    models: list[dict[str, Any]] = []
    recovered: dict[str, Any] = {}
    case_list: dict[str, Any] = {}
    try:
        for episodes in sizes:
            print(f"{episodes:,} episodes", flush=True)
            results[episodes] = measure(prepared(data, episodes), scratch, given.rounds)
        if not given.quick:
            print("models of all diagnosis groups", flush=True)
            for spells in sorted(given.model_spells):
                (scratch / "models.json").write_text(json.dumps({"spells": spells}))
                tell(f"{spells:,} spells", child("models", data, scratch))
                models.append(json.loads((scratch / "models.json").read_text()))
            print("expected deaths of a known world, three years", flush=True)
            tell("recovery, all of it", child("recovery", data, scratch))
            recovered = json.loads((scratch / "recovery.json").read_text())
            print("a case list out of 20 million records", flush=True)
            tell("case list, all of it", child("case_list", data, scratch))
            case_list = json.loads((scratch / "case_list.json").read_text())
    finally:
        shutil.rmtree(scratch if given.data is not None else data)
    rows = bars(results)
    rows += model_bars(models)
    if recovered:
        rows += recovery_bars(recovered)
    if case_list:
        passed = case_list["seconds"]
        rows.append(("list after the second approval", f"{passed:.1f} s", "<= 10 s", passed <= 10))
    width = max(len(what) for what, *_ in rows)
    print(f"\n{'':<{width}}  {'measured':>16}  {'bar':>14}")
    for what, measured, bar, met in rows:
        verdict = "" if met is None else "met" if met else "NOT MET"
        print(f"{what:<{width}}  {measured:>16}  {bar:>14}  {verdict}")
    print("\nGreat Expectations is imported before the clock starts: once per process, not per delivery.")
    given.results.mkdir(exist_ok=True)
    target = given.results / f"{datetime.now(UTC):%Y%m%d}.json"
    document = {
        "cores": os.cpu_count(),
        "results": {str(size): result for size, result in results.items()},
        "models": models,
        "recovery": recovered,
        "case_list": case_list,
        "bars": [{"what": what, "measured": found, "bar": bar, "met": met} for what, found, bar, met in rows],
    }
    target.write_text(json.dumps(document, indent=1))
    print(f"written to {target}")


if __name__ == "__main__":
    main()
