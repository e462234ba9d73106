"""The public register: what is held, under which agreement and for what, which runs there were, how many case lists.

For anybody ("fair processing, no surprises"; Caldicott principle 8, inform people). It is made from signed records:
the receipts of deliveries, whose signatures are verified, the agreement in settings.yaml, the closed list of purposes,
and the audit log, whose chain and checkpoints are verified first. It holds counts of deliveries, runs and lists, and
no count of persons or records, no hospital, and nothing of a case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import jinja2

from infra.audit import Event, read
from infra.audit_checkpoint import CHECKPOINT_KEY
from infra.audit_finding import tampering
from infra.audit_verify import verify
from infra.files import make_folder, write_atomic
from infra.keyring import Keyring
from infra.landing import CONTENT, RECEIPT
from infra.naming import make_name
from infra.objections import honours_objections
from infra.purposes import Purpose, load_policy
from infra.receipts import DELIVERY_ID, Receipt, load_receipt
from infra.workspace import Agreement, Workspace
from schemas.errors import IntegrityError
from schemas.loader import load_contracts
from schemas.published import Marking

RECORDS = "records"
TEMPLATES = Path(__file__).parent / "templates"
STYLE = Path(__file__).parent / "report" / "templates"

ITEM_WORDS = {
    "nhs_number": "NHS number",
    "local_patient_identifier": "local patient identifier (hospital number)",
    "date_of_birth": "date of birth",
    "postcode": "postcode",
    "mothers_date_of_birth": "mother's date of birth",
    "babys_date_of_birth": "baby's date of birth",
    "date_of_death": "date of death",
}


@dataclass(frozen=True)
class DatasetHeld:
    """What is held of one dataset. ``periods``: the first and the last, as the deliveries name them."""

    dataset: str
    title: str
    deliveries: int
    periods: tuple[str, str]
    received: tuple[date, date]
    retain_until: date
    agreements: tuple[str, ...]
    items: tuple[str, ...]


@dataclass(frozen=True)
class CaseLists:
    """Counts of one calendar year."""

    year: int
    requested: int
    refused: int
    issued: int


@dataclass(frozen=True)
class Run:
    """A finished run and whether its public set was released."""

    run_id: str
    day: date
    purpose: str
    released: date | None


@dataclass(frozen=True)
class Holdings:
    """What a workspace holds and did, in counts."""

    agreement: Agreement
    honours_objections: bool
    datasets: tuple[DatasetHeld, ...]
    purposes: tuple[Purpose, ...]
    runs: tuple[Run, ...]
    case_lists: tuple[CaseLists, ...]
    destroyed: int


# Signed records ---------------------------------------------------------------------------------------


def receipts(workspace: Workspace, keyring: Keyring) -> list[Receipt]:
    """The verified receipts of everything that is held, in the order of their ids. Raises :class:`IntegrityError`."""
    landing = workspace.zone("landing")
    folders = sorted(path for path in landing.iterdir() if DELIVERY_ID.fullmatch(path.name))
    # Of a delivery that was destroyed the receipt may outlive the content.
    return [load_receipt(folder / RECEIPT, keyring) for folder in folders if (folder / CONTENT).exists()]


def checked_events(workspace: Workspace, keyring: Keyring) -> list[Event]:
    """Every event of the audit log, after the log was verified. Raises :class:`IntegrityError` if it was changed."""
    folder = workspace.zone("audit")
    keys = {CHECKPOINT_KEY: [bytes.fromhex(public) for public in keyring.signers("audit_signing").values()]}
    wrong = tampering(verify(folder, keys))
    if wrong:
        raise IntegrityError(
            f"the audit log is not what was written ({len(wrong)} finding(s)), so no account is given from it",
            next_step="run `wardwatch audit verify` and treat it as an incident",
        )
    return list(read(folder))


def holdings(workspace: Workspace, keyring: Keyring, events: Iterable[Event]) -> Holdings:
    """What ``workspace`` holds and did. ``events``: :func:`checked_events`."""
    events = list(events)
    return Holdings(
        agreement=workspace.settings.agreement,
        honours_objections=honours_objections(workspace),
        datasets=_datasets(receipts(workspace, keyring)),
        purposes=load_policy().purposes,
        runs=_runs(events),
        case_lists=_case_lists(events),
        destroyed=len({event.object for event in events if _is_destruction(event)}),
    )


def _is_destruction(event: Event) -> bool:
    return event.action == "retention.certificate" and event.decision == "allow"


def _datasets(held: Iterable[Receipt]) -> tuple[DatasetHeld, ...]:
    by_dataset: dict[str, list[Receipt]] = {}
    for receipt in held:
        by_dataset.setdefault(receipt.dataset, []).append(receipt)
    contracts = list(load_contracts().values())
    found = []
    for dataset, mine in sorted(by_dataset.items()):
        layouts = [contract for contract in contracts if contract.dataset == dataset]
        items = {item.value for contract in layouts for item in contract.items}
        periods = sorted(receipt.period for receipt in mine)
        received = sorted(receipt.received_on for receipt in mine)
        found.append(
            DatasetHeld(
                dataset=dataset,
                title=layouts[0].title.partition(" (layout")[0] if layouts else dataset,
                deliveries=len(mine),
                periods=(periods[0], periods[-1]),
                received=(received[0], received[-1]),
                retain_until=max(receipt.retained_until for receipt in mine),
                agreements=tuple(sorted({receipt.agreement for receipt in mine})),
                items=tuple(words for item, words in ITEM_WORDS.items() if item in items),
            )
        )
    return tuple(found)


def _runs(events: Iterable[Event]) -> tuple[Run, ...]:
    finished: dict[str, Event] = {}
    released: dict[str, date] = {}
    for event in events:
        if event.action == "run.finish" and event.decision == "allow":
            finished[event.object] = event
        elif event.action == "published.release" and event.reason_code == "released":
            released[event.object] = event.time.date()
    titles = {purpose.code: purpose.title for purpose in load_policy().purposes}
    return tuple(
        Run(run_id, event.time.date(), titles.get(event.purpose, event.purpose), released.get(run_id))
        for run_id, event in finished.items()
    )


def _case_lists(events: Iterable[Event]) -> tuple[CaseLists, ...]:
    """Cases by the calendar year of each happening; every case counts once for each."""
    wanted = {
        "review.request": ("requested", ("allow",)),
        "review.refuse": ("refused", ("allow",)),
        "review.issue": ("issued", ("allow", "break_glass")),
    }
    found: dict[int, Counter[str]] = {}
    seen: set[tuple[str, str]] = set()
    for event in events:
        what, decisions = wanted.get(event.action, ("", ()))
        announced = event.reason_code in ("intent", "begun")
        if event.decision in decisions and not announced and (event.action, event.case) not in seen:
            seen.add((event.action, event.case))
            found.setdefault(event.time.year, Counter())[what] += 1
    return tuple(
        CaseLists(year, counts["requested"], counts["refused"], counts["issued"])
        for year, counts in sorted(found.items(), reverse=True)
    )


# The page ---------------------------------------------------------------------------------------------


def long_day(day: date) -> str:
    """``5 April 2026``."""
    return f"{day.day} {day:%B %Y}"


def period_words(period: str) -> str:
    """A delivery's period in words: ``2020-21 (final)``, ``2022-23 (to month 6)``, ``whole history``."""
    if not period.isdigit() or len(period) != 6:
        return "whole history"
    year, month = int(period[:4]), int(period[4:])
    said = f"{year}-{(year + 1) % 100:02d}"
    return f"{said} (final)" if month == 99 else f"{said} (to month {month})"


def render(template: str, values: Mapping[str, object]) -> str:
    """A self-contained page out of ``infra/templates``: no script, no font or picture from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES, STYLE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["day"] = long_day
    environment.filters["period"] = period_words
    environment.filters["plural"] = lambda count, word: f"{count:,} {word}{'' if count == 1 else 's'}"
    return environment.get_template(template).render(**values)


def public_page(held: Holdings, today: date) -> str:
    """The public register as HTML; the same holdings and day give the same bytes."""
    return render("public_register.html.j2", {"held": held, "today": today, "most_runs": 30})


def keep_record(workspace: Workspace, name: str, content: bytes) -> Path:
    """Write a record into the folder of records, in place of one of the same name, and return where it is."""
    path = make_folder(workspace.root / RECORDS) / name
    write_atomic(path, content)
    return path


def record_name(today: date, name: str, marking: Marking, extension: str = "html") -> str:
    """A name that the records policy takes, of the type ``report``."""
    return make_name(today, name, "report", 1, marking, extension)
