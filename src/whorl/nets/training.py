"""One training loop for everything that trains: victims, thieves and independent models.

What differs between them is the loss, which parameters move, and the learning rate; those are arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.expressions import parse
from whorl.nets.layout import borne_layout, fastest_layout, laid_out
from whorl.nets.modes import evaluating
from whorl.types import Task

if TYPE_CHECKING:
    from whorl.nets.ensemble import Ensemble

__all__ = [
    "Loss",
    "Schedule",
    "accuracy",
    "batches",
    "build",
    "determination",
    "dimensions",
    "fit",
    "fitting",
    "optimisation",
    "own_loss",
    "predict",
    "task_of",
]

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(net, inputs [b, c, h, w], positions [b] in the data set) to a scalar."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train: SGD with Nesterov momentum.

    ``learning_rate`` is the peak of one cycle (Smith & Topin, 2018) or the constant rate; ``shift`` is the largest
    random translation in pixels; ``flip`` mirrors half of the pictures. Neither touches rows of features (height 1),
    nor what a generative net learns, which would learn to make moved pictures.
    """

    epochs: int
    learning_rate: float
    policy: Literal["one-cycle", "constant"] = "constant"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 100
    shift: int = 1
    flip: bool = False


def task_of(architecture: str) -> Task:
    """What the nets of an expression of the catalog do."""
    from whorl.nets import NETS

    return getattr(NETS[parse(architecture).name], "task", "classification")


def dimensions(architecture: str, dataset: Dataset) -> tuple[tuple[int, int, int], int]:
    """The input shape and the number of outputs of a net of the catalog that learns from ``dataset``."""
    from whorl.nets import NETS

    if task_of(architecture) != "generation":
        return dataset.input_shape, dataset.outputs
    latent = dict(NETS.bind(architecture).kwargs)["latent"]
    assert isinstance(latent, int)
    return (1, 1, latent), torch.Size(dataset.input_shape).numel()


def build(architecture: str, input_shape: tuple[int, int, int], classes: int, generator: torch.Generator) -> nn.Module:
    """A freshly initialised net of the catalog, on the CPU. The global random state is not touched.

    Code that was admitted to the catalog draws weights itself, as its layers may be of any kind.
    Raises `UsageError` where it is no `Net`, or has weights of a kind that `initialise` does not draw.
    """
    from whorl.nets import NETS
    from whorl.nets.base import DRAWN, Net, initialise, refuse_huge
    from whorl.nets.own import draw

    if parse(architecture).name in NETS.admitted:
        return draw(
            lambda: NETS.make_own(architecture, input_shape=input_shape, classes=classes), generator, architecture
        )
    refuse_huge(architecture, input_shape=input_shape, classes=classes)
    with torch.random.fork_rng(devices=[]):  # a constructor draws weights that are drawn anew below
        net = NETS.make(architecture, input_shape=input_shape, classes=classes)
    if not isinstance(net, Net):
        raise UsageError(
            f"{architecture} can't be trained: {type(net).__name__} is a plain module, which has no objective. Derive "
            "it from whorl.nets.base.Classifier (or Regressor): embed gives features, and head is the last layer"
        )
    for module in net.modules():
        if not isinstance(module, DRAWN) and next(module.parameters(recurse=False), None) is not None:
            kind = type(module).__name__
            raise UsageError(f"{architecture} can't be trained from nothing: whorl draws no weights of {kind}")
    initialise(net, generator)
    return net


def fit(
    net: nn.Module,
    dataset: Dataset,
    schedule: Schedule,
    *,
    generator: torch.Generator,
    loss: Loss | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
    after_step: Callable[[], None] | None = None,
    begun: Callable[[torch.optim.Optimizer], None] | None = None,
) -> None:
    """Train ``net`` in place on its own device; it is left in evaluation mode.

    The members of an ensemble train one after the other, each on its shard and with random numbers of its own, so that
    what one of them saw leaves no trace in the others.

    Parameters:
        loss: the net's own by default (`own_loss`).
        parameters: those that move; all by default. With a subset the norms keep their statistics, since a thief
            who trains the head alone does not run the body in training mode.
        after_step: called after each step (to keep pruned weights at zero).
        begun: called with the optimiser before the first step (to log what it is); not for ensembles.
    """
    from whorl.nets.ensemble import Ensemble

    if isinstance(net, Ensemble):
        for shard in _shards(net, dataset, loss or own_loss(net, dataset, generator), parameters, generator):
            fit(schedule=schedule, after_step=after_step, **shard)
        return
    device = next(net.parameters()).device
    moving = list(net.parameters() if parameters is None else parameters)
    kept = {id(parameter) for parameter in moving}
    required = {parameter: parameter.requires_grad for parameter in net.parameters()}
    for parameter in required:
        parameter.requires_grad_(id(parameter) in kept)
    loss = loss or own_loss(net, dataset, generator)
    schedule = fitting(schedule, net, dataset)
    optimizer, scheduler = optimisation(moving, schedule, len(dataset))
    if begun is not None:
        begun(optimizer)
    layout = borne_layout(laid_out(net), dataset.inputs(torch.arange(1)), fastest_layout(net))
    net.to(memory_format=layout)  # pyright: ignore[reportCallIssue] missing in torch's overloads
    net.train(parameters is None)
    for inputs, index in batches(dataset, schedule, generator):
        optimizer.zero_grad()
        loss(net, inputs.to(device, memory_format=layout), index.to(device)).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        if after_step is not None:
            after_step()
    for parameter, flag in required.items():
        parameter.requires_grad_(flag)
        parameter.grad = None
    net.eval()


