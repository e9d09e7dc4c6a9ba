"""Do maps that leave a net's answers leave its adversarial examples? Symmetries, null spaces, scrambling, smoothing.

    python benchmarks/same_adversarial.py -o benchmarks/results/same-adversarial.json

Six perceptrons of width 32 on digits at 8 pixels (seeds 0 to 5). PGD (20 steps of .02 in L-infinity, radius .15, one
random start, the same for a net and its copy) on 180 held-out pictures. `same_points` is the share of adversarial
pictures that agree to 1e-3 in every pixel, `same_labels` the share of equal labels on the victim's ones, `transfer`
the share of the victim's successful ones that the copy errs on in the same way, `own` the share of pictures that an
attack on the copy itself turns. `agreement` are equal labels on held-out pictures that noise moved by that L2 norm.
`stranger` is a net of another seed. Nothing was chosen.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whorl.bench.result import describe_machine
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.storage import write_json
from whorl.testing import tiny_data, tiny_net, tiny_victim

NET, SEEDS = "mlp(width=32)", range(6)
RADIUS, STEP, STEPS = 0.15, 0.02, 20
DISTANCES = (0.0, 0.5, 1.0, 2.0, 4.0)
MAPS = {
    "permuted and scaled": "reparametrise",
    "null space, norm 0.2": "randomise_boundary(norm=0.2)",
    "null space, norm 0.5": "randomise_boundary(norm=0.5)",
    "null space, norm 1": "randomise_boundary(norm=1.0)",
    "exact null space, norm 1": "randomise_boundary(norm=1.0, energy=1)",
    "scrambled boundary": "scramble_boundary",
    "smoothed labels": "smooth_labels",
    "fine-tuned": "fine_tune(all)",
}


def pgd(net: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor, start: Tensor) -> Tensor:
    at = (inputs + start).clamp(0, 1)
    for _ in range(STEPS):
        at.requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(net(at), labels, reduction="sum"), at)
        at = (at.detach() + STEP * gradient.sign()).clamp(inputs - RADIUS, inputs + RADIUS).clamp(0, 1)
    return at


def compared(victim: nn.Module, copy: nn.Module, seed: int) -> dict[str, Any]:
    data, chance = tiny_data("test"), torch.Generator().manual_seed(seed)
    inputs = data.inputs().to(next(victim.parameters()).dtype)
    with torch.no_grad():
        labels = victim(inputs).argmax(1)
    start = (torch.rand(inputs.shape, generator=chance) * 2 - 1).to(inputs) * RADIUS
    ours, theirs = (pgd(net, inputs, labels, start) for net in (victim, copy))
    with torch.no_grad():
        said = {name: net(ours).argmax(1) for name, net in (("victim", victim), ("copy", copy))}
        own = float((copy(theirs).argmax(1) != labels).double().mean())
        fooled = said["victim"] != labels
        noise = torch.randn(inputs.shape, generator=chance).to(inputs)
        noise /= noise.flatten(1).norm(dim=1)[:, None, None, None]
        curve = {
            str(each): float(
                (victim(inputs + each * noise).argmax(1) == copy(inputs + each * noise).argmax(1)).double().mean()
            )
            for each in DISTANCES
        }
    return {
        "same_points": float(((ours - theirs).abs().flatten(1).amax(1) < 1e-3).double().mean()),
        "same_labels": float((said["victim"] == said["copy"]).double().mean()),
        "transfer": float((said["copy"] == said["victim"])[fooled].double().mean()),
        "own": own,
        "agreement": curve,
    }


def smoothed(
    net: nn.Module, chance: torch.Generator, sigma: float = 0.25, votes: int = 64
) -> Callable[[Tensor], Tensor]:
    """The votes under noise, as the served model of `smooth`: a thief's treatment has no gradient of its own."""

    def answer(at: Tensor) -> Tensor:
        noise = sigma * torch.randn(votes, *at.shape, generator=chance).to(at)
        return torch.stack([net((at + each).clamp(0, 1)).softmax(1) for each in noise]).mean(0).log()

    return answer


def mean_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    plain = {key: spread([row[key] for row in rows]) for key in ("same_points", "same_labels", "transfer", "own")}
    return plain | {
        "agreement": {each: spread([row["agreement"][each] for row in rows]) for each in rows[0]["agreement"]}
    }


def spread(values: list[float]) -> dict[str, float]:
    return {"mean": sum(values) / len(values), "least": min(values), "most": max(values)}


def copies(victim: Oracle, seed: int) -> dict[str, nn.Module]:
    made = {
        name: REMOVALS.make(each)(victim, tiny_data("attacker"), generator=torch.Generator().manual_seed(seed))
        for name, each in MAPS.items()
    }
    return {name: each for name, each in made.items() if isinstance(each, nn.Module)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started, rows = time.perf_counter(), dict[str, list[dict[str, Any]]]()
    for seed in SEEDS:
        victim = tiny_victim(seed=seed, architecture=NET)
        assert isinstance(victim, TorchOracle)
        net = victim.module
        for name, copy in copies(victim, seed).items():
            rows.setdefault(name, []).append(compared(net, copy, seed))
        doubled = [
            each.double()
            for each in (tiny_net(seed=seed, architecture=NET), copies(victim, seed)["permuted and scaled"])
        ]
        rows.setdefault("permuted and scaled, float64", []).append(compared(doubled[0], doubled[1], seed))
        rows.setdefault("stranger", []).append(compared(net, tiny_net(seed=seed + 50, architecture=NET), seed))
        serving = smoothed(net, torch.Generator().manual_seed(seed))
        rows.setdefault("smoothed service", []).append(compared(net, serving, seed))  # pyright: ignore[reportArgumentType]
        print(
            seed, {name: (found[-1]["same_points"], found[-1]["transfer"]) for name, found in rows.items()}, flush=True
        )
    document = {
        "maps": {name: mean_of(found) for name, found in rows.items()},
        "nets": len(SEEDS),
        "radius": RADIUS,
        "seconds": round(time.perf_counter() - started),
        "machine": describe_machine("cpu").model_dump(),
    }
    write_json(asked.output, document)


if __name__ == "__main__":
    main()
