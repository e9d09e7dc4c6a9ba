"""Does a logistic model over weights of many nets, clean and trojaned, tell others better than one number does?

    python benchmarks/trojans_fitted.py -o benchmarks/results/trojans-fitted.json

The entrants of TrojAI fit a classifier to features of nets whose state is known. Here 60 clean perceptrons and 20 of
each of four attacks are fitted (`whorl.inspection.fitted`), and as many of other seeds are held out.

`one number` is the log ratio of `weights_only`. `fitted` knows all attacks; `unseen` knows all but the one that it is
measured on, which is what an inspector who does not know the attack has. Both ways to train are measured, pictures as
they are and moved by up to a pixel.

`wrong labels` are 20 held-out nets without any trigger, of whose training pictures one in ten had another label: what
the model says of them tells whether it has learned trojans or wrong labels. `single class` are 20 such nets whose wrong
labels are all of one class, as those of a trojan are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from trojans import PLAIN, SCALES, Scale

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.inspection import INSPECTIONS
from whorl.inspection.fitted import fit, weight_features
from whorl.metrics import auc, auc_interval
from whorl.oracles.torch import TorchOracle
from whorl.storage import write_json

CLEAN, EACH = 60, 20
ATTACKS = {
    "badnets": "badnets, patch=2",
    "blended": "blended",
    "warped": "warped, cover=1",
    "large patch": "badnets, patch=6",
}
FITTED, HELD_OUT = 10_000, 20_000  # first seeds


def mislabelled(scale: Scale, seed: int, target: int | None) -> TorchOracle:
    """A net without a trigger; one label in ten is drawn anew, or is ``target``."""
    data, chance = SOURCES.make(scale.data).load("victim"), torch.Generator().manual_seed(seed)
    labels, classes = data.labels.clone(), len(data.classes)
    chosen = torch.randperm(len(data), generator=chance)[: len(data) // 10]
    moved = (labels[chosen] + torch.randint(1, classes, (len(chosen),), generator=chance)) % classes
    labels[chosen] = moved if target is None else target
    return scale.trained(replace(data, labels=labels), seed)


def nets(scale: Scale, first: int) -> dict[str, list[TorchOracle]]:
    """Clean nets, and trojaned ones by attack, from that seed on."""
    made = {"clean": [scale.trained(scale.data, first + each) for each in range(CLEAN)]}
    for number, (attack, how) in enumerate(ATTACKS.items()):
        seeds = [first + 1000 * (number + 1) + each for each in range(EACH)]
        sources = [(PLAIN % how).format(data=scale.data, target=seed % 10, seed=seed) for seed in seeds]
        made[attack] = [scale.trained(source, seed) for source, seed in zip(sources, seeds, strict=True)]
    return made


def fitted(known: dict[str, Tensor], attacks: list[str]) -> Callable[[Tensor], np.ndarray]:
    """A logistic model of clean nets against those attacks."""
    return fit(known["clean"], torch.cat([known[each] for each in attacks]))


def area(trojaned: np.ndarray, clean: np.ndarray) -> dict[str, Any]:
    ends = auc_interval(trojaned, clean)
    return {"auc": auc(trojaned, clean), "interval": [ends.low, ends.high]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started, index = time.perf_counter(), INSPECTIONS.make("weights_only")
    document: dict[str, Any] = {"clean": CLEAN, "each": EACH, "attacks": ATTACKS, "ways": {}}
    for way, shift in (("as they are", 0), ("moved", 1)):
        scale = SCALES["tiny"]
        scale = replace(scale, training=replace(scale.training, shift=shift))
        known, others = nets(scale, FITTED), nets(scale, HELD_OUT)
        seen = {name: torch.stack([weight_features(net) for net in each]) for name, each in known.items()}
        asked_of = {name: torch.stack([weight_features(net) for net in each]) for name, each in others.items()}
        single = {name: np.array([index(net, scale.test).log_ratio for net in each]) for name, each in others.items()}
        whole, rows = fitted(seen, list(ATTACKS)), {}
        for attack in ATTACKS:
            unseen = fitted(seen, [each for each in ATTACKS if each != attack])
            rows[attack] = {
                "one number": area(single[attack], single["clean"]),
                "fitted": area(*(whole(asked_of[each]) for each in (attack, "clean"))),
                "unseen": area(*(unseen(asked_of[each]) for each in (attack, "clean"))),
            }
        for number, control in enumerate(("wrong labels", "single class")):
            made = [
                mislabelled(scale, HELD_OUT + 7000 + 100 * number + each, each % 10 if number else None)
                for each in range(EACH)
            ]
            odds = whole(torch.stack([weight_features(net) for net in made]))
            numbers = np.array([index(net, scale.test).log_ratio for net in made])
            rows[control] = {
                "one number": area(numbers, single["clean"]),
                "fitted": area(odds, whole(asked_of["clean"])),
            }
        document["ways"][way] = rows
        document["seconds"] = round(time.perf_counter() - started)
        print(way, rows, flush=True)
        write_json(asked.output, document | {"machine": describe_machine("cpu").model_dump()})


if __name__ == "__main__":
    main()
