"""The public register and the audit pack are made from signed records, hold nothing personal, and refuse others."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from infra.audit import AuditLog
from infra.audit_pack import Account, account, keep_pack, pack_page
from infra.incidents import IncidentType, raise_incident
from infra.keyring import Keyring
from infra.landing import CONTENT, RECEIPT
from infra.naming import parse_name
from infra.public_register import (
    checked_events,
    holdings,
    keep_record,
    long_day,
    period_words,
    public_page,
    receipts,
    record_name,
)
from infra.receipts import Digest, Receipt, sign_document
from infra.register import Register
from infra.requests.register import FOLDER, add_request
from infra.workspace import Workspace
from schemas.errors import IntegrityError, UsageError
from tests.support.workspaces import make_workspace
from transforms.identifiers import EMAIL, HOSPITAL_NUMBER, NHS_NUMBER, POSTCODE, scan_text

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
TODAY = NOW.date()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "workspace", moment=NOW - timedelta(days=30))


@pytest.fixture
def keyring(workspace: Workspace) -> Keyring:
    return Keyring.open(workspace.zone("keys"))


def log(
    workspace: Workspace, person: str = "pipeline", role: str = "pipeline", days_ago: int = 1
) -> AuditLog:
    return AuditLog(workspace.zone("audit"), lambda: NOW - timedelta(days=days_ago), person, role)


def hold(
    workspace: Workspace, keyring: Keyring, dataset: str, period: str, retain: str = "2027-11-21"
) -> Path:
    """A delivery in the landing zone, as far as a register looks at it: its receipt, and that its content is there."""
    digest = Digest(sha256="ab" * 32, bytes=9)
    receipt = Receipt(
        delivery_id=f"{dataset}-{period}-{len(list(workspace.zone('landing').iterdir())):012x}",
        dataset=dataset,
        period=period,
        snapshot_date=None,
        sender="NIC000001",
        agreement="DEMO-AGREEMENT",
        name="NIC000001_HES.txt",
        content=digest,
        received=digest,
        member=1,
        members=1,
        sealed=digest,
        sealed_head="cd" * 32,
        landing_recipient="age1",
        landing_fingerprint="00",
        received_at="2026-11-20T22:00:00Z",
        retain_until=retain,
        expected_records=None,
        replaces=None,
        reason=None,
        tool_version="1",
    )
    folder = workspace.zone("landing") / receipt.delivery_id
    folder.mkdir()
    (folder / RECEIPT).write_bytes(sign_document(receipt, keyring.manifest_signing_key))
    (folder / CONTENT).write_bytes(b"sealed")
    return folder


def filled(workspace: Workspace, keyring: Keyring) -> None:
    """Three deliveries, two runs of which one was released, and case reviews of two years."""
    hold(workspace, keyring, "hes_apc", "202099")
    hold(workspace, keyring, "hes_apc", "202206", retain="2026-11-01")
    hold(workspace, keyring, "civil_deaths", "snapshot")
    audit = log(workspace)
    for run in ("20261119T220000Z-1f2e3d4c", "20261120T220000Z-5b6a7081"):
        audit.record("run.finish", run, purpose="nightly_publication")
    audit.record("published.release", "20261119T220000Z-1f2e3d4c", purpose="release", reason_code="begun")
    audit.record("published.release", "20261119T220000Z-1f2e3d4c", purpose="release", reason_code="released")
    for case, ends in (
        ("abcdefghijkl", "allow"),
        ("bcdefghijklm", "break_glass"),
        ("cdefghijklmn", "refuse"),
    ):
        common = {"purpose": "case_review", "case": case}
        audit.record("review.request", case, **common)
        audit.record("review.issue", case, reason_code="intent", **common)
        audit.record("review.issue", case, decision=ends, reason_code="issued", **common)  # type: ignore[arg-type]
    audit.record("review.refuse", "cdefghijklmn", purpose="case_review", case="cdefghijklmn")


class Page(HTMLParser):
    """The text of a page, and what it would load from elsewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.loads: list[str] = []
        self.open: list[str] = []
        self.hidden = 0
        self.feed(html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [
            f"{tag} {name}"
            for name, value in attrs
            if name in ("src", "href") and not str(value).startswith("#")
        ]
        self.loads += [tag] if tag in ("script", "link", "iframe", "object") else []
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"the page is not well-formed at </{tag}>"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)


