"""The contracts: what they promise about the data, and that a wrong one does not load."""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import jsonschema
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import check_names
from schemas.code_lists import code_list, code_lists, load_code_folder
from schemas.contract import CONTRACT_FOLDER, Contract, FieldClass, Item
from schemas.errors import ContractDefinitionError, DeliveryRefused
from schemas.json_schema import contract_schema
from schemas.loader import (
    contract,
    datasets,
    fold_header,
    forbidden_columns,
    load_contract_folder,
    load_contracts,
    match_header,
    recognise_dataset,
    select_contract,
    versions,
)
from transforms.derive import compile_derivations
from transforms.measure import compile_rules, whole_delivery_counts
from transforms.typing_fields import FieldTyping, type_chunk

SHARED = Path(__file__).parents[3] / "shared" / "data"
APC_SPECIFICATION = SHARED / "dictionary" / "hes_apc_fields_tos_v1.15.csv"
OP_AE_SPECIFICATION = SHARED / "dictionary" / "hes_op_ae_fields_tos.csv"
ARTIFICIAL = {
    "hes_apc": (
        SHARED / "artificial_hes" / "artificial_hes_apc_0102_truncated.csv",
        (date(2001, 4, 1), date(2002, 3, 31)),
    ),
    "hes_op": (
        SHARED / "artificial_hes" / "artificial_hes_op_0304_truncated.csv",
        (date(2003, 4, 1), date(2004, 3, 31)),
    ),
}
HES = ("hes_apc", "hes_op", "hes_ae")
CODES = {name: listed.values for name, listed in code_lists().items()}

# A contract as short as one can be; each test of a refusal changes one thing in it.
SMALL = """
dataset: small
version: "1"
title: A small dataset
record_key: [KEY]
period: {kind: snapshot}
fields:
  - {name: KEY, type: string, class: record_key, required: true}
  - {name: BORN, type: date, class: identifiable, item: date_of_birth}
  - {name: SEEN, type: date, class: administrative}
  - {name: KIND, type: code, class: clinical, codes: kinds}
"""
KINDS = """
name: kinds
title: Kinds
source: made up for this test
codes:
  - {code: "01", label: first}
  - {code: NO, label: not a truth value}
  - {code: "9", label: not known, state: not_stated}
"""


def load_small(folder: Path, text: str = SMALL, kinds: str = KINDS, name: str = "small_1.yaml") -> Contract:
    """Load ``text`` as the one contract of a folder."""
    (folder / "contracts").mkdir(parents=True, exist_ok=True)
    (folder / "codes").mkdir(exist_ok=True)
    (folder / "contracts" / name).write_text(text, encoding="utf-8")
    (folder / "codes" / "kinds.yaml").write_text(kinds, encoding="utf-8")
    loaded = load_contract_folder(folder / "contracts", load_code_folder(folder / "codes"))
    return loaded[name.removesuffix(".yaml")]


def refusal(folder: Path, text: str = SMALL, kinds: str = KINDS, name: str = "small_1.yaml") -> str:
    with pytest.raises(ContractDefinitionError) as caught:
        load_small(folder, text, kinds, name)
    return caught.value.message


def all_fields() -> Iterator[tuple[Contract, str, FieldClass]]:
    for found in load_contracts().values():
        for field in found.fields:
            yield found, field.name, field.field_class


def words(text: str) -> list[str]:
    return text.split()


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.exists(), reason=f"{path.name} under ../shared is not present")


# The specification is covered -------------------------------------------------------------------------


def as_delivered(name: str) -> str:
    """``DIAG_nn`` -> ``DIAG_01``: one name that the pattern of the specification stands for."""
    return re.sub(r"_n$", "_1", re.sub(r"_(nn|NN)$", "_01", name.strip()))


def is_known(name: str, dataset: str) -> bool:
    found = contract(dataset, "2021")
    return name.upper() in found.by_header or forbidden_columns().match(name) is not None


@needs(APC_SPECIFICATION)
def test_every_field_of_the_admitted_patient_care_specification_is_known() -> None:
    with APC_SPECIFICATION.open(encoding="utf-8") as file:
        names = {as_delivered(row["field"]) for row in csv.DictReader(file)}
    unknown = {name for name in names if not is_known(name, "hes_apc")}
    # Announced, not delivered, and with a hyphen no column name.
    assert unknown == {"LOCAL_SUB-SPECIALTY_CODE"}, f"not in any contract: {sorted(unknown)}"


