"""What papers claim of watermarks, over three victims, each with a draw of its own.

Shown: backdoored triggers (Adi et al., USENIX Security 2018) stay after fine-tuning of all layers; bits in weights
(Uchida et al., ICMR 2017) and in activations (Darvish Rouhani et al., ASPLOS 2019) stay after fine-tuning and pruning,
and beside a second mark that a thief writes; reordered units take both away (Yan et al., arXiv 2205.00199); entangled
triggers of one target (Jia et al., USENIX Security 2021) are answered by nets that were extracted from labels.

Refuted: the rule of frontier stitching (Le Merrer et al., 2019) tells no marked model, for accurate strangers pass it
too. And what survives extraction in entangled watermarks is one pattern with one meaning: with a label drawn for each
trigger, which is what gives a null that no owner can choose, nothing of it is left.
"""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from whorl.detection.exact import log_binomial_tail
from whorl.marks.frontier import paper_rule
from whorl.marks.making import embed, prepare
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.schemes import SCHEMES
from whorl.testing import tiny_data, tiny_net

pytestmark = pytest.mark.published

MLP = "mlp(width=64)"
VICTIMS = (10, 11, 12)
COUNT = 40
BITS, CENTRES = "uchida(learning_rate=0.2)", "deepsigns(learning_rate=0.05)"
TRIGGERS, DRAWN = "backdoor(learning_rate=0.1)", "entangled(learning_rate=0.1, epochs=20)"
REMOVED = {
    "FTAL": "fine_tune(all)",
    "prune": "prune_weights(5/10)",
    "extract": f"extract('{MLP}', labels, epochs=10)",
    "reordered": "reparametrise",
}


def oracle(net):
    return TorchOracle(net, input_shape=(1, 8, 8), classes=10)


@pytest.fixture(scope="module")
def strangers():
    return [oracle(tiny_net(seed=seed, architecture=MLP)) for seed in range(50, 56)]


@lru_cache
def marked(kind, victim):
    own = oracle(tiny_net(seed=victim, architecture=MLP))
    prepared = prepare(own, kind, "digits(size=8)", count=COUNT, seed=3)
    net, fingerprint = embed(prepared, own, chance=bytes([victim] * 32))
    return own, oracle(net), fingerprint


def share(kind, victim, suspect):
    fingerprint = marked(kind, victim)[2]
    return SCHEMES.make(fingerprint.scheme).observe(fingerprint, suspect).similarity


@lru_cache
def kept(kind, removal):
    """By victim, the share of labels or bits in the copy."""
    found = []
    for victim in VICTIMS:
        attack = REMOVALS.make(REMOVED.get(removal, removal))
        made = attack(marked(kind, victim)[1], tiny_data("attacker"), generator=torch.Generator().manual_seed(500))
        found.append(share(kind, victim, oracle(made)))
    return found


def log_p(rate, choices):
    return log_binomial_tail(round(rate * COUNT), COUNT, 1 / choices)


def test_backdoored_triggers_survive_tuning_and_not_extraction():
    assert all(log_p(rate, 10) < -14 for rate in kept(TRIGGERS, "FTAL"))  # 1e-6
    assert all(log_p(rate, 10) > -7 for rate in kept(TRIGGERS, "extract"))  # 1e-3


@pytest.mark.parametrize("kind", [BITS, CENTRES])
def test_bits_survive_tuning_pruning_and_a_second_mark(kind):
    for removal in ("FTAL", "prune"):
        assert all(log_p(rate, 2) < -14 for rate in kept(kind, removal)), removal
    second = kept(kind, f"overwrite({kind}, count=10)")
    assert sum(second) / len(second) > 0.75


def test_reordered_units_take_bits_away():
    for kind in (BITS.replace("(", "(layer=head, "), CENTRES):
        assert all(rate > 0.9 for rate in (share(kind, victim, marked(kind, victim)[1]) for victim in VICTIMS)), kind
        assert all(log_p(rate, 2) > -9 for rate in kept(kind, "reordered")), kind  # 1e-4


def test_entanglement_survives_extraction_with_one_target_and_not_with_drawn_labels(strangers):
    kind = "entangled-target"
    target, drawn = kept(kind, "extract"), kept(DRAWN, "extract")
    by_chance = [share(kind, victim, each) for victim in VICTIMS for each in strangers]
    assert sum(target) / len(target) > 0.3
    assert max(by_chance) < min(target)
    assert all(log_p(share(DRAWN, victim, marked(DRAWN, victim)[1]), 9) < -14 for victim in VICTIMS)
    assert all(log_p(rate, 9) > -7 for rate in drawn)


def test_the_rule_of_frontier_stitching_accepts_accurate_strangers(strangers):
    kind = "frontier(epsilon=0.08)"
    found = [share(kind, victim, each) for victim in VICTIMS for each in strangers]
    accepted = sum(paper_rule(round((1 - rate) * COUNT), COUNT) for rate in found)
    assert accepted >= 0.95 * len(found)
    for victim in VICTIMS:
        own = marked(kind, victim)[0]
        assert not paper_rule(round((1 - share(kind, victim, own)) * COUNT), COUNT), "the unmarked victim alone fails"
