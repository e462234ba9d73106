"""The list of objections: whose records a workspace leaves out of every delivery, where its agreement says so.

Whether objections and opt-outs are honoured belongs to the flow, not to the program: the statutory flow does not
honour them, others do (register of approved data releases, "Opt outs honoured"). So the agreement in settings.yaml
says it (``honour_opt_outs``, off by default), and with it on nothing is ingested without a list.

The source of the data decides who is on the list and sends it, or the Information Access Team makes it: one id a
line under a heading (``NHS_NUMBER``, ``PERSON_ID``, or a column of the datasets such as ``TOKEN_PERSON_ID``), sealed
to the inbox key like a delivery. Loading it makes keyed tokens and forgets the ids::

    objections/<first 16 hex of its sha256>.parquet   kind, token
    objections/list.json                              signed: which file, its sha256, counts, when; the commit mark

The tokens' key is derived from the linkage token key (HKDF-SHA-256, RFC 5869, with a purpose of its own): it is in
every keyring that there is, and the tokens join neither with the lake nor with the linkage store. A new list replaces
the one before. What was ingested earlier follows with the next backfill.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from infra.audit import AuditLog
from infra.commit_points import commit_point
from infra.containers.limits import Limits
from infra.containers.opening import open_deliveries
from infra.containers.reading import open_source, read_full, reading_errors
from infra.containers.sniffing import ENCRYPTED, SNIFF_BYTES, sniff
from infra.files import make_folder, storage_errors, sync_folder, write_atomic
from infra.keyring import Keyring
from infra.sealing import SecretBytes
from infra.signing import canonical_json, parse_canonical, verify
from infra.workspace import Workspace
from schemas.contract import ContractField
from schemas.errors import DeliveryRefused, IntegrityError, WorkspaceError
from schemas.objection_policy import objection_policy
from transforms.objections import (
    IdKind,
    Objections,
    heading_kinds,
    id_columns,
    leaving,
    objection_tokens,
)
from transforms.typing_fields import value_free

FOLDER = "objections"
LIST = "list.json"
SIGNED_FOR = "objection-list"
KEY_PURPOSE = b"wardwatch objection list v1"
_NAME = re.compile(r"(?:.*[^A-Za-z])?(?:OBJECTIONS|OPT[_-]?OUTS)(?:[^A-Za-z].*)?", re.IGNORECASE)
_FIELDS = frozenset(("v", "loaded_at", "source", "file", "sha256", "lines", "without_id", "ids"))

LeaveOut = Callable[[pl.DataFrame], "pl.Series | None"]


def is_objection_list(name: str) -> bool:
    """Whether a file of the inbox is meant as a list of objections: its name says OBJECTIONS or OPT_OUTS."""
    return _NAME.fullmatch(name) is not None


def honours_objections(workspace: Workspace) -> bool:
    """Whether the agreement of ``workspace`` lets objections and opt-outs take effect."""
    return workspace.settings.agreement.honour_opt_outs


def objection_key(keyring: Keyring) -> SecretBytes:
    """The key of the list's tokens, 32 bytes, derived and used for nothing else."""
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=KEY_PURPOSE)
    return SecretBytes(derived.derive(bytes(keyring.linkage_token_key)))


@dataclass(frozen=True)
class ObjectionList:
    """The list in force. ``digest`` changes with it; ``lines``, ``without_id`` and ``ids`` are counts by kind."""

    digest: str
    loaded_at: str
    lines: int
    without_id: int
    ids: dict[str, int]
    objections: Objections = field(repr=False, compare=False)
    _key: SecretBytes = field(repr=False, compare=False)

    def leave_out(self, fields: Iterable[ContractField | None]) -> LeaveOut:
        """What tells which rows of a chunk with these delivered ``fields`` leave, see :func:`leaving`."""
        columns = id_columns(each for each in fields if each is not None)
        return lambda chunk: leaving(chunk, columns, self._key, self.objections)

    def counts(self) -> dict[str, int]:
        """For the audit log and a person: how much is on the list, and nothing of it."""
        return {"lines": self.lines, "without_id": self.without_id, **self.ids}


# Loading ----------------------------------------------------------------------------------------------


def load_list(folder: Path, path: Path, keyring: Keyring, *, audit: AuditLog, now: datetime) -> ObjectionList:
    """Make the sealed list at ``path`` the one in force, in place of any before it. ``path`` is left as it is.

    Raises :class:`DeliveryRefused` and its kinds for a file that is not sealed to us, was cut or changed, has
    another heading, or holds no id at all; nothing is kept of it. What is kept is durable before the audit line.
    """
    source, content = _sealed_content(path, keyring)
    frame, lines, without_id = _tokens(content, objection_key(keyring))
    del content
    parquet = io.BytesIO()
    frame.write_parquet(parquet, compression="zstd", statistics=False)
    data = parquet.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    name = f"{digest[:16]}.parquet"
    ids = {kind.value: frame.filter(pl.col("kind") == kind.value).height for kind in IdKind}
    document: dict[str, Any] = {
        "v": 1,
        "loaded_at": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "source": source,
        "file": name,
        "sha256": digest,
        "lines": lines,
        "without_id": without_id,
        "ids": ids,
    }
    signature = keyring.manifest_signing_key.sign(document, SIGNED_FOR)
    make_folder(folder)
    commit_point("objections.before")
    write_atomic(folder / name, data)
    commit_point("objections.tokens_written")
    write_atomic(folder / LIST, canonical_json({"list": document, "signature": signature}))
    commit_point("objections.list_written")
    _remove_others(folder, name)
    loaded = read_list(folder, keyring)
    assert loaded is not None, "what was just written is there"
    audit.record(
        "objections.load",
        FOLDER,
        purpose="",
        counts=loaded.counts(),
        digests={"list": loaded.digest, "received": source},
    )
    return loaded


