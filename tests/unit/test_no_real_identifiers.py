"""No file of the repository holds what could be a real patient's number or address (attack 96).

Test data come from ranges that belong to nobody: NHS numbers from 999 upward, which are never issued, and postcodes
of the area ZZ, which no house has. Whatever else has the form, a valid check digit or a postcode area in use, could
be somebody's; it stands below with the reason why it is nobody's, or it has to go.

This is what a hook before a commit should run: ``python -m pytest tests/unit/test_no_real_identifiers.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from transforms.identifiers import _AREAS, valid_nhs_number

PROJECT = Path(__file__).resolve().parents[2]
# As in .gitignore: made by tools, never committed.
NOT_IN_THE_REPOSITORY = frozenset(
    {".git", ".venv", ".pytest_cache", ".hypothesis", ".ruff_cache", ".mypy_cache", "__pycache__", "htmlcov"}
    | {"demo", "bench-results"}
)

# NHS number -> why it is nobody's.
NUMBERS_OF_NOBODY = {
    "9434765919": "the example of the NHS Data Dictionary and of NHS login's documentation",
    "4010232137": "the example with which the NHS Data Dictionary explains the check digit",
    "2333455667": "a placeholder of old systems, refused by transforms/checks.py",
    "9000000009": "one digit and nine zeros that the check digit lets through, to test that a check holds",
}
# Postcode, without its blank -> why it is nobody's.
POSTCODES_OF_NOBODY = {
    "SW1A1AA": "Buckingham Palace, the usual example",
    "M11AE": "the example of the form A9 9AA in the guide to postcodes of Royal Mail",
    "B11AA": "an example of the form A9 9AA with several blanks between",
    "W1A1AA": "Broadcasting House; here the end of the line above written with another alphabet",
    "GIR0AA": "Girobank, a form of its own, closed",
    "G01XA": "a code of ICD-10 (meningitis in diseases classified elsewhere) as HES pads it",
}

_NUMBER = re.compile(r"(?<![0-9A-Za-z.])([0-9]{3})([ -]?)([0-9]{3})\2([0-9]{4})(?![0-9A-Za-z])")
# Written in capitals or not; an ordinal ("2nd") ends no postcode.
_POSTCODE = re.compile(
    r"(?<![A-Za-z0-9])(([A-Za-z]{1,2})[0-9][A-Za-z0-9]? {0,3}[0-9][A-Za-z]{2}|(GIR) ?0AA)(?![A-Za-z0-9])"
)
_IN_USE = frozenset(_AREAS.split("|")) - {"ZZ"}
_ORDINAL = re.compile(r"(?:1st|2nd|3rd|[04-9]th)$", re.IGNORECASE)


def files() -> Iterator[Path]:
    for folder, names, found in os.walk(PROJECT):
        names[:] = [n for n in names if n not in NOT_IN_THE_REPOSITORY and not n.endswith(".egg-info")]
        yield from (Path(folder) / name for name in found if not name.endswith(".pyc"))


def suspects(text: str) -> Iterator[str]:
    """What could be an NHS number (ten digits) or a postcode (capitals, no blank), in the order of the text."""
    for match in _NUMBER.finditer(text):
        number = match[1] + match[3] + match[4]
        if valid_nhs_number(number) and not number.startswith("999") and len(set(number)) > 1:
            yield number
    for match in _POSTCODE.finditer(text):
        postcode = match[1].replace(" ", "").upper()
        in_use = match[3] or match[2].upper() in _IN_USE
        if in_use and not _ORDINAL.search(match[1]):
            yield postcode


def in_repository() -> dict[str, list[str]]:
    """Suspect -> the files and lines that hold it. Binary files are read byte by byte as text."""
    found: dict[str, list[str]] = {}
    for path in files():
        where = path.relative_to(PROJECT).as_posix()
        text = path.read_bytes().decode("utf-8", "replace")
        if next(suspects(text), None) is None:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            for suspect in suspects(line):
                found.setdefault(suspect, []).append(f"{where}:{number}")
    return found


def test_no_file_holds_an_nhs_number_or_a_postcode_that_could_be_somebodys() -> None:
    known = NUMBERS_OF_NOBODY.keys() | POSTCODES_OF_NOBODY.keys()
    found = in_repository()
    # This names places only: what is found could be real, and the log of a test run is read by many.
    places = sorted(place for suspect, places in found.items() if suspect not in known for place in places)
    assert places == [], "use a number from 999 upward or a postcode ZZ99, or give the reason in this file"
    assert known <= found.keys(), "an exception is needed no more"


def checked(nine: str) -> str:
    """``nine`` digits and their check digit, so that no such number stands in this file."""
    return next(f"{nine}{digit}" for digit in range(10) if valid_nhs_number(f"{nine}{digit}"))


def spaced(number: str, blank: str) -> str:
    return blank.join((number[:3], number[3:6], number[6:]))


@pytest.mark.parametrize(
    "text",
    [
        checked("485777345"),
        f"NHS number {checked('485777345')}.",
        f'"{spaced(checked("485777345"), " ")}"',
        f"{spaced(checked('485777345'), '-')},",
        "lives at L" + "S" + "1 4AP",
        "l" + "s" + "14ap",
        "postcode=EC" + "1A1BB;",
    ],
)
def test_a_suspect_is_noticed_however_it_is_written(text: str) -> None:
    assert len(list(suspects(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        spaced(checked("999000001"), " "),
        "4857773450" if not valid_nhs_number("4857773450") else "4857773451",
        f"sha256:{'ab' * 20}{checked('485777345')}cd",
        f"1{checked('485777345')}",
        "0000000000 1111111111",
        "ZZ99 3VZ",
        "the RM1 2nd floor",
        "E1 in 2026, LS1 and 4A",
        "hes_apc-201999-0123456789ab",
    ],
)
def test_what_belongs_to_nobody_by_its_range_or_form_passes(text: str) -> None:
    assert list(suspects(text)) == []


def test_the_scan_looks_at_code_sql_policy_and_fixtures() -> None:
    looked_at = {path.relative_to(PROJECT).parts[0] for path in files()}
    assert {"flows", "infra", "schemas", "sql", "tests", "transforms", "README.md"} <= looked_at
    assert any(path.suffix == ".parquet" for path in files())