def fitting(schedule: Schedule, net: nn.Module, dataset: Dataset) -> Schedule:
    """The schedule without what this net and these data do not bear (`Schedule`)."""
    still = dataset.input_shape[1] == 1 or getattr(net, "task", "") == "generation"
    return replace(schedule, shift=0, flip=False) if still else schedule


def optimisation(
    parameters: Iterable[nn.Parameter], schedule: Schedule, count: int
) -> tuple[torch.optim.SGD, torch.optim.lr_scheduler.OneCycleLR | None]:
    """The optimiser, and what sets its learning rate where that changes, for ``count`` inputs."""
    optimizer = torch.optim.SGD(
        parameters,
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
        nesterov=schedule.momentum > 0,
    )
    if schedule.policy != "one-cycle":
        return optimizer, None
    steps = schedule.epochs * max(1, count // schedule.batch)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, total_steps=steps + 1, cycle_momentum=False
    )
    return optimizer, cycle


def batches(dataset: Dataset, schedule: Schedule, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """What is fed step by step: inputs ``[b, c, h, w]`` as augmented, on the CPU, and their positions ``[b]``."""
    steps = max(1, len(dataset) // schedule.batch)
    for _ in range(schedule.epochs):
        order = torch.randperm(len(dataset), generator=generator)
        for step in range(steps):
            index = order[step * schedule.batch : (step + 1) * schedule.batch]
            yield _augment(dataset.inputs(index), schedule, generator), index


def _shards(
    net: Ensemble,
    dataset: Dataset,
    loss: Loss,
    parameters: Iterable[nn.Parameter] | None,
    generator: torch.Generator,
) -> Iterator[dict[str, Any]]:
    """The arguments of `fit` for each member that has pictures to learn from and parameters that move."""
    kept = None if parameters is None else {id(parameter) for parameter in parameters}
    for number, (member, positions) in enumerate(net.shards(dataset.inputs())):
        own = [each for each in member.parameters() if kept is None or id(each) in kept]
        if len(positions) and own:
            yield {
                "net": member,
                "dataset": dataset.subset(positions),
                "generator": torch.Generator().manual_seed(generator.initial_seed() + 1_000_003 * (number + 1)),
                "loss": _on_shard(loss, positions),
                "parameters": None if kept is None else own,
            }


def _on_shard(loss: Loss, positions: Tensor) -> Loss:
    """The loss of a whole data set, asked about positions within a shard."""
    return lambda model, inputs, index: loss(model, inputs, positions.to(index.device)[index])


def own_loss(net: nn.Module, dataset: Dataset, generator: torch.Generator) -> Loss:
    """What the net itself minimises on ``dataset`` (`whorl.nets.base.Net.objective`); cross-entropy for other modules.

    Raises `UsageError` where the data set does not hold what the net learns.
    """
    from whorl.nets.base import Net

    labels = dataset.labels.to(next(net.parameters()).device)
    task: Task = net.task if isinstance(net, Net) else "classification"
    pixels = torch.Size(dataset.input_shape).numel()
    held = {"classification": bool(dataset.classes), "regression": not dataset.classes and dataset.outputs > 0}
    fits = held[task] if task in held else isinstance(net, Net) and net.classes == pixels
    if not fits:
        needed = {"classification": "labelled pictures", "regression": "numbers to predict"}
        raise UsageError(
            f"{type(net).__name__} learns from {needed.get(task, 'pictures of as many pixels as it makes')}; "
            f"{dataset.expression or 'this data set'} holds none"
        )
    if isinstance(net, Net):

        def objective(model: nn.Module, inputs: Tensor, index: Tensor) -> Tensor:
            assert isinstance(model, Net)  # the net, or a member of it
            return model.objective(inputs, labels[index], generator)

        return objective
    return lambda model, inputs, index: cross_entropy(model(inputs), labels[index])


@torch.inference_mode()
def predict(net: nn.Module, inputs: Tensor, *, batch: int = 500) -> Tensor:
    """Logits ``[n, classes]`` on the CPU, in evaluation mode, batch by batch; the net's own modes are left alone."""
    device = next(net.parameters()).device
    layout = borne_layout(net, inputs, fastest_layout(net))
    with evaluating(net):
        rows = [net(chunk.to(device, memory_format=layout)).cpu() for chunk in inputs.split(batch)]
    return torch.cat(rows)


def accuracy(net: nn.Module, dataset: Dataset) -> float:
    """Share of pictures classified as labelled."""
    return float((predict(net, dataset.inputs()).argmax(1) == dataset.labels).float().mean())


def determination(outputs: Tensor, targets: Tensor) -> float:
    """Coefficient of determination of real outputs, at least 0: 1 less the squared error over the targets' variance.

    Shape:
        outputs, targets: ``[n, k]``; the k outputs are pooled, each around its own mean.
    """
    error = (outputs - targets).double().square().sum()
    spread = (targets - targets.mean(0)).double().square().sum()
    return float((1 - error / spread.clamp_min(1e-12)).clamp(0, 1))


def _augment(inputs: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """Translate each picture by up to ``shift`` pixels and mirror half of them."""
    count, _, height, width = inputs.shape
    if schedule.shift:
        reach = schedule.shift
        moves = torch.randint(0, 2 * reach + 1, (2, count, 1), generator=generator)
        rows = (torch.arange(height) + moves[0])[:, None, :, None]
        columns = (torch.arange(width) + moves[1])[:, None, None, :]
        padded = pad(inputs, (reach,) * 4, mode="replicate")
        items = torch.arange(count)[:, None, None, None]
        channels = torch.arange(inputs.shape[1])[None, :, None, None]
        inputs = padded[items, channels, rows, columns]
    if schedule.flip:
        mirrored = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
        inputs = torch.where(mirrored, inputs.flip(3), inputs)
    return inputs
