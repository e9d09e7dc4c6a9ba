"""What happened between two related nets, in words, and which of them came first.

Operations are read from how tensors changed (`whorl.weights.changes`), from the plans of the two nets, and from which
symmetry a test of independence found broken. Some say who came first: nobody adds what quantisation and pruning threw
away. Where nothing says so, or two things disagree, the direction is `undetermined`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from statistics import median
from typing import Final, Literal

from whorl.checkpoints.roles import Structure, Weights
from whorl.weights.changes import TensorChange, weighted
from whorl.weights.differences import unequal
from whorl.weights.findings import Finding
from whorl.weights.layering import Copied, Layering, LayerMap
from whorl.weights.operation import FIRST, Direction, Operation
from whorl.weights.parting import Parting
from whorl.weights.plans import plans

__all__ = [
    "Direction",
    "Operation",
    "Relation",
    "branch_point",
    "direction",
    "operations",
    "relation",
    "same_plan",
    "telling",
]

Relation = Literal["descent", "common ancestor", "undetermined"]
HIDDEN: Final = ("gate", "up", "down")
HEADS: Final = (("query", "key"), ("value", "output"))  # what a change of basis inside of heads turns together
ATTENTION: Final = (*HEADS[0], *HEADS[1])
# Chosen on seed 300 and 301 of the tiny language models: above .99 and below .41 there.
SAME_BASIS, OTHER_BASIS = 0.9, 0.7
LEAST: Final = 1024  # elements of a tensor that counts where roles are unknown
# How far the branch point of siblings may be from 1/2: chosen on seeds of the tiny language models below 100, and
# measured on others (docs/lineage-measured.md). The estimate has no error rate.
AT_MIDDLE: Final = 0.15
SURE: Final = 1 / 12  # largest standard error of a branch point that is told
STRAIGHT: Final = 1e-6  # of 1 - cosine: two tensors that differ in their lengths alone
OUT: Final = 3.0  # times the movement of the rest, that numbers are large which were taken away
UNCHANGED: Final = 0.9999  # of what pruning left is equal where nothing else happened
EXACT: Final = 0.02
ELSEWHERE: Final = 0.5  # cosine of a tensor with the one of its name, below which its units may stand elsewhere
WHOLLY: Final = 2.0  # of its size by which a tensor is told to have moved at most: some were zero
REWRITTEN: Final = 1e-5  # of a matrix by which it may differ from one that was multiplied in another order
NAMED: Final = 3  # tensors that are named where many could be
ROUNDINGS: Final = {  # the same, of a matrix in half precision: the gap between two neighbours
    frozenset({"F16", "FLOAT16"}): 2.0**-10,
    frozenset({"BF16", "BFLOAT16"}): 2.0**-7,
}
ALIKE: Final = 6.0  # standard errors of a cosine by which two tensors are related


def operations(
    nets: tuple[Weights, Weights],
    layers: Sequence[tuple[int, int]],
    changes: Sequence[TensorChange],
    found: Sequence[Finding],
    places: LayerMap | None = None,
) -> list[Operation]:
    """Everything that can be told, the plans of the two nets first.

    ``layers`` are those of A that were found in B, with the layer of B. ``places`` are asked for the path of layers
    where somebody had to look for layers.
    """
    path = places.path if places is not None and places.looked_at else None
    if path is not None and places is not None and path.partners:
        moved = layered(path, places.copied)
    else:
        moved = _moved(nets[0].structure, nets[1].structure, layers)
    told = [*plans(*nets, layers, places), *moved, *_symmetries(found, changes)]
    disguised = any(each.kind.disguise for each in told)
    matrices = [change for change in changes if change.elements > 1 and not disguised]
    if turned := _turned_heads(matrices):
        words = f"{', '.join(turned)} have another basis, hidden layers have not: permuted, mixed or negated"
        rest = [change for change in matrices if _role(change).removesuffix("_bias") not in ATTENTION]
        same = all(change.equal for change in rest)
        told.append(Operation("reordered heads", f"{words}; all else is equal" if same else words))
        matrices = [] if same else rest
    if folded := [change for change in matrices if change.folded]:
        words = f"the gains of norms are in the matrices beside them, in one net alone: {len(folded)} tensors"
        rounding = _rounding(nets)
        matrices = [change for change in matrices if not (change.folded and change.relative < rounding)]
        same = all(change.equal for change in matrices)
        told.append(Operation("folded norms", f"{words}; all else is equal" if same else words))
        matrices = [] if same else matrices
    return told + (_tensors(matrices, nets) if matrices else [])


def _turned_heads(changes: Sequence[TensorChange]) -> list[str]:
    """Pairs of attention's matrices that were permuted, mixed or negated together while hidden layers were not.

    Matrices that changed within few directions are left out: an update of low rank may be large.
    """
    if _cosine(changes, HIDDEN) < SAME_BASIS:
        return []
    full = [change for change in changes if change.rank is None]
    return [" and ".join(roles) for roles in HEADS if _cosine(full, roles) < OTHER_BASIS]


def _cosine(changes: Sequence[TensorChange], roles: Sequence[str]) -> float:
    """Mean over the tensors of these roles; 1 where there are none."""
    chosen = [each for each in changes if _role(each) in roles]
    return weighted(chosen, "cosine") if chosen else 1.0


def _role(change: TensorChange) -> str:
    """The role of a tensor of a layer, without its expert; its name where it has none."""
    return change.name.rpartition(" ")[2].partition(".")[0]


def direction(told: Sequence[Operation], parted: Parting | None) -> Direction:
    """Who came first: what was lost or added says so; where nothing does, the movement (`whorl.weights.parting`).

    A loss alone says that the loser did not come first, and hides where on the way the two parted.
    """
    sides: set[Direction] = {each.first for each in told if each.first != "undetermined"}
    if sides:
        return sides.pop() if len(sides) == 1 else "undetermined"
    return "undetermined" if parted is None or any(each.kind.lossy for each in told) else parted.first


def relation(first: Direction, branch: float | None) -> Relation:
    """Descent where one came first, a common ancestor where both left it about as far."""
    if first != "undetermined":
        return "descent"
    return "common ancestor" if branch is not None and abs(branch - 0.5) <= AT_MIDDLE else "undetermined"


def branch_point(changes: Sequence[TensorChange]) -> float | None:
    """Where on the way from A to B their common ancestor lies: 0 at A, 1 at B, in between on neither.

    Let A = C + a and B = C + b, with an ancestor C and what each has learned since. Where a, b and C are orthogonal, as
    they nearly are in many dimensions, <A - B, A> / |A - B|^2 = |a|^2 / (|a|^2 + |b|^2). Two nets of one initialisation
    have 1/2, a fine-tuned net and its base 0. An estimate that decides nothing: weight decay moves it from 0 upwards,
    growing weights downwards, and pruning, which leaves out what is B's own, to 1. It is taken over hidden layers,
    which decay moves least (`telling`).

    A change of n numbers that has nothing to do with A, as rounding has, is along A by chance: the standard error is
    |A| / (|A - B| sqrt(n)). None where that is above `SURE`: less moved than tells where from.
    """
    chosen = telling(changes)
    weights = [each.relative**2 * each.elements for each in chosen]
    if sum(weights) < SURE**-2:
        return None
    return sum(each.branch * weight for each, weight in zip(chosen, weights, strict=True) if each.branch) / sum(weights)


def telling(changes: Sequence[TensorChange]) -> list[TensorChange]:
    """Those that tell where two nets parted: hidden layers, or large tensors where roles are not known.

    Tensors that are no more alike than those of strangers tell no ancestor.
    """
    roles = any(each.name.startswith("layer ") for each in changes)
    return [
        each
        for each in changes
        if each.branch is not None
        and not _scaled(each)
        and each.cosine * each.elements**0.5 > ALIKE
        and (_role(each) in HIDDEN if roles else each.elements > LEAST)
    ]


def layered(path: Layering, copied: Sequence[Copied]) -> list[Operation]:
    """What became of layers, by their path. A layer of which nothing is sure is in none of these."""
    told: list[Operation] = []
    if path.lost:
        told.append(Operation("layers dropped", f"A's {_listed(path.lost)} not in B"))
    for side, other in (("B", "A"), ("A", "B")):
        several = [each for each in copied if each.side == side]
        first: Direction = "undetermined"
        if 2 * sum(each.first for each in several) > len(several):
            first = FIRST[side == "B"]
        if several:
            pairs = ", ".join(f"{other}'s {each.layer} is {side}'s {_listed(each.places)}" for each in several)
            told.append(Operation("layers duplicated", pairs, first))
    if path.new:
        told.append(Operation("layers inserted", f"B's {_listed(path.new)} with no origin in A"))
    if not path.ordered:
        order = ", ".join(str(layer) for layer, _ in sorted(path.partners, key=lambda pair: pair[1]))
        told.append(Operation("layers reordered", f"A's layers in B's order: {order}"))
    return told


def _listed(layers: Sequence[int]) -> str:
    return " and ".join([", ".join(map(str, layers[:-1])), str(layers[-1])] if len(layers) > 1 else [str(layers[0])])


def _moved(ours: Structure, theirs: Structure, layers: Sequence[tuple[int, int]]) -> list[Operation]:
    """Layers that stand elsewhere, by those that were read."""
    order = [place for _, place in layers]
    told: list[Operation] = []
    if ours.layers == theirs.layers and any(layer != place for layer, place in layers):
        pairs = ", ".join(f"{layer} is {place}" for layer, place in layers if layer != place)
        told.append(Operation("layers reordered", f"of A's layers, in B: {pairs}"))
    elif order != sorted(order):
        told.append(Operation("layers reordered", "layers of A follow each other in another order in B"))
    return told


def _symmetries(found: Sequence[Finding], changes: Sequence[TensorChange]) -> list[Operation]:
    """What matching finds intact and a test of places or signs does not.

    Places alone do not tell: of maps of two columns they are lost by a little tuning. Of tensors that are compared by
    name, the numbers must be others too, and a matching must find them again.
    """
    shares = {each.test: sum(seen.share for seen in each.observations) / len(each.observations) for each in found}
    matched = shares.get("two matchings", shares.get("matched units", 0.0))
    if matched < 0.1:
        return []
    told: list[Operation] = []
    if shares.get("gated signs", 1.0) < 0.5 + matched / 4:
        told.append(Operation("signs flipped", "the ungated branch has other signs"))
    places = [seen for each in found if each.test in ("unit places", "row places") for seen in each.observations]
    again = {
        seen.name for each in found if each.test == "two matchings" for seen in each.observations if seen.share > 0.5
    }
    others = {change.name for change in changes if change.cosine < ELSEWHERE}
    moved = {seen.name for seen in places if seen.share < 0.5} & again & others
    roles = [seen.share for seen in places if not seen.name]
    if moved or (roles and median(roles) < matched / 2):
        told.append(Operation("reordered units", "hidden units stand elsewhere, or the residual stream was turned"))
    if shares.get("axis places", 1.0) < matched / 2:
        told.append(Operation("reordered axes", "the residual stream was permuted or turned, or the embedding is new"))
    return told


def _types(first: Weights, second: Weights) -> tuple[str, str]:
    """The types that tensors are stored in."""
    one, two = (", ".join(sorted({each.dtype for each in net.checkpoint.entries.values()})) for net in (first, second))
    return one, two


def _rounding(nets: tuple[Weights, Weights]) -> float:
    """Of a matrix by which it may differ where it was multiplied and then stored in the coarser type of two nets."""
    words = {each.dtype.upper() for net in nets for each in net.checkpoint.entries.values() if len(each.shape) > 1}
    return max((size for types, size in ROUNDINGS.items() if words & types), default=REWRITTEN)


def same_plan(first: Weights, second: Weights) -> bool:
    """Whether all that one net has, the other has in the same shape: only then can they be equal as a whole."""
    if first.structure.known and second.structure.known:
        ours, theirs = ({key: net.shape(*key) for key in net.structure.parts} for net in (first, second))
        return ours == theirs
    nets = first.checkpoint, second.checkpoint
    ours, theirs = (sorted(each.shape for each in net.entries.values() if not each.whole) for net in nets)
    return ours == theirs


def _tensors(changes: Sequence[TensorChange], nets: tuple[Weights, Weights]) -> list[Operation]:
    """What became of tensors; nets are identical only where they have no others that are not."""
    types = _types(*nets)
    total = sum(change.elements for change in changes)

    def share(test: Callable[[TensorChange], object]) -> float:
        return sum(change.elements for change in changes if test(change)) / total

    if share(lambda change: change.equal) == 1:
        if others := [*itertools.islice(unequal(*nets), NAMED + 1)]:
            some = f"{', '.join(others[:NAMED])}{' and others' if len(others) > NAMED else ''}"
            return [Operation("partly untouched", f"every tensor that was compared is equal; not among these: {some}")]
        stored = "in value and type" if types[0] == types[1] else f"in value: {types[0]} in A, {types[1]} in B"
        return [Operation("identical", f"every tensor that was compared is equal {stored}")]
    casts = {change.cast for change in changes if change.cast}
    moved = [each for each in changes if not (each.equal or each.cast or each.relative < REWRITTEN)]
    if not moved:
        narrowed = {change.narrowed for change in changes if change.narrowed}
        first = FIRST["AB".index(narrowed.pop())] if len(narrowed) == 1 else "undetermined"
        size = max(change.relative for change in changes if not change.equal)
        how = f"after rounding to {', '.join(sorted(casts))}" if casts else f"but for {size:.0e} of their size"
        return [Operation("cast", f"equal {how}", first)]
    told: list[Operation] = []
    # What did not move may be stored in fewer bits, which is no update of its own.
    rest = f"; the rest is equal after rounding to {', '.join(sorted(casts))}" if casts else ""
    if all(map(_scaled, moved)):
        told.append(Operation("scaled", "all tensors that differ do so by one factor each"))
    for side in (1, 0):
        told += _quantised(moved, nets, side) or _zeros(changes, side)
        told += _projected(moved, side) if not told else []
    ranks = [change.rank for change in moved if change.rank is not None]
    few = sum(change.elements for change in moved if change.rank is None) < 0.1 * total
    if ranks and few and not any(each.name == "projected" for each in told):
        told.append(Operation("low-rank update", f"the change has rank {min(ranks)} to {max(ranks)}{rest}"))
    elif not told:
        total = sum(change.elements for change in changes)
        size = sum(min(change.relative, WHOLLY) * change.elements for change in changes) / total
        told.append(Operation("tuned", f"numbers moved by {size:.1%} of their size{rest}"))
    if equal := share(lambda change: change.equal):
        told.append(Operation("partly untouched", f"{equal:.0%} of the numbers are in tensors that are equal"))
    return told


def _scaled(change: TensorChange) -> bool:
    """Whether a tensor is the other times a factor; a cosine in single precision tells no more than `STRAIGHT`."""
    return 1 - change.cosine < STRAIGHT and change.relative > 100 * STRAIGHT**0.5


def _quantised(changes: Sequence[TensorChange], nets: tuple[Weights, Weights], side: int) -> list[Operation]:
    """What a file states in its words, what its numbers show else; who came first by the numbers alone."""
    seen, stated = _grid(changes, side), _stated(nets, side)
    return [replace(each, first=of.first) for each, of in zip(stated, seen, strict=False)] or stated or seen


def _grid(changes: Sequence[TensorChange], side: int) -> list[Operation]:
    """One net lies on a grid and the other does not. It comes later where it is the other, rounded, and no more."""
    grids = [change.grids[side] for change in changes if change.grids[side] and not change.grids[1 - side]]
    candidates = sum(change.elements for change in changes if change.elements > 1024)
    held = sum(change.elements for change in changes if change.grids[side] and not change.grids[1 - side])
    if not grids or held < 0.5 * candidates:
        return []
    grid = max((each for each in grids if each), key=lambda each: each.levels)
    group = f"{grid.group} columns" if grid.group else "a row"
    told = f"{'AB'[side]} has at most {grid.levels} values in {group} ({grid.bits} bits)"
    same = all(change.rounded[side] for change in changes if change.grids[side] and not change.grids[1 - side])
    return [Operation("quantised", told, FIRST[side] if same else "undetermined")]


def _stated(nets: tuple[Weights, Weights], side: int) -> list[Operation]:
    """One net is stored in a quantised type and the other is not: 8 bits are more levels than a grid is found by.

    Whether it is the other, rounded, is not looked at, so nobody came first.
    """
    word, other = _packing(nets[side]), _packing(nets[1 - side])
    return [Operation("quantised", f"{'AB'[side]} is stored as {word}")] if word and not other else []


def _packing(net: Weights) -> str:
    """The quantised type that most numbers of a net's matrices are stored in; empty where most are in no such type."""
    numbers: Counter[str] = Counter()
    for entry in net.checkpoint.entries.values():
        if len(entry.shape) > 1:
            numbers[entry.dtype if entry.quantised else ""] += prod(entry.shape)
    most = numbers.most_common(1)
    return most[0][0] if most else ""


