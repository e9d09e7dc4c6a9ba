import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
import torch
from linear_oracle import LinearOracle, pictures

from whorl.errors import InvalidFile, OracleError, UsageError, WhorlError
from whorl.oracles.recorded import SENTINELS, Recorded
from whorl.oracles.wrappers import Budgeted, LabelsOnly, Rounded
from whorl.types import Access

INPUTS = pictures(10)
LEVELS = [Access.LABELS, Access.PROBABILITIES, Access.LOGITS]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.sqlite"


@pytest.mark.parametrize("access", LEVELS)
def test_what_was_answered_is_replayed_bit_by_bit(path, access):
    with closing(Recorded(LinearOracle(access), path)) as first:
        answers = first.answers(INPUTS[:6])
        first.finish()
    inner = LinearOracle(access)
    again = Recorded(inner, path, replay=True)
    assert torch.equal(again.answers(INPUTS[:6]), answers)
    assert (inner.asked, again.replayed.sentinels) == ([], 0)
    assert torch.equal(again.answers(INPUTS)[:6], answers)
    assert again.answers(INPUTS).dtype == answers.dtype
    assert set(map(key, inner.asked[:6])) == set(map(key, INPUTS[:6])), "sentinels, before anything new is asked"
    assert sorted(map(key, inner.asked[6:])) == sorted(map(key, INPUTS[6:]))
    assert (inner.queries_spent, again.queries_spent) == (10, 26)
    assert (again.replayed.given.total(), again.replayed.sentinels) == (18, 6)


def test_an_unfinished_session_goes_on_and_a_finished_one_is_asked_anew(path):
    asked = []
    for finished in (False, False, True, False):
        inner = LinearOracle()
        with closing(Recorded(inner, path, purpose="a", rule="strict")) as oracle:
            assert torch.equal(oracle.answers(INPUTS), LinearOracle().answers(INPUTS))
            if finished:
                oracle.finish()
        asked.append((len(inner.asked), oracle.replayed.given.total(), oracle.replayed.sentinels))
    assert asked == [(10, 0, 0), (8, 10, 8), (8, 10, 8), (10, 0, 0)]


class Answering(LinearOracle):
    """Adds ``shifts``, one after another, to the labels of each round; the last one stays."""

    def __init__(self, *shifts):
        super().__init__(Access.LABELS)
        self.shifts = list(shifts)

    def _stream(self, inputs):
        shift = self.shifts.pop(0) if len(self.shifts) > 1 else self.shifts[0]
        for positions, answers in super()._stream(inputs):
            yield positions, (answers + shift) % self.classes


def test_what_was_answered_is_confirmed_by_the_model_itself(path):
    inner = Answering(0)
    with closing(Recorded(inner, path)) as oracle:
        oracle.answers(INPUTS)
        LabelsOnly(oracle).confirm(INPUTS[:4])
        assert (len(inner.asked), oracle.replayed.sentinels) == (14, 4)
        oracle.confirm(pictures(12)[10:])
        assert len(inner.asked) == 14, "what was never asked is not asked now"
        oracle.finish()
    with closing(Recorded(Answering(1), path, replay=True)) as oracle:
        oracle.answers(INPUTS)
        oracle.confirm(INPUTS)
        assert oracle.inner.asked == [], "nobody was asked who may have changed"


def test_a_model_that_was_exchanged_is_refused_and_one_that_answers_at_random_is_told(path):
    with closing(Recorded(Answering(0, 1), path)) as oracle:
        oracle.answers(INPUTS)
        with pytest.raises(OracleError, match=r"10 of 10 questions that .* answered before are answered otherwise now"):
            oracle.confirm(INPUTS)
    path.unlink()
    with closing(Recorded(Answering(0, 1, 2), path)) as oracle:
        oracle.answers(INPUTS)
        oracle.confirm(INPUTS)
        assert (oracle.replayed.sentinels, oracle.replayed.unsteady) == (0, 10)


@pytest.mark.parametrize("other", [{"purpose": "b", "rule": "strict"}, {"purpose": "a", "rule": "lax"}])
def test_only_the_same_verification_goes_on(path, other):
    with closing(Recorded(LinearOracle(), path, purpose="a", rule="strict")) as oracle:
        oracle.answers(INPUTS)
    inner = LinearOracle()
    with closing(Recorded(inner, path, **other)) as oracle:
        oracle.answers(INPUTS)
    assert (len(inner.asked), oracle.replayed.given.total()) == (10, 0)


def test_the_latest_finished_session_of_the_same_purpose_is_replayed(path):
    for purpose, scale in (("a", 1.0), ("a", 2.0), ("b", 3.0)):
        with closing(Recorded(LinearOracle(scale=scale), path, purpose=purpose, rule="strict")) as oracle:
            oracle.answers(INPUTS)
            oracle.finish()
    inner = LinearOracle()
    replay = Recorded(inner, path, purpose="a", rule="lax", replay=True)
    assert torch.equal(replay.answers(INPUTS), LinearOracle(scale=2.0).answers(INPUTS))
    assert inner.asked == []


@pytest.mark.parametrize("made", [False, True])
def test_there_has_to_be_something_to_replay(path, made):
    if made:
        recorded(path)  # and unfinished
    with pytest.raises(UsageError, match="no finished session of this kind to replay; leave out --replay"):
        Recorded(LinearOracle(), path, replay=True)
    assert path.exists() is made


