"""How much must a thief have paid before a lineup knows him? The thieves of a suite, with more pictures and epochs.

The five victims of field/textures before the lineup of their 19 twins. Each thief learns a net from nothing on the
victim's answers; his pictures are of the victim's distribution, and none is the victim's or a question. `ratio` is how
often his labels differ from the victim's on test pictures over how often the twins' do (1: no nearer than a twin). All
conditions were fixed before the first run. All are in the table but one, 30 epochs on 16,000 pictures, which took too
long and was dropped after one net of one victim. Strangers learn the true labels of the same pictures, so that a good
net is not taken for a stolen one.

Run: python benchmarks/lineup_thieves.py [--cache FOLDER] [-o benchmarks/results/lineup-thieves.json]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from lineup_power import standing, table
from torch import nn

import whorl
from whorl.bench.result import describe_machine
from whorl.data.base import Dataset
from whorl.data.textures import Textures
from whorl.lineups.making import Material, line_up
from whorl.nets.training import Schedule, accuracy, build, fit
from whorl.oracles.base import Oracle
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.storage import write_json
from whorl.suites.suite import SUITES
from whorl.zoo.cache import Zoo

SUITE: Final = "field/textures"
PAID: Final = ((4000, 10), (16000, 10))  # pictures and epochs; the first is the suite's
NETS: Final = {"same net": ("resnet8", 0.2), "other net": ("vgg", 0.1)}
QUESTIONS: Final = 3000


def stranger(net: str, pictures: Dataset, epochs: int, rate: float, generator: torch.Generator) -> nn.Module:
    """A net that learned the true labels as a thief learns the victim's."""
    made = build(net, pictures.input_shape, len(pictures.classes), generator)
    fit(made, pictures, Schedule(epochs=epochs, learning_rate=rate, policy="one-cycle"), generator=generator)
    return made


def suspects(victim: Oracle, source: Textures, seed: int) -> Iterator[tuple[dict[str, Any], nn.Module]]:
    """Thieves and strangers of one victim, each with what it is and what it learned from."""
    for images, epochs in PAID:
        pictures = replace(source, images=images).load("attacker")
        for kind, (net, rate) in NETS.items():
            for answers in ("labels", "probabilities", "the truth"):
                generator = torch.Generator().manual_seed(seed)
                seed += 1
                if answers == "the truth":
                    made = stranger(net, pictures, epochs, rate, generator)
                else:
                    thief = REMOVALS.make(f"extract({net}, {answers}, epochs={epochs}, learning_rate={rate})")
                    made = thief.apply(victim, pictures, generator=generator)
                    assert isinstance(made, nn.Module)
                row = f"{answers}, {kind}, {images:,} pictures, {epochs} epochs"
                yield {"label": row, "kind": "stranger" if answers == "the truth" else "copy"}, made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineup-thieves.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite, zoo, started = SUITES[SUITE](), Zoo(options.cache), time.perf_counter()
    source = Textures(size=16, images=4000, noise=0.1)
    material, test = Material.of(suite.data), source.load("test")
    zoo.build([*suite.victims, *suite.twins(0)], workers=1)
    records: list[dict[str, Any]] = []
    nets: list[dict[str, Any]] = []
    for number, victim in enumerate(suite.victims):
        mine, twins = zoo.oracle(victim), [zoo.oracle(each) for each in suite.twins(number)]
        said = mine.labels(test.inputs())
        apart = sum(float((each.labels(test.inputs()) != said).float().mean()) for each in twins) / len(twins)
        bare = whorl.extract(mine, data=suite.data, scheme="random", budget=4)
        made, secret = line_up(bare, mine, twins, material, size=QUESTIONS)
        for facts, net in suspects(mine, source, seed=70_000 + 100 * number):
            oracle = TorchOracle(net, input_shape=test.input_shape, classes=len(test.classes))
            far = float((oracle.labels(test.inputs()) != said).float().mean())
            learned = {"accuracy": round(accuracy(net, test), 4), "ratio": round(far / apart, 4)}
            nets.append({"victim": number, **facts, **learned})
            records += [{"victim": number, **facts, **each} for each in standing(made, secret.place, oracle, QUESTIONS)]
            print(f"victim {number}: {facts['label']}: {learned}", flush=True)
        write_json(
            options.output,
            {
                "suite": suite.name,
                "victims": number + 1,
                "twins": len(twins),
                "questions": QUESTIONS,
                "rows": table(records),
                "nets": nets,
                "seconds": round(time.perf_counter() - started),
                "machine": describe_machine("cpu").model_dump(),
            },
        )


if __name__ == "__main__":
    main()
