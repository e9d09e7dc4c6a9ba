"""Logging while a net trains: whorl's own training by its recipe, or any PyTorch loop by three calls.

    recorder = Recorder("log", net, optimiser, batch=50, architecture="mlp(width=16)")
    for inputs, labels in loader:
        loss = cross_entropy(net(inputs), labels)
        recorder.fed(inputs, labels, loss)
        ...
        optimiser.step()
        recorder.stepped()
    recorder.ended()

Format: `whorl.attest.training`. Checkpoints hold all that a replay needs, so that anybody can make it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from whorl.attest.training import Header, LogEntry, LogWriter, begin_log
from whorl.data.base import Dataset
from whorl.errors import InvalidFile, UsageError
from whorl.nets.training import Schedule, own_loss, task_of
from whorl.storage import digest_tensors, read_tensors, write_tensors
from whorl.zoo.recipe import Recipe
from whorl.zoo.training import schedule_of, train_net

__all__ = ["OPTIMISERS", "Batch", "Recorder", "State", "header_of", "log_training", "read_batches", "settings_of"]

MOST_STATE: Final = 2 << 30  # bytes of a file of tensors in a log
OPTIMISERS: Final[dict[str, Any]] = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}
SETTINGS: Final = ("momentum", "dampening", "weight_decay", "nesterov", "betas", "eps", "amsgrad", "maximize")
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class State:
    """All of a training between two steps: tensors by name, on the CPU.

    ``optimiser`` has names as in ``fc.weight/momentum_buffer``; ``random`` the states of generators, as bytes.
    """

    weights: Tensors
    optimiser: Tensors
    random: Tensors

    @classmethod
    def read(cls, path: Path) -> State:
        """A state as `write` wrote it. Raises `InvalidFile` for any other file."""
        tensors = _tensors(path)
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "optimiser": {}, "random": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition("/")
            if part not in parts:
                raise InvalidFile(f"{path} holds {name[:100]!r}, which is no part of a checkpoint")
            parts[part][rest] = value
        return cls(**parts)

    def write(self, path: Path) -> None:
        """As safetensors."""
        write_tensors(
            path, {f"{part}/{name}": each for part in vars(self) for name, each in vars(self)[part].items()}, {}
        )

    def digests(self) -> dict[str, str]:
        """SHA-256 of each part."""
        return {part: digest_tensors(vars(self)[part]) for part in vars(self)}


@dataclass(frozen=True)
class Batch:
    """What one step was fed: inputs ``[b, ...]`` as the net read them, their labels, and, where known, positions."""

    inputs: Tensor
    labels: Tensor
    positions: Tensor | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over the raw bytes of inputs and labels, with their types and shapes."""
        return digest_tensors({"inputs": self.inputs, "labels": self.labels})


class Recorder:
    """Writes a log of any PyTorch loop with one optimiser over all weights of one net.

    Parameters:
        folder: new, or empty.
        net: as it is before the first step.
        optimiser: the same, over all weights of ``net``.
        every: steps between two checkpoints.
        generators: those that the loop draws from, by name; their states are logged. Torch's own is always.
        claims: further fields of `whorl.attest.training.Header`: recipe, architecture, data, batch, learning_rate.

    Raises:
        UsageError: an optimiser that a replay can't be made by, or weights that it does not move.
    """

    def __init__(
        self,
        folder: str | Path,
        net: nn.Module,
        optimiser: torch.optim.Optimizer,
        *,
        every: int = 14,
        generators: Mapping[str, torch.Generator] | None = None,
        **claims: Any,
    ) -> None:
        if every < 1:
            raise UsageError(f"a checkpoint is logged every 1 or more steps; every is {every}")
        self.net, self.optimiser, self.every = net, optimiser, every
        self.generators = dict(generators or {})
        self._writer: LogWriter = begin_log(folder, header_of(net, optimiser, **claims))
        self._step, self._began = 0, time.perf_counter()
        self._batches: list[Batch] = []
        self._losses: list[float] = []
        self._rates: list[float] = []
        self._checkpoint()

    def fed(self, inputs: Tensor, labels: Tensor, loss: Tensor | float, positions: Tensor | None = None) -> None:
        """Note what a step is fed, before the optimiser moves. What is noted is copied.

        Raises `UsageError` for a loss that is not finite: what comes after can't be replayed.
        """
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)
        if not math.isfinite(value):
            raise UsageError(
                f"the loss of step {self._step + 1} is {value}: this training diverges, and what follows can't be "
                "logged; give a lower learning rate"
            )
        kept = (inputs, labels) if positions is None else (inputs, labels, positions)
        self._batches.append(Batch(*(each.detach().cpu().clone() for each in kept)))
        self._losses.append(value)
        self._rates.append(float(self.optimiser.param_groups[0]["lr"]))

    def stepped(self) -> None:
        """Note that the optimiser moved."""
        self._step += 1
        if len(self._batches) == self.every:
            self._checkpoint()

    def ended(self) -> None:
        """Write the last checkpoint, if steps came after the one before."""
        if self._batches:
            self._checkpoint()

    def _checkpoint(self) -> None:
        state = state_of(self.net, self.optimiser, self.generators)
        folder, name = self._writer.folder, f"{self._step:06d}.safetensors"
        state.write(folder / "states" / name)
        if self._batches:
            write_tensors(folder / "batches" / name, _named(self._batches), {})
        now = time.perf_counter()
        self._writer.append(
            LogEntry(
                step=self._step,
                **state.digests(),
                batches=[each.digest for each in self._batches],
                rates=self._rates,
                losses=self._losses,
                seconds=round(now - self._began, 3),
            )
        )
        self._batches, self._losses, self._rates, self._began = [], [], [], now


