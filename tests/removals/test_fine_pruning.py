"""Fine-pruning takes the least active channels, as many as accuracy bears, and keeps them out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from whorl.data import SOURCES
from whorl.errors import UsageError
from whorl.nets.training import Schedule, accuracy, build, fit
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.testing import tiny_victim


def apply(expression, victim, data):
    return REMOVALS.make(expression)(victim, data, generator=torch.Generator().manual_seed(0))


def silent(weight):
    return weight.detach().flatten(1).abs().sum(1) == 0


@torch.no_grad()
def inner(net, inputs):
    """What the last block of a residual net makes between its two convolutions."""
    x = net.stem((inputs - net.mean) / net.std)
    for block in net.blocks[:-1]:
        x = block(x)
    return relu(net.blocks[-1].norm1(net.blocks[-1].conv1(x)))


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.25, 4), (0.5, 8), (0.95, 15)])
def test_the_least_active_channels_go(share, count, victim, attacker_data):
    net = apply(f"fine_prune(share={share}, tolerance=0.99, epochs=0)", victim, attacker_data)
    gone = silent(net.blocks[-1].conv1.weight)
    assert int(gone.sum()) == count
    activity = inner(victim.module, attacker_data.inputs()).mean((0, 2, 3))
    assert set(gone.nonzero().flatten().tolist()) == set(activity.argsort()[:count].tolist())
    assert (inner(net, attacker_data.inputs())[:, gone] == 0).all(), (
        "an offset of the norm must not outlive its channel"
    )
    assert torch.equal(net.blocks[-1].conv2.weight, victim.module.blocks[-1].conv2.weight)


def test_pruning_ends_before_accuracy_falls_by_more_than_the_tolerance(attacker_data):
    victim = tiny_victim(architecture="vgg(width=4)")
    before = accuracy(victim.module, attacker_data)

    def pruned(tolerance):
        net = apply(f"fine_prune(share=0.95, tolerance={tolerance}, epochs=0)", victim, attacker_data)
        return accuracy(net, attacker_data), int(silent(net.convs[-1].weight).sum())

    counts = []
    for tolerance in (0.02, 0.1, 0.3):
        kept, count = pruned(tolerance)
        forced = apply(f"fine_prune(share={(count + 1) / 16}, tolerance=0.99, epochs=0)", victim, attacker_data)
        assert kept >= before - tolerance > accuracy(forced, attacker_data)
        counts.append(count)
    assert counts == sorted(counts)
    assert 0 < counts[0] < counts[-1] < 15


def test_a_step_takes_several_at_once(attacker_data):
    victim = tiny_victim(architecture="vgg(width=4)")
    single, coarse = (
        int(
            silent(apply(f"fine_prune(share=0.9, step={step}, epochs=0)", victim, attacker_data).convs[-1].weight).sum()
        )
        for step in (0.01, 0.3)
    )
    assert coarse % 5 == 0
    assert coarse <= single < coarse + 5


def test_pruned_channels_stay_out_while_the_rest_is_tuned(victim, attacker_data, held_out):
    still, tuned = (
        apply(f"fine_prune(share=0.5, tolerance=0.9, epochs={epochs})", victim, attacker_data) for epochs in (0, 5)
    )
    assert torch.equal(silent(still.blocks[-1].conv1.weight), silent(tuned.blocks[-1].conv1.weight))
    assert not torch.equal(still.head.weight, tuned.head.weight)
    assert accuracy(tuned, held_out) > accuracy(victim.module, held_out) - 0.05


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [("lenet5", "conv2"), ("mlp(width=16, depth=2)", "layers.1"), ("mobilenet(width=4)", "blocks.4.pointwise")],
)
def test_one_layer_is_pruned(architecture, layer, attacker_data):
    """The last convolution that one layer alone reads; the last hidden layer of a perceptron."""
    net = apply("fine_prune(share=0.5, tolerance=0.9, epochs=1)", tiny_victim(architecture=architecture), attacker_data)
    layers = {name: module.weight for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    assert {name for name, weight in layers.items() if silent(weight).any()} == {layer}
    assert int(silent(layers[layer]).sum()) == len(layers[layer]) // 2


def test_each_member_of_an_ensemble_is_pruned(attacker_data):
    generator = torch.Generator().manual_seed(0)
    net = build("ensemble(member='vgg(width=4)', members=2)", (1, 8, 8), 10, generator)
    fit(net, attacker_data, Schedule(epochs=2, learning_rate=0.05, batch=25), generator=generator)
    victim = TorchOracle(net, input_shape=(1, 8, 8), classes=10)
    pruned = apply("fine_prune(share=0.25, tolerance=0.9, epochs=1)", victim, attacker_data)
    assert [int(silent(member.convs[-1].weight).sum()) for member in pruned.members] == [4, 4]


def test_a_model_that_predicts_numbers_keeps_its_determination():
    data, generator = SOURCES.make("diabetes").load("attacker"), torch.Generator().manual_seed(0)
    net = build("mlp_regressor(width=16)", data.input_shape, 1, generator)
    net.standardise(data.inputs())
    fit(net, data, Schedule(epochs=10, learning_rate=0.02, batch=25), generator=generator)
    victim = TorchOracle(net, input_shape=data.input_shape, classes=1, task="regression")

    def count(tolerance):
        net = apply(f"fine_prune(share=0.9, tolerance={tolerance}, epochs=0)", victim, data)
        return int(silent(net.hidden_units()[-1].producer.weight).sum())

    assert count(0.0) < count(0.9) == round(0.9 * 16)


@pytest.mark.parametrize("wrong", ["share=1", "share=-0.1", "tolerance=1", "step=-1"])
def test_shares_that_are_none_are_refused(wrong, victim, attacker_data):
    with pytest.raises(UsageError, match="is a number of at least 0 and below 1"):
        apply(f"fine_prune({wrong})", victim, attacker_data)


def test_nets_without_named_units_or_pictures_to_watch_are_refused(attacker_data):
    foreign = TorchOracle(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), input_shape=(1, 8, 8), classes=10)
    with pytest.raises(UsageError, match="hidden units; Sequential"):
        apply("fine_prune", foreign, attacker_data)
    decoder = build("vae(latent=4)", (1, 1, 4), 64, torch.Generator())
    maker = TorchOracle(decoder, input_shape=(1, 1, 4), classes=64, task="generation", name="the decoder")
    with pytest.raises(UsageError, match="the decoder makes them"):
        apply("fine_prune", maker, attacker_data)
