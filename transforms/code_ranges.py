"""The range of codes that a code falls into: a vectorised look-up.

Each different code is looked up once, by binary search among ranges that do not overlap.
"""

from __future__ import annotations

import polars as pl


def bare_code(code: pl.Expr) -> pl.Expr:
    """The code as ranges are written: capitals, no dots, no blanks. ``"t81.4 "`` becomes ``T814``."""
    return code.str.replace_all(r"[\s.]", "").str.to_uppercase()


def look_up(codes: pl.Series, table: pl.DataFrame) -> pl.Series:
    """The third column of ``table`` for each of ``codes``, null where a code is in no range or is null.

    ``table``: code_from, code_to, value, sorted, as :mod:`schemas.shmi_reference` makes it. Codes may have any
    length and padding: ``I219``, ``I21X`` and ``I2191`` are all in the range I21.
    """
    name = table.columns[2]
    different = pl.DataFrame({"code": codes.cast(pl.String).unique().drop_nulls()}).with_columns(
        bare=bare_code(pl.col("code"))
    )
    # The last range that begins at or before the code is the only one that can hold it.
    place = table["code_from"].search_sorted(different["bare"], side="right").cast(pl.Int64) - 1
    nearest = table[place.clip(0).to_list()]
    found = (
        different.with_columns(
            value=nearest[name], code_from=nearest["code_from"], code_to=nearest["code_to"]
        )
        .filter(pl.col("bare").is_between(pl.col("code_from"), pl.col("code_to")))
        .select("code", "value")
    )
    return (
        pl.DataFrame({"code": codes.cast(pl.String)})
        .join(found, on="code", how="left", maintain_order="left")["value"]
        .alias(name)
    )
