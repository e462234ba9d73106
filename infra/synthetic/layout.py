"""Column names and order of every file, by era, and small helpers that turn numbers into HES text.

Names are those of the HES technical output specification 1.15 (APC, OP, A&E) and of the linked mortality
products. The two eras order their columns differently on purpose: the header, not the
position, is the mapping.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from infra.synthetic.days import Bools, Ints
from infra.synthetic.world import NEW_ERA_FROM

TAILS: Final = (1, 2, 3)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DIAGNOSIS_COLUMNS: Final = tuple(f"DIAG_{n:02d}" for n in range(1, 21))
OPERATION_COLUMNS: Final = tuple(f"OPERTN_{n:02d}" for n in range(1, 25))
OPERATION_DATE_COLUMNS: Final = tuple(f"OPDATE_{n:02d}" for n in range(1, 25))
_TAIL: Final = _names("BIRORDR BIRSTAT BIRWEIT GESTAT SEXBABY DELMETH DELPLAC DELSTAT BIRESUS DOBBABY")
MATERNITY_COLUMNS: Final = (
    *_names(
        "ANAGEST ANASDATE ANTEDUR POSTDUR DELCHANG DELINTEN DELONSET DELPREAN DELPOSAN MATAGE NUMBABY NUMPREG"
        " NUMTAILB NEODUR NEOCARE MATERNITY_EPISODE_TYPE"
    ),
    *(f"{name}_{n}" for n in TAILS for name in _TAIL),
)
_PERSON: Final = _names(
    "NEWNHSNO NEWNHSNO_CHECK NHSNOIND LOPATID DOB MYDOB HOMEADD MOTDOB SEX ETHNOS STARTAGE"
)
_PLACE: Final = _names("LSOA11 IMD04_DECILE GPPRAC")
_ADMISSION: Final = _names("ADMIDATE ADMIMETH ADMISORC ADMINCAT ELECDATE ELECDUR CLASSPAT INTMANIG")
_DISCHARGE: Final = _names("DISDATE DISDEST DISMETH DISREADYDATE")
_EPISODE: Final = _names(
    "EPISTART EPIEND EPIORDER EPISTAT EPITYPE EPIDUR BEDYEAR SPELBGIN SPELEND SPELDUR"
    " FCE FAE FAE_EMERGENCY FDE"
)
_PROVIDER: Final = _names(
    "PROCODE3 PROCODE5 PROCODET SITETRET PROVSPNO SUSSPELLID SUSRECID MAINSPEF TRETSPEF"
)
_SYSTEM: Final = _names("OPERSTAT SUBDATE")

OLD_PERSON_ID: Final = "ENCRYPTED_HESID"
NEW_PERSON_ID: Final = "TOKEN_PERSON_ID"
PERSON_ID: Final = "PERSON_ID"
"""Working name of the person id until a file's era gives it its own."""

