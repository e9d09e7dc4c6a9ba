"""Does a logistic model over weights of many nets, clean and trojaned, tell others better than one number does?

    python benchmarks/trojans_fitted.py -o benchmarks/results/trojans-fitted.json

The entrants of TrojAI fit a classifier to features of nets whose state is known. Here 60 clean perceptrons and 20 of
each of four attacks are fitted by logistic regression, and as many of other seeds are held out. Features are read from
the canonical form, as `weights_only` does: of each class the length, the largest weight, the sum of the positive ones
and the largest cosine of its row of the head, of each layer the singular values, of each hidden unit the sum of what
comes in and the length of what goes out; of each group the logarithms of largest and smallest by the median.

`one number` is the log ratio of `weights_only`. `fitted` knows all attacks; `unseen` knows all but the one that it is
measured on, which is what an inspector who does not know the attack has. Both ways to train are measured, pictures as
they are and moved by up to a pixel.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from trojans import PLAIN, SCALES, Scale

from whorl.bench.result import describe_machine
from whorl.inspection import INSPECTIONS
from whorl.metrics import auc, auc_interval
from whorl.oracles.torch import TorchOracle
from whorl.storage import write_json
from whorl.symmetry.canonical import canonical

CLEAN, EACH = 60, 20
ATTACKS = {
    "badnets": "badnets, patch=2",
    "blended": "blended",
    "warped": "warped, cover=1",
    "large patch": "badnets, patch=6",
}
FITTED, HELD_OUT = 10_000, 20_000  # first seeds


def features(net: TorchOracle) -> list[float]:
    """What the model is fitted to."""
    form = canonical(net.net).net
    layers = [each.weight.detach() for each in form.modules() if isinstance(each, nn.Linear)]
    head = layers[-1]
    rows = nn.functional.normalize(head, dim=1)
    groups = [
        head.norm(dim=1),
        head.amax(1),
        head.clamp_min(0).sum(1),
        2 + (rows @ rows.mT - 2 * torch.eye(len(rows)).to(rows)).amax(1),
        *(torch.linalg.svdvals(each) for each in layers),
        *(each.abs().sum(1) for each in layers[:-1]),
        *(each.norm(dim=0) for each in layers[1:]),
    ]
    ends = [(each.max(), each.median(), each.min().clamp_min(1e-6)) for each in groups]
    return [float(value.log()) for most, median, least in ends for value in (most / median, median / least)]


def nets(scale: Scale, first: int) -> dict[str, list[TorchOracle]]:
    """Clean nets, and trojaned ones by attack, from that seed on."""
    made = {"clean": [scale.trained(scale.data, first + each) for each in range(CLEAN)]}
    for number, (attack, how) in enumerate(ATTACKS.items()):
        seeds = [first + 1000 * (number + 1) + each for each in range(EACH)]
        sources = [(PLAIN % how).format(data=scale.data, target=seed % 10, seed=seed) for seed in seeds]
        made[attack] = [scale.trained(source, seed) for source, seed in zip(sources, seeds, strict=True)]
    return made


def fitted(known: dict[str, np.ndarray], attacks: list[str]) -> Pipeline:
    """A logistic model of clean nets against those attacks."""
    groups = [known["clean"], *(known[each] for each in attacks)]
    states = np.concatenate([np.full(len(each), number > 0) for number, each in enumerate(groups)])
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    return model.fit(np.concatenate(groups), states)


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
        seen = {name: np.array([features(net) for net in each]) for name, each in known.items()}
        asked_of = {name: np.array([features(net) for net in each]) for name, each in others.items()}
        single = {name: np.array([index(net, scale.test).log_ratio for net in each]) for name, each in others.items()}
        whole, rows = fitted(seen, list(ATTACKS)), {}
        for attack in ATTACKS:
            unseen = fitted(seen, [each for each in ATTACKS if each != attack])
            rows[attack] = {
                "one number": area(single[attack], single["clean"]),
                "fitted": area(*(whole.decision_function(asked_of[each]) for each in (attack, "clean"))),
                "unseen": area(*(unseen.decision_function(asked_of[each]) for each in (attack, "clean"))),
            }
        document["ways"][way] = rows
        document["seconds"] = round(time.perf_counter() - started)
        print(way, rows, flush=True)
        write_json(asked.output, document | {"machine": describe_machine("cpu").model_dump()})


if __name__ == "__main__":
    main()
