"""The object store sink: the audit log as objects in a bucket that nobody can change or remove for years.

One object for each event, ``<prefix>/lines/<number>.ndjson``, which holds the exact bytes of its line. It is put
only if there is none of that name (``If-None-Match``) and is locked in compliance mode, so that not even the owner
of the account can remove it before its time; a bucket without Object Lock is refused. Objects are put in the order of
the log, one after the other, so they are always an unbroken beginning of it.

Two things remain possible to somebody with the credentials, and show: a delete marker that hides an object (the
locked version below it stays) and a second version on top of it. Both are looked for among the versions.

Every request is bounded in time and tried twice at most. Endpoint, region and credentials come from the standard AWS
environment; the network is never asked for credentials.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from infra.audit_file import Head, unavailable
from infra.audit_finding import Finding
from infra.audit_line import line_hash, parse_line
from infra.files import storage_errors
from schemas.errors import UsageError

CONNECT_SECONDS = 3
READ_SECONDS = 5
ATTEMPTS = 2
# Longer than any retention class of the deliveries that the log is about.
RETAIN_DAYS = 8 * 365
_READERS = 4
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*)?")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_CONFLICTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


@dataclass(frozen=True)
class _Held:
    """One object: its versions' ids from the oldest to the newest, and whether a delete marker hides it."""

    versions: tuple[str, ...]
    hidden: bool

    @property
    def was_touched(self) -> bool:
        return self.hidden or len(self.versions) != 1


