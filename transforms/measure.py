"""Measure: rows and failures per rule, chunk by chunk; adding the chunks gives the delivery.

Every rule of the contract becomes one Boolean expression (``transforms/checks.py``), compiled once per
delivery. Of a chunk leave: a count of rows that the rule applies to, a count of failures, and for rules of
level
``record`` the ordinals of the failing rows. A failing value never leaves the expression.

``unique`` and ``rows_at_least`` need the whole delivery: chunks give a 64-bit hash of the key per row, and
:func:`whole_delivery_counts` and :func:`later_duplicates` answer at the end. Two different keys share a hash
about once in 10^5 deliveries of 20 million records; the later record would then be quarantined as a
duplicate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import date
from typing import Final

import polars as pl

from schemas.check_names import WHOLE_DELIVERY_CHECKS
from schemas.contract import Contract, Rule
from schemas.errors import IntegrityError
from transforms.checks import (
    CHECK_FUNCTIONS,
    FAILS_WHEN_ABSENT,
    NHS_NUMBER_LENGTH,
    CheckContext,
    record_hash,
    sense,
    split_arguments,
    texts_without_nhs_number,
)
from transforms.typing_fields import TypedChunk, text_name, value_free, value_name

COUNTS_SCHEMA: Final = {"rule_id": pl.String(), "rows": pl.Int64(), "failures": pl.Int64()}
# Rules over several fields that ask as many of them as were delivered.
ANY_FIELD_WILL_DO: Final = frozenset({"any_of_not_null", "no_nhs_number"})
QUARANTINE_SCHEMA: Final = {"record_ordinal": pl.Int64(), "rule_id": pl.String()}


@dataclass(frozen=True)
class CompiledRule:
    """A rule with its expression. ``fields`` are the field names it reads, ``literals`` its other
    arguments."""

    rule: Rule
    fields: tuple[str, ...]
    literals: tuple[str, ...]
    expression: pl.Expr = dataclass_field(repr=False)

    @property
    def id(self) -> str:
        return self.rule.id

    @property
    def leaves_rows_out(self) -> bool:
        return self.rule.level == "record"


@dataclass(frozen=True)
class Measured:
    """What the rules say about one chunk.

    ``counts``: :data:`COUNTS_SCHEMA`, one row per rule in the order of the rules. ``keep``: Boolean per
    row, or
    ``None`` when every row stays. ``quarantine``: :data:`QUARANTINE_SCHEMA`. ``key_hashes``: id of each
    ``unique`` rule to UInt64 per row, null without a key and for rows that do not stay.
    """

    counts: pl.DataFrame
    keep: pl.Series | None
    quarantine: pl.DataFrame
    key_hashes: Mapping[str, pl.Series] = dataclass_field(repr=False)


@dataclass(frozen=True)
class RuleSet:
    """The compiled rules of a delivery.

    ``rules`` are answered chunk by chunk, ``whole`` after the last chunk; ``not_applicable`` lists the ids of
    rules whose columns were not delivered (or, for ``within_period``, that have no financial year).
    """

    rules: tuple[CompiledRule, ...]
    whole: tuple[CompiledRule, ...]
    not_applicable: tuple[str, ...]

    @property
    def fields(self) -> frozenset[str]:
        """Fields that must be typed for these rules."""
        return frozenset(name for rule in (*self.rules, *self.whole) for name in rule.fields)

    @value_free("measuring a chunk")
    def measure(
        self, typed: TypedChunk, ordinals: pl.Series, duplicates: Mapping[str, pl.Series] | None = None
    ) -> Measured:
        """Count rows and failures of ``typed``; ``ordinals`` (Int64) number its rows in the file.

        ``duplicates``: id of a ``unique`` rule of level record to the ordinals that it leaves out.
        """
        rows = typed.rows
        answers: dict[str, tuple[int, int]] = {}
        asked: list[CompiledRule] = []
        for rule in self.rules:
            answer = _answer_without_looking(rule, typed)
            if answer is None or (answer[1] > 0 and rule.leaves_rows_out):
                asked.append(rule)
            else:
                answers[rule.id] = answer
        hashes = {rule.id: rule for rule in self.whole if rule.rule.check == "unique"}
        masks = typed.frame.select(
            [_expression(rule, typed).alias(rule.id) for rule in (*asked, *hashes.values())]
        )
        if masks.width and masks.height != rows:
            raise IntegrityError("a rule gave another number of answers than there are rows")
        failing: list[tuple[str, pl.Series]] = []
        for rule in asked:
            mask = masks.get_column(rule.id)
            applied = rows - mask.null_count()
            failures = applied - int(mask.sum())
            answers[rule.id] = (applied, failures)
            if failures and rule.leaves_rows_out:
                failing.append((rule.id, ~mask.fill_null(True)))
        for rule_id, ordinal in (duplicates or {}).items():
            hit = ordinals.is_in(ordinal.cast(pl.Int64).implode())
            if hit.any():
                failing.append((rule_id, hit))
        keep: pl.Series | None = None
        parts = []
        for rule_id, failed in failing:
            keep = ~failed if keep is None else keep & ~failed
            left_out = ordinals.filter(failed)
            parts.append(
                pl.DataFrame(
                    {
                        "record_ordinal": left_out,
                        "rule_id": pl.Series([rule_id] * len(left_out), dtype=pl.String),
                    }
                )
            )
        quarantine = pl.concat(parts) if parts else pl.DataFrame(schema=QUARANTINE_SCHEMA)
        return Measured(
            counts=counts_frame((rule.id, *answers[rule.id]) for rule in self.rules),
            keep=keep,
            quarantine=quarantine,
            key_hashes={rule_id: _only_kept(masks.get_column(rule_id), keep) for rule_id in hashes},
        )


def _only_kept(hashes: pl.Series, keep: pl.Series | None) -> pl.Series:
    """Null for a row that is left out anyway: a good record is no duplicate of a broken one before it."""
    if keep is None:
        return hashes
    return pl.select(pl.when(keep).then(hashes)).to_series()


def _answer_without_looking(rule: CompiledRule, typed: TypedChunk) -> tuple[int, int] | None:
    """(rows, failures) where they follow from what typing has counted already, else None."""
    if rule.rule.check == "no_nhs_number" and not _long_texts(rule, typed):
        return typed.rows, 0
    if len(rule.fields) != 1:
        return None
    (name,) = rule.fields
    check = rule.rule.check
    if name in typed.absent:
        return (typed.rows, typed.rows) if check in FAILS_WHEN_ABSENT else (0, 0)
    if check == "typed" and name not in typed.unparsed:
        return typed.rows - typed.frame.get_column(value_name(name)).null_count(), 0
    # A text has at most as many characters as bytes, so a column of short texts needs no second look.
    if check == "max_length" and typed.longest_bytes.get(name, 2**32) <= int(rule.literals[0]):
        return typed.rows - typed.frame.get_column(text_name(name)).null_count(), 0
    return None


def _long_texts(rule: CompiledRule, typed: TypedChunk) -> list[str]:
    """The fields of ``rule`` with texts long enough for an NHS number: of a hundred codes mostly none."""
    return [name for name in rule.fields if typed.longest_bytes.get(name, 0) >= NHS_NUMBER_LENGTH]


def _expression(rule: CompiledRule, typed: TypedChunk) -> pl.Expr:
    if rule.rule.check == "no_nhs_number":
        return texts_without_nhs_number([pl.col(text_name(name)) for name in _long_texts(rule, typed)])
    return rule.expression


def counts_frame(rows: Iterable[tuple[str, int, int]]) -> pl.DataFrame:
    """(rule id, rows, failures) as a frame of :data:`COUNTS_SCHEMA`."""
    return pl.DataFrame(list(rows), schema=COUNTS_SCHEMA, orient="row")


def add_counts(counts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The counts of several chunks added up per rule, in the order of first appearance."""
    if not counts:
        return pl.DataFrame(schema=COUNTS_SCHEMA)
    return (
        pl.concat(counts)
        .group_by("rule_id", maintain_order=True)
        .agg(pl.col("rows").sum(), pl.col("failures").sum())
    )


