"""Copies of a net with other weights, other widths and the same function: what canonical forms have to see through.

Source: Yan et al., *Rethinking White-Box Watermarks on Deep Learning Models under Neural Structural Obfuscation*,
USENIX Security 2023, arXiv 2303.09732, section 4: units whose outgoing weights are zero, cliques of like units whose
outgoing weights cancel, and units split in two. Permutations and positive factors are added on top.
"""

from __future__ import annotations

import torch
from torch import Tensor

from whorl.nets.base import HiddenUnits, Net
from whorl.symmetry.alignment.permutations import permute, random_permutations
from whorl.symmetry.alignment.tracing import permutation_spec
from whorl.symmetry.channels import Norm, columns, copied, is_carrier, read_units, take_units

__all__ = ["obfuscate", "rescale", "shuffle"]


@torch.no_grad()
def obfuscate(net: Net, *, generator: torch.Generator, share: float = 0.25) -> Net:
    """Widen all layers of hidden units by three times ``share``: split units, silent ones, and cliques of two.

    A unit's halves get shares of its outgoing weights that sum to 1, from -1 to 2. New units have random incoming
    weights, of the size of those of a random unit.
    """
    copy = copied(net)
    for units in copy.hidden_units():
        _obfuscate(units, max(2, round(share * units.count)), generator)
    return copy


def _obfuscate(units: HiddenUnits, more: int, generator: torch.Generator) -> None:
    count = units.count
    split = torch.randperm(count, generator=generator)[:more]
    silent, one = torch.randint(count, (2, more), generator=generator)
    one = one[: more - more % 2]
    clique = torch.cat([one[::2], one[::2]])
    take_units(
        (units.producer, *units.carriers), [units.consumer], torch.cat([torch.arange(count), split, silent, clique])
    )
    weight, read = units.producer.weight, columns(units.consumer, units.count)
    part = torch.rand(len(split), 1, generator=generator) * 3 - 1
    halves, quiet = slice(count, count + len(split)), slice(count + len(split), count + len(split) + more)
    read[:, halves] *= part
    read[:, split] *= 1 - part
    weight[quiet] = _noise_like(weight[quiet], generator)
    read[:, quiet] = 0
    first, last = (slice(quiet.stop, -len(one) // 2), slice(-len(one) // 2, None))
    weight[last] = weight[first] = _noise_like(weight[first], generator)
    read[:, last] = -read[:, first]


def _noise_like(value: Tensor, generator: torch.Generator) -> Tensor:
    return value.std() * torch.randn(value.shape, generator=generator)


@torch.no_grad()
def rescale(net: Net, *, generator: torch.Generator, spread: float = 2.0) -> Net:
    """Multiply each unit that ReLU follows, those of residual streams too, by 10^U(-spread, spread), and undo it."""
    copy = copied(net)
    for units in read_units(copy):
        for space in units.spaces:
            if space.scale and not space.sign and not any(isinstance(layer, Norm) for layer in space.readers):
                factors = 10 ** (spread * (2 * torch.rand(units.count, generator=generator) - 1))
                for layer in space.writers:
                    layer.weight.mul_(factors.view(-1, *[1] * (layer.weight.ndim - 1)))
                    if layer.bias is not None:
                        layer.bias.mul_(factors)
                for layer in space.readers:
                    if is_carrier(layer):
                        layer.weight.view(units.count, -1).div_(factors[:, None])
                    else:
                        columns(layer, units.count).div_(factors[:, None])
    return copy


def shuffle(net: Net, *, generator: torch.Generator) -> Net:
    """Draw an order of all units that have none."""
    copy, spec = copied(net), permutation_spec(net)
    copy.load_state_dict(permute(copy.state_dict(), spec, random_permutations(spec, generator)))
    return copy
