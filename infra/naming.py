"""The name of a record, as the records policy wants it.

``YYYYMMDD Name Record type v1 OFFICIAL SENSITIVE``: date, name, record type, version if there is one, and the
protective marking if it is OFFICIAL SENSITIVE (OFFICIAL is not written). Letters and digits only, components
separated by a single space, the dot before a file extension the only dot. The policy forbids
``> < : " * ? \\ / | ~ _ + = , . ; ' ^ ! ) ( & % £ $ # @``; a hyphen is not listed, but is neither letter nor
digit. Source: Healthwatch England (CQC), Information Security and Governance Policy, November 2016, naming
convention for records; its example is ``20150401 CQC Board Meeting minutes v1``.

Name and record type are both free words, so a name can only be taken apart again because the record types are
a closed list, and :func:`make_name` refuses a name that would not come back as it went in.
"""

from __future__ import annotations

import re
from datetime import date as Date
from datetime import datetime
from typing import NamedTuple

from schemas.errors import UsageError
from schemas.published import Marking, declaration

SENSITIVE: Marking = "OFFICIAL SENSITIVE"
_WORDS = re.compile(r"[A-Za-z0-9]+(?: [A-Za-z0-9]+)*")
_EXTENSION = re.compile(r"[a-z0-9]+")
_NAME = re.compile(
    r"(?P<date>[0-9]{8}) (?P<middle>[A-Za-z0-9 ]+?)"
    r"(?: v(?P<version>[1-9][0-9]*))?(?P<marking> OFFICIAL SENSITIVE)?"
    r"(?:\.(?P<extension>[a-z0-9]+))?"
)

OTHER_RECORD_TYPES = (
    "Meeting minutes",
    "Case review hospital numbers",
    "Case review request",
    "Case review receipt",
    "report",
    "data dictionary",
    "destruction order",
    "destruction certificate",
    "audit report",
    "access review",
    "incident report",
    "run manifest",
    "release approval",
)


class RecordName(NamedTuple):
    """What a record's name says. ``version`` is None where there is none; ``extension`` without its dot."""

    date: Date
    name: str
    record_type: str
    version: int | None
    marking: Marking
    extension: str | None


def record_types() -> tuple[str, ...]:
    """All record types: those of the published tables and ``OTHER_RECORD_TYPES``, longest first."""
    tables = (table.record_type for table in declaration().tables)
    return tuple(sorted({*tables, *OTHER_RECORD_TYPES}, key=lambda words: (-len(words), words)))


def make_name(
    date: Date,
    name: str,
    record_type: str,
    version: int | None = 1,
    marking: Marking = SENSITIVE,
    extension: str | None = None,
) -> str:
    """The record name of these parts, for example ``20150401 CQC Board Meeting minutes v1``.

    Raises :class:`UsageError` for anything but letters, digits and single spaces, for a record type that is
    not in the list, a version below 1, and a name that could not be taken apart again.
    """
    for part, words in (("name", name), ("record type", record_type)):
        if not _WORDS.fullmatch(words):
            raise UsageError(
                f"the {part} of a record has letters and digits only, with single spaces between"
            )
    if record_type not in record_types():
        raise UsageError("this is not a record type in the list", next_step="add it to infra/naming.py")
    if version is not None and version < 1:
        raise UsageError("the version of a record is 1 or more")
    if extension is not None and not _EXTENSION.fullmatch(extension):
        raise UsageError("a file extension has lower-case letters and digits only")
    parts = [f"{date:%Y%m%d}".zfill(8), name, record_type]
    if version is not None:
        parts.append(f"v{version}")
    if marking == SENSITIVE:
        parts.append(marking)
    made = " ".join(parts) + (f".{extension}" if extension else "")
    if parse_name(made) != RecordName(date, name, record_type, version, marking, extension):
        raise UsageError("this name and record type cannot be told apart again", next_step="use another name")
    return made


def parse_name(text: str) -> RecordName:
    """The parts of a record name. Raises :class:`UsageError` when it does not follow the rule."""
    found = _NAME.fullmatch(text)
    if found is None or "  " in text:
        raise UsageError("this is not a record name: date, name, record type, version, protective marking")
    try:
        day = datetime.strptime(found["date"], "%Y%m%d").date()  # noqa: DTZ007 (a calendar day has no zone)
    except ValueError:
        raise UsageError("a record name begins with a date, YYYYMMDD") from None
    middle = found["middle"]
    for words in record_types():
        if middle.endswith(" " + words):
            return RecordName(
                day,
                middle.removesuffix(" " + words),
                words,
                int(found["version"]) if found["version"] else None,
                SENSITIVE if found["marking"] else "OFFICIAL",
                found["extension"],
            )
    raise UsageError("this record name has no known record type")
