"""OpenPGP: messages of senders who have no age, opened in a child process through a pipe."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from infra.containers.limits import Limits, Meter
from schemas.errors import CannotOpen

CHILD = Path(__file__).with_name("openpgp_child.py")


class OpenPgpReader:
    """Plaintext from the child. The end is reported only after the child said that the message ended well."""

    def __init__(self, child: subprocess.Popen[bytes], meter: Meter) -> None:
        self._child = child
        self._meter = meter

    def read(self, size: int = -1, /) -> bytes:
        assert self._child.stdout is not None
        piece = self._child.stdout.read(size)
        self._meter.add(len(piece))
        if not piece and size != 0 and self._child.wait() != 0:
            raise CannotOpen(
                "the OpenPGP message does not open: another key, or changed or cut content",
                next_step="ask the sender which public key it was sealed to",
            )
        return piece


@contextmanager
def openpgp_reader(
    source: BinaryIO, size: int, keys: Sequence[bytes], limits: Limits
) -> Iterator[OpenPgpReader]:
    """Open the OpenPGP message in the open file ``source``, ``size`` bytes long, with the key that fits.

    ``keys`` are unprotected secret keys, binary or armored. They reach the child through its standard input:
    arguments and environment can be read by others. Leaving the context ends the child.

    Raises :class:`~schemas.errors.CannotOpen` (also at the end of reading) and
    :class:`~schemas.errors.UnsafeArchive` (a message may be compressed inside).
    """
    if not keys:
        raise CannotOpen("the delivery is an OpenPGP message and there is no OpenPGP key here")
    descriptor = source.fileno()
    child = subprocess.Popen(
        [sys.executable, "-I", str(CHILD), str(descriptor)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        env={},
    )
    try:
        assert child.stdin is not None
        try:
            child.stdin.write(b"\n".join(base64.b64encode(bytes(key)) for key in keys))
            child.stdin.close()
        except BrokenPipeError:
            pass  # it died early; its exit code says so
        yield OpenPgpReader(child, Meter(limits, packed=size))
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None and not stream.closed:
                stream.close()