class ObjectSink:
    """A second sink that is a bucket with Object Lock. ``client`` is boto3's, for S3."""

    def __init__(self, client: Any, bucket: str, prefix: str = "", *, retain_days: int = RETAIN_DAYS) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._retain = timedelta(days=retain_days)
        self._lock_seen = False
        self._known: tuple[int, str] | None = (
            None  # number and hash of the last event that is known to be there
        )

    @classmethod
    def at(cls, address: str) -> ObjectSink:
        """The sink at ``s3://bucket/prefix?retain_days=N``. Asks nobody yet. Raises :class:`UsageError`."""
        parts = urlsplit(address)
        prefix = parts.path.strip("/")
        query = parse_qs(parts.query, keep_blank_values=True)
        days = query.pop("retain_days", [str(RETAIN_DAYS)])
        if (
            parts.scheme != "s3"
            or not _BUCKET.fullmatch(parts.netloc)
            or not _PREFIX.fullmatch(prefix)
            or query
            or not re.fullmatch(r"[1-9][0-9]{0,4}", days[-1])
        ):
            raise UsageError(
                "second_audit_sink is no folder and no s3://bucket/prefix?retain_days=N",
                next_step="correct settings.yaml",
            )
        return cls(_client(), parts.netloc, prefix, retain_days=int(days[-1]))

    # writing ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def follow(self, log: Path, head: Head, begun: bool, progress: Callable[[], None]) -> int:
        if self._known == (head.seq, head.h):
            return 0
        self._require_lock()
        known = self._known[0] if self._known else max(head.seq - 1, 0)
        if known > head.seq:
            raise unavailable("the audit log is shorter than its second sink")
        held = self._held("lines/", after=_line_name(known - 1) if known > 0 else "")
        if (
            known > 0 and _line_name(known) not in held
        ):  # it is further behind than that, so look at all of it
            known, held = 0, self._held("lines/")
        if any(one.was_touched for one in held.values()):
            raise unavailable("an event in the second sink of the audit log was hidden or written over")
        there = max((_number(name) for name in held), default=0)
        if begun and there == 0:
            raise unavailable("the second sink of the audit log is empty although it was begun")
        if there > head.seq:
            raise unavailable("the audit log is shorter than its second sink")
        lacked = 0
        last_known = b""
        for seq, raw in _events(log, from_seq=max(there, 1)):
            if seq == there:
                last_known = raw
            elif seq > there:
                self._put(_line(seq), raw)
                lacked += len(raw)
                progress()
        if there and self._get(_line(there)) != last_known:
            raise unavailable("the two sinks of the audit log hold different lines")
        self._known = (head.seq, head.h)
        return lacked

    def append(self, line: bytes, entry: Mapping[str, Any]) -> None:
        self._require_lock()
        self._put(_line(entry["seq"]), line)
        self._known = (entry["seq"], entry["h"])

    def keep(self, kind: str, name: str, content: bytes) -> None:
        self._require_lock()
        self._put(f"{kind}/{name}", content)

    def forget(self) -> None:
        self._known = None

    def _put(self, name: str, content: bytes) -> None:
        """Put a new object, locked. One of that name with the same bytes is what an earlier try left behind."""
        from botocore.exceptions import ClientError

        try:
            with _answers():
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._prefix + name,
                    Body=content,
                    IfNoneMatch="*",
                    ObjectLockMode="COMPLIANCE",
                    # Of the machine, not of the log's own clock: the server decides on it.
                    ObjectLockRetainUntilDate=datetime.now(UTC) + self._retain,
                )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in _CONFLICTS:
                raise _refused(error) from None
            if self._get(name) != content:
                raise unavailable("the two sinks of the audit log hold different lines") from None

    def _require_lock(self) -> None:
        """Raise unless the bucket locks objects: without, a line there proves nothing."""
        if self._lock_seen:
            return
        with _translated():
            found = self._client.get_object_lock_configuration(Bucket=self._bucket)
        if found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
            raise unavailable("the bucket of the second audit sink does not lock objects")
        self._lock_seen = True

    # reading ---------------------------------------------------------------------------------------------

    def notes(self, kind: str) -> Iterator[tuple[str, bytes]]:
        for name, one in sorted(self._held(f"{kind}/").items()):
            if one.versions:
                yield name, self._get(f"{kind}/{name}", one.versions[0])

    def differences(self, log: Path) -> list[Finding]:
        """Every event of ``log`` against its object; of several versions of an object the first one counts."""
        from concurrent.futures import ThreadPoolExecutor

        held = self._held("lines/")
        findings = [
            Finding("hidden", f"the second sink's event {_number(name)} was hidden or written over")
            for name, one in sorted(held.items())
            if one.was_touched
        ]

        def compared(event: tuple[int, int, bytes]) -> Finding | None:
            number, seq, raw = event
            one = held.get(_line_name(seq))
            if one is None or not one.versions:
                return Finding("sinks_differ", f"the second sink lacks event {seq}", number)
            content, locked = self._read(_line(seq), one.versions[0])
            if content != raw:
                return Finding("sinks_differ", f"the second sink has another event {seq}", number)
            if not locked:
                return Finding("unlocked", f"the second sink's event {seq} can be removed", number)
            return None

        events = list(_numbered_events(log))
        with ThreadPoolExecutor(_READERS) as readers:
            found = [finding for finding in readers.map(compared, events) if finding is not None]
        # The first of each kind: what follows a difference differs too.
        findings += {finding.says.split(" event ")[0]: finding for finding in reversed(found)}.values()
        ours = {_line_name(seq) for _, seq, _ in events}
        more = sorted(_number(name) for name in held if name not in ours)
        if more:
            says = f"the second sink has {len(more)} event(s) that the log lacks, the first is {more[0]}"
            findings.append(Finding("sinks_differ", says, events[-1][0] if events else 0))
        return findings

    def _get(self, name: str, version: str | None = None) -> bytes:
        return self._read(name, version)[0]

    def _read(self, name: str, version: str | None) -> tuple[bytes, bool]:
        """Content of an object, and whether it is locked in compliance mode."""
        which = {"VersionId": version} if version is not None else {}
        with _translated():
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name, **which)
            return answer["Body"].read(), answer.get("ObjectLockMode") == "COMPLIANCE"

    def _held(self, below: str, after: str = "") -> dict[str, _Held]:
        """Name -> object, of all whose names come after ``after``."""
        start = self._prefix + below
        marker = {"KeyMarker": start + after} if after else {}
        versions: dict[str, list[str]] = {}
        hidden = set()
        while True:
            with _translated():
                page = self._client.list_object_versions(Bucket=self._bucket, Prefix=start, **marker)
            for version in page.get("Versions", []):  # newest first
                versions.setdefault(version["Key"][len(start) :], []).append(version["VersionId"])
            for deleted in page.get("DeleteMarkers", []):
                hidden.add(deleted["Key"][len(start) :])
            if not page.get("IsTruncated"):
                break
            marker = {"KeyMarker": page["NextKeyMarker"]}
            if page.get("NextVersionIdMarker"):
                marker["VersionIdMarker"] = page["NextVersionIdMarker"]
        return {
            name: _Held(tuple(reversed(versions.get(name, []))), name in hidden)
            for name in {*versions, *hidden}
            if name > after
        }


