"""DeepJudge: the metrics and bounds by hand, the vote, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from whorl.errors import UsageError
from whorl.oracles.pool import Pool
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.schemes import SCHEMES
from whorl.schemes.deepjudge import lower_bounds, output_distances, vote
from whorl.testing import tiny_data, tiny_pool, tiny_victim
from whorl.types import Representation

BLACK = "deepjudge(epsilon=0.15, step=0.03)"
WHITE = "deepjudge-white-box(iterations=60, layer=4)"


@pytest.fixture(scope="module")
def victim():
    return tiny_victim()


@pytest.fixture(scope="module")
def pool():
    return tiny_pool()


@pytest.fixture(scope="module")
def fingerprints(victim, pool):
    return {
        expression: SCHEMES.make(expression).extract(victim, tiny_data("queries"), budget=20, pool=pool)
        for expression in (BLACK, WHITE)
    }


def test_divergence_is_scipys():
    generator = torch.Generator().manual_seed(0)
    owner, suspect = torch.rand(2, 6, 4, generator=generator).mul(4).softmax(2)
    found = output_distances(owner, suspect, torch.zeros(6, dtype=torch.int64))[1]
    expected = np.mean([jensenshannon(*pair) ** 2 for pair in zip(owner.numpy(), suspect.numpy(), strict=True)])
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_divergence_of_certain_answers_is_bounded():
    certain = torch.eye(3)
    truth = torch.arange(3)
    assert output_distances(certain, certain, truth).tolist() == [0, 0]
    robustness, divergence = output_distances(certain, certain.roll(1, 0), truth).tolist()
    assert robustness == 1
    assert divergence == pytest.approx(np.log(2))


def test_bounds_are_a_one_tailed_t_interval():
    values = torch.tensor([[0.5, 0.2], [0.7, 0.2], [0.6, 0.2], [0.6, 0.2]])
    # Mean .6, deviation .0816, t(.99, 3) = 4.5407 (tables).
    expected = 0.6 - 4.5407 * np.std([0.5, 0.7, 0.6, 0.6], ddof=1) / 2
    assert lower_bounds(values, 0.99).tolist() == pytest.approx([expected, 0.2], rel=1e-4)


def test_bounds_of_models_that_differ_too_much_are_none():
    assert lower_bounds(torch.tensor([[0.0], [1.0]]), 0.99).tolist() == [0]


def test_vote_is_the_share_of_metrics_within_alpha_of_their_bounds():
    values = Representation(torch.tensor([0.1, 0.7, 0.9, 1.2]))
    assert vote(values) == 0.75
    assert vote(values, alpha=0.6) == 0.25


@pytest.mark.parametrize("expression", [BLACK, WHITE])
def test_similarity_is_the_mean_margin(victim, fingerprints, expression):
    scheme, fingerprint = SCHEMES.make(expression), fingerprints[expression]
    stranger = tiny_victim(seed=1)
    bounds = fingerprint.queries.shared["bounds"]
    expected = (1 - scheme.distances(stranger, fingerprint.queries) / bounds)[bounds > 0].mean()
    assert scheme.observe(fingerprint, stranger).similarity == pytest.approx(float(expected), rel=1e-4, abs=1e-5)
    assert scheme.observe(fingerprint, victim).similarity == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("expression", [BLACK, WHITE])
def test_a_metric_without_a_bound_is_left_out(victim, fingerprints, expression):
    scheme, queries = SCHEMES.make(expression), fingerprints[expression].queries
    bounds = queries.shared["bounds"].clone()
    bounds[0] = 0
    values = scheme.represent(tiny_victim(seed=1), replace(queries, shared={"bounds": bounds})).values
    assert len(values) == int((bounds > 0).sum())
    assert bool(values.isfinite().all())


@pytest.mark.parametrize("expression", [BLACK, WHITE])
def test_bounds_need_two_independent_models(victim, pool, expression):
    few = Pool(pool.derived, pool.independent[:1])
    with pytest.raises(UsageError, match="at least 2 independent models"):
        SCHEMES.make(expression).extract(victim, tiny_data("queries"), budget=10, pool=few)


def test_models_that_are_all_alike_set_no_bound(victim):
    twins = Pool({}, [tiny_victim(), tiny_victim()])
    with pytest.raises(UsageError, match="answer these tests as"):
        SCHEMES.make(BLACK).extract(victim, tiny_data("queries"), budget=10, pool=twins)


def test_other_architectures_are_refused_before_the_first_query(fingerprints):
    other = tiny_victim(seed=1, architecture="resnet8(width=6)")
    with pytest.raises(UsageError, match="not of the victim's architecture"):
        SCHEMES.make(WHITE).observe(fingerprints[WHITE], other)
    assert other.queries_spent == 0


def test_other_architectures_in_the_pool_set_no_bound(victim, pool, fingerprints):
    mixed = Pool({}, [tiny_victim(seed=5, architecture="lenet5"), *pool.independent])
    fingerprint = SCHEMES.make(WHITE).extract(victim, tiny_data("queries"), budget=20, pool=mixed)
    assert torch.equal(fingerprint.queries.shared["bounds"], fingerprints[WHITE].queries.shared["bounds"])


def test_permuted_units_blind_the_white_box_only(victim, fingerprints):
    """The same function with its hidden units in another order and of another size."""
    net = REMOVALS.make("reparametrise")(victim, tiny_data("attacker"), generator=torch.Generator().manual_seed(0))
    copy = TorchOracle(net, input_shape=victim.input_shape, classes=victim.classes)
    assert SCHEMES.make(BLACK).observe(fingerprints[BLACK], copy).similarity == pytest.approx(1, abs=1e-3)
    assert SCHEMES.make(WHITE).observe(fingerprints[WHITE], copy).similarity < 0.6


def test_robustness_alone_is_the_share_of_right_answers(victim):
    scheme = SCHEMES.make("deepjudge-robd(epsilon=0.15, step=0.03)")
    fingerprint = scheme.extract(victim, tiny_data("queries"), budget=20)
    stranger = tiny_victim(seed=1)
    right = stranger.labels(fingerprint.queries.inputs) == fingerprint.queries.companions["truth"]
    assert 0 < float(right.float().mean()) < 1
    assert scheme.observe(fingerprint, stranger).similarity == pytest.approx(1 - float(right.float().mean()))
    assert scheme.observe(fingerprint, victim).similarity == 1
