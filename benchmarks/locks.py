"""What a sign lock is worth: accuracy under wrong keys, and how much of it comes back by four ways of undoing it.

    python benchmarks/locks.py -o benchmarks/results/locks.json

Five victims for each of relu and tanh, with one and with two hidden layers of 64 units, on digits at 8 pixels; and
three convolutional nets, `resnet8(width=8)` on textures at 16, of which the inner filters of each block have signs,
behind their norm. Each is under a key of its own. `recovered` is (found - wrong) / (right - wrong): 0 for the accuracy
without a key, the mean over twenty wrong ones, and 1 for that with it. The thief holds 1, 5 or 10 % as many labelled
pictures as the victim learned from, other ones; `scratch` is what they give without the victim. The relative is the
victim tuned on other pictures. A kind of net that is named (--only) is measured alone, and the others stay in the
output as they are.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.data.base import Dataset
from whorl.nets.base import Classifier, initialise
from whorl.nets.sign_lock import (
    SignLocked,
    draw_key,
    flipped,
    key_by_relative,
    key_by_search,
    read_out,
    with_wrong_bits,
)
from whorl.nets.training import Schedule, accuracy, build, fit
from whorl.storage import read_json, write_json

SHARES = (0.01, 0.05, 0.1)
WRONG = (0, 1, 2, 4, 8, 16, 32, 64)
KEYS = 20


@dataclass(frozen=True)
class Kind:
    """A kind of net, and how it learns; ``few`` is the size of a thief's batch."""

    source: str
    victims: int
    training: Schedule
    few: int
    settings: tuple[tuple[str, Any], ...] = ()
    architecture: str = ""

    @cached_property
    def parts(self) -> dict[str, Dataset]:
        """The data by part."""
        source = SOURCES.make(self.source)
        return {part: source.load(part) for part in ("victim", "attacker", "calibration", "test")}

    def begun(self, seed: int) -> Classifier:
        """A net before its first step."""
        pictures, chance = self.parts["victim"], torch.Generator().manual_seed(seed)
        shape, classes = pictures.input_shape, len(pictures.classes)
        if self.architecture:
            net = build(self.architecture, shape, classes, chance)
            assert isinstance(net, Classifier)
        else:
            net = SignLocked(shape, classes, **dict(self.settings))
            initialise(net, chance)
        net.standardise(pictures.inputs())
        return net


def perceptron(activation: str, depth: int) -> Kind:
    training = Schedule(epochs=20, learning_rate=0.1, policy="one-cycle", batch=50, shift=0)
    settings = (("width", 64), ("depth", depth), ("activation", activation))
    return Kind("digits(size=8)", 5, training, 10, settings)


KINDS = {f"{each}, {depth} layers": perceptron(each, depth) for each in ("relu", "tanh") for depth in (1, 2)} | {
    "relu, convolutions": Kind(
        "textures(size=16, images=2000, noise=0.1)",
        3,
        Schedule(epochs=16, learning_rate=0.1, policy="one-cycle", batch=100, shift=1),
        20,
        architecture="resnet8(width=8)",
    )
}


def tuned(kind: Kind, net: Classifier, data: Dataset, seed: int) -> float:
    made = copy.deepcopy(net)
    schedule = Schedule(epochs=100, learning_rate=0.02, batch=min(kind.few, len(data)), shift=0)
    fit(made, data, schedule, generator=torch.Generator().manual_seed(seed))
    return accuracy(made, kind.parts["test"])


def victim(kind: Kind, seed: int) -> dict[str, Any]:
    chance = torch.Generator().manual_seed(1000 + seed)
    learned, attacker, test = (kind.parts[part] for part in ("victim", "attacker", "test"))
    plain = kind.begun(seed)
    key = draw_key(plain, chance)
    if isinstance(plain, SignLocked):  # it learns with the key on, as the paper has it
        net = flipped(plain, key).under(key)
        fit(net, learned, kind.training, generator=chance)
        locked = net.under(tuple(torch.ones_like(each) for each in key))
        plain = flipped(locked, key)
    else:
        fit(plain, learned, kind.training, generator=chance)
        locked = flipped(plain, key)
    units = sum(map(len, key))

    def under(found: Any) -> float:
        return accuracy(flipped(locked, found), test)

    by_bits = {
        count: [under(with_wrong_bits(key, count, chance)) for _ in range(KEYS if count else 1)]
        for count in WRONG
        if count <= units
    }
    wrong_keys = [under(draw_key(locked, chance)) for _ in range(KEYS)]
    right, wrong = accuracy(plain, test), sum(wrong_keys) / KEYS
    relative = copy.deepcopy(plain)  # what was released without a lock
    fit(relative, kind.parts["calibration"], kind.training, generator=chance)
    found = {"relative": under(key_by_relative(locked, relative))}
    for share in SHARES:
        count = round(share * len(learned))
        data = attacker.subset(torch.randperm(len(attacker), generator=chance)[:count])
        label = f"{share:.0%}"
        found[f"tuning {label}"] = tuned(kind, locked, data, seed)
        found[f"scratch {label}"] = tuned(kind, kind.begun(seed + 5000), data, seed)
        found[f"search {label}"] = under(key_by_search(locked, data.inputs(), data.labels))
        found[f"new head {label}"] = accuracy(read_out(locked, data.inputs(), data.labels), test)
    return {
        "units": units,
        "right": right,
        "wrong": wrong,
        "wrong_most": max(wrong_keys),
        "by_wrong_bits": {count: sum(each) / len(each) for count, each in by_bits.items()},
        "accuracy": found,
        "recovered": {name: (each - wrong) / (right - wrong) for name, each in found.items()},
    }


def summary(victims: list[dict[str, Any]]) -> dict[str, Any]:
    def spread(values: list[float]) -> dict[str, float]:
        return {"mean": sum(values) / len(values), "least": min(values), "most": max(values)}

    return {
        "right": spread([each["right"] for each in victims]),
        "wrong": spread([each["wrong"] for each in victims]),
        "by_wrong_bits": {
            count: spread([each["by_wrong_bits"][count] for each in victims]) for count in victims[0]["by_wrong_bits"]
        },
        "recovered": {name: spread([each["recovered"][name] for each in victims]) for name in victims[0]["recovered"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=list(KINDS), action="append")
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.only or KINDS:
        kind, started = KINDS[name], time.perf_counter()
        victims = [victim(kind, seed) for seed in range(kind.victims)]
        measured = {
            "summary": summary(victims),
            "victims": victims,
            "chance": 1 / len(kind.parts["test"].classes),
            "seconds": round(time.perf_counter() - started),
            "machine": describe_machine("cpu").model_dump(),
        }
        print(name, measured["summary"], flush=True)
        before = read_json(asked.output)["locks"] if asked.output.exists() else {}
        write_json(asked.output, {"locks": before | {name: measured}})


if __name__ == "__main__":
    main()
