"""A victim small enough to train in half a second, with norms, hidden units and a head as large ones have."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import torch

from whorl.data import PARTS, SOURCES, Dataset
from whorl.nets.base import Net
from whorl.nets.training import Schedule, build, dimensions, fit, task_of
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.removals.base import opened, stolen_copy
from whorl.storage import digest_tensors
from whorl.types import Access, Task

__all__ = ["ARCHITECTURE", "tiny_data", "tiny_net", "tiny_pool", "tiny_victim"]

ARCHITECTURE: Final = "resnet8(width=4)"
ARCHITECTURES: Final[Mapping[Task, str]] = {
    "classification": ARCHITECTURE,
    "regression": "mlp_regressor(width=16)",
    "generation": "vae(latent=4, width=16)",
}


def tiny_data(part: str, task: Task = "classification") -> Dataset:
    """Digits of 8 x 8 pixels, or rows with numbers to predict, or codes to make pictures from; one of `PARTS`."""
    if task == "regression":
        return SOURCES.make("diabetes").load(part)
    data = SOURCES.make("digits(size=8)").load(part)
    if task == "generation":
        codes = torch.rand(len(data), 1, 1, 4, generator=torch.Generator().manual_seed(list(PARTS).index(part)))
        return Dataset(codes, torch.empty(len(data), 0), ())
    return data


def tiny_net(*, seed: int = 0, part: str = "victim", architecture: str = ARCHITECTURE) -> Net:
    """A net of the caller's own, trained on one part of `tiny_data` to about 90 % accuracy; in evaluation mode."""
    return copy.deepcopy(_trained(seed, part, architecture))


def tiny_victim(
    access: Access = Access.WEIGHTS,
    *,
    seed: int = 0,
    architecture: str | None = None,
    task: Task = "classification",
) -> TorchOracle:
    """A fresh oracle around a `tiny_net`, granting ``access``; the smallest net of the task by default."""
    net = tiny_net(seed=seed, architecture=architecture or ARCHITECTURES[task])
    digest, name = digest_tensors(net.state_dict()), f"tiny {seed}"
    shape, classes = net.input_shape, net.classes
    return TorchOracle(net, input_shape=shape, classes=classes, access=access, name=name, digest=digest, task=net.task)


def tiny_pool(*, seed: int = 0, count: int = 3, task: Task = "classification") -> Pool:
    """Shadow models of the tiny victim of that seed: ``count`` copies of each of two families, twice as many others."""
    if task != "classification":  # removals that need labels have nothing to work with
        return _other_pool(seed, count, task)
    victim, data = tiny_victim(seed=seed), tiny_data("calibration")
    derived: dict[str, list[Oracle]] = {}
    for expression in ("fine_tune(all, epochs=1)", "prune_weights(3/10, epochs=1)"):
        removal = REMOVALS.make(expression)
        made = [removal(victim, data, generator=torch.Generator().manual_seed(60 + k)) for k in range(count)]
        derived[type(removal).family] = [opened(each, victim, name=expression) for each in made]
    return Pool(derived, [tiny_victim(seed=60 + number) for number in range(2 * count)])


def _other_pool(seed: int, count: int, task: Task) -> Pool:
    """Copies with a little noise on their weights, and others of other seeds."""
    victim = tiny_victim(seed=seed, task=task)
    derived: list[Oracle] = []
    for number in range(2 * count):
        noisy = stolen_copy(victim)
        generator = torch.Generator().manual_seed(60 + number)
        with torch.no_grad():
            for value in noisy.parameters():
                value += 0.01 * value.std(correction=0) * torch.randn(value.shape, generator=generator)
        derived.append(opened(noisy, victim, name="noise"))
    others: list[Oracle] = [tiny_victim(seed=60 + number, task=task) for number in range(2 * count)]
    return Pool({"noise": derived}, others)


@lru_cache(maxsize=64)
def _trained(seed: int, part: str, architecture: str) -> Net:
    task = task_of(architecture)
    data = tiny_data(part, "classification" if task == "generation" else task)  # a generative net learns from pictures
    generator = torch.Generator().manual_seed(seed)
    net = build(architecture, *dimensions(architecture, data), generator)
    assert isinstance(net, Net)  # `build` refuses anything else
    net.standardise(data.inputs())
    rate = 0.2 if task == "classification" else 0.02
    fit(net, data, Schedule(epochs=5, learning_rate=rate, policy="one-cycle", batch=25, shift=0), generator=generator)
    return net
