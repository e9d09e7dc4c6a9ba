"""Do strangers match drawn labels and bits by chance, and what of labels and bits that an owner chose?

500 perceptrons (64-48-10, on digits at 8 px), each with weights and a random half of the pictures of its own, and 500
siblings that begin with the same weights. None of them knows anything of a mark. 10,000 draws for each design:

- *labels*: 50 random patterns, one label of ten each; *others*: the same for patched pictures, the label drawn among
  the nine that are not the picture's own;
- *weights*: 32 bits of the mean weights of the first layer; *activations*: 32 bits of its mean activations on eight
  pictures each.

Beside them what an owner may choose: one target for all patterns; the labels that most of 100 other nets give; bits
that are all ones; the true labels of points beside a boundary (frontier stitching, by its paper's rule). And grinding:
the best of 20,000 draws against one net, before and after p is multiplied by their number.

Verdicts of one draw come together, so intervals are over draws where there are draws, and over nets elsewhere.

Run: python benchmarks/marks.py [-o benchmarks/results/marks.json]
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.detection.design import Design
from whorl.detection.exact import log_binomial_tail
from whorl.marks.frontier import paper_rule
from whorl.metrics import clopper_pearson
from whorl.storage import write_json

NETS, OTHERS, HIDDEN, CLASSES = 500, 100, 48, 10
DRAWS, GROUND, TRIGGERS, BITS, EACH = 10_000, 20_000, 50, 32, 8
LEVELS = (0.05, 0.01)
STEPS, BATCH, RATE = 400, 50, 0.1

Nets = dict[str, Tensor]
"""Perceptrons side by side: first ``[nets, 64, 48]``, shift ``[nets, 1, 48]``, second, offset."""


def begun(count: int, generator: torch.Generator) -> Nets:
    """Weights as they are drawn before training."""
    return {
        "first": torch.randn(count, 64, HIDDEN, generator=generator) * (2 / 64) ** 0.5,
        "shift": torch.zeros(count, 1, HIDDEN),
        "second": torch.randn(count, HIDDEN, CLASSES, generator=generator) * (2 / HIDDEN) ** 0.5,
        "offset": torch.zeros(count, 1, CLASSES),
    }


def hidden(nets: Nets, rows: Tensor) -> Tensor:
    """Before the ReLU, ``[nets, n, 48]``; rows ``[n, 64]`` or ``[nets, n, 64]``."""
    return rows @ nets["first"] + nets["shift"]


def logits(nets: Nets, rows: Tensor) -> Tensor:
    return hidden(nets, rows).relu() @ nets["second"] + nets["offset"]


def trained(nets: Nets, rows: Tensor, labels: Tensor, generator: torch.Generator) -> Nets:
    """All nets side by side by SGD, each on a random half of its own."""
    count = len(nets["first"])
    halves = torch.stack([torch.randperm(len(rows), generator=generator)[: len(rows) // 2] for _ in range(count)])
    moving = [value.clone().requires_grad_() for value in nets.values()]
    optimizer = torch.optim.SGD(moving, lr=RATE, momentum=0.9, nesterov=True, weight_decay=1e-4)
    held = dict(zip(nets, moving, strict=True))
    for _ in range(STEPS):
        chosen = halves.gather(1, torch.randint(halves.shape[1], (count, BATCH), generator=generator))
        optimizer.zero_grad()
        found = logits(held, rows[chosen])
        # The sum over nets leaves each net the gradient of its own mean.
        loss = cross_entropy(found.flatten(0, 1), labels[chosen].flatten(), reduction="sum") / BATCH
        loss.backward()
        optimizer.step()
    return {name: value.detach() for name, value in held.items()}


def least(count: int, choices: int, level: float) -> int:
    """The fewest matches with a p-value of at most ``level``."""
    return next(each for each in range(count + 1) if log_binomial_tail(each, count, 1 / choices) <= math.log(level))


def over_draws(answers: Tensor, choices: int, generator: torch.Generator) -> dict[str, Any]:
    """Shares of (net, draw) at each level, with 95 % intervals over draws, and the worst draw."""
    count = answers.shape[1]
    shares: dict[str, list[Tensor]] = {f"{level:g}": [] for level in LEVELS}
    for _ in range(DRAWS):
        matches = (answers == torch.randint(choices, (count,), generator=generator)).sum(1)
        for level in LEVELS:
            shares[f"{level:g}"].append((matches >= least_of[count, choices, level]).double().mean())
    found: dict[str, Any] = {"nets": len(answers), "draws": DRAWS, "n": count, "choices": choices}
    for level, values in shares.items():
        each = torch.stack(values)
        mean, error = float(each.mean()), float(each.std() / len(each) ** 0.5)
        promised = math.exp(log_binomial_tail(least_of[count, choices, float(level)], count, 1 / choices))
        found[level] = {
            "share": mean,
            "interval": [mean - 1.96 * error, mean + 1.96 * error],
            "promised": promised,
            "worst draw": float(each.max()),
        }
    return found


def over_nets(hits: Tensor) -> dict[str, Any]:
    """A share of nets, with the interval of Clopper and Pearson."""
    interval = clopper_pearson(int(hits.sum()), len(hits))
    return {"share": float(hits.double().mean()), "interval": [interval.low, interval.high], "nets": len(hits)}


def patterns(count: int, generator: torch.Generator) -> Tensor:
    """Smooth random patterns ``[count, 64]`` in [0, 1]."""
    coarse = torch.rand(count, 1, 4, 4, generator=generator)
    return interpolate(coarse, size=(8, 8), mode="bilinear", align_corners=False).flatten(1)


def stitched(nets: Nets, number: int, rows: Tensor, labels: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Signed-gradient points of one net: half change its answer, half do not; with their true labels."""
    alone = {name: value[number : number + 1] for name, value in nets.items()}
    start = rows.clone().requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(logits(alone, start)[0], labels, reduction="sum"), start)
    points = (rows + epsilon * slope.sign()).clamp(0, 1)
    right = logits(alone, rows)[0].argmax(1) == labels
    fooled = logits(alone, points)[0].argmax(1) != labels
    chosen = torch.cat([(right & fooled).nonzero()[:50, 0], (right & ~fooled).nonzero()[:50, 0]])
    return points[chosen], labels[chosen]


