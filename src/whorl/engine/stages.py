"""A job of many tasks, stage by stage: where it runs, what is kept of it, and how it tells of itself.

Whatever builds or asks many things goes through here, so that workers, clusters, devices, resuming and progress are the
same everywhere. A stage makes files, or cells of the store; what is there already is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from whorl.engine.store import Store
from whorl.engine.tasks import Task
from whorl.engine.workers import Workers, run_tasks

__all__ = ["Progress", "Stages"]

Progress = Callable[[str, int, int], None]
"""(stage, done, total)"""
Group = TypeVar("Group", bound=Hashable)


class Stages:
    """The stages of one job.

    Parameters:
        folder: the cache, which every node of a cluster must see.
        workers: processes; 0 for one per core; or the address of a Ray cluster.
        device: where nets train and answer. Where it is a GPU, each task takes one of a node's.
        fresh: forget what is kept, and make it again.
        progress: told at the beginning of each stage and after each task, once its result is kept.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: Workers = 0,
        device: str = "cpu",
        fresh: bool = False,
        progress: Progress = lambda _stage, _done, _of: None,
    ) -> None:
        self.folder = folder.absolute()  # a node of a cluster stands elsewhere
        self.workers, self.device, self.fresh, self.progress = workers, device, fresh, progress

    @cached_property
    def store(self) -> Store:
        """Results by content hash."""
        return Store(self.folder / "results.sqlite")

    def task(self, function: Callable[..., Any], *arguments: Any, name: str, after: tuple[Hashable, ...] = ()) -> Task:
        """``function(*arguments, folder, device)``, to be run by a worker."""
        gpus = float(self.device.startswith("cuda"))
        return Task(function, (*arguments, str(self.folder), self.device), after, name=name, gpus=gpus)

    def run(self, stage: str, tasks: Mapping[Any, Task], total: int) -> Iterator[tuple[Any, Any]]:
        """Key and result of the tasks that are left of a stage's ``total``, as they finish."""
        done = total - len(tasks)
        self.progress(stage, done, total)
        for each in run_tasks(tasks, workers=self.workers, folder=self.folder):
            yield each  # whoever asks keeps it before it counts as done
            done += 1
            self.progress(stage, done, total)

    def files(self, stage: str, tasks: Mapping[str, Task]) -> dict[str, Any]:
        """Make the files at these paths that are not there, and give what making each returned."""
        for path in tasks if self.fresh else ():
            Path(path).unlink(missing_ok=True)
        left = {path: task for path, task in tasks.items() if not Path(path).is_file()}
        return dict(self.run(stage, left, len(tasks)))

    def cells(
        self,
        stage: str,
        groups: Mapping[Group, Mapping[str, str]],
        asked: Callable[[Group, tuple[str, ...]], Task],
    ) -> None:
        """Fill in the cells of the store that are missing.

        Parameters:
            groups: the keys of the cells that one task fills, by name, so that a worker opens a model once for all.
            asked: the task that fills those of a group that are left; it returns a document for each name.
        """
        if self.fresh:
            self.store.forget(key for keys in groups.values() for key in keys.values())
        missing = self.store.missing(key for keys in groups.values() for key in keys.values())
        left = {group: tuple(name for name, key in keys.items() if key in missing) for group, keys in groups.items()}
        tasks = {group: asked(group, names) for group, names in left.items() if names}
        for group, documents in self.run(stage, tasks, len(groups)):
            self.store.put_many({groups[group][name]: document for name, document in documents.items()})
