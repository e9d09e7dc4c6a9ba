"""Peak memory of an extraction against the number of queries: gradients go in parts that fit.

A ResNet-50 and a ViT-S/16 at 224 pixels, weights as timm draws them, and pictures that were drawn at 32 pixels and
enlarged (uint8). IPGuard's points with one step: a step is what all its steps cost in memory. Each case is a process
of its own, whose peak resident memory is read at its end. `kept_each` are the bytes that one picture's way back needs;
times the queries, that is what an extraction would keep without parts.

Run: python benchmarks/memory.py [-o benchmarks/results/memory.json] [--budgets 100 1000]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn.functional import interpolate

import whorl
from whorl.bench.result import describe_machine
from whorl.data.base import Dataset
from whorl.data.textures import Textures
from whorl.nets import NETS
from whorl.oracles.bounded import TARGET, kept
from whorl.oracles.torch import TorchOracle, frozen
from whorl.storage import write_json

TIMM: Final = ("resnet50", "vit_small_patch16_224")
SIDE: Final = 224


def pictures(count: int) -> Dataset:
    """Textures of 32 pixels, enlarged."""
    small = Textures(size=32, images=count).load("victim")
    large = torch.cat([(interpolate(part, size=SIDE) * 255).byte() for part in small.inputs().split(100)])
    return Dataset(large, small.labels, small.classes, "enlarged textures")


def case(name: str, budget: int) -> dict[str, Any]:
    """One extraction in this process."""
    torch.manual_seed(0)
    net = NETS.make(f"timm(name={name})", input_shape=(3, SIDE, SIDE), classes=10).eval()
    victim = TorchOracle(net, input_shape=(3, SIDE, SIDE), classes=10)
    two = torch.rand(2, 3, SIDE, SIDE)
    each = kept(frozen(net), two) - kept(frozen(net), two[:1])
    before, started = _peak(), time.perf_counter()
    fingerprint = whorl.extract(victim, data=pictures(budget), scheme="ipguard(iterations=1)", budget=budget)
    assert len(fingerprint.queries) == budget
    return {
        "net": name,
        "queries": budget,
        "peak_mib": round(_peak() / 2**20),
        "before_mib": round(before / 2**20),
        "queries_mib": round(fingerprint.queries.inputs.nbytes / 2**20),
        "kept_each_mib": round(each / 2**20, 1),
        "seconds": round(time.perf_counter() - started),
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/memory.json"))
    parser.add_argument("--budgets", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(case(options.case[0], int(options.case[1]))))
        return
    rows: list[dict[str, Any]] = []
    for name in TIMM:
        for budget in options.budgets:
            told = subprocess.run(
                [sys.executable, __file__, "--case", name, str(budget)], check=True, capture_output=True, text=True
            )
            rows.append(json.loads(told.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
            document = {"rows": rows, "target_mib": TARGET >> 20, "machine": describe_machine("cpu").model_dump()}
            write_json(options.output, document)


if __name__ == "__main__":
    main()
