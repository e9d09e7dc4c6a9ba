"""Replaying a stretch of a training log, and how far what comes out lies from what was logged.

The error is relative: the distance between replayed and claimed, as a share of how far the log claims to have moved. An
absolute bound (Jia et al., IEEE S&P 2021) accepts any small step, and so a straight line of small steps to a stolen
net. It is taken of weights, of buffers and of each of the optimiser's moments apart, and the worst counts: who may
choose the moments of a checkpoint freely chooses where a replay goes, and a momentum that leads along a line makes the
error of the weights alone vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.attest.training import Header, LogEntry, TrainingLog
from whorl.errors import InvalidFile, UsageError
from whorl.nets import NETS
from whorl.nets.base import Net, refuse_huge
from whorl.nets.layout import fastest_layout, laid_out
from whorl.storage import one_line
from whorl.zoo.logged import OPTIMISERS, SETTINGS, Batch, State, Tensors, read_batches, state_of

__all__ = ["Deviation", "Segment", "deviation", "net_of", "replay", "segment_of"]


@dataclass(frozen=True)
class Segment:
    """Two checkpoints and what was fed between them; ``entry`` is that of the second."""

    before: State
    after: State
    batches: tuple[Batch, ...]
    entry: LogEntry


@dataclass(frozen=True)
class Deviation:
    """How far a replay ended from the claim.

    ``relative`` is the largest share over weights, buffers and moments, infinite where the claim has other tensors than
    the replay; ``absolute`` the distance of the weights, ``movement`` how far they are claimed to have moved.
    """

    relative: float
    absolute: float
    movement: float


def segment_of(log: TrainingLog, number: int) -> Segment:
    """Segment ``number`` from 0, whose tensors are those of the log's lines.

    Raises:
        InvalidFile: a file is missing, torn, or was rewritten.
    """
    first, second = log.entries[number : number + 2]
    batches = read_batches(log.fed(second.step), len(second.batches))
    for place, (batch, digest) in enumerate(zip(batches, second.batches, strict=True)):
        if batch.digest != digest:
            raise InvalidFile(f"{log.fed(second.step)}: batch {place} is not the one that the log states")
    return Segment(_state(log, first), _state(log, second), tuple(batches), second)


def net_of(log: TrainingLog) -> nn.Module:
    """A net of the log's architecture, whose weights are still anything. Raises `InvalidFile` where there is none."""
    header = log.header
    try:
        if not header.architecture:
            raise UsageError("it names no architecture, so only Python code can replay it (net=...)")
        shape = {"input_shape": header.input_shape, "classes": header.classes}
        refuse_huge(header.architecture, **shape)
        with torch.random.fork_rng(devices=[]):  # a constructor draws weights that are replaced
            return laid_out(NETS.make(header.architecture, **shape))
    except (UsageError, RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        raise InvalidFile(f"{log.folder}: its net can't be built: {one_line(error)}") from None


def replay(net: nn.Module, segment: Segment, header: Header, generator: torch.Generator | None = None) -> State:
    """Train ``net`` from the segment's first checkpoint on its batches. The net's own weights are replaced.

    Parameters:
        generator: puts the inputs of each batch into another order, as other hardware adds in another order: the
            gradient is the same but for rounding.

    Raises:
        InvalidFile: what the checkpoint holds does not fit the net or the optimiser, or is not fed to such a net.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            return _replay(net, segment, header, generator)
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
        raise InvalidFile(f"the steps up to {segment.entry.step} can't be replayed: {one_line(error)}") from None


def deviation(replayed: State, claimed: State, before: State) -> Deviation:
    """Compare the end of a replay with what the log claims."""
    worst = 0.0
    for part in ("weights", "optimiser"):
        made, stated, old = (getattr(each, part) for each in (replayed, claimed, before))
        if made.keys() != stated.keys() or any(made[key].shape != stated[key].shape for key in made):
            worst = float("inf")
            continue
        for kind in {_kind(key, made[key]) for key in made}:
            keys = [key for key in made if _kind(key, made[key]) == kind]
            if kind == "exact":
                worst = max(worst, 0.0 if all(torch.equal(made[key], stated[key]) for key in keys) else float("inf"))
            else:
                worst = max(worst, _share(_distance(made, stated, keys), _distance(stated, old, keys)))
    keys = [key for key, value in before.weights.items() if _kind(key, value) == "weights"]
    if any(
        key not in each.weights or each.weights[key].shape != before.weights[key].shape
        for each in (replayed, claimed)
        for key in keys
    ):
        return Deviation(float("inf"), float("inf"), 0.0)
    moved = _distance(claimed.weights, before.weights, keys)
    return Deviation(worst, _distance(replayed.weights, claimed.weights, keys), moved)


def _replay(net: nn.Module, segment: Segment, header: Header, generator: torch.Generator | None) -> State:
    net.load_state_dict(dict(segment.before.weights))
    net.train()
    optimiser = _optimiser(net, header)
    for name, parameter in net.named_parameters():
        found = {key.rpartition("/")[2]: each for key, each in segment.before.optimiser.items() if _owner(key) == name}
        if found:
            optimiser.state[parameter] = {key: value.clone() for key, value in found.items()}
    torch.default_generator.set_state(segment.before.random["torch"])
    drawn, layout = torch.Generator(), fastest_layout(net)
    for batch, rate in zip(segment.batches, segment.entry.rates, strict=True):
        order = slice(None) if generator is None else torch.randperm(len(batch.labels), generator=generator)
        inputs, labels = batch.inputs[order].to(memory_format=layout), batch.labels[order]
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        loss = net.objective(inputs, labels, drawn) if isinstance(net, Net) else cross_entropy(net(inputs), labels)
        loss.backward()
        optimiser.step()
    return state_of(net, optimiser)


def _optimiser(net: nn.Module, header: Header) -> torch.optim.Optimizer:
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in header.settings.items()}
    if header.optimiser not in OPTIMISERS or settings.keys() - set(SETTINGS):
        raise ValueError(f"no optimiser {header.optimiser!r} with {sorted(settings)}")
    return OPTIMISERS[header.optimiser](net.parameters(), lr=header.learning_rate, **settings)


def _state(log: TrainingLog, entry: LogEntry) -> State:
    state = State.read(log.state(entry.step))
    if any(getattr(entry, part) != digest for part, digest in state.digests().items()):
        raise InvalidFile(f"{log.state(entry.step)} is not the checkpoint that the log states")
    return state


def _owner(key: str) -> str:
    return key.rpartition("/")[0]


def _kind(key: str, value: Tensor) -> str:
    """With what a tensor is compared: moments by their name, buffers of norms apart, and counts to the bit."""
    if value.ndim == 0 or not value.is_floating_point():
        return "exact"
    if "/" in key:
        return key.rpartition("/")[2]
    return "buffers" if key.endswith(("running_mean", "running_var")) else "weights"


def _distance(one: Tensors, other: Tensors, keys: Sequence[str]) -> float:
    """Euclidean; a tensor that one side lacks is zero there, as a moment is before the first step."""
    squares = [
        (one[key].double() - (other[key].double() if key in other else 0)).square().sum() for key in keys if key in one
    ]
    found = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    return found if found == found else float("inf")


def _share(error: float, movement: float) -> float:
    return 0.0 if error == 0 else error / movement if movement > 0 else float("inf")