def _sealed_content(path: Path, keyring: Keyring) -> tuple[str, bytes]:
    """SHA-256 of the file as received, and its decrypted content, read to its authenticated end."""
    policy = objection_policy()
    with open_source(path) as stream, reading_errors():
        first = read_full(stream, SNIFF_BYTES)
        received = hashlib.sha256(first)
        while piece := stream.read(1 << 20):
            received.update(piece)
    if sniff(first) not in ENCRYPTED:
        raise DeliveryRefused(
            "a list of objections comes sealed to the inbox key, and this file is not encrypted",
            next_step="delete it wherever it lies, and seal it with age to the key in keys/public.json",
        )
    parts: list[bytes] = []
    members = open_deliveries(path, keyring.inbox_identities, keyring.inbox_openpgp_keys, Limits())
    with closing(members):  # type: ignore[type-var]
        for member in members:
            if parts:
                raise DeliveryRefused("a list of objections is one file, and this holds several")
            size = 0
            while piece := member.stream.read(1 << 20):
                size += len(piece)
                if size > policy.largest_bytes:
                    raise DeliveryRefused(f"the list has more than {policy.largest_bytes:,} bytes")
                parts.append(piece)
    return received.hexdigest(), b"".join(parts)


@value_free("reading the list of objections")
def _tokens(content: bytes, key: bytes) -> tuple[pl.DataFrame, int, int]:
    """``kind`` and ``token``, each once and sorted; lines; lines without a usable id."""
    try:
        first, _, body = content.decode("utf-8-sig").partition("\n")
    except UnicodeDecodeError:
        raise DeliveryRefused("the list of objections is not UTF-8 text") from None
    kinds = heading_kinds(first)
    if kinds is None:
        raise DeliveryRefused(
            "the first line of the list does not say what the ids are",
            next_step="write NHS_NUMBER or PERSON_ID (or TOKEN_PERSON_ID, ENCRYPTED_HESID) above them",
        )
    lines = pl.Series("line", body.split("\n"), dtype=pl.String).str.strip_chars(' \t\r"')
    lines = lines.filter(lines != "")
    cells = lines.str.split(",")
    if (cells.list.len() > len(kinds)).any():
        raise DeliveryRefused("a line of the list has more ids than its heading has names")
    frames = []
    usable = pl.Series("usable", [False], dtype=pl.Boolean).new_from_index(0, len(lines))
    for position, kind in enumerate(kinds):
        ids = cells.list.get(position, null_on_oob=True).str.strip_chars('" \t')
        tokens = objection_tokens(ids, key, kind)
        usable = usable | tokens.is_not_null()
        distinct = tokens.drop_nulls().unique()
        frames.append(pl.DataFrame({"kind": [kind.value] * len(distinct), "token": distinct}, schema=_SCHEMA))
    frame = pl.concat(frames).unique().sort("kind", "token")
    if frame.is_empty():
        raise DeliveryRefused(
            "the list of objections holds no id",
            next_step="an agreement that honours objections has a list; an empty one would honour none",
        )
    return frame, len(lines), int((~usable).sum())


_SCHEMA = {"kind": pl.String(), "token": pl.String()}


def _remove_others(folder: Path, name: str) -> None:
    """Take away what an earlier list or a killed loading left."""
    with storage_errors("the list of objections"):
        for other in (*folder.glob("*.parquet"), *folder.glob("*.part")):
            if other.name != name:
                other.unlink(missing_ok=True)
        sync_folder(folder)
    commit_point("objections.swept")


# Reading ----------------------------------------------------------------------------------------------


def read_list(folder: Path, keyring: Keyring) -> ObjectionList | None:
    """The list in force, None if none was ever loaded.

    Raises :class:`IntegrityError` if it is not what was loaded.
    """
    path = folder / LIST
    if not path.exists():
        return None
    try:
        whole = parse_canonical(path.read_bytes())
        document, signature = whole["list"], whole["signature"]
        verify(document, signature, SIGNED_FOR, keyring.signers("manifest_signing"))
        if set(whole) != {"list", "signature"} or set(document) != _FIELDS:
            raise KeyError
        data = (folder / str(document["file"])).read_bytes()
        if hashlib.sha256(data).hexdigest() != document["sha256"]:
            raise KeyError
        frame = pl.read_parquet(io.BytesIO(data))
        by_kind = {kind: frame.filter(pl.col("kind") == kind.value).get_column("token") for kind in IdKind}
    except (OSError, KeyError, TypeError, pl.exceptions.PolarsError):
        raise IntegrityError(
            "the list of objections is not what was loaded", next_step="load it again, and raise an incident"
        ) from None
    return ObjectionList(
        digest=str(document["sha256"]),
        loaded_at=str(document["loaded_at"]),
        lines=int(document["lines"]),
        without_id=int(document["without_id"]),
        ids={str(kind): int(count) for kind, count in document["ids"].items()},
        objections=Objections.of(by_kind),
        _key=objection_key(keyring),
    )


def objections_in_force(workspace: Workspace, keyring: Keyring) -> ObjectionList | None:
    """The list that deliveries of ``workspace`` are held against; None where the agreement honours none.

    Raises :class:`WorkspaceError` if the agreement honours objections and there is no list: nothing is taken in as
    if nobody had objected.
    """
    if not honours_objections(workspace):
        return None
    found = read_list(workspace.root / FOLDER, keyring)
    if found is None:
        raise WorkspaceError(
            "the agreement honours objections, and there is no list of them",
            next_step="`wardwatch objections load FILE`",
        )
    return found
