"""Are forged training logs told from honest ones? Five honest logs and five forgeries of each kind, by three rules.

    python benchmarks/logs.py -o benchmarks/results/logs-tiny.json

Honest: a perceptron of 48 units on digits at 8 pixels, 40 segments of 14 steps, SGD at .05, logged with one thread and
with two in turn. Forgers (whorl.zoo.spoofs) steal the last net of an honest log of other seed and data order. The
tolerance is that of five own logs of further seeds, 200 segments, whose batches are replayed in another order. Rules:
`relative` as whorl decides (weights, buffers and moments), `weights` the same without moments, `original` as published
with delta = .01 and .05 of d_ref, the distance of two honest nets. `fails` is the share of 1,000 draws of 10 segments
with a bad one; `bad_at_widest` the share of segments that even a rho of .1 refuses. Nothing was chosen on these seeds .
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from whorl.attest.training import TrainingLog, read_log
from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.nets.training import accuracy, build
from whorl.storage import write_json
from whorl.zoo.log_check import check_log, tolerance_of
from whorl.zoo.logged import State
from whorl.zoo.original_rule import original_rule
from whorl.zoo.replay import Deviation, deviation, net_of, replay, segment_of
from whorl.zoo.spoofs import SPOOFS, Forger

SOURCE = SOURCES.make("digits(size=8)")
TRAINING, TEST = SOURCE.load("victim"), SOURCE.load("test")
ARCHITECTURE = "mlp(width=48)"
HONEST, OWN, DRAWS, TRIES, WIDE = 5, 5, 10, 1000, 0.1


def forger(seed: int, stolen: nn.Module) -> Forger:
    chance = torch.Generator().manual_seed(seed)
    return Forger(stolen=stolen, architecture=ARCHITECTURE, data=TRAINING, generator=chance)


def honest(seed: int, folder: Path, momentum: float = 0.0) -> nn.Module:
    chance = torch.Generator().manual_seed(seed)
    plan = Forger(stolen=nn.Module(), architecture=ARCHITECTURE, data=TRAINING, generator=chance)
    net = build(ARCHITECTURE, TRAINING.input_shape, len(TRAINING.classes), chance).train()
    net.standardise(TRAINING.inputs())  # pyright: ignore[reportCallIssue]
    optimiser = torch.optim.SGD(net.parameters(), lr=plan.learning_rate, momentum=momentum)
    recorder = plan.record(folder, net, optimiser)
    for (inputs, labels), _ in zip(plan.draws(), range(plan.segments * plan.every), strict=False):
        optimiser.zero_grad()
        loss = cross_entropy(net(inputs), labels)
        loss.backward()
        recorder.fed(inputs, labels, loss)
        optimiser.step()
        recorder.stepped()
    recorder.ended()
    return net.eval()


def deviations(log: TrainingLog, moments: bool) -> list[Deviation]:
    net, found = net_of(log), []
    for number in range(log.segments):
        segment = segment_of(log, number)
        made = replay(net, segment, log.header)
        states = [made, segment.after, segment.before]
        if not moments:
            states = [State(each.weights, {}, each.random) for each in states]
        found.append(deviation(*states))
    return found


def judged(log: TrainingLog, tolerance: Any, reference: float, seed: int) -> dict[str, Any]:
    chance = torch.Generator().manual_seed(seed)
    rows: dict[str, Any] = {}
    for name, moments in (("relative", True), ("weights", False)):
        found = deviations(log, moments)
        bad = torch.tensor([tolerance.verdict(each) != "replayed" for each in found])
        failed = [bool(bad[torch.randperm(len(bad), generator=chance)[:DRAWS]].any()) for _ in range(TRIES)]
        errors = torch.tensor([each.relative for each in found])
        rows[name] = {
            "bad_segments": float(bad.float().mean()),
            "bad_at_widest": float(torch.tensor([each.relative > WIDE for each in found]).float().mean()),
            "fails": sum(failed) / TRIES,
            "least_error": float(errors.min()),
            "median_error": min(float(errors.median()), 1e9),
            "most_error": min(float(errors.max()), 1e9),
        }
    for share in (0.01, 0.05):
        found = original_rule(log, delta=share * reference)
        rows[f"original {share}"] = {"valid": found.valid, "worst_share": found.worst / reference}
    checked = check_log(log, tolerance, draws=DRAWS, nonce=seed.to_bytes(32, "big"))
    return rows | {"consistent": checked.consistent, "faults": len(checked.faults)}


def distance(one: nn.Module, other: nn.Module) -> float:
    parts = zip(one.parameters(), other.parameters(), strict=True)
    return float(torch.stack([(a - b).detach().square().sum() for a, b in parts]).sum().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    started, rows, costs = time.perf_counter(), {}, {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        torch.set_num_threads(1)
        for seed in range(OWN):
            honest(100 + seed, folder / f"own-{seed}")
        own = [read_log(folder / f"own-{seed}") for seed in range(OWN)]
        tolerance = tolerance_of(own, generator=torch.Generator().manual_seed(0))
        nets = []
        for seed in range(HONEST):
            torch.set_num_threads(1 + seed % 2)
            nets.append(honest(seed, folder / f"honest-{seed}"))
        torch.set_num_threads(1)
        reference = distance(nets[0], nets[1])
        for seed in range(HONEST):
            rows.setdefault("honest", []).append(
                judged(read_log(folder / f"honest-{seed}"), tolerance, reference, seed)
            )
            for name, forge in SPOOFS.items():
                where = folder / f"{name}-{seed}"
                costs[name] = forge(forger(500 + seed, nets[seed]), where)
                log = read_log(where)
                row = judged(log, tolerance, reference, seed)
                net = net_of(log)
                net.load_state_dict(dict(State.read(log.state(log.steps)).weights))
                row |= {"from_stolen": distance(net, nets[seed]) / reference, "accuracy": accuracy(net, TEST)}
                rows.setdefault(name, []).append(row)
                print(seed, name, row, flush=True)
    document = {
        "tolerance": {"rho": tolerance.relative, "absolute": tolerance.absolute, "segments": tolerance.segments},
        "reference_distance": reference,
        "honest_accuracy": [accuracy(net, TEST) for net in nets],
        "honest_steps": 40 * 14,
        "steps": costs,
        "logs": rows,
        "seconds": round(time.perf_counter() - started),
        "machine": describe_machine("cpu").model_dump(),
    }
    write_json(asked.output, document)


if __name__ == "__main__":
    main()
