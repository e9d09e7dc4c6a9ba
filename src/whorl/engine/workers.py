"""Tasks run by worker processes of this machine or by a Ray cluster.

A task is a pure function of picklable arguments that leaves its result in a file or returns it; whoever calls keeps
results as they arrive, so a run that is killed loses only what was in flight. Every worker process has a pipe of its
own: when it is killed, it is known which task it had, that one is tried again, and the others never notice.

A worker begins by importing the script that runs, as Python's own `multiprocessing` has it. A script that would then
run all over again keeps its tasks in its own process.
"""

from __future__ import annotations

import ast
import gc
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Hashable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from whorl.engine.beginning import context
from whorl.engine.cluster import run_on_cluster
from whorl.engine.tasks import Agenda, Task
from whorl.errors import UsageError

__all__ = ["Workers", "run_tasks"]

Workers = int | str
"""Processes of this machine (0: one per core; 1: this process), or the address of a Ray cluster."""

GUARD = "`if __name__ == '__main__':`"
UNGUARDED = 78  # exit code of a worker whose script began workers while the worker imported it; sysexits: EX_CONFIG


def run_tasks(
    tasks: Mapping[Any, Task], *, workers: Workers = 0, folder: Path | None = None
) -> Iterator[tuple[Hashable, Any]]:
    """Yield (key, result) as tasks finish. ``after`` may name keys that are not in ``tasks``: those are done.

    Parameters:
        workers: processes, each with one thread; or the address of a Ray cluster.
        folder: where the tasks read and write; every node of a cluster must see it.

    Raises:
        UsageError: the script that runs begins workers outside of its guard, and so would each of them.
        WhorlError: a task killed its worker twice. All that do not depend on it are done by then.
    """
    if isinstance(workers, str):
        return run_on_cluster(tasks, workers, folder=folder)
    workers = min(workers or os.cpu_count() or 1, max(1, len(tasks)))
    if workers > 1 and (why := _why_alone()):
        warnings.warn(f"one process does everything, with no other workers: {why}", RuntimeWarning, stacklevel=2)
        workers = 1
    return _run_here(tasks) if workers == 1 else _run_in_processes(tasks, workers)


def _script() -> str | None:
    """The file that a worker would import, as Python names it; None where there is none, as in a notebook."""
    return getattr(sys.modules["__main__"], "__file__", None)


def _why_alone() -> str:
    """Why no worker can begin here, or would run the script again; empty where it can, as far as can be seen."""
    if multiprocessing.current_process().daemon:
        return "this process is one of a pool, whose processes begin no others"
    script = _script()
    if script is None or not script.endswith((".py", ">")):
        return ""  # nothing to import, or a launcher
    try:
        tree = ast.parse(Path(script).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return f"they begin by importing the script, and {script} is no file"
    guarded = any(isinstance(node, ast.If) and "__name__" in ast.unparse(node.test) for node in tree.body)
    return "" if guarded else f"they would run {script} again, which has no {GUARD}"


def _run_here(tasks: Mapping[Any, Task]) -> Iterator[tuple[Hashable, Any]]:
    agenda = Agenda(tasks)
    while begun := list(agenda.take(len(tasks))):
        for key, task in begun:
            result = task.function(*task.arguments)
            agenda.done(key)
            yield key, result


def _run_in_processes(tasks: Mapping[Any, Task], workers: int) -> Iterator[tuple[Hashable, Any]]:
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # a worker that is importing its script
        sys.stdout.flush()
        os._exit(UNGUARDED)  # the code of a plain exit is lost on the way through a server of forks
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
                    worker.bury()
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
        begun = context()
        self.pipe, theirs = begun.Pipe()
        # The environment is that of now, not that of when the server of forks began.
        self._process = begun.Process(target=_work, args=(theirs, dict(os.environ)))
        self._process.start()
        theirs.close()  # so that the pipe ends when the process does

    def bury(self) -> None:
        """End a process that closed its pipe. Raises `UsageError` where no other would do better."""
        self._process.join(1)
        code = self._process.exitcode
        self.end()
        if code == UNGUARDED:
            raise UsageError(
                f"workers begin by importing {_script()}, which then begins workers itself: put what it runs under "
                f"{GUARD}, or give workers=1"
            ) from None

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
        worker.bury()
        return _given(task, _Worker())
    return worker


def _work(pipe: Connection, environment: dict[str, str]) -> None:
    """What a worker process does."""
    gc.freeze()  # a search for cycles would write to, and so copy, all memory that workers share
    os.environ.clear()
    os.environ.update(environment)
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