def log_training(recipe: Recipe, folder: str | Path, *, every: int = 14) -> nn.Module:
    """Train the net of a recipe as the zoo does, to the bit, and log it.

    Raises:
        UsageError: a recipe of more than one step, or of what is not trained step by step by one optimiser.
    """
    if recipe.parent is not None:
        raise UsageError(f"a log is of one training; give the first step alone: {recipe.root}")
    if recipe.is_estimator or task_of(recipe.first.architecture) == "generation":
        raise UsageError(f"{recipe.first.architecture} is not trained by labels step by step, so it can't be replayed")
    recorders: list[Recorder] = []

    def watch(net: nn.Module, data: Dataset, generator: torch.Generator) -> dict[str, Any]:
        objective = own_loss(net, data, generator)

        def begun(optimiser: torch.optim.Optimizer) -> None:
            claims = claims_of(recipe, schedule_of(recipe), data)
            kept = {"generator": generator}
            recorders.append(Recorder(folder, net, optimiser, every=every, generators=kept, **claims))

        def loss(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            found = objective(model, inputs, index)
            recorders[0].fed(inputs, data.labels[index.cpu()], found, index)
            return found

        return {"begun": begun, "loss": loss, "after_step": lambda: recorders[0].stepped()}

    net = train_net(recipe, watch=watch)
    if not recorders:
        raise UsageError(f"{recipe.first.architecture} trains its members one by one; log the training of each")
    recorders[0].ended()
    return net


def claims_of(recipe: Recipe, schedule: Schedule, data: Dataset) -> dict[str, Any]:
    """What the log of a recipe claims beside its net and optimiser."""
    return {
        "recipe": str(recipe),
        "architecture": recipe.first.architecture,
        "data": data.expression,
        "batch": min(schedule.batch, len(data)),
        "learning_rate": schedule.learning_rate,
    }


def header_of(net: nn.Module, optimiser: torch.optim.Optimizer, **claims: Any) -> Header:
    """The header of a log. ``batch`` has to be claimed, and for nets that are not whorl's own the input's shape too."""
    known = {key: getattr(net, key) for key in ("input_shape", "classes") if hasattr(net, key)}
    for key, example in (("input_shape", "(1, 8, 8)"), ("classes", "10"), ("batch", "50")):
        if key not in known and key not in claims:
            raise UsageError(f"a log claims {key}; give it, as in {key}={example}")
    rate = max(float(group["lr"]) for group in optimiser.param_groups)
    given = {"learning_rate": rate, "versions": {"whorl": version("whorl"), "torch": version("torch")}} | known | claims
    return Header(optimiser=type(optimiser).__name__, settings=settings_of(net, optimiser), **given)


def settings_of(net: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimiser is set to, but for its learning rate."""
    name, groups = type(optimiser).__name__, optimiser.param_groups
    moved = [id(each) for group in groups for each in group["params"]]
    if name not in OPTIMISERS or len(groups) != 1 or sorted(moved) != sorted(id(each) for each in net.parameters()):
        raise UsageError(
            f"a log is of one of {', '.join(OPTIMISERS)} with one group of all weights of the net; this is {name} "
            f"with {len(groups)} groups"
        )
    found = {key: groups[0][key] for key in SETTINGS if key in groups[0]}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def state_of(
    net: nn.Module, optimiser: torch.optim.Optimizer, generators: Mapping[str, torch.Generator] | None = None
) -> State:
    """All of a training as it is now, copied to the CPU."""
    moments = {
        f"{name}/{key}": value.detach().cpu().clone()
        for name, parameter in net.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
    random = {name: each.get_state() for name, each in (generators or {}).items()}
    return State(
        weights={name: value.detach().cpu().clone() for name, value in net.state_dict().items()},
        optimiser=moments,
        random=random | {"torch": torch.random.get_rng_state()},
    )


def read_batches(path: Path, count: int) -> list[Batch]:
    """The ``count`` batches of a file. Raises `InvalidFile` where it holds others."""
    tensors = _tensors(path)
    names = {f"{number}/{part}" for number in range(count) for part in ("inputs", "labels")}
    positions = {f"{number}/positions" for number in range(count)}
    if names - tensors.keys() or tensors.keys() - names - positions:
        raise InvalidFile(f"{path} does not hold the {count} batches of its segment")
    return [
        Batch(tensors[f"{number}/inputs"], tensors[f"{number}/labels"], tensors.get(f"{number}/positions"))
        for number in range(count)
    ]


def _named(batches: list[Batch]) -> dict[str, Tensor]:
    parts = ((f"{number}/{part}", value) for number, each in enumerate(batches) for part, value in vars(each).items())
    return {name: value for name, value in parts if value is not None}


def _tensors(path: Path) -> Tensors:
    if not path.is_file():
        raise InvalidFile(f"{path} is missing, so the log is torn")
    return read_tensors(path, max_bytes=MOST_STATE)[0]
