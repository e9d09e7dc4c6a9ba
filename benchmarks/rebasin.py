"""What alignment does to the barrier between independently trained nets, and how long it takes.

    python benchmarks/rebasin.py --cache CACHE -o benchmarks/results/rebasin.json

Residual nets (ResNet-8) of several widths learn textures by the zoo's recipe, three seeds each; models are built if
need be. For each pair of seeds the barrier of the straight line, on test pictures and with the statistics of batch
norms taken anew at every point: as trained, after weight matching, after activation matching, after weight matching
from there, and after each with REPAIR. A net without norms, of digits, is beside them, since taking statistics anew
does REPAIR's work where there are norms. One thread.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.nets.files import read_model
from whorl.nets.training import accuracy
from whorl.storage import write_json
from whorl.symmetry.alignment.activation_matching import match_activations
from whorl.symmetry.alignment.matching import UnitMatching, match_weights
from whorl.symmetry.alignment.paths import barrier
from whorl.symmetry.alignment.permutations import permute
from whorl.symmetry.alignment.repair import Repair
from whorl.symmetry.alignment.tracing import permutation_spec
from whorl.zoo.cache import Zoo, default_cache
from whorl.zoo.recipe import parse_recipe

NETS = (
    *((f"resnet8(width={width})", "textures(size=16)") for width in (16, 32, 64, 128)),
    *((f"mlp(width={width}, depth=3)", "digits") for width in (64, 512)),
)
SEEDS = 3
POINTS = 5
PICTURES = 500
GOAL = 0.5


def rows_of(zoo: Zoo, architecture: str, data: str) -> Iterator[dict[str, Any]]:
    """One row for each pair of seeds."""
    recipes = [parse_recipe(f"train({architecture}, {data}, seed={seed})") for seed in range(SEEDS)]
    zoo.build(recipes)
    nets = [read_model(zoo.path(recipe))[0] for recipe in recipes]
    for pair in itertools.combinations(range(SEEDS), 2):
        yield {"net": architecture, "data": data, "seeds": pair, **measured(nets[pair[0]], nets[pair[1]], data)}


def measured(first: nn.Module, second: nn.Module, data: str) -> dict[str, Any]:
    """Barriers of a pair by each way of aligning it."""
    test, seen = (SOURCES.make(data).load(part) for part in ("test", "victim"))
    test, seen = test.subset(torch.arange(min(PICTURES, len(test)))), seen.inputs(slice(0, PICTURES))
    spec = permutation_spec(first)
    one, other = ({k: v.contiguous() for k, v in net.state_dict().items()} for net in (first, second))
    generator = torch.Generator().manual_seed(0)

    def barriers(name: str, state: dict[str, torch.Tensor]) -> dict[str, float]:
        ways = {name: None, f"{name}_repaired": Repair(first, one, state, seen)}
        found = {
            way: barrier(first, one, state, test, points=POINTS, statistics=seen, at=at) for way, at in ways.items()
        }
        return {way: round(each.loss_barrier, 4) for way, each in found.items()} | {
            f"{way}_accuracy": round(each.accuracy_barrier, 4) for way, each in found.items()
        }

    by_weights, weight_seconds = timed(lambda: match_weights(one, other, spec, generator=generator))
    by_answers, answer_seconds = timed(lambda: match_activations(first, second, spec, seen))
    both = match_weights(one, other, spec, generator=generator, start=by_answers.permutations, restarts=1)
    found = {
        "accuracies": [round(accuracy(net, test), 4) for net in (first, second)],
        "weight_matching_seconds": round(weight_seconds, 2),
        "activation_matching_seconds": round(answer_seconds, 2),
        "weight_objectives": {
            "unaligned": round(inner_product(one, other, spec.learned), 2),
            "restarts": [round(each, 2) for each in by_weights.objectives],
            "activations": round(both.history[0], 2),
            "from_activations": round(both.objective, 2),
        },
        "loss_barrier": barriers("unaligned", other),
    }
    for name, matching in (("weights", by_weights), ("activations", by_answers), ("weights_from_activations", both)):
        found["loss_barrier"] |= barriers(name, permute(other, spec, matching.permutations))
    return found


def inner_product(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], learned: frozenset[str]) -> float:
    return sum(float((one[tensor].double() * other[tensor].double()).sum()) for tensor in learned)


def timed(work: Callable[[], UnitMatching]) -> tuple[UnitMatching, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean over pairs for each net, and the share of the barrier that alignment takes away."""
    found: list[dict[str, Any]] = []
    for architecture, group in itertools.groupby(rows, key=lambda row: row["net"]):
        pairs = list(group)
        means = {
            key: round(sum(pair["loss_barrier"][key] for pair in pairs) / len(pairs), 4)
            for key in pairs[0]["loss_barrier"]
        }
        ways = ("weights", "weights_repaired", "activations", "weights_from_activations")
        falls = {way: round(1 - means[way] / means["unaligned"], 3) for way in ways}
        seconds = sum(pair["weight_matching_seconds"] for pair in pairs) / len(pairs)
        found.append(
            {
                "net": architecture,
                "pairs": len(pairs),
                "barriers": means,
                "falls_by": falls,
                "weight_matching_seconds": round(seconds, 2),
                "halved_by_weight_matching": falls["weights"] >= GOAL,
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "rebasin.json")
    parser.add_argument("--cache", type=Path, default=default_cache())
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    zoo, rows = Zoo(arguments.cache), []
    for architecture, data in NETS:
        for row in rows_of(zoo, architecture, data):
            rows.append(row)
            print(row, flush=True)
    document = {
        "what": "barriers between nets of different seeds, before and after alignment; seconds are of five restarts",
        "machine": describe_machine("cpu").model_dump(),
        "threads": 1,
        "points": POINTS,
        "pictures": PICTURES,
        "summary": summary(rows),
        "rows": rows,
    }
    write_json(arguments.output, document)


if __name__ == "__main__":
    main()