@needs(OP_AE_SPECIFICATION)
def test_every_field_of_the_out_patient_and_emergency_specifications_is_known() -> None:
    with OP_AE_SPECIFICATION.open(encoding="utf-8") as file:
        names = {(row["dataset"], as_delivered(row["field"])) for row in csv.DictReader(file)}
    unknown = {(dataset, name) for dataset, name in names if not is_known(name, dataset)}
    delivered = {(dataset, name) for dataset, name in unknown if "-" not in name}
    assert not delivered, f"not in any contract: {sorted(delivered)}"


@needs(APC_SPECIFICATION)
def test_what_the_supplier_restricts_goes_to_the_vault_or_nowhere() -> None:
    with APC_SPECIFICATION.open(encoding="utf-8") as file:
        restricted = [
            as_delivered(row["field"]) for row in csv.DictReader(file) if row["restricted"] == "Yes"
        ]
    assert len(restricted) == 24, "the specification lists 24 restricted fields"
    for version in ("1997", "2021"):
        by_header = contract("hes_apc", version).by_header
        for name in restricted:
            found = by_header[name]
            assert found.field_class in (FieldClass.RESTRICTED, FieldClass.IDENTIFIABLE), (
                f"{name} is restricted by the supplier and may not have the class {found.field_class}"
            )


@pytest.mark.parametrize("dataset", ["hes_apc", "hes_op"])
@needs(ARTIFICIAL["hes_apc"][0])
def test_the_artificial_extract_matches_its_contract_column_by_column(dataset: str) -> None:
    path, _ = ARTIFICIAL[dataset]
    with path.open(encoding="utf-8") as file:
        header = next(csv.reader(file))
    found = match_header(select_contract(dataset, header), header)
    assert found.contract.id == f"{dataset}_1997"
    assert recognise_dataset(header) == dataset
    assert found.unknown == (), f"unknown: {found.unknown_labels}"
    assert found.missing_required == ()
    assert found.forbidden == ()
    assert found.duplicated == ()
    assert len(found.fields) == len(header)


@pytest.mark.parametrize("dataset", ["hes_apc", "hes_op"])
@needs(ARTIFICIAL["hes_apc"][0])
def test_the_artificial_extract_breaks_no_critical_rule_and_loses_no_row(dataset: str) -> None:
    path, period = ARTIFICIAL[dataset]
    frame = pl.read_csv(path, infer_schema_length=0)
    found = match_header(select_contract(dataset, frame.columns), frame.columns)
    frame.columns = [field.name for field in found.fields]
    rule_set = compile_rules(found.contract, frame.columns, period, CODES)
    fields = [field for field in found.fields if field.name in rule_set.fields]
    typed = type_chunk(
        frame.select([field.name for field in fields]), [FieldTyping(field) for field in fields]
    )
    measured = rule_set.measure(typed, pl.int_range(1, frame.height + 1, eager=True))
    hashes = {rule_id: [keys] for rule_id, keys in measured.key_hashes.items()}
    counts = pl.concat([measured.counts, whole_delivery_counts(rule_set, frame.height, hashes)])
    by_id = {rule.id: rule for rule in found.contract.rules}
    broken = {
        rule_id
        for rule_id, rows, failures in counts.rows()
        if rows and failures / rows > by_id[rule_id].allow and by_id[rule_id].severity == "critical"
    }
    assert broken == set(), f"critical rules that a good extract breaks: {sorted(broken)}"
    assert measured.quarantine.height == 0


def test_the_fields_that_sql_counts_on_are_core() -> None:
    found = contract("hes_apc", "1997")
    wanted = set(
        words(
            "EPIKEY FYEAR PARTYEAR ADMIDATE ADMIMETH ADMISORC DISDATE DISDEST DISMETH EPISTART EPIEND "
            "EPIORDER EPISTAT EPITYPE CLASSPAT SPELBGIN SPELEND SEX STARTAGE PROCODE3 PROCODE5 PROCODET "
            "SITETRET DIAG_3_01 OPERTN_4_01 SUSSPELLID MAINSPEF TRETSPEF ETHNOS IMD04_DECILE DELMETH_1 "
            "NUMBABY BIRSTAT_1 BIRWEIT_1 GESTAT_1 NEOCARE NEODUR"
        )
    )
    wanted |= {f"DIAG_{n:02d}" for n in range(1, 21)} | {f"DIAG_4_{n:02d}" for n in range(1, 21)}
    wanted |= {f"OPERTN_{n:02d}" for n in range(1, 25)} | {f"OPDATE_{n:02d}" for n in range(1, 25)}
    core = {field.name for field in found.fields if field.core}
    assert wanted <= core, f"not core: {sorted(wanted - core)}"
    for field in found.fields:
        assert not field.core or field.in_lake, f"{field.name} is core and has no column in the lake"


