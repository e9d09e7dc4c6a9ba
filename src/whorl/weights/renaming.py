"""Tensors that two nets call by other names, brought under one: what an export turns round and numbers anew.

Tensors are partners by name and shape, or by role, where they can be; then by what their names are after prefixes that
lead most names of either net (``model.``, ``0.auto_model.``). What is left is paired by content: matrices of one shape,
either of them turned round where that fits better, by the assignment of the largest total likeness, in which rows have
one length, as norms that were folded scale them. These count only where they are most of what a net has without a
partner, since filter banks and tables that both nets were given prove no more than that. Vectors follow that are equal
up to rounding, and where matrices lie the other way round, square ones of one name that do so too.

**The tests stay what they are.** A pairing that was chosen by content is one of those that could have been, and a
p-value that holds for each of them holds for the chosen one once it is multiplied by their number (Bonferroni): of m
tensors of one shape in one net and n in the other no more than (n + 1) to the m, and 2 to the m times that where either
way round fits. It is multiplied by `RARE` once more, so that those pairs of nets in which nothing is paired by content
keep all of the error rate but a thousandth.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from whorl.checkpoints.checkpoint import Checkpoint, UnusableTensor
from whorl.checkpoints.readers.adapter import Adapter
from whorl.checkpoints.roles import Weights
from whorl.checkpoints.views import View
from whorl.symmetry.alignment.assignment import assign
from whorl.weights.exchangeable import natural
from whorl.weights.pairing import spread

__all__ = ["Renamed", "renamed"]

DEEPEST: Final = 4  # words of a prefix
MOST: Final = 0.5  # of the names of a net that its prefix leads; of the numbers without a partner that find one
ALIKE: Final = 0.7  # cosine of two matrices that are one: 4 bits, and a tune, leave more
NEAR: Final = 2.0**-7  # of its length by which a vector may be off: bfloat16 rounds by half of that at most
SAMPLE: Final = 128  # rows, and columns, of a matrix that are looked at
LONGEST: Final = 1 << 14  # numbers of a vector that are
SHORTEST: Final = 4  # rows, and columns, of a matrix
MANY: Final = 4096  # tensors of one shape that are paired one to one; the cost grows with the cube
RARE: Final = math.log(1000)

Shape = tuple[int, ...]
Names = Sequence[str]


class _Partner(NamedTuple):
    ours: str
    theirs: str
    turned: bool = False


@dataclass(frozen=True)
class Renamed:
    """Two nets, of which one has taken the other's names.

    ``ways`` is the natural logarithm of what p-values have to be multiplied by, as partners were chosen by content.
    """

    first: Checkpoint
    second: Checkpoint
    ways: float = 0.0


def renamed(first: Checkpoint, second: Checkpoint) -> Renamed:
    """Bring partners under one name: that of the net with more roles, or names of modules. An adapter keeps its own."""
    one, two = Weights(first), Weights(second)
    left = _left(one, two)
    if not all(left):
        return Renamed(first, second)
    partners = _by_prefix(first, second)
    taken = {each.ours for each in partners}, {each.theirs for each in partners}
    rest = [[name for name in names if name not in but] for names, but in zip(left, taken, strict=True)]
    content, ways = _by_content(one, two, rest[0], rest[1])
    if any(each.turned for each in content):
        squares = _squares(one, two, {each.ours for each in partners})
        content += _turned_squares(first, second, squares)
        ways += len(squares) * math.log(2)
    partners += content
    swapped = _named(one) < _named(two)
    if not partners or isinstance(first if swapped else second, Adapter):
        return Renamed(first, second)
    if swapped:
        return Renamed(_view(first, {each.ours: (each.theirs, each.turned) for each in partners}), second, ways)
    return Renamed(first, _view(second, {each.theirs: (each.ours, each.turned) for each in partners}), ways)


def _named(net: Weights) -> tuple[int, int]:
    return len(net.structure.parts), sum("." in name for name in net.checkpoint.entries)


def _view(net: Checkpoint, names: Mapping[str, tuple[str, bool]]) -> Checkpoint:
    """A net under other names, but for those that it has for something else."""
    kept = dict(names)
    while clash := {new for new, _ in kept.values()} & (net.entries.keys() - kept.keys()):
        kept = {own: new for own, new in kept.items() if new[0] not in clash}
    own = {kept[name][0] if name in kept else name: name for name in net.entries}
    turned = frozenset(new for new, turned in kept.values() if turned)
    return View(net, own, net.prefix if isinstance(net, View) else "", turned)


def _left(one: Weights, two: Weights) -> tuple[list[str], list[str]]:
    """Tensors of each net that have no partner of their shape by name or by role; whole numbers are none."""
    keys = [key for key in one.structure.parts if key in two and one.shape(*key) == two.shape(*key)]
    ours, theirs = one.checkpoint.entries, two.checkpoint.entries
    same = {name for name, entry in ours.items() if name in theirs and theirs[name].shape == entry.shape}
    found = []
    for net in (one, two):
        held = same | {net.structure.parts[key].tensor for key in keys}
        entries = net.checkpoint.entries
        found.append([name for name in sorted(entries, key=natural) if name not in held and not entries[name].whole])
    return found[0], found[1]


def _by_prefix(first: Checkpoint, second: Checkpoint) -> list[_Partner]:
    """All partners by names after the prefixes of either net that leave most partners; none where plain names do."""
    best: list[_Partner] = []
    most = sum(_shape(second, name) == entry.shape for name, entry in first.entries.items())
    for ours, theirs in product(_prefixes(first), _prefixes(second)):
        pairs = (_Partner(name, theirs + name.removeprefix(ours)) for name in first.entries if name.startswith(ours))
        found = [pair for pair in pairs if _shape(second, pair.theirs) == first.entries[pair.ours].shape]
        if len(found) > max(most, len(best)):
            best = found
    return best


def _shape(net: Checkpoint, name: str) -> Shape | None:
    return net.entries[name].shape if name in net.entries else None


def _prefixes(net: Checkpoint) -> list[str]:
    """What most names begin with, the shortest first; so does the empty one."""
    counts: Counter[str] = Counter()
    for name in net.entries:
        words = name.split(".")
        counts.update(
            "".join(f"{word}." for word in words[:depth]) for depth in range(min(DEEPEST, len(words) - 1) + 1)
        )
    found = [prefix for prefix, count in counts.items() if count >= MOST * len(net.entries)]
    return sorted(found, key=len)


def _by_content(one: Weights, two: Weights, ours: Names, theirs: Names) -> tuple[list[_Partner], float]:
    """Partners among these, and the logarithm of the number of pairings that there could have been.

    What has roles in both nets, and others, is told by these: a dense layer and the expert that was made of it.
    """
    first, second = one.checkpoint, two.checkpoint
    roled = [{part.tensor for part in net.structure.parts.values()} for net in (one, two)]
    groups = [_grouped(net, names) for net, names in ((first, ours), (second, theirs))]
    found: list[_Partner] = []
    ways = RARE
    for kind in (kind for kind in groups[0] if kind in groups[1]):
        held = groups[0][kind], groups[1][kind]
        few, many = sorted(map(len, held))
        if many <= MANY:
            pairs = _matrices(first, second, held[0], held[1])
            found += [each for each in pairs if not (each.ours in roled[0] and each.theirs in roled[1])]
            ways += few * math.log((many + 1) * (2 if len(set(kind)) < len(kind) == 2 else 1))
    matrices = [{name for some in each.values() for name in some} for each in groups]
    least = min(_numbers(net, names) for net, names in zip((first, second), matrices, strict=True))
    if _numbers(first, [each.ours for each in found]) < MOST * least:
        return [], 0.0
    rest = [[name for name in names if name not in but] for names, but in zip((ours, theirs), matrices, strict=True)]
    return [*found, *_vectors(first, second, rest[0], rest[1])], ways if found else 0.0


def _squares(one: Weights, two: Weights, but: Collection[str]) -> list[str]:
    """Square matrices of one name in both nets, of which shapes do not tell which way round they lie."""
    ours, theirs = one.checkpoint.entries, two.checkpoint.entries
    roled = {part.tensor for net in (one, two) for part in net.structure.parts.values()}
    squares = {name for name, entry in ours.items() if len(entry.shape) == 2 and entry.shape[0] == entry.shape[1]}
    fit = (name for name in squares - roled if name in theirs and theirs[name].shape == ours[name].shape)
    return sorted(name for name in fit if name not in but and ours[name].shape[0] >= SHORTEST)


def _turned_squares(first: Checkpoint, second: Checkpoint, names: Names) -> Iterator[_Partner]:
    """Those of them that are more alike the other way round, in two nets of which other matrices are."""
    for name in names:
        shape = first.entries[name].shape
        one = _sample(first, name, shape, False)
        straight, turned = (float(one @ _sample(second, name, shape, way)) for way in (False, True))
        if turned >= ALIKE and turned > straight:
            yield _Partner(name, name, True)


def _numbers(net: Checkpoint, names: Iterable[str]) -> int:
    return sum(prod(net.entries[name].shape) for name in names)


def _grouped(net: Checkpoint, names: Names) -> dict[Shape, list[str]]:
    """Matrices and kernels by shape; a matrix may lie either way round."""
    found: dict[Shape, list[str]] = {}
    for name in names:
        shape = net.entries[name].shape
        if len(shape) > 1 and shape[0] >= SHORTEST and prod(shape[1:]) >= SHORTEST:
            found.setdefault(tuple(sorted(shape)) if len(shape) == 2 else shape, []).append(name)
    return found


def _matrices(first: Checkpoint, second: Checkpoint, ours: Names, theirs: Names) -> Iterator[_Partner]:
    """Partners of one shape, or of shapes that are each other's turned round."""
    shape = first.entries[ours[0]].shape
    likeness = torch.full((2, len(ours), len(theirs)), -torch.inf)
    for turned in (False, True) if len(shape) == 2 else (False,):
        for way in {shape, shape[::-1]} if len(shape) == 2 else {shape}:
            ones = [place for place, name in enumerate(ours) if first.entries[name].shape == way]
            twos = [
                place
                for place, name in enumerate(theirs)
                if second.entries[name].shape == (way[::-1] if turned else way)
            ]
            if ones and twos:
                one = torch.stack([_sample(first, ours[place], way, False) for place in ones])
                two = torch.stack([_sample(second, theirs[place], way, turned) for place in twos])
                likeness[int(turned), torch.tensor(ones)[:, None], torch.tensor(twos)] = one @ two.T
    best, way = likeness.max(0)
    for place, partner in enumerate(map(int, assign(best.clamp_min(-1)))):
        if partner >= 0 and best[place, partner] >= ALIKE:
            yield _Partner(ours[place], theirs[partner], bool(way[place, partner]))


