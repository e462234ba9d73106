"""Recovery: do the mortality models find the expected deaths that the synthetic world was made with?

Three years of a million covered spells each are made, ingested and computed, and the expected deaths of every hospital
in the twelve months reported are held against the sum of the true risks in ``truth.json``. The models are fitted on
what happened, so chance and the planted hospital move all expected deaths by one share, which is taken out first.

The models are also fitted by another optimiser, scipy's on the likelihood of the same patterns, which shares neither
code nor method with the one in use.
"""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

EPISODES = 5_600_000  # a little over a million covered spells in each of the three years
HOSPITALS = 150
SEED = 17
LAST_YEAR = 2023
FILES = ("HES_APC_202199", "HES_APC_202299", "HES_APC_202312", "CIVIL_DEATHS")


def compare(folder: Path, episodes: int = EPISODES) -> dict[str, Any]:
    """Counts, seconds of the computation, and how far the expected deaths of hospitals are from the truth.

    ``largest_difference`` and ``typical_difference``: of a hospital's expected deaths from the true ones, as a share of
    them; ``in_standard_deviations``: the largest, in standard deviations of the hospital's own deaths. ``planted``:
    whether the hospital with too many deaths is an alarm in its diagnosis group, ``others``: how many others are.
    """
    from infra.computation import compute
    from infra.keyring import Keyring
    from infra.lake import committed_deliveries
    from infra.provisioning import provision
    from infra.workspace import Workspace

    root = folder / "recovery"
    shutil.rmtree(root, ignore_errors=True)
    workspace = provision(root / "workspace", datetime.now(UTC)).workspace
    truth = _ingested(workspace, root / "extracts", episodes)
    opened = Workspace.open(workspace.root)
    keyring = Keyring.open(opened.zone("keys"))
    rows = committed_deliveries(opened.zone("lake"), keyring.lake_metadata_key, opened.zone("tmp"))
    began = datetime.now(UTC)
    computed = compute(opened, rows, keyring, lambda _: None)
    seconds = (datetime.now(UTC) - began).total_seconds()
    values = computed.tables["indicator_value"].filter(pl.col("indicator") == "shmi")
    reported = values.filter(pl.col("period") == values["period"].max())
    found = _against_truth(reported.filter(pl.col("stratum") == "all"), truth["counts"][str(LAST_YEAR)])
    planted = next(entry for entry in truth["planted"] if entry["kind"] == "high_mortality")
    group = reported.filter(pl.col("stratum").str.starts_with(f"diagnosis group: {planted['shmi_group']} "))
    alarms = set(group.filter(pl.col("alert") == "alarm")["provider"])
    result = {
        "spells_of_three_years": computed.counts["spells"],
        "seconds": seconds,
        **found,
        "planted": planted["provider"] in alarms,
        "others": len(alarms - {planted["provider"]}),
    }
    shutil.rmtree(root)
    return {**result, **_another_fit()}


def _another_fit(spells: int = 1_000_000) -> dict[str, float]:
    """The same patterns fitted both ways, of the population that the benchmark of the models draws."""
    from schemas.shmi_reference import case_mix
    from tests.benchmarks.models import population
    from transforms.case_mix import patterns
    from transforms.mortality_model import fit_models

    mix = case_mix()
    counted = patterns(population(spells), mix)
    return by_another_optimiser(counted, fit_models(counted, mix))


def _ingested(workspace: Any, extracts: Path, episodes: int) -> dict[str, Any]:
    """A workspace after a night's ingest of three years; returns what the generator says of its world."""
    from infra.keyring import PublicKeys
    from infra.night import begin
    from infra.synthetic import generate

    recipient = PublicKeys.load(workspace.zone("keys")).recipient()
    truth = generate(
        extracts,
        episodes=episodes,
        hospitals=HOSPITALS,
        years=3,
        seed=SEED,
        recipient=recipient,
        last_financial_year=LAST_YEAR,
    )
    shutil.copy(extracts / "provider_reference.csv", workspace.root / "providers.csv")
    long_ago = (datetime.now(UTC) - timedelta(hours=1)).timestamp()
    for path in sorted(extracts.iterdir()):
        if any(part in path.name for part in FILES):
            target = workspace.zone("inbox") / path.name
            path.rename(target)
            os.utime(target, (long_ago, long_ago))
    shutil.rmtree(extracts)
    with begin(
        workspace,
        purpose="nightly_publication",
        person="benchmark",
        role="pipeline",
        clock=lambda: datetime.now(UTC),
    ) as night:
        with night.writing():
            night.land_inbox()
            night.ingest_new()
        if night.outcome.problems or len(night.outcome.ingested) < len(FILES):
            raise SystemExit("the three years were not all ingested")
    found: dict[str, Any] = truth
    return found


