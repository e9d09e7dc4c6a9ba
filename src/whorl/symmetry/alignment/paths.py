"""What a net does on the straight line between two points in weight space, and the barrier there.

A barrier that is low before any alignment says that one net was fine-tuned from the other, or both from one.
Independent nets may have a low one after alignment, and along a trained curve always: neither is evidence of descent.

Sources: Frankle et al., ICML 2020; Entezari et al., ICLR 2022, arXiv 2110.06296, definition 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.nets.layout import borne_layout
from whorl.nets.training import predict
from whorl.symmetry.alignment.permutations import State

__all__ = ["Profile", "barrier", "interpolate", "profile", "recompute_statistics"]

BATCH = 500


@dataclass(frozen=True)
class Profile:
    """Losses and accuracies along a path.

    Shape:
        positions, losses, accuracies: ``[k]``; positions ascend from 0, the first net, to 1, the other.
    """

    positions: Tensor
    losses: Tensor
    accuracies: Tensor

    @property
    def loss_barrier(self) -> float:
        """How far the loss rises above the line between those of the ends, at least 0."""
        return float((self.losses - self._chord(self.losses)).max())

    @property
    def accuracy_barrier(self) -> float:
        """How far the accuracy falls below the line between those of the ends, at least 0."""
        return float((self._chord(self.accuracies) - self.accuracies).max())

    def _chord(self, values: Tensor) -> Tensor:
        return (1 - self.positions) * values[0] + self.positions * values[-1]


def interpolate(one: State, other: State, t: float) -> dict[str, Tensor]:
    """(1 - t) of the first state and t of the other; what holds whole numbers is the first one's.

    Raises:
        UsageError: states of different nets.
    """
    if {k: v.shape for k, v in one.items()} != {k: v.shape for k, v in other.items()}:
        raise UsageError("a path joins two nets of one architecture; these have other tensors or shapes")
    return {
        tensor: (1 - t) * value + t * other[tensor] if value.is_floating_point() else value
        for tensor, value in one.items()
    }


def barrier(
    net: nn.Module,
    one: State,
    other: State,
    dataset: Dataset,
    *,
    points: int = 25,
    statistics: Tensor | None = None,
    at: Callable[[float], State] | None = None,
) -> Profile:
    """The profile of the straight line between two states of ``net``, which itself stays as it is.

    Parameters:
        statistics: pictures ``[n, c, h, w]`` in [0, 1] on which the statistics of batch norms are taken anew at every
            point, those of the ends included; the pictures of ``dataset`` by default.
        at: the state at a position, instead of interpolation (as a `whorl.symmetry.alignment.repair.Repair`).

    Raises:
        UsageError: states of different nets, less than two points, or a data set without classes.
    """
    if points < 2:
        raise UsageError(f"a line is looked at from end to end, at 2 or more points, not {points}")
    along = at or (lambda t: interpolate(one, other, t))
    return profile(net, along, dataset, positions=torch.linspace(0, 1, points).tolist(), statistics=statistics)


def profile(
    net: nn.Module,
    along: Callable[[float], State],
    dataset: Dataset,
    *,
    positions: Sequence[float],
    statistics: Tensor | None = None,
) -> Profile:
    """Mean cross-entropy and accuracy at positions of a path. Parameters and errors as in `barrier`."""
    if not dataset.classes:
        raise UsageError(f"barriers are measured on labelled pictures; {dataset.expression or 'these data'} has none")
    net = deepcopy(net)
    inputs = dataset.inputs()
    rows: list[tuple[float, float]] = []
    for t in positions:
        net.load_state_dict(dict(along(t)))
        recompute_statistics(net, inputs if statistics is None else statistics)
        outputs = predict(net, inputs)
        loss = cross_entropy(outputs.double(), dataset.labels)
        rows.append((float(loss), float((outputs.argmax(1) == dataset.labels).double().mean())))
    losses, accuracies = torch.tensor(rows, dtype=torch.float64).T
    return Profile(torch.tensor(positions, dtype=torch.float64), losses, accuracies)


def recompute_statistics(net: nn.Module, inputs: Tensor, *, batch: int = BATCH) -> None:
    """Take the running statistics of all batch norms anew, as the mean over batches; nothing for nets without."""
    device, layout = next(net.parameters()).device, borne_layout(net, inputs, torch.channels_last)
    chunks = inputs.chunk(-(-len(inputs) // batch))  # all but equal, since each counts alike
    update_bn((chunk.to(device, memory_format=layout) for chunk in chunks), net)
    net.eval()
