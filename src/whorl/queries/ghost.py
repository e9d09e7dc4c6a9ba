"""Adversarial examples of ghost networks: perturbed victims that stand in for what a thief makes of the victim.

Papers: Zhao et al., *AFA*, Computer Communications 150 (2020); ghost networks and their two erosions: Li et al.,
*Learning Transferable Adversarial Examples via Ghost Networks*, AAAI 2020, arXiv 1812.03413; momentum: Dong et al.,
CVPR 2018, arXiv 1710.06081 (MI-FGSM).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.nn.functional import cross_entropy, relu

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.layouts import Layout
from whorl.oracles.base import Oracle
from whorl.oracles.bounded import Bounded
from whorl.queries.base import Sampler, Target, choose_target, draw, gradient_of
from whorl.queries.descent import at_once, in_blocks
from whorl.settings import Count, Multiple, NonNegative, Radius
from whorl.types import Access, Queries

__all__ = ["Ghost", "GhostNet"]

_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_RECTIFIERS = (relu, torch.relu, "relu", "relu_")


@dataclass(frozen=True, kw_only=True)
class Ghost(Sampler):
    """Targeted MI-FGSM on the victim, another ghost of it at every step.

    Parameters:
        epsilon: largest change of a pixel, in units of [0, 1].
        steps: sign steps of ``epsilon / steps`` each.
        erosion: capital lambda, how much a ghost differs from the victim (see `GhostNet`); 0 leaves plain MI-FGSM.
        momentum: mu, the share of the gathered gradient that is kept.
        target: the class to reach, the victim's ``least-likely`` or a ``random`` one.
        candidates: start this many times the budget and keep those that reach their target, the surest first.
    """

    needs_victim: ClassVar[Access] = Access.GRADIENTS
    part: ClassVar[str] = "victim"
    tensors: ClassVar[Mapping[str, Layout]] = {
        "inputs": Layout("n *input", "input"),
        "companions/seeds": Layout("n *input", "input"),
        "companions/source": Layout("n", "int64", 0, "k"),
        "companions/target": Layout("n", "int64", 0, "k"),
    }

    epsilon: Radius = 0.1
    steps: Count = 20
    erosion: Annotated[float, Ge(0), Lt(1)] = 0.2
    momentum: NonNegative = 1.0
    target: Target = "random"
    candidates: Multiple = 4.0

    def sample(self, victim: Oracle, data: Dataset, *, budget: int, generator: torch.Generator) -> Queries:
        """Adversarial marks with their seeds and targets."""
        model = gradient_of(victim)
        ghost = GhostNet(model, self.erosion, generator) if self.erosion else model
        seeds = data.inputs(draw(data, max(budget, min(len(data), round(self.candidates * budget))), generator))
        logits = victim.logits(seeds)
        target = choose_target(self.target, logits, generator)
        device = getattr(victim, "device", seeds.device)
        origin, goal = seeds.to(device), target.to(device)

        def move(place: slice) -> tuple[Tensor, Tensor]:
            point = self._moved(ghost, origin[place], goal[place])
            with torch.no_grad():
                return point.cpu(), model(point).cpu()

        points, ends = in_blocks(move, len(origin), at_once(model, origin))
        losses, reached = cross_entropy(ends, target, reduction="none"), ends.argmax(1) == target
        kept = (losses + torch.where(reached, 0, losses.max() + 1)).argsort(stable=True)[:budget]
        companions = {"seeds": seeds[kept], "source": logits.argmax(1)[kept], "target": target[kept]}
        notes = {"reached": float(reached.float().mean()), "kept_reached": float(reached[kept].float().mean())}
        return Queries(points[kept], companions, notes)

    def _moved(self, ghost: Callable[[Tensor], Tensor], origin: Tensor, goal: Tensor) -> Tensor:
        point, gathered = origin.clone(), torch.zeros_like(origin)
        for _ in range(self.steps):
            point.requires_grad_()
            (slope,) = torch.autograd.grad(cross_entropy(ghost(point), goal, reduction="sum"), point)
            length = slope.abs().mean((1, 2, 3), keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
            gathered = self.momentum * gathered + slope / length
            moved = point.detach() - self.epsilon / self.steps * gathered.sign()
            point = (origin + (moved - origin).clamp(-self.epsilon, self.epsilon)).clamp(0, 1)
        return point.detach()


class GhostNet:
    """A victim that is eroded anew, and differently for each picture, at every call.

    Residual nets (skip erosion): every shortcut is multiplied by a random number in [1 - erosion, 1 + erosion].
    Nets without shortcuts (dropout erosion): that share of each hidden feature map is set to 0, the rest scaled up.
    The victim's traced graph tells shortcuts and feature maps, whoever wrote the module.

    Parameters:
        model: what `gradient_of` returns.
        erosion: capital lambda, in [0, 1).
        generator: where masks and factors come from.

    Raises:
        UsageError: torch.fx could not trace the victim, or it has neither shortcuts nor ReLUs.
    """

    def __init__(self, model: object, erosion: float, generator: torch.Generator) -> None:
        # Whole: a part that is computed again would be eroded otherwise.
        model = model.whole if isinstance(model, Bounded) else model
        if not isinstance(model, GraphModule):
            raise UsageError(
                "ghost networks perturb layers, and torch.fx cannot trace this victim; give erosion=0, which attacks "
                "the victim itself, or a module without branches on its input"
            )
        self.model, self.erosion, self.generator = model, erosion, generator
        nodes = list(model.graph.nodes)
        self.shortcuts = _shortcuts(nodes)
        self.maps = set() if self.shortcuts else {node for node in nodes if _rectifies(node, model)}
        if not self.shortcuts and not self.maps:
            raise UsageError("ghost networks erode shortcuts or the outputs of ReLUs, and this victim has neither")

    def __call__(self, inputs: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of one ghost per picture ``[n, c, h, w]``."""
        return _Eroded(self).run(inputs)

    def scale(self, values: Tensor) -> Tensor:
        """Skip erosion of ``[n, ...]``: one factor per picture."""
        factor = 1 + self.erosion * (2 * self._uniform(len(values), *[1] * (values.ndim - 1)) - 1)
        return values * factor.to(values.device)

    def drop(self, values: Tensor) -> Tensor:
        """Dropout erosion of ``[n, ...]``, element by element."""
        kept = self._uniform(*values.shape) >= self.erosion
        return values * kept.to(values.device) / (1 - self.erosion)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)


class _Eroded(Interpreter):
    def __init__(self, ghost: GhostNet) -> None:
        super().__init__(ghost.model)
        self.ghost = ghost

    def run_node(self, n: Node) -> Any:
        if (shortcut := self.ghost.shortcuts.get(n)) is not None:
            skipped, other = (self.env[argument] for argument in (shortcut, _other(n, shortcut)))
            return self.ghost.scale(skipped) + other
        value = super().run_node(n)
        return self.ghost.drop(value) if n in self.ghost.maps else value


def _shortcuts(nodes: list[Node]) -> dict[Node, Node]:
    """Each sum of two branches of one layer's output, with the operand whose branch has fewer layers."""
    depth: dict[Node, int] = {}
    found: dict[Node, Node] = {}
    for node in nodes:
        depth[node] = 1 + max((depth[before] for before in node.all_input_nodes), default=0)
        if node.target in _SUMS and len(node.all_input_nodes) == 2:
            found[node] = min(node.all_input_nodes, key=lambda before: depth[before])
    return found


def _other(node: Node, shortcut: Node) -> Node:
    first, second = node.all_input_nodes
    return second if first is shortcut else first


def _rectifies(node: Node, model: GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), nn.ReLU)
    return node.target in _RECTIFIERS
