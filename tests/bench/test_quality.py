"""The quality of a benchmark is measured on the test pictures, pair by pair."""

from __future__ import annotations

import pytest
from tiny_suite import tiny_suite

from whorl.bench.quality import measure_quality, overlap
from whorl.testing import tiny_data
from whorl.zoo.cache import Zoo


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("quality")


@pytest.fixture(scope="module")
def quality(folder):
    return measure_quality(tiny_suite(), folder=folder, workers=1)


def test_each_pair_is_measured(quality, folder):
    suite, zoo, test = tiny_suite(), Zoo(folder), tiny_data("test")
    suspects = {suspect.label: suspect for suspect in suite.suspects() if 0 in suspect.kinds}
    victim = zoo.oracle(suite.victims[0])
    for pair in quality.pairs:
        if pair.victim:
            continue
        model = zoo.oracle(suspects[pair.suspect].recipe)
        ours, theirs = victim.labels(test.inputs()), model.labels(test.inputs())
        wrong = ours != test.labels
        assert pair.hamming == pytest.approx(float((ours != theirs).float().mean()))
        assert pair.conditioned == pytest.approx(float((ours != theirs)[wrong].float().mean()))
        assert pair.gap == pytest.approx(
            zoo.card(suite.victims[0]).accuracy - zoo.card(suspects[pair.suspect].recipe).accuracy
        )
        assert pair.l2 is not None
    assert len(quality.pairs) == 2 * (4 + 3)


def test_groups_and_overlaps_follow_from_the_pairs(quality):
    quantised = next(group for group in quality.groups if group.group == "int8")
    assert (quantised.pairs, quantised.kind) == (2, "derived")
    assert quantised.hamming < next(group for group in quality.groups if group.group == "same").hamming
    assert set(quality.overlaps) == {"gap", "hamming", "conditioned", "l2"}
    assert all(0 <= value <= 1 for value in quality.overlaps.values())


def test_nothing_is_asked_twice(quality, folder):
    calls = []
    assert measure_quality(tiny_suite(), folder=folder, workers=1, progress=lambda *call: calls.append(call)) == quality
    assert calls[0][1] == calls[0][2]
    calls.clear()
    measure_quality(tiny_suite(), folder=folder, workers=1, fresh=True, progress=lambda *call: calls.append(call))
    assert {stage: done for stage, done, _ in reversed(calls)}["suspects"] == 0, "nor is what suspects said kept"
    assert calls[0][1] == 0


def test_overlap_is_one_where_order_says_nothing():
    assert overlap([1, 2, 3], [4, 5]) == overlap([4, 5], [1, 2, 3]) == 0
    assert overlap([1, 4], [2, 3]) == 1