@pytest.mark.parametrize(
    ("dataset", "key", "era", "longest"),
    [
        ("hes_apc", "EPIKEY", "1997", 12),
        ("hes_apc", "EPIKEY", "2021", 19),
        ("hes_op", "ATTENDKEY", "1997", 12),
        ("hes_op", "ATTENDKEY", "2021", 19),
        ("hes_ae", "AEKEY", "1997", 12),
        ("hes_ae", "AEKEY", "2021", 19),
        ("hes_apc", "LOPATID", "1997", 10),
        ("hes_apc", "LOPATID", "2021", 20),
    ],
)
def test_keys_and_hospital_numbers_grew_longer_with_the_layout_of_2021(
    dataset: str, key: str, era: str, longest: int
) -> None:
    found = contract(dataset, era)
    assert found.field(key).max_length == longest
    lengths = {rule.args for rule in found.rules if rule.check == "max_length"}
    assert (key, f"={longest}") in lengths, f"no rule holds {key} to {longest} characters"


# The seven items and everything near them -------------------------------------------------------------

IDENTIFIABLE = {
    "NEWNHSNO": Item.NHS_NUMBER,
    "LOPATID": Item.LOCAL_PATIENT_IDENTIFIER,
    "DOB": Item.DATE_OF_BIRTH,
    "HOMEADD": Item.POSTCODE,
}
MATERNITY = {
    "MOTDOB": Item.MOTHERS_DATE_OF_BIRTH,
    **{f"DOBBABY_{n}": Item.BABYS_DATE_OF_BIRTH for n in range(1, 10)},
}
EXPECTED_ITEMS = {
    "hes_apc": IDENTIFIABLE | MATERNITY,
    "hes_op": IDENTIFIABLE,
    "hes_ae": IDENTIFIABLE,
    "ons_deaths": {"DOD": Item.DATE_OF_DEATH},
    "ons_deaths_bridge": {},
    "hes_person_bridge": {},
    "civil_deaths": {
        "REG_DATE_OF_DEATH": Item.DATE_OF_DEATH,
        "DEC_CONF_NHS_NUMBER": Item.NHS_NUMBER,
        "DEC_DATE_OF_BIRTH": Item.DATE_OF_BIRTH,
    },
}


def test_the_identifiable_items_are_exactly_these_columns() -> None:
    assert set(EXPECTED_ITEMS) == set(datasets()), "a new dataset needs its line in this table"
    for found in load_contracts().values():
        items = {field.name: field.item for field in found.fields if field.item is not None}
        assert items == EXPECTED_ITEMS[found.dataset], f"{found.id} maps other columns to the seven items"


def test_each_of_the_seven_items_arrives_in_some_dataset() -> None:
    arriving = {item for found in load_contracts().values() for item in found.items}
    assert arriving == set(Item)


@pytest.mark.parametrize(
    "name",
    # The seven items, and what NHS Digital's own check of artificial data refuses beside them.
    words(
        "NEWNHSNO NHSNO NHS_NUMBER LOPATID DOB HOMEADD MOTDOB DOBBABY_1 DOBBABY_9 DOD REG_DATE_OF_DEATH "
        "HESID PERSON_ID TOKEN_PERSON_ID ENCRYPTED_HESID PSEUDO_HESID EXTRACT_HESID PATPATHID BOOKREFNO "
        "CDSUNIQUEID SUSRECID ATTENDID PREFERER MYDOB STARTAGE_CALC APPTAGE_CALC ARRIVALAGE_CALC LSOA01 "
        "LSOA11 MSOA01 MSOA11 OACODE11 GRIDLINK POSTDIST IMD04 IMD04RK GPPRAC REGGMP CONSULT PCONSULT "
        "REFERRER PROVSPNO PROVSPNOPS LEGLSTAT LEGLCAT DOR REG_DATE CAUSE_OF_DEATH S_UNDERLYING_COD_ICD10 "
        "S_COD_CODE_1"
    ),
)
def test_no_contract_lets_an_identifying_column_into_the_lake(name: str) -> None:
    declared = [found.by_header[name] for found in load_contracts().values() if name in found.by_header]
    assert declared, f"{name} is in no contract at all, so it would arrive as an unknown column"
    for field in declared:
        assert not field.in_lake, f"{name} has the class {field.field_class} and would reach the lake"


