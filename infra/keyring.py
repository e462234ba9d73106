"""The keyring: every key that the pipeline itself holds, in one sealed file.

``keys/pipeline.keyring.age`` (owner only) holds them as canonical JSON, sealed to a key file
(``keys/unlock.key``, or wherever ``WARDWATCH_UNLOCK_KEY_FILE`` points) or under a passphrase
(``WARDWATCH_KEYRING_PASSPHRASE``). ``keys/public.json`` repeats the public halves, so that a sender, a
verifier or an auditor needs no secret; ``keys/inbox-openpgp.asc`` is the certificate for OpenPGP senders.

======================  =========  ==========================================================================
name                    kind       what it does
======================  =========  ==========================================================================
``inbox``               age        senders seal to it; earlier ones still open files that are on their way
``inbox_openpgp``       openpgp    the same for senders who have OpenPGP and no age
``landing_recovery``    age        the private half of each delivery's landing key is sealed to it
``manifest_signing``    ed25519    signs receipts, vault manifests and run manifests
``audit_signing``       ed25519    signs the audit log's checkpoints
``lake_metadata``       symmetric  encrypts the DuckLake catalog
``linkage_token``       symmetric  HMAC key of the person and record tokens
``linkage_file``        symmetric  encrypts the linkage store
======================  =========  ==========================================================================

No key here opens the vault; a test tries each one. The symmetric keys do not rotate: the lake's catalog would
have to be rewritten, and every token and linkage file computed again, in one step with the tables that hold
them.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pyrage

from infra.files import make_folder, write_atomic
from infra.sealing import SecretBytes, SecretText, new_identity, public_of, seal, unseal
from infra.signing import SigningKey, canonical_json, key_id_of, parse_canonical
from schemas.errors import CannotOpen, IntegrityError, KeyUnavailable, UsageError

KEYRING_FILE = "pipeline.keyring.age"
PUBLIC_FILE = "public.json"
CERTIFICATE_FILE = "inbox-openpgp.asc"
UNLOCK_FILE = "unlock.key"
UNLOCK_VARIABLE = "WARDWATCH_UNLOCK_KEY_FILE"
PASSPHRASE_VARIABLE = "WARDWATCH_KEYRING_PASSPHRASE"  # noqa: S105  (a variable's name)
SHORTEST_PASSPHRASE = 12
OPENPGP_USER_ID = "Wardwatch inbox"
UNLOCKS = "the key file that unlocks the keyring"

KINDS = {
    "inbox": "age",
    "inbox_openpgp": "openpgp",
    "landing_recovery": "age",
    "manifest_signing": "ed25519",
    "audit_signing": "ed25519",
    "lake_metadata": "symmetric",
    "linkage_token": "symmetric",
    "linkage_file": "symmetric",
}
ROTATABLE = frozenset(name for name, kind in KINDS.items() if kind != "symmetric")


# Files that hold a secret ----------------------------------------------------------------------------------


def read_secret_file(path: Path, what: str) -> SecretBytes:
    """The content of a file that only its owner may read.

    Raises :class:`KeyUnavailable` if it is missing, a link, no ordinary file, somebody else's, or open to the
    group or to others: a key that others could read is no longer a key, so nothing starts with it.
    """
    try:
        # Non-blocking, because opening a pipe somebody put there would otherwise wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise KeyUnavailable(
            f"{what} is missing ({path.name})",
            next_step="restore it from its backup, or run `wardwatch init`",
        ) from None
    except OSError:
        raise KeyUnavailable(f"{what} ({path.name}) is a link or cannot be opened") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyUnavailable(f"{what} ({path.name}) is not an ordinary file")
        if status.st_uid != os.geteuid():
            raise KeyUnavailable(f"{what} ({path.name}) belongs to another user")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise KeyUnavailable(
                f"{what} ({path.name}) is open to the group or to others",
                next_step=f"find out who could read it, then `chmod 600 {path.name}` or make a new key",
            )
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return SecretBytes(stream.read())
    except OSError:
        raise KeyUnavailable(f"{what} ({path.name}) cannot be read") from None
    finally:
        os.close(descriptor)


def read_key_file(path: Path, what: str) -> SecretText:
    """The one key in a key file as ``age-keygen`` writes it; lines starting with # are remarks.

    Raises :class:`KeyUnavailable`, see :func:`read_secret_file`.
    """
    lines = read_secret_file(path, what).decode("ascii", "replace").splitlines()
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if len(keys) != 1:
        raise KeyUnavailable(f"{what} ({path.name}) does not hold exactly one key")
    return SecretText(keys[0])


# Ways to unlock --------------------------------------------------------------------------------------------


class _Unlock(Protocol):
    """Seals and opens the keyring file."""

    def seal(self, content: bytes) -> bytes: ...

    def unseal(self, sealed: bytes) -> bytes: ...


@dataclass(frozen=True)
class _ByKeyFile:
    identity: SecretText = field(repr=False)

    def seal(self, content: bytes) -> bytes:
        return seal(content, public_of(self.identity))

    def unseal(self, sealed: bytes) -> bytes:
        return unseal(sealed, self.identity)


@dataclass(frozen=True)
class _ByPassphrase:
    passphrase: SecretText = field(repr=False)

    def seal(self, content: bytes) -> bytes:
        return bytes(pyrage.passphrase.encrypt(bytes(content), self.passphrase))

    def unseal(self, sealed: bytes) -> bytes:
        try:
            return SecretBytes(pyrage.passphrase.decrypt(bytes(sealed), self.passphrase))
        except (pyrage.DecryptError, OSError):
            raise CannotOpen("another passphrase, or a changed file") from None


def _unlock_path(folder: Path, environment: Mapping[str, str]) -> Path:
    elsewhere = environment.get(UNLOCK_VARIABLE)
    return Path(elsewhere) if elsewhere else folder / UNLOCK_FILE


def _how_to_unlock(folder: Path, environment: Mapping[str, str]) -> _Unlock:
    passphrase = environment.get(PASSPHRASE_VARIABLE)
    if passphrase:
        return _ByPassphrase(SecretText(passphrase))
    return _ByKeyFile(read_key_file(_unlock_path(folder, environment), UNLOCKS))


# The keys --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KeyVersion:
    """One generation of a named key. ``public`` is empty for a symmetric key."""

    kind: str
    created: str
    public: str
    secret: SecretText = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """16 hex characters that name the key and say nothing about it; for OpenPGP its own 40."""
        if self.kind == "ed25519":
            return key_id_of(self.public)
        if self.kind == "openpgp":
            return _certificate_fingerprint(self.public)
        # A digest of a symmetric key gives nothing away: it is 256 random bits, which nobody can search.
        named = self.public or f"wardwatch symmetric key {str.__str__(self.secret)}"
        return hashlib.sha256(named.encode()).hexdigest()[:16]


def _certificate_fingerprint(certificate: str) -> str:
    import pysequoia

    return str(pysequoia.Cert.from_bytes(certificate.encode("ascii")).fingerprint)


def _new_version(kind: str, now: datetime) -> KeyVersion:
    created = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if kind == "age":
        secret, public = new_identity()
        return KeyVersion(kind, created, public, secret)
    if kind == "openpgp":
        import pysequoia

        made = pysequoia.Tsk.generate(OPENPGP_USER_ID)
        # The secret is kept as the library's binary form; its text form drops the private half.
        secret = SecretText(base64.b64encode(bytes(made)).decode("ascii"))
        return KeyVersion(kind, created, str(made.extract_certificate()), secret)
    if kind == "ed25519":
        key = SigningKey.create()
        return KeyVersion(kind, created, key.public, SecretText(key.secret_bytes().hex()))
    return KeyVersion(kind, created, "", SecretText(os.urandom(32).hex()))


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Two rotations at once would lose a key: the second waits."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@dataclass(frozen=True, repr=False)
class Keyring:
    """The opened keyring. Versions of a key stand oldest first; the last one is in use."""

    folder: Path
    _keys: Mapping[str, tuple[KeyVersion, ...]]
    _unlock: _Unlock

    def __repr__(self) -> str:
        return f"Keyring({len(self._keys)} keys)"

    @classmethod
    def create(
        cls,
        folder: Path,
        passphrase: str | None = None,
        *,
        now: datetime | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Keyring:
        """Make all keys in ``folder`` (the workspace's ``keys/``), and the unlock key file if there is no
        ``passphrase``. ``now`` is the time written beside them, the clock's by default.

        Raises :class:`UsageError` if a keyring is there already (nothing is ever overwritten) or the
        passphrase is too short.
        """
        if (folder / KEYRING_FILE).exists():
            raise UsageError("this workspace has a keyring already", next_step="use `wardwatch keys rotate`")
        make_folder(folder)
        unlock: _Unlock
        if passphrase is None:
            path = _unlock_path(folder, environment)
            if not path.exists():
                make_folder(path.parent)
                secret, _ = new_identity()
                write_atomic(path, str.encode(secret) + b"\n")
            unlock = _ByKeyFile(read_key_file(path, UNLOCKS))
        elif len(passphrase) < SHORTEST_PASSPHRASE:
            raise UsageError(f"the passphrase has fewer than {SHORTEST_PASSPHRASE} characters")
        else:
            unlock = _ByPassphrase(SecretText(passphrase))
        moment = now or datetime.now(UTC)
        keyring = cls(folder, {name: (_new_version(kind, moment),) for name, kind in KINDS.items()}, unlock)
        keyring._write()
        return keyring

    @classmethod
    def open(cls, folder: Path, *, environment: Mapping[str, str] = os.environ) -> Keyring:
        """Unlock the keyring in ``folder``.

        Raises :class:`KeyUnavailable` if the keyring or its key file is missing, a link, open to others, or
        does not open, and :class:`IntegrityError` if ``public.json`` offers a key that the keyring does not
        hold (somebody would receive what is meant for us).
        """
        sealed = read_secret_file(folder / KEYRING_FILE, "the keyring")
        unlock = _how_to_unlock(folder, environment)
        try:
            document = parse_canonical(unlock.unseal(sealed))
        except CannotOpen:
            raise KeyUnavailable(
                "the keyring does not open with this key file or passphrase",
                next_step=f"check {UNLOCK_VARIABLE} and {PASSPHRASE_VARIABLE}",
            ) from None
        keyring = cls(folder, _from_document(document), unlock)
        keyring._reconcile_public()
        return keyring

    # What the parts of the pipeline take from it

    def _current(self, name: str) -> KeyVersion:
        return self._keys[name][-1]

    def _identities(self, name: str) -> tuple[SecretText, ...]:
        return tuple(version.secret for version in reversed(self._keys[name]))

    @property
    def inbox_recipient(self) -> str:
        return self._current("inbox").public

    @property
    def inbox_identities(self) -> tuple[SecretText, ...]:
        """Newest first; earlier ones open what was sealed before a rotation."""
        return self._identities("inbox")

    @property
    def inbox_certificate(self) -> str:
        """The armored OpenPGP certificate that senders without age seal to."""
        return self._current("inbox_openpgp").public

    @property
    def inbox_openpgp_keys(self) -> tuple[SecretBytes, ...]:
        """Unprotected OpenPGP secret keys in binary form, newest first."""
        return tuple(SecretBytes(base64.b64decode(key)) for key in self._identities("inbox_openpgp"))

    @property
    def landing_recovery_recipient(self) -> str:
        return self._current("landing_recovery").public

    @property
    def landing_recovery_identities(self) -> tuple[SecretText, ...]:
        return self._identities("landing_recovery")

    def _signing_key(self, name: str) -> SigningKey:
        return SigningKey.load(bytes.fromhex(str.__str__(self._current(name).secret)))

    @property
    def manifest_signing_key(self) -> SigningKey:
        return self._signing_key("manifest_signing")

    @property
    def audit_signing_key(self) -> SigningKey:
        return self._signing_key("audit_signing")

    @property
    def lake_metadata_key(self) -> SecretText:
        """64 hex characters, for DuckLake's ``META_ENCRYPTION_KEY``."""
        return self._current("lake_metadata").secret

    @property
    def linkage_token_key(self) -> SecretBytes:
        """32 bytes, the HMAC key of person and record tokens."""
        return SecretBytes(bytes.fromhex(str.__str__(self._current("linkage_token").secret)))

    @property
    def linkage_file_key(self) -> SecretBytes:
        """32 bytes, from which each linkage file's keys are derived."""
        return SecretBytes(bytes.fromhex(str.__str__(self._current("linkage_file").secret)))

    def signers(self, name: str) -> dict[str, str]:
        """Key id -> public key of all versions of a signing key: what it signed stays verifiable."""
        if KINDS.get(name) != "ed25519":
            raise UsageError("this is not the name of a signing key")
        return {key_id_of(version.public): version.public for version in self._keys[name]}

    def describe(self) -> list[dict[str, str | None]]:
        """One row per key: name, kind, fingerprint, created (the first), rotated (the last, or None)."""
        return [
            {
                "name": name,
                "kind": versions[-1].kind,
                "fingerprint": versions[-1].fingerprint,
                "created": versions[0].created,
                "rotated": versions[-1].created if len(versions) > 1 else None,
            }
            for name, versions in self._keys.items()
        ]

    # Changing it

    def rotate(self, name: str, *, now: datetime | None = None) -> Keyring:
        """Put a new version of ``name`` into use and return the keyring that has it.

        The earlier versions stay: they open what was sealed to them, and verify what they signed. Raises
        :class:`UsageError` for a name that is unknown or cannot be rotated.
        """
        if name not in KINDS:
            raise UsageError(f"there is no such key; there are: {', '.join(KINDS)}")
        if name not in ROTATABLE:
            raise UsageError(
                f"the key {name} cannot be rotated: all that it encrypts would have to be written again",
                next_step="retire the workspace and backfill into a new one",
            )
        with _only_one(self.folder):
            held = parse_canonical(
                self._unlock.unseal(read_secret_file(self.folder / KEYRING_FILE, "keyring"))
            )
            keys = dict(_from_document(held))
            keys[name] = (*keys[name], _new_version(KINDS[name], now or datetime.now(UTC)))
            rotated = Keyring(self.folder, keys, self._unlock)
            rotated._write()
        return rotated

    def _write(self) -> None:
        # The sealed file first: a public key whose private half was never stored must not be handed out. A
        # kill in between leaves an older public.json, which the next opening brings up to date.
        write_atomic(self.folder / KEYRING_FILE, self._unlock.seal(canonical_json(_to_document(self._keys))))
        self._write_public()

    def _write_public(self) -> None:
        write_atomic(self.folder / CERTIFICATE_FILE, self.inbox_certificate.encode("ascii"))
        write_atomic(self.folder / PUBLIC_FILE, canonical_json(self._public_document()))

    def _public_document(self) -> dict[str, Any]:
        return {
            "v": 1,
            "keys": {
                name: [
                    {"created": version.created, "kind": version.kind, "public": version.public}
                    for version in versions
                ]
                for name, versions in self._keys.items()
                if versions[-1].public
            },
        }

    def _reconcile_public(self) -> None:
        path = self.folder / PUBLIC_FILE
        expected = self._public_document()
        try:
            found = parse_canonical(path.read_bytes())
        except OSError:
            found = None
        if found == expected and self._certificate_is_ours():
            return
        if found is not None:
            ours = {version.public for versions in self._keys.values() for version in versions}
            theirs = {
                version.public for versions in PublicKeys.parse(found).keys.values() for version in versions
            }
            if not theirs <= ours:
                raise IntegrityError(
                    "keys/public.json offers a key that the keyring does not hold",
                    next_step="raise an incident: deliveries may have been sealed to a stranger's key",
                )
        self._write_public()

    def _certificate_is_ours(self) -> bool:
        """Whether the certificate that lies open is the one in use. One of ours from before is renewed."""
        try:
            found = (self.folder / CERTIFICATE_FILE).read_text("ascii")
        except (OSError, UnicodeDecodeError):
            return False
        if found not in {version.public for version in self._keys["inbox_openpgp"]}:
            raise IntegrityError(
                f"keys/{CERTIFICATE_FILE} offers a key that the keyring does not hold",
                next_step="raise an incident: deliveries may have been sealed to a stranger's key",
            )
        return found == self.inbox_certificate


def _to_document(keys: Mapping[str, tuple[KeyVersion, ...]]) -> dict[str, Any]:
    return {
        "v": 1,
        "kind": "pipeline-keyring",
        "keys": {
            name: [
                {"created": version.created, "public": version.public, "secret": version.secret}
                for version in versions
            ]
            for name, versions in keys.items()
        },
    }


def _from_document(document: Any) -> dict[str, tuple[KeyVersion, ...]]:
    try:
        if (
            document["v"] != 1
            or document["kind"] != "pipeline-keyring"
            or set(document["keys"]) != set(KINDS)
        ):
            raise KeyUnavailable("the keyring was written by another version of Wardwatch")
        return {
            name: tuple(
                KeyVersion(kind, version["created"], version["public"], SecretText(version["secret"]))
                for version in document["keys"][name]
            )
            for name, kind in KINDS.items()
        }
    except (KeyError, TypeError):
        raise KeyUnavailable("the keyring's content is not a keyring") from None


# The public halves -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublicVersion:
    kind: str
    created: str
    public: str


@dataclass(frozen=True)
class PublicKeys:
    """What ``keys/public.json`` says.

    Whoever can write that file can change it: a verifier who does not trust this machine keeps a copy
    elsewhere, and :meth:`Keyring.open` compares it with the keyring.
    """

    keys: Mapping[str, tuple[PublicVersion, ...]]

    @classmethod
    def load(cls, folder: Path) -> PublicKeys:
        """Read it without unlocking anything. Raises :class:`KeyUnavailable`, :class:`IntegrityError`."""
        try:
            content = (folder / PUBLIC_FILE).read_bytes()
        except OSError:
            raise KeyUnavailable(
                "keys/public.json cannot be read", next_step="run `wardwatch init`"
            ) from None
        return cls.parse(parse_canonical(content))

    @classmethod
    def parse(cls, document: Any) -> PublicKeys:
        try:
            return cls(
                {
                    name: tuple(
                        PublicVersion(version["kind"], version["created"], version["public"])
                        for version in versions
                    )
                    for name, versions in document["keys"].items()
                }
            )
        except (KeyError, TypeError, AttributeError):
            raise IntegrityError("keys/public.json is not a list of public keys") from None

    def recipient(self, name: str = "inbox") -> str:
        """The age recipient to seal to now."""
        return self._versions(name, "age")[-1].public

    def signers(self, name: str = "manifest_signing") -> dict[str, str]:
        """Key id -> public key of all versions of a signing key."""
        return {key_id_of(version.public): version.public for version in self._versions(name, "ed25519")}

    def _versions(self, name: str, kind: str) -> tuple[PublicVersion, ...]:
        versions = self.keys.get(name, ())
        if not versions or any(version.kind != kind for version in versions):
            raise KeyUnavailable(f"keys/public.json holds no {kind} key of that name")
        return versions
