"""Models of another task made from a net of the small zoo: a new head, tuned on relabelled digits."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import lru_cache

import torch

from whorl.data import SOURCES
from whorl.nets.training import Schedule, fit
from whorl.oracles.torch import TorchOracle

HEADS = (2, 5)  # odd or even, and the last digit modulo 5
PARTS = ("last", "all")


@lru_cache(maxsize=32)
def transferred(oracle, classes, part):
    """A copy with a new head for ``digit % classes``, of which the head alone or everything was trained."""
    net = copy.deepcopy(oracle.module)
    data = SOURCES.make("digits(size=16)").load("attacker")
    data = replace(data, labels=data.labels % classes, classes=tuple(map(str, range(classes))))
    generator = torch.Generator().manual_seed(50)
    net.head = torch.nn.Linear(net.head.in_features, classes)
    torch.nn.init.normal_(net.head.weight, std=0.1, generator=generator)
    torch.nn.init.zeros_(net.head.bias)
    net.classes = classes
    schedule = Schedule(epochs=4, learning_rate=0.02 if part == "all" else 0.05, batch=50)
    fit(net, data, schedule, generator=generator, parameters=None if part == "all" else net.head.parameters())
    return TorchOracle(net, input_shape=data.input_shape, classes=classes)


def transfers(oracle, classes):
    """Both copies with a head for so many classes."""
    return [transferred(oracle, classes, part) for part in PARTS]
