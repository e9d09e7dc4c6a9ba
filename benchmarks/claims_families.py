"""Which family of made queries tells a copy before a judge: the choice on some owners, its test on others.

The rows of honest owners of `benchmarks/claims.py` (small perceptrons on digits; strangers of three recipes; copies
that were tuned, pruned, quantised), with each of several schemes in the place of igsm beside akh. The judge, its 24
models of each of three kinds and the rule (the largest p over kinds and over both families, alpha .05) are those of
that script. ``choice`` are owners who serve nowhere else; ``test`` are the ten owners of `benchmarks/claims.py`.

Run: python benchmarks/claims_families.py [-o benchmarks/results/claims-families.json]
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import torch
from claims import ALPHA, COPIES, FIRST, MODELS, OPENED, RECIPES, SUSPECTS, Parts, kinds_of, oracles, shares
from false_accusations import train_stack

from whorl.bench.result import describe_machine
from whorl.claims.judging import examine
from whorl.data import SOURCES
from whorl.detection.judgment import Kind, ranked
from whorl.removals import REMOVALS
from whorl.removals.base import opened
from whorl.schemes import SCHEMES
from whorl.storage import write_json

MADE = ("igsm", "multipoint", "ipguard", "deepfool", "cw-l2", "afa")
OWNERS = {"choice": range(FIRST + 1000, FIRST + 1006), "test": range(FIRST, FIRST + 10)}

Told = dict[str, list[dict[str, bool]]]


def one_owner(seed: int, parts: Parts) -> Told:
    """By row, for each suspect, whether akh and a made family call it derived."""
    chance = torch.Generator().manual_seed(seed)
    data, pictures = parts["victim"], parts["test"]
    own = oracles(train_stack(1, data, chance), data, "victim")[0]
    families = {
        name: SCHEMES.make(name).extract(own, parts[SCHEMES.make(name).part], budget=OPENED, seed=seed)
        for name in ("akh", *MADE)
    }
    suspects = {
        "strangers": [
            each
            for recipe, count in SUSPECTS.items()
            for each in oracles(train_stack(count, data, chance, RECIPES[recipe]), data, recipe)
        ]
    }
    for removal, count in COPIES.items():
        made = [
            REMOVALS.make(removal)(own, parts["attacker"], generator=torch.Generator().manual_seed(seed + number))
            for number in range(count)
        ]
        suspects[removal] = [opened(each, own, name=removal) for each in made]
    kinds = kinds_of(families, parts, pictures, chance)
    told: Told = defaultdict(list)
    for row, models in suspects.items():
        for model in models:
            accuracy, matches = examine(families, model, pictures)
            told[row].append({name: derived({"akh", name}, matches, accuracy, kinds) for name in MADE})
    return told


def derived(names: set[str], matches: dict[str, float], accuracy: float, kinds: dict[str, Kind]) -> bool:
    """The judge's rule over these families alone."""
    held = {
        kind: Kind(of.accuracies, {name: of.similarities[name] for name in sorted(names)}) for kind, of in kinds.items()
    }
    return ranked({name: matches[name] for name in sorted(names)}, accuracy, held).refuted(ALPHA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/claims-families.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = SOURCES.make("digits(size=8)")
    parts = {part: source.load(part) for part in ("victim", "attacker", "calibration", "queries", "test")}
    started, found = time.process_time(), {}
    for which, seeds in OWNERS.items():
        told = []
        for seed in seeds:
            told.append(one_owner(seed, parts))
            print(which, seed, flush=True)
        rows = ("strangers", *COPIES)
        found[which] = {
            name: {row: shares([[each[name] for each in one[row]] for one in told]) for row in rows} for name in MADE
        }
        for name, of in found[which].items():
            print(which, name, {row: each["rate"] for row, each in of.items()}, flush=True)
    document = {
        "alpha": ALPHA,
        "models of each kind": MODELS,
        "opened": OPENED,
        "owners": {which: len(seeds) for which, seeds in OWNERS.items()},
        "made family beside akh": found,
        "seconds": round(time.process_time() - started, 1),
        "machine": describe_machine("cpu").model_dump(),
    }
    write_json(options.output, document)


if __name__ == "__main__":
    main()
