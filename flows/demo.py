"""The demonstration: the commands a newcomer would type, run one after the other, and what came of them.

``python -m flows.demo FOLDER`` makes ``FOLDER/workspace``, ``FOLDER/extracts`` and ``FOLDER/receipt.json``, all anew
each time: a night over synthetic extracts, what stands out in them, and one exceptional case review to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra import publish
from infra.curated_query import query_published
from infra.officers import IDENTITY_FILE, SIGNING_FILE
from infra.provisioning import create_demo_hospital
from infra.review.case import ZONE, Case, cases
from infra.review.hospital_list import LEFT_OUT
from infra.workspace import Workspace
from schemas.errors import NotPermitted, WardwatchError, WorkspaceError

WARDWATCH = str(Path(sys.executable).parent / "wardwatch")
YEARS = 3
SEED = 7
WIDTH = 100
SHOWN = 10
NUMBERS_SHOWN = 3
# Of the diagnoses in which deaths are planted the most frequent: pneumonia, organism unspecified.
PNEUMONIA = "J18"
# A list has 100 numbers at most unless more are acknowledged, and fewer than five have to be acknowledged, too.
MANY_EPISODES, FEW_EPISODES = 300_000, 50_000

FINDINGS = """
    SELECT level, period, provider, stratum, a.numerator, a.expected, value, target, friendly_name, i.indicator,
        measure, per
    FROM alert AS a INNER JOIN indicator AS i ON a.indicator = i.indicator AND a.version = i.version
    ORDER BY
        -- Alarms of the latest year, then sums that signal, then what remains, the latest first.
        CASE
            WHEN level = 'alarm' AND period = (SELECT max(period) FROM alert WHERE level = 'alarm') THEN 0
            WHEN level = 'cusum signal' THEN 1
            ELSE 2
        END,
        -- Ratios of hospitals as a whole before their parts; other rates and counts after both.
        measure <> 'standardised_ratio' AND level <> 'cusum signal', stratum <> 'all' AND level = 'alert',
        period DESC, abs(z) DESC, provider, a.indicator, stratum
"""

REASONS_BY_OPTION = {
    "--trigger": "Deaths after admission with pneumonia far above expectation: alarm and cumulative sum.",
    "--why": "Only the notes at the hospital can say whether the care of these patients was lacking.",
    "--alternatives": "Aggregates by age, diagnosis and admission were looked at and do not explain it.",
    "--proportionate": "The hospital sees its own patients only, and only those who died after pneumonia.",
    "--objections": "No objections of patients are known here; the hospital honours those that it knows.",
}
REASONS = tuple(word for option in REASONS_BY_OPTION.items() for word in option)


# Commands --------------------------------------------------------------------------------------------------


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


def typed(*arguments: str) -> str:
    """A command as one would type it, an option never apart from its value; long ones go over several lines."""
    lines, option = ["$ wardwatch"], ""
    for word in (*map(shlex.quote, arguments), "--"):
        if option and word.startswith("--"):
            if len(lines[-1]) + len(option) + 3 > WIDTH and lines != ["$ wardwatch"]:
                lines.append("     ")
            lines[-1] += f" {option}"
            option = ""
        option = f"{option} {word}" if option else word
    return " \\\n".join(lines)


def run(*arguments: str, may_end_with: int = 0) -> int:
    """Run one command of Wardwatch, shown as it would be typed; stop the demonstration if it fails. Returns its exit
    code, 0 or ``may_end_with``."""
    print(f"\n{typed(*arguments)}", flush=True)
    code = subprocess.run([WARDWATCH, *arguments], check=False).returncode
    if code not in (0, may_end_with):
        sys.exit(code)
    return code


def say(text: str) -> None:
    print("\n" + textwrap.fill(" ".join(text.split()), WIDTH), flush=True)


def title(text: str) -> None:
    print(f"\n{'=' * WIDTH}\n{text}", flush=True)


def said(workspace: Path, sql: str) -> list[dict[str, Any]]:
    folder = publish.current(workspace / "published")
    if folder is None:
        raise WorkspaceError("nothing was published")
    return query_published(folder / publish.DATABASE, sql).to_dicts()


# What stands out -------------------------------------------------------------------------------------------


def line(finding: Mapping[str, Any]) -> str:
    """One finding as a row of the table."""
    name = re.split(r"[,(]| within | coded ", finding["friendly_name"])[0].strip()
    if finding["level"] == "cusum signal":
        name = "Deaths against expected"
    part = re.sub(r"diagnosis group: \d+ |\s*\(.*", "", finding["stratum"]).replace(": ", " ")
    what = name if part == "all" else f"{name}: {part}"
    if finding["expected"] is not None:
        found = f"{finding['numerator']:.0f} seen, {finding['expected']:.0f} expected"
    elif finding["measure"] == "proportion":
        found = f"{100 * finding['value']:.1f} %, usual {100 * finding['target']:.1f} %"
    else:
        found = f"{finding['value']:.0f}, usual {finding['target']:.0f} per {finding['per']:,.0f}"
    return (
        f"  {finding['level']:<13}{finding['period']:<8}{finding['provider']:<6}"
        f"{textwrap.shorten(what, 47, placeholder=' ...'):<48}{found}"
    )


def planted(truth: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return next(entry for entry in truth["planted"] if entry["kind"] == kind)


def findings_shown(findings: list[dict[str, Any]], truth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The first findings, each sum that signals once, and in any case that of the planted infections, if there."""
    latest: dict[tuple[object, ...], dict[str, Any]] = {}
    for finding in findings:
        sums = finding["level"] == "cusum signal"
        what = (finding["indicator"], finding["provider"], finding["stratum"], sums or finding["period"])
        latest.setdefault(what, finding)
    findings = list(latest.values())
    provider = planted(truth, "high_puerperal_infection")["provider"]
    infection = [
        finding
        for finding in findings
        if finding["provider"] == provider and finding["indicator"].startswith("puerperal_infection")
    ][:1]
    shown = findings[:SHOWN]
    return shown if not infection or infection[0] in shown else [*shown[:-1], *infection]


