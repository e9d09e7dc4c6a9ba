"""What Cao, Jia and Gong claim of IPGuard (AsiaCCS 2021, tables 2 to 4), over two victims with three extractions."""

from __future__ import annotations

import numpy as np
import pytest

from whorl.metrics import aruc

pytestmark = pytest.mark.published

IPGUARD = "ipguard(margin=10, iterations=500)"


@pytest.fixture(scope="module")
def rates(small_zoo):
    """(victim, seed) to the matching rates of copies and of independent models."""
    return {
        (victim, seed): (small_zoo.copies(victim, IPGUARD, seed=seed), small_zoo.strangers(victim, IPGUARD, seed=seed))
        for victim in small_zoo.victims
        for seed in small_zoo.seeds
    }


@pytest.fixture(scope="module")
def arucs(small_zoo):
    """Scheme to ARUC by victim, averaged over extractions."""

    def mean(victim, scheme):
        pairs = [
            (list(small_zoo.copies(victim, scheme, seed=seed).values()), small_zoo.strangers(victim, scheme, seed=seed))
            for seed in small_zoo.seeds
        ]
        return float(np.mean([aruc(*pair) for pair in pairs]))

    schemes = (IPGUARD, "fgsm", "random")
    return {scheme: np.array([mean(victim, scheme) for victim in small_zoo.victims]) for scheme in schemes}


def test_every_tuned_retrained_or_pruned_copy_matches_more_than_every_independent_model(rates):
    for copies, strangers in rates.values():
        assert min(copies.values()) > max(strangers)


def test_tuning_and_pruning_hardly_move_the_boundary(rates):
    for copies, _ in rates.values():
        assert min(copies[label] for label in ("FTLL", "FTAL", "RTLL", "WP p=.3")) >= 0.9


def test_independent_models_hardly_match(rates):
    for _, strangers in rates.values():
        assert np.mean(strangers) <= 0.1


@pytest.mark.parametrize("baseline", ["fgsm", "random"])
def test_it_tells_copies_apart_better_than_its_baselines(arucs, baseline):
    assert (arucs[IPGUARD] > arucs[baseline]).all()
    assert arucs[IPGUARD].mean() > arucs[baseline].mean() + 0.1


def test_extraction_by_labels_defeats_it(small_zoo, rates):
    for (victim, seed), (copies, _) in rates.items():
        extracted = small_zoo.extracted(victim, IPGUARD, seed=seed)
        assert extracted < min(copies.values())
