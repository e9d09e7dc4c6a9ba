"""Filters against their definitions, noise that follows from the picture, and votes against counting."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from linear_oracle import CLASSES, SHAPE, LinearOracle, pictures
from PIL import Image
from scipy import ndimage
from torch.testing import assert_close

from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.chance import normal, uniform
from whorl.oracles.filtered import FILTERS, Filtered, Smoothed, blur, jpeg, levels, mean, median, mirror
from whorl.spaces import Pictures
from whorl.testing import check_oracle, tiny_data, tiny_victim
from whorl.types import Access

PICTURES = pictures(5, shape=(3, 9, 7))


def each(function):
    """A function of one plane, of every channel of every picture."""
    return torch.from_numpy(
        np.stack([np.stack([function(plane) for plane in picture]) for picture in PICTURES.numpy()])
    )


@pytest.mark.parametrize("sigma", [0.5, 1.3])
def test_blur_is_a_gaussian(sigma):
    reach = int(np.ceil(3 * sigma))
    wanted = each(lambda plane: ndimage.gaussian_filter(plane, sigma, mode="nearest", radius=reach))
    assert_close(blur(PICTURES, sigma), wanted)


@pytest.mark.parametrize("side", [3, 5])
def test_mean_and_median(side):
    assert_close(mean(PICTURES, side), each(lambda plane: ndimage.uniform_filter(plane, side, mode="nearest")))
    assert_close(median(PICTURES, side), each(lambda plane: ndimage.median_filter(plane, side, mode="nearest")))


def test_levels_are_equally_spaced():
    steps = levels(PICTURES, 16) * 15
    assert_close(steps, steps.round())
    assert float((levels(PICTURES, 16) - PICTURES).abs().max()) <= 1 / 30 + 1e-6
    assert set(levels(PICTURES, 2).unique().tolist()) == {0.0, 1.0}


def test_mirror_exchanges_left_and_right():
    assert torch.equal(mirror(PICTURES)[:, :, :, 0], PICTURES[:, :, :, -1])


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_the_codec_makes(channels):
    plane = torch.linspace(0, 1, 16 * 16).view(1, 1, 16, 16).expand(2, channels, 16, 16)
    seen = jpeg(plane, 95)
    assert seen.shape == plane.shape
    assert 0 < float((seen - plane).abs().max()) < 0.1
    file = io.BytesIO()
    pixels = (plane[0] * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).save(file, "JPEG", quality=95)
    read = np.asarray(Image.open(file)).reshape(16, 16, channels)
    assert_close(seen[0].permute(1, 2, 0), torch.from_numpy(read.copy()).float() / 255)
    assert float((jpeg(plane, 5) - plane).abs().mean()) > float((seen - plane).abs().mean())
    assert jpeg(plane[:0], 95).shape == (0, channels, 16, 16)


@pytest.mark.parametrize("kind", FILTERS)
def test_every_filter_keeps_the_range_and_changes_what_it_can(kind):
    images = tiny_data("test").inputs(slice(0, 20))
    seen = Filtered(tiny_victim(), kind).treated(images)
    assert seen.shape == images.shape
    assert 0 <= float(seen.min())
    assert float(seen.max()) <= 1
    assert not torch.equal(seen, images)
    assert torch.equal(Filtered(tiny_victim(), kind).answers(images), tiny_victim().answers(seen))


@pytest.mark.parametrize("kind", FILTERS)
def test_filters_keep_the_contract_and_who_the_model_is(kind):
    check_oracle(lambda access: Filtered(tiny_victim(access), kind))
    inner = tiny_victim()
    outer = Filtered(inner, kind)
    assert (outer.digest, outer.name, outer.access) == (inner.digest, inner.name, Access.LOGITS)
    assert outer.treatment.startswith(f"Filtered(kind={kind}, strength=")


def test_answers_arrive_as_the_inner_oracle_gives_them():
    inner = LinearOracle()
    stream = Filtered(inner, "levels", 4).stream(pictures(10))
    positions, _ = next(stream)
    assert positions.tolist() == [8, 9]
    assert len(inner.asked) == 2


def test_noise_follows_from_the_picture_and_the_seed():
    images = pictures(6)
    drawn = normal(images, (50,), 3)
    assert torch.equal(normal(images.flip(0), (50,), 3).flip(0), drawn)
    assert torch.equal(normal(images[2:3], (50,), 3), drawn[2:3])
    assert not torch.equal(normal(images, (50,), 4), drawn)
    assert len(drawn.unique(dim=0)) == 6
    assert normal(images[:0], (5,), 3).shape == (0, 5)


def test_noise_is_standard_and_uniform_chance_uniform():
    drawn = normal(pictures(200), (500,), 0)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.01)
    assert float(drawn.std()) == pytest.approx(1, abs=0.01)
    flat = uniform(pictures(200), (500,), 0)
    assert 0 <= float(flat.min()) < 0.001 < 0.999 < float(flat.max()) < 1
    assert float(flat.mean()) == pytest.approx(0.5, abs=0.01)


def test_the_same_question_gets_the_same_noise():
    oracle, images = Filtered(tiny_victim(), "noise", 0.3, seed=5), tiny_data("test").inputs()
    assert torch.equal(oracle.labels(images), oracle.labels(images))
    assert not torch.equal(oracle.treated(images), Filtered(tiny_victim(), "noise", 0.3, seed=6).treated(images))


class Bright(Oracle):
    """Says 1 where the mean is above a half, else 0."""

    def __init__(self, access=Access.LABELS):
        super().__init__(access=access, input_shape=SHAPE, classes=CLASSES, name="bright", digest="bright")

    def _stream(self, inputs):
        labels = (inputs.flatten(1).mean(1) > 0.5).long()
        if self.access is Access.LABELS:
            yield torch.arange(len(inputs)), labels
        else:
            yield torch.arange(len(inputs)), torch.nn.functional.one_hot(labels, CLASSES).float()


def test_votes_are_counted():
    images = torch.full((3, *SHAPE), 0.5) + torch.tensor([-0.05, 0.0, 0.05]).view(3, 1, 1, 1)
    inner = Bright(Access.PROBABILITIES)
    shares = Smoothed(inner, 0.1, 1000, seed=2).probabilities(images)
    assert inner.queries_spent == 3000
    # The mean of 6 pixels under noise of 0.1 has a deviation of 0.041.
    for share, wanted in zip(shares[:, 1].tolist(), (0.110, 0.5, 0.890), strict=True):
        assert share == pytest.approx(wanted, abs=0.04)
    assert_close(shares.sum(1), torch.ones(3))
    assert Smoothed(Bright(), 0.1, 101, seed=2).labels(images)[[0, 2]].tolist() == [0, 1]
    again = Smoothed(Bright(Access.PROBABILITIES), 0.1, 1000, seed=2).probabilities(images.flip(0)).flip(0)
    assert torch.equal(again, shares)


@pytest.mark.parametrize("level", [Access.LABELS, Access.PROBABILITIES])
def test_smoothing_keeps_the_contract(level):
    def make(access):
        return Smoothed(tiny_victim(access), 0.1, 7)

    check_oracle(make, levels=(level,))
    assert Smoothed(tiny_victim(), 0.1, 7).access is Access.PROBABILITIES


def test_a_little_noise_changes_no_vote():
    images = tiny_data("test").inputs()
    assert torch.equal(Smoothed(tiny_victim(), 1e-6, 3).labels(images), tiny_victim().labels(images))


def test_settings_without_a_meaning_are_refused():
    victim = tiny_victim()
    for kind, strength, says in (
        ("fog", None, "no such filter"),
        ("flip", 2, "is 1"),
        ("blur", 0, "sigma"),
        ("mean", 4, "odd side"),
        ("median", 2.5, "odd side"),
        ("noise", -1, "deviation"),
        ("levels", 1, "levels"),
        ("jpeg", 101, "quality"),
        ("blur", float("nan"), "sigma"),
    ):
        with pytest.raises(UsageError, match=says):
            Filtered(victim, kind, strength)
    for sigma, votes in ((0, 10), (-1, 10), (0.1, 0)):
        with pytest.raises(UsageError, match="smoothing"):
            Smoothed(victim, sigma, votes)
    assert victim.queries_spent == 0


class Rows(Bright):
    def __init__(self, shape):
        super().__init__()
        self.space = Pictures(shape)
        self.input_shape = shape


def test_inputs_that_are_no_such_pictures_are_refused():
    for kind in set(FILTERS) - {"noise", "levels"}:
        with pytest.raises(UsageError, match="rows of features"):
            Filtered(Rows((1, 1, 5)), kind)
    assert Filtered(Rows((1, 1, 5)), "levels").labels(torch.ones(2, 1, 1, 5)).tolist() == [1, 1]
    with pytest.raises(UsageError, match="1 or 3 channels"):
        Filtered(Rows((2, 4, 4)), "jpeg")
