"""Does a dishonest accuser win before a judge, and does an honest owner?

Small perceptrons on digits. Each row is one way to make a claim, with several owners or accusers of its own, each held
against 40 independent nets of three recipes. Accusers commit to whatever they like, and know every recipe that suspects
and judges may use, but no net of theirs:

- ``transferable``: pictures pushed by signed gradients on eight nets of the accuser towards random wrong labels, beside
  pictures that are mildly turned, moved and grained, which his nets agree to get wrong;
- ``away``: pushed away, too, from nets of the recipes that the suspect has not;
- ``natural``: two sets of the turned ones;
- ``picked``: of 600 queries of each family those that the suspect answers as the accuser's net does, and few others.

The judge ranks each suspect among 24 nets of each kind that were trained afterwards: among the suspect's own recipe
alone, among the other two alone, and by the rule (the largest p over all three, and over two families). ``made again``
is the share of suspects for which the opened queries pass as what the scheme makes of the accuser's own net; ``grade
C`` asks for both.

Run: python benchmarks/claims.py [--owners 10] [-o benchmarks/results/claims.json]
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from false_accusations import Training, train_stack
from torch import Tensor
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from whorl.bench.result import describe_machine
from whorl.claims.audit import compared
from whorl.claims.judging import examine
from whorl.data import SOURCES, Dataset
from whorl.detection.judgment import Kind, ranked
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle
from whorl.ownership import calibrate
from whorl.removals import REMOVALS
from whorl.removals.base import opened
from whorl.schemes import SCHEMES
from whorl.storage import write_json
from whorl.types import Fingerprint, Queries, Representation

RECIPES = {"width 32": Training(), "width 16": Training(width=16), "width 64": Training(width=64)}
SUSPECTS = {"width 32": 14, "width 16": 13, "width 64": 13}
ALPHA, MODELS, OPENED, PICK, NETS = 0.05, 24, 100, 600, 8
FIRST = 40_000  # of the seeds
COPIES = {"fine_tune(all)": 5, "prune_weights(1/2)": 5, "quantise(int8)": 1}
FAMILIES = {"akh": "akh", "igsm": "igsm"}
ACCUSERS = ("transferable .2", "transferable .5", "away", "natural", "picked")

Families = dict[str, Fingerprint]
Parts = Mapping[str, Dataset]


def oracles(nets: Sequence[torch.nn.Module], data: Dataset, name: str) -> list[Oracle]:
    """The nets as oracles."""
    shape, classes = data.input_shape, len(data.classes)
    return [TorchOracle(net, input_shape=shape, classes=classes, name=f"{name} {i}") for i, net in enumerate(nets)]


def honest(victim: Oracle, parts: Parts, seed: int, size: int = OPENED) -> Families:
    """What whorl extracts."""
    made = {name: SCHEMES.make(text) for name, text in FAMILIES.items()}
    return {name: each.extract(victim, parts[each.part], budget=size, seed=seed) for name, each in made.items()}


def forged(made: Fingerprint, inputs: Tensor, labels: Tensor) -> Fingerprint:
    """A fingerprint of other queries and answers, in the shape of an honest one."""
    chosen = torch.arange(len(inputs)) % len(made.queries)
    companions = made.queries[chosen].companions
    return replace(
        made,
        queries=Queries(inputs, companions, made.queries.notes, made.queries.shared),
        reference=Representation(labels),
    )


def pushed(
    nets: Sequence[torch.nn.Module],
    away: Sequence[torch.nn.Module],
    data: Dataset,
    reach: float,
    chance: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Pictures moved by signed gradients of all nets to random wrong labels, and off those of the nets in ``away``."""
    start = data.subset(torch.randperm(len(data), generator=chance)[:OPENED])
    inputs, classes = start.inputs(), len(data.classes)
    targets = (start.labels + torch.randint(1, classes, (OPENED,), generator=chance)) % classes
    x = inputs.clone()
    for _ in range(20):
        x.requires_grad_(True)
        loss = sum(cross_entropy(net(x), targets) for net in nets)
        loss = loss - sum((cross_entropy(net(x), targets).clamp(max=8) for net in away), torch.zeros(()))
        (slope,) = torch.autograd.grad(loss, x)
        x = (x.detach() - reach / 10 * slope.sign()).clamp(inputs - reach, inputs + reach).clamp(0, 1)
    return x.detach(), targets


