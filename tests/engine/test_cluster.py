"""The same tasks on a real Ray cluster of two nodes: the same results to the bit, also when one of them dies."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
from two_nodes import ADDRESSES, ENVIRONMENT, TwoNodes, meet

from whorl.bench.runner import run
from whorl.engine.store import Store
from whorl.engine.tasks import Task
from whorl.engine.workers import run_tasks
from whorl.errors import MissingExtra, UsageError, WhorlError
from whorl.suites.suite import Derived, Suite
from whorl.zoo.recipe import parse_recipe

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="two loopback addresses and /proc are Linux's"),
    pytest.mark.timeout(600),
]


def models(architecture, seeds, settings="digits(size=8), epochs=3"):
    return tuple(parse_recipe(f"train({architecture}, {settings}, seed={seed})") for seed in seeds)


SUITE = Suite(
    name="tiny",
    about="digits at 8 px; perceptrons",
    data="digits(size=8)",
    victims=models("mlp(width=16)", (0,)),
    derived=(Derived("int8", "quantise(int8)"), Derived("FTLL", "fine_tune(last, epochs=1)")),
    independents={
        "same": models("mlp(width=16)", (10,)),
        "forest": models("random_forest(trees=5)", (12,), "digits(8)"),
    },
    null=models("mlp(width=16)", (20, 21)),
    schemes={"random": "random", "fgsm": "fgsm"},
    budget=20,
    alpha=0.3,
)


@pytest.fixture(scope="module", autouse=True)
def _environment():
    with pytest.MonkeyPatch.context() as patched:
        for name, value in ENVIRONMENT.items():
            patched.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return run(SUITE, folder=tmp_path_factory.mktemp("local"), workers=1)


@pytest.fixture(scope="module")
def nodes():
    ray = pytest.importorskip("ray")
    # Not under pytest's own folder: the path of a Unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="whorl-", ignore_cleanup_errors=True) as folder:
        made = TwoNodes(Path(folder))
        try:
            yield made
        finally:
            ray.shutdown()
            made.stop()


def figures(result):
    """All that is not a time."""
    cells = [cell.model_copy(update={"seconds": 0.0}) for cell in result.cells]
    return cells, [extraction.null for extraction in result.extractions], result.refusals


def test_a_cluster_gives_the_same_cells_to_the_bit(nodes, local, tmp_path):
    stages = []
    result = run(SUITE, folder=tmp_path, workers=nodes.address, progress=lambda *call: stages.append(call))
    assert figures(result) == figures(local)
    assert len(Store(tmp_path / "results.sqlite")) == len(result.cells) == 8
    assert {stage: (done, total) for stage, done, total in stages} == {
        "models": (7, 7),
        "fingerprints": (2, 2),
        "suspects": (4, 4),
    }
    assert not list(tmp_path.glob(".probe*"))


def test_both_nodes_work_and_keep_their_processes(nodes, tmp_path):
    """Three rounds of two tasks that wait for each other."""
    tasks = {
        (turn, number): Task(meet, (tmp_path, turn), ((turn - 1, 0), (turn - 1, 1)))
        for turn in range(3)
        for number in range(2)
    }
    answers = list(run_tasks(tasks, workers=nodes.address, folder=tmp_path))
    assert len(answers) == 6
    assert {place for _, (place, _) in answers} == set(ADDRESSES)
    assert len({process for _, process in answers}) == 2


def test_errors_arrive_as_they_do_from_a_worker_process(nodes):
    with pytest.raises(ValueError, match="invalid literal"):
        list(run_tasks({0: Task(int, ("x",))}, workers=nodes.address))


def test_a_module_that_the_nodes_lack_is_one_clear_line(nodes, monkeypatch):
    module = ModuleType("only_here")
    exec("def work(): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with pytest.raises(WhorlError, match=r"No module named 'only_here'.*the driver's environment") as caught:
        list(run_tasks({0: Task(module.work, ())}, workers=nodes.address))
    assert "\n" not in str(caught.value)


def test_a_task_that_kills_its_workers_is_named_and_the_others_go_on(nodes):
    tasks = {0: Task(os._exit, (1,), name="the heavy one"), 1: Task(abs, (-1,), (0,)), 2: Task(abs, (-2,))}
    with pytest.raises(WhorlError, match=r"1 of 3 tasks .* the heavy one\. 1 wait") as caught:
        list(run_tasks(tasks, workers=nodes.address))
    assert "\n" not in str(caught.value)


def test_another_cluster_needs_another_process(nodes):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"connected to the cluster at {nodes.address}; {address} needs"):
            list(run_tasks({0: Task(abs, (-1,))}, workers=address))


def test_what_no_node_can_run_is_refused(nodes):
    with pytest.raises(UsageError, match="1 GPU; no node"):
        list(run_tasks({0: Task(abs, (-1,), gpus=1)}, workers=nodes.address))
    with pytest.raises(UsageError, match="64 CPU; no node"):
        list(run_tasks({0: Task(abs, (-1,), cpus=64)}, workers=nodes.address))


def test_a_folder_that_the_nodes_do_not_see_is_one_clear_line(nodes, tmp_path, monkeypatch):
    """The path leads every process elsewhere, as a disk of its own would."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="one folder that all nodes share") as caught:
        list(run_tasks({0: Task(abs, (-1,))}, workers=nodes.address, folder=Path("/proc/self/cwd/cache")))
    assert "\n" not in str(caught.value)


def test_a_node_that_dies_costs_nothing_but_time(nodes, local, tmp_path):
    """The second node is killed with kill -9 when the first fingerprint is there."""
    killed = []

    def kill(stage, done, total):
        if stage == "models" and done == 2 and not killed:
            nodes.kill(1)
            killed.append(done)

    result = run(SUITE, folder=tmp_path, workers=nodes.address, progress=kill)
    assert killed
    assert figures(result) == figures(local)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere", "ray://127.0.0.1:9"])
def test_no_cluster_is_one_clear_line(address):
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match="no Ray cluster answers") as caught:
        list(run_tasks({0: Task(abs, (-1,))}, workers=address))
    assert "\n" not in str(caught.value)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r'pip install "whorl\[ray\]"'):
        list(run_tasks({0: Task(abs, (-1,))}, workers="auto"))