def tell(folder: Path, seconds: float, truth: Mapping[str, Any]) -> None:
    """What came of the night, in plain words."""
    workspace = folder / "workspace"
    findings = said(workspace, FINDINGS)
    late = [
        row["provider"] for row in said(workspace, "SELECT DISTINCT provider FROM late_provider ORDER BY 1")
    ]
    (broken,) = said(
        workspace, "SELECT sum(rows_quarantined)::BIGINT AS rows FROM delivery WHERE status = 'current'"
    )
    title(
        f"The night took {seconds:.0f} s. What stands out, as variation to be asked about, never as a verdict:\n"
    )
    if findings:
        print(f"  {'level':<13}{'period':<8}{'where':<6}{'what':<48}found")
    else:
        print("  no hospital is beyond its limits")
    shown = findings_shown(findings, truth)
    for finding in shown:
        print(line(finding))
    if len(findings) > len(shown):
        print(f"  and {len(findings) - len(shown)} more rows in the table alert")
    print(f"\n  missing from the latest delivery: {', '.join(late) or 'nobody'}")
    print(f"  records left out because they could not be read: {broken['rows']:,}")
    print("\nThe data are synthetic. What had been planted in them:\n")
    for entry in truth["planted"]:
        text = f"{entry['provider']}  {entry['says']}"
        print(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent=" " * 7))
    say("Many rates are not adjusted for who the patients are, so other hospitals may stand out, too.")


# The case review -------------------------------------------------------------------------------------------


