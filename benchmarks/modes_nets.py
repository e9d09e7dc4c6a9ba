"""Small two-layer nets, trained many at a time, and what they learn: the material of `modes.py`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.data import SOURCES

TEACHER, INPUTS, SAMPLES = 4, 4, 256
SETTLED = 1e-29  # of the loss of a constant: float64 has no more digits
Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, tuple[Activation, type[nn.Module]]] = {
    "relu": (torch.relu, nn.ReLU),
    "tanh": (torch.tanh, nn.Tanh),
}


@dataclass(frozen=True)
class Nets:
    """Two-layer nets that are trained side by side: units ``[s, h, d + 1]`` with biases, heads ``[s, h, o]``."""

    units: Tensor
    heads: Tensor
    offsets: Tensor
    activation: str

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs ``[s, n, o]`` to inputs ``[n, d]``."""
        hidden = inputs @ self.units[..., :-1].mT + self.units[..., None, :, -1]
        return ACTIVATIONS[self.activation][0](hidden) @ self.heads + self.offsets[..., None, :]

    def flat(self) -> Tensor:
        """All numbers of each net, ``[s, p]``."""
        return torch.cat([each.flatten(1) for each in (self.units, self.heads, self.offsets)], 1)

    def of(self, flat: Tensor) -> Nets:
        """Nets of these shapes with other numbers ``[s, p]``."""
        sizes = [each[0].numel() for each in (self.units, self.heads, self.offsets)]
        units, heads, offsets = flat.split(sizes, -1)
        shapes = (each.shape[1:] for each in (self.units, self.heads, self.offsets))
        parts = (
            part.reshape(*flat.shape[:-1], *shape) for part, shape in zip((units, heads, offsets), shapes, strict=True)
        )
        return replace(self, units=next(parts), heads=next(parts), offsets=next(parts))

    def chosen(self, index: Tensor) -> Nets:
        """Some of them, in this order."""
        return self.of(self.flat()[index])


def drawn(count: int, width: int, inputs: int, outputs: int, activation: str, generator: torch.Generator) -> Nets:
    units = torch.randn(count, width, inputs + 1, generator=generator, dtype=torch.float64) / math.sqrt(inputs)
    heads = torch.randn(count, width, outputs, generator=generator, dtype=torch.float64) / math.sqrt(width)
    return Nets(units, heads, torch.zeros(count, outputs, dtype=torch.float64), activation)


@dataclass(frozen=True)
class Task:
    """What to learn, numbers if ``real`` or else classes, and ``fresh`` inputs to ask about behaviour.

    ``losses`` maps outputs ``[..., n, o]`` to the training inputs to losses ``[...]``.
    """

    inputs: Tensor
    targets: Tensor
    fresh: Tensor
    real: bool

    def losses(self, outputs: Tensor) -> Tensor:
        """Mean squared error or cross-entropy."""
        if self.real:
            return (outputs - self.targets).square().mean((-2, -1))
        shape = outputs.shape
        flat = outputs.reshape(-1, shape[-1])
        each = cross_entropy(flat, self.targets.repeat(math.prod(shape[:-2])), reduction="none")
        return each.view(shape[:-1]).mean(-1)

    @property
    def constant(self) -> float:
        """The loss of the best constant."""
        if self.real:
            return float(self.targets.var(correction=0))
        shares = torch.bincount(self.targets).double() / len(self.targets)
        return float(-(shares * shares.log()).sum())


def teacher_task(activation: str, generator: torch.Generator) -> Task:
    teacher = drawn(1, TEACHER, INPUTS, 1, activation, generator)
    teacher = replace(teacher, heads=teacher.heads.sign() * (1 + teacher.heads.abs()))
    inputs, fresh = torch.randn(2, SAMPLES, INPUTS, generator=generator, dtype=torch.float64)
    return Task(inputs, teacher(inputs)[0], fresh, real=True)


def digits_task(generator: torch.Generator) -> Task:
    data = [SOURCES.make("digits(size=8)").load(part) for part in ("victim", "test")]
    rows = torch.randperm(len(data[0]), generator=generator)[:300]
    inputs = [2 * each.inputs().flatten(1).double() - 1 for each in data]
    return Task(inputs[0][rows], data[0].labels[rows], inputs[1], real=False)


def descend(nets: Nets, task: Task, steps: int, rate: float) -> Nets:
    """Adam on all inputs, its rate falling to nothing along a cosine."""
    point = nets.flat().clone().requires_grad_()
    optimizer = torch.optim.Adam([point], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        task.losses(nets.of(point)(task.inputs)).sum().backward()
        optimizer.step()
        schedule.step()
    return nets.of(point.detach())


def slopes(nets: Nets, inputs: Tensor) -> Tensor:
    """Derivatives of the only output by every number of a net: ``[s, n, p]``."""
    hidden = inputs @ nets.units[..., :-1].mT + nets.units[..., None, :, -1]
    made = ACTIVATIONS[nets.activation][0](hidden)
    steep = (made > 0).double() if nets.activation == "relu" else 1 - made.square()
    ones = torch.ones(len(inputs), 1, dtype=inputs.dtype)
    by_units = (steep * nets.heads[:, None, :, 0])[..., None] * torch.cat([inputs, ones], 1)[:, None]
    return torch.cat([by_units.flatten(2), made, ones.expand(len(made), -1, -1)], 2)


def settle(nets: Nets, task: Task, steps: int = 200) -> Nets:
    """Levenberg-Marquardt, each net with a damping of its own, until nothing moves (Nocedal & Wright, section 10.3)."""
    point = nets.flat()
    damping = torch.full((len(point),), 1e-2, dtype=point.dtype)
    eye = torch.eye(point.shape[1], dtype=point.dtype)
    error = (nets(task.inputs) - task.targets)[..., 0]
    for _ in range(steps):
        jacobian = slopes(nets.of(point), task.inputs)
        normal = jacobian.mT @ jacobian
        scale = normal.diagonal(dim1=1, dim2=2).mean(1)
        system = normal + (damping * scale + 1e-300)[:, None, None] * eye
        step = torch.linalg.solve(system, (jacobian.mT @ error[..., None])[..., 0])
        tried = (nets.of(point - step)(task.inputs) - task.targets)[..., 0]
        better = tried.square().sum(1) < error.square().sum(1)
        point = torch.where(better[:, None], point - step, point)
        error = torch.where(better[:, None], tried, error)
        damping = torch.where(better, damping / 5, damping * 3).clamp(1e-14, 1e6)
        if bool((error.square().mean(1) <= SETTLED * task.constant).all()):
            break
    return nets.of(point)


def trained(nets: Nets, task: Task) -> Nets:
    return settle(descend(nets, task, 500, 0.02), task) if task.real else descend(nets, task, 600, 0.01)


def kicked(nets: Nets, task: Task, size: float, generator: torch.Generator) -> Nets:
    """The same nets after a kick and some more training."""
    flat = nets.flat()
    flat = flat * (1 + size * torch.randn(flat.shape, generator=generator, dtype=flat.dtype))
    return settle(nets.of(flat), task) if task.real else descend(nets.of(flat), task, 150, 0.002)
