"""What contrast is meant for: labels of ordinary inputs tell copies, extracted ones too where the pool knows such."""

from __future__ import annotations

import numpy as np
import pytest
from thieves import ALL, COPIES, EXTRACTED

from whorl.metrics import auc
from whorl.oracles.pool import Pool
from whorl.schemes import SCHEMES

pytestmark = pytest.mark.published

CONTRAST = "contrast(most=900)"
DIRECT = ("fine-tune", "prune")  # what changes the victim's weights; no extracted net is among the shadow copies


@pytest.fixture(scope="module")
def areas(small_zoo):
    """Scheme, removals and shadow families to the AUC of copies against strangers, ``[victim]``."""

    def area(scheme, removals, families=None):
        def one(victim):
            copies = small_zoo.copies(victim, scheme, removals=removals, families=families)
            return auc(list(copies.values()), small_zoo.strangers(victim, scheme, families=families))

        return np.array([one(victim) for victim in small_zoo.victims])

    return area


def test_direct_copies_rank_above_strangers(areas):
    assert (areas(CONTRAST, COPIES) > 0.95).all()
    assert (areas(CONTRAST, COPIES) > areas("random", COPIES) + 0.2).all()


def test_extracted_nets_are_told_where_the_pool_knows_their_like(areas):
    ours = areas(CONTRAST, EXTRACTED)
    assert (ours > areas("akh", EXTRACTED) + 0.1).all(), "the best scheme that asks for labels alone"
    assert (ours > areas(CONTRAST, EXTRACTED, DIRECT) + 0.1).all(), "it does not carry over from copies of weights"


def test_unseen_families_of_direct_copies_are_told(areas):
    unseen = {label: ALL[label] for label in ("RTAL", "int8", "int4")}
    assert (areas(CONTRAST, unseen, DIRECT) > 0.9).all()


def test_nets_of_a_group_that_the_choice_leaves_out_look_more_like_copies(small_zoo):
    """Nets of the victim's architecture among the strangers of the pool or not: how others of them look then."""
    scheme, gaps = SCHEMES.make(CONTRAST), []
    for victim in small_zoo.victims:
        known = small_zoo.fingerprint(victim, CONTRAST, 0, 50, None)
        every = small_zoo.pool(victim, None)
        pairs = zip(every.independent, every.groups, strict=True)
        left = [(model, group) for model, group in pairs if group != "resnet8"]
        pool = Pool(every.derived, *zip(*left, strict=True))
        own = small_zoo.oracle(small_zoo.victim(victim))
        data = small_zoo.nets[0].source.load(scheme.part)
        blind = scheme.extract(own, data, budget=50, seed=0, pool=pool)
        others = [small_zoo.oracle(net) for net in small_zoo.nets if net.group == "resnet8"]
        gaps += [scheme.observe(blind, net).similarity - scheme.observe(known, net).similarity for net in others]
    assert min(gaps) > 0, "each of eight"
