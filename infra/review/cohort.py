"""Cohort: exactly which records a request is about, found by a named question and fixed by a digest.

A question is a file of ``sql/cohorts``, one SELECT over the episodes and spells of :mod:`infra.compute` that gives
``record_key``, ``person_token`` and ``record_date``. Its header declares a title, what it needs and its parameters.
There is no other way to name records: nobody can ask for a person.

Record keys and tokens are in memory, or sealed (:mod:`infra.review.kept`). What leaves is counts and one digest over
the request's id and the sorted records, so that two requests about the same records do not show the same digest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

import polars as pl

from infra.computation import bind_views, death_link
from infra.compute import add_death_link, build_core, build_outcomes, single_select, spells_for_linkage
from infra.engine import engine_errors
from infra.keyring import Keyring
from infra.lake import CommittedDelivery, committed_deliveries, reading
from infra.review.documents import CohortSummary, Predicate
from infra.signing import canonical_json
from infra.vault import MANIFEST_FILE, folder_name, read_manifest
from infra.workspace import Workspace
from schemas.contract import Item
from schemas.errors import ContractDefinitionError, IntegrityError, NotPermitted, UsageError
from schemas.loader import load_contracts
from schemas.review_policy import ReviewPolicy
from sql import SQL_FOLDER

COHORT_FOLDER = SQL_FOLDER / "cohorts"
SCHEMA = {
    "delivery_id": pl.String,
    "record_key": pl.String,
    "person_token": pl.String,
    "record_date": pl.Date,
}
PROVIDER, FROM, TO = "provider", "from_date", "to_date"

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_HEADER = re.compile(r"^-- (title|needs|parameter): (\S.*)$", re.MULTILINE)
_TYPES: Mapping[str, re.Pattern[str]] = {
    "organisation": re.compile(r"[A-Z0-9]{3,6}"),
    "date": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
    "diagnosis_category": re.compile(r"[A-Z][0-9]{2}[0-9X]?"),
}


@dataclass(frozen=True)
class Question:
    """A file of ``sql/cohorts``. ``parameters``: name -> type. ``needs_deaths``: it reads the outcomes."""

    name: str
    title: str
    needs: Literal["spells", "deaths"]
    parameters: Mapping[str, str]
    query: str
    sha256: str


def load_question(name: str) -> Question:
    """The question ``name``. Raises :class:`UsageError` if there is none, :class:`ContractDefinitionError` for a file
    that does not declare what it uses."""
    path = COHORT_FOLDER / f"{name}.sql"
    if not _NAME.fullmatch(name) or not path.is_file():
        raise UsageError("there is no such cohort", next_step="one of: " + ", ".join(question_names()))
    content = path.read_bytes()
    query = content.decode()
    said = _HEADER.findall(query)
    titles = [text for word, text in said if word == "title"]
    needs = [text for word, text in said if word == "needs"]
    parameters = dict(text.split(" ", 1) for word, text in said if word == "parameter")
    if len(titles) != 1 or needs not in (["spells"], ["deaths"]):
        raise ContractDefinitionError(f"cohort {name}: its header says one title, and needs spells or deaths")
    if single_select(query, f"cohort {name}") != set(parameters) or set(parameters.values()) - set(_TYPES):
        raise ContractDefinitionError(f"cohort {name}: its parameters are not those that it declares")
    if {PROVIDER: "organisation", FROM: "date", TO: "date"}.items() - parameters.items():
        raise ContractDefinitionError(f"cohort {name}: a cohort is of one provider and of one period")
    return Question(
        name,
        titles[0],
        "deaths" if needs == ["deaths"] else "spells",
        parameters,
        query,
        hashlib.sha256(content).hexdigest(),
    )


def question_names() -> list[str]:
    return sorted(path.stem for path in COHORT_FOLDER.glob("*.sql"))


def checked_parameters(
    question: Question, parameters: Mapping[str, str], recipient: str, policy: ReviewPolicy
) -> dict[str, str | date]:
    """The parameters as the engine takes them.

    Raises :class:`UsageError` for one of another name or type, and :class:`NotPermitted` for another provider than
    the recipient or a period that is longer than the policy's.
    """
    if set(parameters) != set(question.parameters):
        raise UsageError(f"cohort {question.name} takes: " + ", ".join(question.parameters))
    typed: dict[str, str | date] = {}
    for name, kind in question.parameters.items():
        text = parameters[name]
        wrong = UsageError(f"parameter {name} of the cohort is not of type {kind.replace('_', ' ')}")
        if not _TYPES[kind].fullmatch(text):
            raise wrong
        try:
            typed[name] = date.fromisoformat(text) if kind == "date" else text
        except ValueError:
            raise wrong from None
    if typed[PROVIDER] != recipient:
        raise NotPermitted(
            "a hospital is asked about patients whom it treated itself", reason_code="another_provider"
        )
    begin, end = typed[FROM], typed[TO]
    assert isinstance(begin, date)
    assert isinstance(end, date)
    months = policy.limit("cohort_months")
    years, month = divmod(begin.month - 1 + months, 12)
    too_late = date(begin.year + years, month + 1, 1).replace(day=min(begin.day, 28))
    if not begin <= end < too_late:
        raise NotPermitted(
            f"a cohort covers a period of at most {months} months", reason_code="period_too_long"
        )
    return typed


@dataclass(frozen=True)
class Cohort:
    """The records, one row each with the columns of ``SCHEMA``. Printing it shows counts."""

    frame: pl.DataFrame = field(repr=False)

    @property
    def records(self) -> int:
        return self.frame.height

    @property
    def patients(self) -> int:
        return self.frame["person_token"].n_unique() if self.frame.height else 0

    def digest(self, request_id: str) -> str:
        """SHA-256 over the request's id and the sorted records, each with its delivery, key, person and date."""
        rows = sorted(self.frame.select(list(SCHEMA)).iter_rows())
        document = {
            "kind": "case-review-cohort",
            "request": request_id,
            "records": [[*row[:3], row[3].isoformat()] for row in rows],
        }
        return hashlib.sha256(canonical_json(document)).hexdigest()

    def of_delivery(self, delivery_id: str) -> pl.DataFrame:
        return self.frame.filter(pl.col("delivery_id") == delivery_id)

    def __repr__(self) -> str:
        return f"Cohort({self.records} records)"


