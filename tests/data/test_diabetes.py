from __future__ import annotations

import pytest
import torch

from whorl.data import PARTS, SOURCES, Dataset
from whorl.data.base import join
from whorl.data.diabetes import Diabetes
from whorl.errors import UsageError


def test_parts_share_no_patient_and_are_the_whole_set():
    from sklearn.datasets import load_diabetes

    parts = [Diabetes().load(part) for part in PARTS]
    assert [len(part) for part in parts] == [155, 110, 87, 45, 45]
    records = load_diabetes(scaled=False)
    low, high = records.data.min(0), records.data.max(0)
    whole = torch.from_numpy((records.data - low) / (high - low))
    drawn = torch.cat([part.images.flatten(1) for part in parts])
    assert torch.allclose(drawn.double().sum(0), whole.sum(0), rtol=1e-4)
    progressions = torch.cat([part.labels for part in parts]).flatten() * 77 + 152
    expected = torch.from_numpy(records.target).sort().values
    torch.testing.assert_close(progressions.double().sort().values, expected, rtol=0, atol=1e-3)


def test_shape_range_and_scale():
    data = Diabetes().load("victim")
    assert data.input_shape == (1, 1, 10)
    assert (data.classes, data.outputs) == ((), 1)
    assert data.labels.shape == (155, 1)
    assert data.labels.dtype == torch.float32
    assert 0 <= float(data.images.min()) < float(data.images.max()) <= 1
    assert abs(float(data.labels.mean())) < 0.2
    assert 0.8 < float(data.labels.std()) < 1.2
    assert data.expression == "diabetes(seed=0)"


def test_every_part_holds_each_fifth_of_the_progressions_alike():
    whole = torch.cat([Diabetes().load(part).labels for part in PARTS]).flatten()
    edges = whole.quantile(torch.tensor([0.2, 0.4, 0.6, 0.8]))
    for part in PARTS:
        counts = torch.bucketize(Diabetes().load(part).labels.flatten(), edges).bincount(minlength=5).float()
        assert float((counts / counts.sum() - 0.2).abs().max()) < 0.05


def test_the_seed_moves_patients():
    first, other = Diabetes().load("test"), Diabetes(seed=1).load("test")
    assert not torch.equal(first.images, other.images)


def test_joined_parts_keep_numbers():
    both = SOURCES.make("diabetes").load("queries+test")
    assert both.labels.shape == (90, 1)
    assert both.origin is not None
    assert both.origin.tolist() == [0] * 45 + [1] * 45
    wide = Dataset(both.images, both.labels.expand(-1, 2), ())
    with pytest.raises(UsageError, match="joined"):
        join(both, wide)


def test_numbers_of_another_shape_are_refused():
    for labels in (torch.zeros(3), torch.zeros(2, 1), torch.zeros(3, 1, 1), torch.zeros(3, 1, dtype=torch.int64)):
        with pytest.raises(UsageError, match="labels"):
            Dataset(torch.zeros(3, 1, 1, 10), labels, ())
