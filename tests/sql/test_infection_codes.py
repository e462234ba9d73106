"""The table of infections holds every code that what is built from it is asked for."""

from __future__ import annotations

import re

from infra.compute import load_indicators
from schemas.indicator_metadata import bound_parameters
from sql import core_query


def test_every_code_of_puerperal_infection_is_in_the_table_of_infections() -> None:
    held = set(re.findall(r"'([A-Z]\d\d)'", core_query("infection_diagnosis").read_text(encoding="utf-8")))
    asked = [
        str(code)
        for indicator in load_indicators()
        if "from puerperal_infection" in indicator.query
        for code in list(bound_parameters(indicator.metadata.parameters)["infection_codes"])  # type: ignore[arg-type]
    ]
    assert len(asked) > 8, "no indicator with a long list reads puerperal_infection: nothing was looked at"
    lost = sorted({code for code in asked if code[:3] not in held})
    assert not lost, f"sql/core/infection_diagnosis.sql drops codes that are asked for: {', '.join(lost)}"
