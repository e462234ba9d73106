"""Shares: a secret cut in two, so that one person alone holds nothing.

The first share is a random pad, the second the secret under that pad. Each alone is uniformly random and says
nothing about the secret but its length; both together give it back. This two-of-two split is the only
construction of our own in the project, and it is a one-time pad.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from infra.sealing import SecretBytes
from schemas.errors import CannotOpen


def _xor(left: bytes, right: bytes) -> SecretBytes:
    mixed = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return SecretBytes(mixed.to_bytes(len(left), "big"))


def split(secret: bytes, random: Callable[[int], bytes] = os.urandom) -> tuple[SecretBytes, SecretBytes]:
    """Two shares of ``secret``, each as long as it. The pad is new for each call and must never be reused."""
    pad = random(len(secret))
    return SecretBytes(pad), _xor(pad, secret)


def join(share1: bytes, share2: bytes) -> SecretBytes:
    """The secret from its two shares, in either order.

    Any two texts of one length join to something: the caller compares the result with a signed digest of the
    secret before it uses it. Raises :class:`CannotOpen` if the lengths differ.
    """
    if len(share1) != len(share2):
        raise CannotOpen("the two shares do not belong together: their lengths differ")
    return _xor(share1, share2)
