# %% [markdown]
"""How many functions do trained nets make, once symmetries are taken away?

    python benchmarks/modes.py [-o benchmarks/results/modes.json]

A script in cells (`# %%`), to be run whole or cell by cell in an editor that knows them.

Two tasks, two-layer nets of several widths, 32 seeds each, five draws of the task:

- *teacher*: numbers made by a net of four hidden units (ReLU or tanh), 256 random inputs, no noise. Adam, then
  Levenberg-Marquardt to the end, in float64. Students of four units are just enough.
- *digits*: 8 x 8 pixels, ReLU, cross-entropy, Adam on all pictures until it is all but zero.

Two nets are of one mode where a chain of nets leads from one to the other, each link below a threshold (single
linkage). Five measures of a link, before and after the quotient:

- *as they are*: distance of the weights, ‖A - B‖ / √(‖A‖ ‖B‖);
- *modulo symmetry*: the same of canonical forms (`whorl.symmetry.canonical`: duplicate and dead units merged,
  scale and sign chosen), under the best pairing of units, which for one hidden layer is found exactly;
- *behaviour*: root mean square difference of the outputs on fresh inputs, over their spread;
- *line* and *line, aligned*: how far the training loss rises on the straight line between the nets (above the larger
  end, over the loss of a constant), as they are or units scaled alike, paired and turned.

For ReLU teachers also *exactly*: `whorl.symmetry.two_layer.same_function`, which decides from weights.

Thresholds come from noise: some nets of each kind get two kicks (their weights multiplied by 1 + size * normal, twice)
and both are trained on; the median of a measure between two such twins is its threshold, but at least the 1e-5 that
rounding may leave. Half the links of a mode are enough for single linkage, and a median is not moved by a kick into
another mode.

Counts are of 32 nets, so a mode seen once says that more are there: `unseen` estimates the share of nets whose mode
none of the 32 has (Good & Turing: modes seen once, over nets).
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modes_nets import ACTIVATIONS, INPUTS, TEACHER, Nets, Task, digits_task, drawn, kicked, teacher_task, trained
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import t as student
from torch import Tensor, nn

from whorl.bench.result import describe_machine
from whorl.errors import UsageError
from whorl.nets.regression import MLPRegressor
from whorl.storage import write_json
from whorl.symmetry.alignment.assignment import assign
from whorl.symmetry.canonical import canonical
from whorl.symmetry.copies import distance
from whorl.symmetry.two_layer import same_function

SEEDS, DRAWS, TWINS = 32, 5, 8
KICK, KICKS = 0.01, (0.001, 0.01, 0.1)
WIDTHS = {"teacher": (4, 6, 8, 16, 32), "digits": (4, 8, 16, 32, 64)}
ROUNDING = 1e-5
POINTS = torch.linspace(0, 1, 11, dtype=torch.float64)


# %% What a net is, modulo symmetry
class Plain(nn.Sequential):
    """A net that predicts numbers, for `canonical`."""

    task = "regression"


class Classifying(nn.Sequential):
    """One that tells classes."""

    task = "classification"


def module(nets: Nets, place: int, real: bool) -> nn.Sequential:
    _, width, inputs = nets.units.shape
    layers = nn.Linear(inputs - 1, width), ACTIVATIONS[nets.activation][1](), nn.Linear(width, nets.heads.shape[2])
    made = (Plain if real else Classifying)(*layers).double()
    with torch.no_grad():
        layers[0].weight.copy_(nets.units[place, :, :-1])
        layers[0].bias.copy_(nets.units[place, :, -1])
        layers[2].weight.copy_(nets.heads[place].T)
        layers[2].bias.copy_(nets.offsets[place])
    return made


Form = tuple[Tensor, Tensor]  # units with what is read of them [h, d + 1 + o], and the last biases [o]


def forms(nets: Nets, task: Task) -> list[Form]:
    """Canonical forms.

    A net whose form `canonical` refuses keeps all its units: some are so nearly alike that they are merged, and not so
    nearly that its answers stay.
    """
    found = []
    for place in range(len(nets.units)):
        net = module(nets, place, task.real)
        try:
            state = canonical(net, task.inputs[:32]).state
        except UsageError:
            state = net.state_dict()
            if nets.activation == "relu":
                size = nets.units[place].norm(dim=1).clamp_min(1e-12)
                state = {
                    "0.weight": state["0.weight"] / size[:, None],
                    "0.bias": state["0.bias"] / size,
                    "2.weight": state["2.weight"] * size,
                    "2.bias": state["2.bias"],
                }
        parts = state["0.weight"], state["0.bias"][:, None], state["2.weight"].T
        found.append((torch.cat(parts, 1), state["2.bias"]))
    return found


def apart(one: Form, other: Form, signed: bool) -> float:
    """The relative distance under the best pairing of units, and their best signs where they may be turned."""
    product = one[0] @ other[0].T
    product = product.abs() if signed else product
    index = assign(product)
    paired = index >= 0
    sizes = [float(units.square().sum() + offsets.square().sum()) for units, offsets in (one, other)]
    met = float(product[paired, index[paired]].sum() + one[1] @ other[1])
    return math.sqrt(max(0.0, sum(sizes) - 2 * met) / math.sqrt(sizes[0] * sizes[1]))


def alike(nets: Nets) -> Nets:
    """ReLU units with their factors divided evenly between both layers; tanh units as they are."""
    if nets.activation != "relu":
        return nets
    sizes = nets.units.norm(dim=2, keepdim=True).clamp_min(1e-12), nets.heads.norm(dim=2, keepdim=True).clamp_min(1e-12)
    factor = (sizes[1] / sizes[0]).sqrt()
    return replace(nets, units=nets.units * factor, heads=nets.heads / factor)


def lined_up(nets: Nets, pairs: list[tuple[int, int]]) -> tuple[Nets, Nets]:
    """The first of each pair, and the second with its units in the order and with the signs of the first."""
    nets = alike(nets)
    first, last = (nets.chosen(torch.tensor(side)) for side in zip(*pairs, strict=True))
    ours, theirs = (torch.cat([each.units, each.heads], 2) for each in (first, last))
    product = ours @ theirs.mT
    index = torch.stack([assign(each.abs() if nets.activation == "tanh" else each) for each in product])
    signs = (
        product.gather(2, index[..., None]).sign() if nets.activation == "tanh" else torch.ones_like(index)[..., None]
    )
    units, heads = (each.gather(1, index[..., None].expand_as(each)) * signs for each in (last.units, last.heads))
    return first, replace(last, units=units, heads=heads)


def barriers(first: Nets, last: Nets, task: Task) -> Tensor:
    """Rise of the loss on each line above its higher end, over that of a constant: ``[pairs]``."""
    ends = first.flat(), last.flat()
    losses = torch.stack([task.losses(first.of(ends[0].lerp(ends[1], t))(task.inputs)) for t in POINTS.tolist()])
    return (losses.amax(0) - torch.maximum(losses[0], losses[-1])).clamp_min(0) / task.constant


# %% Measures of pairs
def measures(nets: Nets, task: Task, pairs: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    """Every measure of every pair."""
    found, flat = forms(nets, task), nets.flat()
    answers = nets(task.fresh)
    answers = answers if task.real else answers - answers.mean(-1, keepdim=True)
    size, spread = flat.norm(dim=1), answers.std((1, 2))
    one, two = (torch.tensor(side) for side in zip(*pairs, strict=True))
    told = {
        "as they are": (flat[one] - flat[two]).norm(dim=1) / (size[one] * size[two]).sqrt(),
        "modulo symmetry": torch.tensor([apart(found[a], found[b], nets.activation == "tanh") for a, b in pairs]),
        "behaviour": (answers[one] - answers[two]).square().mean((1, 2)).sqrt() / (spread[one] * spread[two]).sqrt(),
        "line": barriers(nets.chosen(one), nets.chosen(two), task),
        "line, aligned": barriers(*lined_up(nets, pairs), task),
    }
    return {name: value.numpy() for name, value in told.items()}


def exactly(nets: Nets, pairs: list[tuple[int, int]]) -> np.ndarray:
    """0 where two ReLU nets are one function by their weights, else 1."""
    made = []
    for place in range(len(nets.units)):
        net = MLPRegressor((1, 1, nets.units.shape[2] - 1), 1, width=nets.units.shape[1], depth=1).double()
        state = module(nets, place, real=True).state_dict()
        names = {
            "layers.0.weight": "0.weight",
            "layers.0.bias": "0.bias",
            "head.weight": "2.weight",
            "head.bias": "2.bias",
        }
        plain = {"mean": torch.zeros(1, 1, 1), "std": torch.ones(1, 1, 1)}
        net.load_state_dict({name: state[own] for name, own in names.items()} | plain)
        made.append(net)
    return np.array([0.0 if same_function(made[a], made[b]) else 1.0 for a, b in pairs])


def modes(links: np.ndarray, pairs: list[tuple[int, int]], chosen: list[int]) -> list[int]:
    """Sizes of the components of the chosen nets, largest first."""
    kept = [pair for pair, link in zip(pairs, links, strict=True) if link and pair[0] in chosen and pair[1] in chosen]
    place = {net: at for at, net in enumerate(chosen)}
    rows, columns = ([place[pair[side]] for pair in kept] for side in (0, 1))
    graph = coo_array((np.ones(len(kept)), (rows, columns)), shape=(len(chosen), len(chosen)))
    return sorted(np.bincount(connected_components(graph, directed=False)[1]).tolist(), reverse=True)


# %% One kind of net on one draw of a task
def one_draw(task: Task, activation: str, width: int, generator: torch.Generator) -> dict[str, Any]:
    outputs = 1 if task.real else int(task.targets.max()) + 1
    nets = trained(drawn(SEEDS, width, task.inputs.shape[1], outputs, activation, generator), task)
    losses = task.losses(nets(task.inputs)) / task.constant
    pairs = list(combinations(range(SEEDS), 2))
    seen = measures(nets, task, pairs)
    if task.real and activation == "relu":
        seen["exactly"] = exactly(nets, pairs)
    twins: dict[float, dict[str, np.ndarray]] = {}
    index = torch.arange(TWINS)
    for kick in KICKS:
        pair = [kicked(nets.chosen(index), task, kick, generator).flat() for _ in range(2)]
        both = nets.of(torch.cat(pair))
        twins[kick] = measures(both, task, [(place, place + TWINS) for place in range(TWINS)])
    solved = (losses < (1e-10 if task.real else 1e-2)).nonzero().flatten().tolist()
    return {"seen": seen, "twins": twins, "solved": solved, "losses": losses.tolist(), "pairs": pairs}


def interval(values: list[float]) -> dict[str, float]:
    """Mean over draws of the task, with the 95 % interval of Student's t."""
    mean, half = float(np.mean(values)), 0.0
    if len(values) > 1:
        half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def counted(draws: list[dict[str, Any]], kick: float) -> dict[str, Any]:
    """Modes by each measure, at the threshold that this kick gives, among nets that solved the task and among all."""
    found: dict[str, Any] = {}
    for name in draws[0]["seen"]:
        if name == "exactly":
            threshold = 0.5
        else:
            threshold = max(ROUNDING, float(np.median([draw["twins"][kick][name] for draw in draws])))
        rows: dict[str, list[float]] = {"solved": [], "all": [], "unseen": [], "linked": [], "median": []}
        for draw in draws:
            links = draw["seen"][name] <= threshold
            sizes = {
                "solved": modes(links, draw["pairs"], draw["solved"]),
                "all": modes(links, draw["pairs"], list(range(SEEDS))),
            }
            for group, each in sizes.items():
                rows[group].append(len(each))
            rows["unseen"].append(sizes["all"].count(1) / SEEDS)
            rows["linked"].append(float(links.mean()))
            rows["median"].append(float(np.median(draw["seen"][name])))
        found[name] = {"threshold": threshold, **{key: interval(values) for key, values in rows.items()}}
    return found


