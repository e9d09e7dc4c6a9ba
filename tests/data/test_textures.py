from __future__ import annotations

import pytest
import torch

from whorl.data import PARTS, SOURCES
from whorl.data.textures import Textures
from whorl.errors import UsageError


def test_parts_have_the_documented_sizes_and_share_no_picture():
    parts = {part: Textures(images=300).load(part) for part in PARTS}
    assert {part: len(data) for part, data in parts.items()} == {
        "victim": 300,
        "attacker": 300,
        "calibration": 300,
        "queries": 1000,
        "test": 2000,
    }
    pictures = [image.numpy().tobytes() for data in parts.values() for image in data.images]
    assert len(set(pictures)) == len(pictures) == 3900


def test_pictures_are_float_in_the_unit_interval_and_use_it():
    images = Textures(images=200).load("victim").images
    assert images.dtype == torch.float32
    assert images.shape == (200, 3, 16, 16)
    assert images.min() == 0
    assert images.max() == 1


def test_same_seed_same_bytes_and_other_seed_other_pictures():
    first, second, other = (Textures(images=100, seed=seed)._load("victim") for seed in (3, 3, 4))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert not torch.equal(first.images, other.images)


def test_streams_of_neighbouring_seeds_are_not_each_others_parts():
    drawn = [Textures(images=10, noise=0, seed=seed)._load(part).images for seed in range(3) for part in PARTS]
    assert len({images[:10].numpy().tobytes() for images in drawn}) == len(drawn)


@pytest.mark.parametrize("classes", [2, 7, 10])
def test_classes_are_balanced_and_named(classes: int):
    data = Textures(classes=classes, images=140).load("attacker")
    assert len(data.classes) == classes
    counts = data.labels.bincount(minlength=classes)
    assert counts.sum() == 140
    assert counts.max() - counts.min() <= 1


def test_families_differ_without_noise():
    """Stripes vary across their own direction only: the label names what is drawn."""
    data = Textures(noise=0, images=1000).load("victim")
    across = data.images.diff(dim=3).abs().mean(dim=(1, 2, 3))
    down = data.images.diff(dim=2).abs().mean(dim=(1, 2, 3))
    ratio = [float((across / down)[data.labels == data.classes.index(name)].median()) for name in data.classes]
    share = dict(zip(data.classes, ratio, strict=True))
    assert share["vertical"] > 2
    assert share["horizontal"] < 0.5
    assert 0.8 < share["disc"] < 1.25
    assert 0.8 < share["checkerboard"] < 1.25


def test_a_small_net_would_not_find_the_class_in_the_colour():
    data = Textures(images=2000).load("victim")
    means = torch.stack([data.images[data.labels == label].mean(dim=(0, 2, 3)) for label in range(10)])
    assert means.std(dim=0).max() < 0.03


def test_the_expression_makes_the_same_source_again():
    data = SOURCES.make("textures(size=8, images=20)").load("victim")
    assert data.expression == "textures(size=8, classes=10, images=20, noise=0.14, seed=0)"
    again = SOURCES.make(data.expression).load("victim")
    assert torch.equal(again.images, data.images)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("textures(classes=1)", "classes is a whole number from 2 to 10, not 1"),
        ("textures(classes=11)", "classes is a whole number from 2 to 10, not 11"),
        ("textures(images=0)", "images is a whole number of at least 1, not 0"),
        ("textures(images=2.5)", "a whole number of at least 1, not 2.5"),
        ("textures(noise=-0.1)", "noise is a number from 0 to 1, not -0.1"),
        ("textures(noise=loud)", "from 0 to 1, not loud"),
        ("textures(seed=-1)", "seed is a whole number from 0 to 536870912, not -1"),
        ("textures(size=2)", "size is a whole number from 4 to 512, not 2"),
        ("textures(size=true)", "from 4 to 512, not true"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(expression: str, message: str):
    with pytest.raises(UsageError) as error:
        SOURCES.make(expression)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
