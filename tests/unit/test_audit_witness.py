"""A witness countersigns only a log that continues what it has seen, and says from which line on it does not."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from infra.audit import AuditLog, verify
from infra.audit_checkpoint import CHECKPOINT_KEY, check_note, cosignatures
from infra.audit_finding import tampering
from infra.audit_witness import (
    WITNESS_KEY,
    Visit,
    accepted,
    against_state,
    carried_notes,
    visit,
    witnessed_name,
)
from infra.signing import SigningKey
from schemas.errors import IntegrityError, UsageError
from tests.support.audit_logs import (
    LOG_KEY,
    LOG_KEYS,
    LOG_PUBLIC,
    edited,
    filled,
    kinds,
    lines_of,
    rechained,
    rewrite,
    writer,
)

AUDITOR = SigningKey.load(b"\x07" * 32)
WITNESSES = {WITNESS_KEY: [bytes.fromhex(AUDITOR.public)]}
TODAY = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


def signed_log(folder: Path, events: int = 6) -> AuditLog:
    log = filled(folder, events)
    log.checkpoint_with(LOG_KEY)
    return log


def visited(log: Path, state: Path) -> Visit:
    return visit(log, state, AUDITOR, TODAY, [LOG_PUBLIC])


def test_a_first_visit_countersigns_the_newest_checkpoint_and_remembers_it(tmp_path: Path) -> None:
    signed_log(tmp_path / "audit")
    filled(tmp_path / "audit", 2)
    found = visited(tmp_path / "audit", tmp_path / "state")
    assert tampering(found.findings) == []
    assert (found.size, found.new, found.unsigned) == (6, 6, 2)
    assert found.note is not None
    original = (tmp_path / "audit" / "checkpoints" / "000000000006.txt").read_bytes()
    assert found.note.startswith(original), "the log's own text and signature stay as they are"
    assert check_note(found.note, LOG_KEYS)[0] == 6
    assert (tmp_path / "state" / "000000000006.txt").read_bytes() == found.note
    assert not (tmp_path / "audit" / "witnessed").exists(), "an auditor writes nothing into the log's folder"


def test_the_countersignature_is_a_c2sp_cosignature(tmp_path: Path) -> None:
    """https://c2sp.org/tlog-cosignature, version 1: key id with type 4, eight bytes of time, an Ed25519 signature."""
    signed_log(tmp_path / "audit")
    note = visited(tmp_path / "audit", tmp_path / "state").note
    assert note is not None
    text, _, signatures = note.decode().partition("\n\n")
    dash, name, blob = signatures.splitlines()[-1].split(" ")
    raw = base64.b64decode(blob)
    public = bytes.fromhex(AUDITOR.public)
    assert (dash, name, len(raw)) == ("\u2014", "wardwatch-auditor", 4 + 8 + 64)
    assert raw[:4] == hashlib.sha256(b"wardwatch-auditor\n\x04" + public).digest()[:4]
    seconds = int.from_bytes(raw[4:12], "big")
    assert seconds == int(TODAY.timestamp())
    message = f"cosignature/v1\ntime {seconds}\n{text}\n".encode()
    Ed25519PublicKey.from_public_bytes(public).verify(raw[12:], message)


def test_a_later_visit_countersigns_what_was_added(tmp_path: Path) -> None:
    log = signed_log(tmp_path / "audit")
    first = visited(tmp_path / "audit", tmp_path / "state")
    tomorrow = TODAY.replace(day=24)
    again = visit(tmp_path / "audit", tmp_path / "state", AUDITOR, tomorrow)
    assert (again.size, again.new) == (6, 0)
    assert again.note == first.note, "what was countersigned is not countersigned twice"
    log.record("vault.open", "x", purpose="case_review")
    log.checkpoint_with(LOG_KEY)
    found = visited(tmp_path / "audit", tmp_path / "state")
    assert (found.size, found.new, found.unsigned) == (7, 1, 0)
    assert len((tmp_path / "state" / "events.txt").read_text().split()) == 7


