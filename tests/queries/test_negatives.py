"""Negatives are pictures that the victim really gets wrong."""

from __future__ import annotations

import pytest
import torch

from whorl.data import Dataset
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.queries.negatives import Negatives, cutmix
from whorl.types import Access


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Brightness(Oracle):
    """Ten classes by mean brightness: right about `levels` and wrong about most mixtures of them."""

    def __init__(self):
        super().__init__(access=Access.LABELS, input_shape=(1, 8, 8), classes=10, name="brightness", digest="")

    def _stream(self, inputs):
        yield torch.arange(len(inputs)), (inputs.mean((1, 2, 3)) * 10).long().clamp(0, 9)


def levels(count):
    """Grey pictures of ten brightnesses with their right labels."""
    labels = torch.arange(count) % 10
    images = ((labels + 0.5) / 10).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).clone()
    return Dataset(images, labels, tuple("0123456789"))


def test_natural_errors_come_first(victim, held_out):
    wrong = victim.labels(held_out.inputs()) != held_out.labels
    errors = int(wrong.sum())
    assert errors > 5
    queries = Negatives(augment=False).sample(victim, held_out, budget=errors, generator=generator())
    rows = {picture.numpy().tobytes() for picture in held_out.inputs()[wrong]}
    assert {picture.numpy().tobytes() for picture in queries.inputs} == rows
    assert bool(queries.companions["natural"].all())
    assert queries.notes["natural_errors"] == errors


def test_mixtures_fill_up_where_errors_run_out(victim, held_out):
    errors = int((victim.labels(held_out.inputs()) != held_out.labels).sum())
    queries = Negatives().sample(victim, held_out, budget=errors + 30, generator=generator())
    natural = queries.companions["natural"]
    assert int(natural.sum()) == errors
    assert bool(natural[:errors].all())
    rows = {picture.numpy().tobytes() for picture in held_out.inputs()}
    assert [picture.numpy().tobytes() in rows for picture in queries.inputs] == natural.tolist()


def test_mixtures_are_errors_whichever_source_is_true():
    """Of a victim without errors. A mixture's pixels show its two classes, and the answer is neither."""
    victim, data = Brightness(), levels(50)
    queries = Negatives().sample(victim, data, budget=40, generator=generator())
    assert not queries.companions["natural"].any()
    answers = victim.labels(queries.inputs)
    for picture, answer in zip(queries.inputs, answers, strict=True):
        sources = {int(value * 10) for value in picture.unique()}
        assert len(sources) == 2
        assert int(answer) not in sources


def test_enough_errors_need_no_mixture(victim, held_out):
    queries = Negatives().sample(victim, held_out, budget=5, generator=generator())
    assert bool(queries.companions["natural"].all())
    assert bool((victim.labels(queries.inputs) != _truth(queries.inputs, held_out)).all())
    assert queries.notes["asked_of_victim"] == len(held_out)


def test_asking_again_counts_anew(victim, held_out):
    """The same seed gives the same bytes, whatever the victim was asked before."""
    first, again = (Negatives().sample(victim, held_out, budget=60, generator=generator()) for _ in range(2))
    assert first.notes == again.notes
    assert first.inputs.equal(again.inputs)


def _truth(inputs, data):
    rows = {picture.numpy().tobytes(): int(label) for picture, label in zip(data.inputs(), data.labels, strict=True)}
    return torch.tensor([rows[picture.numpy().tobytes()] for picture in inputs])


def test_too_few_errors_without_mixtures_are_refused():
    with pytest.raises(UsageError, match="0 errors on 50 pictures"):
        Negatives(augment=False).sample(Brightness(), levels(50), budget=3, generator=generator())


def test_a_victim_that_never_errs_is_refused_in_the_end():
    """All pictures of one class: no mixture can be wrong."""
    data = levels(50)
    same = data.subset(data.labels == 3)
    with pytest.raises(UsageError, match="errs too rarely: 0 of 4"):
        Negatives(tries=2).sample(Brightness(), same, budget=4, generator=generator())


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
