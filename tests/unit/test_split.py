"""The lake gets no item, the vault gets nothing else, restricted fields go nowhere."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from schemas.contract import Contract
from schemas.errors import IntegrityError
from transforms.derive import compile_derivations, derive
from transforms.split import Split, compile_split, organisation, split
from transforms.tokens import person_tokens
from transforms.typing_fields import FieldTyping, type_chunk

KEY = bytes(range(32))


def contract(**more: Any) -> Contract:
    raw: dict[str, Any] = {
        "dataset": "episodes",
        "version": "1",
        "title": "Episodes of the test",
        "record_key": ("EPIKEY",),
        "person_id": "PERSON",
        "issuer": ("PROCODET", "PROCODE3"),
        "period": {"kind": "YYYYnn"},
        "fields": [
            {"name": "EPIKEY", "type": "string", "class": "record_key", "core": True},
            {"name": "PERSON", "type": "string", "class": "person_id"},
            {"name": "LOPATID", "type": "string", "class": "identifiable",
             "item": "local_patient_identifier"},
            {"name": "DOB", "type": "date", "class": "identifiable", "item": "date_of_birth"},
            {"name": "DOD", "type": "date", "class": "identifiable", "item": "date_of_death",
             "formats": ("%Y%m%d", "%Y%m")},
            {"name": "ADMIDATE", "type": "date", "class": "administrative", "core": True,
             "null_values": ("1800-01-01",)},
            {"name": "SPELDUR", "type": "integer", "class": "administrative", "core": True},
            {"name": "SEX", "type": "code", "class": "clinical", "core": True},
            {"name": "CAUSE", "type": "code", "class": "clinical"},
            {"name": "PROCODET", "type": "code", "class": "organisation"},
            {"name": "PROCODE3", "type": "code", "class": "organisation", "null_values": ("89999",)},
            {"name": "BOOKREFNO", "type": "string", "class": "restricted", "reason": "no purpose"},
        ],
        "derivations": [
            {"name": "age", "type": "integer", "function": "age_years", "args": ("DOB", "ADMIDATE"),
             "says": "age"}
        ],
    }  # fmt: skip
    return Contract.model_validate({**raw, **more})


DELIVERED: dict[str, list[str | None]] = {
    "EPIKEY": ["K1 ", "K2", "K3", "K4"],
    "PERSON": ["P1", "P2", " P1", None],
    "LOPATID": [" 0012 ", "", "A/9", None],
    "DOB": ["1980-06-15", None, "not known", ""],
    "ADMIDATE": ["2020-06-15", "1800-01-01", "2020-06-16", None],
    "SEX": ["1", "2 ", None, "9"],
    "PROCODET": ["RXX01", None, None, None],
    "PROCODE3": ["RXX", "RYY", "89999", None],
    "BOOKREFNO": ["B1", "B2", "B3", "B4"],
}


def divide(
    delivered: dict[str, list[str | None]] = DELIVERED,
    of: Contract | None = None,
    keep: list[bool] | None = None,
) -> Split:
    of = of or contract()
    chunk = pl.DataFrame({name: pl.Series(texts, dtype=pl.String) for name, texts in delivered.items()})
    typed = type_chunk(chunk, [FieldTyping(of.field(name)) for name in delivered])
    issuers = [of.field(name) for name in of.issuer if name in delivered]
    issuer = typed.frame.select(issuer=organisation(issuers))["issuer"] if issuers else None
    plan = compile_split(of, delivered)
    return split(
        plan,
        chunk,
        typed,
        derived=derive(typed, compile_derivations(of, delivered), KEY, issuer),
        tokens={
            column: person_tokens(chunk[name], KEY)
            for name, column in plan.tokens.items()
            if name in delivered
        },
        issuer=issuer,
        ordinals=pl.Series(range(11, 11 + chunk.height), dtype=pl.Int64),
        delivery_id="episodes-202099-0123456789ab",
        keep=pl.Series(keep) if keep is not None else None,
    )


def test_the_lake_is_typed_trimmed_and_in_the_contracts_order() -> None:
    lake = divide().lake
    token = person_tokens(pl.Series(["P1", "P2"]), KEY).to_list()
    assert lake.drop("PROCODET", "PROCODE3").rows(named=True) == [
        {
            "EPIKEY": key,
            "ADMIDATE": admitted,
            "ADMIDATE_STATE": state,
            "SPELDUR": None,
            "SEX": sex,
            "age": age,
            "person_token": person,
            "record_ordinal": ordinal,
            "delivery_id": "episodes-202099-0123456789ab",
        }
        for key, admitted, state, sex, age, person, ordinal in [
            ("K1", date(2020, 6, 15), "valid", "1", 40, token[0], 11),
            ("K2", None, "null", "2", None, token[1], 12),
            ("K3", date(2020, 6, 16), "valid", None, None, token[0], 13),
            ("K4", None, "null", "9", None, None, 14),
        ]
    ]


def test_the_lake_has_the_same_types_whatever_was_delivered() -> None:
    whole = divide().lake.schema
    less = divide({"EPIKEY": ["K1"], "PERSON": ["P1"]}).lake
    assert {name: whole[name] for name in less.columns} == dict(less.schema)
    assert less.rows() == [
        (
            "K1",
            None,
            None,
            None,
            None,
            None,
            person_tokens(pl.Series(["P1"]), KEY)[0],
            11,
            less["delivery_id"][0],
        )
    ], "core columns are null, and so is the state of a column that was not delivered"


def test_the_plan_names_the_columns_that_are_null_throughout() -> None:
    assert compile_split(contract(), ["EPIKEY", "SEX"]).null_columns == {
        "ADMIDATE",
        "ADMIDATE_STATE",
        "SPELDUR",
        "person_token",
    }


def test_the_vault_holds_key_issuer_and_the_items_exactly_as_delivered() -> None:
    vault = divide().vault
    assert vault is not None
    assert vault.columns == ["EPIKEY", "issuer", "LOPATID", "DOB"]
    assert vault.rows() == [
        ("K1", "RXX01", " 0012 ", "1980-06-15"),  # leading noughts and spaces stay: it is the hospital's code
        ("K3", "UNKNOWN", "A/9", "not known"),
    ], "rows 2 and 4 have no item; the issuer of row 3 is a sentinel"


def test_a_dataset_without_items_has_no_vault_frame() -> None:
    assert divide({"EPIKEY": ["K1"], "PROCODE3": ["RXX"]}).vault is None


def test_restricted_fields_and_person_ids_are_in_no_frame() -> None:
    found = divide()
    assert found.vault is not None
    for frame in (found.lake, found.vault):
        assert not {"BOOKREFNO", "PERSON"} & set(frame.columns)
        held = {value for row in frame.rows() for value in row if isinstance(value, str)}
        assert not held & {"B1", "B2", "B3", "B4", "P1", "P2", " P1"}


def test_no_item_is_in_the_lake() -> None:
    held = {value for row in divide().lake.rows() for value in row}
    assert not held & {" 0012 ", "0012", "A/9", "1980-06-15", date(1980, 6, 15), "not known"}


def test_rows_that_do_not_stay_are_in_no_frame() -> None:
    found = divide(keep=[False, True, True, True])
    assert found.vault is not None
    assert found.lake["EPIKEY"].to_list() == ["K2", "K3", "K4"]
    assert found.vault["EPIKEY"].to_list() == ["K3"]


def test_a_date_of_death_goes_to_the_linkage_store_with_nothing_but_the_token() -> None:
    found = divide({**DELIVERED, "DOD": ["20200620", None, "202007", "20200630"]})
    tokens = person_tokens(pl.Series(["P1"]), KEY).to_list()
    assert found.linkage is not None
    assert found.linkage.rows(named=True) == [
        {"person_token": tokens[0], "date_of_death": date(2020, 6, 20), "known_to_day": True},
        {"person_token": tokens[0], "date_of_death": date(2020, 7, 1), "known_to_day": False},
    ], "no death in row 2, no person in row 4"
    assert "DOD" not in found.lake.columns
    assert not any(isinstance(value, date) and value.month == 7 for row in found.lake.rows() for value in row)


def test_a_dataset_without_a_date_of_death_has_no_linkage_frame() -> None:
    assert divide().linkage is None


def test_a_key_that_is_a_person_id_enters_the_vault_as_its_token() -> None:
    of = Contract.model_validate(
        {
            "dataset": "deaths",
            "version": "1",
            "title": "Deaths of the test",
            "record_key": ("PERSON",),
            "person_id": "PERSON",
            "period": {"kind": "snapshot"},
            "destination": "linkage",
            "issuer": ("PROCODET",),
            "fields": [
                {"name": "PERSON", "type": "string", "class": "person_id"},
                {"name": "DOD", "type": "date", "class": "identifiable", "item": "date_of_death"},
                {"name": "PROCODET", "type": "code", "class": "organisation"},
            ],
        }
    )
    found = divide({"PERSON": ["P1"], "DOD": ["2020-06-20"], "PROCODET": [None]}, of)
    assert found.vault is not None
    token = person_tokens(pl.Series(["P1"]), KEY)[0]
    assert found.vault.rows(named=True) == [{"person_token": token, "issuer": "UNKNOWN", "DOD": "2020-06-20"}]


def test_a_frame_with_a_column_too_many_is_refused_by_name() -> None:
    of = contract()
    chunk = pl.DataFrame({"EPIKEY": ["K1"], "DOB": ["1980-06-15"]})
    typed = type_chunk(chunk, [FieldTyping(of.field(name)) for name in chunk.columns])
    plan = compile_split(of, chunk.columns)
    smuggled = pl.DataFrame({"age": pl.Series([40]), "DOB": ["1980-06-15"]})
    with pytest.raises(IntegrityError, match="DOB") as caught:
        split(
            plan,
            chunk,
            typed,
            derived=smuggled,
            tokens={},
            issuer=None,
            ordinals=pl.Series([1]),
            delivery_id="d",
            keep=None,
        )
    assert "1980" not in str(caught.value)


def test_a_derivation_named_like_an_item_is_refused_when_the_plan_is_made() -> None:
    derivation = {
        "name": "dob",
        "type": "string",
        "function": "postcode_area",
        "args": ("LOPATID",),
        "says": "x",
    }
    with pytest.raises(IntegrityError):
        compile_split(contract(derivations=[derivation]), DELIVERED)
