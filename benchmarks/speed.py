"""Extraction and verification against their floors, as ratios within one run on one thread.

Extraction: IPGuard with n = 100 against (a) the floor, that is the sample passes really needed times the best measured
time of one forward-backward pass per sample, (b) the replay, that is the bare net's passes over batches of the sizes
that this extraction asked, one after the other, which is what any software pays whose rows leave the batch when they
are done, and (c) a per-picture loop on the same frozen net that reaches the same loss. With candidates=2 twice the
pictures start and the first 100 to arrive are kept. Verification: label answers of the oracle against a bare batched
forward pass.

Run: python benchmarks/speed.py [-o benchmarks/results/speed.json]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.nets.training import Schedule, accuracy, build, fit
from whorl.oracles.torch import TorchOracle, frozen
from whorl.queries.boundary import boundary_loss
from whorl.schemes import SCHEMES
from whorl.storage import write_json
from whorl.types import Fingerprint

REPEATS = 5


def timed(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median processor seconds of this thread."""
    work()
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds)


def pass_seconds(net: torch.nn.Module, shape: tuple[int, int, int]) -> dict[int, float]:
    """Seconds of one forward-backward pass per sample, by batch size."""
    model = frozen(net)
    best: dict[int, float] = {}
    for batch in (1, 25, 50, 100, 200):
        inputs = torch.rand(batch, *shape).to(memory_format=torch.channels_last).requires_grad_()

        def once(inputs: torch.Tensor = inputs) -> None:
            torch.autograd.grad(model(inputs).sum(), inputs)

        best[batch] = timed(once, 9) / batch
    return best


def one_by_one(net: torch.nn.Module, fingerprint: Fingerprint, margin: float, count: int) -> float:
    """Seconds of the loop over pictures: frozen net, input gradients only, torch's own Adam."""
    model, queries = frozen(net), fingerprint.queries
    started = time.process_time()
    for index in range(count):
        point = queries.companions["seeds"][index : index + 1].clone().requires_grad_()
        near, far = queries.companions["source"][index : index + 1], queries.companions["target"][index : index + 1]
        adam = torch.optim.Adam([point], lr=0.001)
        for _ in range(1000):
            loss = boundary_loss(model(point), near, far, margin)
            if float(loss.detach()) == 0:
                break
            (point.grad,) = torch.autograd.grad(loss.sum(), point)
            adam.step()
            with torch.no_grad():
                point.clamp_(0, 1)
    return time.process_time() - started


class Counted(TorchOracle):
    """Notes the size of every batch that its gradient is asked for."""

    def differentiable(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """As any `TorchOracle`."""
        self.sizes: list[int] = []
        function = super().differentiable()
        function.register_forward_pre_hook(lambda _module, given: self.sizes.append(len(given[0])))
        return function


def replay(net: torch.nn.Module, sizes: list[int], shape: tuple[int, int, int]) -> float:
    """Seconds of the bare net's forward-backward passes over batches of these sizes."""
    model, inputs = frozen(net), torch.rand(max(sizes), *shape)
    started = time.process_time()
    for size in sizes:
        batch = inputs[:size].to(memory_format=torch.channels_last).requires_grad_()
        torch.autograd.grad(model(batch).sum(), batch)
    return time.process_time() - started


def net_rows(architecture: str, size: int, epochs: int, loop_sample: int, repeats: int) -> list[dict[str, object]]:
    """Figures of one victim: plain IPGuard, and with over-provisioned candidates; times are medians of ``repeats``."""
    data = SOURCES.make(f"textures(size={size}, images=4000, noise=0.1)")
    train, test = data.load("victim"), data.load("test")
    generator = torch.Generator().manual_seed(0)
    net = build(architecture, train.input_shape, 10, generator)
    fit(net, train, Schedule(epochs=epochs, learning_rate=0.2, policy="one-cycle"), generator=generator)
    victim = Counted(net, input_shape=train.input_shape, classes=10)
    inputs = test.inputs(slice(0, 1000))

    def bare() -> None:
        with torch.inference_mode():
            for chunk in inputs.split(256):
                net(chunk.to(memory_format=torch.channels_last)).argmax(1)

    ratios = [timed(lambda: victim.labels(inputs), 3) / timed(bare, 3) for _ in range(REPEATS)]
    rows: list[dict[str, object]] = []
    loop = 0.0
    for settings in ("target=random", "target=random, candidates=2.0"):
        scheme = SCHEMES.make(f"ipguard({settings})")
        before = pass_seconds(net, train.input_shape)
        pairs: list[tuple[float, float]] = []
        for _ in range(repeats):
            started = time.process_time()
            fingerprint = scheme.extract(victim, train, budget=100)
            pairs.append((time.process_time() - started, replay(net, victim.sizes, train.input_shape)))
        extraction = statistics.median(taken for taken, _ in pairs)
        after = pass_seconds(net, train.input_shape)
        passes = {batch: min(before[batch], after[batch]) for batch in before}
        notes = fingerprint.queries.notes
        floor = int(notes["passes"]) * min(passes.values())
        if "candidates" not in settings:  # the loop has no use for more candidates; it takes the plain ones
            loop = one_by_one(net, fingerprint, scheme.margin, loop_sample) * 100 / loop_sample
        rows.append(
            {
                "net": architecture,
                "size": size,
                "accuracy": accuracy(net, test),
                "scheme": str(scheme),
                "converged": notes["converged"],
                "passes": notes["passes"],
                "pass_seconds_by_batch": passes,
                "extraction_seconds": extraction,
                "floor_seconds": floor,
                "extraction_over_floor": extraction / floor,
                "extraction_over_replay": statistics.median(taken / bare for taken, bare in pairs),
                "extraction_over_replay_all": [taken / bare for taken, bare in pairs],
                "batches": len(victim.sizes),
                "loop_seconds": loop,
                "loop_measured_on": loop_sample,
                "loop_over_extraction": loop / extraction,
                "verification_over_bare": statistics.median(ratios),
                "verification_over_bare_all": ratios,
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/speed.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [*net_rows("resnet8", 16, 6, 100, 5), *net_rows("resnet20", 32, 3, 15, 1)]
    write_json(options.output, {"machine": describe_machine("cpu").model_dump(), "threads": 1, "rows": rows})


if __name__ == "__main__":
    main()
