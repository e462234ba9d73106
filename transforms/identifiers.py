"""Identifiers in text: does something a person typed, or a text we generate, look like it names a patient?

Reasons, notes, incident reports and log lines are written about data, never out of it. This module looks
at such text for the shapes of the seven identifiable items and of what travels with them (e-mail, phone). It
names the *kind* of what it found and never the thing itself.

The patterns are tuned to let ordinary reasons pass ("Re-delivery of month 06 after the supplier's correction,
RXX", "HES APC 201999") and otherwise to err towards refusing: a person who is refused writes the sentence
again, an identifier in an append-only log stays there. Guessing by pattern is for text only; where the real
values are at hand, compare with them instead (one in eleven random ten-digit numbers passes the check digit).

Known to pass: names of people, ages, hospital numbers of fewer than five digits or with hyphens and no word
such as "patient" before them, a lower-case postcode that ends like an ordinal ("2nd").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from datetime import date

import polars as pl

from schemas.errors import IdentifierInText

NHS_NUMBER = "nhs_number"
POSTCODE = "postcode"
FULL_DATE = "full_date"
EMAIL = "email"
PHONE = "phone"
LONG_NUMBER = "long_number"
HOSPITAL_NUMBER = "hospital_number"
KINDS = (NHS_NUMBER, POSTCODE, FULL_DATE, EMAIL, PHONE, LONG_NUMBER, HOSPITAL_NUMBER)

# Postcode areas in use (Royal Mail), the Crown dependencies, and ZZ, the area of the pseudo-postcodes
# (ZZ99 ...) that the NHS Postcode Directory gives to "no fixed abode" and countries abroad.
_AREAS = (
    "AB|AL|B|BA|BB|BD|BH|BL|BN|BR|BS|BT|CA|CB|CF|CH|CM|CO|CR|CT|CV|CW|DA|DD|DE|DG|DH|DL|DN|DT|DY|E|EC|"
    "EH|EN|EX|FK|FY|G|GL|GU|GY|HA|HD|HG|HP|HR|HS|HU|HX|IG|IM|IP|IV|JE|KA|KT|KW|KY|L|LA|LD|LE|LL|LN|LS|"
    "LU|M|ME|MK|ML|N|NE|NG|NN|NP|NR|NW|OL|OX|PA|PE|PH|PL|PO|PR|RG|RH|RM|S|SA|SE|SG|SK|SL|SM|SN|SO|SP|"
    "SR|SS|ST|SW|SY|TA|TD|TF|TN|TQ|TR|TS|TW|UB|W|WA|WC|WD|WF|WN|WR|WS|WV|YO|ZE|ZZ"
)
_POSTCODE = re.compile(
    r"(?<![A-Za-z0-9])(?:(?i:" + _AREAS + r")[0-9][A-Za-z0-9]?"
    r"[ ._-]{0,4}(?P<inward>[0-9][A-Za-z]{2})|(?i:GIR)[ ._-]{0,4}0(?i:AA))(?![A-Za-z0-9])"
)
_ORDINAL = re.compile(r"^(?:1st|2nd|3rd|[04-9]th)$")

# Only from the beginning of a run of its characters: from each of them it would take a text's length squared.
_EMAIL = re.compile(r"(?<![A-Za-z0-9._%+'-])[A-Za-z0-9._%+'-]+ ?@ ?[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_GROUPED_TEN = re.compile(r"(?<![0-9])[0-9]{3}[ ._/-]{1,3}[0-9]{3}[ ._/-]{1,3}[0-9]{4}(?![0-9])")
_TEN = re.compile(r"(?<![0-9])[0-9]{10}(?![0-9])")
_TEN_SPREAD = re.compile(r"(?<![0-9])(?<![0-9][ ._/-])[0-9](?:[ ._/-]?[0-9]){9}(?![ ._/-]?[0-9])")
_PHONE = re.compile(r"(?<![0-9A-Za-z])(?:\+ ?44|0044|\(?0)(?:[ ()-]{0,2}[0-9]){9,10}(?![0-9])")
_LONG_NUMBER = re.compile(r"(?<![0-9])[0-9]{7,}(?![0-9])")
_TOKEN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]{6,20}(?![A-Za-z0-9])")
_PERIOD = re.compile(r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-3]|99|Q[1-4])?", re.IGNORECASE)
_SAID_TO_BE_A_NUMBER = re.compile(
    r"\b(?:patient|hospital|local|district|unit|case[ -]?note|mrn|pas|lopatid|nhs)\b"
    r"(?: ?(?:patient )?(?:identifier|number|num|no|id|ref|reference)\b)?[ .:#=-]{0,3}[A-Za-z]{0,3}[0-9]{5,}",
    re.IGNORECASE,
)
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            ("jan", "january"),
            ("feb", "february"),
            ("mar", "march"),
            ("apr", "april"),
            ("may",),
            ("jun", "june"),
            ("jul", "july"),
            ("aug", "august"),
            ("sep", "sept", "september"),
            ("oct", "october"),
            ("nov", "november"),
            ("dec", "december"),
        ),
        start=1,
    )
    for name in names
}
_MONTH = "(" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + ")"
_DATE_YEAR_FIRST = re.compile(r"(?<![0-9])([0-9]{4})([ ./_-])([0-9]{1,2})\2([0-9]{1,2})(?![0-9])")
_DATE_DAY_FIRST = re.compile(r"(?<![0-9])([0-9]{1,2})([ ./_-])([0-9]{1,2})\2([0-9]{4})(?![0-9])")
_DATE_SHORT_YEAR = re.compile(r"(?<![0-9])([0-9]{1,2})([/-])([0-9]{1,2})\2([0-9]{2})(?![0-9])")
_DATE_COMPACT = re.compile(r"(?<![0-9])[0-9]{8}(?:T[0-9]{4,6}Z?)?(?![0-9])")
_DATE_DAY_NAMED = re.compile(
    rf"\b([0-9]{{1,2}})(?:st|nd|rd|th)?[ ./-]*(?:of )?{_MONTH}[a-z]*[ .,/-]*([0-9]{{4}}|'?[0-9]{{2}})\b",
    re.IGNORECASE,
)
_DATE_MONTH_NAMED = re.compile(
    rf"\b{_MONTH}[ ./-]*([0-9]{{1,2}})(?:st|nd|rd|th)?[ .,/-]+([0-9]{{4}})\b", re.IGNORECASE
)

# Our own ids: a delivery (dataset, period, start of a sha256), a word with a random id, a digest in full.
_OWN_IDS = re.compile(
    r"(?<![A-Za-z0-9])(?:[a-z][a-z_]*-(?:(?:19|20)[0-9]{4}|snapshot)-[0-9a-f]{12}"
    r"|[a-z][a-z_]+-(?=[0-9]*[a-f])[0-9a-f]{12,64}"
    r"|(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?![A-Za-z0-9])"
)
# Letters of other alphabets that are drawn like the Latin capitals of a postcode or a hospital number.
_LOOKALIKES = str.maketrans("АВЕЅІЈКМНОРСТУХΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABESIJKMHOPCTYXABEZHIKMNOPTYX")


def normalise(text: str) -> str:
    """``text`` as a reader sees it: compatibility forms resolved (NFKC), invisible characters removed, every
    digit of every script as 0-9, every dash as ``-``, every space as a blank."""
    characters: list[str] = []
    for character in unicodedata.normalize("NFKC", text):
        category = unicodedata.category(character)
        if category in ("Cf", "Mn", "Me"):
            continue
        if category == "Nd":
            characters.append(str(unicodedata.decimal(character)))
        elif category == "Pd" or character == "\u2212":
            characters.append("-")
        elif category in ("Zs", "Zl", "Zp", "Cc"):
            characters.append(" ")
        else:
            characters.append(character)
    return "".join(characters).translate(_LOOKALIKES)


def valid_nhs_number(digits: str) -> bool:
    """Ten digits whose last is the modulus-11 check digit of the others (NHS Data Dictionary, NHS NUMBER)."""
    if len(digits) != 10 or not digits.isascii() or not digits.isdigit():
        return False
    rest = sum(int(digit) * weight for digit, weight in zip(digits, range(10, 1, -1), strict=False)) % 11
    return (11 - rest) % 11 == int(digits[9])


def _plausible(year: str, month: int, day: str) -> bool:
    """A day of the calendar on which somebody could have been born, treated or died."""
    number = int(year)
    if len(year) == 2:
        number += 2000
    try:
        return 1870 <= date(number, month, int(day)).year <= 2100
    except ValueError:
        return False


def _holds_full_date(text: str) -> bool:
    numeric = [
        *((m[1], m[3], m[4]) for m in _DATE_YEAR_FIRST.finditer(text)),
        *((m[4], m[3], m[1]) for m in _DATE_DAY_FIRST.finditer(text)),
        *((m[4], m[1], m[3]) for m in _DATE_DAY_FIRST.finditer(text)),  # month first
        *((m[4], m[3], m[1]) for m in _DATE_SHORT_YEAR.finditer(text)),
    ]
    for match in _DATE_COMPACT.finditer(text):
        digits = match[0][:8]
        numeric += [(digits[:4], digits[4:6], digits[6:]), (digits[4:], digits[2:4], digits[:2])]
    if any(_plausible(year, int(month), day) for year, month, day in numeric):
        return True
    named = [
        *((m[3].lstrip("'"), _MONTHS[m[2].lower()], m[1]) for m in _DATE_DAY_NAMED.finditer(text)),
        *((m[3], _MONTHS[m[1].lower()], m[2]) for m in _DATE_MONTH_NAMED.finditer(text)),
    ]
    return any(_plausible(year, month, day) for year, month, day in named)


def _holds_postcode(text: str) -> bool:
    return any(
        match["inward"] is None or not _ORDINAL.match(match["inward"]) for match in _POSTCODE.finditer(text)
    )


def _holds_nhs_number(text: str) -> bool:
    if _TEN.search(text) or _GROUPED_TEN.search(text):
        return True
    return any(valid_nhs_number(re.sub(r"[^0-9]", "", match[0])) for match in _TEN_SPREAD.finditer(text))


def _holds_hospital_number(text: str) -> bool:
    """A word of letters and digits with five digits or more once a financial year or period is taken out."""
    if _SAID_TO_BE_A_NUMBER.search(text):
        return True
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token.isdigit() or not any(character.isdigit() for character in token):
            continue
        if len(re.sub(r"[^0-9]", "", _PERIOD.sub("", token, count=1))) >= 5:
            return True
    return False


def scan_text(text: str) -> list[str]:
    """The kinds (out of :data:`KINDS`, in that order) of things in ``text`` that look like an identifier.

    An empty list means that nothing was recognised, which is not a proof that there is nothing.
    """
    seen = _OWN_IDS.sub(" id ", normalise(text))
    verdicts = {
        NHS_NUMBER: _holds_nhs_number(seen),
        POSTCODE: _holds_postcode(seen),
        FULL_DATE: _holds_full_date(seen),
        EMAIL: _EMAIL.search(seen) is not None,
        PHONE: _PHONE.search(seen) is not None,
        LONG_NUMBER: _LONG_NUMBER.search(seen) is not None,
        HOSPITAL_NUMBER: _holds_hospital_number(seen),
    }
    return [kind for kind in KINDS if verdicts[kind]]


def refuse_identifiers(text: str, what: str, kinds: Collection[str] = KINDS) -> None:
    """Raise :class:`IdentifierInText` if ``text`` seems to hold an identifier of one of ``kinds``.

    ``what`` names the text in the message ("the reason"); the message names the kinds, nothing of the text.
    """
    found = [kind for kind in scan_text(text) if kind in kinds]
    if found:
        raise IdentifierInText(
            f"{what} holds something that looks like: {', '.join(kind.replace('_', ' ') for kind in found)}",
            next_step="describe the data without copying from it, and without full dates",
        )


RUN_OF_TEN_DIGITS = r"(?:^|[^0-9])([0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4})(?:[^0-9]|$)"
"""A ten-digit number set off from other digits, as NHS numbers are written."""


def looks_like_nhs_number(column: pl.Expr) -> pl.Expr:
    """Boolean, never null: the text holds a ten-digit number (alone, or set off from other digits; written
    ``9999999999``, ``999 999 9999`` or ``999-999-9999``) with a valid check digit.

    Placeholders of one repeated digit do not count. Only the first such number of a value is looked at.
    """
    digits = column.cast(pl.String).str.extract(RUN_OF_TEN_DIGITS, 1).str.replace_all(r"[ -]", "")
    digit = [digits.str.slice(position, 1).cast(pl.Int32, strict=False) for position in range(10)]
    rest = pl.sum_horizontal(*(digit[position] * (10 - position) for position in range(9))) % 11
    repeated = pl.all_horizontal(*(digit[position] == digit[0] for position in range(1, 10)))
    return (digits.is_not_null() & ((11 - rest) % 11 == digit[9]) & ~repeated).fill_null(False)