def checked_question(
    predicate: Predicate, recipient: str, policy: ReviewPolicy
) -> tuple[Question, dict[str, str | date]]:
    """The question of ``predicate`` and its parameters as the engine takes them.

    Raises :class:`NotPermitted` (``predicate_changed``) if its file is another now, and what
    :func:`checked_parameters` raises.
    """
    question = load_question(predicate.name)
    if question.sha256 != predicate.sha256:
        raise NotPermitted(
            "the cohort's question is not the one that was approved", reason_code="predicate_changed"
        )
    return question, checked_parameters(question, predicate.parameters, recipient, policy)


def deliveries_of(workspace: Workspace, keyring: Keyring) -> list[CommittedDelivery]:
    """The delivery rows of the lake now."""
    return committed_deliveries(workspace.zone("lake"), keyring.lake_metadata_key, workspace.zone("tmp"))


def find_cohort(
    workspace: Workspace,
    keyring: Keyring,
    deliveries: Iterable[CommittedDelivery],
    predicate: Predicate,
    recipient: str,
    policy: ReviewPolicy,
) -> Cohort:
    """Ask the question of ``predicate`` of all ``deliveries`` in use.

    Raises what :func:`checked_question` raises, :class:`UsageError` and what lake and engine raise.
    """
    question, parameters = checked_question(predicate, recipient, policy)
    lake, key = workspace.zone("lake"), keyring.lake_metadata_key
    current = [row for row in deliveries if row.status == "current"]
    if not any(row.dataset == "hes_apc" for row in current):
        raise UsageError("no admitted patient care is in use, so there is no cohort")
    with reading(
        lake, key, memory_limit=workspace.settings.compute_memory_limit, temp_folder=workspace.zone("tmp")
    ) as connection:
        bind_views(connection, current)
        build_core(connection)
        if question.needs == "deaths":
            link = death_link(workspace, connection, current, keyring, spells_for_linkage(connection))
            add_death_link(connection, link)
            build_outcomes(connection)
        with engine_errors("finding the cohort"):
            found = connection.sql(question.query, params=parameters).pl()
            if set(found.columns) != {"record_key", "person_token", "record_date"}:
                raise ContractDefinitionError(
                    f"cohort {question.name}: its columns are not those of a cohort"
                )
            connection.register("cohort_found", found)
            frame = connection.execute(_IN_WHICH_DELIVERY).pl()
    frame = frame.cast(SCHEMA).select(list(SCHEMA)).unique()  # type: ignore[arg-type]
    if frame.null_count().sum_horizontal().sum():
        raise IntegrityError("a record of the cohort has no key, person or date")
    return Cohort(frame.sort("delivery_id", "record_key"))


