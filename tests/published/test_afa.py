"""What Zhao et al. claim of AFA (Computer Communications 2020), over two victims with three extractions each.

Plain IGSM is given AFA's epsilon, which is what both spend on being robust.
"""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.published

AFA, PLAIN, UNERODED = "afa", "igsm(epsilon=0.1)", "afa(erosion=0)"
TUNE = "epochs=4, learning_rate=0.01"
PRUNED = {f"FP c={count}/16": f"prune_filters({count}/16, {TUNE})" for count in (2, 4, 6)}


@pytest.fixture(scope="module")
def rates(small_zoo):
    """Scheme to matching rates [victim and seed], averaged over pruned copies and over independent models."""
    pairs = [(victim, seed) for victim in small_zoo.victims for seed in small_zoo.seeds]

    def pruned(victim, scheme, seed):
        return np.mean(list(small_zoo.copies(victim, scheme, seed=seed, removals=PRUNED).values()))

    def strangers(victim, scheme, seed):
        return np.mean(small_zoo.strangers(victim, scheme, seed=seed))

    return {
        scheme: tuple(np.array([rate(v, scheme, seed) for v, seed in pairs]) for rate in (pruned, strangers))
        for scheme in (AFA, PLAIN, UNERODED)
    }


def test_it_survives_filter_pruning_better_than_plain_igsm(rates):
    gain = rates[AFA][0] - rates[PLAIN][0]
    assert (gain >= 0).all()
    assert gain.mean() > 0.03


def test_independent_models_match_more_by_less_than_that(rates):
    gain, cost = (afa.mean() - plain.mean() for afa, plain in zip(rates[AFA], rates[PLAIN], strict=True))
    assert cost < gain


def test_pruned_copies_match_far_more_than_independent_models(rates):
    pruned, strangers = rates[AFA]
    assert pruned.min() > 0.9
    assert pruned.min() > strangers.max() + 0.5


def test_the_ghosts_are_not_what_it_gains_by(rates):
    """Contrary to the paper's idea, though two victims with three extractions would not show a gain below .03."""
    for eroded, plain in zip(rates[AFA], rates[UNERODED], strict=True):
        assert abs(eroded.mean() - plain.mean()) < 0.03
