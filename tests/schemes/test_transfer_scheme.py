"""The queries of `transfer` are adversarial on the victim, so that the match is the conditional rate."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.schemes.transfer import Transfer
from whorl.testing import tiny_data, tiny_victim


def test_every_query_has_crossed_within_epsilon(victim):
    scheme = Transfer(epsilon=0.15)
    fingerprint = scheme.extract(victim, tiny_data("victim"), budget=30)
    queries = fingerprint.queries
    assert bool((fingerprint.reference.values != queries.companions["source"]).all())
    assert torch.equal(victim.labels(queries.companions["seeds"]), queries.companions["source"])
    assert float((queries.inputs - queries.companions["seeds"]).abs().max()) <= 0.15 + 1e-6


def test_similarity_is_the_label_matched_rate(victim):
    """A suspect that is fooled into another class does not count."""
    scheme = Transfer(epsilon=0.15)
    fingerprint = scheme.extract(victim, tiny_data("victim"), budget=30)
    suspect = tiny_victim(seed=3)
    labels = suspect.labels(fingerprint.queries.inputs)
    fooled = labels != fingerprint.queries.companions["source"]
    rate = float((labels == victim.labels(fingerprint.queries.inputs)).float().mean())
    assert scheme.observe(fingerprint, suspect).similarity == pytest.approx(rate)
    assert rate < float(fooled.float().mean())


def test_too_small_an_epsilon_is_refused(victim):
    with pytest.raises(UsageError, match="raise epsilon"):
        Transfer(epsilon=0.001).extract(victim, tiny_data("victim"), budget=30)