def test_a_field_that_narrows_people_down_is_kept_only_with_a_reason() -> None:
    for found in load_contracts().values():
        for field in found.fields:
            if field.quasi_identifier:
                assert field.in_lake, f"{found.id}.{field.name}: only a kept field needs the mark"
                assert len(field.reason) > 20, f"{found.id}.{field.name}: say why it is kept"


def test_a_derived_column_never_repeats_an_identifiable_item() -> None:
    for found in load_contracts().values():
        for derivation in found.derivations:
            assert derivation.type != "date", f"{found.id}: {derivation.name} would carry a date out"
            assert derivation.name.upper() not in found.by_header


def test_deaths_make_no_table_of_the_lake() -> None:
    linked = {found.dataset for found in load_contracts().values() if found.destination == "linkage"}
    with_deaths = {found.dataset for found in load_contracts().values() if Item.DATE_OF_DEATH in found.items}
    assert linked == with_deaths | {"ons_deaths_bridge"}


def test_a_month_of_death_without_its_day_is_read_after_the_full_dates() -> None:
    for dataset, name in (("ons_deaths", "DOD"), ("civil_deaths", "REG_DATE_OF_DEATH")):
        assert versions(dataset)[0].field(name).formats[-1] == "%Y%m"


# Sentinels and codes ----------------------------------------------------------------------------------


def test_nothing_submitted_invalid_and_not_stated_stay_apart() -> None:
    found = contract("hes_apc", "1997")
    admission = found.field("ADMIDATE")
    assert {"1800-01-01", "1600-01-01", "18000101"} <= set(admission.null_values)
    assert {"1801-01-01", "1582-10-15", "18010101"} <= set(admission.invalid_values)
    assert found.field("DIAG_01").null_values == ("-", "R69X6")
    assert found.field("DIAG_01").invalid_values == ("R69X8", "R69X3")
    assert found.field("SEX").not_stated_values == ("0", "X")
    assert found.field("BIRORDR_1").null_values == ("X",)


def test_not_applicable_is_a_statement_and_no_missing_value() -> None:
    method = contract("hes_apc", "1997").field("DISMETH")
    assert method.not_stated_values == ("9",)
    assert "8" not in (*method.null_values, *method.invalid_values), "8 says that the spell is not finished"


def test_letters_in_admission_methods_survive_as_text() -> None:
    assert {"2A", "2B", "2C", "2D"} <= set(code_list("admimeth").values)


def test_every_code_list_is_used() -> None:
    used = {field.codes for found in load_contracts().values() for field in found.fields if field.codes}
    assert used == set(code_lists()), "a list nobody uses is a list nobody checks"


# Rules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contract_id", sorted(load_contracts()))
def test_every_rule_and_derivation_is_one_that_the_code_knows(contract_id: str) -> None:
    found = load_contracts()[contract_id]
    assert {rule.check for rule in found.rules} <= set(check_names.CHECKS)
    assert {derivation.function for derivation in found.derivations} <= set(check_names.DERIVATIONS)
    period = (date(2020, 4, 1), date(2021, 3, 31)) if found.period.kind == "YYYYnn" else None
    names = [field.name for field in found.fields]
    compiled = compile_rules(found, names, period, CODES)
    assert compiled.not_applicable == ()
    assert len(compile_derivations(found, names)) == len(found.derivations)


@pytest.mark.parametrize("contract_id", sorted(load_contracts()))
def test_every_dataset_refuses_an_empty_delivery_and_one_without_keys(contract_id: str) -> None:
    found = load_contracts()[contract_id]
    critical = {(rule.check, rule.args) for rule in found.rules if rule.severity == "critical"}
    assert ("rows_at_least", ("=1",)) in critical
    for name in found.record_key:
        assert ("not_null", (name,)) in critical, f"{found.id}: a delivery without {name} would pass"


def test_rule_ids_are_stable_and_begin_with_their_dataset() -> None:
    for found in load_contracts().values():
        for rule in found.rules:
            assert re.match(rf"^{found.dataset.upper()}\.(R\d\d|[A-Z0-9_]+\.[a-z0-9_]+)$", rule.id), rule.id


def test_a_typed_or_coded_field_gets_its_rule_without_asking(tmp_path: Path) -> None:
    rules = {rule.id: rule for rule in load_small(tmp_path).rules}
    assert set(rules) == {
        "SMALL.BORN.typed",
        "SMALL.SEEN.typed",
        "SMALL.KIND.one_of_codes",
        "SMALL.TEXT.no_nhs_number",
    }
    assert {rule.severity for rule in rules.values()} == {"warning"}