def _line_name(seq: int) -> str:
    return f"{seq:012d}.ndjson"


def _line(seq: int) -> str:
    return f"lines/{_line_name(seq)}"


def _number(name: str) -> int:
    digits = name.partition(".")[0]
    if not re.fullmatch(r"[0-9]{12}", digits):
        raise unavailable("the second sink of the audit log holds an object that is none of its lines")
    return int(digits)


def _numbered_events(log: Path) -> Iterator[tuple[int, int, bytes]]:
    """(line, number, bytes with the line's end) of every event in the log. Torn bytes are the log's alone."""
    with storage_errors("the audit log's reader"), log.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            entry = parse_line(raw[:-1]) if raw.endswith(b"\n") else None
            if entry is not None:
                yield number, entry["seq"], raw


def _events(log: Path, from_seq: int) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of the events from ``from_seq`` on: read back from the end, for mostly it is the last few."""
    raw = b""
    with log.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        reach = min(size, 1 << 16)
        while True:
            stream.seek(size - reach)
            raw = stream.read(reach)
            lines = raw.splitlines(keepends=True)[0 if reach == size else 1 :]
            entries = [(parse_line(line.rstrip(b"\n")), line) for line in lines]
            events = [
                (entry["seq"], line) for entry, line in entries if entry and line_hash(entry) == entry["h"]
            ]
            if reach == size or (events and events[0][0] <= from_seq):
                break
            reach = min(size, reach * 8)
    return iter([event for event in events if event[0] >= from_seq])


# boto3 -----------------------------------------------------------------------------------------------------


def _client() -> Any:
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    import boto3
    from botocore.config import Config

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and urlsplit(endpoint).scheme != "https" and urlsplit(endpoint).hostname not in _LOOPBACK:
        raise UsageError(
            "the endpoint of the second audit sink is not https", next_step="correct AWS_ENDPOINT_URL"
        )
    return boto3.session.Session().client(
        "s3",
        region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "eu-west-2",
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            max_pool_connections=_READERS,
            s3={"addressing_style": "path" if endpoint else "auto"},
        ),
    )


@contextmanager
def _answers() -> Iterator[None]:
    """Errors of the connection become :class:`AuditUnavailable`; answers that say no come through."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        yield
    except ClientError:
        raise
    except (BotoCoreError, HTTPClientError, OSError) as error:
        raise unavailable(
            f"the second sink of the audit log does not answer ({type(error).__name__})"
        ) from None


@contextmanager
def _translated() -> Iterator[None]:
    from botocore.exceptions import ClientError

    try:
        with _answers():
            yield
    except ClientError as error:
        raise _refused(error) from None


def _refused(error: Any) -> Exception:
    """The server's code for it, which is one of a fixed list; never its text."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    shown = code if re.fullmatch(r"[A-Za-z0-9]{1,60}", code) else "unknown"
    return unavailable(f"the second sink of the audit log refused ({shown})")