def _zeros(changes: Sequence[TensorChange], side: int) -> list[Operation]:
    """One net has zeros where the other has none. It comes later where all else is equal.

    Zeros that a tuning filled are as far off as all else moved, and coarse rounding leaves zeros too: numbers were
    taken away where these stand out, in tensors that are seen to lie on no grid.
    """
    total = sum(change.elements for change in changes)
    lost = [each for each in changes if each.free[side] and each.stood_out[side] > OUT]
    shares = [sum(change.zeros[net] * change.elements for change in changes) / total for net in (0, 1)]
    if sum((each.zeros[side] - each.zeros[1 - side]) * each.elements for each in lost) < 0.02 * total:
        return []
    if shares[side] - shares[1 - side] < 0.02:
        return []
    kept = sum(each.kept * (1 - each.zeros[1]) * each.elements for each in changes) / max(1, total * (1 - shares[side]))
    rest = "the rest is unchanged" if kept > UNCHANGED else "the rest moved"
    first = FIRST[side] if kept > UNCHANGED else "undetermined"
    return [Operation("pruned", f"{shares[side]:.0%} of {'AB'[side]} is zero, {rest}", first)]


def _projected(changes: Sequence[TensorChange], side: int) -> list[Operation]:
    """One net is the other less a part that is orthogonal to all that it kept, as no training makes two nets.

    Of n numbers a change that has nothing to do with a net is along it by 1 / sqrt(n) of both lengths; `EXACT` of that
    in three tensors or more is no chance.
    """
    large = [change for change in changes if change.elements > LEAST and change.branch is not None]
    if len(large) < 3:
        return []
    for change in large:
        assert change.branch is not None
        chance = 1 / (max(change.relative, 1e-12) * change.elements**0.5)
        if abs(change.branch - side) > EXACT * chance:
            return []
    ranks = [change.rank for change in large if change.rank is not None]
    told = f", of rank {min(ranks)} to {max(ranks)}" if len(ranks) == len(large) else ""
    other, lost = "BA"[side], "AB"[side]
    return [Operation("projected", f"{lost} is {other} less a part orthogonal to the rest{told}", FIRST[side])]
