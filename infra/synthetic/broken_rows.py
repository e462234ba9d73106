"""Malformed records: what a broken export adds to a hospital's true rows.

They are copies of true rows, damaged, so that leaving them out loses nothing. Three kinds take turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from infra.synthetic.admitted import record_keys

WRONG_NUMBER_OF_FIELDS: Final = "wrong_number_of_fields"
UNPARSABLE_DATE: Final = "unparsable_date"
MISSING_EPIKEY: Final = "missing_epikey"
KINDS: Final = (WRONG_NUMBER_OF_FIELDS, UNPARSABLE_DATE, MISSING_EPIKEY)
SHARE: Final = 0.012
"""Broken rows per true row of the hospital; of a whole file, well under one in a hundred."""
KEYS_FROM: Final = 900_000_000
"""Record numbers from here on are kept for broken rows: they never repeat the key of a true record."""
BAD_DATES: Final = ("2019-02-30", "31/13/2019", "NOT A DATE", "20190000")


def broken_lines(
    rows: pl.DataFrame, year: int, delimiter: str, first_kind: int, first_key: int
) -> tuple[list[str], list[str]]:
    """Damaged copies of these rows (columns in file order): the lines, and the kind of each."""
    keys = record_keys(
        KEYS_FROM + first_key + np.arange(rows.height, dtype=np.int64),
        np.full(rows.height, year, dtype=np.int64),
    )
    columns: Sequence[str] = rows.columns
    key_at, dates_at = columns.index("EPIKEY"), [columns.index("ADMIDATE"), columns.index("EPISTART")]
    lines, kinds = [], []
    for number, row in enumerate(rows.rows()):
        turn = first_kind + number
        kind = KINDS[turn % len(KINDS)]
        fields = ["" if field is None else str(field) for field in row]
        fields[key_at] = keys[number]
        if kind == MISSING_EPIKEY:
            fields[key_at] = ""
        elif kind == UNPARSABLE_DATE:
            for at in dates_at:
                fields[at] = BAD_DATES[turn // len(KINDS) % len(BAD_DATES)]
        elif turn // len(KINDS) % 2:
            fields = fields[:-7]  # a record cut short
        else:
            fields[5:5] = ["", ""]  # a free text with delimiters in it
        lines.append(delimiter.join(fields))
        kinds.append(kind)
    return lines, kinds
