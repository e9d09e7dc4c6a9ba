"""Views, encoder and similarity of UAP against their definition."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from whorl.errors import UsageError
from whorl.queries.perceptron import respond, unpack
from whorl.schemes.uap import UAP
from whorl.testing import tiny_data, tiny_pool, tiny_victim
from whorl.types import Access, Representation


@pytest.fixture(scope="module")
def pool():
    return tiny_pool(count=1)


def extract(pool, **settings):
    scheme = UAP(**{"epochs": 5, "steps": 50} | settings)
    return scheme, scheme.extract(tiny_victim(), tiny_data("victim"), budget=11, pool=pool)


@pytest.mark.parametrize("encode", [True, False])
def test_similarity_is_the_mean_cosine_of_the_views(pool, encode):
    scheme, fingerprint = extract(pool, encode=encode, views=3)
    queries, suspect, victim = fingerprint.queries, tiny_victim(seed=1), tiny_victim()
    assert queries.shared["views"].shape == (3, 4)
    cosines = []
    for view in queries.shared["views"]:
        joined = []
        for model in (victim, suspect):
            answers = [model.probabilities(queries.inputs[k]).flatten() for k in view]
            each = torch.cat(answers)[None]
            joined.append(respond(unpack(queries.shared, "encoder"), each) if encode else each)
        cosines.append(float(cosine_similarity(*joined)))
    assert len(cosines) == 3
    expected = sum((1 + cosine) / 2 for cosine in cosines) / 3
    assert scheme.observe(fingerprint, suspect).similarity == pytest.approx(expected, abs=1e-5)


def test_the_victim_is_like_itself(pool):
    scheme, fingerprint = extract(pool)
    assert scheme.observe(fingerprint, tiny_victim()).similarity == pytest.approx(1, abs=1e-6)
    assert fingerprint.reference.values.shape == (5, 20)


def test_opposite_embeddings_score_zero():
    there = Representation(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    back = Representation(-there.values)
    assert UAP().similarity(there, back).similarity == 0
    assert UAP().similarity(there, Representation(there.values.flip(1))).similarity == 0.5


def test_probabilities_tell_what_logits_tell(pool):
    scheme, fingerprint = extract(pool)
    similarities = [
        scheme.observe(fingerprint, tiny_victim(access, seed=1)).similarity
        for access in (Access.PROBABILITIES, Access.LOGITS)
    ]
    assert similarities[0] == pytest.approx(similarities[1], abs=1e-5)


def test_a_shadow_model_may_not_be_a_suspect(pool):
    scheme, fingerprint = extract(pool)
    with pytest.raises(UsageError, match="shadow models that this fingerprint learned from"):
        scheme.observe(fingerprint, pool.independent[0])


def test_a_part_of_the_queries_is_refused(pool):
    scheme, fingerprint = extract(pool)
    with pytest.raises(UsageError, match="as a whole"):
        scheme.verify(fingerprint, tiny_victim(), budget=5)