def review(folder: Path, episodes: int, truth: Mapping[str, Any]) -> Case | None:
    """One case review from the request to the receipt, by the demonstration's roles; None if the extracts are too
    small or too large for one."""
    workspace = Workspace.open(folder / "workspace")
    provider = planted(truth, "high_mortality")["provider"]
    year = int(truth["made_with"]["last_financial_year"])
    title(
        f"Only {provider} itself can look into its notes. An exceptional case review gives it its own numbers."
    )
    create_demo_hospital(workspace, provider, datetime.now(UTC))
    keys = workspace.zone("officers") / f"hospital-{provider}"
    say(
        f"{provider} has made a key of its own, and the information asset owner and the Guardian enrolled it."
    )

    say("1. An analyst asks, and says why nothing less will do.")
    refused = run(
        "review", "request", "--hospital", provider, "--cohort", "deaths_within_30_days", "--diagnosis", PNEUMONIA,
        "--from", f"{year}-04-01", "--to", f"{year + 1}-03-31", "--gateway", "s77_3_a",
        *REASONS,
        *(["--acknowledge-many"] if episodes > MANY_EPISODES else []),
        *(["--acknowledge-few"] if episodes < FEW_EPISODES else []),
        may_end_with=NotPermitted.exit_code,
    )  # fmt: skip
    if refused:
        say("So there is no review in this demonstration. With 200,000 episodes there is one.")
        return None
    (case,) = cases(workspace.zone(ZONE))

    say(
        """2. Two officers decide, each alone. With the signature each releases half of the keys of this hospital's
        numbers; one half opens nothing."""
    )
    for role in ("caldicott_guardian", "siro"):
        run("review", "approve", case.case, "--as", role)

    say(
        "3. With both halves, and only once, the pipeline opens these numbers and seals them to the hospital."
    )
    run("review", "issue", case.case)
    record = case.issue_record()
    if record is None:
        raise WorkspaceError("nothing was issued")
    sealed = workspace.zone("outbox") / record.document.file
    for reason, count in record.document.left_out.items():
        print(f"  left out: {count:>3}  {LEFT_OUT[reason]}")
    if not record.document.left_out:
        say(
            """Nothing had to be left out. A number that another hospital issued, or that looks like an NHS number,
            a postcode or a date, would have been; it would be counted here."""
        )

    say(
        f"""4. The file goes to {provider}, where its own key opens it. Nobody here has that key. (In a demonstration
        it lies in the workspace, and the numbers are made up.)"""
    )
    receipt = folder / "receipt.json"
    opening = (
        "review", "open", str(sealed), "--key", str(keys / IDENTITY_FILE),
        "--receipt", str(receipt), "--signing-key", str(keys / SIGNING_FILE),
    )  # fmt: skip
    print(f"\n{typed(*opening)}", flush=True)
    opened = subprocess.run([WARDWATCH, *opening], stdout=subprocess.PIPE, text=True, check=False)
    if opened.returncode:
        sys.exit(opened.returncode)
    numbers = opened.stdout.splitlines()
    print()
    print("\n".join(numbers[:NUMBERS_SHOWN]))
    if len(numbers) > NUMBERS_SHOWN:
        print(f"... and {len(numbers) - NUMBERS_SHOWN} more, for {provider} alone to read")

    say("5. The hospital's signed receipt closes the case.")
    run("review", "receipt", case.case, "--file", str(receipt))
    return case


# The end ---------------------------------------------------------------------------------------------------


def where_to_look(folder: Path, case: Case | None) -> None:
    current = folder / "workspace" / "published" / "current"
    title("Where to look\n")
    print(f"Published database  {current / publish.DATABASE}")
    for page in sorted(current.glob("*.html")):
        print(f"Report              {page}")
    wardwatch = os.path.relpath(WARDWATCH)
    print(
        f"""
What to try next:
  export WARDWATCH_WORKSPACE={os.path.relpath(folder / "workspace")}
  {wardwatch} nightly            # a second night does nothing and says so
  {wardwatch} status
  {wardwatch} query "SELECT provider, value, band FROM indicator_value_latest LIMIT 5"
  {wardwatch} vault status       # what the locked vault holds, without opening it
  {wardwatch} release show       # what the public would see"""
    )
    if case is not None:
        print(
            f"""\
  {wardwatch} review show {case.case}      # the page that both officers decided by
  {wardwatch} review issue {case.case}     # refused: approvals work once
  {wardwatch} audit log --case {case.case} # who did what, when and why"""
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
        truth = json.loads((extracts / "truth.json").read_text(encoding="utf-8"))
        print("\nthe sender drops the encrypted files into the inbox")
        for path in sorted(extracts.glob("*.age")):
            shutil.copyfile(path, workspace / "inbox" / path.name)
        # Files that changed within the last seconds may still be arriving.
        time.sleep(3)
        began = time.monotonic()
        run("nightly")
        tell(given.folder, time.monotonic() - began, truth)
        where_to_look(given.folder, review(given.folder, given.episodes, truth))
    except WardwatchError as error:
        sys.exit(f"demo: {error}")


if __name__ == "__main__":
    main()
