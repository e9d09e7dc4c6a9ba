"""Sensitive samples: pictures whose answers move most when the weights do.

Paper: He, Zhang, Lee, *Sensitive-Sample Fingerprinting of Deep Neural Networks*, CVPR 2019, equation of the sensitivity
|| d f(W, v) / d W ||_F^2 and the maximum active neuron cover (MANC).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from whorl.data.base import Dataset
from whorl.errors import AccessRefused, UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.oracles.bounded import Bounded
from whorl.oracles.torch import TorchOracle, frozen
from whorl.queries.base import Sampler, draw
from whorl.queries.descent import Adam, at_once, in_blocks
from whorl.settings import Count, NonNegative, Positive, Radius, Whole
from whorl.types import Access, Queries

__all__ = ["Sensitive", "cover", "sensitivity", "steady"]

TINY = 1e-30  # a saturated softmax has no sensitivity, and its logarithm must be finite


@dataclass(frozen=True, kw_only=True)
class Sensitive(Sampler):
    """Pictures optimised for sensitivity near natural ones, of which MANC keeps those that cover most neurons.

    Parameters:
        candidates: pictures that are optimised; at least the budget is.
        epsilon: radius around the natural picture: root mean square change (l2) or largest change (linf) of a pixel.
        norm: which of the two.
        layers: whose weights: the last layer's, as in the authors' code, or all.
        learning_rate: Adam's, in units of [0, 1] pixels.
        iterations: Adam steps, which shrink to nothing; 0 leaves the pictures natural.
        margin: an answer that relative changes of the probabilities by ``margin`` could alter is not asked for, or
            the order in which a machine sums would look like tampering.
    """

    needs_victim: ClassVar[Access] = Access.WEIGHTS
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/seeds": Layout("n *input", "input"),
        "companions/sensitivity": Layout("n", low=0),
    }

    candidates: Count = 100
    epsilon: Radius = 10 / 255
    norm: Literal["l2", "linf"] = "l2"
    layers: Literal["last", "all"] = "last"
    learning_rate: Positive = 1 / 255
    iterations: Whole = 200
    margin: NonNegative = 2e-5

    @property
    def looks_at(self) -> tuple[int, int]:
        """(k, digits): the answer is the first k classes, and their probabilities to so many decimals (0: not)."""
        return 1, 0

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """The cover, with the ``seeds`` and the ``sensitivity`` of each.

        Raises:
            UsageError: too few candidates have a steady answer.
        """
        if not isinstance(victim, TorchOracle):
            raise AccessRefused(f"sensitivity to weights needs a PyTorch module; {victim.name} is none")
        # Folded norms make passes cheaper; with all layers they are weights like others.
        copied = copy.deepcopy(victim.module).eval().requires_grad_(False)
        module = copied if self.layers == "all" else frozen(copied)
        seeds = data.inputs(draw(data, max(budget, min(self.candidates, len(data))), generator))
        measure = sensitivity(module, self.layers, generator)
        origin, state = seeds.to(victim.device), generator.get_state()
        most = at_once(Bounded(measure), origin)
        generator.set_state(state)  # what a pass needs was tried on two of them

        def move(place: slice) -> tuple[Tensor, ...]:
            end = self._ascend(measure, origin[place])
            values, natural = self._mean(measure, end), self._mean(measure, origin[place])
            return end.cpu(), values, natural, _active(module, end).cpu()

        points, values, natural, active = in_blocks(move, len(origin), most)
        top, digits = self.looks_at
        kept = steady(victim.probabilities(points), top, digits, self.margin).nonzero().flatten()
        if len(kept) < budget:
            raise UsageError(
                f"{len(kept)} of {len(points)} candidates have an answer that rounding errors leave alone and "
                f"{budget} are asked for; give more candidates or pictures, fewer digits, or a smaller margin"
            )
        chosen = kept[cover(active[kept], values[kept], budget)]
        companions = {"seeds": seeds[chosen], "sensitivity": values[chosen]}
        notes = {"steady": len(kept) / len(points), "gain": float(values.mean() / natural.mean().clamp_min(TINY))}
        return Queries(points[chosen], companions, notes)

    def _ascend(self, measure: Callable[[Tensor], Tensor], seeds: Tensor) -> Tensor:
        """Where each row ends within the ball and the box, by steps that shrink to nothing."""
        point, adam = seeds.clone(), Adam(seeds, self.learning_rate)
        for step in range(self.iterations):
            point.requires_grad_()
            # The logarithm has the same maximum, and slopes that Adam's epsilon does not swallow.
            (slope,) = torch.autograd.grad(measure(point).clamp_min(TINY).log().sum(), point)
            adam.learning_rate = self.learning_rate * (1 - step / self.iterations)
            point = self._project(point.detach() + adam.step(slope), seeds)
        return point

    def _mean(self, measure: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
        """Sensitivity ``[n]``, averaged where one call estimates it."""
        with torch.no_grad():
            return torch.stack([measure(points) for _ in range(1 if self.layers == "last" else 16)]).mean(0).cpu()

    def _project(self, point: Tensor, seeds: Tensor) -> Tensor:
        change = point - seeds
        if self.norm == "linf":
            change = change.clamp(-self.epsilon, self.epsilon)
        else:
            length = change.square().mean((1, 2, 3), keepdim=True).sqrt()
            change = change * (self.epsilon / length.clamp_min(1e-12)).clamp_max(1)
        return (seeds + change).clamp(0, 1)  # towards the seed, so the point stays in the ball


def sensitivity(
    module: nn.Module, layers: Literal["last", "all"], generator: torch.Generator
) -> Callable[[Tensor], Tensor]:
    """Inputs ``[n, c, h, w]`` to || d softmax / d W ||_F^2 ``[n]``, differentiable in the inputs.

    Parameters:
        module: inputs to logits, in evaluation mode.
        layers: W is the weight and bias of the last linear layer, which gives the logits, or every parameter. The
            former has a closed form. The latter is estimated without bias at each call: || (d f / d W) e ||^2 for one
            normal direction e of all rows has that mean, and needs no Jacobian of any row.
        generator: draws the directions.
    """
    if layers == "last":
        return lambda inputs: _last_layer(module, inputs)
    weights, buffers = dict(module.named_parameters()), dict(module.named_buffers())

    def estimate(inputs: Tensor) -> Tensor:
        direction = {
            name: torch.randn(value.shape, generator=generator).to(value.device) for name, value in weights.items()
        }

        def answers(chosen: dict[str, Tensor]) -> Tensor:
            return functional_call(module, {**chosen, **buffers}, (inputs,)).softmax(1)

        return jvp(answers, (weights,), (direction,))[1].square().sum(1)

    return estimate


def _last_layer(module: nn.Module, inputs: Tensor) -> Tensor:
    """(|h|^2 + 1) || diag p - p p^T ||_F^2 for what the last layer reads, h, and the probabilities p."""
    read, logits = _head_inputs(module, inputs)
    # Doubles: where the net is sure the terms cancel to far less than each of them.
    second, third = (logits.double().softmax(1).pow(power).sum(1) for power in (2, 3))
    spread = (second - 2 * third + second.square()).clamp_min(0)  # what is 0 may come out as -1e-16
    return (read.square().sum(1) + 1) * spread.to(inputs.dtype)


def steady(probabilities: Tensor, top: int, digits: int, margin: float) -> Tensor:
    """Whether relative changes by ``margin`` leave the answer alone, ``[n]`` bool.

    Parameters:
        probabilities: ``[n, classes]``.
        top: how many classes the answer names, in order.
        digits: decimals of the probabilities in the answer; 0 for none.
    """
    if digits:
        low, high = ((probabilities * scale * 10**digits).round() for scale in (1 - margin, 1 + margin))
        return (low == high).all(1)
    ordered = probabilities.clamp_min(1e-30).log().sort(1, descending=True).values[:, : top + 1]
    return (-ordered.diff(dim=1) > 2 * margin).all(1)


def cover(active: Tensor, values: Tensor, count: int) -> Tensor:
    """Greedy choice of rows that together activate most neurons: positions ``[count]`` in order of choice.

    Of rows that add equally many, the one of the largest value; when none adds any, a new cover begins.

    Shape:
        active: ``[n, neurons]`` bool; values: ``[n]``.
    """
    left = torch.ones(len(active), dtype=torch.bool)
    covered = torch.zeros(active.shape[1], dtype=torch.bool)
    chosen: list[int] = []
    rank = values.argsort(stable=True).argsort().double() / len(values)
    while len(chosen) < count:
        gain = (active & ~covered).sum(1)
        if not bool(gain[left].any()):
            covered.zero_()
            gain = active.sum(1)
        best = int(torch.where(left, gain + rank, -1.0).argmax())
        chosen.append(best)
        left[best] = False
        covered |= active[best]
    return torch.tensor(chosen)


def _active(module: nn.Module, inputs: Tensor) -> Tensor:
    """Which neurons answer, ``[n, neurons + classes]``: those that the last layer reads, and the classes it gives.

    A class is active above its share; a weight into another class moves nothing.
    """
    with torch.no_grad():
        read, logits = _head_inputs(module, inputs)
    return torch.cat([read > 0, logits.softmax(1) > 1 / logits.shape[1]], 1)


def _head_inputs(module: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What the last linear layer reads, ``[n, neurons]``, and the logits."""
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise UsageError(f"this {type(module).__name__} has no linear layer, whose weights sensitive samples probe")
    found: list[Tensor] = []
    handle = linear[-1].register_forward_pre_hook(lambda _, given: found.append(given[0]))
    try:
        logits = module(inputs)
    finally:
        handle.remove()
    return found[-1].flatten(1), logits
