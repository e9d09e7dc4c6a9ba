"""How often does a null of nets that were trained apart hold two that count as one, and are copies still found?

Nulls of 99 small perceptrons of one recipe answer probes as a fingerprint holds them, a third of them held out, four
draws of probes each. ``mean`` goes by the mean distance alone, ``grouped`` by `clusters`; ``int8`` is how often a
quantised copy of one of the nets is put together with it.

Run: python benchmarks/groupings.py [--nulls 15] [-o benchmarks/results/groupings.json]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from careless import oracles
from false_accusations import train_stack

from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.detection.exchangeability import NEAR, clusters
from whorl.removals import REMOVALS
from whorl.storage import write_json

NULL, DRAWS, PROBES, FIRST = 99, 4, (24, 48, 180), 90_000


def answers(nets: list[torch.nn.Module], inputs: torch.Tensor) -> np.ndarray:
    """Probabilities ``[models, probes, classes]``."""
    with torch.no_grad():
        return np.stack([net(inputs).softmax(1).numpy() for net in nets])


def near_in_the_mean(given: np.ndarray) -> bool:
    """Whether any two differ by less than a quarter of what a usual pair does."""
    apart = np.abs(given[:, None] - given[None]).sum(3).mean(2)[np.triu_indices(len(given), 1)]
    return bool(apart.min() <= NEAR * np.median(apart))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nulls", type=int, default=15)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/groupings.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    source, chance = SOURCES.make("digits(size=8)"), np.random.default_rng(FIRST)
    data, test = source.load("victim"), source.load("test")
    inputs = torch.cat([test.inputs(), data.inputs()])
    found: dict[tuple[int, str], list[bool]] = {}
    for seed in range(FIRST, FIRST + options.nulls):
        nets = train_stack(NULL, data, torch.Generator().manual_seed(seed))
        (first,) = oracles(nets[:1], data, "first")
        copy = REMOVALS.make("quantise(int8)")(
            first, source.load("attacker"), generator=torch.Generator().manual_seed(1)
        )
        null, copied = answers(list(nets), inputs), answers([copy], inputs)
        for probes in PROBES:
            for _ in range(DRAWS):
                held_out = chance.permutation(len(test))[: probes // 3]
                learned = len(test) + chance.permutation(len(data))[: 2 * probes // 3]
                place = np.concatenate([held_out, learned])
                found.setdefault((probes, "mean"), []).append(near_in_the_mean(null[:, place]))
                found.setdefault((probes, "grouped"), []).append(len(clusters(null[:, place])) < NULL)
                both = np.concatenate([null[:60, place], copied[:, place]])
                found.setdefault((probes, "int8"), []).append(len(clusters(both)) < len(both))
    rows: list[dict[str, Any]] = []
    for (probes, what), values in found.items():
        rows.append({"probes": probes, "what": what, "of": len(values), "found": sum(values)})
        print(rows[-1], flush=True)
    write_json(options.output, {"rows": rows, "machine": describe_machine("cpu").model_dump()})


if __name__ == "__main__":
    main()
