"""Checking a file against its contract without landing it: the same reading and the same judge, and nothing kept."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from infra.containers import Member, open_deliveries
from infra.inbox import recognise
from infra.judge import judge
from infra.periods import parse_period
from infra.reading import PutBack, Reading, partyears, read_head, refuse_forbidden
from transforms.profile import profile_rules
from transforms.records import CHUNK_BYTES, sniff_dialect


@dataclass(frozen=True)
class CheckResult:
    """What a file was found to be. ``profile``: one row per rule, see :data:`transforms.profile.PROFILE_SCHEMA`."""

    dataset: str
    contract: str
    period: str
    rows_in: int
    rows_kept: int
    columns: int
    critical: tuple[str, ...]
    warnings: tuple[str, ...]
    profile: pl.DataFrame
    says: dict[str, str]

    def to_document(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "contract": self.contract,
            "period": self.period,
            "rows_in": self.rows_in,
            "rows_kept": self.rows_kept,
            "columns": self.columns,
            "critical": list(self.critical),
            "warnings": list(self.warnings),
            "rules": self.profile.to_dicts(),
        }

    def lines(self) -> list[str]:
        """For a person: what was found, and every rule over its allowance."""
        found = [
            f"{self.contract}, period {self.period}: {self.rows_in:,} records, {self.columns} columns; "
            f"{self.rows_in - self.rows_kept:,} would be quarantined"
        ]
        for row in self.profile.filter("over_allowance").iter_rows(named=True):
            found.append(
                f"  {row['severity']:<8} {row['rule_id']}: {row['failures']:,} of {row['rows']:,} "
                f"({row['failure_share']:.2%}, allowed {row['allow']:.2%}): {self.says[row['rule_id']]}"
            )
        verdict = "would be refused" if self.critical else "would be taken"
        found.append(f"  {verdict}: {len(self.critical)} critical, {len(self.warnings)} warnings")
        return found


def check_file(
    path: Path,
    identities: Sequence[str] = (),
    openpgp_keys: Sequence[bytes] = (),
    *,
    dataset: str | None = None,
    period: str | None = None,
) -> list[CheckResult]:
    """Judge every data file in ``path``, with the inbox keys for encrypted ones.

    Raises what landing and reading raise.
    """
    return [_check(member, dataset, period) for member in open_deliveries(path, identities, openpgp_keys)]


def _check(member: Member, dataset: str | None, period: str | None) -> CheckResult:
    head = read_head(member.stream)
    dialect = sniff_dialect(head)
    refuse_forbidden(dialect.header)
    found = recognise(member.name, dialect.header, partyears(head, dialect), dataset=dataset, period=period)
    reading = Reading(
        PutBack(head, member.stream), found.dataset, parse_period(found.period), "check", CHUNK_BYTES
    )
    # Nothing of this reading is kept, so its tokens are made with a key that nobody will have.
    for _result in reading.results(secrets.token_bytes(32)):
        pass
    profile = reading.profile(member.control.records if member.control is not None else None, None)
    verdict = judge(reading.contract, profile)
    return CheckResult(
        dataset=found.dataset,
        contract=reading.contract.id,
        period=found.period,
        rows_in=reading.totals.rows_in,
        rows_kept=reading.totals.rows_kept,
        columns=len(reading.match.columns),
        critical=verdict.critical,
        warnings=verdict.warnings,
        profile=profile,
        says={rule.id: rule.says for rule in profile_rules(reading.contract)},
    )
