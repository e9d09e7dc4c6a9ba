"""Correlation matrices against their definition, and what they do not depend on."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.representations.correlations import Correlations, LabelEqualities, correlations
from whorl.testing import tiny_victim
from whorl.types import Access, Queries


@pytest.fixture
def pictures(held_out):
    return Queries(held_out.inputs(slice(0, 12)))


def scores(rows=9):
    return torch.randn(rows, 10, generator=torch.Generator().manual_seed(0))


def test_cosine_correlations_pair_by_pair():
    values = scores()
    expected = [[(1 - torch.cosine_similarity(u, v, dim=0)) / 2 for v in values] for u in values]
    torch.testing.assert_close(correlations(values, "cosine", 1.0), torch.tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("bandwidth", [0.5, 1.0, 3.0])
def test_gaussian_correlations_pair_by_pair(bandwidth):
    values = scores()
    units = values / values.norm(dim=1, keepdim=True)
    expected = (-torch.cdist(units.double(), units.double()).square() / bandwidth**2).exp().float()
    torch.testing.assert_close(correlations(values, "gaussian", bandwidth), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernel", ["cosine", "gaussian"])
def test_a_matrix_is_symmetric_within_bounds_and_the_same_for_any_order_of_the_classes(kernel):
    found = correlations(scores(), kernel, 1.0)
    assert torch.equal(found, found.T)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert float(found.diagonal().unique()) == (0 if kernel == "cosine" else 1)
    torch.testing.assert_close(correlations(scores().flip(1), kernel, 1.0), found)


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"kernel": "euclid"}, "cosine or gaussian"), ({"kernel": "gaussian", "bandwidth": 0.0}, "above 0, not 0")],
)
def test_kernels_that_do_not_exist(settings, says):
    with pytest.raises(UsageError, match=says):
        Correlations(**settings)


def test_the_same_whether_a_model_gives_logits_or_probabilities(pictures):
    logits, probabilities = (
        Correlations().represent(tiny_victim(access), pictures).values
        for access in (Access.LOGITS, Access.PROBABILITIES)
    )
    torch.testing.assert_close(logits, probabilities, rtol=0, atol=1e-3)


def test_label_equalities(pictures):
    victim = tiny_victim(Access.LABELS)
    labels = victim.labels(pictures.inputs)
    found = LabelEqualities().represent(victim, pictures).values
    assert found.tolist() == [[int(one == other) for other in labels] for one in labels]


@pytest.mark.parametrize("representer", [Correlations(), LabelEqualities()])
def test_each_input_of_a_query_has_a_row(representer, pictures):
    """A pair is two inputs; asked as pairs or one by one the matrix is the same."""
    pairs = Queries(pictures.inputs.unflatten(0, (6, 2)))
    found, flat = (representer.represent(tiny_victim(), queries).values for queries in (pairs, pictures))
    torch.testing.assert_close(found, flat)


@pytest.mark.parametrize("representer", [Correlations(), LabelEqualities()])
def test_a_matrix_too_large_for_memory_is_refused_before_anything_is_asked(representer):
    victim = tiny_victim()
    with pytest.raises(UsageError, match="5,000 inputs"):
        representer.represent(victim, Queries(torch.zeros(50, 100, 1, 8, 8)))
    assert victim.queries_spent == 0
