"""Check: the names a contract may use for its checks and derivations, each with what it means.

Data only, so that the contract loader can refuse an unknown name without importing the code behind it;
``transforms/checks.py`` and ``transforms/derive.py`` implement exactly these (a test compares both ways).

Arguments of a rule are field names of the contract, except those beginning with ``=``, which are literals
(``=20``). Under ``checks:`` of a field a name stands alone (its only argument is the field) or is followed by
its literals in brackets: ``between(=0,=120)``.
"""

from __future__ import annotations

from typing import Final

CHECKS: Final[dict[str, str]] = {
    "not_null": "not_null(F): the field was delivered with a value, not empty and not a null sentinel.",
    "max_length": "max_length(F, =n): a delivered value has at most n characters after trimming.",
    "typed": "typed(F): a delivered value could be read as the field's type (date, time or number).",
    "one_of_codes": "one_of_codes(F): a delivered value is a listed code or one of the field's sentinels.",
    "null_rate": "null_rate(F): counts values that were not submitted, against the tolerated share.",
    "invalid_rate": "invalid_rate(F): counts invalid values among those submitted.",
    "not_stated_rate": "not_stated_rate(F): counts values asked for and not stated, among those submitted.",
    "not_before": "not_before(A, B): where both dates (or numbers) are valid, A is not before B.",
    "within_period": "within_period(F): a valid date lies in the financial year that the delivery covers.",
    "icd10_shape": "icd10_shape(F): a diagnosis has the shape of an ICD-10 code.",
    "opcs4_shape": "opcs4_shape(F): a procedure has the shape of an OPCS-4 code.",
    "nhs_number": "nhs_number(F): a delivered NHS number has ten digits and a correct check digit.",
    "postcode_shape": "postcode_shape(F): a postcode has the shape of a UK postcode or pseudo-postcode.",
    "any_of_not_null": "any_of_not_null(F1, F2, ...): at least one of the fields has a value.",
    "unique": "unique(F, ...): no two records of the delivery share the key; later ones are duplicates.",
    "between": "between(F, =lo, =hi): a valid number or date lies between the two literals, both included.",
    "consistent_discharge": (
        "consistent_discharge(DISMETH, DISDATE): a finished spell has a discharge date and an unfinished one"
        " (method 8) has none."
    ),
    "no_nhs_number": (
        "no_nhs_number(F1, F2, ...): none of these codes and texts holds ten digits with the check digit of an NHS"
        " number."
    ),
    "rows_at_least": "rows_at_least(=n): the delivery has at least n records.",
}

WHOLE_DELIVERY_CHECKS: Final[frozenset[str]] = frozenset({"unique", "rows_at_least"})
"""Checks that no single chunk can answer; they are evaluated once, after the last one."""

DERIVATIONS: Final[dict[str, str]] = {
    "age_years": (
        "age_years(DOB, EVENT_DATE): whole years of age on the day of the event, 0 to 120; null outside that."
    ),
    "nhs_number_verdict": (
        "nhs_number_verdict(F): 'valid', 'invalid' or 'absent' by the mod-11 rule of the NHS number."
    ),
    "postcode_area": "postcode_area(F): the letters before the first digit of the postcode ('ZZ' for ZZ99).",
    "mother_baby_token": (
        "mother_baby_token(ISSUER, MOTHER_DOB, BABY_DOB): keyed token that a mother's delivery record and her"
        " baby's birth record at one hospital share; null when a part is missing."
    ),
    "death_date_known_to_day": (
        "death_date_known_to_day(F): Y (1) when a date of death was delivered with its day, N (0) when only"
        " its month was, null when there is none."
    ),
}
