"""RemovalNet moves features and probabilities as far as labels allow, and keeps the labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.nets.training import Schedule, build, fit, predict
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.removals.removal_net import far_features, mix
from whorl.types import Access


def apply(expression, victim, data):
    return REMOVALS.make(expression)(victim, data, generator=torch.Generator().manual_seed(0))


def test_rows_are_mixed_with_the_farthest_as_much_as_labels_allow():
    rows = torch.randn(30, 6, generator=torch.Generator().manual_seed(0)).mul(2).softmax(1)
    labels = rows.argmax(1)
    mixed = mix(rows, labels)
    for one, label, found in zip(rows, labels, mixed, strict=True):
        farthest = max(rows, key=lambda other, row=one: float((other - row).norm()))
        shares = [k / 20 for k in range(4, 21)]
        blends = [share * one + (1 - share) * farthest for share in shares]
        torch.testing.assert_close(found, next(blend for blend in blends if blend.argmax() == label))
    assert torch.equal(mixed.argmax(1), labels)
    assert float((mixed - rows).norm(dim=1).min()) > 0


def test_a_row_that_no_blend_leaves_its_label_stays():
    rows = torch.tensor([[0.5, 0.4, 0.1], [0.1, 0.9, 0.0], [0.9, 0.1, 0.0]])
    assert torch.equal(mix(rows, torch.tensor([2, 1, 0]))[0], rows[0])


def test_features_go_far_and_keep_their_labels():
    generator = torch.Generator().manual_seed(0)
    head = nn.utils.skip_init(nn.Linear, 16, 5)
    nn.init.normal_(head.weight, generator=generator)
    nn.init.zeros_(head.bias)
    features = torch.randn(40, 16, generator=generator).relu()
    labels = head(features).argmax(1)
    reached = [
        far_features(head, features, labels, steps=steps, rate=0.1, generator=torch.Generator().manual_seed(1))
        for steps in (5, 20, 60)
    ]
    apart = [float((each - features).norm(dim=1).mean()) for each in reached]
    assert apart == sorted(apart)
    assert apart[-1] > float(features.norm(dim=1).mean())
    for each in reached:
        assert torch.equal(head(each).argmax(1), labels)
        assert not each.requires_grad
        assert bool((each >= 0).all()), "a ReLU stands before the head"
    moved = [int(((each - features).norm(dim=1) > 0).sum()) for each in reached]
    assert moved[-1] == 40


def test_features_of_both_signs_are_not_cut():
    head = nn.utils.skip_init(nn.Linear, 4, 2)
    nn.init.eye_(head.weight)
    nn.init.zeros_(head.bias)
    features = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    labels = head(features).argmax(1)
    far = far_features(head, features, labels, steps=40, rate=0.1, generator=torch.Generator().manual_seed(0))
    assert bool((far < 0).any())


@torch.no_grad()
def apart(net, victim, data):
    """How far features went, in units of their own size."""
    theirs = victim.module.features(data.inputs())
    return float((net.features(data.inputs()) - theirs).norm() / theirs.norm())


def test_features_go_and_labels_stay(victim, attacker_data, held_out):
    """Against fine-tuning of as many epochs at the same rate: 60 iterations are 15 epochs of 4 steps."""
    removed = apply("removal_net(iterations=60, beta=5)", victim, attacker_data)
    tuned = apply("fine_tune(all, epochs=15, learning_rate=0.05)", victim, attacker_data)
    assert apart(removed, victim, held_out) > 1.5 * apart(tuned, victim, held_out)
    agreement = (predict(removed, held_out.inputs()).argmax(1) == victim.labels(held_out.inputs())).float().mean()
    assert float(agreement) > 0.75


def test_the_labels_are_the_victims_and_cost_no_query(victim, attacker_data):
    blind = replace(attacker_data, labels=torch.zeros_like(attacker_data.labels))
    one, other = (apply("removal_net(iterations=4)", victim, data) for data in (attacker_data, blind))
    assert torch.equal(one.head.weight, other.head.weight)
    assert victim.queries_spent == 0, "the thief asks his own copy"


@pytest.mark.parametrize("setting", ["alpha", "beta", "temperature", "inner_steps", "inner_rate"])
def test_every_setting_counts(setting, victim, attacker_data):
    few = attacker_data.subset(slice(0, 100))
    plain, other = (apply(f"removal_net(iterations=3{each})", victim, few) for each in ("", f", {setting}=1"))
    assert not torch.equal(plain.head.weight, other.head.weight)


def test_each_member_of_an_ensemble_leaves_its_own_features(attacker_data):
    generator = torch.Generator().manual_seed(0)
    net = build("ensemble(member='mlp(width=16)', members=2)", (1, 8, 8), 10, generator)
    net.standardise(attacker_data.inputs())
    fit(net, attacker_data, Schedule(epochs=20, learning_rate=0.05, batch=25), generator=generator)
    victim = TorchOracle(net, input_shape=(1, 8, 8), classes=10)
    removed = apply("removal_net(iterations=100, beta=5, learning_rate=0.02)", victim, attacker_data)
    inputs = attacker_data.inputs()
    with torch.no_grad():
        for ours, theirs in zip(removed.members, victim.module.members, strict=True):
            assert (
                float((ours.features(inputs) - theirs.features(inputs)).norm() / theirs.features(inputs).norm()) > 0.1
            )
    assert float((predict(removed, inputs).argmax(1) == victim.labels(inputs)).float().mean()) > 0.8


@pytest.mark.parametrize("wrong", ["alpha=1.1", "alpha=-0.1", "beta=-1", "temperature=0"])
def test_settings_out_of_range_are_refused(wrong, victim, attacker_data):
    with pytest.raises(UsageError, match=r"is a number (from 0 to 1|of at least 0|above 0), not"):
        apply(f"removal_net({wrong})", victim, attacker_data)


def test_models_without_labels_are_refused():
    data = SOURCES.make("diabetes").load("attacker")
    net = build("mlp_regressor(width=8)", data.input_shape, 1, torch.Generator())
    victim = TorchOracle(
        net, input_shape=data.input_shape, classes=1, task="regression", name="ours", access=Access.WEIGHTS
    )
    with pytest.raises(UsageError, match="ours does regression"):
        apply("removal_net", victim, data)
