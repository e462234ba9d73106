"""Synthetic extracts with a known truth: ``generate`` of :mod:`infra.synthetic.extracts`.

Loaded on first use, so that :mod:`infra.synthetic.canaries` can be imported without the generator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.synthetic.extracts import generate

__all__ = ["generate"]


def __getattr__(name: str) -> Any:
    if name == "generate":
        from infra.synthetic.extracts import generate

        return generate
    raise AttributeError(name)
