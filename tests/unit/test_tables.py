"""A lake table is declared by the contract, and no identifiable field can be declared in one."""

from __future__ import annotations

from typing import Any

import duckdb
import polars as pl
import pytest

from schemas.contract import LAKE_CLASSES, Contract, FieldClass, Item
from schemas.errors import ContractDefinitionError, IntegrityError
from schemas.tables import (
    LAKE_TYPES,
    comment_statements,
    create_table,
    lake_columns,
    polars_schema,
    token_columns,
)

HIDDEN = [each for each in FieldClass if each not in LAKE_CLASSES]


def contract(*fields: dict[str, Any], **more: Any) -> Contract:
    return Contract.model_validate(
        {
            "dataset": "episodes",
            "version": "1",
            "title": "Episodes of the test",
            "record_key": ("EPIKEY",),
            "person_id": "PERSON",
            "period": {"kind": "YYYYnn"},
            "fields": [
                {"name": "EPIKEY", "type": "string", "class": "record_key"},
                {"name": "PERSON", "type": "string", "class": "person_id"},
                *fields,
            ],
            **more,
        }
    )


def declared(kind: str, field_class: FieldClass, name: str = "F", **more: Any) -> dict[str, Any]:
    item = {"item": Item.DATE_OF_BIRTH} if field_class is FieldClass.IDENTIFIABLE else {}
    return {"name": name, "type": kind, "class": field_class, "reason": "of the test", **item, **more}


def names(of: Contract, *delivered: str) -> list[str]:
    return [column.name for column in lake_columns(of, delivered)]


def test_columns_come_in_the_order_fields_states_derivations_tokens_ordinal_delivery() -> None:
    of = contract(
        declared("date", FieldClass.ADMINISTRATIVE, "ADMIDATE", null_values=("1800-01-01",)),
        declared("code", FieldClass.CLINICAL, "SEX", null_values=("0",)),
        derivations=[
            {
                "name": "age",
                "type": "integer",
                "function": "age_years",
                "args": ("DOB", "ADMIDATE"),
                "says": "age",
            }
        ],
    )
    assert names(of, "EPIKEY", "ADMIDATE", "SEX") == [
        "EPIKEY",
        "ADMIDATE",
        "ADMIDATE_STATE",
        "SEX",
        "age",
        "person_token",
        "record_ordinal",
        "delivery_id",
    ]


def test_core_columns_exist_whether_delivered_or_not() -> None:
    of = contract(
        declared("date", FieldClass.ADMINISTRATIVE, "ADMIDATE", core=True, null_values=("1800-01-01",)),
        declared("code", FieldClass.CLINICAL, "SEX"),
    )
    assert names(of, "EPIKEY")[:3] == ["EPIKEY", "ADMIDATE", "ADMIDATE_STATE"]
    assert "SEX" not in names(of, "EPIKEY")


@pytest.mark.parametrize("field_class", HIDDEN)
def test_a_field_of_a_hidden_class_has_no_column_even_as_core(field_class: FieldClass) -> None:
    of = contract(declared("date", field_class, "SECRET", core=True, null_values=("1800-01-01",)))
    assert not any("SECRET" in name for name in names(of, "EPIKEY", "PERSON", "SECRET"))


@pytest.mark.parametrize("field_class", HIDDEN)
@pytest.mark.parametrize("name", ["secret", "SECRET", "Alias_Of_It"])
def test_no_derivation_can_take_the_name_or_alias_of_a_hidden_field(
    field_class: FieldClass, name: str
) -> None:
    of = contract(
        declared("date", field_class, "SECRET", aliases=("ALIAS_OF_IT",)),
        derivations=[
            {"name": name, "type": "string", "function": "postcode_area", "args": ("F",), "says": "x"}
        ],
    )
    with pytest.raises(IntegrityError, match="may not be there"):
        lake_columns(of, ["EPIKEY"])


def test_a_column_cannot_exist_twice() -> None:
    of = contract(declared("code", FieldClass.CLINICAL, "DELIVERY_ID"))
    with pytest.raises(IntegrityError, match="twice"):
        lake_columns(of, ["DELIVERY_ID"])


def test_the_person_id_becomes_a_token_and_a_bridge_has_two() -> None:
    bridge = Contract.model_validate(
        {
            "dataset": "bridge",
            "version": "1",
            "title": "Bridge of the test",
            "record_key": ("OLD",),
            "person_id": "NEW",
            "period": {"kind": "snapshot"},
            "fields": [
                {"name": "OLD", "type": "string", "class": "person_id"},
                {"name": "NEW", "type": "string", "class": "person_id"},
            ],
        }
    )
    assert token_columns(bridge) == {"NEW": "person_token", "OLD": "old_person_token"}
    assert names(bridge, "OLD", "NEW") == [
        "person_token",
        "old_person_token",
        "record_ordinal",
        "delivery_id",
    ]


def test_three_person_ids_in_one_record_are_a_wrong_contract() -> None:
    of = contract(
        declared("string", FieldClass.PERSON_ID, "SECOND"),
        declared("string", FieldClass.PERSON_ID, "THIRD"),
        record_key=("SECOND", "THIRD"),
    )
    with pytest.raises(ContractDefinitionError):
        token_columns(of)


@pytest.mark.parametrize("kind", sorted(LAKE_TYPES))
def test_both_engines_agree_on_the_type_of_a_field(kind: str) -> None:
    of = contract(declared(kind, FieldClass.CLINICAL, "VALUE"))
    columns = lake_columns(of, ["EPIKEY", "VALUE"])
    with duckdb.connect() as connection:
        connection.execute(create_table("episodes", columns))
        described = {row[0]: row[1] for row in connection.execute("DESCRIBE episodes").fetchall()}
        assert described == {column.name: column.duckdb_type for column in columns}
        assert dict(connection.execute("FROM episodes").pl().schema) == polars_schema(columns)


def test_every_column_has_a_comment_and_quotes_do_no_harm() -> None:
    of = contract(declared("code", FieldClass.CLINICAL, "SEX", label="The person's sex; 'X' not known"))
    columns = lake_columns(of, ["EPIKEY", "SEX"])
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA lake")
        connection.execute(create_table("lake.episodes", columns))
        for statement in comment_statements("lake.episodes", columns):
            connection.execute(statement)
        comments = dict(
            connection.execute(
                "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'episodes'"
            ).fetchall()
        )
    assert comments == {column.name: column.comment for column in columns}
    assert all(comments.values())


def test_a_column_type_is_a_polars_type() -> None:
    assert all(isinstance(kind, pl.DataType) for _, kind in LAKE_TYPES.values())
