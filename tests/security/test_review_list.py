"""What leaves a case review: the recipient's own numbers, sealed to the recipient, and no byte of them anywhere else.

The attacks on the content of a list (numbers 62 to 75, and 95) that need a real vault; those that are about choosing
and writing numbers alone are in ``tests/unit/test_review_hospital_list.py``. The delivery here has spoilt numbers in
the records of patients who died in the hospital concerned.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.incidents import IncidentType, list_incidents
from infra.officers import IDENTITY_FILE
from infra.register import HospitalKey
from infra.register_entries import certificate_fingerprint
from infra.review import receipt
from infra.review.case import ZONE
from infra.review.documents import IssueRecord, Request, Signed
from infra.review.documents import sign as sign_document
from infra.review.envelope import seal_to_hospital
from infra.review.hospital_list import Heading, archive, choose
from infra.sealing import SecretText, new_identity, unseal
from infra.workspace import Workspace
from schemas.errors import CannotOpen, IdentifierInText, KeyUnavailable, NotPermitted
from schemas.review_policy import review_policy
from tests.security.sweep import Canary, sweep
from tests.support import reviews, workspaces
from tests.support.reviews import HOSPITAL, HOSPITAL_FOLDER, OTHER, WISH, Desk, fresh_desk, refused
from tests.support.small_deliveries import Text

NHS_NUMBER = "9990000018"
# What stands in the field of the patients who died there, in the order of the file, as far as it goes.
SPOILT = (
    "  H0000017 ",
    "=CMD|' /C X'!A0",
    "00000000000000000012",
    "ABCDEFGHIJKLMNOPQRST",
    "0000000",
    "9999",
    "",
    NHS_NUMBER,
)
LISTED = {"H0000017", "=CMD|' /C X'!A0", "00000000000000000012", "ABCDEFGHIJKLMNOPQRST"}


@pytest.fixture(scope="module")
def spoilt_workspace(shared_folder: Path) -> Path:
    """A folder as :func:`tests.support.reviews.small_workspace` makes it, over the spoilt delivery."""
    return workspaces.built_once(shared_folder / "spoilt_reviews", build_spoilt)


def build_spoilt(folder: Path) -> None:
    workspace = workspaces.make_workspace(folder / "workspace")
    plain = workspaces.make_extracts(
        folder / "plain", workspaces.recipient(workspace), episodes=2_400, hospitals=4, years=1, plain=True
    )
    path = plain.one("HES_APC_202212")
    target = folder / path.name
    target.write_bytes(spoilt(path).bytes())
    workspaces.drop(workspace, [target])
    reviews.quick_night(workspace)
    reviews.enrol_hospital(workspace, HOSPITAL, folder / HOSPITAL_FOLDER / HOSPITAL, workspaces.EVENING)


def spoilt(path: Path) -> Text:
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    delimiter = "|" if "|" in header else ","
    names = tuple(header.split(delimiter))
    text = Text(names, tuple(tuple(line.split(delimiter)) for line in lines), delimiter)
    values = iter(SPOILT)
    died = [
        number
        for number, row in enumerate(text.rows, start=1)
        if len(row) == len(names) and row[text.at("DISMETH")] == "4" and row[text.at("PROCODET")] == HOSPITAL
    ]
    *first, site, _planted_repeat = died
    for number, value in zip(first, values, strict=False):
        text = text.changed(number, "LOPATID", value)
    # One patient was treated there, and the number was issued under the code of a site.
    return text.changed(site, "PROCODET", "").changed(site, "PROCODE5", f"{HOSPITAL}01")


@pytest.fixture
def spoilt_desk(spoilt_workspace: Path, tmp_path: Path) -> Desk:
    shutil.copytree(spoilt_workspace / "workspace", tmp_path / "workspace", symlinks=True)
    shutil.copytree(spoilt_workspace / HOSPITAL_FOLDER, tmp_path / HOSPITAL_FOLDER)
    return Desk(Workspace.open(tmp_path / "workspace"))


@pytest.fixture
def desk(shared_folder: Path, tmp_path: Path) -> Desk:
    return fresh_desk(shared_folder, tmp_path)


def test_the_list_has_the_hospitals_own_numbers_and_counts_what_it_leaves_out(spoilt_desk: Desk) -> None:
    """Attacks 62, 64 and 65, from the delivery to what the hospital reads."""
    request = spoilt_desk.ask()
    spoilt_desk.approve(request)
    record = spoilt_desk.issue(request)
    opened = spoilt_desk.open(record)
    odd = set(opened.numbers) & {value.strip() for value in SPOILT}
    assert odd == LISTED, "exactly as they were written, padding apart"
    left_out = record.document.left_out
    assert left_out["placeholder"] == 2
    assert left_out["no_number"] == 1
    assert left_out["issued_elsewhere"] == 1, "one number was issued under the code of a site"
    assert left_out["looks_like_nhs_number"] == 1
    assert record.document.listed + sum(left_out.values()) == request.document.cohort.records
    (result,) = [event for event in spoilt_desk.events("review.issue") if event.reason_code == "issued"]
    assert result.counts == {"listed": record.document.listed, **left_out}


def test_no_number_is_in_any_byte_but_those_of_the_sealed_file(
    spoilt_desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack 71: no plaintext on any disk, neither in the workspace nor in a folder of temporary files."""
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setenv("TMPDIR", str(spare))
    request = spoilt_desk.ask()
    spoilt_desk.approve(request)
    record = spoilt_desk.issue(request)
    # Zeros in a row stand in many files by chance.
    numbers = [number for number in spoilt_desk.open(record).numbers if len(set(number)) >= 5]
    canaries = [Canary("LOPATID", number) for number in numbers]
    assert len(canaries) >= 3
    report = sweep([spoilt_desk.workspace.root, spare], canaries)
    assert [str(hit) for hit in report.hits] == []