@pytest.mark.parametrize("access", LEVELS)
@pytest.mark.parametrize("replay", [False, True])
def test_a_model_that_was_swapped_stops_before_its_answers_are_mixed(path, access, replay):
    with closing(Recorded(LinearOracle(access), path)) as oracle:
        oracle.answers(INPUTS[:8])
        if replay:
            oracle.finish()
    stranger = LinearOracle(access, scale=-1.0)
    told = "leave out --replay" if replay else "give another file"
    swapped = Recorded(stranger, path, replay=replay)
    with pytest.raises(
        OracleError, match=rf"8 of 8 answers asked again differ .* or one that .*; to begin anew, {told}"
    ):
        swapped.answers(INPUTS)
    assert len(stranger.asked) == 8, "the two that are missing are not asked"
    with pytest.raises(OracleError, match="differ"):
        swapped.answers(INPUTS)


def test_a_swap_shows_when_only_one_answer_moved(path):
    with closing(Recorded(LinearOracle(), path)) as oracle:
        oracle.answers(INPUTS[:8])
    inner = LinearOracle()
    stream = inner._stream

    def shifted(inputs):
        for positions, answers in stream(inputs):
            yield positions, answers + (inputs == INPUTS[3]).flatten(1).all(1)[:, None][positions]

    inner._stream = shifted
    with pytest.raises(OracleError, match="1 of 8 answers asked again differ"):
        Recorded(inner, path).answers(INPUTS)


def test_the_noise_of_a_served_model_is_no_swap(path):
    with closing(Recorded(LinearOracle(), path)) as oracle:
        oracle.answers(INPUTS)
    oracle = Recorded(LinearOracle(scale=1.005), path)
    assert torch.equal(oracle.answers(INPUTS), LinearOracle().answers(INPUTS))


def test_sentinels_are_drawn_by_the_name_of_the_session(path):
    many = pictures(100)

    def sentinels():
        inner = LinearOracle()
        with closing(Recorded(inner, path)) as oracle:
            oracle.answers(many)
            oracle.answers(many)
        return list(map(key, inner.asked))

    with closing(Recorded(LinearOracle(), path)) as oracle:
        oracle.answers(many)
    first = sentinels()
    assert first == sentinels()
    assert len(set(first)) == SENTINELS
    assert set(first) != set(map(key, many[:SENTINELS]))


def test_a_call_that_replays_too_little_leaves_sentinels_to_the_next(path):
    with closing(Recorded(LinearOracle(), path)) as oracle:
        oracle.answers(INPUTS)
    inner = LinearOracle()
    oracle = Recorded(inner, path)
    for part in INPUTS.split(3):
        oracle.answers(part)
    assert (len(inner.asked), oracle.replayed.sentinels) == (8, 8)


def test_a_replay_that_has_asked_checks_what_it_replays_afterwards(path):
    with closing(Recorded(LinearOracle(), path)) as oracle:
        oracle.answers(INPUTS[:4])
        oracle.finish()
    oracle = Recorded(LinearOracle(scale=-1.0), path, replay=True)
    oracle.answers(INPUTS[4:])  # nothing old to compare with
    with pytest.raises(OracleError, match="4 of 4 answers asked again differ"):
        oracle.answers(INPUTS[:4])


def test_a_replay_says_how_old_its_answers_are(path, monkeypatch):
    for part, now in ((INPUTS[:5], "2024-02-29T00:00:00Z"), (INPUTS[5:], "2025-01-01T00:00:00Z")):
        monkeypatch.setattr("whorl.oracles.record._now", lambda now=now: now)
        with closing(Recorded(LinearOracle(), path)) as oracle:
            oracle.answers(part)
    outer = LabelsOnly(Recorded(LinearOracle(), path))
    outer.answers(INPUTS[torch.tensor([9, 0, 9])])
    assert outer.replayed.given == {"2024-02-29T00:00:00Z": 1, "2025-01-01T00:00:00Z": 2}


def test_duplicates_in_one_call_are_asked_once(path):
    inner = LinearOracle()
    outer = Recorded(inner, path)
    order = torch.tensor([3, 0, 3, 1, 1, 3])
    assert torch.equal(outer.answers(INPUTS[order]), LinearOracle().answers(INPUTS)[order])
    assert (len(inner.asked), outer.replayed.given.total(), outer.queries_spent) == (3, 0, 6)


def test_answers_before_a_failure_are_kept(path):
    failing = Recorded(LinearOracle(fail_after=2), path)
    with pytest.raises(OracleError, match="linear is down"):
        failing.answers(INPUTS)
    failing.close()
    inner = LinearOracle()
    oracle = Recorded(inner, path)
    assert torch.equal(oracle.answers(INPUTS), LinearOracle().answers(INPUTS))
    assert len(inner.asked) == 4 + oracle.replayed.sentinels


def test_each_chunk_is_on_disk_before_the_caller_sees_it(path):
    stream = Recorded(LinearOracle(), path).stream(INPUTS)
    next(stream)
    copy = path.with_name("copy.sqlite")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")  # what a process killed here leaves behind
    inner = LinearOracle()
    again = Recorded(inner, copy)
    again.answers(INPUTS)
    assert (len(inner.asked), again.replayed.sentinels) == (8 + 2, 2)


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
    oracle._record.write(dict.fromkeys(oracle._keys(INPUTS[:1]), value.tobytes()))
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


def key(picture):
    return picture.numpy().tobytes()


def change(path, statement):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()
