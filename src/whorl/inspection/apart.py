"""Nets that are known, opened: each of them counts once, and the net that is inspected is none of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.opening import open_oracle

__all__ = ["opened_apart"]


def opened_apart(net: Oracle, nets: Mapping[str, Any], others: Mapping[str, Oracle] | None = None) -> dict[str, Oracle]:
    """The nets by name. Copies of one would make a null, or a model, of fewer nets than it says.

    Parameters:
        nets: whatever `whorl.open_oracle` takes, by name, with what they are: ``the clean net 3``.
        others: opened before, which count too.

    Raises:
        UsageError: one of them has the weights of another, or of the net itself.
    """
    seen = {net.digest: "the net itself"} | {each.digest: name for name, each in (others or {}).items()}
    opened = {name: open_oracle(each) for name, each in nets.items()}
    for name, each in opened.items():
        if each.digest in seen:
            raise UsageError(f"{name} has the weights of {seen[each.digest]}: give nets that were each trained anew")
        seen[each.digest] = name
    return opened
