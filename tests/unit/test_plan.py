"""A chunk goes through the plan and comes out typed, measured and divided, and no value gets out beside."""

from __future__ import annotations

import dataclasses
import logging
import traceback
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from schemas.code_lists import code_lists
from schemas.contract import Contract
from schemas.errors import DeliveryRefused, ForbiddenColumn, IntegrityError
from schemas.loader import load_contracts, match_header
from transforms.measure import CompiledRule, add_counts, later_duplicates, whole_delivery_counts
from transforms.plan import ChunkPlan, ChunkResult, compile_plan
from transforms.records import parse_chunk, sniff_dialect

KEY = bytes(range(32))
YEAR = (date(2020, 4, 1), date(2021, 3, 31))
DELIVERY = "episodes-202099-0123456789ab"
CODES = {"sex": ("1", "2", "9")}


def rule(name: str, check: str, *args: str, level: str = "delivery") -> dict[str, Any]:
    return {"id": name, "severity": "warning", "level": level, "check": check, "args": args, "says": "a rule"}


def item(name: str, kind: str, which: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "class": "identifiable", "item": which}


CONTRACT = Contract.model_validate(
    {
        "dataset": "episodes",
        "version": "1",
        "title": "Episodes of the test",
        "record_key": ("EPIKEY",),
        "person_id": "PERSON",
        "issuer": ("PROCODE3",),
        "provider": ("PROCODE3",),
        "period": {"kind": "YYYYnn"},
        "fields": [
            {"name": "EPIKEY", "type": "string", "class": "record_key", "required": True, "max_length": 12},
            {"name": "PERSON", "type": "string", "class": "person_id", "aliases": ("OLD_PERSON",)},
            item("NEWNHSNO", "string", "nhs_number"),
            item("LOPATID", "string", "local_patient_identifier"),
            item("HOMEADD", "string", "postcode"),
            item("DOB", "date", "date_of_birth"),
            item("MOTDOB", "date", "mothers_date_of_birth"),
            item("DOBBABY_1", "date", "babys_date_of_birth"),
            item("DOD", "date", "date_of_death"),
            {"name": "ADMIDATE", "type": "date", "class": "administrative"},
            {"name": "DISDATE", "type": "date", "class": "administrative", "null_values": ("1800-01-01",)},
            {"name": "SPELDUR", "type": "integer", "class": "administrative"},
            {"name": "ARRIVAL", "type": "time", "class": "administrative"},
            {"name": "SEX", "type": "code", "class": "clinical", "codes": "sex"},
            {"name": "DIAG_01", "type": "code", "class": "clinical"},
            {"name": "PROCODE3", "type": "code", "class": "organisation"},
            {"name": "BOOKREFNO", "type": "string", "class": "restricted", "reason": "no purpose"},
            {"name": "SURNAME", "type": "string", "class": "forbidden", "reason": "a name"},
        ],
        "derivations": [
            {
                "name": "age",
                "type": "integer",
                "function": "age_years",
                "args": ("DOB", "ADMIDATE"),
                "says": "-",
            },
            {
                "name": "verdict",
                "type": "code",
                "function": "nhs_number_verdict",
                "args": ("NEWNHSNO",),
                "says": "-",
            },
            {"name": "area", "type": "code", "function": "postcode_area", "args": ("HOMEADD",), "says": "-"},
            {
                "name": "birth_token",
                "type": "string",
                "function": "mother_baby_token",
                "args": ("ISSUER", "DOB", "DOBBABY_1"),
                "says": "-",
            },
        ],
        "rules": [
            rule("E.KEY", "not_null", "EPIKEY", level="record"),
            rule("E.LONG", "max_length", "EPIKEY", "=12", level="record"),
            rule("E.UNIQUE", "unique", "EPIKEY", level="record"),
            rule("E.ORDER", "not_before", "DISDATE", "ADMIDATE", level="record"),
            rule("E.ADMI", "typed", "ADMIDATE", level="record"),
            rule("E.YEAR", "within_period", "DISDATE"),
            rule("E.NHS", "nhs_number", "NEWNHSNO"),
            rule("E.POST", "postcode_shape", "HOMEADD"),
            rule("E.DOB", "typed", "DOB"),
            rule("E.DIAG", "icd10_shape", "DIAG_01"),
            rule("E.SEX", "one_of_codes", "SEX"),
            rule("E.DUR", "between", "SPELDUR", "=0", "=29200"),
            rule("E.DURT", "typed", "SPELDUR"),
            rule("E.ARR", "typed", "ARRIVAL"),
        ],
    }
)
FIELDS = [field for field in CONTRACT.fields if field.name != "SURNAME"]