def test_a_shorthand_check_may_carry_literals_and_a_tolerance(tmp_path: Path) -> None:
    text = (
        SMALL
        + '  - {name: AGE, type: integer, class: clinical, checks: ["between(=0,=120)=0.01", null_rate]}\n'
    )
    rules = {rule.id: rule for rule in load_small(tmp_path, text).rules}
    between = rules["SMALL.AGE.between"]
    assert (between.args, between.allow, between.level) == (("AGE", "=0", "=120"), 0.01, "delivery")
    assert rules["SMALL.AGE.null_rate"].args == ("AGE",)


def test_a_rule_at_record_level_takes_the_place_of_the_implied_one(tmp_path: Path) -> None:
    text = SMALL + (
        "rules:\n  - {id: SMALL.R01, severity: warning, level: record, check: typed, args: [SEEN], says: x}\n"
    )
    ids = {rule.id for rule in load_small(tmp_path, text).rules}
    assert "SMALL.R01" in ids
    assert "SMALL.SEEN.typed" not in ids, "the same failure would be counted under two names"


# How a file is read -----------------------------------------------------------------------------------


def test_no_stays_no_and_01_stays_01(tmp_path: Path) -> None:
    found = load_small(tmp_path, SMALL.replace('version: "1"', "version: 1"))
    assert found.version == "1"
    lists = load_code_folder(tmp_path / "codes")
    assert lists["kinds"].values == ("01", "NO", "9")
    assert found.field("KIND").not_stated_values == ("9",)


def test_a_child_contract_says_only_what_differs(tmp_path: Path) -> None:
    load_small(tmp_path)
    child = (
        'dataset: small\nversion: "2"\ntitle: The next layout\nextends: small_1\nremove: [SEEN]\n'
        "fields:\n  - {name: KEY, max_length: 19}\n  - {name: MORE, type: string, class: administrative}\n"
    )
    found = load_small(tmp_path, child, name="small_2.yaml")
    assert [field.name for field in found.fields] == ["KEY", "BORN", "KIND", "MORE"]
    assert (found.field("KEY").max_length, found.field("KEY").required) == (19, True)
    assert found.record_key == ("KEY",)


def test_a_repeat_stands_for_its_numbered_fields(tmp_path: Path) -> None:
    text = SMALL + (
        "  - {repeat: 'DIAG_{nn}', count: 12, type: code, class: clinical, label: 'Diagnosis {nn}'}\n"
        "  - {repeat: 'BABY_{n}', count: 2, type: code, class: clinical, aliases: ['CHILD_{n}']}\n"
    )
    found = load_small(tmp_path, text)
    names = [field.name for field in found.fields]
    assert names[4:] == [f"DIAG_{n:02d}" for n in range(1, 13)] + ["BABY_1", "BABY_2"]
    assert found.field("DIAG_12").label == "Diagnosis 12"
    assert found.by_header["CHILD_2"].name == "BABY_2"


def test_a_group_gives_its_keys_to_its_fields(tmp_path: Path) -> None:
    text = SMALL + (
        "  - group: dropped\n    type: string\n    class: restricted\n    reason: nobody needs it\n"
        "    fields:\n      - {name: A1}\n      - {name: A2, reason: even less}\n"
    )
    found = load_small(tmp_path, text)
    assert found.field("A1").reason == "nobody needs it"
    assert found.field("A2").reason == "even less"


