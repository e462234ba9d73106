"""Judge: does a delivery pass? A Great Expectations suite, made from the contract, on the delivery's profile.

Great Expectations never sees a record. Its results can carry failing values, so it is given the profile only:
one row, one column per rule, in it the share of rows that broke the rule. A rule becomes the expectation that
this share is at most what the contract allows, with the rule's severity. One wide row with the metric
``column.max`` needs a third of the time of a row condition or a map expectation per rule.

A failed warning makes a validation unsuccessful too, so the gate is the highest severity that failed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Final

import polars as pl

from schemas.contract import Contract, Rule
from schemas.errors import IntegrityError
from transforms.profile import PROFILE_SCHEMA, profile_rules

RESULT_FORMAT: Final = {"result_format": "BASIC", "partial_unexpected_count": 0}
_SETTINGS: Final = {"GX_ANALYTICS_ENABLED": "false", "TQDM_DISABLE": "1"}


@dataclass(frozen=True)
class Verdict:
    """``passed``: no critical rule is over its allowance. ``critical``, ``warnings``: ids of the rules that
    are, in the contract's order. ``result``: the validation result as Great Expectations writes it to JSON;
    shares and rule ids, no values."""

    passed: bool
    critical: tuple[str, ...]
    warnings: tuple[str, ...]
    result: dict[str, Any] = dataclass_field(repr=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """No telemetry, no progress bars, no log lines of Great Expectations while inside."""
    before = {name: os.environ.get(name) for name in _SETTINGS}
    os.environ.update(_SETTINGS)
    logger = logging.getLogger("great_expectations")
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.CRITICAL)
    logger.propagate = False
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _suite(contract: Contract, rules: Sequence[Rule]) -> Any:
    import great_expectations as gx
    from great_expectations.expectations.core.expect_column_max_to_be_between import (
        ExpectColumnMaxToBeBetween,
    )
    from great_expectations.expectations.metadata_types import FailureSeverity

    return gx.ExpectationSuite(
        name=contract.id,
        expectations=[
            ExpectColumnMaxToBeBetween(
                column=rule.id,
                min_value=0.0,
                max_value=rule.allow,
                severity=FailureSeverity(rule.severity),
                description=rule.says,
                meta={"check": rule.check, "args": list(rule.args), "level": rule.level},
            )
            for rule in rules
        ],
        meta={"dataset": contract.dataset, "version": contract.version},
    )


def gx_suite(contract: Contract) -> Any:
    """The ``great_expectations.ExpectationSuite`` of ``contract``: one expectation per rule, volumes
    included.

    ``suite.to_json_dict()`` is its printable form."""
    with _quiet():
        return _suite(contract, profile_rules(contract))


def judge(contract: Contract, profile: pl.DataFrame) -> Verdict:
    """Judge ``profile`` (:data:`transforms.profile.PROFILE_SCHEMA`) by the suite of ``contract``.

    Rules that do not apply to the delivery have no expectation. Raises :class:`IntegrityError` when the frame
    is not a profile of this contract: nothing else may be shown to the validator.
    """
    rules = profile_rules(contract)
    _refuse_anything_else(contract, profile, [rule.id for rule in rules])
    shares = dict(profile.filter(pl.col("applicable")).select("rule_id", "failure_share").iter_rows())
    applicable = [rule for rule in rules if rule.id in shares]
    if not applicable:
        return Verdict(passed=True, critical=(), warnings=(), result={"results": []})
    failed, highest, result = _validate(contract, applicable, shares)
    verdict = Verdict(
        passed=highest != "critical",
        critical=tuple(rule.id for rule in applicable if rule.id in failed and rule.severity == "critical"),
        warnings=tuple(rule.id for rule in applicable if rule.id in failed and rule.severity == "warning"),
        result=result,
    )
    over = set(profile.filter(pl.col("over_allowance") & pl.col("applicable"))["rule_id"])
    if failed != over or verdict.passed != (not verdict.critical):
        raise IntegrityError(
            f"{contract.id}: the validator and the profile disagree about the rules that failed"
        )
    return verdict


def _refuse_anything_else(contract: Contract, profile: pl.DataFrame, rule_ids: Collection[str]) -> None:
    if dict(profile.schema) != PROFILE_SCHEMA or profile["rule_id"].to_list() != list(rule_ids):
        raise IntegrityError(
            f"{contract.id}: the judge was given something else than the profile of a delivery and refused it"
        )


def _validate(
    contract: Contract, rules: Sequence[Rule], shares: dict[str, float]
) -> tuple[set[str], str | None, dict[str, Any]]:
    """Ids of failed rules, the highest severity among them, and the JSON result, of one ephemeral run."""
    with _quiet():
        import great_expectations as gx
        import pandas as pd
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

        # The default ephemeral context makes a temporary folder for Data Docs, which nobody reads.
        settings = DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            progress_bars=ProgressBarsConfig(globally=False),
            analytics_enabled=False,
        )
        context = gx.get_context(mode="ephemeral", project_config=settings)
        frame = pd.DataFrame({rule.id: [shares[rule.id]] for rule in rules})
        batch = (
            context.data_sources.add_pandas("profile")
            .add_dataframe_asset("delivery")
            .add_batch_definition_whole_dataframe("whole")
            .get_batch(batch_parameters={"dataframe": frame})
        )
        found = batch.validate(_suite(contract, rules), result_format=RESULT_FORMAT)
        highest = found.get_max_severity_failure()
        result: dict[str, Any] = found.to_json_dict()
        result["meta"].pop("batch_markers", None)  # a load time: the same profile gives the same result
    if any(each.exception_info and _raised(each.exception_info) for each in found.results):
        raise IntegrityError(f"{contract.id}: the validator could not evaluate the profile")
    failed = {str(each.expectation_config.kwargs["column"]) for each in found.results if not each.success}
    return failed, None if highest is None else str(highest.value), result


def _raised(exception_info: Any) -> bool:
    """Great Expectations gives one such dictionary, or one per metric."""
    if "raised_exception" in exception_info:
        return bool(exception_info["raised_exception"])
    return any(bool(part.get("raised_exception")) for part in exception_info.values())
