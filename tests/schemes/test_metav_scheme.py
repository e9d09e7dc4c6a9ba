"""The verifier's answer for classifiers, and for a model that predicts numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from whorl.data.base import Dataset
from whorl.errors import UsageError
from whorl.oracles.pool import Pool
from whorl.oracles.torch import TorchOracle
from whorl.queries.perceptron import respond, unpack
from whorl.schemes.metav import MetaV
from whorl.testing import tiny_data, tiny_pool, tiny_victim
from whorl.types import Access, Representation


@pytest.fixture(scope="module")
def pool():
    return tiny_pool(count=1)


@pytest.fixture(scope="module")
def fingerprint(pool):
    return MetaV(steps=20).extract(tiny_victim(), tiny_data("queries"), budget=6, pool=pool)


def test_similarity_is_what_the_verifier_makes_of_all_answers(fingerprint):
    suspect, queries = tiny_victim(seed=1), fingerprint.queries
    shared = queries.shared
    seen = [(suspect.probabilities(each[None])[0] - shared["centre"]) / shared["scale"] for each in queries.inputs]
    expected = float(respond(unpack(shared, "verifier"), torch.cat(seen)[None]).sigmoid())
    assert MetaV().observe(fingerprint, suspect).similarity == pytest.approx(expected, abs=1e-5)


def test_probabilities_tell_what_logits_tell(fingerprint):
    similarities = [
        MetaV().observe(fingerprint, tiny_victim(access, seed=1)).similarity
        for access in (Access.PROBABILITIES, Access.LOGITS)
    ]
    assert similarities[0] == pytest.approx(similarities[1], abs=1e-5)


def test_sure_verifiers_still_order_models():
    """In float32 everything beyond a logit of 17 would be the same certainty."""
    reference = Representation(torch.zeros(1))
    values = [MetaV().similarity(reference, Representation(torch.tensor([logit]))).similarity for logit in (20.0, 21.0)]
    assert 0 < values[0] < values[1] < 1


class Curve(nn.Module):
    """A random smooth function of eight numbers with two outputs far from 0 and of unlike size."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.inside = nn.Parameter(torch.randn(16, 8, generator=generator))
        self.outside = nn.Parameter(torch.randn(2, 16, generator=generator))

    def forward(self, x):
        return (x.flatten(1) @ self.inside.T).tanh() @ self.outside.T * torch.tensor([1.0, 100.0]) + 50


def regression(seed, *, jitter=0.0, task="regression", outputs=2):
    curve = Curve(seed)
    with torch.no_grad():
        for each in curve.parameters():
            each += jitter * torch.randn(each.shape, generator=torch.Generator().manual_seed(int(1e4 * jitter)))
    return TorchOracle(copy.deepcopy(curve), input_shape=(1, 1, 8), classes=outputs, task=task, name=f"curve {seed}")


def curves(**settings):
    shadows = Pool(
        {"jitter": [regression(0, jitter=0.01 * k) for k in (1, 2, 3)]}, [regression(k) for k in range(1, 7)]
    )
    scheme = MetaV(start="noise", **settings)
    inputs = torch.rand(20, 1, 1, 8, generator=torch.Generator().manual_seed(0))
    data = Dataset(inputs, torch.zeros(20, dtype=torch.int64), ())
    return scheme, scheme.extract(regression(0), data, budget=15, pool=shadows)


def test_models_of_numbers_are_told_apart_whatever_their_units():
    scheme, fingerprint = curves(steps=60)
    copies = [scheme.observe(fingerprint, regression(0, jitter=0.01 * k)).similarity for k in (1.5, 2.5, 3.5)]
    strangers = [scheme.observe(fingerprint, regression(k)).similarity for k in range(100, 110)]
    assert min(copies) > max(strangers)
    assert bool((fingerprint.queries.shared["scale"][1] > 10 * fingerprint.queries.shared["scale"][0]).all())


def test_shadow_models_of_another_task_are_refused():
    shadows = Pool({"jitter": [regression(0, jitter=0.01)]}, [regression(1), regression(2, task="generation")])
    inputs = torch.rand(20, 1, 1, 8)
    with pytest.raises(UsageError, match=r"a meta-verifier compares answers output by output.*generation"):
        MetaV().extract(regression(0), Dataset(inputs, torch.zeros(20, dtype=torch.int64), ()), pool=shadows)


def test_a_suspect_with_other_outputs_is_refused():
    scheme, fingerprint = curves(steps=1)
    with pytest.raises(UsageError, match="takes"):
        scheme.observe(fingerprint, regression(1, outputs=3))
