"""Tasks that depend on each other, and which of them may begin."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from whorl.errors import WhorlError

__all__ = ["Agenda", "Task"]

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
