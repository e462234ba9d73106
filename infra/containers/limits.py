"""Limits: how much an archive may hold, so that a small file cannot fill a disk or a night."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import UnsafeArchive

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of one delivered file.

    ``max_ratio``: unpacked to packed bytes. Extracts of mostly empty columns pack about 15 to 40 to 1;
    deflate can reach 1032 to 1, which no real extract does. It counts from ``ratio_from`` unpacked bytes on,
    since a tiny file may pack extremely well. ``max_total_bytes``: unpacked bytes of all members together; a
    year of outpatients, the largest extract, has about 52 GB. ``max_directory_bytes``: the list of members
    of a zip.
    """

    max_members: int = 100
    max_ratio: int = 200
    ratio_from: int = 64 * MIB
    max_total_bytes: int = 1 << 40
    max_name_bytes: int = 255
    max_directory_bytes: int = 1 * MIB


class Meter:
    """Counts what comes out of a container against what went in; :meth:`add` refuses before more is made."""

    def __init__(self, limits: Limits, packed: int = 0, already: int = 0) -> None:
        self._limits = limits
        self._already = already
        self.packed = packed
        self.unpacked = 0

    def add(self, size: int) -> None:
        """``size`` more bytes came out. Raises :class:`~schemas.errors.UnsafeArchive` beyond the limits."""
        self.unpacked += size
        check_size(self._limits, self.packed, self.unpacked, self._already)


def check_size(limits: Limits, packed: int, unpacked: int, already: int = 0) -> None:
    """Refuse ``unpacked`` bytes from ``packed`` bytes, ``already`` others being there."""
    if unpacked > limits.ratio_from and unpacked > packed * limits.max_ratio:
        raise UnsafeArchive(
            f"a member unpacks to more than {limits.max_ratio} times its packed size",
            next_step="ask the sender for the file without compression, or packed in another way",
        )
    if already + unpacked > limits.max_total_bytes:
        raise UnsafeArchive(f"the delivery unpacks to more than {limits.max_total_bytes} bytes")
