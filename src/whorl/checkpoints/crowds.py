"""Files of more tensors than are compared one by one: which of them are left out."""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import Final

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.checkpoints.roles import NONE, Weights
from whorl.checkpoints.views import View

__all__ = ["CROWD", "surplus", "within"]

CROWD: Final = 4096  # tensors without roles of one net that are compared
EXPERTS: Final = 1024  # of one layer that are


def surplus(net: Checkpoint, other: Checkpoint | None = None) -> list[str]:
    """Names of the tensors that are left out of a net, the largest first; none of one that has no more than `CROWD`.

    Tensors with roles stay, for of these some layers are read; but no more than `EXPERTS` in one. Of the rest those
    stay that ``other`` has too, by name and shape, and the largest. Numbers are not looked at, so that no test is
    chosen by what it would find.
    """
    if len(net.entries) <= CROWD:
        return []
    parts = Weights(net).structure.parts
    roled = {part.tensor: key.expert if part.index is None else NONE for key, part in parts.items()}
    rest = [name for name in net.entries if name not in roled]
    beyond = [name for name, expert in roled.items() if expert >= EXPERTS]
    theirs = {} if other is None else other.entries
    shared = {name for name in rest if name in theirs and theirs[name].shape == net.entries[name].shape}
    rest.sort(key=lambda name: (name not in shared, -prod(net.entries[name].shape), name))
    return sorted([*rest[CROWD:], *beyond], key=lambda name: (-prod(net.entries[name].shape), name))


def within(net: Checkpoint, but: Collection[str]) -> Checkpoint:
    """A net without these tensors: itself where there are none."""
    if not but:
        return net
    gone = frozenset(but)
    prefix = net.prefix if isinstance(net, View) else ""
    return View(net, {name: name for name in net.entries if name not in gone}, prefix)
