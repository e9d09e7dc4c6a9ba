"""How far are two data sets apart, as nets see it: by models trained on each.

d(D1, D2) = 2 E dist(f, g) - E dist(f, f') - E dist(g, g') for models f, f' of D1 and g, g' of D2 that differ in all
chance, where dist is the mean total variation of their probabilities on probe inputs, or the share of other labels. It
is 0 in the mean where models of both sets are exchangeable.

What the p-value says depends on how the models were trained. Where each learned from a draw of its own, it is about the
distributions. Where all models of a set learned from the same pictures, they are more alike for that, and two halves of
one set are told apart (docs/explain.md): then it is about these very pictures.

Source: the energy statistic (`whorl.detection.energy`) between models in the place of inputs. Nothing like it was found
published; the optimal transport data set distance of Alvarez-Melis & Fusi, NeurIPS 2020, is between inputs and labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from whorl.data.base import Dataset
from whorl.detection.energy import Energy, energy_test
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.types import Access

__all__ = ["answer_distances", "data_distance"]

LEAST = 20  # models of each set: fewer leave the smallest p-values to chance


def data_distance(
    first: Sequence[Oracle],
    second: Sequence[Oracle],
    probes: Dataset,
    *,
    generator: np.random.Generator,
    rounds: int = 999,
) -> Energy:
    """The distance of the data sets that two groups of models learned from.

    Parameters:
        first: 20 models or more of one set, alike in architecture and training, of the same classes.
        second: as many or more of the other set, alike in the same.
        probes: held-out inputs, as of both sets together. Each model is asked once for each.

    Raises:
        UsageError: fewer models, or models that do not take the probes or have other classes than the others.
    """
    if min(len(first), len(second)) < LEAST:
        raise UsageError(f"{LEAST} models of each data set are needed; {len(first)} and {len(second)} are given")
    models = [*first, *second]
    for model in models:
        probes.check_takes(model.name, model.space)
        if model.task != "classification" or model.classes != models[0].classes:
            raise UsageError(
                f"{model.name} is no classifier of the same {models[0].classes} classes as the first model"
            )
    inputs = probes.inputs()
    sure = all(model.access >= Access.PROBABILITIES for model in models)
    answers = torch.stack([model.probabilities(inputs) if sure else _one_hot(model, inputs) for model in models])
    return energy_test(answer_distances(answers).numpy(), len(first), generator=generator, rounds=rounds)


def answer_distances(answers: Tensor) -> Tensor:
    """Mean total variation ``[k, k]`` of each two models' probabilities ``[k, n, classes]``."""
    flat = answers.double().flatten(1)
    return torch.cdist(flat, flat, p=1) / (2 * answers.shape[1])


def _one_hot(model: Oracle, inputs: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(model.labels(inputs), model.classes).float()
