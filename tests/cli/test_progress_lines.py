"""Progress where stderr is no terminal: a plain line now and then."""

from __future__ import annotations

import time

import pytest

from whorl.cli import console
from whorl.cli.console import Pace, bar


def lines(pace, moments):
    return [told for now in moments if (told := pace.told(now))]


def test_the_first_line_comes_after_ten_seconds_and_the_next_thirty_later():
    pace = Pace(100)
    pace.update("models", 1, 40, 105)
    assert lines(pace, range(100, 110)) == []
    assert pace.told(110) == "models: 1 of 40, 6.0/min, about 6 min left"
    pace.update("models", 30, 40, 130)
    assert lines(pace, range(111, 140)) == []
    assert pace.told(140) == "models: 30 of 40, 45.0/min, about 13 s left"
    assert len(lines(pace, range(141, 1041))) == 30


def test_a_job_of_seconds_writes_nothing_and_one_that_says_nothing_is_not_guessed_at():
    pace = Pace(0)
    pace.update("queries", 10, 10, 3)
    assert lines(pace, range(10)) == []
    assert lines(Pace(0), range(1000)) == []


def test_each_kind_of_work_has_its_own_rate():
    pace = Pace(0)
    pace.update("training", 1, 2, 3000)
    pace.update("training", 2, 2, 3600)
    assert pace.told(3600) == "training: 2 of 2, 2.0/h"
    pace.update("copies", 1, 7201, 3601)
    assert pace.told(3640) == "copies: 1 of 7201, 1.5/min, about 80.0 h left"


def test_work_of_unknown_size_and_a_first_step_that_lasts():
    pace = Pace(0)
    pace.update("extracting 100 queries", 0, 0, 0)
    assert pace.told(12) == "extracting 100 queries, 12 s so far"
    pace.update("queries", 0, 5, 50)
    assert pace.told(119) == "queries: 0 of 5, 2 min so far"


def shown(capsys, quiet):
    with bar(quiet) as show:
        show("models\x1b[2J", 1, 3)
        deadline = time.monotonic() + 30
        while not quiet and "models" not in (seen := capsys.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.01)
    return capsys.readouterr().err if quiet else seen


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1", "TERM": "xterm"}], ids=["plain", "colours wanted"])
def test_lines_are_plain_and_quiet_has_none(capsys, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(console, "TICK", 0.005)
    monkeypatch.setattr(console, "FIRST", 0.0)
    seen = shown(capsys, quiet=False)
    assert seen.startswith("models\ufffd[2J: 1 of 3, ")
    assert seen.count("\n") == 1
    assert all(mark.isprintable() or mark == "\n" for mark in seen)
    assert shown(capsys, quiet=True) == ""


def test_a_bar_is_drawn_on_a_terminal_that_can_redraw(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = type("Terminal", (), {"isatty": lambda self: True})()
    monkeypatch.setattr(console.sys, "stderr", terminal)
    assert console._draws()
    monkeypatch.setenv("TERM", "dumb")
    assert not console._draws()
