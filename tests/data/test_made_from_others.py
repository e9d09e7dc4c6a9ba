"""Data sets made from others: some pictures withdrawn, some classes chosen, all pictures corrupted."""

from __future__ import annotations

import pytest
import torch

from whorl.data import SOURCES
from whorl.data.corrupted import KINDS
from whorl.data.shards import shard_of
from whorl.errors import UsageError
from whorl.testing import tiny_data

DIGITS = "digits(size=8)"


def test_forget_divides_what_was_learned():
    source = SOURCES.make("forget('digits(size=8)', share=0.1)")
    retained, forgotten, joined = (source.load(part) for part in ("victim", "queries", "victim+queries"))
    rows = {tuple(row.tolist()) for row in tiny_data("victim").images.flatten(1)}
    kept = {tuple(row.tolist()) for row in retained.images.flatten(1)}
    lost = {tuple(row.tolist()) for row in forgotten.images.flatten(1)}
    assert kept | lost == rows
    assert not kept & lost
    assert len(forgotten) == round(0.1 * len(tiny_data("victim")))
    assert joined.origin is not None
    assert int(joined.origin.sum()) == len(forgotten)
    assert torch.equal(source.load("test").images, tiny_data("test").images)


def test_what_is_forgotten_may_lie_in_one_shard():
    source = SOURCES.make("forget('digits(size=8)', share=0.1, shards=3)")
    forgotten = source.load("queries")
    assert len(forgotten) == round(0.1 * len(tiny_data("victim")))
    assert not shard_of(forgotten.inputs(), 3).any()
    assert set(shard_of(source.load("victim").inputs(), 3).tolist()) == {0, 1, 2}


def test_chosen_classes_are_a_task_of_their_own():
    source, whole = SOURCES.make(f"only({DIGITS!r}, classes=[7, 1, 3])"), tiny_data("attacker")
    data = source.load("attacker")
    assert data.classes == ("7", "1", "3")
    for place, label in enumerate((7, 1, 3)):
        assert torch.equal(data.images[data.labels == place], whole.images[whole.labels == label])
    assert len(data) == sum(int((whole.labels == label).sum()) for label in (7, 1, 3))


@pytest.mark.parametrize("kind", ["mixed", *KINDS])
def test_corruption_grows_with_severity_and_keeps_labels(kind):
    plain = tiny_data("queries")
    lost = []
    for severity in (1, 3, 5):
        data = SOURCES.make(f"corrupt({DIGITS!r}, kind={kind}, severity={severity})").load("queries")
        assert torch.equal(data.labels, plain.labels)
        assert float(data.images.min()) >= 0
        assert float(data.images.max()) <= 1
        lost.append(float((data.images - plain.inputs()).abs().mean()))
    assert 0 < lost[0] < lost[1] < lost[2]


def test_corruption_is_the_same_each_time_and_differs_by_part():
    text = f"corrupt({DIGITS!r}, kind=noise, severity=5)"
    from whorl.data.corrupted import Corrupted

    first, again = Corrupted(DIGITS, "noise", 5)._load("test"), Corrupted(DIGITS, "noise", 5)._load("test")
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, SOURCES.make(text.replace("noise,", "noise, seed=1,")).load("test").images)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (f"forget({DIGITS!r}, share=1.0)", "above 0 and below 1"),
        (f"forget({DIGITS!r}, shards=0)", "shards is a whole number of at least 1"),
        (f"forget({DIGITS!r}, share=0.5, shards=9)", "none to forget"),
        (f"only({DIGITS!r}, classes=[1])", "two different classes"),
        (f"only({DIGITS!r}, classes=[1, 11])", "classes 0..9"),
        (f"corrupt({DIGITS!r}, kind=rain)", "kind is noise, blur"),
        (f"corrupt({DIGITS!r}, severity=6)", "from 1 to 5"),
    ],
)
def test_mistakes_are_named(wrong, says):
    with pytest.raises(UsageError, match=says):
        SOURCES.make(wrong).load("victim")
