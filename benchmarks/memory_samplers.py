"""Does an extraction need more memory the more queries it makes? Every scheme that asks for pictures, one by one.

A `resnet8` that was trained on textures of 96 pixels; what its gradient needs of a picture is in ``kept_each_mib``.
Each extraction is a process of its own, with few steps where the number is a setting, for a step is what all of them
cost in memory. ``peak_mib`` is the most that is resident above what was when the pictures (uint8) were loaded and the
models built. ``growth_each_mib`` is what one more query adds to it, between the two budgets, beside ``query_mib``, the
bytes of a query itself. A scheme that makes fewer queries than it is asked for says how many, and one that refuses says
why.

Run: python benchmarks/memory_samplers.py [-o benchmarks/results/memory-samplers.json] [--only SCHEME...]
With ``--only`` the others keep what they gave.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

import whorl
from whorl.bench.result import describe_machine
from whorl.bench.work import peak_memory
from whorl.data import Dataset
from whorl.data.base import join
from whorl.data.textures import Textures
from whorl.errors import WhorlError
from whorl.nets.training import Schedule, build, fit
from whorl.oracles.base import Oracle
from whorl.oracles.bounded import TARGET, kept
from whorl.oracles.pool import Pool
from whorl.oracles.torch import TorchOracle, frozen
from whorl.schemes import SCHEMES
from whorl.storage import write_json

SIDE, CLASSES, BUDGETS, PICTURES = 96, 10, (250, 1000), 4000
# Few steps, and margins that a net of few epochs has.
SETTINGS: Final = {
    "adv-tra": "length=2, crossings=1, iterations=1",
    "afa": "steps=1",
    "conferrable": "iterations=1, candidates=2",
    "cw-l2": "margin=0, searches=1, iterations=2",
    "dataset-inference": "fit=20, rounds=2, directions=1, steps=2",
    "dataset-inference-white-box": "fit=20, rounds=2, targets=1, iterations=1",
    "deepfool": "iterations=2",
    "deepjudge": "steps=1, confidence=0.1, seeds=4000",
    "deepjudge-robd": "steps=1, seeds=4000",
    "deepjudge-white-box": "iterations=1, confidence=0.1, multiple=0.1",
    "fgsm": "",
    "igsm": "steps=1",
    "ipguard": "iterations=1",
    "metav": "steps=1",
    "modeldiff": "iterations=1",
    "modeldiff-black-box": "iterations=2",
    "modelgif": "nodes=3",
    "modelgif-selected": "nodes=2, candidates=2",
    "multipoint": "ties=3, iterations=1",
    "sensitive-samples": "candidates=1500, iterations=1",
    "sensitive-samples-labels": "candidates=1500, iterations=1",
    "stretch": "iterations=1",
    "tafa": "starts=10, iterations=10",
    "transfer": "steps=1",
    "uap": "epochs=1, steps=2, fooling=0.01, views=1",
    "zest": "masks=8",
}


def net() -> nn.Module:
    """The victim's, untrained."""
    return build("resnet8", (3, SIDE, SIDE), CLASSES, torch.Generator().manual_seed(0))


def oracle(weights: Path, noise: float = 0.0, seed: int = 0) -> Oracle:
    """The trained net, or one whose weights lie ``noise`` of their deviation beside its own."""
    made = net()
    made.load_state_dict(torch.load(weights, weights_only=True))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in made.parameters():
            each += noise * each.std(correction=0) * torch.randn(each.shape, generator=generator)
    return TorchOracle(made.eval(), input_shape=(3, SIDE, SIDE), classes=CLASSES, name=f"{seed}")


def pictures(count: int, part: str = "victim") -> Dataset:
    """Textures."""
    drawn = Textures(size=SIDE, images=count, noise=0.1).load(part)
    whole = torch.cat([(part * 255).byte() for part in drawn.inputs().split(100)])
    return Dataset(whole, drawn.labels, drawn.classes, "textures")


def case(name: str, budget: int, weights: Path) -> dict[str, Any]:
    """One extraction in this process."""
    scheme = SCHEMES.make(f"{name}({SETTINGS.get(name, '')})")
    victim, data = oracle(weights), pictures(PICTURES)
    if "+" in scheme.part:  # what the victim learned from, and what it did not
        data = join(data, pictures(PICTURES, "queries"))
    pool = None
    if scheme.needs_pool:
        near = [oracle(weights, 0.01, seed) for seed in (1, 2)]
        pool = Pool({"noise": near}, [oracle(weights, 1.0, seed) for seed in (3, 4)])
    found: dict[str, Any] = {"scheme": str(scheme), "asked_for": budget}
    started = time.perf_counter()
    with peak_memory() as peak:
        try:
            fingerprint = whorl.extract(victim, data=data, scheme=scheme, budget=budget, pool=pool)
        except WhorlError as error:
            return found | {"refused": str(error)}
    return found | {
        "queries": len(fingerprint.queries),
        **peak,
        "query_mib": round(fingerprint.queries.inputs[:1].nbytes / 2**20, 3),
        "seconds": round(time.perf_counter() - started),
    }


def trained(weights: Path) -> float:
    """Write the victim's weights; the MiB that a gradient keeps of a picture."""
    made = net()
    fit(made, pictures(1000), Schedule(epochs=3, learning_rate=0.1), generator=torch.Generator().manual_seed(0))
    torch.save(made.state_dict(), weights)
    two = torch.rand(2, 3, SIDE, SIDE)
    return (kept(frozen(made), two) - kept(frozen(made), two[:1])) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/memory-samplers.json"))
    parser.add_argument("--only", nargs="+", choices=list(SCHEMES), default=list(SCHEMES), metavar="SCHEME")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        name, budget, weights = options.case
        print(json.dumps(case(name, int(budget), Path(weights))))
        return
    rows: dict[str, list[dict[str, Any]]] = {}
    if options.only != list(SCHEMES):
        rows = json.loads(options.output.read_text())["rows"]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "victim.pt"
        each = trained(weights)
        for name in options.only:
            pair = []
            for budget in BUDGETS:
                command = [sys.executable, __file__, "--case", name, str(budget), str(weights)]
                told = subprocess.run(command, check=True, capture_output=True, text=True)
                pair.append(json.loads(told.stdout.splitlines()[-1]))
                print(pair[-1], flush=True)
            made = [row for row in pair if "queries" in row]
            if len(made) == len(pair) and made[0]["queries"] < made[1]["queries"]:
                added = made[1]["queries"] - made[0]["queries"]
                made[1]["growth_each_mib"] = round((made[1]["peak_mib"] - made[0]["peak_mib"]) / added, 3)
            rows[name] = pair
            write_json(
                options.output,
                {
                    "rows": {name: rows[name] for name in SCHEMES if name in rows},
                    "kept_each_mib": round(each, 2),
                    "target_mib": TARGET >> 20,
                    "machine": describe_machine("cpu").model_dump(),
                },
            )


if __name__ == "__main__":
    main()
