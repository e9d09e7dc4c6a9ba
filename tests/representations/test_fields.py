"""Gradient fields: completeness, linear models by hand, and the angle between fields."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.errors import AccessRefused
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly
from whorl.representations.fields import FieldAngle, GradientFields, alignment, gradient_fields
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Queries, Representation


@pytest.fixture(scope="module")
def victim():
    return tiny_victim()


@pytest.fixture(scope="module")
def pictures():
    return tiny_data("queries").inputs()[:30]


def linear(weight):
    net = nn.Sequential(nn.Flatten(), nn.Linear(weight.shape[1], len(weight)))
    net[1].weight.data.copy_(weight)
    net[1].bias.data.zero_()
    return TorchOracle(net, input_shape=(1, 2, 2), classes=len(weight))


def test_the_last_row_sums_to_the_change_of_the_logit(victim, pictures):
    """Sundararajan et al., proposition 1; the quadrature errs where a path crosses kinks."""
    pictures = pictures[:10]
    sums = gradient_fields(victim, pictures, 1000)[:, -1].sum(1)
    own = victim.labels(pictures)[:, None]
    change = (victim.logits(pictures) - victim.logits(torch.zeros_like(pictures))).gather(1, own).squeeze(1)
    torch.testing.assert_close(sums, change, rtol=0.03, atol=0.05)


def test_a_linear_model_by_hand():
    weight = torch.tensor([[1.0, -2, 0, 3], [0, 1, 1, -1]])
    picture = torch.tensor([[[[0.5, 0.1], [0.2, 0.9]]]])
    fields = gradient_fields(linear(weight), picture, 5)
    assert fields.shape == (1, 5, 4)
    torch.testing.assert_close(fields[0, -1], picture.flatten() * weight[0])
    shares = fields[0].sum(1) / fields[0, -1].sum()
    assert bool((shares.diff() > 0).all())
    torch.testing.assert_close(shares[2], torch.tensor(0.5 + 128 / 225 / 4))  # Gauss-Legendre weights of order 5


def test_passes_do_not_matter(victim, pictures, monkeypatch):
    whole = gradient_fields(victim, pictures, 6)
    monkeypatch.setattr("whorl.representations.fields.PASS", 20)
    torch.testing.assert_close(gradient_fields(victim, pictures, 6), whole, rtol=1e-3, atol=1e-5)


def test_equal_opposite_and_orthogonal_fields():
    picture = Queries(torch.full((1, 1, 2, 2), 0.5))

    def field(values):
        return GradientFields(nodes=4).represent(linear(torch.tensor([values])), picture)

    reference = field([1.0, 1, 0, 0])
    for values, expected in (([2.0, 2, 0, 0], 1.0), ([-1.0, -1, 0, 0], 0.0), ([0.0, 0, 1, 1], 0.5)):
        found = FieldAngle().similarity(reference, field(values))
        assert found.similarity == pytest.approx(expected, abs=1e-6)
        assert found.per_query is not None
        assert found.per_query.tolist() == pytest.approx([expected], abs=1e-6)


def test_a_model_without_gradient_has_nothing_in_common():
    flat = Representation(torch.zeros(3, 4, 5))
    assert alignment(flat.values, torch.rand(3, 4, 5)).tolist() == [0.5] * 3


def test_any_number_of_classes_can_be_compared(victim, pictures):
    other = tiny_victim()
    module = other.module
    module.head = nn.Linear(module.head.in_features, 3)
    fewer = TorchOracle(module, input_shape=victim.input_shape, classes=3)
    fields = [GradientFields(nodes=4).represent(oracle, Queries(pictures)).values for oracle in (victim, fewer)]
    assert fields[0].shape == fields[1].shape


def test_no_gradient_is_refused(victim, pictures):
    with pytest.raises(AccessRefused, match="follows gradients"):
        gradient_fields(LabelsOnly(victim), pictures, 4)
