"""Delivery profile: one row per rule with what was counted, and the volumes beside; it holds no value of a
record.

The profile is what the judge sees and what is stored with a delivery. Rules of the contract come first, in
its order, then the volumes of :func:`volume_rules`, written as rules too so that they are judged the same
way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from schemas.contract import Contract, Rule
from schemas.errors import IntegrityError

PROFILE_SCHEMA: Final = {
    "rule_id": pl.String(),
    "severity": pl.String(),
    "level": pl.String(),
    "allow": pl.Float64(),
    "rows": pl.Int64(),
    "failures": pl.Int64(),
    "failure_share": pl.Float64(),
    "over_allowance": pl.Boolean(),
    "applicable": pl.Boolean(),
}
"""``rows``: rows the rule applied to; ``failure_share``: failures / rows, 0 where there are none."""

CONTROL_COUNT: Final = "control_count"
ROWS_SINCE_LAST: Final = "rows_since_last"
PROVIDERS_SINCE_LAST: Final = "providers_since_last"
REQUIRED_COLUMNS: Final = "required_columns"
READABLE_ROWS: Final = "readable_rows"
VOLUME_CHECK: Final = "volume"

TOLERATED_FALL_IN_ROWS: Final = 0.2
"""A cumulative delivery grows from month to month and the final one differs by a few per cent, so a fall by
more than a fifth means that something is missing. A starting point, not a standard."""
TOLERATED_BROKEN_ROWS: Final = 0.01
"""A line that cannot be divided into fields is quarantined. If one in a hundred cannot, the file is not this
layout."""
TOLERATED_MISSING_PROVIDERS: Final = 0.02
"""Of some 450 providers a handful merges or closes between two deliveries; more than that failed to
report."""


@dataclass(frozen=True)
class Volumes:
    """How much was delivered. ``None`` where there is nothing to compare with.

    ``rows``: lines in the file after the header; ``broken_rows``: those that cannot be divided into fields;
    ``control_rows``: the number its control file states; ``previous_rows``: of
    the delivery that this one replaces; ``previous_providers`` and ``missing_providers``: providers in that
    one, and those of them that this one lacks; ``required_columns`` and ``missing_columns``: columns.
    """

    rows: int
    broken_rows: int = 0
    control_rows: int | None = None
    previous_rows: int | None = None
    previous_providers: int | None = None
    missing_providers: int = 0
    required_columns: int = 0
    missing_columns: int = 0


def volume_rules(contract: Contract) -> tuple[Rule, ...]:
    """The rules on volumes that every dataset has, ids ``<DATASET>.VOLUME.<name>``."""
    prefix = f"{contract.dataset.upper()}.VOLUME"
    return (
        Rule(
            id=f"{prefix}.{READABLE_ROWS}",
            severity="critical",
            level="record",
            allow=TOLERATED_BROKEN_ROWS,
            check=VOLUME_CHECK,
            says="every line of the file has as many fields as its header",
        ),
        Rule(
            id=f"{prefix}.{CONTROL_COUNT}",
            severity="critical",
            check=VOLUME_CHECK,
            says="the file has as many records as its control file states",
        ),
        Rule(
            id=f"{prefix}.{REQUIRED_COLUMNS}",
            severity="critical",
            check=VOLUME_CHECK,
            says="every required column was delivered",
        ),
        Rule(
            id=f"{prefix}.{ROWS_SINCE_LAST}",
            severity="warning",
            allow=TOLERATED_FALL_IN_ROWS,
            check=VOLUME_CHECK,
            says="there are not many fewer records than in the delivery before",
        ),
        Rule(
            id=f"{prefix}.{PROVIDERS_SINCE_LAST}",
            severity="warning",
            allow=TOLERATED_MISSING_PROVIDERS,
            check=VOLUME_CHECK,
            says="the providers of the delivery before report again",
        ),
    )


def readable_rows_rule(contract: Contract) -> str:
    """Id of the rule that quarantines lines which cannot be divided into fields."""
    return f"{contract.dataset.upper()}.VOLUME.{READABLE_ROWS}"


def profile_rules(contract: Contract) -> tuple[Rule, ...]:
    """All rules that a profile of ``contract`` has a row for, in order."""
    return (*contract.rules, *volume_rules(contract))


def _volume_counts(volumes: Volumes) -> dict[str, tuple[int, int] | None]:
    """Name of the volume rule -> (rows, failures), None where it does not apply."""
    control: tuple[int, int] | None = None
    if volumes.control_rows is not None:
        # Without rows expected, any row delivered is one too many.
        control = (max(volumes.control_rows, 1), abs(volumes.rows - volumes.control_rows))
    fall: tuple[int, int] | None = None
    if volumes.previous_rows:
        fall = (volumes.previous_rows, max(0, volumes.previous_rows - volumes.rows))
    providers: tuple[int, int] | None = None
    if volumes.previous_providers:
        providers = (volumes.previous_providers, volumes.missing_providers)
    columns: tuple[int, int] | None = None
    if volumes.required_columns:
        columns = (volumes.required_columns, volumes.missing_columns)
    return {
        READABLE_ROWS: (volumes.rows, volumes.broken_rows) if volumes.rows else None,
        CONTROL_COUNT: control,
        ROWS_SINCE_LAST: fall,
        PROVIDERS_SINCE_LAST: providers,
        REQUIRED_COLUMNS: columns,
    }


def assemble_profile(
    contract: Contract, counts: pl.DataFrame, not_applicable: Collection[str], volumes: Volumes
) -> pl.DataFrame:
    """The profile of a delivery, :data:`PROFILE_SCHEMA`.

    ``counts``: rule_id, rows, failures of the whole delivery (chunks added up, and the whole-delivery rules).
    ``not_applicable``: rules whose columns were not delivered. Raises :class:`IntegrityError` when a rule has
    neither counts nor a reason to have none, or counts belong to no rule: then something was not measured.
    """
    counted: Mapping[str, tuple[int, int]] = {
        rule_id: (rows, failures)
        for rule_id, rows, failures in counts.select("rule_id", "rows", "failures").iter_rows()
    }
    volume = _volume_counts(volumes)
    known = {rule.id for rule in contract.rules}
    strangers = len(counted.keys() - known) + len(set(not_applicable) - known)
    unmeasured = known - counted.keys() - set(not_applicable)
    if strangers or unmeasured:
        raise IntegrityError(
            f"{contract.id}: {len(unmeasured)} rules not measured, {strangers} counts of no rule"
        )
    rows = []
    for rule in profile_rules(contract):
        found = volume[rule.id.rsplit(".", 1)[-1]] if rule.check == VOLUME_CHECK else counted.get(rule.id)
        applicable = found is not None and rule.id not in not_applicable
        considered, failures = found if found is not None and applicable else (0, 0)
        share = failures / considered if considered else 0.0
        rows.append(
            (
                rule.id,
                rule.severity,
                rule.level,
                rule.allow,
                considered,
                failures,
                share,
                share > rule.allow,
                applicable,
            )
        )
    return pl.DataFrame(rows, schema=PROFILE_SCHEMA, orient="row")
