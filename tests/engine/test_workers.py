"""Tasks over worker processes that die: tried again, given up by name, and no harm to others."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from whorl.engine.tasks import Agenda, Task
from whorl.engine.workers import run_tasks
from whorl.errors import MissingExtra, UsageError, WhorlError


def die_once(mark: str) -> str:
    """Killed the first time, as by the kernel when memory is short."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return mark


def test_a_task_whose_worker_was_killed_is_tried_again(tmp_path):
    tasks = {number: Task(die_once, (str(tmp_path / str(number)),)) for number in range(3)}
    tasks |= {number: Task(abs, (-number,), (number - 3,)) for number in range(3, 6)}
    expected = {number: str(tmp_path / str(number)) for number in range(3)} | {3: 3, 4: 4, 5: 5}
    assert dict(run_tasks(tasks, workers=2)) == expected


def test_a_task_that_kills_every_worker_is_named_and_the_others_go_on():
    tasks = {
        "bad": Task(os._exit, (1,), name="the heavy one"),
        "after": Task(abs, (-1,), ("bad",)),
        "later": Task(abs, (-1,), ("after",)),
        **{number: Task(pow, (number, 2)) for number in range(5)},
    }
    done = {}
    with pytest.raises(
        WhorlError, match=r"1 of 8 tasks killed their worker 2 times.* the heavy one\. 2 wait"
    ) as caught:
        done.update(run_tasks(tasks, workers=2))
    assert done == {number: number**2 for number in range(5)}
    assert "\n" not in str(caught.value)


def test_only_the_worker_that_died_is_replaced(tmp_path):
    """A neighbour that works on meanwhile is neither disturbed nor begun again."""
    tasks = {"slow": Task(slow, (str(tmp_path / "count"),)), "bad": Task(os._exit, (1,))}
    with pytest.raises(WhorlError, match="bad"):
        list(run_tasks(tasks, workers=2))
    assert (tmp_path / "count").read_text() == "begun ended "


def slow(path: str) -> None:
    with open(path, "a") as file:
        file.write("begun ")
        file.flush()
        time.sleep(2)
        file.write("ended ")


@pytest.mark.parametrize(
    "error", [MissingExtra("this", "ray"), UsageError("that")], ids=lambda error: type(error).__name__
)
def test_deliberate_errors_keep_their_line(error):
    with pytest.raises(WhorlError) as caught:
        list(run_tasks({0: Task(fail, (error,)), 1: Task(abs, (-1,))}, workers=2))
    assert str(caught.value) == str(error)


def fail(error: Exception) -> None:
    raise error


def test_many_that_die_are_counted():
    agenda = Agenda({number: Task(abs, ()) for number in range(4)})
    for _ in range(2):
        for key, _ in agenda.take(4):
            agenda.lost(key)
    assert list(agenda.take(4)) == []
    with pytest.raises(WhorlError, match=r"4 of 4 tasks .*: 0; 1; 2; …\. All others"):
        agenda.close()


def test_an_agenda_hands_out_what_is_ready_and_no_more():
    agenda = Agenda({1: Task(abs, ()), 2: Task(abs, (), (1,)), 3: Task(abs, (), ("done before",))})
    assert [key for key, _ in agenda.take(1)] == [1]
    assert [key for key, _ in agenda.take(9)] == [3]
    assert list(agenda.take(9)) == []
    agenda.done(1)
    assert [key for key, _ in agenda.take(9)] == [2]
    agenda.again(2)
    assert [key for key, _ in agenda.take(9)] == [2]
    agenda.close()


def test_an_agenda_is_linear():
    """A hundred thousand tasks, each after the one before, in no more than seconds."""
    tasks = {number: Task(abs, (), (number - 1,)) for number in range(100_000)}
    agenda, order = Agenda(tasks), []
    while begun := list(agenda.take(3)):
        for key, _ in begun:
            order.append(key)
            agenda.done(key)
    assert order == list(range(100_000))
