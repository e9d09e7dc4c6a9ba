"""What points where k classes meet are worth: over two victims with three extractions, for k = 2, 3, 5, 10.

IrisFP (CVPR 2026) claims that points near many boundaries are more unique; how much fewer queries a verdict takes is
measured with the sequential test of verification itself.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whorl.detection.sequential import SequentialMean
from whorl.schemes import SCHEMES

pytestmark = pytest.mark.published

TIES = (2, 3, 5, 10)
BUDGET, ORDERS, ERROR = 50, 50, 0.01
REMOVED = (
    "fine_tune(last, epochs=4, learning_rate=0.01)",
    "fine_tune(all, epochs=4, learning_rate=0.01)",
    "retrain(last, epochs=4, learning_rate=0.05)",
    "retrain(all, epochs=4, learning_rate=0.02)",
    "prune_weights(3/10, epochs=4, learning_rate=0.005)",
    "prune_filters(6/16, epochs=4, learning_rate=0.01)",
)


def expression(ties):
    return f"multipoint(ties={ties})"


@pytest.fixture(scope="module")
def cells(small_zoo):
    return [(victim, seed) for victim in small_zoo.victims for seed in small_zoo.seeds]


@pytest.fixture(scope="module")
def strangers(small_zoo, cells):
    """ties to similarities of independent models ``[cells, strangers]``."""
    return {
        ties: np.array([small_zoo.strangers(victim, expression(ties), seed=seed) for victim, seed in cells])
        for ties in TIES
    }


@pytest.mark.parametrize("ties", TIES)
def test_ties_are_found_and_probes_hold(small_zoo, cells, ties):
    for victim, seed in cells:
        notes = small_zoo.fingerprint(victim, expression(ties), seed, BUDGET, None).queries.notes
        assert notes["converged"] >= 0.95
        assert notes["held"] >= 0.95


def test_independent_match_falls_with_the_classes_that_meet(strangers):
    """In every extraction, not only on average."""
    means = np.array([strangers[ties].mean(1) for ties in TIES])
    assert (np.diff(means, axis=0) < 0).all()
    worst = np.array([strangers[ties].max(1).mean() for ties in TIES])
    assert (np.diff(worst) < 0).all()
    assert worst[-1] < worst[0] / 2


def test_every_tuned_or_pruned_copy_matches_more_than_every_independent_model(small_zoo, cells, strangers):
    for (victim, seed), others in zip(cells, strangers[10], strict=True):
        assert min(small_zoo.copies(victim, expression(10), seed=seed).values()) > others.max()


def test_a_verdict_takes_fewer_queries_than_between_two_classes(small_zoo, cells, strangers):
    """For every removal on average over extractions, and less than half for the copy in the middle."""
    spent = {
        ties: np.array(
            [
                queries_to_reject(small_zoo, victim, seed, ties, strangers[ties][row].max())
                for row, (victim, seed) in enumerate(cells)
            ]
        )
        for ties in (2, 10)
    }
    assert (spent[10].mean(0) < spent[2].mean(0)).all()
    assert np.median(spent[10]) <= np.median(spent[2]) / 2


def queries_to_reject(small_zoo, victim, seed, ties, worst):
    """Median queries until the test refutes that a copy is like the worst independent model, per removal."""
    scheme = SCHEMES.make(expression(ties))
    fingerprint = small_zoo.fingerprint(victim, expression(ties), seed, BUDGET, None)
    generator = torch.Generator().manual_seed(0)
    found = []
    for removal in REMOVED:
        values = scheme.observe(fingerprint, small_zoo.oracle(small_zoo.victim(victim).then(removal))).per_query
        orders = [torch.randperm(BUDGET, generator=generator) for _ in range(ORDERS)]
        found.append(np.median([refutes(values[order], worst) for order in orders]))
    return found


def refutes(values, level):
    test = SequentialMean(BUDGET, ERROR, levels=[level])
    for value in values.split(1):
        test.update(value)
        if test.highest_refuted >= level:
            break
    return test.asked


def test_extraction_by_labels_defeats_it(small_zoo, cells, strangers):
    for row, (victim, seed) in enumerate(cells):
        copies = small_zoo.copies(victim, expression(10), seed=seed)
        assert small_zoo.extracted(victim, expression(10), seed=seed) < min(copies.values())
        assert small_zoo.extracted(victim, expression(10), seed=seed) < strangers[10][row].max() + 0.1
