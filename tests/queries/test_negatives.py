"""Negatives are pictures that the victim really gets wrong."""

from __future__ import annotations

import pytest
import torch

from whorl.data import Dataset
from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.oracles.pool import Pool
from whorl.queries.negatives import CommonErrors, MaskedErrors, MixedErrors, Negatives
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


def test_negatives_know_the_classes_they_might_have(victim, held_out):
    queries = Negatives().sample(victim, held_out, budget=60, generator=generator())
    truth, natural = queries.companions["truth"], queries.companions["natural"]
    assert truth[natural][:, 0].tolist() == _truth(queries.inputs[natural], held_out).tolist()
    assert torch.equal(truth[natural][:, 0], truth[natural][:, 1])
    assert bool((victim.labels(queries.inputs)[:, None] != truth).all())


def test_mixed_errors_are_made_of_errors_only(victim, held_out):
    wrong = victim.labels(held_out.inputs()) != held_out.labels
    queries = MixedErrors().sample(victim, held_out, budget=200, generator=generator())
    assert set(queries.companions["truth"].unique().tolist()) <= set(held_out.labels[wrong].tolist())
    assert queries.notes["natural_errors"] == int(wrong.sum())
    pixels = set(held_out.inputs()[wrong].unique().tolist())
    assert set(queries.inputs.unique().tolist()) <= pixels
    assert len(queries.inputs.unique(dim=0)) > 150


def test_mixing_takes_two_errors():
    with pytest.raises(UsageError, match="0 errors on 50 pictures and mixing takes two"):
        MixedErrors().sample(Brightness(), levels(50), budget=4, generator=generator())


def test_masked_errors_show_the_whole_error_first(victim, held_out):
    queries = MaskedErrors(masks=5).sample(victim, held_out, budget=6, generator=generator())
    assert queries.inputs.shape == (6, 5, 1, 8, 8)
    whole = Negatives().sample(victim, held_out, budget=6, generator=generator())
    assert torch.equal(queries.inputs[:, 0], whole.inputs)


class Sees(Brightness):
    """Right, wrong as the victim, or wrong in a way of its own, by a number in the upper left pixel."""

    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def _stream(self, inputs):
        yield torch.arange(len(inputs)), self.rule((inputs[:, 0, 0, 0] * 100).round().long())


def test_common_errors_come_first():
    """Picture k of class 0: the victim errs on all, copy j on those that j + 2 divides, the stranger on even ones."""
    images = (torch.arange(1, 61) / 100).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).clone()
    data = Dataset(images, torch.zeros(60, dtype=torch.int64), tuple("0123456789"))
    copies = [Sees(lambda k, step=step: (k % step == 0).long()) for step in (2, 3)]
    pool = Pool({"prune": copies}, [Sees(lambda k: (k % 2 == 0).long())])
    victim = Sees(torch.ones_like)

    def chosen(**settings):
        sampler = CommonErrors(candidates=6.0, **settings)
        queries = sampler.sample_with(victim, data, pool, budget=10, generator=generator())
        return [round(float(k) * 100) for k in queries.inputs[:, 0, 0, 0]], queries.companions["common"].tolist()

    numbers, common = chosen()
    assert sorted(numbers) == [6 * k for k in range(1, 11)], "errors of both copies"
    assert common == [1.0] * 10
    numbers, common = chosen(avoid=True)
    assert all(number % 3 == 0 and number % 2 for number in numbers), "and not of the stranger"
    assert common == [0.5] * 10


def test_common_errors_need_a_copy():
    with pytest.raises(UsageError, match="at least 1 copies"):
        CommonErrors().sample_with(Brightness(), levels(50), Pool({}, []), budget=3, generator=generator())
