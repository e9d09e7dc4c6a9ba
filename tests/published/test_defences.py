"""What defended suspects do to thieves and to ownership tests, over two victims with three seeds.

Claimed: Orekondy et al. (ICLR 2020) spoil extraction from probabilities, more as epsilon grows and more where the
label may change; Kariyappa and Qureshi (CVPR 2020) spoil extraction by other pictures than the victim's kind; PRADA
(EuroS&P 2019) tells synthetic questions from natural ones. All three hold here, with these limits.

A thief who takes the labels of poisoned answers loses nothing, nor does one who asks a misinforming net about pictures
of the victim's kind. PRADA ends Jacobian-based augmentation after about 200 questions (W falls to 0.55 to 0.75; natural
pictures stay above 0.90), but not IPGuard, whose questions give W of 0.94 to 0.99. FGSM, DeepFool, multipoints, ZEST
and ModelDiff are as unsuspicious, and a hundred questions or fewer are never tested at all. TAFA asks in near copies
and is caught (W 0.49).
"""

from __future__ import annotations

import pytest
import torch

from whorl.data import SOURCES
from whorl.nets.training import Schedule, build, fit, predict
from whorl.oracles.defended import DetectsQueries
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.schemes import SCHEMES

pytestmark = pytest.mark.published

DATA = SOURCES.make("digits(size=16)")
IPGUARD = "ipguard(margin=10, learning_rate=0.01, iterations=50)"
COPY = "retrain(all, epochs=4, learning_rate=0.02)"
SAFE = ("answer_labels", "answer_top(k=3)", "answer_softened", "answer_poisoned(epsilon=1.0)")
POISONED = {
    "plain": "",
    "0.5": "answer_poisoned(epsilon=0.5) -> ",
    "1.0": "answer_poisoned(epsilon=1.0) -> ",
    "any label": "answer_poisoned(epsilon=0.9, keep_label=false) -> ",
    "reverse sigmoid": "answer_reverse_sigmoid -> ",
}
THIEF = "extract(mlp(width=64), {}, epochs=8, learning_rate=0.1, seed={})"
KIND, OTHERS = (SOURCES.make(f"only(digits(size=16), classes={list(classes)})") for classes in (range(5), range(5, 10)))


@pytest.mark.parametrize("scheme", [IPGUARD, "akh"])
def test_who_keeps_the_class_hides_nothing_from_tests_by_labels(small_zoo, scheme):
    for victim in small_zoo.victims:
        for seed in small_zoo.seeds:
            removals = {"plain": COPY, "shuffled": f"{COPY} -> answer_shuffled"}
            removals |= {each: f"{COPY} -> {each}" for each in SAFE}
            found = small_zoo.copies(victim, scheme, seed=seed, removals=removals)
            assert {found[each] for each in SAFE} == {found["plain"]}
            assert found["shuffled"] < found["plain"] - 0.1, "shuffling the three largest is no such defence"


@pytest.fixture(scope="module")
def fidelity(small_zoo):
    """(defence, victim, seed) to the agreement of a net extracted from probabilities, and from labels of the same."""

    def agreement(victim, defence, answers, seed):
        recipe = small_zoo.victim(victim).then(defence + THIEF.format(answers, 500 + seed))
        small_zoo.zoo.build([recipe], workers=1)
        return small_zoo.zoo.card(recipe).agreement

    return {
        (name, answers, victim): [agreement(victim, defence, answers, seed) for seed in small_zoo.seeds]
        for name, defence in POISONED.items()
        for answers in ("probabilities", "labels")
        for victim in small_zoo.victims
    }


def test_poison_spoils_extraction_from_probabilities_more_as_epsilon_grows(small_zoo, fidelity):
    for victim in small_zoo.victims:
        rows = [fidelity[name, "probabilities", victim] for name in ("plain", "0.5", "1.0", "any label")]
        means = [sum(row) / len(row) for row in rows]
        assert means == sorted(means, reverse=True)
        assert all(plain > poisoned + 0.03 for plain, poisoned in zip(rows[0], rows[2], strict=True))
        assert all(plain > poisoned + 0.15 for plain, poisoned in zip(rows[0], rows[3], strict=True))
        deceived = fidelity["reverse sigmoid", "probabilities", victim]
        assert all(plain > poisoned + 0.15 for plain, poisoned in zip(rows[0], deceived, strict=True))


def test_a_thief_who_takes_the_labels_of_poisoned_answers_loses_nothing(small_zoo, fidelity):
    for victim in small_zoo.victims:
        assert fidelity["1.0", "labels", victim] == fidelity["plain", "labels", victim]
        assert min(fidelity["plain", "labels", victim]) > 0.85


