"""The landing zone: each delivery under its own key, with a signed receipt, all of it or nothing.

``landing/<delivery>/`` holds

==================  ====================================================================================
``content.age``     the plaintext as received, byte for byte, sealed to this delivery's own key pair
``key.pipeline.age``  the private half, sealed to the pipeline; deleted when the landing window closes
``share.guardian.age``  the first share of the private half, sealed to the Caldicott Guardian and deputy (see
                    :mod:`infra.landing_share`)
``share.siro.age``  the second share, sealed to the SIRO and deputy
``receipt.json``    the signed receipt, see :mod:`infra.receipts`
==================  ====================================================================================

A delivery is built in ``landing/.staging-...`` and appears by one rename; only then does the file leave the
inbox. Killed anywhere, the next run finds either nothing, or the whole delivery and a file to be removed.
Inside the window the pipeline opens deliveries by itself; afterwards the two officers together, or nobody.
The caller holds the workspace's lock: two runs do not land at the same time.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from infra.commit_points import commit_point
from infra.containers import Control, Limits, Member, open_deliveries
from infra.containers.reading import open_source, read_full, reading_errors
from infra.files import make_folder, open_private, storage_errors, sync_folder, write_atomic
from infra.keyring import Keyring
from infra.landing_share import write_share
from infra.officers import SHARE_ROLES, Officers
from infra.receipts import (
    DELIVERY_ID,
    Digest,
    Receipt,
    Refusal,
    delivery_id,
    fingerprint,
    load_receipt,
    moment,
    safe_name,
    sign_document,
)
from infra.retention.tombstones import refuse_landing
from infra.sealing import (
    DecryptingReader,
    SecretText,
    decrypting_reader,
    encrypting_writer,
    new_identity,
    public_of,
    seal,
    unseal,
)
from infra.shares import split
from schemas.errors import (
    CannotOpen,
    DeliveryConflict,
    DeliveryRefused,
    ForbiddenColumn,
    IntegrityError,
    KeyUnavailable,
    UsageError,
)
from transforms.identifiers import refuse_identifiers
from transforms.records import HEAD_BYTES

if TYPE_CHECKING:
    from typing_extensions import Buffer

CONTENT = "content.age"
PIPELINE_KEY = "key.pipeline.age"
GUARDIAN_SHARE = "share.guardian.age"
SIRO_SHARE = "share.siro.age"
GUARDIAN, SIRO = SHARE_ROLES
RECEIPT = "receipt.json"
REFUSED = "refused"
STAGING = ".staging-"
_BLOCK = 1 << 20

SEALED_HEAD_BYTES = 512
"""The part of ``content.age`` that the receipt pins: the header (168 bytes for one recipient), the nonce and
the beginning of the first chunk. Sealing alone does not show who sealed, since the public half of a landing
key is no secret; but only who knows the file key inside that header can make chunks that open under it. So
with the header pinned by a signature, each chunk that opens is the one that was landed, and reading need not
hash gigabytes again."""


@dataclass(frozen=True)
class Decision:
    """What the caller made of the first bytes of a data file: what it is, under whose terms, for how long."""

    dataset: str
    period: str
    agreement: str
    retain_until: date
    sender: str | None = None
    snapshot_date: date | None = None


@dataclass(frozen=True)
class Landed:
    """A delivery in the landing zone; ``already`` if it had been there before and nothing happened."""

    receipt: Receipt
    already: bool


Decide = Callable[[str, bytes, Control | None], Decision]
"""Given a data file's name, its first :data:`~transforms.records.HEAD_BYTES` bytes (fewer: all of it) and its
control file, says what it is, or raises: :class:`~schemas.errors.ForbiddenColumn` for a name or address
column, another :class:`~schemas.errors.DeliveryRefused` for what fits no contract. It keeps nothing."""

Refused = Callable[[Digest, DeliveryRefused], None]
"""Told of a refusal: the SHA-256 and size of the file as received, and why it was not taken."""

Committing = Callable[[Receipt], AbstractContextManager[None]]
"""Given a delivery's receipt, the context in which the delivery appears in the landing zone."""


