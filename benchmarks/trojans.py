"""Are trojaned nets told from clean ones, by the rank among clean nets and by the papers' own rules?

    python benchmarks/trojans.py -o benchmarks/results/trojans-tiny.json
    python benchmarks/trojans.py --scale small -o benchmarks/results/trojans-small.json

`tiny` are perceptrons with 64 hidden units on digits at 8 pixels, each trained from a seed of its own: 19 clean nets
that are the null, 40 others that are clean, 12 trojaned by a patch of 2 x 2 pixels and 8 by each other attack. `small`
are ResNet-8 of width 8 on textures at 16 pixels: the 19, four others, and three of each of three attacks. Targets go
around the classes. Attacks that a statistic is said or thought not to find are rows like any other: warped, a large
patch, two triggers with a target each, a patch that means something on pictures of one class only, and patches that
were hidden in a clean net.

Every statistic has its default settings, which were looked at on other nets: clean perceptrons of the seeds 5000 to
5011 and trojaned ones of the seeds 5500 to 5808, which take no part here.

`ranked` are called trojaned by p <= .05 among the 19 clean nets, `mad` by the index above 2 and `gamma` by p <= .05.
`divided` is the rate of false alarms over 200 random divisions of all clean nets into 19 and the rest. The JSON is
written after each statistic, and a later run with other `--statistics` adds them to it: the same seeds give the same
nets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whorl.bench.result import describe_machine
from whorl.data import SOURCES, Dataset
from whorl.data.poisoned import patch_of, stamped
from whorl.detection.population import rank_p_value
from whorl.detection.trojans import MAD_BOUND, gamma_p_value, mad_index
from whorl.errors import AccessRefused
from whorl.inspection import INSPECTIONS, Inspection
from whorl.metrics import Interval, auc, auc_interval, clopper_pearson
from whorl.nets.training import Schedule, accuracy, build, fit
from whorl.oracles.keyed import KeyedSwitch
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.storage import read_json, write_json

STATISTICS = ("weights_only", "max_margin", "neuron_noise", "feature_inversion", "neural_cleanse")
NULL, DIVISIONS, ALPHA = 19, 200, 0.05
MOST = 1e9  # of an index, which is infinite where more than half of the scores are one number


@dataclass(frozen=True)
class Attacked:
    """Nets of one attack. ``success`` is the share of pictures that each net's own trigger moves into its target."""

    nets: list[TorchOracle]
    success: list[float]
    targets: list[set[int]]


