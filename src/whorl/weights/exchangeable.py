"""Which tensors training made, and which of their axes hold units that might as well stand in another order.

All that is read of a net without roles are names, shapes and numbers. By these a tensor is left out

- that no training made: whole numbers and truth values, few distinct values (masks, blur kernels), buffers by name;
- whose rows are tokens or positions, by name;
- whose rows nothing reads *in one path*: no other tensor inside the module around the writer, or inside the sequence
  that this is a block of, has as many columns. Masks, tables and heads have as many rows as something elsewhere in the
  net has columns by chance;
- whose axis has an *order of its own*, as positions, patches, time and frequencies have, whatever they are called.
  Units that may be permuted are as much like their neighbours as like any other. `has_order` asks whether slices that
  stand side by side are more alike, whether what one reads oscillates along the axis, and whether norms drift, each
  held against orders drawn at random. Dropping a tensor by this can only lower the rate of false alarms, as long as it
  still counts among the tests that are corrected for;
- whose rows stand *as its columns do* in both nets: an identity that a matrix began with (Dirac's, of a recurrence), or
  a skip that was folded into a kernel for deployment (RepVGG, Ding et al., CVPR 2021, arXiv 2101.03697, section 3.3).
  Units that read mostly themselves are where they are in strangers too. `leaning` holds the ranks of each row's numbers
  on the diagonal, and on those beside it, against those of the whole row.

**What is shown.** That an axis may be permuted is shown for channels of convolutions and for hidden layers: a matrix
with more rows than columns, and after it, in the same module, another that has as many columns and is not square. For
all else (residual streams, the rows of attention's matrices, which stand in heads, square matrices, whose rows may be
anything) it is likely, and no more.
"""

from __future__ import annotations

import math
import re
from bisect import bisect
from collections.abc import Collection, Iterator
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.weights.pairing import spread

__all__ = ["LEAST", "ORDERED", "SLANTED", "Axes", "has_order", "lean_alike", "leaning", "natural", "reads"]

LEAST: Final = 8  # units below which no order is surprising
SEEN: Final = 256  # rows by which it is told what a tensor is
FEW: Final = 8  # values: below 4 bits no file is quantised tensor by tensor
LONGEST: Final = 4096  # units whose order is looked at
SLICES: Final = 32  # along which oscillations are looked for
DRAWS: Final = 100
TOGETHER: Final = 1 << 22  # numbers of draws that are made at a time
STEADY: Final = 4.0  # standard deviations of random orders
ASLANT: Final = 5.0  # the same of one among many diagonals, which a copy shares by chance
SMALL: Final = 1e-12

BUFFERS: Final = re.compile(
    "mask|masks|masked|tril|triu|index|indices|idx|ids|freq|freqs|inv|mel|melw|stft|fbank|filterbank|fb|window|hann|"
    "sinusoid|sin|cos|grid|anchors|coords|blur"
)
TABLES: Final = re.compile(
    "embed|embedding|embeddings|wte|token|tokens|vocab|shared|"  # tokens
    "wpe|pos|posembed|relpos|position|positions|positional|"
    "time|seasonal|trend|forecast|backcast|horizon"
)
HEADS: Final = re.compile("q|k|v|kv|qkv|wqkv|query|queries|key|keys|value|values|in|attn")
VECTORS: Final = "vectors and single numbers"
ORDERED: Final = "rows or columns with an order of their own"
SLANTED: Final = "rows that stand as the columns do"