def test_the_list_opens_with_the_hospitals_key_and_no_other(desk: Desk) -> None:
    """Attack 72."""
    request = desk.asked
    desk.approve(request)
    record = desk.issue(request)
    assert desk.open(record).recipient == HOSPITAL
    others = [
        desk.hospital_identity(OTHER),
        *(reviews.identity(desk.workspace, role) for role in ("siro", "caldicott_guardian")),
        *desk.keyring.inbox_identities,
        *desk.keyring.landing_recovery_identities,
    ]
    for other in others:
        with pytest.raises(CannotOpen):
            receipt.open_list(desk.sealed(record), other)


def test_the_standard_tool_opens_it(desk: Desk, tmp_path: Path) -> None:
    """What ``age -d`` gives is an archive that every system opens."""
    request = desk.asked
    desk.approve(request)
    record = desk.issue(request)
    key = desk.hospital_keys / HOSPITAL / IDENTITY_FILE
    content = unseal(desk.sealed(record), key.read_text().strip())
    with zipfile.ZipFile(io.BytesIO(content)) as found:
        assert found.testzip() is None
        assert [Path(name).suffix for name in found.namelist()] == [".txt", ".csv", ""]


def test_a_hospital_without_an_enrolled_key_gets_nothing(desk: Desk) -> None:
    """Attack 72."""
    with refused(desk, "recipient_not_enrolled"):
        desk.ask(recipient="Z01", parameters={**WISH.parameters, "provider": "Z01"})


def test_a_hospital_whose_key_was_revoked_gets_nothing(desk: Desk) -> None:
    """Attack 72."""
    request = desk.asked
    desk.approve(request)
    later = desk.later(hours=1)
    reviews.enter(
        later.workspace,
        later.now,
        "hospital_revoked",
        ("iao",),
        organisation=HOSPITAL,
        **{"from": later.now.strftime("%Y-%m-%dT%H:%M:%SZ")},
    )
    with refused(later.later(hours=1), "recipient_revoked"):
        later.later(hours=1).issue(request)


def test_a_cohort_of_another_hospital_cannot_be_asked_for(desk: Desk) -> None:
    """Attack 62: the recipient is the hospital that treated the patients, by the request already."""
    with refused(desk, "another_provider"):
        desk.ask(parameters={**WISH.parameters, "provider": OTHER})


@pytest.mark.parametrize(
    "items", [("local_patient_identifier", "date_of_birth"), ("nhs_number",), ("DIAG_01",)]
)
def test_another_item_cannot_be_asked_for(desk: Desk, items: tuple[str, ...]) -> None:
    """Attack 67."""
    with refused(desk, "item_not_emittable"):
        desk.ask(items=items)
    request = desk.rewritten(desk.asked, items=items)
    with pytest.raises(NotPermitted) as caught:
        desk.sign(request, "siro")
    assert caught.value.reason_code == "item_not_emittable", "not even with the requester's signature on it"