# A record key could stand in two deliveries; whose it is has to fit, too.
_IN_WHICH_DELIVERY = """
    with bridge as (
        select old_person_token, min(person_token) as person_token
        from hes_person_bridge
        where person_token is not null
        group by old_person_token
    )
    select distinct apc.delivery_id, found.record_key, found.person_token, found.record_date::date as record_date
    from cohort_found as found
    inner join hes_apc as apc on found.record_key = apc.epikey
    left join bridge on apc.person_token = bridge.old_person_token
    where coalesce(bridge.person_token, apc.person_token) = found.person_token
"""


def check_manifest(folder: Path, expected: str) -> None:
    """That the vault in ``folder`` has the manifest with the SHA-256 ``expected``. Raises :class:`IntegrityError`."""
    try:
        content = (folder / MANIFEST_FILE).read_bytes()
    except OSError:
        raise IntegrityError(f"the vault {folder.name} has no readable manifest") from None
    if hashlib.sha256(content).hexdigest() != expected:
        raise IntegrityError(f"the vault {folder.name} is not the one that was committed and asked about")


def summary(
    workspace: Workspace,
    all_deliveries: Iterable[CommittedDelivery],
    cohort: Cohort,
    request_id: str,
    recipient: str,
    items: tuple[str, ...],
    signers: Mapping[str, str],
) -> CohortSummary:
    """What a request says of ``cohort``: counts, the digest, and where the numbers lie.

    Raises :class:`IntegrityError` if the vault of a delivery is not the one that the delivery's row names.
    """
    rows = {row.delivery_id: row for row in all_deliveries if row.status == "current"}
    deliveries = []
    for delivery_id in cohort.frame["delivery_id"].unique().sort().to_list():
        row = rows.get(delivery_id)
        if row is None:
            raise IntegrityError("a record of the cohort is of a delivery that is not in use")
        folder = folder_name(delivery_id, row.generation)
        place = workspace.zone("vault") / folder
        check_manifest(place, row.vault_manifest_sha256)
        manifest = read_manifest(place, signers)
        deliveries.append(
            {
                "delivery_id": delivery_id,
                "folder": folder,
                "vault_manifest": row.vault_manifest_sha256,
                "records": cohort.of_delivery(delivery_id).height,
                "columns": columns_of(manifest, recipient, items),
            }
        )
    return CohortSummary.model_validate(
        {
            "digest": cohort.digest(request_id),
            "records": cohort.records,
            "patients": cohort.patients,
            "deliveries": tuple(deliveries),
        }
    )


def columns_of(manifest: Mapping[str, Any], recipient: str, items: Iterable[str]) -> tuple[str, ...]:
    """The vault columns of ``items`` in a delivery, sorted; none if ``recipient`` issued no number in it.

    What a column is says the installed contract, and the manifest has to agree: whoever signs a manifest does not
    turn an NHS number into a hospital number. Raises :class:`IntegrityError` if they differ.
    """
    contract = load_contracts().get(manifest["contract"])
    held = (
        {column: contract.field(column).item for column in manifest["items"]} if contract is not None else {}
    )
    if held != {column: Item(item) for column, item in manifest["items"].items()}:
        raise IntegrityError(
            f"the vault {manifest['delivery_id']} and its contract do not say the same of its columns",
            next_step="find out who signed this manifest",
        )
    wanted = {Item(item) for item in items}
    found = tuple(sorted(column for column, item in held.items() if item in wanted))
    return found if recipient in manifest["keys"] else ()
