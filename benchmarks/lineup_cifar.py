"""A victim that a plain PyTorch script trained on real pictures, and its lineup: copies, thieves and strangers.

The script (plain/train.py) has an optimiser, a schedule and an augmentation of its own; whorl sees a file of weights, a
module that makes the net, and a command with ``{seed}`` and ``{out}``. The owner has 10,000 pictures of CIFAR-10,
thieves and some strangers 20,000 others; questions come from the owner's pictures and from 5,000 that no model learned.
Everything goes through the verbs ``whorl extract`` and ``whorl twins``; ranks by number of questions are read from the
lineup that these leave. One victim: orders, no rates.

Run: python benchmarks/lineup_cifar.py CIFAR10-FOLDER [--work FOLDER] [-o benchmarks/results/lineup-cifar10.json]
"""

from __future__ import annotations

import argparse
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from lineup_power import standing

import whorl
from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.fingerprints.secret import read_secret, secret_path
from whorl.oracles.base import Oracle
from whorl.schemes.opening import read_fingerprint
from whorl.storage import write_json

PLAIN = Path(__file__).parent / "plain"
OWNERS, THIEVES, HELD_OUT = 10_000, 20_000, 5_000
COPIES = {
    "fine-tuned on other pictures": "--start {victim} --epochs 2 --rate 0.001",
    "fine-tuned for long at a high rate": "--start {victim} --epochs 6 --rate 0.01",
    "labels, same net": "--teacher {victim} --answers labels",
    "probabilities, same net": "--teacher {victim} --answers probabilities",
    "labels, wider net": "--teacher {victim} --answers labels --net wide",
    "probabilities, wider net": "--teacher {victim} --answers probabilities --net wide",
}
STRANGERS = {
    **{f"same script, same pictures {number}": ("owner", "") for number in (1, 2, 3)},
    **{f"same script, other pictures {number}": ("thief", "") for number in (1, 2)},
    **{f"wider net, same pictures {number}": ("owner", "--net wide") for number in (1, 2)},
}


def split(source: Path, work: Path) -> None:
    """The owner's and the thief's pictures, and a folder as whorl's own ``cifar10`` reads it."""
    table = pq.read_table(next(source.glob("train-*.parquet")))
    for name, first, count in (("owner", 0, OWNERS), ("thief", OWNERS, THIEVES)):
        (work / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(table.slice(first, count), work / name / "train.parquet")
    asked = work / "asked"
    asked.mkdir(exist_ok=True)
    pq.write_table(table.slice(0, OWNERS), asked / "train-0.parquet")
    pq.write_table(pq.read_table(next(source.glob("test-*.parquet"))).slice(0, HELD_OUT), asked / "test-0.parquet")


def train(work: Path, name: str, data: str, more: str = "") -> Path:
    """One model of the plain script, with a secret seed of its own."""
    out = work / f"{name.replace(' ', '-').replace(',', '')}.safetensors"
    if not out.exists():
        command = [sys.executable, str(PLAIN / "train.py"), "--seed", str(secrets.randbits(128) | 1 << 127)]
        subprocess.run([*command, "--data", str(work / data), "--out", str(out), *shlex.split(more)], check=True)
        print(f"trained: {name}", flush=True)
    return out


def verb(*words: str | Path) -> None:
    """One of whorl's verbs, as an owner types it."""
    net = ["--architecture", "plain_net:make", "--trust-code", "--shape", "3,32,32", "--classes", "10"]
    command = [sys.executable, "-c", "from whorl.cli.app import main; main()", *map(str, words), *net]
    subprocess.run(command, check=True, cwd=PLAIN)  # where plain_net lies


def lined_up(work: Path) -> tuple[Path, float]:
    """The fingerprint with its lineup of 19 twins, and the seconds that the twins took."""
    victim, fingerprint, started = work / "victim.safetensors", work / "mine.fp", time.perf_counter()
    seed = work / "seed.txt"
    if not seed.exists():
        seed.write_text(str(secrets.randbits(128) | 1 << 127))
    command = (
        f"{shlex.join([sys.executable, str(PLAIN / 'train.py')])} --data {work / 'owner'} --seed {{seed}} --out {{out}}"
    )
    if not victim.exists():
        subprocess.run(shlex.split(command.format(seed=seed.read_text(), out=victim)), check=True)
    data = f'cifar10(path="{work / "asked"}")'
    if not fingerprint.exists():
        verb("extract", victim, "--scheme", "random", "--budget", "1", "--data", data, "-o", fingerprint)
    if not secret_path(fingerprint).exists():
        known = ["--victim-seed", seed.read_text(), "--questions", "3000"]
        verb("twins", fingerprint, "--victim", victim, "--command", command, "-n", "19", *known)
    return fingerprint, time.perf_counter() - started


def opened(path: Path, net: str) -> Oracle:
    """A suspect as an oracle."""
    return whorl.open_oracle(
        path, architecture=f"plain_net:{net}", input_shape=(3, 32, 32), classes=10, trust_code=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lineup-cifar10")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/lineup-cifar10.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, str(PLAIN))
    work = options.work.absolute()
    split(options.source, work)
    path, seconds = lined_up(work)
    made, place = read_fingerprint(path), read_secret(secret_path(path)).place
    held_out = SOURCES.make(f'cifar10(path="{work / "asked"}")').load("test")
    rows: list[dict[str, Any]] = []
    tested = [(label, "copy", "thief", how.format(victim=work / "victim.safetensors")) for label, how in COPIES.items()]
    tested += [(label, "stranger", data, how) for label, (data, how) in STRANGERS.items()]
    for label, kind, data, how in tested:
        suspect = opened(train(work, label, data, how), "wide" if "wide" in how else "make")
        accuracy = float((suspect.labels(held_out.inputs()) == held_out.labels).double().mean())
        rows += [
            {"label": label, "kind": kind, "accuracy": round(accuracy, 4), **each}
            for each in standing(made, place, suspect, len(made.candidates.inputs))
        ]
        print(f"{label}: accuracy {accuracy:.3f}, ranks {[each['rank'] for each in rows if each['label'] == label]}")
    write_json(
        options.output,
        {
            "twins": 19,
            "questions": len(made.candidates.inputs),
            "pictures": {"owner": OWNERS, "thief": THIEVES},
            "figures": made.candidates.settings["figures"],
            "victim_is": place,
            "rows": rows,
            "seconds": round(seconds, 1),
            "machine": describe_machine("cpu").model_dump(),
        },
    )


if __name__ == "__main__":
    main()
