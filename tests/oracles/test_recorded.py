import shutil
import sqlite3

import numpy as np
import pytest
import torch
from linear_oracle import LinearOracle, pictures

from whorl.errors import InvalidFile, OracleError, UsageError, WhorlError
from whorl.oracles.recorded import Recorded
from whorl.oracles.wrappers import Budgeted, LabelsOnly, Rounded
from whorl.types import Access

INPUTS = pictures(10)
LEVELS = [Access.LABELS, Access.PROBABILITIES, Access.LOGITS]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.sqlite"


@pytest.mark.parametrize("access", LEVELS)
def test_what_was_answered_is_replayed_bit_by_bit(path, access):
    first = Recorded(LinearOracle(access), path)
    answers = first.answers(INPUTS[:6])
    first.close()
    inner = LinearOracle(access)
    again = Recorded(inner, path)
    assert torch.equal(again.answers(INPUTS)[:6], answers)
    assert torch.equal(again.answers(INPUTS), again.answers(INPUTS))
    assert again.answers(INPUTS).dtype == answers.dtype
    assert torch.equal(torch.stack(inner.asked).flatten(1).sort(0).values, INPUTS[6:].flatten(1).sort(0).values)
    assert (inner.queries_spent, again.replayed, again.queries_spent) == (4, 36, 40)


def test_duplicates_in_one_call_are_asked_once(path):
    inner = LinearOracle()
    outer = Recorded(inner, path)
    order = torch.tensor([3, 0, 3, 1, 1, 3])
    assert torch.equal(outer.answers(INPUTS[order]), LinearOracle().answers(INPUTS)[order])
    assert (len(inner.asked), outer.replayed, outer.queries_spent) == (3, 3, 6)


def test_answers_before_a_failure_are_kept(path):
    with pytest.raises(OracleError, match="linear is down"):
        Recorded(LinearOracle(fail_after=2), path).answers(INPUTS)
    inner = LinearOracle()
    assert torch.equal(Recorded(inner, path).answers(INPUTS), LinearOracle().answers(INPUTS))
    assert len(inner.asked) == 4


def test_each_chunk_is_on_disk_before_the_caller_sees_it(path):
    stream = Recorded(LinearOracle(), path).stream(INPUTS)
    next(stream)
    copy = path.with_name("copy.sqlite")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")  # what a process killed here leaves behind
    inner = LinearOracle()
    Recorded(inner, copy).answers(INPUTS)
    assert len(inner.asked) == 8


def test_only_what_is_really_asked_is_paid_for(path):
    budgeted = Budgeted(LinearOracle(), 10)
    outer = Recorded(budgeted, path)
    assert torch.equal(outer.answers(INPUTS), outer.answers(INPUTS))
    assert budgeted.asked == 10


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (LinearOracle(digest="another"), "model"),
        (LinearOracle(Access.LABELS), "access"),
        (LabelsOnly(LinearOracle()), "access"),
        (Rounded(LinearOracle(Access.PROBABILITIES), 2), "treatment"),
    ],
)
def test_a_record_of_another_model_or_access_is_refused(path, other, word):
    Recorded(LinearOracle(Access.PROBABILITIES if word == "treatment" else Access.LOGITS), path).answers(INPUTS)
    with pytest.raises(InvalidFile, match=f"recorded for another {word}"):
        Recorded(other, path)


def test_a_file_of_something_else_is_refused_and_left_as_it_is(path):
    path.write_bytes(b"these are not answers, " * 100)
    before = path.read_bytes()
    with pytest.raises(InvalidFile, match="not a database"):
        Recorded(LinearOracle(), path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_as_it_is(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InvalidFile, match="holds no recorded answers"):
        Recorded(LinearOracle(), path)
    assert path.read_bytes() == before


def test_a_schema_with_anything_more_is_refused(path):
    recorded(path)
    change(path, "CREATE TRIGGER t AFTER INSERT ON answers BEGIN DELETE FROM answers; END")
    with pytest.raises(InvalidFile, match="holds no recorded answers"):
        Recorded(LinearOracle(), path)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE answers SET answer = zeroblob(16)",  # not sealed
        "UPDATE answers SET answer = zeroblob(15)",
        "UPDATE answers SET answer = 'text'",
        "UPDATE answers SET answer = 1.5",
        "UPDATE answers SET seal = x'00'",
        "UPDATE answers SET answer = zeroblob(1000000)",
    ],
)
def test_a_changed_answer_is_refused(path, statement):
    recorded(path)
    change(path, statement)
    with pytest.raises(InvalidFile, match="is damaged"):
        Recorded(LinearOracle(), path).answers(INPUTS)


@pytest.mark.parametrize(
    ("access", "value", "complaint"),
    [
        (Access.LOGITS, np.array([0, np.nan, 0, 0], "<f4"), "NaN"),
        (Access.PROBABILITIES, np.array([0, np.inf, 0, 0], "<f4"), "infinite"),
        (Access.LABELS, np.array([4], "<i8"), "outside 0..3"),
        (Access.LABELS, np.array([-1], "<i8"), "outside 0..3"),
    ],
)
def test_a_sealed_answer_that_cannot_be_one_is_refused(path, access, value, complaint):
    oracle = Recorded(LinearOracle(access), path)
    oracle._write(list(oracle._keys(INPUTS[:1])), torch.from_numpy(value.reshape(1, -1)))
    with pytest.raises(InvalidFile, match=complaint):
        oracle.answers(INPUTS)


def test_no_damage_gets_through(path):
    """Whatever bytes are overwritten or cut off, the answers are right or one line says that the file is damaged."""
    recorded(path)
    sound = path.read_bytes()
    truth = LinearOracle().answers(INPUTS)
    generator = np.random.default_rng(0)
    complaints = []
    for trial in range(60):
        body = bytearray(sound)
        if trial % 3 == 0:
            body = body[: generator.integers(1, len(body))]
        else:
            start = generator.integers(0, len(body))
            stop = start + 2 ** generator.integers(0, 12)
            body[start:stop] = generator.bytes(len(body[start:stop]))
        damaged = path.with_name(f"damaged{trial}.sqlite")
        damaged.write_bytes(bytes(body))
        try:
            oracle = Recorded(LinearOracle(), damaged)
            assert torch.equal(oracle.answers(INPUTS), truth)
            oracle.close()
        except WhorlError as error:
            complaints.append(str(error))
    assert len(complaints) > 10
    assert not any("\n" in complaint for complaint in complaints)


def test_a_place_that_cannot_hold_a_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing" / "answers.sqlite"):
        with pytest.raises(UsageError, match="existing, writable folder"):
            Recorded(LinearOracle(), path)


def test_a_model_without_a_digest_is_not_recorded(path):
    with pytest.raises(UsageError, match="no digest"):
        Recorded(LinearOracle(digest=""), path)
    assert not path.exists()


def recorded(path):
    oracle = Recorded(LinearOracle(), path)
    oracle.answers(INPUTS)
    oracle.close()


def change(path, statement):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()