def test_without_a_checkpoint_nothing_is_countersigned(tmp_path: Path) -> None:
    filled(tmp_path / "audit")
    found = visited(tmp_path / "audit", tmp_path / "state")
    assert (found.note, found.unsigned) == (None, 6)
    assert not (tmp_path / "state").exists()


def cut_off(audit: Path) -> None:
    rewrite(audit, lines_of(audit)[:3])


def cut_off_with_its_checkpoints(audit: Path) -> None:
    cut_off(audit)
    shutil.rmtree(audit / "checkpoints")


def written_anew(audit: Path) -> None:
    """By somebody who has the log's signing key and knows the format."""
    lines = lines_of(audit)
    rewrite(audit, rechained([*lines[:3], edited(lines[3], person="p-2"), *lines[4:]]))
    shutil.rmtree(audit / "checkpoints")
    writer(audit).checkpoint_with(LOG_KEY)


def shortened_and_written_anew(audit: Path) -> None:
    lines = lines_of(audit)
    rewrite(audit, rechained([*lines[:1], *lines[2:]]))
    shutil.rmtree(audit / "checkpoints")
    writer(audit).checkpoint_with(LOG_KEY)


def longer_and_written_anew(audit: Path) -> None:
    written_anew(audit)
    filled(audit, 3).checkpoint_with(LOG_KEY)


def gone(audit: Path) -> None:
    shutil.rmtree(audit)
    audit.mkdir()


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (cut_off, {("truncated", 3)}),
        (cut_off_with_its_checkpoints, {("truncated", 3)}),
        (written_anew, {("split_view", 4)}),
        (shortened_and_written_anew, {("split_view", 2)}),
        (longer_and_written_anew, {("split_view", 4)}),
        (gone, {("truncated", 0)}),
    ],
)
def test_another_or_a_shorter_log_is_refused_with_the_line_from_which_it_differs(
    tmp_path: Path, harm: object, expected: set[tuple[str, int]]
) -> None:
    assert callable(harm)
    audit, state = tmp_path / "audit", tmp_path / "state"
    signed_log(audit)
    visited(audit, state)
    before = {path.name: path.read_bytes() for path in state.iterdir()}
    harm(audit)
    found = visited(audit, state)
    assert set(kinds(found.findings)) == expected
    assert found.note is None, "nothing is countersigned"
    assert {path.name: path.read_bytes() for path in state.iterdir()} == before, "nothing is remembered"
    assert set(kinds(against_state(audit, state))) == expected


def test_two_auditors_who_are_shown_different_logs_find_out_from_each_other_s_notes(tmp_path: Path) -> None:
    signed_log(tmp_path / "audit")
    shutil.copytree(tmp_path / "audit", tmp_path / "shown")
    written_anew(tmp_path / "shown")
    here = visited(tmp_path / "audit", tmp_path / "here")
    there = visited(tmp_path / "shown", tmp_path / "there")
    assert here.note is not None
    assert there.note is not None
    assert kinds(verify(tmp_path / "audit", LOG_KEYS, notes=[("there", there.note)])) == [("rewritten", 6)]
    assert kinds(verify(tmp_path / "audit", LOG_KEYS, notes=[("here", here.note)])) == []


def test_a_log_whose_own_chain_is_broken_is_not_countersigned(tmp_path: Path) -> None:
    signed_log(tmp_path / "audit")
    lines = lines_of(tmp_path / "audit")
    rewrite(tmp_path / "audit", [*lines[:2], edited(lines[2], person="p-2"), *lines[3:]])
    found = visited(tmp_path / "audit", tmp_path / "state")
    assert kinds(found.findings) == [("edited", 3)]
    assert found.note is None


