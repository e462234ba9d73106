"""The contestants: each runs in a process of its own and prints one JSON line, ``{"seconds": ..., "peak_mib": ...}``.

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

os.environ.setdefault("POLARS_MAX_THREADS", "2")


def now() -> datetime:
    return datetime.now(UTC)


def bare_duckdb(plain: Path, scratch: Path) -> float:
    """Read the plaintext as text and write it as compressed Parquet: no types, no rules, no keys.

    The extracts have a few lines with too many or too few fields; both rivals are told to pass over them.
    """
    import duckdb

    connection = duckdb.connect(config={"threads": "2"})
    began = time.perf_counter()
    connection.execute(
        f"COPY (FROM read_csv('{plain}', all_varchar = true, ignore_errors = true)) TO '{scratch / 'bare.parquet'}' "
        "(FORMAT parquet, COMPRESSION zstd)"
    )
    return time.perf_counter() - began


def bare_polars(plain: Path, scratch: Path) -> float:
    """The same with Polars' streaming engine."""
    import polars as pl

    with plain.open("rb") as stream:
        separator = "|" if b"|" in stream.readline() else ","
    began = time.perf_counter()
    pl.scan_csv(plain, separator=separator, infer_schema=False, truncate_ragged_lines=True).sink_parquet(
        scratch / "bare.parquet"
    )
    return time.perf_counter() - began


def ingest(workspace: Path, scratch: Path) -> float:
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
            began = time.perf_counter()
            night.ingest_new()
            seconds = time.perf_counter() - began
        if night.outcome.problems or not night.outcome.ingested:
            raise SystemExit("the benchmark's delivery was not ingested")
    return seconds


def indicators(workspace: Path, scratch: Path) -> float:
    """Spells, linkage of deaths and every indicator over what is in the lake."""
    from infra.computation import compute
    from infra.keyring import Keyring
    from infra.lake import committed_deliveries
    from infra.workspace import Workspace

    opened = Workspace.open(workspace)
    keyring = Keyring.open(opened.zone("keys"))
    rows = committed_deliveries(opened.zone("lake"), keyring.lake_metadata_key, opened.zone("tmp"))
    began = time.perf_counter()
    compute(opened, rows, keyring, lambda _: None)
    return time.perf_counter() - began


def publish(workspace: Path, scratch: Path) -> float:
    """A whole night; what matters is that it publishes, for the two that follow."""
    from flows.nightly import run_night

    began = time.perf_counter()
    run_night(workspace, say=lambda _: None)
    return time.perf_counter() - began


def nothing_new(workspace: Path, scratch: Path) -> float:
    """A night with nothing to do, from the moment the flow starts."""
    from flows.nightly import run_night

    began = time.perf_counter()
    outcome = run_night(workspace, say=lambda _: None)
    seconds = time.perf_counter() - began
    if not outcome.nothing_new:
        raise SystemExit("there was something new")
    return seconds


def analyst(workspace: Path, scratch: Path) -> float:
    """A published table filtered by provider."""
    import duckdb

    database = workspace / "published" / "current" / "wardwatch.duckdb"
    with duckdb.connect(str(database), read_only=True) as connection:
        # The first parameter that DuckDB's client binds imports pandas, which is no part of the question.
        row = connection.execute(
            "SELECT max(provider) FROM indicator_value WHERE period <> $p", {"p": ""}
        ).fetchone()
        provider = row[0] if row else ""
        began = time.perf_counter()
        connection.execute("SELECT * FROM indicator_value WHERE provider = $p", {"p": provider}).fetchall()
        return time.perf_counter() - began


CONTESTANTS: dict[str, Callable[[Path, Path], float]] = {
    contestant.__name__: contestant
    for contestant in (bare_duckdb, bare_polars, ingest, indicators, publish, nothing_new, analyst)
}


def peak_mib() -> float:
    """Peak of resident memory since this process began. (``getrusage`` would count the parent's before the exec.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("the kernel does not tell the peak of memory")


def main() -> None:
    name, subject, scratch = sys.argv[1:]
    seconds = CONTESTANTS[name](Path(subject), Path(scratch))
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main()
