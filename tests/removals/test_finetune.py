"""Fine-tuning and retraining move what they say and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whorl.errors import AccessRefused, UsageError
from whorl.nets.training import accuracy
from whorl.oracles.sklearn import SklearnOracle
from whorl.oracles.torch import TorchOracle
from whorl.removals import REMOVALS
from whorl.testing.unchanged import same_bytes

HEAD = {"head.weight", "head.bias"}


def apply(expression, victim, data, seed=0):
    return REMOVALS.make(expression)(victim, data, generator=torch.Generator().manual_seed(seed))


def moved(net, victim):
    theirs = victim.module.state_dict()
    return {key for key, tensor in net.state_dict().items() if not same_bytes(tensor, theirs[key])}


@pytest.mark.parametrize("name", ["fine_tune", "retrain"])
def test_last_layer_alone_moves(name, victim, attacker_data):
    """Norms keep their statistics: a thief who trains the head alone does not run the body in training mode."""
    assert moved(apply(f"{name}(last)", victim, attacker_data), victim) == HEAD


@pytest.mark.parametrize("name", ["fine_tune", "retrain"])
def test_all_layers_move(name, victim, attacker_data):
    still = victim.module.state_dict().keys() - moved(apply(f"{name}(all)", victim, attacker_data), victim)
    assert still == {"mean", "std"}


def test_fine_tuning_keeps_the_model(victim, attacker_data, held_out):
    for layers in ("last", "all"):
        net = apply(f"fine_tune({layers}, epochs=2, learning_rate=0.005)", victim, attacker_data)
        agreement = float(
            (
                TorchOracle(net, input_shape=(1, 8, 8), classes=10).labels(held_out.inputs())
                == victim.labels(held_out.inputs())
            )
            .float()
            .mean()
        )
        assert agreement > 0.8
        assert accuracy(net, held_out) > accuracy(victim.module, held_out) - 0.05


def test_retraining_draws_the_head_anew(victim, attacker_data):
    """With a rate of nearly nothing the head is that of the generator, far from the victim's."""
    nets = [apply("retrain(last, epochs=1, learning_rate=1e-12)", victim, attacker_data, seed) for seed in (0, 0, 1)]
    first, again, other = (net.head.weight.detach() for net in nets)
    assert torch.equal(first, again)
    theirs = victim.module.head.weight.detach()
    for one, two in ((first, theirs), (first, other)):
        assert abs(float(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1])) < 0.5
    assert bool((nets[0].head.bias.abs() < 1e-6).all())


def test_retrained_head_recovers(victim, attacker_data, held_out):
    untrained = apply("retrain(last, epochs=1, learning_rate=1e-12)", victim, attacker_data)
    net = apply("retrain(last, epochs=10, learning_rate=0.05)", victim, attacker_data)
    assert accuracy(net, held_out) > accuracy(untrained, held_out) + 0.3
    assert accuracy(net, held_out) > 0.7


def test_more_epochs_and_larger_rates_move_further(victim, attacker_data):
    def distance(expression):
        net = apply(expression, victim, attacker_data)
        return float((net.head.weight - victim.module.head.weight).detach().norm())

    usual = distance("fine_tune(last, epochs=2, learning_rate=0.01)")
    assert distance("fine_tune(last, epochs=2, learning_rate=0.001)") < usual
    assert usual < distance("fine_tune(last, epochs=6, learning_rate=0.01)")


def test_unknown_layers_are_refused(victim, attacker_data):
    for name in ("fine_tune", "retrain"):
        with pytest.raises(UsageError, match="last or all"):
            apply(f"{name}(first)", victim, attacker_data)


def test_last_layer_of_a_foreign_net(attacker_data):
    """A net that is not of the catalog has its last linear layer for a head."""
    torch_state = torch.random.get_rng_state()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    torch.random.set_rng_state(torch_state)
    victim = TorchOracle(net, input_shape=(1, 8, 8), classes=10)
    assert moved(apply("fine_tune(last)", victim, attacker_data), victim) == {"3.weight", "3.bias"}
    headless = TorchOracle(nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten()), input_shape=(1, 8, 8), classes=10)
    with pytest.raises(UsageError, match="no linear layer"):
        apply("fine_tune(last)", headless, attacker_data)


def test_weights_of_another_kind_are_refused(attacker_data):
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_depth=3).fit(attacker_data.inputs().flatten(1).numpy(), attacker_data.labels)
    victim = SklearnOracle(tree, input_shape=(1, 8, 8), classes=10)
    with pytest.raises(AccessRefused, match="WEIGHTS"):
        apply("fine_tune", victim, attacker_data)
    assert victim.queries_spent == 0
