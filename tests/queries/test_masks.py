"""Superpixels cover a picture, follow its colours, and are hidden as the masks say."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.queries.masks import Masks, hide, superpixels
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Access


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_blank_picture_falls_into_a_grid():
    found = superpixels(torch.full((1, 3, 8, 8), 0.5), 16)[0]
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    assert torch.equal(found, y // 2 * 4 + x // 2)


def test_superpixels_follow_colours():
    """A slanted edge is no edge of the grid; where position weighs little, no superpixel crosses it."""
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    bright = (x + 2 * y > 22).float()

    def mixed(compactness):
        found = superpixels(bright.expand(1, 3, 16, 16), 16, compactness)[0]
        return sum(len(bright[found == number].unique()) > 1 for number in found.unique())

    assert mixed(0.2) == 0
    assert mixed(1000.0) > 0


def test_superpixels_of_a_picture_do_not_depend_on_the_others():
    images = tiny_data("test").inputs(slice(0, 40))
    together = superpixels(images, 9)
    assert torch.equal(together[37], superpixels(images[37:38], 9)[0])
    assert int(together.max()) < 9


@pytest.mark.parametrize(("height", "width", "count"), [(3, 200, 50), (200, 3, 50), (5, 7, 100), (8, 8, 1)])
def test_any_shape_is_cut_into_at_most_so_many(height, width, count):
    found = superpixels(torch.rand(2, 1, height, width, generator=generator()), count)
    assert found.shape == (2, height, width)
    assert int(found.min()) >= 0
    assert int(found.max()) < count


def test_hiding_against_a_loop():
    beacons, fill = torch.rand(3, 2, 4, 4, generator=generator()), torch.tensor([0.25, 0.75])
    segments = torch.randint(5, (3, 4, 4), generator=generator())
    segments[0][segments[0] == 2] = 1  # a number that no pixel of the first picture bears
    segments[1, 0, 0] = 4
    queries = hide(beacons, segments, fill, masks=7, generator=generator())
    masks = queries.companions["masks"]
    assert queries.inputs.shape == (3, 7, 2, 4, 4)
    for picture in range(3):
        for mask in range(7):
            for y in range(4):
                for x in range(4):
                    shown = masks[picture, mask, segments[picture, y, x]]
                    expected = beacons[picture, :, y, x] if shown else fill
                    assert torch.equal(queries.inputs[picture, mask, :, y, x], expected)
    assert not masks[0, :, 2].any()


def test_the_first_mask_hides_nothing_and_the_others_about_half():
    victim, data = tiny_victim(Access.LABELS), tiny_data("victim")
    queries = Masks(masks=50).sample(victim, data, budget=10, generator=generator())
    masks = queries.companions["masks"]
    rows = {picture.numpy().tobytes() for picture in data.inputs()}
    assert all(first.numpy().tobytes() in rows for first in queries.inputs[:, 0])
    present = masks[:, :1].expand_as(masks[:, 1:])
    share = masks[:, 1:][present].float().mean()
    assert abs(float(share) - 0.5) < 0.03  # about 8,000 tosses: 0.03 is more than five standard deviations
    assert not masks[~masks[:, :1].expand_as(masks)].any()


def test_what_is_hidden_has_the_mean_colour_of_the_data():
    data = tiny_data("victim")
    queries = Masks(masks=3).sample(tiny_victim(), data, budget=4, generator=generator())
    assert torch.allclose(queries.shared["fill"], data.inputs().mean((0, 2, 3)))


@pytest.mark.parametrize("settings", [{"masks": 0}, {"segments": 0}, {"compactness": 0.0}])
def test_settings_without_a_meaning_are_refused(settings):
    with pytest.raises(UsageError):
        Masks(**settings)
