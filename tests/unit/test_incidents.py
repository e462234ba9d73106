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
    delivery_incident,
    file_refusals,
    list_incidents,
    raise_incident,
    raise_once,
    report_text,
)
from schemas.errors import (
    CannotOpen,
    DeliveryConflict,
    DeliveryRefused,
    ForbiddenColumn,
    IdentifierInText,
    IntegrityError,
    UsageError,
)
from schemas.incident_policy import incident_policy
from transforms.identifiers import scan_text

NOW = datetime(2026, 11, 22, 1, 30, tzinfo=UTC)
REASON = "the role was ended before anything was opened"


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
    closed = close_incident(register, first.id, Outcome.NO_HARM, reason=REASON, audit=audit, now=NOW)
    assert (register / "incident-0001.json").read_bytes() == entered
    assert list_incidents(register) == [closed, second]
    assert list_incidents(register, only_open=True) == [second]
    assert f"Closed: no harm ({REASON})" in report_text(closed)
    assert (closed.closed_by, closed.to_document()["open"]) == ("p-001", False)
    assert [event.action for event in read(audit.folder)][-1] == "incident.close"
    for incident_id, match in ((first.id, "closed already"), ("incident-0009", "no incident of that id")):
        with pytest.raises(UsageError, match=match):
            close_incident(register, incident_id, Outcome.NO_HARM, reason=REASON, audit=audit, now=NOW)


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("", UsageError),
        ("fine", UsageError),
        ("          ", UsageError),
        ("it was the record of 999 000 0018", IdentifierInText),
        ("patient number H1234567 was asked for", IdentifierInText),
    ],
)
def test_an_incident_is_not_closed_without_a_reason_or_with_an_identifier_in_it(
    register: Path, audit: AuditLog, reason: str, error: type[Exception]
) -> None:
    raised = raise_incident(register, IncidentType.NEAR_MISS, "lake", audit=audit, now=NOW)
    with pytest.raises(error) as refused:
        close_incident(register, raised.id, Outcome.NO_HARM, reason=reason, audit=audit, now=NOW)
    assert "999" not in str(refused.value)
    assert list_incidents(register, only_open=True) == [raised]
    assert [event.action for event in read(audit.folder)] == ["incident.raise"]


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


# What becomes an incident by itself -----------------------------------------------------------------


def test_what_is_found_again_every_night_is_entered_once_until_it_is_closed(
    register: Path, audit: AuditLog
) -> None:
    def tonight(object: str = "hes_apc-201999-1f2e3d4c5b6a") -> bool:
        found = raise_once(register, IncidentType.OVERDUE_DESTRUCTION, object, audit=audit, now=NOW)
        return found is not None

    assert [tonight(), tonight(), tonight("hes_op-201999-1f2e3d4c5b6a")] == [True, False, True]
    close_incident(register, "incident-0001", Outcome.CONTAINED, reason=REASON, audit=audit, now=NOW)
    assert [tonight(), tonight()] == [True, False], "closed, and still so: that is a new one"


class Damaged(CannotOpen):
    """As the openers of age, gzip and zip raise it for content that was cut or changed."""

    code = "delivery.damaged"


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (ForbiddenColumn("a name column"), IncidentType.OVER_DELIVERY),
        (CannotOpen("no key of ours opens this file"), IncidentType.WRONG_KEY),
        (Damaged("the sealed content was changed or cut short"), IncidentType.DAMAGED_DELIVERY),
        (DeliveryConflict("other content under the same name"), None),
        (DeliveryRefused("the columns do not fit the contract"), None),
    ],
)
def test_a_cut_delivery_is_told_from_one_with_another_key_and_a_misfit_is_no_incident(
    refusal: DeliveryRefused, expected: IncidentType | None
) -> None:
    assert delivery_incident(refusal) == expected


def test_the_policy_has_words_for_every_type_and_every_outcome_and_no_others() -> None:
    policy = incident_policy()
    assert {kind.code for kind in policy.types} == {each.value for each in IncidentType}
    assert {outcome.code for outcome in policy.outcomes} == {each.value for each in Outcome}


def refuse(folder: Path, person: str, action: str, reason: str = "no_role", day: int = 20) -> None:
    log = AuditLog(folder, lambda: datetime(2026, 11, day, 9, tzinfo=UTC), person, "intelligence_analyst")
    log.record(action, "lake", purpose="", decision="refuse", reason_code=reason)


def test_refused_attempts_become_near_misses_one_for_each_person_action_and_day(
    register: Path, audit: AuditLog
) -> None:
    refuse(audit.folder, "p-7", "lake.query")
    refuse(audit.folder, "p-7", "lake.query", "purpose")
    refuse(audit.folder, "p-8", "lake.query")
    refuse(audit.folder, "p-7", "vault.open")
    refuse(audit.folder, "p-7", "lake.query", day=21)
    refuse(audit.folder, "p-7", "landing.write")  # a refused delivery has an incident of its own, or is none
    refuse(audit.folder, "p-7", "lake.query", "locked_out")  # so has this
    refuse(audit.folder, "p-7", "lake.question")  # nothing of that name is listed in the policy

    filed = file_refusals(register, read(audit.folder), audit=audit, now=NOW)

    assert [(each.object, each.codes, (each.counts or {})["attempts"]) for each in filed] == [
        ("audit line 1", ("lake.query", "no_role", "purpose"), 2),
        ("audit line 3", ("lake.query", "no_role"), 1),
        ("audit line 4", ("vault.open", "no_role"), 1),
        ("audit line 5", ("lake.query", "no_role"), 1),
    ]
    assert all(each.is_near_miss for each in filed)
    assert "p-7" not in "".join(report_text(each) for each in filed), "the report names lines, not persons"
    assert file_refusals(register, read(audit.folder), audit=audit, now=NOW) == []


def test_refusals_are_entered_once_even_if_the_run_that_enters_them_was_killed(
    register: Path, audit: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever entry it died after: the next run makes the missing ones, and takes up what came since."""
    for person in ("p-1", "p-2", "p-3"):
        refuse(audit.folder, person, "lake.query")
    refuse(audit.folder, "p-1", "lake.query")
    before = list(read(audit.folder))

    def killed(*arguments: object, **named: object) -> None:
        if len(list_incidents(register)) == 1:
            raise KeyboardInterrupt
        raise_incident(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("infra.incidents.raise_incident", killed)
    with pytest.raises(KeyboardInterrupt):
        file_refusals(register, before, audit=audit, now=NOW)
    monkeypatch.undo()
    refuse(audit.folder, "p-1", "lake.query")

    file_refusals(register, read(audit.folder), audit=audit, now=NOW)
    file_refusals(register, read(audit.folder), audit=audit, now=NOW)

    entered = [(each.counts or {})["attempts"] for each in list_incidents(register)]
    assert sum(entered) == 5, "each of the five refusals is in exactly one entry"
    assert len(entered) == 4
