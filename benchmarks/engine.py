"""What the engine itself costs: planning, handing out, storing and resuming a run of up to a million cells.

The runner, the zoo, the store and the keys are the real ones; only the work inside the tasks is left out: a model is
its card, a fingerprint a file of one query, a judgement a made-up cell. Every figure is processor seconds of the
driver, because the machine may be shared. Figures for 10^8 cells follow the slope between the two largest runs, or a
straight line where that is steeper, and are marked as such.

Run: python benchmarks/engine.py [-o benchmarks/results/engine.json]
"""

from __future__ import annotations

import argparse
import gc
import math
import pickle
import random
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from whorl.bench import runner
from whorl.bench.result import describe_machine, read_result, write_result
from whorl.bench.work import costs_path, extract, judge
from whorl.engine import stages
from whorl.engine.store import Store, cell_key
from whorl.engine.tasks import Agenda, Task
from whorl.engine.workers import run_tasks
from whorl.fingerprints.files import write_fingerprint
from whorl.spaces import Pictures
from whorl.storage import write_json
from whorl.suites.rows import models
from whorl.suites.suite import Derived, Suite
from whorl.types import Fingerprint, Queries, Representation
from whorl.zoo.cache import Card, Zoo
from whorl.zoo.recipe import parse_recipe

SCHEMES = 30
SHAPES = ((10, 13, 20), (30, 31, 80), (100, 33, 300))  # victims, rows of copies, independent models
GOAL = 1e8
STEPS = ("plan models", "build", "plan fingerprints", "extract", "plan cells", "claim and store", "gather")


def suite_of(victims: int, rows: int, independents: int) -> Suite:
    """Every scheme on every victim; each copy meets its victim's fingerprints, each independent model all."""
    settings = "digits(size=8), epochs=1"
    return Suite(
        name="engine",
        about="hollow",
        data="digits(size=8)",
        victims=models("mlp(width=16)", settings, range(victims)),
        derived=tuple(Derived(f"row {row}", f"fine_tune(all, epochs=1, seed={row})") for row in range(rows)),
        independents={"same": models("mlp(width=16)", settings, range(10_000, 10_000 + independents))},
        null=models("mlp(width=16)", settings, range(20_000, 20_019)),
        schemes={f"ipguard {k}": f"ipguard(margin={k})" for k in range(1, SCHEMES + 1)},
    )


def hollow(tasks: Mapping[Any, Task], **_: object) -> Iterator[tuple[Hashable, Any]]:
    """Tasks in order, through the real agenda, with the work left out."""
    agenda = Agenda(tasks)
    while begun := list(agenda.take(2)):
        for key, task in begun:
            agenda.done(key)
            yield key, WORK.get(task.function, make_model)(*task.arguments)


def make_model(text: str, admitted: tuple[str, ...], folder: str, device: str) -> None:
    del admitted
    recipe = parse_recipe(text)
    fields = {"parents": [], "seed": 0, "part": "victim", "data": recipe.data, "accuracy": 0.9, "agreement": 0.9}
    fields |= {"victim_accuracy": 0.9, "damaged": False, "seconds": 1.0, "device": device}
    write_json(Zoo(Path(folder)).card_path(recipe), Card(recipe=text, digest=recipe.digest, **fields).model_dump())


def make_fingerprint(suite: Suite, victim: int, expression: str, _: int, path: str, *__: str) -> None:
    inputs, place = torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64)
    queries = Queries(inputs, {"seeds": inputs, "source": place, "target": place + 1, "loss": torch.zeros(1)})
    write_json(costs_path(path), {})
    made = Fingerprint(
        scheme=expression,
        victim=suite.victims[victim].digest,
        queries=queries,
        reference=Representation(place),
        space=Pictures((1, 8, 8)),
    )
    write_fingerprint(made, path)


def make_cells(recipe: str, paths: tuple[str, ...], *_: object) -> dict[str, dict[str, Any]]:
    chance = random.Random(recipe)
    return {
        path: {
            "similarity": chance.random(),
            "decision": "inconclusive",
            "p_value": chance.random(),
            "spent": 100,
            "needed": 17,
            "seconds": chance.random(),
        }
        for path in paths
    }


WORK = {extract: make_fingerprint, judge: make_cells}


class Clock:
    """Processor and wall seconds between the moments that a run reports."""

    def __init__(self) -> None:
        self.marks = [time.process_time()]

    def __call__(self, _: str, done: int, total: int) -> None:
        """The progress of a run."""
        if done == 0 or done == total:
            self.marks.append(time.process_time())

    def steps(self) -> dict[str, float]:
        """Seconds of each of `STEPS`."""
        spent = [after - before for before, after in zip(self.marks, self.marks[1:], strict=False)]
        return dict(zip(STEPS, spent, strict=True))


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    made = work()
    return time.process_time() - started, made


