"""Sensitive samples: what a service shows, and that only a change of the model changes it."""

from __future__ import annotations

import copy

import pytest
import torch

from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly, Rounded
from whorl.schemes import SCHEMES
from whorl.schemes.sensitive_samples import shown
from whorl.testing import tiny_data, tiny_victim

SETTINGS = "candidates=60, iterations=30"
SCHEMES_UNDER_TEST = (
    f"sensitive-samples-labels({SETTINGS})",
    f"sensitive-samples(digits=0, {SETTINGS})",
    f"sensitive-samples(digits=2, {SETTINGS})",
    f"sensitive-samples(digits=4, top=3, {SETTINGS})",
)


@pytest.fixture(scope="module")
def victim():
    return tiny_victim()


@pytest.fixture(scope="module")
def fingerprints(victim):
    return {
        expression: SCHEMES.make(expression).extract(victim, tiny_data("queries"), budget=8)
        for expression in SCHEMES_UNDER_TEST
    }


def oracle(module, **settings):
    return TorchOracle(module, input_shape=(1, 8, 8), classes=10, **settings)


def test_what_is_shown():
    probabilities = torch.tensor([[0.104, 0.59, 0.104, 0.202], [0.001, 0.998, 0.001, 0.0]])
    assert shown(probabilities, 2, 0).tolist() == [[1, 3], [1, 0]]
    assert shown(probabilities, 3, 2).tolist() == [[[1, 59], [3, 20], [0, 10]], [[1, 100], [-1, 0], [-1, 0]]]
    assert shown(probabilities, 9, 1).shape == (2, 4, 2)


def test_ties_after_rounding_do_not_depend_on_what_is_hidden():
    first, second = torch.tensor([[0.301, 0.302, 0.397]]), torch.tensor([[0.302, 0.301, 0.397]])
    assert torch.equal(shown(first, 3, 2), shown(second, 3, 2))
    assert not torch.equal(shown(first, 3, 3), shown(second, 3, 3))


@pytest.mark.parametrize("expression", SCHEMES_UNDER_TEST)
@pytest.mark.parametrize("batch", [1, 3, 256])
def test_the_unchanged_model_is_never_flagged(victim, fingerprints, expression, batch):
    suspect = oracle(copy.deepcopy(victim.module), batch=batch)
    assert SCHEMES.make(expression).observe(fingerprints[expression], suspect).similarity == 1


@pytest.mark.parametrize(("place", "wrap"), [(0, LabelsOnly), (2, lambda inner: Rounded(inner, decimals=2))])
def test_a_service_that_shows_no_more_is_enough(victim, fingerprints, place, wrap):
    expression = SCHEMES_UNDER_TEST[place]
    assert SCHEMES.make(expression).observe(fingerprints[expression], wrap(victim)).similarity == 1


@pytest.mark.parametrize("expression", SCHEMES_UNDER_TEST)
def test_another_model_is_flagged(fingerprints, expression):
    assert SCHEMES.make(expression).observe(fingerprints[expression], tiny_victim(seed=1)).similarity < 1


def test_more_digits_see_smaller_changes(victim, fingerprints):
    generator = torch.Generator().manual_seed(0)
    module = copy.deepcopy(victim.module)
    for parameter in module.parameters():
        parameter.data += 1e-4 * torch.randn(parameter.shape, generator=generator)
    labels, _, _, digits = (
        SCHEMES.make(expression).observe(fingerprints[expression], oracle(module)).similarity
        for expression in SCHEMES_UNDER_TEST
    )
    assert digits < 1
    assert digits < labels


def test_similarity_is_the_share_of_unchanged_answers(fingerprints):
    expression = SCHEMES_UNDER_TEST[2]
    scheme, fingerprint = SCHEMES.make(expression), fingerprints[expression]
    suspect = tiny_victim(seed=1)
    same = (scheme.represent(suspect, fingerprint.queries).values == fingerprint.reference.values).all(2).all(1)
    assert scheme.observe(fingerprint, suspect).per_query.tolist() == same.float().tolist()
