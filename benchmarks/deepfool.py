"""DeepFool on 100 points in one batch against one point at a time, as ratios within one run on one thread.

Two loops: the same code on one point after the other, whose step is still vectorised over the classes; and the
algorithm as its authors wrote it, one point and one class at a time. On a processor a convolutional net is limited by
arithmetic, so that a pass gets cheaper in a batch by a small factor only; that factor is measured too. Passes are
counted in pictures, forward and backward alike; what the algorithm needs is one forward pass per point and step, and
one backward pass per other class.

Run: python benchmarks/deepfool.py [--device cpu] [-o benchmarks/results/deepfool.json]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.nets.training import Schedule, accuracy, build, fit
from whorl.oracles.torch import frozen
from whorl.queries.deepfool import CROSS, NUDGE, deepfool
from whorl.storage import write_json

DATA = "digits(size=16)"
POINTS, REPEATS, CLASSES, ITERATIONS = 100, 5, 10, 50
NETS = {"mlp(width=64)": 0.05, "lenet5": 0.05, "vgg(width=8)": 0.1, "resnet8(width=8)": 0.1}


class Counting:
    """A model that counts the pictures that go forward."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        self.model, self.pictures = model, 0

    def __call__(self, inputs: Tensor) -> Tensor:
        """Logits of the pictures."""
        self.pictures += len(inputs)
        return self.model(inputs)


def seconds(work: Callable[[], object], device: str, repeats: int = REPEATS) -> float:
    """Median seconds: of this thread's processor time, or of the clock where another device works."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    work()
    taken = []
    for _ in range(repeats):
        started = clock()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        taken.append(clock() - started)
    return statistics.median(taken)


def as_written(model: Callable[[Tensor], Tensor], origin: Tensor) -> Tensor:
    """The authors' loop for one point ``[1, c, h, w]``, to its change: one class after the other."""
    point = origin.clone().requires_grad_()
    scores = model(point)[0]
    order = scores.argsort(descending=True)[:CLASSES].tolist()
    change = torch.zeros_like(origin)
    for _ in range(ITERATIONS):
        (own,) = torch.autograd.grad(scores[order[0]], point, retain_graph=True)
        best, chosen = torch.inf, own
        for other in order[1:]:
            (slope,) = torch.autograd.grad(scores[other], point, retain_graph=True)
            direction = slope - own
            distance = float((scores[other] - scores[order[0]]).detach().abs() / direction.norm())
            if distance < best:
                best, chosen = distance, direction
        change = change + (best + NUDGE) * chosen / chosen.norm()
        point = (origin + (1 + CROSS) * change).clamp(0, 1).requires_grad_()
        scores = model(point)[0]
        if int(scores.argmax()) != order[0]:
            break
    return point.detach() - origin


def pass_gain(model: Callable[[Tensor], Tensor], shape: tuple[int, int, int], device: str) -> float:
    """How much cheaper per picture a forward-backward pass gets in a batch: what batching can give at most."""

    def once(inputs: Tensor) -> None:
        torch.autograd.grad(model(inputs).sum(), inputs)

    costs = {}
    for batch in (1, 30, 100, 300):
        inputs = torch.rand(batch, *shape, device=device).to(memory_format=torch.channels_last).requires_grad_()
        costs[batch] = seconds(lambda inputs=inputs: once(inputs), device, 9) / batch
    return costs[1] / min(costs.values())


def row(architecture: str, rate: float, device: str) -> dict[str, object]:
    """Figures of one net."""
    data, test = (SOURCES.make(DATA).load(part) for part in ("victim", "test"))
    generator = torch.Generator().manual_seed(0)
    net = build(architecture, data.input_shape, CLASSES, generator)
    fit(net, data, Schedule(epochs=8, learning_rate=rate, policy="one-cycle", batch=50), generator=generator)
    model = frozen(net).to(device)
    inputs = data.inputs(torch.randperm(len(data), generator=generator)[:POINTS]).to(device)
    counting = Counting(model)
    end = deepfool(counting, inputs)
    steps, backward = int(end.passes.sum()) // (CLASSES - 1), int(end.passes.sum())
    ours, theirs = (end.points() - inputs, torch.cat([as_written(model, x[None]) for x in inputs]))
    ratios = ours.flatten(1).norm(dim=1) / theirs.flatten(1).norm(dim=1)
    together = seconds(lambda: deepfool(model, inputs), device)
    alone = seconds(lambda: [deepfool(model, x[None]) for x in inputs], device, 3)
    written = seconds(lambda: [as_written(model, x[None]) for x in inputs], device, 3)
    return {
        "net": architecture,
        "accuracy": accuracy(net.cpu(), test),
        "crossed": float(end.crossed.float().mean()),
        "steps_per_point": steps / POINTS,
        "median_length": float(end.lengths.median()),
        "length_over_authors_loop": [float(ratios.min()), float(ratios.median()), float(ratios.max())],
        "batched_seconds": together,
        "one_point_at_a_time_seconds": alone,
        "authors_loop_seconds": written,
        "one_point_at_a_time_over_batched": alone / together,
        "authors_loop_over_batched": written / together,
        "one_pass_alone_over_batched": pass_gain(model, data.input_shape, device),
        "passes": counting.pictures + backward,
        "passes_needed": POINTS + steps + backward,
        "passes_over_needed": (counting.pictures + backward) / (POINTS + steps + backward),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/deepfool.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for architecture, rate in NETS.items():
        rows.append(row(architecture, rate, options.device))
        print(rows[-1], flush=True)
    document = {"points": POINTS, "data": DATA, "threads": 1, "target_ratio": 20}
    machine = describe_machine(options.device).model_dump()
    write_json(options.output, {**document, "machine": machine, "rows": rows})


if __name__ == "__main__":
    main()
