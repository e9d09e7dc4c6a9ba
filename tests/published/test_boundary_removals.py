"""What moves the boundary that fingerprints live on and what does not, over two victims with three extractions.

Noise in the null space of the layers' inputs (`randomise_boundary`) leaves boundary probes where they were (.97 of
IPGuard's match, all of both kinds of multipoints) and costs AKH a seventh of its matches: random directions do not
reach the boundary near data. Targets between pictures (`scramble_boundary`) do, more than fine-tuning of as many steps
at the same rate (IPGuard .41 and .70, pairs .96 and .99, ten classes .53 and .84). Adversarial training at epsilon .03
does most: TRADES leaves IPGuard .01 and pairs .66, where the nearest independent models have .04 and .67.

Found otherwise than expected: scrambling does not defeat probes between two classes, and those where ten classes meet,
which were to survive it, lose more.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest

pytestmark = pytest.mark.published

BUDGET = 30
IPGUARD = "ipguard(margin=10, iterations=200)"
PAIRS, TIES = "multipoint(ties=2)", "multipoint(ties=10)"
REMOVALS = {
    "FTAL": "fine_tune(all, epochs=50, learning_rate=0.05)",
    "noise": "randomise_boundary",
    "scrambled": "scramble_boundary",
    "PGD": "adversarial_train(pgd)",
    "TRADES": "adversarial_train(trades)",
}


@pytest.fixture(scope="module")
def rates(small_zoo):
    """Scheme to removal to similarities ``[cells]`` and, as ``worst``, those of the nearest independent model."""

    @cache
    def measured(scheme):
        found = {label: [] for label in (*REMOVALS, "worst")}
        for victim, seed in product(small_zoo.victims, small_zoo.seeds):
            copies = small_zoo.copies(victim, scheme, seed=seed, budget=BUDGET, removals=REMOVALS)
            copies["worst"] = max(small_zoo.strangers(victim, scheme, seed=seed, budget=BUDGET))
            for label, rate in copies.items():
                found[label].append(rate)
        return {label: np.array(values) for label, values in found.items()}

    return measured


@pytest.mark.parametrize("label", REMOVALS)
def test_the_task_survives(small_zoo, label):
    for victim in small_zoo.victims:
        recipe = small_zoo.victim(victim).then(REMOVALS[label])
        small_zoo.oracle(recipe)
        assert not small_zoo.zoo.card(recipe).damaged


@pytest.mark.parametrize("scheme", [IPGUARD, PAIRS, TIES])
def test_noise_in_the_null_space_does_not_reach_boundary_probes(rates, scheme):
    assert rates(scheme)["noise"].mean() >= 0.95
    assert (rates(scheme)["noise"] > rates(scheme)["worst"] + 0.2).all()


def test_noise_in_the_null_space_costs_errors(rates):
    """A few of thirty, so that a single fingerprint may keep all."""
    assert rates("akh")["noise"].mean() < rates(PAIRS)["noise"].mean()
    assert (rates("akh")["noise"] > rates("akh")["FTAL"]).all()


@pytest.mark.parametrize("scheme", [IPGUARD, PAIRS, TIES])
def test_scrambling_moves_the_boundary_more_than_as_long_a_fine_tuning(rates, scheme):
    assert rates(scheme)["scrambled"].mean() < rates(scheme)["FTAL"].mean()


@pytest.mark.parametrize("scheme", [IPGUARD, PAIRS, TIES])
def test_scrambled_copies_are_still_recognised(rates, scheme):
    assert rates(scheme)["scrambled"].mean() > rates(scheme)["worst"].mean() + 0.1


@pytest.mark.parametrize("scheme", [IPGUARD, PAIRS, TIES])
def test_adversarial_training_costs_boundary_fingerprints_most(rates, scheme):
    """Far fewer steps than the fine-tuning that it is held against; TRADES in every extraction."""
    assert (rates(scheme)["TRADES"] < rates(scheme)["FTAL"] - 0.1).all()
    assert rates(scheme)["PGD"].mean() < rates(scheme)["FTAL"].mean() - 0.05
    assert rates(scheme)["TRADES"].mean() < rates(scheme)["PGD"].mean()


def test_trades_defeats_ipguard_and_pairs(rates):
    for scheme in (IPGUARD, PAIRS):
        assert rates(scheme)["TRADES"].mean() < rates(scheme)["worst"].mean() + 0.1
        assert rates(scheme)["FTAL"].mean() > rates(scheme)["worst"].mean() + 0.2
