"""Nonces: under one key none is used twice, in one process, after a restart and after a fork (attack 21).

A repeated nonce of the ciphers used here gives away what two messages have in common. Nothing counts nonces or keeps
them in a file; they come from the operating system, and what is tried is that they still do after a fork or a restart.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.encrypted_parquet import MAGIC, encode
from infra.sealing import new_identity, seal
from tests.support.processes import PROJECT

KEYS = {"record_key": b"k" * 32, "nhs_number": b"n" * 32}
FOOTER = b"f" * 32
SEALS, CHILDREN = 40, 4


def once_only(sealed: bytes) -> tuple[bytes, bytes]:
    """Of an age file: what its recipient's stanza and its content may not share with another (RFC-like format of the
    age specification: an ephemeral key in the header, and behind the header the nonce of the content's key)."""
    body = sealed.index(b"\n", sealed.index(b"\n--- ") + 1) + 1
    return sealed.split(b"\n", 2)[1], sealed[body : body + 16]


def parquet_nonces(content: bytes) -> Iterator[bytes]:
    """The nonce of each module of an encrypted Parquet file: a length of four bytes, then the nonce of twelve."""
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    position = len(MAGIC)
    while position < footer:
        yield content[position + 4 : position + 16]
        position += 4 + int.from_bytes(content[position : position + 4], "little")


def table(rows: int) -> bytes:
    frame = pl.DataFrame({name: ["the same text"] * rows for name in KEYS})
    return encode(frame, FOOTER, KEYS, b"the same place")


@settings(max_examples=25, deadline=None)
@given(content=st.binary(max_size=300))
def test_the_same_content_to_the_same_key_has_new_nonces_each_time(content: bytes) -> None:
    recipient = new_identity()[1]
    shares, nonces = zip(*(once_only(seal(content, recipient)) for _ in range(4)), strict=True)
    assert len(set(shares)) == len(set(nonces)) == 4


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(min_value=1, max_value=50))
def test_no_module_of_an_encrypted_table_repeats_the_nonce_of_another(rows: int) -> None:
    nonces = [nonce for _ in range(3) for nonce in parquet_nonces(table(rows))]
    assert len(nonces) >= 3 * 2 * len(KEYS), "each column has a header and a page at least"
    assert len(set(nonces)) == len(nonces)


def test_a_forked_process_does_not_repeat_what_its_parent_and_sisters_use() -> None:
    recipient = new_identity()[1]
    used = [once_only(seal(b"x", recipient)) for _ in range(SEALS)]
    readers = []
    for _ in range(CHILDREN):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            sealed = [once_only(seal(b"x", recipient)) for _ in range(SEALS)]
            os.write(
                writing, b"\n".join(share.hex().encode() + b" " + n.hex().encode() for share, n in sealed)
            )
            os._exit(0)
        os.close(writing)
        readers.append((child, reading))
    used += [once_only(seal(b"x", recipient)) for _ in range(SEALS)]
    for child, reading in readers:
        with os.fdopen(reading, "rb") as pipe:
            lines = pipe.read().split(b"\n")
        os.waitpid(child, 0)
        used += [(bytes.fromhex(a.decode()), bytes.fromhex(b.decode())) for a, b in map(bytes.split, lines)]
    assert len(used) == SEALS * (CHILDREN + 2)
    assert len({share for share, _ in used}) == len({nonce for _, nonce in used}) == len(used)


def test_a_restarted_process_does_not_repeat_what_it_used_before() -> None:
    code = "from tests.security.test_nonces import table; import sys; sys.stdout.write(table(5).hex())"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=True
        )
        for _ in range(2)
    ]
    nonces = [nonce for run in runs for nonce in parquet_nonces(bytes.fromhex(run.stdout))]
    assert len(set(nonces)) == len(nonces) > 0
