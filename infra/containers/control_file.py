"""Control file: what the sender says about a data file, so that a cut upload or a lost row is noticed.

``NAME.ctl`` or ``NAME.txt.ctl`` stands beside ``NAME.txt``, in the inbox or in the same zip, and holds one
statement a line, each at most once, at least one of them; blank lines and lines starting ``#`` are left out::

    records=18712345
    bytes=9674282365

``records`` counts the records without the header. ``bytes`` is the size of the data file *as it lies beside
the control file*: encrypted or packed if that is how it lies there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.errors import DeliveryRefused

SUFFIX = ".ctl"
MAX_BYTES = 4096
_STATEMENT = re.compile(r"\s*(records|bytes)\s*=\s*([0-9]{1,15})\s*")


@dataclass(frozen=True)
class Control:
    """The stated number of records and of bytes; None where nothing is stated."""

    records: int | None = None
    bytes: int | None = None


def parse_control(content: bytes) -> Control:
    """Read a control file. Raises :class:`~schemas.errors.DeliveryRefused`, never with a line of it."""
    stated: dict[str, int] = {}
    try:
        lines = content.decode("utf-8-sig").splitlines() if len(content) <= MAX_BYTES else ["too long"]
    except UnicodeDecodeError:
        lines = ["not text"]
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        statement = _STATEMENT.fullmatch(line)
        if statement is None or statement[1] in stated:
            raise DeliveryRefused(
                f"line {number} of the control file is not `records=NUMBER` or `bytes=NUMBER`, once each",
                next_step="ask the sender for a corrected control file",
            )
        stated[statement[1]] = int(statement[2])
    if not stated:
        raise DeliveryRefused("the control file states neither `records=NUMBER` nor `bytes=NUMBER`")
    return Control(stated.get("records"), stated.get("bytes"))


def is_control(name: str) -> bool:
    """Whether ``name`` is that of a control file."""
    return name.lower().endswith(SUFFIX)


def sibling(control_name: str, names: Iterable[str]) -> str | None:
    """The one data file among ``names`` that ``control_name`` speaks about, or None.

    ``X.txt.ctl`` speaks about ``X.txt``; ``X.ctl`` about the only file called ``X`` with whatever extensions.
    """
    stem = control_name[: -len(SUFFIX)].lower()
    data = [name for name in names if not is_control(name)]
    exact = [name for name in data if name.lower() == stem]
    if exact:
        return exact[0]
    loose = [name for name in data if name.lower().startswith(stem + ".")]
    return loose[0] if len(loose) == 1 else None
