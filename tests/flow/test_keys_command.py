"""`wardwatch keys` as its users meet it: in the demonstration at once, otherwise by files that signers pass on."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from infra import commit_points
from infra.audit import read as read_audit
from infra.keyring import Keyring
from infra.officers import SIGNING_FILE, load_signing_key
from infra.register import Register
from infra.workspace import Workspace
from schemas.errors import IntegrityError, NotPermitted, UsageError
from tests.support.command_line import Ran, wardwatch
from tests.support.workspaces import EVENING, Clock

FOUNDERS = {"iao": "staff-1", "caldicott_guardian": "staff-2", "siro": "staff-3"}


def keys(workspace: Workspace, *arguments: str | Path, clock: Clock | None = None) -> Ran:
    return wardwatch(workspace.root, "keys", *arguments, clock=clock or Clock())


def done(workspace: Workspace, *arguments: str | Path, clock: Clock | None = None) -> Ran:
    ran = keys(workspace, *arguments, clock=clock)
    assert ran.exit_code == 0, ran.err
    return ran


def listed(workspace: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done(workspace, "list", "--json").out)
    return found


def own(folder: Path) -> tuple[Path, str, str]:
    """New keys of a person, made with `keys new`: the signing key's file and the two public halves."""
    ran = wardwatch(None, "keys", "new", folder)
    assert ran.exit_code == 0, ran.err
    public = [line.split(": ", 1)[1] for line in ran.out.splitlines()[1:]]
    return folder / SIGNING_FILE, public[0], public[1]


@pytest.fixture
def real_workspace(empty_workspace: Workspace, tmp_path: Path) -> Workspace:
    """A workspace whose register real officers founded; their keys lie in folders of their own."""
    founders: list[str] = []
    files = []
    for role, person in FOUNDERS.items():
        file, signing, recipient = own(tmp_path / person)
        files.append(file)
        founders += ["--founder", f"{role},{person},{signing},{recipient},2026-11-02"]
    entry = tmp_path / "founding.json"
    assert wardwatch(None, "keys", "found", *founders, "--out", entry).exit_code == 0
    for file in files:
        assert wardwatch(None, "keys", "sign", entry, "--key", file).exit_code == 0
    done(empty_workspace, "add", entry)
    shutil.rmtree(empty_workspace.zone("officers"))
    empty_workspace.zone("officers").mkdir(mode=0o700)
    return empty_workspace


def test_the_list_shows_keys_persons_and_hospitals_and_no_secret(empty_workspace: Workspace) -> None:
    recipient = own(empty_workspace.root.parent / "hospital")
    enrol = ("enrol", "--hospital", "RXX", "--recipient", recipient[2], "--signing-public", recipient[1])
    done(empty_workspace, *enrol, "--declaration", "CG-2026/17")
    ran = done(empty_workspace, "list")
    assert ran.lines_with("demo-siro"), "persons"
    assert ran.lines_with("CG-2026/17"), "hospitals"
    assert ran.lines_with("inbox "), "keys of the pipeline"
    found = listed(empty_workspace)
    siro = next(person for person in found["persons"] if person["person"] == "demo-siro")
    assert (siro["roles"], siro["trained_on"], siro["left"]) == (["siro"], "2026-11-20", False)
    assert [key["use"] for key in siro["keys"]] == ["signing", "recipient"]
    assert found["hospitals"][0]["organisation"] == "RXX"
    assert found["register"]["demo"] is True
    for path in sorted(empty_workspace.zone("officers").rglob("*-key")):
        secret = path.read_text().split()[-1]
        assert secret not in ran.said


