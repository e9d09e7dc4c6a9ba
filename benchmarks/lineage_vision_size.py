"""Do tests of nets without roles keep their error rates? Over 1,000 pairs of strangers of each kind.

    python benchmarks/lineage_vision_size.py --cache CACHE [-o benchmarks/results/lineage-vision-size.json]

46 seeds of one configuration on the same pictures make 1,035 pairs: small convolutional nets after one epoch, and nets
that were trained to the end. Places and ranks of units are exact; two matchings are not, and hold if nets that learned
the same task do not agree by more than is allowed for. Intervals are over seeds, as in `lineage_size.py`. Nets are
built once and kept in CACHE.
"""

from __future__ import annotations

import argparse
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from lineage_size import LEVELS, rate
from scipy.stats import kstest
from torch import Tensor

from whorl.bench.result import describe_machine
from whorl.checkpoints.checkpoint import Checkpoint
from whorl.checkpoints.opening import open_checkpoint
from whorl.detection.exact import bonferroni
from whorl.storage import write_json
from whorl.symmetry.alignment.assignment import assign
from whorl.weights.findings import TESTS, about
from whorl.weights.two_sided import balanced, match_sides
from whorl.weights.unnamed import by_name
from whorl.zoo.cache import Zoo, default_cache
from whorl.zoo.recipe import parse_recipe

FIRST_SEED = 5000
FAMILIES = {
    "VGG, one epoch": "train(vgg(width=8), digits(size=8), epochs=1, learning_rate=0.05, batch=50",
    "perceptron": "train(mlp(width=48,depth=3), digits(size=8), epochs=40, learning_rate=0.05, batch=50",
    "VGG": "train(vgg(width=16), digits(size=8), epochs=12, learning_rate=0.05, batch=50",
    "ResNet": "train(resnet8(width=8), digits(size=8), epochs=30, learning_rate=0.1, batch=50",
    "ResNet, textures": "train(resnet8(width=16), textures(images=4000,noise=0.1), epochs=10, learning_rate=0.2",
}
SHARED = [*((f"blocks.{block}.conv1", f"blocks.{block}.conv2") for block in range(3)), ("blocks.2.conv2", "head")]


def told(test: str, pairs: dict[tuple[int, int], float], seeds: int) -> dict[str, Any]:
    values = list(pairs.values())
    return {
        "exact": test in TESTS and about(test).exact,
        "pairs": len(values),
        **{f"at {level}": rate(pairs, level, seeds) for level in LEVELS},
        "smallest": min(values),
        "ks_p": float(kstest(values, "uniform", alternative="greater").pvalue),
    }


def agreed(nets: list[Checkpoint]) -> dict[str, float]:
    """Mean units, over pairs of strangers, on which two tensors that share them agree: chance is 1.

    The head is matched by its columns, its classes held; that is why heads are left out.
    """
    found: dict[str, list[int]] = {f"{writer} to {reader}": [] for writer, reader in SHARED}
    for one, two in combinations(nets, 2):
        chance = torch.Generator().manual_seed(0)
        for writer, reader in SHARED:
            ours, theirs = ([seen(net, f"{name}.weight") for net in (one, two)] for name in (writer, reader))
            rows = match_sides(*ours, generator=chance).rows
            if reader == "head":
                heads = [balanced(each).transpose(0, 1).flatten(1) for each in theirs]
                columns = assign(heads[0] @ heads[1].T)
            else:
                columns = match_sides(*theirs, generator=chance).columns
            found[f"{writer} to {reader}"].append(int((rows == columns).sum()))
    return {name: sum(counts) / len(counts) for name, counts in found.items()}


def seen(net: Checkpoint, name: str) -> Tensor:
    value = net.read(name)
    return value.reshape(*value.shape[:2], -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--seeds", type=int, default=46)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineage-vision-size.json"))
    options = parser.parse_args()
    zoo = Zoo(options.cache)
    document: dict[str, Any] = {"machine": describe_machine("cpu").model_dump()}
    document |= {"seeds": options.seeds, "first_seed": FIRST_SEED}
    for family, text in FAMILIES.items():
        recipes = [parse_recipe(f"{text}, seed={FIRST_SEED + seed})") for seed in range(options.seeds)]
        zoo.build(recipes, workers=1)
        nets = [open_checkpoint(zoo.path(recipe)) for recipe in recipes]
        tests: dict[str, dict[tuple[int, int], float]] = {}
        for one, two in combinations(range(options.seeds), 2):
            found = by_name(nets[one], nets[two]).findings
            for each in found:
                tests.setdefault(each.test, {})[one, two] = math.exp(each.log_p)
            whole = bonferroni([each.log_p for each in found if each.decides])
            tests.setdefault("whole", {})[one, two] = math.exp(whole)
        if family == "ResNet, textures":
            document["agreements"] = agreed(nets[: options.seeds // 2])
            print(document["agreements"], flush=True)
        accuracy = [zoo.card(recipe).accuracy for recipe in recipes]
        document[family] = {"recipe": text, "accuracy": sum(accuracy) / len(accuracy)}
        document[family]["tests"] = {name: told(name, pairs, options.seeds) for name, pairs in tests.items()}
        for name, figures in document[family]["tests"].items():
            print(family, name, figures, flush=True)
        write_json(options.output, document)


if __name__ == "__main__":
    main()