def test_the_register_says_what_is_held_under_which_agreement_and_how_many_lists(
    workspace: Workspace, keyring: Keyring
) -> None:
    filled(workspace, keyring)
    held = holdings(workspace, keyring, checked_events(workspace, keyring))

    assert [(one.dataset, one.deliveries, one.periods) for one in held.datasets] == [
        ("civil_deaths", 1, ("snapshot", "snapshot")),
        ("hes_apc", 2, ("202099", "202206")),
    ]
    assert held.datasets[1].retain_until == date(2027, 11, 21)
    assert "NHS number" in held.datasets[1].items
    assert [(run.run_id[:8], run.released) for run in held.runs] == [
        ("20261119", date(2026, 11, 21)),
        ("20261120", None),
    ]
    assert [(y.year, y.requested, y.refused, y.issued) for y in held.case_lists] == [(2026, 3, 1, 2)]

    page = Page(public_page(held, TODAY))
    for part in (
        "DEMO-AGREEMENT",
        "Hospital Episode Statistics, admitted patient care 2 2020-21 (final) to 2022-23 (to month 6)",
        "Nightly computation of the indicators of avoidable harm",
        "released on 21 November 2026",
        "2026 3 1 2",
        "Demonstration.",
        "There is no program that finds the records of a person.",
        "Objections to the use of NHS data go to NHS England",
    ):
        assert part in page.text, f"the page does not say: {part}"
    assert page.open == []
    assert page.loads == [], "the page needs nothing from elsewhere"


def test_an_empty_workspace_has_a_register_too(workspace: Workspace, keyring: Keyring) -> None:
    page = Page(public_page(holdings(workspace, keyring, checked_events(workspace, keyring)), TODAY))
    for part in ("No delivery is held.", "No run has been finished yet.", "None has been requested."):
        assert part in page.text


def test_the_public_page_names_no_hospital_no_person_no_case_and_no_count_of_records(
    workspace: Workspace, keyring: Keyring
) -> None:
    filled(workspace, keyring)
    audit = log(workspace, "staff-4711", "intelligence_analyst")
    audit.record(
        "vault.open",
        "hes_apc-202099-000000000000/hospital:RXX/item:local_patient_identifier",
        purpose="case_review",
        case="abcdefghijkl",
        counts={"records": 7654321},
    )
    html = public_page(holdings(workspace, keyring, checked_events(workspace, keyring)), TODAY)
    for secret in (
        "staff-4711",
        "demo-",
        "RXX",
        "abcdefghijkl",
        "7654321",
        "7,654,321",
        "NIC000001",
        "abababab",
    ):
        assert secret not in html
    kinds = set(scan_text(re.sub(r"[0-9TZ]{16}-[0-9a-f]{8}", "(run)", Page(html).text)))
    assert not kinds & {NHS_NUMBER, POSTCODE, EMAIL, HOSPITAL_NUMBER}


def test_the_same_records_give_the_same_bytes(workspace: Workspace, keyring: Keyring) -> None:
    filled(workspace, keyring)
    first, second = (
        public_page(holdings(workspace, keyring, checked_events(workspace, keyring)), TODAY) for _ in range(2)
    )
    assert first == second


def test_no_account_is_given_from_a_changed_log_or_a_changed_receipt(
    workspace: Workspace, keyring: Keyring
) -> None:
    filled(workspace, keyring)
    path = workspace.zone("audit") / "log.ndjson"
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"case_review"', b'"case_rewiev"', 1))
    with pytest.raises(IntegrityError, match="no account is given"):
        checked_events(workspace, keyring)
    path.write_bytes(good)
    receipt = next(workspace.zone("landing").glob(f"hes_apc-202206*/{RECEIPT}"))
    receipt.write_bytes(receipt.read_bytes().replace(b"2026-11-01", b"2036-11-01"))
    with pytest.raises(IntegrityError):
        receipts(workspace, keyring)


def test_what_was_destroyed_is_not_held_although_its_receipt_may_outlive_it(
    workspace: Workspace, keyring: Keyring
) -> None:
    folder = hold(workspace, keyring, "hes_apc", "202099")
    (folder / CONTENT).unlink()
    log(workspace).record("retention.certificate", "order-1", purpose="retention")
    held = holdings(workspace, keyring, checked_events(workspace, keyring))
    assert (held.datasets, held.destroyed) == ((), 1)
    assert (
        "1 order to destroy data at the end of their retention was carried out"
        in Page(public_page(held, TODAY)).text
    )


@pytest.mark.parametrize(
    ("period", "words"),
    [
        ("202099", "2020-21 (final)"),
        ("199901", "1999-00 (to month 1)"),
        ("200913", "2009-10 (to month 13)"),
        ("snapshot", "whole history"),
    ],
)
def test_a_period_is_said_in_words(period: str, words: str) -> None:
    assert period_words(period) == words
    assert long_day(date(2026, 4, 5)) == "5 April 2026"