def natural(name: str) -> list[tuple[int, str]]:
    """An order in which layer 10 comes after layer 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def has_order(rows: Tensor) -> bool:
    """Whether slices stand in an order of their own (module's docstring). Of long axes the first part is looked at.

    Shape:
        rows: ``[n, m]``.
    """
    rows = rows[:LONGEST].float()
    if len(rows) < LEAST:
        return False
    chance = torch.Generator().manual_seed(len(rows))
    centred = normalize(rows - rows.mean(0), dim=1)
    alike, sizes = centred @ centred.T, rows.norm(dim=1)
    sizes = sizes - sizes.mean()
    few = centred[:, spread(centred.shape[1], SLICES)]
    power = few.square().sum(0).clamp_min(SMALL)

    def told(orders: Tensor) -> Tensor:
        """Of each order the three figures: ``[draws, n]`` to ``[draws, 3]``."""
        near = sum(alike[orders[:, :-lag], orders[:, lag:]].sum(1) for lag in (1, 2))
        waves = ((few[orders[:, :-1]] * few[orders[:, 1:]]).sum(1) / power).square().sum(1)
        return torch.stack([torch.as_tensor(near), waves, (sizes[orders[:, :-1]] * sizes[orders[:, 1:]]).sum(1)], 1)

    keys = torch.rand(DRAWS, len(rows), generator=chance).argsort(1)
    drawn = torch.cat([told(some) for some in keys.split(max(1, TOGETHER // few.numel()))])
    excess = told(torch.arange(len(rows))[None])[0] - drawn.mean(0)
    return bool((excess > STEADY * drawn.std(0).clamp_min(SMALL)).any())


def leaning(value: Tensor) -> Tensor:
    """How far the numbers on each diagonal of a tensor stand out in their rows, in standard deviations.

    The diagonal ``s`` holds row i's number in column i + s, from the first column again after the last. What a column
    has in all rows, as a middle of a kernel may, is taken off.

    Shape:
        value: ``[n, m, k]``, k places of a kernel; the result is ``[m, k]``.
    """
    rows = torch.tensor(spread(len(value), SEEN))
    seen = value[rows].float().flatten(1)
    mixed = torch.randperm(seen.shape[1], generator=torch.Generator().manual_seed(len(value)))  # equal numbers tie
    ranks = torch.empty_like(seen)
    ranks[:, mixed] = seen[:, mixed].argsort(1).argsort(1).float()
    ranks = (ranks - ranks.mean(0)).view(len(rows), *value.shape[1:])
    width = value.shape[1]
    places = (rows[:, None] + torch.arange(width)) % width
    along = ranks.gather(1, places[:, :, None].expand(ranks.shape))
    return along.mean(0) * len(rows) ** 0.5 / ranks.square().mean().sqrt().clamp_min(SMALL)


def lean_alike(ours: Tensor, theirs: Tensor) -> bool:
    """Whether rows stand as the columns do in both of two tensors ``[n, m, k]`` of one shape, by one diagonal.

    Of a copy the second tensor says what the first does, so that it counts the less, the more alike the two are.
    """
    if ours.shape[1] < LEAST:
        return False
    one, two = leaning(ours), leaning(theirs)
    least = torch.minimum(one.abs(), two.abs()) * (one * two > 0)
    alike = torch.cosine_similarity(ours.flatten().float(), theirs.flatten().float(), 0, SMALL).clamp(0, 1)
    main = (one[0] + two[0]).abs() / (2 + 2 * float(alike)) ** 0.5  # of few rows no single tensor tells
    return bool(((main > STEADY) & (least[0] > 1)).any() or (least > ASLANT).any())


class Axes:
    """The axes of some tensors of a checkpoint.

    ``left_out`` are those that are no evidence, each with the reason; ``weights`` the others, in natural order, with
    their shapes; ``slanted`` those whose rows stand as their columns do: what a recurrent layer keeps, and
    what was found to be so in this net and in another.
    """

    weights: dict[str, tuple[int, ...]]

    def __init__(self, net: Checkpoint, names: Collection[str]) -> None:
        self.net = net
        self.names = sorted(names, key=natural)
        self.left_out: dict[str, str] = {}
        for name in self.names:
            if reason := self._unfit(name):
                self.left_out[name] = reason
        self._natural = {name: natural(name) for name in self.names}
        self.slanted: set[str] = set()
        self._order: dict[tuple[str, int], bool] = {}
        self.leave_out((), "")

    def _unfit(self, name: str) -> str:
        shape = self.net.entries[name].shape
        if len(shape) < 2:
            return VECTORS
        if _says(_last(name), BUFFERS):
            return "buffers, by name"
        if len(shape) == 2 and _says(_module(name), TABLES):
            return "rows that are tokens, positions or times, by name"
        seen = self.net.stored(name, spread(shape[0], SEEN)).flatten()
        if not seen.is_floating_point():
            return "whole numbers and truth values"
        values = seen[spread(len(seen), SEEN * SEEN)].float()
        return "few distinct or whole values" if _counted(values) else ""

    def vectors(self) -> set[str]:
        """Names of vectors that are long enough to be told from others, and are no buffers by name."""
        return {
            name
            for name, reason in self.left_out.items()
            if reason == VECTORS and max(self.net.entries[name].shape, default=0) >= LEAST
            if not _says(_last(name), BUFFERS)
        }

    def varied(self, name: str) -> bool:
        """Whether a vector has been trained, by its numbers: they are many, no whole ones, and in no order."""
        values = self.net.stored(name).flatten()
        return values.is_floating_point() and not _counted(values.float()) and not has_order(values.float()[:, None])

    def readers(self, path: str, name: str) -> Iterator[str]:
        """Tensors under a path that may read the rows of this one; under the empty path are all."""
        for its, held in self._by_shape.items():
            if its[0] > 1 and reads(its, self.weights[name]):
                first = bisect(held, path + ".") if path else 0
                last = bisect(held, path + "/") if path else len(held)
                yield from (held[place] for place in range(first, last) if held[place] != name)

    def read(self, name: str) -> bool:
        """Whether something reads the rows in one path: inside the module around it, or around that of a sequence."""
        path = _holder(name)
        if _module(name).isdigit():  # an item of a sequence, which the module around the sequence goes on from
            path = path.rpartition(".")[0]
        return any(self.readers(re.sub(r"(^|\.)\d+$", "", path), name))

    def shown(self, name: str) -> bool:
        """Whether rows that are read are shown to be units that may be permuted."""
        if _says(_module(name), HEADS):
            return False
        rows, inputs, *kernel = self.weights[name]
        if len(kernel) > 1 or math.prod(kernel) > 1:
            return True
        if rows <= inputs:
            return False
        shapes = ((other, self.weights[other]) for other in self.readers(_holder(name), name))
        return any(its[0] != its[1] and self._natural[other] > self._natural[name] for other, its in shapes)

    def leave_out(self, names: Collection[str], reason: str) -> None:
        """Take these for no evidence either."""
        self.left_out |= dict.fromkeys(names, reason)
        self.weights = {name: self.net.entries[name].shape for name in self.names if name not in self.left_out}
        self._by_shape: dict[tuple[int, ...], list[str]] = {}
        for name in sorted(self.weights):  # what one module holds stands together: a slash follows the dot
            self._by_shape.setdefault(self.weights[name], []).append(name)

    def order_of(self, name: str) -> str:
        """What was found of the order of its axes, in words; empty where nothing was."""
        if self._order.get((name, 0), False) or self._order.get((name, 1), False):
            return ORDERED
        return SLANTED if name in self.slanted else ""

    def others(self, name: str) -> Iterator[tuple[int, ...]]:
        """The shapes of all tensors but this one, each once."""
        return (its for its, held in self._by_shape.items() if held != [name])

    def ordered(self, name: str, axis: int, shape: tuple[int, ...] = ()) -> bool:
        """Whether rows (0) or columns (1), of another ``shape`` where that is given, stand in an order of their own."""
        if (name, axis) not in self._order:
            value = self.net.read(name).reshape(shape or self.weights[name])
            self._order[name, axis] = has_order(value.transpose(0, axis).flatten(1))
        return self._order[name, axis]


def reads(reader: tuple[int, ...], writer: tuple[int, ...]) -> bool:
    """Whether a tensor may read the rows of another; a dense layer reads a convolution's channels at several places."""
    rows, inputs = writer[0], reader[1]
    return inputs == rows or (len(writer) > 2 and len(reader) == 2 and inputs % rows == 0)


def _counted(values: Tensor) -> bool:
    return len(values.unique()) <= FEW or bool((values == values.round()).all())


def _last(name: str) -> str:
    return re.split(r"[./]", name)[-1]


def _module(name: str) -> str:
    """The module that a tensor belongs to, or the tensor itself where it is no weight of one."""
    parts = re.split(r"[./]", name)
    return parts[-2] if parts[-1] in ("weight", "kernel") and len(parts) > 1 else parts[-1]


def _holder(name: str) -> str:
    """The path of the module that holds the one a tensor belongs to."""
    parts = name.split(".")
    return ".".join(parts[: -2 if parts[-1] in ("weight", "kernel") else -1])


def _says(name: str, words: re.Pattern[str]) -> bool:
    return any(words.fullmatch(word) for word in re.split(r"[_\d]+", name.lower()))
