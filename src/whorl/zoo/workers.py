"""Tasks that depend on each other, run by worker processes on one machine.

A task is a pure function of picklable arguments that leaves its result in a file or returns it; whoever calls keeps
results as they arrive, so a run that is killed loses only what was in flight.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import torch

from whorl.errors import WhorlError

__all__ = ["Task", "run_tasks"]


@dataclass(frozen=True)
class Task:
    """``function(*arguments)``, to run after the tasks named in ``after``."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    after: tuple[Hashable, ...] = ()


def run_tasks(tasks: Mapping[Any, Task], *, workers: int = 0) -> Iterator[tuple[Hashable, Any]]:
    """Yield (key, result) as tasks finish. ``after`` may name keys that are not in ``tasks``: those are done.

    Parameters:
        workers: processes, each with one thread; 0 for one per core, 1 to run in this process.
    """
    workers = min(workers or os.cpu_count() or 1, max(1, len(tasks)))
    if workers == 1:
        yield from _run_here(tasks)
        return
    context = multiprocessing.get_context("spawn")  # a forked torch can hang in its thread pool
    waiting = dict(tasks)
    running: dict[Future[Any], Hashable] = {}
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker)
    try:
        while waiting or running:
            for key in _ready(waiting, running)[: 2 * workers - len(running)]:
                task = waiting.pop(key)
                running[pool.submit(task.function, *task.arguments)] = key
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()
    except BrokenProcessPool:
        raise WhorlError("a worker process was killed; what it had finished is kept, so run the same again") from None
    finally:
        # Whoever interrupts does not want to wait for the models in flight.
        pool.shutdown(wait=not (waiting or running), cancel_futures=True)


def _run_here(tasks: Mapping[Any, Task]) -> Iterator[tuple[Hashable, Any]]:
    waiting = dict(tasks)
    while waiting:
        for key in _ready(waiting, {}):
            task = waiting.pop(key)
            yield key, task.function(*task.arguments)


def _ready(waiting: Mapping[Any, Task], running: Mapping[Future[Any], Hashable]) -> list[Hashable]:
    blocked = waiting.keys() | set(running.values())
    ready = [key for key, task in waiting.items() if not blocked.intersection(task.after)]
    if not ready and not running:
        raise WhorlError(f"tasks wait for each other in a circle: {sorted(map(str, waiting))[:3]}")
    return ready


def _start_worker() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed says nothing, and a worker would wait for its next task forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