@dataclass
class _Staged:
    """A delivery that is built and waits for its rename; ``folder`` is None if it is there already."""

    folder: Path | None
    receipt: Receipt


class _DigestingSink(io.RawIOBase):
    """Hashes what is written through it, and keeps its beginning."""

    def __init__(self, sink: BinaryIO) -> None:
        super().__init__()
        self._sink = sink
        self._hash = hashlib.sha256()
        self._size = 0
        self.head = b""

    def writable(self) -> bool:
        return True

    def write(self, content: Buffer) -> int:
        view = memoryview(content).cast("B")
        taken = self._sink.write(view)
        self._hash.update(view[:taken])
        self._size += taken
        self.head += view[: max(0, min(taken, SEALED_HEAD_BYTES - len(self.head)))]
        return taken

    @property
    def digest(self) -> Digest:
        return Digest(sha256=self._hash.hexdigest(), bytes=self._size)


@dataclass(frozen=True)
class Landing:
    """The landing zone of a workspace.

    ``root``: its folder, made when first needed. ``clock``: gives the time, with its zone. ``reopened``: the keys of
    deliveries past their window that the two officers released for this run, in memory only.
    """

    root: Path
    keyring: Keyring
    officers: Officers
    clock: Callable[[], datetime]
    limits: Limits = field(default_factory=Limits)
    destroyed: frozenset[str] = frozenset()
    reopened: Mapping[str, SecretText] = field(default_factory=dict, repr=False)

    # What is held

    def held(self) -> list[Receipt]:
        """The receipts of all landed deliveries, verified, by delivery id. Raises ``IntegrityError``."""
        if not self.root.is_dir():
            return []
        with reading_errors():
            names = sorted(entry.name for entry in os.scandir(self.root) if DELIVERY_ID.fullmatch(entry.name))
        return [self.receipt(name) for name in names]

    def receipt(self, delivery: str) -> Receipt:
        """The receipt of one delivery. Raises :class:`UsageError` if there is no such delivery, and
        :class:`IntegrityError` if its receipt was changed or belongs to another one."""
        receipt = load_receipt(self._folder(delivery) / RECEIPT, self.keyring)
        if receipt.delivery_id != delivery:
            raise IntegrityError("a landed delivery has the receipt of another one")
        return receipt

    def _folder(self, delivery: str) -> Path:
        if not DELIVERY_ID.fullmatch(delivery) or not (self.root / delivery).is_dir():
            raise UsageError("there is no such delivery in the landing zone")
        return self.root / delivery

    def readable(self, delivery: str) -> bool:
        """Whether the landing window of ``delivery`` is open, or the officers have released its key."""
        return delivery in self.reopened or (self._folder(delivery) / PIPELINE_KEY).exists()

    # Landing

    def land(
        self,
        path: Path,
        decide: Decide,
        *,
        control: Control | None = None,
        replaces: str | None = None,
        reason: str | None = None,
        remove: Sequence[Path] = (),
        refused: Refused | None = None,
        committing: Committing = lambda _receipt: nullcontext(),
    ) -> list[Landed]:
        """Land the file at ``path``: one delivery for each data file in it.

        All data files are built before the first appears, so that a refusal of one keeps none of them.
        ``control``: what a control file beside it says. ``replaces``: the SHA-256 of the content that is
        re-delivered, with the ``reason``; without it, other content under a name that is held for the same
        dataset and period is refused. ``remove``: files to take out of the inbox at the end (the file and its
        control file), also when a forbidden column was found; after any other refusal they stay. ``refused``
        is told of a refusal after its receipt was written and before anything leaves the inbox: a run killed in
        between tells of it again, and never not at all. ``committing`` gives the context in which each new
        delivery appears: what it writes at its beginning is there before the delivery is.

        Raises :class:`~schemas.errors.DeliveryRefused` and its kinds, after a receipt of refusal was written;
        :class:`~schemas.errors.IdentifierInText` for the reason; ``StorageFull``, ``StorageFailed``.
        """
        if (replaces is None) != (reason is None):
            raise UsageError("a re-delivery needs both: what it replaces, and the reason")
        if reason is not None:
            refuse_identifiers(reason, "the reason")
        make_folder(self.root)
        received, identity = _digest_of_file(path)
        held = self.held()
        with ExitStack() as staging:
            try:
                if control is not None and control.bytes not in (None, received.bytes):
                    raise DeliveryRefused(
                        f"the control file states {control.bytes} bytes and {received.bytes} were received",
                        next_step="wait for the rest of the upload, or ask the sender for it again",
                    )
                staged = [
                    self._stage(member, decide, received, control, (replaces, reason), held, staging)
                    for member in open_deliveries(
                        path, self.keyring.inbox_identities, self.keyring.inbox_openpgp_keys, self.limits
                    )
                ]
                _refuse_changed(path, identity)
                _refuse_twins(staged)
            except DeliveryRefused as refusal:
                self._refuse(path, received, refusal)
                if refused is not None:
                    refused(received, refusal)
                if isinstance(refusal, ForbiddenColumn):
                    self._empty_inbox(remove)
                raise
            landed = [self._commit(delivery, committing) for delivery in staged]
        self._empty_inbox(remove)
        return landed

    def _stage(
        self,
        member: Member,
        decide: Decide,
        received: Digest,
        control: Control | None,
        re_delivery: tuple[str | None, str | None],
        held: Sequence[Receipt],
        staging: ExitStack,
    ) -> _Staged:
        if re_delivery[0] is not None and member.count > 1:
            raise DeliveryRefused(
                "a re-delivery replaces one content, and this file holds several data files",
                next_step="land the data files one by one",
            )
        stated = member.control or (control if member.count == 1 else None)
        head = read_full(member.stream, HEAD_BYTES)
        decision = decide(member.name, head, stated)
        folder = self.root / f"{STAGING}{secrets.token_hex(8)}"
        staging.callback(shutil.rmtree, folder, ignore_errors=True)
        make_folder(folder)
        secret, public = new_identity()
        content, sealed, sealed_head = _reseal(member, head, folder / CONTENT, public)
        replaces, reason = re_delivery
        receipt = Receipt(
            delivery_id=delivery_id(decision.dataset, decision.period, content.sha256),
            dataset=decision.dataset,
            period=decision.period,
            snapshot_date=decision.snapshot_date.isoformat() if decision.snapshot_date else None,
            sender=decision.sender,
            agreement=decision.agreement,
            name=safe_name(member.name),
            content=content,
            received=received,
            member=member.number,
            members=member.count,
            sealed=sealed,
            sealed_head=sealed_head,
            landing_recipient=public,
            landing_fingerprint=fingerprint(public),
            received_at=moment(self.clock()),
            retain_until=decision.retain_until.isoformat(),
            expected_records=stated.records if stated else None,
            replaces=replaces,
            reason=reason,
            tool_version=version("wardwatch"),
        )
        refuse_landing(self.destroyed, receipt.delivery_id)
        same = _same_content(held, receipt)
        if same is not None:
            return _Staged(None, same)
        _refuse_conflict(held, receipt)
        guardian_share, siro_share = split(str.encode(secret))
        recovery = self.keyring.landing_recovery_recipient
        write_atomic(folder / PIPELINE_KEY, seal(str.encode(secret), recovery))
        for name, share, half in ((GUARDIAN_SHARE, GUARDIAN, guardian_share), (SIRO_SHARE, SIRO, siro_share)):
            said = write_share(receipt.delivery_id, share, public, half)
            write_atomic(folder / name, seal(said, self.officers.recipients(share)))
        write_atomic(folder / RECEIPT, sign_document(receipt, self.keyring.manifest_signing_key))
        return _Staged(folder, receipt)

    def _commit(self, staged: _Staged, committing: Committing) -> Landed:
        if staged.folder is None:
            return Landed(staged.receipt, already=True)
        with committing(staged.receipt), storage_errors("the landing zone"):
            commit_point("landing.staged")
            os.rename(staged.folder, self.root / staged.receipt.delivery_id)
            sync_folder(self.root)
            commit_point("landing.committed")
        return Landed(staged.receipt, already=False)

    def _empty_inbox(self, paths: Sequence[Path]) -> None:
        with storage_errors("the inbox"):
            for path in paths:
                path.unlink(missing_ok=True)
            for folder in {path.parent for path in paths}:
                sync_folder(folder)
        commit_point("landing.inbox_emptied")

    def _refuse(self, path: Path, received: Digest, error: DeliveryRefused) -> None:
        refusal = Refusal(
            name=safe_name(path.name),
            received=received,
            refused_at=moment(self.clock()),
            code=error.code,
            message=error.message,
            tool_version=version("wardwatch"),
        )
        folder = make_folder(self.root / REFUSED)
        content = sign_document(refusal, self.keyring.manifest_signing_key)
        write_atomic(folder / f"{received.sha256}.json", content)

    # Reading

    @contextmanager
    def open_plaintext(self, delivery: str) -> Iterator[DecryptingReader]:
        """The content of a delivery as a stream of plaintext, while its landing window is open.

        Leaving the context normally verifies what was not read (unless the reader was told to ``abandon()``
        it); nothing may be built on the content before.
        Raises :class:`~schemas.errors.KeyUnavailable` after the window closed, ``IntegrityError`` if a part
        was changed, exchanged or lost, ``UsageError`` if there is no such delivery.
        """
        folder = self._folder(delivery)
        receipt = self.receipt(delivery)
        secret = self._landing_key(folder, receipt)
        with ExitStack() as opened:
            try:
                source = opened.enter_context(open_source(folder / CONTENT))
            except DeliveryRefused:
                raise _changed() from None
            with reading_errors():
                head = read_full(source, SEALED_HEAD_BYTES)
                source.seek(0)
            if hashlib.sha256(head).hexdigest() != receipt.sealed_head:
                raise _changed()
            try:
                with decrypting_reader(source, [secret]) as reader:
                    yield reader
            except CannotOpen:
                raise _changed() from None

    def _landing_key(self, folder: Path, receipt: Receipt) -> SecretText:
        released = self.reopened.get(receipt.delivery_id)
        if released is not None:
            if public_of(released) != receipt.landing_recipient:
                raise IntegrityError("the key that was released is not the one of this delivery")
            return released
        try:
            sealed = (folder / PIPELINE_KEY).read_bytes()
        except FileNotFoundError:
            raise KeyUnavailable(
                f"the landing window of {receipt.delivery_id} is closed",
                next_step="ask the Caldicott Guardian and the SIRO with `wardwatch reprocess request`, or the "
                "sender for a re-delivery",
            ) from None
        try:
            opened = unseal(sealed, self.keyring.landing_recovery_identities)
            secret = SecretText(opened.decode("ascii"))
            if public_of(secret) == receipt.landing_recipient:
                return secret
        except (CannotOpen, KeyUnavailable, UnicodeDecodeError):
            pass
        raise IntegrityError("the key of a landed delivery is not the one of its receipt")

    # Housekeeping

    def close_windows(self, today: date, readable_days: int) -> list[str]:
        """Delete the pipeline's half of the keys of deliveries received more than ``readable_days`` before
        ``today``. Returns their ids. From then on only the two officers together can open them."""
        last_open = today - timedelta(days=readable_days)
        due = [
            receipt.delivery_id
            for receipt in self.held()
            if receipt.received_on < last_open and self.readable(receipt.delivery_id)
        ]
        for delivery in due:
            with storage_errors("the landing zone"):
                commit_point("landing.window_closing")
                (self.root / delivery / PIPELINE_KEY).unlink(missing_ok=True)
                sync_folder(self.root / delivery)
                commit_point("landing.window_closed")
        return due

    def sweep(self) -> int:
        """Remove what killed runs left in staging. Returns how many deliveries had been begun."""
        if not self.root.is_dir():
            return 0
        left = sorted(self.root.glob(f"{STAGING}*"))
        with storage_errors("the landing zone"):
            for folder in left:
                shutil.rmtree(folder)
            if left:
                sync_folder(self.root)
        return len(left)


