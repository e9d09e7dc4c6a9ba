from __future__ import annotations

import pytest
import torch

from whorl.data import PARTS, SOURCES
from whorl.errors import UsageError


def test_noise_is_uniform_without_labels_and_its_parts_differ():
    parts = [SOURCES.make("noise(shape=[1, 1, 8], count=500)").load(part) for part in PARTS]
    for data in parts:
        assert data.input_shape == (1, 1, 8)
        assert (len(data), data.outputs, data.classes) == (500, 0, ())
        assert 0 <= float(data.images.min()) < float(data.images.max()) <= 1
        assert torch.allclose(data.images.mean(), torch.tensor(0.5), atol=0.02)
        assert torch.allclose(data.images.var(), torch.tensor(1 / 12), atol=0.005)
    rows = torch.cat([data.images.flatten(1) for data in parts])
    assert len(rows.unique(dim=0)) == len(rows)


def test_the_seed_and_nothing_else_draws_it():
    first, again, other = (SOURCES.make(f"noise(seed={seed})")._load("test") for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_its_expression_reads_back():
    data = SOURCES.make("noise(shape=[3, 4, 5], count=7)").load("test")
    assert data.expression == "noise(shape=[3, 4, 5], count=7, seed=0)"
    assert torch.equal(SOURCES.make(data.expression).load("test").images, data.images)


@pytest.mark.parametrize(
    "wrong", ["shape=8", "shape=[1, 8]", "shape=[1, 1, 0]", "shape=[1, 1, 0.5]", "count=0", "count=9999999999"]
)
def test_what_is_no_shape_or_count_is_refused(wrong):
    with pytest.raises(UsageError, match=r"noise(: (shape|count)|\((shape|count)=)"):
        SOURCES.make(f"noise({wrong})")
