"""The hospital list: which numbers go to the hospital, and the archive in which they travel. All of it in memory.

Out of the opened records come the numbers that the recipient itself issued to patients of the cohort, one per
patient, in random order, exactly as the hospital wrote them (the padding of the field apart). What is no number, or
looks like another of the identifiable items, is left out and counted by reason.

The archive is a ZIP file with three members, none of them compressed:

``... .txt``
    a heading, an empty line, and one number a line, byte for byte. This is what a hospital's system matches on.
``... .csv``
    the same for a spreadsheet. A spreadsheet turns ``0012`` into 12, ``MAR12`` into a date, rounds what has more
    than 15 digits, and computes what begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return, also behind
    a quote, a blank or a byte order mark (OWASP, CSV injection). So every number that is not plainly safe has an
    apostrophe in front, which is not part of it; the heading says so.
``filling``
    random bytes that bring every archive to a multiple of one size, so that the sealed file does not tell how many
    numbers are in it.
"""

from __future__ import annotations

import io
import re
import secrets
import unicodedata
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

import polars as pl

from infra.naming import SENSITIVE, make_name
from infra.review.cohort import Cohort
from schemas.errors import CannotOpen, IntegrityError
from transforms.identifiers import (
    EMAIL,
    FULL_DATE,
    NHS_NUMBER,
    PHONE,
    POSTCODE,
    refuse_identifiers,
    scan_text,
    valid_nhs_number,
)
from transforms.typing_fields import PADDING

RECORD_TYPE = "Case review hospital numbers"
EXTENSION = "age"
FILLING = "filling"
LONGEST_ARCHIVE = 1 << 24
APOSTROPHE = (
    "An apostrophe in front of a number is not part of it. It keeps a spreadsheet from changing the number."
)
# What a spreadsheet leaves as it is: up to 15 digits without a leading zero, or one or two letters before digits.
SAFE_IN_A_SPREADSHEET = re.compile(r"[1-9][0-9]{0,14}|[A-Za-z]{1,2}[0-9]{1,18}", re.ASCII)
LEFT_OUT = {
    "issued_elsewhere": "the number was issued by another organisation, or under another code",
    "no_number": "the field is empty",
    "placeholder": "what stands there is no number but a word or sign for none",
    "not_printable": "it has characters that cannot be printed",
    "looks_like_nhs_number": "it looks like an NHS number",
    "looks_like_postcode": "it looks like a postcode",
    "looks_like_date": "it looks like a date",
    "patient_listed_already": "a further record of a patient who is listed",
    "number_listed_already": "two patients with one number",
}
"""Why a record gives no line of the list: reason -> in words."""
OPENED_SCHEMA = {"delivery_id": pl.String, "record_key": pl.String, "number": pl.String}


class Shuffles(Protocol):
    """What puts numbers into an order that says nothing; :class:`secrets.SystemRandom` in production."""

    def shuffle(self, x: list[str]) -> None: ...


@dataclass(frozen=True)
class HospitalList:
    """The numbers, in the order in which they are written, and how many records were left out for which reason."""

    numbers: tuple[str, ...] = field(repr=False)
    left_out: dict[str, int]


@dataclass(frozen=True)
class Heading:
    """What stands above the numbers. ``version``: of the record's name, from 1."""

    case: str
    recipient: str
    day: date
    version: int


def reason_to_leave_out(number: str | None, placeholders: Collection[str]) -> str:
    """Why what stands in the field is not put into a list; empty if it is.

    ``no_number``, ``placeholder``, ``not_printable``, ``looks_like_nhs_number``, ``looks_like_postcode``,
    ``looks_like_date``.
    """
    if number is None or not number:
        return "no_number"
    bare = re.sub(r"[^0-9A-Za-z]", "", number)
    one_character = len(set(bare)) == 1 and (len(bare) >= 3 or bare[0] in "09")
    if not bare or one_character or number.upper() in placeholders:
        return "placeholder"
    if any(unicodedata.category(character) in ("Cc", "Cs", "Co", "Cn") for character in number):
        return "not_printable"
    if valid_nhs_number(re.sub(r"[ ./_-]", "", unicodedata.normalize("NFKC", number))):
        return "looks_like_nhs_number"
    looks = scan_text(number)
    if POSTCODE in looks:
        return "looks_like_postcode"
    return "looks_like_date" if FULL_DATE in looks else ""


def choose(
    cohort: Cohort, opened: pl.DataFrame, placeholders: Collection[str], order: Shuffles
) -> HospitalList:
    """The numbers for the cohort out of what the vault held of its recipient.

    ``opened``: columns of ``OPENED_SCHEMA``, every record of the recipient in the deliveries concerned. A record of
    the cohort that is not among them has a number that another organisation issued, or none; it is counted as
    ``issued_elsewhere``. Of a patient's records the latest with a usable number counts.
    """
    trimmed = opened.with_columns(
        pl.col("record_key").str.strip_chars(PADDING), pl.col("number").str.strip_chars(PADDING)
    )
    joined = cohort.frame.join(
        trimmed.with_columns(pl.lit(True).alias("held")), on=["delivery_id", "record_key"], how="left"
    )
    left_out: dict[str, int] = {}

    def leave_out(reason: str) -> None:
        left_out[reason] = left_out.get(reason, 0) + 1

    by_patient: dict[str, tuple[tuple[date, str, str], str]] = {}
    for row in joined.iter_rows(named=True):
        reason = (
            "issued_elsewhere" if row["held"] is None else reason_to_leave_out(row["number"], placeholders)
        )
        if reason:
            leave_out(reason)
            continue
        place = (row["record_date"], row["delivery_id"], row["record_key"])
        known = by_patient.get(row["person_token"])
        if known is not None:
            leave_out("patient_listed_already")
        if known is None or place > known[0]:
            by_patient[row["person_token"]] = (place, row["number"])
    numbers: dict[str, None] = {}
    for _, number in by_patient.values():
        if number in numbers:
            leave_out("number_listed_already")
        numbers[number] = None
    ordered = list(numbers)
    order.shuffle(ordered)
    return HospitalList(tuple(ordered), left_out)