def _changed() -> IntegrityError:
    return IntegrityError(
        "the content of a landed delivery was changed, cut or lost", next_step="restore it from its backup"
    )


def _digest_of_file(path: Path) -> tuple[Digest, tuple[int, ...]]:
    """SHA-256 and size of the file as received, and what shows whether it changes while it is read."""
    with open_source(path) as source, reading_errors():
        identity = _identity(os.fstat(source.fileno()))
        digest = hashlib.sha256()
        size = 0
        buffer = memoryview(bytearray(_BLOCK))
        while taken := source.readinto(buffer):
            digest.update(buffer[:taken])
            size += taken
    return Digest(sha256=digest.hexdigest(), bytes=size), identity


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _refuse_changed(path: Path, identity: tuple[int, ...]) -> None:
    with reading_errors():
        now = _identity(path.stat(follow_symlinks=False))
    if now != identity:
        raise DeliveryRefused(
            "the file was changed while it was read", next_step="wait for the upload to end and land it again"
        )


def _reseal(member: Member, head: bytes, path: Path, recipient: str) -> tuple[Digest, Digest, str]:
    """Stream the content to ``path``, sealed.

    Returns the digests of the plaintext, of the sealed file and of the sealed file's beginning.
    """
    digest = hashlib.sha256()
    size = 0
    with storage_errors("the landing zone"):
        descriptor = open_private(path)
    with os.fdopen(descriptor, "wb", buffering=0) as raw:
        sink = _DigestingSink(raw)
        with encrypting_writer(sink, [recipient]) as writer:  # type: ignore[arg-type]
            piece = head
            while piece:
                digest.update(piece)
                size += len(piece)
                writer.write(piece)
                piece = member.stream.read(_BLOCK)
        with storage_errors("the landing zone"):
            os.fsync(raw.fileno())
    return (
        Digest(sha256=digest.hexdigest(), bytes=size),
        sink.digest,
        hashlib.sha256(sink.head).hexdigest(),
    )


