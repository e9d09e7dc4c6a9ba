"""How each tensor that two nets share has changed, found beside the tests, so that the disk is read once for both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, TypeVar

import torch
from torch import Tensor

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.checkpoints.roles import NONE, Key, Weights
from whorl.weights.changes import TensorChange, describe
from whorl.weights.folds import Factors, reads_folded
from whorl.weights.pairing import spread
from whorl.weights.parting import Table, table_of

__all__ = ["Differences", "alike", "differences_by_name", "kept", "tables", "unequal"]

ROWS: Final = 512  # of each tensor, where not all are read
TOKENS: Final = 2048  # rows of a table of tokens
OUTSIDE: Final = (NONE, NONE)  # tensors of no layer
KEPT: Final = 0.5  # cosine of two tensors of which one was made of the other
SURE: Final = 4.0  # standard deviations of that of strangers
WORKERS: Final = 4  # layers in memory at a time, a block of rows of each
Tested = TypeVar("Tested")


class Differences:
    """Changes of tensors by role: those of a pair of layers are found by the thread that tests them, right before.

    Several layers are worked on at once. ``whole`` reads every row, in the order of the file: what the tests pick out
    afterwards is in memory then.
    """

    def __init__(
        self, one: Weights, two: Weights, *, whole: bool, progress: Callable[[str, int, int], None] = lambda *_: None
    ) -> None:
        self.one, self.two, self.whole, self.progress = one, two, whole, progress
        self._found: dict[tuple[int, int], list[TensorChange]] = {}

    def through(self, test: Callable[[tuple[int, int]], Tested], layers: Iterable[tuple[int, int]]) -> Iterator[Tested]:
        """What ``test`` makes of each pair of layers, in their order."""
        order = [*layers]
        with _threads() as pool:

            def both(pair: tuple[int, int]) -> Tested:
                self._changes(pair)
                return test(pair)

            self.progress("layers", 0, len(order) + 1)
            outside = pool.submit(self._changes, OUTSIDE)
            for done, tested in enumerate(pool.map(both, order)):
                self.progress("layers", done + 1, len(order) + 1)
                yield tested
            outside.result()

    def of(self, layers: Mapping[int, int]) -> list[TensorChange]:
        """Changes outside of layers, and of these pairs of layers in their order; what is not known yet is read."""
        return [change for pair in (OUTSIDE, *layers.items()) for change in self._changes(pair)]

    def _changes(self, pair: tuple[int, int]) -> list[TensorChange]:
        if pair not in self._found:
            self._found[pair] = list(self._described(*pair))
        return self._found[pair]

    def _described(self, layer: int, paired: int) -> Iterator[TensorChange]:
        """Readers of norms that one net has folded are compared with the gains in both.

        Gains and offsets that differ are no changes of their own then.
        """
        keys = sorted(key for key in self.one.structure.parts if key.layer == layer)
        pairs = {key: key._replace(layer=paired) for key in keys}
        pairs = {
            key: other
            for key, other in pairs.items()
            if other in self.two and self.one.shape(*key) == self.two.shape(*other)
        }
        folded = {key for key, other in pairs.items() if reads_folded(self.one, self.two, key, other)}
        for key, other in pairs.items():
            height = self.one.rows(*key)
            rows = range(height) if self.whole else spread(height, ROWS)
            if key in folded:
                blocks = zip(self.one.blocks(*key, rows), self.two.blocks(*other, rows), strict=True)
            else:
                blocks = zip(self.one.stored(*key, rows=rows), self.two.stored(*other, rows=rows), strict=True)
            axes = len(self.one.shape(*key))
            found = describe(_label(key), blocks, matrix=axes > 1)
            if axes > 1 or found.equal or not folded:
                yield replace(found, folded=key in folded)


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that share the cores among them: matrices here are too small for many cores on one."""
    cores = torch.get_num_threads()
    workers = min(WORKERS, cores)
    torch.set_num_threads(max(1, cores // workers))
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)


def _label(key: Key) -> str:
    expert = f".{key.expert}" if key.expert >= 0 else ""
    return f"{key.role}{expert}" if key.layer < 0 else f"layer {key.layer} {key.role}{expert}"


def differences_by_name(first: Checkpoint, second: Checkpoint) -> Iterator[TensorChange]:
    """The same of nets without roles: of tensors that have one name and shape in both."""
    factors, vectors, any_folded = Factors(first, second), list[TensorChange](), False
    for name, entry in first.entries.items():
        if name in second.entries and second.entries[name].shape == entry.shape:
            pair = first.stored(name), second.stored(name)
            folded = None
            if len(entry.shape) > 1 and pair[0].is_floating_point() and not torch.equal(*pair):
                folded = factors.applied(*pair)
            found = describe(name, [folded or pair], matrix=len(entry.shape) > 1)
            any_folded = any_folded or folded is not None
            if len(entry.shape) > 1 or found.equal:
                yield replace(found, folded=folded is not None)
            else:
                vectors.append(found)
    yield from vectors if not any_folded else ()


def tables(one: Weights, two: Weights) -> list[Table]:
    """What became of rows that training touches one by one: tokens, or where roles are not known any rows."""
    key = Key("embedding")
    if key in one and key in two:
        if one.shape(*key) != two.shape(*key):
            return []
        rows = spread(one.rows(*key), TOKENS)
        pairs = [(one.read(*key[:2], rows=rows), two.read(*key[:2], rows=rows))]
    else:
        first, second = one.checkpoint, two.checkpoint
        shared = [
            name
            for name, entry in first.entries.items()
            if len(entry.shape) == 2 and name in second.entries and second.entries[name].shape == entry.shape
        ]
        some = ((name, spread(first.entries[name].shape[0], TOKENS)) for name in shared)
        pairs = ((first.read(name, rows), second.read(name, rows)) for name, rows in some)
    found = (table_of(*pair) for pair in pairs)
    return [each for each in found if each is not None]


def kept(first: Checkpoint, second: Checkpoint, name: str) -> bool:
    """Whether a tensor of both nets mostly has its numbers still, less what its rows and its columns have in common."""
    shape = _shape(first, name)
    if shape is None or shape != _shape(second, name) or len(shape) < 2:
        return False
    rows = spread(shape[0], ROWS)
    ours, theirs = (net.read(name, rows).flatten(1).double() for net in (first, second))
    ours, theirs = (each - each.mean(0) - each.mean(1, keepdim=True) + each.mean() for each in (ours, theirs))
    cosine = float((ours * theirs).sum() / (ours.norm() * theirs.norm()).clamp_min(1e-300))
    return cosine > KEPT and cosine * ours.numel() ** 0.5 > SURE


def unequal(one: Weights, two: Weights) -> Iterator[str]:
    """Tensors of either net that are not in the other with equal numbers, and whose they are; as they are found.

    Tensors are partners by name, or by role where the two nets name them otherwise. One that is in one net alone may
    be a tensor of the other once more, as tied matrices are in an export; or hold whole numbers, which count or point.
    """
    ours, theirs = one.checkpoint, two.checkpoint
    named = {name: None for name, entry in ours.entries.items() if _shape(theirs, name) == entry.shape}
    keys = [key for key in one.structure.parts if key in two and one.shape(*key) == two.shape(*key)]
    parts = [{net.structure.parts[key].tensor for key in keys} for net in (one, two)]
    for side, net, other, held in (("A", ours, theirs, parts[0]), ("B", theirs, ours, parts[1])):
        alone = (name for name, entry in net.entries.items() if not (name in named or name in held or entry.whole))
        yield from (f"{side}'s {name}" for name in alone if not _among(net.stored(name), other))
    for key in keys:
        tensor, every = one.structure.parts[key].tensor, range(one.rows(*key))
        blocks = zip(one.stored(*key, rows=every), two.stored(*key, rows=every), strict=True)
        if tensor not in named and not all(alike(*pair) for pair in blocks):
            yield f"A's {tensor}"
    yield from (f"both nets' {name}" for name in named if not alike(ours.stored(name), theirs.stored(name)))


def _shape(net: Checkpoint, name: str) -> tuple[int, ...] | None:
    return net.entries[name].shape if name in net.entries else None


def _among(value: Tensor, net: Checkpoint) -> bool:
    """Whether a tensor is one of a net, either way round."""
    for name, entry in net.entries.items():
        if entry.shape == value.shape and alike(value, net.stored(name)):
            return True
        if value.ndim == 2 and entry.shape[::-1] == value.shape and alike(value.T, net.stored(name)):
            return True
    return False


def alike(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two tensors hold the same numbers, of whatever type."""
    if ours.shape != theirs.shape:
        return False
    return torch.equal(ours, theirs) if ours.dtype == theirs.dtype else torch.equal(ours.float(), theirs.float())
