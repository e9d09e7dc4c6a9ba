"""A suspect whose classes stand in an order that nobody states: each candidate looks for its own best one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from reasoned import reasoned

import whorl
from whorl.data.base import join
from whorl.detection.lineup import best_orders
from whorl.errors import UsageError
from whorl.fingerprints.terms import Terms
from whorl.lineups.asking import order_of, show
from whorl.lineups.making import Material, line_up
from whorl.lineups.session import hold
from whorl.oracles.reordered import Reordered
from whorl.oracles.torch import TorchOracle
from whorl.oracles.wrappers import LabelsOnly
from whorl.removals import REMOVALS
from whorl.removals.base import opened
from whorl.testing import tiny_data, tiny_net
from whorl.types import Access, Rule

SHUFFLED = (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)
RULE, MATCHED = Rule(alpha=0.05), Rule(alpha=0.05, match_labels=True)


def oracle(seed, part="victim", **options):
    net = tiny_net(seed=seed, part=part, architecture="mlp(width=32)")
    return TorchOracle(net, input_shape=(1, 8, 8), classes=10, access=Access.WEIGHTS, name=f"net {seed}", **options)


@pytest.fixture(scope="module")
def nets():
    return [oracle(seed) for seed in range(700, 720)]


@pytest.fixture(scope="module")
def made(nets):
    material = Material(join(tiny_data("queries"), tiny_data("test")), tiny_data("test"), tiny_data("victim"))
    bare = whorl.extract(nets[0], data="digits(size=8)", scheme="random", budget=4)
    made, secret = line_up(bare, nets[0], nets[1:], material, size=300, terms=Terms(seeds="secret"))
    return reasoned(made, secret), secret


@pytest.fixture(scope="module")
def tuned(nets):
    tune = REMOVALS.make("fine_tune(all, epochs=1)")
    copy = tune(nets[0], tiny_data("attacker"), generator=torch.Generator().manual_seed(1))
    return opened(copy, nets[0], name="tuned")


@pytest.mark.parametrize("labels", [True, False])
def test_a_copy_with_shuffled_classes_is_refused_as_it_stands_and_derived_when_matched(made, tuned, labels):
    suspect = Reordered(LabelsOnly(tuned) if labels else tuned, SHUFFLED)
    with pytest.raises(UsageError, match="or --match-labels"):
        hold(made[0], suspect, RULE, secret=made[1])
    verdict = hold(made[0], suspect, MATCHED, secret=made[1])
    assert (verdict.decision, verdict.p_value) == ("derived", 0.05)
    assert verdict.lineup["matched"]
    assert not verdict.lineup["won"], "the order is known at the end, so there is no race"
    assert any("in which the two agree most" in caveat for caveat in verdict.caveats)
    assert verdict.record["rule"]["match_labels"]
    assert verdict.queries["spent"] == verdict.queries["budget"] == (300 if labels else 100)


@pytest.mark.parametrize("labels", [True, False])
def test_the_order_in_which_a_suspect_states_its_classes_changes_nothing(made, labels):
    stranger = oracle(801, part="calibration")
    suspect = LabelsOnly(stranger) if labels else stranger
    lineup, order = made[0].candidates, order_of(made[0].candidates)
    straight = show(lineup, Terms(), order, suspect, match_labels=True)
    shuffled = show(lineup, Terms(), order, Reordered(suspect, SHUFFLED), match_labels=True)
    np.testing.assert_allclose(straight.totals, shuffled.totals, atol=1e-6)  # a softmax in float32 sums in that order


@pytest.mark.parametrize("labels", [True, False])
def test_permuting_candidates_permutes_totals(made, labels):
    lineup, order = made[0].candidates, order_of(made[0].candidates)
    stranger = oracle(802, part="calibration")
    suspect = Reordered(LabelsOnly(stranger) if labels else stranger, SHUFFLED)
    # Candidates that answer by chance have each another best order, which those that learned one task have not.
    drawn = np.random.default_rng(4).dirichlet(np.ones(10), size=lineup.answers.shape[:2])
    by_chance = replace(lineup, answers=torch.from_numpy(drawn).float())
    totals = show(by_chance, Terms(), order, suspect, match_labels=True).totals
    places = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    moved = replace(by_chance, answers=by_chance.answers[places])
    again = show(moved, Terms(), order, suspect, match_labels=True).totals
    np.testing.assert_allclose(again, totals[places.numpy()], atol=1e-6)


def test_each_candidate_reads_the_classes_by_its_own_best_order():
    answers = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    straight, turned = answers, answers[:, [1, 2, 0]]
    orders = best_orders(np.stack([straight, turned]), answers)
    assert orders.tolist() == [[0, 1, 2], [1, 2, 0]]
    for known, order in zip((straight, turned), orders, strict=True):
        np.testing.assert_array_equal(answers[:, order], known)


def test_candidates_that_gave_labels_are_matched_by_labels(nets, tuned):
    material = Material(tiny_data("test"), tiny_data("test"))
    bare = whorl.extract(nets[0], data="digits(size=8)", scheme="random", budget=4)
    shut = [LabelsOnly(net) for net in nets]
    fingerprint, secret = line_up(bare, shut[0], shut[1:], material, size=200)
    fingerprint = reasoned(fingerprint, secret)
    assert fingerprint.candidates.answers.ndim == 2
    verdict = hold(fingerprint, Reordered(tuned, SHUFFLED), MATCHED, secret=secret)
    assert (verdict.lineup["statistic"], verdict.lineup["rank"]) == ("agreement", 1)


def test_what_knows_nothing_of_the_task_in_any_order_is_refused(made):
    class Constant(TorchOracle):
        def _stream(self, inputs):
            for positions, answers in super()._stream(inputs):
                yield positions, torch.zeros_like(answers)

    net = tiny_net(seed=5, architecture="mlp(width=32)")
    constant = Constant(net, input_shape=(1, 8, 8), classes=10, access=Access.LOGITS, name="constant")
    with pytest.raises(UsageError, match="no better than chance"):
        hold(made[0], constant, MATCHED, secret=made[1])


def test_foreign_names_say_no_order_and_are_matched(made, tuned):
    ours = replace(made[0], class_names=tuple("abcdefghij"))
    suspect = Reordered(tuned, SHUFFLED)
    suspect.class_names = ("null", "eins", "zwei", "drei", "vier", "sechs", "sieben", "acht", "neun", "a")
    with pytest.raises(UsageError, match=r"has no class 'b'.*Where the words are another language's.*--match-labels"):
        hold(ours, suspect, RULE, secret=made[1])
    verdict = hold(ours, suspect, MATCHED, secret=made[1])
    assert (verdict.decision, verdict.lineup["matched"]) == ("derived", True)


def test_names_of_classes_leave_nothing_to_match(made, tuned):
    names = tuple("abcdefghij")
    named = oracle(803)
    named.class_names = names
    with pytest.raises(UsageError, match="do not match them"):
        hold(replace(made[0], class_names=names), named, MATCHED, secret=made[1])