def test_a_person_is_enrolled_trained_granted_moved_and_leaves(empty_workspace: Workspace) -> None:
    steps = (
        ("enrol", "--person", "demo-second-analyst"),
        ("grant", "demo-second-analyst", "intelligence_analyst"),
        ("train", "demo-second-analyst", "--on", "2026-11-19"),
        ("end", "demo-second-analyst", "intelligence_analyst"),
        ("leave", "demo-second-analyst"),
    )
    states = []
    for step in steps:
        done(empty_workspace, *step)
        newest = listed(empty_workspace)["persons"][-1]
        assert newest["person"] == "demo-second-analyst"
        states.append((newest["roles"], newest["roles_that_do_not_count"], newest["left"]))
    analyst = ["intelligence_analyst"]
    assert states == [
        ([], [], False),
        ([], analyst, False),
        (analyst, [], False),
        ([], [], False),
        ([], [], True),
    ]


def test_a_signature_that_lacks_is_asked_for_and_the_refusal_is_in_the_log(
    real_workspace: Workspace, tmp_path: Path
) -> None:
    file, signing, recipient = own(tmp_path / "staff-9")
    entry = tmp_path / "entry.json"
    public = ("--signing-public", signing, "--recipient", recipient)
    done(real_workspace, "enrol", "--person", "staff-9", *public, "--key", file, "--out", entry)
    before = Register.load(real_workspace.zone("keys")).digest
    ran = keys(real_workspace, "add", entry)
    assert ran.exit_code == NotPermitted.exit_code
    assert "iao" in ran.error
    last = list(read_audit(real_workspace.zone("audit")))[-1]
    assert (last.decision, last.reason_code, last.object) == ("refuse", "no_authority", "staff-9")
    assert Register.load(real_workspace.zone("keys")).digest == before

    shown = wardwatch(None, "keys", "sign", entry, "--key", tmp_path / "staff-1" / SIGNING_FILE)
    assert shown.lines_with("person: staff-9"), "a signer sees what is signed"
    ran = done(real_workspace, "add", entry)
    assert ran.lines_with("person enrolled: entry 2")
    begun, entered = list(read_audit(real_workspace.zone("audit")))[-2:]
    assert (begun.reason_code, entered.reason_code) == ("begun", "entered")
    assert begun.digests["register"] == Register.load(real_workspace.zone("keys")).digest


def test_two_persons_sign_a_hospital_on_their_own_machines(real_workspace: Workspace, tmp_path: Path) -> None:
    _, signing, recipient = own(tmp_path / "hospital")
    entry = tmp_path / "hospital.json"
    options = ("--recipient", recipient, "--signing-public", signing, "--declaration", "CG-2026/17")
    done(real_workspace, "enrol", "--hospital", "RXX", *options, "--out", entry)
    for signer, exit_code in (("staff-1", NotPermitted.exit_code), ("staff-2", 0)):
        key = tmp_path / signer / SIGNING_FILE
        assert wardwatch(None, "keys", "sign", entry, "--key", key).exit_code == 0
        assert keys(real_workspace, "add", entry).exit_code == exit_code
    assert [row["organisation"] for row in listed(real_workspace)["hospitals"]] == ["RXX"]
    done(real_workspace, "revoke", "--hospital", "RXX", "--key", tmp_path / "staff-3" / SIGNING_FILE)
    assert listed(real_workspace)["hospitals"] == []


def test_an_entry_edited_on_its_way_is_refused(real_workspace: Workspace, tmp_path: Path) -> None:
    entry = tmp_path / "entry.json"
    key = tmp_path / "staff-1" / SIGNING_FILE
    done(real_workspace, "train", "staff-3", "--on", "2026-11-10", "--key", key, "--out", entry)
    content = entry.read_bytes()
    for changed in (
        content.replace(b"2026-11-10", b"2026-11-19"),
        content.replace(b"staff-3", b"staff-2"),
        content + b" ",
        b"{}",
        b"\xff\xfe",
        b"",
    ):
        entry.write_bytes(changed)
        assert keys(real_workspace, "add", entry).exit_code == IntegrityError.exit_code
        last = list(read_audit(real_workspace.zone("audit")))[-1]
        assert (last.decision, last.reason_code[:9]) == ("refuse", "integrity")
    entry.write_bytes(content)
    done(real_workspace, "add", entry)


