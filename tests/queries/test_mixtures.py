"""Mixtures are made of two pictures and nothing else."""

from __future__ import annotations

import pytest
import torch

from whorl.data import Dataset
from whorl.errors import UsageError
from whorl.queries.mixtures import Mixtures, blends, corner_patches, cutmix


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def levels(count, size=8):
    """Grey pictures of ten brightnesses with their labels."""
    labels = torch.arange(count) % 10
    images = ((labels + 0.5) / 10).view(-1, 1, 1, 1).expand(-1, 1, size, size).clone()
    return Dataset(images, labels, tuple("0123456789"))


def test_blends_are_means_in_which_neither_picture_is_lost():
    images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    mixed = blends(images, 2000, generator()).flatten(1)
    assert mixed.shape == (2000, 16)
    assert bool((mixed == mixed[:, :1]).all()), "one share for the whole picture"
    share = mixed[:, 0][(mixed[:, 0] > 0) & (mixed[:, 0] < 0.999)]
    assert len(share) == pytest.approx(1000, abs=100), "half of the pairs hold both"
    assert 0.3 <= float(share.min()) < 0.31
    assert 0.69 < float(share.max()) <= 0.7


def test_cutmix_is_two_pictures_and_nothing_else():
    images, labels = levels(20).inputs(), levels(20).labels
    mixed, first, second = cutmix(images, labels, 500, generator())
    inside = mixed == ((second + 0.5) / 10).view(-1, 1, 1, 1)
    outside = mixed == ((first + 0.5) / 10).view(-1, 1, 1, 1)
    assert bool((inside | outside).all())
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) > 90, "any two of the ten classes"


def test_cutmix_boxes_are_boxes_that_cover_a_uniform_share():
    """Inside the picture: Beta(1, 1) shares, as far as boxes at the edge are not cut off."""
    images = torch.stack([torch.zeros(1, 64, 64), torch.ones(1, 64, 64)])
    mixed, first, second = cutmix(images, torch.tensor([0, 1]), 4000, generator())
    pasted = (mixed[:, 0] == 1)[(first == 0) & (second == 1)]
    rows, columns = pasted.any(2), pasted.any(1)
    assert torch.equal(pasted, rows[:, :, None] & columns[:, None, :]), "a product of an interval and an interval"
    for side in (rows, columns):
        assert int((side.int().diff(dim=1).abs().sum(1)).max()) <= 2, "connected"
    whole = ~(rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1])
    sides = torch.stack([rows.sum(1), columns.sum(1)]).float() / 64
    torch.testing.assert_close(sides[0][whole], sides[1][whole], rtol=0, atol=2 / 64)
    # A box that is not cut off has side s with chance (1 - s)^2 per drawn s = sqrt(u); undo that and u is uniform.
    side = torch.rand(200_000, generator=generator(1)).sqrt()
    expected = side[torch.rand(200_000, generator=generator(2)) < (1 - side) ** 2].square()
    shares = sides[0][whole].square()
    for quantile in (0.25, 0.5, 0.75):
        assert float(shares.quantile(quantile)) == pytest.approx(float(expected.quantile(quantile)), abs=0.03)


@pytest.mark.parametrize(("size", "side"), [(32, 6), (28, 4), (8, 2)])
def test_released_patches_are_one_small_box_in_a_corner(size, side):
    data = levels(10, size)
    places = set()
    for seed in range(40):
        mixed, first, second = corner_patches(data.inputs(), data.labels, generator(seed))
        assert sorted(second.tolist()) == list(range(10)), "one permutation"
        outside = mixed == ((first + 0.5) / 10).view(-1, 1, 1, 1)
        inside = mixed == ((second + 0.5) / 10).view(-1, 1, 1, 1)
        assert bool((outside | inside).all())
        patch = ~outside[first != second][0, 0]
        for other in ~outside[first != second][:, 0]:
            assert torch.equal(other, patch), "one box for all"
        rows, columns = patch.any(1).nonzero().flatten(), patch.any(0).nonzero().flatten()
        assert int(patch.sum()) == len(rows) * len(columns) <= side**2
        for span in (rows, columns):
            assert span[-1] - span[0] + 1 == len(span)
            assert int(span[0]) < size / 6 or int(span[-1]) >= size - size / 6 - 1
        places.add((int(rows[0]) < size / 2, int(columns[0]) < size / 2))
    assert len(places) == 4, "any of the four corners"


@pytest.mark.parametrize("patch", ["box", "corner"])
def test_mixtures_know_both_classes(patch):
    data = levels(50)
    queries = Mixtures(patch=patch).sample(None, data, budget=40, generator=generator())
    sources = (queries.companions["truth"] + 0.5) / 10
    for picture, allowed in zip(queries.inputs, sources, strict=True):
        assert set(picture.unique().tolist()) <= set(allowed.tolist())


def test_boxes_make_more_mixtures_than_pictures_and_corners_do_not():
    assert len(Mixtures().sample(None, levels(20), budget=100, generator=generator())) == 100
    with pytest.raises(UsageError, match="100 seed pictures are needed and the data hold 20"):
        Mixtures(patch="corner").sample(None, levels(20), budget=100, generator=generator())


def test_unknown_patch_is_refused():
    with pytest.raises(UsageError, match="box or corner"):
        Mixtures(patch="stripe").sample(None, levels(20), budget=5, generator=generator())
