"""How often is an independent model called derived?

200 trials, each with everything fresh: a victim, its fingerprint, a null of 99 independent nets, and ten independent
suspects, 2,000 in all. All nets are small perceptrons drawn from one population (own seed, own random half of the
pictures), so the suspects are exchangeable with the null and the error bound must hold. Suspects of one trial share its
null, so that intervals are over trials. Verdicts are those of a session as it is used: neutral probes first, then
queries in rounds that end as soon as the verdict is sure.

Thousands of nets are trained at once as one stacked matrix product; each is then an ordinary module that goes through
the public path.

Run: python benchmarks/false_accusations.py [--trials 200] [-o benchmarks/results/false_accusations.json]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, relu

import whorl
from whorl.bench.estimates import share_of
from whorl.bench.result import describe_machine
from whorl.data import SOURCES, Dataset
from whorl.nets.plain import MLP
from whorl.oracles.torch import TorchOracle
from whorl.schemes import SCHEMES
from whorl.storage import write_json
from whorl.types import Verdict

NULL, SUSPECTS = 99, 10
ALPHAS = (0.01, 0.05)
COLUMNS = {"ipguard": ("ipguard(learning_rate=0.01, patience=25)", 100), "akh": ("akh", 100), "random": ("random", 100)}
SOURCE = "digits(size=8)"
HIDDEN, BATCH, STEPS, RATE = 32, 32, 250, 0.2


@dataclass(frozen=True)
class Training:
    """How perceptrons are trained: hidden units, steps, peak rate, share of the pictures, share of wrong labels, and by

    Adam instead of SGD with momentum, or against labels of which a share is spread over all classes.
    """

    width: int = HIDDEN
    steps: int = STEPS
    rate: float = RATE
    share: float = 0.5
    noise: float = 0.0
    adam: bool = False
    smoothing: float = 0.0


USUAL = Training()


def train_stack(
    count: int, data: Dataset, generator: torch.Generator, how: Training = USUAL, start: MLP | None = None
) -> list[MLP]:
    """``count`` perceptrons of one population, trained at once, from ``start`` if it is given."""
    inputs, classes = data.inputs().flatten(1), len(data.classes)
    mean, std = inputs.mean(), inputs.std()
    normal = (inputs - mean) / std
    shapes = [(count, normal.shape[1], how.width), (count, 1, how.width), (count, how.width, classes)]
    scales = [(2 / normal.shape[1]) ** 0.5, 0.0, (2 / how.width) ** 0.5, 0.0]
    drawn = zip([*shapes, (count, 1, classes)], scales, strict=True)
    weights = [(torch.randn(shape, generator=generator) * scale).requires_grad_() for shape, scale in drawn]
    if start is not None:
        first, last = start.layers[0], start.head
        begun = (first.weight.T, first.bias[None], last.weight.T, last.bias[None])
        mean, std = start.mean.flatten(), start.std.flatten()
        normal = (inputs - mean) / std
        weights = [each.detach().expand(count, -1, -1).clone().requires_grad_() for each in begun]
    size = int(len(data) * how.share)
    own = torch.stack([torch.randperm(len(data), generator=generator)[:size] for _ in range(count)])
    labels = data.labels.expand(count, -1)
    if how.noise:
        wrong = torch.rand(labels.shape, generator=generator) < how.noise
        labels = torch.where(wrong, torch.randint(classes, labels.shape, generator=generator), labels)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(weights, lr=how.rate, momentum=0.9)
    if how.adam:  # moves each weight by its own gradients alone, so a stack is still many nets
        optimizer = torch.optim.Adam(weights, lr=how.rate)
    for step in range(how.steps):
        for group in optimizer.param_groups:
            group["lr"] = how.rate * (1 - step / how.steps)
        chosen = own.gather(1, torch.randint(own.shape[1], (count, BATCH), generator=generator))
        logits = _forward(normal[chosen], weights)
        # Summed over nets, averaged over each net's own batch: every net sees exactly its own gradient.
        wanted = labels.gather(1, chosen)
        against = {"reduction": "sum", "label_smoothing": how.smoothing}
        loss = cross_entropy(logits.flatten(0, 1), wanted.flatten(), **against) / BATCH
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [_module(data, mean, std, [weight.detach()[index] for weight in weights]) for index in range(count)]


def _forward(inputs: Tensor, weights: list[Tensor]) -> Tensor:
    first, offset, second, bias = weights
    return torch.baddbmm(bias, relu(torch.baddbmm(offset, inputs, first)), second)


def _module(data: Dataset, mean: Tensor, std: Tensor, weights: list[Tensor]) -> MLP:
    first, offset, second, bias = weights
    net = MLP(data.input_shape, len(data.classes), width=first.shape[1])
    layer = net.layers[0]
    layer.load_state_dict({"weight": first.T.contiguous(), "bias": offset[0]})
    net.head.load_state_dict({"weight": second.T.contiguous(), "bias": bias[0]})
    net.mean.fill_(float(mean))
    net.std.fill_(float(std))
    return net.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/false_accusations.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = SOURCES.make(SOURCE)
    data, test = source.load("victim"), source.load("test")
    started = time.process_time()
    settings = [(column, alpha) for column in COLUMNS for alpha in ALPHAS]
    verdicts: dict[tuple[str, float], list[tuple[int, Verdict]]] = {each: [] for each in settings}
    own = dict.fromkeys(settings, 0)
    accuracies: list[float] = []
    for trial in range(options.trials):
        nets = train_stack(1 + SUSPECTS + NULL, data, torch.Generator().manual_seed(trial))
        victim, *rest = (
            TorchOracle(net, input_shape=data.input_shape, classes=len(data.classes), name=f"net {number}")
            for number, net in enumerate(nets)
        )
        suspects, strangers = rest[:SUSPECTS], rest[SUSPECTS:]
        accuracies += [float((each.labels(test.inputs()) == test.labels).float().mean()) for each in suspects]
        for column, (expression, budget) in COLUMNS.items():
            scheme = SCHEMES.make(expression)
            fingerprint = whorl.extract(victim, data=SOURCE, scheme=expression, budget=budget, seed=trial)
            null = {oracle.name: oracle for oracle in strangers}
            fingerprint = scheme.calibrate(fingerprint, null, pool="perceptrons of the suspects' population")
            for alpha in ALPHAS:
                verdicts[column, alpha] += [(trial, scheme.verify(fingerprint, each, alpha=alpha)) for each in suspects]
                own[column, alpha] += scheme.verify(fingerprint, victim, alpha=alpha).decision == "derived"
        print(f"{trial + 1}/{options.trials}", flush=True)
    rows = [
        _row(column, alpha, verdicts[column, alpha], own[column, alpha], options.trials) for column, alpha in settings
    ]
    document = {
        "about": "independent perceptrons, ten to a trial with a fresh victim, fingerprint and null",
        "null": NULL,
        "suspects": SUSPECTS,
        "mean_accuracy": sum(accuracies) / len(accuracies),
        "seconds": round(time.process_time() - started, 1),
        "machine": describe_machine("cpu").model_dump(),
        "rows": rows,
    }
    write_json(options.output, document)
    for row in rows:
        print(row)


def _row(
    column: str, alpha: float, verdicts: Sequence[tuple[int, Verdict]], own: int, trials: int
) -> dict[str, object]:
    accused = share_of((trial, verdict.decision == "derived") for trial, verdict in verdicts)
    spent = [int(verdict.queries["spent"]) for _, verdict in verdicts]
    size = COLUMNS[column][1]
    return {
        "scheme": COLUMNS[column][0],
        "queries": size,
        "alpha": alpha,
        "accused": accused.hits,
        "verdicts": accused.count,
        "trials": trials,
        "rate": accused.hits / accused.count,
        "interval": [accused.interval.low, accused.interval.high],
        "within_bound": accused.interval.low <= alpha,
        "median_spent": statistics.median(spent),
        "stopped_early": sum(each < size for each in spent) / len(spent),
        "victims_recognised": own,
    }


if __name__ == "__main__":
    main()