def compile_rules(
    contract: Contract,
    delivered: Collection[str],
    period: tuple[date, date] | None,
    codes: Mapping[str, Collection[str]],
) -> RuleSet:
    """The rules of ``contract`` for a delivery with the fields ``delivered``.

    ``period``: first and last day of the financial year, ``None`` for a snapshot. ``codes``: code list to
    codes. The loader has already written the checks of each field out as rules. Raises
    :class:`ContractDefinitionError` for a rule that cannot be compiled.
    """
    context = CheckContext(codes=codes, period=period)
    by_name = {field.name: field for field in contract.fields}
    rules: list[CompiledRule] = []
    whole: list[CompiledRule] = []
    not_applicable: list[str] = []
    for rule in contract.rules:
        names, literals = split_arguments(rule.check, rule.args)
        for name in names:
            contract.field(name)
        there = tuple(name for name in names if name in delivered)
        enough = bool(there) if rule.check in ANY_FIELD_WILL_DO else len(there) == len(names)
        if not enough or (rule.check == "within_period" and period is None):
            not_applicable.append(rule.id)
            continue
        senses = [sense(by_name[name]) for name in there]
        if rule.check in WHOLE_DELIVERY_CHECKS:
            expression = record_hash(senses) if senses else pl.lit(None, dtype=pl.UInt64)
            whole.append(CompiledRule(rule, there, literals, expression))
        else:
            expression = CHECK_FUNCTIONS[rule.check](senses, literals, context)
            rules.append(CompiledRule(rule, there, literals, expression))
    return RuleSet(tuple(rules), tuple(whole), tuple(not_applicable))


# whole-delivery rules ---------------------------------------------------------------------------------


def whole_delivery_counts(
    rule_set: RuleSet, rows: int, key_hashes: Mapping[str, Sequence[pl.Series]]
) -> pl.DataFrame:
    """Counts of the rules that need the whole delivery.

    ``rows``: records of the delivery. ``key_hashes``: id of each ``unique`` rule to the hashes of all chunks.
    ``unique`` counts records with a key, and those that repeat an earlier one; ``rows_at_least`` counts one
    "row", the delivery, and fails it or not.
    """
    found: list[tuple[str, int, int]] = []
    for rule in rule_set.whole:
        if rule.rule.check == "unique":
            parts = key_hashes.get(rule.id, ())
            keys = pl.concat(parts).drop_nulls() if parts else pl.Series(dtype=pl.UInt64)
            found.append((rule.id, len(keys), len(keys) - keys.n_unique()))
        else:
            found.append((rule.id, 1, int(rows < int(rule.literals[0]))))
    return counts_frame(found)


def later_duplicates(ordinals: pl.Series, hashes: pl.Series) -> pl.Series:
    """Ordinals (Int64, ascending) of the records whose key was seen before; the first of each key stays.

    ``ordinals`` (Int64) and ``hashes`` (UInt64, null without a key) have one value per record of the
    delivery.
    """
    frame = pl.DataFrame({"record_ordinal": ordinals.cast(pl.Int64), "hash": hashes}).drop_nulls("hash")
    frame = frame.sort("record_ordinal")
    return frame.filter(~pl.col("hash").is_first_distinct())["record_ordinal"]
