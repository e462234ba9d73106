"""Envelope: a list sealed to the one key that the hospital enrolled, age or OpenPGP, and opened again by it."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

from infra.register import HospitalKey
from infra.sealing import seal
from schemas.errors import KeyUnavailable

CHILD = Path(__file__).with_name("envelope_child.py")
# A list is small; a child that takes longer than this hangs.
SECONDS = 60


def seal_to_hospital(content: bytes, key: HospitalKey) -> bytes:
    """``content`` so that only the holder of the hospital's private key can read it. Raises
    :class:`KeyUnavailable`."""
    if key.kind == "age":
        return seal(content, key.recipient)
    # The content reaches the child through a pipe: arguments, environment and files can be read by others.
    certificate = base64.b64encode(key.recipient.encode())
    try:
        ended = subprocess.run(
            [sys.executable, "-I", str(CHILD)],
            input=certificate + b"\n" + content,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        ended = None
    if ended is None or ended.returncode != 0 or not ended.stdout:
        raise KeyUnavailable(
            "nothing can be sealed to the hospital's OpenPGP certificate",
            next_step="ask the hospital for a certificate in force, and enrol it",
        )
    return ended.stdout
