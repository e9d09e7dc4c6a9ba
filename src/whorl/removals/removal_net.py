"""RemovalNet: the copy unlearns how the victim represents and ranks, and keeps what it calls things.

Paper: Yao, Li, Huang, Lou, Qin, Ren, *RemovalNet: DNN Fingerprint Removal Attacks*, IEEE TDSC 2023 (arXiv 2308.12319).
A min-max: the inner step looks for latent features far from the victim's, and for probabilities far from the victim's,
that still carry the victim's label; the outer step teaches them to the copy beside the label itself,
``beta * MSE(features) + alpha * T^2 * KL(probabilities) + (1 - alpha) * cross-entropy``.

From the authors' code for CIFAR-10: 1000 iterations in batches of 100, 20 inner steps of 0.1 along the sign of the
gradient, alpha 0.11, T 10. Changed from it: the latent features are what the head reads, so that any net can be
treated, and stay at least 0 where the victim's do; they are measured in units of the victim's root mean square, with a
beta of 20 where the code has 0.5 (2 in another version) on feature maps, at which boundaries here do not move; one
cycle up to a rate of 0.05, where the code stays at 0.01; the distance is from the victim's features, where the code
takes the copy's own; the last features that keep the label are taught, where the code takes the last ones; the target
of the KL term is the mixed probabilities at temperature T, where the code takes their softmax once more, which is
nearly uniform.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.training import Schedule, fit, predict
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal, head_of, stolen_copy
from whorl.settings import Count, NonNegative, Positive, Probability

__all__ = ["RemovalNet", "far_features", "mix"]

TINY: Final = 1e-12
SHARES: Final = tuple(share / 20 for share in range(4, 20))  # that a picture keeps of its own probabilities


@dataclass(frozen=True)
class RemovalNet(Removal):
    """Move features and probabilities away from the victim's, and keep its labels.

    ``iterations`` counts outer steps (rounded up to whole epochs), ``inner_steps`` those of ``inner_rate`` in search
    of features; ``alpha`` weighs the mixed probabilities at ``temperature``, ``beta`` the features.
    """

    family: ClassVar[str] = "removal-net"

    iterations: Count = 1000
    alpha: Probability = 0.11
    beta: NonNegative = 20.0
    temperature: Positive = 10.0
    inner_steps: Count = 20
    inner_rate: Positive = 0.1
    learning_rate: Positive = 0.05

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The copy that represents otherwise."""
        if victim.task != "classification":
            raise UsageError(f"RemovalNet keeps the labels of a classifier; {victim.name} does {victim.task}")
        net = stolen_copy(victim)
        original = copy.deepcopy(net).requires_grad_(False)
        # The parts of an ensemble train one by one, each against its own original.
        originals = dict(zip(net.modules(), original.modules(), strict=True))
        labels = predict(original, data.inputs()).argmax(1).to(next(net.parameters()).device)

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            theirs, theirs_logits = _read(originals[model], inputs)
            wanted = labels[index]
            far = far_features(
                head_of(model), theirs, wanted, steps=self.inner_steps, rate=self.inner_rate, generator=generator
            )
            mixed = mix(theirs_logits.softmax(1), wanted)
            features, logits = _read(model, inputs)
            soft = (mixed.clamp_min(TINY).log() / self.temperature).softmax(1)
            apart = kl_div((logits / self.temperature).log_softmax(1), soft, reduction="batchmean")
            teaching = self.alpha * self.temperature**2 * apart + (1 - self.alpha) * cross_entropy(logits, wanted)
            unit = theirs.square().mean().sqrt().clamp_min(TINY)
            return self.beta * ((features - far) / unit).square().mean() + teaching

        steps = max(1, len(data) // Schedule.batch)
        schedule = Schedule(
            epochs=math.ceil(self.iterations / steps), learning_rate=self.learning_rate, policy="one-cycle"
        )
        fit(net, data, schedule, generator=generator, loss=loss)
        return net


def far_features(
    head: nn.Linear, features: Tensor, labels: Tensor, *, steps: int, rate: float, generator: torch.Generator
) -> Tensor:
    """Features ``[b, d]`` far from the given ones that ``head`` still calls ``labels`` ``[b]``; where none are found,
    those given.
    """
    floor = 0.0 if bool((features >= 0).all()) else -math.inf
    unit = features.square().mean().sqrt()
    point = unit * (torch.rand(features.shape, generator=generator).to(features).exp() - 1)  # as the authors start
    found = features
    for step in range(steps + 1):
        logits = head(point.requires_grad_())
        wrong = logits.argmax(1) != labels
        found = torch.where(wrong[:, None], found, point.detach())
        if step == steps:
            break
        distances = (point - features).norm(dim=1).clamp_min(TINY)
        misfit = (cross_entropy(logits, labels, reduction="none") * wrong).sum() - distances.log().sum()
        (slope,) = torch.autograd.grad(misfit, point)
        point = (point.detach() - rate * unit * slope.sign()).clamp_min(floor)
    return found


def mix(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Each row of ``[b, classes]`` blended with the one farthest from it, as much as its label ``[b]`` allows."""
    others = probabilities[torch.cdist(probabilities, probabilities).argmax(1)]
    shares = probabilities.new_tensor(SHARES)[:, None, None]
    blends = torch.cat([shares * probabilities + (1 - shares) * others, probabilities[None]])
    allowed = blends.argmax(2) == labels
    allowed[-1] = True
    first = allowed.float().argmax(0)
    return blends[first, torch.arange(len(labels), device=first.device)]


def _read(net: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What the head reads ``[b, d]``, and the logits ``[b, classes]``."""
    found: list[Tensor] = []
    handle = head_of(net).register_forward_pre_hook(lambda _head, read: found.append(read[0]))
    try:
        logits = net(inputs)
    finally:
        handle.remove()
    return found[0], logits
