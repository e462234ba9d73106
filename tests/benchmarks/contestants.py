"""The contestants: each runs in a process of its own and prints one JSON line: seconds, processor_seconds, peak_mib.

Import times are not counted, the peak of memory is that of the whole process. All use two threads.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("POLARS_MAX_THREADS", "2")
# As the command line sets it: small matrices are slower with more.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


class Passed(NamedTuple):
    """``seconds`` on the wall and of all processors together."""

    seconds: float
    processor_seconds: float


class Clock:
    """Started when it is made."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def passed(self) -> Passed:
        return Passed(time.perf_counter() - self._began[0], time.process_time() - self._began[1])


def now() -> datetime:
    return datetime.now(UTC)


def bare_duckdb(plain: Path, scratch: Path) -> Passed:
    """Read the plaintext as text and write it as compressed Parquet: no types, no rules, no keys."""
    import duckdb

    connection = duckdb.connect(config={"threads": "2"})
    began = Clock()
    connection.execute(
        f"COPY (FROM read_csv('{plain}', all_varchar = true)) TO '{scratch / 'bare.parquet'}' "
        "(FORMAT parquet, COMPRESSION zstd)"
    )
    return began.passed()


def bare_polars(plain: Path, scratch: Path) -> Passed:
    """The same with Polars' streaming engine."""
    import polars as pl

    with plain.open("rb") as stream:
        separator = "|" if b"|" in stream.readline() else ","
    began = Clock()
    pl.scan_csv(plain, separator=separator, infer_schema=False).sink_parquet(scratch / "bare.parquet")
    return began.passed()


def ingest(workspace: Path, scratch: Path) -> Passed:
    """Decrypt to commit: everything that happens to a landed delivery, Great Expectations' import excepted."""
    import great_expectations  # noqa: F401  (once per process, not per delivery)

    from infra.files import make_folder
    from infra.night import begin
    from infra.workspace import Workspace

    for zone in ("lake", "vault", "linkage"):
        shutil.rmtree(workspace / zone)
        make_folder(workspace / zone)
    opened = Workspace.open(workspace)
    with begin(
        opened,
        purpose="nightly_publication",
        person="benchmark",
        role="pipeline",
        clock=now,
        say=lambda _: None,
    ) as night:
        with night.writing():
            began = Clock()
            night.ingest_new()
            passed = began.passed()
        if night.outcome.problems or not night.outcome.ingested:
            raise SystemExit("the benchmark's delivery was not ingested")
    return passed


def indicators(workspace: Path, scratch: Path) -> Passed:
    """Spells, linkage of deaths, models, charts and every indicator over what is in the lake;
    ``scratch/indicators.json`` says how many there were."""
    from infra.computation import compute
    from infra.keyring import Keyring
    from infra.lake import committed_deliveries
    from infra.workspace import Workspace

    opened = Workspace.open(workspace)
    keyring = Keyring.open(opened.zone("keys"))
    rows = committed_deliveries(opened.zone("lake"), keyring.lake_metadata_key, opened.zone("tmp"))
    began = Clock()
    computed = compute(opened, rows, keyring, lambda _: None)
    passed = began.passed()
    counts = {"spells": computed.counts["spells"], "indicators": computed.tables["indicator"].height}
    (scratch / "indicators.json").write_text(json.dumps(counts))
    return passed


def night(workspace: Path, scratch: Path) -> Passed:
    """A whole night: what is in the inbox is landed and ingested, all is computed and published."""
    from flows.nightly import run_night

    began = Clock()
    run_night(workspace, say=lambda _: None)
    return began.passed()


def nothing_new(workspace: Path, scratch: Path) -> Passed:
    """A night with nothing to do, from the moment the flow starts."""
    from flows.nightly import run_night

    began = Clock()
    outcome = run_night(workspace, say=lambda _: None)
    passed = began.passed()
    if not outcome.nothing_new:
        raise SystemExit("there was something new")
    return passed


def analyst(workspace: Path, scratch: Path) -> Passed:
    """A published table filtered by provider."""
    import duckdb

    database = workspace / "published" / "current" / "wardwatch.duckdb"
    with duckdb.connect(str(database), read_only=True) as connection:
        # The first parameter that DuckDB's client binds imports pandas, which is no part of the question.
        row = connection.execute(
            "SELECT max(provider) FROM indicator_value WHERE period <> $p", {"p": ""}
        ).fetchone()
        provider = row[0] if row else ""
        began = Clock()
        connection.execute("SELECT * FROM indicator_value WHERE provider = $p", {"p": provider}).fetchall()
        return began.passed()


def models(workspace: Path, scratch: Path) -> Passed:
    """The models of all diagnosis groups on patterns, and on records; ``scratch/models.json`` says of how many spells,
    and afterwards how they compare."""
    from tests.benchmarks.models import compare

    began = Clock()
    spells = json.loads((scratch / "models.json").read_text())["spells"]
    (scratch / "models.json").write_text(json.dumps(compare(spells)))
    return began.passed()


def recovery(workspace: Path, scratch: Path) -> Passed:
    """Three years made, ingested and computed, held against the world they were made of; ``scratch/recovery.json``."""
    from tests.benchmarks.recovery import compare

    began = Clock()
    (scratch / "recovery.json").write_text(json.dumps(compare(scratch)))
    return began.passed()


def case_list(workspace: Path, scratch: Path) -> Passed:
    """From the second approval to the sealed list; ``scratch/case_list.json`` says how many seconds of it count."""
    from tests.benchmarks.review import compare

    began = Clock()
    (scratch / "case_list.json").write_text(json.dumps(compare(folder=scratch / "case_list")))
    return began.passed()


CONTESTANTS: dict[str, Callable[[Path, Path], Passed]] = {
    contestant.__name__: contestant
    for contestant in (
        bare_duckdb,
        bare_polars,
        ingest,
        night,
        indicators,
        nothing_new,
        analyst,
        models,
        recovery,
        case_list,
    )
}


def peak_mib() -> float:
    """Peak of resident memory since this process began. (``getrusage`` would count the parent's before the exec.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("the kernel does not tell the peak of memory")


def main() -> None:
    name, subject, scratch = sys.argv[1:]
    passed = CONTESTANTS[name](Path(subject), Path(scratch))
    print(json.dumps({**passed._asdict(), "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main()