def plan(names: list[str] | None = None) -> ChunkPlan:
    fields = [field for field in FIELDS if names is None or field.name in names]
    return compile_plan(CONTRACT, [*fields, None], YEAR, DELIVERY, codes=CODES)


def row(**given: str | None) -> dict[str, str | None]:
    usual: dict[str, str | None] = {field.name: None for field in FIELDS}
    usual |= {"EPIKEY": "K1", "PERSON": "P1", "PROCODE3": "RXX", "ADMIDATE": "2020-05-01", "SEX": "1"}
    return usual | given


def chunk(*rows: dict[str, str | None]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema={field.name: pl.String for field in FIELDS})


# what comes out ---------------------------------------------------------------------------------------


def test_a_chunk_becomes_lake_vault_counts_quarantine_and_providers() -> None:
    found = plan().run(
        chunk(
            row(LOPATID="0012", DISDATE="2020-05-03"),
            row(EPIKEY="K2", PROCODE3="RYY", DISDATE="2020-04-30", LOPATID="0013"),
            row(EPIKEY="K3", PROCODE3=None),
        ),
        first_ordinal=7,
        token_key=KEY,
    )
    assert found.lake["EPIKEY"].to_list() == ["K1", "K3"]
    assert found.lake["record_ordinal"].to_list() == [7, 9]
    assert found.lake["delivery_id"].to_list() == [DELIVERY] * 2
    assert found.vault is not None
    assert found.vault["LOPATID"].to_list() == ["0012"], "the vault holds no row that the lake does not hold"
    assert found.quarantine.rows() == [(8, "E.ORDER")]
    assert found.providers.rows() == [("RXX", 1), (None, 1)]
    assert (found.rows_in, found.rows_kept) == (3, 2)
    assert found.counts.filter(rule_id="E.ORDER").row(0) == ("E.ORDER", 2, 1)


def test_the_lake_frame_is_the_declared_table() -> None:
    compiled = plan()
    found = compiled.run(chunk(row()), 1, KEY)
    assert list(found.lake.schema.items()) == [
        (column.name, column.polars_type) for column in compiled.lake_columns
    ]


def test_restricted_columns_need_not_even_be_parsed() -> None:
    assert "BOOKREFNO" not in plan().wanted
    found = plan().run(chunk(row(BOOKREFNO="CANARY")).drop("BOOKREFNO"), 1, KEY)
    assert found.rows_kept == 1


def test_ordinals_step_over_lines_that_were_taken_out() -> None:
    positions = pl.Series([0, 2], dtype=pl.UInt32)
    found = plan().run(chunk(row(), row(EPIKEY="K2")), 101, KEY, positions=positions)
    assert found.lake["record_ordinal"].to_list() == [101, 103]


def test_chunks_cut_anywhere_give_the_same_delivery() -> None:
    rows = [
        row(EPIKEY=f"K{number}", PERSON=f"P{number % 3}", SPELDUR=["1", "2.0", "x", None][number % 4],
            DISDATE=["2020-05-03", "1800-01-01", " 2020-06-01 "][number % 3])
        for number in range(12)
    ]  # fmt: skip
    whole = plan().run(chunk(*rows), 1, KEY)
    parts = [plan().run(chunk(*rows[:5]), 1, KEY), plan().run(chunk(*rows[5:]), 6, KEY)]
    assert pl.concat([part.lake for part in parts]).rows() == whole.lake.rows()
    assert add_counts([part.counts for part in parts]).rows() == whole.counts.rows()


def test_a_second_pass_leaves_later_duplicates_out() -> None:
    compiled = plan()
    rows = chunk(row(), row(EPIKEY="K2"), row(EPIKEY="K1 "), row(EPIKEY="K1"))
    first = compiled.run(rows, 1, KEY)
    (unique,) = first.key_hashes
    assert whole_delivery_counts(compiled.rule_set, 4, {unique: [first.key_hashes[unique]]}).rows() == [
        ("E.UNIQUE", 4, 2)
    ]
    duplicates = later_duplicates(first.ordinals, first.key_hashes[unique])
    second = compiled.run(rows, 1, KEY, duplicates={unique: duplicates})
    assert second.quarantine.rows() == [(3, "E.UNIQUE"), (4, "E.UNIQUE")]
    assert second.lake["EPIKEY"].to_list() == ["K1", "K2"]
    assert second.counts.rows() == first.counts.rows()


