"""What Xu et al. claim of ADV-TRA (NeurIPS 2024), over two victims with three extractions."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.published

SCHEME = "adv-tra"
PRUNED = {f"FP c={count}/16": f"prune_filters({count}/16, epochs=4, learning_rate=0.01)" for count in (2, 4, 6)}


@pytest.fixture(scope="module")
def rates(small_zoo):
    """(victim, seed) to the similarities of copies, of filter-pruned copies and of independent models."""
    return {
        (victim, seed): (
            small_zoo.copies(victim, SCHEME, seed=seed),
            small_zoo.copies(victim, SCHEME, seed=seed, removals=PRUNED),
            small_zoo.strangers(victim, SCHEME, seed=seed),
        )
        for victim in small_zoo.victims
        for seed in small_zoo.seeds
    }


def test_the_boundary_lies_in_the_middle_of_each_crossing(small_zoo, rates):
    for victim, seed in rates:
        assert small_zoo.fingerprint(victim, SCHEME, seed, 50, None).queries.notes["controlled"] >= 0.95


def test_every_tuned_or_pruned_copy_matches_more_than_every_independent_model(rates):
    for copies, pruned, strangers in rates.values():
        assert min(*copies.values(), *pruned.values()) > max(strangers) + 0.1


def test_the_papers_thresholds_part_tuned_copies_from_strangers(rates):
    """It calls a trajectory matched below half mutated; retraining of all layers is not among its removals."""
    for copies, pruned, strangers in rates.values():
        kept = [copies[label] for label in ("FTLL", "FTAL", "RTLL", "WP p=.3")]
        assert min(*kept, *pruned.values()) > 0.5
        assert max(strangers) < 0.5


def test_longer_trajectories_are_more_unique(small_zoo):
    """The surface trajectory against a single boundary: fewer strangers, and copies stay."""
    for victim in small_zoo.victims:
        pairs = {
            scheme: [
                (
                    np.mean(small_zoo.strangers(victim, scheme, seed=seed)),
                    min(small_zoo.copies(victim, scheme, seed=seed).values()),
                )
                for seed in small_zoo.seeds
            ]
            for scheme in (SCHEME, "adv-tra(crossings=1)")
        }
        several, single = (np.array(pairs[scheme]).T for scheme in pairs)
        assert (several[0] < single[0] - 0.05).all()
        assert (several[1] - several[0] > single[1] - single[0]).all()


def test_extraction_by_labels_defeats_it(small_zoo, rates):
    for (victim, seed), (copies, _, strangers) in rates.items():
        extracted = small_zoo.extracted(victim, SCHEME, seed=seed)
        assert extracted < min(copies.values())
        assert extracted < max(strangers) + 0.1
