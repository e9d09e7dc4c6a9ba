"""The first step of a recipe, carried out: a net trained from weights that the recipe's seed draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.base import Net
from whorl.nets.training import Schedule, build, dimensions, fit
from whorl.zoo.recipe import Recipe, Train

__all__ = ["begin", "schedule_of", "train_net", "training_data"]


def train_net(
    recipe: Recipe, device: str = "cpu", watch: Callable[[nn.Module, Dataset, torch.Generator], Any] | None = None
) -> nn.Module:
    """The net of a recipe's first step.

    Parameters:
        watch: given the net before its first step, what it learns from and the generator, gives further arguments of
            `whorl.nets.training.fit`.
    """
    net, data, generator = begin(recipe)
    net.to(device)
    watching = watch(net, data, generator) if watch else {}
    seed = _train(recipe).seed
    with torch.random.fork_rng(devices=[]):  # dropout draws from the global state, which is to say the seed's
        torch.default_generator.manual_seed(seed)
        fit(net, data, schedule_of(recipe), generator=generator, **watching)
    return net


def begin(recipe: Recipe) -> tuple[nn.Module, Dataset, torch.Generator]:
    """The net with the weights that it begins with, what it learns from, and the generator of all further chance."""
    train, data = _train(recipe), training_data(recipe)
    generator = torch.Generator().manual_seed(train.seed)
    net = build(train.architecture, *dimensions(train.architecture, data), generator)
    if isinstance(net, Net):
        net.standardise(data.inputs())
    return net, data, generator


def schedule_of(recipe: Recipe) -> Schedule:
    """How long and how fast it trains."""
    train = _train(recipe)
    return Schedule(
        epochs=train.epochs,
        learning_rate=train.learning_rate,
        policy="one-cycle",
        batch=train.batch,
        shift=train.shift,
        flip=train.flip,
    )


def training_data(recipe: Recipe) -> Dataset:
    """What the first step learns from. Raises `UsageError` where that is nothing, or of one class."""
    train = _train(recipe)
    data = recipe.source.load(train.part)
    if data.labels.ndim == 1 and len(data.classes) < 2:
        held = ", ".join(data.classes) or "none"
        raise UsageError(f"{recipe.data} has one class ({held}); a classifier needs two or more to learn from")
    if train.share == 1:
        return data
    if not (count := round(train.share * len(data))):
        raise UsageError(f"{recipe}: share={float(train.share):g} of {len(data)} inputs is none; give a larger share")
    generator = torch.Generator().manual_seed((1_000_003 + train.seed) % 2**63)
    return data.subset(torch.randperm(len(data), generator=generator)[:count])


def _train(recipe: Recipe) -> Train:
    if not isinstance(recipe.first, Train):
        raise UsageError(f"{recipe} begins with a model that was downloaded; give a recipe that begins with train")
    return recipe.first
