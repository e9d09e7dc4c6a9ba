from __future__ import annotations

import pytest
import torch

from whorl.data import PARTS, SOURCES
from whorl.data.digits import Digits
from whorl.errors import UsageError


def test_parts_share_no_picture_and_are_the_whole_set():
    from sklearn.datasets import load_digits

    parts = [Digits(size=8).load(part) for part in PARTS]
    drawn = sorted(image.numpy().tobytes() for data in parts for image in data.images)
    whole = torch.from_numpy(load_digits().images).float() / 16
    assert drawn == sorted(image.numpy().tobytes() for image in whole)


def test_every_class_is_in_every_part():
    for part in PARTS:
        assert Digits().load(part).labels.unique().tolist() == list(range(10))


@pytest.mark.parametrize("size", [8, 16, 28])
def test_shape_range_and_names(size: int):
    data = Digits(size=size).load("test")
    assert data.input_shape == (1, size, size)
    assert data.images.dtype == torch.float32
    assert data.images.min() >= 0
    assert 0.9 < data.images.max() <= 1
    assert data.classes == tuple("0123456789")


def test_the_seed_moves_pictures_between_parts_and_nothing_else_does():
    first, second, other = (Digits(seed=seed)._load("victim") for seed in (0, 0, 1))
    assert torch.equal(first.images, second.images)
    assert first.images.shape == other.images.shape
    assert not torch.equal(first.images, other.images)


def test_the_expression_makes_the_same_source_again():
    data = SOURCES.make("digits").load("queries")
    assert data.expression == "digits(size=16, seed=0)"
    assert torch.equal(SOURCES.make(data.expression).load("queries").images, data.images)


@pytest.mark.parametrize("size", [0, 3, 513, "big"])
def test_impossible_sizes_are_refused(size: int):
    with pytest.raises(UsageError, match="size is a whole number from 4 to 512"):
        Digits(size=size)


def test_an_unknown_part_is_refused():
    with pytest.raises(UsageError, match="The parts are victim, attacker, calibration, queries, test"):
        Digits().load("train")
