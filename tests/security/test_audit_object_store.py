"""The audit log's sink in a bucket that nobody can change or remove, on a real S3 server with Object Lock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra import audit_object_store
from infra.audit import AuditLog, read, second_sink, verify
from infra.audit_finding import tampering
from infra.audit_object_store import ObjectSink
from schemas.errors import AuditUnavailable, UsageError
from tests.support.audit_logs import (
    LOG_KEY,
    LOG_KEYS,
    edited,
    filled,
    kinds,
    lines_of,
    rechained,
    rewrite,
    writer,
)
from tests.support.object_store import ObjectStore, aws, object_store, silent_server

pytestmark = pytest.mark.flow


BUCKET = "audit"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("store")) as running:
        running.bucket(BUCKET)
        yield running


@pytest.fixture
def place(store: ObjectStore, request: pytest.FixtureRequest) -> str:
    """A place of this test's own in the bucket that locks objects."""
    return f"{BUCKET}/" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]


def sink(place: str) -> ObjectSink:
    """As a new process would open it: nothing known of what is there."""
    return ObjectSink.at(f"s3://{place}?retain_days=2")


def logged(folder: Path, place: str, events: int = 4) -> AuditLog:
    return filled(folder, events, second_sink=sink(place))


def below(place: str) -> str:
    return place.removeprefix(f"{BUCKET}/")


def key(place: str, seq: int) -> str:
    return f"{below(place)}/lines/{seq:012d}.ndjson"


def content(store: ObjectStore, place: str) -> list[bytes]:
    found = store.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{below(place)}/lines/").get("Contents", [])
    return [store.client.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read() for one in found]


def test_every_line_is_an_object_that_is_locked_before_the_line_counts(
    store: ObjectStore, place: str, tmp_path: Path
) -> None:
    logged(tmp_path, place)
    assert content(store, place) == lines_of(tmp_path)
    for seq in range(1, 5):
        found = store.client.get_object(Bucket=BUCKET, Key=key(place, seq))
        assert found["ObjectLockMode"] == "COMPLIANCE"
        held = found["ObjectLockRetainUntilDate"] - found["LastModified"]
        assert 1.9 < held.total_seconds() / 86400 < 2.1
    assert verify(tmp_path, None, second_sink=sink(place)) == []


def test_not_even_the_owner_of_the_bucket_can_remove_a_line(
    store: ObjectStore, place: str, tmp_path: Path
) -> None:
    from botocore.exceptions import ClientError

    logged(tmp_path, place)
    version = store.client.head_object(Bucket=BUCKET, Key=key(place, 2))["VersionId"]
    with pytest.raises(ClientError, match="AccessDenied"):
        store.client.delete_object(Bucket=BUCKET, Key=key(place, 2), VersionId=version)
    assert verify(tmp_path, None, second_sink=sink(place)) == []


def test_two_writers_take_turns_and_neither_writes_over_a_line(
    store: ObjectStore, place: str, tmp_path: Path
) -> None:
    one, other = logged(tmp_path, place), logged(tmp_path, place)
    for log in (one, other, other, one):
        log.record("vault.open", "x", purpose="case_review")
    assert [event.seq for event in read(tmp_path)] == list(range(1, 13))
    assert content(store, place) == lines_of(tmp_path)
    assert tampering(verify(tmp_path, None, second_sink=sink(place))) == []


@pytest.mark.parametrize("already", [0, 3])
def test_a_bucket_that_was_added_later_or_fell_behind_is_brought_up(
    store: ObjectStore, place: str, tmp_path: Path, already: int
) -> None:
    if already:
        logged(tmp_path, place, already)
    filled(tmp_path, 5)  # without the bucket, as a kill between the two sinks leaves it
    logged(tmp_path, place, 1)
    events = list(read(tmp_path))
    assert events[-2].reason_code == "second_sink_was_behind"
    assert content(store, place) == lines_of(tmp_path)
    assert tampering(verify(tmp_path, None, second_sink=sink(place))) == []


def test_a_put_that_came_through_although_its_answer_was_lost_is_no_conflict(
    store: ObjectStore, place: str, tmp_path: Path
) -> None:
    logged(tmp_path, place, 2)
    filled(tmp_path, 1)
    store.client.put_object(Bucket=BUCKET, Key=key(place, 3), Body=lines_of(tmp_path)[2])
    assert logged(tmp_path, place, 1).record("vault.open", "x", purpose="case_review").seq == 5


def test_a_bucket_that_does_not_lock_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    plain = store.bucket("without-lock", locks=False)
    with pytest.raises(AuditUnavailable, match="ObjectLockConfigurationNotFoundError"):
        logged(tmp_path, plain)
    with pytest.raises(AuditUnavailable, match="refused"):
        logged(tmp_path / "b", "there-is-no-such-bucket")


def test_a_log_shorter_than_its_bucket_stops_the_action(
    store: ObjectStore, place: str, tmp_path: Path
) -> None:
    logged(tmp_path, place)
    rewrite(tmp_path, lines_of(tmp_path)[:-2])
    with pytest.raises(AuditUnavailable, match="shorter than its second sink"):
        logged(tmp_path, place, 1)
    findings = verify(tmp_path, None, second_sink=sink(place))
    assert kinds(findings) == [("sinks_differ", 2)]
    assert "2 event(s) that the log lacks, the first is 3" in findings[0].says