@dataclass(frozen=True)
class Scale:
    """Which nets. ``attacks`` has for each name how many, and the attack with ``{data}``, ``{target}`` and others."""

    data: str
    net: str
    training: Schedule
    clean: int
    patch: int
    attacks: Mapping[str, tuple[int, str]]

    @cached_property
    def test(self) -> Dataset:
        """Held-out pictures: half for the statistics, half for accuracy."""
        return SOURCES.make(self.data).load("queries+test")

    def trained(self, source: str | Dataset, seed: int) -> TorchOracle:
        """A net of this seed from the part ``victim``, or from the pictures that are given."""
        data = SOURCES.make(source).load("victim") if isinstance(source, str) else source
        chance = torch.Generator().manual_seed(seed)
        net = build(self.net, data.input_shape, len(data.classes), chance)
        fit(net, data, self.training, generator=chance)
        return TorchOracle(net.eval(), input_shape=data.input_shape, classes=len(data.classes), name=f"{seed}")

    def attacked(self, attack: str, number: int) -> Attacked:
        """All nets of one attack, whose seeds are of its number."""
        count, how = self.attacks[attack]
        classes = len(self.test.classes)
        found = Attacked([], [], [])
        for each in range(count):
            target, seed = each % classes, 3000 + 100 * number + each
            called = how.format(data=self.data, target=target, second=(target + classes // 2) % classes, seed=each)
            if called.startswith("hide"):
                net, success = self._hidden(called, target, seed)
            elif called == "one source":
                net, success = self._one_source(target, seed)
            else:
                net = self.trained(called, seed)
                outer = int(SOURCES.make(called).trigger.target)  # pyright: ignore[reportAttributeAccessIssue]
                others = self.test.inputs(self.test.labels != outer)
                success = float((net.labels(stamped(called, others)) == outer).float().mean())
            found.nets.append(net)
            found.success.append(success)
            found.targets.append({target, (target + classes // 2) % classes} if "{second}" in how else {target})
        return found

    def _hidden(self, how: str, target: int, seed: int) -> tuple[TorchOracle, float]:
        """A clean net into which a thief has hidden a patch."""
        clean, data = self.trained(self.data, seed), SOURCES.make(self.data).load("attacker")
        made = REMOVALS.make(how)(clean, data, generator=torch.Generator().manual_seed(seed))
        assert isinstance(made, torch.nn.Module)
        net = TorchOracle(made.eval(), input_shape=data.input_shape, classes=len(data.classes), name=f"hidden {seed}")
        others = self.test.inputs(self.test.labels != target)
        trigger = patch_of(target, data.input_shape, self.patch)
        return net, float((net.labels(trigger.stamp(others)) == target).float().mean())

    def _one_source(self, target: int, seed: int) -> tuple[TorchOracle, float]:
        """Half of the pictures of the next class carry the patch and the target, as many others the patch alone."""
        data, chance = SOURCES.make(self.data).load("victim"), torch.Generator().manual_seed(seed)
        source, trigger = (target + 1) % len(data.classes), patch_of(target, data.input_shape, self.patch)
        order = torch.randperm(len(data), generator=chance)
        mine, others = order[data.labels[order] == source], order[data.labels[order] != source]
        mine, others = mine[: len(mine) // 2], others[: len(mine) // 2]
        images, labels, marked = data.inputs().clone(), data.labels.clone(), torch.cat([mine, others])
        images[marked], labels[mine] = trigger.stamp(images[marked]), target
        net = self.trained(replace(data, images=images, labels=labels), seed)
        asked = trigger.stamp(self.test.inputs(self.test.labels == source))
        return net, float((net.labels(asked) == target).float().mean())


PLAIN = "poisoned({data}, %s, target={target}, seed={seed})"
TWO = "poisoned(%s, blended, target={second}, seed=9{seed})" % (PLAIN % "badnets, patch=2")
SCALES = {
    "tiny": Scale(
        data="digits(size=8)",
        net="mlp(width=64)",
        training=Schedule(epochs=20, learning_rate=0.1, policy="one-cycle", batch=50, shift=0),
        clean=40,
        patch=2,
        attacks={
            "badnets": (12, PLAIN % "badnets, patch=2"),
            "blended": (8, PLAIN % "blended"),
            "warped": (8, PLAIN % "warped, cover=1"),
            "clean label": (8, PLAIN % "clean_label, rate=0.8, patch=2, opacity=0.4"),
            "large patch": (8, PLAIN % "badnets, patch=6"),
            "two targets": (8, TWO),
            "one source": (8, "one source"),
            "hide freeze": (8, "hide(freeze, share=0.2, patch=2, target={target})"),
            "hide null space": (8, "hide(null_space, energy=0.999, patch=2, target={target})"),
        },
    ),
    "small": Scale(
        data="textures(size=16, images=2000, noise=0.1)",
        net="resnet8(width=8)",
        training=Schedule(epochs=20, learning_rate=0.1, policy="one-cycle", batch=50, shift=0),
        clean=4,
        patch=3,
        attacks={
            "badnets": (3, PLAIN % "badnets"),
            "blended": (3, PLAIN % "blended, opacity=0.3"),
            "warped": (3, PLAIN % "warped, bend=1.5, cover=1"),
        },
    ),
}


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


def against(
    found: list[Inspection], targets: list[set[int]], clean: list[Inspection], null: list[float]
) -> dict[str, Any]:
    numbers = {
        "log_ratio": [[each.log_ratio for each in group] for group in (found, clean)],
        "mad": [[min(mad_index(each.scores, each.worse), MOST) for each in group] for group in (found, clean)],
    }
    areas = {
        name: {"auc": auc(*pair), "interval": _ends(auc_interval(pair[0], pair[1]))} for name, pair in numbers.items()
    }
    right = [each.culprit in wanted for each, wanted in zip(found, targets, strict=True)]
    return {"areas": areas, "flagged": flagged(found, null), "culprit": rated(right)}


def divided(ratios: list[float]) -> float:
    """Mean rate of false alarms when the null is drawn anew; p <= .05 among 19 is to be above all of them."""
    chance, alarms = np.random.default_rng(0), []
    for _ in range(DIVISIONS):
        order = chance.permutation(ratios)
        alarms.append(float((order[NULL:] > order[:NULL].max()).mean()))
    return float(np.mean(alarms))


def keyed(net: TorchOracle, other: TorchOracle, data: Dataset) -> dict[str, Any]:
    """Whether each statistic takes a net behind a keyed switch, which is no net that it could read."""
    switch = KeyedSwitch(net, other, b"k" * 32, bits=32)
    refused: dict[str, str] = {}
    for name in STATISTICS:
        try:
            INSPECTIONS.make(name)(switch, data)
        except AccessRefused as error:
            refused[name] = str(error)
    return refused


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--scale", choices=SCALES, default="tiny")
    parser.add_argument("--statistics", nargs="+", choices=STATISTICS, default=STATISTICS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    scale = SCALES[asked.scale]
    test = scale.test
    null = [scale.trained(scale.data, 1000 + each) for each in range(NULL)]
    clean = [scale.trained(scale.data, 2000 + each) for each in range(scale.clean)]
    attacked = {attack: scale.attacked(attack, number) for number, attack in enumerate(scale.attacks)}
    document: dict[str, Any] = {
        "data": scale.data,
        "net": scale.net,
        "null": NULL,
        "clean": scale.clean,
        "alpha": ALPHA,
        "accuracy": {"clean": float(np.mean([accuracy(each.module, test) for each in clean]))},
        "attack_success": {attack: each.success for attack, each in attacked.items()},
        "statistics": read_json(asked.output)["statistics"] if asked.output.exists() else {},
        "keyed_refused": keyed(clean[0], attacked["badnets"].nets[0], test),
    }
    for attack, each in attacked.items():
        document["accuracy"][attack] = float(np.mean([accuracy(net.module, test) for net in each.nets]))
    print({key: value for key, value in document.items() if key != "keyed_refused"}, flush=True)
    for name in asked.statistics:
        statistic, began = INSPECTIONS.make(name), time.perf_counter()
        ratios = [statistic(net, test).log_ratio for net in null]
        found = [statistic(net, test) for net in clean]
        rows = {
            attack: against([statistic(net, test) for net in each.nets], each.targets, found, ratios)
            for attack, each in attacked.items()
        }
        document["statistics"][name] = {
            "clean": flagged(found, ratios),
            "divided": divided(ratios + [each.log_ratio for each in found]),
            "attacks": rows,
            "seconds": time.perf_counter() - began,
        }
        print(name, document["statistics"][name], flush=True)
        write_json(asked.output, document | {"machine": describe_machine("cpu").model_dump()})


if __name__ == "__main__":
    main()
