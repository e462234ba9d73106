"""Incidents are entered by the program in fixed words, durably and audited, and their reports can be sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.audit import AuditLog, read
from infra.incidents import (
    IncidentType,
    Outcome,
    close_incident,
    list_incidents,
    raise_incident,
    report_text,
)
from schemas.errors import IdentifierInText, IntegrityError, UsageError
from transforms.identifiers import scan_text

NOW = datetime(2026, 11, 22, 1, 30, tzinfo=UTC)


@pytest.fixture
def audit(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit", lambda: NOW, "p-001", "pipeline")


@pytest.fixture
def register(tmp_path: Path) -> Path:
    return tmp_path / "incidents"


def test_an_over_delivery_is_entered_with_columns_and_counts_and_audited(
    register: Path, audit: AuditLog
) -> None:
    incident = raise_incident(
        register,
        IncidentType.OVER_DELIVERY,
        "hes_apc-201999-1f2e3d4c5b6a",
        audit=audit,
        now=NOW,
        codes=("HOMEADD_FULL", "SURNAME"),
        counts={"columns": 2},
    )
    assert incident.id == "incident-0001"
    assert list_incidents(register) == [incident]
    (event,) = read(audit.folder)
    assert (event.action, event.object) == ("incident.raise", "incident-0001")
    assert (event.reason_code, event.counts) == ("over_delivery", {"columns": 2})
    assert (register / "incident-0001.json").stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in register.iterdir()) == ["incident-0001.json"]


def test_the_report_says_what_when_how_and_what_next_and_nothing_personal(
    register: Path, audit: AuditLog
) -> None:
    incident = raise_incident(
        register,
        IncidentType.OVER_DELIVERY,
        "hes_apc-201999-1f2e3d4c5b6a",
        audit=audit,
        now=NOW,
        codes=("SURNAME",),
        counts={"rows": 30_000_000},
    )
    text = report_text(incident)
    assert text.splitlines()[:4] == [
        "Incident incident-0001: over delivery",
        "When: 22 November 2026, 01:30 UTC",
        "To: line manager, Information Asset Owner, security mailbox",
        "What: a delivery held a column that must not be delivered (a name or an address)",
    ]
    assert "Rules and columns: SURNAME" in text
    assert "Numbers: rows 30,000,000" in text
    assert "How it was noticed:" in text
    assert "Next 1: tell the supplier" in text


@pytest.mark.parametrize("incident_type", list(IncidentType))
def test_every_type_has_a_report_that_passes_the_scanner(
    register: Path, audit: AuditLog, incident_type: IncidentType
) -> None:
    incident = raise_incident(
        register, incident_type, "run 20261122 010000", audit=audit, now=NOW, case="review-1f2e3d4c5b6a7081"
    )
    text = report_text(incident)
    without_when = "\n".join(
        line for line in text.splitlines() if not line.startswith(("When:", "Concerns:"))
    )
    assert scan_text(without_when) == []
    assert "Next 1:" in text


@pytest.mark.parametrize(
    ("object", "codes", "counts", "error"),
    [
        ("9434765919", (), {}, IdentifierInText),
        ("delivery", ("943-476-5919",), {}, IdentifierInText),
        ("delivery", ("A123456",), {}, IdentifierInText),
        ("delivery", (), {"9434765919": 1}, IdentifierInText),
        ("some\nfile", (), {}, UsageError),
        ("", (), {}, UsageError),
        ("delivery", ("not a code",), {}, UsageError),
        ("delivery", (), {"rows": "many"}, UsageError),
    ],
)
def test_nothing_but_ids_codes_and_counts_can_be_entered(
    register: Path,
    audit: AuditLog,
    object: str,
    codes: tuple[str, ...],
    counts: dict[str, int],
    error: type[Exception],
) -> None:
    with pytest.raises(error) as refused:
        raise_incident(
            register, IncidentType.NEAR_MISS, object, audit=audit, now=NOW, codes=codes, counts=counts
        )
    assert "9434765919" not in str(refused.value)
    assert list_incidents(register) == []


def test_an_incident_is_closed_once_and_its_entry_is_never_changed(register: Path, audit: AuditLog) -> None:
    first = raise_incident(register, IncidentType.REFUSED_ACCESS, "lake", audit=audit, now=NOW)
    second = raise_incident(register, IncidentType.NEAR_MISS, "lake", audit=audit, now=NOW)
    entered = (register / "incident-0001.json").read_bytes()
    closed = close_incident(register, first.id, Outcome.NO_HARM, audit=audit, now=NOW)
    assert (register / "incident-0001.json").read_bytes() == entered
    assert list_incidents(register) == [closed, second]
    assert list_incidents(register, only_open=True) == [second]
    assert "Closed: no harm" in report_text(closed)
    assert [event.action for event in read(audit.folder)][-1] == "incident.close"
    for incident_id in (first.id, "incident-0009"):
        with pytest.raises(UsageError, match="no open incident"):
            close_incident(register, incident_id, Outcome.NO_HARM, audit=audit, now=NOW)


def test_a_number_that_was_taken_at_the_same_time_is_not_overwritten(
    register: Path, audit: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = raise_incident(register, IncidentType.NEAR_MISS, "one", audit=audit, now=NOW)
    monkeypatch.setattr("infra.incidents.list_incidents", lambda *_: [])
    second = raise_incident(register, IncidentType.NEAR_MISS, "two", audit=audit, now=NOW)
    monkeypatch.undo()
    assert second.id == "incident-0002"
    assert [incident.object for incident in list_incidents(register)] == ["one", "two"]
    assert first.is_open


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id":"incident-0001"}', b'{"id":"incident-0009"}'])
def test_an_entry_that_was_changed_is_an_integrity_error_without_its_content(
    register: Path, audit: AuditLog, content: bytes
) -> None:
    raise_incident(register, IncidentType.NEAR_MISS, "one", audit=audit, now=NOW)
    path = register / "incident-0001.json"
    if b"0009" in content:
        content = json.dumps(json.loads(path.read_bytes()) | {"id": "incident-0009"}).encode()
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"incident-0001\.json"):
        list_incidents(register)


def test_a_workspace_without_incidents_has_an_empty_register(register: Path) -> None:
    assert list_incidents(register) == []