least_of = {
    (count, choices, level): least(count, choices, level)
    for count, choices in ((TRIGGERS, CLASSES), (TRIGGERS, CLASSES - 1), (BITS, 2))
    for level in LEVELS
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/marks.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    started, generator = time.process_time(), torch.Generator().manual_seed(17)
    data, test = (SOURCES.make("digits(size=8)").load(part) for part in ("victim+attacker+calibration", "test"))
    rows, labels = data.inputs().flatten(1), data.labels
    nets = trained(begun(NETS, generator), rows, labels, generator)
    others = trained(begun(OTHERS, generator), rows, labels, generator)
    one = begun(1, generator)
    siblings = trained({name: value.repeat(NETS, 1, 1) for name, value in one.items()}, rows, labels, generator)
    right = (logits(nets, test.inputs().flatten(1)).argmax(2) == test.labels).double().mean()
    print(f"accuracy {right:.3f}", flush=True)

    triggers = patterns(TRIGGERS, generator)
    answers = logits(nets, triggers).argmax(2)
    patched = rows[torch.randperm(len(rows), generator=generator)[:TRIGGERS]].clone()
    own = labels[(patched[:, None] == rows).all(2).long().argmax(1)]
    patched.unflatten(1, (8, 8))[:, -2:, -2:] = torch.rand(2, 2, generator=generator)
    seen = logits(nets, patched).argmax(2)
    shifted = torch.where(seen == own, CLASSES, seen - (seen > own).long())  # of nine; ten matches nothing
    projection = torch.randn(BITS, 64, generator=generator)
    asked = rows[torch.randperm(len(rows), generator=generator)[: BITS * EACH]]
    secret = torch.randn(BITS, HIDDEN, generator=generator)

    def weight_bits(made: Nets) -> Tensor:
        return (made["first"].mean(2) @ projection.T > 0).long()

    def activation_bits(made: Nets) -> Tensor:
        return ((hidden(made, asked).unflatten(1, (BITS, EACH)).mean(2) * secret).sum(2) > 0).long()

    designs = {
        "labels": (answers, CLASSES),
        "labels, siblings": (logits(siblings, triggers).argmax(2), CLASSES),
        "others": (shifted, CLASSES - 1),
        "weights": (weight_bits(nets), 2),
        "weights, siblings": (weight_bits(siblings), 2),
        "activations": (activation_bits(nets), 2),
        "activations, siblings": (activation_bits(siblings), 2),
    }
    drawn: dict[str, Any] = {}
    for name, (given, choices) in designs.items():
        drawn[name] = over_draws(given, choices, generator)
        print(name, {level: drawn[name][f"{level:g}"] for level in LEVELS}, flush=True)

    few = least_of[TRIGGERS, CLASSES, 0.01]
    targets = [over_nets((answers == target).sum(1) >= few) for target in range(CLASSES)]
    majority = logits(others, triggers).argmax(2).mode(0).values
    ones = {
        name: {
            "matches": [int(each) for each in (weight_bits(made).sum(1).min(), weight_bits(made).sum(1).max())],
            "sd": float(weight_bits(made).sum(1).double().std()),
            "0.01": over_nets(weight_bits(made).sum(1) >= least_of[BITS, 2, 0.01]),
        }
        for name, made in (("strangers", nets), ("siblings", siblings))
    }
    # Over projections too, since siblings have one of each alike: by projection, the sd over strangers and the rate.
    spread: list[dict[str, float]] = []
    for _ in range(200):
        fresh = torch.randn(BITS, 64, generator=generator)
        counts = (nets["first"].mean(2) @ fresh.T > 0).sum(1).double()
        spread.append({"sd": float(counts.std()), "0.01": float((counts >= least_of[BITS, 2, 0.01]).double().mean())})
    frontier = {}
    for epsilon in (0.05, 0.1, 0.15):
        points, truth = stitched(nets, 0, rows, labels, epsilon)
        errors = (logits(nets, points).argmax(2) != truth).sum(1)[1:]
        hits = torch.tensor([paper_rule(int(each), len(points)) for each in errors])
        frontier[f"{epsilon:g}"] = over_nets(hits) | {"points": len(points), "errors": float(errors.double().mean())}
    tried = [torch.randint(CLASSES, (TRIGGERS,), generator=generator) for _ in range(GROUND)]
    best = max(tried, key=lambda each: int((each == answers[0]).sum()))
    ground = {
        f"counted as {draws}": Design(tuple(best.tolist()), CLASSES, draws).test(answers[0].numpy()).p
        for draws in (1, GROUND)
    }
    document = {
        "accuracy": float(right),
        "drawn": drawn,
        "one target": targets,
        "chosen by majority": over_nets((answers == majority).sum(1) >= few),
        "bits all ones": ones
        | {
            "over projections": {
                "sd": sum(each["sd"] for each in spread) / 200,
                "worst 0.01": max(each["0.01"] for each in spread),
            }
        },
        "frontier, paper's rule": frontier,
        "ground": {"draws": GROUND, "matches": int((best == answers[0]).sum()), **ground},
        "seconds": round(time.process_time() - started, 1),
        "machine": describe_machine("cpu").model_dump(),
    }
    for name in ("one target", "chosen by majority", "bits all ones", "frontier, paper's rule", "ground", "seconds"):
        print(name, document[name], flush=True)
    write_json(options.output, document)


if __name__ == "__main__":
    main()
