"""Points past the nearest boundary (Wang & Chang, ISCAS 2021), as a function of how far past."""

from __future__ import annotations

import numpy as np
import pytest
from thieves import ALL, COPIES, EXTRACTED, FILTERS, QUANTISED

from whorl.metrics import auc

pytestmark = pytest.mark.published

OVERSHOOTS = (0.02, 0.1, 0.5, 1.0, 2.0)
CHANGED = COPIES | FILTERS | QUANTISED


@pytest.fixture(scope="module")
def rates(small_zoo):
    """Overshoot to (copies [victims, seeds, copies], independent models [victims, seeds, models])."""
    found = {}
    for overshoot in OVERSHOOTS:
        scheme = f"deepfool(overshoot={overshoot})"
        pairs = [
            [
                (
                    list(small_zoo.copies(victim, scheme, seed=seed, removals=ALL).values()),
                    small_zoo.strangers(victim, scheme, seed=seed),
                )
                for seed in small_zoo.seeds
            ]
            for victim in small_zoo.victims
        ]
        found[overshoot] = tuple(np.array([[pair[side] for pair in row] for row in pairs]) for side in (0, 1))
    return found


def test_copies_match_more_the_further_past_the_boundary(rates):
    """Over seeds and every copy that was tuned, pruned or quantised; of one victim the last steps may add nothing."""
    match = np.array([rates[overshoot][0][..., : len(CHANGED)].mean((1, 2)) for overshoot in OVERSHOOTS])
    assert (np.diff(match.mean(1)) > 0).all()
    assert (match[-1] - match[0] > 0.3).all()


def test_so_do_independent_models(rates):
    match = np.array([rates[overshoot][1].mean((1, 2)) for overshoot in OVERSHOOTS])
    assert (np.diff(match, axis=0) >= 0).all()
    assert (match[-1] > 3 * match[0]).all()


def test_in_between_every_changed_copy_is_above_every_independent_model(rates):
    copies, strangers = rates[0.5]
    assert (copies[..., : len(CHANGED)].min(-1) > strangers.max(-1)).all()


def test_close_to_the_boundary_extraction_is_seen_and_far_from_it_less_so(rates):
    """An extracted copy matches little, yet an independent model less; further out more of those follow."""
    assert list(ALL)[len(CHANGED) :] == list(EXTRACTED)

    def mean(overshoot):
        copies, strangers = rates[overshoot]
        extracted = copies[..., len(CHANGED) :].reshape(-1, len(EXTRACTED))
        return np.mean([auc(*pair) for pair in zip(extracted, strangers.reshape(len(extracted), -1), strict=True)])

    assert mean(0.5) >= 0.95
    assert mean(2.0) < mean(0.5) - 0.1
