"""The file of recorded answers: one process at a time, sessions, and what is no such file."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from whorl.errors import InvalidFile, OracleError, UsageError
from whorl.oracles.record import Record

OWNER = {"model": "linear"}
KEY, ANSWER = b"k" * 32, b"a" * 16

HOLD = """
import sys, time
from pathlib import Path
from whorl.oracles.record import Record
record = Record(Path(sys.argv[1]), {"model": "linear"}, longest=16)
record.resume("a", "strict")
record.write({b"k" * 32: b"a" * 16})
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.sqlite"


def opened(path):
    return Record(path, OWNER, longest=16)


def written(path):
    with closing(opened(path)) as record:
        record.resume("a", "strict")
        record.write({KEY: ANSWER})


def read(path, purpose="a"):
    with closing(opened(path)) as record:
        record.resume(purpose, "strict")
        return record.read([KEY])


def write_and_read(record):
    record.write({KEY: ANSWER})
    return record.read([KEY])


def change(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_a_second_process_is_refused_until_the_first_ends_however_it_ends(path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        told = rf"in use by process {holder.pid} since 2\d{{3}}-\d\d-\d\dT\d\d:\d\d:\d\dZ; wait for it to end, or give"
        try:
            with pytest.raises(OracleError, match=told):
                opened(path)
        finally:
            holder.kill()
    assert read(path).keys() == {KEY}, "what was kept before the kill"


def test_one_process_holds_a_record_once_and_leaves_nothing_beside_it(path):
    with closing(opened(path)):
        with pytest.raises(OracleError, match=f"in use by process {os.getpid()} "):
            opened(path)
        with pytest.raises(OracleError, match=f"in use by process {os.getpid()} "):
            opened(path)  # a refusal frees nothing
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_record_that_is_refused_is_not_held(path):
    path.write_bytes(b"these are not answers, " * 100)
    for _ in range(2):
        with pytest.raises(InvalidFile, match="not a database"):
            opened(path)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_lock_file_that_is_none_is_refused_and_nothing_is_written_through_it(path, kind):
    lock, other = path.with_name(f"{path.name}.lock"), path.with_name("other")
    other.write_text("precious")
    {"link": lambda: lock.symlink_to(other), "folder": lock.mkdir, "pipe": lambda: os.mkfifo(lock)}[kind]()
    with pytest.raises(UsageError, match=r"answers\.sqlite can't be opened"):
        opened(path)
    assert other.read_text() == "precious"


def test_the_words_of_a_hostile_lock_file_are_not_repeated(path):
    lock = path.with_name(f"{path.name}.lock")
    with closing(opened(path)):
        lock.write_bytes(b"1 \x1b[31m2026-01-01T00:00")
        with pytest.raises(OracleError, match="in use by another process;"):
            opened(path)


def test_an_earlier_layout_is_refused_in_one_line(path):
    former = "CREATE TABLE answers (key BLOB PRIMARY KEY, answer BLOB NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID"
    written(path)
    change(path, "DROP TABLE answers", "DROP TABLE sessions", former)
    before = path.read_bytes()
    with pytest.raises(InvalidFile, match=r"an earlier layout, which says neither when .*; delete it or give another"):
        opened(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE answers SET answer = x'00'",
        "UPDATE answers SET answer = 'text'",
        "UPDATE answers SET time = '2020-01-01T00:00:00Z'",
        "UPDATE answers SET time = x'00'",
        "UPDATE answers SET time = 7",
        "UPDATE answers SET seal = x'00'",
        "UPDATE answers SET seal = 'text'",
        "UPDATE sessions SET id = 'x'",
        "UPDATE sessions SET id = x'00'",
        "UPDATE sessions SET id = 1.5",
    ],
)
def test_a_changed_row_is_refused(path, statement):
    written(path)
    change(path, statement)
    with pytest.raises(InvalidFile, match="is damaged"):
        read(path)


@pytest.mark.parametrize("time", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00Z\x1b[31m", "\ud800"])
def test_a_sealed_time_that_cannot_be_one_is_refused(path, monkeypatch, time):
    with closing(opened(path)) as record:
        record.resume("a", "strict")
        monkeypatch.setattr("whorl.oracles.record._now", lambda: time)
        with pytest.raises(InvalidFile, match="is damaged"):
            write_and_read(record)


def test_answers_moved_to_another_session_are_refused(path):
    written(path)
    with closing(opened(path)) as record:
        record.resume("b", "strict")
        other = record.session
    change(path, f"UPDATE answers SET session = '{other}'")
    with pytest.raises(InvalidFile, match="is damaged"):
        read(path, "b")


def test_a_finished_session_keeps_its_time(path, monkeypatch):
    written(path)
    for now in ("2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"):
        monkeypatch.setattr("whorl.oracles.record._now", lambda now=now: now)
        with closing(opened(path)) as record:
            if not record.reopen("a"):
                record.resume("a", "strict")
            record.finish()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT finished FROM sessions").fetchall() == [("2026-01-01T00:00:00Z",)]


def test_only_this_machine_s_user_reads_the_lock(path):
    with closing(opened(path)):
        assert Path(f"{path}.lock").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_called_full(path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("whorl.oracles.record.os.pwrite", full)
        with pytest.raises(UsageError, match="lies on a disk that is full; make room"):
            opened(path)
    with closing(opened(path)) as record:
        record.resume("a", "strict")
        record._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(OracleError, match="lies on a disk that is full; make room"):
            record.write({bytes([number]) * 32: ANSWER for number in range(200)})