def test_an_empty_chunk_gives_empty_frames_of_the_same_types() -> None:
    full, empty = plan().run(chunk(row(LOPATID="1")), 1, KEY), plan().run(chunk(), 1, KEY)
    assert empty.lake.schema == full.lake.schema
    assert full.vault is not None
    assert empty.vault is not None
    assert empty.vault.schema == full.vault.schema
    assert (empty.rows_in, empty.rows_kept) == (0, 0)


def test_a_narrow_delivery_has_null_columns_and_rules_that_do_not_apply() -> None:
    compiled = plan(["EPIKEY", "PERSON", "SEX"])
    assert compiled.wanted == ("EPIKEY", "PERSON", "SEX")
    assert {"E.ORDER", "E.DOB", "E.NHS"} <= set(compiled.rule_set.not_applicable)
    assert {"age", "verdict", "area", "birth_token"} <= compiled.null_columns
    found = compiled.run(chunk(row()).select(compiled.wanted), 1, KEY)
    assert found.vault is None
    assert found.providers.is_empty()


# what is refused --------------------------------------------------------------------------------------


def test_two_columns_for_one_field_are_refused() -> None:
    with pytest.raises(DeliveryRefused, match="EPIKEY"):
        compile_plan(CONTRACT, [FIELDS[0], FIELDS[0]], YEAR, DELIVERY, codes=CODES)


def test_a_forbidden_column_is_refused() -> None:
    with pytest.raises(ForbiddenColumn):
        compile_plan(CONTRACT, CONTRACT.fields, YEAR, DELIVERY, codes=CODES)


def test_a_file_without_a_known_column_is_refused() -> None:
    with pytest.raises(DeliveryRefused):
        compile_plan(CONTRACT, [None, None], YEAR, DELIVERY, codes=CODES)


def test_a_chunk_without_a_column_of_its_header_is_refused() -> None:
    with pytest.raises(IntegrityError, match="SEX"):
        plan().run(chunk(row()).drop("SEX"), 1, KEY)


# canaries ---------------------------------------------------------------------------------------------

CANARIES: dict[str, str] = {
    "EPIKEY": "KEYCANARY0001",
    "PERSON": "PERSONCANARY0001",
    "NEWNHSNO": "9991112223",
    "LOPATID": "LOPCANARY01",
    "HOMEADD": "ZZ99 CANARY",
    "DOB": "31/02/1911-CANARY",
    "MOTDOB": "1912-CANARY",
    "DOBBABY_1": "1913-CANARY",
    "DOD": "1914-CANARY",
    "ADMIDATE": "1915-CANARY",
    "DISDATE": "1916-CANARY",
    "SPELDUR": "-91919191",
    "ARRIVAL": "99CANARY",
    "SEX": "SEXCANARY",
    "DIAG_01": "DIAGCANARY",
    "BOOKREFNO": "BOOKCANARY",
}
GOOD = {
    "LOPATID": "LOPCANARY02",
    "NEWNHSNO": "9990000018",
    "HOMEADD": "ZZ99 3VZ",
    "DOB": "1911-11-19",
    "MOTDOB": "1912-11-18",
    "DOBBABY_1": "1913-11-17",
    "DOD": "1914-11-16",
    "PERSON": "PERSONCANARY0002",
}


def writings(value: str) -> Iterator[str]:
    """A value as it might show up: as it is, reversed, in hexadecimal, and a date as day/month/year."""
    yield value
    yield value[::-1]
    yield value.encode().hex()
    if len(value) == 10 and value[4] == value[7] == "-":
        yield f"{value[8:]}/{value[5:7]}/{value[:4]}"
        yield value.replace("-", "")


def assert_no_canary(text: str, what: str) -> None:
    assert "CANARY" not in text.upper(), f"a value got into {what}"
    for name, value in [*CANARIES.items(), *GOOD.items()]:
        for writing in writings(value):
            assert writing not in text, f"a value of {name} got into {what}"


def everything_but_frames(found: ChunkResult) -> str:
    with pl.Config(tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=1000):
        return f"{found!r} {found.counts} {found.quarantine} {found.quarantine.rows()} {found.counts.rows()}"