def changed(old: str, new: str) -> str:
    assert SMALL.count(old) == 1, f"the small contract should hold {old!r} once"
    return SMALL.replace(old, new)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            changed("{name: SEEN, type: date, class: administrative}", "{name: SEEN, type: date}"),
            "fields[SEEN]: the key 'class' is missing",
        ),
        (changed("class: administrative", "class: admin"), "fields[SEEN].class: Input should be"),
        (changed("class: administrative", "klass: administrative"), "the key 'klass' is unknown"),
        (changed("title: A small dataset", "titel: A small dataset"), "the key 'titel' is unknown"),
        (changed(", item: date_of_birth", ""), "BORN: an identifiable field names its item"),
        (
            changed("class: administrative", "class: administrative, item: date_of_birth"),
            "SEEN: an identifiable field names its item",
        ),
        (changed("item: date_of_birth", "item: shoe_size"), "fields[BORN].item: Input should be"),
        (changed("class: administrative", "class: restricted"), "SEEN: say in `reason`"),
        (
            changed("class: administrative", "class: administrative, quasi_identifier: true"),
            "SEEN: say in `reason`",
        ),
        (
            changed("class: administrative", "class: administrative, aliases: [born]"),
            "the column name BORN belongs to both BORN and SEEN",
        ),
        (changed("name: SEEN", "name: BORN"), "the field BORN is declared twice"),
        (changed("name: SEEN", "name: DATE SEEN"), "'DATE SEEN' is not a column name"),
        (changed("codes: kinds", "codes: sorts"), "KIND: there is no code list 'sorts'"),
        (changed("codes: kinds", "checks: [is_nice]"), "KIND: there is no field check called 'is_nice'"),
        (
            changed("codes: kinds", 'checks: ["null_rate=2"]'),
            "KIND: the share after null_rate must be from 0 to 1",
        ),
        (changed("codes: kinds", "checks: [max_length]"), "KIND: the check max_length needs a `max_length`"),
        (
            changed("codes: kinds", "null_values: [x], invalid_values: [x]"),
            "one sentinel is listed under two meanings",
        ),
        (changed("name: SEEN", "name: SURNAME"), "the column name SURNAME is forbidden by policy"),
        (changed("record_key: [KEY]", "record_key: [LOCK]"), "record_key names LOCK, which is not a field"),
        (
            changed("record_key: [KEY]", "record_key: [SEEN]"),
            "record_key: SEEN must have the class record_key",
        ),
        (
            changed("record_key: [KEY]", "record_key: [KEY]\nperson_id: KEY"),
            "KEY must have the class person_id",
        ),
        (
            changed("record_key: [KEY]", "record_key: [KEY]\nissuer: [SEEN]"),
            "SEEN must have the class organisation",
        ),
        (changed("title: A small", "title: B\ntitle: A small"), "the key 'title' is written twice"),
        (changed("fields:", "fields: ["), "this is not readable YAML"),
        ("- just\n- a list\n", "the file must be a mapping"),
        (changed("dataset: small", "dataset: big"), "should be called big_1.yaml"),
        (changed("record_key: [KEY]", "record_key: [KEY]\nextends: nobody"), "extends 'nobody'"),
        (changed("record_key: [KEY]", "record_key: [KEY]\nextends: small_1"), "`extends` runs in a circle"),
        (changed("record_key: [KEY]", "record_key: [KEY]\nremove: [SEEN]"), "`remove` needs an `extends`"),
        (SMALL + "  - {repeat: 'X_{n}', type: string, class: clinical}\n", "needs a whole number as `count`"),
        (
            SMALL + "  - {repeat: X, count: 2, type: string, class: clinical}\n",
            "a repeat has one {n} or {nn} in it",
        ),
        (SMALL + "  - {type: string, class: clinical}\n", "a field has neither `name` nor `repeat`"),
        (
            SMALL + "rules:\n  - {id: S.R1, severity: warning, check: not_null, args: [GONE], says: x}\n",
            "S.R1 names GONE, which is not a field",
        ),
        (
            SMALL + "rules:\n  - {id: S.R1, severity: warning, check: is_nice, args: [KEY], says: x}\n",
            "S.R1: there is no check called 'is_nice'",
        ),
        (
            SMALL + "rules:\n  - {id: S.R1, severity: grave, check: not_null, args: [KEY], says: x}\n",
            "rules[S.R1].severity: Input should be",
        ),
        (
            SMALL
            + "rules:\n  - {id: S.R1, severity: warning, check: not_null, args: [KEY], says: x}\n"
            + "  - {id: S.R1, severity: warning, check: not_null, args: [SEEN], says: y}\n",
            "S.R1 is declared twice",
        ),
        (
            SMALL
            + "derivations:\n  - {name: age, type: integer, function: guess, args: [BORN, SEEN], says: x}\n",
            "the derivation age: there is no derivation function called 'guess'",
        ),
        (
            SMALL
            + "derivations:\n  - {name: age, type: integer, function: age_years, args: [B, SEEN], says: x}\n",
            "the derivation age names B, which is not a field",
        ),
        (
            SMALL
            + "derivations:\n  - {name: born, type: code, function: postcode_area, args: [KEY], says: x}\n",
            "must be lower case and not the name of a delivered column",
        ),
    ],
)
def test_a_wrong_contract_does_not_load_and_says_why(tmp_path: Path, text: str, sentence: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith("small_1.yaml: "), "the message begins with the file's name"
    assert sentence in message


@pytest.mark.parametrize(
    ("kinds", "sentence"),
    [
        (KINDS.replace('code: "9"', 'code: "01"'), "the code '01' is listed twice"),
        (KINDS.replace("state: not_stated", "state: perhaps"), "codes[9].state: Input should be"),
        (
            KINDS.replace("label: first", "label: first, colour: red"),
            "codes[01]: the key 'colour' is unknown",
        ),
        (KINDS.replace("name: kinds", "name: sorts"), "the list calls itself 'sorts'"),
        (KINDS.replace("label: first", 'label: first, from: "2013"'), "codes[01].from: String should match"),
    ],
)
def test_a_wrong_code_list_does_not_load_and_says_why(tmp_path: Path, kinds: str, sentence: str) -> None:
    message = refusal(tmp_path, kinds=kinds)
    assert message.startswith("kinds.yaml: ")
    assert sentence in message


def test_an_unknown_dataset_or_version_is_said_plainly() -> None:
    with pytest.raises(ContractDefinitionError, match="no contract for hes_apc, version 1850"):
        contract("hes_apc", "1850")
    with pytest.raises(ContractDefinitionError, match="no contract for a dataset called nonsense"):
        select_contract("nonsense", ["A"])
    with pytest.raises(ContractDefinitionError, match="no code list 'nonsense'"):
        code_list("nonsense")


@pytest.mark.parametrize("path", sorted(CONTRACT_FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_contract_file_satisfies_the_schema_that_editors_use(path: Path) -> None:
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    jsonschema.validate(content, schema_of_text())


def schema_of_text() -> dict[str, object]:
    """The editors' schema, with the words for truth values: a BaseLoader reads every scalar as text."""
    schema = contract_schema()
    for part in schema["$defs"].values():
        for name, rule in part["properties"].items():
            if rule == {"type": "boolean"}:
                part["properties"][name] = {"enum": ["true", "false"]}
    return schema


# A delivered header -----------------------------------------------------------------------------------

APC_HEADER = (
    "EPIKEY",
    "TOKEN_PERSON_ID",
    "EPISTART",
    "PROCODE3",
    "NEWNHSNO",
    "DIAG_01",
    "OPERTN_24",
    "FYEAR",
)


@given(seed=st.integers(0, 2**32), order=st.permutations(APC_HEADER))
@settings(max_examples=50, deadline=None)
def test_columns_are_found_in_any_order_and_letter_case(seed: int, order: list[str]) -> None:
    chance = random.Random(seed)
    header = ["".join(chance.choice((letter.upper(), letter.lower())) for letter in name) for name in order]
    found = match_header(select_contract("hes_apc", header), header)
    assert found.contract.version == "2021"
    assert [field.name for field in found.fields] == order
    assert (found.unknown, found.missing_required, found.forbidden, found.duplicated) == ((), (), (), ())


def test_byte_order_mark_quotes_and_blanks_do_not_hide_a_column() -> None:
    assert fold_header('\ufeff"Epikey" ') == "EPIKEY"
    found = match_header(
        contract("hes_apc", "2021"), ['\ufeff"epikey"', " episTART", "token_person_id\t", "procode3"]
    )
    assert [field.name for field in found.fields] == ["EPIKEY", "EPISTART", "TOKEN_PERSON_ID", "PROCODE3"]


@pytest.mark.parametrize("dataset", HES)
@pytest.mark.parametrize(
    ("person", "era"),
    [
        ("TOKEN_PERSON_ID", "2021"),
        ("token_person_id", "2021"),
        ("ENCRYPTED_HESID", "1997"),
        ("PSEUDO_HESID", "1997"),
        ("Extract_HesId", "1997"),
    ],
)
def test_the_person_id_column_tells_the_layout(dataset: str, person: str, era: str) -> None:
    assert select_contract(dataset, [person, "SEX"]).version == era


def test_with_both_person_ids_the_new_layout_counts_and_the_old_id_is_dropped() -> None:
    header = [*APC_HEADER, "ENCRYPTED_HESID"]
    found = match_header(select_contract("hes_apc", header), header)
    assert found.contract.version == "2021"
    assert found.fields[-1].field_class is FieldClass.RESTRICTED


def test_a_file_without_a_person_id_column_is_refused_without_quoting_its_first_line() -> None:
    with pytest.raises(DeliveryRefused) as caught:
        select_contract("hes_apc", ["4857773456", "SMITH"])
    assert "4857773456" not in str(caught.value)
    assert "SMITH" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "dataset"),
    [
        (APC_HEADER, "hes_apc"),
        (("AEKEY", "EPIKEY", "TOKEN_PERSON_ID", "ARRIVALDATE", "PROCODE3"), "hes_ae"),
        (("EPIKEY", "AEKEY", "TOKEN_PERSON_ID", "EPISTART", "PROCODE3"), "hes_apc"),
        (("attendkey", "encrypted_hesid", "apptdate", "procodet"), "hes_op"),
        (("RECORD_ID", "DOD", "DOR", "SEX"), "ons_deaths"),
        (("RECORD_ID", "ENCRYPTED_HESID"), "ons_deaths_bridge"),
        (("ENCRYPTED_HESID", "TOKEN_PERSON_ID"), "hes_person_bridge"),
        (("TOKEN_PERSON_ID", "REG_DATE", "REG_DATE_OF_DEATH"), "civil_deaths"),
        (("A", "B", "C"), None),
        ((), None),
    ],
)
def test_a_dataset_is_recognised_by_its_header(header: tuple[str, ...], dataset: str | None) -> None:
    assert recognise_dataset(header) == dataset


def test_every_contract_recognises_its_own_full_header() -> None:
    for found in load_contracts().values():
        header = [field.name for field in found.fields]
        assert recognise_dataset(header) == found.dataset, found.id
        assert select_contract(found.dataset, header).id == found.id


def test_missing_required_columns_are_named() -> None:
    found = match_header(contract("hes_apc", "2021"), ["TOKEN_PERSON_ID", "SEX"])
    assert found.missing_required == (
        "EPIKEY",
        "EPISTART",
        "one of PROCODET, PROCODE5, PROCODE3, PROCODE",
    )


def test_a_column_delivered_twice_is_named_also_under_its_alias() -> None:
    found = match_header(contract("hes_apc", "2021"), [*APC_HEADER, "epikey", "NHS_NUMBER"])
    assert found.duplicated == ("EPIKEY", "NEWNHSNO")


def test_an_unknown_column_is_shown_by_a_safe_name_and_else_by_its_place() -> None:
    header = [*APC_HEADER, "NEW_FIELD", "what is this?", "9434765919"]
    found = match_header(contract("hes_apc", "2021"), header)
    assert found.unknown == (8, 9, 10)
    assert found.unknown_labels == ("NEW_FIELD", "column 10", "column 11")


def test_without_a_header_nothing_of_the_first_record_is_shown() -> None:
    record = [
        "5137001257",
        "TESTWn4Rt4ww00zIOJ8rYBMf5fgC4tvI",
        "2001-09-27",
        "SMITH",
        "12 ADDRESS ROAD",
        "SMITH",
    ]
    found = match_header(contract("hes_apc", "1997"), record)
    shown = " ".join((*found.unknown_labels, *found.forbidden, *found.duplicated, *found.missing_required))
    for value in record:
        assert value.upper() not in shown.upper(), "a value of a record came out as a column name"


@pytest.mark.parametrize(
    "name",
    words(
        "NAME FORENAME SURNAME Surname PATIENT_NAME patient_surname GIVEN_NAME FAMILY_NAME "
        "PATIENT_FAMILY_NAME PATIENT_FULL_NAME PATIENT_GIVEN_NAME PATIENT_INITIALS PATIENT_NAME_SUFFIX "
        "PATIENT_TITLE ADDRESS ADDRESS_LINE_1 ADDRESS_LINE_5 HOME_ADDRESS "
        "PATIENT_USUAL_ADDRESS_STRUCTURED PATIENT_USUAL_ADDRESS_UNSTRUCTURED TELEPHONE TELEPHONE_NUMBER "
        "HOME_PHONE MOBILE_NUMBER EMAIL EMAIL_ADDRESS PersonGivenName PersonFamilyName MOTHERS_NAME "
        "NEXT_OF_KIN"
    ),
)
@pytest.mark.parametrize("contract_id", ["hes_apc_2021", "civil_deaths_2021"])
def test_a_name_or_address_column_is_forbidden_in_every_dataset(name: str, contract_id: str) -> None:
    found = match_header(
        load_contracts()[contract_id], ["TOKEN_PERSON_ID", "REG_DATE_OF_DEATH", "EPIKEY", name]
    )
    assert len(found.forbidden) == 1, f"{name} would have been taken"
    assert found.columns[3] is None
    assert 3 not in found.unknown


def test_a_forbidden_column_is_found_through_blanks_and_hyphens() -> None:
    assert forbidden_columns().match("Patient Name") is not None
    assert forbidden_columns().match("E-Mail") is not None


def test_the_postcode_is_no_address_and_no_contract_field_is_forbidden() -> None:
    assert forbidden_columns().match("HOMEADD") is None
    for found, name, _ in all_fields():
        for column in (name, *found.field(name).aliases):
            assert forbidden_columns().match(column) is None, f"{found.id}.{column} could never be delivered"


def test_every_forbidden_entry_says_why_and_by_whose_word() -> None:
    for group in forbidden_columns().forbidden:
        assert len(group.reason) > 40
        assert group.source