def test_nobody_can_ask_about_a_person_or_by_free_text(desk: Desk) -> None:
    """There is no question that takes a person; the parameters are typed."""
    parameters = {**WISH.parameters, "provider": "Z03' or '1'='1"}
    with pytest.raises(Exception, match="not of type organisation"):
        desk.ask(parameters=parameters)
    with pytest.raises(Exception, match="takes: provider, from_date, to_date"):
        desk.ask(parameters={**WISH.parameters, "person_token": "0" * 32})
    with pytest.raises(Exception, match="there is no such cohort"):
        desk.ask(predicate="../core/episode")
    assert [event.decision for event in desk.events("review.request")[-3:]] == ["refuse"] * 3


def test_a_cohort_of_more_than_a_year_is_refused(desk: Desk) -> None:
    with refused(desk, "period_too_long"):
        desk.ask(parameters={**WISH.parameters, "to_date": "2023-04-01"})


def test_a_reason_with_an_identifier_in_it_is_refused_and_not_repeated(desk: Desk) -> None:
    secret = f"999 000 {NHS_NUMBER[6:]}"
    necessity = {**WISH.necessity, "why_necessary": f"{reviews.WHY} It began with patient {secret}."}
    with pytest.raises(IdentifierInText) as caught:
        desk.ask(necessity=necessity)
    assert secret not in str(caught.value)
    assert desk.events("review.request")[-1].reason_code == "access.identifier_in_text"


def test_a_reason_that_gives_none_is_refused(desk: Desk) -> None:
    with refused(desk, "reason_too_short"):
        desk.ask(necessity={**WISH.necessity, "alternatives_considered": "none" + " " * 60})


def test_a_cohort_of_nobody_is_refused(desk: Desk) -> None:
    """Attack 73."""
    with refused(desk, "empty_cohort"):
        desk.ask(parameters={**WISH.parameters, "from_date": "2022-04-01", "to_date": "2022-04-01"})


def days_with_one_death(desk: Desk) -> Iterator[dict[str, str]]:
    """Parameters of months; the caller takes the first with one patient."""
    for month in ("2022-05", "2022-06", "2022-07", "2022-08", "2022-09", "2022-10", "2022-11", "2022-12"):
        yield {**WISH.parameters, "from_date": f"{month}-01", "to_date": f"{month}-28"}


def test_a_list_of_one_has_to_be_acknowledged(desk: Desk) -> None:
    """Attack 73: by the requester, under both officers' signatures."""
    for parameters in days_with_one_death(desk):
        try:
            request = desk.ask(parameters=parameters, acknowledge_few=True)
        except NotPermitted as nobody:
            assert nobody.reason_code == "empty_cohort"  # noqa: PT017
            continue
        if request.document.cohort.patients == 1:
            break
    assert request.document.cohort.patients == 1, "the extract has a month with one death"
    with refused(desk, "few_patients"):
        desk.ask(parameters=parameters)
    desk.approve(request)
    assert desk.issue(request).document.listed == 1


