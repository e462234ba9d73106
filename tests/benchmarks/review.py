"""How long a case review takes from the second approval to the sealed list, out of a vault of millions of records.

Everything is real but for where the many records come from. A small synthetic year goes through the whole pipeline;
while its vault is written, :class:`LargeVault` hands the real writer millions of generated records of 150 hospitals as
well, so that they lie in the same encrypted parts, under the same keys, shares and signed manifest, and the delivery
row of the lake names that manifest. Their numbers are random, hence compress less than real ones. Request, both
approvals and the issue then run as always; the issue is a process of its own, and its start counts.

What this does not show: the lake itself is small. The issue reads only its delivery rows, as long as the lake is what
it was; the request, which builds all spells, takes longer the larger the lake is, and is not measured against the bar.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl

from infra.lake import reading
from infra.vault import ISSUER, RECORD_KEY, VaultWriter
from infra.workspace import Workspace

RECORDS = 20_000_000
PATIENTS = 100
BAR_SECONDS = 10
HOSPITALS = 150
SMALL_EPISODES = 60_000
BLOCK = 1_000_000
YEAR = (date(2022, 4, 1), date(2023, 3, 31))
LISTED = "local_patient_identifier"


def further_records(columns: tuple[str, ...], count: int, recipient: str) -> Iterator[pl.DataFrame]:
    """Generated vault frames with ``columns``, ``count`` rows together. Of every block the recipient has three times
    the share of the other hospitals."""
    rng = np.random.default_rng(23)
    codes = (
        [recipient] * 3 + [f"Y{number:02d}" for number in range(1, 100)] + [f"X{n:02d}" for n in range(51)]
    )
    codes = codes[: HOSPITALS + 2]
    for begin in range(0, count, BLOCK):
        rows = min(BLOCK, count - begin)
        values = {
            RECORD_KEY: pl.Series(np.arange(begin, begin + rows, dtype=np.int64) + 9 * 10**17).cast(
                pl.String
            ),
            ISSUER: pl.Series(codes)[rng.integers(0, len(codes), rows)],
        }
        for column in columns[2:]:
            digits = pl.Series(rng.integers(10**9, 10**10, rows)).cast(pl.String)
            empty = column.startswith(("MOTDOB", "DOBBABY"))
            values[column] = pl.Series([None] * rows, dtype=pl.String) if empty else digits
        yield pl.DataFrame(values).select(columns)


class LargeVault(VaultWriter):
    """The real writer, which is given further records before it writes what waits."""

    further = 0
    recipient = ""

    def write_waiting(self) -> None:
        count, self.further = self.further, 0
        if self._columns is not None:
            for frame in further_records(self._columns, count, self.recipient):
                self.add(frame)
        super().write_waiting()


def _prepare(folder: Path, records: int) -> tuple[Workspace, str]:
    """A workspace whose vault holds ``records``, and the hospital with the most deaths, which is enrolled."""
    from tests.support import reviews, workspaces

    workspace = workspaces.make_workspace(folder / "workspace")
    extracts = workspaces.make_extracts(
        folder / "extracts", workspaces.recipient(workspace), episodes=SMALL_EPISODES, hospitals=6, years=1
    )
    recipient = str(extracts.truth["planted"][0]["provider"])
    workspaces.drop(workspace, extracts.named("HES_APC_202212"))
    large = type("Vault", (LargeVault,), {"further": records, "recipient": recipient})
    with patch("infra.ingest.VaultWriter", large):
        reviews.quick_night(workspace)
    reviews.enrol_hospital(
        workspace, recipient, folder / reviews.HOSPITAL_FOLDER / recipient, workspaces.EVENING
    )
    return workspace, recipient


def _until(workspace: Workspace, recipient: str, patients: int) -> str:
    """The day by which so many patients have died in hospital at the recipient, or the end of the year."""
    from tests.support.workspaces import keyring

    with reading(
        workspace.zone("lake"),
        keyring(workspace).lake_metadata_key,
        memory_limit="400MB",
        temp_folder=workspace.zone("tmp"),
    ) as connection:
        row = connection.execute(
            "select disdate from (select distinct on (person_token) person_token, disdate from lake.hes_apc "
            "where procodet = ? and dismeth = '4' and disdate between ? and ?) order by disdate limit 1 offset ?",
            [recipient, *YEAR, patients - 1],
        ).fetchone()
    return (row[0] if row is not None else YEAR[1]).isoformat()


def compare(
    records: int = RECORDS, patients: int = PATIENTS, folder: Path | None = None
) -> dict[str, float | int]:
    """Time one review of about ``patients`` out of ``records``. Needs 2 GB of disk per 20 million, and removes it.

    Returns records, patients, listed, vault_bytes, making_seconds, request_seconds, approval_seconds (of both), and
    ``seconds``: from the second approval to the list in the outbox, to be held against ``BAR_SECONDS``.
    """
    from tests.support.reviews import Desk

    base = folder or Path(tempfile.mkdtemp(prefix="wardwatch-bench-review-"))
    base.mkdir(parents=True, exist_ok=True)
    try:
        began = time.perf_counter()
        workspace, recipient = _prepare(base, records)
        made = time.perf_counter() - began
        vault = sum(path.stat().st_size for path in workspace.zone("vault").rglob("*") if path.is_file())
        desk = Desk(workspace)
        began = time.perf_counter()
        request = desk.ask(
            recipient=recipient,
            parameters={
                "provider": recipient,
                "from_date": YEAR[0].isoformat(),
                "to_date": _until(workspace, recipient, patients),
            },
            acknowledge_many=True,
            acknowledge_few=True,
        )
        asked = time.perf_counter() - began
        began = time.perf_counter()
        desk.approve(request)
        approved = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.review", "--issue", str(workspace.root)],
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        seconds = time.perf_counter() - approved
        record = desk.case(request).issue_record()
        if record is None or not desk.outbox:
            raise RuntimeError("nothing was issued")
        return {
            "records": records,
            "patients": request.document.cohort.patients,
            "listed": record.document.listed,
            "vault_bytes": vault,
            "making_seconds": made,
            "request_seconds": asked,
            "approval_seconds": approved - began,
            "seconds": seconds,
        }
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _issue(workspace: Path) -> None:
    """The measured process."""
    from tests.support.reviews import Desk

    desk = Desk(Workspace.open(workspace))
    desk.issue(desk.asked)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.review", description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--patients", type=int, default=PATIENTS)
    parser.add_argument("--issue", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.issue is not None:
        _issue(given.issue)
        return
    found: dict[str, Any] = {**compare(given.records, given.patients), "load_average": os.getloadavg()}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
