"""Inputs and a verifier that are trained together, so that the verifier knows a copy from its answers to the inputs.

Paper: Pan et al., *MetaV: A Meta-Verifier Approach to Task-Agnostic Model Fingerprinting*, KDD 2022, arXiv 2201.07391.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from whorl.data.base import Dataset
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.queries.base import PooledSampler, draw, gradient_of
from whorl.queries.descent import Adam
from whorl.queries.perceptron import Lesson, finished, perceptron, refuse_strangers, respond, signals
from whorl.settings import Count, NonNegative, Positive
from whorl.types import Access, Queries

__all__ = ["JointlyTrained", "verifier_loss"]

LEAST = 1e-6  # an output that never changes would have no scale


@dataclass(frozen=True, kw_only=True)
class JointlyTrained(PooledSampler):
    """Adam on inputs X and verifier V at once, through frozen copies of the victim and of all shadow models.

    Each step asks each model about the whole of X, once. V sees all answers of a model side by side, each output
    standardised by its mean and spread over the models' answers to the first X.

    Parameters:
        start: where X begins: held-out ``pictures``, or uniform ``noise``.
        steps: joint steps.
        learning_rate: Adam's for X, in units of [0, 1] pixels; 0 leaves X as it begins.
        verifier_rate: Adam's for V.
        width: units of each of V's two hidden layers.
    """

    needs_victim: ClassVar[Access] = Access.GRADIENTS
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "shared/centre": Layout("k"),
        "shared/scale": Layout("k", low=1e-30),
        "shared/verifier.0.weight": Layout("width n*k"),
        "shared/verifier.0.bias": Layout("width"),
        "shared/verifier.1.weight": Layout("width width"),
        "shared/verifier.1.bias": Layout("width"),
        "shared/verifier.2.weight": Layout("1 width"),
        "shared/verifier.2.bias": Layout("1"),
    }

    start: Literal["pictures", "noise"] = "pictures"
    steps: Count = 100
    learning_rate: NonNegative = 0.01
    verifier_rate: Positive = 0.001
    width: Count = 64

    def sample_with(
        self, victim: Oracle, data: Dataset, pool: Pool, *, budget: int, generator: torch.Generator
    ) -> Queries:
        """X, and in ``shared`` V with the ``centre`` and ``scale`` ``[classes]`` of what it sees."""
        pool.require(1, 2, "a meta-verifier")
        refuse_strangers(victim, pool, "a meta-verifier")
        models = [victim, *pool.copies, *pool.independent]
        nets = [gradient_of(model) for model in models]
        derived = torch.arange(len(models)) <= len(pool.copies)
        device = getattr(victim, "device", torch.device("cpu"))

        def answers(inputs: Tensor) -> Tensor:
            return torch.stack([signals(net(inputs.to(device)).cpu(), victim.task) for net in nets])

        inputs = self._first(victim, data, budget, generator)
        with torch.no_grad():
            first = answers(inputs)
        centre, scale = first.mean((0, 1)), first.std((0, 1)).clamp_min(LEAST)
        verifier = perceptron((budget * victim.classes, self.width, self.width, 1), generator)
        inputs, loss = self._train(lambda inputs: (answers(inputs) - centre) / scale, inputs, verifier, derived)
        shared = {"centre": centre, "scale": scale} | finished(verifier, "verifier")
        return Queries(inputs, notes={"loss": loss}, shared=shared)

    def _first(self, victim: Oracle, data: Dataset, budget: int, generator: torch.Generator) -> Tensor:
        if self.start == "pictures":
            return data.inputs(draw(data, budget, generator))
        return torch.rand(budget, *victim.input_shape, generator=generator)

    def _train(
        self, seen: Callable[[Tensor], Tensor], inputs: Tensor, verifier: dict[str, Tensor], derived: Tensor
    ) -> tuple[Tensor, float]:
        """The trained inputs and the last loss; ``verifier`` is trained in place."""
        lesson, adam, last = Lesson(verifier, self.verifier_rate), Adam(inputs, self.learning_rate), 0.0
        for _ in range(self.steps):
            inputs.requires_grad_()
            loss = verifier_loss(respond(verifier, seen(inputs).flatten(1)).squeeze(1), derived)
            (slope,) = lesson.learn(loss, inputs)
            inputs, last = (inputs.detach() - adam.step(slope)).clamp(0, 1), float(loss.detach())
        return inputs, last


def verifier_loss(logits: Tensor, derived: Tensor) -> Tensor:
    """Cross-entropy of V, with the same weight for the models made from the victim as for the independent ones.

    The paper sums over the models; the mean of each side is the same where both are equally many.

    Shape:
        logits: ``[models]``; derived: ``[models]`` bool, both values present. Returns a scalar.
    """
    return (softplus(-logits[derived]).mean() + softplus(logits[~derived]).mean()) / 2
