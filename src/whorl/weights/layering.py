"""The path of layers: which layer of B comes from which layer of A, though some were dropped, added, doubled or moved.

It rests on how alike each two layers are (`whorl.weights.pairing.layer_similarity`), of which only what stands out
counts: `evidence`. Two alignments are held against each other (`align`): the best that keeps the order, with gaps, by
dynamic programming (after GhostSpec's alignment of layers, AAAI 2026, arXiv 2511.06390, with no penalty, since what
does not stand out counts nothing), and the best that need not keep it. Layers that are left over are copies of one
that has its partner, or have none, or it cannot be told.

**Who came first where a layer was doubled** (`expansion`). Layers of one net are drawn apart and stay apart, so two
near copies of each other inside one net mean that this net was expanded. The other net, which has but one of the two,
may be what it was expanded from; it may as well be what is left of it after one copy was dropped. The three layers
tell: let copies x and y belong to one net, z to the other, and c be where the three parted. Where what each learned
since is orthogonal, as it nearly is in many dimensions, |x - z|^2 = |x - c|^2 + |z - c|^2 and so on, so that
|z - c|^2 = <x - z, y - z>. If z is where they parted, and both copies have left it, the copies were made of z: its net
came first. If x is where they parted, either net may have been: y was dropped beside it, or trained while x was
frozen; nothing is told. Nor is it where z has moved too (both nets left an ancestor, or one copy was dropped and the
other tuned), or where the copies are equal and z is not. If all three are equal, expansion is what is told: copies
are trained after they are made, and who drops a layer seldom drops one that was just doubled. Dropping a layer leaves
no such trace: without copies it cannot be told from adding one that was trained from fresh weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import torch
from torch import Tensor

from whorl.checkpoints.roles import Key, Weights
from whorl.symmetry.alignment.assignment import assign
from whorl.weights.pairing import Basis, layer_similarity, spread

__all__ = [
    "Copied",
    "Expansion",
    "LayerMap",
    "Layering",
    "Side",
    "align",
    "evidence",
    "expansion",
    "monotone",
    "parted",
]

Side = Literal["A", "B"]

# Chosen on four-layer and two-layer nets of seed 300: layers that belong together stand out by .13 or more
# (noise as large as the weights, or half a stranger merged in), others by .08 or less.
CLEAR: Final = 0.1
LOW: Final = 0.25  # of what layers that have a partner stand out by: below, a layer has none
COPY: Final = 0.5  # of what its twin stands out by: above, a layer that is left over is a copy
ROWS: Final = 512  # of each matrix, by which three layers are compared
WRITERS: Final = ("output", "down")
READERS: Final = ("query", "key", "value", "gate", "up")  # those that a silent copy keeps too
# Of all that three layers moved, chosen on seed 300: z moved at most .08 where the copies were made of it, at least .18
# where an ancestor was left; each copy at least .4 where they were made of z, at most .03 where z is one of them.
STAYED, LEFT = 0.12, 0.1
EQUAL: Final = 2e-6  # of a layer's square: rounding to bfloat16


@dataclass(frozen=True)
class Layering:
    """For each layer of B the layer of A that it comes from (``origins``), and for each of A where it is in B.

    Of a layer and its copies one is the partner of the layer on the other side (``partners``, pairs of A and B), and
    all have it as origin. ``lost`` layers of A and ``new`` ones of B have no counterpart; a layer without an origin
    that is not among them cannot be told. ``ordered`` says whether the partners follow each other alike in both nets.
    """

    partners: tuple[tuple[int, int], ...]
    origins: tuple[int | None, ...]
    homes: tuple[int | None, ...]
    lost: tuple[int, ...]
    new: tuple[int, ...]
    ordered: bool

    def copies(self) -> list[tuple[Side, int, tuple[int, ...]]]:
        """Layers of the other net that are several of ``A`` or ``B``, as (net, layer of the other, its copies)."""
        found: list[tuple[Side, int, tuple[int, ...]]] = []
        sides: list[tuple[Side, Sequence[int | None], list[tuple[int, int]]]] = [
            ("B", self.origins, list(self.partners)),
            ("A", self.homes, [(b, a) for a, b in self.partners]),
        ]
        for side, places, pairs in sides:
            for layer, partner in sorted(pairs):
                copies = {partner} | {place for place, origin in enumerate(places) if origin == layer}
                if len(copies) > 1:
                    found.append((side, layer, tuple(sorted(copies))))
        return found


def evidence(similarity: Tensor) -> Tensor:
    """By how much each pair of layers is more alike than the others of its row and its column are.

    The level is the larger of the lower quartiles of the two: layers may have copies, and some are like many.

    Shape:
        similarity: ``[n + 1, m]``, the last row that of chance; returns ``[n, m]``.
    """
    count, wide = len(similarity) - 1, similarity.shape[1]
    level = torch.empty(count, wide)
    for row in range(count):
        for column in range(wide):
            others = torch.cat([similarity[:row, column], similarity[row + 1 :, column]])
            beside = torch.cat([similarity[row, :column], similarity[row, column + 1 :]])
            # The one layer of a net may be all layers of the other.
            level[row, column] = max(_quartile(others), _quartile(beside) if count > 1 else -1.0)
    return similarity[:-1] - level


def align(evidence: Tensor) -> Layering:
    """The path of layers, from how much each two stand out.

    Shape:
        evidence: ``[layers of A, layers of B]``.
    """
    worth = (evidence - CLEAR).clamp_min(0)
    kept, free = monotone(worth), _assigned(worth)
    gain = _total(worth, free) - _total(worth, kept)
    ordered = not free or gain <= COPY * _total(worth, free) / len(free)
    partners = kept if ordered else free
    typical = sorted(float(evidence[pair]) for pair in partners)[len(partners) // 2] if partners else 0.0
    origins, new = _left_over(evidence.T, [(b, a) for a, b in partners], typical)
    homes, lost = _left_over(evidence, partners, typical)
    return Layering(tuple(partners), tuple(origins), tuple(homes), tuple(lost), tuple(new), ordered)


def monotone(worth: Tensor) -> list[tuple[int, int]]:
    """Pairs of rows and columns, both ascending, of the largest sum; pairs that are worth nothing are left out.

    Shape:
        worth: ``[n, m]``, not below 0.
    """
    n, m = worth.shape
    best = torch.zeros(n + 1, m + 1, dtype=torch.float64)
    for row in range(n):
        for column in range(m):
            matched = best[row, column] + worth[row, column]
            best[row + 1, column + 1] = max(matched, best[row, column + 1], best[row + 1, column])
    pairs: list[tuple[int, int]] = []
    while n and m:
        if best[n, m] == best[n - 1, m]:
            n -= 1
        elif best[n, m] == best[n, m - 1]:
            m -= 1
        else:
            n, m = n - 1, m - 1
            pairs.append((n, m))
    return pairs[::-1]


def _assigned(worth: Tensor) -> list[tuple[int, int]]:
    chance = torch.Generator().manual_seed(len(worth))  # layers that are one as the other are in no order
    columns = assign(worth, generator=chance).tolist()
    return [(row, column) for row, column in enumerate(columns) if column >= 0 and worth[row, column] > 0]


def _left_over(
    evidence: Tensor, partners: Sequence[tuple[int, int]], typical: float
) -> tuple[list[int | None], list[int]]:
    """For each row its column or that of its twin, and the rows that certainly have none."""
    own = dict(partners)
    taken = {column: float(evidence[row, column]) for row, column in partners}
    places: list[int | None] = []
    for row, values in enumerate(evidence):
        column = own.get(row, int(values.argmax()))
        is_copy = float(values[column]) > max(CLEAR, COPY * taken.get(column, torch.inf))
        places.append(column if row in own or is_copy else None)
    return places, [row for row, at in enumerate(places) if at is None and evidence[row].max() < LOW * typical]


def _total(worth: Tensor, pairs: Sequence[tuple[int, int]]) -> float:
    return sum(float(worth[pair]) for pair in pairs)


def _quartile(values: Tensor) -> float:
    return float(values.sort().values[(len(values) - 1) // 4]) if len(values) else -1.0


@dataclass(frozen=True)
class Expansion:
    """Two near copies x, y inside one net and a layer z of the other: how far each is from where the three parted.

    Squares of distances, as shares of z's own square; ``first`` says whether z is where the copies were made.
    """

    copies: tuple[float, float]
    other: float

    @property
    def first(self) -> bool:
        """Whether the net that has the layer once came first."""
        return self.both_left and self.other <= max(EQUAL, STAYED * self._moved)

    @property
    def both_left(self) -> bool:
        """Whether both copies have left it, or all three are equal: then it is none of them, taken out."""
        return max(*self.copies, self.other) < EQUAL or min(self.copies) >= LEFT * self._moved > 0

    @property
    def _moved(self) -> float:
        return sum(max(0.0, length) for length in (*self.copies, self.other))


def expansion(net: Weights, copies: tuple[int, int], other: Weights, layer: int) -> Expansion | None:
    """Where two layers of a net and one of another parted (module's docstring). None where their shapes differ."""
    trios = [_same_rows([(net, copies[0]), (net, copies[1]), (other, layer)], role) for role in READERS]
    return None if any(trio is None for trio in trios) else parted([trio for trio in trios if trio])


def parted(trios: Iterable[Sequence[Tensor]]) -> Expansion | None:
    """Where two copies x, y and a tensor z of another net parted, over several such; None where there is none.

    Shape:
        trios: of x, y and z each, all of one shape.
    """
    sums = torch.zeros(4, dtype=torch.float64)
    for x, y, z in (tuple(each.double() for each in trio) for trio in trios if trio):
        products = ((y - x) * (z - x), (x - y) * (z - y), (x - z) * (y - z), z * z)
        sums += torch.stack([each.sum() for each in products])
    if not sums[3]:
        return None
    at = (sums[:3] / sums[3]).tolist()
    return Expansion((at[0], at[1]), at[2])


def _same_rows(places: Sequence[tuple[Weights, int]], role: str) -> list[Tensor] | None:
    """Some rows of one role in several layers; empty where one has no such part, None where shapes differ."""
    keys = [(net, key) for net, layer in places if (key := _key(net, role, layer))]
    if len(keys) < len(places):
        return []
    if len({net.shape(*key) for net, key in keys}) > 1:
        return None
    rows = spread(keys[0][0].rows(*keys[0][1]), ROWS)
    return [net.read(*key, rows=rows) for net, key in keys]


def _key(net: Weights, role: str, layer: int) -> Key | None:
    held = [key for key in net.structure.parts if key.role == role and key.layer == layer]
    return min(held, key=lambda key: key.expert) if held else None


@dataclass(frozen=True)
class Copied:
    """Layers of the net ``side`` that are one ``layer`` of the other; ``first`` where the other net came first."""

    side: Side
    layer: int
    places: tuple[int, ...]
    first: bool


class LayerMap:
    """The path of layers between two nets, computed when it is asked for: that reads all layers of B."""

    def __init__(self, first: Weights, second: Weights, axes: Basis) -> None:
        self.first, self.second, self.axes = first, second, axes

    @cached_property
    def similarity(self) -> Tensor:
        """How alike each two layers are: [layers of A + 1, layers of B]."""
        return layer_similarity(self.first, self.second, self.axes)

    @cached_property
    def path(self) -> Layering:
        """Which layer comes from which."""
        return align(evidence(self.similarity))

    @property
    def looked_at(self) -> bool:
        """Whether anything made somebody look: other depths, or layers that are not in their places."""
        return "similarity" in self.__dict__

    @cached_property
    def copied(self) -> tuple[Copied, ...]:
        """Layers that were doubled, and whether the net without the copies came first."""
        found: list[Copied] = []
        for side, layer, places in self.path.copies():
            net, other = (self.second, self.first) if side == "B" else (self.first, self.second)
            seen = expansion(net, (places[0], places[1]), other, layer)
            found.append(Copied(side, layer, places, seen is not None and seen.first))
        return tuple(found)

    def pairs(self, chosen: Sequence[int]) -> dict[int, int]:
        """The layer of B for each chosen layer of A: the same where both have as many, else the most similar one."""
        if self.first.structure.layers == self.second.structure.layers:
            return {layer: layer for layer in chosen}
        return self.moved(chosen)

    def moved(self, chosen: Sequence[int]) -> dict[int, int]:
        """The most similar layer of B for each chosen layer of A."""
        ours = {layer for layer, _ in self.first.structure.mlps()}
        chance = torch.Generator().manual_seed(0)  # among layers of B that are one as the other the choice is drawn
        order = torch.randperm(self.similarity.shape[1], generator=chance)
        return {layer: int(order[self.similarity[layer, order].argmax()]) for layer in chosen if layer in ours}

    def settled(self, held: dict[int, int]) -> dict[int, int]:
        """The same pairs, but of several copies in B the one whose outputs are A's: a silent copy has none at first."""
        for each in self.copied if self.looked_at else ():
            if each.side == "B" and each.layer in held:
                held = held | {each.layer: min(each.places, key=lambda place: self._apart(each.layer, place))}
        return held

    def _apart(self, layer: int, place: int) -> float:
        """Square of the distance of what two layers write."""
        pairs = (_same_rows([(self.first, layer), (self.second, place)], role) for role in WRITERS)
        return sum(float((pair[1] - pair[0]).square().sum()) for pair in pairs if pair)
