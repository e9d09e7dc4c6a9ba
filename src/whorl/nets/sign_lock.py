"""A lock in the weights: one sign for each hidden unit before the activation, and what it is worth.

After HPNN: Chakraborty, Mondal & Srivastava, *Hardware-Assisted Intellectual Property Protection of Deep Learning
Models*, DAC 2020, whose hardware flips the sign of a neuron's sum by a bit of a key. The net is trained with the key
on; its file holds no key, and without it hidden units get the wrong sign.

Three facts that need no experiment. Signs commute with SGD: training with the key on, from weights whose rows are
flipped, gives exactly the flipped weights of training without a key. So the lock is the flipping of rows (`flipped`) of
a net that was trained as any other, and a new key needs no training. Whoever holds any relative of the net, as an
earlier release or a copy under another key, reads the key off the signs of inner products of rows (`key_by_relative`).
For an odd activation, as tanh, a wrong sign in the last hidden layer is a wrong sign of what the head reads and no
more: any key leaves the span of those features as it is, and with one hidden layer a new linear head on a few pictures
undoes the lock (`read_out`).

So only `SignLocked`, which shows the first fact, holds a key; all else takes any net that names its hidden units.
Behind a batch norm, kernel, running mean and offset are flipped and the gain is left: gains begin at 1 and seldom
change sign, so that flipped ones would spell the key.

The research object of `docs/locks.md`; a file is kept from others by `whorl.attest.locks`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from whorl.errors import UsageError
from whorl.nets.base import Classifier, HiddenUnits, chain

__all__ = [
    "Key",
    "SignLocked",
    "draw_key",
    "flipped",
    "key_by_relative",
    "key_by_search",
    "read_out",
    "with_wrong_bits",
]

Key = tuple[Tensor, ...]
"""For each hidden layer ``[units]`` of 1 and -1."""
ACTIVATIONS: Final = {"relu": torch.relu, "tanh": torch.tanh}
RIDGE: Final = 1e-1
Locked = TypeVar("Locked", bound=Classifier)


class SignLocked(Classifier):
    """Fully connected layers whose sums are multiplied by `key` before the activation; all ones without a key.

    The key is no part of the state dict.

    Raises:
        UsageError: another activation than relu and tanh, or no layer or unit.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        width: int = 64,
        depth: int = 1,
        activation: Literal["relu", "tanh"] = "relu",
    ) -> None:
        if activation not in ACTIVATIONS or width < 1 or depth < 1:
            raise UsageError(
                f"a sign lock has units in layers with relu or tanh, not {depth} of {width} with {activation}"
            )
        super().__init__(input_shape, classes)
        self.activation = activation
        widths = [torch.Size(input_shape).numel(), *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(width, classes)
        self.key: Key = tuple(torch.ones(width) for _ in range(depth))

    def embed(self, normalised: Tensor) -> Tensor:
        """Output of the last hidden layer."""
        x = normalised.flatten(1)
        for layer, signs in zip(self.layers, self.key, strict=True):
            x = ACTIVATIONS[self.activation](signs * layer(x))
        return x

    def hidden_units(self) -> list[HiddenUnits]:
        """Neurons of every hidden layer."""
        return chain([*self.layers, self.head])

    def under(self, key: Key) -> SignLocked:
        """A copy of this net with this key on.

        Raises:
            UsageError: a key of other layers, or of other numbers than 1 and -1.
        """
        _check(self, key)
        made = copy.deepcopy(self)
        made.key = tuple(each.clone().float() for each in key)
        return made


def draw_key(net: Classifier, generator: torch.Generator) -> Key:
    """Fair signs for every hidden unit."""
    return tuple(torch.randint(2, (each.count,), generator=generator) * 2.0 - 1 for each in net.hidden_units())


def with_wrong_bits(key: Key, count: int, generator: torch.Generator) -> Key:
    """The key with ``count`` signs, drawn from all layers, turned.

    Raises:
        UsageError: more than there are.
    """
    whole = torch.cat(key)
    if not 0 <= count <= len(whole):
        raise UsageError(f"the key has {len(whole)} signs, of which {count} can't be wrong")
    whole[torch.randperm(len(whole), generator=generator)[:count]] *= -1
    return tuple(whole.split([len(each) for each in key]))


def flipped(net: Locked, key: Key) -> Locked:
    """The net with what each hidden unit sums up multiplied by its sign: under ``key`` it is ``net``, exactly.

    Raises:
        UsageError: a key of other layers, or of other numbers than 1 and -1; or units behind other layers than norms.
    """
    _check(net, key)
    made = copy.deepcopy(net)
    for units, signs in zip(made.hidden_units(), key, strict=True):
        _turn(units, signs)
    return made


def _check(net: Classifier, key: Key) -> None:
    counts = [each.count for each in net.hidden_units()]
    if [list(each.shape) for each in key] != [[count] for count in counts] or any(
        bool((each.abs() != 1).any()) for each in key
    ):
        raise UsageError(f"a key has a 1 or -1 for each of {counts} hidden units")


@torch.no_grad()
def _turn(units: HiddenUnits, signs: Tensor) -> None:
    """Multiply what comes to the activation of each unit by its sign, in the weights."""
    kernel = units.producer.weight
    kernel.mul_(signs.view(-1, *[1] * (kernel.ndim - 1)))
    if units.producer.bias is not None:
        units.producer.bias.mul_(signs)
    for norm in units.carriers:
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
            raise UsageError("units are flipped behind batch norms that keep statistics, and behind no other layer")
        norm.running_mean.mul_(signs)
        norm.bias.mul_(signs)


@torch.no_grad()
def key_by_relative(net: Classifier, relative: Classifier) -> Key:
    """The key up to that of ``relative``, whose rows are near those of ``net`` but for signs."""
    found: list[Tensor] = []
    for mine, other in zip(net.hidden_units(), relative.hidden_units(), strict=True):
        products = (mine.producer.weight * other.producer.weight).flatten(1).sum(1)
        for one, two in zip((mine.producer, *mine.carriers), (other.producer, *other.carriers), strict=True):
            if one.bias is not None and two.bias is not None:
                products += one.bias * two.bias
        found.append(torch.where(products < 0, -1.0, 1.0))
    return tuple(found)


@torch.no_grad()
def key_by_search(net: Classifier, inputs: Tensor, labels: Tensor, *, sweeps: int = 3) -> Key:
    """The key that coordinate descent finds from all ones: each sign is turned where that lowers the cross-entropy.

    Shape:
        inputs: ``[n, c, h, w]`` in [0, 1]; labels: ``[n]`` int64.
    """
    trial = copy.deepcopy(net).eval()
    layers = trial.hidden_units()
    key = tuple(torch.ones(each.count) for each in layers)
    best = float(cross_entropy(trial(inputs), labels))
    for _ in range(sweeps):
        before = best
        for units, signs in zip(layers, key, strict=True):
            for unit in range(units.count):
                turned = torch.ones(units.count)
                turned[unit] = -1
                _turn(units, turned)
                loss = float(cross_entropy(trial(inputs), labels))
                if loss < best:
                    best = loss
                    signs[unit] *= -1
                else:
                    _turn(units, turned)
        if best == before:
            break
    return key


@torch.no_grad()
def read_out(net: Locked, inputs: Tensor, labels: Tensor) -> Locked:
    """The net with a new head: ridge regression of the classes on its features.

    Shape:
        inputs: ``[n, c, h, w]`` in [0, 1]; labels: ``[n]`` int64.
    """
    made = copy.deepcopy(net).eval()
    features = made.features(inputs).double()
    targets = one_hot(labels, net.classes).double()
    means: Sequence[Tensor] = (features.mean(0), targets.mean(0))
    centred = features - means[0]
    gram = centred.T @ centred + RIDGE * torch.eye(features.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, centred.T @ (targets - means[1]))
    made.head.weight.copy_(weights.T)
    made.head.bias.copy_(means[1] - means[0] @ weights)
    return made
