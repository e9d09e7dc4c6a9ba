"""What is held against users by numbers that say little, by few copies, and at the edges of a bound."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from whorl.detection.codes import TardosCode, TardosPlan, block_code
from whorl.detection.collusion import collude
from whorl.detection.tracing import _bounds, named_by_and, score_tails, scores_of, trace
from whorl.errors import UsageError


def generator(seed=0):
    return np.random.default_rng(seed)


def test_the_score_of_a_block_is_that_of_its_bits():
    """All seven bits of an own copy, and six of seven positions apart in two of any other's."""
    code = block_code(7, 7, generator())
    scores = [each.score for each in trace(code.rows[2], code).users]
    assert scores[2] == 7
    assert {*scores[:2], *scores[3:]} == {7 - 2 * 4}
    assert trace(np.full(7, 0.5), code).users[0].score == 0


def test_a_number_counts_as_1_above_halfway_to_one_copy_fewer():
    """Means of k - 1 copies with noise of nearly half a step, and numbers just at the bound."""
    code = block_code(13, 13, generator())
    rows = code.rows[[1, 5, 7]].mean(0)
    for near in (0.95, -0.95):
        noisy = np.clip(rows + np.where(rows == 1, -1, near) / (2 * code.colluders) * 0.95, 0, 1)
        assert np.flatnonzero(named_by_and(noisy, code)).tolist() == [1, 5, 7]
    at_the_bound = np.where(code.rows[1] == 1, 1 - 1 / (2 * code.colluders), 0)
    assert not named_by_and(at_the_bound, code).any()


def test_tails_of_what_says_little_are_those_of_all_rows():
    """Numbers near 1/2, where the bits of some positions weigh the same once rounded, and of others 1/16 apart."""
    code = TardosPlan(40, 2, positions=11).sampled(generator(1))
    observed = 0.5 + generator(2).uniform(-0.03, 0.03, 11)
    rows = np.array(list(itertools.product((0, 1), repeat=11)), np.uint8)
    law = scores_of(observed, TardosCode(replace(code.plan, users=len(rows)), code.levels, rows))
    steps = {int(abs(law[0] - law[1 << place])) for place in range(11)}
    assert {0, 1} <= steps
    chances = np.where(rows, code.biases, 1 - code.biases).prod(1)
    exact = [chances[law >= each].sum() for each in scores_of(observed, code)]
    assert np.exp(score_tails(observed, code)[1]) == pytest.approx(exact, rel=1e-11)


def test_the_bound_is_that_of_nearly_the_best_exponent():
    """Chernoff's, minimised over a fine grid of exponents."""
    code = TardosPlan(20, 5, positions=2000).sampled(generator())
    observed = collude(code.rows[:2], "majority", generator(1))
    odds = np.sqrt((1 - code.biases) / code.biases)
    ones, zeros = (np.rint(16 * (2 * observed - 1) * each) / 16 for each in (odds, -1 / odds))
    rates = np.linspace(0.01, 1, 1000)[:, None]
    moments = np.log(code.biases * np.exp(rates * ones) + (1 - code.biases) * np.exp(rates * zeros)).sum(1)
    for user in (0, 1):
        score = np.where(code.rows[user], ones, zeros).sum()
        best = (moments - rates[:, 0] * score).min()
        bound = _bounds(16 * ones, 16 * zeros, code.biases, np.array([round(16 * score)]))[0]
        assert best - 1e-3 <= bound <= 0.98 * best < -50


def test_who_is_at_alpha_exactly_is_accused():
    code = TardosPlan(6, 2, positions=60).sampled(generator())
    least = min(trace(code.rows[0], code).users, key=lambda each: each.adjusted)
    assert trace(code.rows[0], code, alpha=least.adjusted).accused == (least.user,)
    for alpha in (1, 1.5, -0.1):
        with pytest.raises(UsageError, match="alpha"):
            trace(code.rows[0], code, alpha)


def test_strategies_are_what_they_are_called():
    chance = generator(5)
    pair = np.array([[0, 1, 0, 1], [0, 1, 1, 0]], np.uint8).repeat(1000, 1)
    tied = collude(pair, "majority", chance)
    assert (set(tied[:1000]), set(tied[1000:2000])) == ({0.0}, {1.0})
    assert 0.45 < tied[2000:].mean() < 0.55
    three = np.array([[0, 1], [0, 1], [1, 0]], np.uint8).repeat(10, 1)
    assert collude(three, "majority", chance).tolist() == [0] * 10 + [1] * 10
    assert collude(three, "minority", chance).tolist() == [1] * 10 + [0] * 10
    for whose in range(4):
        rows = np.zeros((4, 4000), np.uint8)
        rows[whose] = 1
        assert 0.22 < collude(rows, "interleaving", chance).mean() < 0.28
    noise = collude(pair, "averaging with noise", chance)[2000:] - 0.5
    assert 0.045 < noise.std() < 0.055
    assert abs(noise.mean()) < 0.01
