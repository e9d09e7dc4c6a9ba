"""Labels along trajectories, counted by hand."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.schemes.adv_tra import AdvTra, Unmutated
from whorl.testing import tiny_data, tiny_victim
from whorl.types import Representation


def test_similarity_is_one_less_the_mutation_rate():
    ours = Representation(torch.tensor([[0, 0, 1, 1], [2, 2, 3, 3]]))
    theirs = Representation(torch.tensor([[0, 0, 0, 1], [1, 1, 1, 3]]))
    found = Unmutated().similarity(ours, theirs)
    assert found.per_query is not None
    assert found.per_query.tolist() == [0.75, 0.25]
    assert found.similarity == 0.5


@pytest.mark.parametrize("shapes", [((4,), (4,)), ((2, 4), (2, 3)), ((0, 4), (0, 4))])
def test_other_shapes_are_refused(shapes):
    ours, theirs = (Representation(torch.zeros(shape, dtype=torch.int64)) for shape in shapes)
    with pytest.raises(UsageError, match="label by label"):
        Unmutated().similarity(ours, theirs)


def test_a_verdict_counts_trajectories_and_names_their_inputs():
    scheme = AdvTra(length=4, crossings=2, iterations=8)
    victim = tiny_victim()
    fingerprint = scheme.extract(victim, tiny_data("victim"), budget=6)
    assert fingerprint.reference.values.shape == (6, 8)
    asked = victim.queries_spent
    verdict = scheme.verify(fingerprint, victim)
    assert verdict.queries["spent"] == 6
    assert verdict.queries["inputs_each"] == 8
    assert victim.queries_spent - asked == 48
    assert verdict.similarity == 1.0
