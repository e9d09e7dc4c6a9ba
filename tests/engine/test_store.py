"""Results by content hash: kept as they come, found again, never half."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from whorl.engine.store import Store, cell_key
from whorl.errors import InvalidFile, WhorlError


def test_keys_depend_on_content_alone():
    assert cell_key(a=1, b="x") == cell_key(b="x", a=1)
    keys = {cell_key(a=1), cell_key(a=2), cell_key(a="1"), cell_key(b=1), cell_key(a=[1]), cell_key(a=1, b=None)}
    assert len(keys) == 6
    assert all(len(key) == 24 for key in keys)


def test_documents_come_back_after_closing(tmp_path):
    path, document = tmp_path / "deep" / "results.sqlite", {"similarity": 0.1, "notes": [1, None, "é"]}
    store = Store(path)
    assert "key" not in store
    assert len(store) == 0
    store.put("key", document)
    store.close()
    again = Store(path)
    assert "key" in again
    assert len(again) == 1
    assert again.get("key") == document
    with pytest.raises(KeyError):
        again.get("other")


def test_a_cell_is_replaced_not_doubled(tmp_path):
    store = Store(tmp_path / "results.sqlite")
    store.put("key", 1)
    store.put("key", 2)
    assert (len(store), store.get("key")) == (1, 2)


def test_each_cell_is_on_disk_at_once(tmp_path):
    """Another connection sees it before the first one is closed: a killed run keeps it."""
    store = Store(tmp_path / "results.sqlite")
    store.put("key", 1)
    assert Store(tmp_path / "results.sqlite").get("key") == 1


def test_two_runs_may_write_at_once(tmp_path):
    def fill(first):
        store = Store(tmp_path / "results.sqlite")
        for number in range(first, 100, 2):
            store.put(str(number), number)

    threads = [threading.Thread(target=fill, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = Store(tmp_path / "results.sqlite")
    assert [store.get(str(number)) for number in range(100)] == list(range(100))


def test_two_runs_may_begin_one_file_at_once(tmp_path):
    """Neither gives up because the other is there. Without patience about one start in twenty fails."""

    def begin(path, start, first):
        start.wait()
        store = Store(path)
        for number in range(3):
            store.put(str(first + number), number)

    for turn in range(100):
        path, start = tmp_path / f"{turn}.sqlite", threading.Barrier(2)
        threads = [threading.Thread(target=begin, args=(path, start, first)) for first in (0, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(Store(path)) == 6


def test_what_cannot_be_json_leaves_no_trace(tmp_path):
    store = Store(tmp_path / "results.sqlite")
    with pytest.raises(TypeError):
        store.put("key", object())
    assert "key" not in store


def test_many_cells_at_once(tmp_path):
    """More than fit in one statement, asked for in any order and more than once."""
    store = Store(tmp_path / "results.sqlite")
    documents = {cell_key(number=number): number for number in range(5000)}
    keys = list(documents)
    store.put_many({key: documents[key] for key in keys[::2]})
    assert len(store) == 2500
    assert store.missing(keys) == set(keys[1::2])
    assert store.missing(iter(keys[1::2] * 2)) == set(keys[1::2])
    assert store.missing([]) == set()
    assert store.get_many(reversed(keys)) == {key: documents[key] for key in keys[::2]}
    store.put_many(documents)
    assert (len(store), store.missing(keys), store.get_many(keys)) == (5000, set(), documents)


def test_many_are_kept_all_or_none(tmp_path):
    store = Store(tmp_path / "results.sqlite")
    with pytest.raises(TypeError):
        store.put_many({"one": 1, "two": object()})
    assert store.missing(["one", "two"]) == {"one", "two"}


def test_a_file_that_is_no_store_is_one_clear_line(tmp_path):
    path = tmp_path / "results.sqlite"
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(InvalidFile, match="not a store of results") as caught:
        Store(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes().startswith(b"this is not"), "left as it was"


def test_a_foreign_database_is_left_usable(tmp_path):
    path = tmp_path / "results.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (x)")
    Store(path).put("key", 1)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM theirs").fetchone() == (0,)


def test_what_the_disk_refuses_is_no_fault_of_the_file(tmp_path):
    with pytest.raises(WhorlError, match=r"can't be opened; give a file in an existing, writable folder") as caught:
        Store(tmp_path)  # a folder, which SQLite can open no more than a file of somebody else
    assert not isinstance(caught.value, InvalidFile)
    full = Store(tmp_path / "results.sqlite")
    full._database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(WhorlError, match="lies on a disk that is full; make room") as caught:
        full.put("key", "long" * 10_000)
    assert not isinstance(caught.value, InvalidFile)


def test_cells_of_another_program_are_one_clear_line(tmp_path):
    path = tmp_path / "results.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE cells (theirs)")
    for ask in (
        lambda store: store.missing(["key"]),
        lambda store: store.put("key", 1),
        lambda store: store.get("key"),
    ):
        with pytest.raises(InvalidFile, match=r"not a store of results \(.*column"):
            ask(Store(path))
