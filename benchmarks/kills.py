"""A verification of 1,000 queries, killed at random moments: is the verdict the same, and what is asked twice?

A net is served on this machine with 20 ms for each request. For every kill a verification begins, its process is sent
SIGKILL at a random moment while answers are still missing, and the same command is typed again. An input counts as
asked again when it was sent to the server more than once; sentinels, which are meant to be, are counted apart.

Run: python benchmarks/kills.py [-o benchmarks/results/kills.json] [--kills 20]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from whorl import ownership
from whorl.bench.result import describe_machine
from whorl.fingerprints.files import write_fingerprint
from whorl.removals import REMOVALS
from whorl.storage import write_json
from whorl.testing import tiny_data, tiny_net, tiny_victim

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from model_server import ModelServer

QUERIES, BATCH, CONCURRENCY, LATENCY = 1000, 10, 4, 0.02
SCHEME, TUNE = "sac-normal(start=noise)", "fine_tune(all, epochs=1)"  # compares all answers, so all must be right
SPENDING = ("replayed", "oldest", "sentinels")


class Slow(nn.Module):
    """A net that takes its time."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor) -> Tensor:
        """Scores of the net, later."""
        time.sleep(LATENCY)
        return self.net(inputs)


def command(fingerprint: Path, server: ModelServer) -> list[str]:
    settings = {"model": "m", "output": "logits", "batch": BATCH, "concurrency": CONCURRENCY}
    options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    whorl = str(Path(sys.executable).with_name("whorl"))
    return [whorl, "verify", str(fingerprint), server.url, "--alpha", "0.05", "--json", "--quiet", *options]


def verdict(typed: list[str], cache: Path) -> dict[str, object]:
    done = subprocess.run(typed, env=os.environ | {"WHORL_CACHE": str(cache)}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def without_spending(found: dict) -> dict:
    """All of a verdict but what was replayed, which is meant to differ."""
    queries = {name: value for name, value in found["queries"].items() if name not in SPENDING}
    caveats = [caveat for caveat in found["caveats"] if "replayed from a record" not in caveat]
    return {**found, "queries": queries, "caveats": caveats, "suspect": ""}  # which is an address with a port


def killed(typed: list[str], server: ModelServer, cache: Path, chance: random.Random) -> bool:
    """Whether the verification was killed while answers were missing."""
    moment, pause = chance.randrange(QUERIES), chance.uniform(0, 2 * LATENCY)
    with subprocess.Popen(
        typed, env=os.environ | {"WHORL_CACHE": str(cache)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while len(server.asked) <= moment and process.poll() is None:
            time.sleep(0.001)
        time.sleep(pause)
        process.kill()
    return len(server.answered) < QUERIES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/kills.json"))
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    stolen = REMOVALS.make(TUNE)(tiny_victim(), tiny_data("attacker"), generator=torch.Generator().manual_seed(1))
    bare = ownership.extract(tiny_victim(), data="digits(size=8)", scheme=SCHEME, budget=QUERIES)
    null = {str(seed): tiny_net(seed=seed, part="calibration") for seed in range(10, 29)}
    chance, rows = random.Random(0), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.fp"
        write_fingerprint(ownership.calibrate(bare, null, pool="19 nets"), path)
        with ModelServer(Slow(stolen), (1, 8, 8)) as server:
            whole = verdict(command(path, server), Path(folder) / "whole")
        while len(rows) < options.kills:
            cache = Path(folder) / str(chance.random())
            with ModelServer(Slow(stolen), (1, 8, 8)) as server:
                typed = command(path, server)
                if not killed(typed, server, cache, chance):
                    continue  # nothing was left to go on with
                before = len(server.answered)
                found = verdict(typed, cache)
                queries = found["queries"]
                rows.append(
                    {
                        "answered_before": before,
                        "replayed": queries["replayed"],
                        "sentinels": queries["sentinels"],
                        "asked_again": sum(server.asked.values()) - len(server.asked) - queries["sentinels"],
                        "all_asked": len(server.asked) == QUERIES,
                        "same_verdict": without_spending(found) == without_spending(whole),
                        "said": any("replayed from a record" in caveat for caveat in found["caveats"])
                        == (queries["replayed"] > 0),
                    }
                )
            print(rows[-1], flush=True)
    document = {
        "queries": QUERIES,
        "kills": len(rows),
        "decision": whole["decision"],
        "in_flight_at_most": BATCH * CONCURRENCY,
        "most_asked_again": max(row["asked_again"] for row in rows),
        "same_verdicts": sum(row["same_verdict"] for row in rows),
        "said": sum(row["said"] for row in rows),
    }
    print(document)
    write_json(options.output, {**document, "machine": describe_machine("cpu").model_dump(), "rows": rows})


if __name__ == "__main__":
    main()
