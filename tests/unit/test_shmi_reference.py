"""The reference tables of case-mix adjusted mortality say what their sources say, and load strictly."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from schemas.errors import ContractDefinitionError
from schemas.shmi_reference import (
    SHMI_FOLDER,
    CaseMix,
    Charlson,
    CodeRange,
    DiagnosisGroups,
    case_mix,
    charlson,
    diagnosis_groups,
)
from schemas.yaml_text import parse_model, read_yaml
from transforms.code_ranges import look_up

SHARED = Path(__file__).parents[2].parent / "shared/data/shmi_groups"
present = pytest.mark.skipif(not SHARED.exists(), reason="file under ../shared not present")

# code: group, one or more of most chapters, with the padding and lengths that occur
KNOWN = {
    "A150": 1, "A021": 2, "A419": 2, "A40": 2, "B99X": 6, "B240": 5, "C349": 15, "C80X": 31, "C80": 31, "C798": 30,
    "C799": 31, "C859": 142, "E119": 34, "E112": 35, "F03X": 42, "G20X": 47, "I10X": 56, "I219": 57, "I21": 57,
    "I252": 58, "I48X": 63, "I500": 65, "I64X": 66, "J189": 73, "J440": 75, "J690": 77, "A047": 83, "K922": 96,
    "N179": 99, "N390": 101, "O85X": 106, "O860": 106, "L031": 107, "S720": 120, "S7200": 120, "T814": 129,
    "R55X": 134, "R11X": 137, "U071": 143, "U072": 143, "X599": 140, "M0580": 114, "P072": 117,
}  # fmt: skip


def found(*codes: str | None) -> list[int | None]:
    return look_up(pl.Series(codes, dtype=pl.String), diagnosis_groups().table()).to_list()


def rows(name: str) -> list[dict[str, str]]:
    with (SHARED / name).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_known_codes_are_in_their_groups() -> None:
    assert dict(zip(KNOWN, found(*KNOWN), strict=True)) == KNOWN


@present
def test_all_listed_codes_are_in_their_group_but_for_the_stated_differences() -> None:
    listed = {row["diag1_4"]: int(row["DIAGNOSIS_GROUP"]) for row in rows("phs_diag_grps_lookup_updated.csv")}
    assert len(listed) == 16_680
    own = dict(zip(listed, found(*listed), strict=True))
    differs = {code: group for code, group in listed.items() if own[code] != group}
    assert differs == {"R69X": 140}
    stated = {entry.code: entry.listed_group for entry in diagnosis_groups().differs}
    assert stated == {"R69": 140}


@present
def test_groups_have_the_listed_labels() -> None:
    listed = {int(row["DIAGNOSIS_GROUP"]): row["label"] for row in rows("shmi_group_list.csv")}
    assert diagnosis_groups().labels == listed


@present
def test_no_range_holds_a_category_that_is_not_listed() -> None:
    listed = {row["diag1_4"][:3] for row in rows("phs_diag_grps_lookup_updated.csv")}
    every = [f"{chr(letter)}{number:02}" for letter in range(ord("A"), ord("Z") + 1) for number in range(100)]
    grouped = {code for code, group in zip(every, found(*every), strict=True) if group is not None}
    assert grouped <= listed, "a whole category has a group although the source does not know it"


def test_there_are_142_models_and_the_pandemic_group_has_none() -> None:
    assert diagnosis_groups().modelled == tuple(range(1, 143))
    assert diagnosis_groups().outside_the_model == (143,)


def test_what_says_nothing_about_the_illness_has_no_group() -> None:
    assert (
        found("R69X", "R69X6", "R69X8", "R69X3", "R69", "-", "", None, "&", "9999", "A29X", "~")
        == [None] * 12
    )


def test_spelling_does_not_decide() -> None:
    assert found("t81.4", " T814", "T814", "T8140", "T814XD") == [129] * 5
    assert found("C79", "C799") == [None, 31], "a category that is divided between groups has none as a whole"


def test_the_table_joins_in_duckdb_as_it_looks_up_in_polars() -> None:
    codes = pl.DataFrame({"code": [*KNOWN, "R69X", "A29X", "C79", "ZZ", "0"]})
    connection = duckdb.connect()
    connection.register("diagnosis", codes.to_arrow())
    connection.register("diagnosis_group_range", diagnosis_groups().table().to_arrow())
    joined = connection.execute(
        "select d.code, r.diagnosis_group from diagnosis as d left join diagnosis_group_range as r"
        " on d.code between r.code_from and r.code_to"
    ).fetchall()
    assert len(joined) == codes.height, "no code is in two ranges"
    assert dict(joined) == dict(zip(codes["code"], found(*codes["code"]), strict=True))


def test_the_ranges_are_compact() -> None:
    assert diagnosis_groups().table().height < 1_200, "16,680 codes come in fewer than 1,200 ranges"


# Charlson index


@present
def test_charlson_codes_and_weights_are_those_of_the_public_copy() -> None:
    copy = {
        int(row["index"]): row["icd10_codes"].split("|")
        for row in rows("charlson_shmi_v1.60_via_pycomorb.csv")
    }
    weights = {
        int(row["index"]): int(row["uk_shmi_weights"])
        for row in rows("charlson_shmi_v1.60_weights_via_pycomorb.csv")
    }
    del copy[0], weights[0]  # age, which that library keeps in the same files
    every = [
        f"{chr(letter)}{number:03}" for letter in range(ord("A"), ord("Z") + 1) for number in range(1000)
    ]
    by_prefix = {
        code: weights[index]
        for index, prefixes in copy.items()
        for code in every
        if code.startswith(tuple(prefixes))
    }
    own = look_up(pl.Series(every), charlson().table().select("code_from", "code_to", "weight"))
    assert {code: weight for code, weight in zip(every, own, strict=True) if weight is not None} == by_prefix
    assert sorted(charlson().weights.values()) == sorted(weights.values())


def test_charlson_weights_are_those_of_the_specification() -> None:
    assert charlson().weights == {
        "acute_myocardial_infarction": 5, "cerebrovascular_accident": 11, "congestive_heart_failure": 13,
        "connective_tissue_disorder": 4, "dementia": 14, "diabetes": 3, "liver_disease": 8, "peptic_ulcer": 9,
        "peripheral_vascular_disease": 6, "pulmonary_disease": 4, "cancer": 8, "diabetes_complications": -1,
        "paraplegia": 1, "renal_disease": 10, "metastatic_cancer": 14, "severe_liver_disease": 18, "hiv": 2,
    }  # fmt: skip


def condition(code: str, *variants: str) -> str | None:
    table = charlson().with_variants(variants).table().select("code_from", "code_to", "condition")
    answer: str | None = look_up(pl.Series([code]), table)[0]
    return answer


@pytest.mark.parametrize(
    ("variant", "code", "without", "with_it"),
    [
        ("connective_tissue_with_m351", "M351", None, "connective_tissue_disorder"),
        ("diabetes_with_e110", "E110", None, "diabetes"),
        ("diabetes_without_e135", "E135", "diabetes", None),
        ("pulmonary_to_j70", "J690", None, "pulmonary_disease"),
        ("unspecified_cancer_is_cancer", "C80X", "metastatic_cancer", "cancer"),
        ("stroke_without_i64", "I64X", "cerebrovascular_accident", None),
    ],
)
def test_a_variant_is_used_only_when_asked_for(
    variant: str, code: str, without: str | None, with_it: str | None
) -> None:
    assert (condition(code), condition(code, variant)) == (without, with_it)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ContractDefinitionError, match="no variant"):
        charlson().with_variants(["as_in_1987"])


def test_all_variants_go_together() -> None:
    every = [variant.name for variant in charlson().variants]
    assert charlson().with_variants(every).weights == charlson().weights


# Case mix


def test_the_case_mix_has_the_published_factors() -> None:
    assert {factor.name: len(factor.level_names) for factor in case_mix().factors} == {
        "age_group": 21,
        "sex": 3,
        "admission_class": 3,
        "charlson_band": 3,
        "year_index": 3,
        "admission_month": 12,
        "birth_weight": 6,
    }
    assert case_mix().years == 3


def test_birth_weight_is_a_factor_of_the_perinatal_groups_only() -> None:
    limited = {factor.name: factor.groups.only for factor in case_mix().factors if factor.groups is not None}
    assert list(limited) == ["birth_weight"]
    labels = diagnosis_groups().labels
    assert [labels[group][:12] for group in limited["birth_weight"]] == [
        "Short gestat",
        "Intrauterine",
        "Other perina",
    ]


# What does not load


def test_ranges_are_read_as_written() -> None:
    assert CodeRange.parse("A15-A19") == CodeRange("A15", "A19")
    assert CodeRange.parse("I252") == CodeRange("I252", "I252")


@pytest.mark.parametrize(
    "text",
    ["A1", "a15", "A15-", "A15-A1", "A15-B19", "A19-A15", "A150-A169", "A15-A159", "A1500", "A15 - A19"],
)
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"range of codes|characters|before it begins"):
        CodeRange.parse(text)


def spoilt(file: str, model: Any, change: Any) -> str:
    """What the loader says about a table after ``change``."""
    content = read_yaml(SHMI_FOLDER / file)
    change(content)
    with pytest.raises(ContractDefinitionError) as raised:
        parse_model(model, content, file)
    return raised.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda table: table["groups"].append({"group": "1", "label": "again", "codes": "A99"}),
            "listed twice",
        ),
        (lambda table: table["groups"][0].update(codes="A15-A19 A180"), "overlap"),
        (lambda table: table["groups"][0].update(codes="A15-A19 B15"), "overlap"),
        (lambda table: table["groups"][0].update(codes=""), "at least 1"),
        (lambda table: table["groups"][0].update(weight="1"), "unknown"),
        (lambda table: table.update(outside_the_model=["144"]), "not listed"),
        (lambda table: table.pop("edition"), "edition"),
    ],
)
def test_a_table_of_groups_that_contradicts_itself_does_not_load(change: Any, message: str) -> None:
    assert message in spoilt("diagnosis_groups.yaml", DiagnosisGroups, change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table["conditions"][0].update(codes="I21 I50"), "overlap"),
        (lambda table: table["conditions"].append(table["conditions"][0]), "listed twice"),
        (
            lambda table: table["variants"][0].update(add=[{"condition": "gout", "codes": "M10"}]),
            "no condition gout",
        ),
        (lambda table: table["conditions"][0].update(weight="heavy"), "integer"),
    ],
)
def test_a_charlson_table_that_contradicts_itself_does_not_load(change: Any, message: str) -> None:
    assert message in spoilt("charlson.yaml", Charlson, change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table["factors"].append(table["factors"][0]), "listed twice"),
        (lambda table: table["factors"][0]["levels"][1].update(to="5"), "overlap"),
        (lambda table: table["factors"][0]["levels"][1].update(level="under 1"), "listed twice"),
        (lambda table: table["factors"][0]["levels"][1].update(codes=["1"]), "either from, or codes"),
        (lambda table: table["factors"][0]["levels"][1].update(otherwise="yes", codes=[]), "either from"),
        (lambda table: table["factors"][1]["levels"][0].update(codes=["2"]), "listed twice"),
        (lambda table: table["factors"][0].update(minimum_deaths="0"), "greater than or equal to 1"),
        (lambda table: table["factors"][0].pop("status"), "status"),
    ],
)
def test_a_case_mix_that_contradicts_itself_does_not_load(change: Any, message: str) -> None:
    assert message in spoilt("case_mix.yaml", CaseMix, change)