def test_where_no_patient_has_a_number_there_is_no_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 73."""
    request = desk.asked
    desk.approve(request)
    monkeypatch.setattr(
        "infra.review.issue.choose", lambda cohort, opened, *rest: choose(cohort, opened.clear(), *rest)
    )
    with refused(desk, "empty_list"):
        desk.issue(request)


def test_two_lists_of_one_day_have_two_names(desk: Desk) -> None:
    """Attack 68."""
    first = desk.asked
    second = desk.ask()
    for request in (first, second):
        desk.approve(request)
        desk.issue(request)
    day = desk.now.strftime("%Y%m%d")
    assert desk.outbox == [
        f"{day} {HOSPITAL} Case review hospital numbers v{version} OFFICIAL SENSITIVE.age"
        for version in (1, 2)
    ]


def test_the_sealed_file_of_one_number_is_as_long_as_that_of_hundreds() -> None:
    """Attack 95, for both kinds of key."""
    bucket = review_policy().limit("size_bucket_bytes")
    heading = Heading("bcdfghjkmnpq", HOSPITAL, workspaces.EVENING.date(), 1)
    numbers = tuple(f"A{n:07d}" for n in range(400))
    for key in (age_key()[1], openpgp_key()[1]):
        sizes = {
            len(seal_to_hospital(archive(heading, numbers[:count], bucket), key)) for count in (1, 50, 400)
        }
        # An age file begins with a random stanza of up to some hundred bytes, whatever is in it.
        assert max(sizes) - min(sizes) < 512, f"{key.kind}: {sizes}"
        assert min(sizes) > bucket


def age_key() -> tuple[SecretText, HospitalKey]:
    secret, public = new_identity()
    return secret, HospitalKey(HOSPITAL, "age", public, "0" * 16, "0" * 64, "a declaration")


def openpgp_key() -> tuple[str, HospitalKey]:
    import pysequoia

    key = pysequoia.Tsk.generate("A hospital <records@hospital.example>")
    certificate = str(key.extract_certificate())
    fingerprint = certificate_fingerprint(certificate)
    return str(key), HospitalKey(HOSPITAL, "openpgp", certificate, fingerprint, "0" * 64, "a declaration")


def test_a_hospital_with_openpgp_opens_its_list_with_openpgp(tmp_path: Path) -> None:
    import pysequoia

    secret, key = openpgp_key()
    sealed = seal_to_hospital(b"what the hospital reads", key)
    assert b"what the hospital reads" not in sealed
    opened = pysequoia.decrypt(sealed, decryptor=pysequoia.Tsk.from_bytes(secret.encode()).decryptor())
    assert opened.bytes == b"what the hospital reads"


def test_nothing_is_sealed_to_what_is_no_certificate() -> None:
    """Attack 72."""
    key = HospitalKey(HOSPITAL, "openpgp", "-----BEGIN PGP PUBLIC KEY BLOCK-----", "0" * 40, "0" * 64, "x")
    with pytest.raises(KeyUnavailable):
        seal_to_hospital(b"x", key)


# The receipt ----------------------------------------------------------------------------------------------


def issued(desk: Desk) -> tuple[Signed[Request], Signed[IssueRecord]]:
    request = desk.asked
    desk.approve(request)
    return request, desk.issue(request)


def test_the_hospitals_receipt_closes_the_case(desk: Desk) -> None:
    request, record = issued(desk)
    content = desk.receipt(record).content
    audit = desk.audit()
    receipt.take_receipt(desk.case(request), content, rules=desk.rules, audit=audit, now=desk.now)
    assert desk.events("review.receipt")[-1].reason_code == "received"
    assert receipt.overdue(desk.workspace.zone(ZONE), desk.rules, desk.later(days=40).now) == []


def test_a_receipt_of_somebody_else_or_for_something_else_is_refused(desk: Desk) -> None:
    request, record = issued(desk)
    real = desk.receipt(record)
    by_other = sign_document(real.document, desk.hospital_signing_key(OTHER))
    other_count = sign_document(
        real.document.model_copy(update={"listed": real.document.listed + 1}), desk.hospital_signing_key()
    )
    for content, reason in ((by_other.content, "changed"), (other_count.content, "another_list")):
        with refused(desk, reason):
            receipt.take_receipt(
                desk.case(request), content, rules=desk.rules, audit=desk.audit(), now=desk.now
            )


def test_a_receipt_that_does_not_come_is_an_incident_once(desk: Desk) -> None:
    request, _ = issued(desk)
    place = (desk.workspace.zone(ZONE), desk.workspace.zone("incidents"))
    for day, new in ((9, 0), (10, 1), (11, 0)):
        late = desk.later(days=day)
        found = receipt.raise_overdue(*place, late.rules, audit=late.audit(), now=late.now)
        assert len(found) == new, f"after {day} days"
    (incident,) = list_incidents(place[1])
    assert (incident.type, incident.case) == (IncidentType.OVERDUE_RECEIPT, request.document.case)


@pytest.mark.parametrize("place", ["workspace/outbox/numbers.txt", "repository/deep/numbers.txt"])
def test_numbers_are_not_written_into_a_workspace_or_a_repository(
    desk: Desk, tmp_path: Path, place: str
) -> None:
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    (tmp_path / "repository" / "deep").mkdir()
    with pytest.raises(NotPermitted) as caught:
        receipt.refuse_place(tmp_path / place)
    assert caught.value.reason_code == "unsafe_place"


def test_the_child_that_seals_shows_the_content_to_nobody() -> None:
    """It gets the content through a pipe: not by argument, not by environment."""
    _, key = openpgp_key()
    seen: list[tuple[list[str], dict[str, str]]] = []
    run = subprocess.run

    def watching(command: list[str], **rest: object) -> object:
        environment = rest["env"]
        assert isinstance(environment, dict)
        seen.append((command, environment))
        return run(command, **rest)  # type: ignore[call-overload]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", watching)
        seal_to_hospital(b"H0000017", key)
    ((command, environment),) = seen
    assert environment == {}
    assert command[:2] == [sys.executable, "-I"]
    assert os.path.basename(command[2]) == "envelope_child.py"
    assert len(command) == 3
