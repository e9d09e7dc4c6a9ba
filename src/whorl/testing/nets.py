"""A victim small enough to train in half a second, with norms, hidden units and a head as large ones have."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Final

import torch

from whorl.data import SOURCES, Dataset
from whorl.nets.base import Classifier
from whorl.nets.training import Schedule, build, fit
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.removals.base import opened
from whorl.storage import digest_tensors
from whorl.types import Access

__all__ = ["ARCHITECTURE", "tiny_data", "tiny_net", "tiny_pool", "tiny_victim"]

ARCHITECTURE: Final = "resnet8(width=4)"


def tiny_data(part: str) -> Dataset:
    """Digits of 8 x 8 pixels, one of the parts of `whorl.data.PARTS`."""
    return SOURCES.make("digits(size=8)").load(part)


def tiny_net(*, seed: int = 0, part: str = "victim", architecture: str = ARCHITECTURE) -> Classifier:
    """A net of the caller's own, trained on one part of `tiny_data` to about 90 % accuracy; in evaluation mode."""
    return copy.deepcopy(_trained(seed, part, architecture))


def tiny_victim(access: Access = Access.WEIGHTS, *, seed: int = 0, architecture: str = ARCHITECTURE) -> TorchOracle:
    """A fresh oracle around a `tiny_net`, granting ``access``."""
    net = tiny_net(seed=seed, architecture=architecture)
    digest = digest_tensors(net.state_dict())
    return TorchOracle(
        net, input_shape=net.input_shape, classes=net.classes, access=access, name=f"tiny {seed}", digest=digest
    )


def tiny_pool(*, seed: int = 0, count: int = 3) -> Pool:
    """Shadow models of the tiny victim of that seed: ``count`` copies of each of two families, twice as many others."""
    victim, data = tiny_victim(seed=seed), tiny_data("calibration")
    derived: dict[str, list[Oracle]] = {}
    for expression in ("fine_tune(all, epochs=1)", "prune_weights(3/10, epochs=1)"):
        removal = REMOVALS.make(expression)
        made = [removal(victim, data, generator=torch.Generator().manual_seed(60 + k)) for k in range(count)]
        derived[type(removal).family] = [opened(each, victim, name=expression) for each in made]
    return Pool(derived, [tiny_victim(seed=60 + number) for number in range(2 * count)])


@lru_cache(maxsize=64)
def _trained(seed: int, part: str, architecture: str) -> Classifier:
    data = tiny_data(part)
    generator = torch.Generator().manual_seed(seed)
    net = build(architecture, data.input_shape, len(data.classes), generator)
    assert isinstance(net, Classifier), f"{architecture} is not a Classifier, which the checks need"
    net.standardise(data.inputs())
    fit(net, data, Schedule(epochs=5, learning_rate=0.2, policy="one-cycle", batch=25, shift=0), generator=generator)
    return net