def test_no_value_gets_out_of_a_chunk_that_breaks_every_rule(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    compiled = plan()
    broken = [row(**{name: value}) for name, value in CANARIES.items()]
    broken.append(row(SPELDUR="DURATIONCANARY"))  # the number above can be read, and is out of range
    found = compiled.run(chunk(row(**CANARIES), *broken, row(EPIKEY="K2", **GOOD)), 1, KEY)
    failures = dict(found.counts.select("rule_id", "failures").iter_rows())
    silent = {name for name, count in failures.items() if count == 0}
    assert silent == {"E.KEY", "E.ORDER", "E.YEAR"}, "every rule that can fail on such values did"
    assert_no_canary(everything_but_frames(found), "the counts or the quarantine")
    assert_no_canary(repr(compiled), "the repr of the plan")
    captured = capfd.readouterr()
    assert_no_canary(captured.out + captured.err + caplog.text, "the output or the log")


def test_no_item_and_no_person_id_gets_into_the_lake_or_the_key_hashes() -> None:
    found = plan().run(chunk(row(**GOOD)), 1, KEY)
    text = f"{found.lake.rows()} {found.lake.write_csv()} {found.key_hashes}"
    for name, value in GOOD.items():
        for writing in writings(value):
            assert writing not in text, f"a value of {name} is in the lake"
    assert found.lake.select("age", "verdict", "area").row(0) == (108, "valid", "ZZ"), (
        "what may be known of them"
    )


@pytest.mark.parametrize("stage", ["a rule", "a derivation", "typing"])
def test_an_error_of_the_engine_is_translated_without_its_message(stage: str) -> None:
    compiled = plan()
    strict = pl.col("LOPATID.text").cast(pl.Int64, strict=True)
    rows = chunk(row(**GOOD))
    if stage == "a rule":
        old = compiled.rule_set.rules[0]
        broken = CompiledRule(old.rule, old.fields, old.literals, strict == 1)
        rule_set = dataclasses.replace(compiled.rule_set, rules=(broken, *compiled.rule_set.rules[1:]))
        compiled = dataclasses.replace(compiled, rule_set=rule_set)
    elif stage == "a derivation":
        column = dataclasses.replace(compiled.derived[0], expression=strict.alias("age"))
        compiled = dataclasses.replace(compiled, derived=(column, *compiled.derived[1:]))
    else:
        rows = rows.with_columns(LOPATID=pl.Series([b"LOPCANARY02"]))
    with pytest.raises(IntegrityError) as caught:
        compiled.run(rows, 1, KEY)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert_no_canary("".join(traceback.format_exception(caught.value)), "the traceback")
    assert_no_canary(f"{caught.value!r} {caught.value.args}", "the error")


# the artificial extract -------------------------------------------------------------------------------

ARTIFICIAL = Path(__file__).parents[3] / "shared/data/artificial_hes/artificial_hes_apc_0102_truncated.csv"


@pytest.mark.skipif(not ARTIFICIAL.exists(), reason="file under ../shared not present")
def test_the_artificial_extract_is_typed_as_its_description_says() -> None:
    content = ARTIFICIAL.read_bytes()
    dialect = sniff_dialect(content)
    contract = load_contracts()["hes_apc_1997"]
    columns = match_header(contract, dialect.header).columns
    codes = {name: listed.values for name, listed in code_lists().items()}
    compiled = compile_plan(contract, columns, (date(2001, 4, 1), date(2002, 3, 31)), DELIVERY, codes=codes)
    names = [field.name if field else f"column {place}" for place, field in enumerate(columns)]
    parsed = parse_chunk(content[dialect.header_bytes :], dialect, names, compiled.wanted)
    found = compiled.run(parsed.frame, 1, KEY, positions=parsed.ordinals)
    assert (found.rows_in, found.rows_kept) == (2075, 2075), "every record of the extract is usable"
    states = {
        name: dict(found.lake[f"{name}_STATE"].value_counts().iter_rows()) for name in ("ELECDATE", "DISDATE")
    }
    assert states["ELECDATE"]["invalid"] == 42, "1801-01-01"
    assert states["DISDATE"]["null"] == 80
    assert found.lake["person_token"].n_unique() == 994
    assert (
        not found.lake.select(pl.col(pl.String).str.contains(r"^[ \t]|[ \t]$").any())
        .transpose()["column_0"]
        .any()
    )
    assert found.counts.filter(pl.col("rule_id").str.ends_with(".typed"))["failures"].sum() == 0