def test_real_officers_take_the_demonstrations_place_only_before_anything_is_delivered(
    empty_workspace: Workspace, real_workspace: Workspace, tmp_path: Path
) -> None:
    register = Register.load(real_workspace.zone("keys"))
    assert not register.demo
    assert {person.person for person in register.persons(EVENING)} == set(FOUNDERS.values())
    again = keys(real_workspace, "add", tmp_path / "founding.json")
    assert again.exit_code == UsageError.exit_code, "and they are never replaced"
    (real_workspace.zone("vault") / "hes_apc-202199-000000000000").mkdir()
    assert keys(real_workspace, "add", tmp_path / "founding.json").exit_code == UsageError.exit_code
    assert Register.load(real_workspace.zone("keys")).digest == register.digest


def test_a_rotated_key_of_the_pipeline_is_in_the_log_before_it_is_in_use(
    empty_workspace: Workspace,
) -> None:
    before = Keyring.open(empty_workspace.zone("keys")).inbox_recipient
    done(empty_workspace, "rotate", "inbox")
    assert Keyring.open(empty_workspace.zone("keys")).inbox_recipient != before
    begun, rotated = list(read_audit(empty_workspace.zone("audit"), action="keys.rotate"))
    assert (begun.reason_code, rotated.reason_code) == ("begun", "rotated")


class Killed(BaseException):
    pass


@pytest.mark.parametrize("point", ["register.before_entry", "register.after_entry"])
def test_a_person_s_rotation_that_was_killed_is_completed_by_the_next(
    empty_workspace: Workspace, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def kill(name: str) -> None:
        if name == point:
            raise Killed

    path = empty_workspace.zone("officers") / "siro" / SIGNING_FILE
    before = load_signing_key(path).key_id
    monkeypatch.setattr(commit_points, "reached", kill)
    with pytest.raises(Killed):
        keys(empty_workspace, "rotate", "--person", "demo-siro")
    monkeypatch.undo()
    done(empty_workspace, "rotate", "--person", "demo-siro")
    now_in_use = load_signing_key(path)
    register = Register.load(empty_workspace.zone("keys"))
    assert now_in_use.key_id != before
    assert register.signer(now_in_use.key_id, EVENING).person == "demo-siro"
    assert not list(path.parent.glob("*.new"))
    done(empty_workspace, "train", "demo-iao", "--on", "2026-11-20")


def test_what_a_revoked_key_had_entered_is_shown_as_void(empty_workspace: Workspace) -> None:
    key = next(person for person in listed(empty_workspace)["persons"] if person["person"] == "demo-iao")[
        "keys"
    ][0]["key"]
    later = Clock(EVENING + timedelta(days=3))
    done(empty_workspace, "grant", "demo-auditor", "kim_champion", clock=later)
    ran = done(empty_workspace, "revoke", key, "--from", "2026-11-22", clock=later)
    assert ran.lines_with("void in hindsight: entries 26")
    assert listed(empty_workspace)["register"]["void"] == [26]


@pytest.mark.parametrize(
    "arguments",
    [
        ("enrol",),
        ("enrol", "--person", "a-b", "--hospital", "RXX"),
        ("enrol", "--person", "../../tmp/x"),
        ("enrol", "--hospital", "RXX", "--recipient", "age1x", "--certificate", "/dev/null"),
        ("enrol", "--hospital", "RXX", "--recipient", "no key"),
        ("revoke",),
        ("revoke", "0000000000000000"),
        ("rotate",),
        ("rotate", "lake_metadata"),
        ("rotate", "--person", "nobody-here"),
        ("succeed", "auditors", "demo-siro"),
        ("train", "demo-siro", "--on", "yesterday"),
        ("add", "/nonexistent/file"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line_and_changes_nothing(
    empty_workspace: Workspace, arguments: tuple[str, ...]
) -> None:
    before = Register.load(empty_workspace.zone("keys")).digest
    ran = keys(empty_workspace, *arguments)
    assert ran.exit_code == UsageError.exit_code
    assert ran.error.startswith("wardwatch: ")
    assert Register.load(empty_workspace.zone("keys")).digest == before
