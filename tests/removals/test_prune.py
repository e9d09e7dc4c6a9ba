"""Pruned weights and filters are exactly as many as asked for, the smallest ones, and still zero after tuning."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from whorl.errors import UsageError
from whorl.nets.training import accuracy
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.testing import tiny_victim


def apply(expression, victim, data):
    return REMOVALS.make(expression)(victim, data, generator=torch.Generator().manual_seed(0))


def flat(net):
    return torch.cat([m.weight.detach().flatten() for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)])


@pytest.mark.parametrize("amount", ["0", "1/10", "0.3", "5/10", "0.9"])
def test_share_of_weights_is_exact_and_stays(amount, victim, attacker_data):
    removal = REMOVALS.make(f"prune_weights({amount}, epochs=1)")
    pruned = flat(removal(victim, attacker_data, generator=torch.Generator().manual_seed(0)))
    assert int((pruned == 0).sum()) == round(float(removal.amount) * len(pruned))


def test_the_smallest_weights_of_the_whole_net_go(victim, attacker_data):
    gone = flat(apply("prune_weights(0.4)", victim, attacker_data)) == 0
    theirs = flat(victim.module).abs()
    assert theirs[gone].max() <= theirs[~gone].min()


def test_equal_weights_do_not_fall_together(victim, attacker_data):
    """A net quantised to 4 bits has few different sizes; a threshold would take all weights of one size."""
    coarse = apply("quantise(int4)", victim, attacker_data)
    theirs = TorchOracle(coarse, input_shape=(1, 8, 8), classes=10)
    zeros = int((flat(coarse) == 0).sum())
    pruned = flat(apply("prune_weights(0.5, epochs=1, learning_rate=1e-9)", theirs, attacker_data))
    assert zeros < len(pruned) // 2
    assert int((pruned == 0).sum()) == round(len(pruned) / 2)


def test_the_rest_is_tuned(victim, attacker_data, held_out):
    pruned = apply("prune_weights(0.3)", victim, attacker_data)
    kept = flat(pruned) != 0
    assert bool((flat(pruned)[kept] != flat(victim.module)[kept]).all())
    assert accuracy(pruned, held_out) > accuracy(victim.module, held_out) - 0.1


@pytest.mark.parametrize("sixteenths", [0, 4, 8, 12])
def test_whole_filters_go_and_stay(sixteenths, victim, attacker_data):
    net = apply(f"prune_filters({sixteenths}/16)", victim, attacker_data)
    pairs = zip(net.hidden_units(), victim.module.hidden_units(), strict=True)
    for units, theirs in pairs:
        sizes = units.producer.weight.detach().flatten(1).abs().sum(1)
        gone = sizes == 0
        assert int(gone.sum()) == round(sixteenths / 16 * units.count)
        if gone.any():
            before = theirs.producer.weight.detach().flatten(1).abs().sum(1)
            assert before[gone].max() <= before[~gone].min(), "those of the smallest L1 norm"
    # Only what hidden units produce is pruned; a residual stream is read by many.
    named = {id(units.producer) for units in net.hidden_units()}
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and id(module) not in named:
            assert bool((module.weight != 0).all())


@pytest.mark.parametrize("architecture", ["vgg(width=4)", "mobilenet(width=4)", "lenet5", "wrn(depth=10, widen=1)"])
@torch.no_grad()
def test_a_pruned_filter_carries_nothing(architecture, attacker_data):
    """Whatever a reader made of a pruned unit does not matter any more: norms may not turn zero into an offset."""
    inputs = attacker_data.inputs(slice(0, 5))
    for seed in range(5):
        with torch.enable_grad():  # of a trained net, whose offsets are not 0
            pruned = apply("prune_filters(1/2)", tiny_victim(architecture=architecture, seed=seed), attacker_data)
        expected = pruned(inputs)
        if not torch.equal(expected[1:], expected[:-1]):
            break  # a net whose units are all dead, as some processors train one, answers everything alike
    for number, units in enumerate(pruned.hidden_units()):
        gone = units.producer.weight.flatten(1).abs().sum(1) == 0
        assert int(gone.sum()) == units.count // 2
        changed = copy.deepcopy(pruned)
        weight = changed.hidden_units()[number].consumer.weight
        read = weight.view(len(weight), units.count, -1) if weight.ndim == 2 else weight
        read[:, gone] = 100.0
        assert torch.equal(changed(inputs), expected)
        read[:, ~gone] = 100.0
        assert not torch.equal(changed(inputs), expected)


@pytest.mark.parametrize("amount", ["1", "1.5", "-0.1"])
@pytest.mark.parametrize("name", ["prune_weights", "prune_filters"])
def test_shares_that_are_none(name, amount, victim, attacker_data):
    with pytest.raises(UsageError, match="at least 0 and below 1"):
        apply(f"{name}({amount})", victim, attacker_data)


def test_filters_of_a_foreign_net_are_refused(attacker_data):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(UsageError, match="hidden units"):
        apply("prune_filters", TorchOracle(net, input_shape=(1, 8, 8), classes=10), attacker_data)
