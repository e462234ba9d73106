"""The data dictionary and the editors' schema are what the contracts say today."""

from __future__ import annotations

import json
import re

from schemas.code_lists import code_lists
from schemas.contract import FieldClass
from schemas.dictionary import CLASS_TEXT, DICTIONARY_FILE, ITEM_TEXT, render
from schemas.json_schema import SCHEMA_FILE
from schemas.json_schema import render as render_schema
from schemas.loader import datasets, load_contracts


def written_out(page: str) -> set[str]:
    """Every field name on the page, the series (`X_01` to `X_20`) written out."""
    names = set(re.findall(r"`([A-Z][A-Z0-9_]*)`", page))
    for first, last in re.findall(r"`([A-Z0-9_]+)` to `([A-Z0-9_]+)`", page):
        stem, digits = re.fullmatch(r"(.*_)(\d+)", first).groups()  # type: ignore[union-attr]
        end = int(last.removeprefix(stem))
        names |= {f"{stem}{number:0{len(digits)}d}" for number in range(int(digits), end + 1)}
    return names


def test_the_committed_dictionary_is_current() -> None:
    assert DICTIONARY_FILE.read_text(encoding="utf-8") == render(), "run: python -m schemas.dictionary"


def test_the_committed_schema_is_current() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == render_schema(), "run: python -m schemas.json_schema"
    assert json.loads(render_schema())["$schema"].startswith("https://json-schema.org/")


def test_the_dictionary_is_the_same_text_every_time() -> None:
    assert render() == render()


def test_every_field_and_alias_of_every_dataset_is_in_the_dictionary() -> None:
    named = written_out(render())
    for found in load_contracts().values():
        wanted = {name for field in found.fields for name in (field.name, *field.aliases)}
        assert wanted <= named, f"{found.id}: not in the dictionary: {sorted(wanted - named)}"


def test_every_dataset_class_item_and_code_list_has_its_place() -> None:
    page = render()
    for dataset in datasets():
        assert f"## {dataset}\n" in page
    for field_class in FieldClass:
        assert f"| {field_class.value} | {CLASS_TEXT[field_class][0]} |" in page
    for words in ITEM_TEXT.values():
        assert f"| {words} |" in page
    for name in code_lists():
        assert f'<a id="codes-{name}"></a>' in page


def test_every_reason_for_keeping_or_dropping_a_field_is_in_the_dictionary() -> None:
    page = render()
    for found in load_contracts().values():
        for field in found.fields:
            assert field.reason in page, f"{found.id}.{field.name}: its reason is not told"


def test_every_written_rule_of_the_newest_layout_is_in_the_dictionary() -> None:
    page = render()
    for found in load_contracts().values():
        for rule in found.rules:
            if re.search(r"\.R\d\d$", rule.id):
                assert f"`{rule.id}`" in page
