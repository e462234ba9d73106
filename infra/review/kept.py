"""Kept: the records of a request as they were found, sealed to the pipeline in the folder of the case.

Finding a cohort means building every spell of the lake, which takes minutes; both officers have signed its digest,
so it need not be found twice while the lake is what it was. The request holds a digest of the lake's state, too: if
that has changed, the question is asked anew. Either way the records are used only if their digest is the signed one.

Record keys and tokens are never on a disk in clear, and the file is removed when the case ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import polars as pl

from infra.code_version import code_version
from infra.files import write_atomic
from infra.keyring import Keyring
from infra.lake import CommittedDelivery
from infra.review.case import KEPT_COHORT, Case, read_small
from infra.review.cohort import SCHEMA, Cohort
from infra.sealing import seal, unseal
from infra.signing import canonical_json, parse_canonical
from schemas.errors import IntegrityError

KIND = "case-review-kept-cohort"
LONGEST = 1 << 24


def lake_state(deliveries: Iterable[CommittedDelivery]) -> str:
    """SHA-256 over everything that the answer to a question depends on: the deliveries in use, each with the
    generation and manifest of its vault, its content, its contract and when it was committed, and the code."""
    document = {
        "kind": "case-review-lake-state",
        "code": code_version(),
        "deliveries": sorted(
            [
                row.delivery_id,
                str(row.generation),
                row.vault_manifest_sha256,
                row.content_sha256,
                row.contract_digest,
                row.committed_at.isoformat(),
            ]
            for row in deliveries
            if row.status == "current"
        ),
    }
    return hashlib.sha256(canonical_json(document)).hexdigest()


def keep(folder: Path, request_id: str, cohort: Cohort, keyring: Keyring) -> None:
    """Seal ``cohort`` into the folder of its case. One that is too long is not kept, and found again when needed."""
    rows = [[*row[:3], row[3].isoformat()] for row in cohort.frame.select(list(SCHEMA)).iter_rows()]
    sealed = seal(
        canonical_json({"kind": KIND, "request": request_id, "records": rows}),
        keyring.landing_recovery_recipient,
    )
    if len(sealed) <= LONGEST:
        write_atomic(folder / KEPT_COHORT, sealed)


def sealed_cohort(case: Case) -> bytes | None:
    """The sealed file, None if there is none. Raises :class:`IntegrityError` for what is no file of ours."""
    return read_small(case.folder / KEPT_COHORT, LONGEST)


def open_cohort(sealed: bytes, request_id: str, keyring: Keyring) -> Cohort:
    """The records in ``sealed``; anybody can seal to a public key, so they count for nothing before their digest
    was compared with the signed one.

    Raises :class:`CannotOpen`, and :class:`IntegrityError` for what :func:`keep` does not write.
    """
    found = parse_canonical(unseal(sealed, keyring.landing_recovery_identities))
    wrong = IntegrityError(
        "what was kept of the records is not of this request",
        next_step="find out who can write to the case's folder; make a new request",
    )
    if not isinstance(found, dict) or (found.get("kind"), found.get("request")) != (KIND, request_id):
        raise wrong
    try:
        rows = [
            (delivery, key, token, date.fromisoformat(day)) for delivery, key, token, day in found["records"]
        ]
        return Cohort(pl.DataFrame(rows, schema=SCHEMA, orient="row"))
    except (KeyError, TypeError, ValueError, pl.exceptions.PolarsError):
        raise wrong from None