APC_OLD: Final = (
    *_names("FYEAR PARTYEAR EPIKEY"),
    OLD_PERSON_ID,
    *_ADMISSION,
    *_DISCHARGE,
    *_EPISODE,
    *DIAGNOSIS_COLUMNS,
    *OPERATION_COLUMNS,
    *OPERATION_DATE_COLUMNS,
    *_PERSON,
    *_PLACE,
    *_PROVIDER,
    *_SYSTEM,
    *MATERNITY_COLUMNS,
)
APC_NEW: Final = (
    "EPIKEY",
    NEW_PERSON_ID,
    *_names("FYEAR PARTYEAR"),
    *_PERSON,
    *_PLACE,
    *_PROVIDER,
    *_ADMISSION,
    *_EPISODE,
    *_DISCHARGE,
    *MATERNITY_COLUMNS,
    *DIAGNOSIS_COLUMNS,
    *OPERATION_COLUMNS,
    *OPERATION_DATE_COLUMNS,
    *_SYSTEM,
)
_OP: Final = _names(
    "APPTDATE APPTAGE ATTENDED FIRSTATT ATENTYPE OUTCOME PRIORITY REFSOURC SERVTYPE STAFFTYP REQDATE DNADATE"
    " WAITING ADMINCAT MAINSPEF TRETSPEF PROCODE3 PROCODE5 PROCODET SITETRET NEWNHSNO NEWNHSNO_CHECK LOPATID"
    " DOB MYDOB HOMEADD SEX ETHNOS LSOA11 IMD04_DECILE GPPRAC DIAG_01 DIAG_02 DIAG_03 OPERTN_01 OPERTN_02"
    " SUBDATE"
)
OP_OLD: Final = (*_names("FYEAR PARTYEAR"), OLD_PERSON_ID, "ATTENDKEY", *_OP)
OP_NEW: Final = ("ATTENDKEY", NEW_PERSON_ID, *_names("FYEAR PARTYEAR"), *_OP)
AE: Final = (
    *_names("FYEAR PARTYEAR AEKEY"),
    OLD_PERSON_ID,
    *_names(
        "EPIKEY ARRIVALDATE ARRIVALTIME ARRIVALAGE AEATTENDCAT AEATTENDDISP AEDEPTTYPE AEARRIVALMODE"
        " AEPATGROUP AEREFSOURCE INITTIME TRETTIME CONCLTIME DEPTIME DEPDUR DIAG2_01 DIAG2_02 INVEST2_01"
        " TREAT2_01 PROCODE3 PROCODE5 PROCODET NEWNHSNO NEWNHSNO_CHECK LOPATID DOB MYDOB HOMEADD SEX ETHNOS"
        " LSOA11 GPPRAC RANK_ORDER SUBDATE"
    ),
)
ONS_DEATHS: Final = (
    *_names("RECORD_ID DOD DOR SEX CAUSE_OF_DEATH"),
    *(f"CAUSE_OF_DEATH_NON_NEONATAL_{n}" for n in range(1, 16)),
    *_names("COMMUNAL_ESTABLISHMENT DEATH_RECORD_USED MATCH_RANK NHS_INDICATOR"),
)
ONS_DEATHS_BRIDGE: Final = ("RECORD_ID", OLD_PERSON_ID)
CIVIL_DEATHS: Final = (
    NEW_PERSON_ID,
    *_names("REG_DATE REG_DATE_OF_DEATH S_UNDERLYING_COD_ICD10"),
    *(f"S_COD_CODE_{n}" for n in range(1, 16)),
)
PERSON_BRIDGE: Final = (OLD_PERSON_ID, NEW_PERSON_ID)


def is_new_era(financial_year: int) -> bool:
    return financial_year >= NEW_ERA_FROM


def financial_year_text(financial_year: int) -> str:
    """FYEAR, ``2122`` for the year that begins in April 2021."""
    return f"{financial_year % 100:02d}{(financial_year + 1) % 100:02d}"


_NUMBERS: Final = pl.Series([None, *map(str, range(30_001))], dtype=pl.String)


def whole(values: Ints) -> pl.Series:
    """Whole numbers from 0 to 30,000 as text; -1 is an empty field."""
    return _NUMBERS.gather(values + 1)


def words(table: Sequence[str | None], numbers: Ints | Bools) -> pl.Series:
    """The word of a table for each number."""
    return pl.Series(list(table), dtype=pl.String).gather(np.asarray(numbers, dtype=np.int64))


def only_where(series: pl.Series, mask: Bools) -> pl.Series:
    """The series, empty where the mask does not hold."""
    return series.zip_with(pl.Series(mask), empty(len(series)))


def either(mask: Bools, yes: pl.Series, no: pl.Series) -> pl.Series:
    return yes.zip_with(pl.Series(mask), no)


def empty(count: int) -> pl.Series:
    return pl.Series([None], dtype=pl.String).new_from_index(0, count)
