"""No code that an indicator or the case mix asks for is lost on the way into the episode tables.

``sql/core`` keeps, for the sake of memory, only those secondary diagnoses and procedures whose codes fit a
pattern. A code that somebody adds to an indicator and that does not fit would silently never be found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from infra.compute import core_parameters, load_indicators
from schemas.indicator_metadata import CoreParameters, Parameter
from schemas.shmi_reference import CodeRange, charlson
from schemas.yaml_text import parse_model, read_yaml
from sql import CORE_FOLDER, core_query

# ICD-10 and OPCS-4 codes look alike: a letter and two digits at least.
CODE = re.compile(r"[A-Z]\d\d\w{0,3}")
PATTERN = re.compile(r"'(\\b\(\?:[^']+)'")
INDICATORS = {indicator.metadata.id: indicator for indicator in load_indicators()}


def kept_by(relation: str) -> str:
    """The pattern of ``sql/core/<relation>.sql``, which stands there more than once."""
    patterns: set[str] = set(PATTERN.findall(core_query(relation).read_text(encoding="utf-8")))
    keeping = {
        pattern for pattern in patterns if "[A-QS-Z]" not in pattern
    }  # the count of all codes is no filter
    assert len(keeping) == 1, f"{relation}.sql keeps codes by {len(keeping)} different patterns"
    return keeping.pop()


def keeps(pattern: str, code: str) -> bool:
    """Is every code that begins with ``code`` kept, alone and among others?"""
    longer = code if len(code) > 3 else code + "9"
    return all(re.search(pattern, text) is not None for text in (longer, f"Z999 {longer} Z999", longer + "D"))


def within(part: CodeRange) -> Iterator[str]:
    """The beginnings of codes that a range holds: of three characters, or of four within one category."""
    if len(part.first) == 3:
        for number in range(int(part.first[1:]), int(part.last[1:]) + 1):
            yield f"{part.first[0]}{number:02d}"
    else:
        yield from (part.first[:3] + last for last in "0123456789X" if part.first[3] <= last <= part.last[3])


def parameters() -> Iterator[tuple[str, Parameter]]:
    for name, indicator in INDICATORS.items():
        for parameter in indicator.metadata.parameters:
            yield name, parameter
    path = CORE_FOLDER / "parameters.yaml"
    for parameter in parse_model(CoreParameters, read_yaml(path), path.name).parameters:
        yield "core", parameter


def coded() -> list[tuple[str, str, str]]:
    """Where, which classification, code: of every parameter that looks like clinical codes.

    Where no procedure is read, codes can only be diagnoses; elsewhere the parameter has to say which they are.
    """
    found = []
    for where, parameter in parameters():
        values = parameter.value if isinstance(parameter.value, tuple) else (parameter.value,)
        if parameter.type not in ("codes", "code") or not all(CODE.fullmatch(value) for value in values):
            continue
        named = [name for name in ("ICD-10", "OPCS-4") if name in parameter.says] or [
            name for name in ("ICD-10", "OPCS-4") if name in parameter.source
        ]
        reads_procedures = where not in INDICATORS or "episode_procedure" in INDICATORS[where].query
        classification = " or ".join(named) or ("" if reads_procedures else "ICD-10")
        found += [(f"{where}.{parameter.name}", classification, value) for value in values]
    return found


@pytest.mark.parametrize("where", sorted({where for where, _, _ in coded()}))
def test_a_list_of_clinical_codes_says_in_which_classification(where: str) -> None:
    said = {classification for place, classification, _ in coded() if place == where}
    assert said in ({"ICD-10"}, {"OPCS-4"}), (
        f"{where}: its `says` must name ICD-10 or OPCS-4, as the codes look alike and are kept by different patterns"
    )


@pytest.mark.parametrize(
    ("classification", "relation"), [("ICD-10", "episode_record"), ("OPCS-4", "episode_procedure")]
)
def test_every_code_that_an_indicator_asks_for_is_kept(classification: str, relation: str) -> None:
    asked = [(where, code) for where, name, code in coded() if name == classification]
    assert asked, f"no indicator asks for {classification} codes: nothing was looked at"
    pattern = kept_by(relation)
    lost = sorted({f"{where}: {code}" for where, code in asked if not keeps(pattern, code)})
    assert not lost, f"sql/core/{relation}.sql drops codes that are asked for: {', '.join(lost)}"


def test_every_code_of_the_comorbidity_index_is_kept() -> None:
    pattern = kept_by("episode_record")
    prefixes = [
        prefix for condition in charlson().conditions for part in condition.codes for prefix in within(part)
    ]
    assert len(prefixes) > 100, "the comorbidity index is all but empty: nothing was looked at"
    lost = sorted({prefix for prefix in prefixes if not keeps(pattern, prefix)})
    assert not lost, f"sql/core/episode_record.sql drops codes of the comorbidity index: {', '.join(lost)}"


def test_every_infection_code_is_in_the_table_of_infections() -> None:
    text = core_query("infection_diagnosis").read_text(encoding="utf-8")
    held = set(re.findall(r"'([A-Z]\d\d)'", text))
    asked = {
        code
        for where, name, code in coded()
        if name == "ICD-10"
        and "infection_diagnosis" in getattr(INDICATORS.get(where.split(".")[0]), "query", "")
    }
    assert asked, "no indicator uses infection_diagnosis: nothing was looked at"
    assert {code[:3] for code in asked} <= held, f"not kept: {sorted(c for c in asked if c[:3] not in held)}"


def test_a_code_outside_the_pattern_would_be_noticed() -> None:
    pattern = kept_by("episode_record")
    assert not keeps(pattern, "H259"), "the pattern keeps everything, so these tests hold nothing"
    assert core_parameters(), "sql/core has no parameters"
