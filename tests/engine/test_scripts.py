"""Workers begun from scripts as people write them: without a guard, from standard input, from a command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

SOURCE = str(Path(__file__).parents[2] / "src")
PLAIN = """
from whorl.engine.tasks import Task
from whorl.engine.workers import run_tasks

print("begun", flush=True)
found = dict(run_tasks({number: Task(pow, (number, 2)) for number in range(3)}, workers=2))
print(sorted(found.items()))
"""
STRANGERS = """
from whorl.populations import strangers
print(len(strangers("train(mlp(width=8), digits(size=8), epochs=1)", 2, workers=2)))
"""
ELSEWHERE = f"if __name__ == '__main__':\n    print('guarded')\n{PLAIN}"
DONE = "begun\n[(0, 0), (1, 1), (2, 4)]\n"


def run(folder, *arguments, text=None):
    """(exit code, stdout, stderr without the line of source that Python quotes below a warning, seconds)."""
    environment = os.environ | {"PYTHONPATH": SOURCE, "WHORL_CACHE": str(folder / "cache")}
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, *arguments],
        input=text,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    told = [line for line in done.stderr.splitlines() if line and not line.startswith(" ")]
    return done.returncode, done.stdout, told, time.monotonic() - begun


def test_a_file_without_a_guard_does_it_in_one_process(tmp_path):
    (tmp_path / "plain.py").write_text(STRANGERS)
    code, said, told, _ = run(tmp_path, "plain.py")
    assert (code, said, len(told)) == (0, "2\n", 1)
    assert "they would run" in told[0]
    assert "plain.py again, which has no `if __name__ == '__main__':`" in told[0]


def test_standard_input_does_it_in_one_process(tmp_path):
    code, said, told, _ = run(tmp_path, "-", text=PLAIN)
    assert (code, said, len(told)) == (0, DONE, 1)
    assert "<stdin> is no file" in told[0]


def test_a_process_of_a_pool_does_it_alone(tmp_path):
    (tmp_path / "pool.py").write_text(
        "import multiprocessing\n\n\ndef work(_):\n    from whorl.engine.tasks import Task\n"
        "    from whorl.engine.workers import run_tasks\n"
        "    return sorted(run_tasks({number: Task(pow, (number, 2)) for number in range(3)}, workers=2))\n\n\n"
        "if __name__ == '__main__':\n    print(multiprocessing.get_context('spawn').Pool(1).map(work, [0])[0])\n"
    )
    code, said, told, _ = run(tmp_path, "pool.py")
    assert (code, said, len(told)) == (0, "[(0, 0), (1, 1), (2, 4)]\n", 1)
    assert "one of a pool, whose processes begin no others" in told[0]


def test_a_command_has_workers(tmp_path):
    assert run(tmp_path, "-c", PLAIN)[:3] == (0, DONE, [])


def test_workers_begun_outside_of_the_guard_are_one_clear_line(tmp_path):
    """Nothing shows that before a worker imports the script."""
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)
    code, said, told, seconds = run(tmp_path, "elsewhere.py")
    assert code == 1
    assert said.count("guarded") == 1
    assert told[-1].startswith("whorl.errors.UsageError: workers begin by importing ")
    assert told[-1].endswith("put what it runs under `if __name__ == '__main__':`, or give workers=1")
    assert told[:-1] == ["Traceback (most recent call last):"]
    assert seconds < 60
