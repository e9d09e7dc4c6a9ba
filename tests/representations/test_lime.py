"""LIME weights are least-squares weights, and find what a linear model looks at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whorl.errors import UsageError
from whorl.oracles.base import Oracle
from whorl.queries.masks import Masks, hide
from whorl.representations.base import ask
from whorl.representations.lime import LimeWeights
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Access, Queries


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Linear(Oracle):
    """Logits that are weighted sums of four pixels, and a constant."""

    def __init__(self, weights, constant):
        super().__init__(access=Access.LOGITS, input_shape=(1, 2, 2), classes=weights.shape[1], name="", digest="")
        self.weights, self.constant = weights, constant

    def _stream(self, inputs):
        yield torch.arange(len(inputs)), inputs.flatten(1) @ self.weights + self.constant


@pytest.fixture
def queries():
    beacons = torch.rand(3, 1, 2, 2, generator=generator())
    return hide(
        beacons, torch.arange(4).view(1, 2, 2).expand(3, -1, -1), torch.zeros(1), masks=40, generator=generator()
    )


def centred(values):
    return values - values.mean(-1, keepdim=True)


@pytest.mark.parametrize("intercept", [False, True])
def test_weights_of_a_linear_model_are_its_own(queries, intercept):
    weights = torch.randn(4, 3, generator=generator())
    constant = torch.tensor([5.0, 0.0, -3.0]) * intercept
    found = LimeWeights(intercept=intercept).represent(Linear(weights, constant), queries).values
    beacons = queries.inputs[:, 0].flatten(1)
    assert torch.allclose(found, beacons[:, :, None] * centred(weights), atol=1e-4)


def test_without_an_intercept_a_constant_leaks_into_the_weights(queries):
    weights = torch.randn(4, 3, generator=generator())
    plain, moved = (
        LimeWeights().represent(Linear(weights, torch.tensor([shift, 0.0, 0.0])), queries).values for shift in (0, 5)
    )
    assert float((plain - moved).abs().max()) > 0.5


@pytest.mark.parametrize("masks", [5, 100])
def test_weights_against_numpy(masks):
    """Also where there are fewer masks than superpixels, and the solution of least norm counts."""
    victim = tiny_victim(Access.PROBABILITIES)
    asked = Masks(masks=masks).sample(victim, tiny_data("victim"), budget=6, generator=generator())
    found = LimeWeights().represent(victim, asked).values
    scores = ask(victim.scores, asked.inputs, victim.space).double().numpy()
    for row, mask in enumerate(asked.companions["masks"].double().numpy()):
        expected = np.linalg.lstsq(mask, scores[row], rcond=1e-6)[0]
        assert np.abs(found[row].numpy() - expected).max() < 1e-3 * np.abs(expected).max()


def test_an_absent_superpixel_has_no_weight():
    beacons = torch.rand(1, 1, 8, 8, generator=generator())
    segments = (torch.arange(64).view(1, 8, 8) // 32) * 2  # 0 and 2
    asked = hide(beacons, segments, torch.zeros(1), masks=20, generator=generator())
    found = LimeWeights().represent(tiny_victim(), asked).values
    assert not found[0, 1].any()
    assert found[0, [0, 2]].abs().min() > 0


def test_logits_and_probabilities_give_the_same_weights():
    asked = Masks(masks=30).sample(tiny_victim(), tiny_data("victim"), budget=4, generator=generator())
    found = [
        LimeWeights().represent(tiny_victim(access), asked).values for access in (Access.PROBABILITIES, Access.LOGITS)
    ]
    assert torch.allclose(*found, atol=1e-3)


def test_queries_without_masks_are_refused():
    with pytest.raises(UsageError, match="Masks"):
        LimeWeights().represent(tiny_victim(), Queries(torch.zeros(3, 1, 8, 8)))
