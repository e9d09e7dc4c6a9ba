"""ModelGiF: which pictures it refers to."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.oracles.pool import Pool
from whorl.schemes import SCHEMES
from whorl.testing import tiny_data, tiny_pool, tiny_victim
from whorl.types import Access


@pytest.fixture(scope="module")
def victim():
    return tiny_victim()


def extracted(victim, expression, **given):
    return SCHEMES.make(expression).extract(victim, tiny_data("queries"), budget=10, **given)


def test_the_victim_is_like_itself(victim):
    scheme = SCHEMES.make("modelgif(nodes=8)")
    evidence = scheme.observe(extracted(victim, "modelgif(nodes=8)"), tiny_victim())
    assert evidence.similarity == pytest.approx(1, abs=1e-5)
    assert 0.3 < scheme.observe(extracted(victim, "modelgif(nodes=8)"), tiny_victim(seed=1)).similarity < 0.9


def test_uncertain_pictures_are_less_certain(victim):
    def certainty(reference):
        inputs = extracted(victim, f"modelgif(nodes=2, reference={reference})").queries.inputs
        return float(victim.probabilities(inputs).square().sum(1).mean())

    assert certainty("uncertain") < certainty("random")


def test_another_reference_is_refused(victim):
    with pytest.raises(UsageError, match="random or uncertain"):
        extracted(victim, "modelgif(reference=best)")


def test_selected_pictures_are_those_where_the_pool_differs_most(victim):
    pool, data = tiny_pool(), tiny_data("queries")
    expression = f"modelgif-selected(nodes=4, candidates={len(data)})"
    scheme = SCHEMES.make(expression)
    chosen = extracted(victim, expression, pool=pool).queries
    everything = SCHEMES.make("modelgif(nodes=4)").extract(victim, data, budget=len(data))
    alike = torch.stack([scheme.observe(everything, model).per_query for model in pool.independent]).mean(0)
    expected = everything.queries.inputs[alike.argsort()[:10]]
    assert {tuple(each.flatten().tolist()) for each in chosen.inputs} == {
        tuple(each.flatten().tolist()) for each in expected
    }
    torch.testing.assert_close(chosen.companions["similarity"], alike.sort().values[:10], rtol=0, atol=1e-5)


def test_what_was_selected_by_is_never_under_test(victim):
    pool = tiny_pool()
    fingerprint = extracted(victim, "modelgif-selected(nodes=4)", pool=pool)
    with pytest.raises(UsageError, match="shadow models"):
        SCHEMES.make("modelgif-selected(nodes=4)").observe(fingerprint, pool.independent[0])


def test_selection_needs_gradients(victim):
    pool = Pool({}, [tiny_victim(Access.LOGITS, seed=7)])
    with pytest.raises(UsageError, match="GRADIENTS"):
        extracted(victim, "modelgif-selected(nodes=4)", pool=pool)