def test_a_checkpoint_by_a_key_that_was_not_pinned_is_not_countersigned(tmp_path: Path) -> None:
    filled(tmp_path / "audit").checkpoint_with(SigningKey.load(b"\x09" * 32))
    found = visited(tmp_path / "audit", tmp_path / "state")
    assert kinds(found.findings) == [("checkpoint_signature", 0)]


def test_keys_are_pinned_and_only_added(tmp_path: Path) -> None:
    audit, state = tmp_path / "audit", tmp_path / "state"
    log = signed_log(audit)
    with pytest.raises(UsageError, match="first visit needs the public keys"):
        visit(audit, state, AUDITOR, TODAY)
    visited(audit, state)
    newer = SigningKey.load(b"\x09" * 32)
    log.record("keys.rotate", "audit_signing", purpose="")
    log.checkpoint_with(newer)
    assert kinds(visit(audit, state, AUDITOR, TODAY).findings) == [("checkpoint_signature", 0)]
    with pytest.raises(IntegrityError, match="leaves out one"):
        visit(audit, state, AUDITOR, TODAY, [bytes.fromhex(newer.public)])
    found = visit(audit, state, AUDITOR, TODAY, [LOG_PUBLIC, bytes.fromhex(newer.public)])
    assert (kinds(found.findings), found.size) == ([], 7)
    assert visit(audit, state, AUDITOR, TODAY).size == 7, "the newer key is pinned too"


def test_a_state_belongs_to_one_auditor_whose_name_is_not_the_log_s(tmp_path: Path) -> None:
    signed_log(tmp_path / "audit")
    visited(tmp_path / "audit", tmp_path / "state")
    with pytest.raises(UsageError, match="another auditor"):
        visit(tmp_path / "audit", tmp_path / "state", SigningKey.load(b"\x08" * 32), TODAY)
    with pytest.raises(UsageError, match="name of the log"):
        visit(tmp_path / "audit", tmp_path / "b", AUDITOR, TODAY, [LOG_PUBLIC], name=CHECKPOINT_KEY)


def test_a_state_that_was_changed_is_not_used(tmp_path: Path) -> None:
    audit, state = tmp_path / "audit", tmp_path / "state"
    signed_log(audit)
    visited(audit, state)
    good = {path.name: path.read_bytes() for path in state.iterdir()}
    changes: list[tuple[str, bytes | None]] = [
        ("witness.json", None),
        ("witness.json", b"{}"),
        ("events.txt", b""),
        ("events.txt", good["events.txt"][65:]),
        ("000000000006.txt", good["000000000006.txt"].replace(b"\n6\n", b"\n5\n")),
        ("000000000006.txt", (audit / "checkpoints" / "000000000006.txt").read_bytes()),
    ]
    for name, content in changes:
        for known, genuine in good.items():
            (state / known).write_bytes(genuine)
        (state / name).unlink()
        if content is not None:
            (state / name).write_bytes(content)
        with pytest.raises(IntegrityError, match="state folder is not what was written"):
            visited(audit, state)


def test_a_visit_that_was_killed_before_its_note_was_kept_is_made_again(tmp_path: Path) -> None:
    audit, state = tmp_path / "audit", tmp_path / "state"
    log = signed_log(audit)
    visited(audit, state)
    log.record("vault.open", "x", purpose="case_review")
    log.checkpoint_with(LOG_KEY)
    visited(audit, state)
    (state / "000000000007.txt").unlink()
    found = visited(audit, state)
    assert (found.size, found.new) == (7, 1)


# carried back ------------------------------------------------------------------------------------------