def brief(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {name: {"threshold": each["threshold"], "modes": each["solved"]["mean"]} for name, each in found.items()}


# %% All kinds
def checked() -> float:
    """How much shorter `whorl.symmetry.copies.distance`, which searches, ever is than the pairing here."""
    chance = torch.Generator().manual_seed(3)
    worst = 0.0
    for activation in ACTIVATIONS:
        nets = drawn(2, 5, INPUTS, 1, activation, chance)
        task = teacher_task(activation, chance)
        one, two = forms(nets, task)
        made = [canonical(module(nets, place, real=True), task.inputs[:32]) for place in (0, 1)]
        reference = distance(*made, generator=chance).total
        size, other = (math.sqrt(float(each[0].square().sum() + each[1].square().sum())) for each in (one, two))
        worst = max(worst, apart(one, two, activation == "tanh") * math.sqrt(other / size) - reference)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description="How many functions do trained nets make, modulo symmetry?")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/modes.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    document: dict[str, Any] = {"machine": describe_machine("cpu").model_dump(), "seeds": SEEDS, "draws": options.draws}
    document |= {"twins": TWINS, "kicks": KICKS, "teacher": TEACHER, "excess_over_copies": checked(), "cells": []}
    for task_name, activation in (("teacher", "relu"), ("teacher", "tanh"), ("digits", "relu")):
        for width in WIDTHS[task_name]:
            draws = []
            for draw in range(options.draws):
                generator = torch.Generator().manual_seed(1000 * width + draw)
                task = teacher_task(activation, generator) if task_name == "teacher" else digits_task(generator)
                draws.append(one_draw(task, activation, width, generator))
            cell = {"task": task_name, "activation": activation, "width": width}
            cell["share solved"] = interval([len(each["solved"]) / SEEDS for each in draws])
            cell["modes"] = counted(draws, KICK)
            cell["solved, by kick"] = {str(kick): brief(counted(draws, kick)) for kick in KICKS}
            document["cells"].append(cell)
            told = {
                name: (round(each["solved"]["mean"], 1), round(each["all"]["mean"], 1), f"{each['threshold']:.1e}")
                for name, each in cell["modes"].items()
            }
            print(task_name, activation, width, f"{cell['share solved']['mean']:.2f}", told, flush=True)
            write_json(options.output, document)


if __name__ == "__main__":
    main()