def _against_truth(values: pl.DataFrame, by_hospital: dict[str, dict[str, float]]) -> dict[str, Any]:
    true = np.array([by_hospital[code]["expected_deaths_ordinary"] for code in values["provider"]])
    expected = values["expected"].to_numpy()
    moved = true * values["numerator"].sum() / true.sum()
    share = np.abs(expected - moved) / moved
    return {
        "hospitals": values.height,
        "covered_spells_reported": int(values["denominator"].sum()),
        "deaths": int(values["numerator"].sum()),
        "largest_difference": float(share.max()),
        "typical_difference": float(np.median(share)),
        "in_standard_deviations": float((np.abs(expected - moved) / np.sqrt(moved)).max()),
    }


# Another optimiser -----------------------------------------------------------------------------------------


def by_another_optimiser(counted: pl.DataFrame, coefficients: pl.DataFrame) -> dict[str, float]:
    """The largest difference of a fitted risk, and of a group's expected deaths, between ``coefficients`` and a
    maximum of the same likelihood found by ``scipy.optimize`` (trust region with exact second derivatives).

    ``counted``: patterns (diagnosis_group, a level of every factor, spells, deaths).
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    from transforms.case_mix import GROUP
    from transforms.mortality_model import INTERCEPT

    largest, of_a_group, groups = 0.0, 0.0, 0
    for part in counted.partition_by(GROUP, maintain_order=True):
        own = coefficients.filter(pl.col(GROUP) == part[GROUP][0])
        estimated = own.filter((pl.col("role") == "estimated") & pl.col("merged_into").is_null())
        if estimated.height < 2:
            continue
        columns = [np.ones(part.height)]
        for name, level in estimated.filter(pl.col("factor") != INTERCEPT).select("factor", "level").rows():
            speaker = {
                row["level"]: row["merged_into"] or row["level"]
                for row in own.filter(pl.col("factor") == name).iter_rows(named=True)
            }
            spoken = part[name].cast(pl.String).replace_strict(speaker)
            columns.append((spoken == level).to_numpy().astype(np.float64))
        design = np.column_stack(columns)
        spells, deaths = part["spells"].to_numpy().astype(float), part["deaths"].to_numpy().astype(float)

        def loss(
            beta: Any, design: Any = design, spells: Any = spells, deaths: Any = deaths
        ) -> tuple[float, Any]:
            score = design @ beta
            value = float((spells * np.logaddexp(0, score) - deaths * score).sum())
            return value, design.T @ (spells * expit(score) - deaths)

        def curvature(beta: Any, design: Any = design, spells: Any = spells) -> Any:
            risk = expit(design @ beta)
            return (design * (spells * risk * (1 - risk))[:, None]).T @ design

        start = np.zeros(design.shape[1])
        start[0] = np.log(deaths.sum() / (spells.sum() - deaths.sum()))
        fitted = minimize(loss, start, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-7})
        risk = expit(design @ fitted.x)
        ours = expit(design @ estimated["coefficient"].to_numpy())
        largest = max(largest, float(np.abs(risk - ours).max()))
        of_a_group = max(of_a_group, abs(float((spells * (risk - ours)).sum())))
        groups += 1
    return {"groups": groups, "largest_difference_of_a_risk": largest, "of_expected_deaths": of_a_group}


def main() -> None:
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(Path(folder), int(sys.argv[1])), indent=1))


if __name__ == "__main__":
    main()
