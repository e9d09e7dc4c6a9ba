"""What the plans of two nets differ in, and how the parts of the one go back to those of the other.

**Who came first.** A net whose units are units of a larger one has lost the rest, unless the rest is idle: structural
obfuscation and widening add units that write nothing or that read what another reads. Widening by units that were
trained from fresh weights leaves no such trace and would be told the wrong way round; it is rare. Experts that are near
copies of one dense layer were made of it, or of its like, unless that layer is one of them, taken out. An unembedding
that is a near copy of its net's embedding is judged as copies of layers are (`whorl.weights.layering`). A vocabulary
may be extended or cut, and depth tells nothing by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch

from whorl.checkpoints.roles import NONE, Key, Weights
from whorl.weights.layering import LayerMap, parted
from whorl.weights.operation import FIRST, Direction, Operation
from whorl.weights.pairing import Basis, spread, vocabulary
from whorl.weights.units import Units, find_units, height, shared_axes

__all__ = ["plans"]

ROWS: Final = 512  # of matrices that are held against each other
LAYERS: Final = 2  # in which units are looked for
EXPERTS: Final = 8  # that are held against a dense layer
UNITS: Final = 256  # of a dense layer that are looked for in an expert
TOKENS: Final = 256
# Of units of a tuned net .9 and more are found, of a stranger .15 and less (seed 300).
MOST, SOME = 0.75, 0.5


def plans(
    first: Weights, second: Weights, layers: Sequence[tuple[int, int]], places: LayerMap | None
) -> list[Operation]:
    """Depth, width, hidden units, experts, tokens and the unembedding, where the two nets differ in them.

    ``layers`` are those of A that were found in B, with the layer of B; ``places`` hold the axes they are seen in.
    """
    ours, theirs = first.structure, second.structure
    if not (ours.known and theirs.known):
        return []
    told: list[Operation] = []
    if ours.layers != theirs.layers:
        told.append(Operation("depth changed", f"{ours.layers} layers in A, {theirs.layers} in B"))
    if ours.width != theirs.width:
        told.append(Operation("width changed", f"residual stream of {ours.width} axes in A, {theirs.width} in B"))
    if places is not None and layers:
        few = [layers[place] for place in spread(len(layers), LAYERS)]
        told += [*_axes(places.axes), *_units(places, few), *_experts(places, few[0])]
    return [*told, *_tokens(first, second), *_tied(first, second)]


def _axes(axes: Basis) -> list[Operation]:
    if axes.ours is None or axes.theirs is None or len(axes.ours) == len(axes.theirs):
        return []
    share = shared_axes(axes.ours, axes.theirs)
    one, two = ("A", "B") if len(axes.ours) < len(axes.theirs) else ("B", "A")
    told = f"{share:.0%} of {one}'s axes of the residual stream are axes of {two}"
    return [Operation("axes pruned", told, FIRST[one == "B"])] if share >= MOST else []


def _units(places: LayerMap, layers: Sequence[tuple[int, int]]) -> list[Operation]:
    """Hidden layers of other heights: which units of the lower are units of the higher."""
    heights = height(places.first, layers[0][0]), height(places.second, layers[0][1])
    if not all(heights) or heights[0] == heights[1]:
        return []
    small, white = heights.index(min(heights)), places.axes.whitened()
    gated = places.first.structure.gated and places.second.structure.gated
    seen = []
    for layer, paired in layers:
        if height(places.first, layer) and height(places.second, paired):
            one = Units.of(places.first, layer, NONE, white.ours, gated=gated)
            two = Units.of(places.second, paired, NONE, white.theirs, gated=gated)
            seen.append(find_units(two, one) if small else find_units(one, two))
    share, idle = (sum(getattr(each, name) for each in seen) / len(seen) for name in ("share", "idle"))
    one, two = "AB"[small], "BA"[small]
    told = f"hidden layers of {heights[0]} units in A, {heights[1]} in B; {share:.0%} of {one}'s are units of {two}"
    if share >= SOME and idle >= SOME:
        return [Operation("units added", f"{told}, and {idle:.0%} of the rest are idle", FIRST[two == "B"])]
    if share >= MOST:
        return [Operation("units pruned", told, FIRST[one == "B"])]
    return [Operation("hidden width changed", told)]


def _experts(places: LayerMap, layers: tuple[int, int]) -> list[Operation]:
    """Experts in one net alone: which of them are copies of the dense layer of the other."""
    nets, white = (places.first, places.second), places.axes.whitened()
    held = [
        [expert for at, expert in net.structure.mlps() if at == layer and expert >= 0]
        for net, layer in zip(nets, layers, strict=True)
    ]
    if bool(held[0]) == bool(held[1]):
        return []
    mixed, seen = int(bool(held[1])), (white.ours, white.theirs)
    dense, experts = 1 - mixed, held[mixed][:EXPERTS]
    one, two = "AB"[dense], "AB"[mixed]
    told = [Operation("experts", f"{len(held[mixed])} experts in {two} alone")]
    if not height(nets[dense], layers[dense]):
        return told
    gated = all(net.structure.gated for net in nets)
    few = Units.of(nets[dense], layers[dense], NONE, seen[dense], gated=gated, most=UNITS)
    many = (Units.of(nets[mixed], layers[mixed], each, seen[mixed], gated=gated) for each in experts)
    copies = [each for each, units in zip(experts, many, strict=True) if find_units(few, units).share >= SOME]
    if len(copies) == 1:
        words = f"{one}'s hidden layer is expert {copies[0]} of {two}, and no other of {len(experts)}"
        return [*told, Operation("one expert", words)]
    if copies:
        first = FIRST[mixed] if _made_of(places, layers, mixed, (copies[0], copies[1])) else "undetermined"
        words = f"{len(copies)} of {len(experts)} experts of {two} are copies of {one}'s hidden layer"
        return [*told, Operation("upcycled", words, first)]
    return told


def _made_of(places: LayerMap, layers: tuple[int, int], mixed: int, copies: tuple[int, int]) -> bool:
    """Whether two experts have both left the dense layer of the other net: then it is none of them, taken out."""
    nets = (places.first, places.second)
    where = [(nets[mixed], Key("up", layers[mixed], each)) for each in copies]
    where.append((nets[1 - mixed], Key("up", layers[1 - mixed])))
    if len({net.shape(*key) for net, key in where}) > 1:
        return False
    rows = spread(where[0][0].rows(*where[0][1]), ROWS)
    found = parted([[net.read(*key, rows=rows) for net, key in where]])
    return found is not None and found.both_left


def _tokens(first: Weights, second: Weights) -> list[Operation]:
    """Other vocabularies: the same tokens and more, by name, or by the rows of the embedding."""
    counts = first.vocabulary, second.vocabulary
    names = [vocabulary(net.checkpoint.path) for net in (first, second)]
    named = all(names) and names[0].keys() != names[1].keys()
    if not all(counts) or (counts[0] == counts[1] and not named):
        return []
    told = f"{counts[0]:,} tokens in A, {counts[1]:,} in B"
    small = int(len(names[1]) < len(names[0])) if named else int(counts[1] < counts[0])
    one, two = "AB"[small], "BA"[small]
    change = "vocabulary cut" if small else "vocabulary extended"
    if named:
        common = len(names[0].keys() & names[1].keys())
        if common == len(names[small]):
            return [Operation(change, f"{told}; all of {one}'s tokens are among {two}'s, by name")]
        return [Operation("vocabulary changed", f"{told}; {common:,} in common, by name")]
    if first.structure.width == second.structure.width:
        rows = spread(min(counts), TOKENS)
        near = torch.cosine_similarity(*(net.tokens(rows) for net in (first, second)), dim=1)
        if float(near.median()) > SOME:
            return [Operation(change, f"{told}; {one}'s are {two}'s first {min(counts):,}")]
    return [Operation("vocabulary changed", told)]


def _tied(first: Weights, second: Weights) -> list[Operation]:
    """One net unembeds by its embedding and the other by a matrix of its own."""
    own = [Key("unembedding") in net for net in (first, second)]
    if own[0] == own[1] or not (first.vocabulary and second.vocabulary):
        return []
    untied, tied = (second, first) if own[1] else (first, second)
    one, two = ("B", "A") if own[1] else ("A", "B")
    rows = spread(min(first.vocabulary, second.vocabulary, untied.rows("unembedding")), TOKENS)
    pair = [untied.read(role, rows=rows) for role in ("embedding", "unembedding")]
    near = float(torch.cosine_similarity(*pair, dim=1).median()) if pair[0].shape == pair[1].shape else -math.inf
    if near < SOME:
        return [Operation("unembedding", f"{two} unembeds by its embedding, {one} by a matrix of its own")]
    before = tied.read("embedding", rows=rows)
    moved = parted([[*pair, before]]) if before.shape == pair[0].shape else None
    first_of: Direction = FIRST[one == "B"] if moved is not None and moved.first else "undetermined"
    told = f"{one}'s unembedding is a copy of its embedding, {two} has one matrix for both"
    return [Operation("embedding untied", told, first_of)]