def resident(field: str) -> float:
    """MiB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measure(shape: tuple[int, int, int], folder: Path) -> dict[str, Any]:
    """One run from nothing and one that finds everything."""
    suite = suite_of(*shape)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    first = Clock()
    result = runner.run(suite, folder=folder, progress=first)
    first("", 0, 0)
    peak, cells = resident("VmHWM") - before, len(result.cells)
    resume, again = seconds(lambda: runner.run(suite, folder=folder))
    if again.cells != result.cells:
        raise RuntimeError("resumed with other cells")
    del again
    writing, _ = seconds(lambda: write_result(result, folder / "result.json"))
    reading, again = seconds(lambda: read_result(folder / "result.json"))
    if again != result:
        raise RuntimeError("read another result than was written")
    gc.collect()  # closes the stores, so that all is in the database itself
    return {
        "cells": cells,
        "victims": shape[0],
        "rows": shape[1],
        "independents": shape[2],
        "models": len(result.models) + len(suite.null),
        "fingerprints": len(result.extractions),
        "seconds": first.steps(),
        "resume": resume,
        "write_result": writing,
        "read_result": reading,
        "peak_mib": peak,
        "database_bytes": (folder / "results.sqlite").stat().st_size,
        "result_bytes": (folder / "result.json").stat().st_size,
        "suite_pickle_bytes": len(pickle.dumps(suite)),
    }


def store_rows(folder: Path, count: int = 100_000) -> dict[str, float]:
    """Microseconds of processor time a cell: one by one, and in batches as a suspect's cells are."""
    documents = {
        cell_key(number=n): document
        for n, document in enumerate(make_cells("", tuple(map(str, range(count)))).values())
    }
    keys = list(documents)
    one, many = Store(folder / "one.sqlite"), Store(folder / "many.sqlite")

    def microseconds(work: Any) -> float:
        started = time.process_time()
        work()
        return (time.process_time() - started) / count * 1e6

    def put_batches() -> None:
        for first in range(0, count, 300):
            many.put_many({key: documents[key] for key in keys[first : first + 300]})

    return {
        "cells": count,
        "key": microseconds(
            lambda: [cell_key(format=1, suspect="0" * 20, fingerprint="0" * 64, alpha=n) for n in range(count)]
        ),
        "put_one": microseconds(lambda: [one.put(key, document) for key, document in documents.items()]),
        "put_300": microseconds(put_batches),
        "ask_one": microseconds(lambda: [key in many for key in keys]),
        "ask_all": microseconds(lambda: many.missing(keys)),
        "get_one": microseconds(lambda: [many.get(key) for key in keys]),
        "get_all": microseconds(lambda: many.get_many(keys)),
    }


def hand_out(count: int = 100_000, dispatched: int = 2000) -> dict[str, float]:
    """Microseconds a task: the agenda alone (processor), and empty tasks over two warm worker processes (wall)."""
    tasks = {number: Task(abs, (-1,), (number - 1,)) for number in range(count)}
    started = time.process_time()
    for _ in hollow_agenda(tasks):
        pass
    agenda = (time.process_time() - started) / count * 1e6
    answers = run_tasks({number: Task(abs, (-1,)) for number in range(dispatched)}, workers=2)
    for _ in range(dispatched // 2):  # the first tasks wait for the processes
        next(answers)
    started = time.perf_counter()
    rest = sum(1 for _ in answers)
    return {"agenda_cpu": agenda, "dispatch_wall": (time.perf_counter() - started) / rest * 1e6}


def hollow_agenda(tasks: Mapping[Any, Task]) -> Iterator[Hashable]:
    agenda = Agenda(tasks)
    while begun := list(agenda.take(2)):
        for key, _ in begun:
            agenda.done(key)
            yield key


def extrapolated(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """At 10^8 cells, by the power law through the two largest runs."""
    small, large = runs[-2:]

    def at_goal(figure: Any) -> dict[str, float]:
        slope = max(1.0, math.log(figure(large) / figure(small)) / math.log(large["cells"] / small["cells"]))
        return {"slope": slope, "value": figure(large) * (GOAL / large["cells"]) ** slope}

    steps = ("plan cells", "claim and store", "gather")
    return {
        "cells": GOAL,
        "how": "power law through the two largest runs, at least linear; not measured",
        "cpu_seconds": {step: at_goal(lambda run, step=step: run["seconds"][step]) for step in steps},
        "resume_cpu_seconds": at_goal(lambda run: run["resume"]),
        "peak_mib": at_goal(lambda run: run["peak_mib"]),
        "database_bytes": at_goal(lambda run: run["database_bytes"]),
        "result_bytes": at_goal(lambda run: run["result_bytes"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/engine.json"))
    parser.add_argument("--smallest", action="store_true", help="only the two smaller runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, tasks = store_rows(Path(folder)), hand_out()
    print(rows, tasks, flush=True)
    stages.run_tasks = hollow
    runs = []
    for shape in SHAPES[:2] if options.smallest else SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            runs.append(measure(shape, Path(folder)))
        print(runs[-1], flush=True)
    document = {
        "machine": describe_machine("cpu").model_dump(),
        "schemes": SCHEMES,
        "store_microseconds": rows,
        "task_microseconds": tasks,
        "runs": runs,
        "extrapolated": extrapolated(runs),
    }
    write_json(options.output, document)


if __name__ == "__main__":
    main()
