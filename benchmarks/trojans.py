"""Are trojaned nets told from clean ones, by the rank among clean nets and by the papers' own rules?

    python benchmarks/trojans.py -o benchmarks/results/trojans-tiny.json

Perceptrons with 64 hidden units on digits at 8 pixels, each trained from a seed of its own: 19 clean nets that are the
null, 40 others that are clean, 12 trojaned by a patch of 2 x 2 pixels and 8 by each attack that Neural Cleanse is said
not to find. Targets go around the classes. Every statistic has its default settings, which were looked at on other
nets: clean ones of the seeds 5000 to 5007 and patched ones of the seeds 5500 to 5507, which take no part here.

`ranked` are called trojaned by p <= .05 among the 19 clean nets, `mad` by the index above 2 and `gamma` by p <= .05.
`divided` is the rate of false alarms over 200 random divisions of all clean nets into 19 and the rest.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.data.poisoned import stamped
from whorl.detection.population import rank_p_value
from whorl.detection.trojans import MAD_BOUND, gamma_p_value, mad_index
from whorl.errors import AccessRefused
from whorl.inspection import INSPECTIONS, Inspection
from whorl.metrics import Interval, auc, auc_interval, clopper_pearson
from whorl.nets.training import Schedule, accuracy, build, fit
from whorl.oracles.keyed import KeyedSwitch
from whorl.oracles.torch import TorchOracle
from whorl.storage import write_json

DATA, NET = "digits(size=8)", "mlp(width=64)"
TRAINING = Schedule(epochs=20, learning_rate=0.1, policy="one-cycle", batch=50, shift=0)
STATISTICS = ("neural_cleanse", "max_margin", "weights_only")
ATTACKS = {
    "badnets": (12, "badnets", ", patch=2"),
    "blended": (8, "blended", ""),
    "warped": (8, "warped", ", cover=1"),
    "clean label": (8, "clean_label", ", rate=0.8, patch=2, opacity=0.4"),
}
NULL, CLEAN, DIVISIONS, ALPHA = 19, 40, 200, 0.05
TEST = SOURCES.make(DATA).load("queries+test")


def trained(source: str, seed: int) -> TorchOracle:
    data, chance = SOURCES.make(source).load("victim"), torch.Generator().manual_seed(seed)
    net = build(NET, data.input_shape, len(data.classes), chance)
    fit(net, data, TRAINING, generator=chance)
    return TorchOracle(net.eval(), input_shape=data.input_shape, classes=len(data.classes), name=f"{source}, {seed}")


def poisoned_nets(attack: str, number: int) -> tuple[list[TorchOracle], list[float]]:
    """The nets, and the share of pictures of other classes that each one's own trigger moves into its target."""
    count, name, settings = ATTACKS[attack]
    nets: list[TorchOracle] = []
    successes: list[float] = []
    for each in range(count):
        target = each % len(TEST.classes)
        source = f"poisoned({DATA}, {name}{settings}, target={target}, seed={each})"
        nets.append(trained(source, 3000 + 100 * number + each))
        others = TEST.inputs(TEST.labels != target)
        successes.append(float((nets[-1].labels(stamped(source, others)) == target).float().mean()))
    return nets, successes


def rated(hits: list[bool]) -> dict[str, Any]:
    return {"hits": sum(hits), "count": len(hits), "interval": _ends(clopper_pearson(sum(hits), len(hits)))}


def _ends(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def flagged(found: list[Inspection], null: list[float]) -> dict[str, Any]:
    rules = {
        "ranked": [rank_p_value(each.log_ratio, null) <= ALPHA for each in found],
        "mad": [mad_index(each.scores, each.worse) > MAD_BOUND for each in found],
    }
    if found[0].worse == "large":
        rules["gamma"] = [gamma_p_value(each.scores) <= ALPHA for each in found]
    return {rule: rated(hits) for rule, hits in rules.items()}


def against(found: list[Inspection], clean: list[Inspection], null: list[float]) -> dict[str, Any]:
    numbers = {
        "log_ratio": [[each.log_ratio for each in group] for group in (found, clean)],
        "mad": [[mad_index(each.scores, each.worse) for each in group] for group in (found, clean)],
    }
    areas = {name: {"auc": auc(*pair), "interval": _ends(auc_interval(*pair))} for name, pair in numbers.items()}
    targets = [number % len(TEST.classes) for number in range(len(found))]
    right = [each.culprit == target for each, target in zip(found, targets, strict=True)]
    return {"areas": areas, "flagged": flagged(found, null), "culprit": rated(right)}


def divided(ratios: list[float]) -> float:
    """Mean rate of false alarms when the null is drawn anew; p <= .05 among 19 is to be above all of them."""
    chance, alarms = np.random.default_rng(0), []
    for _ in range(DIVISIONS):
        order = chance.permutation(ratios)
        alarms.append(float((order[NULL:] > order[:NULL].max()).mean()))
    return float(np.mean(alarms))


def keyed(net: TorchOracle, other: TorchOracle) -> dict[str, Any]:
    """Whether each statistic takes a net behind a keyed switch, which is no net that it could read."""
    switch = KeyedSwitch(net, other, b"k" * 32, bits=32)
    refused: dict[str, str] = {}
    for name in STATISTICS:
        try:
            INSPECTIONS.make(name)(switch, TEST)
        except AccessRefused as error:
            refused[name] = str(error)
    return refused


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    null = [trained(DATA, 1000 + each) for each in range(NULL)]
    clean = [trained(DATA, 2000 + each) for each in range(CLEAN)]
    attacked = {attack: poisoned_nets(attack, number) for number, attack in enumerate(ATTACKS)}
    document: dict[str, Any] = {
        "data": DATA,
        "net": NET,
        "null": NULL,
        "clean": CLEAN,
        "alpha": ALPHA,
        "accuracy": {"clean": float(np.mean([accuracy(each.module, TEST) for each in clean]))},
        "attack_success": {attack: successes for attack, (_, successes) in attacked.items()},
        "statistics": {},
        "keyed_refused": keyed(clean[0], attacked["badnets"][0][0]),
    }
    for attack, (nets, _) in attacked.items():
        document["accuracy"][attack] = float(np.mean([accuracy(each.module, TEST) for each in nets]))
    for name in STATISTICS:
        statistic, began = INSPECTIONS.make(name), time.perf_counter()
        ratios = [statistic(net, TEST).log_ratio for net in null]
        found = [statistic(net, TEST) for net in clean]
        rows = {
            attack: against([statistic(net, TEST) for net in nets], found, ratios)
            for attack, (nets, _) in attacked.items()
        }
        document["statistics"][name] = {
            "clean": flagged(found, ratios),
            "divided": divided(ratios + [each.log_ratio for each in found]),
            "attacks": rows,
            "seconds": time.perf_counter() - began,
        }
        print(name, document["statistics"][name], flush=True)
    document["seconds"] = round(time.perf_counter() - started)
    write_json(asked.output, document | {"machine": describe_machine("cpu").model_dump()})


if __name__ == "__main__":
    main()