def system_random() -> Shuffles:
    return secrets.SystemRandom()


# The archive -----------------------------------------------------------------------------------------------


def record_name(heading: Heading, extension: str) -> str:
    """The name of the list as a record, for example
    ``20261122 RXX Case review hospital numbers v1 OFFICIAL SENSITIVE.age``."""
    return make_name(heading.day, heading.recipient, RECORD_TYPE, heading.version, SENSITIVE, extension)


def heading_lines(heading: Heading, count: int) -> list[str]:
    return [
        SENSITIVE,
        RECORD_TYPE,
        f"Case: {heading.case}",
        f"For: {heading.recipient}",
        f"Date: {heading.day.isoformat()}",
        f"Numbers: {count}",
        "For the hospital's own review of its own records, by staff who need them for that, and nobody else.",
    ]


def text_member(heading: Heading, numbers: tuple[str, ...]) -> str:
    return "".join(f"{line}\n" for line in (*heading_lines(heading, len(numbers)), "", *numbers))


def csv_member(heading: Heading, numbers: tuple[str, ...]) -> str:
    lines = [*heading_lines(heading, len(numbers)), APOSTROPHE, "", "Hospital number"]
    cells = [number if SAFE_IN_A_SPREADSHEET.fullmatch(number) else f"'{number}" for number in numbers]
    return "".join('"' + cell.replace('"', '""') + '"\r\n' for cell in (*lines, *cells))


def check_content(heading: Heading, chosen: HospitalList, placeholders: Collection[str]) -> None:
    """The last look before sealing: nothing that looks like another item, anywhere in what will be written.

    Raises :class:`IntegrityError` or :class:`IdentifierInText`; both mean that the list is not sealed.
    """
    # The heading has the date of the list and nothing else that could be one.
    for line in (*heading_lines(heading, len(chosen.numbers)), APOSTROPHE):
        refuse_identifiers(line, "the heading of the list", kinds=(NHS_NUMBER, POSTCODE, EMAIL, PHONE))
    if any(reason_to_leave_out(number, placeholders) for number in chosen.numbers):
        raise IntegrityError("the list holds what must not be in it")
    if len(set(chosen.numbers)) != len(chosen.numbers):
        raise IntegrityError("the list holds a number twice")


def archive(heading: Heading, numbers: tuple[str, ...], bucket: int) -> bytes:
    """The archive, a multiple of ``bucket`` bytes long."""
    members = {
        record_name(heading, "txt"): text_member(heading, numbers).encode(),
        record_name(heading, "csv"): csv_member(heading, numbers).encode(),
    }
    bare = len(_zipped(members, b"", heading.day))
    return _zipped(members, secrets.token_bytes(-bare % bucket), heading.day)


def _zipped(members: dict[str, bytes], filling: bytes, day: date) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive_file:
        for name, member in {**members, FILLING: filling}.items():
            info = zipfile.ZipInfo(name, (day.year, day.month, day.day, 0, 0, 0))
            info.external_attr = 0o600 << 16
            archive_file.writestr(info, member)
    return content.getvalue()


@dataclass(frozen=True)
class OpenedList:
    """What a hospital finds in the file. ``heading``: the lines above the numbers, ``case``: their case."""

    heading: tuple[str, ...]
    case: str
    recipient: str
    numbers: tuple[str, ...] = field(repr=False)


def read_archive(content: bytes) -> OpenedList:
    """The numbers of an archive. Raises :class:`CannotOpen` for anything that :func:`archive` does not write."""
    wrong = CannotOpen("this is no list of a case review", next_step="ask the sender for the file again")
    if len(content) > LONGEST_ARCHIVE:
        raise wrong
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive_file:
            members = archive_file.infolist()
            texts = [info for info in members if info.filename.endswith(".txt")]
            if len(members) != 3 or len(texts) != 1 or any(info.compress_type for info in members):
                raise wrong
            lines = archive_file.read(texts[0]).decode().split("\n")
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, RuntimeError, ValueError):
        raise wrong from None
    if "" not in lines or lines[-1] != "":
        raise wrong
    above = lines.index("")
    heading, numbers = tuple(lines[:above]), tuple(lines[above + 1 : -1])
    said = dict(line.split(": ", 1) for line in heading if ": " in line)
    if said.get("Numbers") != str(len(numbers)) or not {"Case", "For"} <= set(said):
        raise wrong
    return OpenedList(heading, said["Case"], said["For"], numbers)