def turned(
    nets: Sequence[torch.nn.Module], data: Dataset, count: int, chance: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mildly turned, moved and grained pictures that the nets agree most to get wrong, and what they say."""
    places = torch.randint(len(data), (8000,), generator=chance)
    inputs, truth = data.inputs(places), data.labels[places]
    angle = (torch.rand(len(inputs), generator=chance) - 0.5) * 0.9
    move = (torch.rand(len(inputs), 2, generator=chance) - 0.5) * 0.5
    turn = torch.stack([angle.cos(), -angle.sin(), move[:, 0], angle.sin(), angle.cos(), move[:, 1]], 1).view(-1, 2, 3)
    made = grid_sample(inputs, affine_grid(turn, list(inputs.shape), align_corners=False), align_corners=False)
    made = (made + 0.05 * torch.randn(made.shape, generator=chance)).clamp(0, 1)
    with torch.no_grad():
        labels = torch.stack([net(made).argmax(1) for net in nets])
    said = labels.mode(0).values
    agreed = (labels == said).double().mean(0) - 2 * (said == truth).double()
    best = agreed.argsort(descending=True)[:count]
    return made[best], said[best]


def picked(own: Oracle, nets: Sequence[torch.nn.Module], whole: Families, suspect: Oracle) -> Families:
    """Of many queries those on which the suspect agrees with the accuser's net and others of his do not."""
    found: Families = {}
    for name, made in whole.items():
        inputs = made.queries.inputs
        mine, theirs = own.labels(inputs), suspect.labels(inputs)
        with torch.no_grad():
            others = torch.stack([(net(inputs).argmax(1) == mine).double() for net in nets]).mean(0)
        best = ((mine == theirs).double() - others).argsort(descending=True)[:OPENED]
        found[name] = forged(made, inputs[best], mine[best])
    return found


def accusation(
    kind: str, own: Oracle, whole: Families, recipe: str, suspect: Oracle, parts: Parts, chance: torch.Generator
) -> Families:
    """What an accuser commits to against a suspect of a recipe."""
    data = parts["calibration"]
    nets = [net for how in RECIPES.values() for net in train_stack(NETS // 2, data, chance, how)]
    if kind == "picked":
        return picked(own, nets, whole, suspect)
    natural = turned(nets, parts["queries"], 2 * OPENED, chance)
    if kind == "natural":
        made = tuple(each[OPENED:] for each in natural)
    else:
        away: list[torch.nn.Module] = []
        if kind == "away":
            others = [how for name, how in RECIPES.items() if name != recipe]
            away = [net for how in others for net in train_stack(NETS // 2, data, chance, how)]
            nets = list(train_stack(NETS, data, chance, RECIPES[recipe]))
        made = pushed(nets, away, parts["queries"], 0.2 if kind == "transferable .2" else 0.5, chance)
    inputs, labels = (each[:OPENED] for each in natural)
    return {"akh": forged(whole["akh"], inputs, labels), "igsm": forged(whole["igsm"], *made)}


def kinds_of(families: Families, parts: Parts, pictures: Dataset, chance: torch.Generator) -> dict[str, Kind]:
    """The judge's models, trained when everything else is fixed, and how they answer."""
    found: dict[str, Kind] = {}
    for name, how in RECIPES.items():
        nets = oracles(train_stack(MODELS, parts["victim"], chance, how), pictures, name)
        told = [examine(families, net, pictures) for net in nets]
        similarities = {family: tuple(matches[family] for _, matches in told) for family in families}
        found[name] = Kind(tuple(accuracy for accuracy, _ in told), similarities)
    return found


def decided(
    families: Families, suspect: Oracle, recipe: str, kinds: Mapping[str, Kind], pictures: Dataset
) -> dict[str, bool]:
    """Whether a judge calls a suspect derived who has the suspect's own kind alone, the others alone, or all."""
    accuracy, matches = examine(families, suspect, pictures)
    ways = {
        "own recipe alone": {recipe: kinds[recipe]},
        "other recipes alone": {name: kind for name, kind in kinds.items() if name != recipe},
        "the rule": dict(kinds),
    }
    return {way: ranked(matches, accuracy, held).refuted(ALPHA) for way, held in ways.items()}


def maps(data: Dataset, count: int, chance: torch.Generator) -> dict[str, Oracle]:
    """Random linear maps, which an accuser hands over as "independent classifiers of the same task"."""
    nets = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)) for _ in range(count)]
    for net in nets:
        for each in net.parameters():
            each.data = torch.randn(each.shape, generator=chance)
    return {each.name: each for each in oracles(nets, data, "map")}


def one_owner(seed: int, parts: Parts) -> dict[str, list[dict[str, bool]]]:
    """Rows of one owner and one accuser of each kind."""
    chance = torch.Generator().manual_seed(seed)
    data, pictures = parts["victim"], parts["test"]
    own = oracles(train_stack(1, data, chance), data, "victim")[0]
    families, whole = honest(own, parts, seed), honest(own, parts, seed, PICK)
    rows: dict[str, list[dict[str, bool]]] = defaultdict(list)
    again = honest(own, parts, seed)
    suspects = [
        (recipe, each)
        for recipe, count in SUSPECTS.items()
        for each in oracles(train_stack(count, data, chance, RECIPES[recipe]), data, recipe)
    ]
    kinds = kinds_of(families, parts, pictures, chance)
    for recipe, suspect in suspects:
        rows["honest: strangers"].append(decided(families, suspect, recipe, kinds, pictures) | near(families, again))
    for removal, count in COPIES.items():
        for number in range(count):
            made = REMOVALS.make(removal)(
                own, parts["attacker"], generator=torch.Generator().manual_seed(seed + number)
            )
            copy = opened(made, own, name=removal)
            rows[f"honest: {removal}"].append(
                decided(families, copy, "width 32", kinds, pictures) | near(families, again)
            )
    null = maps(data, 99, chance)
    for kind in ACCUSERS:
        for number, (recipe, suspect) in enumerate(suspects):
            if kind == "picked" or number % 10 == 0:  # one set of queries for ten suspects, but for who picks by them
                claimed = accusation(kind, own, whole, recipe, suspect, parts, chance)
                kinds = kinds_of(claimed, parts, pictures, chance)
            told = decided(claimed, suspect, recipe, kinds, pictures) | near(claimed, again)
            if number % 10 == 0:
                known = calibrate(
                    claimed["igsm"], null, pool="independent classifiers of the same task", allow_unlike=True
                )
                found = SCHEMES.make(known.scheme).verify(replace(known, probes=None), suspect, alpha=ALPHA)
                told["random maps, grade D"] = found.decision == "derived"
            rows[f"accuser: {kind}"].append(told)
    return rows


def near(claimed: Families, again: Families) -> dict[str, bool]:
    """Whether what was opened is what scheme, seed and model give."""
    return {"made again": all(compared(claimed[name], again[name]).near for name in claimed)}


def shares(values: Sequence[Sequence[bool]]) -> dict[str, float]:
    """Mean, and its standard error clustered by owner."""
    means = np.array([np.mean(each) for each in values])
    error = float(means.std(ddof=1) / len(means) ** 0.5) if len(means) > 1 else 0.0
    return {"count": sum(map(len, values)), "rate": round(float(means.mean()), 5), "error": round(error, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owners", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/claims.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = SOURCES.make("digits(size=8)")
    parts = {part: source.load(part) for part in ("victim", "attacker", "calibration", "queries", "test")}
    started = time.process_time()
    gathered: dict[str, list[list[dict[str, bool]]]] = defaultdict(list)
    for number in range(options.owners):
        for row, values in one_owner(FIRST + number, parts).items():
            gathered[row].append(values)
        print(f"{number + 1}/{options.owners}", flush=True)
    rows: dict[str, Any] = {}
    for row, values in gathered.items():
        columns = sorted({name for one in values for each in one for name in each})
        for each in (each for one in values for each in one):
            each["grade C"] = each["the rule"] and each["made again"]
        columns = [*columns, "grade C"]
        rows[row] = {name: shares([[each[name] for each in one if name in each] for one in values]) for name in columns}
        print(row, {name: of["rate"] for name, of in rows[row].items()})
    document = {
        "alpha": ALPHA,
        "owners": options.owners,
        "models of each kind": MODELS,
        "opened": OPENED,
        "rows": rows,
        "seconds": round(time.process_time() - started, 1),
        "machine": describe_machine("cpu").model_dump(),
    }
    write_json(options.output, document)


if __name__ == "__main__":
    main()