def test_a_note_carried_back_shows_until_where_a_witness_has_seen_the_log(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    log = signed_log(audit)
    note = visited(audit, tmp_path / "state").note
    assert note is not None
    assert accepted(note, LOG_KEYS, WITNESSES).size == 6
    log.keep_note("witnessed", witnessed_name(note), note)
    log.record("vault.open", "x", purpose="case_review")
    (finding,) = verify(audit, LOG_KEYS, witnesses=WITNESSES)
    assert (finding.kind, finding.severity) == ("witnessed", "note")
    assert finding.says == "wardwatch-auditor has seen the first 6 events, on 2026-11-23 09:30 UTC"
    log.checkpoint_with(LOG_KEY)
    later = visited(audit, tmp_path / "state").note
    assert later is not None
    for order in ([note, later], [later, note]):
        notes = [(str(number), one) for number, one in enumerate(order)]
        (finding,) = verify(audit, LOG_KEYS, witnesses=WITNESSES, notes=notes)
        assert "the first 7 events" in finding.says, "the newest counts"
    written_anew(audit)
    assert ("rewritten", 6) in kinds(verify(audit, LOG_KEYS, witnesses=WITNESSES))


def test_a_note_that_nobody_known_countersigned_is_not_taken_back(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    signed_log(audit)
    note = visited(audit, tmp_path / "state").note
    assert note is not None
    plain = (audit / "checkpoints" / "000000000006.txt").read_bytes()
    forged = note[:-10] + (b"A" if note[-10:-9] != b"A" else b"B") + note[-9:]
    for carried in (plain, forged):
        with pytest.raises(IntegrityError, match="no good countersignature"):
            accepted(carried, LOG_KEYS, WITNESSES)
    with pytest.raises(IntegrityError, match="no checkpoint of this log"):
        accepted(note.replace(b"\n6\n", b"\n7\n"), LOG_KEYS, WITNESSES)
    with pytest.raises(IntegrityError, match="no good countersignature"):
        accepted(note, LOG_KEYS, {WITNESS_KEY: [LOG_PUBLIC]})


def test_a_kept_note_whose_countersignature_was_changed_is_found(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    signed_log(audit)
    note = visited(audit, tmp_path / "state").note
    assert note is not None
    forged = note[:-10] + (b"A" if note[-10:-9] != b"A" else b"B") + note[-9:]
    assert cosignatures(forged, WITNESSES).bad == (WITNESS_KEY,)
    findings = verify(audit, LOG_KEYS, witnesses=WITNESSES, notes=[("note", forged)])
    assert kinds(findings) == [("witness_signature", 0)]
    for witnesses in ({}, {WITNESS_KEY: [LOG_PUBLIC]}):
        unknown = verify(audit, LOG_KEYS, witnesses=witnesses, notes=[("note", note)])
        assert [(f.kind, f.severity) for f in unknown] == [("unknown_witness", "note")]


def test_notes_are_read_from_a_file_a_folder_of_them_or_a_state_folder(tmp_path: Path) -> None:
    signed_log(tmp_path / "audit")
    note = visited(tmp_path / "audit", tmp_path / "state").note
    one = tmp_path / "state" / "000000000006.txt"
    assert carried_notes(one) == ([("000000000006.txt", note)], {})
    assert carried_notes(tmp_path / "state") == ([("000000000006.txt", note)], WITNESSES)
    (tmp_path / "notes").mkdir()
    with pytest.raises(UsageError, match="no countersigned checkpoint"):
        carried_notes(tmp_path / "notes")
    shutil.copy(one, tmp_path / "notes")
    assert carried_notes(tmp_path / "notes") == ([("000000000006.txt", note)], {})
    with pytest.raises(UsageError, match="cannot be read"):
        carried_notes(tmp_path / "nowhere")


def test_the_state_holds_no_private_key(tmp_path: Path) -> None:
    signed_log(tmp_path / "audit")
    visited(tmp_path / "audit", tmp_path / "state")
    about = json.loads((tmp_path / "state" / "witness.json").read_text())
    assert set(about) == {"v", "name", "public", "log_keys"}
    secret = bytes(AUDITOR.secret_bytes())
    for path in (tmp_path / "state").iterdir():
        content = path.read_bytes()
        assert secret not in content
        assert secret.hex().encode() not in content
        assert path.stat().st_mode & 0o077 == 0, "for the auditor alone"
