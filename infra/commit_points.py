"""Named places at which a killed run could leave something behind.

Code that makes a change durable calls ``commit_point("...")`` right before and right after it. In production
this does nothing. The kill test lists every call from the source, runs the night in a child process that
replaces :func:`reached` by a real SIGKILL, and checks that the next run converges; a point that no run reaches
fails the test, so a new one cannot be forgotten.
"""

from __future__ import annotations


def reached(name: str) -> None:
    """Hook of the kill test. Does nothing otherwise."""


def commit_point(name: str) -> None:
    """Mark a place where a kill must be harmless. ``name`` is a literal, unique in the code base."""
    reached(name)
