"""The demonstration: the commands a newcomer would type, run one after the other, and what came of them.

``python -m flows.demo FOLDER`` makes ``FOLDER/workspace`` and ``FOLDER/extracts``, both anew each time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from infra import publish
from infra.curated_query import query_published
from infra.workspace import Workspace
from schemas.errors import WardwatchError, WorkspaceError

WARDWATCH = str(Path(sys.executable).parent / "wardwatch")
YEARS = 3
SEED = 7
SHOWN = 8


def make_room(folder: Path) -> None:
    """Remove an earlier demonstration; refuse to touch anything else."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    workspace = folder / "workspace"
    if not workspace.is_dir() or not Workspace.open(workspace).settings.agreement.demo:
        raise WorkspaceError(
            "the folder for the demonstration holds something else", next_step="name another folder"
        )
    shutil.rmtree(folder)


def run(*arguments: str) -> None:
    """Run one command of Wardwatch, shown as it would be typed; stop the demonstration if it fails."""
    print(f"\n$ wardwatch {' '.join(arguments)}", flush=True)
    ended = subprocess.run([WARDWATCH, *arguments], check=False)
    if ended.returncode:
        sys.exit(ended.returncode)


def said(workspace: Path, sql: str) -> list[dict[str, Any]]:
    folder = publish.current(workspace / "published")
    if folder is None:
        raise WorkspaceError("nothing was published")
    return query_published(folder / publish.DATABASE, sql).to_dicts()


def tell(folder: Path, seconds: float) -> None:
    """What came of it, in plain words."""
    workspace = folder / "workspace"
    truth = json.loads((folder / "extracts" / "truth.json").read_text(encoding="utf-8"))
    findings = said(workspace, "SELECT level, sentence FROM alert ORDER BY abs(z) DESC")
    late = said(workspace, "SELECT DISTINCT provider FROM late_provider ORDER BY 1")
    current = workspace / "published" / "current"
    print(
        f"\n{'=' * 100}\nThe night took {seconds:.0f} s. What stands out, as variation to be asked about:\n"
    )
    for finding in findings[:SHOWN]:
        print(f"  {finding['level']:<6} {finding['sentence']}")
    if len(findings) > SHOWN:
        print(f"  and {len(findings) - SHOWN} more in the report")
    if not findings:
        print("  no hospital is beyond its limits")
    if late:
        print(f"\n  missing from the latest delivery: {', '.join(row['provider'] for row in late)}")
    print("\nWhat had been planted in the synthetic data:\n")
    for planted in truth["planted"]:
        print(f"  {planted['provider']}: {planted['says']}")
    print(
        "\nCrude rates are not adjusted for who the patients are, so other hospitals may stand out too, and a\n"
        "planted infection rate shows only in an indicator of infections."
    )
    print(f"\nPublished database  {current / publish.DATABASE}")
    for page in sorted(current.glob("*.html")):
        print(f"Report              {page}")
    shown = os.path.relpath(workspace)
    print(
        f"""
What to try next:
  export WARDWATCH_WORKSPACE={shown}
  {os.path.relpath(WARDWATCH)} nightly            # a second night does nothing and says so
  {os.path.relpath(WARDWATCH)} status
  {os.path.relpath(WARDWATCH)} query "SELECT provider, value, band FROM indicator_value_latest LIMIT 5"
  {os.path.relpath(WARDWATCH)} vault status       # what the locked vault holds, without opening it
  {os.path.relpath(WARDWATCH)} release show       # what the public would see"""
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="The demonstration of Wardwatch.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--episodes", type=int, default=200_000)
    parser.add_argument("--hospitals", type=int, default=24)
    given = parser.parse_args()
    try:
        make_room(given.folder)
        given.folder.mkdir(parents=True, exist_ok=True)
        workspace, extracts = given.folder / "workspace", given.folder / "extracts"
        os.environ["WARDWATCH_WORKSPACE"] = str(workspace)
        print(f"WARDWATCH_WORKSPACE={workspace}")
        run("init")
        run(
            "synth", str(extracts), "--episodes", str(given.episodes), "--hospitals", str(given.hospitals),
            "--years", str(YEARS), "--seed", str(SEED),
        )  # fmt: skip
        print("\nthe sender drops the encrypted files into the inbox")
        for path in sorted(extracts.glob("*.age")):
            shutil.copyfile(path, workspace / "inbox" / path.name)
        # Files that changed within the last seconds may still be arriving.
        time.sleep(3)
        began = time.monotonic()
        run("nightly")
        tell(given.folder, time.monotonic() - began)
    except WardwatchError as error:
        sys.exit(f"demo: {error}")


if __name__ == "__main__":
    main()
