"""What a sign lock is worth: accuracy under wrong keys, and how much of it comes back by four ways of undoing it.

    python benchmarks/locks.py -o benchmarks/results/locks.json

Five victims for each of relu and tanh, with one and with two hidden layers of 64 units, on digits at 8 pixels, each
under a key of its own. `recovered` is (found - wrong) / (right - wrong): 0 for the accuracy without a key, the mean
over twenty wrong ones, and 1 for that with it. The thief holds 1, 5 or 10 % as many labelled pictures as the victim
learned from, other ones; `scratch` is what they give without the victim. The relative is the victim tuned on other
pictures.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import torch

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.data.base import Dataset
from whorl.nets.base import initialise
from whorl.nets.sign_lock import (
    SignLocked,
    draw_key,
    flipped,
    key_by_relative,
    key_by_search,
    read_out,
    with_wrong_bits,
)
from whorl.nets.training import Schedule, accuracy, fit
from whorl.storage import write_json

SOURCE = SOURCES.make("digits(size=8)")
VICTIM, ATTACKER, CALIBRATION, TEST = (SOURCE.load(part) for part in ("victim", "attacker", "calibration", "test"))
TRAINING = Schedule(epochs=20, learning_rate=0.1, policy="one-cycle", batch=50, shift=0)
SHARES = (0.01, 0.05, 0.1)
WRONG = (0, 1, 2, 4, 8, 16, 32, 64)
VICTIMS, KEYS = 5, 20


def net_of(seed: int, activation: Any, depth: int) -> SignLocked:
    net = SignLocked(VICTIM.input_shape, len(VICTIM.classes), width=64, depth=depth, activation=activation)
    initialise(net, torch.Generator().manual_seed(seed))
    net.standardise(VICTIM.inputs())
    return net


def tuned(net: SignLocked, data: Dataset, seed: int) -> float:
    made = copy.deepcopy(net)
    schedule = Schedule(epochs=100, learning_rate=0.02, batch=min(10, len(data)), shift=0)
    fit(made, data, schedule, generator=torch.Generator().manual_seed(seed))
    return accuracy(made, TEST)


def victim(seed: int, activation: str, depth: int) -> dict[str, Any]:
    chance = torch.Generator().manual_seed(1000 + seed)
    start = net_of(seed, activation, depth)
    key = draw_key(start, chance)
    net = flipped(start, key).under(key)
    fit(net, VICTIM, TRAINING, generator=chance)
    locked = net.under(tuple(torch.ones_like(each) for each in key))
    units = sum(map(len, key))
    by_bits = {
        count: [accuracy(net.under(with_wrong_bits(key, count, chance)), TEST) for _ in range(KEYS if count else 1)]
        for count in WRONG
    }
    wrong_keys = [accuracy(net.under(draw_key(net, chance)), TEST) for _ in range(KEYS)]
    right, wrong = accuracy(net, TEST), sum(wrong_keys) / KEYS
    relative = net.under(key)
    fit(relative, CALIBRATION, TRAINING, generator=chance)
    plain = flipped(relative, key)  # what was released without a lock
    found = {"relative": accuracy(net.under(key_by_relative(locked, plain)), TEST)}
    for share in SHARES:
        count = round(share * len(VICTIM))
        data = ATTACKER.subset(torch.randperm(len(ATTACKER), generator=chance)[:count])
        label = f"{share:.0%}"
        found[f"tuning {label}"] = tuned(locked, data, seed)
        found[f"scratch {label}"] = tuned(net_of(seed + 5000, activation, depth), data, seed)
        found[f"search {label}"] = accuracy(net.under(key_by_search(locked, data.inputs(), data.labels)), TEST)
        found[f"new head {label}"] = accuracy(read_out(locked, data.inputs(), data.labels), TEST)
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
        "by_wrong_bits": {count: spread([each["by_wrong_bits"][count] for each in victims]) for count in WRONG},
        "recovered": {name: spread([each["recovered"][name] for each in victims]) for name in victims[0]["recovered"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started, found = time.perf_counter(), {}
    for activation in ("relu", "tanh"):
        for depth in (1, 2):
            victims = [victim(seed, activation, depth) for seed in range(VICTIMS)]
            found[f"{activation}, {depth} layers"] = {"summary": summary(victims), "victims": victims}
            print(activation, depth, summary(victims), flush=True)
    document = {"chance": 1 / len(VICTIM.classes), "locks": found, "seconds": round(time.perf_counter() - started)}
    write_json(asked.output, document | {"machine": describe_machine("cpu").model_dump()})


if __name__ == "__main__":
    main()
