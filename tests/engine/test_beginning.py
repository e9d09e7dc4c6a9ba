"""Workers are forks of one process that has imported torch, from nobody's folder, and see their parent as it is now."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from whorl.engine.tasks import Task
from whorl.engine.workers import run_tasks

SOURCE = str(Path(__file__).parents[2] / "src")
SCRIPT = """
import sys
from whorl.engine.tasks import Task
from whorl.engine.workers import run_tasks

if __name__ == "__main__":
    print(sorted(run_tasks({number: Task(pow, (number, 2)) for number in range(3)}, workers=2)))
"""
# Elsewhere workers are new interpreters, which `whorl.engine.beginning` says why; the other tests here hold there too.
forked = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux alone")


def seen(name):
    return os.getppid(), os.environ.get(name)


def ask(name):
    return dict(run_tasks({number: Task(seen, (name,)) for number in range(2)}, workers=2))


def run(folder, **changes):
    """What the script says, begun from another folder than its own."""
    (folder / "script").mkdir()
    script = folder / "script" / "run.py"
    script.write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=environment | {"PYTHONPATH": SOURCE} | changes,
        capture_output=True,
        text=True,
        timeout=120,
    )


@forked
def test_all_workers_are_forks_of_one_process(monkeypatch):
    monkeypatch.delenv("WHORL_SEEN", raising=False)
    first = ask("WHORL_SEEN")
    monkeypatch.setenv("WHORL_SEEN", "later")
    second = ask("WHORL_SEEN")
    (server,) = {parent for parent, _ in (*first.values(), *second.values())}
    assert server != os.getpid()
    assert [told for _, told in first.values()] == [None, None]
    assert [told for _, told in second.values()] == ["later", "later"], "the environment is that of now"


@forked
def test_the_search_path_and_the_environment_stay_as_they_were():
    before = dict(os.environ), list(sys.path)
    ask("PYTHONSAFEPATH")
    assert (dict(os.environ), sys.path) == before
    assert {told for _, told in ask("PYTHONSAFEPATH").values()} == {os.environ.get("PYTHONSAFEPATH")}


def test_nothing_is_imported_from_the_folder_that_one_stands_in(tmp_path):
    for name in ("torch", "numpy", "whorl"):
        (tmp_path / f"{name}.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    done = run(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[(0, 0), (1, 1), (2, 4)]\n", "")
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_temporary_files_with_a_long_name_is_no_matter(tmp_path):
    """A socket has no place for it."""
    place = tmp_path / ("long" * 30)
    place.mkdir()
    done = run(tmp_path, TMPDIR=str(place))
    assert (done.returncode, done.stdout, done.stderr) == (0, "[(0, 0), (1, 1), (2, 4)]\n", "")
