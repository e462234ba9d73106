"""Canaries: identifiable values that are recognised by their shape alone.

Every identifiable value of a synthetic extract belongs to a range that no other value of the extract, and no
real person, can have. A sweep over anything that was written, printed or stored so needs no list:

- NHS numbers: valid check digit, in the range 999 that is kept for tests;
- postcodes: area ``ZY``, which does not exist, in the shape of a postcode;
- local patient identifiers: ``WWLP`` and six characters, from the financial year 2022 sixteen;
- person ids: ``WWHX`` (ENCRYPTED_HESID) or ``WWTP`` (TOKEN_PERSON_ID) and 28 hexadecimal digits;
- dates of birth (one's own, a mother's, a baby's) and of death: always on the 4th, 8th, 12th, 16th, 20th,
  24th or 28th of a month. No other date of the extracts ever falls on one of these days: not an admission, a
  procedure, an appointment, a registration or a submission. Month ends and firsts stay free on purpose,
  since reports state periods with them.

What the dates cost in truth to life, so that linkage still works:

- a death in hospital has a date of death one day after the recorded discharge, or one day before it where the
  patient had been in for longer;
- a death after discharge is kept by the history itself on a reserved day, so days from discharge are exact;
- a baby's date of birth is the day before the delivery procedure's date and the baby's admission (a birth
  before midnight, recorded after it), never before the mother's admission.

This module needs nothing but the standard library: a sweep may import it without the generator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any, Final

RESERVED_DAYS_OF_MONTH: Final = frozenset({4, 8, 12, 16, 20, 24, 28})
NHS_NUMBER_PREFIX: Final = "999"
POSTCODE_AREA: Final = "ZY"
LOCAL_PATIENT_PREFIX: Final = "WWLP"
OLD_PERSON_PREFIX: Final = "WWHX"
NEW_PERSON_PREFIX: Final = "WWTP"

NHS_NUMBER: Final = re.compile(r"(?<![0-9])999[ -]?[0-9]{3}[ -]?[0-9]{4}(?![0-9])")
POSTCODE: Final = re.compile(
    r"(?<![A-Z0-9])ZY[0-9]{1,2} {0,2}[0-9][ABDEFGHJLNPQRSTUWXYZ]{2}(?![A-Z0-9])", re.IGNORECASE
)
LOCAL_PATIENT_IDENTIFIER: Final = re.compile(r"WWLP(?:[0-9A-Z]{16}|[0-9A-Z]{6})", re.IGNORECASE)
PERSON_ID: Final = re.compile(r"WW(?:HX|TP)[0-9A-F]{28}", re.IGNORECASE)
_DATES: Final = (
    re.compile(r"(?<![0-9])(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})(?![0-9])"),
    re.compile(r"(?<![0-9])(?P<year>[0-9]{4})(?P<month>[0-9]{2})(?P<day>[0-9]{2})(?![0-9])"),
    re.compile(r"(?<![0-9])(?P<day>[0-9]{2})[/.-](?P<month>[0-9]{2})[/.-](?P<year>[0-9]{4})(?![0-9])"),
)
KINDS: Final = ("nhs_number", "postcode", "local_patient_identifier", "person_id", "date")


def check_digit_holds(ten_digits: str) -> bool:
    """Modulus 11 of the NHS number (NHS Data Dictionary): weights 10 to 2, 11 less the remainder, 11 is 0."""
    if len(ten_digits) != 10 or not ten_digits.isdigit():
        return False
    total = sum(int(digit) * weight for digit, weight in zip(ten_digits, range(10, 1, -1), strict=False))
    expected = (11 - total % 11) % 11
    return expected == int(ten_digits[9])


def is_canary_date(value: date) -> bool:
    """Whether a date of an extract can only be a birth or a death."""
    return value.day in RESERVED_DAYS_OF_MONTH


def is_canary_nhs_number(text: str) -> bool:
    digits = text.replace(" ", "").replace("-", "")
    return digits.startswith(NHS_NUMBER_PREFIX) and check_digit_holds(digits)


def find(
    text: str, *, dates_from: date | None = None, dates_to: date | None = None
) -> Iterator[tuple[str, str]]:
    """Each canary in ``text`` as (kind, matched text), kinds from ``KINDS``.

    Dates are searched as ``YYYY-MM-DD``, ``YYYYMMDD`` and ``DD/MM/YYYY`` (also with ``.`` or ``-``), and only
    from ``dates_from`` to ``dates_to`` where given: a log's own time stamps lie outside the extracts' years.
    """
    for match in NHS_NUMBER.finditer(text):
        if is_canary_nhs_number(match[0]):
            yield "nhs_number", match[0]
    for kind, pattern in (
        ("postcode", POSTCODE),
        ("local_patient_identifier", LOCAL_PATIENT_IDENTIFIER),
        ("person_id", PERSON_ID),
    ):
        for match in pattern.finditer(text):
            yield kind, match[0]
    for pattern in _DATES:
        for match in pattern.finditer(text):
            if int(match["day"]) not in RESERVED_DAYS_OF_MONTH:
                continue
            try:
                found = date(int(match["year"]), int(match["month"]), int(match["day"]))
            except ValueError:  # eight digits that are no date
                continue
            if (dates_from is None or found >= dates_from) and (dates_to is None or found <= dates_to):
                yield "date", match[0]


def is_canary(text: str) -> bool:
    """Whether the whole of ``text`` (spaces around it aside) is one canary value."""
    stripped = text.strip()
    return any(match == stripped for _, match in find(stripped))


def canary_ranges(first_date: date, last_date: date) -> dict[str, Any]:
    """The description of the ranges that goes into ``truth.json``."""
    return {
        "nhs_number": {"prefix": NHS_NUMBER_PREFIX, "digits": 10, "pattern": NHS_NUMBER.pattern},
        "postcode": {"area": POSTCODE_AREA, "pattern": POSTCODE.pattern},
        "local_patient_identifier": {
            "prefix": LOCAL_PATIENT_PREFIX,
            "pattern": LOCAL_PATIENT_IDENTIFIER.pattern,
        },
        "person_id": {
            "prefixes": [OLD_PERSON_PREFIX, NEW_PERSON_PREFIX],
            "pattern": PERSON_ID.pattern,
        },
        "date": {
            "days_of_month": sorted(RESERVED_DAYS_OF_MONTH),
            "first": first_date.isoformat(),
            "last": last_date.isoformat(),
        },
    }


def canaries(truth: Mapping[str, Any]) -> Callable[[str], list[tuple[str, str]]]:
    """A finder of the canaries of the extracts that ``truth``, the content of ``truth.json``, describes.

    The finder takes a text and returns each canary in it as (kind, matched text).
    """
    dates = truth["canaries"]["date"]
    first, last = date.fromisoformat(dates["first"]), date.fromisoformat(dates["last"])

    def found_in(text: str) -> list[tuple[str, str]]:
        return list(find(text, dates_from=first, dates_to=last))

    return found_in
