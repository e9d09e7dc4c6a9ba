"""Data-free model extraction: a generator makes the questions on which thief and victim differ most.

Paper: Truong, Maini, Walls & Papernot, *Data-Free Model Extraction* (DFME), CVPR 2021, arXiv 2011.14779. The student
descends the L1 distance between its logits and the victim's, which are recovered from probabilities as
log p - mean log p; the generator ascends the same distance. What of that is the victim's, the thief can't
differentiate: the gradient is estimated by forward differences along random directions, taken where the generator's
output still is real numbers, before tanh.

Changed: pictures are (tanh + 1) / 2, since ours lie in [0, 1]; the generator is a small one for small pictures; the
student keeps the normalisation (0.5, 0.25) that it is built with, as the thief has no pictures to take one from; the
batch is 32 and the generator's rate 1e-3, not 256 and 1e-4, for budgets of 10^5 queries and not 2 x 10^7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu
from torch.optim import SGD, Adam, Optimizer

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.base import convolution, initialise
from whorl.nets.training import build, task_of
from whorl.oracles.base import Oracle
from whorl.removals.base import Removal
from whorl.settings import Architecture, Count, Positive
from whorl.types import Access

__all__ = ["DataFree", "Generator", "estimated_gradient", "recovered"]

LEAST: Final = 1e-12  # an interface that rounds gives probabilities of zero
DECAY: Final = 0.3
MILESTONES: Final = (0.1, 0.3, 0.5)  # shares of the budget after which both rates fall
Recovery = Literal["mean", "minimum"] | None


@dataclass(frozen=True)
class DataFree(Removal):
    """Train ``architecture`` on at most ``budget`` answers about generated pictures. The thief's data is not used.

    Parameters:
        recovery: what is taken off log p for logits; None learns probabilities as they are.
        batch: pictures a step.
        student_steps: of the student for each one of the generator.
        directions: m, of the estimate of a gradient.
        epsilon: length of the forward difference.
        latent: dimensions of the generator's noise.
        width: channels of the generator.
    """

    family: ClassVar[str] = "extract"
    needs: ClassVar[Access] = Access.PROBABILITIES

    architecture: Architecture
    budget: Annotated[int, Ge(2)] = 100_000
    recovery: Recovery = "mean"
    batch: Annotated[int, Ge(2)] = 32
    student_steps: Count = 5
    directions: Count = 1
    epsilon: Positive = 1e-3
    learning_rate: Positive = 0.1
    generator_rate: Positive = 1e-3
    latent: Count = 64
    width: Count = 32

    def apply(self, victim: Oracle, data: Dataset, *, generator: torch.Generator) -> nn.Module:
        """The student."""
        del data
        self._check(victim)
        student = build(str(self.architecture), victim.input_shape, victim.classes, generator)
        maker = _generator(victim.input_shape, self.latent, self.width, generator)
        learn = SGD(student.parameters(), self.learning_rate, momentum=0.9, weight_decay=5e-4)
        ascend = Adam(maker.parameters(), self.generator_rate)
        spent, passed = 0, 0
        cost = self.batch * (1 + self.directions)
        while self.budget - spent >= 2:  # one picture has no spread that a norm could divide by
            if self.budget - spent >= cost + self.batch:
                self._provoke(maker, student, victim, ascend, generator)
                spent += cost
            student.train()
            for _ in range(self.student_steps):
                if (count := min(self.batch, self.budget - spent)) >= 2:
                    with torch.no_grad():
                        pictures = squashed(maker(torch.randn(count, self.latent, generator=generator)))
                    learn.zero_grad()
                    self._distance(student, victim, pictures).mean().backward()
                    learn.step()
                    spent += count
            while passed < len(MILESTONES) and spent >= MILESTONES[passed] * self.budget:
                passed += 1
                for group in (*learn.param_groups, *ascend.param_groups):
                    group["lr"] *= DECAY
        return student.requires_grad_(True).eval()

    def _check(self, victim: Oracle) -> None:
        if (task := task_of(str(self.architecture))) != "classification" or victim.task != task:
            raise UsageError(
                f"data_free recovers logits of classes; {victim.name} does {victim.task}, the thief {task}"
            )

    def _distance(self, student: nn.Module, victim: Oracle, pictures: Tensor) -> Tensor:
        """L1 distance of each picture ``[n]``, mean over classes."""
        targets = recovered(victim.probabilities(pictures), self.recovery)
        outputs = student(pictures)
        return ((outputs.softmax(1) if self.recovery is None else outputs) - targets).abs().mean(1)

    def _provoke(
        self, maker: Generator, student: nn.Module, victim: Oracle, ascend: Optimizer, chance: torch.Generator
    ) -> None:
        """One step of the generator, towards pictures on which student and victim differ more."""

        @torch.no_grad()
        def distance(raw: Tensor) -> Tensor:
            return self._distance(student, victim, squashed(raw))

        raw = maker(torch.randn(self.batch, self.latent, generator=chance))
        student.eval()
        gradient = estimated_gradient(distance, raw.detach(), self.directions, self.epsilon, chance)
        ascend.zero_grad()
        raw.backward(-gradient / self.batch)
        ascend.step()


def recovered(probabilities: Tensor, recovery: Recovery = "mean") -> Tensor:
    """Logits ``[n, classes]`` but for the shift that softmax forgets: log p less its mean or minimum (section 3.2)."""
    if recovery is None:
        return probabilities
    logs = probabilities.clamp_min(LEAST).log()
    return logs - (logs.mean(1, keepdim=True) if recovery == "mean" else logs.amin(1, keepdim=True))


def squashed(raw: Tensor) -> Tensor:
    """Pictures in [0, 1] from real numbers."""
    return (raw.tanh() + 1) / 2


def estimated_gradient(
    function: Callable[[Tensor], Tensor], points: Tensor, directions: int, epsilon: float, generator: torch.Generator
) -> Tensor:
    """(d / m) sum_i u_i (f(x + epsilon u_i) - f(x)) / epsilon, for u_i uniform on the unit sphere (section 3.3).

    Shape:
        function: ``[k, ...]`` to ``[k]``, asked once for all ``n (1 + directions)`` points.
        points: ``[n, ...]``; so is what it returns.
    """
    count, *shape = points.shape
    ways = torch.randn(directions, count, *shape, generator=generator)
    ways /= ways.flatten(2).norm(dim=2).view(directions, count, *[1] * len(shape))
    values = function(torch.cat([points[None], points + epsilon * ways]).flatten(0, 1)).view(1 + directions, count)
    slopes = (values[1:] - values[:1]) / epsilon
    return points[0].numel() * (slopes.view(directions, count, *[1] * len(shape)) * ways).mean(0)


class Generator(nn.Module):
    """Noise ``[n, latent]`` to real numbers ``[n, c, h, w]``, by a linear layer and two doublings of the size."""

    def __init__(self, input_shape: tuple[int, int, int], latent: int, width: int) -> None:
        super().__init__()
        channels, height, width_ = input_shape
        self.sizes = [(-(-height // step), -(-width_ // step)) for step in (4, 2, 1)]
        self.first = nn.Linear(latent, 2 * width * self.sizes[0][0] * self.sizes[0][1])
        self.convs = nn.ModuleList([convolution(2 * width, 2 * width), convolution(2 * width, width)])
        self.norms = nn.ModuleList(nn.BatchNorm2d(each) for each in (2 * width, 2 * width, width))
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, noise: Tensor) -> Tensor:
        """Real numbers ``[n, c, h, w]``, to be squashed."""
        x = self.norms[0](self.first(noise).unflatten(1, (-1, *self.sizes[0])))
        for size, conv, norm in zip(self.sizes[1:], self.convs, self.norms[1:], strict=True):
            x = leaky_relu(norm(conv(interpolate(x, size=size))), 0.2)
        return self.last(x)


def _generator(input_shape: tuple[int, int, int], latent: int, width: int, chance: torch.Generator) -> Generator:
    with torch.device("meta"):
        made = Generator(input_shape, latent, width)
    made.to_empty(device="cpu")
    initialise(made, chance)
    return made
