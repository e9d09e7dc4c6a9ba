"""Tasks that depend on each other, run by worker processes of this machine or by a Ray cluster.

A task is a pure function of picklable arguments that leaves its result in a file or returns it; whoever calls keeps
results as they arrive, so a run that is killed loses only what was in flight. Every worker process has a pipe of its
own: when it is killed, it is known which task it had, that one is tried again, and the others never notice.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from whorl.errors import WhorlError

__all__ = ["Agenda", "Task", "Workers", "gpus_of", "run_tasks"]

Workers = int | str
"""Processes of this machine (0: one per core; 1: this process), or the address of a Ray cluster."""

TRIES = 2  # workers that a task may kill: the first may have had too little memory beside others


@dataclass(frozen=True)
class Task:
    """``function(*arguments)``, to run after the tasks named in ``after``.

    ``name`` is what errors call it; ``cpus`` and ``gpus`` are what it takes of a node of a cluster.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    after: tuple[Hashable, ...] = ()
    name: str = ""
    cpus: float = 1
    gpus: float = 0


def gpus_of(device: str) -> float:
    """What a task on that device takes of a node's GPUs."""
    return float(device.startswith("cuda"))


def run_tasks(
    tasks: Mapping[Any, Task], *, workers: Workers = 0, folder: Path | None = None
) -> Iterator[tuple[Hashable, Any]]:
    """Yield (key, result) as tasks finish. ``after`` may name keys that are not in ``tasks``: those are done.

    Parameters:
        workers: processes, each with one thread; or the address of a Ray cluster.
        folder: where the tasks read and write; every node of a cluster must see it.

    Raises:
        WhorlError: a task killed its worker twice. All that do not depend on it are done by then.
    """
    if isinstance(workers, str):
        from whorl.engine.cluster import run_on_cluster

        return run_on_cluster(tasks, workers, folder=folder)
    workers = min(workers or os.cpu_count() or 1, max(1, len(tasks)))
    return _run_here(tasks) if workers == 1 else _run_in_processes(tasks, workers)


class Agenda:
    """Which tasks may begin, which have to be tried again, and which were given up."""

    def __init__(self, tasks: Mapping[Any, Task]) -> None:
        self._tasks = tasks
        self._lost: Counter[Hashable] = Counter()
        self._given_up: list[Hashable] = []
        self._left = len(tasks)
        graph = {key: [each for each in task.after if each in tasks] for key, task in tasks.items()}
        self._order: TopologicalSorter[Hashable] = TopologicalSorter(graph)
        try:
            self._order.prepare()
        except CycleError as error:
            raise WhorlError(f"tasks wait for each other in a circle: {sorted(map(str, error.args[1]))[:3]}") from None
        self._ready: deque[Hashable] = deque(self._order.get_ready())

    def take(self, count: int) -> Iterator[tuple[Hashable, Task]]:
        """At most ``count`` tasks that may begin now."""
        while self._ready and count > 0:
            count -= 1
            key = self._ready.popleft()
            yield key, self._tasks[key]

    def done(self, key: Hashable) -> None:
        """A task has finished, so those after it may begin."""
        self._left -= 1
        self._order.done(key)
        self._ready.extend(self._order.get_ready())

    def lost(self, key: Hashable) -> None:
        """A task killed its worker: once more, or never again."""
        self._lost[key] += 1
        if self._lost[key] < TRIES:
            self._ready.append(key)
        else:
            self._given_up.append(key)

    def again(self, key: Hashable) -> None:
        """A task lost its worker through no fault of its own."""
        self._ready.append(key)

    def close(self) -> None:
        """Raise `WhorlError` where a task was given up."""
        if not self._given_up:
            return
        names = "; ".join(self._tasks[key].name or str(key) for key in self._given_up[:3])
        blocked = self._left - len(self._given_up)
        raise WhorlError(
            f"{len(self._given_up)} of {len(self._tasks)} tasks killed their worker {TRIES} times, for want of memory "
            f"perhaps: {names}{'; …' if len(self._given_up) > 3 else ''}. "
            + (f"{blocked} wait for them. " if blocked else "")
            + "All others are done and kept; run the same again, with fewer workers"
        )


def _run_here(tasks: Mapping[Any, Task]) -> Iterator[tuple[Hashable, Any]]:
    agenda = Agenda(tasks)
    while begun := list(agenda.take(len(tasks))):
        for key, task in begun:
            result = task.function(*task.arguments)
            agenda.done(key)
            yield key, result


def _run_in_processes(tasks: Mapping[Any, Task], workers: int) -> Iterator[tuple[Hashable, Any]]:
    agenda = Agenda(tasks)
    idle = [_Worker() for _ in range(workers)]
    running: dict[Connection, tuple[Hashable, _Worker]] = {}
    try:
        while True:
            for key, task in agenda.take(len(idle)):
                worker = _given(task, idle.pop())
                running[worker.pipe] = key, worker
            if not running:
                break
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                key, worker = running.pop(pipe)
                try:
                    result, error = pipe.recv()
                except (EOFError, ConnectionResetError):
                    worker.end()
                    idle.append(_Worker())
                    agenda.lost(key)
                    continue
                idle.append(worker)
                if error is not None:
                    raise error
                agenda.done(key)
                yield key, result
        agenda.close()
    finally:  # whoever interrupts does not want to wait for the models in flight
        for worker in (*idle, *(worker for _, worker in running.values())):
            worker.end()


class _Worker:
    """A process that does one task after another, each as it comes through ``pipe``."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a forked torch can hang in its thread pool
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,))
        self._process.start()
        theirs.close()  # so that the pipe ends when the process does

    def end(self) -> None:
        """End the process, whatever it does."""
        self.pipe.close()
        self._process.terminate()
        self._process.join()


def _given(task: Task, worker: _Worker) -> _Worker:
    """Who has the task now: somebody new where the worker was killed while it waited."""
    try:
        worker.pipe.send((task.function, task.arguments))
    except (BrokenPipeError, ConnectionResetError):
        worker.end()
        return _given(task, _Worker())
    return worker


def _work(pipe: Connection) -> None:
    """What a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends this
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((function(*arguments), None))
        except Exception as error:
            error.add_note(traceback.format_exc())  # the stack does not travel
            pipe.send((None, error))


def _end_with_parent() -> None:
    """A parent that is killed says nothing, and a task would go on for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
