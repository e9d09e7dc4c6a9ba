"""Small dense networks that a sampler trains on models' answers, as plain tensors that a fingerprint can carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import linear, relu

from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.queries.descent import Adam
from whorl.types import Task

__all__ = ["Lesson", "finished", "perceptron", "refuse_strangers", "respond", "signals", "unpack"]


def perceptron(widths: Sequence[int], generator: torch.Generator) -> dict[str, Tensor]:
    """Weights ``[out, in]`` and biases ``[out]`` of the layers between ``widths``, as ``0.weight`` and so on.

    They ask for gradients until they are `finished`.

    Source: He et al., ICCV 2015, equation 10 (fan-in form).
    """
    weights: dict[str, Tensor] = {}
    for layer, (inside, outside) in enumerate(pairwise(widths)):
        weights[f"{layer}.weight"] = torch.randn(outside, inside, generator=generator) * (2 / inside) ** 0.5
        weights[f"{layer}.bias"] = torch.zeros(outside)
    return {name: each.requires_grad_() for name, each in weights.items()}


def finished(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Trained weights as a fingerprint carries them: ``prefix.0.weight`` and so on, without gradients."""
    return {f"{prefix}.{name}": each.detach() for name, each in weights.items()}


def respond(weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Linear layers with ReLU between them.

    Shape:
        inputs: ``[b, in]``. Returns ``[b, out]``.
    """
    layers = len(weights) // 2
    for layer in range(layers):
        inputs = linear(relu(inputs) if layer else inputs, weights[f"{layer}.weight"], weights[f"{layer}.bias"])
    return inputs


class Lesson:
    """Adam on the weights of one network, in place.

    Not torch's own optimiser, whose import takes longer than such a network takes to train.
    """

    def __init__(self, weights: Mapping[str, Tensor], learning_rate: float) -> None:
        self.weights = list(weights.values())
        self._adams = [Adam(each, learning_rate) for each in self.weights]

    def learn(self, loss: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One step down ``loss``. Returns its gradients in ``inputs``."""
        slopes = torch.autograd.grad(loss, [*self.weights, *inputs])
        for each, adam, slope in zip(self.weights, self._adams, slopes, strict=False):
            each.data -= adam.step(slope)
        return slopes[len(self.weights) :]


def unpack(shared: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights that `finished` kept under ``prefix``; empty where there are none."""
    return {name.removeprefix(prefix + "."): values for name, values in shared.items() if name.startswith(prefix + ".")}


def signals(scores: Tensor, task: Task) -> Tensor:
    """What a network sees of an answer: the probabilities of a classifier, the outputs of other models.

    Shape:
        scores: ``[..., classes]``, logits or `Oracle.scores`; returned in the same shape.
    """
    return scores.softmax(-1) if task == "classification" else scores


def refuse_strangers(victim: Oracle, pool: Pool, what: str) -> None:
    """Raise `UsageError` unless every shadow model takes and gives what the victim does.

    Parameters:
        what: the thing learned, as in ``a meta-verifier``.
    """
    due = (victim.input_shape, victim.classes, victim.task)
    for model in (*pool.copies, *pool.independent):
        if (given := (model.input_shape, model.classes, model.task)) != due:
            raise UsageError(
                f"{what} compares answers output by output, so input shape, number of outputs and task of a shadow "
                f"model must be those of {victim.name}, {due}; {model.name} has {given}"
            )