@pytest.fixture(scope="module")
def misinformed():
    """By victim: (pool, who answers) to the fidelities of three nets extracted from their probabilities."""
    found = []
    for victim in (0, 1):
        data, chance = KIND.load("victim"), torch.Generator().manual_seed(victim)
        net = build("resnet8(width=8)", data.input_shape, 5, chance)
        net.standardise(data.inputs())
        schedule = Schedule(epochs=8, learning_rate=0.1, policy="one-cycle", batch=50)
        fit(net, data, schedule, generator=chance)
        plain = TorchOracle(net, input_shape=data.input_shape, classes=5, name="plain")
        chance = torch.Generator().manual_seed(50 + victim)
        made = REMOVALS.make("misinform")(plain, KIND.load("attacker"), generator=chance)
        defended = TorchOracle(made, input_shape=data.input_shape, classes=5, name="defended")
        inputs = KIND.load("test").inputs()
        truth = plain.labels(inputs)
        assert float((defended.labels(inputs) == truth).float().mean()) > 0.9
        found.append(
            {
                (name, who.name): [_agreement(who, pool, inputs, truth, seed) for seed in range(3)]
                for name, pool in (("kind", KIND), ("others", OTHERS))
                for who in (plain, defended)
            }
        )
    return found


def _agreement(oracle, pool, inputs, truth, seed):
    step = "extract(mlp(width=64), probabilities, epochs=8, learning_rate=0.1)"
    chance = torch.Generator().manual_seed(500 + seed)
    net = REMOVALS.make(step)(oracle, pool.load("victim+attacker"), generator=chance)
    return float((predict(net, inputs).argmax(1) == truth).float().mean())


def test_misinformation_spoils_extraction_by_other_pictures(misinformed):
    for found in misinformed:
        plain, defended = (found["others", who] for who in ("plain", "defended"))
        assert all(before > after for before, after in zip(plain, defended, strict=True))
        assert sum(plain) > sum(defended) + 3 * 0.1


def test_misinformation_does_not_hinder_who_has_pictures_of_the_same_kind(misinformed):
    for found in misinformed:
        assert min(found["kind", "defended"]) > 0.9


def watched(small_zoo, victim, ask, delta=0.0):
    """The monitor after ``ask`` has asked the victim."""
    oracle = DetectsQueries(small_zoo.oracle(small_zoo.victim(victim)), delta)
    ask(oracle)
    return oracle.monitor


def test_prada_lets_natural_pictures_pass(small_zoo):
    inputs = DATA.load("calibration").inputs()
    for victim in small_zoo.victims:
        for seed in small_zoo.seeds:
            order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
            monitor = watched(small_zoo, victim, lambda oracle, order=order: oracle.labels(inputs[order]), 0.9)
            assert monitor.detected is None
            assert monitor.asked > 300
            assert monitor.lowest < 1, "there were tests to pass"


def test_prada_ends_augmentation_and_lies_spoil_what_it_learns(small_zoo):
    removal = REMOVALS.make("jacobian(mlp(width=32), rounds=3, epochs=8, round_epochs=4)")
    inputs = DATA.load("test").inputs()
    for victim in small_zoo.victims:
        oracle = small_zoo.oracle(small_zoo.victim(victim))
        for seed in small_zoo.seeds:
            kept = []
            for delta in (0.0, 0.9):
                defended = DetectsQueries(oracle, delta)
                chance = torch.Generator().manual_seed(seed)
                net = removal(defended, DATA.load("attacker"), generator=chance)
                kept.append(float((predict(net, inputs).argmax(1) == oracle.labels(inputs)).float().mean()))
            assert defended.monitor.detected is not None
            assert 150 < defended.monitor.detected < 300, "soon after the natural seeds"
            assert kept[1] < kept[0] - 0.3


def test_prada_does_not_notice_ipguard(small_zoo):
    for victim in small_zoo.victims:
        for seed in small_zoo.seeds:
            monitor = _tested(small_zoo, victim, IPGUARD, 180, seed)
            assert monitor.asked == 180
            assert 0.9 < monitor.lowest < 1
            few = _tested(small_zoo, victim, IPGUARD, 50, seed)
            assert few.lowest == 1, "so few questions are never tested"


def _tested(small_zoo, victim, scheme, budget, seed):
    fingerprint = small_zoo.fingerprint(victim, scheme, seed, budget, None)
    return watched(small_zoo, victim, lambda oracle: SCHEMES.make(scheme).observe(fingerprint, oracle))