def test_records_are_named_by_the_naming_rule_and_private(workspace: Workspace) -> None:
    name = record_name(TODAY, "Wardwatch public register", "OFFICIAL")
    assert name == "20261122 Wardwatch public register report v1.html"
    path = keep_record(workspace, name, b"<p>")
    assert parse_name(path.name).marking == "OFFICIAL"
    assert path.stat().st_mode & 0o077 == 0


# The audit pack ---------------------------------------------------------------------------------------


def make_account(workspace: Workspace, keyring: Keyring, days: int = 60) -> Account:
    register = Register.load(workspace.zone("keys"))
    return account(workspace, keyring, register, since=TODAY - timedelta(days=days), until=TODAY, now=NOW)


def test_the_pack_has_deliveries_retention_reviews_incidents_refusals_training_and_what_is_open(
    workspace: Workspace, keyring: Keyring
) -> None:
    filled(workspace, keyring)
    analyst = log(workspace, "staff-4711", "intelligence_analyst")
    for _ in range(2):
        analyst.record("lake.query", "lake", purpose="", decision="refuse", reason_code="no_role")
    analyst.record(
        "vault.open",
        "hes_apc-202099-000000000000/hospital:RXX/item:local_patient_identifier",
        purpose="case_review",
        case="abcdefghijkl",
        counts={"records": 12},
    )
    raise_incident(
        workspace.zone("incidents"), IncidentType.OVER_DELIVERY, "received-1", audit=analyst, now=NOW
    )
    add_request(
        workspace.root / FOLDER,
        "freedom_of_information",
        date(2026, 10, 1),
        reference="F-1",
        text="which data sets are held",
        audit=analyst,
        now=NOW,
    )
    found = make_account(workspace, keyring)

    assert [receipt.period for receipt in found.overdue] == ["202206"]
    assert {(r.action, r.reason, r.times) for r in found.refused} >= {("lake.query", "no_role", 2)}
    assert ("review.issue", "allow", 1) in found.reviews
    assert ("review.issue", "break_glass", 1) in found.reviews
    assert all(one.in_date == one.held for one in found.training)
    for audience in ("data-supplier", "governance-group"):
        page = Page(pack_page(found, audience))  # type: ignore[arg-type]
        for part in (
            "is kept beyond its retention (2026-11-01): order its destruction, or a hold.",
            "Incident incident-0001 (over delivery) of 2026-11-22 is open.",
            "request-0001 (freedom of information) was due on 2026-10-29.",
            "1 of 3 held deliveries are beyond their retention.",
            "local_patient_identifier",
            "lake.query no role 2",
            "Caldicott Guardian 1 1",
            "2 runs finished so far, of which 1 had their public set released.",
        ):
            assert part in page.text, f"the page for the {audience} does not say: {part}"
        assert page.open == []
        assert page.loads == []
        assert "staff-4711" not in page.text, "staff in junior roles stand there by number"
        assert not {NHS_NUMBER, POSTCODE, EMAIL} & set(scan_text(re.sub(r"[0-9a-f]{32,}", "", page.text)))
    assert parse_name(keep_pack(workspace, found, "data-supplier").name).marking == "OFFICIAL SENSITIVE"


def test_what_happened_outside_the_period_is_left_out_and_what_is_open_is_not(
    workspace: Workspace, keyring: Keyring
) -> None:
    old = log(workspace, "staff-4711", "intelligence_analyst", days_ago=20)
    old.record("lake.query", "lake", purpose="", decision="refuse", reason_code="no_role")
    raise_incident(
        workspace.zone("incidents"), IncidentType.NEAR_MISS, "lake", audit=old, now=NOW - timedelta(days=20)
    )
    found = make_account(workspace, keyring, days=5)
    assert found.refused == ()
    assert [incident.id for incident in found.incidents] == ["incident-0001"]
    with pytest.raises(UsageError, match="ends before it begins"):
        make_account(workspace, keyring, days=-1)


def test_a_lapsed_training_and_an_agreement_that_ends_are_open_points(
    workspace: Workspace, keyring: Keyring
) -> None:
    later = NOW + timedelta(days=400)
    register = Register.load(workspace.zone("keys"))
    found = account(workspace, keyring, register, since=TODAY, until=TODAY, now=later)
    assert "Training has lapsed for 1 of 1 in the role Caldicott Guardian." in found.decisions
    assert any(sentence.startswith("The purpose ") for sentence in found.decisions)
    ending = workspace.settings.agreement.model_copy(update={"ends": "2026-12-01"})
    settings = workspace.settings.model_copy(update={"agreement": ending})
    found = make_account(Workspace(workspace.root, settings), keyring)
    assert "The agreement DEMO-AGREEMENT ends on 2026-12-01." in found.decisions
