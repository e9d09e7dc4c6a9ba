"""Where the result goes: a disk without room, a pipe that nobody reads, a stream that the caller closed."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from test_exit_codes import RESULT

PATIENCE = 120  # seconds for a process on a busy machine
WHORL = [sys.executable, "-m", "whorl"]
ROOM = 4096


def run(*words, **more):
    given = {"stderr": subprocess.PIPE, "text": True, "timeout": PATIENCE}
    return subprocess.run([*WHORL, *map(str, words)], **given | more)


# Linux has the device; elsewhere nothing stands in for a disk without room.
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")


@needs_full
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["inspections"], ["inspections", "--json"]])
def test_a_result_that_finds_no_room_is_an_error_in_one_line(words):
    with open("/dev/full", "w") as full:
        done = run(*words, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "error: stdout lies on a disk that is full; make room, or give another path\n"


@needs_full
def test_chatter_that_finds_no_room_is_dropped():
    with open("/dev/full", "w") as full:
        assert run("nothing", stdout=subprocess.DEVNULL, stderr=full).returncode == 2


def test_a_page_that_finds_no_room_is_named_and_the_older_one_stays(tmp_path):
    (tmp_path / "page.html").write_text("older")
    done = run(
        *("report", RESULT, "-o", tmp_path / "page.html"),
        stdout=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM)),
        env=os.environ | {"WHORL_CACHE": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path / 'page.html'} would be larger than a file may be here; ")
    assert done.stderr.count("\n") == 1
    assert {each.name for each in tmp_path.iterdir()} <= {"page.html", "cache"}
    assert (tmp_path / "page.html").read_text() == "older"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["inspections"], ["inspections", "--json"]])
def test_a_reader_who_has_seen_enough_changes_nothing(words):
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = run(*words, stdout=theirs)
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_verb_does_its_work_though_nobody_reads_its_result(case, tmp_path):
    ours, theirs = os.pipe()
    os.close(ours)
    words = ["verify", case.calibrated, case.stolen, "--alpha", "0.05", "--report", tmp_path / "page.html"]
    try:
        done = run(*words, "--quiet", "--fail-on", "derived", stdout=theirs)
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (3, "")
    assert "DERIVED" in (tmp_path / "page.html").read_text().upper()


def test_streams_that_the_caller_closed():
    done = run("inspections", "--json", stdout=subprocess.PIPE, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run("nothing", stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2)).returncode == 2
