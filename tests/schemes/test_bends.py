"""What TAFA sees of a suspect: bends, at probabilities as at logits, and how it weighs them."""

from __future__ import annotations

import pytest
import torch

from whorl.data import SOURCES
from whorl.nets.training import build
from whorl.oracles.torch import TorchOracle
from whorl.schemes.tafa import TAFA, Alignment
from whorl.testing import tiny_victim
from whorl.types import Access, Representation


def rates(ours, theirs):
    evidence = Alignment().similarity(Representation(torch.tensor(ours)), Representation(torch.tensor(theirs)))
    assert evidence.per_query is not None
    assert evidence.similarity == pytest.approx(float(evidence.per_query.mean()))
    return evidence.per_query.tolist()


def test_similarity_by_hand():
    ours = [[3.0, 4.0]] * 7
    theirs = [[3.0, 4.0], [6.0, 8.0], [1.5, 2.0], [-3.0, -4.0], [0.0, 0.0], [4.0, -3.0], [5.0, 0.0]]
    assert rates(ours, theirs) == pytest.approx([1, 1, 0.5, 0, 0, 0, 0.6])
    assert rates([[0.0]], [[1.0]]) == [0]


def test_probabilities_show_the_same_bends_as_logits():
    """Softmax forgets a constant that differs from input to input; centring leaves the kinks as they are."""
    fingerprint = TAFA().extract(tiny_victim(), None, budget=20)
    soft = TAFA().represent(tiny_victim(Access.PROBABILITIES), fingerprint.queries)
    assert TAFA().observe(fingerprint, tiny_victim(Access.PROBABILITIES)).similarity > 0.98
    torch.testing.assert_close(soft.values, fingerprint.reference.values, rtol=0.05, atol=0.02)


def test_the_reference_is_the_kink():
    net = build("mlp_regressor(width=32)", (1, 1, 10), 2, torch.Generator().manual_seed(0))
    victim = TorchOracle(net, input_shape=(1, 1, 10), classes=2, task="regression")
    fingerprint = TAFA().extract(victim, None, budget=30)
    error = (fingerprint.reference.values - fingerprint.queries.companions["kink"]).norm(dim=1)
    assert float((error / fingerprint.queries.companions["kink"].norm(dim=1)).max()) < 1e-2  # float32 answers
    assert fingerprint.queries.notes["largest_error"] <= 1e-4


def test_data_that_are_given_make_no_difference():
    noise = SOURCES.make("noise(shape=[1, 8, 8], count=5)").load("queries")
    one, other = (TAFA().extract(tiny_victim(), data, budget=5) for data in (None, noise))
    assert torch.equal(one.queries.inputs, other.queries.inputs)
