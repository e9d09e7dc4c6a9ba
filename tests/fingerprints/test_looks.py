"""The log beside a fingerprint: every look is in it, and a line that is changed or left out shows."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

import whorl
from whorl.errors import InvalidFile
from whorl.fingerprints.files import write_fingerprint
from whorl.fingerprints.looks import add_look, looks_path, read_looks
from whorl.schemes.opening import read_fingerprint
from whorl.testing import tiny_victim

SAID = {"date": "2026-11-28T12:00:00Z", "rule": '{"alpha":0.05}', "decision": "unrelated"}


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("WHORL_CACHE", str(tmp_path / "cache"))
    made = whorl.extract(tiny_victim(), data="digits(size=8)", scheme="random", budget=4)
    write_fingerprint(made, tmp_path / "a.fp")
    return tmp_path / "a.fp"


def test_every_verification_of_a_file_is_an_entry_and_the_next_verdict_tells(path):
    suspect = tiny_victim(seed=1)
    first = whorl.verify(path, suspect, alpha=0.05)
    second = whorl.verify(path, suspect, alpha=0.2)
    assert first.record["looks"] == []
    assert not any("verifications by" in caveat for caveat in first.caveats)
    assert [look["decision"] for look in second.record["looks"]] == ["inconclusive"]
    assert any("before this one: 1, of this suspect: 1;" in caveat for caveat in second.caveats)
    looks = read_looks(path, read_fingerprint(path))
    assert [json.loads(look.rule)["alpha"] for look in looks] == [0.05, 0.2]
    assert whorl.verify(read_fingerprint(path), suspect).record["looks"] == [], "what is in memory has no log"
    assert len(looks_path(path).read_text().splitlines()) == 2


def test_a_copy_of_the_file_is_no_new_fingerprint(path, tmp_path):
    suspect, copy = tiny_victim(seed=1), tmp_path / "elsewhere" / "b.fp"
    copy.parent.mkdir()
    whorl.verify(path, suspect, alpha=0.05)
    copy.write_bytes(path.read_bytes())
    second = whorl.verify(copy, suspect, alpha=0.05)
    assert any("before this one: 1, of this suspect: 1, by copies of its file: 1;" in each for each in second.caveats)
    third = whorl.verify(path, suspect, alpha=0.05)
    assert any("before this one: 2, of this suspect: 2, by copies of its file: 1;" in each for each in third.caveats)
    assert len(third.record["looks"]) == 2, "what the log and the memory both hold counts once"


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[1:],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[0], lines[2], lines[1]],
        lambda lines: [lines[0].replace("unrelated", "derived"), *lines[1:]],
        lambda lines: [*lines, "{}"],
        lambda lines: ["not json"],
    ],
)
def test_what_was_changed_or_left_out_shows(path, change):
    known = read_fingerprint(path)
    for suspect in "abc":
        add_look(path, known, suspect=suspect, **SAID)
    log = looks_path(path)
    log.write_text("\n".join(change(log.read_text().splitlines())) + "\n")
    with pytest.raises(InvalidFile, match="move it away"):
        read_looks(path, known)
    with pytest.raises(InvalidFile, match="move it away"):
        whorl.verify(path, tiny_victim(seed=1))


def test_the_log_of_another_fingerprint_is_refused(path):
    known = read_fingerprint(path)
    add_look(path, known, suspect="a", **SAID)
    with pytest.raises(InvalidFile, match="another fingerprint"):
        read_looks(path, dataclasses.replace(known, seed=7))


def test_two_at_once_write_one_after_the_other(path):
    known = read_fingerprint(path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: add_look(path, known, suspect=name, **SAID), "abcdefgh"))
    assert {look.suspect for look in read_looks(path, known)} == set("abcdefgh")


def test_a_verdict_stands_where_nothing_can_be_written(path):
    looks_path(path).mkdir()
    with pytest.raises(InvalidFile, match="can't be read"):
        whorl.verify(path, tiny_victim(seed=1))
