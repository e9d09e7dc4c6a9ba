"""What do opened queries give away? Removal, framing and extraction with 0, 30 and 100 openings, by family.

Three owners (small ResNets on textures). A claim holds 200 queries of each family; some of the first 100 are opened,
and matches are taken on the other 100, and on those of the other families.

- *remove*: the thief fine-tunes the copy on his own pictures and on what was opened, with other labels than the
  victim's;
- *frame*: somebody fits an innocent net (trained without the victim) to what was opened, with the victim's labels;
- *extract*: a thief has 60 labels of ordinary pictures and what was opened; beside him one who has as many more labels
  of ordinary pictures instead. Fidelity is agreement with the victim on held-out pictures.

Run: python benchmarks/openings.py --cache CACHE [-o benchmarks/results/openings.json]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor, nn

from whorl.bench.result import describe_machine
from whorl.data import Dataset
from whorl.nets.training import Schedule, build, fit
from whorl.oracles.torch import TorchOracle
from whorl.schemes import SCHEMES
from whorl.storage import write_json
from whorl.types import Fingerprint
from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

NET = "resnet8(width=8)"
RECIPE = f"train({NET}, textures(size=16, images=2000, noise=0.1), epochs=8)"
FAMILIES = {"akh": "akh", "igsm": "igsm", "multipoint": "multipoint"}
SIZE, HALF, KNOWN = 200, 100, 60
OPENED = (0, 30, 100)
OWNERS, OTHERS = range(600, 603), range(700, 703)
TUNING = Schedule(epochs=4, learning_rate=0.02, batch=50)
FITTING = Schedule(epochs=8, learning_rate=0.05, batch=50)
STEALING = Schedule(epochs=60, learning_rate=0.05, batch=20)


def with_points(data: Dataset, inputs: Tensor, labels: Tensor) -> Dataset:
    """The pictures with some more, three times each, as of one source."""
    if not len(inputs):
        return data
    more = Dataset(inputs.repeat(3, 1, 1, 1), labels.repeat(3), data.classes)
    return Dataset(torch.cat([data.inputs(), more.inputs()]), torch.cat([data.labels, more.labels]), data.classes)


def matches(net: nn.Module, families: dict[str, Fingerprint]) -> dict[str, float]:
    """Agreement with the victim on the half of each family that is never opened."""
    with torch.no_grad():
        return {
            name: float((net(made.queries.inputs[HALF:]).argmax(1) == made.reference.values[HALF:]).double().mean())
            for name, made in families.items()
        }


def trained(net: nn.Module, data: Dataset, schedule: Schedule, seed: int) -> nn.Module:
    """A copy of the net, trained."""
    made = copy.deepcopy(net)
    fit(made, data, schedule, generator=torch.Generator().manual_seed(seed))
    return made


def one_owner(owner: int, other: int, zoo: Zoo) -> dict[str, dict[str, float]]:
    """Every row of one owner."""
    source = parse_recipe(RECIPE).source
    recipes = [parse_recipe(RECIPE).with_seed(seed) for seed in (owner, other)]
    zoo.build(recipes, workers=1)
    victim, stranger = (zoo.oracle(each) for each in recipes)
    assert isinstance(victim, TorchOracle)
    assert isinstance(stranger, TorchOracle)
    schemes = {name: SCHEMES.make(text) for name, text in FAMILIES.items()}
    families = {
        name: each.extract(victim, source.load(each.part), budget=SIZE, seed=owner) for name, each in schemes.items()
    }
    attacker, held_out = source.load("attacker"), source.load("test")
    chance = torch.Generator().manual_seed(owner)
    rows: dict[str, dict[str, float]] = {"strangers": matches(stranger.module, families)}
    classes = len(attacker.classes)
    ordinary = attacker.subset(torch.randperm(len(attacker), generator=chance)[: KNOWN + HALF])
    asked = victim.labels(ordinary.inputs())
    for name, made in families.items():
        for count in OPENED:
            inputs, labels = made.queries.inputs[:count], made.reference.values[:count]
            wrong = (labels + torch.randint(1, classes, labels.shape, generator=chance)) % classes
            key = f"{name}, {count} opened"
            rows[f"remove: {key}"] = matches(
                trained(victim.module, with_points(attacker, inputs, wrong), TUNING, owner), families
            )
            rows[f"frame: {key}"] = matches(
                trained(stranger.module, with_points(attacker, inputs, labels), FITTING, owner), families
            )
            with_opened = Dataset(
                torch.cat([ordinary.inputs()[:KNOWN], inputs]), torch.cat([asked[:KNOWN], labels]), attacker.classes
            )
            with_more = Dataset(ordinary.inputs()[: KNOWN + count], asked[: KNOWN + count], attacker.classes)
            fresh = build(NET, attacker.input_shape, classes, torch.Generator().manual_seed(owner))
            truth = victim.labels(held_out.inputs())
            for thief, data in (("opened", with_opened), ("ordinary", with_more)):
                made_so = trained(fresh, data, STEALING, owner)
                with torch.no_grad():
                    fidelity = float((made_so(held_out.inputs()).argmax(1) == truth).double().mean())
                rows.setdefault(f"extract: {key}", {})[thief] = fidelity
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="a folder for the nets")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/openings.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    zoo, started = Zoo(options.cache), time.process_time()
    gathered: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for owner, other in zip(OWNERS, OTHERS, strict=True):
        for row, values in one_owner(owner, other, zoo).items():
            for column, value in values.items():
                gathered[row][column].append(round(value, 4))
        print(owner, flush=True)
    rows = {row: {column: list(values) for column, values in of.items()} for row, of in gathered.items()}
    for row, of in rows.items():
        print(row, {column: round(sum(values) / len(values), 3) for column, values in of.items()})
    document = {
        "recipe": RECIPE,
        "owners": len(OWNERS),
        "rows": rows,
        "seconds": round(time.process_time() - started, 1),
        "machine": describe_machine("cpu").model_dump(),
    }
    write_json(options.output, document)


if __name__ == "__main__":
    main()
