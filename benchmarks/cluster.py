"""The same tasks on a Ray cluster and on worker processes of this machine: equal to the bit, and how fast.

The tasks are fingerprints, and models judged by them, of a small suite. Both sides have as many cores, one thread each
and warm processes. Throughput is tasks per second of wall-clock time. A turn is made of slices in which the two sides
alternate, so that other load of the machine meets both; its ratio is the cluster's throughput over the local one's.

Begin a cluster of two nodes of one core each on this machine (Ray takes 127.0.0.1 for the network's address):

    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$(openssl rand -hex 32) RAY_USAGE_STATS_ENABLED=0
    ray start --head --node-ip-address=127.0.0.2 --port=6400 --num-cpus=1 --include-dashboard=false
    ray start --address=127.0.0.2:6400 --node-ip-address=127.0.0.3 --num-cpus=1

Run: python benchmarks/cluster.py 127.0.0.2:6400 [-o benchmarks/results/cluster.json]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from whorl.bench.result import describe_machine
from whorl.bench.work import judge
from whorl.data import SOURCES
from whorl.engine.tasks import Task
from whorl.engine.workers import Workers, run_tasks
from whorl.fingerprints.files import write_fingerprint
from whorl.schemes import SCHEMES
from whorl.storage import write_json
from whorl.suites.rows import models
from whorl.zoo.cache import Zoo

CORES = 2  # of each side: two nodes of one, or two processes
TURNS, SLICES = 3, 4
SETTINGS = "digits(size=16), epochs=4"
COLUMNS = ("random", "fgsm", "igsm", "ipguard(margin=7)")


def prepared(folder: Path) -> tuple[list[str], tuple[str, ...]]:
    """Models under test and fingerprints of one victim, made by the local processes."""
    victim, *suspects = models("resnet8(width=8)", SETTINGS, range(9))
    zoo = Zoo(folder)
    zoo.build([victim, *suspects], workers=CORES)
    data, paths = SOURCES.make("digits(size=16)").load("queries"), []
    for number, column in enumerate(COLUMNS):
        fingerprint = SCHEMES.make(column).extract(zoo.oracle(victim), data, budget=100)
        paths.append(str(folder / f"{number}.safetensors"))
        write_fingerprint(fingerprint, paths[-1])
    return [str(suspect) for suspect in suspects], tuple(paths)


def warm(tasks: dict[int, Task], folder: Path) -> dict[Any, Task]:
    """The same tasks after one for each process, which wait for each other: none is timed while others start."""
    meeting = Path(tempfile.mkdtemp(dir=folder))
    first = {("meet", number): Task(meet, (str(meeting), number)) for number in range(CORES)}
    return first | {key: replace(task, after=tuple(first)) for key, task in tasks.items()}


def meet(folder: str, number: int) -> None:
    """Wait until all processes are here, with the libraries imported."""
    import whorl.schemes  # noqa: F401

    Path(folder, str(number)).touch()
    while len(list(Path(folder).iterdir())) < CORES:
        time.sleep(0.01)


def timed(tasks: dict[int, Task], workers: Workers, folder: Path) -> tuple[float, dict[Any, Any]]:
    """Seconds from when all processes are there, and the answers."""
    answers: dict[Any, Any] = {}
    started = 0.0
    for key, answer in run_tasks(warm(tasks, folder), workers=workers, folder=folder):
        if answer is None:
            started = time.perf_counter()
        else:
            answers[key] = untimed(answer)
    return time.perf_counter() - started, answers


def untimed(answer: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {path: {name: value for name, value in cell.items() if name != "seconds"} for path, cell in answer.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="the cluster's HOST:PORT")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/cluster.json"))
    parser.add_argument("--repeat", type=int, default=12, help="how often each of the eight suspects is judged")
    options = parser.parse_args()
    turns: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        suspects, paths = prepared(folder)
        tasks = {
            number: Task(judge, (suspect, paths, 0.05, text, "cpu"))
            for number, suspect in enumerate(suspects * options.repeat)
        }
        for _ in range(TURNS):
            seconds: dict[Workers, float] = {CORES: 0.0, options.address: 0.0}
            equal = True
            for number in range(SLICES):
                order = list(seconds) if number % 2 else list(seconds)[::-1]
                done = {workers: timed(tasks, workers, folder) for workers in order}
                seconds = {workers: spent + done[workers][0] for workers, spent in seconds.items()}
                equal = equal and done[CORES][1] == done[options.address][1]
            local, cluster = (len(tasks) * SLICES / spent for spent in seconds.values())
            turns.append({"local": local, "cluster": cluster, "ratio": cluster / local, "equal": equal})
            turns[-1]["load"] = os.getloadavg()[0]
            print(turns[-1], flush=True)
    document = {
        "machine": describe_machine("cpu").model_dump(),
        "nodes": CORES,
        "cores_each": 1,
        "tasks_a_slice": len(tasks),
        "cells_a_slice": len(tasks) * len(paths),
        "slices_a_turn": SLICES,
        "equal_to_the_bit": all(each["equal"] for each in turns),
        "turns": turns,
        "median_ratio": statistics.median(each["ratio"] for each in turns),
    }
    write_json(options.output, document)


if __name__ == "__main__":
    main()
