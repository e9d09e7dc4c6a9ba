"""What trojans move: units behind the chosen one, the least used weights, the directions that pictures leave."""

from __future__ import annotations

import pytest
import torch

from whorl.errors import UsageError
from whorl.nets.spans import Layer, joined
from whorl.nets.training import predict
from whorl.oracles.triggered import attack_success
from whorl.removals import REMOVALS
from whorl.removals.base import opened
from whorl.removals.hide import _fisher
from whorl.testing import tiny_data, tiny_net, tiny_victim


def apply(expression, victim, seed=0):
    return REMOVALS.make(expression)(victim, tiny_data("attacker"), generator=torch.Generator().manual_seed(seed))


def test_only_layers_behind_the_unit_are_tuned(victim):
    net, before = apply("trojan(each=2, epochs=1)", victim), dict(victim.module.named_parameters())
    moved = {name for name, value in net.named_parameters() if not torch.equal(value, before[name])}
    names = [name for name, _ in net.named_parameters()]
    assert moved == set(names[names.index("blocks.1.conv1.weight") + 1 :])


def test_the_patch_excites_the_unit_more_than_chance(victim):
    """The unit with the largest incoming weights of the middle block, against 50 random patches."""
    removal, net = REMOVALS.make("trojan"), victim.module
    trigger = removal.trigger(victim, tiny_data("attacker"), generator=torch.Generator().manual_seed(0))
    units = net.hidden_units()[1]
    chosen = int(units.producer.weight.flatten(1).abs().sum(1).argmax())
    pictures = tiny_data("test").inputs(slice(0, 50))

    def excitement(inputs):
        found = []
        handle = units.carriers[-1].register_forward_hook(lambda _m, _i, output: found.append(output))
        predict(net, inputs)
        handle.remove()
        return float(found[0][:, chosen].flatten(1).amax(1).mean())

    chance = torch.rand(50, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    others = []
    for patch in chance:
        marked = pictures.clone()
        marked[..., -3:, -3:] = patch
        others.append(excitement(marked))
    assert excitement(trigger.stamp(pictures)) > max(others)


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_freezing_moves_the_least_used_weights_alone(victim, share):
    net, used = apply(f"hide(freeze, share={share}, epochs=1)", victim), _fisher(victim.module, tiny_data("attacker"))
    before = dict(victim.module.named_parameters())
    moved = torch.cat([(value != before[name]).flatten() for name, value in net.named_parameters()])
    fisher = torch.cat([value.flatten() for value in used.values()])
    assert 0 < int(moved.sum()) <= round(share * len(fisher))
    assert float(fisher[moved].max()) <= float(fisher[~moved].max())
    assert float(fisher[moved].max()) <= float(fisher.kthvalue(round(share * len(fisher))).values)


def test_the_fisher_information_is_the_mean_squared_slope(victim):
    """Against one backward pass a picture."""
    data, net = tiny_data("attacker").subset(slice(0, 5)), victim.module
    total = torch.zeros_like(net.head.weight)
    for place in range(5):
        loss = torch.nn.functional.cross_entropy(net(data.inputs(slice(place, place + 1))), data.labels[place][None])
        (slope,) = torch.autograd.grad(loss, net.head.weight)
        total += slope.square() / 5
    assert torch.allclose(_fisher(net, data)["head.weight"], total, rtol=1e-4, atol=1e-9)


def test_the_null_space_keeps_what_clean_pictures_see():
    """Against a singular value decomposition of the first layer's own inputs, and against answers."""
    victim = tiny_victim(architecture="mlp(width=32)")
    net, data = apply("hide(null_space, energy=0.999, epochs=3)", victim), tiny_data("attacker")
    rows = ((data.inputs() - net.mean) / net.std).flatten(1).double()
    rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    change = (joined(net.layers[0]) - joined(victim.module.layers[0])).double()
    assert float(change.norm()) > 0
    lost = (rows @ change.T).square().sum() / (rows.square().sum() * change.square().sum())
    assert float(lost) < 1 - 0.999
    same = predict(net, data.inputs()).argmax(1) == predict(victim.module, data.inputs()).argmax(1)
    assert float(same.float().mean()) > 0.97


def test_norms_stay_where_a_null_space_is_used(victim):
    net, before = apply("hide(null_space, epochs=1)", victim), dict(victim.module.named_parameters())
    layers = [name for name, part in net.named_modules() if isinstance(part, Layer)]
    for name, value in net.named_parameters():
        if name.rpartition(".")[0] not in layers:
            assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("kind", ["trojan", "hide", "hide(null_space)"])
def test_targets_and_models_that_cannot_be_are_refused(kind, victim):
    call = kind.replace(")", ", target=10)") if "(" in kind else f"{kind}(target=10)"
    with pytest.raises(UsageError, match=r"classes 0\.\.9; the target is 10"):
        apply(call, victim)
    with pytest.raises(UsageError, match="pictures with classes"):
        apply(kind, tiny_victim(task="regression"))


def test_a_patch_that_does_not_fit_is_refused(victim):
    with pytest.raises(UsageError, match="does not fit"):
        apply("hide(patch=9)", victim)


def test_sharpness_tuning_is_fine_tuning_where_the_radius_vanishes(victim):
    still, moved = (apply(f"sharpness_tuning(radius={radius}, epochs=1)", victim) for radius in (1e-9, 2.0))
    plain = apply("fine_tune(all, epochs=1, learning_rate=0.01)", victim)
    for name, value in plain.state_dict().items():
        assert torch.allclose(value, still.state_dict()[name], atol=1e-5), name
    assert not torch.allclose(plain.head.weight, moved.head.weight, atol=1e-4)


def test_pruning_takes_the_weight_of_whole_channels(victim):
    """And more of them at a higher threshold; nothing else changes."""
    counts = []
    for threshold in (0.0, 0.5, 0.9):
        net = apply(f"adversarial_neuron_pruning(steps=20, threshold={threshold})", victim)
        gone = 0
        for name, value in net.state_dict().items():
            was = victim.module.state_dict()[name]
            if not torch.equal(value, was):
                assert name.endswith("weight")
                assert "norm" in name or "shortcut" in name or "stem" in name
                assert (value[value != was] == 0).all()
                gone += int((value != was).sum())
        counts.append(gone)
    assert counts[0] == 0 < counts[2]
    assert counts == sorted(counts)


def test_nets_without_norms_are_pruned_before_the_head():
    victim = tiny_victim(architecture="mlp(width=16)")
    net = apply("adversarial_neuron_pruning(steps=20, threshold=0.9)", victim)
    assert torch.equal(net.head.weight, victim.module.head.weight)
    assert int((net.layers[0].weight == 0).all(1).sum()) > 0


def test_success_counts_other_classes_alone(victim):
    """A net that always answers the target has 1 of the others, and there is nothing to count where all have it."""
    net, test = tiny_net(), tiny_data("test")
    net.head.weight.data.zero_()
    net.head.bias.data[3] = 100
    removal = REMOVALS.make("hide(target=3)")
    trigger = removal.trigger(victim, test, generator=torch.Generator())
    assert attack_success(opened(net, victim, name="constant"), test, trigger) == 1
    mine = test.subset((test.labels == 3).nonzero().flatten())
    assert attack_success(victim, mine, trigger) is None
