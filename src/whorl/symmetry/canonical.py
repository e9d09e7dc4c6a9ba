"""One set of weights for all that make the same function by known symmetries, up to the order of units.

Norms are folded, units that say the same are merged and those that say nothing removed, each unit is scaled to norm 1
and its factor pushed forward, signs before odd activations follow a rule, and the mean over classes, which softmax
does not see, is taken from the head. Units stay in the order they had: `whorl.symmetry.copies` aligns pairs.

Sources: Phuong & Lampert, ICLR 2020 (permutations and positive factors are all that most ReLU nets admit); Yan et al.,
*Rethinking White-Box Watermarks on Deep Learning Models under Neural Structural Obfuscation*, USENIX Security 2023,
arXiv 2303.09732 (units that are dead, split, or cancel each other).

What it does not reach: linear layers in a row, which any invertible matrix may stand between; biases inside of a stream
without activations (pre-activation nets have none); pairs (v, c), (-v, -c), which are linear passages and are counted
but left, so that several which cancel each other stay; layers whose channels the graph walk holds for fixed
(concatenation, grouped but not depthwise convolutions, shared layers); constant units of which a padded convolution
reads, since borders see them, and those behind which a layer carries channel by channel. The scale of a residual
stream is that of its first writer: a channel that this hardly writes has large weights elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from whorl.errors import UsageError
from whorl.nets.base import Net
from whorl.symmetry.alignment.permutations import PermutationSpec
from whorl.symmetry.alignment.tracing import permutation_spec
from whorl.symmetry.channels import (
    Channels,
    Layer,
    Units,
    bias_of,
    columns,
    copied,
    is_carrier,
    read_units,
    rows,
    take_units,
)
from whorl.symmetry.folding import fold

__all__ = ["Canonical", "canonical", "centred", "probes"]

COSINE = 1 - 1e-6  # of the rows of two units that are one
SILENT = 1e-6  # share of what units have at most, below which one has nothing
KEPT = 1e-5  # relative error of the logits: several units that were all but silent may each leave SILENT of it


@dataclass(frozen=True)
class Canonical:
    """A net in canonical form.

    ``net`` is a copy in float64; ``removed`` the number of units merged or removed by the first layer that wrote them;
    ``passages`` the number of pairs of units that together are linear.
    """

    net: nn.Module
    removed: Mapping[str, int]
    passages: int
    inputs: Tensor

    @property
    def state(self) -> dict[str, Tensor]:
        """The weights by name, float64."""
        return {name: value.detach() for name, value in self.net.state_dict().items()}

    @cached_property
    def spec(self) -> PermutationSpec:
        """The permutations that are left."""
        return permutation_spec(self.net, (self.inputs[:2],))


@torch.no_grad()
def canonical(net: nn.Module, inputs: Tensor | None = None) -> Canonical:
    """Bring ``net``, which is left as it is, into canonical form.

    Parameters:
        inputs: at least two examples of what it is called with ``[n, ...]``, on which the form must give the same
            logits; by default, for the nets of whorl, 32 noisy pictures.

    Raises:
        UsageError: the net can't be traced, or its form differs on ``inputs`` by more than 1e-5 of the largest logit:
            it does something that the graph of its layers does not tell.
    """
    if inputs is None:
        if not isinstance(net, Net):
            raise UsageError(f"{type(net).__name__} is not one of whorl's nets; give examples of its inputs")
        inputs = probes(net.input_shape)
    inputs = inputs.double().cpu()
    form = copied(net).cpu().double().eval().requires_grad_(False)
    expected = centred(form, form(inputs))
    fold(form)
    units = read_units(form)
    names = {layer: name for name, layer in form.named_modules()}
    before = {names[each.writers[0]]: each.count for each in units}
    while sum([_reduce(each) for each in units]):
        pass
    _centre_head(form)
    error = (centred(form, form(inputs)) - expected).abs().max() / expected.abs().max().clamp_min(1e-12)
    if not error <= KEPT:
        raise UsageError(f"the canonical form of {type(net).__name__} would answer otherwise (by {float(error):.1e})")
    removed = {names[each.writers[0]]: before[names[each.writers[0]]] - each.count for each in units}
    form.requires_grad_(True)
    return Canonical(form, removed, sum(map(_passages, units)), inputs)


def probes(shape: tuple[int, int, int], count: int = 32) -> Tensor:
    """Pictures ``[count, *shape]`` of noise with many means and contrasts, the same on every machine; float64."""
    generator = torch.Generator().manual_seed(0x3141)  # part of the definition of a digest, so not to be chosen
    level, contrast = torch.rand(2, count, shape[0], 1, 1, generator=generator, dtype=torch.float64)
    noise = torch.rand(count, *shape, generator=generator, dtype=torch.float64) - 0.5
    return (level + contrast * noise).clamp(0, 1)


def centred(net: nn.Module, logits: Tensor) -> Tensor:
    """Logits without what softmax does not see; the outputs of a net that does not classify as they are."""
    return logits - logits.mean(-1, keepdim=True) if _classifies(net) else logits


def _classifies(net: nn.Module) -> bool:
    return getattr(net, "task", "classification") == "classification" and isinstance(_head(net), nn.Linear)


def _head(net: nn.Module) -> nn.Module | None:
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    return getattr(net, "head", layers[-1] if layers else None)


def _centre_head(net: nn.Module) -> None:
    head = _head(net)
    if _classifies(net) and isinstance(head, nn.Linear):
        head.weight.sub_(head.weight.mean(0))
        bias_of(head).sub_(bias_of(head).mean())


def _reduce(units: Units) -> int:
    """Normalise, merge and remove; how many units went."""
    count = units.count
    for space in units.spaces:
        _normalise(space, count)
    _merge(units)
    for space in units.spaces:
        _normalise(space, units.count)
    _keep(units, _spoken(units))
    return count - units.count


def _normalise(space: Channels, count: int) -> None:
    """Scale each channel to norm 1 at the first layer that writes it, and turn it by the rule for signs."""
    first = _first_rows(space)
    factor = first.norm(dim=1) if space.scale else torch.ones(count, dtype=first.dtype)
    factor = torch.where(factor > 0, factor, 1.0)
    if space.sign:
        factor = factor * _signs(first, _outgoing(space.readers, count))
    for layer in space.writers:
        layer.weight.div_(factor.view(-1, *[1] * (layer.weight.ndim - 1)))
        bias_of(layer).div_(factor)
    for layer in space.readers:
        if is_carrier(layer):
            layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.ndim - 1)))
        else:
            columns(layer, count).mul_(factor[:, None])


def _first_rows(space: Channels) -> Tensor:
    """Of each channel what the first layer has that writes it, ``[units, d]`` padded by zeros."""
    parts = [rows(layer) for layer in space.writers]
    found = parts[0].new_zeros(len(parts[0]), max(part.shape[1] for part in parts))
    for part in reversed(parts):
        written = part.any(1)
        found[written] = nn.functional.pad(part[written], (0, found.shape[1] - part.shape[1]))
    return found


def _signs(made: Tensor, read: Tensor) -> Tensor:
    """1 or -1 that makes the largest entry of each row positive, or of what reads it where two are as large."""
    largest = made.abs() >= made.abs().amax(1, keepdim=True) * COSINE
    high, low = (largest & (made > 0)).any(1), (largest & (made < 0)).any(1)
    by_reader = read.gather(1, read.abs().argmax(1, keepdim=True))[:, 0] < 0
    return torch.where(torch.where(high & low, by_reader, low), -1.0, 1.0).to(made)


def _outgoing(readers: list[Layer], count: int) -> Tensor:
    """What is made of each unit, ``[units, d]``."""
    parts = [
        layer.weight.view(count, -1) if is_carrier(layer) else columns(layer, count).transpose(0, 1).flatten(1)
        for layer in readers
    ]
    return torch.cat(parts, 1)


def _merge(units: Units) -> None:
    """Let one unit stand for all that have its rows; what is read of it is the sum of what was read of them."""
    alike = torch.ones(units.count, units.count, dtype=torch.bool)
    for space in units.spaces:
        alike &= _alike(torch.cat([rows(layer) for layer in space.writers], 1))
    first = alike.int().argmax(1)
    while not torch.equal(first[first], first):
        first = first[first]
    kept = first == torch.arange(units.count)
    if bool(kept.all()):
        return
    for layer in units.readers:
        parts = columns(layer, units.count)
        total = torch.zeros_like(parts).index_add_(1, first, parts)
        reach = parts.new_zeros(units.count).index_add_(0, first, parts.norm(dim=(0, 2)))
        total[:, total.norm(dim=(0, 2)) <= SILENT * reach] = 0  # a clique: they cancel but for rounding
        parts.copy_(total)
    _keep(units, kept)


def _alike(made: Tensor, other: Tensor | None = None) -> Tensor:
    """Which rows have a cosine of 1 and one length, ``[units, units]``; differences, as products lose 8 digits."""
    apart = torch.cdist(made, made if other is None else other, compute_mode="donot_use_mm_for_euclid_dist").square()
    length = made.square().sum(1)
    return apart <= 2 * (1 - COSINE) * torch.maximum(length[:, None], length)


def _spoken(units: Units) -> Tensor:
    """Which units say something that changes and is read, ``[units]``; what is constant goes to the next bias."""
    read = _outgoing(units.readers, units.count).norm(dim=1)
    own = torch.stack([rows(layer)[:, -is_carrier(layer) :].norm(dim=1) for layer in units.writers])
    kept = (read > SILENT * read.max()) & own.any(0)
    space = units.spaces[0]
    if len(units.spaces) == len(space.writers) == len(space.readers) == 1:
        kept &= ~_folded_constants(space, kept)
    if not kept.any():
        kept[0] = True  # layers without units can't be traced
    return kept


def _folded_constants(space: Channels, kept: Tensor) -> Tensor:
    """Which units do not depend on the input, once the next bias has what they say; ``[units]``."""
    made, reader = rows(space.writers[0]), space.readers[0]
    still = kept & (made[:, :-1].norm(dim=1) <= SILENT * made.norm(dim=1))
    value = made[:, -1]
    for activation in space.maps:
        value = activation(value)
    if isinstance(reader, nn.Conv2d) and reader.padding not in ((0, 0), 0, "valid"):
        still &= value == 0  # at the border the convolution does not see the constant
    if bool(still.any()):
        total = columns(reader, len(value)).sum(2)
        bias_of(reader).add_(total[:, still] @ value[still])
        columns(reader, len(value))[:, still] = 0  # if it is kept as the only one, it must not speak twice
    return still


def _keep(units: Units, kept: Tensor) -> None:
    if not bool(kept.all()):
        take_units(units.writers, units.readers, kept.nonzero()[:, 0])


def _passages(units: Units) -> int:
    """Pairs (v, c), (-v, -c) of ReLU units, which say c v."""
    space, *more = units.spaces
    if more or space.sign:
        return 0
    made = torch.cat([rows(layer) for layer in units.writers], 1)
    read = _outgoing(units.readers, units.count)
    return int((_alike(made, -made) & _alike(read, -read)).sum()) // 2
