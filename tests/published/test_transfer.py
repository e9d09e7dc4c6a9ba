"""Adversarial transfer as relatedness (after Hwang et al., ECCV 2024), directed and matched by label."""

from __future__ import annotations

import numpy as np
import pytest
from thieves import COPIES, EXTRACTED, FILTERS, QUANTISED

pytestmark = pytest.mark.published

CHANGED = COPIES | FILTERS | QUANTISED


@pytest.fixture(scope="module")
def rates(small_zoo):
    """(victim, seed) to rates of copies, of extracted nets, and of independents of the same and other architectures."""
    found = {}
    for victim in small_zoo.victims:
        for seed in small_zoo.seeds:
            strangers = small_zoo.strangers(victim, "transfer", seed=seed)
            same = ["resnet8" in str(recipe) for recipe in small_zoo.independents]
            found[victim, seed] = {
                "changed": small_zoo.copies(victim, "transfer", seed=seed, removals=CHANGED),
                "extracted": small_zoo.copies(victim, "transfer", seed=seed, removals=EXTRACTED),
                "same": [rate for rate, is_same in zip(strangers, same, strict=True) if is_same],
                "other": [rate for rate, is_same in zip(strangers, same, strict=True) if not is_same],
            }
    return found


def test_copies_follow_more_than_every_independent_model_of_their_architecture(rates):
    for each in rates.values():
        assert min(each["changed"].values()) > max(each["same"])


def test_the_null_is_not_saturated(rates):
    mean = np.mean([each["same"] for each in rates.values()])
    assert 0.1 < mean < 0.5


def test_independent_models_follow_more_when_they_share_the_architecture(rates):
    """Why the null has to hold models of the victim's architecture."""
    for each in rates.values():
        assert np.mean(each["same"]) > np.mean(each["other"])


def test_extraction_hides_among_them(rates):
    for each in rates.values():
        assert max(each["extracted"].values()) < min(each["changed"].values())
    extracted = np.mean([each["extracted"]["labels"] for each in rates.values()])
    assert extracted < np.mean([max(each["same"]) for each in rates.values()]) + 0.1
