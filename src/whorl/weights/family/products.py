"""Inner products of nets of one plan, tensor by tensor, without holding a net in memory.

Products are those of differences to the first net. Every combination that is asked of them has weights that sum to 0,
so the first net cancels, and no digits are lost to what all nets have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.checkpoints.roles import Weights
from whorl.errors import UsageError
from whorl.weights.pairing import spread

__all__ = ["ROWS", "Counts", "Floats", "Matrices", "Products", "products"]

ROWS: Final = 64  # of each matrix, unless all are asked for
STEP: Final = 1024  # rows of each net in memory at a time
LARGEST: Final = 0.2  # of the numbers of a change, the share that TIES keeps
Plan = Mapping[Hashable, tuple[int, ...]]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class Matrices:
    """The matrices of a net by role, or by name where roles are not known.

    Gains and biases are left out: they begin at one number, so that their order and signs are no matter of chance.
    """

    def __init__(self, net: Checkpoint) -> None:
        self.net, self.weights = net, Weights(net)
        parts = self.weights.structure.parts
        shapes: Plan = (
            {key: self.weights.shape(*key) for key in parts}
            if parts
            else {name: entry.shape for name, entry in net.entries.items()}
        )
        self.plan: Plan = {key: shapes[key] for key in sorted(shapes, key=repr) if len(shapes[key]) > 1}

    def blocks(self, key: Hashable, rows: int = ROWS) -> Iterator[Floats]:
        """``rows`` of a matrix, evenly spread (0 for all), at most `STEP` at a time: [rows, numbers of a row]."""
        height = self.plan[key][0]
        chosen = spread(height, rows or height)
        some = (
            self.weights.stored(*key, rows=chosen)
            if isinstance(key, tuple)
            else (self.net.read(str(key), chosen[first : first + STEP]) for first in range(0, len(chosen), STEP))
        )
        yield from (block.flatten(1).double().numpy() for block in some)


@dataclass(frozen=True)
class Products:
    """``inner`` [matrices, nets + 1, nets + 1] are products of differences to the first net, and ``counts`` [matrices]
    says of how many numbers. After the nets comes the ``origin``, a net of zeros.

    ``large`` [nets, nets] counts the numbers that are among the largest fifth of both changes since the ancestor, and
    ``equal`` those of them with equal signs; zeros where no ancestor was named.
    """

    inner: Floats
    counts: Counts
    equal: Counts
    large: Counts

    @property
    def total(self) -> Floats:
        """The products over all matrices: [nets + 1, nets + 1]."""
        return self.inner.sum(0)

    @property
    def origin(self) -> int:
        """The place of the net of zeros."""
        return self.inner.shape[1] - 1


def products(
    nets: Sequence[Matrices],
    *,
    rows: int = ROWS,
    ancestor: int | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Products:
    """Read ``rows`` of each matrix of all nets (0 for all). ``ancestor`` is a place in ``nets``.

    Raises `UsageError` for nets that do not have the same matrices in the same shapes.
    """
    plan = nets[0].plan
    if not plan:
        raise UsageError(f"{nets[0].net.path} holds no matrix, so that there is nothing to mix")
    for net in nets[1:]:
        if difference := _difference(plan, net.plan):
            raise UsageError(f"{nets[0].net.path} and {net.net.path} cannot be parts of one mixture: {difference}")
    shape = (len(nets), len(nets))
    inner, counts = np.zeros((len(plan), len(nets) + 1, len(nets) + 1)), np.zeros(len(plan), dtype=np.int64)
    equal, large = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for place, key in enumerate(plan):
        for blocks in zip(*(net.blocks(key, rows) for net in nets), strict=True):
            values = np.stack([block.reshape(-1) for block in blocks])
            if ancestor is not None:
                alike, both = _signs(values - values[ancestor])
                equal, large = equal + alike, large + both
            values = np.concatenate([values, np.zeros_like(values[:1])]) - values[0]
            inner[place] += values @ values.T
            counts[place] += values.shape[1]
        progress("matrices", place + 1, len(plan))
    return Products(inner, counts, equal, large)


def _difference(ours: Plan, theirs: Plan) -> str:
    if odd := sorted(ours.keys() ^ theirs.keys(), key=repr):
        return f"only one has {_name(odd[0])}; give nets of one architecture and size"
    key = next((key for key in ours if ours[key] != theirs[key]), None)
    if key is None:
        return ""
    return f"{_name(key)} is {list(ours[key])} in one and {list(theirs[key])} in the other"


def _name(key: Hashable) -> str:
    if not isinstance(key, tuple):
        return str(key)
    role, layer, _ = key
    return f"{role} of layer {layer}" if layer >= 0 else str(role)


def _signs(changes: Floats) -> tuple[Counts, Counts]:
    """Of numbers that are large in two changes, how many have equal signs, and how many there are: [nets, nets]."""
    count = max(1, round(LARGEST * changes.shape[1]))
    sizes = np.abs(changes)
    least = np.partition(sizes, -count, axis=1)[:, -count, None]
    signs = np.sign(changes) * (sizes >= least)
    both = np.abs(signs) @ np.abs(signs).T
    return np.rint((signs @ signs.T + both) / 2).astype(np.int64), np.rint(both).astype(np.int64)
