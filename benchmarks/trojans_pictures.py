"""Which pictures of a poisoned training set do the sieves name: how many of the marked ones, how many of the others?

    python benchmarks/trojans_pictures.py -o benchmarks/results/trojans-pictures.json

Perceptrons with 64 hidden units on digits at 8 pixels and ResNet-8 of width 8 on textures at 16 pixels, some victims of
each attack. ``few`` attacks mark one picture in fifty of the whole set, so that about one in six of the target class
is marked; the others one in ten, about half of the class. Sieves have their default settings. `layer_ranks` has the
parts queries+test as its clean pictures. `class_first` says whether the target is the class with the largest number.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from trojans import SCALES, Scale

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.data.poisoned import stamped
from whorl.inspection import SIEVES
from whorl.metrics import clopper_pearson
from whorl.oracles.torch import TorchOracle
from whorl.storage import write_json

ATTACKS = {
    "tiny": {
        "few badnets": "badnets, patch=2, rate=0.02",
        "few blended": "blended, rate=0.02",
        "badnets": "badnets, patch=2",
        "blended": "blended",
        "clean label": "clean_label, rate=0.8, patch=2, opacity=0.4",
    },
    "small": {
        "few badnets": "badnets, rate=0.02",
        "badnets": "badnets",
    },
}
VICTIMS = {"tiny": 6, "small": 3}


def sifted(net: TorchOracle, source: str, scale: Scale, name: str) -> dict[str, Any]:
    """How many marked and other pictures of the training set are named."""
    poisoned = SOURCES.make(source)
    data, marked = poisoned.load("victim"), set(poisoned.poisoning.places.tolist())  # pyright: ignore
    sieve = SIEVES.make(name)
    found = sieve(net, data, scale.test if sieve.clean else None)
    named, told = set(found.named), {"seconds": found.seconds}
    if found.classes is not None:
        told["class_first"] = int(np.argmax(found.classes)) == poisoned.target  # pyright: ignore
    return told | {
        "marked": [len(named & marked), len(marked)],
        "others": [len(named - marked), len(data) - len(marked)],
    }


def pooled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares over all victims, and the least and the largest of one; pictures of one victim are not independent."""
    told: dict[str, Any] = {}
    for group in ("marked", "others"):
        shares = [row[group][0] / row[group][1] for row in rows]
        told[group] = {"mean": float(np.mean(shares)), "least": min(shares), "most": max(shares)}
    if "class_first" in rows[0]:
        hits = sum(row["class_first"] for row in rows)
        ends = clopper_pearson(hits, len(rows))
        told["class_first"] = {"hits": hits, "count": len(rows), "interval": [ends.low, ends.high]}
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    document: dict[str, Any] = {"scales": {}}
    for size, attacks in ATTACKS.items():
        scale = SCALES[size]
        rows = document["scales"][size] = {"data": scale.data, "net": scale.net, "attacks": {}}
        for number, (attack, how) in enumerate(attacks.items()):
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in SIEVES}
            success: list[float] = []
            for each in range(VICTIMS[size]):
                target = each % len(scale.test.classes)
                source = f"poisoned({scale.data}, {how}, target={target}, seed={20 + each})"
                net = scale.trained(source, 7000 + 100 * number + each)
                others = scale.test.inputs(scale.test.labels != target)
                success.append(float((net.labels(stamped(source, others)) == target).float().mean()))
                for name, told in found.items():
                    told.append(sifted(net, source, scale, name))
            rows["attacks"][attack] = {
                "attack": how,
                "success": success,
                "sieves": {name: pooled(told) | {"victims": told} for name, told in found.items()},
            }
            print(size, attack, success, {name: pooled(told) for name, told in found.items()}, flush=True)
            document["seconds"] = round(time.perf_counter() - started)
            write_json(asked.output, document | {"machine": describe_machine("cpu").model_dump()})


if __name__ == "__main__":
    main()