def _sample(net: Checkpoint, name: str, shape: Shape, turned: bool) -> Tensor:
    """Some numbers of what a tensor is in this shape, rows of one length, of length 1 in all; 0 of an unusable one."""
    rows, columns = spread(shape[0], SAMPLE), spread(prod(shape[1:]), SAMPLE)
    try:
        value = net.read(name, columns if turned else rows).flatten(1)
    except UnusableTensor:
        return torch.zeros(len(rows) * len(columns))
    value = value[:, rows].T if turned else value[:, columns]
    return normalize(normalize(value, dim=1).flatten(), dim=0)


def _vectors(first: Checkpoint, second: Checkpoint, ours: Names, theirs: Names) -> Iterator[_Partner]:
    """Partners among what is no matrix, equal up to rounding."""
    shapes = [{name: net.entries[name].shape for name in names} for net, names in ((first, ours), (second, theirs))]
    for shape in dict.fromkeys(shapes[0].values()):
        held = [[name for name, its in each.items() if its == shape] for each in shapes]
        if not held[1] or max(map(len, held)) > MANY:
            continue
        one, two = (
            torch.stack([_start(net, name) for name in names]) for net, names in zip((first, second), held, strict=True)
        )
        off = torch.cdist(one, two, compute_mode="donot_use_mm_for_euclid_dist")
        far = off > NEAR * one.norm(dim=1, keepdim=True)
        for place, partner in enumerate(map(int, assign(-off.nan_to_num(torch.finfo().max)))):
            if partner >= 0 and not far[place, partner]:
                yield _Partner(held[0][place], held[1][partner])


def _start(net: Checkpoint, name: str) -> Tensor:
    try:
        return net.read(name).flatten()[:LONGEST]
    except UnusableTensor:
        return torch.full((min(LONGEST, prod(net.entries[name].shape)),), torch.nan)