def test_a_log_that_was_written_anew_contradicts_the_bucket(
    store: ObjectStore, place: str, tmp_path: Path
) -> None:
    logged(tmp_path, place)
    lines = lines_of(tmp_path)
    rewrite(tmp_path, rechained([lines[0], edited(lines[1], person="p-2"), *lines[2:]]))
    with pytest.raises(AuditUnavailable, match="different lines"):
        logged(tmp_path, place, 1)
    assert kinds(verify(tmp_path, None)) == [], "its own chain holds"
    assert kinds(verify(tmp_path, None, second_sink=sink(place))) == [("sinks_differ", 2)]


def test_a_line_that_was_hidden_or_written_over_is_found_and_stops_the_action(
    store: ObjectStore, place: str, tmp_path: Path
) -> None:
    harm: dict[str, Callable[[str], object]] = {
        "hidden": lambda name: store.client.delete_object(Bucket=BUCKET, Key=name),
        "written over": lambda name: store.client.put_object(Bucket=BUCKET, Key=name, Body=b"{}\n"),
    }
    for number, (name, do) in enumerate(harm.items()):
        there, folder = f"{place}/{number}", tmp_path / str(number)
        logged(folder, there, 3)
        do(key(there, 3))
        findings = verify(folder, None, second_sink=sink(there))
        assert kinds(findings) == [("hidden", 0)], name
        assert "event 3 was hidden or written over" in findings[0].says
        with pytest.raises(AuditUnavailable, match="hidden or written over"):
            logged(folder, there, 1)


def test_an_unlocked_or_a_missing_object_is_found(store: ObjectStore, place: str, tmp_path: Path) -> None:
    filled(tmp_path, 3)
    store.client.put_object(Bucket=BUCKET, Key=key(place, 1), Body=lines_of(tmp_path)[0])
    found = verify(tmp_path, None, second_sink=sink(place))
    assert kinds(found) == [("unlocked", 1), ("sinks_differ", 2)]
    assert found[1].says == "the second sink lacks event 2"


def test_torn_bytes_are_the_log_s_alone(store: ObjectStore, place: str, tmp_path: Path) -> None:
    logged(tmp_path, place, 2)
    rewrite(tmp_path, [*lines_of(tmp_path), b'{"action":"vau'])
    logged(tmp_path, place, 1)
    assert [len(content(store, place)), len(lines_of(tmp_path))] == [5, 5 + 1]
    assert tampering(verify(tmp_path, None, second_sink=sink(place))) == []


def test_checkpoints_are_kept_in_the_bucket_and_hold_the_log_to_them(
    store: ObjectStore, place: str, tmp_path: Path
) -> None:
    note = logged(tmp_path, place).checkpoint_with(LOG_KEY)
    kept = store.client.get_object(Bucket=BUCKET, Key=f"{below(place)}/checkpoints/000000000004.txt")
    assert kept["Body"].read() == note.encode()
    assert kept["ObjectLockMode"] == "COMPLIANCE"
    assert verify(tmp_path, LOG_KEYS, second_sink=sink(place)) == []
    (tmp_path / "checkpoints" / "000000000004.txt").unlink()
    rewrite(tmp_path, lines_of(tmp_path)[:3])
    assert ("truncated", 3) in kinds(verify(tmp_path, LOG_KEYS, second_sink=sink(place)))


def test_a_bucket_that_does_not_answer_stops_the_action_after_a_bounded_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_object_store, "READ_SECONDS", 0.2)
    monkeypatch.setattr(audit_object_store, "CONNECT_SECONDS", 0.2)
    with silent_server() as endpoint, aws(endpoint):
        with pytest.raises(AuditUnavailable, match=r"does not answer \(ReadTimeoutError\)") as stopped:
            logged(tmp_path, "audit")
        assert stopped.value.exit_code == 74
    with aws(endpoint), pytest.raises(AuditUnavailable, match=r"does not answer \(EndpointConnectionError\)"):
        logged(tmp_path, "audit")
    assert list(read(tmp_path)) == [], "nothing counts"


def test_a_bucket_is_asked_with_the_standard_environment_and_never_for_credentials_over_the_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with silent_server() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)  # would be waited for
        with pytest.raises(AuditUnavailable, match="NoCredentialsError"):
            logged(tmp_path, "audit")


@pytest.mark.parametrize(
    "address",
    [
        "s3://",
        "s3://Bucket",
        "s3:/bucket/prefix",
        "s3://bucket/../up",
        "s3://bucket/a b",
        "s3://bucket/a?retain_days=0",
        "s3://bucket/a?retain_days=many",
        "s3://bucket/a?keep=1",
        "s3://key:secret@bucket/a",
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="second_audit_sink"):
        second_sink(address)


def test_an_endpoint_that_is_not_encrypted_is_refused_unless_it_is_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://store.example")
    with pytest.raises(UsageError, match="not https"):
        second_sink("s3://audit/a")


def test_a_setting_without_a_bucket_is_a_folder_or_nothing(tmp_path: Path) -> None:
    assert second_sink("") is None
    log = writer(tmp_path / "audit", second_sink=second_sink(str(tmp_path / "other")))
    log.record("run.start", "night", purpose="nightly")
    assert lines_of(tmp_path / "other") == lines_of(tmp_path / "audit")
