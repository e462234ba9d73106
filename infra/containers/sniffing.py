"""Kind: what a file is, told from its first bytes. Names lie, and are chosen by the sender."""

from __future__ import annotations

from enum import Enum

SNIFF_BYTES = 512


class Kind(Enum):
    """What the first bytes say. ``OTHER_ARCHIVE`` is a format that is known and not taken."""

    PLAIN = "plain"
    AGE = "age"
    AGE_ARMORED = "age_armored"
    OPENPGP = "openpgp"
    ZIP = "zip"
    GZIP = "gzip"
    OTHER_ARCHIVE = "other_archive"


ENCRYPTED = frozenset({Kind.AGE, Kind.AGE_ARMORED, Kind.OPENPGP})

_STARTS = (
    (b"age-encryption.org/v1\n", Kind.AGE),
    (b"-----BEGIN AGE ENCRYPTED FILE-----", Kind.AGE_ARMORED),
    (b"-----BEGIN PGP MESSAGE-----", Kind.OPENPGP),
    (b"PK\x03\x04", Kind.ZIP),
    (b"PK\x05\x06", Kind.ZIP),  # a zip without members
    (b"\x1f\x8b", Kind.GZIP),
    (b"PK\x07\x08", Kind.OTHER_ARCHIVE),  # a zip cut into several files
    (b"7z\xbc\xaf\x27\x1c", Kind.OTHER_ARCHIVE),
    (b"Rar!\x1a\x07", Kind.OTHER_ARCHIVE),
    (b"\xfd7zXZ\x00", Kind.OTHER_ARCHIVE),
    (b"BZh", Kind.OTHER_ARCHIVE),
    (b"\x28\xb5\x2f\xfd", Kind.OTHER_ARCHIVE),  # zstandard
    (b"\x04\x22\x4d\x18", Kind.OTHER_ARCHIVE),  # lz4
    (b"MSCF", Kind.OTHER_ARCHIVE),  # a Windows cabinet
    (b"PAR1", Kind.OTHER_ARCHIVE),
    (b"%PDF-", Kind.OTHER_ARCHIVE),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind.OTHER_ARCHIVE),  # an Office document before 2007
)

# OpenPGP (RFC 9580, 4.2): an encrypted message starts with a session key packet (tag 1 or 3), whose body
# starts with one of these versions, or with a marker (tag 10).
_SESSION_KEY_TAGS = {1: (3, 6), 3: (4, 5, 6)}


def sniff(first_bytes: bytes) -> Kind:
    """The kind of the file that starts with ``first_bytes``, :data:`SNIFF_BYTES` where there are as many.

    Whatever is nothing else is ``PLAIN``: whether that is a file of records is decided by
    :func:`transforms.records.sniff_dialect`.
    """
    for start, kind in _STARTS:
        if first_bytes.startswith(start):
            return kind
    if first_bytes[257:262] == b"ustar":
        return Kind.OTHER_ARCHIVE
    if _is_openpgp(first_bytes):
        return Kind.OPENPGP
    return Kind.PLAIN


def _is_openpgp(first_bytes: bytes) -> bool:
    if len(first_bytes) < 6 or not first_bytes[0] & 0x80:
        return False
    if first_bytes[0] & 0x40:  # the current packet format
        tag = first_bytes[0] & 0x3F
        length = first_bytes[1]
        body = 2 if length < 192 else 3 if length < 224 else 6 if length == 255 else 2
    else:
        tag = first_bytes[0] >> 2 & 0x0F
        body = 1 + (1, 2, 4, 0)[first_bytes[0] & 3]
    if tag == 10:
        return first_bytes[body : body + 3] == b"PGP"
    return first_bytes[body] in _SESSION_KEY_TAGS.get(tag, ()) if body < len(first_bytes) else False
