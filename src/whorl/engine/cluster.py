"""Tasks run by a Ray cluster: the same tasks, results and errors as on one machine.

Ray places tasks on nodes and tells when a worker or a node dies; what is tried again and what is given up is decided
as for local processes. Models, fingerprints and data lie in a folder that all nodes share; results come back to the
process that drives the run, which alone writes the store. Ray moves code and arguments by pickle: whoever can reach
a cluster can run anything on it, so let nobody else.
"""

from __future__ import annotations

import logging
import socket
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from whorl.engine.tasks import Agenda, Task
from whorl.errors import MissingExtra, UsageError, WhorlError
from whorl.storage import one_line

__all__ = ["run_on_cluster"]

PATIENCE = 5.0  # seconds after which a cluster is asked again how many cores it has: nodes come and go
AHEAD = 2  # tasks handed to Ray for each core, so that a node need not wait for the driver between two tasks


def run_on_cluster(
    tasks: Mapping[Any, Task], address: str, *, folder: Path | None = None
) -> Iterator[tuple[Hashable, Any]]:
    """Yield (key, result) as tasks finish on a cluster, as `run_tasks` does.

    A task whose node died is tried again on another; one that killed its worker twice is given up.

    Parameters:
        address: ``HOST:PORT`` of the head, or ``auto`` on one of the nodes. The driver has to run on a node.
        folder: where the tasks read and write, under one path on every node.

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: no cluster answers there, no node has the GPUs that a task declares, or a node does not see
            ``folder`` or has another version of whorl.
        WhorlError: a task was given up. All that do not depend on it are done by then.
    """
    agenda = Agenda(tasks)
    if not tasks:
        return
    ray = _connected(address)
    with _probe(folder) as probe:
        _refuse_infeasible(ray, tasks)
        remote = ray.remote(max_retries=0, max_calls=0)(_on_node)
        running: dict[Any, Hashable] = {}
        try:
            while True:
                cores = int(ray.cluster_resources().get("CPU", 1))
                for key, task in agenda.take(AHEAD * cores - len(running)):
                    placed = remote.options(num_cpus=task.cpus, num_gpus=task.gpus, name=task.name or str(key))
                    running[placed.remote(task.function, task.arguments, probe, version("whorl"))] = key
                if not running:
                    break
                for reference in ray.wait(list(running), timeout=PATIENCE)[0]:
                    yield from _outcome(ray, agenda, reference, running.pop(reference))
            agenda.close()
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def _outcome(ray: Any, agenda: Agenda, reference: Any, key: Hashable) -> Iterator[tuple[Hashable, Any]]:
    """The result of a finished task, or none where it has to run again."""
    errors = ray.exceptions
    try:
        result = ray.get(reference)
    except errors.RayTaskError as error:
        if isinstance(error.cause, errors.RayError):
            raise _unable(error.cause) from None
        raise error.cause from None
    except errors.NodeDiedError:
        agenda.again(key)
    except (errors.WorkerCrashedError, errors.OutOfMemoryError):
        agenda.lost(key)
    except errors.RayError as error:
        raise _unable(error) from None
    else:
        agenda.done(key)
        yield key, result


def _unable(error: Exception) -> WhorlError:
    return WhorlError(f"a node cannot run a task ({one_line(error, 120)} …). Does it have the driver's environment?")


def _on_node(function: Callable[..., Any], arguments: tuple[Any, ...], probe: Path | None, driver: str) -> Any:
    """Run a task (on a node, in a process that is kept for the next one)."""
    if version("whorl") != driver:
        raise UsageError(f"a node has whorl {version('whorl')}, the driver {driver}; install the same on all nodes")
    if probe is not None and not probe.is_file():
        raise UsageError(
            f"a node of the cluster does not see {probe.parent}: the cache must be one folder that all nodes share "
            "under the same path. Name it with --cache"
        )
    torch.set_num_threads(1)
    return function(*arguments)


def _connected(address: str) -> Any:
    """Ray, connected. The connection lasts as long as the process, so that nodes keep their workers between stages."""
    try:
        import ray
    except ImportError:
        raise MissingExtra("running on a cluster", "ray") from None
    try:
        place = address if address == "auto" else _knock(address)
        if not ray.is_initialized():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (RuntimeError, ValueError, OSError) as error:
        raise UsageError(
            f"no Ray cluster answers at {address!r} ({one_line(error, 120)}). Begin one with: ray start --head"
        ) from None
    connected = ray.get_runtime_context().gcs_address
    if place not in ("auto", connected):
        raise UsageError(f"this process is connected to the cluster at {connected}; {address} needs one of its own")
    return ray


def _knock(address: str) -> str:
    """The numeric form of the address. Raises `OSError` or `ValueError` at once where Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as door:
        return f"{door.getpeername()[0]}:{port}"


@contextmanager
def _probe(folder: Path | None) -> Iterator[Path | None]:
    """A file that only those see who share the folder."""
    if folder is None:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.absolute() / f".probe-{uuid.uuid4().hex}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _refuse_infeasible(ray: Any, tasks: Mapping[Any, Task]) -> None:
    """Ray would wait for such a node for good."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for kind, needed in (
        ("CPU", [task.cpus for task in tasks.values()]),
        ("GPU", [task.gpus for task in tasks.values()]),
    ):
        most = max((node.get(kind, 0) for node in nodes), default=0)
        if max(needed) > most:
            raise UsageError(f"a task needs {max(needed):g} {kind}; no node of the cluster has more than {most:g}")
