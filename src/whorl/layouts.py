"""What a tensor must be: its axes by name, its kind of numbers, and their bounds.

Schemes, samplers and representations declare the layouts of what they put into a fingerprint, so that a file that
breaks them ends in one line instead of a traceback, and cannot make a check take memory without end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from whorl.spaces import InputSpace

__all__ = ["Layout", "check_layouts", "finite"]

Kind = Literal["float32", "float64", "int64", "bool", "input"]
MOST_NUMBERS: Final = 1 << 30


@dataclass(frozen=True)
class Layout:
    """Axes, kind and bounds of a tensor.

    Parameters:
        axes: words joined by spaces. ``n`` counts queries, ``k`` the victim's classes and ``numbers`` those of one
            input; ``*input`` stands for the axes of one input; a number is that size, and words and numbers joined by
            ``*`` their product; any other word is a size that is the same wherever it stands, and the scheme's
            setting of that name where it has one; a last ``...`` stands for any further axes.
        kind: type of the numbers; ``input`` is that of the input space.
        low, high: bounds of the values, both included; a word for an index, which is below that size.
        optional: whether it may be missing.
    """

    axes: str
    kind: Kind = "float32"
    low: float | None = None
    high: float | str | None = None
    optional: bool = False

    def __str__(self) -> str:
        bounds = "" if self.low is None and self.high is None else f" in {self.low}..{self.high}"
        return f"{self.kind} [{', '.join(self.axes.split())}]{bounds}"


def check_layouts(tensors: Mapping[str, tuple[Layout, Tensor]], *, space: InputSpace, sizes: Mapping[str, int]) -> None:
    """Raise ValueError with the first tensor that breaks its layout.

    Parameters:
        tensors: name to what is declared and what is there.
        space: gives ``*input`` its axes.
        sizes: sizes of axes that are known: ``n``, ``k``, and the scheme's whole settings.
    """
    known = dict(sizes)
    # A product can be checked when its factors are known, in whatever order a file holds its tensors.
    for name, (layout, value) in sorted(tensors.items(), key=lambda item: _has_product(item[1][0])):
        if value.numel() > MOST_NUMBERS:
            raise ValueError(f"{name!r} holds {value.numel():,} numbers; at most {MOST_NUMBERS:,} are read")
        dtype = space.dtype if layout.kind == "input" else getattr(torch, layout.kind)
        if value.dtype != dtype or not _fits(layout, value, space, known):
            seen = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
            raise ValueError(f"{name!r} is {seen}; {layout} is needed")
    for name, (layout, value) in tensors.items():
        if value.numel():
            _check_bounds(name, layout, value, known)
            if layout.kind == "input" and (told := space.fault(value)):
                raise ValueError(f"{name!r}: {told}")


def _fits(layout: Layout, value: Tensor, space: InputSpace, known: dict[str, int]) -> bool:
    words: list[str | int] = []
    for word in layout.axes.split():
        words += space.shape if word == "*input" else [_size(word, known)]
    if words and words[-1] == "...":
        words = words[:-1]
        shape = list(value.shape[: len(words)])
    else:
        shape = list(value.shape)
    if len(shape) != len(words):
        return False
    pairs = zip(words, shape, strict=True)
    return all(size == (word if isinstance(word, int) else known.setdefault(word, size)) for word, size in pairs)


def _has_product(layout: Layout) -> bool:
    return any("*" in word for word in layout.axes.split() if word != "*input")


def _size(word: str, known: Mapping[str, int]) -> str | int:
    """A size that is known already, or the word that stands for it."""
    if "*" in word:
        return math.prod(int(each) if each.isdecimal() else known.get(each, -1) for each in word.split("*"))
    return int(word) if word.isdecimal() else word


def _check_bounds(name: str, layout: Layout, value: Tensor, known: Mapping[str, int]) -> None:
    if not finite(value):
        raise ValueError(f"{name!r} holds NaN or an infinity")
    low, high = layout.low, known[layout.high] - 1 if isinstance(layout.high, str) else layout.high
    least, most = float(value.min()), float(value.max())
    if (low is not None and least < low) or (high is not None and most > high):
        raise ValueError(f"{name!r} spans {least:g}..{most:g}; {low}..{high} is needed")


def finite(value: Tensor) -> bool:
    """Whether it holds neither NaN nor an infinity.

    Least and largest carry every such value, in a twentieth of the time that `torch.isfinite` takes and without its
    copies, which are as large as the tensor.
    """
    if not value.numel() or not value.is_floating_point():
        return True
    return all(bool(end.isfinite()) for end in (value if value.itemsize > 1 else value.float()).aminmax())
