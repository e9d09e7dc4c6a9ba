"""What Jia et al. claim of Zest (ICLR 2022): distances across architectures and classes, and a test of unlearning."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transferred import HEADS, transfers

from whorl.nets.training import Schedule, accuracy, build, fit
from whorl.oracles.torch import TorchOracle
from whorl.schemes.zest import Zest, verify_unlearning
from whorl.testing import tiny_data

pytestmark = pytest.mark.published

ZEST = "zest"
BUDGET = 20
FORGOTTEN = 3


@pytest.fixture(scope="module")
def similarities(small_zoo):
    """For each victim and seed: of copies by removal, of an extracted net, and of independent models."""
    return [
        (
            small_zoo.copies(victim, ZEST, seed=seed, budget=BUDGET),
            small_zoo.extracted(victim, ZEST, seed=seed, budget=BUDGET),
            small_zoo.strangers(victim, ZEST, seed=seed, budget=BUDGET),
        )
        for victim in small_zoo.victims
        for seed in small_zoo.seeds
    ]


def test_every_tuned_retrained_or_pruned_copy_is_nearer_than_every_independent_model(similarities):
    for copies, _, strangers in similarities:
        assert min(copies.values()) > max(strangers)


def test_a_lightly_changed_copy_is_at_hardly_any_distance(similarities):
    for copies, _, strangers in similarities:
        assert min(copies[label] for label in ("FTLL", "FTAL", "WP p=.3")) > 0.95
        assert np.mean(strangers) < 0.7


def test_extraction_is_further_than_every_copy_and_no_nearer_than_the_nearest_stranger(similarities):
    """The paper finds it slightly nearer than independent models; here they stand among those of its architecture."""
    for copies, extracted, strangers in similarities:
        assert min(strangers) < extracted < min(copies.values())


def test_copies_for_other_classes_are_nearer_than_models_of_others_for_these_classes(small_zoo):
    scheme = Zest()
    for victim in small_zoo.victims:
        own = small_zoo.oracle(small_zoo.victim(victim))
        others = [small_zoo.victim(1 - victim), *small_zoo.nets[:2]]
        for seed in small_zoo.seeds:
            fingerprint = small_zoo.fingerprint(victim, ZEST, seed, BUDGET, None)
            for classes in HEADS:
                copies = [scheme.observe(fingerprint, model).similarity for model in transfers(own, classes)]
                strangers = [
                    scheme.observe(fingerprint, model).similarity
                    for other in others
                    for model in transfers(small_zoo.oracle(other), classes)
                ]
                assert min(copies) > max(strangers)


def trained(data, seed):
    generator = torch.Generator().manual_seed(seed)
    net = build("mlp(width=64)", data.input_shape, 10, generator)
    net.standardise(data.inputs())
    fit(net, data, Schedule(epochs=8, learning_rate=0.1, policy="one-cycle", batch=25), generator=generator)
    return net


def tuned(net, data, *, epochs, learning_rate):
    net = copy.deepcopy(net)
    schedule = Schedule(epochs=epochs, learning_rate=learning_rate, batch=25)
    fit(net, data, schedule, generator=torch.Generator().manual_seed(1))
    return net


def silenced(net):
    """A model that never says the forgotten class and has forgotten nothing."""
    net = copy.deepcopy(net)
    net.head.bias.data[FORGOTTEN] -= 50
    return net


def oracle(net):
    return TorchOracle(net, input_shape=net.input_shape, classes=10)


@pytest.fixture(scope="module")
def pictures():
    """All that the model was trained on, without the class to forget, and that class alone."""
    data = tiny_data("victim")
    forgotten = data.labels == FORGOTTEN
    return data, data.subset(~forgotten), data.subset(forgotten)


@pytest.fixture(scope="module")
def before(pictures):
    return [trained(pictures[0], seed) for seed in range(4)]


@pytest.fixture(scope="module")
def retrains(pictures):
    """19 nets that never saw the class, the least for a p-value of 1/20."""
    return {f"retrain {seed}": oracle(trained(pictures[1], seed)) for seed in range(100, 119)}


@pytest.fixture(scope="module")
def verdict_on(pictures, before, retrains):
    """(number of the model before, model after) to what the test says."""
    scheme = Zest(intercept=True)
    fingerprints = [scheme.extract(oracle(net), pictures[2], budget=30, seed=seed) for seed, net in enumerate(before)]

    def verdict(number, after):
        return verify_unlearning(scheme, fingerprints[number], oracle(after), retrains)

    return verdict


def test_exact_unlearning_is_not_accused(pictures, before, verdict_on):
    """Under the null p is uniform: of 24 p-values one or two are at most .05, and their mean is about .5."""
    exact = [trained(pictures[1], seed) for seed in range(200, 206)]
    assert accuracy(exact[0], pictures[2]) == 0
    found = [[verdict_on(number, net) for net in exact] for number in range(len(before))]
    p_values = np.array([[each.p_value for each in row] for row in found])
    assert (p_values <= 0.05).mean() <= 0.2
    assert 0.3 <= p_values.mean() <= 0.8
    assert {each.decision for row in found for each in row} <= {"consistent", "retained"}


@pytest.mark.parametrize(
    "pretend",
    [
        lambda net, _: net,
        lambda net, kept: tuned(net, kept, epochs=3, learning_rate=0.02),
        lambda net, kept: tuned(net, kept, epochs=5, learning_rate=0.1),
        lambda net, _: silenced(net),
    ],
    ids=["unchanged", "tuned", "tuned more", "class silenced"],
)
def test_pretending_is_found_out(pictures, before, verdict_on, pretend):
    for number, net in enumerate(before):
        found = verdict_on(number, pretend(net, pictures[1]))
        assert found.p_value == found.p_value_floor == 0.05
        assert found.decision == "retained"