def _same_content(held: Sequence[Receipt], new: Receipt) -> Receipt | None:
    """The delivery that has this content already. The same content cannot be two different periods."""
    for receipt in held:
        if receipt.content.sha256 == new.content.sha256:
            if receipt.delivery_id == new.delivery_id:
                return receipt
            raise DeliveryConflict(
                f"the same content is held as {receipt.delivery_id}, and would now be "
                f"{new.dataset} of period {new.period}",
                next_step="check the name, --dataset and --period",
            )
    return None


def _refuse_conflict(held: Sequence[Receipt], new: Receipt) -> None:
    others = [receipt for receipt in held if (receipt.dataset, receipt.period) == (new.dataset, new.period)]
    if new.replaces is not None:
        if new.replaces not in {receipt.content.sha256 for receipt in others}:
            raise DeliveryConflict(
                f"no delivery of {new.dataset} for the period {new.period} has the content to be replaced",
                next_step="`wardwatch status` shows the SHA-256 of what is held",
            )
        return
    namesakes = [receipt for receipt in others if receipt.name == new.name]
    if namesakes:
        latest = max(namesakes, key=lambda receipt: (receipt.received_at, receipt.delivery_id))
        raise DeliveryConflict(
            f"{latest.delivery_id} has the same name, dataset and period, and other content",
            next_step="if this is a re-delivery: "
            f"land it with --replaces {latest.content.sha256} and --reason",
        )


def _refuse_twins(staged: Sequence[_Staged]) -> None:
    """The lake has one table for a dataset and period: of two in one file, one would be lost."""
    what = [(delivery.receipt.dataset, delivery.receipt.period) for delivery in staged]
    if len(set(what)) != len(what):
        raise DeliveryConflict("two data files of one delivery are for the same dataset and period")
