"""Shares: both give the secret back, one alone says nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.shares import join, split
from schemas.errors import CannotOpen


@settings(max_examples=50, deadline=None, derandomize=True)
@given(secret=st.binary(max_size=100))
def test_two_shares_give_the_secret_back_in_either_order(secret: bytes) -> None:
    first, second = split(secret)
    assert join(first, second) == join(second, first) == secret
    assert len(first) == len(second) == len(secret), "leading zeros belong to a secret too"


def test_one_share_fits_every_secret_of_its_length() -> None:
    # A one-time pad: for each other secret there is a second share that would give it. So whoever holds one
    # share cannot tell which secret it belongs to.
    share, _ = split(b"the key!")
    for other in (b"another.", bytes(8), b"\xff" * 8):
        fitting = join(share, other)
        assert join(share, fitting) == other


def test_the_pad_is_new_for_each_secret() -> None:
    pads = {bytes(split(b"\x00" * 32)[0]) for _ in range(200)}
    assert len(pads) == 200, "two secrets were hidden under one pad"


def test_the_first_share_is_the_pad_and_the_second_the_secret_under_it() -> None:
    first, second = split(b"\x0f\xf0", random=lambda size: b"\xff" * size)
    assert (bytes(first), bytes(second)) == (b"\xff\xff", b"\xf0\x0f")


def test_shares_of_different_lengths_do_not_belong_together() -> None:
    with pytest.raises(CannotOpen):
        join(b"12", b"123")


def test_a_share_does_not_print() -> None:
    first, second = split(b"A" * 32, random=lambda size: b"B" * size)
    assert "B" not in f"{first} {first!r} {[first]}"
    assert "<secret>" in repr((first, second))
