"""ModelDiff compares within each model, so another number of classes or another task is no obstacle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whorl.errors import UsageError
from whorl.nets.training import build
from whorl.oracles.torch import TorchOracle
from whorl.schemes import SCHEMES
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Access, Representation

QUICK = ["modeldiff(iterations=5)", "modeldiff-black-box(iterations=5)"]


def net(outputs, task="classification", access=Access.LOGITS):
    module = build("mlp", (1, 8, 8), outputs, torch.Generator().manual_seed(7)).eval()
    return TorchOracle(module, input_shape=(1, 8, 8), classes=outputs, access=access, task=task)


@pytest.mark.parametrize("scheme", QUICK)
@pytest.mark.parametrize(("outputs", "task"), [(2, "classification"), (3, "regression"), (64, "generation")])
def test_a_suspect_of_another_kind_is_compared(scheme, outputs, task):
    scheme = SCHEMES.make(scheme)
    fingerprint = scheme.extract(tiny_victim(), tiny_data("victim"), budget=8)
    verdict = scheme.verify(fingerprint, net(outputs, task))
    assert -1 <= verdict.similarity < 1
    assert verdict.queries["spent"] == 8
    assert verdict.queries["inputs_each"] == 2


def test_a_victim_without_gradients_needs_the_black_box():
    victim, data = tiny_victim(Access.PROBABILITIES), tiny_data("victim")
    black_box = SCHEMES.make(QUICK[1])
    assert black_box.observe(black_box.extract(victim, data, budget=8), victim).similarity == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("centred", [False, True])
def test_similarity_against_numpy(centred):
    scheme = SCHEMES.make(f"modeldiff(centred={str(centred).lower()})")
    first, second = np.random.default_rng(0).random((2, 30))
    found = scheme.similarity(*(Representation(torch.from_numpy(each)) for each in (first, second))).similarity
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert found == pytest.approx(np.corrcoef(first, second)[0, 1] if centred else cosine)


def test_all_pairs_are_asked_or_none():
    scheme = SCHEMES.make(QUICK[0])
    fingerprint = scheme.extract(tiny_victim(), tiny_data("victim"), budget=8)
    with pytest.raises(UsageError, match="as a whole"):
        scheme.verify(fingerprint, net(10), budget=4)
