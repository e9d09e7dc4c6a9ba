"""How far apart two related nets are: the chord between their directions, sqrt(2 (1 - cosine)), from 0 to 2.

It is near the relative change |B - A| / |A| where that is small, and 1.41 for nets that have nothing to do with each
other. The cosine is the mean over tensors that both have, weighted by their sizes. Tensors are partners by role, or by
name; where these do not pair most of the numbers of the lesser net, as after renaming or in another format, those of
one shape are paired by their own likeness, turned round where that fits better.

Where units or axes were reordered or turned, tensors have no common basis. Then the cosine is that of hidden units of A
with their nearest ones of B in token space, or, without roles, that of tensors whose rows and columns were matched. The
scales are of one kind and not exactly comparable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from whorl.checkpoints.checkpoint import Checkpoint
from whorl.checkpoints.roles import Key, Weights
from whorl.symmetry.alignment.assignment import assign
from whorl.weights.changes import TensorChange
from whorl.weights.comparison import Comparison
from whorl.weights.exchangeable import natural
from whorl.weights.layering import LayerMap
from whorl.weights.pairing import basis, spread
from whorl.weights.two_sided import match_sides

__all__ = ["APART", "chord", "distance"]

APART: Final = math.sqrt(2)  # nets that have nothing in common
UNITS: Final = 256
EXACT: Final = 1e-4  # of 1 - cosine: below, single precision no longer tells
MOST: Final = 0.5  # of the numbers of the lesser net: what is enough to speak for it
IN_PLACE: Final = 0.5  # a cosine below which related nets have their units in another order
TENSORS: Final = 32  # of one shape
SAMPLE: Final = 64  # rows by which tensors of one shape are paired
WIDEST: Final = 1024  # units on a side that are matched one to one
MATCHED: Final = 8  # tensors whose units are matched, the largest that are not too wide

Partners = list[tuple[str, str, bool]]


def distance(first: Checkpoint, second: Checkpoint, found: Comparison, tokens: int) -> tuple[float, str]:
    """The distance, and whether it is by ``weights`` in place, by matched ``units``, or there is ``none``."""
    turned = any(each.kind.turned for each in found.operations)
    paired = sum(change.elements for change in found.changes) >= MOST * min(first.parameters, second.parameters)
    apart = chord(found.changes) if found.changes else APART
    if found.decision == "inconclusive" or (paired and not turned and _cosine(apart) >= IN_PLACE):
        return apart, "weights" if found.changes else "none"
    units = _unit_distance(Weights(first), Weights(second), tokens) if turned or not found.changes else None
    if units is not None:
        return units, "units"
    partners = _partners(first, second)
    if not partners:
        return apart, "weights" if found.changes else "none"
    if not (paired and turned):
        alike = _mean(_in_place(first, second, partners))
        if alike >= IN_PLACE or max(map(len, (first.entries, second.entries))) > WIDEST:
            return _chord(alike), "weights"
    return _chord(_mean(_reordered(first, second, partners))), "units"


def _cosine(apart: float) -> float:
    return 1 - apart**2 / 2


def _chord(cosine: float) -> float:
    return math.sqrt(2 * max(0.0, 1 - cosine))


def chord(changes: Sequence[TensorChange]) -> float:
    """Mean distance over tensors, as a root mean square weighted by their sizes. From 0 to 2."""
    total = sum(change.elements for change in changes)
    squares = sum(change.elements * _square(change) for change in changes)
    return math.sqrt(squares / max(1, total))


def _square(change: TensorChange) -> float:
    """Of nearly equal tensors the cosine has lost its digits, and the relative change is the chord."""
    apart = 2 * (1 - change.cosine)
    return apart if apart > 2 * EXACT else min(4.0, change.relative**2)


def _mean(weighted: Iterator[tuple[int, float]]) -> float:
    total = alike = 0.0
    for elements, cosine in weighted:
        total, alike = total + elements, alike + elements * cosine
    return alike / max(1.0, total)


def _partners(first: Checkpoint, second: Checkpoint) -> Partners:
    """Matrices of one shape, paired so that they are most alike; whether the second has to be turned round."""
    held = [_by_shape(net) for net in (first, second)]
    found: Partners = []
    for shape, names in held[0].items():
        for other, turned in ((shape, False), (shape[::-1], True)):
            if other not in held[1] or (turned and (len(shape) > 2 or other == shape or shape in held[1])):
                continue
            ours = torch.stack([_sample(first, name, False) for name in names])
            theirs = torch.stack([_sample(second, name, turned) for name in held[1][other]])
            chosen = assign(ours @ theirs.T).tolist()
            pairs = zip(names, chosen, strict=True)
            found += [(name, held[1][other][place], turned) for name, place in pairs if place >= 0]
    return found


def _by_shape(net: Checkpoint) -> dict[tuple[int, ...], list[str]]:
    found: dict[tuple[int, ...], list[str]] = {}
    for name in sorted(net.entries, key=natural):
        shape = net.entries[name].shape
        if len(shape) > 1 and min(shape[:2]) > 1:
            found.setdefault(shape, []).append(name)
    return {shape: [names[place] for place in spread(len(names), TENSORS)] for shape, names in found.items()}


def _sample(net: Checkpoint, name: str, turned: bool) -> Tensor:
    """Some numbers of a tensor in the order in which its partner has them, of length 1."""
    if turned:
        whole = net.read(name).T
        return normalize(whole[spread(len(whole), SAMPLE)].flatten(), dim=0)
    return normalize(net.read(name, spread(net.entries[name].shape[0], SAMPLE)).flatten(), dim=0)


def _in_place(first: Checkpoint, second: Checkpoint, partners: Partners) -> Iterator[tuple[int, float]]:
    for ours, theirs, turned in partners:
        one, two = _sample(first, ours, False), _sample(second, theirs, turned)
        yield math.prod(first.entries[ours].shape), 1 - float((one - two).square().sum()) / 2


def _reordered(first: Checkpoint, second: Checkpoint, partners: Partners) -> Iterator[tuple[int, float]]:
    """The cosine of tensors whose rows, columns or both were matched, whichever makes them most alike."""
    few = [each for each in partners if max(first.entries[each[0]].shape[:2]) <= WIDEST]
    few.sort(key=lambda each: math.prod(first.entries[each[0]].shape))
    for number, (ours, theirs, turned) in enumerate(few[-MATCHED:]):
        one, two = first.read(ours), second.read(theirs)
        one, two = (each.reshape(*each.shape[:2], -1) for each in (one, two.T if turned else two))
        one, two = one / one.norm().clamp_min(1e-12), two / two.norm().clamp_min(1e-12)
        sides = match_sides(one, two, generator=torch.Generator().manual_seed(number))
        rows = assign(one.flatten(1) @ two.flatten(1).T)
        columns = assign(one.transpose(0, 1).flatten(1) @ two.transpose(0, 1).flatten(1).T)
        orders = (two, two[rows], two[:, columns], two[sides.rows][:, sides.columns])
        yield one.numel(), max(float((one * each).sum()) for each in orders)


def _unit_distance(first: Weights, second: Weights, tokens: int) -> float | None:
    """The same for hidden units and their nearest ones, whatever their order; None where nets have no common axes."""
    if not (first.structure.known and second.structure.known):
        return None
    axes = basis(first, second, tokens)
    if axes is None:
        return None
    role = "gate" if first.structure.gated and second.structure.gated else "up"
    pairs = LayerMap(first, second, axes).pairs(spread(first.structure.layers, 2))
    cosines: list[Tensor] = []
    for layer, paired in pairs.items():
        ours, theirs = _hidden(first, role, layer), _hidden(second, role, paired)
        if ours is None or theirs is None:
            continue
        few = first.folded(*ours)
        few, many = few[spread(len(few), UNITS)], second.folded(*theirs)
        few = few if axes.ours is None else few @ axes.ours
        many = many if axes.theirs is None else many @ axes.theirs
        cosines.append((normalize(few, dim=1) @ normalize(many, dim=1).T).abs().amax(1))
    return _chord(float(torch.cat(cosines).mean())) if cosines else None


def _hidden(net: Weights, role: str, layer: int) -> Key | None:
    return next((Key(role, layer, expert) for place, expert in net.structure.mlps() if place == layer), None)
